"""ALI and BiGAN of the user's own networks: encoder, decoder and discriminator are modules of plain torch.

    model = adversarial_model("my-ali", encoder=MyEncoder, decoder=MyDecoder, discriminator=MyDiscriminator)

The model is a class, as every other is, so that each seed builds networks of its own.
"""

import sys
from collections.abc import Callable, Mapping
from inspect import signature
from typing import Any, ClassVar
from weakref import WeakSet

import torch
from torch import Tensor, nn

from alibench.models import games
from alibench.models.ali import ALI
from alibench.models.base import Model, shape_of
from alibench.models.discriminator import Discriminator
from alibench.models.layers import Unfit
from alibench.models.networks import Networks
from alibench.models.noise import Draw

Maker = Callable[[tuple[int, ...], int], nn.Module]  # shape of one x and width of the code -> a network
Game = Callable[[Tensor, Tensor], dict[str, Tensor]]  # as `games` has them, of generator and discriminator

FEW = 2  # samples that show what a network gives
_TAKEN: WeakSet[nn.Module] = WeakSet()  # networks that models have


def adversarial_model(
    name: str,
    *,
    encoder: Maker,
    decoder: Maker,
    discriminator: Maker,
    stochastic: bool = False,
    game: Game = games.joint,
) -> type["ModuleALI"]:
    """Return a model that plays `game` on pairs (x, encoder(x)) and (decoder(z), z), z from N(0, I).

    Each network is a class, or a function that makes a module, which is called with the shape of one x, as
    (C, H, W), and the width of the code. encoder(x) gives codes (B, latent), or, if `stochastic`, mean and
    log sigma side by side (B, 2 latent); decoder(z) gives x (B, C, H, W) in [0, 1]; discriminator(x, z) gives
    logits (B,) or (B, 1). `game` takes the logits (B,) of encoder pairs and of decoder pairs, and returns the
    losses (B,) of "discriminator" and "generator"; the default is ALI's. Raises TypeError for anything else.
    """
    makers = {"encoder": encoder, "decoder": decoder, "discriminator": discriminator}
    for role, make in makers.items():
        _check_maker(role, make)
    _check_game(game)

    # A class of the caller's file and line, as by a class statement; Python 3.13 keeps the line by that name.
    caller = sys._getframe(1)
    place = {"__module__": caller.f_globals["__name__"], "__firstlineno__": caller.f_lineno}
    says = {"name": name, "title": name, "stochastic": stochastic}
    return type(name, (ModuleALI,), {**says, **place, "makers": makers, "rules": staticmethod(game)})


class ModuleALI(ALI):
    """ALI with the user's networks and game. A base class, without a name: `adversarial_model` adds it."""

    source = "networks of the user's"
    makers: ClassVar[Mapping[str, Maker]]  # by the network's name
    rules: ClassVar[Game]

    def __init__(self, networks: Networks) -> None:
        Model.__init__(self, networks)  # ALI's would build layer tables
        modules = {
            role: _module(role, make, networks.shape, networks.latent) for role, make in self.makers.items()
        }
        self.encoder, self.decoder = modules["encoder"], modules["decoder"]  # type: ignore[assignment]
        self.discriminator = ModuleDiscriminator(modules["discriminator"])
        self._check_outputs(modules, networks.shape)

    def game(self, logits: Mapping[str, Tensor], y: Tensor | None = None) -> dict[str, Tensor]:
        """Return the losses of the user's game."""
        return type(self).rules(logits["q"], logits["p"])

    def anomaly(self, x: Tensor) -> dict[str, Tensor]:
        """Return the reconstruction's error alone: EGBAD takes layers of D, which only its module knows."""
        return Model.anomaly(self, x)

    @torch.no_grad()
    def _check_outputs(self, modules: Mapping[str, nn.Module], shape: tuple[int, ...]) -> None:
        """Raise Unfit for a network whose output on a few samples is of another shape than the game needs."""
        x, z = torch.zeros(FEW, *shape), torch.zeros(FEW, self.latent)
        images, logits = (FEW, *shape), [(FEW,), (FEW, 1)]
        code, both = (FEW, self.latent), (FEW, 2 * self.latent)
        if self.stochastic and not self.implicit:
            codes = both
            needed = (
                f"{both} is needed, torch.cat([mean, log_sigma], 1); a code {code}: without stochastic=True"
            )
        else:
            codes = code
            needed = f"{code} is needed; mean and log sigma {both}: with stochastic=True"

        # statistics of batches stay as they are
        self.eval()
        self._check_output("encoder", modules["encoder"], (x,), [codes], needed)
        needed = f"{images} is needed, as nn.Unflatten(1, shape) gives it"
        self._check_output("decoder", modules["decoder"], (z,), [images], needed)
        needed = f"({FEW},) or ({FEW}, 1) is needed, one logit a pair"
        self._check_output("discriminator", modules["discriminator"], (x, z), logits, needed)
        self.train()

    def _check_output(
        self,
        role: str,
        network: nn.Module,
        inputs: tuple[Tensor, ...],
        shapes: list[tuple[int, ...]],
        needed: str,
    ) -> None:
        called = f"{_called(role, self.makers[role])} of {' and '.join(str(tuple(h.shape)) for h in inputs)}"
        try:
            output = network(*inputs)
        except Exception as error:
            # with the lines of the user's that it passed
            message = f"{called}: {type(error).__name__}: {error}"
            raise ValueError(message).with_traceback(error.__traceback__) from None
        if not isinstance(output, Tensor) or tuple(output.shape) not in shapes:
            raise Unfit(f"{called} gave {shape_of(output)}: {needed}")


