"""From pictures, as they come, to a network's inputs, and from its outputs to classes."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from anynet import dtypes
from anynet.data.images.decoding import RESIZE, as_array, decoded, fitted, in_threads, pillow, upright
from anynet.data.images.finding import pictures_under
from anynet.data.predictions import Predictions
from anynet.data.source import Preprocessing
from anynet.ops.softmax import softmax
from anynet.tensor import Tensor, to_plain, wrap
from anynet_backends import Array, backend_of, registry

__all__ = ["ImagePreprocessing"]


class ImagePreprocessing(Preprocessing):
    """Pictures brought to one size and normalised: (v / 255 − mean) / std for each channel; outputs are scores of classes.

    Parameters:
      size: (height, width). channels: 1 (grey) or 3 (RGB). mean, std: of each channel, of values from 0 to 1.
      classes: the labels in the order of the outputs.
      resize: how pictures of another shape get this size: "crop", "stretch" or "pad" (see `ImageFolder`).

    >>> import anynet as an
    >>> p = ImagePreprocessing((2, 2), 1, [0.5], [0.5], ["black", "white"])
    >>> p.inputs(an.asarray([[0, 255], [255, 0]], dtype=an.uint8)).tolist()
    [[[[-1.0, 1.0], [1.0, -1.0]]]]
    >>> p.decode(an.asarray([[0.0, 9.0]])).values
    ['white']
    """

    kind: ClassVar[str] = "images"

    def __init__(
        self,
        size: Sequence[int],
        channels: int,
        mean: Sequence[float],
        std: Sequence[float],
        classes: Sequence[Any],
        resize: str = "crop",
    ) -> None:
        self.task = "classification"
        self.size = int(size[0]), int(size[1])
        self.channels, self.resize = channels, resize
        self.mean, self.std = [float(m) for m in mean], [float(s) for s in std]
        self.classes: list[Any] = list(classes)

    # ----- inputs -----

    def inputs(self, samples: Any) -> Tensor:
        """float32 (n, channels, height, width) for: the path of a picture, of a folder (its pictures in order, those of folders in it
        too), or a list of paths; pictures of Pillow; the bytes of files; arrays of uint8, or of floating-point numbers from 0 to
        1, of shape (height, width), (height, width, channels) or (n, height, width, channels).
        """
        pictures = in_threads(self._picture, _listed(samples))
        if not pictures:
            msg = f"there are no pictures in {samples!r:.80}"
            raise ValueError(msg)
        return self.normalized(backend_of(pictures[0]).stack(pictures, axis=0))

    def normalized(self, pictures: Array, device: str | None = None) -> Tensor:
        """uint8 (n, height, width, channels) → float32 (n, channels, height, width)."""
        xp = backend_of(pictures)
        return wrap(self.scaled(xp.permute_dims(pictures, (0, 3, 1, 2))))

    def scaled(self, x: Array) -> Array:
        """Pictures (n, channels, height, width), of uint8 or of floats from 0 to 1: v a + b with a = 1 / (255 std), b = −mean / std."""
        xp = backend_of(x)
        most = 255.0 if x.dtype == xp.uint8 else 1.0
        shape = (1, self.channels, 1, 1)

        def each(values: list[float]) -> Array:
            return xp.reshape(xp.asarray(values, dtype=xp.float32, device=x.device), shape)

        a = each([1 / (most * s) for s in self.std])
        b = each([-m / s for m, s in zip(self.mean, self.std, strict=True)])
        return xp.astype(x, xp.float32) * a + b

    def _picture(self, sample: Any) -> Array:
        """One sample, uint8 (height, width, channels)."""
        if isinstance(sample, (str, os.PathLike)):
            with open(sample, "rb") as file:
                data = file.read()
            try:
                return decoded(data, self.size, self.channels, self.resize)
            except OSError as error:
                msg = f"{os.fspath(sample)}: {error}"
                raise ValueError(msg) from None
        if isinstance(sample, (bytes, bytearray)):
            try:
                return decoded(bytes(sample), self.size, self.channels, self.resize)
            except OSError as error:
                raise ValueError(str(error)) from None
        if hasattr(sample, "convert") and hasattr(sample, "getexif"):
            return as_array(fitted(upright(sample, self.channels), self.size, self.resize))
        return self._array(sample)

    def _array(self, array: Array) -> Array:
        """One uint8 picture (height, width) or (height, width, 1, 3 or 4)."""
        if array.ndim == 3 and array.shape[2] == 1:
            array = array[..., 0]
        if array.ndim == 3 and array.shape[2] == self.channels and tuple(array.shape[:2]) == self.size:
            return array
        if array.ndim == 2 and self.channels == 1 and tuple(array.shape) == self.size:
            return array[..., None]
        if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
            first = (
                "; channels come last here: permute_dims(x, (0, 2, 3, 1))"
                if array.ndim == 3 and array.shape[0] in (1, 3)
                else ""
            )
            msg = (
                f"a picture is (height, width) or (height, width, channels), got {tuple(array.shape)}{first}"
            )
            raise ValueError(msg)
        image = pillow().fromarray(array)
        return as_array(fitted(upright(image, self.channels), self.size, self.resize))

    # ----- targets -----

    def targets(self, samples: Any) -> Tensor:
        """The numbers of the classes, int64 (n,): of files the folder in which they are, the nearest that is called like a class."""
        numbers = {name: i for i, name in enumerate(self.classes)}
        found = []
        for sample in _listed(samples):
            if not isinstance(sample, (str, os.PathLike)):
                msg = f"the class of a picture is the folder of its file, got {type(sample).__name__} without a file"
                raise ValueError(msg)
            parts = Path(os.path.abspath(sample)).parts[:-1]
            known = next((numbers[p] for p in reversed(parts) if p in numbers), None)
            if known is None:
                msg = f"{os.fspath(sample)}: none of its folders is a class; the classes are {', '.join(map(str, self.classes[:10]))}"
                raise ValueError(msg)
            found.append(known)
        if not found:
            msg = f"there are no pictures in {samples!r:.80}"
            raise ValueError(msg)
        return wrap(registry.asarray(found, "int64"))

    # ----- answers -----

    def decode(self, output: Tensor, samples: Any = None) -> Predictions:
        """The likeliest class of each picture with its probability (softmax of the outputs); of at most 20 classes all probabilities,
        of more the five likeliest. The column ``file`` says which picture it was, where it was one."""
        x = wrap(to_plain(output.detach(), device="cpu"))
        if x.ndim != 2 or x.shape[1] != len(self.classes):
            msg = f"the outputs must be scores (n, {len(self.classes)}) of the classes, got shape {x.shape}"
            raise ValueError(msg)
        rows = softmax(x, axis=1).tolist()
        orders = [sorted(range(len(row)), key=row.__getitem__, reverse=True) for row in rows]
        columns: dict[str, Sequence[Any]] = {}
        given = _listed(samples) if isinstance(samples, (str, os.PathLike, list, tuple)) else []
        if len(given) == len(rows) and given and all(isinstance(s, (str, os.PathLike)) for s in given):
            columns["file"] = [os.fspath(s) for s in given]
        columns["probability"] = [row[order[0]] for row, order in zip(rows, orders, strict=True)]
        if len(self.classes) <= 20:
            columns |= {f"probability_{c}": [row[i] for row in rows] for i, c in enumerate(self.classes)}
        else:
            for k in range(1, 5):
                columns[f"class_{k + 1}"] = [self.classes[order[k]] for order in orders]
                columns[f"probability_{k + 1}"] = [
                    row[order[k]] for row, order in zip(rows, orders, strict=True)
                ]
        return Predictions([self.classes[order[0]] for order in orders], columns)

    # ----- JSON -----

    def to_json(self) -> dict[str, Any]:
        """Size, channels, mean, deviation, classes, how pictures are resized."""
        return {
            "size": list(self.size), "channels": self.channels, "mean": self.mean, "std": self.std, "classes": self.classes,
            "resize": self.resize,
        }  # fmt: skip

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> ImagePreprocessing:
        """The inverse of `to_json`."""

        def need(name: str, fine: Any) -> Any:
            value = data.get(name)
            if not fine(value):
                msg = f"a preprocessing of images has no valid {name!r}: {value!r:.60}"
                raise ValueError(msg)
            return value

        def numbers(of: int, least: float) -> Any:
            return lambda v: (
                isinstance(v, list) and len(v) == of
                and all(isinstance(n, (int, float)) and math.isfinite(n) and n > least for n in v)
            )  # fmt: skip

        channels = need("channels", lambda v: v in (1, 3))
        size = need("size", lambda v: numbers(2, 0)(v) and all(isinstance(n, int) for n in v))
        mean, std = need("mean", numbers(channels, -math.inf)), need("std", numbers(channels, 0.0))
        classes = need("classes", lambda v: isinstance(v, list) and len(v) > 1)
        return cls(size, channels, mean, std, classes, need("resize", lambda v: v in RESIZE))


def _listed(samples: Any) -> list[Any]:
    """The single pictures: paths, bytes, Pillow's pictures or uint8 arrays."""
    if isinstance(samples, (str, os.PathLike)):
        if os.path.isdir(samples):
            return list(pictures_under(os.fspath(samples)))
        if not os.path.exists(samples):
            msg = f"there is no file {os.fspath(samples)!r}"
            raise FileNotFoundError(msg)
        return [samples]
    if isinstance(samples, (bytes, bytearray)) or hasattr(samples, "getexif"):
        return [samples]
    if isinstance(samples, Tensor) or registry.is_array(samples):
        array = _bytes(registry.asarray(to_plain(samples)))
        if array.ndim == 4:
            return list(array)
        if array.ndim == 3 and array.shape[2] not in (1, 3, 4):
            return list(array)  # grey pictures
        return [array]
    if isinstance(samples, (list, tuple)):
        return [one for sample in samples for one in _listed(sample)]
    msg = (
        "pictures are paths, folders, Pillow's pictures, bytes of files, or arrays (n, height, width, channels), got "
        f"{type(samples).__name__}"
    )
    raise TypeError(msg)


def _bytes(array: Array) -> Array:
    """uint8 of an array of uint8, booleans, or floating-point numbers from 0 to 1."""
    hx = backend_of(array)
    kind = dtypes.of(array.dtype)
    if kind.name == "uint8":
        return array
    if kind.kind == "bool":
        return hx.astype(array, hx.uint8) * 255
    low, high = (float(hx.min(array)), float(hx.max(array))) if math.prod(array.shape) else (0.0, 0.0)
    if kind.kind == "real":
        if not (low >= 0 and high <= 1):
            msg = f"pictures of floating-point numbers are from 0 to 1, got {low:g} to {high:g}"
            raise ValueError(msg)
        return hx.astype(hx.floor(array * 255 + 0.5), hx.uint8)
    if not (low >= 0 and high <= 255):
        msg = f"pictures of integers are from 0 to 255, got {low:g} to {high:g}"
        raise ValueError(msg)
    return hx.astype(array, hx.uint8)
