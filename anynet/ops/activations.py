"""Activations, each one primitive: large arrays pass through memory once.

Each keeps for its gradient only what the formula needs.
"""

from __future__ import annotations

import math
from typing import Any

from anynet import dtypes
from anynet.autograd.broadcasting import cast_to
from anynet.autograd.primitive import primitive
from anynet.ops import elementwise as e
from anynet.ops.erf import erf
from anynet.ops.manipulation import concat
from anynet.tensor import Tensor
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend

__all__ = [
    "elu", "gelu", "gelu_tanh", "glu", "hardshrink", "hardsigmoid", "hardswish", "hardtanh", "leaky_relu", "logsigmoid", "mish", "relu",
    "sigmoid", "silu", "softplus", "softshrink", "softsign", "tanhshrink", "threshold",
]  # fmt: skip


def _as(x: Any, like: Any) -> Any:
    return cast_to(x, dtype=dtypes.of(like.dtype))


@primitive
def relu(xp: Backend, x: Array, /) -> Array:
    """max(x, 0), element by element; the gradient is g where x > 0, else 0."""
    return xp.maximum(x, 0.0)


relu.vjp(x=lambda g, y: g * _as(e.greater(y, 0.0), g))


@relu.kernel("numpy", vjp=True)
def _relu_numpy(xp: Backend, x: Array, /, *, need: tuple[bool, ...] | None) -> Any:
    y = xp.maximum(x, 0.0)
    return y if need is None else (y, lambda g: (xp.arrange(g, y) * (y > 0.0),))


@primitive
def leaky_relu(xp: Backend, x: Array, /, *, negative_slope: float = 0.01) -> Array:
    """x where x > 0, else negative_slope · x."""
    return xp.where(x > 0, x, x * negative_slope)


leaky_relu.vjp(x=lambda g, x, negative_slope: e.where(e.greater(x, 0.0), g, g * negative_slope))


@primitive
def elu(xp: Backend, x: Array, /, *, alpha: float = 1.0, scale: float = 1.0, rate: float = 1.0) -> Array:
    """x · scale where x > 0, else scale · α (e^{rate · x} − 1)."""
    low = xp.expm1(xp.minimum(x, 0.0) * rate) * (alpha * scale)
    return xp.where(x > 0, x if scale == 1 else x * scale, low)


elu.vjp(
    x=lambda g, x, alpha, scale, rate: (
        g * e.where(e.greater(x, 0.0), scale, e.exp(e.minimum(x, 0.0) * rate) * (alpha * scale * rate))
    )
)


@primitive
def sigmoid(xp: Backend, x: Array, /) -> Array:
    """1 / (1 + e⁻ˣ)"""
    return xp.logistic(x)


sigmoid.vjp(x=lambda g, y: g * (y * (1 - y)))


@primitive
def silu(xp: Backend, x: Array, /) -> Array:
    """x σ(x), also called swish (Hendrycks & Gimpel 2016; Elfwing et al. 2018)."""
    return x * xp.logistic(x)


def _silu_rule(g: Any, x: Any) -> Any:
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


silu.vjp(x=_silu_rule)


def _halves(x: Any, axis: int) -> tuple[Any, Any]:
    """The two halves along an axis, which is counted from the last."""
    n, rest = x.shape[axis] // 2, (slice(None),) * (-1 - axis)
    return x[(..., slice(0, n), *rest)], x[(..., slice(n, 2 * n), *rest)]


@primitive
def glu(xp: Backend, x: Array, /, *, axis: int) -> Array:
    """a σ(b) for the halves a and b of x along `axis`, which is negative (Dauphin et al. 2017)."""
    a, b = _halves(x, axis)
    return a * xp.logistic(b)


def _glu_rule(g: Any, x: Any, axis: int) -> Any:
    a, b = _halves(x, axis)
    s = sigmoid(b)
    return concat((g * s, g * a * (s * (1 - s))), axis=axis)


glu.vjp(x=_glu_rule)


@primitive
def softplus(xp: Backend, x: Array, /, *, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """(1/β) ln(1 + e^{βx}), a smooth ReLU; x itself where βx > threshold."""
    z = x * beta
    smooth = xp.maximum(z, 0.0) + xp.log1p(xp.exp(-xp.abs(z)))
    return xp.where(z > threshold, x, smooth / beta)


softplus.vjp(
    x=lambda g, x, beta, threshold: e.where(e.greater(x * beta, threshold), g, g * sigmoid(x * beta))
)


@primitive(name="gelu")
def _gelu(xp: Backend, x: Array, /) -> Array:
    return 0.5 * x * (1.0 + erf.reference(xp, x * math.sqrt(0.5)))


_gelu.vjp(
    x=lambda g, x: (
        g * (0.5 * (1.0 + erf(x * math.sqrt(0.5))) + x * e.exp(-0.5 * x * x) * (1 / math.sqrt(2 * math.pi)))
    )
)


@primitive
def gelu_tanh(xp: Backend, x: Array, /) -> Array:
    return 0.5 * x * (1.0 + xp.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))


def _gelu_tanh_rule(g: Any, x: Any) -> Any:
    c = math.sqrt(2 / math.pi)
    t = e.tanh(c * (x + 0.044715 * x * x * x))
    return g * (0.5 * (1 + t) + 0.5 * x * (1 - t * t) * (c * (1 + 3 * 0.044715 * x * x)))


