"""Normalisation over a set of axes: batch, layer and group normalisation are one primitive.

With m elements in each group, mean μ and variance σ² (divided by m):

    x̂ = (x − μ) / √(σ² + ε),    y = γ x̂ + β

and with ĝ = γ ∂L/∂y the gradient, written out once instead of through μ and σ²,

    ∂L/∂x = (ĝ − mean(ĝ) − x̂ · mean(ĝ x̂)) / √(σ² + ε),    ∂L/∂γ = Σ x̂ ∂L/∂y,    ∂L/∂β = Σ ∂L/∂y

Source: Ioffe, Szegedy: Batch normalization (2015), section 3; Ba, Kiros, Hinton: Layer normalization (2016).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anynet import dtypes
from anynet.autograd.fitting import cast_to
from anynet.autograd.primitive import primitive
from anynet.ops.elementwise import sqrt
from anynet.ops.manipulation import reshape
from anynet.ops.reductions import mean as mean_
from anynet.ops.reductions import sum as sum_
from anynet.tensor import Tensor, unwrap
from anynet_backends import Array, Backend, backend_of

__all__ = ["batch_norm", "group_norm", "layer_norm"]

Ints = tuple[int, ...]


def _wide(xp: Backend, dtype: Any) -> Any:
    """The dtype in which statistics are taken: float32 for shorter ones."""
    return dtype if xp.dtype_name(dtype) not in ("float16", "bfloat16") else xp.float32


@primitive
def normalize(
    xp: Backend,
    x: Array,
    weight: Array | None = None,
    bias: Array | None = None,
    *,
    axes: Ints,
    eps: float,
    shape: Ints,
) -> tuple[Array, Array, Array]:
    """(y, mean, 1/√(variance + eps)); `axes` share their statistics, `weight` and `bias` are reshaped to `shape`.

    The statistics keep the axes with length 1. They are for the running averages and the gradient rule, and constants
    where the result is differentiated.
    """
    wide = _wide(xp, x.dtype)
    v = x if x.dtype == wide else xp.astype(x, wide)
    mean = xp.mean(v, axis=axes, keepdims=True)
    centred = v - mean
    variance = xp.mean(centred * centred, axis=axes, keepdims=True)
    rate = 1.0 / xp.sqrt(variance + eps)
    y = centred * (rate if weight is None else rate * xp.reshape(weight, shape))
    if bias is not None:
        y = y + xp.reshape(bias, shape)
    return (y if y.dtype == x.dtype else xp.astype(y, x.dtype)), mean, rate


@normalize.vjps("x", "weight", "bias")
def _normalize_rule(
    g: Any, need: tuple[bool, ...], y: Any, x: Any, weight: Any, weight_shape: Ints, bias_shape: Ints,
    axes: Ints, eps: float, shape: Ints,
) -> tuple[Any, Any, Any]:  # fmt: skip
    g, (_, mean, rate) = g[0], y
    wide = dtypes.of(unwrap(mean).dtype)
    if dtypes.of(unwrap(x).dtype) is not wide:
        g, x = cast_to(g, dtype=wide), cast_to(x, dtype=wide)
    if isinstance(x, Tensor) and x.requires_grad:  # differentiated again: the statistics as functions of x
        mean = mean_(x, axis=axes, keepdims=True)
        variance = mean_((x - mean) * (x - mean), axis=axes, keepdims=True)
        rate = 1.0 / sqrt(variance + eps)
    normal = (x - mean) * rate
    gx = gw = gb = None
    shared = tuple(i for i, n in enumerate(shape) if n == 1)
    if need[1]:
        gw = reshape(sum_(g * normal, axis=shared), weight_shape)
    if need[2]:
        gb = reshape(sum_(g, axis=shared), bias_shape)
    if need[0]:
        if weight is not None:
            g = g * reshape(weight, shape)
        centred = g - mean_(g, axis=axes, keepdims=True)
        gx = (centred - normal * mean_(g * normal, axis=axes, keepdims=True)) * rate
    return gx, gw, gb
