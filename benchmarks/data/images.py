"""Images of any kind, as uint8 arrays of one number of channels and, if wanted, of one size."""

import io
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from alibench.evaluation import files
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import listed

# Pillow's names of what is opened, as docs/own-data.md lists it: for others it may start a program, as for
# EPS Ghostscript
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # PPM is PGM and PBM, too
DEPTH = 4  # bytes a pixel, as Pillow keeps colours
DEEP = ("I", "I;16", "I;16L", "I;16B")  # Pillow's modes of more than 8 bits; "I" is a 16-bit PGM, too
GREY = ("1", "L", "LA", *DEEP)  # a palette counts as colour, whatever is in it
FOREIGN = {
    "HEIC": (b"heic", b"heix", b"heim", b"heis", b"hevc", b"mif1", b"msf1"),
    "AVIF": (b"avif", b"avis"),
}
UNUSUAL = ("animated", "transparent", "deep")  # of a Header
BACKGROUND = "white"  # behind what is transparent
BITS = (8, 10, 12, 14, 16)  # that cameras and scanners use of 16
DARK = 16  # of 255: a set without a brighter pixel holds labels, or was not scaled
GROUP = 64  # images a thread decodes at a time: one by one, threads hinder each other on small images
AHEAD = 64 * GROUP  # images that may wait to be taken
WAITING = 1_000_000_000  # bytes of them

warnings.filterwarnings(
    "ignore", "Corrupt EXIF data", UserWarning
)  # such a picture is read without its orientation


class Header(NamedTuple):
    """What an image's file says of it."""

    width: int
    height: int
    grey: bool  # by its mode alone
    deep: bool  # more than 8 bits a pixel and channel
    transparent: bool  # it has an alpha channel, or a colour that stands for nothing
    animated: bool  # it holds several frames or pages


@dataclass(frozen=True)
class Levels:
    """How the numbers of a set's pictures become 0 to 255."""

    bits: int = 16  # that its pictures of more than 8 bits use
    binary: bool = False  # it holds 0 and 1 alone: 1 becomes 255


FULL = Levels()
T = TypeVar("T")


@contextmanager
def _open(source: str | np.ndarray) -> Iterator[Image.Image]:
    """Give the image of a file or an array (H, W) or (H, W, 3). What goes wrong with it becomes BadInput
    naming the file.
    """
    try:
        if isinstance(source, np.ndarray):
            yield Image.fromarray(source)
            return
        with files.opened(source, "unpacked") as raw:
            file = io.BufferedReader(raw)  # type: ignore[type-var]  # an image is read in small pieces
            _check_foreign(source, file.peek(12)[:12])
            image: Image.Image = Image.open(file, formats=FORMATS)
            files.check_size(source, "unpacks to", DEPTH * math.prod(image.size), "unpacked")
            yield image
    except BadInput:
        raise
    except files.Unsafe as problem:
        raise BadInput(str(problem)) from None
    except (
        Exception
    ) as error:  # a broken file shows as whatever it breaks: OSError, SyntaxError, ValueError, struct.error
        reason = f"not {', '.join(FORMATS)}" if isinstance(error, UnidentifiedImageError) else error
        raise BadInput(f"{source} cannot be read as an image ({reason}): mend or remove it") from None


def _check_foreign(source: str, start: bytes) -> None:
    """Refuse the formats of phones' pictures, which need a library of their own. Raises BadInput."""
    for name, brands in FOREIGN.items():
        if start[4:8] == b"ftyp" and start[8:12] in brands:
            raise BadInput(
                f"{source} cannot be read as an image ({name}, not {', '.join(FORMATS)}): convert it to PNG "
                "or JPEG, "
                "for example by ImageMagick or by the Python package pillow-heif"
            )


def header(source: str | np.ndarray) -> Header:
    """Return what a file says of its image, without decoding it. Raises BadInput.

    An EXIF orientation may yet exchange the two sides.
    """
    with _open(source) as image:
        animated = False
        with suppress(Exception):  # a second frame that is broken is not read
            animated = bool(getattr(image, "is_animated", False))
        return Header(
            *image.size, image.mode in GREY, image.mode in DEEP, image.has_transparency_data, animated
        )


def headers(*parts: np.ndarray) -> list[Header]:
    """Return the headers of all images of some arrays of paths, or of pixels, in order.

    Raises BadInput, which names all files that cannot be read.
    """
    found: list[Header] = []
    broken: dict[str, BadInput] = {}

    def read(paths: np.ndarray) -> list[Header | BadInput]:
        return [_or_problem(header, path) for path in paths]

    with _threads() as pool:
        for part in parts:
            if part.dtype != object:  # pixels
                found += [header(part[0])] * len(part) if len(part) else []
                continue
            groups = [part[start : start + GROUP] for start in range(0, len(part), GROUP)]
            for path, result in zip(part, chain.from_iterable(pool.map(read, groups)), strict=True):
                if isinstance(result, BadInput):
                    broken[path] = result
                else:
                    found.append(result)

    _refuse(broken)
    return found


def _threads() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))


def _or_problem(read: Callable[..., T], source: str | np.ndarray, *options: Any) -> T | BadInput:
    try:
        return read(source, *options)
    except BadInput as problem:
        return problem


