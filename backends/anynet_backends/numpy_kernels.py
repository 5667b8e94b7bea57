"""Kernels in NumPy's own terms: results written in place, memory laid out for the BLAS library.

Each replaces a primitive of the same name (see `Primitive.kernel` for the protocol); its reference stands in
`anynet/ops/`. In a compiled program each is one instruction.
"""

from __future__ import annotations

import functools
import itertools
import math
import struct
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from anynet_backends import machine
from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.kernel_table import register_in
from anynet_backends.machine import at_once, repeat, repetition, set_where
from anynet_backends.memory.attention import scores_at_once
from anynet_backends.memory.outputs import empty_output
from anynet_backends.memory.reductions import ones_vector, sum_by_dot
from anynet_backends.numpy_namespace import largest

__all__ = ["KERNELS", "UPDATES"]

KERNELS: dict[str, Callable[..., Any]] = {}
"""By the name of the primitive."""


_kernel = register_in(KERNELS)
_maximum: Any = np.maximum.reduce
_sum: Any = np.add.reduce


def _order(n: int, reverse: bool) -> range:
    return range(n - 1, -1, -1) if reverse else range(n)


def _plain(*arrays: Array | None) -> bool:
    kinds = {a.dtype for a in arrays if a is not None}
    return len(kinds) == 1 and kinds.pop().kind == "f"


def _weight_gradient(xp: Backend, d: Array, states: Array, first: Array, reverse: bool) -> Array:
    """Σ_t d_tᵀ h_{t−1}, as one product over all steps but the first and one for that."""
    late, early = (d[:-1], states[1:]) if reverse else (d[1:], states[:-1])
    start = d[-1] if reverse else d[0]
    width = d.shape[-1], states.shape[-1]
    total: Array = xp.matmul(late.reshape(-1, width[0]).T, early.reshape(-1, width[1]))
    total += xp.matmul(start.T, first)
    return total


BLOCK = (
    1 << 15
)  # elements of a pass over long arrays: a handful of float32 blocks stay in the second-level cache

# ½ erfcx(t/√2) = Φ(−t) / e^{−t²/2} as a polynomial in u = 1/(1 + 0.3 t) without constant term, fitted for t in [0, 14] by
# Lawson's iteration to a relative error of 1.5e-7
_TAIL = (
    0.11962929864998229, 0.12075395891743321, 0.09991347331643216, 0.12856169131572207, -0.053683772140125326,
    0.20635365225153549, -0.15720317201951392, 0.03567479683629934,
)  # fmt: skip


@_kernel
def gelu(xp: Backend, x: Array, /, *, need: Any) -> Any:
    """x Φ(x) = max(x, 0) − |x| Φ(−|x|), in blocks; its derivative Φ(x) + x φ(x) is made along with it."""
    if x.dtype != np.float32:
        return NotImplemented
    flat = x.reshape(-1)
    n = flat.size
    y = empty_output(x.shape, np.float32)
    slope = None if need is None else np.empty(n, np.float32)
    out = y.reshape(-1)
    body, arrays = (_gelu, (flat, out)) if slope is None else (_gelu_and_slope, (flat, out, slope))
    places, order, room = _in_blocks(arrays)
    repeat(body, places, order, (), room, apart=True)
    if order.stop < n:
        body(at_once, *places(order.stop), *(a[: n - order.stop] for a in room))
    if slope is None:
        return y
    d = slope.reshape(x.shape)
    return y, lambda g: (np.multiply(g, d, out=empty_output(x.shape, np.float32)),)


