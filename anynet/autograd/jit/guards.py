"""Guards: what of Python's world a recorded function may read, and whether all of it is still so.

A program is right for as long as everything is unchanged that decided what was recorded: names of globals and closures,
attributes, the contents of lists and dictionaries. `Guard` finds them from the function's code, beginning with the
names in it, and remembers what they held before the function ran:

* each **module** that can be reached, with all its attributes. `Module.__setattr__` bumps a version number for all
  modules (`anynet.tensor.module_version`), so they are compared only when it has moved;
* what nobody notes, looked at before each call: global and closure variables of the user's functions, lists, dictionaries
  and sets, and of other objects and classes the attributes whose names stand in the code.

The same record, looked at after the function has run, shows what it has written; that would be lost in a replay. Code of
this library, of Python's and of packages that are installed is not followed.
"""

from __future__ import annotations

import dis
import enum
import functools
import os
import random as python_random
import sys
import sysconfig
import types
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from operator import is_
from typing import Any, Final

from anynet import dtypes
from anynet.autograd.dispatch import kernel_switch
from anynet.tensor import Tensor, module_version
from anynet_backends import TYPES, host
from anynet_backends.jit.errors import CompileError
from anynet_backends.jit.tracer import TracedArray

__all__ = ["PLAIN", "Guard", "line_of", "same_value"]

_MOST: Final = 10_000
"""Items of all lists and dictionaries that a function may read."""
_SMALL: Final = 4096
"""Bytes of a NumPy array whose numbers are compared at each call."""
_FEW: Final = 8
"""Items of a list that are compared without a call."""
_ABSENT: Final = type("Absent", (), {"__repr__": lambda self: "nothing"})()
_SET: Final = type("Set", (), {"__repr__": lambda self: "a Tensor"})()
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
_DYNAMIC: Final = frozenset(("__dict__", "getattr", "hasattr", "setattr", "vars"))
_UNWATCHED: Final = frozenset(("_fused", "_defined"))
"""Attributes of modules that do not say what they compute."""


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


@functools.cache
def _library_folders() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    own = os.path.dirname(os.path.abspath(dtypes.__file__))
    folders = {paths[k] for k in ("stdlib", "platstdlib", "purelib", "platlib")} | {
        own,
        os.path.dirname(host.__file__),
    }
    return tuple(os.path.realpath(f) + os.sep for f in folders)


@functools.cache
def _is_library(file: str) -> bool:
    """Whether a file is of this library, of Python or of an installed package."""
    return file.startswith("<hashable") or os.path.realpath(file).startswith(_library_folders())


def _of_user(thing: Any) -> bool:
    """Whether a class or a module of Python is the user's."""
    name = thing.__name__ if isinstance(thing, types.ModuleType) else thing.__module__
    module = sys.modules.get(name)
    if module is None:
        return name not in sys.builtin_module_names
    file = getattr(module, "__file__", None)
    return name == "__main__" if file is None else not _is_library(file)


class _Place:
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


