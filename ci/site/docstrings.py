"""Docstrings as reStructuredText. Theirs is plain text: paragraphs, lists, names between backticks, doctests, and
"Parameters:" with an indented entry for each."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable

__all__ = ["escaped", "first_sentence", "inline", "to_rst"]

_CODE = re.compile(r"``(.+?)``|`([^`\n]+)`", re.DOTALL)
_SPECIAL = re.compile(r"([\\*|_`<>])")
_HEAD = re.compile(r"^([A-Z][A-Za-z ]{2,40}):$")
_ENTRY = re.compile(
    r"^(\*{0,2}[A-Za-z_][\w.\[\]*]*(?:(?:, | / | or )\*{0,2}[A-Za-z_][\w.\[\]*]*)*): (.*)$", re.DOTALL
)
_BULLET = re.compile(r"^[-*] ")
_TABLE_ROW = re.compile(r"^\|.*\|$")


def escaped(text: str) -> str:
    """Text in which nothing is markup."""
    return _SPECIAL.sub(r"\\\1", text)


def inline(text: str, link: Callable[[str], str | None] = lambda name: None) -> str:
    """A paragraph: names between backticks are code, and links where they are public."""
    parts, last = [], 0
    for found in _CODE.finditer(text):
        parts.append(escaped(text[last : found.start()]))
        code = " ".join((found[1] or found[2]).split())
        target = link(code) if found[2] else None
        if not code.strip("\\"):
            parts.append(escaped(found[0]))
        elif target:
            parts.append(f"\\ :py:obj:`{code} <{target}>`\\ ")
        else:
            parts.append(f"\\ ``{code}``\\ ")
        last = found.end()
    parts.append(escaped(text[last:]))
    return "".join(parts).strip()


def _blocks(text: str) -> list[list[str]]:
    """The lines between blank ones; a doctest ends with the blank line, too."""
    found: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.strip():
            found[-1].append(line)
        elif found[-1]:
            found.append([])
    return [block for block in found if block]


def _indented(lines: list[str], by: str = "    ") -> list[str]:
    return [by + line if line.strip() else "" for line in lines]


def _entries(lines: list[str]) -> list[list[str]]:
    """Lines as entries: each begins at the least indentation, and what stands further right belongs to it."""
    body = inspect.cleandoc("\n" + "\n".join(lines)).splitlines()
    found: list[list[str]] = []
    for line in body:
        if line.strip() and not line.startswith(" "):
            found.append([line])
        elif found:
            found[-1].append(line)
    return found


def _definitions(lines: list[str], link: Callable[[str], str | None]) -> list[str]:
    out: list[str] = []
    for entry in _entries(lines):
        text = " ".join(line.strip() for line in entry)
        found = _ENTRY.match(text)
        if found is None:
            out += [f"* {inline(text, link)}"]
        else:
            names = ", ".join(f"``{n.strip()}``" for n in re.split(r", | / | or ", found[1]))
            out += [f"* {names}: {inline(found[2], link)}"]
    return [*out, ""]


def _block(block: list[str], link: Callable[[str], str | None]) -> list[str]:
    first = block[0]
    if first.lstrip().startswith(">>>"):
        return [
            ".. code-block:: pycon",
            "",
            *_indented(inspect.cleandoc("\n" + "\n".join(block)).splitlines()),
            "",
        ]
    if first.startswith("    ") or all(_TABLE_ROW.match(line.strip()) for line in block):
        return [
            ".. code-block:: text",
            "",
            *_indented(inspect.cleandoc("\n" + "\n".join(block)).splitlines()),
            "",
        ]
    head = _HEAD.match(first.strip())
    if head is not None and head[1] == "Equation" and len(block) > 1:
        return []  # it is shown as mathematics
    if head is not None and len(block) > 1 and block[1].startswith(" "):
        return [f"**{escaped(head[1])}**", "", *_definitions(block[1:], link)]
    if _BULLET.match(first):
        return [
            *(f"* {inline(' '.join(x.strip() for x in entry)[2:], link)}" for entry in _entries(block)),
            "",
        ]
    # a paragraph that ends in lines further right, or in a list, is followed by them
    for i, line in enumerate(block[1:], 1):
        if line.startswith("    ") or _BULLET.match(line) or line.lstrip().startswith(">>>"):
            return [*_block(block[:i], link), *_block(block[i:], link)]
        if line.startswith("  ") and block[i - 1].rstrip().endswith(":"):
            return [*_block(block[:i], link), *_definitions(block[i:], link)]
    text = " ".join(line.strip() for line in block)
    text = re.sub("::$", ":", text)  # the block that follows has a directive of its own
    return [inline(text, link), ""]


def to_rst(text: str, link: Callable[[str], str | None] = lambda name: None) -> list[str]:
    """The lines of a docstring as reStructuredText; `link` gives the full public name of a name between backticks, or None.

    >>> to_rst("y = x*2 of `x`.\\n\\nParameters:\\n  x: a number_\\n    or two.")
    ['y = x\\\\*2 of \\\\ ``x``\\\\ .', '', '**Parameters**', '', '* ``x``: a number\\\\_ or two.', '']
    >>> to_rst("A.\\n\\nExample::\\n\\n    x = 1")
    ['A.', '', 'Example:', '', '.. code-block:: text', '', '    x = 1', '']
    """
    return [line for block in _blocks(inspect.cleandoc(text)) for line in _block(block, link)]


def first_sentence(text: str) -> str:
    """The beginning of a docstring, up to the end of its first sentence or paragraph."""
    start = " ".join(line.strip() for line in (_blocks(inspect.cleandoc(text)) or [[""]])[0])
    found = re.match(r"(.+?[.:])(?= [A-Z`(‖∥]|$)", start)
    return (found[1] if found else start).rstrip(":")
