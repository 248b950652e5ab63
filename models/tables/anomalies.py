"""Networks for tables of numbers, as EGBAD's and ALAD's code has them (Zenati et al. 2018).

Leaky ReLU of slope 0.1. D's code normalises x's tower on ALAD's tables; here dropout alone, as EGBAD's.
"""

from alibench.models.layers import Row, Style
from alibench.models.networks import FILLED, Family

POINTS = (0,)  # the shape of points of any number of coordinates


def _row(maps: int, drop: float = 0.0) -> Row:
    return Row("dense", 1, 1, maps, False, drop, "leaky")


def _family(encoder: tuple[int, ...], decoder: tuple[int, ...], joint: int) -> Family:
    last = Row("dense", 1, 1, FILLED)
    return Family(
        shape=POINTS,
        std=None,
        style=Style(slope=0.1),
        scaled=False,
        encoder=(*map(_row, encoder), last),
        decoder=(*map(_row, decoder), last),
        dx=(_row(128),),
        dz=(_row(128),),
        dxz=(_row(joint, 0.2), Row("dense", 1, 1, 1, False, 0.2)),
    )


def kdd99() -> Family:
    """E 64, then the code; G 64, 128; D 128 of x, 128 of z, 128 of both (EGBAD)."""
    return _family((64,), (64, 128), 128)


def arrhythmia() -> Family:
    """E 256, 128, then the code; G 128, 256; D 128 of x, 128 of z, 256 of both (ALAD)."""
    return _family((256, 128), (128, 256), 256)
