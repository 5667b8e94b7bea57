"""The language of equations: lines of text become trees of Python's `ast`, checked for what the language has.

The grammar stands in `anynet.equations`. A tree holds names, numbers, arithmetic, comparisons, subscripts and calls; `render` and
`evaluate` say what they look like and what they mean.
"""

from __future__ import annotations

import ast
import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

__all__ = [
    "CONSTANTS", "DISTRIBUTIONS", "FUNCTIONS", "REDUCTIONS", "EquationError", "Line", "Symbol", "indices_of", "names_in", "parse",
    "parse_symbols", "per_axis", "undeclared",
]  # fmt: skip

CONSTANTS = ("pi", "inf", "e")
REDUCTIONS = (
    "sum",
    "prod",
    "mean",
    "var",
    "max",
    "min",
    "argmax",
    "argmin",
    "norm",
    "logsumexp",
    "softmax",
    "sort",
    "any",
    "all",
    "median",
)
"""Functions that may have indices in brackets: ``sum[j](...)``."""
FUNCTIONS = (
    "exp", "log", "sqrt", "abs", "sign", "sin", "cos", "tan", "tanh", "sinh", "cosh", "arcsin", "arccos", "arctan",
    "floor", "ceil", "round", "erf", "Phi", "sigmoid", "relu", "softplus", "lgamma", "clip", "size",
)  # fmt: skip
DISTRIBUTIONS = ("Bernoulli", "Normal", "Uniform", "Gumbel", "TruncatedNormal")

_NODES = (
    ast.Name, ast.Constant, ast.BinOp, ast.UnaryOp, ast.Compare, ast.BoolOp, ast.IfExp, ast.Subscript, ast.Call, ast.List, ast.Tuple,
    ast.Slice, ast.Attribute, ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.expr_context, ast.keyword,
)  # fmt: skip
_SYMBOL = re.compile(
    r"(?P<name>\w+)(?:\[(?P<axes>[^\]]*)\])?(?:\s*=\s*(?P<source>[^:]+?))?(?:\s*:\s*(?P<meaning>.*))?$"
)
_SOURCE = re.compile(
    r"(?P<path>[\w.\[\]-]+)(?: of (?P<kind>booleans|integers|floats))?(?: or (?P<default>\S+))?"
    r"(?: along (?P<along>\S+))?(?: over (?P<over>\S+))?(?: swap (?P<swap>\S+))?$"
)


class EquationError(ValueError):
    """An equation that cannot be read, or that its values do not fit."""


@dataclass(frozen=True)
class Line:
    """One line: ``target = value``, or ``target ~ value`` for what is drawn at random."""

    target: ast.expr
    value: ast.expr
    random: bool
    text: str

    @property
    def name(self) -> str:
        """The symbol that the line defines."""
        target = self.target.value if isinstance(self.target, ast.Subscript) else self.target
        assert isinstance(target, ast.Name)
        return target.id

    @property
    def indices(self) -> list[ast.expr]:
        """The indices of the symbol on the left: names, ``name: size``, numbers, and ``...`` for leading axes."""
        return indices_of(self.target) if isinstance(self.target, ast.Subscript) else []


@dataclass(frozen=True)
class Symbol:
    """What a symbol stands for: its axes, where its value is found (`source`), what it is where that is None (`default`) or, with a
    `kind`, an array of another kind."""

    name: str
    axes: tuple[str, ...] | None
    source: str
    default: str | None
    along: str | None
    over: str | None
    swap: str | None
    meaning: str
    component: int | None = None
    kind: str | None = None


def indices_of(node: ast.Subscript) -> list[ast.expr]:
    """What stands between the brackets."""
    return list(node.slice.elts) if isinstance(node.slice, ast.Tuple) else [node.slice]


def _statements(text: str) -> Iterator[str]:
    """The parts of a text between semicolons and line ends that are not in brackets."""
    depth, part = 0, ""
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if depth == 0 and character in ";\n":
            yield part.strip()
            part = ""
        else:
            part += " " if character == "\n" else character
    yield part.strip()


