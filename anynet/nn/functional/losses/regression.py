"""Losses of numbers: squared, absolute and relative errors, and likelihoods of counts and normal variables."""

from __future__ import annotations

from typing import Any

from anynet import dtypes
from anynet.autograd.jit.fused import fused
from anynet.equations import REDUCED, REDUCED_GRADIENT, equation
from anynet.nn.functional._common import as_target, check_same_shape, check_values, device_of, reduce
from anynet.ops import elementwise as e
from anynet.ops.activations import softplus
from anynet.ops.creation import asarray
from anynet.ops.losses import (
    huber,
    squared_error,
)
from anynet.ops.manipulation import reshape
from anynet.ops.reductions import sum
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = [
    "gaussian_nll_loss", "huber_loss", "l1_loss", "log_cosh_loss", "mape_loss", "mse_loss", "msle_loss",
    "poisson_nll_loss", "smooth_l1_loss",
]  # fmt: skip


def _weighed(where: str, losses: Any, weight: Any, reduction: str, over_weights: bool = True) -> Tensor:
    """Σ w l, for "mean" over Σ w, or over the number of elements."""
    if weight is None:
        return reduce(losses, reduction)
    if tuple(weight.shape) != tuple(losses.shape):
        msg = f"{where}: weight must have the shape of the input, got {tuple(weight.shape)} and {tuple(losses.shape)}"
        raise ValueError(msg)
    if reduction == "mean" and over_weights:
        return sum(losses * weight) / sum(weight)
    return reduce(losses * weight, reduction)


@equation(
    "l = (x - t)**2",
    'L = mean(w * l) / mean(w) if reduction == "mean" else sum(w * l) if reduction == "sum" else w * l',
    where="x = input; t = target; w = weight or 1; reduction",
    gradient='dl = w / (mean(w) * size(l)) if reduction == "mean" else w; dx = dl * 2 * (x - t)',
)
@fused(2)
def mse_loss(
    input: ArrayLike, target: ArrayLike, reduction: str = "mean", weight: ArrayLike | None = None
) -> Tensor:
    """The squared error (x − t)², averaged, with `weight` by its weights. Shapes equal.

    Equation:
      l = (x − t)²
      L = mean(w l) / mean(w) if reduction = "mean", Σ (w l) if reduction = "sum", else w l
      (x: input; t: target; w: weight or 1; reduction)

    >>> import anynet as an
    >>> an.nn.functional.mse_loss(an.asarray([1.0, 2.0]), an.asarray([1.0, 4.0])).item()
    2.0
    """
    return _weighed("mse_loss", squared_error(input, as_target("mse_loss", input, target)), weight, reduction)


@equation(
    "l = abs(x - t)",
    'L = mean(w * l) / mean(w) if reduction == "mean" else sum(w * l) if reduction == "sum" else w * l',
    where="x = input; t = target; w = weight or 1; reduction",
    gradient='dl = w / (mean(w) * size(l)) if reduction == "mean" else w; dx = dl * sign(x - t)',
)
@fused(2)
def l1_loss(
    input: ArrayLike, target: ArrayLike, reduction: str = "mean", weight: ArrayLike | None = None
) -> Tensor:
    """The absolute error |x − t|, averaged, with `weight` by its weights. Shapes equal.

    Equation:
      l = |x − t|
      L = mean(w l) / mean(w) if reduction = "mean", Σ (w l) if reduction = "sum", else w l
      (x: input; t: target; w: weight or 1; reduction)

    >>> import anynet as an
    >>> an.nn.functional.l1_loss(an.asarray([1.0, 2.0]), an.asarray([0.0, 4.0]))
    Tensor(1.5)
    """
    return _weighed("l1_loss", e.abs(input - as_target("l1_loss", input, target)), weight, reduction)


@equation(
    "d = x - t",
    "l = w * d**2 / 2 if abs(d) <= δ else w * δ * (abs(d) - δ / 2)",
    REDUCED,
    where="x = input; t = target; δ = delta; w = weight or 1; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx = dl * w * (d if abs(d) <= δ else δ * sign(d))",
)
@fused(2)
def huber_loss(
    input: ArrayLike,
    target: ArrayLike,
    reduction: str = "mean",
    delta: float = 1.0,
    weight: ArrayLike | None = None,
) -> Tensor:
    """Half the square of small differences, and large ones in proportion (Huber 1964), averaged. With `weight` w l is
    averaged (as in PyTorch, over the number of elements, not over Σ w as `mse_loss` does).

    Equation:
      d = x − t
      l = w d² / 2 if |d| ≤ δ, else w δ · (|d| − δ / 2)
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input; t: target; δ: delta; w: weight or 1; reduction)

    >>> import anynet as an
    >>> an.nn.functional.huber_loss(an.asarray([1.0, 2.0]), an.asarray([0.0, 4.0]))
    Tensor(1.)
    """
    if not delta > 0:
        msg = f"huber_loss: delta must be > 0, got {delta}"
        raise ValueError(msg)
    losses = huber(input, as_target("huber_loss", input, target), delta=float(delta))
    return _weighed("huber_loss", losses, weight, reduction, over_weights=False)


