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

    Equation:
      S = ⌊T φ⌋ if R = 0, else R
      ρ = (T − 1) / max(S − 1, 1) if align, T / S if R ≠ 0 or again, else 1 / φ
      u[t] = t ρ if align and not antialias, else (t + 1 / 2) · ρ − 1 / 2  for 0 ≤ t < S
      a = −1 / 2 if antialias, else −3 / 4
      h[t, k] = |k − 2 − uₜ| / (max(ρ, 1) if antialias, else 1)  for 0 ≤ t < S, 0 ≤ k < T + 4
      κ[t, k] = max(0, 1 − h[t, k]) if mode ≠ "bicubic", ((a + 2) h[t, k] − a − 3) h[t, k]² + 1 if h[t, k] < 1, a · (((h[t, k]
          − 5) h[t, k] + 8) h[t, k] − 4) if h[t, k] < 2, else 0  for 0 ≤ t < S, 0 ≤ k < T + 4
      e[t] = ⌊t T / S⌋ if mode = "area", else min(⌊(t + 1 / 2 if mode = "nearest-exact", else t) · ρ⌋, T − 1)  for 0 ≤ t < S
      f[t] = ⌈(t + 1) T / S⌉ if mode = "area", else eₜ + 1  for 0 ≤ t < S
      w[t, i] = [eₜ ≤ i < fₜ] / (fₜ − eₜ) if mode = "area" or mode = "nearest" or mode = "nearest-exact", κ[t, i + 2] / (Σ_{0
          ≤ k < T} κ[t, k + 2]) if antialias, else Σ_k κ[t, k] · [i = clip(k − 2, 0, T − 1)]  for 0 ≤ t < S, 0 ≤ i < T
      y[n, c, t] = Σ_{0 ≤ i < T} x[n, c, i] · (Π w[t, i])  for 0 ≤ t < S
      (x: input (N, C, T); R: size or 0; φ: scale_factor or 1; again: recompute_scale_factor or 0; align: align_corners or 0;
      antialias: or 0; mode; one for each spatial axis: t, i, k, u, h, κ, e, f, w, T, S, R, φ, ρ)

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

    Equation:
      S = ⌊T f⌋ if R = 0, else R
      y[n, c, t] = x[n, c, min(⌊t T / S if R ≠ 0, else t / f⌋, T − 1)]  for 0 ≤ t < S
      (x: (N, C, T); R: size or 0; f: scale_factor or 1; one for each spatial axis: t, T, S, R, f)

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

    Equation:
      S = ⌊T f⌋ if R = 0, else R
      u[t] = t · (T − 1) / (S − 1) if S > 1, else 0  for 0 ≤ t < S
      y[n, c, t] = Σ_{0 ≤ i < T} x[n, c, i] · (Π max(0, 1 − |uₜ − i|))  for 0 ≤ t < S
      (x: (N, C, T); R: size or 0; f: scale_factor or 1; one for each spatial axis: t, i, u, T, S, R, f)

    >>> import anynet as an
    >>> an.nn.UpsamplingBilinear2d(size=(1, 3))(an.asarray([[[[1.0, 2.0]]]])).tolist()
    [[[[1.0, 1.5, 2.0]]]]
    """

    def __init__(
        self, size: int | Sequence[int] | None = None, scale_factor: float | Sequence[float] | None = None
    ) -> None:
        super().__init__(size, scale_factor, "bilinear", True)
