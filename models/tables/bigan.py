"""BiGAN's networks (Donahue et al. 2017, sections 4.1 and 4.2, and the released code).

No biases anywhere. z enters D and the decoder at every layer between first and last, by a linear map of its
own that is added before batch norm. Real and generated pairs pass D in batches of their own, each with its
own statistics: the opposite of ALI. Weights N(0, 0.02^2); D's last layer starts at zero, hence at a loss of
log 2 for each term. Without biases a D of x alone gives black pictures a logit of 0 whatever its weights.
"""

from alibench.models.layers import Row, Style
from alibench.models.networks import FILLED, Family

BN, NO = True, False


def mnist() -> Family:
    """Permutation-invariant MNIST: three dense layers each; BN without scale and shift."""
    return Family(
        shape=(1, 28, 28),
        std=0.02,
        style=Style(slope=0.2, epsilon=1e-8, affine=False),
        separate=True,
        encoder=(
            Row("dense", 1, 1, 1024, NO, 0.0, "leaky", "none"),
            Row("dense", 1, 1, 1024, BN, 0.0, "leaky"),
            Row("dense", 1, 1, FILLED, NO, 0.0, "linear", "none"),
        ),
        decoder=(
            Row("dense", 1, 1, 1024, BN, 0.0, "relu"),
            Row("dense", 1, 1, 1024, BN, 0.0, "relu", inject=True),
            Row("dense", 1, 1, FILLED, NO, 0.0, "linear", "none"),  # then the sigmoid
        ),
        # no towers: x enters the joint one, z is injected
        dx=(),
        dz=(),
        dxz=(
            Row("dense", 1, 1, 1024, NO, 0.0, "leaky", "none"),
            Row("dense", 1, 1, 1024, BN, 0.0, "leaky", inject=True),
            Row("dense", 1, 1, 1, NO, 0.0, "linear", "none", std=0.0),
        ),
    )


def imagenet() -> Family:
    """ImageNet at 64x64, in [-1, 1]: AlexNet's convolutions as encoder, strided ones in decoder and D.

    What the paper leaves to AlexNet is taken from it: kernels, groups and padding, overlapping max pooling
    after the first two convolutions. A 64x64 image is too small for AlexNet's third pooling.
    """
    return Family(
        shape=(3, 64, 64),
        std=0.02,
        style=Style(slope=0.2, epsilon=1e-8),
        separate=True,
        # images in [-1, 1]
        centre=0.5,
        gain=2.0,
        encoder_centre=0.5,
        encoder_gain=2.0,
        # 64x64x3 -> 14, 6, 6, 2, 2, 2, 2
        encoder=(
            Row("conv", 11, 4, 96, NO, 0.0, "leaky", "none"),
            Row("pool", 3, 2, 96),
            Row("conv", 5, 1, 256, BN, 0.0, "leaky", padding=2, groups=2),
            Row("pool", 3, 2, 256),
            Row("conv", 3, 1, 384, BN, 0.0, "leaky", padding=1),
            Row("conv", 3, 1, 384, BN, 0.0, "leaky", padding=1, groups=2),
            Row("conv", 3, 1, 256, BN, 0.0, "leaky", padding=1, groups=2),
            Row("dense", 1, 1, FILLED, NO, 0.0, "linear", "none"),
        ),
        # 1x1 -> 4, 8, 16, 32, 64
        decoder=(
            Row("convT", 4, 1, 512, BN, 0.0, "relu"),
            Row("convT", 5, 2, 256, BN, 0.0, "relu", inject=True, padding=2),
            Row("convT", 5, 2, 128, BN, 0.0, "relu", inject=True, padding=2),
            Row("convT", 5, 2, 64, BN, 0.0, "relu", inject=True, padding=2),
            Row("convT", 5, 2, FILLED, NO, 0.0, "linear", "none", padding=2),  # then the sigmoid
        ),
        # 64x64x3 -> 32, 16, 8, 4
        dx=(
            Row("conv", 5, 2, 64, NO, 0.0, "leaky", "none", padding=2),
            Row("conv", 5, 2, 128, BN, 0.0, "leaky", inject=True, padding=2),
            Row("conv", 5, 2, 256, BN, 0.0, "leaky", inject=True, padding=2),
            Row("conv", 5, 2, 512, BN, 0.0, "leaky", inject=True, padding=2),
        ),
        dz=(),
        dxz=(Row("dense", 1, 1, 1, NO, 0.0, "linear", "none", std=0.0),),
    )
