"""What cannot run is refused by name before anything does."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import replace

from alibench import models
from alibench.benchmarks.config import plugins
from alibench.benchmarks.config.plugins import NAMING, check_model
from alibench.benchmarks.config.schema import Search, Suite, check_options
from alibench.evaluation import labels
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.files import NAME
from alibench.evaluation.messages import say
from alibench.evaluation.metrics import COLUMNS, METRICS
from alibench.models.tables import FAMILIES
from alibench.results import cells


def check_once(names: Iterable[str], where: str) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise BadInput(f"{where}: '{name}' is named {times} times: remove all but one")


def check(suite: Suite) -> None:
    """Refuse by name what cannot run, before anything does. Raises BadInput."""
    where = f"suite '{suite.name}'"
    if suite.prior not in ("normal", "uniform"):
        raise BadInput(
            f"{where}: prior '{suite.prior}' is not there; ALI's encoder learns through z by "
            "reparametrisation, so "
            "latents must be continuous: use 'normal' or 'uniform'"
        )
    check_name(suite.networks, FAMILIES, f"{where}: unknown networks")
    loaded, shape = suite.load(), suite.family().shape
    if shape != loaded.shape and not (shape is None and loaded.images):
        asked = "images" if shape is None else f"data of shape {shape}"
        raise BadInput(
            f"{where}: networks '{suite.networks}' take {asked}, '{loaded.name}' has shape {loaded.shape}"
            + ("; --size and --channels change images" if loaded.images else "")
        )
    check_once(suite.metrics, f"{where}, metrics")
    for metric in suite.metrics:
        check_name(metric, METRICS, f"{where}: unknown metric")
        if reason := METRICS[metric].unsupported_reason(loaded, suite.evaluation):
            raise BadInput(f"{where}: metric '{metric}' cannot be measured: {reason}")
    entries = [*dict.fromkeys([*models.REGISTRY, *suite.model])]
    for name in suite.models:
        check_model(name, entries, "unknown model")
    if not suite.models:
        raise BadInput(f"{where}: no models")
    check_once(suite.models, f"{where}, models")
    for name, entry in suite.model.items():
        if not NAME.fullmatch(name):
            raise BadInput(f"{where}, model.{name}: {NAMING}")
        of = entry.of or name
        check_model(of, models.REGISTRY, f"{where}, model.{name}{'.of' if entry.of else ''}: unknown model")
        if entry.compute:
            check_model(entry.compute, entries, f"{where}, model.{name}.compute: unknown model")
            if other := next((n for n in (name, entry.compute) if suite.kind(n).elsewhere), ""):
                raise BadInput(
                    f"{where}, model.{name}.compute: '{other}' was trained elsewhere, nobody knows how long"
                )
        suite.recipe_of(name)
        check_options(models.REGISTRY[of], entry.options, f"{where}, model.{name}.options", f"model '{of}'")
    _check_gate(suite, {name: suite.entry(name).title for name in entries}, where)
    if suite.search:
        _check_search(suite.search, where)
    for name in dict.fromkeys(
        [*suite.models, *filter(None, (suite.entry(name).compute for name in suite.models))]
    ):
        if reason := unfit(suite, name):
            raise BadInput(f"{where}: model '{name}' {reason}")
        suite.shapes(name)
        batch = suite.recipe_of(name).batch
        if batch > len(loaded.train):
            raise BadInput(f"{where}: batch {batch} is larger than the {len(loaded.train)} training samples")


def unfit(suite: Suite, name: str) -> str:
    """Say why a suite cannot have a model, by its prior or its data; nothing if it can."""
    kind, loaded = suite.kind(name), suite.load()
    if suite.prior not in kind.priors:
        return f"works with a {' or '.join(kind.priors)} prior, not '{suite.prior}'"
    if kind.conditional and not loaded.labels:
        return f"is conditional and needs labels, '{loaded.name}' has none"
    if kind.semi_supervised and (reason := labels.unsupported_reason(loaded, suite.evaluation)):
        return f"learns classes from labels: {reason}"
    return ""


def with_models(suite: Suite, more: Iterable[str]) -> Suite:
    """Return a suite with models beside its own, without those that it cannot have; says which. Raises
    BadInput.

    A suite that names some of them itself has all that it is to have.
    """
    more, added = list(more), list[str]()
    if set(more) & set(suite.models):
        return suite
    for name in (name for name in more if name not in suite.models):
        if suite.kind(name).name != name:
            place = plugins.PLACES[models.REGISTRY[name]]
            raise BadInput(f"{place}: suite '{suite.name}' has a row '{name}' already: choose another name")
        if reason := unfit(suite, name):
            say(f"suite '{suite.name}': model '{name}' is left out: it {reason}")
        else:
            added.append(name)
    gates = (
        [replace(gated, models=gated.models or suite.models) for gated in suite.gate] if added else suite.gate
    )
    return replace(suite, models=[*suite.models, *added], gate=gates)


def _check_gate(suite: Suite, titles: Mapping[str, str], where: str) -> None:
    for gated in suite.gate:
        for name in gated.models:
            # a row beside a model's own is called by its title and what is looked at
            if not any(name.startswith(f"{title}, ") for title in titles.values()):
                check_name(name, titles, f"{where}, gate, metric '{gated.metric}': unknown model")
    cells.check(suite.gate, suite.models, where)


def _check_search(search: Search, where: str) -> None:
    for metric in search.judged_by:
        check_name(metric, COLUMNS, f"{where}, search.judged_by: unknown measure")
        if not COLUMNS[metric].better:
            raise BadInput(
                f"{where}, search.judged_by: '{metric}' has no better direction: name another measure"
            )
