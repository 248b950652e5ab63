"""Networks of no paper, for datasets that a laptop learns in minutes."""

from alibench.models.layers import Row, Style
from alibench.models.networks import FILLED, Family

BN, NO = True, False


def digits() -> Family:
    """Small images of any size: ALI's pattern in dense layers, as BiGAN's permutation-invariant MNIST has.

    BN and leaky ReLU in encoder and decoder; dropout and no BN in D. On 8x8 images dense layers learn more a
    second than convolutions do.
    """
    hidden = Row("dense", 1, 1, 128, BN, 0.0, "leaky")
    return Family(
        shape=None,
        std=None,
        style=Style(slope=0.1),
        # D sees images in [-1, 1]
        centre=0.5,
        gain=2.0,
        embedding=16,
        encoder=(hidden, hidden, Row("dense", 1, 1, FILLED)),
        decoder=(hidden, hidden, Row("dense", 1, 1, FILLED)),
        # no towers: x and z enter the joint one side by side
        dx=(),
        dz=(),
        dxz=(
            Row("dense", 1, 1, 256, NO, 0.0, "leaky"),
            Row("dense", 1, 1, 256, NO, 0.4, "leaky"),
            Row("dense", 1, 1, 1, NO, 0.4),
        ),
    )


def plane() -> Family:
    """Points in the plane; the networks of ALI's own toy are `ali.toy`."""
    hidden = Row("dense", 1, 1, 128, NO, 0.0, "leaky")
    wide = Row("dense", 1, 1, 192, NO, 0.0, "leaky")
    return Family(
        shape=(2,),
        std=None,
        style=Style(slope=0.2),
        gain=3.0,
        embedding=16,
        encoder=(hidden, hidden, hidden, Row("dense", 1, 1, FILLED)),
        decoder=(hidden, hidden, hidden, Row("dense", 1, 1, FILLED)),
        dx=(),
        dz=(),
        dxz=(wide, wide, Row("dense", 1, 1, 1)),
    )
