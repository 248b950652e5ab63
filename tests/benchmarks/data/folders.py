"""Folders of pictures that a test makes, and what it asks of them."""

import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from alibench.benchmarks.data.cache import forget
from alibench.benchmarks.data.datasets import Options, load
from alibench.evaluation.data import Data, Split
from alibench.evaluation.errors import BadInput
from alibench.evaluation.store import home


def read(path: Path, kind: str = "folder", **options: int) -> Data:
    """Open a folder or an .npz as a new process would."""
    forget()
    return load(f"{kind}:{path}", Options(**options))  # type: ignore[arg-type]


def draw(
    root: Path, classes: Mapping[str, int], first: int = 0, size: tuple[int, int] = (5, 4)
) -> dict[int, str]:
    """Write so many images of each class, each of one colour of its own; return the class of each, by its
    number.
    """
    made: dict[int, str] = {}
    for name, count in classes.items():
        (root / name).mkdir(parents=True, exist_ok=True)
        for _ in range(count):
            n = first + len(made)
            Image.new("RGB", size, (n // 256, n % 256, 207)).save(root / name / f"{n}.png")
            made[n] = name
    return made


def numbers(split: Split) -> list[int]:
    """Return which images these are."""
    return [256 * int(x[0, 0, 0]) + int(x[1, 0, 0]) for x in split.x]


def splits(data: Data) -> list[Split]:
    return [data.train, data.validation, data.test]


def caches() -> dict[str, int]:
    """Return all caches, finished or not, with the times they were made."""
    return {
        path.name: path.stat().st_mtime_ns for path in (home() / "cache").glob("*") if path.name != "hashes"
    }


def refused(match: str, path: Path, kind: str = "folder", **options: int) -> None:
    """Check that the data are refused in one line that holds `match`, and that no cache comes of it."""
    before = caches()
    with pytest.raises(BadInput, match=re.escape(match)) as caught:
        read(path, kind, **options)
    assert "\n" not in str(caught.value)
    assert caches() == before


def pictures(folder: Path, size: int, channels: int, classes: int = 2, each: int = 30) -> Path:
    """Make a folder of noise, in class folders: each brighter than the last, which can be learnt."""
    rng = np.random.RandomState(0)
    for c in range(classes):
        (folder / f"class{c}").mkdir(parents=True)
        for i in range(each):
            x = rng.randint(128, size=(size, size, channels), dtype=np.uint8) + np.uint8(
                127 * c // max(1, classes - 1)
            )
            Image.fromarray(x.squeeze()).save(folder / f"class{c}" / f"{i:03d}.png")
    return folder
