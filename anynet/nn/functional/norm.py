"""Normalisation, with PyTorch's arguments."""

from __future__ import annotations

from collections.abc import Sequence

from anynet.equations import equation
from anynet.ops import normalization
from anynet.ops.elementwise import clip
from anynet.ops.linalg import vector_norm
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = [
    "batch_norm", "group_norm", "instance_norm", "layer_norm", "local_response_norm", "normalize", "rms_norm",
]  # fmt: skip


@equation(
    "y[..., j] = x[..., j] / max(sum[k](abs(x[..., k])**p)**(1 / p), ε)",
    where="x[..., J] = input along dim; p; ε = eps",
)
def normalize(input: ArrayLike, p: float = 2.0, dim: int | tuple[int, ...] = 1, eps: float = 1e-12) -> Tensor:
    """Vectors along `dim` of length 1 in the p-norm; where the norm is less than ε, x / ε with the gradient 1/ε.

    Equation:
      yⱼ = xⱼ / max((Σ_k |xₖ|ᵖ)^(1 / p), ε)
      (x: input along dim (…, J); p; ε: eps)

    >>> import anynet as an
    >>> an.nn.functional.normalize(an.asarray([[3.0, 4.0]]))
    Tensor([[0.6, 0.8]])
    """
    axis = () if not input.shape and dim in (0, -1) else dim  # a number is an axis of one number
    return input / clip(vector_norm(input, axis=axis, keepdims=True, ord=p), eps)


@equation(
    "own = training or not track",
    "μ[c] = mean[n, t](x[n, c, t]) if own else M[c]",
    "v[c] = var[n, t](x[n, c, t]) if own else V[c]",
    "x_hat[n, c, t] = (x[n, c, t] - μ[c]) / sqrt(v[c] + ε)",
    "y[n, c, t] = γ[c] * x_hat[n, c, t] + β[c]",
    where="""
        x[N, C, T*] = input
        γ[C] = weight or 1
        β[C] = bias or 0
        M[C] = running_mean or 0
        V[C] = running_var or 1
        ε = eps
        training
        track = track_running_stats or 1
    """,
    gradient="""
        dβ[c] = sum[n, t](dy[n, c, t])
        dγ[c] = sum[n, t](dy[n, c, t] * x_hat[n, c, t])
        dx[n, c, t] = γ[c] / sqrt(v[c] + ε) * (dy[n, c, t] - mean[n, t](dy[n, c, t]) - x_hat[n, c, t] * mean[n, t](dy[n,
            c, t] * x_hat[n, c, t]))
        if own else γ[c] / sqrt(v[c] + ε) * dy[n, c, t]
    """,
)
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

    In training μ and σ² are those of the input, and the running statistics, where given, are updated in place:
    running ← (1 − momentum) · running + momentum · new, with the variance divided by m − 1. Otherwise they are the running
    statistics. Statistics of float16 are taken in float32.

    Shapes: input (n, c, …) → the same; all others (c,).

    Errors: ValueError where training has a single value per channel, and where shapes do not fit.

    Equation:
      own = training or not track
      μ[c] = mean_{n,t}(x[n, c, t]) if own, else M[c]
      v[c] = var_{n,t}(x[n, c, t]) if own, else V[c]
      x̂[n, c, t] = (x[n, c, t] − μ[c]) / √(v[c] + ε)
      y[n, c, t] = γ[c] x̂[n, c, t] + β[c]
      (x: input (N, C, T); γ: weight or 1 (C); β: bias or 0 (C); M: running_mean or 0 (C); V: running_var or 1 (C); ε: eps;
      training; track: track_running_stats or 1)

    >>> import anynet as an
    >>> an.nn.functional.batch_norm(an.asarray([[1.0], [3.0]]), None, None, training=True, eps=0.0).tolist()
    [[-1.0], [1.0]]

    Source: Ioffe, Szegedy: Batch normalization (2015).
    """
    return normalization.batch_norm(input, running_mean, running_var, weight, bias, training, momentum, eps)


@equation(
    "own = training or not track",
    "μ[n, c] = mean[t](x[n, c, t]) if own else M[c]",
    "v[n, c] = var[t](x[n, c, t]) if own else V[c]",
    "x_hat[n, c, t] = (x[n, c, t] - μ[n, c]) / sqrt(v[n, c] + ε)",
    "y[n, c, t] = γ[c] * x_hat[n, c, t] + β[c]",
    where="""
        x[N, C, T*] = input
        γ[C] = weight or 1
        β[C] = bias or 0
        M[C] = running_mean or 0
        V[C] = running_var or 1
        ε = eps
        training = use_input_stats
        track = track_running_stats or 1
    """,
    gradient="""
        dβ[c] = sum[n, t](dy[n, c, t])
        dγ[c] = sum[n, t](dy[n, c, t] * x_hat[n, c, t])
        dx[n, c, t] = γ[c] / sqrt(v[n, c] + ε) * (dy[n, c, t] - mean[t](dy[n, c, t]) - x_hat[n, c, t] * mean[t](dy[n, c,
            t] * x_hat[n, c, t]))
        if own else γ[c] / sqrt(v[n, c] + ε) * dy[n, c, t]
    """,
)
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

    The running statistics, where given, follow the averages over the batch: running ← (1 − momentum) · running + momentum · new;
    with ``use_input_stats=False`` they are what the input is normalised by.

    Shapes: input (n, c, places, …) → the same; all others (c,).

    Errors: ValueError where a channel has a single place, and where shapes do not fit.

    Equation:
      own = training or not track
      μ[n, c] = mean_t(x[n, c, t]) if own, else M[c]
      v[n, c] = var_t(x[n, c, t]) if own, else V[c]
      x̂[n, c, t] = (x[n, c, t] − μ[n, c]) / √(v[n, c] + ε)
      y[n, c, t] = γ[c] x̂[n, c, t] + β[c]
      (x: input (N, C, T); γ: weight or 1 (C); β: bias or 0 (C); M: running_mean or 0 (C); V: running_var or 1 (C); ε: eps;
      training: use_input_stats; track: track_running_stats or 1)

    >>> import anynet as an
    >>> an.nn.functional.instance_norm(an.asarray([[[1.0, 3.0]]]), eps=0.0).tolist()
    [[[-1.0, 1.0]]]

    Source: Ulyanov, Vedaldi, Lempitsky: Instance normalization (2016).
    """
    return normalization.instance_norm(
        input, running_mean, running_var, weight, bias, use_input_stats, momentum, eps
    )


