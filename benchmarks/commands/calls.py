"""The suite without the command line, for scripts and notebooks: run, train, evaluate.

A call of `run` carries out the command of the same words, so that both leave the same rows, and either can
resume what the other began.
"""

import functools
import html
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypedDict, TypeVar, Unpack

import pandas as pd
import torch

from alibench.benchmarks.checkup import checkup
from alibench.benchmarks.commands import cli
from alibench.benchmarks.config import classes, compute, devices, loading, parsing, pictures
from alibench.benchmarks.config import plugins as plugin_files
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.data import datasets, given
from alibench.benchmarks.data.samples import StoredSamples
from alibench.benchmarks.running import loaded, provenance, trained
from alibench.benchmarks.training import loop, peers
from alibench.benchmarks.training.outcomes import Log, silent
from alibench.benchmarks.training.recipe import Recipe
from alibench.evaluation import objects
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.messages import say
from alibench.evaluation.representation import one_core_a_thread
from alibench.evaluation.settings import Settings
from alibench.models import REGISTRY
from alibench.models.base import Model
from alibench.results import rows, tables

Given = ParamSpec("Given")
Made = TypeVar("Made")
NAMED = ("suite", "models", "seeds", "steps", "data", "out")  # arguments of run, next to RunOptions
INTERRUPTED = (130, 143)  # exit codes of a command that was ended
NOTHING = "name a suite (alibench.run('digits')), or give data (alibench.run(data='folder:pictures'))"
SERIAL = (
    "handed over as such, so that all runs are done in this process, one after another; with its file, "
    "plugins=[FILE], they would use all cores"
)


@dataclass(frozen=True)
class Result:
    """What a run left in a folder; it is read again each time, so that it is what the folder holds."""

    out: Path
    outcomes: Mapping[str, str]  # run -> "ok", or why it failed or diverged
    models: tuple[Any, ...] = field(default=(), repr=False)  # classes and objects that were handed over
    plugins: tuple[str | Path, ...] = field(default=(), repr=False)

    @property
    def rows(self) -> pd.DataFrame:
        """A line for each number, with its model, seed, metric, protocol and unit."""
        return rows.read(self.out)

    @property
    def tables(self) -> dict[str, pd.DataFrame]:
        """The tables by name, with cells as they are printed: mean ± deviation over seeds."""
        return {name: sheet.frame for name, sheet in tables.tables(self.rows).items()}

    @property
    def report(self) -> Path:
        """The page for a browser."""
        return self.out / "report.html"

    def load(self, model: str, seed: int = 0, device: str | torch.device = "cpu") -> Model:
        """Return a trained model: sample, encode, reconstruct. Raises BadInput if it was not trained here."""
        runs = {f"{run.origin['model']}, seed {run.origin['seed']}": run for run in trained.find(self.out)}
        if (name := f"{model}, seed {seed}") not in runs:
            raise BadInput(f"no run of {name} is in {self.out}, which has {'; '.join(runs)}")
        with plugin_files.meanwhile():
            return loaded.load_run(runs[name].weights.parent, device, self.plugins, self.models)

    def _repr_html_(self) -> str:
        """Return the summary for a notebook."""
        shown = tables.summaries(self.rows)
        parts = [f"<p><b>{name}</b></p>{sheet.frame.to_html()}" for name, sheet in shown.items()]
        return "".join([*parts, f"<p>{html.escape(str(self.out))}</p>"])


def _in_short(call: Callable[Given, Made]) -> Callable[Given, Made]:
    """Return a call whose refusals have no traceback through the project: the line says all."""

    @functools.wraps(call)
    def called(*arguments: Given.args, **named: Given.kwargs) -> Made:
        try:
            return call(*arguments, **named)
        except BadInput as problem:
            refusal = BadInput(given.in_words(str(problem)))
        raise refusal

    return called


class RunOptions(TypedDict, total=False):
    """What else `run` takes."""

    metrics: Sequence[str]  # in place of the suite's
    settings: Mapping[str, Any]  # fields of the suite by their dotted names: {"recipe.lr": 1e-3}
    samples: Mapping[str, Any]  # of other models by their names: paths or arrays (N, ...)
    plugins: Sequence[str | Path]  # files with models of the user's
    device: str
    resume: bool  # what was begun in `out`
    fresh: bool  # start over next to it, in out-2 and so on, if it was begun
    force: bool  # with resume: also where suite, code or a library changed since


