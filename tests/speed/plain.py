"""The suite's models as plain scripts train and use them: what its speed is compared with.

`naive` is what one finds beside the papers (field practice: DataLoader, a pass through D for each kind of
pair, players in turn, everything computed anew for the second, torch's default Adam, the losses read at every
step). `careful` is the best that the same alternating update can be: the suite's own parts, resident data and
fused Adam among them, one pass through D for both kinds, and the generator's graph kept from one player's
move to the other's.
"""

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from alibench.benchmarks.training.recipe import Recipe
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.data import Split, as_float
from alibench.models.base import Model
from alibench.models.layers import Stack
from alibench.models.vae import kl_to_prior

Step = Callable[[], object]


class Maxout(nn.Module):
    """The maximum over consecutive maps."""

    def __init__(self, pieces: int) -> None:
        super().__init__()
        self.pieces = pieces

    def forward(self, h: Tensor) -> Tensor:
        return h.view(h.shape[0], h.shape[1] // self.pieces, self.pieces, *h.shape[2:]).max(2)[0]


class Bias(nn.Module):
    """One number a map and pixel."""

    def __init__(self, value: Tensor) -> None:
        super().__init__()
        self.value = nn.Parameter(value.detach().clone())

    def forward(self, h: Tensor) -> Tensor:
        return h + self.value


class Injected(nn.Module):
    """An operation, and a linear map of z that is added to its output."""

    def __init__(self, op: nn.Module, injection: nn.Module) -> None:
        super().__init__()
        self.op, self.injection = op, injection

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        return self.op(h) + self.injection(z)


class Tower(nn.Sequential):
    """Layers in order, z beside them where it is injected."""

    def forward(self, h: Tensor, z: Tensor) -> Tensor:
        for module in self:
            h = module(h, z) if isinstance(module, Injected) else module(h)
        return h


def sequential(stack: Stack) -> nn.Sequential:
    """Return a tower as torch's own layers, in torch's own memory format, with the same weights.

    Where z is injected, into dense layers, it is a Tower and called with z.
    """
    modules: list[nn.Module] = []
    for layer in stack.layers:
        row: Any = layer.row
        modules += [nn.Dropout(row.drop)] * bool(row.drop) + [nn.Flatten()] * (row.op == "dense")
        op = copy.deepcopy(layer.op).to(memory_format=torch.contiguous_format)
        injection = copy.deepcopy(layer.injection)
        modules.append(op if injection is None else Injected(op, injection))
        modules += [Bias(layer.bias)] if isinstance(layer.bias, Tensor) else []
        modules += [copy.deepcopy(layer.bn)] if isinstance(layer.bn, nn.Module) else []
        modules += [nn.Dropout(row.drop_inside)] * bool(row.drop_inside)
        act: dict[str, nn.Module] = {"leaky": nn.LeakyReLU(layer.style.slope, True), "relu": nn.ReLU(True)}
        act["maxout"] = Maxout(layer.style.pieces)
        modules += [act[row.act]] if row.act in act else []
    return (Tower if any(isinstance(module, Injected) for module in modules) else nn.Sequential)(*modules)


class Plain(nn.Module):
    """Encoder, decoder and discriminator of a model, as plain modules."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.model = [model]  # for its numbers; in a list, so that its parameters are not among these
        self.e, self.g = sequential(model.encoder.stack), sequential(model.decoder.stack)
        d: Any = getattr(model, "discriminator", None)
        towers = [] if d is None else [d.dx, d.dz, d.dxz]
        self.towers = nn.ModuleList(nn.Identity() if tower is None else sequential(tower) for tower in towers)
        self.squashed = model.encoder.squashed

    def encode(self, x: Tensor, draw: bool = True) -> Tensor:
        """Return codes (B, latent), drawn where the encoder draws."""
        encoder, model = self.model[0].encoder, self.model[0]
        h = self.e(encoder.scaling(x / encoder.scale)).flatten(1)
        if not model.stochastic:
            return 2 * torch.sigmoid(h.float()) - 1 if self.squashed else h
        mean, log_sigma = h.float().chunk(2, dim=1)
        return mean + log_sigma.exp() * torch.randn_like(mean) if draw else mean

    def decode(self, z: Tensor) -> Tensor:
        """Return x (B, ...)."""
        decoder = self.model[0].decoder
        h = z.view(len(z), *decoder.stack.shape)
        x = (self.g(h, z) if isinstance(self.g, Tower) else self.g(h)).float().view(len(z), *decoder.shape)
        return torch.sigmoid(x) if len(decoder.shape) == 3 else x * decoder.scale

    def judge(self, x: Tensor, z: Tensor | None = None) -> Tensor:
        """Return logits (B,) of one kind of pair, which so has batch statistics of its own."""
        d: Any = self.model[0].discriminator
        dx, dz, dxz = self.towers
        parts = [dx(d.scaling(x)).flatten(1)]
        parts += [] if d.dz is None or z is None else [dz(z.view(len(z), *d.dz.shape)).flatten(1)]
        h = torch.cat(parts, 1).view(len(x), *d.dxz.shape)
        return (dxz(h, z) if isinstance(dxz, Tower) else dxz(h)).flatten().float()


def forever(loader: "DataLoader[tuple[Tensor, ...]]") -> Iterator[tuple[Tensor, ...]]:
    """Yield batches, epoch after epoch."""
    while True:
        yield from loader


def naive(model: Model, split: Split, recipe: Recipe, workers: int = 0, device: str = "cpu") -> Step:
    """Return one update of all players, as a plain script has it."""
    plain = Plain(model).to(device).train()
    data = TensorDataset(as_float(split.x), split.y)
    options = {"num_workers": workers, "persistent_workers": workers > 0}
    loader = DataLoader(data, recipe.batch, shuffle=True, drop_last=True, **options)
    batches = forever(loader)
    autocast = torch.autocast(device, torch.bfloat16, enabled=recipe.precision == "bf16")
    bce = nn.BCEWithLogitsLoss()
    one, zero = torch.ones(recipe.batch, device=device), torch.zeros(recipe.batch, device=device)
    history: list[tuple[float, ...]] = []

    def adam(*networks: nn.Module) -> torch.optim.Adam:
        own, betas = [p for n in networks for p in n.parameters()], (recipe.beta1, recipe.beta2)
        return torch.optim.Adam(own, recipe.lr, betas, weight_decay=recipe.weight_decay)

    def move(optimiser: torch.optim.Adam, loss: Tensor) -> None:
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    def latent() -> Tensor:
        z = torch.empty(recipe.batch, model.latent, device=device)
        return z.uniform_(-1, 1) if model.uniform else z.normal_()

    if model.name == "vae":
        optimiser, variance = adam(plain.e, plain.g), torch.tensor(0.01, device=device)

        def autoencode() -> None:
            x = next(batches)[0].to(device)
            with autocast:
                mean, log_sigma = plain.e(x).flatten(1).float().chunk(2, dim=1)
                x_hat = plain.decode(mean + log_sigma.exp() * torch.randn_like(mean))
            error = (x - x_hat).square().flatten(1)
            variance.mul_(0.999).add_(0.001 * error.mean().detach())
            likelihood = -0.5 * (error / variance + torch.log(2 * math.pi * variance)).sum(1)
            loss = (kl_to_prior(mean, log_sigma) - likelihood).mean()
            move(optimiser, loss)
            history.append((loss.item(),))

        return autoencode

    plays = model.name != "gan"  # the encoder, too
    of_d, of_g = adam(plain.towers), adam(plain.g, *([plain.e] if plays else []))

    def pairs(x: Tensor) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        z = latent()
        return ((x, plain.encode(x)), (plain.decode(z), z)) if plays else ((x,), (plain.decode(z),))

    def play() -> None:
        x = next(batches)[0].to(device)
        with autocast:
            real, fake = pairs(x)
            of_real, of_fake = (plain.judge(*(part.detach() for part in pair)) for pair in (real, fake))
        loss = bce(of_real, one) + bce(of_fake, zero)
        move(of_d, loss)
        with autocast:
            real, fake = pairs(x)
            of_fake = plain.judge(*fake)
            of_real = plain.judge(*real) if plays else zero
        generators = bce(of_fake, one) + (bce(of_real, zero) if plays else 0)
        move(of_g, generators)
        history.append((loss.item(), generators.item()))

    return play


def careful(trainer: Trainer) -> Step:
    """Return one alternating update from an alternating trainer's data, noise and optimisers."""
    model, discriminator = trainer.model, trainer.model.discriminator
    learners = {player: own for move in trainer.moves[0] for player, own in move.items()}
    (generator,) = (player for player in learners if player != "discriminator")

    def step() -> None:
        batch = trainer.batch()
        with trainer.autocast:
            terms = model(batch, tuple(learners))
        for player in ("discriminator", generator):
            logits = terms.logits
            if player == generator:  # D has moved; the pairs' graph is as it was
                with trainer.autocast:
                    logits = discriminator.compare(terms.pairs, batch.noise)
            own = learners[player]
            loss = model.game(logits)[player].mean()
            for p, gradient in zip(own, torch.autograd.grad(loss, own), strict=True):
                p.grad = gradient if gradient.stride() == p.stride() else torch.empty_like(p).copy_(gradient)
            trainer.optimisers[player,].step()

    return step
