"""Environment variables: every ANYNET_* variable with its meaning, its default and its type; and the cache folder.

A variable is read each time it is asked for, so that it may be set after the import, too. An empty one counts as unset.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final, Generic, TypeVar

__all__ = [
    "CACHE",
    "CHECK",
    "CUBLASLT",
    "CUDNN",
    "DATA",
    "DEBUG",
    "DEVICE",
    "KERNELS",
    "KEY",
    "MALLOC",
    "NUMBA",
    "ONEDNN",
    "PASSES",
    "PRINT_PASSES",
    "VARIABLES",
    "Variable",
    "cache_folder",
]

_T = TypeVar("_T")
_OFF: Final = ("off", "0", "no")


class Variable(Generic[_T]):
    """An environment variable. `default` is text as in the environment; `parse` makes a value of either. What is `secret` is not shown."""

    def __init__(
        self, name: str, default: str, meaning: str, parse: Callable[[str], _T], *, secret: bool = False
    ) -> None:
        self.name, self.default, self.meaning, self.parse, self.secret = name, default, meaning, parse, secret
        self._key = name if _table is None else os.environ.encodekey(name)
        self.unset = parse(default)

    def __call__(self) -> _T:
        """The value now."""
        if not _get(self._key):
            return self.unset
        return self.parse(os.environ.get(self.name) or self.default)


# encoded; os.environ itself takes longer than making a small array
_table: Final = getattr(os.environ, "_data", None)
_get: Final = os.environ.get if _table is None else _table.get


def _switch(text: str) -> bool:
    return text.lower() not in _OFF


def _if_there(text: str) -> str:
    """ "auto", "on" or "off"."""
    word = text.lower()
    if word in _OFF:
        return "off"
    if word not in ("auto", "on", "1", "yes"):
        msg = f"ANYNET_CUDNN must be auto, on or off, got {text!r}"
        raise ValueError(msg)
    return "auto" if word == "auto" else "on"


def _path(text: str) -> Path | None:
    return Path(text) if text else None


DEVICE: Final = Variable(
    "ANYNET_DEVICE",
    "cpu",
    'where arrays are created without a device: "cpu", "cuda", …',
    lambda text: text.strip() or "cpu",
)
DATA: Final = Variable("ANYNET_DATA", "", "a folder with data sets (mnist/, text/, …)", _path)
CACHE: Final = Variable(
    "ANYNET_CACHE", "", "where downloads and compiled code are kept, instead of ~/.cache/anynet", _path
)
KERNELS: Final = Variable(
    "ANYNET_KERNELS", "on", "kernels of the backends; off: the reference of each operation", _switch
)
ONEDNN: Final = Variable("ANYNET_ONEDNN", "on", "oneDNN, where the extra `onednn` is installed", _switch)
NUMBA: Final = Variable("ANYNET_NUMBA", "on", "machine code, where the extra `numba` is installed", _switch)
CUBLASLT: Final = Variable(
    "ANYNET_CUBLASLT", "on", "on a GPU, products of matrices by cuBLASLt; off: CuPy's", _switch
)
CUDNN: Final = Variable(
    "ANYNET_CUDNN",
    "auto",
    "on a GPU, convolutions by cuDNN: auto: where the extra `cudnn12` or `cudnn13` is installed; on: an error where it is not; off",
    _if_there,
)
MALLOC: Final = Variable(
    "ANYNET_MALLOC", "on", "keep freed blocks of memory for reuse (Linux with glibc)", _switch
)

KEY: Final = Variable(
    "ANYNET_KEY",
    "",
    "a secret text that processes which meet at an address prove to each other",
    str,
    secret=True,
)

DEBUG: Final = Variable(
    "ANYNET_DEBUG",
    "off",
    "on: the command line shows errors with their tracebacks",
    _switch,
)

PASSES: Final = (
    "trace",
    "common",
    "dead",
    "checks",
    "constants",
    "stores",
    "rows",
    "small",
    "memory",
    "calls",
    "loops",
    "segments",
    "llvm",
)
"""What `ANYNET_PASSES` may list, in the order in which a program passes them."""


def _passes(text: str) -> frozenset[str]:
    words = frozenset(text.lower().replace(",", " ").split())
    if not words or words <= frozenset(_OFF):
        return frozenset()
    if words & {"all", "on", "1"}:
        return frozenset(PASSES)
    if unknown := sorted(words.difference(PASSES)):
        msg = f"ANYNET_PASSES must be off, all, or a list of {', '.join(PASSES)}, got {', '.join(unknown)}"
        raise ValueError(msg)
    return words


PRINT_PASSES: Final = Variable(
    "ANYNET_PASSES",
    "off",
    f"print each program after these passes of the compiler, to stderr: all, or a list of {', '.join(PASSES)}",
    _passes,
)

CHECK: Final = Variable(
    "ANYNET_CHECK",
    "off",
    "on: on a GPU, values are checked at once, which waits for it; off: a wrong index is found when a value is read",
    _switch,
)

VARIABLES: Final = tuple(value for value in list(globals().values()) if isinstance(value, Variable))
"""All of them, in this order, in which `anynet doctor` lists them."""


def cache_folder() -> Path:
    """Where downloads and compiled code are kept: $ANYNET_CACHE, else $XDG_CACHE_HOME/anynet, else ~/.cache/anynet.

    FileNotFoundError if none of ANYNET_CACHE, XDG_CACHE_HOME and HOME is set and the system does not know the user."""
    chosen = CACHE()
    if chosen is not None:
        return chosen
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # the specification says that a relative path is to be ignored
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            msg = "there is no home folder: HOME is not set, and the system does not know the user; set ANYNET_CACHE to a folder"
            raise FileNotFoundError(msg)
        base = os.path.join(home, ".cache")
    return Path(base) / "anynet"
