"""Running a trace without planning its memory."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.jit.instructions import Variable, made_by, substitute
from anynet_backends.jit.tracer import Trace, TracedArray

__all__ = ["TraceInterpreter"]


class TraceInterpreter:
    """Runs the instructions of a trace as they are; every result is a new array."""

    def __init__(self, trace: Trace, given: Sequence[TracedArray], outputs: Sequence[TracedArray]) -> None:
        self.notes = [copy.copy(note) for note in trace.instructions]
        self.functions = {n.name: trace.functions[n.name] for n in self.notes if n.name in trace.functions}
        self.captured = {x.var: x.value for x in trace.captured.values()}
        self.given = [x.var for x in given]
        self.outputs = [x.variable for x in outputs]

    def __call__(self, *given: Array) -> list[Array]:
        arrays = self.captured | dict(zip(self.given, given, strict=True))

        def place(x: Variable) -> Any:
            return arrays.get(x.var, x.value)

        for note in self.notes:
            args, f = substitute(note.args, Variable, place), self.functions.get(note.name)
            if note.kind == "check":
                args[0](*args[1:])
            elif note.kind == "write":
                args[0][args[1]] = args[2]
            elif note.kind == "update":
                f(*args, out=args[0])  # type: ignore[misc]
            else:
                result = f(*args, **{k: substitute(v, Variable, place) for k, v in note.kwargs.items()})  # type: ignore[misc]
                many = result if isinstance(note.out, tuple) else (result,)
                for out, array in zip(made_by(note), many, strict=True):
                    arrays[out.var] = np.asarray(array)
        return [place(o) for o in self.outputs]
