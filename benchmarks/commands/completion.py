"""Completion of the command line in a shell: a script made from the parser by shtab."""

import argparse
from typing import Any

import shtab

from alibench import models
from alibench.benchmarks.config import loading
from alibench.benchmarks.data import datasets
from alibench.evaluation.metrics import METRICS

SHELLS = ("bash", "zsh", "tcsh")


def _suites() -> dict[str, Any]:
    """Return how a suite is completed: a built-in one by name, one's own by its file; tcsh knows names alone."""
    names: Any = shtab.cmd(f"echo {' '.join(loading.builtin())}")
    tomls: Any = shtab.glob("*.toml")
    both = f'_alibench_suite_or_file() {{\n  {names["bash"]} "$1"\n  {tomls["bash"]} "$1"\n}}'
    listed = f"'suites:suite:({' '.join(loading.builtin())})' 'files:file:_files -g \"*.toml\"'"
    return {
        "bash": "_alibench_suite_or_file",
        "zsh": "_alibench_suite_or_file",
        "tcsh": names["tcsh"],
        "preamble": {
            "bash": "\n".join([names["preamble"]["bash"], tomls["preamble"]["bash"], both]),
            "zsh": f"_alibench_suite_or_file() {{\n  _alternative {listed}\n}}",
        },
    }


def script(whole: argparse.ArgumentParser, shell: str) -> str:
    """Return a script that completes the commands of a parser in one of SHELLS."""
    sets = shtab.cmd(f"echo {' '.join([*datasets.DATASETS, *(f'{kind}:' for kind in datasets.OPENED)])}")
    by_name = {
        "suite": _suites(),
        "models": shtab.cmd(f"echo {' '.join(models.REGISTRY)}"),
        "metrics": shtab.cmd(f"echo {' '.join(METRICS)}"),
        "device": shtab.cmd("echo cpu cuda mps"),
        **dict.fromkeys(("data", "dataset"), sets),
        **dict.fromkeys(("out", "folder", "folders", "source", "sources"), shtab.DIRECTORY),
        "baseline": shtab.FILE,
    }
    (commands,) = (action for action in whole._actions if isinstance(action, argparse._SubParsersAction))
    for sub in commands.choices.values():
        for action in sub._actions:
            if action.dest in by_name:
                action.complete = by_name[action.dest]
    return shtab.complete(whole, shell)
