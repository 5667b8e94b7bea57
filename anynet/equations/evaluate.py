"""What an equation means: its lines evaluated on arrays of the standard, index by index as a textbook reads them.

A value in the making is an array of which the first axes are labelled with names of indices (``W[k, j]`` has the labels k and j) and
the others are its own (``W`` has two own axes). Operations bring labels together by name and own axes by the standard's
broadcasting; matrix products and ``.T`` act on own axes; ``sum[j]`` adds up along a label. No layer is called here.

An index outside of an array reads 0, as in the textbook's convolution. Where a line reads what lines define at ``t - 1`` or
``t + 1``, the lines with that index are evaluated step by step.
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from typing import Any

from anynet.equations.language import (
    DISTRIBUTIONS,
    REDUCTIONS,
    EquationError,
    Line,
    Symbol,
    bound_indices,
    index_name,
    indices_of,
    names_in,
)
from anynet_backends import backend_of, resolve

__all__ = ["evaluate", "namespace_of"]

_ARITHMETIC: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv, ast.Mod: operator.mod, ast.Pow: operator.pow,
}  # fmt: skip
_COMPARISONS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt, ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_SCALAR: dict[str, Callable[..., Any]] = {
    "exp": math.exp, "log": math.log, "sqrt": math.sqrt, "abs": abs, "sign": lambda x: (x > 0) - (x < 0), "sin": math.sin,
    "cos": math.cos, "tan": math.tan, "tanh": math.tanh, "sinh": math.sinh, "cosh": math.cosh, "floor": math.floor,
    "ceil": math.ceil, "round": round, "erf": math.erf, "lgamma": math.lgamma, "arctan": math.atan, "arcsin": math.asin,
    "arccos": math.acos,
}  # fmt: skip
_ARRAY = {"arcsin": "asin", "arccos": "acos", "arctan": "atan"}
_CONSTANTS = {"pi": math.pi, "inf": math.inf, "e": math.e}


class Labelled:
    """An array whose first axes have names."""

    __slots__ = ("array", "names")

    def __init__(self, names: tuple[str, ...], array: Any) -> None:
        self.names, self.array = names, array

    @property
    def own(self) -> int:
        """The number of axes without a name."""
        return len(self.array.shape) - len(self.names)


def namespace_of(values: Mapping[str, Any]) -> Any:
    """The array namespace of Tensors among the values, else of the first array, else of the CPU."""
    arrays = [value for value in values.values() if hasattr(value, "shape")]
    for value in arrays:
        if hasattr(value, "edge"):  # a Tensor: gradients go through
            return value.__array_namespace__()
    if arrays:
        return backend_of(arrays[0])
    return resolve("cpu")[0]


def evaluate(
    lines: tuple[Line, ...],
    symbols: tuple[Symbol, ...],
    values: Mapping[str, Any],
    call: Callable[[Callable[..., Any], list[Any]], Any],
) -> dict[str, Any]:
    """What the lines define, by symbol, for the values of the other symbols; `call` calls a layer or function among these."""
    arrays = {k: v for k, v in values.items() if hasattr(v, "shape")}
    xp = namespace_of(arrays)
    made = {}
    for name, value in values.items():
        is_list = isinstance(value, list | tuple) and not any(isinstance(v, str) for v in value)
        made[name] = xp.asarray(value, dtype=None if _integers(value) else xp.float64) if is_list else value
    evaluator = _Evaluator(xp, made, symbols, call)
    evaluator.run(lines)
    return evaluator.defined


def _integers(value: Any) -> bool:
    return all(map(_integers, value)) if isinstance(value, list | tuple) else isinstance(value, int)


def _blocks(lines: tuple[Line, ...]) -> list[tuple[str | None, list[Line]]]:
    """The lines in groups: (None, one line), or (t, the lines that are evaluated step by step in t)."""
    steps: set[str] = set()
    defined = {line.name for line in lines}
    for line in lines:
        first = index_name(line.indices[0]) if line.indices else None
        if first is None:
            continue
        for other in lines:
            for node in ast.walk(other.value):
                if (
                    isinstance(node, ast.Subscript)
                    and isinstance(node.value, ast.Name)
                    and node.value.id in defined
                    and node.value.id not in REDUCTIONS
                    and _shift(indices_of(node)[0], first)
                    and any(line2.name == node.value.id and line2.indices and index_name(line2.indices[0]) == first for line2 in lines)
                ):  # fmt: skip
                    steps.add(first)
    groups: list[tuple[str | None, list[Line]]] = []
    at = 0
    while at < len(lines):
        first = index_name(lines[at].indices[0]) if lines[at].indices else None
        if first in steps:
            last = max(
                k for k, line in enumerate(lines) if line.indices and index_name(line.indices[0]) == first
            )
            start = at
            groups.append((first, list(lines[start : last + 1])))
            at = last + 1
        else:
            groups.append((None, [lines[at]]))
            at += 1
    return groups


def _shift(node: ast.expr, name: str) -> int:
    """−1 for ``name - k``, +1 for ``name + k``, else 0."""
    if (
        isinstance(node, ast.BinOp)
        and isinstance(node.left, ast.Name)
        and node.left.id == name
        and isinstance(node.right, ast.Constant)
    ):
        return -1 if isinstance(node.op, ast.Sub) else 1
    return 0


class _Evaluator:
    def __init__(
        self, xp: Any, values: dict[str, Any], symbols: tuple[Symbol, ...], call: Callable[..., Any]
    ) -> None:
        self.xp, self.call = xp, call
        self.values: dict[str, Any] = dict(values)
        self.ranges: dict[str, tuple[int, int]] = {}
        self.series: dict[str, dict[int, Any]] = {}
        self.defined: dict[str, Any] = {}
        self.undrawn: set[str] = set()
        self.line: Line | None = None
        floats: list[Any] = [
            v for v in values.values() if hasattr(v, "shape") and xp.isdtype(v.dtype, "real floating")
        ]
        self.float = floats[0].dtype if floats else xp.float64
        for last in (False, True):
            for symbol in symbols:
                if symbol.axes is not None and hasattr(self.values.get(symbol.name), "shape"):
                    self._sizes(symbol, symbol.axes, last)

    def _sizes(self, symbol: Symbol, all_axes: tuple[str, ...], last: bool) -> None:
        """The lengths of axes by their names, which must agree where they are said twice; `last`: axes ``N?`` of one element are
        repeated."""
        value: Any = self.values[symbol.name]
        leading = "..." in all_axes[:1]
        axes = all_axes[1:] if leading else all_axes
        shape = tuple(value.shape)
        if len(shape) < len(axes) or (not leading and len(shape) != len(axes)):
            msg = f"{symbol.name} must have the axes ({', '.join(all_axes)}), got shape {shape}"
            raise EquationError(msg)
        before = len(shape) - len(axes)
        whole = [*shape]
        for k, axis in enumerate(axes, before):
            name, once = axis.rstrip("*?"), shape[k] == 1 and axis.endswith("?")
            if not name.isidentifier() or (once and not last):
                continue
            known = self.values.setdefault(name, shape[k])
            if known != shape[k] and not once:
                msg = f"{symbol.name} has {name} = {shape[k]}, but {name} = {known} elsewhere"
                raise EquationError(msg)
            whole[k] = known
        if tuple(whole) != shape:
            self.values[symbol.name] = self.xp.broadcast_to(value, tuple(whole))

    def fail(self, text: str) -> EquationError:
        return EquationError(f"{self.line.text if self.line else ''!r}: {text}")

    # ----- lines -----

    def run(self, lines: tuple[Line, ...]) -> None:
        for step, group in _blocks(lines):
            if step is None:
                self.plain(group[0])
            else:
                self.recurrence(step, group)

    def plain(self, line: Line) -> None:
        self.line = line
        if line.random:
            if line.name in self.values:
                self.defined[line.name] = self.values[line.name]
            else:
                self.undrawn.add(line.name)
            return
        if line.indices and not any(index_name(i) or _is_ellipsis(i) for i in line.indices[:1]):
            first = line.indices[0]  # ``h[-1] = h0``, a start
            self.series.setdefault(line.name, {})[self.integer(first)] = self.assigned(line, line.indices[1:])
            return
        value = self.assigned(line, line.indices)
        self.values[line.name] = self.defined[line.name] = value

    def recurrence(self, step: str, group: list[Line]) -> None:
        defined = {line.name for line in group}
        self.line = group[0]
        low, high = self.range_of(step, group)
        down = any(
            _shift(indices_of(node)[0], step) > 0
            for line in group
            for node in ast.walk(line.value)
            if isinstance(node, ast.Subscript)
            and isinstance(node.value, ast.Name)
            and node.value.id in defined
        )
        starts = [k for name in defined for k in self.series.get(name, {})]
        if starts:
            low, high = (low, min(high, *starts)) if down else (max(low, *[k + 1 for k in starts]), high)
        for line in group:
            self.series.setdefault(line.name, {})
        for t in range(high - 1, low - 1, -1) if down else range(low, high):
            self.values[step] = t
            for line in group:
                self.line = line
                if line.random:
                    continue
                if line.indices and index_name(line.indices[0]) == step:
                    self.series[line.name][t] = self.assigned(line, line.indices[1:])
                else:
                    self.values[line.name] = self.assigned(line, line.indices)
        self.values.pop(step, None)
        for line in group:
            if line.indices and index_name(line.indices[0]) == step:
                parts = [
                    self.array(_as(self.series[line.name][t], self), at_least=False) for t in range(low, high)
                ]
                stacked = self.xp.stack(list(self.xp.broadcast_arrays(*parts))) if parts else None
                self.values[line.name] = self.defined[line.name] = stacked
                self.values[f"{line.name}@"] = low

    def range_of(self, name: str, group: list[Line]) -> tuple[int, int]:
        for line in group:
            for index in line.indices:
                if isinstance(index, ast.Slice) and index_name(index) == name:
                    return self.bounds(index)
        for line in group:
            found = self.inferred(name, line.value)
            if found:
                return found
        raise self.fail(f"no array tells the range of {name}: write {name}: size")

    def assigned(self, line: Line, indices: list[ast.expr]) -> Any:
        """The value of a line with the labels of its left side as axes, in their order; own axes last, or where ``...`` stands."""
        saved = dict(self.ranges)
        labels = [n for n in (index_name(i) for i in indices) if n]
        for index in indices:
            name = index_name(index)
            if name is None:
                continue
            if isinstance(index, ast.Slice):
                self.ranges[name] = self.bounds(index)
            else:
                self.ranges.pop(name, None)
                found = self.inferred(name, line.value)
                if found is None:
                    raise self.fail(f"no array tells the range of {name}: write {name}: size on the left")
                self.ranges[name] = found
        value = self.visit(line.value)
        if not labels and not isinstance(value, Labelled):
            self.ranges = saved
            return value
        value = self.spread(_as(value, self), tuple(labels))
        extra = [n for n in value.names if n not in labels]
        if extra:
            raise self.fail(f"the index {extra[0]} is on the right, but not on the left")
        own = list(range(len(value.names), len(value.array.shape)))
        order = []
        for index in indices:
            name = index_name(index)
            order += [value.names.index(name)] if name else own if _is_ellipsis(index) else []
        if not any(_is_ellipsis(i) for i in indices):
            order += own
        self.ranges = saved
        array = value.array
        return (
            self.xp.permute_dims(array, tuple(order)) if len(order) > 1 and order != sorted(order) else array
        )

    # ----- ranges of indices -----

    def bounds(self, index: ast.Slice) -> tuple[int, int]:
        assert index.upper is not None
        if index.step is None:
            return 0, self.integer(index.upper)
        return self.integer(index.upper), self.integer(index.step)

    def integer(self, node: ast.expr) -> int:
        value = self.visit(node)
        if isinstance(value, Labelled):
            if value.names or math.prod(value.array.shape) != 1:
                raise self.fail(f"{ast.unparse(node)} must be one whole number")
            value = self.xp.reshape(value.array, (1,))[0]
        if int(value) != value:
            raise self.fail(f"{ast.unparse(node)} must be a whole number, got {value}")
        return int(value)

    def inferred(self, name: str, tree: ast.AST) -> tuple[int, int] | None:
        """The range of an index from the first array that has it alone as an index."""
        for node in ast.walk(tree):
            if not isinstance(node, ast.Subscript) or not isinstance(node.value, ast.Name):
                continue
            array: Any = self.values.get(node.value.id)
            indices = indices_of(node)
            if node.value.id in self.series and node.value.id not in self.defined:
                some = self.series[node.value.id]
                array, indices = ([*some.values()][-1], indices[1:]) if some else (None, [])
            if not hasattr(array, "shape"):
                continue
            if any(_is_ellipsis(i) for i in indices):
                at = next(k for k, i in enumerate(indices) if _is_ellipsis(i))
                indices = [
                    *indices[:at],
                    *[ast.Constant(0)] * (len(array.shape) - len(indices) + 1),
                    *indices[at + 1 :],
                ]
            for index, size in zip(indices, array.shape, strict=False):
                if isinstance(index, ast.Name) and index.id == name:
                    return 0, size
        return None

    # ----- labels -----

    def array(self, value: Any, at_least: bool = True) -> Any:
        return value.array if isinstance(value, Labelled) else self.xp.asarray(value)

    def spread(self, value: Labelled, names: tuple[str, ...]) -> Labelled:
        """The value with these labels in front, where it lacks one repeated over its range."""
        new = tuple(n for n in names if n not in value.names)
        array = value.array
        if new:
            sizes = tuple(self.ranges[n][1] - self.ranges[n][0] for n in new)
            array = self.xp.broadcast_to(array, sizes + tuple(array.shape))
        have = new + value.names
        order = [have.index(n) for n in names] + [have.index(n) for n in have if n not in names]
        rest = list(range(len(have), len(array.shape)))
        array = (
            self.xp.permute_dims(array, tuple(order + rest)) if order != list(range(len(order))) else array
        )
        return Labelled(tuple(have[k] for k in order), array)

    def aligned(self, *values: Any, own: int | None = None) -> tuple[tuple[str, ...], list[Any], list[int]]:
        """The values' arrays with one order of labels, axes of length 1 where one is missing; Python numbers stay."""
        names: tuple[str, ...] = ()
        most = 0
        for value in values:
            if isinstance(value, Labelled):
                names += tuple(n for n in value.names if n not in names)
                most = max(most, value.own)
        out = []
        for value in values:
            if not isinstance(value, Labelled):
                out.append(value)
                continue
            have = [n for n in names if n in value.names]
            order = [value.names.index(n) for n in have] + list(
                range(len(value.names), len(value.array.shape))
            )
            array = value.array
            if order != list(range(len(order))):
                array = self.xp.permute_dims(array, tuple(order))
            shape = tuple(array.shape)
            labels = dict(zip(have, shape, strict=False))
            pad = (1,) * ((most if own is None else own) - value.own)
            array = self.xp.reshape(array, (*[labels.get(n, 1) for n in names], *pad, *shape[len(have) :]))
            out.append(array)
        return names, out, [most]

    def floating(self, array: Any) -> Any:
        if hasattr(array, "dtype") and not self.xp.isdtype(array.dtype, "real floating"):
            return self.xp.astype(array, self.float)
        return float(array) if isinstance(array, bool) else array

    def arithmetic(self, op: type, a: Any, b: Any) -> Any:
        function = _ARITHMETIC[op]
        if not isinstance(a, Labelled) and not isinstance(b, Labelled):
            return self.scalars(function, a, b)
        names, (x, y), _ = self.aligned(a, b)
        xp = self.xp
        whole = all(
            isinstance(v, int) if not hasattr(v, "dtype") else xp.isdtype(v.dtype, "integral") for v in (x, y)
        )
        if not whole or op in (ast.Div, ast.Pow):
            x, y = self.floating(x), self.floating(y)
        if op is ast.Pow and not hasattr(x, "dtype"):
            x = xp.asarray(float(x), dtype=self.float)
        return Labelled(names, function(x, y))

    def scalars(self, function: Callable[[Any, Any], Any], a: Any, b: Any) -> Any:
        try:
            return function(a, b)
        except ZeroDivisionError:
            return math.nan if a == 0 else math.copysign(math.inf, a)

    # ----- nodes -----

    def visit(self, node: ast.AST) -> Any:
        method = getattr(self, f"visit_{type(node).__name__}", None)
        if method is None:
            raise self.fail(f"{ast.unparse(node)} has no value")
        return method(node)

    def visit_Constant(self, node: ast.Constant) -> Any:
        return node.value

    def visit_Name(self, node: ast.Name) -> Any:
        name = node.id
        if name in self.ranges:
            low, high = self.ranges[name]
            return Labelled((name,), self.xp.arange(low, high, dtype=self.xp.int64))
        if name in self.values:
            value = self.values[name]
            return Labelled((), value) if hasattr(value, "shape") else value
        if name in self.series:
            raise self.fail(f"{name} is defined step by step and needs an index")
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name in self.undrawn:
            raise self.fail(f"{name} is drawn at random: give its value")
        raise self.fail(f"the value of {name} is missing")

    def visit_BinOp(self, node: ast.BinOp) -> Any:
        a, b = self.visit(node.left), self.visit(node.right)
        if isinstance(node.op, ast.MatMult):
            return self.matmul(_as(a, self), _as(b, self))
        return self.arithmetic(type(node.op), a, b)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> Any:
        value = self.visit(node.operand)
        if isinstance(node.op, ast.Not):
            if not isinstance(value, Labelled):
                return not value
            return Labelled(value.names, self.xp.logical_not(value.array))
        if isinstance(node.op, ast.UAdd):
            return value
        if not isinstance(value, Labelled):
            return -value
        array = value.array
        return Labelled(
            value.names, -(self.floating(array) if self.xp.isdtype(array.dtype, "bool") else array)
        )

    def visit_Compare(self, node: ast.Compare) -> Any:
        values = [self.visit(v) for v in (node.left, *node.comparators)]
        result: Any = True
        for op, a, b in zip(node.ops, values, values[1:], strict=False):
            if not isinstance(a, Labelled) and not isinstance(b, Labelled):
                one: Any = _COMPARISONS[type(op)](a, b)
            else:
                if a is None or b is None:
                    msg = f"{ast.unparse(node)}: an array cannot be compared with a missing value"
                    raise self.fail(msg)
                names, (x, y), _ = self.aligned(a, b)
                whole = all(not hasattr(v, "dtype") or self.xp.isdtype(v.dtype, "integral") for v in (x, y))
                if not (whole and not any(isinstance(v, float) for v in (x, y))):
                    x, y = self.floating(x), self.floating(y)
                one = Labelled(names, _COMPARISONS[type(op)](x, y))
            result = self.both(result, one, self.xp.logical_and)
        return result

    def both(self, a: Any, b: Any, function: Callable[[Any, Any], Any]) -> Any:
        if not isinstance(a, Labelled) and not isinstance(b, Labelled):
            return bool(a) and bool(b) if function is self.xp.logical_and else bool(a) or bool(b)
        for one, other in ((a, b), (b, a)):
            if not isinstance(one, Labelled):
                absorbs = bool(one) != (function is self.xp.logical_and)
                return bool(one) if absorbs else other
        names, (x, y), _ = self.aligned(a, b)
        return Labelled(names, function(x, y))

    def visit_BoolOp(self, node: ast.BoolOp) -> Any:
        function = self.xp.logical_and if isinstance(node.op, ast.And) else self.xp.logical_or
        value = self.visit(node.values[0])
        for part in node.values[1:]:
            if not isinstance(value, Labelled) and bool(value) != isinstance(node.op, ast.And):
                return bool(value)
            value = self.both(value, self.visit(part), function)
        return value

    def visit_List(self, node: ast.List) -> Any:
        value = self.visit(node.elts[0])
        if not isinstance(value, Labelled):
            return 1.0 if value else 0.0
        return Labelled(value.names, self.xp.astype(value.array, self.float))

    def visit_IfExp(self, node: ast.IfExp) -> Any:
        test = self.visit(node.test)
        if not isinstance(test, Labelled):
            return self.visit(node.body if test else node.orelse)
        names, (c, x, y), _ = self.aligned(
            test, _as(self.visit(node.body), self), _as(self.visit(node.orelse), self)
        )
        if x.dtype != y.dtype:
            x, y = self.floating(x), self.floating(y)
        return Labelled(names, self.xp.where(c, x, y))

    def visit_Attribute(self, node: ast.Attribute) -> Any:
        value = _as(self.visit(node.value), self)
        if value.own < 2:
            return value
        axes = list(range(len(value.array.shape)))
        axes[-2:] = axes[-1], axes[-2]
        return Labelled(value.names, self.xp.permute_dims(value.array, tuple(axes)))

    def matmul(self, a: Labelled, b: Labelled) -> Labelled:
        if not b.own and a.own == 2 and not a.names and not bool(self.xp.any(b.array != 0)):
            # a state that is 0, with whatever axes
            return Labelled(b.names, self.xp.zeros((*b.array.shape, a.array.shape[0]), dtype=self.float))
        if not a.own or not b.own:
            raise self.fail(f"@ needs matrices or vectors, got {a.own} and {b.own} own axes")
        xp = self.xp
        left, right = a.own == 1, b.own == 1
        if left:
            a = Labelled(a.names, xp.expand_dims(a.array, axis=-2))
        if right:
            b = Labelled(b.names, xp.expand_dims(b.array, axis=-1))
        names, (x, y), _ = self.aligned(a, b)
        z = xp.matmul(self.floating(x), self.floating(y))
        if left:
            z = xp.squeeze(z, axis=-2)
        if right:
            z = xp.squeeze(z, axis=-1)
        return Labelled(names, z)

    # ----- subscripts -----

    def visit_Subscript(self, node: ast.Subscript) -> Any:
        indices = indices_of(node)
        if isinstance(node.value, ast.Name):
            name = node.value.id
            if name in self.series and name not in self.defined:
                step = self.integer(indices[0])
                if step not in self.series[name]:
                    raise self.fail(f"{name}[{step}] is not defined: give a start, {name}[{step}] = …")
                if len(indices) == 1 and not hasattr(self.series[name][step], "shape"):
                    return self.series[name][step]  # a number
                return self.picked(_as(self.series[name][step], self), indices[1:])
            if name in self.series and f"{name}@" in self.values:
                shift = self.values[f"{name}@"]
                if shift or (
                    not names_in(indices[0]) & set(self.ranges)
                    and self.integer(indices[0]) in self.series[name]
                ):
                    return self.picked(_as(self.series[name][self.integer(indices[0])], self), indices[1:])
        value = self.visit(node.value)
        if isinstance(value, Labelled):
            if value.names:
                raise self.fail(f"{ast.unparse(node.value)} has its indices already")
            return self.picked(value, indices)
        return value  # a number stands for an array of it

    def picked(self, value: Labelled, indices: list[ast.expr]) -> Labelled | Any:
        array = value.array
        ndim = len(array.shape)
        if not indices or not ndim:
            return value
        if any(_is_ellipsis(i) for i in indices):
            at = next(k for k, i in enumerate(indices) if _is_ellipsis(i))
            whole = ast.Slice(None, None, None)
            indices = [*indices[:at], *[whole] * (ndim - len(indices) + 1), *indices[at + 1 :]]
        if len(indices) > ndim:
            raise self.fail(f"{len(indices)} indices for an array of shape {tuple(array.shape)}")
        picks = [k for k, i in enumerate(indices) if not (isinstance(i, ast.Slice) and i.lower is None)]
        rest = [k for k in range(ndim) if k not in picks]
        order = picks + rest
        if order != sorted(order):
            array = self.xp.permute_dims(array, tuple(order))
        shape = tuple(array.shape)
        names = [i.id if isinstance(i, ast.Name) else None for i in (indices[k] for k in picks)]
        direct = all(
            n is not None and self.ranges.get(n) == (0, size) and names.count(n) == 1
            for n, size in zip(names, shape, strict=False)
        )
        if direct:
            return Labelled(tuple(n for n in names if n), array)
        return self.gathered(array, [self.visit(indices[k]) for k in picks])

    def gathered(self, array: Any, indices: list[Any]) -> Labelled:
        """array[i, j, …] with computed indices, 0 outside."""
        xp = self.xp
        sizes, own = tuple(array.shape)[: len(indices)], tuple(array.shape)[len(indices) :]
        place: Any = 0
        inside: Any = True
        for index, size in zip(indices, sizes, strict=True):
            if isinstance(index, Labelled) and xp.isdtype(index.array.dtype, "real floating"):
                index = Labelled(index.names, xp.astype(xp.floor(index.array), xp.int64))
            elif isinstance(index, Labelled):
                index = Labelled(index.names, xp.astype(index.array, xp.int64))
            else:
                index = int(index)
            place = self.arithmetic(ast.Add, self.arithmetic(ast.Mult, place, size), index)
            for a, b in ((0, index), (index, size - 1)):
                one: Any = a <= b if not isinstance(a, Labelled) and not isinstance(b, Labelled) else None
                if one is None:
                    names, (x, y), _ = self.aligned(a, b)
                    one = Labelled(names, x <= y)
                inside = self.both(inside, one, xp.logical_and)
        names, (at, there), _ = self.aligned(
            _as(place, self), inside if isinstance(inside, Labelled) else _as(inside, self)
        )
        there = xp.broadcast_to(there, at.shape)
        at = xp.where(there, at, xp.zeros_like(at))
        flat = xp.reshape(array, (math.prod(sizes), *own))
        if not math.prod(sizes):
            raise self.fail(f"an array of shape {tuple(array.shape)} has no elements to pick")
        found = xp.reshape(xp.take(flat, xp.reshape(at, (-1,)), axis=0), (*at.shape, *own))
        there = xp.reshape(there, (*there.shape, *(1,) * len(own)))
        return Labelled(names, xp.where(there, found, xp.zeros_like(found)))

    # ----- calls -----

    def visit_Call(self, node: ast.Call) -> Any:
        brackets = bound_indices(node)
        target = node.func.value if isinstance(node.func, ast.Subscript) else node.func
        if not isinstance(target, ast.Name):
            raise self.fail(f"{ast.unparse(node.func)} is no function")
        name = target.id
        if name in DISTRIBUTIONS:
            raise self.fail(f"{name} stands on the right of ~ alone")
        found = self.values.get(name)
        if brackets and found is not None and not hasattr(found, "shape") and hasattr(found, "__getitem__"):
            return self.called(found[self.integer(brackets[0])], [self.visit(a) for a in node.args])
        if callable(found):
            return self.called(self.values[name], [self.visit(a) for a in node.args])
        if brackets:
            return self.reduced(name, brackets, node.args)
        args = [self.visit(a) for a in node.args]
        if name in ("max", "min") and len(args) > 1:
            value = args[0]
            for other in args[1:]:
                value = self.larger(value, other, name)
            return value
        if name == "size":
            return math.prod(_as(args[0], self).array.shape)
        if name in REDUCTIONS:
            return self.whole(name, args)
        return self.elementwise(name, args)

    def called(self, function: Callable[..., Any], args: list[Any]) -> Any:
        """A layer or function that stands in the equation: by its own equation, if it has one."""
        names, arrays, _ = self.aligned(*(a if isinstance(a, Labelled) else _as(a, self) for a in args))
        result = self.call(function, arrays)
        result = result[0] if isinstance(result, tuple) else result
        return Labelled(names, self.array(result))

    def larger(self, a: Any, b: Any, name: str) -> Any:
        if not isinstance(a, Labelled) and not isinstance(b, Labelled):
            return max(a, b) if name == "max" else min(a, b)
        names, (x, y), _ = self.aligned(_as(a, self), _as(b, self))
        if x.dtype != y.dtype:
            x, y = self.floating(x), self.floating(y)
        return Labelled(names, (self.xp.maximum if name == "max" else self.xp.minimum)(x, y))

    def reduced(self, name: str, brackets: list[ast.expr], args: list[ast.expr]) -> Any:
        """``sum[i, j: n, i != j](body)``."""
        saved = dict(self.ranges)
        over: list[str] = []
        conditions = []
        axes = False
        for part in brackets:
            index = index_name(part)
            if _is_ellipsis(part):
                axes = True
                continue
            if index is None:
                conditions.append(part)
                continue
            over.append(index)
            if isinstance(part, ast.Slice):
                self.ranges[index] = self.bounds(part)
            else:
                self.ranges.pop(index, None)
                found = self.inferred(index, args[0])
                if found is None:
                    raise self.fail(f"no array tells the range of {index}: write {name}[{index}: size]")
                self.ranges[index] = found
        value = _as(self.visit(args[0]), self)
        mask: Any = True
        for condition in conditions:
            mask = self.both(mask, self.visit(condition), self.xp.logical_and)
        if isinstance(mask, Labelled):  # so that both have each label
            extra = tuple(n for n in mask.names if n not in value.names)
            value = self.spread(value, (*extra, *value.names))
        value = self.spread(value, tuple(over))
        if isinstance(mask, Labelled):
            mask = self.spread(mask, value.names)
            shape, count = tuple(mask.array.shape), len(mask.names)
            pad = (1,) * (value.own - mask.own)
            mask = self.xp.reshape(mask.array, (*shape[:count], *pad, *shape[count:]))
        elif not mask:
            mask = self.xp.zeros((1,) * len(value.array.shape), dtype=self.xp.bool)
        else:
            mask = None
        self.ranges = saved
        count = len(over)
        places = tuple(range(count))
        if axes:
            places += tuple(range(len(value.names), len(value.array.shape)))
        result = self.along(name, value.array, places, mask)
        if name in ("softmax", "sort"):
            return Labelled(value.names, result)
        return Labelled(value.names[count:], result)

    def whole(self, name: str, args: list[Any]) -> Any:
        """A reduction without brackets: over all own axes; softmax and sort along the last."""
        value = _as(args[0], self)
        first = len(value.names)
        places = tuple(range(first, len(value.array.shape)))
        if name in ("softmax", "sort", "argmax", "argmin"):
            places = places[-1:]
        if name == "norm" and len(args) > 1:
            p = args[1]
            powers = self.floating(self.xp.abs(value.array)) ** float(p)
            return Labelled(value.names, self.xp.sum(powers, axis=places) ** (1.0 / p))
        return Labelled(value.names, self.along(name, value.array, places, None))

    # Over 60 lines: a row of one case for each reduction
    def along(self, name: str, x: Any, axis: tuple[int, ...], mask: Any) -> Any:
        xp = self.xp
        if xp.isdtype(x.dtype, "bool") and name not in ("any", "all"):
            x = self.floating(x)

        def filled(value: float) -> Any:
            return (
                x if mask is None else xp.where(mask, self.floating(x), xp.asarray(value, dtype=self.float))
            )

        if name == "sum":
            return (
                xp.sum(filled(0.0), axis=axis, dtype=x.dtype)
                if mask is None
                else xp.sum(filled(0.0), axis=axis)
            )
        if name == "prod":
            return xp.prod(filled(1.0), axis=axis)
        if name in ("max", "min"):
            return getattr(xp, name)(filled(-math.inf if name == "max" else math.inf), axis=axis)
        if name in ("mean", "var"):
            x = self.floating(x)
            kept = xp.ones_like(x) if mask is None else xp.astype(xp.broadcast_to(mask, x.shape), self.float)
            count = xp.sum(kept, axis=axis, keepdims=True)
            kept_x = x if mask is None else xp.where(mask, x, xp.zeros_like(x))
            mean = xp.sum(kept_x, axis=axis, keepdims=True) / count
            if name == "var":
                return xp.sum(kept * (x - mean) ** 2, axis=axis) / xp.sum(kept, axis=axis)
            return xp.reshape(mean, tuple(s for k, s in enumerate(mean.shape) if k not in axis))
        if name == "norm":
            return xp.sqrt(xp.sum(filled(0.0) * filled(0.0), axis=axis))
        if name in ("logsumexp", "softmax"):
            x = filled(-math.inf)
            top = xp.max(x, axis=axis, keepdims=True)
            top = xp.where(xp.isfinite(top), top, xp.zeros_like(top))
            powers = xp.exp(x - top)
            total = xp.sum(powers, axis=axis, keepdims=True)
            if name == "softmax":  # where nothing is finite, 0
                return powers / xp.where(total > 0, total, xp.ones_like(total))
            value = xp.log(total) + top
            return xp.reshape(value, tuple(s for k, s in enumerate(value.shape) if k not in axis))
        if name in ("argmax", "argmin"):
            return getattr(xp, name)(filled(-math.inf if name == "argmax" else math.inf), axis=axis[0])
        if name == "sort":  # the largest first
            return xp.sort(filled(-math.inf), axis=axis[0], descending=True)
        if name in ("any", "all"):
            x = xp.astype(x, xp.bool)
            if mask is not None:
                x = xp.logical_and(x, mask) if name == "any" else xp.logical_or(x, xp.logical_not(mask))
            return getattr(xp, name)(x, axis=axis)
        raise self.fail(f"{name} is no function that takes indices in brackets")

    def elementwise(self, name: str, args: list[Any]) -> Any:
        if name == "clip":
            return self.larger(self.larger(args[0], args[1], "max"), args[2], "min")
        (value,) = args
        if not isinstance(value, Labelled):
            value = float(value) if name not in ("abs", "sign", "floor", "ceil") else value
            if name in _SCALAR:
                try:
                    return _SCALAR[name](value)
                except (ValueError, OverflowError):
                    pass
            value = _as(value, self)
        array = value.array if name in ("abs", "sign") else self.floating(value.array)
        return Labelled(value.names, self.function(name, array))

    def function(self, name: str, x: Any) -> Any:
        xp = self.xp
        if name == "relu":
            return xp.maximum(x, xp.zeros_like(x))
        if name == "sigmoid":
            return 0.5 * (1 + xp.tanh(0.5 * x))
        if name == "softplus":
            return xp.maximum(x, xp.zeros_like(x)) + xp.log1p(xp.exp(-xp.abs(x)))
        if name == "Phi":
            return 0.5 * (1 + self.function("erf", x / math.sqrt(2)))
        if name in ("erf", "lgamma"):
            special = getattr(getattr(xp, "special", None), "erf", None) if name == "erf" else None
            if special is not None:
                return special(x)
            one = math.erf if name == "erf" else math.lgamma
            flat = xp.reshape(x, (-1,))
            return xp.reshape(
                xp.asarray([one(float(flat[k])) for k in range(flat.shape[0])], dtype=x.dtype), x.shape
            )
        function = getattr(xp, _ARRAY.get(name, name), None)
        if function is None:
            raise self.fail(f"{name} is no function of the language")
        return function(x)


def _as(value: Any, evaluator: _Evaluator) -> Labelled:
    """A value as an array with labels."""
    if isinstance(value, Labelled):
        return value
    if hasattr(value, "shape"):
        return Labelled((), value)
    if not isinstance(value, bool | int | float):
        raise evaluator.fail(f"{value!r} is no number")
    xp = evaluator.xp
    dtype = xp.bool if isinstance(value, bool) else xp.int64 if isinstance(value, int) else evaluator.float
    return Labelled((), xp.asarray(value, dtype=dtype))


def _is_ellipsis(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is ...
