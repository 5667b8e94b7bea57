"""An element-wise update as a program: traced once, and run on the flat vectors of any group of that kind.

Adam's update of 5,000 numbers is one call of machine code, and one of a million is one pass over memory by all threads; without
machine code it is NumPy calls on blocks that stay in the cache (`anynet_backends.jit.elementwise_program`). On other backends the
same function runs on the arrays.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from anynet.autograd.jit.specialize import traceable_numpy
from anynet.optim.flat_group import FlatGroup
from anynet_backends import TYPES, Array, Backend
from anynet_backends.jit.elementwise_program import ElementwiseProgram
from anynet_backends.jit.errors import CompileError
from anynet_backends.jit.tracer import TracedArray, trace_lock

__all__ = [
    "ElementwiseUpdate",
    "apply",
    "bound_program",
    "changed_gradient",
    "update_in_place",
    "update_rows",
]

ElementwiseUpdate = Callable[[Backend, Array, Array, dict[str, Array], dict[str, Any]], None]
"""(xp, p, g, state, c): see `Optimizer.elementwise_update`."""


def apply(
    update: ElementwiseUpdate,
    xp: Any,
    wide: Any,
    p: Array,
    g: Array,
    state: dict[str, Array],
    c: dict[str, Any],
) -> None:
    """An update with what all optimizers have in common: `wide`, the dtype in which parameters of 16 bits are updated, and what is done
    to the gradient first, `maximize`, `l1` and `l2`, the weight decay."""
    value = p
    if wide is not None:
        value, g = xp.astype(p, wide), xp.astype(g, wide)
    update(xp, value, changed_gradient(value, g, c, xp.sign), state, c)
    if wide is not None:
        p[...] = xp.astype(value, p.dtype)


def changed_gradient(value: Any, g: Any, c: Mapping[str, Any], sign: Callable[[Any], Any]) -> Any:
    """The gradient of a parameter of this `value` after what is done to it first."""
    if "maximize" in c:
        g = -g
    if "l1" in c:
        g = g + c["l1"] * sign(value)
    if "l2" in c:
        g = g + c["l2"] * value
    return g


def update_in_place(
    update: ElementwiseUpdate, flat: FlatGroup, first: int, last: int, c: dict[str, Any], compiles: bool
) -> None:
    """Update the parameters first … last − 1: by a program, where the backend compiles and it can be traced, else on the arrays."""
    if compiles and flat.xp.runs_programs:
        key = (first, last, *c)
        try:
            program = flat.programs[key]
        except KeyError:
            _check_elementwise(update, flat, c)
            program = bound_program(update, flat, first, last, tuple(c))
        if program is not None:
            program(c.values())
            return
    _check_elementwise(update, flat, c)
    for p, g, state in flat.blocks(first, last, flat.xp.block_size):
        apply(update, flat.xp, flat.wide, p, g, state, c)


def update_rows(
    update: ElementwiseUpdate, flat: FlatGroup, i: int, rows: Array, g: Array, c: dict[str, Any]
) -> None:
    """Update these rows of the parameter i, each there once and in order, in copies of them that are written back."""
    xp = flat.xp
    table, parts = flat.value_views[i], {name: flat.part(name, i) for name in flat.state}
    p = xp.take(table, rows, axis=0)
    state = {name: xp.take(part, rows, axis=0) for name, part in parts.items()}
    apply(update, xp, flat.wide, p, g, state, c)
    xp.set_rows(table, rows, p)
    for name, part in parts.items():
        xp.set_rows(part, rows, state[name])


def bound_program(
    update: ElementwiseUpdate, flat: FlatGroup, first: int, last: int, names: tuple[str, ...]
) -> Callable[[Iterable[float]], None] | None:
    """The update of a range of parameters; None where it cannot be traced, or while another thread traces."""
    if not trace_lock.acquire(blocking=False):
        return None
    try:
        program = _program(update, flat, names)
    finally:
        trace_lock.release()
    made = None
    if program is not None:
        p, g, state = next(iter(flat.blocks(first, last, None)))
        made = flat.xp.bind_program(program, (p, g, *state.values()))
    flat.remember((first, last, *names), made)
    return made


_checked: weakref.WeakKeyDictionary[Any, set[Any]] = weakref.WeakKeyDictionary()
_NUMBERS: Final = (0.5, -1.25, 0.75, 2.0, -0.125, 1.5, -3.0, 0.375)


def _check_elementwise(update: ElementwiseUpdate, flat: FlatGroup, c: dict[str, Any]) -> None:
    """Refuse, once for each kind of group, an update that does something else to vectors than to their parts, or changes the gradient."""
    if flat.xp.block_size is None:  # vectors are not cut there
        return
    key = (flat.number, *flat.state, *c)
    known = _checked.setdefault(update, set())
    if key in known:
        return
    name = getattr(update, "__qualname__", repr(update))
    whole, again, half, rest = (_tried(update, flat, c, a, b) for a, b in ((0, 8), (0, 8), (0, 3), (3, 8)))
    if not _alike(flat.xp, [whole[0]], [_vector(flat, flat.number, 1, 0, 8)]):
        msg = f"{name}: an element-wise update must not change the gradient g in place; write g = g + …, not g += …"
        raise TypeError(msg)
    parts = [flat.xp.concat(pair) for pair in zip(half, rest, strict=True)]
    if _alike(flat.xp, whole, again) and not _alike(flat.xp, whole, parts):  # random numbers differ each time
        msg = (
            f"{name} must do to each number what it does to it alone, as vectors are cut into blocks: it must not read their sums, "
            "sizes or neighbours; write `update` for that"
        )
        raise TypeError(msg)
    known.add(key)


def _vector(
    flat: FlatGroup, dtype: Any, turn: int, first: int, last: int, f: Callable[[float], float] = float
) -> Array:
    numbers = [f(x) for x in (_NUMBERS[turn:] + _NUMBERS[:turn])[first:last]]
    return flat.xp.asarray(numbers, dtype=dtype, device=flat.xp.native_device(flat.device))


def _tried(
    update: ElementwiseUpdate, flat: FlatGroup, c: dict[str, Any], first: int, last: int
) -> list[Array]:
    """The gradient, the parameters and the state after an update of a part of some numbers."""
    p, g = (_vector(flat, flat.number, turn, first, last) for turn in (0, 1))
    state = {
        n: _vector(flat, flat.wide or flat.number, 2 + k % 6, first, last, abs)
        for k, n in enumerate(flat.state)
    }
    with flat.xp.errstate():
        apply(update, flat.xp, flat.wide, p, g, state, c)
    return [g, p, *state.values()]


def _alike(xp: Any, first: list[Array], second: list[Array]) -> bool:
    with xp.errstate():
        return all(
            bool(xp.all((a == b) | ((a != a) & (b != b)) | (abs(a - b) <= 1e-3 * (1 + abs(a)))))
            for a, b in zip(first, second, strict=True)
        )


_programs: weakref.WeakKeyDictionary[Any, dict[Any, ElementwiseProgram | None]] = weakref.WeakKeyDictionary()
"""By the function, the types of its vectors, and the names of its state and numbers."""


def _program(update: ElementwiseUpdate, flat: FlatGroup, names: tuple[str, ...]) -> ElementwiseProgram | None:
    slots = tuple(flat.state)
    dtypes = [flat.number] * 2 + [flat.wide or flat.number] * len(flat.state)
    key = (*dtypes, *slots, *names)
    known = _programs.setdefault(update, {})
    if key not in known:

        def function(xp: Any, vectors: list[Any], c: dict[str, Any]) -> None:
            p, g, *state = vectors
            apply(update, xp, flat.wide, p, g, dict(zip(slots, state, strict=True)), c)

        traceable_numpy()
        tracer: Any = TYPES[TracedArray]
        try:
            known[key] = ElementwiseProgram(tracer, function, dtypes, names, flat.wide or flat.number, (1,))
        except CompileError:
            known[key] = None
    return known[key]
