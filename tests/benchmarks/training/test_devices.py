"""What a GPU does to a command: it fails, is full, is another's; there are several. Told without one."""

import itertools
import os
import re
import signal
import stat
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from importlib.metadata import PackageNotFoundError
from io import StringIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from rich.console import Console

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.config import loading, plugins
from alibench.benchmarks.data import datasets
from alibench.benchmarks.running import execute, forecast, jobs, provenance, runner, timing, torchrun, worker
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.running.local import Local, workers
from alibench.benchmarks.running.outcomes import OK, Outcome, Status, device_failed, failed
from alibench.benchmarks.training import counting, peers, tape
from alibench.benchmarks.training.outcomes import Failed
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.stopping import Request
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.data import Data, Split
from alibench.evaluation.features import extractors, perceptual
from alibench.evaluation.features.extractor import Extractor
from alibench.evaluation.metrics import fidelity, reconstruction, throughput
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject
from tests.conftest import build

CPU, CUDA = torch.device("cpu"), torch.device("cuda")
# what torch says is a page, of which the first line says what happened
ILLEGAL = "CUDA error: an illegal memory access was encountered\nCompile with `TORCH_USE_CUDA_DSA`.\n"
BUSY = "CUDA error: CUDA-capable device(s) is/are busy or unavailable\nCUDA errors might be reported later.\n"
# for a context, at a process's begin
FULL = "CUDA error: out of memory\nCUDA kernel errors might be reported later.\n"
UNKNOWN = "unknown device 'gpu'; did you mean 'cpu'?"
WAIT = "wait for the other command, or name another --device"


def work(out: Path, *names: str, seeds: int = 1, device: str = "cpu", kind: Any = "run") -> list[Job]:
    """Return jobs of digits."""
    (suite,) = loading.load("digits", ["steps=4"], names or ["ali"], seeds=seeds)
    each = itertools.product(suite.models, suite.training_seeds)
    return [Job(kind, suite, name, seed, out, device, ("test",)) for name, seed in each]


def done_here(group: Sequence[Job], do: worker.Do = execute.execute) -> Outcome:
    """Return the outcome of a worker in this process."""
    return worker.work(group, lambda run_id, steps: None, Request(), (), do)[group[0].run_id]


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*args: Any, **options: Any) -> Any:
        raise error

    return fail


# ---------------------------------------------------------------------------------------------- no memory


OTHERS = [
    torch.AcceleratorError(ILLEGAL),
    torch.AcceleratorError(FULL),
    NotImplementedError(),
    RuntimeError("shapes"),
]


@pytest.mark.parametrize("error", OTHERS, ids=repr)
def test_what_is_not_a_lack_of_memory_is_not_called_so(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "round", raising(error))
    with pytest.raises(type(error)) as raised:
        execute.execute(work(tmp_path), lambda run_id, steps: None)
    assert raised.value is error


@pytest.mark.parametrize(
    ("held", "said"),
    [(71e9, "another process holds 71 GB of it: wait for it, or name another --device; else "), (0.6e9, "")],
    ids=["much", "little"],
)
def test_a_gpu_that_another_process_fills_is_said_to_be(
    held: float, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, free, total = 68e9, 1e9, 69e9 + held
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (int(free), int(total)))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda device: int(own))
    error = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
    monkeypatch.setattr(execute, "train_together", raising(error))
    with pytest.raises(Failed) as raised:
        execute.execute(work(tmp_path, device="cuda"), lambda run_id, steps: None)
    said = f"no memory is left on cuda with batches of 100: {said}try --set batch=50, in a new folder"
    assert str(raised.value).startswith(said)


# -------------------- a device that fails


def test_a_device_that_fails_is_one_line_with_a_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trainer, "round", raising(torch.AcceleratorError(ILLEGAL)))
    outcome = done_here(work(tmp_path))
    assert str(outcome) == (
        "failed: the device failed: CUDA error: an illegal memory access was encountered: "
        "--resume resumes it from its last checkpoint"
    )
    assert device_failed({"it": outcome})


