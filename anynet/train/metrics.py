"""Metrics: numbers per batch that add up to a number per epoch.

A metric is a function ``(output, target) -> (sum, count)``; its value over a data set is Σ sum / Σ count. Whether more or
less of it is better it says itself, with an attribute ``mode`` ("min" or "max") or ``higher_is_better`` (True or False);
that of "val_auc" is asked of the metric "auc", never of its name.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import anynet.ops.elementwise as e
from anynet.ops.manipulation import astype
from anynet.ops.reductions import argmax, sum
from anynet.tensor import Tensor, no_grad
from anynet.train.checks import choice, unknown
from anynet.train.objectives import Objective

__all__ = ["METRICS", "Metric", "Sums", "accuracy", "mae", "mse"]

Function = Callable[[Any, Any], tuple[Any, Any]]


def accuracy(
    output: Tensor,
    target: Tensor,
    *,
    ignore_index: int = -100,
    threshold: float | None = 0.0,
    classes: bool = False,
) -> tuple[Tensor, Tensor | int]:
    """The number of right answers, and of answers. Three forms:

    - Classes: output (n, C, d1, …), C ≥ 2, target (n, d1, …) of class indices. The largest score along axis 1 is at the
      target. Targets equal to `ignore_index` are not counted.
    - With `classes`, targets of the output's shape (n, C, d1, …) are one-hot rows or probabilities: the largest ones agree.
    - Else output and target of one shape, or output (n, 1, d1, …) with target (n, d1, …), hold yes or no: the output is
      above `threshold` (0 for logits, 0.5 for probabilities) where the target is above 0.5 (so −1 is no); each number is
      an answer. Integer targets equal to `ignore_index` are not counted.

    `fit` and `evaluate` choose the options by the loss: `ignore_index` is the loss's, `classes` holds for cross_entropy and
    its kin, `threshold` is 0 for losses of logits (bce_with_logits, hinge, …) and 0.5 for others. For a loss that they do
    not know yes-or-no answers are refused: give ``functools.partial(accuracy, threshold=…)`` as the metric.

    >>> import anynet as an
    >>> hits, answers = an.train.accuracy(an.asarray([[0.1, 0.9], [0.8, 0.2]]), an.asarray([1, -100]))
    >>> int(hits), int(answers)
    (1, 1)
    """
    if not hasattr(output, "shape") or not hasattr(target, "shape"):
        msg = (
            f"accuracy compares one output with one target, got {type(output).__name__} and {type(target).__name__}; "
            "give a function (output, target) → (hits, answers) that takes them out"
        )
        raise TypeError(msg)
    hit, counted = _answers(output, target, ignore_index, threshold, classes)
    if counted is None:
        return sum(astype(hit, "int64")), hit.size
    return sum(astype(e.logical_and(hit, counted), "int64")), sum(astype(counted, "int64"))


def _answers(
    output: Tensor, target: Tensor, ignore_index: int, threshold: float | None, classes: bool
) -> tuple[Tensor, Tensor | None]:
    """Which answers are right, and which count (None: all), in the three forms that `accuracy` describes."""
    got, want = tuple(output.shape), tuple(target.shape)
    kind = target.dtype.kind
    per_class = len(got) > 1 and want == (got[0], *got[2:])
    if got == want and classes and len(got) > 1 and got[1] > 1:
        return e.equal(argmax(output, axis=1), argmax(target, axis=1)), None
    if per_class and got[1] > 1:
        if kind not in ("int", "uint"):
            msg = f"accuracy: an output of shape {got} takes class indices, integers, got {target.dtype}"
            raise TypeError(msg)
        hit = e.equal(argmax(output, axis=1), astype(target, "int64"))
        return hit, e.not_equal(target, ignore_index)
    if got == want or per_class:
        if threshold is None:
            msg = (
                "accuracy: this loss does not say whether the output is a logit or a probability; give "
                "functools.partial(anynet.train.accuracy, threshold=0.5) (or 0 for logits) as the metric"
            )
            raise ValueError(msg)
        answers = output if got == want else output[:, 0, ...]
        hit = e.equal(e.greater(answers, threshold), target if kind == "bool" else e.greater(target, 0.5))
        return hit, e.not_equal(target, ignore_index) if kind == "int" else None
    msg = (
        f"accuracy: an output of shape {got} does not go with a target of shape {want}: expected class indices of "
        f"shape {(*got[:1], *got[2:])} (classes lie along axis 1) or a target of the output's shape"
    )
    raise ValueError(msg)


def _difference(name: str, output: Tensor, target: Tensor) -> Tensor:
    got, want = getattr(output, "shape", None), getattr(target, "shape", None)
    if got is None or got != want:
        msg = f"{name}: output and target must have one shape, got {got} and {want}; nothing is broadcast"
        raise ValueError(msg)
    return output - astype(target, output.dtype)


def mse(output: Tensor, target: Tensor) -> tuple[Tensor, int]:
    """The squared error, summed over all elements, and their number. Shapes equal."""
    return sum(e.square(_difference("mse", output, target))), target.size


def mae(output: Tensor, target: Tensor) -> tuple[Tensor, int]:
    """The absolute error, summed over all elements, and their number. Shapes equal."""
    return sum(e.abs(_difference("mae", output, target))), target.size


accuracy.mode = "max"  # type: ignore[attr-defined]
mse.mode = mae.mode = "min"  # type: ignore[attr-defined]

METRICS: dict[str, Function] = {"accuracy": accuracy, "mse": mse, "mae": mae}


class Metric:
    """A function ``(output, target) -> (sum, count)`` with a name, and a direction: is more of it better ("max") or less ("min")?

    `mode` is the function's own ``mode`` or ``higher_is_better`` unless given; None where it says nothing: then it can be
    recorded, but what is chosen by it (the best checkpoint, `EarlyStopping`) asks for a `mode=`.

    >>> import anynet as an
    >>> auc = an.train.Metric(lambda output, target: (0.9 * len(output), len(output)), name="auc", mode="max")
    >>> auc.name, auc.mode
    ('auc', 'max')
    """

    def __init__(self, function: Function, *, name: str | None = None, mode: str | None = None) -> None:
        if not callable(function):
            msg = (
                f"a metric must be a function (output, target) → (sum, count), got {type(function).__name__}"
            )
            raise TypeError(msg)
        if isinstance(function, type):
            msg = f"the metric {function.__name__} is a class; give an instance of it"
            raise TypeError(msg)
        inner: Any = function
        while isinstance(inner, functools.partial):
            inner = inner.func
        self.function = function
        self.name = name or str(getattr(function, "name", getattr(inner, "__name__", type(inner).__name__)))
        self.mode = mode if mode is not None else _mode_of(function, inner)
        if self.mode is not None:
            choice(f"metric {self.name}", "mode", self.mode, ("min", "max"))

    def __call__(self, output: Any, target: Any) -> tuple[Any, Any]:
        """The sum and the count of a batch."""
        found = self.function(output, target)
        if not isinstance(found, tuple) or len(found) != 2:
            msg = (
                f"the metric {self.name} returned {type(found).__name__}, expected a pair (sum, count), whose sums over the "
                "batches are divided: for a mean over the samples (mean * len(target), len(target))"
            )
            raise TypeError(msg)
        return found


def _mode_of(*functions: Any) -> str | None:
    for function in functions:
        mode = getattr(function, "mode", None)
        if mode in ("min", "max"):
            return str(mode)
        better = getattr(function, "higher_is_better", None)
        if better is not None:
            return "max" if better else "min"
    return None


def resolve(given: Any, objective: Objective, reserved: Iterable[str] = ()) -> list[Metric]:
    """Metrics from names, functions and `Metric`s; accuracy with the options that fit the loss."""
    items: Sequence[Any] = [given] if isinstance(given, (str, Metric)) or callable(given) else list(given)
    out: list[Metric] = []
    for item in items:
        if isinstance(item, str) and item not in METRICS:
            raise ValueError(unknown("metric", item, METRICS))
        made = item if isinstance(item, Metric) else Metric(METRICS[item] if isinstance(item, str) else item)
        if made.function is accuracy:
            kind, ignored = objective.labels or (None, -100)
            threshold = {"logits": 0.0, "values": 0.5, "classes": 0.5}.get(kind or "")
            options = functools.partial(
                accuracy, ignore_index=ignored, threshold=threshold, classes=kind == "classes"
            )
            made = Metric(options, name=made.name, mode=made.mode)
        if made.name in reserved or made.name in [m.name for m in out]:
            msg = f"two quantities are called {made.name!r}; give one of the metrics a name: train.Metric(function, name=…)"
            raise ValueError(msg)
        out.append(made)
    return out


def directions(metrics: Sequence[Metric], validates: bool, more: Iterable[str] = ()) -> dict[str, str | None]:
    """The names that a record of an epoch has, each with "min" or "max", or None where it says nothing."""
    own: dict[str, str | None] = {"loss": "min", **{m.name: m.mode for m in metrics}}
    validated = {f"val_{name}": mode for name, mode in own.items()} if validates else {}
    others: dict[str, str | None] = dict.fromkeys(("epoch", "lr", "seconds", *more))
    return own | validated | {k: v for k, v in others.items() if k not in own}


def direction(where: str, monitor: str, mode: str | None, known: Mapping[str, str | None]) -> str:
    """ "min" or "max" for a monitored quantity: `mode`, or what the quantity says of itself."""
    if monitor not in known:
        hint = (
            "; give fit a val set"
            if monitor.startswith("val_") and not any(k.startswith("val_") for k in known)
            else ""
        )
        raise ValueError(f"{where}: {unknown('quantity', monitor, known)}{hint}")
    if mode is not None:
        return str(choice(where, "mode", mode, ("min", "max")))
    said = known[monitor]
    if said is None:
        msg = (
            f"{where}: {monitor!r} does not say whether more or less is better; give mode='max' or mode='min', or the "
            "metric an attribute mode"
        )
        raise ValueError(msg)
    return said


class Sums:
    """Running totals of the loss and the metrics of one epoch: name → [Σ value, Σ count]."""

    def __init__(
        self, objective: Objective, metrics: Sequence[Metric], totals: Mapping[str, Any] | None = None
    ) -> None:
        self.objective, self.metrics = objective, metrics
        self.totals: dict[str, list[float]] = {"loss": [0.0, 0.0]} | {m.name: [0.0, 0.0] for m in metrics}
        for name, (value, count) in (totals or {}).items():
            self.totals[name] = [value, count]

    def add_loss(self, value: float, weight: float) -> None:
        """The loss of a batch, and what it has been divided by."""
        total = self.totals["loss"]
        if self.objective.reduction == "sum":
            total[0] += value
        elif weight:
            total[0] += value * weight
            total[1] += weight

    def measure(self, output: Any, target: Any) -> list[tuple[float, float]]:
        """The metrics of a batch, which `add` takes."""
        if not self.metrics:
            return []
        if isinstance(output, Tensor):
            output = output.detach()
        with no_grad():
            return [
                (float(value), float(count)) for value, count in (m(output, target) for m in self.metrics)
            ]

    def add(self, measured: list[tuple[float, float]]) -> None:
        """Take the metrics of a batch into the totals."""
        for metric, (value, count) in zip(self.metrics, measured, strict=True):
            total = self.totals[metric.name]
            total[0] += value
            total[1] += count

    def result(self, prefix: str = "") -> dict[str, float]:
        """The values over all batches."""
        out = {prefix + k: v / n if n else math.nan for k, (v, n) in self.totals.items()}
        if self.objective.reduction == "sum":
            out[prefix + "loss"] = self.totals["loss"][0]
        return out
