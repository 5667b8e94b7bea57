"""Text of loops in LLVM's assembly language, compiled for this processor.

A `Chain` is a loop over element-wise functions; besides there are the loop that works off a table of functions, a loop
around an inner loop, loops on all threads, the call of oneDNN, and reading and writing by lists of indices. Sums, products,
quotients and roots are those of IEEE 754, none is contracted or reordered. llvmlite compiles (the extra `numba` brings it);
what it makes is kept on disk (`anynet_backends.jit.code_cache`), one file for each text and kind of processor.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends.concurrency import BUILD_LOCK, once
from anynet_backends.jit.code_cache import CodeCache

__all__ = [
    "CASTS",
    "LETTERS",
    "MOST_AXES",
    "MOST_OPERANDS",
    "RULES",
    "SIZE",
    "Chain",
    "Compiler",
    "Op",
    "compiler",
    "version",
]

# ----- chains -----

LETTERS: Final = {
    np.dtype(np.float32): "f",
    np.dtype(np.float64): "d",
    np.dtype(np.int64): "q",
    np.dtype(bool): "?",
}
_LLVM: Final = {"f": "float", "d": "double", "q": "i64", "?": "i1"}
_MEMORY: Final = {**_LLVM, "?": "i8"}
SIZE: Final = {"f": 4, "d": 8, "q": 8, "?": 1}
MOST_OPERANDS, MOST_AXES = 16, 8

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
    "greater_equal": "fcmp oge {t} {0}, {1}", "isnan": "fcmp uno {t} {0}, {0}", "where": "select i1 {0}, {t} {1}, {t} {2}",
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
RULES: Final = {"f": _REAL, "d": _REAL, "q": _INTEGER, "?": _TRUTH}
_COMPARE: Final = frozenset(("equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "isnan"))
CASTS: Final = {
    ("?", "f"): "uitofp i1 {0} to float", ("?", "d"): "uitofp i1 {0} to double", ("?", "q"): "zext i1 {0} to i64",
    ("f", "d"): "fpext float {0} to double", ("d", "f"): "fptrunc double {0} to float",
    ("q", "d"): "sitofp i64 {0} to double", ("q", "f"): "sitofp i64 {0} to float",
}  # fmt: skip
_INTRINSICS: Final = ("fabs", "sqrt", "floor", "ceil", "trunc", "rint")


class Op(NamedTuple):
    """One function of a chain: its name, the type it works in, its arguments (("in", operand) or ("op", number))."""

    name: str
    letter: str
    args: tuple[tuple[str, int], ...]

    @property
    def gives(self) -> str:
        return "?" if self.name in _COMPARE else self.letter


class Chain(NamedTuple):
    """The text of a loop, whatever its sizes: operands as (type, "c" contiguous | "0" the same for a whole row | "s"
    strided), functions, which operand gets which value, and how many loops lie around the innermost."""

    operands: tuple[tuple[str, str], ...]
    ops: tuple[Op, ...]
    stores: tuple[tuple[int, int], ...]
    outer: int

    def code(self) -> str:
        """As LLVM's assembly language."""
        return _chain_code(self)


