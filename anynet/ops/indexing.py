"""Reading and writing parts of arrays: gather and its transpose, scatter-add."""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from sys import getrefcount
from types import EllipsisType
from typing import Any, Final

from anynet import dtypes
from anynet.autograd.broadcasting import cast_to
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.primitive import adjoint, primitive
from anynet.autograd.vmap import each, is_batched
from anynet.ops.elementwise import where
from anynet.ops.manipulation import broadcast_to, moveaxis, permute_dims, reshape
from anynet.ops.shapes import axes_of, broadcast_shapes
from anynet.ops.slicing import basic_getitem
from anynet.tensor import Leaf, Tensor, clock, to_plain, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import TYPES, Array, Backend, backend_of
from anynet_backends.concurrency import this_thread
from anynet_backends.jit.errors import user_line
from anynet_backends.jit.tracer import COMPILING

__all__ = [
    "along_axis",
    "flat_positions",
    "getitem",
    "index_add",
    "repeat",
    "replace",
    "setitem",
    "take",
    "take_along_axis",
]


# ----- rows: the gather/scatter pair that the other functions use -----


@primitive
def gather_rows(xp: Backend, x: Array, *, index: Array) -> Array:
    """x[index[k], …] for a 1-d integer index."""
    return xp.take(x, index, axis=0)


@primitive
def scatter_rows(xp: Backend, x: Array, *, index: Array, shape: tuple[int, ...]) -> Array:
    """Zeros of `shape`, with x[k, …] added to row index[k]; duplicates add up."""
    zeros = xp.zeros(shape, dtype=x.dtype, device=xp.native_device(xp.device_of(x)))
    return xp.index_add(zeros, index, x)


adjoint(gather_rows, scatter_rows)
gather_rows.array_meta = scatter_rows.array_meta = ("index",)


@primitive
def put_rows(xp: Backend, x: Array, values: Array, /, *, index: Array) -> Array:
    """x with values[k] in row index[k]; of a row that is named more than once the last value. The index is known to be in range, and
    nothing in it is negative."""
    last, named = _last_ones(index), written(index, x.shape[0])
    place = xp.arange(index.shape[0], dtype=xp.int64, device=xp.native_device(xp.device_of(x)))
    # of fixed shapes, so that it can be part of a program: for each row the number of the value that comes there
    which = xp.zeros((x.shape[0],), dtype=xp.int64, device=xp.native_device(xp.device_of(x)))
    which = xp.index_add(which, index, xp.where(last, place, xp.zeros_like(place)))
    ones = (1,) * (len(x.shape) - 1)
    if not index.shape[0]:
        return xp.asarray(x, copy=True)
    return xp.where(xp.reshape(named, (-1, *ones)), xp.take(values, which, axis=0), x)


def _put_x(g: Any, index: Array) -> Any:
    return where(_rows_of(written(index, g.shape[0]), g), 0.0, g)


def _put_values(g: Any, index: Array) -> Any:
    taken, last = gather_rows(g, index=index), _last_ones(index)
    xp = backend_of(last)
    if xp.eager and xp.values_are_cheap_to_read and bool(xp.all(last)):
        return taken
    return where(_rows_of(last, g), taken, 0.0)


def _rows_of(mask: Array, like: Any) -> Array:
    xp = backend_of(mask)
    return xp.reshape(mask, (-1, *(1,) * (len(like.shape) - 1)))


put_rows.vjp(x=_put_x, values=_put_values)
put_rows.array_meta = ("index",)


@put_rows.kernel("numpy", vjp=True)
def _put_rows_numpy(
    xp: Backend, x: Array, values: Array, /, *, index: Array, need: tuple[bool, ...] | None
) -> Any:
    """NumPy's assignment keeps the last value."""
    if not xp.eager:
        return NotImplemented
    y = xp.asarray(x, copy=True)
    y[index] = values
    if need is None:
        return y

    def pull(g: Array) -> tuple[Any, ...]:
        gx = None
        if need[0]:
            gx = xp.asarray(g, copy=True)
            gx[index] = 0
        return gx, (_put_values(g, index) if need[1] else None)

    return y, pull


