"""Operators on integers that stand for numbers: x ≈ scale (q − zero), exactly as integers."""

from __future__ import annotations

import math
from typing import Any

import anynet as an
from anynet.onnx.operators.calling import DType, Row, room
from anynet.onnx.operators.pointwise import TABLE as POINTWISE
from anynet.onnx.operators.pointwise import axes_of
from anynet.onnx.operators.windows import TABLE as WINDOWS

__all__ = ["TABLE"]


def _along(x: Any, given: Any, axis: int, block_size: int = 0) -> Any:
    """A scale or zero for each place of an axis, or each block of it, in the shape of x."""
    if not given.shape or (given.size == 1 and not block_size):
        return an.reshape(given, ())
    (at,) = axes_of(x, [axis])
    if block_size:
        room([n * block_size if i == at else n for i, n in enumerate(given.shape)])
        return an.repeat(given, block_size, axis=at)[(slice(None),) * at + (slice(x.shape[at]), ...)]
    return an.reshape(given, (-1, *[1] * (len(x.shape) - 1 - at)))


def _quantize(
    x: Any, scale: Any, zero: Any = None, *, axis: int = 1, block_size: int = 0, output_dtype: DType = None, precision: int = 0
) -> Any:  # fmt: skip
    dtype = zero.dtype if zero is not None else getattr(an, output_dtype or "uint8")
    return _rounded(
        an.astype(x, scale.dtype) / _along(x, scale, axis, block_size), _of(x, zero, axis, block_size), dtype
    )


def _of(x: Any, zero: Any, axis: int, block_size: int = 0) -> Any:
    return 0.0 if zero is None else an.astype(_along(x, zero, axis, block_size), an.float64)


def _rounded(y: Any, zero: Any, dtype: Any) -> Any:
    """The integers nearest to y + zero that there are; halves to even ones."""
    limits = an.iinfo(dtype)
    return an.astype(an.clip(an.astype(an.round(y), an.float64) + zero, limits.min, limits.max), dtype)


def _dequantize(
    x: Any, scale: Any, zero: Any = None, *, axis: int = 1, block_size: int = 0, output_dtype: DType = None
) -> Any:
    y = an.astype(x, an.float64) - _of(x, zero, axis, block_size)
    return (
        an.astype(y, scale.dtype) * _along(x, scale, axis, block_size)
        if output_dtype is None
        else an.astype(y * _along(x, scale, axis, block_size), output_dtype)
    )


def _integers(x: Any, zero: Any, axis: int) -> Any:
    """x − zero, in float64, which has all these integers."""
    return an.astype(x, an.float64) - _of(x, zero, axis)


def _matmul_integer(a: Any, b: Any, a_zero: Any = None, b_zero: Any = None) -> Any:
    return an.astype(POINTWISE["MatMul"](_integers(a, a_zero, -2), _integers(b, b_zero, -1)), an.int32)


def _conv_integer(x: Any, w: Any, x_zero: Any = None, w_zero: Any = None, **window: Any) -> Any:
    return an.astype(WINDOWS["Conv"](_integers(x, x_zero, 1), _integers(w, w_zero, 0), **window), an.int32)


def _scaled(y: Any, a_scale: Any, b_scale: Any, y_scale: Any, y_zero: Any) -> Any:
    wide = [an.astype(s, an.float64) for s in (a_scale, b_scale, y_scale)]
    return _rounded(y * (wide[0] * wide[1] / wide[2]), an.astype(y_zero, an.float64), y_zero.dtype)


def _qlinear_matmul(
    a: Any, a_scale: Any, a_zero: Any, b: Any, b_scale: Any, b_zero: Any, y_scale: Any, y_zero: Any
) -> Any:
    y = POINTWISE["MatMul"](_integers(a, a_zero, -2), _integers(b, b_zero, -1))
    return _scaled(y, _along(y, a_scale, -2), _along(y, b_scale, -1), y_scale, y_zero)


def _qlinear_conv(
    x: Any, x_scale: Any, x_zero: Any, w: Any, w_scale: Any, w_zero: Any, y_scale: Any, y_zero: Any, b: Any = None, **window: Any
) -> Any:  # fmt: skip
    bias = None if b is None else an.astype(b, an.float64)
    y = WINDOWS["Conv"](_integers(x, x_zero, 1), _integers(w, w_zero, 0), bias, **window)
    return _scaled(y, x_scale, _along(y, w_scale, 1), y_scale, y_zero)


# ----- random numbers -----


def _drawn(shape: Any, like: Any, dtype: str | None, draw: Any) -> Any:
    name = dtype or (
        str(like.dtype) if like is not None and an.isdtype(like.dtype, "real floating") else "float32"
    )
    return draw(room(tuple(shape)), dtype=name)


def _normal(*, shape: Any, dtype: DType = None, mean: float, scale: float) -> Any:
    return _drawn(shape, None, dtype, lambda s, dtype: an.random.normal(s, mean=mean, std=scale, dtype=dtype))


def _uniform(*, shape: Any, dtype: DType = None, high: float, low: float) -> Any:
    return _drawn(shape, None, dtype, lambda s, dtype: an.random.uniform(s, low=low, high=high, dtype=dtype))


def _normal_like(x: Any, *, dtype: DType = None, mean: float, scale: float) -> Any:
    return _drawn(x.shape, x, dtype, lambda s, dtype: an.random.normal(s, mean=mean, std=scale, dtype=dtype))


def _uniform_like(x: Any, *, dtype: DType = None, high: float, low: float) -> Any:
    return _drawn(x.shape, x, dtype, lambda s, dtype: an.random.uniform(s, low=low, high=high, dtype=dtype))


def _multinomial(x: Any, *, sample_size: int, dtype: DType = None) -> Any:
    """Classes of (batch, classes) logits, by Gumbel's maxima."""
    room([math.prod(x.shape), max(sample_size, 0)])
    u = an.random.uniform((x.shape[0], sample_size, x.shape[1]), dtype="float64")
    places = an.argmax(an.expand_dims(an.astype(x, an.float64), 1) - an.log(-an.log(u)), axis=-1)
    return an.astype(places, dtype or "int32")


TABLE: dict[str, Row] = {
    "ConvInteger": _conv_integer, "DequantizeLinear": _dequantize, "MatMulInteger": _matmul_integer, "Multinomial": _multinomial,
    "QLinearConv": _qlinear_conv, "QLinearMatMul": _qlinear_matmul, "QuantizeLinear": _quantize, "RandomNormal": _normal,
    "RandomNormalLike": _normal_like, "RandomUniform": _uniform, "RandomUniformLike": _uniform_like,
}  # fmt: skip
