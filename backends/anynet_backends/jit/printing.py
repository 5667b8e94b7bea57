"""Programs as text after each pass of the compiler, where ``ANYNET_PASSES`` asks for it.

``ANYNET_PASSES=all python train.py`` shows how each program comes about; ``stores,loops`` shows what these passes leave. The
passes: trace, common (subexpressions), dead (code), checks (first), constants, stores (forwarded), small (results before runs of large
ones), memory (its plan), calls (of NumPy), loops (that are fused), segments (of machine code), llvm (the code).
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import numpy as np

from anynet_backends.config import PRINT_PASSES

__all__ = ["Printer", "call_lines", "print_pass"]


def print_pass(name: str, title: str, lines: Callable[[], Iterable[str]]) -> None:
    """Print what a pass has made, if that is asked for."""
    if name in PRINT_PASSES():
        text = [f"anynet {title}, after {name}:", *(f"  {line}" for line in lines())]
        print("\n".join(text), file=sys.stderr, flush=True)


_numbers: Final = itertools.count(1)


class Printer:
    """Prints one program after its passes, and where one has changed nothing only that."""

    def __init__(self) -> None:
        self.on = bool(PRINT_PASSES())
        self.title = f"program {next(_numbers)}" if self.on else ""
        self.before: list[str] = []

    def show(self, name: str, lines: Callable[[], list[str]]) -> None:
        """What there is after a pass."""
        if self.on:
            text = lines()
            same, self.before = text == self.before, text
            print_pass(name, self.title, lambda: ["unchanged"] if same else text)


def call_lines(calls: Iterable[tuple[Any, Sequence[Any]]]) -> list[str]:
    """Calls as text, with arrays by their forms and addresses."""
    return [f"{getattr(f, '__name__', None) or f}({', '.join(map(_short, args))})" for f, args in calls]


def _short(x: Any) -> str:
    if not isinstance(x, np.ndarray):
        return getattr(x, "__name__", None) or repr(x)
    if x.ndim == 0 and x.base is None:
        return repr(x.item())
    return f"{x.dtype}{list(x.shape)}@{x.__array_interface__['data'][0]:x}"
