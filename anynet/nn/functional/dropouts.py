"""Dropout in its forms, and noise, with PyTorch's arguments.

`inplace` is accepted and changes nothing: the input is never overwritten.
"""

from __future__ import annotations

import math
from typing import Any

from anynet import dtypes, streams
from anynet.equations import equation
from anynet.nn.docstrings import shared_docstring
from anynet.ops.creation import ones_like
from anynet.ops.dropout import dropout as drop
from anynet.tensor import Tensor, unwrap, wrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = [
    "alpha_dropout", "dropout", "dropout1d", "dropout2d", "dropout3d", "feature_alpha_dropout", "gaussian_dropout",
    "gaussian_noise",
]  # fmt: skip

# ----- what the variants by number of axes have in common -----

_CHANNELS = """
    In training each channel of each example is zeroed with probability p, and the others are scaled by 1 / (1 − p); else the
    input is returned. `inplace` is accepted and changes nothing.

    Shapes: (n, c, $spatial) or (c, $spatial) → the same.

    Errors: ValueError for p outside of [0, 1] and for other numbers of axes.

    Source: Tompson et al.: Efficient object localization using convolutional networks (2015).
"""


def _channels(where: str, x: Any, axes: int) -> tuple[int, ...]:
    """The shape of a mask with one element a channel."""
    ndim = len(x.shape)
    if ndim not in (axes + 1, axes + 2):
        msg = (
            f"{where}: input must have {axes + 2} axes (batch, channels, *spatial) or {axes + 1} without the batch, got shape "
            f"{tuple(x.shape)}"
        )
        raise ValueError(msg)
    return (*x.shape[: ndim - axes], *(1,) * axes)


