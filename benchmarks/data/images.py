"""Images of any kind as uint8 arrays, with one number of channels and, if wanted, of one size."""

import io
import math
import os
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from alibench.evaluation import files
from alibench.evaluation.errors import BadInput
from alibench.evaluation.messages import listed

# Pillow's names of the formats in docs/own-data.md; for others it may start a program, such as Ghostscript
FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF", "PPM")  # PPM is PGM and PBM, too
DEPTH = 4  # bytes a pixel, as Pillow keeps colours
DEEP = ("I", "I;16", "I;16L", "I;16B")  # Pillow's modes of more than 8 bits; "I" is a 16-bit PGM, too
LOSSY = ("JPEG", "MPO", "WEBP")  # formats; a WebP without loss is rare
GREY = ("1", "L", "LA", *DEEP)  # a palette counts as colour, whatever is in it
BACKGROUND = "white"  # behind transparent places
BITS = (8, 10, 12, 14, 16)  # that cameras and scanners use of 16
DARK = 16  # of 255: a set without a brighter pixel holds labels, or was not scaled
GROUP = 64  # images a thread decodes at a time: one by one, threads hinder each other on small images
AHEAD = 64 * GROUP  # images that may wait to be taken
WAITING = 1_000_000_000  # bytes of them

# such a picture is read without its orientation
warnings.filterwarnings("ignore", "Corrupt EXIF data", UserWarning)

T = TypeVar("T")
Picture = str | np.ndarray  # a path, or pixels (H, W) or (H, W, 3)


class PictureHeader(NamedTuple):
    """What a file says of its image."""

    width: int
    height: int
    grey: bool  # by its mode alone
    deep: bool  # more than 8 bits a pixel and channel
    transparent: bool  # it has an alpha channel, or a colour that stands for nothing
    animated: bool  # it holds several frames or pages
    lossy: bool  # it was stored with loss


@dataclass(frozen=True)
class Levels:
    """How the numbers of a set's pictures become 0 to 255."""

    bits: int = 16  # that its pictures of more than 8 bits use
    binary: bool = False  # it holds 0 and 1 alone: 1 becomes 255


FULL = Levels()


@contextmanager
def _open(picture: Picture) -> Iterator[Image.Image]:
    """Open an image that is not decoded yet. Whatever goes wrong with it becomes BadInput naming the file."""
    is_phones = False  # HEIC or AVIF
    try:
        if isinstance(picture, np.ndarray):
            yield Image.fromarray(picture)
            return

        # What it unpacks to is known, and bounded, before it is decoded.
        with files.opened(picture, "unpacked") as raw:
            file = io.BufferedReader(raw)  # type: ignore[type-var]  # an image is read in small pieces
            is_phones = file.peek(12)[4:8] == b"ftyp"
            image: Image.Image = Image.open(file, formats=FORMATS)
            files.check_size(picture, "unpacks to", DEPTH * math.prod(image.size), "unpacked")
            yield image
    except BadInput:
        raise
    except files.Unsafe as problem:
        raise BadInput(str(problem)) from None
    # A broken file breaks as OSError, SyntaxError, ValueError, struct.error or otherwise.
    except Exception as error:
        reason = f"not {', '.join(FORMATS)}" if isinstance(error, UnidentifiedImageError) else error
        remedy = "convert it to PNG or JPEG" if is_phones else "mend, convert or remove it"
        reason = f"HEIC or AVIF, {reason}" if is_phones else reason
        raise BadInput(f"{picture} cannot be read as an image ({reason}): {remedy}") from None


# ---------- headers


def header(picture: Picture) -> PictureHeader:
    """Return the header of an image, whose sides an EXIF orientation may yet exchange. Raises BadInput."""
    with _open(picture) as image:
        animated = False
        # a second frame that is broken is not needed
        with suppress(Exception):
            animated = bool(getattr(image, "is_animated", False))
        deep, transparent = image.mode in DEEP, image.has_transparency_data
        grey, lossy = image.mode in GREY, image.format in LOSSY
        return PictureHeader(*image.size, grey, deep, transparent, animated, lossy)


