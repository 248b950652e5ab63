"""The contract between a model and everything that runs or measures it. This page is all of it.

A model owns its networks and its objective, and knows nothing of datasets, loops, metrics or files. One
update is a pure function of its parameters and one batch:

    Batch (x, y, noise)  --forward-->  Terms (pairs, logits, direct losses)  --losses-->  one loss per player
    and sample

Every random number comes in with the batch: the model says which it needs (`noise`), the loop draws them from
the seed's generator. So a stopped run resumes exactly, replicas stacked with `torch.vmap` equal each seed
trained alone, and an update can be recorded once and replayed. What a network of plain torch draws by itself
(nn.Dropout, torch.randn_like) comes from torch's global generators, which belong to the training: its seed
seeds them, its checkpoints keep them. Draws of numpy, `random` and the system are nobody's: `alibench check`
finds them.

Networks are built from the seed, too. Those that `Networks` builds draw their first weights from
`networks.rng`, and torch's global generators are seeded while a model is built, so that any nn.Module starts
from the seed.

Encoder and decoder may be any nn.Module. They are called with as many arguments as there are: encoder(x), and
encoder(x, eps) only if it says `noise`, the width of eps, to draw z by its input; decoder(z) in the same way.
Hidden layers for the classifiers come from the encoder's method hidden(x), if it has one.

Players are the sides of the game. Each owns some networks, every trainable parameter belongs to exactly one
player, and a player learns only from its own loss. A phase says who learns, in rounds: a round is a sequence
of groups of players, and each group learns at once, from one forward pass over one batch. So

    ALI, BiGAN (simultaneous)            round = (("generator", "discriminator"),)
    the careful alternating update       round = (("discriminator",), ("generator",))
    five critic updates to one (WGAN)    round = (("discriminator",),) * 5 + (("generator",),)
    an encoder learned afterwards        a second phase, round = (("encoder",),)

`Terms.pairs` holds D's inputs next to its logits. Where D has no operation across samples and a loss depends
on it through one scalar logit a pair, the loop sends one backward pass through D and rescales, per sample,
what arrives at these inputs by the ratio of the two losses' derivatives: both players' gradients from one
pass (benchmarks/training/gradients.py). Losses that do not depend on logits alone (a gradient penalty,
feature matching, a cycle, a KL term) are direct: they name their player in `Terms.losses`.

Data and latents must be continuous: encoder and decoder learn from the gradients of D with respect to x and
z, and the encoder's draw is differentiated by reparametrisation. A discrete x or z has no such gradient.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import torch
from msgspec import Meta
from torch import Tensor, nn

from alibench.models.coders import Decoder, Encoder
from alibench.models.networks import Networks
from alibench.models.noise import Draw

# Bounds on the encoder's log sigma: sigma in [0.0009, 2.7]. The paper has none; without them exp() overflows
# in a run that is about to diverge anyway, and a sigma that has left the interval gets no gradient from
# outside it.
LOG_SIGMA = (-7.0, 1.0)

# The options of models, as suites give them.
Weight = Annotated[float, Meta(ge=0, le=1e6)]  # of a loss, or of a phase's rounds
Updates = Annotated[int, Meta(ge=0, le=1000)]  # of one player in a round
Packing = Annotated[int, Meta(ge=1, le=4)]  # samples that D sees at once (PacGAN)


@dataclass(frozen=True)
class Batch:
    """What one update sees: x (B, C, H, W) in [0, 1] or (B, D) in the data's coordinates; perhaps labels.

    Labels are classes (B,), -1 where there is none, or binary attributes (B, A). `labelled` is a second
    batch, of images (B, ...) and their classes (B,), for models that learn from a few labels; they look at no
    others.
    """

    x: Tensor
    noise: Mapping[str, Tensor]
    y: Tensor | None = None
    labelled: tuple[Tensor, Tensor] | None = None


@dataclass(frozen=True)
class Terms:
    """What one forward pass hands to the loop. Keys of pairs and logits: "q" encoder, "p" decoder.

    Where D sees m samples at once, pairs, logits and losses are those of packs: B / m in place of B.
    """

    pairs: Mapping[str, tuple[Tensor, ...]] = field(default_factory=dict)  # kind -> D's inputs, each (B, ...)
    logits: Mapping[str, Tensor] = field(default_factory=dict)  # kind -> D's logits, (B,) or (B, K)
    losses: Mapping[str, Tensor] = field(default_factory=dict)  # player -> its direct loss, (B,)


@dataclass(frozen=True)
class Phase:
    """Who learns, and for how long: `share` counts rounds as a multiple of the suite's steps."""

    name: str
    round: tuple[tuple[str, ...], ...]
    share: float = 1.0


