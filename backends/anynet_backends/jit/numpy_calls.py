"""The NumPy calls of a program: what lowering emits, and machine code takes the place of.

Functions that NumPy has no call for with an output in place are defined here, so that machine code knows them by name.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.memory.reductions import sum_by_dot
from anynet_backends.memory.selection import select

__all__ = ["CallList", "NumpyCall", "choose", "gather", "output_index", "scatter", "set_where", "within"]


def choose(condition: Array, a: Any, b: Any, out: Array) -> None:
    """``out = where(condition, a, b)``."""
    if not select(condition, a, b, out):
        np.copyto(out, b, "unsafe")
        np.copyto(out, a, "unsafe", where=condition)


def gather(x: Array, i: Array, j: Array, out: Array) -> None:
    """``out = x[i, j]``."""
    out[...] = x[i, j]


def scatter(x: Array, i: Array, j: Array, value: Any) -> None:
    """``x[i, j] = value``."""
    x[i, j] = value


_FEW: Final = 32
"""Integers that Python compares sooner than NumPy."""
_UNSIGNED: Final = {np.dtype(np.int32): np.dtype(np.uint32), np.dtype(np.int64): np.dtype(np.uint64)}


def within(x: Array, length: int, refuse: Callable[[Array], None]) -> None:
    """``refuse(x)``, which need not be asked where all of x lies from 0 to length − 1. Read as unsigned numbers, negative ones lie
    beyond that too, so that one maximum tells."""
    if 0 < x.size <= _FEW and x.dtype.kind in "iu":
        numbers = x.ravel().tolist()
        if min(numbers) < 0 or max(numbers) >= length:
            refuse(x)
        return
    unsigned = _UNSIGNED.get(x.dtype)
    if unsigned is None or x.size == 0 or np.maximum.reduce(x.view(unsigned), None) >= min(length, 1 << 31):
        refuse(x)


def set_where(x: Array, mask: Array, value: Any) -> None:
    """``x[mask] = value`` for one number."""
    np.copyto(x, value, "unsafe", where=mask)


class NumpyCall(NamedTuple):
    """A call of a program: ``f(*args)``, and the arrays whose memory it reads and writes."""

    f: Callable[..., Any]
    args: tuple[Any, ...]
    reads: tuple[Array, ...]
    writes: tuple[Array, ...]


def output_index(f: Any) -> int:
    """Which argument of a call is written."""
    if f in (np.copyto, set_where, scatter):
        return 0
    return 3 if f is sum_by_dot or getattr(f, "__name__", "") == "reduce" else -1


CallList = list[tuple[Callable[..., Any], tuple[Any, ...]]]
