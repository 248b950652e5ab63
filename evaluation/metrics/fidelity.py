"""FID, KID, IS, precision and recall by torch-fidelity, density and coverage: all on the same features.

The reference is held-out data, never the images that the extractor was fitted on: its features are sharper
there. FID is biased by the number of images, so every row of a table, models, real data and noise, uses as
many as the reference holds, unless the settings say another number; next to it stand FID at half as many
(mean of the two halves) and the extrapolation linear in 1/n to infinitely many (Chong and Forsyth 2020). It
needs four times as many images as features. Only Inception gives the inception score; the same formula with
another classifier is the classifier score, whose row names the classifier. Only CLIP gives CMMD; FID by
DINOv2 is the FD of Stein et al. 2023, precision and recall by VGG16 are those of Kynkäänniemi et al. 2019.

Images pass the extractor once. torch-fidelity's functions are called on features, not on images: its own pass
takes one path of weights for two extractors, loads them in a way that runs code, and keeps features under
names instead of contents. evaluation/store.py keeps the features and statistics of the real side.
"""

import importlib
import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from alibench.evaluation import files, protocols, store
from alibench.evaluation.data import Data, Split, as_uint8, unfit
from alibench.evaluation.features import extractors
from alibench.evaluation.features.extractor import CPU, Extractor
from alibench.evaluation.manifold import density_coverage, exact
from alibench.evaluation.measurement import Column, Measurement, not_applicable, not_sampled, refused
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject

COLUMNS = (
    Column("kid", "KID × 1000", "lower", 2),
    Column("cmmd", "CMMD", "lower", 3),
    Column("fid", "FID", "lower", 2),
    Column("fid_half", "FID at n/2", "lower", 2),
    Column("fid_extrapolated", "FID, n → ∞", "lower", 2),
    Column("inception_score", "inception score", "higher", 2),
    Column("classifier_score", "classifier score", "higher", 2),
    Column("precision", "precision", "higher", 3),
    Column("recall", "recall", "higher", 3),
    Column("density", "density", "higher", 3),
    Column("coverage", "coverage", "higher", 3),
)
BATCH = 50  # images that pass an extractor at once: Inception enlarges each to 299x299
SMALL_BATCH = 500  # that pass the dataset's own classifier on an accelerator, which fewer do not fill
SUBSET = 1000  # images of a subset that KID is computed on, where there are more
SIGMA = 10.0  # of CMMD's kernel
CHUNK = 1000  # rows of that kernel that are held at once
PER_FEATURE = 4  # images for each feature that FID needs
NEIGHBOURS = 3  # of precision and recall (Kynkäänniemi et al. 2019)
DENSITY_NEIGHBOURS = 5  # of density and coverage (Naeem et al. 2020)
CLIP = "clip"  # the extractor of CMMD
VERSION = "fidelity 1"  # of what the store keeps of the real side


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Images need an extractor, and a reference that the extractor was not fitted on."""
    if reason := extractors.unsupported_reason(data, settings):
        return reason
    if settings.reference == "train" and settings.extractor == "classifier":
        fitted = "evaluation.reference=train is what the classifier was fitted on"
        return f"{fitted}: set evaluation.extractor=inception"
    return ""


def score_of(settings: Settings) -> str:
    """Return the name of the score: Inception's alone is the inception score."""
    return "inception_score" if settings.extractor == "inception" else "classifier_score"


def columns(settings: Settings) -> tuple[Column, ...]:
    """Return the columns that are filled with the settings' extractor."""
    others = {"inception_score", "classifier_score"} - {score_of(settings)}
    if settings.extractor != CLIP:
        others.add("cmmd")
    return tuple(column for column in COLUMNS if column.metric not in others)


def call(module: str, function: str, *inputs: Any, **options: Any) -> Any:
    """Call a function of torch-fidelity. Raises TypeError for unknown options, which it would ignore."""
    # imported here: it takes seconds, and tables and most processes do not use it
    from torch_fidelity.defaults import DEFAULTS

    unknown = options.keys() - DEFAULTS.keys()
    if unknown:
        raise TypeError(f"torch-fidelity has no option {sorted(unknown)}")
    return getattr(importlib.import_module(f"torch_fidelity.{module}"), function)(*inputs, **options)


# -------------------------------------------------------------------------------------------- features


