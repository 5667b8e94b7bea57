"""Operators that move, choose, make and convert."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import anynet as an
from anynet.onnx.operators.calling import DType, Ints, Number, Row, numbers, room
from anynet.onnx.operators.pointwise import axes_of

__all__ = ["TABLE"]


def _host(values: Any) -> Any:
    """Integers about shapes: they stay with the host."""
    return an.asarray(values, dtype=an.int64, device="cpu")


def _steps(n: int, like: Any) -> Any:
    return an.arange(n, device=like.device)


def _reshape(x: Any, shape: Ints, *, allowzero: int = 0) -> Any:
    return an.reshape(x, tuple(x.shape[i] if n == 0 and not allowzero else n for i, n in enumerate(shape)))


def _flatten(x: Any, *, axis: int) -> Any:
    at = axis + len(x.shape) if axis < 0 else axis
    return an.reshape(x, (math.prod(x.shape[:at]), math.prod(x.shape[at:])))


def _squeeze(x: Any, axes: Ints = None) -> Any:
    return an.squeeze(
        x, axes_of(x, axes) if axes is not None else tuple(i for i, n in enumerate(x.shape) if n == 1)
    )


def _split(x: Any, split: Ints = None, *, axis: int, num_outputs: int | None = None, count: int) -> list[Any]:
    (at,) = axes_of(x, [axis])
    n = x.shape[at]
    size = -(-n // (num_outputs or count))
    sizes = split or [min(size, max(0, n - i * size)) for i in range(count)]
    if sum(sizes) != n or min(sizes) < 0 or len(sizes) != count:
        raise ValueError(f"its {count} parts {sizes} must fill an axis of {n}")
    ends = list(itertools.accumulate(sizes))
    return [x[(slice(None),) * at + (slice(e - k, e), ...)] for e, k in zip(ends, sizes, strict=True)]


def _slice(x: Any, starts: Ints, ends: Ints, axes: Ints = None, steps: Ints = None) -> Any:
    key = [slice(None)] * len(x.shape)
    over = axes_of(x, axes if axes is not None else range(len(starts)))
    for axis, start, end, step in zip(over, starts, ends, steps or [1] * len(starts), strict=True):
        n = x.shape[axis]
        low, high = (0, n) if step > 0 else (-1, n - 1)
        start, end = (min(max(i + n if i < 0 else i, low), high) for i in (start, end))
        step = max(-n - 1, min(step, n + 1))
        empty = (end - start) * step <= 0
        key[axis] = slice(0, 0) if empty else slice(start, None if end < 0 else end, step)
    return x[tuple(key)] if key else x


def _gather(x: Any, indices: Any, *, axis: int) -> Any:
    (at,) = axes_of(x, [axis])
    shape = room((*x.shape[:at], *indices.shape, *x.shape[at + 1 :]))
    return an.reshape(an.take(x, an.reshape(indices, (-1,)), axis=at), shape)


def _scattered(x: Any, index: Any, values: Any, reduction: str) -> Any:
    """x, flat, with values at places, each reduced with what is there."""
    if reduction in ("none", "add"):
        return (an.scatter if reduction == "none" else an.scatter_add)(x, index, values, axis=0)
    function = {"mul": an.multiply, "max": an.maximum, "min": an.minimum}[reduction]
    # the k-th value of each place in the k-th round: within a round no place comes twice
    order = an.argsort(index, stable=True)
    inorder = an.take(index, order)
    turn = _steps(index.shape[0], index) - an.searchsorted(inorder, inorder)
    rounds = int(an.max(turn)) + 1 if index.size else 0
    if rounds * index.size > 1 << 32:
        raise ValueError(f"{rounds:,} values for one place, of {index.size:,}, take too long")
    for k in range(rounds):
        chosen = an.take(order, an.nonzero(turn == k)[0])
        at = an.take(index, chosen)
        x = an.scatter(x, at, function(an.take(x, at), an.take(values, chosen)), axis=0)
    return x


def _flat(places: Sequence[Any], shape: Sequence[int]) -> Any:
    """Flat places from one array of indices for each axis, all in range."""
    found: Any = _host(0)
    for index, n in zip(places, shape, strict=True):
        index = an.astype(index, an.int64)
        if index.size and not (int(an.min(index)) >= -n and int(an.max(index)) < n):
            raise ValueError(f"indices must be from −{n} to {n - 1}")
        found = found.to(index.device) * n + an.where(index < 0, index + n, index)
    return found


def _at(x: Any, indices: Any, axis: int) -> Any:
    """The flat places of elements along one axis."""
    (at,) = axes_of(x, [axis])
    shape = indices.shape
    if len(shape) != len(x.shape) or any(
        m > n for i, (m, n) in enumerate(zip(shape, x.shape, strict=True)) if i != at
    ):
        raise ValueError(f"indices of shape {shape} must fit {x.shape}")
    own = [an.reshape(_steps(n, x), (-1, *[1] * (len(shape) - 1 - i))) for i, n in enumerate(shape)]
    return an.reshape(
        an.broadcast_to(_flat([indices if i == at else o for i, o in enumerate(own)], x.shape), shape), (-1,)
    )


def _gather_elements(x: Any, indices: Any, *, axis: int) -> Any:
    return an.reshape(an.take(an.reshape(x, (-1,)), _at(x, indices, axis)), indices.shape)


def _scatter_elements(x: Any, indices: Any, updates: Any, *, axis: int, reduction: str = "none") -> Any:
    if indices.shape != updates.shape:
        raise ValueError(f"indices {indices.shape} and updates {updates.shape} must have one shape")
    flat = _scattered(an.reshape(x, (-1,)), _at(x, indices, axis), an.reshape(updates, (-1,)), reduction)
    return an.reshape(flat, x.shape)


def _rows(x: Any, indices: Any, b: int = 0) -> tuple[Any, list[int]]:
    """The flat places of the rows that the last axis of indices names, behind `b` axes of a batch, and the shape of a row."""
    depth, batch = indices.shape[-1], math.prod(x.shape[:b])
    if x.shape[:b] != indices.shape[:b] or b + depth > len(x.shape):
        raise ValueError(f"indices of shape {indices.shape} must fit {x.shape}, with {b} axes of a batch")
    index = an.reshape(indices, (batch, math.prod(indices.shape[b:-1]), depth))
    first = an.broadcast_to(an.expand_dims(_steps(batch, x), 1), index.shape[:2])
    places = _flat([first, *(index[..., i] for i in range(depth))], [batch, *x.shape[b : b + depth]])
    return an.reshape(places, (-1,)), list(x.shape[b + depth :])


def _gather_nd(x: Any, indices: Any, *, batch_dims: int = 0) -> Any:
    places, row = _rows(x, indices, batch_dims)
    count = math.prod(x.shape[: len(x.shape) - len(row)])
    shape = room((*indices.shape[:-1], *row))
    return an.reshape(an.take(an.reshape(x, (count, *row)), places, axis=0), shape)


def _scatter_nd(x: Any, indices: Any, updates: Any, *, reduction: str = "none") -> Any:
    places, row = _rows(x, indices)
    size = math.prod(row)
    places = an.reshape(an.expand_dims(places, 1) * size + _steps(size, x), (-1,))
    return an.reshape(
        _scattered(an.reshape(x, (-1,)), places, an.reshape(updates, (-1,)), reduction), x.shape
    )


def _concat(*xs: Any, axis: int) -> Any:
    (at,) = axes_of(xs[0], [axis])
    room([sum(x.shape[at] for x in xs) if i == at else n for i, n in enumerate(xs[0].shape)])
    return an.concat(xs, axis=at)


def _expand(x: Any, shape: Ints) -> Any:
    return an.broadcast_to(x, room(an.broadcast_shapes(x.shape, tuple(shape))))


def _transpose(x: Any, *, perm: Any = None) -> Any:
    return an.permute_dims(x, tuple(perm if perm is not None else reversed(range(len(x.shape)))))


def _unsqueeze(x: Any, axes: Ints) -> Any:
    return an.expand_dims(x, tuple(axes))


def _tile(x: Any, repeats: Ints) -> Any:
    room([n * r for n, r in zip(x.shape, repeats, strict=True)])
    return an.tile(x, tuple(repeats))


def _pad(x: Any, pads: Ints, value: Number = None, axes: Ints = None, *, mode: str = "constant") -> Any:
    over = axes_of(x, axes if axes is not None else range(len(x.shape)))
    pairs = dict(zip(over, zip(pads[: len(over)], pads[len(over) :], strict=True), strict=True))
    room([n + sum(max(p, 0) for p in pairs.get(i, ())) for i, n in enumerate(x.shape)])
    for a, (low, high) in pairs.items():
        x = x[(slice(None),) * a + (slice(max(-low, 0), x.shape[a] - max(-high, 0)), ...)]
        low, high, n = max(low, 0), max(high, 0), x.shape[a]
        if mode == "constant" and low + high:
            sizes = [[k if i == a else m for i, m in enumerate(x.shape)] for k in (low, high)]
            ends = [an.full(s, value or 0, dtype=x.dtype, device=x.device) for s in sizes]
            x = an.concat([ends[0], x, ends[1]], axis=a)
        elif low + high:
            at = an.arange(-low, n + high, device=x.device)
            turn = 2 * max(n - 1, 1)
            mirrored = (
                n - 1 - an.abs(n - 1 - an.remainder(at, turn)) if mode == "reflect" and n > 1 else at * 0
            )
            at = {
                "reflect": mirrored,
                "wrap": an.remainder(at, max(n, 1)),
                "edge": an.clip(at, 0, max(n - 1, 0)),
            }[mode]
            x = an.take(x, at, axis=a)
    return x


def _range(start: Any, limit: Any, delta: Any) -> Any:
    begin, end, step = (numbers(x, "Number") for x in (start, limit, delta))
    places = an.arange(*room([max(0, math.ceil((end - begin) / step))]), device="cpu")
    return an.astype(places * an.reshape(delta, ()) + an.reshape(start, ()), start.dtype)


def _constant_of_shape(shape: Ints, *, value: Any = None) -> Any:
    number, dtype = (0.0, an.float32) if value is None else (numbers(value, "Number"), value.dtype)
    return an.full(room(shape), number, dtype=dtype, device="cpu")


def _constant(
    *,
    value: Any = None,
    value_float: Any = None,
    value_floats: Any = None,
    value_int: Any = None,
    value_ints: Any = None,
) -> Any:
    number = value_float if value_float is not None else value_floats
    if number is not None:
        return an.asarray(number, dtype=an.float32, device="cpu")
    return value if value is not None else _host(value_int if value_int is not None else value_ints)


def _cast(x: Any, *, to: DType) -> Any:
    if to is None:
        raise ValueError("it must name the data type that it converts to")
    return x != 0 if to == "bool" else an.astype(x, to)


def _eye_like(x: Any, *, dtype: DType = None, k: int) -> Any:
    rows, columns = room(x.shape)
    return an.eye(rows, columns, k=max(min(k, columns), -rows), dtype=dtype or x.dtype, device=x.device)


def _one_hot(indices: Any, depth: Number, values: Any, *, axis: int) -> Any:
    depth, at = int(depth), axis % (len(indices.shape) + 1)
    room([*indices.shape, depth])
    index = an.expand_dims(an.astype(indices, an.int64), at)
    places = an.reshape(_steps(depth, indices), (-1, *[1] * (len(indices.shape) - at)))
    return an.where(an.where(index < 0, index + depth, index) == places, values[1], values[0])


def _trilu(x: Any, k: Number = None, *, upper: int) -> Any:
    bound = sum(x.shape[-2:])
    return (an.triu if upper else an.tril)(x, k=max(min(int(k or 0), bound), -bound))


def _topk(x: Any, k: Number, *, axis: int, largest: int = 1) -> Any:
    found = an.topk(x, int(k), axis=axis, largest=bool(largest))
    return found[0], an.astype(found[1], an.int64)


def _unique(x: Any, *, axis: int | None = None, sorted: int) -> Any:
    x, at = (an.reshape(x, (-1,)), 0) if axis is None else (x, axes_of(x, [axis])[0])
    if x.size > 1 << 24:
        raise ValueError(f"it takes at most {1 << 24:,} numbers, got {x.size:,}")
    rows = [tuple(r) for r in an.reshape(an.moveaxis(x, at, 0), (x.shape[at], -1)).tolist()]
    first: dict[tuple[Any, ...], int] = {}
    for i, row in enumerate(rows):
        first.setdefault(row, i)
    order = _sorted(first) if sorted else list(first)
    place = {row: j for j, row in enumerate(order)}
    inverse = _host([place[row] for row in rows])
    at_first = _host([first[row] for row in order])
    return (
        an.take(x, at_first.to(x.device), axis=at),
        at_first,
        inverse,
        an.bincount(inverse, minlength=len(order)),
    )


_sorted = sorted


def _compress(x: Any, condition: Any, *, axis: int | None = None) -> Any:
    x, axis = (an.reshape(x, (-1,)), 0) if axis is None else (x, axis)
    return an.take(x, an.nonzero(condition)[0], axis=axes_of(x, [axis])[0])


def _reverse_sequence(x: Any, lengths: Any, *, batch_axis: int, time_axis: int) -> Any:
    x = an.moveaxis(x, (batch_axis, time_axis), (0, 1))
    steps, n = _steps(x.shape[1], x), an.expand_dims(an.astype(lengths, an.int64), 1)
    y = _gather_nd(x, an.expand_dims(an.where(steps < n, n - 1 - steps, steps), -1), batch_dims=1)
    return an.moveaxis(y, (0, 1), (batch_axis, time_axis))


def _tensor_scatter(past: Any, update: Any, first: Any = None, *, axis: int, mode: str) -> Any:
    """Each sample's update written over its past, from a place of its own on; `circular` goes on at the beginning."""
    (at,) = axes_of(past, [axis])
    past, update = an.moveaxis(past, at, 1), an.moveaxis(update, at, 1)
    (n, size), steps = past.shape[:2], update.shape[1]
    begin = (
        an.zeros((n, 1), dtype=an.int64, device=past.device) if first is None else an.expand_dims(first, 1)
    )
    if (
        not 0 < steps <= size
        or (mode != "circular" and int(an.max(begin)) + steps > size)
        or int(an.min(begin)) < 0
    ):
        raise ValueError(f"{steps} steps from {begin.tolist()} on must fit into {size}")
    place = _steps(size, past) - begin
    place = an.remainder(place, size) if mode == "circular" else place
    inside = (place >= 0) & (place < steps)
    new = _gather_nd(update, an.expand_dims(an.where(inside, place, 0), -1), batch_dims=1)
    y = an.where(an.reshape(inside, (n, size, *[1] * (len(past.shape) - 2))), new, past)
    return an.moveaxis(y, 1, at)


