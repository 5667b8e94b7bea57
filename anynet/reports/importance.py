"""Permutation importance: how much worse the answers get when one column of the inputs is shuffled."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import anynet as an
from anynet.autograd.pytree import flatten, unflatten
from anynet.data import Subset
from anynet.data.dataset import batch_of
from anynet.nn.module import Module
from anynet.reports.charts import bars
from anynet.reports.evaluation import Evaluated, evaluate_samples
from anynet.reports.sections import Figure, Section, Table
from anynet.tensor import Tensor

__all__ = ["columns_of", "importance_section", "permutation_importance"]

_SAMPLES, _COLUMNS, _REPEATS = 2000, 100, 3
Columns = list[tuple[str, list[tuple[int, list[int]]]]]


def columns_of(inputs: Any, preprocessing: Any) -> Columns:
    """What can be shuffled: (name, [(array, its columns)]), from arrays (samples, features) or (samples,) among the inputs."""
    asked = getattr(preprocessing, "input_columns", None)
    if callable(asked):
        return [(str(name), [(int(leaf), list(cols)) for leaf, cols in places]) for name, places in asked()]
    names = getattr(preprocessing, "feature_names", None)
    leaves, _ = flatten(inputs)
    if not all(isinstance(x, Tensor) and x.ndim in (1, 2) for x in leaves):
        return []
    found: Columns = []
    for i, x in enumerate(leaves):
        for j in range(1 if x.ndim == 1 else int(x.shape[1])):
            label = f"feature {j}" if len(leaves) == 1 else f"input {i}, feature {j}"
            found.append((label, [(i, [j])]))
    if isinstance(names, Sequence) and len(names) == len(found):
        found = [(str(name), where) for name, (_, where) in zip(names, found, strict=True)]
    return found


def permutation_importance(
    model: Module, evaluated: Evaluated, columns: Columns, preprocessing: Any, *, seed: int = 0
) -> list[tuple[str, float, float]]:
    """(column, increase of the error, its spread over the repeats), largest first (Breiman 2001; Fisher et al. 2019).

    The error is the mean loss of the samples, each counted by its weight where there are weights: −log p of the right class, or the
    root of the mean squared error.
    """
    step = math.ceil(len(evaluated) / _SAMPLES)
    chosen = evaluated.indices[::step]
    inputs, targets = batch_of(Subset(evaluated.dataset, chosen), range(len(chosen)))[:2]
    leaves, structure = flatten(inputs)
    weights = None if evaluated.weights is None else evaluated.weights[::step]

    def error(changed: list[Any]) -> float:
        found = evaluate_samples(
            model, (unflatten(structure, changed), targets), task=evaluated.task if evaluated.task == "regression" else None,
            loss="bce" if evaluated.task == "multilabel" else None, preprocessing=preprocessing,
        )  # fmt: skip
        mean = float(
            an.mean(found.losses) if weights is None else an.sum(found.losses * weights) / an.sum(weights)
        )
        return math.sqrt(mean) if found.task == "regression" else mean

    base = error(leaves)
    draws, found = an.random.Generator(seed), []
    for name, places in columns:
        rises = []
        for _ in range(_REPEATS):
            order = an.random.permutation(len(chosen), generator=draws)
            changed = list(leaves)
            for leaf, cols in places:
                changed[leaf] = _shuffled(changed[leaf], cols, order)
            rises.append(error(changed) - base)
        mean = sum(rises) / len(rises)
        spread = math.sqrt(sum((r - mean) ** 2 for r in rises) / (len(rises) - 1))
        found.append((name, mean, spread))
    return sorted(found, key=lambda f: -f[1])


def _shuffled(x: Tensor, columns: list[int], order: Tensor) -> Tensor:
    order = order.to(x.device)
    mixed = an.take(x, order, axis=0)
    if x.ndim == 1:
        return mixed
    marks = an.asarray([j in set(columns) for j in range(int(x.shape[1]))], device=x.device)
    return an.where(marks[None, :], mixed, x)


def importance_section(model: Module, evaluated: Evaluated, preprocessing: Any) -> Section | None:
    """The figure; None where the inputs have no columns (pictures, texts), or too many."""
    if evaluated.task not in ("classification", "regression", "multilabel") or len(evaluated) < 10:
        return None
    inputs = batch_of(evaluated.dataset, range(min(2, len(evaluated.dataset))))[0]
    columns = columns_of(inputs, preprocessing)
    if not 1 < len(columns) <= _COLUMNS:
        return None
    found = permutation_importance(model, evaluated, columns, preprocessing)
    shown = found[:25]
    what = "RMSE" if evaluated.task == "regression" else "log-loss (nats)"
    intervals = [(m - s, m + s) for _, m, s in shown]
    svg = bars(
        [n for n, _, _ in shown],
        [m for _, m, _ in shown],
        title="Permutation importance",
        x_label=f"rise of the {what}",
        intervals=intervals,
    )
    table = Table(["column", f"rise of the {what}", "deviation over 3 shuffles"], [list(f) for f in found])
    top = " and ".join(n for n, m, _ in found[:2] if m > 0)
    lead = f"It relies most on {top}." if top else "No single column matters by itself."
    caption = (
        "How much the error rises when the column is shuffled among the samples"
        + (", each counted by its weight" if evaluated.weights is not None else "")
        + ". Columns that say the same share their importance."
    )
    return Section("What matters", [Figure(svg, "Permutation importance", caption, table)], lead)
