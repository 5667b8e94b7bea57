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
        self.instructions = [copy.copy(i) for i in trace.instructions]
        self.functions = {
            i.name: trace.functions[i.name] for i in self.instructions if i.name in trace.functions
        }
        self.captured = {x.var: x.value for x in trace.captured.values()}
        self.given = [x.var for x in given]
        self.outputs = [x.variable for x in outputs]

    def __call__(self, *given: Array) -> list[Array]:
        arrays = self.captured | dict(zip(self.given, given, strict=True))

        def place(x: Variable) -> Any:
            return arrays.get(x.var, x.value)

        for i in self.instructions:
            args, f = substitute(i.args, Variable, place), self.functions.get(i.name)
            if i.kind == "check":
                args[0](*args[1:])
            elif i.kind == "write":
                args[0][args[1]] = args[2]
            elif i.kind == "update":
                f(*args, out=args[0])  # type: ignore[misc]
            else:
                result = f(*args, **{k: substitute(v, Variable, place) for k, v in i.kwargs.items()})  # type: ignore[misc]
                many = result if isinstance(i.out, tuple) else (result,)
                for out, array in zip(made_by(i), many, strict=True):
                    arrays[out.var] = np.asarray(array)
        return [place(o) for o in self.outputs]
