"""Normalisation, with PyTorch's arguments: see `anynet.ops.normalization`."""

from __future__ import annotations

from typing import Any

from anynet.nn.functional.losses import _norm
from anynet.ops.elementwise import clip
from anynet.ops.normalization import (
    batch_norm,
    group_norm,
    instance_norm,
    layer_norm,
    local_response_norm,
    rms_norm,
)

__all__ = [
    "batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "normalize", "rms_norm",
]  # fmt: skip


def normalize(input: Any, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Any:
    """x / max(‖x‖_p, ε) along `dim`.

    >>> import anynet as an
    >>> an.nn.functional.normalize(an.asarray([[3.0, 4.0]]))
    Tensor([[0.6, 0.8]])
    """
    return input / clip(_norm(input, float(p), dim, True), eps)