@dataclass(frozen=True)
class Features:
    """An extractor's outputs for images: features x (N, F) and, if it is a classifier, logits (N, K)."""

    x: Tensor
    logits: Tensor | None
    device: torch.device = CPU  # where distances are computed
    key: str = ""  # in the store, if they are kept

    def __len__(self) -> int:
        return len(self.x)

    @classmethod
    def of(cls, images: Tensor, extractor: Extractor, keep: bool = False, size: int = BATCH) -> "Features":
        """Pass uint8 images (N, C, H, W) through the extractor, `size` at once; `keep` for real images."""

        def compute() -> dict[str, Tensor]:
            x, logits = zip(*map(extractor, images.split(size)), strict=True)
            return {"x": torch.cat(x)} | ({} if logits[0] is None else {"logits": torch.cat(logits)})

        device = extractor.device
        key = files.digest(VERSION, extractor.identity, extractor.sha256, device.type, images) if keep else ""
        outputs = store.kept(key, compute) if keep else compute()
        # MPS has no float64
        return cls(outputs["x"], outputs.get("logits"), device if device.type == "cuda" else CPU, key)

    @cached_property
    def statistics(self) -> dict[str, Any]:
        """Mean (F,) and covariance (F, F), in float64, as torch-fidelity takes them."""

        def compute() -> dict[str, Tensor]:
            out = call("metric_fid", "fid_features_to_statistics", self.x.double())
            mu, sigma = torch.from_numpy(out["mu"]), torch.as_tensor(out["sigma"])
            # sigma of a single feature is a bare number
            return {"mu": mu, "sigma": sigma.view(len(mu), len(mu))}

        tensors = store.kept(f"{self.key}-fid", compute) if self.key else compute()
        return {name: tensor.numpy() for name, tensor in tensors.items()}

    def unusable(self, whose: str, varied: bool = False) -> str:
        """Say why these features give no number, if so; `varied` ones must not all be the same."""
        outputs = [self.x] if self.logits is None else [self.x, self.logits]
        if not all(bool(output.isfinite().all()) for output in outputs):
            return f"the features of {whose} are not finite"

        spread = (self.x.amax(0) - self.x.amin(0)).max()
        if varied and bool(spread <= 1e-6 * self.x.abs().max()):
            return f"the features of {whose} are all the same"
        return ""


# -------------------------------------------------------------------------------------------- measures


def frechet(fake: Features, real: Features) -> float:
    """Return FID: the Fréchet distance of the two Gaussians (Heusel et al. 2017)."""
    out = call("metric_fid", "fid_statistics_to_metric", fake.statistics, real.statistics, verbose=False)
    return float(out["frechet_inception_distance"])


def _subsets(fake: Features, real: Features) -> tuple[int, int]:
    """Return the number of subsets that KID is averaged over, and their size.

    All images are one subset, if they are few and equally many on both sides.
    """
    size = min(SUBSET, len(fake), len(real))
    return (1 if size == len(fake) == len(real) else 100), size


def kernel_distance(fake: Features, real: Features) -> float:
    """Return KID in thousandths: the unbiased MMD² of the cubic kernel (Bińkowski et al. 2018)."""
    # The seed chooses subsets: the same for every model.
    subsets, size = _subsets(fake, real)
    options = {"kid_subsets": subsets, "kid_subset_size": size, "rng_seed": 0, "verbose": False}
    out = call("metric_kid", "kid_features_to_metric", fake.x.double(), real.x.double(), **options)
    return 1000 * float(out["kernel_inception_distance_mean"])


def clip_distance(fake: Features, real: Features) -> float:
    """Return CMMD: the squared MMD of embeddings of unit length, in thousandths (Jayasumana et al. 2024).

    The kernel is exp(-|a - b|² / (2 σ²)), σ = 10; the estimate that of their code, which counts each
    embedding's kernel with itself, so that it is biased and never below 0.
    """
    x, y = (F.normalize(features.x.to(real.device).double()) for features in (fake, real))

    def mean(a: Tensor, b: Tensor) -> float:
        # kernels are close to 1: less 1, which cancels, they keep their digits
        squared = (torch.cdist(part, b).square() for part in a.split(CHUNK))
        return sum(float(torch.expm1(-part / (2 * SIGMA**2)).sum()) for part in squared) / (len(a) * len(b))

    return 1000 * (mean(x, x) + mean(y, y) - 2 * mean(x, y))


