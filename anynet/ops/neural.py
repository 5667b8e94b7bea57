"""The coarse primitives of neural networks, with the gradient formulas of the textbooks.

Fewer steps and less memory than compositions of the standard's functions: each keeps what its formula needs.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Final

from anynet import dtypes, random
from anynet.autograd.fitting import cast_to
from anynet.autograd.primitive import primitive
from anynet.autograd.vmap import each, is_batched
from anynet.ops import elementwise as e
from anynet.ops.indexing import check_index, scatter_rows
from anynet.ops.linear import matmul
from anynet.ops.linear import matrix_transpose as mT
from anynet.ops.manipulation import axes_of, expand_dims, reshape
from anynet.ops.reductions import sum as sum_
from anynet.tensor import Tensor, no_grad, to_plain, unwrap
from anynet.typing import ArrayLike
from anynet_backends import TYPES, Array, Backend, backend_of

__all__ = [
    "cross_entropy_rows", "dropout", "elu", "embedding", "erf", "gelu", "leaky_relu", "linear", "log_softmax",
    "logsumexp", "relu", "sigmoid", "silu", "softmax", "softplus",
]  # fmt: skip

# ----- linear -----


@primitive(name="linear")
def _linear(xp: Backend, x: Array, weight: Array, bias: Array = None, /) -> Array:
    w = xp.matrix_transpose(weight)
    return xp.matmul(x, w) if bias is None else xp.affine(x, w, bias)


@_linear.vjps("x", "weight", "bias")
def _linear_rule(g: Any, x: Any, weight: Any, need: tuple[bool, ...]) -> tuple[Any, Any, Any]:
    flat = g if len(g.shape) == 2 else reshape(g, (-1, g.shape[-1]))
    gx = matmul(g, weight) if need[0] else None
    gw = None
    if need[1]:
        rows = x if len(x.shape) == 2 else reshape(x, (-1, x.shape[-1]))
        gw = matmul(mT(flat), e.conj(rows))
    gb = sum_(flat, axis=0) if need[2] else None
    return gx, gw, gb


@_linear.kernel("numpy", vjp=True)
def _linear_numpy(
    xp: Backend, x: Array, weight: Array, bias: Array = None, /, *, need: tuple[bool, ...] | None
) -> Any:
    """The same, with the gradients on plain arrays in one go."""
    rows = (
        x if x.ndim == 2 else xp.reshape(x, (-1, x.shape[-1]))
    )  # one product, not one for each leading index
    y = xp.matmul(rows, weight.T) if bias is None else xp.affine(rows, weight.T, bias)
    if x.ndim != 2:
        y = xp.reshape(y, (*x.shape[:-1], y.shape[-1]))
    if need is None:
        return y

    def pull(g: Array) -> tuple[Any, ...]:
        flat = g if g.ndim == 2 else xp.reshape(g, (-1, g.shape[-1]))
        gx = xp.matmul(flat, weight.conj()) if need[0] else None
        if gx is not None and g.ndim != 2:
            gx = xp.reshape(gx, x.shape)
        gw = None
        if need[1]:  # BLAS has nothing for the product of a column and a row
            gw = (xp.multiply if flat.shape[0] == 1 else xp.matmul)(flat.T, rows.conj())
        if len(need) == 2:
            return gx, gw
        return gx, gw, xp.sum(flat, axis=0) if need[2] else None

    return y, pull


def _same_library(x: Any, w: Any) -> bool:
    """Whether both are plain arrays of one library, recorded or not."""
    one, other = TYPES.get(type(x)), TYPES.get(type(w))
    return one is not None and other is not None and one.name == other.name


def linear(input: ArrayLike, weight: ArrayLike, bias: ArrayLike | None = None) -> Tensor:
    """y = x Wᵀ + b: x (…, in), W (out, in), b (out) → (…, out).

    Gradients: ∂L/∂x = g W, ∂L/∂W = gᵀ x, ∂L/∂b = Σ g, sums over all rows.

    >>> import anynet as an
    >>> an.nn.functional.linear(an.asarray([[1.0, 2.0]]), an.asarray([[3.0, 4.0]]), an.asarray([0.5])).tolist()
    [[11.5]]
    """
    x, w = unwrap(input), unwrap(weight)
    shape, form = x.shape, w.shape
    if len(form) != 2 or len(shape) < 1 or shape[-1] != form[-1]:
        msg = f"linear: x of shape {tuple(shape)} and weight {tuple(form)}; expected (…, in) and (out, in)"
        raise ValueError(msg)
    if (type(x) is type(w) or _same_library(x, w)) and x.dtype != w.dtype:
        got, expected = dtypes.of(x.dtype), dtypes.of(w.dtype)
        msg = f"linear: x is {got} but weight is {expected}; convert one: anynet.astype(x, …) or module.to(dtype)"
        raise TypeError(msg)
    if bias is not None and tuple(bias.shape) != (form[0],):
        msg = f"linear: bias of shape {tuple(bias.shape)}, expected ({form[0]},)"
        raise ValueError(msg)
    if len(shape) == 1:
        return reshape(linear(reshape(input, (1, -1)), weight, bias), (-1,))
    return _linear(input, weight) if bias is None else _linear(input, weight, bias)


# ----- activations -----


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
    """1 / (1 + e⁻ˣ), computed as ½ (1 + tanh(x/2)), which never overflows."""
    return xp.tanh(x * 0.5) * 0.5 + 0.5


sigmoid.vjp(x=lambda g, y: g * (y * (1 - y)))


@primitive
def silu(xp: Backend, x: Array, /) -> Array:
    """x σ(x), also called swish (Hendrycks & Gimpel 2016; Elfwing et al. 2018)."""
    return x * (xp.tanh(x * 0.5) * 0.5 + 0.5)


def _silu_rule(g: Any, x: Any) -> Any:
    s = sigmoid(x)
    return g * (s * (1 + x * (1 - s)))


silu.vjp(x=_silu_rule)


@primitive
def softplus(xp: Backend, x: Array, /, *, beta: float = 1.0, threshold: float = 20.0) -> Array:
    """(1/β) ln(1 + e^{βx}), a smooth ReLU; x itself where βx > threshold."""
    z = x * beta
    smooth = xp.maximum(z, 0.0) + xp.log1p(xp.exp(-xp.abs(z)))
    return xp.where(z > threshold, x, smooth / beta)


softplus.vjp(
    x=lambda g, x, beta, threshold: e.where(e.greater(x * beta, threshold), g, g * sigmoid(x * beta))
)

# W. J. Cody, "Rational Chebyshev approximations for the error function", Mathematics of Computation 23 (1969)
_A = (3.16112374387056560e00, 1.13864154151050156e02, 3.77485237685302021e02, 3.20937758913846947e03)
_A4 = 1.85777706184603153e-1
_B = (2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03, 2.84423683343917062e03)
_C = (
    5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e01, 2.98635138197400131e02,
    8.81952221241769090e02, 1.71204761263407058e03, 2.05107837782607147e03, 1.23033935479799725e03,
)  # fmt: skip
_C8 = 2.15311535474403846e-8
_D = (
    1.57449261107098347e01, 1.17693950891312499e02, 5.37181101862009858e02, 1.62138957456669019e03,
    3.29079923573345963e03, 4.36261909014324716e03, 3.43936767414372164e03, 1.23033935480374942e03,
)  # fmt: skip
_P = (
    3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1, 1.60837851487422766e-2,
    6.58749161529837803e-4,
)  # fmt: skip
_P5 = 1.63153871373020978e-2
_Q = (
    2.56852019228982242e00, 1.87295284992346047e00, 5.27905102951428412e-1, 6.05183413124413191e-2,
    2.33520497626869185e-3,
)  # fmt: skip


def _rational(y: Array, first: float, top: tuple[float, ...], bottom: tuple[float, ...]) -> Array:
    numerator, denominator = first * y, y
    for a, b in zip(top[:-1], bottom[:-1], strict=True):
        numerator, denominator = (numerator + a) * y, (denominator + b) * y
    return (numerator + top[-1]) / (denominator + bottom[-1])


def erf_parts(xp: Backend, x: Array) -> tuple[Array, Array, Array]:
    """erf(x) where |x| ≤ 0.46875; beyond, e^{t²} erfc(t) with t = |x|, and e^{−t²}."""
    t = xp.abs(x)
    small = x * _rational(xp.minimum(t, xp.full_like(t, 0.5)) ** 2, _A4, _A, _B)
    middle, tail = xp.clip(t, 0.46875, 4.0), xp.clip(t, 4.0, 1e7)
    inverse = 1.0 / (tail * tail)
    far = (1.0 / math.sqrt(math.pi) - inverse * _rational(inverse, _P5, _P, _Q)) / tail
    scaled = xp.where(t > 4.0, far, _rational(middle, _C8, _C, _D))
    t = xp.clip(t, 0.46875, 40.0)
    head = xp.floor(t * 16.0) / 16.0  # e^{−t²} in two factors, of which the first has an exact argument
    return small, scaled, xp.exp(-head * head) * xp.exp(-(t - head) * (t + head))


def for_floats(body: Callable[..., Array]) -> Callable[..., Array]:
    """The body of a special function, whose constants need the range of float32: halves are computed in it and rounded,
    integers in float64 (or what the other argument has), and complex numbers refused."""

    @functools.wraps(body)
    def wide(xp: Backend, *arrays: Array, **meta: Any) -> Array:
        names = [xp.dtype_name(x.dtype) for x in arrays]
        if _WIDE.issuperset(names):
            return body(xp, *arrays, **meta)
        if any(n.startswith("complex") for n in names):
            msg = f"{body.__name__.strip('_')} takes real numbers, got {', '.join(names)}"
            raise TypeError(msg)
        floats = [x for x, n in zip(arrays, names, strict=True) if n in _WIDE or n in _HALF]
        dtype = xp.result_type(*floats) if floats else xp.float64
        inner = xp.float32 if xp.dtype_name(dtype) in _HALF else dtype
        return xp.astype(body(xp, *(xp.astype(x, inner) for x in arrays), **meta), dtype)

    return wide


_WIDE: Final = frozenset(("float32", "float64"))
_HALF: Final = frozenset(("float16", "bfloat16"))


@primitive
@for_floats
def erf(xp: Backend, x: Array, /) -> Array:
    """The error function (2/√π) ∫₀ˣ e^{−t²} dt, to a few units in the last place."""
    small, scaled, decay = erf_parts(xp, x)
    large = 1.0 - decay * scaled
    large = xp.where(x < 0, -large, large)
    return xp.where(xp.abs(x) <= 0.46875, small, xp.where(xp.isnan(x), x, large))


erf.vjp(x=lambda g, x: g * (2.0 / math.sqrt(math.pi)) * e.exp(-x * x))


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
    msg = f"gelu: approximate is 'none' or 'tanh', got {approximate!r}"
    raise ValueError(msg)


for _prim in (relu, leaky_relu, elu, sigmoid, silu, softplus, erf, gelu_tanh):
    _prim.elementwise = True

# ----- softmax -----


@primitive(name="softmax")
def _softmax(xp: Backend, x: Array, *, axis: int) -> Array:
    if 0 in x.shape:
        return xp.asarray(x, copy=True)
    y = xp.exp(x - xp.max(x, axis=axis, keepdims=True))  # shifted by the largest: no overflow
    return y / xp.sum(y, axis=axis, keepdims=True)


_softmax.vjp(x=lambda g, y, axis: y * (g - sum_(g * y, axis=axis, keepdims=True)))


@primitive
def softmax_or_zero(xp: Backend, x: Array, *, axis: int) -> Array:
    """softmax, and 0 where all of the axis is −∞: the weights of a query that may look at nothing."""
    if 0 in x.shape:
        return xp.asarray(x, copy=True)
    top = xp.max(x, axis=axis, keepdims=True)
    y = xp.exp(x - xp.where(top == -math.inf, xp.zeros_like(top), top))
    total = xp.sum(y, axis=axis, keepdims=True)
    return y / xp.where(total == 0, xp.ones_like(total), total)


softmax_or_zero.vjp(x=lambda g, y, axis: y * (g - sum_(g * y, axis=axis, keepdims=True)))


@primitive(name="log_softmax")
def _log_softmax(xp: Backend, x: Array, *, axis: int) -> Array:
    if 0 in x.shape:
        return xp.asarray(x, copy=True)
    x = x - xp.max(x, axis=axis, keepdims=True)
    return x - xp.log(xp.sum(xp.exp(x), axis=axis, keepdims=True))


_log_softmax.vjp(x=lambda g, y, axis: g - e.exp(y) * sum_(g, axis=axis, keepdims=True))


@primitive(name="logsumexp")
def _logsumexp(xp: Backend, x: Array, *, axis: tuple[int, ...]) -> Array:
    if any(x.shape[i] == 0 for i in axis):  # ln 0
        shape = tuple(1 if i in axis else n for i, n in enumerate(x.shape))
        return xp.full(shape, -math.inf, dtype=x.dtype, device=xp.native_device(xp.device_of(x)))
    largest = float(xp.finfo(x.dtype).max)
    top = xp.max(x, axis=axis, keepdims=True)
    top = xp.minimum(xp.maximum(top, -largest), largest)  # no inf − inf
    total = xp.sum(xp.exp(x - top), axis=axis, keepdims=True)
    empty = total == 0  # all of them −∞: ln 0 without a warning
    return xp.where(
        empty, xp.full_like(top, -math.inf), xp.log(xp.where(empty, xp.ones_like(total), total)) + top
    )


_logsumexp.vjp(x=lambda g, y, x: e.softmax_share(g, x, y))


def softmax(x: ArrayLike, axis: int = -1) -> Tensor:
    """e^{x_i} / Σ_j e^{x_j} along an axis."""
    return _softmax(x, axis=axes_of(axis, len(x.shape))[0])


def log_softmax(x: ArrayLike, axis: int = -1) -> Tensor:
    """The logarithm of softmax, x − ln Σ eˣ, computed without overflow."""
    return _log_softmax(x, axis=axes_of(axis, len(x.shape))[0])


def logsumexp(x: ArrayLike, axis: int | tuple[int, ...] | None = None, keepdims: bool = False) -> Tensor:
    """ln Σ eˣ along axes (None: all), computed without overflow."""
    from anynet.ops.manipulation import squeeze

    where = axes_of(axis, len(x.shape))
    if not dtypes.of(unwrap(x).dtype).is_floating:
        x = cast_to(x, dtype=dtypes.float64)
    y = _logsumexp(x, axis=where)
    return y if keepdims else squeeze(y, axis=where)


# ----- softmax and cross-entropy in one -----


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
    elif weight is not None:  # of the own class alone: that of another may be infinite
        q = xp.where(q > 0, xp.expand_dims(_take(xp, weight, index), axis=1), 0.0)
    total = 1.0 if weight is None else xp.sum(q, axis=1, keepdims=True)
    live = xp.expand_dims(index, axis=1) >= 0  # else nothing depends on the row, whatever stands in it
    g = e.where(live, expand_dims(g, axis=1), 0.0)
    return e.where(live, g * (_softmax(x, axis=1) * total - q), 0.0)


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
    p = x - xp.max(x, axis=1, keepdims=True)
    rows = xp.arange(x.shape[0])
    loss = -p[rows, index]
    p = xp.exp(p)
    total = xp.sum(p, axis=1, keepdims=True)
    loss += xp.log(total)[:, 0]
    ignored = index < 0
    loss[ignored] = 0.0
    if need is None:
        return loss
    p /= total

    def pull(g: Array) -> tuple[Any, ...]:
        # 0 for ignored rows, whatever stands there, and wherever their index points; no mask as a key, so that it is machine code
        gx = xp.where(ignored[:, None], 0.0, p * g[:, None])
        gx[rows, index] -= xp.where(ignored, 0.0, g)
        return (gx,) + (None,) * (len(need) - 1)

    return loss, pull


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

# ----- dropout -----


@primitive(name="dropout")
def _dropout(xp: Backend, x: Array, *, p: float, seed: int, step: int, mask_shape: tuple[int, ...]) -> Array:
    n = math.prod(mask_shape)
    bits = random.mask_bits(xp, seed, step, n, xp.device_of(x))
    threshold = xp.asarray(min(int(p * 2**32), 2**32 - 1), dtype=xp.uint32, device=bits.device)
    keep = xp.astype(xp.greater_equal(bits, threshold), x.dtype) * (1.0 / (1.0 - p))
    return x * xp.reshape(keep, mask_shape)


_dropout.vjp(
    x=lambda g, p, seed, step, mask_shape: _dropout(g, p=p, seed=seed, step=step, mask_shape=mask_shape)
)


def dropout(
    x: ArrayLike, p: float = 0.5, training: bool = True, *, mask_shape: tuple[int, ...] | None = None
) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 − p) (Srivastava et al. 2014).

    The mask comes from integer thresholds on Philox words: the same seed gives the same bits on every backend. It is
    not stored: the backward pass draws it again. `mask_shape` broadcasts one mask over axes (whole channels, say).
    """
    if not 0.0 <= p <= 1.0:
        msg = f"dropout: the probability p is between 0 and 1, got {p}"
        raise ValueError(msg)
    if not training or p == 0.0:
        return x  # type: ignore[return-value]
    if p == 1.0:
        return x * 0.0
    seed, step = random.next_mask()
    return _dropout(x, p=float(p), seed=seed, step=step, mask_shape=mask_shape or tuple(x.shape))


