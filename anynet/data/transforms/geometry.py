"""Where each pixel comes from: flips, crops, rotations, affine maps.

All of it is gathers at integer positions. Positions between pixels are fixed-point numbers (16 bits after the point, as Pillow's), so
that no rounding depends on the backend: pictures of uint8 have the same bits everywhere, floating-point pictures too, since four
products are added in one order.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from anynet.data.transforms.transform import Transform, probability
from anynet_backends import Array, backend_of

__all__ = [
    "CenterCrop", "Pad", "RandomAffine", "RandomCrop", "RandomHorizontalFlip", "RandomResizedCrop", "RandomRotation",
    "RandomVerticalFlip", "Resize",
]  # fmt: skip

MODES = ("constant", "edge", "reflect", "wrap")
_BITS = 16
_ONE = 1 << _BITS
_WEIGHT_BITS = 11  # 2 × 11 bits of weights and 8 of the pixel fit into an int32


# ----- gathers -----


def inside(xp: Any, at: Array, size: int, mode: str) -> Array:
    """Positions along an axis, moved to where they are read from: for "constant" the nearest pixel, too."""
    if mode == "reflect" and size > 1:
        period = 2 * size - 2
        at = xp.remainder(at, period)
        return xp.where(at >= size, period - at, at)
    if mode == "wrap":
        return xp.remainder(at, size)
    return xp.clip(at, 0, size - 1)


def gather(x: Array, rows: Array, columns: Array, mode: str = "constant", fill: float = 0) -> Array:
    """y[n, c, i, j] = x[n, c, rows[n, i], columns[n, j]]; rows (n or 1, h) and columns (n or 1, w) are on the host."""
    xp, hx = backend_of(x), backend_of(rows)
    n, c, height, width = map(int, x.shape)
    device = xp.device_of(x)
    i = xp.from_host(inside(hx, rows, height, mode) * width, device)
    j = xp.from_host(inside(hx, columns, width, mode), device)
    pictures = xp.arange(n * c, dtype=xp.int64, device=x.device) * (height * width)
    at = xp.reshape(pictures, (n, c, 1, 1)) + i[:, None, :, None] + j[:, None, None, :]
    y = xp.reshape(xp.take(xp.reshape(x, (-1,)), xp.reshape(at, (-1,)), axis=0), at.shape)
    if mode != "constant":
        return y
    there_i, there_j = (rows >= 0) & (rows < height), (columns >= 0) & (columns < width)
    if bool(hx.all(there_i)) and bool(hx.all(there_j)):
        return y
    there = xp.from_host(there_i, device)[:, None, :, None] & xp.from_host(there_j, device)[:, None, None, :]
    return xp.where(there, y, xp.asarray(fill, dtype=x.dtype, device=x.device))


def warp(
    x: Array,
    matrices: Array,
    size: tuple[int, int] | None = None,
    interpolation: str = "bilinear",
    mode: str = "constant",
    fill: float = 0,
) -> Array:
    """Pictures sampled at affine positions: the pixel at (j, i) of the result is what lies at a j' + b i' + c, d j' + e i' + f in the
    picture, where j' = j + 1/2 and i' = i + 1/2, with ``matrices`` (n, 6) rows (a, b, c, d, e, f) on the host, as Pillow's.
    """
    xp, hx = backend_of(x), backend_of(matrices)
    height, width = map(int, x.shape[2:])
    h, w = (height, width) if size is None else size
    fixed = xp.from_host(hx.astype(hx.floor(matrices * _ONE + 0.5), "int64"), xp.device_of(x))
    start = hx.floor((matrices[:, 2::3] + (matrices[:, 0::3] + matrices[:, 1::3]) / 2) * _ONE + 0.5)
    start = xp.from_host(hx.astype(start, "int64"), xp.device_of(x))[:, :, None, None]
    j = xp.arange(w, dtype=xp.int64, device=x.device)[None, None, :]
    i = xp.arange(h, dtype=xp.int64, device=x.device)[None, :, None]
    m = fixed[:, :, None, None]
    across = m[:, 0, ...] * j + m[:, 1, ...] * i + start[:, 0, ...]  # (n, h, w), where it is read
    down = m[:, 3, ...] * j + m[:, 4, ...] * i + start[:, 1, ...]
    if interpolation == "nearest":
        y = _pixels(x, xp.bitwise_right_shift(down, _BITS), xp.bitwise_right_shift(across, _BITS), mode)
    else:
        y = _bilinear(x, down - _ONE // 2, across - _ONE // 2, mode)
    if mode != "constant":
        return y
    there = (down >= 0) & (down < height * _ONE) & (across >= 0) & (across < width * _ONE)
    return xp.where(there[:, None, :, :], y, xp.asarray(fill, dtype=x.dtype, device=x.device))


def _pixels(x: Array, rows: Array, columns: Array, mode: str) -> Array:
    """y[n, c, i, j] = x[n, c, rows[n, i, j], columns[n, i, j]]."""
    xp = backend_of(x)
    n, c, height, width = map(int, x.shape)
    at = inside(xp, rows, height, mode) * width + inside(xp, columns, width, mode)
    pictures = xp.arange(n * c, dtype=xp.int64, device=x.device) * (height * width)
    at = xp.reshape(pictures, (n, c, 1, 1)) + at[:, None, :, :]
    return xp.reshape(xp.take(xp.reshape(x, (-1,)), xp.reshape(at, (-1,)), axis=0), at.shape)


def _bilinear(x: Array, down: Array, across: Array, mode: str) -> Array:
    xp = backend_of(x)
    i, j = xp.bitwise_right_shift(down, _BITS), xp.bitwise_right_shift(across, _BITS)
    whole = x.dtype == xp.uint8
    one = 1 << _WEIGHT_BITS

    def weights(at: Array) -> tuple[Array, Array]:
        part = xp.bitwise_right_shift(xp.bitwise_and(at, _ONE - 1), _BITS - _WEIGHT_BITS)[:, None, :, :]
        w1 = xp.astype(part, xp.int32 if whole else x.dtype)
        return (one - w1, w1) if whole else (1.0 - w1 * (1 / one), w1 * (1 / one))

    def row(at: Array) -> Array:
        left, right = _pixels(x, at, j, mode), _pixels(x, at, j + 1, mode)
        if whole:
            left, right = xp.astype(left, xp.int32), xp.astype(right, xp.int32)
        return left * across_weights[0] + right * across_weights[1]

    down_weights, across_weights = weights(down), weights(across)
    y = row(i) * down_weights[0] + row(i + 1) * down_weights[1]
    if whole:
        y = xp.astype(xp.bitwise_right_shift(y + (1 << (2 * _WEIGHT_BITS - 1)), 2 * _WEIGHT_BITS), xp.uint8)
    return y


def affine_matrices(
    hx: Any,
    angle: Array,
    translate: tuple[Array, Array],
    scale: Array,
    shear: tuple[Array, Array],
    size: tuple[int, int],
) -> Array:
    """(n, 6) for `warp`: the inverses of: shear, scale, rotate clockwise (degrees) about the centre, move right and down, as
    torchvision's affine."""
    to_radians = math.pi / 180
    rot, sx, sy = angle * to_radians, shear[0] * to_radians, shear[1] * to_radians
    a = hx.cos(rot - sy) / hx.cos(sy)
    b = -hx.cos(rot - sy) * hx.tan(sx) / hx.cos(sy) - hx.sin(rot)
    c = hx.sin(rot - sy) / hx.cos(sy)
    d = -hx.sin(rot - sy) * hx.tan(sx) / hx.cos(sy) + hx.cos(rot)
    cy, cx = size[0] / 2, size[1] / 2
    right, down = -cx - translate[0], -cy - translate[1]
    inverse = [d / scale, -b / scale, -c / scale, a / scale]
    e = inverse[0] * right + inverse[1] * down + cx
    f = inverse[2] * right + inverse[3] * down + cy
    return hx.stack([inverse[0], inverse[1], e, inverse[2], inverse[3], f], axis=1)


