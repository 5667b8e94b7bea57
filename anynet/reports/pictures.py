"""Pictures in a page: arrays as PNG in data URIs."""

from __future__ import annotations

import base64
import math
import struct
import zlib
from typing import Any

import anynet as an
from anynet.tensor import Tensor
from anynet_backends import host

__all__ = ["data_uri", "is_picture", "png", "thumbnail"]


def png(pixels: Tensor) -> bytes:
    """A PNG file of an uint8 array (height, width) or (height, width, 1, 3 or 4).

    >>> import anynet as an
    >>> png(an.zeros((2, 2, 3), dtype="uint8"))[:8]
    b'\\x89PNG\\r\\n\\x1a\\n'
    """
    shape = pixels.shape if pixels.ndim == 3 else (*pixels.shape, 1)
    height, width, channels = map(int, shape)
    colour = {1: 0, 3: 2, 4: 6}[channels]
    raw = host.to_bytes(an.reshape(pixels, (height, -1)).numpy())
    stride = width * channels
    lines = b"".join(b"\0" + raw[i * stride : (i + 1) * stride] for i in range(height))

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(lines, 9))
        + chunk(b"IEND", b"")
    )


def data_uri(pixels: Tensor) -> str:
    """The PNG of an array as a data URI."""
    return "data:image/png;base64," + base64.b64encode(png(pixels)).decode("ascii")


def is_picture(shape: tuple[int, ...]) -> bool:
    """Whether an array of this shape is a picture with channels first: (1, 3 or 4, height, width) or (height, width)."""
    if len(shape) == 3:
        return shape[0] in (1, 3, 4) and min(shape[1:]) >= 4
    return len(shape) == 2 and min(shape) >= 8


def thumbnail(
    sample: Any, mean: list[float] | None = None, std: list[float] | None = None, most: int = 72
) -> tuple[Tensor, int, int]:
    """The uint8 picture (height, width, channels) of a sample with channels first, at most `most` pixels wide and high, and the
    size it had. `mean` and `std` undo a normalisation; else the darkest value is black and the lightest white, but values that
    lie in [0, 1] or [0, 255] already stay."""
    x = sample if isinstance(sample, Tensor) else Tensor(sample)
    if not x.dtype.is_floating:  # not normalised yet
        mean = std = None
    x = an.astype(x.detach().to("cpu"), "float64")
    if x.ndim == 2:
        x = x[None, ...]
    channels, height, width = map(int, x.shape)
    if mean is not None and std is not None and len(mean) in (1, channels) and len(std) in (1, channels):
        x = (
            x * an.asarray(std, dtype="float64")[:, None, None]
            + an.asarray(mean, dtype="float64")[:, None, None]
        )
    step = max(1, math.ceil(max(height, width) / most))
    if step > 1:  # the mean of each block of pixels
        h, w = height // step, width // step
        x = an.reshape(x[:, : h * step, : w * step], (channels, h, step, w, step))
        x = an.mean(x, axis=(2, 4))
    low, high = float(an.min(x)), float(an.max(x))
    if mean is None or not (low >= -0.5 and high <= 1.5):
        if low >= 0.0 and high <= 1.0 and high > 0.1:
            low, high = 0.0, 1.0
        elif low >= 0.0 and 16.0 < high <= 255.0:
            low, high = 0.0, 255.0
        x = (x - low) / (high - low) if math.isfinite(high - low) and high > low else an.zeros_like(x)
    x = an.clip(an.round(x * 255.0), 0.0, 255.0)
    return an.astype(an.permute_dims(x, (1, 2, 0)), "uint8"), height, width
