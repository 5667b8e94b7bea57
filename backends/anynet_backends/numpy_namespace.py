"""Functions that NumPy spells otherwise than its callers need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from anynet_backends.array_api import Array

__all__ = ["largest", "smallest"]


def _positional(ufunc: Any) -> Callable[..., Any]:
    """A ufunc that wants its `out` by keyword, with three arguments."""

    def call(a: Any, b: Any, out: Array) -> None:
        ufunc(a, b, out=out)

    call.ufunc = ufunc  # type: ignore[attr-defined]
    return call


largest, smallest = _positional(np.maximum), _positional(np.minimum)
