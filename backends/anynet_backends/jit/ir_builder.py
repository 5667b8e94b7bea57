"""Functions written in LLVM's assembly language, and called on arrays.

`Function` writes the text: values are noted one after the other, loops are ``with`` blocks, and variables are places on the stack, which
LLVM turns into registers. What it compiles to takes the arguments of NumPy's inner loops (addresses of arrays, sizes, strides, data),
and a `Loop` calls it.
"""

from __future__ import annotations

import ast
import ctypes
import functools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.jit.compiler import compiler
from anynet_backends.jit.native_function import data_pointer, fast_data_pointer
from anynet_backends.jit.parallel import LEAST_ALONE, shared_loop, team_for
from anynet_backends.jit.segment import KernelCall, LoopArgs, Parts
from anynet_backends.memory.outputs import empty_output

__all__ = ["LANES", "Function", "Loop", "LoopFunction", "Operand", "Value", "elementwise"]

LANES: Final = 16
"""Numbers in a vector. LLVM makes of it what the processor has, so that sums are the same on each."""


class Value(NamedTuple):
    """A value of a function: its type, and its name or itself."""

    type: str
    name: str

    def __str__(self) -> str:
        return f"{self.type} {self.name}"


Operand = Value | int
"""A whole number of Python's is an i64."""


def _value(x: Operand) -> Value:
    return x if isinstance(x, Value) else Value("i64", str(x))


