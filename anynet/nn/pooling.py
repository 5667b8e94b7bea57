"""Pooling layers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from anynet.equations import equation
from anynet.nn import functional as F
from anynet.nn.spatial import Spatial
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


class _Windows(Spatial):
    """Windows of one size for each axis, at regular distances."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    def _set_windows(self, kernel_size: Size, stride: Size | None, padding: Size) -> None:
        where, n = type(self).__name__, self.axes
        self.kernel_size = spread_option(kernel_size, n, "kernel_size", where)
        self.stride = self.kernel_size if stride is None else spread_option(stride, n, "stride", where)
        self.padding = spread_option(padding, n, "padding", where, 0)


class _Pool(Spatial):
    _pure = True


@equation(F.max_pool1d)
class _MaxPool(_Pool, _Windows):
    """The largest element of each window of $data: y[…, p] = max_k x[…, p·stride + k·dilation − padding], x being −∞ outside.

    x (batch, channels, $spatial) or (channels, $spatial) → (batch, channels, $out) or without the batch, each axis of
    length ⌊(length + 2·padding − dilation·(kernel_size − 1) − 1) / stride⌋ + 1, rounded up with `ceil_mode` (without
    windows that begin in the padding at the end).

    `kernel_size`, `stride` (unless given the kernel size), `padding` (at most half the kernel size) and `dilation` are $integers. With
    `return_indices` the result is (maxima, their flat positions in the spatial axes of x, int64), as `MaxUnpool${axes}d` takes them.
    The first of equal elements receives the gradient.

    Errors: ValueError for sizes that are not positive and where no window fits; ShapeError for an input of other axes.

    >>> import anynet as an
    >>> an.nn.$name(2)(an.ones((8, 6, $4))).shape
    (8, 6, $2)

    Source: Ranzato et al.: Unsupervised learning of invariant feature hierarchies (2007).
    """

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        dilation: Size = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        self._set_windows(kernel_size, stride, padding)
        self.dilation = spread_option(dilation, self.axes, "dilation", type(self).__name__)
        self.return_indices, self.ceil_mode = return_indices, ceil_mode
        self._given = kernel_size, kernel_size if stride is None else stride, padding, dilation

    def forward(self, x: ArrayLike) -> Tensor:
        """The maxima of the windows, or (maxima, positions)."""
        self._check_axes(x)
        return pooling.max_pool(
            x, self.kernel_size, self.stride, self.padding, self.dilation, ceil_mode=self.ceil_mode,
            return_indices=self.return_indices, axes=self.axes, where=type(self).__name__,
        )  # fmt: skip

    def extra_repr(self) -> str:
        kernel, stride, padding, dilation = self._given
        return f"kernel_size={kernel}, stride={stride}, padding={padding}, dilation={dilation}, ceil_mode={self.ceil_mode}"


class MaxPool1d(_MaxPool):
    axes = 1


class MaxPool2d(_MaxPool):
    axes = 2


class MaxPool3d(_MaxPool):
    axes = 3


@equation(F.avg_pool1d)
class _AvgPool(_Pool, _Windows):
    """The mean of each window of $data: y[…, p] = (1/m) Σ_k x[…, p·stride + k − padding], x being 0 outside.

    x (batch, channels, $spatial) or (channels, $spatial) → (batch, channels, $out) or without the batch, each axis of
    length ⌊(length + 2·padding − kernel_size) / stride⌋ + 1, rounded up with `ceil_mode` (without windows that begin in the padding
    at the end). x must be floating.

    `kernel_size`, `stride` (unless given the kernel size) and `padding` (at most half the kernel size) are $integers. m is the number
    of elements of the window, those of the padding included unless ``count_include_pad=False``.

    Errors: ValueError for sizes that are not positive and where no window fits; ShapeError for an input of other axes.

    >>> import anynet as an
    >>> an.nn.$name(2)(an.ones((8, 6, $4))).shape
    (8, 6, $2)

    Source: LeCun et al.: Gradient-based learning applied to document recognition (1998).
    """

    divisor_override: int | None = None

    def __init__(
        self,
        kernel_size: Size,
        stride: Size | None = None,
        padding: Size = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
    ) -> None:
        self._set_windows(kernel_size, stride, padding)
        self.ceil_mode, self.count_include_pad = ceil_mode, count_include_pad
        self._given: tuple[Any, ...] = self.kernel_size, self.stride, self.padding
        if self.axes > 1:  # as PyTorch shows them
            self._given = kernel_size, kernel_size if stride is None else stride, padding

    def forward(self, x: ArrayLike) -> Tensor:
        """The means of the windows."""
        self._check_axes(x)
        return pooling.avg_pool(
            x, self.kernel_size, self.stride, self.padding, ceil_mode=self.ceil_mode,
            count_include_pad=self.count_include_pad, divisor_override=self.divisor_override, axes=self.axes,
            where=type(self).__name__,
        )  # fmt: skip

    def extra_repr(self) -> str:
        kernel, stride, padding = self._given
        return f"kernel_size={kernel}, stride={stride}, padding={padding}"


