"""Networks of no paper, for datasets that a laptop learns in minutes."""

from collections.abc import Sequence
from dataclasses import replace

from alibench.models.layers import Row, Style
from alibench.models.networks import FILLED, Family
from alibench.models.tables import ali

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


def images28() -> Family:
    """Grey images of 28x28 (MNIST, Fashion-MNIST): ALI's pattern, towers included, in few convolutions.

    BN and leaky ReLU in encoder and decoder; dropout and no BN in D, which sees images in [-1, 1].
    """
    return Family(
        shape=(1, 28, 28),
        std=None,
        style=Style(slope=0.2),
        centre=0.5,
        gain=2.0,
        # 28x28 -> 13, 5, 1, 1
        encoder=(
            Row("conv", 4, 2, 16, BN, 0.0, "leaky"),
            Row("conv", 5, 2, 32, BN, 0.0, "leaky"),
            Row("conv", 5, 1, 128, BN, 0.0, "leaky"),
            Row("conv", 1, 1, FILLED),
        ),
        # 1x1 -> 5, 13, 28
        decoder=(
            Row("convT", 5, 1, 64, BN, 0.0, "leaky"),
            Row("convT", 5, 2, 32, BN, 0.0, "leaky"),
            Row("convT", 4, 2, FILLED, NO, 0.0, "linear", "untied"),  # then the sigmoid
        ),
        # 28x28 -> 13, 5, 1
        dx=(
            Row("conv", 4, 2, 16, NO, 0.0, "leaky"),
            Row("conv", 5, 2, 32, NO, 0.0, "leaky"),
            Row("conv", 5, 1, 128, NO, 0.4, "leaky"),
        ),
        dz=(Row("conv", 1, 1, 128, NO, 0.0, "leaky"),),
        dxz=(
            Row("conv", 1, 1, 256, NO, 0.4, "leaky"),
            Row("conv", 1, 1, 1, NO, 0.4),
        ),
    )


def stacked28() -> Family:
    """Stacks of three grey images of 28x28 as channels (stacked MNIST): `images28` with three."""
    return replace(images28(), shape=(3, 28, 28))


def cifar10_quarter() -> Family:
    """ALI's CIFAR-10 (table 3 of the paper) with a quarter of the maps in every hidden layer."""

    def narrowed(rows: Sequence[Row]) -> tuple[Row, ...]:
        return tuple(row if row.maps in (FILLED, 1) else replace(row, maps=row.maps // 4) for row in rows)

    whole = ali.cifar10()
    return replace(
        whole,
        encoder=narrowed(whole.encoder),
        decoder=narrowed(whole.decoder),
        dx=narrowed(whole.dx),
        dz=narrowed(whole.dz),
        dxz=narrowed(whole.dxz),
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
