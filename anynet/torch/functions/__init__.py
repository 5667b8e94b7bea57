"""The functions of the table, by family."""

from anynet.torch.functions import (
    conversion,
    creation,
    factors,
    foreach,
    further,
    indexing,
    linear,
    matrices,
    pointwise,
    random,
    reductions,
    segments,
    shapes,
    signal,
    sparse,
    strides,
)

__all__ = [
    "conversion",
    "creation",
    "factors",
    "foreach",
    "further",
    "indexing",
    "linear",
    "matrices",
    "pointwise",
    "random",
    "reductions",
    "segments",
    "shapes",
    "signal",
    "sparse",
    "strides",
]
