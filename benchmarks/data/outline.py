"""Outlines of datasets for a dry run: as many images of the same shape, with the same labels, but noise.

Pictures that were decoded before are read as they are. Nothing is downloaded, and nothing is written.
"""

import math
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, replace

import numpy as np
import torch
from torch import Tensor

from alibench.benchmarks.data import cache, images
from alibench.benchmarks.data.published import Published
from alibench.benchmarks.data.sources import Options, Source
from alibench.evaluation import files
from alibench.evaluation.data import Data, Split
from alibench.evaluation.messages import say
from alibench.evaluation.seeds import generator

_outlines: ContextVar[dict[Hashable, Data] | None] = ContextVar("outlines", default=None)


@contextmanager
def drawn() -> Iterator[None]:
    """Let `datasets.load` return outlines meanwhile."""
    before = _outlines.set({})
    try:
        yield
    finally:
        _outlines.reset(before)


def load(source: Source, options: Options) -> Data | None:
    """Return a source's outline, the same each time, or its data where they are at hand.

    None where outlines are not `drawn`. Raises BadInput for faults that names and headers of files show.
    """
    outlines = _outlines.get()
    if outlines is None:
        return None
    key = type(source), source.where, options
    if key not in outlines:
        outlines[key] = _load(source, options)
    return outlines[key]


def _load(source: Source, options: Options) -> Data:
    if isinstance(source, Published) and not source.is_there:
        say(f"dataset '{source.name}' is not in {source.raw}: the command would download it")
        return _published(source, options)

    # the data themselves, if they were decoded and nothing has to be hashed for it
    state = cache.find(source)
    if (data := cache.load_unhashed(source, options, state)) is not None:
        return data
    if isinstance(source, Published):
        return _published(source, options)

    # only the headers are read
    contents = source.read(state.paths, options.seed)
    pictures, size = [part.images for part in contents.parts], options.size or source.size
    shape = images.common_shape(source.where, pictures, images.headers(pictures), size, options.channels)
    labels = [torch.from_numpy(np.ascontiguousarray(part.y)) for part in contents.parts]
    outline = _outline(source, options, shape, labels)
    return replace(
        outline, classes=contents.classes, class_names=contents.class_names, splits=contents.splits
    )


def _published(source: Published, options: Options) -> Data:
    """Return the outline of a published dataset by what is known of it; its classes come in turn."""
    channels, height, width = source.shape
    shape = options.channels or channels, options.size or height, options.size or width
    if source.attributes:
        labels = [torch.zeros((n, source.attributes), dtype=torch.uint8) for n in source.sizes]
    else:
        labels = [torch.arange(n) % source.classes for n in source.sizes]
    return replace(_outline(source, options, shape, labels), classes=source.classes, splits=source.splits)


def _outline(source: Source, options: Options, shape: tuple[int, ...], labels: Sequence[Tensor]) -> Data:
    """Return data of noise, without classes."""
    train, validation, test = (Split(_noise(len(y), shape), y) for y in labels)
    about = source.where, asdict(options), shape, [len(y) for y in labels]
    content = files.digest(f"outline {type(source).__name__} {about}")
    return Data(source.name, train, validation, test, 0, extractor=source.extractor(options), content=content)


def _noise(n: int, shape: tuple[int, ...]) -> Tensor:
    """Return n images of noise, each the one before moved by a pixel, in the memory of n numbers."""
    # strides of an image as usual, and of one number from image to image
    _, height, width = shape
    rng = generator(0, "outline")
    numbers = torch.randint(256, (n + math.prod(shape),), generator=rng, dtype=torch.uint8)
    return numbers.as_strided((n, *shape), (1, height * width, width, 1))
