"""Containers: modules and parameters in sequences and dictionaries, with PyTorch's names (``0.weight``, …)."""

from __future__ import annotations

import operator
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Self

from anynet._hints import MODULES
from anynet.nn.errors import ShapeError
from anynet.nn.fused_sequential import FusedSequential
from anynet.nn.members import walk
from anynet.nn.module import Module
from anynet.ops.manipulation import reshape
from anynet.tensor import Parameter, Tensor
from anynet.typing import ArrayLike

__all__ = [
    "Container", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential", "TimeDistributed",
]  # fmt: skip


def _module(item: Any, where: str) -> Any:
    if not isinstance(item, Module):
        hint = "; give an instance: Linear(2, 3)" if isinstance(item, type) else ""
        msg = f"{where}: items must be modules, got {getattr(item, '__name__', type(item).__name__)}{hint}"
        raise TypeError(msg)
    return item


def _module_or_none(item: Any, where: str) -> Any:
    """Of lists and dictionaries, from which a forward chooses, as in PyTorch: None holds a place."""
    return None if item is None else _module(item, where)


def _parameter(item: Any, where: str) -> Any:
    if isinstance(item, (ParameterList, ParameterDict)):  # of lists of lists
        return item
    if isinstance(item, Tensor):
        return item if isinstance(item, Parameter) else Parameter(item)
    try:
        return Parameter(item)
    except (TypeError, ValueError) as error:
        msg = f"{where}: items must be parameters or arrays, got {type(item).__name__}"
        raise TypeError(msg) from error


class _Container(Module):
    """What the containers share: items under names, apart from the attributes, so that no name can hide a method."""

    _items: Mapping[str, Any] = {}
    _not_members = Module._not_members | {"_fused", "_items"}
    _check: Callable[[Any, str], Any] = staticmethod(_module)

    def _named_members(self, *kinds: type) -> Iterator[tuple[str, Any]]:
        for name, item in list(self._items.items()):
            yield from walk(item, name, (*kinds, Module))
        yield from super()._named_members(*kinds)

    def __getattr__(self, name: str) -> Any:
        try:
            return self._items[name]
        except KeyError:
            hint = f"; {MODULES[name]}" if name in MODULES else ""
            msg = f"{type(self).__name__} has no attribute {name!r}{hint}"
            raise AttributeError(msg) from None

    def __setattr__(self, name: str, value: Any) -> None:
        """A module set as an attribute of a container of modules is one of its items, as in PyTorch."""
        if (isinstance(value, Module) and self._check in (_module, _module_or_none)) or name in self._items:
            _check_name(name, type(self))
            self._items = {**self._items, name: self._check(value, type(self).__name__)}
        else:
            super().__setattr__(name, value)

    def __delattr__(self, name: str) -> None:
        if name in self._items:
            self._items = {k: item for k, item in self._items.items() if k != name}
        else:
            super().__delattr__(name)

    def __len__(self) -> int:
        return len(self._items)

    def _lines(self) -> str:
        lines = []
        for name, item in self._items.items():
            text = repr(item)
            if item is not None and not isinstance(item, Module):
                text = f"{type(item).__name__} of {item.dtype} and shape {item.shape}"
            lines.append(f"\n  ({name}): " + text.replace("\n", "\n  "))
        return "".join(lines)

    def __repr__(self) -> str:
        body = self._lines()
        return f"{type(self).__name__}({body}\n)" if body else f"{type(self).__name__}()"


