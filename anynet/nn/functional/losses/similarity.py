"""Losses of embeddings: similar examples are pulled together, others pushed apart."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet.equations import REDUCED, equation
from anynet.nn.functional._common import as_target, device_of, reduce
from anynet.nn.functional.distance import pairwise_distance
from anynet.nn.functional.losses.margins import hinge
from anynet.ops import elementwise as e
from anynet.ops.activations import softplus
from anynet.ops.creation import asarray
from anynet.ops.linalg import vector_norm
from anynet.ops.manipulation import reshape
from anynet.ops.reductions import any as any_over
from anynet.ops.reductions import sum
from anynet.ops.softmax import logsumexp
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["circle_loss", "cosine_embedding_loss", "triplet_margin_loss", "triplet_margin_with_distance_loss"]


@equation(
    """
        s = sum[k](x1[..., k] * x2[..., k]) / sqrt((sum[k](x1[..., k]**2) + 1e-12) * (sum[k](x2[..., k]**2) + 1e-12))
    """,
    "l = 1 - s if t == 1 else max(0, s - m) if t == -1 else 0",
    REDUCED,
    where="x1[..., K] = input1; x2[..., K] = input2; t = target: 1 or −1; m = margin; reduction",
)
def cosine_embedding_loss(
    input1: ArrayLike, input2: ArrayLike, target: ArrayLike, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """Vectors in one direction where t = 1, and with a cosine of at most the margin where t = −1: x (n, d), t (n,), or
    x (d,), t ().

    Equation:
      s = Σ_k x₁[k] x₂[k] / √((Σ_k x₁[k]² + 1e-12) (Σ_k x₂[k]² + 1e-12))
      l = 1 − s if t = 1, max(0, s − m) if t = −1, else 0
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x₁: input1 (…, K); x₂: input2 (…, K); t: target: 1 or −1; m: margin; reduction)

    >>> import anynet as an
    >>> an.nn.functional.cosine_embedding_loss(an.asarray([[1.0, 0.0]]), an.asarray([[0.0, 1.0]]), an.asarray([1.0]))
    Tensor(1.)
    """
    if len(input1.shape) not in (1, 2) or tuple(input1.shape) != tuple(input2.shape):
        msg = (
            f"cosine_embedding_loss: the inputs must have the same shape (n, d) or (d,), got {tuple(input1.shape)} "
            f"and {tuple(input2.shape)}"
        )
        raise ValueError(msg)
    tiny = 1e-12  # as in PyTorch, added to the squared lengths
    dot = sum(input1 * input2, axis=-1)
    lengths = (sum(input1 * input1, axis=-1) + tiny) * (sum(input2 * input2, axis=-1) + tiny)
    cosine = dot / e.sqrt(lengths)
    target = as_target("cosine_embedding_loss", cosine, target)
    near = e.where(e.equal(target, 1.0), 1.0 - cosine, 0.0)
    return reduce(near + e.where(e.equal(target, -1.0), hinge(cosine - margin), 0.0), reduction)


@equation(
    """
        u = sum[k](abs(a[..., k] - y[..., k] + ε)**p)**(1 / p)
        v = sum[k](abs(a[..., k] - z[..., k] + ε)**p)**(1 / p)
        w = sum[k](abs(y[..., k] - z[..., k] + ε)**p)**(1 / p)
        l = max(0, u - (min(v, w) if swap else v) + m)
    """,
    REDUCED,
    where="""
        a[..., K] = anchor
        y[..., K] = positive
        z[..., K] = negative
        m = margin
        p
        ε = eps
        swap
        reduction
    """,
)
def triplet_margin_loss(
    anchor: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike,
    margin: float = 1.0,
    p: float = 2.0,
    eps: float = 1e-6,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """An anchor a is to be nearer to p than to n by a margin, d the `pairwise_distance`; with `swap` the smaller of
    d(a, n) and d(p, n) counts (Balntas et al. 2016).

    Equation:
      u = (Σ_k |aₖ − yₖ + ε|ᵖ)^(1 / p)
      v = (Σ_k |aₖ − zₖ + ε|ᵖ)^(1 / p)
      w = (Σ_k |yₖ − zₖ + ε|ᵖ)^(1 / p)
      l = max(0, u − (min(v, w) if swap, else v) + m)
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (a: anchor (…, K); y: positive (…, K); z: negative (…, K); m: margin; p; ε: eps; swap; reduction)

    >>> import anynet as an
    >>> an.nn.functional.triplet_margin_loss(an.asarray([[0.0]]), an.asarray([[1.0]]), an.asarray([[3.0]]), margin=4.0, eps=0.0)
    Tensor(2.)
    """
    return triplet_margin_with_distance_loss(
        anchor, positive, negative, distance_function=lambda x, y: pairwise_distance(x, y, p, eps), margin=margin,
        swap=swap, reduction=reduction,
    )  # fmt: skip


@equation(
    "l = max(0, D(a, y) - (min(D(a, z), D(y, z)) if swap else D(a, z)) + m)",
    REDUCED,
    where="""
        a = anchor
        y = positive
        z = negative
        D = distance_function: pairwise_distance unless given
        m = margin
        swap
        reduction
    """,
)
def triplet_margin_with_distance_loss(
    anchor: ArrayLike,
    positive: ArrayLike,
    negative: ArrayLike,
    *,
    distance_function: Callable[..., Any] | None = None,
    margin: float = 1.0,
    swap: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(a, p) − d(a, n) + margin) with a distance function of your own, `pairwise_distance` unless given.

    Equation:
      l = max(0, D(a, y) − (min(D(a, z), D(y, z)) if swap, else D(a, z)) + m)
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (a: anchor; y: positive; z: negative; D: distance_function: pairwise_distance unless given; m: margin; swap; reduction)

    >>> import anynet as an
    >>> an.nn.functional.triplet_margin_with_distance_loss(an.asarray([[0.0]]), an.asarray([[1.0]]), an.asarray([[3.0]]), margin=4.0)
    Tensor(2.)
    """
    if not margin > 0:
        msg = f"triplet_margin_loss: margin must be > 0, got {margin}"
        raise ValueError(msg)
    distance = pairwise_distance if distance_function is None else distance_function
    far = distance(anchor, negative)
    if swap:
        far = e.minimum(far, distance(positive, negative))
    return reduce(hinge(distance(anchor, positive) - far + margin), reduction)


