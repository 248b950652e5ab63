"""Features of labelled images for the classifiers that stand on them: SVM, nearest neighbours, linear probe.

Each source of features (a model's encoder, a plain GAN's discriminator, raw pixels, an untrained encoder) is
run once over the images that the protocols look at, and all of them get the same draws of labels, so
differences are paired.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, TypeVar

import numpy as np
import torch
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits
from torch import Tensor
from torch.nn.functional import adaptive_max_pool2d

from alibench.evaluation import labels, protocols
from alibench.evaluation.data import BATCH, Data, Split, as_float
from alibench.evaluation.measurement import Column, Measurement, not_applicable
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject
from alibench.models.discriminator import Discriminator

T = TypeVar("T")
# x (B, ...) in [0, 1] -> its layers in order; the last hidden one is named, or there is the code alone
Layers = Callable[[Tensor], Mapping[str, Tensor]]
HIDDEN, CODE_ALONE = protocols.LAST_HIDDEN, protocols.CODE_ALONE  # names of layers, too
OF_D = ", features of D"  # ends the name of the row that stands on them
HIDDEN_LAYERS = 3  # that ALI's protocol takes with the mean code


@dataclass(frozen=True)
class Sets:
    """Features and classes of the images that the protocols look at, and the draws of labels."""

    # every image that some draw labels: features (N, F), classes (N,)
    labelled: tuple[np.ndarray, np.ndarray]
    choosing: tuple[np.ndarray, np.ndarray]  # to choose hyper-parameters on
    scored: tuple[np.ndarray, np.ndarray]
    draws: tuple[np.ndarray, ...]  # indices into `labelled`
    # The draw that hyper-parameters are chosen with; no accuracy is reported on it.
    chooser: np.ndarray
    classes: int
    hidden: slice  # the features of the last hidden layer
    split: str  # that is scored
    settings: Settings
    # The features are a code, where others have hidden layers, too.
    code_alone: bool = False

    @property
    def last(self) -> str:
        """The name of the features in place of the last hidden layer's."""
        return CODE_ALONE if self.code_alone else HIDDEN

    def last_hidden(self) -> "Sets":
        """Return the same with the features of the last hidden layer alone (as views)."""
        parts = (self.labelled, self.choosing, self.scored)
        labelled, choosing, scored = ((x[:, self.hidden], y) for x, y in parts)
        return replace(self, labelled=labelled, choosing=choosing, scored=scored, hidden=slice(None))

    @property
    def count(self) -> int:
        """The number of images that a draw labels."""
        return len(self.chooser)

    def over_draws(self, score: Callable[[np.ndarray], T]) -> list[T]:
        """Return score(draw) for every draw of labels, in parallel threads, as many as torch has."""
        with one_core_a_thread() as cores, ThreadPoolExecutor(cores) as threads:
            return list(threads.map(score, self.draws))


@contextmanager
def one_core_a_thread() -> Iterator[int]:
    """Let libraries use one core in each thread meanwhile, and yield the number of cores.

    Small systems of equations gain nothing from several.
    """
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield cores
    finally:
        torch.set_num_threads(cores)


def _features(layers: Layers, x: Tensor, device: torch.device) -> tuple[np.ndarray, slice, bool]:
    """Return all layers of uint8 images (N, F), the last hidden one's place, and whether it is the code."""
    out, hidden, alone = np.empty((0, 0), dtype=np.float32), slice(None), False

    for start in range(0, len(x), BATCH):
        with torch.no_grad():
            outputs = layers(as_float(x[start : start + BATCH].to(device)))
        arrays = {name: output.cpu().numpy() for name, output in outputs.items()}

        # The first batch shows the layers' widths.
        if not start:
            widths = np.cumsum([0, *(array.shape[1] for array in arrays.values())])
            out = np.empty((len(x), int(widths[-1])), dtype=np.float32)
            alone = list(arrays) == [CODE_ALONE]
            place = 0 if alone else list(arrays).index(HIDDEN)
            hidden = slice(int(widths[place]), int(widths[place + 1]))
        np.concatenate(list(arrays.values()), axis=1, out=out[start : start + BATCH])
    return out, hidden, alone


def sets(
    layers: Layers, data: Data, settings: Settings, split: Literal["validation", "test"], device: torch.device
) -> Sets:
    """Run a source of features over the images to choose on, to score, and of any draw of labels."""
    pools = labels.pools(data, settings)
    y = pools.labelled.y.numpy()

    # The last draw is to choose with; of all labels there is one draw.
    whole = settings.labels == "all"
    draws = [labels.draw(y, settings.labels, number) for number in range(1 if whole else settings.draws + 1)]
    known = np.unique(np.concatenate(draws))
    draws = [np.searchsorted(known, draw) for draw in draws]
    index = torch.from_numpy(known)

    scored = data.test if split == "test" else pools.choosing
    known_images = Split(pools.labelled.x[index], pools.labelled.y[index])
    (x, hidden, alone), (x_choosing, _, _), (x_scored, _, _) = (
        _features(layers, part.x, device) for part in (known_images, pools.choosing, scored)
    )
    return Sets(
        (x, known_images.y.numpy()),
        (x_choosing, pools.choosing.y.numpy()),
        (x_scored, scored.y.numpy()),
        tuple(draws if whole else draws[:-1]),
        draws[-1],
        data.classes,
        hidden,
        split,
        settings,
        alone,
    )


