"""Changing shape and order: linear maps whose transposes are of the same kind."""

from __future__ import annotations

import builtins
from collections.abc import Sequence
from typing import Any

from anynet import dtypes
from anynet.autograd import broadcasting
from anynet.autograd.graph import custom_node
from anynet.autograd.primitive import adjoint, primitive
from anynet.ops.shapes import as_shape, axes_of, broadcast_shapes
from anynet.ops.slicing import basic_getitem
from anynet.tensor import Tensor, move, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend, backend_of
from anynet_backends.concurrency import this_thread

__all__ = [
    "astype", "broadcast_arrays", "broadcast_to", "concat", "expand_dims", "flip", "moveaxis",
    "permute_dims", "reshape", "roll", "squeeze", "stack", "tile", "to_device", "unstack",
]  # fmt: skip


# ----- reshape, permute -----


@primitive(name="reshape", view=True)
def _reshape(xp: Backend, x: Array, *, shape: tuple[int, ...]) -> Array:
    return xp.reshape(x, shape)


_reshape.vjp(x=lambda g, x_shape: _reshape(g, shape=x_shape))


def reshape(x: ArrayLike, /, shape: int | Sequence[int], *, copy: bool | None = None) -> Tensor:
    """The same elements in another shape; one length may be -1.

    `copy=True` copies always, `copy=False` raises where the data would have to be copied.
    """
    shape = as_shape(shape)
    if copy is None:
        return _reshape(x, shape=shape)
    plain = x._data if isinstance(x, Tensor) else x
    xp = backend_of(plain)
    data = xp.reshape(plain, shape, copy=copy)
    if not isinstance(x, Tensor):
        return data  # type: ignore[no-any-return]
    out = _reshape(x, shape=shape)
    out._data = data
    return out


@primitive(name="permute_dims", view=True)
def _permute_dims(xp: Backend, x: Array, *, axes: tuple[int, ...]) -> Array:
    return xp.permute_dims(x, axes)


_permute_dims.vjp(
    x=lambda g, axes: _permute_dims(g, axes=tuple(sorted(range(len(axes)), key=axes.__getitem__)))
)


def permute_dims(x: ArrayLike, /, axes: Sequence[int]) -> Tensor:
    """Reorder the axes: axis i of the result is axis ``axes[i]`` of x."""
    return _permute_dims(x, axes=axes_of(tuple(axes), len(x.shape), "axes"))


@primitive
def rearrange(
    xp: Backend, x: Array, *, split: tuple[int, ...], axes: tuple[int, ...], shape: tuple[int, ...]
) -> Array:
    """x in the shape `split`, with its axes in the order `axes`, in the shape `shape`: three steps in one."""
    return xp.reshape(xp.permute_dims(xp.reshape(x, split), axes), shape)


rearrange.vjp(
    x=lambda g, x_shape, split, axes: rearrange(
        g,
        split=tuple([split[a] for a in axes]),
        axes=tuple(sorted(range(len(axes)), key=axes.__getitem__)),
        shape=x_shape,
    )
)


def moveaxis(x: ArrayLike, source: int | Sequence[int], destination: int | Sequence[int], /) -> Tensor:
    """Move axes to new places, the others keep their order."""
    n = len(x.shape)
    src, dst = axes_of(source, n, "source"), axes_of(destination, n, "destination")
    if len(src) != len(dst):
        msg = f"moveaxis: source and destination must have the same length, got {len(src)} and {len(dst)}"
        raise ValueError(msg)
    order = [a for a in range(n) if a not in src]
    for d, s in sorted(zip(dst, src, strict=True)):
        order.insert(d, s)
    return _permute_dims(x, axes=tuple(order))


def expand_dims(x: ArrayLike, /, axis: int | Sequence[int] = 0) -> Tensor:
    """Insert axes of length 1 at the places `axis` of the result."""
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    n = len(x.shape) + len(given)
    where = axes_of(given, n)
    rest = iter(x.shape)
    return _reshape(x, shape=tuple(1 if i in where else next(rest) for i in range(n)))


def squeeze(x: ArrayLike, /, axis: int | Sequence[int]) -> Tensor:
    """Remove axes of length 1."""
    where = axes_of(axis, len(x.shape))
    for a in where:
        if x.shape[a] != 1:
            msg = f"squeeze: axis {a} must have length 1, got {x.shape[a]} in shape {tuple(x.shape)}"
            raise ValueError(msg)
    return _reshape(x, shape=tuple(n for i, n in enumerate(x.shape) if i not in where))


