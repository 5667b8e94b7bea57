"""Memory layouts of arrays as oneDNN describes them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.memory.outputs import empty_output

Ints = tuple[int, ...]
FLOAT32: Final = np.dtype(np.float32)


def contiguous_strides(shape: Sequence[int]) -> Ints:
    """The strides, in elements, of an array in C order."""
    return tuple(math.prod(shape[i + 1 :]) for i in range(len(shape)))


def channels_last_strides(shape: Sequence[int]) -> Ints:
    """The strides of (n, c, *spatial) stored channels last."""
    n, c, *spatial = shape
    inner = contiguous_strides((n, *spatial, c))
    return (inner[0], 1, *inner[1:-1])


def data_pointer(a: Array) -> int:
    """The address of an array's first element."""
    return int(a.__array_interface__["data"][0])


TO_CHANNELS_LAST: Final = tuple((0, *range(2, axes), 1) for axes in range(6))
FROM_CHANNELS_LAST: Final = tuple((0, axes - 1, *range(1, axes - 1)) for axes in range(6))
"""Permutations by the number of axes: from channels second to channels last, and back."""


def empty_channels_last(shape: Ints) -> Array:
    """An output of logical shape (n, c, *spatial), stored channels last."""
    return empty_output(shape, np.float32, TO_CHANNELS_LAST[len(shape)])


def contiguous(a: Array) -> Array:
    """`a` itself if it is in C order, else a copy that is."""
    return a if a.flags.c_contiguous else np.ascontiguousarray(a)


def all_float32(*arrays: Array | None) -> bool:
    """Whether all arrays that are given are NumPy's, of float32 and not empty."""
    return all(  # a list, since a generator takes twice as long; == because dtypes of files and pickles are other objects
        [
            a is None or ((a.dtype is FLOAT32 or a.dtype == FLOAT32) and type(a) is np.ndarray and a.size > 0)
            for a in arrays
        ]
    )


def is_channels_last(a: Array) -> bool:
    """Whether (n, c, *spatial) is stored channels last."""
    return bool(a.transpose(TO_CHANNELS_LAST[a.ndim]).flags.c_contiguous)