@equation(
    "d = x - t",
    "l = abs(d) if β == 0 else d**2 / (2 * β) if abs(d) < β else abs(d) - β / 2",
    REDUCED,
    where="x = input; t = target; β = beta; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx = dl * (sign(d) if β == 0 else d / β if abs(d) < β else sign(d))",
)
@fused(2)
def smooth_l1_loss(input: ArrayLike, target: ArrayLike, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """The absolute difference, rounded off by a parabola where it is below β (Girshick 2015). β = 0 is `l1_loss`.

    Equation:
      d = x − t
      l = |d| if β = 0, d² / (2 β) if |d| < β, else |d| − β / 2
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input; t: target; β: beta; reduction)

    >>> import anynet as an
    >>> an.nn.functional.smooth_l1_loss(an.asarray([1.0, 2.0]), an.asarray([0.0, 4.0]))
    Tensor(1.)
    """
    if not beta >= 0:
        msg = f"smooth_l1_loss: beta must be ≥ 0, got {beta}"
        raise ValueError(msg)
    if beta == 0:
        return l1_loss(input, target, reduction)
    losses = huber(input, as_target("smooth_l1_loss", input, target), delta=float(beta))
    return reduce(losses if beta == 1 else losses / float(beta), reduction)


@equation(
    """
        l = (exp(x) - t * x if log_input else x - t * log(x + ε)) + (t * log(t) - t + log(2 * pi * t) / 2 if full and t
            > 1 else 0)
    """,
    REDUCED,
    where="x = input; t = target; log_input; full; ε = eps; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx = dl * (exp(x) - t if log_input else 1 - t / (x + ε))",
)
def poisson_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: str = "mean",
) -> Tensor:
    """The negative log-likelihood of a Poisson variable with rate eˣ (or x with ``log_input=False``), without ln t!;
    with `full` Stirling's approximation of it is added where t > 1.

    Equation:
      l = (eˣ − t x if log_input, else x − t ln(x + ε)) + (t ln(t) − t + ln(2 π t) / 2 if full and t > 1, else 0)
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input; t: target; log_input; full; ε: eps; reduction)

    >>> import anynet as an
    >>> round(an.nn.functional.poisson_nll_loss(an.asarray([1.0, 2.0]), an.asarray([0.0, 4.0])).item(), 4)
    1.0537
    """
    target = as_target("poisson_nll_loss", input, target)
    loss = e.exp(input) - target * input if log_input else input - target * e.log(input + eps)
    if full:
        large = e.greater(target, 1.0)
        t = e.where(large, target, 1.0)
        loss = loss + e.where(large, t * e.log(t) - t + 0.5 * e.log(6.283185307179586 * t), 0.0)
    return reduce(loss, reduction)


