"""Suites: what is compared on what, as TOML files checked against the dataclasses here.

A suite regenerates the tables of one data set; a collection includes several suites. The command line overrides single
fields by `--set key=value`; `model.gan.options.regression=1.0` reaches into tables.
"""

import inspect
import os
import tomllib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass, replace
from pathlib import Path
from typing import Annotated, Any, get_type_hints

import msgspec
import torch
from msgspec import Meta

import models
from benchmarks import data, plugins, randomness
from benchmarks.data import Options
from benchmarks.loop import Decay, Rate, Recipe, Trainer, bf16_is_native, has_tf32
from benchmarks.plugins import NAMING, check_model
from evaluation import COLUMNS, METRICS, extractors, files, labels
from evaluation.base import BadInput, Count, Data, Settings, as_float, check_name, generator
from evaluation.files import NAME
from evaluation.messages import say
from models.base import Model
from models.layers import TooLarge
from models.networks import Family, Networks
from models.tables import FAMILIES
from results import gate
from results.gate import Gated

FOLDER = Path(__file__).parent / "suites"
Seeds = Annotated[int, Meta(ge=1, le=10_000)]  # each is a job


@dataclass(frozen=True)
class Entry:
    """A row of a suite's tables: a model, and what of it differs from the suite's recipe; a [model.NAME] table."""

    of: str = ""  # the model, where it is not NAME itself
    title: str = ""
    compute: str = ""  # another entry: this one trains for as many floating-point operations, all phases scaled alike
    recipe: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Search:
    """The tuning trials that every model gets, the product of the lists, judged on validation; a [search] table."""

    lr: Annotated[list[Rate], Meta(min_length=1)]
    beta1: Annotated[list[Decay], Meta(min_length=1)]
    # measures; a trial's score is its mean rank over them; between equals the last decides
    judged_by: Annotated[list[str], Meta(min_length=1)]
    seeds: Seeds = 1  # of each trial; none of them is a seed of any table


@dataclass(frozen=True)
class Ranges:
    """Settings that every seed draws at random, first and last value of each; a [draw] table."""

    lr: tuple[Rate, Rate]  # evenly on the logarithm
    beta1: tuple[Decay, Decay]
    std: tuple[Rate, Rate]  # of the first weights; evenly on the logarithm


@dataclass(frozen=True)
class Resources:
    """What one run takes of a machine, so that as many go side by side as fit; a [resources] table.

    It changes no number: on a CPU a run computes in one thread, whatever it is given.
    """

    cpus: Annotated[float, Meta(gt=0)] = 1.0  # cores
    gpus: Annotated[float, Meta(gt=0, le=1)] = 1.0  # of a GPU, where it computes on one: runs of a half share one (Ray)
    memory: Annotated[float, Meta(gt=0)] = 1.0  # GB of the machine's, libraries included


