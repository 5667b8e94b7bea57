"""Dropout with its mask in one launch."""

from __future__ import annotations

import math
from typing import Final

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.cuda_kernels.launch import FLOATS, CudaKernel
from anynet_backends.jit.cuda_capture import random_address
from anynet_backends.jit.cuda_random import PHILOX

__all__ = ["drop"]

# The elements of x that a word is for lie side by side. Where these are one, a thread has a block of words: eight elements.
_DROP: Final = """
extern "C" __global__ void anynet_drop(
    const T* x, T* y, unsigned long long stream, long long threshold, double scale, long long each, long long n,
    unsigned long long k0, unsigned long long k1, unsigned long long step, const unsigned long long* cells
) {
    if (cells) { k0 = cells[0]; k1 = cells[1]; step += cells[2]; }
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    const long long begin = each == 1 ? thread * 8 : thread, end = each == 1 ? begin + 8 : begin + 1;
    if (begin >= n) return;
    unsigned long long word[4];
    philox(begin / each / 8, k0, k1, step, stream, word);
    for (long long i = begin; i < end && i < n; ++i) {
        const int j = i / each % 8;
        const unsigned int bits = (unsigned int)(word[j / 2] >> (32 * (j & 1)));
        y[i] = down(up(x[i]) * (bits >= threshold ? A(scale) : A(0)));
    }
}
"""
_KERNEL: Final = CudaKernel("anynet_drop", PHILOX + _DROP)


def drop(
    xp: Backend,
    x: Array,
    mask_shape: tuple[int, ...],
    address: tuple[int, int, int],
    threshold: int,
    scale: float,
) -> Array | None:
    """As `Backend.drop`."""
    if x.dtype.char not in FLOATS or not x.size or len(mask_shape) != x.ndim:
        return None
    lead = next((i for i, n in enumerate(mask_shape) if n != x.shape[i]), x.ndim)
    if any(n != 1 for n in mask_shape[lead:]):
        return None
    (key, stream, step), cupy = address, xp.native
    with x.device:
        given, y = cupy.ascontiguousarray(x), cupy.empty(x.shape, x.dtype)
        each = math.prod(x.shape[lead:])
        rate = float(x.dtype.type(scale))  # as it is beside x
        _KERNEL.each(
            x.dtype.char,
            x.size if each > 1 else -(-x.size // 8),
            given,
            y,
            cupy.uint64(stream),
            threshold,
            rate,
            each,
            x.size,
            *random_address(key, step),
        )
        return y
