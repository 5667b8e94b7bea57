"""The intermediate representation of a fused loop, and its text in LLVM's assembly language.

A `FusedLoop` computes element-wise functions (`LoopOp`) on each element of its operands. Sums, products, quotients and roots are those
of IEEE 754, none is contracted or reordered, so that the loop gives the bits of the NumPy calls that it replaces.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends.jit.compiler import text_of
from anynet_backends.jit.elementary import ELEMENTARY, LOGISTIC, PREFIX
from anynet_backends.jit.ir_builder import Function, LoopFunction

__all__ = [
    "CASTS",
    "ELEMENTARY_RULES",
    "LETTERS",
    "LLVM_TYPES",
    "RULES",
    "SIZE",
    "FusedLoop",
    "LoopOp",
    "work",
]

LETTERS: Final = {
    np.dtype(np.float32): "f",
    np.dtype(np.float64): "d",
    np.dtype(np.float16): "e",
    np.dtype(np.int64): "q",
    np.dtype(bool): "?",
}
LLVM_TYPES: Final = {"f": "float", "d": "double", "e": "half", "q": "i64", "?": "i1"}
_MEMORY: Final = {**LLVM_TYPES, "?": "i8"}
SIZE: Final = {"f": 4, "d": 8, "e": 2, "q": 8, "?": 1}

# how a function of real numbers is written in LLVM: {t} its type, {s} the type's short name, {0} {1} the arguments
_REAL: Final[dict[str, str]] = {
    "add": "fadd {t} {0}, {1}", "subtract": "fsub {t} {0}, {1}", "multiply": "fmul {t} {0}, {1}",
    "divide": "fdiv {t} {0}, {1}", "square": "fmul {t} {0}, {0}", "reciprocal": "fdiv {t} 1.0, {0}",
    "negative": "fneg {t} {0}", "absolute": "call {t} @llvm.fabs.{s}({t} {0})", "fabs": "call {t} @llvm.fabs.{s}({t} {0})",
    "sqrt": "call {t} @llvm.sqrt.{s}({t} {0})", "floor": "call {t} @llvm.floor.{s}({t} {0})",
    "ceil": "call {t} @llvm.ceil.{s}({t} {0})", "trunc": "call {t} @llvm.trunc.{s}({t} {0})",
    "rint": "call {t} @llvm.rint.{s}({t} {0})", "copysign": "call {t} @llvm.copysign.{s}({t} {0}, {t} {1})",
    "equal": "fcmp oeq {t} {0}, {1}", "not_equal": "fcmp une {t} {0}, {1}", "less": "fcmp olt {t} {0}, {1}",
    "less_equal": "fcmp ole {t} {0}, {1}", "greater": "fcmp ogt {t} {0}, {1}",
    "greater_equal": "fcmp oge {t} {0}, {1}", "isnan": "fcmp uno {t} {0}, {0}",
    "isfinite": "fcmp one {t} {0}, 0x7FF0000000000000", "isinf": "fcmp oeq {t} {0}, 0x7FF0000000000000",  # of |x|
    "where": "select i1 {0}, {t} {1}, {t} {2}",
}  # fmt: skip
_INTEGER: Final[dict[str, str]] = {
    "add": "add {t} {0}, {1}", "subtract": "sub {t} {0}, {1}", "multiply": "mul {t} {0}, {1}",
    "equal": "icmp eq {t} {0}, {1}", "not_equal": "icmp ne {t} {0}, {1}", "less": "icmp slt {t} {0}, {1}",
    "less_equal": "icmp sle {t} {0}, {1}", "greater": "icmp sgt {t} {0}, {1}",
    "greater_equal": "icmp sge {t} {0}, {1}", "where": "select i1 {0}, {t} {1}, {t} {2}",
}  # fmt: skip
_TRUTH: Final[dict[str, str]] = {
    "logical_and": "and i1 {0}, {1}", "logical_or": "or i1 {0}, {1}", "logical_xor": "xor i1 {0}, {1}",
    "logical_not": "xor i1 {0}, true", "bitwise_and": "and i1 {0}, {1}", "bitwise_or": "or i1 {0}, {1}",
    "bitwise_xor": "xor i1 {0}, {1}", "invert": "xor i1 {0}, true", "equal": "icmp eq i1 {0}, {1}",
    "not_equal": "xor i1 {0}, {1}", "multiply": "and i1 {0}, {1}", "where": "select i1 {0}, i1 {1}, i1 {2}",
}  # fmt: skip
_HALF: Final[dict[str, str]] = {
    "where": _REAL["where"]
}  # it is stored and converted, as NumPy computes in float32
ELEMENTARY_RULES: Final = {
    PREFIX + name: f"call float @{PREFIX}{name}(float {{0}})" for name in (LOGISTIC, *ELEMENTARY)
}
RULES: Final = {"f": _REAL, "d": _REAL, "e": _HALF, "q": _INTEGER, "?": _TRUTH}
_COMPARE: Final = frozenset(
    ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isnan", "isfinite", "isinf")
)
CASTS: Final = {
    ("?", "f"): "uitofp i1 {0} to float", ("?", "d"): "uitofp i1 {0} to double", ("?", "q"): "zext i1 {0} to i64",
    ("f", "d"): "fpext float {0} to double", ("d", "f"): "fptrunc double {0} to float",
    ("q", "d"): "sitofp i64 {0} to double", ("q", "f"): "sitofp i64 {0} to float",
    # what is out of range raises a floating-point exception, and NumPy decides
    ("d", "q"): "fptosi double {0} to i64", ("f", "q"): "fptosi float {0} to i64",
    ("e", "f"): "fpext half {0} to float", ("f", "e"): "fptrunc float {0} to half",
}  # fmt: skip
_INTRINSICS: Final = ("fabs", "sqrt", "floor", "ceil", "trunc", "rint")


def work(name: str) -> int:
    """What a function takes for one number, in bytes that are moved in that time."""
    if name not in _REAL:
        return 24  # an exponential, a logarithm and the like
    return 6 if name in ("divide", "reciprocal", "sqrt") else 2


class LoopOp(NamedTuple):
    """One function of a loop: its name, the type it works in, its arguments (("in", operand) or ("op", number))."""

    name: str
    letter: str
    args: tuple[tuple[str, int], ...]

    @property
    def result_letter(self) -> str:
        """The type of what it returns."""
        return "?" if self.name in _COMPARE else self.letter


class FusedLoop(NamedTuple):
    """A loop, whatever its sizes: operands as (type, "c" contiguous | "0" the same for a whole row | "s" strided), functions,
    which operand gets which value, and how many loops lie around the innermost. `row`: the length of the innermost where it is fixed: a
    short one is otherwise left to what LLVM makes for the rest behind its vectors."""

    operands: tuple[tuple[str, str], ...]
    ops: tuple[LoopOp, ...]
    stores: tuple[tuple[int, int], ...]
    outer: int
    row: int = 0

    @property
    def work(self) -> int:
        """What is computed for one element, as `work` of each function."""
        return sum(work(op.name) for op in self.ops)

    def lines(self) -> list[str]:
        """As text: operands, functions, stores."""
        words = {"f": "float32", "d": "float64", "e": "float16", "q": "int64", "?": "bool"}
        kinds = {"c": "", "0": " (one number)", "s": " (strided)"}

        def value(arg: tuple[str, int]) -> str:
            return f"{'in' if arg[0] == 'in' else 'v'}{arg[1]}"

        inputs = [f"in{i}: {words[letter]}{kinds[kind]}" for i, (letter, kind) in enumerate(self.operands)]
        return [
            ", ".join(inputs),
            *(f"v{n} = {op.name}({', '.join(map(value, op.args))})" for n, op in enumerate(self.ops)),
            *(f"in{i} ← v{n}" for i, n in self.stores),
        ]

    def code(self) -> str:
        """As LLVM's assembly language."""
        row = _RowWriter(self)
        for op in self.ops:
            row.compute(op)
        for store in self.stores:
            row.store(*store)
        elementary = any(op.name in ELEMENTARY_RULES for op in self.ops)
        return f"""{_with_elementary() if elementary else _DECLARATIONS}
{row.code(_LOOP_OF_MANY if elementary else _SHORT_LOOP if self.row else "")}
{_nest_code(len(self.operands), self.outer, self.row)}
{_SHORT_METADATA if self.row and not elementary else ""}"""


