"""`Explanation`: what was found out, as text for the terminal, HTML with MathML, LaTeX and plain data.

An explanation is a title and blocks: paragraphs, equations, tables. A cell of a table is written three times, in the three notations.
"""

from __future__ import annotations

import ast
import html
import json
import os
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from anynet.explanations import formula
from anynet.explanations.formula import number_text
from anynet.tensor import Tensor
from anynet_backends import files

__all__ = [
    "Block",
    "Cell",
    "Check",
    "Equations",
    "Explanation",
    "Paragraph",
    "Table",
    "equal",
    "formatted",
    "math_cell",
    "plain",
    "value_cell",
]

_WIDTH = 80


@dataclass(frozen=True)
class Cell:
    """Something in three notations; LaTeX for text mode."""

    text: str
    latex: str
    html: str


def plain(text: Any) -> Cell:
    """Words."""
    return Cell(str(text), _latex_text(str(text)), html.escape(str(text)))


def math_cell(tree: ast.expr) -> Cell:
    """A formula."""
    return Cell(formula.text(tree), f"${formula.latex(tree)}$", f"<math>{formula.mathml(tree)}</math>")


def partial(top: str, below: str) -> Cell:
    """∂top/∂below."""
    a, b = ast.Name(top, ast.Load()), ast.Name(below, ast.Load())
    up, down = math_cell(a), math_cell(b)

    def inner(c: Cell) -> str:
        return c.html.removeprefix("<math>").removesuffix("</math>")

    return Cell(
        f"∂{up.text}/∂{down.text}",
        rf"$\frac{{\partial {up.latex.strip('$')}}}{{\partial {down.latex.strip('$')}}}$",
        f"<math><mfrac><mrow><mo>∂</mo>{inner(up)}</mrow><mrow><mo>∂</mo>{inner(down)}</mrow></mfrac></math>",
    )


def equal(*cells: Cell, sign: str = "=") -> Cell:
    """Cells with a sign of equality between them."""
    return Cell(
        f" {sign} ".join(c.text for c in cells),
        f" ${sign}$ ".join(c.latex for c in cells),
        f" {html.escape(sign)} ".join(c.html for c in cells),
    )


def formatted(x: Any, digits: int = 6, most: int = 8) -> str:
    """A number, or an array: its elements where there are few, else its shape and norm."""
    if x is None:
        return "–"
    if isinstance(x, (bool, int, float)):
        return number_text(float(x), digits) if not isinstance(x, bool) else str(x)
    values = x.numpy() if isinstance(x, Tensor) else x
    if values.ndim == 0:
        return number_text(values.item(), digits) if values.dtype.kind != "b" else str(values.item())
    if values.size and values.size <= most and values.ndim <= 2:
        return _nested(values.tolist(), min(digits, 4) if values.size > 2 else digits)
    shape = "×".join(map(str, values.shape))
    if values.dtype.kind != "f" or not values.size:
        return f"{shape} {values.dtype}"
    return f"{shape}, norm {number_text(float((values.astype('float64') ** 2).sum()) ** 0.5, min(digits, 5))}"


def _nested(values: Any, digits: int) -> str:
    if isinstance(values, list):
        return f"[{', '.join(_nested(v, digits) for v in values)}]"
    return number_text(float(values), digits) if not isinstance(values, bool) else str(values)


def value_cell(x: Any, digits: int) -> Cell:
    """A number or array."""
    return plain(formatted(x, digits))


@dataclass(frozen=True)
class Check:
    """Whether two ways of computing agree; None where there is no second way. `note` says more: the figures, the reason."""

    ok: bool | None
    note: str = ""
    mark: str = ""

    def __str__(self) -> str:
        return self.mark or ("–" if self.ok is None else "✓" if self.ok else "✗")

    @property
    def cell(self) -> Cell:
        """As a cell, coloured in HTML."""
        kind = "none" if self.ok is None else "good" if self.ok else "bad"
        name = {"✓": r"$\checkmark$", "✗": r"$\times$", "–": "--", "∠": r"$\angle$"}[str(self)]
        return Cell(
            str(self), name, f'<span class="an-{kind}" title="{html.escape(self.note)}">{self}</span>'
        )

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {"ok": self.ok, **({"note": self.note} if self.note else {})}