@dataclass(frozen=True)
class Suite:
    """One data set's comparison."""

    title: str
    source: str  # of the table that this regenerates
    expect: str  # time and result
    dataset: str
    networks: str  # a family of layer tables
    latent: Count  # numbers in z
    models: list[str]
    metrics: list[str]
    recipe: Recipe
    seeds: Seeds = 3
    first_seed: Annotated[int, Meta(ge=0, le=4 * 10**9)] = 0  # numpy's seeds have 32 bits
    prior: str = "normal"  # of z: N(0, I); "uniform": on [-1, 1]
    data: Options = field(default_factory=Options)
    network: dict[str, Any] = field(default_factory=dict)  # named options of the layer tables
    draw: Ranges | None = None
    evaluation: Settings = field(default_factory=Settings)
    resources: Resources = field(default_factory=Resources)
    model: dict[str, Entry] = field(default_factory=dict)
    search: Search | None = None
    gate: list[Gated] = field(default_factory=list)  # what `alibench regression` judges
    name: str = ""  # of the file

    @property
    def training_seeds(self) -> range:
        """The seeds that every model is trained with."""
        return range(self.first_seed, self.first_seed + self.seeds)

    def kind(self, name: str) -> type[Model]:
        """Return the model of an entry."""
        return models.REGISTRY[self.model.get(name, Entry()).of or name]

    def entry(self, name: str) -> Entry:
        """Return an entry with its model and title filled in."""
        entry, kind = self.model.get(name, Entry()), self.kind(name)
        title = entry.title or getattr(kind, "title", name)  # there is none while a plug-in is only checked
        return replace(entry, of=kind.name, title=f"{title}{', trained elsewhere' * kind.elsewhere}")

    def seeds_of(self, name: str) -> range:
        """Return the seeds that an entry has runs of: the first alone, where another would train nothing anew."""
        return self.training_seeds[:1] if self.kind(name).elsewhere else self.training_seeds

    def recipe_of(self, name: str, seed: int = 0) -> Recipe:
        """Return the recipe of an entry; with what the seed draws, where the suite draws settings."""
        where = f"suite '{self.name}', model.{name}.recipe"
        recipe: Recipe = parse({**asdict(self.recipe), **self.model.get(name, Entry()).recipe}, Recipe, where)
        drawn = self.drawn(seed)
        return replace(recipe, lr=drawn["lr"], beta1=drawn["beta1"]) if drawn else recipe

    def drawn(self, seed: int) -> dict[str, float]:
        """Return the settings that a seed draws, equal for all models; empty where the suite draws none."""
        if self.draw is None:
            return {}
        shares = torch.rand(3, generator=generator(seed, "settings"), dtype=torch.float64, device="cpu").tolist()
        (lr, lr_end), (beta1, beta1_end), (std, std_end) = self.draw.lr, self.draw.beta1, self.draw.std
        return {
            "lr": lr * (lr_end / lr) ** shares[0],
            "beta1": beta1 + (beta1_end - beta1) * shares[1],
            "std": std * (std_end / std) ** shares[2],
        }

    def check_trains(self) -> None:
        """Refuse what cannot be trained. Raises BadInput."""
        if other := next((name for name in self.models if self.kind(name).elsewhere), ""):
            raise BadInput(f"'{other}' was trained elsewhere, so there is nothing to train: name other models")

    def load(self) -> Data:
        """Return the suite's data."""
        return data.load(self.dataset, self.data)

    def family(self, seed: int = 0) -> Family:
        """Return the layer tables, with the first weights' deviation that the seed draws. Raises BadInput."""
        family: Family = _call(
            FAMILIES[self.networks], self.network, f"suite '{self.name}', network", f"networks '{self.networks}'"
        )
        drawn = self.drawn(seed)
        return replace(family, std=drawn["std"]) if drawn else family

    def build(self, name: str, seed: int) -> Model:
        """Return an entry's model with its first weights. Raises BadInput for options that it does not have."""
        loaded = self.load()
        mean = _mean_image(loaded, seed) if loaded.images else None
        return self.build_for(loaded.shape, loaded.scale, loaded.labels, name, seed, mean)

    def shapes(self, name: str) -> Model:
        """Return an entry's model without contents, on the device "meta": its parameters' shapes, its phases and players.

        The data need not be there if they are published. One of the user's is built as it is. Raises BadInput as `build`.
        """
        if self.kind(name) in plugins.PLACES:
            return self.build(name, 0)
        loaded = self.load()
        with torch.device("meta"):
            return self.build_for(loaded.shape, loaded.scale, loaded.labels, name, 0)

    def build_for(
        self, shape: tuple[int, ...], scale: float, labels: int, name: str, seed: int, mean: torch.Tensor | None = None
    ) -> Model:
        """Return an entry's model for data of that kind, which need not be there. Raises BadInput as `build` does."""
        entry, rng = self.entry(name), generator(seed, "weights")
        prior: Any = self.prior
        networks = Networks(self.family(seed), shape, scale, self.latent, rng, prior, labels, mean)
        where = f"suite '{self.name}', model.{name}"
        try:
            with randomness.seeded(generator(seed, "modules").initial_seed()):  # what networks.rng does not draw
                model: Model = _call(
                    models.REGISTRY[entry.of], entry.options, f"{where}.options", f"model '{entry.of}'", networks
                )
        except TooLarge as problem:
            raise BadInput(f"{where}: {problem}: set a smaller latent, or smaller images by --size") from None
        except BadInput:
            raise
        except Exception as error:
            kind = models.REGISTRY[entry.of]
            if kind not in plugins.PLACES:
                raise
            raise plugins.Blamed(plugins.told(error, kind)) from None
        return model