class Function:
    """The text of a function; `params`: types and names."""

    def __init__(self, name: str, *params: tuple[str, str], gives: str = "void") -> None:
        self.name, self.params, self.gives = name, params, gives
        self.places: list[str] = []
        self.lines: list[str] = []
        self.count = 0
        self.block = "entry"
        self.end = "ret void" if gives == "void" else f"ret {gives} 0"

    def argument(self, name: str) -> Value:
        """A parameter by its name."""
        return Value(next(t for t, n in self.params if n == name).split()[0], f"%{name}")

    def op(self, instruction: str, *args: Operand, gives: str = "") -> Value:
        """An instruction on values of one type, which it gives unless it `gives` another."""
        first, *rest = map(_value, args)
        made = self.new(gives or first.type)
        self.lines.append(f"  {made.name} = {instruction} {first}{''.join(f', {a.name}' for a in rest)}")
        return made

    def new(self, kind: str) -> Value:
        """A name for a value."""
        self.count += 1
        return Value(kind, f"%v{self.count}")

    def assigned(self, kind: str, text: str) -> Value:
        """A value by an instruction as it stands."""
        made = self.new(kind)
        self.lines.append(f"  {made.name} = {text}")
        return made

    def at(self, place: Value, index: Operand, kind: str = "i8") -> Value:
        """The place `index` numbers of a type further on; without a type, bytes."""
        return self.assigned("ptr", f"getelementptr inbounds {kind}, {place}, {_value(index)}")

    def load(self, kind: str, place: Value, index: Operand | None = None) -> Value:
        """The number at a place, or `index` numbers further on."""
        single = kind.split(" x ")[-1].rstrip(">")
        place = place if index is None else self.at(place, index, single)
        align = f", align {_SIZES[single]}"
        return self.assigned(kind, f"load {kind}, {place}{align}")

    def store(self, value: Value, place: Value, index: Operand | None = None) -> None:
        """Write a number at a place, or `index` numbers further on."""
        single = value.type.split(" x ")[-1].rstrip(">")
        place = place if index is None else self.at(place, index, single)
        self.lines.append(f"  store {value}, {place}, align {_SIZES[single]}")

    def variable(self, first: Operand) -> Value:
        """A place on the stack with a first value."""
        first = _value(first)
        made = self.new("ptr")
        self.places.append(f"  {made.name} = alloca {first.type}")
        self.lines.append(f"  store {first}, {made}")
        return made

    def get(self, variable: Value, kind: str) -> Value:
        """The value of a variable."""
        return self.assigned(kind, f"load {kind}, {variable}")

    def put(self, variable: Value, value: Value) -> None:
        """Another value for a variable."""
        self.lines.append(f"  store {value}, {variable}")

    def add_to(self, variable: Value, value: Value) -> None:
        """Add a real number to a variable."""
        self.put(variable, self.op("fadd", self.get(variable, value.type), value))

    def call(self, other: Function, *args: Operand) -> None:
        """Call another function."""
        self.lines.append(f"  call void @{other.name}({', '.join(map(str, map(_value, args)))})")

    def answer(self, value: Value) -> None:
        """What the function gives, instead of 0."""
        self.end = f"ret {value}"

    def spread(self, x: Value) -> Value:
        """A vector full of a number."""
        vector = f"<{LANES} x {x.type}>"
        one = self.assigned(vector, f"insertelement {vector} poison, {x}, i64 0")
        return self.assigned(vector, f"shufflevector {one}, {vector} poison, <{LANES} x i32> zeroinitializer")

    def lanes(self, vector: Value, start: int, count: int) -> Value:
        """Some neighbouring numbers of a vector; one of them as a number."""
        t = vector.type.split(" x ")[-1].rstrip(">")
        if count == 1:
            return self.assigned(t, f"extractelement {vector}, i64 {start}")
        mask = ", ".join(f"i32 {i}" for i in range(start, start + count))
        return self.assigned(
            f"<{count} x {t}>", f"shufflevector {vector}, {vector.type} poison, <{count} x i32> <{mask}>"
        )

    def total(self, vector: Value) -> Value:
        """The sum of the numbers of a vector, one after the other."""
        t = vector.type.split(" x ")[-1].rstrip(">")
        short = {"float": "f32", "double": "f64"}[t]
        return self.assigned(t, f"call {t} @llvm.vector.reduce.fadd.v{LANES}{short}({t} 0.0, {vector})")

    def formula(self, text: str, kind: str, **values: Value) -> Value:
        """A real number by a formula in Python's words: + - * /, ``a if a > b else c``, exp and log (those of elementary.ll) and double, in
        their order. `kind`: the type of its constants."""
        return self._computed(_parsed(text), kind, values)

    def _computed(self, node: Any, kind: str, values: dict[str, Value]) -> Value:
        if isinstance(node, ast.Name):
            return values[node.id]
        if isinstance(node, ast.Constant):
            return Value(kind, str(node.value))
        if isinstance(node, ast.BinOp):
            parts = [self._computed(part, kind, values) for part in (node.left, node.right)]
            return self.op(_ARITHMETIC[type(node.op)], *parts)
        if isinstance(node, ast.IfExp):
            test: Any = node.test
            given = (test.left, test.comparators[0], node.body, node.orelse)
            a, b, first, second = [self._computed(part, kind, values) for part in given]
            more = self.op("fcmp ogt", a, b, gives="i1")
            return self.assigned(first.type, f"select {more}, {first}, {second}")
        x = self._computed(node.args[0], kind, values)
        if node.func.id == "double":
            return x if x.type == "double" else self.assigned("double", f"fpext {x} to double")
        return self.assigned("float", f"call float @an_{node.func.id}({x})")

    def smaller(self, a: Operand, b: Operand) -> Value:
        """The smaller of two whole numbers."""
        less = self.op("icmp slt", a, b, gives="i1")
        return self.assigned("i64", f"select {less}, {_value(a)}, {_value(b)}")

    @contextmanager
    def loop(self, start: Operand, end: Operand, step: int = 1) -> Iterator[Value]:
        """The lines of the block for start, start + step, … below end."""
        start = _value(start)
        self.count += 1
        head, body, after = (f"{name}{self.count}" for name in ("head", "body", "after"))
        index, then = Value("i64", f"%i{self.count}"), f"%n{self.count}"
        self.lines += [f"  br label %{head}", f"{head}:"]
        at = len(self.lines)
        before = self.block
        more = self.op("icmp slt", index, end, gives="i1")
        self.lines += [f"  br {more}, label %{body}, label %{after}", f"{body}:"]
        self.block = body
        yield index
        self.lines += [f"  {then} = add nsw i64 {index.name}, {step}", f"  br label %{head}", f"{after}:"]
        self.lines.insert(
            at, f"  {index.name} = phi i64 [ {start.name}, %{before} ], [ {then}, %{self.block} ]"
        )
        self.block = after

    def code(self) -> str:
        """The text."""
        params = ", ".join(f"{t} %{n}" for t, n in self.params)
        kind = "internal " if self.gives == "void" else ""
        body = "\n".join((*self.places, *self.lines))
        return f"define {kind}{self.gives} @{self.name}({params}) {{\nentry:\n{body}\n  {self.end}\n}}\n"


class LoopFunction(Function):
    """A function as `Loop` calls it, of so many arrays and sizes: their values, the strides by `step`, and the place of the `data`."""

    def __init__(self, name: str, arrays: int, sizes: int) -> None:
        super().__init__(
            name, ("ptr", "args"), ("ptr", "dims"), ("ptr", "steps"), ("ptr", "data"), gives="i64"
        )
        self.arrays = [self.load("ptr", self.argument("args"), i) for i in range(arrays)]
        self.sizes = [self.load("i64", self.argument("dims"), i) for i in range(sizes)]
        self.data = self.argument("data")

    def step(self, array: int, axis: int = 0) -> Value:
        """How far apart in an array, in bytes, the parts for numbers of a size are."""
        return self.load("i64", self.argument("steps"), len(self.sizes) * array + axis)


_ARITHMETIC: Final[dict[type, str]] = {ast.Add: "fadd", ast.Sub: "fsub", ast.Mult: "fmul", ast.Div: "fdiv"}