_LATEX = str.maketrans({
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "#": r"\#", "_": r"\_", "$": r"\$", "{": r"\{", "}": r"\}", "^": r"\^{}",
    "~": r"\~{}", "–": "--", "…": r"\dots{}",
    **{k: f"${v}$" for k, v in {
        "−": "-", "×": r"\times", "∂": r"\partial", "·": r"\cdot", "≤": r"\le", "≥": r"\ge", "∞": r"\infty", "√": r"\surd", "→": r"\to",
        "∈": r"\in", "Σ": r"\Sigma", "σ": r"\sigma", "ε": r"\varepsilon", "²": "^2", "ᵀ": r"^\top", "‖": r"\|", "✓": r"\checkmark",
        "✗": r"\times", "∠": r"\angle", "β": r"\beta", "⊙": r"\odot",
    }.items()},
})  # fmt: skip


def _latex_text(value: str) -> str:
    return value.translate(_LATEX)


# ----- blocks -----


class Block:
    """A part of an explanation."""

    def text(self) -> str:
        """For the terminal, 80 columns wide."""
        raise NotImplementedError

    def html(self) -> str:
        """For a page."""
        raise NotImplementedError

    def latex(self) -> str:
        """For a LaTeX document (amsmath, amssymb)."""
        raise NotImplementedError


@dataclass
class Paragraph(Block):
    """Words, with a heading or without."""

    words: str
    heading: str = ""

    def text(self) -> str:
        wrapped = "\n".join(
            textwrap.fill(line, _WIDTH, subsequent_indent=_indent(line)) for line in self.words.splitlines()
        )
        return (f"{self.heading}\n" if self.heading else "") + wrapped

    def html(self) -> str:
        body = "<br>".join(html.escape(line) for line in self.words.splitlines())
        return (f"<h3>{html.escape(self.heading)}</h3>" if self.heading else "") + (
            f"<p>{body}</p>" if body else ""
        )

    def latex(self) -> str:
        return (rf"\subsection*{{{_latex_text(self.heading)}}}" + "\n" if self.heading else "") + _latex_text(
            self.words
        )


def _indent(line: str) -> str:
    return " " * (len(line) - len(line.lstrip()) + 2)


@dataclass
class Equations(Block):
    """Displayed equations."""

    cells: Sequence[Cell]
    heading: str = ""

    def text(self) -> str:
        lines = [
            textwrap.fill(c.text, _WIDTH, initial_indent="    ", subsequent_indent="        ")
            for c in self.cells
        ]
        return "\n".join([*([self.heading] if self.heading else []), *lines])

    def html(self) -> str:
        head = f"<h3>{html.escape(self.heading)}</h3>" if self.heading else ""
        return head + "".join(f'<div class="an-equation">{c.html}</div>' for c in self.cells)

    def latex(self) -> str:
        head = [rf"\subsection*{{{_latex_text(self.heading)}}}"] if self.heading else []
        return "\n".join([*head, *(rf"\par\noindent\quad {c.latex}" for c in self.cells)])


@dataclass
class Table(Block):
    """Rows of cells. In the terminal a table that is too wide is written row by row with `stacked`, or with the names of the columns."""

    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    heading: str = ""
    stacked: Callable[[int], Sequence[str]] | None = None

    def text(self) -> str:
        lines = [self.heading] if self.heading else []
        if self.stacked is not None:
            return "\n".join([*lines, *(line for i in range(len(self.rows)) for line in self.stacked(i))])
        cells = [list(self.head), *([c.text for c in row] for row in self.rows)]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.head))]
        if sum(widths) + 2 * len(widths) <= _WIDTH:
            return "\n".join(
                [
                    *lines,
                    *(
                        "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
                        for row in cells
                    ),
                ]
            )
        for row in self.rows:
            lines.append(f"{row[0].text}")
            for name, c in zip(self.head[1:], row[1:], strict=True):
                if c.text:
                    lines.append(
                        textwrap.fill(
                            f"{name}: {c.text}", _WIDTH, initial_indent="    ", subsequent_indent="        "
                        )
                    )
        return "\n".join(lines)

    def html(self) -> str:
        head = f"<h3>{html.escape(self.heading)}</h3>" if self.heading else ""
        top = "".join(f"<th>{html.escape(h)}</th>" for h in self.head)
        body = "".join("<tr>" + "".join(f"<td>{c.html}</td>" for c in row) + "</tr>" for row in self.rows)
        return f'{head}<div class="an-wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'

    def latex(self) -> str:
        head = [rf"\subsection*{{{_latex_text(self.heading)}}}"] if self.heading else []
        rows = [
            " & ".join(_latex_text(h) for h in self.head),
            *(" & ".join(c.latex for c in row) for row in self.rows),
        ]
        body = "\n".join(rf"{row} \\" for row in rows[1:])
        return "\n".join(
            [
                *head,
                rf"\begin{{tabular}}{{{'l' * len(self.head)}}}",
                rf"\hline {rows[0]} \\ \hline",
                body,
                r"\hline",
                r"\end{tabular}",
            ]
        )


