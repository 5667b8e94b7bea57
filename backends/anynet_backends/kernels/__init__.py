"""Kernels for NumPy's arrays, by family: in NumPy's own terms, and as loops of machine code.

Each replaces a primitive of the same name (see `Primitive.kernel` for what a kernel takes and returns); the reference is in
`anynet/ops/`. In a compiled program a kernel is one instruction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from anynet_backends import numpy_kernels
from anynet_backends.kernels import compiled_normalization, convolution, padding

__all__ = ["COMPILED", "KERNELS", "UPDATES"]

KERNELS: Final[dict[str, Callable[..., Any]]] = numpy_kernels.KERNELS | convolution.KERNELS
"""In NumPy's terms, by the name of the primitive."""
COMPILED: Final[dict[str, Callable[..., Any]]] = compiled_normalization.KERNELS | padding.KERNELS
"""Loops of machine code, which take precedence."""
UPDATES: Final[dict[str, Callable[..., Any]]] = numpy_kernels.UPDATES
"""Updates of optimizers, by name."""
