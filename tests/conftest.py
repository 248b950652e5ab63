"""What tests share: data, models with known weights, batches."""

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from filelock import FileLock
from threadpoolctl import threadpool_limits

from alibench.benchmarks.commands import options
from alibench.benchmarks.config import plugins
from alibench.benchmarks.data import datasets
from alibench.benchmarks.running import worker
from alibench.benchmarks.running.engine import Group, Listener
from alibench.benchmarks.running.local import Local
from alibench.benchmarks.running.outcomes import Outcome
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.stopping import Request
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.data import Data, Split
from alibench.evaluation.seeds import generator
from alibench.models import REGISTRY
from alibench.models.base import Batch, Model
from alibench.models.networks import Family, Networks
from alibench.models.tables import FAMILIES

torch.set_num_threads(1)

MODELS = sorted(REGISTRY)
CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()  # that the session may use


def networks(family: str | Family = "digits", latent: int = 4, seed: int = 0, **more: Any) -> Networks:
    """Return a family's networks for data of its own shape, with first weights."""
    own = FAMILIES[family]() if isinstance(family, str) else family
    return Networks(own, own.shape or (1, 8, 8), 1.0, latent, generator(seed, "weights"), **more)


def build(name: str, seed: int = 0, dataset: str = "digits", latent: int = 4) -> Model:
    """Return a model with its first weights."""
    loaded = datasets.load(dataset)
    family = FAMILIES["digits" if loaded.images else "plane"]()
    rng = generator(seed, "weights")
    return REGISTRY[name](Networks(family, loaded.shape, loaded.scale, latent, rng, labels=loaded.classes))


def numbers(model: Model) -> torch.Tensor:
    """Return all weights and statistics as one vector, in double precision."""
    return torch.cat([value.double().flatten() for value in model.state_dict().values()])


def trainer(model: Model, split: Split, labelled: Split | None = None, **recipe: Any) -> Trainer:
    """Return a trainer of a model's first phase, of batches of 50."""
    asked = Recipe(**({"steps": 1, "batch": 50} | recipe))
    return Trainer(model, model.phases[0], asked, split, generator(0, "t"), labelled)


def batch_for(model: Model, x: torch.Tensor, seed: int = 0) -> Batch:
    """Return x with the noise that the model asks for and classes in turn; its images are labelled, too."""
    rng, y = generator(seed, "test noise"), torch.arange(len(x)) % 10
    return Batch(x, {name: draw(rng) for name, draw in model.noise(len(x)).items()}, y, (x, y))


