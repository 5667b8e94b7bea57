"""Lowering: an instruction becomes NumPy calls that write into arrays whose memory is planned.

All arguments of the calls are positional, and the arrays are there for good, so that a replay is a loop over
``function(*arguments)``. Views are made here once, and take no call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from anynet_backends import onednn
from anynet_backends.array_api import Array
from anynet_backends.jit import numpy_calls
from anynet_backends.jit.elementary import logistic, suited
from anynet_backends.jit.instructions import (
    Instruction,
    Origin,
    Variable,
    describe,
    is_basic_key,
    made_by,
    substitute,
)
from anynet_backends.jit.numpy_calls import CallList
from anynet_backends.jit.rows import take_rows
from anynet_backends.jit.tracer import Trace
from anynet_backends.memory.outputs import write_into
from anynet_backends.memory.reductions import PLAIN_FLOATS, sum_by_dot
from anynet_backends.numpy_namespace import largest, smallest

__all__ = ["CallList", "Lowering"]

"""Calls to be made one after the other: function and arguments."""

_REDUCE: Final = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum,
                  "all": np.logical_and, "any": np.logical_or}  # fmt: skip
_POSITIONAL: Final = {"maximum": largest, "minimum": smallest}


class Lowering:
    """Lowers instructions one by one.

    `root`: variable → the one in whose memory it lies. `arrays`: variable → its array; views are added. `draw`: fills an array
    with random words at a replay. `outside`: arrays that calls on the host may read."""

    def __init__(
        self,
        trace: Trace,
        root: dict[int, int],
        arrays: dict[int, Array],
        draw: Callable[..., None],
        outside: tuple[Array, ...],
    ) -> None:
        self.functions, self.names = trace.functions, trace.names
        self.root = root
        self.arrays = arrays
        self.draw = draw
        self.outside = outside
        self.calls: list[numpy_calls.NumpyCall] = []
        self.labels: list[str] = []  # of the calls: which instruction each belongs to
        self.text: list[str] = []  # the instructions as they are printed
        self.origins: list[Origin] = []  # of these lines
        self.extra = 0  # bytes beyond the memory plan

    def lower(self, instruction: Instruction) -> None:
        """Append the calls of an instruction."""
        made: CallList = getattr(self, f"_{instruction.kind}")(instruction)
        outs = made_by(instruction)
        views = (
            [o for o in outs if self.root[o.var] != o.var] if instruction.kind == "call" and not made else []
        )
        self.text.append(
            describe(instruction, self.names)
            + ("" if not views else "  (a view)" if len(outs) == 1 else "  (views)")
        )
        self.origins.append(instruction.origin)
        self.labels += [instruction.name.partition("#")[0]] * len(made)
        writes = tuple(self.arrays[o.var] for o in made_by(instruction))
        reads = tuple(self.arrays[v] for v in instruction.reads)
        if instruction.kind == "host":
            reads += self.outside
        if (
            len(made) > 1
        ):  # the later calls of an instruction read what the first wrote, there or in an array of their own
            reads += writes
            reads += tuple(a for _, args in made for a in args if isinstance(a, np.ndarray))
        self.calls += [numpy_calls.NumpyCall(f, args, reads, writes) for f, args in made]

    def _array(self, x: Variable) -> Array:
        return self.arrays[x.var]

    def _in_arrays(self, item: Any) -> Any:
        """An argument with arrays in place of variables."""
        return substitute(item, Variable, self._array)

    def _host(self, i: Instruction) -> CallList:
        function = i.args[0]
        return [(function, ())] if i.out is None else [(_store_result_of, (self._in_arrays(i.out), function))]

    def _check(self, i: Instruction) -> CallList:
        return [(i.args[0], self._in_arrays(i.args[1:]))]

    def _random(self, i: Instruction) -> CallList:
        return [(self.draw, (self._in_arrays(i.out), *i.args))]

    def _update(self, i: Instruction) -> CallList:
        target, other = i.args
        a = self._array(target)
        ufunc = _POSITIONAL.get(i.name) or getattr(np, i.name)
        return [(ufunc, (a, _scalar(self._in_arrays(other), a), a))]

    def _write(self, i: Instruction) -> CallList:
        a, k, v = map(self._in_arrays, i.args)
        if is_basic_key(k) and isinstance(a[k], np.ndarray):
            return [(np.copyto, (a[k], v, "unsafe"))]
        if _is_pair(a, k):
            return [(numpy_calls.scatter, (a, *k, v))]
        if isinstance(k, np.ndarray) and k.dtype == bool and k.shape == a.shape and not np.ndim(v):
            return [(numpy_calls.set_where, (a, k, v))]
        return [(a.__setitem__, (k, v))]

    def _call(self, i: Instruction) -> CallList:
        args = self._in_arrays(i.args)
        kwargs = {k: self._in_arrays(v) for k, v in i.kwargs.items()}
        f = self.functions[i.name]
        if isinstance(i.out, tuple):
            if all(self.root[o.var] != o.var for o in i.out):
                for o, view in zip(i.out, f(*args, **kwargs), strict=True):
                    self.arrays[o.var] = view
                return []
            targets = self._in_arrays(i.out)
            return (
                f.calls(targets, *args) if hasattr(f, "calls") else [(write_into, (targets, f, args, kwargs))]
            )
        assert i.out is not None
        out, lies_in = i.out.var, self.root[i.out.var]
        if lies_in != out:
            view = f(*args, **kwargs)
            if np.shares_memory(view, self.arrays[lies_in]):
                self.arrays[out] = view
                return []
            self.arrays[out] = np.empty_like(view)
            self.extra += view.nbytes
        target = self.arrays[out]
        made: CallList | None = f.calls(target, *args) if hasattr(f, "calls") else None
        return _numpy_calls(i.name, f, args, kwargs, target) if made is None else made


def _store_result_of(target: Array, function: Callable[[], Array]) -> None:
    target[...] = function()


def _call_into(target: Array, f: Any, args: Any, kwargs: Any) -> None:
    write_into((target,), f, args, kwargs)


def _is_pair(x: Any, key: Any) -> bool:
    """Whether a key picks numbers of a matrix by two lists of indices."""
    return (
        isinstance(x, np.ndarray)
        and x.ndim == 2
        and isinstance(key, tuple)
        and len(key) == 2
        and all(isinstance(k, np.ndarray) and k.ndim == 1 and k.dtype.kind == "i" for k in key)
    )


def _scalar(x: Any, like: Array) -> Any:
    """A Python number as an array of the other's dtype, which NumPy need not convert at each call."""
    if type(x) in (int, float) and like.dtype.kind == "f":
        return np.asarray(x, dtype=like.dtype)
    return x