def _refuse(broken: Mapping[str, BadInput]) -> None:
    """Raise what was met, if anything was, in one line that names all files."""
    paths = sorted(broken)
    if len(paths) > 1:
        folder = os.path.commonpath([os.path.dirname(path) for path in paths])
        names = [os.path.relpath(path, folder) for path in paths]
        raise BadInput(f"{broken[paths[0]]}; {len(names):,} files in all cannot be read: {listed(names)}")
    for path in paths:
        raise broken[path]


def _eight_bits(image: Image.Image, bits: int) -> Image.Image:
    """Return an image of more than 8 bits with the upper 8 of those that its set uses."""
    pixels = np.asarray(image)
    if image.mode == "I" and (pixels.min() < 0 or pixels.max() >= 1 << 16):
        raise ValueError("more than 16 bits a pixel and channel")
    eight = np.minimum(pixels >> (bits - 8), 255).astype(np.uint8)
    if isinstance(hidden := image.info.get("transparency"), int):
        eight[pixels == hidden] = 255  # white, as in BACKGROUND
    return Image.fromarray(eight)


def _convert(image: Image.Image, channels: int, levels: Levels) -> Image.Image:
    if image.mode == "F":
        raise ValueError("more than 16 bits a pixel and channel")
    if image.mode in DEEP:
        image = _eight_bits(image, levels.bits)

    if image.has_transparency_data:
        image = image.convert("RGBA")  # in one step Pillow would warn of a transparent palette
        behind = Image.new("RGBA", image.size, BACKGROUND)
        image = Image.alpha_composite(behind, image)

    image = image.convert("L" if channels == 1 else "RGB")
    return image.point(lambda value: 255 * min(value, 1)) if levels.binary else image


def _upright(source: str | np.ndarray, channels: int, levels: Levels) -> Image.Image:
    """Return an image of its own size, as `decode` says."""
    with _open(source) as image:
        image.load()
        with suppress(Exception):  # an EXIF block may be damaged in any way
            ImageOps.exif_transpose(image, in_place=True)
        return _convert(image, channels, levels)


def find_levels(
    where: str, sources: Iterable[str | np.ndarray], deep: Iterable[str | np.ndarray], channels: int
) -> Levels:
    """Return how the numbers of a set's pictures become 0 to 255, `deep` those of more than 8 bits. Raises
    BadInput.

    Most sets show it in their first picture, others in all of them. What cannot be read is passed over.
    """
    deepest = 0
    for source in deep:
        with suppress(BadInput), _open(source) as image:
            deepest = max(deepest, int(np.asarray(image).max()))
        if deepest >= 1 << BITS[-2]:
            break
    bits = next((bits for bits in BITS if deepest < 1 << bits), BITS[-1]) if deepest else BITS[-1]

    count, brightest = 0, 0
    for count, source in enumerate(sources, 1):  # noqa: B007 the last number is what is said
        with suppress(BadInput):
            brightest = max(brightest, int(np.asarray(_upright(source, channels, Levels(bits))).max()))
        if brightest > DARK:
            return Levels(bits)

    # so dark that they are masks, or a mistake
    if brightest == 0:
        raise BadInput(f"{where}: all {count:,} pictures are black: look how they were saved")
    if brightest > 1:
        raise BadInput(
            f"{where}: the brightest pixel of all {count:,} pictures is {brightest} of 255: multiply all by "
            f"{255 // brightest}, so that white is 255; or name others, if these are labels and not pictures"
        )
    return Levels(bits, binary=True)


def _fit(image: Image.Image, size: int) -> Image.Image:
    """Resize the shorter side to `size` and keep the square in the middle. Lanczos: it made the papers'
    CelebA.
    """
    width, height = (round(side * size / min(image.size)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.LANCZOS).crop((left, top, left + size, top + size))


def decode(source: str | np.ndarray, size: int, channels: int, levels: Levels = FULL) -> np.ndarray:
    """Return an image as uint8 (C, H, W). Raises BadInput, naming the file, if it is no image or not a whole
    one.

    It is turned upright as its EXIF orientation says, if that can be read. What is transparent shows white;
    of several frames the first is taken, and of more than 8 bits the upper 8 of those that `levels` says.
    """
    image = _upright(source, channels, levels)
    pixels = np.asarray(_fit(image, size) if size else image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def decode_all(
    sources: np.ndarray, size: int, channels: int, shape: tuple[int, ...], levels: Levels = FULL
) -> Iterator[np.ndarray]:
    """Yield the decoded images in order, AHEAD of them or WAITING bytes in memory.

    One that is not of the `shape` is yielded too, and is to be refused: what follows it may be left out.
    After one that cannot be read no more are yielded, but all are looked at: in the end BadInput names all
    that cannot be read.
    """
    ahead = max(1, min(AHEAD, WAITING // math.prod(shape)))
    size_of_group = max(1, ahead // (AHEAD // GROUP))
    broken: dict[str, BadInput] = {}

    def decode_group(start: int) -> list[tuple[str | np.ndarray, np.ndarray | BadInput]]:
        found = []
        for source in sources[start : start + size_of_group]:
            image = _or_problem(decode, source, size, channels, levels)
            found.append((source, image))
            if isinstance(image, np.ndarray) and image.shape != shape:
                break
        return found

    with _threads() as pool:
        for start in range(0, len(sources), ahead):
            groups = range(start, min(start + ahead, len(sources)), size_of_group)
            for source, image in chain.from_iterable(pool.map(decode_group, groups)):
                if isinstance(image, BadInput):
                    broken[str(source)] = image
                elif not broken:
                    yield image
    _refuse(broken)
