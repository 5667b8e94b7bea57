"""What methods ask of their arguments, in one wording."""

from __future__ import annotations

from typing import Any

from anynet.tensor import to_plain
from anynet.typing import ArrayLike
from anynet_backends import Array, backend_of

__all__ = ["check_count", "check_number", "classes_of", "listed"]


def check_count(where: str, name: str, value: Any, least: int = 1) -> int:
    """An integer of at least `least`; ValueError else."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        msg = f"{where}: {name} must be an integer ≥ {least}, got {value!r}"
        raise ValueError(msg)
    return value


def check_number(
    where: str,
    name: str,
    value: Any,
    low: float | None = None,
    high: float | None = None,
    *,
    open: bool = False,
) -> float:
    """A number in [low, high], or strictly between with `open`; ValueError else."""
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and value == value
    if good and low is not None:
        good = value > low if open else value >= low
    if good and high is not None:
        good = value < high if open else value <= high
    if not good:
        ends = f"{'(' if open else '['}{low}, {high}{')' if open else ']'}"
        asked = (
            f"be in {ends}" if low is not None and high is not None else f"be {'>' if open else '≥'} {low}"
        )
        msg = f"{where}: {name} must {asked if low is not None else 'be a number'}, got {value!r}"
        raise ValueError(msg)
    return float(value)


def classes_of(
    where: str, labels: ArrayLike, n: int, n_classes: int | None = None
) -> tuple[Array, list[int]]:
    """Labels (n,) as a plain integer array, checked, and how many there are of each class."""
    y = to_plain(labels)
    xp = backend_of(y)
    if not xp.isdtype(y.dtype, "integral"):
        msg = f"{where}: labels must be integers, got {xp.dtype_name(y.dtype)}"
        raise TypeError(msg)
    if tuple(y.shape) != (n,):
        msg = f"{where}: {n} samples need labels of shape ({n},), got {tuple(y.shape)}"
        raise ValueError(msg)
    values = xp.to_host(y).tolist()
    k = (max(values, default=-1) + 1) if n_classes is None else n_classes
    if any(not 0 <= v < k for v in values):
        bad = next(v for v in values if not 0 <= v < k)
        msg = f"{where}: labels must be in [0, {k - 1}], got {bad}"
        raise ValueError(msg)
    counts = [0] * k
    for v in values:
        counts[v] += 1
    return y, counts


def listed(labels: Any) -> list[Any]:
    """Labels of any kind (a list, an array, a Tensor, a column of a table) as a list of Python's."""
    if hasattr(labels, "tolist"):
        return list(labels.tolist())
    if hasattr(labels, "shape"):
        data = to_plain(labels)
        return list(backend_of(data).to_host(data).tolist())
    return list(labels)