def crops(hx: Any, top: Array, left: Array, height: Array, width: Array, size: tuple[int, int]) -> Array:
    """(n, 6) for `warp`: a part of each picture, stretched to `size`."""
    a, e = width / size[1], height / size[0]
    zero = 0.0 * a
    return hx.stack([a, zero, left + zero, zero, e, top + zero], axis=1)


def flip(x: Array, which: Array, axis: int) -> Array:
    """The pictures where `which` (n,) on the host is true, mirrored along an axis."""
    xp = backend_of(x)
    flags = xp.from_host(which, xp.device_of(x))[:, None, None, None]
    return xp.where(flags, xp.flip(x, axis=axis), x)


# ----- transforms -----


class RandomHorizontalFlip(Transform):
    """Each picture mirrored left to right with probability `p`.

    >>> import anynet as an
    >>> an.data.transforms.RandomHorizontalFlip(1.0)(an.asarray([[[1.0, 2.0]]])).tolist()
    [[[2.0, 1.0]]]
    """

    draws, _axis = 1, 3

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(type(self).__name__, p)

    def apply(self, x: Array, u: Array) -> Array:
        return flip(x, u[:, 0] < self.p, self._axis)


class RandomVerticalFlip(RandomHorizontalFlip):
    """Each picture turned upside down with probability `p`."""

    _axis = 2