def _last_ones(index: Array) -> Array:
    """Which numbers of an index do not come again."""
    xp = backend_of(index)
    if xp.eager and xp.name == "numpy":
        place = xp.arange(index.shape[0], dtype=xp.int64)
        owner = xp.empty((int(xp.max(index)) + 1 if index.shape[0] else 0,), dtype=xp.int64)
        owner[index] = place
        return owner[index] == place
    order, _, last = in_order(index)
    back = xp.zeros_like(index)
    return xp.index_add(back, order, xp.astype(last, index.dtype)) > 0


def index_add(x: ArrayLike, index: ArrayLike, values: ArrayLike, /) -> Tensor:
    """x with values[k] added to row index[k]: a deterministic scatter-add along the first axis.

    `index` is a 1-d integer array, `values` has shape (len(index), *x.shape[1:]).
    """
    index = index._data if isinstance(index, Tensor) else index
    return x + scatter_rows(values, index=check_index(index, x.shape[0], "index_add"), shape=tuple(x.shape))


def check_index(index: Array, length: int, what: str, *, negative: bool = True) -> Array:
    """A plain integer array, checked to be in range for an axis of `length`; negative numbers count from the end, or are refused."""
    xp = backend_of(index)
    if not xp.isdtype(index.dtype, "integral"):
        msg = f"{what}: indices must be integers, got {xp.dtype_name(index.dtype)}"
        raise TypeError(msg)
    if 0 in index.shape:
        return index
    least = 0

    def in_range(found: Array) -> None:
        nonlocal least
        here = backend_of(found)
        least, high = int(here.min(found)), int(here.max(found))
        if least < (-length if negative else 0) or high >= length:
            bad = high if high >= length else least
            msg = f"{what}: index {bad} is out of range for an axis of length {length}"
            if not negative and least < 0:
                msg += f"; it must be in [0, {length - 1}], negative ones do not count from the end here"
            raise IndexError(msg)

    xp.check(in_range, index, within=length, least=-length if negative else 0)
    # elsewhere the values have not been read
    if not negative or (xp.eager and xp.values_are_cheap_to_read and least >= 0):
        return index
    with xp.scope(index):
        return xp.where(index < 0, index + length, index)


def take(x: ArrayLike, indices: ArrayLike, /, *, axis: int | None = None) -> Tensor:
    """Elements of x along an axis, at 1-d integer `indices` (n-d ones give their shape to that axis)."""
    if is_batched(indices):
        return each(take, x, indices, axis=axis)
    if axis is None:
        if len(x.shape) != 1:
            msg = f"take: axis must be given for an array of shape {tuple(x.shape)}"
            raise ValueError(msg)
        axis = 0
    (where,) = axes_of(axis, len(x.shape))
    index = indices._data if isinstance(indices, Tensor) else indices
    shape = tuple(index.shape)
    index = check_index(index, x.shape[where], "take")
    xp = backend_of(index)
    flat = index if len(shape) == 1 else xp.reshape(index, (-1,))
    if where == 0:
        y = gather_rows(x, index=flat)
        return y if len(shape) == 1 else reshape(y, (*shape, *x.shape[1:]))
    y = moveaxis(gather_rows(moveaxis(x, where, 0), index=flat), 0, where)
    return y if len(shape) == 1 else reshape(y, (*x.shape[:where], *shape, *x.shape[where + 1 :]))


def take_along_axis(x: ArrayLike, indices: ArrayLike, /, *, axis: int = -1) -> Tensor:
    """x at one index along `axis` for each place of the other axes: the inverse of argsort, and the like.

    The other axes of x and indices broadcast.
    """
    if is_batched(indices):
        return each(take_along_axis, x, indices, axis=axis)
    (where,) = axes_of(axis, len(x.shape))
    index = indices._data if isinstance(indices, Tensor) else indices
    if len(index.shape) != len(x.shape):
        msg = f"take_along_axis: x and indices must have the same number of dimensions, got {len(x.shape)} and {len(index.shape)}"
        raise ValueError(msg)
    xp = backend_of(index)
    index = check_index(index, x.shape[where], "take_along_axis")
    rest = broadcast_shapes(
        (*x.shape[:where], 1, *x.shape[where + 1 :]), (*index.shape[:where], 1, *index.shape[where + 1 :])
    )
    whole = (*rest[:where], x.shape[where], *rest[where + 1 :])
    if tuple(x.shape) != whole:
        x = broadcast_to(x, whole)
    wanted = (*rest[:where], index.shape[where], *rest[where + 1 :])
    return along_axis(x, index if tuple(index.shape) == wanted else xp.broadcast_to(index, wanted), where)


