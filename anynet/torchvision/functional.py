"""`torchvision.transforms.functional`: pictures turned into tensors, cut, turned and recoloured.

A picture is Pillow's, an array of bytes (height, width[, channels]), or a tensor (…, height, width). What Pillow does to a picture it does
here; a tensor has the formulas of torchvision's tensors.
"""

from __future__ import annotations

import enum
import functools
import math
from collections.abc import Sequence
from typing import Any

from anynet import dtypes
from anynet._optional import optional
from anynet.data.images.decoding import pillow
from anynet.tensor import Tensor as _Tensor
from anynet.tensor import wrap
from anynet.torch import float32, uint8
from anynet.torch.nn import functional as F
from anynet.torch.table import TABLE
from anynet.torch.tensor import Tensor
from anynet_backends import Array, backend_of, registry

__all__ = [
    "InterpolationMode", "adjust_brightness", "adjust_contrast", "adjust_saturation", "center_crop", "convert_image_dtype", "crop",
    "erase", "get_dimensions", "get_image_size", "hflip", "normalize", "pad", "pil_to_tensor", "resize", "resized_crop", "rgb_to_grayscale",
    "rotate", "to_grayscale", "to_pil_image", "to_tensor", "vflip",
]  # fmt: skip


class InterpolationMode(enum.Enum):
    """How pixels between pixels are found."""

    NEAREST = "nearest"
    NEAREST_EXACT = "nearest-exact"
    BILINEAR = "bilinear"
    BICUBIC = "bicubic"
    BOX = "box"
    HAMMING = "hamming"
    LANCZOS = "lanczos"


def _is_pil(picture: Any) -> bool:
    return hasattr(picture, "getbands")


def _is_tensor(picture: Any) -> bool:
    return isinstance(picture, _Tensor)


def _is_array(picture: Any) -> bool:
    return not _is_tensor(picture) and hasattr(picture, "ndim") and hasattr(picture, "shape")


def _of(picture: Any, function: Any, *args: Any) -> Any:
    """A function of tensors (…, height, width), of an array of bytes, too."""
    if _is_tensor(picture):
        return function(picture, *args)
    if not _is_array(picture):
        msg = f"a picture must be Pillow's, an array (height, width[, channels]) or a tensor, got {type(picture).__name__}"
        raise TypeError(msg)
    x = TABLE["from_numpy"].function(picture)
    y = function(x.permute(2, 0, 1) if x.ndim == 3 else x, *args)
    return (y.permute(1, 2, 0) if x.ndim == 3 else y).contiguous().numpy()


def _pixels(picture: Any) -> Array:
    """An array (height, width, channels) of Pillow's picture or of an array."""
    a = registry.asarray(picture)
    return a[..., None] if a.ndim == 2 else a


def get_image_size(img: Any) -> list[int]:
    """[width, height] of a picture."""
    return get_dimensions(img)[:0:-1]


def get_dimensions(img: Any) -> list[int]:
    """[channels, height, width] of a picture."""
    if _is_pil(img):
        return [len(img.getbands()), img.height, img.width]
    if _is_array(img):
        return [img.shape[2] if img.ndim == 3 else 1, *img.shape[:2]]
    return [img.shape[-3] if img.ndim > 2 else 1, *img.shape[-2:]]


def pil_to_tensor(pic: Any) -> Any:
    """A picture as a tensor (channels, height, width) of its own type."""
    return TABLE["from_numpy"].function(_pixels(pic).copy()).permute(2, 0, 1).contiguous()


def to_tensor(pic: Any) -> Any:
    """A picture as a tensor (channels, height, width): bytes divided by 255, other numbers as they are."""
    if _is_tensor(pic):
        msg = f"to_tensor: pic must be Pillow's picture or an array, got {type(pic).__name__}"
        raise TypeError(msg)
    a = _pixels(pic)
    xp = backend_of(a)
    if dtypes.of(a.dtype) is not uint8:
        x = pil_to_tensor(pic)
        return x.float() if getattr(pic, "mode", "") == "1" else x
    a = xp.astype(a, dtypes.native(xp, dtypes.default_float()))
    a /= 255  # arrays, not tensors: loaders do this for every picture
    h, w, c = a.shape
    return wrap(xp.reshape(a, (1, h, w)) if c == 1 else xp.permute_dims(a, (2, 0, 1)), Tensor)