def _mean_image(loaded: Data, seed: int) -> torch.Tensor:
    """Return the mean of 500 images of train (C, H, W): what ALI's code starts the output bias from."""
    index = torch.randperm(len(loaded.train), generator=generator(seed, "mean image"))[:500]
    return as_float(loaded.train.x[index]).mean(0)


def _call(function: Callable[..., Any], options: Mapping[str, Any], where: str, of: str, *arguments: Any) -> Any:
    """Call a family or a model with named options. Raises BadInput for an option that it lacks, or a wrong value."""
    _check_options(function, options, where, of)
    return function(*arguments, **options)


def _check_options(function: Callable[..., Any], options: Mapping[str, Any], where: str, of: str) -> None:
    if not options:
        return
    made: Any = function.__init__ if isinstance(function, type) else function  # type: ignore[misc]
    try:
        hints = get_type_hints(made, include_extras=True)
    except NameError as error:
        raise BadInput(f"{where}: the types of the options of {of} cannot be read ({error}): import them") from None
    known = [name for name in inspect.signature(made).parameters if name not in ("self", "networks")]
    for key, value in options.items():
        check_name(key, known, f"{where}: {of} has no option")
        _convert(value, hints.get(key, Any), f"{where}.{key}")


@dataclass(frozen=True)
class Collection:
    """Several suites that run together."""

    title: str
    expect: str
    include: Annotated[list[str], Meta(min_length=1)]


def parse(raw: Mapping[str, Any], schema: Any, where: str) -> Any:
    """Return `raw` as the dataclass `schema`. Raises BadInput naming an unknown, missing or wrong field."""

    def refuse_unknown(table: Any, kind: Any, path: str) -> None:
        hints = get_type_hints(kind)
        for key, value in table.items():
            check_name(key, [f.name for f in fields(kind)], f"{path}: unknown field")
            inner = [t for t in (hints[key], *getattr(hints[key], "__args__", ())) if is_dataclass(t)]
            named = isinstance(value, dict) and getattr(hints[key], "__origin__", None) is dict
            tables = value.items() if named else [("", part) for part in (value if isinstance(value, list) else [value])]
            for name, part in tables if inner else []:
                place = f"{path}, {key}.{name}".rstrip(".")
                if isinstance(part, dict):
                    refuse_unknown(part, inner[0], place)
                if named:
                    _convert(part, inner[0], place)  # here, since msgspec does not say which of them it was

    refuse_unknown(raw, schema, where)
    return _convert(raw, schema, where)


def _convert(raw: Any, kind: Any, where: str) -> Any:
    try:
        return msgspec.convert(raw, kind, strict=True)
    except msgspec.ValidationError as error:
        message = str(error).replace("$.", "").replace("`object`", "`table`").replace("`", "'")
        raise BadInput(f"{where}: {message}") from None


def _override(table: dict[str, Any], assignment: str) -> None:
    """Set a dotted key of a TOML table; the value is TOML, or text where it is no TOML."""
    key, separator, text = assignment.partition("=")
    if not separator or not key:
        raise BadInput(f"--set takes key=value, not '{assignment}'")
    try:
        parsed = tomllib.loads(f"value = {text}")
        value = parsed["value"] if len(parsed) == 1 else text  # what follows a line break is no part of a value
    except (ValueError, RecursionError):
        value = text
    *path, last = key.strip().split(".")
    # the fields that are set most stand in [recipe]; they are found without its name
    recipe = [f.name for f in fields(Recipe)]
    if not path and last in recipe:
        path = ["recipe"]
    elif not path:
        check_name(last, [*(f.name for f in fields(Suite) if f.name != "name"), *recipe], f"--set {key}: unknown field")
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
            check_name(kind, data.OPENED, f"suite '{name}': unknown kind of data")
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
    except ValueError as error:  # also of a number with more digits than Python reads, and of a path with a zero byte
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

    `overrides` are --set assignments, `only` the models to keep, `seeds` their number; `scale` multiplies all steps;
    `dataset` stands in for the suite's own, and metrics that it does not allow are left out, aloud; `within` are the
    collections that led here; `more` are models to add to those of each. Raises BadInput.
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
    """Return the checked suites of a TOML table, which is changed on the way, as `load` does. Raises BadInput."""
    if not NAME.fullmatch(stem):
        raise BadInput(f"suite '{stem}': {NAMING}")
    if "include" in table:
        collection: Collection = parse(table, Collection, f"suite '{stem}'")
        if stem in within:
            raise BadInput(f"suite '{stem}' includes itself, by way of {' and '.join(within)}: remove it from 'include'")
        parts = [load(part, overrides, only, seeds, scale, dataset, (*within, stem), more) for part in collection.include]
        suites = [suite for part in parts for suite in part]
        _check_once([suite.name for suite in suites], f"suite '{stem}', include")
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