def test_the_line_is_a_plug_ins_where_its_code_did_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = tmp_path / "mine.py"
    mine.write_text(
        "import torch\nfrom alibench.models.ali import ALI\n\n\n"
        "class Mine(ALI):\n    name = title = 'mine'\n\n"
        "    def forward(self, batch, players):\n"
        f"        raise torch.AcceleratorError({ILLEGAL!r})\n"
    )
    with plugins.meanwhile():
        plugins.load(mine)
        said = str(done_here(work(tmp_path, "mine")))
        assert f"failed: {mine}, line 9, in forward: AcceleratorError: CUDA error" in said
        assert said.endswith("--resume resumes it from its last checkpoint")


@pytest.mark.parametrize("said", [BUSY, FULL], ids=["exclusive", "full"])
def test_a_gpu_that_is_anothers_says_to_wait(
    said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "set_device", raising(torch.AcceleratorError(said)))
    outcome = done_here(work(tmp_path, device="cuda:0"))
    assert outcome.status is Status.DEVICE_FAILED
    assert re.fullmatch(rf"CUDA error: [^\n]*: {WAIT}", outcome.reason)


def caused(group: Sequence[Job], *others: Any) -> dict[str, Outcome]:
    try:
        raise torch.AcceleratorError(ILLEGAL)
    except torch.AcceleratorError as error:
        raise RuntimeError("the compiler failed") from error


