"""Outputs and targets as they come, in the forms that metrics are defined on; see `anynet.metrics` for the list."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from anynet.metrics.metric import Metric, State, UndefinedError
from anynet.tensor import Tensor, unwrap
from anynet_backends import Array, Backend, backend_of, registry

__all__ = ["Answers", "Classification", "arrays", "flat_weight", "number"]


def plain(where: str, what: str, value: Any) -> Array:
    """An array; lists become float64 or int64."""
    value = unwrap(value)
    if not hasattr(value, "dtype") or not hasattr(value, "shape"):
        if not isinstance(value, (list, tuple, int, float, bool)):
            msg = f"{where}: the {what} must be an array of numbers, got {type(value).__name__}"
            raise TypeError(f"{msg}; of several outputs choose one: anynet.metrics.Transformed")
        try:
            value = registry.asarray(value)
        except ValueError as error:
            raise ValueError(f"{where}: the {what} must be an array of numbers: {error}") from None
    elif not registry.is_array(value):  # a column of a DataFrame, say
        value = registry.asarray(value)
    if getattr(value.dtype, "kind", "f") in "USOTMm":
        msg = f"{where}: the {what} must be numbers, got {value.dtype}; number the classes: 0, 1, …"
        raise TypeError(msg)
    return value


def arrays(where: str, output: Any, target: Any, weight: Any) -> tuple[Backend, Array, Array, Array | None]:
    """The backend of the output, and all arrays on its device."""
    if weight is None and type(output) is Tensor and type(target) is Tensor:  # as nearly always
        a, b = output.data, target.data
        xp = backend_of(a)
        if type(a) is type(b) and (xp.name == "numpy" or a.device == b.device):
            return xp, a, b, None
    output, target = plain(where, "output", output), plain(where, "target", target)
    xp = backend_of(output)
    target = _beside(xp, output, target)
    if weight is not None:
        weight = _beside(xp, output, plain(where, "weight", weight))
    return xp, output, target, weight


def _beside(xp: Backend, output: Array, other: Array) -> Array:
    if type(other) is type(output) and (xp.name == "numpy" or other.device == output.device):
        return other
    own = backend_of(other)
    return xp.from_host(own.to_host(other), xp.device_of(output))


def flat_weight(where: str, xp: Backend, weight: Array | None, shape: tuple[int, ...]) -> Array | None:
    """Weights of samples (n,) or of targets (n, …), as float64 of shape (Π shape,)."""
    if weight is None:
        return None
    if tuple(weight.shape) == (shape[0], 1) and shape[1:] != (1,):
        weight = xp.reshape(weight, (shape[0],))
    if tuple(weight.shape) not in ((shape[0],), shape):
        msg = f"{where}: the weight must have shape {shape[:1]}, one for each sample, or {shape}, got {tuple(weight.shape)}"
        raise ValueError(msg)
    weight = xp.astype(weight, xp.float64)
    if tuple(weight.shape) != shape:
        weight = xp.broadcast_to(xp.reshape(weight, (shape[0], *(1 for _ in shape[1:]))), shape)
    return xp.reshape(weight, (-1,))


def _masked(xp: Backend, weight: Array | None, live: Array) -> Array:
    """The weights, with 0 for what does not count."""
    return xp.astype(live, xp.int64) if weight is None else weight * xp.astype(live, weight.dtype)


def number(x: Any) -> float:
    """A number that is read from the device."""
    return float(x)


class Answers(NamedTuple):
    """What a classifier says and what is right, for N positions.

    kind       scores                 target
    "classes"  (N, C), floating       (N,) class indices
    "indices"  (N,), class indices    (N,) class indices
    "binary"   (N,), floating         (N,) 0 or 1
    "labels"   (N, L), floating       (N, L) 0 or 1
    """

    kind: str
    scores: Array
    target: Array
    weight: Array | None  # (N,) float64, 0 where a target is ignored; without weights 1 and 0, int64
    hard: bool = False  # yes or no instead of scores


class Classification(Metric):
    """What the metrics of classes have in common: the options that say how an output is read.

    logits: True: the output are logits (softmax or a sigmoid gives the probabilities); False: probabilities; None: what `fit`'s
      loss says, else probabilities, and outputs outside of [0, 1] are refused where that matters.
    threshold: above which an output says yes; 0 for logits, 0.5 for probabilities.
    ignore_index: targets that are not counted; None: all are. The loss's, else −100.
    one_hot: targets of the output's shape are rows of probabilities or one-hot, of which the largest is meant (else: a yes or no
      for each label).
    multilabel: integers (n, L) are yes or no for L labels, not class indices.
    """

    by_form = True
    probabilistic = False  # whether the value depends on probabilities, not on their order alone

    def __init__(
        self,
        *,
        logits: bool | None = None,
        threshold: float | None = None,
        ignore_index: int | None = -100,
        one_hot: bool | None = None,
        multilabel: bool = False,
    ) -> None:
        self.logits, self.threshold = logits, threshold
        self.ignore_index, self.one_hot, self.multilabel = ignore_index, one_hot, multilabel
        self._checked = False  # the targets are known to be class indices of the output
        self._unknown_loss = False

    def bind(self, kind: str | None, ignore_index: int | None, *, checked: bool = False) -> None:
        """Take what was left open from the loss: ("classes", "logits", "values", or None where that is not known)."""
        self._unknown_loss = kind is None and self.logits is None and self.threshold is None
        if self.logits is None and kind is not None:
            self.logits = kind in ("classes", "logits")
            if kind == "values" and self.threshold is None:
                self.threshold = 0.5  # said: numbers outside of [0, 1] are no reason to ask
        if self.one_hot is None and kind == "classes":
            self.one_hot = True
        if self.ignore_index == -100:
            self.ignore_index = ignore_index
        self._checked = checked

    # ----- reading -----

    def read(self, output: Any, target: Any, weight: Any) -> tuple[Backend, Answers]:
        """The answers of a batch."""
        xp, output, target, weight = arrays(self.name, output, target, weight)
        got, want = tuple(output.shape), tuple(target.shape)
        if not got:
            raise ValueError(f"{self.name}: the output must have the samples along its first axis, got {got}")
        per_class = len(got) > 1 and want == (got[0], *got[2:])
        floating = xp.isdtype(output.dtype, ("real floating", "complex floating"))
        if per_class and got[1] > 1 and got != want:
            return xp, self._classes(xp, output, target, weight)
        if got != want and per_class:  # (n, 1, …) and (n, …)
            output = xp.reshape(output, want)
        elif got != want and len(want) == len(got) + 1 and want[1] == 1 and (want[0], *want[2:]) == got:
            target = xp.reshape(target, got)
        elif got != want:
            msg = (
                f"{self.name}: an output of shape {got} does not go with a target of shape {want}: expected class indices of "
                f"shape {(*got[:1], *got[2:])} (classes lie along axis 1) or a target of the output's shape"
            )
            raise ValueError(msg)
        if self.one_hot and floating and len(got) > 1 and got[1] > 1:
            return xp, self._classes(xp, output, xp.argmax(target, axis=1), weight)
        if not floating and not self.multilabel and not xp.isdtype(output.dtype, "bool"):
            self._integers(xp, target, "class indices")
            flat = xp.reshape(target, (-1,))
            weight, flat = self._live(xp, flat, flat_weight(self.name, xp, weight, want))
            return xp, Answers("indices", xp.reshape(output, (-1,)), flat, weight)
        return xp, self._yes_or_no(xp, output, target, weight)

    def _classes(self, xp: Backend, output: Array, target: Array, weight: Array | None) -> Answers:
        self._integers(xp, target, f"an output of shape {tuple(output.shape)} takes class indices")
        shape = tuple(target.shape)
        if len(output.shape) > 2:
            output = xp.reshape(xp.moveaxis(output, 1, -1), (-1, output.shape[1]))
            target = xp.reshape(target, (-1,))
        weight, target = self._live(xp, target, flat_weight(self.name, xp, weight, shape))
        return Answers("classes", output, target, weight)

    def _integers(self, xp: Backend, target: Array, why: str) -> None:
        if not xp.isdtype(target.dtype, ("integral", "bool")):
            msg = f"{self.name}: {why}: integers, got {xp.dtype_name(target.dtype)}"
            raise TypeError(msg)

    def _live(self, xp: Backend, target: Array, weight: Array | None) -> tuple[Array | None, Array]:
        """The weights with 0 where a target is ignored, and 0 in the place of such targets."""
        if xp.isdtype(target.dtype, "bool"):
            return weight, xp.astype(target, xp.int64)
        if self.ignore_index is None or not xp.isdtype(target.dtype, "signed integer"):
            return weight, target
        live = target != self.ignore_index
        if xp.eager and xp.values_are_cheap_to_read and bool(xp.all(live)):
            return weight, target
        zero = xp.zeros((), dtype=target.dtype, device=target.device)
        return _masked(xp, weight, live), xp.where(live, target, zero)

    def _yes_or_no(self, xp: Backend, output: Array, target: Array, weight: Array | None) -> Answers:
        hard = not xp.isdtype(output.dtype, "real floating")
        if self._unknown_loss and not hard:
            msg = (
                f"{self.name}: this loss does not say whether the output is a logit or a probability; give "
                f"anynet.metrics.{type(self).__name__}(logits=True) for logits, logits=False for probabilities, or a threshold="
            )
            raise ValueError(msg)
        shape = tuple(target.shape)
        labels = shape[1] if len(shape) > 1 and shape[1] > 1 else 0
        if len(shape) > 2 or (len(shape) == 2 and not labels):
            form = (-1, labels) if labels else (-1,)
            output, target = (
                xp.reshape(xp.moveaxis(a, 1, -1) if labels and len(shape) > 2 else a, form)
                for a in (output, target)
            )
        at = (shape[0], *shape[2:]) if labels else shape
        if weight is not None and labels and tuple(weight.shape) not in ((shape[0],), (shape[0], 1), at):
            msg = f"{self.name}: the weight must have shape {shape[:1]} or {at}, got {tuple(weight.shape)}"
            raise ValueError(msg)
        weight = flat_weight(self.name, xp, weight, at)
        if xp.isdtype(target.dtype, "bool"):
            truth = target
        elif xp.isdtype(target.dtype, "signed integer") and self.ignore_index is not None:
            live, truth = target != self.ignore_index, target > 0
            if labels:
                weight = _masked(xp, None if weight is None else weight[:, None], live)
            else:
                weight, _ = self._live(xp, target, weight)
        elif xp.isdtype(target.dtype, "integral"):
            truth = target > 0
        else:
            truth = target > 0.5
            if not hard:  # a target that is NaN is neither: `check` will find it
                nan = xp.full((), math.nan, dtype=output.dtype, device=output.device)
                output = xp.where(xp.isnan(target), nan, output)
        if hard and xp.isdtype(output.dtype, "integral"):
            output = output > 0
        return Answers("labels" if labels else "binary", output, truth, weight, hard)

    # ----- from answers on -----

    @property
    def cut(self) -> float:
        """Above which an output says yes."""
        return self.threshold if self.threshold is not None else 0.0 if self.logits else 0.5

    def yes(self, answers: Answers) -> Array:
        """Which outputs say yes."""
        return answers.scores if answers.hard else answers.scores > self.cut

    def checks(self, xp: Backend, answers: Answers) -> State:
        """What `check` looks at: the range of the outputs, and of class indices."""
        found: State = {}
        scores, target = answers.scores, answers.target
        if answers.kind in ("classes", "indices") and not self._checked:
            if target.shape[0] and not xp.isdtype(target.dtype, "bool"):
                found["target_low"], found["target_high"] = xp.min(target), xp.max(target)
            if answers.kind == "classes":
                found["classes"] = int(scores.shape[1])
        if not answers.hard and answers.kind != "indices" and math.prod(scores.shape):
            found["highest"] = xp.max(scores)
            if self._ranged(answers.kind):
                found["lowest"] = xp.min(scores)
        return found

    def _ranged(self, kind: str) -> bool:
        if self.probabilistic:
            return not self.logits
        return kind != "classes" and self.logits is None and self.threshold is None

    def check(self, state: State) -> None:
        """Refuse NaN, outputs that are no probabilities where they should be, and class indices that are none."""
        high = state.get("highest")
        if high is not None and math.isnan(high := number(high)):
            raise UndefinedError(f"{self.name}: the output or the target holds NaN")
        low = state.get("lowest")
        if low is not None and high is not None and (number(low) < -1e-6 or high > 1 + 1e-6):
            msg = (
                f"{self.name}: expected probabilities, got numbers from {number(low):.4g} to {high:.4g}; say logits=True where "
                "they are logits"
                + ("" if self.probabilistic else ", or the threshold= above which they mean yes")
            )
            raise ValueError(msg)
        first, last = state.get("target_low"), state.get("target_high")
        if first is not None and last is not None:
            classes = state.get("classes")
            if first < 0 or (classes is not None and last >= classes):
                wrong = int(first) if first < 0 else int(last)
                among = f"the {classes} classes of the output" if classes is not None else "class indices"
                msg = f"{self.name}: the target {wrong} is not among {among}"
                raise ValueError(msg)


CHECKS = {"highest": "max", "lowest": "min", "target_low": "min", "target_high": "max", "classes": "same"}
"""States that `Classification.checks` gives."""