def along_axis(x: ArrayLike, index: Array, where: int, *, keepdims: bool = True) -> Tensor:
    """x at a plain array of indices along the axis `where`, all of them in range, which on the other axes is as long as x at most.
    Without `keepdims` there is one index along that axis, which the result does not have."""
    flat = flat_positions(index, where, x.shape)
    shape = tuple(index.shape) if keepdims else (*index.shape[:where], *index.shape[where + 1 :])
    if len(x.shape) == 1:
        rows = gather_rows(x, index=flat)
        return rows if keepdims else reshape(rows, shape)
    return reshape(gather_rows(reshape(x, (-1,)), index=flat), shape)


def flat_positions(index: Array, where: int, shape: Sequence[int]) -> Array:
    """The position in a flattened array of `shape` of each element that `index` names along the axis `where`: Σ index_d · stride_d,
    with the element's own place along the other axes."""
    xp = backend_of(index)
    flat = index if index.dtype == xp.int64 else xp.astype(index, xp.int64)
    if len(shape) > 1:
        lengths = (*index.shape[:where], 1, *index.shape[where + 1 :])
        few = xp.eager and math.prod(lengths) <= _FEW
        own = _own_places if few else _own_places.__wrapped__
        apart = math.prod(shape[where + 1 :])
        flat = (flat if apart == 1 else flat * apart) + own(xp, xp.device_of(index), lengths, tuple(shape))
    return xp.reshape(flat, (-1,))


_FEW: Final = 1024
"""So many places are kept for the next call."""


@functools.lru_cache(maxsize=256)
def _own_places(xp: Backend, device: str, lengths: tuple[int, ...], shape: tuple[int, ...]) -> Array:
    """The position in a flattened array of `shape` of the elements of a part that is so long along each axis, and begins where it does."""
    n = len(shape)
    flat: Any = 0
    for d, length in enumerate(lengths):
        at = xp.arange(length, dtype=xp.int64, device=xp.native_device(device)) * math.prod(shape[d + 1 :])
        flat = flat + xp.reshape(at, tuple(-1 if i == d else 1 for i in range(n)))
    return flat


def repeat(x: ArrayLike, repeats: int | ArrayLike, /, *, axis: int | None = None) -> Tensor:
    """Repeat each element along an axis (None: of the flattened array) `repeats` times, an int or one int each."""
    if axis is None:
        x, axis = reshape(x, (-1,)), 0
    (where,) = axes_of(axis, len(x.shape))
    plain = x._data if isinstance(x, Tensor) else x
    xp = backend_of(plain)
    counts = repeats._data if isinstance(repeats, Tensor) else repeats
    index = xp.arange(x.shape[where], device=xp.native_device(xp.device_of(plain)))
    index = xp.repeat(index, counts)
    return take(x, wrap(index) if isinstance(x, Tensor) else index, axis=where)


# ----- x[key] -----


@primitive(name="setitem")
def _setitem(xp: Backend, x: Array, value: Array, *, key: Any, own: bool = False) -> Array:
    out = x if own else xp.asarray(x, copy=True)
    out[key] = value if not hasattr(value, "dtype") or value.dtype == x.dtype else xp.astype(value, x.dtype)
    return out


_setitem.vjp(x=lambda g, key: _setitem(g, 0.0, key=key), value=lambda g, key: basic_getitem(g, key=key))


_ALL: Final = slice(None)
_EVERYWHERE: Final = (...,)


def _simple(key: Any) -> bool:
    """Whether a key is a slice between Python's numbers."""
    return (
        type(key) is slice
        and type(key.start) in _BOUNDS
        and type(key.stop) in _BOUNDS
        and type(key.step) in _BOUNDS
    )


_BOUNDS: Final = frozenset((int, type(None)))
_PARTS: Final = frozenset((int, type(None), EllipsisType))


