"""Names of classes and functions in a description, and what stands behind them: this library's own, or what the caller gives.

Nothing is ever imported because a description names it, but modules of this library.
"""

from __future__ import annotations

import functools
import hashlib
import importlib
import inspect
import runpy
import sys
import textwrap
import types
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from anynet._hints import nearest
from anynet.nn.module import Module
from anynet.nn.recorded import by_name

__all__ = ["DescriptionError", "Known", "code_name", "library_name", "source_hash"]

_PACKAGE = "anynet."
_SPACES = ("nn", "models", "nn.functional", "losses", "")  # of the public names, "" being anynet itself
_FUNCTIONS = ("anynet.ops.", "anynet.nn.functional.", "anynet.nn.init", "anynet.losses")


class DescriptionError(ValueError):
    """A network that cannot be described, or a description of which no network can be made. The message says why, and where."""


def _own(value: Any) -> bool:
    """Whether a description may name this of the library: a module's class, or a function of arrays."""
    if isinstance(value, type):
        return issubclass(value, Module) and value.__module__.startswith(_PACKAGE)
    home = str(getattr(value, "__module__", None) or "")
    return callable(value) and f"{home}.".startswith(_FUNCTIONS)


def library_name(value: Any) -> str | None:
    """The name of a class or function of this library, such as "nn.Linear"; None for others."""
    if not _own(value):
        return None
    name = str(getattr(value, "__qualname__", None) or getattr(value, "__name__", ""))
    for space in _SPACES:
        home = sys.modules.get(f"{_PACKAGE}{space}" if space else "anynet")
        if home is not None and vars(home).get(name) is value:
            return f"{space}.{name}" if space else name
    return f"{value.__module__.removeprefix(_PACKAGE)}.{name}" if by_name(value) is value else None


def _library(name: str) -> Any:
    """The class or function of this library with that name; None where there is none."""
    space, _, last = name.rpartition(".")
    if not all(part.isidentifier() for part in name.split(".")):
        return None
    try:
        home = importlib.import_module(f"{_PACKAGE}{space}" if space else "anynet")
        found = getattr(home, last, None)
    except ModuleNotFoundError:
        return None
    return found if _own(found) else None


def code_name(value: Any) -> str:
    """ "module:Class" of a class or function that is not this library's."""
    return f"{value.__module__}:{getattr(value, '__qualname__', None) or value.__name__}"


@functools.lru_cache(maxsize=1024)
def source_hash(value: Any) -> str | None:
    """The SHA-256 of the source text of a class or function, without its indentation; None where there is no text."""
    try:
        text = textwrap.dedent(inspect.getsource(value))
    except (OSError, TypeError, SyntaxError, IndentationError):
        return None
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


class Known:
    """What a description may name: this library, and what the caller has given.

    `classes`: a class or function, a module, a mapping from names, or several of these. `trust`: the path of a Python file
    (or several), which is run for its definitions.
    """

    def __init__(self, classes: Any = None, trust: Any = None) -> None:
        self.given: dict[str, Any] = {}
        for one in _several(classes):
            self._take(one)
        for path in _several(trust):
            self._run(Path(path))

    def _take(self, one: Any) -> None:
        if isinstance(one, Mapping):
            self.given.update({str(k): v for k, v in one.items() if callable(v)})
        elif isinstance(one, types.ModuleType):
            self.given.update({k: v for k, v in vars(one).items() if callable(v)})
        elif isinstance(one, Module):
            for module in one.modules():
                self._take(type(module))
        elif callable(one):
            self.given[code_name(one)] = self.given[code_name(one).partition(":")[2].split(".")[-1]] = one
        else:
            msg = f"classes must be classes, a module or a dict of classes by name, got {type(one).__name__} {one!r:.60}"
            raise TypeError(msg)

    def _run(self, path: Path) -> None:
        if not path.is_file():
            msg = f"trust must be the path of a Python file with the classes, there is none at {path}"
            raise FileNotFoundError(msg)
        before = list(sys.path)
        sys.path.insert(0, str(path.resolve().parent))
        try:
            self._take(runpy.run_path(str(path), run_name=path.stem))
        finally:
            sys.path[:] = before

    def library(self, name: Any, where: str) -> Any:
        """A class or function of this library."""
        found = _library(name) if isinstance(name, str) else None
        if found is None:
            near = nearest(name, _public(), everything=False) if isinstance(name, str) else ""
            msg = f"{where}: this anynet has no {name!r:.80}{near}"
            raise DescriptionError(msg)
        return found

    def code(self, name: Any, sha256: Any, where: str) -> Any:
        """A class or function of the user's; `DescriptionError` that says how to give it where it was not given."""
        if not isinstance(name, str) or ":" not in name:
            msg = f"{where}: a class of the user's must be named module:Class, got {name!r:.80}"
            raise DescriptionError(msg)
        module, _, qualified = name.partition(":")
        found = next(
            (self.given[n] for n in (name, qualified, qualified.split(".")[-1]) if n in self.given), None
        )
        if found is None:
            last = qualified.split(".")[-1]
            of = "a script or notebook" if module == "__main__" else f"the module {module}"
            msg = (
                f"{where}: {last} is a class of {of}, not of anynet, and no code is run that you do not name: give it with "
                f"classes={last} (a class, a module or a dict of them), or trust='file.py', the file that defines it"
            )
            raise DescriptionError(msg)
        self._warn_if_changed(found, name, sha256)
        return found

    @staticmethod
    def _warn_if_changed(found: Any, name: str, sha256: Any) -> None:
        now = source_hash(found)
        if isinstance(sha256, str) and now is not None and now != sha256:
            import warnings  # only a class that has changed asks

            msg = f"the source of {name} is not what it was when the network was saved; it may compute something else"
            warnings.warn(msg, UserWarning, stacklevel=6)


def _public() -> Iterable[str]:
    home = sys.modules["anynet.nn"]
    return [f"nn.{n}" for n, v in vars(home).items() if isinstance(v, type) and issubclass(v, Module)]


def _several(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple, set, frozenset)) else [given]
