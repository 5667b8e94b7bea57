"""Colours: brightness, contrast, saturation, hue, and the changes of RandAugment that keep every pixel where it is.

On uint8 they are Pillow's, bit for bit (`ImageEnhance`, `ImageOps`), but for the hue, which is that of floating-point numbers, rounded.
What a change takes of the whole picture (the mean grey of contrast, the histograms) are sums of integers, so that no order of
adding matters; all else is one operation after another on each pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anynet.data.transforms.geometry import interval, number
from anynet.data.transforms.transform import Transform, by_group, probability
from anynet_backends import Array, backend_of

__all__ = [
    "ColorJitter", "Normalize", "RandomAutocontrast", "RandomEqualize", "RandomGrayscale", "RandomInvert", "RandomPosterize",
    "RandomSolarize",
]  # fmt: skip


# ----- changes of plain batches; `amount` (n,) is on the host -----


def each(x: Array, amount: Array, dtype: Any = None) -> Array:
    """Numbers of the host, one for each picture, on x's device: (n, 1, 1, 1)."""
    xp, hx = backend_of(x), backend_of(amount)
    kind = "float32" if dtype is None else dtype
    return xp.from_host(hx.astype(amount, getattr(hx, kind)), xp.device_of(x))[:, None, None, None]


def is_bytes(x: Array) -> bool:
    """Whether pictures are of uint8."""
    return bool(x.dtype == backend_of(x).uint8)


def grey(x: Array) -> Array:
    """Pillow's L: (19595 r + 38470 g + 7471 b + 2¹⁵) / 2¹⁶, or the same weights of floats; (n, 1, height, width)."""
    xp = backend_of(x)
    if int(x.shape[1]) == 1:
        return x
    if is_bytes(x):
        wide = xp.astype(x, xp.int32)
        total = wide[:, 0:1, ...] * 19595 + wide[:, 1:2, ...] * 38470 + wide[:, 2:3, ...] * 7471 + 32768
        return xp.astype(xp.bitwise_right_shift(total, 16), xp.uint8)
    return x[:, 0:1, ...] * 0.299 + x[:, 1:2, ...] * 0.587 + x[:, 2:3, ...] * 0.114


def blend(x: Array, other: Array, amount: Array) -> Array:
    """other + amount (x − other), cut off at both ends; of uint8 without what comes after the point, as Pillow's."""
    xp = backend_of(x)
    if not is_bytes(x):
        factor = xp.astype(each(x, amount), x.dtype)
        return xp.clip(other + factor * (x - other), 0.0, 1.0)
    a, b = xp.astype(other, xp.float32), xp.astype(x, xp.float32)
    return xp.astype(xp.clip(a + each(x, amount) * (b - a), 0.0, 255.0), xp.uint8)


def brightness(x: Array, amount: Array) -> Array:
    """0: black, 1: as it is, 2: twice as bright."""
    xp = backend_of(x)
    return blend(x, xp.zeros((1, 1, 1, 1), dtype=x.dtype, device=x.device), amount)


def contrast(x: Array, amount: Array) -> Array:
    """0: the mean grey of the picture everywhere, 1: as it is."""
    xp = backend_of(x)
    g = grey(x)
    if not is_bytes(x):
        g = xp.astype(xp.clip(xp.floor(g * 255 + 0.5), 0.0, 255.0), xp.uint8)
    count = int(x.shape[2]) * int(x.shape[3])
    total = xp.sum(xp.astype(g, xp.int64), axis=(1, 2, 3), keepdims=True)
    mean = (total * 2 + count) // (2 * count)  # rounded, a half upwards
    return blend(x, xp.astype(mean, xp.uint8) if is_bytes(x) else xp.astype(mean, x.dtype) / 255, amount)


def saturation(x: Array, amount: Array) -> Array:
    """0: grey, 1: as it is."""
    return x if int(x.shape[1]) == 1 else blend(x, grey(x), amount)


