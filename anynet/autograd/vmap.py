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
from typing import Any, NamedTuple, NoReturn

from anynet.autograd.broadcasting import broadcast_to, sum_to
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.graph import OutputEdge, custom_node
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


def recorded(
    name: str, outs: Sequence[Tensor], parents: Sequence[Any], rule: Callable[..., Any]
) -> list[Tensor]:
    """Results as those of one node of the graph (`graph.custom_node`), whose gradients with respect to `parents` a rule gives."""
    arrays = [strip(y)._data for y in outs]
    node = custom_node(name, arrays[0] if len(outs) == 1 else tuple(arrays), parents, rule)
    made = []
    for k, (y, data) in enumerate(zip(outs, arrays, strict=True)):
        new = wrap(data, y._results or Tensor)
        if y.dtype.is_floating:
            new.edge = OutputEdge(node, k) if node.count else node
        made.append(rebatch(new, levels_of(y)))
    return made


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


class Call(NamedTuple):
    """A call of a primitive on batches: `mask` says which of its values have the batch, of `n` examples, as their first axis."""

    prim: Primitive[...]
    values: list[Any]
    mask: list[bool]
    n: int
    meta: dict[str, Any]

    def __call__(self, *values: Any, **changes: Any) -> Any:
        """The primitive on these values in the place of its own, with some of the metadata changed."""
        return self.prim(*(values or self.values), **{**self.meta, **changes})


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
    call = Call(prim, values, mask, n, meta)
    rule = RULES.get(prim.name)
    out: Any = NotImplemented
    if rule is not None:
        out = rule(call)
    elif prim.elementwise or (prim.stacked and len(values) > 1):
        out = _aligned(call)
    elif prim.stacked:
        out = call()
    elif "axis" in prim.meta and len(args) == 1 and _AXIS_META.issuperset(prim.meta):
        out = _along_axis(call)
    if out is NotImplemented:
        out = _one_by_one(call)
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


def _one_by_one(call: Call) -> Any:
    """Correct for every primitive: one call for each example."""
    if call.n == 0:
        msg = f"vmap over an empty batch: {call.prim.name} has no batching rule and cannot tell the shape of its result"
        raise VmapError(msg)
    pairs = list(zip(call.values, call.mask, strict=True))
    results = [call(*[_getitem(v, (i, ...)) if hit else v for v, hit in pairs]) for i in range(call.n)]
    if isinstance(results[0], tuple):
        return tuple(_stack([r[k] for r in results]) for k in range(len(results[0])))
    return _stack(results)


def _stack(items: list[Any]) -> Any:
    return PRIMITIVES["concat"](*[_reshape(x, (1, *x.shape)) for x in items], axis=0)


def _rank(x: Any) -> int:
    return len(x.shape) if hasattr(x, "shape") else 0


def _inner(x: Any, rank: int) -> Any:
    """A batch with axes of length 1 between that of the batch and those of one example, which then has so many."""
    return _reshape(x, (x.shape[0], *(1,) * (rank - _rank(x) + 1), *x.shape[1:]))


def _aligned(call: Call) -> Any:
    """With axes of length 1, so that the examples broadcast as they would."""
    pairs = list(zip(call.values, call.mask, strict=True))
    rank = max(_rank(v) - hit for v, hit in pairs)
    return call(*[_inner(v, rank) if hit else v for v, hit in pairs])


def _everywhere(x: Any, n: int) -> Any:
    """An array that is the same for all examples, with a batch axis."""
    return broadcast_to(_reshape(x, (1, *x.shape)), shape=(n, *x.shape))


_AXIS_META = frozenset(("axis", "keepdims", "dtype", "correction", "descending", "stable"))


def _shift(axis: Any) -> Any:
    if isinstance(axis, int):
        return axis + 1 if axis >= 0 else axis
    return tuple(_shift(a) for a in axis)


def _along_axis(call: Call) -> Any:
    prim, x = call.prim, call.values[0]
    axis = call.meta.get("axis", prim.defaults.get("axis"))
    if len(x.shape) == 1:
        return NotImplemented
    if axis is None:
        if "keepdims" not in prim.meta:
            return NotImplemented
        if prim.name in ("argmax", "argmin"):
            y = call(_reshape(x, (call.n, math.prod(x.shape[1:]))), axis=1, keepdims=False)
            return _reshape(y, (call.n, *(1,) * (len(x.shape) - 1))) if call.meta.get("keepdims") else y
        axis = tuple(range(len(x.shape) - 1))
    return call(axis=_shift(axis))


_OUTER: dict[str, Callable[[Any, int], Any]] = {
    "axis": lambda axis, n: _shift(axis),
    "axes": lambda axes, n: (0, *_shift(tuple(axes))),
    **dict.fromkeys(("shape", "split"), lambda shape, n: (n, *shape)),
}
"""Metadata that speak of axes, with that of a batch of n in front."""


def _with_outer_axis(call: Call) -> Any:
    """Acts on elements, on the last axes, or on those that the metadata name: the batch is one more leading axis."""
    return call(**{k: _OUTER[k](v, call.n) for k, v in call.meta.items() if k in _OUTER})