_Rule = Callable[..., CallList | None]
"""Gives the calls for some functions; None where they need more than NumPy calls into `out`."""


def _numpy_calls(name: str, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Array) -> CallList:
    """The NumPy calls, all arguments positional, that write ``f(*args, **kwargs)`` into `out`."""
    rule: _Rule = _RULES.get(name, _ufunc)
    calls = rule(name, f, args, kwargs, out)
    return [(_call_into, (out, f, args, kwargs))] if calls is None else calls


def _ufunc(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    ufunc = getattr(np, name, None)
    if not isinstance(ufunc, np.ufunc) or kwargs or getattr(f, "ufunc", f) is not ufunc:
        return None
    arrays = [a for a in args if isinstance(a, np.ndarray)]
    if len(arrays) and len(args) <= 2 and name != "pow":
        args = tuple(_scalar(a, arrays[0]) for a in args)
    return [(_POSITIONAL.get(name) or suited(ufunc, args[0]), (*args, out))]


def _logistic(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    ufunc = logistic(args[0])
    return None if ufunc is None else [(ufunc, (args[0], out))]


def _product(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    if kwargs:
        return None
    a, b, *c = args
    if f in (onednn.matmul, onednn.affine) and onednn.product(out, a, b, *c) is not None:
        return [(f, (*args, out))]
    if a.ndim > 1 and b.ndim > 1 and a.shape[-1] == 1 and a.dtype == b.dtype == out.dtype in PLAIN_FLOATS:
        # each number is 0 + a b, as BLAS has it, whose product takes ten times longer
        return [(np.multiply, (a, b, out)), (np.add, (out, 0.0, out)), *((np.add, (out, x, out)) for x in c)]
    plain = out.flags.c_contiguous and a.ndim == 2 == b.ndim and min(*a.shape, *b.shape) > 1
    # np.dot is the same product for less
    return [(np.dot if plain else np.matmul, (a, b, out)), *((np.add, (out, x, out)) for x in c)]


def _reduction(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    if len(args) != 1 or not kwargs.keys() <= {"axis", "keepdims", "dtype"}:
        return None
    reduce: Any = sum_by_dot if name == "sum" else _REDUCE[name].reduce
    axis, dtype, keepdims = kwargs.get("axis"), kwargs.get("dtype"), kwargs.get("keepdims", False)
    return [(reduce, (args[0], axis, dtype, out, keepdims))]


_SHORT: Final = 32
"""Numbers along an axis whose running sums are sums of neighbours."""


def _running(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    """Running sums or products along a short axis, as NumPy makes them one after the other: the first numbers, then each of them from the
    numbers before."""
    axis, x = kwargs.get("axis"), args[0]
    if len(kwargs) != 1 or axis is None or x.dtype != out.dtype or out.dtype.kind != "f" or not x.size:
        return None
    if x.shape[axis] > _SHORT or x.shape[axis] ** 2 > x.size:
        return None
    rows, made = np.moveaxis(x, axis, 0), np.moveaxis(out, axis, 0)
    ufunc = np.add if name == "cumulative_sum" else np.multiply
    # with `...` a place also where it is a single number
    calls = [(ufunc, (made[i - 1, ...], rows[i, ...], made[i, ...])) for i in range(1, len(rows))]
    return [(np.copyto, (made[0, ...], rows[0, ...])), *calls]


def _mean(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    if out.dtype.kind != "f" or not out.size:
        return None
    x = args[0]
    n = np.asarray(x.size // out.size, dtype=out.dtype)
    total = (sum_by_dot, (x, kwargs.get("axis"), None, out, kwargs.get("keepdims", False)))
    return [total, (np.true_divide, (out, n, out))]


def _power(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    x, exponent = args
    square = type(exponent) in (int, float) and exponent == 2 and out.dtype.kind == "f"
    return [(np.square, (x, out))] if square else None


def _clip(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    x, *limits = args
    if kwargs or out.dtype.kind != "f" or x.dtype != out.dtype:
        return None
    bounds = [(f, b) for f, b in zip((largest, smallest), limits, strict=False) if b is not None]
    if not bounds or any(type(b) not in (int, float) for _, b in bounds):
        return None
    return [(f, (x if i == 0 else out, b, out)) for i, (f, b) in enumerate(bounds)]


def _round(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    whole = len(args) == 1 and not kwargs and out.dtype.kind == "f"
    return [(np.rint, (args[0], out))] if whole else None


def _fill(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    value = {"zeros": 0, "ones": 1}.get(name.removesuffix("_like"))
    if value is None:  # full
        value = args[1]
    return None if isinstance(value, np.ndarray) else [(out.fill, (value,))]


def _astype(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    return [(np.copyto, (out, args[0], "unsafe"))]


def _join(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    """`stack` and `concat`: copies into parts of the result."""
    axis = kwargs.get("axis", 0)
    if axis is None or any(x.dtype != out.dtype for x in args[0]):
        return None
    lead = (slice(None),) * (axis % out.ndim)
    calls: CallList = []
    start = 0
    for x in args[0]:
        stop = start + (1 if name == "stack" else x.shape[len(lead)])
        part = out[(*lead, start if name == "stack" else slice(start, stop), ...)]
        calls.append((np.copyto, (part, x, "unsafe")))
        start = stop
    return calls


def _copy_of_view(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    x = args[0]
    if not isinstance(x, np.ndarray):
        return None
    made = f(*args, **kwargs)
    if np.shares_memory(made, x):
        return [(np.copyto, (out, made))]
    if name == "reshape" and out.flags.c_contiguous:
        return [(np.copyto, (out.reshape(x.shape), x))]
    return None


def _getitem(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    x, key = args
    if is_basic_key(key):
        return _copy_of_view(name, f, args, kwargs, out)
    return [(numpy_calls.gather, (x, *key, out))] if _is_pair(x, key) else None


def _where(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    return None if kwargs else [(numpy_calls.choose, (*args, out))]


def _take(name: str, f: Any, args: Any, kwargs: dict[str, Any], out: Array) -> CallList | None:
    if "axis" not in kwargs or len(args) != 2:
        return None
    if kwargs["axis"] == 0:
        return [(take_rows, (*args, out))]
    return [(np.take, (*args, kwargs["axis"], out, "raise"))]


_RULES: Final[dict[str, _Rule]] = {
    **dict.fromkeys(("matmul", "affine"), _product),
    **dict.fromkeys(_REDUCE, _reduction),
    **dict.fromkeys(("cumulative_sum", "cumulative_prod"), _running),
    "mean": _mean, "power": _power, "round": _round, "clip": _clip, "astype": _astype,
    **dict.fromkeys(("zeros", "zeros_like", "ones", "ones_like", "full", "full_like"), _fill),
    **dict.fromkeys(("stack", "concat"), _join),
    **dict.fromkeys(("reshape", "broadcast_to", "expand_dims", "permute_dims", "squeeze"), _copy_of_view),
    "logistic": _logistic, "getitem": _getitem, "where": _where, "take": _take,
}  # fmt: skip
"""Functions that are no ufuncs, by their names in a trace."""
