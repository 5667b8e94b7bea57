"""Normalisation, with PyTorch's arguments."""

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
    """Normalise each channel (axis 1) over the batch and all places, then scale and shift it.

    y = γ (x − μ) / √(σ² + ε) + β

    In training μ and σ² are those of the input, and the running statistics, where given, are updated in place:
    running ← (1 − momentum) · running + momentum · new, with the variance divided by m − 1. Otherwise they are the running
    statistics. Statistics of float16 are taken in float32.

    Shapes: input (n, c, …) → the same; all others (c,).

    Errors: ValueError where training has a single value per channel, and where shapes do not fit.

    >>> import anynet as an
    >>> an.nn.functional.batch_norm(an.asarray([[1.0], [3.0]]), None, None, training=True, eps=0.0).tolist()
    [[-1.0], [1.0]]

    Source: Ioffe, Szegedy: Batch normalization (2015).
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
    """Normalise each channel (axis 1) of each sample over its places, then scale and shift each channel.

    y = γ (x − μ) / √(σ² + ε) + β, with μ and σ² of the channel of the sample

    The running statistics, where given, follow the averages over the batch: running ← (1 − momentum) · running + momentum · new;
    with ``use_input_stats=False`` they are what the input is normalised by.

    Shapes: input (n, c, places, …) → the same; all others (c,).

    Errors: ValueError where a channel has a single place, and where shapes do not fit.

    >>> import anynet as an
    >>> an.nn.functional.instance_norm(an.asarray([[[1.0, 3.0]]]), eps=0.0).tolist()
    [[[-1.0, 1.0]]]

    Source: Ulyanov, Vedaldi, Lempitsky: Instance normalization (2016).
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
    """Normalise over the last axes, those of `normalized_shape`, then scale and shift each element.

    y = γ (x − μ) / √(σ² + ε) + β, with μ and σ² over these axes

    Shapes: input (…, *normalized_shape) → the same; weight and bias have normalized_shape.

    Errors: ValueError where the shapes differ.

    >>> import anynet as an
    >>> an.nn.functional.layer_norm(an.asarray([[1.0, 3.0]]), (2,), eps=0.0).tolist()
    [[-1.0, 1.0]]

    Source: Ba, Kiros, Hinton: Layer normalization (2016).
    """
    return normalization.layer_norm(input, normalized_shape, weight, bias, eps)


def group_norm(
    input: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each of `num_groups` groups of channels (axis 1) of each sample, then scale and shift each channel.

    y = γ (x − μ) / √(σ² + ε) + β, with μ and σ² of the group of the sample

    Shapes: input (n, c, …) → the same; weight and bias (c,).

    Errors: ValueError where num_groups does not divide c, and where shapes do not fit.

    >>> import anynet as an
    >>> an.nn.functional.group_norm(an.asarray([[1.0, 3.0]]), 1, eps=0.0).tolist()
    [[-1.0, 1.0]]

    Source: Wu, He: Group normalization (2018).
    """
    return normalization.group_norm(input, num_groups, weight, bias, eps)


def rms_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    eps: float | None = None,
) -> Tensor:
    """x / √(mean x² + ε) · γ over the last axes, those of `normalized_shape`; ε is the machine epsilon of the dtype unless given.

    Shapes: input (…, *normalized_shape) → the same; weight has normalized_shape.

    Errors: ValueError where the shapes differ.

    >>> import anynet as an
    >>> an.nn.functional.rms_norm(an.asarray([[3.0, 3.0]]), (2,), eps=0.0).tolist()
    [[1.0, 1.0]]

    Source: Zhang, Sennrich: Root mean square layer normalization (2019).
    """
    return normalization.rms_norm(input, normalized_shape, weight, eps)


def local_response_norm(
    input: ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """x / (k + α · mean of x² over `size` neighbouring channels)^β; beyond the first and the last channel x is 0.

    Shapes: input (n, c, places, …) → the same.

    Errors: ValueError for size below 1 and for inputs of fewer axes.

    >>> import anynet as an
    >>> an.nn.functional.local_response_norm(an.ones((1, 3, 2)), 2).shape
    (1, 3, 2)

    Source: Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks (2012).
    """
    return normalization.local_response_norm(input, size, alpha, beta, k)