def convert_image_dtype(image: Any, dtype: Any = float32) -> Any:
    """A tensor in another type, its range with it: bytes from 0 to 255, floating-point numbers from 0 to 1."""
    if image.dtype is dtype:
        return image
    if image.is_floating_point():
        return image.to(dtype) if dtype.kind == "real" else (image * (255 + 1.0 - 1e-3)).to(dtype)
    return image.to(dtype) / 255 if dtype.kind == "real" else image.to(dtype)


def to_pil_image(pic: Any, mode: Any = None) -> Any:
    """A tensor (channels, height, width) or an array (height, width, channels) as Pillow's picture; floating-point numbers times 255."""
    if _is_tensor(pic):
        x = pic.detach()
        x = x.unsqueeze(0) if x.ndim == 2 else x
        x = x.mul(255).byte() if x.is_floating_point() else x
        pic = x.permute(1, 2, 0).contiguous().numpy()
    if pic.ndim == 3 and pic.shape[2] == 1:
        pic = pic[..., 0]
    made = pillow().fromarray(pic)
    return made if mode is None else made.convert(mode)


@functools.lru_cache(maxsize=64)
def _statistics(
    mean: tuple[float, ...], std: tuple[float, ...], kind: Any, device: str
) -> tuple[Array, Array]:
    """Arrays (channels, 1, 1) of a mean and a deviation."""
    if 0 in std:
        msg = f"normalize: std must not be 0, got {std}"
        raise ValueError(msg)
    make = TABLE["as_tensor"].function
    m, s = (make(v, dtype=kind, device=device).view(-1, 1, 1)._data for v in (mean, std))
    return m, s


def normalize(tensor: Any, mean: Sequence[float], std: Sequence[float], inplace: bool = False) -> Any:
    """(x − mean) / std, for each channel."""
    if not _is_tensor(tensor):
        msg = f"normalize: img must be a tensor, got {type(tensor).__name__}; put ToTensor before"
        raise TypeError(msg)
    if not inplace and tensor.edge is None and type(mean) is type(std) is tuple:
        m, s = _statistics(mean, std, tensor.dtype, str(tensor.device))
        return wrap((tensor._data - m) / s, Tensor)
    m, s = (TABLE["as_tensor"].function(v, dtype=tensor.dtype, device=tensor.device) for v in (mean, std))
    if (s == 0).any():
        msg = f"normalize: std must not be 0, got {std}"
        raise ValueError(msg)
    m, s = (v.view(-1, 1, 1) if v.ndim == 1 else v for v in (m, s))
    x = tensor if inplace else tensor.clone()
    return x.sub_(m).div_(s)


def _filter(interpolation: Any) -> Any:
    kind = interpolation.value if isinstance(interpolation, InterpolationMode) else interpolation
    if isinstance(kind, int):
        return kind
    return getattr(pillow().Resampling, kind.partition("-")[0].upper())


def _new_size(size: Any, height: int, width: int, max_size: int | None) -> tuple[int, int]:
    """(height, width): of one number the shorter side."""
    if not isinstance(size, int):
        sizes = [int(v) for v in size]
        if len(sizes) == 2:
            return sizes[0], sizes[1]
        [size] = sizes
    short, long = sorted((height, width))
    new_short, new_long = int(size), int(size * long / short)
    if max_size is not None and new_long > max_size:
        new_short, new_long = int(max_size * new_short / new_long), max_size
    return (new_short, new_long) if height <= width else (new_long, new_short)