def _in_blocks(
    arrays: Sequence[Array],
) -> tuple[Callable[[int], tuple[Array, ...]], range, tuple[Array, ...]]:
    """Blocks of vectors that stay in the cache: the parts of the vectors by where they begin, where all but a last, shorter
    one do, and room for four temporaries."""
    n = arrays[0].size
    width = min(n, max(n // 4, 1), BLOCK // 4) if machine.available() else min(n, BLOCK)
    room = tuple(np.empty(width, np.float32) for _ in range(4))

    def places(start: int) -> tuple[Array, ...]:
        return tuple([a[start : start + width] for a in arrays])

    return places, range(0, n - n % width if n else 0, max(width, 1)), room


def _gelu_calls(target: Array, x: Array, /) -> list[Any] | None:
    """The call that writes GELU into `target`, for a program whose arrays stay where they are."""
    plain = x.dtype == np.float32 == target.dtype and x.flags.c_contiguous and target.flags.c_contiguous
    if not plain or not machine.available():
        return None
    places, order, room = _in_blocks((x.reshape(-1), target.reshape(-1)))
    blocks = repetition(_gelu, places, order, (), room, apart=True) if len(order) > 2 else None
    if blocks is None:
        return None
    calls: list[Any] = [(blocks, ())]
    if order.stop < x.size:
        last = (*places(order.stop), *(a[: x.size - order.stop] for a in room))
        calls.append((_gelu, (at_once, *last)))
    return calls


gelu.calls = _gelu_calls  # type: ignore[attr-defined]


def _gelu(call: Any, a: Array, b: Array, t: Array, e: Array, u: Array, q: Array) -> None:
    """b = max(a, 0) − |a| Φ(−|a|), and what its derivative needs: t = |a|, e = e^{−a²/2}, q = Φ(−|a|)."""
    call(np.abs, a, t)
    call(np.multiply, t, t, e)
    call(np.multiply, e, -0.5, e)
    call(np.exp, e, e)
    call(np.multiply, t, 0.3, u)
    call(np.add, u, 1.0, u)
    call(np.reciprocal, u, u)
    call(np.multiply, u, _TAIL[-1], q)
    for c in _TAIL[-2::-1]:
        call(np.add, q, c, q)
        call(np.multiply, q, u, q)
    call(np.multiply, q, e, q)
    call(np.multiply, t, q, u)
    call(largest, a, 0.0, b)
    call(np.subtract, b, u, b)


def _gelu_and_slope(call: Any, a: Array, b: Array, d: Array, t: Array, e: Array, u: Array, q: Array) -> None:
    """The same, and d = ½ + sgn(a) (½ − Φ(−|a|) + |a| φ(a))."""
    _gelu(call, a, b, t, e, u, q)
    call(np.multiply, e, 1 / math.sqrt(2 * math.pi), e)
    call(np.multiply, e, t, e)
    call(np.subtract, e, q, e)
    call(np.add, e, 0.5, e)
    call(np.copysign, e, a, e)
    call(np.add, e, 0.5, d)


@_kernel
def softmax(xp: Backend, x: Array, *, axis: int, need: Any) -> Any:
    """Softmax along an axis that is not the last in memory, in parts that stay in the cache."""
    axis %= x.ndim
    outer, n, inner = math.prod(x.shape[:axis]), x.shape[axis], math.prod(x.shape[axis + 1 :])
    if not _plain(x) or inner < 16 or n < 2 or not x.size or not x.flags.c_contiguous:
        return NotImplemented
    y = empty_output(x.shape, x.dtype)
    places, order, _ = _in_columns(outer, n, inner, x, y)
    row = np.empty((1, 1, places(0)[0].shape[-1]), x.dtype)
    for at in order:
        a, b = places(at)
        top = row[..., : a.shape[-1]]
        _maximum(a, 1, None, top, True)
        np.subtract(a, top, out=b)
        np.exp(b, out=b)
        _sum(b, 1, None, top, True)
        np.reciprocal(top, out=top)
        np.multiply(b, top, out=b)
    if need is None:
        return y

    def pull(g: Array) -> tuple[Array]:
        gx = empty_output(x.shape, x.dtype)
        parts, order, room = _in_columns(outer, n, inner, np.ascontiguousarray(g), y, gx)
        row = np.empty((1, 1, room.shape[-1]), x.dtype)
        for at in order:
            a, b, c = parts(at)
            width = a.shape[-1]
            total, products = row[..., :width], room[..., :width]
            np.multiply(a, b, out=products)
            _sum(products, 1, None, total, True)
            np.subtract(a, total, out=products)
            np.multiply(products, b, out=c)
        return (gx,)

    return y, pull


def _in_columns(
    outer: int, n: int, inner: int, *arrays: Array
) -> tuple[Callable[[int], tuple[Array, ...]], range, Array]:
    """Parts of arrays (outer, n, inner) that have all n and stay in the cache: by their number, and room for one."""
    width = min(inner, max(16, BLOCK // 2 // n))
    across = -(-inner // width)
    cubes = [a.reshape(outer, n, inner) for a in arrays]

    def places(at: int) -> tuple[Array, ...]:
        i, j = at // across, at % across * width
        return tuple([c[i : i + 1, :, j : j + width] for c in cubes])

    return places, range(outer * across), np.empty((1, n, width), arrays[0].dtype)


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
    step = max(1, BLOCK // cols)
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


@_kernel
def max_pool(
    xp: Backend, x: Array, *, out: Any, kernel: Any, stride: Any, pads: Any, dilation: Any, need: Any
) -> Any:
    """The largest of each window, and its gradient by masks, in place and in the memory order of x."""
    if x.dtype.kind != "f" or x.size == 0 or any(lo or hi for lo, hi in pads) or math.prod(kernel) < 2:
        return NotImplemented
    keys = [
        (
            ...,
            *(
                slice(k * d, k * d + s * (o - 1) + 1, s)
                for k, d, s, o in zip(at, dilation, stride, out, strict=True)
            ),
        )
        for at in itertools.product(*map(range, kernel))
    ]
    order = tuple(sorted(range(x.ndim), key=lambda i: (-x.strides[i], i)))
    y = empty_output((*x.shape[: x.ndim - len(out)], *out), x.dtype, order)
    np.maximum(x[keys[0]], x[keys[1]], out=y)
    for key in keys[2:]:
        np.maximum(y, x[key], out=y)
    if need is None:
        return y
    apart = all(s >= d * (k - 1) + 1 for s, d, k in zip(stride, dilation, kernel, strict=True))

    def pull(g: Array) -> tuple[Any, ...]:
        gx = empty_output(x.shape, x.dtype, order)
        gx[...] = 0
        nan = bool(np.isnan(y.max()))
        free = None
        for key in keys:
            part = x[key]
            hit = part == y
            if nan:  # which counts as largest
                hit |= np.isnan(part)
            if free is None:
                free = ~hit
            else:
                hit &= free
                free ^= hit
            if apart:
                np.multiply(g, hit, out=gx[key])
            else:
                gx[key] += g * hit
        return (gx,)

    return y, pull


def _before(states: Array, first: Array, t: int, reverse: bool) -> Array:
    """The state that step t begins with."""
    at = t + 1 if reverse else t - 1
    return states[at] if 0 <= at < len(states) else first


def _transposed(weight: Array, steps: int, n: int) -> Array:
    """Wᵀ, by rows where many products of matrices pay for the copy; a product with one vector is as fast without."""
    return np.ascontiguousarray(weight.T) if steps > 4 and n > 1 else weight.T


def _tanh_slope(call: Any, y: Array, slope: Array) -> None:
    """tanh' = 1 − tanh², of y = tanh a."""
    call(np.multiply, y, y, slope)
    call(np.subtract, 1.0, slope, slope)


def _sigmoid_slope(call: Any, y: Array, slope: Array) -> None:
    """σ' = σ − σ², of y = σ(a)."""
    call(np.multiply, y, y, slope)
    call(np.subtract, y, slope, slope)


def _cell(call: Any, acts: tuple[Array, ...], old_c: Array, c: Array, tc: Array, h: Array) -> None:
    """c = f c_{t−1} + i u and h = o tanh c, from the activations of an LSTM's gates; tc: tanh c."""
    i, f, o, u = acts
    call(np.multiply, i, u, tc)
    call(np.multiply, f, old_c, c)
    call(np.add, c, tc, c)
    call(np.tanh, c, tc)
    call(np.multiply, o, tc, h)


def _into_cell(call: Any, o: Array, tc: Array, dh: Array, dc: Array, one: Array) -> None:
    """Add to ∂L/∂c what comes from h = o tanh c."""
    _tanh_slope(call, tc, one)
    call(np.multiply, one, o, one)
    call(np.multiply, one, dh, one)
    call(np.add, dc, one, dc)


@_kernel
def rnn_scan(
    xp: Backend,
    gates: Array,
    h: Array,
    weight: Array,
    *,
    relu: bool = False,
    reverse: bool = False,
    sizes: Any = None,
    need: Any,
) -> Any:
    """h_t = tanh(gates_t + W h_{t−1})"""
    if sizes is not None or not _plain(gates, h, weight):
        return NotImplemented
    out = empty_output(gates.shape, gates.dtype)
    first, order = np.ascontiguousarray(h), _order(len(gates), reverse)
    wt = _transposed(weight, len(gates), gates.shape[1])
    forward, backward = _rnn_steps(xp.matmul, relu)
    repeat(forward, lambda t: (gates[t], out[t], _before(out, first, t, reverse)), order, (wt,))
    if need is None:
        return out

    def pull(g: Array) -> tuple[Any, ...]:
        da = np.empty(gates.shape, gates.dtype)
        back, slope = np.zeros_like(first), np.empty_like(first)
        w = np.ascontiguousarray(weight)
        repeat(backward, lambda t: (g[t], out[t], da[t]), order[::-1], (w, back), (slope,))
        return da, back, _weight_gradient(xp, da, out, first, reverse) if need[2] else None

    return out, pull


@functools.cache
def _rnn_steps(matmul: Any, relu: bool) -> tuple[Any, Any]:
    def forward(call: Any, gate: Array, a: Array, h: Array, wt: Array) -> None:
        call(matmul, h, wt, a)
        call(np.add, a, gate, a)
        call(largest, a, 0.0, a) if relu else call(np.tanh, a, a)

    def backward(call: Any, g: Array, a: Array, d: Array, w: Array, back: Array, slope: Array) -> None:
        call(np.add, g, back, d)
        if relu:
            call(np.greater, a, 0.0, slope)
            call(np.multiply, d, slope, d)
        else:
            _tanh_slope(call, a, slope)
            call(np.multiply, d, slope, d)
        call(matmul, d, w, back)

    return forward, backward


@_kernel
def lstm_scan(
    xp: Backend,
    gates: Array,
    h: Array,
    c: Array,
    weight: Array,
    projection: Array = None,
    *,
    reverse: bool = False,
    sizes: Any = None,
    need: Any,
) -> Any:
    """c_t = σ(f) c_{t−1} + σ(i) tanh(g), h_t = σ(o) tanh(c_t); all four activations are one tanh, as
    σ(a) = ½ + ½ tanh(a / 2)."""
    if sizes is not None or projection is not None or not _plain(gates, h, c, weight):
        return NotImplemented
    steps, n, width = gates.shape
    m = width // 4
    dtype = gates.dtype
    half = np.full(width, 0.5, dtype)
    half[2 * m : 3 * m] = 1.0
    shift = 1.0 - half
    train = need is not None
    kept = steps if train else 1  # of the activations
    acts, tcs = np.empty((kept, n, width), dtype), np.empty((kept, n, m), dtype)
    hs, cs = empty_output((steps, n, m), dtype), empty_output((steps, n, m), dtype)
    first_h, first_c = np.ascontiguousarray(h), np.ascontiguousarray(c)
    order = _order(steps, reverse)
    forward, backward = _lstm_steps(xp.matmul)

    def places(t: int) -> tuple[Array, ...]:
        at = t if train else 0
        old_h, old_c = _before(hs, first_h, t, reverse), _before(cs, first_c, t, reverse)
        return gates[t], acts[at], tcs[at], old_h, old_c, hs[t], cs[t]

    repeat(forward, places, order, (_transposed(weight, steps, n), half, shift))
    if need is None:
        return hs, cs

    def pull(g: tuple[Array, Array]) -> tuple[Any, ...]:
        gh, gc = g
        das = empty_output((steps, n, width), dtype)
        dh, dc, one = np.zeros((n, m), dtype), np.zeros((n, m), dtype), np.empty((n, m), dtype)
        w = np.ascontiguousarray(weight)
        repeat(
            backward,
            lambda t: (gh[t], gc[t], acts[t], tcs[t], _before(cs, first_c, t, reverse), das[t]),
            order[::-1],
            (w, dh, dc),
            (one,),
        )
        dw = _weight_gradient(xp, das, hs, first_h, reverse) if need[3] else None
        return (das, dh, dc, dw, None)[: len(need)]

    return (hs, cs), pull


@functools.cache
def _lstm_steps(matmul: Any) -> tuple[Any, Any]:
    def forward(
        call: Any, gate: Array, a: Array, tc: Array, old_h: Array, old_c: Array, h: Array, c: Array, wt: Array,
        half: Array, shift: Array,
    ) -> None:  # fmt: skip
        m = h.shape[-1]
        i, f, u, o = (a[:, k * m : (k + 1) * m] for k in range(4))
        call(matmul, old_h, wt, a)
        call(np.add, a, gate, a)
        call(np.multiply, a, half, a)
        call(np.tanh, a, a)
        call(np.multiply, a, half, a)
        call(np.add, a, shift, a)
        _cell(call, (i, f, o, u), old_c, c, tc, h)

    def backward(
        call: Any, gh: Array, gc: Array, a: Array, tc: Array, old_c: Array, d: Array, w: Array, dh: Array, dc: Array,
        one: Array,
    ) -> None:  # fmt: skip
        m = tc.shape[-1]
        i, f, u, o = (a[:, k * m : (k + 1) * m] for k in range(4))
        di, df, du, do = (d[:, k * m : (k + 1) * m] for k in range(4))
        call(np.add, dh, gh, dh)
        call(np.add, dc, gc, dc)
        _into_cell(call, o, tc, dh, dc, one)
        for x, y, z, into in ((i, dc, u, di), (f, dc, old_c, df), (o, dh, tc, do)):  # σ' = σ − σ²
            _sigmoid_slope(call, x, one)
            call(np.multiply, y, z, into)
            call(np.multiply, into, one, into)
        _tanh_slope(call, u, one)
        call(np.multiply, dc, i, du)
        call(np.multiply, du, one, du)
        call(np.multiply, dc, f, dc)
        call(matmul, d, w, dh)

    return forward, backward


@_kernel
def lstm_layer(
    xp: Backend, x: Array, h: Array, c: Array, weight_ih: Array, weight_hh: Array, bias: Array | None = None, *,
    reverse: bool = False, need: Any,
) -> Any:  # fmt: skip
    """An LSTM over a sequence, with the features as rows and the batch along them: a step is one product of all weights
    with the state, the input and a one, and each gate is a block of its result."""
    if not _plain(x, h, c, weight_ih, weight_hh, bias):
        return NotImplemented
    (steps, n, inputs), m, dtype = x.shape, h.shape[-1], x.dtype
    to_x, to_one = slice(m, m + inputs), slice(m + inputs, None)
    width = m + inputs + (bias is not None)
    weights = np.empty((4 * m, width), dtype)
    for at, gate in zip(_gates(m, 4), (0, 1, 3, 2), strict=True):  # the three that are sigmoids side by side
        part = _gates(m, 4)[gate]
        half = 1.0 if gate == 2 else 0.5  # σ(a) = ½ + ½ tanh(a / 2)
        np.multiply(weight_hh[part], half, out=weights[at, :m])
        np.multiply(weight_ih[part], half, out=weights[at, to_x])
        if bias is not None:
            np.multiply(bias[part, None], half, out=weights[at, to_one])
    given, begin, then = _given(x, h, width, reverse)
    train = need is not None
    kept = steps if train else 1
    acts, tcs = np.empty((kept, 4 * m, n), dtype), np.empty((kept, m, n), dtype)
    cs = np.empty((steps + 1 if train else 1, m, n), dtype)
    cs[steps if reverse and train else 0] = c.T
    order = _order(steps, reverse)
    forward, backward = _lstm_layer_steps(xp.matmul, reverse, train)

    def places(t: int) -> tuple[Array, ...]:
        at, before, after = (t, t + begin, t + then) if train else (0, 0, 0)
        return given[:, t + begin], acts[at], tcs[at], cs[before], cs[after], given[:m, t + then]

    repeat(forward, places, order, (weights,))
    hs = given[:m, then : then + steps].transpose(1, 2, 0)
    last = cs[(0 if reverse else steps) if train else 0].T.copy()
    if need is None:
        return hs, last

    def pull(g: tuple[Array, Array]) -> tuple[Any, ...]:
        das = np.empty((4 * m, steps, n), dtype)
        dh, dc = np.zeros((m, n), dtype), np.ascontiguousarray(g[1].T).copy()
        one, slopes = np.empty((m, n), dtype), np.empty((3 * m, n), dtype)
        repeat(
            backward,
            lambda t: (g[0][t].T, acts[t], tcs[t], cs[t + begin], das[:, t]),
            order[::-1],
            (np.ascontiguousarray(weight_hh.T), dh, dc),
            (one, slopes),
        )
        flat = das.reshape(4 * m, -1)
        dw = xp.matmul(flat, given[:, begin : begin + steps].reshape(width, -1).T)
        dx = xp.matmul(weight_ih.T, flat).reshape(inputs, steps, n).transpose(1, 2, 0) if need[0] else None
        return (dx, dh.T, dc.T, dw[:, to_x], dw[:, :m], *(() if bias is None else (dw[:, -1],)))

    return (hs, last), pull


lstm_layer.least_batch = 16  # type: ignore[attr-defined]  # rows of fewer numbers take longer than `lstm_scan`


def _given(x: Array, h: Array, width: int, reverse: bool) -> tuple[Array, int, int]:
    """What each step is given, in the order of time: the state, the input and, where `width` has room, a one; with one place
    more for the state that the last step gives. And how far behind its time a step finds it, and puts its own state."""
    (steps, n, inputs), m = x.shape, h.shape[-1]
    given = np.empty((width, steps + 1, n), x.dtype)
    begin, then = (1, 0) if reverse else (0, 1)
    given[:m, steps if reverse else 0] = h.T
    given[m : m + inputs, begin : begin + steps] = x.transpose(2, 0, 1)
    given[m + inputs :] = 1.0
    return given, begin, then


def _gates(m: int, count: int) -> list[slice]:
    return [slice(i * m, (i + 1) * m) for i in range(count)]


@functools.cache
def _lstm_layer_steps(matmul: Any, reverse: bool, train: bool) -> tuple[Any, Any]:
    """The steps of one way to go: in each way the places overlap in the same way (see `repeat`)."""

    def forward(
        call: Any, given: Array, a: Array, tc: Array, old_c: Array, c: Array, h: Array, weights: Array
    ) -> None:
        m = len(h)
        i, f, o, u = (a[part] for part in _gates(m, 4))
        sigmoids = a[: 3 * m]
        call(matmul, weights, given, a)
        call(np.tanh, a, a)
        call(np.multiply, sigmoids, 0.5, sigmoids)
        call(np.add, sigmoids, 0.5, sigmoids)
        _cell(call, (i, f, o, u), old_c, c, tc, h)

    def backward(
        call: Any, gh: Array, a: Array, tc: Array, old_c: Array, d: Array, w: Array, dh: Array, dc: Array, one: Array,
        slopes: Array,
    ) -> None:  # fmt: skip
        m = len(tc)
        i, f, o, u = (a[part] for part in _gates(m, 4))
        di, df, du, do = (d[part] for part in _gates(m, 4))
        sigmoids = a[: 3 * m]
        call(np.add, dh, gh, dh)
        _into_cell(call, o, tc, dh, dc, one)
        _sigmoid_slope(call, sigmoids, slopes)
        for x, y, slope, into in zip((dc, dc, dh), (u, old_c, tc), _gates(m, 3), (di, df, do), strict=True):
            call(np.multiply, x, y, one)
            call(np.multiply, one, slopes[slope], into)
        _tanh_slope(call, u, one)
        call(np.multiply, one, i, one)
        call(np.multiply, one, dc, du)
        call(np.multiply, dc, f, dc)
        call(matmul, w, d, dh)

    return forward, backward


@_kernel
def gru_scan(
    xp: Backend,
    gates: Array,
    h: Array,
    weight: Array,
    bias: Array = None,
    *,
    reverse: bool = False,
    sizes: Any = None,
    need: Any,
) -> Any:
    """h_t = (1 − z) n + z h_{t−1}, n = tanh(gates_n + r (W_n h + b_n))"""
    if sizes is not None or not _plain(gates, h, weight, bias):
        return NotImplemented
    steps, n, width = gates.shape
    m = width // 3
    dtype = gates.dtype
    acts, inner = np.empty((steps, n, width), dtype), np.empty((steps, n, m), dtype)
    hs = empty_output((steps, n, m), dtype)
    first, order = np.ascontiguousarray(h), _order(steps, reverse)
    lift = np.zeros(width, dtype) if bias is None else np.ascontiguousarray(bias)
    forward, backward = _gru_steps(xp.matmul)
    repeat(
        forward,
        lambda t: (gates[t], acts[t], inner[t], _before(hs, first, t, reverse), hs[t]),
        order,
        (_transposed(weight, steps, n), lift),
        (np.empty((n, width), dtype),),
    )
    if need is None:
        return hs

    def pull(g: Array) -> tuple[Any, ...]:
        das, dbs = np.empty((steps, n, width), dtype), np.empty((steps, n, width), dtype)
        dh, one, more = np.zeros((n, m), dtype), np.empty((n, m), dtype), np.zeros((n, m), dtype)
        w = np.ascontiguousarray(weight)
        repeat(
            backward,
            lambda t: (g[t], acts[t], inner[t], _before(hs, first, t, reverse), das[t], dbs[t]),
            order[::-1],
            (w, dh, more),
            (one,),
        )
        dh += more
        dw = _weight_gradient(xp, dbs, hs, first, reverse) if need[2] else None
        dbias = dbs.sum(axis=(0, 1)) if len(need) > 3 and need[3] else None
        return (das, dh, dw, dbias)[: len(need)]

    return hs, pull


@functools.cache
def _gru_steps(matmul: Any) -> tuple[Any, Any]:
    def forward(
        call: Any, gate: Array, a: Array, inner: Array, old: Array, h: Array, wt: Array, bias: Array, p: Array
    ) -> None:
        m = h.shape[-1]
        rz, r, z, new = a[:, : 2 * m], a[:, :m], a[:, m : 2 * m], a[:, 2 * m :]
        call(matmul, old, wt, p)
        call(np.add, p, bias, p)
        call(np.add, gate[:, : 2 * m], p[:, : 2 * m], rz)
        call(np.multiply, rz, 0.5, rz)
        call(np.tanh, rz, rz)
        call(np.multiply, rz, 0.5, rz)
        call(np.add, rz, 0.5, rz)
        call(np.copyto, inner, p[:, 2 * m :], "unsafe")
        call(np.multiply, r, inner, new)
        call(np.add, new, gate[:, 2 * m :], new)
        call(np.tanh, new, new)
        call(np.subtract, old, new, h)
        call(np.multiply, h, z, h)
        call(np.add, h, new, h)

    def backward(
        call: Any, g: Array, a: Array, inner: Array, old: Array, da: Array, db: Array, w: Array, dh: Array, more: Array,
        one: Array,
    ) -> None:  # fmt: skip
        m = old.shape[-1]
        r, z, new = (a[:, k * m : (k + 1) * m] for k in range(3))
        dr, dz, dn = (da[:, k * m : (k + 1) * m] for k in range(3))
        br, bz, bn = (db[:, k * m : (k + 1) * m] for k in range(3))
        call(np.add, dh, more, dh)
        call(np.add, dh, g, dh)
        call(np.subtract, 1.0, z, one)
        call(np.multiply, dh, one, dn)
        _tanh_slope(call, new, one)
        call(np.multiply, dn, one, dn)
        call(np.subtract, old, new, one)
        call(np.multiply, dh, one, dz)
        _sigmoid_slope(call, z, one)
        call(np.multiply, dz, one, dz)
        call(np.multiply, dn, inner, dr)
        _sigmoid_slope(call, r, one)
        call(np.multiply, dr, one, dr)
        call(np.copyto, br, dr, "unsafe")
        call(np.copyto, bz, dz, "unsafe")
        call(np.multiply, dn, r, bn)
        call(np.multiply, dh, z, dh)
        call(matmul, db, w, more)

    return forward, backward


@_kernel
def gru_layer(
    xp: Backend, x: Array, h: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array | None = None,
    bias_hh: Array | None = None, *, reverse: bool = False, need: Any,
) -> Any:  # fmt: skip
    """A GRU over a sequence, as `lstm_layer`: one product makes W_n h + b and the two gates, another W_n x + b."""
    if not _plain(x, h, weight_ih, weight_hh, bias_ih, bias_hh) or (bias_ih is None) != (bias_hh is None):
        return NotImplemented
    (steps, n, inputs), m, dtype = x.shape, h.shape[-1], x.dtype
    to_x, gates = slice(m, m + inputs), slice(m, 3 * m)
    width = m + inputs + (bias_ih is not None)
    weights = np.zeros((4 * m, width), dtype)
    weights[:m, :m], weights[gates, :m] = weight_hh[2 * m :], weight_hh[: 2 * m]
    weights[m:, to_x] = weight_ih
    if bias_ih is not None and bias_hh is not None:
        weights[:m, -1], weights[gates, -1] = bias_hh[2 * m :], bias_hh[: 2 * m]
        weights[m:, -1] += bias_ih
    weights[gates] *= 0.5  # σ(a) = ½ + ½ tanh(a / 2)
    given, begin, then = _given(x, h, width, reverse)
    train = need is not None
    acts, order = np.empty((steps if train else 1, 4 * m, n), dtype), _order(steps, reverse)
    forward, backward = _gru_layer_steps(xp.matmul, reverse, train)

    def places(t: int) -> tuple[Array, ...]:
        return given[:, t + begin], acts[t if train else 0], given[:m, t + then]

    held = weights[: 3 * m], weights[3 * m :, m:].copy()
    repeat(forward, places, order, held, (np.empty((m, n), dtype),))
    hs = given[:m, then : then + steps].transpose(1, 2, 0)
    if need is None:
        return hs

    def pull(g: Array) -> tuple[Any, ...]:
        das, dh = np.empty((4 * m, steps, n), dtype), np.zeros((m, n), dtype)
        repeat(
            backward,
            lambda t: (g[t].T, acts[t], given[:m, t + begin], das[:, t]),
            order[::-1],
            (np.concatenate((weight_hh[2 * m :], weight_hh[: 2 * m])).T.copy(), dh),
            tuple(np.empty((m, n), dtype) for _ in range(3)),
        )
        flat = das.reshape(4 * m, -1)
        seen = given[:, begin : begin + steps].reshape(width, -1).T
        first, second = xp.matmul(flat[: 3 * m], seen), xp.matmul(flat[3 * m :], seen[:, m:])
        dx = None
        if need[0]:
            dx = xp.matmul(weight_ih.T, flat[m:]).reshape(inputs, steps, n).transpose(1, 2, 0)
        of_x, of_h = np.concatenate((first[m:, m:], second)), np.concatenate((first[m:], first[:m]))
        biases = () if bias_ih is None else (of_x[:, -1], of_h[:, -1])
        return (dx, dh.T, of_x[:, :inputs], of_h[:, :m], *biases)

    return hs, pull


gru_layer.least_batch = 16  # type: ignore[attr-defined]


@functools.cache
def _gru_layer_steps(matmul: Any, reverse: bool, train: bool) -> tuple[Any, Any]:
    """The steps of one way to go: in each way the places overlap in the same way (see `repeat`)."""

    def forward(call: Any, given: Array, a: Array, h: Array, weights: Array, of_x: Array, one: Array) -> None:
        m = len(h)
        inner, r, z, new = (a[part] for part in _gates(m, 4))
        sigmoids = a[m : 3 * m]
        call(matmul, weights, given, a[: 3 * m])
        call(matmul, of_x, given[m:], new)
        call(np.tanh, sigmoids, sigmoids)
        call(np.multiply, sigmoids, 0.5, sigmoids)
        call(np.add, sigmoids, 0.5, sigmoids)
        call(np.multiply, r, inner, one)
        call(np.add, new, one, new)
        call(np.tanh, new, new)
        call(np.subtract, given[:m], new, one)
        call(np.multiply, one, z, one)
        call(np.add, one, new, h)

    def backward(
        call: Any,
        g: Array,
        a: Array,
        old: Array,
        d: Array,
        w: Array,
        dh: Array,
        dn: Array,
        one: Array,
        two: Array,
    ) -> None:
        m = len(old)
        inner, r, z, new = (a[part] for part in _gates(m, 4))
        d_inner, dr, dz, d_new = (d[part] for part in _gates(m, 4))
        call(np.add, dh, g, dh)
        _tanh_slope(call, new, one)
        call(np.subtract, 1.0, z, dn)
        call(np.multiply, dn, one, dn)
        call(np.multiply, dn, dh, dn)
        call(np.copyto, d_new, dn, "unsafe")
        call(np.multiply, dn, r, d_inner)
        call(np.subtract, old, new, two)
        for x, y, gate, into in ((dn, inner, r, dr), (dh, two, z, dz)):
            _sigmoid_slope(call, gate, one)
            call(np.multiply, one, y, one)
            call(np.multiply, one, x, into)
        call(np.multiply, dh, z, one)
        call(matmul, w, d[: 3 * m], dh)
        call(np.add, dh, one, dh)

    return forward, backward


@_kernel
def attention(
    xp: Backend,
    q: Array,
    k: Array,
    v: Array,
    mask: Array = None,
    *,
    scale: float,
    causal: bool = False,
    p: float = 0.0,
    seed: int = 0,
    step: int = 0,
    block: int = 256,
    need: Any,
) -> Any:
    """softmax(q kᵀ · scale + mask) v. Short sequences keep the scores for the gradient; longer ones have room for those of one
    head at a time, and make them again; beyond `results.ONE_HEAD` that is left to the reference, which never has them whole."""
    n, m = q.shape[-2], k.shape[-2]
    short = scores_at_once(n, m, block, need)
    if p or short is None or not _plain(q, k, v) or q.shape[:-2] != k.shape[:-2] or not q.size or not k.size:
        return NotImplemented
    mask = _causal(n, m) if causal else mask
    if mask is not None and np.broadcast_shapes((*q.shape[:-1], m), mask.shape) != (*q.shape[:-1], m):
        return NotImplemented
    heads, d = math.prod(q.shape[:-2]), v.shape[-1]
    queries, keys, values = (np.ascontiguousarray(a).reshape(heads, *a.shape[-2:]) for a in (q, k, v))
    dtype, train = q.dtype, need is not None
    # head by head is one call of machine code; else short sequences take all heads together
    apart = not short or (machine.available() and heads > 2)
    kept = train and short
    scaled, s = np.empty(queries.shape, dtype), np.empty((heads if kept or not apart else 1, n, m), dtype)
    y, total = empty_output((*q.shape[:-1], d), dtype), empty_output((*q.shape[:-1], 1), dtype)
    ys, totals = y.reshape(heads, n, d), total.reshape(heads, n, 1)
    factor = np.asarray(scale, dtype)
    hidden = np.zeros((1, 0), bool)
    if mask is not None:
        wide = np.broadcast_to(mask, (*q.shape[:-2], n, m))
        each: Array = wide.reshape(heads, n, m) if any(wide.strides[:-2]) else wide[(0,) * (q.ndim - 2)][None]
        hidden = ~each if each.dtype == bool else each.astype(dtype, copy=False)

    def places(t: int) -> tuple[Array, ...]:
        at, own = t % len(s), t % len(hidden)
        return queries[t], keys[t], values[t], scaled[t], s[at], ys[t], totals[t], hidden[own]

    if apart:
        repeat(_attend, places, range(heads), (factor,), (np.empty((n, 1), dtype), np.empty((n, 1), bool)))
    else:
        top, none = np.empty(totals.shape, dtype), np.empty(totals.shape, bool)
        _attend(at_once, queries, keys, values, scaled, s, ys, totals, hidden, factor, top, none)
    if need is None:
        return y, total

    def pull(g: tuple[Array, Array]) -> tuple[Any, ...]:
        gy = np.ascontiguousarray(g[0]).reshape(heads, n, d)
        gs = np.ascontiguousarray(g[1]).reshape(heads, n, 1)
        every = not apart or (len(need) > 3 and need[3])
        ds = np.empty((heads if every else 1, n, m), dtype)
        dq, dk, dv = (empty_output(a.shape, dtype) for a in (q, k, v))
        made = [a.reshape(heads, *a.shape[-2:]) for a in (dq, dk, dv)]

        def around(t: int) -> tuple[Array, ...]:
            fixed = gy[t], gs[t], keys[t], values[t], scaled[t], s[t % len(s)], ys[t]
            return (*fixed, ds[t % len(ds)], *(a[t] for a in made))

        def again(t: int) -> tuple[Array, ...]:
            return (*around(t), totals[t], hidden[t % len(hidden)])

        room = np.empty((n, d), dtype), np.empty((n, 1), dtype)
        if not kept:
            repeat(_attend_again, again, range(heads), (factor,), room)
        elif apart:
            repeat(_attend_back, around, range(heads), (factor,), room)
        else:
            flat, thin = np.empty(gy.shape, dtype), np.empty(gs.shape, dtype)
            _attend_back(
                at_once,
                gy,
                gs,
                keys,
                values,
                scaled,
                s,
                ys,
                ds,
                made[0],
                made[1],
                made[2],
                factor,
                flat,
                thin,
            )
        scores = ds.reshape(*q.shape[:-1], m) if every else None
        return (dq, dk, dv, scores)[: len(need)]

    return (y, total), pull


def _attend(
    call: Any, q: Array, k: Array, v: Array, scaled: Array, s: Array, y: Array, total: Array, hidden: Array, factor: Array,
    top: Array, none: Array,
) -> None:  # fmt: skip
    """One head: s = softmax(q kᵀ · factor + mask), y = s v, total = log Σ exp."""
    masked = hidden.size > 0
    call(np.multiply, q, factor, scaled)
    call(np.matmul, scaled, k.swapaxes(-1, -2), s)
    if masked and hidden.dtype == bool:
        call(set_where, s, hidden, -np.inf)
    elif masked:
        call(np.add, s, hidden, s)
    call(np.maximum.reduce, s, -1, None, top, True)
    if masked:  # a row in which all is hidden gives zeros
        call(np.equal, top, -np.inf, none)
        call(set_where, top, none, 0.0)
    call(np.subtract, s, top, s)
    call(np.exp, s, s)
    call(sum_by_dot, s, -1, None, total, True)
    if masked:
        call(np.equal, total, 0.0, none)
        call(set_where, total, none, 1.0)
    call(np.divide, s, total, s)
    call(np.matmul, s, v, y)
    call(np.log, total, total)
    call(np.add, total, top, total)


def _attend_back(
    call: Any, gy: Array, gs: Array, k: Array, v: Array, scaled: Array, s: Array, y: Array, ds: Array, dq: Array, dk: Array,
    dv: Array, factor: Array, room: Array, inner: Array,
) -> None:  # fmt: skip
    call(np.multiply, gy, y, room)
    call(sum_by_dot, room, -1, None, inner, True)
    call(np.subtract, gs, inner, inner)
    call(np.matmul, gy, v.swapaxes(-1, -2), ds)
    call(np.add, ds, inner, ds)
    call(np.multiply, ds, s, ds)
    call(np.matmul, ds, k, dq)
    call(np.multiply, dq, factor, dq)
    call(np.matmul, ds.swapaxes(-1, -2), scaled, dk)
    call(np.matmul, s.swapaxes(-1, -2), gy, dv)


def _attend_again(
    call: Any, gy: Array, gs: Array, k: Array, v: Array, scaled: Array, s: Array, y: Array, ds: Array, dq: Array, dk: Array,
    dv: Array, total: Array, hidden: Array, factor: Array, room: Array, inner: Array,
) -> None:  # fmt: skip
    """The same, with the probabilities made again: e^{score − total}."""
    call(np.matmul, scaled, k.swapaxes(-1, -2), s)
    if hidden.size and hidden.dtype == bool:
        call(set_where, s, hidden, -np.inf)
    elif hidden.size:
        call(np.add, s, hidden, s)
    call(np.subtract, s, total, s)
    call(np.exp, s, s)
    if (
        hidden.size and hidden.dtype != bool
    ):  # beside −1e9 the logarithm of a sum is lost in rounding: over their sum again
        call(sum_by_dot, s, -1, None, inner, True)
        call(np.maximum, inner, 1e-30, inner)
        call(np.divide, s, inner, s)
    _attend_back(call, gy, gs, k, v, scaled, s, y, ds, dq, dk, dv, factor, room, inner)


@functools.lru_cache(maxsize=8)
def _causal(n: int, m: int) -> Array:
    return np.tri(n, m, dtype=bool)


def adam(
    p: Array, g: Array, m: Array, v: Array, top: Array | None
) -> Callable[[float, float, float, float, int, float, bool], None]:
    """Updates of `anynet.optim.Adam` in place; g is only read. What it returns makes one, given the learning rate, β₁, β₂,
    ε, the number of the step, the weight decay and whether that is apart from the gradient.

    With c = √(1 − β₂ᵗ), (lr / (1 − β₁ᵗ)) m / (√v / c + ε) is computed as (lr c / (1 − β₁ᵗ)) m / (√v + c ε).
    """
    numbers = np.zeros(7, p.dtype)
    pack: Any = struct.Struct(f"7{p.dtype.char}").pack_into  # a third of the time that an assignment takes
    cells = [numbers[i : i + 1].reshape(()) for i in range(7)]
    fused: dict[tuple[bool, bool], list[machine.Segment]] = {}

    def passes(decays: bool, decoupled: bool, *arrays: Any) -> list[tuple[Any, ...]]:
        """The calls (function, inputs …, output) on p, g, m, v, the largest v, and room for two temporaries."""
        a, d, first, second, most, t, u = arrays
        keep, decay, gain, stay, fresh, small, rate = cells
        calls: list[tuple[Any, ...]] = []
        if decays and decoupled:
            calls.append((np.multiply, a, keep, a))
        elif decays:
            calls += [(np.multiply, a, decay, u), (np.add, u, d, u)]
            d = u
        calls += [
            (np.subtract, d, first, t), (np.multiply, t, gain, t), (np.add, first, t, first),
            (np.multiply, second, stay, second), (np.multiply, d, d, t), (np.multiply, t, fresh, t),
            (np.add, second, t, second),
        ]  # fmt: skip
        if most is not None:
            calls.append((largest, most, second, most))
            second = most
        return [
            *calls, (np.sqrt, second, t), (np.add, t, small, t), (np.divide, first, t, t), (np.multiply, t, rate, t),
            (np.subtract, a, t, a),
        ]  # fmt: skip

    def compiled(decays: bool, decoupled: bool) -> list[machine.Segment]:
        t, u = np.empty(p.shape, p.dtype), np.empty(p.shape, p.dtype)
        calls = [(f, args) for f, *args in passes(decays, decoupled, p, g, m, v, top, t, u)]
        return machine.fused(calls, [a for a in (p, g, m, v, top) if a is not None])

    def update(
        lr: float, beta1: float, beta2: float, eps: float, step: int, decay: float, decoupled: bool
    ) -> None:
        root = math.sqrt(1 - beta2**step)
        pack(
            numbers,
            0,
            1 - lr * decay,
            decay,
            1 - beta1,
            beta2,
            1 - beta2,
            eps * root,
            lr * root / (1 - beta1**step),
        )
        how = decays, decoupled = decay != 0, decoupled
        if how not in fused:
            fused[how] = compiled(*how) if machine.available() else []
        if fused[how]:
            for segment in fused[how]:
                segment.run()
            return
        width = min(p.size, 2 * BLOCK)  # blocks stay in the cache
        t, u = np.empty(width, p.dtype), np.empty(width if decays and not decoupled else 0, p.dtype)
        for start in range(0, p.size, max(width, 1)):
            s = slice(start, min(start + width, p.size))
            n = s.stop - start
            for f, *args in passes(
                *how, p[s], g[s], m[s], v[s], None if top is None else top[s], t[:n], u[:n]
            ):
                f(*args)

    return update


UPDATES: dict[str, Callable[..., Any]] = {"adam": adam}
"""Updates of optimizers, by name."""