class _Sequence(_Container):
    """Items named 0, 1, 2, …"""

    def _set(self, items: Iterable[Any]) -> None:
        self._items = {str(i): item for i, item in enumerate(items)}

    def _at(self, index: Any) -> int:
        try:
            i = index.__index__()
        except AttributeError:
            msg = f"{type(self).__name__} indices must be integers or slices, got {index!r}"
            raise TypeError(msg) from None
        n = len(self._items)
        if not -n <= i < n:
            msg = f"{type(self).__name__}: index must be in [{-n}, {n}), got {i}"
            raise IndexError(msg)
        return int(i % n)

    def __getitem__(self, index: Any) -> Any:
        items = list(self._items.values())
        if isinstance(index, slice):
            new = type(self).__new__(type(self))
            new._items = (
                dict(list(self._items.items())[index])
                if isinstance(self, Sequential)
                else {str(i): item for i, item in enumerate(items[index])}
            )
            return new
        return items[self._at(index)]

    def __setitem__(self, index: Any, item: Any) -> None:
        name = list(self._items)[self._at(index)]
        self._items = {**self._items, name: self._check(item, type(self).__name__)}

    def __delitem__(self, index: Any) -> None:
        items = list(self._items.values())
        if isinstance(index, slice):
            del items[index]
        else:
            del items[self._at(index)]
        self._set(items)

    def __iter__(self) -> Iterator[Any]:
        return iter(list(self._items.values()))

    def __contains__(self, item: object) -> bool:
        return any(item is own for own in self._items.values())

    def append(self, item: Any, /) -> Self:
        """Add an item at the end; returns the container."""
        name = str(len(self._items))
        if name in self._items:
            msg = (
                f"{type(self).__name__} has an item named {name!r} already; rebuild it with a new dictionary"
            )
            raise ValueError(msg)
        self._items = {**self._items, name: self._check(item, type(self).__name__)}
        return self

    def extend(self, items: Iterable[Any], /) -> Self:
        """Add items at the end; returns the container."""
        new = [self._check(item, type(self).__name__) for item in items]
        for item in new:
            self.append(item)
        return self

    def __iadd__(self, items: Iterable[Any], /) -> Self:
        return self.extend(items)

    def __add__(self, items: Iterable[Any], /) -> Self:
        """A new container with these items behind its own."""
        joined: Self = self[:]
        return joined.extend(items)

    def insert(self, index: int, item: Any, /) -> Self:
        """Put an item before position `index`; returns the container."""
        items = list(self._items.values())
        items.insert(index, self._check(item, type(self).__name__))
        self._set(items)
        return self

    def pop(self, index: int = -1, /) -> Any:
        """Remove an item and return it."""
        item = self[operator.index(index)]
        del self[index]
        return item


class Container(Module):
    """Modules under the names of their keywords (an older class: a subclass of `Module` does the same).

    >>> import anynet as an
    >>> list(an.nn.Container(a=an.nn.Linear(2, 2, bias=False)).state_dict())
    ['a.weight']
    """

    def __init__(self, **kwargs: Module) -> None:
        for name, module in kwargs.items():
            self.add_module(name, module)


class Sequential(_Sequence):
    """Modules in a row: the output of each is the input of the next.

    `args` are modules, or one dictionary of named modules.

    >>> import anynet as an
    >>> net = an.nn.Sequential(an.nn.Linear(4, 3), an.nn.ReLU(), an.nn.Linear(3, 2))
    >>> net(an.ones((5, 4))).shape
    (5, 2)
    """

    _pure = True
    _fused: FusedSequential | None = None

    def __init__(self, *args: Module | Mapping[str, Module]) -> None:
        if len(args) == 1 and isinstance(args[0], Mapping):
            named = args[0]
            for name in named:
                _check_name(name, type(self))
            self._items = {name: _module(m, "Sequential") for name, m in named.items()}
        else:
            self._set([_module(m, "Sequential") for m in args])

    def __getstate__(self) -> dict[str, Any]:
        """For copies and pickles: without the fused form, which each makes again."""
        return {k: v for k, v in super().__getstate__().items() if k != "_fused"}

    def forward(self, input: Any) -> Any:
        """Run all modules in order."""
        items = self._items
        fused = self._fused
        if fused is None:
            fused = self.__dict__["_fused"] = FusedSequential()
        output = fused(items, input)
        if output is not None:
            return output
        name = None
        try:
            for name in items:
                input = items[name](input)
        except ShapeError as error:
            names = list(items)
            at = names.index(name) if name is not None else 0
            if at and error.source is None:  # the layer before, in words: it made what does not fit
                error.source = f"{names[at - 1]} ({items[names[at - 1]].label()})"
            raise
        return input


class ModuleList(_Sequence):
    """A list of modules, for a ``forward`` that chooses among them; None holds a place.

    >>> import anynet as an
    >>> layers = an.nn.ModuleList([an.nn.Linear(2, 2) for _ in range(3)])
    >>> len(list(layers.parameters()))
    6
    """

    _check = staticmethod(_module_or_none)

    def __init__(self, modules: Iterable[Module | None] | None = None) -> None:
        if isinstance(modules, Module) and not hasattr(modules, "__iter__"):
            msg = f"ModuleList: modules must be a list of modules, got {type(modules).__name__}; write ModuleList([…])"
            raise TypeError(msg)
        self._set([_module_or_none(m, "ModuleList") for m in modules or ()])


class ParameterList(_Sequence):
    """A list of parameters; other arrays become parameters. Lists and dictionaries of parameters may be items, too.

    >>> import anynet as an
    >>> [p.shape for p in an.nn.ParameterList([an.ones(2), an.zeros(3)])]
    [(2,), (3,)]
    """

    _check = staticmethod(_parameter)

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        self._set([_parameter(p, "ParameterList") for p in values or ()])


