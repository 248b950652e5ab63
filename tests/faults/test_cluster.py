"""A grid on several nodes of a Ray cluster ends as ever, though a node and the command are killed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest
from ray.cluster_utils import Cluster

from alibench.benchmarks.running import jobs
from alibench.results import rows
from tests.faults.trial import LIMIT, ROOT

pytestmark = [pytest.mark.faults, pytest.mark.whole]
MODELS, SEEDS, NODES, STEPS = ("ali", "bigan", "gan", "vae"), 4, 3, 100
LOST = " is lost: its runs resume elsewhere, from their checkpoints"
SETTINGS = (f"steps={STEPS}", "batch=16", "evaluation.labels=50", 'metrics=["reconstruction","svm"]')


@pytest.fixture
def cluster() -> Iterator[Cluster]:
    """Start a cluster of one-core nodes, next to one that does no work; all are processes of this machine."""
    # else 15 s till Ray knows of a lost node
    quick = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500}
    head = {"num_cpus": 0, "include_dashboard": False, "_system_config": quick}
    made = Cluster(initialize_head=True, head_node_args=head)
    for _ in range(NODES):
        made.add_node(num_cpus=1)
    yield made
    made.shutdown()


def start(out: Path, *more: str, address: str = "") -> "subprocess.Popen[bytes]":
    command = [sys.executable, "-m", "alibench", "run", "digits", "--models", *MODELS, "--seeds", str(SEEDS)]
    command += ["--device", "cpu", "--checkpoint-every", "0", "--out", str(out), *more]
    command += [part for setting in SETTINGS for part in ("--set", setting)]
    with out.with_suffix(".said").open("ab") as said:
        environment = os.environ | {"RAY_ADDRESS": address} if address else None
        options = {"cwd": ROOT, "env": environment, "start_new_session": True}
        return subprocess.Popen(command, stdout=said, stderr=said, **options)


def numbers(out: Path) -> pd.DataFrame:
    frame = rows.read(out)
    return frame[frame.kind != "timing"].reset_index(drop=True)


def finished(out: Path) -> int:
    return len(list(out.glob("runs/*-seed*/rows.json")))


def amid(out: Path) -> set[str]:
    """Return the runs that have made some of their steps, and have a quarter of them to make yet."""
    paths = out.glob("runs/*/checkpoints/round-*.safetensors")
    return {path.parent.parent.name for path in paths if int(path.stem.removeprefix("round-")) < 0.75 * STEPS}


def until(out: Path, process: "subprocess.Popen[bytes]", condition: Callable[[], bool]) -> None:
    """Wait for a moment in the life of a command."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline
        assert process.poll() is None, out.with_suffix(".said").read_text()[-3000:]
        time.sleep(0.05)


def test_a_grid_outlives_a_node_and_its_command(cluster: Cluster, tmp_path: Path) -> None:
    local, out = tmp_path / "local", tmp_path / "cluster"
    assert start(local).wait(LIMIT) == 0, local.with_suffix(".said").read_text()[-3000:]

    process, said = start(out, "--on", "ray", address=cluster.address), out.with_suffix(".said")
    until(out, process, lambda: len(amid(out)) >= NODES)  # all nodes train
    begun = amid(out)
    cluster.remove_node(sorted(cluster.worker_nodes, key=lambda node: node.node_id)[0], allow_graceful=False)
    until(out, process, lambda: LOST in said.read_text())
    until(out, process, lambda: finished(out) >= 6)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    before = finished(out)
    assert before < len(MODELS) * SEEDS

    process = start(out, "--on", "ray", "--resume", address=cluster.address)
    assert process.wait(LIMIT) == 0, said.read_text()[-3000:]
    text = said.read_text()
    assert f"on {NODES} nodes of a Ray cluster" in text
    assert f"on {NODES - 1} nodes of a Ray cluster" in text
    assert finished(out) == len(MODELS) * SEEDS
    found = numbers(out)
    assert not found.duplicated(list(rows.KEY)).any()
    pd.testing.assert_frame_equal(found, numbers(local))
    stored = {path.parent.name: rows.read_origin(path.parent) for path in out.glob("runs/*/run.json")}
    went_on = [run for run, about in stored.items() if about["resumed"]]
    assert begun & set(went_on)  # one that the lost node was training
    assert not list(out.rglob("*.part"))
    assert not list(out.glob(f"runs/*/{jobs.CHECKPOINTS}"))
    print(f"\n{before} runs were finished when the command was killed; resumed were {sorted(went_on)}")
