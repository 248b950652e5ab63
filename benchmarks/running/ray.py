"""A Ray cluster as engine: each job is a task, with the resources that its suite declares; `--on ray`, `--on
ray://HOST`.

Ray finds a place for each task and gives it to another worker when a worker or a node is lost; the job then
goes on from its checkpoint, since all see the same folder (local disk on one machine, NFS or another POSIX
file system on several). A lock in the run's folder keeps a node that was only thought to be lost from writing
beside the next one.

Ctrl-C cancels the tasks, which reaches the ones that run as SIGINT: they end after their step, with a
checkpoint.
"""

import os
import signal
import socket
import sys
import time
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import chdir, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any
from urllib.parse import urlsplit

import torch

from alibench.benchmarks.config import loading, plugins
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.data import cache
from alibench.benchmarks.running import jobs, outputs, provenance, worker
from alibench.benchmarks.running.engine import Group, Listener
from alibench.benchmarks.running.interpreters import inherited
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.training.stopping import Request
from alibench.evaluation.errors import BadInput
from alibench.results import differences

os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")  # what Ray will do by default, and warns of
try:
    import ray
    from ray.exceptions import GetTimeoutError, RayActorError, RayError, RayTaskError, TaskCancelledError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
except ImportError:
    raise BadInput("--on ray needs the package ray: pip install 'ray[client]'") from None

CLIENTS = 10001  # the port of ray://HOST, if none is named
# tasks that wait in Ray, at most: it asks for more nodes by them, and memory does not follow the plan
QUEUED = 1000
# times that a job may lose its worker, as is Ray's own default; one that kills it each time is given up
LOST = 3
# seconds between two looks at how far runs are, and which nodes are there; a run that ends is seen at once
TICK = 2.0
ANSWER = 120.0  # seconds for the nodes to start a worker each and look at what it sees
REACHED = 5.0  # seconds for an address to answer
SHOWN = 3  # nodes in a message


# -------------------- in a task's process


@dataclass(frozen=True)
class Asked:
    """What a node is asked whether it has; all of it as the command has it."""

    suites: Sequence[Suite]
    device: torch.device
    folder: str  # that paths were named in
    plugins: tuple[plugins.Plugin, ...]
    seen: Path  # a file in the folder that all write to
    weights: Sequence[Path]  # that are to be measured
    project: Mapping[str, str]  # hashes of files
    planned: Mapping[str, Any]


@dataclass(frozen=True)
class Sent:
    """What a task needs beside its jobs, kept once in Ray's store."""

    asked: Asked
    do: worker.Do
    progress: Any  # the actor


@dataclass(frozen=True)
class Refusal:
    """A task's answer from a node that cannot do it; another one has to."""

    node: str  # Ray's id of it
    problem: str


class Progress:
    """An actor that hears how far all tasks are, and is asked now and then."""

    def __init__(self) -> None:
        self.steps: dict[str, int] = {}

    def reach(self, run_id: str, steps: int) -> None:
        """Take note that a run has made so many steps."""
        self.steps[run_id] = steps

    def news(self) -> dict[str, int]:
        """Return what changed since this was last asked."""
        told, self.steps = self.steps, {}
        return told


_looked: list[str] = []  # what is wrong with this process's node, once it has been asked


def look(asked: Asked) -> str:
    """Say what keeps a node from doing jobs as the command would; nothing, if it can."""
    with suppress(OSError):
        os.chdir(asked.folder)  # if that is here too, so that paths mean the same
    here = provenance.project()
    if other := sorted(file for file in {*here, *asked.project} if here.get(file) != asked.project.get(file)):
        many = f" and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
        return f"has another version of alibench ({', '.join(other[:SHOWN])}{many}): install the same on every node"
    storage = asked.seen.parent
    if not (asked.seen.is_file() and os.access(storage, os.W_OK)):
        return f"cannot see, or not write, {storage}: name an --out on storage that all nodes share"
    if hidden := next((path for path in asked.weights if not path.is_file()), None):
        return f"cannot see {hidden}: evaluate a folder on storage that all nodes share"
    if asked.device.type == "cuda" and not torch.cuda.is_available():
        return "offers GPUs to Ray, but its torch finds no CUDA device"
    try:
        plugins.again(asked.plugins)
        plan = outputs.plan(asked.suites, asked.device, plugins=plugins.contents())
    except BadInput as problem:
        return f"refuses: {problem}"
    different = differences.differences({key: asked.planned[key] for key in plan}, plan, "there")
    return f"is not like the command's machine: {different}" if different else ""