def resize(
    img: Any,
    size: Any,
    interpolation: Any = InterpolationMode.BILINEAR,
    max_size: int | None = None,
    antialias: Any = True,
) -> Any:
    """A picture of another size (height, width); of one number that of the shorter side."""
    _, height, width = get_dimensions(img)
    wanted = _new_size(size, height, width, max_size)
    if wanted == (height, width):
        return img
    if _is_pil(img):
        return img.resize(wanted[::-1], _filter(interpolation))

    def scaled(x: Any) -> Any:
        kind = interpolation.value if isinstance(interpolation, InterpolationMode) else "bilinear"
        smooth = kind in ("bilinear", "bicubic")
        batch = x.reshape(1, -1, *x.shape[-2:]).to(x.dtype if x.is_floating_point() else float32)
        more = {"align_corners": False, "antialias": bool(antialias)} if smooth else {}
        y = F.interpolate(batch, size=wanted, mode=kind, **more).reshape(*x.shape[:-2], *wanted)
        return y if x.is_floating_point() else y.round().clamp(0, 255).to(x.dtype)

    return _of(img, scaled)


def crop(img: Any, top: int, left: int, height: int, width: int) -> Any:
    """A part of a picture; what lies outside is black."""
    if _is_pil(img):
        return img.crop((left, top, left + width, top + height))

    def part(x: Any) -> Any:
        h, w = x.shape[-2:]
        before, after = (max(-left, 0), max(-top, 0)), (max(left + width - w, 0), max(top + height - h, 0))
        if any((*before, *after)):
            x = F.pad(x, (before[0], after[0], before[1], after[1]))
        t, s = top + before[1], left + before[0]
        return x[..., t : t + height, s : s + width]

    return _of(img, part)


