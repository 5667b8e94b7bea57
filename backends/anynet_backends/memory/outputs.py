"""Output buffers for kernels.

A kernel allocates what it returns with `empty_output`. In a compiled program the memory plan has a place for each output;
`write_into` offers these places, so that the kernel writes there directly, without a new array and a copy.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.memory.layout import axes_in_memory, inverse

__all__ = ["dense", "empty_output", "in_memory_order", "permuted", "write_into"]


class _Offered(threading.local):
    places: list[Array] = []  # noqa: RUF012 - replaced, never changed for all threads


_offered = _Offered()


def empty_output(shape: tuple[int, ...], dtype: Any, order: tuple[int, ...] | None = None) -> Array:
    """An array that a kernel returns, with undefined contents; `order` lists its axes in memory order, the outermost first."""
    inner = range(len(shape)) if order is None else order
    if _offered.places:
        itemsize = np.dtype(dtype).itemsize
        strides, step = [0] * len(shape), itemsize
        for axis in reversed(inner):
            strides[axis] = step
            step *= shape[axis]
        for i, place in enumerate(_offered.places):
            if place.shape == shape and place.dtype == dtype:
                same = all(n == 1 or a == b for n, a, b in zip(shape, place.strides, strides, strict=True))
                if same or not math.prod(shape):
                    return _offered.places.pop(i)
    if order is None:
        return np.empty(shape, dtype)
    return np.empty([shape[i] for i in order], dtype).transpose(inverse(order))


def _contiguous(x: Array) -> Array:
    y = empty_output(x.shape, x.dtype)
    y[...] = x
    return y


_contiguous.calls = lambda out, x: [(np.copyto, (out, x, "unsafe"))]  # type: ignore[attr-defined]


def dense(xp: Any, x: Array) -> Array:
    """x in memory in the order of its axes, for kernels that are traceable."""
    return x if x.flags.c_contiguous else xp.call(_contiguous, x)


def in_memory_order(xp: Any, x: Array) -> tuple[Array, tuple[int, ...]]:
    """x with its axes in memory order, which has no gaps, and that order; a copy in the order of its axes, where it has gaps."""
    order = axes_in_memory(x.strides)
    if x.flags.c_contiguous or not xp.permute_dims(x, order).flags.c_contiguous:
        return dense(xp, x), tuple(range(x.ndim))
    return xp.permute_dims(x, order), order


def permuted(xp: Any, x: Array, order: tuple[int, ...]) -> Array:
    """x with its axes in an order; x itself where they are, since views are no results of compiled calls."""
    return x if order == tuple(range(x.ndim)) else xp.permute_dims(x, order)


def write_into(places: tuple[Array, ...], f: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """Call `f`, and make sure that its results (an array or a tuple) are in `places` afterwards."""
    # a kernel that once used an offered place for data that its gradient needs is offered none: it would have to run twice
    _offered.places = left = [] if getattr(f, "places_lost", False) else list(places)
    try:
        values = f(*args, **kwargs)
    finally:
        _offered.places = []
    if not isinstance(values, tuple):
        values = (values,)
    if all(value is place for value, place in zip(values, places, strict=True)):
        return
    if getattr(f, "keeps", False) and not getattr(f, "places_lost", False):
        taken = [p for p in places if not any(p is other for other in left)]
        lost = not all(any(np.may_share_memory(v, p) for v in values) for p in taken)
    else:
        lost = False
    if lost:  # data that the gradient needs would be overwritten
        f.places_lost = True  # type: ignore[attr-defined]
        made = f(*args, **kwargs)
        values = made if isinstance(made, tuple) else (made,)
    misplaced = [
        i for i, value in enumerate(values) if any(value is place for j, place in enumerate(places) if j != i)
    ]
    if misplaced:  # outputs were written to each other's buffers
        values = tuple(value.copy() if i in misplaced else value for i, value in enumerate(values))
    for place, value in zip(places, values, strict=True):
        if value is not place:
            place[...] = value
