"""A suite for anyone's own pictures: looks at a folder or an .npz and writes the TOML file that compares
models on it.

`alibench new-suite folder:PATH` writes the file; `alibench run folder:PATH` makes the same suite and runs it
at once. Networks, code and recipe are those of a built-in suite, the first of NEAREST whose networks fit the
pictures; the rows are those of suite ROWS.
"""

import argparse
import json
import os
import re
import shlex
import textwrap
import time
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from statistics import median_low
from typing import Any

import numpy as np
from rich.console import Console

from alibench.benchmarks.config import devices, loading, parsing
from alibench.benchmarks.config.parsing import NAMING
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.data import datasets, images
from alibench.benchmarks.data.sources import IDX, SPLITS, Options, Part, Source
from alibench.benchmarks.running import outputs
from alibench.benchmarks.running.outputs import Answer
from alibench.evaluation import files, labels, store
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.features import classifier_networks, classifiers, extractors, fitting
from alibench.evaluation.files import NAME
from alibench.evaluation.messages import listed, say
from alibench.evaluation.metrics import METRICS
from alibench.evaluation.metrics.fidelity import PER_FEATURE
from alibench.evaluation.settings import Settings
from alibench.models import REGISTRY

ROWS = "digits"  # the suite whose rows are compared: its GAN gets ALI's compute
# Suites by the size of their images, and for how many epochs of someone's own they train. The papers took 100
# (SVHN) to 125 (ImageNet) and more for convolutional networks, BiGAN 400 for dense ones. The last one's
# networks take any size.
NEAREST = {"celeba": 100, "cifar10": 100, "mnist_bigan": 400, "digits": 400}
UPDATES = 2_000, 20_000  # at least, at most
FEWEST = {"train": 20, "validation": 6, "test": 6}  # pictures; coverage looks at five neighbours of each
SMALLEST = 8  # pixels a side that pictures of several sizes are brought to
LABELS = 100  # at most, unless the classes are so many that this is too few
FITTED = 1e8  # pixels that an extractor may see to be fitted at once on a CPU: a minute on two free cores
SHOWN = 12  # classes in a message
WIDTH = 118  # of a comment
ABOUT = {  # comments in the file
    "file": "'alibench run FILE.toml' runs it; with --dry-run it says how long that takes. Change what you like: a mistake "
    "is named before anything runs. 'alibench list' names all models and metrics.",
    "models": "The rows of the tables; names of other models may be added.",
    "metrics": "What is measured; a name may be added once the reason against it is gone:",
    "seeds": "Runs of each row. From five on the tables say which row is better, with fewer that is not tested.",
    "extractor": "extractor: the network whose features FID and KID compare. 'classifier' is fitted to the classes of your "
    "pictures, 'inception' is downloaded once, 96 MB.",
    "labels": "labels: pictures whose classes are told to the classifiers that judge the codes.",
    "draws": "draws: how often other pictures are taken for it.",
    "standardise": "standardise: whether the SVM gets features with mean 0 and deviation 1.",
}


# -------------------- what is there


@dataclass(frozen=True)
class Found:
    """What pictures there are, by their headers alone."""

    source: Source
    name: str  # of the data: KIND:ABSOLUTE PATH
    sizes: Counter[tuple[int, int]]  # width and height
    smallest: str  # the picture with the shortest side
    grey: bool  # all of them
    splits: dict[str, int]
    how: str  # the splits were made
    classes: dict[str, int]  # pictures of each; empty: no labels

    def __len__(self) -> int:
        return self.sizes.total()

    @cached_property
    def sides(self) -> list[int]:
        """The shorter side of each picture, in order."""
        return sorted(min(size) for size in self.sizes.elements())

    @property
    def lines(self) -> Iterator[str]:
        """Say it."""
        low, high = (f"{width}x{height}" for width, height in (f(self.sizes, key=min) for f in (min, max)))
        sizes = (
            f"{low} pixels" if len(self.sizes) == 1 else f"{low} to {high} pixels, {len(self.sizes)} sizes"
        )
        yield f"{len(self):,} pictures, {'grey' if self.grey else 'in colour'}, {sizes}"
        counts = [f"{_shown(name)} ({count:,})" for name, count in self.classes.items()]
        yield f"{len(self.classes)} classes: {listed(counts, SHOWN)}" if counts else "no classes"
        yield f"{' / '.join(f'{self.splits[split]:,}' for split in SPLITS)} to train, validate and test: {self.how}"


