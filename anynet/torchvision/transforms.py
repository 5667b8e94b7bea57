"""`torchvision.transforms`: what is done to a picture before it is learned from. Chance is drawn from `torch`'s random numbers."""

from __future__ import annotations

import random
import sys
from collections.abc import Sequence
from typing import Any

from anynet import streams
from anynet.torch.nn import Module as _Module
from anynet.torch.table import TABLE
from anynet.torchvision import functional as functional
from anynet.torchvision.functional import InterpolationMode as InterpolationMode

__all__ = [
    "CenterCrop", "ColorJitter", "Compose", "ConvertImageDtype", "Grayscale", "InterpolationMode", "Lambda", "Normalize",
    "PILToTensor", "Pad", "RandomApply", "RandomChoice", "RandomCrop", "RandomErasing", "RandomGrayscale",
    "RandomHorizontalFlip", "RandomOrder", "RandomResizedCrop", "RandomRotation", "RandomVerticalFlip", "Resize",
    "ToPILImage", "ToTensor", "functional",
]  # fmt: skip
"""The transforms."""


def _draw() -> float:
    """The next number of `torch`'s stream, from 0 to 1, without a tensor: loaders draw several for each picture."""
    seed, stream, step = streams.next_draw()
    return random.Random((seed << 80) + (stream << 64) + step).random()


def _whole(n: int) -> int:
    """A number of 0 … n − 1."""
    return min(int(_draw() * n), n - 1)


def _pair(name: str, size: Any) -> tuple[int, int]:
    sizes = (size, size) if isinstance(size, int) else tuple(size)
    if len(sizes) == 1:
        sizes *= 2
    if len(sizes) != 2 or not all(isinstance(n, int) and n > 0 for n in sizes):
        msg = f"{name}: size must be a positive number or two of them, got {size!r}"
        raise ValueError(msg)
    return sizes[0], sizes[1]


def _probability(name: str, p: float) -> float:
    if not 0 <= p <= 1:
        msg = f"{name}: p must be in [0, 1], got {p}"
        raise ValueError(msg)
    return p


class Compose:
    """Transforms one after the other.

    >>> import anynet.torch as torch
    >>> Compose([Normalize((0.5,), (0.5,)), Lambda(torch.flatten)])(torch.ones(1, 2, 2))
    tensor([1., 1., 1., 1.])
    """

    def __init__(self, transforms: Sequence[Any]) -> None:
        self.transforms = transforms

    def __call__(self, img: Any) -> Any:
        for t in self.transforms:
            img = t(img)
        return img

    def __repr__(self) -> str:
        return "\n".join(["Compose(", *(f"    {t}" for t in self.transforms), ")"])


class Lambda:
    """A function as a transform."""

    def __init__(self, lambd: Any) -> None:
        if not callable(lambd):
            msg = f"Lambda: lambd must be a function, got {type(lambd).__name__}"
            raise TypeError(msg)
        self.lambd = lambd

    def __call__(self, img: Any) -> Any:
        return self.lambd(img)

    def __repr__(self) -> str:
        return "Lambda()"


class ToTensor:
    """A picture as a tensor (channels, height, width) from 0 to 1."""

    def __call__(self, pic: Any) -> Any:
        return functional.to_tensor(pic)

    def __repr__(self) -> str:
        return "ToTensor()"


class PILToTensor(ToTensor):
    """A picture as a tensor (channels, height, width) of bytes."""

    def __call__(self, pic: Any) -> Any:
        return functional.pil_to_tensor(pic)

    def __repr__(self) -> str:
        return "PILToTensor()"


class ToPILImage:
    """A tensor or an array as Pillow's picture."""

    def __init__(self, mode: Any = None) -> None:
        self.mode = mode

    def __call__(self, pic: Any) -> Any:
        return functional.to_pil_image(pic, self.mode)


class ConvertImageDtype(_Module):  # type: ignore[misc]
    """A tensor in another type, its range with it."""

    def __init__(self, dtype: Any) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, image: Any) -> Any:
        """The tensor."""
        return functional.convert_image_dtype(image, self.dtype)


class Normalize(_Module):  # type: ignore[misc]
    """(x − mean) / std, for each channel of a tensor."""

    def __init__(self, mean: Any, std: Any, inplace: bool = False) -> None:
        super().__init__()
        self.mean, self.std, self.inplace = mean, std, inplace

    def forward(self, tensor: Any) -> Any:
        """The tensor."""
        return functional.normalize(tensor, self.mean, self.std, self.inplace)


