"""What one worker does: a run (train, evaluate, store), an evaluation alone, reference rows, or a run's
throughput.

A job is finished when its rows are stored. One that was interrupted goes on where it was: a training from its
checkpoint, an evaluation from the trained model.
"""

import shutil
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from alibench.benchmarks.config import blame, compute, plugins
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.running import provenance, tracking, trained
from alibench.benchmarks.training import checkpoints, counting
from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.loop import Diverged, Trained, train_together
from alibench.benchmarks.training.recipe import steps_of
from alibench.benchmarks.training.stopping import Request
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation import files, pictures
from alibench.evaluation.arithmetic import tf32
from alibench.evaluation.messages import say
from alibench.evaluation.metrics import METRICS, measure, throughput
from alibench.evaluation.seeds import generator
from alibench.evaluation.subject import Baseline, Measurement, Subject
from alibench.models import REGISTRY
from alibench.models.base import Model
from alibench.results import rows, stored
from alibench.results.layouts import BUDGET

Split = Literal["validation", "test"]
LOCK, CHECKPOINTS = ".lock", "checkpoints"  # in a run's folder
LOCK_WAIT = (
    120.0  # seconds for the worker of a killed command to end, and for the server of a network disk to see it
)
ELSEWHERE = "it was trained elsewhere"
CONSIDERABLE = 2e9  # bytes of a GPU: more than the context and the libraries of one process take
STACKED_BELOW = (
    2e10  # operations a round: a fifth of ALI's on CIFAR-10. A guess: no GPU has been measured yet
)


class Failed(Exception):
    """A job cannot be done, for a reason that is no mistake in the code; the message is one line with the
    remedy.
    """


@dataclass(frozen=True)
class Job:
    """One folder of results below `out`."""

    kind: Literal["run", "evaluation", "references", "throughput"]
    suite: Suite
    name: str  # of the entry
    seed: int
    out: Path
    device: str
    command: tuple[str, ...]
    split: Split = "test"
    weights: Path | None = None  # of an earlier run; only an evaluation has them, of what was trained here
    step: int | None = None  # that they were trained to
    every: float = checkpoints.EVERY  # seconds between checkpoints
    tensorboard: bool = False  # its curves go there, too, below out

    @property
    def run_id(self) -> str:
        """The folder's name."""
        ending = {"run": f"seed{self.seed}", "evaluation": f"seed{self.seed}", "throughput": "throughput"}
        return "-".join(
            [self.suite.name, *([self.name, ending[self.kind]] if self.kind in ending else ["references"])]
        )

    @property
    def folder(self) -> Path:
        """Where this job writes, and nobody else."""
        return self.out / "runs" / self.run_id

    @property
    def steps(self) -> int:
        """How many steps it will report."""
        if self.kind != "run":
            return 0
        recipe = compute.recipe_of(self.suite, self.name, self.seed)
        return sum(steps_of(phase, recipe) for phase in self.suite.shapes(self.name).phases)

    @property
    def elsewhere(self) -> bool:
        """Whether there is nothing to train."""
        return self.suite.kind(self.name).elsewhere

    def subject(self, model: Model) -> Subject:
        """Return the model as the evaluation takes it."""
        return Subject(
            model, self.suite.load(), self.suite.evaluation, self.seed, self.split, torch.device(self.device)
        )

    def outcome(self) -> str:
        """Return what became of it, "ok" or "diverged: why"; nothing as long as it is not finished.

        Rows that are damaged are named, and made again.
        """
        if not (self.folder / "rows.json").exists():
            return ""
        try:
            rows.read_origin(self.folder)
            measured = rows.read_run(self.folder)
            if self.kind == "run" and not self.elsewhere and trained.kept(self.folder) is None:
                return ""
        except files.Damaged as damage:
            say(str(damage))
            return ""
        reasons = [row["reason"] for row in measured if row["status"] == "diverged"]
        return f"diverged: {reasons[0]}" if reasons else "ok"

    def store(
        self,
        measurements: Iterable[Measurement],
        weights: Path | None,
        step: int | None,
        resumed: Sequence[dict[str, object]] = (),
    ) -> None:
        """Write the rows with their provenance."""
        suite, entry = self.suite, self.suite.entry(self.name)
        given = self.elsewhere and self.kind != "references"
        own = "as given" if given else "ema" if suite.recipe_of(self.name).ema else "raw"
        run = rows.Run(
            self.run_id,
            suite.name,
            self.name,
            entry.title,
            suite.load().name,
            None if self.kind == "references" else self.seed,
            step,
            own,
        )
        origin = provenance.of(
            suite, self.name, self.seed, list(self.command), torch.device(self.device), weights
        )
        curves = self.folder / stored.CURVES
        kept = {"curves_sha256": files.sha256(curves)} if self.kind == "run" and curves.exists() else {}
        rows.write(self.folder, run, map(asdict, measurements), origin | kept | {"resumed": list(resumed)})


