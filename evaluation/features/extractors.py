"""The feature extractors of the fidelity metrics, by name.

`classifier` is a small network fitted to a dataset's train labels. It stands in for Inception where images
are too small or too different for it. The one of digits ships with the project; `alibench fit-extractor
DATASET` makes any. `inception` is torch-fidelity's InceptionV3, with its weights from a file or a verified
download; `vgg16` is torch-fidelity's too, `dinov2`, `dinov2-base` and `clip` are timm's, with weights that
the user puts into files. Users register others. Every result names the extractor and its weights' hash
("digits-cnn@<hash>"), so that nobody compares such a number with an Inception score or a published FID.
"""

from collections.abc import Callable

import torch

from alibench.evaluation import main_script, store
from alibench.evaluation.data import Data
from alibench.evaluation.errors import BadInput, check_name
from alibench.evaluation.features import (
    classifiers,
    inception_weights,
    vgg16_weights,
    vision_transformers,
)
from alibench.evaluation.features.extractor import CPU, Extractor
from alibench.evaluation.settings import Settings

__all__ = ["Extractor", "expect", "get", "maker", "provenance", "register", "to_come", "unsupported_reason"]

Maker = Callable[[Data, Settings, torch.device], Extractor]
PUBLISHED: dict[str, Maker] = {  # networks that take long on a CPU
    "inception": inception_weights.load,
    "vgg16": vgg16_weights.load,
    **dict.fromkeys(vision_transformers.ARCHITECTURES, vision_transformers.load),
}
BUILT_IN: dict[str, Maker] = {"classifier": classifiers.load, **PUBLISHED}
MAKERS: dict[str, Maker] = {}
_EXPECTED = set[str]()  # hashes of data whose classifier will be fitted


def register(name: str, make: Maker) -> None:
    """Add an extractor, made for data, settings and a device; `evaluation.extractor` then takes its name.

    Do it in a file that `--plugin` names, or where a script begins, before its `if __name__ == "__main__":`
    the processes that do runs import the script again. In a notebook it serves `evaluate`, not runs.
    """
    if name in BUILT_IN:
        raise BadInput(f"extractor '{name}' is built in: register yours by another name")
    MAKERS[name], main_script.REGISTERED[name] = make, main_script.line()


def maker(name: str) -> Maker:
    """Return the function that makes the extractor of that name. Raises BadInput if there is none."""
    makers = {**BUILT_IN, **MAKERS}
    check_name(name, makers, "evaluation.extractor: unknown extractor")
    return makers[name]


def get(data: Data, settings: Settings, device: torch.device = CPU) -> Extractor:
    """Return the extractor that the settings name, for these data. Raises BadInput."""
    make = maker(settings.extractor)
    if not data.images:
        raise BadInput(f"dataset '{data.name}' has no feature extractor: it has points, not images")
    return make(data, settings, device)


def unsupported_reason(data: Data, settings: Settings) -> str:
    """Say why there is no extractor, before anything is trained; weights are downloaded and checked.

    A dry run downloads nothing. Raises BadInput for an unknown name, whatever the data.
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
    classifier, inception = settings.extractor == "classifier", settings.extractor == "inception"
    if classifier and data.sha256 in _EXPECTED and not classifiers.path(data).exists():
        images = f"{len(data.train):,} images"
        return f"the classifier of '{data.name}' would be fitted first, to {images}, for FID and KID"

    file = inception_weights.path()
    if inception and not settings.inception and not file.exists():
        return (
            f"Inception's weights, {inception_weights.MEGABYTES} MB, would be downloaded into {file.parent}"
        )
    return ""


def provenance(data: Data, settings: Settings) -> dict[str, str]:
    """Return the extractor's identity, its weights' hash, and how they were made, as far as is known."""
    extractor = get(data, settings)
    return {"identity": extractor.identity, "sha256": extractor.sha256, **extractor.origin}
