"""How equations look: in Unicode text, LaTeX and MathML, from one walk over the tree of an expression.

A style says how each construct is written; `Style` decides where parentheses stand. `Text`, `Latex` and `MathML` are the styles.
With ``formula=True`` a style writes the formulas of `anynet.explanations`, which are Python's: names of several letters, keywords and
slices, measured numbers; so products have their dot, and numbers six digits.
"""

from __future__ import annotations

import ast
import math
import re
from collections.abc import Sequence
from html import escape

from anynet.equations.language import Line, Symbol, bound_indices, indices_of

__all__ = ["Latex", "MathML", "Style", "Text", "meaning", "number_text", "table"]

SUM, PRODUCT, UNARY, POWER, ATOM = 1, 2, 3, 4, 5  # how tightly a construct binds

_GREEK = dict(zip(
    "αβγδεζηθικλμνξπρστυφχψωΓΔΘΛΞΠΣΦΨΩℓ",
    ["alpha", "beta", "gamma", "delta", "varepsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu", "nu", "xi", "pi", "rho",
     "sigma", "tau", "upsilon", "varphi", "chi", "psi", "omega", "Gamma", "Delta", "Theta", "Lambda", "Xi", "Pi", "Sigma", "Phi", "Psi",
     "Omega", "ell"], strict=True,
))  # fmt: skip
_SUBSCRIPTS = str.maketrans("0123456789+−aehijklmnoprstuvx", "₀₁₂₃₄₅₆₇₈₉₊₋ₐₑₕᵢⱼₖₗₘₙₒₚᵣₛₜᵤᵥₓ")
_SUPERSCRIPTS = str.maketrans(
    "0123456789+−abcdefghijklmnoprstuvwxyzT", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻ᵃᵇᶜᵈᵉᶠᵍʰⁱʲᵏˡᵐⁿᵒᵖʳˢᵗᵘᵛʷˣʸᶻᵀ"
)
_COMPARED = {ast.Eq: "=", ast.NotEq: "≠", ast.Lt: "<", ast.LtE: "≤", ast.Gt: ">", ast.GtE: "≥"}
_ACCENTS = {"hat": "\u0302", "bar": "\u0304", "tilde": "\u0303"}
_NAMES = {
    "pi": "π",
    "inf": "∞",
    "sigmoid": "σ",
    "Phi": "Φ",
    "lgamma": "ln Γ",
    "log": "ln",
    "inverse": "inv",
    "eye": "I",
}


