"""NumPy's matrix products without a warning that is false.

For vectors of five float32 numbers OpenBLAS's kernel for processors with AVX-512 (`sgemv`, transposed, a number of rows that is 2
or 3 modulo 4) computes with a part of a register that it has not set. The product is right, but what lay there may raise the
floating-point flag *invalid*, which NumPy reports: "invalid value encountered in matmul", of finite numbers, by chance.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.memory.reductions import PLAIN_FLOATS

if TYPE_CHECKING:
    from anynet_backends.backend import Backend

_FLOAT32: Final = np.dtype(np.float32)
_features: dict[str, Any] = getattr(import_module("numpy._core._multiarray_umath"), "__cpu_features__", {})
WIDE: Final = bool(_features.get("AVX512F", False))
"""Whether the processor has AVX-512."""


def side_by_side(xp: Backend, matrix: Array) -> Array:
    """A matrix, or a stack of them, in which no number stands for many, as in the gradient of a mean: BLAS does not take these, and NumPy's
    own loop takes many times longer and has other last bits."""
    strides = matrix.strides
    if 0 in strides and any(n > 1 and not s for n, s in zip(matrix.shape[-2:], strides[-2:], strict=True)):
        return xp.astype(matrix, matrix.dtype, copy=True)
    return matrix


def may_warn_falsely(a: Array, b: Array) -> bool:
    """Whether the flag of a product may be false: one of the kernel's operands is a vector of five."""
    if a.shape[-1:] != (5,) or a.dtype != _FLOAT32 or not WIDE:
        return False
    vector: bool = a.ndim < 2 or b.ndim < 2 or a.shape[-2] == 1 or b.shape[-1] == 1
    return vector


def matmul(a: Array, b: Array, /, out: Array | None = None) -> Array:
    """`np.matmul`, silent where its warning may be false; a NaN that comes of such a product stays in its result.

    The product of a column and a row is element by element, 0 + a b as BLAS has it, which takes ten times longer."""
    if (
        a.shape[-1:] == (1,)
        and a.ndim > 1
        and b.ndim > 1
        and b.shape[-2] == 1
        and a.dtype == b.dtype in PLAIN_FLOATS
    ):
        y: Array = np.multiply(a, b, out)
        return np.add(y, 0.0, y)
    if may_warn_falsely(a, b):
        with np.errstate(invalid="ignore"):
            return np.matmul(a, b, out)
    return np.matmul(a, b, out)