gelu_tanh.vjp(x=_gelu_tanh_rule)


def gelu(x: ArrayLike, approximate: str = "none") -> Tensor:
    """x Φ(x), Φ the normal distribution function; ``approximate="tanh"`` is the formula of Hendrycks & Gimpel 2016."""
    if approximate == "none":
        return _gelu(x)
    if approximate == "tanh":
        return gelu_tanh(x)
    msg = f"gelu: approximate must be 'none' or 'tanh', got {approximate!r}"
    raise ValueError(msg)


def _where_true(g: Any, mask: Any) -> Any:
    """g where the mask holds, else 0: a product takes a quarter of the time of a choice."""
    return e.multiply_no_nan(g, cast_to(mask, dtype=dtypes.of(g.dtype)))


@primitive
def hardtanh(xp: Backend, x: Array, /, *, low: float, high: float) -> Array:
    """x, but not below `low` nor above `high`; the gradient is 0 at the bounds and beyond."""
    return xp.minimum(xp.maximum(x, low), high)


hardtanh.vjp(x=lambda g, x, low, high: _where_true(g, e.logical_and(e.greater(x, low), e.less(x, high))))


@primitive
def hardsigmoid(xp: Backend, x: Array, /) -> Array:
    """x/6 + ½ between −3 and 3, else 0 or 1."""
    return xp.minimum(xp.maximum(x, -3.0), 3.0) * (1 / 6) + 0.5


hardsigmoid.vjp(x=lambda g, x: _where_true(g * (1 / 6), e.logical_and(e.greater(x, -3.0), e.less(x, 3.0))))


@primitive
def hardswish(xp: Backend, x: Array, /) -> Array:
    """0 below −3, x above 3, between them x (x + 3) / 6."""
    low = xp.maximum(x, -3.0)
    return low * ((xp.minimum(low, 3.0) + 3.0) / 6.0)


hardswish.vjp(
    x=lambda g, x: g * e.where(e.less_equal(x, -3.0), 0.0, e.where(e.less(x, 3.0), x * (1 / 3) + 0.5, 1.0))
)


@primitive
def hardshrink(xp: Backend, x: Array, /, *, bound: float) -> Array:
    """x where |x| > bound, else 0."""
    return xp.where(xp.logical_and(x >= -bound, x <= bound), xp.zeros_like(x), x)


hardshrink.vjp(
    x=lambda g, x, bound: _where_true(
        g, e.logical_not(e.logical_and(e.greater_equal(x, -bound), e.less_equal(x, bound)))
    )
)


@primitive
def softshrink(xp: Backend, x: Array, /, *, bound: float) -> Array:
    """x moved by `bound` towards 0, at most to 0."""
    return x - xp.minimum(xp.maximum(x, -bound), bound)


softshrink.vjp(x=lambda g, x, bound: _where_true(g, e.greater(e.abs(x), bound)))


@primitive
def threshold(xp: Backend, x: Array, /, *, bound: float, value: float) -> Array:
    """x where x > bound, else `value`; NaN stays NaN."""
    return xp.where(x <= bound, xp.full_like(x, value), x)


threshold.vjp(x=lambda g, x, bound: _where_true(g, e.logical_not(e.less_equal(x, bound))))


@primitive
def tanhshrink(xp: Backend, x: Array, /) -> Array:
    """x − tanh x."""
    return x - xp.tanh(x)


tanhshrink.vjp(x=lambda g, x: g * e.square(e.tanh(x)))


@primitive
def softsign(xp: Backend, x: Array, /) -> Array:
    """x / (1 + |x|)."""
    return x / (xp.abs(x) + 1.0)


softsign.vjp(x=lambda g, x: g / e.square(e.abs(x) + 1.0))


@primitive
def logsigmoid(xp: Backend, x: Array, /) -> Array:
    """ln σ(x) = min(x, 0) − ln(1 + e^{−|x|})."""
    return xp.minimum(x, 0.0) - xp.log1p(xp.exp(-xp.abs(x)))


logsigmoid.vjp(x=lambda g, x: g * sigmoid(-x))


@primitive
def mish(xp: Backend, x: Array, /) -> Array:
    """x tanh(ln(1 + eˣ)) = x w (w + 2) / (w (w + 2) + 2) with w = eˣ; from 20 on it is x."""
    w = xp.exp(xp.minimum(x, 20.0))
    w = w * (w + 2.0)
    return x * (w / (w + 2.0))


def _mish_rule(g: Any, x: Any) -> Any:
    w = e.exp(e.minimum(x, 20.0))
    top = w * (w + 2.0)
    below = top + 2.0
    slope = 4.0 * w * (w + 1.0) / (below * below)  # negligible from 20 on
    return g * (top / below + e.minimum(x, 20.0) * slope)


mish.vjp(x=_mish_rule)

for _prim in (
    relu, leaky_relu, elu, sigmoid, silu, softplus, gelu_tanh, hardtanh, hardsigmoid, hardswish, hardshrink, softshrink,
    tanhshrink, softsign, logsigmoid, mish, threshold,
):  # fmt: skip
    _prim.elementwise = True
