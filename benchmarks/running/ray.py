"""`--on ray` and `--on ray://HOST`: every job is a task of a Ray cluster, with the resources of its suite.

Ray finds a place for each task, and begins it again elsewhere when its worker or node is lost; the job
resumes from its checkpoint, since all nodes see the same folder. A lock there keeps a node that was only
thought to be lost from writing next to the new one. Ctrl-C reaches the tasks as SIGINT.
"""

import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterable, Mapping, Sequence
from contextlib import chdir
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import urlsplit

import torch

from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.data import cache
from alibench.benchmarks.running import nodes, outputs, worker
from alibench.benchmarks.running.engine import Group, Listener
from alibench.benchmarks.running.execute import execute
from alibench.benchmarks.running.interpreters import inherited
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.outcomes import STOPPED, Outcome, failed
from alibench.benchmarks.training.stopping import Request
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import listed

# Ray's coming default, of which it warns: a task without GPUs sees them, as nodes are asked by such tasks.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
try:
    import ray
    from ray.exceptions import GetTimeoutError, RayError, RayTaskError, TaskCancelledError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise BadInput("--on ray needs the package ray: pip install 'ray[client]'") from None

CLIENT_PORT = 10001  # of ray://HOST
QUEUED = 1000  # tasks that wait in Ray, at most, so that memory does not follow the plan
LOST = 3  # times that a job may lose its worker, as is Ray's own default
TICK = 2.0  # seconds between two looks at the nodes; a run that ends is seen at once
ANSWER = 120.0  # seconds for the nodes to start a worker each and to check themselves
REACHED = 5.0  # seconds for an address to answer


# -------------------- on a node


_problems: list[str] = []  # of this process's node, once it is checked


def task(group: Group, needs: nodes.Requirements, do: worker.Do) -> dict[str, Outcome] | str:
    """Do jobs, but those that a lost worker had finished; return their outcomes, or the node's problem."""
    if not _problems:
        # This node may have joined after all others were checked.
        _problems.append(nodes.problem(needs))
    if _problems[0]:
        return _problems[0]

    # Ray cancels a task by SIGINT.
    request = Request()
    before = signal.signal(signal.SIGINT, request.take)
    try:
        done = {job.run_id: outcome for job in group if (outcome := job.outcome())}
        left = [job for job in group if job.run_id not in done]
        with cache.settled():
            return done | (worker.work(left, _silent, request, needs.sources, do) if left else {})
    finally:
        signal.signal(signal.SIGINT, before)


def _silent(run_id: str, steps: int) -> None:
    """Report no steps: a cluster's display counts runs."""


# -------------------- in the command's process


