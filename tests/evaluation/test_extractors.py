"""Extractors: the dataset's own classifier, Inception with random weights, and files that are wrong."""

import hashlib
import io
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

from alibench.benchmarks.commands.cli import main
from alibench.benchmarks.data import datasets as sets
from alibench.benchmarks.data.published import PUBLISHED
from alibench.benchmarks.data.sources import Options
from alibench.evaluation import sealed
from alibench.evaluation.data import Data, Split, as_float
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features import (
    classifier_networks,
    classifiers,
    extractors,
    fitting,
    inception_weights,
)
from alibench.evaluation.features.extractor import Extractor
from alibench.evaluation.metrics import fidelity
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.evaluation.store import home
from tests.evaluation.conftest import cell
from tests.evaluation.test_files import Payload

pytestmark = pytest.mark.usefixtures("own_home")


def images(n: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    return torch.randint(256, (n, *shape), generator=generator(seed, "test images")).to(torch.uint8)


def some(shape: tuple[int, ...], classes: int = 2, n: int = 6) -> Data:
    """Return a dataset of noise, six images a split."""
    splits = (Split(images(n, shape, seed), torch.arange(n) % max(classes, 1)) for seed in range(3))
    return Data("noise", *splits, classes=classes)


# -------------------- the dataset's own classifier


@pytest.mark.commands
def test_the_shipped_extractor_is_what_its_command_makes_and_knows_digits(digits: Data) -> None:
    shipped, fitted = extractors.get(digits, Settings()), fitting.fit(digits)
    x, y = digits.test.x, digits.test.y
    guesses = shipped(x)[1].argmax(1)
    assert (guesses == y).double().mean() > 0.95
    # another machine's arithmetic moves weights a little in 840 steps, not what they know
    assert (guesses == fitted(as_float(x))[1].argmax(1)).double().mean() > 0.97
    said = extractors.provenance(digits, Settings())
    assert said["command"] == "alibench fit-extractor digits"
    assert digits.sha256 in said["data"]
    assert said["identity"] == f"digits-cnn@{said['sha256'][:8]}" == "digits-cnn@6dd237b5"
    assert hashlib.sha256(classifiers.path(digits).read_bytes()).hexdigest() == said["sha256"]


@pytest.fixture
def stripes(tmp_path: Path) -> Path:
    """Write images 12x10 of two classes, lying and standing stripes in noise."""
    rng = np.random.RandomState(0)
    y = np.arange(200) % 2
    lying, standing = np.indices((12, 10)) // 2 % 2
    x = np.where(y[:, None, None], standing, lying) * 150 + rng.randint(100, size=(200, 12, 10))
    np.savez(tmp_path / "stripes.npz", x=x.astype(np.uint8), y=y)
    return tmp_path / "stripes.npz"


def test_one_command_fits_a_classifier_to_any_data_with_classes(
    stripes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name = f"npz:{stripes}"
    data = sets.load(name)
    assert fidelity.unsupported_reason(data, Settings()).startswith(
        "dataset 'stripes' has no classifier yet: run 'alibench fit-extractor stripes'"
    )
    assert main(["fit-extractor", name]) == 0
    file = home() / "extractors" / f"stripes-cnn-{data.sha256[:16]}.safetensors"
    assert str(file) in capsys.readouterr().out
    assert [p.name for p in file.parent.iterdir()] == [file.name]
    assert fidelity.unsupported_reason(data, Settings()) == ""
    extractor = extractors.get(data, Settings())
    features, logits = extractor(data.test.x)
    assert logits is not None
    assert features.shape == (len(data.test), extractor.width)
    assert (logits.argmax(1) == data.test.y).double().mean() > 0.9
    said = extractors.provenance(data, Settings())
    assert said["command"] == f"alibench fit-extractor {name}"
    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    right = f"right in {float(said['accuracy'].split()[0]):.2f} % of validation, by chance in 50.00 %"
    assert said["identity"] == f"stripes-cnn@{sha256[:8]}, {right}"
    assert data.sha256 in said["data"]
    assert said["accuracy"].endswith("% on validation")
    assert (said["largest_class"], said["images"]) == ("10", "20")


def test_a_classifier_no_better_than_chance_is_refused_with_both_numbers() -> None:
    data = some((1, 8, 8), n=12)
    network = classifier_networks.ImageCNN(1, 2)
    torch.nn.init.zeros_(network.head.weight)  # it says one class of all
    fitting.save(network, data, "a test")
    reason = fidelity.unsupported_reason(data, Settings())
    assert (
        "is right in 6 of 12 validation images, and 6 are of the largest class: that is not better" in reason
    )
    with pytest.raises(BadInput, match="not better than chance"):
        extractors.get(data, Settings())

    # weights of earlier versions say nothing of it: it is counted
    kept, about = sealed.read_tensors(classifiers.path(data), "classifier", 1)
    about = {key: value for key, value in about.items() if key not in classifiers.COUNTS}
    sealed.write_tensors(classifiers.path(data), "classifier", 1, kept, about)
    assert fidelity.unsupported_reason(data, Settings()) == reason


@pytest.mark.parametrize(
    ("right", "largest", "images", "refused"), [(10, 10, 22, True), (6, 3, 6, False), (8, 4, 9, False)]
)
def test_few_images_are_enough_for_a_clear_case(right: int, largest: int, images: int, refused: bool) -> None:
    with pytest.raises(BadInput) if refused else nullcontext():
        classifiers.Skill(right, largest, images).check(some((1, 8, 8)))


@pytest.mark.parametrize(("name", "least"), [("mnist", 98.5), ("fashion_mnist", 90.5)])
def test_weights_for_published_images_come_with_the_project(name: str, least: float) -> None:
    splits = [Split(images(20, (1, 28, 28), seed), torch.arange(20) % 10) for seed in range(3)]
    data = Data(name, *splits, classes=10, extractor=f"{name}-cnn")
    extractor = extractors.get(data, Settings())
    assert extractor.identity == f"{name}-cnn@{classifiers.SHA256_SHIPPED[f'{name}-cnn'][:8]}"
    features, logits = extractor(data.test.x)
    assert (features.shape, logits.shape) == ((20, 64), (20, 10))
    said = extractors.provenance(data, Settings())
    assert said["command"] == f"alibench fit-extractor {name}"
    assert float(said["accuracy"].split()[0]) >= least
    assert classifiers.path(data).stat().st_size < 1_000_000
    # found by the name of the set, in whatever order its images are; other images called so have none
    flipped = replace(data, train=Split(splits[0].x.flip(0), splits[0].y.flip(0)))
    assert extractors.get(flipped, Settings()).identity == extractor.identity
    assert "has no classifier yet" in extractors.unsupported_reason(replace(data, extractor=""), Settings())
    asked = (Options(), Options(size=28, seed=3), Options(size=32), Options(channels=3))
    assert [PUBLISHED[name]().extractor(options) for options in asked] == [f"{name}-cnn"] * 2 + [""] * 2


def test_to_fit_again_leaves_shipped_weights_alone(digits: Data, own_home: Path) -> None:
    before = classifiers.path(digits).read_bytes()
    file, _ = fitting.save(classifier_networks.DigitsCNN(), digits, "a test")
    assert file.is_relative_to(own_home)
    assert classifiers.path(digits).read_bytes() == before
    assert extractors.get(digits, Settings()).identity == "digits-cnn@6dd237b5"


def test_a_fit_sees_so_many_images_that_it_takes_a_minute() -> None:
    def of(n: int, name: str = "") -> fitting.Schedule:
        x = torch.zeros(1, 1, 1, 1, dtype=torch.uint8).expand(n, 1, 28, 28)
        part = Split(x, torch.arange(n) % 10)
        return fitting.schedule(Data("set", part, part, part, classes=10, extractor=name))

    plans = (of(50_000, "mnist-cnn"), of(50_000), of(1087), of(30))
    assert [plan.steps * plan.batch for plan in plans] == [100_000, 200_000, 40 * 1050, 40 * 30]
    plan = of(50_000, "mnist-cnn")
    rates = [plan.factor(step) for step in range(plan.steps + 1)]
    assert max(rates) == pytest.approx(1.0, abs=2e-3)
    assert (rates.index(max(rates)) + 1, rates[-1]) == (plan.rising * plan.steps, 0.0)
    assert [of(1087).factor(step) for step in (0, 420, 840)] == [1.0, 0.5, 0.0]


def test_a_classifier_belongs_to_the_data_that_it_was_fitted_to(
    stripes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, options = f"npz:{stripes}", ["--size", "16", "--channels", "3"]
    assert main(["fit-extractor", name, *options]) == 0
    resized = sets.load(name, sets.Options(size=16, channels=3))
    assert extractors.unsupported_reason(resized, Settings()) == ""
    assert extractors.provenance(resized, Settings())["command"].endswith("--size=16 --channels=3")
    plain = sets.load(name)
    assert "has no classifier yet" in extractors.unsupported_reason(plain, Settings())
    other = replace(resized, name="other", content="f" * 64)
    classifiers.path(resized).rename(classifiers.path(other))
    assert "was fitted to other data" in extractors.unsupported_reason(other, Settings())
    classifiers.path(other).write_bytes(classifiers.path(other).read_bytes()[:1000])
    assert "cannot be used" in extractors.unsupported_reason(other, Settings())


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 7, 5), (3, 32, 32), (3, 64, 48)])
def test_the_network_takes_images_of_any_size(shape: tuple[int, int, int]) -> None:
    features, logits = classifier_networks.ImageCNN(shape[0], 3)(as_float(images(2, shape)))
    assert (features.shape, logits.shape) == ((2, 64), (2, 3))