def _check_name(name: Any, cls: type[_Container]) -> None:
    if not isinstance(name, str) or not name or "." in name:
        msg = f"{cls.__name__}: a name must be a non-empty string without '.', got {name!r}"
        raise KeyError(msg)
    if name.startswith("_") and hasattr(cls, name):
        msg = f"{cls.__name__}: a name must not be that of an attribute of the class, got {name!r}"
        raise KeyError(msg)


class _Dictionary(_Container):
    def __init__(self, values: Any = None) -> None:
        self._items = {}
        if values is not None:
            self.update(values)

    def __getitem__(self, key: str) -> Any:
        return self._items[key]

    def __setitem__(self, key: str, item: Any) -> None:
        _check_name(key, type(self))
        self._items = {**self._items, key: self._check(item, type(self).__name__)}

    def __delitem__(self, key: str) -> None:
        self.pop(key)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._items))

    def __contains__(self, key: object) -> bool:
        return key in self._items

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._items.keys()

    def values(self) -> Iterable[Any]:
        """The items."""
        return self._items.values()

    def items(self) -> Iterable[tuple[str, Any]]:
        """Pairs of name and item."""
        return self._items.items()

    def pop(self, key: str) -> Any:
        """Remove an item and return it."""
        items = dict(self._items)
        item = items.pop(key)
        self._items = items
        return item

    def get(self, key: str, default: Any = None) -> Any:
        """An item, or `default` where there is none of this name."""
        return self._items.get(key, default)

    def setdefault(self, key: str, default: Any = None) -> Any:
        """An item; where there is none of this name, `default` is put there."""
        if key not in self._items:
            self[key] = default
        return self._items[key]

    def popitem(self) -> tuple[str, Any]:
        """Remove the last item and return it with its name."""
        items = dict(self._items)
        last = items.popitem()
        self._items = items
        return last

    def copy(self) -> Self:
        """Another dictionary of the same items."""
        return type(self)(self._items)

    def clear(self) -> None:
        """Remove all items."""
        self._items = {}

    def update(self, values: Any) -> None:
        """Add items from a mapping or from pairs."""
        for key, item in values.items() if hasattr(values, "items") else values:
            self[key] = item


class ModuleDict(_Dictionary):
    """A dictionary of modules.

    >>> import anynet as an
    >>> heads = an.nn.ModuleDict({"age": an.nn.Linear(4, 1), "sex": an.nn.Linear(4, 2)})
    >>> heads["sex"](an.ones((3, 4))).shape
    (3, 2)
    """

    _check = staticmethod(_module_or_none)

    def __init__(self, modules: Mapping[str, Any] | Iterable[tuple[str, Any]] | None = None) -> None:
        super().__init__(modules)


class ParameterDict(_Dictionary):
    """A dictionary of parameters; other arrays become parameters. Items of a plain dict are taken in the order of their
    names, as in PyTorch; those of an OrderedDict, a ParameterDict or a list of pairs as they come.

    >>> import anynet as an
    >>> an.nn.ParameterDict({"scale": an.ones(3)})["scale"].requires_grad
    True
    """

    _check = staticmethod(_parameter)

    def __init__(self, parameters: Any = None) -> None:
        super().__init__(parameters)

    def update(self, values: Any) -> None:
        """Add items from a mapping or from pairs."""
        ordered = isinstance(values, (OrderedDict, ParameterDict)) or not isinstance(values, Mapping)
        super().update(values if ordered else sorted(values.items()))


class TimeDistributed(Module):
    """`layer` at every step of a sequence: x (n, steps, …) → (n, steps, …), the steps being as many more examples.

    >>> import anynet as an
    >>> an.nn.TimeDistributed(an.nn.Conv2d(1, 2, 3))(an.ones((4, 5, 1, 6, 6))).shape
    (4, 5, 2, 4, 4)

    Source: the layer TimeDistributed of Keras.
    """

    def __init__(self, layer: Module) -> None:
        self.layer = layer

    def forward(self, x: ArrayLike) -> Tensor:
        """The layer's outputs, step by step."""
        if len(x.shape) < 3:
            msg = f"got {tuple(x.shape)}: expected at least 3 axes (batch, steps, …)"
            raise ShapeError(msg)
        n, steps, *rest = x.shape
        y = self.layer(reshape(x, (n * steps, *rest)))
        return reshape(y, (n, steps, *y.shape[1:]))