def is_data(suite: str) -> bool:
    """Return whether what stands for a suite names pictures: folder:PATH or npz:PATH."""
    kind, colon, _ = suite.partition(":")
    return bool(colon) and kind in datasets.OPENED


def look(name: str) -> Found:
    """Look at the pictures of folder:PATH or npz:PATH. Raises BadInput if they are too few, or some cannot be
    read.
    """
    kind, colon, path = name.partition(":")
    if not colon:
        is_array = name.endswith((".npz", ".npy")) or IDX.search(name)
        raise BadInput(f"'{name}' names no kind of data: write {'npz' if is_array else 'folder'}:{name}")
    check_name(kind, datasets.OPENED, f"'{name}': unknown kind of data")
    if not path:
        raise BadInput(f"'{name}' names no place: write {kind}:PATH")
    source = datasets.OPENED[kind](path)
    if source.where.encode(errors="replace").decode() != source.where:
        raise BadInput(f"{source.where} is no valid UTF-8, and cannot be written into a suite: rename it")
    contents = source.read(source.files(), Options().seed)
    parts = {split: getattr(contents, split) for split in SPLITS}
    splits = {split: len(part) for split, part in parts.items()}
    if any(splits[split] < least for split, least in FEWEST.items()):
        there, needed = (" / ".join(map(str, counts.values())) for counts in (splits, FEWEST))
        raise BadInput(
            f"{source.where}: {there} pictures to train, validate and test are too few, {needed} are "
            "needed: add some, "
            "60 in all where they are not in folders train, validation and test"
        )
    sizes, grey, smallest = _headers(parts.values(), source)
    y = np.concatenate([part.y for part in parts.values()])
    names = contents.class_names or tuple(map(str, range(contents.classes)))
    classes = {name: int((y == c).sum()) for c, name in enumerate(names)}
    return Found(source, f"{kind}:{source.where}", sizes, smallest, grey, splits, contents.splits, classes)


def _headers(parts: Iterable[Part], source: Source) -> tuple[Counter[tuple[int, int]], bool, str]:
    """Return the widths and heights of pictures, whether all are grey, and where the smallest is. Raises
    BadInput.
    """
    pictures = [part.images for part in parts]
    if pictures[0].dtype == object:  # paths
        pictures = [np.concatenate(pictures)]
    headers = images.headers(*pictures)
    sides = [min(header.width, header.height) for header in headers]
    smallest = next(islice(chain(*pictures), sides.index(min(sides)), None))

    sizes = Counter((header.width, header.height) for header in headers)
    grey = all(header.grey for header in headers)
    return sizes, grey, smallest if isinstance(smallest, str) else source.where


# -------------------- what is chosen


@dataclass(frozen=True)
class Choice:
    """The built-in suite whose networks, code and recipe are taken, and the pictures as these networks take
    them.
    """

    suite: Suite
    size: int
    channels: int

    @property
    def convolutional(self) -> bool:
        """Whether a CPU is slow at it."""
        return any(row.op != "dense" for row in self.suite.family().encoder)


def choose(found: Found, size: int | None, channels: int | None, side: int) -> Choice:
    """Return the first suite of NEAREST whose networks take these pictures.

    Without `size` none is enlarged whose shorter side is `side`; without `channels` no colours are lost.
    """
    for name in NEAREST:
        suite: Suite = replace(parsing.parse(loading.read(name)[1], Suite, f"suite '{name}'"), name=name)
        takes, high, _ = suite.family().shape or (channels or (1 if found.grey else 3), size or side, 0)
        if (high == size if size else high <= side) and (
            takes == channels if channels else takes == 3 or found.grey
        ):
            return Choice(suite, high, takes)
    raise AssertionError("the last suite's networks take any size")