@_in_short
def run(
    suite: str | Path | None = None,
    models: Sequence[Any] = (),
    seeds: int | None = None,
    steps: int | None = None,
    data: Any = None,
    out: str | Path | None = None,
    **options: Unpack[RunOptions],
) -> Result:
    """Train and evaluate the models of a suite, and write tables and report, as `alibench run` does.

        result = alibench.run("digits", models=["ali", "vae"], seeds=3, steps=2000)
        result.tables["digits-reconstruction"], result.rows, result.report, result.load("ali", seed=0)

    suite: a built-in suite or a TOML file; none: one that is made for `data`. models: names, classes of
    Model, or objects with sample(n) or encode(x) that were trained elsewhere; with classes or objects all is
    done in this process, else in a process a core. data: other data than the suite's (given.name_of says what
    that may be). out: the folder; none: a fresh one, in the checkout's results/runs/ or in runs/. Raises
    BadInput before anything is written, and KeyboardInterrupt if it is interrupted: `resume` resumes it.
    """
    for name in options:
        check_name(name, [*NAMED, *RunOptions.__annotations__], "alibench.run has no argument")
    if peers.world() > 1:
        raise BadInput("alibench.run is one process's: torchrun takes the command, alibench run")
    if isinstance(models, str | type) or not isinstance(models, Iterable):
        models = [models]
    # The call as a command's words, with the models of the user's known meanwhile.
    with plugin_files.meanwhile():
        names = classes.adopt(models)
        if classes.ADOPTED:
            say(f"{', '.join(kind.name for kind in classes.ADOPTED)}: {SERIAL}")
        words = ["run", *_subject(suite, data), *(["--models", *names] if names else [])]
        words += _words(options, steps, {"--seeds": seeds, "--out": out, "--device": options.get("device")})
        with provenance.called(words):
            answer = cli.answered(words)

    # A failed run is an outcome, an interrupted command is not.
    if answer.code in INTERRUPTED:
        raise KeyboardInterrupt(answer.facts["error"])
    return Result(answer.facts["out"], answer.facts["runs"], tuple(models), tuple(options.get("plugins", ())))


@_in_short
def train(
    model: Any,
    data: Any,
    recipe: Recipe | Mapping[str, Any] | None = None,
    seed: int = 0,
    *,
    suite: str | Path | None = None,
    device: str | None = None,
    log: Log = silent,
) -> Model:
    """Return a model that was trained on data (given.name_of says what that may be), in evaluation mode.

    model: a name, or a class of Model, which gets the networks and the recipe of the built-in suite that fits
    the data, or of `suite`; its weights are those of a run with that seed. Or a Model that was built already,
    which is trained in place by `recipe`. recipe: all fields, or some that differ from the suite's,
    {"steps": 500}. log: is called with each record of the curves. On a CPU one thread computes, so that
    numbers are a run's. Raises BadInput, and Diverged if a loss is not finite any more.
    """
    # What is trained, on what, and how.
    where = devices.device(device)
    if isinstance(model, Model):
        whole = recipe if isinstance(recipe, Recipe) else parsing.parse(recipe or {}, Recipe, "recipe")
        split, labelled = _data(data).train, None
    else:
        with plugin_files.meanwhile():
            (name,) = classes.adopt([model])
            plugin_files.check_model(name, REGISTRY, "unknown model")
            fitting = replace(_suite(suite, data), models=[name])
            checkup.rehearse([fitting])
            (fitting,) = devices.resolved([fitting], where)
            whole = _recipe(fitting, name, seed, recipe)
            split, labelled = fitting.load().train, compute.labelled_of(fitting, name, seed)
            model = fitting.build(name, seed)

    # As a worker trains it.
    with one_core_a_thread() if where.type == "cpu" else nullcontext():
        loop.train(model, split, whole.on(where), seed, where, labelled, log)
    trained_model: Model = model.eval()
    return trained_model


