"""Datasets: splits are disjoint and stable, geometry is the paper's, discrete data are refused."""

import hashlib

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from alibench.benchmarks.data.datasets import DATASETS, OPEN, Options, load
from alibench.benchmarks.data.published import PUBLISHED
from alibench.benchmarks.data.tables import KNOWN
from alibench.benchmarks.training.batches import Batches
from alibench.evaluation.data import Data, Split, as_float, as_uint8
from alibench.evaluation.errors import BadInput
from alibench.evaluation.seeds import generator

# of the first release; a split that moves makes old and new numbers incomparable
SHA256 = {
    "alice_toy": "ef5ac5c773da881d2d49db3a24f893ada3d6bc8a7cda5af955be4f43200ce084",
    "digits": "09c4cb7fd5bf9725c3a754c73d4df3054ecc17641921f1a73ef216e1fc6ffde3",
    "grid25": "c603c93910c89426812fa3a58c945becb026bc994ec0dc94712011f28112273c",
    "grid25_easy": "5f2011bcb6ec8fb49636cd062383ec6be3be8f3efcf2ac5e7fce2efcfb2c2748",
    "ring8": "50e2234c99b6062dea26599ad671e56950b8a069160c67587e279ded380096a2",
}


@pytest.mark.parametrize("name", sorted(set(DATASETS) - set(PUBLISHED) - set(KNOWN)))
def test_contents_and_splits_are_stable(name: str) -> None:
    assert load(name).sha256 == SHA256[name]
    assert load(name).splits


def test_every_name_is_described_in_a_line() -> None:
    described = {name: (make.__doc__ or "").split("\n")[0] for name, make in DATASETS.items()} | OPEN
    assert {"mnist", "fashion_mnist", "cifar10", "svhn", "celeba", "folder:PATH", "npz:PATH"} <= set(
        described
    )
    assert all(len(line) > 20 for line in described.values())


def test_unknown_names_and_options_of_what_has_none_are_refused() -> None:
    for name, nearest in {
        "minst": "did you mean 'mnist'? ",
        "folder:": "did you mean 'folder:PATH'? ",
        "zip:x": "",
    }.items():
        with pytest.raises(BadInput) as refused:
            load(name)
        line = f"unknown dataset '{name}'; {nearest}there are: grid25, "
        assert str(refused.value).startswith(line)
        assert str(refused.value).endswith("folder:PATH, npz:PATH, table:PATH")
    for name in ("grid25", "digits"):
        with pytest.raises(BadInput, match=f"^dataset '{name}' takes no options"):
            load(name, Options(size=16))


def test_digits_are_all_there_once_stratified_and_disjoint(digits: Data) -> None:
    raw = load_digits()
    parts = [digits.train, digits.validation, digits.test]
    together = torch.cat([part.x for part in parts])
    assert len(together) == 1797
    original = sorted(image.tobytes() for image in np.round(raw.images * 255 / 16).astype(np.uint8))
    assert sorted(image.numpy().tobytes() for image in together) == original
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        for c in range(10):
            assert (part.y == c).sum() == pytest.approx(share * (raw.target == c).sum(), abs=3)
    # scikit-learn's images are all different, so disjoint splits share none
    hashes = [{hashlib.sha256(image.numpy().tobytes()).hexdigest() for image in part.x} for part in parts]
    assert len(set.union(*hashes)) == 1797


def test_digits_belong_to_their_labels(digits: Data) -> None:
    raw = load_digits()
    label = {
        np.round(i * 255 / 16).astype(np.uint8).tobytes(): t
        for i, t in zip(raw.images, raw.target, strict=True)
    }
    for part in (digits.train, digits.validation, digits.test):
        assert [label[image.numpy().tobytes()] for image in part.x] == part.y.tolist()


@pytest.mark.parametrize(("name", "spacing", "std"), [("grid25", 2.0, 0.05), ("grid25_easy", 1.0, 0.1)])
def test_grid_is_25_equal_gaussians(name: str, spacing: float, std: float) -> None:
    data = load(name)
    assert data.mixture is not None
    assert sorted(map(tuple, data.mixture.centres.tolist())) == [
        (spacing * i, spacing * j) for i in range(-2, 3) for j in range(-2, 3)
    ]
    residual = data.train.x - data.mixture.centres[data.train.y]
    n = residual.numel()
    assert residual.mean().abs() < 5 * std / n**0.5
    assert residual.std().item() == pytest.approx(std, abs=5 * std / (2 * n) ** 0.5)
    counts = torch.bincount(data.train.y, minlength=25)
    assert (counts - 4000).abs().max() < 5 * (4000 * 24 / 25) ** 0.5
    assert not torch.equal(data.validation.x, data.test.x)