class Style:
    """A way of writing; the methods at the end differ from style to style."""

    known: frozenset[str] = frozenset()

    def __init__(self, formula: bool = False) -> None:
        self.formula = formula

    def line(self, line: Line, known: set[str]) -> str:
        """One line; `known` are the symbols, of which ``dx`` is the derivative of the loss."""
        self.known = frozenset(known)
        relation = "∼" if line.random else "="
        ranges = []
        for index in line.indices:
            if isinstance(index, ast.Slice):
                ranges.append(self.range(index))
        return self.equation(self.target(line.target), relation, self.show(line.value), ranges)

    def target(self, node: ast.expr) -> str:
        if isinstance(node, ast.Subscript):
            return self.subscript(node)
        return self.show(node)

    def show(self, node: ast.expr, at_least: int = 0) -> str:
        """An expression, in parentheses where it binds less than its place needs."""
        text, binds = self.expression(node)
        return self.fenced(text) if binds < at_least else text

    # Over 60 lines: a row of one case for each construct
    def expression(self, node: ast.expr) -> tuple[str, int]:
        if isinstance(node, ast.Constant):
            return self.constant(node.value), ATOM
        if isinstance(node, ast.Name):
            return self.name(node.id), ATOM
        if isinstance(node, ast.Attribute):
            return self.power(self.show(node.value, ATOM), self.raw("T"), True), POWER
        if isinstance(node, ast.Subscript):
            return self.subscript(node), ATOM
        if isinstance(node, ast.Call):
            return self.call(node)
        if isinstance(node, ast.BinOp):
            return self.operation(node)
        if isinstance(node, ast.UnaryOp):
            if isinstance(node.op, ast.Not | ast.Invert):
                return self.row(self.words("not "), self.show(node.operand, ATOM)), UNARY
            if isinstance(node.op, ast.UAdd):
                return self.expression(node.operand)
            return self.row(self.operator("−"), self.show(node.operand, PRODUCT)), SUM
        if isinstance(node, ast.Compare):
            parts = [self.show(node.left, SUM)]
            for op, other in zip(node.ops, node.comparators, strict=True):
                parts += [self.relation(_COMPARED[type(op)]), self.show(other, SUM)]
            return self.row(*parts), 0
        if isinstance(node, ast.BoolOp):
            word = self.words(" and " if isinstance(node.op, ast.And) else " or ")
            parts = []
            for value in node.values:
                parts += [word, self.show(value, 0 if not isinstance(value, ast.BoolOp | ast.IfExp) else 1)]
            return self.row(*parts[1:]), 0
        if isinstance(node, ast.IfExp):
            pairs: list[tuple[str, str]] = []
            rest: ast.expr = node
            while isinstance(rest, ast.IfExp):
                pairs.append((self.show(rest.body, SUM), self.show(rest.test)))
                rest = rest.orelse
            return self.cases(pairs, self.show(rest, SUM))
        if isinstance(node, ast.List):
            return self.bracketed(self.listed([self.show(e) for e in node.elts])), ATOM
        if isinstance(node, ast.Tuple):
            return self.fenced(self.listed([self.show(e) for e in node.elts])), ATOM
        return self.raw(ast.unparse(node)), ATOM

    def operation(self, node: ast.BinOp) -> tuple[str, int]:
        op = node.op
        if isinstance(op, ast.Add | ast.Sub):
            negative = isinstance(op, ast.Sub)
            right = self.show(node.right, PRODUCT if negative or _is_negative(node.right) else SUM)
            return self.row(
                self.show(node.left, SUM), self.operator("−" if negative else "+", True), right
            ), SUM
        if isinstance(op, ast.Mult | ast.MatMult):
            left = self.show(node.left, SUM if _is_negative(node.left) else PRODUCT)
            right = self.show(node.right, UNARY)
            return self.product(left, right, node), SUM if _is_negative(node) else PRODUCT
        if isinstance(op, ast.Div):
            return self.fraction(node)
        if not isinstance(op, ast.FloorDiv | ast.Mod | ast.Pow):
            return self.raw(ast.unparse(node)), SUM
        if isinstance(op, ast.FloorDiv):
            return self.floored(self.fraction(ast.BinOp(node.left, ast.Div(), node.right))[0]), ATOM
        if isinstance(op, ast.Mod):
            return self.row(
                self.show(node.left, PRODUCT), self.words(" mod "), self.show(node.right, UNARY)
            ), PRODUCT
        number = node.right.operand if isinstance(node.right, ast.UnaryOp) else node.right
        simple = isinstance(number, ast.Constant) or isinstance(node.right, ast.Name)
        return self.power(self.show(node.left, ATOM), self.show(node.right), simple), POWER

    def call(self, node: ast.Call) -> tuple[str, int]:
        brackets = bound_indices(node)
        function = node.func.value if isinstance(node.func, ast.Subscript) else node.func
        assert isinstance(function, ast.Name)
        name, args = function.id, node.args
        if node.keywords or (len(args) != 1 and name in ("sqrt", "abs", "floor", "ceil", "exp")):
            pairs = (
                self.row(self.words(str(k.arg)), self.relation("="), self.show(k.value))
                for k in node.keywords
            )
            return self.applied(name, self.listed([*map(self.show, args), *pairs])), ATOM
        if name == "sqrt":
            return self.root(args[0])
        if name in ("abs", "floor", "ceil"):
            left, right = {"abs": ("|", "|"), "floor": ("⌊", "⌋"), "ceil": ("⌈", "⌉")}[name]
            return self.between(left, self.show(args[0]), right), ATOM
        if name == "exp":
            return self.exponential(args[0])
        if name == "norm" and not brackets:
            norm = self.between("‖", self.show(args[0]), "‖")
            return (self.lowered(norm, self.show(args[1])) if len(args) > 1 else norm), ATOM
        if brackets:
            under = [
                self.range(b) if isinstance(b, ast.Slice) else self.show(b) for b in brackets if not _dots(b)
            ]
            if name in ("sum", "prod"):
                return self.row(
                    self.big("Σ" if name == "sum" else "Π", under), self.show(args[0], PRODUCT)
                ), PRODUCT
            return self.row(self.big(name, under), self.fenced(self.show(args[0]))), UNARY
        if name in ("sum", "prod") and len(args) == 1:
            return self.row(self.big("Σ" if name == "sum" else "Π", []), self.show(args[0], UNARY)), PRODUCT
        shown = self.listed([self.show(a) for a in args])
        return self.applied(name, shown), ATOM

    def subscript(self, node: ast.Subscript) -> str:
        indices = [i for i in indices_of(node) if self.formula or not _dots(i)]
        base = self.show(node.value, ATOM)
        shown = [self.range_name(i) if isinstance(i, ast.Slice) else self.show(i) for i in indices]
        simple = len(indices) == 1 and (isinstance(indices[0], ast.Name) or _stepped(indices[0]))
        return self.indexed(base, shown, simple) if shown else base

    def range_name(self, node: ast.Slice) -> str:
        if self.formula:
            return self.words(ast.unparse(node))
        return self.show(node.lower) if node.lower is not None else self.raw("·")

    def range(self, node: ast.Slice) -> str:
        """``0 ≤ i < n``."""
        assert node.lower is not None
        assert node.upper is not None
        low, high = (ast.Constant(0), node.upper) if node.step is None else (node.upper, node.step)
        less, below = self.relation("≤"), self.relation("<")
        return self.row(self.show(low), less, self.show(node.lower), below, self.show(high))

    def split(self, name: str) -> tuple[str, str, str]:
        """A name's letter, accent and subscript: x_hat, β1, W_ih."""
        base, _, rest = name.partition("_")
        if not rest:
            digits = re.fullmatch(r"(\D+?)(\d+)", base)
            if digits and (len(digits[1]) == 1 or digits[1][0] == "d"):
                base, rest = digits[1], digits[2]
        if rest in _ACCENTS:
            return base, rest, ""
        accent, _, more = rest.partition("_")
        return (base, accent, more) if accent in _ACCENTS else (base, "", rest)

    def derivative(self, name: str) -> tuple[str, str] | None:
        """L and x for dx, where x is a symbol of the equation; y and x for the name ∂y/∂x."""
        if name.startswith("∂") and "/∂" in name:
            top, _, below = name[1:].partition("/∂")
            return top, below
        found = name.startswith("d") and name[1:] in self.known and name not in self.known
        return ("L", name[1:]) if found else None

    def number(self, value: complex) -> str:
        """The digits of a number, with Python's minus and exponent: all of an equation's, six of what was measured."""
        return number_text(value) if self.formula and not isinstance(value, complex) else str(value)

    # ----- what differs -----

    def equation(self, left: str, relation: str, right: str, ranges: Sequence[str]) -> str:
        raise NotImplementedError

    def row(self, *parts: str) -> str:
        return "".join(parts)

    def raw(self, text: str) -> str:
        return text

    def words(self, text: str) -> str:
        return text

    def operator(self, sign: str, between: bool = False) -> str:
        return f" {sign} " if between else sign

    def relation(self, sign: str) -> str:
        return f" {sign} "

    def constant(self, value: object) -> str:
        return str(value)

    def name(self, name: str) -> str:
        raise NotImplementedError

    def fenced(self, text: str) -> str:
        return f"({text})"

    def bracketed(self, text: str) -> str:
        return f"[{text}]"

    def between(self, left: str, text: str, right: str) -> str:
        raise NotImplementedError

    def floored(self, text: str) -> str:
        return self.between("⌊", text, "⌋")

    def listed(self, parts: list[str]) -> str:
        return ", ".join(parts)

    def power(self, base: str, exponent: str, simple: bool) -> str:
        raise NotImplementedError

    def lowered(self, base: str, sub: str) -> str:
        raise NotImplementedError

    def indexed(self, base: str, indices: list[str], simple: bool) -> str:
        raise NotImplementedError

    def fraction(self, node: ast.BinOp) -> tuple[str, int]:
        raise NotImplementedError

    def product(self, left: str, right: str, node: ast.BinOp) -> str:
        raise NotImplementedError

    def root(self, node: ast.expr) -> tuple[str, int]:
        raise NotImplementedError

    def exponential(self, node: ast.expr) -> tuple[str, int]:
        raise NotImplementedError

    def big(self, name: str, under: list[str]) -> str:
        raise NotImplementedError

    def applied(self, name: str, args: str) -> str:
        raise NotImplementedError

    def cases(self, pairs: list[tuple[str, str]], rest: str) -> tuple[str, int]:
        raise NotImplementedError


