"""Distances and similarities of vectors."""

from __future__ import annotations

import itertools

from anynet.equations import equation
from anynet.ops import elementwise as e
from anynet.ops.indexing import take
from anynet.ops.linalg import vector_norm
from anynet.ops.manipulation import broadcast_to
from anynet.ops.reductions import sum
from anynet.ops.shapes import broadcast_shapes
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = ["cosine_similarity", "pairwise_distance", "pdist"]


@equation(
    "y[i, j: N] = sum[k](abs(x[i, k] - x[j, k])**p)**(1 / p)",
    where="x[N, K] = input; p: the result holds the pairs i < j, one after the other",
)
def pdist(input: ArrayLike, p: float = 2.0) -> Tensor:
    """The distances of all pairs of rows i < j of (n, d), as a vector.

    Equation:
      y[i, j] = (Σ_k |x[i, k] − x[j, k]|ᵖ)^(1 / p)  for 0 ≤ j < N
      (x: input (N, K); p: the result holds the pairs i < j, one after the other)

    >>> import anynet as an
    >>> an.nn.functional.pdist(an.asarray([[0.0, 0.0], [3.0, 4.0], [0.0, 4.0]])).tolist()
    [5.0, 4.0, 3.0]
    """
    if len(input.shape) != 2:
        msg = f"pdist: input must be a matrix of rows, got shape {tuple(input.shape)}"
        raise ValueError(msg)
    n = input.shape[0]
    plain = unwrap(input)
    xp = backend_of(plain)
    first, second = (
        xp.asarray(
            [pair[k] for pair in itertools.combinations(range(n), 2)], dtype=xp.int64, device=plain.device
        )
        for k in (0, 1)
    )
    return vector_norm(take(input, first, axis=0) - take(input, second, axis=0), axis=-1, ord=p)


@equation(
    "y = sum[k](x1[..., k] * x2[..., k]) / (max(norm[k](x1[..., k]), ε) * max(norm[k](x2[..., k]), ε))",
    where="x1[..., K] = x1 along dim: k runs along `dim`; x2[..., K] = x2 along dim; ε = eps",
)
def cosine_similarity(x1: ArrayLike, x2: ArrayLike, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between x₁ and x₂ along `dim`; the arguments are broadcast.

    Equation:
      y = Σ_k x₁[k] x₂[k] / (max(norm_k(x₁[k]), ε) max(norm_k(x₂[k]), ε))
      (x₁: along dim (…, K): k runs along `dim`; x₂: along dim (…, K); ε: eps)

    >>> import anynet as an
    >>> an.nn.functional.cosine_similarity(an.asarray([[1.0, 0.0]]), an.asarray([[2.0, 0.0]]))
    Tensor([1.])
    """
    # a single number along `dim` stands for many equal ones
    shape = broadcast_shapes(tuple(x1.shape), tuple(x2.shape))
    x1, x2 = broadcast_to(x1, shape), broadcast_to(x2, shape)
    axis = () if not shape and dim in (0, -1) else dim  # a number is an axis of one number
    dot, first, second = (sum(a * b, axis=axis) for a, b in ((x1, x2), (x1, x1), (x2, x2)))
    low = eps * eps
    return dot / (e.sqrt(e.clip(first, low)) * e.sqrt(e.clip(second, low)))


@equation(
    "y = sum[k](abs(x1[..., k] - x2[..., k] + ε)**p)**(1 / p)",
    where="x1[..., K]; x2[..., K]; p; ε = eps",
)
def pairwise_distance(
    x1: ArrayLike, x2: ArrayLike, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False
) -> Tensor:
    """‖x₁ − x₂ + ε‖_p over the last axis; the arguments are broadcast. Where it is 0 the gradient is 0.

    Equation:
      y = (Σ_k |x₁[k] − x₂[k] + ε|ᵖ)^(1 / p)
      (x₁: (…, K); x₂: (…, K); p; ε: eps)

    >>> import anynet as an
    >>> an.nn.functional.pairwise_distance(an.asarray([0.0, 3.0]), an.asarray([4.0, 0.0]), eps=0.0).item()
    5.0
    """
    return vector_norm(x1 - x2 + eps, axis=-1, keepdims=keepdim, ord=p)
