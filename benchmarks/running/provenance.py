"""Where a number comes from: code, configuration, versions, machine, data, weights, command."""

import inspect
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from alibench import models
from alibench.benchmarks.config import classes, compute, plugins
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.training import peers
from alibench.evaluation import files, protocols
from alibench.evaluation.features import extractors
from alibench.models.base import Model

PATIENCE = 20.0  # seconds for nvidia-smi, which wakes the GPUs of a machine that has many
LIBRARIES = ("torchvision", "torch-fidelity", "scikit-learn", "pandas", "numpy")
ROOT = Path(__file__).resolve().parents[2]
# The files that numbers depend on, besides models and evaluation.
TRAINING = ["data/*", "training/*", "config/*"]
TRAINING += [f"running/{name}" for name in ("execute", "jobs", "measuring", "worker")]

_words: ContextVar[Sequence[str] | None] = ContextVar("words", default=None)  # of a call from Python


@cache
def commit() -> str:
    """Return the checkout's commit, with a plus if its files differ from it, or why there is none."""

    def git(*arguments: str) -> str:
        command = ["git", "-C", str(ROOT), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    # Without git, or outside a checkout, the version has to do.
    try:
        changed = git("status", "--porcelain", "--untracked-files=no")
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        try:
            return f"no checkout; alibench {version('alibench')}"
        except PackageNotFoundError:
            return "no checkout; alibench is not installed"


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that numbers depend on."""
    others = {library: version(library) for library in LIBRARIES}
    return {"python": platform.python_version(), "torch": torch.__version__, **others}


def code(suites: Iterable[Suite]) -> dict[str, str]:
    """Return the hashes of the files that the numbers of some suites depend on, by path in the project."""

    def defining(kind: type[Model]) -> set[Path]:
        # a class of a notebook has no file
        bases = [base for base in kind.__mro__ if issubclass(base, Model) and base not in classes.ADOPTED]
        return {Path(inspect.getfile(base)).resolve() for base in bases}

    compared = {models.REGISTRY[suite.entry(name).of] for suite in suites for name in suite.models}
    asked = set[Path]().union(*map(defining, compared))

    # What all models share, and no model that is not compared.
    shared = {path for room in ("models", "evaluation") for path in (ROOT / room).rglob("*.py")}
    registered = set(models.REGISTRY.values()) - classes.ADOPTED.keys()
    others = {Path(inspect.getfile(kind)).resolve() for kind in registered}
    training = {path for pattern in TRAINING for path in ROOT.glob(f"benchmarks/{pattern}.py")}
    return _hashes(asked | (shared - others) | training)


def _hashes(paths: Iterable[Path]) -> dict[str, str]:
    def name(path: Path) -> str:
        return str(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)

    return {name(path): files.sha256(path) for path in sorted(paths)}


def device_name(device: torch.device) -> str:
    """Return the device and the machine it is in."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}"
    shared = f"; {peers.world()} processes" if peers.world() > 1 else ""
    return f"{name}; {machine}; {torch.get_num_threads()} threads{shared}"


def accelerator(device: torch.device) -> dict[str, str]:
    """Return what numbers depend on besides the code: GPU, driver, CUDA and cuDNN; {} if it is not CUDA."""
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
    """Return the version of NVIDIA's driver, by nvidia-smi: torch does not know it. "" where it fails."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=PATIENCE)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.partition("\n")[0].strip()  # a line a GPU


def of(
    suite: Suite, name: str, seed: int, command: list[str], device: torch.device, weights: Path | None
) -> dict[str, Any]:
    """Return the provenance of a run of one entry."""
    loaded, recipe = suite.load(), compute.recipe_of(suite, name, seed).on(device)
    fidelity = "fidelity" in suite.metrics
    return {
        "commit": commit(),
        "config": asdict(suite) | {"entry": name, "entry_recipe": asdict(recipe)},
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
        "extractor": extractors.provenance(loaded, suite.evaluation) if fidelity else None,
        "weights_sha256": files.sha256(weights) if weights else None,
        "command": shlex.join(command),
        "plugins": plugins.hashes(),
        # What a reader has to know of stored samples.
        "samples": plugins.notes(suite.kind(name), suite.dataset),
        "data_classes": loaded.class_names,
    }


def command() -> list[str]:
    """Return the command that this process carries out, as it can be typed again."""
    return ["alibench", *(sys.argv[1:] if (words := _words.get()) is None else words)]


@contextmanager
def called(words: Sequence[str]) -> Iterator[None]:
    """Carry out those words of a command meanwhile, whatever the process was started with."""
    before = _words.set(words)
    try:
        yield
    finally:
        _words.reset(before)
