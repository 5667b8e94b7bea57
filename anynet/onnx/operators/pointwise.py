"""Operators element by element, reductions and products."""

from __future__ import annotations

import functools
import math
from typing import Any

import anynet as an
from anynet.nn import functional as F
from anynet.onnx.operators.calling import Ints, Number, Row, room

__all__ = ["TABLE", "axes_of"]


def axes_of(x: Any, axes: Any) -> tuple[int, ...]:
    """Axes counted from the first one; ValueError for those that x has not."""
    rank = len(x.shape)
    if any(not -rank <= a < rank for a in axes):
        raise ValueError(f"axes must be from −{rank} to {rank - 1}, got {list(axes)}")
    return tuple(a % rank for a in axes)


def _unary(function: Any) -> Row:
    return lambda x: function(x)


def _binary(function: Any) -> Row:
    def row(a: Any, b: Any, *, axis: int = -1, broadcast: int = 0) -> Any:
        if broadcast and axis >= 0:  # of old versions: where the second one's axes begin
            b = an.reshape(b, (*b.shape, *[1] * (len(a.shape) - axis - len(b.shape))))
        room(an.broadcast_shapes(a.shape, b.shape))
        return function(a, b)

    return row


def _folded(function: Row) -> Row:
    return lambda *xs: functools.reduce(_binary(function), xs)


def _is(x: Any, kind: str) -> bool:
    return an.isdtype(x.dtype, kind)


def _divide(a: Any, b: Any) -> Any:
    """Integers are cut towards zero."""
    if not _is(a, "integral"):
        return a / b
    quotient = a // b
    return an.where((quotient * b != a) & ((a < 0) != (b < 0)), quotient + 1, quotient)


def _mod(a: Any, b: Any, *, fmod: int) -> Any:
    if not fmod:
        return _binary(an.remainder)(a, b)
    rest = _binary(an.remainder)(an.abs(a), an.abs(b))
    return rest if _is(a, "unsigned integer") else an.where(a < 0, -rest, rest)


def _pow(a: Any, b: Any) -> Any:
    if _is(b, "real floating") and _is(a, "integral"):
        return an.astype(an.pow(an.astype(a, b.dtype), b), a.dtype)
    b = an.astype(b, a.dtype)
    if _is(a, "signed integer") and an.any(b < 0):
        raise ValueError("integers have no negative powers")
    return an.pow(a, b)


def _shift(a: Any, b: Any, *, direction: str) -> Any:
    return _binary(an.bitwise_left_shift if direction == "LEFT" else an.bitwise_right_shift)(a, b)


def _clip(x: Any, min: Any = None, max: Any = None) -> Any:
    for bound, function in ((min, an.maximum), (max, an.minimum)):
        if bound is not None:
            x = _binary(function)(x, bound if isinstance(bound, an.Tensor) else an.full_like(x, bound))
    return x


def _isinf(x: Any, *, detect_negative: int, detect_positive: int) -> Any:
    return an.isinf(x) & ((x < 0) & bool(detect_negative) | (x > 0) & bool(detect_positive))


def _prelu(x: Any, slope: Any, *, version: int) -> Any:
    if version < 7:  # one for each channel
        slope = an.reshape(slope, (-1, *[1] * (len(x.shape) - 2)))
    return an.where(x < 0, _binary(an.multiply)(x, slope), x)


def _where(condition: Any, x: Any, y: Any) -> Any:
    room(an.broadcast_shapes(condition.shape, x.shape, y.shape))
    return an.where(condition, x, y)


# ----- along axes -----


def _reduction(function: Row, before: Row = lambda x: x, after: Row = lambda x: x) -> Row:
    def row(x: Any, axes: Ints = None, *, keepdims: int, noop_with_empty_axes: int = 0) -> Any:
        over = axes_of(x, axes) if axes else () if noop_with_empty_axes else tuple(range(len(x.shape)))
        y = function(before(x), axis=over, keepdims=bool(keepdims)) if over else before(x)
        return an.astype(after(y), x.dtype)

    return row


