"""Metrics: numbers per batch that add up to a number per epoch.

A metric is a function ``(output, target) -> (sum, count)``; its value over a data set is Σ sum / Σ count.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Sequence
from typing import Any

import anynet.ops.elementwise as e
from anynet.ops.manipulation import astype
from anynet.ops.reductions import argmax, sum
from anynet.tensor import Tensor

__all__ = ["METRICS", "Sums", "accuracy", "mae", "metric", "mse"]

Metric = Callable[[Any, Any], tuple[Any, int]]


def accuracy(output: Any, target: Any) -> tuple[Any, int]:
    """The share of samples whose largest score (axis 1), or probability above ½ logit above 0, is at the target.

    Shapes: output (n, classes) with target (n,) of class indices; or output of the target's shape (binary logits).
    """
    if len(output.shape) == len(target.shape):
        hit = e.equal(astype(e.greater(output, 0.0), "int64"), astype(target, "int64"))
    else:
        hit = e.equal(argmax(output, axis=1), astype(target, "int64"))
    return sum(astype(hit, "int64")), target.size


def mse(output: Any, target: Any) -> tuple[Any, int]:
    """The mean squared error over all elements."""
    return sum(e.square(output - target)), target.size


def mae(output: Any, target: Any) -> tuple[Any, int]:
    """The mean absolute error over all elements."""
    return sum(e.abs(output - target)), target.size


METRICS: dict[str, Metric] = {"accuracy": accuracy, "mse": mse, "mae": mae}


def metric(name: str | Metric) -> tuple[str, Metric]:
    """A metric by name or as a function, with its name."""
    if callable(name):
        return getattr(name, "__name__", "metric"), name
    if name not in METRICS:
        near = difflib.get_close_matches(name, METRICS, 1)
        msg = f"unknown metric {name!r}" + (
            f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(METRICS)}"
        )
        raise ValueError(msg)
    return name, METRICS[name]


class Sums:
    """Running totals of the loss and the metrics of one epoch."""

    def __init__(self, metrics: Sequence[tuple[str, Metric]], state: dict[str, Any] | None = None) -> None:
        self.metrics = metrics
        self.totals: dict[str, list[float]] = {k: list(v) for k, v in (state or {}).items()}

    def add(self, name: str, value: float, count: int) -> None:
        total = self.totals.setdefault(name, [0.0, 0])
        total[0] += value
        total[1] += count

    def measure(self, output: Tensor, target: Any) -> None:
        for name, function in self.metrics:
            value, count = function(output.detach(), target)
            self.add(name, float(value), count)

    def result(self, prefix: str = "") -> dict[str, float]:
        return {prefix + k: v / n if n else math.nan for k, (v, n) in self.totals.items()}