def hue(x: Array, amount: Array) -> Array:
    """The hue turned by `amount` of the circle of colours, −0.5 to 0.5."""
    if int(x.shape[1]) == 1:
        return x
    xp = backend_of(x)
    whole = is_bytes(x)
    v = xp.astype(x, xp.float32) / 255.0 if whole else x
    r, g, b = (v[:, k : k + 1, ...] for k in range(3))
    high, low = xp.maximum(xp.maximum(r, g), b), xp.minimum(xp.minimum(r, g), b)
    width = high - low
    safe = xp.where(width == 0, xp.ones_like(width), width)
    red, green, blue = (high - r) / safe, (high - g) / safe, (high - b) / safe
    h = xp.where(r == high, blue - green, xp.where(g == high, 2.0 + red - blue, 4.0 + green - red)) / 6.0
    h = h + xp.astype(each(x, amount), v.dtype)
    h = (h - xp.floor(h)) * 6.0
    sector = xp.floor(h)
    part = h - sector
    s = width / xp.where(high == 0, xp.ones_like(high), high)
    p, q, t = high * (1.0 - s), high * (1.0 - s * part), high * (1.0 - s * (1.0 - part))
    i = xp.astype(sector, xp.int64) % 6

    def pick(*of: Array) -> Array:
        out = of[5]
        for k in range(5):
            out = xp.where(i == k, of[k], out)
        return out

    y = xp.concat(
        [pick(high, q, p, p, t, high), pick(t, high, high, q, p, p), pick(p, p, t, high, high, q)], axis=1
    )
    y = xp.where(width == 0, v, xp.clip(y, 0.0, 1.0))
    return xp.astype(xp.floor(y * 255.0 + 0.5), xp.uint8) if whole else y


def invert(x: Array) -> Array:
    """The largest value minus each."""
    return 255 - x if is_bytes(x) else 1.0 - x


def posterize(x: Array, bits: Array) -> Array:
    """The highest `bits` bits of each value."""
    need_bytes("posterize", x)
    xp, hx = backend_of(x), backend_of(bits)
    mask = 256 - hx.astype(2 ** (8 - hx.astype(bits, "int64")), "int64")
    return xp.bitwise_and(x, each(x, mask, "uint8"))


def solarize(x: Array, threshold: Array) -> Array:
    """Values from the threshold on inverted."""
    xp = backend_of(x)
    at = each(x, threshold)
    return xp.where(xp.astype(x, xp.float32) >= at, invert(x), x)


def autocontrast(x: Array) -> Array:
    """Each channel stretched to 0 … 255."""
    need_bytes("autocontrast", x)
    xp = backend_of(x)
    low, high = xp.min(x, axis=(2, 3), keepdims=True), xp.max(x, axis=(2, 3), keepdims=True)
    a, flat = xp.astype(low, xp.float64), high <= low
    scale = 255.0 / xp.where(flat, xp.ones_like(a), xp.astype(high, xp.float64) - a)
    y = xp.clip(
        xp.astype(x, xp.float64) * scale + -a * scale, 0.0, 255.0
    )  # in Pillow's order: what is cut off depends on it
    y = xp.astype(y, xp.uint8)
    return xp.where(flat, x, y)


