"""The cases of the parity and gradient suites: every operation once, small, on inputs away from its kinks.

Each module of this folder holds one family as a tuple `CASES`. A primitive that no case runs fails the tests.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anynet.tensor import Tensor

__all__ = ["Case", "every", "index"]


@dataclass(frozen=True)
class Case:
    """An operation: a function of Tensors, the shapes of its arguments, and where their elements lie."""

    name: str
    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    low: float = -2.0
    high: float = 2.0
    second_order: bool = True  # whether the gradient depends on the inputs, so that a second one can be taken


def index(x: Tensor, values: Any) -> Tensor:
    """Integers on the device of x."""
    return Tensor(values, device=x.device)


def every() -> tuple[Case, ...]:
    """All cases of all modules of this folder."""
    found: list[Case] = []
    for module in pkgutil.iter_modules(__path__):
        found += importlib.import_module(f"{__name__}.{module.name}").CASES
    return tuple(found)
