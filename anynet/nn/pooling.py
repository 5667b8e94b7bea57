"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from anynet.nn import functional as F
from anynet.nn.errors import ShapeError
from anynet.nn.module import Module
from anynet.ops import pooling
from anynet.ops.convolution import spread_option
from anynet.ops.creation import asarray
from anynet.ops.reductions import max as max_over
from anynet.ops.reductions import mean
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "FractionalMaxPool2d", "FractionalMaxPool3d",
    "GlobalAvgPool1d", "GlobalAvgPool2d", "GlobalAvgPool3d", "GlobalMaxPool1d", "GlobalMaxPool2d", "GlobalMaxPool3d",
    "LPPool1d", "LPPool2d", "LPPool3d", "MaxPool1d", "MaxPool2d", "MaxPool3d", "MaxUnpool1d", "MaxUnpool2d",
    "MaxUnpool3d",
]  # fmt: skip

Size = int | Sequence[int]
OutputSize = int | Sequence[int | None] | None


class _Pool(Module):
    """What the pooling layers share."""

    _pure = True

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
        self._given = kernel_size, kernel_size if stride is None else stride, padding, dilation

    def forward(self, x: ArrayLike) -> Tensor:
        """The maxima of the windows, or (maxima, positions)."""
        self._check(x)
        return pooling.max_pool(
            x, self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode,
            return_indices=self.return_indices, axes=self.axes, where=type(self).__name__,
        )  # fmt: skip

    def extra_repr(self) -> str:
        kernel, stride, padding, dilation = self._given
        return f"kernel_size={kernel}, stride={stride}, padding={padding}, dilation={dilation}, ceil_mode={self.ceil_mode}"


class MaxPool1d(_MaxPool):
    """The largest element of each window of (n, c, length): see `anynet.ops.pooling.max_pool`.

    >>> import anynet as an
    >>> an.nn.MaxPool1d(2)(an.asarray([[[1.0, 3.0, 2.0, 0.0]]]))
    Tensor([[[3., 2.]]])

    Source: Ranzato et al.: Unsupervised learning of invariant feature hierarchies (2007).
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
        self._given: tuple[Any, ...] = self.kernel_size, self.stride, self.padding
        if n > 1:  # as PyTorch shows them
            self._given = kernel_size, kernel_size if stride is None else stride, padding

    def forward(self, x: ArrayLike) -> Tensor:
        """The means of the windows."""
        self._check(x)
        return pooling.avg_pool(
            x, self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad, divisor_override=self.divisor_override, axes=self.axes,
            where=type(self).__name__,
        )  # fmt: skip

    def extra_repr(self) -> str:
        kernel, stride, padding = self._given
        return f"kernel_size={kernel}, stride={stride}, padding={padding}"


class AvgPool1d(_AvgPool):
    """The mean of each window of (n, c, length): see `anynet.ops.pooling.avg_pool`.

    >>> import anynet as an
    >>> an.nn.AvgPool1d(2)(an.asarray([[[1.0, 3.0, 2.0, 0.0]]]))
    Tensor([[[2., 1.]]])

    Source: LeCun et al.: Gradient-based learning applied to document recognition (1998).
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
    def forward(self, x: ArrayLike) -> Tensor:
        """Means over bins."""
        self._check(x)
        return pooling.adaptive_avg_pool(x, self.output_size, axes=self.axes, where=type(self).__name__)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    """Means over bins, (n, c, length) → (n, c, output_size): see `anynet.ops.pooling.adaptive_avg_pool`.

    >>> import anynet as an
    >>> an.nn.AdaptiveAvgPool1d(2)(an.asarray([[[1.0, 2.0, 3.0]]]))
    Tensor([[[1.5, 2.5]]])

    Source: He et al.: Spatial pyramid pooling in deep convolutional networks (2014).
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

    def forward(self, x: ArrayLike) -> Tensor:
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

    Source: He et al.: Spatial pyramid pooling in deep convolutional networks (2014).
    """

    axes = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    """Maxima over bins, (n, c, height, width) → (n, c, *output_size); None in output_size keeps a size.

    >>> import anynet as an
    >>> an.nn.AdaptiveMaxPool2d((3, None))(an.ones((8, 6, 7, 5))).shape
    (8, 6, 3, 5)
    """

    axes = 2


class MaxPool3d(_MaxPool):
    """The largest element of each window of (n, c, depth, height, width).

    >>> import anynet as an
    >>> an.nn.MaxPool3d(2)(an.ones((8, 6, 4, 6, 8))).shape
    (8, 6, 2, 3, 4)
    """

    axes = 3