def _chain_code(chain: Chain) -> str:
    written = {operand for operand, _ in chain.stores}
    lines: list[str] = []
    entry: list[str] = []
    kinds = chain.operands
    params = ", ".join(f"ptr noalias nocapture %p{i}, i64 %s{i}" for i in range(len(kinds)))
    loaded: dict[int, str] = {}
    values: list[tuple[str, str]] = []
    count = [0]

    def name() -> str:
        count[0] += 1
        return f"%v{count[0]}"

    def where(i: int, into: list[str]) -> str:
        letter, kind = kinds[i]
        place = name()
        if kind == "c":
            into.append(f"{place} = getelementptr inbounds {_MEMORY[letter]}, ptr %p{i}, i64 %i")
        else:
            into += [
                f"{place}o = mul i64 %i, %s{i}",
                f"{place} = getelementptr inbounds i8, ptr %p{i}, i64 {place}o",
            ]
        return place

    def load(i: int) -> str:
        if i not in loaded:
            letter, kind = kinds[i]
            once = kind == "0" and i not in written
            into = entry if once else lines
            place = f"%p{i}" if once else where(i, into)
            value = name()
            align = SIZE[letter]
            if letter == "?":
                into += [f"{value}b = load i8, ptr {place}, align 1", f"{value} = icmp ne i8 {value}b, 0"]
            else:
                into.append(f"{value} = load {_LLVM[letter]}, ptr {place}, align {align}")
            loaded[i] = value
        return loaded[i]

    def cast(value: str, letter: str, to: str) -> str:
        if letter == to:
            return value
        new = name()
        lines.append(f"{new} = {CASTS[letter, to].format(value)}")
        return new

    for op in chain.ops:
        args = []
        for place, (source, i) in enumerate(op.args):
            value, letter = (load(i), kinds[i][0]) if source == "in" else values[i]
            truth = op.name == "where" and place == 0
            args.append(value if truth else cast(value, letter, op.letter))
        if op.name == "copy":
            values.append((args[0], op.letter))
            continue
        t, short = _LLVM[op.letter], {"f": "f32", "d": "f64"}.get(op.letter, "")
        if op.name in ("maximum", "minimum"):  # the second where both are equal, a NaN where there is one
            order = "ogt" if op.name == "maximum" else "olt"
            a, b, c, d, e = *args, name(), name(), name()
            result = name()
            lines += [
                f"{c} = fcmp {order} {t} {a}, {b}", f"{d} = select i1 {c}, {t} {a}, {t} {b}",
                f"{e} = fcmp uno {t} {a}, {a}", f"{result} = select i1 {e}, {t} {a}, {t} {d}",
            ]  # fmt: skip
        else:
            result = name()
            lines.append(f"{result} = {RULES[op.letter][op.name].format(*args, t=t, s=short)}")
        values.append((result, op.gives))
    for i, number in chain.stores:
        letter = kinds[i][0]
        value = cast(*values[number], letter)
        target = where(i, lines)
        if letter == "?":
            new = name()
            lines.append(f"{new} = zext i1 {value} to i8")
            value = new
        lines.append(f"store {_MEMORY[letter]} {value}, ptr {target}, align {SIZE[letter]}")
    declared = "\n".join(
        [
            f"declare {t} @llvm.{f}.{s}({t})"
            for f in _INTRINSICS
            for t, s in (("float", "f32"), ("double", "f64"))
        ]
        + [f"declare {t} @llvm.copysign.{s}({t}, {t})" for t, s in (("float", "f32"), ("double", "f64"))]
    )
    body = "\n  ".join(lines)
    head = "\n  ".join(entry)
    return f"""{declared}
define internal void @row(i64 %n, {params}) {{
entry:
  {head}
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %loop, label %end
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  {body}
  %next = add nuw nsw i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}}
define i64 @kernel(ptr %args, ptr %dims, ptr %steps, ptr %data) {{
{_nest_code(len(kinds), chain.outer)}
}}
"""


def _nest_code(operands: int, outer: int) -> str:
    """`outer` loops around calls of @row: dims and steps list the axes from the outermost to the innermost."""
    axes = outer + 1
    text = ["entry:"]
    for d in range(axes):
        text += [
            f"  %dp{d} = getelementptr i64, ptr %dims, i64 {d}", f"  %n{d} = load i64, ptr %dp{d}",
        ]  # fmt: skip
    for i in range(operands):
        text += [f"  %ap{i} = getelementptr ptr, ptr %args, i64 {i}", f"  %a{i}_0 = load ptr, ptr %ap{i}"]
        for d in range(axes):
            text += [
                f"  %sp{i}_{d} = getelementptr i64, ptr %steps, i64 {i * axes + d}",
                f"  %s{i}_{d} = load i64, ptr %sp{i}_{d}",
            ]
    for d in range(outer):
        text += [
            f"  br label %head{d}", f"head{d}:",
            f"  %j{d} = phi i64 [ 0, %{'entry' if d == 0 else f'body{d - 1}'} ], [ %j{d}n, %latch{d} ]",
            f"  %t{d} = icmp slt i64 %j{d}, %n{d}",
            f"  br i1 %t{d}, label %body{d}, label %{'done' if d == 0 else f'latch{d - 1}'}", f"body{d}:",
        ]  # fmt: skip
        for i in range(operands):
            text += [
                f"  %o{i}_{d} = mul i64 %j{d}, %s{i}_{d}",
                f"  %a{i}_{d + 1} = getelementptr i8, ptr %a{i}_{d}, i64 %o{i}_{d}",
            ]
    args = ", ".join(f"ptr %a{i}_{outer}, i64 %s{i}_{outer}" for i in range(operands))
    text.append(f"  call void @row(i64 %n{outer}, {args})")
    for d in range(outer - 1, -1, -1):
        text += [
            f"  br label %latch{d}",
            f"latch{d}:",
            f"  %j{d}n = add i64 %j{d}, 1",
            f"  br label %head{d}",
        ]
    text += ["done:"] if outer else []
    return "\n".join([*text, "  ret i64 0"])