def task(group: Group, sent: Sent) -> dict[str, str] | Refusal:
    """Do jobs; one that a lost worker had finished is not done again."""
    if not _looked:
        _looked.append(look(sent.asked))  # a node may have come after all others were asked
    if problem := _looked[0]:
        return Refusal(_own_node(), problem)
    request = Request()
    before = signal.signal(signal.SIGINT, request.take)  # which Ray's cancelling calls
    try:
        done = {job.run_id: outcome for job in group if (outcome := job.outcome())}
        left = [job for job in group if job.run_id not in done]
        told = sent.progress.reach.remote
        with cache.settled():
            return done | (worker.work(left, told, request, sent.asked.plugins, sent.do) if left else {})
    finally:
        signal.signal(signal.SIGINT, before)


# -------------------- in the command's


def _target(address: str) -> str:
    """Return an address with its port, as Ray takes it; nothing for "auto" and "local". Raises BadInput for
    what is none.
    """
    if address in ("auto", "local"):
        return ""
    client = address.startswith("ray://")
    named = urlsplit(address if client else f"//{address}")
    with suppress(ValueError):
        port = named.port or (CLIENTS if client else None)
        if named.hostname and port:
            return f"{'ray://' * client}{named.hostname}:{port}"
    raise BadInput(
        f"'{address}' is no address of a Ray cluster: name HOST:PORT in RAY_ADDRESS, or --on ray://HOST"
    )


def _connect(address: str) -> None:
    """Raises BadInput if there is no cluster, or one of another Ray or Python."""
    ray.shutdown()  # of an earlier command in this process
    client, known = address.startswith("ray://"), os.environ.get("RAY_ADDRESS", "auto")
    target, what = _target(address if client else known), f"--on {address}" if client else "RAY_ADDRESS"
    if target:
        host, _, port = target.removeprefix("ray://").rpartition(":")
        try:
            socket.create_connection((host, int(port)), REACHED).close()
        except OSError as error:
            raise BadInput(
                f"{what}: nobody answers at {host}:{port} ({error}): is the cluster up ('ray start --head'), "
                f"and the port right ({CLIENTS} is the default of ray://HOST)?"
            ) from None
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        # workers import from the folder that this is called in first: a models/ of the user's would hide what
        # is installed
        with inherited({}), chdir(sys.prefix), warnings.catch_warnings(action="ignore"):
            if target:
                ray.init(target, **quiet)
                return
            with suppress(ConnectionError):
                if known == "auto":
                    ray.init("auto", **quiet)  # the cluster that this machine is in
                    return
            ray.init("local", include_dashboard=False, **quiet)  # or one of this machine alone
    except (OSError, RuntimeError, ValueError, RayError, SystemExit) as error:
        told = next(iter(str(error).strip().splitlines()), type(error).__name__)
        token = "; where it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN" * client
        raise BadInput(f"--on {address}: Ray cannot be used: {told}{token}") from None


def _alive() -> dict[str, Mapping[str, Any]]:
    """Return the nodes that Ray has, as far as it knows."""
    return {node["NodeID"]: node for node in ray.nodes() if node["Alive"]}


def _named(node: Mapping[str, Any]) -> str:
    return f"{node['NodeManagerHostname']} ({node['NodeManagerAddress']}:{node['NodeManagerPort']})"