class AvgPool1d(_AvgPool):
    axes = 1


class _AvgPoolWithDivisor(_AvgPool):
    """The mean of each window of $data: y[…, p] = (1/m) Σ_k x[…, p·stride + k − padding], x being 0 outside.

    x (batch, channels, $spatial) or (channels, $spatial) → (batch, channels, $out) or without the batch, each axis of
    length ⌊(length + 2·padding − kernel_size) / stride⌋ + 1, rounded up with `ceil_mode` (without windows that begin in the padding
    at the end). x must be floating.

    `kernel_size`, `stride` (unless given the kernel size) and `padding` (at most half the kernel size) are $integers. m is the number
    of elements of the window, those of the padding included unless ``count_include_pad=False``, or `divisor_override`.

    Errors: ValueError for sizes that are not positive and where no window fits; ShapeError for an input of other axes.

    >>> import anynet as an
    >>> an.nn.$name(2)(an.ones((8, 6, $4))).shape
    (8, 6, $2)

    Source: LeCun et al.: Gradient-based learning applied to document recognition (1998).
    """

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


class AvgPool2d(_AvgPoolWithDivisor):
    axes = 2


class AvgPool3d(_AvgPoolWithDivisor):
    axes = 3


class _AdaptivePool(_Pool):
    def __init__(self, output_size: OutputSize) -> None:
        self.output_size = output_size

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


@equation(F.adaptive_avg_pool1d)
class _AdaptiveAvgPool(_AdaptivePool):
    """Means over bins of $data, as many along each axis as asked for: bin i of o covers the elements ⌊i·n/o⌋ … ⌈(i+1)·n/o⌉ − 1 of an
    axis of length n.

    x (batch, channels, $spatial) or (channels, $spatial) → (batch, channels, *output_size) or without the batch. `output_size` is
    $integers; None in the place of one keeps the length.

    Errors: ValueError for sizes that are not positive; ShapeError for an input of other axes.

    >>> import anynet as an
    >>> an.nn.$name(2)(an.ones((8, 6, $5))).shape
    (8, 6, $2)

    Source: He et al.: Spatial pyramid pooling in deep convolutional networks (2014).
    """

    def forward(self, x: ArrayLike) -> Tensor:
        """Means over bins."""
        self._check_axes(x)
        return pooling.adaptive_avg_pool(x, self.output_size, axes=self.axes, where=type(self).__name__)


class AdaptiveAvgPool1d(_AdaptiveAvgPool):
    axes = 1


class AdaptiveAvgPool2d(_AdaptiveAvgPool):
    axes = 2


class AdaptiveAvgPool3d(_AdaptiveAvgPool):
    axes = 3


@equation(F.adaptive_max_pool1d)
class _AdaptiveMaxPool(_AdaptivePool):
    """Maxima over bins of $data, as many along each axis as asked for: bin i of o covers the elements ⌊i·n/o⌋ … ⌈(i+1)·n/o⌉ − 1 of an
    axis of length n.

    x (batch, channels, $spatial) or (channels, $spatial) → (batch, channels, *output_size) or without the batch. `output_size` is
    $integers; None in the place of one keeps the length. With `return_indices` the result is (maxima,
    their flat positions in the spatial axes of x, int64).

    Errors: ValueError for sizes that are not positive; ShapeError for an input of other axes.

    >>> import anynet as an
    >>> an.nn.$name(2)(an.ones((8, 6, $5))).shape
    (8, 6, $2)

    Source: He et al.: Spatial pyramid pooling in deep convolutional networks (2014).
    """

    def __init__(self, output_size: OutputSize, return_indices: bool = False) -> None:
        super().__init__(output_size)
        self.return_indices = return_indices

    def forward(self, x: ArrayLike) -> Tensor:
        """Maxima over bins, or (maxima, positions)."""
        self._check_axes(x)
        return pooling.adaptive_max_pool(
            x, self.output_size, axes=self.axes, return_indices=self.return_indices, where=type(self).__name__
        )