# ----- what is always there: the loop over a table, loops around loops, indexing -----

_FIXED = """
; rows of (function, arguments, dimensions, strides, data, checked); answers the number of the row that failed, or n
define i64 @work(ptr %table, i64 %from, i64 %n) {
entry:
  br label %head
head:
  %i = phi i64 [ %from, %entry ], [ %next, %latch ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %end
body:
  %at = mul i64 %i, 6
  %r0 = getelementptr ptr, ptr %table, i64 %at
  %r1 = getelementptr ptr, ptr %r0, i64 1
  %r2 = getelementptr ptr, ptr %r0, i64 2
  %r3 = getelementptr ptr, ptr %r0, i64 3
  %r4 = getelementptr ptr, ptr %r0, i64 4
  %r5 = getelementptr ptr, ptr %r0, i64 5
  %f = load ptr, ptr %r0
  %a = load ptr, ptr %r1
  %d = load ptr, ptr %r2
  %s = load ptr, ptr %r3
  %x = load ptr, ptr %r4
  %checked = load i64, ptr %r5
  %status = call i64 %f(ptr %a, ptr %d, ptr %s, ptr %x)
  %bad = and i64 %status, %checked
  %fine = icmp eq i64 %bad, 0
  br i1 %fine, label %latch, label %end
latch:
  %next = add i64 %i, 1
  br label %head
end:
  ret i64 %i
}

; the same as a function of Python's: self is a bytes object of (table, n), whose contents begin at BYTES
define ptr @direct(ptr %self, ptr %unused) {
  %p = getelementptr i8, ptr %self, i64 BYTES
  %np = getelementptr i8, ptr %p, i64 8
  %table = load ptr, ptr %p, align 1
  %n = load i64, ptr %np, align 1
  %at = call i64 @work(ptr %table, i64 0, i64 %n)
  %result = call ptr @PyLong_FromLongLong(i64 %at)
  ret ptr %result
}
declare ptr @PyLong_FromLongLong(i64)

; where the numbers of an array lie, as a function of Python's
define ptr @place(ptr %self, ptr %array) {
  %datap = getelementptr i8, ptr %array, i64 16
  %data = load i64, ptr %datap
  %result = call ptr @PyLong_FromLongLong(i64 %data)
  ret ptr %result
}

; a loop over a loop of up to four arguments: dims = (times, arguments, dims of the inner …), steps = (of the outer, one
; an argument, of the inner …), data = (function, data)
define i64 @nest(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %local = alloca [4 x ptr]
  %times = load i64, ptr %dims
  %np = getelementptr i64, ptr %dims, i64 1
  %n = load i64, ptr %np
  %inner = getelementptr i64, ptr %dims, i64 2
  %strides = getelementptr i64, ptr %steps, i64 %n
  %f = load ptr, ptr %data
  %xp = getelementptr ptr, ptr %data, i64 1
  %x = load ptr, ptr %xp
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %kn, %latch ]
  %more = icmp slt i64 %k, %times
  br i1 %more, label %fill, label %end
fill:
  %j = phi i64 [ 0, %head ], [ %jn, %fill ]
  %ap = getelementptr ptr, ptr %args, i64 %j
  %a = load ptr, ptr %ap
  %sp = getelementptr i64, ptr %steps, i64 %j
  %s = load i64, ptr %sp
  %o = mul i64 %s, %k
  %moved = getelementptr i8, ptr %a, i64 %o
  %lp = getelementptr [4 x ptr], ptr %local, i64 0, i64 %j
  store ptr %moved, ptr %lp
  %jn = add i64 %j, 1
  %again = icmp slt i64 %jn, %n
  br i1 %again, label %fill, label %latch
latch:
  call void %f(ptr %local, ptr %inner, ptr %strides, ptr %x)
  %kn = add i64 %k, 1
  br label %head
end:
  ret i64 0
}

; a primitive of oneDNN: args = its arrays, dims = (how many), data = (dnnl_memory_set_data_handle,
; dnnl_primitive_execute, dnnl_stream_wait, primitive, stream, its arguments, memory objects …); answers the status
define i64 @onednn(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %n = load i64, ptr %dims
  %set = load ptr, ptr %data
  %memories = getelementptr ptr, ptr %data, i64 6
  br label %head
head:
  %i = phi i64 [ 0, %entry ], [ %next, %place ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %place, label %run
place:
  %mp = getelementptr ptr, ptr %memories, i64 %i
  %m = load ptr, ptr %mp
  %ap = getelementptr ptr, ptr %args, i64 %i
  %a = load ptr, ptr %ap
  %placed = call i32 %set(ptr %m, ptr %a)
  %next = add i64 %i, 1
  br label %head
run:
  %executep = getelementptr ptr, ptr %data, i64 1
  %execute = load ptr, ptr %executep
  %waitp = getelementptr ptr, ptr %data, i64 2
  %wait = load ptr, ptr %waitp
  %primitivep = getelementptr ptr, ptr %data, i64 3
  %primitive = load ptr, ptr %primitivep
  %streamp = getelementptr ptr, ptr %data, i64 4
  %stream = load ptr, ptr %streamp
  %givenp = getelementptr ptr, ptr %data, i64 5
  %given = load ptr, ptr %givenp
  %n32 = trunc i64 %n to i32
  %status = call i32 %execute(ptr %primitive, ptr %stream, i32 %n32, ptr %given)
  %waited = call i32 %wait(ptr %stream)
  %answer = sext i32 %status to i64
  ret i64 %answer
}

; a function on all threads of OpenMP, each with a part of the outermost axis: data = (function, data, arguments, axes,
; GOMP_parallel, omp_get_thread_num, omp_get_num_threads)
define i64 @shared(ptr %args, ptr %dims, ptr %steps, ptr %data) {
  %all = alloca [4 x ptr]
  %p1 = getelementptr ptr, ptr %all, i64 1
  %p2 = getelementptr ptr, ptr %all, i64 2
  %p3 = getelementptr ptr, ptr %all, i64 3
  store ptr %args, ptr %all
  store ptr %dims, ptr %p1
  store ptr %steps, ptr %p2
  store ptr %data, ptr %p3
  %startp = getelementptr ptr, ptr %data, i64 4
  %start = load ptr, ptr %startp
  call void %start(ptr @share, ptr %all, i32 0, i32 0)
  ret i64 0
}

define internal void @share(ptr %all) {
entry:
  %places = alloca [OPERANDS x ptr]
  %sizes = alloca [AXES x i64]
  %p1 = getelementptr ptr, ptr %all, i64 1
  %p2 = getelementptr ptr, ptr %all, i64 2
  %p3 = getelementptr ptr, ptr %all, i64 3
  %args = load ptr, ptr %all
  %dims = load ptr, ptr %p1
  %steps = load ptr, ptr %p2
  %data = load ptr, ptr %p3
  %f = load ptr, ptr %data
  %xp = getelementptr ptr, ptr %data, i64 1
  %x = load ptr, ptr %xp
  %np = getelementptr i64, ptr %data, i64 2
  %n = load i64, ptr %np
  %axesp = getelementptr i64, ptr %data, i64 3
  %axes = load i64, ptr %axesp
  %minep = getelementptr ptr, ptr %data, i64 5
  %mine = load ptr, ptr %minep
  %manyp = getelementptr ptr, ptr %data, i64 6
  %many = load ptr, ptr %manyp
  %t32 = call i32 %mine()
  %m32 = call i32 %many()
  %t = sext i32 %t32 to i64
  %m = sext i32 %m32 to i64
  %whole = load i64, ptr %dims
  %a = mul i64 %whole, %t
  %from = sdiv i64 %a, %m
  %b = add i64 %a, %whole
  %to = sdiv i64 %b, %m
  %size = sub i64 %to, %from
  %some = icmp sgt i64 %size, 0
  br i1 %some, label %head, label %end
head:
  %i = phi i64 [ 0, %entry ], [ %inext, %operand ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %operand, label %axis
operand:
  %ap = getelementptr ptr, ptr %args, i64 %i
  %place = load ptr, ptr %ap
  %at = mul i64 %i, %axes
  %sp = getelementptr i64, ptr %steps, i64 %at
  %step = load i64, ptr %sp
  %distance = mul i64 %step, %from
  %moved = getelementptr i8, ptr %place, i64 %distance
  %lp = getelementptr ptr, ptr %places, i64 %i
  store ptr %moved, ptr %lp
  %inext = add i64 %i, 1
  br label %head
axis:
  %j = phi i64 [ 0, %head ], [ %jnext, %copy ]
  %left = icmp slt i64 %j, %axes
  br i1 %left, label %copy, label %run
copy:
  %dp = getelementptr i64, ptr %dims, i64 %j
  %d = load i64, ptr %dp
  %op = getelementptr i64, ptr %sizes, i64 %j
  store i64 %d, ptr %op
  %jnext = add i64 %j, 1
  br label %axis
run:
  store i64 %size, ptr %sizes
  %done = call i64 %f(ptr %places, ptr %sizes, ptr %steps, ptr %x)
  br label %end
end:
  ret void
}

; parts of a table on all threads of OpenMP: of (table, bounds of the parts, parts, and these functions as above)
define void @parts(ptr %all) {
  %startp = getelementptr ptr, ptr %all, i64 3
  %start = load ptr, ptr %startp
  call void %start(ptr @part, ptr %all, i32 0, i32 0)
  ret void
}

define internal void @part(ptr %all) {
entry:
  %table = load ptr, ptr %all
  %boundsp = getelementptr ptr, ptr %all, i64 1
  %bounds = load ptr, ptr %boundsp
  %np = getelementptr i64, ptr %all, i64 2
  %n = load i64, ptr %np
  %minep = getelementptr ptr, ptr %all, i64 4
  %mine = load ptr, ptr %minep
  %manyp = getelementptr ptr, ptr %all, i64 5
  %many = load ptr, ptr %manyp
  %t32 = call i32 %mine()
  %m32 = call i32 %many()
  %t = sext i32 %t32 to i64
  %m = sext i32 %m32 to i64
  br label %head
head:
  %i = phi i64 [ %t, %entry ], [ %next, %body ]
  %more = icmp slt i64 %i, %n
  br i1 %more, label %body, label %end
body:
  %fromp = getelementptr i64, ptr %bounds, i64 %i
  %from = load i64, ptr %fromp
  %top = getelementptr i64, ptr %fromp, i64 1
  %to = load i64, ptr %top
  %done = call i64 @work(ptr %table, i64 %from, i64 %to)
  %next = add i64 %i, %m
  br label %head
end:
  ret void
}
"""
for _name, _number in (("BYTES", bytes.__basicsize__ - 1), ("OPERANDS", MOST_OPERANDS), ("AXES", MOST_AXES)):
    _FIXED = _FIXED.replace(_name, str(_number))


