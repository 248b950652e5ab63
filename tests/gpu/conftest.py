"""Where these tests run: on CUDA, or in small on a CPU where the environment says DEVICE=cpu."""

import os
from collections.abc import Iterator
from typing import Literal

import pytest
import torch

from tests.gpu.cases import DEVICE, SMALL


@pytest.fixture(scope="session")
def device() -> torch.device:
    """Return the device under test."""
    return DEVICE


@pytest.fixture(scope="session", autouse=True)
def threads() -> Iterator[None]:
    """Give the CPU's side of a comparison as many threads as OMP_NUM_THREADS asks for."""
    before = torch.get_num_threads()
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", before)))
    yield
    torch.set_num_threads(before)


@pytest.fixture
def deterministic(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let cuDNN choose among algorithms that add in a fixed order."""
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", True)


@pytest.fixture
def recorded(capfd: pytest.CaptureFixture[str]) -> Iterator[Literal["graphs", "eager"]]:
    """Return the execution that records rounds, eager on a CPU; it is an error if one is not recorded."""
    yield "eager" if SMALL else "graphs"
    assert "cannot be recorded" not in capfd.readouterr().err