class AvgPool3d(AvgPool2d):
    """The mean of each window of (n, c, depth, height, width).

    >>> import anynet as an
    >>> an.nn.AvgPool3d(2)(an.ones((8, 6, 4, 6, 8))).shape
    (8, 6, 2, 3, 4)
    """

    axes = 3


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    """Means over bins, (n, c, depth, height, width) → (n, c, *output_size); None keeps a size.

    >>> import anynet as an
    >>> an.nn.AdaptiveAvgPool3d(1)(an.ones((8, 6, 4, 7, 5))).shape
    (8, 6, 1, 1, 1)
    """

    axes = 3


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    """Maxima over bins, (n, c, depth, height, width) → (n, c, *output_size); None keeps a size.

    >>> import anynet as an
    >>> an.nn.AdaptiveMaxPool3d(2)(an.ones((8, 6, 4, 7, 5))).shape
    (8, 6, 2, 2, 2)
    """

    axes = 3


class _LPPool(_Pool):
    def __init__(
        self, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
    ) -> None:
        where = type(self).__name__
        self.norm_type, self.kernel_size, self.stride, self.ceil_mode = (
            norm_type,
            kernel_size,
            stride,
            ceil_mode,
        )
        self._kernel = spread_option(kernel_size, self.axes, "kernel_size", where)
        self._stride = self._kernel if stride is None else spread_option(stride, self.axes, "stride", where)

    def forward(self, x: ArrayLike) -> Tensor:
        """The norms of the windows."""
        self._check(x)
        return pooling.lp_pool(
            x, self.norm_type, self._kernel, self._stride, ceil_mode=self.ceil_mode, axes=self.axes,
            where=type(self).__name__,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, ceil_mode={self.ceil_mode}"


class LPPool1d(_LPPool):
    """(Σ xᵖ)^{1/p} over each window of (n, c, length).

    >>> import anynet as an
    >>> an.nn.LPPool1d(2, 2)(an.asarray([[[3.0, 4.0]]]))
    Tensor([[[5.]]])

    Source: Sermanet, Chintala, LeCun: Convolutional neural networks applied to house numbers digit classification
      (2012).
    """

    axes = 1


class LPPool2d(_LPPool):
    """(Σ xᵖ)^{1/p} over each window of (n, c, height, width).

    >>> import anynet as an
    >>> an.nn.LPPool2d(1, 2)(an.ones((1, 1, 2, 2))).item()
    4.0
    """

    axes = 2


class LPPool3d(_LPPool):
    """(Σ xᵖ)^{1/p} over each window of (n, c, depth, height, width).

    >>> import anynet as an
    >>> an.nn.LPPool3d(1, 2)(an.ones((1, 1, 2, 2, 2))).item()
    8.0
    """

    axes = 3


class _FractionalMaxPool(_Pool):
    _pure = False

    def __init__(
        self,
        kernel_size: Size,
        output_size: Any = None,
        output_ratio: Any = None,
        return_indices: bool = False,
        _random_samples: Any = None,
    ) -> None:
        if (output_size is None) == (output_ratio is None):
            msg = f"{type(self).__name__}: give either output_size or output_ratio"
            raise ValueError(msg)
        self.kernel_size = spread_option(kernel_size, self.axes, "kernel_size", type(self).__name__)
        self.output_size, self.output_ratio = output_size, output_ratio
        self.return_indices, self._random_samples = return_indices, _random_samples

    def forward(self, x: ArrayLike) -> Tensor:
        """The largest of windows at random places."""
        self._check(x)
        pool = F.fractional_max_pool2d if self.axes == 2 else F.fractional_max_pool3d
        samples = self._random_samples
        return pool(
            x,
            self.kernel_size,
            self.output_size,
            self.output_ratio,
            self.return_indices,
            None if samples is None else asarray(samples, device=x.device),
        )

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, output_size={self.output_size}, output_ratio={self.output_ratio}"


class FractionalMaxPool2d(_FractionalMaxPool):
    """Max pooling by any ratio, with windows at random places: see `anynet.nn.functional.fractional_max_pool2d`.

    >>> import anynet as an
    >>> an.nn.FractionalMaxPool2d(2, output_ratio=0.7)(an.ones((1, 1, 10, 10))).shape
    (1, 1, 7, 7)

    Source: Graham: Fractional max-pooling (2014).
    """

    axes = 2


class FractionalMaxPool3d(_FractionalMaxPool):
    """As `FractionalMaxPool2d`, of volumes.

    >>> import anynet as an
    >>> an.nn.FractionalMaxPool3d(2, output_size=3)(an.ones((1, 1, 5, 5, 5))).shape
    (1, 1, 3, 3, 3)
    """

    axes = 3


class _MaxUnpool(Module):
    axes: ClassVar[int]

    def __init__(self, kernel_size: Any, stride: Any = None, padding: Any = 0) -> None:
        where = type(self).__name__
        self.kernel_size = spread_option(kernel_size, self.axes, "kernel_size", where)
        self.stride = (
            self.kernel_size if stride is None else spread_option(stride, self.axes, "stride", where)
        )
        self.padding = spread_option(padding, self.axes, "padding", where, 0)

    def forward(self, x: ArrayLike, indices: ArrayLike, output_size: Any = None) -> Tensor:
        """The maxima at their places."""
        unpool = getattr(F, f"max_unpool{self.axes}d")
        return unpool(x, indices, self.kernel_size, self.stride, self.padding, output_size)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    """The maxima of `MaxPool1d` (with ``return_indices=True``) back at their places, zeros elsewhere.

    >>> import anynet as an
    >>> y, i = an.nn.MaxPool1d(2, return_indices=True)(an.asarray([[[1.0, 4.0, 3.0, 2.0]]]))
    >>> an.nn.MaxUnpool1d(2)(y, i)
    Tensor([[[0., 4., 3., 0.]]])

    Source: Zeiler, Fergus: Visualizing and understanding convolutional networks (2014).
    """

    axes = 1


class MaxUnpool2d(_MaxUnpool):
    """As `MaxUnpool1d`, of images.

    >>> import anynet as an
    >>> y, i = an.nn.MaxPool2d(2, return_indices=True)(an.ones((1, 1, 4, 4)))
    >>> an.nn.MaxUnpool2d(2)(y, i).shape
    (1, 1, 4, 4)
    """

    axes = 2


class MaxUnpool3d(_MaxUnpool):
    """As `MaxUnpool1d`, of volumes.

    >>> import anynet as an
    >>> y, i = an.nn.MaxPool3d(2, return_indices=True)(an.ones((1, 1, 2, 4, 4)))
    >>> an.nn.MaxUnpool3d(2)(y, i).shape
    (1, 1, 2, 4, 4)
    """

    axes = 3


class _GlobalPool(Module):
    axes: ClassVar[int]
    most: ClassVar[bool] = False

    def __init__(self, keepdims: bool = False) -> None:
        self.keepdims = keepdims

    def forward(self, x: ArrayLike) -> Tensor:
        """One number for each channel."""
        if len(x.shape) not in (self.axes + 1, self.axes + 2):
            msg = f"got {tuple(x.shape)}: expected {self.axes + 2} axes (batch, channels, *spatial), or {self.axes + 1} without the batch"
            raise ShapeError(msg)
        over = tuple(range(-self.axes, 0))
        return (max_over if self.most else mean)(x, axis=over, keepdims=self.keepdims)

    def extra_repr(self) -> str:
        return f"keepdims={self.keepdims}"


class GlobalAvgPool1d(_GlobalPool):
    """The mean of each channel: (n, c, length) → (n, c), with `keepdims` (n, c, 1).

    >>> import anynet as an
    >>> an.nn.GlobalAvgPool1d()(an.asarray([[[1.0, 3.0]]])).tolist()
    [[2.0]]

    Source: Lin, Chen, Yan: Network in network (2014).
    """

    axes = 1


class GlobalAvgPool2d(_GlobalPool):
    """The mean of each channel of images: (n, c, h, w) → (n, c), with `keepdims` (n, c, 1, 1).

    >>> import anynet as an
    >>> an.nn.GlobalAvgPool2d()(an.ones((2, 3, 4, 4))).shape
    (2, 3)

    Source: Lin, Chen, Yan: Network in network (2014).
    """

    axes = 2


class GlobalAvgPool3d(_GlobalPool):
    """The mean of each channel of volumes: (n, c, d, h, w) → (n, c).

    >>> import anynet as an
    >>> an.nn.GlobalAvgPool3d(keepdims=True)(an.ones((2, 3, 4, 4, 4))).shape
    (2, 3, 1, 1, 1)

    Source: Lin, Chen, Yan: Network in network (2014).
    """

    axes = 3


class GlobalMaxPool1d(_GlobalPool):
    """The largest number of each channel: (n, c, length) → (n, c), with `keepdims` (n, c, 1).

    >>> import anynet as an
    >>> an.nn.GlobalMaxPool1d()(an.asarray([[[1.0, 3.0]]])).tolist()
    [[3.0]]
    """

    axes = 1
    most = True


class GlobalMaxPool2d(_GlobalPool):
    """The largest number of each channel of images: (n, c, h, w) → (n, c).

    >>> import anynet as an
    >>> an.nn.GlobalMaxPool2d()(an.ones((2, 3, 4, 4))).shape
    (2, 3)
    """

    axes = 2
    most = True


class GlobalMaxPool3d(_GlobalPool):
    """The largest number of each channel of volumes: (n, c, d, h, w) → (n, c).

    >>> import anynet as an
    >>> an.nn.GlobalMaxPool3d()(an.ones((2, 3, 4, 4, 4))).shape
    (2, 3)
    """

    axes = 3
    most = True
