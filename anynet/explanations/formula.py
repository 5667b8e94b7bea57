"""Formulas in Python's notation: read without being run, renamed, evaluated on Tensors, written as text, LaTeX and MathML.

A formula such as ``x2 * x1**(x2 - 1)`` is the syntax tree that Python's own parser makes of it. Of that tree only arithmetic,
comparisons, subscripts and calls of listed functions are taken; nothing of a formula is ever executed as code.
"""

from __future__ import annotations

import ast
import copy
import difflib
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from anynet.equations.render import Latex, MathML, Style, Text, number_text
from anynet.ops.creation import asarray

__all__ = [
    "CONSTANTS",
    "FormulaError",
    "evaluate",
    "folded",
    "latex",
    "mathml",
    "names_of",
    "number_text",
    "parse",
    "substitute",
    "text",
]


class FormulaError(ValueError):
    """A formula that cannot be read, or has no value."""


_OPERATIONS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv, ast.MatMult: operator.matmul,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod,
}  # fmt: skip
_GREEK = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "eps": "ε", "eta": "η", "theta": "θ", "lambda_": "λ",
    "mu": "μ", "rho": "ρ", "sigma": "σ", "tau": "τ", "phi": "φ", "Phi": "Φ", "omega": "ω", "pi": "π",
}  # fmt: skip

CONSTANTS = ("pi", "e", "inf")
"""Names that stand for numbers where nothing else is given."""


def parse(source: str) -> ast.expr:
    """The tree of a formula; `FormulaError` with the place for what is no formula.

    >>> text(parse("1 - tanh(x)**2"))
    '1 − tanh(x)²'
    """
    if len(source) > 4000:
        msg = f"a formula has at most 4,000 characters, got {len(source):,}"
        raise FormulaError(msg)
    try:
        tree = ast.parse(
            source.strip().replace("^", "**").replace("·", "*").replace("−", "-"), mode="eval"
        ).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        at = getattr(error, "offset", None) or 0
        place = f"at character {at}" if 0 < at <= len(source) else "at its end"
        msg = f"{source!r} is no formula" + (
            f": {error.msg} {place}" if isinstance(error, SyntaxError) else ""
        )
        raise FormulaError(msg) from None
    try:
        for node in ast.walk(tree):
            _check(node, source)
    except RecursionError:
        msg = f"{source[:40]!r}… is nested too deeply"
        raise FormulaError(msg) from None
    return tree


_ALLOWED = (
    ast.BinOp, ast.UnaryOp, ast.Compare, ast.Call, ast.Name, ast.Load, ast.Subscript, ast.Slice, ast.Tuple, ast.List, ast.keyword,
    ast.operator, ast.unaryop, ast.cmpop,
)  # fmt: skip


def _check(node: ast.AST, source: str) -> None:
    if isinstance(node, ast.Constant):
        if node.value is None or isinstance(node.value, (bool, int, float, str)):
            return
    elif isinstance(node, ast.Attribute):
        if node.attr in ("T", "mT") or isinstance(node.value, ast.Name):
            return
    elif isinstance(node, _ALLOWED):
        if not isinstance(node, ast.Call) or isinstance(node.func, (ast.Name, ast.Attribute)):
            return
    what = {
        ast.Lambda: "lambda",
        ast.IfExp: "if … else (use where)",
        ast.BoolOp: "and, or (use logical_and)",
    }.get(type(node), type(node).__name__)
    part = ast.get_source_segment(source, node) if hasattr(node, "lineno") else None
    msg = (
        f"{source!r}: a formula holds numbers, names, + - * / ** @, comparisons and calls of functions, got {what}"
        + (f" in {part!r}" if part else "")
    )
    raise FormulaError(msg)


def names_of(tree: ast.AST) -> list[str]:
    """The variables of a formula, in the order of their first appearance: functions are not among them."""
    found: dict[str, int] = {}
    functions = {id(part) for n in ast.walk(tree) if isinstance(n, ast.Call) for part in ast.walk(n.func)}
    for node in sorted(
        (n for n in ast.walk(tree) if isinstance(n, ast.Name) and id(n) not in functions),
        key=lambda n: (getattr(n, "lineno", 0), getattr(n, "col_offset", 0)),
    ):
        found.setdefault(node.id, 0)
    return list(found)


class _Substitution(ast.NodeTransformer):
    def __init__(self, values: Mapping[str, Any]) -> None:
        self.values = values

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self.values:
            return node
        value = self.values[node.id]
        if isinstance(value, ast.expr):
            return value
        return ast.Name(value, ast.Load()) if isinstance(value, str) else ast.Constant(value)

    def visit_Call(self, node: ast.Call) -> ast.expr:  # the function's own name stays
        return ast.Call(node.func, [self.visit(a) for a in node.args], [self.visit(k) for k in node.keywords])


