"""The plans of several machines, each for a part of a grid, become the plan of the whole."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from alibench.evaluation import files
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import listed
from alibench.results import differences, stored

# Keys of a suite that say which part of the grid a machine had.
SHARE = ("models", "seeds", "first_seed")
# Tables of a plan in which a name that two plans have must have the same value.
TABLES = ("versions", "code", "data", "plugins", "weights")
MOST = 1_000_000  # runs of a plan

Grid = dict[str, Any]  # a plan with the names of its runs


def read(path: Path) -> Grid:
    """Return a folder's plan with the names of its runs, also where the command was evaluate or regression.

    Raises BadInput for a folder without runs or plan, and for a plan of more than MOST runs.
    """
    stored.run_folders(path)
    if not os.path.lexists(path / stored.PLAN):
        raise BadInput(f"{path} has no {stored.PLAN}: leave it out; 'alibench table {path}' shows its runs")
    plan = plan_of(path)
    if plan.get("runs") is not None or plan.get("weights"):
        return {**plan, "runs": list(plan.get("runs") or plan["weights"])}

    # The plan of a gate names its suite alone.
    suites = plan["suites"].items()
    if (count := sum(table["seeds"] * len(table["models"]) for _, table in suites)) > MOST:
        raise BadInput(f"{path}: its plan asks for {count:,} runs, more than {MOST:,}: leave it out")
    grid = [(name, table["models"], seed) for name, table in suites for seed in _seeds(table)]
    return {**plan, "runs": [f"{name}-{model}-seed{seed}" for name, models, seed in grid for model in models]}


def plan_of(path: Path) -> Grid:
    """Return a folder's plan as it is stored. Raises BadInput if it is damaged."""
    try:
        return stored.read_plan(path)
    except (files.Damaged, OSError) as problem:
        raise BadInput(f"{problem}: leave {path} out, or resume it with --resume --force") from None


def _seeds(suite: Mapping[str, Any]) -> range:
    first = suite.get("first_seed", 0)  # which earlier versions did not have
    return range(first, first + suite["seeds"])


def _needed(suite: Mapping[str, Any]) -> set[str]:
    """Return the entries that a suite's runs depend on: its models, and the models whose cost they match."""
    matched = {suite.get("model", {}).get(name, {}).get("compute") for name in suite["models"]}
    return {*suite["models"], *filter(None, matched)}


def merge(plans: Mapping[Path, Grid], force: bool = False) -> Grid:
    """Return the plan of which the folders' plans are parts.

    Raises BadInput for plans that differ in more than their part, unless forced: then the first one counts.
    """
    (first, whole), *others = plans.items()
    earlier = [str(first)]
    for path, plan in others:
        different = differences.differences(_shared(whole, plan), _shared(plan, whole), "there")
        if different and not force:
            problem = f"{listed(earlier)} and {path} were not made alike: {different}"
            raise BadInput(f"{problem}; leave one of them out, or collect all the same with --force")
        whole = _merged(whole, plan)
        earlier.append(str(path))
    return whole


def _shared(plan: Grid, other: Grid) -> Grid:
    """Return the part of a plan that must be the same in another one."""
    shared: Grid = {"device": plan["device"], "suites": {}}
    # A name that one plan lacks is not a difference: other models need other files.
    for kind in TABLES:
        if kind in plan and kind in other:
            shared[kind] = {name: value for name, value in plan[kind].items() if name in other[kind]}

    for name in [name for name in plan["suites"] if name in other["suites"]]:
        suite = plan["suites"][name]
        needed = _needed(suite) & _needed(other["suites"][name])
        entries = {entry: table for entry, table in suite.get("model", {}).items() if entry in needed}
        settings = {key: value for key, value in suite.items() if key not in SHARE}
        shared["suites"][name] = {**settings, "model": entries}
    return shared


def _merged(one: Grid, other: Grid) -> Grid:
    plan = {**other, **one, "runs": list(dict.fromkeys([*one["runs"], *other["runs"]]))}
    for kind in TABLES:
        if kind in plan:
            plan[kind] = {**other.get(kind, {}), **one.get(kind, {})}

    plan["suites"] = dict(one["suites"])
    for name, suite in other["suites"].items():
        plan["suites"][name] = _merged_suite(one["suites"].get(name, suite), suite)
    return plan


def _merged_suite(one: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    # A suite may have tables of models that others train: each is taken from where its model was trained.
    entries = {**other.get("model", {}), **one.get("model", {})}
    for suite in (other, one):
        for name in _needed(suite):
            entries.pop(name, None)
            if name in suite.get("model", {}):
                entries[name] = suite["model"][name]

    first = min(_seeds(one).start, _seeds(other).start)
    count = max(_seeds(one).stop, _seeds(other).stop) - first
    models = list(dict.fromkeys([*one["models"], *other["models"]]))
    return {**one, "models": models, "first_seed": first, "seeds": count, "model": entries}