def _taken_at_once(x: Tensor, parts: tuple[Any, ...]) -> bool:
    """Whether the library takes a key of these parts as it is, and one operation makes the gradient of that: not where None makes an
    axis of what is differentiated, through which the standard does not assign."""
    xp = TYPES.get(type(x._data))
    if xp is None or not xp.views_at_once:
        return False
    for part in parts:
        kind = type(part)
        if kind is slice:
            if not (
                type(part.start) in _BOUNDS and type(part.stop) in _BOUNDS and type(part.step) in _BOUNDS
            ):
                return False
        elif kind not in _PARTS:
            return False
    return x.edge is None or not this_thread.recording or None not in parts


_BASIC: Final = frozenset((int, slice, type(None), EllipsisType))


def _is_basic(key: Any) -> bool:
    """Whether a key is a tuple of integers, slices between Python's numbers, None and ``...`` alone."""
    if type(key) is not tuple or not _BASIC.issuperset(map(type, key)):
        return False
    return all([type(part) is not slice or _simple(part) for part in key])


def _of_full_rank(x: Tensor, key: Any, used: int) -> Any:
    """A key that takes `used` axes, with ``...`` where the others are."""
    rank = len(x._data.shape)
    if used > rank:
        msg = f"too many indices: {used} for a Tensor of shape {x.shape}"
        raise IndexError(msg)
    return (*key, ...) if used < rank else key


def _plain_key(x: Tensor, key: Any) -> tuple[Any, bool]:
    """The key with plain arrays and full rank (the portable form), and whether it is made of integer arrays."""
    if key is ... or (type(key) is slice and key == _ALL and x._data.shape):
        return _EVERYWHERE, False
    if (type(key) is int or _simple(key)) and (rank := len(x._data.shape)):
        return ((key,) if rank == 1 else (key, ...)), False
    if _is_basic(key):
        return (key if ... in key else _of_full_rank(x, key, len(key) - key.count(None))), False
    parts = key if isinstance(key, tuple) else (key,)
    out: list[Any] = []
    arrays = masks = 0
    for part in parts:
        if part is None or isinstance(part, (slice, EllipsisType, bool)):
            if isinstance(part, slice):
                part = slice(
                    *(None if v is None else operator.index(v) for v in (part.start, part.stop, part.step))
                )
            out.append(part)
            masks += isinstance(part, bool)
        elif isinstance(part, int):
            out.append(part)
        else:
            plain = to_plain(part, device=None if hasattr(part, "dtype") else x.device)
            xp = backend_of(plain)
            if xp.isdtype(plain.dtype, "bool"):
                masks += 1
            elif xp.isdtype(plain.dtype, "integral"):
                if plain.shape == () and not isinstance(part, Tensor):
                    out.append(operator.index(part))
                    continue
                arrays += 1
            else:
                msg = f"an index must be an integer, a slice, None, ..., or an array of integers or booleans, got {dtypes.of(plain.dtype)}"
                raise IndexError(msg)
            out.append(plain)
    if masks:
        return (out[0] if len(out) == 1 else tuple(out)), False
    if not any(p is ... for p in out):
        return _of_full_rank(x, tuple(out), sum(p is not None for p in out)), arrays > 0
    return tuple(out), arrays > 0


def getitem(x: ArrayLike, key: Any, /) -> Tensor:
    """``x[key]``: integers, slices, None and ``...``; integer arrays; or one boolean mask."""
    if isinstance(x, Tensor) and (type(key) is int or _simple(key)):
        return basic_getitem(x, key=_plain_key(x, key)[0])
    if isinstance(x, Tensor) and isinstance(key, Tensor):
        xp, index = TYPES.get(type(key._data)), key._data
        if xp is not None and index.shape and x._data.shape and xp.isdtype(index.dtype, "integral"):
            return _rows_at(x, xp, index)
    parts = key if isinstance(key, tuple) else (key,)
    if isinstance(x, Tensor) and not INTERCEPT and _taken_at_once(x, parts):
        try:
            return basic_getitem(x, key=parts)
        except IndexError:  # a better message comes below
            pass
    if is_batched(*parts):
        return each(lambda x, *parts: getitem(x, parts), x, *parts)
    if not isinstance(x, Tensor):
        return basic_getitem(x, key=key)
    plain, arrays = _plain_key(x, key)
    if not arrays:
        return _getitem_basic(x, plain)
    places = _positions(x, plain)
    if places is not None:
        xp = backend_of(places)
        rows = gather_rows(reshape(x, (-1,)), index=xp.reshape(places, (-1,)))
        return reshape(rows, tuple(places.shape))
    return _getitem_arrays(x, plain)


