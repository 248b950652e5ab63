"""Feature extractors for the fidelity metrics: a data set's own classifier, Inception, and those that the
user registers.

`classifier` is a small network fitted to a data set's train labels. It stands in for Inception where images
are too small or too different for it. The one of digits ships with the project; `alibench fit-extractor
DATASET` makes any. `inception` is torch-fidelity's InceptionV3, with its weights from a file or a verified
download. Every result names the extractor and its weights' hash ("digits-cnn@<hash>"), so that nobody
compares such a number with an Inception score or a published FID.

No file of weights can run code here: safetensors hold tensors alone, and torch's own files are read as such.
"""

import hashlib
import io
import json
import os
import urllib.request
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from http.client import HTTPException
from itertools import islice, pairwise
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from alibench.evaluation import files, script, store
from alibench.evaluation.arithmetic import tf32
from alibench.evaluation.data import Data, Split, as_float
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.messages import say
from alibench.evaluation.seeds import generator
from alibench.evaluation.store import home
from alibench.evaluation.subject import Settings

WEIGHTS = Path(__file__).parents[1] / "weights"
INCEPTION = "weights-inception-2015-12-05-6726825d.pth"
URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION}"
SHA256 = "6726825d0af5f729cebd5821db510b11b1cfad8faad88a03f1befd49fb9129b2"
MEGABYTES = 96  # of Inception's weights
TIMEOUT = 30  # seconds without a byte
CPU = torch.device("cpu")


@dataclass(frozen=True)
class Extractor:
    """A network whose features images are compared by.

    It takes uint8 images (B, C, H, W) on its device to features (B, width) and, if it is a classifier, logits
    (B, K).
    """

    name: str
    sha256: str  # of its weights
    width: int
    network: Callable[[Tensor], tuple[Tensor, Tensor | None]]
    device: torch.device = CPU
    note: str = ""  # what images go through that it was not made for; of a classifier, how often it is right
    origin: Mapping[str, str] = field(default_factory=dict)  # how its weights were made

    @property
    def identity(self) -> str:
        """The name and the first eight digits of the weights' sha256, as results carry them."""
        return f"{self.name}@{self.sha256[:8]}" + (f", {self.note}" if self.note else "")

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return features (B, width) and logits (B, K), or None, of uint8 images (B, C, H, W), all on the
        CPU.
        """
        with torch.no_grad(), tf32(False):  # ten bits are too few
            features, logits = self.network(images.to(self.device))
        return features.cpu(), None if logits is None else logits.cpu()


Maker = Callable[[Data, Settings, torch.device], Extractor]
_MADE: dict[str, Maker] = {}
_EXPECTED = set[str]()  # hashes of data whose classifier will be fitted


def register(name: str, make: Maker) -> None:
    """Add an extractor of the user's, made for data, settings and a device; `evaluation.extractor` then takes
    its name.

    Do it in a file that `--plugin` names, or where a script begins, before its `if __name__ == "__main__":`
    the processes that do runs import the script again. In a notebook it serves `evaluate`, not runs.
    """
    if name in ("classifier", "inception"):
        raise BadInput(f"extractor '{name}' is built in: register yours by another name")
    _MADE[name], script.REGISTERED[name] = make, script.line()


def maker(name: str) -> Maker:
    """Return what makes the extractor of that name. Raises BadInput if there is none."""
    makers = {"classifier": _classifier, "inception": _inception, **_MADE}
    check_name(name, makers, "evaluation.extractor: unknown extractor")
    return makers[name]


def get(data: Data, settings: Settings, device: torch.device = CPU) -> Extractor:
    """Return the extractor that the settings name, for these data. Raises BadInput."""
    make = maker(settings.extractor)
    if not data.images:
        raise BadInput(f"data set '{data.name}' has no feature extractor: it has points, not images")
    return make(data, settings, device)


def refuses(data: Data, settings: Settings) -> str:
    """Say why there is no extractor, before anything is trained; weights are downloaded and checked.

    A dry run downloads nothing: it only says what would be. Raises BadInput for an unknown name, whatever the
    data.
    """
    maker(settings.extractor)
    if store.is_unwritten() and data.images and to_come(data, settings):
        return ""
    try:
        get(data, settings)
    except BadInput as problem:
        return str(problem)
    return ""


def expect(data: Data) -> None:
    """Take the data's classifier as fitted, as a dry run does where the command would fit it first."""
    _EXPECTED.add(data.sha256)


