"""RandAugment and TrivialAugment: changes of shape or colour drawn from a list, with torchvision's lists and strengths."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet.data.transforms import color
from anynet.data.transforms.geometry import MODES, affine_matrices, choice_of, number, warp, whole_draws
from anynet.data.transforms.transform import Transform, by_group
from anynet_backends import Array, backend_of

__all__ = ["RandAugment", "TrivialAugment"]

Change = Callable[
    [Array, Array, str, float], Array
]  # pictures, strengths (n,) on the host, what comes in from outside


def _moved(x: Array, mode: str, fill: float, **parts: Array) -> Array:
    """Pillow's affine map (x, y) → (x + b y + c, d x + y + f) of the positions that are read."""
    hx = backend_of(next(iter(parts.values())))
    zero = 0.0 * next(iter(parts.values()))
    rows = [
        zero + 1.0,
        parts.get("b", zero),
        parts.get("c", zero),
        parts.get("d", zero),
        zero + 1.0,
        parts.get("f", zero),
    ]
    return warp(x, hx.stack(rows, axis=1), None, "nearest", mode, fill)


def _turned(x: Array, m: Array, mode: str, fill: float) -> Array:
    hx = backend_of(m)
    zero = 0.0 * m
    size = int(x.shape[2]), int(x.shape[3])
    return warp(
        x, affine_matrices(hx, -m, (zero, zero), zero + 1.0, (zero, zero), size), None, "nearest", mode, fill
    )


_CHANGES: dict[str, Change] = {
    "identity": lambda x, m, mode, fill: x,
    "shear_x": lambda x, m, mode, fill: _moved(x, mode, fill, b=m),
    "shear_y": lambda x, m, mode, fill: _moved(x, mode, fill, d=m),
    "translate_x": lambda x, m, mode, fill: _moved(x, mode, fill, c=-backend_of(m).trunc(m)),
    "translate_y": lambda x, m, mode, fill: _moved(x, mode, fill, f=-backend_of(m).trunc(m)),
    "rotate": _turned,
    "brightness": lambda x, m, mode, fill: color.brightness(x, 1.0 + m),
    "saturation": lambda x, m, mode, fill: color.saturation(x, 1.0 + m),
    "contrast": lambda x, m, mode, fill: color.contrast(x, 1.0 + m),
    "sharpness": lambda x, m, mode, fill: color.sharpness(x, 1.0 + m),
    "posterize": lambda x, m, mode, fill: color.posterize(x, m),
    "solarize": lambda x, m, mode, fill: color.solarize(x, m),
    "autocontrast": lambda x, m, mode, fill: color.autocontrast(x),
    "equalize": lambda x, m, mode, fill: color.equalize(x),
}
_SIGNED = (
    "shear_x",
    "shear_y",
    "translate_x",
    "translate_y",
    "rotate",
    "brightness",
    "saturation",
    "contrast",
    "sharpness",
)

Strength = Callable[
    [Any, Array, Any], Array
]  # (namespace of the host, strength from 0 to 1, (height, width)) → magnitude


def _up_to(most: float) -> Strength:
    return lambda hx, s, size: s * most


def _shifted(part: float, axis: int) -> Strength:
    return lambda hx, s, size: s * (part * size[axis])


def _bits(lost: int) -> Strength:
    return lambda hx, s, size: 8.0 - hx.round(s * lost)


def _space(
    shear: float, move: tuple[Strength, Strength], angle: float, factor: float, bits: int
) -> dict[str, Strength]:
    none, colour = _up_to(0.0), _up_to(factor)
    return {
        "identity": none, "shear_x": _up_to(shear), "shear_y": _up_to(shear), "translate_x": move[0], "translate_y": move[1],
        "rotate": _up_to(angle), "brightness": colour, "saturation": colour, "contrast": colour, "sharpness": colour,
        "posterize": _bits(bits), "solarize": lambda hx, s, size: 255.0 - 255.0 * s, "autocontrast": none, "equalize": none,
    }  # fmt: skip


