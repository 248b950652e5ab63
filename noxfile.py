"""Everything a person or CI runs. `nox -l` lists the sessions; arguments after `--` are passed on.

All sessions but `lowest` share one environment, .nox/env: it is installed by the first of them and again
only when pyproject.toml changes, so torch is downloaded once and a second session starts at once, also
without a network.
"""

import hashlib
import os
import sys
from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.sessions = ["lint", "types", "tests"]

ROOT = Path(__file__).parent
ENVIRONMENT = ROOT / ".nox" / "env"
BIN = ENVIRONMENT / ("Scripts" if os.name == "nt" else "bin")


def environment(session: nox.Session, extra: str = "dev") -> str:
    """Return the shared environment's python with an extra's packages, made or renewed first if need be."""
    installed = ENVIRONMENT / f"installed-{extra}"
    wanted = hashlib.sha256((ROOT / "pyproject.toml").read_bytes() + str(ROOT).encode()).hexdigest()
    if not installed.exists() or installed.read_text() != wanted:
        session.run(sys.executable, "-m", "venv", str(ENVIRONMENT), external=True)
        session.run(str(BIN / "python"), "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[{extra}]")
        installed.write_text(wanted)
    return str(BIN / "python")


def python(session: nox.Session, *arguments: str) -> None:
    """Run `python ARGUMENTS` in the shared environment."""
    # Ctrl-C reaches the command itself, which ends after its step; nox alone would give it a third of a
    # second
    session.run(environment(session), *arguments, interrupt_timeout=None)


@nox.session
def benchmark(session: nox.Session) -> None:
    """Train, evaluate, print and write the tables: `nox -s benchmark -- [quick] [--models ali vae] [--seeds
    3]`.
    """
    suite = () if session.posargs and not session.posargs[0].startswith("-") else ("quick",)
    python(session, "-P", "-m", "alibench", "run", *suite, *session.posargs)


@nox.session
def tables(session: nox.Session) -> None:
    """Make the papers' tables and overviews from stored rows, without training: `nox -s tables -- [--from DIR
    ...]`.
    """
    python(session, "-P", "-m", "alibench", "tables", *session.posargs)


@nox.session
def pictures(session: nox.Session) -> None:
    """Make the documentation's pictures and README's table again, from committed results."""
    python(session, "-m", "alibench.results.illustrations")


@nox.session
def regression(session: nox.Session) -> None:
    """Train fresh seeds, fail if a metric got worse than its baseline: `nox -s regression -- [SUITE] [--seeds
    5]`.
    """
    python(session, "-P", "-m", "alibench", "regression", *session.posargs)


@nox.session
def gate_study(session: nox.Session) -> None:
    """Measure the gate itself: `nox -s gate_study -- rates`, `updates` (minutes), `bugs` (ten), or
    `compare` (minutes).
    """
    python(session, "-P", "-m", "alibench.benchmarks.studies.study", *(session.posargs or ["rates"]))


@nox.session
def official_log(session: nox.Session) -> None:
    """Hold trained BiGANs against the log of their authors' code: `nox -s official_log -- DIR [DIR ...]`."""
    python(session, "-P", "-m", "alibench.benchmarks.studies.official_log", *session.posargs)


@nox.session
def tests(session: nox.Session) -> None:
    """Run the tests, a process a core; nine minutes on two slow cores: `nox -s tests -- [OPTIONS]`."""
    python(session, "-m", "pytest", "--numprocesses=auto", "--dist=worksteal", *session.posargs)


@nox.session(python="3.11", venv_backend="venv", reuse_venv=True)
def lowest(session: nox.Session) -> None:
    """Run the tests with the lowest versions that pyproject.toml allows: `nox -s lowest -- [OPTIONS]`."""
    install = ("uv", "pip", "install")
    session.run("python", "-m", "pip", "install", "--quiet", "uv")
    session.run(*install, "--upgrade", "--resolution", "lowest-direct", "--editable", ".[dev]")
    session.run("python", "-m", "pytest", "--numprocesses=auto", "--dist=worksteal", *session.posargs)


@nox.session
def commands(session: nox.Session) -> None:
    """Run whole commands, all that the documentation shows too (`--dry-run`, if they train): `nox -s commands
    -- [--short]`.

    The short form leaves out tests marked `whole`: of the documentation's commands it runs each, with each
    option, once.
    """
    python(
        session, "-m", "pytest", "-m", "commands", "--numprocesses=auto", "--dist=worksteal", *session.posargs
    )


@nox.session
def extras(session: nox.Session) -> None:
    """Install what only some need (trackers, ONNX) into the shared environment, and run its tests."""
    python(session, "-m", "pip", "install", "--quiet", "--editable", f"{ROOT}[wandb,mlflow,onnx]")
    places = ("tests/benchmarks/running/test_tracking.py", "tests/benchmarks/running/test_exporting.py")
    python(session, "-m", "pytest", "-m", "commands or not commands", *places, *session.posargs)


@nox.session
def slow(session: nox.Session) -> None:
    """Run the tests that train to a result and take longer."""
    python(session, "-m", "pytest", "-m", "slow", *session.posargs)


@nox.session
def speed(session: nox.Session) -> None:
    """Time training, sampling, encoding and evaluation against plain scripts, in turn: let nothing else run.

    Tables go to a fresh folder below results/runs/ (`-- --speed-out DIR`); `-- --profile` says where an
    update's time goes, `-- -k "CIFAR-10 and ali"` measures some cases.
    """
    # named, because pytest otherwise looks for its settings above a DIR that exists
    settings = ("-c", "pyproject.toml", "tests/speed")
    options = ("-m", "speed", "-s", "--benchmark-enable", "--benchmark-columns=median,rounds")
    python(session, "-m", "pytest", *settings, *options, *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Kill, interrupt, starve and double commands: `nox -s faults -- [--kills 30] [--short]`, half an hour.

    Nothing may be lost, and nothing done that a stranger's file asks for. The short form, of three and a half
    minutes, leaves out tests marked `whole`, kills two commands and opens eighty inputs.
    """
    settings = ("-c", "pyproject.toml", "tests/faults", "-m", "faults", "-s")
    python(session, "-m", "pytest", *settings, *session.posargs)


@nox.session
def gpu(session: nox.Session) -> None:
    """Check a GPU within LIMIT seconds (430) by tests, timings and real trainings: `nox -s gpu -- [SECTION
    ...]`.

    The sections are those of tests/gpu/all.sh. Without CUDA its tests are skipped aloud; DEVICE=cpu runs all
    in small.
    """
    own = {"PYTHON": environment(session)}
    session.run("bash", "tests/gpu/all.sh", *session.posargs, env=own, external=True, interrupt_timeout=None)


@nox.session
def docs(session: nox.Session) -> None:
    """Build the documentation's site into site/; a broken link fails: `nox -s docs -- [--site-dir DIR]`."""
    words = ("-P", "-m", "mkdocs", "build", "--strict", *session.posargs)
    session.run(environment(session, "docs"), *words, interrupt_timeout=None)


@nox.session
def lint(session: nox.Session) -> None:
    """Check style and formatting with ruff; `nox -s lint -- --fix` mends what it can."""
    python(session, "-m", "ruff", "check", *session.posargs, ".")
    python(session, "-m", "ruff", "format", *([] if "--fix" in session.posargs else ["--check"]), ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with mypy."""
    python(session, "-m", "mypy", *session.posargs)
