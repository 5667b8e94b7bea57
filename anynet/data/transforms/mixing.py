"""Rectangles cut out, and pictures mixed with others of the batch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anynet.data.transforms.color import each, is_bytes
from anynet.data.transforms.geometry import interval, number, pair, windows
from anynet.data.transforms.transform import Transform, probability
from anynet_backends import Array, backend_of

__all__ = ["CutMix", "Cutout", "MixUp", "RandomErasing"]


def rectangles(x: Array, top: Array, left: Array, height: Array, width: Array) -> Array:
    """Where rectangles are, boolean (n, 1, h, w), from numbers (n,) on the host."""
    xp, hx = backend_of(x), backend_of(top)
    rows, columns = hx.arange(int(x.shape[2]))[None, :], hx.arange(int(x.shape[3]))[None, :]
    down = (rows >= top[:, None]) & (rows < (top + height)[:, None])
    across = (columns >= left[:, None]) & (columns < (left + width)[:, None])
    device = xp.device_of(x)
    return xp.from_host(down, device)[:, None, :, None] & xp.from_host(across, device)[:, None, None, :]


def _values(where: str, value: float | Sequence[float]) -> list[float]:
    return [number(f"{where}: value", v) for v in (value if isinstance(value, Sequence) else [value])]


def _filled(x: Array, where: Array, values: list[float]) -> Array:
    xp = backend_of(x)
    if len(values) not in (1, int(x.shape[1])):
        msg = f"value must be one number, or one for each of {x.shape[1]} channels, got {values!r}"
        raise ValueError(msg)
    return xp.where(where, xp.reshape(xp.asarray(values, dtype=x.dtype, device=x.device), (1, -1, 1, 1)), x)


class RandomErasing(Transform):
    """A rectangle of each picture replaced by `value` with probability `p` (Zhong et al. 2017).

    Its area is uniform in `scale` times the picture's, the logarithm of its width / height in that of `ratio`; where none of ten tries
    fits, the picture stays.

    >>> import anynet as an
    >>> an.data.transforms.RandomErasing(p=1.0)(an.ones((2, 3, 8, 8))).shape
    (2, 3, 8, 8)
    """

    draws = 23

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: float | Sequence[float] = 0,
    ) -> None:
        self.p, self.value = probability("RandomErasing", p), _values("RandomErasing", value)
        self.scale = interval("RandomErasing: scale", scale, 0.0, 1.0)
        self.ratio = interval("RandomErasing: ratio", ratio, 1e-6)

    def apply(self, x: Array, u: Array) -> Array:
        hx = backend_of(u)
        size = int(x.shape[2]), int(x.shape[3])
        h, w, found = windows(hx, u[:, 1:21], size, self.scale, self.ratio)
        h = hx.where(found & (u[:, 0] < self.p), h, 0.0)
        top, left = hx.floor(u[:, 21] * (size[0] - h + 1)), hx.floor(u[:, 22] * (size[1] - w + 1))
        return _filled(x, rectangles(x, top, left, h, w), self.value)


class Cutout(Transform):
    """A rectangle of `size` about a random pixel replaced by `value`, as much of it as is inside (DeVries, Taylor 2017).

    >>> import anynet as an
    >>> an.data.transforms.Cutout(8)(an.ones((2, 3, 32, 32))).shape
    (2, 3, 32, 32)
    """

    draws = 3

    def __init__(self, size: int | Sequence[int], value: float | Sequence[float] = 0, p: float = 1.0) -> None:
        self.size, self.value, self.p = (
            pair("Cutout: size", size),
            _values("Cutout", value),
            probability("Cutout", p),
        )

    def apply(self, x: Array, u: Array) -> Array:
        hx = backend_of(u)
        h, w = self.size
        top = hx.floor(u[:, 1] * int(x.shape[2])) - h // 2
        left = hx.floor(u[:, 2] * int(x.shape[3])) - w // 2
        height = hx.where(u[:, 0] < self.p, float(h), 0.0)
        return _filled(x, rectangles(x, top, left, height, height * 0.0 + w), self.value)


# ----- mixing -----

_PAIRS = 32  # of uniform numbers, from which a Beta number is drawn


class _Mixing(Transform):
    """Each picture mixed with the one before it in the batch; the first with the last."""

    mixes = True

    def __init__(self, alpha: float, num_classes: int | None, p: float) -> None:
        where = type(self).__name__
        if isinstance(alpha, bool) or not isinstance(alpha, (int, float)) or not 0 < alpha < math.inf:
            msg = f"{where}: alpha must be > 0, got {alpha!r}"
            raise ValueError(msg)
        if alpha > 1 and alpha not in range(2, _PAIRS + 1):
            msg = f"{where}: alpha must be at most 1, or an integer up to {_PAIRS}, got {alpha!r}"
            raise ValueError(msg)
        self.alpha, self.num_classes, self.p = float(alpha), num_classes, probability(where, p)

    draws = 3 + 2 * _PAIRS

    def shares(self, u: Array) -> Array:
        """How much of each picture stays: Beta(alpha, alpha), 1 where it is not mixed; (n,)."""
        hx = backend_of(u)
        drawn = beta(hx, u[:, 3:], self.alpha)
        return hx.where(u[:, 0] < self.p, drawn, 1.0)

    def probabilities(self, x: Array, y: Array | None) -> Array:
        """Targets as probabilities (n, classes), float32 or the pictures' own kind."""
        where = type(self).__name__
        if y is None:
            msg = f"{where}: targets are mixed too: write x, y = {where}(…)(x, y)"
            raise TypeError(msg)
        xp = backend_of(y)
        if y.ndim == 2 and xp.isdtype(y.dtype, "real floating"):
            return y
        if y.ndim != 1 or not xp.isdtype(y.dtype, "integral"):
            msg = f"{where}: targets are class indices (n,) or probabilities (n, classes), got {xp.dtype_name(y.dtype)} {tuple(y.shape)}"
            raise TypeError(msg)
        if self.num_classes is None:
            msg = f"{where}: class indices need num_classes"
            raise ValueError(msg)
        if y.shape[0] and not (int(xp.min(y)) >= 0 and int(xp.max(y)) < self.num_classes):
            msg = f"{where}: class indices must be in [0, {self.num_classes}), got {int(xp.min(y))} to {int(xp.max(y))}"
            raise IndexError(msg)
        names = xp.arange(self.num_classes, dtype=y.dtype, device=y.device)
        return xp.astype(y[:, None] == names[None, :], xp.float32)

    def mixed_targets(self, y: Array, share: Array) -> Array:
        """share y + (1 − share) y of the picture before."""
        xp, hx = backend_of(y), backend_of(share)
        s = xp.astype(xp.from_host(hx.astype(share, "float32"), xp.device_of(y)), y.dtype)[:, None]
        return s * y + (1.0 - s) * xp.roll(y, 1, axis=0)


