"""Pooling and its inverse by number of axes, with PyTorch's arguments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anynet import streams
from anynet.equations import equation
from anynet.nn.docstrings import shared_docstring
from anynet.nn.errors import ShapeError
from anynet.nn.functional._common import bounds
from anynet.ops import pooling
from anynet.ops.convolution import spread_option
from anynet.ops.indexing import scatter_rows, take_along_axis
from anynet.ops.manipulation import expand_dims, reshape
from anynet.ops.reductions import argmax
from anynet.tensor import Tensor, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend, backend_of

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d",
    "adaptive_max_pool2d", "adaptive_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "fractional_max_pool2d",
    "fractional_max_pool3d", "lp_pool1d", "lp_pool2d", "lp_pool3d", "max_pool1d", "max_pool2d", "max_pool3d",
    "max_unpool1d", "max_unpool2d", "max_unpool3d",
]  # fmt: skip

Size = int | Sequence[int]

# ----- what the variants by number of axes have in common -----

_MAX_POOL = """
    y[p] = max_k x[p · stride + k · dilation − padding], where x is −∞ outside. The stride is the kernel size unless given. The
    first of equal elements receives the gradient.

    Shapes: input (n, c, $spatial) or (c, $spatial)
    → (n, c, $out) or (c, $out), with
    out = ⌊(size + 2 · padding − dilation · (kernel − 1) − 1) / stride⌋ + 1, ⌈ ⌉ with `ceil_mode`. `kernel_size`, `stride`,
    `padding` and `dilation` are each $integers. With `return_indices` also the positions of the maxima in the flattened spatial
    axes (int64), which `max_unpool${axes}d` takes.

    Errors: ValueError where no window fits.
"""

_AVG_POOL = """
    y[p] = (1/m) Σ_k x[p · stride + k − padding], where x is 0 outside and m is the number of elements of the window, those of the
    padding included unless ``count_include_pad=False``. The stride is the kernel size unless given.

    Shapes: input (n, c, $spatial) or (c, $spatial)
    → (n, c, $out) or (c, $out), with
    out = ⌊(size + 2 · padding − kernel) / stride⌋ + 1, ⌈ ⌉ with `ceil_mode`. `kernel_size`, `stride` and `padding` are each
    $integers.

    Errors: ValueError where no window fits, TypeError for integers.
"""

_ADAPTIVE = """
    Bin i of o covers the elements ⌊i n / o⌋ … ⌈(i + 1) n / o⌉ − 1 of an axis of length n.

    Shapes: input (n, c, $spatial) or (c, $spatial)
    → (n, c, $out) or (c, $out); `output_size` is $integers, None keeps a size.

    Errors: ValueError for sizes below 1 and for empty axes.
"""

_LP_POOL = """
    NaN where the root of a negative sum does not exist (odd p), and without gradient where it is 0 and has a corner. The stride is
    the kernel size unless given. A window that `ceil_mode` lets reach over the end counts as a whole one of the mean of what it
    holds.

    Shapes: input (n, c, $spatial) or (c, $spatial)
    → (n, c, $out) or (c, $out), with out = ⌊(size − kernel) / stride⌋ + 1,
    ⌈ ⌉ with `ceil_mode`. `kernel_size` and `stride` are each $integers.

    Errors: ValueError where no window fits, or norm_type is 0 or not finite.
"""

_MAX_UNPOOL = """
    `indices` are those that `max_pool${axes}d` returns with `return_indices`; `kernel_size`, `stride` (the kernel size unless given)
    and `padding` are those of the pooling.

    Shapes: input and indices (n, c, $spatial) or (c, $spatial)
    → (n, c, $out) or (c, $out), with
    out = (size − 1) · stride − 2 · padding + kernel, or `output_size`, which may differ from that by less than the stride.

    Errors: ValueError for different shapes, and for indices outside of the output.
"""

_FRACTIONAL = """
    Give `output_size`, or `output_ratio` in (0, 1). Window i begins at ⌊(i + u) α⌋ − ⌊u α⌋, α = (size − kernel) / (output − 1), the
    last at size − kernel, with u uniform for each example and channel, or given as `_random_samples` (n, c, $axes). With
    `return_indices` also the positions of the maxima in the flattened spatial axes (int64).

    Shapes: input (n, c, $spatial) or (c, $spatial)
    → (n, c, $out) or (c, $out).

    Errors: ValueError where the windows do not fit, ShapeError for an input or samples of another shape.

    Source: Graham: Fractional max-pooling (2014).
