"""Devices, and what a recipe leaves to them."""

from collections.abc import Iterable
from dataclasses import asdict, replace

import torch

from alibench.benchmarks.config.schema import Entry, Suite
from alibench.benchmarks.training.recipe import Recipe, bf16_is_native, has_tf32
from alibench.benchmarks.training.trainer import Trainer
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.messages import say
from alibench.evaluation.seeds import generator


def device(name: str | None) -> torch.device:
    """Return the named device, or the best there is. Raises BadInput if it is unknown or not there."""
    kinds = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    usable = [kind for kind, available in kinds.items() if available]
    if name is None:
        return torch.device(usable[0])

    check_name(name.partition(":")[0], kinds, "unknown device")
    if name not in [*usable, *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]:
        raise BadInput(f"device '{name}' is not on this machine; usable here: {', '.join(usable)}")
    return torch.device(name)


def resolved(suites: Iterable[Suite], device: torch.device, alone: bool = True) -> list[Suite]:
    """Return suites as they are trained on a device, with its choice for each "auto" of a recipe.

    Not `alone`: several processes share a training. A device that is only elsewhere, in a cluster, decides
    when the training begins. Says if the device only imitates what is asked of it. Raises BadInput for a
    precision, or CUDA graphs, that it does not have.
    """
    # What no device, or not this one, can do.
    suites = list(suites)
    is_here = device.type != "cuda" or torch.cuda.is_available()
    for suite in suites:
        for name in suite.models:
            _check_arithmetic(suite.recipe_of(name), device, f"suite '{suite.name}', model '{name}'", is_here)
            _check_compiled(suite, name)
    if not is_here:
        return suites

    # What is left to the device.
    suites = [_decided(suite, device, alone) for suite in suites]
    precisions = {suite.recipe_of(name).precision for suite in suites for name in suite.models}
    if "bf16" in precisions and not bf16_is_native(device):
        say(f"'{device}' imitates bf16, several times slower than fp32: expect no speed of it")
    return suites


def _check_arithmetic(recipe: Recipe, device: torch.device, where: str, is_here: bool) -> None:
    """Raise BadInput for a precision or CUDA graphs that a device does not have."""
    if recipe.precision == "tf32" and device.type != "cuda":
        raise BadInput(f"{where}: precision 'tf32' is CUDA's, not of '{device}': use fp32 or bf16")
    if recipe.precision == "tf32" and is_here and not has_tf32(device):
        raise BadInput(f"{where}: precision 'tf32' needs a GPU of capability 8.0 or later: use fp32")
    if recipe.execution == "graphs" and device.type not in ("cpu", "cuda"):
        raise BadInput(f"{where}: execution 'graphs' needs a CPU or CUDA, not '{device}': use eager")


def _check_compiled(suite: Suite, name: str) -> None:
    """Raise BadInput for a model that torch.compile cannot take, where its recipe asks for it."""
    recipe, train = replace(suite.recipe_of(name), execution="eager"), suite.load().train
    # a trainer checks its model as it is made
    for phase in suite.build(name, 0).phases if recipe.compile else ():
        Trainer(suite.build(name, 0), phase, recipe, train, generator(0, "check"), train)


def _decided(suite: Suite, device: torch.device, alone: bool) -> Suite:
    """Return a suite whose recipes hold a device's choice for each "auto"."""

    def entry(name: str, written: Entry) -> Entry:
        recipe = asdict(suite.recipe_of(name).on(device, alone))
        return replace(written, recipe={key: recipe[key] for key in written.recipe})

    entries = {name: entry(name, written) for name, written in suite.model.items()}
    return replace(suite, recipe=suite.recipe.on(device, alone), model=entries)
