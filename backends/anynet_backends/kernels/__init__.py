"""Kernels for NumPy's arrays, by family: in NumPy's own terms, and as loops of machine code.

Each replaces a primitive of the same name (see `Primitive.kernel` for what a kernel takes and returns); the reference is in
`anynet/ops/`. In a compiled program a kernel is one instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from anynet_backends.kernels import (
    activations,
    adam,
    attention,
    compiled_normalization,
    convolution,
    normalization,
    padding,
    pooling,
    recurrent,
    softmax,
)

__all__ = ["COMPILED", "KERNELS", "UPDATES"]
KERNELS: Final[dict[str, Callable[..., Any]]] = {
    name: kernel
    for family in (activations, softmax, normalization, pooling, recurrent, attention, convolution)
    for name, kernel in family.KERNELS.items()
}
"""In NumPy's terms, by the name of the primitive."""
COMPILED: Final[dict[str, Callable[..., Any]]] = compiled_normalization.KERNELS | padding.KERNELS
"""Loops of machine code, which take precedence."""
UPDATES: Final[dict[str, Callable[..., Any]]] = adam.UPDATES
"""Updates of optimizers, by name."""
