"""Dropout in its forms, rearranging channels, products of two inputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.basic import Dropout, Embedding
from anynet.nn.module import Module, ShapeError
from anynet.ops import creation
from anynet.ops.convolution import spread_option
from anynet.tensor import Parameter, Tensor
from anynet.typing import ArrayLike

__all__ = [
    "AlphaDropout", "Bilinear", "ChannelShuffle", "Dropout1d", "Dropout2d", "Dropout3d", "EmbeddingBag", "FeatureAlphaDropout", "Fold",
    "MaxUnpool1d", "MaxUnpool2d", "MaxUnpool3d",
    "PixelShuffle", "PixelUnshuffle", "Unfold", "Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d",
]  # fmt: skip


class _Dropout(Dropout):
    _function: Callable[..., Any]

    def forward(self, x: ArrayLike) -> Tensor:
        """x, in training with parts dropped."""
        return type(self)._function(x, self.p, self.training)  # type: ignore[no-any-return]


class Dropout1d(_Dropout):
    """In training, zero whole channels of (n, c, length) with probability p and scale the others by 1 / (1 − p).

    >>> import anynet as an
    >>> an.nn.Dropout1d(0.0)(an.ones((1, 2, 3))).shape
    (1, 2, 3)

    Source: Tompson et al.: Efficient object localization using convolutional networks (2015).
    """

    _function = staticmethod(F.dropout1d)


class Dropout2d(_Dropout):
    """As `Dropout1d`, of (n, c, h, w).

    >>> import anynet as an
    >>> an.nn.Dropout2d().eval()(an.ones((1, 2, 3, 3))).shape
    (1, 2, 3, 3)
    """

    _function = staticmethod(F.dropout2d)


class Dropout3d(_Dropout):
    """As `Dropout1d`, of (n, c, d, h, w).

    >>> import anynet as an
    >>> an.nn.Dropout3d().eval()(an.ones((1, 2, 3, 3, 3))).shape
    (1, 2, 3, 3, 3)
    """

    _function = staticmethod(F.dropout3d)


class AlphaDropout(_Dropout):
    """Dropout for SELU, which keeps mean 0 and variance 1 (Klambauer et al. 2017).

    >>> import anynet as an
    >>> an.nn.AlphaDropout().eval()(an.ones(2))
    Tensor([1., 1.])
    """

    _function = staticmethod(F.alpha_dropout)


class FeatureAlphaDropout(_Dropout):
    """`AlphaDropout` of whole channels.

    >>> import anynet as an
    >>> an.nn.FeatureAlphaDropout().eval()(an.ones((1, 2)))
    Tensor([[1., 1.]])

    Source: Klambauer et al.: Self-normalizing neural networks (2017).
    """

    _function = staticmethod(F.feature_alpha_dropout)


class PixelShuffle(Module):
    """(…, c r², h, w) → (…, c, h r, w r): channels become places.

    >>> import anynet as an
    >>> an.nn.PixelShuffle(2)(an.ones((1, 8, 3, 4))).shape
    (1, 2, 6, 8)

    Source: Shi et al.: Real-time single image and video super-resolution (2016).
    """

    def __init__(self, upscale_factor: int) -> None:
        self.upscale_factor = upscale_factor

    def forward(self, x: ArrayLike) -> Tensor:
        """The larger image."""
        return F.pixel_shuffle(x, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """(…, c, h r, w r) → (…, c r², h, w): the inverse of `PixelShuffle`.

    >>> import anynet as an
    >>> an.nn.PixelUnshuffle(2)(an.ones((1, 2, 6, 8))).shape
    (1, 8, 3, 4)
    """

    def __init__(self, downscale_factor: int) -> None:
        self.downscale_factor = downscale_factor

    def forward(self, x: ArrayLike) -> Tensor:
        """The smaller image."""
        return F.pixel_unshuffle(x, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"


class ChannelShuffle(Module):
    """Channels of (n, g k, …) regrouped: one of each group in turn.

    >>> import anynet as an
    >>> an.nn.ChannelShuffle(2)(an.reshape(an.arange(4.0), (1, 4, 1))).tolist()
    [[[0.0], [2.0], [1.0], [3.0]]]

    Source: Zhang et al.: ShuffleNet (2018).
    """

    def __init__(self, groups: int) -> None:
        self.groups = groups

    def forward(self, x: ArrayLike) -> Tensor:
        """x with its channels in another order."""
        return F.channel_shuffle(x, self.groups)

    def extra_repr(self) -> str:
        return f"groups={self.groups}"


class Bilinear(Module):
    """y_k = x₁ᵀ A_k x₂ + b_k: (…, in1_features), (…, in2_features) → (…, out_features).

    Parameters `weight` (out, in1, in2) and `bias` (out), both drawn from U(−1/√in1, 1/√in1).

    >>> import anynet as an
    >>> an.nn.Bilinear(2, 3, 4)(an.ones((5, 2)), an.ones((5, 3))).shape
    (5, 4)

    Source: Socher et al.: Reasoning with neural tensor networks (2013).
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if min(in1_features, in2_features, out_features) < 1:
            msg = f"Bilinear: sizes are positive, got {in1_features}, {in2_features}, {out_features}"
            raise ValueError(msg)
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        shape = (out_features, in1_features, in2_features)
        self.weight = Parameter(creation.empty(shape, device=device, dtype=dtype))
        self.bias = Parameter(creation.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the parameters anew."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: ArrayLike, input2: ArrayLike) -> Tensor:
        """x₁ᵀ A x₂ + b"""
        if input1.shape[-1] != self.in1_features or input2.shape[-1] != self.in2_features:
            msg = (
                f"got {tuple(input1.shape)} and {tuple(input2.shape)}: expected (…, {self.in1_features}) and "
                f"(…, {self.in2_features})"
            )
            raise ShapeError(msg)
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


class Upsample(Module):
    """An image at another size: see `nn.functional.interpolate`.

    >>> import anynet as an
    >>> an.nn.Upsample(scale_factor=2, mode="bilinear")(an.ones((1, 3, 4, 5))).shape
    (1, 3, 8, 10)

    Source: Keys: Cubic convolution interpolation for digital image processing (1981), for the bicubic mode.
    """

    def __init__(
        self,
        size: Any = None,
        scale_factor: Any = None,
        mode: str = "nearest",
        align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None,
    ) -> None:
        self.size, self.mode, self.align_corners = size, mode, align_corners
        self.scale_factor = (
            tuple(map(float, scale_factor)) if isinstance(scale_factor, tuple) else scale_factor
        )
        if isinstance(scale_factor, (int, float)):
            self.scale_factor = float(scale_factor)
        self.recompute_scale_factor = recompute_scale_factor

    def forward(self, x: ArrayLike) -> Tensor:
        """The image at the other size."""
        return F.interpolate(
            x, self.size, self.scale_factor, self.mode, self.align_corners, self.recompute_scale_factor
        )

    def extra_repr(self) -> str:
        by = f"size={self.size}" if self.scale_factor is None else f"scale_factor={self.scale_factor}"
        return f"{by}, mode={self.mode!r}"


class UpsamplingNearest2d(Upsample):
    """`Upsample` of images by the nearest pixel.

    >>> import anynet as an
    >>> an.nn.UpsamplingNearest2d(scale_factor=2)(an.asarray([[[[1.0, 2.0]]]])).tolist()[0][0]
    [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]
    """

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "nearest")