_DECLARATIONS: Final = "\n".join(
    [f"declare {t} @llvm.{f}.{s}({t})" for f in _INTRINSICS for t, s in (("float", "f32"), ("double", "f64"))]
    + [f"declare {t} @llvm.copysign.{s}({t}, {t})" for t, s in (("float", "f32"), ("double", "f64"))]
)


_LOOP_OF_MANY: Final = ", !llvm.loop !0"
"""Of a loop with elementary functions: each iteration has work enough, and more of it would be more code to compile."""
_METADATA: Final = """
!0 = distinct !{!0, !1, !2}
!1 = !{!"llvm.loop.unroll.disable"}
!2 = !{!"llvm.loop.interleave.count", i32 1}
"""


_SHORT_LOOP: Final = ", !llvm.loop !0"
_SHORT_METADATA: Final = """
!0 = distinct !{!0, !1}
!1 = !{!"llvm.loop.unroll.disable"}
"""
"""Of a loop of a fixed length: LLVM would unroll it before it looks for vectors."""


@functools.cache
def _with_elementary() -> str:
    """The declarations, and elementary.ll, which has some of them, too."""
    text = text_of("elementary.ll")
    declared = set(text.splitlines())
    return text + "\n".join(line for line in _DECLARATIONS.splitlines() if line not in declared) + _METADATA


