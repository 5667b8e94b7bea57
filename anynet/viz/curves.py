"""Curves of training: the quantities of one history or several, epoch by epoch."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from anynet._hints import closest
from anynet.viz.figures import COLOURS, grid

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["curves"]

_NOT_CURVES = {"epoch", "batch", "step", "seconds", "time", "lr"}


def curves(
    *runs: Any,
    quantities: str | Sequence[str] | None = None,
    names: Sequence[str] | None = None,
    log: bool = False,
    ax: Axes | None = None,
) -> Figure:
    """The quantities of some trainings by epoch: training dotted, validation solid, a colour for each run.

    A run is a `History` (any list of dicts), something with a ``history``, or the path of a run's folder. `quantities` are names such
    as ``"loss"`` or ``"val_loss"`` (which "loss" includes); all that were measured unless given. `log` makes the vertical axes
    logarithmic. `ax` takes one quantity.

    >>> import anynet as an
    >>> history = an.train.History([{"epoch": 1, "loss": 0.7, "val_loss": 0.8}, {"epoch": 2, "loss": 0.4, "val_loss": 0.6}])
    >>> [ax.get_title() for ax in an.viz.curves(history).axes]  # doctest: +SKIP
    ['loss']
    """
    if not runs:
        msg = "viz.curves: give at least one run"
        raise ValueError(msg)
    histories = [_history(run) for run in runs]
    labels = _labels(runs, names)
    known = list(dict.fromkeys(k for h in histories for r in h for k, v in r.items() if _is_number(v)))
    wanted = _wanted(quantities, known)
    if ax is not None and len(wanted) != 1:
        msg = f"viz.curves: ax takes one quantity, got {', '.join(wanted)}; give quantities="
        raise ValueError(msg)
    figure, panels = grid(len(wanted), 4.6, 3.4) if ax is None else (ax.get_figure(), [ax])
    for panel, quantity in zip(panels, wanted, strict=True):
        for i, (history, label) in enumerate(zip(histories, labels, strict=True)):
            _draw(panel, history, quantity, label, i, len(histories) == 1)
        panel.set_title(quantity)
        panel.set_xlabel("epoch")
        if log:
            panel.set_yscale("log")
        if panel.get_legend_handles_labels()[0]:
            panel.legend(frameon=False)
    return figure  # type: ignore[return-value]


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _history(run: Any) -> list[Mapping[str, Any]]:
    if isinstance(run, (str, os.PathLike)):
        file = Path(run) / "history.jsonl"
        if not file.is_file():
            msg = f"viz.curves: {os.fspath(run)} has no history.jsonl; give the folder of a run"
            raise FileNotFoundError(msg)
        return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    history = getattr(run, "history", run)
    if not isinstance(history, Sequence) or not all(isinstance(r, Mapping) for r in history):
        msg = f"viz.curves: a run must be a History, have one, or be the path of a run's folder, got {type(run).__name__}"
        raise TypeError(msg)
    return list(history)


def _labels(runs: Sequence[Any], names: Sequence[str] | None) -> list[str]:
    if names is not None:
        if len(names) != len(runs):
            msg = f"viz.curves: names must have a name for each of {len(runs)} runs, got {len(names)}"
            raise ValueError(msg)
        return [str(name) for name in names]
    found = []
    for i, run in enumerate(runs):
        own = Path(run).name if isinstance(run, (str, os.PathLike)) else getattr(run, "name", None)
        found.append(own if isinstance(own, str) and own else f"run {i + 1}")
    return found


def _wanted(quantities: str | Sequence[str] | None, known: Sequence[str]) -> list[str]:
    if quantities is None:
        bases = dict.fromkeys(
            k.removeprefix("val_") for k in known if k.removeprefix("val_") not in _NOT_CURVES
        )
        if not bases:
            msg = "viz.curves: the histories hold no numbers"
            raise ValueError(msg)
        return list(bases)
    wanted = [quantities] if isinstance(quantities, str) else list(quantities)
    for name in wanted:
        if name not in known and f"val_{name}" not in known:
            near = closest(name, known)
            msg = f"viz.curves: no run has {name!r}; " + (
                f"did you mean {near!r}?" if near else f"known: {', '.join(known)}"
            )
            raise KeyError(msg)
    return wanted


def _draw(
    ax: Axes, history: Sequence[Mapping[str, Any]], quantity: str, label: str, i: int, alone: bool
) -> None:
    validation = f"val_{quantity}"
    for name, style, word in (
        (quantity, ":" if not alone else "-", "training"),
        (validation, "-", "validation"),
    ):
        points = [
            (r.get("epoch", k + 1), float(r[name])) for k, r in enumerate(history) if _is_number(r.get(name))
        ]
        if not points:
            continue
        colour = COLOURS[(0 if word == "training" else 1) if alone else i % len(COLOURS)]
        single = not any(validation in r for r in history) or quantity.startswith("val_")
        text = (None if alone else label) if single else word if alone else f"{label}, {word}"
        marker = "o" if sum(math.isfinite(v) for _, v in points) == 1 else None
        ax.plot(
            [e for e, _ in points], [v for _, v in points], style, color=colour, label=text, marker=marker
        )
