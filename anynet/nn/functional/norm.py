"""Normalisation, with PyTorch's arguments: see `anynet.ops.normalization`."""

from __future__ import annotations

from collections.abc import Sequence

from anynet.ops import normalization
from anynet.ops.elementwise import clip
from anynet.ops.linalg import vector_norm
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = [
    "batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "normalize", "rms_norm",
]  # fmt: skip


def normalize(input: ArrayLike, p: float = 2.0, dim: int | tuple[int, ...] = 1, eps: float = 1e-12) -> Tensor:
    """x / max(‖x‖_p, ε) along `dim`; x / ε, with the gradient 1/ε, where the norm is less.

    >>> import anynet as an
    >>> an.nn.functional.normalize(an.asarray([[3.0, 4.0]]))
    Tensor([[0.6, 0.8]])
    """
    axis = () if not input.shape and dim in (0, -1) else dim  # a number is an axis of one number
    return input / clip(vector_norm(input, axis=axis, keepdims=True, ord=p), eps)


def batch_norm(
    input: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """γ (x − μ) / √(σ² + ε) + β for each channel: see `anynet.ops.normalization.batch_norm`.

    >>> import anynet as an
    >>> an.nn.functional.batch_norm(an.asarray([[1.0], [3.0]]), None, None, training=True, eps=0.0).tolist()
    [[-1.0], [1.0]]
    """
    return normalization.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


def instance_norm(
    input: ArrayLike,
    running_mean: ArrayLike | None = None,
    running_var: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """The same for each channel of each sample: see `anynet.ops.normalization.instance_norm`.

    >>> import anynet as an
    >>> an.nn.functional.instance_norm(an.asarray([[[1.0, 3.0]]]), eps=0.0).tolist()
    [[[-1.0, 1.0]]]
    """
    return normalization.instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


def layer_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """The same over the last axes: see `anynet.ops.normalization.layer_norm`.

    >>> import anynet as an
    >>> an.nn.functional.layer_norm(an.asarray([[1.0, 3.0]]), (2,), eps=0.0).tolist()
    [[-1.0, 1.0]]
    """
    return normalization.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(
    input: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """The same for each group of channels: see `anynet.ops.normalization.group_norm`.

    >>> import anynet as an
    >>> an.nn.functional.group_norm(an.asarray([[1.0, 3.0]]), 1, eps=0.0).tolist()
    [[-1.0, 1.0]]
    """
    return normalization.group_norm(input, num_groups, weight, bias, eps)


def rms_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    eps: float | None = None,
) -> Tensor:
    """x / √(mean x² + ε) · γ over the last axes: see `anynet.ops.normalization.rms_norm`.

    >>> import anynet as an
    >>> an.nn.functional.rms_norm(an.asarray([[3.0, 3.0]]), (2,), eps=0.0).tolist()
    [[1.0, 1.0]]
    """
    return normalization.rms_norm(input, normalized_shape, weight, eps)


def local_response_norm(
    input: ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + α · mean of neighbouring x²)^β: see `anynet.ops.normalization.local_response_norm`.

    >>> import anynet as an
    >>> an.nn.functional.local_response_norm(an.ones((1, 3, 2)), 2).shape
    (1, 3, 2)
    """
    return normalization.local_response_norm(input, size, alpha, beta, k)
