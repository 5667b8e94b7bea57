"""Boxes: their formats, areas and overlaps, and which of them are left where they overlap (`torchvision.ops.boxes`).

A box is four numbers along the last axis: its corners (x₁, y₁, x₂, y₂), or in `box_convert` and `box_area` a corner or the centre with
width and height.
"""

from __future__ import annotations

import math
from typing import Any

import anynet.torch as _room

__all__ = [
    "batched_nms", "box_area", "box_convert", "box_iou", "clip_boxes_to_image", "complete_box_iou", "distance_box_iou",
    "generalized_box_iou", "masks_to_boxes", "nms", "remove_small_boxes",
]  # fmt: skip

torch: Any = _room
_FORMATS = ("xyxy", "xywh", "cxcywh")


def _wide(x: Any) -> Any:
    """In a type in which products of lengths do not overflow: float32 at least, or int32."""
    if x.is_floating_point():
        return x if x.dtype in (torch.float32, torch.float64) else x.float()
    return x if x.dtype in (torch.int32, torch.int64) else x.int()


def _known(where: str, fmt: str) -> None:
    if fmt not in _FORMATS:
        msg = f"{where}: the format must be one of {', '.join(_FORMATS)} (turned boxes are not offered), got {fmt!r}"
        raise ValueError(msg)


def box_convert(boxes: Any, in_fmt: str, out_fmt: str) -> Any:
    """Boxes (…, 4) in another format: "xyxy" (two corners), "xywh" (a corner, width, height) or "cxcywh" (the centre, width, height).

    >>> import anynet.torch as torch
    >>> from anynet.torchvision.ops import box_convert
    >>> box_convert(torch.tensor([[1.0, 1.0, 3.0, 5.0]]), "xyxy", "cxcywh").tolist()
    [[2.0, 3.0, 2.0, 4.0]]
    """
    _known("box_convert", in_fmt)
    _known("box_convert", out_fmt)
    if in_fmt == out_fmt:
        return boxes.clone()
    a, b, c, d = boxes.unbind(-1)
    if in_fmt == "xywh":
        c, d = a + c, b + d
    elif in_fmt == "cxcywh":
        a, b, c, d = a - 0.5 * c, b - 0.5 * d, a + 0.5 * c, b + 0.5 * d
    if out_fmt == "xywh":
        c, d = c - a, d - b
    elif out_fmt == "cxcywh":
        a, b, c, d = (a + c) / 2, (b + d) / 2, c - a, d - b
    return torch.stack((a, b, c, d), dim=-1)


def box_area(boxes: Any, fmt: str = "xyxy") -> Any:
    """The areas (…) of boxes (…, 4)."""
    _known("box_area", fmt)
    a, b, c, d = _wide(boxes).unbind(-1)
    return (c - a) * (d - b) if fmt == "xyxy" else c * d


def _corners(boxes: Any, fmt: str) -> tuple[Any, Any]:
    first, last = boxes[..., :2], boxes[..., 2:]
    if fmt == "xyxy":
        return first, last
    return (first, first + last) if fmt == "xywh" else (first - last / 2, first + last / 2)


def _overlaps(boxes1: Any, boxes2: Any, fmt: str = "xyxy") -> tuple[Any, Any]:
    """The areas (…, n, m) of the intersections and unions of n boxes with m."""
    (low1, high1), (low2, high2) = _corners(boxes1, fmt), _corners(boxes2, fmt)
    low = torch.max(low1[..., None, :], low2[..., None, :, :])
    high = torch.min(high1[..., None, :], high2[..., None, :, :])
    sides = _wide(high - low).clamp(min=0)
    inter = sides[..., 0] * sides[..., 1]
    return inter, box_area(boxes1, fmt)[..., None] + box_area(boxes2, fmt)[..., None, :] - inter


def _hull(boxes1: Any, boxes2: Any) -> Any:
    """Width and height (…, n, m, 2) of the smallest boxes around n boxes and m."""
    low = torch.min(boxes1[..., None, :2], boxes2[..., None, :, :2])
    high = torch.max(boxes1[..., None, 2:], boxes2[..., None, :, 2:])
    return _wide(high - low).clamp(min=0)


def box_iou(boxes1: Any, boxes2: Any, fmt: str = "xyxy") -> Any:
    """The areas of the intersections of n boxes with m, by those of their unions: (…, n, m); 0 / 0 is NaN.

    >>> import anynet.torch as torch
    >>> from anynet.torchvision.ops import box_iou
    >>> box_iou(torch.tensor([[0.0, 0.0, 2.0, 2.0]]), torch.tensor([[1.0, 0.0, 2.0, 2.0], [5.0, 5.0, 6.0, 6.0]])).tolist()
    [[0.5, 0.0]]
    """
    _known("box_iou", fmt)
    inter, union = _overlaps(boxes1, boxes2, fmt)
    return inter / union


def generalized_box_iou(boxes1: Any, boxes2: Any) -> Any:
    """IoU less the part of the smallest box around both that neither covers (Rezatofighi et al. 2019): (…, n, m)."""
    inter, union = _overlaps(boxes1, boxes2)
    hull = _hull(boxes1, boxes2).prod(-1)
    return inter / union - (hull - union) / hull


