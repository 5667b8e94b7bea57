"""Margin losses, which are 0 once a margin is reached."""

from __future__ import annotations

from typing import Any

from anynet import dtypes
from anynet.autograd.jit.fused import fused
from anynet.equations import REDUCED, REDUCED_GRADIENT, equation
from anynet.nn.functional._common import as_target, bounds, check_values, device_of, reduce
from anynet.nn.functional.losses.classification import class_weight
from anynet.ops import elementwise as e
from anynet.ops.activations import relu, softplus
from anynet.ops.indexing import take_along_axis
from anynet.ops.manipulation import reshape
from anynet.ops.reductions import max as max_over
from anynet.ops.reductions import mean, sum
from anynet.tensor import Tensor, to_plain, unwrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = [
    "categorical_hinge_loss", "hinge_embedding_loss", "hinge_loss", "margin_ranking_loss",
    "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss", "soft_margin_loss",
]  # fmt: skip


def hinge(x: ArrayLike) -> Tensor:
    """max(x, 0) with gradient 1 at 0, as PyTorch's clamp_min: a subgradient."""
    return e.where(e.less(x, 0.0), 0.0, x)


@equation(
    "l = x if t == 1 else max(0, m - x)",
    REDUCED,
    where="x = input; t = target: 1 or −1; m = margin; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx = dl * (1 if t == 1 else -[x < m])",
)
def hinge_embedding_loss(
    input: ArrayLike, target: ArrayLike, margin: float = 1.0, reduction: str = "mean"
) -> Tensor:
    """A distance x, small where t = 1, and at least the margin where t = −1.

    Equation:
      l = x if t = 1, else max(0, m − x)
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input; t: target: 1 or −1; m: margin; reduction)

    >>> import anynet as an
    >>> an.nn.functional.hinge_embedding_loss(an.asarray([1.0, 2.0]), an.asarray([1.0, -1.0]))
    Tensor(0.5)
    """
    target = as_target("hinge_embedding_loss", input, target)
    dissimilar = e.where(e.not_equal(target, 1.0), hinge(margin - input), 0.0)
    return reduce(dissimilar + e.where(e.not_equal(target, -1.0), input, 0.0), reduction)


