"""What cannot run is refused by name before anything does."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import replace

from alibench import models
from alibench.benchmarks.config.blame import PLACES
from alibench.benchmarks.config.parsing import NAMING, check_options
from alibench.benchmarks.config.plugins import check_model
from alibench.benchmarks.config.schema import Entry, Suite
from alibench.evaluation import labels
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.files import NAME
from alibench.evaluation.messages import say
from alibench.evaluation.metrics import COLUMNS, METRICS
from alibench.models.tables import FAMILIES
from alibench.models.tables.anomalies import POINTS
from alibench.results import cells


def check(suite: Suite) -> None:
    """Refuse by name what cannot run, before anything does. Raises BadInput."""
    where = f"suite '{suite.name}'"
    _check_data(suite, where)
    _check_metrics(suite, where)

    # Its rows, and those that could be.
    entries = [*dict.fromkeys([*models.REGISTRY, *suite.model])]
    for name in suite.models:
        check_model(name, entries, "unknown model")
    check_once(suite.models, f"{where}, models")
    for name, entry in suite.model.items():
        _check_entry(suite, name, entry, entries)

    # What needs known rows; models that others compute as much as are built, too.
    _check_gate(suite, entries, where)
    _check_search(suite, where)
    compared = [suite.entry(name).compute for name in suite.models]
    for name in dict.fromkeys([*suite.models, *filter(None, compared)]):
        _check_model(suite, name, where)


def check_once(names: Iterable[str], where: str) -> None:
    """Raise BadInput for a name that comes twice."""
    for name, times in Counter(names).items():
        if times > 1:
            raise BadInput(f"{where}: '{name}' is named {times} times: remove all but one")


def unfit(suite: Suite, name: str) -> str:
    """Return why a suite cannot have a model, by its prior or its data; empty if it can."""
    kind, loaded = suite.kind(name), suite.load()
    if suite.prior not in kind.priors:
        return f"works with a {' or '.join(kind.priors)} prior, not '{suite.prior}'"
    if kind.conditional and not loaded.labels:
        return f"is conditional and needs labels, '{loaded.name}' has none"
    if kind.semi_supervised and (reason := labels.unsupported_reason(loaded, suite.evaluation)):
        return f"learns classes from labels: {reason}"
    return ""


def with_models(suite: Suite, more: Iterable[str]) -> Suite:
    """Return a suite with `more` models, without those that it cannot have; says which. Raises BadInput.

    A suite that names some of them itself stays as it is.
    """
    more, added = list(more), list[str]()
    if set(more) & set(suite.models):
        return suite
    for name in more:
        # the suite may call a row of another model so
        if suite.kind(name).name != name:
            place = PLACES[models.REGISTRY[name]]
            raise BadInput(f"{place}: suite '{suite.name}' has a row '{name}' already: choose another name")
        if reason := unfit(suite, name):
            say(f"suite '{suite.name}': model '{name}' is left out: it {reason}")
        else:
            added.append(name)

    # A gate that names no models means those of the suite as it was.
    gates = [replace(gated, models=gated.models or suite.models) for gated in suite.gate]
    return replace(suite, models=[*suite.models, *added], gate=gates if added else suite.gate)


def _check_data(suite: Suite, where: str) -> None:
    """Raise BadInput for an unknown prior, or networks that do not take the data."""
    # ALI's encoder learns through z by reparametrisation, so that latents must be continuous
    check_name(suite.prior, ("normal", "uniform"), f"{where}: unknown prior")
    check_name(suite.networks, FAMILIES, f"{where}: unknown networks")

    loaded, shape = suite.load(), suite.family().shape
    fits = shape == loaded.shape or shape == (None if loaded.images else POINTS)
    if not fits:
        asked = "images" if shape is None else "points" if shape == POINTS else f"data of shape {shape}"
        raise BadInput(
            f"{where}: networks '{suite.networks}' take {asked}, '{loaded.name}' has shape {loaded.shape}"
            + ("; --size and --channels change images" if loaded.images else "")
        )


def _check_metrics(suite: Suite, where: str) -> None:
    check_once(suite.metrics, f"{where}, metrics")
    for metric in suite.metrics:
        check_name(metric, METRICS, f"{where}: unknown metric")
        if reason := METRICS[metric].unsupported_reason(suite.load(), suite.evaluation):
            raise BadInput(f"{where}: metric '{metric}' cannot be measured: {reason}")


def _check_entry(suite: Suite, name: str, entry: Entry, entries: Iterable[str]) -> None:
    """Raise BadInput for a [model.NAME] table whose model, compute, recipe or options are wrong."""
    where, kind = f"suite '{suite.name}', model.{name}", entry.of or name
    if not NAME.fullmatch(name):
        raise BadInput(f"{where}: {NAMING}")
    check_model(kind, models.REGISTRY, f"{where}{'.of' if entry.of else ''}: unknown model")
    if entry.compute:
        check_model(entry.compute, entries, f"{where}.compute: unknown model")
        if other := next((n for n in (name, entry.compute) if suite.kind(n).elsewhere), ""):
            raise BadInput(f"{where}.compute: '{other}' was trained elsewhere, nobody knows how long")

    suite.recipe_of(name)
    check_options(models.REGISTRY[kind], entry.options, f"{where}.options", f"model '{kind}'")


def _check_gate(suite: Suite, entries: Iterable[str], where: str) -> None:
    titles = {name: suite.entry(name).title for name in entries}
    for gated in suite.gate:
        for name in gated.models:
            # a row next to a model's own is called by its title and what is looked at
            if not any(name.startswith(f"{title}, ") for title in titles.values()):
                check_name(name, titles, f"{where}, gate, metric '{gated.metric}': unknown model")
    # What the gate itself asks: known measures, one cell each.
    cells.check(suite.gate, suite.models, where)


def _check_search(suite: Suite, where: str) -> None:
    for metric in suite.search.judged_by if suite.search else ():
        check_name(metric, COLUMNS, f"{where}, search.judged_by: unknown measure")
        if not COLUMNS[metric].better:
            raise BadInput(
                f"{where}, search.judged_by: '{metric}' has no better direction: name another measure"
            )


def _check_model(suite: Suite, name: str, where: str) -> None:
    """Raise BadInput for a model that the data or the prior do not allow, or that cannot be built."""
    if reason := unfit(suite, name):
        raise BadInput(f"{where}: model '{name}' {reason}")
    recipe, players = suite.recipe_of(name), suite.shapes(name).players
    for player in recipe.lr_of:
        check_name(player, players, f"{where}, model.{name}.recipe.lr_of: unknown player")
    batch, available = recipe.batch, len(suite.load().train)
    if batch > available:
        raise BadInput(f"{where}: batch {batch} is larger than the {available} training samples")
