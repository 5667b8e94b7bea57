"""The picture of all ratios: a row for each workload, a dot for each figure, on a logarithmic axis."""

from __future__ import annotations

import math
from typing import Any

from anynet.viz.svg import drawing, element, shortened

__all__ = ["draw"]

ROW, TOP, LEFT, RIGHT, WIDTH = 17, 64, 330, 24, 900
SHOWN = (
    ("eager / torch eager", "eager, against PyTorch"),
    ("compiled / the fastest other", "compiled, against the fastest other"),
)
TICKS = (0.25, 0.5, 1, 2, 4, 8, 16, 32)


def _x(value: float) -> float:
    low, high = math.log2(TICKS[0]), math.log2(TICKS[-1])
    return LEFT + (WIDTH - LEFT - RIGHT) * (min(max(math.log2(value), low), high) - low) / (high - low)


def _legend() -> list[Any]:
    found, x = [], float(LEFT)
    for i, (_, text) in enumerate(SHOWN):
        found.append(element("circle", cx=x + 5, cy=22.0, r=4.5, class_=f"f{i}"))
        found.append(element("text", text, x=x + 15, y=26.0, class_="small"))
        x += 220
    return found


def draw(groups: list[tuple[str, list[tuple[str, dict[str, float]]]]]) -> str:
    """The SVG of (group, [(title, figures), …])."""
    rows, y = [], float(TOP)
    for group, members in groups:
        y += 8
        rows.append(element("text", group.capitalize(), x=8.0, y=y + 12, class_="strong"))
        y += ROW + 2
        for title, figures in members:
            rows.append(
                element("line", x1=LEFT, y1=y + 8, x2=WIDTH - RIGHT, y2=y + 8, class_="grid", opacity=0.5)
            )
            rows.append(element("text", shortened(title, LEFT - 24, 11.0), x=16.0, y=y + 12, class_="small"))
            for i, (name, _) in enumerate(SHOWN):
                if name in figures:
                    dot = element("title", f"{title}: {name} {figures[name]:.2f}")
                    rows.append(element("circle", dot, cx=_x(figures[name]), cy=y + 8, r=4.5, class_=f"f{i}"))
            y += ROW
    height = y + 24
    axis = []
    for tick in TICKS:
        x = _x(tick)
        axis.append(
            element("line", x1=x, y1=TOP - 6, x2=x, y2=height - 20, class_="axis" if tick == 1 else "grid")
        )
        axis.append(element("text", f"{tick:g}×", x=x, y=TOP - 12, text_anchor="middle", class_="small"))
    text = "How many times faster anynet is than others on whole training steps; left of 1 it is slower."
    return (
        str(
            drawing(WIDTH, height, "Speed of training steps", text, *_legend(), *axis, *rows, standalone=True)
        )
        + "\n"
    )
