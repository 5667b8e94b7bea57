"""Guards: whether everything of Python's world that decided what was traced is unchanged.

A program is valid while nothing has changed that the function may read: globals and closure variables, attributes, the
contents of lists and dictionaries. `Reachable` finds these from the function's code; a `Guard` holds what they were before
the function ran, and compares:

* each **module** that can be reached, with all its attributes. `Module.__setattr__` bumps a version number for all
  modules (`anynet.tensor.module_version`), so they are compared only when it has moved;
* what has no version number, compared before each call: global and closure variables of the user's functions, lists, dictionaries
  and sets, and of other objects and classes the attributes whose names stand in the code.

The same values, compared after the function has run, show what it has written, which a replay would not write. Code of
this library, of Python's and of installed packages is not followed.
"""

from __future__ import annotations

import functools
import random as python_random
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from anynet.autograd.jit.guarded_values import (
    ABSENT,
    ANY_TENSOR,
    PLAIN,
    GuardedValues,
    is_plain,
    same_value,
)
from anynet.autograd.jit.reachable import MAX_ITEMS, Reachable, is_module
from anynet.tensor import Tensor, is_result, module_version
from anynet_backends import host
from anynet_backends.jit.errors import CompileError
from anynet_backends.jit.tracer import TracedArray

__all__ = ["Guard"]


class Guard(Reachable):
    """What a function may read, from now on: see the module's docstring."""

    def __init__(self, roots: Iterable[tuple[str, Any]], thorough: bool = False) -> None:
        self.seen = module_version.current
        super().__init__(roots, thorough)
        self.random, self.put_back = self._states(), self._keepers()

    # ----- whether all is unchanged -----

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
                if value is not ABSENT:
                    found.append(f"{here} is not {old} and not {same}({old}, {here})")
                elif isinstance(holder, Mapping):
                    found.append(f"{key!r} in {name(holder)}")
        return [*found, f"{name(module_version)}.current != {name(self)}.seen and not {name(self.fits)}()"]

    def without(self, arrays: Mapping[int, Any]) -> None:
        """The numbers of these arrays, by their identities, are read by the program itself."""
        self.unwatched = [p for p in self.unwatched if id(p.owner) not in arrays]

    def check_arrays(self, captured: Mapping[int, Any]) -> None:
        """Refuse an array that the function can read, that the program does not, and that is too large to be compared."""
        read: set[int] = set()
        for held in captured.values():
            x = held.value
            while x is not None and id(x) not in read:
                read.add(id(x))
                x = getattr(x, "base", None)
        for path, x in self.large:
            name = path.split("[")[0].rpartition(".")[2]
            if id(x) in read or not (self.everything or "." not in path or name in self.attributes):
                continue
            msg = (
                f"{self.line(path)}: the function can read {path}, an array of {x.nbytes} bytes, by Python or NumPy, where a later "
                "change would not be seen; pass it as an argument, make a Tensor of it, or make it read-only "
                "(flags.writeable = False)"
            )
            raise CompileError(msg)

    # ----- what has been written -----

    def written(self, live: Mapping[int, Any]) -> Iterator[tuple[GuardedValues, Any, Any, Any]]:
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
                    if not same_value(was.get(k, ABSENT), now.get(k, ABSENT)):
                        yield place, k, was.get(k, ABSENT), now.get(k, ABSENT)
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
        return changed or any(id(p.owner) in reached and any(map(is_plain, p.values)) for p in self.unwatched)

    def _reached(self, of: Any) -> set[int]:
        """What a call on the host may write: what its arguments hold, but for optimizers, whose steps write arrays."""
        found: set[int] = set()
        todo = [of]
        while todo and len(found) < MAX_ITEMS:
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
            elif not is_module(x):
                todo += getattr(x, "__dict__", {}).values()
        return found

    def undo(self) -> None:
        """Put everything back."""
        for place, *_ in list(self.written({})):
            place.restore(*place.later)
        for put_back in self.put_back:
            put_back()

    def refusal(self, place: GuardedValues, key: Any, line: str | None) -> CompileError:
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

    def keep(self, place: GuardedValues, key: Any, old: Any) -> None:
        """An attribute of a module that each replay sets: where it holds a Tensor now, any will do from then on."""
        if is_result(old) and key not in place.kept:
            place.kept.add(key)
            place.values = tuple(
                [ANY_TENSOR if k == key else v for k, v in zip(place.keys, place.values, strict=True)]
            )
