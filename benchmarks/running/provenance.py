"""Where a number comes from: code, configuration, versions, machine, data, weights, command."""

import hashlib
import inspect
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from alibench import benchmarks, evaluation, models, results
from alibench.benchmarks.config import compute, plugins
from alibench.benchmarks.config.schema import Suite
from alibench.evaluation import files, protocols
from alibench.evaluation.features import extractors
from alibench.models.base import Model

PATIENCE = 20.0  # seconds for nvidia-smi, which wakes the GPUs of a machine that has many
LIBRARIES = ("torchvision", "torch-fidelity", "scikit-learn", "pandas", "numpy")
ROOT = Path(__file__).resolve().parents[2]
# what numbers depend on, beside all of evaluation/ and the models that are asked for
TRAINING = ("data/*.py", "training/*.py", "config/*.py", "running/jobs.py", "running/worker.py")


@cache
def commit() -> str:
    """Return the checkout's commit, with a plus if its files differ from it, or why there is none."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    try:
        return git("rev-parse", "HEAD") + (
            "+" if git("status", "--porcelain", "--untracked-files=no") else ""
        )
    except (OSError, subprocess.CalledProcessError):
        try:
            return f"no checkout; alibench {version('alibench')}"
        except PackageNotFoundError:
            return "no checkout; alibench is not installed"


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that numbers depend on."""
    found = {library: version(library) for library in LIBRARIES}
    return {"python": platform.python_version(), "torch": torch.__version__, **found}


def code(suites: Iterable[Suite]) -> dict[str, str]:
    """Return the hashes of the files that the numbers of some suites depend on, by their names in the
    project.
    """
    kinds = {models.REGISTRY[suite.entry(name).of] for suite in suites for name in suite.models}
    asked = {
        Path(inspect.getfile(base)).resolve()
        for kind in kinds
        for base in kind.__mro__
        if issubclass(base, Model)
    }
    others = {Path(inspect.getfile(kind)).resolve() for kind in models.REGISTRY.values()} - asked
    shared = {path for room in ("models", "evaluation") for path in (ROOT / room).rglob("*.py")} - others
    paths = asked | shared | {path for pattern in TRAINING for path in (ROOT / "benchmarks").glob(pattern)}
    return {
        str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted(paths)
    }


@cache
def project() -> dict[str, str]:
    """Return the hashes of all of the project's own code, by file."""
    rooms = {
        module.__name__: Path(str(module.__file__)).parent
        for module in (models, evaluation, results, benchmarks)
    }
    found = {
        f"{name.removeprefix('alibench.')}/{path.relative_to(room)}": path
        for name, room in rooms.items()
        for pattern in ("*.py", "*/*.py")  # no deeper: there may be very many runs in results/
        for path in room.glob(pattern)
    }
    return {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in sorted(found.items())}


def device_name(device: torch.device) -> str:
    """Return the device and the machine it is in."""
    own = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    shared = f"; {processes()} processes" if processes() > 1 else ""
    threads = torch.get_num_threads()
    return (
        f"{own}; {platform.machine()}, {os.cpu_count()} cores, {platform.system()}; {threads} threads{shared}"
    )


def accelerator(device: torch.device) -> dict[str, str]:
    """Return what the numbers of a CUDA device depend on beside the code: GPU, driver, CUDA, cuDNN; nothing
    on others.
    """
    if device.type != "cuda":
        return {}
    facts = {
        "gpu": torch.cuda.get_device_name(device),
        "driver": _driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    return {name: str(fact) for name, fact in facts.items() if fact}


@cache
def _driver() -> str:
    """Return the version of NVIDIA's driver, which torch does not tell; nothing where nvidia-smi does not
    tell it either.
    """
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.partition("\n")[0].strip()  # a line a GPU


def processes() -> int:
    """Return how many processes share a training."""
    distributed = torch.distributed
    return distributed.get_world_size() if distributed.is_available() and distributed.is_initialized() else 1


def of(
    suite: Suite, name: str, seed: int, command: list[str], device: torch.device, weights: Path | None
) -> dict[str, Any]:
    """Return the provenance of a run of one entry."""
    loaded = suite.load()
    return {
        "commit": commit(),
        "config": asdict(suite)
        | {"entry": name, "entry_recipe": asdict(compute.recipe_of(suite, name, seed).on(device))},
        "drawn": suite.drawn(seed),
        "versions": versions(),
        "device": device_name(device),
        "accelerator": accelerator(device),
        "data_sha256": loaded.sha256,
        "data_splits": loaded.splits,
        "data_shape": loaded.shape,
        "data_scale": loaded.scale,
        "data_labels": loaded.labels,
        "protocols": protocols.VERSION,
        "extractor": extractors.provenance(loaded, suite.evaluation) if "fidelity" in suite.metrics else None,
        "weights_sha256": files.sha256(weights) if weights else None,
        "command": shlex.join(command),
        "plugins": plugins.hashes(),
        "samples": plugins.notes(suite.kind(name), loaded.shape, suite.dataset),
        "data_classes": loaded.class_names,
    }


def command() -> list[str]:
    """Return this process's command, as it can be typed again."""
    studied = Path(sys.argv[0]).name == "study.py"
    return [*(["nox", "-s", "gate_study", "--"] if studied else ["alibench"]), *sys.argv[1:]]