def _extreme(largest: bool) -> Row:
    def function(x: Any, *, axis: tuple[int, ...], keepdims: bool) -> Any:
        if _is(x, "bool"):
            return (an.any if largest else an.all)(x, axis=axis, keepdims=keepdims)
        if x.size:
            return (an.max if largest else an.min)(x, axis=axis, keepdims=keepdims)
        low, high = (
            (-math.inf, math.inf)
            if _is(x, "real floating")
            else (an.iinfo(x.dtype).min, an.iinfo(x.dtype).max)
        )
        empty = an.sum(x, axis=axis, keepdims=keepdims, dtype=x.dtype)
        return an.full_like(empty, low if largest else high)

    return function


def _logsumexp(x: Any, *, axis: Any, keepdims: bool) -> Any:
    return F.logsumexp(x, axis, keepdims) if x.size else an.log(an.sum(x, axis=axis, keepdims=keepdims))


def _arg(function: Row) -> Row:
    def row(x: Any, *, axis: int, keepdims: int, select_last_index: int = 0) -> Any:
        (at,) = axes_of(x, [axis])
        found = function(an.flip(x, axis=at) if select_last_index else x, axis=at, keepdims=bool(keepdims))
        return an.astype(x.shape[at] - 1 - found if select_last_index else found, an.int64)

    return row


def _along(function: Row) -> Row:
    """Along one axis; before version 13 along all from `axis` on."""

    def row(x: Any, *, axis: int, version: int) -> Any:
        (at,) = axes_of(x, [axis]) if x.shape else (0,)
        if version >= 13:
            return function(x, at)
        flat = an.reshape(x, (math.prod(x.shape[:at]), math.prod(x.shape[at:])))
        return an.reshape(function(flat, 1), x.shape)

    return row


def _hardmax(x: Any, axis: int) -> Any:
    places = an.reshape(an.arange(x.shape[axis], device=x.device), [-1, *[1] * (len(x.shape) - 1 - axis)])
    return an.astype(places == an.argmax(x, axis=axis, keepdims=True), x.dtype)


def _cumulative(function: Row) -> Row:
    def row(x: Any, axis: Number, *, exclusive: int, reverse: int) -> Any:
        (at,) = axes_of(x, [axis])
        y = an.flip(x, axis=at) if reverse else x
        y = function(y, axis=at, dtype=x.dtype, include_initial=bool(exclusive))
        y = y[(slice(None),) * at + (slice(0, x.shape[at]), ...)]
        return an.flip(y, axis=at) if reverse else y

    return row


def _lp_normalization(x: Any, *, axis: int, p: int) -> Any:
    norm = an.sum(an.abs(x) ** p, axis=axis, keepdims=True) ** (1 / p)
    return x / an.where(norm == 0, an.ones_like(norm), norm)


# ----- products -----


def _matmul(a: Any, b: Any) -> Any:
    if a.shape and b.shape:
        room((*an.broadcast_shapes(a.shape[:-2], b.shape[:-2]), *a.shape[-2:-1], b.shape[-1]))
    return an.matmul(a, b)


def _gemm(
    a: Any, b: Any, c: Any = None, *, alpha: float, beta: float, transA: int, transB: int, broadcast: int = 0  # noqa: N803
) -> Any:  # fmt: skip
    y = _matmul(a.mT if transA else a, b.mT if transB else b)
    y = y if alpha == 1 else an.astype(y * alpha, y.dtype)
    return y if c is None else y + (c if beta == 1 else an.astype(c * beta, c.dtype))


def _einsum(*xs: Any, equation: str) -> Any:
    inputs, _, result = equation.replace(" ", "").partition("->")
    sizes = {
        label: n
        for term, x in zip(inputs.split(","), xs, strict=True)
        for label, n in zip(term, x.shape, strict=False)
    }
    if math.prod(sizes.values()) > 1 << 40:
        raise ValueError(f"it multiplies {math.prod(sizes.values()):,} numbers")
    room([sizes.get(label, 1) for label in result])
    return an.einsum(equation, *xs)