def _depth_to_space(x: Any, *, blocksize: int, mode: str = "DCR") -> Any:
    (n, c, h, w), b = x.shape, blocksize
    parts, order = (
        ((b, b, c // b**2), (0, 3, 4, 1, 5, 2)) if mode == "DCR" else ((c // b**2, b, b), (0, 1, 4, 2, 5, 3))
    )
    return an.reshape(an.permute_dims(an.reshape(x, (n, *parts, h, w)), order), (n, c // b**2, h * b, w * b))


def _space_to_depth(x: Any, *, blocksize: int, mode: str = "DCR") -> Any:
    (n, c, h, w), b = x.shape, blocksize
    order = (0, 3, 5, 1, 2, 4) if mode == "DCR" else (0, 1, 3, 5, 2, 4)
    return an.reshape(
        an.permute_dims(an.reshape(x, (n, c, h // b, b, w // b, b)), order), (n, c * b**2, h // b, w // b)
    )


TABLE: dict[str, Row] = {
    "Cast": _cast, "CastLike": lambda x, like: _cast(x, to=str(like.dtype)), "Compress": _compress, "Constant": _constant,
    "Concat": _concat, "ConstantOfShape": _constant_of_shape,
    "DepthToSpace": _depth_to_space, "Expand": _expand, "EyeLike": _eye_like, "Flatten": _flatten, "Gather": _gather,
    "GatherElements": _gather_elements, "GatherND": _gather_nd,
    "NonZero": lambda x: an.stack([an.astype(i, an.int64) for i in an.nonzero(x)]),
    "OneHot": _one_hot, "Pad": _pad, "Range": _range, "Reshape": _reshape, "ReverseSequence": _reverse_sequence,
    "Scatter": _scatter_elements,
    "ScatterElements": _scatter_elements, "ScatterND": _scatter_nd, "Size": lambda x: _host(x.size), "Slice": _slice,
    "Shape": lambda x, *, start=0, end=None: _host(list(x.shape[start:end])), "SpaceToDepth": _space_to_depth, "Split": _split,
    "Squeeze": _squeeze,
    "TensorScatter": _tensor_scatter, "Tile": _tile, "TopK": _topk, "Transpose": _transpose,
    "Trilu": _trilu, "Unique": _unique, "Unsqueeze": _unsqueeze,
}  # fmt: skip