def distance_box_iou(boxes1: Any, boxes2: Any, eps: float = 1e-7) -> Any:
    """IoU less the squared distance of the centres by that of the corners of the box around both (Zheng et al. 2020): (…, n, m)."""
    a, b = _wide(boxes1), _wide(boxes2)
    apart = ((a[..., :2] + a[..., 2:]) / 2)[..., None, :] - ((b[..., :2] + b[..., 2:]) / 2)[..., None, :, :]
    return box_iou(a, b) - (apart**2).sum(-1) / ((_hull(a, b) ** 2).sum(-1) + eps)


def complete_box_iou(boxes1: Any, boxes2: Any, eps: float = 1e-7) -> Any:
    """`distance_box_iou` less a term for the ratios of width to height (Zheng et al. 2020): (…, n, m)."""
    a, b = _wide(boxes1), _wide(boxes2)
    first = torch.atan((a[..., 2] - a[..., 0]) / (a[..., 3] - a[..., 1]))
    second = torch.atan((b[..., 2] - b[..., 0]) / (b[..., 3] - b[..., 1]))
    v = 4 / math.pi**2 * (first[..., None] - second[..., None, :]) ** 2
    with torch.no_grad():
        alpha = v / (1 - box_iou(a, b) + v + eps)
    return distance_box_iou(a, b, eps) - alpha * v


def clip_boxes_to_image(boxes: Any, size: tuple[int, int]) -> Any:
    """Boxes (…, 4) with their corners moved into a picture of the size (height, width)."""
    height, width = size
    x, y = boxes[..., 0::2].clamp(min=0, max=width), boxes[..., 1::2].clamp(min=0, max=height)
    return torch.stack((x, y), dim=boxes.dim()).reshape(boxes.shape)


def remove_small_boxes(boxes: Any, min_size: float) -> Any:
    """The numbers of the boxes (n, 4) whose sides are `min_size` at least."""
    sides = boxes[..., 2:] - boxes[..., :2]
    return torch.where((sides >= min_size).all(-1))[0]


def masks_to_boxes(masks: Any) -> Any:
    """The smallest boxes (n, 4), in float32, around what is not 0 in masks (n, height, width); zeros of an empty mask."""
    if masks.numel() == 0:
        return torch.zeros((0, 4), device=masks.device, dtype=torch.float32)
    full = masks != 0
    found = []
    for along in (full.any(1), full.any(2)):  # columns, rows
        places = torch.arange(along.shape[1], device=masks.device)
        found.append(torch.where(along, places, along.shape[1]).amin(1))
        found.append(torch.where(along, places, -1).amax(1))
    boxes = torch.stack((found[0], found[2], found[1], found[3]), 1).float()
    return torch.where(full.any(2).any(1)[:, None], boxes, torch.zeros_like(boxes))


def nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """Non-maximum suppression: the numbers of the boxes (n, 4) that are left, by decreasing score, where each takes away those of lower
    scores with which its IoU is above `iou_threshold`. Of equal scores the box that comes first is taken first.

    >>> import anynet.torch as torch
    >>> from anynet.torchvision.ops import nms
    >>> nms(torch.tensor([[0.0, 0, 2, 2], [0, 0, 2, 1.9], [3, 3, 4, 4]]), torch.tensor([0.5, 0.9, 0.1]), 0.5).tolist()
    [1, 2]
    """
    if boxes.dim() != 2 or boxes.shape[1] != 4 or tuple(scores.shape) != (len(boxes),):
        msg = f"nms: boxes must be (n, 4) and scores (n,), got {tuple(boxes.shape)} and {tuple(scores.shape)}"
        raise ValueError(msg)
    if boxes.dtype is not scores.dtype:
        msg = f"nms: boxes and scores must have one dtype, got {boxes.dtype} and {scores.dtype}"
        raise TypeError(msg)
    order = scores.detach().argsort(descending=True, stable=True)
    there = boxes.detach()[order]
    gone = torch.zeros(len(there), dtype=torch.bool).numpy()
    kept: list[int] = []
    for start in range(0, len(there), 256):  # so many rows of all overlaps at a time
        inter, union = _overlaps(there[start : start + 256], there)
        iou = inter / torch.where(union == 0, 1, union)  # boxes without area take nothing away
        over = (iou > iou_threshold).cpu().numpy()
        for i, row in enumerate(over, start):
            if not gone[i]:
                kept.append(i)
                gone |= row
    return order[torch.tensor(kept, dtype=torch.int64, device=boxes.device)]


def batched_nms(boxes: Any, scores: Any, idxs: Any, iou_threshold: float) -> Any:
    """`nms` within each class, where `idxs` (n,) says which: boxes of different classes take nothing from each other."""
    keep = torch.zeros(len(boxes), dtype=torch.bool, device=boxes.device)
    for number in torch.unique(idxs):
        own = torch.where(idxs == number)[0]
        keep[own[nms(boxes[own], scores[own], iou_threshold)]] = True
    kept = torch.where(keep)[0]
    return kept[scores.detach()[kept].argsort(descending=True, stable=True)]
