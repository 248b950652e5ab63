"""Does jobs (jobs.py) in a worker's process: train, measure (measuring.py), store.

A job is finished when its rows are stored. An interrupted one resumes: a training from its checkpoint, an
evaluation from the trained model.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from alibench.benchmarks.config import compute
from alibench.benchmarks.running import measuring, provenance, tracking, trained
from alibench.benchmarks.running.jobs import CHECKPOINTS, LOCK, Job
from alibench.benchmarks.running.outcomes import OK, Outcome, Status
from alibench.benchmarks.training import peers
from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.loop import train_together
from alibench.benchmarks.training.outcomes import Diverged, Failed, Member, Trained
from alibench.benchmarks.training.processes import ALONE, Alone
from alibench.benchmarks.training.recipe import steps_of
from alibench.benchmarks.training.stopping import Request
from alibench.evaluation import files
from alibench.evaluation.arithmetic import tf32
from alibench.evaluation.measurement import Measurement
from alibench.evaluation.messages import say
from alibench.evaluation.metrics import throughput
from alibench.models.base import Model
from alibench.results import rows, stored

Report = Callable[[str, int], None]  # is called with a run's id and the steps that passed since
# Seconds for a killed command's worker to end, and for the server of a network disk to notice.
LOCK_WAIT = 120.0
CONSIDERABLE = 2e9  # bytes of a GPU: more than the context and the libraries of one process take


@tf32(False)
def execute(
    jobs: Sequence[Job], report: Report, request: Request | None = None, processes: Alone = ALONE
) -> dict[str, Outcome]:
    """Do jobs that belong together (jobs.grouped); return their outcomes by run id: ok or diverged.

    Raises Stopped on `request`, Failed where the code is not to blame, and files.Busy if another process has
    a folder.
    """
    request = request or Request()
    with ExitStack() as locks:
        for job in jobs:
            files.subfolder(job.out, "runs", job.run_id)
            locks.enter_context(files.locked(job.folder / LOCK, LOCK_WAIT))

        # A training ends on request after its step, all else at once.
        if jobs[0].trains:
            return _run(jobs, report, request, processes)

        (job,) = jobs
        with request.at_once(), _measuring(job):
            if job.kind == "references":
                return {job.run_id: _store(job, measuring.references(job))}
            return {job.run_id: _measure_speed(job) if job.kind == "throughput" else _evaluate(job)}


# -------------------- training


def _run(jobs: Sequence[Job], report: Report, request: Request, processes: Alone) -> dict[str, Outcome]:
    """Train runs that are not trained yet, then measure and store each."""
    models = [job.suite.build(job.name, job.seed) for job in jobs]
    earlier = [outcome for job in jobs if (outcome := _earlier(job)) is not None]

    # Stacked seeds are trained together or not at all.
    if len(earlier) < len(jobs):
        trainings = _train(jobs, models, report, request, processes)
    else:
        trainings = earlier
        for job, model, outcome in zip(jobs, models, trainings, strict=True):
            if isinstance(outcome, Trained):
                trained.fill(model, job.folder / trained.WEIGHTS)
            report(job.run_id, job.steps)

    # Also the checkpoints of a command that was killed just before this.
    shutil.rmtree(jobs[0].folder / CHECKPOINTS, ignore_errors=True)

    protocol = f"one of {len(jobs)} stacked seeds, its share" if len(jobs) > 1 else "beside other runs"
    if peers.world() > 1:
        protocol = f"by {peers.world()} processes"
    with request.at_once(), _measuring(jobs[0]):
        done = zip(jobs, models, trainings, strict=True)
        return {job.run_id: _finish(job, model, outcome, protocol) for job, model, outcome in done}


def _earlier(job: Job) -> Trained | Diverged | None:
    """Return what an earlier training of this run left, None if there is none or it is damaged."""
    try:
        return trained.kept(job.folder)
    except files.Damaged as damage:
        say(f"{damage}: it is trained again")
        return None


def _train(
    jobs: Sequence[Job], models: Sequence[Model], report: Report, request: Request, processes: Alone
) -> list[Trained | Diverged]:
    """Train all from their newest checkpoint, which is in the first one's folder; keep what they leave."""
    first, seeds = jobs[0], [job.seed for job in jobs]
    suite, name, device = first.suite, first.name, torch.device(first.device)
    recipe = compute.recipe_of(suite, name, first.seed)
    labelled = [compute.labelled_of(suite, name, seed) for seed in seeds]
    belongs = {"suite": suite.name, "model": name, "seeds": seeds}
    kept = Checkpoints(first.folder / CHECKPOINTS, belongs, first.every, request)
    starts = tracking.starts(models[0].phases, recipe)

    def passed(steps: int) -> None:
        for job in jobs:
            report(job.run_id, steps)

    # Trackers are closed whatever happens.
    with ExitStack() as stack:
        stack.enter_context(_training(device, recipe.batch, len(jobs)))
        runs = [tracking.Tracking(tracking.tracked(job), job.track, starts) for job in jobs]
        logs = [stack.enter_context(run) for run in runs]
        each = zip(models, seeds, labelled, logs, strict=True)
        members = [Member(model, seed, labels, log) for model, seed, labels, log in each]
        data = suite.load().train
        outcomes = train_together(members, data, recipe, device, passed, kept, processes)

    for job, model, outcome in zip(jobs, models, outcomes, strict=True):
        trained.keep(job.folder, model, outcome)
    return outcomes