def _dots(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...


def number_text(value: float, digits: int = 6) -> str:
    """A number with so many digits that matter, without what says nothing.

    >>> number_text(0.5), number_text(-1e-9, 3), number_text(123456789.0)
    ('0.5', '−1e−09', '1.23457e+08')
    """
    if isinstance(value, bool):
        return str(value)
    if value != value:
        return "NaN"
    if value == 0:
        return "0"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:.{digits}g}".replace("-", "−")


def _is_negative(node: ast.expr) -> bool:
    """Whether a minus stands before it, or before the first of its factors."""
    while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Mult | ast.MatMult | ast.Div):
        node = node.left
    return isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)


def _stepped(node: ast.expr) -> bool:
    """``t - 1`` or a number."""
    if isinstance(node, ast.Constant) or (
        isinstance(node, ast.UnaryOp) and isinstance(node.operand, ast.Constant)
    ):
        return True
    return (
        isinstance(node, ast.BinOp)
        and isinstance(node.left, ast.Name)
        and isinstance(node.right, ast.Constant)
    )


def _needs_dot(node: ast.BinOp) -> bool:
    """Whether a number follows another, where a space would not say that they are multiplied."""
    right: ast.expr = node.right
    while isinstance(right, ast.BinOp) and not isinstance(right.op, ast.Add | ast.Sub):
        right = right.left
    return isinstance(right, ast.Constant)


