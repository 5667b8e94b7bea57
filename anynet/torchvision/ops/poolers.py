"""Features of regions of pictures in one size (`torchvision.ops.roi_align`, `roi_pool`, `poolers`)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import anynet.torch as _room
from anynet.torchvision.ops.boxes import box_area

__all__ = ["MultiScaleRoIAlign", "RoIAlign", "RoIPool", "roi_align", "roi_pool"]

torch: Any = _room
_nn: Any = _room.nn
_ROOM = 1 << 24  # so many numbers of pixels are looked up at a time


def _pair(value: Any) -> tuple[int, int]:
    a, b = (value, value) if isinstance(value, int) else value
    return a, b


def _regions(where: str, input: Any, boxes: Any) -> Any:
    """Regions (k, 5), the first number that of the picture, outside of the graph: no gradient goes to boxes, as in torchvision."""
    if isinstance(boxes, (list, tuple)):
        if len(boxes) != len(input) or any(b.dim() != 2 or b.shape[1] != 4 for b in boxes):
            shapes = ", ".join(str(tuple(b.shape)) for b in boxes)
            msg = f"{where}: boxes must be a tensor (n, 4) for each of the {len(input)} pictures, got {shapes or 'none'}"
            raise ValueError(msg)
        boxes = torch.cat([torch.cat((torch.full_like(b[:, :1], i), b), 1) for i, b in enumerate(boxes)])
    if boxes.dim() != 2 or boxes.shape[1] != 5:
        msg = f"{where}: boxes must be (k, 5), the first number that of the picture, or a list of (n, 4), got {tuple(boxes.shape)}"
        raise ValueError(msg)
    if boxes.dtype is not input.dtype:
        msg = f"{where}: input and boxes must have one dtype, got {input.dtype} and {boxes.dtype}"
        raise TypeError(msg)
    return boxes.detach()


def _pixels(input: Any) -> Any:
    """Pictures (n, c, h, w) as a table of pixels (n · h · w, c)."""
    n, c, h, w = input.shape
    return input.permute(0, 2, 3, 1).reshape(n * h * w, c)


def _portions(rows: int, each: int) -> Iterator[slice]:
    step = max(1, _ROOM // max(1, each))
    return (slice(i, i + step) for i in range(0, rows, step))


def _samples(start: Any, end: Any, bins: int, ratio: int, aligned: bool, n: int) -> tuple[Any, Any, Any, Any]:
    """Along one axis: the two places (k, bins, s, 2) between which each sample lies, their weights, which samples there are, and how many
    a bin has."""
    size = end - start if aligned else (end - start).clamp(min=1.0)
    width = size / bins
    count = torch.full_like(size, float(ratio)) if ratio > 0 else width.ceil()
    i = torch.arange(max(int(count.max()), 0) if len(count) else 0, device=start.device).to(start.dtype)
    bin = torch.arange(bins, device=start.device).to(start.dtype)[None, :, None]
    apart = (i + 0.5) * width[:, None, None] / count.clamp(min=1)[:, None, None]
    at = start[:, None, None] + bin * width[:, None, None] + apart
    there = (at >= -1) & (at <= n) & (i < count[:, None, None])
    at = torch.where(there, at, 0.0).clamp(min=0)
    low = at.floor().clamp(max=n - 1)
    part = torch.where(low >= n - 1, 0.0, at - low)
    places = torch.stack((low, (low + 1).clamp(max=n - 1)), -1).long()
    return places, torch.stack((1 - part, part), -1), there, count


def roi_align(
    input: Any, boxes: Any, output_size: Any, spatial_scale: float = 1.0, sampling_ratio: int = -1, aligned: bool = False
) -> Any:  # fmt: skip
    """The means of samples between the pixels of regions, in `output_size` bins: (k, c, height, width) (He et al. 2017).

    boxes are (k, 5) with the number of the picture and two corners, or a list of (n, 4) for the pictures; `spatial_scale` leads from them
    to pixels. A bin has `sampling_ratio`² samples, or, with -1, about one for a pixel. With `aligned` a pixel's centre is at
    half a pixel. No gradient goes to the boxes.

    >>> import anynet.torch as torch
    >>> from anynet.torchvision.ops import roi_align
    >>> roi_align(torch.arange(16.0).view(1, 1, 4, 4), [torch.tensor([[0.0, 0.0, 3.0, 3.0]])], 2).tolist()
    [[[[3.75, 5.25], [9.75, 11.25]]]]
    """
    rois = _regions("roi_align", input, boxes)
    height, width = _pair(output_size)
    c, h, w = input.shape[1:]
    at = rois[:, 1:] * spatial_scale - (0.5 if aligned else 0.0)
    y, wy, has_y, many_y = _samples(at[:, 1], at[:, 3], height, sampling_ratio, aligned, h)
    x, wx, has_x, many_x = _samples(at[:, 0], at[:, 2], width, sampling_ratio, aligned, w)
    many, first = (many_y * many_x).clamp(min=1), rois[:, 0].long() * (h * w)
    table, parts = _pixels(input), []
    sides = y.shape[2] * x.shape[2] * 4
    for part in _portions(len(rois), height * width * sides * c):
        # (k, height, width, samples down, above and below, samples across, left and right)
        down, across = (
            (slice(None), slice(None), None, slice(None), slice(None), None, None),
            (slice(None), None, slice(None), None, None),
        )
        place = first[part][:, None, None, None, None, None, None] + y[part][down] * w + x[part][across]
        weight = wy[part][down] * wx[part][across]
        there = (
            has_y[part][:, :, None, :, None, None, None]
            & has_x[part][:, None, :, None, None, :, None]
            & (weight == weight)
        )
        shape = (-1, sides, 1)
        rows = _nn.functional.embedding(place.reshape(-1, sides), table) * weight.reshape(shape)
        sums = torch.where(there.expand(weight.shape).reshape(shape), rows, 0.0).sum(1)
        parts.append(sums.view(-1, height, width, c) / many[part][:, None, None, None])
    if not parts:
        return input.new_zeros((0, c, height, width))
    return torch.cat(parts).permute(0, 3, 1, 2)


def _bins(start: Any, end: Any, bins: int, n: int, kind: Any) -> tuple[Any, Any]:
    """Along one axis: where bins (k, bins) begin and end, in pixels."""
    first, last = (x.double().sign() * (x.double().abs() + 0.5).floor() for x in (start, end))
    width = (last - first + 1).clamp(min=1).to(kind) / bins
    i = torch.arange(bins + 1, device=start.device).to(kind) * width[:, None]
    return tuple(
        (v.double() + first[:, None]).clamp(0, n).long() for v in (i[:, :-1].floor(), i[:, 1:].ceil())
    )


def roi_pool(input: Any, boxes: Any, output_size: Any, spatial_scale: float = 1.0) -> Any:
    """The maxima of the pixels of regions, in `output_size` bins: (k, c, height, width), 0 of bins without pixels (Girshick 2015).

    boxes are as for `roi_align`. No gradient goes to them.
    """
    rois = _regions("roi_pool", input, boxes)
    height, width = _pair(output_size)
    c, h, w = input.shape[1:]
    at = rois[:, 1:] * spatial_scale
    top, bottom = _bins(at[:, 1], at[:, 3], height, h, input.dtype)
    left, right = _bins(at[:, 0], at[:, 2], width, w, input.dtype)
    if not len(rois):
        return input.new_zeros((0, c, height, width))
    table, first = _pixels(input), rois[:, 0].long() * (h * w)
    i = torch.arange(max(int((bottom - top).max()), 1), device=rois.device)[:, None]
    j = torch.arange(max(int((right - left).max()), 1), device=rois.device)
    parts = []
    for part in _portions(len(rois), i.numel() * j.numel() * c):
        found = []
        for p in range(height):
            for q in range(width):
                y, x = (v[part][:, None, None] for v in (top[:, p], left[:, q]))
                there = (y + i < bottom[part, p][:, None, None]) & (x + j < right[part, q][:, None, None])
                place = torch.where(there, first[part][:, None, None] + (y + i) * w + x + j, 0)
                rows = _nn.functional.embedding(place.flatten(1), table)
                most = torch.where(there.flatten(1)[..., None], rows, -math.inf).max(1).values
                found.append(torch.where(there.flatten(1).any(1)[:, None], most, 0.0))
        parts.append(torch.stack(found, -1).view(-1, c, height, width))
    return torch.cat(parts)


class RoIAlign(_nn.Module):  # type: ignore[misc]
    """`roi_align` as a layer."""

    def __init__(
        self, output_size: Any, spatial_scale: float, sampling_ratio: int, aligned: bool = False
    ) -> None:
        super().__init__()
        self.output_size, self.spatial_scale = output_size, spatial_scale
        self.sampling_ratio, self.aligned = sampling_ratio, aligned

    def forward(self, input: Any, rois: Any) -> Any:
        """The features of regions."""
        return roi_align(input, rois, self.output_size, self.spatial_scale, self.sampling_ratio, self.aligned)


class RoIPool(_nn.Module):  # type: ignore[misc]
    """`roi_pool` as a layer."""

    def __init__(self, output_size: Any, spatial_scale: float) -> None:
        super().__init__()
        self.output_size, self.spatial_scale = output_size, spatial_scale

    def forward(self, input: Any, rois: Any) -> Any:
        """The features of regions."""
        return roi_pool(input, rois, self.output_size, self.spatial_scale)


class MultiScaleRoIAlign(_nn.Module):  # type: ignore[misc]
    """`roi_align` of a dict of maps of several sizes: large regions from the small maps (Lin et al. 2017).

    A region of √area = `canonical_scale` pixels is taken from level `canonical_level`, one of half the size a level lower. What a map's
    scale is follows from its size and the largest of `image_shapes`, (height, width) of each picture.
    """

    def __init__(
        self, featmap_names: list[str], output_size: Any, sampling_ratio: int, *, canonical_scale: int = 224, canonical_level: int = 4
    ) -> None:  # fmt: skip
        super().__init__()
        self.featmap_names, self.output_size, self.sampling_ratio = (
            featmap_names,
            _pair(output_size),
            sampling_ratio,
        )
        self.canonical_scale, self.canonical_level = canonical_scale, canonical_level

    def forward(self, x: Any, boxes: list[Any], image_shapes: list[tuple[int, int]]) -> Any:
        """The features (k, c, height, width) of all boxes."""
        if not image_shapes:
            msg = "MultiScaleRoIAlign: image_shapes must not be empty"
            raise ValueError(msg)
        maps = [v for name, v in x.items() if name in self.featmap_names]
        tall = max(shape[0] for shape in image_shapes)
        scales = [2.0 ** round(math.log2(m.shape[-2] / tall)) for m in maps]
        rois = torch.cat([torch.cat((torch.full_like(b[:, :1], i), b), 1) for i, b in enumerate(boxes)])
        if len(maps) == 1:
            return roi_align(maps[0], rois, self.output_size, scales[0], self.sampling_ratio)
        lowest, highest = (int(-math.log2(s)) for s in (scales[0], scales[-1]))
        size = torch.sqrt(torch.cat([box_area(b) for b in boxes])).detach()
        level = torch.floor(self.canonical_level + torch.log2(size / self.canonical_scale) + 1e-6)
        level = level.clamp(lowest, highest).long() - lowest
        result = torch.zeros(
            (len(rois), maps[0].shape[1], *self.output_size), dtype=maps[0].dtype, device=maps[0].device
        )
        for i, (m, scale) in enumerate(zip(maps, scales, strict=True)):
            own = torch.where(level == i)[0]
            result[own] = roi_align(m, rois[own], self.output_size, scale, self.sampling_ratio).to(
                result.dtype
            )
        return result
