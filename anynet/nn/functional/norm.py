"""Normalisation, with PyTorch's arguments: see `anynet.ops.normalization`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anynet.nn.functional.losses import _norm
from anynet.ops import normalization
from anynet.ops.elementwise import clip

__all__ = [
    "batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "normalize", "rms_norm",
]  # fmt: skip


def normalize(input: Any, p: float = 2.0, dim: int | tuple[int, ...] = 1, eps: float = 1e-12) -> Any:
    """x / max(‖x‖_p, ε) along `dim`.

    >>> import anynet as an
    >>> an.nn.functional.normalize(an.asarray([[3.0, 4.0]]))
    Tensor([[0.6, 0.8]])
    """
    return input / clip(_norm(input, float(p), dim, True), eps)


def batch_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """γ (x − μ) / √(σ² + ε) + β for each channel: see `anynet.ops.normalization.batch_norm`.

    >>> import anynet as an
    >>> an.nn.functional.batch_norm(an.asarray([[1.0], [3.0]]), None, None, training=True, eps=0.0).tolist()
    [[-1.0], [1.0]]
    """
    return normalization.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: Any,
    running_mean: Any = None,
    running_var: Any = None,
    weight: Any = None,
    bias: Any = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Any:
    """The same for each channel of each sample: see `anynet.ops.normalization.instance_norm`.

    >>> import anynet as an
    >>> an.nn.functional.instance_norm(an.asarray([[[1.0, 3.0]]]), eps=0.0).tolist()
    [[[-1.0, 1.0]]]
    """
    return normalization.instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


def layer_norm(
    input: Any, normalized_shape: int | Sequence[int], weight: Any = None, bias: Any = None, eps: float = 1e-5
) -> Any:
    """The same over the last axes: see `anynet.ops.normalization.layer_norm`.

    >>> import anynet as an
    >>> an.nn.functional.layer_norm(an.asarray([[1.0, 3.0]]), (2,), eps=0.0).tolist()
    [[-1.0, 1.0]]
    """
    return normalization.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(input: Any, num_groups: int, weight: Any = None, bias: Any = None, eps: float = 1e-5) -> Any:
    """The same for each group of channels: see `anynet.ops.normalization.group_norm`.

    >>> import anynet as an
    >>> an.nn.functional.group_norm(an.asarray([[1.0, 3.0]]), 1, eps=0.0).tolist()
    [[-1.0, 1.0]]
    """
    return normalization.group_norm(input, num_groups, weight, bias, eps)


def rms_norm(
    input: Any, normalized_shape: int | Sequence[int], weight: Any = None, eps: float | None = None
) -> Any:
    """x / √(mean x² + ε) · γ over the last axes: see `anynet.ops.normalization.rms_norm`.

    >>> import anynet as an
    >>> an.nn.functional.rms_norm(an.asarray([[3.0, 3.0]]), (2,), eps=0.0).tolist()
    [[1.0, 1.0]]
    """
    return normalization.rms_norm(input, normalized_shape, weight, eps)


def local_response_norm(
    input: Any, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Any:
    """x / (k + α · mean of neighbouring x²)^β: see `anynet.ops.normalization.local_response_norm`.

    >>> import anynet as an
    >>> an.nn.functional.local_response_norm(an.ones((1, 3, 2)), 2).shape
    (1, 3, 2)
    """
    return normalization.local_response_norm(input, size, alpha, beta, k)