def beta(hx: Any, u: Array, alpha: float) -> Array:
    """Beta(alpha, alpha) from uniform numbers (n, 64): for alpha ≤ 1 Jöhnk's, v^(1/α) / (v^(1/α) + w^(1/α)) of the first pair whose sum
    is at most 1, by logarithms; for an integer the median of 2 alpha − 1 uniform numbers."""
    if alpha > 1:
        return hx.sort(u[:, : 2 * int(alpha) - 1], axis=1)[:, int(alpha) - 1]
    v, w = hx.log(hx.maximum(u[:, 0::2], 2.0**-60)) / alpha, hx.log(hx.maximum(u[:, 1::2], 2.0**-60)) / alpha
    high = hx.maximum(v, w)
    total = high + hx.log(hx.exp(v - high) + hx.exp(w - high))
    first = hx.argmax(hx.astype(total <= 0, "int64"), axis=1)[:, None]
    return hx.exp(hx.take_along_axis(v - total, first, axis=1))[:, 0]


class MixUp(_Mixing):
    """λ x + (1 − λ) x', and the targets alike, with x' the picture before in the batch and λ from Beta(alpha, alpha) for each picture
    (Zhang et al. 2017); alpha is at most 1, or an integer. Targets are probabilities (n, classes) afterwards, which `cross_entropy`
    and accuracy take; class indices need `num_classes` (which `ImageFolder` knows).

    >>> import anynet as an
    >>> mix = an.data.transforms.MixUp(0.2, num_classes=3)
    >>> x, y = mix(an.ones((4, 3, 8, 8)), an.asarray([0, 1, 2, 0]))
    >>> y.shape, round(float(an.sum(y)), 3)
    ((4, 3), 4.0)
    """

    def __init__(self, alpha: float = 0.2, num_classes: int | None = None, p: float = 1.0) -> None:
        super().__init__(alpha, num_classes, p)

    def apply_pair(self, x: Array, y: Array | None, u: Array) -> tuple[Array, Array | None]:
        targets = self.probabilities(x, y)
        xp, share = backend_of(x), self.shares(u)
        s = each(x, share)
        if is_bytes(x):
            v = xp.astype(x, xp.float32)
            mixed = xp.floor(s * v + (1.0 - s) * xp.roll(v, 1, axis=0) + 0.5)
            return xp.astype(mixed, xp.uint8), self.mixed_targets(targets, share)
        s = xp.astype(s, x.dtype)
        return s * x + (1.0 - s) * xp.roll(x, 1, axis=0), self.mixed_targets(targets, share)


class CutMix(_Mixing):
    """A rectangle of the picture before in the batch put into each, of 1 − λ of the area, and the targets mixed by the area that it has
    (Yun et al. 2019); the rest as for `MixUp`.

    >>> import anynet as an
    >>> x, y = an.data.transforms.CutMix(num_classes=3)(an.ones((4, 3, 8, 8)), an.asarray([0, 1, 2, 0]))
    >>> y.shape
    (4, 3)
    """

    def __init__(self, alpha: float = 1.0, num_classes: int | None = None, p: float = 1.0) -> None:
        super().__init__(alpha, num_classes, p)

    def apply_pair(self, x: Array, y: Array | None, u: Array) -> tuple[Array, Array | None]:
        targets = self.probabilities(x, y)
        xp, hx = backend_of(x), backend_of(u)
        height, width = int(x.shape[2]), int(x.shape[3])
        side = hx.sqrt(1.0 - self.shares(u))
        h, w = hx.floor(height * side), hx.floor(width * side)
        top = hx.floor(u[:, 1] * height) - hx.floor(
            h / 2
        )  # the centre is anywhere; what lies outside is cut off
        left = hx.floor(u[:, 2] * width) - hx.floor(w / 2)
        bottom, right = hx.clip(top + h, 0, height), hx.clip(left + w, 0, width)
        top, left = hx.clip(top, 0, height), hx.clip(left, 0, width)
        share = 1.0 - (bottom - top) * (right - left) / (height * width)
        where = rectangles(x, top, left, bottom - top, right - left)
        return xp.where(where, xp.roll(x, 1, axis=0), x), self.mixed_targets(targets, share)
