"""The bases of layers under PyTorch's names, which scripts derive from and ask for: ``nn.modules.batchnorm._BatchNorm`` and its like."""

from __future__ import annotations

import copy
from typing import Any

from anynet import nn
from anynet.nn import conv, dropout, losses, norm, pooling

__all__ = ["BASES", "activation", "clones"]

# by path: a name, the base here, and what is derived from that here and not from PyTorch's
BASES: dict[str, dict[str, tuple[Any, ...]]] = {
    "batchnorm": {"_BatchNorm": (norm._BatchNorm, norm._InstanceNorm), "_NormBase": (norm._BatchNorm,)},
    "instancenorm": {"_InstanceNorm": (norm._InstanceNorm,)},
    "conv": {"_ConvNd": (conv._AnyConv,), "_ConvTransposeNd": (conv._ConvTranspose,)},
    "dropout": {"_DropoutNd": (dropout.Dropout,)},
    "pooling": {
        "_MaxPoolNd": (pooling._MaxPool,), "_AvgPoolNd": (pooling._AvgPool,), "_AdaptiveAvgPoolNd": (pooling._AdaptiveAvgPool,),
        "_AdaptiveMaxPoolNd": (pooling._AdaptiveMaxPool,),
    },
    "loss": {"_Loss": (losses._Reduced,), "_WeightedLoss": (losses._Weighted,)},
}  # fmt: skip


def activation(name: str) -> Any:
    """The function of a name that layers of transformers take."""
    if name not in ("relu", "gelu"):
        msg = f"activation should be relu/gelu, not {name}"
        raise RuntimeError(msg)
    return getattr(nn.functional, name)


def clones(module: Any, N: int) -> Any:
    """Copies of a module, in a list."""
    return nn.ModuleList([copy.deepcopy(module) for _ in range(N)])
