"""A suite for the user's pictures: look at a folder or an .npz, and write the TOML file that compares models.

Networks, code and recipe are those of a built-in suite, the first of NEAREST whose networks fit the pictures;
the rows are those of suite ROWS. suite.toml.jinja has the file's text.
"""

import os
import re
import shlex
import tomllib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from statistics import median_low
from typing import Any, NamedTuple

import numpy as np
import torch

from alibench.benchmarks.config import devices, loading, parsing, toml
from alibench.benchmarks.config.parsing import NAMING
from alibench.benchmarks.config.schema import Suite
from alibench.benchmarks.data import datasets, images
from alibench.benchmarks.data.sources import SPLITS, Options, Source
from alibench.evaluation import files, labels, store
from alibench.evaluation.data import Data, Split
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features import classifiers, extractors, fitting
from alibench.evaluation.files import NAME
from alibench.evaluation.messages import listed, say
from alibench.evaluation.metrics import METRICS
from alibench.evaluation.settings import Settings
from alibench.models import REGISTRY

ROWS = "digits"  # the suite whose rows are compared: its GAN gets ALI's compute
# Suites by the size of their images, and for how many epochs of the user's they train. The papers took 100
# (SVHN) to 125 (ImageNet) and more for convolutional networks, BiGAN 400 for dense ones. The last one's
# networks take any size.
NEAREST = {"celeba": 100, "cifar10": 100, "mnist_bigan": 400, "digits": 400}
UPDATES = 2_000, 20_000  # at least, at most
FEWEST = 20, 6, 6  # pictures to train, validate and test; coverage looks at five neighbours of each
SMALLEST = 8  # pixels a side that pictures of several sizes are brought to
LABELS = 100  # at most, unless the classes are so many that this is too few
FITTED = 1e8  # pixels that an extractor may see to be fitted at once on a CPU: a minute on two free cores
SHOWN = 12  # classes in a message


@dataclass(frozen=True)
class Pictures:
    """The user's pictures, by their headers alone."""

    dataset: str  # KIND:ABSOLUTE PATH
    title: str
    sizes: Counter[tuple[int, int]]  # width and height
    smallest: str  # the picture with the shortest side
    grey: bool  # all of them

    def __len__(self) -> int:
        return self.sizes.total()

    @cached_property
    def sides(self) -> list[int]:
        """The shorter side of each picture, in order."""
        return sorted(min(size) for size in self.sizes.elements())

    @property
    def square(self) -> bool:
        """Whether all are."""
        return all(width == height for width, height in self.sizes)


def is_data(suite: str) -> bool:
    """Return whether a suite's name on the command line is folder:PATH or npz:PATH."""
    kind, colon, _ = suite.partition(":")
    return bool(colon) and kind in datasets.OPENED


def look(name: str) -> Pictures:
    """Return what folder:PATH or npz:PATH holds. Raises BadInput for unreadable pictures."""
    source = _source(name)
    parts = [part.images for part in source.read(source.files(), Options().seed).parts]
    headers = images.headers(parts)
    sides = [min(header.width, header.height) for header in headers]
    smallest = next(islice(chain(*parts), sides.index(min(sides)), None))
    return Pictures(
        f"{name.partition(':')[0]}:{source.where}",
        source.name,
        sizes=Counter((header.width, header.height) for header in headers),
        smallest=smallest if isinstance(smallest, str) else source.where,
        grey=all(header.grey for header in headers),
    )


def _source(name: str) -> Source:
    """Return the source of folder:PATH or npz:PATH. Raises BadInput for another name."""
    source = datasets.source_of(name) if is_data(name) else None
    if source is None:
        raise BadInput(f"'{name}' is not folder:PATH or npz:PATH: name your pictures so")
    if source.where.encode(errors="replace").decode() != source.where:
        raise BadInput(f"{source.where} is not valid UTF-8, so that no suite can name it: rename it")
    return source


class Choice(NamedTuple):
    """The built-in suite whose networks, code and recipe are taken, and the images that they take."""

    suite: Suite
    size: int
    channels: int