class Cluster:
    """All nodes that Ray has, and gets meanwhile."""

    def __init__(
        self,
        address: str,
        device: str | None,
        suites: Iterable[Suite],
        do: worker.Do = jobs.execute,
    ) -> None:
        _connect(address)
        ray._private.worker._worker_logs_enabled = (
            False  # Ray tells of a lost node on a page; `wait` does in a line
        )
        self.address, self.do = address, do
        self.nodes: dict[str, Mapping[str, Any]] = _alive()
        gpus = any(node["Resources"].get("GPU") for node in self.nodes.values())
        self.device = torch.device(device or ("cuda" if gpus else "cpu"))
        if self.device.type not in ("cpu", "cuda") or self.device.index is not None:
            self.end()
            raise BadInput(f"--device {self.device}: Ray gives each run a device by itself: say cpu or cuda")
        self.suites: list[Suite] = list(suites)
        self.strange: dict[str, str] = {}  # nodes that get no runs, and why
        self.able: dict[str, int] = self._able()
        if not self.able:
            lack = self._lack()
            self.end()
            raise BadInput(
                f"--on {address}: no node of {len(self.nodes)} can do a run on {self.device}: {lack}; "
                "add a node, choose another --device, or set resources.cpus, .memory or .gpus"
            )
        self.doing: dict[Any, tuple[Group, set[str]]] = {}  # the nodes that it is kept from
        self.looking: dict[Any, str] = {}  # at nodes that came later
        self.asked: Asked  # by check
        # on a GPU each task has a process of its own, as is Ray's default: one that CUDA has failed in does
        # no other
        self.task: Any = ray.remote(max_calls=1)(task) if self.device.type == "cuda" else ray.remote(task)
        self.sent: Any = None  # in Ray's store, with the first group
        self.progress: Any = None
        self.looked: float = 0.0
        self.stopped: bool = False

    @property
    def size(self) -> int:
        """As many as the nodes have room for that are there now."""
        return sum(self.able.values())

    @property
    def queued(self) -> int:
        """Those, and as many as wait."""
        return self.size + QUEUED

    @property
    def where(self) -> str:
        """So many nodes."""
        return f" on {len(self.able)} node{'s' * (len(self.able) > 1)} of a Ray cluster"

    @property
    def _wanted(self) -> dict[str, float]:
        """What the largest run takes, by Ray's names."""
        taken = [suite.resources for suite in self.suites]
        gpus = {"GPU": max(own.gpus for own in taken)} if self.device.type == "cuda" else {}
        return {
            "CPU": max(own.cpus for own in taken),
            "memory": max(own.memory for own in taken) * 1e9,
            **gpus,
        }

    def _able(self) -> dict[str, int]:
        """Return how many runs each node does at a time, of those that can do any."""
        able = {
            node_id: min(
                int(node["Resources"].get(kind, 0.0) / amount) for kind, amount in self._wanted.items()
            )
            for node_id, node in self.nodes.items()
            if node_id not in self.strange
        }
        return {node_id: count for node_id, count in able.items() if count}

    def _lack(self) -> str:
        """Say why no node can do a run."""
        units = {"CPU": "cores", "memory": "bytes of memory", "GPU": "of a GPU"}
        for kind, amount in self._wanted.items():
            most = max(node["Resources"].get(kind, 0.0) for node in self.nodes.values())
            if most < amount:
                return f"a run takes {amount:g} {units[kind]}, the largest node has {most:g}"
        return "none has all that a run takes"

    @property
    def _process(self) -> dict[str, Any]:
        """What a worker's process is started with."""
        kept = {name: os.environ[name] for name in ("ALIBENCH_DATA",) if name in os.environ}
        return {"env_vars": {**worker.environment(self.device), **kept}}

    def check(self, work: Sequence[Job], planned: Mapping[str, Any]) -> None:
        """Ask each node for its storage, project, libraries and data, and compare. Raises BadInput naming
        nodes.
        """
        out = work[0].out.absolute()
        storage = next(parent for parent in (out, *out.parents) if parent.is_dir())
        self.asked = Asked(
            [loading.of_plan(table) for table in planned["suites"].values()],  # as they will be trained
            self.device,
            os.getcwd(),
            tuple(plugins.LOADED),
            out / outputs.PLAN,
            [job.weights for job in work if job.weights],
            provenance.project(),
            planned,
        )
        try:
            with NamedTemporaryFile(dir=storage, prefix=".alibench-", suffix=".part") as sign:
                asked = ray.put(replace(self.asked, seen=Path(sign.name)))
                answers = {node: self._ask(node, asked) for node in self.able}
                _, late = ray.wait(list(answers.values()), num_returns=len(answers), timeout=ANSWER)
                problems = {node: _problem(answer, answer in late) for node, answer in answers.items()}
            there = (
                _alive()
            )  # Ray takes a quarter of a minute to notice that a node is lost, and then it answers nothing
            self.nodes = {node_id: node for node_id, node in self.nodes.items() if node_id in there}
            self.able = self._able()
            if told := "; ".join(self._told({node: problems[node] for node in self.able})):
                raise BadInput(f"--on {self.address}: {told}")
            if not self.able:
                raise BadInput(
                    f"--on {self.address}: all nodes were lost meanwhile: try again when they are back"
                )
        except BaseException:
            self.end()
            raise

    def _ask(self, node: str, asked: Any) -> Any:
        """Begin to look at a node; return what its answer will be."""
        there = NodeAffinitySchedulingStrategy(node, soft=False)
        looking: Any = ray.remote(look)
        on_it = looking.options(
            num_cpus=0, max_retries=LOST, runtime_env=self._process, scheduling_strategy=there
        )
        return on_it.remote(asked)

    def _told(self, problems: Mapping[str, str]) -> Iterator[str]:
        """Yield each problem once, with the nodes that have it."""
        for problem in dict.fromkeys(filter(None, problems.values())):
            names = [_named(self.nodes[node]) for node, own in problems.items() if own == problem]
            many = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
            yield f"node {', '.join(names[:SHOWN])}{many} {problem}"

    def grouped(self, work: Iterable[Job]) -> list[Group]:
        """Each by itself: Ray lets small runs share a GPU, by the share of one that their suite declares."""
        return [[job] for job in work]

    def begin(self, group: Group) -> None:
        """Make a task of it."""
        if self.sent is None:
            here = {"scheduling_strategy": NodeAffinitySchedulingStrategy(_own_node(), soft=True)}
            progress = ray.remote(Progress).options(num_cpus=0, max_restarts=-1, **here).remote()
            self.sent, self.progress = ray.put(Sent(self.asked, self.do, progress)), progress
        group = [replace(job, out=job.out.absolute()) for job in group]
        taken, avoided = group[0].suite.resources, set(self.strange)
        where: dict[str, Any] = {}
        if group[0].kind == "throughput" and self.able:
            where = {"scheduling_strategy": NodeAffinitySchedulingStrategy(self._timing_node(), soft=True)}
        elif avoided:
            where = {"label_selector": {"ray.io/node-id": f"!in({','.join(sorted(avoided))})"}}
        run = self.task.options(
            # not the run's own: Ray keeps count by names, for ever
            name=f"{group[0].suite.name}-{group[0].name}",
            runtime_env=self._process,
            num_cpus=taken.cpus,
            num_gpus=taken.gpus if self.device.type == "cuda" else 0,
            memory=taken.memory * 1e9,
            max_retries=LOST,
            **where,
        )
        self.doing[run.remote(group, self.sent)] = group, avoided

    def _timing_node(self) -> str:
        """Return the node that measures speed: one for all models, so that these numbers can be compared."""
        return min(self.able, key=lambda node: _named(self.nodes[node]))

    def wait(self, listener: Listener, bell: socket.socket) -> list[dict[str, str]]:
        """Wait a moment for a task to end; say which nodes are lost, and which are new."""
        tasks = list(self.doing)
        ready, _ = ray.wait(tasks, num_returns=1, timeout=TICK)
        if ready:
            ready, _ = ray.wait(tasks, num_returns=len(tasks), timeout=0)
        if time.monotonic() > self.looked + TICK:
            self._look_around(listener)
        outcomes = [self._outcome(each, listener) for each in ready]
        return [outcome for outcome in outcomes if outcome]

    def _look_around(self, listener: Listener) -> None:
        self.looked = time.monotonic()
        with suppress(RayActorError, GetTimeoutError):
            for run_id, steps in ray.get(self.progress.news.remote(), timeout=REACHED).items():
                listener.reach(run_id, steps)
        there = _alive()
        for node_id in self.nodes.keys() - there.keys():
            if not self.strange.pop(node_id, ""):
                listener.say(
                    f"node {_named(self.nodes[node_id])} is lost: its runs go on elsewhere, from their "
                    "checkpoints"
                )
        for node_id in there.keys() - self.nodes.keys():
            self.strange[node_id] = "has not answered yet"
            self.looking[self._ask(node_id, self.asked)] = node_id
        self.nodes = there
        for answer in [answer for answer in self.looking if ray.wait([answer], timeout=0)[0]]:
            node_id = self.looking.pop(answer)
            if problem := _problem(answer, late=False):
                self._shun(node_id, problem, listener)
            elif self.strange.pop(node_id, ""):
                listener.say(f"node {_named(self.nodes[node_id])} has come")
        self.able = self._able()

    def _shun(self, node_id: str, problem: str, listener: Listener) -> None:
        """Give a node no more runs."""
        if node_id in self.nodes and self.strange.get(node_id) != problem:
            self.strange[node_id] = problem
            self.able = self._able()
            listener.say(f"node {_named(self.nodes[node_id])} gets no runs: it {problem}")

    def _outcome(self, ended: Any, listener: Listener) -> dict[str, str]:
        """Return what became of a group; nothing if it was on a strange node and is begun again, elsewhere."""
        group, avoided = self.doing.pop(ended)
        elsewhere = False
        try:
            given: dict[str, str] | Refusal = ray.get(ended)
            if not isinstance(given, Refusal):
                return {job.run_id: sys.intern(given[job.run_id]) for job in group}  # one "ok" for all
            if given.node not in self.nodes:
                self._look_around(listener)  # it has come only now
            self._shun(given.node, given.problem, listener)
            told, elsewhere = f"failed: its node {given.problem}", True
        except TaskCancelledError:
            told = worker.STOPPED
        except (
            RayTaskError
        ) as error:  # no fault of a job, all of which are outcomes: its node cannot even begin
            self._look_around(listener)
            told, elsewhere = f"failed: {_line(error)}", not self.strange.keys() <= avoided
        except RayError as error:
            told = f"failed: its worker was lost {LOST + 1} times, the last time so: {_line(error)}"
        if elsewhere and self.stopped:
            told = worker.STOPPED
        elif elsewhere and self.able:
            self.begin(group)
            return {}
        return {job.run_id: told for job in group}

    def stop(self) -> None:
        """Cancel all tasks."""
        self.stopped = True
        for each in list(self.doing):
            ray.cancel(each)

    def end(self) -> None:
        """Leave the cluster, which ends what still runs."""
        ray.shutdown()


def _problem(answer: Any, late: bool) -> str:
    """Return what a node says that keeps it from doing jobs, or why it says nothing."""
    if late:
        return f"has not answered in {ANSWER:.0f} s"
    try:
        return str(ray.get(answer))
    except RayError as error:
        return f"cannot run alibench ({_line(error)}): install the same version on every node"


def _own_node() -> str:
    return str(ray.get_runtime_context().get_node_id())


def _line(error: BaseException) -> str:
    """Return the last line of an error of Ray's, which says most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(error).__name__
