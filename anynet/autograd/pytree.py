"""Nested dicts, lists and tuples as flat lists of leaves and back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

__all__ = ["flatten", "map_tree", "unflatten"]


class _Leaf:
    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Leaf)

    def __hash__(self) -> int:
        return 0

    def __repr__(self) -> str:
        return "*"


LEAF = _Leaf()


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """The leaves of a nest of dicts (in the order of their keys), lists, tuples and None; and its structure."""
    leaves: list[Any] = []
    return leaves, _structure(tree, leaves)


# a function of the module: one inside of `flatten` would refer to itself, and hold the leaves until the next collection
def _structure(x: Any, leaves: list[Any]) -> Any:
    if x is None:
        return None
    if type(x) is dict:
        return {k: _structure(v, leaves) for k, v in x.items()}
    if type(x) in (list, tuple):
        return type(x)([_structure(v, leaves) for v in x])
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*[_structure(v, leaves) for v in x])
    leaves.append(x)
    return LEAF


def unflatten(structure: Any, leaves: Sequence[Any]) -> Any:
    """The inverse of `flatten`."""
    return _filled(structure, iter(leaves))


def _filled(s: Any, rest: Iterator[Any]) -> Any:
    if s is LEAF:
        return next(rest)
    if isinstance(s, dict):
        return {k: _filled(v, rest) for k, v in s.items()}
    if isinstance(s, tuple) and hasattr(s, "_fields"):
        return type(s)(*[_filled(v, rest) for v in s])
    if isinstance(s, (list, tuple)):
        return type(s)([_filled(v, rest) for v in s])
    return s


def map_tree(f: Callable[[Any], Any], tree: Any) -> Any:
    """The same nest with f applied to each leaf."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [f(x) for x in leaves])
