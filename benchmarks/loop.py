"""The one training loop. It knows players, phases and batches (models/base.py), and no model by name.

For each phase, for each of its rounds, for each group of players that learn at once: one batch, one forward pass, each
player's gradient of its own loss by its own parameters, and only then all their steps. That is the original's update: no
player sees another's step of the same moment. The device is waited for at the logging tick alone.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated

import torch
from msgspec import Meta
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from benchmarks.data import Batches
from evaluation.base import Split, as_float, generator
from models.base import Batch, Model, Phase

TICKS = 50  # a phase
CONCLUSION = 2**22  # numbers of x in memory at once
BatchNorm = torch.nn.modules.batchnorm._BatchNorm


Count = Annotated[int, Meta(ge=1)]
Share = Annotated[float, Meta(ge=0, le=1)]
Decay = Annotated[float, Meta(ge=0, lt=1)]
Rate = Annotated[float, Meta(gt=0)]


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; a suite's [recipe] table.

    Adam's betas are today's convention: the "beta2 = 1e-3" that ALI's paper prints is 1 - beta2 of the library it used.
    """

    steps: Count  # rounds of the first phase
    batch: Count = 100
    lr: Rate = 1e-3  # of every player
    beta1: Decay = 0.5
    beta2: Decay = 0.999
    decay: Share = 0.5  # the last share of a phase's steps, over which lr falls
    decay_to: Share = 0.0  # fraction of lr that it falls to, exponentially; 0: linearly to zero
    weight_decay: Annotated[float, Meta(ge=0)] = 0.0  # times the weights, added to the gradient
    ema: Decay = 0.999  # decay of the averaged weights, which are evaluated; 0: the raw weights are
    statistics: Annotated[int, Meta(ge=0)] = 0  # batches that BN's statistics are averaged over at the end; 0: as they ran


@dataclass
class Trained:
    """What a training leaves, besides the model itself."""

    seconds: float = 0.0
    updates: dict[str, int] = field(default_factory=dict)  # of each network
    curves: list[dict[str, float | str]] = field(default_factory=list)  # a record a tick


class Diverged(Exception):
    """A loss or a parameter is no longer finite."""


def steps_of(phase: Phase, recipe: Recipe) -> int:
    """Return the rounds of a phase."""
    return round(phase.share * recipe.steps)


def parameters(model: Model, player: str) -> list[Tensor]:
    """Return the trainable parameters of a player, in order."""
    networks = [getattr(model, network) for network in model.players[player]]
    return [p for network in networks for p in network.parameters() if p.requires_grad]


def gradients(model: Model, batch: Batch, learners: Mapping[str, Sequence[Tensor]]) -> dict[str, Tensor]:
    """Leave each learner's gradient in its parameters, from one forward pass; return the mean losses, on the device."""
    terms = model(batch, tuple(learners))
    losses = model.losses(terms, batch.y)
    means = {player: losses[player].mean() for player in learners}
    last = list(learners)[-1]
    for player, own in learners.items():
        for p, gradient in zip(own, torch.autograd.grad(means[player], own, retain_graph=player != last), strict=True):
            p.grad = gradient
    monitored = {f"loss {player}": mean.detach() for player, mean in means.items()}
    return monitored | {f"logit {kind}": logits.detach().mean() for kind, logits in terms.logits.items()}


def repeated(split: Split, size: int) -> Split:
    """Return a split as it is, or as many times over as fill a batch."""
    if len(split) >= size:
        return split
    times = math.ceil(size / len(split))
    return Split(split.x.repeat(times, *[1] * (split.x.dim() - 1)), split.y.repeat(times))


