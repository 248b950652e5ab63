"""The one training loop. It knows players, phases and batches (models/base.py), and no model by name.

For each phase, for each of its rounds, for each group of players that learn at once: one batch, one forward
pass, each player's gradient of its own loss by its own parameters (gradients.py), and only then all their
steps. That is the original's update: no player sees another's step of the same moment. The device is waited
for at the logging tick alone, and where a checkpoint is due.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from types import ModuleType
from typing import Any

import torch

from alibench.benchmarks.training import randomness
from alibench.benchmarks.training.average import Average
from alibench.benchmarks.training.batches import placed
from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.recipe import Recipe, steps_of
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.arithmetic import tf32
from alibench.evaluation.data import BATCH, Split, as_float
from alibench.evaluation.seeds import generator
from alibench.models.base import Model, Phase

TICKS = 50  # a phase
# told of each tick: phase, step in it, every learner's loss and the mean logit of each kind of pair; what it
# raises, ends the training. One that goes on from a checkpoint tells again what came after it, and nothing
# that came before
Log = Callable[[Mapping[str, float | str]], None]


@dataclass
class Trained:
    """What a training leaves, besides the model itself."""

    seconds: float = 0.0
    updates: dict[str, int] = field(default_factory=dict)  # of each network
    curves: list[dict[str, float | str]] = field(default_factory=list)  # a record a tick
    resumed: list[dict[str, Any]] = field(
        default_factory=list
    )  # where it went on from a checkpoint: phase and step


class Diverged(Exception):
    """A loss or a parameter is no longer finite."""


def silent(record: Mapping[str, float | str]) -> None:
    """Tell nobody."""


def _shared() -> ModuleType | None:
    """Return what shares a training with other processes, where there are some."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    from alibench.benchmarks.running import torchrun  # its trainer is a Trainer itself

    return torchrun if torchrun.shares() else None


def trainer_of(
    models: Sequence[Model],
    phase: Phase,
    recipe: Recipe,
    split: Split,
    rngs: Sequence[torch.Generator],
    labelled: Sequence[Split | None],
) -> Trainer:
    """Return what makes the rounds of a phase: of one model, perhaps with other processes, or of several
    seeds stacked.
    """
    shared = _shared() if len(models) == 1 else None
    kind = shared.ShardedTrainer if shared else Trainer
    singles = [
        kind(model, phase, recipe, split, rng, own)
        for model, rng, own in zip(models, rngs, labelled, strict=True)
    ]
    if len(singles) == 1:
        return singles[0]
    from alibench.benchmarks.training.stacked import StackedTrainer  # it is a Trainer itself

    return StackedTrainer(singles)


def train(
    model: Model,
    split: Split,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    report: Callable[[int], None] = lambda steps: None,
    labelled: Split | None = None,
    log: Log = silent,
) -> Trained:
    """Train the model in place, through all its phases; at its end it holds the averaged weights.

    A phase ends by adopting the average, so that what learns later learns on the weights that will be scored.
    `report` is told how many rounds passed since its last call. `labelled` is what a semi-supervised model
    learns classes from. `log` is told every record of the curves as it is made, for a tracker of one's own.
    Raises Diverged, naming phase and step.
    """
    (outcome,) = train_together([model], split, recipe, [seed], device, report, [labelled], logs=[log])
    if isinstance(outcome, Diverged):
        raise outcome
    return outcome


@tf32(False)
def train_together(
    models: Sequence[Model],
    split: Split,
    recipe: Recipe,
    seeds: Sequence[int],
    device: torch.device,
    report: Callable[[int], None] = lambda steps: None,
    labelled: Sequence[Split | None] = (None,),
    checkpoints: Checkpoints | None = None,
    logs: Sequence[Log] = (),
) -> list[Trained | Diverged]:
    """Train a model of each seed, as `train` trains each alone; several are stacked and move at once
    (replicas.py).

    A seed that diverges leaves the others as they are. The time of all is shared among them. With
    `checkpoints` it goes on from the newest, if there is one, to the result it would have had; raises what
    they raise. `logs` are one a seed or none at all.
    """
    with randomness.seeded(generator(seeds[0], "modules in training").initial_seed()):
        return _train(models, split, recipe, seeds, device, report, labelled, checkpoints, logs)


