"""FID, KID and classifier score through torch-fidelity, with the data set's own feature extractor.

The reference is held-out data, never the images that the extractor was fitted on: its features are sharper there. FID is
biased by the number of images, so every row of a table, models, real data and noise, uses as many as the reference holds;
beside it stand FID at half as many (mean of the two halves) and the extrapolation linear in 1/n to infinitely many
(Chong and Forsyth 2020). The classifier score is the inception score's formula with another classifier, hence its name.
"""

from typing import Any

import torch
import torch_fidelity
from torch import Tensor
from torch.utils.data import Dataset
from torch_fidelity.defaults import DEFAULTS

from evaluation import extractors
from evaluation.base import Baseline, Column, Data, Measurement, Subject, as_uint8, generator, not_sampled

COLUMNS = (
    Column("kid", "KID × 1000", "lower", 2),
    Column("fid", "FID", "lower", 2),
    Column("fid_half", "FID at n/2", "lower", 2),
    Column("fid_extrapolated", "FID, n → ∞", "lower", 2),
    Column("classifier_score", "classifier score", "higher", 2),
)


def refuses(data: Data) -> str:
    """Only images with an extractor have a fidelity."""
    return "" if data.extractor else f"data set '{data.name}' has no feature extractor"


class _Images(Dataset[Tensor]):
    """Bare uint8 tensors (C, H, W), the only items that torch-fidelity takes."""

    def __init__(self, images: Tensor) -> None:
        assert images.dtype == torch.uint8
        assert images.dim() == 4
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        return self.images[index]


def _calculate(**options: Any) -> dict[str, float]:
    """Call torch-fidelity, which ignores options that it does not know, with options that it does."""
    unknown = options.keys() - DEFAULTS.keys()
    if unknown:
        raise TypeError(f"torch-fidelity has no option {sorted(unknown)}")
    metrics: dict[str, float] = torch_fidelity.calculate_metrics(**options)
    return metrics


def scores(images: Tensor, reference: Tensor, extractor: str, cuda: bool = False) -> dict[str, float]:
    """Return fid, kid (in thousandths) and classifier_score of uint8 images against a uint8 reference."""
    out = _calculate(
        input1=_Images(images),
        input2=_Images(reference),
        feature_extractor=extractor,
        fid=True,
        kid=True,
        kid_subset_size=min(1000, len(images), len(reference)),
        kid_subsets=100 if min(len(images), len(reference)) > 1000 else 1,  # all images are one subset
        isc=True,
        isc_splits=1,
        cuda=cuda,
        batch_size=500,
        save_cpu_ram=True,  # no worker processes
        cache=False,  # its keys are names, not contents
        verbose=False,
        rng_seed=0,
    )
    return {
        "fid": out[torch_fidelity.KEY_METRIC_FID],
        "kid": 1000 * out[torch_fidelity.KEY_METRIC_KID_MEAN],
        "classifier_score": out[torch_fidelity.KEY_METRIC_ISC_MEAN],
    }


def _measurements(images: Tensor, real: Tensor, data: Data, split: str, **options: Any) -> list[Measurement]:
    n, half = len(real), len(real) // 2
    assert len(images) == n, "every row of a table uses as many images as the reference holds"
    assert half // 4 >= extractors.WIDTH, "FID needs four times as many images as features"
    whole = scores(images, real, data.extractor)
    halves = [scores(part, real, data.extractor)["fid"] for part in (images[:half], images[half : 2 * half])]
    fid_half = sum(halves) / 2
    common = {"split": split, "extractor": extractors.identity(data.extractor), **options}
    return [
        Measurement("kid", whole["kid"], "thousandths", n, protocol="unbiased MMD², cubic kernel", **common),
        Measurement("fid", whole["fid"], "", n, protocol="n", **common),
        Measurement("fid_half", fid_half, "", half, protocol="n/2", **common),
        Measurement("fid_extrapolated", 2 * whole["fid"] - fid_half, "", n, protocol="linear in 1/n", **common),
        Measurement("classifier_score", whole["classifier_score"], "", n, protocol="one split", **common),
    ]


def measure(subject: Subject) -> list[Measurement]:
    """Return the scores of the model's samples; beside them those with observation noise, if the model has it."""
    data, reference, split = subject.data, subject.held_out.x, subject.split
    if not subject.model.generative:
        return not_sampled(COLUMNS)
    rows = _measurements(as_uint8(subject.samples), reference, data, split)
    if subject.model.likelihood:
        noisy = as_uint8(subject.observed_samples)
        rows += _measurements(noisy, reference, data, split, reference=subject.observed_name)
    return rows


def references(baseline: Baseline) -> list[Measurement]:
    """Return the scores of real images that neither the extractor nor the reference has, and of uniform noise."""
    data, reference, split = baseline.data, baseline.held_out.x, baseline.split
    other = data.validation.x if split == "test" else data.test.x
    rows = _measurements(other[: len(reference)], reference, data, split, reference="held-out data")
    for seed in baseline.seeds:
        noise = torch.rand(reference.shape, generator=generator(seed, "noise"))
        rows += _measurements(as_uint8(noise), reference, data, split, reference="noise", seed=seed)
    return rows