def _rule_reshape(call: Call) -> Any:
    x, shape = call.values[0], tuple(call.meta["shape"])
    total = math.prod(x.shape[1:])
    if -1 in shape:
        known = -math.prod(shape)
        if known <= 0 or total % known:
            return NotImplemented
        shape = tuple(total // known if s == -1 else s for s in shape)
    if math.prod(shape) != total:
        msg = f"cannot reshape {tuple(x.shape[1:])} to {shape}"
        raise ValueError(msg)
    return call(shape=(call.n, *shape))


def _rule_normalize(call: Call) -> Any:
    if any(call.mask[1:]):  # each example has weights of its own
        return NotImplemented
    meta, split = call.meta, call.meta.get("split", ())
    return call(axes=_shift(meta["axes"]), shape=(1, *meta["shape"]), split=(call.n, *split) if split else ())


def _rule_roll(call: Call) -> Any:
    x = call.values[0]
    if call.meta["axis"] is None:
        flat = _reshape(x, (call.n, math.prod(x.shape[1:])))
        return _reshape(call(flat, axis=(1,)), tuple(x.shape))
    return _with_outer_axis(call)


def _rule_broadcast(call: Call) -> Any:
    x, shape = call.values[0], tuple(call.meta["shape"])
    if len(x.shape) - 1 > len(shape):
        msg = f"cannot broadcast {tuple(x.shape[1:])} to {shape}"
        raise ValueError(msg)
    return call(_inner(x, len(shape)), shape=(call.n, *shape))


def _rule_sum_to(call: Call) -> Any:
    x, shape = call.values[0], tuple(call.meta["shape"])
    extra = len(x.shape) - 1 - len(shape)
    return _reshape(sum_to(x, shape=(call.n, *(1,) * extra, *shape)), (call.n, *shape))


def _rule_concat(call: Call) -> Any:
    arrays = [v if hit else _everywhere(v, call.n) for v, hit in zip(call.values, call.mask, strict=True)]
    return call(*arrays, axis=_shift(call.meta["axis"]))


def _basic(key: Any) -> tuple[Any, ...] | None:
    """The key as a tuple, where it is made of integers, slices, None and ``...`` only."""
    parts = key if isinstance(key, tuple) else (key,)
    simple = all(
        p is None or p is ... or isinstance(p, slice) or (isinstance(p, int) and not isinstance(p, bool))
        for p in parts
    )
    return parts if simple else None


def _rule_by_key(call: Call) -> Any:
    key = _basic(call.meta["key"])
    if key is None:
        return NotImplemented
    return _with_outer_axis(call._replace(meta={**call.meta, "key": (slice(None), *key)}))


def _rule_setitem(call: Call) -> Any:
    key = _basic(call.meta["key"])
    if key is None:
        return NotImplemented
    x, value = call.values
    if not call.mask[0]:
        x = _everywhere(x, call.n)
    key = (slice(None), *key)
    if call.mask[1]:
        rank = len(strip(_getitem(x.detach() if isinstance(x, Tensor) else x, key)).shape) - len(levels_of(x))
        value = _inner(value, rank - 1)
    return call(x, value, key=key)


def _swap(x: Any) -> Any:
    return _permute(x, (1, 0, *range(2, len(x.shape))))


def _rule_gather(call: Call) -> Any:
    return _swap(call(_swap(call.values[0])))


def _rule_scatter(call: Call) -> Any:
    first, *rest = call.meta["shape"]
    return _swap(call(_swap(call.values[0]), shape=(first, call.n, *rest)))


def _rule_linear(call: Call) -> Any:
    x, weight, *bias = call.values
    if not any(call.mask[1:]):
        return call()
    n, transposed = call.n, PRIMITIVES["matrix_transpose"](weight)
    y = _aligned(Call(PRIMITIVES["matmul"], [x, transposed], call.mask[:2], n, {}))
    if bias and bias[0] is not None:
        y = _aligned(Call(PRIMITIVES["add"], [y, bias[0]], [True, call.mask[2]], n, {}))
    return y


def _rule_lstm_cell(call: Call) -> Any:
    return _swap(_aligned(call))  # h and c are its first axis


RULES: dict[str, Callable[[Call], Any]] = {
    **dict.fromkeys(
        (
            "astype", "cast_to", "elu", "erf", "flip", "gelu", "gelu_tanh", "glu", "leaky_relu", "matrix_transpose", "permute_dims",
            "rearrange", "relu", "sigmoid", "silu", "softplus",
        ),
        _with_outer_axis,
    ),
    **dict.fromkeys(("binary_cross_entropy", "huber", "logit_cross_entropy", "matmul", "squared_error"), _aligned),
    **dict.fromkeys(("concat", "stack"), _rule_concat),
    **dict.fromkeys(("getitem", "put"), _rule_by_key),
    "broadcast_to": _rule_broadcast,
    "gather_rows": _rule_gather,
    "linear": _rule_linear,
    "lstm_cell": _rule_lstm_cell,
    "normalize": _rule_normalize,
    "reshape": _rule_reshape,
    "roll": _rule_roll,
    "scatter_rows": _rule_scatter,
    "setitem": _rule_setitem,
    "sum_to": _rule_sum_to,
}  # fmt: skip
"""How a primitive acts on a batch. A rule returns the result with the batch first, or NotImplemented."""


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