@equation(
    "u[n, k] = x[n, k] / max(norm[k](x[n, k]), 1e-12)",
    "s[i, j] = sum[k](u[i, k] * u[j, k])",
    "P[i] = sum[j, t[i] == t[j], i != j](exp(-γ * max(1 + m - s[i, j], 0) * (s[i, j] - 1 + m)))",
    "N[i] = sum[j, t[i] != t[j]](exp(γ * max(s[i, j] + m, 0) * (s[i, j] - m)))",
    "l[i] = log(1 + P[i] * N[i])",
    REDUCED,
    where="""
        x[B, K] = input: a row for each example
        t[B] = target: classes
        γ = gamma
        m = margin
        reduction
    """,
)
def circle_loss(
    input: ArrayLike, target: ArrayLike, gamma: float = 80.0, margin: float = 0.4, reduction: str = "mean"
) -> Tensor:
    """Each row of `input` (n, features) similar to the rows of its class, dissimilar to the others, by cosines whose
    weights grow with what they lack and are held constant (Sun et al. 2020, equation 6). `target` (n,) holds classes;
    rows without a p or an n give 0.

    Equation:
      u[n, k] = x[n, k] / max(norm_k(x[n, k]), 1e-12)
      s[i, j] = Σ_k u[i, k] u[j, k]
      Pᵢ = Σ_{j, tᵢ = tⱼ, i ≠ j} exp(−γ max(1 + m − s[i, j], 0) (s[i, j] − 1 + m))
      Nᵢ = Σ_{j, tᵢ ≠ tⱼ} exp(γ max(s[i, j] + m, 0) (s[i, j] − m))
      lᵢ = ln(1 + Pᵢ Nᵢ)
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input (B, K): a row for each example; t: target (B): classes; γ: gamma; m: margin; reduction)

    >>> import anynet as an
    >>> x = an.asarray([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    >>> an.nn.functional.circle_loss(x, an.asarray([0, 0, 1])).item() < 1e-3
    True
    """
    if len(input.shape) != 2 or tuple(target.shape) != tuple(input.shape[:1]):
        msg = f"circle_loss: input and target must be (n, features) and (n,), got {tuple(input.shape)} and {tuple(target.shape)}"
        raise ValueError(msg)
    unit = input / e.maximum(vector_norm(input, axis=1, keepdims=True), 1e-12)
    s = unit @ unit.T
    n = input.shape[0]
    same = e.equal(reshape(target, (n, 1)), reshape(target, (1, n)))
    index = asarray(list(range(n)), device=device_of(input))
    others = e.not_equal(reshape(index, (n, 1)), reshape(index, (1, n)))
    positive, negative = e.logical_and(same, others), e.logical_not(same)
    fixed = s.detach()
    low = float("-inf")
    p = e.where(positive, -gamma * e.maximum(1.0 + margin - fixed, 0.0) * (s - (1.0 - margin)), low)
    q = e.where(negative, gamma * e.maximum(fixed + margin, 0.0) * (s - margin), low)
    some = e.logical_and(any_over(positive, axis=1), any_over(negative, axis=1))
    total = logsumexp(e.where(reshape(some, (n, 1)), p, 0.0), axis=1)
    total = total + logsumexp(e.where(reshape(some, (n, 1)), q, 0.0), axis=1)
    return reduce(e.where(some, softplus(total), 0.0), reduction)
