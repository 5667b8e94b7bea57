"""Several runs against each other: one table, overlaid curves, and the settings that differ."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from anynet.reports.charts import Series, lines, table_of
from anynet.reports.record import _flat
from anynet.reports.sections import Best, Figure, Numeral, Section, Table, Words, duration
from anynet.reports.training import best_epoch, numbers_of, quantities

if TYPE_CHECKING:
    from anynet.reports.page import Findings

__all__ = ["comparison_sections"]

_LOWER = ("loss", "RMSE", "error", "perplexity", "Brier", "bias", "bits")


def comparison_sections(found: list[Findings]) -> tuple[str, list[Section]]:
    """The summary and the chapters."""
    names = _names(found)
    summary, results = _results(found, names)
    sections = [
        Section("Results", results, "Measured on the held-out samples of each run, with 95 % intervals.")
    ]
    curves = _curves(found, names)
    if curves:
        sections.append(Section("Training", curves))
    different = _settings(found, names)
    if different is not None:
        sections.append(Section("Settings that differ", [different]))
    missing = [Words(f"{name}: {m}") for name, f in zip(names, found, strict=True) for m in f.missing]
    if missing:
        sections.append(Section("What is missing", missing))
    return summary, sections


def _names(found: list[Findings]) -> list[str]:
    """The runs' names, each once."""
    names: list[str] = []
    for f in found:
        name, count = f.run.name, 2
        while name in names:
            name, count = f"{f.run.name} ({count})", count + 1
        names.append(name)
    return names


def _results(found: list[Findings], names: list[str]) -> tuple[str, list[Any]]:
    measures = list(dict.fromkeys(r.name for f in found for r in f.results.items))
    columns: list[list[Any]] = []  # of each run: its measures, size, epochs, time
    for f in found:
        of = {r.name: r for r in f.results.items}
        seconds = sum(float(r.get("seconds") or 0.0) for r in f.run.history)
        size = None if f.model is None else sum(p.size for p in f.model.parameters())
        numbers = [Numeral(of[m].short) if m in of else None for m in measures]
        columns.append([*numbers, size, len(f.run.history), Numeral(duration(seconds))])
    ranks = [_ranked(found, m) for m in measures]
    for k, ranked in enumerate(ranks):
        if len(ranked) > 1:
            columns[ranked[0]][k] = Best(columns[ranked[0]][k])
    head = [*measures, "parameters", "epochs", "time"]
    if len(found) <= 4:
        table = Table(["measure", *names], [[h, *(c[k] for c in columns)] for k, h in enumerate(head)])
    else:
        table = Table(["run", *head], [[name, *c] for name, c in zip(names, columns, strict=True)])
    return _summary(found, names, measures, ranks), [table]


def _ranked(found: list[Findings], measure: str) -> list[int]:
    """The runs that have a measure, best first."""
    sign = 1.0 if any(w in measure for w in _LOWER) else -1.0
    values = [
        (sign * abs(r.estimate.value), i)
        for i, f in enumerate(found)
        for r in f.results.items
        if r.name == measure
    ]
    return [i for v, i in sorted(values) if math.isfinite(v)]


def _summary(found: list[Findings], names: list[str], measures: list[str], ranks: list[list[int]]) -> str:
    if not measures or len(ranks[0]) < 2:
        return f"{len(found)} runs."
    first, second = ranks[0][:2]
    a, b = (next(r for r in found[i].results.items if r.name == measures[0]) for i in (first, second))
    said = f"The best of {len(found)} runs by {measures[0]} is {names[first]} with {a.short}; then comes {names[second]} with {b.short}."
    ends = [e for r in (a, b) for e in (r.estimate.low, r.estimate.high) if e is not None]
    if len(ends) == 4 and max(ends[0], ends[2]) <= min(ends[1], ends[3]):
        said += " Their intervals overlap: on other samples the order might be another."
    return said


def _curves(found: list[Findings], names: list[str]) -> list[Any]:
    known = list(dict.fromkeys(q for f in found for q in quantities(f.run.history)))
    blocks: list[Any] = []
    for quantity in known[:8]:
        series = []
        for i, (name, f) in enumerate(zip(names, found, strict=True)):
            for full, dash in ((f"val_{quantity}", 0), (quantity, 2)):
                x, y = numbers_of(f.run.history, full)
                if y and (dash == 0 or len(found) <= 4):
                    label = f"{name}, validation" if dash == 0 else f"{name}, training"
                    series.append(Series(label, x, y, dash=dash, colour=i))
        if series:
            head, rows, note = table_of(series, "epoch")
            svg = lines(
                series,
                title=f"{quantity} by epoch",
                x_label="epoch",
                y_label=quantity,
                whole=True,
                height=230,
            )
            blocks.append(Figure(svg, quantity, "", Table(head, rows, note=note)))
    return blocks


def _settings(found: list[Findings], names: list[str]) -> Table | None:
    flat = [
        dict((k, v) for key, value in f.run.info.items() if key != "results" for k, v in _flat(value, key))
        for f in found
    ]
    for f, own in zip(found, flat, strict=True):
        best, _ = best_epoch(f.run)
        own["best epoch"] = "–" if best is None else str(best)
    keys = [k for k in dict.fromkeys(k for own in flat for k in own) if len({own.get(k) for own in flat}) > 1]
    if not keys:
        return None
    return Table(
        ["setting", *names],
        [[k, *(own.get(k, "–") for own in flat)] for k in keys[:120]],
        code=tuple(range(1, len(names) + 1)),
    )