class Resize(_Module):  # type: ignore[misc]
    """A picture of another size; of one number that of the shorter side."""

    def __init__(
        self,
        size: Any,
        interpolation: Any = InterpolationMode.BILINEAR,
        max_size: Any = None,
        antialias: Any = True,
    ) -> None:
        super().__init__()
        self.size, self.interpolation, self.max_size, self.antialias = (
            size,
            interpolation,
            max_size,
            antialias,
        )

    def forward(self, img: Any) -> Any:
        """The picture."""
        return functional.resize(img, self.size, self.interpolation, self.max_size, self.antialias)


class CenterCrop(_Module):  # type: ignore[misc]
    """The middle of a picture."""

    def __init__(self, size: Any) -> None:
        super().__init__()
        self.size = _pair("CenterCrop", size)

    def forward(self, img: Any) -> Any:
        """The picture."""
        return functional.center_crop(img, self.size)


class Pad(_Module):  # type: ignore[misc]
    """A border around a picture."""

    def __init__(self, padding: Any, fill: Any = 0, padding_mode: str = "constant") -> None:
        super().__init__()
        self.padding, self.fill, self.padding_mode = padding, fill, padding_mode

    def forward(self, img: Any) -> Any:
        """The picture."""
        return functional.pad(img, self.padding, self.fill, self.padding_mode)


class RandomCrop(_Module):  # type: ignore[misc]
    """A part of a picture, at a random place; with a border first."""

    def __init__(
        self,
        size: Any,
        padding: Any = None,
        pad_if_needed: bool = False,
        fill: Any = 0,
        padding_mode: str = "constant",
    ) -> None:
        super().__init__()
        self.size, self.padding, self.pad_if_needed = _pair("RandomCrop", size), padding, pad_if_needed
        self.fill, self.padding_mode = fill, padding_mode

    def forward(self, img: Any) -> Any:
        """The picture."""
        if self.padding is not None:
            img = functional.pad(img, self.padding, self.fill, self.padding_mode)
        (h, w), (_, height, width) = self.size, functional.get_dimensions(img)
        if self.pad_if_needed and (height < h or width < w):
            img = functional.pad(img, [max(w - width, 0), max(h - height, 0)], self.fill, self.padding_mode)
            _, height, width = functional.get_dimensions(img)
        if height < h or width < w:
            msg = f"RandomCrop: size must be at most that of the picture, {(height, width)}, got {self.size}"
            raise ValueError(msg)
        return functional.crop(img, _whole(height - h + 1), _whole(width - w + 1), h, w)


class RandomHorizontalFlip(_Module):  # type: ignore[misc]
    """Left and right exchanged, with a probability."""

    _flip = staticmethod(functional.hflip)

    def __init__(self, p: float = 0.5) -> None:
        super().__init__()
        self.p = _probability(type(self).__name__, p)

    def forward(self, img: Any) -> Any:
        """The picture."""
        return self._flip(img) if _draw() < self.p else img


class RandomVerticalFlip(RandomHorizontalFlip):
    """Upside down, with a probability."""

    _flip = staticmethod(functional.vflip)


