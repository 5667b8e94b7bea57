"""The HTML of a page: its head, its chapters, and each kind of block. All text is escaped; only drawings and tags are markup."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from markupsafe import Markup, escape

from anynet.reports.sections import Card, Example, Figure, Gallery, Section, Table, Words

__all__ = ["page_of"]

_VOID = ("img", "link", "meta")
_FOOT = (
    " Intervals are 95 % percentile intervals of 1,000 bootstrap resamples of the held-out samples, the same bits each time; they say "
    "what other samples would have changed, not what another training would have."
)


def _tag(tag: str, *children: Any, **attributes: Any) -> Markup:
    """An element; texts among the children and the attributes are escaped, and an attribute that is None or "" is left out."""
    said = "".join(
        f' {name.rstrip("_").replace("_", "-")}="{escape(value)}"'
        for name, value in attributes.items()
        if value not in (None, "")
    )
    inner = "" if tag in _VOID else f"{_all(children)}</{tag}>"
    return Markup(f"<{tag}{said}>{inner}")  # noqa: S704 all of it is escaped


def _all(parts: Iterable[Any]) -> Markup:
    return Markup("").join(parts)


def page_of(
    *,
    title: str,
    eyebrow: str,
    heading: str,
    summary: str,
    facts: str,
    cards: Sequence[Card],
    sections: Sequence[Section],
    policy: str,
    style: Markup,
    version: str,
    written: str,
) -> str:
    """A whole page as text."""
    head = _tag(
        "head",
        _tag("meta", charset="utf-8"),
        _tag("meta", http_equiv="Content-Security-Policy", content=policy),
        _tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        _tag("meta", name="color-scheme", content="light dark"),
        _tag("meta", name="generator", content=f"anynet {version}"),
        _tag("title", title),
        _tag("link", rel="icon", href="data:,"),
        _tag("style", style),
    )
    shown = [
        _tag("li", _tag("div", card.name, class_="name"), _tag("div", card.value, class_="value"),
             _tag("div", card.below, class_="below"), class_="card")
        for card in cards
    ]  # fmt: skip
    contents = [_tag("li", _tag("a", section.title, href=f"#{section.anchor}")) for section in sections]
    top = _tag(
        "header",
        _tag("p", eyebrow, class_="eyebrow"),
        _tag("h1", heading),
        _tag("p", summary, class_="summary"),
        _tag("p", facts, class_="facts") if facts else "",
        _tag("ul", *shown, class_="cards") if shown else "",
        _tag("nav", _tag("ol", *contents), aria_label="Contents"),
        class_="top",
    )
    foot = f"Written by anynet {version}{f' on {written}' if written else ''}.{_FOOT}"
    body = _tag("body", top, _tag("main", *map(_section, sections)), _tag("footer", foot))
    return f"<!doctype html>\n{_tag('html', head, body, lang='en')}\n"


def _section(section: Section) -> Markup:
    return _tag(
        "section",
        _tag("h2", section.title, id=section.anchor),
        _tag("p", section.lead, class_="lead") if section.lead else "",
        _tag("div", *(_block(block, place) for block, place in section.placed), class_="blocks"),
        aria_labelledby=section.anchor,
    )


def _block(block: Any, place: str) -> Markup:
    """A block in its place: "wide", "lone" (with its numbers beside it), or "" (half of a row)."""
    if isinstance(block, Figure):
        return _figure(block, place)
    if isinstance(block, Table):
        long = "long" if len(block.rows) > 12 else ""
        return _tag("div", _table(block), class_=" ".join(filter(None, ("block", place, long))))
    if isinstance(block, Words):
        return _tag("div", _tag("pre" if block.code else "p", block.text), class_="block wide")
    if isinstance(block, Gallery):
        return _gallery(block)
    msg = f"report: a block must be a Figure, Table, Words or Gallery, got {type(block).__name__}"
    raise TypeError(msg)


def _figure(block: Figure, place: str) -> Markup:
    numbers: Markup | str = ""
    if block.table is not None and place == "lone":
        numbers = _tag("div", _table(block.table), class_="beside")
    elif block.table is not None:
        numbers = _tag("details", _tag("summary", "the numbers"), _table(block.table))
    caption = _tag("figcaption", block.caption) if block.caption else ""
    drawing = _tag("figure", _tag("h3", block.title), _tag("div", block.svg, class_="scroll"), caption)
    return _tag("div", drawing, numbers, class_=f"block {place}".rstrip())


def _table(table: Table) -> Markup:
    head = _tag("tr", *(_tag("th", name, scope="col", class_=kind) for name, kind in table.heads))
    rows = [_tag("tr", *(_tag("td", text, class_=kind) for text, kind in row)) for row in table.cells]
    caption = _tag("caption", table.caption) if table.caption else ""
    inner = _tag("table", caption, _tag("thead", head), _tag("tbody", *rows))
    box = _tag("div", inner, class_="scroll", tabindex=0, role="region", aria_label=table.caption or "table")
    return box + _tag("p", table.note, class_="caption") if table.note else box


def _gallery(block: Gallery) -> Markup:
    texts = "gallery texts" if block.examples and block.examples[0].text else "gallery"
    caption = _tag("p", block.caption, class_="caption") if block.caption else ""
    shown = _tag("ul", *map(_example, block.examples), class_=texts)
    return _tag("div", _tag("h3", block.title), shown, caption, class_="block wide")


def _example(e: Example) -> Markup:
    named = f"{e.title}: {', '.join(e.lines)}"
    picture = _tag("img", src=e.picture, alt=named, class_="pixels" if e.pixelated else "")
    lines = [
        _tag("div", line, class_="line wrong" if e.wrong and i else "line") for i, line in enumerate(e.lines)
    ]
    return _tag(
        "li",
        picture if e.picture else "",
        _tag("pre", e.text) if e.text else "",
        *lines,
        _tag("div", e.title, class_="where"),
    )
