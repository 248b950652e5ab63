"""Pictures of images, exact: a pixel of the model is a pixel, or a square of them."""

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

EXACT = 200_000  # bytes of a picture in a page; WebP at QUALITY keeps larger ones, and loses a little
QUALITY = 90


@dataclass(frozen=True)
class Picture:
    """A picture that stands in a page."""

    uri: str
    width: int  # of the stored one, pixels
    height: int


def tile(images: np.ndarray, columns: int) -> np.ndarray:
    """Return images (N, C, H, W) as one picture (H', W', C), `columns` in a row, light grey between."""
    n, channels, height, width = images.shape
    # a line of grey around every image, and the rest of the last row
    lines = -(-n // columns)
    canvas = np.full((lines * (height + 1) + 1, columns * (width + 1) + 1, channels), 200, np.uint8)
    for i, image in enumerate(images):
        top, left = (i // columns) * (height + 1) + 1, (i % columns) * (width + 1) + 1
        canvas[top : top + height, left : left + width] = image.transpose(1, 2, 0)
    return canvas


def pairs(arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return originals and reconstructions in turn, (2 N, C, H, W)."""
    return np.stack([arrays["x"], arrays["reconstructions"]], axis=1).reshape(-1, *arrays["x"].shape[1:])


def picture(canvas: np.ndarray) -> Picture:
    """Return pixels (H, W, 1 or 3), uint8, for a page."""
    return embedded(_image(canvas))


def png(canvas: np.ndarray) -> bytes:
    """Return pixels (H, W, 1 or 3), uint8, as the contents of a PNG file."""
    file = io.BytesIO()
    _image(canvas).save(file, "png")
    return file.getvalue()


def _image(canvas: np.ndarray) -> Image.Image:
    return Image.fromarray(canvas[..., 0] if canvas.shape[2] == 1 else canvas)


def frames(interpolations: np.ndarray) -> Picture:
    """Return interpolations (N, STEPS, C, H, W) as frames of N images, one below the other."""
    steps = interpolations.swapaxes(0, 1)
    return picture(np.concatenate([tile(step, len(step)) for step in steps]))


def embedded(image: Image.Image) -> Picture:
    """Return an image for a page."""
    # PNG loses nothing; a large picture would make the page too heavy to mail
    file, kind = io.BytesIO(), "png"
    image.save(file, "png", optimize=True)
    if file.tell() > EXACT:
        file, kind = io.BytesIO(), "webp"
        image.save(file, "webp", quality=QUALITY)
    data = base64.b64encode(file.getvalue()).decode()
    return Picture(f"data:image/{kind};base64,{data}", image.width, image.height)
