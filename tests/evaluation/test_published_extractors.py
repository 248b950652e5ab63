"""VGG16, DINOv2 and CLIP: true architectures without numbers, small ones with random weights, wrong files."""

import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch_fidelity import feature_extractor_vgg16 as theirs
from torchvision.models import vgg16
from torchvision.transforms import functional

from alibench.evaluation.features import extractors, perceptual, vision_transformers
from alibench.evaluation.features.extractor import Extractor
from alibench.evaluation.features.vision_transformers import ARCHITECTURES, VisionTransformer
from alibench.evaluation.metrics import fidelity
from alibench.evaluation.metrics.fidelity import Features
from alibench.evaluation.seeds import generator
from alibench.evaluation.settings import Settings
from tests.evaluation.conftest import cell, value
from tests.evaluation.test_extractors import images, some

pytestmark = pytest.mark.usefixtures("own_home")

DATA = some((3, 20, 24), classes=0)
BASE = Settings(extractor="dinov2-base")
PAGE = "model.safetensors from https://huggingface.co/timm/vit_base_patch14_dinov2.lvd142m"


def refusal(settings: Settings, *said: str) -> None:
    """Check the one line by which an extractor is refused."""
    reason = extractors.unsupported_reason(DATA, settings)
    assert "\n" not in reason
    for part in said:
        assert part in reason


# -------------------- the true architectures


def shapes(width: int, depth: int, tokens: int, clip: bool) -> dict[str, tuple[int, ...]]:
    """Return the tensors of a vision transformer with patches of 14 pixels, by the papers."""
    linear = {"attn.qkv": (3 * width, width), "attn.proj": (width, width)}
    linear |= {"mlp.fc1": (4 * width, width), "mlp.fc2": (width, 4 * width)}
    block = {f"{name}.weight": shape for name, shape in linear.items()}
    block |= {f"{name}.bias": shape[:1] for name, shape in linear.items()}
    block |= {f"norm{i}.{kind}": (width,) for i in (1, 2) for kind in ("weight", "bias")}
    block |= {} if clip else {"ls1.gamma": (width,), "ls2.gamma": (width,)}

    norms = ("norm", "norm_pre") if clip else ("norm",)
    whole = {"cls_token": (1, 1, width), "pos_embed": (1, tokens, width)}
    whole |= {"patch_embed.proj.weight": (width, 3, 14, 14)}
    whole |= {f"{norm}.{kind}": (width,) for norm in norms for kind in ("weight", "bias")}
    head = {"head.weight": (768, width), "head.bias": (768,)}
    whole |= head if clip else {"patch_embed.proj.bias": (width,)}
    return whole | {f"blocks.{i}.{name}": shape for i in range(depth) for name, shape in block.items()}


TRUE = {
    "dinov2": shapes(1024, 24, 1 + 37**2, clip=False),
    "dinov2-base": shapes(768, 12, 1 + 37**2, clip=False),
    "clip": shapes(1024, 24, 1 + 24**2, clip=True),
}


def hollow(name: str) -> dict[str, Tensor]:
    """Return tensors of an architecture's names and shapes that take no room."""
    return {key: torch.zeros(()).expand(shape) for key, shape in TRUE[name].items()}


@pytest.mark.parametrize(
    ("name", "width", "tokens"), [("dinov2", 1024, 257), ("dinov2-base", 768, 257), ("clip", 768, 577)]
)
def test_the_architectures_are_the_published_ones(name: str, width: int, tokens: int) -> None:
    timm = pytest.importorskip("timm", reason="the extra 'extractors' is not installed")
    made = VisionTransformer(ARCHITECTURES[name], hollow(name))
    assert made.width == width
    assert made.network.pos_embed.shape[1] == tokens
    assert {tensor.device.type for tensor in made.state_dict().values()} == {"cpu"}
    assert not any(
        part.training or any(p.requires_grad for p in part.parameters()) for part in made.modules()
    )

    # OpenAI trained with QuickGELU: the same weights with another GELU give other embeddings
    activation = made.network.blocks[0].mlp.act
    assert isinstance(activation, timm.layers.activations.QuickGELU if name == "clip" else nn.GELU)
    assert isinstance(made.network.head, nn.Linear if name == "clip" else nn.Identity)

    # and its weights are in the repository that timm names
    architecture = ARCHITECTURES[name]
    tag = architecture.repository.partition(".")[2]
    config = timm.get_pretrained_cfg(f"{architecture.name}.{tag}")
    assert (config.hf_hub_id, config.num_classes) == (architecture.repository, architecture.outputs)
    assert (config.mean, config.std, config.interpolation) == (*architecture.normalised, "bicubic")


