"""The pictures of examples: charts, rows of pictures and texts, one below the other in an SVG file that needs nothing else."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from anynet.reports.charts import WIDTH, Series, lines
from anynet.reports.pictures import data_uri, thumbnail
from anynet.viz.svg import drawing, element, shortened

__all__ = ["compose", "history_lines", "text_block", "tiles"]

_FRAME = re.compile(r'<svg viewBox="0 0 ([\d.]+) ([\d.]+)"')
_TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)
_MARGIN = 16.0
_TITLE_WIDTH = 7.6  # of a character of the title, on average


def compose(title: str, parts: Sequence[Markup]) -> str:
    """One SVG file of several drawings (charts, `tiles`, `text_block`), each below its title."""
    y, inside = 16.0, []
    for line in textwrap.wrap(title, int(WIDTH / _TITLE_WIDTH)):
        inside.append(element("text", line, x=_MARGIN, y=y + 6, class_="strong"))
        y += 18
    for part in parts:
        frame = _FRAME.match(part)
        if frame is None:
            msg = f"compose: expected a drawing of anynet.gallery, got {str(part)[:40]!r}"
            raise ValueError(msg)
        named = _TITLE.search(part)
        if named is not None:
            inside.append(element("text", Markup(named[1]), x=_MARGIN, y=y + 12, class_="soft"))  # noqa: S704 it is escaped
            y += 22
        width, height = float(frame[1]), float(frame[2])
        # what stands at the edge of a drawing may reach into the margin
        size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
        place = f'<svg x="{_MARGIN:g}" y="{y:g}" overflow="visible" {size}'
        inside.append(Markup(place + str(part)[frame.end() :]))  # noqa: S704 a drawing
        y += height + 14
    return str(drawing(WIDTH + 2 * _MARGIN, y + 4, title, "", *inside, standalone=True)) + "\n"


def history_lines(history: Iterable[Mapping[str, Any]], *names: str, title: str) -> Markup:
    """The columns `names` of what `fit` returned, by epoch."""
    rows = list(history)
    epochs = [row["epoch"] for row in rows]
    return lines(
        [Series(n, epochs, [row[n] for row in rows]) for n in names], title=title, x_label="epoch", whole=True
    )


def tiles(
    pictures: Any, labels: Sequence[str] = (), *, title: str, columns: int = 8, cell: float | None = None
) -> Markup:
    """Small pictures in rows: arrays (height, width) or with channels first; `labels` stand below them."""
    step = WIDTH / columns if cell is None else cell
    row = step + (14 if labels else 0)
    count, parts = len(pictures), []
    for i in range(count):
        pixels, height, width = thumbnail(pictures[i])
        x, y = step * (i % columns), row * (i // columns)
        wide = (step - 4) * min(1.0, width / height)
        tall = (step - 4) * min(1.0, height / width)
        parts.append(
            element(
                "image", x=x, y=y, width=wide, height=tall, href=data_uri(pixels),
                preserveAspectRatio="none", style="image-rendering:pixelated",
            )
        )  # fmt: skip
        if i < len(labels):
            parts.append(
                element("text", shortened(labels[i], step - 2, 11), x=x, y=y + step + 8, class_="small")
            )
    return drawing(WIDTH, row * -(-count // columns), title, f"{count} pictures", *parts)


def text_block(text: str, *, title: str, columns: int = 64, most: int = 30) -> Markup:
    """Lines of text as they are, long ones broken; at most `most` lines."""
    rows = [line[i : i + columns] for line in text.split("\n") for i in range(0, max(1, len(line)), columns)][
        :most
    ]
    written = [
        element("text", row, x=0.0, y=14.0 + 16 * i, class_="mono", style="white-space:pre")
        for i, row in enumerate(rows)
    ]
    return drawing(WIDTH, 16 * len(rows) + 6.0, title, "", *written)
