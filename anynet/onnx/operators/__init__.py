"""The operators of ONNX's default domain that anynet computes: one row for each, by family."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet.onnx.operators import learning, pointwise, quantized, sequences, shapes, windows

__all__ = ["DOMAINS", "TABLE"]

TABLE: dict[str, Callable[..., Any]] = {
    **pointwise.TABLE, **shapes.TABLE, **windows.TABLE, **sequences.TABLE, **quantized.TABLE,
}  # fmt: skip
"""By the operator's name: what it computes. Operators that are not here are computed by the body that ONNX gives for them, if any."""

DOMAINS: dict[str, dict[str, Callable[..., Any]]] = {"": TABLE, "ai.onnx.ml": learning.TABLE}
"""The rows by domain; the names of one are in no other."""
