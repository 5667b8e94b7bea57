"""Normalization whose groups are spread in memory: group and instance norm in any order of axes.

In memory the axes are (P, S, C): S is the longest run of neighbouring axes that share their statistics and their weight, P and C are all
before and after it. Sums over S are products with ones; what remains is small, and is summed over the other shared axes as it is. Both
directions are then y = x · scale + shift with one scale and one shift for each of (P, C):

    y = (x − μ) r γ + β,    ∂L/∂x = g γ r − (x − μ) r³ mean(γ g (x − μ)) − r mean(γ g)

Where C is short, several positions of S stand side by side as one row, since NumPy's passes over short rows take long.
"""

from __future__ import annotations

import math
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.memory.layout import CACHE_BLOCK, axes_in_memory, inverse
from anynet_backends.memory.outputs import empty_output
from anynet_backends.memory.reductions import ones_vector
from anynet_backends.products import matmul

__all__ = ["normalize_groups"]

Ints = tuple[int, ...]
ROW: Final = 512
"""Elements that a row should have."""


def _run(free: list[bool], shape: Ints) -> tuple[int, int]:
    """Start and end of the run of True with the most elements."""
    best, start = (0, 0), 0
    for i, yes in enumerate((*free, False)):
        if yes:
            continue
        if i > start and math.prod(shape[start:i]) >= math.prod(shape[best[0] : best[1]] or (0,)):
            best = start, i
        start = i + 1
    return best