# ----- embedding -----


@primitive(name="embedding")
def _embedding(
    xp: Backend, weight: Array, index: Array, /, *, padding: int | None, by_frequency: bool
) -> Array:
    return xp.take(weight, index, axis=0)


def _embedding_rule(
    g: Any, weight_shape: tuple[int, ...], index: Any, padding: int | None, by_frequency: bool
) -> Any:
    index = unwrap(index)
    xp = backend_of(index)
    if padding is not None:
        g = g * xp.astype(xp.expand_dims(index, axis=1) != padding, unwrap(g).dtype)
    if by_frequency:
        ones = xp.ones((index.shape[0], 1), dtype=unwrap(g).dtype, device=index.device)
        counts = scatter_rows(ones, index=index, shape=(weight_shape[0], 1))
        g = g / xp.take(unwrap(counts), index, axis=0)
    return scatter_rows(g, index=index, shape=weight_shape)


_embedding.vjp(weight=_embedding_rule)


def _shorten(weight: Any, index: Array, max_norm: float, norm_type: float) -> None:
    """Scale the rows of weight that `index` names and that are longer than max_norm, in place."""
    w = unwrap(weight)
    xp = backend_of(w)
    ones = xp.ones((index.shape[0], 1), dtype=w.dtype, device=w.device)
    used = unwrap(scatter_rows(ones, index=index, shape=(w.shape[0], 1))) > 0
    length = xp.linalg.vector_norm(w, axis=1, keepdims=True, ord=norm_type)
    factor = xp.where(used & (length > max_norm), max_norm / (length + 1e-7), xp.ones_like(length))
    with no_grad():
        weight.assign_(w * factor)