def _train(
    models: Sequence[Model],
    split: Split,
    recipe: Recipe,
    seeds: Sequence[int],
    device: torch.device,
    report: Callable[[int], None],
    labelled: Sequence[Split | None],
    checkpoints: Checkpoints | None,
    logs: Sequence[Log],
) -> list[Trained | Diverged]:
    """Train, as `train_together` says."""
    rngs = [generator(seed, "training", device) for seed in seeds]
    lost: dict[int, Diverged] = {}
    outcomes = [
        Trained(updates={network: 0 for own in model.players.values() for network in own}) for model in models
    ]
    start = time.perf_counter()
    split = placed(split, device)
    if shared := _shared():
        checkpoints = shared.begin(checkpoints)
    begun = checkpoints.newest() if checkpoints else None
    before = 0  # rounds of earlier phases

    for number, phase in enumerate(models[0].phases):
        steps = steps_of(phase, recipe)
        if begun and number < begun[1]["phase"]:
            before += steps
            report(steps)
            continue
        trainer = trainer_of([model.to(device) for model in models], phase, recipe, split, rngs, labelled)
        average = Average(trainer.model, recipe.ema)
        first, tick = 1, max(1, steps // TICKS)

        # where a checkpoint left it
        if begun:
            state, about = begun
            trainer.restore(state)
            average.restore(state)
            trainer.judges = dict(zip(trainer.judges, about["judges"], strict=True))
            outcomes = [Trained(**outcome) for outcome in about["outcomes"]]
            for outcome in outcomes:
                outcome.resumed.append({"phase": phase.name, "step": about["step"]})
            lost = {int(i): Diverged(reason) for i, reason in about["lost"].items()}
            first, start, begun = about["step"] + 1, start - about["seconds"], None
            report(first - 1)
        told = first - 1

        for step in range(first, steps + 1):
            trainer.rate((step - 1) / steps)
            monitored = trainer.round()
            average.update()

            if step % tick == 0 or step == steps:
                values = torch.stack(list(monitored.values())).view(len(monitored), -1)
                for i, own in enumerate(values.T.tolist()):  # the one wait for the device
                    if not all(abs(value) < float("inf") for value in own):
                        lost.setdefault(
                            i, Diverged(f"not finite in phase '{phase.name}' at step {step} of {steps}")
                        )
                    outcomes[i].curves.append(
                        {"phase": phase.name, "step": step, **dict(zip(monitored, own, strict=True))}
                    )
                for outcome, log in zip(outcomes, logs or [silent] * len(models), strict=True):
                    log(outcome.curves[-1])
                if len(lost) == len(models):
                    return [lost[i] for i in range(len(models))]
                report(step - told)
                told = step

            if checkpoints and checkpoints.due():
                about = {
                    "phase": number,
                    "step": step,
                    "seconds": time.perf_counter() - start,
                    "judges": list(trainer.judges.values()),
                    "outcomes": [asdict(outcome) for outcome in outcomes],
                    "lost": {str(i): str(reason) for i, reason in lost.items()},
                }
                checkpoints.write(before + step, trainer.state() | average.state(), about)

        # the phase is over
        before += steps
        average.adopt()
        trainer.hand_back()
        for source in trainer.sources:
            source.settle()
        for outcome in outcomes:
            for network in (
                network for group in phase.round for player in group for network in models[0].players[player]
            ):
                outcome.updates[network] += steps

    for i, model in enumerate(models):
        model.eval()
        with torch.no_grad():
            model.conclude(
                (as_float(x.to(device)) for x in split.x.split(BATCH)),
                generator(seeds[i], "conclusion", device),
            )
        if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
            lost.setdefault(i, Diverged("parameters are not finite after the last step"))
    for outcome in outcomes:
        outcome.seconds = (time.perf_counter() - start) / len(models)
    return [lost.get(i, outcome) for i, outcome in enumerate(outcomes)]