class Text(Style):
    """Lines of Unicode, as in a terminal or a docstring."""

    def equation(self, left: str, relation: str, right: str, ranges: Sequence[str]) -> str:
        return f"{left} {relation} {right}" + (f"  for {', '.join(ranges)}" if ranges else "")

    def constant(self, value: object) -> str:
        if isinstance(value, str):
            return repr(value).replace("'", '"')
        if value is None or value is ... or isinstance(value, bool):
            return "…" if value is ... else str(value)
        assert isinstance(value, complex | float | int)
        return "½" if value == 0.5 and not self.formula else self.number(value)

    def name(self, name: str) -> str:
        of = self.derivative(name)
        if of is not None:
            return "/".join(f"∂{self.name(part)}" for part in of)
        if name in _NAMES:
            return _NAMES[name]
        base, accent, sub = self.split(name)
        if len(base) > 1 and not (base[0] == "d" and sub.isdigit()):
            return name
        low = (
            sub.translate(_SUBSCRIPTS)
            if sub.isdigit() or (len(sub) == 1 and sub in "aehijklmnoprstuvx")
            else f"_{sub}"
        )
        return base + _ACCENTS.get(accent, "") + (low if sub else "")

    def between(self, left: str, text: str, right: str) -> str:
        return f"{left[0]}{text}{right}"

    def power(self, base: str, exponent: str, simple: bool) -> str:
        if simple and all(ord(c) in _SUPERSCRIPTS for c in exponent):
            return base + exponent.translate(_SUPERSCRIPTS)
        return f"{base}^{exponent}" if simple else f"{base}^({exponent})"

    def lowered(self, base: str, sub: str) -> str:
        return f"{base}_{sub}"

    def indexed(self, base: str, indices: list[str], simple: bool) -> str:
        if simple:
            packed = indices[0].replace(" ", "")
            if (
                all(ord(c) in _SUBSCRIPTS for c in packed)
                and base[-1] not in "₀₁₂₃₄₅₆₇₈₉"
                and "_" not in base
            ):
                return base + packed.translate(_SUBSCRIPTS)
        return f"{base}[{', '.join(indices)}]"

    def fraction(self, node: ast.BinOp) -> tuple[str, int]:
        negative = _is_negative(node.left)
        left = self.show(node.left, SUM if negative else PRODUCT)
        return f"{left} / {self.show(node.right, POWER)}", SUM if negative else PRODUCT

    def product(self, left: str, right: str, node: ast.BinOp) -> str:
        dot = (
            (self.formula and isinstance(node.op, ast.Mult))
            or _needs_dot(node)
            or " / " in left
            or (right[0] == "(" and (left[-1].isalnum() or left[-1] not in ")]"))
        )
        if right[0] == "[" or (right[0] == "(" and left[-1] == "]"):
            dot = True
        return f"{left} · {right}" if dot else f"{left} {right}"

    def root(self, node: ast.expr) -> tuple[str, int]:
        inner, binds = self.expression(node)
        return f"√{inner}" if binds == ATOM else f"√({inner})", POWER

    def exponential(self, node: ast.expr) -> tuple[str, int]:
        inner = self.show(node)
        packed = inner.replace(" ", "")
        if isinstance(node, ast.Name | ast.UnaryOp) and all(ord(c) in _SUPERSCRIPTS for c in packed):
            return f"e{packed.translate(_SUPERSCRIPTS)}", POWER
        return f"exp({inner})", ATOM

    def big(self, name: str, under: list[str]) -> str:
        if not under:
            return f"{name} "
        short = len(under) == 1 and under[0].isidentifier()
        if len(under) > 1 and all(u.isidentifier() for u in under):
            return f"{name}_{{{','.join(under)}}}" + (" " if name in "ΣΠ" else "")
        low = under[0] if short else f"{{{', '.join(under)}}}"
        return f"{name}_{low}" + (" " if name in "ΣΠ" else "")

    def applied(self, name: str, args: str) -> str:
        return f"{_NAMES.get(name) or self.name(name)}({args})"

    def cases(self, pairs: list[tuple[str, str]], rest: str) -> tuple[str, int]:
        said = ", ".join(f"{value} if {test}" for value, test in pairs) + f", else {rest}"
        return (
            (f"[{said}]", ATOM) if self.formula else (said, 0)
        )  # of formulas several stand in a row, with = between them


