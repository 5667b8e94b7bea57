"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from anynet.nn.module import Module, ShapeError
from anynet.ops import pooling
from anynet.ops.convolution import spread_option

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
    "AvgPool1d", "AvgPool2d", "MaxPool1d", "MaxPool2d",
]  # fmt: skip

Size = int | Sequence[int]
OutputSize = int | Sequence[int | None] | None


class _Pool(Module):
    """What the pooling layers share."""

    axes: ClassVar[int]

    def _check(self, x: Any) -> None:
        if len(x.shape) not in (self.axes + 1, self.axes + 2):
            msg = (
                f"got {tuple(x.shape)}: expected {self.axes + 2} axes (batch, channels, *spatial), or "
                f"{self.axes + 1} without the batch"
            )
            raise ShapeError(msg)


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        where, n = type(self).__name__, self.axes
        self.kernel_size = spread_option(kernel_size, n, "kernel_size", where)
        self.stride = self.kernel_size if stride is None else spread_option(stride, n, "stride", where)
        self.padding = spread_option(padding, n, "padding", where, 0)
        self.dilation = spread_option(dilation, n, "dilation", where)
        self.return_indices, self.ceil_mode = return_indices, ceil_mode

    def forward(self, x: Any) -> Any:
        """The maxima of the windows, or (maxima, positions)."""
        self._check(x)
        return pooling.max_pool(
            x, self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode,
            return_indices=self.return_indices, axes=self.axes, where=type(self).__name__,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return (
            f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}, "
            f"dilation={self.dilation}, ceil_mode={self.ceil_mode}"
        )


class MaxPool1d(_MaxPool):
    """The largest element of each window of (n, c, length): see `anynet.ops.pooling.max_pool`.

    >>> import anynet as an
    >>> an.nn.MaxPool1d(2)(an.asarray([[[1.0, 3.0, 2.0, 0.0]]]))
    Tensor([[[3., 2.]]])
    """

    axes = 1


class MaxPool2d(_MaxPool):
    """The largest element of each window of (n, c, height, width): see `anynet.ops.pooling.max_pool`.

    >>> import anynet as an
    >>> an.nn.MaxPool2d(2)(an.ones((8, 6, 28, 28))).shape
    (8, 6, 14, 14)
    """

    axes = 2


class _AvgPool(_Pool):
    divisor_override: int | None = None

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        where, n = type(self).__name__, self.axes
        self.kernel_size = spread_option(kernel_size, n, "kernel_size", where)
        self.stride = self.kernel_size if stride is None else spread_option(stride, n, "stride", where)
        self.padding = spread_option(padding, n, "padding", where, 0)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad

    def forward(self, x: Any) -> Any:
        """The means of the windows."""
        self._check(x)
        return pooling.avg_pool(
            x, self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad, divisor_override=self.divisor_override, axes=self.axes,
            where=type(self).__name__,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class AvgPool1d(_AvgPool):
    """The mean of each window of (n, c, length): see `anynet.ops.pooling.avg_pool`.

    >>> import anynet as an
    >>> an.nn.AvgPool1d(2)(an.asarray([[[1.0, 3.0, 2.0, 0.0]]]))
    Tensor([[[2., 1.]]])
    """

    axes = 1


class AvgPool2d(_AvgPool):
    """The mean of each window of (n, c, height, width): see `anynet.ops.pooling.avg_pool`.

    >>> import anynet as an
    >>> an.nn.AvgPool2d(2)(an.ones((8, 6, 28, 28))).shape
    (8, 6, 14, 14)
    """

    axes = 2

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode, count_include_pad)
        self.divisor_override = divisor_override


class _AdaptivePool(_Pool):
    def __init__(self, output_size: OutputSize) -> None:
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class _AdaptiveAvgPool(_AdaptivePool):
    def forward(self, x: Any) -> Any:
        """Means over bins."""
        self._check(x)
        return pooling.adaptive_avg_pool(x, self.output_size, axes=self.axes, where=type(self).__name__)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means over bins, (n, c, length) → (n, c, output_size): see `anynet.ops.pooling.adaptive_avg_pool`.

    >>> import anynet as an
    >>> an.nn.AdaptiveAvgPool1d(2)(an.asarray([[[1.0, 2.0, 3.0]]]))
    Tensor([[[1.5, 2.5]]])
    """

    axes = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    """Means over bins, (n, c, height, width) → (n, c, *output_size); None in output_size keeps a size.

    >>> import anynet as an
    >>> an.nn.AdaptiveAvgPool2d(1)(an.ones((8, 6, 7, 5))).shape
    (8, 6, 1, 1)
    """

    axes = 2


class _AdaptiveMaxPool(_AdaptivePool):
    def __init__(self, output_size: OutputSize, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, x: Any) -> Any:
        """Maxima over bins, or (maxima, positions)."""
        self._check(x)
        return pooling.adaptive_max_pool(
            x, self.output_size, axes=self.axes, return_indices=self.return_indices, where=type(self).__name__
        )


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    """Maxima over bins, (n, c, length) → (n, c, output_size): see `anynet.ops.pooling.adaptive_max_pool`.

    >>> import anynet as an
    >>> an.nn.AdaptiveMaxPool1d(2)(an.asarray([[[1.0, 2.0, 3.0]]]))
    Tensor([[[2., 3.]]])
    """

    axes = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maxima over bins, (n, c, height, width) → (n, c, *output_size); None in output_size keeps a size.

    >>> import anynet as an
    >>> an.nn.AdaptiveMaxPool2d((3, None))(an.ones((8, 6, 7, 5))).shape
    (8, 6, 3, 5)
    """

    axes = 2