def test_the_first_tensor_of_another_network_is_named() -> None:
    pytest.importorskip("timm", reason="the extra 'extractors' is not installed")
    base = hollow("dinov2-base")
    for name, weights, difference in (
        ("dinov2", base, r"'cls_token' has shape \(1, 1, 768\), DINOv2's \(1, 1, 1024\)"),
        ("dinov2-base", base | {"mask_token": torch.zeros(1)}, r"'mask_token' is not DINOv2-base's"),
        ("dinov2-base", {"conv1.weight": torch.zeros(1)}, "it has no tensor 'cls_token'"),
    ):
        with pytest.raises(ValueError, match=difference):
            VisionTransformer(ARCHITECTURES[name], weights)


# -------------------- a small one, by the same code


def by_pillow(x: Tensor, side: int) -> Tensor:
    """Return uint8 images (B, 3, side, side) as the published code resizes pictures."""
    size, bicubic = [side, side], functional.InterpolationMode.BICUBIC
    pictures = (functional.resize(functional.to_pil_image(image), size, bicubic) for image in x)
    return torch.stack([functional.pil_to_tensor(picture) for picture in pictures])


@pytest.fixture
def small(own_home: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Tensor]:
    """Put timm's smallest vision transformer in the place of two, with random weights in their files."""
    timm = pytest.importorskip("timm", reason="the extra 'extractors' is not installed")
    for name, outputs in (("dinov2-base", 0), ("clip", 8)):
        architecture = replace(ARCHITECTURES[name], name="test_vit", side=96, outputs=outputs)
        monkeypatch.setitem(ARCHITECTURES, name, architecture)
        with torch.device("meta"):
            empty = timm.create_model("test_vit", num_classes=outputs).state_dict()
        rng = generator(0, "weights")
        weights = {
            key: torch.randn(tensor.shape, generator=rng) / tensor.shape[-1] ** 0.5
            for key, tensor in empty.items()
        }
        (own_home / "extractors").mkdir(parents=True, exist_ok=True)
        safetensors.torch.save_file(weights, own_home / "extractors" / f"{name}.safetensors")
    return weights


def test_features_are_the_class_token_of_images_as_published(
    small: dict[str, Tensor], own_home: Path
) -> None:
    timm = pytest.importorskip("timm", reason="the extra 'extractors' is not installed")
    file = own_home / "extractors" / "clip.safetensors"
    extractor = extractors.get(DATA, Settings(extractor="clip"))
    x = images(2, (3, 20, 24))
    features, logits = extractor(x)
    assert logits is None

    # by Pillow, and by timm's own network
    network = timm.create_model("test_vit", num_classes=8, img_size=96).eval()
    network.load_state_dict(small | {"pos_embed": vision_transformers.positions(small["pos_embed"], 6)})
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    seen = functional.normalize(by_pillow(x, 96) / 255, mean, std)
    with torch.no_grad():
        token = network.forward_features(seen)[:, 0]
        expected = token @ small["head.weight"].T + small["head.bias"]
    torch.testing.assert_close(features, expected, rtol=1e-4, atol=1e-4)
    assert float(features.std(0).mean()) > 0

    sha256 = hashlib.sha256(file.read_bytes()).hexdigest()
    assert extractor.identity == f"clip@{sha256[:8]}, squashed to a square"
    origin = extractors.provenance(DATA, Settings(extractor="clip"))
    assert origin["sha256"] == sha256
    assert origin["architecture"] == f"test_vit of timm {timm.__version__}"