class Latex(Style):
    """LaTeX for amsmath."""

    def equation(self, left: str, relation: str, right: str, ranges: Sequence[str]) -> str:
        sign = "\\sim" if relation == "∼" else "="
        tail = ",\\ ".join(ranges)
        return f"{left} &{sign} {right}" + (f" \\qquad {tail}" if ranges else "")

    def words(self, text: str) -> str:
        return f"\\text{{{text}}}"

    def relation(self, sign: str) -> str:
        return {"≠": " \\ne ", "≤": " \\le ", "≥": " \\ge "}.get(sign, f" {sign} ")

    def operator(self, sign: str, between: bool = False) -> str:
        sign = "-" if sign == "−" else sign
        return f" {sign} " if between else sign

    def constant(self, value: object) -> str:
        if isinstance(value, str):
            return f"\\texttt{{{value}}}".replace("_", "\\_")
        if value is None or value is ... or isinstance(value, bool):
            return "\\ldots" if value is ... else f"\\text{{{value}}}"
        assert isinstance(value, complex | float | int)
        if value == 0.5 and not self.formula:
            return "\\tfrac{1}{2}"
        digits = self.number(value).replace("−", "-").replace("∞", "\\infty ").replace("NaN", "\\text{NaN}")
        mantissa, e, power = digits.partition("e")
        return f"{mantissa} \\cdot 10^{{{int(power)}}}" if e else digits

    def name(self, name: str) -> str:
        of = self.derivative(name)
        if of is not None:
            top, below = (f"\\partial {self.name(part)}" for part in of)
            return f"\\frac{{{top}}}{{{below}}}"
        if name in ("pi", "inf"):
            return {"pi": "\\pi", "inf": "\\infty"}[name]
        base, accent, sub = self.split(name)
        if len(base) > 1:
            return f"\\mathrm{{{name}}}".replace("_", "\\_")
        letter = f"\\{_GREEK[base]}" if base in _GREEK else base
        if accent:
            letter = f"\\{accent}{{{letter}}}"
        if not sub:
            return letter
        low = sub if len(sub) == 1 or sub.isdigit() else "\\mathrm{" + sub.replace("_", ",") + "}"
        return f"{letter}_{{{low}}}"

    def fenced(self, text: str) -> str:
        return f"\\left({text}\\right)"

    def bracketed(self, text: str) -> str:
        return f"\\left[{text}\\right]"

    def between(self, left: str, text: str, right: str) -> str:
        pair = {"‖": ("\\Vert ", "\\Vert"), "⌊": ("\\lfloor ", "\\rfloor"), "⌈": ("\\lceil ", "\\rceil")}
        a, b = pair.get(left[0], ("\\vert ", "\\vert"))
        return f"\\left{a}{text}\\right{b}"

    def power(self, base: str, exponent: str, simple: bool) -> str:
        raised = "\\top" if exponent == "T" else exponent
        return f"{{{base}}}^{{{raised}}}"

    def lowered(self, base: str, sub: str) -> str:
        return f"{base}_{{{sub}}}"

    def indexed(self, base: str, indices: list[str], simple: bool) -> str:
        joined = ", ".join(indices)
        if base.endswith("}") and "_{" in base and not base.startswith("\\frac"):
            return f"{base[:-1]}, {joined}}}"
        if base.startswith("\\frac{\\partial"):
            return f"{base[:-1]}_{{{joined}}}}}" if "_" not in base else f"{base}[{joined}]"
        return f"{base}_{{{joined}}}"

    def fraction(self, node: ast.BinOp) -> tuple[str, int]:
        return f"\\frac{{{self.show(node.left)}}}{{{self.show(node.right)}}}", UNARY

    def product(self, left: str, right: str, node: ast.BinOp) -> str:
        dot = (self.formula and isinstance(node.op, ast.Mult)) or _needs_dot(node)
        return f"{left} \\cdot {right}" if dot else f"{left} \\, {right}"

    def root(self, node: ast.expr) -> tuple[str, int]:
        return f"\\sqrt{{{self.show(node)}}}", ATOM

    def exponential(self, node: ast.expr) -> tuple[str, int]:
        return f"e^{{{self.show(node)}}}", POWER

    def big(self, name: str, under: list[str]) -> str:
        sign = {"Σ": "\\sum", "Π": "\\prod"}.get(name, f"\\operatorname*{{{name}}}")
        low = ",\\, ".join(under)
        return f"{sign}_{{{low}}} " if under else f"{sign} "

    def applied(self, name: str, args: str) -> str:
        known = {"log": "\\ln", "tanh": "\\tanh", "sin": "\\sin", "cos": "\\cos", "max": "\\max", "min": "\\min", "sigmoid": "\\sigma",
                 "Phi": "\\Phi", "lgamma": "\\ln\\Gamma"}  # fmt: skip
        plain = known.get(name) or (
            self.name(name)
            if len(self.split(name)[0]) == 1
            else f"\\operatorname{{{name}}}".replace("_", "\\_")
        )
        return f"{plain}{self.fenced(args)}"

    def cases(self, pairs: list[tuple[str, str]], rest: str) -> tuple[str, int]:
        rows = [f"{value} & \\text{{if }} {test}" for value, test in pairs] + [f"{rest} & \\text{{else}}"]
        return "\\begin{cases} " + " \\\\ ".join(rows) + " \\end{cases}", ATOM