"""


def _check(where: str, x: Any, axes: int) -> None:
    if len(x.shape) not in (axes + 1, axes + 2):
        msg = (
            f"{where}: input must have {axes + 2} axes (batch, channels, *spatial) or {axes + 1} without "
            f"the batch, got shape {tuple(x.shape)}"
        )
        raise ValueError(msg)


@equation(
    """
        M = ceil((T + 2 * p - d * (k - 1) - 1) / s) + 1 if ceil_mode else (T + 2 * p - d * (k - 1) - 1) // s + 1
    """,
    "L = M - 1 if ceil_mode and (M - 1) * s >= T + p else M",
    "y[n, c, t: L] = max[i: k, 0 <= s * t + d * i - p < T](x[n, c, s * t + d * i - p])",
    where="""
        x[N?, C, T] = input
        k = kernel_size
        s = stride or kernel_size
        p = padding
        d = dilation
        ceil_mode
    """,
    spatial="t i s p d k T M L",
)
@shared_docstring(_MAX_POOL, 1)
def max_pool1d(
    input: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The largest element of each window of sequences.

    Equation:
      M = ⌈(T + 2 p − d · (k − 1) − 1) / s⌉ + 1 if ceil_mode, else ⌊(T + 2 p − d · (k − 1) − 1) / s⌋ + 1
      L = M − 1 if ceil_mode and (M − 1) s ≥ T + p, else M
      y[n, c, t] = max_{0 ≤ i < k, 0 ≤ s t + d i − p < T}(x[n, c, s t + d i − p])  for 0 ≤ t < L
      (x: input (N, C, T); k: kernel_size; s: stride or kernel_size; p: padding; d: dilation; ceil_mode; one for each spatial
      axis: t, i, s, p, d, k, T, M, L)

    >>> import anynet as an
    >>> an.nn.functional.max_pool1d(an.asarray([[1.0, 3.0, 5.0, 7.0]]), 2).tolist()
    [[3.0, 7.0]]
    """
    _check("max_pool1d", input, 1)
    return pooling.max_pool(
        input, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode,
        return_indices=return_indices, axes=1, where="max_pool1d",
    )  # fmt: skip


