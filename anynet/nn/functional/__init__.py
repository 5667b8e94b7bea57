"""The layers as functions: `torch.nn.functional`'s names and arguments."""

from typing import Any

from anynet.nn.functional.conv import *
from anynet.nn.functional.conv import __all__ as _conv
from anynet.nn.functional.losses import *
from anynet.nn.functional.losses import __all__ as _losses
from anynet.nn.functional.norm import *
from anynet.nn.functional.norm import __all__ as _norm
from anynet.nn.functional.pooling import *
from anynet.nn.functional.pooling import __all__ as _pooling
from anynet.ops import neural as _neural
from anynet.ops.elementwise import tanh
from anynet.ops.neural import dropout, elu, embedding, gelu, leaky_relu, linear, logsumexp, relu, sigmoid, silu, softplus

__all__ = [
    "dropout", "elu", "embedding", "gelu", "leaky_relu", "linear", "log_softmax", "logsumexp", "relu", "sigmoid",
    "silu", "softmax", "softplus", "tanh", *_conv, *_losses, *_norm, *_pooling,
]  # fmt: skip


def softmax(input: Any, dim: int = -1) -> Any:
    """e^{x_i} / Σ_j e^{x_j} along `dim`."""
    return _neural.softmax(input, axis=dim)


def log_softmax(input: Any, dim: int = -1) -> Any:
    """ln softmax along `dim`, computed without overflow."""
    return _neural.log_softmax(input, axis=dim)