class AdaptiveMaxPool1d(_AdaptiveMaxPool):
    axes = 1


class AdaptiveMaxPool2d(_AdaptiveMaxPool):
    axes = 2


class AdaptiveMaxPool3d(_AdaptiveMaxPool):
    axes = 3


@equation(F.lp_pool1d)
class _LPPool(_Pool):
    """The p-norm (Σ xᵖ)^(1/p) of each window of $data, p = `norm_type`; without absolute values, as in PyTorch, so that an odd p of a
    negative sum gives NaN.

    x (batch, channels, $spatial) or (channels, $spatial) → (batch, channels, $out) or without the batch, each axis of
    length ⌊(length − kernel_size) / stride⌋ + 1, rounded up with `ceil_mode`; what a window then reaches over the end counts as the
    mean of what it holds. `kernel_size` and `stride` (unless given the kernel size) are $integers. Where the sum is 0 the gradient is 0.

    Errors: ValueError for sizes that are not positive and where no window fits; ShapeError for an input of other axes.

    >>> import anynet as an
    >>> an.nn.$name(2, 2)(an.ones((8, 6, $4))).shape
    (8, 6, $2)

    Source: Sermanet, Chintala, LeCun: Convolutional neural networks applied to house numbers digit classification (2012).
    """

    def __init__(
        self, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
    ) -> None:
        where = type(self).__name__
        self.norm_type, self.kernel_size, self.stride = norm_type, kernel_size, stride
        self.ceil_mode = ceil_mode
        self._kernel = spread_option(kernel_size, self.axes, "kernel_size", where)
        self._stride = self._kernel if stride is None else spread_option(stride, self.axes, "stride", where)

    def forward(self, x: ArrayLike) -> Tensor:
        """The norms of the windows."""
        self._check_axes(x)
        return pooling.lp_pool(
            x, self.norm_type, self._kernel, self._stride, ceil_mode=self.ceil_mode, axes=self.axes,
            where=type(self).__name__,
        )  # fmt: skip

    def extra_repr(self) -> str:
        return f"norm_type={self.norm_type}, kernel_size={self.kernel_size}, stride={self.stride}, ceil_mode={self.ceil_mode}"


class LPPool1d(_LPPool):
    axes = 1


class LPPool2d(_LPPool):
    axes = 2


class LPPool3d(_LPPool):
    axes = 3


@equation(F.fractional_max_pool2d)
class _FractionalMaxPool(_Pool):
    """The largest element of each of windows at random places of $data, so that lengths shrink by any ratio between 1 and the kernel
    size. The windows of an axis begin at ⌊α (i + u)⌋ − ⌊α u⌋ with α = (length − kernel_size) / (out − 1) and u from U(0, 1), drawn for
    each example, channel and axis, from the stream of dropout masks; the last one ends with the axis.

    x (batch, channels, $spatial) or (channels, $spatial) → (batch, channels, $out) or without the batch. `kernel_size` is $integers;
    the output's lengths are `output_size`, or `output_ratio` times those of the input: exactly one of them must be given. With
    `return_indices` the result is (maxima, their flat positions in the spatial axes of x, int64). The windows are random in
    evaluation, too.

    Errors: ValueError unless one of `output_size` and `output_ratio` is given, and for outputs that do not fit; ShapeError for an
    input of other axes.

    >>> import anynet as an
    >>> an.nn.$name(2, output_ratio=0.7)(an.ones((1, 1, $10))).shape
    (1, 1, $7)

    Source: Graham: Fractional max-pooling (2014).
    """

    _pure = False

    def __init__(
        self,
        kernel_size: Size,
        output_size: Size | None = None,
        output_ratio: float | Sequence[float] | None = None,
        return_indices: bool = False,
        _random_samples: ArrayLike | None = None,
    ) -> None:
        if (output_size is None) == (output_ratio is None):
            msg = f"{type(self).__name__}: either output_size or output_ratio must be given, got {output_size} and {output_ratio}"
            raise ValueError(msg)
        self.kernel_size = spread_option(kernel_size, self.axes, "kernel_size", type(self).__name__)
        self.output_size, self.output_ratio = output_size, output_ratio
        self.return_indices, self._random_samples = return_indices, _random_samples

    def forward(self, x: ArrayLike) -> Tensor:
        """The largest of windows at random places."""
        self._check_axes(x)
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
    axes = 2