@functools.cache
def _parsed(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def elementwise(name: str, t: str, arrays: str, numbers: str = "", **results: str) -> Function:
    """The function (arrays …, numbers …, n) that writes each of n elements of the `results`, arrays among the others, by formulas: ``y="(x
    - m) * a"``. All are of the type t but for arrays with another one behind a colon."""
    kinds = {a: kind or t for a, _, kind in (word.partition(":") for word in arrays.split())}
    single = numbers.split()
    f = Function(name, *[("ptr noalias", a) for a in kinds], *[(t, a) for a in single], ("i64", "n"))
    values = {a: f.argument(a) for a in single}
    with f.loop(0, f.argument("n")) as i:
        values |= {a: f.load(kind, f.argument(a), i) for a, kind in kinds.items()}
        for made, a in [(f.formula(text, t, **values), f.argument(a)) for a, text in results.items()]:
            f.store(made, a, i)
    return f


_SIZES: Final = {"float": 4, "double": 8, "i64": 8, "ptr": 8}
_call = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 4)


class Loop:
    """A function of (addresses of arrays, sizes, strides, data) for arrays of given forms, which may lie anywhere. The last of
    them are its results, whose shapes and dtypes `makes` has; called with the others, it makes and returns these.

    `sizes` and `strides` (in bytes, for each array as many as there are sizes, the last zeros left out) begin with an axis that
    OpenMP's threads share where there is much `work`, in bytes that are moved in that time. The call lets go of the interpreter's lock."""

    def __init__(
        self,
        function: int,
        sizes: Sequence[int],
        strides: Sequence[Sequence[int]],
        data: Array,
        work: int,
        makes: Sequence[tuple[tuple[int, ...], Any]],
    ) -> None:
        axes = len(sizes)
        self.sizes = np.array(sizes, np.int64)
        self.strides = np.zeros((len(strides), axes), np.int64)
        for row, steps in zip(self.strides, strides, strict=True):
            row[: len(steps)] = steps
        self.data, self.makes = data, makes
        self.alone = _call(function), data_pointer(data)
        self.shared: tuple[Any, int] | None = None
        self.head = function, data_pointer(data), len(strides), axes
        self.work = work if sizes[0] > 1 else 0
        self.large = self.work >= LEAST_ALONE
        self.rest = data_pointer(self.sizes), data_pointer(self.strides)
        self.places, self.address = ctypes.c_void_p * len(strides), fast_data_pointer()

    def __call__(self, *given: Array) -> Any:
        made = [empty_output(shape, dtype) for shape, dtype in self.makes]
        self.run(*given, *made)
        return made[0] if len(made) == 1 else tuple(made)

    def run(self, *arrays: Array) -> None:
        """The call on arguments and results."""
        function, data = self.shared or (self._over_threads() if self.large else self.alone)
        function(self.places(*map(self.address, arrays)), *self.rest, data)

    def calls(self, out: Any, *given: Array) -> list[Any]:
        """The calls of a program that write the results into `out`."""
        return [(self.run, (*given, *(out if isinstance(out, tuple) else (out,))))]

    def row(self, *arrays: Array) -> KernelCall:
        """The call of `run` as a row of a segment."""
        record = LoopArgs(arrays, self.sizes.tolist(), self.strides.reshape(-1).tolist())
        results = range(len(arrays) - len(self.makes), len(arrays))
        steps = tuple(self.strides[:, 0].tolist())
        parts = Parts(*self.head[:2], steps, frozenset(results), whole=True, work=self.work)
        return KernelCall(self.head[0], record, self.head[1], held=self, parts=parts)

    def _over_threads(self) -> tuple[Any, int]:
        """The call on all threads, as soon as there are some that it is worth."""
        team = team_for(self.work)
        if team is None:
            return self.alone
        self.cells = np.array((*self.head, *team), np.int64)
        self.shared = _call(shared_loop()), data_pointer(self.cells)
        return self.shared


@functools.cache
def declared() -> str:
    """The functions of LLVM's that are called."""
    return "".join(
        f"declare {t} @llvm.vector.reduce.fadd.v{LANES}{s}({t}, <{LANES} x {t}>)\ndeclare {t} @llvm.sqrt.{s}({t})\n"
        for t, s in (("float", "f32"), ("double", "f64"))
    )


def compiled(functions: Sequence[Function], name: str, declarations: str = "") -> int:
    """The address of the function of this name. `declarations`: what else is declared or defined, whole lines."""
    own = "".join(line for line in declared().splitlines(keepends=True) if line not in declarations)
    text = own + declarations + "".join(f.code() for f in functions)
    return compiler().functions(text, (name,))[name]


def kinds(dtype: Any) -> str:
    """LLVM's name of a type of real numbers."""
    return "float" if dtype == np.float32 else "double"
