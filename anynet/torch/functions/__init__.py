"""The functions of the table, by family."""

from anynet.torch.functions import (
    conversion,
    creation,
    further,
    indexing,
    linear,
    pointwise,
    random,
    reductions,
    shapes,
)

__all__ = [
    "conversion",
    "creation",
    "further",
    "indexing",
    "linear",
    "pointwise",
    "random",
    "reductions",
    "shapes",
]