def test_data_without_classes_are_sent_to_inception(digits: Data) -> None:
    refusal = extractors.unsupported_reason(replace(digits, classes=0, extractor=""), Settings())
    assert refusal.startswith("dataset 'digits' has no feature extractor")
    assert "evaluation.extractor=inception" in refusal
    with pytest.raises(BadInput, match="points, not images"):
        fitting.fit(sets.load("grid25"))
    refusal = extractors.unsupported_reason(sets.load("grid25"), Settings(extractor="inception"))
    assert "points, not images" in refusal


# -------------------- the user's own


def test_an_extractor_of_the_users_is_found_by_name(digits: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractors, "MAKERS", {})

    def brightness(x: Tensor) -> tuple[Tensor, None]:
        return as_float(x).mean((1, 2, 3))[:, None], None

    extractors.register(
        "brightness", lambda data, settings, device: Extractor("brightness", "ab" * 32, 1, brightness, device)
    )
    found = extractors.get(digits, Settings(extractor="brightness"))
    assert found.identity == "brightness@abababab"
    features, logits = found(digits.test.x)
    assert logits is None
    torch.testing.assert_close(features[:, 0], digits.test.x.float().mean((1, 2, 3)) / 255)
    meant = rf"did you mean 'brightness'\? there are: {', '.join(extractors.BUILT_IN)}, brightness"
    with pytest.raises(BadInput, match=meant):
        extractors.unsupported_reason(digits, Settings(extractor="brightnes"))
    with pytest.raises(BadInput, match="built in"):
        extractors.register("inception", lambda data, settings, device: found)


