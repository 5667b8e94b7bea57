"""Everything of Python's world that a function may read, found from its code."""

from __future__ import annotations

import functools
import os
import random as python_random
import types
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from anynet import dtypes
from anynet.autograd.dispatch import kernel_switch
from anynet.autograd.jit.code_names import line_of, names_of
from anynet.autograd.jit.guarded_values import (
    ABSENT,
    ANY_TENSOR,
    PLAIN,
    GuardedValues,
    SlotAttributes,
    item_sources,
)
from anynet.autograd.jit.user_code import is_library_file, is_library_module, is_of_user
from anynet.tensor import Tensor, is_result, module_version
from anynet_backends import TYPES, get_default_device, host
from anynet_backends.jit.errors import CompileError
from anynet_backends.jit.tracer import TracedArray

__all__ = ["MAX_ITEMS", "Reachable", "is_module"]

MAX_ITEMS: Final = 10_000
"""Items of all lists and dictionaries that a function may read."""
_COMPARED_BYTES: Final = 1 << 18
"""Bytes of an array whose numbers are compared at each call (25 µs); a larger one must be read by the program, or be read-only."""
_FEW: Final = 8
"""Items of a list that are compared without a call."""
_UNWATCHED: Final = frozenset(("_fused", "_defined", "_made"))
"""Attributes of modules that do not say what they compute."""


