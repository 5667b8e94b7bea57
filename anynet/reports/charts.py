"""The charts of a report as SVG: lines, bars, histograms, heat maps, scatter plots, radars.

Each is drawn 440 units wide, so that its letters can be read on a phone, and scales with its place. What a chart shows stands in its
tooltips and, as every chart of the report, in a table beside it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from markupsafe import Markup

from anynet.viz.svg import (
    PALETTE,
    drawing,
    element,
    log_ticks,
    number,
    path,
    shortened,
    text_width,
    tick_labels,
    ticks,
)

__all__ = ["WIDTH", "Series", "bars", "heat_map", "histogram", "lines", "radar", "scatter", "thinned"]

WIDTH = 440.0
_POINTS, _TIPS = 320, 48  # of a curve: drawn, and with a tooltip
_STEP = 24.0  # from bar to bar


@dataclass
class Series:
    """One curve: its name, its points, where given a band around it; `dash` draws it broken, `colour` counts in the palette."""

    name: str
    x: Sequence[float]
    y: Sequence[float]
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    dash: int = 0
    colour: int | None = None
    mark: tuple[float, float, str] | None = field(default=None)


def _colour(i: int) -> int:
    return i % len(PALETTE)


def _finite(values: Sequence[float]) -> list[float]:
    return [v for v in values if v is not None and math.isfinite(v)]


def thinned(x: Sequence[float], y: Sequence[float], most: int) -> list[tuple[float, float]]:
    """At most about `most` of the points: in each stretch the lowest and the highest, so that no spike is lost."""
    points = list(zip(x, y, strict=True))
    if len(points) <= most:
        return points
    width = math.ceil(2 * len(points) / most)
    kept: list[tuple[float, float]] = []
    for begin in range(0, len(points), width):
        part = points[begin : begin + width]
        real = [p for p in part if math.isfinite(p[1])]
        if not real:
            kept.append(part[0])
            continue
        kept += sorted({min(real, key=lambda p: p[1]), max(real, key=lambda p: p[1])})
    if kept[-1] != points[-1]:
        kept.append(points[-1])
    return kept


# ----- axes -----


class _Scale:
    """From numbers to places along an axis."""

    def __init__(self, low: float, high: float, begin: float, end: float, log: bool = False) -> None:
        self.log = log
        if high <= low:
            pad = abs(low) * 0.1 or 0.5
            low, high = (low / 1.5, high * 1.5) if log else (low - pad, high + pad)
        self.low, self.high, self.begin, self.end = low, high, begin, end

    def __call__(self, v: float) -> float:
        if v is None or not math.isfinite(v) or (self.log and v <= 0):
            return math.nan
        if self.log:
            share = math.log(v / self.low) / math.log(self.high / self.low)
        else:
            share = (v - self.low) / (self.high - self.low)
        return self.begin + share * (self.end - self.begin)

    def ticks(self, count: int) -> list[float]:
        return log_ticks(self.low, self.high) if self.log else ticks(self.low, self.high, count)


@dataclass
class _Plot:
    """A rectangle with axes; what is drawn goes into `parts`."""

    x: _Scale
    y: _Scale
    parts: list[Markup]
    left: float
    top: float
    right: float
    bottom: float


def _legend(names: Sequence[tuple[str, int, int]], width: float, top: float) -> tuple[list[Markup], float]:
    """Names with their colours in rows; and where the rows end."""
    parts, x, y = [], 0.0, top + 12
    for name, colour, dash in names:
        label = shortened(name, width - 30)
        wide = 26 + text_width(label) + 14
        if x and x + wide > width:
            x, y = 0.0, y + 19
        parts.append(
            element(
                "line",
                x1=x,
                x2=x + 20,
                y1=y - 4,
                y2=y - 4,
                class_=f"curve s{colour} dash{dash}" if dash else f"curve s{colour}",
            )
        )
        parts.append(element("text", label, x=x + 26, y=y))
        x += wide
    return parts, y + 8


def _axes(
    x: tuple[float, float],
    y: tuple[float, float],
    *,
    top: float,
    height: float,
    x_label: str,
    y_label: str,
    log_x: bool = False,
    log_y: bool = False,
    whole: bool = False,
) -> _Plot:
    """The frame of a chart, its grid, ticks and labels; `whole`: ticks of x are whole numbers."""
    top += 20 if y_label else 8
    bottom = top + height
    vertical = _Scale(*y, bottom, top, log_y)
    at_y = vertical.ticks(round(height / 50))
    y_names = tick_labels(at_y)
    left = max(34.0, max(text_width(t, 11) for t in y_names) + 10)
    horizontal = _Scale(*x, left, WIDTH - 12, log_x)
    at_x = horizontal.ticks(6)
    if whole:
        at_x = (
            sorted({float(round(t)) for t in at_x if horizontal.low <= round(t) <= horizontal.high}) or at_x
        )
    parts = []
    for value, label in zip(at_y, y_names, strict=True):
        place = vertical(value)
        parts.append(element("line", x1=left, x2=WIDTH - 12, y1=place, y2=place, class_="grid"))
        parts.append(element("text", label, x=left - 6, y=place + 4, text_anchor="end", class_="soft small"))
    for value, label in zip(at_x, tick_labels(at_x), strict=True):
        place = horizontal(value)
        parts.append(element("line", x1=place, x2=place, y1=bottom, y2=bottom + 4, class_="axis"))
        parts.append(
            element("text", label, x=place, y=bottom + 17, text_anchor="middle", class_="soft small")
        )
    parts.append(element("line", x1=left, x2=WIDTH - 12, y1=bottom, y2=bottom, class_="axis"))
    if y_label:
        parts.append(element("text", y_label, x=0.0, y=top - 9, class_="soft small"))
    if x_label:
        middle = (left + WIDTH - 12) / 2
        parts.append(
            element("text", x_label, x=middle, y=bottom + 34, text_anchor="middle", class_="soft small")
        )
    return _Plot(horizontal, vertical, parts, left, top, WIDTH - 12, bottom)


# ----- charts -----


def lines(
    series: Sequence[Series],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    log_x: bool = False,
    log_y: bool | None = None,
    y_range: tuple[float | None, float | None] = (None, None),
    whole: bool = False,
    guide: bool = False,
    height: float = 200.0,
    say: Callable[[float], str] = number,
) -> Markup:
    """Curves over a common x. `log_y` None: where all is positive and spans a factor of 100. `guide` draws the diagonal."""
    ys = [v for s in series for v in (*_finite(s.y), *_finite(s.low or ()), *_finite(s.high or ()))]
    xs = [v for s in series for v in _finite(s.x)]
    if not ys or not xs:
        return _empty(title, "no finite numbers to draw")
    if log_y is None:
        log_y = min(ys) > 0 and max(ys) / min(ys) > 100
    if log_y:
        ys = [v for v in ys if v > 0] or [1.0]
    low, high = min(ys), max(ys)
    if log_y:
        low, high = low / 1.15, high * 1.15
    elif high > low:
        pad = 0.06 * (high - low)
        low, high = (0.0 if 0 <= low < 0.35 * high else low - pad), high + pad
    low, high = low if y_range[0] is None else y_range[0], high if y_range[1] is None else y_range[1]
    named = [(s.name, _colour(i if s.colour is None else s.colour), s.dash) for i, s in enumerate(series)]
    legend, top = _legend(named, WIDTH, 0) if len(series) > 1 else ([], 0.0)
    plot = _axes(
        (min(xs), max(xs)),
        (low, high),
        top=top,
        height=height,
        x_label=x_label,
        y_label=y_label,
        log_x=log_x,
        log_y=log_y,
        whole=whole,
    )
    if guide:
        a, b = max(plot.x.low, plot.y.low), min(plot.x.high, plot.y.high)
        plot.parts.append(
            element("path", d=path([(plot.x(a), plot.y(a)), (plot.x(b), plot.y(b))]), class_="guide")
        )
    for s, (_, colour, dash) in zip(series, named, strict=True):
        plot.parts += _curve(plot, s, colour, dash, x_label, say)
    tall = plot.bottom + (42 if x_label else 24)
    return drawing(WIDTH, tall, title, _in_words(series, say), *legend, *plot.parts)


def _curve(
    plot: _Plot, s: Series, colour: int, dash: int, x_label: str, say: Callable[[float], str]
) -> list[Markup]:
    parts = []
    if s.low is not None and s.high is not None:
        upper = [(plot.x(a), plot.y(b)) for a, b in thinned(s.x, s.high, _POINTS)]
        lower = [(plot.x(a), plot.y(b)) for a, b in thinned(s.x, s.low, _POINTS)]
        around = [p for p in (*upper, *reversed(lower)) if math.isfinite(p[0]) and math.isfinite(p[1])]
        parts.append(element("path", d=path(around, close=True), class_=f"band f{colour}"))
    points = [(plot.x(a), plot.y(b)) for a, b in thinned(s.x, s.y, _POINTS)]
    parts.append(
        element("path", d=path(points), class_=f"curve s{colour}" + (f" dash{dash}" if dash else ""))
    )
    tips = thinned(s.x, s.y, _TIPS)
    alone = len(_finite(s.y)) == 1
    for a, b in tips:
        px, py = plot.x(a), plot.y(b)
        if math.isfinite(px) and math.isfinite(py):
            name = f"{x_label} {number(a)}" if x_label else number(a)
            tip = element("title", f"{s.name}, {name}: {say(b)}")
            parts.append(
                element(
                    "circle", tip, cx=px, cy=py, r=4.0, class_=f"f{colour}" if alone else f"hit f{colour}"
                )
            )
    if s.mark is not None:
        px, py = plot.x(s.mark[0]), plot.y(s.mark[1])
        if math.isfinite(px) and math.isfinite(py):
            anchor = "end" if px > (plot.left + plot.right) / 2 else "start"
            shift = -8.0 if anchor == "end" else 8.0
            up = -9.0 if py - plot.top > 24 else 16.0
            parts.append(
                element("circle", element("title", s.mark[2]), cx=px, cy=py, r=4.5, class_=f"f{colour}")
            )
            parts.append(
                element(
                    "text", s.mark[2], x=px + shift, y=py + up, text_anchor=anchor, class_="small strong halo"
                )
            )
    return parts


def _in_words(series: Sequence[Series], say: Callable[[float], str]) -> str:
    said = []
    for s in series[:8]:
        real = _finite(s.y)
        if real:
            said.append(
                f"{s.name}: from {say(real[0])} to {say(real[-1])}, lowest {say(min(real))}, highest {say(max(real))}"
            )
    return "; ".join(said)


def _empty(title: str, why: str) -> Markup:
    text = element("text", why, x=WIDTH / 2, y=34.0, text_anchor="middle", class_="soft")
    return drawing(WIDTH, 60, title, why, text)


def bars(
    labels: Sequence[str],
    values: Sequence[float],
    *,
    title: str,
    x_label: str = "",
    intervals: Sequence[tuple[float, float] | None] | None = None,
    log: bool = False,
    limits: tuple[float, float] | None = None,
    say: Callable[[float], str] = number,
) -> Markup:
    """Horizontal bars with their names before and their numbers behind them."""
    real = _finite(values) + [v for pair in intervals or () if pair for v in _finite(pair)]
    if not real:
        return _empty(title, "no finite numbers to draw")
    before = min(150.0, max(text_width(shortened(name, 150)) for name in labels) + 8)
    behind = max(text_width(say(v), 11) for v in values if v is not None) + 14
    if log:
        positive = [v for v in real if v > 0] or [1.0]
        scale = _Scale(min(positive) / 3, max(positive), before, WIDTH - behind, True)
    else:
        low, high = limits or (min(0.0, *real), max(0.0, *real))
        scale = _Scale(low, high if high > low else low + 1, before, WIDTH - behind)
    zero = before if log else scale(min(max(0.0, scale.low), scale.high))
    parts = []
    for i, (name, value) in enumerate(zip(labels, values, strict=True)):
        pair = intervals[i] if intervals else None
        parts += _bar(name, value, scale, zero, 6 + i * _STEP, before, pair, say)
    bottom = 6 + len(labels) * _STEP
    if not log and scale.low < 0:
        parts.append(element("line", x1=zero, x2=zero, y1=2.0, y2=bottom - 4, class_="axis"))
    if x_label:
        parts.append(element("text", x_label, x=before, y=bottom + 12, class_="soft small"))
    said = ", ".join(f"{n} {say(v)}" for n, v in list(zip(labels, values, strict=True))[:10])
    return drawing(WIDTH, bottom + (20 if x_label else 2), title, said, *parts)


def _bar(
    name: str,
    value: float,
    scale: _Scale,
    zero: float,
    y: float,
    before: float,
    interval: tuple[float, float] | None,
    say: Callable[[float], str],
) -> list[Markup]:
    """One bar with its name, its number and its interval."""
    label, told = shortened(name, before - 8), element("title", name)
    parts = [element("text", label, told, x=before - 8, y=y + 14, text_anchor="end")]
    place = scale(value)
    if not math.isfinite(place):
        text = "0" if value == 0 else number(value)
        return [*parts, element("text", text, x=before + 4, y=y + 14, class_="soft small")]
    begin, reach = min(zero, place), max(zero, place)
    tip = element("title", f"{name}: {say(value)}")
    frame = {"x": begin, "y": y, "width": max(1.0, reach - begin), "height": _STEP - 8, "rx": 2.0}
    parts.append(element("rect", tip, **frame, class_="bar f0"))
    if interval:
        a, b = scale(interval[0]), scale(interval[1])
        if math.isfinite(a) and math.isfinite(b):
            middle = y + (_STEP - 8) / 2
            whisker = f"M{a:.1f} {middle}H{b:.1f}M{a:.1f} {middle - 3}v6M{b:.1f} {middle - 3}v6"
            parts.append(element("path", d=whisker, class_="error"))
            reach = max(reach, b)
    return [*parts, element("text", say(value), x=reach + 6, y=y + 13, class_="soft small")]


def histogram(
    edges: Sequence[float],
    counts: Sequence[float],
    *,
    title: str,
    x_label: str = "",
    y_label: str = "",
    colour: int = 0,
    height: float = 170.0,
) -> Markup:
    """Counts between edges as touching bars."""
    top_count = max(counts, default=0)
    if not top_count or not all(map(math.isfinite, edges)):
        return _empty(title, "no finite numbers to draw")
    plot = _axes(
        (edges[0], edges[-1]), (0.0, top_count * 1.05), top=0, height=height, x_label=x_label, y_label=y_label
    )
    for a, b, n in zip(edges[:-1], edges[1:], counts, strict=True):
        if n:
            tip = element("title", f"{number(a)} to {number(b)}: {number(n)}")
            x, y = plot.x(a), plot.y(n)
            plot.parts.append(
                element(
                    "rect",
                    tip,
                    x=x + 0.5,
                    y=y,
                    width=max(0.8, plot.x(b) - x - 1),
                    height=plot.bottom - y,
                    class_=f"bar f{_colour(colour)}",
                )
            )
    if edges[0] < 0 < edges[-1]:
        plot.parts.append(
            element("line", x1=plot.x(0), x2=plot.x(0), y1=plot.top, y2=plot.bottom, class_="guide")
        )
    said = f"from {number(edges[0])} to {number(edges[-1])}, most in one bar {number(top_count)}"
    return drawing(WIDTH, plot.bottom + (42 if x_label else 24), title, said, *plot.parts)


def heat_map(
    matrix: Sequence[Sequence[float]],
    rows: Sequence[str],
    columns: Sequence[str],
    *,
    title: str,
    row_label: str = "",
    column_label: str = "",
    say: Callable[[float], str] = number,
    tip: Callable[[int, int], str] | None = None,
    texts: Sequence[Sequence[str]] | None = None,
) -> Markup:
    """A matrix of shares in [0, 1] as cells of one colour, stronger where more; `texts` stand in the cells where they fit."""
    before = min(120.0, max((text_width(shortened(r, 120), 11) for r in rows), default=0) + 8)
    before += 16 if row_label else 0
    cell = min(46.0, (WIDTH - before - 4) / max(1, len(columns)))
    parts, above = _column_names(columns, before, cell, 18.0 if column_label else 0.0)
    if column_label:
        middle = (2 * before + cell * len(columns)) / 2
        parts.append(
            element("text", column_label, x=middle, y=11.0, text_anchor="middle", class_="soft small")
        )
    if row_label:
        turned = f"translate(11 {above + cell * len(rows) / 2:.1f}) rotate(-90)"
        parts.append(element("text", row_label, transform=turned, text_anchor="middle", class_="soft small"))
    for i, name in enumerate(rows):
        y = above + i * cell
        if cell >= 9:
            label = shortened(name, before - (16 if row_label else 0) - 8, 11)
            told = element("title", name)
            place = y + cell / 2 + 4
            parts.append(
                element("text", label, told, x=before - 6, y=place, text_anchor="end", class_="small")
            )
        for j, value in enumerate(matrix[i]):
            told_cell = tip(i, j) if tip else f"{name}, {columns[j]}: {say(value)}"
            parts += _cell(before + j * cell, y, cell, value, told_cell, texts[i][j] if texts else "")
    said = f"{len(rows)} rows, {len(columns)} columns"
    return drawing(WIDTH, above + cell * len(rows) + 4, title, said, *parts)


def _column_names(
    columns: Sequence[str], before: float, cell: float, top: float
) -> tuple[list[Markup], float]:
    """The names above the columns, aslant where they have no room; and where the cells begin."""
    names = [shortened(c, 110, 11) for c in columns]
    told = [j for j, c in enumerate(names) if c]
    apart = min((b - a for a, b in itertools.pairwise(told)), default=1) * cell
    upright = all(text_width(c, 11) < apart - 2 for c in names)
    above = top + (20.0 if upright else max(text_width(c, 11) for c in names) * 0.72 + 14)
    parts = []
    for j in told:
        x, tip = before + (j + 0.5) * cell, element("title", columns[j])
        if upright:
            parts.append(
                element("text", names[j], tip, x=x, y=above - 6, text_anchor="middle", class_="small")
            )
        else:
            turned = f"translate({x + 3:.1f} {above - 5:.1f}) rotate(-45)"
            parts.append(element("text", names[j], tip, transform=turned, class_="small"))
    return parts, above


def _cell(x: float, y: float, size: float, value: float, tip: str, text: str) -> list[Markup]:
    """One cell of a heat map; small ones without a share are left out, so that large maps stay small files."""
    share = min(1.0, max(0.0, value)) if math.isfinite(value) else 0.0
    frame = {"x": x, "y": y, "width": size - 1, "height": size - 1, "rx": 2.0 if size > 14 else 0.0}
    parts = []
    if size > 5:
        parts.append(element("rect", **frame, class_="box", stroke="none"))
    if share > 0.002 or size > 5:
        opacity = f"{0.04 + 0.96 * share if share else 0:.3f}"
        parts.append(element("rect", element("title", tip), **frame, class_="cell f0", fill_opacity=opacity))
    if text and text_width(text, 11) < size - 4:
        middle = {"x": x + size / 2 - 0.5, "y": y + size / 2 + 3.5, "text_anchor": "middle"}
        kind = "small on" if share > 0.5 else "small"
        parts.append(element("text", text, **middle, pointer_events="none", class_=kind))
    return parts


def scatter(
    x: Sequence[float],
    y: Sequence[float],
    *,
    title: str,
    x_label: str,
    y_label: str,
    diagonal: bool = False,
    zero: bool = False,
    most: int = 700,
    tips: Sequence[str] | None = None,
) -> Markup:
    """Points; of very many an even selection. `diagonal` marks y = x, `zero` y = 0."""
    points = [
        (a, b, i) for i, (a, b) in enumerate(zip(x, y, strict=True)) if math.isfinite(a) and math.isfinite(b)
    ]
    if not points:
        return _empty(title, "no finite numbers to draw")
    step = math.ceil(len(points) / most)
    points = points[::step]
    xs, ys = [p[0] for p in points], [p[1] for p in points]
    if diagonal:
        xs = ys = xs + ys

    def padded(values: list[float]) -> tuple[float, float]:
        pad = 0.04 * (max(values) - min(values))
        return min(values) - pad, max(values) + pad

    plot = _axes(
        padded(xs), padded(ys), top=0, height=300 if diagonal else 220, x_label=x_label, y_label=y_label
    )
    radius = 3.2 if len(points) < 200 else 2.3
    for a, b, i in points:
        told = tips[i] if tips else f"{number(a)}, {number(b)}"
        plot.parts.append(
            element("circle", element("title", told), cx=plot.x(a), cy=plot.y(b), r=radius, class_="dot f0")
        )
    if diagonal:
        a, b = max(plot.x.low, plot.y.low), min(plot.x.high, plot.y.high)
        plot.parts.append(
            element("path", d=path([(plot.x(a), plot.y(a)), (plot.x(b), plot.y(b))]), class_="guide")
        )
    if zero and plot.y.low < 0 < plot.y.high:
        plot.parts.append(
            element("line", x1=plot.left, x2=plot.right, y1=plot.y(0), y2=plot.y(0), class_="guide")
        )
    said = f"{len(points)} points" + (f", every {step}th" if step > 1 else "")
    return drawing(WIDTH, plot.bottom + 42, title, said, *plot.parts)


def radar(
    axes: Sequence[str],
    series: Sequence[Series],
    *,
    title: str,
    log: bool = False,
    say: Callable[[float], str] = number,
) -> Markup:
    """Values on spokes around a centre, one spoke an axis (y of each series in the order of `axes`)."""
    values = [v for s in series for v in _finite(s.y) if not log or v > 0]
    if not values or len(axes) < 3:
        return _empty(title, "needs three or more finite numbers")
    named = [(s.name, _colour(i), s.dash) for i, s in enumerate(series)]
    legend, top = _legend(named, WIDTH, 0) if len(series) > 1 else ([], 0.0)
    radius, cx = 112.0, WIDTH / 2
    cy = top + radius + 30
    low, high = (min(values), max(values)) if log else (0.0, max(values))
    if log:
        low, high = 10 ** math.floor(math.log10(low) - 0.05), 10 ** math.ceil(math.log10(high) + 0.05)
        rings = log_ticks(low, high)
    else:
        rings = ticks(low, high, 4)
        high = max(high, rings[-1])
    scale = _Scale(low, high, 0.0 if not log else radius * 0.08, radius, log)

    def at(i: int, r: float) -> tuple[float, float]:
        angle = 2 * math.pi * i / len(axes) - math.pi / 2
        return cx + r * math.cos(angle), cy + r * math.sin(angle)

    corners = [at(i, 1.0) for i in range(len(axes))]
    parts = _web(axes, corners, (cx, cy), radius, [(scale(ring), say(ring)) for ring in rings])
    for k, s in enumerate(series):
        colour = _colour(k)
        points = [at(i, scale(v) if math.isfinite(scale(v)) else 0.0) for i, v in enumerate(s.y)]
        parts.append(element("path", d=path(points, close=True), class_=f"band f{colour}"))
        parts.append(element("path", d=path(points, close=True), class_=f"curve s{colour}"))
        for (x, y), name, v in zip(points, axes, s.y, strict=True):
            tip = element("title", f"{name}: {say(v)}")
            parts.append(element("circle", tip, cx=x, cy=y, r=3.5, class_=f"f{colour}"))
    said = ", ".join(f"{a} {say(v)}" for a, v in list(zip(axes, series[0].y, strict=True))[:10])
    return drawing(WIDTH, cy + radius + 24, title, said, *legend, *parts)


def _web(
    axes: Sequence[str],
    corners: Sequence[tuple[float, float]],
    centre: tuple[float, float],
    radius: float,
    rings: Sequence[tuple[float, str]],
) -> list[Markup]:
    """The rings and spokes of a radar with their names; `corners` are the ends of spokes of length 1."""
    (cx, cy), parts = centre, []
    away = [(x - cx, y - cy) for x, y in corners]
    for r, label in rings:
        if r > 1:
            ring = [(cx + r * a, cy + r * b) for a, b in away]
            parts.append(element("path", d=path(ring, close=True), class_="grid"))
            parts.append(
                element("text", label, x=cx - 4, y=cy - r + 11, text_anchor="end", class_="soft small halo")
            )
    for name, (a, b) in zip(axes, away, strict=True):
        end = (cx + radius * a, cy + radius * b)
        parts.append(element("line", x1=cx, y1=cy, x2=end[0], y2=end[1], class_="grid"))
        x, y = end[0] + 9 * a, end[1] + 9 * b
        side = "middle" if abs(x - cx) < 12 else "start" if x > cx else "end"
        room = (WIDTH - x if side == "start" else x if side == "end" else 140) - 2
        label, told = shortened(name, room, 11), element("title", name)
        drop = 4 if abs(y - cy) < radius else 0
        parts.append(element("text", label, told, x=x, y=y + drop, text_anchor=side, class_="small"))
    return parts


def table_of(
    series: Sequence[Series], x_label: str, most: int = 200
) -> tuple[list[str], list[list[Any]], str]:
    """The numbers of curves as head, rows and a remark; of long ones evenly spaced rows."""
    xs = sorted({v for s in series for v in s.x})
    step = math.ceil(len(xs) / most)
    kept = xs[::step] if step > 1 else xs
    if xs and kept[-1] != xs[-1]:
        kept.append(xs[-1])
    found = [dict(zip(s.x, s.y, strict=True)) for s in series]
    rows = [[x, *(f.get(x) for f in found)] for x in kept]
    note = f"every {step}th of {len(xs):,} rows" if step > 1 else ""
    return [x_label or "x", *(s.name for s in series)], rows, note