def substitute(tree: ast.expr, values: Mapping[str, Any]) -> ast.expr:
    """The formula with other names, numbers or formulas in place of some names.

    >>> text(substitute(parse("1 - y**2"), {"y": "v"}))
    '1 − v²'
    """
    out: ast.expr = _Substitution(values).visit(copy.deepcopy(tree))
    return out


class _Folding(ast.NodeTransformer):
    def visit_UnaryOp(self, node: ast.UnaryOp) -> ast.expr:
        inner: ast.expr = self.visit(node.operand)
        if (
            isinstance(node.op, ast.USub)
            and isinstance(inner, ast.Constant)
            and isinstance(inner.value, (int, float))
        ):
            return ast.Constant(-inner.value)
        return ast.UnaryOp(node.op, inner)

    def visit_BinOp(self, node: ast.BinOp) -> ast.expr:
        left: ast.expr = self.visit(node.left)
        right: ast.expr = self.visit(node.right)
        op = node.op
        a = left.value if isinstance(left, ast.Constant) else ...
        b = right.value if isinstance(right, ast.Constant) else ...
        if a is None:
            return ast.UnaryOp(ast.USub(), right) if isinstance(op, ast.Sub) else right
        if b is None:
            return left
        numbers = isinstance(a, (int, float)) and isinstance(b, (int, float))
        if numbers and isinstance(op, (ast.Add, ast.Sub, ast.Mult)):
            return ast.Constant(_operate(node, a, b))
        if isinstance(op, ast.Mult) and (a == 1 or b == 1):
            return right if a == 1 else left
        if isinstance(op, (ast.Div, ast.Pow)) and b == 1:
            return left
        if isinstance(op, ast.Add) and (a == 0 or b == 0):
            return right if a == 0 else left
        return ast.BinOp(left, op, right)


def folded(tree: ast.expr) -> ast.expr:
    """The formula with its numbers put together, without factors of 1, terms of 0, and what is not there (None).

    >>> text(folded(parse("2 * x**(2 - 1) + None")))
    '2 · x'
    """
    out: ast.expr = _Folding().visit(tree)
    return out


# ----- values -----


def evaluate(tree: ast.expr, values: Mapping[str, Any], functions: Mapping[str, Callable[..., Any]]) -> Any:
    """The value of a formula, of Tensors or numbers by name, with the functions that are listed.

    Errors: `FormulaError` for a name or a function that is not there (with the nearest one), and for a division of numbers by 0.

    >>> evaluate(parse("2 * x + f(1)"), {"x": 3.0}, {"f": lambda v: v + 1})
    8.0
    """
    if isinstance(tree, ast.Constant):
        return tree.value
    if isinstance(tree, ast.Name):
        if tree.id in values:
            return values[tree.id]
        if tree.id in CONSTANTS:
            return getattr(math, tree.id)
        msg = f"the formula needs a value for {tree.id!r}: give {tree.id}=…"
        raise FormulaError(msg)
    if isinstance(tree, ast.UnaryOp):
        x = evaluate(tree.operand, values, functions)
        return -x if isinstance(tree.op, ast.USub) else x if isinstance(tree.op, ast.UAdd) else ~x
    if isinstance(tree, ast.BinOp):
        a, b = evaluate(tree.left, values, functions), evaluate(tree.right, values, functions)
        return _operate(tree, a, b)
    if isinstance(tree, ast.Compare):
        if len(tree.ops) != 1:
            msg = f"{text(tree)}: one comparison at a time; use logical_and"
            raise FormulaError(msg)
        a, b = evaluate(tree.left, values, functions), evaluate(tree.comparators[0], values, functions)
        return _compare(tree.ops[0], a, b)
    if isinstance(tree, ast.Call):
        f = _function(tree.func, functions)
        args = [evaluate(a, values, functions) for a in tree.args]
        return f(*args, **{str(k.arg): evaluate(k.value, values, functions) for k in tree.keywords})
    if isinstance(tree, (ast.Tuple, ast.List)):
        items = [evaluate(x, values, functions) for x in tree.elts]
        return tuple(items) if isinstance(tree, ast.Tuple) else items
    if isinstance(tree, ast.Subscript):
        return evaluate(tree.value, values, functions)[evaluate(tree.slice, values, functions)]
    if isinstance(tree, ast.Slice):
        return slice(
            *(
                None if x is None else evaluate(x, values, functions)
                for x in (tree.lower, tree.upper, tree.step)
            )
        )
    if isinstance(tree, ast.Attribute) and tree.attr in ("T", "mT"):
        x = evaluate(tree.value, values, functions)
        return x.mT if hasattr(x, "mT") else x
    msg = f"{text(tree)} has no value in a formula"
    raise FormulaError(msg)


