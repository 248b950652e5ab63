"""Where a number comes from: code, configuration, versions, machine, data, weights, command."""

import hashlib
import os
import platform
import shlex
import subprocess
import sys
from dataclasses import asdict
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from benchmarks import cost
from benchmarks.config import Suite
from evaluation import extractors
from evaluation.base import PROTOCOLS

LIBRARIES = ("torchvision", "torch-fidelity", "scikit-learn", "pandas", "numpy")


@cache
def commit() -> str:
    """Return the checkout's commit, with a plus if its files differ from it, or why there is none."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return f"no checkout; alibench {version('alibench')}"


def device_name(device: torch.device) -> str:
    """Return the device and the machine it is in."""
    own = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    return f"{own}; {platform.machine()}, {os.cpu_count()} cores, {platform.system()}; {torch.get_num_threads()} threads"


def of(suite: Suite, name: str, seed: int, command: list[str], device: torch.device, weights: Path | None) -> dict[str, Any]:
    """Return the provenance of a run of one entry."""
    loaded = suite.load()
    return {
        "commit": commit(),
        "config": asdict(suite) | {"entry": name, "entry_recipe": asdict(cost.recipe_of(suite, name, seed))},
        "drawn": suite.drawn(seed),
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            **{library: version(library) for library in LIBRARIES},
        },
        "device": device_name(device),
        "data_sha256": loaded.sha256,
        "data_splits": loaded.splits,
        "protocols": PROTOCOLS,
        "extractor": extractors.provenance(loaded, suite.evaluation) if "fidelity" in suite.metrics else None,
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest() if weights else None,
        "command": shlex.join(command),
    }


def command() -> list[str]:
    """Return this process's command, as it can be typed again."""
    studied = Path(sys.argv[0]).name == "study.py"
    return [*(["nox", "-s", "gate_study", "--"] if studied else ["alibench"]), *sys.argv[1:]]
