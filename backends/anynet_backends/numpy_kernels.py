"""Normalization in blocks."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.kernel_table import register_in
from anynet_backends.memory.layout import CACHE_BLOCK
from anynet_backends.memory.outputs import empty_output
from anynet_backends.memory.reductions import ones_vector, sum_by_dot

KERNELS: dict[str, Callable[..., Any]] = {}
"""By the name of the primitive."""

_kernel = register_in(KERNELS)


class _Matrix:
    """How `normalize` sees its input: as a matrix in its own memory order, whose rows or columns share statistics."""

    __slots__ = ("across", "cols", "each", "order", "rows", "shape")

    def __init__(self, x: Array, axes: tuple[int, ...], shape: tuple[int, ...], weighted: bool) -> None:
        self.order = tuple(sorted(range(x.ndim), key=lambda i: (-x.strides[i], i)))
        shared = [i in axes for i in self.order]
        self.shape = tuple(x.shape[i] for i in self.order)
        k = sum(shared)
        self.across = all(shared[:k])  # statistics of columns, over the rows; else of rows, over the columns
        fits = (
            k and (self.across or all(shared[-k:])) and x.transpose(self.order).flags.c_contiguous and x.size
        )
        cut = k if self.across else len(shared) - k
        self.rows, self.cols = math.prod(self.shape[:cut]), math.prod(self.shape[cut:])
        own = tuple(shape[i] for i in self.order)
        kept = tuple(1 if s else n for s, n in zip(shared, self.shape, strict=True))
        inner = tuple(n if s else 1 for s, n in zip(shared, self.shape, strict=True))
        self.each = (
            own == inner and own != kept
        )  # a weight for each element of a group (layer norm), else one a group
        if not fits or (weighted and not (own == kept or (own == inner and not self.across))):
            self.rows = 0

    def view(self, a: Array) -> Array:
        """`a` as the matrix."""
        return np.ascontiguousarray(a.transpose(self.order)).reshape(self.rows, self.cols)

    def like(self, x: Array) -> tuple[Array, Array]:
        """A new array in the shape and memory order of x, and its matrix."""
        made = empty_output(x.shape, x.dtype, self.order)
        return made, made.transpose(self.order).reshape(self.rows, self.cols)


def _blocks(rows: int, cols: int) -> list[slice]:
    step = max(1, CACHE_BLOCK // cols)
    return [slice(i, min(i + step, rows)) for i in range(0, rows, step)]


def _folded(a: Array, groups: int) -> Array:
    """Sums of columns that stand for `groups` columns, side by side."""
    total = sum_by_dot(a, 0, None, None, False)
    return total if total.size == groups else total.reshape(-1, groups).sum(axis=0)


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
    need: Any,
) -> Any:
    """(x − mean) / √(variance + ε) · weight + bias, block by block, with statistics as products with ones."""
    if split:
        return _in_groups(normalize, xp, x, (weight, bias), need, split, axes=axes, eps=eps, shape=shape)
    if x.dtype not in (np.float32, np.float64) or (weight is None) != (bias is None):
        return NotImplemented
    if weight is not None and bias is not None and (weight.dtype != x.dtype or bias.dtype != x.dtype):
        return NotImplemented
    m = _Matrix(x, axes, shape, weight is not None)
    if not m.rows:
        return (
            NotImplemented if weight is None else _weights_apart(xp, x, weight, bias, axes, eps, shape, need)
        )
    v, across, dtype = m.view(x), m.across, x.dtype
    y, out = m.like(x)
    # few columns: several rows side by side, since a pass of NumPy over a short row costs as much as over a long one
    fold = math.gcd(m.rows, max(1, 512 // m.cols)) if across else 1
    wide = (m.rows // fold, m.cols * fold)
    v, out = v.reshape(wide), out.reshape(wide)
    blocks = _blocks(*wide)
    count = m.rows if across else m.cols
    groups = m.cols if across else m.rows
    scratch = np.empty((blocks[0].stop, wide[1]), dtype)
    w = None if weight is None else weight.reshape(-1)
    b = None if bias is None else bias.reshape(-1)
    mean, variance = np.zeros(groups, dtype), np.zeros(groups, dtype)
    n = np.asarray(count, dtype)
    stats = tuple(1 if i in axes else k for i, k in enumerate(x.shape))
    back = tuple(m.order.index(i) for i in range(x.ndim))
    if across:
        for s in blocks:
            mean += _folded(v[s], groups)
        mean /= n
        means = np.tile(mean, fold)
        for s in blocks:
            c = np.subtract(v[s], means, out=scratch[: s.stop - s.start])
            c *= c
            variance += _folded(c, groups)
        variance /= n
        rate = 1 / np.sqrt(variance + np.asarray(eps, dtype))
        scale = np.tile(rate if w is None else rate * w, fold)
        lift = None if b is None else np.tile(b, fold)
        for s in blocks:
            o = np.subtract(v[s], means, out=out[s])
            o *= scale
            if lift is not None:
                o += lift
    else:
        rate, ones = np.empty(groups, dtype), ones_vector(m.cols, dtype)
        for s in blocks:
            here, spread, r = mean[s], variance[s], rate[s]
            np.divide(v[s] @ ones, n, out=here)
            c = np.subtract(v[s], here[:, None], out=out[s])
            np.divide(np.vecdot(c, c), n, out=spread)
            np.reciprocal(np.sqrt(spread + np.asarray(eps, dtype)), out=r)
            if w is None or m.each:
                c *= r[:, None]
                if w is not None:
                    c *= w
                    c += b
            else:
                c *= (r * w[s])[:, None]
                c += b[s][:, None]  # type: ignore[index]
    kept = tuple(stats[i] for i in m.order)
    result = y, mean.reshape(kept).transpose(back), variance.reshape(kept).transpose(back)
    if need is None:
        return result

    def pull(g: Array) -> tuple[Any, ...]:
        g = m.view(g).reshape(wide)
        gx, into = m.like(x)
        into = into.reshape(wide)
        each = m.each and w is not None
        gw = np.zeros(m.cols if each else groups, dtype)
        gb = np.zeros(m.cols if each else groups, dtype)
        if across:
            for s in blocks:
                c = np.subtract(v[s], means, out=scratch[: s.stop - s.start])
                c *= g[s]
                gw += _folded(c, groups)
                gb += _folded(g[s], groups)
            if need[0]:
                once = rate if w is None else rate * w
                top = np.tile(once, fold)
                side, shift = np.tile(-once * rate * rate * (gw / n), fold), np.tile(-once * (gb / n), fold)
                for s in blocks:
                    c = np.subtract(v[s], means, out=scratch[: s.stop - s.start])
                    c *= side
                    c += shift
                    o = np.multiply(g[s], top, out=into[s])
                    o += c
            gw *= rate
        else:
            for s in blocks:
                r, h, o = rate[s], g[s], into[s]
                c = np.subtract(v[s], mean[s][:, None], out=scratch[: s.stop - s.start])
                if w is not None and m.each:
                    c *= r[:, None]
                    np.multiply(h, c, out=o)
                    gw += sum_by_dot(o, 0, None, None, False)
                    gb += sum_by_dot(h, 0, None, None, False)
                    h, slope = np.multiply(h, w, out=o), r
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
        return (
            gx if need[0] else None,
            gw.reshape(weight.shape) if weight is not None and need[1] else None,
            gb.reshape(bias.shape) if bias is not None and need[2] else None,
        )[: len(need)]

    return result, pull


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


def _weights_apart(
    xp: Backend, x: Array, weight: Array, bias: Array, axes: tuple[int, ...], eps: float, shape: tuple[int, ...], need: Any
) -> Any:  # fmt: skip
    """The same for other weights than one a group or one for each element of a group: in passes of their own."""
    y = empty_output(x.shape, x.dtype)  # before the normal values, which are no result
    made = normalize(xp, x, axes=axes, eps=eps, shape=shape, need=None if need is None else (need[0],))
    if made is NotImplemented:
        return made
    (normal, mean, variance), pull_normal = made if need is not None else (made, None)
    w = weight.reshape(shape)
    np.multiply(normal, w, out=y)
    y += bias.reshape(shape)
    if need is None or pull_normal is None:
        return y, mean, variance
    shared = tuple(i for i, n in enumerate(shape) if n == 1)

    def pull(g: Array) -> tuple[Any, ...]:
        gx = pull_normal(g * w)[0] if need[0] else None
        gw = (g * normal).sum(axis=shared).reshape(weight.shape) if need[1] else None
        return gx, gw, g.sum(axis=shared).reshape(bias.shape) if need[2] else None

    return (y, mean, variance), pull