def to_come(data: Data, settings: Settings) -> str:
    """Say which weights the command would make or download; nothing, if they are there or will not come."""
    if settings.extractor == "classifier" and data.sha256 in _EXPECTED and not path(data).exists():
        return f"the classifier of '{data.name}' would be fitted first, to {len(data.train):,} images, for FID and KID"
    file = home() / "extractors" / INCEPTION
    if settings.extractor == "inception" and not settings.inception and not file.exists():
        return f"Inception's weights, {MEGABYTES} MB, would be downloaded into {file.parent}"
    return ""


def provenance(data: Data, settings: Settings) -> dict[str, str]:
    """Return the extractor's identity, its weights' hash, and what is known about how they were made."""
    extractor = get(data, settings)
    return {"identity": extractor.identity, "sha256": extractor.sha256, **extractor.origin}


# -------------------- the data set's own classifier


class DigitsCNN(nn.Module):
    """Grey 8x8 images in [0, 1] to features (B, 32) and logits (B, 10): LeNet-5's pattern, mean pooling and
    tanh.
    """

    width = 32

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(1, 32, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2)),  # 4x4
            *(nn.Conv2d(32, 64, 3, padding=1), nn.Tanh(), nn.AvgPool2d(2)),  # 2x2
            *(nn.Flatten(), nn.Linear(256, self.width), nn.Tanh()),
        )
        self.head = nn.Linear(self.width, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, 32) and logits (B, 10)."""
        features = self.body(x)
        return features, self.head(features)


class MnistCNN(nn.Module):
    """Grey 28x28 images in [0, 1] to features (B, 64) and logits (B, 10): convolutions with batch norm,
    pooled to 7x7.
    """

    width = 64

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(
                nn.Conv2d(1, 16, 5, padding=2, bias=False),
                nn.BatchNorm2d(16),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ),  # 14x14
            *(
                nn.Conv2d(16, 32, 3, padding=1, bias=False),
                nn.BatchNorm2d(32),
                nn.ReLU(),
                nn.MaxPool2d(2),
            ),  # 7x7
            *(nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()),
            *(nn.Flatten(), nn.Linear(64 * 7 * 7, self.width), nn.Tanh()),
        )
        self.head = nn.Linear(self.width, 10)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, 64) and logits (B, 10)."""
        features = self.body(x)
        return features, self.head(features)


