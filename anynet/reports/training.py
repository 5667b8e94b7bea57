"""How the training went: curves over the epochs, in words and figures, from the history alone."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from anynet.reports.charts import Series, lines, table_of
from anynet.reports.sections import Figure, Section, Table, Words, duration
from anynet.viz.svg import number

__all__ = ["best_epoch", "numbers_of", "quantities", "training_section"]

_NOT_CURVES = ("epoch", "batch", "step", "seconds", "lr", "time")


def numbers_of(history: Sequence[Mapping[str, Any]], name: str) -> tuple[list[float], list[float]]:
    """Epochs and values of a quantity; epochs without it are left out, a value that is no number is NaN."""
    x, y = [], []
    for i, record in enumerate(history):
        if name in record:
            value = record[name]
            x.append(float(record.get("epoch", i + 1)))
            y.append(float(value) if isinstance(value, (int, float)) else math.nan)
    return x, y


def quantities(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """The names of the quantities that are measured each epoch, without "val_": loss first."""
    found: dict[str, None] = {}
    for record in (*history[:1], *history[-1:]):
        for name, value in record.items():
            base = name.removeprefix("val_")
            if isinstance(value, (int, float)) and not isinstance(value, bool) and base not in _NOT_CURVES:
                found.setdefault(base)
    return sorted(found, key=lambda n: n != "loss")


def best_epoch(run: Any) -> tuple[int | None, str]:
    """The epoch whose weights are kept, and by which quantity: as the run says, else the lowest loss."""
    history = run.history
    said = run.info.get("best")
    if isinstance(said, Mapping) and isinstance(said.get("epoch"), int):
        return said["epoch"], str(said.get("monitor") or said.get("quantity") or "")
    if isinstance(run.info.get("best_epoch"), int):
        return run.info["best_epoch"], str(run.info.get("monitor") or "")
    name = "val_loss" if any("val_loss" in r for r in history) else "loss"
    x, y = numbers_of(history, name)
    real = [(v, e) for e, v in zip(x, y, strict=True) if math.isfinite(v)]
    return (int(min(real)[1]), name) if real else (None, "")


def training_section(run: Any) -> Section:
    """The curves of all that was measured, the learning rate, the time."""
    history = run.history
    if not history:
        return Section("Training", [Words("No epoch was finished, so there are no curves.")])
    best, monitor = best_epoch(run)
    blocks: list[Any] = [
        curve_figure(history, name, best if name == monitor.removeprefix("val_") else None)
        for name in quantities(history)[:8]
    ]
    for name, title, unit in (("lr", "Learning rate", "η"), ("seconds", "Time of each epoch", "s")):
        x, y = numbers_of(history, name)
        if len(y) > 1 and (name == "seconds" or len(set(y)) > 1):
            curve = Series(title.lower(), x, y)
            head, rows, note = table_of([curve], "epoch")
            svg = lines([curve], title=title, x_label="epoch", y_label=unit, whole=True, height=140)
            blocks.append(Figure(svg, title, "", Table(head, rows, note=note)))
    return Section("Training", blocks, _story(history, best, monitor))


def curve_figure(history: Sequence[Mapping[str, Any]], name: str, best: int | None = None) -> Figure:
    """A quantity on training and validation data."""
    series = []
    for full, label, colour, dash in ((name, "training", 0, 0), (f"val_{name}", "validation", 1, 0)):
        x, y = numbers_of(history, full)
        if y:
            mark = None
            if best is not None and colour == 1 and float(best) in x:
                at = x.index(float(best))
                mark = (x[at], y[at], f"best: {number(y[at])}")
            series.append(Series(label, x, y, dash=dash, colour=colour, mark=mark))
    if len(series) == 1:
        series[0].colour = 0
    head, rows, note = table_of(series, "epoch")
    svg = lines(series, title=f"{name} by epoch", x_label="epoch", y_label=name, whole=True)
    missing = sum(not math.isfinite(v) for s in series for v in s.y)
    caption = f"{missing:,} values are not finite numbers and are left out." if missing else ""
    if len(series) == 1 and series[0].name == "training":
        caption = (caption + " There was no validation while training.").strip()
    return Figure(svg, name, caption, Table(head, rows, note=note))


def _story(history: Sequence[Mapping[str, Any]], best: int | None, monitor: str) -> str:
    parts = [f"{len(history):,} epoch{'s' if len(history) != 1 else ''}"]
    seconds = sum(float(r.get("seconds") or 0.0) for r in history)
    if seconds:
        parts.append(f"in {duration(seconds)}")
    text = " ".join(parts) + "."
    if best is not None and len(history) > 1:
        text += f" The weights kept are those of epoch {best}" + (
            f", the best by {monitor}." if monitor else "."
        )
    x, train = numbers_of(history, "loss")
    _, val = numbers_of(history, "val_loss")
    if len(val) == len(train) > 3 and math.isfinite(val[-1]) and math.isfinite(train[-1]):
        low = min((v, e) for v, e in zip(val, x, strict=True) if math.isfinite(v))
        if val[-1] > 1.1 * low[0] + 1e-12 and low[1] < x[-1] - 1 and train[-1] < low[0]:
            text += f" After epoch {int(low[1])} the validation loss rose while the training loss fell: it overfits."
        elif low[1] >= x[-1] - 0.5 and len(val) > 4 and val[-1] < 0.985 * val[-2]:
            text += " The validation loss was still falling at the end: more epochs may help."
    return text