def _add_rows_code(name: str, letter: str) -> str:
    """y[i] += values for a list of indices of rows, one after the other; they are known to be in range."""
    t = _MEMORY[letter]
    return f"""
define internal void @{name}_row(ptr noalias %y, ptr noalias %v, i64 %n) {{
entry:
  %some = icmp sgt i64 %n, 0
  br i1 %some, label %loop, label %end
loop:
  %i = phi i64 [ 0, %entry ], [ %next, %loop ]
  %yp = getelementptr {t}, ptr %y, i64 %i
  %vp = getelementptr {t}, ptr %v, i64 %i
  %a = load {t}, ptr %yp
  %b = load {t}, ptr %vp
  %c = fadd {t} %a, %b
  store {t} %c, ptr %yp
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %n
  br i1 %more, label %loop, label %end
end:
  ret void
}}
define i64 @{name}(ptr %args, ptr %dims, ptr %steps, ptr %data) {{
entry:
  %ip = getelementptr ptr, ptr %args, i64 1
  %vp = getelementptr ptr, ptr %args, i64 2
  %y = load ptr, ptr %args
  %index = load ptr, ptr %ip
  %values = load ptr, ptr %vp
  %n = load i64, ptr %dims
  %wp = getelementptr i64, ptr %dims, i64 1
  %width = load i64, ptr %wp
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %kn, %add ]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %add, label %end
add:
  %jp = getelementptr i64, ptr %index, i64 %k
  %j = load i64, ptr %jp
  %yo = mul i64 %j, %width
  %vo = mul i64 %k, %width
  %yr = getelementptr {t}, ptr %y, i64 %yo
  %vr = getelementptr {t}, ptr %values, i64 %vo
  call void @{name}_row(ptr %yr, ptr %vr, i64 %width)
  %kn = add i64 %k, 1
  br label %head
end:
  ret i64 0
}}
"""