@equation(
    "m ~ Bernoulli(1 - p)",
    "y = m * x / (1 - p) if training else x",
    where="x = input; p; training",
    gradient="dx = m * dy / (1 - p) if training else dy",
)
def dropout(input: ArrayLike, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Zero each element with probability p and scale the others by 1 / (1 − p) (Srivastava et al. 2014). `inplace` is
    accepted and changes nothing.

    Equation:
      m ∼ Bernoulli(1 − p)
      y = m x / (1 − p) if training, else x
      (x: input; p; training)

    >>> import anynet as an
    >>> an.nn.functional.dropout(an.ones(4), 0.0)
    Tensor([1., 1., 1., 1.])
    """
    return drop(input, p, training)


@equation(
    "m ~ Bernoulli(1 - p)",
    "y[n, c, t] = m[n, c] * x[n, c, t] / (1 - p) if training else x[n, c, t]",
    where="x[N?, C, T] = input; m[N?, C]: one for each channel; p; training",
    spatial="t T",
)
@shared_docstring(_CHANNELS, 1)
def dropout1d(input: ArrayLike, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of sequences.

    Equation:
      m ∼ Bernoulli(1 − p)
      y[n, c, t] = m[n, c] x[n, c, t] / (1 − p) if training, else x[n, c, t]
      (x: input (N, C, T); m: (N, C): one for each channel; p; training; one for each spatial axis: t, T)

    >>> import anynet as an
    >>> an.nn.functional.dropout1d(an.ones((1, 1, 4)), 1.0).tolist()
    [[[0.0, 0.0, 0.0, 0.0]]]
    """
    return drop(input, p, training, mask_shape=_channels("dropout1d", input, 1))


@equation(dropout1d)
@shared_docstring(_CHANNELS, 2)
def dropout2d(input: ArrayLike, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of images.

    Equation:
      m ∼ Bernoulli(1 − p)
      y[n, c, t] = m[n, c] x[n, c, t] / (1 − p) if training, else x[n, c, t]
      (x: input (N, C, T); m: (N, C): one for each channel; p; training; one for each spatial axis: t, T)

    >>> import anynet as an
    >>> an.nn.functional.dropout2d(an.ones((1, 1, 4, 4)), 0.5).shape
    (1, 1, 4, 4)
    """
    return drop(input, p, training, mask_shape=_channels("dropout2d", input, 2))


@equation(dropout1d)
@shared_docstring(_CHANNELS, 3)
def dropout3d(input: ArrayLike, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """Dropout of whole channels of volumes.

    Equation:
      m ∼ Bernoulli(1 − p)
      y[n, c, t] = m[n, c] x[n, c, t] / (1 − p) if training, else x[n, c, t]
      (x: input (N, C, T); m: (N, C): one for each channel; p; training; one for each spatial axis: t, T)

    >>> import anynet as an
    >>> an.nn.functional.dropout3d(an.ones((1, 1, 4, 4, 4)), 0.5).shape
    (1, 1, 4, 4, 4)
    """
    return drop(input, p, training, mask_shape=_channels("dropout3d", input, 3))


_SATURATION = -1.7580993408473766  # −λα of SELU, its value at −∞


def _alpha(x: Any, p: float, training: bool, mask_shape: tuple[int, ...] | None) -> Tensor:
    if not training or p == 0.0:
        return drop(x, p, False)
    if p == 1.0:
        return x * 0.0  # type: ignore[no-any-return]
    keep = drop(ones_like(x.detach() if hasattr(x, "detach") else x), p, True, mask_shape=mask_shape) * (
        1.0 - p
    )
    scale = ((1.0 - p) * (1.0 + p * _SATURATION**2)) ** -0.5
    return (x * keep + (1.0 - keep) * _SATURATION) * scale - scale * _SATURATION * p  # type: ignore[no-any-return]


@equation(
    "s = -1.7580993408473766",
    "m ~ Bernoulli(1 - p)",
    "a = 1 / sqrt((1 - p) * (1 + p * s**2))",
    "y = a * (m * x + (1 - m) * s) - a * s * p if training else x",
    where="x = input; p; training: s is the value of SELU at −∞",
)
def alpha_dropout(input: ArrayLike, p: float = 0.5, training: bool = False, inplace: bool = False) -> Tensor:
    """Dropout to SELU's value at −∞ in place of 0, then scaled and shifted so that mean and variance stay
    (Klambauer et al. 2017).

    Equation:
      s = −1.7580993408473766
      m ∼ Bernoulli(1 − p)
      a = 1 / √((1 − p) (1 + p s²))
      y = a · (m x + (1 − m) s) − a s p if training, else x
      (x: input; p; training: s is the value of SELU at −∞)

    >>> import anynet as an
    >>> an.nn.functional.alpha_dropout(an.ones((2, 3)), 0.5, training=True).shape
    (2, 3)
    """
    return _alpha(input, p, training, None)


@equation(
    "s = -1.7580993408473766",
    "m ~ Bernoulli(1 - p)",
    "a = 1 / sqrt((1 - p) * (1 + p * s**2))",
    "y[n, c, i] = a * (m[n, c] * x[n, c, i] + (1 - m[n, c]) * s) - a * s * p if training else x[n, c, i]",
    where="x[N, C, I*] = input; m[N, C]: one for each channel; p; training: s is the value of SELU at −∞",
)
def feature_alpha_dropout(
    input: ArrayLike, p: float = 0.5, training: bool = False, inplace: bool = False
) -> Tensor:
    """`alpha_dropout` of whole channels (axis 1).

    Equation:
      s = −1.7580993408473766
      m ∼ Bernoulli(1 − p)
      a = 1 / √((1 − p) (1 + p s²))
      y[n, c, i] = a · (m[n, c] x[n, c, i] + (1 − m[n, c]) s) − a s p if training, else x[n, c, i]
      (x: input (N, C, I); m: (N, C): one for each channel; p; training: s is the value of SELU at −∞)

    >>> import anynet as an
    >>> an.nn.functional.feature_alpha_dropout(an.ones((2, 3, 4)), 0.5, training=True).shape
    (2, 3, 4)
    """
    if len(input.shape) < 2 and training and p:
        msg = f"feature_alpha_dropout: input must have the axes (batch, channels, …), got shape {tuple(input.shape)}"
        raise ValueError(msg)
    return _alpha(input, p, training, (*input.shape[:2], *(1,) * (len(input.shape) - 2)))


def _normal(input: Any) -> Any:
    """Standard normal numbers in the shape of x from the stream of dropout masks, by Box and Muller's method."""
    plain = unwrap(input)
    xp = backend_of(plain)
    shape = tuple(plain.shape)
    n = math.prod(shape)
    wide = dtypes.wide(xp, plain.dtype)
    unit = streams.next_units(xp, 2 * n, wide, xp.device_of(plain))
    radius = xp.sqrt(-2.0 * xp.log(1.0 - unit[:n]))
    return wrap(
        xp.astype(xp.reshape(radius * xp.cos(2 * math.pi * unit[n:]), shape), plain.dtype, copy=False)
    )


@equation(
    "ε ~ Normal(0, 1)",
    "y = x + σ * ε if training else x",
    where="x = input; σ = stddev; training",
)
def gaussian_noise(input: ArrayLike, stddev: float, training: bool = True) -> Tensor:
    """x + ε in training, ε ~ N(0, stddev²) (Bishop 1995).

    Equation:
      ε ∼ Normal(0, 1)
      y = x + σ ε if training, else x
      (x: input; σ: stddev; training)

    >>> import anynet as an
    >>> an.nn.functional.gaussian_noise(an.ones(3), 1.0).shape
    (3,)
    >>> an.nn.functional.gaussian_noise(an.ones(3), 0.0)
    Tensor([1., 1., 1.])
    """
    if stddev < 0:
        msg = f"gaussian_noise: stddev must be ≥ 0, got {stddev}"
        raise ValueError(msg)
    return input + stddev * _normal(input) if training and stddev else input  # type: ignore[return-value]


@equation(
    "ε ~ Normal(0, 1)",
    "y = x * (1 + ε * sqrt(rate / (1 - rate))) if training else x",
    where="x = input; rate; training",
)
def gaussian_dropout(input: ArrayLike, rate: float = 0.5, training: bool = True) -> Tensor:
    """In training the input times normal noise of mean 1, with the mean and variance of dropout (Srivastava et al. 2014).

    Equation:
      ε ∼ Normal(0, 1)
      y = x · (1 + ε √(rate / (1 − rate))) if training, else x
      (x: input; rate; training)

    >>> import anynet as an
    >>> an.nn.functional.gaussian_dropout(an.ones(3)).shape
    (3,)
    >>> an.nn.functional.gaussian_dropout(an.ones(3), training=False)
    Tensor([1., 1., 1.])
    """
    if not 0.0 <= rate < 1.0:
        msg = f"gaussian_dropout: rate must be in [0, 1), got {rate}"
        raise ValueError(msg)
    return input * (1.0 + math.sqrt(rate / (1.0 - rate)) * _normal(input)) if training and rate else input  # type: ignore[return-value]
