"""The text of a CUDA kernel for element-wise calls and reductions of one trace, and the numbers that it is launched with.

A kernel iterates over *rows*, and along each over what is *reduced*. Element-wise calls alone have rows of one element, each its
thread's. Else a row is shared by the lanes of a block: for each level of sums (a softmax has two, the maximum and the sum behind it) the
lanes pass along the row once, and add up what they have found as a tree, always in the same order, without atomics. What is wanted of
whole rows is written in a last pass. Loads and calls that do not depend on the place in the row stand before the passes.

Sizes, strides and numbers are arguments (a struct), so that a text depends on the calls, the types, and along which axes operands
are constant or contiguous, and not on shapes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from anynet_backends import short_floats
from anynet_backends.jit.cuda_expressions import FLOATS, INTEGERS, REGISTERS, SHORT, STORED, TYPES, expression
from anynet_backends.jit.cuda_operands import Cluster, Operand, contiguous, joined, loop_letter, operands_of
from anynet_backends.jit.cuda_random import WORD
from anynet_backends.jit.instructions import Instruction, Variable
from anynet_backends.jit.iteration import REDUCTIONS, Atom, NotBlocked, reduced_atoms

__all__ = ["KernelText"]

NAME: Final = "anynet_fused"
_MOST_CALLS: Final = 256
_PRELUDE: Final = """
#include <cuda_{1}.h>
__device__ __forceinline__ float to_{0}(float x) {{ return __{0}2float(__float2{0}_rn(x)); }}
__device__ __forceinline__ float to_{0}(double x) {{ return __{0}2float(__double2{0}(x)); }}
"""
_HEADERS: Final = {"e": "fp16", "E": "bf16"}
_LANES: Final = """
struct Sum { template <class T> static __device__ T of(T a, T b) { return a + b; } };
struct Largest { template <class T> static __device__ T of(T a, T b) { return a != a ? a : b != b ? b : a > b ? a : b; } };
struct Smallest { template <class T> static __device__ T of(T a, T b) { return a != a ? a : b != b ? b : a < b ? a : b; } };
template <class F, class T> __device__ T over_lanes(T v, T* shared, int lane, int lanes, int row, int rows) {
    shared[lane * rows + row] = v;
    __syncthreads();
    for (int n = lanes / 2; n > 0; n /= 2) {
        if (lane < n) shared[lane * rows + row] = F::of(shared[lane * rows + row], shared[(lane + n) * rows + row]);
        __syncthreads();
    }
    v = shared[row];
    __syncthreads();
    return v;
}
"""
_FOLDS: Final = {"sum": "Sum", "mean": "Sum", "max": "Largest", "min": "Smallest"}


class KernelText:
    """The text of a cluster's kernel, with the values of its arguments."""

    def __init__(self, cluster: Cluster, wide: bool) -> None:
        """`wide`: whether places need 64 bits."""
        self.cluster, self.wide = cluster, wide
        self.calls = {c.out.var: c for c in cluster.calls}  # type: ignore[union-attr]
        if len(self.calls) > _MOST_CALLS:
            raise NotBlocked("too long")
        self.gone = set(cluster.reduced)
        self.single: list[float] = []
        self.double: list[float] = []
        self.whole: list[int] = []
        self.cells: dict[Any, str] = {}
        self.count = 0
        self.row_values: dict[int, str] = {}
        self.loop_values: dict[int, str] = {}
        self.row_lines: list[str] = []
        self.loop_lines: list[str] = []
        self.levels: dict[int, int] = {}
        self.totals: dict[int, str] = {}
        self.short: set[str] = set()  # the types of 16 bits, by their letters
        self.draws = False
        """Whether it draws random words, and has their seed and step as arguments."""
        self.shared: set[str] = set()
        self.inputs: list[Operand] = []
        self.places: dict[int, int] = {}
        self._lay_out()
        self.text = self._rows() if self.gone else self._elements()

    # ---- the arguments ----

    def _integer(self, value: int, *key: Any) -> str:
        """An integer, in the cell that is its own, whatever others are equal to it: texts must not depend on shapes."""
        if key not in self.cells:
            self.cells[key] = f"f.v[{len(self.whole)}]"
            self.whole.append(value)
        return self.cells[key]

    def _number(self, value: Any, letter: str, *key: Any) -> str:
        if letter == "?":
            return "true" if value else "false"
        if letter in INTEGERS:
            return f"{REGISTERS[letter]}({_literal(int(value), letter)})"
        with np.errstate(all="ignore"):
            rounded = _rounded(value, letter)
        if key not in self.cells:
            own = self.double if letter == "d" else self.single
            self.cells[key] = f"f.{'d' if letter == 'd' else 's'}[{len(own)}]"
            own.append(rounded)
        return self.cells[key]

    # ---- where operands lie ----

    def _lay_out(self) -> None:
        """Steps of all operands along the axes, which are joined where all of them allow it."""
        c = self.cluster
        used = {v for call in c.calls for v in call.reads}
        self.inputs = [c.operands[v] for v in sorted(used) if v in c.operands]
        steps: dict[Any, dict[Atom, int]] = {}
        for o in self.inputs:
            steps["in", o.variable.var] = self._steps(o.variable, o.strides)
        for x in c.wanted:
            steps["out", x.var] = self._steps(x, contiguous(x.shape))
        for call in c.calls:
            if call.name in ("arange", "random_words"):
                steps["at", call.out.var] = self._steps(call.out, (1,))  # type: ignore[union-attr, arg-type]
        sizes = {("in", o.variable.var): o.variable.size for o in self.inputs} | {
            ("out", x.var): x.size for x in c.wanted
        }
        # the first of the largest; results before operands, since writes are best together
        main = steps[max(sizes, key=lambda k: (sizes[k], k[0] == "out", -k[1]))]
        self.row_dims, self.row_steps = joined(c.rows, main, steps)
        self.loop_dims, self.loop_steps = joined(c.reduced, main, steps)
        nearest = min((s for a, s in main.items() if s and a.size > 1 and a in self.gone), default=0)
        self.across = bool(self.gone) and nearest != 1 and any(main.get(a) == 1 for a in c.rows)

    def _steps(self, x: Variable, strides: Sequence[int]) -> dict[Atom, int]:
        found: dict[Atom, int] = {}
        for own, step in zip(self.cluster.axes.atoms(x.var), strides, strict=True):
            for a in reversed(own):
                found[a] = found.get(a, 0) + step
                step *= a.size
        if set(found) - self.gone - set(self.cluster.rows):
            raise NotBlocked("axes")
        return found

    def _place(self, kind: str, var: int, offset: int, *, loop: bool) -> str:
        """The place of the current element of an operand."""
        terms = [self._integer(offset, kind, var)] if offset else []
        for letter, dims, steps in (
            ("k", self.row_dims, self.row_steps),
            ("a", self.loop_dims, self.loop_steps),
        ):
            if letter == "a" and not loop:
                continue
            for i in range(len(dims)):
                step = steps[kind, var][i]
                if step:
                    terms.append(
                        f"{letter}{i}"
                        if step == 1
                        else f"{letter}{i} * {self._integer(step, kind, var, letter, i)}"
                    )
        return " + ".join(terms) or "0"

    # ---- values ----

    def _in_row(self, x: Variable) -> bool:
        """Whether it differs along the row."""
        return any(a in self.gone for own in self.cluster.axes.atoms(x.var) for a in own)

    def _name(self, row: bool) -> str:
        self.count += 1
        return f"{'r' if row else 't'}{self.count}"

    def value(self, x: Any, letter: str, *key: Any) -> str:
        """An operand of a call in registers of a type. `key`: whose operand, and which."""
        if not isinstance(x, Variable):
            return self._number(x.item() if isinstance(x, np.generic) else x, letter, letter, *key)
        if x.var not in self.calls and x.var not in self.cluster.operands:
            if x.value is None or x.ndim:
                raise NotBlocked("constant")
            return self._number(x.value.item(), letter, letter, *key)
        text = self._known(x)
        own = x.dtype.char
        if own == letter or (letter not in SHORT and REGISTERS[own] == REGISTERS[letter]):
            return text
        return self._short(text, letter) if letter in SHORT and own != "?" else f"{REGISTERS[letter]}({text})"

    def _short(self, text: str, letter: str) -> str:
        """A number rounded to a type of 16 bits."""
        self.short.add(letter)
        return f"to_{SHORT[letter]}({text})"

    def _known(self, x: Variable) -> str:
        loop = self._in_row(x)
        memo, lines = (self.loop_values, self.loop_lines) if loop else (self.row_values, self.row_lines)
        if x.var in memo:
            return memo[x.var]
        letter = x.dtype.char
        if letter not in REGISTERS:
            raise NotBlocked(x.dtype)
        if x.var in self.cluster.operands:
            o = self.cluster.operands[x.var]
            at = f"p{self._pointer(o)}[{self._place('in', x.var, o.offset, loop=loop)}]"
            text = at
            if letter in SHORT:
                self.short.add(letter)
                text = f"__{SHORT[letter]}2float({at})"
        elif self.calls[x.var].name in REDUCTIONS:
            call = self.calls[x.var]
            if reduced_atoms(call, self.cluster.axes):
                raise NotBlocked("order")
            text = self.value(call.args[0], letter, x.var)  # of one number
        else:
            text = self._called(self.calls[x.var], loop)
        name = self._name(not loop)
        lines.append(f"const {REGISTERS[letter]} {name} = {text};")
        memo[x.var] = name
        return name

    def _called(self, call: Instruction, loop: bool) -> str:
        """The expression of an element-wise call, in its result's type."""
        out: Any = call.out
        if call.name == "arange":
            return self._counted(call, loop)
        if call.name == "random_words":
            return self._drawn(call, loop)
        if call.name in _VIEWED:
            return self.value(call.args[0], out.dtype.char, out.var)
        letter = loop_letter(call)
        if letter is None:
            raise NotBlocked(call.name)
        name, given = operands_of(call)
        if name == "maximum" and call.name == "clip" and letter == "?":
            raise NotBlocked(name)
        texts = [
            self.value(x, "?" if name == "where" and i == 0 else letter, out.var, i)
            for i, x in enumerate(given)
        ]
        text = expression(name, letter)
        if text is None:
            raise NotBlocked(name)
        text = text.format(*texts, t=REGISTERS[letter])
        own = out.dtype.char
        if own in SHORT and name not in (
            "copy",
            "where",
            "negative",
            "positive",
            "abs",
            "clip",
            "maximum",
            "minimum",
        ):
            return self._short(text, own)
        return text if REGISTERS[own] == REGISTERS[letter] else f"{REGISTERS[own]}({text})"

    def _counted(self, call: Instruction, loop: bool) -> str:
        out: Any = call.out
        places = enumerate(("start", "stop", "step"))
        start, stop, step = [call.args[i] if i < len(call.args) else call.kwargs.get(k) for i, k in places]
        if stop is None:
            start, stop = 0, start
        step = 1 if step is None else step
        if not isinstance(start, int) or not isinstance(step, int) or out.dtype.char not in INTEGERS:
            raise NotBlocked("arange")
        kind = REGISTERS[out.dtype.char]
        first, by = self._integer(start, "start", out.var), self._integer(step, "step", out.var)
        return f"{kind}({first} + {by} * ({self._place('at', out.var, 0, loop=loop)}))"

    def _drawn(self, call: Instruction, loop: bool) -> str:
        """A word of a stream, so many steps behind the position of the call."""
        self.draws = True
        out: Any = call.out
        stream, offset = (
            self._integer(n, name, out.var) for n, name in zip(call.args, ("stream", "step"), strict=True)
        )
        return (
            f"random_word({self._place('at', out.var, 0, loop=loop)}, key0, key1, step + {offset}, {stream})"
        )

    def _pointer(self, o: Operand) -> int:
        return self.places.setdefault(o.variable.var, len(self.places))

    # ---- the text ----

    def _store(self, x: Variable, loop: bool) -> str:
        value = self.value(x, x.dtype.char)
        if x.dtype.char in SHORT:
            self.short.add(x.dtype.char)
            value = f"__float2{SHORT[x.dtype.char]}_rn({value})"
        return f"y{self.cluster.wanted.index(x)}[{self._place('out', x.var, 0, loop=loop)}] = {value};"

    def _elements(self) -> str:
        n = self._integer(math.prod(self.row_dims), "rows")
        stores = [self._store(x, False) for x in self.cluster.wanted]
        body = [*self._decoded("k", "i", self.row_dims), *self.row_lines, *stores]
        return self._function(
            [
                f"for (I i = (I)blockIdx.x * blockDim.x + threadIdx.x; i < {n}; i += (I)gridDim.x * blockDim.x) {{",
                *("    " + line for line in body),
                "}",
            ]
        )

    def _decoded(self, letter: str, index: str, dims: Sequence[int]) -> list[str]:
        """Statements that take a number apart into places along axes."""
        if len(dims) < 2:
            return [f"const I {letter}0 = {index};"] if dims else []
        lines = [f"I {index}_ = {index};"]
        for i in range(len(dims) - 1, 0, -1):
            n = self._integer(dims[i], letter, i)
            lines += [f"const I {letter}{i} = {index}_ % {n};", f"{index}_ /= {n};"]
        return [*lines, f"const I {letter}0 = {index}_;"]

    def _level(self, x: Any) -> int:
        """How many passes along the row it takes to know it."""
        if not isinstance(x, Variable) or x.var not in self.calls:
            return 0
        if x.var not in self.levels:
            call = self.calls[x.var]
            found: list[Any] = [a for a in (*call.args, *call.kwargs.values()) if isinstance(a, Variable)]
            level = max((self._level(a) for a in found), default=0)
            sums = call.name in REDUCTIONS and bool(reduced_atoms(call, self.cluster.axes))
            self.levels[x.var] = level + sums
        return self.levels[x.var]

    def _rows(self) -> str:
        c = self.cluster
        count = self._integer(math.prod(self.row_dims), "rows")
        local, lane, rows, lanes = ("x", "y", "x", "y") if self.across else ("y", "x", "y", "x")
        head = [
            f"const int own = threadIdx.{local}, lane = threadIdx.{lane}, rows = blockDim.{rows}, lanes = blockDim.{lanes};",
            "const I row = (I)blockIdx.x * rows + own;",
            f"const bool there = row < {count};",
            f"const I i = there ? row : {count} - 1;",
            *self._decoded("k", "i", self.row_dims),
        ]
        n = self._integer(math.prod(self.loop_dims), "reduced")
        if c.parts:
            head += [
                f"const I begin = (I)((i64){n} * blockIdx.y / gridDim.y) + lane, "
                f"end = (I)((i64){n} * (blockIdx.y + 1) / gridDim.y);"
            ]
        span = "j = begin; j < end" if c.parts else f"j = lane; j < {n}"
        sums = [x for x in c.calls if x.name in REDUCTIONS and reduced_atoms(x, c.axes)]
        body: list[str] = []
        for level in range(1, 2 if c.parts else 1 + max((self._level(s.out) for s in sums), default=0)):
            body += self._pass([s for s in sums if self._level(s.out) == level], span)
        if c.parts:
            for at, x in enumerate(c.wanted):
                place = self._place("out", x.var, 0, loop=False)
                body.append(
                    f"if (there && lane == 0) y{at}[(I)blockIdx.y * {count} + {place}] = {self.totals[x.var]};"
                )
            return self._function([*head, *body])
        whole = [x for x in c.wanted if self._in_row(x)]
        if whole:
            self.loop_values, self.loop_lines, self.row_lines = {}, [], []
            stores = [self._store(x, True) for x in whole]
            body += [
                *self.row_lines,
                *self._loop(span, [*self.loop_lines, *(f"if (there) {s}" for s in stores)]),
            ]
        self.row_lines = []
        stores = [self._store(x, False) for x in c.wanted if not self._in_row(x)]
        if stores:
            body += [*self.row_lines, *(f"if (there && lane == 0) {s}" for s in stores)]
        return self._function([*head, *body])

    def _loop(self, span: str, lines: Sequence[str]) -> list[str]:
        inner = [*self._decoded("a", "j", self.loop_dims), *lines]
        return [f"for (I {span}; j += lanes) {{", *("    " + line for line in inner), "}"]

    def _pass(self, sums: list[Instruction], span: str) -> list[str]:
        """One pass along the row, which gives these sums."""
        self.loop_values, self.loop_lines, self.row_lines = {}, [], []
        begins, steps, ends = [], [], []
        for s in sums:
            out: Any = s.out
            letter, fold = out.dtype.char, _FOLDS[s.name]
            if letter not in FLOATS | INTEGERS or (s.name == "mean" and letter not in FLOATS):
                raise NotBlocked(s.name)
            kind = REGISTERS[letter]
            total = self.totals[out.var] = f"total{len(self.totals)}"
            x = self.value(s.args[0], "f" if letter in SHORT else letter, out.var)
            begins.append(f"{kind} {total} = {_identity(s.name, letter)};")
            steps.append(f"{total} = {fold}::of({total}, {kind}({x}));")
            self.shared.add(kind)
            ends.append(f"{total} = over_lanes<{fold}>({total}, {_shared(kind)}, lane, lanes, own, rows);")
            if not self.cluster.parts:
                text = total
                over = s.kwargs.get("over")
                if s.name == "mean":
                    over = math.prod(a.size for a in reduced_atoms(s, self.cluster.axes))
                if over:
                    text += f" / {kind}({self._integer(over, 'mean', out.var)})"
                name = self._name(True)
                if letter in SHORT and s.name in ("sum", "mean"):
                    text = self._short(text, letter)
                ends.append(f"const {kind} {name} = {text};")
                self.row_values[out.var] = name
        return [*begins, *self.row_lines, *self._loop(span, [*self.loop_lines, *steps]), *ends]

    def _function(self, body: Sequence[str]) -> str:
        c = self.cluster
        order = sorted(self.places.items(), key=lambda p: p[1])
        self.used = [c.operands[v] for v, _ in order]
        given = [f"const {STORED[o.variable.dtype.char]}* __restrict__ p{i}" for i, o in enumerate(self.used)]
        written = [STORED[x.dtype.char] if not c.parts else REGISTERS[x.dtype.char] for x in c.wanted]
        given += [f"{kind}* __restrict__ y{i}" for i, kind in enumerate(written)]
        if self.draws:
            given += ["u64 key0", "u64 key1", "u64 step", "const u64* cells"]
        cells: list[tuple[str, str, list[Any]]] = [
            ("double", "d", self.double), ("float", "s", self.single), ("I", "v", self.whole),
        ]  # fmt: skip
        # named after what it holds, as a type is everywhere what its name says
        form = f"Form{len(self.double)}_{len(self.single)}_{len(self.whole)}{'w' * self.wide}"
        fields = " ".join(f"{kind} {name}[{len(own)}];" for kind, name, own in cells if own)
        shared = [f"    __shared__ {kind} {_shared(kind)}[1024];" for kind in sorted(self.shared)]
        return "".join(
            [
                TYPES,
                f"typedef {'i64' if self.wide else 'i32'} I;\nstruct {form} {{ {fields} }};\n",
                *(_PRELUDE.format(SHORT[s], _HEADERS[s]) for s in sorted(self.short)),
                _LANES if self.gone else "",
                WORD if self.draws else "",
                f'extern "C" __global__ void {NAME}({", ".join(given)}, const {form} f) {{\n',
                "".join(line + "\n" for line in shared),
                _AT_CELLS if self.draws else "",
                "".join(f"    {line}\n" for line in body),
                "}\n",
            ]
        )

    def form(self) -> Any:
        """The values of the struct of numbers."""
        integer = np.int64 if self.wide else np.int32
        cells: list[tuple[str, Any, list[Any]]] = [
            ("d", np.float64, self.double), ("s", np.float32, self.single), ("v", integer, self.whole),
        ]  # fmt: skip
        fields = [(name, kind, (len(own),)) for name, kind, own in cells if own]
        made = np.zeros((), np.dtype(fields, align=True))
        for name, _, own in cells:
            if own:
                made[name] = own
        return made[()]


_AT_CELLS: Final = "    if (cells) { key0 = cells[0]; key1 = cells[1]; step += cells[2]; }\n"
"""In a graph the position of random words lies on the device (`cuda_capture`)."""

_VIEWED: Final = frozenset(
    ("reshape", "expand_dims", "squeeze", "permute_dims", "transpose", "matrix_transpose", "getitem")
)


def _rounded(value: Any, letter: str) -> float:
    """A number as the nearest one of a type."""
    if letter == "E":
        return float(short_floats.rounded(np, np.asarray(value, np.float32), "bfloat16"))
    return float(np.dtype(letter).type(value))


def _shared(kind: str) -> str:
    return f"shared_{kind}"


def _identity(name: str, letter: str) -> str:
    if name in ("sum", "mean"):
        return "0"
    least = name == "max"
    if letter in FLOATS:
        return f"__int_as_float(0x{'ff' if least else '7f'}800000)"
    info = np.iinfo(np.dtype(letter))
    return _literal(int(info.min if least else info.max), letter)


def _literal(value: int, letter: str) -> str:
    if value == -(1 << 63):
        return "(-9223372036854775807LL - 1)"
    return f"{value}{'ULL' if letter in 'LQ' else 'LL'}"