_WITHIN = """
define i64 @within(ptr %args, ptr %dims, ptr %steps, ptr %data) {
entry:
  %x = load ptr, ptr %args
  %n = load i64, ptr %dims
  %lp = getelementptr i64, ptr %dims, i64 1
  %length = load i64, ptr %lp
  br label %head
head:
  %k = phi i64 [ 0, %entry ], [ %kn, %body ]
  %wrong = phi i64 [ 0, %entry ], [ %now, %body ]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %body, label %end
body:
  %p = getelementptr i64, ptr %x, i64 %k
  %i = load i64, ptr %p
  %out = icmp uge i64 %i, %length
  %one = zext i1 %out to i64
  %now = or i64 %wrong, %one
  %kn = add i64 %k, 1
  br label %head
end:
  ret i64 %wrong
}
"""
"""1 unless all n numbers of x are from 0 to length − 1."""


def _index_code(name: str, letter: str, scatter: bool) -> str:
    """x[i, j] of a matrix for lists of indices, read into out or written from it; 1 where an index is not in range."""
    t = _MEMORY[letter]
    first, second = ("%out", "%x") if scatter else ("%x", "%out")
    return f"""
define i64 @{name}(ptr %args, ptr %dims, ptr %steps, ptr %data) {{
entry:
  %x0 = load ptr, ptr %args
  %ip = getelementptr ptr, ptr %args, i64 1
  %is = load ptr, ptr %ip
  %jp = getelementptr ptr, ptr %args, i64 2
  %js = load ptr, ptr %jp
  %op = getelementptr ptr, ptr %args, i64 3
  %os = load ptr, ptr %op
  %n = load i64, ptr %dims
  %rp = getelementptr i64, ptr %dims, i64 1
  %rows = load i64, ptr %rp
  %cp = getelementptr i64, ptr %dims, i64 2
  %cols = load i64, ptr %cp
  %s0 = load i64, ptr %steps
  %s1p = getelementptr i64, ptr %steps, i64 1
  %s1 = load i64, ptr %s1p
  %s2p = getelementptr i64, ptr %steps, i64 2
  %s2 = load i64, ptr %s2p
  br label %check
check:
  %c = phi i64 [ 0, %entry ], [ %cn, %fine ]
  %some = icmp slt i64 %c, %n
  br i1 %some, label %ask, label %start
ask:
  %cip = getelementptr i64, ptr %is, i64 %c
  %ci = load i64, ptr %cip
  %cjp = getelementptr i64, ptr %js, i64 %c
  %cj = load i64, ptr %cjp
  %in1 = icmp ult i64 %ci, %rows
  %in2 = icmp ult i64 %cj, %cols
  %in = and i1 %in1, %in2
  br i1 %in, label %fine, label %bad
fine:
  %cn = add i64 %c, 1
  br label %check
bad:
  ret i64 1
start:
  br label %head
head:
  %k = phi i64 [ 0, %start ], [ %kn, %body ]
  %more = icmp slt i64 %k, %n
  br i1 %more, label %body, label %end
body:
  %iip = getelementptr i64, ptr %is, i64 %k
  %i = load i64, ptr %iip
  %jjp = getelementptr i64, ptr %js, i64 %k
  %j = load i64, ptr %jjp
  %o0 = mul i64 %i, %s0
  %o1 = mul i64 %j, %s1
  %o = add i64 %o0, %o1
  %x = getelementptr i8, ptr %x0, i64 %o
  %oo = mul i64 %k, %s2
  %out = getelementptr i8, ptr %os, i64 %oo
  %v = load {t}, ptr {first}
  store {t} %v, ptr {second}
  %kn = add i64 %k, 1
  br label %head
end:
  ret i64 0
}}
"""


