"""LPIPS against torch-fidelity's, with random weights of the true shapes."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch_fidelity import sample_similarity_lpips as theirs
from torchvision.models import vgg16

from alibench.evaluation.data import Data, Split
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features import perceptual
from alibench.evaluation.measurement import Measurement
from alibench.evaluation.metrics import reconstruction
from alibench.evaluation.objects import ObjectModel
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from alibench.evaluation.subject import Subject
from tests.evaluation.conftest import cell

Weights = tuple[Path, dict[str, torch.Tensor], dict[str, torch.Tensor]]


def bare(weights: None = None) -> torch.nn.Module:
    """Return the network without numbers: its classifier, which LPIPS leaves out, takes long to fill."""
    with torch.device("meta"):
        made = vgg16(weights=weights)
    made.features.to_empty(device="cpu")
    return made


@pytest.fixture(autouse=True)
def unfilled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let LPIPS fill what it needs, and no more."""
    monkeypatch.setattr("torchvision.models.vgg16", bare)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Return a folder with both files, and what they hold."""
    rng, folder = generator(0, "lpips"), tmp_path_factory.mktemp("lpips")
    shapes = {name: tensor.shape for name, tensor in bare().features.state_dict().items()}
    scales = {
        name: (2 / shape[1:].numel()) ** 0.5 if len(shape) > 1 else 0.1 for name, shape in shapes.items()
    }
    vgg = {f"features.{name}": scales[name] * torch.randn(shapes[name], generator=rng) for name in shapes}
    channels = {
        f"lin{i}.model.1.weight": torch.rand(1, width, 1, 1, generator=rng)
        for i, width in enumerate((64, 128, 256, 512, 512))
    }
    torch.save(vgg, folder / perceptual.VGG)
    torch.save(channels, folder / perceptual.CHANNELS)
    return folder, vgg, channels


def test_it_is_the_distance_of_torch_fidelity(weights: Weights, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, vgg, channels = weights

    def network() -> torch.nn.Module:
        made = bare()
        made.load_state_dict(vgg, strict=False)
        return made

    monkeypatch.setattr(theirs, "torchvision_load_pretrained_vgg16", network)
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *args, **options: channels)
    rng = generator(1, "lpips")
    x, y = (torch.randint(256, (3, 3, 32, 32), generator=rng, dtype=torch.uint8) for _ in range(2))
    expected = theirs.SampleSimilarityLPIPS("lpips")(x, y).flatten()
    ours = perceptual.load(Settings(perceptual=str(folder)))
    torch.testing.assert_close(ours(x / 255, y / 255), expected, rtol=1e-4, atol=1e-7)
    assert ours(x / 255, x / 255).tolist() == [0.0] * 3


def test_weights_of_another_network_are_refused(weights: Weights, tmp_path: Path) -> None:
    folder, _, channels = weights
    (tmp_path / perceptual.VGG).symlink_to(folder / perceptual.VGG)
    for other in (
        channels | {"lin2.model.1.weight": torch.ones(1, 99, 1, 1)},
        {"lin0.weight": torch.ones(3)},
    ):
        torch.save(other, tmp_path / perceptual.CHANNELS)
        with pytest.raises(BadInput, match=r"holds the weights of another network than LPIPS \("):
            perceptual.load(Settings(perceptual=str(tmp_path)))


def test_it_stands_in_the_table_where_its_weights_are_there(weights: Weights, digits: Data) -> None:
    large = {
        name: Split(split.x.repeat_interleave(2, 2).repeat_interleave(2, 3)[:8], split.y[:8])
        for name, split in (("train", digits.train), ("validation", digits.validation), ("test", digits.test))
    }
    data = replace(digits, **large)

    def lpips(data: Data, settings: Settings) -> Measurement:
        shape = data.shape
        halves = SimpleNamespace(encode=lambda x: x.flatten(1) / 2, decode=lambda z: z.view(-1, *shape))
        rows = reconstruction.measure(Subject(ObjectModel(halves), data, settings, 0))
        return cell(rows, "lpips", protocol="mean code")

    row = lpips(data, Settings(perceptual=str(weights[0])))
    assert row.value > 0
    assert row.extractor.startswith("lpips-vgg@")
    absent = "LPIPS's weights are not in ALIBENCH_DATA: vgg16-397923af.pth, weights-vgg16-lpips.pth"
    for where, settings, reason in (
        (data, Settings(), absent),
        (data, Settings(perceptual="/nowhere"), "LPIPS's weights are not in the folder"),
        (digits, Settings(perceptual=str(weights[0])), "images are smaller than LPIPS takes"),
    ):
        row = lpips(where, settings)
        assert (row.value, row.status) == (None, "not applicable")
        assert reason in row.reason
