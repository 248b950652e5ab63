"""Runs on a Ray cluster of several nodes, processes of this machine; what it refuses, before anything is
scheduled.
"""

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from ray.cluster_utils import Cluster
from rich.console import Console

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading
from alibench.benchmarks.running import nodes, outputs, runner, worker
from alibench.benchmarks.running import ray as running_ray
from alibench.benchmarks.running.engine import Group
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import OK, Outcome, failed
from alibench.benchmarks.training.stopping import Request
from alibench.results import rows
from tests.benchmarks.data.folders import pictures
from tests.conftest import TINY

ROOT = Path(__file__).parents[3]
ARGUMENTS = ("run", "digits", "--models", "vae", "--seeds", "2", *TINY, "--set", 'metrics=["reconstruction"]')


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Start two nodes of a core next to one that does no work."""
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    for _ in range(2):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


@pytest.fixture
def ray(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Cluster:
    """Let `--on ray` mean this cluster."""
    monkeypatch.setenv("RAY_ADDRESS", cluster.address)
    return cluster


@pytest.fixture
def seen_from_here(tmp_path: Path) -> Iterator[Path]:
    """Return a path that no other process sees by that name."""
    descriptor = os.open(tmp_path, os.O_RDONLY)
    yield Path(f"/proc/self/fd/{descriptor}")
    os.close(descriptor)


def refused(capsys: pytest.CaptureFixture[str], out: Path, *arguments: str) -> str:
    """Return the line by which a command is refused, once it is sure that nothing was begun."""
    before = sorted(out.parent.iterdir())
    assert main([*ARGUMENTS, *arguments, "--out", str(out)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("alibench:")]
    assert sorted(out.parent.iterdir()) == before
    return line


# -------------------- without a cluster


def test_without_ray_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "alibench.benchmarks.running.ray", raising=False)
    monkeypatch.setitem(sys.modules, "ray", None)  # type: ignore[arg-type]
    line = refused(capsys, tmp_path / "out", "--on", "ray")
    assert line == "alibench: --on ray needs the package ray: pip install 'ray[client]'"


def test_an_address_where_nobody_answers_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for wrong in (address, "head:port", "head:99999999"):
        line = refused(capsys, tmp_path / "out", "--on", f"ray://{wrong}")
        assert line.startswith(f"alibench: --on ray://{wrong}: nobody answers at {wrong} (")
    monkeypatch.setenv("RAY_ADDRESS", address)
    line = refused(capsys, tmp_path / "out", "--on", "ray")
    assert line.startswith(f"alibench: RAY_ADDRESS: nobody answers at {address} (")


@pytest.mark.parametrize(
    ("variable", "on", "reached", "taken"),
    [
        ("auto", "ray://head", ("head", 10001), "ray://head:10001"),
        ("auto", "ray://head:1", ("head", 1), "ray://head:1"),
        ("10.0.0.1:6379", "ray", ("10.0.0.1", 6379), "10.0.0.1:6379"),
        ("auto", "ray", None, None),
    ],
)
def test_a_cluster_is_reached_by_its_address(
    variable: str, on: str, reached: object, taken: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = list[object]()
    monkeypatch.setenv("RAY_ADDRESS", variable)
    monkeypatch.setattr(
        socket, "create_connection", lambda place, wait: tried.append(place) or socket.socket()
    )
    monkeypatch.setattr(running_ray.ray, "init", lambda address, **options: tried.append(address))
    running_ray._connect(on)
    assert tried == [*filter(None, [reached]), taken]


@pytest.mark.parametrize("engine", ["rai", "ray:HOST", "kubernetes"])
def test_an_engine_that_is_not_there_is_named(
    engine: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, tmp_path / "out", "--on", engine)
    assert f"'{engine}' is not there; there are: ray, ray://HOST, slurm" in line


@pytest.fixture
def needs(tmp_path: Path) -> nodes.Requirements:
    """Return what a command asks of every node, which this one has."""
    (suite,) = loading.load("digits", ["steps=4"], ["vae"])
    seen = tmp_path / "plan.json"
    seen.touch()
    return nodes.Requirements(outputs.plan([suite], torch.device("cpu"), plugins={}), seen, str(tmp_path))


def test_a_node_says_what_it_lacks(
    needs: nodes.Requirements, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    more = {"runs": ["digits-vae-seed0"]}
    for planned in (needs.planned, {**needs.planned, **more}):
        assert nodes.problem(replace(needs, planned=planned)) == ""

    code = needs.planned["code"] | {"models/layers.py": ""}
    other = "is not like the command's machine: models/layers.py (its code)"
    assert nodes.problem(replace(needs, planned=needs.planned | {"code": code})) == other

    hidden = tmp_path / "there" / "plan.json"
    told = f"cannot see, or not write, {hidden.parent}: name an --out on storage that all nodes share"
    assert nodes.problem(replace(needs, seen=hidden)) == told
    older = needs.planned | {"versions": needs.planned["versions"] | {"torch": "1.13"}}
    told = f"is not like the command's machine: torch ('1.13', there '{torch.__version__}')"
    assert nodes.problem(replace(needs, planned=older)) == told
    no_data = needs.planned["suites"]["digits"] | {"dataset": f"folder:{tmp_path / 'nowhere'}"}
    assert nodes.problem(replace(needs, planned=needs.planned | {"suites": {"digits": no_data}})).startswith(
        "refuses: "
    )


# -------------------- on a cluster

on_a_cluster = pytest.mark.commands


def begin(out: Path, *arguments: str) -> "subprocess.Popen[str]":
    """Begin a command on the cluster, in a process group of its own."""
    command = [str(Path(sys.executable).parent / "alibench"), *ARGUMENTS]
    command += ["--on", "ray", "--out", str(out), *arguments]
    to = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    return subprocess.Popen(command, cwd=out.parent, **to)  # type: ignore[call-overload, no-any-return]


def until(process: "subprocess.Popen[str]", condition: Callable[[], bool]) -> None:
    """Wait for a moment in the life of a command."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.05)


