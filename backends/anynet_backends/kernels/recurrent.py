"""Recurrent layers: scans over the steps of given gates, and whole layers of an LSTM or a GRU."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.jit.scan import scan
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.memory.outputs import empty_output
from anynet_backends.numpy_namespace import largest, same_float_dtype

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)


def _order(n: int, reverse: bool) -> range:
    return range(n - 1, -1, -1) if reverse else range(n)


def _weight_gradient(xp: Backend, d: Array, states: Array, first: Array, reverse: bool) -> Array:
    """Σ_t d_tᵀ h_{t−1}, as one product over all steps but the first, and one for the first."""
    late, early = (d[:-1], states[1:]) if reverse else (d[1:], states[:-1])
    start = d[-1] if reverse else d[0]
    width = d.shape[-1], states.shape[-1]
    total: Array = xp.matmul(late.reshape(-1, width[0]).T, early.reshape(-1, width[1]))
    total += xp.matmul(start.T, first)
    return total


def _before(states: Array, first: Array, t: int, reverse: bool) -> Array:
    """The state that step t begins with."""
    at = t + 1 if reverse else t - 1
    return states[at] if 0 <= at < len(states) else first


def _transposed(weight: Array, steps: int, n: int) -> Array:
    """Wᵀ, copied to C order if there are enough matrix products to pay for the copy; products with one vector are as fast without."""
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
    """Add the contribution of h = o tanh c to ∂L/∂c."""
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
    if sizes is not None or not same_float_dtype(gates, h, weight):
        return NotImplemented
    out = empty_output(gates.shape, gates.dtype)
    first, order = np.ascontiguousarray(h), _order(len(gates), reverse)
    wt = _transposed(weight, len(gates), gates.shape[1])
    forward, backward = _rnn_steps(xp.matmul, relu)
    scan(forward, lambda t: (gates[t], out[t], _before(out, first, t, reverse)), order, (wt,))
    if need is None:
        return out

    def pull(g: Array) -> tuple[Any, ...]:
        da = np.empty(gates.shape, gates.dtype)
        back, slope = np.zeros_like(first), np.empty_like(first)
        w = np.ascontiguousarray(weight)
        scan(backward, lambda t: (g[t], out[t], da[t]), order[::-1], (w, back), (slope,))
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
    """c_t = σ(f) c_{t−1} + σ(i) tanh(g), h_t = σ(o) tanh(c_t); all four activations are computed by one tanh, as
    σ(a) = ½ + ½ tanh(a / 2)."""
    if sizes is not None or projection is not None or not same_float_dtype(gates, h, c, weight):
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

    scan(forward, places, order, (_transposed(weight, steps, n), half, shift))
    if need is None:
        return hs, cs

    def pull(g: tuple[Array, Array]) -> tuple[Any, ...]:
        gh, gc = g
        das = empty_output((steps, n, width), dtype)
        dh, dc, one = np.zeros((n, m), dtype), np.zeros((n, m), dtype), np.empty((n, m), dtype)
        w = np.ascontiguousarray(weight)
        scan(
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


@_kernel.having(min_batch=16)  # rows of fewer numbers take longer than `lstm_scan`
def lstm_layer(
    xp: Backend, x: Array, h: Array, c: Array, weight_ih: Array, weight_hh: Array, bias: Array | None = None, *,
    reverse: bool = False, need: Any,
) -> Any:  # fmt: skip
    """An LSTM over a sequence, with features as rows and the batch as columns: a step is one product of all weights with the stacked
    state, input and a row of ones, and each gate is a block of rows of its result."""
    if not same_float_dtype(x, h, c, weight_ih, weight_hh, bias):
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

    scan(forward, places, order, (weights,))
    hs = given[:m, then : then + steps].transpose(1, 2, 0)
    last = cs[(0 if reverse else steps) if train else 0].T.copy()
    if need is None:
        return hs, last

    def pull(g: tuple[Array, Array]) -> tuple[Any, ...]:
        das = np.empty((4 * m, steps, n), dtype)
        dh, dc = np.zeros((m, n), dtype), np.ascontiguousarray(g[1].T).copy()
        one, slopes = np.empty((m, n), dtype), np.empty((3 * m, n), dtype)
        scan(
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


def _given(x: Array, h: Array, width: int, reverse: bool) -> tuple[Array, int, int]:
    """The stacked operands of all steps: state, input and, if `width` includes it, a row of ones, with one more slot for the last
    state; and the offsets, relative to its time, of the slot that a step reads and of the slot that it writes its state to."""
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
    """The steps for one direction: arrays of consecutive steps overlap in the same way (see `scan`)."""

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
    if sizes is not None or not same_float_dtype(gates, h, weight, bias):
        return NotImplemented
    steps, n, width = gates.shape
    m = width // 3
    dtype = gates.dtype
    acts, inner = np.empty((steps, n, width), dtype), np.empty((steps, n, m), dtype)
    hs = empty_output((steps, n, m), dtype)
    first, order = np.ascontiguousarray(h), _order(steps, reverse)
    lift = np.zeros(width, dtype) if bias is None else np.ascontiguousarray(bias)
    forward, backward = _gru_steps(xp.matmul)
    scan(
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
        scan(
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


@_kernel.having(min_batch=16)
def gru_layer(
    xp: Backend, x: Array, h: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array | None = None,
    bias_hh: Array | None = None, *, reverse: bool = False, need: Any,
) -> Any:  # fmt: skip
    """A GRU over a sequence, as `lstm_layer`: one product makes W_n h + b and the two gates, another W_n x + b."""
    if not same_float_dtype(x, h, weight_ih, weight_hh, bias_ih, bias_hh) or (bias_ih is None) != (
        bias_hh is None
    ):
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
    scan(forward, places, order, held, (np.empty((m, n), dtype),))
    hs = given[:m, then : then + steps].transpose(1, 2, 0)
    if need is None:
        return hs

    def pull(g: Array) -> tuple[Any, ...]:
        das, dh = np.empty((4 * m, steps, n), dtype), np.zeros((m, n), dtype)
        scan(
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


@functools.cache
def _gru_layer_steps(matmul: Any, reverse: bool, train: bool) -> tuple[Any, Any]:
    """The steps for one direction: arrays of consecutive steps overlap in the same way (see `scan`)."""

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