@pytest.fixture(scope="session", autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep caches and downloads of the tests apart from the user's."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALIBENCH_DATA", str(tmp_path_factory.mktemp("home")))
        yield
    # a file of ours that was imported by its bare name would be there twice, with two of each class
    assert not sys.modules.keys() & {"models", "evaluation", "results", "benchmarks"}


SETTINGS = ("steps=4", "evaluation.draws=1", "evaluation.labels=50", "evaluation.seconds=0.02")
GATED = """
title = "Mine"
source = "me"
expect = "seconds"
dataset = "grid25_easy"
networks = "plane"
latent = 2
models = ["ae"]
metrics = ["reconstruction"]

[recipe]
steps = 3

[[gate]]
metric = "reconstruction_error"
protocol = "mean code"
scale = "log"
relative = 0.01
"""  # a user's suite that trains in a moment


def sets(*assignments: str) -> tuple[str, ...]:
    """Return the words of a command line for some settings."""
    return tuple(word for assignment in assignments for word in ("--set", assignment))


TINY = ("--device", "cpu", *sets(*SETTINGS))  # seconds, of any suite


def origin(suite: str, models: Sequence[str], **more: Any) -> dict[str, Any]:
    """Return the provenance of runs that a test makes up."""
    return {
        "commit": "0123456789" * 4,
        "config": {"name": suite, "title": "A suite", "models": list(models), "metrics": [], "seeds": 3},
        "versions": {"torch": "2"},
        "device": "cpu",
        "data_sha256": "0" * 64,
        "weights_sha256": None,
        "command": f"alibench run {suite} --seeds 3 --out somewhere --resume",
        **more,
    }


class Here(Local):
    """Does all jobs in the process that asks for them, without the seconds in which workers start."""

    waiting: tuple[Group, ...] = ()

    def begin(self, group: Group) -> None:
        """Keep it until it is waited for."""
        self.waiting += (group,)

    def wait(self, listener: Listener) -> list[dict[str, Outcome]]:
        """Do what was begun."""
        groups, self.waiting = self.waiting, ()
        return [worker.work(group, listener.reach, Request(), tuple(plugins.LOADED)) for group in groups]


@contextmanager
def in_this_process() -> Iterator[None]:
    """Let commands start no workers meanwhile: for tests whose claim is not about processes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "Local", Here)
        yield


@pytest.fixture
def here() -> Iterator[None]:
    """Let the commands of a test start no workers."""
    with in_this_process():
        yield


@pytest.fixture(scope="session")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return what a tiny run of the main job leaves, made once for all test processes.

    It is started from a folder outside the checkout, whose own models/ must not shadow ours.
    """
    shared = tmp_path_factory.getbasetemp()
    shared = shared.parent if "PYTEST_XDIST_WORKER" in os.environ else shared
    home = shared / "elsewhere"
    with FileLock(shared / "quick.lock"):
        if not (home / "done").exists():
            (home / "models").mkdir(parents=True)
            (home / "models" / "__init__.py").write_text("raise RuntimeError('the wrong models')")
            words = ["run", "quick", "--seeds", "1", *TINY, "--out", "out"]
            command = [Path(sys.executable).parent / "alibench", *words]
            # the other test processes soon wait for it, so it takes all cores
            done = subprocess.run(
                command, cwd=home, capture_output=True, text=True, check=False, preexec_fn=_unpin
            )
            assert done.returncode == 0, done.stdout + done.stderr
            (home / "log").write_text(done.stdout + done.stderr)
            (home / "done").write_text(done.stdout)
    return home / "out"


@pytest.fixture
def digits() -> Data:
    """The digits dataset."""
    return datasets.load("digits")


def pytest_configure() -> None:
    """Give each of several test processes a core of its own, on which a command starts one worker.

    numpy has counted more cores before: its threads would wait for one another.
    """
    number = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if number and CORES:
        os.sched_setaffinity(0, {sorted(CORES)[int(number) % len(CORES)]})
        threadpool_limits(1)


def _unpin() -> None:
    if CORES:
        os.sched_setaffinity(0, CORES)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs CUDA where there is none, aloud; with DEVICE=cpu, tests of any device run in small."""
    in_small = os.environ.get("DEVICE") == "cpu" and "device" in getattr(item, "fixturenames", ())
    if "gpu" in item.keywords and not torch.cuda.is_available() and not in_small:
        pytest.skip(f"no CUDA device on this machine: {item.nodeid.partition('::')[0]}")  # a line a file


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked `whole`, if the short form is asked for."""
    if config.getoption("--short"):
        left_out = [item for item in items if item.get_closest_marker("whole")]
        items[:] = [item for item in items if not item.get_closest_marker("whole")]
        config.hook.pytest_deselected(items=left_out)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of `nox -s commands`, `nox -s faults` and `nox -s speed`."""
    parser.addoption(
        "--short", action="store_true", help="the form that CI runs: without what is marked `whole`"
    )
    parser.addoption(
        "--speed-out", help="folder of the speed tables; default: a fresh one below results/runs/"
    )
    parser.addoption("--profile", action="store_true", help="also write what an update's time goes to")
    for option, told in (
        ("--kills", "how many runs are killed and gone on with; 30, in the short form 2"),
        ("--starts", "how often two commands start at once; 10, in the short form once"),
        ("--inputs", "how many crafted and damaged inputs are opened; 1000, in the short form 80"),
    ):
        parser.addoption(option, type=int, help=told)