def _training(device: torch.device, batch: int, seeds: int) -> AbstractContextManager[None]:
    """Raise Failed, with a smaller batch to try, where a training runs out of memory."""
    stacked = f", {seeds} seeds at once" if seeds > 1 else ""
    remedy = f"try --set batch={max(1, batch // 2)}, in a new folder, since it changes the result"
    return _memory(device, f"with batches of {batch}{stacked}", remedy)


def _measuring(job: Job) -> AbstractContextManager[None]:
    """Raise Failed, which says that the training is kept, where a measurement runs out of memory."""
    kept = "; the trained model is kept" if job.trains else ""
    return _memory(torch.device(job.device), "to measure", f"free some and resume{kept}")


@contextmanager
def _memory(device: torch.device, doing: str, remedy: str) -> Iterator[None]:
    """Raise Failed with a remedy where a device runs out of memory."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # A CPU's lack of memory is a RuntimeError like any other; CUDA's other errors never mean it.
        known = isinstance(error, torch.OutOfMemoryError | MemoryError)
        on_cpu = "can't allocate memory" in str(error) and not isinstance(error, torch.AcceleratorError)
        if not (known or on_cpu):
            raise
        others = _memory_of_others(device)
        raise Failed(f"no memory is left on {device} {doing}: {others}{remedy}") from None


def _memory_of_others(device: torch.device) -> str:
    """Return how much of a GPU's memory another process holds, with the remedy; "" if it is little."""
    if device.type != "cuda":
        return ""
    free, total = torch.cuda.mem_get_info(device)
    held = total - free - torch.cuda.memory_reserved(device)
    remedy = "wait for it, or name another --device; else "
    return f"another process holds {held / 1e9:.0f} GB of it: {remedy}" if held >= CONSIDERABLE else ""


# -------------------- measuring and storing


def _finish(job: Job, model: Model, outcome: Trained | Diverged, protocol: str) -> Outcome:
    """Measure and store what a training left; `protocol` says how its seconds were measured."""
    if isinstance(outcome, Diverged):
        _store(job, [*measuring.diverged(job, str(outcome)), *measuring.drawn(job)])
        return Outcome(Status.DIVERGED, str(outcome))

    recipe = compute.recipe_of(job.suite, job.name, job.seed)
    steps = sum(steps_of(phase, recipe) for phase in model.phases)
    measured = measuring.trained_model(job, model)
    measured += [*measuring.budget(job, outcome, protocol), *measuring.drawn(job)]
    return _store(job, measured, job.folder / trained.WEIGHTS, steps, outcome.resumed)


def _evaluate(job: Job) -> Outcome:
    """Measure and store a model of an earlier run, or one that was trained elsewhere."""
    model = job.suite.build(job.name, job.seed)
    if job.weights:
        trained.fill(model, job.weights)
    measured = measuring.trained_model(job, model)
    if job.kind == "run":
        measured += measuring.no_budget()
    return _store(job, measured, job.weights, job.step)


def _measure_speed(job: Job) -> Outcome:
    """Measure and store how fast an entry is, with the weights of any of its runs."""
    weights = None
    if not job.elsewhere:
        runs = [replace(job, kind="run", seed=seed) for seed in job.suite.training_seeds]
        weights = next((path for run in runs if (path := run.folder / trained.WEIGHTS).exists()), None)
        if weights is None:
            reason = "no run of it finished, so there is nothing to time"
            _store(job, measuring.empty(throughput.COLUMNS, "diverged", reason, "timing"))
            return Outcome(Status.DIVERGED, reason)

    model = job.suite.build(job.name, job.seed)
    if weights:
        trained.fill(model, weights)
    return _store(job, measuring.speed(job, model), weights)


def _store(
    job: Job,
    measurements: Iterable[Measurement],
    weights: Path | None = None,
    step: int | None = None,
    resumed: Sequence[dict[str, Any]] = (),
) -> Outcome:
    """Write the rows of a job with their provenance; return that it is done."""
    suite, for_suite = job.suite, job.kind == "references"
    averaged = "ema" if suite.recipe_of(job.name).ema else "raw"
    run = rows.Run(
        run_id=job.run_id,
        suite=suite.name,
        model=job.name,
        title=suite.entry(job.name).title,
        dataset=suite.load().name,
        seed=None if for_suite else job.seed,
        step=step,
        weights=trained.AS_GIVEN if job.elsewhere and not for_suite else averaged,
    )

    # Reports compare curves and errors of single images with these hashes.
    origin = provenance.of(suite, job.name, job.seed, list(job.command), torch.device(job.device), weights)
    curves, per_image = job.folder / stored.CURVES, job.folder / stored.PER_IMAGE
    if job.kind == "run" and curves.exists():
        origin["curves_sha256"] = files.sha256(curves)
    if job.per_image and per_image.exists():
        origin["per_image_sha256"] = files.sha256(per_image)
    rows.write(job.folder, run, map(asdict, measurements), origin | {"resumed": list(resumed)})
    return OK
