"""Lowering: an instruction becomes NumPy calls that write into arrays whose memory is planned."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np

from anynet_backends import machine, onednn
from anynet_backends.protocol import Array
from anynet_backends.results import fill, largest, smallest
from anynet_backends.sums import add_up

_REDUCE: Final = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum,
                  "all": np.logical_and, "any": np.logical_or}  # fmt: skip


def _joined(
    arrays: Sequence[Array], axis: int, out: Array, new: bool
) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """The copies that join arrays along an axis, `new` or not."""
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
    start = 0
    for x in arrays:
        stop = start + (1 if new else x.shape[axis])
        part = out[(slice(None),) * axis + (start if new else slice(start, stop), ...)]
        calls.append((np.copyto, (part, x, "unsafe")))
        start = stop
    return calls


def _host_into(target: Array, function: Callable[[], Array]) -> None:
    target[...] = function()


def _into(target: Array, f: Any, args: Any, kwargs: Any) -> None:
    fill((target,), f, args, kwargs)


_POSITIONAL: Final = {"maximum": largest, "minimum": smallest}


def _is_basic(key: Any) -> bool:
    keys = key if isinstance(key, tuple) else (key,)
    return all(k is None or k is ... or isinstance(k, (int, slice)) for k in keys)


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


def _calls(
    name: str, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Array
) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
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
        reduce = add_up if name == "sum" else _REDUCE[name].reduce
        return [(reduce, (x, axis, kwargs.get("dtype"), out, kwargs.get("keepdims", False)))]
    if name == "mean" and x is not None and out.dtype.kind == "f" and out.size:
        n = np.asarray(x.size // out.size, dtype=out.dtype)
        return [
            (add_up, (x, axis, None, out, kwargs.get("keepdims", False))),
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
            return _joined(args[0], axis % out.ndim, out, name == "stack")
    shaping = name in ("reshape", "broadcast_to", "expand_dims", "permute_dims", "squeeze")
    if (shaping or (name == "getitem" and _is_basic(args[1]))) and isinstance(x, np.ndarray):
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
    return [(_into, (out, f, args, kwargs))]
