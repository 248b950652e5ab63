"""Suites: what is compared on what, as TOML files checked against the dataclasses here.

A suite regenerates the tables of one data set; a collection includes several suites. The command line
overrides single fields by `--set key=value`; `model.gan.options.regression=1.0` reaches into tables.
"""

import os
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from alibench import models
from alibench.benchmarks.config import plugins
from alibench.benchmarks.config.checks import check, check_once, with_models
from alibench.benchmarks.config.parsing import parse
from alibench.benchmarks.config.plugins import NAMING
from alibench.benchmarks.config.schema import Collection, Suite
from alibench.benchmarks.data import datasets
from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation import files
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.features import extractors
from alibench.evaluation.files import NAME
from alibench.evaluation.messages import say
from alibench.evaluation.metrics import METRICS
from alibench.evaluation.settings import Settings

FOLDER = Path(__file__).parents[1] / "suites"


def _override(table: dict[str, Any], assignment: str) -> None:
    """Set a dotted key of a TOML table; the value is TOML, or text where it is no TOML."""
    key, separator, text = assignment.partition("=")
    if not separator or not key:
        raise BadInput(f"--set takes key=value, not '{assignment}'")
    try:
        parsed = tomllib.loads(f"value = {text}")
        value = (
            parsed["value"] if len(parsed) == 1 else text
        )  # what follows a line break is no part of a value
    except (ValueError, RecursionError):
        value = text
    *path, last = key.strip().split(".")
    # the fields that are set most stand in [recipe]; they are found without its name
    recipe = [f.name for f in fields(Recipe)]
    if not path and last in recipe:
        path = ["recipe"]
    elif not path:
        check_name(
            last,
            [*(f.name for f in fields(Suite) if f.name != "name"), *recipe],
            f"--set {key}: unknown field",
        )
    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise BadInput(f"--set {assignment}: '{part}' is no table")
    table[last] = value


def builtin() -> dict[str, Path]:
    """Return the suites that come with the project, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def read(name: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the TOML table of a built-in suite or a file. Raises BadInput if there is none."""
    path = Path(name) if name.endswith(".toml") else builtin().get(name)
    if path is None:
        kind, is_data, _ = name.partition(":")
        if is_data:
            check_name(kind, datasets.OPENED, f"suite '{name}': unknown kind of data")
            raise BadInput(f"'{name}' is data, no suite: 'alibench new-suite' makes one for it")
        if os.path.isdir(name):
            raise BadInput(f"'{name}' is a folder: the suite for pictures in it is 'folder:{name}'")
        check_name(name, builtin(), "unknown suite")
        raise AssertionError
    try:
        return path.stem, tomllib.loads(files.read(path).decode())
    except OSError as error:
        raise BadInput(f"cannot read suite '{name}': {error.strerror}") from None
    except RecursionError:
        raise BadInput(f"suite '{path.stem}' is no valid TOML: its values are nested too deeply") from None
    except (
        ValueError
    ) as error:  # also of a number with more digits than Python reads, and of a path with a zero byte
        raise BadInput(f"suite '{path.stem}' is no valid TOML: {error}") from None


def load(
    name: str,
    overrides: Iterable[str] = (),
    only: Iterable[str] = (),
    seeds: int | None = None,
    scale: float = 1.0,
    dataset: str | None = None,
    within: tuple[str, ...] = (),
    more: Iterable[str] = (),
) -> list[Suite]:
    """Return the checked suites of that name: one, or those that a collection includes.

    `overrides` are --set assignments, `only` the models to keep, `seeds` their number; `scale` multiplies all
    steps; `dataset` stands in for the suite's own, and metrics that it does not allow are left out, aloud;
    `within` are the collections that led here; `more` are models to add to those of each. Raises BadInput.
    """
    return of_table(*read(name), overrides, only, seeds, scale, dataset, within, more)