def stored(run: Mapping[str, Any], metrics: Iterable[str], overrides: Iterable[str], dataset: str | None = None) -> Suite:
    """Return the suite of a run, from its run.json, with other metrics or settings of the evaluation. Raises BadInput.

    `dataset` is where its data lie now; none: where they lay when it was trained. Settings of the evaluation that the run's
    version had and this one has not are left out, aloud.
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
                f"--set {assignment}: a trained model takes settings of its evaluation alone: evaluation.KEY=VALUE"
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
        raise BadInput(f"{where} has stored samples beside its models: name their folder or .npz again, by {options}")
    check(suite)
    return suite


def of_run(run: Mapping[str, Any]) -> Suite:
    """Return the suite of a run, from its run.json, to build its model by: unchecked, without data. Raises BadInput."""
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
        metric: METRICS[metric].refuses(suite.load(), suite.evaluation) for metric in suite.metrics if metric in METRICS
    }
    for metric, reason in reasons.items():
        if reason:
            say(f"metric '{metric}' is left out: {reason}")
    kept = [metric for metric in suite.metrics if not reasons.get(metric)]
    if not kept:
        raise BadInput(f"suite '{suite.name}': no metric of the suite can be measured on '{suite.load().name}'")
    return replace(suite, metrics=kept)


def _check_once(names: Iterable[str], where: str) -> None:
    for name, times in Counter(names).items():
        if times > 1:
            raise BadInput(f"{where}: '{name}' is named {times} times: remove all but one")


def check(suite: Suite) -> None:
    """Refuse by name what cannot run, before anything does. Raises BadInput."""
    where = f"suite '{suite.name}'"
    if suite.prior not in ("normal", "uniform"):
        raise BadInput(
            f"{where}: prior '{suite.prior}' is not there; ALI's encoder learns through z by reparametrisation, so "
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
    _check_once(suite.metrics, f"{where}, metrics")
    for metric in suite.metrics:
        check_name(metric, METRICS, f"{where}: unknown metric")
        if reason := METRICS[metric].refuses(loaded, suite.evaluation):
            raise BadInput(f"{where}: metric '{metric}' cannot be measured: {reason}")
    entries = [*dict.fromkeys([*models.REGISTRY, *suite.model])]
    for name in suite.models:
        check_model(name, entries, "unknown model")
    if not suite.models:
        raise BadInput(f"{where}: no models")
    _check_once(suite.models, f"{where}, models")
    for name, entry in suite.model.items():
        if not NAME.fullmatch(name):
            raise BadInput(f"{where}, model.{name}: {NAMING}")
        of = entry.of or name
        check_model(of, models.REGISTRY, f"{where}, model.{name}{'.of' if entry.of else ''}: unknown model")
        if entry.compute:
            check_model(entry.compute, entries, f"{where}, model.{name}.compute: unknown model")
            if other := next((n for n in (name, entry.compute) if suite.kind(n).elsewhere), ""):
                raise BadInput(f"{where}, model.{name}.compute: '{other}' was trained elsewhere, nobody knows how long")
        suite.recipe_of(name)
        _check_options(models.REGISTRY[of], entry.options, f"{where}, model.{name}.options", f"model '{of}'")
    _check_gate(suite, {name: suite.entry(name).title for name in entries}, where)
    if suite.search:
        _check_search(suite.search, where)
    for name in dict.fromkeys([*suite.models, *filter(None, (suite.entry(name).compute for name in suite.models))]):
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
    if kind.semi_supervised and (reason := labels.refuses(loaded, suite.evaluation)):
        return f"learns classes from labels: {reason}"
    return ""


def with_models(suite: Suite, more: Iterable[str]) -> Suite:
    """Return a suite with models beside its own, without those that it cannot have; says which. Raises BadInput.

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
    gates = [replace(gated, models=gated.models or suite.models) for gated in suite.gate] if added else suite.gate
    return replace(suite, models=[*suite.models, *added], gate=gates)