def changed(copy: Path, name: str, line: str) -> dict[str, str]:
    """Copy the project with another line in one of its files; return the environment of a node with it."""
    ignored = shutil.ignore_patterns("runs", "reference", "__pycache__")
    for folder in (
        "alibench",
        "models",
        "benchmarks",
        "evaluation",
        "results",
    ):  # the first links to the others
        shutil.copytree(ROOT / folder, copy / folder, symlinks=True, ignore=ignored)
    with (copy / name).open("a") as file:
        file.write(f"{line}\n")
    return {"PYTHONPATH": str(copy)}


@on_a_cluster
@pytest.mark.usefixtures("here")
def test_rows_are_those_of_a_local_run(
    ray: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, more in (("local", ()), ("cluster", ("--on", "ray"))):
        assert main([*ARGUMENTS, *more, "--out", str(tmp_path / name)]) == 0, capsys.readouterr().err
    assert "3 runs on cpu, 2 single-threaded at a time on 2 nodes of a Ray cluster" in capsys.readouterr().out
    here, there = (rows.read(tmp_path / name) for name in ("local", "cluster"))
    timed = here.kind == "timing"
    assert here[~timed].equals(there[~timed])
    varying = ["value", "n"]  # n: how often a speed was measured
    assert here.drop(columns=varying).equals(there.drop(columns=varying))


def on_the_cluster(
    kind: Literal["run", "throughput"], out: Path, do: worker.Do
) -> tuple[running_ray.Cluster, list[Job]]:
    """Return the engine, which has looked at all nodes, and jobs for it that `do` does."""
    (suite,) = loading.load("digits", ["steps=4"], ["ali", "bigan", "gan", "vae"])
    work = [Job(kind, suite, name, 0, out, "cpu", ("alibench",)) for name in suite.models]
    plan = outputs.plan([suite], torch.device("cpu"), plugins={})
    engine = running_ray.Cluster("ray", "cpu", [suite], do)
    engine.check(work, plan)
    outputs.write_plan(out, ["alibench"], plan)
    return engine, work


@on_a_cluster
@pytest.mark.whole
def test_speed_is_measured_on_one_node(ray: Cluster, tmp_path: Path) -> None:
    def tell(group: Group, report: Callable[[str, int], None], request: Request) -> dict[str, Outcome]:
        return {job.run_id: failed(running_ray.ray.get_runtime_context().get_node_id()) for job in group}

    engine, work = on_the_cluster("throughput", tmp_path, tell)
    first = min(engine.able, key=lambda node_id: engine.nodes[node_id].name)
    assert set(runner.run(work, engine, Console(quiet=True)).values()) == {failed(first)}


@on_a_cluster
@pytest.mark.whole
def test_ctrl_c_leaves_everything_to_resume_from(ray: Cluster, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()  # in the folder that the command is called in
    (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError('the wrong models')")
    out = tmp_path / "out"
    process = begin(out, "--checkpoint-every", "0", "--set", "steps=20000")
    until(process, lambda: len(list(out.glob("runs/*/checkpoints/round-*"))) >= 4)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 130, said
    assert "ending after the current step, with checkpoints; once more to end at once" in said
    assert "digits-vae-seed0: stopped" in said
    assert "Traceback" not in said
    assert len(list(out.glob("runs/*/checkpoints/round-*"))) == 4
    assert not list(out.rglob("*.part"))


@on_a_cluster
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--device", "cuda"), "no node has room for a run on cuda: it takes 1 CPU, 1e+09 memory, 1 GPU"),
        (("--device", "cuda:1"), "--device cuda:1: Ray gives each run a device by itself: say cpu or cuda"),
        (("--set", "resources.cpus=3"), "no node has room for a run on cpu: it takes 3 CPU, 1e+09 memory"),
        (("--set", "resources.gpus=2"), "suite 'digits': Expected 'float' <= 1.0 - at 'resources.gpus'"),
    ],
    ids=["no GPU", "numbered device", "too many cores", "more than a GPU"],
)
def test_what_no_node_has_is_named(
    ray: Cluster, arguments: tuple[str, ...], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told in refused(capsys, tmp_path / "out", "--on", "ray", *arguments)


@on_a_cluster
@pytest.mark.whole
def test_a_node_whose_torch_sees_no_gpu_is_named(
    ray: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    node = ray.add_node(num_cpus=1, num_gpus=1)
    try:
        line = refused(capsys, tmp_path / "out", "--on", "ray", "--device", "cuda")
    finally:
        ray.remove_node(node)
    assert "offers GPUs to Ray, but its torch finds no CUDA device" in line


@on_a_cluster
@pytest.mark.whole
def test_storage_that_the_nodes_cannot_see_is_named(
    ray: Cluster, seen_from_here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, seen_from_here / "out", "--on", "ray")
    assert "cannot see, or not write, /proc/self/fd/" in line
    assert line.endswith("name an --out on storage that all nodes share")
    assert line.count("node ") == 1  # both at once


@on_a_cluster
@pytest.mark.whole
def test_a_node_without_the_data_is_named(
    ray: Cluster, seen_from_here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path / "set", 8, 1)
    (tmp_path / "results").mkdir()
    data = f"folder:{seen_from_here / 'set'}"
    line = refused(capsys, tmp_path / "results" / "out", "--on", "ray", "--data", data, "--set", "batch=8")
    assert line.count("node ") == 1
    assert " refuses: " in line
    assert "/set" in line


@on_a_cluster
@pytest.mark.whole
def test_another_version_on_a_node_is_named(
    ray: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "results").mkdir()
    node: Any = ray.add_node(num_cpus=1, env_vars=changed(tmp_path / "project", "models/vae.py", "# changed"))
    try:
        line = refused(capsys, tmp_path / "results" / "out", "--on", "ray")
    finally:
        ray.remove_node(node)
    assert "is not like the command's machine: models/vae.py (its code)" in line
    assert line.count("node ") == 1


@on_a_cluster
@pytest.mark.whole
def test_strange_nodes_that_come_later_get_no_runs(ray: Cluster, tmp_path: Path) -> None:
    known = tmp_path / "known"

    def wait(group: Group, report: Callable[[str, int], None], request: Request) -> dict[str, Outcome]:
        deadline = time.monotonic() + 100
        while not known.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        return {job.run_id: OK if known.exists() else failed("nobody knows of the nodes") for job in group}

    engine, work = on_the_cluster("run", tmp_path, wait)
    other = changed(tmp_path / "other", "models/ali.py", "# changed")
    broken = changed(
        tmp_path / "broken", "benchmarks/running/nodes.py", "raise ImportError('no such library')"
    )
    strangers: list[Any] = [ray.add_node(num_cpus=1, env_vars=strange) for strange in (other, broken)]
    shown = io.StringIO()  # who is told of both lets the others, on which all else waits, continue

    def look() -> None:
        while shown.getvalue().count(" gets no runs: it ") < 2 and not known.exists():
            time.sleep(0.05)
        known.touch()

    looking = threading.Thread(target=look, daemon=True)
    looking.start()
    try:
        outcomes = runner.run(work, engine, Console(file=shown, width=400))
    finally:
        known.touch()
        looking.join()
        for node in strangers:
            ray.remove_node(node)
    assert outcomes == {job.run_id: OK for job in work}, shown.getvalue()
    for told in (
        "is not like the command's machine: models/ali.py (its code)",
        "cannot run alibench (",
    ):
        assert shown.getvalue().count(f" gets no runs: it {told}") == 1, shown.getvalue()


@on_a_cluster
@pytest.mark.whole
def test_a_task_on_a_gpu_has_a_process_of_its_own(
    ray: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So a GPU's failure, after which CUDA refuses all else in a process, reaches no other run."""

    def process_of(
        group: Group, *shared: object
    ) -> dict[str, Outcome]:  # stands in for a task: there is no GPU here
        return {job.run_id: failed(os.getpid()) for job in group}

    (suite,) = loading.load("digits", ["resources.cpus=0.1"], ["ali", "gan", "vae"])
    monkeypatch.setattr(running_ray, "task", process_of)
    node = ray.add_node(num_cpus=1, num_gpus=1)
    try:
        engine = running_ray.Cluster("ray", "cuda", [suite])
        work = [Job("run", suite, name, 0, tmp_path, "cuda", ("alibench",)) for name in suite.models]
        outcomes = runner.run(work, engine, Console(quiet=True))
    finally:
        ray.remove_node(node)
    assert len(set(outcomes.values())) == 3
    assert all(outcome.reason.isdigit() for outcome in outcomes.values())
