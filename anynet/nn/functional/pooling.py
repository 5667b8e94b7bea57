"""Pooling by number of axes, with PyTorch's arguments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anynet.ops import pooling
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
    "avg_pool1d", "avg_pool2d", "avg_pool3d", "lp_pool1d", "lp_pool2d", "lp_pool3d",
    "max_pool1d", "max_pool2d", "max_pool3d",
]  # fmt: skip

Size = int | Sequence[int]


def _check(where: str, x: Any, axes: int) -> None:
    if len(x.shape) not in (axes + 1, axes + 2):
        msg = (
            f"{where}: input must have {axes + 2} axes (batch, channels, *spatial) or {axes + 1} without "
            f"the batch, got shape {tuple(x.shape)}"
        )
        raise ValueError(msg)


def max_pool1d(
    input: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The largest element of each window: see `anynet.ops.pooling.max_pool`.

    >>> import anynet as an
    >>> an.nn.functional.max_pool1d(an.asarray([[1.0, 3.0, 5.0, 7.0]]), 2).tolist()
    [[3.0, 7.0]]
    """
    _check("max_pool1d", input, 1)
    return pooling.max_pool(
        input, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode,
        return_indices=return_indices, axes=1, where="max_pool1d",
    )  # fmt: skip


def max_pool2d(
    input: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The largest element of each window: see `anynet.ops.pooling.max_pool`.

    >>> import anynet as an
    >>> an.nn.functional.max_pool2d(an.ones((1, 1, 4, 4)), 2).shape
    (1, 1, 2, 2)
    """
    _check("max_pool2d", input, 2)
    return pooling.max_pool(
        input, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode,
        return_indices=return_indices, axes=2, where="max_pool2d",
    )  # fmt: skip


def max_pool3d(
    input: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The largest element of each window: see `anynet.ops.pooling.max_pool`.

    >>> import anynet as an
    >>> an.nn.functional.max_pool3d(an.ones((1, 1, 4, 4, 4)), 2).shape
    (1, 1, 2, 2, 2)
    """
    _check("max_pool3d", input, 3)
    return pooling.max_pool(
        input, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode,
        return_indices=return_indices, axes=3, where="max_pool3d",
    )  # fmt: skip


def avg_pool1d(
    input: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window: see `anynet.ops.pooling.avg_pool`.

    >>> import anynet as an
    >>> an.nn.functional.avg_pool1d(an.asarray([[1.0, 3.0, 5.0, 7.0]]), 2).tolist()
    [[2.0, 6.0]]
    """
    _check("avg_pool1d", input, 1)
    return pooling.avg_pool(
        input, kernel_size, stride, padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad,
        axes=1, where="avg_pool1d",
    )  # fmt: skip


def avg_pool2d(
    input: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window: see `anynet.ops.pooling.avg_pool`.

    >>> import anynet as an
    >>> an.nn.functional.avg_pool2d(an.ones((1, 1, 4, 4)), 2).shape
    (1, 1, 2, 2)
    """
    _check("avg_pool2d", input, 2)
    return pooling.avg_pool(
        input, kernel_size, stride, padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad,
        divisor_override=divisor_override, axes=2, where="avg_pool2d",
    )  # fmt: skip


def avg_pool3d(
    input: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window: see `anynet.ops.pooling.avg_pool`.

    >>> import anynet as an
    >>> an.nn.functional.avg_pool3d(an.ones((1, 1, 4, 4, 4)), 2).shape
    (1, 1, 2, 2, 2)
    """
    _check("avg_pool3d", input, 3)
    return pooling.avg_pool(
        input, kernel_size, stride, padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad,
        divisor_override=divisor_override, axes=3, where="avg_pool3d",
    )  # fmt: skip


def adaptive_avg_pool1d(input: ArrayLike, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Means over bins, so that the output has the given size: see `anynet.ops.pooling.adaptive_avg_pool`.

    >>> import anynet as an
    >>> an.nn.functional.adaptive_avg_pool1d(an.asarray([[1.0, 3.0, 5.0, 7.0]]), 2).tolist()
    [[2.0, 6.0]]
    """
    _check("adaptive_avg_pool1d", input, 1)
    return pooling.adaptive_avg_pool(input, output_size, axes=1, where="adaptive_avg_pool1d")


def adaptive_max_pool1d(
    input: ArrayLike, output_size: int | Sequence[int | None] | None, return_indices: bool = False
) -> Tensor:
    """Maxima over bins, so that the output has the given size: see `anynet.ops.pooling.adaptive_max_pool`.

    >>> import anynet as an
    >>> an.nn.functional.adaptive_max_pool1d(an.asarray([[1.0, 3.0, 5.0, 7.0]]), 2).tolist()
    [[3.0, 7.0]]
    """
    _check("adaptive_max_pool1d", input, 1)
    return pooling.adaptive_max_pool(
        input, output_size, axes=1, return_indices=return_indices, where="adaptive_max_pool1d"
    )


def adaptive_avg_pool2d(input: ArrayLike, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Means over bins, so that the output has the given size: see `anynet.ops.pooling.adaptive_avg_pool`.

    >>> import anynet as an
    >>> an.nn.functional.adaptive_avg_pool2d(an.ones((1, 1, 4, 4)), 2).shape
    (1, 1, 2, 2)
    """
    _check("adaptive_avg_pool2d", input, 2)
    return pooling.adaptive_avg_pool(input, output_size, axes=2, where="adaptive_avg_pool2d")


def adaptive_max_pool2d(
    input: ArrayLike, output_size: int | Sequence[int | None] | None, return_indices: bool = False
) -> Tensor:
    """Maxima over bins, so that the output has the given size: see `anynet.ops.pooling.adaptive_max_pool`.

    >>> import anynet as an
    >>> an.nn.functional.adaptive_max_pool2d(an.ones((1, 1, 4, 4)), 2).shape
    (1, 1, 2, 2)
    """
    _check("adaptive_max_pool2d", input, 2)
    return pooling.adaptive_max_pool(
        input, output_size, axes=2, return_indices=return_indices, where="adaptive_max_pool2d"
    )


def adaptive_avg_pool3d(input: ArrayLike, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Means over bins, so that the output has the given size: see `anynet.ops.pooling.adaptive_avg_pool`.

    >>> import anynet as an
    >>> an.nn.functional.adaptive_avg_pool3d(an.ones((1, 1, 4, 4, 4)), 2).shape
    (1, 1, 2, 2, 2)
    """
    _check("adaptive_avg_pool3d", input, 3)
    return pooling.adaptive_avg_pool(input, output_size, axes=3, where="adaptive_avg_pool3d")


def adaptive_max_pool3d(
    input: ArrayLike, output_size: int | Sequence[int | None] | None, return_indices: bool = False
) -> Tensor:
    """Maxima over bins, so that the output has the given size: see `anynet.ops.pooling.adaptive_max_pool`.

    >>> import anynet as an
    >>> an.nn.functional.adaptive_max_pool3d(an.ones((1, 1, 4, 4, 4)), 2).shape
    (1, 1, 2, 2, 2)
    """
    _check("adaptive_max_pool3d", input, 3)
    return pooling.adaptive_max_pool(
        input, output_size, axes=3, return_indices=return_indices, where="adaptive_max_pool3d"
    )


def lp_pool1d(
    input: ArrayLike, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Tensor:
    """(Σ xᵖ)^{1/p} over each window: see `anynet.ops.pooling.lp_pool`.

    >>> import anynet as an
    >>> an.nn.functional.lp_pool1d(an.asarray([[3.0, 4.0, 0.0, 2.0]]), 2.0, 2).tolist()
    [[5.0, 2.0]]
    """
    _check("lp_pool1d", input, 1)
    return pooling.lp_pool(
        input, norm_type, kernel_size, stride, ceil_mode=ceil_mode, axes=1, where="lp_pool1d"
    )


def lp_pool2d(
    input: ArrayLike, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Tensor:
    """(Σ xᵖ)^{1/p} over each window: see `anynet.ops.pooling.lp_pool`.

    >>> import anynet as an
    >>> an.nn.functional.lp_pool2d(an.ones((1, 1, 4, 4)), 2.0, 2).shape
    (1, 1, 2, 2)
    """
    _check("lp_pool2d", input, 2)
    return pooling.lp_pool(
        input, norm_type, kernel_size, stride, ceil_mode=ceil_mode, axes=2, where="lp_pool2d"
    )


def lp_pool3d(
    input: ArrayLike, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Tensor:
    """(Σ xᵖ)^{1/p} over each window: see `anynet.ops.pooling.lp_pool`.

    >>> import anynet as an
    >>> an.nn.functional.lp_pool3d(an.ones((1, 1, 4, 4, 4)), 2.0, 2).shape
    (1, 1, 2, 2, 2)
    """
    _check("lp_pool3d", input, 3)
    return pooling.lp_pool(
        input, norm_type, kernel_size, stride, ceil_mode=ceil_mode, axes=3, where="lp_pool3d"
    )