def _positions(x: Tensor, key: tuple[Any, ...]) -> Array | None:
    """Where in a small array is what a key with arrays names, as the library says that takes such keys itself; None where that is not so,
    or an index is out of range."""
    data = x._data
    kind, shape = type(data), data.shape
    xp = TYPES.get(kind)
    if xp is None or not (xp.eager and xp.views_at_once) or math.prod(shape) > _SMALL:
        return None
    if not all([type(part) in _BASIC or type(part) is kind for part in key]):
        return None
    try:
        return _counted(xp, xp.device_of(data), shape)[key]
    except IndexError:
        return None


@functools.lru_cache(maxsize=64)
def _counted(xp: Backend, device: str, shape: tuple[int, ...]) -> Array:
    """0, 1, 2, … in an array of this shape."""
    places = xp.arange(math.prod(shape), dtype=xp.int64, device=xp.native_device(device))
    return xp.reshape(places, shape)


_SMALL: Final = 1 << 12
"""Elements up to which positions are counted one by one, and not by rows."""


def _rows_at(x: Tensor, xp: Backend, index: Array) -> Tensor:
    """``x[index]`` for one array of integers."""
    shape = tuple(index.shape)
    index = xp.astype(check_index(index, x._data.shape[0], "indexing"), xp.int64, copy=False)
    if len(shape) == 1:
        return gather_rows(x, index=index)
    return reshape(gather_rows(x, index=xp.reshape(index, (-1,))), (*shape, *x.shape[1:]))


def _getitem_basic(x: Tensor, key: Any) -> Tensor:
    """Integers, slices and ``...``, one mask; None makes its axis afterwards, since the standard does not assign through it."""
    if (
        not isinstance(key, tuple)
        or not any(part is None for part in key)
        or any(hasattr(p, "dtype") for p in key)
    ):
        return basic_getitem(x, key=key)
    parts = [part for part in key if part is not None]
    y = basic_getitem(x, key=tuple(parts)) if parts else x
    shape, rest = [], list(y.shape)
    after = next((key[i + 1 :] for i, part in enumerate(key) if part is ...), ())
    kept = sum(isinstance(part, slice) for part in after)
    for part in key:
        if part is None:
            shape.append(1)
        elif part is ...:
            shape += [rest.pop(0) for _ in range(len(rest) - kept)]
        elif isinstance(part, slice):
            shape.append(rest.pop(0))
    return reshape(y, (*shape, *rest))


def _getitem_arrays(x: Tensor, key: tuple[Any, ...]) -> Tensor:
    """Integer arrays for the leading axes (broadcast), with only full slices after them; others are brought into this form."""
    index, rest = _leading_arrays(x, key)
    if index is None:
        return _getitem_mixed(x, key)
    flat, shape, lead = index
    y = gather_rows(reshape(x, (math.prod(x.shape[:lead]), *rest)) if lead > 1 else x, index=flat)
    return reshape(y, (*shape, *rest))


def _getitem_mixed(x: Tensor, key: tuple[Any, ...]) -> Tensor:
    """Integer arrays anywhere among slices and None, by NumPy's rule: the axes that they make take the place of the arrays,
    or come first where a slice or None separates the arrays. An integer counts as an array."""
    where = next((i for i, part in enumerate(key) if part is ...), len(key))
    hidden = x.ndim - sum(part is not None and part is not ... for part in key)
    parts = [*key[:where], *[slice(None)] * hidden, *key[where + 1 :]]
    chosen = [i for i, part in enumerate(parts) if part is not None and not isinstance(part, slice)]
    basic = tuple(slice(None) if i in chosen else part for i, part in enumerate(parts))
    y = _getitem_basic(x, basic)  # an axis for each part now
    y = permute_dims(y, (*chosen, *(i for i in range(y.ndim) if i not in chosen)))
    arrays = tuple(parts[i] for i in chosen)
    z = _getitem_arrays(y, (*arrays, ...))
    made = z.ndim - (y.ndim - len(chosen))
    first, adjacent = chosen[0], chosen[-1] - chosen[0] == len(chosen) - 1
    if not adjacent or not first or not made:
        return z
    return moveaxis(z, tuple(range(made)), tuple(range(first, first + made)))