class Reachable:
    """What the functions among `roots`, pairs of a path and a value, may read: modules, variables, containers, attributes."""

    def __init__(self, roots: Iterable[tuple[str, Any]], thorough: bool = False) -> None:
        self.thorough = thorough  # whether all attributes of this library's own objects count, which only its own code reads
        self.tensors: dict[int, Tensor] = {}
        self.places: dict[int, GuardedValues] = {}
        self.watched: list[GuardedValues] = []  # of modules
        self.unwatched: list[GuardedValues] = []
        self.functions: dict[int, types.FunctionType] = {}
        self.attributes: set[str] = {"forward"}
        self.asked: set[str] = set()  # of getattr and hasattr: they may be missing
        self.everything = False  # whether attributes may be read whose names do not stand in the code
        self.roots = list(roots)
        self.items = 0
        self.generators: dict[int, Any] = {}  # of random numbers
        self.large: list[tuple[str, Any]] = []  # arrays that are too large to be compared
        self.watch(self, lambda: (dtypes.default_float(), kernel_switch.on, get_default_device()))
        self._explore()

    def add(self, path: str, value: Any) -> None:
        """Another root, such as a module that has begun to run."""
        if id(value) not in self.places:
            self.roots.append((path, value))
            self._explore()

    def watch(self, owner: Any, read: Callable[[], tuple[Any, ...]]) -> None:
        """Values whose changes bump `module_version`."""
        if id(owner) not in self.places:
            self._place(owner, "", lambda: (None, read()), lambda *_: None, watched=True)

    def watch_variable(self, x: Tensor, edge: Any) -> None:
        """Whether a Tensor is a variable, as it was at the beginning."""
        self.watch(x, lambda: (x.edge,))
        self.places[id(x)].values = (edge,)

    def watch_hooks(self, leaf: Any) -> None:
        """The hooks that the gradient of a variable goes through."""
        self.watch(leaf, lambda: tuple((leaf.hooks or {}).values()))
        for hook in (leaf.hooks or {}).values():
            self.add("hook", hook)

    def _explore(self) -> None:
        known = -1
        while known != len(self.attributes):  # more names let more attributes be found
            known = len(self.attributes)
            self.visited: set[int] = set()
            for path, root in self.roots:
                self._visit(path, root)

    def _visit(self, path: str, value: Any) -> None:
        todo = [(path, value)]
        while todo:
            path, value = todo.pop()
            kind = type(value)
            if isinstance(value, Tensor):
                self.tensors[id(value)] = value
            if isinstance(value, (*PLAIN, Tensor, TracedArray)) or id(value) in self.visited:
                continue
            self.visited.add(id(value))
            if kind in TYPES or isinstance(value, (bytearray, array)):
                self._numbers(path, value)
                continue
            todo += self._inside(path, value)

    def _inside(self, path: str, value: Any) -> list[tuple[str, Any]]:
        """What a value lets a function read besides itself, with paths."""
        if isinstance(value, (tuple, frozenset)):
            return [(f"{path}[{i}]", v) for i, v in enumerate(value)]
        if isinstance(value, types.FunctionType):
            return self._function(path, value)
        if isinstance(value, types.MethodType):
            return [(path, value.__func__), (path.rpartition(".")[0] or path, value.__self__)]
        if isinstance(value, types.BuiltinMethodType):
            owner = value.__self__
            return [] if isinstance(owner, (types.ModuleType, type)) else [(path, owner)]
        if isinstance(value, functools.partial):
            return [(path, value.func), (path, value.args), *((path, v) for v in value.keywords.values())]
        if isinstance(value, (property, staticmethod, classmethod)):
            parts = (value.fget, value.fset) if isinstance(value, property) else (value.__func__,)
            return [(path, p) for p in parts if p is not None]
        if is_module(value):
            return [*self._place_of_module(path, value), (type(value).__name__, type(value))]
        if isinstance(value, (list, deque, dict, set)):
            return self._container(path, value)
        if isinstance(value, (type, types.ModuleType)):
            if not is_of_user(value):
                self._library_layer(value)
                return []
            bases = value.__mro__ if isinstance(value, type) else (value,)
            found: list[tuple[str, Any]] = []
            for base in bases:
                if base is value or is_of_user(base):
                    found += self._named(base.__name__, base, vars(base), "." if path else "")
            return found
        return self._object(path, value)

    def _function(self, path: str, function: types.FunctionType) -> list[tuple[str, Any]]:
        wrapped = getattr(function, "__wrapped__", None)
        inner = [] if wrapped is None else [(path, wrapped)]
        code = function.__code__
        if is_library_file(code.co_filename):
            return inner
        inner += [(path, v) for v in (function.__defaults__ or (), *(function.__kwdefaults__ or {}).values())]
        names, attributes, asked = names_of(code)
        self.attributes |= attributes | asked
        self.asked |= asked
        self.everything = self.everything or not {"__dict__", "vars"}.isdisjoint(names | attributes)
        if not {"environ", "getenv"}.isdisjoint(names | attributes):
            self._place(os.environ, "os.environ", lambda: (None, tuple(os.environ.items())), lambda *_: None)
        if id(function) not in self.functions:
            self.functions[id(function)] = function
            cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
            scope = function.__globals__
            used = [n for n in names if n in scope and not is_library_module(scope[n])]
            self._place_of_names(path, function, cells, scope, used)
        place = self.places[id(function)]
        return inner + [(k, v) for k, v in zip(place.keys, place.values, strict=True) if v is not ABSENT]

    def _place_of_names(
        self,
        path: str,
        function: Any,
        cells: dict[str, types.CellType],
        scope: dict[str, Any],
        used: list[str],
    ) -> None:
        """The variables of a function: those of the functions around it, and global ones."""

        def read() -> tuple[Any, Any]:
            inner = [_content(cell) for cell in cells.values()]
            return (*cells, *used), (*inner, *[scope.get(n, ABSENT) for n in used])

        def restore(keys: Any, values: Any) -> None:
            for name, v in zip(keys, values, strict=True):
                if name in cells:
                    cells[name].cell_contents = v
                elif v is not scope.get(name, ABSENT):
                    scope[name] = v

        sources: list[tuple[str, Any, Any]] = [("{}.cell_contents", cell, n) for n, cell in cells.items()]
        self._place(function, path, read, restore, [*sources, *item_sources(scope, used)])

    def _place_of_module(self, path: str, module: Any) -> Iterator[tuple[str, Any]]:
        attributes = vars(module)
        kept = self.places[id(module)].kept if id(module) in self.places else set()
        of_class = "training" not in attributes  # its class's until it is set

        def read() -> tuple[Any, Any]:
            found = {k: v for k, v in attributes.items() if k not in _UNWATCHED}
            found.setdefault("training", module.training)
            for k in kept:
                if is_result(found.get(k)):
                    found[k] = ANY_TENSOR
            return tuple(found), tuple(found.values())

        def restore(keys: Any, values: Any) -> None:
            held = {k: v for k, v in attributes.items() if k in _UNWATCHED or k in kept}
            attributes.clear()
            attributes.update(zip(keys, values, strict=True))
            if of_class and attributes["training"] is type(module).training:
                del attributes["training"]
            attributes.update(held)
            module_version.bump()

        place = self._place(module, path, read, restore, watched=True)
        place.kept = kept
        for k, v in zip(place.keys, place.values, strict=True):
            if k == "_items":  # a container's, which puts a new dictionary for each change
                yield from ((f"{path}.{name}", item) for name, item in v.items())
            else:
                yield f"{path}.{k}", v

    def _library_layer(self, cls: Any) -> None:
        """The `forward` of one of this library's layers, which somebody may replace for all of its kind."""
        if isinstance(cls, type) and hasattr(cls, "_forward_pre_hooks"):
            source = [("{}.forward", cls, "forward")]
            self._place(cls, cls.__name__, lambda: (("forward",), (cls.forward,)), lambda *_: None, source)  # type: ignore[attr-defined]

    def _numbers(self, path: str, value: Any) -> None:
        """The numbers of an array: some may be read as Python's, or by functions of NumPy."""
        if not isinstance(value, (bytearray, array)):
            if TYPES[type(value)].captures:  # only a device reads them
                return
            if not hasattr(value, "tobytes") or not getattr(getattr(value, "flags", None), "writeable", True):
                return
            if value.nbytes > _COMPARED_BYTES:
                self.large.append((path, value))
                return
        self._place(
            value,
            path,
            lambda: (None, (bytes(value) if isinstance(value, bytearray) else value.tobytes(),)),
            lambda *_: None,
        )

    def _container(self, path: str, value: Any) -> list[tuple[str, Any]]:
        if id(value) not in self.places:
            self.items += len(value)
            if self.items > MAX_ITEMS:
                msg = (
                    f"{self.line(path)}: the function can read {path}, a {type(value).__name__} of {len(value)} items, which "
                    "are too many to be compared at each call; pass what it reads as an argument"
                )
                raise CompileError(msg)

        def read() -> tuple[Any, Any]:
            return (tuple(value), tuple(value.values())) if isinstance(value, dict) else (None, tuple(value))

        def restore(keys: Any, values: Any) -> None:
            value.clear()
            if isinstance(value, dict):
                value.update(zip(keys, values, strict=True))
            elif isinstance(value, set):
                value.update(values)
            else:
                value.extend(values)

        count = len(value)
        keys = tuple(value) if isinstance(value, dict) else range(count)
        written_out = (
            count <= _FEW and not isinstance(value, set) and all(isinstance(k, (str, int)) for k in keys)
        )
        length = (f"len({{}}) == {count}", value, None)
        sources = [length, *item_sources(value, keys)] if written_out else None
        place = self._place(value, path, read, restore, sources)
        keys = place.keys or range(len(place.values))
        return [(f"{path}[{k!r}]", v) for k, v in zip(keys, place.values, strict=True)]

    def _object(self, path: str, value: Any) -> list[tuple[str, Any]]:
        cls = type(value)
        if host.is_generator(value) or isinstance(value, python_random.Random):
            self.generators[id(value)] = value
            return []
        if hasattr(cls, "__next__") and not hasattr(value, "__dict__") and not hasattr(value, "read"):
            msg = (
                f"{self.line(path)}: the function can read {path}, a {cls.__name__}, which gives something else at each call; "
                "take the next item outside and pass it as an argument"
            )
            raise CompileError(msg)
        found = [(cls.__name__, cls)] if is_of_user(cls) else []
        held = getattr(value, "__dict__", {})  # not `getattr`: a `__getattr__` of the user's may do anything
        function = held.get("function") if cls.__name__ == "Compiled" else held.get("__wrapped__")
        if function is not None:
            return [(path, function)]
        slots = [
            n
            for c in cls.__mro__
            for n in _listed(c.__dict__.get("__slots__", ()))
            if _slot_is_set(c, n, value)
        ]
        try:
            attributes: Mapping[str, Any] = vars(value)
        except TypeError:
            attributes = SlotAttributes(value, slots)
            if not slots:
                return found
        own = cls.__module__.partition(".")[0] == "anynet" and not getattr(cls, "_replayed", False)
        return found + self._named(path, value, attributes, ".", self.thorough and own)

    def _is_read(self, name: str) -> bool:
        if name.startswith("__"):
            return name not in ("__dict__", "__doc__", "__module__", "__weakref__") and name in _OPERATORS
        return self.everything or name in self.attributes

    def _named(
        self, path: str, owner: Any, attributes: Mapping[str, Any], dot: str, every: bool = False
    ) -> list[tuple[str, Any]]:
        """Of something with attributes, those whose names stand in the functions' code, or all."""
        names = tuple([n for n in attributes if every or self._is_read(n)])
        if not isinstance(
            owner, (type, types.ModuleType)
        ):  # it may get an attribute of its own in the place of its class's
            hidden = [n for n in self.attributes if n not in attributes and hasattr(type(owner), n)]
            names += tuple(sorted({*hidden, *(self.asked - attributes.keys())}))
        before = self.places.get(id(owner))
        if before is not None and len(before.keys) >= len(names):
            names = before.keys
        elif names:

            def read() -> tuple[Any, Any]:
                return names, tuple([attributes.get(n, ABSENT) for n in names])

            def restore(keys: Any, values: Any) -> None:
                for name, v in zip(keys, values, strict=True):
                    if attributes.get(name, ABSENT) is not v:
                        setattr(owner, name, v)

            self.places.pop(id(owner), None)
            self.unwatched = [p for p in self.unwatched if p is not before]
            inline = isinstance(attributes, (dict, types.MappingProxyType))
            sources = item_sources(attributes, names) if inline else None
            made = self._place(owner, path, read, restore, sources)
            if before is not None:  # as they were then
                old = dict(zip(before.keys, before.values, strict=True))
                made.values = tuple([old.get(n, v) for n, v in zip(names, made.values, strict=True)])
                made.later = made.keys, made.values
        place = self.places.get(id(owner))
        return [] if place is None else [(f"{path}.{n}", v) for n, v in zip(names, place.values, strict=True)]

    def _place(
        self,
        owner: Any,
        path: str,
        read: Callable[[], tuple[Any, Any]],
        restore: Callable[[Any, Any], None],
        sources: Sequence[tuple[str, Any, Any]] | None = None,
        watched: bool = False,
    ) -> GuardedValues:
        place = self.places.get(id(owner))
        if place is None:
            place = self.places[id(owner)] = GuardedValues(owner, path, read, restore, sources)
            if place.values or not isinstance(owner, types.FunctionType):
                (self.watched if watched else self.unwatched).append(place)
        return place

    def holds(self, x: Any) -> bool:
        """Whether a value is there under a name, an attribute or in a list."""
        return any(x is v for place in self.places.values() for v in place.values)

    def line(self, path: str = "") -> str:
        """The line of the user's code in which the last name of a path stands, or where the function begins."""
        name = path.split("[")[0].rpartition(".")[2]
        return line_of((f.__code__ for f in self.functions.values()), name)


_OPERATORS: Final = frozenset(
    f"__{n}__"
    for n in (
        "abs", "add", "and", "bool", "call", "contains", "enter", "eq", "exit", "floordiv", "ge", "getattr", "getitem", "gt",
        "iadd", "invert", "iter", "le", "len", "lt", "matmul", "mod", "mul", "ne", "neg", "next", "or", "pos", "pow", "radd",
        "rmatmul", "rmul", "rsub", "rtruediv", "setitem", "sub", "truediv", "xor",
    )
)  # fmt: skip


def _listed(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing has been bound yet
        return ABSENT


def is_module(value: Any) -> bool:
    return hasattr(type(value), "_forward_pre_hooks") and isinstance(getattr(value, "training", None), bool)


def _slot_is_set(owner: type, name: str, value: Any) -> bool:
    """Whether an object holds something in a slot; its class's `__getattr__` is not asked."""
    slot = owner.__dict__.get(name)
    if slot is None:
        return False
    try:
        slot.__get__(value, owner)
    except AttributeError:
        return False
    return True
