"""Losses of classes and probabilities: cross-entropies, and measures of overlap."""

from __future__ import annotations

import math
from typing import Any, Final

from anynet import dtypes
from anynet.autograd.broadcasting import cast_to, widened
from anynet.autograd.dispatch import DeviceError
from anynet.autograd.jit.fused import fused
from anynet.autograd.vmap import each, is_batched
from anynet.equations import REDUCED, REDUCED_GRADIENT, equation
from anynet.nn.functional._common import (
    as_target,
    check_same_shape,
    check_values,
    device_of,
    readable,
    reduce,
)
from anynet.ops import elementwise as e
from anynet.ops.indexing import flat_positions, gather_rows
from anynet.ops.linear import linear
from anynet.ops.losses import (
    binary_cross_entropy_,
    cross_entropy_rows,
    divide_by_count,
    logit_cross_entropy,
    nll_rows,
)
from anynet.ops.manipulation import moveaxis, reshape
from anynet.ops.reductions import mean, sum
from anynet.ops.softmax import log_softmax
from anynet.tensor import Tensor, to_plain, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = [
    "binary_cross_entropy", "binary_cross_entropy_with_logits", "binary_focal_loss", "cross_entropy",
    "dice_loss", "focal_loss", "kl_div", "linear_cross_entropy", "nll_loss", "token_cross_entropy", "tversky_loss",
]  # fmt: skip


def _rows(x: Any) -> Any:
    """(n, classes, d1, …) → (n · d1 · …, classes); (classes,) → (1, classes)."""
    if len(x.shape) == 1:
        return reshape(x, (1, x.shape[0]))
    return x if len(x.shape) == 2 else reshape(moveaxis(x, 1, -1), (-1, x.shape[1]))


def class_weight(name: str, weight: ArrayLike | None, input: ArrayLike, classes: int) -> Any:
    if weight is None:
        return None
    weight = unwrap(weight)
    if tuple(weight.shape) != (classes,):
        msg = f"{name}: weight must have shape ({classes},), one number a class, got {tuple(weight.shape)}"
        raise ValueError(msg)
    xp = backend_of(weight)
    return xp.astype(weight, dtypes.native(xp, unwrap(input).dtype))


def _indices(
    name: str, target: Any, shape: tuple[int, ...], classes: int, ignore_index: int, device: str
) -> tuple[Any, bool]:
    """Class indices as a flat plain array, checked, with a negative number for those to ignore, −1 where values are read on the host; and
    whether none is known to be."""
    plain = to_plain(target, device=None if hasattr(target, "shape") else device)
    xp = backend_of(plain)
    if xp.device_of(plain) != device:
        msg = f"{name}: input on {device!r}, target on {xp.device_of(plain)!r}; move one with .to(device)"
        raise DeviceError(msg)
    expected = (shape[0], *shape[2:]) if len(shape) > 1 else ()
    if tuple(plain.shape) != expected:
        msg = f"{name}: class indices for an input of shape {shape} must have shape {expected}, got {tuple(plain.shape)}"
        if tuple(plain.shape) == (*expected, 1):
            msg += "; take the axis away: y[..., 0]"
        if tuple(plain.shape) == shape[:-1]:  # as of a model of texts
            msg += (
                "; the classes are axis 1: permute the output, or, where they are the last axis, as of a language model, take "
                "token_cross_entropy"
            )
        raise ValueError(msg)
    if not xp.isdtype(plain.dtype, "integral"):
        got = dtypes.of(plain.dtype)
        msg = f"{name}: class indices must be integers, got {got}; probabilities must have the shape of the input, {shape}"
        raise TypeError(msg)
    flat = xp.astype(xp.reshape(plain, (-1,)), xp.int64, copy=False)

    def in_range(found: Any) -> None:
        here = backend_of(found)
        wrong = here.logical_and(found != ignore_index, here.logical_or(found < 0, found >= classes))
        if bool(here.any(wrong)):
            bad = int(found[here.argmax(here.astype(wrong, here.int64))])
            msg = f"{name}: class index {bad} is out of range for {classes} classes"
            raise IndexError(msg)

    if not readable(flat):
        check_values(in_range, flat, classes, ignore_index)
        if (
            ignore_index < 0 and not xp.values_are_cheap_to_read
        ):  # all others are right, or an error that is still to be raised
            return flat, False
    elif 0 not in flat.shape:
        least, most = int(xp.min(flat)), int(xp.max(flat))
        if least >= 0 and most < classes and not 0 <= ignore_index < classes:
            return flat, True
        if least < (-1 if ignore_index == -1 else 0) or most >= classes:
            in_range(flat)
        elif ignore_index == -1:
            return flat, False
    return xp.where(flat == ignore_index, -1, flat), False


