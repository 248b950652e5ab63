"""ALI and its relatives, compared: what scripts and notebooks need, imported when it is asked for.

    from alibench import load_run, evaluate, table

The rooms behind it are alibench.models, alibench.evaluation, alibench.results and alibench.benchmarks: the
folders at the root of the repository. `pyproject.toml` maps them for installations; the links beside this
file show them to tools that read no build settings (type checkers, language servers) and to a checkout that
is not installed.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from alibench.benchmarks.running.loaded import load_run
    from alibench.evaluation.features.extractors import register
    from alibench.evaluation.objects import evaluate
    from alibench.results import table

__all__ = ["evaluate", "load_run", "register", "table"]

_HOMES = {
    "evaluate": "alibench.evaluation.objects",
    "load_run": "alibench.benchmarks.running.loaded",
    "register": "alibench.evaluation.features.extractors",
    "table": "alibench.results",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'alibench' has no attribute '{name}'; it has {', '.join(__all__)}")
    return getattr(importlib.import_module(_HOMES[name]), name)
