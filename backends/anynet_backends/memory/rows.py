"""Gradients of tables of which few rows were looked up, as rows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from anynet_backends.array_api import Array

__all__ = ["Rows"]

AddInto = Callable[[Array, Array, Array], None]


class Rows:
    """Zeros of `shape` with values[k] added to row index[k], without the zeros. Sums of two are Rows, with arrays they are arrays.

    `add_into(array, index, values)` adds rows to an array in place.
    """

    __slots__ = ("add_into", "dtype", "index", "shape", "values")
    __array_ufunc__ = None  # array + rows is left to `__radd__`

    def __init__(self, index: Array, values: Array, shape: tuple[int, ...], add_into: AddInto) -> None:
        self.index, self.values, self.shape, self.add_into = index, values, shape, add_into
        self.dtype = values.dtype

    def dense(self) -> Array:
        """As an array."""
        made = np.zeros(self.shape, self.dtype)
        self.add_to(made)
        return made

    def add_to(self, array: Array) -> None:
        """Add to an array of this shape, in place."""
        self.add_into(array, self.index, self.values)

    def __add__(self, other: Any) -> Any:
        if type(other) is Rows:
            index, values = (
                np.concatenate((getattr(self, n), getattr(other, n))) for n in ("index", "values")
            )
            return Rows(index, values, self.shape, self.add_into)
        total = np.array(other, self.dtype)
        self.add_to(total)
        return total

    __radd__ = __add__

    def distinct(self, before: Array | None = None) -> Array:
        """The rows, and those before, each once, in order."""
        return np.unique(self.index if before is None else np.concatenate((before, self.index)))
