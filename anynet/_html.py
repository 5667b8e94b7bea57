"""Tables for notebooks: what `_repr_html_` gives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

__all__ = ["cell", "html_table"]

_NUMBER = ' style="text-align:right"'


def cell(value: Any) -> str:
    """A value as text: floating-point numbers with four digits.

    >>> cell(0.123456), cell(3), cell(None), cell("a")
    ('0.1235', '3', '', 'a')
    """
    if value is None:
        return ""
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def html_table(head: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> str:
    """A table; all texts are escaped, all columns but the first are aligned to the right.

    >>> "<td>x&lt;y</td>" in html_table(["a", "b"], [["x<y", "1"]])
    True
    """

    from html import escape  # start-up time: for notebooks

    def line(tag: str, cells: Sequence[str]) -> str:
        parts = [f"<{tag}{_NUMBER if i else ''}>{escape(c)}</{tag}>" for i, c in enumerate(cells)]
        return f"<tr>{''.join(parts)}</tr>"

    body = "".join(line("td", row) for row in rows)
    after = f"<p>{escape(note)}</p>" if note else ""
    return f"<table><thead>{line('th', head)}</thead><tbody>{body}</tbody></table>{after}"