@equation(
    "μ = mean[j](x[..., j])",
    "v = var[j](x[..., j])",
    "x_hat[..., j] = (x[..., j] - μ) / sqrt(v + ε)",
    "y[..., j] = γ[j] * x_hat[..., j] + β[j]",
    where="""
        x[..., J] = input over normalized_shape
        γ[J] = weight or 1 over normalized_shape
        β[J] = bias or 0 over normalized_shape
        ε = eps
    """,
    gradient="""
        dβ[j] = sum[...](dy[..., j])
        dγ[j] = sum[...](dy[..., j] * x_hat[..., j])
        dx[..., j] = (γ[j] * dy[..., j] - mean[k](γ[k] * dy[..., k]) - x_hat[..., j] * mean[k](γ[k] * dy[..., k] *
            x_hat[..., k])) / sqrt(v + ε)
    """,
)
def layer_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise over the last axes, those of `normalized_shape`, then scale and shift each element.

    Shapes: input (…, *normalized_shape) → the same; weight and bias have normalized_shape.

    Errors: ValueError where the shapes differ.

    Equation:
      μ = mean_j(xⱼ)
      v = var_j(xⱼ)
      x̂ⱼ = (xⱼ − μ) / √(v + ε)
      yⱼ = γⱼ x̂ⱼ + βⱼ
      (x: input (…, J); γ: weight or 1 (J); β: bias or 0 (J); ε: eps)

    >>> import anynet as an
    >>> an.nn.functional.layer_norm(an.asarray([[1.0, 3.0]]), (2,), eps=0.0).tolist()
    [[-1.0, 1.0]]

    Source: Ba, Kiros, Hinton: Layer normalization (2016).
    """
    return normalization.layer_norm(input, normalized_shape, weight, bias, eps)


@equation(
    "K = C // G",
    "μ[n, g: G] = mean[k: K, t](x[n, g * K + k, t])",
    "v[n, g: G] = mean[k: K, t]((x[n, g * K + k, t] - μ[n, g])**2)",
    "x_hat[n, c, t] = (x[n, c, t] - μ[n, c // K]) / sqrt(v[n, c // K] + ε)",
    "y[n, c, t] = γ[c] * x_hat[n, c, t] + β[c]",
    where="x[N, C, T*] = input; G = num_groups; γ[C] = weight or 1; β[C] = bias or 0; ε = eps",
    gradient="""
        dβ[c] = sum[n, t](dy[n, c, t])
        dγ[c] = sum[n, t](dy[n, c, t] * x_hat[n, c, t])
        a[n, g: G] = mean[k: K, t](γ[g * K + k] * dy[n, g * K + k, t])
        b[n, g: G] = mean[k: K, t](γ[g * K + k] * dy[n, g * K + k, t] * x_hat[n, g * K + k, t])
        dx[n, c, t] = (γ[c] * dy[n, c, t] - a[n, c // K] - x_hat[n, c, t] * b[n, c // K]) / sqrt(v[n, c // K] + ε)
    """,
)
def group_norm(
    input: ArrayLike,
    num_groups: int,
    weight: ArrayLike | None = None,
    bias: ArrayLike | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Normalise each of `num_groups` groups of channels (axis 1) of each sample, then scale and shift each channel.

    Shapes: input (n, c, …) → the same; weight and bias (c,).

    Errors: ValueError where num_groups does not divide c, and where shapes do not fit.

    Equation:
      K = ⌊C / G⌋
      μ[n, g] = mean_{0 ≤ k < K, t}(x[n, g K + k, t])  for 0 ≤ g < G
      v[n, g] = mean_{0 ≤ k < K, t}((x[n, g K + k, t] − μ[n, g])²)  for 0 ≤ g < G
      x̂[n, c, t] = (x[n, c, t] − μ[n, ⌊c / K⌋]) / √(v[n, ⌊c / K⌋] + ε)
      y[n, c, t] = γ[c] x̂[n, c, t] + β[c]
      (x: input (N, C, T); G: num_groups; γ: weight or 1 (C); β: bias or 0 (C); ε: eps)

    >>> import anynet as an
    >>> an.nn.functional.group_norm(an.asarray([[1.0, 3.0]]), 1, eps=0.0).tolist()
    [[-1.0, 1.0]]

    Source: Wu, He: Group normalization (2018).
    """
    return normalization.group_norm(input, num_groups, weight, bias, eps)


@equation(
    "r = sqrt(mean[j](x[..., j]**2) + ε)",
    "y[..., j] = γ[j] * x[..., j] / r",
    where="""
        x[..., J] = input over normalized_shape
        γ[J] = weight or 1 over normalized_shape
        ε = eps or 2.220446049250313e-16: that of the dtype, here float64, unless given
    """,
    gradient="""
        dγ[j] = sum[...](dy[..., j] * x[..., j] / r)
        dx[..., j] = γ[j] * dy[..., j] / r - x[..., j] * mean[k](γ[k] * dy[..., k] * x[..., k]) / r**3
    """,
)
def rms_norm(
    input: ArrayLike,
    normalized_shape: int | Sequence[int],
    weight: ArrayLike | None = None,
    eps: float | None = None,
) -> Tensor:
    """Divide by the root mean square over the last axes, those of `normalized_shape`; ε is the machine epsilon of the
    dtype unless given.

    Shapes: input (…, *normalized_shape) → the same; weight has normalized_shape.

    Errors: ValueError where the shapes differ.

    Equation:
      r = √(mean_j(xⱼ²) + ε)
      yⱼ = γⱼ xⱼ / r
      (x: input (…, J); γ: weight or 1 (J); ε: eps or 2.220446049250313e-16: that of the dtype, here float64, unless given)

    >>> import anynet as an
    >>> an.nn.functional.rms_norm(an.asarray([[3.0, 3.0]]), (2,), eps=0.0).tolist()
    [[1.0, 1.0]]

    Source: Zhang, Sennrich: Root mean square layer normalization (2019).
    """
    return normalization.rms_norm(input, normalized_shape, weight, eps)


@equation(
    "y[n, c, t] = x[n, c, t] / (k + α * sum[j: s](x[n, c + j - s // 2, t]**2) / s)**β",
    where="x[N, C, T*] = input; s = size; α = alpha; β = beta; k",
)
def local_response_norm(
    input: ArrayLike, size: int, alpha: float = 1e-4, beta: float = 0.75, k: float = 1.0
) -> Tensor:
    """Each number divided by a power of the mean square over `size` neighbouring channels; beyond the first and the
    last channel x is 0.

    Shapes: input (n, c, places, …) → the same.

    Errors: ValueError for size below 1 and for inputs of fewer axes.

    Equation:
      y[n, c, t] = x[n, c, t] / (k + α · (Σ_{0 ≤ j < s} x[n, c + j − ⌊s / 2⌋, t]²) / s)^β
      (x: input (N, C, T); s: size; α: alpha; β: beta; k)

    >>> import anynet as an
    >>> an.nn.functional.local_response_norm(an.ones((1, 3, 2)), 2).shape
    (1, 3, 2)

    Source: Krizhevsky, Sutskever, Hinton: ImageNet classification with deep convolutional neural networks (2012).
    """
    return normalization.local_response_norm(input, size, alpha, beta, k)
