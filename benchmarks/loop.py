"""The one training loop. It knows players, phases and batches (models/base.py), and no model by name.

For each phase, for each of its rounds, for each group of players that learn at once: one batch, one forward pass, each
player's gradient of its own loss by its own parameters (gradients.py), and only then all their steps. That is the
original's update: no player sees another's step of the same moment. The device is waited for at the logging tick alone,
and where a checkpoint is due.
"""

import copy
import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, field, replace
from types import ModuleType
from typing import Annotated, Any, Literal

import torch
from msgspec import Meta
from torch import Tensor
from torch.optim.swa_utils import get_ema_multi_avg_fn

from benchmarks import compiled, randomness
from benchmarks.checkpoints import Checkpoints
from benchmarks.compiled import Compiled
from benchmarks.data import Batches, placed
from benchmarks.gradients import BatchNorm, Learners, gradients, judge_of
from benchmarks.graphs import Picks, Recorded
from benchmarks.tape import Tape
from evaluation.arithmetic import tf32
from evaluation.base import BATCH, Count, Split, as_float, generator
from models.base import Batch, Model, Phase
from models.layers import Discriminator

TICKS = 50  # a phase
PROBE = 4  # samples that show whether one backward pass through D is exact
# told of each tick: phase, step in it, every learner's loss and the mean logit of each kind of pair; what it raises, ends
# the training. One that goes on from a checkpoint tells again what came after it, and nothing that came before
Log = Callable[[Mapping[str, float | str]], None]


Share = Annotated[float, Meta(ge=0, le=1)]
Decay = Annotated[float, Meta(ge=0, lt=1)]
Rate = Annotated[float, Meta(ge=1e-30, le=1e30)]  # what fp32 holds, and its products with what is near 1


@dataclass(frozen=True)
class Recipe:
    """How a model is trained; a suite's [recipe] table.

    Adam's betas are today's convention: the "beta2 = 1e-3" that ALI's paper prints is 1 - beta2 of the library it used.
    """

    steps: Annotated[int, Meta(ge=1, le=10**9)]  # rounds of the first phase
    batch: Count = 100
    lr: Rate = 1e-3  # of every player
    beta1: Decay = 0.5
    beta2: Decay = 0.999
    decay: Share = 0.5  # the last share of a phase's steps, over which lr falls
    decay_to: Share = 0.0  # fraction of lr that it falls to, exponentially; 0: linearly to zero
    weight_decay: Annotated[float, Meta(ge=0, le=1e30)] = 0.0  # times the weights, added to the gradient
    ema: Decay = 0.999  # decay of the averaged weights, which are evaluated; 0: the raw weights are
    statistics: Annotated[int, Meta(ge=0, le=10**6)] = 0  # batches that BN's are averaged over at the end; 0: as they ran
    # all at once, from one backward pass through D where that is exact; or from one a player, the same but for rounding; or
    # one after the other on the same batch, D first, as DCGAN's code does
    update: Literal["simultaneous", "separate", "alternating"] = "simultaneous"
    # tf32: matrix products and convolutions with 10 bits of mantissa (CUDA); bf16: networks by autocast, losses in fp32;
    # auto: tf32 where CUDA has it in hardware, else fp32
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"
    # graphs: what is computed is recorded once and replayed, on CUDA whole rounds (graphs.py), on a CPU the gradients
    # (tape.py), with the same numbers; auto: graphs on these two
    execution: Literal["auto", "eager", "graphs"] = "auto"
    compile: bool = False  # networks by torch.compile, each by itself; takes up to a minute before the first round
    # among the processes of one run (distributed.py): by the whole batch, as one process has it; or each by its own share of
    # it, which leaves the first's running statistics
    batch_norm: Literal["synchronised", "local"] = "synchronised"

    def on(self, device: torch.device, alone: bool = True) -> "Recipe":
        """Return the recipe with what is "auto" decided for a device that is there; not `alone`: with other processes."""
        precision, execution = self.precision, self.execution
        if precision == "auto":
            precision = "tf32" if has_tf32(device) else "fp32"
        if execution == "auto":
            execution = "graphs" if device.type in ("cpu", "cuda") and alone else "eager"
        return replace(self, precision=precision, execution=execution)


@dataclass
class Trained:
    """What a training leaves, besides the model itself."""

    seconds: float = 0.0
    updates: dict[str, int] = field(default_factory=dict)  # of each network
    curves: list[dict[str, float | str]] = field(default_factory=list)  # a record a tick
    resumed: list[dict[str, Any]] = field(default_factory=list)  # where it went on from a checkpoint: phase and step


