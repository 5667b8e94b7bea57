"""Pictures as arrays of bytes: decoded by Pillow, turned upright, on white, of one size."""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from anynet._optional import optional
from anynet_backends import Array, registry

__all__ = ["RESIZE", "as_array", "decoded", "fitted", "header", "in_threads", "opened", "pillow", "upright"]

RESIZE = ("crop", "stretch", "pad")


def pillow() -> Any:
    """Pillow's module Image."""
    return optional("PIL.Image", "images", "reading pictures")


def in_threads(function: Callable[[Any], Any], items: Sequence[Any]) -> list[Any]:
    """``map``, by a few threads: Pillow decodes without Python's lock."""
    if len(items) < 4:
        return [function(i) for i in items]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def opened(data: bytes) -> Any:
    """The picture in a file's bytes, its first frame; OSError with a reason for what is none."""
    if not data:
        msg = "the file is empty"
        raise OSError(msg)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd metadata; what cannot be read raises
            return pillow().open(io.BytesIO(data))
    except ModuleNotFoundError:
        raise
    except Exception as error:
        said = str(error).replace(str(io.BytesIO), "")
        msg = "not a picture that Pillow can read" if "cannot identify" in said else said
        raise OSError(msg) from None


def header(data: bytes) -> tuple[int, int, bool]:
    """(height, width, whether it has colours) as it will be decoded, from the head of the file."""
    image = opened(data)
    width, height = image.size
    if image.getexif().get(0x0112, 1) in (5, 6, 7, 8):
        width, height = height, width
    mode = image.mode
    grey = mode in ("1", "L", "LA", "F", "I") or mode.startswith("I;16")
    return height, width, not grey


def upright(image: Any, channels: int) -> Any:
    """A picture of mode L (1 channel) or RGB (3): turned as its EXIF data say, transparent parts on white, 16 bits as 8."""
    Image = pillow()  # noqa: N806 Pillow's own name
    ops = optional("PIL.ImageOps", "images", "reading pictures")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        image = ops.exif_transpose(image)
        if image.mode in ("I", "F") or image.mode.startswith("I;16"):
            image = _eight_bits(image)
        if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or (
            image.mode == "P" and "transparency" in image.info
        ):
            image = image.convert("RGBA")
            white = Image.new("RGBA", image.size, (255, 255, 255, 255))
            image = Image.alpha_composite(white, image)
        return image.convert("L" if channels == 1 else "RGB")


def _eight_bits(image: Any) -> Any:
    """Grey of 16 or 32 bits, or of floating-point numbers, on 0 … 255."""
    Image = pillow()  # noqa: N806 Pillow's own name
    values = image.convert("F")
    low, high = values.getextrema()
    if not (low >= 0 and high <= 65535):
        msg = f"its grey values are from {low:g} to {high:g}, expected 0 to 65535 (or 0 to 1)"
        raise OSError(msg)
    if image.mode == "F":
        scale = 255.0 if high <= 1 else 1.0 if high <= 255 else 1 / 257
    else:
        scale = 1 / 257 if image.mode.startswith("I;16") or high > 255 else 1.0
    return values.point(lambda v: v * scale + 0.5).convert("L") if isinstance(values, Image.Image) else values


def fitted(image: Any, size: tuple[int, int], resize: str) -> Any:
    """The picture in height and width `size`; Pillow's bilinear filter over what each pixel covers.

    "crop": scaled until it fills the size, what sticks out at both sides is cut off; "pad": scaled until it is inside, white
    around it; "stretch": the shape is not kept.
    """
    ops = optional("PIL.ImageOps", "images", "reading pictures")
    wanted = (size[1], size[0])
    if image.size == wanted:
        return image
    filter_ = pillow().Resampling.BILINEAR
    if resize == "stretch":
        return image.resize(wanted, filter_)
    if resize == "pad":
        return ops.pad(image, wanted, filter_, color="white")
    return ops.fit(image, wanted, filter_)


def as_array(image: Any) -> Array:
    """uint8 (height, width, channels)."""
    array = registry.asarray(image)
    return array[..., None] if array.ndim == 2 else array


def decoded(data: bytes, size: tuple[int, int], channels: int, resize: str) -> Array:
    """A file's picture, uint8 (height, width, channels); OSError with a reason for what cannot be read."""
    image = opened(data)
    try:
        if image.format == "JPEG":  # decoded at a fraction of its size, at least twice what is needed
            image.draft(None, (2 * max(size), 2 * max(size)))
        return as_array(fitted(upright(image, channels), size, resize))
    except Exception as error:
        raise OSError(str(error) or type(error).__name__) from None