def grouped(work: Iterable[Job], device: torch.device) -> list[Sequence[Job]]:
    """Return the jobs that one worker does together: on an accelerator the seeds of an entry whose updates
    are small.

    A suite that draws settings for each seed has no two alike. On a CPU every job is by itself: one thread is
    filled. A model of the user's is trained alone, since nobody has compared it stacked with each seed alone.
    So is what is trained in bf16, since torch.vmap hands batch norm bf16 numbers together with fp32
    statistics, which it refuses; and what is compiled, which torch.vmap does not see through.
    """
    groups: dict[tuple[object, ...], list[Job]] = {}
    for job in work:
        together = (
            device.type != "cpu"
            and job.kind == "run"
            and job.suite.draw is None
            and job.suite.recipe_of(job.name).precision != "bf16"
            and not job.suite.recipe_of(job.name).compile
            and _is_small(job.suite, job.name)
        )
        groups.setdefault((job.suite.name, job.name) if together else (job.run_id,), []).append(job)
    return list(groups.values())


def _is_small(suite: Suite, name: str) -> bool:
    if suite.kind(name) in blame.PLACES:
        return False
    model, labelled = suite.build(name, 0), compute.labelled_of(suite, name, 0)
    return (
        max(counting.flops_a_round(model, suite.recipe_of(name), suite.load().train, labelled))
        < STACKED_BELOW
    )


@tf32(False)
def execute(
    jobs: Sequence[Job], report: Callable[[str, int], None], request: Request | None = None
) -> dict[str, str]:
    """Do jobs that belong together; return for each, by its id, "ok" or why it has no numbers.

    `report` is told of each run how many steps passed. Raises Stopped on `request`, Failed for a reason that
    is no mistake here, and files.Busy if another process has a folder.
    """
    request = request or Request()
    with ExitStack() as locks:
        for job in jobs:
            files.subfolder(job.out, "runs", job.run_id)
            locks.enter_context(files.locked(job.folder / LOCK, LOCK_WAIT))
        if jobs[0].kind == "run" and not jobs[0].elsewhere:
            return _run(jobs, report, request)
        (job,) = jobs
        work = {
            "run": _given,
            "evaluation": _evaluation,
            "references": _references,
            "throughput": _throughput,
        }
        with request.at_once():
            return {job.run_id: work[job.kind](job)}


def _run(jobs: Sequence[Job], report: Callable[[str, int], None], request: Request) -> dict[str, str]:
    """Train what is not trained yet, then measure and store each."""
    outcomes = [_kept(job) for job in jobs]
    models = [job.suite.build(job.name, job.seed) for job in jobs]
    if None in outcomes:
        trained_now = _train(jobs, models, report, request)
    else:
        trained_now = [outcome for outcome in outcomes if outcome is not None]
        for job, model, outcome in zip(jobs, models, trained_now, strict=True):
            if isinstance(outcome, Trained):
                trained.fill(model, job.folder / trained.WEIGHTS)
            report(job.run_id, job.steps)
    shutil.rmtree(
        jobs[0].folder / CHECKPOINTS, ignore_errors=True
    )  # also what a command left that was killed before this
    beside = f"one of {len(jobs)} stacked seeds, its share" if len(jobs) > 1 else "beside other runs"
    beside = f"by {provenance.processes()} processes" if provenance.processes() > 1 else beside
    done = zip(jobs, models, trained_now, strict=True)
    with request.at_once():
        return {job.run_id: _finish(job, model, outcome, beside) for job, model, outcome in done}