def _check_gate(suite: Suite, titles: Mapping[str, str], where: str) -> None:
    for gated in suite.gate:
        for name in gated.models:
            # a row beside a model's own is called by its title and what is looked at
            if not any(name.startswith(f"{title}, ") for title in titles.values()):
                check_name(name, titles, f"{where}, gate, metric '{gated.metric}': unknown model")
    gate.check(suite.gate, suite.models, where)


def _check_search(search: Search, where: str) -> None:
    for metric in search.judged_by:
        check_name(metric, COLUMNS, f"{where}, search.judged_by: unknown measure")
        if not COLUMNS[metric].better:
            raise BadInput(f"{where}, search.judged_by: '{metric}' has no better direction: name another measure")


def resolved(suites: Iterable[Suite], device: torch.device, alone: bool = True) -> list[Suite]:
    """Return suites as they are trained on a device: what is "auto" of a recipe is decided; not `alone`: by torchrun.

    A device that is only elsewhere, in a cluster, decides when the training begins. Says if the device only imitates what is
    asked of it. Raises BadInput for a precision, or CUDA graphs, that it does not have.
    """
    suites = list(suites)
    is_here = device.type != "cuda" or torch.cuda.is_available()
    for suite in suites:
        for name in suite.models:
            _check_arithmetic(suite.recipe_of(name), device, f"suite '{suite.name}', model '{name}'", is_here)
            _check_compiled(suite, name)
    if is_here:
        suites = [_decided(suite, device, alone) for suite in suites]
        precisions = {suite.recipe_of(name).precision for suite in suites for name in suite.models}
        if "bf16" in precisions and not bf16_is_native(device):
            slow = "imitates bf16, several times slower than fp32: expect no speed of it"
            say(f"'{device}' {slow}")
    return suites


def _check_arithmetic(recipe: Recipe, device: torch.device, where: str, is_here: bool) -> None:
    if recipe.precision == "tf32" and device.type != "cuda":
        raise BadInput(f"{where}: precision 'tf32' is CUDA's, not of '{device}': use fp32 or bf16")
    if recipe.precision == "tf32" and is_here and not has_tf32(device):
        raise BadInput(f"{where}: precision 'tf32' needs a GPU of capability 8.0 or later: use fp32")
    if recipe.execution == "graphs" and device.type not in ("cpu", "cuda"):
        raise BadInput(f"{where}: execution 'graphs' is that of a CPU and of CUDA, not of '{device}': use eager")


def _check_compiled(suite: Suite, name: str) -> None:
    recipe, train = suite.recipe_of(name), suite.load().train
    for phase in suite.build(name, 0).phases if recipe.compile else ():
        Trainer(suite.build(name, 0), phase, replace(recipe, execution="eager"), train, generator(0, "check"), train)


def _decided(suite: Suite, device: torch.device, alone: bool) -> Suite:
    def entry(name: str, own: Entry) -> Entry:
        decided = asdict(suite.recipe_of(name).on(device, alone))
        return replace(own, recipe={key: decided[key] for key in own.recipe})

    entries = {name: entry(name, own) for name, own in suite.model.items()}
    return replace(suite, recipe=suite.recipe.on(device, alone), model=entries)


def device(name: str | None) -> torch.device:
    """Return the named device, or the best there is. Raises BadInput if it is unknown or not there."""
    there = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name is None:
        return torch.device(next(kind for kind, available in there.items() if available))
    check_name(name.partition(":")[0], there, "unknown device")
    usable = [kind for kind, available in there.items() if available]
    if name not in [*usable, *(f"cuda:{index}" for index in range(torch.cuda.device_count()))]:
        raise BadInput(f"device '{name}' is not on this machine; usable here: {', '.join(usable)}")
    return torch.device(name)