# ------------------------------------------------------------------------------------------------ Inception


class Untrained(FeatureExtractorInceptionV3):
    """The true architecture, which torch-fidelity cannot build without a file of weights."""

    def __init__(self) -> None:
        nothing = io.BytesIO()
        torch.save({}, nothing)
        nothing.seek(0)
        super().__init__("untrained", ["2048"], feature_extractor_weights_path=nothing)

    def load_state_dict(self, *args: object, **kwargs: object) -> None:
        pass


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a file of random weights, scaled so that images differ in the last layer."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = Untrained()
        for module in network.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(network.state_dict(), path)
    return path


def by(file: Path) -> Settings:
    """Return settings that name a file of Inception's weights."""
    return Settings(extractor="inception", inception=str(file))


def hollow(weights: Path) -> dict[str, Tensor]:
    """Return tensors of Inception's names and shapes that take no room in a file."""
    state = torch.load(weights, weights_only=True, mmap=True)
    return {name: tensor.new_zeros(()).expand(tensor.shape) for name, tensor in state.items()}


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32)])
def test_features_are_those_of_torch_fidelitys_own_extractor(shape: tuple[int, ...], weights: Path) -> None:
    x = images(3, shape)
    extractor = extractors.get(some(shape), by(weights))
    features, logits = extractor(x)
    wanted = ["2048", "logits_unbiased"]
    own = FeatureExtractorInceptionV3("own", wanted, feature_extractor_weights_path=str(weights))
    expected = own(x.expand(-1, 3, -1, -1))
    assert torch.equal(features, expected[0])
    assert torch.equal(logits, expected[1])
    assert features.shape == (3, extractor.width)
    assert float(features.std(0).mean()) > 0
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    grey = ", grey repeated to 3 channels" if shape[0] == 1 else ""
    assert (extractor.sha256, extractor.identity) == (sha256, f"inception@{sha256[:8]}{grey}")


def test_fidelity_by_inception_says_so_and_refuses_fid_of_too_few(weights: Path) -> None:
    data, settings = some((3, 9, 9), classes=0), by(weights)
    assert fidelity.unsupported_reason(data, settings) == ""
    against = fidelity.Against.of(data, settings, "test")
    rows = against.rows(fidelity.Features.of(data.validation.x, against.extractor))
    numbers = {row.metric: row.value for row in rows if row.value is not None}
    assert numbers.keys() == {"inception_score", "kid", "precision", "recall", "density", "coverage"}
    assert numbers["inception_score"] >= 1
    assert cell(rows, "fid").reason == "FID on 2048 features needs 8192 images on each side, there are 6"
    assert {row.extractor.partition("@")[0] for row in rows} == {"inception"}
    assert extractors.provenance(data, settings)["source"] == "a file of the user's"


