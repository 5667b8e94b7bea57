"""What a page is made of: sections with words, tables, figures and galleries. `anynet.reports.markup` turns them into HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from anynet.viz.svg import number

__all__ = [
    "Best",
    "Card",
    "Example",
    "Figure",
    "Gallery",
    "Section",
    "Table",
    "Words",
    "bytes_in_words",
    "duration",
    "percent",
]


@dataclass
class Table:
    """Rows under a head. Numbers are formatted and stand right, texts left; `code` sets columns (by number) as code."""

    head: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ""
    note: str = ""
    code: Sequence[int] = ()
    wide: bool = True

    @property
    def cells(self) -> list[list[tuple[str, str]]]:
        """Each cell's text and class."""
        return [[(_text(value), self._class(i, value)) for i, value in enumerate(row)] for row in self.rows]

    @property
    def heads(self) -> list[tuple[str, str]]:
        """The head's cells: text and class, as the first row's."""
        first = self.rows[0] if self.rows else [""] * len(self.head)
        return [
            (name, "n" if self._class(i, first[i]).startswith("n") else "")
            for i, name in enumerate(self.head)
        ]

    def _class(self, i: int, value: Any) -> str:
        if i in self.code:
            return "code"
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if isinstance(value, Best):
            return "n best"
        if is_number or isinstance(value, Numeral) or value is None:
            return "n"
        return "long" if isinstance(value, str) and len(value) > 32 else ""


class Numeral(str):
    """A text that stands in a column of numbers: "81.2 %"."""

    __slots__ = ()


class Best(Numeral):
    """The best number of its row or column."""

    __slots__ = ()


def _text(value: Any) -> str:
    return value if isinstance(value, str) else number(value)


@dataclass
class Figure:
    """A drawing with a title, a sentence, and its numbers as a table. `wide` takes the whole row."""

    svg: Markup
    title: str
    caption: str = ""
    table: Table | None = None
    wide: bool = False


@dataclass
class Words:
    """A paragraph; `code` shows it as it is."""

    text: str
    code: bool = False


@dataclass
class Example:
    """One sample: a picture (a data URI) or a text, a line in words, and the details below."""

    title: str
    lines: Sequence[str] = ()
    picture: str = ""
    pixelated: bool = False
    text: str = ""
    wrong: bool = False


@dataclass
class Gallery:
    """Examples side by side."""

    title: str
    examples: Sequence[Example]
    caption: str = ""


@dataclass
class Card:
    """One result, large, with what is around it."""

    name: str
    value: str
    below: str = ""


@dataclass
class Section:
    """A chapter of the page."""

    title: str
    blocks: list[Any]
    lead: str = ""

    @property
    def placed(self) -> list[tuple[Any, str]]:
        """The blocks with their classes: two narrow ones share a row, and one that is left alone has its numbers beside it."""
        found: list[tuple[Any, str]] = []
        alone = False  # whether the last block is narrow, with a free place beside it
        for block in self.blocks:
            if getattr(block, "wide", True):
                found = _closed(found, alone)
                alone = False
                found.append((block, "wide"))
            else:
                alone = not alone
                found.append((block, ""))
        return _closed(found, alone)

    @property
    def anchor(self) -> str:
        """Its address within the page."""
        return "".join(c if c.isalnum() else "-" for c in self.title.lower()).strip("-")


def _closed(found: list[tuple[Any, str]], alone: bool) -> list[tuple[Any, str]]:
    if not alone:
        return found
    block, _ = found[-1]
    return [*found[:-1], (block, "lone" if isinstance(block, Figure) and block.table is not None else "wide")]


def percent(x: float, digits: int = 1) -> Numeral:
    """A share in per cent: "81.2 %"."""
    if x is None or x != x:
        return Numeral("–")
    return Numeral(f"{100 * x:.{digits}f} %".replace("-", "−"))


def duration(seconds: float | None) -> str:
    """Seconds in words.

    >>> duration(0.0123), duration(75.0), duration(7300)
    ('12 ms', '1 min 15 s', '2 h 1 min')
    """
    if seconds is None or seconds != seconds:
        return "–"
    if seconds < 0.001:
        return f"{seconds * 1e6:.0f} µs"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def bytes_in_words(count: float) -> str:
    """Bytes with a unit.

    >>> bytes_in_words(999), bytes_in_words(1_500_000)
    ('999 bytes', '1.5 MB')
    """
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if count >= 1000**power:
            return f"{count / 1000**power:.3g} {unit}"
    return f"{count:.0f} bytes"
