"""Normalization in NumPy's terms: in blocks that stay in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.kernels.grouped_normalization import normalize_groups
from anynet_backends.memory.layout import CACHE_BLOCK, axes_in_memory, inverse
from anynet_backends.memory.outputs import empty_output
from anynet_backends.memory.reductions import ones_vector, sum_by_dot

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)


class _Matrix:
    """How `normalize` sees its input: as a matrix in its own memory order, whose rows or columns share statistics."""

    __slots__ = ("across", "cols", "each", "order", "rows", "shape", "weights")

    def __init__(self, x: Array, axes: tuple[int, ...], shape: tuple[int, ...], weighted: bool) -> None:
        self.order = axes_in_memory(x.strides)
        shared = [i in axes for i in self.order]
        self.shape = tuple(x.shape[i] for i in self.order)
        k = sum(shared)
        self.across = all(shared[:k])  # statistics of columns, over the rows; else of rows, over the columns
        fits = (
            k and (self.across or all(shared[-k:])) and x.transpose(self.order).flags.c_contiguous and x.size
        )
        cut = k if self.across else len(shared) - k
        self.rows, self.cols = math.prod(self.shape[:cut]), math.prod(self.shape[cut:])
        self.weights = shape
        own = tuple(shape[i] for i in self.order)
        kept = tuple(1 if s else n for s, n in zip(shared, self.shape, strict=True))
        inner = tuple(n if s else 1 for s, n in zip(shared, self.shape, strict=True))
        # a weight for each element of a group (layer norm), else one per group
        self.each = own == inner and own != kept
        if not fits or (weighted and not (own == kept or (own == inner and not self.across))):
            self.rows = 0

    def view(self, a: Array) -> Array:
        """`a` as the matrix."""
        return np.ascontiguousarray(a.transpose(self.order)).reshape(self.rows, self.cols)

    def flat(self, w: Array) -> Array:
        """A weight as a vector, for the rows or columns in their order."""
        return w.reshape(self.weights).transpose(self.order).reshape(-1)

    def unflat(self, w: Array, like: Array) -> Array:
        """A vector of these as a weight."""
        own = tuple([self.weights[i] for i in self.order])
        return w.reshape(own).transpose(inverse(self.order)).reshape(like.shape)

    def like(self, x: Array) -> tuple[Array, Array]:
        """A new array in the shape and memory order of x, and its matrix."""
        made = empty_output(x.shape, x.dtype, self.order)
        return made, made.transpose(self.order).reshape(self.rows, self.cols)


def _blocks(rows: int, cols: int) -> list[slice]:
    step = max(1, CACHE_BLOCK // cols)
    return [slice(i, min(i + step, rows)) for i in range(0, rows, step)]


def _folded(a: Array, groups: int) -> Array:
    """Sums of columns, where several rows of `groups` columns are side by side."""
    total = sum_by_dot(a, 0, None, None, False)
    return total if total.size == groups else total.reshape(-1, groups).sum(axis=0)


class _Groups:
    """A matrix whose rows or columns are normalized, block by block.

    `fold` rows are viewed side by side as one; each of the `groups` rows or columns has a mean and a variance of `count` elements.
    """

    def __init__(
        self,
        m: _Matrix,
        x: Array,
        weight: Array | None,
        bias: Array | None,
        fold: int,
        groups: int,
        count: int,
    ) -> None:
        self.m, self.fold = m, fold
        self.shape = m.rows // fold, m.cols * fold
        self.v = m.view(x).reshape(self.shape)
        self.w = None if weight is None else m.flat(weight)
        self.b = None if bias is None else m.flat(bias)
        self.blocks = _blocks(*self.shape)
        dtype = x.dtype
        self.scratch = np.empty((self.blocks[0].stop, self.shape[1]), dtype)
        self.mean, self.variance = np.zeros(groups, dtype), np.zeros(groups, dtype)
        self.n = np.asarray(count, dtype)

    def forward(self, out: Array, eps: Array) -> None:
        """Write the normalized values into `out`; mean and variance are attributes afterwards."""
        raise NotImplementedError

    def backward(self, g: Array, into: Array, *, of_x: bool) -> tuple[Array, Array]:
        """Write the gradient of x into `into`, and return those of the weight and the bias."""
        raise NotImplementedError


class _Columns(_Groups):
    """The columns of a matrix, normalized over its rows."""

    def __init__(self, m: _Matrix, x: Array, weight: Array | None, bias: Array | None) -> None:
        # few columns: several rows side by side, since a pass of NumPy over a short row costs as much as over a long one
        fold = math.gcd(m.rows, max(1, 512 // m.cols))
        super().__init__(m, x, weight, bias, fold, m.cols, m.rows)

    def _centred(self, s: slice) -> Array:
        return np.subtract(self.v[s], self.means, out=self.scratch[: s.stop - s.start])

    def forward(self, out: Array, eps: Array) -> None:
        groups, fold, w = self.m.cols, self.fold, self.w
        for s in self.blocks:
            self.mean += _folded(self.v[s], groups)
        self.mean /= self.n
        self.means = np.tile(self.mean, fold)
        for s in self.blocks:
            c = self._centred(s)
            c *= c
            self.variance += _folded(c, groups)
        self.variance /= self.n
        self.rate = 1 / np.sqrt(self.variance + eps)
        scale = np.tile(self.rate if w is None else self.rate * w, fold)
        shift = None if self.b is None else np.tile(self.b, fold)
        for s in self.blocks:
            o = np.subtract(self.v[s], self.means, out=out[s])
            o *= scale
            if shift is not None:
                o += shift

    def backward(self, g: Array, into: Array, *, of_x: bool) -> tuple[Array, Array]:
        groups, fold, n, rate = self.m.cols, self.fold, self.n, self.rate
        gw, gb = np.zeros(groups, g.dtype), np.zeros(groups, g.dtype)
        for s in self.blocks:
            c = self._centred(s)
            c *= g[s]
            gw += _folded(c, groups)
            gb += _folded(g[s], groups)
        if of_x:
            once = rate if self.w is None else rate * self.w
            top = np.tile(once, fold)
            side, shift = np.tile(-once * rate * rate * (gw / n), fold), np.tile(-once * (gb / n), fold)
            for s in self.blocks:
                c = self._centred(s)
                c *= side
                c += shift
                o = np.multiply(g[s], top, out=into[s])
                o += c
        gw *= rate
        return gw, gb


class _Rows(_Groups):
    """The rows of a matrix, each normalized by itself; there is one weight per row or (`m.each`) per column."""

    def __init__(self, m: _Matrix, x: Array, weight: Array | None, bias: Array | None) -> None:
        super().__init__(m, x, weight, bias, 1, m.rows, m.cols)
        self.rate, self.ones = np.empty(m.rows, x.dtype), ones_vector(m.cols, x.dtype)

    def forward(self, out: Array, eps: Array) -> None:
        w, b = self.w, self.b
        for s in self.blocks:
            mean, variance, r = self.mean[s], self.variance[s], self.rate[s]
            np.divide(self.v[s] @ self.ones, self.n, out=mean)
            c = np.subtract(self.v[s], mean[:, None], out=out[s])
            np.divide(np.vecdot(c, c), self.n, out=variance)
            np.reciprocal(np.sqrt(variance + eps), out=r)
            if w is None or self.m.each:
                c *= r[:, None]
                if w is not None:
                    c *= w
                    c += b
            else:
                c *= (r * w[s])[:, None]
                c += b[s][:, None]  # type: ignore[index]

    def backward(self, g: Array, into: Array, *, of_x: bool) -> tuple[Array, Array]:
        w, n, ones = self.w, self.n, self.ones
        by_column = w if self.m.each else None
        size = self.m.rows if by_column is None else self.m.cols
        gw, gb = np.zeros(size, g.dtype), np.zeros(size, g.dtype)
        for s in self.blocks:
            r, h, o = self.rate[s], g[s], into[s]
            c = np.subtract(self.v[s], self.mean[s][:, None], out=self.scratch[: s.stop - s.start])
            if by_column is not None:
                c *= r[:, None]
                np.multiply(h, c, out=o)
                gw += sum_by_dot(o, 0, None, None, False)
                gb += sum_by_dot(h, 0, None, None, False)
                h, slope = np.multiply(h, by_column, out=o), r
                total, dot = h @ ones, np.vecdot(h, c)
            else:
                total, dot = h @ ones, np.vecdot(h, c) * r
                gb[s], gw[s] = total, dot
                dot *= r
                slope = r if w is None else r * w[s]
            c *= (dot / n)[:, None]
            np.subtract(h, (total / n)[:, None], out=o)
            o -= c
            o *= slope[:, None]
        return gw, gb


@_kernel
def normalize(
    xp: Backend,
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axes: tuple[int, ...],
    eps: float,
    shape: tuple[int, ...],
    split: tuple[int, ...] = (),
    centred: bool = True,
    need: Any,
) -> Any:
    """(x − mean) / √(variance + ε) · weight + bias, block by block, with statistics as products with ones."""
    if split:
        how = {"axes": axes, "eps": eps, "shape": shape, "centred": centred}
        return _in_groups(normalize, xp, x, (weight, bias), need, split, **how)
    if not centred or x.dtype not in (np.float32, np.float64) or (weight is None) != (bias is None):
        return NotImplemented
    if weight is not None and bias is not None and (weight.dtype != x.dtype or bias.dtype != x.dtype):
        return NotImplemented
    m = _Matrix(x, axes, shape, weight is not None)
    if not m.rows:
        return (
            normalize_groups(x, weight, bias, need, axes=axes, eps=eps, shape=shape)
            if x.size
            else NotImplemented
        )
    groups = (_Columns if m.across else _Rows)(m, x, weight, bias)
    y, out = m.like(x)
    groups.forward(out.reshape(groups.shape), np.asarray(eps, x.dtype))
    stats = tuple(1 if i in axes else x.shape[i] for i in m.order)
    outputs = y, *(a.reshape(stats).transpose(inverse(m.order)) for a in (groups.mean, groups.variance))
    if need is None:
        return outputs

    def pull(g: Array) -> tuple[Any, ...]:
        gx, into = m.like(x)
        g = m.view(g).reshape(groups.shape)
        gw, gb = groups.backward(g, into.reshape(groups.shape), of_x=need[0])
        return (
            gx if need[0] else None,
            m.unflat(gw, weight) if weight is not None and need[1] else None,
            m.unflat(gb, bias) if bias is not None and need[2] else None,
        )[: len(need)]

    return outputs, pull


def _in_groups(
    kernel: Callable[..., Any], xp: Backend, x: Array, weights: tuple[Array | None, ...], need: Any, split: tuple[int, ...], **how: Any
) -> Any:  # fmt: skip
    """`normalize` of x in another shape."""
    made = kernel(xp, x.reshape(split), *weights, need=need, **how)
    if made is NotImplemented:
        return made
    (y, *statistics), pull = (made, None) if need is None else made
    found = (y.reshape(x.shape), *statistics)
    if pull is None:
        return found

    def back(g: Array) -> tuple[Any, ...]:
        gx, *others = pull(g.reshape(split))
        return None if gx is None else gx.reshape(x.shape), *others

    return found, back