def _kept(job: Job) -> Trained | Diverged | None:
    try:
        return trained.kept(job.folder)
    except files.Damaged as damage:
        say(f"{damage}: it is trained again")
        return None


def _train(
    jobs: Sequence[Job], models: Sequence[Model], report: Callable[[str, int], None], request: Request
) -> list[Trained | Diverged]:
    """Train all from their newest checkpoint, which they have together in the first's folder, and keep what
    is left.
    """
    suite, name, seeds = jobs[0].suite, jobs[0].name, [job.seed for job in jobs]

    def passed(steps: int) -> None:
        for job in jobs:
            report(job.run_id, steps)

    folder, recipe, device = (
        jobs[0].folder / CHECKPOINTS,
        compute.recipe_of(suite, name, jobs[0].seed),
        jobs[0].device,
    )
    labelled = [compute.labelled_of(suite, name, seed) for seed in seeds]
    kept = Checkpoints(folder, {"suite": suite.name, "model": name, "seeds": seeds}, jobs[0].every, request)
    starts = tracking.starts(models[0].phases, recipe)
    try:
        with ExitStack() as opened:
            events = [
                tracking.TensorBoard(files.subfolder(job.out, "tensorboard", job.run_id), starts)
                for job in jobs
                if job.tensorboard
            ]
            logs = [opened.enter_context(closing(tracker)) for tracker in events]
            data, where = suite.load().train, torch.device(device)
            outcomes = train_together(models, data, recipe, seeds, where, passed, labelled, kept, logs)
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        if not _is_memory(error):
            raise
        stacked, half = f", {len(jobs)} seeds at once" if len(jobs) > 1 else "", max(1, recipe.batch // 2)
        raise Failed(
            f"no memory is left on {device} with batches of {recipe.batch}{stacked}: "
            f"{_held_by_others(torch.device(device))}"
            f"try --set batch={half}, in a new folder, since it changes the result"
        ) from None
    for job, model, outcome in zip(jobs, models, outcomes, strict=True):
        trained.keep(job.folder, model, outcome)
    return outcomes


def _is_memory(error: Exception) -> bool:
    """Return whether an error says that no memory is left. A CPU has no class for it; CUDA's own errors never
    say it.
    """
    if isinstance(error, torch.AcceleratorError):
        return False
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or "can't allocate memory" in str(error)


def _held_by_others(device: torch.device) -> str:
    """Say how much of a GPU's memory another process holds, and the remedy; nothing, if it is not
    considerable.
    """
    if device.type != "cuda":
        return ""
    free, total = torch.cuda.mem_get_info(device)
    held = total - free - torch.cuda.memory_reserved(device)
    if held < CONSIDERABLE:
        return ""
    return f"another process holds {held / 1e9:.0f} GB of it: wait for it, or name another --device; else "


def _finish(job: Job, model: Model, outcome: Trained | Diverged, beside: str) -> str:
    """Measure and store what a training left."""
    suite, recipe = job.suite, compute.recipe_of(job.suite, job.name, job.seed)
    if isinstance(outcome, Diverged):
        metrics = [METRICS[name] for name in suite.metrics if name != "throughput"]
        columns = [column.metric for metric in metrics for column in metric.COLUMNS]
        reason = str(outcome)
        lost = [Measurement(c, None, status="diverged", reason=reason) for c in columns]
        job.store([*lost, *_drawn(job)], None, None)
        return f"diverged: {reason}"
    steps = sum(steps_of(phase, recipe) for phase in model.phases)
    budget = _budget(outcome, compute.gflop(suite, job.name, recipe), beside)
    measured = [*_measured(job, model), *budget, *_drawn(job)]
    job.store(measured, job.folder / trained.WEIGHTS, steps, outcome.resumed)
    return "ok"


def _evaluation(job: Job) -> str:
    model = job.suite.build(job.name, job.seed)
    if not job.elsewhere:
        assert job.weights is not None
        trained.fill(model, job.weights)
    job.store(_measured(job, model), job.weights, job.step)
    return "ok"


def _given(job: Job) -> str:
    """Measure and store what was trained elsewhere: it has no budget here."""
    columns = [column.metric for column in BUDGET]
    budget = [Measurement(c, None, kind="budget", status="not applicable", reason=ELSEWHERE) for c in columns]
    job.store([*_measured(job, job.suite.build(job.name, job.seed)), *budget], None, None)
    return "ok"


def _measured(job: Job, model: Model) -> list[Measurement]:
    """Measure a trained model, and keep the arrays that its pictures are drawn from."""
    subject = job.subject(model)
    measured = measure(subject, [name for name in job.suite.metrics if name != "throughput"])
    pictures.write(job.folder, pictures.arrays(subject))
    return measured


def _budget(outcome: Trained, gflop: float, beside: str) -> list[Measurement]:
    values = {f"updates_{network}": float(count) for network, count in outcome.updates.items()}
    budget = [
        Measurement(metric, values.get(metric), kind="budget", reason="" if metric in values else "has no such network",
                    status="ok" if metric in values else "not applicable")
        for metric in (column.metric for column in BUDGET if column.metric.startswith("updates_"))
    ]  # fmt: skip
    return [
        *budget,
        Measurement("train_gflop", gflop, "GFLOP", kind="budget"),
        Measurement("train_seconds", outcome.seconds, "s", kind="timing", protocol=beside),
    ]


def _drawn(job: Job) -> list[Measurement]:
    """Return the settings that the run drew, beside its numbers."""
    return [
        Measurement(f"drawn_{key}", value, kind="budget") for key, value in job.suite.drawn(job.seed).items()
    ]


def references(job: Job) -> list[Measurement]:
    """Return the reference rows of a suite."""
    suite, loaded = job.suite, job.suite.load()
    # the encoder of any model that has one, and is not conditional: their networks are the same; the suite's
    # come first
    names = dict.fromkeys([*suite.models, *REGISTRY])
    kinds = {name: suite.kind(name) for name in names if not suite.kind(name).elsewhere}
    encoding = next(n for n, kind in kinds.items() if not kind.conditional and kind.inference != "none")
    baseline = Baseline(
        loaded,
        suite.evaluation,
        suite.latent,
        suite.training_seeds,
        lambda seed: suite.build(encoding, seed),
        job.split,
        torch.device(job.device),
    )
    metrics = [METRICS[name] for name in suite.metrics if hasattr(METRICS[name], "references")]
    return [measurement for metric in metrics for measurement in metric.references(baseline)]


def _references(job: Job) -> str:
    job.store(references(job), None, None)
    return "ok"


def _throughput(job: Job) -> str:
    suite, loaded, device = job.suite, job.suite.load(), torch.device(job.device)
    if job.elsewhere:
        reasons = {"train_rate": ELSEWHERE}
        if plugins.is_folder(suite.kind(job.name)):
            measured, reasons = [], {column.metric: "its samples are files" for column in throughput.COLUMNS}
        else:
            measured = throughput.measure(job.subject(suite.build(job.name, job.seed)))
        none = [
            Measurement(c, None, kind="timing", status="not applicable", reason=why)
            for c, why in reasons.items()
        ]
        job.store([*measured, *none], None, None)
        return "ok"
    runs = [replace(job, kind="run", seed=seed) for seed in suite.training_seeds]
    weights = next((path for run in runs if (path := run.folder / trained.WEIGHTS).exists()), None)
    if weights is None:
        columns = [column.metric for column in throughput.COLUMNS]
        reason = "no run of it finished, so there is nothing to time"
        job.store(
            [Measurement(c, None, kind="timing", status="diverged", reason=reason) for c in columns],
            None,
            None,
        )
        return f"diverged: {reason}"
    model = suite.build(job.name, job.seed)
    trained.fill(model, weights)
    measured = throughput.measure(job.subject(model))
    recipe, phase = suite.recipe_of(job.name, job.seed), model.phases[0]
    labelled = compute.labelled_of(suite, job.name, job.seed)
    trainer = Trainer(model, phase, recipe, loaded.train, generator(job.seed, "throughput", device), labelled)
    images = recipe.batch * len(phase.round)
    protocol, how = f"batch {recipe.batch}", (device, trainer.recipe.precision, trainer.recipe.execution)
    measured += throughput.rate("train_rate", trainer.round, images, protocol, suite.evaluation.seconds, *how)
    job.store(measured, weights, None)
    return "ok"
