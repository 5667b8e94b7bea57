"""An element-wise program (an optimizer's update) as one kernel for CUDA: each thread does to one number what the program does to all.

Nothing is contracted (``--fmad=false``), so that the results are those of the array operations, one by one.
"""

from __future__ import annotations

import functools
import importlib
import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.jit.cuda_expressions import REGISTERS, expression
from anynet_backends.jit.elementwise_program import ElementwiseProgram
from anynet_backends.jit.errors import CompileError
from anynet_backends.jit.fusion import elementwise_call
from anynet_backends.jit.native_function import data_pointer

__all__ = ["bind", "source"]

_TYPES: Final = {letter: REGISTERS[letter] for letter in "?fd"}

_NULL: Final = np.intp(0)


def source(program: ElementwiseProgram) -> str:
    """The kernel ``anynet_update``; CompileError where the program has what is not known here."""
    names = {data_pointer(a): f"a{i}" for i, a in enumerate(program.samples)}
    numbers = {data_pointer(a): f"n{i}" for i, a in enumerate(program.cells)}
    known: dict[tuple[int, str], str] = {}
    written: set[str] = set()

    def letter(a: Any) -> str:
        if a.dtype.char not in _TYPES:
            msg = f"CUDA: numbers of {a.dtype} are not updated by a kernel"
            raise CompileError(msg)
        return str(a.dtype.char)

    def variable(a: Any) -> str:
        kind = letter(a)
        if a.ndim == 0:
            return numbers.get(data_pointer(a)) or _literal(a, kind)
        place = data_pointer(a)
        return names.get(place) or known.setdefault((place, kind), f"t{len(known)}")

    kinds = [_TYPES[letter(a)] for a in program.samples]
    lines = []
    for call in program.calls:
        e = elementwise_call(call)
        name = "" if e is None else e.name if e.ufunc is None else e.ufunc.__name__
        letter_of = "" if e is None else e.letter or e.name[0]
        text = expression(name, letter_of)
        if e is None or text is None:
            msg = f"CUDA: there is no kernel for {getattr(call.f, '__name__', call.f)}"
            raise CompileError(msg)
        kind = _TYPES.get(letter_of) or _TYPES[letter(e.inputs[0])]
        args = [
            f"bool({variable(a)})" if name == "where" and i == 0 else f"{kind}({variable(a)})"
            for i, a in enumerate(e.inputs)
        ]
        out = variable(e.out)
        lines.append(f"{out} = {_TYPES[letter(e.out)]}({text.format(*args, t=kind)});")
        if e.out.ndim and data_pointer(e.out) in names:
            written.add(out)
    number = _TYPES[letter(program.cells[0])] if program.cells else "double"
    parameters = [f"{kind}* v{i}" for i, kind in enumerate(kinds)]
    parameters += [f"{number} n{i}" for i in range(len(program.cells))]
    parameters += ["const long long* cells", "const long long* row"]
    taken = f" if (row) cells += *row * {len(program.cells)};"
    taken += "".join(f" n{i} = *(const {number}*)(cells + {i});" for i in range(len(program.cells)))
    body = [
        *(f"{kind} a{i} = v{i}[i];" for i, kind in enumerate(kinds)),
        *(f"{_TYPES[kind]} {name};" for (_, kind), name in known.items()), *lines,
        *(f"v{i}[i] = a{i};" for i in range(len(kinds)) if f"a{i}" in written),
    ]  # fmt: skip
    return (
        f'extern "C" __global__ void anynet_update(const long long* stop, long long n, {", ".join(parameters)}) {{\n'
        "    if (stop && *stop) return;\n"
        f"    if (cells) {{{taken} }}\n"
        "    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x) {\n"
        + "".join(f"        {line}\n" for line in body)
        + "    }\n}\n"
    )


def _literal(a: Any, kind: str) -> str:
    value = a.item()
    if not math.isfinite(value):
        msg = "CUDA: an update's constants must be finite"
        raise CompileError(msg)
    return f"{_TYPES[kind]}({float(value)!r})" if kind != "?" else str(bool(value)).lower()


@functools.lru_cache(maxsize=256)
def _compiled(text: str) -> Any:
    return importlib.import_module("cupy").RawKernel(text, "anynet_update", options=("--fmad=false",))


def bind(xp: Backend, program: ElementwiseProgram, vectors: Sequence[Array]) -> Callable[..., None] | None:
    """The program on vectors of one length, which stay where they are; None where it cannot be a kernel."""
    try:
        kernel = _compiled(source(program))
    except CompileError:
        return None
    return _Bound(kernel, vectors, np.dtype(program.number).type)


class _Bound:
    """A kernel with its vectors: a function of the numbers, of what may stop it on the device (`Watch.stop`), of the cells there in
    which the numbers stand instead (`cuda_capture`), as the type `number`, and of which row of these it is (`Ahead.next`)."""

    def __init__(self, kernel: Any, vectors: Sequence[Array], number: Any) -> None:
        n = vectors[0].size
        self.kernel, self.number, self.empty = kernel, number, not n
        self.grid, self.fixed = (min(-(-n // 256), 1 << 16),), (np.int64(n), *vectors)

    def __call__(
        self,
        values: Iterable[float],
        stop: Array | None = None,
        cells: Array | None = None,
        row: Array | None = None,
    ) -> None:
        if self.empty:
            return
        stop, cells, row = (_NULL if a is None else a for a in (stop, cells, row))
        self.kernel(self.grid, (256,), (stop, *self.fixed, *[self.number(v) for v in values], cells, row))
