"""Data as a dry run sees them: how many images, of which shape, with which labels; pictures are not decoded
for it.

The labels of pictures of one's own are the true ones. Pixels are noise, unless the pictures are so few that
decoding them takes a moment, or were decoded before. Nothing is downloaded, and nothing is written but for a
folder that is removed again.
"""

import hashlib
import math
import tempfile
from collections.abc import Hashable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from alibench.benchmarks.data import cache, images
from alibench.benchmarks.data.published import Published
from alibench.benchmarks.data.sources import SPLITS, Contents, Options, Source
from alibench.evaluation.data import Data, Split
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import say
from alibench.evaluation.seeds import generator

FEW = 1000  # pictures that are decoded all the same, so that a broken one is named

_drawn: ContextVar[dict[Hashable, Data] | None] = ContextVar("drawn", default=None)


@contextmanager
def drawn() -> Iterator[None]:
    """Let `data.load` give outlines meanwhile."""
    before = _drawn.set({})
    try:
        yield
    finally:
        _drawn.reset(before)


def wanted() -> bool:
    """Return whether outlines stand in for data now."""
    return _drawn.get() is not None


def of(source: Source, options: Options) -> Data:
    """Return a source's outline, the same each time, or its data where they are at hand.

    Raises BadInput for what its files' names and headers show to be wrong.
    """
    kept = _drawn.get()
    if kept is None:
        return _of(source, options)
    key = type(source), source.where, options
    if key not in kept:
        kept[key] = _of(source, options)
    return kept[key]


def _of(source: Source, options: Options) -> Data:
    if isinstance(source, Published) and not source.is_there:
        say(f"data set '{source.name}' is not in {source.raw}: the command would download it")
        return _published(source, options)
    found = cache.find(source)
    if (known := cache.decoded(source, options, found)) is not None:
        return known
    if isinstance(source, Published):
        return _published(source, options)
    contents = source.read(found.files, options.seed)
    if sum(len(getattr(contents, split)) for split in SPLITS) <= FEW:
        return _decoded(source, options, found)
    return _made(source, options, _shape(source, options, contents), contents)


def _decoded(source: Source, options: Options, found: cache.Found) -> Data:
    """Decode all images into memory."""
    with tempfile.TemporaryDirectory(prefix="alibench-") as place:
        data = cache.build(source, options, found, Path(place) / "data")
        splits = (
            Split(split.x.clone(), split.y.clone()) for split in (data.train, data.validation, data.test)
        )
        train, validation, test = splits
    return replace(data, train=train, validation=validation, test=test)


def _shape(source: Source, options: Options, contents: Contents) -> tuple[int, int, int]:
    """Return the shape of an image as its header says it. Raises BadInput for images of several sizes."""
    size, channels = options.size or source.size, options.channels
    sides, grey = set[tuple[int, int]](), True
    every = size == 0 or channels == 0
    for split in SPLITS:
        pixels = getattr(contents, split).images
        for image in pixels if every and pixels.dtype == object else pixels[:1]:
            width, height, is_grey, *_ = images.header(image)
            sides.add((min(width, height), max(width, height)))  # an orientation may exchange them
            grey &= is_grey
            if not size and len(sides) > 1:
                raise BadInput(f"{image} is {width}x{height} pixels, others are not: resize all by --size N")
    _, height, width = images.decode(contents.train.images[0], size, channels or 3).shape
    return channels or (1 if grey else 3), height, width


def _made(source: Source, options: Options, shape: tuple[int, int, int], contents: Contents) -> Data:
    labels = [torch.from_numpy(np.ascontiguousarray(getattr(contents, split).y)) for split in SPLITS]
    about = {"classes": contents.classes, "class_names": contents.class_names, "splits": contents.splits}
    return _data(source, options, shape, labels, about)


def _published(source: Published, options: Options) -> Data:
    """Return the outline of a published set by what is known of it; its classes come in turn."""
    channels, height, width = source.shape
    shape = options.channels or channels, options.size or height, options.size or width
    labels = [
        torch.zeros((n, source.attributes), dtype=torch.uint8)
        if source.attributes
        else torch.arange(n) % source.classes
        for n in source.sizes
    ]
    return _data(source, options, shape, labels, {"classes": source.classes, "splits": source.splits})


def _data(
    source: Source,
    options: Options,
    shape: tuple[int, int, int],
    labels: list[torch.Tensor],
    about: dict[str, Any],
) -> Data:
    train, validation, test = (Split(_noise(len(y), shape), y) for y in labels)
    text = (
        f"outline {type(source).__name__} {source.where} {asdict(options)} {shape} {[len(y) for y in labels]}"
    )
    content = hashlib.sha256(text.encode()).hexdigest()
    return Data(
        source.name, train, validation, test, extractor=source.extractor(options), content=content, **about
    )


def _noise(n: int, shape: tuple[int, int, int]) -> torch.Tensor:
    """Return different images of noise (n, C, H, W) in the memory of n numbers: each is the one before, moved
    by a pixel.
    """
    _, height, width = shape
    numbers = torch.randint(
        256, (n + math.prod(shape),), generator=generator(0, "outline"), dtype=torch.uint8
    )
    return numbers.as_strided((n, *shape), (1, height * width, width, 1))
