"""Kernels for CUDA, by the name of the primitive that they replace: one launch for what the reference takes many."""

from __future__ import annotations

import functools
import importlib
from typing import Any, Final

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.kernel_table import Kernel, KernelTable, register_in

__all__ = ["ELEMENTWISE", "KERNELS"]

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)

ELEMENTWISE: Final = {
    "anynet_gelu": ("T x", "T y", "y = T(0.5) * x * erfc(x * T(-0.70710678118654752440))"),
    "anynet_gelu_and_slope": (
        "T x",
        "T y, T slope",
        """
        const T phi = T(0.5) * erfc(x * T(-0.70710678118654752440));
        y = x * phi;
        slope = phi + x * exp(T(-0.5) * x * x) * T(0.39894228040143267794);
        """,
    ),
    "anynet_erf": ("T x", "T y", "y = erf(x)"),
    "anynet_erfc": ("T x", "T y", "y = erfc(x)"),
}
"""Name → inputs, outputs, body; T is float or double."""


@functools.cache
def _compiled(name: str) -> Any:
    return importlib.import_module("cupy").ElementwiseKernel(*ELEMENTWISE[name], name)


def _wide(x: Array) -> bool:
    return x.dtype.char in "fd"


@_kernel
def gelu(xp: Backend, x: Array, /, *, need: Any) -> Any:
    """x Φ(x), and Φ(x) + x φ(x) along with it."""
    if not _wide(x):
        return NotImplemented
    if need is None:
        return _compiled("anynet_gelu")(x)
    y, slope = _compiled("anynet_gelu_and_slope")(x)
    return y, lambda g: (g * slope,)


def _erf(xp: Backend, x: Array, /) -> Any:
    return _compiled("anynet_erf")(x) if _wide(x) else NotImplemented


def _erfc(xp: Backend, x: Array, /) -> Any:
    return _compiled("anynet_erfc")(x) if _wide(x) else NotImplemented


KERNELS["erf"], KERNELS["erfc"] = Kernel(_erf), Kernel(_erfc)
