"""vmap: a function of one example becomes a function of a batch, without a Python loop.

Inside, a Tensor that differs from example to example holds a `Batched` in place of its array: it shows the shape of
one example and keeps the whole batch, whose axis comes first. Every primitive is intercepted and runs once, on the
batch, by a batching rule; one that has no rule runs example by example, and the results are stacked.

What is recorded for differentiation are the operations on the batch, so gradients need to know nothing of this; the
transforms (grad and its kin) put a batch axis on what they differentiate, so that each example has its own gradient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from anynet.autograd.broadcasting import broadcast_to, sum_to
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.primitive import PRIMITIVES, Primitive
from anynet.autograd.pytree import flatten, unflatten
from anynet.tensor import Tensor, clock, flavours, result_class, to_plain, wrap
from anynet_backends import TYPES, Backend, backend_of
from anynet_backends.concurrency import once, this_thread

__all__ = ["VmapError", "vmap"]


class VmapError(RuntimeError):
    """Something was asked of a batched array that only a single array can answer."""


class Batched:
    """Stands in a Tensor where its array would: shape, dtype and device of one example, the batch in `value`."""

    __slots__ = ("device", "dtype", "level", "shape", "value")

    def __init__(self, value: Tensor, level: int) -> None:
        self.value = (
            value  # a Tensor, whose first axis is the batch; it may be batched by an outer vmap in turn
        )
        self.level = level
        self.shape = tuple(value.shape[1:])
        self.dtype = value._data.dtype
        self.device = value._data.device

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        msg = (
            f"the values of an array of shape {self.shape} were asked for inside vmap, where they differ from example "
            "to example: bool(), float(), item(), numpy() and branches on data do not work there, and a batched "
            "array cannot be an index of an array; use anynet.where, take_along_axis, or a loop. (A batched array "
            "that has left its vmap holds no values either.)"
        )
        raise VmapError(msg)

    __array__ = __bool__ = __float__ = __int__ = __complex__ = __index__ = __dlpack__ = __iter__ = _refuse
    __getitem__ = __setitem__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = (
        _refuse
    )


@once
def _class_of(xp: Backend) -> type[Batched]:
    """The class of batches of a backend's arrays, which is found by it."""
    cls = type("Batched", (Batched,), {"__slots__": ()})
    TYPES[cls] = xp
    return cls


def _batched(value: Tensor, level: int, kind: type[Tensor] = Tensor) -> Tensor:
    """The Tensor of one example that stands for `value`, a batch along the first axis: of a class, where that is one of its own."""
    kind = kind if kind is not Tensor else value._results or Tensor
    out = wrap(_class_of(backend_of(value._data))(value, level), kind)
    out.edge = value.edge
    return out


def _level_of(x: Any) -> int:
    return x._data.level if isinstance(x, Tensor) and isinstance(x._data, Batched) else 0


def _value(x: Tensor) -> Tensor:
    value: Tensor = x._data.value
    return value.detach() if x.edge is None and value.edge is not None else value


# ----- for the other transforms -----


def active_levels() -> tuple[tuple[int, int], ...]:
    """(number, size) of the vmaps that are running in this thread, outermost first."""
    return this_thread.levels


def levels_of(x: Any) -> tuple[tuple[int, int], ...]:
    """(number, size) of the vmaps that x is batched by, outermost first."""
    out: list[tuple[int, int]] = []
    while (level := _level_of(x)) != 0:
        x = x._data.value
        out.append((level, int(x.shape[0])))
    return tuple(reversed(out))


def strip(x: Tensor) -> Tensor:
    """The Tensor with all batch axes visible, the outermost first."""
    while _level_of(x):
        x = _value(x)
    return x


def rebatch(x: Tensor, levels: Sequence[tuple[int, int]]) -> Tensor:
    """The inverse of `strip`."""
    for level, _ in levels:  # the outermost vmap owns the first axis
        x = _batched(x, level)
    return x


def to_levels(x: Tensor, levels: Sequence[tuple[int, int]]) -> Tensor:
    """x with a batch axis for each of `levels`, repeated where it had none."""
    have = levels_of(x)
    if tuple(have) == tuple(levels):
        return x
    missing = [level for level in levels if level not in have]
    if len(missing) + len(have) != len(levels):
        msg = "an array batched by one vmap was used where that vmap does not run"
        raise VmapError(msg)
    base = strip(x)
    visible = tuple(x.shape)
    inside = tuple(n if (level, n) in have else 1 for level, n in levels)
    base = PRIMITIVES["reshape"](base, shape=(*inside, *visible))
    base = broadcast_to(base, shape=(*(n for _, n in levels), *visible))
    return rebatch(base, levels)