def parse(*texts: str) -> tuple[Line, ...]:
    """The lines of an equation; a part that says nothing of its own, without = or ~, goes on from the one before."""
    lines: list[str] = []
    for text in texts:
        for part in filter(None, _statements(text)):
            if lines and " = " not in part and " ~ " not in part:
                lines[-1] += f" {part}"
            else:
                lines.append(part)
    return tuple(map(_line, lines))


def _line(text: str) -> Line:
    text = re.sub(r"\s+", " ", text)
    left, random, right = text.partition(" ~ ")
    if not random:
        left, equals, right = text.partition(" = ")
        if not equals:
            msg = f"{text!r} is no equation: expected ‘symbol = expression’ or ‘symbol ~ distribution’"
            raise EquationError(msg)
    line = Line(_expression(left, text), _expression(right, text), bool(random), text)
    target = line.target.value if isinstance(line.target, ast.Subscript) else line.target
    if not isinstance(target, ast.Name):
        msg = f"{text!r}: the left side must be a symbol, with or without indices, got {left!r}"
        raise EquationError(msg)
    return line


def _expression(text: str, line: str) -> ast.expr:
    try:
        tree = ast.parse(text.strip(), mode="eval").body
    except SyntaxError as error:
        msg = f"{line!r}: {error.msg} in {text.strip()!r}, column {error.offset}"
        raise EquationError(msg) from None
    for node in ast.walk(tree):
        if not isinstance(node, _NODES):
            msg = f"{line!r}: {ast.unparse(node) if isinstance(node, ast.expr) else type(node).__name__} is not of the language"
            raise EquationError(msg)
        if isinstance(node, ast.Attribute) and node.attr != "T":
            msg = f"{line!r}: the only attribute is .T, the transpose, got .{node.attr}"
            raise EquationError(msg)
        if isinstance(node, ast.List) and not (
            len(node.elts) == 1 and isinstance(node.elts[0], ast.Compare | ast.BoolOp | ast.Call)
        ):
            msg = f"{line!r}: brackets hold one condition, [a == b], which counts 1 or 0; got {ast.unparse(node)}"
            raise EquationError(msg)
    return tree


def parse_symbols(where: str) -> tuple[Symbol, ...]:
    """The symbols of a `where`: ``symbol[axes] = source: meaning``, apart by semicolons or lines; other words go on."""
    found = []
    parts: list[str] = []
    for part in filter(None, _statements(where)):
        if parts and _SYMBOL.match(part) is None:
            parts[-1] += f" {part}"
        else:
            parts.append(part)
    for part in parts:
        match = _SYMBOL.match(part)
        source = _SOURCE.match((match and match["source"]) or (match and match["name"]) or "")
        if match is None or source is None:
            msg = f"where {part!r}: expected ‘symbol[axes] = source: meaning’"
            raise EquationError(msg)
        axes = (
            None if match["axes"] is None else tuple(a.strip() for a in match["axes"].split(",") if a.strip())
        )
        found.append(
            Symbol(
                name=match["name"],
                axes=axes,
                source=source["path"],
                default=source["default"],
                along=source["along"],
                over=source["over"],
                swap=source["swap"],
                meaning=match["meaning"] or "",
                kind=source["kind"],
            )
        )
    return tuple(found)


# ----- one line for networks of one, two and three dimensions -----


