"""Nested dicts, lists and tuples as flat lists of leaves and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

    def walk(x: Any) -> Any:
        if x is None:
            return None
        if type(x) is dict:
            return {k: walk(v) for k, v in x.items()}
        if type(x) in (list, tuple):
            return type(x)([walk(v) for v in x])
        if isinstance(x, tuple) and hasattr(x, "_fields"):
            return type(x)(*[walk(v) for v in x])
        leaves.append(x)
        return LEAF

    return leaves, walk(tree)


def unflatten(structure: Any, leaves: Sequence[Any]) -> Any:
    """The inverse of `flatten`."""
    rest = iter(leaves)

    def build(s: Any) -> Any:
        if s is LEAF:
            return next(rest)
        if isinstance(s, dict):
            return {k: build(v) for k, v in s.items()}
        if isinstance(s, tuple) and hasattr(s, "_fields"):
            return type(s)(*[build(v) for v in s])
        if isinstance(s, (list, tuple)):
            return type(s)([build(v) for v in s])
        return s

    return build(structure)


def map_tree(f: Callable[[Any], Any], tree: Any) -> Any:
    """The same nest with f applied to each leaf."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [f(x) for x in leaves])
