"""The history of a training: how far it has come, curves, updates, seeds that diverged."""

import math
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import msgspec
import torch
from msgspec import Meta
from torch import Tensor

from alibench.benchmarks.training.outcomes import Diverged, Trained
from alibench.benchmarks.training.recipe import Recipe, steps_of
from alibench.evaluation.files import Count
from alibench.models.base import Model, Phase

Place = Annotated[str, Meta(pattern=r"\A[0-9]{1,5}\Z")]  # of a seed among those that are trained together


class History(msgspec.Struct):
    """How far the seeds of a training have come; a checkpoint holds it as JSON."""

    belongs: dict[str, Any]  # whose checkpoint it is
    phase: Count  # phases that are over
    step: Count  # rounds of the phase after them
    seconds: float
    judges: list[str | None]  # of the phase's trainer
    outcomes: list[Trained]
    lost: dict[Place, str]  # how a seed diverged

    @classmethod
    def fresh(cls, models: Sequence[Model]) -> "History":
        """Return the history of a training that has not begun."""
        networks = [network for player in models[0].players.values() for network in player]
        return cls({}, 0, 0, 0.0, [], [Trained(updates=dict.fromkeys(networks, 0)) for _ in models], {})

    def rounds(self, phases: Sequence[Phase], recipe: Recipe) -> int:
        """Return the rounds made of all phases."""
        return sum(steps_of(phase, recipe) for phase in phases[: self.phase]) + self.step

    def resume(self, phase: Phase) -> None:
        """Note that the training resumed from a checkpoint here."""
        for outcome in self.outcomes:
            outcome.resumed.append({"phase": phase.name, "step": self.step})

    def record(self, monitored: Mapping[str, Tensor], phase: Phase, step: int, steps: int) -> None:
        """Add a tick to each seed's curves: losses and mean logits, each () or (S,). Waits for the device."""
        # one transfer from the device for all numbers of all seeds
        values = torch.stack(list(monitored.values())).view(len(monitored), -1)
        for place, numbers in enumerate(values.T.tolist()):
            if not all(math.isfinite(number) for number in numbers):
                self.lose(place, f"not finite in phase '{phase.name}' at step {step} of {steps}")
            named = dict(zip(monitored, numbers, strict=True))
            self.outcomes[place].curves.append({"phase": phase.name, "step": step, **named})

    def end(self, model: Model, phase: Phase, steps: int) -> None:
        """Count a phase as over, and the updates of each network: one a round for each time it learned."""
        for player in (player for group in phase.round for player in group):
            for network in model.players[player]:
                for outcome in self.outcomes:
                    outcome.updates[network] += steps
        self.phase, self.step = self.phase + 1, 0

    def lose(self, place: int, reason: str) -> None:
        """Count a seed as diverged; its first reason stays."""
        self.lost.setdefault(str(place), reason)

    @property
    def all_lost(self) -> bool:
        """Whether no seed is left to train."""
        return len(self.lost) == len(self.outcomes)

    def result(self) -> list[Trained | Diverged]:
        """Return what became of each seed; they share the time."""
        for outcome in self.outcomes:
            outcome.seconds = self.seconds / len(self.outcomes)
        return [
            Diverged(self.lost[str(place)]) if str(place) in self.lost else outcome
            for place, outcome in enumerate(self.outcomes)
        ]