@equation(
    """
        z[n, c, i] = x[n, c, i] - log(sum[j](exp(x[n, j, i])))
        q[n, c: C, i] = (1 - s) * (p[n, c, i] if k == K else [t[n, i] == c]) + s / C
        l[n, i] = -sum[c](q[n, c, i] * w[c] * z[n, c, i]) if k == K or t[n, i] != ignore_index else 0
        W = size(l) if k == K else sum[n, i]([t[n, i] != ignore_index] * w[t[n, i]])
        L = sum(l) / W if reduction == "mean" else sum(l) if reduction == "sum" else l
    """,
    where="""
        x[N, C, I*] = input: scores
        t[N, I*] = target of integers or 0
        p[N, C, I*] = target of floats or 0
        k = target.ndim
        K = input.ndim
        w[C] = weight or 1
        s = label_smoothing
        ignore_index
        reduction
    """,
    gradient="""
        dl = 1 / W if reduction == "mean" else 1
        dx[n, c, i] = dl * (exp(z[n, c, i]) * sum[j](q[n, j, i] * w[j]) - q[n, c, i] * w[c]) * [k == K or t[n, i] != ignore_index]
        dp[n, c, i] = -dl * (1 - s) * w[c] * z[n, c, i]
    """,
)
def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """The negative logarithm of the target's probability, that of the softmax of the scores.

    input: scores (n, classes), (n, classes, d1, …) or (classes,). target: class indices (n, d1, …), or probabilities of
    the input's shape. `weight` (classes,) weighs the classes; indices equal to `ignore_index` count nothing. With
    `label_smoothing` a share of the target is spread over all classes (Szegedy et al. 2016). The mean is over the
    weights of the targets.

    Equation:
      z[n, c, i] = x[n, c, i] − ln(Σ_j exp(x[n, j, i]))
      q[n, c, i] = (1 − s) (p[n, c, i] if k = K, else [t[n, i] = c]) + s / C  for 0 ≤ c < C
      l[n, i] = −Σ_c q[n, c, i] w[c] z[n, c, i] if k = K or t[n, i] ≠ ignore_index, else 0
      W = size(l) if k = K, else Σ_{n,i} [t[n, i] ≠ ignore_index] w[t[n, i]]
      L = Σ l / W if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input (N, C, I): scores; t: target of integers or 0 (N, I); p: target of floats or 0 (N, C, I); k: target.ndim; K:
      input.ndim; w: weight or 1 (C); s: label_smoothing; ignore_index; reduction)

    >>> import anynet as an
    >>> an.nn.functional.cross_entropy(an.asarray([[0.0, 0.0]]), an.asarray([1]))
    Tensor(0.6931472)
    """
    if not dtypes.of(input.dtype).is_floating:
        msg = f"cross_entropy: the input must be floating-point scores, got {dtypes.of(input.dtype)}; use anynet.astype(x, anynet.float32)"
        raise TypeError(msg)
    if is_batched(target) and not target.dtype.is_floating:  # inside vmap
        return each(cross_entropy, input, target, weight, ignore_index, reduction, label_smoothing)
    shape = tuple(input.shape)
    if not shape:
        msg = "cross_entropy: input must be (classes,), (n, classes) or (n, classes, d1, …), got a scalar"
        raise ValueError(msg)
    if not 0.0 <= label_smoothing <= 1.0:
        msg = f"cross_entropy: label_smoothing must be in [0, 1], got {label_smoothing}"
        raise ValueError(msg)
    classes = shape[1] if len(shape) > 1 else shape[0]
    w = class_weight("cross_entropy", weight, input, classes)
    if not hasattr(target, "shape"):
        target = to_plain(target, device=device_of(input))
    kind = dtypes.of(unwrap(target).dtype)
    if tuple(target.shape) == shape and kind.is_floating:
        if ignore_index >= 0:
            msg = (
                f"cross_entropy: ignore_index={ignore_index} is for class indices, but the target holds probabilities; "
                "give such rows a weight of 0 in reduction='none'"
            )
            raise ValueError(msg)
        q = _rows(as_target("cross_entropy", input, target))
        if label_smoothing:
            q = q * (1 - label_smoothing) + label_smoothing / classes
        if w is not None:
            q = q * w
        losses = -sum(q * log_softmax(_rows(input), axis=1), axis=1)
    else:
        index, all_count = _indices("cross_entropy", target, shape, classes, ignore_index, device_of(input))
        if label_smoothing or not _by_planes(input):
            losses = cross_entropy_rows(_rows(input), *_given(index, w), smoothing=float(label_smoothing))
        else:
            losses = _nll(log_softmax(input, axis=1), index, w)
        if reduction == "mean":
            return mean(losses) if all_count and w is None else _weighted_mean(losses, index, w)
    if reduction == "none":
        return reshape(losses, (shape[0], *shape[2:]) if len(shape) > 1 else ())
    return reduce(losses, reduction)