class Diverged(Exception):
    """A loss or a parameter is no longer finite."""


def silent(record: Mapping[str, float | str]) -> None:
    """Tell nobody."""


def steps_of(phase: Phase, recipe: Recipe) -> int:
    """Return the rounds of a phase."""
    return round(phase.share * recipe.steps)


def parameters(model: Model, player: str) -> list[Tensor]:
    """Return the trainable parameters of a player, in order."""
    networks = [getattr(model, network) for network in model.players[player]]
    return [p for network in networks for p in network.parameters() if p.requires_grad]


def _moves(model: Model, group: tuple[str, ...], alternating: bool) -> list[Learners]:
    """Return who learns at once on one batch, with their parameters: a whole group, or each alone, discriminators first."""

    def judges(player: str) -> bool:
        return all(isinstance(getattr(model, network), Discriminator) for network in model.players[player])

    alone = [(player,) for player in sorted(group, key=judges, reverse=True)]
    return [{player: parameters(model, player) for player in players} for players in (alone if alternating else [group])]


def has_tf32(device: torch.device) -> bool:
    """Return whether a device that is there computes in TF32."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def bf16_is_native(device: torch.device) -> bool:
    """Return whether a device computes in bf16; others imitate it, many times slower than they compute in fp32."""
    if device.type == "cpu":
        native: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return native
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)


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
        recipe = recipe.on(rng.device)
        self.model, self.phase, self.recipe, self.rng = model, phase, recipe, rng

        # what a round sees
        self.batches = Batches(split, recipe.batch, rng)
        self.labelled: Batches | None = None
        if model.semi_supervised:
            if labelled is None:
                raise ValueError(f"{model.name} learns from labels: pass labelled")
            self.labelled = Batches(repeated(labelled, recipe.batch), recipe.batch, rng)
        self.draws = model.noise(recipe.batch)

        # for each batch of a round, who moves on it: all of a group at once, or one after the other
        self.moves = [_moves(model, group, recipe.update == "alternating") for group in phase.round]
        learning = {tuple(learners): learners for move in self.moves for learners in move}
        players = [player for group in learning for player in group]
        model.eval()  # who does not learn is fixed, batch statistics included
        for player in players:
            for network in model.players[player]:
                getattr(model, network).train()

        # one optimiser for players that always move at once: on small networks its own time counts
        groups = learning
        if len(set(players)) < len(players):
            groups = {(player,): {player: own[player]} for own in learning.values() for player in own}
        self.factor = 1.0  # that the learning rate is multiplied by now
        self.optimisers = {group: self._optimiser(own) for group, own in groups.items()}

        # how gradients are computed
        shared = recipe.update == "simultaneous"
        self.judges = {players: self._judge(players, split) if shared else None for players in learning}
        self.autocast = torch.autocast(rng.device.type, torch.bfloat16, enabled=recipe.precision == "bf16")
        self.compiled: AbstractContextManager[None] = nullcontext()
        if recipe.compile:
            self.compiled = Compiled(model)
            compiled.check(model, max(len(players) - bool(judge) for players, judge in self.judges.items()))

        # what of it is recorded: on CUDA rounds, on a CPU gradients
        records = recipe.execution == "graphs"
        rngs = [source.rng for source in self.sources]
        self.recorded = Recorded(rngs) if records and self._on_cuda else None
        self.tapes = {players: Tape(list(model.buffers())) for players in learning if records and not self._on_cuda}

    @property
    def _on_cuda(self) -> bool:
        return self.rng.device.type == "cuda"

    def _optimiser(self, learners: Learners) -> torch.optim.Adam:
        """Return Adam over some players' parameters; a step that is recorded reads its rate from a tensor."""
        recipe, recorded = self.recipe, self.recipe.execution == "graphs" and self._on_cuda
        return torch.optim.Adam(
            [p for own in learners.values() for p in own],
            lr=torch.tensor(recipe.lr, device=self.rng.device) if recorded else recipe.lr,
            betas=(recipe.beta1, recipe.beta2),
            weight_decay=recipe.weight_decay,
            fused=True,
            capturable=recorded,
        )

    def _judge(self, players: tuple[str, ...], split: Split) -> str | None:
        """Return whose backward pass serves all players, as a copy of the model shows on a few samples."""
        probe, rng = self._probe(), generator(0, "probe", self.rng.device)
        x, y = as_float(split.x[:PROBE].to(rng.device)), split.y[:PROBE].to(rng.device)
        batch = Batch(x, {name: draw(rng) for name, draw in probe.noise(len(x)).items()}, y, (x, y.clamp(min=0)))
        return judge_of(probe, batch, {player: parameters(probe, player) for player in players})

    def _probe(self) -> Model:
        """Return a copy of the model that may be changed."""
        return copy.deepcopy(self.model)

    def rate(self, share: float) -> None:
        """Set the learning rate for a point of the phase, 0 at its start and 1 at its end."""
        decay, floor = self.recipe.decay, self.recipe.decay_to
        left = min(1.0, (1.0 - share) / decay) if decay else 1.0  # of the time in which it falls
        factor = floor ** (1.0 - left) if floor else left
        for optimiser in self.optimisers.values():
            lr = optimiser.param_groups[0]["lr"]
            if not isinstance(lr, Tensor):
                optimiser.param_groups[0]["lr"] = self.recipe.lr * factor
            elif factor != self.factor:
                lr.fill_(self.recipe.lr * factor)  # a recorded step reads it there
        self.factor = factor

    def pick(self) -> list[Tensor]:
        """Return the tensors that say what the next batch holds; `batch` makes it of them."""
        return [*self.batches.pick(), *(self.labelled.pick() if self.labelled else ())]

    def batch(self, picked: Sequence[Tensor] | None = None) -> Batch:
        """Return the picked batch, or the next one, with fresh noise."""
        picked = self.pick() if picked is None else picked
        own = 1 if self.batches.resident else 2
        x, y = self.batches.load(*picked[:own])
        labelled = self.labelled.load(*picked[own:]) if self.labelled else None
        x = x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
        return Batch(x, {name: draw(self.rng) for name, draw in self.draws.items()}, y, labelled)

    def learn(self, batch: Batch, learners: Learners) -> dict[str, Tensor]:
        """Leave the learners' gradients in their parameters; return what was monitored, on the device."""
        tape = self.tapes.get(tuple(learners))
        return tape(self._learn, batch, learners) if tape else self._learn(batch, learners)

    def _learn(self, batch: Batch, learners: Learners) -> dict[str, Tensor]:
        return gradients(self.model, batch, learners, self.judges[tuple(learners)], self.autocast)

    def advance(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Let all groups of a round learn, each on its batch; return what was monitored, on the device."""
        monitored: dict[str, Tensor] = {}
        products = tf32(self.recipe.precision == "tf32") if self._on_cuda else nullcontext()
        with products, self.compiled:
            for move, batch in zip(self.moves, batches, strict=True):
                for learners in move:
                    monitored |= self.learn(batch, learners)
                    for group, optimiser in self.optimisers.items():
                        if learners.keys() >= set(group):
                            optimiser.step()
        return monitored

    def play(self, picks: Picks) -> dict[str, Tensor]:
        """Make a round on picked batches: all of it that is computed on the device."""
        return self.advance([self.batch(picked) for picked in picks])

    def round(self) -> dict[str, Tensor]:
        """Make a round on fresh batches; return what was monitored, on the device."""
        picks = [self.pick() for _ in self.moves]
        return self.recorded(self.play, picks) if self.recorded else self.play(picks)

    def hand_back(self) -> None:
        """Leave the trained weights in the model, which they are in already."""

    @property
    def sources(self) -> "Sequence[Trainer]":
        """Those whose generators and orders of data the batches come from."""
        return [self]

    def state(self) -> dict[str, Tensor]:
        """Return all that a round changes, by name."""
        found = {f"model.{key}": tensor for key, tensor in self.model.state_dict().items()}
        for name, optimiser in self._optimisers():
            for i, parameter in enumerate(optimiser.param_groups[0]["params"]):
                found |= {f"{name}.{i}.{key}": moment for key, moment in optimiser.state.get(parameter, {}).items()}
        found |= {f"torch.{i}": state for i, state in enumerate(randomness.states(self.rng.device))}
        for i, source in enumerate(self.sources):
            found[f"generator.{i}"] = source.rng.get_state()
            for name, batches in source._batches():
                found |= {f"{name}.{i}.order": batches.order, f"{name}.{i}.position": torch.tensor(batches.position)}
        return found

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned, in a trainer made as that one was."""

        def below(prefix: str) -> dict[str, Tensor]:
            return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}

        self.model.load_state_dict(below("model."))
        if "torch.0" in state:  # an earlier version did not keep them
            randomness.restore(list(below("torch.").values()), self.rng.device)
        for name, optimiser in self._optimisers():
            for i, parameter in enumerate(optimiser.param_groups[0]["params"]):
                for key, moment in below(f"{name}.{i}.").items():
                    # a moment is laid out in memory as its parameter is, which a file does not keep
                    like = parameter if moment.shape == parameter.shape else moment
                    optimiser.state[parameter][key] = torch.empty_like(like, device=parameter.device).copy_(moment)
        for i, source in enumerate(self.sources):
            source.rng.set_state(state[f"generator.{i}"])
            for name, batches in source._batches():
                batches.go_on(state[f"{name}.{i}.order"], int(state[f"{name}.{i}.position"]))

    def _optimisers(self) -> list[tuple[str, torch.optim.Adam]]:
        return [(f"optimiser {'+'.join(group)}", optimiser) for group, optimiser in self.optimisers.items()]

    def _batches(self) -> list[tuple[str, Batches]]:
        return [("batches", self.batches), *([("labelled", self.labelled)] if self.labelled else [])]

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
                for move in self.moves:
                    batch = self.batch()
                    for learners in move:
                        self.model(batch, tuple(learners))
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum


def _shared() -> ModuleType | None:
    """Return what shares a training with other processes, where there are some."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return None
    from benchmarks import distributed  # its trainer is a Trainer itself

    return distributed if distributed.shares() else None


def trainer_of(
    models: Sequence[Model],
    phase: Phase,
    recipe: Recipe,
    split: Split,
    rngs: Sequence[torch.Generator],
    labelled: Sequence[Split | None],
) -> Trainer:
    """Return what makes the rounds of a phase: of one model, perhaps with other processes, or of several seeds stacked."""
    shared = _shared() if len(models) == 1 else None
    kind = shared.ShardedTrainer if shared else Trainer
    singles = [kind(model, phase, recipe, split, rng, own) for model, rng, own in zip(models, rngs, labelled, strict=True)]
    if len(singles) == 1:
        return singles[0]
    from benchmarks.replicas import StackedTrainer  # it is a Trainer itself

    return StackedTrainer(singles)


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

    def state(self) -> dict[str, Tensor]:
        """Return the average and the number of its updates, by name."""
        return {f"average.{i}": mean for i, mean in enumerate(self.mean)} | {"averaged": torch.tensor(self.updates)}

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from what `state` returned."""
        self.updates = int(state["averaged"])
        for i, mean in enumerate(self.mean):
            mean.copy_(state[f"average.{i}"])

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
    log: Log = silent,
) -> Trained:
    """Train the model in place, through all its phases; at its end it holds the averaged weights.

    A phase ends by adopting the average, so that what learns later learns on the weights that will be scored. `report`
    is told how many rounds passed since its last call. `labelled` is what a semi-supervised model learns classes from.
    `log` is told every record of the curves as it is made, for a tracker of one's own. Raises Diverged, naming phase and
    step.
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
    """Train a model of each seed, as `train` trains each alone; several are stacked and move at once (replicas.py).

    A seed that diverges leaves the others as they are. The time of all is shared among them. With `checkpoints` it goes on
    from the newest, if there is one, to the result it would have had; raises what they raise. `logs` are one a seed or
    none at all.
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
    outcomes = [Trained(updates={network: 0 for own in model.players.values() for network in own}) for model in models]
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
                        lost.setdefault(i, Diverged(f"not finite in phase '{phase.name}' at step {step} of {steps}"))
                    outcomes[i].curves.append({"phase": phase.name, "step": step, **dict(zip(monitored, own, strict=True))})
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
            for network in (network for group in phase.round for player in group for network in models[0].players[player]):
                outcome.updates[network] += steps

    for i, model in enumerate(models):
        model.eval()
        with torch.no_grad():
            model.conclude((as_float(x.to(device)) for x in split.x.split(BATCH)), generator(seeds[i], "conclusion", device))
        if not all(bool(value.isfinite().all()) for value in model.state_dict().values()):
            lost.setdefault(i, Diverged("parameters are not finite after the last step"))
    for outcome in outcomes:
        outcome.seconds = (time.perf_counter() - start) / len(models)
    return [lost.get(i, outcome) for i, outcome in enumerate(outcomes)]
