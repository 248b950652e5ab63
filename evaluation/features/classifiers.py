"""A dataset's own classifier as an extractor: where its weights are, whether they can be trusted."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor, nn

from alibench.evaluation import files, sealed
from alibench.evaluation.data import Data, Split, as_float
from alibench.evaluation.errors import BadInput
from alibench.evaluation.features.classifier_networks import SHIPPED, ClassifierCNN, network_for
from alibench.evaluation.features.extractor import CPU, Extractor
from alibench.evaluation.settings import Settings
from alibench.evaluation.store import home

WEIGHTS = Path(__file__).parents[1] / "weights"  # that come with the project
SHA256_SHIPPED = {  # of their files
    "digits-cnn": "6dd237b5b3f91a84393e129b6eeb13edaf15545fcec56dd854f22d373cbbc6b6",
    "mnist-cnn": "e0cbc00cec92f893ca8ee0d8764f811c6fd26eb2b952fbbbb554667542c880d7",
    "fashion_mnist-cnn": "f317a17db36fd4d7f1391ff993363e32e676518b5aee60bd7a4e9c1f1b05a577",
}
KIND, VERSION = "classifier", 1  # of a file of weights that were fitted here
SIGNIFICANT = 0.05
AGAIN = "remove it and run 'alibench fit-extractor' again"


def path(data: Data) -> Path:
    """Return where the weights of the dataset's classifier are, or would be: named by the data's content."""
    if data.extractor in SHIPPED:
        return WEIGHTS / f"{data.extractor}.safetensors"
    # by content: another size, or other pictures in the same folder, are other data
    ending = f"-cnn-{data.sha256[:16]}.safetensors"
    return home() / "extractors" / f"{files.fitting(data.name, ending)}{ending}"


def load(data: Data, settings: Settings, device: torch.device) -> Extractor:
    """Return the dataset's classifier. Raises BadInput if it was not fitted, or not to these data."""
    check_classes(data)
    if data.extractor in SHIPPED:
        return shipped(data.extractor, device)
    file = path(data)
    if not file.exists():
        raise BadInput(
            f"dataset '{data.name}' has no classifier yet: run 'alibench fit-extractor {data.name}' "
            "(folder:PATH or npz:PATH by that name, with the same --size and --channels)"
        )

    # Its weights, and whether it can be trusted.
    network = network_for(data)
    try:
        sha256, weights, origin = _fitted(file)
        network.load_state_dict(weights)
    except (OSError, files.Damaged, RuntimeError) as error:
        line = str(error).splitlines()[0]
        raise BadInput(f"{file} cannot be used ({line}): {AGAIN}") from None
    note = _checked(network, data, file, origin)

    # Named by the dataset, so that two datasets' numbers cannot be taken for one another's.
    return _extractor(data.extractor or f"{data.name}-cnn", network, sha256, origin, device, note)


def shipped(name: str, device: torch.device = CPU) -> Extractor:
    """Return a classifier that comes with the project. Raises BadInput for weights that were changed."""
    file, network = WEIGHTS / f"{name}.safetensors", SHIPPED[name]()
    try:
        sha256, weights, origin = _shipped(file, SHA256_SHIPPED[name])
        network.load_state_dict(weights)
    except (OSError, files.Damaged, RuntimeError) as error:
        line = str(error).splitlines()[0]
        raise BadInput(f"{file} cannot be used ({line}): {AGAIN}") from None
    return _extractor(name, network, sha256, origin, device)


def _extractor(
    name: str,
    network: ClassifierCNN,
    sha256: str,
    origin: Mapping[str, str],
    device: torch.device,
    note: str = "",
) -> Extractor:
    network.to(device).eval().requires_grad_(False)
    return Extractor(
        name, sha256, network.width, lambda images: network(as_float(images)), device, note, origin
    )


def _fitted(file: Path) -> tuple[str, dict[str, Tensor], dict[str, str]]:
    """Return the hash of weights that were fitted here, the weights, and how they were made."""
    sha256 = files.sha256(file, links=False)
    return sha256, *sealed.read_tensors(file, KIND, VERSION, dict[str, str])


def _shipped(file: Path, expected: str) -> tuple[str, dict[str, Tensor], dict[str, str]]:
    """Return the hash of weights that come with the project, the weights, and how they were made.

    Raises files.Damaged, or OSError.
    """
    raw = files.read(file, "arrays")
    if (sha256 := files.sha256_of(raw)) != expected:
        raise files.Damaged("it is not what comes with the project")

    # safetensors begin with their header's length and the header
    origin = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])["__metadata__"]
    if sealed.LABEL in origin:  # the file of digits is older than this label
        origin = json.loads(json.loads(origin[sealed.LABEL])["about"])
    return sha256, safetensors.torch.load(raw), origin


def _checked(network: nn.Module, data: Data, file: Path, origin: dict[str, str]) -> str:
    """Return how often a fitted classifier is right. Raises BadInput for other data's, or a useless one."""
    if data.sha256 not in origin.get("data", ""):
        raise BadInput(f"{file} was fitted to other data: {AGAIN}")

    # a file of earlier versions has no counts, and its extractor's name none: that stays
    if "right" not in origin:
        Skill.of(network.eval(), data).check(data)
        return ""
    skill = Skill(*(int(origin[key]) for key in COUNTS))
    skill.check(data)
    return str(skill)


def check_classes(data: Data) -> None:
    """Raise BadInput for data that no classifier can be fitted to: points, or images without classes."""
    if not data.images:
        raise BadInput(f"dataset '{data.name}' has no feature extractor: it has points, not images")
    if data.classes < 2:
        raise BadInput(
            f"dataset '{data.name}' has no feature extractor: it has no two classes to fit a classifier to; "
            "set evaluation.extractor=inception"
        )


COUNTS = "right", "largest_class", "images"  # of a file's entries, as numbers in text


@dataclass(frozen=True)
class Skill:
    """How many validation images a classifier gets right, and how many guessing would: the largest class."""

    right: int
    largest: int
    images: int

    @classmethod
    def of(cls, network: nn.Module, data: Data) -> "Skill":
        """Return a classifier's counts on validation."""
        y = data.validation.y
        right = round(accuracy(network, data.validation) * len(y) / 100)
        return cls(right, int(y.bincount().max()), len(y))

    def __str__(self) -> str:
        right, chance = (f"{100 * count / self.images:.2f} %" for count in (self.right, self.largest))
        return f"right in {right} of validation, by chance in {chance}"

    def check(self, data: Data) -> None:
        """Raise BadInput if it is not better than chance, by an exact one-sided binomial test at 5 %."""
        from scipy.stats import binomtest  # takes a second to import

        chance = self.largest / self.images
        if binomtest(self.right, self.images, chance, alternative="greater").pvalue >= SIGNIFICANT:
            raise BadInput(
                f"the classifier of '{data.name}' is right in {self.right} of {self.images} validation "
                f"images, and {self.largest} are of the largest class: that is not better than chance, so "
                "its features say nothing of the images: fit it to more images, or set "
                "evaluation.extractor=inception"
            )


def accuracy(network: nn.Module, split: Split, device: torch.device = CPU) -> float:
    """Return the percentage of images that a classifier gets right."""
    right = 0
    with torch.no_grad():
        for x, y in zip(split.x.split(1000), split.y.split(1000), strict=True):
            right += int((network(as_float(x.to(device)))[1].argmax(1).cpu() == y).sum())
    return 100 * right / len(split)