@equation(
    """
        z[..., c] = x[..., c] - log(sum[j](exp(x[..., j])))
        q[..., c: C] = (1 - s) * (p[..., c] if k == K else [t == c]) + s / C
        l = -sum[c](q[..., c] * w[c] * z[..., c]) if k == K or t != ignore_index else 0
        W = size(l) if k == K else sum([t != ignore_index] * w[t])
        L = sum(l) / W if reduction == "mean" else sum(l) if reduction == "sum" else l
    """,
    where="""
        x[..., C] = input: scores
        t = target of integers or 0
        p[..., C] = target of floats or 0
        k = target.ndim
        K = input.ndim
        w[C] = weight or 1
        s = label_smoothing
        ignore_index
        reduction
    """,
    gradient="""
        dl = 1 / W if reduction == "mean" else 1
        dx[..., c] = dl * (exp(z[..., c]) * sum[j](q[..., j] * w[j]) - q[..., c] * w[c]) * [k == K or t != ignore_index]
        dp[..., c] = -dl * (1 - s) * w[c] * z[..., c]
    """,
)
def token_cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """`cross_entropy` with the classes along the last axis, as language models have them: input (…, classes), target (…) of class
    indices, or probabilities of the input's shape. The options are the same; with ``reduction="none"`` the losses are (…).

    Equation:
      z[c] = x[c] − ln(Σ_j exp(xⱼ))
      q[c] = (1 − s) (p[c] if k = K, else [t = c]) + s / C  for 0 ≤ c < C
      l = −Σ_c q[c] w[c] z[c] if k = K or t ≠ ignore_index, else 0
      W = size(l) if k = K, else Σ ([t ≠ ignore_index] wₜ)
      L = Σ l / W if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input (…, C): scores; t: target of integers or 0; p: target of floats or 0 (…, C); k: target.ndim; K: input.ndim; w:
      weight or 1 (C); s: label_smoothing; ignore_index; reduction)

    >>> import anynet as an
    >>> an.nn.functional.token_cross_entropy(an.zeros((2, 5, 4)), an.zeros((2, 5), dtype=an.int64))
    Tensor(1.386294)
    """
    shape = tuple(input.shape)
    if not shape:
        msg = "token_cross_entropy: input must be (…, classes), got a scalar"
        raise ValueError(msg)
    if not hasattr(target, "shape"):
        target = to_plain(target, device=device_of(input))
    if tuple(target.shape) not in (shape, shape[:-1]):
        msg = f"token_cross_entropy: class indices for an input of shape {shape} must have shape {shape[:-1]}, got {tuple(target.shape)}"
        raise ValueError(msg)
    flat = reshape(target, (-1,) if tuple(target.shape) == shape[:-1] else (-1, shape[-1]))
    rows = reshape(input, (-1, shape[-1]))
    losses = cross_entropy(rows, flat, weight, ignore_index, reduction, label_smoothing)
    return reshape(losses, shape[:-1]) if reduction == "none" else losses


_LARGE: Final = 1 << 14
"""Numbers from which on a copy takes longer than the calls that do without."""