class RandomCrop(Transform):
    """A part of `size` (height, width, or one number) at a random place of the picture with `padding` pixels around it.

    `padding` is a number, (left and right, top and bottom), or (left, top, right, bottom); what stands there says `padding_mode`:
    "constant" (`fill`), "edge", "reflect" or "wrap". All places are equally likely. Errors: ValueError for a padded picture smaller
    than `size`.

    >>> import anynet as an
    >>> crop = an.data.transforms.RandomCrop(32, padding=4, padding_mode="reflect")
    >>> crop(an.zeros((2, 3, 32, 32), dtype=an.uint8)).shape
    (2, 3, 32, 32)
    """

    draws = 2

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] = 0,
        padding_mode: str = "constant",
        fill: float = 0,
    ) -> None:
        self.size = pair("RandomCrop: size", size)
        self.padding = _sides("RandomCrop", padding)
        self.padding_mode = choice_of("RandomCrop: padding_mode", padding_mode, MODES)
        self.fill = number("RandomCrop: fill", fill)

    def apply(self, x: Array, u: Array) -> Array:
        hx = backend_of(u)
        left, top, right, bottom = self.padding
        rooms = (
            int(x.shape[2]) + top + bottom - self.size[0],
            int(x.shape[3]) + left + right - self.size[1],
        )
        if min(rooms) < 0:
            msg = f"RandomCrop: pictures of {tuple(x.shape[2:])} with padding {self.padding} are smaller than size={self.size}"
            raise ValueError(msg)
        offsets = [whole_draws(hx, u[:, k], rooms[k] + 1) - before for k, before in enumerate((top, left))]
        rows, columns = (
            o[:, None] + hx.arange(size)[None, :] for o, size in zip(offsets, self.size, strict=True)
        )
        return gather(x, rows, columns, self.padding_mode, self.fill)


