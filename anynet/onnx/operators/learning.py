"""Operators of the domain ai.onnx.ml that exporters of scikit-learn put around networks and linear models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anynet as an
from anynet.nn import functional as F
from anynet.onnx.operators.calling import Row, room

__all__ = ["TABLE"]

_LINKS: dict[str, Callable[[Any], Any]] = {
    "NONE": lambda y: y,
    "LOGISTIC": F.sigmoid,
    "SOFTMAX": lambda y: F.softmax(y, -1),
}


def _floats(x: Any) -> Any:
    return x if an.isdtype(x.dtype, "real floating") else an.astype(x, an.float32)


def _features(x: Any, index: Any) -> Any:
    """Columns."""
    flat = an.reshape(index, (-1,))
    rows = an.reshape(x, (1, -1)) if len(x.shape) == 1 else x
    room([*rows.shape[:-1], flat.shape[0]])
    return an.take(rows, flat, axis=-1)


def _binarize(x: Any, *, threshold: float) -> Any:
    return an.astype(x > threshold, x.dtype)


def _normalize(x: Any, *, norm: str) -> Any:
    x = _floats(x)
    sizes = {
        "MAX": lambda: an.max(an.abs(x), axis=-1, keepdims=True), "L1": lambda: an.sum(an.abs(x), axis=-1, keepdims=True),
        "L2": lambda: an.sqrt(an.sum(x * x, axis=-1, keepdims=True)),
    }  # fmt: skip
    if norm not in sizes:
        raise ValueError(f"norm must be MAX, L1 or L2, got {norm!r:.80}")
    size = sizes[norm]()
    return x / an.where(size == 0, 1, size)


def _scale(x: Any, *, offset: Any = None, scale: Any = None) -> Any:
    x = _floats(x)
    made = {"dtype": x.dtype, "device": x.device}
    return (x - an.asarray(offset or [0.0], **made)) * an.asarray(scale or [1.0], **made)


def _linear(
    x: Any, *, coefficients: Any = None, intercepts: Any = None, targets: int, post_transform: str
) -> Any:
    x = _floats(x)
    if post_transform not in _LINKS or not coefficients or targets < 1 or len(coefficients) % targets:
        raise ValueError(
            f"it must have coefficients for {targets} targets, and post_transform must be {', '.join(_LINKS)}"
        )
    made = {"dtype": x.dtype, "device": x.device}
    w = an.reshape(an.asarray(coefficients, **made), (targets, -1))
    y = F.linear(
        an.reshape(x, (1, -1)) if len(x.shape) == 1 else x,
        w,
        an.asarray(intercepts or [0.0] * targets, **made),
    )
    return _LINKS[post_transform](y)


TABLE: dict[str, Row] = {
    "ArrayFeatureExtractor": _features, "Binarizer": _binarize, "LinearRegressor": _linear, "Normalizer": _normalize, "Scaler": _scale,
}  # fmt: skip
