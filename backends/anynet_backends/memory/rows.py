"""Gradients of tables of which few rows were looked up, as rows."""

from __future__ import annotations

from typing import Any

from anynet_backends.array_api import Array

__all__ = ["Rows"]


class Rows:
    """Zeros of `shape` with values[k] added to row index[k], without the zeros; arrays of the backend `xp`.

    Sums of two are Rows, with arrays they are arrays; the values at a row are added up first, as those of arrays would be.
    `sparse`: a lookup asked for rows, so that the gradient of a variable stays what it is; else they are a way to write an array.
    `coalesced`: each index is there once, in order.
    """

    __slots__ = ("coalesced", "dtype", "index", "shape", "sparse", "values", "xp")
    __array_ufunc__ = None  # array + rows is left to `__radd__`

    def __init__(
        self,
        xp: Any,
        index: Array,
        values: Array,
        shape: tuple[int, ...],
        *,
        sparse: bool = False,
        coalesced: bool = False,
    ) -> None:
        self.xp, self.index, self.values, self.shape = xp, index, values, tuple(shape)
        self.sparse, self.coalesced = sparse, coalesced
        self.dtype = values.dtype

    def with_values(self, values: Array) -> Rows:
        """Other values at the same rows."""
        return Rows(self.xp, self.index, values, self.shape, sparse=self.sparse, coalesced=self.coalesced)

    def none(self) -> Rows:
        """No rows: a gradient of zero."""
        index, values = self.index[:0], self.values[:0, ...]
        return Rows(self.xp, index, values, self.shape, sparse=self.sparse, coalesced=True)

    def dense(self) -> Array:
        """As an array."""
        made = self._zeros(self.shape[0])
        self.add_to(made)
        return made

    def add_to(self, array: Array) -> None:
        """Add to an array of this shape, in place."""
        self.xp.add_to_rows(array, self.index, self.values)

    def coalesce(self) -> Rows:
        """The same with each index once, in order: the values at a row are added up in the order in which they came, as in `dense`."""
        if self.coalesced:
            return self
        xp, (index, order, group) = self.xp, self._sorted(self.index)
        values = xp.take(self.values, order, axis=0)
        if index.shape[0] < order.shape[0]:
            summed = self._zeros(int(index.shape[0]))
            xp.add_to_rows(summed, group, values)
            values = summed
        return Rows(xp, index, values, self.shape, sparse=self.sparse, coalesced=True)

    def distinct(self, before: Array | None = None) -> Array:
        """The rows, and those before, each once, in order."""
        return self._sorted(self.index if before is None else self.xp.concat((before, self.index)))[0]

    def _sorted(self, index: Array) -> tuple[Array, Array, Array]:
        """The distinct numbers of an index in order, its positions in that order, and for each of these the number that is there."""
        xp = self.xp
        n = index.shape[0]
        place = xp.arange(n, dtype=index.dtype, device=index.device)
        if n == 0:
            return index, place, place
        # numbers that hold both, so that any sort is stable: the order of the sums is that of the lookups
        bits = (n - 1).bit_length()
        size = 1 << bits
        both = xp.sort(index * size + place)
        order, ordered = both & (size - 1), both >> bits
        first = xp.ones((1,), dtype=xp.bool, device=ordered.device)
        new = xp.concat((first, ordered[1:] != ordered[:-1]))
        group = xp.cumulative_sum(xp.astype(new, order.dtype)) - 1
        return ordered[new], order, group

    def __add__(self, other: Any) -> Any:
        if type(other) is Rows:
            parts = (self, other) if self.sparse or other.sparse else (self.coalesce(), other.coalesce())
            index, values = (
                self.xp.concat([getattr(rows, n) for rows in parts], axis=0) for n in ("index", "values")
            )
            both = Rows(self.xp, index, values, self.shape, sparse=self.sparse and other.sparse)
            return (
                both.coalesce() if both.sparse and self.xp.eager and index.shape[0] > self.shape[0] else both
            )
        total = self.xp.asarray(other, dtype=self.dtype, copy=True)
        self.coalesce().add_to(total)
        return total

    __radd__ = __add__

    def _zeros(self, count: int) -> Array:
        xp = self.xp
        device = xp.native_device(xp.device_of(self.values))
        return xp.zeros((count, *self.shape[1:]), dtype=self.dtype, device=device)
