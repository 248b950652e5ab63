"""Which triples of digits samples of stacked MNIST show: each channel is named by MNIST's classifier.

As VEEGAN (Srivastava et al. 2017, table 2) and PacGAN (Lin et al. 2018, table 2) count: a triple, one of
1,000, is there if at least one sample shows it; the divergence is KL(histogram || uniform) in nats, log 1,000
if all samples show one. Both papers draw 26,000. The divergence of n even draws is about 999 / 2n, .019 of
26,000: row "even draws" has it, and a smaller one means nothing.
"""

from typing import Any

import torch
from torch import Tensor

from alibench.evaluation.data import BATCH, Data, as_uint8, unfit
from alibench.evaluation.features import classifiers
from alibench.evaluation.measurement import Column, Measurement, not_sampled, refused
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import ReferenceInput, Subject

COLUMNS = (
    Column("stacked_modes", "triples of digits, of 1,000", "higher", 1),
    Column("stacked_divergence", "KL of triples from uniform, nats", "lower", 3),
)
CLASSIFIER, TRIPLES = "mnist-cnn", 1000
EVEN = "even draws"  # the row of a perfect sampler


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Data need images of three digits, 28x28, with their triples as classes."""
    fits = data.images and data.shape == (3, 28, 28) and data.classes == TRIPLES
    return "" if fits else f"dataset '{data.name}' is not stacked MNIST"


def triples(images: Tensor, device: torch.device) -> Tensor:
    """Return the triple (N,), 0 to 999, that a classifier sees in uint8 images (N, 3, 28, 28)."""
    # Channels as images of their own, in their order.
    name = classifiers.shipped(CLASSIFIER, device)
    digits = []
    for part in images.flatten(0, 1)[:, None].split(BATCH):
        logits = name(part)[1]
        assert logits is not None
        digits.append(logits.argmax(1))
    return (torch.cat(digits).view(-1, 3) * torch.tensor([100, 10, 1])).sum(1)


def count(shown: Tensor) -> tuple[int, float]:
    """Return how many triples (N,) show at least once, and their histogram's divergence from uniform."""
    histogram = shown.bincount(minlength=TRIPLES)
    shares = histogram.double() / histogram.sum()
    return int((histogram > 0).sum()), float(torch.xlogy(shares, shares * TRIPLES).sum())


def _measured(shown: Tensor, **fields: Any) -> list[Measurement]:
    modes, divergence = count(shown)
    fields |= {"n": len(shown), "extractor": classifiers.shipped(CLASSIFIER).identity}
    return [
        Measurement("stacked_modes", modes, "of 1,000", **fields),
        Measurement("stacked_divergence", divergence, "nats", **fields),
    ]


def measure(subject: Subject) -> list[Measurement]:
    """Return the counts on the model's samples."""
    if not subject.model.generative:
        return not_sampled(COLUMNS)
    if reason := unfit(subject.samples, images=True):
        return refused(COLUMNS, reason, n=len(subject.samples))
    return _measured(triples(as_uint8(subject.samples), subject.device))


def references(source: ReferenceInput) -> list[Measurement]:
    """Return the counts of held-out stacks, and of as many even draws as there are samples."""
    # A perfect sampler has no images: its triples are drawn.
    held_out = source.held_out
    rows = _measured(triples(held_out.x, source.device), reference="held-out data", split=source.split)
    for seed in source.seeds:
        rng = generator(seed, "even draws of triples")
        even = torch.randint(TRIPLES, (source.settings.samples or len(held_out),), generator=rng)
        rows += _measured(even, reference=EVEN, seed=seed)
    return rows