class MathML(Style):
    """Presentation MathML Core; a line is three cells of a table."""

    def equation(self, left: str, relation: str, right: str, ranges: Sequence[str]) -> str:
        tail = f"<mspace width='2em'/>{self.listed(list(ranges))}" if ranges else ""
        return f"<mtd>{left}</mtd><mtd><mo>{relation}</mo></mtd><mtd style='text-align:left'><mrow>{right}{tail}</mrow></mtd>"

    def row(self, *parts: str) -> str:
        return f"<mrow>{''.join(parts)}</mrow>"

    def raw(self, text: str) -> str:
        return f"<mn>{escape(text)}</mn>" if text[:1].isdigit() else f"<mi>{escape(text)}</mi>"

    def words(self, text: str) -> str:
        return f"<mtext>{text.replace(' ', '&#160;')}</mtext>"

    def operator(self, sign: str, between: bool = False) -> str:
        return f"<mo>{sign}</mo>" if between else f"<mo form='prefix'>{sign}</mo>"

    def relation(self, sign: str) -> str:
        return f"<mo>{escape(sign)}</mo>"

    def constant(self, value: object) -> str:
        if isinstance(value, str) or value is None or value is ... or isinstance(value, bool):
            return f"<mtext>{'…' if value is ... else escape(str(value))}</mtext>"
        assert isinstance(value, complex | float | int)
        if value == 0.5 and not self.formula:
            return "<mfrac><mn>1</mn><mn>2</mn></mfrac>"
        return f"<mn>{self.number(value)}</mn>"

    def name(self, name: str) -> str:
        of = self.derivative(name)
        if of is not None:
            top, below = (f"<mrow><mo>∂</mo>{self.name(part)}</mrow>" for part in of)
            return f"<mfrac>{top}{below}</mfrac>"
        if name in ("pi", "inf"):
            return f"<mi>{_NAMES[name]}</mi>"
        base, accent, sub = self.split(name)
        if len(base) > 1:
            return f"<mi>{escape(name)}</mi>"
        letter = f"<mi>{escape(base)}</mi>"
        if accent:
            letter = f"<mover>{letter}<mo>{ {'hat': '^', 'bar': '¯', 'tilde': '~'}[accent] }</mo></mover>"
        return f"<msub>{letter}{self.raw(sub)}</msub>" if sub else letter

    def fenced(self, text: str) -> str:
        return f"<mrow><mo>(</mo>{text}<mo>)</mo></mrow>"

    def bracketed(self, text: str) -> str:
        return f"<mrow><mo>[</mo>{text}<mo>]</mo></mrow>"

    def between(self, left: str, text: str, right: str) -> str:
        return f"<mrow><mo>{left[0]}</mo>{text}<mo>{right[-1]}</mo></mrow>"

    def listed(self, parts: list[str]) -> str:
        return "<mo>,</mo>".join(parts)

    def power(self, base: str, exponent: str, simple: bool) -> str:
        return f"<msup>{base}{exponent}</msup>"

    def lowered(self, base: str, sub: str) -> str:
        return f"<msub>{base}{sub}</msub>"

    def indexed(self, base: str, indices: list[str], simple: bool) -> str:
        low = f"<mrow>{self.listed(indices)}</mrow>"
        return f"<msub>{base}{low}</msub>"

    def fraction(self, node: ast.BinOp) -> tuple[str, int]:
        return f"<mfrac>{self.row(self.show(node.left))}{self.row(self.show(node.right))}</mfrac>", UNARY

    def product(self, left: str, right: str, node: ast.BinOp) -> str:
        dot = (self.formula and isinstance(node.op, ast.Mult)) or _needs_dot(node)
        return self.row(left, "<mo>⋅</mo>" if dot else "<mo>&#x2062;</mo>", right)

    def root(self, node: ast.expr) -> tuple[str, int]:
        return f"<msqrt>{self.show(node)}</msqrt>", ATOM

    def exponential(self, node: ast.expr) -> tuple[str, int]:
        return f"<msup><mi>e</mi>{self.row(self.show(node))}</msup>", POWER

    def big(self, name: str, under: list[str]) -> str:
        sign = f"<mo>{ {'Σ': '∑', 'Π': '∏'}[name] }</mo>" if name in "ΣΠ" else f"<mo>{name}</mo>"
        return f"<munder>{sign}<mrow>{self.listed(under)}</mrow></munder>" if under else sign

    def applied(self, name: str, args: str) -> str:
        shown = f"<mi>{_NAMES[name]}</mi>" if name in _NAMES else self.name(name)
        return self.row(shown, "<mo>&#x2061;</mo>", self.fenced(args))

    def cases(self, pairs: list[tuple[str, str]], rest: str) -> tuple[str, int]:
        left = "<mtd style='text-align:left'>"
        rows = [f"<mtr>{left}{v}</mtd>{left}<mtext>if&#160;</mtext>{t}</mtd></mtr>" for v, t in pairs]
        rows.append(f"<mtr>{left}{rest}</mtd>{left}<mtext>else</mtext></mtd></mtr>")
        return f"<mrow><mo>{{</mo><mtable>{''.join(rows)}</mtable></mrow>", ATOM


def table(rows: Sequence[str]) -> str:
    """The ``<math>`` element of lines in MathML."""
    inner = "".join(f"<mtr>{row}</mtr>" for row in rows)
    return f"<math xmlns='http://www.w3.org/1998/Math/MathML' display='block'><mtable>{inner}</mtable></math>"


def meaning(symbol: Symbol) -> str:
    """What a symbol stands for: ``weight (K, J): meaning``."""
    parts = [symbol.source if symbol.source != symbol.name else ""]
    if symbol.kind is not None:
        parts.append(f"of {symbol.kind}")
    if symbol.default is not None:
        parts.append(f"or {symbol.default}")
    if symbol.along is not None:
        parts.append(f"along {symbol.along}")
    if symbol.axes:
        axes = ["…" if a == "..." else a.rstrip("*?") for a in symbol.axes]
        parts.append(f"({', '.join(axes)})")
    text = " ".join(p for p in parts if p)
    return f"{text}: {symbol.meaning}" if symbol.meaning and text else text or symbol.meaning