def _about_size(found: Found, asked: int | None, chosen: Choice) -> str:
    """Say why pictures get the size that they get, and what is lost by it."""
    least, most = found.sides[0], found.sides[-1]
    square = all(width == height for width, height in found.sizes)
    if asked:
        enlarged = sum(side < asked for side in found.sides)
        why = "as --size asked" + f", which enlarges {enlarged:,} of {len(found):,} pictures" * bool(enlarged)
    elif least == most == chosen.size:
        why = "their own" if square else "their own shorter side"
    else:
        sides = f"{least} pixels" if least == most else f"{least} to {most} pixels"
        why = f"shorter sides have {sides}; this is the largest that networks of the suites take and that enlarges none"
    return (
        why if square else f"{why}; the shorter side is resized to it, and the square in the middle is kept"
    )


def _about_channels(found: Found, asked: int | None, chosen: Choice) -> str:
    if found.grey and chosen.channels == 3:
        return f"grey is repeated, {'as --channels asked' if asked else 'since the networks take colours'}"
    return (
        "colours are dropped, as --channels asked" if not found.grey and chosen.channels == 1 else "their own"
    )


def _small_ones(found: Found, chosen: Choice) -> str:
    """Say which pictures keep the others from a larger size, if less than half of them do."""
    larger = choose(found, None, None, median_low(found.sides))
    if larger.size <= chosen.size:
        return ""
    few = sum(side < larger.size for side in found.sides)
    return (
        f"{few:,} of {len(found):,} pictures have a side of less than {larger.size} pixels, the smallest is "
        f"{found.smallest}: without them, or by --size {larger.size}, networks would be those of suite "
        f"'{larger.suite.name}'"
    )