def encoder_layers(features: Callable[[Tensor], Mapping[str, Tensor]]) -> Layers:
    """Return ALI's choice of layers: the encoder's last three hidden ones and the mean code (section 4.3).

    An encoder that shows no hidden layer has its code, as CODE_ALONE.
    """

    def layers(x: Tensor) -> dict[str, Tensor]:
        # by place: a user's layers may have any names
        *hidden, code = features(x).values()
        named = {f"hidden {i}": h for i, h in enumerate(hidden[-HIDDEN_LAYERS:-1])}
        return {**named, HIDDEN: hidden[-1], "code": code} if hidden else {CODE_ALONE: code}

    return layers


def discriminator_layers(hidden: Callable[[Tensor], Mapping[str, Tensor]]) -> Layers:
    """Return DCGAN's (Radford et al. 2016, section 5.1): all layers of D, maps max-pooled to 4x4,
    concatenated.
    """

    def pooled(h: Tensor) -> Tensor:
        return (adaptive_max_pool2d(h, 4) if h.dim() == 4 and min(h.shape[2:]) > 4 else h).flatten(1)

    def layers(x: Tensor) -> dict[str, Tensor]:
        *below, last = [pooled(h) for h in hidden(x).values()]
        return {**{f"hidden {i}": h for i, h in enumerate(below)}, HIDDEN: last}

    return layers


def pixel_layers(x: Tensor) -> dict[str, Tensor]:
    """Return raw pixels."""
    return {HIDDEN: x.flatten(1)}


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Classifiers need images with labels; on the plane two coordinates say it all."""
    if not data.images:
        return f"dataset '{data.name}' has points, not images"
    return labels.unsupported_reason(data, settings)


def useless(x: np.ndarray) -> str:
    """Say why features (N, F) cannot be classified, if so."""
    # Features may take gigabytes: nothing as large is made of them.
    low, high = x.min(0), x.max(0)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return "features are not finite"
    return "" if (low < high).any() else "all features are constant: they tell no image from another"


def scaler(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation (F,) of labelled images; constant features keep a deviation of one."""
    fitted = StandardScaler().fit(x)
    return fitted.mean_.astype(np.float32), fitted.scale_.astype(np.float32)


def measurements(
    metric: str, protocol: str, values: list[float], sets: Sets, reason: str = ""
) -> list[Measurement]:
    """Return a row for each draw."""
    n, split = len(sets.scored[1]), sets.split
    row = partial(Measurement, metric, protocol=protocol, labels=sets.count, reason=reason)
    return [row(value, "%", n, split, draw=number) for number, value in enumerate(values)]


def measured(
    subject: Subject, score: Callable[[Sets], list[Measurement]], columns: Iterable[Column]
) -> list[Measurement]:
    """Return a protocol's rows on the encoder's features, then on a D's that sees images alone."""
    model = subject.model

    def source(layers: Layers) -> Sets:
        return sets(layers, subject.data, subject.settings, subject.split, subject.device)

    if model.conditional:
        return not_applicable(columns, "its encoder is told the class")
    if model.inference == "none":
        rows = not_applicable(columns, "it has no encoder")
    else:
        rows = score(subject.once("encoder", lambda: source(encoder_layers(model.features))))

    # A D of pairs has no features of x alone.
    discriminator = getattr(model, "discriminator", None)
    if isinstance(discriminator, Discriminator) and discriminator.sees == ("x",):
        of_d = subject.once("discriminator", lambda: source(discriminator_layers(discriminator.hidden)))
        rows += [replace(row, reference=f"{model.title}{OF_D}") for row in score(of_d)]
    return rows


def referred(source: ReferenceInput, score: Callable[[Sets], list[Measurement]]) -> list[Measurement]:
    """Return a protocol's rows on raw pixels and on untrained encoders."""

    def features(layers: Layers) -> Sets:
        return sets(layers, source.data, source.settings, source.split, source.device)

    pixels = source.once("pixels", lambda: features(pixel_layers))
    rows = [replace(row, reference="raw pixels") for row in score(pixels)]

    for seed in source.seeds:
        layers = encoder_layers(source.untrained(seed).to(source.device).eval().features)
        untrained = source.once(f"untrained {seed}", partial(features, layers))
        rows += [replace(row, reference="untrained encoder", seed=seed) for row in score(untrained)]
    return rows
