"""How much is measured, and by which of the published protocols."""

from dataclasses import dataclass
from typing import Annotated, Literal

from msgspec import Meta

from alibench.evaluation.data import Amount


@dataclass(frozen=True)
class Settings:
    """A suite's [evaluation] table."""

    # drawn from a model; none: 10,000 points, or as many images as the scored split holds
    samples: Amount | None = None
    # of fidelity; none: the split that is scored
    reference: Literal["", "train", "validation", "test"] = ""
    # of fidelity: the dataset's own "classifier", "inception", "vgg16", "dinov2", "dinov2-base", "clip", or a
    # registered one
    extractor: str = "classifier"
    # file of Inception's weights; none: the one in ALIBENCH_DATA, downloaded if it is not there
    inception: str = ""
    # file of the weights of dinov2, dinov2-base or clip; none: ALIBENCH_DATA/extractors/NAME.safetensors
    weights: str = ""
    # folder of LPIPS's two files of weights, one of them VGG16's; none: ALIBENCH_DATA/extractors
    perceptual: str = ""

    # labelled images: of the classifiers on features, and of semi-supervised training
    labels: Amount | Literal["all"] = 100
    labels_from: Literal["train", "validation"] = "train"  # the split they are drawn from
    # of that split, its last images, to choose on where labels come from validation
    kept_back: Amount = 10_000
    draws: Amount = 10  # of labels

    # draws of samples and codes from the same weights, for measures that depend on them
    resamples: Amount = 1
    # features, by the labelled images' mean and deviation; ALI's protocol leaves them as they are
    standardise: bool = False
    # Of the k-nearest-neighbour classifier next to 1-NN.
    neighbours: Amount = 5
    # share of the held-out samples that are called anomalies; none: as many as there are
    flagged: Annotated[float, Meta(gt=0, lt=1)] | None = None
    seconds: Annotated[float, Meta(gt=0, le=3600)] = 0.5  # that each speed is measured for
