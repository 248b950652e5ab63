"""What is measured of a job: a trained model, its budget, its speed, and the reference rows of a suite."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor

from alibench.benchmarks.config import compute, plugins
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.running.jobs import Job
from alibench.benchmarks.training.outcomes import Trained
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation import pictures
from alibench.evaluation.measurement import Column, Measurement
from alibench.evaluation.messages import say
from alibench.evaluation.metrics import METRICS, measure, reconstruction, throughput
from alibench.evaluation.seeds import generator
from alibench.evaluation.subject import ReferenceInput, Subject
from alibench.models import REGISTRY
from alibench.models.base import Model
from alibench.results import stored
from alibench.results.layouts import BUDGET

ELSEWHERE = "it was trained elsewhere"


def subject(job: Job, model: Model) -> Subject:
    """Return the model as the evaluation takes it."""
    suite, device = job.suite, torch.device(job.device)
    return Subject(model, suite.load(), suite.evaluation, job.seed, job.split, device)


def quality(job: Job) -> list[str]:
    """Return the metrics that a trained model is measured by."""
    return [name for name in job.suite.metrics if name != "throughput"]


def trained_model(job: Job, model: Model) -> list[Measurement]:
    """Measure a trained model, and keep the arrays that its pictures are drawn from."""
    evaluated = subject(job, model)
    measured = measure(evaluated, quality(job))
    arrays = pictures.arrays(evaluated)
    if job.per_image:
        arrays |= _keep_per_image(job, evaluated)
    pictures.write(job.folder, arrays)
    return measured


def _keep_per_image(job: Job, evaluated: Subject) -> dict[str, Tensor]:
    """Keep the reconstruction errors of single images; return the arrays that show the extreme ones.

    Of a model that has none nothing is kept, and a line says why.
    """
    measures, reason = reconstruction.by_sample(evaluated)
    if measures is None:
        say(f"{job.run_id}: no {stored.PER_IMAGE} is kept: {reason}")
        (job.folder / stored.PER_IMAGE).unlink(missing_ok=True)
        return {}

    # A column for each measure that these data have.
    numbers = {name: getattr(measures, name) for name in stored.MEASURES}
    columns = {name: part.double().numpy() for name, part in numbers.items() if part is not None}
    y = evaluated.held_out.y
    has_classes = y.dim() == 1 and bool((y >= 0).all())
    stored.write_per_image(job.folder, columns, y.numpy() if has_classes else None)
    return pictures.extreme_arrays(evaluated, measures.error)


def empty(
    columns: Iterable[Column],
    status: Literal["not applicable", "diverged"],
    reason: str,
    kind: Literal["quality", "timing", "budget"] = "quality",
) -> list[Measurement]:
    """Return cells without a number, for a reason."""
    return [Measurement(c.metric, None, kind=kind, status=status, reason=reason) for c in columns]


def diverged(job: Job, reason: str) -> list[Measurement]:
    """Return the empty cells of a run whose training diverged."""
    return empty([column for name in quality(job) for column in METRICS[name].COLUMNS], "diverged", reason)


def budget(job: Job, training: Trained, protocol: str) -> list[Measurement]:
    """Return what a training took; `protocol` says how its seconds were measured."""
    updates = {f"updates_{network}": float(count) for network, count in training.updates.items()}
    measured = list[Measurement]()
    # Each network's updates; a model without an encoder has an empty cell.
    for column in BUDGET:
        if column.metric in updates:
            measured.append(Measurement(column.metric, updates[column.metric], kind="budget"))
        elif column.metric.startswith("updates_"):
            measured += empty([column], "not applicable", "has no such network", "budget")

    gflop = compute.gflop(job.suite, job.name, compute.recipe_of(job.suite, job.name, job.seed))
    return [
        *measured,
        Measurement("train_gflop", gflop, "GFLOP", kind="budget"),
        Measurement("train_seconds", training.seconds, "s", kind="timing", protocol=protocol),
    ]


def no_budget() -> list[Measurement]:
    """Return the empty cells of a model that was trained elsewhere."""
    return empty(BUDGET, "not applicable", ELSEWHERE, "budget")


def drawn(job: Job) -> list[Measurement]:
    """Return the settings that a run drew, to stand next to its numbers."""
    settings = job.suite.drawn(job.seed)
    return [Measurement(f"drawn_{key}", value, kind="budget") for key, value in settings.items()]


def references(job: Job) -> list[Measurement]:
    """Return the reference rows of a suite."""
    suite, device = job.suite, torch.device(job.device)

    # Any encoder that is not conditional will do: their networks are the same. The suite's own come first.
    kinds = {name: suite.kind(name) for name in (*suite.models, *REGISTRY)}
    encoding = next(
        name
        for name, kind in kinds.items()
        if not kind.elsewhere and not kind.conditional and kind.inference != "none"
    )

    def measured(suite: Suite, seeds: range) -> list[Measurement]:
        def untrained(seed: int) -> Model:
            return suite.build(encoding, seed)

        settings = (suite.evaluation, suite.latent, seeds)
        source = ReferenceInput(suite.load(), *settings, untrained, job.split, device)
        metrics = [METRICS[name] for name in suite.metrics if hasattr(METRICS[name], "references")]
        return [measurement for metric in metrics for measurement in metric.references(source)]

    # Once, or for the splits of each seed.
    if not suite.data.resplit:
        return measured(suite, suite.training_seeds)
    return [
        replace(measurement, seed=seed)
        for seed in suite.training_seeds
        for measurement in measured(suite.of_seed(seed), range(seed, seed + 1))
    ]


def speed(job: Job, model: Model) -> list[Measurement]:
    """Measure how fast a model samples and encodes, and is trained, in rounds of the first phase."""
    suite, device = job.suite, torch.device(job.device)
    if plugins.is_folder(suite.kind(job.name)):
        return empty(throughput.COLUMNS, "not applicable", "its samples are files", "timing")
    measured = throughput.measure(subject(job, model))
    if job.elsewhere:
        training = [column for column in throughput.COLUMNS if column.metric == "train_rate"]
        return [*measured, *empty(training, "not applicable", ELSEWHERE, "timing")]

    # Training is timed in rounds of the first phase.
    recipe, phase, data = suite.recipe_of(job.name, job.seed), model.phases[0], suite.load().train
    labelled = compute.labelled_of(suite, job.name, job.seed)
    trainer = Trainer(model, phase, recipe, data, generator(job.seed, "throughput", device), labelled)
    images, seconds = recipe.batch * len(phase.round), suite.evaluation.seconds
    machine = throughput.Machine(device, trainer.recipe.precision, trainer.recipe.execution)
    protocol = f"batch {recipe.batch}"
    return [*measured, *throughput.rate("train_rate", trainer.round, images, protocol, seconds, machine)]
