"""Lowering: an instruction becomes NumPy calls that write into arrays whose memory is planned.

All arguments of the calls are positional, and the arrays are there for good, so that a replay is a loop over
``function(*arguments)``. Views are made here once, and take no call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from anynet_backends import machine, onednn
from anynet_backends.array_api import Array
from anynet_backends.jit.instructions import Instruction, Variable, is_basic_key, made_by, show, substitute
from anynet_backends.jit.tracer import Trace
from anynet_backends.memory.outputs import write_into
from anynet_backends.memory.reductions import sum_by_dot
from anynet_backends.numpy_namespace import largest, smallest

__all__ = ["CallList", "Lowering"]

CallList = list[tuple[Callable[..., Any], tuple[Any, ...]]]
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
        self.calls: list[machine.Call] = []
        self.labels: list[str] = []  # of the calls: which instruction each belongs to
        self.text: list[str] = []  # the instructions as they are printed
        self.extra = 0  # bytes beyond the memory plan

    def lower(self, instruction: Instruction) -> None:
        """Append the calls of an instruction."""
        made: CallList = getattr(self, f"_{instruction.kind}")(instruction)
        self.labels += [instruction.name.partition("#")[0]] * len(made)
        writes = tuple(self.arrays[o.var] for o in made_by(instruction))
        reads = tuple(self.arrays[v] for v in instruction.reads)
        if instruction.kind == "host":
            reads += self.outside
        if len(made) > 1:  # the later calls of an instruction read what the first wrote
            reads += writes
        self.calls += [machine.Call(f, args, reads, writes) for f, args in made]

    def _array(self, x: Variable) -> Array:
        return self.arrays[x.var]

    def _in_arrays(self, item: Any) -> Any:
        """An argument with arrays in place of variables."""
        return substitute(item, Variable, self._array)

    def _show(self, item: Any) -> str:
        return show(item, self.names)

    def _host(self, i: Instruction) -> CallList:
        self.text.append(f"{i.name}()")
        function = i.args[0]
        return [(function, ())] if i.out is None else [(_store_result_of, (self._in_arrays(i.out), function))]

    def _check(self, i: Instruction) -> CallList:
        shown = ", ".join(self._show(x) for x in i.args[1:] if isinstance(x, Variable))
        self.text.append(f"{i.name}({shown})")
        return [(i.args[0], self._in_arrays(i.args[1:]))]

    def _random(self, i: Instruction) -> CallList:
        self.text.append(f"{self._show(i.out)} = random_bits({i.args[3]})")
        return [(self.draw, (self._in_arrays(i.out), *i.args))]

    def _update(self, i: Instruction) -> CallList:
        target, other = i.args
        self.text.append(f"{self._show(target)} {i.name}= {self._show(other)}")
        a = self._array(target)
        ufunc = _POSITIONAL.get(i.name) or getattr(np, i.name)
        return [(ufunc, (a, _scalar(self._in_arrays(other), a), a))]

    def _write(self, i: Instruction) -> CallList:
        target, key, value = i.args
        self.text.append(f"{self._show(target)}[{self._show(key)}] = {self._show(value)}")
        a, k, v = map(self._in_arrays, i.args)
        if is_basic_key(k) and isinstance(a[k], np.ndarray):
            return [(np.copyto, (a[k], v, "unsafe"))]
        if _is_pair(a, k):
            return [(machine.scatter, (a, *k, v))]
        if isinstance(k, np.ndarray) and k.dtype == bool and k.shape == a.shape and not np.ndim(v):
            return [(machine.set_where, (a, k, v))]
        return [(a.__setitem__, (k, v))]

    def _call(self, i: Instruction) -> CallList:
        args = self._in_arrays(i.args)
        kwargs = {k: self._in_arrays(v) for k, v in i.kwargs.items()}
        f = self.functions[i.name]
        shown = f"{self._show(i.out)} = {i.name}({self._show(i.args)})"
        if isinstance(i.out, tuple):
            if all(self.root[o.var] != o.var for o in i.out):
                for o, view in zip(i.out, f(*args, **kwargs), strict=True):
                    self.arrays[o.var] = view
                self.text.append(f"{shown}  (views)")
                return []
            self.text.append(shown)
            return [(write_into, (self._in_arrays(i.out), f, args, kwargs))]
        assert i.out is not None
        out, lies_in = i.out.var, self.root[i.out.var]
        if lies_in != out:
            view = f(*args, **kwargs)
            if np.shares_memory(view, self.arrays[lies_in]):
                self.arrays[out] = view
                self.text.append(f"{shown}  (a view)")
                return []
            self.arrays[out] = np.empty_like(view)
            self.extra += view.nbytes
        self.text.append(shown)
        target = self.arrays[out]
        made: CallList | None = f.calls(target, *args) if hasattr(f, "calls") else None
        return _numpy_calls(i.name, f, args, kwargs, target) if made is None else made


def _join(arrays: Sequence[Array], axis: int, out: Array, new: bool) -> CallList:
    """The copies that join arrays along an axis, `new` or not."""
    calls: CallList = []
    start = 0
    for x in arrays:
        stop = start + (1 if new else x.shape[axis])
        part = out[(slice(None),) * axis + (start if new else slice(start, stop), ...)]
        calls.append((np.copyto, (part, x, "unsafe")))
        start = stop
    return calls


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


def _numpy_calls(name: str, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Array) -> CallList:
    """The NumPy calls, all arguments positional, that write ``f(*args, **kwargs)`` into `out`."""
    if name in ("matmul", "affine") and not kwargs:
        a, b, *c = args
        if f in (onednn.matmul, onednn.affine) and onednn.product(out, a, b, *c) is not None:
            return [(f, (*args, out))]
        plain = out.flags.c_contiguous and a.ndim == 2 == b.ndim and min(*a.shape, *b.shape) > 1
        # np.dot is the same product for less
        return [(np.dot if plain else np.matmul, (a, b, out)), *((np.add, (out, x, out)) for x in c)]
    ufunc = getattr(np, name, None)
    if isinstance(ufunc, np.ufunc) and not kwargs and getattr(f, "ufunc", f) is ufunc:
        arrays = [a for a in args if isinstance(a, np.ndarray)]
        if len(arrays) and len(args) <= 2:
            args = tuple(_scalar(a, arrays[0]) for a in args) if name != "pow" else args
        return [(_POSITIONAL.get(name, ufunc), (*args, out))]
    x = args[0] if args else None
    axis = kwargs.get("axis")
    if name in _REDUCE and len(args) == 1 and kwargs.keys() <= {"axis", "keepdims", "dtype"}:
        reduce = sum_by_dot if name == "sum" else _REDUCE[name].reduce
        return [(reduce, (x, axis, kwargs.get("dtype"), out, kwargs.get("keepdims", False)))]
    if name == "mean" and x is not None and out.dtype.kind == "f" and out.size:
        n = np.asarray(x.size // out.size, dtype=out.dtype)
        return [
            (sum_by_dot, (x, axis, None, out, kwargs.get("keepdims", False))),
            (np.true_divide, (out, n, out)),
        ]
    if name == "power" and type(args[1]) in (int, float) and args[1] == 2 and out.dtype.kind == "f":
        return [(np.square, (x, out))]
    if name == "clip" and not kwargs and out.dtype.kind == "f" and x is not None and x.dtype == out.dtype:
        bounds = [(f, b) for f, b in zip((largest, smallest), args[1:], strict=False) if b is not None]
        if bounds and all(type(b) in (int, float) for _, b in bounds):
            return [(f, (x if i == 0 else out, b, out)) for i, (f, b) in enumerate(bounds)]
    if name in ("zeros", "zeros_like"):
        return [(out.fill, (0,))]
    if name in ("ones", "ones_like"):
        return [(out.fill, (1,))]
    if name in ("full", "full_like") and not isinstance(args[1], np.ndarray):
        return [(out.fill, (args[1],))]
    if name == "astype":
        return [(np.copyto, (out, x, "unsafe"))]
    if name in ("stack", "concat") and all(x.dtype == out.dtype for x in args[0]):
        axis = kwargs.get("axis", 0)
        if axis is not None:
            return _join(args[0], axis % out.ndim, out, name == "stack")
    shaping = name in ("reshape", "broadcast_to", "expand_dims", "permute_dims", "squeeze")
    if (shaping or (name == "getitem" and is_basic_key(args[1]))) and isinstance(x, np.ndarray):
        made = f(*args, **kwargs)
        if np.shares_memory(made, x):
            return [(np.copyto, (out, made))]
        if name == "reshape" and out.flags.c_contiguous:
            return [(np.copyto, (out.reshape(x.shape), x))]
    if name == "getitem" and _is_pair(x, args[1]):
        return [(machine.gather, (x, *args[1], out))]
    if name == "where" and not kwargs and len(args[0].shape) == out.ndim:  # a condition may be broadcast
        return [(machine.choose, (*args, out))]
    if name == "take" and "axis" in kwargs and len(args) == 2:
        return [(np.take, (x, args[1], axis, out, "raise"))]
    return [(_call_into, (out, f, args, kwargs))]