def _by_planes(x: Any) -> bool:
    """Whether all pixels of one class lie one after the other, so that rows of classes would be a copy, and there are many."""
    shape, plain = x.shape, unwrap(x)
    return (
        len(shape) > 2
        and math.prod(shape) >= _LARGE
        and not is_batched(x)
        and backend_of(plain).lies_in_order(plain)
    )


def _nll(x: Any, index: Any, weight: Any) -> Any:
    """−w_t x_t for each place of x (n, classes, d1, …), t its index in the flat `index`; 0 where that is negative."""
    if not _by_planes(x):
        return nll_rows(_rows(x), *_given(index, weight))
    xp = backend_of(index)
    shape = (x.shape[0], *x.shape[2:])
    safe = xp.where(index < 0, xp.zeros_like(index), index)
    places = flat_positions(xp.reshape(safe, (shape[0], 1, *shape[1:])), 1, x.shape)
    losses = -gather_rows(reshape(x, (-1,)), index=places)
    if weight is not None:
        losses = losses * wrap(xp.take(weight, safe, axis=0))
    return e.where(wrap(index < 0), 0.0, losses)


def _weighted_mean(losses: Any, index: Any, weight: Any) -> Any:
    if weight is None:
        return _counted_mean(losses, wrap(index))
    xp = backend_of(index)
    narrow, losses = dtypes.of(unwrap(losses).dtype), widened(losses)
    weight = unwrap(widened(weight))
    safe = xp.where(index < 0, xp.zeros_like(index), index)
    live = xp.where(index < 0, xp.zeros_like(xp.take(weight, safe, axis=0)), xp.take(weight, safe, axis=0))
    return _narrowed(_over(sum(losses), xp.sum(live)), narrow)


@fused(2)
def _counted_mean(losses: Any, index: Any) -> Any:
    """The mean over the rows whose index is not negative."""
    index = unwrap(index)
    narrow, losses = dtypes.of(unwrap(losses).dtype), widened(losses)
    xp = backend_of(index)
    return _narrowed(_over(sum(losses), xp.sum(xp.astype(index >= 0, unwrap(losses).dtype))), narrow)


def _over(total: Any, count: Any) -> Any:
    """total / count; where all targets are ignored NaN, without a warning."""
    xp = backend_of(count)
    count = xp.where(count == 0, xp.full_like(count, float("nan")), count)
    return divide_by_count(total, count if type(count) is xp.array_type else xp.asarray(count))


def _narrowed(loss: Any, dtype: Any) -> Tensor:
    return loss if dtypes.of(unwrap(loss).dtype) is dtype else cast_to(loss, dtype=dtype)


def _given(index: Any, weight: Any) -> tuple[Any, ...]:
    return (index,) if weight is None else (index, weight)


@equation(
    """
        l[n, i] = -w[t[n, i]] * x[n, t[n, i], i] if t[n, i] != ignore_index else 0
        W = sum[n, i]([t[n, i] != ignore_index] * w[t[n, i]])
        L = sum(l) / W if reduction == "mean" else sum(l) if reduction == "sum" else l
    """,
    where="""
        x[N, C, I*] = input: logarithms of probabilities
        t[N, I*] = target: class indices
        w[C] = weight or 1
        ignore_index
        reduction
    """,
    gradient="""
        dl = 1 / W if reduction == "mean" else 1
        dx[n, c: C, i] = -dl * [t[n, i] == c] * w[c] * [t[n, i] != ignore_index]
    """,
)
def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """The negative log-likelihood of class indices t under log-probabilities x (n, classes, d1, …).

    Equation:
      l[n, i] = −w[t[n, i]] x[n, t[n, i], i] if t[n, i] ≠ ignore_index, else 0
      W = Σ_{n,i} [t[n, i] ≠ ignore_index] w[t[n, i]]
      L = Σ l / W if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input (N, C, I): logarithms of probabilities; t: target (N, I): class indices; w: weight or 1 (C); ignore_index;
      reduction)

    >>> import anynet as an
    >>> an.nn.functional.nll_loss(an.asarray([[-1.0, -2.0]]), an.asarray([1]))
    Tensor(2.)
    """
    if is_batched(target):  # inside vmap
        return each(nll_loss, input, target, weight, ignore_index, reduction)
    shape = tuple(input.shape)
    if not shape:
        msg = "nll_loss: input must be (classes,), (n, classes) or (n, classes, d1, …), got a scalar"
        raise ValueError(msg)
    classes = shape[1] if len(shape) > 1 else shape[0]
    w = class_weight("nll_loss", weight, input, classes)
    index, all_count = _indices("nll_loss", target, shape, classes, ignore_index, device_of(input))
    losses = _nll(input, index, w)
    if reduction == "mean":
        return mean(losses) if all_count and w is None else _weighted_mean(losses, index, w)
    if reduction == "none":
        return reshape(losses, (shape[0], *shape[2:]) if len(shape) > 1 else ())
    return reduce(losses, reduction)