class UpsamplingBilinear2d(Upsample):
    """`Upsample` of images, bilinear with aligned corners.

    >>> import anynet as an
    >>> an.nn.UpsamplingBilinear2d(size=(1, 3))(an.asarray([[[[1.0, 2.0]]]])).tolist()
    [[[[1.0, 1.5, 2.0]]]]
    """

    def __init__(self, size: Any = None, scale_factor: Any = None) -> None:
        super().__init__(size, scale_factor, "bilinear", True)


class Unfold(Module):
    """(n, c, h, w) → (n, c · kernel, places): what the kernel sees at each place, as columns.

    >>> import anynet as an
    >>> an.nn.Unfold((2, 3))(an.ones((2, 5, 3, 4))).shape
    (2, 30, 4)
    """

    def __init__(self, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1) -> None:
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, x: ArrayLike) -> Tensor:
        """The columns."""
        return F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


class Fold(Unfold):
    """(n, c · kernel, places) → (n, c, *output_size): the sum of what `Unfold` has taken apart.

    >>> import anynet as an
    >>> an.nn.Fold((4, 5), (2, 2))(an.ones((1, 12, 12))).shape
    (1, 3, 4, 5)
    """

    def __init__(
        self, output_size: Any, kernel_size: Any, dilation: Any = 1, padding: Any = 0, stride: Any = 1
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = output_size

    def forward(self, x: ArrayLike) -> Tensor:
        """The images."""
        return F.fold(x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, {super().extra_repr()}"


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


class EmbeddingBag(Embedding):
    """The sum, mean or maximum of the rows that each bag of integers names: see `nn.functional.embedding_bag`.

    >>> import anynet as an
    >>> an.nn.EmbeddingBag(10, 3)(an.asarray([1, 2, 4, 5]), an.asarray([0, 3])).shape
    (2, 3)

    Source: Joulin et al.: Bag of tricks for efficient text classification (2017).
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: ArrayLike | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if mode not in ("sum", "mean", "max"):
            msg = f"EmbeddingBag: mode is 'sum', 'mean' or 'max', got {mode!r}"
            raise ValueError(msg)
        super().__init__(
            num_embeddings, embedding_dim, padding_idx, max_norm, norm_type, scale_grad_by_freq, sparse, _weight,
            device=device, dtype=dtype,
        )  # fmt: skip
        self.mode, self.include_last_offset = mode, include_last_offset

    def forward(
        self, input: ArrayLike, offsets: ArrayLike | None = None, per_sample_weights: ArrayLike | None = None
    ) -> Tensor:
        """A row for each bag."""
        return F.embedding_bag(
            input, self.weight, offsets, self.max_norm, self.norm_type, self.scale_grad_by_freq, self.mode, False,
            per_sample_weights, self.include_last_offset, self.padding_idx,
        )  # fmt: skip

    def extra_repr(self) -> str:
        parts = [f"{self.num_embeddings}, {self.embedding_dim}"]
        parts += [f"max_norm={self.max_norm}"] if self.max_norm is not None else []
        parts += [f"norm_type={self.norm_type}"] if self.norm_type != 2 else []
        parts += ["scale_grad_by_freq=True"] if self.scale_grad_by_freq else []
        parts += [f"mode={self.mode!r}"]
        parts += [f"padding_idx={self.padding_idx}"] if self.padding_idx is not None else []
        return ", ".join(parts)