@equation(
    "l = log(1 + exp(-t * x))",
    REDUCED,
    where="x = input; t = target: 1 or −1; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx = -dl * t * sigmoid(-t * x)",
)
@fused(2)
def soft_margin_loss(input: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Tensor:
    """The logistic loss of scores x, t = ±1.

    Equation:
      l = ln(1 + exp(−t x))
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input; t: target: 1 or −1; reduction)

    >>> import anynet as an
    >>> an.nn.functional.soft_margin_loss(an.asarray([1.0, 2.0]), an.asarray([1.0, -1.0]))
    Tensor(1.2200949)
    """
    target = as_target("soft_margin_loss", input, target)
    return reduce(softplus(-target * input, threshold=float("inf")), reduction)


@equation(
    "l = max(0, -t * (x1 - x2) + m)",
    REDUCED,
    where="x1 = input1; x2 = input2; t = target: 1 or −1; m = margin; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx1 = -dl * t * [l > 0]; dx2 = dl * t * [l > 0]",
)
def margin_ranking_loss(
    input1: ArrayLike, input2: ArrayLike, target: ArrayLike, margin: float = 0.0, reduction: str = "mean"
) -> Tensor:
    """Which of two scores is to be larger, by a margin: t = 1 says that it is x₁.

    Equation:
      l = max(0, −t · (x₁ − x₂) + m)
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x₁: input1; x₂: input2; t: target: 1 or −1; m: margin; reduction)

    >>> import anynet as an
    >>> an.nn.functional.margin_ranking_loss(an.asarray([1.0, 2.0]), an.asarray([0.0, 4.0]), an.asarray([1.0, 1.0]))
    Tensor(1.)
    """
    target = as_target("margin_ranking_loss", input1, target)
    return reduce(
        hinge(-target * (input1 - as_target("margin_ranking_loss", input1, input2)) + margin), reduction
    )


def _class_indices(name: str, input: Any, target: Any) -> tuple[Any, Any]:
    """Rows of scores and the index of each row's class, checked."""
    single = len(input.shape) < 2
    rows = reshape(input, (1, -1)) if single else input
    index = to_plain(target, device=device_of(input))
    xp = backend_of(index)
    if len(rows.shape) != 2 or tuple(index.shape) != (() if single else rows.shape[:1]):
        if not (single and tuple(index.shape) == (1,)):
            msg = f"{name}: input and target must have shapes (n, classes) and (n,), got {tuple(input.shape)} and {tuple(index.shape)}"
            raise ValueError(msg)
    index = xp.reshape(index, (rows.shape[0], 1))
    if not xp.isdtype(index.dtype, "integral"):
        msg = f"{name}: target must hold class indices (integers), got {dtypes.of(index.dtype)}"
        raise TypeError(msg)

    def in_range(found: Any) -> None:
        if bool(backend_of(found).any((found < 0) | (found >= rows.shape[1]))):
            msg = f"{name}: each class of target must be in [0, {rows.shape[1] - 1}], got {bounds(found)}"
            raise IndexError(msg)

    check_values(in_range, index, rows.shape[1])
    return rows, index


@equation(
    "l[n] = w[t[n]] * sum[c, c != t[n]](max(0, m - x[n, t[n]] + x[n, c])**p) / C",
    REDUCED,
    where="x[N, C] = input; t[N] = target: class indices; p; m = margin; w[C] = weight or 1; reduction",
)
def multi_margin_loss(
    input: ArrayLike,
    target: ArrayLike,
    p: int = 1,
    margin: float = 1.0,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
) -> Tensor:
    """The hinge loss of several classes: each other's score is to be below the target's by a margin; x (n, classes) or
    (classes,), t (n,) or () (Crammer, Singer 2001).

    Equation:
      lₙ = w[tₙ] · (Σ_{c, c ≠ tₙ} max(0, m − x[n, tₙ] + x[n, c])ᵖ) / C
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input (N, C); t: target (N): class indices; p; m: margin; w: weight or 1 (C); reduction)

    >>> import anynet as an
    >>> an.nn.functional.multi_margin_loss(an.asarray([[0.5, 0.0]]), an.asarray([0]))
    Tensor(0.25)
    """
    if p not in (1, 2):
        msg = f"multi_margin_loss: p must be 1 or 2, got {p}"
        raise ValueError(msg)
    rows, index = _class_indices("multi_margin_loss", input, target)
    xp = backend_of(index)
    classes = rows.shape[1]
    weight = class_weight("multi_margin_loss", weight, input, classes)
    own = take_along_axis(rows, index, axis=1)
    gap = relu(margin - own + rows)
    if p == 2:
        gap = gap * gap
    if weight is not None:
        gap = gap * xp.reshape(xp.take(weight, xp.reshape(index, (-1,)), axis=0), (-1, 1))
    places = xp.reshape(xp.arange(classes, dtype=index.dtype, device=index.device), (1, classes))
    other = xp.astype(xp.not_equal(places, index), dtypes.native(xp, dtypes.of(unwrap(rows).dtype)))
    loss = sum(gap * other, axis=1) / classes
    return reduce(loss if len(input.shape) == 2 else reshape(loss, ()), reduction)


@equation(
    "u[n, i: C] = [all[j, j <= i](t[n, j] >= 0)]",
    "o[n, c: C] = [any[i](t[n, i] == c and u[n, i] == 1)]",
    "l[n] = sum[i, j](u[n, i] * (1 - o[n, j]) * max(0, 1 - x[n, t[n, i]] + x[n, j])) / C",
    REDUCED,
    where="""
        x[N, C] = input
        t[N, C] = target: class indices up to the first −1
        u: 1 where target lists a class
        o: 1 for the classes that it lists
        reduction
    """,
)
def multilabel_margin_loss(input: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Tensor:
    """The classes that a row of `target` lists (up to the first −1) are to score higher by 1 than those that it does
    not: x and t (n, classes) or (classes,).

    Equation:
      u[n, i] = [all_{j, j ≤ i}(t[n, j] ≥ 0)]  for 0 ≤ i < C
      o[n, c] = [any_i(t[n, i] = c and u[n, i] = 1)]  for 0 ≤ c < C
      lₙ = Σ_{i,j} u[n, i] · (1 − o[n, j]) max(0, 1 − x[n, t[n, i]] + x[n, j]) / C
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input (N, C); t: target (N, C): class indices up to the first −1; u: 1 where target lists a class; o: 1 for the
      classes that it lists; reduction)

    >>> import anynet as an
    >>> an.nn.functional.multilabel_margin_loss(an.asarray([[0.5, 0.0]]), an.asarray([[0, -1]]))
    Tensor(0.25)
    """
    index = to_plain(target, device=device_of(input))
    xp = backend_of(index)
    if tuple(input.shape) != tuple(index.shape) or len(input.shape) > 2:
        msg = (
            f"multilabel_margin_loss: input and target must have the same shape (n, classes) or (classes,), got "
            f"{tuple(input.shape)} and {tuple(index.shape)}"
        )
        raise ValueError(msg)
    if not xp.isdtype(index.dtype, "integral"):
        msg = (
            f"multilabel_margin_loss: target must hold class indices (integers), got {dtypes.of(index.dtype)}"
        )
        raise TypeError(msg)
    single = len(input.shape) < 2
    rows = reshape(input, (1, -1)) if single else input
    n, classes = rows.shape
    index = xp.reshape(index, (n, classes))
    kind = dtypes.native(xp, dtypes.of(unwrap(rows).dtype))
    ended = xp.cumulative_sum(xp.astype(index < 0, xp.int64), axis=1) > 0
    listed = xp.astype(xp.logical_not(ended), kind)
    index = xp.where(ended, xp.zeros_like(index), index)

    def in_range(found: Any) -> None:
        if bool(backend_of(found).any(found >= classes)):
            msg = f"multilabel_margin_loss: each class of target must be in [0, {classes - 1}], got {bounds(found)}"
            raise IndexError(msg)

    check_values(in_range, index, classes)
    places = xp.reshape(xp.arange(classes, dtype=index.dtype, device=index.device), (1, 1, classes))
    hit = xp.astype(xp.equal(xp.expand_dims(index, axis=2), places), kind) * xp.expand_dims(listed, axis=2)
    among = xp.max(hit, axis=1) if classes else xp.zeros((n, 0), dtype=kind, device=index.device)
    own = take_along_axis(rows, index, axis=1)
    gap = relu(1.0 - (reshape(own, (n, classes, 1)) - reshape(rows, (n, 1, classes))))
    both = xp.expand_dims(listed, axis=2) * xp.expand_dims(1 - among, axis=1)
    loss = sum(gap * both, axis=(1, 2)) / (classes or 1)
    return reduce(reshape(loss, ()) if single else loss, reduction)


@equation(
    """
        l = -mean[c](w[c] * (t[..., c] * log(sigmoid(x[..., c])) + (1 - t[..., c]) * log(sigmoid(-x[..., c]))))
    """,
    REDUCED,
    where="x[..., C] = input; t[..., C] = target: 1 or 0; w[C] = weight or 1; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx[..., c] = dl * w[c] * (sigmoid(x[..., c]) - t[..., c]) / C",
)
def multilabel_soft_margin_loss(
    input: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, reduction: str = "mean"
) -> Tensor:
    """Binary cross-entropy of each class's logit, the mean over the last axis, t of 0 and 1.

    Equation:
      l = −mean_c(w[c] · (t[c] ln(σ(x[c])) + (1 − t[c]) ln(σ(−x[c]))))
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input (…, C); t: target (…, C): 1 or 0; w: weight or 1 (C); reduction)

    >>> import anynet as an
    >>> an.nn.functional.multilabel_soft_margin_loss(an.zeros((1, 2)), an.asarray([[1.0, 0.0]]))
    Tensor(0.6931472)
    """
    target = as_target("multilabel_soft_margin_loss", input, target)
    loss = target * softplus(-input, threshold=float("inf")) + (1 - target) * softplus(
        input, threshold=float("inf")
    )
    if weight is not None:
        loss = loss * weight
    return reduce(mean(loss, axis=-1), reduction)


@equation(
    "s = -1 if t == 0 else t",
    "l = max(0, 1 - s * x)**p",
    REDUCED,
    where="x = input; t = target: 1, or −1 or 0; p = p or 1; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx = -dl * s * p * [s * x < 1] * (1 - s * x)**(p - 1)",
)
def hinge_loss(input: ArrayLike, target: ArrayLike, p: int = 1, reduction: str = "mean") -> Tensor:
    """Scores x on the right side by at least 1: t = ±1, 0 standing for −1 too; p is 1 or 2 (Cortes & Vapnik 1995).

    Equation:
      s = −1 if t = 0, else t
      l = max(0, 1 − s x)ᵖ
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input; t: target: 1, or −1 or 0; p: or 1; reduction)

    >>> import anynet as an
    >>> an.nn.functional.hinge_loss(an.asarray([0.5, -2.0]), an.asarray([1.0, -1.0]), reduction="none").tolist()
    [0.5, 0.0]
    """
    if p not in (1, 2):
        msg = f"hinge_loss: p must be 1 or 2, got {p}"
        raise ValueError(msg)
    target = as_target("hinge_loss", input, target)
    gap = relu(1.0 - e.where(e.equal(target, 0.0), -1.0, target) * input)
    return reduce(gap * gap if p == 2 else gap, reduction)


@equation(
    "l = max(0, 1 + max[c]((1 - t[..., c]) * x[..., c]) - sum[c](t[..., c] * x[..., c]))",
    REDUCED,
    where="x[..., C] = input; t[..., C] = target: one-hot; reduction",
)
def categorical_hinge_loss(input: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Tensor:
    """The right class's score above the highest other one by 1, for each row of x and t (…, classes), t one-hot.

    Equation:
      l = max(0, 1 + max_c((1 − t[c]) x[c]) − Σ_c t[c] x[c])
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input (…, C); t: target (…, C): one-hot; reduction)

    >>> import anynet as an
    >>> an.nn.functional.categorical_hinge_loss(an.asarray([[2.0, 1.5]]), an.asarray([[1.0, 0.0]])).item()
    0.5
    """
    target = as_target("categorical_hinge_loss", input, target)
    own, other = sum(target * input, axis=-1), max_over((1.0 - target) * input, axis=-1)
    return reduce(relu(other - own + 1.0), reduction)
