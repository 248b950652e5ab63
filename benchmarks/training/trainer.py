"""One phase's optimisers and data, and its round: the updates of all players."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor
from torch.optim import Adam

from alibench.benchmarks.training import compiled, randomness
from alibench.benchmarks.training.batches import Batches, repeated
from alibench.benchmarks.training.compiled import Compiled
from alibench.benchmarks.training.gradients import BatchNorm, Learners, gradients, judge_of
from alibench.benchmarks.training.graphs import Picks, Recorded
from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.tape import Tape
from alibench.evaluation.arithmetic import tf32
from alibench.evaluation.data import Split, as_float
from alibench.evaluation.seeds import generator
from alibench.models.base import Batch, Model, Phase
from alibench.models.discriminator import Discriminator

PROBE = 4  # samples, or packs of them, that show whether one backward pass through D is exact


def parameters(model: Model, player: str) -> list[Tensor]:
    """Return the trainable parameters of a player, in order."""
    networks = [getattr(model, network) for network in model.players[player]]
    return [p for network in networks for p in network.parameters() if p.requires_grad]


def moves_of(model: Model, group: tuple[str, ...], alternating: bool) -> list[Learners]:
    """Return who learns at once on one batch: a whole group, or each player alone, discriminators first.

    A model of `whole_groups` alternates as its rounds say, and not otherwise.
    """

    def judges(player: str) -> bool:
        return all(isinstance(getattr(model, network), Discriminator) for network in model.players[player])

    # or as the model itself has them
    splits = alternating and not model.whole_groups
    players = [(player,) for player in sorted(group, key=judges, reverse=True)] if splits else [group]
    return [{player: parameters(model, player) for player in move} for move in players]


class Trainer:
    """One phase's optimisers and data, and its round; `train` is the loop around it.

    A semi-supervised model gets a batch of `labelled` next to each of `split`, of as many images: in fresh
    permutations of its own, so that few labels come round often. Raises ValueError where they are missing.
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
        recipe = recipe.on(rng.device)
        self.model, self.phase, self.recipe, self.rng = model, phase, recipe, rng

        # data and noise
        self.batches = Batches(split, recipe.batch, rng)
        self.labelled: Batches | None = None
        if model.semi_supervised:
            if labelled is None:
                raise ValueError(f"{model.name} learns from labels: pass labelled")
            self.labelled = Batches(repeated(labelled, recipe.batch), recipe.batch, rng)
        self.draws = model.noise(recipe.batch)

        # for each batch of a round, who moves on it: all of a group at once, or one after the other
        self.moves = [moves_of(model, group, recipe.update == "alternating") for group in phase.round]
        learning = {tuple(learners): learners for move in self.moves for learners in move}
        players = [player for group in learning for player in group]

        # who does not learn in this phase is fixed, batch statistics included
        model.eval()
        for player in players:
            for network in model.players[player]:
                getattr(model, network).train()

        # one optimiser for players that always move at once: on small networks its own time counts
        groups = learning
        if len(set(players)) < len(players):
            groups = {(player,): {player: own[player]} for own in learning.values() for player in own}
        self.factor = 1.0  # of the learning rate, now
        self.optimisers = {group: self._optimiser(own) for group, own in groups.items()}

        # gradients
        shared = recipe.update == "simultaneous"
        self.judges = {players: self._judge(players, split) if shared else None for players in learning}
        self.autocast = torch.autocast(rng.device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
        self.compiled: AbstractContextManager[None] = nullcontext()
        if recipe.compile:
            self.compiled = Compiled(model)
            compiled.check(model, max(len(players) - bool(judge) for players, judge in self.judges.items()))

        # what is recorded: on CUDA rounds, on a CPU gradients
        records = recipe.execution == "graphs"
        rngs = [source.rng for source in self.sources]
        self.recorded = Recorded(rngs) if records and self._on_cuda else None
        on_tape = learning if records and not self._on_cuda else ()
        self.tapes = {players: Tape(list(model.buffers())) for players in on_tape}

    @property
    def _on_cuda(self) -> bool:
        return self.rng.device.type == "cuda"

    def _optimiser(self, learners: Learners) -> Adam:
        """Return Adam over some players' parameters; a step that is recorded reads its rate from a tensor."""
        recipe, recorded = self.recipe, self.recipe.execution == "graphs" and self._on_cuda

        # Parameters by their rates: all together as a rule, since each group takes time of its own.
        by_rate: dict[float, list[Tensor]] = {}
        for player, own in learners.items():
            by_rate.setdefault(recipe.lr_of.get(player, recipe.lr), []).extend(own)
        return Adam(
            [
                {
                    "params": own,
                    "rate": rate,
                    "lr": torch.tensor(rate, device=self.rng.device) if recorded else rate,
                }
                for rate, own in by_rate.items()
            ],
            betas=(recipe.beta1, recipe.beta2),
            weight_decay=recipe.weight_decay,
            fused=True,
            capturable=recorded,
        )

    def _judge(self, players: tuple[str, ...], split: Split) -> str | None:
        """Return whose backward pass serves all players, as a copy of the model shows on a few samples."""
        model, rng = copy.deepcopy(self.model), generator(0, "probe", self.rng.device)
        few = torch.arange(PROBE * model.packing) % len(split)
        # labels below 0 stand for none, which a batch of labelled samples does not have
        x, y = as_float(split.x[few].to(rng.device)), split.y[few].to(rng.device)
        noise = {name: draw(rng) for name, draw in model.noise(len(x)).items()}
        batch = Batch(x, noise, y, (x, y.clamp(min=0)))
        return judge_of(model, batch, {player: parameters(model, player) for player in players})

    # -------------------- a round

    def set_rate(self, share: float) -> None:
        """Set the learning rate for a point of the phase, 0 at its start and 1 at its end."""
        decay, floor = self.recipe.decay, self.recipe.decay_to
        left = min(1.0, (1.0 - share) / decay) if decay else 1.0  # of the time in which it falls
        factor = floor ** (1.0 - left) if floor else left
        for group in (group for optimiser in self.optimisers.values() for group in optimiser.param_groups):
            if not isinstance(group["lr"], Tensor):
                group["lr"] = group["rate"] * factor
            elif factor != self.factor:
                group["lr"].fill_(group["rate"] * factor)  # a recorded step reads it there
        self.factor = factor

    def round(self) -> dict[str, Tensor]:
        """Make a round on fresh batches; return mean losses and logits, on the device."""
        # The host picks the samples, outside what is recorded.
        picks = [self.pick() for _ in self.moves]
        return self.recorded(self.device_round, picks) if self.recorded else self.device_round(picks)

    def device_round(self, picks: Picks) -> dict[str, Tensor]:
        """Make a round on picked batches: all of it that is computed on the device."""
        return self.make_updates([self.batch(picked) for picked in picks])

    def pick(self) -> list[Tensor]:
        """Return the tensors that `batch` makes the next batch of."""
        return [*self.batches.pick(), *(self.labelled.pick() if self.labelled else ())]

    def batch(self, picked: Sequence[Tensor] | None = None) -> Batch:
        """Return the picked batch, or the next one, with fresh noise."""
        picked = self.pick() if picked is None else picked
        first = 1 if self.batches.resident else 2  # tensors of a batch without labels
        x, y = self.batches.load(*picked[:first])
        labelled = self.labelled.load(*picked[first:]) if self.labelled else None

        # convolutions are quickest with channels last
        x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
        return Batch(x, {name: draw(self.rng) for name, draw in self.draws.items()}, y, labelled)

    def make_updates(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Update all players of a round: their gradients on each batch, then their steps; return mean
        losses and logits.
        """
        monitored: dict[str, Tensor] = {}
        products = tf32(self.recipe.precision == "tf32") if self._on_cuda else nullcontext()
        with products, self.compiled:
            for move, batch in zip(self.moves, batches, strict=True):
                for learners in move:
                    # All gradients are there before the first step, so that no player sees another's.
                    monitored |= self.backward(batch, learners)

                    # The steps.
                    for group, optimiser in self.optimisers.items():
                        if learners.keys() >= set(group):
                            optimiser.step()
        return monitored

    def backward(self, batch: Batch, learners: Learners) -> dict[str, Tensor]:
        """Set the gradients of the learners' parameters; return mean losses and logits, on the device."""
        tape = self.tapes.get(tuple(learners))
        return tape(self._backward, batch, learners) if tape else self._backward(batch, learners)

    def _backward(self, batch: Batch, learners: Learners) -> dict[str, Tensor]:
        return gradients(self.model, batch, learners, self.judges[tuple(learners)], self.autocast)

    # -------------------- after the rounds

    def return_weights(self) -> None:
        """Leave the trained weights in the model, which they are in already."""

    @property
    def sources(self) -> "Sequence[Trainer]":
        """The trainers whose generators and orders of data the batches come from."""
        return [self]

    @torch.no_grad()
    def average_statistics(self) -> None:
        """Average batch norm's statistics over `statistics` batches, with fixed weights (BiGAN's code)."""
        norms = [norm for norm in self.model.modules() if isinstance(norm, BatchNorm) and norm.training]
        if not self.recipe.statistics or not norms:
            return

        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # torch's sign for a plain mean
        for _ in range(self.recipe.statistics):
            for move in self.moves:
                batch = self.batch()
                for learners in move:
                    self.model(batch, tuple(learners))
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum

    # -------------------- its state

    def state(self) -> dict[str, Tensor]:
        """Return all that a round changes, by name."""
        state = {f"model.{key}": tensor for key, tensor in self.model.state_dict().items()}
        for name, _, moments in self._moments():
            state |= {f"{name}.{key}": moment for key, moment in moments.items()}
        state |= {f"torch.{i}": tensor for i, tensor in enumerate(randomness.states(self.rng.device))}
        for i, source in enumerate(self.sources):
            state[f"generator.{i}"] = source.rng.get_state()
        for name, batches in self._orders():
            state[f"{name}.order"], state[f"{name}.position"] = batches.order, torch.tensor(batches.position)
        return state

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Resume from what `state` returned, in a trainer that was made with the same arguments."""

        def below(prefix: str) -> dict[str, Tensor]:
            names = [key for key in state if key.startswith(prefix)]
            return {key.removeprefix(prefix): state[key] for key in names}

        self.model.load_state_dict(below("model."))
        for name, parameter, moments in self._moments():
            for key, moment in below(f"{name}.").items():
                # a moment is laid out in memory as its parameter is, which a file does not keep
                like = parameter if moment.shape == parameter.shape else moment
                moments[key] = torch.empty_like(like, device=parameter.device).copy_(moment)
        if "torch.0" in state:  # an earlier version did not keep them
            randomness.restore(list(below("torch.").values()), self.rng.device)
        for i, source in enumerate(self.sources):
            source.rng.set_state(state[f"generator.{i}"])
        for name, batches in self._orders():
            batches.resume(state[f"{name}.order"], int(state[f"{name}.position"]))

    def _moments(self) -> Iterator[tuple[str, Tensor, dict[str, Tensor]]]:
        """Yield each parameter with its name in a state, and Adam's moments of it."""
        for group, optimiser in self.optimisers.items():
            parameters = [parameter for part in optimiser.param_groups for parameter in part["params"]]
            for i, parameter in enumerate(parameters):
                yield f"optimiser {'+'.join(group)}.{i}", parameter, optimiser.state[parameter]

    def _orders(self) -> Iterator[tuple[str, Batches]]:
        """Yield each order of data with its name in a state."""
        for i, source in enumerate(self.sources):
            yield f"batches.{i}", source.batches
            if source.labelled:
                yield f"labelled.{i}", source.labelled