def _weighted(loss: Any, weight: Any, reduction: str) -> Tensor:
    return reduce(loss if weight is None else loss * weight, reduction)


@equation(
    "l = -w * (t * max(log(x), -100) + (1 - t) * max(log(1 - x), -100))",
    REDUCED,
    where="x = input: probabilities; t = target; w = weight or 1; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx = dl * w * (x - t) / (x * (1 - x))",
)
def binary_cross_entropy(
    input: ArrayLike, target: ArrayLike, weight: ArrayLike | None = None, reduction: str = "mean"
) -> Tensor:
    """Cross-entropy of probabilities and targets in [0, 1], the logarithms limited to −100 from below as in PyTorch.
    Shapes equal.

    Equation:
      l = −w · (t max(ln(x), −100) + (1 − t) max(ln(1 − x), −100))
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input: probabilities; t: target; w: weight or 1; reduction)

    >>> import anynet as an
    >>> an.nn.functional.binary_cross_entropy(an.asarray([0.5, 0.5]), an.asarray([1.0, 0.0]))
    Tensor(0.6931472)
    """
    target = as_target("binary_cross_entropy", input, target)

    def probabilities(found: Any) -> None:
        here = backend_of(found)
        if not bool(here.all(here.logical_and(found >= 0, found <= 1))):
            msg = (
                "binary_cross_entropy: input must be probabilities in [0, 1], got "
                f"{float(here.min(found)):.4g} to {float(here.max(found)):.4g}; for logits use "
                "binary_cross_entropy_with_logits"
            )
            raise ValueError(msg)

    check_values(probabilities, unwrap(input))
    return _weighted(binary_cross_entropy_(input, target), weight, reduction)


@equation(
    "l = w * ((1 - t) * x + (1 + (p - 1) * t) * log(1 + exp(-x)))",
    REDUCED,
    where="x = input: logits; t = target; w = weight or 1; p = pos_weight or 1; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx = dl * w * ((1 - t) - (1 + (p - 1) * t) * (1 - sigmoid(x)))",
)
@fused(2)
def binary_cross_entropy_with_logits(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
    pos_weight: ArrayLike | None = None,
) -> Tensor:
    """Binary cross-entropy of σ(x), computed from the logits x without overflow; `pos_weight` is the weight of positive
    targets. Shapes equal.

    Equation:
      l = w · ((1 − t) x + (1 + (p − 1) t) ln(1 + e⁻ˣ))
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input: logits; t: target; w: weight or 1; p: pos_weight or 1; reduction)

    >>> import anynet as an
    >>> an.nn.functional.binary_cross_entropy_with_logits(an.zeros(2), an.asarray([1.0, 0.0]))
    Tensor(0.6931472)
    """
    target = as_target("binary_cross_entropy_with_logits", input, target)
    loss = (
        logit_cross_entropy(input, target)
        if pos_weight is None
        else logit_cross_entropy(input, target, pos_weight)
    )
    return _weighted(loss, weight, reduction)


