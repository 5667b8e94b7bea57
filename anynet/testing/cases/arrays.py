"""The standard's functions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from anynet import dtypes
from anynet.ops import elementwise as e
from anynet.ops import indexing, linear, manipulation, reductions
from anynet.ops.creation import tril
from anynet.ops.indexing import index_add, put_rows, take, take_along_axis
from anynet.ops.precision import rounded
from anynet.ops.selection import extreme_at
from anynet.ops.sparse import sparse_matmul
from anynet.tensor import unwrap
from anynet.testing.cases import Case, index


def _of_slices(x: Any) -> Any:
    first, second, third = manipulation.unstack(x, axis=1)
    return first * second + third * 2.0


def _rounded(x: Any) -> Any:
    """In float32, whatever the dtype of the case: the numbers are then the same."""
    short = rounded(manipulation.astype(x, dtypes.float32), forward="bfloat16", backward="tf32")
    return manipulation.astype(short, x.dtype)


def _sparse_product(values: Any, x: Any) -> Any:
    rows, columns = index(x, [3, 0, 3, 1, 0]), index(x, [2, 0, 1, 1, 0])
    return sparse_matmul(values, x, rows=unwrap(rows), columns=unwrap(columns), count=4)


def _rows_put(x: Any, values: Any) -> Any:
    return put_rows(x, values, index=unwrap(index(x, [2, 0, 2, 3, 0])))


def _extreme(x: Any, values: Any) -> Any:
    return extreme_at(x, values, index=unwrap(index(x, [2, 0, 2, 3, 0])), largest=True)


def _elementwise() -> Iterable[Case]:
    for name in ("abs", "asinh", "atan", "conj", "cos", "cosh", "exp", "expm1", "negative", "positive", "sin",
                 "sinh", "square", "tan", "tanh"):  # fmt: skip
        high = 1.2 if name == "tan" else 2.0
        yield Case(name, getattr(e, name), ((3, 4),), -high, high)
    for name in ("floor", "ceil", "round", "trunc", "sign"):
        yield Case(name, getattr(e, name), ((3, 4),), second_order=False)
    for name in ("log", "log1p", "log2", "log10", "reciprocal", "sqrt"):
        yield Case(name, getattr(e, name), ((3, 4),), 0.5, 2.0)
    for name in ("acos", "asin", "atanh"):
        yield Case(name, getattr(e, name), ((3, 4),), -0.8, 0.8)
    yield Case("acosh", e.acosh, ((3, 4),), 1.2, 3.0)
    for name in (
        "add",
        "atan2",
        "copysign",
        "hypot",
        "logaddexp",
        "maximum",
        "minimum",
        "multiply",
        "subtract",
    ):
        yield Case(name, getattr(e, name), ((3, 1, 4), (2, 4)))
    for name in ("divide", "pow", "remainder"):
        yield Case(name, getattr(e, name), ((3, 1, 4), (2, 4)), 0.5, 2.0)
    yield Case("floor_divide", e.floor_divide, ((3, 1, 4), (2, 4)), 0.5, 2.0, second_order=False)
    yield Case("clip", lambda x: e.clip(x, -1.0, 1.0), ((3, 4),))
    yield Case("clip, arrays", lambda x, low: e.clip(x, low, None), ((3, 4), (4,)))
    yield Case("where", lambda x, y: e.where(e.greater(x, y), x, y), ((3, 4), (3, 4)))


CASES: tuple[Case, ...] = (
    *_elementwise(),
    Case("matmul", linear.matmul, ((2, 3, 4), (4, 5))),
    Case("tensordot", lambda a, b: linear.tensordot(a, b, axes=2), ((2, 3, 4), (3, 4, 5))),
    Case("vecdot", linear.vecdot, ((3, 4), (3, 4))),
    Case("matrix_transpose", linear.matrix_transpose, ((2, 3, 4),)),
    Case("sum", lambda x: reductions.sum(x, axis=1), ((3, 4, 2),)),
    Case("mean", lambda x: reductions.mean(x, axis=(0, 2)), ((3, 4, 2),)),
    Case("var", lambda x: reductions.var(x, axis=1, correction=1), ((3, 4),)),
    Case("std", lambda x: reductions.std(x, axis=1), ((3, 4),)),
    Case("prod", lambda x: reductions.prod(x, axis=1), ((3, 4),)),
    Case("max", lambda x: reductions.max(x, axis=1), ((3, 4),)),
    Case("min", lambda x: reductions.min(x, axis=1), ((3, 4),)),
    Case("cumulative_sum", lambda x: reductions.cumulative_sum(x, axis=1), ((3, 4),)),
    Case("cumulative_prod", lambda x: reductions.cumulative_prod(x, axis=1), ((3, 4),)),
    Case("reshape", lambda x: manipulation.reshape(x, (4, 3)), ((3, 4),)),
    Case("permute_dims", lambda x: manipulation.permute_dims(x, (2, 0, 1)), ((2, 3, 4),)),
    Case(
        "rearrange",
        lambda x: manipulation.rearrange(x, split=(3, 2, 2, 2), axes=(2, 0, 3, 1), shape=(6, 4)),
        ((3, 4, 2),),
    ),
    Case("broadcast_to", lambda x: manipulation.broadcast_to(x, (5, 3, 4)), ((3, 1),)),
    Case("concat", lambda a, b: manipulation.concat([a, b], axis=1), ((3, 2), (3, 4))),
    Case("stack", lambda a, b: manipulation.stack([a, b], axis=1), ((3, 2), (3, 2))),
    Case("unstack", _of_slices, ((2, 3, 4),)),
    Case("unstack one", lambda x: manipulation.unstack(x, axis=-1)[1], ((3, 4),)),
    Case("flip", lambda x: manipulation.flip(x, axis=0), ((3, 4),)),
    Case("roll", lambda x: manipulation.roll(x, 2, axis=1), ((3, 4),)),
    Case("repeat", lambda x: indexing.repeat(x, 3, axis=1), ((3, 2),)),
    Case("tile", lambda x: manipulation.tile(x, (2, 3)), ((3, 2),)),
    Case("tril", tril, ((4, 4),)),
    Case("rounded", _rounded, ((3, 4),), second_order=False, steps=True),
    Case("getitem", lambda x: x[1:, ::2], ((3, 4),)),
    Case("take", lambda x: take(x, index(x, [2, 0, 2]), axis=0), ((3, 4),)),
    Case("take_along_axis", lambda x: take_along_axis(x, index(x, [[1, 1], [0, 2]]), axis=1), ((2, 3),)),
    Case("index_add", lambda x, v: index_add(x, index(x, [1, 1, 0]), v), ((3, 2), (3, 2))),
    Case("sparse_matmul", _sparse_product, ((5,), (3, 4))),
    Case("put_rows", _rows_put, ((4, 3), (5, 3))),
    Case("extreme_at", _extreme, ((4,), (5,))),
)