class Guard:
    """What a function may read, from now on: see the module's docstring."""

    def __init__(self, roots: Iterable[tuple[str, Any]]) -> None:
        self.places: dict[int, _Place] = {}
        self.watched: list[_Place] = []  # of modules
        self.unwatched: list[_Place] = []
        self.functions: dict[int, types.FunctionType] = {}
        self.attributes: set[str] = {"forward"}
        self.asked: set[str] = set()  # of getattr and hasattr: they may be missing
        self.everything = False  # whether attributes may be read whose names do not stand in the code
        self.seen = module_version.current
        self.roots = list(roots)
        self.items = 0
        self.generators: dict[int, Any] = {}  # of random numbers
        self.watch(self, lambda: (dtypes.default_float(), kernel_switch.on))
        self._explore()
        self.random, self.put_back = self._states(), self._keepers()

    # ----- what there is -----

    def add(self, path: str, value: Any) -> None:
        """Another root, such as a module that has begun to run."""
        if id(value) not in self.places:
            self.roots.append((path, value))
            self._explore()

    def watch(self, owner: Any, read: Callable[[], tuple[Any, ...]]) -> None:
        """Values whose changes bump `module_version`."""
        if id(owner) not in self.places:
            self._place(owner, "", lambda: (None, read()), lambda *_: None, watched=True)

    def watch_variable(self, x: Tensor, leaf: Any) -> None:
        """Whether a Tensor is a variable, and the hooks that its gradient goes through."""
        self.watch(x, lambda: (x.edge,))
        if leaf is not None:
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
        if _is_module(value):
            return [*self._place_of_module(path, value), (type(value).__name__, type(value))]
        if isinstance(value, (list, deque, dict, set)):
            return self._container(path, value)
        if isinstance(value, (type, types.ModuleType)):
            if not _of_user(value):
                return []
            bases = value.__mro__ if isinstance(value, type) else (value,)
            found: list[tuple[str, Any]] = []
            for base in bases:
                if base is value or _of_user(base):
                    found += self._named(base.__name__, base, vars(base), "." if path else "")
            return found
        return self._object(path, value)

    def _function(self, path: str, function: types.FunctionType) -> list[tuple[str, Any]]:
        wrapped = getattr(function, "__wrapped__", None)
        inner = [] if wrapped is None else [(path, wrapped)]
        code = function.__code__
        if _is_library(code.co_filename):
            return inner
        inner += [(path, v) for v in (function.__defaults__ or (), *(function.__kwdefaults__ or {}).values())]
        names, attributes, asked = _names_of(code)
        self.attributes |= attributes | asked
        self.asked |= asked
        self.everything = self.everything or not {"__dict__", "vars"}.isdisjoint(names | attributes)
        if id(function) not in self.functions:
            self.functions[id(function)] = function
            cells = dict(zip(code.co_freevars, function.__closure__ or (), strict=True))
            scope = function.__globals__
            used = [n for n in names if n in scope and not _is_library_module(scope[n])]
            self._place_of_names(path, function, cells, scope, used)
        place = self.places[id(function)]
        return inner + [(k, v) for k, v in zip(place.keys, place.values, strict=True) if v is not _ABSENT]

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
            return (*cells, *used), (*inner, *[scope.get(n, _ABSENT) for n in used])

        def restore(keys: Any, values: Any) -> None:
            for name, v in zip(keys, values, strict=True):
                if name in cells:
                    cells[name].cell_contents = v
                elif v is not scope.get(name, _ABSENT):
                    scope[name] = v

        sources: list[tuple[str, Any, Any]] = [("{}.cell_contents", cell, n) for n, cell in cells.items()]
        self._place(function, path, read, restore, [*sources, *_items(scope, used)])

    def _place_of_module(self, path: str, module: Any) -> Iterator[tuple[str, Any]]:
        attributes = vars(module)
        kept = self.places[id(module)].kept if id(module) in self.places else set()

        def read() -> tuple[Any, Any]:
            found = {k: v for k, v in attributes.items() if k not in _UNWATCHED}
            for k in kept:
                if type(found.get(k)) is Tensor:
                    found[k] = _SET
            return tuple(found), tuple(found.values())

        def restore(keys: Any, values: Any) -> None:
            held = {k: v for k, v in attributes.items() if k in _UNWATCHED or k in kept}
            attributes.clear()
            attributes.update(zip(keys, values, strict=True))
            attributes.update(held)
            module_version.bump()

        place = self._place(module, path, read, restore, watched=True)
        place.kept = kept
        for k, v in zip(place.keys, place.values, strict=True):
            if k == "_items":  # a container's, which puts a new dictionary for each change
                yield from ((f"{path}.{name}", item) for name, item in v.items())
            else:
                yield f"{path}.{k}", v

    def _numbers(self, path: str, value: Any) -> None:
        """The numbers of an array, if they are few: some may be read as Python's."""
        if getattr(
            value, "nbytes", len(value) if isinstance(value, bytearray) else 0
        ) > _SMALL or not hasattr(value, "tobytes"):
            return
        self._place(value, path, lambda: (None, (value.tobytes(),)), lambda *_: None)

    def without(self, arrays: Mapping[int, Any]) -> None:
        """The numbers of these arrays, by their identities, are read by the program itself."""
        self.unwatched = [p for p in self.unwatched if id(p.owner) not in arrays]

    def _container(self, path: str, value: Any) -> list[tuple[str, Any]]:
        if id(value) not in self.places:
            self.items += len(value)
            if self.items > _MOST:
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
        sources = [length, *_items(value, keys)] if written_out else None
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
        found = [(cls.__name__, cls)] if _of_user(cls) else []
        function = (
            getattr(value, "function", None)
            if cls.__name__ == "Compiled"
            else getattr(value, "__wrapped__", None)
        )
        if function is not None:
            return [(path, function)]
        slots = [
            n for c in cls.__mro__ for n in _listed(c.__dict__.get("__slots__", ())) if hasattr(value, n)
        ]
        try:
            attributes: Mapping[str, Any] = vars(value)
        except TypeError:
            attributes = _Slots(value, slots)
            if not slots:
                return found
        return found + self._named(path, value, attributes, ".")

    def _is_read(self, name: str) -> bool:
        if name.startswith("__"):
            return name not in ("__dict__", "__doc__", "__module__", "__weakref__") and name in _OPERATORS
        return self.everything or name in self.attributes

    def _named(self, path: str, owner: Any, attributes: Mapping[str, Any], dot: str) -> list[tuple[str, Any]]:
        """Of something with attributes, those whose names stand in the functions' code."""
        names = tuple([n for n in attributes if self._is_read(n)])
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
                return names, tuple([attributes.get(n, _ABSENT) for n in names])

            def restore(keys: Any, values: Any) -> None:
                for name, v in zip(keys, values, strict=True):
                    if attributes.get(name, _ABSENT) is not v:
                        setattr(owner, name, v)

            self.places.pop(id(owner), None)
            self.unwatched = [p for p in self.unwatched if p is not before]
            inline = isinstance(attributes, (dict, types.MappingProxyType))
            sources = _items(attributes, names) if inline else None
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
    ) -> _Place:
        place = self.places.get(id(owner))
        if place is None:
            place = self.places[id(owner)] = _Place(owner, path, read, restore, sources)
            if place.values or not isinstance(owner, types.FunctionType):
                (self.watched if watched else self.unwatched).append(place)
        return place

    # ----- whether it is still so -----

    def fits(self) -> bool:
        """Whether all that the function may read is as it was before it was recorded."""
        for place in self.unwatched:
            if not place.same():
                return False
        now = module_version.current
        if now != self.seen:
            for place in self.watched:
                if not place.same():
                    return False
            self.seen = now
        return True

    def reason(self) -> str:
        """What has changed, in words."""
        for place in (*self.unwatched, *self.watched):
            if not place.same():
                keys, values = place.read()
                differs = [
                    k
                    for k, a, b in zip(keys or (), place.values, values, strict=False)
                    if not same_value(a, b)
                ]
                return f"{place.path}{f' ({differs[0]})' if differs else ''}".strip() or "an option"
        return "an array or a gradient"

    def tests(self, name: Callable[[Any], str]) -> list[str]:
        """`fits` as conditions in Python, each true where something has changed: `name` gives a name to an object."""
        same, found = name(same_value), []
        for place in self.unwatched:
            if place.sources is None:
                found.append(f"not {name(place.same)}()")
                continue
            sources, values = place.sources, place.values
            if len(sources) > len(values):  # the length of a container comes first
                (length, holder, _), *sources = sources
                found.append(f"not {length.format(name(holder))}")
            for (source, holder, key), value in zip(sources, values, strict=True):
                here, old = source.format(name(holder)), name(value)
                if value is not _ABSENT:
                    found.append(f"{here} is not {old} and not {same}({old}, {here})")
                elif isinstance(holder, Mapping):
                    found.append(f"{key!r} in {name(holder)}")
        return [*found, f"{name(module_version)}.current != {name(self)}.seen and not {name(self.fits)}()"]

    # ----- what has been written -----

    def written(self, live: Mapping[int, Any]) -> Iterator[tuple[_Place, Any, Any, Any]]:
        """(place, key, old value, new value) of all that is not as the recording has found it, but for arrays that a program
        writes itself."""
        for place in self.places.values():
            if id(place.owner) in live:
                continue
            keys, values = place.read()
            before, old = place.later
            if keys is not None and len(keys) == len(before) and all(map(same_value, keys, before)):
                pairs = zip(keys, old, values, strict=True)
                yield from ((place, k, a, b) for k, a, b in pairs if not same_value(a, b))
            elif keys is not None:
                was, now = dict(zip(before, old, strict=True)), dict(zip(keys, values, strict=True))
                for k in {**was, **now}:
                    if not same_value(was.get(k, _ABSENT), now.get(k, _ABSENT)):
                        yield place, k, was.get(k, _ABSENT), now.get(k, _ABSENT)
            elif place in self.unwatched and (
                len(old) != len(values) or not all(map(same_value, old, values))
            ):
                yield place, None, old, values

    def settle(self, of: Any) -> bool:
        """After a call on the host with the arguments `of`: what it has written it writes in a replay, too. Whether the
        function may see something of that, which then may be another in each replay."""
        changed = False
        for place in self.unwatched:
            changed = changed or not place.same()
            place.later = place.read()
        self.random, self.put_back = self._states(), self._keepers()
        reached = self._reached(of)
        return changed or any(
            id(p.owner) in reached and any(map(_is_plain, p.values)) for p in self.unwatched
        )

    def _reached(self, of: Any) -> set[int]:
        """What a call on the host may write: what its arguments hold, but for optimizers, whose steps write arrays."""
        found: set[int] = set()
        todo = [of]
        while todo and len(found) < _MOST:
            x = todo.pop()
            if (
                isinstance(x, (*PLAIN, Tensor, TracedArray, types.FunctionType, types.ModuleType, type))
                or id(x) in found
            ):
                continue
            found.add(id(x))
            if isinstance(x, dict):
                todo += x.values()
            elif isinstance(x, (list, tuple, set)):
                todo += x
            elif not _is_module(x):
                todo += getattr(x, "__dict__", {}).values()
        return found

    def undo(self) -> None:
        """Put everything back."""
        for place, *_ in list(self.written({})):
            place.restore(*place.later)
        for put_back in self.put_back:
            put_back()

    def refusal(self, place: _Place, key: Any, line: str | None) -> CompileError:
        """The error for something that was written."""
        if isinstance(place.owner, types.FunctionType):
            what, name = f"the variable {key}", str(key)
        elif key is None:
            what, name = f"{place.path}, a {type(place.owner).__name__}", place.path
        elif isinstance(place.owner, dict):
            what, name = f"{place.path}[{key!r}]", place.path
        else:
            what, name = f"the attribute {key} of {place.path} ({type(place.owner).__name__})", str(key)
        where = line or self.line(name)
        msg = (
            f"{where}: {what} is changed inside a compiled function, which would happen only while it is recorded; return "
            "the value, keep it in a Buffer and write with assign_, or do it outside"
        )
        return CompileError(msg)

    def check_random(self) -> None:
        """Refuse what has drawn from the generators of Python or NumPy."""
        if self._states() != self.random:
            msg = (
                f"{self.line('random')}: the function draws from the random numbers of Python or NumPy, which would be the "
                "same at each call; draw outside and pass the numbers as an argument"
            )
            raise CompileError(msg)

    def _states(self) -> list[Any]:
        """Of the generators of random numbers that are not this library's."""
        own = [
            g.getstate() if hasattr(g, "getstate") else host.random_state(g) for g in self.generators.values()
        ]
        return [python_random.getstate(), host.random_state(), *own]

    def _keepers(self) -> list[Callable[[], None]]:
        """Functions that put those generators back to where they are."""
        states = [(g, g.getstate()) for g in self.generators.values() if hasattr(g, "getstate")]
        own = [host.random_keeper(g) for g in self.generators.values() if not hasattr(g, "getstate")]
        python = functools.partial(python_random.setstate, python_random.getstate())
        return [python, host.random_keeper(), *own, *(functools.partial(g.setstate, s) for g, s in states)]

    def holds(self, x: Any) -> bool:
        """Whether a value is there under a name, an attribute or in a list."""
        return any(x is v for place in self.places.values() for v in place.values)

    def keep(self, place: _Place, key: Any, old: Any) -> None:
        """An attribute of a module that each replay sets: where it holds a Tensor now, any will do from then on."""
        if type(old) is Tensor and key not in place.kept:
            place.kept.add(key)
            place.values = tuple(
                [_SET if k == key else v for k, v in zip(place.keys, place.values, strict=True)]
            )

    def line(self, path: str = "") -> str:
        """The line of the user's code in which the last name of a path stands, or where the function begins."""
        name = path.split("[")[0].rpartition(".")[2]
        return line_of((f.__code__ for f in self.functions.values()), name)


