"""Losses of detectors: the focal loss, and what boxes lack of those that they stand for."""

from __future__ import annotations

import math
from typing import Any

import anynet.torch as _room

__all__ = ["complete_box_iou_loss", "distance_box_iou_loss", "generalized_box_iou_loss", "sigmoid_focal_loss"]

torch: Any = _room


def _reduced(where: str, loss: Any, reduction: str) -> Any:
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    if reduction == "mean":
        return loss.mean() if loss.numel() else 0.0 * loss.sum()
    msg = f"{where}: reduction must be 'none', 'mean' or 'sum', got {reduction!r}"
    raise ValueError(msg)


def sigmoid_focal_loss(
    inputs: Any, targets: Any, alpha: float = 0.25, gamma: float = 2, reduction: str = "none"
) -> Any:
    """Binary cross-entropy of logits in which what is right already counts little: αₜ (1 − pₜ)^γ · −log pₜ (Lin et al. 2017).

    α weights the positive ones, 1 − α the negative ones; -1: neither.
    """
    if not 0 <= alpha <= 1 and alpha != -1:
        msg = f"sigmoid_focal_loss: alpha must be in [0, 1], or -1 for no weights, got {alpha}"
        raise ValueError(msg)
    p = torch.sigmoid(inputs)
    loss = torch.nn.functional.binary_cross_entropy_with_logits(inputs, targets, reduction="none")
    loss = loss * (1 - (p * targets + (1 - p) * (1 - targets))) ** gamma
    if alpha >= 0:
        loss = (alpha * targets + (1 - alpha) * (1 - targets)) * loss
    return _reduced("sigmoid_focal_loss", loss, reduction)


def _pairs(boxes1: Any, boxes2: Any) -> tuple[Any, Any, Any, Any, Any, Any]:
    """Boxes in floating point, the areas of intersections and unions of each with its own, and the sides of the boxes around both."""
    a, b = (x if x.dtype in (torch.float32, torch.float64) else x.float() for x in (boxes1, boxes2))
    sides = torch.min(a[..., 2:], b[..., 2:]) - torch.max(a[..., :2], b[..., :2])
    inter = torch.where((sides > 0).all(-1), sides.prod(-1), 0.0)
    union = (a[..., 2:] - a[..., :2]).prod(-1) + (b[..., 2:] - b[..., :2]).prod(-1) - inter
    hull = torch.max(a[..., 2:], b[..., 2:]) - torch.min(a[..., :2], b[..., :2])
    return a, b, inter, union, hull[..., 0], hull[..., 1]


def generalized_box_iou_loss(boxes1: Any, boxes2: Any, reduction: str = "none", eps: float = 1e-7) -> Any:
    """1 less the generalized IoU of each box (x₁, y₁, x₂, y₂) with its own (Rezatofighi et al. 2019)."""
    _, _, inter, union, w, h = _pairs(boxes1, boxes2)
    loss = 1 - (inter / (union + eps) - (w * h - union) / (w * h + eps))
    return _reduced("generalized_box_iou_loss", loss, reduction)


def _distance(boxes1: Any, boxes2: Any, eps: float) -> tuple[Any, Any, Any, Any]:
    a, b, inter, union, w, h = _pairs(boxes1, boxes2)
    iou = inter / (union + eps)
    apart = (((a[..., :2] + a[..., 2:]) / 2 - (b[..., :2] + b[..., 2:]) / 2) ** 2).sum(-1)
    return 1 - iou + apart / (w**2 + h**2 + eps), iou, a, b


def distance_box_iou_loss(boxes1: Any, boxes2: Any, reduction: str = "none", eps: float = 1e-7) -> Any:
    """1 less the IoU of each box with its own, and the squared distance of the centres by that of the corners of the box around both (Zheng
    et al. 2020)."""
    return _reduced("distance_box_iou_loss", _distance(boxes1, boxes2, eps)[0], reduction)


def complete_box_iou_loss(boxes1: Any, boxes2: Any, reduction: str = "none", eps: float = 1e-7) -> Any:
    """`distance_box_iou_loss` and a term for the ratios of width to height (Zheng et al. 2020)."""
    loss, iou, a, b = _distance(boxes1, boxes2, 1e-7)  # as torchvision has it, whatever eps is
    angles = [torch.atan((x[..., 2] - x[..., 0]) / (x[..., 3] - x[..., 1])) for x in (b, a)]
    v = 4 / math.pi**2 * (angles[0] - angles[1]) ** 2
    with torch.no_grad():
        alpha = v / (1 - iou + v + eps)
    return _reduced("complete_box_iou_loss", loss + alpha * v, reduction)
