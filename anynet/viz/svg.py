"""SVG as text: elements with everything escaped, the palette for light and dark, and how numbers and ticks are written.

Colours are classes (``.s0`` … for strokes, ``.f0`` … for areas), so that a page, or the drawing's own style sheet, decides what they
are in light and in dark. The palette is that of Okabe and Ito (2008), which people with colour-blindness tell apart.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup, escape

__all__ = [
    "PALETTE", "STYLE", "drawing", "element", "log_ticks", "number", "path", "shortened", "text_width", "ticks",
]  # fmt: skip

PALETTE = (
    ("#0072b2", "#56b4e9"), ("#d55e00", "#ff8f4f"), ("#009e73", "#35c99a"), ("#b1588f", "#e29cc6"),
    ("#b07a00", "#f0b93a"), ("#3a87b5", "#9fd3f5"), ("#6b6f76", "#a9afb8"), ("#7a4fb5", "#b79cf0"),
)  # fmt: skip
"""Colours for light and for dark backgrounds, in the order in which series take them."""

_LIGHT = "--ink:#1b1f24;--soft:#5c6570;--line:#d5dae0;--faint:#eef1f4;--paper:#ffffff;--on:#ffffff;"
_DARK = "--ink:#e8ebee;--soft:#a3adb8;--line:#3a424b;--faint:#232a31;--paper:#161b21;--on:#10151a;"


def _variables(dark: bool) -> str:
    colours = "".join(f"--s{i}:{pair[dark]};" for i, pair in enumerate(PALETTE))
    return (_DARK if dark else _LIGHT) + colours


_SERIES = "".join(
    f".s{i}{{stroke:var(--s{i});fill:none}}.f{i}{{fill:var(--s{i})}}" for i in range(len(PALETTE))
)

VARIABLES = (_variables(False), _variables(True))
"""The colours as CSS variables: light, dark."""

STYLE = (
    "svg text{font:12.5px system-ui,-apple-system,'Segoe UI',Roboto,'Noto Sans',sans-serif;fill:var(--ink)}"
    "svg .soft{fill:var(--soft)}svg .small{font-size:11px}svg .strong{font-weight:600}svg .on{fill:var(--on)}"
    "svg .mono{font-family:ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono',monospace;font-size:11px}"
    "svg .grid{stroke:var(--line);stroke-width:1;fill:none}svg .axis{stroke:var(--soft);stroke-width:1;fill:none}"
    "svg .guide{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:3 4;fill:none}"
    "svg .curve{stroke-width:2;stroke-linejoin:round;stroke-linecap:round}svg .band{stroke:none;opacity:.16}"
    "svg .dash1{stroke-dasharray:6 4}svg .dash2{stroke-dasharray:2 4}"
    "svg .hit{opacity:0}svg .hit:hover{opacity:1}svg .dot{opacity:.55}svg .dot:hover{opacity:1}"
    "svg .bar:hover,svg .cell:hover{stroke:var(--ink);stroke-width:1.2}svg .error{stroke:var(--ink);stroke-width:1.2;fill:none}"
    "svg .box{fill:var(--faint);stroke:var(--line)}svg .arrow{stroke:var(--soft);stroke-width:1.3;fill:none}"
    "svg .head{fill:var(--soft)}svg .halo{stroke:var(--paper);stroke-width:3;paint-order:stroke}" + _SERIES
)
"""How the classes of drawings look; `VARIABLES` says the colours."""


def element(tag: str, *children: Any, **attributes: Any) -> Markup:
    """An element; text among the children and the attributes is escaped, other elements are not. None leaves an attribute out.

    >>> print(element("text", "a < b", x=1.5, class_="soft", text_anchor="end"))
    <text x="1.5" class="soft" text-anchor="end">a &lt; b</text>
    """
    parts = [f"<{tag}"]
    for name, value in attributes.items():
        if value is not None:
            text = _coordinate(value) if isinstance(value, float) else str(escape(value))
            parts.append(f' {name.rstrip("_").replace("_", "-")}="{text}"')
    inner = "".join(str(escape(child)) for child in children)
    return Markup("".join(parts) + (f">{inner}</{tag}>" if inner else "/>"))  # noqa: S704 all of it is escaped


def _coordinate(value: float) -> str:
    text = f"{value:.2f}".rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def path(points: Iterable[tuple[float, float]], close: bool = False) -> str:
    """The data of a path through points; a point with a NaN breaks the line."""
    parts, pen = [], "M"
    for x, y in points:
        if not (math.isfinite(x) and math.isfinite(y)):
            pen = "M"
            continue
        parts.append(f"{pen}{x:.1f} {y:.1f}")
        pen = "L"
    return "".join(parts) + ("Z" if close and parts else "")


def drawing(
    width: float,
    height: float,
    title: str,
    description: str,
    *children: Any,
    sized: bool = False,
    standalone: bool = False,
) -> Markup:
    """An SVG that scales with its place; `sized` says how large it is by itself, `standalone` (for a file of its own) brings the
    style sheet along, too."""
    style: list[Markup] = []
    if standalone:
        light, dark = VARIABLES
        sheet = (
            f"svg{{{light}background:var(--paper)}}@media(prefers-color-scheme:dark){{svg{{{dark}}}}}{STYLE}"
        )
        style = [Markup(f"<style>{sheet}</style>")]  # noqa: S704 a constant
    return element(
        "svg",
        element("title", title),
        element("desc", description) if description else "",
        *style,
        *children,
        xmlns="http://www.w3.org/2000/svg" if standalone else None,
        viewBox=f"0 0 {_coordinate(float(width))} {_coordinate(float(height))}",
        width=float(width) if sized or standalone else None,
        height=float(height) if sized or standalone else None,
        role="img",
    )


def text_width(text: str, size: float = 12.5) -> float:
    """About how wide a text is, in the drawing's units."""
    wide = sum(
        1.0 if ord(c) > 0x2E80 else 0.32 if c in "iljtf.,:;'|! ()[]" else 0.85 if c in "mwMW%@" else 0.61
        for c in text
    )
    return wide * size


