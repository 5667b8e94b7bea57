"""Kernels for CUDA that reduce: normalisation, cross-entropy, maxima of windows. A block sums one group, row or weight, always in the
same order, so that results have the same bits at every run; no atomics.

Each is one launch where the reference takes dozens; gradients of weights whose elements lie apart (layer normalisation's) are two.
"""

from __future__ import annotations

import functools
import importlib
import math
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.kernel_table import Kernel, KernelTable, register_in

__all__ = ["KERNELS", "SOURCES"]

KERNELS: KernelTable = {}
_kernel = register_in(KERNELS)

_SUM: Final = """
#define AT(k) (((k) / inner * groups + group) * inner + (k) % inner)
__device__ T sum_of_block(T v, T* shared) {
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

# x seen as (outer, groups, inner), whose element k of a group is AT(k): a block for each group. The weight of an element is that of its
# position / trail % size.
_NORMALIZE: Final = """
extern "C" __global__ void anynet_normalize(
    const T* x, const T* weight, const T* bias, T* y, T* means, T* variances,
    T eps, int centred, long long outer, long long groups, long long inner, long long trail, long long size
) {
    __shared__ T shared[1024];
    const long long group = blockIdx.x, m = outer * inner;
    T sum = 0;
    if (centred)
        for (long long k = threadIdx.x; k < m; k += blockDim.x) sum += x[AT(k)];
    const T mean = centred ? sum_of_block(sum, shared) / m : T(0);
    sum = 0;
    for (long long k = threadIdx.x; k < m; k += blockDim.x) {
        const T v = x[AT(k)] - mean;
        sum += v * v;
    }
    const T variance = sum_of_block(sum, shared) / m, rate = T(1) / sqrt(variance + eps);
    if (threadIdx.x == 0) { means[group] = mean; variances[group] = variance; }
    for (long long k = threadIdx.x; k < m; k += blockDim.x) {
        const long long at = AT(k), w = at / trail % size;
        const T v = (x[at] - mean) * (weight ? rate * weight[w] : rate);
        y[at] = bias ? v + bias[w] : v;
    }
}
"""

_NORMALIZE_X: Final = """
extern "C" __global__ void anynet_normalize_x(
    const T* g, const T* x, const T* weight, const T* means, const T* variances, T* gx,
    T eps, int centred, long long outer, long long groups, long long inner, long long trail, long long size
) {
    __shared__ T shared[1024];
    const long long group = blockIdx.x, m = outer * inner;
    const T mean = means[group], rate = T(1) / sqrt(variances[group] + eps);
    T first = 0, second = 0;
    for (long long k = threadIdx.x; k < m; k += blockDim.x) {
        const long long at = AT(k);
        const T v = weight ? g[at] * weight[at / trail % size] : g[at];
        first += v;
        second += v * ((x[at] - mean) * rate);
    }
    first = centred ? sum_of_block(first, shared) / m : T(0);
    second = sum_of_block(second, shared) / m;
    for (long long k = threadIdx.x; k < m; k += blockDim.x) {
        const long long at = AT(k);
        const T v = weight ? g[at] * weight[at / trail % size] : g[at];
        gx[at] = (v - first - (x[at] - mean) * rate * second) * rate;
    }
}
"""

# a block for each weight and part of the lead: x seen as (lead, size, trail)
_NORMALIZE_WEIGHTS: Final = """
extern "C" __global__ void anynet_normalize_weights(
    const T* g, const T* x, const T* means, const T* variances, T* gw, T* gb,
    T eps, long long lead, long long groups, long long inner, long long trail, long long size
) {
    __shared__ T shared[1024];
    const long long w = blockIdx.x, parts = gridDim.y, part = blockIdx.y;
    const long long begin = lead * part / parts, m = (lead * (part + 1) / parts - begin) * trail;
    T first = 0, second = 0;
    for (long long k = threadIdx.x; k < m; k += blockDim.x) {
        const long long at = ((begin + k / trail) * size + w) * trail + k % trail, group = at / inner % groups;
        first += g[at];
        second += g[at] * (x[at] - means[group]) * (T(1) / sqrt(variances[group] + eps));
    }
    first = sum_of_block(first, shared);
    second = sum_of_block(second, shared);
    if (threadIdx.x == 0) { gb[part * size + w] = first; gw[part * size + w] = second; }
}
"""

_CROSS_ENTROPY: Final = """
extern "C" __global__ void anynet_cross_entropy(
    const T* x, const long long* index, T* loss, T* largest, T* sums, long long classes
) {
    __shared__ T shared[1024];
    const T* row = x + blockIdx.x * classes;
    const int t = threadIdx.x;
    T top = row[t < classes ? t : 0];
    for (long long c = t; c < classes; c += blockDim.x) top = row[c] > top ? row[c] : top;
    shared[t] = top;
    __syncthreads();
    for (int n = blockDim.x / 2; n > 0; n /= 2) {
        if (t < n && shared[t + n] > shared[t]) shared[t] = shared[t + n];
        __syncthreads();
    }
    top = shared[0];
    __syncthreads();
    T sum = 0;
    for (long long c = t; c < classes; c += blockDim.x) sum += exp(row[c] - top);
    sum = sum_of_block(sum, shared);
    if (t == 0) {
        const long long c = index[blockIdx.x];
        largest[blockIdx.x] = top;
        sums[blockIdx.x] = sum;
        loss[blockIdx.x] = c < 0 ? T(0) : c < classes ? log(sum) - (row[c] - top) : sqrt(T(-1));
    }
}
"""

_CROSS_ENTROPY_X: Final = """
extern "C" __global__ void anynet_cross_entropy_x(
    const T* g, const T* x, const long long* index, const T* largest, const T* sums, T* gx, long long classes
) {
    const long long row = blockIdx.x, hit = index[row];
    for (long long c = threadIdx.x; c < classes; c += blockDim.x) {
        const long long at = row * classes + c;
        gx[at] = hit < 0 ? T(0) : g[row] * (exp(x[at] - largest[row]) / sums[row] - (c == hit ? T(1) : T(0)));
    }
}
"""

SOURCES: Final = {
    "anynet_normalize": _SUM + _NORMALIZE,
    "anynet_normalize_x": _SUM + _NORMALIZE_X,
    "anynet_normalize_weights": _SUM + _NORMALIZE_WEIGHTS,
    "anynet_cross_entropy": _SUM + _CROSS_ENTROPY,
    "anynet_cross_entropy_x": _CROSS_ENTROPY_X,
}
"""Name → source; T is float or double."""


@functools.cache
def _compiled(name: str, dtype: str) -> Any:
    cupy = importlib.import_module("cupy")
    return cupy.RawKernel(f"typedef {'float' if dtype == 'f' else 'double'} T;\n{SOURCES[name]}", name)


def _launch(name: str, blocks: tuple[int, ...], work: int, dtype: Any, *args: Any) -> None:
    """`work`: how many elements a block reads; absent arrays are null pointers."""
    threads = min(max(32, 1 << max(0, work // 4 - 1).bit_length()), 1024 if blocks[0] < 512 else 256)
    real = dtype.type
    given = [
        np.intp(0) if a is None else real(a) if isinstance(a, float) else np.int32(a) if isinstance(a, bool)
        else np.int64(a) if isinstance(a, int) else a
        for a in args
    ]  # fmt: skip
    _compiled(name, dtype.char)(blocks, (threads,), tuple(given))


def _block_of(axes: list[int], dims: tuple[int, ...]) -> tuple[int, int] | None:
    """Begin and end of axes that lie side by side but for those of length 1."""
    axes = [i for i in axes if dims[i] != 1]
    if not axes:
        return 0, 0
    between = [i for i in range(axes[0], axes[-1] + 1) if dims[i] != 1]
    return (axes[0], axes[-1] + 1) if between == axes else None


@_kernel
def normalize(
    xp: Backend, x: Array, weight: Array | None = None, bias: Array | None = None, *, axes: tuple[int, ...], eps: float,
    shape: tuple[int, ...], split: tuple[int, ...] = (), centred: bool = True, need: Any,
) -> Any:  # fmt: skip
    """Mean and variance of each group, and the result, in one launch; the gradient of x in another."""
    dims = tuple(split or x.shape)
    group_axes = _block_of([i for i in range(len(dims)) if i not in axes], dims)
    weight_axes = _block_of([i for i, n in enumerate(shape) if n != 1], dims)
    weights = [w for w in (weight, bias) if w is not None]
    if (
        x.dtype.char not in "fd" or not x.size or group_axes is None or weight_axes is None
        or any(w.dtype != x.dtype or w.size != math.prod(shape) for w in weights)
        or any(shape[i] != dims[i] for i in range(*weight_axes))
    ):  # fmt: skip
        return NotImplemented
    cupy = xp.native
    begin, end = group_axes
    outer, groups, inner = math.prod(dims[:begin]), math.prod(dims[begin:end]), math.prod(dims[end:])
    trail, size = math.prod(dims[weight_axes[1] :]), max(1, math.prod(dims[slice(*weight_axes)]))
    whole = cupy.ascontiguousarray(x)
    scale, shift = (None if w is None else cupy.ascontiguousarray(w) for w in (weight, bias))
    stats = tuple(1 if i in axes else n for i, n in enumerate(dims))
    y, mean, variance = cupy.empty(x.shape, x.dtype), cupy.empty(stats, x.dtype), cupy.empty(stats, x.dtype)
    form = (float(eps), bool(centred), outer, groups, inner, trail, size)
    _launch(
        "anynet_normalize", (groups,), outer * inner, x.dtype, whole, scale, shift, y, mean, variance, *form
    )
    if need is None:
        return y, mean, variance

    def pull(g: Array) -> tuple[Any, ...]:
        g = cupy.ascontiguousarray(g)
        gx = gw = gb = None
        if need[0]:
            gx = cupy.empty(x.shape, x.dtype)
            _launch(
                "anynet_normalize_x", (groups,), outer * inner, x.dtype, g, whole, scale, mean, variance, gx, *form
            )  # fmt: skip
        if any(need[1:]):
            lead = x.size // (size * trail)
            parts = max(1, min(lead // 64, 64)) if trail == 1 else 1
            sums = cupy.empty((2, parts, size), x.dtype)
            _launch(
                "anynet_normalize_weights", (size, parts), lead * trail // parts, x.dtype, g, whole, mean, variance, sums[0], sums[1],
                float(eps), lead, groups, inner, trail, size,
            )  # fmt: skip
            total = sums[:, 0] if parts == 1 else sums.sum(axis=1)
            gw, gb = (
                None if w is None or not wanted else one.reshape(w.shape)
                for w, wanted, one in zip((weight, bias), (*need[1:], False), total, strict=False)
            )
        return (gx, gw, gb)[: len(need)]

    return (y, mean, variance), pull


@_kernel
def cross_entropy_rows(
    xp: Backend, x: Array, index: Array, weight: Array | None = None, /, *, smoothing: float = 0.0, need: Any
) -> Any:
    """The plain case: a block for each row, forward and backward."""
    if weight is not None or smoothing or x.dtype.char not in "fd" or not x.size:
        return NotImplemented
    cupy = xp.native
    (n, classes), x = x.shape, cupy.ascontiguousarray(x)
    index = cupy.ascontiguousarray(index, dtype="int64")
    loss, largest, sums = (cupy.empty(n, x.dtype) for _ in range(3))
    _launch("anynet_cross_entropy", (n,), classes, x.dtype, x, index, loss, largest, sums, classes)
    if need is None:
        return loss

    def pull(g: Array) -> tuple[Any, ...]:
        gx = cupy.empty(x.shape, x.dtype)
        g = cupy.ascontiguousarray(g)
        _launch("anynet_cross_entropy_x", (n,), classes, x.dtype, g, x, index, largest, sums, gx, classes)
        return gx, *(None,) * (len(need) - 1)

    return loss, pull


_NUMBERS: Final = ", ".join(f"int64 f{i}" for i in range(18))
_FORM: Final = f"const long long f[18] = {{{', '.join(f'f{i}' for i in range(18))}}};"
WINDOW: Final = {
    "anynet_max_pool": (
        f"raw T x, {_NUMBERS}",
        "T y",
        _FORM
        + """
        long long o[3], rest = i;
        for (int a = 2; a >= 0; --a) { o[a] = rest % f[a]; rest /= f[a]; }
        bool found = false;
        T top = 0;
        for (long long p = 0; p < f[6]; ++p) for (long long q = 0; q < f[7]; ++q) for (long long r = 0; r < f[8]; ++r) {
            const long long u = o[0] * f[9] + p * f[12] - f[15], v = o[1] * f[10] + q * f[13] - f[16], w = o[2] * f[11] + r * f[14] - f[17];
            if (u < 0 || v < 0 || w < 0 || u >= f[3] || v >= f[4] || w >= f[5]) continue;
            const T value = x[((rest * f[3] + u) * f[4] + v) * f[5] + w];
            if (!found || value > top || (value != value && top == top)) { top = value; found = true; }
        }
        y = top;
        """,
    ),
    "anynet_max_pool_spread": (
        f"raw T g, raw T x, raw T top, {_NUMBERS}",
        "T y",
        _FORM
        + """
        long long at[3], rest = i;
        for (int a = 2; a >= 0; --a) { at[a] = rest % f[3 + a]; rest /= f[3 + a]; }
        T sum = 0;
        for (long long p = 0; p < f[6]; ++p) for (long long q = 0; q < f[7]; ++q) for (long long r = 0; r < f[8]; ++r) {
            const long long offset[3] = {p, q, r};
            long long o[3];
            bool inside = true;
            for (int a = 0; a < 3; ++a) {  // the window in which this element is at the offset
                const long long start = at[a] + f[15 + a] - offset[a] * f[12 + a];
                o[a] = start / f[9 + a];
                inside = inside && start >= 0 && start % f[9 + a] == 0 && o[a] < f[a];
            }
            if (!inside) continue;
            const long long window = ((rest * f[0] + o[0]) * f[1] + o[1]) * f[2] + o[2];
            const T largest = top[window], own = x[i];
            if (!(own == largest || own != own)) continue;
            bool first = true;  // of equal elements the first one has the gradient
            const long long number = (p * f[7] + q) * f[8] + r;
            for (long long k = 0; first && k < number; ++k) {
                const long long u = o[0] * f[9] + k / (f[7] * f[8]) * f[12] - f[15], v = o[1] * f[10] + k / f[8] % f[7] * f[13] - f[16];
                const long long w = o[2] * f[11] + k % f[8] * f[14] - f[17];
                if (u < 0 || v < 0 || w < 0 || u >= f[3] || v >= f[4] || w >= f[5]) continue;
                const T value = x[((rest * f[3] + u) * f[4] + v) * f[5] + w];
                first = !(value == largest || value != value);
            }
            if (first) sum += g[window];
        }
        y = sum;
        """,
    ),
}
"""Name → inputs, outputs, body; f: windows, size, kernel, stride, dilation, padding before, each along three axes."""


@functools.cache
def _window_kernel(name: str) -> Any:
    return importlib.import_module("cupy").ElementwiseKernel(*WINDOW[name], name)


def _form(x: Array, out: Any, kernel: Any, stride: Any, pads: Any, dilation: Any) -> list[int] | None:
    """The numbers of the windows, three axes each; None where the kernels do not take them."""
    if x.dtype.char not in "fd" or not x.size or len(kernel) > 3 or 0 in out:
        return None
    spatial = x.shape[x.ndim - len(kernel) :]
    parts = (out, spatial, kernel, stride, dilation, [before for before, _ in pads])
    fills = (1, 1, 1, 1, 1, 0)
    return [n for part, fill in zip(parts, fills, strict=True) for n in (*[fill] * (3 - len(part)), *part)]


def _max_pool(xp: Backend, x: Array, *, out: Any, kernel: Any, stride: Any, pads: Any, dilation: Any) -> Any:
    form = _form(x, out, kernel, stride, pads, dilation)
    if form is None:
        return NotImplemented
    y = xp.native.empty((*x.shape[: x.ndim - len(kernel)], *out), x.dtype)
    return _window_kernel("anynet_max_pool")(xp.native.ascontiguousarray(x), *form, y)


def _max_pool_spread(
    xp: Backend,
    g: Array,
    x: Array,
    top: Array,
    *,
    out: Any,
    kernel: Any,
    stride: Any,
    pads: Any,
    dilation: Any,
) -> Any:
    form = _form(x, out, kernel, stride, pads, dilation)
    if form is None or g.dtype != x.dtype:
        return NotImplemented
    g, x, top = (xp.native.ascontiguousarray(a) for a in (g, x, top))
    return _window_kernel("anynet_max_pool_spread")(g, x, top, *form, xp.native.empty(x.shape, x.dtype))


KERNELS["max_pool"], KERNELS["max_pool_spread"] = Kernel(_max_pool), Kernel(_max_pool_spread)