def _leading_arrays(x: Tensor, key: tuple[Any, ...]) -> tuple[Any, tuple[int, ...]]:
    parts = list(key)
    while parts and (parts[-1] is ... or (isinstance(parts[-1], slice) and parts[-1] == slice(None))):
        parts.pop()
    if any(p is None or p is ... or isinstance(p, slice) for p in parts):
        return None, ()
    xp = backend_of(x._data)
    device = xp.native_device(xp.device_of(x._data))
    parts = [xp.asarray(p, dtype=xp.int64, device=device) if isinstance(p, int) else p for p in parts]
    shape = broadcast_shapes(*(tuple(p.shape) for p in parts))
    flat = None
    for p, length in zip(parts, x.shape, strict=False):
        at = check_index(p, length, "indexing")
        xp = backend_of(at)  # in a compiled function it may be traced where x is not, and the other way round
        at = xp.astype(at, xp.int64)
        flat = at if flat is None else flat * length + at
    xp = backend_of(flat)
    flat = xp.reshape(xp.broadcast_to(flat, shape), (-1,))
    return (flat, shape, len(parts)), tuple(x.shape[len(parts) :])


def setitem(x: Tensor, key: ArrayLike, value: ArrayLike, /) -> None:
    """``x[key] = value``: what was computed from the old value keeps it. Gradients are traced.

    The array is written in place where only x refers to it; otherwise x takes a new one.
    """
    plain, arrays = _plain_key(x, key)
    if arrays:
        if _at_once(x, value) and _written(x, plain, value):
            return
        index, rest = _leading_arrays(x, plain)
        if index is not None:
            flat, shape, lead = index
            _set_rows(x, flat, shape, lead, rest, value)
            return
    edge, traced = x.edge, False
    if isinstance(value, Tensor):
        traced = value.edge is not None
    elif type(value) not in _NUMBERS:
        value = _as_value(x, value)
        traced = isinstance(value, Tensor) and value.edge is not None
    own = not INTERCEPT and _unshared(x)
    if edge is None:
        at_once = own and not (traced and this_thread.recording)
    elif type(edge) is Leaf:  # a variable: views of it see what is written outside recording
        at_once = not this_thread.recording and not INTERCEPT and backend_of(x._data).assigns_in_place
        own = False
    else:
        at_once = own and not this_thread.recording
    if at_once and _written(x, plain, value):
        return
    replace(x, _setitem(x, value, key=plain, own=True) if own else _setitem(x, value, key=plain))


def replace(x: Tensor, new: Tensor) -> Tensor:
    """Make x hold another value: what ``x += …`` and ``x[i] = …`` do.

    What was saved for the backward pass is not touched: the new value is a new array. A variable that is being
    recorded cannot be overwritten; outside recording its data are written in place, so that views stay valid. A result that is
    being differentiated keeps its place in the graph outside recording: gradients pass to what it was computed from, as in PyTorch.
    """
    if tuple(new.shape) != tuple(x.shape):
        msg = f"an in-place operation cannot change the shape from {x.shape} to {new.shape}"
        raise ValueError(msg)
    if type(x.edge) is Leaf:
        if this_thread.recording:
            msg = (
                "an in-place operation on a variable that requires a gradient would lose it; "
                "write x = x + …, or update it inside anynet.no_grad()"
            )
            raise RuntimeError(msg)
        return x.assign_(new)
    if new._data.dtype != x._data.dtype:
        new = cast_to(new, dtype=x._data.dtype)
    if COMPILING and COMPILING.own:
        COMPILING.own[-1].see(x)
        COMPILING.own[-1].lines[id(x), "data"] = user_line()
        COMPILING.own[-1].rebound.setdefault(id(x), []).append("new")
    x._data = new._data
    if this_thread.recording:
        x.edge = new.edge
    return x