class ModuleDiscriminator(Discriminator):
    """The user's module D(x, z) in the place of layer tables; it sees both kinds of pair in one pass."""

    def __init__(self, module: nn.Module) -> None:
        nn.Module.__init__(self)  # there are no towers
        self.module, self.sees, self.separate = module, ("x", "z"), False

    def noise(self, n: int) -> dict[str, Draw]:
        """Return no masks: a module draws its dropout itself."""
        return {}

    def judge(
        self, *inputs: Tensor, noise: Mapping[str, Tensor] | None = None, c: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the logits (B,), and once more (B, 1) in the place of layers below, which are not known."""
        logits: Tensor = self.module(*inputs).flatten().to(inputs[0].dtype)
        return logits.unsqueeze(1), logits


def _module(role: str, make: Maker, shape: tuple[int, ...], latent: int) -> nn.Module:
    """Return a new network. Raises Unfit for anything else."""
    module, called = make(shape, latent), _called(role, make)
    if not isinstance(module, nn.Module):
        raise Unfit(f"{called} returned {shape_of(module)}: an nn.Module is needed")
    if module in _TAKEN:
        raise Unfit(f"{called} returned the module of another seed: make a new one in every call")
    if not list(module.parameters()):
        raise Unfit(
            f"{called} has no parameters: keep layers in attributes, or in nn.ModuleList, not in a list"
        )
    _TAKEN.add(module)
    return module


def _called(role: str, make: Any) -> str:
    return f"{role}={getattr(make, '__name__', type(make).__name__)}"


def _check_maker(role: str, make: Any) -> None:
    """Raise TypeError for what makes no network of a shape and a width."""
    if isinstance(make, nn.Module) or not callable(make):
        shared = ", a module that all seeds would share" * isinstance(make, nn.Module)
        kind = f"{role} is of type {type(make).__name__}{shared}"
        raise TypeError(f"{kind}: give the class or a function that makes it")
    try:
        signature(make).bind((1, 8, 8), 4)
    except TypeError as problem:
        raise TypeError(f"{_called(role, make)} is called with (shape, latent): {problem}") from None


def _check_game(game: Any) -> None:
    """Raise TypeError for what gives no losses of both players."""
    needed = "a function of logits q and p that gives {'discriminator': (B,), 'generator': (B,)} is needed, "
    needed += "as games.joint of alibench.models"
    if not callable(game):
        raise TypeError(f"game is of type {type(game).__name__}: {needed}")
    losses: object = game(torch.zeros(FEW), torch.zeros(FEW))
    parts = losses if isinstance(losses, Mapping) else {"": losses}
    gave = [f"{player} {shape_of(loss)}".strip() for player, loss in parts.items()]
    if sorted(gave) != sorted(f"{player} a tensor ({FEW},)" for player in ALI.players):
        raise TypeError(f"{_called('game', game)} gave {', '.join(gave)} for B = {FEW}: {needed}")