def score(logits: Tensor) -> float:
    """Return exp of p(y|x)'s mean divergence from p(y) (Salimans et al. 2016), over all images at once."""
    options = {"isc_splits": 1, "samples_shuffle": False, "rng_seed": 0, "verbose": False}
    out = call("metric_isc", "isc_featuresdict_to_metric", {"logits": logits.double()}, "logits", **options)
    return float(out["inception_score_mean"])


def precision_recall(fake: Features, real: Features) -> tuple[float, float]:
    """Return the share of samples within the real manifold, and of real images within the samples'."""
    # torch-fidelity's order: samples first
    samples, reference = (x.to(real.device) for x in exact(fake.x, real.x))
    options = {"prc_neighborhood": NEIGHBOURS, "prc_batch_size": 1000, "save_cpu_ram": True, "verbose": False}
    out = call("metric_prc", "prc_features_to_metric", samples, reference, **options)
    return float(out["precision"]), float(out["recall"])


def _cell(metric: str, value: float, protocol: str, refusal: str, **fields: Any) -> Measurement:
    """Return a number; an empty cell where there is a reason against it, or where it is not finite."""
    if not refusal and not math.isfinite(value):
        refusal = f"it came out as {value}"
    if refusal:
        return refused([metric], refusal, protocol=protocol, **fields)[0]
    return Measurement(metric, value, protocol=protocol, **fields)


def _too_few(what: str, needed: int, there: int) -> str:
    return f"{what} needs {needed} images on each side, there are {there}" if there < needed else ""


def _kid(fake: Features, real: Features, broken: str) -> list[Measurement]:
    subsets, size = _subsets(fake, real)
    protocol = protocols.joined(protocols.KERNEL, f"{subsets} subsets of {size:,}" if subsets > 1 else "")
    refusal = broken or _too_few("KID", 2, size)
    value = math.nan if refusal else kernel_distance(fake, real)
    return [_cell("kid", value, protocol, refusal, unit="thousandths")]


def _cmmd(fake: Features, real: Features, broken: str) -> list[Measurement]:
    refusal = broken or _too_few("CMMD", 2, min(len(fake), len(real)))
    value = math.nan if refusal else clip_distance(fake, real)
    return [_cell("cmmd", value, protocols.GAUSSIAN_KERNEL, refusal, unit="thousandths")]


def _fid(fake: Features, real: Features, broken: str) -> list[Measurement]:
    width, half = fake.x.shape[1], len(fake) // 2
    at_n, at_half = (
        broken or _too_few(f"FID on {width} features", PER_FEATURE * width, min(n, len(real)))
        for n in (len(fake), half)
    )

    # Linear in 1/n through n and n/2: at infinity twice the one less the other.
    whole = math.nan if at_n else frechet(fake, real)
    parts = [] if at_half else [Features(part, None) for part in (fake.x[:half], fake.x[half : 2 * half])]
    halves = sum(frechet(part, real) for part in parts) / 2
    return [
        _cell("fid", whole, protocols.ALL_IMAGES, at_n),
        _cell("fid_half", halves, protocols.HALF_THE_IMAGES, at_half, n=half),
        _cell("fid_extrapolated", 2 * whole - halves, protocols.EXTRAPOLATED, at_n or at_half),
    ]


def _score(fake: Features, metric: str, broken: str) -> list[Measurement]:
    if fake.logits is None:
        return not_applicable([metric], "the extractor is not a classifier")
    return [_cell(metric, math.nan if broken else score(fake.logits), protocols.ONE_SPLIT, broken)]


def _manifold(fake: Features, real: Features, broken: str) -> list[Measurement]:
    def density(fake: Features, real: Features) -> tuple[float, float]:
        return density_coverage(real.x.to(real.device), fake.x.to(real.device), DENSITY_NEIGHBOURS)

    rows = []
    for names, k, function in (
        (("precision", "recall"), NEIGHBOURS, precision_recall),
        (("density", "coverage"), DENSITY_NEIGHBOURS, density),
    ):
        few = broken or _too_few(f"k = {k}", k + 1, min(len(fake), len(real)))
        values = (math.nan, math.nan) if few else function(fake, real)
        protocol = protocols.neighbours(k)
        rows += [_cell(name, value, protocol, few) for name, value in zip(names, values, strict=True)]
    return rows