def shortened(text: str, width: float, size: float = 12.5) -> str:
    """The text, with its end left out where it is wider than `width`.

    >>> shortened("a rather long name of a class", 80)
    'a rather lo…'
    """
    text = " ".join(str(text).split())
    if text_width(text, size) <= width:
        return text
    while text and text_width(text + "…", size) > width:
        text = text[:-1]
    return text.rstrip() + "…"


# ----- numbers -----

_SUPERSCRIPT = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def number(x: Any, digits: int = 4) -> str:
    """A number as people write it: so many significant digits, thousands with a comma, powers of ten where it is far from one.

    >>> [number(x) for x in (0.123456, 12345.678, 1.5e-7, 1200, float("nan"), True, None)]
    ['0.1235', '12,346', '1.5×10⁻⁷', '1,200', 'NaN', 'yes', '–']
    """
    if x is None:
        return "–"
    if isinstance(x, bool):
        return "yes" if x else "no"
    if isinstance(x, int):
        return f"{x:,}" if abs(x) < 10**15 else number(float(x), digits)
    x = float(x)
    if x != x:
        return "NaN"
    if math.isinf(x):
        return "∞" if x > 0 else "−∞"
    if x == 0:
        return "0"
    size = math.floor(math.log10(abs(x)))
    if size < -4 or size >= 9:
        mantissa, exponent = f"{x:.{max(0, digits - 1)}e}".split("e")
        if "." in mantissa:
            mantissa = mantissa.rstrip("0").rstrip(".")
        return f"{mantissa}×10{str(int(exponent)).translate(_SUPERSCRIPT)}".replace("-", "−")
    text = f"{x:,.{max(0, digits - 1 - size)}f}"
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return text.replace("-", "−")


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers from `low` to `high`, about `count` of them.

    >>> ticks(0.0, 1.0), ticks(3.0, 47.0, 4)
    ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [20.0, 40.0])
    """
    if not (math.isfinite(low) and math.isfinite(high)) or high <= low:
        return [low]
    rough = (high - low) / max(1, count)
    power = 10.0 ** math.floor(math.log10(rough))
    step = next((m * power for m in (1.0, 2.0, 2.5, 5.0, 10.0) if m * power >= rough * 0.93), 10.0 * power)
    first = math.ceil(low / step - 1e-9)
    found: list[float] = []
    while first * step <= high + 1e-9 * step and len(found) < 50:
        found.append(round(first * step, 12 - math.floor(math.log10(step))))
        first += 1
    return found


def log_ticks(low: float, high: float) -> list[float]:
    """Powers of ten from `low` to `high`, with 2 and 5 where there are few."""
    bottom, top = math.floor(math.log10(low)), math.ceil(math.log10(high))
    tens = [10.0**k for k in range(bottom, top + 1)]
    if top - bottom > 6:
        tens = tens[:: math.ceil((top - bottom) / 6)]
    found = [t for t in tens if low * 0.999 <= t <= high * 1.001]
    if len(found) < 3:
        found = [m * t for t in tens for m in (1.0, 2.0, 5.0) if low * 0.999 <= m * t <= high * 1.001]
    return found or [low, high]


def tick_labels(values: Sequence[float]) -> list[str]:
    """The ticks in words, with as many digits as tell them apart."""
    for digits in range(1, 7):
        labels = [number(v, digits) for v in values]
        if len(set(labels)) == len(labels) and all(
            abs(float(f"{v:.{digits}g}") - v) <= 1e-9 * max(1e-300, abs(v)) for v in values
        ):
            return labels
    return [number(v, 6) for v in values]