@equation(max_pool1d)
@shared_docstring(_MAX_POOL, 2)
def max_pool2d(
    input: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The largest element of each window of images.

    Equation:
      M = ⌈(T + 2 p − d · (k − 1) − 1) / s⌉ + 1 if ceil_mode, else ⌊(T + 2 p − d · (k − 1) − 1) / s⌋ + 1
      L = M − 1 if ceil_mode and (M − 1) s ≥ T + p, else M
      y[n, c, t] = max_{0 ≤ i < k, 0 ≤ s t + d i − p < T}(x[n, c, s t + d i − p])  for 0 ≤ t < L
      (x: input (N, C, T); k: kernel_size; s: stride or kernel_size; p: padding; d: dilation; ceil_mode; one for each spatial
      axis: t, i, s, p, d, k, T, M, L)

    >>> import anynet as an
    >>> an.nn.functional.max_pool2d(an.ones((1, 1, 4, 4)), 2).shape
    (1, 1, 2, 2)
    """
    _check("max_pool2d", input, 2)
    return pooling.max_pool(
        input, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode,
        return_indices=return_indices, axes=2, where="max_pool2d",
    )  # fmt: skip


@equation(max_pool1d)
@shared_docstring(_MAX_POOL, 3)
def max_pool3d(
    input: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    dilation: Size = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Tensor:
    """The largest element of each window of volumes.

    Equation:
      M = ⌈(T + 2 p − d · (k − 1) − 1) / s⌉ + 1 if ceil_mode, else ⌊(T + 2 p − d · (k − 1) − 1) / s⌋ + 1
      L = M − 1 if ceil_mode and (M − 1) s ≥ T + p, else M
      y[n, c, t] = max_{0 ≤ i < k, 0 ≤ s t + d i − p < T}(x[n, c, s t + d i − p])  for 0 ≤ t < L
      (x: input (N, C, T); k: kernel_size; s: stride or kernel_size; p: padding; d: dilation; ceil_mode; one for each spatial
      axis: t, i, s, p, d, k, T, M, L)

    >>> import anynet as an
    >>> an.nn.functional.max_pool3d(an.ones((1, 1, 4, 4, 4)), 2).shape
    (1, 1, 2, 2, 2)
    """
    _check("max_pool3d", input, 3)
    return pooling.max_pool(
        input, kernel_size, stride, padding, dilation, ceil_mode=ceil_mode,
        return_indices=return_indices, axes=3, where="max_pool3d",
    )  # fmt: skip


@equation(
    "M = ceil((T + 2 * p - k) / s) + 1 if ceil_mode else (T + 2 * p - k) // s + 1",
    "L = M - 1 if ceil_mode and (M - 1) * s >= T + p else M",
    """
        m[t: L] = min(s * t - p + k, T + p) - (s * t - p) if count_include_pad else min(s * t - p + k, T) - max(s * t -
            p, 0)
    """,
    "y[n, c, t: L] = sum[i: k](x[n, c, s * t + i - p]) / (D if D > 0 else prod(m[t]))",
    where="""
        x[N?, C, T] = input
        k = kernel_size
        s = stride or kernel_size
        p = padding
        ceil_mode
        count_include_pad
        D = divisor_override or 0: takes the place of the number of elements
    """,
    spatial="t i s p k m T M L",
)
@shared_docstring(_AVG_POOL, 1)
def avg_pool1d(
    input: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Tensor:
    """The mean of each window of sequences.

    Equation:
      M = ⌈(T + 2 p − k) / s⌉ + 1 if ceil_mode, else ⌊(T + 2 p − k) / s⌋ + 1
      L = M − 1 if ceil_mode and (M − 1) s ≥ T + p, else M
      m[t] = min(s t − p + k, T + p) − (s t − p) if count_include_pad, else min(s t − p + k, T) − max(s t − p, 0)  for 0 ≤ t <
          L
      y[n, c, t] = Σ_{0 ≤ i < k} x[n, c, s t + i − p] / (D if D > 0, else Π mₜ)  for 0 ≤ t < L
      (x: input (N, C, T); k: kernel_size; s: stride or kernel_size; p: padding; ceil_mode; count_include_pad; D:
      divisor_override or 0: takes the place of the number of elements; one for each spatial axis: t, i, s, p, k, m, T, M, L)

    >>> import anynet as an
    >>> an.nn.functional.avg_pool1d(an.asarray([[1.0, 3.0, 5.0, 7.0]]), 2).tolist()
    [[2.0, 6.0]]
    """
    _check("avg_pool1d", input, 1)
    return pooling.avg_pool(
        input, kernel_size, stride, padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad,
        axes=1, where="avg_pool1d",
    )  # fmt: skip


@equation(avg_pool1d)
@shared_docstring(_AVG_POOL, 2)
def avg_pool2d(
    input: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of images. `divisor_override` takes the place of m, the number that the sum is divided by.

    Equation:
      M = ⌈(T + 2 p − k) / s⌉ + 1 if ceil_mode, else ⌊(T + 2 p − k) / s⌋ + 1
      L = M − 1 if ceil_mode and (M − 1) s ≥ T + p, else M
      m[t] = min(s t − p + k, T + p) − (s t − p) if count_include_pad, else min(s t − p + k, T) − max(s t − p, 0)  for 0 ≤ t <
          L
      y[n, c, t] = Σ_{0 ≤ i < k} x[n, c, s t + i − p] / (D if D > 0, else Π mₜ)  for 0 ≤ t < L
      (x: input (N, C, T); k: kernel_size; s: stride or kernel_size; p: padding; ceil_mode; count_include_pad; D:
      divisor_override or 0: takes the place of the number of elements; one for each spatial axis: t, i, s, p, k, m, T, M, L)

    >>> import anynet as an
    >>> an.nn.functional.avg_pool2d(an.ones((1, 1, 4, 4)), 2).shape
    (1, 1, 2, 2)
    """
    _check("avg_pool2d", input, 2)
    return pooling.avg_pool(
        input, kernel_size, stride, padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad,
        divisor_override=divisor_override, axes=2, where="avg_pool2d",
    )  # fmt: skip


@equation(avg_pool1d)
@shared_docstring(_AVG_POOL, 3)
def avg_pool3d(
    input: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Tensor:
    """The mean of each window of volumes. `divisor_override` takes the place of m, the number that the sum is divided by.

    Equation:
      M = ⌈(T + 2 p − k) / s⌉ + 1 if ceil_mode, else ⌊(T + 2 p − k) / s⌋ + 1
      L = M − 1 if ceil_mode and (M − 1) s ≥ T + p, else M
      m[t] = min(s t − p + k, T + p) − (s t − p) if count_include_pad, else min(s t − p + k, T) − max(s t − p, 0)  for 0 ≤ t <
          L
      y[n, c, t] = Σ_{0 ≤ i < k} x[n, c, s t + i − p] / (D if D > 0, else Π mₜ)  for 0 ≤ t < L
      (x: input (N, C, T); k: kernel_size; s: stride or kernel_size; p: padding; ceil_mode; count_include_pad; D:
      divisor_override or 0: takes the place of the number of elements; one for each spatial axis: t, i, s, p, k, m, T, M, L)

    >>> import anynet as an
    >>> an.nn.functional.avg_pool3d(an.ones((1, 1, 4, 4, 4)), 2).shape
    (1, 1, 2, 2, 2)
    """
    _check("avg_pool3d", input, 3)
    return pooling.avg_pool(
        input, kernel_size, stride, padding, ceil_mode=ceil_mode, count_include_pad=count_include_pad,
        divisor_override=divisor_override, axes=3, where="avg_pool3d",
    )  # fmt: skip


@equation(
    "S = T if R == 0 else R",
    "y[n, c, t: S] = mean[u: T, floor(t * T / S) <= u, u < ceil((t + 1) * T / S)](x[n, c, u])",
    where="x[N?, C, T] = input; R = output_size or 0",
    spatial="t u R S T",
)
@shared_docstring(_ADAPTIVE, 1)
def adaptive_avg_pool1d(input: ArrayLike, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Means over bins of sequences, so that the output has the given size.

    Equation:
      S = T if R = 0, else R
      y[n, c, t] = mean_{0 ≤ u < T, ⌊t T / S⌋ ≤ u, u < ⌈(t + 1) T / S⌉}(x[n, c, u])  for 0 ≤ t < S
      (x: input (N, C, T); R: output_size or 0; one for each spatial axis: t, u, R, S, T)

    >>> import anynet as an
    >>> an.nn.functional.adaptive_avg_pool1d(an.asarray([[1.0, 3.0, 5.0, 7.0]]), 2).tolist()
    [[2.0, 6.0]]
    """
    _check("adaptive_avg_pool1d", input, 1)
    return pooling.adaptive_avg_pool(input, output_size, axes=1, where="adaptive_avg_pool1d")


@equation(
    "S = T if R == 0 else R",
    "y[n, c, t: S] = max[u: T, floor(t * T / S) <= u, u < ceil((t + 1) * T / S)](x[n, c, u])",
    where="x[N?, C, T] = input; R = output_size or 0",
    spatial="t u R S T",
)
@shared_docstring(_ADAPTIVE, 1)
def adaptive_max_pool1d(
    input: ArrayLike, output_size: int | Sequence[int | None] | None, return_indices: bool = False
) -> Tensor:
    """Maxima over bins of sequences, so that the output has the given size; with `return_indices` also their flat positions.

    Equation:
      S = T if R = 0, else R
      y[n, c, t] = max_{0 ≤ u < T, ⌊t T / S⌋ ≤ u, u < ⌈(t + 1) T / S⌉}(x[n, c, u])  for 0 ≤ t < S
      (x: input (N, C, T); R: output_size or 0; one for each spatial axis: t, u, R, S, T)

    >>> import anynet as an
    >>> an.nn.functional.adaptive_max_pool1d(an.asarray([[1.0, 3.0, 5.0, 7.0]]), 2).tolist()
    [[3.0, 7.0]]
    """
    _check("adaptive_max_pool1d", input, 1)
    return pooling.adaptive_max_pool(
        input, output_size, axes=1, return_indices=return_indices, where="adaptive_max_pool1d"
    )


@equation(adaptive_avg_pool1d)
@shared_docstring(_ADAPTIVE, 2)
def adaptive_avg_pool2d(input: ArrayLike, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Means over bins of images, so that the output has the given size.

    Equation:
      S = T if R = 0, else R
      y[n, c, t] = mean_{0 ≤ u < T, ⌊t T / S⌋ ≤ u, u < ⌈(t + 1) T / S⌉}(x[n, c, u])  for 0 ≤ t < S
      (x: input (N, C, T); R: output_size or 0; one for each spatial axis: t, u, R, S, T)

    >>> import anynet as an
    >>> an.nn.functional.adaptive_avg_pool2d(an.ones((1, 1, 4, 4)), 2).shape
    (1, 1, 2, 2)
    """
    _check("adaptive_avg_pool2d", input, 2)
    return pooling.adaptive_avg_pool(input, output_size, axes=2, where="adaptive_avg_pool2d")


@equation(adaptive_max_pool1d)
@shared_docstring(_ADAPTIVE, 2)
def adaptive_max_pool2d(
    input: ArrayLike, output_size: int | Sequence[int | None] | None, return_indices: bool = False
) -> Tensor:
    """Maxima over bins of images, so that the output has the given size; with `return_indices` also their flat positions.

    Equation:
      S = T if R = 0, else R
      y[n, c, t] = max_{0 ≤ u < T, ⌊t T / S⌋ ≤ u, u < ⌈(t + 1) T / S⌉}(x[n, c, u])  for 0 ≤ t < S
      (x: input (N, C, T); R: output_size or 0; one for each spatial axis: t, u, R, S, T)

    >>> import anynet as an
    >>> an.nn.functional.adaptive_max_pool2d(an.ones((1, 1, 4, 4)), 2).shape
    (1, 1, 2, 2)
    """
    _check("adaptive_max_pool2d", input, 2)
    return pooling.adaptive_max_pool(
        input, output_size, axes=2, return_indices=return_indices, where="adaptive_max_pool2d"
    )


@equation(adaptive_avg_pool1d)
@shared_docstring(_ADAPTIVE, 3)
def adaptive_avg_pool3d(input: ArrayLike, output_size: int | Sequence[int | None] | None) -> Tensor:
    """Means over bins of volumes, so that the output has the given size.

    Equation:
      S = T if R = 0, else R
      y[n, c, t] = mean_{0 ≤ u < T, ⌊t T / S⌋ ≤ u, u < ⌈(t + 1) T / S⌉}(x[n, c, u])  for 0 ≤ t < S
      (x: input (N, C, T); R: output_size or 0; one for each spatial axis: t, u, R, S, T)

    >>> import anynet as an
    >>> an.nn.functional.adaptive_avg_pool3d(an.ones((1, 1, 4, 4, 4)), 2).shape
    (1, 1, 2, 2, 2)
    """
    _check("adaptive_avg_pool3d", input, 3)
    return pooling.adaptive_avg_pool(input, output_size, axes=3, where="adaptive_avg_pool3d")


@equation(adaptive_max_pool1d)
@shared_docstring(_ADAPTIVE, 3)
def adaptive_max_pool3d(
    input: ArrayLike, output_size: int | Sequence[int | None] | None, return_indices: bool = False
) -> Tensor:
    """Maxima over bins of volumes, so that the output has the given size; with `return_indices` also their flat positions.

    Equation:
      S = T if R = 0, else R
      y[n, c, t] = max_{0 ≤ u < T, ⌊t T / S⌋ ≤ u, u < ⌈(t + 1) T / S⌉}(x[n, c, u])  for 0 ≤ t < S
      (x: input (N, C, T); R: output_size or 0; one for each spatial axis: t, u, R, S, T)

    >>> import anynet as an
    >>> an.nn.functional.adaptive_max_pool3d(an.ones((1, 1, 4, 4, 4)), 2).shape
    (1, 1, 2, 2, 2)
    """
    _check("adaptive_max_pool3d", input, 3)
    return pooling.adaptive_max_pool(
        input, output_size, axes=3, return_indices=return_indices, where="adaptive_max_pool3d"
    )


@equation(
    "M = ceil((T - k) / s) + 1 if ceil_mode else (T - k) // s + 1",
    "L = M - 1 if ceil_mode and (M - 1) * s >= T else M",
    "m[t: L] = min(s * t + k, T) - s * t",
    "y[n, c, t: L] = (sum[i: k](x[n, c, s * t + i]**q) * prod(k) / prod(m[t]))**(1 / q)",
    where="x[N?, C, T] = input; q = norm_type; k = kernel_size; s = stride or kernel_size; ceil_mode",
    spatial="t i s k m T M L",
)
@shared_docstring(_LP_POOL, 1)
def lp_pool1d(
    input: ArrayLike, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm, without absolute values, of each window of sequences; p is `norm_type`.

    Equation:
      M = ⌈(T − k) / s⌉ + 1 if ceil_mode, else ⌊(T − k) / s⌋ + 1
      L = M − 1 if ceil_mode and (M − 1) s ≥ T, else M
      m[t] = min(s t + k, T) − s t  for 0 ≤ t < L
      y[n, c, t] = (Σ_{0 ≤ i < k} x[n, c, s t + i]^q · (Π k) / (Π mₜ))^(1 / q)  for 0 ≤ t < L
      (x: input (N, C, T); q: norm_type; k: kernel_size; s: stride or kernel_size; ceil_mode; one for each spatial axis: t, i,
      s, k, m, T, M, L)

    >>> import anynet as an
    >>> an.nn.functional.lp_pool1d(an.asarray([[3.0, 4.0, 0.0, 2.0]]), 2.0, 2).tolist()
    [[5.0, 2.0]]
    """
    _check("lp_pool1d", input, 1)
    return pooling.lp_pool(
        input, norm_type, kernel_size, stride, ceil_mode=ceil_mode, axes=1, where="lp_pool1d"
    )


@equation(lp_pool1d)
@shared_docstring(_LP_POOL, 2)
def lp_pool2d(
    input: ArrayLike, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm, without absolute values, of each window of images; p is `norm_type`.

    Equation:
      M = ⌈(T − k) / s⌉ + 1 if ceil_mode, else ⌊(T − k) / s⌋ + 1
      L = M − 1 if ceil_mode and (M − 1) s ≥ T, else M
      m[t] = min(s t + k, T) − s t  for 0 ≤ t < L
      y[n, c, t] = (Σ_{0 ≤ i < k} x[n, c, s t + i]^q · (Π k) / (Π mₜ))^(1 / q)  for 0 ≤ t < L
      (x: input (N, C, T); q: norm_type; k: kernel_size; s: stride or kernel_size; ceil_mode; one for each spatial axis: t, i,
      s, k, m, T, M, L)

    >>> import anynet as an
    >>> an.nn.functional.lp_pool2d(an.ones((1, 1, 4, 4)), 2.0, 2).shape
    (1, 1, 2, 2)
    """
    _check("lp_pool2d", input, 2)
    return pooling.lp_pool(
        input, norm_type, kernel_size, stride, ceil_mode=ceil_mode, axes=2, where="lp_pool2d"
    )


@equation(lp_pool1d)
@shared_docstring(_LP_POOL, 3)
def lp_pool3d(
    input: ArrayLike, norm_type: float, kernel_size: Size, stride: Size | None = None, ceil_mode: bool = False
) -> Tensor:
    """The p-norm, without absolute values, of each window of volumes; p is `norm_type`.

    Equation:
      M = ⌈(T − k) / s⌉ + 1 if ceil_mode, else ⌊(T − k) / s⌋ + 1
      L = M − 1 if ceil_mode and (M − 1) s ≥ T, else M
      m[t] = min(s t + k, T) − s t  for 0 ≤ t < L
      y[n, c, t] = (Σ_{0 ≤ i < k} x[n, c, s t + i]^q · (Π k) / (Π mₜ))^(1 / q)  for 0 ≤ t < L
      (x: input (N, C, T); q: norm_type; k: kernel_size; s: stride or kernel_size; ceil_mode; one for each spatial axis: t, i,
      s, k, m, T, M, L)

    >>> import anynet as an
    >>> an.nn.functional.lp_pool3d(an.ones((1, 1, 4, 4, 4)), 2.0, 2).shape
    (1, 1, 2, 2, 2)
    """
    _check("lp_pool3d", input, 3)
    return pooling.lp_pool(
        input, norm_type, kernel_size, stride, ceil_mode=ceil_mode, axes=3, where="lp_pool3d"
    )


def _unpool(
    where: str, axes: int, x: Any, indices: Any, kernel: Any, stride: Any, padding: Any, output_size: Any
) -> Tensor:
    kernel = spread_option(kernel, axes, "kernel_size", where)
    stride = kernel if stride is None else spread_option(stride, axes, "stride", where)
    padding = spread_option(padding, axes, "padding", where, 0)
    if len(x.shape) not in (axes + 1, axes + 2) or tuple(x.shape) != tuple(indices.shape):
        msg = (
            f"{where}: input and indices must have the same shape, of {axes + 2} axes (batch, channels, *spatial) or "
            f"{axes + 1} without the batch, got {tuple(x.shape)} and {tuple(indices.shape)}"
        )
        raise ValueError(msg)
    lead, spatial = tuple(x.shape[:-axes]), tuple(x.shape[-axes:])
    usual = tuple(
        (n - 1) * s - 2 * p + k for n, s, p, k in zip(spatial, stride, padding, kernel, strict=True)
    )
    out = usual if output_size is None else tuple(int(n) for n in output_size)[-axes:]
    if any(not u - s < o < u + s for u, s, o in zip(usual, stride, out, strict=True)):
        msg = f"{where}: output_size must differ from {usual} by less than the stride {stride}, got {out}"
        raise ValueError(msg)
    plain = unwrap(indices)
    xp = backend_of(plain)
    room, groups = math.prod(out), math.prod(lead)
    flat = xp.reshape(plain, (groups, math.prod(spatial)))

    def in_range(found: Any) -> None:
        if bool(backend_of(found).any((found < 0) | (found >= room))):
            msg = f"{where}: indices must be in [0, {room - 1}] for an output of size {out}, got {bounds(found)}"
            raise ValueError(msg)

    xp.check(in_range, flat, within=room)
    begin = xp.reshape(xp.arange(groups, dtype=plain.dtype, device=plain.device) * room, (groups, 1))
    index = xp.reshape(flat + begin, (-1,))
    whole = (groups * room, 1)
    y = scatter_rows(reshape(x, (-1, 1)), index=index, shape=whole)
    if any(s < k for s, k in zip(stride, kernel, strict=True)):  # windows overlap: an index may occur twice
        ones = xp.ones((index.shape[0], 1), dtype=unwrap(x).dtype, device=plain.device)
        times = xp.clip(unwrap(scatter_rows(ones, index=index, shape=whole)), 1.0)
        # assigned, not added: the gradient is that of each assignment, as in PyTorch
        more = unwrap(y) - unwrap(y) / times
        y = y - wrap(more)
    return reshape(y, (*lead, *out))


@equation(
    "L = (T - 1) * s - 2 * p + k if R == 0 else R",
    "F = prod(L)",
    "y[n, c, f: F] = sum[t](x[n, c, t] * [I[n, c, t] == f])",
    where="""
        x[N?, C, T] = input
        I[N?, C, T] = indices: places in the flattened output, each once
        k = kernel_size
        s = stride or kernel_size
        p = padding
        R = output_size or 0
    """,
    spatial="t T L k s p R",
)
@shared_docstring(_MAX_UNPOOL, 1)
def max_unpool1d(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """The maxima of `max_pool1d` back at their places, zeros elsewhere.

    Equation:
      L = (T − 1) s − 2 p + k if R = 0, else R
      F = Π L
      y[n, c, f] = Σ_t x[n, c, t] · [I[n, c, t] = f]  for 0 ≤ f < F
      (x: input (N, C, T); I: indices (N, C, T): places in the flattened output, each once; k: kernel_size; s: stride or
      kernel_size; p: padding; R: output_size or 0; one for each spatial axis: t, T, L, k, s, p, R)

    >>> import anynet as an
    >>> an.nn.functional.max_unpool1d(an.asarray([[[5.0, 7.0]]]), an.asarray([[[1, 2]]]), 2).tolist()
    [[[0.0, 5.0, 7.0, 0.0]]]
    """
    return _unpool("max_unpool1d", 1, input, indices, kernel_size, stride, padding, output_size)


@equation(max_unpool1d)
@shared_docstring(_MAX_UNPOOL, 2)
def max_unpool2d(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """The maxima of `max_pool2d` back at their places, zeros elsewhere.

    Equation:
      L = (T − 1) s − 2 p + k if R = 0, else R
      F = Π L
      y[n, c, f] = Σ_t x[n, c, t] · [I[n, c, t] = f]  for 0 ≤ f < F
      (x: input (N, C, T); I: indices (N, C, T): places in the flattened output, each once; k: kernel_size; s: stride or
      kernel_size; p: padding; R: output_size or 0; one for each spatial axis: t, T, L, k, s, p, R)

    >>> import anynet as an
    >>> an.nn.functional.max_unpool2d(an.asarray([[[[5.0]]]]), an.asarray([[[[0]]]]), 2).shape
    (1, 1, 2, 2)
    """
    return _unpool("max_unpool2d", 2, input, indices, kernel_size, stride, padding, output_size)


@equation(max_unpool1d)
@shared_docstring(_MAX_UNPOOL, 3)
def max_unpool3d(
    input: ArrayLike,
    indices: ArrayLike,
    kernel_size: Size,
    stride: Size | None = None,
    padding: Size = 0,
    output_size: Sequence[int] | None = None,
) -> Tensor:
    """The maxima of `max_pool3d` back at their places, zeros elsewhere.

    Equation:
      L = (T − 1) s − 2 p + k if R = 0, else R
      F = Π L
      y[n, c, f] = Σ_t x[n, c, t] · [I[n, c, t] = f]  for 0 ≤ f < F
      (x: input (N, C, T); I: indices (N, C, T): places in the flattened output, each once; k: kernel_size; s: stride or
      kernel_size; p: padding; R: output_size or 0; one for each spatial axis: t, T, L, k, s, p, R)

    >>> import anynet as an
    >>> an.nn.functional.max_unpool3d(an.asarray([[[[[5.0]]]]]), an.asarray([[[[[0]]]]]), 2).shape
    (1, 1, 2, 2, 2)
    """
    return _unpool("max_unpool3d", 3, input, indices, kernel_size, stride, padding, output_size)


def _fractional(
    where: str, input: Any, kernel_size: Size, output_size: Any, output_ratio: Any, return_indices: bool, samples: Any, axes: int
) -> Tensor:  # fmt: skip
    if len(input.shape) not in (axes + 1, axes + 2):
        msg = (
            f"{where}: input must be (n, c, *spatial) or (c, *spatial) with {axes} axes of space, got shape "
            f"{tuple(input.shape)}"
        )
        raise ShapeError(msg)
    batched = len(input.shape) == axes + 2
    x = input if batched else expand_dims(input, axis=0)
    n, c, *spatial = x.shape
    kernel = spread_option(kernel_size, axes, "kernel_size", where)
    out = _fractional_size(where, tuple(spatial), kernel, output_size, output_ratio)
    xp = backend_of(unwrap(x))
    index = _window_index(xp, _units(where, x, samples, axes), tuple(spatial), kernel, out)
    flat = reshape(x, (n, c, math.prod(spatial)))
    values = xp.reshape(
        xp.take_along_axis(unwrap(flat), xp.reshape(index, (n, c, math.prod(index.shape[2:]))), axis=2),
        tuple(index.shape),
    )
    best = xp.reshape(unwrap(argmax(values, axis=-1)), (n, c, math.prod(out), 1))
    chosen = xp.reshape(xp.take_along_axis(index, xp.astype(best, xp.int64), axis=-1), (n, c, math.prod(out)))
    y = reshape(take_along_axis(flat, chosen, axis=2), (n, c, *out))
    where_from = Tensor(xp.reshape(chosen, (n, c, *out)))
    if not batched:
        y, where_from = y[0, ...], where_from[0, ...]
    return (y, where_from) if return_indices else y  # type: ignore[return-value]


def _fractional_size(
    where: str, spatial: tuple[int, ...], kernel: tuple[int, ...], size: Any, ratio: Any
) -> tuple[int, ...]:
    """The size of the output, given itself or as a ratio to that of the input."""
    axes = len(spatial)
    if (size is None) == (ratio is None):
        msg = (
            f"{where}: exactly one of output_size and output_ratio must be given, got {size!r} and {ratio!r}"
        )
        raise ValueError(msg)
    if size is None:
        ratios = ratio if isinstance(ratio, Sequence) else (ratio,) * axes
        if len(ratios) != axes or not all(0 < r < 1 for r in ratios):
            msg = f"{where}: output_ratio must be in (0, 1), a number or {axes} of them, got {ratio!r}"
            raise ValueError(msg)
        size = tuple(int(k * r) for k, r in zip(spatial, ratios, strict=True))
    out = spread_option(size, axes, "output_size", where)
    if any(o + k - 1 > n for o, k, n in zip(out, kernel, spatial, strict=True)):
        msg = f"{where}: {out} windows of {kernel} do not fit into {spatial}; output_size + kernel_size − 1 must be at most that"
        raise ValueError(msg)
    return out


def _units(where: str, x: Any, samples: Any, axes: int) -> Any:
    """The uniform numbers (n, c, axes) of the windows, drawn or given."""
    plain = unwrap(x)
    xp = backend_of(plain)
    n, c = plain.shape[:2]
    if samples is None:
        units = streams.next_units(xp, n * c * axes, plain.dtype, xp.device_of(plain))
    else:
        given = tuple(samples.shape)
        if len(given) != 3 or given[0] < n or given[1] < c or given[2] != axes:
            msg = f"{where}: _random_samples must have shape {(n, c, axes)}, got {given}"
            raise ShapeError(msg)
        units = unwrap(samples)[:n, :c, :]
    return xp.reshape(units, (n, c, axes))


def _window_index(
    xp: Backend, units: Array, spatial: tuple[int, ...], kernel: tuple[int, ...], out: tuple[int, ...]
) -> Array:
    """The flat places of the elements of each window, (n, c, windows, elements).

    Window i begins at ⌊(i + u) α⌋ − ⌊u α⌋ with α = (size − kernel) / (output − 1), the last at size − kernel.
    """
    n, c, axes = units.shape
    device = xp.native_device(xp.device_of(units))
    index: Any = None
    for axis, (size, k, o) in enumerate(zip(spatial, kernel, out, strict=True)):
        # PyTorch draws width before height for images, and from the first axis on for volumes
        u = units[..., axes - 1 - axis if axes == 2 else axis]
        starts: list[Any] = []
        if o > 1:
            alpha = (size - k) / (o - 1)
            first = xp.floor(u * alpha)
            starts = [xp.floor((u + i) * alpha) - first for i in range(o - 1)]
        last = xp.zeros((n, c), dtype=u.dtype, device=device) + float(size - k)
        begin = xp.astype(xp.stack([*starts, last], axis=-1), xp.int64)  # (n, c, o)
        window = xp.arange(k, dtype=xp.int64, device=device)
        at = xp.reshape(begin, (*begin.shape, 1)) + window  # (n, c, o, k)
        along = [o if a == axis else 1 for a in range(axes)] + [k if a == axis else 1 for a in range(axes)]
        at = xp.reshape(at, (n, c, *along))
        index = at if index is None else index * size + at
    index = xp.broadcast_to(index, (n, c, *out, *kernel))
    return xp.reshape(index, (n, c, math.prod(out), math.prod(kernel)))


@equation(
    "u ~ Uniform(0, 1)",
    "S = R if R > 0 else floor(T * ρ)",
    "α = (T - k) / (S - 1) if S > 1 else 0",
    "a[n: N, c: C, t: S] = floor((t + u[n, c]) * α) - floor(u[n, c] * α) if t < S - 1 else T - k",
    "y[n, c, t: S] = max[i: k](x[n, c, a[n, c, t] + i])",
    where="""
        x[N?, C, T] = input
        k = kernel_size
        R = output_size or 0
        ρ = output_ratio or 1
        u[N, C]: a number for each example, channel and axis
    """,
    spatial="t i k R S T α a u ρ",
)
@shared_docstring(_FRACTIONAL, 2)
def fractional_max_pool2d(
    input: ArrayLike,
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: ArrayLike | None = None,
) -> Tensor:
    """The largest element of windows of images at random places, about size / output from one another.

    Equation:
      u ∼ Uniform(0, 1)
      S = R if R > 0, else ⌊T ρ⌋
      α = (T − k) / (S − 1) if S > 1, else 0
      a[n, c, t] = ⌊(t + u[n, c]) α⌋ − ⌊u[n, c] α⌋ if t < S − 1, else T − k  for 0 ≤ n < N, 0 ≤ c < C, 0 ≤ t < S
      y[n, c, t] = max_{0 ≤ i < k}(x[n, c, a[n, c, t] + i])  for 0 ≤ t < S
      (x: input (N, C, T); k: kernel_size; R: output_size or 0; ρ: output_ratio or 1; u: (N, C): a number for each example,
      channel and axis; one for each spatial axis: t, i, k, R, S, T, α, a, u, ρ)

    >>> import anynet as an
    >>> an.nn.functional.fractional_max_pool2d(an.ones((1, 1, 5, 5)), 2, output_size=3).shape
    (1, 1, 3, 3)
    """
    return _fractional(
        "fractional_max_pool2d",
        input,
        kernel_size,
        output_size,
        output_ratio,
        return_indices,
        _random_samples,
        2,
    )


@equation(fractional_max_pool2d)
@shared_docstring(_FRACTIONAL, 3)
def fractional_max_pool3d(
    input: ArrayLike,
    kernel_size: Size,
    output_size: Size | None = None,
    output_ratio: float | Sequence[float] | None = None,
    return_indices: bool = False,
    _random_samples: ArrayLike | None = None,
) -> Tensor:
    """The largest element of windows of volumes at random places, about size / output from one another.

    Equation:
      u ∼ Uniform(0, 1)
      S = R if R > 0, else ⌊T ρ⌋
      α = (T − k) / (S − 1) if S > 1, else 0
      a[n, c, t] = ⌊(t + u[n, c]) α⌋ − ⌊u[n, c] α⌋ if t < S − 1, else T − k  for 0 ≤ n < N, 0 ≤ c < C, 0 ≤ t < S
      y[n, c, t] = max_{0 ≤ i < k}(x[n, c, a[n, c, t] + i])  for 0 ≤ t < S
      (x: input (N, C, T); k: kernel_size; R: output_size or 0; ρ: output_ratio or 1; u: (N, C): a number for each example,
      channel and axis; one for each spatial axis: t, i, k, R, S, T, α, a, u, ρ)

    >>> import anynet as an
    >>> an.nn.functional.fractional_max_pool3d(an.ones((1, 1, 5, 5, 5)), 2, output_ratio=0.5).shape
    (1, 1, 2, 2, 2)
    """
    return _fractional(
        "fractional_max_pool3d",
        input,
        kernel_size,
        output_size,
        output_ratio,
        return_indices,
        _random_samples,
        3,
    )