def from_levels(x: Tensor, levels: Sequence[tuple[int, int]]) -> Tensor:
    """The transpose of `to_levels`: x summed over its batch axes other than `levels`, with those visible."""
    have = levels_of(x)
    if not set(levels) <= set(have):
        x = to_levels(x, tuple(sorted(set(have) | set(levels))))
        have = levels_of(x)
    extra = tuple(i for i, level in enumerate(have) if level not in levels)
    base = strip(x)
    if not extra:
        return base
    return PRIMITIVES["sum"](base, axis=extra, keepdims=False, dtype=None)


class running:
    """Context manager: the vmaps `levels` run (again) inside, as when a rule is evaluated later."""

    def __init__(self, levels: Sequence[tuple[int, int]]) -> None:
        self.levels = tuple(levels)

    def __enter__(self) -> None:
        self.before = this_thread.levels
        this_thread.levels = self.levels
        INTERCEPT.append(handle_batched)

    def __exit__(self, *error: object) -> None:
        this_thread.levels = self.before
        INTERCEPT.remove(handle_batched)


def is_batched(*args: Any) -> bool:
    """Whether an argument is one example of a batch, inside vmap."""
    for x in args:  # noqa: SIM110 - a generator takes longer
        if isinstance(x, Tensor) and isinstance(x._data, Batched):
            return True
    return False


def each(f: Callable[..., Any], *args: Any, **kwargs: Any) -> Tensor:
    """``f(*args, **kwargs)`` example by example, stacked: for functions that look at values, such as an index."""
    level = max(_level_of(x) for x in args)
    values = [(_value(x), True) if _level_of(x) == level else (x, False) for x in args]
    n = next(int(v.shape[0]) for v, hit in values if hit)
    if n == 0:
        msg = f"vmap over an empty batch: {getattr(f, '__name__', 'a function')} runs example by example"
        raise VmapError(msg)
    results = [f(*[_getitem(v, (i, ...)) if hit else v for v, hit in values], **kwargs) for i in range(n)]
    return _batched(_stack(results), level)


# ----- interception -----

Rule = Callable[[Primitive[...], list[Any], list[bool], int, dict[str, Any]], Any]


