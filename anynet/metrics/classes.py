"""Metrics of the classes that a network decides for: from how often each class was right, said, and true."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from anynet.metrics.inputs import CHECKS, Answers, Classification, number
from anynet.metrics.metric import State, UndefinedError, vector
from anynet.tensor import Tensor, wrap
from anynet_backends import Array, Backend, backend_of, registry

__all__ = [
    "F1", "Accuracy", "BalancedAccuracy", "CohenKappa", "Confusion", "IoU", "Matthews", "Precision", "Recall", "TopK",
]  # fmt: skip

_AVERAGES = ("auto", "binary", "macro", "micro", "weighted", None)


def ratio(metric: Classification, state: State) -> float:
    """Σ sum / Σ count, after the checks."""
    metric.check(state)
    count = number(state["count"])
    if not count:
        raise UndefinedError(
            f"{metric.name}: no target counts (none was given, or all are ignored or weigh 0)"
        )
    return number(state["sum"]) / count


def share(xp: Backend, hit: Array, weight: Array | None) -> State:
    """The weight of those that hit, and of all."""
    if weight is None:
        return {"sum": xp.count_nonzero(hit), "count": math.prod(hit.shape)}
    if len(hit.shape) > len(weight.shape):
        weight = xp.broadcast_to(weight[:, None], hit.shape)
    zero = xp.zeros((), dtype=weight.dtype, device=weight.device)
    return {"sum": xp.sum(xp.where(hit, weight, zero)), "count": xp.sum(weight)}


class Accuracy(Classification):
    """The share of right answers.

    Of scores for classes the largest one counts (the first of equal ones); of yes or no each output above the threshold is a
    yes; of several labels each is an answer of its own, or, with `subset`, a sample is right where all of its labels are (as
    scikit-learn's accuracy_score counts).

    Options: subset, and those of all metrics of classes (`anynet.metrics`).

    >>> import anynet as an
    >>> an.metrics.accuracy([[0.1, 0.9], [0.8, 0.2], [0.3, 0.7]], [1, 1, -100])
    0.5
    """

    name, higher_is_better = "accuracy", True
    additive = True
    states: ClassVar[Mapping[str, str]] = {"sum": "add", "count": "add", **CHECKS}

    def __init__(self, *, subset: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.subset = subset

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """Right answers, and answers."""
        xp, answers = self.read(output, target, weight)
        hit = self.right(xp, answers)
        weight = answers.weight
        if self.subset and answers.kind == "labels":
            if weight is not None and len(weight.shape) > 1:  # labels that do not count are not wrong
                hit, weight = xp.logical_or(hit, weight == 0), xp.max(weight, axis=1)
            hit = xp.all(hit, axis=1)
        return {**share(xp, hit, weight), **self.checks(xp, answers)}

    def right(self, xp: Backend, answers: Answers) -> Array:
        """Which answers are right."""
        if answers.kind == "classes":
            return xp.argmax(answers.scores, axis=1) == answers.target
        if answers.kind == "indices":
            return answers.scores == answers.target
        return self.yes(answers) == answers.target

    def result(self, state: State) -> float:
        """Right answers / answers."""
        return ratio(self, state)


class TopK(Classification):
    """The share of samples whose class is among the k that the network gives the largest scores, as scikit-learn's
    top_k_accuracy_score counts: of equal scores the class with the larger number comes first.

    Options: k, and those of all metrics of classes.

    >>> import anynet as an
    >>> an.metrics.top_k([[0.5, 0.3, 0.2], [0.5, 0.3, 0.2]], [1, 2], k=2)
    0.5
    """

    name, higher_is_better = "top_k", True
    additive = True
    states: ClassVar[Mapping[str, str]] = {"sum": "add", "count": "add", **CHECKS}

    def __init__(self, *, k: int = 5, **options: Any) -> None:
        super().__init__(**options)
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise ValueError(f"top_k: k must be an integer of at least 1, got {k!r}")
        self.k = k

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """Samples whose class is among the first, and samples."""
        xp, answers = self.read(output, target, weight)
        if answers.kind != "classes":
            msg = "top_k: takes scores (n, C) of at least two classes and class indices (n,)"
            raise ValueError(msg)
        scores, target = answers.scores, answers.target
        classes = int(scores.shape[1])
        if self.k >= classes:
            msg = f"top_k: with k={self.k} each answer among {classes} classes would be right; choose k below {classes}"
            raise ValueError(msg)
        place = xp.clip(target, 0, classes - 1)[:, None]
        own = xp.take_along_axis(scores, xp.astype(place, xp.int64), axis=1)
        index = xp.arange(classes, dtype=place.dtype, device=scores.device)[None, :]
        before = xp.logical_or(scores > own, xp.logical_and(scores == own, index > place))
        hit = xp.sum(xp.astype(before, xp.int64), axis=1) < self.k
        return {**share(xp, hit, answers.weight), **self.checks(xp, answers)}

    def result(self, state: State) -> float:
        """The share."""
        return ratio(self, state)


# ----- from counts of classes -----


def counts(xp: Backend, index: Array, size: int, weight: Array | None) -> Array:
    """How often, or with which weight, each index below `size` occurs."""
    if weight is None:
        weight = xp.ones(index.shape, dtype=xp.int64, device=index.device)
    start = xp.zeros((size,), dtype=weight.dtype, device=index.device)
    return xp.index_add(start, xp.astype(index, xp.int64), weight)


class _ClassCounts(Classification):
    """Counts of each class (or label): right, said, true."""

    additive = True
    states: ClassVar[Mapping[str, str]] = {
        "kind": "same",
        "right": "add",
        "said": "add",
        "true": "add",
        "total": "add",
        **CHECKS,
    }

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """The counts of a batch."""
        xp, answers = self.read(output, target, weight)
        if answers.kind == "labels":
            state = self._of_labels(xp, answers)
        else:
            said, true, size = self.indices(xp, answers)
            weight = answers.weight
            hit = xp.astype(said == true, xp.int64 if weight is None else weight.dtype)
            state = {
                "right": counts(xp, true, size, hit if weight is None else hit * weight),
                "said": counts(xp, said, size, weight),
                "true": counts(xp, true, size, weight),
            }
        total = math.prod(answers.target.shape[:1]) if answers.weight is None else xp.sum(answers.weight)
        return {"kind": answers.kind, **state, "total": total, **self.checks(xp, answers)}

    def _of_labels(self, xp: Backend, answers: Answers) -> State:
        said, true = self.yes(answers), answers.target
        weight = answers.weight
        if weight is None:
            weight = xp.ones((), dtype=xp.int64, device=true.device)
        elif len(weight.shape) == 1:
            weight = weight[:, None]

        def of(mask: Array) -> Array:
            return xp.sum(xp.astype(mask, weight.dtype) * weight, axis=0)

        return {"right": of(xp.logical_and(said, true)), "said": of(said), "true": of(true)}

    def indices(self, xp: Backend, answers: Answers) -> tuple[Array, Array, int]:
        """Class indices said and true, and the number of classes."""
        scores, target = answers.scores, answers.target
        if answers.kind == "binary":
            return xp.astype(self.yes(answers), xp.int64), xp.astype(target, xp.int64), 2
        if answers.kind == "classes":
            size = int(scores.shape[1])
            if not self._checked:  # `check` refuses those that are out of range, when the device is read
                target = xp.clip(target, 0, size - 1)
            return xp.argmax(scores, axis=1), xp.astype(target, xp.int64), size
        if not target.shape[0]:
            return scores, target, 1
        low, high = (f(int(f_of(scores)), int(f_of(target))) for f, f_of in ((min, xp.min), (max, xp.max)))
        if low < 0:
            raise ValueError(f"{self.name}: class indices must be at least 0, got {low}")
        return xp.astype(scores, xp.int64), xp.astype(target, xp.int64), high + 1

    def lists(self, state: State) -> tuple[list[float], list[float], list[float]]:
        """Right, said and true of each class, read from the device, after the checks."""
        self.check(state)
        if not number(state["total"]):
            raise UndefinedError(
                f"{self.name}: no target counts (none was given, or all are ignored or weigh 0)"
            )
        right, said, true = (_list(state[key]) for key in ("right", "said", "true"))
        if len(right) < 2 and state["kind"] != "labels":
            right, said, true = ([*of, 0.0] for of in (right, said, true))
        return right, said, true


def _list(array: Array) -> list[float]:
    return [float(x) for x in registry.asarray(array).tolist()]


class _Averaged(_ClassCounts):
    """A quotient for each class, and their average."""

    def __init__(
        self, *, average: str | None = "auto", zero_division: float = 0.0, pos_label: int = 1, **options: Any
    ) -> None:
        super().__init__(**options)
        if average not in _AVERAGES:
            known = ", ".join(map(repr, _AVERAGES))
            raise ValueError(f"{self.name}: average must be one of {known}, got {average!r}")
        if zero_division not in (0, 1) and not (
            isinstance(zero_division, float) and math.isnan(zero_division)
        ):
            raise ValueError(f"{self.name}: zero_division must be 0, 1 or nan, got {zero_division!r}")
        if pos_label not in (0, 1):
            raise ValueError(f"{self.name}: pos_label must be 0 or 1, got {pos_label!r}")
        self.average, self.zero_division, self.pos_label = average, float(zero_division), pos_label
        self.scalar = average is not None

    def quotient(self, right: float, said: float, true: float) -> tuple[float, float]:
        """Numerator and denominator."""
        raise NotImplementedError

    def _value(self, right: float, said: float, true: float) -> float:
        above, below = self.quotient(right, said, true)
        return above / below if below else self.zero_division

    def result(self, state: State) -> Any:
        """The average, or one number for each class."""
        right, said, true = self.lists(state)
        average, labels = self.average, state["kind"] == "labels"
        if average == "auto":
            average = "macro" if labels or len(right) > 2 else "binary"
        if average == "binary":
            if labels or len(right) > 2:
                what = f"{len(right)} {'labels' if labels else 'classes'}"
                raise ValueError(
                    f"{self.name}: average='binary' is for two classes, got {what}; choose 'macro', 'micro' or 'weighted'"
                )
            return self._value(right[self.pos_label], said[self.pos_label], true[self.pos_label])
        if average == "micro":
            return self._value(sum(right), sum(said), sum(true))
        values = [self._value(*of) for of in zip(right, said, true, strict=True)]
        if average is None:
            return vector(values)
        there = [labels or said[i] > 0 or true[i] > 0 for i in range(len(values))]
        weights = true if average == "weighted" else [1.0] * len(values)
        return _mean(
            [v for v, t in zip(values, there, strict=True) if t],
            [w for w, t in zip(weights, there, strict=True) if t],
        )


def _mean(values: Sequence[float], weights: Sequence[float]) -> float:
    """The weighted mean of those that are numbers; equal weights where all are 0."""
    pairs = [(v, w) for v, w in zip(values, weights, strict=True) if not math.isnan(v)]
    if not pairs:
        return math.nan
    total = math.fsum(w for _, w in pairs)
    if not total:
        return math.fsum(v for v, _ in pairs) / len(pairs)
    return math.fsum(v * w for v, w in pairs) / total


_AVERAGING = """

    Options:
      average: "binary": of class `pos_label` of two; "macro": the mean over the classes that occur (in the targets or the answers;
        of several labels over all); "weighted": the same, weighted by how often each is true; "micro": from the sums over
        the classes; None: a Tensor with one number for each class; "auto": binary for two classes, else macro.
      zero_division: the value of 0 / 0: 0, 1, or nan, which averages leave out.
      Those of all metrics of classes (`anynet.metrics`).
"""


class Precision(_Averaged):
    """Of those that the network calls a class, the share that is of it: tp / (tp + fp).{averaging}
    >>> import anynet as an
    >>> an.metrics.precision([0.9, 0.8, 0.1, 0.7], [1, 0, 0, 1])
    0.666666...
    """

    name, higher_is_better = "precision", True

    def quotient(self, right: float, said: float, true: float) -> tuple[float, float]:
        """tp, tp + fp."""
        return right, said


class Recall(_Averaged):
    """Of those that are of a class, the share that the network calls so: tp / (tp + fn).{averaging}
    >>> import anynet as an
    >>> an.metrics.recall([0.9, 0.8, 0.1, 0.2], [1, 0, 0, 1])
    0.5
    """

    name, higher_is_better = "recall", True

    def quotient(self, right: float, said: float, true: float) -> tuple[float, float]:
        """tp, tp + fn."""
        return right, true


class F1(_Averaged):
    """The harmonic mean of precision and recall: 2 tp / (2 tp + fp + fn).{averaging}
    >>> import anynet as an
    >>> an.metrics.f1([0, 2, 1, 2], [0, 1, 1, 2], average="macro")
    0.777777...
    """

    name, higher_is_better = "f1", True

    def quotient(self, right: float, said: float, true: float) -> tuple[float, float]:
        """2 tp, 2 tp + fp + fn."""
        return 2 * right, said + true


class IoU(_Averaged):
    """Intersection over union (the Jaccard index): tp / (tp + fp + fn), of each pixel's class, say.{averaging}
    >>> import anynet as an
    >>> an.metrics.iou([[1, 1, 0], [2, 2, 0]], [[1, 0, 0], [2, 2, 0]], average=None)
    Tensor([0.66666667, 0.5       , 1.        ], dtype=float64)
    """

    name, higher_is_better = "iou", True

    def quotient(self, right: float, said: float, true: float) -> tuple[float, float]:
        """tp, tp + fp + fn."""
        return right, said + true - right


for _cls in (Precision, Recall, F1, IoU):
    if _cls.__doc__ is not None:  # python -OO
        _cls.__doc__ = _cls.__doc__.replace("{averaging}", _AVERAGING)


class BalancedAccuracy(_ClassCounts):
    """The mean over the classes that occur of the share of each that is recognised: accuracy as if all were equally frequent.

    Options: adjusted (chance is 0: (b − 1/C) / (1 − 1/C)), and those of all metrics of classes.

    >>> import anynet as an
    >>> an.metrics.balanced_accuracy([0, 0, 0, 1], [0, 0, 1, 1])
    0.75
    """

    name, higher_is_better = "balanced_accuracy", True

    def __init__(self, *, adjusted: bool = False, **options: Any) -> None:
        super().__init__(**options)
        self.adjusted = adjusted

    def result(self, state: State) -> float:
        """The mean of the recalls."""
        if state["kind"] == "labels":
            raise ValueError("balanced_accuracy: takes one class for each sample, got several labels")
        right, _, true = self.lists(state)
        recalls = [r / t for r, t in zip(right, true, strict=True) if t > 0]
        value = math.fsum(recalls) / len(recalls)
        if not self.adjusted:
            return value
        chance = 1 / len(recalls)
        return (value - chance) / (1 - chance) if chance < 1 else math.nan


class Matthews(_ClassCounts):
    """Matthews' correlation coefficient, of two or more classes: (c s − Σ pₖ tₖ) / √((s² − Σ pₖ²)(s² − Σ tₖ²)).

    c: right answers, s: samples, pₖ: how often class k is said, tₖ: how often it is true; 0 where the root is 0.
    Options: those of all metrics of classes.

    >>> import anynet as an
    >>> an.metrics.matthews([1, 1, 1, 0], [1, 1, 0, 0])
    0.577350...
    """

    name, higher_is_better = "matthews", True

    def result(self, state: State) -> float:
        """The coefficient."""
        if state["kind"] == "labels":
            raise ValueError("matthews: takes one class for each sample, got several labels")
        right, said, true = self.lists(state)
        total = math.fsum(true)
        both = math.fsum(p * t for p, t in zip(said, true, strict=True))
        spread = (total**2 - math.fsum(p * p for p in said)) * (total**2 - math.fsum(t * t for t in true))
        return (math.fsum(right) * total - both) / math.sqrt(spread) if spread > 0 else 0.0


class Confusion(_ClassCounts):
    """How often class i (row) was called class j (column): a Tensor (C, C); of yes or no (2, 2).

    Options: normalize: "true" (rows sum to 1), "pred" (columns), "all", or None: counts (sums of weights where there are some);
    and those of all metrics of classes. It is recorded as a list of rows, and is no number to monitor.

    >>> import anynet as an
    >>> an.metrics.confusion([0, 2, 1, 2], [0, 1, 1, 2])
    Tensor([[1, 0, 0],
            [0, 1, 1],
            [0, 0, 1]])
    """

    name, scalar = "confusion", False
    additive = True
    states: ClassVar[Mapping[str, str]] = {"matrix": "add", **CHECKS}

    def __init__(self, *, normalize: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        if normalize not in (None, "true", "pred", "all"):
            raise ValueError(f"confusion: normalize must be 'true', 'pred', 'all' or None, got {normalize!r}")
        self.normalize = normalize

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """The matrix of a batch."""
        xp, answers = self.read(output, target, weight)
        if answers.kind == "labels":
            raise ValueError(f"{self.name}: takes one class for each sample, got several labels")
        said, true, size = self.indices(xp, answers)
        matrix = xp.reshape(counts(xp, true * size + said, size * size, answers.weight), (size, size))
        return {"matrix": matrix, **self.checks(xp, answers)}

    def result(self, state: State) -> Any:
        """The matrix."""
        self.check(state)
        matrix = state["matrix"]
        xp = backend_of(matrix)
        if self.normalize is None:
            return wrap(xp.asarray(matrix, copy=True))
        axis = {"true": 1, "pred": 0, "all": None}[self.normalize]
        matrix = xp.astype(matrix, xp.float64)
        total = xp.sum(matrix, axis=axis, keepdims=True)
        return wrap(matrix / xp.where(total > 0, total, xp.ones_like(total)))


class CohenKappa(Confusion):
    """Cohen's κ = 1 − Σ w O / Σ w E: agreement beyond chance; O the confusion matrix, E what independence would give.

    Options: weights: None (all confusions weigh 1), "linear" (|i − j|) or "quadratic" ((i − j)²) for ordered classes; and those of
    all metrics of classes.

    >>> import anynet as an
    >>> an.metrics.cohen_kappa([0, 0, 1, 1], [0, 0, 1, 0])
    0.5
    """

    name, higher_is_better, scalar = "cohen_kappa", True, True

    def __init__(self, *, weights: str | None = None, **options: Any) -> None:
        super().__init__(**options)
        if weights not in (None, "linear", "quadratic"):
            raise ValueError(f"cohen_kappa: weights must be None, 'linear' or 'quadratic', got {weights!r}")
        self.weights = weights

    def result(self, state: State) -> float:
        """κ."""
        found: Tensor = super().result(state)
        rows: list[list[float]] = found.tolist()
        size = range(len(rows))
        true, said = [math.fsum(row) for row in rows], [math.fsum(row[j] for row in rows) for j in size]
        total = math.fsum(true)
        if not total:
            raise UndefinedError("cohen_kappa: no target counts")
        power = {"linear": 1, "quadratic": 2, None: 0}[self.weights]

        def weighted(of: Any) -> float:
            return math.fsum(abs(i - j) ** power * of(i, j) for i in size for j in size if i != j)

        expected = weighted(lambda i, j: true[i] * said[j] / total)
        return 1 - weighted(lambda i, j: rows[i][j]) / expected if expected else math.nan
