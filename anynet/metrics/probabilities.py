"""Metrics of the probabilities that a network gives."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

from anynet.metrics.classes import counts, ratio
from anynet.metrics.inputs import CHECKS, Answers, Classification, number
from anynet.metrics.metric import State, UndefinedError
from anynet_backends import Array, Backend, registry

__all__ = ["BitsPerCharacter", "Brier", "Calibration", "LogLoss", "Perplexity"]


class _Probabilities(Classification):
    """What metrics of probabilities have in common: rows of probabilities sum to one."""

    probabilistic = True

    def answers(self, output: Any, target: Any, weight: Any) -> tuple[Backend, Answers, State]:
        """The answers, with floating-point scores and indices within range, and their checks."""
        xp, found = self.read(output, target, weight)
        if found.kind == "indices" or found.hard:
            msg = f"{self.name}: takes probabilities or logits, got class indices of shape {tuple(found.scores.shape)}"
            raise ValueError(msg)
        state = self.checks(xp, found)
        if self._unknown_loss:
            msg = f"{self.name}: this loss does not say whether the output are logits; give anynet.metrics.{type(self).__name__}(logits=…)"
            raise ValueError(msg)
        scores, target = found.scores, found.target
        if xp.dtype_name(scores.dtype) not in ("float32", "float64"):
            scores = xp.astype(scores, xp.float32)
        if found.kind == "classes":
            target = xp.clip(xp.astype(target, xp.int64), 0, int(scores.shape[1]) - 1)
            if not self.logits and scores.shape[0]:
                off = xp.abs(xp.sum(scores, axis=1) - 1)
                if found.weight is not None:
                    off = xp.where(found.weight > 0, off, xp.zeros_like(off))
                state["off_one"] = xp.max(off)
        return xp, found._replace(scores=scores, target=target), state

    def check(self, state: State) -> None:
        """Rows of probabilities sum to one, too."""
        super().check(state)
        if state.get("off_one") is not None and not (off := number(state["off_one"])) <= 1e-2:
            msg = f"{self.name}: expected rows of probabilities that sum to 1, got one that is off by {off:.3g}; say logits=True for logits"
            raise ValueError(msg)


_RATIO = {"sum": "add", "count": "add", "off_one": "max", **CHECKS}


def _log_sum_exp(xp: Backend, scores: Array) -> Array:
    """log Σ exp along axis 1, without overflow."""
    top = xp.max(scores, axis=1, keepdims=True)
    top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
    return xp.log(xp.sum(xp.exp(scores - top), axis=1)) + top[:, 0]


def _own(xp: Backend, scores: Array, target: Array) -> Array:
    """The score of each row at its target."""
    return xp.take_along_axis(scores, target[:, None], axis=1)[:, 0]


def total(xp: Backend, values: Array, weight: Array | None) -> State:
    """The weighted sum of values, (N,) or (N, L), and of the weights, in float64."""
    if weight is None:
        return {"sum": xp.sum(values, dtype=xp.float64), "count": math.prod(values.shape)}
    weight = xp.astype(weight, xp.float64)
    if len(values.shape) > len(weight.shape):
        weight = xp.broadcast_to(weight[:, None], values.shape)
    zero = xp.zeros((), dtype=xp.float64, device=values.device)
    return {
        "sum": xp.sum(xp.where(weight != 0, xp.astype(values, xp.float64) * weight, zero)),
        "count": xp.sum(weight),
    }


class LogLoss(_Probabilities):
    """The mean of −log p(target): of the class, of yes or no, of each label.

    Probabilities are kept ε away from 0 and 1 (ε of their dtype, as in scikit-learn's log_loss); of logits the logarithm is
    taken without rounding to probabilities. Options: those of all metrics of classes.

    >>> import anynet as an
    >>> an.metrics.log_loss([[0.5, 0.5], [0.25, 0.75]], [0, 1])
    0.490414...
    """

    name, higher_is_better = "log_loss", False
    states: ClassVar[Mapping[str, str]] = _RATIO

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """The sum of −log p, and the number of targets."""
        xp, answers, state = self.answers(output, target, weight)
        scores, target = answers.scores, answers.target
        eps = float(xp.finfo(scores.dtype).eps)
        if answers.kind == "classes":
            own = _own(xp, scores, target)
            loss = _log_sum_exp(xp, scores) - own if self.logits else -xp.log(xp.clip(own, eps, 1 - eps))
        elif self.logits:
            loss = xp.logaddexp(xp.zeros_like(scores), xp.where(target, -scores, scores))
        else:
            p = xp.clip(scores, eps, 1 - eps)
            loss = -xp.log(xp.where(target, p, 1 - p))
        return {**total(xp, loss, answers.weight), **state}

    def result(self, state: State) -> float:
        """The mean."""
        return ratio(self, state)


class Perplexity(LogLoss):
    """exp of the mean of −log p(target): among how many equally likely symbols the network hesitates.

    Options: those of all metrics of classes. Outputs (n, C, length), targets (n, length).

    >>> import anynet as an
    >>> an.metrics.perplexity(an.zeros((2, 7, 5)), an.zeros((2, 5), dtype="int64"), logits=True)
    7.0
    """

    name = "perplexity"

    def result(self, state: State) -> float:
        """exp of the log-loss."""
        mean = super().result(state)
        return math.exp(mean) if mean < 709 else math.inf


class BitsPerCharacter(LogLoss):
    """The mean of −log₂ p(target). Options: those of all metrics of classes.

    >>> import anynet as an
    >>> an.metrics.bits_per_character(an.zeros((2, 8, 5)), an.zeros((2, 5), dtype="int64"), logits=True)
    3.0
    """

    name = "bits_per_character"

    def result(self, state: State) -> float:
        """The log-loss in bits."""
        return super().result(state) / math.log(2)


def _softmax(xp: Backend, scores: Array) -> Array:
    return xp.exp(scores - _log_sum_exp(xp, scores)[:, None])


def _sigmoid(xp: Backend, scores: Array) -> Array:
    return xp.exp(-xp.logaddexp(xp.zeros_like(scores), -scores))


def probabilities(xp: Backend, answers: Answers, logits: bool | None) -> Array:
    """The probabilities that scores mean."""
    if not logits:
        return answers.scores
    return (_softmax if answers.kind == "classes" else _sigmoid)(xp, answers.scores)


class Brier(_Probabilities):
    """The mean squared difference of probabilities and what came true.

    Of yes or no (p − y)²; of classes Σ_c (p_c − y_c)², half of it with scale_by_half=True (scikit-learn's option: "auto" halves
    it for two classes). Options: scale_by_half, and those of all metrics of classes.

    >>> import anynet as an
    >>> an.metrics.brier([0.1, 0.9, 0.8, 0.3], [0, 1, 1, 0])
    0.0375
    """

    name, higher_is_better = "brier", False
    states: ClassVar[Mapping[str, str]] = {**_RATIO, "pair": "same"}

    def __init__(self, *, scale_by_half: bool | str = "auto", **options: Any) -> None:
        super().__init__(**options)
        if scale_by_half not in (True, False, "auto"):
            raise ValueError(f"brier: scale_by_half must be True, False or 'auto', got {scale_by_half!r}")
        self.scale_by_half = scale_by_half

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """The sum of squares over both or all classes, and the number of samples."""
        xp, answers, state = self.answers(output, target, weight)
        p = probabilities(xp, answers, self.logits)
        if answers.kind == "classes":
            squares = xp.sum(p * p, axis=1) - 2 * _own(xp, p, answers.target) + 1
        else:
            squares = 2 * (p - xp.astype(answers.target, p.dtype)) ** 2
        pair = answers.kind != "classes" or int(p.shape[1]) == 2
        return {**total(xp, squares, answers.weight), **state, "pair": pair}

    def result(self, state: State) -> float:
        """The mean."""
        halve = state["pair"] if self.scale_by_half == "auto" else self.scale_by_half
        return ratio(self, state) / (2 if halve else 1)


class Calibration(_Probabilities):
    """The calibration error Σ_b (n_b / n) |accuracy_b − confidence_b| over bins of equal width (Naeini et al. 2015; ECE).

    Of classes the confidence is the largest probability, and right is whether that class is true; of yes or no it is the
    probability of yes, and how often yes is true (the bins of scikit-learn's calibration_curve).
    Options: bins, norm ("l1", "l2": the root of the mean square, "max"), and those of all metrics of classes.

    >>> import anynet as an
    >>> an.metrics.calibration([0.9, 0.9, 0.9, 0.9, 0.1], [1, 1, 1, 0, 0], bins=10)
    0.14
    """

    name, higher_is_better = "calibration", False
    states: ClassVar[Mapping[str, str]] = {
        "weight": "add",
        "confidence": "add",
        "right": "add",
        "off_one": "max",
        **CHECKS,
    }

    def __init__(self, *, bins: int = 15, norm: str = "l1", **options: Any) -> None:
        super().__init__(**options)
        if isinstance(bins, bool) or not isinstance(bins, int) or bins < 1:
            raise ValueError(f"calibration: bins must be an integer of at least 1, got {bins!r}")
        if norm not in ("l1", "l2", "max"):
            raise ValueError(f"calibration: norm must be 'l1', 'l2' or 'max', got {norm!r}")
        self.bins, self.norm = bins, norm

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """Weight, confidence and right answers in each bin."""
        xp, answers, state = self.answers(output, target, weight)
        p = xp.astype(probabilities(xp, answers, self.logits), xp.float64)
        if answers.kind == "classes":
            right = xp.argmax(p, axis=1) == answers.target
            p = xp.max(p, axis=1)
        else:
            right = answers.target
        w = xp.ones(p.shape, dtype=xp.float64, device=p.device)
        if answers.weight is not None:
            w = xp.astype(answers.weight, xp.float64)
        if len(w.shape) < len(p.shape):
            w = xp.broadcast_to(w[:, None], p.shape)
        p, w, right = (xp.reshape(a, (-1,)) for a in (p, w, xp.astype(right, xp.float64)))
        edges = xp.from_host(
            registry.asarray([i / self.bins for i in range(1, self.bins)], "float64"), xp.device_of(p)
        )
        place = xp.searchsorted(edges, p)
        sums = {"weight": w, "confidence": w * p, "right": w * right}
        return {**{k: counts(xp, place, self.bins, v) for k, v in sums.items()}, **state}

    def result(self, state: State) -> float:
        """The error."""
        self.check(state)
        weight, confidence, right = (
            registry.asarray(state[k]).tolist() for k in ("weight", "confidence", "right")
        )
        n = math.fsum(weight)
        if not n:
            raise UndefinedError(
                "calibration: no target counts (none was given, or all are ignored or weigh 0)"
            )
        gaps = [(w / n, abs(r - c) / w) for w, c, r in zip(weight, confidence, right, strict=True) if w > 0]
        if self.norm == "max":
            return float(max(gap for _, gap in gaps))
        if self.norm == "l2":
            return math.sqrt(math.fsum(share * gap**2 for share, gap in gaps))
        return math.fsum(share * gap for share, gap in gaps)