def _steps(chosen: Choice, train: int, batch: int) -> tuple[int, str]:
    """Return the number of updates, and say how it comes about."""
    epochs, (least, most) = NEAREST[chosen.suite.name], UPDATES
    wanted = epochs * (train // batch)
    steps = min(max(wanted, least), most)
    bounded = f"; no fewer than {least:,} and no more than {most:,} are made" if steps != wanted else ""
    theirs = f"suite '{chosen.suite.name}' makes {chosen.suite.recipe.steps:,}"
    return steps, (
        f"{epochs} epochs of {train:,} pictures are {wanted:,} updates{bounded}. It is enough for a first "
        f"table; {theirs}, "
        "and the papers trained far longer."
    )


def _settings(loaded: Data, base: Settings) -> Settings:
    """Return how it is evaluated: with LABELS labels or half of train, or nearest to it what `labels` allows."""
    if loaded.classes < 2:
        return Settings()
    rarest = int(np.bincount(loaded.train.y.numpy(), minlength=loaded.classes).min())
    least, most = labels.FEWEST * loaded.classes, rarest * loaded.classes
    count = max(least, min(LABELS, len(loaded.train) // 2, most))
    return Settings(labels=count // loaded.classes * loaded.classes, standardise=base.standardise)


# -------------------- the extractor


def fit_extractor(dataset: str, read: Mapping[str, int], loaded: Data) -> tuple[Path, str]:
    """Fit and store the classifier of data with classes; return where it is and how often it is right. Raises
    BadInput.
    """
    return fitting.save(fitting.fit(loaded, devices.device(None)), loaded, _fitting(dataset, read))


def _fitting(dataset: str, read: Mapping[str, int]) -> str:
    return shlex.join(
        ["alibench", "fit-extractor", dataset, *(f"--{key}={value}" for key, value in read.items())]
    )


def _without_extractor(dataset: str, read: Mapping[str, int], loaded: Data) -> str:
    """Fit the data's extractor if it is not there; say why there is none where that would take minutes."""
    if loaded.classes < 2 or classifiers.path(loaded).exists():
        return ""
    plan = fitting.schedule(loaded)
    seen = plan.steps * plan.batch  # pictures
    if devices.device(None).type == "cpu" and seen * loaded.shape[1] * loaded.shape[2] > FITTED:
        return f"to fit its feature extractor takes minutes on this CPU; do it first, by {_fitting(dataset, read)}"
    if store.is_unwritten():
        extractors.expect(loaded)
        return ""
    count, started = f"{len(loaded.train):,} train pictures and their classes", time.monotonic()
    say(f"fitting a feature extractor to {count}, for FID and KID")
    path, right = fit_extractor(dataset, read, loaded)
    say(f"it is {right}, after {time.monotonic() - started:.0f} s: {path}")
    return ""


# ------------------------------------------------------------------------------------------------ the suite


@dataclass(frozen=True)
class Made:
    """A suite for someone's pictures, with what there is to say about it."""

    found: Found
    chosen: Choice
    asked: dict[str, int]  # by --size and --channels
    train: int  # pictures
    settings: Settings
    left_out: dict[str, str]  # metrics, and why
    hints: tuple[str, ...]

    @cached_property
    def name(self) -> str:
        """The nearest name to that of the folder or the file that a suite can have."""
        name = (
            re.sub(r"[^\w .+()-]", "_", self.found.source.name).lstrip("_ .+()-")[:32].rstrip("_ .+(-")
            or "pictures"
        )
        return f"{name} (own)" if name in loading.builtin() else name

    @property
    def metrics(self) -> list[str]:
        """Those that the data allow."""
        return [metric for metric in METRICS if metric not in self.left_out]

    def _reasons(self, among: Iterable[str] = METRICS) -> Iterator[str]:
        """Yield a line for each reason that leaves out some of those metrics."""
        metrics: dict[str, list[str]] = {}
        for metric in among:
            if metric in self.left_out:
                metrics.setdefault(self.left_out[metric], []).append(metric)
        for reason, names in metrics.items():
            yield f"without {', '.join(names)}: {reason}"

    @cached_property
    def text(self) -> str:
        """The TOML file."""
        found, chosen, like, rows = (
            self.found,
            self.chosen,
            loading.read(self.chosen.suite.name)[1],
            loading.read(ROWS)[1],
        )
        command = shlex.join(
            ["alibench", "new-suite", found.name, *(f"--{key}={n}" for key, n in self.asked.items())]
        )
        batch = min(chosen.suite.recipe.batch, self.train)
        steps, about_steps = _steps(chosen, self.train, batch)
        about_data = (
            f"size: {_about_size(found, self.asked.get('size'), chosen)}",
            f"channels: {_about_channels(found, self.asked.get('channels'), chosen)}",
        )
        recipe = {"steps": steps, "batch": batch} | {
            k: v for k, v in like["recipe"].items() if k not in ("steps", "batch")
        }
        entries = {
            name: like.get("model", {}).get(name, {}) | rows.get("model", {}).get(name, {})
            for name in rows["models"]
        }
        told = ("labels", "draws", "standardise") if len(found.classes) > 1 else ()
        evaluation = {key: getattr(self.settings, key) for key in ("extractor", *told)}
        prior = f" Its prior is {chosen.suite.prior}; here it is normal, for all rows." * (
            chosen.suite.prior != "normal"
        )
        parts = [
            "# A suite for pictures of your own, made by",
            f"#   {_shown(command)}",
            _comment(ABOUT["file"]),
            "#",
            _comment("What was found:", *found.lines, *self.hints),
            "",
            f"title = {_toml(f'Own pictures: {found.source.name}')}",
            'source = "own data"',
            f"expect = {_toml(f'a first table, after {steps:,} updates')}",
            f"dataset = {_toml(found.name)}",
            "",
            _comment(
                f"Networks, code and recipe are those of suite '{chosen.suite.name}', the nearest by "
                f"size.{prior}"
            ),
            f"networks = {_toml(chosen.suite.networks)}",
            f"latent = {chosen.suite.latent} # numbers in a code",
            "",
            _comment(ABOUT["models"]),
            f"models = {_toml(rows['models'])}",
            "",
            _comment(ABOUT["metrics"], *self._reasons()),
            f"metrics = {_toml(self.metrics)}",
            "",
            _comment(ABOUT["seeds"]),
            f"seeds = {rows['seeds']}",
            *_table("data", {"size": chosen.size, "channels": chosen.channels}, *about_data),
            *_table("network", chosen.suite.network),
            *_table("recipe", recipe, about_steps),
            *_table("model", entries),
            *_table("evaluation", evaluation, *(ABOUT[key] for key in evaluation)),
        ]
        return "\n".join(parts) + "\n"

    @property
    def table(self) -> dict[str, Any]:
        """What the file holds, read anew."""
        return tomllib.loads(self.text)

    @cached_property
    def suite(self) -> Suite:
        """The suite that the file holds, checked. Raises BadInput."""
        (suite,) = loading.of_table(self.name, self.table)
        return suite

    @property
    def facts(self) -> dict[str, Any]:
        """What `--json` prints."""
        return {
            "dataset": self.found.name,
            "pictures": len(self.found),
            "sizes": [[width, height, count] for (width, height), count in sorted(self.found.sizes.items())],
            "grey": self.found.grey,
            "classes": self.found.classes,
            "splits": self.found.splits,
            "like": self.chosen.suite.name,
            "metrics": self.metrics,
            "left_out": self.left_out,
            "hints": list(self.hints),
        }

    def show(self, console: Console) -> None:
        """Say what was found and what was made of it."""
        recipe, read, models = self.suite.recipe, self.suite.data, ", ".join(self.suite.models)
        usual = loading.read(ROWS)[1]["metrics"]
        made = [
            f"{read.size}x{read.size}x{read.channels}, networks of suite '{self.chosen.suite.name}'",
            f"{models}: {self.suite.seeds} seeds each, {recipe.steps:,} updates of {recipe.batch} pictures",
            f"metrics: {', '.join(self.metrics)}",
            *self._reasons(usual),
            *self.hints,
        ]
        if self.chosen.convolutional and devices.device(None).type == "cpu":
            made.append(
                "these networks take hours on a CPU: try a share of the updates by --scale, or dense ones "
                "by --size 16"
            )
        for title, lines in ((self.found.name, self.found.lines), ("A suite for them:", made)):
            console.print("\n  ".join(map(_shown, [title, *lines])), highlight=False, soft_wrap=True)


def make(dataset: str, size: int | None = None, channels: int | None = None) -> Made:
    """Return a suite for the pictures of folder:PATH or npz:PATH, N x N by `size`, grey or in colour by
    `channels`.

    The pictures are decoded into the cache, and if they have classes a feature extractor is fitted to them,
    where that is quick. Raises BadInput for what cannot be used.
    """
    asked = {key: value for key, value in (("size", size), ("channels", channels)) if value}
    parsing.parse(asked, Options, f"data '{dataset}'")
    found = look(dataset)
    if not size and len(found.sizes) > 1 and found.sides[0] < SMALLEST:
        raise BadInput(
            f"{found.smallest} has a side of {found.sides[0]} pixels, to which all would be brought: "
            "remove it, or name a size by --size N"
        )
    chosen = choose(found, size, channels, found.sides[0])
    read = {"size": chosen.size, "channels": chosen.channels}
    options: Options = parsing.parse(read, Options, f"data '{dataset}'")
    loaded = datasets.load(found.name, options)
    found = replace(found, how=loaded.splits)  # and what else showed when they were decoded
    settings = _settings(loaded, chosen.suite.evaluation)
    without = _without_extractor(found.name, read, loaded)
    left_out = {
        metric: reason
        for metric, module in METRICS.items()
        if (reason := module.unsupported_reason(loaded, settings))
    }
    if without:
        left_out["fidelity"] = without
    if not any(REGISTRY[name].semi_supervised for name in loading.read(ROWS)[1]["models"]):
        left_out["classifier"] = "it measures models that learn the classes themselves, and no row does"
    hints = [] if size else [_small_ones(found, chosen)]
    if "fidelity" not in left_out and len(loaded.test) < (
        needed := PER_FEATURE * classifier_networks.ImageCNN.width
    ):
        hints.append(f"FID needs {needed} test pictures, here are {len(loaded.test)}: there is KID alone")
    made = Made(found, chosen, asked, len(loaded.train), settings, left_out, tuple(filter(None, hints)))
    assert made.suite.data == options
    return made


def _shown(text: str) -> str:
    """Return what users named for a comment or a terminal: in one line, without signs that steer."""
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


def _comment(*paragraphs: str) -> str:
    wrapped = (
        textwrap.wrap(_shown(text), WIDTH, break_long_words=False, break_on_hyphens=False)
        for text in paragraphs
    )
    return "\n".join(f"# {line}" for lines in wrapped for line in lines)


def _toml(value: Any) -> str:
    """Return a value as TOML, whose strings are JSON's but for one sign."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return f"{value:_}" if type(value) is int else str(value).lower()


def _table(name: str, values: Mapping[str, Any], *about: str) -> Iterator[str]:
    """Yield the lines of a TOML table and of those in it; of an empty one nothing."""
    if own := [f"{key} = {_toml(value)}" for key, value in values.items() if not isinstance(value, Mapping)]:
        yield from ("", f"[{name}]", *([_comment(*about)] if about else []), *own)
    for key, value in values.items():
        if isinstance(value, Mapping):
            yield from _table(f"{name}.{key}", value)


# ------------------------------------------------------------------------------------------------ the command


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """Declare the options of the command, but for --size and --channels."""
    sub.add_argument(
        "pictures",
        metavar="folder:PATH",
        help="a folder of pictures, or of a folder for each class; or npz:PATH",
    )
    sub.add_argument(
        "--out",
        type=outputs.place,
        metavar="FILE",
        help="default: NAME.toml in this folder, by the pictures'",
    )


def of_command(given: argparse.Namespace, console: Console) -> Made:
    """Make the suite of `alibench run folder:PATH`, and say what was found. Raises BadInput."""
    if given.data is not None:
        raise BadInput(f"'{given.suite}' names the data: leave out --data")
    made = make(given.suite, given.size, given.channels)
    made.show(console)
    return made


def command(given: argparse.Namespace, console: Console) -> Answer:
    """Write a suite for someone's pictures, and say what was found. Raises BadInput; no file is overwritten."""
    if given.out is not None:
        _check(given.out)
    outputs.check_apart(given.out or Path("suite.toml"), [given.pictures])
    made = make(given.pictures, given.size, given.channels)
    out = given.out or Path(f"{made.name}.toml")
    _check(out)
    try:
        files.replace(out, made.text)
    except OSError as error:
        raise BadInput(
            f"{out} cannot be written ({error.strerror or error}): name another file by --out FILE.toml"
        ) from None
    made.show(console)
    run = shlex.join(["alibench", "run", str(out)])
    console.print(
        f"\n{_shown(str(out))} is written. What it would do, and a run of it:\n  {run} --dry-run\n  {run}",
        highlight=False,
        soft_wrap=True,
    )
    return Answer(facts={"suite": str(out), **made.facts})


def _check(out: Path) -> None:
    """Refuse a file that is there, or that `alibench run` would not take. Raises BadInput."""
    if out.suffix != ".toml" or not NAME.fullmatch(out.stem):
        raise BadInput(f"--out {out}: a suite is a file NAME.toml; {NAMING}")
    if os.path.lexists(out):
        raise BadInput(f"{out} is there already: name another file by --out FILE.toml; nothing was touched")
    if not out.parent.is_dir():
        raise BadInput(f"--out {out}: there is no folder {out.parent}: make it, or name another place")
