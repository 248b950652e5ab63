"""Whether a node of a cluster can do a command's jobs as the command's machine would."""

import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from alibench.benchmarks.config import loading, plugins
from alibench.benchmarks.running import outputs
from alibench.evaluation.errors import BadInput
from alibench.results import differences


@dataclass(frozen=True)
class Requirements:
    """What a node must have in common with the command's machine."""

    planned: Mapping[str, Any]  # as plan.json has it
    seen: Path  # a file in the folder that all nodes write to
    folder: str = field(default_factory=os.getcwd)  # in which the command runs
    sources: tuple[plugins.Plugin, ...] = field(default_factory=lambda: tuple(plugins.LOADED))


def problem(needs: Requirements) -> str:
    """Return why this node cannot do jobs as the command's machine would; "" if it can."""
    # Where the command's folder is here too, relative paths mean the same.
    with suppress(OSError):
        os.chdir(needs.folder)

    storage = needs.seen.parent
    if not (needs.seen.is_file() and os.access(storage, os.W_OK)):
        return f"cannot see, or not write, {storage}: name an --out on storage that all nodes share"

    # A driver may be missing, or torch be built without CUDA.
    device = torch.device(needs.planned["device"])
    if device.type == "cuda" and not torch.cuda.is_available():
        return "offers GPUs to Ray, but its torch finds no CUDA device"

    # Code, data, libraries and plug-ins are those of the same plan, made here.
    try:
        plugins.again(needs.sources)
        suites = [loading.of_plan(table) for table in needs.planned["suites"].values()]
        plan = outputs.plan(suites, device, plugins=plugins.contents())
    except BadInput as error:
        return f"refuses: {error}"
    different = differences.differences({key: needs.planned[key] for key in plan}, plan, "there")
    return f"is not like the command's machine: {different}" if different else ""