class _Policy(Transform):
    space: dict[str, Strength]

    def __init__(self, num_magnitude_bins: int, padding_mode: str, fill: float) -> None:
        where = type(self).__name__
        if (
            not isinstance(num_magnitude_bins, int)
            or isinstance(num_magnitude_bins, bool)
            or num_magnitude_bins < 2
        ):
            msg = f"{where}: num_magnitude_bins must be an integer ≥ 2, got {num_magnitude_bins!r}"
            raise ValueError(msg)
        self.num_magnitude_bins, self.fill = num_magnitude_bins, fill
        self.padding_mode = choice_of(f"{where}: padding_mode", padding_mode, MODES)

    def once(self, x: Array, kind: Array, strength: Array, sign: Array) -> Array:
        """One change of each picture: which (a number from 0 to 1), how strong (0 to 1), in which direction (a number from 0 to 1)."""
        color.need_bytes(type(self).__name__, x)
        hx = backend_of(kind)
        size = int(x.shape[2]), int(x.shape[3])
        names = list(self.space)

        def change(name: str) -> Callable[[Array, Array], Array]:
            def change_part(part: Array, numbers: Array) -> Array:
                m = self.space[name](hx, numbers[:, 0], size)
                if name in _SIGNED:
                    m = hx.where(numbers[:, 1] < 0.5, -m, m)
                return _CHANGES[name](part, m, self.padding_mode, self.fill)

            return change_part

        numbers = hx.stack([kind, strength, sign], axis=1)
        return by_group(x, numbers, whole_draws(hx, kind, len(names)), [change(name) for name in names])


class RandAugment(_Policy):
    """`num_ops` changes in a row for each picture, drawn from 14 of shape or colour, of strength `magnitude` of `num_magnitude_bins` (Cubuk
    et al. 2019, with torchvision's list): uint8.

    >>> import anynet as an
    >>> an.data.transforms.RandAugment()(an.zeros((4, 3, 32, 32), dtype=an.uint8)).shape
    (4, 3, 32, 32)
    """

    space = _space(0.3, (_shifted(150 / 331, 1), _shifted(150 / 331, 0)), 30.0, 0.9, 4)

    def __init__(
        self,
        num_ops: int = 2,
        magnitude: int = 9,
        num_magnitude_bins: int = 31,
        padding_mode: str = "constant",
        fill: float = 0,
    ) -> None:
        super().__init__(num_magnitude_bins, padding_mode, fill)
        if (
            not isinstance(num_ops, int)
            or num_ops < 1
            or not 0 <= number("RandAugment: magnitude", magnitude) < num_magnitude_bins
        ):
            msg = f"RandAugment: num_ops must be ≥ 1 and magnitude in [0, {num_magnitude_bins}), got {num_ops!r} and {magnitude!r}"
            raise ValueError(msg)
        self.num_ops, self.magnitude = num_ops, magnitude
        self.draws = 2 * num_ops

    def apply(self, x: Array, u: Array) -> Array:
        strength = 0.0 * u[:, 0] + self.magnitude / (self.num_magnitude_bins - 1)
        for k in range(self.num_ops):
            x = self.once(x, u[:, 2 * k], strength, u[:, 2 * k + 1])
        return x


class TrivialAugment(_Policy):
    """One change for each picture, drawn from 14 of shape or colour, of any strength (Müller, Hutter 2021, torchvision's wide list): uint8.

    >>> import anynet as an
    >>> an.data.transforms.TrivialAugment()(an.zeros((4, 3, 32, 32), dtype=an.uint8)).shape
    (4, 3, 32, 32)
    """

    draws = 3
    space = _space(0.99, (_up_to(32.0), _up_to(32.0)), 135.0, 0.99, 6)

    def __init__(self, num_magnitude_bins: int = 31, padding_mode: str = "constant", fill: float = 0) -> None:
        super().__init__(num_magnitude_bins, padding_mode, fill)

    def apply(self, x: Array, u: Array) -> Array:
        hx, bins = backend_of(u), self.num_magnitude_bins
        strength = hx.floor(u[:, 1] * bins) / (bins - 1)
        return self.once(x, u[:, 0], strength, u[:, 2])
