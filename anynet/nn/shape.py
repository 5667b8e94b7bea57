"""Layers that rearrange elements: flattening, folding, shuffling of pixels and channels."""

from __future__ import annotations

import math
from collections.abc import Sequence

from anynet.equations import equation
from anynet.nn import functional as F
from anynet.nn.errors import ShapeError
from anynet.nn.module import Module
from anynet.ops.manipulation import reshape
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["ChannelShuffle", "Flatten", "Fold", "PixelShuffle", "PixelUnshuffle", "Unflatten", "Unfold"]

Size = int | Sequence[int]


@equation(
    "y[n, j] = x[n, j]",
    where="x[N, S*]: the axes from start_dim to end_dim as one; here those after the first",
)
class Flatten(Module):
    """Merge the axes from `start_dim` to `end_dim` into one.

    >>> import anynet as an
    >>> an.nn.Flatten()(an.ones((2, 3, 4))).shape
    (2, 12)
    """

    _pure = True

    def __init__(self, start_dim: int = 1, end_dim: int = -1) -> None:
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, x: ArrayLike) -> Tensor:
        """(n, c, h, w) → (n, c·h·w) by default."""
        n = len(x.shape)
        if n == 0:
            return reshape(x, (1,))
        start, end = self.start_dim, self.end_dim
        if not -n <= start < n or not -n <= end < n or start % n > end % n:
            msg = f"got {tuple(x.shape)}: expected axes {start} to {end} to merge"
            raise ShapeError(msg)
        start, end = start % n, end % n
        size = math.prod(x.shape[start : end + 1])
        return reshape(x, (*x.shape[:start], size, *x.shape[end + 1 :]))

    def extra_repr(self) -> str:
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


@equation("y = x", where="x: one axis as several, the elements in their order")
class Unflatten(Module):
    """Split axis `dim` into the shape `unflattened_size`; one length may be -1.

    >>> import anynet as an
    >>> an.nn.Unflatten(1, (2, 3))(an.ones((4, 6))).shape
    (4, 2, 3)
    """

    _pure = True

    def __init__(self, dim: int, unflattened_size: tuple[int, ...]) -> None:
        size = tuple(int(n) for n in unflattened_size)
        if not size or any(n < -1 for n in size) or size.count(-1) > 1:
            msg = f"Unflatten: unflattened_size must be a shape in which one length may be -1, got {unflattened_size}"
            raise ValueError(msg)
        self.dim, self.unflattened_size = dim, size

    def forward(self, x: ArrayLike) -> Tensor:
        """The inverse of Flatten."""
        n, size = len(x.shape), self.unflattened_size
        if not -n <= self.dim < n:
            msg = f"got {tuple(x.shape)}: expected an axis {self.dim} to split"
            raise ShapeError(msg)
        dim = self.dim % n
        known = math.prod(k for k in size if k != -1)
        length = x.shape[dim]
        if (known != length) if -1 not in size else (known == 0 or length % known):
            msg = f"got {tuple(x.shape)}: axis {self.dim} must split into {size}, got length {length}"
            raise ShapeError(msg)
        size = tuple(length // known if k == -1 else k for k in size)
        return reshape(x, (*x.shape[:dim], *size, *x.shape[dim + 1 :]))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"


@equation(F.pixel_shuffle)
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


@equation(F.pixel_unshuffle)
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


@equation(F.channel_shuffle)
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


@equation(F.unfold)
class Unfold(Module):
    """(n, c, h, w) → (n, c · kernel, places): what the kernel sees at each place, as columns.

    >>> import anynet as an
    >>> an.nn.Unfold((2, 3))(an.ones((2, 5, 3, 4))).shape
    (2, 30, 4)
    """

    def __init__(self, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1) -> None:
        self.kernel_size, self.dilation, self.padding, self.stride = kernel_size, dilation, padding, stride

    def forward(self, x: ArrayLike) -> Tensor:
        """The columns."""
        return F.unfold(x, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, dilation={self.dilation}, padding={self.padding}, stride={self.stride}"


@equation(F.fold)
class Fold(Unfold):
    """(n, c · kernel, places) → (n, c, *output_size): the sum of what `Unfold` has taken apart.

    >>> import anynet as an
    >>> an.nn.Fold((4, 5), (2, 2))(an.ones((1, 12, 12))).shape
    (1, 3, 4, 5)
    """

    def __init__(
        self, output_size: Size, kernel_size: Size, dilation: Size = 1, padding: Size = 0, stride: Size = 1
    ) -> None:
        super().__init__(kernel_size, dilation, padding, stride)
        self.output_size = output_size

    def forward(self, x: ArrayLike) -> Tensor:
        """The images."""
        return F.fold(x, self.output_size, self.kernel_size, self.dilation, self.padding, self.stride)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}, {super().extra_repr()}"
