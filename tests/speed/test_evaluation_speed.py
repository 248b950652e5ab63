"""How long evaluation takes, and how many times longer a plain script does: `nox -s speed`.

Both sides run in turn in one process, so that what is reported is a ratio with its spread. Nothing here
asserts a time.
"""

import resource
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
import torch_fidelity
from sklearn.model_selection import GridSearchCV
from sklearn.svm import LinearSVC
from torch import Tensor, nn
from torch.utils.data import Dataset
from torch_fidelity.registry import FEATURE_EXTRACTORS_REGISTRY

from alibench import evaluate
from alibench.benchmarks.data import datasets
from alibench.evaluation import labels
from alibench.evaluation.data import Data, Split, as_float, as_uint8
from alibench.evaluation.features import extractor as features_extractor
from alibench.evaluation.features import extractors
from alibench.evaluation.metrics import METRICS, svm
from alibench.evaluation.representation import Sets
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import Subject
from alibench.models.base import Model
from tests.conftest import build
from tests.speed import sides
from tests.speed.conftest import Speeds

pytestmark = [pytest.mark.speed, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

CLASSES, FEATURES = 10, 5376  # of SVHN's network: 4x4x256 + 512 + 512 + 256


def compare(benchmark: Any, ours: Callable[[], object], plain: Callable[[], object], rounds: int) -> None:
    """Time both in turn; the ratio's median and range stand in the benchmark's extra information."""
    seconds: list[float] = []

    def timed() -> None:
        start = time.perf_counter()
        plain()
        seconds.append(time.perf_counter() - start)

    benchmark.pedantic(ours, setup=timed, rounds=rounds)
    ratios = np.array(seconds) / np.array(benchmark.stats.stats.data)
    report(
        benchmark,
        plain_s=np.median(seconds),
        ratio=np.median(ratios),
        ratio_min=ratios.min(),
        ratio_max=ratios.max(),
    )


def report(benchmark: Any, **figures: float) -> None:
    """Keep figures with the benchmark, and print them beside pytest's own."""
    benchmark.extra_info.update({name: round(float(value), 2) for name, value in figures.items()})
    benchmark.extra_info["threads"] = torch.get_num_threads()
    sys.stderr.write(f"\n{benchmark.name}: {benchmark.stats.stats.median:.1f} s; {benchmark.extra_info}\n")


def features(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rectified random features (N, FEATURES) of classes y that overlap, and the classes."""
    rng = np.random.default_rng(seed)
    to = np.random.default_rng(0).standard_normal((64, FEATURES), dtype=np.float32) / 8
    means = 0.3 * np.random.default_rng(1).standard_normal((CLASSES, 64), dtype=np.float32)
    x = np.empty((len(y), FEATURES), np.float32)
    for start in range(0, len(y), 1000):
        part = y[start : start + 1000]
        np.maximum(
            (means[part] + rng.standard_normal((len(part), 64), dtype=np.float32)) @ to,
            0,
            out=x[start : start + 1000],
        )
    return x, y


def protocol(pool: int, scored: int, draws: int) -> Sets:
    """Return sets of features for ALI's protocol with 1,000 labels: of the pool only the images that some
    draw labels.
    """
    y = np.arange(pool) % CLASSES
    chosen = [labels.draw(y, 1000, number) for number in range(draws + 1)]
    known = np.unique(np.concatenate(chosen))
    chosen = [np.searchsorted(known, draw) for draw in chosen]
    labelled, choosing, test = (
        features(y[known], 2),
        features(y[: scored * 10_000 // 26_032], 3),
        features(y[:scored], 4),
    )
    settings = Settings(labels=1000, draws=draws)
    return Sets(
        labelled, choosing, test, tuple(chosen[:-1]), chosen[-1], CLASSES, slice(None), "test", settings
    )


def test_alis_svm_protocol_in_full(benchmark: Any) -> None:
    sets = protocol(63_257, 26_032, 100)
    rows = benchmark.pedantic(svm.score, (sets,), rounds=1)
    accuracy = np.mean([row.value for row in rows if row.metric == "svm_accuracy"])
    missed = sum("not converged" in row.reason for row in rows)
    peak = (
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    )  # of the whole process: libraries and features too
    report(benchmark, accuracy=accuracy, rows_not_converged=missed, peak_gib=peak)


def test_alis_svm_protocol_against_a_plain_script(benchmark: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    # a fifth of the values of C and 2 draws: the plain script would take hours for all
    monkeypatch.setattr(svm, "GRID", svm.GRID[::5])
    monkeypatch.setattr(svm, "COARSE_GRID", svm.COARSE_GRID[::4])
    sets = protocol(10_000, 5_000, 2)

    def plain() -> None:
        x, y = sets.labelled
        machines = [LinearSVC(C=c).fit(x[sets.chooser], y[sets.chooser]) for c in svm.GRID]
        best = machines[int(np.argmax([machine.score(*sets.choosing) for machine in machines]))]
        for draw in sets.draws:
            best.fit(x[draw], y[draw]).score(*sets.scored)
            folds = np.array_split(np.random.RandomState(0).permutation(draw), 5)
            accuracies = []
            for c in svm.COARSE_GRID:
                rest = [np.concatenate([fold for j, fold in enumerate(folds) if j != i]) for i in range(5)]
                fits = [
                    LinearSVC(C=c).fit(x[part], y[part]).score(x[fold], y[fold])
                    for part, fold in zip(rest, folds, strict=True)
                ]
                accuracies.append(np.mean(fits))
            LinearSVC(C=svm.COARSE_GRID[int(np.argmax(accuracies))]).fit(x[draw], y[draw]).score(*sets.scored)

    compare(benchmark, lambda: svm.score(sets), plain, rounds=1)


class Images(Dataset[Tensor]):
    """Images as torch-fidelity takes them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def large(digits: Data) -> Data:
    """Return digits with 10,000 held-out images, in each split: those there are, shifted by up to a pixel and
    with noise.
    """

    def more(split: Split, seed: int) -> Split:
        rng = generator(seed, "large")
        index = torch.randint(len(split), (10_000,), generator=rng)
        x = split.x[index].float() + 8 * torch.randn(10_000, 1, 8, 8, generator=rng)
        return Split(x.round().clamp(0, 255).to(torch.uint8), split.y[index])

    splits = {
        name: more(split, i)
        for i, (name, split) in enumerate((("validation", digits.validation), ("test", digits.test)))
    }
    return Data("digits", digits.train, classes=10, extractor="digits-cnn", **splits)


def plain_evaluation(model: Model, own: Data, settings: Settings, names: Sequence[str]) -> None:
    """Compute each measure by itself: samples drawn, images passed and codes made for each of them."""
    n = len(own.test)
    half = n // 2
    extractor = extractors.get(own, settings)

    class Registered(torch_fidelity.FeatureExtractorBase):
        get_provided_features_list = staticmethod(lambda: ("features", "logits"))
        get_default_feature_layer_for_metric = staticmethod(
            lambda metric: "logits" if metric == "isc" else "features"
        )
        can_be_compiled = staticmethod(lambda: False)
        get_dummy_input_for_compile = staticmethod(lambda: None)

        def __init__(self, name: str, features_list: list[str], **options: object) -> None:
            super().__init__(name, features_list)

        def forward(self, x: Tensor) -> tuple[Tensor, ...]:
            outputs = dict(zip(("features", "logits"), extractor(x), strict=True))
            return tuple(outputs[name] for name in self.features_list)

    registered = f"speed-{len(FEATURE_EXTRACTORS_REGISTRY)}"  # no name can be used twice
    torch_fidelity.register_feature_extractor(registered, Registered)
    for metric, part in (
        *((m, slice(n)) for m in ("fid", "kid", "isc", "prc")),
        ("fid", slice(half)),
        ("fid", slice(half, n)),
    ):
        subject = Subject(model, own, settings, 0)
        torch_fidelity.calculate_metrics(
            input1=Images(as_uint8(subject.samples)[part]),
            input2=Images(own.test.x),
            feature_extractor=registered,
            cuda=False,
            cache=False,
            verbose=False,
            save_cpu_ram=True,
            kid_subset_size=min(1000, half),
            **{metric: True},
        )
    fake, real = (
        extractor(x)[0].double() for x in (as_uint8(Subject(model, own, settings, 0).samples), own.test.x)
    )
    radius = torch.cdist(real, real).kthvalue(6, dim=1).values
    within = torch.cdist(real, fake) < radius[:, None]
    within.sum().item(), within.any(1).double().mean().item()  # density and coverage
    for name in names:
        if name not in ("fidelity", "svm"):
            METRICS[name].measure(Subject(model, own, settings, 0))
    if "svm" not in names:
        return
    with torch.no_grad():
        layers = [
            torch.cat(list(model.features(as_float(x)).values()), 1) for x in (own.train.x, own.validation.x)
        ]
        scored = torch.cat(list(model.features(as_float(own.test.x)).values()), 1)
    (x, v), y = layers, own.train.y.numpy()
    draw = labels.draw(y, 100, 10)
    fits = [LinearSVC(C=c).fit(x[draw], y[draw]) for c in svm.GRID]
    best = fits[int(np.argmax([fit.score(v, own.validation.y) for fit in fits]))]
    for number in range(10):
        draw = labels.draw(y, 100, number)
        best.fit(x[draw], y[draw]).score(scored, own.test.y)
        GridSearchCV(LinearSVC(), {"C": svm.COARSE_GRID}, cv=5).fit(x[draw], y[draw]).score(
            scored, own.test.y
        )


@pytest.mark.parametrize(
    ("size", "name"),
    [("digits, 355 images", name) for name in ("ali", "bigan", "gan", "vae")]
    + [("digits, 10,000 images", "ali")]
    + [("CIFAR-10's shape, 1,000 images, without SVM", name) for name in ("ali", "bigan", "gan", "vae")],
)
def test_evaluation_by_every_metric(benchmark: Any, speeds: Speeds, size: str, name: str) -> None:
    settings = Settings(labels=100, draws=10, standardise=True)
    names = ["reconstruction", "fidelity", "svm", "neighbours", "probe", "health"]  # as suite digits has them
    if size.startswith("digits"):
        own, model = datasets.load("digits"), build(name).eval()
        own = large(own) if "10,000" in size else own
    else:
        extractors.register("speed", random_features)
        own, model = sides.loaded(sides.CIFAR10), sides.build(sides.CIFAR10, name).eval()
        settings, names = replace(settings, extractor="speed"), ["reconstruction", "fidelity", "health"]
    plain = partial(plain_evaluation, model, own, settings, names)
    compare(
        benchmark, lambda: evaluate(model, own, names, settings), plain, rounds=1 if "10,000" in size else 2
    )
    figures = benchmark.extra_info
    speeds.add(
        "evaluation",
        size=size,
        model=name,
        seconds=float(benchmark.stats.stats.median),
        naive_seconds=figures["plain_s"],
        ratio=figures["ratio"],
        ratio_min=figures["ratio_min"],
        ratio_max=figures["ratio_max"],
        rounds=len(benchmark.stats.stats.data),
    )


def random_features(own: Data, settings: Settings, device: torch.device) -> features_extractor.Extractor:
    """Return an extractor of untrained convolutions, as wide as the project's own: for the time that it takes
    alone.
    """
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(3, 32, 3, 2), nn.ReLU(), nn.Conv2d(32, 64, 3, 2), nn.ReLU(), nn.AdaptiveAvgPool2d(1)
    )
    head = nn.Linear(64, 10)

    def features(x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad():
            h = network(x.float() / 255).flatten(1)
            return h, head(h)

    return features_extractor.Extractor("speed", sha256="0" * 64, width=64, device=device, network=features)
