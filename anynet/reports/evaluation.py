"""What a network says of its validation data, sample by sample."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import anynet as an
from anynet.autograd.pytree import flatten
from anynet.data import DataLoader, Subset
from anynet.nn import functional as F
from anynet.nn.modes import evaluating
from anynet.nn.module import Module
from anynet.reports.intervals import Estimate, bootstrap
from anynet.tensor import Tensor, no_grad
from anynet.train.batches import Batches, call, device_of, loader_of

__all__ = ["Evaluated", "evaluate_samples"]

MOST = 20_000  # samples that are looked at


@dataclass
class Evaluated:
    """Outputs and targets of the samples that were looked at.

    `task`: "classification" (one class a sample), "dense" (one class at each of several places: texts, segmentations),
    "multilabel", "regression", or "other" (nothing but the loss is known). `losses`: of each sample, in nats where classes are
    predicted, the squared error in the units of the targets else. `indices` are the samples' places in `dataset`.
    """

    task: str
    dataset: Any
    indices: list[int]
    total: int
    losses: Tensor
    target: Tensor
    predicted: Tensor
    probabilities: Tensor | None = None  # (samples, classes)
    right: Tensor | None = None  # the share of places that are right, where each sample has several
    by_place: list[float] = field(default_factory=list)  # of a dense task: the loss at each place
    tokens: int = 0
    names: list[str] = field(default_factory=list)  # classes, or targets of a regression
    weights: Tensor | None = None  # how much each sample counts

    def __len__(self) -> int:
        return len(self.indices)

    def estimate(self, features: Tensor, statistic: Callable[[Tensor], Tensor]) -> Estimate:
        """A function of means over the samples, with its interval (`bootstrap`)."""
        return bootstrap(features, statistic, weights=self.weights)

    def sample(self, i: int) -> Any:
        """The inputs of the i-th of the samples that were looked at."""
        return self.dataset[self.indices[i]][0]

    def hardest(self, count: int, easiest: bool = False) -> list[int]:
        """The samples of the largest (or smallest) losses."""
        order = an.argsort(self.losses, descending=not easiest).tolist()
        losses = self.losses.tolist()
        return [i for i in order if math.isfinite(losses[i])][:count]


def evaluate_samples(
    model: Module, data: Any, *, task: str | None = None, loss: str | None = None, preprocessing: Any = None
) -> Evaluated:
    """Run the network over the data (of very many samples an even selection)."""
    device = device_of(model)
    loader = loader_of("report", data, 256, False, 0, device)
    dataset, total = loader.dataset, len(loader.dataset)
    step = math.ceil(total / MOST)
    indices = list(range(0, total, step))
    chosen = Subset(dataset, indices) if step > 1 else dataset
    loader = DataLoader(chosen, batch_size=256, device=device, collate_fn=loader.collate_fn)
    batches = Batches("report", model, device)
    kind: str | None = None
    parts: list[dict[str, Any]] = []
    with no_grad(), evaluating(model):
        for batch in loader:
            x, y = batches.pair(batch[:2] if isinstance(batch, (tuple, list)) and len(batch) > 2 else batch)
            out = call(model, x)
            if kind is None:
                kind = _task_of(out, y, loss, task)
            parts.append(_PARTS[kind](out, y, preprocessing))
            if isinstance(batch, (tuple, list)) and len(batch) == 3 and batch[2].shape == out.shape[:1]:
                parts[-1]["weights"] = _host(batch[2])
    tokens = sum(p.pop("tokens", 0) for p in parts)
    places = [p.pop("by_place", []) for p in parts]
    joined: dict[str, Any] = {key: an.concat([p[key] for p in parts], axis=0) for key in parts[0]}
    found = Evaluated(str(kind), dataset, indices, total, tokens=tokens, **joined)
    found.by_place = [sum(column) / len(indices) for column in zip(*places, strict=False)]
    found.names = _names(found, preprocessing)
    return found


def _names(found: Evaluated, preprocessing: Any) -> list[str]:
    classes = getattr(preprocessing, "classes", None)
    if found.task in ("classification", "multilabel") and found.probabilities is not None:
        count = int(found.probabilities.shape[1])
        return (
            [str(c) for c in classes] if classes and len(classes) == count else [str(i) for i in range(count)]
        )
    if found.task == "regression":
        count = int(found.target.shape[1])
        given = getattr(preprocessing, "target_names", None) or getattr(preprocessing, "targets_names", None)
        if given and len(given) == count:
            return [str(g) for g in given]
        return ["target"] if count == 1 else [f"target {i}" for i in range(count)]
    return []


def _host(x: Tensor, dtype: str = "float64") -> Tensor:
    return an.astype(x.detach().to("cpu"), dtype)


def _task_of(out: Any, y: Any, loss: str | None, said: str | None) -> str:
    """What is predicted, as outputs and targets look."""
    if not isinstance(out, Tensor) or not isinstance(y, Tensor) or not out.dtype.is_floating or not out.ndim:
        return "other"
    if said == "regression":
        return "regression" if out.size == y.size else "other"
    if y.dtype.is_floating:
        binary = "bce" in (loss or "").lower() or "binary_cross" in (loss or "").lower()
        if binary and out.shape == y.shape:
            return "classification" if out.size == out.shape[0] else "multilabel"
        return "regression" if out.size == y.size else "other"
    if out.ndim == y.ndim + 1:
        return "classification" if y.ndim == 1 else "dense"
    if out.ndim == y.ndim and out.size == y.size == y.shape[0]:
        return "classification"  # one logit
    return "regression" if out.size == y.size else "other"


def _log_probabilities(out: Tensor) -> Tensor:
    """From logits, log-probabilities or probabilities with the classes along the last axis."""
    out = _host(out)
    total = an.sum(out, axis=-1)
    if float(an.min(out)) >= 0.0 and float(an.max(an.abs(total - 1.0))) < 1e-3:
        return an.log(an.clip(out, 1e-30, 1.0))
    return F.log_softmax(out, dim=-1)


def _classification(out: Tensor, y: Tensor, _: Any) -> dict[str, Any]:
    if out.size == out.shape[0]:  # one logit: classes 0 and 1
        z = an.reshape(_host(out), (-1, 1))
        logp = F.logsigmoid(an.concat([-z, z], axis=1))
    else:
        logp = _log_probabilities(out)
    target = an.reshape(_host(y, "int64"), (-1,))
    known = target >= 0
    safe = an.where(known, target, 0)
    nll = -an.take_along_axis(logp, safe[:, None], axis=1)[:, 0]
    return {
        "losses": an.where(known, nll, an.asarray(math.nan, dtype="float64")),
        "target": target,
        "predicted": an.argmax(logp, axis=1),
        "probabilities": an.exp(logp),
    }


def _dense(out: Tensor, y: Tensor, _: Any) -> dict[str, Any]:
    if tuple(out.shape[:-1]) != tuple(y.shape):  # classes along axis 1
        out = an.moveaxis(out, 1, -1)
    n, classes = int(y.shape[0]), int(out.shape[-1])
    logp = an.reshape(_log_probabilities(out), (n, -1, classes))
    target = an.reshape(_host(y, "int64"), (n, -1))
    known = target >= 0
    safe = an.where(known, target, 0)
    nll = an.where(known, -an.take_along_axis(logp, safe[:, :, None], axis=2)[:, :, 0], 0.0)
    predicted = an.argmax(logp, axis=2)
    right = an.astype(an.logical_and(predicted == target, known), "float64")
    count = an.sum(an.astype(known, "float64"), axis=1)
    return {
        "losses": an.sum(nll, axis=1) / count,
        "right": an.sum(right, axis=1) / count,
        "target": target,
        "predicted": predicted,
        "by_place": an.sum(nll, axis=0).tolist(),
        "tokens": int(an.sum(count)),
    }


def _multilabel(out: Tensor, y: Tensor, _: Any) -> dict[str, Any]:
    n = int(y.shape[0])
    z, t = an.reshape(_host(out), (n, -1)), an.reshape(_host(y), (n, -1))
    nll = -(t * F.logsigmoid(z) + (1.0 - t) * F.logsigmoid(-z))
    p = 1.0 / (1.0 + an.exp(-z))
    predicted = an.astype(p > 0.5, "float64")
    return {
        "losses": an.mean(nll, axis=1),
        "target": t,
        "predicted": predicted,
        "probabilities": p,
        "right": an.mean(an.astype(predicted == t, "float64"), axis=1),
    }


def _regression(out: Tensor, y: Tensor, preprocessing: Any) -> dict[str, Any]:
    n = int(y.shape[0])
    predicted = _in_units(an.reshape(out.detach(), tuple(y.shape)), preprocessing)
    target = _in_units(y, preprocessing)
    predicted, target = an.reshape(predicted, (n, -1)), an.reshape(target, (n, -1))
    return {
        "losses": an.mean((predicted - target) ** 2, axis=1),
        "target": target,
        "predicted": predicted,
    }


def _in_units(values: Tensor, preprocessing: Any) -> Tensor:
    """Outputs (or targets, which look like outputs) in the units of the data."""
    if preprocessing is None:
        return _host(values)
    answers = list(preprocessing.decode(an.reshape(values, (int(values.shape[0]), -1))))
    rows: list[list[float]] = []
    for answer in answers:
        several = (
            answer.values()
            if isinstance(answer, dict)
            else answer
            if isinstance(answer, Sequence)
            else [answer]
        )
        rows.append([float(v) for v in several])
    return an.asarray(rows, dtype="float64")


def _other(out: Any, y: Any, _: Any) -> dict[str, Any]:
    leaves, _structure = flatten(y)
    n = next((int(leaf.shape[0]) for leaf in leaves if getattr(leaf, "shape", ())), 0)
    nothing = an.full((n,), math.nan, dtype="float64")
    return {"losses": nothing, "target": nothing, "predicted": nothing}


_PARTS = {
    "classification": _classification,
    "dense": _dense,
    "multilabel": _multilabel,
    "regression": _regression,
    "other": _other,
}
