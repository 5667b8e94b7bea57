"""Functions that Keras and Chainer have and PyTorch has not."""

from __future__ import annotations

import math
from typing import Any

from anynet import dtypes, random
from anynet.nn.functional.losses import _reduce, _target
from anynet.ops import elementwise as e
from anynet.ops.activations import relu
from anynet.ops.manipulation import concat
from anynet.ops.reductions import max as max_over
from anynet.ops.reductions import sum
from anynet.tensor import Tensor, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = [
    "categorical_hinge_loss", "crelu", "gaussian_dropout", "gaussian_noise", "hinge_loss", "mape_loss", "msle_loss", "sparsemax",
    "squareplus",
]  # fmt: skip


# ----- activations -----


def crelu(input: ArrayLike, dim: int = 1) -> Tensor:
    """max(x, 0) and max(−x, 0), one after the other along `dim` (Shang et al. 2016).

    >>> import anynet as an
    >>> an.nn.functional.crelu(an.asarray([[1.0, -2.0]])).tolist()
    [[1.0, 0.0, 0.0, 2.0]]
    """
    return concat([relu(input), relu(-input)], axis=dim)


def squareplus(input: ArrayLike, b: float = 4.0) -> Tensor:
    """(x + √(x² + b)) / 2, a smooth ReLU without exponentials (Barron 2021).

    >>> import anynet as an
    >>> an.nn.functional.squareplus(an.asarray([0.0, 1.5]))
    Tensor([1., 2.])
    """
    return (input + e.hypot(input, math.sqrt(b))) / 2.0


def sparsemax(input: ArrayLike, dim: int = -1) -> Tensor:
    """The point of the simplex that is closest to x: max(x − τ, 0) with τ such that the sum along `dim` is 1.

    Unlike those of softmax, small values become 0. With x sorted downwards, the support are the first k for which
    1 + k x_k > Σ_{i ≤ k} x_i, and τ = (Σ_{support} x − 1) / k (Martins & Astudillo 2016).

    >>> import anynet as an
    >>> an.nn.functional.sparsemax(an.asarray([1.0, 0.5, -1.0])).tolist()
    [0.75, 0.25, 0.0]
    """
    plain = unwrap(input)
    xp = backend_of(plain)
    axis = dim % len(plain.shape)
    ordered = xp.sort(plain, axis=axis, descending=True)
    shape = tuple(plain.shape[axis] if i == axis else 1 for i in range(len(plain.shape)))
    k = xp.reshape(xp.arange(1, plain.shape[axis] + 1, dtype=plain.dtype, device=plain.device), shape)
    inside = 1.0 + k * ordered > xp.cumulative_sum(ordered, axis=axis)
    # the support are all values not below the smallest of the first k
    least = xp.min(xp.where(inside, ordered, xp.full_like(ordered, math.inf)), axis=axis, keepdims=True)
    support = xp.astype(plain >= least, plain.dtype)
    count = xp.sum(support, axis=axis, keepdims=True)
    kept = wrap(support)
    return kept * (input - (sum(input * kept, axis=axis, keepdims=True) - 1.0) / wrap(count))


# ----- noise -----


def _normal(input: Any) -> Any:
    """Standard normal numbers in the shape of x from the stream of dropout masks, by Box and Muller's method."""
    plain = unwrap(input)
    xp = backend_of(plain)
    shape = tuple(plain.shape)
    n = math.prod(shape)
    wide = dtypes.wide(xp, plain.dtype)
    unit = random.next_units(xp, 2 * n, wide, xp.device_of(plain))
    radius = xp.sqrt(-2.0 * xp.log(1.0 - unit[:n]))
    return wrap(
        xp.astype(xp.reshape(radius * xp.cos(2 * math.pi * unit[n:]), shape), plain.dtype, copy=False)
    )


def gaussian_noise(input: ArrayLike, stddev: float, training: bool = True) -> Tensor:
    """x + ε in training, ε ~ N(0, stddev²) (Bishop 1995).

    >>> import anynet as an
    >>> an.nn.functional.gaussian_noise(an.ones(3), 0.0)
    Tensor([1., 1., 1.])
    """
    if stddev < 0:
        msg = f"gaussian_noise: stddev is not negative, got {stddev}"
        raise ValueError(msg)
    return input + stddev * _normal(input) if training and stddev else input  # type: ignore[return-value]


def gaussian_dropout(input: ArrayLike, rate: float = 0.5, training: bool = True) -> Tensor:
    """x (1 + ε √(rate / (1 − rate))) in training, ε ~ N(0, 1): the mean and variance of dropout (Srivastava et al. 2014).

    >>> import anynet as an
    >>> an.nn.functional.gaussian_dropout(an.ones(3), training=False)
    Tensor([1., 1., 1.])
    """
    if not 0.0 <= rate < 1.0:
        msg = f"gaussian_dropout: rate lies in [0, 1), got {rate}"
        raise ValueError(msg)
    return input * (1.0 + math.sqrt(rate / (1.0 - rate)) * _normal(input)) if training and rate else input  # type: ignore[return-value]


# ----- losses -----


def hinge_loss(input: ArrayLike, target: ArrayLike, p: int = 1, reduction: str = "mean") -> Tensor:
    """max(0, 1 − t x)ᵖ with t = ±1, 0 standing for −1 too; p is 1 or 2 (Cortes & Vapnik 1995).

    >>> import anynet as an
    >>> an.nn.functional.hinge_loss(an.asarray([0.5, -2.0]), an.asarray([1.0, -1.0]), reduction="none").tolist()
    [0.5, 0.0]
    """
    if p not in (1, 2):
        msg = f"hinge_loss: p is 1 or 2, got {p}"
        raise ValueError(msg)
    target = _target("hinge_loss", input, target)
    gap = relu(1.0 - e.where(e.equal(target, 0.0), -1.0, target) * input)
    return _reduce(gap * gap if p == 2 else gap, reduction)


def categorical_hinge_loss(input: ArrayLike, target: ArrayLike, reduction: str = "mean") -> Tensor:
    """max(0, 1 + max_c (1 − t_c) x_c − Σ_c t_c x_c) for each row of x and t (…, classes), t one-hot.

    >>> import anynet as an
    >>> an.nn.functional.categorical_hinge_loss(an.asarray([[2.0, 1.5]]), an.asarray([[1.0, 0.0]])).item()
    0.5
    """
    target = _target("categorical_hinge_loss", input, target)
    own, other = sum(target * input, axis=-1), max_over((1.0 - target) * input, axis=-1)
    return _reduce(relu(other - own + 1.0), reduction)


def mape_loss(input: ArrayLike, target: ArrayLike, eps: float = 1e-7, reduction: str = "mean") -> Tensor:
    """100 |x − t| / max(|t|, ε), the absolute error in percent.

    >>> import anynet as an
    >>> an.nn.functional.mape_loss(an.asarray([1.5]), an.asarray([2.0])).item()
    25.0
    """
    target = _target("mape_loss", input, target)
    return _reduce(100.0 * e.abs((input - target) / e.maximum(e.abs(target), eps)), reduction)


def msle_loss(input: ArrayLike, target: ArrayLike, eps: float = 1e-7, reduction: str = "mean") -> Tensor:
    """(ln(1 + max(x, ε)) − ln(1 + max(t, ε)))².

    >>> import anynet as an
    >>> round(an.nn.functional.msle_loss(an.asarray([0.0]), an.asarray([1.0])).item(), 4)
    0.4805
    """
    target = _target("msle_loss", input, target)
    d = e.log1p(e.maximum(input, eps)) - e.log1p(e.maximum(target, eps))
    return _reduce(d * d, reduction)