def equalize(x: Array) -> Array:
    """Each channel with a histogram as even as it can be (Pillow's table)."""
    need_bytes("equalize", x)
    xp = backend_of(x)
    n, c, h, w = map(int, x.shape)
    k = n * c
    values = xp.reshape(xp.astype(x, xp.int64), (k, h * w))
    base = xp.reshape(xp.arange(k, dtype=xp.int64, device=x.device) * 256, (k, 1))
    flat = xp.sort(xp.reshape(values + base, (-1,)))
    edges = xp.arange(k * 256, dtype=xp.int64, device=x.device)
    upto = xp.searchsorted(flat, edges, side="right")
    below = xp.searchsorted(flat, edges, side="left")
    counts = xp.reshape(upto - below, (k, 256))
    before = xp.reshape(below, (k, 256)) - below[::256][:, None]
    last = xp.take_along_axis(counts, xp.max(values, axis=1, keepdims=True), axis=1)
    step = (h * w - last) // 255
    safe = xp.where(step == 0, xp.ones_like(step), step)
    table = xp.clip((before + step // 2) // safe, 0, 255)
    y = xp.take_along_axis(table, values, axis=1)
    y = xp.where(step == 0, values, y)
    return xp.reshape(xp.astype(y, xp.uint8), (n, c, h, w))


def sharpness(x: Array, amount: Array) -> Array:
    """0: smoothed by a window of 3×3, 1: as it is, 2: sharpened; the pixels at the edge stay."""
    need_bytes("sharpness", x)
    xp = backend_of(x)
    h, w = map(int, x.shape[2:])
    if min(h, w) < 3:
        return x
    v = xp.astype(x, xp.int32)
    total = 4 * v[:, :, 1:-1, 1:-1]
    for i in range(3):
        for j in range(3):
            total = total + v[:, :, i : h - 2 + i, j : w - 2 + j]
    inner = (2 * total + 13) // 26
    rows = xp.concat([v[:, :, 1:-1, :1], inner, v[:, :, 1:-1, -1:]], axis=3)
    smooth = xp.concat([v[:, :, :1, :], rows, v[:, :, -1:, :]], axis=2)
    return blend(x, xp.astype(smooth, xp.uint8), amount)


def need_bytes(where: str, x: Array) -> None:
    """TypeError for floats."""
    if not is_bytes(x):
        msg = f"{where} takes pictures of uint8, got {backend_of(x).dtype_name(x.dtype)}; put it before Normalize"
        raise TypeError(msg)


# ----- transforms -----


class ColorJitter(Transform):
    """Brightness, contrast and saturation by factors, and the hue by a part of the circle of colours, drawn for each picture.

    A number b means factors from max(0, 1 − b) to 1 + b, (low, high) those; `hue` h means −h to h, at most 0.5. They follow one another
    in this order.

    >>> import anynet as an
    >>> an.data.transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)(an.zeros((2, 3, 4, 4), dtype=an.uint8)).shape
    (2, 3, 4, 4)
    """

    draws = 4

    def __init__(
        self,
        brightness: float | Sequence[float] = 0.0,
        contrast: float | Sequence[float] = 0.0,
        saturation: float | Sequence[float] = 0.0,
        hue: float | Sequence[float] = 0.0,
    ) -> None:
        self.brightness = _factors("brightness", brightness)
        self.contrast = _factors("contrast", contrast)
        self.saturation = _factors("saturation", saturation)
        turn = (
            (-hue, hue) if isinstance(hue, (int, float)) else tuple(hue) if isinstance(hue, Sequence) else ()
        )
        if len(turn) != 2 or not -0.5 <= turn[0] <= turn[1] <= 0.5:
            msg = f"ColorJitter: hue must be in [0, 0.5], or (low, high) in [-0.5, 0.5], got {hue!r}"
            raise ValueError(msg)
        self.hue = float(turn[0]), float(turn[1])

    def apply(self, x: Array, u: Array) -> Array:
        changes = (
            (brightness, self.brightness),
            (contrast, self.contrast),
            (saturation, self.saturation),
            (hue, self.hue),
        )
        for k, (change, (low, high)) in enumerate(changes):
            if (low, high) != ((0.0, 0.0) if change is hue else (1.0, 1.0)):
                x = change(x, low + u[:, k] * (high - low))
        return x


def _factors(name: str, given: float | Sequence[float]) -> tuple[float, float]:
    if isinstance(given, (int, float)) and not isinstance(given, bool):
        if given < 0:
            msg = f"ColorJitter: {name} must be ≥ 0, or (low, high), got {given!r}"
            raise ValueError(msg)
        return max(0.0, 1.0 - given), 1.0 + given
    return interval(f"ColorJitter: {name}", () if isinstance(given, bool) else given, 0.0)


class _Sometimes(Transform):
    """A change for each picture with probability p."""

    draws = 1

    def __init__(self, p: float = 0.5) -> None:
        self.p = probability(type(self).__name__, p)

    def change(self, x: Array) -> Array:
        raise NotImplementedError

    def apply(self, x: Array, u: Array) -> Array:
        chosen = backend_of(u).astype(u[:, 0] < self.p, "int64")
        return by_group(x, u, chosen, [None, lambda part, _: self.change(part)])


class RandomGrayscale(_Sometimes):
    """Each picture without colours with probability `p`; the channels stay three.

    >>> import anynet as an
    >>> an.data.transforms.RandomGrayscale(1.0)(an.asarray([[[100]], [[0]], [[0]]], dtype=an.uint8)).tolist()
    [[[30]], [[30]], [[30]]]
    """

    def __init__(self, p: float = 0.1) -> None:
        super().__init__(p)

    def change(self, x: Array) -> Array:
        g = grey(x)
        return x if int(x.shape[1]) == 1 else backend_of(x).concat([g, g, g], axis=1)


class RandomInvert(_Sometimes):
    """Each picture's values subtracted from the largest (255, or 1) with probability `p`."""

    def change(self, x: Array) -> Array:
        return invert(x)


class RandomAutocontrast(_Sometimes):
    """Each channel of a picture stretched to 0 … 255 with probability `p`; uint8."""

    def change(self, x: Array) -> Array:
        return autocontrast(x)


class RandomEqualize(_Sometimes):
    """Each channel's histogram made even with probability `p`; uint8."""

    def change(self, x: Array) -> Array:
        return equalize(x)


class RandomPosterize(_Sometimes):
    """The highest `bits` bits of each value kept with probability `p`; uint8."""

    def __init__(self, bits: int, p: float = 0.5) -> None:
        super().__init__(p)
        if not isinstance(bits, int) or not 0 <= bits <= 8:
            msg = f"RandomPosterize: bits must be an integer from 0 to 8, got {bits!r}"
            raise ValueError(msg)
        self.bits = bits

    def change(self, x: Array) -> Array:
        need_bytes("RandomPosterize", x)
        return backend_of(x).bitwise_and(x, 256 - (1 << (8 - self.bits))) if self.bits else x * 0


class RandomSolarize(_Sometimes):
    """Values from `threshold` on inverted with probability `p`."""

    def __init__(self, threshold: float, p: float = 0.5) -> None:
        super().__init__(p)
        self.threshold = number("RandomSolarize: threshold", threshold)

    def change(self, x: Array) -> Array:
        xp = backend_of(x)
        return xp.where(xp.astype(x, xp.float32) >= self.threshold, invert(x), x)


class Normalize(Transform):
    """(v − mean) / std for each channel, with v = x / 255 of uint8; float32 (float64 stays).

    >>> import anynet as an
    >>> an.data.transforms.Normalize([0.5], [0.5])(an.asarray([[[0, 255]]], dtype=an.uint8)).tolist()
    [[[-1.0, 1.0]]]
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float]) -> None:
        self.mean, self.std = [float(m) for m in mean], [float(s) for s in std]
        if len(self.mean) != len(self.std) or not all(s > 0 for s in self.std):
            msg = f"Normalize: mean and std must have as many numbers, std > 0, got {mean!r} and {std!r}"
            raise ValueError(msg)

    def apply(self, x: Array, u: Array) -> Array:
        xp = backend_of(x)
        if int(x.shape[1]) != len(self.mean):
            msg = f"Normalize: {len(self.mean)} means for pictures of {x.shape[1]} channels"
            raise ValueError(msg)
        most = 255.0 if is_bytes(x) else 1.0
        y = xp.astype(x, xp.float32) if is_bytes(x) else x

        def channels(values: list[float]) -> Array:
            return xp.reshape(xp.asarray(values, dtype=y.dtype, device=x.device), (1, -1, 1, 1))

        return y * channels([1 / (most * s) for s in self.std]) + channels(
            [-m / s for m, s in zip(self.mean, self.std, strict=True)]
        )
