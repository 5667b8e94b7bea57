"""Kernels for NumPy's arrays, by family: in NumPy's own terms, and as loops of machine code.

Each replaces a primitive of the same name (see `Primitive.kernel` for what a kernel takes and returns); the reference is in
`anynet/ops/`. In a compiled program a kernel is one instruction.
"""

from __future__ import annotations

import os
from typing import Any, Final

from anynet_backends.concurrency import late_import
from anynet_backends.jit import availability
from anynet_backends.kernel_table import Kernel, KernelTable

# in the wheel what machine code alone needs lies in an archive (hatch_build.py)
__path__.append(os.path.join(__path__[0], "inside.zip"))

from anynet_backends.kernels import (  # noqa: E402  after the path
    activations,
    attention,
    compiled_normalization,
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


def _late(module: str, name: str) -> Kernel:
    """A kernel of a module that is imported at its first call, where there is machine code."""

    def forward(xp: Any, *data: Any, **meta: Any) -> Any:
        if not availability.available():
            return NotImplemented
        table: KernelTable = late_import(f"anynet_backends.kernels.{module}").KERNELS
        return table[name].forward(xp, *data, **meta)

    return Kernel(forward, vjp=True, traceable=True)


COMPILED: Final[KernelTable] = (
    compiled_normalization.KERNELS
    | padding.KERNELS
    | {name: _late("compiled_bins", name) for name in ("bin_index", "bin_mean", "bin_spread")}
    | {name: _late("compiled_running", name) for name in ("cumulative_prod", "cumulative_sum")}
    | {"sparse_matmul": _late("compiled_sparse", "sparse_matmul")}
    | {name: _late("compiled_softmax", name) for name in ("cross_entropy_rows", "log_softmax", "softmax")}
)
"""Loops of machine code, which take precedence."""
