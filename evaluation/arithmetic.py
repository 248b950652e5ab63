"""The one switch for what CUDA makes of fp32: exact products, or factors rounded to TF32 (10 bits of
mantissa).

torch by itself rounds in convolutions and not in matrix products. Here nothing is rounded unless a recipe
asks for it, and never in the evaluation, so that a number does not depend on who called.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Round the factors of CUDA's matrix products and convolutions to TF32 meanwhile, or do not; also a
    decorator.

    It is set through torch's older pair of switches: with half of the newer ones set, reading the older ones
    raises, which torch.compile and cudnn.flags do. Reading the newer ones never raises.
    """
    before = _is_allowed()
    _allow(allowed, allowed)
    try:
        yield
    finally:
        _allow(*before)


def _is_allowed() -> tuple[bool, bool]:
    """Return whether products and convolutions are rounded now."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    products, convolutions = (backend.fp32_precision == "tf32" for backend in backends)
    return products, convolutions


def _allow(products: bool, convolutions: bool) -> None:
    torch.set_float32_matmul_precision("high" if products else "highest")
    torch.backends.cudnn.allow_tf32 = convolutions