def test_grey_images_are_repeated_and_a_file_may_be_named(small: dict[str, Tensor], own_home: Path) -> None:
    named = (own_home / "extractors" / "dinov2-base.safetensors").rename(own_home / "x.safetensors")
    grey, colour = (some((channels, 9, 9)) for channels in (1, 3))
    settings = replace(BASE, weights=str(named))
    x = images(2, (1, 9, 9))
    of_grey, of_colour = (extractors.get(data, settings) for data in (grey, colour))
    assert torch.equal(of_grey(x)[0], of_colour(x.repeat(1, 3, 1, 1))[0])
    assert of_grey.identity == f"{of_colour.identity}, grey repeated to 3 channels"


def test_images_are_resized_as_pillow_does_to_within_a_level() -> None:
    for shape, side in (((3, 9, 7), 32), ((3, 64, 48), 20)):
        x = images(2, shape)
        ours, expected = vision_transformers.resized(x, side), by_pillow(x, side).float()
        assert float((ours - expected).abs().max()) <= 1
        assert float((ours == expected).float().mean()) > 0.99


def cubic(n: int, before: int, factor: float) -> np.ndarray:
    """Return the matrix (n, before) of bicubic interpolation, a = -3/4, edges repeated."""
    matrix = np.zeros((n, before))
    for i in range(n):
        centre = (i + 0.5) / factor - 0.5
        for j in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            d = abs(centre - j)
            near, far = 1.25 * d**3 - 2.25 * d**2 + 1, -0.75 * (d**3 - 5 * d**2 + 8 * d - 4)
            matrix[i, min(max(j, 0), before - 1)] += near if d <= 1 else far
    return matrix


def test_positions_are_interpolated_as_dinov2s_code_does() -> None:
    embedding = torch.randn(1, 1 + 37**2, 2, generator=generator(0, "positions"))
    ours = vision_transformers.positions(embedding, 16)
    assert torch.equal(ours[:, 0], embedding[:, 0])
    matrix = cubic(16, 37, 16.1 / 37)
    grid = embedding[0, 1:].double().numpy().reshape(37, 37, 2)
    expected = np.einsum("ia,jb,abd->ijd", matrix, matrix, grid).reshape(256, 2)
    np.testing.assert_allclose(ours[0, 1:].numpy(), expected, atol=1e-5)


# -------------------- files that are wrong


def test_a_missing_file_is_named_with_its_place_and_source(own_home: Path) -> None:
    pytest.importorskip("timm", reason="the extra 'extractors' is not installed")
    place = own_home / "extractors" / "dinov2-base.safetensors"
    refusal(
        BASE,
        f"cannot read DINOv2-base's weights {place} (No such file or directory): put {PAGE} there",
        "or name a file by evaluation.weights; its sha256 will stand in every result",
    )
    refusal(replace(BASE, weights="a\0b.safetensors"), "null byte")
    refusal(replace(BASE, weights="weights.pth"), "weights.pth is not a .safetensors file: take " + PAGE)
    assert not own_home.exists()


def test_a_wrong_file_is_refused(small: dict[str, Tensor], own_home: Path) -> None:
    place = own_home / "extractors" / "dinov2-base.safetensors"
    safetensors.torch.save_file(small, place)  # with a head
    another = "holds the weights of another network than DINOv2-base: its tensor 'head.bias' is not"
    refusal(BASE, f"{place} {another} DINOv2-base's; take {PAGE}")
    place.write_bytes(place.read_bytes()[:-1])
    refusal(BASE, f"{place} cannot be read, it is damaged or cut short", f"take {PAGE} again")


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vision_transformers, "find_spec", lambda name: None)
    refusal(BASE, "extractor 'dinov2-base' needs the package timm: pip install timm (extra 'extractors')")


# -------------------- CMMD


