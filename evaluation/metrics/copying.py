"""Are samples copies of training data? Their distance to train, next to that of held-out data.

Let L(x) be the distance of x to the nearest of train (Meehan, Chaudhuri and Dasgupta 2020). If a model has
learnt the distribution, L of its samples is spread like L of held-out data; copies have a smaller one.

    copying_z      their Z_U: Mann and Whitney's U of the L of samples and of held-out data, standardised
    copies         % of samples at most as far from train as the nearest 1 % of held-out data
    copy_distance  the median L of samples, over that of held-out data

Samples like held-out data have a Z_U near 0 (standard normal, if they are the same), 1 % and 1; training data
have one far below 0, 100 % and 0. A Z_U far above 0 says that samples are farther from train than data are.
Z_U is the global form, without the paper's cells: copies in one region may be hidden by poor samples in
another, and like any test it grows with the number of samples. The share sees a few copies among many.

Distances are Euclidean, of raw pixels (as uint8) or coordinates: a copy that is shifted by a pixel is not
seen.
"""

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from alibench.evaluation import files, protocols, store
from alibench.evaluation.data import Data, as_uint8, unfit
from alibench.evaluation.measurement import Column, Measurement, not_sampled, refused
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject

COLUMNS = (
    Column("copies", "copies, %", "", 1),
    Column("copying_z", "Z_U of distances to train", "", 1),
    Column("copy_distance", "distance to train, over held-out data's", "", 3),
)
MOST, TRAIN = 2000, 50_000  # samples and held-out data that are looked at, and training data
FEWEST = 100  # samples and held-out data that a percent of them needs
NEAREST = 0.01  # share of held-out data, as near as which a sample is called a copy
CHUNK = 1000  # training data at once
VERSION = "copying 1"  # of what the store keeps of held-out data


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Any data have distances."""
    return ""


# -------------------- distances and what is made of them


def distances(x: Tensor, train: Tensor, device: torch.device) -> np.ndarray:
    """Return the distance (N,) of each x (N, ...) to the nearest of train (M, ...), in float64.

    Both are uint8 images, whose distances are exact, or both float points.
    """
    # Products of whole numbers have no rounding; those of points would set equal ones apart.
    mode = "" if x.dtype == torch.uint8 else "donot_"
    place = device if device.type == "cuda" else torch.device("cpu")  # MPS has no float64
    x = x.flatten(1).to(place).double()

    # a part of train at a time: 50,000 images in float64 take gigabytes
    nearest = x.new_full((len(x),), math.inf)
    for part in train.split(CHUNK):
        part = part.flatten(1).to(place).double()
        between = torch.cdist(x, part, compute_mode=f"{mode}use_mm_for_euclid_dist")
        nearest = torch.minimum(nearest, between.amin(1))
    return nearest.cpu().numpy()


def standardised_u(samples: np.ndarray, held_out: np.ndarray) -> float:
    """Return Z_U: Mann and Whitney's U of two sets of numbers, standardised; negative if samples are smaller.

    Equal numbers share their ranks, and the deviation is corrected for them. All equal: 0.
    """
    from scipy.stats import rankdata

    # U counts the pairs in which the sample is the larger one.
    m, n = len(samples), len(held_out)
    both = np.concatenate([samples, held_out])
    u = rankdata(both)[:m].sum() - m * (m + 1) / 2

    times = np.unique(both, return_counts=True)[1].astype(float)
    ties = (times**3 - times).sum() / ((m + n) * (m + n - 1))
    deviation = math.sqrt(m * n / 12 * (m + n + 1 - ties))
    return float((u - m * n / 2) / deviation) if deviation else 0.0


def share_of_copies(samples: np.ndarray, held_out: np.ndarray) -> float:
    """Return the percentage of distances that are at most the closest 1 % of held-out distances."""
    # one of the distances, so that 1 % of held-out data are as near, or more where some are equal
    bound = np.quantile(held_out, NEAREST, method="inverted_cdf")
    return 100 * float((samples <= bound).mean())


# -------------------- rows


def _held_out(source: Subject | ReferenceInput) -> np.ndarray:
    """Return the distances of held-out data to train, which all runs on the same data share."""
    data, held_out = source.data, source.held_out

    def compute() -> dict[str, Tensor]:
        # train holds no anomalies, so that they are farther from it
        x = held_out.x[held_out.y != data.anomaly] if data.anomaly >= 0 else held_out.x
        return {"nearest": torch.from_numpy(distances(x[:MOST], data.train.x[:TRAIN], source.device))}

    key = files.digest(VERSION, data.sha256, source.split, str(data.anomaly))
    kept = source.once("copying", lambda: store.kept(key, compute))
    return kept["nearest"].numpy()


def _measured(x: Tensor, source: Subject | ReferenceInput, **fields: Any) -> list[Measurement]:
    """Return the measures of x (N, ...), uint8 images or float points, each row with the fields."""
    train, held_out = source.data.train.x, _held_out(source)
    seen = f"{TRAIN:,} of train" if len(train) > TRAIN else ""
    fields |= {"n": min(MOST, len(x)), "split": source.split}
    fields["protocol"] = protocols.joined(protocols.RAW_DATA, seen)

    # A median of 0 is that of data of which train holds copies.
    if (least := min(len(x), len(held_out))) < FEWEST:
        return refused(COLUMNS, f"{least} samples or held-out data: {FEWEST} are needed", **fields)
    own, median = distances(x[:MOST], train[:TRAIN], source.device), float(np.median(held_out))
    rows = [
        Measurement("copies", share_of_copies(own, held_out), "%", **fields),
        Measurement("copying_z", standardised_u(own, held_out), **fields),
    ]
    if not median:
        return rows + refused(["copy_distance"], "train holds copies of most held-out data", **fields)
    return [*rows, Measurement("copy_distance", float(np.median(own)) / median, **fields)]


def measure(subject: Subject) -> list[Measurement]:
    """Return the measures of the model's samples; with observation noise too, if the model has it."""
    model, images = subject.model, subject.data.images
    if not model.generative:
        return not_sampled(COLUMNS)
    if reason := unfit(subject.samples, images):
        return refused(COLUMNS, reason, n=len(subject.samples), split=subject.split)

    # a Gaussian's noise leaves [0, 1]: it is clamped, as it is for FID
    convert = as_uint8 if images else (lambda points: points)
    rows = _measured(convert(subject.samples), subject)
    if model.likelihood:
        rows += _measured(convert(subject.observed_samples), subject, reference=subject.observed_name)
    return rows


def references(source: ReferenceInput) -> list[Measurement]:
    """Return the measures of data of the other held-out split, and of training data, which are all copies."""
    data = source.data
    other = data.validation if source.split == "test" else data.test
    x = other.x[other.y != data.anomaly] if data.anomaly >= 0 else other.x
    return [
        *_measured(x, source, reference="held-out data"),
        *_measured(data.train.x, source, reference="training data"),
    ]
