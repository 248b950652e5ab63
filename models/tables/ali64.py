"""ALI's networks for 64x64 images, CelebA and Tiny ImageNet (Dumoulin et al. 2017, appendix A; the code).

Conditional CelebA (section 4.4 of the paper) is CelebA's table for the conditional model: 256 numbers, a
linear map of the 40 attributes, enter the encoder before its last layer, the decoder next to z and D next to
the two towers' outputs.
"""

from typing import Literal

from alibench.models.layers import Row, Style
from alibench.models.networks import FILLED, Family

BN, NO = True, False


def celeba(first_bn: Literal["code", "paper"] = "code", dropout: Literal["code", "paper"] = "code") -> Family:
    """CelebA 64x64 (table 5). Paper and code disagree on Dx, hence two options.

    first_bn  The paper's first layer of Dx has BN, the code's a tied bias instead ("code").
    dropout   The paper has none in Dx, the code 0.2 on every layer ("code").

    The paper prints 512 as Dz's input; z has 256 numbers.
    """
    drop = {"code": 0.2, "paper": 0.0}[dropout]
    return Family(
        shape=(3, 64, 64),
        std=0.01,
        style=Style(slope=0.02),
        embedding=256,
        # 64x64x3 -> 63, 29, 13, 4, 1, 1
        encoder=(
            Row("conv", 2, 1, 64, BN, 0.0, "leaky"),
            Row("conv", 7, 2, 128, BN, 0.0, "leaky"),
            Row("conv", 5, 2, 256, BN, 0.0, "leaky"),
            Row("conv", 7, 2, 256, BN, 0.0, "leaky"),
            Row("conv", 4, 1, 512, BN, 0.0, "leaky"),
            Row("conv", 1, 1, FILLED, NO, 0.0, "linear"),
        ),
        # 1x1 -> 4, 13, 29, 63, 64, 64
        decoder=(
            Row("convT", 4, 1, 512, BN, 0.0, "leaky"),
            Row("convT", 7, 2, 256, BN, 0.0, "leaky"),
            Row("convT", 5, 2, 256, BN, 0.0, "leaky"),
            Row("convT", 7, 2, 128, BN, 0.0, "leaky"),
            Row("convT", 2, 1, 64, BN, 0.0, "leaky"),
            Row("conv", 1, 1, FILLED, NO, 0.0, "linear", "untied"),  # then the sigmoid
        ),
        dx=(
            Row("conv", 2, 1, 64, first_bn == "paper", drop, "leaky"),
            Row("conv", 7, 2, 128, BN, drop, "leaky"),
            Row("conv", 5, 2, 256, BN, drop, "leaky"),
            Row("conv", 7, 2, 256, BN, drop, "leaky"),
            Row("conv", 4, 1, 512, BN, drop, "leaky"),
        ),
        dz=(
            Row("conv", 1, 1, 1024, NO, 0.2, "leaky", "none"),
            Row("conv", 1, 1, 1024, NO, 0.2, "leaky", "none"),
        ),
        dxz=(
            Row("conv", 1, 1, 2048, NO, 0.2, "leaky"),
            Row("conv", 1, 1, 2048, NO, 0.2, "leaky"),
            Row("conv", 1, 1, 1, NO, 0.2, "linear"),
        ),
    )


def tiny_imagenet(dz_bias: Literal["code", "none"] = "code") -> Family:
    """ImageNet at 64x64 (table 6), which the paper calls Tiny ImageNet.

    dz_bias  The paper is silent. The code gives Dz biases here ("code") and in no other model ("none").
    """
    bias: Literal["tied", "none"] = "tied" if dz_bias == "code" else "none"
    return Family(
        shape=(3, 64, 64),
        std=0.01,
        style=Style(slope=0.01),
        # 64x64x3 -> 31, 28, 13, 10, 4, 1, 1, 1, 1
        encoder=(
            Row("conv", 4, 2, 64, BN, 0.0, "leaky"),
            Row("conv", 4, 1, 64, BN, 0.0, "leaky"),
            Row("conv", 4, 2, 128, BN, 0.0, "leaky"),
            Row("conv", 4, 1, 128, BN, 0.0, "leaky"),
            Row("conv", 4, 2, 256, BN, 0.0, "leaky"),
            Row("conv", 4, 1, 256, BN, 0.0, "leaky"),
            Row("conv", 1, 1, 2048, BN, 0.0, "leaky"),
            Row("conv", 1, 1, 2048, BN, 0.0, "leaky"),
            Row("conv", 1, 1, FILLED, NO, 0.0, "linear"),
        ),
        # 1x1 -> 1, 1, 4, 10, 13, 28, 31, 64, 64
        decoder=(
            Row("conv", 1, 1, 2048, BN, 0.0, "leaky"),
            Row("conv", 1, 1, 256, BN, 0.0, "leaky"),
            Row("convT", 4, 1, 256, BN, 0.0, "leaky"),
            Row("convT", 4, 2, 128, BN, 0.0, "leaky"),
            Row("convT", 4, 1, 128, BN, 0.0, "leaky"),
            Row("convT", 4, 2, 64, BN, 0.0, "leaky"),
            Row("convT", 4, 1, 64, BN, 0.0, "leaky"),
            Row("convT", 4, 2, 64, BN, 0.0, "leaky"),
            Row("conv", 1, 1, FILLED, NO, 0.0, "linear", "untied"),  # then the sigmoid
        ),
        dx=(
            Row("conv", 4, 2, 64, NO, 0.2, "leaky"),
            Row("conv", 4, 1, 64, BN, 0.2, "leaky"),
            Row("conv", 4, 2, 128, BN, 0.2, "leaky"),
            Row("conv", 4, 1, 128, BN, 0.2, "leaky"),
            Row("conv", 4, 2, 256, BN, 0.2, "leaky"),
            Row("conv", 4, 1, 256, BN, 0.2, "leaky"),
        ),
        dz=(
            Row("conv", 1, 1, 2048, NO, 0.2, "leaky", bias),
            Row("conv", 1, 1, 2048, NO, 0.2, "leaky", bias),
        ),
        dxz=(
            Row("conv", 1, 1, 4096, NO, 0.2, "leaky"),
            Row("conv", 1, 1, 4096, NO, 0.2, "leaky"),
            Row("conv", 1, 1, 1, NO, 0.2, "linear"),
        ),
    )
