"""Values under some keys (variables, attributes, items), as they were when a function was traced, and whether they are equal now."""

from __future__ import annotations

import enum
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import is_
from typing import Any, Final

from anynet import dtypes

__all__ = [
    "ABSENT",
    "ANY_TENSOR",
    "PLAIN",
    "GuardedValues",
    "SlotAttributes",
    "is_plain",
    "item_sources",
    "same_value",
]

ABSENT: Final = type("Absent", (), {"__repr__": lambda self: "nothing"})()
"""The value of a name that is not bound."""
ANY_TENSOR: Final = type("AnyTensor", (), {"__repr__": lambda self: "a Tensor"})()
"""The value of an attribute that each replay sets."""
PLAIN: Final = (
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    type(None),
    type(...),
    slice,
    range,
    enum.Enum,
    dtypes.DType,
)


def same_value(old: Any, new: Any) -> bool:
    """Whether two values are one object, or equal numbers, strings and tuples of these of the same types."""
    if old is new:
        return True
    kind = type(old)
    if kind is not type(new):
        return False
    if kind in (float, complex):
        return repr(old) == repr(new)
    if kind in (tuple, slice):
        one, other = (old, new) if kind is tuple else (_parts(old), _parts(new))
        return len(one) == len(other) and all(map(same_value, one, other))
    if kind is types.MethodType:
        return old.__func__ is new.__func__ and old.__self__ is new.__self__
    return kind in (int, str, bytes, range, frozenset) and old == new


def _parts(s: slice) -> tuple[Any, ...]:
    return s.start, s.stop, s.step


class GuardedValues:
    """Something that holds values under keys: `read` gives them as they are now."""

    __slots__ = ("kept", "keys", "later", "owner", "path", "read", "restore", "sources", "values")

    def __init__(
        self,
        owner: Any,
        path: str,
        read: Callable[[], tuple[Any, Any]],
        restore: Callable[[Any, Any], None],
        sources: Sequence[tuple[str, Any, Any]] | None = None,
    ) -> None:
        self.owner, self.path, self.read, self.restore = owner, path, read, restore
        self.keys, self.values = self.later = read()  # `later`: what a call on the host has left
        self.kept: set[str] = set()  # attributes that a replay sets
        self.sources = sources  # of each value: an expression, what stands for {} in it, and the key

    def same(self) -> bool:
        """Whether it holds what it held."""
        keys, values = self.read()
        if len(values) == len(self.values) and all(map(is_, values, self.values)) and self._keys_are(keys):
            return True
        if not self._keys_are(keys) or len(values) != len(self.values):
            return False
        if not all(map(same_value, self.values, values)):
            return False
        self.values = values  # equal, and found at once the next time
        return True

    def _keys_are(self, keys: Any) -> bool:
        own = self.keys
        return own is None or (len(own) == len(keys) and all(map(same_value, own, keys)))


class SlotAttributes(Mapping[str, Any]):
    """The attributes of an object without a dictionary."""

    def __init__(self, owner: Any, names: list[str]) -> None:
        self.owner, self.names = owner, names

    def __getitem__(self, name: str) -> Any:
        try:
            return getattr(self.owner, name)
        except AttributeError:
            raise KeyError(name) from None

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def item_sources(holder: Any, keys: Iterable[Any]) -> list[tuple[str, Any, Any]]:
    """Sources of a place: what lies under some keys."""
    return [(f"{{}}[{k!r}]", holder, k) for k in keys]


def is_plain(value: Any) -> bool:
    return isinstance(value, PLAIN) and value is not None