def by_hand(a: np.ndarray, b: np.ndarray) -> float:
    """Return the biased squared MMD in thousandths, each kernel by itself."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))

    def mean(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.mean([np.exp(-((p - q) ** 2).sum() / 200) for p in x for q in y]))

    return 1000 * (mean(a, a) + mean(b, b) - 2 * mean(a, b))


def test_cmmd_is_the_biased_mmd_of_unit_vectors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fidelity, "CHUNK", 7)
    rng = np.random.RandomState(0)
    a, b = rng.standard_normal((30, 5)) + 1, 3 * rng.standard_normal((20, 5))
    x, y = (Features(torch.from_numpy(part), None) for part in (a, b))
    assert fidelity.clip_distance(x, y) == pytest.approx(by_hand(a, b), rel=1e-9)
    assert fidelity.clip_distance(x, x) == 0.0

    # two opposite points: 2 (1 - exp(-2 / 100))
    one, other = (Features(sign * torch.tensor([[3.0, 4.0]]), None) for sign in (1, -1))
    assert fidelity.clip_distance(one, other) == pytest.approx(2000 * (1 - np.exp(-0.02)), rel=1e-9)


def test_clip_alone_gives_cmmd(small: dict[str, Tensor]) -> None:
    def rows(extractor: str) -> list:
        against = fidelity.Against.of(DATA, Settings(extractor=extractor), "test")
        return against.rows(Features.of(DATA.validation.x, against.extractor))

    measured = rows("clip")
    clip: Extractor = extractors.get(DATA, Settings(extractor="clip"))
    sides = (clip(split.x)[0].double().numpy() for split in (DATA.validation, DATA.test))
    assert value(measured, "cmmd") == pytest.approx(by_hand(*sides), rel=1e-6)
    row = cell(measured, "cmmd")
    assert (row.unit, row.protocol, row.n) == ("thousandths", "biased MMD², Gaussian kernel", 6)
    titles = {row.metric for row in measured}
    assert titles == {column.metric for column in fidelity.columns(Settings(extractor="clip"))}
    assert {row.metric for row in rows("dinov2-base")} == titles - {"cmmd"}


# -------------------- VGG16


@pytest.fixture
def vgg(tmp_path: Path) -> Path:
    """Write a file of VGG16's shapes: numbers that differ, of which a large tensor repeats a few thousand."""
    with torch.device("meta"):
        empty = vgg16(weights=None).state_dict()
    rng = generator(0, "vgg16")

    def filled(shape: torch.Size) -> Tensor:
        if len(shape) == 2:  # a number for each diagonal
            line = torch.randn(sum(shape), generator=rng) * (2 / shape[1]) ** 0.5
            return line.as_strided(shape, (1, 1))
        scale = (2 / shape[1:].numel()) ** 0.5 if len(shape) > 1 else 0.1
        return torch.randn(shape, generator=rng) * scale

    torch.save({name: filled(tensor.shape) for name, tensor in empty.items()}, tmp_path / perceptual.VGG)
    return tmp_path / perceptual.VGG


def test_vgg16_gives_the_features_of_torch_fidelity(vgg: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def network() -> nn.Module:
        with torch.device("meta"):
            made = vgg16(weights=None)
        made.load_state_dict(torch.load(vgg, weights_only=True), assign=True)
        return made

    # a seventh of 224 pixels: both take images of any size to 7x7 before the layers that are compared
    monkeypatch.setattr(theirs.FeatureExtractorVGG16, "INPUT_IMAGE_SIZE", 32)
    monkeypatch.setattr(theirs, "torchvision_load_pretrained_vgg16", network)
    x = images(2, (3, 20, 24))
    (expected,) = theirs.FeatureExtractorVGG16("own", ["fc2_relu"])(x)

    extractor = extractors.get(DATA, Settings(extractor="vgg16", perceptual=str(vgg.parent)))
    features, logits = extractor(x)
    assert logits is None
    assert torch.equal(features, expected)
    assert features.shape == (2, extractor.width)
    assert 0.1 < float((features > 0).double().mean()) < 0.9
    assert extractor.identity == f"vgg16@{hashlib.sha256(vgg.read_bytes()).hexdigest()[:8]}"
    assert extractor.origin == {"source": "a file of the user's"}


def test_vgg16_is_refused_without_its_file_or_by_another(vgg: Path, own_home: Path) -> None:
    page = "https://download.pytorch.org/models/vgg16-397923af.pth"
    place = own_home / "extractors" / perceptual.VGG
    missing = f"cannot read VGG16's weights {place} (No such file or directory): put {page} there"
    refusal(Settings(extractor="vgg16"), missing, "or name its folder by evaluation.perceptual")

    weights = torch.load(vgg, weights_only=True)
    del weights["classifier.6.bias"]
    torch.save(weights, vgg)
    line = "holds the weights of another network than VGG16: it has no tensor 'classifier.6.bias'; take "
    refusal(Settings(extractor="vgg16", perceptual=str(vgg.parent)), f"{vgg} {line}{page}")
