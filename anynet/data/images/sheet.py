"""Sheets of pictures, to look at."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

from anynet.data.images.decoding import pillow
from anynet_backends import Array, backend_of

if TYPE_CHECKING:
    from anynet.data.images.source import ImageDataset

__all__ = ["sheet", "thumbnails"]


def _chosen(data: ImageDataset, count: int) -> list[int]:
    """So many pictures, spread over the part (and with it over the classes)."""
    n = len(data)
    return sorted({i * n // min(count, n) for i in range(min(count, n))})


def _seen(data: ImageDataset, indices: list[int], augmented: bool) -> tuple[list[Array], list[str]]:
    """The pictures (height, width, channels) of uint8, and their classes."""
    names = [str(data.preprocessing.classes[int(data.labels[int(data.rows[i])])]) for i in indices]
    if not augmented:
        return [data.picture(i) for i in indices], names
    p = data.preprocessing
    x = data.batch(indices)[0].data
    xp = backend_of(x)
    mean, std = (xp.reshape(xp.asarray(v, dtype=xp.float32), (1, -1, 1, 1)) for v in (p.mean, p.std))
    pixels = xp.astype(xp.clip(xp.floor((x * std + mean) * 255 + 0.5), 0, 255), xp.uint8)
    return list(xp.permute_dims(pixels, (0, 2, 3, 1))), names


def sheet(data: ImageDataset, count: int, augmented: bool) -> Any:
    """A figure of matplotlib's, or without it a picture of Pillow's."""
    if not isinstance(count, int) or count < 1:
        msg = f"show: count must be an integer ≥ 1, got {count!r}"
        raise ValueError(msg)
    pictures, names = _seen(data, _chosen(data, count), augmented)
    columns = min(8, len(pictures))
    lines = -(-len(pictures) // columns)
    try:
        from matplotlib.figure import Figure  # optional: without it the sheet is Pillow's
    except ModuleNotFoundError:
        return _contact_sheet(pictures, columns, lines)
    figure = Figure(figsize=(1.4 * columns, 1.6 * lines), layout="constrained")
    for k, (picture, name) in enumerate(zip(pictures, names, strict=True)):
        axes = figure.add_subplot(lines, columns, k + 1)
        axes.imshow(picture if picture.shape[2] == 3 else picture[..., 0], cmap="gray", vmin=0, vmax=255)
        axes.set_title(name[:18], fontsize=8)
        axes.set_axis_off()
    return figure


def _contact_sheet(pictures: list[Array], columns: int, lines: int) -> Any:
    Image = pillow()  # noqa: N806 Pillow's own name
    height, width, _ = pictures[0].shape
    out = Image.new("RGB", (columns * (width + 4), lines * (height + 4)), "white")
    for k, picture in enumerate(pictures):
        image = Image.fromarray(picture if picture.shape[2] == 3 else picture[..., 0])
        out.paste(image, ((k % columns) * (width + 4) + 2, (k // columns) * (height + 4) + 2))
    return out


def thumbnails(data: ImageDataset, count: int = 16) -> str:
    """HTML of some pictures as they were read."""
    pictures, _ = _seen(data, _chosen(data, count), augmented=False)
    out = io.BytesIO()
    _contact_sheet(pictures, min(16, len(pictures)), -(-len(pictures) // 16)).save(out, "PNG")
    return f"<p><img alt='pictures of the training part' src='data:image/png;base64,{base64.b64encode(out.getvalue()).decode()}'></p>"
