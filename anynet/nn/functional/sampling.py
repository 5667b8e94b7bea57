"""Images read at places between their pixels, and pooling over windows at random places."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

from anynet import random
from anynet.nn.errors import ShapeError
from anynet.ops import creation
from anynet.ops import elementwise as e
from anynet.ops.convolution import spread_option
from anynet.ops.indexing import take_along_axis
from anynet.ops.manipulation import astype, broadcast_to, expand_dims, permute_dims, reshape, stack
from anynet.ops.reductions import argmax
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = [
    "affine_grid", "fractional_max_pool2d", "fractional_max_pool3d", "grid_sample",
]  # fmt: skip

Size = int | Sequence[int]


def affine_grid(theta: ArrayLike, size: Sequence[int], align_corners: bool | None = None) -> Tensor:
    """Where `grid_sample` reads so that the output is the input under an affine map: theta (n, 2, 3) and size (n, c, h, w) →
    (n, h, w, 2) of (x, y); theta (n, 3, 4) and size (n, c, d, h, w) → (n, d, h, w, 3) of (x, y, z).

    Places run from −1 to 1 over the centres of the outermost pixels (`align_corners`), or over their outer edges.

    >>> import anynet as an
    >>> an.nn.functional.affine_grid(an.asarray([[[1.0, 0.0, 0.5], [0.0, 1.0, 0.0]]]), (1, 1, 1, 2))[0, 0]
    Tensor([[0., 0.],
            [1., 0.]])

    Source: Jaderberg et al.: Spatial transformer networks (2015), equation 1.
    """
    axes = len(size) - 2
    if axes not in (2, 3) or tuple(theta.shape) != (size[0], axes, axes + 1) or min(size) < 1:
        msg = (
            f"affine_grid: theta is (n, 2, 3) for a size (n, c, h, w) or (n, 3, 4) for (n, c, d, h, w), got {tuple(theta.shape)} "
            f"and {tuple(size)}"
        )
        raise ValueError(msg)
    spatial = tuple(int(k) for k in size[2:])
    lines = []
    for axis in reversed(range(axes)):  # x is the last axis
        k = spatial[axis]
        reach = 1.0 if align_corners else (k - 1) / k
        line = (
            creation.linspace(-reach, reach, k, dtype=theta.dtype, device=theta.device)
            if k > 1
            else creation.zeros(1, dtype=theta.dtype, device=theta.device)
        )
        lines.append(broadcast_to(reshape(line, [k if a == axis else 1 for a in range(axes)]), spatial))
    lines.append(creation.ones(spatial, dtype=theta.dtype, device=theta.device))
    base = reshape(stack(lines, axis=-1), (1, math.prod(spatial), axes + 1))
    return reshape(base @ permute_dims(theta, (0, 2, 1)), (size[0], *spatial, axes))


def _reflected(x: Any, low: float, high: float) -> Any:
    """x mirrored into [low, high]."""
    span = high - low
    if span <= 0:
        return e.where(e.isnan(x), x, 0.0)
    x = e.abs(x - low)
    turns = e.floor(x / span)
    rest = x - turns * span
    return e.where(e.equal(e.remainder(turns, 2.0), 0.0), rest, span - rest) + low


def _placed(grid: Any, padding_mode: str) -> Any:
    """Coordinates that can be rounded to an index: −1 for what is no number, or too far away to have a mirror image."""
    if padding_mode == "reflection":
        return e.where(e.abs(grid) < 1e30, grid, -1.0)
    return e.clip(e.where(e.isnan(grid), -1.0, grid), -8.0, 8.0)  # beyond, all that is read is padding


def _inside(x: Any, k: int, padding_mode: str, align_corners: bool) -> Any:
    """A coordinate in pixels brought into the image, as the padding has it."""
    if padding_mode == "zeros":
        return x
    if padding_mode == "reflection":
        x = _reflected(x, 0.0, k - 1.0) if align_corners else _reflected(x, -0.5, k - 0.5)
    return e.where(
        x <= 0.0, 0.0, e.where(x >= k - 1.0, k - 1.0, x)
    )  # on the edge there is no gradient, as in PyTorch


def _read(flat: Any, places: Sequence[Any], spatial: tuple[int, ...], zeros: bool) -> Any:
    """flat (n, c, pixels) at whole-numbered places, one array (n, outputs) of floats for each axis; 0 outside."""
    n, c, _ = flat.shape
    index: Any = 0
    some: Any = None
    for x, k in zip(places, spatial, strict=True):
        if zeros:
            here = e.logical_and(x >= 0.0, x <= k - 1.0)
            some = here if some is None else e.logical_and(some, here)
        index = index * k + astype(e.clip(x, 0.0, k - 1.0), "int64")
    index = index.detach() if isinstance(index, Tensor) else index
    values = take_along_axis(flat, broadcast_to(expand_dims(index, axis=1), (n, c, index.shape[1])), axis=2)
    return values if some is None else e.where(expand_dims(some, axis=1), values, 0.0)


def _cubic(t: Any) -> list[Any]:
    """The weights of the four pixels around a place at distance t from the second (Keys 1981, a = −0.75)."""
    a = -0.75

    def near(x: Any) -> Any:
        return ((a + 2) * x - (a + 3)) * x * x + 1

    def far(x: Any) -> Any:
        return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a

    return [far(t + 1.0), near(t), near(1.0 - t), far(2.0 - t)]


def grid_sample(
    input: ArrayLike,
    grid: ArrayLike,
    mode: str = "bilinear",
    padding_mode: str = "zeros",
    align_corners: bool | None = None,
) -> Tensor:
    """input (n, c, h, w) read at grid (n, h', w', 2) of (x, y) → (n, c, h', w'); or (n, c, d, h, w) at (n, d', h', w', 3).

    −1 and 1 are the centres of the outermost pixels (`align_corners`) or their outer edges. `mode`: "bilinear" (also of
    volumes), "nearest" (halves to even) or "bicubic" (images only). Outside the image `padding_mode` "zeros", "border" or
    "reflection". NaN in the grid is read as −1, as PyTorch documents it, and so is what is beyond 1e30 under "reflection";
    such places have no gradient.

    >>> import anynet as an
    >>> x = an.asarray([[[[1.0, 3.0]]]])
    >>> an.nn.functional.grid_sample(x, an.asarray([[[[0.0, 0.0]]]])).item()
    2.0

    Source: Jaderberg et al.: Spatial transformer networks (2015), equation 3.
    """
    axes = len(input.shape) - 2
    shapes = f"got input {tuple(input.shape)} and grid {tuple(grid.shape)}"
    if (
        axes not in (2, 3)
        or len(grid.shape) != axes + 2
        or grid.shape[0] != input.shape[0]
        or grid.shape[-1] != axes
    ):
        msg = f"{shapes}: expected (n, c, h, w) and (n, h', w', 2), or (n, c, d, h, w) and (n, d', h', w', 3)"
        raise ShapeError(msg)
    if mode not in ("bilinear", "nearest", "bicubic") or (mode == "bicubic" and axes == 3):
        msg = f"grid_sample: mode is 'bilinear', 'nearest' or, for images, 'bicubic', got {mode!r}"
        raise ValueError(msg)
    if padding_mode not in ("zeros", "border", "reflection"):
        msg = f"grid_sample: padding_mode is 'zeros', 'border' or 'reflection', got {padding_mode!r}"
        raise ValueError(msg)
    spatial = tuple(input.shape[2:])
    if 0 in spatial:
        msg = f"{shapes}: the image has no pixels"
        raise ShapeError(msg)
    align, zeros = bool(align_corners), padding_mode == "zeros"
    n, c = input.shape[:2]
    flat = reshape(input, (n, c, math.prod(spatial)))
    outputs = tuple(grid.shape[1:-1])
    points = reshape(_placed(grid, padding_mode), (n, math.prod(outputs), axes))
    places = []
    total: Any = None
    for axis, k in enumerate(spatial):
        x = points[..., axes - 1 - axis]
        places.append((x + 1.0) * ((k - 1) / 2.0) if align else ((x + 1.0) * float(k) - 1.0) / 2.0)
    if mode == "bicubic":
        corners = [e.floor(x) for x in places]
        weights = [_cubic(x - x0) for x, x0 in zip(places, corners, strict=True)]
        for taps in itertools.product(range(4), repeat=axes):
            at = [
                _inside(x0 + (t - 1.0), k, padding_mode, align)
                for x0, t, k in zip(corners, taps, spatial, strict=True)
            ]
            weight: Any = math.prod([w[t] for w, t in zip(weights, taps, strict=True)], start=1.0)
            part = _read(flat, at, spatial, zeros) * expand_dims(weight, axis=1)
            total = part if total is None else total + part
        return reshape(total, (n, c, *outputs))
    places = [_inside(x, k, padding_mode, align) for x, k in zip(places, spatial, strict=True)]
    if mode == "nearest":
        return reshape(_read(flat, [e.round(x) for x in places], spatial, zeros), (n, c, *outputs))
    corners = [e.floor(x) for x in places]
    for taps in itertools.product((0, 1), repeat=axes):
        at = [x0 + float(t) for x0, t in zip(corners, taps, strict=True)]
        weight = math.prod(
            [x - x0 if t else x0 + 1.0 - x for x, x0, t in zip(places, corners, taps, strict=True)], start=1.0
        )
        # a corner outside the image has the weight 0 unless there are zeros there
        part = _read(flat, at, spatial, zeros) * expand_dims(weight, axis=1)
        total = part if total is None else total + part
    return reshape(total, (n, c, *outputs))


# ----- fractional pooling -----


def _fractional(
    where: str, input: Any, kernel_size: Size, output_size: Any, output_ratio: Any, return_indices: bool, samples: Any, axes: int
) -> Tensor:  # fmt: skip
    if len(input.shape) not in (axes + 1, axes + 2):
        msg = f"{where}: got {tuple(input.shape)}, expected (n, c, *spatial) or (c, *spatial) of {axes} axes"
        raise ShapeError(msg)
    kernel = spread_option(kernel_size, axes, "kernel_size", where)
    if (output_size is None) == (output_ratio is None):
        msg = f"{where}: give either output_size or output_ratio"
        raise ValueError(msg)
    batched = len(input.shape) == axes + 2
    x = input if batched else expand_dims(input, axis=0)
    n, c, *spatial = x.shape
    if output_size is None:
        ratios = output_ratio if isinstance(output_ratio, Sequence) else (output_ratio,) * axes
        if len(ratios) != axes or not all(0 < r < 1 for r in ratios):
            msg = f"{where}: output_ratio lies between 0 and 1, got {output_ratio!r}"
            raise ValueError(msg)
        output_size = tuple(int(k * r) for k, r in zip(spatial, ratios, strict=True))
    out = spread_option(output_size, axes, "output_size", where)
    if any(o + k - 1 > size for o, k, size in zip(out, kernel, spatial, strict=True)):
        msg = f"{where}: {out} windows of {kernel} do not fit into {tuple(spatial)}"
        raise ValueError(msg)
    plain = unwrap(x)
    xp = backend_of(plain)
    device = xp.device_of(plain)
    if samples is None:
        units = random.next_units(xp, n * c * axes, plain.dtype, device)
    else:
        given = tuple(samples.shape)
        if len(given) != 3 or given[0] < n or given[1] < c or given[2] != axes:
            msg = f"{where}: _random_samples has shape {given}, expected {(n, c, axes)}"
            raise ShapeError(msg)
        units = unwrap(samples)[:n, :c, :]
    units = xp.reshape(units, (n, c, axes))
    index: Any = None
    for axis in range(axes):
        # PyTorch draws width before height for images, and from the first axis on for volumes
        u = units[..., axes - 1 - axis if axes == 2 else axis]
        size, k, o = spatial[axis], kernel[axis], out[axis]
        starts: list[Any] = []
        if o > 1:
            alpha = (size - k) / (o - 1)
            first = xp.floor(u * alpha)
            starts = [xp.floor((u + i) * alpha) - first for i in range(o - 1)]
        last = xp.zeros((n, c), dtype=u.dtype, device=xp.native_device(device)) + float(size - k)
        begin = xp.astype(xp.stack([*starts, last], axis=-1), xp.int64)  # (n, c, o)
        window = xp.arange(k, dtype=xp.int64, device=xp.native_device(device))
        at = xp.reshape(begin, (*begin.shape, 1)) + window  # (n, c, o, k)
        shape = (
            [n, c]
            + [o if a == axis else 1 for a in range(axes)]
            + [k if a == axis else 1 for a in range(axes)]
        )
        at = xp.reshape(at, tuple(shape))
        index = at if index is None else index * size + at
    index = xp.broadcast_to(index, (n, c, *out, *kernel))
    index = xp.reshape(index, (n, c, math.prod(out), math.prod(kernel)))
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


def fractional_max_pool2d(
    input: ArrayLike,
    kernel_size: Size,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Tensor:
    """The largest of windows at random places, about size / output apart: (n, c, h, w) → (n, c, *output_size) (Graham 2014).

    Give `output_size`, or `output_ratio` in (0, 1). Window i begins at ⌊(i + u) α⌋ − ⌊u α⌋, α = (size − kernel) / (output − 1),
    the last at size − kernel, with u uniform for each example and channel (`_random_samples` (n, c, 2), width first).

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


def fractional_max_pool3d(
    input: ArrayLike,
    kernel_size: Size,
    output_size: Any = None,
    output_ratio: Any = None,
    return_indices: bool = False,
    _random_samples: Any = None,
) -> Tensor:
    """As `fractional_max_pool2d`, of volumes; `_random_samples` (n, c, 3), depth first.

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
