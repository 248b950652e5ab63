"""Images of any kind, as uint8 arrays of one number of channels and, if wanted, of one size."""

import io
import math
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import chain

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from evaluation import files
from evaluation.base import BadInput

# Pillow's names of what is opened, as docs/own-data.md lists it: for others it may start a program, as for EPS Ghostscript
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # PPM is PGM and PBM, too
DEPTH = 4  # bytes a pixel, as Pillow keeps colours
GREY = ("1", "L", "LA", "I;16", "I;16L", "I;16B")  # Pillow's modes; a palette counts as colour, whatever is in it
GROUP = 64  # images a thread decodes at a time: one by one, threads hinder each other on small images
AHEAD = 64 * GROUP  # images that may wait to be taken
WAITING = 1_000_000_000  # bytes of them


@contextmanager
def _open(source: str | np.ndarray) -> Iterator[Image.Image]:
    """Give the image of a file or an array (H, W) or (H, W, 3). What goes wrong with it becomes BadInput naming the file."""
    try:
        if isinstance(source, np.ndarray):
            yield Image.fromarray(source)
            return
        with files.opened(source, "unpacked") as raw:
            file = io.BufferedReader(raw)  # type: ignore[type-var]  # an image is read in small pieces
            image: Image.Image = Image.open(file, formats=FORMATS)
            files.check_size(source, "unpacks to", DEPTH * math.prod(image.size), "unpacked")
            yield image
    except files.Unsafe as problem:
        raise BadInput(str(problem)) from None
    except Exception as error:  # a broken file shows as whatever it breaks: OSError, SyntaxError, ValueError, struct.error
        reason = f"not {', '.join(FORMATS)}" if isinstance(error, UnidentifiedImageError) else error
        raise BadInput(f"{source} cannot be read as an image ({reason}): mend or remove it") from None


def header(source: str | np.ndarray) -> tuple[int, int, bool]:
    """Return an image's width and height, and whether it has no colours, without decoding it.

    An EXIF orientation may yet exchange the two sides; colours are told by the mode alone.
    """
    with _open(source) as image:
        return *image.size, image.mode in GREY


def is_grey(source: str | np.ndarray) -> bool:
    """Return whether an image has no colours, by its mode alone."""
    return header(source)[2]


def _convert(image: Image.Image, channels: int) -> Image.Image:
    if image.mode in ("I", "F"):
        raise ValueError("more than 16 bits a pixel and channel")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if image.mode == "P":
        image = image.convert("RGBA")  # in one step Pillow would warn of a transparent palette
    return image.convert("L" if channels == 1 else "RGB")


def _fit(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to `size` and keep the square in the middle. Lanczos: it made the papers' CelebA."""
    width, height = (round(side * size / min(image.size)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.LANCZOS).crop((left, top, left + size, top + size))


def decode(source: str | np.ndarray, size: int, channels: int) -> np.ndarray:
    """Return an image as uint8 (C, H, W). Raises BadInput, naming the file, if it is no image or not a whole one.

    It is turned upright as its EXIF orientation says. Alpha is dropped, and of 16 bits the upper 8 are kept.
    """
    with _open(source) as image:
        image.load()
        ImageOps.exif_transpose(image, in_place=True)
        image = _convert(image, channels)
        pixels = np.asarray(_fit(image, size) if size else image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def decode_all(sources: np.ndarray, size: int, channels: int, shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Yield the decoded images in order, AHEAD of them or WAITING bytes in memory.

    One that is not of the `shape` is yielded too, and is to be refused: what follows it may be left out.
    """
    ahead = max(1, min(AHEAD, WAITING // math.prod(shape)))
    size_of_group = max(1, ahead // (AHEAD // GROUP))

    def decode_group(start: int) -> list[np.ndarray]:
        found = []
        for source in sources[start : start + size_of_group]:
            found.append(decode(source, size, channels))
            if found[-1].shape != shape:
                break
        return found

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(sources), ahead):
            groups = range(start, min(start + ahead, len(sources)), size_of_group)
            yield from chain.from_iterable(pool.map(decode_group, groups))
