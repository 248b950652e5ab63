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

from alibench.evaluation import labels
from alibench.evaluation.data import BATCH, Data, Split, as_float
from alibench.evaluation.subject import Baseline, Column, Measurement, Settings, Subject
from alibench.models.layers import Discriminator

T = TypeVar("T")
# x (B, ...) in [0, 1] -> its layers in order; the last hidden one is named, or there is the code alone
Layers = Callable[[Tensor], Mapping[str, Tensor]]
HIDDEN = "last hidden layer"
OF_D = ", features of D"  # ends the name of the row that stands on them
CODE_ALONE = "code alone"  # of a model that shows no hidden layer
HIDDEN_LAYERS = 3  # that ALI's protocol takes beside the mean code


@dataclass(frozen=True)
class Sets:
    """Features and classes of the images that the protocols look at, and the draws of labels among the first
    of them.
    """

    labelled: tuple[
        np.ndarray, np.ndarray
    ]  # every image that some draw labels: features (N, F), classes (N,)
    choosing: tuple[np.ndarray, np.ndarray]  # to choose hyper-parameters on
    scored: tuple[np.ndarray, np.ndarray]
    draws: tuple[np.ndarray, ...]  # indices into `labelled`
    chooser: np.ndarray  # the draw that hyper-parameters are chosen with; no accuracy is reported on it
    classes: int
    hidden: slice  # which features are those of the last hidden layer
    split: str  # that is scored
    settings: Settings
    code_alone: bool = False  # the features are a code, where others have hidden layers, too

    @property
    def last(self) -> str:
        """What the features of the last hidden layer are."""
        return CODE_ALONE if self.code_alone else HIDDEN

    def last_hidden(self) -> "Sets":
        """Return the same with the features of the last hidden layer alone (as views)."""
        labelled, choosing, scored = (
            (x[:, self.hidden], y) for x, y in (self.labelled, self.choosing, self.scored)
        )
        return replace(self, labelled=labelled, choosing=choosing, scored=scored, hidden=slice(None))

    @property
    def count(self) -> int:
        """Images that a draw labels."""
        return len(self.chooser)

    def over_draws(self, score: Callable[[np.ndarray], T]) -> list[T]:
        """Return score(draw) for every draw of labels, in parallel threads, as many as torch has."""
        with one_core_a_thread() as cores, ThreadPoolExecutor(cores) as threads:
            return list(threads.map(score, self.draws))


@contextmanager
def one_core_a_thread() -> Iterator[int]:
    """Let libraries beneath use one core in each thread, and give how many there are to use: small systems
    gain nothing.
    """
    cores = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with threadpool_limits(1):
            yield cores
    finally:
        torch.set_num_threads(cores)


def _features(layers: Layers, x: Tensor, device: torch.device) -> tuple[np.ndarray, slice, bool]:
    """Return all layers of uint8 images concatenated (N, F), where the last hidden one lies, and whether they
    are a code.
    """
    out, hidden, alone = np.empty((0, 0), dtype=np.float32), slice(None), False
    with torch.no_grad():
        for start in range(0, len(x), BATCH):
            found = {
                name: part.cpu().numpy()
                for name, part in layers(as_float(x[start : start + BATCH].to(device))).items()
            }
            if not start:
                widths = np.cumsum([0, *(part.shape[1] for part in found.values())])
                out = np.empty((len(x), int(widths[-1])), dtype=np.float32)
                alone = list(found) == [CODE_ALONE]
                place = 0 if alone else list(found).index(HIDDEN)
                hidden = slice(int(widths[place]), int(widths[place + 1]))
            np.concatenate(list(found.values()), axis=1, out=out[start : start + BATCH])
    return out, hidden, alone


def sets(
    layers: Layers, data: Data, settings: Settings, split: Literal["validation", "test"], device: torch.device
) -> Sets:
    """Run a source of features over the images to choose on, those to score, and those that some draw labels."""
    pools = labels.pools(data, settings)
    y = pools.labelled.y.numpy()
    whole = settings.labels == "all"  # of which there is one draw
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

    Of an encoder that shows no hidden layer the code, as CODE_ALONE.
    """

    def layers(x: Tensor) -> dict[str, Tensor]:
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
        found = [pooled(h) for h in hidden(x).values()]
        return {**{f"hidden {i}": h for i, h in enumerate(found[:-1])}, HIDDEN: found[-1]}

    return layers


def pixel_layers(x: Tensor) -> dict[str, Tensor]:
    """Return raw pixels."""
    return {HIDDEN: x.flatten(1)}


def refuses(data: Data, settings: Settings) -> str:
    """Classifiers need images with labels; on the plane two coordinates say it all."""
    if not data.images:
        return f"data set '{data.name}' has points, not images"
    return labels.refuses(data, settings)


def useless(x: np.ndarray) -> str:
    """Say why features (N, F) cannot be classified, if they cannot."""
    low, high = x.min(0), x.max(0)  # features may take gigabytes: nothing as large is made of them
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return "features are not finite"
    return "" if (low < high).any() else "all features are constant: they tell no image from another"


def scaler(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return mean and deviation (F,) of labelled images; constant features keep a deviation of one."""
    fitted = StandardScaler().fit(x)
    return fitted.mean_.astype(np.float32), fitted.scale_.astype(np.float32)


def measurements(
    metric: str,
    protocol: str,
    values: list[float],
    sets: Sets,
    reason: str = "",
) -> Iterator[Measurement]:
    """Yield a row for each draw."""
    for number, value in enumerate(values):
        yield Measurement(
            metric,
            value,
            "%",
            len(sets.scored[1]),
            sets.split,
            protocol=protocol,
            labels=sets.count,
            draw=number,
            reason=reason,
        )


def _refused(columns: Iterable[Column], reason: str) -> list[Measurement]:
    return [Measurement(column.metric, None, status="not applicable", reason=reason) for column in columns]


def measured(
    subject: Subject, score: Callable[[Sets], list[Measurement]], columns: Iterable[Column]
) -> list[Measurement]:
    """Return a protocol's rows on the encoder's features, and beside them on those of a D that sees images
    alone.
    """
    model = subject.model

    def source(layers: Layers) -> Sets:
        return sets(layers, subject.data, subject.settings, subject.split, subject.device)

    if model.conditional:
        return _refused(columns, "its encoder is told the class")
    if model.inference == "none":
        rows = _refused(columns, "it has no encoder")
    else:
        rows = score(subject.once("encoder", lambda: source(encoder_layers(model.features))))
    discriminator = getattr(model, "discriminator", None)
    if isinstance(discriminator, Discriminator) and discriminator.sees == ("x",):
        found = subject.once("discriminator", lambda: source(discriminator_layers(discriminator.hidden)))
        rows += [replace(row, reference=f"{model.title}{OF_D}") for row in score(found)]
    return rows


def referred(baseline: Baseline, score: Callable[[Sets], list[Measurement]]) -> list[Measurement]:
    """Return a protocol's rows on raw pixels and on untrained encoders."""

    def source(layers: Layers) -> Sets:
        return sets(layers, baseline.data, baseline.settings, baseline.split, baseline.device)

    rows = [
        replace(row, reference="raw pixels")
        for row in score(baseline.once("pixels", lambda: source(pixel_layers)))
    ]
    for seed in baseline.seeds:
        layers = encoder_layers(baseline.untrained(seed).to(baseline.device).eval().features)
        found = baseline.once(f"untrained {seed}", partial(source, layers))
        rows += [replace(row, reference="untrained encoder", seed=seed) for row in score(found)]
    return rows