class ImageCNN(nn.Module):
    """Images (B, channels, H, W) in [0, 1] of any size to features (B, 64) and logits (B, classes)."""

    width = 64

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        maps = (channels, 32, 64, 128)
        blocks = [
            # halves each side, rounded up, so that a side of 1 stays
            (nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.AvgPool2d(2, ceil_mode=True))
            for before, after in pairwise(maps)
        ]
        self.body = nn.Sequential(
            *(layer for block in blocks for layer in block),
            *(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(512, self.width), nn.Tanh()),
        )
        self.head = nn.Linear(self.width, classes)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return features (B, 64) and logits (B, classes)."""
        features = self.body(x)
        return features, self.head(features)


SHIPPED: dict[str, type[DigitsCNN] | type[MnistCNN]] = {
    "digits-cnn": DigitsCNN,
    "mnist-cnn": MnistCNN,
    "fashion_mnist-cnn": MnistCNN,
}
SHA256_SHIPPED = {  # of their files
    "digits-cnn": "6dd237b5b3f91a84393e129b6eeb13edaf15545fcec56dd854f22d373cbbc6b6",
    "mnist-cnn": "e0cbc00cec92f893ca8ee0d8764f811c6fd26eb2b952fbbbb554667542c880d7",
    "fashion_mnist-cnn": "f317a17db36fd4d7f1391ff993363e32e676518b5aee60bd7a4e9c1f1b05a577",
}
SIGNIFICANT = 0.05
KIND, VERSION = "classifier", 1  # of a file of weights that were fitted here


def path(data: Data) -> Path:
    """Return where the weights of the data set's classifier are, or would be: named by the data's content."""
    if data.extractor in SHIPPED:
        return WEIGHTS / f"{data.extractor}.safetensors"
    ending = f"-cnn-{data.sha256[:16]}.safetensors"
    return home() / "extractors" / f"{files.fitting(data.name, ending)}{ending}"


def _network(data: Data) -> DigitsCNN | MnistCNN | ImageCNN:
    return SHIPPED[data.extractor]() if data.extractor in SHIPPED else ImageCNN(data.shape[0], data.classes)


def _classifier(data: Data, settings: Settings, device: torch.device) -> Extractor:
    _check_classes(data)
    file = path(data)
    if not file.exists():
        raise BadInput(
            f"data set '{data.name}' has no classifier yet: run 'alibench fit-extractor {data.name}' "
            "(folder:PATH or npz:PATH by that name, with the same --size and --channels)"
        )
    network = _network(data)
    try:
        if data.extractor in SHIPPED:
            sha256, weights, origin = _shipped(data)
        else:
            sha256 = files.sha256(file, links=False)
            weights, origin = files.read_tensors(file, KIND, VERSION, dict[str, str])
        network.load_state_dict(weights)
    except (OSError, files.Damaged, RuntimeError) as error:
        line = str(error).splitlines()[0]
        raise BadInput(
            f"{file} cannot be used ({line}): remove it and run 'alibench fit-extractor' again"
        ) from None
    note = ""
    if data.extractor not in SHIPPED:
        if data.sha256 not in origin.get("data", ""):
            raise BadInput(
                f"{file} was fitted to other data: remove it and run 'alibench fit-extractor' again"
            )
        skill = (
            Skill.of(network.eval(), data)
            if "right" not in origin
            else Skill(*(int(origin[key]) for key in COUNTS))
        )
        skill.check(data)
        note = str(skill) if "right" in origin else ""  # what was fitted by earlier versions keeps its name
    network.to(device).eval().requires_grad_(False)
    return Extractor(
        data.extractor or f"{data.name}-cnn",
        sha256,
        network.width,
        lambda images: network(as_float(images)),
        device,
        note,
        origin,
    )


def _shipped(data: Data) -> tuple[str, dict[str, Tensor], dict[str, str]]:
    """Return the hash of weights that come with the project, the weights, and what their file says of them.

    Raises files.Damaged, or OSError.
    """
    raw = files.read(path(data), "arrays")
    if (sha256 := hashlib.sha256(raw).hexdigest()) != SHA256_SHIPPED[data.extractor]:
        raise files.Damaged("it is not what comes with the project")
    origin = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    if files.LABEL in origin:  # that of digits is older than this label
        origin = json.loads(json.loads(origin[files.LABEL])["about"])
    return sha256, safetensors.torch.load(raw), origin


def _check_classes(data: Data) -> None:
    if not data.images:
        raise BadInput(f"data set '{data.name}' has no feature extractor: it has points, not images")
    if data.classes < 2:
        raise BadInput(
            f"data set '{data.name}' has no feature extractor: it has no two classes to fit a classifier to; "
            "set evaluation.extractor=inception"
        )


COUNTS = "right", "largest_class", "images"  # of a file's entries, as numbers in text


@dataclass(frozen=True)
class Skill:
    """How often a classifier is right on validation, beside what guessing gives: the share of the largest
    class.
    """

    right: int
    largest: int
    images: int

    @classmethod
    def of(cls, network: nn.Module, data: Data) -> "Skill":
        """Count it."""
        y = data.validation.y
        right = round(accuracy(network, data.validation) * len(y) / 100)
        return cls(right, int(y.bincount().max()), len(y))

    def __str__(self) -> str:
        right, chance = (f"{100 * count / self.images:.2f} %" for count in (self.right, self.largest))
        return f"right in {right} of validation, by chance in {chance}"

    def check(self, data: Data) -> None:
        """Refuse one that is not better than chance, by an exact one-sided binomial test at 5 %. Raises
        BadInput.
        """
        from scipy.stats import binomtest  # takes a second to import

        chance = self.largest / self.images
        if binomtest(self.right, self.images, chance, alternative="greater").pvalue >= SIGNIFICANT:
            raise BadInput(
                f"the classifier of '{data.name}' is right in {self.right} of {self.images} validation "
                "images, and "
                f"{self.largest} are of the largest class: that is not better than chance, so its features "
                "say nothing of "
                "the images: fit it to more images, or set evaluation.extractor=inception"
            )


def accuracy(network: nn.Module, split: Split, device: torch.device = CPU) -> float:
    """Return the percentage of images that a classifier gets right."""
    right = 0
    with torch.no_grad():
        for x, y in zip(split.x.split(1000), split.y.split(1000), strict=True):
            right += int((network(as_float(x.to(device)))[1].argmax(1).cpu() == y).sum())
    return 100 * right / len(split)


def _batches(n: int, batch: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Yield indices of batches without end: a fresh permutation every epoch, its remainder dropped."""
    while True:
        yield from torch.randperm(n, generator=rng)[: n // batch * batch].split(batch)


@dataclass(frozen=True)
class Schedule:
    """How a classifier is fitted: AdamW over so many batches, its rate rising to `lr` and falling linearly to
    zero.
    """

    steps: int
    batch: int
    lr: float
    weight_decay: float = 1e-4
    rising: float = 0.0  # share of the steps

    def factor(self, step: int) -> float:
        """Return what lr is multiplied by at a step, counted from 0."""
        rising = self.rising * self.steps
        return (step + 1) / rising if step + 1 < rising else (self.steps - step) / (self.steps - rising)


EPOCHS = {"mnist-cnn": 2, "fashion_mnist-cnn": 6}  # of those of the shipped networks that have batch norm


def schedule(data: Data) -> Schedule:
    """Return how the data's classifier is fitted.

    40 epochs in batches of 50, at most 4,000 of these. With batch norm a few epochs are enough, at a higher
    rate.
    """
    images = len(data.train)
    if data.extractor in EPOCHS:
        batch = min(100, images)
        return Schedule(EPOCHS[data.extractor] * (images // batch), batch, 1e-2, 1e-2, rising=0.2)
    batch = min(50, images)
    return Schedule(min(40 * (images // batch), 4000), batch, 3e-3)


@tf32(False)
def fit(data: Data, device: torch.device = CPU, seed: int = 0) -> nn.Module:
    """Fit the data set's classifier to its train labels, by its schedule. Raises BadInput for data without
    classes.
    """
    _check_classes(data)
    x, y, plan = data.train.x, data.train.y, schedule(data)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = _network(data).to(device)
    if data.extractor != "digits-cnn":  # whose weights are those of the usual order
        network = network.to(memory_format=torch.channels_last)  # a third faster
    optimiser = torch.optim.AdamW(network.parameters(), lr=plan.lr, weight_decay=plan.weight_decay)
    rates = torch.optim.lr_scheduler.LambdaLR(optimiser, plan.factor)
    for index in islice(_batches(len(x), plan.batch, generator(seed, "extractor")), plan.steps):
        optimiser.zero_grad()
        nn.functional.cross_entropy(network(as_float(x[index].to(device)))[1], y[index].to(device)).backward()
        optimiser.step()
        rates.step()
    return network.eval()


def save(network: nn.Module, data: Data, command: str) -> tuple[Path, str]:
    """Write the weights with the command that made them, the data's hash and the skill; return the path and
    the latter.

    Weights that come with the project are not replaced: those are written beside the user's. Raises BadInput
    if they cannot be written.
    """
    network.to(CPU).to(memory_format=torch.contiguous_format)
    skill = Skill.of(network, data)
    metadata = {
        "command": command,
        "data": f"{data.name} train, sha256 {data.sha256}",
        "torch": torch.__version__,
        "accuracy": f"{100 * skill.right / skill.images:.2f} % on validation",
        **dict(zip(COUNTS, map(str, (skill.right, skill.largest, skill.images)), strict=True)),
    }
    file = home() / "extractors" / path(replace(data, extractor="")).name
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        files.write_tensors(file, KIND, VERSION, network.state_dict(), metadata)
    except OSError as error:
        raise BadInput(
            f"cannot write {file} ({error.strerror or error}): make room or set ALIBENCH_DATA"
        ) from None
    return file, str(skill)


# ------------------------------------------------------------------------------------------------ Inception


def _inception(data: Data, settings: Settings, device: torch.device) -> Extractor:
    given = settings.inception
    file = Path(os.path.expanduser(given)) if given else home() / "extractors" / INCEPTION
    if not given and not file.exists():
        _download(file)
    try:
        raw = files.read(file, "arrays")
    except (OSError, ValueError) as error:  # a path with a zero byte is no OSError
        reason = error.strerror if isinstance(error, OSError) else error
        raise BadInput(
            f"cannot read Inception's weights {file} ({reason}): name a file by evaluation.inception"
        ) from None
    sha256 = hashlib.sha256(raw).hexdigest()
    if not given and sha256 != SHA256:
        raise BadInput(
            f"{file} is not what was published (sha256 {sha256[:8]}…): remove it, so that it is downloaded "
            "again"
        )
    weights = read_weights(file, raw)
    from alibench.evaluation.features.inception import Inception  # torch-fidelity takes seconds to import

    try:
        network = Inception(weights)
    except (ValueError, RuntimeError) as difference:
        line = str(difference).splitlines()[0]
        raise BadInput(
            f"{file} holds the weights of another network than Inception: {line}; take {INCEPTION} from {URL}"
        ) from None
    network.to(device)
    return Extractor(
        "inception",
        sha256,
        network.width,
        network,
        device,
        note="grey repeated to 3 channels" if data.shape[0] == 1 else "",
        origin={"source": URL if sha256 == SHA256 else "a file of the user's"},
    )


def read_weights(file: Path, raw: bytes) -> dict[str, Tensor]:
    """Return the tensors in a file of weights: safetensors by its suffix, else torch's. Raises BadInput; runs
    no code.
    """
    try:
        if file.suffix == ".safetensors":
            weights = safetensors.torch.load(raw)
        else:
            if zipfile.is_zipfile(io.BytesIO(raw)):
                with zipfile.ZipFile(io.BytesIO(raw)) as archive:
                    unpacked = sum(member.file_size for member in archive.infolist())
                files.check_size(file, "unpacks to", unpacked, "arrays")
            with warnings.catch_warnings():
                warnings.simplefilter(
                    "ignore"
                )  # the refusal of a scripted network comes with a page of advice
                weights = torch.load(io.BytesIO(raw), map_location="cpu", weights_only=True)
    except files.Unsafe as problem:
        raise BadInput(str(problem)) from None
    except Exception as error:  # a broken file shows as whatever it breaks: RuntimeError, EOFError, KeyError
        if any(sign in str(error) for sign in ("Unsupported global", "Unsupported class", "TorchScript")):
            raise BadInput(
                f"{file} holds more than tensors, code that would run: it was not loaded; take {URL}"
            ) from None
        raise BadInput(
            f"{file} cannot be read, it is damaged or cut short ({len(raw):,} bytes): take {URL} again"
        ) from None
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise BadInput(f"{file} holds no weights by name: take {URL}")
    return dict(weights)


def _download(file: Path) -> None:
    """Download Inception's weights, and keep them if they are what was published. Raises BadInput."""
    remedy = f"put {INCEPTION} into {file.parent}, or name a file by evaluation.inception"
    say(f"downloading Inception's weights, {MEGABYTES} MB, into {file.parent}")
    try:
        with urllib.request.urlopen(URL, timeout=TIMEOUT) as response:
            raw = response.read()
        if (sha256 := hashlib.sha256(raw).hexdigest()) != SHA256:
            raise BadInput(f"{URL} gave something else than was published (sha256 {sha256[:8]}…): {remedy}")
        file.parent.mkdir(parents=True, exist_ok=True)
        files.replace(file, raw)
    except (OSError, HTTPException) as error:
        raise BadInput(f"cannot download Inception's weights from {URL} ({error}): {remedy}") from None