class FractionalMaxPool3d(_FractionalMaxPool):
    axes = 3


@equation(F.max_unpool1d)
class _MaxUnpool(_Windows):
    """The maxima of `MaxPool${axes}d` (with ``return_indices=True``) back at their places in $data, zeros elsewhere.

    x and indices (batch, channels, $spatial) or (channels, $spatial) → (batch, channels, $out) or without the batch, each axis of
    length (length − 1)·stride − 2·padding + kernel_size, or the last axes of `output_size` in the call, which may differ from that by
    less than a stride. `kernel_size`, `stride` (unless given the kernel size) and `padding` are $integers, those of the pooling.

    Errors: ValueError for sizes that are not positive and for an `output_size` out of reach; for indices outside of the output too.

    >>> import anynet as an
    >>> y, indices = an.nn.MaxPool${axes}d(2, return_indices=True)(an.ones((1, 1, $4)))
    >>> an.nn.$name(2)(y, indices).shape
    (1, 1, $4)

    Source: Zeiler, Fergus: Visualizing and understanding convolutional networks (2014).
    """

    def __init__(self, kernel_size: Size, stride: Size | None = None, padding: Size = 0) -> None:
        self._set_windows(kernel_size, stride, padding)

    def forward(self, x: ArrayLike, indices: ArrayLike, output_size: Sequence[int] | None = None) -> Tensor:
        """The maxima at their places."""
        unpool = getattr(F, f"max_unpool{self.axes}d")
        return unpool(x, indices, self.kernel_size, self.stride, self.padding, output_size)  # type: ignore[no-any-return]

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class MaxUnpool1d(_MaxUnpool):
    axes = 1


class MaxUnpool2d(_MaxUnpool):
    axes = 2


class MaxUnpool3d(_MaxUnpool):
    axes = 3


class _GlobalPool(Spatial):
    most: ClassVar[bool]

    def __init__(self, keepdims: bool = False) -> None:
        self.keepdims = keepdims

    def forward(self, x: ArrayLike) -> Tensor:
        """One number for each channel."""
        self._check_axes(x)
        over = tuple(range(-self.axes, 0))
        return (max_over if self.most else mean)(x, axis=over, keepdims=self.keepdims)

    def extra_repr(self) -> str:
        return f"keepdims={self.keepdims}"


@equation("y[n, c] = mean[t](x[n, c, t])", where="x[N?, C, T]", spatial="t T")
class _GlobalAvgPool(_GlobalPool):
    """The mean of each channel over $data.

    x (batch, channels, $spatial) or (channels, $spatial) → (batch, channels) or (channels,),
    with `keepdims` (batch, channels, $1) or (channels, $1).

    Errors: ShapeError for an input of other axes.

    >>> import anynet as an
    >>> an.nn.$name()(an.ones((2, 3, $4))).shape
    (2, 3)
    >>> an.nn.$name(keepdims=True)(an.ones((2, 3, $4))).shape
    (2, 3, $1)

    Source: Lin, Chen, Yan: Network in network (2014).
    """

    most = False


class GlobalAvgPool1d(_GlobalAvgPool):
    axes = 1


class GlobalAvgPool2d(_GlobalAvgPool):
    axes = 2


class GlobalAvgPool3d(_GlobalAvgPool):
    axes = 3


@equation("y[n, c] = max[t](x[n, c, t])", where="x[N?, C, T]", spatial="t T")
class _GlobalMaxPool(_GlobalPool):
    """The largest element of each channel over $data.

    x (batch, channels, $spatial) or (channels, $spatial) → (batch, channels) or (channels,),
    with `keepdims` (batch, channels, $1) or (channels, $1).

    Errors: ShapeError for an input of other axes.

    >>> import anynet as an
    >>> an.nn.$name()(an.ones((2, 3, $4))).shape
    (2, 3)
    >>> an.nn.$name(keepdims=True)(an.ones((2, 3, $4))).shape
    (2, 3, $1)
    """

    most = True


class GlobalMaxPool1d(_GlobalMaxPool):
    axes = 1


class GlobalMaxPool2d(_GlobalMaxPool):
    axes = 2


class GlobalMaxPool3d(_GlobalMaxPool):
    axes = 3