def center_crop(img: Any, output_size: Any) -> Any:
    """The middle of a picture, with black around it where it is smaller."""
    height, width = (
        (output_size, output_size) if isinstance(output_size, int) else (*output_size, *output_size)[:2]
    )
    _, h, w = get_dimensions(img)
    if h < height or w < width:
        sides = [(width - w) // 2, (height - h) // 2, (width - w + 1) // 2, (height - h + 1) // 2]
        img = pad(img, [max(0, n) for n in sides])
        _, h, w = get_dimensions(img)
    return crop(img, round((h - height) / 2.0), round((w - width) / 2.0), height, width)


def pad(img: Any, padding: Any, fill: Any = 0, padding_mode: str = "constant") -> Any:
    """A border around a picture: left, top, right, bottom; or left and right, top and bottom; or one number."""
    sides = [padding] if isinstance(padding, int) else list(padding)
    if len(sides) not in (1, 2, 4):
        msg = f"pad: padding must be a number or 1, 2 or 4 of them, got {padding}"
        raise ValueError(msg)
    left, top, right, bottom = sides if len(sides) == 4 else (sides * 4 if len(sides) == 1 else sides * 2)[:4]
    if _is_pil(img) and padding_mode == "constant":
        bands = len(img.getbands())
        fill = (int(fill),) * bands if isinstance(fill, (int, float)) and bands > 1 else fill
        return optional("PIL.ImageOps", "images", "reading pictures").expand(
            img, (left, top, right, bottom), fill
        )
    if _is_pil(img):
        return to_pil_image(pad(_pixels(img), padding, fill, padding_mode))
    mode = {"edge": "replicate"}.get(padding_mode, padding_mode)

    def bordered(x: Any) -> Any:
        batch = x.reshape(1, -1, *x.shape[-2:])
        value = {"value": float(fill)} if mode == "constant" else {}
        whole = batch if batch.is_floating_point() else batch.float()
        y = F.pad(whole, (left, right, top, bottom), mode=mode, **value)
        return y.reshape(*x.shape[:-2], *y.shape[-2:]).to(x.dtype)

    return _of(img, bordered)


def hflip(img: Any) -> Any:
    """A picture, left and right exchanged."""
    return (
        img.transpose(pillow().Transpose.FLIP_LEFT_RIGHT) if _is_pil(img) else _of(img, lambda x: x.flip(-1))
    )


def vflip(img: Any) -> Any:
    """A picture upside down."""
    return (
        img.transpose(pillow().Transpose.FLIP_TOP_BOTTOM) if _is_pil(img) else _of(img, lambda x: x.flip(-2))
    )


def resized_crop(
    img: Any, top: int, left: int, height: int, width: int, size: Any, interpolation: Any = InterpolationMode.BILINEAR,
    antialias: Any = True,
) -> Any:  # fmt: skip
    """A part of a picture in another size."""
    return resize(crop(img, top, left, height, width), size, interpolation, antialias=antialias)


def rotate(
    img: Any,
    angle: float,
    interpolation: Any = InterpolationMode.NEAREST,
    expand: bool = False,
    center: Any = None,
    fill: Any = None,
) -> Any:
    """A picture turned by degrees, against the clock."""
    if not _is_pil(img):
        return to_tensor_like(rotate(to_pil_image(img), angle, interpolation, expand, center, fill), img)
    return img.rotate(angle, _filter(interpolation), expand, center, fillcolor=fill)


def to_tensor_like(picture: Any, img: Any) -> Any:
    """Pillow's picture in the form of another: a tensor or an array."""
    if not _is_tensor(img):
        return _pixels(picture) if img.ndim == 3 else registry.asarray(picture)
    x = pil_to_tensor(picture)
    return convert_image_dtype(x, img.dtype) if img.is_floating_point() else x


def _blend(x: Any, other: Any, ratio: float) -> Any:
    most = 1.0 if x.is_floating_point() else 255.0
    return (ratio * x + (1.0 - ratio) * other).clamp(0, most).to(x.dtype)


def _grey(x: Any) -> Any:
    if x.shape[-3] == 1:
        return x
    r, g, b = x.unbind(-3)
    return (0.2989 * r + 0.587 * g + 0.114 * b).to(x.dtype).unsqueeze(-3)


def _enhanced(img: Any, name: str, factor: float, other: Any) -> Any:
    if factor < 0:
        msg = f"{name.lower()}: the factor must not be negative, got {factor}"
        raise ValueError(msg)
    if _is_pil(img):
        return getattr(optional("PIL.ImageEnhance", "images", "reading pictures"), name)(img).enhance(factor)
    return _of(img, lambda x: _blend(x, other(x), factor))


def adjust_brightness(img: Any, brightness_factor: float) -> Any:
    """A picture times a factor."""
    return _enhanced(img, "Brightness", brightness_factor, lambda x: x * 0)


def adjust_contrast(img: Any, contrast_factor: float) -> Any:
    """The difference of a picture from its mean grey, times a factor."""

    def mean(x: Any) -> Any:
        grey = _grey(x)
        grey = grey if grey.is_floating_point() else grey.float()
        return grey.mean(dim=(-3, -2, -1), keepdim=True)

    return _enhanced(img, "Contrast", contrast_factor, mean)


def adjust_saturation(img: Any, saturation_factor: float) -> Any:
    """The difference of a picture from its grey, times a factor."""
    return _enhanced(img, "Color", saturation_factor, _grey)


def rgb_to_grayscale(img: Any, num_output_channels: int = 1) -> Any:
    """A picture in grey, of 1 or 3 channels."""
    if num_output_channels not in (1, 3):
        msg = f"rgb_to_grayscale: num_output_channels must be 1 or 3, got {num_output_channels}"
        raise ValueError(msg)
    if _is_pil(img):
        grey = img.convert("L")
        return grey if num_output_channels == 1 else pillow().merge("RGB", [grey] * 3)
    return _of(img, lambda x: _grey(x) if num_output_channels == 1 else _grey(x).expand(x.shape).clone())


to_grayscale = rgb_to_grayscale


def erase(img: Any, i: int, j: int, h: int, w: int, v: Any, inplace: bool = False) -> Any:
    """A rectangle of a tensor, filled."""
    x = img if inplace else img.clone()
    x[..., i : i + h, j : j + w] = v
    return x


def area_of(
    height: int, width: int, scale: Sequence[float], ratio: Sequence[float], draw: Any
) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of a random part with an area in `scale` and sides in `ratio`; None where ten tries did not fit."""
    for _ in range(10):
        area = height * width * (scale[0] + (scale[1] - scale[0]) * draw())
        aspect = math.exp(math.log(ratio[0]) + (math.log(ratio[1]) - math.log(ratio[0])) * draw())
        w, h = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if 0 < w <= width and 0 < h <= height:
            return int(draw() * (height - h + 1)), int(draw() * (width - w + 1)), h, w
    return None