class _Groups:
    """An array in its memory order, as (P, S, C)."""

    def __init__(self, x: Array, axes: Ints, shape: Ints) -> None:
        order = axes_in_memory(x.strides)
        if not x.transpose(order).flags.c_contiguous:
            order = tuple(range(x.ndim))
        self.order, self.back = order, inverse(order)
        self.whole = tuple(x.shape[i] for i in order)
        self.first, self.last = _run([i in axes and shape[i] == 1 for i in order], self.whole)
        outer, self.length, inner = (
            math.prod(self.whole[part])
            for part in (slice(self.first), slice(self.first, self.last), slice(self.last, None))
        )
        self.alone = inner == 1  # the rows of S themselves
        most = self.length if self.alone else max(1, ROW // inner)
        self.fold = next(n for n in range(min(most, self.length), 0, -1) if self.length % n == 0)
        self.shape = (outer, self.length // self.fold, self.fold * inner)
        ahead = max(1, CACHE_BLOCK // (self.shape[1] * self.shape[2]))
        down = max(1, CACHE_BLOCK // self.shape[2])
        self.blocks = [
            (slice(p, min(p + ahead, outer)), slice(s, min(s + down, self.shape[1])))
            for p in range(0, outer, ahead)
            for s in range(0, self.shape[1], down)
        ]
        self.scratch = np.empty((min(ahead, outer), min(down, self.shape[1]), self.shape[2]), x.dtype)
        kept = (self.whole[i] if i < self.first or i >= self.last else 1 for i in range(x.ndim))
        self.small = tuple(kept)
        self.shared = tuple(i for i, axis in enumerate(order) if axis in axes)
        self.count = math.prod(self.whole[i] for i in self.shared)

    def view(self, a: Array) -> Array:
        """`a` as (P, S, C), with the folded rows; a copy where it is stored in another order."""
        return np.ascontiguousarray(a.transpose(self.order)).reshape(self.shape)

    def own(self, w: Array, shape: Ints) -> Array:
        """A weight in the order of memory, with as many axes."""
        return w.reshape(shape).transpose(self.order)

    def into(self, v: Array) -> Array:
        """(P, S, C) of `scratch` for a block of v."""
        return self.scratch[: v.shape[0], : v.shape[1]]

    def total(self, v: Array) -> Array:
        """Σ over the rows of a block: (P, columns)."""
        if self.alone:
            return np.matmul(v, ones_vector(v.shape[2], v.dtype)).sum(axis=1, keepdims=True)
        if v.shape[1] == 1:
            return v[:, 0]
        return np.matmul(ones_vector(v.shape[1], v.dtype), v)

    def sums(self) -> Array:
        """Where totals of blocks are added up."""
        return np.zeros((self.shape[0], 1 if self.alone else self.shape[2]), self.scratch.dtype)

    def unfold(self, sums: Array) -> Array:
        """Totals of columns as an array of all axes, those of S with length 1."""
        if not self.alone:
            # NumPy adds up rows of few columns ten times as slowly
            sums = matmul(ones_vector(self.fold, sums.dtype), sums.reshape(self.shape[0], self.fold, -1))
        return sums.reshape(self.small)

    def mean(self, sums: Array) -> Array:
        """The mean over all shared axes, from unfolded totals."""
        return sums.sum(axis=self.shared, keepdims=True) / sums.dtype.type(self.count)

    def spread(self, a: Array) -> Array:
        """One number for each of (P, C), as it is multiplied with blocks."""
        a = np.broadcast_to(a, self.small).reshape(self.shape[0], 1, -1)
        return a if self.alone or self.fold == 1 else np.tile(a, (1, 1, self.fold))


class _Pass:
    """What the forward pass keeps."""

    def __init__(
        self, x: Array, weight: Array | None, bias: Array | None, axes: Ints, shape: Ints, eps: float
    ) -> None:
        self.m = m = _Groups(x, axes, shape)
        self.v = m.view(x)
        self.w = None if weight is None else m.own(weight, shape)
        self.weight_shape = shape
        sums = m.sums()
        for p, s in m.blocks:
            sums[p] += m.total(self.v[p, s])
        mean = m.mean(m.unfold(sums))
        self.means = m.spread(mean)
        sums[...] = 0
        for p, s in m.blocks:
            c = self._centred(p, s)
            c *= c
            sums[p] += m.total(c)
        variance = m.mean(m.unfold(sums))
        self.rate = 1 / np.sqrt(variance + x.dtype.type(eps))
        self.scale = self.rate if self.w is None else self.rate * self.w
        self.shift = None if bias is None else m.own(bias, shape)
        self.mean, self.variance = mean.transpose(m.back), variance.transpose(m.back)

    def _centred(self, p: slice, s: slice) -> Array:
        v = self.v[p, s]
        return np.subtract(v, self.means[p], out=self.m.into(v))

    def write(self, out: Array) -> None:
        """The normalized values."""
        m = self.m
        scale = m.spread(self.scale)
        shift = None if self.shift is None else m.spread(self.shift)
        for p, s in m.blocks:
            o = np.subtract(self.v[p, s], self.means[p], out=out[p, s])
            o *= scale[p]
            if shift is not None:
                o += shift[p]

    def gradients(self, g: Array, into: Array | None) -> tuple[Array, Array]:
        """Write the gradient of x into `into`; those of the weight and the bias."""
        m = self.m
        dots, totals = m.sums(), m.sums()
        for p, s in m.blocks:
            h = g[p, s]
            c = self._centred(p, s)
            c *= h
            dots[p] += m.total(c)
            totals[p] += m.total(h)
        dot, total = m.unfold(dots), m.unfold(totals)
        if into is not None:
            weighted = (dot, total) if self.w is None else (dot * self.w, total * self.w)
            top = m.spread(self.scale)
            side = m.spread(-m.mean(weighted[0]) * self.rate**3)
            shift = m.spread(-m.mean(weighted[1]) * self.rate)
            for p, s in m.blocks:
                c = self._centred(p, s)
                c *= side[p]
                c += shift[p]
                o = np.multiply(g[p, s], top[p], out=into[p, s])
                o += c
        ones = tuple(i for i, axis in enumerate(m.order) if self.weight_shape[axis] == 1)
        each = (a.sum(axis=ones, keepdims=True).transpose(m.back) for a in (dot * self.rate, total))
        return tuple(each)


def normalize_groups(
    x: Array, weight: Array | None, bias: Array | None, need: Any, *, axes: Ints, eps: float, shape: Ints
) -> Any:
    """`normalize` (see `kernels/normalization.py`) for any axes; `shape` is that of the weights, with all axes of x."""
    done = _Pass(x, weight, bias, axes, shape if weight is not None else (1,) * x.ndim, eps)
    m = done.m

    def made() -> tuple[Array, Array]:
        y = empty_output(x.shape, x.dtype, m.order)
        return y, y.transpose(m.order).reshape(m.shape)

    y, out = made()
    done.write(out)
    outputs = y, done.mean, done.variance
    if need is None:
        return outputs

    def pull(g: Array) -> tuple[Any, ...]:
        gx, into = made() if need[0] else (None, None)
        gw, gb = done.gradients(m.view(g), into)
        return (
            gx,
            gw.reshape(weight.shape) if weight is not None and need[1] else None,
            gb.reshape(bias.shape) if bias is not None and need[2] else None,
        )[: len(need)]

    return outputs, pull