@equation(
    "l = exp(t) * (t - x) if log_target else 0 if t == 0 else t * (log(t) - x)",
    """
        L = sum(l) / N if reduction == "batchmean" else mean(l) if reduction == "mean" else sum(l) if reduction == "sum"
            else l
    """,
    where="""
        x[N, D*] = input: logarithms of probabilities
        t[N, D*] = target: probabilities
        log_target
        reduction
    """,
    gradient="""
        dl = 1 / N if reduction == "batchmean" else 1 / size(l) if reduction == "mean" else 1
        dx = -dl * (exp(t) if log_target else t)
    """,
)
def kl_div(input: ArrayLike, target: ArrayLike, reduction: str = "mean", log_target: bool = False) -> Tensor:
    """The Kullback-Leibler divergence of probabilities t from logarithms of probabilities x, 0 (and without gradient)
    where t is 0; with `log_target` the target is a logarithm too. ``reduction="batchmean"`` is the sum over the length
    of the first axis, the divergence of the definition; "mean" is over all elements.

    Equation:
      l = eᵗ · (t − x) if log_target, 0 if t = 0, else t · (ln(t) − x)
      L = Σ l / N if reduction = "batchmean", mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input (N, D): logarithms of probabilities; t: target (N, D): probabilities; log_target; reduction)

    >>> import anynet as an
    >>> an.nn.functional.kl_div(an.log(an.asarray([[0.5, 0.5]])), an.asarray([[0.75, 0.25]]), reduction="batchmean")
    Tensor(0.130812)
    """
    target = as_target("kl_div", input, target)
    none = e.equal(target, float("-inf") if log_target else 0.0)  # a probability of 0
    target, input = e.where(none, 0.0 if log_target else 1.0, target), e.where(none, 0.0, input)
    loss = e.exp(target) * (target - input) if log_target else target * (e.log(target) - input)
    loss = e.where(none, 0.0, loss)
    if reduction == "batchmean":
        total = sum(widened(loss)) / (input.shape[0] if len(input.shape) else 1)
        return _narrowed(total, dtypes.of(unwrap(loss).dtype))
    return reduce(loss, reduction)


@equation(
    "L = 1 - (2 * sum(x * t) + ε) / (sum(x) + sum(t) + ε)",
    where="x = input: probabilities; t = target; ε = smooth: the sums run over `dim`, here over all axes",
    gradient="s = sum(x) + sum(t) + ε; dx = (2 * sum(x * t) + ε) / s**2 - 2 * t / s",
)
def dice_loss(
    input: ArrayLike,
    target: ArrayLike,
    dim: int | tuple[int, ...] | None = None,
    smooth: float = 1e-7,
    reduction: str = "mean",
) -> Tensor:
    """1 less the Dice coefficient of probabilities and targets of one shape, summed over the axes `dim` (all of them unless
    given) (Milletari et al. 2016).

    Equation:
      L = 1 − (2 · (Σ (x t)) + ε) / (Σ x + Σ t + ε)
      (x: input: probabilities; t: target; ε: smooth: the sums run over `dim`, here over all axes)

    >>> import anynet as an
    >>> round(an.nn.functional.dice_loss(an.asarray([1.0, 0.0]), an.asarray([1.0, 1.0]), smooth=0.0).item(), 4)
    0.3333
    """
    check_same_shape("dice_loss", input, target)
    both = sum(input * target, axis=dim)
    return reduce(
        1.0 - (2.0 * both + smooth) / (sum(input, axis=dim) + sum(target, axis=dim) + smooth), reduction
    )


@equation(
    "P = sum(x * t); F = sum(x * (1 - t)); M = sum((1 - x) * t); L = 1 - (P + ε) / (P + α * F + β * M + ε)",
    where="""
        x = input: probabilities
        t = target
        α = alpha
        β = beta
        ε = smooth: the sums run over `dim`, here over all axes
    """,
    gradient="s = P + α * F + β * M + ε; dx = ((t + α * (1 - t) - β * t) * (P + ε) - t * s) / s**2",
)
def tversky_loss(
    input: ArrayLike,
    target: ArrayLike,
    alpha: float = 0.5,
    beta: float = 0.5,
    dim: int | tuple[int, ...] | None = None,
    smooth: float = 1e-7,
    reduction: str = "mean",
) -> Tensor:
    """The Dice loss with weights: α of what is wrongly found (F), β of what is missed (M), summed over the axes `dim`
    (Salehi et al. 2017); α = β = ½ is the Dice loss.

    Equation:
      P = Σ (x t)
      F = Σ (x · (1 − t))
      M = Σ ((1 − x) t)
      L = 1 − (P + ε) / (P + α F + β M + ε)
      (x: input: probabilities; t: target; α: alpha; β: beta; ε: smooth: the sums run over `dim`, here over all axes)

    >>> import anynet as an
    >>> an.nn.functional.tversky_loss(an.asarray([1.0, 0.0]), an.asarray([1.0, 1.0]), beta=1.0, smooth=0.0).item()
    0.5
    """
    check_same_shape("tversky_loss", input, target)
    hits = sum(input * target, axis=dim)
    false = sum(input * (1.0 - target), axis=dim)
    missed = sum((1.0 - input) * target, axis=dim)
    return reduce(1.0 - (hits + smooth) / (hits + alpha * false + beta * missed + smooth), reduction)


