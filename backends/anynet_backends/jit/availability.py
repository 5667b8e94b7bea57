"""Whether programs can be compiled to machine code here: the extra `numba`, and ``ANYNET_NUMBA=off``."""

from __future__ import annotations

import importlib.util
import sys

from anynet_backends.concurrency import has_gil, once
from anynet_backends.config import NUMBA
from anynet_backends.jit.compiler import compiler
from anynet_backends.jit.ufuncs import loops_fit

__all__ = ["available", "installed", "problem", "works"]


def installed() -> bool:
    """Whether the extra `numba` is installed, fits, and is not switched off. (Cheap: LLVM is not loaded for it.)"""
    return NUMBA() and not _unfit()


def available() -> bool:
    """Whether there is machine code: as `installed`, and LLVM works."""
    return NUMBA() and not _failed()


def works() -> bool:
    """Whether LLVM works, switched off or not."""
    return not _failed()


def problem() -> str:
    """Why there is no machine code, or ""."""
    return _failed() if NUMBA() else "switched off (ANYNET_NUMBA)"


@once
def _unfit() -> str:
    if not has_gil():
        return (
            "this Python is free-threaded (it has no global interpreter lock), which machine code counts on"
        )
    if importlib.util.find_spec("llvmlite") is None:
        return "not installed: pip install 'anynet-nn[numba]'"
    if sys.byteorder != "little" or not loops_fit():
        return "objects of this Python and NumPy do not lie in memory as is expected"
    return ""


@once
def _failed() -> str:
    if _unfit():
        return _unfit()
    try:
        compiler()
    except Exception as error:  # noqa: BLE001 - a library that does not load, or is another version
        return f"LLVM does not work here: {type(error).__name__}: {error}"
    return ""
