"""Convolution layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

from anynet.equations import equation
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.errors import ShapeError
from anynet.nn.spatial import Spatial
from anynet.ops import convolution, creation
from anynet.ops.convolution import same_padding, spread_option
from anynet.ops.padding import pad
from anynet.tensor import Parameter, Tensor
from anynet.typing import ArrayLike

__all__ = [
    "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d", "SeparableConv1d",
    "SeparableConv2d", "SeparableConv3d",
]  # fmt: skip

Size = int | Sequence[int]


class _AnyConv(Spatial):
    """What convolutions and their transposes share: the check of channels and of the input, and the first weights."""

    _pure = True

    in_channels: int
    weight: Parameter
    bias: Parameter | None

    def _divided(self, in_channels: int, out_channels: int, groups: int) -> None:
        if groups < 1 or in_channels % groups or out_channels % groups or min(in_channels, out_channels) < 1:
            msg = (
                f"{type(self).__name__}: in_channels and out_channels must be positive and divisible by groups, got "
                f"in_channels={in_channels}, out_channels={out_channels}, groups={groups}"
            )
            raise ValueError(msg)

    def _accept(self, x: ArrayLike) -> None:
        ndim = len(x.shape)
        if ndim not in (self.axes + 1, self.axes + 2) or x.shape[ndim - self.axes - 1] != self.in_channels:
            msg = (
                f"got {tuple(x.shape)}: expected {self.axes + 2} axes (batch, channels, *spatial), or "
                f"{self.axes + 1} without the batch, with {self.in_channels} channels"
            )
            if ndim == self.axes + 2 and x.shape[-1] == self.in_channels:
                order = (0, ndim - 1, *range(1, ndim - 1))
                msg += f"; channels come first: permute_dims(x, {order})"
            raise ShapeError(msg)

    def reset_parameters(self) -> None:
        """Redraw the parameters, both from U(−b, b) with b = 1 / √(elements of weight[0])."""
        bound = 1 / math.sqrt(math.prod(self.weight.shape[1:]))
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)


@equation(
    'a = 0 if p == "valid" else d * (K - 1) // 2 if p == "same" else p',
    'q = 0 if p == "valid" else d * (K - 1) if p == "same" else 2 * p',
    "L = (T + q - d * (K - 1) - 1) // s + 1",
    "u[t: L, i: K] = s * t + d * i - a",
    """
        v[t, i] = u[t, i] % T if mode == "circular" else clip(u[t, i], 0, T - 1) if mode == "replicate" else T - 1 -
            abs(T - 1 - abs(u[t, i])) if mode == "reflect" else u[t, i]
    """,
    "y[n, o, t: L] = b[o] + sum[c, i](W[o, c, i] * x[n, o // (O // G) * C + c, v[t, i]])",
    where="""
        x[N?, D, T]
        W[O, C, K] = weight
        b[O] = bias or 0
        s = stride
        p = padding
        d = dilation
        G = groups
        mode = padding_mode
    """,
    gradient="""
        db[o] = sum[n, t](dy[n, o, t])
        dW[o, c: C, i: K] = sum[n, t](dy[n, o, t] * x[n, o // (O // G) * C + c, v[t, i]])
        dx[n, k: D, j: T] = sum[o, c, t, i, o // (O // G) * C + c == k, v[t, i] == j](W[o, c, i] * dy[n, o, t])
    """,
    spatial="t i j u v a q s p d T K L",
    result="y",
)
class _Conv(_AnyConv):
    """y[n, o, p] = b[o] + Σ_{c, k} w[o, c, k] · x[n, c, p·stride + k·dilation − padding] over $data; place p and offset k have
    $axes coordinate(s) each.

    x (batch, in_channels, $spatial) or (in_channels, $spatial) → (batch, out_channels, $out) or without the batch, each axis of
    length ⌊(length + 2·padding − dilation·(kernel_size − 1) − 1) / stride⌋ + 1.

    `kernel_size`, `stride`, `padding` and `dilation` are $integers. `padding` may also be "valid" (none) or "same" (with stride 1 the
    output is as large as the input). `padding_mode` says what stands outside of x: "zeros", "reflect", "replicate" or "circular".
    With `groups` each group of output channels sees one group of input channels; ``groups=in_channels`` is a depthwise convolution.

    Parameters: `weight` (out_channels, in_channels / groups, *kernel_size) and, unless ``bias=False``, `bias` (out_channels,), both
    drawn from U(−b, b), b = 1 / √(in_channels / groups · ∏ kernel_size), as in PyTorch.

    Errors: ValueError for sizes that are not positive, and for channels that `groups` does not divide; ShapeError for an input of
    other axes or channels, or smaller than the kernel.

    >>> import anynet as an
    >>> an.nn.$name(2, 4, 3, padding=1)(an.ones((5, 2, $6))).shape
    (5, 4, $6)

    Source: LeCun et al.: Gradient-based learning applied to document recognition (1998); Dumoulin, Visin: A guide to
      convolution arithmetic (2016).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        where, n = type(self).__name__, self.axes
        self._divided(in_channels, out_channels, groups)
        if padding_mode not in ("zeros", "reflect", "replicate", "circular"):
            msg = (
                f"{where}: padding_mode must be 'zeros', 'reflect', 'replicate' or 'circular', got "
                f"{padding_mode!r}"
            )
            raise ValueError(msg)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size = spread_option(kernel_size, n, "kernel_size", where)
        self.stride = spread_option(stride, n, "stride", where)
        self.dilation = spread_option(dilation, n, "dilation", where)
        self.groups, self.padding_mode = groups, padding_mode
        self.padding: tuple[int, ...] | str
        if isinstance(padding, str):
            if padding not in ("same", "valid"):
                msg = f"{where}: padding must be 'same', 'valid' or integers, got {padding!r}"
                raise ValueError(msg)
            self.padding = padding
            pairs = ((0, 0),) * n
            if padding == "same":
                pairs = same_padding(self.kernel_size, self.stride, self.dilation, where)
        else:
            self.padding = spread_option(padding, n, "padding", where, 0)
            pairs = tuple((p, p) for p in self.padding)
        # for anynet.ops.padding.pad: the last axis first
        self._pad = tuple(p for pair in reversed(pairs) for p in pair)
        shape = (out_channels, in_channels // groups, *self.kernel_size)
        self.weight = Parameter(creation.empty(shape, device=device, dtype=dtype))
        self.bias = Parameter(creation.empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def forward(self, x: ArrayLike) -> Tensor:
        """x (n, in_channels, *spatial), or without n → (n, out_channels, *out)."""
        return self._conv_forward(x, self.weight, self.bias)

    def _conv_forward(self, x: ArrayLike, weight: ArrayLike, bias: ArrayLike | None) -> Tensor:
        """What `forward` does with another weight and bias, for layers that make them of theirs."""
        self._accept(x)
        padding = self.padding
        if self.padding_mode != "zeros" and any(self._pad):
            x = pad(x, self._pad, self.padding_mode)
            padding = (0,) * self.axes
        return convolution.conv(
            x, weight, bias, stride=self.stride, padding=padding, dilation=self.dilation, groups=self.groups, where=type(self).__name__,
        )  # fmt: skip

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        ]
        if self.padding != (0,) * self.axes:
            parts.append(f"padding={self.padding}")
        if self.dilation != (1,) * self.axes:
            parts.append(f"dilation={self.dilation}")
        if self.groups != 1:
            parts.append(f"groups={self.groups}")
        if self.bias is None:
            parts.append("bias=False")
        if self.padding_mode != "zeros":
            parts.append(f"padding_mode={self.padding_mode}")
        return ", ".join(parts)


class Conv1d(_Conv):
    axes = 1


class Conv2d(_Conv):
    axes = 2


class Conv3d(_Conv):
    axes = 3


@equation(F.conv_transpose1d)
class _ConvTranspose(_AnyConv):
    """The transpose of `Conv${axes}d`, which enlarges $data: what the gradient of that layer computes.

    y[n, o, p·stride + k·dilation − padding] = b[o] + Σ_c x[n, c, p] · w[c, o, k], summed over all p and k that give the same place.

    x (batch, in_channels, $spatial) or (in_channels, $spatial) → (batch, out_channels, $out) or without the batch, each axis of
    length (length − 1)·stride − 2·padding + dilation·(kernel_size − 1) + output_padding + 1.

    `kernel_size`, `stride`, `padding`, `output_padding` and `dilation` are $integers. Several lengths of input give one length of a
    strided convolution's output; `output_padding` (less than the stride), or `output_size` in the call, chooses among them. With
    `groups` each group of input channels makes one group of output channels. `padding_mode` must be "zeros".

    Parameters: `weight` (in_channels, out_channels / groups, *kernel_size) and, unless ``bias=False``, `bias` (out_channels,), both
    drawn from U(−b, b), b = 1 / √(out_channels / groups · ∏ kernel_size), as in PyTorch.

    Errors: ValueError for sizes that are not positive, for channels that `groups` does not divide and for an `output_size` out of
    reach; ShapeError for an input of other axes or channels.

    >>> import anynet as an
    >>> an.nn.$name(2, 4, 3, stride=2)(an.ones((5, 2, $4))).shape
    (5, 4, $9)

    Source: Zeiler et al.: Deconvolutional networks (2010); Dumoulin, Visin: A guide to convolution arithmetic (2016).
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size = 0,
        output_padding: Size = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Size = 1,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        where, n = type(self).__name__, self.axes
        self._divided(in_channels, out_channels, groups)
        if padding_mode != "zeros":
            msg = f"{where}: padding_mode must be 'zeros', got {padding_mode!r}"
            raise ValueError(msg)
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = spread_option(kernel_size, n, "kernel_size", where)
        self.stride = spread_option(stride, n, "stride", where)
        self.padding = spread_option(padding, n, "padding", where, 0)
        self.output_padding = spread_option(output_padding, n, "output_padding", where, 0)
        self.dilation = spread_option(dilation, n, "dilation", where)
        shape = (in_channels, out_channels // groups, *self.kernel_size)
        self.weight = Parameter(creation.empty(shape, device=device, dtype=dtype))
        self.bias = Parameter(creation.empty(out_channels, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def forward(self, x: ArrayLike, output_size: Sequence[int] | None = None) -> Tensor:
        """x (n, in_channels, *spatial), or without n → (n, out_channels, *out); `output_size` chooses among the sizes
        that the stride leaves open, in place of `output_padding`."""
        self._accept(x)
        extra = self.output_padding
        if output_size is not None:
            wanted = tuple(output_size)[-self.axes :]
            least = tuple(
                (size - 1) * s - 2 * p + d * (k - 1) + 1
                for size, s, p, d, k in zip(
                    x.shape[-self.axes :],
                    self.stride,
                    self.padding,
                    self.dilation,
                    self.kernel_size,
                    strict=True,
                )
            )
            extra = tuple(w - m for w, m in zip(wanted, least, strict=True))
            if any(not 0 <= e < s for e, s in zip(extra, self.stride, strict=True)):
                most = tuple(m + s - 1 for m, s in zip(least, self.stride, strict=True))
                msg = f"{type(self).__name__}: output_size must be between {least} and {most}, got {wanted}"
                raise ValueError(msg)
        return convolution.conv_transpose(
            x, self.weight, self.bias, stride=self.stride, padding=self.padding, output_padding=extra,
            dilation=self.dilation, groups=self.groups, where=type(self).__name__,
        )  # fmt: skip

    def extra_repr(self) -> str:
        parts = [
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        ]
        zeros, ones = (0,) * self.axes, (1,) * self.axes
        parts += [f"padding={self.padding}"] if self.padding != zeros else []
        parts += [f"dilation={self.dilation}"] if self.dilation != ones else []
        parts += [f"output_padding={self.output_padding}"] if self.output_padding != zeros else []
        parts += [f"groups={self.groups}"] if self.groups != 1 else []
        parts += ["bias=False"] if self.bias is None else []
        return ", ".join(parts)


class ConvTranspose1d(_ConvTranspose):
    axes = 1


class ConvTranspose2d(_ConvTranspose):
    axes = 2


class ConvTranspose3d(_ConvTranspose):
    axes = 3


@equation(
    "M = J // C",
    'a = 0 if p == "valid" else d * (K - 1) // 2 if p == "same" else p',
    'q = 0 if p == "valid" else d * (K - 1) if p == "same" else 2 * p',
    "L = (T + q - d * (K - 1) - 1) // s + 1",
    "u[t: L, i: K] = s * t + d * i - a",
    """
        v[t, i] = u[t, i] % T if mode == "circular" else clip(u[t, i], 0, T - 1) if mode == "replicate" else T - 1 -
            abs(T - 1 - abs(u[t, i])) if mode == "reflect" else u[t, i]
    """,
    "z[n, j, t: L] = sum[i](D[j, 0, i] * x[n, j // M, v[t, i]])",
    "y[n, o, t] = b[o] + sum[j](P[o, j] * z[n, j, t])",
    where="""
        x[N?, C, T]
        D[J, A, K] = depthwise.weight
        P[O, J*] = pointwise.weight
        b[O] = pointwise.bias or 0
        s = depthwise.stride
        p = depthwise.padding
        d = depthwise.dilation
        mode = depthwise.padding_mode
    """,
    spatial="t i u v a q s p d T K L",
)
class _SeparableConv(Spatial):
    """A depthwise separable convolution of $data: `depthwise`, a convolution of each channel by itself with `depth_multiplier` filters,
    then `pointwise`, a convolution of kernel size 1 over all channels.

    x (batch, in_channels, $spatial) or (in_channels, $spatial) → (batch, out_channels, $out) or without the batch, each axis of
    length ⌊(length + 2·padding − dilation·(kernel_size − 1) − 1) / stride⌋ + 1.

    `kernel_size`, `stride`, `padding` and `dilation`, each $integers, and `padding_mode` are those of the depthwise convolution;
    `padding` may be "same" or "valid", `padding_mode` "zeros", "reflect", "replicate" or "circular".

    Parameters: `depthwise.weight` (in_channels · depth_multiplier, 1, *kernel_size), `pointwise.weight` (out_channels, in_channels ·
    depth_multiplier, 1, …) and, unless ``bias=False``, `pointwise.bias` (out_channels,), drawn as those of `Conv${axes}d`.

    Errors: ValueError for sizes that are not positive; ShapeError for an input of other axes or channels.

    >>> import anynet as an
    >>> an.nn.$name(3, 6, 3, padding="same")(an.ones((2, 3, $5))).shape
    (2, 6, $5)

    Source: Sifre: Rigid-motion scattering for image classification (2014); Chollet: Xception (2017).
    """

    _conv: ClassVar[type[_Conv]]

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Size,
        stride: Size = 1,
        padding: Size | str = 0,
        dilation: Size = 1,
        depth_multiplier: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if depth_multiplier < 1:
            msg = f"{type(self).__name__}: depth_multiplier must be ≥ 1, got {depth_multiplier}"
            raise ValueError(msg)
        wide = in_channels * depth_multiplier
        self.depthwise = self._conv(
            in_channels,
            wide,
            kernel_size,
            stride,
            padding,
            dilation,
            in_channels,
            False,
            padding_mode,
            device,
            dtype,
        )
        self.pointwise = self._conv(wide, out_channels, 1, bias=bias, device=device, dtype=dtype)

    def forward(self, x: ArrayLike) -> Tensor:
        """Each channel by itself, then all channels at each place."""
        return self.pointwise(self.depthwise(x))


class SeparableConv1d(_SeparableConv):
    axes, _conv = 1, Conv1d


class SeparableConv2d(_SeparableConv):
    axes, _conv = 2, Conv2d


class SeparableConv3d(_SeparableConv):
    axes, _conv = 3, Conv3d
