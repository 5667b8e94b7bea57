"""Convolutions by number of axes, with PyTorch's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anynet.ops import convolution

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "pad"]

Size = int | Sequence[int]


def _check(where: str, weight: Any, axes: int) -> None:
    if len(weight.shape) != axes + 2:
        msg = f"{where}: weight must have {axes + 2} axes, got shape {tuple(weight.shape)}"
        raise ValueError(msg)


def conv1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Any:
    """Convolution of (n, c, length) or (c, length) with weight (o, c / groups, k): see
    `anynet.ops.convolution.conv`.
    """
    _check("conv1d", weight, 1)
    return convolution.conv(
        input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, where="conv1d"
    )


def conv2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Any:
    """Convolution of (n, c, height, width) or (c, height, width) with weight (o, c / groups, *k): see
    `anynet.ops.convolution.conv`.
    """
    _check("conv2d", weight, 2)
    return convolution.conv(
        input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, where="conv2d"
    )


def conv3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size | str = 0,
    dilation: Size = 1,
    groups: int = 1,
) -> Any:
    """Convolution of (n, c, depth, height, width) with weight (o, c / groups, *k): see
    `anynet.ops.convolution.conv`.
    """
    _check("conv3d", weight, 3)
    return convolution.conv(
        input, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups, where="conv3d"
    )


def conv_transpose1d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Any:
    """The transpose of `conv1d`, weight (c, o / groups, *k): see `anynet.ops.convolution.conv_transpose`."""
    _check("conv_transpose1d", weight, 1)
    return convolution.conv_transpose(
        input, weight, bias, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation,
        groups=groups, where="conv_transpose1d",
    )  # fmt: skip


def conv_transpose2d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Any:
    """The transpose of `conv2d`, weight (c, o / groups, *k): see `anynet.ops.convolution.conv_transpose`."""
    _check("conv_transpose2d", weight, 2)
    return convolution.conv_transpose(
        input, weight, bias, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation,
        groups=groups, where="conv_transpose2d",
    )  # fmt: skip


def conv_transpose3d(
    input: Any,
    weight: Any,
    bias: Any = None,
    stride: Size = 1,
    padding: Size = 0,
    output_padding: Size = 0,
    groups: int = 1,
    dilation: Size = 1,
) -> Any:
    """The transpose of `conv3d`, weight (c, o / groups, *k): see `anynet.ops.convolution.conv_transpose`."""
    _check("conv_transpose3d", weight, 3)
    return convolution.conv_transpose(
        input, weight, bias, stride=stride, padding=padding, output_padding=output_padding, dilation=dilation,
        groups=groups, where="conv_transpose3d",
    )  # fmt: skip


def pad(input: Any, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Any:
    """An array made longer at the ends of its last axes: see `anynet.ops.convolution.pad`."""
    return convolution.pad(input, pad, mode, 0.0 if value is None else value)