# -------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class Against:
    """The real side of a table's rows: the reference as the extractor sees it."""

    settings: Settings
    extractor: Extractor
    real: Features
    split: str  # of the reference

    @classmethod
    def of(cls, data: Data, settings: Settings, scored: str, device: torch.device = CPU) -> "Against":
        """Take the settings' split, else the scored one. Raises BadInput without an extractor."""
        # The reference's features are kept: every run of a suite takes the same.
        extractor, split = extractors.get(data, settings, device), settings.reference or scored
        real = Features.of(_split(data, split).x, extractor, True, _batch(settings, device))
        return cls(settings, extractor, real, split)

    def rows(self, fake: Features, **fields: Any) -> list[Measurement]:
        """Return all measures of images by their features, each row with the fields."""
        real = self.real
        broken = fake.unusable("the samples") or real.unusable("the reference", varied=True)

        # One pass of the extractor, and a reason against a number for each measure by itself.
        measured = [
            *_kid(fake, real, broken),
            *(_cmmd(fake, real, broken) if self.settings.extractor == CLIP else ()),
            *_fid(fake, real, broken),
            *_score(fake, score_of(self.settings), broken),
            *_manifold(fake, real, broken),
        ]
        return [self._complete(row, len(fake), **fields) for row in measured]

    def refused(self, reason: str, n: int, **fields: Any) -> list[Measurement]:
        """Return the empty cells of samples that are not images."""
        return [self._complete(cell, n, **fields) for cell in refused(columns(self.settings), reason)]

    def _complete(self, row: Measurement, n: int, **fields: Any) -> Measurement:
        other = f"reference n = {len(self.real)}" if n != len(self.real) else ""
        protocol = protocols.joined(row.protocol, other)
        shared: dict[str, Any] = {"split": self.split, "extractor": self.extractor.identity}
        return replace(row, n=row.n or n, protocol=protocol, **shared, **fields)


def of_samples(subject: Subject, extractor: Extractor, observed: bool = False) -> Features:
    """Return the features of the model's samples, or of those with observation noise, for all metrics."""
    # a Gaussian's noise leaves [0, 1] and pixels do not: it is clamped on purpose
    samples = subject.observed_samples if observed else subject.samples
    size = _batch(subject.settings, extractor.device)
    name = f"features of samples, observed {observed}"
    return subject.once(name, lambda: Features.of(as_uint8(samples), extractor, size=size))


def _batch(settings: Settings, device: torch.device) -> int:
    """Return how many images pass the extractor at once."""
    return SMALL_BATCH if settings.extractor == "classifier" and device.type != "cpu" else BATCH


def _split(data: Data, name: str) -> Split:
    return {"train": data.train, "validation": data.validation, "test": data.test}[name]


def _not_images(samples: Tensor, data: Data) -> str:
    """Say why samples are not images like the data's, if so: the map to uint8 would hide it."""
    if tuple(samples.shape[1:]) != data.shape:
        return f"samples have shape {tuple(samples.shape[1:])}, images of '{data.name}' {data.shape}"
    return unfit(samples, images=True)


def measure(subject: Subject) -> list[Measurement]:
    """Return the scores of the model's samples; with observation noise too, if the model has it."""
    settings = subject.settings
    if not subject.model.generative:
        return not_sampled(columns(settings))

    against = Against.of(subject.data, settings, subject.split, subject.device)
    reason, n = _not_images(subject.samples, subject.data), len(subject.samples)
    names = {False: ""} | ({True: subject.observed_name} if subject.model.likelihood else {})
    if reason:
        return [row for name in names.values() for row in against.refused(reason, n, reference=name)]

    rows = []
    for observed, name in names.items():
        rows += against.rows(of_samples(subject, against.extractor, observed), reference=name)
    return rows


def references(source: ReferenceInput) -> list[Measurement]:
    """Return the scores of real images of another split than the reference's, and of uniform noise."""
    data, settings = source.data, source.settings
    against = Against.of(data, settings, source.split, source.device)
    n = settings.samples or len(source.held_out)  # as many as the models' samples

    # The floor: real images that neither the extractor was fitted on nor the reference holds.
    other = next(split for split in (source.split, "test", "validation") if split != against.split)
    images = _split(data, other).x[:n]
    fewer = f"n = {len(images)}, which raises FID" if len(images) < n else ""
    size = _batch(settings, source.device)
    held_out = Features.of(images, against.extractor, keep=True, size=size)
    rows = against.rows(held_out, reference="held-out data", note=fewer)

    for seed in source.seeds:
        noise = torch.rand((n, *data.shape), generator=generator(seed, "noise"))
        features = Features.of(as_uint8(noise), against.extractor, size=size)
        rows += against.rows(features, reference="noise", seed=seed)
    return rows
