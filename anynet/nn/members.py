"""What the attributes of modules hold: parameters, buffers and modules, through lists, tuples and dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any

from anynet._hints import nearest
from anynet.tensor import Buffer, Parameter, Tensor

if TYPE_CHECKING:
    from anynet.nn.module import Module

__all__ = ["PLAIN", "named_state", "named_tensors", "not_found", "walk"]

PLAIN = frozenset({int, float, bool, str, bytes, NoneType})
"""Types of what is passed over quickly: a module may hold large tables of them."""


def walk(
    value: Any, name: str, kinds: tuple[type, ...], above: tuple[int, ...] = ()
) -> Iterator[tuple[str, Any]]:
    """(name, leaf) for the leaves of some types in an attribute, through lists, tuples and dicts.

    `above` holds the ids of the enclosing containers: one that contains itself is not entered again.
    """
    if isinstance(value, kinds):
        yield name, value
        return
    items: Any
    if isinstance(value, (list, tuple)):
        items = enumerate(value)
    elif isinstance(value, Mapping):
        items = value.items()
    else:
        return
    if id(value) in above:
        return
    above = (*above, id(value))
    for key, item in items:
        if type(item) not in PLAIN:
            yield from walk(item, f"{name}.{key}", kinds, above)


def named_tensors(
    module: Module, kind: type, recurse: bool = True, once: bool = True
) -> Iterator[tuple[str, Any, Module]]:
    """(path, tensor, its module): of each module its parameters, its other tensors, then what its children have."""
    seen: set[int] = set()

    def visit(owner: Module, prefix: str, above: tuple[int, ...]) -> Iterator[tuple[str, Any, Module]]:
        tensors: list[tuple[str, Any]] = []
        children: list[tuple[str, Any]] = []
        for name, value in owner._named_members(kind):
            (tensors if isinstance(value, Tensor) else children).append((f"{prefix}{name}", value))
        if kind is Tensor:
            tensors.sort(key=lambda item: not isinstance(item[1], Parameter))
        for full, value in tensors:
            if not (once and id(value) in seen):
                seen.add(id(value))
                yield full, value, owner
        if recurse:
            for full, value in children:
                if id(value) not in above:
                    yield from visit(value, f"{full}.", (*above, id(value)))

    yield from visit(module, "", (id(module),))


def named_state(module: Module) -> Iterator[tuple[str, Tensor]]:
    """The parameters and persistent buffers, under all of their names."""
    for name, t, _ in named_tensors(module, Tensor, once=False):
        if isinstance(t, Parameter) or (isinstance(t, Buffer) and t.persistent):
            yield name, t


def not_found(module: Module, target: str, known: list[str]) -> AttributeError:
    """The error of a path at which a module has nothing."""
    return AttributeError(
        f"{type(module).__name__} has no {target!r}{nearest(target, known, everything=False)}"
    )
