"""Launching kernels written by hand: each is compiled once for each dtype."""

from __future__ import annotations

import functools
import importlib
from typing import Any, Final

import numpy as np

__all__ = ["FLOATS", "SUM", "THREADS", "CudaKernel", "blocks_for", "threads_for", "wide"]

FLOATS: Final = "eEfd"
"""The dtypes that kernels take, by NumPy's letters; E: bfloat16."""

THREADS: Final = 256

_SHORT: Final = """#include <cuda_{1}.h>
typedef {0} T;
typedef float A;
__device__ inline A up(T x) {{ return __{2}2float(x); }}
__device__ inline T down(A x) {{ return __float2{2}(x); }}
"""
_WIDE: Final = """typedef {0} T;
typedef {0} A;
__device__ inline A up(T x) {{ return x; }}
__device__ inline T down(A x) {{ return x; }}
"""
_TYPES: Final = {
    "e": _SHORT.format("__half", "fp16", "half"),
    "E": _SHORT.format("__nv_bfloat16", "bf16", "bfloat16"),
    "f": _WIDE.format("float"),
    "d": _WIDE.format("double"),
}
_NULL: Final = np.intp(0)

SUM: Final = """
__device__ A sum_of_block(A v, A* shared) {
    const int t = threadIdx.x;
    shared[t] = v;
    __syncthreads();
    for (int n = blockDim.x / 2; n > 0; n /= 2) {
        if (t < n) shared[t] += shared[t + n];
        __syncthreads();
    }
    v = shared[0];
    __syncthreads();
    return v;
}
"""
"""The sum over a block of 2ᵏ threads, for each of them; `shared` has a place for each."""


class CudaKernel:
    """The kernel ``name`` of a CUDA source. There T is what is stored and A what is computed with, `up` and `down` make one of the
    other, and I counts elements. In the parameters whole numbers are ``long long``, others ``double``, absent arrays null pointers."""

    def __init__(self, name: str, source: str) -> None:
        self.name, self.source = name, source
        self._compiled = functools.cache(self._compile)

    def _compile(self, letter: str, large: bool) -> Any:
        text = f"{_TYPES[letter]}typedef {'long long' if large else 'int'} I;\n{self.source}"
        return importlib.import_module("cupy").RawKernel(text, self.name)

    def __call__(
        self, letter: str, blocks: int | tuple[int, ...], threads: int, *args: Any, count: int = 0
    ) -> None:
        """Launch it for arrays of the dtype `letter`; `count`: the most elements that one has, where the kernel has an I."""
        grid = blocks if isinstance(blocks, tuple) else (blocks,)
        kernel = self._compiled(letter, count >= 1 << 30)
        kernel(grid, (threads,), tuple([_NULL if a is None else a for a in args]))

    def each(self, letter: str, n: int, *args: Any, count: int = 0) -> None:
        """Launch it with a thread for each of n elements."""
        self(letter, blocks_for(n), THREADS, *args, count=max(n, count))


def wide(dtype: Any) -> str:
    """The letter of the dtype in which a kernel computes numbers of a dtype."""
    return "f" if dtype.char in "eE" else str(dtype.char)


def blocks_for(n: int) -> int:
    """How many blocks of `THREADS` threads have one for each of n elements."""
    return -(-n // THREADS)


def threads_for(work: int, blocks: int) -> int:
    """How many threads a block has that goes over `work` elements, where there are so many blocks: up to 1024, for which a kernel must be
    compiled (``__launch_bounds__``), since they share the registers."""
    return min(max(32, 1 << max(0, work // 4 - 1).bit_length()), 1024 if blocks < 512 else 256)
