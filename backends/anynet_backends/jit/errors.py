"""Errors of tracing, and the line of the user's code that they name."""

from __future__ import annotations

import sys
from typing import Final, NoReturn

__all__ = [
    "CaptureError",
    "CompileError",
    "OtherLibraryError",
    "line_of_error",
    "refuse_reading",
    "user_line",
]


class CompileError(RuntimeError):
    """Something in a compiled function cannot be replayed. The message names the line."""


class OtherLibraryError(CompileError):
    """A compiled function works on arrays of a library that programs are not made for: it is captured, where the library can
    (`captures`), else called as it is."""

    def __init__(self, message: str, captures: bool = False) -> None:
        super().__init__(message)
        self.captures = captures


class CaptureError(CompileError):
    """Something in a function cannot be part of a CUDA graph."""


_NOT_THE_USER: Final = frozenset(("anynet", "anynet_backends", "numpy", "contextlib", "functools", "copy"))
_LIBRARIES: Final = _NOT_THE_USER | {"cupy", "cupyx", "array_api_compat"}


def user_line() -> str:
    """The innermost line outside of this package: where the user's code is."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in _NOT_THE_USER:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"


def line_of_error(error: BaseException) -> str | None:
    """The innermost line of the user's code that an error came through."""
    found, step = None, error.__traceback__
    while step is not None:
        if step.tb_frame.f_globals.get("__name__", "").partition(".")[0] not in _LIBRARIES:
            found = f"{step.tb_frame.f_code.co_filename}:{step.tb_lineno}"
        step = step.tb_next
    return found


def refuse_reading() -> NoReturn:
    """Raise the error for reading a value while a function is traced."""
    msg = (
        f"{user_line()}: a value was read inside a compiled function (bool, float, int, item, numpy, print, or a branch "
        "on it), where it is not a number but a place in a program. Return it and read it outside; use "
        "anynet.where for a choice"
    )
    raise CompileError(msg)