@equation(
    "s = max(v, ε)",
    "l = (log(s) + (x - t)**2 / s) / 2 + (log(2 * pi) / 2 if full else 0)",
    REDUCED,
    where="x = input; t = target; v = var: the variances; full; ε = eps; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx = dl * (x - t) / s; dv = dl * (1 / s - (x - t)**2 / s**2) / 2",
)
def gaussian_nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    var: ArrayLike,
    full: bool = False,
    eps: float = 1e-6,
    reduction: str = "mean",
) -> Tensor:
    """The negative log-likelihood of normal targets with means x and variances `var`; with `full` its constant is
    added. `var` has the shape of x, or 1 in place of one axis, or nothing in place of the last, or is one number. The
    gradient of `var` is that of the formula, also where ε holds (Nix, Weigend 1994).

    Equation:
      s = max(v, ε)
      l = (ln(s) + (x − t)² / s) / 2 + (ln(2 π) / 2 if full, else 0)
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input; t: target; v: var: the variances; full; ε: eps; reduction)

    >>> import anynet as an
    >>> an.nn.functional.gaussian_nll_loss(an.asarray([1.0, 2.0]), an.asarray([0.0, 4.0]), an.ones(2))
    Tensor(1.25)
    """
    target = as_target("gaussian_nll_loss", input, target)
    shape = tuple(input.shape)
    if not hasattr(var, "shape"):
        var = asarray(var, dtype=dtypes.of(unwrap(input).dtype), device=device_of(input))
    given = tuple(var.shape)
    if given != shape and given == shape[:-1]:
        var = reshape(var, (*given, 1))
    elif given not in (shape, ()) and (
        len(given) != len(shape) or [a for a, b in zip(given, shape, strict=True) if a != b] != [1]
    ):
        msg = (
            f"gaussian_nll_loss: var must have shape {shape}, the same with 1 in place of one axis, or {shape[:-1]}, "
            f"got {given}"
        )
        raise ValueError(msg)

    def not_negative(found: Any) -> None:
        if bool(backend_of(found).any(found < 0)):
            msg = f"gaussian_nll_loss: var must be ≥ 0, got {float(backend_of(found).min(found)):.4g}"
            raise ValueError(msg)

    check_values(not_negative, unwrap(var))
    lift = e.where(e.less(var, eps), eps - (var.detach() if hasattr(var, "detach") else var), 0.0)
    var = var + (lift.detach() if hasattr(lift, "detach") else lift)
    loss = 0.5 * (e.log(var) + (input - target) ** 2 / var)
    return reduce(loss + 0.9189385332046727 if full else loss, reduction)


@equation(
    "l = log(cosh(x - t))",
    REDUCED,
    where="x = input; t = target; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx = dl * tanh(x - t)",
)
@fused(2)
def log_cosh_loss(input: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Tensor:
    """Half the square of small differences, and nearly the size of large ones: computed as |d| + ln(1 + e^{−2|d|}) − ln 2.

    Equation:
      l = ln(cosh(x − t))
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input; t: target; reduction)

    >>> import anynet as an
    >>> round(an.nn.functional.log_cosh_loss(an.asarray([1.0]), an.asarray([0.0])).item(), 6)
    0.433781
    """
    check_same_shape("log_cosh_loss", input, target)
    d = input - target
    return reduce(d + softplus(-2.0 * d, beta=1.0, threshold=1e4) - 0.6931471805599453, reduction)


@equation(
    "l = 100 * abs(x - t) / max(abs(t), ε)",
    REDUCED,
    where="x = input; t = target; ε = eps or 1e-7; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx = dl * 100 * sign(x - t) / max(abs(t), ε)",
)
def mape_loss(input: ArrayLike, target: ArrayLike, eps: float = 1e-7, reduction: str = "mean") -> Tensor:
    """100 |x − t| / max(|t|, ε), the absolute error in percent.

    Equation:
      l = 100 |x − t| / max(|t|, ε)
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input; t: target; ε: eps or 1e-7; reduction)

    >>> import anynet as an
    >>> an.nn.functional.mape_loss(an.asarray([1.5]), an.asarray([2.0])).item()
    25.0
    """
    target = as_target("mape_loss", input, target)
    return reduce(100.0 * e.abs((input - target) / e.maximum(e.abs(target), eps)), reduction)


@equation(
    "l = (log(1 + max(x, ε)) - log(1 + max(t, ε)))**2",
    REDUCED,
    where="x = input; t = target; ε = eps or 1e-7; reduction",
    gradient=f"{REDUCED_GRADIENT}; dx = dl * 2 * (log(1 + max(x, ε)) - log(1 + max(t, ε))) / (1 + x) * [x > ε]",
)
def msle_loss(input: ArrayLike, target: ArrayLike, eps: float = 1e-7, reduction: str = "mean") -> Tensor:
    """(ln(1 + max(x, ε)) − ln(1 + max(t, ε)))².

    Equation:
      l = (ln(1 + max(x, ε)) − ln(1 + max(t, ε)))²
      L = mean(l) if reduction = "mean", Σ l if reduction = "sum", else l
      (x: input; t: target; ε: eps or 1e-7; reduction)

    >>> import anynet as an
    >>> round(an.nn.functional.msle_loss(an.asarray([0.0]), an.asarray([1.0])).item(), 4)
    0.4805
    """
    target = as_target("msle_loss", input, target)
    d = e.log1p(e.maximum(input, eps)) - e.log1p(e.maximum(target, eps))
    return reduce(d * d, reduction)