def test_alice_toy_is_five_gaussians_apart() -> None:
    data = load("alice_toy")
    assert data.mixture is not None
    assert set(map(tuple, data.mixture.centres.tolist())) == {(0, 0), (-2, -2), (-2, 2), (2, -2), (2, 2)}
    assert [len(split) for split in (data.train, data.validation, data.test)] == [2048, 1024, 1024]
    residual = data.train.x - data.mixture.centres[data.train.y]
    assert residual.std().item() == pytest.approx(0.2, abs=0.01)  # not 0.04, which is the variance
    assert (torch.bincount(data.train.y, minlength=5) - 2048 / 5).abs().max() < 5 * (2048 * 4 / 25) ** 0.5
    assert not torch.equal(data.validation.x, data.test.x)


@pytest.mark.parametrize(
    "x", [torch.arange(12).view(6, 2), torch.zeros(6, 1, 8, 8, dtype=torch.int64), torch.ones(6, 2) > 0]
)
def test_discrete_data_are_refused_by_name_and_the_reason_given(x: torch.Tensor) -> None:
    split = Split(x, torch.zeros(6))
    with pytest.raises(BadInput, match=r"'bits' holds .* continuous"):
        Data("bits", split, split, split, classes=1)


def test_an_epoch_shows_every_sample_once_and_the_next_another_order() -> None:
    x = torch.arange(20, dtype=torch.float32)[:, None]
    batches = Batches(Split(x, x[:, 0].long()), 6, generator(0, "test"))
    epochs = [
        torch.cat([batches.load(*batches.pick())[0] for _ in range(3)]).flatten().tolist() for _ in range(2)
    ]
    assert all(len(set(epoch)) == 18 for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_batches_are_images_in_zero_to_one_with_their_labels(digits: Data) -> None:
    batches = Batches(digits.train, 50, generator(0, "test"))
    x, y = batches.load(*batches.pick())
    assert x.dtype == torch.float32
    assert x.min() == 0
    assert x.max() == 1
    known = {
        image.numpy().tobytes(): int(label)
        for image, label in zip(digits.train.x, digits.train.y, strict=True)
    }
    assert [known[image.numpy().tobytes()] for image in as_uint8(x)] == y.tolist()


@pytest.mark.parametrize("n", [100, 640, 1300])  # less than a chunk, just one, two and a remainder
def test_streamed_batches_are_the_resident_ones(n: int) -> None:
    x, y = torch.randint(256, (n, 1, 2, 2), dtype=torch.uint8), torch.arange(n)
    resident, streamed = (
        Batches(Split(x, y), 10, generator(0, "test"), resident) for resident in (True, False)
    )
    assert resident.x is x  # on a CPU nothing is copied
    for _ in range(2 * n // 10 + 1):  # two epochs, and into the third
        for kept, sent in zip(resident.load(*resident.pick()), streamed.load(*streamed.pick()), strict=True):
            assert torch.equal(kept, sent)
    # what else is drawn from the same generator is the same, too
    assert torch.equal(*(torch.rand(3, generator=batches.rng) for batches in (resident, streamed)))


@pytest.mark.gpu
def test_streamed_batches_are_the_resident_ones_on_cuda() -> None:
    x, y = torch.randint(256, (5000, 3, 32, 32), dtype=torch.uint8), torch.arange(5000)
    resident, streamed = (
        Batches(Split(x, y), 10, generator(0, "test", "cuda"), resident) for resident in (True, False)
    )
    for _ in range(1001):
        for kept, sent in zip(resident.load(*resident.pick()), streamed.load(*streamed.pick()), strict=True):
            assert kept.is_cuda
            assert torch.equal(kept, sent)


def test_attributes_count_as_labels() -> None:
    x = torch.zeros(6, 1, 8, 8, dtype=torch.uint8)
    classes, attributes = Split(x, torch.arange(6) % 3), Split(x, torch.zeros(6, 40, dtype=torch.uint8))
    assert Data("three", classes, classes, classes, classes=3).labels == 3
    assert Data("faces", attributes, attributes, attributes, classes=0).labels == 40


def test_uint8_survives_the_way_to_floats_and_back() -> None:
    every = torch.arange(256, dtype=torch.uint8).view(1, 1, 16, 16)
    assert torch.equal(as_uint8(as_float(every)), every)
    assert as_uint8(torch.tensor([-0.2, 1.7])).tolist() == [0, 255]


def test_streams_of_different_seeds_and_purposes_differ() -> None:
    draws = {
        (seed, purpose): torch.rand(3, generator=generator(seed, purpose))
        for seed in (0, 1)
        for purpose in "ab"
    }
    assert len({tuple(draw.tolist()) for draw in draws.values()}) == 4