def _operate(tree: ast.BinOp, a: Any, b: Any) -> Any:
    numbers = isinstance(a, (int, float)) and isinstance(b, (int, float))
    a, b = (asarray(v, dtype="float64") if isinstance(v, (list, tuple)) else v for v in (a, b))
    try:
        if isinstance(tree.op, ast.Pow):
            if numbers and abs(b) > 1024:
                msg = f"{text(tree)}: the exponent of a number must be in [-1024, 1024], got {b}"
                raise FormulaError(msg)
            return float(a) ** b if numbers else a**b
        return _OPERATIONS[type(tree.op)](a, b)
    except (ZeroDivisionError, OverflowError) as error:
        msg = f"{text(tree)} has no value: {error}"
        raise FormulaError(msg) from None
    except KeyError:
        msg = f"{ast.unparse(tree)}: operators are + - * / // % ** @"
        raise FormulaError(msg) from None


def _compare(op: ast.cmpop, a: Any, b: Any) -> Any:
    kind = type(op)
    if kind is ast.Lt:
        return a < b
    if kind is ast.LtE:
        return a <= b
    if kind is ast.Gt:
        return a > b
    if kind is ast.GtE:
        return a >= b
    return a == b if kind is ast.Eq else a != b


def _function(node: ast.expr, functions: Mapping[str, Callable[..., Any]]) -> Callable[..., Any]:
    name = ast.unparse(node)
    short = (
        name.rpartition(".")[2]
        if name.startswith(("an.", "anynet.", "F.", "nn.functional.", "math.", "np.", "torch."))
        else name
    )
    if short in functions:
        return functions[short]
    close = difflib.get_close_matches(short, functions, 1)
    msg = f"there is no function {name!r} for formulas" + (f"; did you mean {close[0]!r}?" if close else "")
    raise FormulaError(msg)


# ----- how it looks -----


class _Spelled(ast.NodeTransformer):
    """The formula in the words of equations: Greek letters, cases for ``where``, ``.T`` for ``.mT``, functions without their module."""

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Name(
            "/".join(f"∂{_letter(p[1:])}" if p.startswith("∂") else _letter(p) for p in node.id.split("/")),
            ast.Load(),
        )

    def visit_Constant(self, node: ast.Constant) -> ast.expr:
        if isinstance(node.value, (int, float)) and not isinstance(node.value, bool) and node.value < 0:
            return ast.UnaryOp(ast.USub(), ast.Constant(-node.value))
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.expr:
        if node.attr in ("T", "mT"):
            return ast.Attribute(self.visit(node.value), "T", ast.Load())
        return ast.Name(ast.unparse(node), ast.Load())

    def visit_Call(self, node: ast.Call) -> ast.expr:
        name = ast.unparse(node.func).rpartition(".")[2]
        args, keywords = [self.visit(a) for a in node.args], [self.visit(k) for k in node.keywords]
        if name == "where" and len(args) == 3 and not keywords:
            return ast.IfExp(args[0], args[1], args[2])
        return ast.Call(ast.Name(name, ast.Load()), args, keywords)


def _letter(name: str) -> str:
    return _GREEK.get(name, name)


def _shown(style: Style, tree: ast.expr) -> str:
    return style.show(_Spelled().visit(copy.deepcopy(tree)))


def text(tree: ast.expr) -> str:
    """A formula in one line, with the signs of mathematics.

    >>> text(parse("-x1 / sqrt(x2)**2 * where(x1 > 0, 1, 0)"))
    '−x₁ / (√x₂)² · [1 if x₁ > 0, else 0]'
    """
    return _shown(_TEXT, tree)


def latex(tree: ast.expr) -> str:
    r"""A formula in LaTeX's notation, for mathematics mode.

    >>> print(latex(parse("x1 / (1 + exp(-x2))")))
    \frac{x_{1}}{1 + e^{-x_{2}}}
    """
    return _shown(_LATEX, tree)


def mathml(tree: ast.expr) -> str:
    """A formula as the inside of a ``<math>`` element, which browsers and notebooks show without any script.

    >>> mathml(parse("x / 2"))
    '<mfrac><mrow><mi>x</mi></mrow><mrow><mn>2</mn></mrow></mfrac>'
    """
    return _shown(_MATHML, tree)


_TEXT, _LATEX, _MATHML = Text(formula=True), Latex(formula=True), MathML(formula=True)
