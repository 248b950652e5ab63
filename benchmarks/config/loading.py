"""Suites by name: built-in TOML files, the user's files, and the suites of runs and plans.

A suite regenerates the tables of one dataset; a collection includes several suites. The command line
overrides single fields by `--set key=value`; `model.gan.options.regression=1.0` reaches into tables.
"""

import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from alibench.benchmarks.config.checks import check, check_once, with_models
from alibench.benchmarks.config.parsing import NAMING, parse
from alibench.benchmarks.config.schema import Collection, Suite
from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation import files
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.features import extractors
from alibench.evaluation.files import NAME
from alibench.evaluation.messages import say
from alibench.evaluation.metrics import METRICS
from alibench.evaluation.settings import Settings

FOLDER = Path(__file__).parents[1] / "suites"


@dataclass(frozen=True)
class Changes:
    """What a command changes in each suite that it loads."""

    # --set assignments
    overrides: Sequence[str] = ()
    # the models to keep; empty: all
    only: Sequence[str] = ()
    seeds: int | None = None
    # what all steps are multiplied by
    scale: float = 1.0
    # in place of the suite's; metrics that it does not allow are left out, aloud
    dataset: str | None = None
    # models to add
    more: Sequence[str] = ()


def builtin() -> dict[str, Path]:
    """Return the suites that come with the project, by name."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}


def read(name: str) -> tuple[str, dict[str, Any]]:
    """Return the name and the TOML table of a built-in suite or a file. Raises BadInput if there is none."""
    path = Path(name) if name.endswith(".toml") else builtin().get(name)
    if path is None:
        if ":" in name or os.path.isdir(name):
            raise BadInput(
                f"'{name}' is not a suite: 'alibench run folder:PATH' takes pictures, 'alibench new-suite' "
                "makes a suite for them"
            )
        check_name(name, builtin(), "unknown suite")
        raise AssertionError

    try:
        return path.stem, tomllib.loads(files.read(path).decode())
    except OSError as error:
        raise BadInput(f"cannot read suite '{name}': {error.strerror}") from None
    # also values nested too deeply, a number of more digits than Python reads, or a zero byte in a path
    except (RecursionError, ValueError) as error:
        raise BadInput(f"suite '{path.stem}' is not valid TOML: {error}") from None


def load(name: str, *changes: Any, **named: Any) -> list[Suite]:
    """Return the checked suites of that name, with `Changes`; a collection has several. Raises BadInput."""
    return of_table(*read(name), Changes(*changes, **named))


def of_table(
    stem: str, table: dict[str, Any], changes: Changes | None = None, within: tuple[str, ...] = ()
) -> list[Suite]:
    """Return the checked suites of a TOML table, as `load` does. Raises BadInput.

    The table itself is changed. `within` are the collections that led to this one.
    """
    changes = changes or Changes()
    if not NAME.fullmatch(stem):
        raise BadInput(f"suite '{stem}': {NAMING}")
    if "include" in table:
        return _included(stem, table, changes, within)

    # Single fields.
    if changes.dataset is not None:
        table["dataset"] = changes.dataset
    for assignment in changes.overrides:
        _override(table, assignment)
    if changes.seeds is not None:
        table["seeds"] = changes.seeds
    if not 0 < changes.scale <= 1:
        raise BadInput(f"--scale {changes.scale:g}: a share of the suite's steps, above 0 and at most 1")

    # The whole suite.
    suite: Suite = replace(parse(table, Suite, f"suite '{stem}'"), name=stem)
    if changes.only:
        suite = replace(suite, models=list(dict.fromkeys(changes.only)))
    suite = _scaled(suite, changes.scale)

    # Models and metrics are fitted to the data after all else is known to be right.
    extractors.maker(suite.evaluation.extractor)
    check(replace(suite, metrics=[]))
    suite = with_models(suite, changes.more)
    if changes.dataset is not None:
        suite = _measurable(suite)
    check(suite)
    return [suite]


def _included(stem: str, table: Mapping[str, Any], changes: Changes, within: tuple[str, ...]) -> list[Suite]:
    """Return the suites of a collection. Raises BadInput, also for one that includes itself."""
    collection: Collection = parse(table, Collection, f"suite '{stem}'")
    if stem in within:
        raise BadInput(
            f"suite '{stem}' includes itself, by way of {' and '.join(within)}: remove it from 'include'"
        )
    parts = [of_table(*read(part), changes, (*within, stem)) for part in collection.include]
    suites = [suite for part in parts for suite in part]
    check_once([suite.name for suite in suites], f"suite '{stem}', include")
    return suites


def _override(table: dict[str, Any], assignment: str) -> None:
    """Set a dotted key of a TOML table; the value is TOML, or text where it is not valid TOML."""
    key, separator, text = assignment.partition("=")
    if not separator or not key:
        raise BadInput(f"--set takes key=value, not '{assignment}'")
    try:
        parsed = tomllib.loads(f"value = {text}")
        # a line break could add other keys
        value = parsed["value"] if len(parsed) == 1 else text
    except (ValueError, RecursionError):
        value = text

    # The fields that are set most stand in [recipe]; they are found without its name.
    *path, last = key.strip().split(".")
    recipe = [f.name for f in fields(Recipe)]
    if not path and last in recipe:
        path = ["recipe"]
    elif not path:
        known = [*(f.name for f in fields(Suite) if f.name != "name"), *recipe]
        check_name(last, known, f"--set {key}: unknown field")

    for part in path:
        table = table.setdefault(part, {})
        if not isinstance(table, dict):
            raise BadInput(f"--set {assignment}: '{part}' is not a table")
    table[last] = value


def _scaled(suite: Suite, scale: float) -> Suite:
    """Return a suite whose steps are multiplied by `scale`, and at least 1."""

    def shorter(recipe: Recipe) -> Recipe:
        return replace(recipe, steps=max(1, round(scale * recipe.steps)))

    entries = {
        name: replace(entry, recipe={**entry.recipe, "steps": shorter(suite.recipe_of(name)).steps})
        for name, entry in suite.model.items()
        if "steps" in entry.recipe
    }
    return replace(suite, recipe=shorter(suite.recipe), model={**suite.model, **entries})


def _measurable(suite: Suite) -> Suite:
    """Return a suite without the metrics that its data do not allow; say which. Raises BadInput for none."""
    kept = []
    for metric in suite.metrics:
        # `check` refuses unknown metrics later
        reason = (
            METRICS[metric].unsupported_reason(suite.load(), suite.evaluation) if metric in METRICS else ""
        )
        if reason:
            say(f"metric '{metric}' is left out: {reason}")
        else:
            kept.append(metric)
    if not kept:
        raise BadInput(
            f"suite '{suite.name}': no metric of the suite can be measured on '{suite.load().name}'"
        )
    return replace(suite, metrics=kept)


# -------------------- suites of runs and plans


def stored(
    run: Mapping[str, Any], metrics: Iterable[str], overrides: Iterable[str], dataset: str | None = None
) -> Suite:
    """Return the suite of a run.json, with other metrics or settings of the evaluation. Raises BadInput.

    `dataset` is where its data lie now, where that is another place than at training. Settings of the
    evaluation that this version no longer has are left out, aloud.
    """
    # Settings that this version knows.
    table = _table_of(run)
    settings, known = table.get("evaluation"), {f.name for f in fields(Settings)}
    if isinstance(settings, dict):
        if gone := sorted(settings.keys() - known):
            say(f"settings of an earlier version are left out: {', '.join(gone)}")
        table["evaluation"] = {key: value for key, value in settings.items() if key in known}

    # What is measured now, on which data.
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

    suite = _parsed(table)
    check(suite)
    return suite


def of_run(run: Mapping[str, Any]) -> Suite:
    """Return the suite of a run.json, to build its model: unchecked, without data. Raises BadInput."""
    # its settings of the evaluation may be of another version
    return _parsed(_table_of(run) | {"evaluation": {}})


def of_plan(table: Mapping[str, Any]) -> Suite:
    """Return a suite as plan.json has it, checked. Raises BadInput."""
    suite = _parsed(table)
    check(suite)
    return suite


def _parsed(table: Mapping[str, Any]) -> Suite:
    suite: Suite = parse(table, Suite, f"suite '{table['name']}'")
    return suite


def _table_of(run: Mapping[str, Any]) -> dict[str, Any]:
    """Return the table of a run's suite, without what a run adds to it."""
    return {key: value for key, value in run["config"].items() if key not in ("entry", "entry_recipe")}