class Model(nn.Module):
    """The base of every model, in three parts: what it says of itself, one update, and use after training.

    A model that cannot do something (draw samples, a likelihood) says so here, and the metrics that need it
    leave an empty cell with the reason.
    """

    # What it is called, and where it comes from.
    name: ClassVar[str]  # in suites and on the command line
    title: ClassVar[str]  # in tables
    source: ClassVar[str]  # paper and equation

    # What it can do. `inference`: how the encoder is learnt; "none": there is none.
    inference: ClassVar[Literal["learnt with it", "learnt afterwards", "none"]] = "learnt with it"
    stochastic: ClassVar[bool] = False  # the encoder draws z rather than computing it
    # Decoded draws of the prior are meant to look like data.
    generative: ClassVar[bool] = True
    inverts: ClassVar[bool] = True  # codes can be decoded
    # p(x|z) is a density on all of x's space: `observe` draws from it, `log_likelihood` is its logarithm.
    likelihood: ClassVar[bool] = False
    conditional: ClassVar[bool] = False  # all networks get the labels
    # D's output is a score, not log-odds (Wasserstein).
    critic: ClassVar[bool] = False
    # It learns classes from `Batch.labelled`; `classify` names them.
    semi_supervised: ClassVar[bool] = False
    elsewhere: ClassVar[bool] = False  # trained elsewhere: it is evaluated and never trained
    # Who learns together says which update it is, so that no recipe splits a group.
    whole_groups: ClassVar[bool] = False
    # Its loss compares a batch's samples with one another, so that no process can take a share of it.
    pairwise: ClassVar[bool] = False
    packing: int = 1  # samples that D sees at once: batches are multiples of it
    priors: ClassVar[tuple[str, ...]] = ("normal",)  # of z, that it can work with
    players: ClassVar[Mapping[str, tuple[str, ...]]]  # player -> the attributes that hold its networks

    # Its parts, or any nn.Module in their place: x (B, ...) -> codes (B, latent), or (B, 2 latent): mean,
    # then log sigma; and z (B, latent) -> x (B, ...).
    encoder: Encoder
    decoder: Decoder

    # Writes the run that it was loaded from into files for others; of what `load_run` returns alone.
    export: Callable[..., Path]

    def __init__(self, networks: Networks) -> None:
        super().__init__()
        self.latent, self.uniform = networks.latent, networks.prior == "uniform"

    def __getattr__(self, name: str) -> Tensor | nn.Module:
        """Return a parameter, a buffer or a network."""
        # A property that lacks an attribute comes here; torch would name the property, not what it lacks.
        attribute = getattr(type(self), name, None)
        if isinstance(attribute, property) and attribute.fget:
            return attribute.fget(self)  # raises what it raised before
        return super().__getattr__(name)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """One phase for most models: all players at once."""
        return (Phase("game", (tuple(self.players),)),)

    # ---------------------------------------------------------------------------------------- one update

    def noise(self, n: int) -> dict[str, Draw]:
        """Return the random numbers that an update on n samples needs, by name; by default none."""
        return {}

    def draws(self, n: int, *names: Literal["z", "eps", "xi"]) -> dict[str, Draw]:
        """Return the draws that the networks take: z (prior), eps (encoder's noise), xi (decoder's noise)."""
        widths = {"z": self.latent, "eps": self._eps if self.stochastic else 0, "xi": self._xi}
        return {
            name: Draw("centred" if name == "z" and self.uniform else "normal", (n, widths[name]))
            for name in names
            if widths[name]
        }

    def forward(self, batch: Batch, learners: tuple[str, ...]) -> Terms:
        """Return what the losses of `learners` need, from one pass through the networks."""
        raise NotImplementedError

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return each player's loss (B,) as a function of D's logits alone; empty without a game."""
        return {}

    def losses(self, terms: Terms, y: Tensor | None = None) -> dict[str, Tensor]:
        """Return each learning player's whole loss (B,): the game's and the direct one."""
        total = self.game(terms.logits, y) if terms.logits else {}
        for player, loss in terms.losses.items():
            total[player] = total[player] + loss if player in total else loss
        return total

    def conclude(self, batches: Iterable[Tensor], rng: torch.Generator) -> None:
        """After training, estimate from batches of all of train what has a closed form; here nothing."""

    # ---------------------------------------------------------------------------------------------- use

    @property
    def _eps(self) -> int:
        return _noise_width(self.encoder) or self.latent

    @property
    def _xi(self) -> int:
        return _noise_width(self.decoder)

    @property
    def implicit(self) -> bool:
        """Whether the encoder draws z by its input (x, eps), so that q(z|x) has no mean in closed form."""
        return self.stochastic and bool(_noise_width(self.encoder))

    @property
    def draws_x(self) -> bool:
        """Whether the decoder draws x by its input (z, xi)."""
        return bool(self._xi)

    def code_of(self, x: Tensor, eps: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        """Return the encoder's output (B, latent), or (B, 2 latent) if it is mean and log sigma.

        Raises ValueError for any other output.
        """
        code = _through(self.encoder, x, eps, self.condition(y))

        # A user's encoder may give anything, and a wrong width would be taken for mean and log sigma.
        width = self.latent if not self.stochastic or self.implicit else 2 * self.latent
        if not isinstance(code, Tensor) or code.shape != (len(x), width):
            remedy = ", the mean and log sigma side by side: torch.cat([mean, log_sigma], 1)"
            remedy = remedy if width > self.latent else ""
            raise ValueError(
                f"the encoder gave {shape_of(code)}: one tensor ({len(x)}, {width}) is needed{remedy}"
            )
        return code

    def image_of(self, z: Tensor, xi: Tensor | None = None, c: Tensor | None = None) -> Tensor:
        """Return the decoder's output (B, ...) for codes, its noise xi and a condition c."""
        x: Tensor = _through(self.decoder, z, xi, c)
        return x

    def condition(self, y: Tensor | None) -> Tensor | None:
        """Return the condition (B, E) that the networks get of the labels; by default none."""
        return None

    def posterior(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return mean and log sigma of q(z|x), each (B, latent).

        The first half of a Gaussian encoder's outputs is the mean, the second log sigma (ALI's released
        code). A deterministic encoder has no log sigma, nor has one that draws by its input, whose code at
        zero noise stands for the mean. Raises NotImplementedError for a model without an encoder.
        """
        if self.inference == "none":
            raise NotImplementedError(f"{self.name} has no encoder")
        code = self.code_of(x, None, y)
        if not self.stochastic or self.implicit:
            return code, None
        mean, log_sigma = code.chunk(2, dim=1)
        return mean, log_sigma.clamp(*LOG_SIGMA)

    def infer(self, x: Tensor, eps: Tensor | None, y: Tensor | None = None) -> Tensor:
        """Return z (B, latent) = mean(x) + sigma(x) * eps (ALI, section 2.2); without eps the mean.

        An encoder that draws by its input gives z itself, for (x, eps).
        """
        if self.implicit:
            return self.code_of(x, eps, y)
        mean, log_sigma = self.posterior(x, y)
        return mean if eps is None or log_sigma is None else mean + log_sigma.exp() * eps

    def prior(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw z (n, latent) from p(z): standard normal, or uniform on [-1, 1]."""
        return self.draws(n, "z")["z"](rng)

    def generate(self, n: int, rng: torch.Generator, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Draw n codes z from the prior, and x for each; for a model with a likelihood, its decoder means."""
        z = self.prior(n, rng)
        return z, self.decode(z, rng, y)

    def sample(self, n: int, rng: torch.Generator, y: Tensor | None = None) -> Tensor:
        """Draw n images from the model."""
        return self.generate(n, rng, y)[1]

    def encode(
        self, x: Tensor, draw: bool = False, rng: torch.Generator | None = None, y: Tensor | None = None
    ) -> Tensor:
        """Return the code (B, latent) of x: its mean, or one draw from q(z|x)."""
        eps = torch.randn(len(x), self._eps, generator=rng, device=x.device) if draw else None
        return self.infer(x, eps, y)

    def decode(self, z: Tensor, rng: torch.Generator | None = None, y: Tensor | None = None) -> Tensor:
        """Return x (B, ...) for z (B, latent); a decoder that draws x takes its noise from rng, if any."""
        draws = self.draws(len(z), "xi")
        xi = draws["xi"](rng) if draws and rng is not None else None
        return self.image_of(z, xi, self.condition(y))

    def reconstruct(
        self, x: Tensor, draw: bool = False, rng: torch.Generator | None = None, y: Tensor | None = None
    ) -> Tensor:
        """Return Gx(Gz(x)), through the mean code or a drawn one."""
        return self.decode(self.encode(x, draw, rng, y), rng if draw else None, y)

    def observe(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Draw from p(x|z) around its mean x."""
        raise NotImplementedError(f"{self.name} has no likelihood")

    def log_likelihood(self, x: Tensor, mean: Tensor) -> Tensor:
        """Return log p(x|z) (B,) in nats of x (B, ...) around the decoder's means (B, ...)."""
        raise NotImplementedError(f"{self.name} has no density of x around its mean")

    def anomaly(self, x: Tensor) -> dict[str, Tensor]:
        """Return scores (B,) of how unlike the training data x is, by name; the model's own is the first.

        By default the squared error of the reconstruction; none without an encoder, or if labels are needed.
        """
        if self.inference == "none" or not self.inverts or self.conditional:
            return {}
        return {"reconstruction": (x - self.reconstruct(x)).flatten(1).square().sum(1)}

    def classify(self, x: Tensor) -> Tensor:
        """Return the logits (B, K) of x's class."""
        raise NotImplementedError(f"{self.name} learns no classes")

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return the encoder's hidden layers, in order, and the mean code last, each (B, F).

        An encoder without a method hidden(x) has the code alone. Raises TypeError if it returns no mapping.
        """
        code, hidden = self.encode(x), getattr(self.encoder, "hidden", None)
        layers = hidden(x) if callable(hidden) else {}
        if not isinstance(layers, Mapping):
            kind = type(layers).__name__
            raise TypeError(f"hidden(x) of the encoder returned a {kind}: {{'name': (B, ...)}} is needed")
        return {name: h.flatten(1) for name, h in layers.items()} | {"code": code}


def _noise_width(network: nn.Module) -> int:
    """Return how many numbers a network takes next to its input to draw by; none, unless it says so."""
    width = getattr(network, "noise", 0)
    return width if isinstance(width, int) else 0


def _through(network: nn.Module, *inputs: Tensor | None) -> Any:
    """Return a network's output. Trailing inputs that are None are not passed, so it need not take them."""
    while inputs[-1] is None:
        inputs = inputs[:-1]
    return network(*inputs)


def shape_of(x: object) -> str:
    """Return an object's shape, or its type, in words."""
    return f"a tensor {tuple(x.shape)}" if isinstance(x, Tensor) else f"a {type(x).__name__}"