_NUMBERS: Final = frozenset((bool, int, float))

_probe = Tensor.__new__(Tensor)
_probe._data = []
_ALONE: Final = getrefcount(_probe._data)
"""References to an array that only its Tensor refers to, counted as `_unshared` counts them."""


def _unshared(x: Tensor) -> bool:
    """Whether x alone refers to its array: no other Tensor, no view, nothing saved for a backward pass."""
    return getrefcount(x._data) <= _ALONE and backend_of(x._data).counts_views(x._data)


def _at_once(x: Tensor, value: Any) -> bool:
    """Whether a value may be written where an index says, by the library, of which an index out of range is an error."""
    if INTERCEPT or type(x.edge) is Leaf or not backend_of(x._data).views_at_once:
        return False
    if this_thread.recording and (
        x.edge is not None or (isinstance(value, Tensor) and value.edge is not None)
    ):
        return False
    return _unshared(x)


def _written(x: Tensor, key: Any, value: Any) -> bool:
    """Write into the array of x; False, with nothing done, where that is left to the primitive, which may raise."""
    data = x._data
    try:
        if type(value) in _NUMBERS:
            if key is _EVERYWHERE:
                backend_of(data).fill(data, value)
            else:
                data[key] = value
        else:
            value = value._data if isinstance(value, Tensor) else value
            if type(value) is not type(data):
                return False
            data[key] = value if value.dtype == data.dtype else backend_of(data).astype(value, data.dtype)
    except (ValueError, TypeError, IndexError, OverflowError):
        return False
    if type(x.edge) is Leaf:
        x.edge.written = clock()
    return True


def in_order(flat: Array) -> tuple[Array, Array, Array]:
    """The order of some positions, the positions in that order, and of each whether it is the last of those that are equal."""
    xp = backend_of(flat)
    order = xp.argsort(flat, stable=True)
    ranked = xp.take(flat, order, axis=0)
    last = xp.concat((ranked[1:] != ranked[:-1], xp.ones_like(ranked[:1], dtype=xp.bool)))
    return order, ranked, last


def written(flat: Array, length: int) -> Array:
    """Which of `length` places some positions name."""
    xp = backend_of(flat)
    device = xp.native_device(xp.device_of(flat))
    if xp.eager and xp.name == "numpy":
        named = xp.zeros((length,), dtype=xp.bool)
        named[flat] = True
        return named
    count = xp.zeros((length,), dtype=xp.int64, device=device)
    return xp.index_add(count, flat, xp.ones_like(flat)) > 0


def _named_once(flat: Array) -> None:
    if not bool(backend_of(flat).all(_last_ones(flat))):
        msg = "x[indices] = value with an index given twice has no gradient for value; use anynet.index_add to accumulate"
        raise IndexError(msg)


def _set_rows(
    x: Tensor, flat: Array, shape: tuple[int, ...], lead: int, rest: tuple[int, ...], value: Any
) -> None:
    """x with `value` in the rows that a list names, of those along its first `lead` axes; of one that it names twice, the last value."""
    xp = backend_of(flat)
    length = math.prod(x.shape[:lead])
    rows = x if lead == 1 else reshape(x, (length, *rest))
    if not hasattr(value, "dtype"):
        new = _setitem(rows, value, key=written(flat, length))
    else:
        if isinstance(value, Tensor) and value.edge is not None and this_thread.recording:
            xp.check(_named_once, flat)
        value = reshape(broadcast_to(value, (*shape, *rest)), (math.prod(shape), *rest))
        if unwrap(value).dtype != x._data.dtype:
            value = cast_to(value, dtype=x._data.dtype)
        new = put_rows(rows, value, index=flat)
    replace(x, new if lead == 1 else reshape(new, x.shape))


def _as_value(x: Tensor, value: Any) -> Any:
    if isinstance(value, (bool, int, float, complex, Tensor)) or hasattr(value, "dtype"):
        return value
    return Tensor(value, dtype=x.dtype, device=x.device)


Tensor.__getitem__ = getitem  # type: ignore[method-assign]
Tensor.__setitem__ = setitem  # type: ignore[method-assign]