def headers(parts: Sequence[np.ndarray]) -> list[PictureHeader]:
    """Return the headers of all images, in order. Raises BadInput, naming all files that cannot be read."""
    # a file has its own header, an array one for all its images
    if parts[0].dtype == object:
        return list(_read_all(header, parts, AHEAD))
    return [each for part in parts if len(part) for each in [header(part[0])] * len(part)]


def common_shape(
    where: str, parts: Sequence[np.ndarray], headers: Sequence[PictureHeader], size: int, channels: int
) -> tuple[int, ...]:
    """Return the shape (C, H, W) that all images get; without `channels` grey if all are.

    Raises BadInput for images of several sizes where no `size` makes them one.
    """
    # a file's orientation may exchange the two sides
    order = sorted if parts[0].dtype == object else list
    sides = [order((header.width, header.height)) for header in headers]
    odd = next((i for i, side in enumerate(sides) if side != sides[0]), None)
    if odd is not None and not size:
        picture = next(islice(chain(*parts), odd, None))
        found, others = ((header.height, header.width) for header in (headers[odd], headers[0]))
        raise _other_size(picture, where, found, others)
    return decode(parts[0][0], size, channels or (1 if all(header.grey for header in headers) else 3)).shape


def _other_size(picture: Picture, where: str, found: tuple[int, ...], others: tuple[int, ...]) -> BadInput:
    """Return the refusal of an image, a file or one of the array at `where`; sizes are (H, W)."""
    name = picture if isinstance(picture, str) else where
    size, expected = (f"{width}x{height}" for height, width in (found, others))
    return BadInput(f"{name}: {size} pixels, others are {expected}: resize all by --size N")


