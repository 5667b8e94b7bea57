"""Dropout and its variants, and Gaussian noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from anynet.equations import equation
from anynet.nn import functional as F
from anynet.nn.module import Module
from anynet.nn.spatial import Spatial
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = [
    "AlphaDropout", "Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "FeatureAlphaDropout", "GaussianDropout",
    "GaussianNoise",
]  # fmt: skip


@equation(F.dropout)
class Dropout(Module):
    """In training, zero each element with probability p and scale the rest by 1 / (1 − p); else the identity.

    The same seed gives the same masks, bit for bit, on every device (Srivastava et al. 2014). `inplace` is accepted
    as in PyTorch, but the input is never overwritten.

    >>> import anynet as an
    >>> an.nn.Dropout(0.5).eval()(an.ones(2))
    Tensor([1., 1.])
    """

    _pure, _pure_in_training, _draws_masks = True, False, True

    def __init__(self, p: float = 0.5, inplace: bool = False) -> None:
        if not 0.0 <= p <= 1.0:
            msg = f"{type(self).__name__}: p must be in [0, 1], got {p}"
            raise ValueError(msg)
        self.p, self.inplace = p, inplace

    def forward(self, x: ArrayLike) -> Tensor:
        """x with elements dropped."""
        return F.dropout(x, self.p, self.training)

    def extra_repr(self) -> str:
        return f"p={self.p}, inplace={self.inplace}"


class _Dropout(Dropout):
    _function: Callable[..., Any]

    def forward(self, x: ArrayLike) -> Tensor:
        """x, in training with parts dropped."""
        return type(self)._function(x, self.p, self.training)  # type: ignore[no-any-return]


@equation(F.dropout1d)
class _ChannelDropout(Spatial, _Dropout):
    """In training, zero whole channels of $data with probability p and multiply the others by 1 / (1 − p); in evaluation the identity.

    x (batch, channels, $spatial) or (channels, $spatial) → the same shape; each channel of each example is kept or zeroed by itself. The
    same seed gives the same masks on every device. `inplace` is accepted as in PyTorch, but the input is never overwritten.

    Errors: ValueError unless p is in [0, 1].

    >>> import anynet as an
    >>> x = an.ones((2, 3, $4))
    >>> an.nn.$name(0.5)(x).shape, an.nn.$name(0.5).eval()(x).shape
    ((2, 3, $4), (2, 3, $4))

    Source: Tompson et al.: Efficient object localization using convolutional networks (2015).
    """


class Dropout1d(_ChannelDropout):
    axes = 1
    _function = staticmethod(F.dropout1d)


class Dropout2d(_ChannelDropout):
    axes = 2
    _function = staticmethod(F.dropout2d)


class Dropout3d(_ChannelDropout):
    axes = 3
    _function = staticmethod(F.dropout3d)


@equation(F.alpha_dropout)
class AlphaDropout(_Dropout):
    """Dropout for SELU, which keeps mean 0 and variance 1: in training each element becomes, with probability p, SELU's value at −∞,
    and the result is scaled and shifted; in evaluation the identity.

    x of any shape → the same. ValueError unless p is in [0, 1]. `inplace` is accepted as in PyTorch; the input is never overwritten.

    >>> import anynet as an
    >>> an.nn.AlphaDropout().eval()(an.ones(2))
    Tensor([1., 1.])

    Source: Klambauer et al.: Self-normalizing neural networks (2017).
    """

    _function = staticmethod(F.alpha_dropout)


@equation(F.feature_alpha_dropout)
class FeatureAlphaDropout(_Dropout):
    """Dropout of whole channels for SELU, which keeps mean 0 and variance 1: in training each channel becomes, with probability p,
    SELU's value at −∞, and the result is scaled and shifted; in evaluation the identity.

    x (n, channels, …) → the same shape. ValueError unless p is in [0, 1]. `inplace` is accepted as in PyTorch; the input is never
    overwritten.

    >>> import anynet as an
    >>> an.nn.FeatureAlphaDropout().eval()(an.ones((1, 2)))
    Tensor([[1., 1.]])

    Source: Klambauer et al.: Self-normalizing neural networks (2017).
    """

    _function = staticmethod(F.feature_alpha_dropout)


@equation(F.gaussian_noise)
class GaussianNoise(Module):
    """x + ε in training, ε ~ N(0, stddev²); else the identity. The numbers come from the stream of dropout masks.

    >>> import anynet as an
    >>> an.nn.GaussianNoise(0.1).eval()(an.ones(2))
    Tensor([1., 1.])

    Source: Bishop: Training with noise is equivalent to Tikhonov regularization (1995).
    """

    def __init__(self, stddev: float) -> None:
        if stddev < 0:
            msg = f"GaussianNoise: stddev must be ≥ 0, got {stddev}"
            raise ValueError(msg)
        self.stddev = stddev

    def forward(self, x: ArrayLike) -> Tensor:
        """x with noise."""
        return F.gaussian_noise(x, self.stddev, self.training)

    def extra_repr(self) -> str:
        return f"stddev={self.stddev}"


@equation(F.gaussian_dropout)
class GaussianDropout(Module):
    """In training the input times normal noise of mean 1 and the variance of dropout; else the identity.

    >>> import anynet as an
    >>> an.nn.GaussianDropout(0.5).eval()(an.ones(2))
    Tensor([1., 1.])

    Source: Srivastava et al.: Dropout (2014), section 10.
    """

    def __init__(self, rate: float = 0.5) -> None:
        if not 0.0 <= rate < 1.0:
            msg = f"GaussianDropout: rate must be in [0, 1), got {rate}"
            raise ValueError(msg)
        self.rate = rate

    def forward(self, x: ArrayLike) -> Tensor:
        """x times noise around 1."""
        return F.gaussian_dropout(x, self.rate, self.training)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"