def of_table(
    stem: str,
    table: dict[str, Any],
    overrides: Iterable[str] = (),
    only: Iterable[str] = (),
    seeds: int | None = None,
    scale: float = 1.0,
    dataset: str | None = None,
    within: tuple[str, ...] = (),
    more: Iterable[str] = (),
) -> list[Suite]:
    """Return the checked suites of a TOML table, which is changed on the way, as `load` does. Raises
    BadInput.
    """
    if not NAME.fullmatch(stem):
        raise BadInput(f"suite '{stem}': {NAMING}")
    if "include" in table:
        collection: Collection = parse(table, Collection, f"suite '{stem}'")
        if stem in within:
            raise BadInput(
                f"suite '{stem}' includes itself, by way of {' and '.join(within)}: remove it from 'include'"
            )
        parts = [
            load(part, overrides, only, seeds, scale, dataset, (*within, stem), more)
            for part in collection.include
        ]
        suites = [suite for part in parts for suite in part]
        check_once([suite.name for suite in suites], f"suite '{stem}', include")
        return suites
    if dataset is not None:
        table["dataset"] = dataset
    for assignment in overrides:
        _override(table, assignment)
    if seeds is not None:
        if seeds < 1:
            raise BadInput(f"--seeds {seeds}: at least one seed is needed")
        table["seeds"] = seeds
    if not 0 < scale <= 1:
        raise BadInput(f"--scale {scale:g}: a share of the suite's steps, above 0 and at most 1")
    suite: Suite = replace(parse(table, Suite, f"suite '{stem}'"), name=stem)
    if only:
        suite = replace(suite, models=list(dict.fromkeys(only)))
    suite = _scaled(suite, scale)
    extractors.maker(suite.evaluation.extractor)
    check(replace(suite, metrics=[]))
    suite = with_models(suite, more)
    if dataset is not None:
        suite = _measurable(suite)
    check(suite)
    return [suite]


def stored(
    run: Mapping[str, Any], metrics: Iterable[str], overrides: Iterable[str], dataset: str | None = None
) -> Suite:
    """Return the suite of a run, from its run.json, with other metrics or settings of the evaluation. Raises
    BadInput.

    `dataset` is where its data lie now; none: where they lay when it was trained. Settings of the evaluation
    that the run's version had and this one has not are left out, aloud.
    """
    table = _table_of(run)
    settings, known = table.get("evaluation"), {f.name for f in fields(Settings)}
    if isinstance(settings, dict):
        if gone := sorted(settings.keys() - known):
            say(f"settings of an earlier version are left out: {', '.join(gone)}")
        table["evaluation"] = {key: value for key, value in settings.items() if key in known}
    for assignment in overrides:
        if not assignment.startswith("evaluation."):
            raise BadInput(
                f"--set {assignment}: a trained model takes settings of its evaluation alone: "
                "evaluation.KEY=VALUE"
            )
        _override(table, assignment)
    table["metrics"] = list(metrics) or table["metrics"]
    if dataset:
        table["dataset"] = dataset
    where = f"suite '{table['name']}'"
    suite: Suite = parse(table, Suite, where)
    of_samples = set(plugins.samples_in(str(run["command"]))) & set(suite.models) - set(models.REGISTRY)
    if of_samples:
        options = " ".join(f"--samples {name}=PATH" for name in sorted(of_samples))
        raise BadInput(
            f"{where} has stored samples beside its models: name their folder or .npz again, by {options}"
        )
    check(suite)
    return suite


def of_run(run: Mapping[str, Any]) -> Suite:
    """Return the suite of a run, from its run.json, to build its model by: unchecked, without data. Raises
    BadInput.
    """
    table = _table_of(run) | {"evaluation": {}}
    suite: Suite = parse(table, Suite, f"suite '{table['name']}'")
    return suite


def of_plan(table: Mapping[str, Any]) -> Suite:
    """Return a suite as plan.json has it, checked. Raises BadInput."""
    suite: Suite = parse(table, Suite, f"suite '{table['name']}'")
    check(suite)
    return suite


def _table_of(run: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in run["config"].items() if key not in ("entry", "entry_recipe")}


def _scaled(suite: Suite, scale: float) -> Suite:
    def shorter(recipe: Recipe) -> Recipe:
        return replace(recipe, steps=max(1, round(scale * recipe.steps)))

    entries = {
        name: replace(entry, recipe={**entry.recipe, "steps": shorter(suite.recipe_of(name)).steps})
        for name, entry in suite.model.items()
        if "steps" in entry.recipe
    }
    return replace(suite, recipe=shorter(suite.recipe), model={**suite.model, **entries})


def _measurable(suite: Suite) -> Suite:
    """Return the suite without the metrics that its data do not allow; say which."""
    reasons = {
        metric: METRICS[metric].unsupported_reason(suite.load(), suite.evaluation)
        for metric in suite.metrics
        if metric in METRICS
    }
    for metric, reason in reasons.items():
        if reason:
            say(f"metric '{metric}' is left out: {reason}")
    kept = [metric for metric in suite.metrics if not reasons.get(metric)]
    if not kept:
        raise BadInput(
            f"suite '{suite.name}': no metric of the suite can be measured on '{suite.load().name}'"
        )
    return replace(suite, metrics=kept)
