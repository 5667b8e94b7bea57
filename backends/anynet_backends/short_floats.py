"""float32 numbers rounded to formats with fewer bits, in float32: for NumPy and libraries with its functions (CuPy)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from anynet_backends.array_api import Array

__all__ = ["FORMATS", "rounded"]

FORMATS = ("tf32", "bfloat16", "float16")
"""tf32: 8 bits of exponent, 10 of fraction; bfloat16: 8 and 7; float16: 5 and 10."""


def rounded(library: Any, x: Array, kind: str) -> Array:
    """The nearest numbers of a format; ties go to even, of tf32 away from zero (as PTX's cvt.rna.tf32.f32).

    `library` is numpy or cupy. What is beyond the format is ±inf; NaN stays NaN.
    """
    if x.dtype != library.float32:
        msg = f"rounded: x must be float32, got {x.dtype}"
        raise TypeError(msg)
    if kind == "float16":
        return x.astype(library.float16).astype(library.float32)
    bits = library.ascontiguousarray(x).view(library.uint32)
    if (
        kind == "bfloat16"
    ):  # adds up to 0x8000, which carries where more than half of the last place is dropped
        short = (bits + (((bits >> 16) & 1) + 0x7FFF)) & 0xFFFF0000
    elif kind == "tf32":
        short = (bits + 0x1000) & 0xFFFFE000
    else:
        msg = f"rounded: kind must be one of {', '.join(FORMATS)}, got {kind!r}"
        raise ValueError(msg)
    y = short.astype(library.uint32, copy=False).view(library.float32).reshape(x.shape)
    return library.where(x == x, y, x)  # the carry would make a number of some NaN
