"""Metrics of the order into which a network puts samples: they keep the scores until they are computed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from anynet.metrics.inputs import CHECKS, Answers, Classification, number
from anynet.metrics.metric import State, UndefinedError, vector
from anynet.metrics.probabilities import probabilities
from anynet_backends import Array, Backend, backend_of

__all__ = ["AveragePrecision", "RocAuc"]


def _steps(xp: Backend, scores: Array, true: Array, weight: Array) -> tuple[Array, Array]:
    """Σ weight of those that are true, and of the others, among the scores ≥ each different score, from the largest down."""
    keep = weight != 0
    scores, true, weight = scores[keep], true[keep], weight[keep]
    if not scores.shape[0]:
        raise UndefinedError("no target counts (none was given, or all are ignored or weigh 0)")
    order = xp.argsort(scores, descending=True, stable=True)
    scores, true, weight = (xp.take(a, order, axis=0) for a in (scores, true, weight))
    zero = xp.zeros_like(weight)
    hits = xp.cumulative_sum(xp.where(true, weight, zero))
    misses = xp.cumulative_sum(xp.where(true, zero, weight))
    last = xp.concat([scores[1:] != scores[:-1], xp.ones((1,), dtype=xp.bool, device=scores.device)])
    return hits[last], misses[last]


def _differences(xp: Backend, x: Array) -> Array:
    return x - xp.concat([xp.zeros((1,), dtype=x.dtype, device=x.device), x[:-1]])


def _area(xp: Backend, scores: Array, true: Array, weight: Array) -> float:
    """The area under the curve of true against false positives; NaN where one of the two classes is absent."""
    hits, misses = _steps(xp, scores, true, weight)
    positive, negative = number(hits[-1]), number(misses[-1])
    if positive <= 0 or negative <= 0:
        return math.nan
    step = _differences(xp, misses)
    area = xp.sum(step * (hits - _differences(xp, hits) / 2))
    return number(area) / positive / negative


def _average_precision(xp: Backend, scores: Array, true: Array, weight: Array) -> float:
    """Σ (Rᵢ − Rᵢ₋₁) Pᵢ; 0 without positives."""
    hits, misses = _steps(xp, scores, true, weight)
    positive = number(hits[-1])
    if positive <= 0:
        return 0.0
    return number(xp.sum(_differences(xp, hits) * hits / (hits + misses))) / positive


class _Ranking(Classification):
    """A number of the order of the scores for one class against others, and its average over classes."""

    states: ClassVar[Mapping[str, str]] = {
        "kind": "same",
        "scores": "rows",
        "true": "rows",
        "weights": "rows",
        **CHECKS,
    }
    averages: tuple[Any, ...] = ("macro", "weighted", "micro", None)

    def __init__(self, *, average: str | None = "macro", **options: Any) -> None:
        super().__init__(**options)
        if average not in self.averages:
            known = ", ".join(map(repr, self.averages))
            raise ValueError(f"{self.name}: average must be one of {known}, got {average!r}")
        self.average = average
        self.scalar = average is not None

    @staticmethod
    def binary(xp: Backend, scores: Array, true: Array, weight: Array) -> float:
        """The number for one class."""
        raise NotImplementedError

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """Copies of the scores, targets and weights."""
        xp, answers = self.read(output, target, weight)
        if answers.kind == "indices" or (answers.hard and not self.multilabel):
            raise ValueError(f"{self.name}: takes scores, which order the samples; got decisions")
        scores = self.scores(xp, answers)
        rows = scores.shape[:1] if answers.kind != "labels" else scores.shape
        w = xp.ones(scores.shape[:1], dtype=xp.float64, device=scores.device)
        if answers.weight is not None:
            w = xp.astype(answers.weight, xp.float64)
        if tuple(w.shape) != tuple(rows):
            w = xp.broadcast_to(w[:, None], rows)
        kept = {"scores": scores, "true": answers.target, "weights": w}
        return {
            "kind": answers.kind,
            **{k: [xp.asarray(v, copy=True)] for k, v in kept.items()},
            **self.checks(xp, answers),
        }

    def _ranged(self, kind: str) -> bool:
        return False  # any scores order the samples

    def scores(self, xp: Backend, answers: Answers) -> Array:
        """What the samples are ordered by: of two classes, how much more likely the second one is."""
        scores = answers.scores
        if not xp.isdtype(scores.dtype, "real floating"):
            return xp.astype(scores, xp.float32)
        if answers.kind != "classes":
            return scores
        if scores.shape[1] == 2:
            return scores[:, 1] - scores[:, 0] if self.logits else scores[:, 1]
        wide = answers._replace(scores=xp.astype(scores, xp.float64)) if self.logits else answers
        return probabilities(xp, wide, self.logits)

    def result(self, state: State) -> Any:
        """The average over the classes."""
        self.check(state)
        xp = backend_of(state["scores"][0])
        scores, true, weight = (xp.concat(state[k], axis=0) for k in ("scores", "true", "weights"))
        try:
            if len(scores.shape) == 1:
                return self.binary(xp, scores, true if xp.isdtype(true.dtype, "bool") else true == 1, weight)
            return self.over_classes(xp, scores, true, weight)
        except UndefinedError as error:
            raise UndefinedError(f"{self.name}: {error}") from None

    def over_classes(self, xp: Backend, scores: Array, true: Array, weight: Array) -> Any:
        """One class against the others, averaged."""
        if len(true.shape) == 1:
            index = xp.arange(scores.shape[1], dtype=true.dtype, device=true.device)
            true = true[:, None] == index[None, :]
            weight = xp.broadcast_to(weight[:, None], true.shape)
        if self.average == "micro":
            flat = (xp.reshape(a, (-1,)) for a in (scores, true, weight))
            return self.binary(xp, *flat)
        each = range(scores.shape[1])
        values = [self.binary(xp, scores[:, c], true[:, c], weight[:, c]) for c in each]
        if self.average is None:
            return vector(values)
        if self.average == "macro":
            return sum(values) / len(values)
        shares = [
            number(xp.sum(xp.where(true[:, c], weight[:, c], xp.zeros_like(weight[:, c])))) for c in each
        ]
        live = [(v, w) for v, w in zip(values, shares, strict=True) if w]
        return sum(v * w for v, w in live) / sum(w for _, w in live) if live else 0.0


class RocAuc(_Ranking):
    """The area under the ROC curve: how probably a sample of the class gets a larger score than another (half for equal ones).

    Of yes or no any scores do, of two classes those of the second. Of more classes:

    Options:
      multi_class: "ovr": each class against the others; "ovo": each pair of classes (Hand and Till 2001; without weights).
      average: "macro", "weighted" (by how often a class is true), "micro" (ovr, of all entries together), None (ovr, one number a
        class).
      Those of all metrics of classes.

    NaN where one of the classes to be told apart is absent. The scores are kept until it is computed.

    >>> import anynet as an
    >>> an.metrics.roc_auc([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.75
    """

    name, higher_is_better = "roc_auc", True
    binary = staticmethod(_area)

    def __init__(self, *, multi_class: str = "ovr", average: str | None = "macro", **options: Any) -> None:
        super().__init__(average=average, **options)
        if multi_class not in ("ovr", "ovo"):
            raise ValueError(f"roc_auc: multi_class must be 'ovr' or 'ovo', got {multi_class!r}")
        if multi_class == "ovo" and average not in ("macro", "weighted"):
            raise ValueError(f"roc_auc: multi_class='ovo' has average 'macro' or 'weighted', got {average!r}")
        self.multi_class = multi_class

    def over_classes(self, xp: Backend, scores: Array, true: Array, weight: Array) -> Any:
        """Each class against the others, or pairs."""
        if self.multi_class == "ovr" or len(true.shape) > 1:
            return super().over_classes(xp, scores, true, weight)
        if bool(xp.any(xp.logical_and(weight != 1, weight != 0))):
            raise ValueError("roc_auc: multi_class='ovo' takes no weights")
        values, shares = [], []
        live = weight != 0
        for a in range(scores.shape[1]):
            for b in range(a + 1, scores.shape[1]):
                pair = xp.logical_and(live, xp.logical_or(true == a, true == b))
                t, s, w = true[pair], scores[pair, :], weight[pair]
                if not t.shape[0]:
                    values.append(math.nan)
                    shares.append(0.0)
                    continue
                values.append((_area(xp, s[:, a], t == a, w) + _area(xp, s[:, b], t == b, w)) / 2)
                shares.append(float(t.shape[0]))
        if self.average == "macro":
            return sum(values) / len(values)
        return sum(v * w for v, w in zip(values, shares, strict=True)) / sum(shares)


class AveragePrecision(_Ranking):
    """Σᵢ (Rᵢ − Rᵢ₋₁) Pᵢ over the different scores, from the largest down: the area under the steps of precision against recall.

    0 where the class is absent. Options: average ("macro", "weighted", "micro", None) over classes or labels, and those of all
    metrics of classes. The scores are kept until it is computed.

    >>> import anynet as an
    >>> an.metrics.average_precision([0.1, 0.4, 0.35, 0.8], [0, 0, 1, 1])
    0.833333...
    """

    name, higher_is_better = "average_precision", True
    binary = staticmethod(_average_precision)