@equation(
    "p = sigmoid(x)",
    "q = p * t + (1 - p) * (1 - t)",
    "a = α * t + (1 - α) * (1 - t) if α > 0 else 1",
    "l = -a * (1 - q)**γ * (t * log(p) + (1 - t) * log(1 - p))",
    REDUCED,
    where="x = input: logits; t = target; α = alpha or 0: 0 where there is none; γ = gamma; reduction",
)
def binary_focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    alpha: float | None = None,
    gamma: float = 2.0,
    reduction: str = "mean",
) -> Tensor:
    """Binary cross-entropy of logits, in which what is already right counts less, the more the larger γ (for targets
    between 0 and 1 too); `alpha` weighs the two classes with α and 1 − α (Lin et al. 2017).

    Equation:
      p = σ(x)
      q = p t + (1 − p) (1 − t)
      a = α t + (1 − α) (1 − t) if α > 0, else 1
      l = −a · (1 − q)^γ · (t ln(p) + (1 − t) ln(1 − p))
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input: logits; t: target; α: alpha or 0: 0 where there is none; γ: gamma; reduction)

    >>> import anynet as an
    >>> round(an.nn.functional.binary_focal_loss(an.asarray([0.0]), an.asarray([1.0])).item(), 6)  # log 2 / 4
    0.173287
    """
    check_same_shape("binary_focal_loss", input, target)
    p = 1.0 / (1.0 + e.exp(-input))
    right = p * target + (1.0 - p) * (1.0 - target)
    loss = logit_cross_entropy(input, target) * (1.0 - right) ** gamma
    if alpha is not None:
        loss = loss * (alpha * target + (1.0 - alpha) * (1.0 - target))
    return reduce(loss, reduction)


