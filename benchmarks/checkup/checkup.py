"""Is a model of the user's what the contract asks for (models/base.py)? `alibench check FILE` says it, a line
a check.

The checks that a run depends on are made before every run, too, on a few samples: what fails there is said
before anything is trained or written.
"""

import argparse
import copy
import inspect
import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.autograd import grad
from torch.nn.parameter import is_lazy

from alibench.benchmarks.config import checks, compute, loading, plugins
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.config.streams import Unwritable
from alibench.benchmarks.running import outputs
from alibench.benchmarks.running.outputs import Answer
from alibench.benchmarks.training import randomness
from alibench.benchmarks.training.gradients import Learners
from alibench.benchmarks.training.loop import train
from alibench.benchmarks.training.outcomes import Diverged
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation import pictures
from alibench.evaluation.data import Data, Split, as_float, unfit
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.messages import say
from alibench.evaluation.metrics import health, throughput
from alibench.evaluation.representation import CODE_ALONE, encoder_layers, one_core_a_thread
from alibench.evaluation.seeds import generator
from alibench.evaluation.subject import POINTS, Subject
from alibench.models.base import Batch, Model, Phase, Terms, shape_of
from alibench.models.noise import Draw

CPU = torch.device("cpu")
BATCH = 16  # samples that are trained on
FEWEST = 4  # that a first pass is made with
HELD_OUT = 40  # samples that are looked at: some more than any picture or measure of health needs
LOOKS = 5  # batches that a parameter may wait for its first gradient
ROUNDS = 3  # before a stop, and after it
FLAT = 1e-6  # of their size, by which numbers may differ that are all the same


@dataclass(frozen=True)
class Finding:
    """What a check found: nothing wrong, or what is, with the remedy."""

    model: str
    check: str
    ok: bool
    what: str


class Missing(Exception):
    """A model lacks something; the message says what, and `methods` where in its code to look for it."""

    def __init__(self, what: str, *methods: str) -> None:
        super().__init__(what)
        self.methods = methods


@dataclass(frozen=True)
class Check:
    """One thing that is looked at: `look` returns something to tell, or raises."""

    name: str
    look: Callable[[], str]
    needs: tuple[str, ...] = ()  # checks without which this one says nothing new


