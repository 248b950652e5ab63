"""Images, and an undisturbed run of them, for all tests of faults."""

from pathlib import Path

import pytest

from tests.benchmarks.data.folders import pictures
from tests.faults.trial import Trial, Undisturbed


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of 60 images."""
    return pictures(tmp_path_factory.mktemp("images") / "set", 8, 1)


@pytest.fixture(scope="session")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Undisturbed:
    """Run the command to its end."""
    return Trial(tmp_path_factory.mktemp("undisturbed") / "trial", images).undisturbed()
