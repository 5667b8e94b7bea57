"""Large arguments of a program, read where they lie instead of being copied into the program's memory first."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.jit.geometry import byte_range
from anynet_backends.jit.instructions import collect
from anynet_backends.jit.native_function import data_pointer
from anynet_backends.jit.segment import NativeSegment

__all__ = ["LEAST_BYTES", "borrowed"]

LEAST_BYTES: Final = 1 << 18
"""Bytes of an argument that is not copied."""


class _Borrowed:
    """Puts an argument in its place: enters its address where the calls of the program have that of the place."""

    def __init__(self, place: Array, cells: list[tuple[Array, int, int]]) -> None:
        self.place, self.cells = place, cells
        self.now = data_pointer(place)

    def __call__(self, key: Any, new: Array) -> None:
        """As ``place[key] = new``, for the whole of it. An array in another form is copied."""
        source = new if new.strides == self.place.strides and new.flags.aligned else self.place
        if source is self.place:
            self.place[key] = new
        address = data_pointer(source)
        if address != self.now:
            for places, at, offset in self.cells:
                places[at] = address + offset
            self.now = address


def borrowed(place: Array, code: Sequence[tuple[Callable[..., Any], tuple[Any, ...]]]) -> _Borrowed | None:
    """What puts arguments in a place that the code only reads; None where something else than machine code reads it."""
    low, high = byte_range(place)
    cells: list[tuple[Array, int, int]] = []
    for f, args in code:
        if not isinstance(f, NativeSegment):
            arrays: list[Array] = []
            collect(args, np.ndarray, arrays)
            if any(low < end and begin < high for begin, end in map(byte_range, arrays)):
                return None
            continue
        for row in f.rows:
            for places, arrays_here in row.places:
                for at, a in enumerate(arrays_here):
                    if a.size and low <= data_pointer(a) < high:
                        if row.again is not None:
                            return None
                        cells.append((places, at, int(places[at]) - data_pointer(place)))
    return _Borrowed(place, cells)