class _RowWriter:
    """The text of the innermost loop."""

    def __init__(self, loop: FusedLoop) -> None:
        self.operands = loop.operands
        self.written = {operand for operand, _ in loop.stores}
        self.entry: list[str] = []  # lines before the loop
        self.lines: list[str] = []  # lines of its body
        self.loaded: dict[int, str] = {}
        self.values: list[tuple[str, str]] = []  # of the functions so far: name and type
        self.count = 0

    def compute(self, op: LoopOp) -> None:
        """Append a function."""
        args = []
        for place, (source, i) in enumerate(op.args):
            value, letter = (self._load(i), self.operands[i][0]) if source == "in" else self.values[i]
            condition = op.name == "where" and place == 0
            args.append(value if condition else self._cast(value, letter, op.letter))
        if op.name == "copy":
            self.values.append((args[0], op.letter))
            return
        t, short = LLVM_TYPES[op.letter], {"f": "f32", "d": "f64"}.get(op.letter, "")
        if op.name in ("isfinite", "isinf"):
            size = self._new()
            self.lines.append(f"{size} = {_REAL['fabs'].format(*args, t=t, s=short)}")
            args = [size]
        if op.name in ("maximum", "minimum"):
            result = self._extremum(op.name, t, *args)
        elif op.name == "sign":
            result = self._sign(t, *args)
        else:
            result = self._new()
            rule = ELEMENTARY_RULES.get(op.name) or RULES[op.letter][op.name]
            self.lines.append(f"{result} = {rule.format(*args, t=t, s=short)}")
        self.values.append((result, op.result_letter))

    def store(self, operand: int, number: int) -> None:
        """Append the store of a value into an operand."""
        letter = self.operands[operand][0]
        value = self._cast(*self.values[number], letter)
        target = self._address(operand, self.lines)
        if letter == "?":
            new = self._new()
            self.lines.append(f"{new} = zext i1 {value} to i8")
            value = new
        self.lines.append(f"store {_MEMORY[letter]} {value}, ptr {target}, align {SIZE[letter]}")

    def code(self, about: str) -> str:
        """The function; `about`: what LLVM is told about the loop."""
        params = ", ".join(f"ptr noalias nocapture %p{i}, i64 %s{i}" for i in range(len(self.operands)))
        head, body = "\n  ".join(self.entry), "\n  ".join(self.lines)
        return f"""define internal void @row(i64 %n, {params}) alwaysinline {{
entry:
  {head}
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %loop, label %end
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  {body}
  %next = add nuw nsw i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %end{about}
end:
  ret void
}}"""

    def _new(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def _address(self, operand: int, into: list[str]) -> str:
        """Where this element of an operand lies."""
        letter, kind = self.operands[operand]
        place = self._new()
        if kind == "c":
            into.append(f"{place} = getelementptr inbounds {_MEMORY[letter]}, ptr %p{operand}, i64 %i")
        else:
            into += [
                f"{place}o = mul i64 %i, %s{operand}",
                f"{place} = getelementptr inbounds i8, ptr %p{operand}, i64 {place}o",
            ]
        return place

    def _load(self, operand: int) -> str:
        """The element of an operand, loaded once; before the loop where it is the same for the whole row."""
        if operand not in self.loaded:
            letter, kind = self.operands[operand]
            invariant = kind == "0" and operand not in self.written
            into = self.entry if invariant else self.lines
            place = f"%p{operand}" if invariant else self._address(operand, into)
            value = self._new()
            if letter == "?":
                into += [f"{value}b = load i8, ptr {place}, align 1", f"{value} = icmp ne i8 {value}b, 0"]
            else:
                into.append(f"{value} = load {LLVM_TYPES[letter]}, ptr {place}, align {SIZE[letter]}")
            self.loaded[operand] = value
        return self.loaded[operand]

    def _cast(self, value: str, letter: str, to: str) -> str:
        if letter == to:
            return value
        new = self._new()
        self.lines.append(f"{new} = {CASTS[letter, to].format(value)}")
        return new

    def _extremum(self, name: str, t: str, a: str, b: str) -> str:
        """`maximum` or `minimum`: b where both are equal, a NaN where there is one."""
        order = "ogt" if name == "maximum" else "olt"
        c, d, e, result = (self._new() for _ in range(4))
        self.lines += [
            f"{c} = fcmp {order} {t} {a}, {b}", f"{d} = select i1 {c}, {t} {a}, {t} {b}",
            f"{e} = fcmp uno {t} {a}, {a}", f"{result} = select i1 {e}, {t} {a}, {t} {d}",
        ]  # fmt: skip
        return result

    def _sign(self, t: str, x: str) -> str:
        """1, −1, 0 for both zeros, a NaN for itself."""
        c, d, e, f, g, result = (self._new() for _ in range(6))
        self.lines += [
            f"{c} = fcmp ogt {t} {x}, 0.0", f"{d} = fcmp olt {t} {x}, 0.0", f"{e} = fcmp oeq {t} {x}, 0.0",
            f"{f} = select i1 {e}, {t} 0.0, {t} {x}", f"{g} = select i1 {d}, {t} -1.0, {t} {f}",
            f"{result} = select i1 {c}, {t} 1.0, {t} {g}",
        ]  # fmt: skip
        return result


def _pieces(row: int) -> list[tuple[int, int]]:
    """A row as parts that are whole vectors: where each begins, and how long it is."""
    found, start = [], 0
    for width in (8, 4, 2, 1):
        length = row - start & -width
        if length:
            found.append((start, length))
        start += length
    return found


def _nest_code(operands: int, outer: int, row: int) -> str:
    """The function `kernel`: `outer` loops around calls of @row. Its sizes are the axes from the outermost to the innermost, which has
    `row` numbers unless that is 0."""
    f = LoopFunction("kernel", operands, outer + 1)
    steps = [[f.step(i, d) for d in range(outer + 1)] for i in range(operands)]
    places = f.arrays
    with contextlib.ExitStack() as loops:
        for d in range(outer):
            j = loops.enter_context(f.loop(0, f.sizes[d]))
            places = [f.at(p, f.op("mul", j, own[d])) for p, own in zip(places, steps, strict=True)]
        inner = [own[outer] for own in steps]
        parts: list[tuple[int, Any]] = [*_pieces(row)] or [(0, f.sizes[outer])]
        for start, length in parts:
            moved = [f.at(p, f.op("mul", start, step)) for p, step in zip(places, inner, strict=True)]
            f.call(Function("row"), length, *itertools.chain(*zip(moved, inner, strict=True)))
    return f.code()
