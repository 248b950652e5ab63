"""Is one update of a model what the contract asks for (models/base.py)? Players, losses, gradients, noise.

Each check takes a case and returns a fact to print. It raises Missing, or whatever the model raises.
"""

import copy
import random
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
from torch import Tensor, nn
from torch.autograd import grad

from alibench.benchmarks.checkup.case import CPU, Case, Missing, equal, first
from alibench.benchmarks.training import randomness
from alibench.benchmarks.training.gradients import Learners
from alibench.benchmarks.training.loop import Diverged, train
from alibench.evaluation.data import as_float
from alibench.evaluation.messages import listed
from alibench.evaluation.objects import shape_of
from alibench.evaluation.seeds import generator
from alibench.models.base import Batch, Model, Terms
from alibench.models.noise import Draw

FEWEST = 4  # samples, or packs of them, that a first pass is made with
LOOKS = 5  # batches that a parameter may wait for its first gradient
ROUNDS = 3  # before a stop, and after it


def builds(case: Case) -> str:
    """It can be built for the suite's data, and always with the same first weights from the same seed."""
    size = sum(p.numel() for p in case.model.parameters())

    # Seeds; generators that are not seeded move on in between.
    if case.is_thorough:
        np.random.rand()  # noqa: NPY002
        random.random()
        weights, again = (case.suite.build(case.name, 0).state_dict() for _ in range(2))
        if differing := [k for k in weights if k not in again or not equal(weights[k], again[k])]:
            raise Missing(
                f"two models that were built from one seed differ in {listed(differing)}: draw first "
                "weights by torch, whose generators are seeded then, or from networks.rng, not by numpy, "
                "random or the system"
            )

    return f"{size:,} parameters" if size else ""


# -------------------- who learns what


def players(case: Case) -> str:
    """What its players and phases name is there."""
    # What players own.
    model = case.model
    for player, networks in model.players.items():
        for network in networks:
            if not isinstance(getattr(model, network, None), nn.Module):
                raise Missing(f"player '{player}' owns '{network}', and the model has no such network")

    # Who moves.
    moving = [player for phase in model.phases for group in phase.round for player in group]
    if unknown := [player for player in moving if player not in model.players]:
        raise Missing(f"a phase moves '{unknown[0]}', players are: {', '.join(model.players)}", "phases")
    if idle := [player for player in model.players if player not in moving]:
        raise Missing(f"player '{idle[0]}' moves in no phase: name it in one", "phases")
    return ", ".join(model.players)


def _owners(model: Model) -> dict[str, list[str]]:
    """Return the networks, with their players, that hold each parameter, by its name."""
    networks: dict[str, list[str]] = {name: [] for name, _ in model.named_parameters()}
    names = {id(p): name for name, p in model.named_parameters()}
    for player, owned in model.players.items():
        for network in owned:
            for p in getattr(model, network).parameters():
                networks[names[id(p)]].append(f"{network} of '{player}'")
    return networks


def parameters(case: Case) -> str:
    """Every parameter that can be trained belongs to a player."""
    owners = _owners(case.model)
    trainable = [name for name, p in case.model.named_parameters() if p.requires_grad]
    if orphans := [name for name in trainable if not owners[name]]:
        raise Missing(f"no player owns {listed(orphans)}: what no network in players has is not trained")
    return f"{len(trainable)} tensors"


def owners(case: Case) -> str:
    """No parameter belongs to two."""
    shared = {name: networks for name, networks in _owners(case.model).items() if len(networks) > 1}
    if shared:
        both = " and ".join(next(iter(shared.values())))
        raise Missing(f"{listed(list(shared))} have two owners, {both}: leave them to one")
    return ""


# -------------------- losses


