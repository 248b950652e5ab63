"""The training loop. It knows players, phases and batches (models/base.py), and no model by name.

For each phase, for each of its rounds, for each group of players that learn at once: one batch, one forward
pass, each player's gradient of its own loss by its own parameters (gradients.py), and only then all their
steps (trainer.py). That is the original's update: no player sees another's step of the same moment.
"""

import time
from collections.abc import Callable, Mapping, Sequence

import msgspec
import torch
from torch import Tensor

from alibench.benchmarks.training import randomness
from alibench.benchmarks.training.average import Average
from alibench.benchmarks.training.batches import placed
from alibench.benchmarks.training.checkpoints import Checkpoints
from alibench.benchmarks.training.history import History
from alibench.benchmarks.training.outcomes import Diverged, Log, Member, Trained, silent
from alibench.benchmarks.training.processes import ALONE, Alone
from alibench.benchmarks.training.recipe import Recipe, steps_of
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.arithmetic import tf32
from alibench.evaluation.data import BATCH, Split, as_float
from alibench.evaluation.seeds import generator
from alibench.models.base import Model

TICKS = 50  # records of the curves a phase


def train(
    model: Model,
    split: Split,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    labelled: Split | None = None,
    log: Log = silent,
) -> Trained:
    """Train the model in place, through all its phases; at the end it holds the averaged weights.

    `labelled` is what a semi-supervised model learns classes from. `log` is called with every record of the
    curves as it is made. Raises Diverged, naming phase and step.
    """
    (outcome,) = train_together([Member(model, seed, labelled, log)], split, recipe, device)
    if isinstance(outcome, Diverged):
        raise outcome
    return outcome


@tf32(False)
def train_together(
    members: Sequence[Member],
    split: Split,
    recipe: Recipe,
    device: torch.device,
    report: Callable[[int], None] = lambda rounds: None,
    checkpoints: Checkpoints | None = None,
    processes: Alone = ALONE,
) -> list[Trained | Diverged]:
    """Train several seeds of one model at once (stacked.py), as `train` trains each alone.

    A seed that diverges leaves the others as they are. `report` is called with the rounds made since its last
    call. With `checkpoints` the training resumes from the newest, if there is one, and ends as if it had not
    stopped; raises what they raise.
    """
    models, labelled = [member.model for member in members], [member.labelled for member in members]
    with randomness.seeded(generator(members[0].seed, "modules in training").initial_seed()):
        # Where to begin.
        rngs = [generator(member.seed, "training", device) for member in members]
        start, split = time.perf_counter(), placed(split, device)
        checkpoints = processes.begin(checkpoints)
        state, history = (checkpoints.newest() if checkpoints else None) or ({}, History.fresh(models))
        start -= history.seconds

        for phase in models[0].phases[history.phase :]:
            # Fresh optimisers and a fresh average for every phase.
            models = [model.to(device) for model in models]
            trainer = processes.trainer(models, phase, recipe, split, rngs, labelled)
            average = Average(trainer.model, recipe.ema)
            if state:
                _resume(trainer, average, history, state)
                report(history.rounds(models[0].phases, recipe))
                state = {}

            steps, reported = steps_of(phase, recipe), history.step
            tick = max(1, steps // TICKS)
            for step in range(history.step + 1, steps + 1):
                trainer.set_rate((step - 1) / steps)
                monitored = trainer.round()
                average.update()

                # The logging tick: the host waits for the device here, and where a checkpoint is written.
                if step % tick == 0 or step == steps:
                    history.record(monitored, phase, step, steps)
                    for member, outcome in zip(members, history.outcomes, strict=True):
                        member.log(outcome.curves[-1])
                    if history.all_lost:
                        return history.result()
                    report(step - reported)
                    reported = step
                if checkpoints and checkpoints.due():
                    history.step, history.seconds = step, time.perf_counter() - start
                    _write(checkpoints, trainer, average, history)

            _end(trainer, average, history)

        _conclude(members, split, device, history)
        history.seconds = time.perf_counter() - start
        return history.result()


def _resume(trainer: Trainer, average: Average, history: History, state: Mapping[str, Tensor]) -> None:
    """Bring a phase to where a checkpoint left it."""
    trainer.restore(state)
    average.restore(state)
    trainer.judges = dict(zip(trainer.judges, history.judges, strict=True))
    history.resume(trainer.phase)


def _write(checkpoints: Checkpoints, trainer: Trainer, average: Average, history: History) -> None:
    """Write a checkpoint. Raises OSError, and Stopped if the training is asked to end."""
    history.judges = list(trainer.judges.values())
    rounds = history.rounds(trainer.model.phases, trainer.recipe)
    checkpoints.write(rounds, trainer.state() | average.state(), msgspec.to_builtins(history))


def _end(trainer: Trainer, average: Average, history: History) -> None:
    """End a phase with the averaged weights, so that what learns later learns on those that are scored."""
    average.copy_to_model()
    trainer.return_weights()
    for source in trainer.sources:
        source.average_statistics()
    history.end(trainer.model, trainer.phase, steps_of(trainer.phase, trainer.recipe))


def _conclude(members: Sequence[Member], split: Split, device: torch.device, history: History) -> None:
    """Let each model estimate what has a closed form on all of train."""
    for i, member in enumerate(members):
        member.model.eval()
        batches = (as_float(x.to(device)) for x in split.x.split(BATCH))
        with torch.no_grad():
            member.model.conclude(batches, generator(member.seed, "conclusion", device))
        if not all(bool(value.isfinite().all()) for value in member.model.state_dict().values()):
            history.lose(i, "parameters are not finite after the last step")
