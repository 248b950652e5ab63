"""The one switch for CUDA's fp32: exact products, or factors rounded to TF32 (10 bits of mantissa).

torch by itself rounds in convolutions and not in matrix products. Here nothing is rounded unless a recipe
asks for it, and never in the evaluation, so that a number does not depend on its caller.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow TF32 in CUDA's matrix products and convolutions meanwhile, or forbid it; also a decorator."""
    before = _is_allowed()
    _allow(allowed, allowed)
    try:
        yield
    finally:
        _allow(*before)


def _is_allowed() -> tuple[bool, bool]:
    """Return whether matrix products and convolutions are rounded now."""
    # Read from torch's newer switches, set by the older pair: with half of the newer ones set, reading the
    # older ones raises, and torch.compile and cudnn.flags read them.
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn.conv)  # type: ignore[attr-defined]
    products, convolutions = (backend.fp32_precision == "tf32" for backend in backends)
    return products, convolutions


def _allow(products: bool, convolutions: bool) -> None:
    # torch 2.9 warns whoever sets the older pair
    with warnings.catch_warnings(action="ignore", category=UserWarning):
        torch.set_float32_matmul_precision("high" if products else "highest")
        torch.backends.cudnn.allow_tf32 = convolutions