@equation(
    """
        z[n, c, i] = x[n, c, i] - log(sum[k](exp(x[n, k, i])))
        p[n, i] = exp(z[n, t[n, i], i])
        l[n, i] = -α[t[n, i]] * (1 - p[n, i])**γ * z[n, t[n, i], i] if t[n, i] != ignore_index else 0
        L = sum(l) / sum[n, i]([t[n, i] != ignore_index]) if reduction == "mean" else sum(l) if reduction == "sum" else
            l
    """,
    where="""
        x[N, C, I*] = input: scores
        t[N, I*] = target: class indices
        α[C] = alpha or 1
        γ = gamma
        ignore_index
        reduction
    """,
)
def focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    alpha: ArrayLike | None = None,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy in which what is already right counts less, the more the larger γ: x (n, classes, …), target (n, …)
    of classes; `alpha` a weight for each class (Lin et al. 2017). Targets of `ignore_index` count for nothing; the mean
    is over the others.

    Equation:
      z[n, c, i] = x[n, c, i] − ln(Σ_k exp(x[n, k, i]))
      p[n, i] = exp(z[n, t[n, i], i])
      l[n, i] = −α[t[n, i]] · (1 − p[n, i])^γ z[n, t[n, i], i] if t[n, i] ≠ ignore_index, else 0
      L = Σ l / (Σ_{n,i} [t[n, i] ≠ ignore_index]) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input (N, C, I): scores; t: target (N, I): class indices; α: alpha or 1 (C); γ: gamma; ignore_index; reduction)

    >>> import anynet as an
    >>> x = an.asarray([[0.0, 0.0]])
    >>> round(an.nn.functional.focal_loss(x, an.asarray([1])).item(), 6)
    0.173287
    """
    if reduction not in ("mean", "sum", "none"):
        reduce(input, reduction)
    plain = cross_entropy(input, target, ignore_index=ignore_index, reduction="none")
    weighted = plain if alpha is None else cross_entropy(
        input, target, weight=alpha, ignore_index=ignore_index, reduction="none"
    )  # fmt: skip
    loss = weighted * (1.0 - e.exp(-plain)) ** gamma
    if reduction != "mean":
        return reduce(loss, reduction)
    count = sum(cast_to(e.not_equal(target, ignore_index), dtype=dtypes.of(unwrap(loss).dtype)))
    return sum(loss) / count


@equation(
    "y[n, c] = sum[j](W[c, j] * x[n, j]) + b[c]",
    "z[n, c] = y[n, c] - log(sum[k](exp(y[n, k])))",
    "q[n, c: C] = (1 - s) * [t[n] == c] + s / C",
    "l[n] = -sum[c](q[n, c] * w[c] * z[n, c]) if t[n] != ignore_index else 0",
    "V = sum[n]([t[n] != ignore_index] * w[t[n]])",
    'L = sum(l) / V if reduction == "mean" else sum(l) if reduction == "sum" else l',
    where="""
        x[N, J] = input
        W[C, J] = linear_weight
        b[C] = linear_bias or 0
        t[N] = target: class indices
        w[C] = weight or 1
        s = label_smoothing
        ignore_index = ignore_index or -100
        reduction
    """,
    gradient="""
        dl = 1 / V if reduction == "mean" else 1
        dy[n, c] = dl * (exp(z[n, c]) * sum[k](q[n, k] * w[k]) - q[n, c] * w[c]) * [t[n] != ignore_index]
        dx[n, j] = sum[c](dy[n, c] * W[c, j])
        dW[c, j] = sum[n](dy[n, c] * x[n, j])
        db[c] = sum[n](dy[n, c])
    """,
)
def linear_cross_entropy(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    reduction: str = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    options: None = None,
) -> Tensor:
    """cross_entropy(linear(input, linear_weight, linear_bias), target): logits and loss in one call.

    linear_weight (classes, in), or (classes, d1, …, in) for logits (n, classes, d1, …), linear_bias (classes, d1, …).
    `options` is there for PyTorch's signature: chunks are not offered, only None is taken.

    Equation:
      y[n, c] = Σ_j W[c, j] x[n, j] + b[c]
      z[n, c] = y[n, c] − ln(Σ_k exp(y[n, k]))
      q[n, c] = (1 − s) · [tₙ = c] + s / C  for 0 ≤ c < C
      lₙ = −Σ_c q[n, c] w[c] z[n, c] if tₙ ≠ ignore_index, else 0
      V = Σ_n [tₙ ≠ ignore_index] w[tₙ]
      L = Σ l / V if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input (N, J); W: linear_weight (C, J); b: linear_bias or 0 (C); t: target (N): class indices; w: weight or 1 (C); s:
      label_smoothing; ignore_index: or -100; reduction)

    >>> import anynet as an
    >>> x, w = an.ones((2, 3)), an.zeros((4, 3))
    >>> round(an.nn.functional.linear_cross_entropy(x, w, an.asarray([0, 3])).item(), 6)  # log 4
    1.386294
    """
    if options is not None:
        msg = f"linear_cross_entropy: options must be None, got {options!r}: PyTorch's way of working in chunks is not offered"
        raise NotImplementedError(msg)
    form = tuple(linear_weight.shape)
    if len(form) > 2:
        if len(input.shape) != 2:
            msg = f"linear_cross_entropy: input must be (n, {form[-1]}) for a weight of shape {form}, got {tuple(input.shape)}"
            raise ValueError(msg)
        linear_weight = reshape(linear_weight, (-1, form[-1]))
        linear_bias = None if linear_bias is None else reshape(linear_bias, (-1,))
    logits = linear(input, linear_weight, linear_bias)
    if len(form) > 2:
        logits = reshape(logits, (input.shape[0], *form[:-1]))
    elif len(logits.shape) > 2:
        logits = moveaxis(logits, -1, 1)
    return cross_entropy(
        logits, target, weight=weight, ignore_index=-100 if ignore_index is None else ignore_index,
        reduction=reduction, label_smoothing=label_smoothing,
    )  # fmt: skip
