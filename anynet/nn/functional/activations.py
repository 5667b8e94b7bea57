"""Activations, with PyTorch's names and arguments: see `anynet.ops.neural` for the formulas."""

from __future__ import annotations

from typing import Any

from anynet.ops import neural
from anynet.ops.elementwise import tanh
from anynet.ops.neural import gelu, relu, sigmoid, silu

__all__ = [
    "elu", "gelu", "leaky_relu", "log_softmax", "logsumexp", "relu", "sigmoid", "silu", "softmax", "softplus", "tanh",
]  # fmt: skip


def leaky_relu(input: Any, negative_slope: float = 0.01) -> Any:
    """x where x > 0, else negative_slope · x."""
    return neural.leaky_relu(input, negative_slope=negative_slope)


def elu(input: Any, alpha: float = 1.0) -> Any:
    """x where x > 0, else α (eˣ − 1) (Clevert et al. 2016)."""
    return neural.elu(input, alpha=alpha)


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Any:
    """(1/β) ln(1 + e^{βx}), a smooth ReLU; x itself where βx > threshold."""
    return neural.softplus(input, beta=beta, threshold=threshold)


def softmax(input: Any, dim: int = -1) -> Any:
    """e^{x_i} / Σ_j e^{x_j} along `dim`.

    >>> import anynet as an
    >>> an.nn.functional.softmax(an.asarray([0.0, 0.0]))
    Tensor([0.5, 0.5])
    """
    return neural.softmax(input, axis=dim)


def log_softmax(input: Any, dim: int = -1) -> Any:
    """ln softmax along `dim`, computed without overflow."""
    return neural.log_softmax(input, axis=dim)


def logsumexp(input: Any, dim: int | tuple[int, ...] | None = None, keepdim: bool = False) -> Any:
    """ln Σ eˣ along `dim` (None: all), computed without overflow."""
    return neural.logsumexp(input, axis=dim, keepdims=keepdim)
