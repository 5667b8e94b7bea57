"""Upsampling of sequences, images and volumes."""

from __future__ import annotations

from collections.abc import Sequence

from anynet.equations import equation
from anynet.nn import functional as F
from anynet.nn.module import Module
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["Upsample", "UpsamplingBilinear2d", "UpsamplingNearest2d"]


@equation(F.interpolate)
class Upsample(Module):
    """Sequences, images or volumes (n, c, *spatial) at another size, given as `size`, or as `scale_factor` times the old one.

    `mode`: "nearest" (the pixel at ⌊i n/m⌋, as in PyTorch), "nearest-exact" (at ⌊(i + ½) n/m⌋), "linear" (sequences), "bilinear" and
    "bicubic" (images), "trilinear" (volumes), "area" (the mean of what each output pixel covers). `align_corners` puts the centres of
    the corner pixels on each other, else their outer edges. With `recompute_scale_factor` the step follows from the rounded size.

    ValueError unless one of `size` and `scale_factor` is given, and for a mode that does not fit the number of axes.

    >>> import anynet as an
    >>> an.nn.Upsample(scale_factor=2, mode="bilinear")(an.ones((1, 3, 4, 5))).shape
    (1, 3, 8, 10)

    Source: Keys: Cubic convolution interpolation for digital image processing (1981), for the bicubic mode.
    """

    def __init__(
        self,
        size: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
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


@equation(
    "S = floor(T * f) if R == 0 else R",
    "y[n, c, t: S] = x[n, c, min(floor(t * T / S if R != 0 else t / f), T - 1)]",
    where="x[N, C, T]; R = size or 0; f = scale_factor or 1",
    spatial="t T S R f",
)
class UpsamplingNearest2d(Upsample):
    """Images (n, c, h, w) at another size, given as `size` or `scale_factor`, by the nearest pixel: that at ⌊i n/m⌋.

    >>> import anynet as an
    >>> an.nn.UpsamplingNearest2d(scale_factor=2)(an.asarray([[[[1.0, 2.0]]]])).tolist()[0][0]
    [[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]
    """

    def __init__(
        self, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None
    ) -> None:
        super().__init__(size, scale_factor, "nearest")


@equation(
    "S = floor(T * f) if R == 0 else R",
    "u[t: S] = t * (T - 1) / (S - 1) if S > 1 else 0",
    "y[n, c, t: S] = sum[i: T](x[n, c, i] * prod(max(0, 1 - abs(u[t] - i))))",
    where="x[N, C, T]; R = size or 0; f = scale_factor or 1",
    spatial="t i u T S R f",
)
class UpsamplingBilinear2d(Upsample):
    """Images (n, c, h, w) at another size, given as `size` or `scale_factor`, by bilinear interpolation, the centres of the corner
    pixels on each other.

    >>> import anynet as an
    >>> an.nn.UpsamplingBilinear2d(size=(1, 3))(an.asarray([[[[1.0, 2.0]]]])).tolist()
    [[[[1.0, 1.5, 2.0]]]]
    """

    def __init__(
        self, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None
    ) -> None:
        super().__init__(size, scale_factor, "bilinear", True)