# ----- broadcasting -----


def broadcast_to(x: ArrayLike, /, shape: Sequence[int]) -> Tensor:
    """Repeat x along new axes and axes of length 1, without copying; the gradient is summed over them."""
    return broadcasting.broadcast_to(x, shape=as_shape(shape))


def broadcast_arrays(*arrays: ArrayLike) -> tuple[Tensor, ...]:
    """All arrays broadcast to their common shape."""
    shape = broadcast_shapes(*(tuple(x.shape) for x in arrays))
    wide = [x if tuple(x.shape) == shape else broadcasting.broadcast_to(x, shape=shape) for x in arrays]
    return tuple(wide)  # type: ignore[arg-type]


# ----- joining and splitting -----


@primitive(name="concat")
def _concat(xp: Backend, *arrays: Array, axis: int) -> Array:
    return xp.concat(list(arrays), axis=axis)


def _concat_rule(
    g: Any, need: tuple[bool, ...], arrays_shape: tuple[tuple[int, ...], ...], axis: int
) -> list[Any]:
    out: list[Any] = []
    start = 0
    before = (slice(None),) * axis
    for wanted, shape in zip(need, arrays_shape, strict=True):
        stop = start + shape[axis]
        out.append(basic_getitem(g, key=(*before, slice(start, stop), ...)) if wanted else None)
        start = stop
    return out


_concat.vjp(arrays=_concat_rule)


def concat(arrays: Sequence[ArrayLike], /, *, axis: int | None = 0) -> Tensor:
    """Join arrays along an existing axis (None: flattened)."""
    arrays = list(arrays)
    if not arrays:
        msg = "concat: at least one array must be given, got none"
        raise ValueError(msg)
    if axis is None:
        arrays, axis = [_reshape(x, shape=(-1,)) for x in arrays], 0
    return _concat(*arrays, axis=axes_of(axis, len(arrays[0].shape))[0])


@primitive(name="stack")
def _stack(xp: Backend, *arrays: Array, axis: int) -> Array:
    return xp.stack(list(arrays), axis=axis)


def _stack_rule(g: Any, need: tuple[bool, ...], axis: int) -> list[Any]:
    before = (slice(None),) * axis
    return [basic_getitem(g, key=(*before, k, ...)) if wanted else None for k, wanted in enumerate(need)]


_stack.vjp(arrays=_stack_rule)


def stack(arrays: Sequence[ArrayLike], /, *, axis: int = 0) -> Tensor:
    """Join arrays of one shape along a new axis."""
    arrays = list(arrays)
    if not arrays:
        msg = "stack: at least one array must be given, got none"
        raise ValueError(msg)
    shape = unwrap(arrays[0]).shape
    if not all([(x._data if isinstance(x, Tensor) else x).shape == shape for x in arrays]):
        msg = f"stack: arrays must have one shape, got {', '.join(str(tuple(x.shape)) for x in arrays)}"
        raise ValueError(msg)
    (where,) = axes_of(axis, len(shape) + 1)
    return _stack(*arrays, axis=where)


@primitive(name="unstack")
def _unstack(xp: Backend, x: Array, *, axis: int) -> tuple[Array, ...]:
    return tuple(xp.unstack(x, axis=axis))


_unstack.vjp(x=lambda g, axis: stack(g, axis=axis))
_unstack.compilable = False  # views, which are made at once