class Trainer:
    """One phase's optimisers and data, and its round; `train` is the loop around it, throughput times it alone.

    A semi-supervised model gets a batch of `labelled` beside each of `split`, and of as many images: fresh permutations of
    its own, so that few labels come round often.
    """

    def __init__(
        self,
        model: Model,
        phase: Phase,
        recipe: Recipe,
        split: Split,
        rng: torch.Generator,
        labelled: Split | None = None,
    ) -> None:
        self.model, self.phase, self.recipe, self.rng = model, phase, recipe, rng
        self.batches = Batches(split, recipe.batch, rng)
        self.labelled: Batches | None = None
        if model.semi_supervised:
            if labelled is None:
                raise ValueError(f"{model.name} learns from labels: pass labelled")
            self.labelled = Batches(repeated(labelled, recipe.batch), recipe.batch, rng)
        self.draws = model.noise(recipe.batch)
        self.groups = [{player: parameters(model, player) for player in group} for group in phase.round]
        betas = (recipe.beta1, recipe.beta2)
        self.optimisers = {
            player: torch.optim.Adam(own, lr=recipe.lr, betas=betas, weight_decay=recipe.weight_decay, fused=True)
            for group in self.groups
            for player, own in group.items()
        }
        model.eval()  # who does not learn is fixed, batch statistics included
        for player in self.optimisers:
            for network in model.players[player]:
                getattr(model, network).train()

    def rate(self, share: float) -> None:
        """Set the learning rate for a point of the phase, 0 at its start and 1 at its end."""
        decay, floor = self.recipe.decay, self.recipe.decay_to
        left = min(1.0, (1.0 - share) / decay) if decay else 1.0  # of the time in which it falls
        factor = floor ** (1.0 - left) if floor else left
        for optimiser in self.optimisers.values():
            optimiser.param_groups[0]["lr"] = self.recipe.lr * factor

    def batch(self) -> Batch:
        """Return the next batch with fresh noise."""
        x, y = self.batches.next()
        labelled = self.labelled.next() if self.labelled else None
        return Batch(x, {name: draw(self.rng) for name, draw in self.draws.items()}, y, labelled)

    def round(self) -> dict[str, Tensor]:
        """Let every group of the round learn; return what was monitored, on the device."""
        monitored: dict[str, Tensor] = {}
        for learners in self.groups:
            monitored |= gradients(self.model, self.batch(), learners)
            for player in learners:
                self.optimisers[player].step()
        return monitored

    @torch.no_grad()
    def settle(self) -> None:
        """Average batch norm's statistics over `statistics` batches with the weights as they are now (BiGAN's code)."""
        norms = [module for module in self.model.modules() if isinstance(module, BatchNorm) and module.training]
        if self.recipe.statistics and norms:
            momenta = [norm.momentum for norm in norms]
            for norm in norms:
                norm.reset_running_stats()
                norm.momentum = None  # torch's sign for a plain mean
            for _ in range(self.recipe.statistics):
                for learners in self.groups:
                    self.model(self.batch(), tuple(learners))
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


class Average:
    """Exponential moving average of all weights and batch statistics; a decay of 0 keeps none.

    The decay rises as (1 + t) / (10 + t) until it reaches its value, so that first weights leave a short training's
    average. torch's AveragedModel walks the module tree at every update, an eighth of a small net's step; this does not.
    """

    def __init__(self, model: Model, decay: float) -> None:
        self.own = [tensor for tensor in model.state_dict().values() if tensor.is_floating_point()] if decay else []
        self.mean = [tensor.clone() for tensor in self.own]
        self.decay, self.updates = decay, 0

    @torch.no_grad()
    def update(self) -> None:
        """Move the average towards the model."""
        if self.own:
            self.updates += 1
            decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
            get_ema_multi_avg_fn(decay)(self.mean, self.own, None)

    @torch.no_grad()
    def adopt(self) -> None:
        """Make the average the model's weights."""
        for tensor, mean in zip(self.own, self.mean, strict=True):
            tensor.copy_(mean)


def train(
    model: Model,
    split: Split,
    recipe: Recipe,
    seed: int,
    device: torch.device,
    report: Callable[[int], None] = lambda steps: None,
    labelled: Split | None = None,
) -> Trained:
    """Train the model in place, through all its phases; at its end it holds the averaged weights.

    A phase ends by adopting the average, so that what learns later learns on the weights that will be scored. `report`
    is told how many rounds passed since its last call. `labelled` is what a semi-supervised model learns classes from.
    Raises Diverged, naming phase and step.
    """
    model.to(device)
    rng = generator(seed, "training", device)
    trained = Trained(updates={network: 0 for networks in model.players.values() for network in networks})
    start = time.perf_counter()
    for phase in model.phases:
        trainer = Trainer(model, phase, recipe, split, rng, labelled)
        average = Average(model, recipe.ema)
        steps = steps_of(phase, recipe)
        tick = max(1, steps // TICKS)
        for step in range(1, steps + 1):
            trainer.rate((step - 1) / steps)
            monitored = trainer.round()
            average.update()
            if step % tick == 0 or step == steps:
                values = torch.stack(list(monitored.values())).tolist()  # the one wait for the device
                if not all(abs(value) < float("inf") for value in values):
                    raise Diverged(f"not finite in phase '{phase.name}' at step {step} of {steps}")
                trained.curves.append({"phase": phase.name, "step": step, **dict(zip(monitored, values, strict=True))})
                report((step - 1) % tick + 1)
        average.adopt()
        trainer.settle()
        for player in (player for group in phase.round for player in group):
            for network in model.players[player]:
                trained.updates[network] += steps
    model.eval()
    with torch.no_grad():
        parts = split.x.split(max(1, CONCLUSION // split.x[0].numel()))
        model.conclude((as_float(x.to(device)) for x in parts), generator(seed, "conclusion", device))
    if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
        raise Diverged("parameters are not finite after the last step")
    trained.seconds = time.perf_counter() - start
    return trained
