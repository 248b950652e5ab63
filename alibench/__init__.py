"""ALI and its relatives, compared: what scripts and notebooks need, imported when it is asked for.

    import alibench

    result = alibench.run("digits", models=["ali", "vae"])

The rooms behind it are alibench.models, alibench.evaluation, alibench.results and alibench.benchmarks: the
folders at the root of the repository. `pyproject.toml` maps them for installations; the links beside this
file show them to tools that read no build settings (type checkers, language servers) and to a checkout that
is not installed.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alibench.benchmarks.commands.calls import Result, evaluate, run, train
    from alibench.benchmarks.running.loaded import load_run
    from alibench.evaluation.errors import BadInput
    from alibench.evaluation.features.extractors import register
    from alibench.models.adapter import adversarial_model
    from alibench.results import table

__all__ = [
    "BadInput",
    "Result",
    "adversarial_model",
    "evaluate",
    "load_run",
    "register",
    "run",
    "table",
    "train",
]

_HOMES = {
    "BadInput": "alibench.evaluation.errors",
    "Result": "alibench.benchmarks.commands.calls",
    "adversarial_model": "alibench.models.adapter",
    "evaluate": "alibench.benchmarks.commands.calls",
    "load_run": "alibench.benchmarks.running.loaded",
    "register": "alibench.evaluation.features.extractors",
    "run": "alibench.benchmarks.commands.calls",
    "table": "alibench.results",
    "train": "alibench.benchmarks.commands.calls",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'alibench' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)
