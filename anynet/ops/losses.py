"""The primitives of losses, one number for each row or element: the reductions are in `anynet.nn.functional`."""

from __future__ import annotations

import math
from typing import Any

from anynet.autograd.primitive import primitive
from anynet.ops import elementwise as e
from anynet.ops.activations import sigmoid, softplus
from anynet.ops.manipulation import expand_dims
from anynet.ops.softmax import softmax
from anynet.tensor import unwrap
from anynet_backends import Array, Backend, backend_of

__all__ = [
    "binary_cross_entropy_", "cross_entropy_rows", "divide_by_count", "huber", "logit_cross_entropy", "nll_rows",
    "squared_error",
]  # fmt: skip

# ----- classes -----


@primitive
def divide_by_count(xp: Backend, x: Array, count: Array, /) -> Array:
    """x / count, where count is no variable and not 0, but NaN where nothing was counted: a mean over targets. The rule of `divide`
    asks for each number whether it is 0 / 0."""
    return x / count


divide_by_count.elementwise = True
divide_by_count.vjp(x=lambda g, count: divide_by_count(g, count))


@primitive
def cross_entropy_rows(
    xp: Backend, x: Array, index: Array, weight: Array = None, /, *, smoothing: float = 0.0
) -> Array:
    """−Σ_c q_c w_c ln softmax(x)_c for each row of x (n, classes), q one-hot at `index`, smoothed:
    q = (1 − s) one-hot + s / classes. Rows with a negative index give 0."""
    classes = x.shape[1]
    z = x - xp.max(x, axis=1, keepdims=True)
    log_sum = xp.log(xp.sum(xp.exp(z), axis=1))
    loss = log_sum - _pick(xp, z, index)
    if weight is not None:
        loss = loss * _take(xp, weight, index)
    if smoothing:
        if weight is None:
            spread = log_sum * classes - xp.sum(z, axis=1)
        else:
            spread = log_sum * xp.sum(weight) - xp.matmul(z, weight)
        loss = (1 - smoothing) * loss + (smoothing / classes) * spread
    return xp.where(index < 0, xp.zeros_like(loss), loss)


def _pick(xp: Backend, x: Array, index: Array) -> Array:
    """x[i, index[i]], with 0 for a negative index (whose value is not used)."""
    safe = xp.where(index < 0, xp.zeros_like(index), index)
    return xp.take_along_axis(x, xp.expand_dims(safe, axis=1), axis=1)[:, 0]


def _take(xp: Backend, weight: Array, index: Array) -> Array:
    return xp.take(weight, xp.where(index < 0, xp.zeros_like(index), index), axis=0)


def _one_hot(index: Array, classes: int, dtype: Any) -> Array:
    """(n, classes): 1 at the index, rows of zeros for a negative one."""
    xp = backend_of(index)
    columns = xp.arange(classes, dtype=index.dtype, device=xp.native_device(xp.device_of(index)))
    return xp.astype(xp.expand_dims(index, axis=1) == xp.expand_dims(columns, axis=0), dtype)


def _cross_entropy_rule(g: Any, x: Any, index: Any, weight: Any, smoothing: float) -> Any:
    """(Σ_c q_c w_c) softmax(x) − q w, which is softmax − one-hot in the plain case."""
    index, weight = unwrap(index), unwrap(weight)
    xp = backend_of(index)
    q = _one_hot(index, x.shape[1], unwrap(x).dtype)
    if smoothing:
        q = q * (1 - smoothing) + smoothing / x.shape[1]
    if weight is not None and smoothing:
        q = q * xp.expand_dims(weight, axis=0)
    elif weight is not None:  # of the target class only: the weight of another class may be infinite
        q = xp.where(q > 0, xp.expand_dims(_take(xp, weight, index), axis=1), 0.0)
    total = 1.0 if weight is None else xp.sum(q, axis=1, keepdims=True)
    live = xp.expand_dims(index, axis=1) >= 0  # an ignored row has no gradient, even if it holds NaN
    g = e.where(live, expand_dims(g, axis=1), 0.0)
    return e.where(live, g * (softmax(x, axis=1) * total - q), 0.0)


cross_entropy_rows.vjp(x=_cross_entropy_rule)


@cross_entropy_rows.kernel("numpy", vjp=True)
def _cross_entropy_numpy(
    xp: Backend,
    x: Array,
    index: Array,
    weight: Array = None,
    /,
    *,
    smoothing: float = 0.0,
    need: tuple[bool, ...] | None,
) -> Any:
    """The plain case with the softmax kept, so that the gradient is softmax − one-hot without a second exponential."""
    if weight is not None or smoothing:
        return NotImplemented
    ignored = index < 0
    index = xp.where(ignored, 0, index)  # machine code takes no negative ones
    p = x - xp.max(x, axis=1, keepdims=True)
    rows = xp.arange(x.shape[0])
    loss = -p[rows, index]
    p = xp.exp(p)
    total = xp.sum(p, axis=1, keepdims=True)
    loss += xp.log(total)[:, 0]
    loss[ignored] = 0.0
    if need is None:
        return loss
    p /= total

    def pullback(g: Array) -> tuple[Any, ...]:
        gx = p * g[:, None]
        if not xp.eager or bool(ignored.any()):
            # ignored rows give 0, even if they hold NaN, and at any index; `where` in place of a mask as a key can be compiled
            gx = xp.where(ignored[:, None], 0.0, gx)
            g = xp.where(ignored, 0.0, g)
        gx[rows, index] -= g
        return (gx,) + (None,) * (len(need) - 1)

    return loss, pullback