TABLE: dict[str, Row] = {
    **{name: _unary(f) for name, f in {
        "Abs": an.abs, "Acos": an.acos, "Acosh": an.acosh, "Asin": an.asin, "Asinh": an.asinh, "Atan": an.atan, "Atanh": an.atanh,
        "BitwiseNot": an.bitwise_invert, "Ceil": an.ceil, "Cos": an.cos, "Cosh": an.cosh, "Det": an.linalg.det, "Erf": an.special.erf,
        "Exp": an.exp, "Floor": an.floor, "HardSwish": F.hardswish, "Identity": lambda x: x, "IsNaN": an.isnan, "Log": an.log,
        "Mish": F.mish, "Neg": an.negative, "Not": an.logical_not, "Reciprocal": an.reciprocal, "Relu": F.relu, "Round": an.round,
        "Sigmoid": F.sigmoid, "Sign": an.sign, "Sin": an.sin, "Sinh": an.sinh, "Softplus": F.softplus, "Softsign": F.softsign,
        "Sqrt": an.sqrt, "Tan": an.tan, "Tanh": an.tanh,
    }.items()},
    **{name: _binary(f) for name, f in {
        "Add": an.add, "And": an.logical_and, "BitwiseAnd": an.bitwise_and, "BitwiseOr": an.bitwise_or, "BitwiseXor": an.bitwise_xor,
        "Div": _divide, "Equal": an.equal, "Greater": an.greater, "GreaterOrEqual": an.greater_equal, "Less": an.less,
        "LessOrEqual": an.less_equal, "Mul": an.multiply, "Or": an.logical_or, "Pow": _pow, "Sub": an.subtract, "Xor": an.logical_xor,
    }.items()},
    "BitShift": _shift,
    "Max": _folded(an.maximum), "Mean": lambda *xs: TABLE["Sum"](*xs) / len(xs), "Min": _folded(an.minimum), "Sum": _folded(an.add),
    "Celu": lambda x, *, alpha: F.celu(x, alpha), "Clip": _clip, "Elu": lambda x, *, alpha: F.elu(x, alpha),
    "Gelu": lambda x, *, approximate: F.gelu(x, approximate=approximate),
    "HardSigmoid": lambda x, *, alpha, beta: an.clip(alpha * x + beta, 0.0, 1.0), "IsInf": _isinf,
    "LeakyRelu": lambda x, *, alpha: F.leaky_relu(x, alpha), "Mod": _mod, "PRelu": _prelu,
    "Swish": lambda x, *, alpha: x * F.sigmoid(alpha * x), "Where": _where,
    "ReduceL1": _reduction(an.sum, an.abs), "ReduceL2": _reduction(an.sum, an.square, an.sqrt),
    "ReduceLogSum": _reduction(an.sum, after=an.log), "ReduceLogSumExp": _reduction(_logsumexp), "ReduceMax": _reduction(_extreme(True)),
    "ReduceMean": _reduction(an.mean), "ReduceMin": _reduction(_extreme(False)), "ReduceProd": _reduction(an.prod),
    "ReduceSum": _reduction(an.sum), "ReduceSumSquare": _reduction(an.sum, an.square),
    "ArgMax": _arg(an.argmax), "ArgMin": _arg(an.argmin), "CumProd": _cumulative(an.cumulative_prod),
    "CumSum": _cumulative(an.cumulative_sum),
    "Einsum": _einsum, "Gemm": _gemm, "Hardmax": _along(_hardmax), "LogSoftmax": _along(F.log_softmax),
    "LpNormalization": _lp_normalization,
    "MatMul": _matmul, "Softmax": _along(F.softmax),
}  # fmt: skip
