"""Recipes: the hyperparameters of a training, and what a device makes of "auto"."""

from dataclasses import dataclass, field, replace
from typing import Annotated, Literal

import torch
from msgspec import Meta

from alibench.evaluation.data import Amount
from alibench.models.base import Phase

Share = Annotated[float, Meta(ge=0, le=1)]
Decay = Annotated[float, Meta(ge=0, lt=1)]
Rate = Annotated[float, Meta(ge=1e-30, le=1e30)]  # within fp32, with room for products


@dataclass(frozen=True)
class Recipe:
    """How a model is trained: the [recipe] table of a suite.

    Adam's betas are today's convention: the "beta2 = 1e-3" that ALI's paper prints is 1 - beta2 of the
    library it used.
    """

    steps: Annotated[int, Meta(ge=1, le=10**9)]  # rounds of the first phase
    batch: Amount = 100
    lr: Rate = 1e-3  # of every player
    lr_of: dict[str, Rate] = field(default_factory=dict, hash=False)  # of players that have another
    beta1: Decay = 0.5
    beta2: Decay = 0.999
    decay: Share = 0.5  # the last share of a phase's steps, over which lr falls
    decay_to: Share = 0.0  # fraction of lr that it falls to, exponentially; 0: linearly to zero
    weight_decay: Annotated[float, Meta(ge=0, le=1e30)] = 0.0  # times the weights, added to the gradient
    ema: Decay = 0.999  # decay of the averaged weights, which are evaluated; 0: the raw weights are

    # batches that batch norm's statistics are averaged over at the end; 0: they stay as they ran
    statistics: Annotated[int, Meta(ge=0, le=10**6)] = 0

    # simultaneous: all players at once, from one backward pass through D where that is exact; separate: from
    # one pass a player, the same but for rounding; alternating: one after the other on the same batch, D
    # first, as DCGAN's code does
    update: Literal["simultaneous", "separate", "alternating"] = "simultaneous"

    # tf32: matrix products and convolutions with 10 bits of mantissa (CUDA); bf16: networks by autocast,
    # losses in fp32; auto: tf32 where CUDA has it in hardware, else fp32
    precision: Literal["auto", "fp32", "tf32", "bf16"] = "auto"

    # graphs: operations are recorded once and replayed, on CUDA whole rounds (graphs.py), on a CPU the
    # gradients (tape.py), with the same numbers; auto: graphs on these two
    execution: Literal["auto", "eager", "graphs"] = "auto"

    # networks by torch.compile, each by itself; takes up to a minute before the first round
    compile: bool = False

    # among the processes of one run (sharded.py): by the whole batch, as in one process; or each by its share
    # of it, which leaves the first process's running statistics
    batch_norm: Literal["synchronised", "local"] = "synchronised"

    def on(self, device: torch.device, alone: bool = True) -> "Recipe":
        """Return the recipe with "auto" decided for a present device, `alone` or in several processes."""
        precision, execution = self.precision, self.execution
        if precision == "auto":
            precision = "tf32" if has_tf32(device) else "fp32"
        if execution == "auto":
            execution = "graphs" if device.type in ("cpu", "cuda") and alone else "eager"
        return replace(self, precision=precision, execution=execution)


def steps_of(phase: Phase, recipe: Recipe) -> int:
    """Return the rounds of a phase."""
    return round(phase.share * recipe.steps)


def has_tf32(device: torch.device) -> bool:
    """Return whether a device of this machine computes in TF32."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def bf16_is_native(device: torch.device) -> bool:
    """Return whether a device computes in bf16; others imitate it, many times slower than fp32."""
    if device.type == "cpu":
        native: bool = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        return native
    return device.type != "cuda" or torch.cuda.get_device_capability(device) >= (8, 0)
