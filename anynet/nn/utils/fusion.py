"""Batch norm in evaluation is an affine map of each channel: it can be made part of the layer before it."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

from anynet.nn.module import Module
from anynet.ops.elementwise import sqrt
from anynet.ops.manipulation import reshape
from anynet.tensor import Parameter
from anynet.typing import ArrayLike

__all__ = ["fuse_conv_bn_eval", "fuse_conv_bn_weights", "fuse_linear_bn_eval", "fuse_linear_bn_weights"]

_M = TypeVar("_M", bound=Module)


def fuse_conv_bn_weights(
    conv_w: ArrayLike,
    conv_b: ArrayLike | None,
    bn_rm: ArrayLike,
    bn_rv: ArrayLike,
    bn_eps: float,
    bn_w: ArrayLike | None,
    bn_b: ArrayLike | None,
    transpose: bool = False,
) -> tuple[Parameter, Parameter]:
    """W γ / √(σ² + ε) and (b − μ) γ / √(σ² + ε) + β, along the axis of the output channels (1 with `transpose`).

    >>> import anynet as an
    >>> w, b = an.nn.utils.fuse_conv_bn_weights(an.ones((1, 1, 1)), None, an.zeros(1), an.ones(1), 0.0, an.asarray([2.0]), an.zeros(1))
    >>> w.tolist(), b.tolist()
    ([[[2.0]]], [0.0])
    """
    scale = 1.0 / sqrt(bn_rv + bn_eps)
    if bn_w is not None:
        scale = scale * bn_w
    shape = [1] * len(conv_w.shape)
    shape[1 if transpose else 0] = -1
    bias = -bn_rm if conv_b is None else conv_b - bn_rm
    bias = bias * scale if bn_b is None else bias * scale + bn_b
    weight = (conv_w * reshape(scale, tuple(shape))).detach()
    return Parameter(weight, getattr(conv_w, "requires_grad", True)), Parameter(
        bias.detach(), getattr(conv_b, "requires_grad", True)
    )


def fuse_linear_bn_weights(
    linear_w: ArrayLike,
    linear_b: ArrayLike | None,
    bn_rm: ArrayLike,
    bn_rv: ArrayLike,
    bn_eps: float,
    bn_w: ArrayLike | None,
    bn_b: ArrayLike | None,
) -> tuple[Parameter, Parameter]:
    """The same for a linear layer.

    >>> import anynet as an
    >>> w, b = an.nn.utils.fuse_linear_bn_weights(an.ones((1, 1)), None, an.zeros(1), an.ones(1), 0.0, an.asarray([2.0]), an.zeros(1))
    >>> w.tolist(), b.tolist()
    ([[2.0]], [0.0])
    """
    return fuse_conv_bn_weights(linear_w, linear_b, bn_rm, bn_rv, bn_eps, bn_w, bn_b)


def _fused(where: str, layer: _M, bn: Any, transpose: bool) -> _M:
    if layer.training or bn.training:
        msg = f"{where}: both layers must be in evaluation mode; call .eval() on them"
        raise RuntimeError(msg)
    if bn.running_mean is None or bn.running_var is None:
        msg = f"{where}: the batch norm keeps no running statistics"
        raise ValueError(msg)
    made: Any = copy.deepcopy(layer)
    made.weight, made.bias = fuse_conv_bn_weights(
        made.weight, made.bias, bn.running_mean, bn.running_var, bn.eps, bn.weight, bn.bias, transpose
    )
    return made  # type: ignore[no-any-return]


def fuse_conv_bn_eval(conv: _M, bn: Any, transpose: bool = False) -> _M:
    """A copy of the convolution that computes ``bn(conv(x))``; both are in evaluation.

    >>> import anynet as an
    >>> conv, bn = an.nn.Conv2d(1, 2, 3).eval(), an.nn.BatchNorm2d(2).eval()
    >>> an.nn.utils.fuse_conv_bn_eval(conv, bn)(an.ones((1, 1, 4, 4))).shape
    (1, 2, 2, 2)
    """
    return _fused("fuse_conv_bn_eval", conv, bn, transpose)


def fuse_linear_bn_eval(linear: _M, bn: Any) -> _M:
    """A copy of the linear layer that computes ``bn(linear(x))``; both are in evaluation, with equal numbers of features
    (or one for the batch norm).

    >>> import anynet as an
    >>> fused = an.nn.utils.fuse_linear_bn_eval(an.nn.Linear(3, 2).eval(), an.nn.BatchNorm1d(2).eval())
    >>> fused(an.ones((4, 3))).shape
    (4, 2)
    """
    layer: Any = linear
    features, channels = layer.out_features, bn.num_features
    if channels not in (features, 1):
        msg = f"fuse_linear_bn_eval: the layer must have as many outputs as the batch norm has channels, got {features} and {channels}"
        raise ValueError(msg)
    return _fused("fuse_linear_bn_eval", linear, bn, False)
