"""Points, targets and scores of what is fitted to arrays in one go: classes by one column each, numbers as they are."""

from __future__ import annotations

from typing import Any

from anynet.methods.checks import listed
from anynet.tensor import to_plain
from anynet_backends import Array, backend_of

__all__ = ["one_hot_of", "points_of", "right_share"]


def points_of(where: str, x: Any, features: int | None = None, like: Array | None = None) -> Array:
    """X (n, features), real and finite, with the dtype and device of `like` where there is one; ValueError else."""
    points = to_plain(x, device=None if like is None else backend_of(like).device_of(like))
    xp = backend_of(points)
    if len(points.shape) != 2 or (features is not None and points.shape[1] != features):
        msg = f"{where}: X must be (n, {features or 'd'}), got {tuple(points.shape)}"
        raise ValueError(msg)
    if like is not None:
        points = xp.astype(points, like.dtype)
    elif not xp.isdtype(points.dtype, "real floating"):
        points = xp.astype(points, xp.float64)
    if not bool(xp.all(xp.isfinite(points))):
        msg = f"{where}: X has numbers that are not finite"
        raise ValueError(msg)
    return points


def one_hot_of(where: str, points: Array, y: Any) -> tuple[Array, list[Any]]:
    """A column for each class, 1 where it is the label and else 0, like the points; and the classes, in order."""
    n, xp, labels = points.shape[0], backend_of(points), listed(y)
    classes = sorted(set(labels))
    if len(labels) != n or len(classes) < 2:
        msg = f"{where}: needs {n} labels of at least 2 classes, got {len(labels)} of {len(classes)}"
        raise ValueError(msg)
    columns = [[float(label == c) for c in classes] for label in labels]
    return xp.astype(to_plain(columns, dtype="float64", device=xp.device_of(points)), points.dtype), classes


def right_share(found: list[Any], y: Any) -> float:
    """The share of labels that are right."""
    right = [a == b for a, b in zip(found, listed(y), strict=True)]
    return right.count(True) / len(right)
