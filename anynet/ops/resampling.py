"""Images at another size, and images as columns of patches: linear maps along each axis.

Interpolation along an axis of length n to length m is a matrix (m, n), so that an image is resized by one product an axis:
Y = A_h X A_wᵀ. Its gradient is the product with the transposes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from anynet import dtypes
from anynet.ops.convolution import spread_option
from anynet.ops.indexing import take
from anynet.ops.linear import matmul
from anynet.ops.linear import matrix_transpose as mT
from anynet.ops.manipulation import moveaxis, reshape, stack
from anynet.ops.pooling import adaptive_avg_pool, window_spread
from anynet.ops.slicing import put
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = ["fold", "interpolate", "unfold"]

Size = int | Sequence[int]
_AXES = {"linear": 1, "bilinear": 2, "bicubic": 2, "trilinear": 3}


def _cubic(t: float, a: float) -> float:
    """Keys' kernel of cubic convolution (1981)."""
    t = abs(t)
    if t < 1:
        return ((a + 2) * t - (a + 3)) * t * t + 1
    return (((t - 5) * t + 8) * t - 4) * a if t < 2 else 0.0


def _weights(
    kind: str, n: int, m: int, scale: float, align_corners: bool, antialias: bool
) -> list[list[float]]:
    """The matrix (m, n) of an axis; `scale` is the distance of two outputs in the input."""
    rows = [[0.0] * n for _ in range(m)]
    if align_corners:
        scale = (n - 1) / (m - 1) if m > 1 else 0.0
    for i, row in enumerate(rows):
        if antialias:  # a wider filter where the image shrinks
            wide = max(scale, 1.0)
            reach = wide * (1.0 if kind == "linear" else 2.0)
            centre = scale * (i + 0.5)
            first, last = max(int(centre - reach + 0.5), 0), min(int(centre + reach + 0.5), n)
            for j in range(first, last):
                t = (j - centre + 0.5) / wide
                row[j] = max(1.0 - abs(t), 0.0) if kind == "linear" else _cubic(t, -0.5)
            total = math.fsum(row)
            row[:] = [w / total for w in row]
            continue
        place = i * scale if align_corners else (i + 0.5) * scale - 0.5
        if kind == "linear":
            place = max(place, 0.0)
            low = min(math.floor(place), n - 1)
            part = place - low
            row[low] += 1.0 - part
            row[min(low + 1, n - 1)] += part
        else:
            low = math.floor(place)
            for j in range(low - 1, low + 3):
                row[min(max(j, 0), n - 1)] += _cubic(place - j, -0.75)
    return rows


