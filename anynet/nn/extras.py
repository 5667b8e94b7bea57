"""Layers that Keras and Chainer have and PyTorch has not."""

from __future__ import annotations

from typing import ClassVar

from anynet.nn import functional as F
from anynet.nn.module import Module, ShapeError
from anynet.ops.manipulation import reshape
from anynet.ops.reductions import max as max_over
from anynet.ops.reductions import mean
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = [
    "CReLU", "GaussianDropout", "GaussianNoise", "GlobalAvgPool1d", "GlobalAvgPool2d", "GlobalAvgPool3d", "GlobalMaxPool1d",
    "GlobalMaxPool2d", "GlobalMaxPool3d", "Sparsemax", "SquarePlus", "TimeDistributed", "UnitNorm",
]  # fmt: skip


class CReLU(Module):
    """max(x, 0) and max(−x, 0), one after the other along `dim`.

    >>> import anynet as an
    >>> an.nn.CReLU()(an.ones((2, 3, 4))).shape
    (2, 6, 4)

    Source: Shang et al.: Understanding and improving convolutional neural networks via concatenated rectified linear units (2016).
    """

    def __init__(self, dim: int = 1) -> None:
        self.dim = dim

    def forward(self, x: ArrayLike) -> Tensor:
        """Twice as many channels."""
        return F.crelu(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class SquarePlus(Module):
    """(x + √(x² + b)) / 2, a smooth ReLU without exponentials.

    >>> import anynet as an
    >>> an.nn.SquarePlus()(an.asarray([0.0, 1.5]))
    Tensor([1., 2.])

    Source: Barron: Squareplus (2021).
    """

    def __init__(self, b: float = 4.0) -> None:
        if b < 0:
            msg = f"SquarePlus: b is not negative, got {b}"
            raise ValueError(msg)
        self.b = b

    def forward(self, x: ArrayLike) -> Tensor:
        """squareplus of x"""
        return F.squareplus(x, self.b)

    def extra_repr(self) -> str:
        return f"b={self.b}"


class Sparsemax(Module):
    """The point of the simplex that is closest to x, along `dim`: probabilities of which small ones are 0.

    >>> import anynet as an
    >>> an.nn.Sparsemax()(an.asarray([1.0, 0.5, -1.0])).tolist()
    [0.75, 0.25, 0.0]

    Source: Martins, Astudillo: From softmax to sparsemax (2016).
    """

    def __init__(self, dim: int = -1) -> None:
        self.dim = dim

    def forward(self, x: ArrayLike) -> Tensor:
        """sparsemax of x"""
        return F.sparsemax(x, self.dim)

    def extra_repr(self) -> str:
        return f"dim={self.dim}"


class GaussianNoise(Module):
    """x + ε in training, ε ~ N(0, stddev²); else the identity. The numbers come from the stream of dropout masks.

    >>> import anynet as an
    >>> an.nn.GaussianNoise(0.1).eval()(an.ones(2))
    Tensor([1., 1.])

    Source: Bishop: Training with noise is equivalent to Tikhonov regularization (1995).
    """

    def __init__(self, stddev: float) -> None:
        if stddev < 0:
            msg = f"GaussianNoise: stddev is not negative, got {stddev}"
            raise ValueError(msg)
        self.stddev = stddev

    def forward(self, x: ArrayLike) -> Tensor:
        """x with noise."""
        return F.gaussian_noise(x, self.stddev, self.training)

    def extra_repr(self) -> str:
        return f"stddev={self.stddev}"


class GaussianDropout(Module):
    """x (1 + ε √(rate / (1 − rate))) in training, ε ~ N(0, 1); else the identity.

    >>> import anynet as an
    >>> an.nn.GaussianDropout(0.5).eval()(an.ones(2))
    Tensor([1., 1.])

    Source: Srivastava et al.: Dropout (2014), section 10.
    """

    def __init__(self, rate: float = 0.5) -> None:
        if not 0.0 <= rate < 1.0:
            msg = f"GaussianDropout: rate lies in [0, 1), got {rate}"
            raise ValueError(msg)
        self.rate = rate

    def forward(self, x: ArrayLike) -> Tensor:
        """x times noise around 1."""
        return F.gaussian_dropout(x, self.rate, self.training)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class UnitNorm(Module):
    """x / max(‖x‖₂, ε), the norm over the axes `dim`.

    >>> import anynet as an
    >>> [round(v, 6) for v in an.nn.UnitNorm()(an.asarray([3.0, 4.0])).tolist()]
    [0.6, 0.8]

    Source: the layer UnitNormalization of Keras.
    """

    def __init__(self, dim: int | tuple[int, ...] = -1, eps: float = 1e-12) -> None:
        self.dim, self.eps = dim, eps

    def forward(self, x: ArrayLike) -> Tensor:
        """x of length 1."""
        return F.normalize(x, 2.0, self.dim, self.eps)

    def extra_repr(self) -> str:
        return f"dim={self.dim}, eps={self.eps}"


class _GlobalPool(Module):
    axes: ClassVar[int]
    most: ClassVar[bool] = False

    def __init__(self, keepdims: bool = False) -> None:
        self.keepdims = keepdims

    def forward(self, x: ArrayLike) -> Tensor:
        """One number for each channel."""
        if len(x.shape) not in (self.axes + 1, self.axes + 2):
            msg = f"got {tuple(x.shape)}: expected {self.axes + 2} axes (batch, channels, *spatial), or {self.axes + 1} without the batch"
            raise ShapeError(msg)
        over = tuple(range(-self.axes, 0))
        return (max_over if self.most else mean)(x, axis=over, keepdims=self.keepdims)

    def extra_repr(self) -> str:
        return f"keepdims={self.keepdims}"


class GlobalAvgPool1d(_GlobalPool):
    """The mean of each channel: (n, c, length) → (n, c), with `keepdims` (n, c, 1).

    >>> import anynet as an
    >>> an.nn.GlobalAvgPool1d()(an.asarray([[[1.0, 3.0]]])).tolist()
    [[2.0]]

    Source: Lin, Chen, Yan: Network in network (2014).
    """

    axes = 1


class GlobalAvgPool2d(_GlobalPool):
    """The mean of each channel of images: (n, c, h, w) → (n, c), with `keepdims` (n, c, 1, 1).

    >>> import anynet as an
    >>> an.nn.GlobalAvgPool2d()(an.ones((2, 3, 4, 4))).shape
    (2, 3)

    Source: Lin, Chen, Yan: Network in network (2014).
    """

    axes = 2


class GlobalAvgPool3d(_GlobalPool):
    """The mean of each channel of volumes: (n, c, d, h, w) → (n, c).

    >>> import anynet as an
    >>> an.nn.GlobalAvgPool3d(keepdims=True)(an.ones((2, 3, 4, 4, 4))).shape
    (2, 3, 1, 1, 1)

    Source: Lin, Chen, Yan: Network in network (2014).
    """

    axes = 3


class GlobalMaxPool1d(_GlobalPool):
    """The largest number of each channel: (n, c, length) → (n, c), with `keepdims` (n, c, 1).

    >>> import anynet as an
    >>> an.nn.GlobalMaxPool1d()(an.asarray([[[1.0, 3.0]]])).tolist()
    [[3.0]]
    """

    axes = 1
    most = True


class GlobalMaxPool2d(_GlobalPool):
    """The largest number of each channel of images: (n, c, h, w) → (n, c).

    >>> import anynet as an
    >>> an.nn.GlobalMaxPool2d()(an.ones((2, 3, 4, 4))).shape
    (2, 3)
    """

    axes = 2
    most = True


class GlobalMaxPool3d(_GlobalPool):
    """The largest number of each channel of volumes: (n, c, d, h, w) → (n, c).

    >>> import anynet as an
    >>> an.nn.GlobalMaxPool3d()(an.ones((2, 3, 4, 4, 4))).shape
    (2, 3)
    """

    axes = 3
    most = True


class TimeDistributed(Module):
    """`layer` at every step of a sequence: x (n, steps, …) → (n, steps, …), the steps being as many more examples.

    >>> import anynet as an
    >>> an.nn.TimeDistributed(an.nn.Conv2d(1, 2, 3))(an.ones((4, 5, 1, 6, 6))).shape
    (4, 5, 2, 4, 4)

    Source: the layer TimeDistributed of Keras.
    """

    def __init__(self, layer: Module) -> None:
        self.layer = layer

    def forward(self, x: ArrayLike) -> Tensor:
        """The layer's outputs, step by step."""
        if len(x.shape) < 3:
            msg = f"got {tuple(x.shape)}: expected at least 3 axes (batch, steps, …)"
            raise ShapeError(msg)
        n, steps, *rest = x.shape
        y = self.layer(reshape(x, (n * steps, *rest)))
        return reshape(y, (n, steps, *y.shape[1:]))
