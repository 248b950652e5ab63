"""How long evaluation takes, and how many times longer a plain script does: `nox -s speed`.

Both sides run in turn in one process, so that what is reported is a ratio with its spread. Nothing here
asserts a time.
"""

import resource
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

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
from tests.speed.plain import Step

pytestmark = [pytest.mark.speed, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

CLASSES, FEATURES = 10, 5376  # of SVHN's network: 4x4x256 + 512 + 512 + 256
OTHERS = ("throughput", "modes", "mixture_score", "classifier")  # metrics that are not compared


def compare(ours: Step, plain: Step, rounds: int) -> dict[str, float]:
    """Time both in turn; return seconds, and the ratio's median and range."""
    times = sides.alternately({"plain": plain, "ours": ours}, "cpu", rounds, least=0)
    ratios = times["plain"] / times["ours"]
    figures = {"seconds": np.median(times["ours"]), "naive_seconds": np.median(times["plain"])}
    figures |= {"ratio": np.median(ratios), "ratio_min": ratios.min(), "ratio_max": ratios.max()}
    return {key: round(float(figure), 2) for key, figure in figures.items()}


def features(y: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return rectified random features (N, FEATURES) of classes y that overlap, and the classes."""
    rng = np.random.default_rng(seed)
    to = np.random.default_rng(0).standard_normal((64, FEATURES), dtype=np.float32) / 8
    means = 0.3 * np.random.default_rng(1).standard_normal((CLASSES, 64), dtype=np.float32)
    x = (means[y] + rng.standard_normal((len(y), 64), dtype=np.float32)) @ to
    return np.maximum(x, 0, out=x), y


def protocol(pool: int, scored: int, draws: int) -> Sets:
    """Return sets of features for ALI's protocol with 1,000 labels: of the pool what some draw labels."""
    y = np.arange(pool) % CLASSES
    chosen = [labels.draw(y, 1000, number) for number in range(draws + 1)]
    known = np.unique(np.concatenate(chosen))
    chosen = [np.searchsorted(known, draw) for draw in chosen]
    parts = (y[known], y[: scored * 10_000 // 26_032], y[:scored])
    made = (features(part, seed) for seed, part in enumerate(parts, start=2))
    settings = Settings(labels=1000, draws=draws)
    return Sets(*made, tuple(chosen[:-1]), chosen[-1], CLASSES, slice(None), "test", settings)


def test_alis_svm_protocol_in_full() -> None:
    sets, start = protocol(63_257, 26_032, 100), time.perf_counter()
    rows = svm.score(sets)
    seconds = time.perf_counter() - start
    accuracy = np.mean([row.value for row in rows if row.metric == "svm_accuracy"])
    missed = sum("not converged" in row.reason for row in rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # libraries and features too
    print(f"\n{seconds:.1f} s, accuracy {accuracy:.2f} %, {missed} rows not converged, {peak:.1f} GiB")


def test_alis_svm_protocol_against_a_plain_script(monkeypatch: pytest.MonkeyPatch) -> None:
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
            rest = [np.setdiff1d(draw, fold) for fold in folds]
            for c in svm.COARSE_GRID:
                fits = [
                    LinearSVC(C=c).fit(x[part], y[part]).score(x[fold], y[fold])
                    for part, fold in zip(rest, folds, strict=True)
                ]
                accuracies.append(np.mean(fits))
            LinearSVC(C=svm.COARSE_GRID[int(np.argmax(accuracies))]).fit(x[draw], y[draw]).score(*sets.scored)

    print(f"\n{compare(lambda: svm.score(sets), plain, rounds=1)}")


class Images(Dataset[Tensor]):
    """Images as torch-fidelity takes them."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def large(digits: Data) -> Data:
    """Return digits with 10,000 held-out images in each split: those there are, with noise."""

    def more(split: Split, seed: int) -> Split:
        rng = generator(seed, "large")
        index = torch.randint(len(split), (10_000,), generator=rng)
        x = split.x[index].float() + 8 * torch.randn(10_000, 1, 8, 8, generator=rng)
        return Split(x.round().clamp(0, 255).to(torch.uint8), split.y[index])

    return replace(digits, validation=more(digits.validation, 0), test=more(digits.test, 1))


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
    whole = [(metric, slice(n)) for metric in ("fid", "kid", "isc", "prc")]
    for metric, part in (*whole, ("fid", slice(half)), ("fid", slice(half, n))):
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
    samples = as_uint8(Subject(model, own, settings, 0).samples)
    fake, real = (extractor(x)[0].double() for x in (samples, own.test.x))
    radius = torch.cdist(real, real).kthvalue(6, dim=1).values
    within = torch.cdist(real, fake) < radius[:, None]
    within.sum().item(), within.any(1).double().mean().item()  # density and coverage
    for name in names:
        if name not in ("fidelity", "svm"):
            METRICS[name].measure(Subject(model, own, settings, 0))
    if "svm" not in names:
        return
    with torch.no_grad():
        layers = [model.features(as_float(part.x)) for part in (own.train, own.validation, own.test)]
    (x, v, scored), y = (torch.cat(list(each.values()), 1) for each in layers), own.train.y.numpy()
    draw = labels.draw(y, 100, 10)
    fits = [LinearSVC(C=c).fit(x[draw], y[draw]) for c in svm.GRID]
    best = fits[int(np.argmax([fit.score(v, own.validation.y) for fit in fits]))]
    for number in range(10):
        draw = labels.draw(y, 100, number)
        best.fit(x[draw], y[draw]).score(scored, own.test.y)
        search = GridSearchCV(LinearSVC(), {"C": svm.COARSE_GRID}, cv=5)
        search.fit(x[draw], y[draw]).score(scored, own.test.y)


@pytest.mark.parametrize(
    ("size", "name"),
    [("digits, 355 images", name) for name in ("ali", "bigan", "gan", "vae")]
    + [("digits, 10,000 images", "ali")]
    + [("CIFAR-10's shape, 1,000 images, without SVM", name) for name in ("ali", "bigan", "gan", "vae")],
)
def test_evaluation_by_every_metric(speeds: Speeds, size: str, name: str) -> None:
    settings = Settings(labels=100, draws=10, standardise=True)
    names = [metric for metric in METRICS if metric not in OTHERS]
    if size.startswith("digits"):
        own, model = datasets.load("digits"), build(name).eval()
        own = large(own) if "10,000" in size else own
    else:
        extractors.register("speed", random_features)
        own, model = sides.loaded(sides.CIFAR10), sides.build(sides.CIFAR10, name).eval()
        settings, names = replace(settings, extractor="speed"), ["reconstruction", "fidelity", "health"]
    plain, rounds = partial(plain_evaluation, model, own, settings, names), 1 if "10,000" in size else 2
    figures = compare(lambda: evaluate(model, own, names, settings), plain, rounds)
    speeds.add("evaluation", size=size, model=name, **figures, rounds=rounds)


def random_features(own: Data, settings: Settings, device: torch.device) -> features_extractor.Extractor:
    """Return an extractor of untrained convolutions, as wide as the project's own: only its time counts."""
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