@primitive
def nll_rows(xp: Backend, x: Array, index: Array, weight: Array = None, /) -> Array:
    """−w_t x_t for each row of x (n, classes), t its `index`. Rows with a negative index give 0."""
    loss = -_pick(xp, x, index)
    if weight is not None:
        loss = loss * _take(xp, weight, index)
    return xp.where(index < 0, xp.zeros_like(loss), loss)


def _nll_rule(g: Any, index: Any, weight: Any, x_shape: tuple[int, ...], x_dtype: Any) -> Any:
    index, weight = unwrap(index), unwrap(weight)
    xp = backend_of(index)
    hit = _one_hot(index, x_shape[1], xp.bool)
    g = -expand_dims(g, axis=1)
    return e.where(hit, g if weight is None else g * xp.expand_dims(_take(xp, weight, index), axis=1), 0.0)


nll_rows.vjp(x=_nll_rule)


@nll_rows.kernel("numpy", vjp=True)
def _nll_numpy(
    xp: Backend, x: Array, index: Array, weight: Array = None, /, *, need: tuple[bool, ...] | None
) -> Any:
    """The gradient is written where it is, and is not compared with all classes."""
    ignored = index < 0
    index = xp.where(ignored, 0, index)
    rows = xp.arange(x.shape[0])
    loss = xp.where(ignored, 0.0, -x[rows, index])
    scale = None if weight is None else xp.take(weight, index, axis=0)
    if scale is not None:
        loss = xp.where(ignored, 0.0, loss * scale)
    if need is None:
        return loss
    shape, dtype = x.shape, x.dtype

    def pullback(g: Array) -> tuple[Any, ...]:
        gx = xp.zeros(shape, dtype=dtype)
        gx[rows, index] = xp.where(ignored, 0.0, -g if scale is None else -g * scale)
        return (gx,) + (None,) * (len(need) - 1)

    return loss, pullback


# ----- errors of each element -----


@primitive
def squared_error(xp: Backend, x: Array, target: Array, /) -> Array:
    """(x − t)²"""
    d = x - target
    return d * d


squared_error.vjp(
    x=lambda g, x, target: g * (2 * (x - target)), target=lambda g, x, target: g * (2 * (target - x))
)


@primitive
def huber(xp: Backend, x: Array, target: Array, /, *, delta: float) -> Array:
    """½ d² where |d| ≤ δ, else δ (|d| − ½ δ), with d = x − t (Huber 1964)."""
    d = xp.abs(x - target)
    near = xp.minimum(d, float(delta))
    return near * (d - 0.5 * near)


def _huber_slope(x: Any, target: Any, delta: float) -> Any:
    return e.clip(x - target, -delta, delta)


huber.vjp(
    x=lambda g, x, target, delta: g * _huber_slope(x, target, delta),
    target=lambda g, x, target, delta: g * _huber_slope(target, x, delta),
)


@primitive
def binary_cross_entropy_(xp: Backend, p: Array, target: Array, /) -> Array:
    """−(t ln p + (1 − t) ln(1 − p)), the logarithms not below −100."""
    return -(target * _log_100(xp, p) + (1 - target) * _log_100(xp, 1 - p))


def _log_100(xp: Backend, p: Array) -> Array:
    low = p < math.exp(-100)
    return xp.where(low, xp.full_like(p, -100.0), xp.log(xp.where(low, xp.ones_like(p), p)))


def _ln(p: Any) -> Any:
    low = e.less(p, math.exp(-100))
    return e.where(low, -100.0, e.log(e.where(low, 1.0, p)))


binary_cross_entropy_.vjp(  # as PyTorch, p (1 − p) is not taken below 1e-12
    p=lambda g, p, target: g * (p - target) / e.clip(p * (1 - p), 1e-12, None),
    target=lambda g, p: g * (_ln(1 - p) - _ln(p)),
)


@primitive
def logit_cross_entropy(xp: Backend, x: Array, target: Array, pos_weight: Array = None, /) -> Array:
    """(1 − t) x + (1 + (w − 1) t) ln(1 + e⁻ˣ): the binary cross-entropy of σ(x), w weighing the positives."""
    soft = xp.log1p(xp.exp(-xp.abs(x)))
    soft = soft + xp.maximum(-x, 0.0)
    if pos_weight is not None:
        soft = (1 + (pos_weight - 1) * target) * soft
    return (1 - target) * x + soft


def _logit_x(g: Any, x: Any, target: Any, pos_weight: Any) -> Any:
    if pos_weight is None:
        return g * (sigmoid(x) - target)
    return g * ((1 - target) - (1 + (pos_weight - 1) * target) * sigmoid(-x))


def _logit_target(g: Any, x: Any, pos_weight: Any) -> Any:
    if pos_weight is None:
        return -g * x
    return g * ((pos_weight - 1) * softplus(-x, threshold=math.inf) - x)


logit_cross_entropy.vjp(
    x=_logit_x,
    target=_logit_target,
    pos_weight=lambda g, x, target: g * target * softplus(-x, threshold=math.inf),
)