def steps(like: str, train: int, batch: int) -> int:
    """Return the number of updates of a suite's networks for so many train pictures."""
    return min(max(NEAREST[like] * (train // batch), UPDATES[0]), UPDATES[1])


def choose(pictures: Pictures, size: int | None, channels: int | None, side: int) -> Choice:
    """Return the first suite of NEAREST whose networks take these pictures.

    Without `size` no shorter side of `side` is enlarged; without `channels` no colours are lost.
    """
    for name in NEAREST:
        suite: Suite = replace(parsing.parse(loading.read(name)[1], Suite, f"suite '{name}'"), name=name)
        # dense networks have no shape of their own: they take what is there
        depth, high, _ = suite.family().shape or (channels or (1 if pictures.grey else 3), size or side, 0)
        fits = high == size if size else high <= side
        if fits and (depth == channels if channels else depth == 3 or pictures.grey):
            return Choice(suite, high, depth)
    raise AssertionError("the last suite's networks take any size")


def _about_small_ones(pictures: Pictures, choice: Choice) -> str:
    """Return which pictures keep the others from a larger size, if less than half of them do."""
    larger = choose(pictures, None, None, median_low(pictures.sides))
    if larger.size <= choice.size:
        return ""
    few = sum(side < larger.size for side in pictures.sides)
    return (
        f"{few:,} of {len(pictures):,} pictures have a side of less than {larger.size} pixels, the smallest "
        f"is {pictures.smallest}: without them, or by --size {larger.size}, networks would be those of suite "
        f"'{larger.suite.name}'"
    )


def _settings(data: Data, base: Settings) -> Settings:
    """Return the evaluation's settings: LABELS labels or half of train, or the nearest allowed number."""
    if data.classes < 2:
        return Settings()
    # the draws are class-balanced, so that the rarest class bounds them
    rarest = int(np.bincount(data.train.y.numpy(), minlength=data.classes).min())
    least, most = labels.FEWEST * data.classes, rarest * data.classes
    count = max(least, min(LABELS, len(data.train) // 2, most))
    return Settings(labels=count // data.classes * data.classes, standardise=base.standardise)


def fit_extractor(dataset: str, options: Mapping[str, int], data: Data) -> tuple[Path, str]:
    """Fit the data's classifier and store it; return its file and how often it is right. Raises BadInput."""
    network = fitting.fit(data, devices.device(None))
    return fitting.save(network, data, _command("fit-extractor", dataset, options))


def _command(name: str, dataset: str, options: Mapping[str, int]) -> str:
    return shlex.join(["alibench", name, dataset, *(f"--{key}={value}" for key, value in options.items())])


def _without_extractor(dataset: str, options: Mapping[str, int], data: Data) -> str:
    """Fit the data's extractor if there is none; return why not, where that would take minutes."""
    if data.classes < 2 or classifiers.path(data).exists():
        return ""
    # minutes on a CPU: the user should ask for it
    schedule = fitting.schedule(data)
    pixels = schedule.steps * schedule.batch * data.shape[1] * data.shape[2]
    if devices.device(None).type == "cpu" and pixels > FITTED:
        command = _command("fit-extractor", dataset, options)
        return f"to fit its feature extractor takes minutes on this CPU; do it first, by {command}"
    # a dry run takes it as fitted
    if store.is_unwritten():
        extractors.expect(data)
        return ""

    say(f"fitting a feature extractor to {len(data.train):,} train pictures, for FID and KID")
    path, skill = fit_extractor(dataset, options, data)
    say(f"it is {skill}: {path}")
    return ""


@dataclass(frozen=True)
class PictureSuite:
    """A suite for the user's pictures, with the reasons for what is in it."""

    pictures: Pictures
    choice: Choice
    asked: dict[str, int]  # by --size and --channels
    data: Data
    settings: Settings
    left_out: dict[str, str]  # metrics, and why
    hints: list[str]

    @cached_property
    def name(self) -> str:
        """The nearest name to that of the folder or the file that a suite can have."""
        # signs that no suite's name has, or begins with
        name = re.sub(r"[^\w .+()-]", "_", self.pictures.title)
        name = name.lstrip("_ .+()-")[:32].rstrip("_ .+(-") or "pictures"
        return f"{name} (own)" if name in loading.builtin() else name

    @property
    def metrics(self) -> list[str]:
        """The metrics that the data allow."""
        return [metric for metric in METRICS if metric not in self.left_out]

    @property
    def classes(self) -> dict[str, int]:
        """The number of pictures of each class; empty without classes."""
        names = self.data.class_names or [str(c) for c in range(self.data.classes)]
        y = torch.cat([part.y for part in self._parts])
        return {name: int((y == c).sum()) for c, name in enumerate(names)}

    @property
    def _parts(self) -> tuple[Split, Split, Split]:
        return self.data.train, self.data.validation, self.data.test

    @property
    def lines(self) -> list[str]:
        """A description of the pictures, in three lines."""
        sizes, classes = self.pictures.sizes, self.classes
        low, high = (f"{width}x{height}" for width, height in (f(sizes, key=min) for f in (min, max)))
        counts = [f"{toml.printable(name)} ({count:,})" for name, count in classes.items()]
        return [
            f"{len(self.pictures):,} pictures, {'grey' if self.pictures.grey else 'in colour'}, "
            + (f"{low} to {high} pixels, {len(sizes)} sizes" if len(sizes) > 1 else f"{low} pixels"),
            f"{len(classes)} classes: {listed(counts, SHOWN)}" if counts else "no classes",
            f"{_counts(self._parts)} to train, validate and test: {self.data.splits}",
        ]

    def reasons(self, among: Iterable[str] = METRICS) -> list[str]:
        """Return a line for each reason that leaves out some of those metrics."""
        metrics: dict[str, list[str]] = {}
        for metric in among:
            if metric in self.left_out:
                metrics.setdefault(self.left_out[metric], []).append(metric)
        return [f"without {', '.join(names)}: {reason}" for reason, names in metrics.items()]

    @cached_property
    def text(self) -> str:
        """The TOML file."""
        like, rows = loading.read(self.choice.suite.name)[1], loading.read(ROWS)[1]
        of_like, of_rows = like.get("model", {}), rows.get("model", {})
        keys = ("extractor", "labels", "draws", "standardise")[: 4 if self.data.classes > 1 else 1]

        # the recipe of that suite, for as many epochs as the bounds allow
        train = len(self.data.train)
        batch = min(self.choice.suite.recipe.batch, train)
        recipe = {"steps": steps(self.choice.suite.name, train, batch), "batch": batch}
        return toml.render(
            "suite.toml.jinja",
            made=self,
            command=_command("new-suite", self.pictures.dataset, self.asked),
            rows=rows,
            enlarged=sum(side < self.asked.get("size", 0) for side in self.pictures.sides),
            epochs=NEAREST[self.choice.suite.name],
            bounds=UPDATES,
            recipe=recipe | {key: value for key, value in like["recipe"].items() if key not in recipe},
            entries={name: of_like.get(name, {}) | of_rows.get(name, {}) for name in rows["models"]},
            evaluation={key: getattr(self.settings, key) for key in keys},
        )

    @property
    def table(self) -> dict[str, Any]:
        """The contents of the file, a new copy each time."""
        return tomllib.loads(self.text)

    @cached_property
    def suite(self) -> Suite:
        """The suite that the file holds, checked. Raises BadInput."""
        (suite,) = loading.of_table(self.name, self.table)
        return suite

    @property
    def facts(self) -> dict[str, Any]:
        """The facts that `--json` prints."""
        pictures = self.pictures
        return {
            "dataset": pictures.dataset,
            "pictures": len(pictures),
            "sizes": [[width, height, count] for (width, height), count in sorted(pictures.sizes.items())],
            "grey": pictures.grey,
            "classes": self.classes,
            "splits": {split: len(part) for split, part in zip(SPLITS, self._parts, strict=True)},
            "like": self.choice.suite.name,
            "metrics": self.metrics,
            "left_out": self.left_out,
            "hints": self.hints,
        }

    @property
    def summary(self) -> str:
        """A description of the pictures and of the suite, for a terminal."""
        recipe, options, models = self.suite.recipe, self.suite.data, ", ".join(self.suite.models)
        lines = [
            f"{options.size}x{options.size}x{options.channels}, networks of suite '{self.choice.suite.name}'",
            f"{models}: {self.suite.seeds} seeds each, {recipe.steps:,} updates of {recipe.batch} pictures",
            f"metrics: {', '.join(self.metrics)}",
            *self.reasons(loading.read(ROWS)[1]["metrics"]),
            *self.hints,
        ]
        is_dense = all(row.op == "dense" for row in self.choice.suite.family().encoder)
        if not is_dense and devices.device(None).type == "cpu":
            lines.append(
                "these networks take hours on a CPU: try a share of the updates by --scale, or dense ones "
                "by --size 16"
            )
        blocks = [self.pictures.dataset, *self.lines], ["A suite for them:", *lines]
        return "\n".join("\n  ".join(map(toml.printable, block)) for block in blocks)


def make(dataset: str, size: int | None = None, channels: int | None = None) -> PictureSuite:
    """Return a suite for the pictures of folder:PATH or npz:PATH, with images of that size and channels.

    The pictures are decoded into the cache, and if they have classes a feature extractor is fitted to them,
    where that is quick. Raises BadInput for what cannot be used.
    """
    # mistakes of the command line first
    asked = {key: value for key, value in (("size", size), ("channels", channels)) if value}
    parsing.parse(asked, Options, f"data '{dataset}'")
    pictures = look(dataset)
    if not size and len(pictures.sizes) > 1 and pictures.sides[0] < SMALLEST:
        raise BadInput(
            f"{pictures.smallest} has a side of {pictures.sides[0]} pixels, to which all would be brought: "
            "remove it, or name a size by --size N"
        )

    # decode them for the networks that fit
    choice = choose(pictures, size, channels, pictures.sides[0])
    options = {"size": choice.size, "channels": choice.channels}
    data = datasets.load(pictures.dataset, parsing.parse(options, Options, f"data '{dataset}'"))
    parts = data.train, data.validation, data.test
    if any(len(part) < least for part, least in zip(parts, FEWEST, strict=True)):
        raise BadInput(
            f"{dataset}: {_counts(parts)} pictures to train, validate and test are too few, "
            f"{' / '.join(map(str, FEWEST))} are needed: add some, 60 in all where they are not in folders "
            "train, validation and test"
        )

    # metrics that the data do not allow
    settings = _settings(data, choice.suite.evaluation)
    without_extractor = _without_extractor(pictures.dataset, options, data)
    reasons = {metric: module.unsupported_reason(data, settings) for metric, module in METRICS.items()}
    left_out = {metric: reason for metric, reason in reasons.items() if reason}
    if without_extractor:
        left_out |= dict.fromkeys(("fidelity", "matching"), without_extractor)
    if not any(REGISTRY[name].semi_supervised for name in loading.read(ROWS)[1]["models"]):
        left_out["classifier"] = "it measures models that learn the classes themselves, and no row does"

    # what the user could do about it
    hints = [hint] if not size and (hint := _about_small_ones(pictures, choice)) else []
    return PictureSuite(pictures, choice, asked, data, settings, left_out, hints)


def _counts(parts: Iterable[Split]) -> str:
    return " / ".join(f"{len(part):,}" for part in parts)


def check_path(path: Path) -> None:
    """Refuse a file that is there, or that `alibench run` would not take. Raises BadInput."""
    if path.suffix != ".toml" or not NAME.fullmatch(path.stem) or not path.parent.is_dir():
        raise BadInput(f"--out {path}: a suite is a file NAME.toml, in a folder that is there; {NAMING}")
    if os.path.lexists(path):
        raise BadInput(f"{path} is there already: name another file by --out FILE.toml; nothing was touched")


def write(made: PictureSuite, path: Path) -> None:
    """Write the suite's file, which must not be there. Raises BadInput."""
    check_path(path)
    try:
        files.replace(path, made.text)
    except OSError as error:
        reason = error.strerror or error
        raise BadInput(f"{path} cannot be written ({reason}): name another file by --out FILE.toml") from None
