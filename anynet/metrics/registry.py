"""Metrics by name."""

from __future__ import annotations

import copy
import functools
import re
from collections.abc import Mapping
from typing import Any, ClassVar

from anynet._hints import nearest
from anynet.metrics import classes, probabilities, ranking, regression, text
from anynet.metrics.metric import Mean, Metric, State, _Functional, _mode_of

__all__ = ["METRICS", "get"]

METRICS: dict[str, type[Metric]] = {
    cls.name: cls
    for cls in (
        *(
            getattr(module, name)
            for module in (classes, probabilities, ranking, regression, text)
            for name in module.__all__
        ),
    )
}
"""The metrics of this library by name."""

_ALIASES = {
    "acc": "accuracy", "accuracy_score": "accuracy", "balanced_accuracy_score": "balanced_accuracy", "top_k_accuracy": "top_k",
    "top_k_accuracy_score": "top_k", "precision_score": "precision", "recall_score": "recall", "f1_score": "f1",
    "jaccard": "iou", "jaccard_score": "iou", "mean_iou": "iou", "auc": "roc_auc", "auroc": "roc_auc", "roc_auc_score": "roc_auc",
    "ap": "average_precision", "pr_auc": "average_precision", "average_precision_score": "average_precision",
    "brier_score": "brier", "brier_score_loss": "brier", "ece": "calibration", "calibration_error": "calibration",
    "confusion_matrix": "confusion", "mcc": "matthews", "matthews_corrcoef": "matthews", "kappa": "cohen_kappa",
    "cohen_kappa_score": "cohen_kappa", "bpc": "bits_per_character", "mean_squared_error": "mse",
    "root_mean_squared_error": "rmse", "mean_absolute_error": "mae", "mean_absolute_percentage_error": "mape",
    "r2_score": "r2", "explained_variance_score": "explained_variance", "pearsonr": "pearson", "crossentropy": "log_loss",
}  # fmt: skip


def get(given: Any) -> Metric:
    """A metric that has measured nothing, from a name ("f1", "auc", "top_3"), a Metric, a function of this package, or a function
    (output, target) (see `Mean`); of an object with update, compute and reset a metric around a copy of it.

    >>> import anynet as an
    >>> an.metrics.get("top_3"), an.metrics.get("rmse").mode
    (TopK(k=3), 'min')
    """
    if isinstance(given, str):
        return _by_name(given)
    if isinstance(given, Metric) and type(given).update is Metric.update:
        return given.fresh()
    if isinstance(given, _Functional):
        return given.metric()
    if isinstance(given, functools.partial) and isinstance(given.func, _Functional) and not given.args:
        return given.func.metric(**given.keywords)
    if not isinstance(given, type) and all(
        callable(getattr(given, n, None)) for n in ("update", "compute", "reset")
    ):
        return _Other(given)
    return Mean(given)


def _by_name(given: str) -> Metric:
    key = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", given).lower().replace("-", "_").strip()
    key = _ALIASES.get(key, key)
    found = re.fullmatch(r"top_?(\d+)(_accuracy)?", key)
    if found is None and key not in METRICS:
        raise ValueError(f"unknown metric {given!r}{nearest(given, METRICS)}")
    metric = METRICS["top_k"](k=int(found.group(1))) if found else METRICS[key]()  # type: ignore[call-arg]
    metric.name = given
    return metric


class _Other(Metric):
    """An object of another library, or of one's own, with its own update, compute and reset."""

    states: ClassVar[Mapping[str, str]] = {"theirs": "same"}

    def __init__(self, metric: Any) -> None:
        self.metric = copy.deepcopy(metric)
        self.metric.reset()
        own = getattr(metric, "name", None)
        self.name = own if isinstance(own, str) else type(metric).__name__
        mode = _mode_of(metric)
        self.higher_is_better = None if mode not in ("min", "max") else mode == "max"
        self.scalar = bool(getattr(metric, "scalar", True))

    def measure(self, output: Any, target: Any, weight: Any) -> State:
        """The batch, as theirs is updated with it."""
        return {"batch": (output, target) if weight is None else (output, target, weight)}

    def add(self, batch: State) -> None:
        """Update theirs."""
        self.metric.update(*batch["batch"])

    def compute(self) -> Any:
        """Theirs."""
        return self.metric.compute()

    def reset(self) -> None:
        """Theirs."""
        self.metric.reset()

    def fresh(self) -> Metric:
        """A copy of theirs that has measured nothing."""
        return type(self)(self.metric)

    def merge(self, other: Metric) -> None:
        """Theirs."""
        if not isinstance(other, _Other) or not callable(getattr(self.metric, "merge", None)):
            raise TypeError(f"{self.name}: {type(self.metric).__name__} has no merge(other)")
        self.metric.merge(other.metric)

    def state_dict(self) -> State:
        """Theirs, where it has one."""
        theirs = getattr(self.metric, "state_dict", None)
        return {"theirs": theirs()} if callable(theirs) else {}

    def load_state_dict(self, state: Any) -> None:
        """Theirs."""
        if state:
            self.metric.load_state_dict(state["theirs"])