def test_a_failure_that_another_error_hides_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    group = work(tmp_path)
    assert str(done_here(group, caused)).startswith("failed: the device failed: the compiler failed: ")
    # cuDNN's and cuBLAS's errors are plain ones; whether CUDA still answers is seen by waiting for it
    plain = raising(RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"))
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    outcome = done_here(group, plain)
    assert str(outcome).startswith("failed: Traceback")
    assert not device_failed({"it": outcome, "other": OK})
    monkeypatch.setattr(torch.cuda, "synchronize", raising(torch.AcceleratorError(ILLEGAL)))
    outcome = done_here(group, plain)
    assert outcome.status is Status.DEVICE_FAILED
    assert outcome.reason.startswith("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED: --resume")


def once_broken(
    group: Sequence[Job], report: Callable[[str, int], None], request: Request
) -> dict[str, Outcome]:
    """Write down which process does a job; break seed 0's first try."""
    (job,) = group
    first = not list(job.out.glob("0-*"))
    (job.out / f"{job.seed}-{time.monotonic_ns()}").write_text(str(os.getpid()))
    if job.seed == 0 and first:
        raise torch.AcceleratorError(ILLEGAL)
    return {job.run_id: OK}


@pytest.mark.commands
@pytest.mark.parametrize("retries", [pytest.param(0, marks=pytest.mark.whole), 1])
def test_after_a_failure_of_the_device_no_job_gets_that_process(retries: int, tmp_path: Path) -> None:
    engine = Local(CPU, do=once_broken)
    engine.size = engine.queued = 1  # so that all would be done by it
    group = work(tmp_path, seeds=3)
    outcomes = runner.run(group, engine, Console(quiet=True), retries)
    lost, *others = outcomes.values()
    assert others == [OK, OK]
    assert lost == OK if retries else device_failed({"it": lost})
    first, *others = sorted(tmp_path.iterdir(), key=lambda path: path.stat().st_mtime_ns)
    assert first.name.startswith("0-")
    broken, later = first.read_text(), [path.read_text() for path in others]
    assert len(later) == 2 + retries
    assert len(set(later)) == 1  # one new process for all of them
    assert broken not in later


def test_a_broken_device_is_not_another_process_that_ended() -> None:
    with pytest.raises(torch.AcceleratorError), peers.reaching():
        raise torch.AcceleratorError(ILLEGAL)
    with pytest.raises(Failed, match="another process has ended"), peers.reaching():
        raise RuntimeError("Connection closed by peer")


def test_a_broken_device_ends_all_processes_of_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first takes no further job with it, and another one says it in a line."""
    line = r"the device failed: CUDA error: an illegal [^\n]*: --resume resumes it from its last checkpoint"
    monkeypatch.setattr(torchrun, "join", lambda: None)
    monkeypatch.setattr(execute, "_evaluate", raising(torch.AcceleratorError(ILLEGAL)))
    engine, (job,) = torchrun.Together(CPU), work(tmp_path, kind="evaluation")
    engine.begin([job])
    with pytest.raises(peers.Lost, match=f"^digits-ali-seed0 failed, so all processes end: {line}$"):
        engine.wait(SimpleNamespace(reach=lambda *told: None))
    monkeypatch.setattr(torchrun, "from_first", lambda: (job, ()))
    monkeypatch.setattr(torchrun, "_take_part", raising(torch.AcceleratorError(ILLEGAL)))
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with pytest.raises(peers.Lost, match=f"^process 0 ends: {line}$"):
            torchrun.follow()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


# ---------------------------------------------------------------------------------------------- which device


def test_a_worker_computes_on_its_device_and_repeatably(monkeypatch: pytest.MonkeyPatch) -> None:
    current = list[torch.device]()
    monkeypatch.setattr(torch.cuda, "set_device", current.append)
    monkeypatch.setattr(torch.backends.cudnn, "deterministic", False)
    worker.prepare(CPU)
    assert not torch.backends.cudnn.deterministic
    worker.prepare(CUDA)
    assert torch.backends.cudnn.deterministic
    assert current == []  # it is the current one already
    worker.prepare(torch.device("cuda:1"))
    assert current == [torch.device("cuda:1")]


def test_a_dry_run_times_on_the_device_and_leaves_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    current = [torch.device("cuda:0")]

    @contextmanager
    def device(chosen: torch.device):
        current.append(chosen)
        yield
        current.pop()

    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(forecast, "_foretell", lambda work, engine, needed: current[-1])
    assert forecast.foretell([], Local(torch.device("cuda:1")), 0) == torch.device("cuda:1")
    assert forecast.foretell([], Local(CPU), 0) == current[-1] == torch.device("cuda:0")


def seeing(
    group: Sequence[Job], report: Callable[[str, int], None], request: Request, together: int
) -> dict[str, Outcome]:
    """Return which GPU a worker sees, once so many see one."""
    job, seen = group[0], os.environ.get("CUDA_VISIBLE_DEVICES", "all")
    (job.out / seen).touch()
    while job.kind == "run" and len(list(job.out.iterdir())) < together:
        time.sleep(0.05)
    return {job.run_id: failed(f"{seen}, {job.device}") for job in group}


@pytest.mark.commands
@pytest.mark.parametrize("visible", ["5,GPU-ab12", pytest.param("", marks=pytest.mark.whole)])
def test_every_gpu_has_a_worker_that_sees_it_alone(
    visible: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    if not visible:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES")  # then they are counted
    first, second = visible.split(",") if visible else "01"
    said, kinds = StringIO(), ("run", "throughput")
    group = [job for kind in kinds for job in work(tmp_path, "ali", "vae", device="cuda", kind=kind)]
    outcomes = runner.run(group, Local(CUDA, do=partial(seeing, together=2)), Console(file=said, width=200))
    assert "4 runs on cuda, 2 at a time\n" in said.getvalue()
    trained, timed = list(outcomes.values())[:2], list(outcomes.values())[2:]
    assert set(trained) == {failed(f"{first}, cuda"), failed(f"{second}, cuda")}
    assert timed == [failed(f"{first}, cuda")] * 2  # speed is measured alone, and always on the same one
    assert os.environ.get("CUDA_VISIBLE_DEVICES", "") == visible


def test_a_named_gpu_has_the_only_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert [workers(torch.device(name)) for name in ("cuda", "cuda:1", "mps")] == [4, 1, 1]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert workers(CUDA) == 1


@pytest.mark.commands
@pytest.mark.whole
def test_stacked_seeds_are_one_at_a_time_on_any_number_of_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    said = StringIO()
    engine, group = Local(CUDA, do=partial(seeing, together=1)), work(tmp_path, seeds=3, device="cuda")
    runner.run(group, engine, Console(file=said, width=200))
    assert "3 runs on cuda, 1 at a time\n" in said.getvalue()


def test_seeds_are_not_stacked_in_bf16(tmp_path: Path) -> None:
    """The rule of torch.vmap for batch norm does not take bf16 numbers with fp32 statistics."""
    exact = work(tmp_path, seeds=3)
    assert [len(group) for group in jobs.grouped(exact, CUDA)] == [3]
    suite = exact[0].suite
    rounded = replace(suite, recipe=replace(suite.recipe, precision="bf16"))
    for device in (CUDA, torch.device("mps"), CPU):
        assert len(jobs.grouped([replace(job, suite=rounded) for job in exact], device)) == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
@pytest.mark.parametrize("device", ["cuda", "cuda:7", "cuda:x", "mps", "gpu"])
@pytest.mark.parametrize("command", ["run", "tune", "evaluate", "regression"])
def test_a_device_that_is_not_there_is_one_line(
    command: str, device: str, quick: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = {"run": ["digits"], "tune": ["digits"], "evaluate": [str(quick)], "regression": ["gate"]}
    assert main([command, *named[command], "--device", device, "--out", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    there = f"device '{device}' is not on this machine; usable here: "
    assert said.startswith(f"alibench: {there if device != 'gpu' else UNKNOWN}")
    assert said.count("\n") == 1
    assert not (tmp_path / "out").exists()


# -------------------- what is counted and told


def test_operations_are_counted_on_any_machine_whatever_computes_them(digits: Data) -> None:
    model, plain = build("ali"), Recipe(steps=1)
    expected = counting.flops_a_round(model, plain, digits.train)
    for recipe in (replace(plain, execution="graphs"), replace(plain, precision="bf16")):
        assert counting.flops_a_round(model, recipe, digits.train) == expected


def test_a_copy_without_git_and_installation_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(provenance.subprocess, "run", raising(FileNotFoundError("git")))
    monkeypatch.setattr(provenance, "version", raising(PackageNotFoundError("alibench")))
    assert provenance.commit.__wrapped__() == "no checkout; alibench is not installed"


SCRIPTS = {
    "two GPUs": "echo 580.9; echo 580.9",
    "it fails": "exit 9",
    "it hangs": "exec sleep 60",
    "not there": "",
}


@pytest.mark.parametrize("case", SCRIPTS)
def test_a_gpus_numbers_say_what_computed_them(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if script := SCRIPTS[case]:
        (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "nvidia-smi").chmod(stat.S_IRWXU)
    search = os.environ["PATH"] if script else ""
    monkeypatch.setenv("PATH", f"{tmp_path}:{search}")
    monkeypatch.setattr(provenance, "PATIENCE", 0.5 if "sleep" in script else 20.0)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H200")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 91300)
    provenance._driver.cache_clear()
    try:
        found = provenance.accelerator(CUDA)
    finally:
        provenance._driver.cache_clear()
    known = {"driver": "580.9"} if case == "two GPUs" else {}
    assert found == {"gpu": "NVIDIA H200", "cuda": "13.0", "cudnn": "91300"} | known
    assert provenance.accelerator(CPU) == {}


@pytest.mark.parametrize(
    ("device", "before", "protocol"),
    [(CPU, 0, "batch 7, 1 thread"), (CUDA, 5, "batch 7, cuda, tf32, graphs")],
)
def test_speed_on_an_accelerator_is_that_of_warm_calls(
    device: torch.device, before: int, protocol: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = list[None]()

    class Timer:
        def __init__(self, statement: str, globals: dict[str, Any], num_threads: int) -> None:
            assert (statement, num_threads) == ("work()", 1)

        def blocked_autorange(self, min_run_time: float) -> Any:
            assert len(calls) == before
            return SimpleNamespace(times=[0.5, 0.5])

    monkeypatch.setattr("torch.utils.benchmark.Timer", Timer)
    machine = throughput.Machine(device, "tf32", "graphs")
    rows = throughput.rate("train_rate", lambda: calls.append(None), 7, "batch 7", 0.1, machine)
    assert [(row.value, row.protocol) for row in rows] == [(14.0, protocol), (0.0, protocol)]


def test_a_dry_run_times_warm_rounds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a device that is not there: its generators and models are the CPU's, its clock counts rounds.

    On a CPU small rounds are recorded first; of long ones recording would spare little.
    """
    rounds, begun = list[None](), list[int]()
    job = work(tmp_path)[0]

    class Counted:
        model = None
        set_rate = staticmethod(lambda share: None)
        round = staticmethod(lambda: rounds.append(None))

    monkeypatch.setattr(timing, "MOMENT", 0.0)
    monkeypatch.setattr(timing, "generator", lambda seed, name, device: None)
    monkeypatch.setattr(timing.ALONE, "trainer", lambda *given: Counted)
    monkeypatch.setattr(timing, "Average", lambda model, decay: SimpleNamespace(update=lambda: None))
    meta = torch.device("meta")
    cases = ((CPU, 60.0, tape.WARM + 2), (CPU, 0.0, 1), (meta, 0.0, throughput.WARM))
    for device, warming, expected in cases:
        monkeypatch.setattr(timing, "WARMING", warming)
        rounds.clear()
        begun.clear()
        clock = timing.Clock(device)
        monkeypatch.setattr(clock, "_now", lambda: begun.append(len(rounds)) or time.perf_counter())
        clock._round([job], job.suite.build("ali", 0).phases[0], Recipe(steps=1))
        assert begun == [0, expected, expected + 1]


def test_the_round_that_is_recorded_is_not_taken_for_one_of_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rounds of 60 ms are warmed up for a second, which ends just before the slow one that records them."""
    job, now, rounds = work(tmp_path)[0], [0.0], list[None]()

    class Recording:
        model = None
        set_rate = staticmethod(lambda share: None)

        @staticmethod
        def round() -> None:
            rounds.append(None)
            now[0] += 0.8 if len(rounds) == tape.WARM + 1 else 0.06

    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: now[0]))
    monkeypatch.setattr(timing.ALONE, "trainer", lambda *given: Recording)
    monkeypatch.setattr(timing, "Average", lambda model, decay: SimpleNamespace(update=lambda: None))
    phase = job.suite.build("ali", 0).phases[0]
    assert timing.Clock(CPU)._round([job], phase, Recipe(steps=1)) == pytest.approx(0.06)
    assert len(rounds) > tape.WARM


# -------------------- measuring on a device


def test_lpips_is_computed_on_the_device_and_its_numbers_are_on_the_cpu(
    digits: Data, monkeypatch: pytest.MonkeyPatch
) -> None:
    place, seen = torch.device("meta"), set[tuple[torch.device, torch.device, torch.dtype]]()

    class Distance(torch.nn.Module):
        identity = "lpips"

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(1))

        def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
            seen.update((tensor.device, self.weight.device, tensor.dtype) for tensor in (x, y))
            return torch.full((len(x),), 0.25)

    monkeypatch.setattr(perceptual, "unsupported_reason", lambda data, settings: "")
    monkeypatch.setattr(perceptual, "load", lambda settings: Distance())
    few = replace(digits, test=Split(digits.test.x[:60], digits.test.y[:60]))
    for device in (place, CPU):
        seen.clear()
        given = ReferenceInput(few, Settings(), 4, range(1), lambda seed: build("ali", seed), device=device)
        found = [row.value for row in reconstruction.references(given) if row.metric == "lpips"]
        assert found == [0.25] * 3  # the mean, the class mean, PCA
        assert {where for *where_, _ in seen for where in where_} == {device}


@pytest.mark.parametrize(
    ("extractor", "device", "size"),
    [("classifier", "meta", 500), ("classifier", "cpu", 50), ("inception", "meta", 50), ("mine", "meta", 50)],
)
def test_only_the_small_classifier_takes_many_images_at_once_and_only_on_an_accelerator(
    extractor: str, device: str, size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes = list[int]()

    def network(images: torch.Tensor) -> tuple[torch.Tensor, None]:
        assert images.device.type == device
        sizes.append(len(images))
        return torch.rand(len(images), 2), None

    made = Extractor(f"{extractor} on {device}", "0" * 64, 2, network, torch.device(device))
    monkeypatch.setattr(extractors, "get", lambda data, settings, where: made)
    loaded = datasets.load("digits")
    many = Split(loaded.test.x.repeat(2, 1, 1, 1), loaded.test.y.repeat(2))
    settings, data = Settings(extractor=extractor), replace(loaded, test=many)
    fidelity.Against.of(data, settings, "test", torch.device(device))
    assert max(sizes) == size
    sizes.clear()
    fidelity.of_samples(Subject(build("gan"), data, settings, 0), made)
    assert max(sizes) == size