class Case:
    """An entry of a suite under examination, on the CPU. Its checks raise Missing, or whatever the model
    raises.
    """

    def __init__(self, suite: Suite, name: str) -> None:
        self.suite, self.name, self.kind = suite, name, suite.kind(name)
        self.data = suite.load()
        train, validation, test = (
            _first(part, HELD_OUT) for part in (self.data.train, self.data.validation, self.data.test)
        )
        self.few: Data = replace(self.data, train=train, validation=validation, test=test)
        self.recipe = replace(
            suite.recipe_of(name), execution="eager", precision="fp32", compile=False, statistics=0
        )
        self.labelled = compute.labelled_of(suite, name, 0)
        self.asked = suite.evaluation.samples or (len(self.data.test) if self.data.images else POINTS)

    @property
    def short(self) -> str:
        """Say how many images a folder of samples lacks; nothing if none."""
        if not plugins.is_folder(self.kind) or not self.data.images:
            return ""
        there, place = plugins.size(self.kind), plugins.PLACES[self.kind]
        enough = f"add some, or measure fewer of all models by --set evaluation.samples={there}"
        asked = f"{place} holds {there} images, suite '{self.suite.name}' measures {self.asked}: {enough}"
        return asked if there < self.asked else ""

    @cached_property
    def model(self) -> Model:
        """The model that is examined, with its first weights until a check trains it."""
        return self.suite.build(self.name, 0)

    def trainer(self, model: Model, phase: Phase) -> Trainer:
        """Return what makes rounds on few samples."""
        recipe = replace(self.recipe, batch=min(BATCH, self.recipe.batch, len(self.few.train)))
        return Trainer(model, phase, recipe, self.few.train, generator(0, "checkup"), self.labelled)

    def groups(self, model: Model) -> Iterator[tuple[Phase, Batch, Learners]]:
        """Yield a batch for each group that learns at once, in each phase."""
        for phase in model.phases:
            trainer = self.trainer(model, phase)
            for move in trainer.moves:
                for learners in move:
                    yield phase, trainer.batch(), learners

    def subject(self, model: Model) -> Subject:
        """Return a model as the evaluation takes it, on few samples."""
        settings = replace(self.suite.evaluation, samples=min(BATCH, self.asked), resamples=1)
        return Subject(model, self.few, settings, 0, "test", CPU)

    # -------------------- before training

    def builds(self, strict: bool) -> str:
        """It can be built for the suite's data, and always with the same first weights from the same seed."""
        model, fixed = self.model, False
        if lazy := [name for name, p in model.named_parameters() if is_lazy(p)]:
            raise Missing(
                f"{_listed(lazy)} have no size before the first batch: give it, networks.shape is that of "
                "one x",
                "__init__",
            )
        if strict:
            np.random.rand()  # noqa: NPY002  # what is not seeded moves on meanwhile
            random.random()
            first, second, third = (self.suite.build(self.name, seed).state_dict() for seed in (0, 0, 1))
            if other := [key for key in first if key not in second or not _equal(first[key], second[key])]:
                raise Missing(
                    f"two models that were built from one seed differ in {_listed(other)}: draw first "
                    "weights by torch, "
                    "whose generators are seeded then, or from networks.rng, not by numpy, random or the "
                    "system",
                    "__init__",
                )
            fixed = all(_equal(first[key], third[key]) for key in first)
        numbers = sum(p.numel() for p in model.parameters())
        return f"{numbers:,} parameters{', the same from every seed' * fixed}" if numbers else ""

    def players(self) -> str:
        """What its players and phases name is there."""
        model = self.model
        for player, own in model.players.items():
            for network in own:
                if not isinstance(getattr(model, network, None), nn.Module):
                    raise Missing(
                        f"player '{player}' owns '{network}', and the model has no such network", "__init__"
                    )
            if not any(p.requires_grad for network in own for p in getattr(model, network).parameters()):
                raise Missing(f"player '{player}' owns no parameter that can be trained: leave it out")
        moving = [player for phase in model.phases for group in phase.round for player in group]
        if unknown := [player for player in moving if player not in model.players]:
            raise Missing(f"a phase moves '{unknown[0]}', players are: {', '.join(model.players)}", "phases")
        if idle := [player for player in model.players if player not in moving]:
            raise Missing(f"player '{idle[0]}' moves in no phase: name it in one", "phases")
        return ", ".join(model.players)

    def _owners(self) -> dict[str, list[str]]:
        """Return whose each parameter is, by its name."""
        model = self.model
        owners: dict[str, list[str]] = {name: [] for name, _ in model.named_parameters()}
        names = {id(p): name for name, p in model.named_parameters()}
        for player, own in model.players.items():
            for network in own:
                for p in getattr(model, network).parameters():
                    owners[names[id(p)]].append(f"{network} of '{player}'")
        return owners

    def parameters(self) -> str:
        """Every parameter that can be trained belongs to a player."""
        trainable = [name for name, p in self.model.named_parameters() if p.requires_grad]
        if nobody := [name for name, own in self._owners().items() if not own and name in trainable]:
            raise Missing(
                f"no player owns {_listed(nobody)}: nobody trains what no network in players has", "__init__"
            )
        return f"{len(trainable)} tensors"

    def owners(self) -> str:
        """No parameter belongs to two."""
        several = {name: own for name, own in self._owners().items() if len(own) > 1}
        if several:
            whose = " and ".join(next(iter(several.values())))
            raise Missing(f"{_listed(list(several))} have two owners, {whose}: leave them to one", "__init__")
        return ""

    def losses(self) -> str:
        """Every player that learns has a loss for each sample."""
        self._pass()
        model, last = self.model, dict[str, float]()
        for phase, batch, learners in self.groups(model):
            n = len(batch.x)
            terms = model(batch, tuple(learners))
            if (
                terms.logits
                and phase == model.phases[0]
                and hasattr(model, "discriminator")
                and not model.critic
            ):
                if lacking := [kind for kind in ("q", "p") if kind not in terms.logits]:
                    raise Missing(
                        f"logits have no '{lacking[0]}': metric 'health' reads off 'q' what D says of "
                        "encoder pairs, data, "
                        "and off 'p' of the others; a critic that gives scores says critic = True",
                        "forward",
                    )
                if "discriminator" not in model.players:
                    raise Missing(
                        "the network 'discriminator' needs a player of that name, for metric 'health'", "game"
                    )
            losses = model.losses(terms, batch.y)
            for player in (*learners, *losses):
                if player not in losses:
                    there = ", ".join(losses) or "nobody"
                    raise Missing(
                        f"player '{player}' has no loss in phase '{phase.name}', {there} has: give it one",
                        "game",
                        "forward",
                    )
                if player not in model.players:
                    raise Missing(f"there is a loss of '{player}', which is no player", "game", "forward")
                if tuple(losses[player].shape) != (n,):
                    raise Missing(
                        f"the loss of '{player}' has shape {tuple(losses[player].shape)}, ({n},) is "
                        "expected: one a sample, "
                        "without a mean over the batch, as by .flatten(1).sum(1)",
                        "game",
                        "forward",
                    )
                if not bool(losses[player].isfinite().all()):
                    raise Missing(
                        f"the loss of '{player}' is not finite on the first batch", "game", "forward"
                    )
            last |= {player: float(losses[player].detach().mean()) for player in learners}
        return ", ".join(f"{player} {loss:.3g}" for player, loss in last.items())

    def _pass(self) -> None:
        """Make a pass through a copy of the model as the loop does, and say what it gets and gives in another
        form.
        """
        model, part = copy.deepcopy(self.model), _first(self.few.train, FEWEST)
        try:
            inspect.signature(model.forward).bind(part, ())
        except TypeError:
            takes = inspect.signature(model.forward)
            raise Missing(
                f"forward takes {takes}: the loop calls forward(batch, learners), batch.x holds the x",
                "forward",
            ) from None

        draws = model.noise(len(part))
        if wrong := [name for name, draw in draws.items() if not isinstance(draw, Draw)]:
            raise Missing(
                f"noise returned {shape_of(draws[wrong[0]])} for '{wrong[0]}': return how it is drawn, as "
                "Draw('normal', "
                "(n, width)); the numbers are in batch.noise then",
                "noise",
            )
        rng = generator(0, "checkup")
        noise = {name: draw(rng) for name, draw in draws.items()}
        batch = Batch(as_float(part.x), noise, part.y, (as_float(part.x), part.y.clamp(min=0)))
        for phase in model.phases:
            for learners in phase.round:
                try:
                    terms = model(batch, tuple(learners))
                except KeyError as lacking:
                    if lacking.args[0] in noise or "noise" not in plugins.source_line(lacking):
                        raise
                    there = ", ".join(noise) or "nothing"
                    raise Missing(
                        f"batch.noise has no {lacking}: it holds what `noise` names, which is {there}",
                        "noise",
                        "forward",
                    ) from None
                if not isinstance(terms, Terms):
                    raise Missing(
                        f"forward returned {shape_of(terms)}: return "
                        f"Terms(losses={{player: its loss of each sample}})",
                        "forward",
                    )

    def gradients(self) -> str:
        """Every parameter gets a gradient from its player's loss."""
        model = self.suite.build(self.name, 0)
        names = {id(p): name for name, p in model.named_parameters()}
        left: dict[int, str] = {}
        for phase in model.phases:
            trainer = self.trainer(model, phase)
            waiting = {
                id(p): player
                for move in trainer.moves
                for group in move
                for player, own in group.items()
                for p in own
            }
            for _ in range(LOOKS):
                for learners in (learners for move in trainer.moves for learners in move):
                    batch = trainer.batch()
                    losses = model.losses(model(batch, tuple(learners)), batch.y)
                    for player, own in learners.items():
                        for p, found in zip(own, _gradients(losses[player], own), strict=True):
                            if found is not None and bool(found.any()):
                                waiting.pop(id(p), None)
                if not waiting:
                    break
                with suppress(RuntimeError):  # of a parameter that the loss does not depend on at all
                    trainer.round()
            left |= waiting
        if left:
            player = next(iter(left.values()))
            whose = [names[key] for key, owner in left.items() if owner == player]
            raise Missing(
                f"the loss of '{player}' gives no gradient to {_listed(whose)}: use it, or leave it out",
                "forward",
            )
        return ""

    def pure(self) -> str:
        """An update is a function of its batch, and of what it draws from torch's generators."""
        draws = False
        for phase, batch, learners in self.groups(self.model):

            def losses(seed: int, batch: Batch = batch, learners: Learners = learners) -> dict[str, Tensor]:
                model = copy.deepcopy(self.model)
                with randomness.seeded(seed):
                    return model.losses(model(batch, tuple(learners)), batch.y)

            first, second, other = losses(1), losses(1), losses(2)
            for player in learners:
                if not _equal(first[player], second[player]):
                    raise Missing(
                        f"two passes over one batch give '{player}' two losses in phase '{phase.name}': "
                        "name the random "
                        "numbers that it draws in `noise` and take them from batch.noise, or draw them by "
                        "torch, whose "
                        "generators are seeded; numpy's, random's and the system's are not, and a stopped "
                        "training "
                        "would end at other numbers",
                        "forward",
                    )
                draws = draws or not _equal(first[player], other[player])
        return "draws by torch's generators, as nn.Dropout does: seeded, kept in checkpoints" if draws else ""

    def rounds(self) -> str:
        """A round of each phase can be made."""
        for phase in self.model.phases:
            try:
                self.trainer(self.model, phase).round()
            except RuntimeError:
                self.gradients()  # which may know more of it
                raise
        return ", ".join(phase.name for phase in self.model.phases)

    # -------------------------------------------------------------------------------------------- training

    def trains(self, steps: int) -> str:
        """A training stays finite."""
        model, recipe = self.suite.build(self.name, 0), replace(self.recipe, steps=steps)
        try:
            left = train(model, self.data.train, recipe, 0, CPU, labelled=self.labelled)
        except Diverged as problem:
            raise Missing(f"diverged: {problem}: a smaller recipe.lr may help") from None
        self.model = model
        return f"{steps} steps in {left.seconds:.1f} s"

    def resumes(self) -> str:
        """A training that is stopped and resumed, in a new object, ends at the same weights."""
        with randomness.seeded(0):
            return self._resumes()

    def _resumes(self) -> str:
        whole = self.suite.build(self.name, 0)
        for phase in whole.phases:
            trainer = self.trainer(whole, phase)
            for _ in range(ROUNDS):
                trainer.round()
            state = {key: tensor.clone() for key, tensor in trainer.state().items()}
            for _ in range(ROUNDS):
                trainer.round()
            end = {key: tensor.clone() for key, tensor in trainer.state().items()}

            other = self.trainer(self.suite.build(self.name, 1), phase)
            other.restore(state)
            other.judges = trainer.judges
            for _ in range(ROUNDS):
                other.round()
            resumed = other.state()

            for key in end:
                if key not in resumed or not _equal(end[key], resumed[key]):
                    raise Missing(
                        f"a training that is stopped and resumed ends at other numbers "
                        f"({key.removeprefix('model.')}): keep "
                        "all that changes while it trains in parameters or by register_buffer",
                        "forward",
                    )
            randomness.restore([end["torch.0"]], CPU)
        return f"after {ROUNDS} rounds of each phase"

    # -------------------------------------------------------------------------------------------- use

    def samples(self, strict: bool) -> str:
        """Samples are like the data, and come again from the same generator."""
        methods = ("sample", "generate", "prior", "decode")
        if (
            not self.kind.elsewhere
            and not hasattr(self.model, "decoder")
            and self.kind.generate is Model.generate
        ):
            raise Missing(
                "it has no network 'decoder': make one, override generate, or say generative = False",
                "__init__",
            )
        subject, again = self.subject(self.model), self.subject(self.model)
        x = subject.samples
        self._check(x, len(subject.prior_labels), "samples", *methods)
        with torch.no_grad():
            sampled = self.model.sample(len(x), again.rng("samples"), again.prior_labels)
        if not strict:
            return ""
        if not torch.equal(x, again.samples):
            raise Missing(
                "the same generator gives other samples: draw all random numbers by the rng of sample(n, "
                "rng)",
                *methods,
            )
        if not torch.equal(x, sampled.cpu()):
            raise Missing(
                "sample gives others than generate, which is what is measured: override generate", *methods
            )
        if _flat(x):
            raise Missing("all samples are the same", *methods)
        return _range(x)

    def codes(self, strict: bool) -> str:
        """Codes tell one x from another, and are the same when asked for again."""
        methods = ("encode", "infer", "posterior")
        if (
            not self.kind.elsewhere
            and not hasattr(self.model, "encoder")
            and self.kind.posterior is Model.posterior
        ):
            raise Missing(
                "it has no network 'encoder': make one, override posterior, or say inference = 'none'",
                "__init__",
            )
        subject, again = self.subject(self.model), self.subject(self.model)
        n = len(self.few.test)
        for what in ("codes", "drawn_codes") if self.model.stochastic else ("codes",):
            z = getattr(subject, what)
            wide = z.shape[-1] if self.kind.elsewhere else self.suite.latent
            what = what.replace("_", " ")
            if tuple(z.shape) != (n, wide):
                raise Missing(f"{what} of {n} x come as {shape_of(z)}: ({n}, {wide}) is expected", *methods)
            if not bool(z.isfinite().all()):
                raise Missing(f"{what} are not finite", *methods)
            if strict and not torch.equal(z, getattr(again, what.replace(" ", "_"))):
                raise Missing(
                    f"the same x has other {what} when asked again: draw random numbers by rng alone; "
                    "dropout ends with "
                    "training as nn.Dropout, or as F.dropout(..., training=self.training)",
                    *methods,
                )
        if strict and _flat(subject.codes):
            raise Missing("every x has the same code: the encoder ignores x", *methods)
        return f"{subject.codes.shape[1]} numbers"

    def reconstructions(self, strict: bool) -> str:
        """What codes decode to is like the data."""
        subject = self.subject(self.model)
        self._check(subject.reconstructions, len(self.few.test), "reconstructions", "decode")
        if self.model.stochastic or self.model.draws_x:
            self._check(
                subject.drawn_reconstructions, len(self.few.test), "reconstructions of drawn codes", "decode"
            )
        return _range(subject.reconstructions) if strict else ""

    def measures(self, strict: bool) -> str:
        """What metrics and pictures ask for is there."""
        model, subject = self.model, self.subject(self.model)
        x, y, told = as_float(self.few.test.x), self.few.test.y, ""
        pictures.arrays(subject)
        with torch.no_grad():
            if model.inference != "none" and not model.conditional:
                layers = encoder_layers(model.features)(x)
                for name, h in layers.items():
                    if not isinstance(h, Tensor) or h.dim() != 2 or len(h) != len(x):
                        raise Missing(
                            f"features '{name}' come as {shape_of(h)}: ({len(x)}, F) is expected", "features"
                        )
                told = f"classifiers get {', '.join(f'{name} ({h.shape[1]})' for name, h in layers.items())}"
                told += f": {self._layers}" * (CODE_ALONE in layers)
            if model.likelihood:
                seen = model.observe(x, generator(0, "checkup"))
                if seen.shape != x.shape:
                    raise Missing(f"observe gives {shape_of(seen)}, {tuple(x.shape)} is expected", "observe")
            if model.semi_supervised:
                logits = model.classify(x)
                if tuple(logits.shape) != (len(x), self.data.classes):
                    raise Missing(
                        f"classify gives {shape_of(logits)}, ({len(x)}, {self.data.classes}) is expected",
                        "classify",
                    )
        if "health" in self.suite.metrics:
            health.measure(subject)
        if "throughput" in self.suite.metrics and not plugins.is_folder(self.kind):
            for work, _ in throughput.works(subject, len(y)).values():
                work()
        return told if strict and self.data.images else ""

    @property
    def _layers(self) -> str:
        """Say where hidden layers would come from."""
        if self.kind.elsewhere:
            return "features(x) would give hidden layers, too"
        return "a method hidden(x) of its encoder would give hidden layers, {'name': (B, ...)}"

    def weights(self) -> str:
        """A new object with its weights is the same model."""
        other = self.suite.build(self.name, 1)
        other.load_state_dict(self.model.state_dict())
        one, two = self.subject(self.model), self.subject(other)
        same = not self.model.generative or torch.equal(one.samples, two.samples)
        if not same or not (self.model.inference == "none" or torch.equal(one.codes, two.codes)):
            raise Missing(
                "a new object with these weights gives other samples or codes: keep all that it needs in "
                "parameters or by "
                "register_buffer",
                "__init__",
            )
        return ""

    def _check(self, x: Any, n: int, what: str, *methods: str) -> None:
        expected = (n, *self.data.shape)
        if not isinstance(x, Tensor) or tuple(x.shape) != expected:
            raise Missing(f"{what} come as {shape_of(x)}: {expected} is expected", *methods)
        if reason := unfit(x, self.data.images):
            remedy = "; a sigmoid at its end keeps a decoder in [0, 1]" if "outside" in reason else ""
            raise Missing(f"{what}: {reason}{remedy}", *methods)

    # -------------------------------------------------------------------------------------------- in order

    def use(self, strict: bool) -> Iterator[Check]:
        """Yield the checks of what a model does after training; those alone that say whether it can be
        measured.
        """
        found = []
        if self.model.generative:
            found.append(Check("samples", lambda: self.samples(strict)))
        if self.model.inference != "none":
            found.append(Check("codes", lambda: self.codes(strict)))
            if self.model.inverts:
                found.append(Check("reconstructions", lambda: self.reconstructions(strict), ("codes",)))
        yield from found
        yield Check("metrics", lambda: self.measures(strict), ("losses", *(check.name for check in found)))

    def rehearsal(self) -> Iterator[Check]:
        """Yield the checks that a run depends on."""
        yield Check("builds", lambda: self.builds(strict=False))
        if not self.kind.elsewhere:
            yield Check("players", self.players)
            yield Check("owners", self.owners)
            yield Check("losses", self.losses)
            yield Check("rounds", self.rounds)
        yield from self.use(strict=False)

    def checkup(self, steps: int) -> Iterator[Check]:
        """Yield all checks that apply."""
        yield Check("builds", lambda: self.builds(strict=True))
        if not self.kind.elsewhere:
            yield Check("players", self.players)
            yield Check("parameters", self.parameters)
            yield Check("owners", self.owners)
            yield Check("losses", self.losses)
            yield Check("rounds", self.rounds, ("losses",))
            yield Check("gradients", self.gradients, ("losses",))
            yield Check("noise", self.pure, ("losses",))
            yield Check("training", lambda: self.trains(steps), ("losses", "rounds"))
            yield Check("stop and go on", self.resumes, ("losses", "rounds", "noise"))
        yield from self.use(strict=True)
        if not self.kind.elsewhere:
            yield Check("weights", self.weights, ("samples", "codes"))

    def make(self, check: Check) -> Finding:
        """Make a check."""
        try:
            return Finding(self.name, check.name, True, check.look())
        except Missing as missing:
            what = f"{plugins.where(self.kind, *missing.methods)}: {missing}"
        except (KeyboardInterrupt, Unwritable):
            raise
        except BaseException as error:  # also SystemExit: a model does not end the command
            what = plugins.told(error, self.kind)
        return Finding(self.name, check.name, False, what)