def _read_all(read: Callable[[Any], T], parts: Iterable[np.ndarray], ahead: int) -> Iterator[T]:
    """Yield what `read` returns for each picture, in order; threads are at most `ahead` pictures ahead.

    Nothing is yielded after a picture that cannot be read, but all are tried: in the end BadInput names all
    that cannot be read.
    """
    pictures, broken = [*chain(*parts)], dict[str, BadInput]()
    # fewer in a group where they are large, so that all threads have work within the bound
    group = max(1, ahead * GROUP // AHEAD)

    # BadInput is returned, since an exception would end the whole map
    def read_group(group: Sequence[Picture]) -> list[T | BadInput]:
        results: list[T | BadInput] = []
        for picture in group:
            try:
                results.append(read(picture))
            except BadInput as problem:
                results.append(problem)
        return results

    # Pillow decodes without Python's lock
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for start in range(0, len(pictures), ahead):
            window = pictures[start : start + ahead]
            groups = pool.map(read_group, [window[i : i + group] for i in range(0, len(window), group)])
            for picture, result in zip(window, chain.from_iterable(groups), strict=True):
                if isinstance(result, BadInput):
                    broken[str(picture)] = result
                elif not broken:
                    yield result
    _refuse(broken)


def _refuse(broken: Mapping[str, BadInput]) -> None:
    """Raise the first problem, if there is one, in one line that names all files."""
    # names below the folder that they have in common
    paths = sorted(broken)
    if len(paths) > 1:
        folder = os.path.commonpath([os.path.dirname(path) for path in paths])
        names = [os.path.relpath(path, folder) for path in paths]
        raise BadInput(f"{broken[paths[0]]}; {len(names):,} files in all cannot be read: {listed(names)}")
    for path in paths:
        raise broken[path]


# ---------- pixels


def decode(picture: Picture, size: int, channels: int, levels: Levels = FULL) -> np.ndarray:
    """Return an image as uint8 (C, H, W). Raises BadInput, naming the file, if it is not a whole image.

    It is turned upright as its EXIF orientation says, if that can be read. Transparent places become white;
    of several frames the first is taken, and of more than 8 bits the upper 8 of those that `levels` says.
    """
    image = _upright(picture, channels, levels)
    pixels = np.asarray(_fit(image, size) if size else image)
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def decode_all(
    parts: Sequence[np.ndarray], size: int, shape: tuple[int, ...], levels: Levels = FULL
) -> Iterator[np.ndarray]:
    """Yield all images in order as uint8 (C, H, W), at most AHEAD of them or WAITING bytes in memory.

    They are of `common_shape`. Raises BadInput in the end, naming all files that cannot be read.
    """

    def read(picture: Picture) -> np.ndarray:
        image = decode(picture, size, shape[0], levels)
        # headers do not show that a file is turned by its orientation, the others not
        if image.shape != shape:
            raise _other_size(picture, "", image.shape[1:], shape[1:])
        return image

    yield from _read_all(read, parts, max(1, min(AHEAD, WAITING // math.prod(shape))))


def _upright(picture: Picture, channels: int, levels: Levels) -> Image.Image:
    with _open(picture) as image:
        image.load()
        # an EXIF block may be damaged in any way
        with suppress(Exception):
            ImageOps.exif_transpose(image, in_place=True)
        return _convert(image, channels, levels)


def _convert(image: Image.Image, channels: int, levels: Levels) -> Image.Image:
    # to 8 bits
    if image.mode == "F":
        raise ValueError("more than 16 bits a pixel and channel")
    if image.mode in DEEP:
        image = _eight_bits(image, levels.bits)

    # on a background; to RGBA first, since Pillow would warn of a transparent palette
    if image.has_transparency_data:
        image = image.convert("RGBA")
        behind = Image.new("RGBA", image.size, BACKGROUND)
        image = Image.alpha_composite(behind, image)

    image = image.convert("L" if channels == 1 else "RGB")
    return image.point(lambda value: 255 * min(value, 1)) if levels.binary else image


def _eight_bits(image: Image.Image, bits: int) -> Image.Image:
    """Return an image of more than 8 bits with the upper 8 of the `bits` that its set uses."""
    pixels = np.asarray(image)
    if image.mode == "I" and (pixels.min() < 0 or pixels.max() >= 1 << 16):
        raise ValueError("more than 16 bits a pixel and channel")
    eight = np.minimum(pixels >> (bits - 8), 255).astype(np.uint8)
    if isinstance(hidden := image.info.get("transparency"), int):
        eight[pixels == hidden] = 255  # white, as in BACKGROUND
    return Image.fromarray(eight)


def _fit(image: Image.Image, size: int) -> Image.Image:
    """Return the square in the middle, `size` pixels a side, resized by Lanczos as the papers' CelebA."""
    width, height = (round(side * size / min(image.size)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    return image.resize((width, height), Image.Resampling.LANCZOS).crop((left, top, left + size, top + size))


def find_levels(where: str, pictures: Iterable[Picture], deep: Iterable[Picture], channels: int) -> Levels:
    """Return how a set's numbers become 0 to 255; `deep` pictures have more than 8 bits. Raises BadInput.

    Unreadable pictures are passed over: decoding names them.
    """
    # bits of the deep ones; from 15 on more pictures change nothing
    deepest = 0
    for picture in deep:
        with suppress(BadInput), _open(picture) as image:
            deepest = max(deepest, int(np.asarray(image).max()))
        if deepest >= 1 << BITS[-2]:
            break
    bits = next((bits for bits in BITS if deepest < 1 << bits), BITS[-1]) if deepest else BITS[-1]

    # most sets have a bright pixel in their first picture
    count, brightest = 0, 0
    for count, picture in enumerate(pictures, 1):  # noqa: B007 messages name the last number
        with suppress(BadInput):
            brightest = max(brightest, int(np.asarray(_upright(picture, channels, Levels(bits))).max()))
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
