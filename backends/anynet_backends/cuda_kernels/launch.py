"""Launching kernels written by hand: each is compiled once for each dtype."""

from __future__ import annotations

import functools
import importlib
from typing import Any, Final

import numpy as np

__all__ = ["FLOATS", "THREADS", "CudaKernel", "blocks_for"]

FLOATS: Final = "efd"
"""The dtypes that kernels take, by NumPy's letters."""

THREADS: Final = 256

_HALF: Final = """#include <cuda_fp16.h>
typedef __half T;
typedef float A;
__device__ inline A up(T x) { return __half2float(x); }
__device__ inline T down(A x) { return __float2half(x); }
"""
_WIDE: Final = """typedef {0} T;
typedef {0} A;
__device__ inline A up(T x) {{ return x; }}
__device__ inline T down(A x) {{ return x; }}
"""
_TYPES: Final = {"e": _HALF, "f": _WIDE.format("float"), "d": _WIDE.format("double")}
_NULL: Final = np.intp(0)


class CudaKernel:
    """The kernel ``name`` of a CUDA source, in which T is what is stored and A what is computed with, `up` and `down` make one of the
    other. Whole numbers are ``long long``, others ``double``, and absent arrays null pointers."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source
        self._compiled = functools.cache(self._compile)

    def _compile(self, letter: str) -> Any:
        return importlib.import_module("cupy").RawKernel(_TYPES[letter] + self.source, self.name)

    def __call__(self, letter: str, blocks: int | tuple[int, ...], threads: int, *args: Any) -> None:
        """Launch it for arrays of the dtype `letter`."""
        grid = blocks if isinstance(blocks, tuple) else (blocks,)
        self._compiled(letter)(grid, (threads,), tuple([_NULL if a is None else a for a in args]))


def blocks_for(n: int) -> int:
    """How many blocks of `THREADS` threads have one for each of n elements."""
    return -(-n // THREADS)