def _first(split: Split, n: int) -> Split:
    return Split(split.x[:n], split.y[:n])


def _gradients(loss: Tensor, own: Sequence[Tensor]) -> Sequence[Tensor | None]:
    """Return the gradient of a mean loss by each parameter; none by what it does not depend on."""
    if not loss.requires_grad:
        return [None] * len(own)
    return grad(loss.mean(), own, retain_graph=True, allow_unused=True)


def _listed(names: Sequence[str], most: int = 4) -> str:
    return ", ".join(names[:most]) + f" and {len(names) - most} more" * (len(names) > most)


def _equal(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors hold the same numbers, or none at the same places."""
    return a.shape == b.shape and torch.equal(a.nan_to_num(), b.nan_to_num())


def _flat(x: Tensor) -> bool:
    """Return whether all of x (N, ...) are the same, but for rounding."""
    return bool((x.amax(0) - x.amin(0)).max() <= FLAT * x.abs().max())


def _range(x: Tensor) -> str:
    return f"from {float(x.min()):.3g} to {float(x.max()):.3g}"


# -------------------- before a run


def rehearse(suites: Iterable[Suite]) -> None:
    """Refuse the user's models that a run would fail with, before anything is trained or written.

    Raises BadInput, naming file and line.
    """
    for suite in suites:
        for name in suite.models:
            if suite.kind(name) in plugins.PLACES and (problem := _problem(suite, name)):
                raise BadInput(f"{problem} (suite '{suite.name}'; nothing was trained)")


def remark(suites: Iterable[Suite]) -> None:
    """Say what a reader of their numbers has to know of stored samples."""
    for suite in suites:
        for name in suite.models:
            for note in plugins.notes(suite.kind(name), suite.load().shape, suite.dataset):
                say(f"{plugins.PLACES[suite.kind(name)]}: the samples are {note} (suite '{suite.name}')")


def beside(suites: Sequence[Suite], names: Iterable[str]) -> list[Suite]:
    """Return suites with models that were trained elsewhere beside their own: each where it can be, since it
    has its data.

    Of several suites, those that a model is left out of are said. Raises BadInput for one that no suite can
    have.
    """
    found = list(suites)
    for name in names:
        problems = [_problem(suite, name) for suite in suites]
        if all(problems):
            raise BadInput(f"{problems[0]} (suite '{suites[0].name}'; nothing was trained)")
        for i, problem in enumerate(problems):
            if problem:
                say(f"suite '{suites[i].name}': model '{name}' is left out: {problem}")
            else:
                found[i] = checks.with_models(found[i], [name])
    return found


def _problem(suite: Suite, name: str) -> str:
    """Say what would fail of a user's model; nothing if all goes well."""
    case = Case(suite, name)
    if case.short:
        return case.short
    for check in case.rehearsal():
        finding = case.make(check)
        if not finding.ok:
            return finding.what
    return ""


# ------------------------------------------------------------------------------------------------ the command


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Declare the options of the command."""
    sub.add_argument("file", type=outputs.place, metavar="FILE", help="a Python file that defines models")
    sub.add_argument(
        "--suite", default="digits", help="whose data, networks and recipe they get; default: digits"
    )
    sub.add_argument("--steps", type=int, default=200, metavar="N", help="of the training; default: 200")
    sub.add_argument("--models", nargs="+", default=[], metavar="MODEL", help="only these of the file")


def examine(suite: Suite, name: str, steps: int) -> Iterator[Finding]:
    """Yield what each check finds, without those that need what another found missing."""
    if lacking := plugins.undeclared(suite.kind(name)):
        yield Finding(name, "declares", False, f"{plugins.PLACES[suite.kind(name)]}: {lacking}")
        return
    yield Finding(name, "declares", True, suite.kind(name).title)
    case, wrong = Case(suite, name), dict[str, str]()
    for check in case.checkup(steps):
        if not wrong.keys() & set(check.needs):
            finding = case.make(check)
            if finding.what not in wrong.values():  # one mistake may stop several checks
                yield finding
            if not finding.ok:
                wrong[check.name] = finding.what
                if check.name in ("builds", "players", "owners"):
                    return


def command(given: argparse.Namespace, console: Console) -> Answer:
    """Carry out the command: exit code 1 if something is missing. Raises BadInput."""
    if given.steps < 1:
        raise BadInput(f"--steps {given.steps}: at least one step is needed")
    there = [kind.name for kind in plugins.load(given.file, complete=False)]
    for name in given.models:
        check_name(name, there, f"{given.file} defines no model")
    suites = loading.load(given.suite)
    if len(suites) > 1:
        raise BadInput(
            f"'{given.suite}' is a collection: name one of {', '.join(suite.name for suite in suites)}"
        )
    (suite,) = suites
    names = given.models or there
    for name in names:
        if reason := checks.unfit(suite, name):
            raise BadInput(f"model '{name}' {reason}: name another --suite than '{suite.name}'")
    found: list[Finding] = []
    with one_core_a_thread():  # as the runner has it: small networks are quickest so
        for name in names:
            console.print(f"{name}, in suite '{suite.name}'", highlight=False, soft_wrap=True)
            for finding in examine(replace(suite, models=[name]), name, given.steps):
                found.append(finding)
                verdict = "ok" if finding.ok else "missing"
                line = f"  {verdict:<8} {finding.check:<16} {finding.what}".rstrip()
                console.print(line, highlight=False, soft_wrap=True)
    wrong = [finding for finding in found if not finding.ok]
    named = ", ".join(f"{finding.check} of {finding.model}" for finding in wrong)
    console.print(
        f"missing: {named}" if wrong else f"{len(found)} checks, all ok", highlight=False, soft_wrap=True
    )
    return Answer(int(bool(wrong)), {"checks": [asdict(finding) for finding in found]})
