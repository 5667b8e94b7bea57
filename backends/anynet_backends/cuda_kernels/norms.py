"""The norm of a vector, and the vector scaled to a norm: two launches, and the host waits for neither."""

from __future__ import annotations

from typing import Final

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.cuda_kernels.launch import SUM, THREADS, CudaKernel

__all__ = ["clip_norm"]

_SQUARES: Final = """
extern "C" __global__ void anynet_squares(const T* x, A* sums, long long n) {
    __shared__ A shared[1024];
    A sum = 0;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)
        sum += x[i] * x[i];
    sum = sum_of_block(sum, shared);
    if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}
"""

# each block adds up the sums for itself, in the same order
_SCALE: Final = """
extern "C" __global__ void anynet_scale_to_norm(T* x, const A* sums, A* norm, double most, double small, long long finite, long long n) {
    __shared__ A shared[1024];
    A sum = 0;
    for (long long i = threadIdx.x; i < gridDim.x; i += blockDim.x) sum += sums[i];
    const A length = sqrt(sum_of_block(sum, shared)), ratio = A(most) / (length + A(small));
    if (threadIdx.x == 0 && blockIdx.x == 0) *norm = length;
    if (ratio >= A(1) || (finite && !(length - length == A(0)))) return;
    for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < n; i += (long long)gridDim.x * blockDim.x)
        x[i] *= ratio;
}
"""
_SQUARES_OF, _SCALE_TO = (
    CudaKernel("anynet_squares", SUM + _SQUARES),
    CudaKernel("anynet_scale_to_norm", SUM + _SCALE),
)


def clip_norm(
    xp: Backend, vector: Array, most: float, small: float, only_finite: bool = False
) -> Array | None:
    """As `Backend.clip_norm`."""
    cupy, letter = xp.native, vector.dtype.char
    if letter not in "fd" or vector.ndim != 1 or not vector.size or not vector.flags.c_contiguous:
        return None
    blocks = min(-(-vector.size // (4 * THREADS)), 1024)
    with vector.device:
        sums, norm = cupy.empty(blocks, letter), cupy.empty((), letter)
        _SQUARES_OF(letter, blocks, THREADS, vector, sums, vector.size)
        _SCALE_TO(
            letter, blocks, THREADS, vector, sums, norm, float(most), small, int(only_finite), vector.size
        )
        return norm
