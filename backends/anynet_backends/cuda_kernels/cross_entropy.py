"""Cross-entropy of rows: a block for each row, forward and backward."""

from __future__ import annotations

from typing import Any, Final

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.cuda_kernels.launch import FLOATS, SUM, CudaKernel, threads_for, wide
from anynet_backends.kernel_table import KernelTable, register_in

__all__ = ["KERNELS"]

KERNELS: KernelTable = {}
_kernel = register_in(KERNELS)

_CROSS_ENTROPY: Final = """
extern "C" __global__ void __launch_bounds__(1024) anynet_cross_entropy(
    const T* x, const long long* index, T* loss, A* largest, A* sums, long long classes
) {
    __shared__ A shared[1024];
    const T* row = x + blockIdx.x * classes;
    const int t = threadIdx.x;
    A top = up(row[t < classes ? t : 0]);
    for (long long c = t; c < classes; c += blockDim.x) top = up(row[c]) > top ? up(row[c]) : top;
    shared[t] = top;
    __syncthreads();
    for (int n = blockDim.x / 2; n > 0; n /= 2) {
        if (t < n && shared[t + n] > shared[t]) shared[t] = shared[t + n];
        __syncthreads();
    }
    top = shared[0];
    __syncthreads();
    A sum = 0;
    for (long long c = t; c < classes; c += blockDim.x) sum += exp(up(row[c]) - top);
    sum = sum_of_block(sum, shared);
    if (t == 0) {
        const long long c = index[blockIdx.x];
        largest[blockIdx.x] = top;
        sums[blockIdx.x] = sum;
        loss[blockIdx.x] = down(c < 0 ? A(0) : c < classes ? log(sum) - (up(row[c]) - top) : sqrt(A(-1)));
    }
}
"""

_CROSS_ENTROPY_X: Final = """
extern "C" __global__ void __launch_bounds__(1024) anynet_cross_entropy_x(
    const T* g, const T* x, const long long* index, const A* largest, const A* sums, T* gx, long long classes,
    long long step
) {
    const long long row = blockIdx.x, hit = index[row];
    for (long long c = threadIdx.x; c < classes; c += blockDim.x) {
        const long long at = row * classes + c;
        const A p = exp(up(x[at]) - largest[row]) / sums[row];
        gx[at] = down(hit < 0 ? A(0) : up(g[row * step]) * (p - (c == hit ? A(1) : A(0))));
    }
}
"""

_FORWARD: Final = CudaKernel("anynet_cross_entropy", SUM + _CROSS_ENTROPY)
_BACKWARD: Final = CudaKernel("anynet_cross_entropy_x", _CROSS_ENTROPY_X)


@_kernel
def cross_entropy_rows(
    xp: Backend, x: Array, index: Array, weight: Array | None = None, /, *, smoothing: float = 0.0, need: Any
) -> Any:
    """The plain case: a block for each row, forward and backward."""
    if weight is not None or smoothing or x.dtype.char not in FLOATS or not x.size:
        return NotImplemented
    cupy = xp.native
    (n, classes), x = x.shape, cupy.ascontiguousarray(x)
    index = cupy.ascontiguousarray(index, dtype="int64")
    loss, largest, sums = (cupy.empty(n, kind) for kind in (x.dtype, wide(x.dtype), wide(x.dtype)))
    letter, threads = x.dtype.char, threads_for(classes, n)
    _FORWARD(letter, n, threads, x, index, loss, largest, sums, classes)
    if need is None:
        return loss

    def pull(g: Array) -> tuple[Any, ...]:
        gx = cupy.empty(x.shape, x.dtype)
        step = g.strides[0] // g.itemsize  # 0 of a mean: one number for all rows
        _BACKWARD(letter, n, threads, g, x, index, largest, sums, gx, classes, step)
        return gx, *(None,) * (len(need) - 1)

    return loss, pull