class _Slots(Mapping[str, Any]):
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


_OPERATORS: Final = frozenset(
    f"__{n}__"
    for n in (
        "abs", "add", "and", "bool", "call", "contains", "enter", "eq", "exit", "floordiv", "ge", "getattr", "getitem", "gt",
        "iadd", "invert", "iter", "le", "len", "lt", "matmul", "mod", "mul", "ne", "neg", "next", "or", "pos", "pow", "radd",
        "rmatmul", "rmul", "rsub", "rtruediv", "setitem", "sub", "truediv", "xor",
    )
)  # fmt: skip


def _items(holder: Any, keys: Iterable[Any]) -> list[tuple[str, Any, Any]]:
    """Sources of a place: what lies under some keys."""
    return [(f"{{}}[{k!r}]", holder, k) for k in keys]


def _listed(names: Any) -> tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names)


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:  # nothing has been bound yet
        return _ABSENT


def _is_plain(value: Any) -> bool:
    return isinstance(value, PLAIN) and value is not None


def _is_module(value: Any) -> bool:
    return hasattr(type(value), "_forward_pre_hooks") and isinstance(getattr(value, "training", None), bool)


def _is_library_module(value: Any) -> bool:
    return isinstance(value, types.ModuleType) and not _of_user(value)


@functools.cache
def _names_of(code: types.CodeType) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Global names and names of attributes in a function's code, with those of the functions inside it; and strings that
    may be names of attributes."""
    names: set[str] = set()
    attributes: set[str] = set()
    asked: set[str] = set()
    for one in _codes(code):
        for step in dis.get_instructions(one):
            if step.opname in ("LOAD_GLOBAL", "LOAD_NAME", "STORE_GLOBAL", "DELETE_GLOBAL"):
                names.add(step.argval)
            elif "ATTR" in step.opname or step.opname == "LOAD_METHOD":
                attributes.add(step.argval)
        if not _DYNAMIC.isdisjoint(one.co_names):
            asked |= {c for c in one.co_consts if isinstance(c, str) and c.isidentifier()}
    return frozenset(names), frozenset(attributes), frozenset(asked)


def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _codes(inner)


def line_of(codes: Iterable[types.CodeType], name: str) -> str:
    """``file:line`` where a name stands in some code: where it is written, else where it is first read, else where the
    first function begins."""
    found: list[tuple[bool, str]] = []
    for outer in codes:
        if not found:
            found.append((False, f"{outer.co_filename}:{outer.co_firstlineno}"))
        for code in _codes(outer):
            line = code.co_firstlineno
            for step in dis.get_instructions(code):
                if step.starts_line:
                    line = getattr(step, "line_number", None) or step.starts_line
                if step.argval == name:
                    written = step.opname.startswith(("STORE", "DELETE"))
                    if written or len(found) == 1:
                        found.append((written, f"{code.co_filename}:{line}"))
    return (
        max(found, key=lambda f: f[0])[1]
        if found and any(w for w, _ in found)
        else found[-1][1]
        if found
        else "?"
    )
