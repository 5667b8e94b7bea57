"""Kernels in a row, and where they put what they return.

A kernel asks `result` for the arrays that it returns. In a compiled program their places are known beforehand, and `fill`
offers them: what would be a new array and a copy is then written where it belongs.
"""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from anynet_backends.array_api import Array

__all__ = [
    "ONE_HEAD", "axes_in_memory", "fill", "into_table", "inverse", "largest", "one_after_the_other", "result",
    "scores_at_once", "smallest",
]  # fmt: skip


def _positional(ufunc: Any) -> Callable[..., Any]:
    """A ufunc that wants its `out` by keyword, with three arguments."""

    def call(a: Any, b: Any, out: Array) -> None:
        ufunc(a, b, out=out)

    call.ufunc = ufunc  # type: ignore[attr-defined]
    return call


largest, smallest = _positional(np.maximum), _positional(np.minimum)


def into_table(table: dict[str, Callable[..., Any]]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A decorator that enters kernels which give gradients into a table, by their names."""

    def enter(function: Callable[..., Any]) -> Callable[..., Any]:
        function.vjp = True  # type: ignore[attr-defined]
        table[function.__name__] = function
        return function

    return enter


def one_after_the_other(first: Callable[..., Any], second: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that asks `first`, and `second` where that one does not take the arguments. Both give gradients."""

    def kernel(xp: Any, *data: Any, **meta: Any) -> Any:
        y = first(xp, *data, **meta)
        return second(xp, *data, **meta) if y is NotImplemented else y

    kernel.vjp = True  # type: ignore[attr-defined]
    kernel.first = first  # type: ignore[attr-defined]
    return kernel


ONE_HEAD = 1 << 20
"""Numbers in the scores of one head of attention that there is room for."""


def scores_at_once(n: int, m: int, block: int, need: Any) -> bool | None:
    """Whether a kernel of attention keeps the (n, m) scores of all heads for the gradient (short sequences), or has room
    for those of one head at a time, and makes them again; None where it has room for neither, or where the gradient of a
    mask is asked for, which is as large."""
    if n * m <= block * block:
        return True
    masked = need is not None and len(need) > 3 and need[3]
    return False if n * m <= ONE_HEAD and block >= 256 and not masked else None


class _Offered(threading.local):
    places: list[Array] = []  # noqa: RUF012 - replaced, never changed for all threads


_offered = _Offered()


def result(shape: tuple[int, ...], dtype: Any, order: tuple[int, ...] | None = None) -> Array:
    """An array to be returned, with undefined contents; `order` lists its axes from the outermost in memory inwards."""
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


def axes_in_memory(strides: tuple[int, ...]) -> tuple[int, ...]:
    """The axes from the outermost in memory inwards."""
    return tuple(sorted(range(len(strides)), key=lambda i: -abs(strides[i])))


@functools.lru_cache(maxsize=256)
def inverse(order: tuple[int, ...]) -> tuple[int, ...]:
    """The permutation that undoes one."""
    return tuple(order.index(axis) for axis in range(len(order)))


def fill(places: tuple[Array, ...], f: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """Call `f` and see that what it returns, an array or a tuple of them, stands in `places`."""
    # a kernel that once kept in a place what its gradient needs is offered none: it would have to run twice
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
    if lost:  # what the gradient needs would be overwritten
        f.places_lost = True  # type: ignore[attr-defined]
        made = f(*args, **kwargs)
        values = made if isinstance(made, tuple) else (made,)
    astray = [
        i for i, value in enumerate(values) if any(value is place for j, place in enumerate(places) if j != i)
    ]
    if astray:  # it took one place for another
        values = tuple(value.copy() if i in astray else value for i, value in enumerate(values))
    for place, value in zip(places, values, strict=True):
        if value is not place:
            place[...] = value
