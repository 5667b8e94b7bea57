"""Recurrent layers: one primitive goes over the whole sequence, for one layer and one direction; a cell is one step.

What depends on the input alone is one product for all steps, done before (`gates` = x Wᵀ + b). The primitive does what
must be done step by step. Backward, the activations of all steps are computed again in one go from what the forward
pass returned; only the recurrence of the gradients is a loop, and the weights' gradient is one product. Where a backend
has a kernel for a whole layer (`lstm`, `gru`), a primitive of its own calls that. A cell (`gru_cell`, `lstm_cell`) is what comes
behind the products of a step, element by element: one loop where operations are compiled, as the products beside it are.

All sequences are time-major, (steps, batch, features). With `sizes`, as in a packed sequence (longest first), only the
first sizes[t] rows are active at step t; the others keep their state.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from anynet import dtypes
from anynet.autograd.primitive import kernels_on, primitive
from anynet.ops import elementwise as e
from anynet.ops.activations import sigmoid
from anynet.ops.linear import linear, matmul
from anynet.ops.linear import matrix_transpose as mT
from anynet.ops.manipulation import astype, concat, expand_dims, reshape, stack
from anynet.ops.precision import rounds
from anynet.ops.reductions import sum as sum_
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend, backend_of

__all__ = ["gru", "gru_cell", "gru_scan", "lstm", "lstm_cell", "lstm_scan", "rnn_scan"]


def _steps(n: int, reverse: bool) -> range:
    return range(n - 1, -1, -1) if reverse else range(n)


def _active(like: Array, n: int | None) -> Any:
    """A column of ones for the first n rows and zeros for the others; None where all are active."""
    batch = like.shape[0]
    if n is None or n == batch:
        return None
    xp = backend_of(like)
    rows = xp.arange(batch, device=like.device)
    return xp.expand_dims(xp.astype(rows < n, like.dtype), axis=1)


def _keep(active: Any, new: Any, old: Any) -> Any:
    return new if active is None else new * active + old * (1.0 - active)


def _sigmoid(xp: Backend, x: Array) -> Array:
    return xp.tanh(x * 0.5) * 0.5 + 0.5


def _before(states: Any, first: Any, reverse: bool) -> Any:
    """The state that each step began with: the one that the step before it ended with."""
    first = expand_dims(first, axis=0)
    return concat((states[1:, ...], first) if reverse else (first, states[:-1, ...]))


def _rows(x: Any) -> Any:
    return reshape(x, (-1, x.shape[-1]))


def _split(x: Any, n: int) -> list[Any]:
    size = x.shape[-1] // n
    return [x[..., i * size : (i + 1) * size] for i in range(n)]


def _back(sizes: tuple[int, ...] | None, like: Any, reverse: bool) -> Iterable[tuple[int, Any]]:
    """Steps from the last to the first, each with its column of active rows."""
    n = like.shape[0]
    plain = unwrap(like)[0, ...] if n else None
    for t in _steps(n, not reverse):
        yield t, _active(plain, sizes[t] if sizes is not None else None)


def _in_order(items: list[Any], reverse: bool) -> Any:
    """Results that were made from the last step to the first, in the order of time."""
    return stack(items if reverse else items[::-1])


# ----- simple -----


@primitive
def rnn_scan(
    xp: Backend,
    gates: Array,
    h: Array,
    weight: Array,
    /,
    *,
    relu: bool = False,
    reverse: bool = False,
    sizes: tuple[int, ...] | None = None,
) -> Array:
    """h_t = tanh(gates_t + W h_{t−1}), or ReLU for tanh: gates (t, n, h), h (n, h), W (h, h) → all h_t (t, n, h).

    Source: Elman: Finding structure in time (1990).
    """
    out: list[Any] = [None] * gates.shape[0]
    transposed = xp.matrix_transpose(weight)
    for t in _steps(gates.shape[0], reverse):
        a = gates[t, ...] + xp.matmul(h, transposed)
        new = xp.maximum(a, 0.0) if relu else xp.tanh(a)
        h = out[t] = _keep(_active(h, sizes[t] if sizes is not None else None), new, h)
    return xp.stack(out)


@rnn_scan.vjps("gates", "h", "weight")
def _rnn_rule(
    g: Any, y: Any, gates: Any, h: Any, weight: Any, relu: bool, reverse: bool, sizes: tuple[int, ...] | None
) -> tuple[Any, Any, Any]:
    before = _before(y, h, reverse)
    if sizes is None:
        a = y
    else:  # y holds old states where a row is not active
        a = gates + matmul(before, mT(weight))
        a = e.maximum(a, 0.0) if relu else e.tanh(a)
    slope = astype(a > 0.0, a.dtype) if relu else 1.0 - a * a
    dh: Any = 0.0
    das = []
    for t, active in _back(sizes, y, reverse):
        dh = g[t, ...] + dh
        da = dh * slope[t, ...]
        if active is not None:
            da = da * active
            dh = matmul(da, weight) + dh * (1.0 - active)
        else:
            dh = matmul(da, weight)
        das.append(da)
    da = _in_order(das, reverse)
    return da, dh, matmul(mT(_rows(da)), _rows(before))


# ----- LSTM -----


@primitive
def lstm_scan(
    xp: Backend,
    gates: Array,
    h: Array,
    c: Array,
    weight: Array,
    projection: Array = None,
    /,
    *,
    reverse: bool = False,
    sizes: tuple[int, ...] | None = None,
) -> tuple[Array, Array]:
    """(i, f, g, o) = gates_t + W h_{t−1}; c_t = σ(f) c_{t−1} + σ(i) tanh(g); h_t = σ(o) tanh(c_t), then P h_t if
    there is a projection. gates (t, n, 4h), h (n, p), c (n, h), W (4h, p), P (p, h) → all h_t (t, n, p) and c_t
    (t, n, h).

    Sources: Hochreiter, Schmidhuber: Long short-term memory (1997), with the forget gate of Gers, Schmidhuber,
    Cummins (2000); projection: Sak, Senior, Beaufays (2014).
    """
    hs: list[Any] = [None] * gates.shape[0]
    cs: list[Any] = [None] * gates.shape[0]
    transposed = xp.matrix_transpose(weight)
    project = None if projection is None else xp.matrix_transpose(projection)
    for t in _steps(gates.shape[0], reverse):
        i, f, u, o = _split(gates[t, ...] + xp.matmul(h, transposed), 4)
        new_c = _sigmoid(xp, f) * c + _sigmoid(xp, i) * xp.tanh(u)
        new_h = _sigmoid(xp, o) * xp.tanh(new_c)
        if project is not None:
            new_h = xp.matmul(new_h, project)
        active = _active(c, sizes[t] if sizes is not None else None)
        h = hs[t] = _keep(active, new_h, h)
        c = cs[t] = _keep(active, new_c, c)
    return xp.stack(hs), xp.stack(cs)


@lstm_scan.vjps("gates", "h", "c", "weight", "projection")
def _lstm_rule(
    g: Any,
    y: Any,
    gates: Any,
    h: Any,
    c: Any,
    weight: Any,
    projection: Any,
    reverse: bool,
    sizes: tuple[int, ...] | None,
) -> tuple[Any, ...]:
    (gh, gc), (hs, cs) = g, y
    before, c_before = _before(hs, h, reverse), _before(cs, c, reverse)
    i, f, u, o = _split(gates + matmul(before, mT(weight)), 4)
    i, f, u, o = sigmoid(i), sigmoid(f), e.tanh(u), sigmoid(o)
    tc = e.tanh(cs if sizes is None else f * c_before + i * u)
    slope_c = o * (1.0 - tc * tc)
    # ∂c/∂a for the input, forget and cell gates, ∂m/∂a for the output gate, where m = σ(o) tanh(c)
    by_c = (u * i * (1.0 - i), c_before * f * (1.0 - f), i * (1.0 - u * u))
    by_m = tc * o * (1.0 - o)
    dh: Any = 0.0
    dc: Any = 0.0
    das, dhs = [], []
    for t, active in _back(sizes, hs, reverse):
        dh, dc = gh[t, ...] + dh, gc[t, ...] + dc
        now = dh if active is None else dh * active
        dm = now if projection is None else matmul(now, projection)
        d = (dc if active is None else dc * active) + dm * slope_c[t, ...]
        da = concat((*[d * part[t, ...] for part in by_c], dm * by_m[t, ...]), axis=-1)
        if active is None:
            dh, dc = matmul(da, weight), d * f[t, ...]
        else:
            rest = 1.0 - active
            dh, dc = matmul(da, weight) + dh * rest, d * f[t, ...] + dc * rest
        das.append(da)
        dhs.append(now)
    da = _in_order(das, reverse)
    dw = matmul(mT(_rows(da)), _rows(before))
    if projection is None:
        return da, dh, dc, dw, None
    return da, dh, dc, dw, matmul(mT(_rows(_in_order(dhs, reverse))), _rows(o * tc))


# ----- GRU -----


@primitive
def gru_scan(
    xp: Backend,
    gates: Array,
    h: Array,
    weight: Array,
    bias: Array = None,
    /,
    *,
    reverse: bool = False,
    sizes: tuple[int, ...] | None = None,
) -> Array:
    """r = σ(gates_r + W_r h + b_r), z = σ(gates_z + W_z h + b_z), n = tanh(gates_n + r (W_n h + b_n)),
    h_t = (1 − z) n + z h_{t−1}. gates (t, n, 3h), h (n, h), W (3h, h), b (3h) → all h_t (t, n, h).

    Source: Cho et al.: Learning phrase representations using RNN encoder-decoder (2014), in the form where the reset
    gate acts after the product.
    """
    out: list[Any] = [None] * gates.shape[0]
    transposed = xp.matrix_transpose(weight)
    for t in _steps(gates.shape[0], reverse):
        inner = xp.matmul(h, transposed)
        if bias is not None:
            inner = inner + bias
        (ar, az, an), (br, bz, bn) = _split(gates[t, ...], 3), _split(inner, 3)
        r, z = _sigmoid(xp, ar + br), _sigmoid(xp, az + bz)
        n = xp.tanh(an + r * bn)
        h = out[t] = _keep(_active(h, sizes[t] if sizes is not None else None), n + z * (h - n), h)
    return xp.stack(out)


@gru_scan.vjps("gates", "h", "weight", "bias")
def _gru_rule(
    g: Any,
    y: Any,
    gates: Any,
    h: Any,
    weight: Any,
    bias: Any,
    reverse: bool,
    sizes: tuple[int, ...] | None,
) -> tuple[Any, ...]:
    before = _before(y, h, reverse)
    inner = matmul(before, mT(weight))
    if bias is not None:
        inner = inner + bias
    (ar, az, an), (br, bz, bn) = _split(gates, 3), _split(inner, 3)
    r, z = sigmoid(ar + br), sigmoid(az + bz)
    n = e.tanh(an + r * bn)
    by_n = (1.0 - z) * (1.0 - n * n)
    by_r = bn * r * (1.0 - r)
    by_z = (before - n) * z * (1.0 - z)
    dh: Any = 0.0
    das, dbs = [], []
    for t, active in _back(sizes, y, reverse):
        dh = g[t, ...] + dh
        now = dh if active is None else dh * active
        dn = now * by_n[t, ...]
        dr, dz = dn * by_r[t, ...], now * by_z[t, ...]
        das.append(concat((dr, dz, dn), axis=-1))
        db = concat((dr, dz, dn * r[t, ...]), axis=-1)
        dbs.append(db)
        back = now * z[t, ...] + matmul(db, weight)
        dh = back if active is None else back + dh * (1.0 - active)
    da, db = _in_order(das, reverse), _rows(_in_order(dbs, reverse))
    return da, dh, matmul(mT(db), _rows(before)), None if bias is None else sum_(db, axis=0)


# ----- cells: one step -----


@primitive
def gru_cell(xp: Backend, a: Array, b: Array, h: Array, /) -> Array:
    """r = σ(a_r + b_r), z = σ(a_z + b_z), n = tanh(a_n + r b_n), (1 − z) n + z h: a = W_ih x + b_ih and b = W_hh h + b_hh
    (…, 3h), h (…, h) → the next state (…, h). Source: as of `gru_scan`."""
    (ar, az, an), (br, bz, bn) = _split(a, 3), _split(b, 3)
    r, z = xp.logistic(ar + br), xp.logistic(az + bz)
    n = xp.tanh(an + r * bn)
    return n + z * (h - n)


@gru_cell.vjps("a", "b", "h")
def _gru_cell_rule(g: Any, a: Any, b: Any, h: Any) -> tuple[Any, Any, Any]:
    (ar, az, an), (br, bz, bn) = _split(a, 3), _split(b, 3)
    r, z = sigmoid(ar + br), sigmoid(az + bz)
    n = e.tanh(an + r * bn)
    dn = g * (1.0 - z) * (1.0 - n * n)
    dr, dz = dn * bn * (r * (1.0 - r)), g * (h - n) * (z * (1.0 - z))
    return concat((dr, dz, dn), axis=-1), concat((dr, dz, dn * r), axis=-1), g * z


@primitive
def lstm_cell(xp: Backend, a: Array, b: Array, c: Array, /) -> Array:
    """(i, f, u, o) = a + b; c' = σ(f) c + σ(i) tanh(u), h' = σ(o) tanh(c'): a = W_ih x + b_ih and b = W_hh h + b_hh (…, 4h), c (…, h)
    → h' and c', as one array (2, …, h). Source: as of `lstm_scan`."""
    i, f, u, o = _split(a + b, 4)
    new = xp.logistic(f) * c + xp.logistic(i) * xp.tanh(u)
    return xp.stack([xp.logistic(o) * xp.tanh(new), new])


@lstm_cell.vjps("a", "b", "c")
def _lstm_cell_rule(g: Any, a: Any, b: Any, c: Any) -> tuple[Any, Any, Any]:
    gh, gc = g[0, ...], g[1, ...]
    i, f, u, o = _split(a + b, 4)
    i, f, u, o = sigmoid(i), sigmoid(f), e.tanh(u), sigmoid(o)
    t = e.tanh(f * c + i * u)
    d = gc + gh * o * (1.0 - t * t)
    parts = d * u * (i * (1.0 - i)), d * c * (f * (1.0 - f)), d * i * (1.0 - u * u), gh * t * (o * (1.0 - o))
    da = concat(parts, axis=-1)
    return da, da, d * f


gru_cell.stacked = True


# ----- whole layers, where a backend has them -----


def _whole(name: str, x: Any) -> bool:
    plain = unwrap(x)
    xp = backend_of(plain)
    return (
        kernels_on()
        and not rounds()  # then the products with the inputs are rounded, and these kernels are all in float32
        and name in xp.kernels
        and dtypes.of(plain.dtype) is dtypes.float32
        and 0 not in plain.shape
        and plain.shape[1] >= xp.kernels[name].min_batch
    )


@primitive
def lstm_layer(
    xp: Backend, x: Array, h: Array, c: Array, weight_ih: Array, weight_hh: Array, bias: Array = None, /, *,
    reverse: bool = False,
) -> tuple[Array, Array]:  # fmt: skip
    """`lstm_scan` of x W_ihᵀ + b: x (t, n, i), W_ih (4h, i), b (4h) → all h_t (t, n, h) and the last c (n, h)."""
    gates = xp.matmul(x, xp.matrix_transpose(weight_ih))
    gates = gates if bias is None else gates + bias
    hs, cs = lstm_scan.reference(xp, gates, h, c, weight_hh, reverse=reverse)
    return hs, cs[0 if reverse else -1, ...]


@lstm_layer.vjps("x", "h", "c", "weight_ih", "weight_hh", "bias")
def _lstm_layer_rule(
    g: Any, x: Any, h: Any, c: Any, weight_ih: Any, weight_hh: Any, bias: Any, reverse: bool
) -> tuple[Any, ...]:
    gh, gc = g
    gates = linear(x, weight_ih, bias)
    states = lstm_scan(gates, h, c, weight_hh, reverse=reverse)
    cs = unwrap(states[1])
    rest, last = backend_of(cs).zeros_like(cs[1:, ...]), expand_dims(gc, axis=0)
    gcs = concat((last, rest) if reverse else (rest, last))
    da, dh, dc, dw, _ = _lstm_rule((gh, gcs), states, gates, h, c, weight_hh, None, reverse, None)
    dx, dw_ih = _of_input(da, x, weight_ih)
    return dx, dh, dc, dw_ih, dw, None if bias is None else sum_(_rows(da), axis=0)


def _of_input(da: Any, x: Any, weight: Any) -> tuple[Any, Any]:
    """The gradients of the product x Wᵀ."""
    return matmul(da, weight), matmul(mT(_rows(da)), _rows(x))


@primitive
def gru_layer(
    xp: Backend, x: Array, h: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array = None, bias_hh: Array = None,
    /, *, reverse: bool = False,
) -> Array:  # fmt: skip
    """`gru_scan` of x W_ihᵀ + b: x (t, n, i), W_ih (3h, i), both b (3h) → all h_t (t, n, h)."""
    gates = xp.matmul(x, xp.matrix_transpose(weight_ih))
    gates = gates if bias_ih is None else gates + bias_ih
    y: Array = gru_scan.reference(xp, gates, h, weight_hh, bias_hh, reverse=reverse)
    return y


@gru_layer.vjps("x", "h", "weight_ih", "weight_hh", "bias_ih", "bias_hh")
def _gru_layer_rule(
    g: Any, y: Any, x: Any, h: Any, weight_ih: Any, weight_hh: Any, bias_ih: Any, bias_hh: Any, reverse: bool
) -> tuple[Any, ...]:
    gates = linear(x, weight_ih, bias_ih)
    da, dh, dw, db = _gru_rule(g, y, gates, h, weight_hh, bias_hh, reverse, None)
    dx, dw_ih = _of_input(da, x, weight_ih)
    return dx, dh, dw_ih, dw, None if bias_ih is None else sum_(_rows(da), axis=0), db


def lstm(
    x: ArrayLike, h: ArrayLike, c: ArrayLike, weight_ih: ArrayLike, weight_hh: ArrayLike,
    bias: ArrayLike | None = None, projection: ArrayLike | None = None, *,
    reverse: bool = False, sizes: tuple[int, ...] | None = None,
) -> tuple[Any, Any]:  # fmt: skip
    """One layer in one direction: x (t, n, i) and the first states → all h_t (t, n, p) and the last c (n, h)."""
    if projection is None and sizes is None and _whole("lstm_layer", x):
        more = () if bias is None else (bias,)
        return lstm_layer(x, h, c, weight_ih, weight_hh, *more, reverse=reverse)  # type: ignore[return-value]
    project = () if projection is None else (projection,)
    gates = linear(x, weight_ih, bias)
    hs, cs = lstm_scan(gates, h, c, weight_hh, *project, reverse=reverse, sizes=sizes)
    return hs, cs[0 if reverse else -1, ...]


def gru(
    x: ArrayLike, h: ArrayLike, weight_ih: ArrayLike, weight_hh: ArrayLike, bias_ih: ArrayLike | None = None,
    bias_hh: ArrayLike | None = None, *,
    reverse: bool = False, sizes: tuple[int, ...] | None = None,
) -> Tensor:  # fmt: skip
    """One layer in one direction: x (t, n, i) and the first state → all h_t (t, n, h)."""
    if sizes is None and (bias_ih is None) == (bias_hh is None) and _whole("gru_layer", x):
        biases = () if bias_ih is None else (bias_ih, bias_hh)
        return gru_layer(x, h, weight_ih, weight_hh, *biases, reverse=reverse)
    inner = () if bias_hh is None else (bias_hh,)
    return gru_scan(linear(x, weight_ih, bias_ih), h, weight_hh, *inner, reverse=reverse, sizes=sizes)
