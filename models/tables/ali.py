"""ALI's networks for CIFAR-10, SVHN and the 25 Gaussians (Dumoulin et al. 2017, appendix A; released code).

Weights N(0, 0.01^2) for images. The decoder ends in an untied bias that starts at the log-odds of the mean
image, which is in the code alone.
"""

from typing import Literal

from alibench.models.layers import Row, Style
from alibench.models.networks import FILLED, Family

BN, NO = True, False

# 32x32x3 -> 28, 13, 10, 4, 1, 1, 1
ENCODER = (
    Row("conv", 5, 1, 32, BN, 0.0, "leaky"),
    Row("conv", 4, 2, 64, BN, 0.0, "leaky"),
    Row("conv", 4, 1, 128, BN, 0.0, "leaky"),
    Row("conv", 4, 2, 256, BN, 0.0, "leaky"),
    Row("conv", 4, 1, 512, BN, 0.0, "leaky"),
    Row("conv", 1, 1, 512, BN, 0.0, "leaky"),
    Row("conv", 1, 1, FILLED, NO, 0.0, "linear"),
)
# 1x1 -> 4, 10, 13, 28, 32, 32, 32; in the code the first 1x1 is a transposed convolution, which is the same
DECODER = (
    Row("convT", 4, 1, 256, BN, 0.0, "leaky"),
    Row("convT", 4, 2, 128, BN, 0.0, "leaky"),
    Row("convT", 4, 1, 64, BN, 0.0, "leaky"),
    Row("convT", 4, 2, 32, BN, 0.0, "leaky"),
    Row("convT", 5, 1, 32, BN, 0.0, "leaky"),
    Row("conv", 1, 1, 32, BN, 0.0, "leaky"),
    Row("conv", 1, 1, FILLED, NO, 0.0, "linear", "untied"),  # then the sigmoid
)


def cifar10(
    widths: Literal["code", "paper"] = "code",
    dropout: Literal["paper", "code"] = "paper",
    dx_bias: Literal["tied", "untied"] = "tied",
) -> Family:
    """CIFAR-10 (table 3): maxout of two pieces and no BN in D. Options: paper and code differ on D.

    widths   The paper's Dxz takes 1,024 maps, so that its map counts are those after maxout ("paper").
             The code builds the listed counts before maxout, which halves them ("code").
    dropout  The paper has 0.5 on layers 2 to 5 of Dx, evidently the intent and here the default.
             In the code an index that strides by 3 over a list of period 2 puts it on layers 2 and 5
             and inside layer 3, before its maxout ("code").
    dx_bias  The paper is silent. The code took its library's default of its day, one bias a map and
             pixel ("untied").
    """
    w = {"code": 1, "paper": 2}[widths]
    # dropout on the input of Dx's third and fourth layer, and inside the third
    third, fourth, inside = {"paper": (0.5, 0.5, 0.0), "code": (0.0, 0.0, 0.5)}[dropout]
    return Family(
        shape=(3, 32, 32),
        std=0.01,
        style=Style(slope=0.1, pieces=2),
        encoder=ENCODER,
        decoder=DECODER,
        # 32x32x3 -> 28, 13, 10, 4, 1
        dx=(
            Row("conv", 5, 1, 32 * w, NO, 0.2, "maxout", dx_bias),
            Row("conv", 4, 2, 64 * w, NO, 0.5, "maxout", dx_bias),
            Row("conv", 4, 1, 128 * w, NO, third, "maxout", dx_bias, drop_inside=inside),
            Row("conv", 4, 2, 256 * w, NO, fourth, "maxout", dx_bias),
            Row("conv", 4, 1, 512 * w, NO, 0.5, "maxout", dx_bias),
        ),
        dz=(
            Row("conv", 1, 1, 512 * w, NO, 0.2, "maxout", "none"),
            Row("conv", 1, 1, 512 * w, NO, 0.5, "maxout", "none"),
        ),
        dxz=(
            Row("conv", 1, 1, 1024 * w, NO, 0.5, "maxout"),
            Row("conv", 1, 1, 1024 * w, NO, 0.5, "maxout"),
            Row("conv", 1, 1, 1, NO, 0.5, "linear"),
        ),
    )


def svhn() -> Family:
    """SVHN (table 4): CIFAR-10's encoder and decoder; paper and code agree on every layer."""
    return Family(
        shape=(3, 32, 32),
        std=0.01,
        style=Style(slope=0.01),
        encoder=ENCODER,
        decoder=DECODER,
        # 32x32x3 -> 28, 13, 10, 4, 1
        dx=(
            Row("conv", 5, 1, 32, NO, 0.2, "leaky"),
            Row("conv", 4, 2, 64, BN, 0.2, "leaky"),
            Row("conv", 4, 1, 128, BN, 0.2, "leaky"),
            Row("conv", 4, 2, 256, BN, 0.2, "leaky"),
            Row("conv", 4, 1, 512, BN, 0.2, "leaky"),
        ),
        dz=(
            Row("conv", 1, 1, 512, NO, 0.2, "leaky", "none"),
            Row("conv", 1, 1, 512, NO, 0.2, "leaky", "none"),
        ),
        dxz=(
            Row("conv", 1, 1, 1024, NO, 0.2, "leaky"),
            Row("conv", 1, 1, 1024, NO, 0.2, "leaky"),
            Row("conv", 1, 1, 1, NO, 0.2, "linear"),
        ),
    )


def toy() -> Family:
    """The 25 Gaussians (section 4.5); the paper gives no network, this is the code's.

    The encoder draws z by two numbers next to x. Maxout of five pieces in D. Dropout is off, as in the code.
    """
    hidden = Row("dense", 1, 1, 400, BN, 0.0, "relu")
    return Family(
        shape=(2,),
        std=0.02,
        style=Style(pieces=5),
        # the code's networks see the points as they are
        scaled=False,
        encoder_noise=2,
        encoder=(*(hidden,) * 2, Row("dense", 1, 1, FILLED, NO, 0.0, "linear")),
        decoder=(*(hidden,) * 4, Row("dense", 1, 1, FILLED, NO, 0.0, "linear")),
        dx=(),
        dz=(),
        dxz=(*(Row("dense", 1, 1, 1000, NO, 0.0, "maxout"),) * 3, Row("dense", 1, 1, 1, NO, 0.0, "linear")),
    )