class Compiler:
    """LLVM for this processor, with a cache on disk."""

    def __init__(self) -> None:
        self.llvm: Any = import_module("llvmlite.binding")
        llvm = self.llvm
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        self.target = llvm.Target.from_default_triple()
        self.processor = llvm.get_host_cpu_name()
        self.features = llvm.get_host_cpu_features().flatten()
        version = ".".join(map(str, llvm.llvm_version_info))
        self.made_by = (llvm.get_default_triple(), self.processor, self.features, version, _llvmlite())
        self.cache = CodeCache()
        self.engines: list[Any] = []  # code lives as long as they
        self.known: dict[str, dict[str, int]] = {}
        letters = ("f", "d")
        self.fixed = self.functions(
            _FIXED
            + _WITHIN
            + "".join(
                _index_code(f"gather_{a}", a, False)
                + _index_code(f"scatter_{a}", a, True)
                + _add_rows_code(f"add_rows_{a}", a)
                for a in letters
            ),
            (
                "work",
                "direct",
                "place",
                "nest",
                "onednn",
                "shared",
                "parts",
                "within",
                *(f"{f}_{a}" for f in ("gather", "scatter", "add_rows") for a in letters),
            ),
        )
        self.work = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 3)(self.fixed["work"])
        self.parts = ctypes.CFUNCTYPE(None, ctypes.c_int64)(self.fixed["parts"])

    def functions(self, code: str, names: Sequence[str]) -> dict[str, int]:
        """Addresses of the functions of a text of code."""
        with BUILD_LOCK:
            found = self.known.get(code)
            if found is None:
                found = self.known[code] = self._compile(code, names)
            return found

    def kernel(self, chain: Chain) -> int:
        return self.functions(chain.code(), ("kernel",))["kernel"]

    def _compile(self, code: str, names: Sequence[str]) -> dict[str, int]:
        llvm = self.llvm
        key = "\n".join((*self.made_by, code))
        # an engine owns its machine and frees it
        machine = self.target.create_target_machine(cpu=self.processor, features=self.features, opt=3)
        module = llvm.parse_assembly(code)
        module.triple, module.data_layout = llvm.get_default_triple(), str(machine.target_data)
        engine = llvm.create_mcjit_compiler(module, machine)
        kept = self.cache.read(key)
        if kept is None:
            options = llvm.create_pipeline_tuning_options(speed_level=3)
            options.loop_vectorization = options.slp_vectorization = True
            builder = llvm.create_pass_builder(machine, options)
            builder.getModulePassManager().run(module, builder)
        engine.set_object_cache(
            notify_func=lambda _, compiled: self.cache.write(key, compiled) if kept is None else None,
            getbuffer_func=lambda _: kept,
        )
        engine.finalize_object()
        self.engines.append(engine)
        return {name: engine.get_function_address(name) for name in names}


def _llvmlite() -> str:
    return str(getattr(import_module("llvmlite"), "__version__", ""))


def version() -> str:
    """LLVM's."""
    return ".".join(map(str, import_module("llvmlite.binding").llvm_version_info))


@once
def compiler() -> Compiler:
    """The process's compiler."""
    return Compiler()
