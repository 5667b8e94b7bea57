"""The operators of ONNX's default domain that anynet computes: one row for each, by family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet.onnx.operators import pointwise, sequences, shapes, windows

__all__ = ["TABLE"]

TABLE: dict[str, Callable[..., Any]] = {**pointwise.TABLE, **shapes.TABLE, **windows.TABLE, **sequences.TABLE}
"""By the operator's name: what it computes. Operators that are not here are computed by the body that ONNX gives for them, if any."""
