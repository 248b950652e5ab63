"""A command that is disturbed in a folder of its own, and the result that it should have."""

import os
import re
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import pytest

from alibench.results import rows

ROOT = Path(__file__).parent.parent.parent
LIMIT = 300  # seconds for a command
# Files that a run writes, by its phase: a moment drawn at random seldom meets them. A checkpoint follows
# every step here, so that a kill at one of them is a kill in the midst of training.
KINDS = {
    "building the cache": r"/cache/",
    "beginning": r"plan\.json|/out/runs$",
    "checkpointing": r"/checkpoints",
    "keeping the trained model": r"/\.?(model\.safetensors|training\.json|curves\.csv)",
    "storing arrays": r"/\.?arrays\.safetensors",
    "writing rows": r"/\.?(run|rows)\.json",
    "writing tables": r"/out/\.?(rows\.csv|tables)",
}
MEASURED = ("evaluation.draws=2", "evaluation.labels=20", 'metrics=["reconstruction","svm"]')
SETTINGS = ("steps=60", "batch=8", *MEASURED)


def asked(request: pytest.FixtureRequest, option: str, whole: int, short: int) -> int:
    """Return how often something is tried: as an option says, or as the form of the session does."""
    given: int | None = request.config.getoption(option)
    return given if given is not None else short if request.config.getoption("--short") else whole


@dataclass(frozen=True)
class Undisturbed:
    """The result of an undisturbed run."""

    rows: pd.DataFrame
    seconds: float
    written: dict[str, int]  # kind of file -> how often one is opened for writing, renamed or removed


class Trial:
    """A command in a folder of its own."""

    def __init__(self, place: Path, images: Path) -> None:
        self.place, self.images = place, images
        self.out, self.log = place / "out", place / "log"
        place.mkdir()

    def start(
        self,
        *more: str,
        kill: tuple[str, str, int] | None = None,
        settings: Sequence[str] = SETTINGS,
        largest: int = 0,
    ) -> "subprocess.Popen[bytes]":
        """Start the command; no file may get more than `largest` bytes, where it is not 0.

        `kill`: the process to kill (killer/sitecustomize.py), a pattern of files, and which of them.
        """
        command = [sys.executable, "-m", "alibench", "run", "digits", "--models", "ali", "vae"]
        command += ["--seeds", "1", "--device", "cpu", "--checkpoint-every", "0"]
        command += ["--data", f"folder:{self.images}", "--out", str(self.out), *more]
        command += [part for setting in settings for part in ("--set", setting)]
        environment = os.environ | {"ALIBENCH_DATA": str(self.place / "home")}
        if kill:
            whom, pattern, number = kill
            environment["PYTHONPATH"] = os.pathsep.join((str(Path(__file__).parent / "killer"), str(ROOT)))
            environment["ALIBENCH_KILL"] = f"{whom} {pattern} {number} {self.log}"

        def limit() -> None:
            if largest:
                resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.RLIM_INFINITY))

        with (self.place / "said").open("ab") as said:
            options = {"cwd": ROOT, "env": environment, "start_new_session": True}
            return subprocess.Popen(command, preexec_fn=limit, stdout=said, stderr=said, **options)

    @property
    def said(self) -> str:
        """All that the command has printed."""
        return (self.place / "said").read_text()

    def rows(self) -> pd.DataFrame:
        """Return all rows but those of timings."""
        frame = rows.read(self.out)
        return frame[frame.kind != "timing"].reset_index(drop=True)

    def undisturbed(self) -> Undisturbed:
        """Run the command to its end, and count the files that it writes."""
        start = time.monotonic()
        process = self.start(kill=("nobody", "|".join(KINDS.values()), 0))
        assert process.wait(LIMIT) == 0, self.said[-3000:]
        seconds = time.monotonic() - start
        paths = [line.partition(" ")[2] for line in self.log.read_text().splitlines()]
        written = {kind: len(list(filter(re.compile(p).search, paths))) for kind, p in KINDS.items()}
        assert all(written.values()), written
        assert len(self.rows()) > 50
        return Undisturbed(self.rows(), seconds, written)

    def check(self, expected: pd.DataFrame, *more: str) -> None:
        """Resume, and compare with an undisturbed run: no row lost or doubled, no file left behind."""
        assert self.start("--resume", *more).wait(LIMIT) == 0, self.said[-3000:]
        self.compare(expected)

    def compare(self, expected: pd.DataFrame) -> None:
        """Compare with the rows of an undisturbed run."""
        pd.testing.assert_frame_equal(self.rows(), expected, check_exact=True)
        assert not self.rows().duplicated(list(rows.KEY)).any()
        assert not [path for path in self.place.rglob(".*") if path.name != ".lock"]
        assert not list(self.place.rglob("checkpoints"))
