"""Images at another size, and images as columns of patches: linear maps along each axis.

Interpolation along an axis of length n to length m is a matrix (m, n), so that an image is resized by one product an axis:
Y = A_h X A_wᵀ. Its gradient is the product with the transposes.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Sequence
from typing import Any

from anynet import dtypes
from anynet.autograd.primitive import adjoint, primitive
from anynet.equations import equation
from anynet.ops.convolution import spread_option
from anynet.ops.manipulation import reshape
from anynet.ops.pooling import adaptive_avg_pool
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend, backend_of
from anynet_backends.interpolation import Axis, places, weights

__all__ = ["fold", "interpolate", "unfold"]

Size = int | Sequence[int]
_AXES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}
_FLOATS = ("real floating", "complex floating")


@primitive
def resample(xp: Backend, x: Array, *, axes: tuple[Axis, ...]) -> Array:
    """The last axes of x at other sizes, each of them a linear map."""
    for at, axis in enumerate(axes, len(x.shape) - len(axes)):
        if axis[0].startswith("nearest"):
            x = xp.take(x, _integers(xp, x, places(axis)), axis=at)
        else:
            x = _product(xp, x, at, weights(axis))
    return x


@primitive
def resample_back(xp: Backend, x: Array, *, axes: tuple[Axis, ...]) -> Array:
    """The transpose of `resample`."""
    for at, axis in enumerate(axes, len(x.shape) - len(axes)):
        if axis[0].startswith("nearest"):
            x = _repeats(xp, x, at, axis)
        else:
            x = _product(xp, x, at, tuple(zip(*weights(axis), strict=True)))
    return x


adjoint(resample, resample_back)


def _integers(xp: Backend, like: Array, values: Sequence[int]) -> Array:
    return xp.asarray(list(values), dtype=xp.int64, device=xp.native_device(xp.device_of(like)))


def _product(xp: Backend, x: Array, at: int, matrix: Sequence[Sequence[float]]) -> Array:
    """The matrix times the axis `at` of x."""
    w = xp.asarray([list(row) for row in matrix], dtype=x.dtype, device=xp.native_device(xp.device_of(x)))
    return xp.moveaxis(xp.matmul(xp.moveaxis(x, at, -1), xp.matrix_transpose(w)), -1, at)


def _repeats(xp: Backend, g: Array, at: int, axis: Axis) -> Array:
    """Σ of the outputs that repeat an input: the k-th of all inputs that have so many, for each k."""
    taken = places(axis)
    counts = [taken.count(j) for j in range(axis[1])]
    first = [sum(counts[:j]) for j in range(axis[1])]
    total = None
    for k in range(max(counts)):
        index = [f + k if k < c else 0 for f, c in zip(first, counts, strict=True)]
        part = xp.take(g, _integers(xp, g, index), axis=at)
        if min(counts) <= k:
            has = xp.reshape(
                _integers(xp, g, [int(k < c) for c in counts]), (-1, *(1,) * (len(g.shape) - at - 1))
            )
            part = xp.where(has == 1, part, xp.zeros((), dtype=g.dtype, device=has.device))
        total = part if total is None else total + part
    return total


def _check_mode(
    where: str, shape: tuple[int, ...], mode: str, align_corners: bool | None, antialias: bool
) -> None:
    axes = len(shape) - 2
    if axes not in (1, 2, 3):
        msg = f"{where}: input must have the axes (batch, channels, *spatial) with one to three of space, got shape {shape}"
        raise ValueError(msg)
    if mode not in ("nearest", "nearest-exact", "area", *_AXES) or _AXES.get(mode, axes) != axes:
        fits = ", ".join(repr(m) for m, n in _AXES.items() if n == axes)
        msg = f"{where}: mode must be 'nearest', 'nearest-exact', 'area' or, for {axes} axes of space, one of {fits}; got {mode!r}"
        raise ValueError(msg)
    if align_corners is not None and mode not in _AXES:
        msg = f"{where}: align_corners is for the linear and cubic modes, got mode {mode!r}; leave it out"
        raise ValueError(msg)
    if antialias and mode not in ("bilinear", "bicubic"):
        msg = f"{where}: antialias needs mode 'bilinear' or 'bicubic', got {mode!r}"
        raise ValueError(msg)


def _output_size(
    where: str,
    spatial: tuple[int, ...],
    size: int | Sequence[int] | None,
    scale_factor: float | Sequence[float] | None,
    recompute_scale_factor: bool | None,
) -> tuple[tuple[int, ...], tuple[float, ...] | None]:
    """The size of the output, and the factors that give the step, None where it follows from the sizes."""
    axes = len(spatial)
    if (size is None) == (scale_factor is None):
        msg = (
            f"{where}: exactly one of size and scale_factor must be given, got {size!r} and {scale_factor!r}"
        )
        raise ValueError(msg)
    if size is not None:
        if recompute_scale_factor:
            msg = f"{where}: recompute_scale_factor needs scale_factor, got size={size!r}"
            raise ValueError(msg)
        return spread_option(size, axes, "size", where), None
    given = scale_factor if isinstance(scale_factor, Sequence) else (scale_factor,) * axes
    factors = tuple(float(f) for f in given)  # type: ignore[arg-type]
    out = tuple(math.floor(n * f) for n, f in zip(spatial, factors, strict=True))
    if min(out) < 1:
        msg = f"{where}: each axis of the output must have a pixel, got the size {out} from scale_factor={scale_factor!r}"
        raise ValueError(msg)
    return out, None if recompute_scale_factor else factors


@equation(
    "S = floor(T * φ) if R == 0 else R",
    "ρ = (T - 1) / max(S - 1, 1) if align else T / S if R != 0 or again else 1 / φ",
    "u[t: S] = t * ρ if align and not antialias else (t + 1 / 2) * ρ - 1 / 2",
    "a = -1 / 2 if antialias else -3 / 4",
    "h[t: S, k: T + 4] = abs(k - 2 - u[t]) / (max(ρ, 1) if antialias else 1)",
    """
        κ[t: S, k: T + 4] = max(0, 1 - h[t, k]) if mode != "bicubic" else ((a + 2) * h[t, k] - a - 3) * h[t, k]**2 + 1 if h[t, k] < 1
            else a * (((h[t, k] - 5) * h[t, k] + 8) * h[t, k] - 4) if h[t, k] < 2 else 0
        e[t: S] = floor(t * T / S) if mode == "area" else min(floor((t + 1 / 2 if mode == "nearest-exact" else t) * ρ), T - 1)
        f[t: S] = ceil((t + 1) * T / S) if mode == "area" else e[t] + 1
    """,
    """
        w[t: S, i: T] = [e[t] <= i < f[t]] / (f[t] - e[t]) if mode == "area" or mode == "nearest" or mode == "nearest-exact" else
            κ[t, i + 2] / sum[k: T](κ[t, k + 2]) if antialias else sum[k](κ[t, k] * [i == clip(k - 2, 0, T - 1)])
    """,
    "y[n, c, t: S] = sum[i: T](x[n, c, i] * prod(w[t, i]))",
    where="""
        x[N, C, T] = input
        R = size or 0
        φ = scale_factor or 1
        again = recompute_scale_factor or 0
        align = align_corners or 0
        antialias = antialias or 0
        mode
    """,
    spatial="t i k u h κ e f w T S R φ ρ",
)
def interpolate(
    input: ArrayLike,
    size: int | Sequence[int] | None = None,
    scale_factor: float | Sequence[float] | None = None,
    mode: str = "nearest",
    align_corners: bool | None = None,
    recompute_scale_factor: bool | None = None,
    antialias: bool = False,
) -> Tensor:
    """An image (n, c, *spatial) at another size, given as `size` or as `scale_factor`.

    `mode`: "nearest" (the pixel at ⌊i n/m⌋, as PyTorch has it), "nearest-exact" (at ⌊(i + ½) n/m⌋), "linear", "bilinear",
    "trilinear", "bicubic" (cubic convolution, Keys 1981), "area" (means of what each output covers). `align_corners` puts the
    centres of the corner pixels on each other, else their outer edges. `antialias` widens the filter where the image
    shrinks (bilinear and bicubic). With `recompute_scale_factor` the step follows from the rounded size.

    A pixel that is not finite may make outputs of its row and column NaN in the linear and cubic modes, which are
    products of matrices; in the others only those that cover it.

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
    >>> an.nn.functional.interpolate(an.asarray([[[0.0, 2.0]]]), scale_factor=2.0, mode="linear")
    Tensor([[[0. , 0.5, 1.5, 2. ]]])
    """
    where = "interpolate"
    shape = tuple(input.shape)
    _check_mode(where, shape, mode, align_corners, antialias)
    spatial = shape[2:]
    out, factors = _output_size(where, spatial, size, scale_factor, recompute_scale_factor)
    if mode == "area":
        return adaptive_avg_pool(input, out, axes=len(spatial), where=where)
    kind = "cubic" if mode == "bicubic" else mode if mode.startswith("nearest") else "linear"
    plain = unwrap(input)
    if not mode.startswith("nearest") and not backend_of(plain).isdtype(plain.dtype, _FLOATS):
        msg = f"{where}: mode {mode!r} needs an input of a floating-point dtype, got {dtypes.of(plain.dtype)}; use anynet.astype"
        raise TypeError(msg)
    steps = (
        [n / m for n, m in zip(spatial, out, strict=True)] if factors is None else [1.0 / f for f in factors]
    )
    each = zip(spatial, out, steps, strict=True)
    return resample(
        input, axes=tuple((kind, n, m, step, bool(align_corners), antialias) for n, m, step in each)
    )


# ----- patches -----

Ints = tuple[int, ...]


@functools.lru_cache(maxsize=256)
def _offsets(out: Ints, kernel: Ints, stride: Ints, dilation: Ints) -> list[tuple[slice, ...]]:
    """For each offset of a window, the key of what stands there, for all windows."""
    lead = (slice(None), slice(None))
    return [
        (*lead, *(slice(a * d, a * d + s * (o - 1) + 1, s) for a, d, s, o in zip(at, dilation, stride, out, strict=True)))
        for at in itertools.product(*map(range, kernel))
    ]  # fmt: skip


def _inside(size: Sequence[int], padding: Ints) -> tuple[slice, ...]:
    return (slice(None), slice(None), *(slice(p, p + n) for n, p in zip(size, padding, strict=True)))


@primitive
def patches(
    xp: Backend, x: Array, *, size: Ints, out: Ints, kernel: Ints, stride: Ints, dilation: Ints, padding: Ints
) -> Array:
    """(n, c, *size) → (n, c, offsets, *out): what stands at each offset of a window, for all windows of an image with zeros around it."""
    if any(padding):
        wide = (*x.shape[:2], *(n + 2 * p for n, p in zip(size, padding, strict=True)))
        image = xp.zeros(wide, dtype=x.dtype, device=xp.native_device(xp.device_of(x)))
        image[_inside(size, padding)] = x
        x = image
    return xp.stack([x[key] for key in _offsets(out, kernel, stride, dilation)], axis=2)


@primitive
def patches_sum(
    xp: Backend, g: Array, *, size: Ints, out: Ints, kernel: Ints, stride: Ints, dilation: Ints, padding: Ints
) -> Array:
    """(n, c, offsets, *out) → (n, c, *size): the transpose of `patches`."""
    wide = (*g.shape[:2], *(n + 2 * p for n, p in zip(size, padding, strict=True)))
    x = xp.zeros(wide, dtype=g.dtype, device=xp.native_device(xp.device_of(g)))
    for i, key in enumerate(_offsets(out, kernel, stride, dilation)):
        x[key] += g[:, :, i, ...]
    return xp.asarray(x[_inside(size, padding)], copy=True) if any(padding) else x


adjoint(patches, patches_sum)


def _patches(where: str, options: tuple[Any, ...], size: Ints) -> tuple[int, Ints, dict[str, Ints]]:
    """The number of offsets, the number of places along each axis, and the options of `patches`."""
    kernel = spread_option(options[0], 2, "kernel_size", where)
    dilation = spread_option(options[1], 2, "dilation", where)
    padding = spread_option(options[2], 2, "padding", where, 0)
    stride = spread_option(options[3], 2, "stride", where)
    out = tuple(
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, k, d, p, s in zip(size, kernel, dilation, padding, stride, strict=True)
    )
    if min(out) < 1:
        msg = (
            f"{where}: kernel {kernel} with dilation {dilation} does not fit into {size} padded by {padding}"
        )
        raise ValueError(msg)
    given = {
        "size": size,
        "out": out,
        "kernel": kernel,
        "stride": stride,
        "dilation": dilation,
        "padding": padding,
    }
    return math.prod(kernel), out, given


@equation(
    "L1 = (H + 2 * p1 - d1 * (k1 - 1) - 1) // s1 + 1",
    "L2 = (W + 2 * p2 - d2 * (k2 - 1) - 1) // s2 + 1",
    """
        y[n, q: C * k1 * k2, l: L1 * L2] = x[n, q // (k1 * k2), s1 * (l // L2) + d1 * (q // k2 % k1) - p1, s2 * (l % L2)
            + d2 * (q % k2) - p2]
    """,
    where="""
        x[N?, C, H, W] = input
        k1 = kernel_size[0]
        k2 = kernel_size[1]
        s1 = stride[0]
        s2 = stride[1]
        p1 = padding[0]
        p2 = padding[1]
        d1 = dilation[0]
        d2 = dilation[1]
    """,
    result="y",
)
def unfold(
    input: ArrayLike,
    kernel_size: Size,
    dilation: Size = 1,
    padding: Size = 0,
    stride: Size = 1,
) -> Tensor:
    """(n, c, h, w) → (n, c · kernel, places): each column holds what the kernel sees at one place (im2col).

    Equation:
      L₁ = ⌊(H + 2 p₁ − d₁ · (k₁ − 1) − 1) / s₁⌋ + 1
      L₂ = ⌊(W + 2 p₂ − d₂ · (k₂ − 1) − 1) / s₂⌋ + 1
      y[n, q, l] = x[n, ⌊q / (k₁ k₂)⌋, s₁ ⌊l / L₂⌋ + d₁ · (⌊q / k₂⌋ mod k₁) − p₁, s₂ · (l mod L₂) + d₂ · (q mod k₂) − p₂]  for
          0 ≤ q < C k₁ k₂, 0 ≤ l < L₁ L₂
      (x: input (N, C, H, W); k₁: kernel_size[0]; k₂: kernel_size[1]; s₁: stride[0]; s₂: stride[1]; p₁: padding[0]; p₂:
      padding[1]; d₁: dilation[0]; d₂: dilation[1])

    >>> import anynet as an
    >>> an.nn.functional.unfold(an.ones((1, 3, 10, 12)), (4, 5)).shape
    (1, 60, 56)
    """
    shape = tuple(input.shape)
    if len(shape) not in (3, 4):
        msg = f"unfold: input must have the axes (batch, channels, height, width), or three without the batch, got shape {shape}"
        raise ValueError(msg)
    if len(shape) == 3:
        return reshape(
            y := unfold(reshape(input, (1, *shape)), kernel_size, dilation, padding, stride),
            tuple(y.shape[1:]),
        )
    cells, out, given = _patches("unfold", (kernel_size, dilation, padding, stride), shape[2:])
    return reshape(patches(input, **given), (shape[0], shape[1] * cells, math.prod(out)))


@equation(
    "L2 = (W + 2 * p2 - d2 * (k2 - 1) - 1) // s2 + 1",
    "C = Q // (k1 * k2)",
    """
        y[n, c: C, u: H, v: W] = sum[i: k1, j: k2, l, s1 * (l // L2) + d1 * i - p1 == u, s2 * (l % L2) + d2 * j - p2 ==
            v](x[n, (c * k1 + i) * k2 + j, l])
    """,
    where="""
        x[N?, Q, L] = input
        H = output_size[0]
        W = output_size[1]
        k1 = kernel_size[0]
        k2 = kernel_size[1]
        s1 = stride[0]
        s2 = stride[1]
        p1 = padding[0]
        p2 = padding[1]
        d1 = dilation[0]
        d2 = dilation[1]
    """,
    result="y",
)
def fold(
    input: ArrayLike,
    output_size: Size,
    kernel_size: Size,
    dilation: Size = 1,
    padding: Size = 0,
    stride: Size = 1,
) -> Tensor:
    """(n, c · kernel, places) → (n, c, *output_size): each column added to where `unfold` takes it from (col2im).

    Equation:
      L₂ = ⌊(W + 2 p₂ − d₂ · (k₂ − 1) − 1) / s₂⌋ + 1
      C = ⌊Q / (k₁ k₂)⌋
      y[n, c, u, v] = Σ_{0 ≤ i < k₁, 0 ≤ j < k₂, l, s₁ ⌊l / L₂⌋ + d₁ i − p₁ = u, s₂ · (l mod L₂) + d₂ j − p₂ = v} x[n, (c k₁ +
          i) k₂ + j, l]  for 0 ≤ c < C, 0 ≤ u < H, 0 ≤ v < W
      (x: input (N, Q, L); H: output_size[0]; W: output_size[1]; k₁: kernel_size[0]; k₂: kernel_size[1]; s₁: stride[0]; s₂:
      stride[1]; p₁: padding[0]; p₂: padding[1]; d₁: dilation[0]; d₂: dilation[1])

    >>> import anynet as an
    >>> an.nn.functional.fold(an.ones((1, 4, 4)), (3, 3), 2).tolist()
    [[[[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]]]
    """
    shape = tuple(input.shape)
    if len(shape) == 2:
        y = fold(reshape(input, (1, *shape)), output_size, kernel_size, dilation, padding, stride)
        return reshape(y, tuple(y.shape[1:]))
    size = spread_option(output_size, 2, "output_size", "fold")
    options = (kernel_size, dilation, padding, stride)
    cells, out, given = _patches("fold", options, size)
    if len(shape) != 3 or shape[1] % cells or shape[2] != math.prod(out):
        msg = (
            f"fold: input must be (batch, channels · {cells}, {math.prod(out)}) for output_size {size} and kernel {given['kernel']}, "
            f"got shape {shape}"
        )
        raise ValueError(msg)
    return patches_sum(reshape(input, (shape[0], shape[1] // cells, cells, *out)), **given)
