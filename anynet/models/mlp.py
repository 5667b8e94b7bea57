"""The multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence

from anynet.models.options import activation_class, check_probability, check_sizes
from anynet.nn.containers import Sequential
from anynet.nn.dropout import Dropout
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.nn.norm import BatchNorm1d, LayerNorm
from anynet.nn.shape import Flatten

__all__ = ["MLP"]

_NORMS = {"batch": BatchNorm1d, "layer": LayerNorm}


class MLP(Sequential):
    """Linear layers with an activation f between them: x₀ = x, x_{i+1} = f(norm(W_i x_i + b_i)), y = W_n x_n + b_n.

    Shapes: (n, in_features) → (n, out_features). Where `in_features` is a tuple of axes, as (28, 28), the samples are flattened first.

    Parameters:
      in_features: the number of features of a sample, or its shape.
      out_features: the number of classes (the outputs are logits) or of predicted numbers.
      hidden: the widths of the layers between; () is a linear model.
      activation: relu, gelu, silu, tanh, … (`anynet.nn`'s activations by name).
      norm: None, "batch" or "layer", before each activation.
      dropout: the probability with which a hidden unit is set to zero in training.

    Errors: ValueError for sizes below 1, an unknown activation or norm, a dropout outside [0, 1).

    >>> import anynet as an
    >>> net = an.models.MLP(4, 3, hidden=(16, 8))
    >>> net(an.ones((5, 4))).shape, sum(p.size for p in net.parameters())
    ((5, 3), 243)
    """

    def __init__(
        self,
        in_features: int | Sequence[int],
        out_features: int,
        hidden: Sequence[int] = (128, 64),
        activation: str = "relu",
        norm: str | None = None,
        dropout: float = 0.0,
    ) -> None:
        shape = (in_features,) if isinstance(in_features, int) else tuple(in_features)
        widths = list(hidden) if isinstance(hidden, Sequence) else [hidden]
        check_sizes(
            "MLP",
            **{f"in_features[{i}]" if len(shape) > 1 else "in_features": n for i, n in enumerate(shape)},
        )
        check_sizes("MLP", out_features=out_features, **{f"hidden[{i}]": n for i, n in enumerate(widths)})
        check_probability("MLP", dropout=dropout)
        if norm is not None and norm not in _NORMS:
            msg = f"MLP: norm must be None, 'batch' or 'layer', got {norm!r}"
            raise ValueError(msg)
        act = activation_class("MLP", activation)
        before = math.prod(shape)
        layers: list[Module] = [] if isinstance(in_features, int) else [Flatten()]
        for width in widths:
            layers.append(Linear(before, width))
            if norm is not None:
                layers.append(_NORMS[norm](width))
            layers.append(act())
            if dropout:
                layers.append(Dropout(dropout))
            before = width
        super().__init__(*layers, Linear(before, out_features))