def handle_batched(prim: Primitive[...], args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
    level = 0
    for x in args:
        if isinstance(x, Tensor) and isinstance(x._data, Batched) and x._data.level > level:
            level = x._data.level
    if level == 0:
        for below in reversed(INTERCEPT.own):
            if below is not handle_batched:
                return below(prim, args, meta)
        return prim.bind(args, meta)
    mask = [_level_of(x) == level for x in args]
    values = [_value(x) if hit else x for x, hit in zip(args, mask, strict=True)]
    n = int(next(v for v, hit in zip(values, mask, strict=True) if hit).shape[0])
    rule = RULES.get(prim.name)
    out: Any = NotImplemented
    if rule is not None:
        out = rule(prim, values, mask, n, meta)
    elif prim.elementwise or (prim.stacked and len(values) > 1):
        out = _aligned(prim, values, mask, n, meta)
    elif prim.stacked:
        out = prim(*values, **meta)
    elif "axis" in prim.meta and len(args) == 1 and _AXIS_META.issuperset(prim.meta):
        out = _along_axis(prim, values, mask, n, meta)
    if out is NotImplemented:
        out = _one_by_one(prim, values, mask, n, meta)
    kind = result_class(args) if flavours else Tensor
    if isinstance(out, tuple):
        return tuple(_batched(y, level, kind) for y in out)
    return _batched(out, level, kind)


def _getitem(x: Any, key: Any) -> Any:
    return PRIMITIVES["getitem"](x, key=key)


def _reshape(x: Any, shape: tuple[int, ...]) -> Any:
    return x if tuple(x.shape) == shape else PRIMITIVES["reshape"](x, shape=shape)


def _permute(x: Any, axes: tuple[int, ...]) -> Any:
    return x if axes == tuple(range(len(axes))) else PRIMITIVES["permute_dims"](x, axes=axes)


def _one_by_one(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    """Correct for every primitive: one call for each example."""
    if n == 0:
        msg = f"vmap over an empty batch: {prim.name} has no batching rule and cannot tell the shape of its result"
        raise VmapError(msg)
    results = [
        prim(*[_getitem(v, (i, ...)) if hit else v for v, hit in zip(values, mask, strict=True)], **meta)
        for i in range(n)
    ]
    if isinstance(results[0], tuple):
        return tuple(_stack([r[k] for r in results]) for k in range(len(results[0])))
    return _stack(results)


def _stack(items: list[Any]) -> Any:
    return PRIMITIVES["concat"](*[_reshape(x, (1, *x.shape)) for x in items], axis=0)


def _rank(x: Any) -> int:
    return len(x.shape) if hasattr(x, "shape") else 0


def _align(values: list[Any], mask: list[bool], n: int) -> list[Any]:
    """Axes of length 1 between the batch and those of one example, so that the examples broadcast as they would."""
    rank = max(_rank(v) - hit for v, hit in zip(values, mask, strict=True))
    return [
        _reshape(v, (n, *(1,) * (rank - _rank(v) + 1), *v.shape[1:])) if hit else v
        for v, hit in zip(values, mask, strict=True)
    ]


def _aligned(prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]) -> Any:
    return prim(*_align(values, mask, n), **meta)


def _everywhere(x: Any, n: int) -> Any:
    """An array that is the same for all examples, with a batch axis."""
    return broadcast_to(_reshape(x, (1, *x.shape)), shape=(n, *x.shape))


_AXIS_META = frozenset(("axis", "keepdims", "dtype", "correction", "descending", "stable"))


def _shift(axis: Any) -> Any:
    if isinstance(axis, int):
        return axis + 1 if axis >= 0 else axis
    return tuple(_shift(a) for a in axis)


def _along_axis(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    axis = meta.get("axis", prim.defaults.get("axis"))
    x = values[0]
    if len(x.shape) == 1:
        return NotImplemented
    if axis is None:
        if "keepdims" not in prim.meta:
            return NotImplemented
        if prim.name in ("argmax", "argmin"):
            y = prim(_reshape(x, (n, math.prod(x.shape[1:]))), **{**meta, "axis": 1, "keepdims": False})
            return _reshape(y, (n, *(1,) * (len(x.shape) - 1))) if meta.get("keepdims") else y
        axis = tuple(range(len(x.shape) - 1))
    return prim(x, **{**meta, "axis": _shift(axis)})


def _same(prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]) -> Any:
    """Acts on elements or on the last axes: the batch is one more leading axis."""
    return prim(*values, **meta)


def _rule_reshape(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    x, shape = values[0], tuple(meta["shape"])
    if -1 in shape:
        known = -math.prod(shape)
        total = math.prod(x.shape[1:])
        if known <= 0 or total % known:
            return NotImplemented
        shape = tuple(total // known if s == -1 else s for s in shape)
    if math.prod(shape) != math.prod(x.shape[1:]):
        msg = f"cannot reshape {tuple(x.shape[1:])} to {shape}"
        raise ValueError(msg)
    return prim(x, shape=(n, *shape))


def _rule_permute(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    return prim(values[0], axes=(0, *_shift(tuple(meta["axes"]))))


def _rule_rearrange(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    axes = (0, *_shift(tuple(meta["axes"])))
    return prim(values[0], split=(n, *meta["split"]), axes=axes, shape=(n, *meta["shape"]))


def _rule_normalize(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    if any(mask[1:]):  # each example has weights of its own
        return NotImplemented
    split = meta.get("split", ())
    own = {"axes": _shift(meta["axes"]), "shape": (1, *meta["shape"]), "split": (n, *split) if split else ()}
    return prim(*values, **meta | own)


def _rule_flip(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    return prim(values[0], axis=_shift(meta["axis"]))


def _rule_roll(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    x, axis = values[0], meta["axis"]
    if axis is None:
        flat = _reshape(x, (n, math.prod(x.shape[1:])))
        return _reshape(prim(flat, shift=meta["shift"], axis=(1,)), tuple(x.shape))
    return prim(x, shift=meta["shift"], axis=_shift(axis))


def _rule_broadcast(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    x, shape = values[0], tuple(meta["shape"])
    if len(x.shape) - 1 > len(shape):
        msg = f"cannot broadcast {tuple(x.shape[1:])} to {shape}"
        raise ValueError(msg)
    return prim(_reshape(x, (n, *(1,) * (len(shape) - len(x.shape) + 1), *x.shape[1:])), shape=(n, *shape))


def _rule_sum_to(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    x, shape = values[0], tuple(meta["shape"])
    extra = len(x.shape) - 1 - len(shape)
    return _reshape(sum_to(x, shape=(n, *(1,) * extra, *shape)), (n, *shape))


def _rule_concat(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    arrays = [v if hit else _everywhere(v, n) for v, hit in zip(values, mask, strict=True)]
    return prim(*arrays, axis=_shift(meta["axis"]))


def _basic(key: Any) -> tuple[Any, ...] | None:
    """The key as a tuple, where it is made of integers, slices, None and ``...`` only."""
    parts = key if isinstance(key, tuple) else (key,)
    simple = all(
        p is None or p is ... or isinstance(p, slice) or (isinstance(p, int) and not isinstance(p, bool))
        for p in parts
    )
    return parts if simple else None


def _rule_getitem(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    key = _basic(meta["key"])
    return NotImplemented if key is None else prim(values[0], key=(slice(None), *key))


def _rule_put(prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]) -> Any:
    key = _basic(meta["key"])
    if key is None:
        return NotImplemented
    return prim(values[0], key=(slice(None), *key), shape=(n, *meta["shape"]))


def _rule_setitem(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    key = _basic(meta["key"])
    if key is None:
        return NotImplemented
    x, value = values
    if not mask[0]:
        x = _everywhere(x, n)
    key = (slice(None), *key)
    if mask[1]:
        rank = len(strip(_getitem(x.detach() if isinstance(x, Tensor) else x, key)).shape) - len(levels_of(x))
        value = _reshape(value, (n, *(1,) * (rank - len(value.shape)), *value.shape[1:]))
    return prim(x, value, key=key)


def _swap(x: Any) -> Any:
    return _permute(x, (1, 0, *range(2, len(x.shape))))


def _rule_gather(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    return _swap(prim(_swap(values[0]), index=meta["index"]))


def _rule_scatter(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    shape = tuple(meta["shape"])
    return _swap(prim(_swap(values[0]), index=meta["index"], shape=(shape[0], n, *shape[1:])))


def _rule_linear(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    x, weight, *bias = values
    if not any(mask[1:]):
        return prim(*values)
    y = _aligned(PRIMITIVES["matmul"], [x, PRIMITIVES["matrix_transpose"](weight)], mask[:2], n, {})
    if bias and bias[0] is not None:
        y = _aligned(PRIMITIVES["add"], [y, bias[0]], [True, mask[2]], n, {})
    return y


def _rule_lstm_cell(
    prim: Primitive[...], values: list[Any], mask: list[bool], n: int, meta: dict[str, Any]
) -> Any:
    return _swap(_aligned(prim, values, mask, n, meta))  # h and c are its first axis


RULES: dict[str, Rule] = {
    "reshape": _rule_reshape,
    "permute_dims": _rule_permute,
    "rearrange": _rule_rearrange,
    "flip": _rule_flip,
    "roll": _rule_roll,
    "broadcast_to": _rule_broadcast,
    "sum_to": _rule_sum_to,
    "concat": _rule_concat,
    "stack": _rule_concat,
    "getitem": _rule_getitem,
    "put": _rule_put,
    "setitem": _rule_setitem,
    "gather_rows": _rule_gather,
    "scatter_rows": _rule_scatter,
    "matmul": _aligned,
    "matrix_transpose": _same,
    **dict.fromkeys(
        (
            "cast_to",
            "astype",
            "relu",
            "leaky_relu",
            "elu",
            "sigmoid",
            "silu",
            "softplus",
            "erf",
            "gelu",
            "gelu_tanh",
            "glu",
        ),
        _same,
    ),
    **dict.fromkeys(("squared_error", "huber", "binary_cross_entropy", "logit_cross_entropy"), _aligned),
    "linear": _rule_linear,
    "lstm_cell": _rule_lstm_cell,
    "normalize": _rule_normalize,
}
"""How a primitive acts on a batch: ``rule(prim, values, mask, n, meta)``, where `mask` says which of the values have
the batch (of n) as their first axis. It returns the result with the batch first, or NotImplemented."""


# ----- vmap -----


def vmap(f: Callable[..., Any], in_axes: Any = 0, out_axes: Any = 0) -> Callable[..., Any]:
    """`f`, written for one example, as a function of a batch of them.

    Parameters
    ----------
    f: a function of arrays, or of dicts, lists and tuples of them.
    in_axes: the batch axis of each argument, None for one that is the same for all examples: a number for all, or a
        tuple with an entry for each positional argument (itself a number, None, or a nest as the argument). Keyword
        arguments are the same for all.
    out_axes: where the batch axis of the results goes: a number, or a nest as the result.

    Composes with all transforms: ``vmap(grad(loss), in_axes=(None, 0, 0))(w, x, y)`` is the gradient of each example.
    Primitives without a batching rule run example by example. Branches on data and ``backward()`` raise inside.

    >>> import anynet as an
    >>> from anynet.autograd import vmap
    >>> vmap(lambda a, b: an.sum(a * b))(an.asarray([[1.0, 2.0], [3.0, 4.0]]), an.asarray([[1.0, 1.0], [2.0, 2.0]]))
    Tensor([ 3., 14.])
    """

    def mapped(*args: Any, **kwargs: Any) -> Any:
        axes = in_axes if isinstance(in_axes, (tuple, list)) else (in_axes,) * len(args)
        if len(axes) != len(args):
            msg = f"vmap: in_axes has {len(axes)} entries for {len(args)} arguments"
            raise ValueError(msg)
        prepared, size = _prepared(args, axes)
        level = clock()
        given = []
        for arg, row in zip(args, prepared, strict=True):
            structure = flatten(arg)[1]
            given.append(unflatten(structure, [_batched(x, level) if hit else x for x, hit in row]))
        with running([*this_thread.levels, (level, size)]):
            result = f(*given, **kwargs)
            leaves = _prefix(out_axes, result, "out_axes")
            outs = [_out(y, axis, level, size) for y, axis in leaves]
        return unflatten(flatten(result)[1], outs)

    mapped.__name__ = getattr(f, "__name__", "mapped")
    mapped.__doc__ = getattr(f, "__doc__", None)
    return mapped


def _prepared(args: tuple[Any, ...], axes: Sequence[Any]) -> tuple[list[list[tuple[Any, bool]]], int]:
    """The leaves of each argument, those with a batch axis with that axis in front; and the size of the batch."""
    flat = [_prefix(axis, arg, f"in_axes[{i}]") for i, (axis, arg) in enumerate(zip(axes, args, strict=True))]
    size: int | None = None
    first = ""
    prepared: list[list[tuple[Any, bool]]] = []
    for i, leaves in enumerate(flat):
        row: list[tuple[Any, bool]] = []
        for x, axis in leaves:
            if axis is None:
                row.append((x, False))
                continue
            if not isinstance(x, Tensor):
                if not hasattr(x, "shape"):
                    msg = (
                        f"vmap: argument {i} is a {type(x).__name__}, which has no axis {axis}; in_axes None?"
                    )
                    raise TypeError(msg)
                x = wrap(to_plain(x))
            if not -len(x.shape) <= axis < len(x.shape):
                msg = f"vmap: argument {i} of shape {tuple(x.shape)} has no axis {axis}"
                raise ValueError(msg)
            axis %= len(x.shape)
            n = int(x.shape[axis])
            if size is None:
                size, first = n, f"argument {i} of shape {tuple(x.shape)}"
            elif n != size:
                msg = f"vmap: batch sizes differ: {size} ({first}) and {n} (argument {i} of shape {tuple(x.shape)})"
                raise ValueError(msg)
            row.append((_permute(x, (axis, *(a for a in range(len(x.shape)) if a != axis))), True))
        prepared.append(row)
    if size is None:
        msg = "vmap needs at least one argument with a batch axis; all in_axes are None"
        raise ValueError(msg)
    return prepared, size


def _out(y: Any, axis: int | None, level: int, size: int) -> Any:
    if not isinstance(y, Tensor):
        y = wrap(to_plain(y))
    batched = _level_of(y) == level
    if axis is None:
        if batched:
            msg = f"vmap: out_axes is None for a result of shape {tuple(y.shape)} that differs from example to example"
            raise ValueError(msg)
        return y
    value = _value(y) if batched else _everywhere(y, size)
    rank = len(value.shape)
    if not -rank <= axis < rank:
        msg = (
            f"vmap: out_axes {axis} is out of range for a result of {rank - 1} dimensions and the batch axis"
        )
        raise ValueError(msg)
    axis %= rank
    order = list(range(1, rank))
    order.insert(axis, 0)
    return _permute(value, tuple(order))


def _prefix(axes: Any, tree: Any, what: str) -> list[tuple[Any, Any]]:
    """Each leaf of a nest with its axis; a number or None stands for all leaves below."""
    if axes is None or isinstance(axes, int):
        return [(x, axes) for x in flatten(tree)[0]]
    if isinstance(axes, dict) and isinstance(tree, dict) and axes.keys() == tree.keys():
        return [pair for k in tree for pair in _prefix(axes[k], tree[k], f"{what}[{k!r}]")]
    if isinstance(axes, (list, tuple)) and isinstance(tree, (list, tuple)) and len(axes) == len(tree):
        pairs = zip(axes, tree, strict=True)
        return [pair for i, (a, t) in enumerate(pairs) for pair in _prefix(a, t, f"{what}[{i}]")]
    msg = f"vmap: {what} = {axes!r} does not fit {type(tree).__name__} {tree!r:.60}; give a number, None or a like nest"
    raise ValueError(msg)