def embedding(
    index: ArrayLike,
    weight: ArrayLike,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Row weight[index] for each integer: (…) → (…, width). The row `padding_idx` receives no gradient. An index outside of
    0 … rows − 1 is an IndexError (negative ones do not count from the end).

    `max_norm`: first, and in place, each row that is looked up and whose `norm_type`-norm is larger is scaled to that
    norm (by max_norm / (‖row‖ + 1e-7)). `scale_grad_by_freq` divides the gradient of each row by the number of times
    that it occurs in `index`. Sparse gradients are not offered: `sparse=True` is refused.
    """
    if sparse:
        msg = "embedding: sparse gradients are not offered; leave out sparse=True: the gradient is the same, dense"
        raise NotImplementedError(msg)
    if is_batched(index):  # inside vmap
        return each(embedding, index, weight, padding_idx, max_norm, norm_type, scale_grad_by_freq)
    if len(weight.shape) != 2:
        msg = f"embedding: weight has shape {tuple(weight.shape)}, expected (rows, width)"
        raise ValueError(msg)
    plain = to_plain(index, device=None if hasattr(index, "shape") else weight.device)
    shape = tuple(plain.shape)
    xp = backend_of(plain)
    flat = check_index(xp.reshape(plain, (-1,)), weight.shape[0], "embedding", negative=False)
    if padding_idx is not None:
        if not -weight.shape[0] <= padding_idx < weight.shape[0]:
            msg = f"embedding: padding_idx {padding_idx} is out of range for {weight.shape[0]} rows"
            raise IndexError(msg)
        padding_idx %= weight.shape[0]
    if max_norm is not None:
        if not (isinstance(weight, Tensor) and weight.is_leaf):
            msg = "embedding: max_norm writes to weight, which must be a Parameter or another Tensor that is no result"
            raise TypeError(msg)
        _shorten(weight, flat, max_norm, norm_type)
    rows = _embedding(weight, flat, padding=padding_idx, by_frequency=scale_grad_by_freq)
    return reshape(rows, (*shape, weight.shape[1]))
