"""What the figures of this room share: matplotlib, asked for when it is needed; its axes, in one plain style."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from anynet._optional import optional
from anynet.viz.svg import PALETTE

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "axes", "blend", "colour", "grid", "pyplot", "styled"]

COLOURS = tuple(light for light, _ in PALETTE)


def pyplot() -> Any:
    """``matplotlib.pyplot``; ModuleNotFoundError that names the extra where it is not installed. No backend is forced."""
    return optional("matplotlib.pyplot", "plot", "plotting")


def styled(ax: Axes) -> Axes:
    """Plain axes: no frame above and right, a light grid, colours that people with colour-blindness tell apart."""
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
    ax.grid(True, color="0.9", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.set_prop_cycle(color=COLOURS)
    return ax


def axes(ax: Axes | None, size: tuple[float, float] = (6.0, 4.0), plain: bool = False) -> Axes:
    """The axes to draw into: those given, else new ones in a figure of their own."""
    if ax is not None:
        return ax
    made = pyplot().subplots(figsize=size, layout="constrained")[1]
    return made if plain else styled(made)


def grid(
    count: int, width: float = 3.6, height: float = 2.8, columns: int = 3, plain: bool = False
) -> tuple[Figure, list[Axes]]:
    """A figure with so many axes in rows."""
    columns = min(columns, count)
    rows = math.ceil(count / columns)
    figure, made = pyplot().subplots(
        rows, columns, figsize=(width * columns, height * rows), layout="constrained", squeeze=False
    )
    found = list(made.flat)
    for ax in found[count:]:
        ax.remove()
    if not plain:
        for ax in found[:count]:
            styled(ax)
    return figure, found[:count]


def colour(i: int) -> tuple[float, float, float]:
    """The i-th colour as red, green and blue in [0, 1]."""
    text = COLOURS[i % len(COLOURS)]
    red, green, blue = (int(text[k : k + 2], 16) / 255 for k in (1, 3, 5))
    return red, green, blue


def blend(rgb: tuple[float, float, float], share: float) -> tuple[float, float, float]:
    """A colour over white, the stronger the larger the share."""
    red, green, blue = (1 - share * (1 - c) for c in rgb)
    return red, green, blue