def _connect(on: str) -> None:
    """Connect to the cluster, or start one of this machine alone where there is none.

    Raises BadInput if nobody answers at the address, or if the cluster has another Ray or Python.
    """
    ray.shutdown()  # of an earlier command in this process
    client = on.startswith("ray://")
    target = on if client else os.environ.get("RAY_ADDRESS", "auto")

    # Ray itself would wait for minutes.
    if target not in ("auto", "local"):
        parts = urlsplit(target if client else f"//{target}")
        try:
            port = parts.port or (CLIENT_PORT if client else 0)
            socket.create_connection((parts.hostname or "", port), REACHED).close()
        except (OSError, ValueError) as error:
            problem = f"{f'--on {on}' if client else 'RAY_ADDRESS'}: nobody answers at {parts.netloc}"
            raise BadInput(f"{problem} ({error}): is the cluster up ('ray start --head')?") from None
        target = f"{'ray://' * client}{parts.hostname}:{port}"

    # Workers import from the folder that this is called in: a models/ of the user's would hide ours.
    options: dict[str, Any] = {} if client else {"include_dashboard": False}
    options |= {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        with inherited({}), chdir(sys.prefix), warnings.catch_warnings(action="ignore"):
            ray.init(None if target in ("auto", "local") else target, **options)
    except (OSError, RuntimeError, ValueError, RayError, SystemExit) as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        token = "; where it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" * client
        raise BadInput(f"--on {on}: Ray cannot be used: {reason}{token}") from None


def _last_line(error: BaseException) -> str:
    """Return the last line of an error of Ray's, which says most."""
    return str(error).strip().rpartition("\n")[2].strip()[:300] or type(error).__name__


@dataclass
class Node:
    """A node of a Ray cluster."""

    name: str
    room: int  # runs at a time
    problem: str = ""  # why it gets no runs


class Cluster:
    """All nodes of a Ray cluster; those that join it later are checked where a task fails on one."""

    def __init__(self, on: str, device: str | None, suites: Iterable[Suite], do: worker.Do = execute) -> None:
        if device not in (None, "cpu", "cuda"):
            raise BadInput(f"--device {device}: Ray gives each run a device by itself: say cpu or cuda")
        _connect(on)
        gpus = ray.cluster_resources().get("GPU")
        self.on, self.do, self.device = on, ray.put(do), torch.device(device or ("cuda" if gpus else "cpu"))

        # What the largest run takes, by Ray's names.
        resources = [suite.resources for suite in suites]
        self.taken = {"CPU": max(each.cpus for each in resources)}
        self.taken["memory"] = max(each.memory for each in resources) * 1e9
        if self.device.type == "cuda":
            self.taken["GPU"] = max(each.gpus for each in resources)

        # On a GPU each task has a process of its own: one in which CUDA has failed does no other run.
        self.task: Any = ray.remote(max_calls=1)(task) if self.device.type == "cuda" else ray.remote(task)
        self.nodes = self._alive()
        self.running: dict[Any, tuple[Group, set[str]]] = {}  # tasks -> their jobs, and the nodes they avoid
        self.needs: Any = None  # Requirements in Ray's store
        self.looked, self.stopped = 0.0, False
        if not self.size:
            self.end()
            taken = ", ".join(f"{amount:g} {kind}" for kind, amount in self.taken.items())
            problem = f"no node has room for a run on {self.device}: it takes {taken}"
            raise BadInput(f"--on {on}: {problem}; add a node, or set resources.cpus, .memory or .gpus")

    def _alive(self) -> dict[str, Node]:
        """Return the nodes that Ray knows and that have room for a run, by their ids."""
        alive = {}
        for info in ray.nodes():
            room = min(int(info["Resources"].get(kind, 0) / self.taken[kind]) for kind in self.taken)
            if info["Alive"] and room:
                address = f"{info['NodeManagerAddress']}:{info['NodeManagerPort']}"
                alive[info["NodeID"]] = Node(f"{info['NodeManagerHostname']} ({address})", room)
        return alive

    @property
    def able(self) -> dict[str, Node]:
        """The nodes that get runs."""
        return {node_id: node for node_id, node in self.nodes.items() if not node.problem}

    @property
    def size(self) -> int:
        """The number of runs that the present nodes do at a time."""
        return sum(node.room for node in self.able.values())

    @property
    def queued(self) -> int:
        """The number of runs that are begun, be it to wait in Ray."""
        return self.size + QUEUED

    @property
    def where(self) -> str:
        """What follows "so many at a time"."""
        return f" on {len(self.able)} node{'s' * (len(self.able) > 1)} of a Ray cluster"

    # -------------------- which nodes can do runs

    def check(self, work: Sequence[Job], planned: Mapping[str, Any]) -> None:
        """Check the storage, code, libraries and data of each node. Raises BadInput that names the nodes."""
        out = work[0].out.absolute()
        needs = nodes.Requirements(planned, out / outputs.PLAN)
        try:
            # There is no plan.json yet: a file of the moment stands for it.
            storage = next(parent for parent in (out, *out.parents) if parent.is_dir())
            with NamedTemporaryFile(dir=storage, prefix=".alibench-", suffix=".part") as sign:
                self.needs = ray.put(replace(needs, seen=Path(sign.name)))
                self._ask(self.nodes)

            lines = []
            for problem in dict.fromkeys(node.problem for node in self.nodes.values() if node.problem):
                names = [node.name for node in self.nodes.values() if node.problem == problem]
                lines.append(f"node {listed(names)} {problem}")
            if lines:
                raise BadInput(f"--on {self.on}: {'; '.join(lines)}")
        except BaseException:
            self.end()
            raise
        self.needs = ray.put(needs)

    @property
    def _environment(self) -> dict[str, Any]:
        """What a worker's process is started with."""
        home = {name: os.environ[name] for name in ("ALIBENCH_DATA",) if name in os.environ}
        return {"env_vars": {**worker.environment(self.device), **home}}

    def _ask(self, asked: Mapping[str, Node]) -> None:
        """Let nodes check themselves, all at once, and keep their problems."""
        answers = {}
        for node_id in asked:
            there = NodeAffinitySchedulingStrategy(node_id, soft=False)
            options = {"num_cpus": 0, "max_retries": LOST, "runtime_env": self._environment}
            question: Any = ray.remote(nodes.problem)
            answers[node_id] = question.options(scheduling_strategy=there, **options).remote(self.needs)

        deadline = time.monotonic() + ANSWER
        for node_id, answer in answers.items():
            try:
                asked[node_id].problem = ray.get(answer, timeout=max(1.0, deadline - time.monotonic()))
            except GetTimeoutError:
                asked[node_id].problem = f"has not answered in {ANSWER:.0f} s"
            except RayError as error:
                reason = f"cannot run alibench ({_last_line(error)})"
                asked[node_id].problem = f"{reason}: install the same version on every node"

    def _look_around(self, listener: Listener) -> dict[str, Node]:
        """Report nodes that are lost; return those that have joined."""
        alive = self._alive()
        for node_id in self.nodes.keys() - alive.keys():
            name = self.nodes.pop(node_id).name
            listener.say(f"node {name} is lost: its runs resume elsewhere, from their checkpoints")
        return {node_id: node for node_id, node in alive.items() if node_id not in self.nodes}

    # -------------------- the runs

    def grouped(self, work: Iterable[Job]) -> list[Group]:
        """Return each job by itself: Ray lets small runs share a GPU, by what their suite declares."""
        return [[job] for job in work]

    def begin(self, group: Group) -> None:
        """Make a task of a group."""
        # Speed is measured on one node for all models, so that it can be compared.
        avoided, where = self.nodes.keys() - self.able.keys(), dict[str, Any]()
        if group[0].kind == "throughput" and self.able:
            first = min(self.able, key=lambda node_id: self.nodes[node_id].name)
            where = {"scheduling_strategy": NodeAffinitySchedulingStrategy(first, soft=True)}
        elif avoided:
            where = {"label_selector": {"ray.io/node-id": f"!in({','.join(sorted(avoided))})"}}

        resources = group[0].suite.resources
        run = self.task.options(
            name=f"{group[0].suite.name}-{group[0].name}",  # not the run's: Ray counts by names, for ever
            runtime_env=self._environment,
            num_cpus=resources.cpus,
            num_gpus=resources.gpus if self.device.type == "cuda" else 0,
            memory=resources.memory * 1e9,
            max_retries=LOST,
            **where,
        )
        group = [replace(job, out=job.out.absolute()) for job in group]
        self.running[run.remote(group, self.needs, self.do)] = group, avoided

    def wait(self, listener: Listener) -> list[dict[str, Outcome]]:
        """Wait a moment for a task to end; return the outcomes of those that have."""
        tasks = list(self.running)
        first, _ = ray.wait(tasks, num_returns=1, timeout=TICK)
        ready = first and ray.wait(tasks, num_returns=len(tasks), timeout=0)[0]
        if time.monotonic() > self.looked + TICK:
            self.looked = time.monotonic()
            self._look_around(listener)
        return [outcomes for each in ready if (outcomes := self._outcome(each, listener))]

    def _outcome(self, ended: Any, listener: Listener) -> dict[str, Outcome]:
        """Return the outcomes of a task's jobs; nothing if it has begun again on another node."""
        group, avoided = self.running.pop(ended)
        again = False
        try:
            result: dict[str, Outcome] | str = ray.get(ended)
            if isinstance(result, dict):
                return {job.run_id: result[job.run_id] for job in group}
            outcome, again = failed(f"its node {result}"), True
        except TaskCancelledError:
            outcome = STOPPED
        except RayTaskError as error:
            # A job's own errors are outcomes: this node could not even begin.
            outcome, again = failed(_last_line(error)), True
        except RayError as error:
            outcome = failed(f"its worker was lost {LOST + 1} times, the last time so: {_last_line(error)}")

        # The node may have joined since all were checked.
        if again and not self.stopped:
            joined = self._look_around(listener)
            self._ask(joined)
            self.nodes |= joined
            for node in (node for node in joined.values() if node.problem):
                listener.say(f"node {node.name} gets no runs: it {node.problem}")
            if self.able and not self.nodes.keys() - self.able.keys() <= avoided:
                self.begin(group)
                return {}
        return {job.run_id: STOPPED if again and self.stopped else outcome for job in group}

    def stop(self) -> None:
        """Cancel all tasks."""
        self.stopped = True
        for each in list(self.running):
            ray.cancel(each)

    def end(self) -> None:
        """Leave the cluster, which ends what still runs."""
        ray.shutdown()
