"""Kernels for NumPy's arrays, by family: in NumPy's own terms, and as loops of machine code.

Each replaces a primitive of the same name (see `Primitive.kernel` for what a kernel takes and returns); the reference is in
`anynet/ops/`. In a compiled program a kernel is one instruction.
"""

from __future__ import annotations

from typing import Final

from anynet_backends.kernel_table import KernelTable
from anynet_backends.kernels import (
    activations,
    attention,
    compiled_bins,
    compiled_normalization,
    compiled_softmax,
    convolution,
    embedding,
    normalization,
    padding,
    pooling,
    recurrent,
    resampling,
    softmax,
)

__all__ = ["COMPILED", "KERNELS"]
KERNELS: Final[KernelTable] = {
    name: kernel
    for family in (
        activations,
        attention,
        convolution,
        embedding,
        normalization,
        pooling,
        recurrent,
        resampling,
        softmax,
    )
    for name, kernel in family.KERNELS.items()
}
"""In NumPy's terms, by the name of the primitive."""
COMPILED: Final[KernelTable] = (
    compiled_bins.KERNELS | compiled_normalization.KERNELS | compiled_softmax.KERNELS | padding.KERNELS
)
"""Loops of machine code, which take precedence."""
