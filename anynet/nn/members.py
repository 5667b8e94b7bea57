"""Parameters, buffers and modules inside of attributes, through lists, tuples and dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

__all__ = ["walk"]


def walk(value: Any, name: str, kinds: tuple[type, ...]) -> Iterator[tuple[str, Any]]:
    """(name, leaf) for the leaves of some types in an attribute, through lists, tuples and dicts."""
    if isinstance(value, kinds):
        yield name, value
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from walk(item, f"{name}.{key}", kinds)
    elif isinstance(value, (list, tuple)):
        for i, item in enumerate(value):
            yield from walk(item, f"{name}.{i}", kinds)