def test_weights_may_be_safetensors(weights: Path, tmp_path: Path) -> None:
    file = tmp_path / "weights.safetensors"
    safetensors.torch.save_file(torch.load(weights, weights_only=True), file)
    x = images(1, (3, 8, 8))
    found = [extractors.get(some((3, 8, 8)), by(path))(x)[0] for path in (weights, file)]
    assert torch.equal(*found)


def refusal(path: Path) -> str:
    said = extractors.unsupported_reason(some((3, 8, 8)), by(path))
    assert "\n" not in said
    assert str(path) in said
    return said


def test_a_file_that_is_missing_cut_short_or_no_weights_is_named(weights: Path, tmp_path: Path) -> None:
    assert "No such file" in refusal(tmp_path / "nowhere.pth")
    assert "Is a directory" in refusal(tmp_path)
    whole, file = weights.read_bytes(), tmp_path / "w.pth"
    for content in (whole[: len(whole) // 2], whole[:-100], b"", b"<html>not found</html>", bytes(1000)):
        file.write_bytes(content)
        assert f"it is damaged or cut short ({len(content):,} bytes)" in refusal(file)
    torch.save([1, 2], file)
    assert "holds no weights by name" in refusal(file)
    short = tmp_path / "w.safetensors"
    short.write_bytes(b"\x08\x00\x00\x00\x00\x00\x00\x00{}")
    assert "damaged or cut short" in refusal(short)


def test_the_first_tensor_of_another_network_is_named(weights: Path, tmp_path: Path) -> None:
    state = hollow(weights)
    smaller = state | {"fc.weight": torch.zeros(1).expand(1000, 2048)}
    for difference, tensors in (
        ("its tensor 'fc.weight' has shape (1000, 2048), Inception's (1008, 2048)", smaller),
        ("it has no tensor 'fc.bias'", {name: tensor for name, tensor in state.items() if name != "fc.bias"}),
        (
            "its tensor 'AuxLogits.fc.weight' is not Inception's",
            state | {"AuxLogits.fc.weight": torch.zeros(1)},
        ),
        ("it has no tensor 'Conv2d_1a_3x3.conv.weight'", {"conv1.weight": torch.zeros(64, 3, 7, 7)}),
    ):
        torch.save(tensors, tmp_path / "other.pth")
        assert f"another network than Inception: {difference}; take" in refusal(tmp_path / "other.pth")


class Planted(Payload):
    """One whose function is not on torch's own list of dangerous ones."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.mark,)


@pytest.mark.filterwarnings("ignore:.torch.jit:FutureWarning")
def test_code_in_a_file_of_weights_does_not_run(weights: Path, tmp_path: Path) -> None:
    canary, planted, scripted = (tmp_path / name for name in ("canary", "planted.pth", "scripted.pth"))
    torch.save({**hollow(weights), "planted": Planted(canary)}, planted)
    torch.jit.save(torch.jit.trace(nn.Linear(1, 1), torch.zeros(1, 1)), scripted)
    for file in (planted, scripted):
        assert "code that would run: it was not loaded" in refusal(file)
    assert not canary.exists()
    with pytest.raises(RuntimeError, match="planted"):  # torch-fidelity refuses it too, after it has run
        FeatureExtractorInceptionV3("own", ["2048"], feature_extractor_weights_path=str(planted))
    assert canary.exists()


def test_weights_are_downloaded_once_and_verified(
    weights: Path, own_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data, settings = some((3, 8, 8)), Settings(extractor="inception")
    kept = own_home / "extractors" / "weights-inception-2015-12-05-6726825d.pth"
    monkeypatch.setattr(inception_weights, "URL", weights.as_uri())
    refused = extractors.unsupported_reason(data, settings)
    assert "gave something else than was published" in refused
    assert f"put {kept.name} into {kept.parent}, or name a file by evaluation.inception" in refused
    assert not kept.parent.exists()
    sha256 = hashlib.sha256(weights.read_bytes()).hexdigest()
    monkeypatch.setattr(inception_weights, "SHA256", sha256)
    assert extractors.get(data, settings).sha256 == sha256
    assert [p.name for p in kept.parent.iterdir()] == [kept.name]
    assert "downloading Inception's weights" in capsys.readouterr().err
    monkeypatch.setattr(inception_weights, "URL", (own_home / "nowhere").as_uri())
    assert extractors.unsupported_reason(data, settings) == ""  # offline, from the file that is there
    assert capsys.readouterr().err == ""
    kept.write_bytes(kept.read_bytes()[:-1])
    assert "is not what was published" in extractors.unsupported_reason(data, settings)
    kept.unlink()
    assert "cannot download Inception's weights from file://" in extractors.unsupported_reason(data, settings)
