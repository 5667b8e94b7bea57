"""What is the user's code, and what is a library's, which guards do not follow."""

from __future__ import annotations

import functools
import os
import sys
import sysconfig
import types
from typing import Any

from anynet import dtypes
from anynet_backends import host

__all__ = ["is_library_file", "is_library_module", "is_of_user"]


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
def is_library_file(file: str) -> bool:
    """Whether a file is of this library, of Python or of an installed package."""
    place = os.path.realpath(file)
    # of another environment, too, whose folder is on the path (venv --system-site-packages, a .pth file)
    installed = not {"site-packages", "dist-packages"}.isdisjoint(place.split(os.sep))
    return file.startswith("<frozen") or installed or place.startswith(_library_folders())


def is_of_user(thing: Any) -> bool:
    """Whether a class or a module of Python is the user's."""
    name = thing.__name__ if isinstance(thing, types.ModuleType) else thing.__module__
    module = sys.modules.get(name)
    if module is None:
        return name not in sys.builtin_module_names
    file = getattr(module, "__file__", None)
    return name == "__main__" if file is None else not is_library_file(file)


def is_library_module(value: Any) -> bool:
    return isinstance(value, types.ModuleType) and not is_of_user(value)
