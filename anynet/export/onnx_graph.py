"""A network as an ONNX graph (extra onnx).

Primitives that ONNX has a node for (a convolution, a pooling, an LSTM, a softmax) become that node: `PRIMITIVE`. All others are written as
what their reference calls, function by function: `FUNCTION`. What has neither is refused with its layer.

Source: the operators of ONNX, https://onnx.ai/onnx/operators/.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from anynet._optional import optional
from anynet._version import __version__
from anynet.export.program import OPSET, Call, ExportError, Group, Program, Size, Value
from anynet_backends import host, registry

__all__ = ["OPSET", "onnx_model"]


Writer = Callable[["Graph", Call], Any]
FUNCTION: dict[str, Writer] = {}
"""By the standard's name of a function: writes its nodes and returns the name of its result (or several)."""

PRIMITIVE: dict[str, Callable[[Graph, Group], Any]] = {}
"""By the name of a primitive: the same, or None where this call of it has no node of its own."""


class Graph:
    """The nodes, initializers and names of a graph that is being written."""

    def __init__(self, program: Program, names: Sequence[str]) -> None:
        self.onnx = optional("onnx", "onnx", "export to=onnx")
        self.program = program
        self.nodes: list[Any] = []
        self.initializers: dict[str, Any] = {}
        self.names: dict[int, str] = {}
        self.tried: set[int] = set()  # the groups that have been asked for a node of their own
        self.size = ""  # the name of the size of the batch
        self.count = 0
        self.layer = ""
        for name, value in zip(names, program.inputs, strict=True):
            self.names[value.number] = name

    # ----- names and constants -----

    def fresh(self, kind: str = "v") -> str:
        """A name that is not taken."""
        self.count += 1
        return f"{kind}_{self.count}"

    def of(self, value: Value) -> str:
        """The name of a value; parameters become initializers at their first use."""
        if value.number not in self.names:
            if value.role not in ("parameter", "constant"):
                msg = (
                    f"export: {self.layer or 'the network'} uses an array in a way that ONNX has no form for"
                )
                raise ExportError(msg)
            name = value.name or self.fresh("constant")
            self.names[value.number] = self.initialize(name, value.data)
        return self.names[value.number]

    def initialize(self, name: str, array: Any) -> str:
        """An array that is in the file."""
        if name not in self.initializers:
            kind = self.kind(array.dtype.name)
            tensor = self.onnx.helper.make_tensor(name, kind, array.shape, host.to_bytes(array), raw=True)
            self.initializers[name] = tensor
        return name

    def constant(self, value: Any, dtype: str = "int64") -> str:
        """A small array or number."""
        array = registry.asarray(value, dtype)
        name = f"constant_{dtype}_{array.shape}_{array.tolist()}".replace(" ", "")
        return self.initialize(name if len(name) < 60 else self.fresh("constant"), array)

    def kind(self, dtype: str) -> int:
        """ONNX's number of a dtype."""
        names = {"bool": "BOOL", "float32": "FLOAT", "float64": "DOUBLE", "bfloat16": "BFLOAT16"}
        return int(getattr(self.onnx.TensorProto, names.get(dtype, dtype.upper())))

    # ----- nodes -----

    def node(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """A node; returns the name of its output, or a list of several."""
        made = [self.fresh(operator.lower()) for _ in range(outputs)]
        self.nodes.append(
            self.onnx.helper.make_node(operator, list(inputs), made, name=self.fresh("node"), **attributes)
        )
        return made[0] if outputs == 1 else made

    def operand(self, x: Any, dtype: str) -> str:
        """An operand: the name of an array in this dtype, or a number as a constant of it."""
        if isinstance(x, Value):
            name = self.of(x)
            return name if x.dtype == dtype else str(self.node("Cast", name, to=self.kind(dtype)))
        if isinstance(x, Size):
            return str(self.node("Cast", self.node("Squeeze", self.sizes((x,))), to=self.kind(dtype)))
        return self.constant(x, dtype)

    def sizes(self, shape: Sequence[int | Size]) -> str:
        """A shape as a vector; the batch is read from the first input where it is free."""
        if not any(isinstance(n, Size) for n in shape):
            return self.constant([int(n) for n in shape])  # type: ignore[arg-type]
        batch = self.batch()
        parts = []
        for n in shape:
            if isinstance(n, Size):
                part = batch if n.scale == 1 else self.node("Mul", batch, self.constant([n.scale]))
                parts.append(part if not n.offset else self.node("Add", part, self.constant([n.offset])))
            else:
                parts.append(self.constant([n]))
        return str(self.node("Concat", *parts, axis=0) if len(parts) > 1 else parts[0])

    def batch(self) -> str:
        """The size of the batch, as a vector of one number."""
        if not self.size:
            first = next(v for v in self.program.inputs if isinstance(v.shape[0], Size))
            self.size = str(self.node("Shape", self.names[first.number], start=0, end=1))
        return self.size

    def reshape(self, name: str, shape: Sequence[int | Size]) -> str:
        """A reshape; one size that follows from the batch is left to ONNX (−1)."""
        free = [n for n in shape if isinstance(n, Size)]
        if len(free) == 1 and 0 not in shape:
            return str(
                self.node("Reshape", name, self.constant([-1 if isinstance(n, Size) else n for n in shape]))
            )
        return str(self.node("Reshape", name, self.sizes(shape)))

    def only_at(self, value: Value, place: int) -> bool:
        """Whether nothing of an array is used but its first (0) or last (−1) part along the first axis."""
        if any(v is value for v in self.program.outputs):
            return False
        for call in self.program.calls:
            if any(v is value for v in call.inputs) and not any(v is value for v in call.outputs):
                keys = call.args[1] if call.name == "getitem" and isinstance(call.args[1], tuple) else (None,)
                if keys[0] not in (place, place % _size(value.shape[0])):
                    return False
        return True

    def refuse(self, what: str) -> ExportError:
        """The error for what ONNX has no form for."""
        return ExportError(
            f"export to=onnx: {self.layer or 'the network'} uses {what}, which ONNX has no form for here"
        )

    # ----- the program -----

    def write(self) -> None:
        """All calls; a primitive with a node of its own as that node."""
        done: set[int] = set()
        for call in self.program.calls:
            self.layer = call.layer
            group = call.group
            if group is not None and id(group) in done:
                continue
            if group is not None and group.name in PRIMITIVE and id(group) not in self.tried:
                self.tried.add(id(group))
                found = PRIMITIVE[group.name](self, group)
                if found is not None:
                    done.add(id(group))
                    for value, name in zip(
                        group.outputs, found if isinstance(found, list) else [found], strict=False
                    ):
                        if isinstance(value, Value):
                            self.names[value.number] = name
                    continue
            writer = FUNCTION.get(call.name)
            if writer is None:
                raise self.refuse(f"{call.name} (of {group.name})" if group else call.name)
            found = writer(self, call)
            for value, name in zip(call.outputs, found if isinstance(found, list) else [found], strict=True):
                self.names[value.number] = name


def _function(*names: str) -> Callable[[Writer], Writer]:
    def define(writer: Writer) -> Writer:
        FUNCTION.update(dict.fromkeys(names, writer))
        return writer

    return define


def _rank(x: Value) -> int:
    return len(x.shape)


def _size(n: int | Size) -> int:
    """A static size, or ExportError."""
    if isinstance(n, Size):
        msg = "export to=onnx: an axis that follows from the batch is used where ONNX takes a number"
        raise ExportError(msg)
    return n


# ----- element by element -----

_UNARY = {
    "abs": "Abs", "acos": "Acos", "acosh": "Acosh", "asin": "Asin", "asinh": "Asinh", "atan": "Atan", "atanh": "Atanh",
    "ceil": "Ceil", "cos": "Cos", "cosh": "Cosh", "exp": "Exp", "floor": "Floor", "isnan": "IsNaN", "isinf": "IsInf", "log": "Log",
    "negative": "Neg", "positive": "Identity", "reciprocal": "Reciprocal", "round": "Round", "sign": "Sign", "sin": "Sin", "sinh": "Sinh",
    "sqrt": "Sqrt", "tan": "Tan", "tanh": "Tanh", "logical_not": "Not", "bitwise_invert": "BitwiseNot",
}  # fmt: skip
_BINARY = {"add": "Add", "subtract": "Sub", "multiply": "Mul", "divide": "Div", "pow": "Pow"}
_BITWISE = {"bitwise_and": "BitwiseAnd", "bitwise_or": "BitwiseOr", "bitwise_xor": "BitwiseXor"}
_COMPARED = {
    "equal": "Equal",
    "less": "Less",
    "less_equal": "LessOrEqual",
    "greater": "Greater",
    "greater_equal": "GreaterOrEqual",
}
_LOGICAL = {"logical_and": "And", "logical_or": "Or", "logical_xor": "Xor"}
_FLOATS = ("float16", "float32", "float64", "bfloat16")


@_function(*_UNARY)
def _unary(g: Graph, call: Call) -> Any:
    x = call.args[0]
    if call.name in ("ceil", "floor", "round") and x.dtype not in _FLOATS:
        return g.of(x)
    if call.name in ("isnan", "isinf") and x.dtype not in _FLOATS:
        return g.node("Equal", g.of(x), g.node("Add", g.of(x), g.constant(1, x.dtype)))
    return g.node(
        "Not" if x.dtype == "bool" and call.name == "bitwise_invert" else _UNARY[call.name], g.of(x)
    )


@_function(*_BINARY)
def _binary(g: Graph, call: Call) -> Any:
    dtype = call.outputs[0].dtype
    return g.node(_BINARY[call.name], g.operand(call.args[0], dtype), g.operand(call.args[1], dtype))


@_function(*_BITWISE)
def _bitwise(g: Graph, call: Call) -> Any:
    dtype = call.outputs[0].dtype
    kinds = {"BitwiseAnd": "And", "BitwiseOr": "Or", "BitwiseXor": "Xor"}
    operator = _BITWISE[call.name]
    return g.node(kinds[operator] if dtype == "bool" else operator, *(g.operand(a, dtype) for a in call.args))


def _common(args: Sequence[Any]) -> str:
    """The dtype in which two operands are compared: that of the arrays; numbers take it."""
    found = [a.dtype for a in args if isinstance(a, Value)]
    floats = [d for d in found if d in _FLOATS]
    if len(set(found)) > 1:
        return max(
            floats or found, key=lambda d: (d in _FLOATS, int("".join(c for c in d if c.isdigit()) or 1))
        )
    if found[0] not in _FLOATS and any(isinstance(a, float) for a in args):
        return "float32"
    return found[0]


@_function(*_COMPARED, "not_equal")
def _compared(g: Graph, call: Call) -> Any:
    dtype = _common(call.args)
    if dtype == "bool" and call.name not in ("equal", "not_equal"):
        dtype = "int32"
    found = g.node(_COMPARED.get(call.name, "Equal"), *(g.operand(a, dtype) for a in call.args))
    return g.node("Not", found) if call.name == "not_equal" else found


@_function(*_LOGICAL)
def _logical(g: Graph, call: Call) -> Any:
    return g.node(_LOGICAL[call.name], *(g.operand(a, "bool") for a in call.args))


@_function("maximum", "minimum")
def _extremum(g: Graph, call: Call) -> Any:
    dtype = call.outputs[0].dtype
    return g.node("Max" if call.name == "maximum" else "Min", *(g.operand(a, dtype) for a in call.args))


@_function("square")
def _square(g: Graph, call: Call) -> Any:
    x = g.of(call.args[0])
    return g.node("Mul", x, x)


@_function("expm1")
def _expm1(g: Graph, call: Call) -> Any:
    # exp(x) − 1 loses the digits of a small x: 2 tanh(x/2) / (1 − tanh(x/2)) keeps them
    x, dtype = g.of(call.args[0]), call.outputs[0].dtype
    small = g.node("Tanh", g.node("Mul", x, g.constant(0.5, dtype)))
    kept = g.node(
        "Div", g.node("Mul", small, g.constant(2.0, dtype)), g.node("Sub", g.constant(1.0, dtype), small)
    )
    plain = g.node("Sub", g.node("Exp", x), g.constant(1.0, dtype))
    return g.node("Where", g.node("Less", g.node("Abs", x), g.constant(1.0, dtype)), kept, plain)


@_function("log1p")
def _log1p(g: Graph, call: Call) -> Any:
    # log(1 + x) loses the digits of a small x: 2 atanh(x / (2 + x)) keeps them
    x, dtype = g.of(call.args[0]), call.outputs[0].dtype
    ratio = g.node("Div", x, g.node("Add", x, g.constant(2.0, dtype)))
    kept = g.node("Mul", g.node("Atanh", ratio), g.constant(2.0, dtype))
    plain = g.node("Log", g.node("Add", x, g.constant(1.0, dtype)))
    return g.node("Where", g.node("Less", g.node("Abs", x), g.constant(0.5, dtype)), kept, plain)


@_function("log2", "log10")
def _log_to_base(g: Graph, call: Call) -> Any:
    base = 2.0 if call.name == "log2" else 10.0
    return g.node("Div", g.node("Log", g.of(call.args[0])), g.constant(math.log(base), call.outputs[0].dtype))


@_function("isfinite")
def _isfinite(g: Graph, call: Call) -> Any:
    x = g.of(call.args[0])
    return g.node("Not", g.node("Or", g.node("IsNaN", x), g.node("IsInf", x)))


@_function("trunc")
def _trunc(g: Graph, call: Call) -> Any:
    x = g.of(call.args[0])
    return g.node("Mul", g.node("Sign", x), g.node("Floor", g.node("Abs", x)))


@_function("signbit")
def _signbit(g: Graph, call: Call) -> Any:
    x, dtype = g.of(call.args[0]), call.args[0].dtype
    return g.node(
        "Less",
        g.node("Where", g.node("Equal", x, g.constant(0, dtype)), g.node("Reciprocal", x), x),
        g.constant(0, dtype),
    )


@_function("copysign")
def _copysign(g: Graph, call: Call) -> Any:
    dtype = call.outputs[0].dtype
    size = g.node("Abs", g.operand(call.args[0], dtype))
    return g.node(
        "Where",
        g.node("Less", g.operand(call.args[1], dtype), g.constant(0, dtype)),
        g.node("Neg", size),
        size,
    )


@_function("hypot")
def _hypot(g: Graph, call: Call) -> Any:
    a, b = (g.operand(x, call.outputs[0].dtype) for x in call.args)
    return g.node("Sqrt", g.node("Add", g.node("Mul", a, a), g.node("Mul", b, b)))


@_function("logaddexp")
def _logaddexp(g: Graph, call: Call) -> Any:
    dtype = call.outputs[0].dtype
    a, b = (g.operand(x, dtype) for x in call.args)
    apart = g.node("Neg", g.node("Abs", g.node("Sub", a, b)))
    return g.node(
        "Add", g.node("Max", a, b), g.node("Log", g.node("Add", g.constant(1.0, dtype), g.node("Exp", apart)))
    )


@_function("atan2")
def _atan2(g: Graph, call: Call) -> Any:
    dtype = call.outputs[0].dtype
    y, x = (g.operand(a, dtype) for a in call.args)
    zero, pi = g.constant(0.0, dtype), g.constant(math.pi, dtype)
    turned = g.node("Where", g.node("Less", y, zero), g.node("Neg", pi), pi)
    angle = g.node("Atan", g.node("Div", y, x))
    left = g.node("Where", g.node("Less", x, zero), g.node("Add", angle, turned), angle)
    upright = g.node("Mul", g.node("Sign", y), g.constant(math.pi / 2, dtype))
    return g.node("Where", g.node("Equal", x, zero), upright, left)


@_function("floor_divide", "remainder")
def _divided(g: Graph, call: Call) -> Any:
    dtype = call.outputs[0].dtype
    a, b = (g.operand(x, dtype) for x in call.args)
    if dtype in _FLOATS:
        quotient = g.node("Floor", g.node("Div", a, b))
    else:
        rest = g.node("Mod", a, b)
        quotient = g.node("Div", g.node("Sub", a, rest), b)
        if call.name == "remainder":
            return rest
    return quotient if call.name == "floor_divide" else g.node("Sub", a, g.node("Mul", quotient, b))


@_function("where")
def _where(g: Graph, call: Call) -> Any:
    dtype = call.outputs[0].dtype
    return g.node(
        "Where",
        g.operand(call.args[0], "bool"),
        g.operand(call.args[1], dtype),
        g.operand(call.args[2], dtype),
    )


@_function("clip")
def _clip(g: Graph, call: Call) -> Any:
    dtype, given = call.outputs[0].dtype, [*call.args[1:], *call.kwargs.values()]
    names = [*["min", "max"][: len(call.args) - 1], *call.kwargs]
    found = g.of(call.args[0])
    for name, bound in zip(names, given, strict=True):
        if bound is not None:
            found = g.node("Max" if name == "min" else "Min", found, g.operand(bound, dtype))
    return found


@_function("astype")
def _astype(g: Graph, call: Call) -> Any:
    return g.node("Cast", g.of(call.args[0]), to=g.kind(call.outputs[0].dtype))


@_function("asarray")
def _asarray(g: Graph, call: Call) -> Any:
    x = call.args[0]
    if isinstance(x, Value):
        return g.operand(x, call.outputs[0].dtype)
    return g.constant(x, call.outputs[0].dtype)


# ----- creation -----


@_function("zeros", "ones", "full", "empty", "zeros_like", "ones_like", "full_like", "empty_like")
def _filled(g: Graph, call: Call) -> Any:
    out = call.outputs[0]
    number = 1 if call.name.startswith("ones") else 0
    if call.name.startswith("full"):
        number = call.args[1] if len(call.args) > 1 else call.kwargs["fill_value"]
    if isinstance(number, Value):
        return g.node("Expand", g.operand(number, out.dtype), g.sizes(out.shape))
    value = g.onnx.helper.make_tensor("", g.kind(out.dtype), [1], [number])
    return g.node("ConstantOfShape", g.sizes(out.shape), value=value)


@_function("arange")
def _arange(g: Graph, call: Call) -> Any:
    dtype, start = call.outputs[0].dtype, _argument(call, 0, "start")
    stop, step = _argument(call, 1, "stop"), _argument(call, 2, "step", 1)
    low, high = (0, start) if stop is None else (start, stop)
    return g.node("Range", *(g.operand(x, dtype) for x in (low, high, step)))


@_function("linspace", "eye")
def _static(g: Graph, call: Call) -> Any:
    xp = registry.get_backend("numpy")
    args = [_size(a) for a in call.args]
    kwargs = {k: v for k, v in call.kwargs.items() if k not in ("device", "dtype")}
    return g.constant(getattr(xp, call.name)(*args, **kwargs), call.outputs[0].dtype)


@_function("tril", "triu")
def _triangle(g: Graph, call: Call) -> Any:
    k = call.kwargs.get("k", call.args[1] if len(call.args) > 1 else 0)
    return g.node("Trilu", g.of(call.args[0]), g.constant(k), upper=int(call.name == "triu"))


# ----- manipulation -----


@_function("reshape")
def _reshape(g: Graph, call: Call) -> Any:
    return g.reshape(g.of(call.args[0]), call.outputs[0].shape)


def _argument(call: Call, position: int, name: str, default: Any = None) -> Any:
    return call.args[position] if len(call.args) > position else call.kwargs.get(name, default)


def _axes_of(axis: Any, rank: int) -> list[int]:
    axes = range(rank) if axis is None else [axis] if isinstance(axis, int) else axis
    return [a % max(rank, 1) for a in axes]


@_function("permute_dims")
def _permute(g: Graph, call: Call) -> Any:
    axes = _argument(call, 1, "axes")
    return g.node("Transpose", g.of(call.args[0]), perm=_axes_of(axes, _rank(call.args[0])))


@_function("matrix_transpose", "linalg.matrix_transpose")
def _transpose(g: Graph, call: Call) -> Any:
    n = _rank(call.args[0])
    return g.node("Transpose", g.of(call.args[0]), perm=[*range(n - 2), n - 1, n - 2])


@_function("moveaxis")
def _moveaxis(g: Graph, call: Call) -> Any:
    n = _rank(call.args[0])
    source, there = (_axes_of(a, n) for a in call.args[1:3])
    order = [i for i in range(n) if i not in source]
    for to, of in sorted(zip(there, source, strict=True)):
        order.insert(to, of)
    return g.node("Transpose", g.of(call.args[0]), perm=order)


@_function("expand_dims")
def _expand_dims(g: Graph, call: Call) -> Any:
    axis = _argument(call, 1, "axis", 0)
    axes = _axes_of(axis, _rank(call.outputs[0]))
    return g.node("Unsqueeze", g.of(call.args[0]), g.constant(axes))


@_function("squeeze")
def _squeeze(g: Graph, call: Call) -> Any:
    return g.node(
        "Squeeze", g.of(call.args[0]), g.constant(_axes_of(_argument(call, 1, "axis"), _rank(call.args[0])))
    )


@_function("flip")
def _flip(g: Graph, call: Call) -> Any:
    axes = _axes_of(call.kwargs.get("axis"), _rank(call.args[0]))
    n = len(axes)
    low = -(2**62)
    return g.node(
        "Slice", g.of(call.args[0]), *(g.constant(v) for v in ([-1] * n, [low] * n, axes, [-1] * n))
    )


@_function("broadcast_to")
def _broadcast(g: Graph, call: Call) -> Any:
    return g.node("Expand", g.of(call.args[0]), g.sizes(call.outputs[0].shape))


@_function("broadcast_arrays")
def _broadcast_arrays(g: Graph, call: Call) -> Any:
    return [
        g.node("Expand", g.of(x), g.sizes(out.shape)) for x, out in zip(call.args, call.outputs, strict=True)
    ]


@_function("concat")
def _concat(g: Graph, call: Call) -> Any:
    dtype, axis = call.outputs[0].dtype, call.kwargs.get("axis", 0)
    parts = [g.operand(x, dtype) for x in call.args[0]]
    if axis is None:
        parts, axis = [g.node("Reshape", p, g.constant([-1])) for p in parts], 0
    return g.node("Concat", *parts, axis=axis)


@_function("stack")
def _stack(g: Graph, call: Call) -> Any:
    dtype = call.outputs[0].dtype
    axis = call.kwargs.get("axis", 0) % _rank(call.outputs[0])
    return g.node(
        "Concat",
        *(g.node("Unsqueeze", g.operand(x, dtype), g.constant([axis])) for x in call.args[0]),
        axis=axis,
    )


@_function("unstack")
def _unstack(g: Graph, call: Call) -> Any:
    axis = call.kwargs.get("axis", 0) % _rank(call.args[0])
    return [g.node("Gather", g.of(call.args[0]), g.constant(i), axis=axis) for i in range(len(call.outputs))]


@_function("roll")
def _roll(g: Graph, call: Call) -> Any:
    x, shift, axis = call.args[0], _argument(call, 1, "shift"), call.kwargs.get("axis")
    if axis is None:
        flat = g.node("Reshape", g.of(x), g.constant([-1]))
        return g.reshape(_rolled(g, flat, shift, 0, math.prod(map(_size, x.shape))), x.shape)
    name = g.of(x)
    shifts = [shift] * len(_axes_of(axis, _rank(x))) if isinstance(shift, int) else shift
    for by, a in zip(shifts, _axes_of(axis, _rank(x)), strict=True):
        name = _rolled(g, name, by, a, _size(x.shape[a]))
    return name


def _rolled(g: Graph, name: str, shift: int, axis: int, size: int) -> Any:
    at = -shift % max(size, 1)
    if not at:
        return name
    ends = [g.node("Slice", name, *(g.constant([v]) for v in (a, b, axis))) for a, b in ((at, size), (0, at))]
    return g.node("Concat", *ends, axis=axis)


@_function("tile")
def _tile(g: Graph, call: Call) -> Any:
    x, times = call.args[:2]
    rank = max(_rank(x), len(times))
    name = g.of(x)
    if rank > _rank(x):
        name = g.node("Unsqueeze", name, g.constant(list(range(rank - _rank(x)))))
    return g.node("Tile", name, g.constant([1] * (rank - len(times)) + list(times)))


@_function("repeat")
def _repeat(g: Graph, call: Call) -> Any:
    x, times, axis = call.args[0], _argument(call, 1, "repeats"), call.kwargs.get("axis")
    name, shape = g.of(x), list(x.shape)
    if axis is None:
        name, shape, axis = g.node("Reshape", name, g.constant([-1])), [math.prod(map(_size, x.shape))], 0
    axis %= len(shape)
    wide = g.node("Unsqueeze", name, g.constant([axis + 1]))
    wide = g.node("Expand", wide, g.sizes([*shape[: axis + 1], times, *shape[axis + 1 :]]))
    return g.reshape(wide, call.outputs[0].shape)


# ----- indexing -----


@_function("getitem")
def _getitem(g: Graph, call: Call) -> Any:
    x, key = call.args
    keys = list(key) if isinstance(key, tuple) else [key]
    arrays = [i for i, k in enumerate(keys) if isinstance(k, Value)]
    if len(arrays) > 1 or any(isinstance(k, list) for k in keys):
        raise g.refuse("several arrays of indices at once")
    used = sum(k is not None and k is not Ellipsis for k in keys)
    at = next((i for i, k in enumerate(keys) if k is Ellipsis), None)
    rest = [slice(None)] * (_rank(x) - used)
    keys[slice(at, None if at is None else at + 1) if at is not None else slice(len(keys), None)] = rest
    name, axis, cuts, gone, new = g.of(x), 0, [], [], []
    place = 0
    gather: tuple[int, Value] | None = None
    for k in keys:
        if k is None:
            new.append(place)
            place += 1
            continue
        if isinstance(k, slice):
            if k != slice(None):
                cuts.append((axis, k))
            place += 1
        elif isinstance(k, Value):
            gather = (axis, k)
            place += _rank(k)
        else:
            after = Size(k.scale, k.offset + 1) if isinstance(k, Size) else None if k == -1 else k + 1
            cuts.append((axis, slice(k, after)))
            gone.append(axis)
        axis += 1
    if cuts:
        vectors: list[list[Any]] = [[], [], [], []]
        for a, k in cuts:
            step = 1 if k.step is None else k.step
            low = k.start if k.start is not None else (0 if step > 0 else -1)
            high = k.stop if k.stop is not None else (2**62 if step > 0 else -(2**62))
            for vector, v in zip(vectors, (low, high, a, step), strict=True):
                vector.append(v)
        name = g.node(
            "Slice",
            name,
            g.sizes(vectors[0]),
            g.sizes(vectors[1]),
            g.constant(vectors[2]),
            g.constant(vectors[3]),
        )
    if gather is not None:
        name = g.node("Gather", name, g.operand(gather[1], "int64"), axis=gather[0])
        gone = [a if a < gather[0] else a + _rank(gather[1]) - 1 for a in gone]
    if gone:
        name = g.node("Squeeze", name, g.constant(gone))
    return g.node("Unsqueeze", name, g.constant(new)) if new else name


@_function("setitem")
def _setitem(g: Graph, call: Call) -> Any:
    """The array is from here on another one."""
    x, key, value = call.args
    keys = list(key) if isinstance(key, tuple) else [key]
    filled = g.operand(value, x.dtype)
    if keys == [Ellipsis]:
        same = isinstance(value, Value) and value.shape == x.shape
        g.names[x.number] = filled if same else g.node("Expand", filled, g.sizes(x.shape))
        return []
    if not all(isinstance(k, (slice, int)) or k is Ellipsis for k in keys):
        raise g.refuse("writing into places that arrays name")
    at = next((i for i, k in enumerate(keys) if k is Ellipsis), len(keys))
    rest = [slice(None)] * (_rank(x) - sum(k is not Ellipsis for k in keys))
    keys[at : at + 1] = rest
    low, high, mask, axes = [], [], [], []
    part: list[int | Size] = []
    for a, (k, n) in enumerate(zip(keys, x.shape, strict=True)):
        if isinstance(k, slice) and k == slice(None):
            low.append(0)
            high.append(0)
            mask.append([True])
            part.append(n)
            continue
        size = _size(n)
        where = range(size)[k] if isinstance(k, slice) else range(size)[k : k + 1 or None]
        if len(where) == 0:
            return []
        if where.step != 1:
            raise g.refuse("writing into every other place")
        if not isinstance(k, slice):
            axes.append(a)
        low.append(where.start)
        high.append(size - where.stop)
        mask.append([i in where for i in range(size)])
        part.append(len(where))
    if axes and isinstance(value, Value) and _rank(value):
        filled = g.node("Unsqueeze", filled, g.constant(axes))
    filled = g.node("Expand", filled, g.sizes(part))
    padded = (
        g.node("Pad", filled, g.constant([*low, *high]), g.constant(0, x.dtype))
        if any(low) or any(high)
        else filled
    )
    xp = registry.get_backend("numpy")
    whole = xp.asarray(True)
    for m in mask:
        whole = whole[..., None] & registry.asarray(m, "bool")
    g.names[x.number] = g.node("Where", g.initialize(g.fresh("mask"), whole), padded, g.of(x))
    return []


@_function("take")
def _take(g: Graph, call: Call) -> Any:
    axis = call.kwargs.get("axis")
    return g.node(
        "Gather", g.of(call.args[0]), g.operand(call.args[1], "int64"), axis=0 if axis is None else axis
    )


@_function("take_along_axis")
def _take_along(g: Graph, call: Call) -> Any:
    x, index = call.args[:2]
    axis = call.kwargs.get("axis", -1) % _rank(x)
    shape = [n if a != axis else index.shape[a] for a, n in enumerate(call.outputs[0].shape)]
    at = g.operand(index, "int64")
    if list(index.shape) != shape:
        at = g.node("Expand", at, g.sizes(shape))
    return g.node("GatherElements", g.of(x), at, axis=axis)


@_function("index_add")
def _index_add(g: Graph, call: Call) -> Any:
    x, index, values = call.args
    at = g.node("Unsqueeze", g.operand(index, "int64"), g.constant([-1]))
    return g.node("ScatterND", g.of(x), at, g.operand(values, x.dtype), reduction="add")


@_function("windows")
def _windows(g: Graph, call: Call) -> Any:
    x, kernel, stride, dilation = call.args
    lead = _rank(x) - len(kernel)
    name, out = g.of(x), call.outputs[0].shape
    for i, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        index = [[o * s + j * d for j in range(k)] for o in range(_size(out[lead + i]))]
        name = g.node("Gather", name, g.constant(index), axis=lead + 2 * i)
    n = lead + 2 * len(kernel)
    return g.node("Transpose", name, perm=[*range(lead), *range(lead, n, 2), *range(lead + 1, n, 2)])


# ----- reductions, sorting -----

_REDUCED = {
    "sum": "ReduceSum",
    "mean": "ReduceMean",
    "max": "ReduceMax",
    "min": "ReduceMin",
    "prod": "ReduceProd",
}


@_function(*_REDUCED)
def _reduce(g: Graph, call: Call) -> Any:
    x, dtype = call.args[0], call.outputs[0].dtype
    name = g.operand(x, dtype)
    axes = _axes_of(call.kwargs.get("axis"), _rank(x))
    if not axes:
        return name
    return g.node(
        _REDUCED[call.name], name, g.constant(axes), keepdims=int(call.kwargs.get("keepdims", False))
    )


@_function("any", "all", "count_nonzero")
def _counted(g: Graph, call: Call) -> Any:
    x = call.args[0]
    axes, keep = _axes_of(call.kwargs.get("axis"), _rank(x)), int(call.kwargs.get("keepdims", False))
    number = g.node("Cast", g.operand(x, "bool"), to=g.kind("int64"))
    kind = {"any": "ReduceMax", "all": "ReduceMin", "count_nonzero": "ReduceSum"}[call.name]
    found = g.node(kind, number, g.constant(axes), keepdims=keep) if axes else number
    return found if call.name == "count_nonzero" else g.node("Cast", found, to=g.kind("bool"))


@_function("var", "std")
def _variance(g: Graph, call: Call) -> Any:
    x, dtype = call.args[0], call.outputs[0].dtype
    axes, keep = _axes_of(call.kwargs.get("axis"), _rank(x)), int(call.kwargs.get("keepdims", False))
    name = g.of(x)
    apart = g.node("Sub", name, g.node("ReduceMean", name, g.constant(axes), keepdims=1))
    total = g.node("ReduceSum", g.node("Mul", apart, apart), g.constant(axes), keepdims=keep)
    shape = g.node("Shape", name)
    count = g.node(
        "Cast",
        g.node("ReduceProd", g.node("Gather", shape, g.constant(axes)), g.constant([0]), keepdims=0),
        to=g.kind(dtype),
    )
    found = g.node("Div", total, g.node("Sub", count, g.constant(call.kwargs.get("correction", 0.0), dtype)))
    return g.node("Sqrt", found) if call.name == "std" else found


@_function("argmax", "argmin")
def _argmax(g: Graph, call: Call) -> Any:
    x, axis = call.args[0], call.kwargs.get("axis")
    operator, keep = (
        ("ArgMax" if call.name == "argmax" else "ArgMin"),
        int(call.kwargs.get("keepdims", False)),
    )
    if axis is None:
        return g.node(operator, g.node("Reshape", g.of(x), g.constant([-1])), axis=0, keepdims=keep)
    return g.node(operator, g.of(x), axis=axis, keepdims=keep)


@_function("cumulative_sum")
def _cumulative(g: Graph, call: Call) -> Any:
    x = call.args[0]
    if call.kwargs.get("include_initial"):
        raise g.refuse("cumulative_sum with include_initial")
    axis = call.kwargs.get("axis")
    return g.node("CumSum", g.operand(x, call.outputs[0].dtype), g.constant(0 if axis is None else axis))


@_function("sort", "argsort")
def _sort(g: Graph, call: Call) -> Any:
    x = call.args[0]
    axis = call.kwargs.get("axis", -1) % _rank(x)
    found = g.node(
        "TopK",
        g.of(x),
        g.sizes((x.shape[axis],)),
        outputs=2,
        axis=axis,
        largest=int(call.kwargs.get("descending", False)),
        sorted=1,
    )
    return found[call.name == "argsort"]


# ----- products -----


@_function("matmul", "linalg.matmul")
def _matmul(g: Graph, call: Call) -> Any:
    dtype = call.outputs[0].dtype
    return g.node("MatMul", g.operand(call.args[0], dtype), g.operand(call.args[1], dtype))


@_function("vecdot", "linalg.vecdot")
def _vecdot(g: Graph, call: Call) -> Any:
    dtype = call.outputs[0].dtype
    product = g.node("Mul", *(g.operand(a, dtype) for a in call.args[:2]))
    rank = max(_rank(a) for a in call.args[:2])
    return g.node("ReduceSum", product, g.constant([call.kwargs.get("axis", -1) % rank]), keepdims=0)


@_function("tensordot", "linalg.tensordot")
def _tensordot(g: Graph, call: Call) -> Any:
    a, b = call.args[:2]
    axes = _argument(call, 2, "axes", 2)
    if isinstance(axes, int):
        axes = (tuple(range(_rank(a) - axes, _rank(a))), tuple(range(axes)))
    of_a, of_b = _axes_of(axes[0], _rank(a)), _axes_of(axes[1], _rank(b))
    keep_a = [i for i in range(_rank(a)) if i not in of_a]
    keep_b = [i for i in range(_rank(b)) if i not in of_b]
    inner = math.prod(_size(b.shape[i]) for i in of_b)
    dtype = call.outputs[0].dtype
    left = g.node(
        "Reshape", g.node("Transpose", g.operand(a, dtype), perm=[*keep_a, *of_a]), g.constant([-1, inner])
    )
    right = g.node(
        "Reshape", g.node("Transpose", g.operand(b, dtype), perm=[*of_b, *keep_b]), g.constant([inner, -1])
    )
    return g.reshape(g.node("MatMul", left, right), call.outputs[0].shape)


@_function("linalg.vector_norm")
def _vector_norm(g: Graph, call: Call) -> Any:
    x, order = call.args[0], call.kwargs.get("ord", 2)
    operator = {1: "ReduceL1", 2: "ReduceL2"}.get(order)
    if operator is None:
        raise g.refuse(f"vector_norm with ord={order}")
    axes, keep = _axes_of(call.kwargs.get("axis"), _rank(x)), int(call.kwargs.get("keepdims", False))
    return g.node(operator, g.of(x), g.constant(axes), keepdims=keep)


@_function("linalg.det")
def _det(g: Graph, call: Call) -> Any:
    return g.node("Det", g.of(call.args[0]))


# ----- primitives with a node of their own -----


def _primitive(*names: str) -> Callable[[Callable[[Graph, Group], Any]], Callable[[Graph, Group], Any]]:
    def define(writer: Callable[[Graph, Group], Any]) -> Callable[[Graph, Group], Any]:
        PRIMITIVE.update(dict.fromkeys(names, writer))
        return writer

    return define


def _pads(pairs: Sequence[tuple[int, int]]) -> list[int]:
    return [*(low for low, _ in pairs), *(high for _, high in pairs)]


@_primitive("conv")
def _conv(g: Graph, group: Group) -> Any:
    names = [g.of(a) for a in group.args if isinstance(a, Value)]
    meta = group.meta
    return g.node(
        "Conv",
        *names,
        strides=list(meta["stride"]),
        pads=_pads(meta["padding"]),
        dilations=list(meta["dilation"]),
        group=meta["groups"],
    )


@_primitive("conv_transpose")
def _conv_transpose(g: Graph, group: Group) -> Any:
    z, weight = group.args[:2]
    meta = group.meta
    extra = []
    for n, out, k, s, d, (low, high) in zip(
        z.shape[2:],
        meta["shape"],
        weight.shape[2:],
        meta["stride"],
        meta["dilation"],
        meta["padding"],
        strict=True,
    ):
        extra.append(_size(out) - (s * (_size(n) - 1) + d * (_size(k) - 1) + 1 - low - high))
    return g.node(
        "ConvTranspose", g.of(z), g.of(weight), strides=list(meta["stride"]), pads=_pads(meta["padding"]), output_padding=extra,
        dilations=list(meta["dilation"]), group=meta["groups"],
    )  # fmt: skip


@_primitive("max_pool")
def _max_pool(g: Graph, group: Group) -> Any:
    meta = group.meta
    return g.node(
        "MaxPool", g.of(group.args[0]), kernel_shape=list(meta["kernel"]), strides=list(meta["stride"]), pads=_pads(meta["pads"]),
        dilations=list(meta["dilation"]),
    )  # fmt: skip


@_primitive("window_sum")
def _window_sum(g: Graph, group: Group) -> Any:
    x, meta = group.args[0], group.meta
    if any(min(pair) < 0 for pair in meta["pads"]):
        return None
    mean = g.node(
        "AveragePool", g.of(x), kernel_shape=list(meta["kernel"]), strides=list(meta["stride"]), pads=_pads(meta["pads"]),
        count_include_pad=1,
    )  # fmt: skip
    return g.node("Mul", mean, g.constant(float(math.prod(meta["kernel"])), x.dtype))


@_primitive("linear")
def _linear(g: Graph, group: Group) -> Any:
    x, weight = group.args[:2]
    bias = group.args[2] if len(group.args) > 2 else None
    if _rank(x) == 2 and x.dtype == weight.dtype:
        return g.node("Gemm", g.of(x), g.of(weight), *([] if bias is None else [g.of(bias)]), transB=1)
    product = g.node("MatMul", g.of(x), g.node("Transpose", g.of(weight), perm=[1, 0]))
    return product if bias is None else g.node("Add", product, g.of(bias))


_SAME = {
    "relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "erf": "Erf", "softsign": "Softsign", "hardswish": "HardSwish", "mish": "Mish",
}  # fmt: skip


@_primitive(*_SAME)
def _activation(g: Graph, group: Group) -> Any:
    return g.node(_SAME[group.name], g.of(group.args[0]))


@_primitive("leaky_relu")
def _leaky_relu(g: Graph, group: Group) -> Any:
    return g.node("LeakyRelu", g.of(group.args[0]), alpha=float(group.meta.get("negative_slope", 0.01)))


@_primitive("silu")
def _silu(g: Graph, group: Group) -> Any:
    x = g.of(group.args[0])
    return g.node("Mul", x, g.node("Sigmoid", x))


@_primitive("gelu", "gelu_tanh")
def _gelu(g: Graph, group: Group) -> Any:
    return g.node("Gelu", g.of(group.args[0]), approximate="tanh" if group.name == "gelu_tanh" else "none")


@_primitive("softmax", "log_softmax")
def _softmax(g: Graph, group: Group) -> Any:
    return g.node(
        "Softmax" if group.name == "softmax" else "LogSoftmax", g.of(group.args[0]), axis=group.meta["axis"]
    )


@_primitive("normalize_by")
def _batch_norm(g: Graph, group: Group) -> Any:
    x, mean, variance, *more = group.args
    weight, bias = (*more, None, None)[:2]
    if _rank(x) < 2 or any(
        isinstance(v, Value) and (v.role != "parameter" or _rank(v) != 1)
        for v in (mean, variance, weight, bias)
    ):
        return None
    channels = [_size(x.shape[1])]
    given = [
        g.of(v)
        if v is not None
        else g.initialize(f"{fill:g} of {channels[0]}", registry.asarray([fill] * channels[0], x.dtype))
        for v, fill in ((weight, 1.0), (bias, 0.0))
    ]
    return g.node(
        "BatchNormalization", g.of(x), *given, g.of(mean), g.of(variance), epsilon=float(group.meta["eps"])
    )


@_primitive("lstm_scan")
def _lstm(g: Graph, group: Group) -> Any:
    gates, h, c, weight, *projection = group.args
    if any(p is not None for p in projection):
        return None
    return _recurrent(g, "LSTM", group, gates, [h, c], weight, None, order=(0, 3, 1, 2))


@_primitive("gru_scan")
def _gru(g: Graph, group: Group) -> Any:
    gates, h, weight, *bias = group.args
    return _recurrent(
        g, "GRU", group, gates, [h], weight, bias[0] if bias else None, order=(1, 0, 2), linear_before_reset=1
    )


@_primitive("rnn_scan")
def _rnn(g: Graph, group: Group) -> Any:
    gates, h, weight = group.args
    name = "Relu" if group.meta.get("relu") else "Tanh"
    return _recurrent(g, "RNN", group, gates, [h], weight, None, order=(0,), activations=[name])


def _recurrent(
    g: Graph, operator: str, group: Group, gates: Value, states: list[Value], weight: Value, bias: Value | None,
    order: tuple[int, ...], **attributes: Any,
) -> Any:  # fmt: skip
    """One direction of a recurrence. The gates are computed already, so the node's own weights of the input are the identity; their order
    is ONNX's. None where the node has not what is asked for."""
    if group.meta.get("sizes") is not None or any(
        v is not None and v.role != "parameter" for v in (weight, bias)
    ):
        return None
    last = 0 if group.meta.get("reverse") else -1
    if len(group.outputs) > 1 and not g.only_at(group.outputs[1], last):
        return None
    xp, size, dtype = registry.get_backend("numpy"), _size(weight.shape[-1]), weight.dtype

    def reordered(w: Any) -> Any:
        return xp.concat([w[i * size : (i + 1) * size, ...] for i in order], axis=0)

    rows = len(order) * size
    hidden = xp.zeros((rows,), dtype=xp.float32) if bias is None else reordered(bias.data)
    both = xp.concat([xp.zeros_like(hidden), hidden], axis=0)
    names = [
        g.initialize(g.fresh("gates"), registry.asarray(a[None, ...], dtype))
        for a in (reordered(xp.eye(rows)), reordered(weight.data), both)
    ]
    first = [g.node("Unsqueeze", g.of(s), g.constant([0])) for s in states]
    direction = "reverse" if group.meta.get("reverse") else "forward"
    found = g.node(
        operator,
        g.of(gates),
        *names,
        "",
        *first,
        outputs=1 + len(states),
        hidden_size=size,
        direction=direction,
        **attributes,
    )
    made = [g.node("Squeeze", found[0], g.constant([1]))]
    if len(group.outputs) > 1:  # the last state, in the place of all: nothing else is looked at
        made.append(g.node("Expand", found[2], g.sizes(group.outputs[1].shape)))
    return made


# ----- the file -----


def onnx_model(program: Program, names: Sequence[str], title: str) -> Any:
    """The `onnx.ModelProto` of a program; `names` are those of the inputs, outputs are called output, output_1, …"""
    graph = Graph(program, names)
    graph.write()
    helper = graph.onnx.helper

    def shape(value: Value) -> list[Any]:
        return [("batch" if n == Size(1) else None) if isinstance(n, Size) else n for n in value.shape]

    outputs = []
    for i, value in enumerate(program.outputs):
        name = "output" if i == 0 else f"output_{i}"
        graph.nodes.append(helper.make_node("Identity", [graph.of(value)], [name]))
        outputs.append(helper.make_tensor_value_info(name, graph.kind(value.dtype), shape(value)))
    inputs = [
        helper.make_tensor_value_info(n, graph.kind(v.dtype), shape(v))
        for n, v in zip(names, program.inputs, strict=True)
    ]
    made = helper.make_graph(
        graph.nodes, title, inputs, outputs, initializer=list(graph.initializers.values())
    )
    model = helper.make_model(
        made,
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=9,
        producer_name="anynet",
        producer_version=__version__,
    )
    graph.onnx.checker.check_model(model, full_check=True)
    return model