def per_axis(
    lines: tuple[Line, ...], symbols: tuple[Symbol, ...], spatial: tuple[str, ...], axes: int
) -> tuple[tuple[Line, ...], tuple[Symbol, ...]]:
    """The lines and symbols for so many spatial axes: each index that holds a spatial name is repeated with t1, t2, … for t."""
    suffixes = [""] if axes == 1 else [str(k + 1) for k in range(axes)]
    names = set(spatial)
    made_lines, made_symbols = [], []
    for line in lines:
        if line.name in names:
            made_lines += [
                Line(_renamed(line.target, names, s), _renamed(line.value, names, s), line.random, line.text)
                for s in suffixes
            ]
        else:
            repeat = _Repeat(names, suffixes)
            target, value = repeat.visit(copy.deepcopy(line.target)), repeat.visit(copy.deepcopy(line.value))
            left = names & names_in(target) if axes > 1 else set()
            left |= names & names_in(value) if axes > 1 else set()
            if left:
                msg = f"{line.text!r}: {sorted(left)[0]} has a number for each spatial axis, and may stand in an index or in prod()"
                raise EquationError(msg)
            made_lines.append(Line(target, value, line.random, line.text))
    for symbol in symbols:
        axes_of = symbol.axes and tuple(
            a + s if a in names else a for a in symbol.axes for s in (suffixes if a in names else [""])
        )
        if symbol.name in names:
            made_symbols += [
                replace(symbol, name=symbol.name + s, component=k, axes=axes_of)
                for k, s in enumerate(suffixes)
            ]
        else:
            made_symbols.append(replace(symbol, axes=axes_of))
    return tuple(made_lines), tuple(made_symbols)


def _renamed(tree: ast.expr, names: set[str], suffix: str) -> ast.expr:
    tree = copy.deepcopy(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in names:
            node.id += suffix
    return tree


class _Repeat(ast.NodeTransformer):
    def __init__(self, names: set[str], suffixes: list[str]) -> None:
        self.names, self.suffixes = names, suffixes

    def _repeated(self, nodes: list[ast.expr]) -> list[ast.expr]:
        out: list[ast.expr] = []
        for node in nodes:
            if names_in(node) & self.names:
                out += [_renamed(node, self.names, s) for s in self.suffixes]
            else:
                out.append(self.visit(node))
        return out

    def visit_Subscript(self, node: ast.Subscript) -> ast.expr:
        indices = self._repeated(indices_of(node))
        node.slice = ast.Tuple(indices, ast.Load()) if len(indices) > 1 else indices[0]
        node.value = self.visit(node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.expr:
        if isinstance(node.func, ast.Name) and node.func.id in ("prod", "all") and len(node.args) == 1:
            parts = self._repeated(node.args)
            if len(parts) > 1:
                if node.func.id == "all":
                    return ast.BoolOp(ast.And(), parts)
                product = parts[0]
                for part in parts[1:]:
                    product = ast.BinOp(product, ast.Mult(), part)
                return product
            return parts[0] if names_in(parts[0]) & self.names else node
        self.generic_visit(node)
        return node


# ----- names -----


def names_in(tree: ast.AST) -> set[str]:
    """The names in a tree."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def bound_indices(node: ast.Call) -> list[ast.expr]:
    """The brackets of a reduction, ``sum[i: n, j, i != j](...)``."""
    return indices_of(node.func) if isinstance(node.func, ast.Subscript) else []


def index_name(node: ast.expr) -> str | None:
    """The name of an index, ``i`` or ``i: n``; None for a condition or a number."""
    if isinstance(node, ast.Slice):
        node = node.lower  # type: ignore[assignment]
    return node.id if isinstance(node, ast.Name) else None


def undeclared(lines: tuple[Line, ...], symbols: tuple[Symbol, ...], more: set[str]) -> set[str]:
    """Names in the lines that nothing declares: no symbol, no axis, no index, no line on the left."""
    known = {*CONSTANTS, *REDUCTIONS, *FUNCTIONS, *DISTRIBUTIONS, *more}
    for symbol in symbols:
        known |= {symbol.name, *(a.rstrip("*?") for a in symbol.axes or ())}
    used: set[str] = set()
    for line in lines:
        # an index on the left is declared there, but ``h[T] = 0`` only uses T
        known |= {line.name}
        for node in ast.walk(line.value):
            if isinstance(node, ast.Call):
                known |= {index_name(i) or "" for i in bound_indices(node)}
        known |= {index_name(i) or "" for i in line.indices}
        used |= names_in(line.value) | names_in(line.target)
    return used - known