@_in_short
def evaluate(
    model: Any,
    data: Any,
    metrics: Iterable[str] | None = None,
    settings: Settings | Mapping[str, Any] | None = None,
    seed: int = 0,
    split: Literal["validation", "test"] = "test",
    device: str | torch.device = "cpu",
) -> pd.DataFrame:
    """Return a table of measurements, a line each, with what it takes to read them.

    model: a Model, an object with sample(n) or encode(x), or samples (N, ...) as an array or in a file or
    folder. data: see given.name_of. metrics: names; none: all that the data allow, but speed. settings: of
    the evaluation, {"samples": 1000}. Every draw comes from `seed`. Raises BadInput for an unknown metric,
    one that the data do not allow, or a model that can do nothing.
    """
    # Samples are a model that can do nothing else.
    held = _data(data)
    if given.is_array(model) or isinstance(model, str | Path):
        model = StoredSamples(given.samples_path(model), held.shape)
    chosen = (
        settings if isinstance(settings, Settings) else parsing.parse(settings or {}, Settings, "settings")
    )
    return objects.evaluate(model, held, metrics, chosen, seed, split, device)


# -------------------- what calls mean


def _subject(suite: str | Path | None, data: Any) -> list[str]:
    """Return the words that name a suite and its data. Raises BadInput."""
    if suite is None:
        return [_suite_name(data)]
    if not isinstance(suite, str | Path):
        raise BadInput(
            f"the first argument names a suite, and is a {type(suite).__name__}: give data by data="
        )
    return [str(suite), *([] if data is None else ["--data", given.name_of(data)])]


def _words(options: RunOptions, steps: int | None, single: Mapping[str, Any]) -> list[str]:
    """Return the words of a command's options. Raises BadInput for a setting that TOML does not have."""
    # What has a name of its own is a field of the suite as well.
    settings = dict(options.get("settings", {}))
    if steps is not None:
        settings["recipe.steps"] = steps
    if "metrics" in options:
        settings["metrics"] = list(options["metrics"])
    pairs = [
        *(("--set", f"{key}={_toml(key, value)}") for key, value in settings.items()),
        *(("--samples", f"{key}={given.samples_path(x)}") for key, x in options.get("samples", {}).items()),
        *(("--plugin", path) for path in options.get("plugins", ())),
        *((name, value) for name, value in single.items() if value is not None),
    ]
    flags = [f"--{name}" for name in ("resume", "fresh", "force") if options.get(name)]
    return [str(word) for pair in pairs for word in pair] + flags


def _suite_name(data: Any) -> str:
    """Return the suite of a dataset's name, or the pictures that one is made for. Raises BadInput."""
    name = "" if data is None else given.name_of(data)
    if name not in loading.builtin() and not pictures.is_data(name):
        raise BadInput(f"no suite is made for '{name}' alone: name one by suite=" if name else NOTHING)
    return name


def _suite(suite: str | Path | None, data: Any) -> Suite:
    """Return the suite whose networks and recipe a model is trained by. Raises BadInput."""
    if suite is None and pictures.is_data(name := _suite_name(data)):
        return pictures.make(name).suite
    named = str(suite or _suite_name(data))
    # A built-in suite, with other data if they are given.
    parts = loading.load(named, dataset=given.name_of(data) if suite else None)
    if len(parts) > 1:
        raise BadInput(f"'{named}' is a collection: name one of {', '.join(part.name for part in parts)}")
    return parts[0]


def _recipe(suite: Suite, name: str, seed: int, recipe: Recipe | Mapping[str, Any] | None) -> Recipe:
    """Return a model's recipe in a suite, with the fields that are given."""
    if isinstance(recipe, Recipe):
        return recipe
    # An entry may train for as many operations as another.
    if not recipe:
        return compute.recipe_of(suite, name, seed)
    changed: Recipe = parsing.parse({**asdict(suite.recipe_of(name, seed)), **recipe}, Recipe, "recipe")
    return changed


def _data(data: Any) -> Data:
    return data if isinstance(data, Data) else datasets.load(given.name_of(data))


def _toml(key: str, value: Any) -> str:
    """Return a setting as TOML. Raises BadInput for what TOML does not have."""
    try:
        return json.dumps(value.item() if hasattr(value, "item") else value)
    except (TypeError, ValueError):
        raise BadInput(f"settings, {key}: a {type(value).__name__} is not a number, text or list") from None
