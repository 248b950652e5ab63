"""Pages of the site that are made: of each model and metric, of the Python calls, of committed results.

Nothing here knows MkDocs. Lines that begin with `:::` become the docstrings of what they name.
"""

import json
from collections.abc import Iterable
from types import ModuleType

from links import ROOT

import alibench
from alibench import models
from alibench.benchmarks.commands.list import model_facts, summary
from alibench.evaluation.metrics import METRICS

SIGNS = {True: "yes", False: "–"}
BETTER = {"higher": "↑ higher", "lower": "↓ lower", "": "–"}


def made() -> dict[str, str]:
    """Return the Markdown of every page that is made, by its address, in the navigation's order."""
    return {
        "index.md": _without("navigation") + _kept("README.md"),
        "contributing.md": _kept("CONTRIBUTING.md"),
        "changelog.md": _kept("CHANGELOG.md"),
        "models/index.md": model_overview(),
        "models/base.md": "# What a model is\n" + _docstrings("alibench.models.base", show_source=True),
        **{f"models/{name}.md": model_page(model) for name, model in models.REGISTRY.items()},
        "metrics/index.md": metric_overview(),
        **{f"metrics/{name}.md": metric_page(name, module) for name, module in METRICS.items()},
        "api.md": python_calls(),
        **results(),
    }


# -------------------- models and metrics


def model_overview() -> str:
    """Return the page that has all models, with what each can do, as `alibench list` has it."""
    facts = [model_facts(model) for model in models.REGISTRY.values()]
    names = [name.replace("_", " ") for name in facts[0] if name not in ("name", "title")]
    lines = [
        [f"[{fact['title']}]({fact['name']}.md) `{fact['name']}`", *list(fact.values())[2:]] for fact in facts
    ]
    return (
        _without("toc")
        + "# Models\n\n`alibench list` prints this table; `--models` takes the names. A model of your own is "
        "a file of about 30 lines: [A model of your own](../own-model.md).\n\n"
        + _table(["model", *names], lines)
    )


def model_page(model: type[models.Model]) -> str:
    """Return a model's page: its name and source, what it can do, its docstrings and its code."""
    facts = model_facts(model)
    lines = [[name.replace("_", " "), fact] for name, fact in facts.items() if name not in ("name", "title")]
    return (
        f"# {model.title}\n\n"
        + _table(["name", f"`{model.name}`"], lines)
        + _docstrings(model.__module__, members=[model.__name__], show_source=True)
    )


def metric_overview() -> str:
    """Return the page that has all metrics, each with the first line of its docstring."""
    lines = [[f"[{name}]({name}.md)", summary(module)] for name, module in METRICS.items()]
    return (
        "# Metrics\n\nSuites and `--metrics` take the names. What the numbers can be compared with: "
        "[How the numbers are made](../evaluation.md).\n\n" + _table(["name", "what"], lines)
    )


def metric_page(name: str, module: ModuleType) -> str:
    """Return a metric's page: the columns of its tables with units and directions, and its docstring."""
    lines = [
        [f"`{column.metric}`", column.title, BETTER[column.better], column.digits]
        for column in module.COLUMNS
    ]
    return (
        f"# {name}\n\n"
        + _table(["measure", "column, with its unit", "better", "digits"], lines)
        + _docstrings(module.__name__, members=["unsupported_reason"], show_source=False)
    )


# -------------------- the rest


def python_calls() -> str:
    """Return the page of what `alibench` offers to scripts and notebooks, from its `__all__`."""
    calls = [getattr(alibench, name) for name in alibench.__all__]
    names = [f"{call.__module__}.{call.__qualname__}" for call in calls]
    first = f"# What alibench offers\n\n```python\nfrom alibench import {', '.join(alibench.__all__)}\n```\n"
    return first + "".join(
        _docstrings(name, show_root_heading=True, show_root_toc_entry=True) for name in names
    )


def results() -> dict[str, str]:
    """Return the pages of committed results, by address, with their pictures and titles of their own."""
    pages = {}
    for path in sorted((ROOT / "results").glob("reference/*/*.md")):
        title, _, rest = path.read_text(encoding="utf-8").partition("\n")
        figures = sorted(path.parent.glob("figures/*.png"))
        pictures = "".join(f"\n![{figure.stem}](figures/{figure.name})\n" for figure in figures)
        heading = "\n## Pictures\n" if pictures else ""
        page = f"{title}: {path.parent.name}\n{rest}{heading}{pictures}"
        pages[path.relative_to(ROOT).as_posix()] = page
    for path in sorted((ROOT / "results").glob("baselines/*.md")):
        pages[path.relative_to(ROOT).as_posix()] = path.read_text(encoding="utf-8")
    return pages


def _kept(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def _without(part: str) -> str:
    """Return the head of a page that has no list of pages ("navigation") or of its headings ("toc")."""
    return f"---\nhide: [{part}]\n---\n"


def _docstrings(name: str, **options: object) -> str:
    lines = [f"      {option}: {json.dumps(value)}\n" for option, value in options.items()]
    return "".join([f"\n::: {name}\n    options:\n", *lines])


def _table(titles: list[str], lines: Iterable[Iterable[object]]) -> str:
    cells = [[SIGNS[fact] if isinstance(fact, bool) else str(fact) for fact in line] for line in lines]
    rows = [titles, ["---"] * len(titles), *cells]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |\n" for row in rows)
