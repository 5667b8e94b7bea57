"""The results of a run: its loss again, and numbers in the units of the data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from anynet.data import DataLoader
from anynet.data.source import Preprocessing
from anynet.nn.module import Module
from anynet.runs.reading import RunError
from anynet.tensor import Tensor
from anynet.train import predict
from anynet.train.batches import loader_of
from anynet.train.objectives import loss_of

__all__ = ["objective_of", "scores"]


def objective_of(info: Mapping[str, Any]) -> Any:
    """The loss of a run, made again from its name and options."""
    found = info.get("loss")
    loss = loss_of(found) if isinstance(found, Mapping) else None
    if loss is None:
        name = found.get("name") if isinstance(found, Mapping) else None
        msg = f"the loss of the run, {name!r:.60}, is a function of its own; give loss="
        raise RunError(msg)
    return loss


def scores(
    model: Module, data: Any, preprocessing: Preprocessing | None, batch_size: int
) -> dict[str, float]:
    """rmse, mae and r2 of numbers, decoded as predictions are; nothing for other tasks."""
    if preprocessing is None or preprocessing.task != "regression":
        return {}
    loader = loader_of("evaluate", data, batch_size, False, 0, "cpu")
    outputs = predict(model, loader if not isinstance(loader, DataLoader) else _in_order(loader, batch_size))
    batches = list(_in_order(loader, batch_size))
    targets = [batch[1] for batch in batches]
    weights = [w for b in batches if len(b) == 3 for w in b[2].tolist()] or None
    if not isinstance(outputs, Tensor) or not all(isinstance(t, Tensor) for t in targets):
        return {}
    said = preprocessing.decode(outputs).to_dict()
    true: dict[str, list[Any]] = {}
    for target in targets:
        for name, values in preprocessing.decode(target).to_dict().items():
            true.setdefault(name, []).extend(values)
    names = [
        n
        for n in true
        if n in said and len(true[n]) == len(said[n]) and _numbers(true[n]) and _numbers(said[n])
    ]
    found: dict[str, float] = {}
    for name in names:
        end = "" if len(names) == 1 else f"({name})"
        found |= {f"{k}{end}": v for k, v in _errors(said[name], true[name], weights).items()}
    return found


def _in_order(loader: DataLoader, batch_size: int) -> DataLoader:
    data = loader.dataset
    return DataLoader(data, batch_size=batch_size, shuffle=False, collate_fn=loader.collate_fn)


def _numbers(values: list[Any]) -> bool:
    return all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values)


def _errors(said: list[float], true: list[float], weights: list[float] | None) -> dict[str, float]:
    """Of n numbers, each counted by its weight w: rmse² = Σ w (a − b)² / Σ w, and so on."""
    w = [1.0] * len(true) if weights is None else weights
    total = math.fsum(w)
    if not total:
        return {}

    def mean(values: list[float]) -> float:
        return math.fsum(a * b for a, b in zip(w, values, strict=True)) / total

    middle = mean(true)
    squares = mean([(a - b) ** 2 for a, b in zip(said, true, strict=True)])
    spread = mean([(b - middle) ** 2 for b in true])
    found = {
        "rmse": math.sqrt(squares),
        "mae": mean([abs(a - b) for a, b in zip(said, true, strict=True)]),
    }
    return found | ({"r2": 1.0 - squares / spread} if spread > 0 else {})