_STYLE = """
.an-explanation{font:15px/1.5 system-ui,sans-serif;max-width:76rem}
.an-explanation table{border-collapse:collapse;margin:.5rem 0}.an-explanation td,.an-explanation th{padding:.3rem .8rem;text-align:left;
border-bottom:1px solid color-mix(in srgb,currentColor 20%,transparent);vertical-align:middle}
.an-explanation .an-good{color:#1a7f37;font-weight:bold}.an-explanation .an-bad{color:#cf222e;font-weight:bold}
.an-explanation .an-equation{margin:.4rem 1.5rem}.an-explanation .an-wide{overflow-x:auto}.an-explanation math{font-size:1.05em}
"""


@dataclass
class Explanation:
    """An explanation: ``print`` writes it for the terminal, notebooks show it with rendered formulas.

    Attributes:
      title: what is explained.
      blocks: its parts.
      data: the same as plain data, which `to_json` gives.
    """

    title: str
    blocks: list[Block]
    data: dict[str, Any] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether no check has failed."""
        return _all_ok(self.data)

    def __str__(self) -> str:
        parts = [
            textwrap.fill(self.title, _WIDTH, subsequent_indent="    "),
            *(b.text() for b in self.blocks),
        ]
        return "\n\n".join(p for p in parts if p)

    __repr__ = __str__

    def __rich__(self) -> Any:
        # rich is only needed where it prints
        from rich.text import Text

        out = Text(str(self))
        out.highlight_words(["✓"], "bold green")
        out.highlight_words(["✗"], "bold red")
        out.highlight_words(
            [self.title, *(h for b in self.blocks if (h := getattr(b, "heading", "")))], "bold"
        )
        return out

    def _repr_html_(self) -> str:
        body = "".join(b.html() for b in self.blocks)
        return f'<div class="an-explanation"><style>{_STYLE}</style><h2>{html.escape(self.title)}</h2>{body}</div>'

    def to_html(self) -> str:
        """A page of its own: MathML, no script, no network."""
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            f'<meta name="color-scheme" content="light dark"><title>{html.escape(self.title)}</title></head>'
            f"<body>{self._repr_html_()}</body></html>\n"
        )

    def to_latex(self) -> str:
        """For a document with the packages amsmath and amssymb."""
        return (
            "\n\n".join([rf"\section*{{{_latex_text(self.title)}}}", *(b.latex() for b in self.blocks)])
            + "\n"
        )

    def to_json(self) -> dict[str, Any]:
        """Plain data: numbers, strings, lists, dictionaries."""
        return self.data

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file: .html, .tex, .json, or .txt; ValueError for another ending."""
        writers: dict[str, Callable[[], str]] = {
            "html": self.to_html, "tex": self.to_latex, "txt": lambda: f"{self}\n",
            "json": lambda: json.dumps(self.data, indent=1, ensure_ascii=False) + "\n",
        }  # fmt: skip
        ending = os.fspath(path).rpartition(".")[2].lower()
        if ending not in writers:
            msg = f"explanation: the file must end in .html, .tex, .json or .txt, got {os.fspath(path)!r}"
            raise ValueError(msg)
        files.write(path, writers[ending]())


def _all_ok(data: Any) -> bool:
    if isinstance(data, dict):
        return data.get("ok", True) is not False and all(_all_ok(v) for v in data.values())
    return all(_all_ok(v) for v in data) if isinstance(data, list) else True