class CenterCrop(Transform):
    """The middle of `size` (height, width, or one number); where the picture is smaller, `fill` around it.

    >>> import anynet as an
    >>> an.data.transforms.CenterCrop(1)(an.asarray([[[1.0, 2.0, 3.0]] * 3])).tolist()
    [[[2.0]]]
    """

    def __init__(self, size: int | Sequence[int], fill: float = 0) -> None:
        self.size, self.fill = pair("CenterCrop: size", size), number("CenterCrop: fill", fill)

    def apply(self, x: Array, u: Array) -> Array:
        hx = backend_of(u)
        tops = [(int(x.shape[2 + k]) - self.size[k]) // 2 for k in (0, 1)]
        rows, columns = (
            hx.arange(top, top + size)[None, :] for top, size in zip(tops, self.size, strict=True)
        )
        return gather(x, rows, columns, "constant", self.fill)


class Pad(Transform):
    """Pixels around each picture; the options are `RandomCrop`'s.

    >>> import anynet as an
    >>> an.data.transforms.Pad(1, padding_mode="edge")(an.asarray([[[1.0, 2.0]]])).tolist()
    [[[1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0], [1.0, 1.0, 2.0, 2.0]]]
    """

    def __init__(self, padding: int | Sequence[int], padding_mode: str = "constant", fill: float = 0) -> None:
        self.padding = _sides("Pad", padding)
        self.padding_mode = choice_of("Pad: padding_mode", padding_mode, MODES)
        self.fill = number("Pad: fill", fill)

    def apply(self, x: Array, u: Array) -> Array:
        hx = backend_of(u)
        left, top, right, bottom = self.padding
        rows = hx.arange(-top, int(x.shape[2]) + bottom)[None, :]
        columns = hx.arange(-left, int(x.shape[3]) + right)[None, :]
        return gather(x, rows, columns, self.padding_mode, self.fill)


class Resize(Transform):
    """Pictures stretched to `size` (height, width, or one number).

    The two nearest pixels along each axis are weighted ("bilinear"), or the nearest is taken ("nearest"). Nothing is smoothed before, so
    pictures that get smaller than half lose detail; files are resized better when they are read (`ImageFolder(size=…)`).

    >>> import anynet as an
    >>> an.data.transforms.Resize((1, 2))(an.asarray([[[1.0, 3.0, 5.0, 9.0]]])).tolist()
    [[[2.0, 7.0]]]
    """

    def __init__(self, size: int | Sequence[int], interpolation: str = "bilinear") -> None:
        self.size = pair("Resize: size", size)
        self.interpolation = choice_of("Resize: interpolation", interpolation, _INTERPOLATIONS)

    def apply(self, x: Array, u: Array) -> Array:
        hx = backend_of(u)
        height, width = map(int, x.shape[2:])
        zero = hx.zeros((int(x.shape[0]),))
        matrices = crops(hx, zero, zero, zero + height, zero + width, self.size)
        return warp(x, matrices, self.size, self.interpolation, "edge")


class RandomResizedCrop(Transform):
    """A part of each picture of random area and shape, stretched to `size` (as in Inception's training, and torchvision).

    The area is uniform in `scale` times the picture's, the logarithm of width / height uniform in that of `ratio`; of ten tries the
    first that fits is taken, else the middle of the picture.

    >>> import anynet as an
    >>> an.data.transforms.RandomResizedCrop(16)(an.zeros((2, 3, 32, 40), dtype=an.uint8)).shape
    (2, 3, 16, 16)
    """

    draws = 22

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.08, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = "bilinear",
    ) -> None:
        self.size = pair("RandomResizedCrop: size", size)
        self.scale = interval("RandomResizedCrop: scale", scale, 0.0, 1.0)
        self.ratio = interval("RandomResizedCrop: ratio", ratio, 0.0)
        self.interpolation = choice_of("RandomResizedCrop: interpolation", interpolation, _INTERPOLATIONS)

    def apply(self, x: Array, u: Array) -> Array:
        hx = backend_of(u)
        height, width = map(int, x.shape[2:])
        h, w, found = windows(hx, u[:, :20], (height, width), self.scale, self.ratio)
        shape = width / height  # where nothing fits: as large as it can be, of the nearest ratio
        middle_w = width if shape <= self.ratio[1] else round(height * self.ratio[1])
        middle_h = height if shape >= self.ratio[0] else round(width / self.ratio[0])
        h, w = hx.where(found, h, middle_h), hx.where(found, w, middle_w)
        top = hx.where(found, hx.floor(u[:, 20] * (height - h + 1)), (height - h) // 2)
        left = hx.where(found, hx.floor(u[:, 21] * (width - w + 1)), (width - w) // 2)
        return warp(x, crops(hx, top, left, h, w, self.size), self.size, self.interpolation, "edge")


def windows(
    hx: Any, u: Array, size: tuple[int, int], scale: tuple[float, float], ratio: tuple[float, float]
) -> tuple[Array, Array, Array]:
    """(heights, widths, whether one was found) of rectangles within `size`: the first of ten tries that fits; u is (n, 20)."""
    area = size[0] * size[1] * (scale[0] + u[:, :10] * (scale[1] - scale[0]))
    low, high = math.log(ratio[0]), math.log(ratio[1])
    shape = hx.exp(low + u[:, 10:20] * (high - low))
    w, h = hx.round(hx.sqrt(area * shape)), hx.round(hx.sqrt(area / shape))
    fits = (w >= 1) & (w <= size[1]) & (h >= 1) & (h <= size[0])
    first = hx.argmax(hx.astype(fits, "int64"), axis=1)[:, None]
    return tuple(hx.take_along_axis(a, first, axis=1)[:, 0] for a in (h, w, fits))


class RandomRotation(Transform):
    """Each picture turned about its centre by an angle from `degrees` (low, high), or (−d, d) for one number; anticlockwise.

    What comes in from outside says `padding_mode`, as for `RandomCrop`; `interpolation` is "bilinear" or "nearest". The size stays.

    >>> import anynet as an
    >>> an.data.transforms.RandomRotation((90, 90))(an.asarray([[[1.0, 2.0], [3.0, 4.0]]])).tolist()
    [[[2.0, 4.0], [1.0, 3.0]]]
    """

    draws = 1

    def __init__(
        self,
        degrees: float | Sequence[float],
        interpolation: str = "bilinear",
        padding_mode: str = "constant",
        fill: float = 0,
    ) -> None:
        self.degrees = _symmetric("RandomRotation: degrees", degrees)
        self.interpolation = choice_of("RandomRotation: interpolation", interpolation, _INTERPOLATIONS)
        self.padding_mode = choice_of("RandomRotation: padding_mode", padding_mode, MODES)
        self.fill = number("RandomRotation: fill", fill)

    def apply(self, x: Array, u: Array) -> Array:
        hx = backend_of(u)
        zero = 0.0 * u[:, 0]
        angle = -within(u[:, 0], self.degrees)
        matrices = affine_matrices(hx, angle, (zero, zero), zero + 1.0, (zero, zero), _size(x))
        return warp(x, matrices, None, self.interpolation, self.padding_mode, self.fill)


class RandomAffine(Transform):
    """Each picture turned, moved, scaled and sheared, as torchvision's.

    Parameters:
      degrees: the angle, from (low, high), or (−d, d) for one number; clockwise.
      translate: the largest moves (a, b): from −a to a times the width, and from −b to b times the height, whole pixels.
      scale: the factor, from (low, high).
      shear: degrees parallel to the x axis from (low, high), or (−s, s) for one number; of four numbers the last two are
        for the y axis.
      interpolation: "bilinear" or "nearest".
      padding_mode, fill: what comes in from outside, as for `RandomCrop`.

    >>> import anynet as an
    >>> an.data.transforms.RandomAffine(10, translate=(0.1, 0.1), scale=(0.9, 1.1))(an.ones((2, 3, 8, 8))).shape
    (2, 3, 8, 8)
    """

    draws = 6

    def __init__(
        self,
        degrees: float | Sequence[float] = 0.0,
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: float | Sequence[float] | None = None,
        interpolation: str = "bilinear",
        padding_mode: str = "constant",
        fill: float = 0,
    ) -> None:
        where = "RandomAffine"
        self.degrees = _symmetric(f"{where}: degrees", degrees)
        self.translate = (0.0, 0.0) if translate is None else _fractions(f"{where}: translate", translate)
        self.scale = (1.0, 1.0) if scale is None else interval(f"{where}: scale", scale, 0.0)
        values = (
            [0.0]
            if shear is None
            else list(shear)
            if isinstance(shear, Sequence)
            else [number(f"{where}: shear", shear)]
        )
        if len(values) not in (1, 2, 4):
            msg = f"{where}: shear must be one number, two or four, got {shear!r}"
            raise ValueError(msg)
        across = values[0] if len(values) == 1 else values[:2]
        self.shear = (
            *_symmetric(f"{where}: shear", across),
            *(_symmetric(f"{where}: shear", values[2:]) if len(values) == 4 else (0.0, 0.0)),
        )
        self.interpolation = choice_of(f"{where}: interpolation", interpolation, _INTERPOLATIONS)
        self.padding_mode = choice_of(f"{where}: padding_mode", padding_mode, MODES)
        self.fill = number("RandomAffine: fill", fill)

    def apply(self, x: Array, u: Array) -> Array:
        hx = backend_of(u)
        height, width = size = _size(x)
        a, b = self.translate
        moves = (
            hx.round(within(u[:, 1], (-a * width, a * width))),
            hx.round(within(u[:, 2], (-b * height, b * height))),
        )
        shear = within(u[:, 4], self.shear[:2]), within(u[:, 5], self.shear[2:])
        matrices = affine_matrices(
            hx, within(u[:, 0], self.degrees), moves, within(u[:, 3], self.scale), shear, size
        )
        return warp(x, matrices, None, self.interpolation, self.padding_mode, self.fill)


# ----- draws and options -----

_INTERPOLATIONS = ("bilinear", "nearest")


def within(u: Array, bounds: Sequence[float]) -> Array:
    """Uniform numbers between two bounds."""
    return bounds[0] + u * (bounds[1] - bounds[0])


def whole_draws(hx: Any, u: Array, count: int) -> Array:
    """Uniform integers 0 … count − 1 (int64)."""
    return hx.astype(hx.floor(u * count), "int64")


def _size(x: Array) -> tuple[int, int]:
    return int(x.shape[2]), int(x.shape[3])


def pair(where: str, size: int | Sequence[int]) -> tuple[int, int]:
    """(height, width) from one number or two."""
    both = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, Sequence) else ()
    if len(both) != 2 or any(not isinstance(s, int) or isinstance(s, bool) or s < 1 for s in both):
        msg = f"{where} must be a positive integer or (height, width), got {size!r}"
        raise ValueError(msg)
    return both[0], both[1]


def _sides(where: str, padding: int | Sequence[int]) -> tuple[int, int, int, int]:
    given = tuple(padding) if isinstance(padding, Sequence) else (padding,)
    if len(given) not in (1, 2, 4) or any(not isinstance(p, int) or p < 0 for p in given):
        msg = f"{where}: padding must be one, two or four integers ≥ 0, got {padding!r}"
        raise ValueError(msg)
    left, top, right, bottom = given * (4 // len(given))
    return left, top, right, bottom


def number(where: str, given: float) -> float:
    """A finite number."""
    if isinstance(given, bool) or not isinstance(given, Real) or not math.isfinite(given):
        msg = f"{where} must be a number, got {given!r}"
        raise ValueError(msg)
    return given


def interval(where: str, given: Sequence[float], least: float, most: float = math.inf) -> tuple[float, float]:
    """(low, high) with least ≤ low ≤ high ≤ most."""
    both = tuple(given) if isinstance(given, Sequence) else ()
    if (
        len(both) != 2
        or not least <= both[0] <= both[1] <= most
        or both[1] == 0
        or not math.isfinite(both[1])
    ):
        msg = f"{where} must be (low, high) with {least:g} ≤ low ≤ high" + (
            f" ≤ {most:g}" if math.isfinite(most) else ""
        )
        raise ValueError(f"{msg}, got {given!r}")
    return float(both[0]), float(both[1])


def _symmetric(where: str, given: float | Sequence[float]) -> tuple[float, float]:
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        if not 0 <= given < math.inf:
            msg = f"{where} must be ≥ 0, or (low, high), got {given!r}"
            raise ValueError(msg)
        return -float(given), float(given)
    both = tuple(given) if isinstance(given, Sequence) else ()
    if len(both) != 2 or not -math.inf < both[0] <= both[1] < math.inf:
        msg = f"{where} must be a number, or (low, high), got {given!r}"
        raise ValueError(msg)
    return float(both[0]), float(both[1])


def _fractions(where: str, given: Sequence[float]) -> tuple[float, float]:
    both = tuple(given) if isinstance(given, Sequence) else ()
    if len(both) != 2 or not all(0 <= v <= 1 for v in both):
        msg = f"{where} must be two numbers in [0, 1], got {given!r}"
        raise ValueError(msg)
    return float(both[0]), float(both[1])


def choice_of(where: str, given: str, options: Sequence[str]) -> str:
    """One of some words."""
    if given not in options:
        msg = f"{where} must be {', '.join(map(repr, options[:-1]))} or {options[-1]!r}, got {given!r}"
        raise ValueError(msg)
    return given
