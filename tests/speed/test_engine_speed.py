"""What a Ray cluster takes beside worker processes of this machine, and how it does with very many runs."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from ray import cloudpickle
from ray.cluster_utils import Cluster as Nodes
from rich.console import Console

from alibench.benchmarks.config import devices, loading, schema
from alibench.benchmarks.running import outputs, runner, worker
from alibench.benchmarks.running.engine import Engine, Group, Listener
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.local import Local
from alibench.benchmarks.running.outcomes import OK, Outcome
from alibench.benchmarks.running.ray import Cluster
from alibench.benchmarks.training.stopping import Request
from alibench.results import rows
from tests.speed import computing
from tests.speed.conftest import Speeds, cores

pytestmark = pytest.mark.speed
CPU = torch.device("cpu")
SECONDS, EACH, ROUNDS, RUNS = 30.0, 3, 3, 10_000
QUIET = Console(quiet=True)


@pytest.fixture
def nodes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Nodes]:
    """Start a cluster of one node with all cores of this machine, and let `--on ray` mean it."""
    made = Nodes(initialize_head=True, head_node_args={"num_cpus": cores(), "include_dashboard": False})
    monkeypatch.setenv("RAY_ADDRESS", made.address)
    yield made
    made.shutdown()


def work(suite: schema.Suite, out: Path) -> list[Job]:
    (out / "runs").mkdir(parents=True)
    (name,) = suite.models
    return [Job("run", suite, name, seed, out, "cpu", ("alibench",)) for seed in suite.training_seeds]


def test_overhead(nodes: Nodes, speeds: Speeds, tmp_path: Path) -> None:
    """Three runs a core, of half a minute each, by both engines in turn: from connecting to the last outcome.

    First runs that take so much time of a processor, whatever its clock does meanwhile; then trainings.
    """
    loaded = loading.load("digits", ["metrics=['reconstruction','svm']"], ["ali"], seeds=EACH * cores())
    (suite,) = devices.resolved(loaded, CPU)
    cloudpickle.register_pickle_by_value(computing)

    def seconds(name: str, suite: schema.Suite, out: Path, do: worker.Do = execute) -> float:
        todo, planned, start = work(suite, out), outputs.plan([suite], CPU, plugins={}), time.perf_counter()
        engine: Engine = Local(CPU, [suite], do) if name == "local" else Cluster("ray", "cpu", [suite], do)
        engine.check(todo, planned)
        outputs.write_plan(out, ["alibench"], planned)
        outcomes = runner.run(todo, engine, QUIET)
        assert set(outcomes.values()) == {OK}, outcomes
        return time.perf_counter() - start

    def compare(load: str, suite: schema.Suite, do: worker.Do = execute) -> None:
        taken = {"local": list[float](), "ray": list[float]()}
        for i in range(ROUNDS):
            for name, own in taken.items():
                own.append(seconds(name, suite, tmp_path / f"{load}-{name}{i}", do))
        local, ray = (np.array(taken[name]) for name in ("local", "ray"))
        figures = {"local_s": np.median(local), "local_high_over_low": max(local) / min(local)}
        figures |= {"ray_s": np.median(ray), "ratio": np.median(ray / local)}
        figures |= {"ratio_low": min(ray / local), "ratio_high": max(ray / local)}
        speeds.add("engines", load=load, runs=EACH * cores(), **figures)

    compare("computing", suite, partial(computing.compute, seconds=SECONDS))

    def of(steps: int) -> schema.Suite:
        return replace(suite, recipe=replace(suite.recipe, steps=steps))

    few, many = (seconds("local", of(steps), tmp_path / f"{steps}") for steps in (500, 3000))
    compare("training", of(round(500 + (EACH * SECONDS - few) / (many - few) * 2500)))


def test_many_runs(nodes: Nodes, speeds: Speeds, tmp_path: Path) -> None:
    """A plan of 10,000 runs in which nothing is trained: each task stores one real run's rows as its own."""
    (suite,) = loading.load(
        "digits", ["steps=4", "evaluation.draws=1", "evaluation.labels=50"], ["ali"], seeds=1
    )
    (real,) = work(suite, tmp_path / "real")
    assert execute([real], lambda run_id, steps: None) == {real.run_id: OK}
    origin, own = rows.read_origin(real.folder), rows.read_run(real.folder)

    def store(group: Group, report: Callable[[str, int], None], request: Request) -> dict[str, Outcome]:
        for job in group:
            job.folder.mkdir(parents=True, exist_ok=True)
            named = {"run_id": job.run_id, "seed": job.seed}
            rows.keep(job.folder, {**origin, **named}, [{**row, **named} for row in own])
            report(job.run_id, 4)
        return {job.run_id: OK for job in group}

    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    many, out = replace(suite, seeds=RUNS), tmp_path / "out"
    todo = work(many, out)
    plan = outputs.plan([many], CPU, plugins={}, runs=[job.run_id for job in todo])
    outputs.write_plan(out, ["alibench", "run", "digits"], plan)

    class Watched(Cluster):
        """Notes the memory of this process, the command's, as runs finish."""

        finished, memory = 0, dict[int, float]()

        def _outcome(self, ended: object, listener: Listener) -> dict[str, Outcome]:
            self.finished += 1
            if self.finished % 1000 == 0:
                self.memory[self.finished] = resident()
            return super()._outcome(ended, listener)

    start = time.perf_counter()
    engine = Watched("ray", "cpu", [many], store)
    engine.check(todo, plan)
    outcomes = runner.run(todo, engine, QUIET)
    scheduled = time.perf_counter() - start
    assert len(outcomes) == RUNS
    assert set(outcomes.values()) == {OK}

    start = time.perf_counter()
    collect = [sys.executable, "-m", "alibench", "collect", str(out)]
    process = subprocess.Popen(collect, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    said = process.stdout.read() if process.stdout else ""
    _, code, usage = os.wait4(process.pid, 0)
    collected = time.perf_counter() - start
    assert code == 0, said[-3000:]
    assert f"{RUNS} were there already" in said
    memory = engine.memory
    growth = float(np.polyfit(list(memory), list(memory.values()), 1)[0])
    figures = {"scheduled_s": scheduled, "runs_a_second": RUNS / scheduled, "collected_s": collected}
    figures |= {"together_s": scheduled + collected, "memory_at_1000_MB": memory[1000] / 1e6}
    figures |= {"memory_at_10000_MB": memory[RUNS] / 1e6, "growth_a_run_kB": growth / 1e3}
    speeds.add("scale", runs=RUNS, rows=RUNS * len(own), **figures, collect_peak_MB=usage.ru_maxrss / 1e3)


def resident() -> float:
    """Return the bytes of memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * float(os.sysconf("SC_PAGE_SIZE"))
