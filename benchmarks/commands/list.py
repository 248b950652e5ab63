"""`alibench list`: models, suites, datasets and metrics."""

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from alibench import models
from alibench.benchmarks.commands import options
from alibench.benchmarks.commands.command import Command
from alibench.benchmarks.config import loading
from alibench.benchmarks.data import datasets
from alibench.benchmarks.running.answers import Answer
from alibench.evaluation.metrics import METRICS

EXAMPLES = ("alibench list", "alibench list --plugin my_model.py", "alibench list --json")


@click.command("list", cls=Command, examples=EXAMPLES)
@options.plugins
def command(console: Console) -> Answer:
    """Carry out the command."""
    facts = {
        "models": [model_facts(kind) for kind in models.REGISTRY.values()],
        "suites": [_suite(name) for name in loading.builtin()],
        "data_sets": [
            *({"name": name, "what": summary(make)} for name, make in datasets.DATASETS.items()),
            *({"name": name, "what": what} for name, what in datasets.OPEN.items()),
        ],
        "metrics": [
            {"name": name, "measures": [column.title for column in m.COLUMNS], "what": summary(m)}
            for name, m in METRICS.items()
        ],
    }

    # People get tables; programs get the facts (`--json`).
    for title, lines in facts.items():
        # A column is a key of the facts, so that both say the same.
        columns = [column.replace("_", " ") for column in list(lines[0])]
        table = Table(*columns, title=title.replace("_", " "), title_justify="left", title_style="bold")
        for values in lines:
            table.add_row(*map(_cell, values.values()))
        console.print(table)
    return Answer(facts=facts)


def model_facts(kind: type[models.Model]) -> dict[str, Any]:
    """Return what a model says of itself: name, title, what it can do, source."""
    return {
        **{"name": kind.name, "title": kind.title, "encoder": kind.inference, "draws_z": kind.stochastic},
        **{"samples": kind.generative, "likelihood": kind.likelihood, "told_labels": kind.conditional},
        **{"learns_classes": kind.semi_supervised, "source": kind.source},
    }


def _suite(name: str) -> dict[str, Any]:
    _, table = loading.read(name)
    return {"name": name, "title": table["title"], "expect": table["expect"]}


def summary(documented: Any) -> str:
    """Return the first line of a docstring."""
    return (documented.__doc__ or "").split("\n")[0]


def _cell(fact: Any) -> str:
    if isinstance(fact, bool):
        return "yes" if fact else "–"
    return ", ".join(fact) if isinstance(fact, list) else str(fact)