def unstack(x: ArrayLike, /, *, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of x along an axis.

    >>> import anynet as an
    >>> [row.tolist() for row in an.unstack(an.asarray([[1, 2], [3, 4]]))]
    [[1, 2], [3, 4]]
    """
    (where,) = axes_of(axis, len(x.shape))
    return tuple(_unstack(x, axis=where)) if x.shape[where] else ()


# ----- flip, roll, tile -----


@primitive(name="flip", view=True)
def _flip(xp: Backend, x: Array, *, axis: tuple[int, ...]) -> Array:
    return xp.flip(x, axis=axis)


adjoint(_flip, _flip)


def flip(x: ArrayLike, /, *, axis: int | Sequence[int] | None = None) -> Tensor:
    """Reverse the order along axes (None: all)."""
    return _flip(x, axis=axes_of(axis, len(x.shape)))


@primitive(name="roll")
def _roll(xp: Backend, x: Array, *, shift: tuple[int, ...], axis: tuple[int, ...] | None) -> Array:
    return xp.roll(x, shift, axis=axis) if axis is not None else xp.roll(x, shift[0])


_roll.vjp(x=lambda g, shift, axis: _roll(g, shift=tuple(-s for s in shift), axis=axis))


def roll(x: ArrayLike, /, shift: int | Sequence[int], *, axis: int | Sequence[int] | None = None) -> Tensor:
    """Shift elements along axes, those that fall off one end return at the other (axis None: as if flattened)."""
    steps = as_shape(shift)
    if axis is None:
        return _roll(x, shift=(builtins.sum(steps),), axis=None)
    if type(axis) is int and len(steps) == 1:
        return _roll(x, shift=steps, axis=axes_of(axis, len(unwrap(x).shape)))
    given = (axis,) if isinstance(axis, int) else tuple(axis)
    if len(steps) == 1:
        steps = steps * len(given)
    if len(steps) != len(given):
        msg = f"roll: shift and axis must have the same length, got {len(steps)} and {len(given)}"
        raise ValueError(msg)
    where = tuple(axes_of(a, len(x.shape))[0] for a in given)
    return _roll(x, shift=steps, axis=where)


def tile(x: ArrayLike, repetitions: Sequence[int], /) -> Tensor:
    """Repeat the whole array along its axes: broadcast along new axes, then merge them."""
    reps = as_shape(repetitions)
    shape = tuple(x.shape)
    n = max(len(reps), len(shape))
    reps = (1,) * (n - len(reps)) + reps
    shape = (1,) * (n - len(shape)) + shape
    split: list[int] = []
    wide: list[int] = []
    for r, s in zip(reps, shape, strict=True):
        split += [1, s]
        wide += [r, s]
    x = broadcasting.broadcast_to(_reshape(x, shape=tuple(split)), shape=tuple(wide))
    return _reshape(x, shape=tuple(r * s for r, s in zip(reps, shape, strict=True)))


# ----- dtype and device -----


@primitive(name="astype")
def _astype(xp: Backend, x: Array, *, dtype: Any, copy: bool) -> Array:
    return xp.astype(x, dtypes.native(xp, dtype), copy=copy)


_astype.vjp(x=lambda g, x_dtype: broadcasting.cast_to(g, dtype=x_dtype))


def astype(x: ArrayLike, dtype: Any, /, *, copy: bool = True, device: str | None = None) -> Tensor:
    """Convert to another dtype (and device). The gradient is converted back."""
    if device is not None:
        x = to_device(x, device)
    new = dtypes.of(dtype)
    old = dtypes.of((x._data if isinstance(x, Tensor) else x).dtype)
    if old.kind == "complex" and new.kind not in ("complex", "bool"):
        msg = f"astype from {old} to {new} would drop the imaginary part; take anynet.real(x) first"
        raise TypeError(msg)
    if old is new and not copy:
        return x  # type: ignore[return-value]
    return _astype(x, dtype=new, copy=copy)


def to_device(x: ArrayLike, /, device: str, *, stream: Any = None) -> Tensor:
    """The array on another device; the gradient travels back. `stream` must be None."""
    if stream is not None:
        msg = f"to_device: stream must be None, got {stream!r}; copies are ordered by the backend"
        raise ValueError(msg)
    if not isinstance(x, Tensor):
        return move(x, device)  # type: ignore[no-any-return]
    data = move(x._data, device)
    if data is x._data:
        return x
    if x.edge is None:
        return wrap(data, x._results or Tensor)
    out = wrap(data, x._results or Tensor)
    if this_thread.recording:
        home = x.device
        out.edge = custom_node("to_device", data, [x.edge], lambda g, _: [to_device(g, home)])
    return out


def _to(self: Tensor, target: Any, /) -> Tensor:
    """This Tensor on another device ("cuda", "cpu", …) or in another dtype; the gradient travels back.

    A variable moved this way is a result: to move a Module's parameters, use ``module.to(device)``.
    """
    if isinstance(target, Tensor):
        return _to(_to(self, target.device), target.dtype)
    if isinstance(target, str) and target not in dtypes.names():
        return to_device(self, target)
    return astype(self, target, copy=False)


Tensor.to = _to  # type: ignore[method-assign]
Tensor.to_device = to_device  # type: ignore[method-assign]