def _whole(spatial: tuple[int, ...], out: tuple[int, ...], factors: tuple[float, ...] | None) -> bool:
    """Whether each pixel becomes the same number of pixels along an axis."""
    return all(
        n and m % n == 0 and (factors is None or factors[i] == m // n)
        for i, (n, m) in enumerate(zip(spatial, out, strict=True))
    )


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


def _nearest(
    x: Any, spatial: tuple[int, ...], out: tuple[int, ...], factors: tuple[float, ...] | None, exact: bool
) -> Tensor:
    """Each output takes the pixel at ⌊i n/m⌋, or at ⌊(i + ½) n/m⌋."""
    if _whole(spatial, out, factors):
        times = tuple(m // n for n, m in zip(spatial, out, strict=True))
        none = ((0, 0),) * len(out)
        return window_spread(
            x, shape=(*x.shape[:2], *out), out=spatial, kernel=times, stride=times, pads=none
        )
    plain = unwrap(x)
    xp = backend_of(plain)
    device = xp.native_device(xp.device_of(plain))
    half = 0.5 if exact else 0.0
    for axis, (n, m) in enumerate(zip(spatial, out, strict=True)):
        scale = 1.0 / factors[axis] if factors is not None else n / m
        index = [min(math.floor((i + half) * scale), n - 1) for i in range(m)]
        x = take(x, xp.asarray(index, dtype=xp.int64, device=device), axis=axis + 2)
    return x  # type: ignore[no-any-return]


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

    A pixel that is not finite makes all outputs of its row and column NaN in the linear and cubic modes, which are
    products of matrices; in the others only those that cover it.

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
    if mode.startswith("nearest"):
        return _nearest(input, spatial, out, factors, mode == "nearest-exact")
    plain = unwrap(input)
    device, dtype = backend_of(plain).device_of(plain), dtypes.of(plain.dtype)
    kind = "cubic" if mode == "bicubic" else "linear"
    x: Any = input
    for axis, (n, m) in enumerate(zip(spatial, out, strict=True)):
        scale = 1.0 / factors[axis] if factors is not None else n / m
        weights = _weights(kind, n, m, scale, bool(align_corners), antialias)
        matrix = Tensor(weights, dtype=dtype, device=device)
        x = moveaxis(matmul(moveaxis(x, axis + 2, -1), mT(matrix)), -1, axis + 2)
    return x  # type: ignore[no-any-return]


def _patches(where: str, options: tuple[Any, ...], size: tuple[int, ...]) -> tuple[Any, ...]:
    """Kernel, dilation, padding, stride, the number of places along each axis, and where each offset takes them."""
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
    keys = [
        (slice(None), slice(None), *(
            slice(a * d, a * d + s * (o - 1) + 1, s) for a, d, s, o in zip(at, dilation, stride, out, strict=True)
        )) for at in itertools.product(*map(range, kernel))
    ]  # fmt: skip
    return kernel, padding, out, keys


def unfold(
    input: ArrayLike,
    kernel_size: Size,
    dilation: Size = 1,
    padding: Size = 0,
    stride: Size = 1,
) -> Tensor:
    """(n, c, h, w) → (n, c · kernel, places): each column holds what the kernel sees at one place (im2col).

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
    n, c, h, w = shape
    kernel, (top, left), out, keys = _patches("unfold", (kernel_size, dilation, padding, stride), (h, w))
    x = input
    if top or left:
        inner = (slice(None), slice(None), slice(top, top + h), slice(left, left + w))
        x = put(x, key=inner, shape=(n, c, h + 2 * top, w + 2 * left))
    return reshape(stack([x[key] for key in keys], axis=2), (n, c * math.prod(kernel), math.prod(out)))


def fold(
    input: ArrayLike,
    output_size: Size,
    kernel_size: Size,
    dilation: Size = 1,
    padding: Size = 0,
    stride: Size = 1,
) -> Tensor:
    """(n, c · kernel, places) → (n, c, *output_size): each column added to where `unfold` takes it from (col2im).

    >>> import anynet as an
    >>> an.nn.functional.fold(an.ones((1, 4, 4)), (3, 3), 2).tolist()
    [[[[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]]]
    """
    shape = tuple(input.shape)
    if len(shape) == 2:
        y = fold(reshape(input, (1, *shape)), output_size, kernel_size, dilation, padding, stride)
        return reshape(y, tuple(y.shape[1:]))
    size = spread_option(output_size, 2, "output_size", "fold")
    kernel, (top, left), out, keys = _patches("fold", (kernel_size, dilation, padding, stride), size)
    cells = math.prod(kernel)
    if len(shape) != 3 or shape[1] % cells or shape[2] != math.prod(out):
        msg = (
            f"fold: input must be (batch, channels · {cells}, {math.prod(out)}) for output_size {size} and kernel {kernel}, "
            f"got shape {shape}"
        )
        raise ValueError(msg)
    n, c = shape[0], shape[1] // cells
    columns = reshape(input, (n, c, cells, *out))
    whole = (n, c, size[0] + 2 * top, size[1] + 2 * left)
    total: Any = None
    for i, key in enumerate(keys):
        part = put(columns[:, :, i, :, :], key=key, shape=whole)
        total = part if total is None else total + part
    inner = (slice(None), slice(None), slice(top, top + size[0]), slice(left, left + size[1]))
    return total[inner] if top or left else total  # type: ignore[no-any-return]