class RandomResizedCrop(_Module):  # type: ignore[misc]
    """A random part of a picture in another size."""

    def __init__(
        self, size: Any, scale: Sequence[float] = (0.08, 1.0), ratio: Sequence[float] = (3.0 / 4.0, 4.0 / 3.0),
        interpolation: Any = InterpolationMode.BILINEAR, antialias: Any = True,
    ) -> None:  # fmt: skip
        super().__init__()
        self.size, self.scale, self.ratio = _pair("RandomResizedCrop", size), scale, ratio
        self.interpolation, self.antialias = interpolation, antialias

    def forward(self, img: Any) -> Any:
        """The picture."""
        _, height, width = functional.get_dimensions(img)
        found = functional.area_of(height, width, self.scale, self.ratio, _draw)
        if found is None:  # the middle, within the ratios
            aspect = min(max(width / height, min(self.ratio)), max(self.ratio))
            w, h = min(width, round(height * aspect)), min(height, round(width / aspect))
            found = ((height - h) // 2, (width - w) // 2, h, w)
        return functional.resized_crop(img, *found, self.size, self.interpolation, self.antialias)


class RandomRotation(_Module):  # type: ignore[misc]
    """A picture turned by random degrees."""

    def __init__(
        self,
        degrees: Any,
        interpolation: Any = InterpolationMode.NEAREST,
        expand: bool = False,
        center: Any = None,
        fill: Any = 0,
    ) -> None:
        super().__init__()
        self.degrees = (-degrees, degrees) if isinstance(degrees, (int, float)) else tuple(degrees)
        self.interpolation, self.expand, self.center, self.fill = interpolation, expand, center, fill

    def forward(self, img: Any) -> Any:
        """The picture."""
        low, high = self.degrees
        angle = low + (high - low) * _draw()
        fill = None if self.fill == 0 else self.fill
        return functional.rotate(img, angle, self.interpolation, self.expand, self.center, fill)


class Grayscale(_Module):  # type: ignore[misc]
    """A picture in grey."""

    def __init__(self, num_output_channels: int = 1) -> None:
        super().__init__()
        self.num_output_channels = num_output_channels

    def forward(self, img: Any) -> Any:
        """The picture."""
        return functional.rgb_to_grayscale(img, self.num_output_channels)


class RandomGrayscale(_Module):  # type: ignore[misc]
    """A picture in grey, with a probability; its channels stay."""

    def __init__(self, p: float = 0.1) -> None:
        super().__init__()
        self.p = _probability("RandomGrayscale", p)

    def forward(self, img: Any) -> Any:
        """The picture."""
        channels = functional.get_dimensions(img)[0]
        return functional.rgb_to_grayscale(img, channels) if _draw() < self.p else img


class ColorJitter(_Module):  # type: ignore[misc]
    """Brightness, contrast and saturation times random factors, in a random order; `hue` is not offered."""

    def __init__(self, brightness: Any = 0, contrast: Any = 0, saturation: Any = 0, hue: Any = 0) -> None:
        super().__init__()
        if hue not in (0, None, (0, 0), [0, 0]):
            msg = f"ColorJitter: hue must be 0, got {hue}; anynet.data.transforms.ColorJitter has it"
            raise NotImplementedError(msg)
        self.brightness, self.contrast, self.saturation, self.hue = (
            (max(0.0, 1.0 - v), 1.0 + v) if isinstance(v, (int, float)) else tuple(v)
            for v in (brightness, contrast, saturation, 0)
        )

    def forward(self, img: Any) -> Any:
        """The picture."""
        parts = ["brightness", "contrast", "saturation"]
        while parts:
            name = parts.pop(_whole(len(parts)))
            low, high = getattr(self, name)
            if low != high:
                img = getattr(functional, f"adjust_{name}")(img, low + (high - low) * _draw())
        return img


class RandomErasing(_Module):  # type: ignore[misc]
    """A rectangle of a tensor filled, with a probability; `value` "random": with noise."""

    def __init__(
        self,
        p: float = 0.5,
        scale: Sequence[float] = (0.02, 0.33),
        ratio: Sequence[float] = (0.3, 3.3),
        value: Any = 0,
        inplace: bool = False,
    ) -> None:
        super().__init__()
        self.p, self.scale, self.ratio = _probability("RandomErasing", p), scale, ratio
        self.value, self.inplace = value, inplace

    def forward(self, img: Any) -> Any:
        """The tensor."""
        if _draw() >= self.p:
            return img
        c, height, width = functional.get_dimensions(img)
        found = functional.area_of(height, width, self.scale, self.ratio, _draw)
        if found is None:
            return img
        i, j, h, w = found
        v = self.value
        if v == "random":
            v = TABLE["randn"].function(c, h, w).to(img.dtype)
        elif isinstance(v, Sequence):
            v = img.new_tensor(v).view(-1, 1, 1)
        return functional.erase(img, i, j, h, w, v, self.inplace)


class RandomApply(_Module):  # type: ignore[misc]
    """Transforms one after the other, with a probability."""

    def __init__(self, transforms: Any, p: float = 0.5) -> None:
        super().__init__()
        self.transforms, self.p = transforms, _probability("RandomApply", p)

    def forward(self, img: Any) -> Any:
        """The picture."""
        if _draw() < self.p:
            for t in self.transforms:
                img = t(img)
        return img


class RandomChoice:
    """One of several transforms, by chance."""

    def __init__(self, transforms: Sequence[Any], p: Sequence[float] | None = None) -> None:
        self.transforms, self.p = transforms, p

    def __call__(self, img: Any) -> Any:
        weights = self.p or [1.0] * len(self.transforms)
        at = _draw() * sum(weights)
        for t, weight in zip(self.transforms, weights, strict=True):
            at -= weight
            if at < 0:
                return t(img)
        return self.transforms[-1](img)


class RandomOrder:
    """Transforms in a random order."""

    def __init__(self, transforms: Sequence[Any]) -> None:
        self.transforms = transforms

    def __call__(self, img: Any) -> Any:
        left = list(self.transforms)
        while left:
            img = left.pop(_whole(len(left)))(img)
        return img


def _paths() -> None:
    """`torchvision.transforms.functional`, and `transforms.transforms`, where older scripts look."""
    here = sys.modules[__name__]
    sys.modules[f"{__name__}.functional"] = functional
    sys.modules[f"{__name__}.transforms"] = here


_paths()