def losses(case: Case) -> str:
    """Every player that learns has a loss for each sample."""
    _first_pass(case)
    model, means = case.model, dict[str, float]()
    for phase, batch, learners in case.groups(model):
        values = _losses(model, batch, learners)
        if values.keys() - model.players.keys() or learners.keys() - values.keys():
            raise Missing(
                f"phase '{phase.name}' gives losses of {', '.join(values) or 'nobody'}, in it learn "
                f"{', '.join(learners)}: give each of them one, and nobody who is not in players"
            )

        # One loss a sample: the loop takes the mean itself, and each logit's slope by it.
        for player, value in values.items():
            if value.shape not in {(n := len(batch.x),), (n // model.packing,)}:
                raise Missing(
                    f"the loss of '{player}' has shape {tuple(value.shape)}, ({n},) is expected: one a "
                    "sample, without a mean over the batch, as by .flatten(1).sum(1)"
                )
            if not bool(value.isfinite().all()):
                raise Missing(f"the loss of '{player}' is not finite on the first batch")
        means |= {player: float(values[player].detach().mean()) for player in learners}
    return ", ".join(f"{player} {mean:.3g}" for player, mean in means.items())


def _first_pass(case: Case) -> None:
    """Pass few samples through a copy of the model as the loop does. Raises Missing for other types."""
    model = copy.deepcopy(case.model)
    few = first(case.few.train, FEWEST * model.packing)
    draws = model.noise(len(few))
    if wrong := [name for name, draw in draws.items() if not isinstance(draw, Draw)]:
        raise Missing(
            f"noise returned {shape_of(draws[wrong[0]])} for '{wrong[0]}': return how it is drawn, as "
            "Draw('normal', (n, width)); the numbers are in batch.noise then",
            "noise",
        )

    # the same samples stand in for the batch of labelled images
    rng = generator(0, "checkup")
    noise = {name: draw(rng) for name, draw in draws.items()}
    batch = Batch(as_float(few.x), noise, few.y, (as_float(few.x), few.y.clamp(min=0)))
    for learners in (learners for phase in model.phases for learners in phase.round):
        terms = model(batch, tuple(learners))
        if not isinstance(terms, Terms):
            raise Missing(
                f"forward returned {shape_of(terms)}: return Terms(losses={{player: loss of each sample}})",
                "forward",
            )


def _losses(model: Model, batch: Batch, learners: Learners) -> dict[str, Tensor]:
    return model.losses(model(batch, tuple(learners)), batch.y)


# -------------------- rounds


def rounds(case: Case) -> str:
    """A round of each phase can be made."""
    for phase in case.model.phases:
        try:
            case.trainer(case.model, phase).round()
        except RuntimeError:
            # the optimiser fails at a parameter without a gradient; `gradients` says at which
            gradients(case)
            raise
    return ", ".join(phase.name for phase in case.model.phases)


def gradients(case: Case) -> str:
    """Every parameter gets a gradient from its player's loss."""
    model = case.suite.build(case.name, 0)
    names = {id(p): name for name, p in model.named_parameters()}
    for phase in model.phases:
        # in the first rounds, since zeros among the first weights may keep it away from others
        trainer = case.trainer(model, phase)
        groups = [learners for move in trainer.moves for learners in move]
        waiting = {player: {id(p) for p in owned} for group in groups for player, owned in group.items()}
        for _ in range(LOOKS):
            for learners in groups:
                values = _losses(model, trainer.batch(), learners)
                for player, owned in learners.items():
                    found = zip(owned, _gradients(values[player], owned), strict=True)
                    waiting[player] -= {id(p) for p, slope in found if slope is not None and slope.any()}
            if not any(waiting.values()):
                break
            # the round fails if the loss does not depend on a parameter at all
            with suppress(RuntimeError):
                trainer.round()

        for player, keys in waiting.items():
            if lacking := [name for key, name in names.items() if key in keys]:
                raise Missing(
                    f"the loss of '{player}' gives no gradient to {listed(lacking)}: use it, or leave it out"
                )
    return ""


def _gradients(loss: Tensor, owned: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return the gradient of a mean loss by each parameter; None where it does not depend on it."""
    if not loss.requires_grad:
        return [None] * len(owned)
    return grad(loss.mean(), owned, retain_graph=True, allow_unused=True)


def noise(case: Case) -> str:
    """An update is a function of its batch, and of what it draws from torch's generators."""
    draws = False
    for phase, batch, learners in case.groups(case.model):

        def values(seed: int, batch: Batch = batch, learners: Learners = learners) -> dict[str, Tensor]:
            model = copy.deepcopy(case.model)
            with randomness.seeded(seed):
                return _losses(model, batch, learners)

        # numpy's and random's generators move on from one to the next
        once, again, other = values(1), values(1), values(2)
        for player in learners:
            if not equal(once[player], again[player]):
                raise Missing(
                    f"two passes over one batch give '{player}' two losses in phase '{phase.name}': name the "
                    "random numbers that it draws in `noise` and take them from batch.noise, or draw them by "
                    "torch; numpy, random and the system are not seeded, a resumed training would end at "
                    "other numbers"
                )
            draws = draws or not equal(once[player], other[player])
    return "draws by torch's generators, as nn.Dropout does: seeded, kept in checkpoints" if draws else ""


# -------------------- training


def trains(case: Case) -> str:
    """A training stays finite; the checks that follow look at its model."""
    model, recipe = case.suite.build(case.name, 0), replace(case.recipe, steps=case.steps)
    try:
        trained = train(model, case.data.train, recipe, 0, CPU, labelled=case.labelled)
    except Diverged as problem:
        raise Missing(f"diverged: {problem}: a smaller recipe.lr may help") from None
    case.model = model
    return f"{case.steps} steps in {trained.seconds:.1f} s"


@randomness.seeded(0)
def resumes(case: Case) -> str:
    """A training that is stopped and resumed, in a new object, ends at the same weights."""
    whole = case.suite.build(case.name, 0)
    for phase in whole.phases:
        # Without a stop; the state in the middle is kept.
        trainer = case.trainer(whole, phase)
        states = []
        for _ in range(2):
            for _ in range(ROUNDS):
                trainer.round()
            states.append({key: tensor.clone() for key, tensor in trainer.state().items()})
        middle, end = states

        # In a new object, from the middle on.
        other = case.trainer(case.suite.build(case.name, 1), phase)
        other.restore(middle)
        other.judges = trainer.judges
        for _ in range(ROUNDS):
            other.round()
        resumed = other.state()

        # The same numbers.
        for key in end:
            if key not in resumed or not equal(end[key], resumed[key]):
                raise Missing(
                    f"a training that is stopped and resumed ends at other numbers "
                    f"({key.removeprefix('model.')}): keep all that changes while it trains in parameters "
                    "or by register_buffer"
                )

        # the next phase starts where a training without a stop would
        randomness.restore([end["torch.0"]], CPU)
    return f"after {ROUNDS} rounds of each phase"
