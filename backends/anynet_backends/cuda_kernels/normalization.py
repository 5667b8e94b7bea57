"""Normalisation: a block for each group, or, where groups are few and large, several blocks for each, in two launches.

x is seen as (outer, groups, inner). The weight of an element is that of its position / trail % size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.cuda_kernels.launch import FLOATS, SUM, CudaKernel, threads_for, wide
from anynet_backends.kernel_table import KernelTable, register_in

__all__ = ["KERNELS", "Limits", "move_averages"]

KERNELS: KernelTable = {}
_kernel = register_in(KERNELS)


class Limits:
    """From where on a group has several blocks."""

    whole = 1 << 15
    """Elements of a group that one block goes over."""
    blocks = 256
    """Groups that fill a GPU."""
    parts = 64
    """The most blocks that a group has."""


_HEAD: Final = f"""{SUM}
#define FORM double eps_, long long centred, long long outer, long long groups, long long inner, long long trail, long long size
#define AT(k) (((k) / (I)inner * (I)groups + (I)group) * (I)inner + (k) % (I)inner)
#define BEGIN \\
    __shared__ A shared[1024]; \\
    const A eps = A(eps_); \\
    const long long group = blockIdx.x, m = outer * inner, parts = gridDim.y, part = blockIdx.y; \\
    const I begin = m * part / parts, end = m * (part + 1) / parts;
#define EACH(k) for (I k = begin + threadIdx.x; k < end; k += blockDim.x)
#define WRITE \\
    EACH(k) {{ \\
        const I at = AT(k), w = at / (I)trail % (I)size; \\
        const A v = (up(x[at]) - mean) * (weight ? rate * up(weight[w]) : rate); \\
        y[at] = down(bias ? v + up(bias[w]) : v); \\
    }}
"""

# the mean and the sum of squares around it of one block's part
_PART: Final = """
    A sum = 0;
    if (centred) EACH(k) sum += up(x[AT(k)]);
    A mean = centred ? sum_of_block(sum, shared) / (end - begin) : A(0);
    sum = 0;
    EACH(k) {
        const A v = up(x[AT(k)]) - mean;
        sum += v * v;
    }
    sum = sum_of_block(sum, shared);
"""

_NORMALIZE: Final = f"""
extern "C" __global__ void __launch_bounds__(1024) anynet_normalize(
    const T* x, const T* weight, const T* bias, T* y, A* means, A* variances, FORM
) {{
    BEGIN
    {_PART}
    const A variance = sum / m, rate = A(1) / sqrt(variance + eps);
    if (threadIdx.x == 0) {{ means[group] = mean; variances[group] = variance; }}
    WRITE
}}
"""

_MOMENTS: Final = f"""
extern "C" __global__ void __launch_bounds__(1024) anynet_moments(const T* x, A* moments, FORM) {{
    BEGIN
    {_PART}
    if (threadIdx.x == 0) {{
        moments[(group * parts + part) * 2] = mean;
        moments[(group * parts + part) * 2 + 1] = sum;
    }}
}}
"""

# the parts are joined in their order by each block (Chan, Golub, LeVeque 1979)
_NORMALIZE_PART: Final = """
extern "C" __global__ void __launch_bounds__(1024) anynet_normalize_part(
    const T* x, const T* weight, const T* bias, T* y, A* means, A* variances, const A* moments, FORM
) {
    BEGIN
    A mean = 0, sum = 0, seen = 0;
    for (long long p = 0; p < parts; ++p) {
        const A n = m * (p + 1) / parts - m * p / parts, delta = moments[(group * parts + p) * 2] - mean;
        sum += moments[(group * parts + p) * 2 + 1] + delta * delta * (seen * n / (seen + n));
        mean += delta * (n / (seen + n));
        seen += n;
    }
    const A variance = sum / m, rate = A(1) / sqrt(variance + eps);
    if (threadIdx.x == 0 && part == 0) { means[group] = mean; variances[group] = variance; }
    WRITE
}
"""

# Backward. With gb each group has one weight, so that the sums are the gradients of weight and bias.
_BACK: Final = """
#define GIVEN(at) (weight && !gb ? up(g[at]) * up(weight[(at) / (I)trail % (I)size]) : up(g[at]))
#define SUMS \\
    const A mean = means[group], rate = A(1) / sqrt(variances[group] + eps); \\
    A first = 0, second = 0; \\
    EACH(k) { \\
        const I at = AT(k); \\
        const A v = GIVEN(at); \\
        first += v; \\
        second += v * ((up(x[at]) - mean) * rate); \\
    } \\
    first = sum_of_block(first, shared); \\
    second = sum_of_block(second, shared);
#define WRITE_X \\
    if (threadIdx.x == 0 && part == 0 && gb) { gb[group] = down(first); gw[group] = down(second); } \\
    const A scale = gb && weight ? rate * up(weight[group]) : rate; \\
    first = centred ? first / m : A(0); \\
    second /= m; \\
    EACH(k) { \\
        const I at = AT(k); \\
        gx[at] = down((GIVEN(at) - first - (up(x[at]) - mean) * rate * second) * scale); \\
    }
"""

_NORMALIZE_X: Final = """
extern "C" __global__ void __launch_bounds__(1024) anynet_normalize_x(
    const T* g, const T* x, const T* weight, const A* means, const A* variances, T* gx, T* gw, T* gb, FORM
) {
    BEGIN
    SUMS
    WRITE_X
}
"""

_NORMALIZE_SUMS: Final = """
extern "C" __global__ void __launch_bounds__(1024) anynet_normalize_sums(
    const T* g, const T* x, const T* weight, const A* means, const A* variances, A* sums, const T* gb, FORM
) {
    BEGIN
    SUMS
    if (threadIdx.x == 0) {
        sums[(group * parts + part) * 2] = first;
        sums[(group * parts + part) * 2 + 1] = second;
    }
}
"""

_NORMALIZE_X_PART: Final = """
extern "C" __global__ void __launch_bounds__(1024) anynet_normalize_x_part(
    const T* g, const T* x, const T* weight, const A* means, const A* variances, const A* sums, T* gx, T* gw, T* gb, FORM
) {
    BEGIN
    const A mean = means[group], rate = A(1) / sqrt(variances[group] + eps);
    A first = 0, second = 0;
    for (long long p = 0; p < parts; ++p) {
        first += sums[(group * parts + p) * 2];
        second += sums[(group * parts + p) * 2 + 1];
    }
    WRITE_X
}
"""

# a block for each weight and part of the lead: x seen as (lead, size, trail)
_NORMALIZE_WEIGHTS: Final = """
extern "C" __global__ void __launch_bounds__(1024) anynet_normalize_weights(
    const T* g, const T* x, const A* means, const A* variances, A* gw, A* gb,
    double eps_, long long lead, long long groups, long long inner, long long trail, long long size
) {
    __shared__ A shared[1024];
    const A eps = A(eps_);
    const long long w = blockIdx.x, parts = gridDim.y, part = blockIdx.y;
    const I begin = lead * part / parts, m = (lead * (part + 1) / parts - begin) * trail;
    A first = 0, second = 0;
    for (I k = threadIdx.x; k < m; k += blockDim.x) {
        const I at = ((begin + k / (I)trail) * (I)size + (I)w) * (I)trail + k % (I)trail, group = at / (I)inner % (I)groups;
        first += up(g[at]);
        second += up(g[at]) * (up(x[at]) - means[group]) * (A(1) / sqrt(variances[group] + eps));
    }
    first = sum_of_block(first, shared);
    second = sum_of_block(second, shared);
    if (threadIdx.x == 0) { gb[part * size + w] = first; gw[part * size + w] = second; }
}
"""

_KERNELS: Final = {
    name: CudaKernel(f"anynet_{name}", _HEAD + source)
    for name, source in (
        ("normalize", _NORMALIZE), ("moments", _MOMENTS), ("normalize_part", _NORMALIZE_PART),
        ("normalize_x", _BACK + _NORMALIZE_X), ("normalize_sums", _BACK + _NORMALIZE_SUMS),
        ("normalize_x_part", _BACK + _NORMALIZE_X_PART), ("normalize_weights", _NORMALIZE_WEIGHTS),
    )
}  # fmt: skip


def _block_of(axes: list[int], dims: tuple[int, ...]) -> tuple[int, int] | None:
    """Begin and end of axes that lie side by side but for those of length 1."""
    axes = [i for i in axes if dims[i] != 1]
    if not axes:
        return 0, 0
    between = [i for i in range(axes[0], axes[-1] + 1) if dims[i] != 1]
    return (axes[0], axes[-1] + 1) if between == axes else None


_MOVE: Final = """
extern "C" __global__ void anynet_move_averages(
    A* a, A* b, const A* x, const A* y, long long* batches, double keep, double by_x, double by_y, long long n
) {
    const long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
    if (i == 0 && batches) ++*batches;
    if (i >= n) return;
    a[i] = a[i] * A(keep) + x[i] * A(by_x);
    b[i] = b[i] * A(keep) + y[i] * A(by_y);
}
"""
_MOVE_AVERAGES: Final = CudaKernel("anynet_move_averages", _MOVE)


def move_averages(
    xp: Backend, averages: Sequence[Array], values: Sequence[Array], keep: float, factors: Sequence[float],
    count: Array | None = None,
) -> bool:  # fmt: skip
    """As `Backend.move_averages`, of two averages."""
    arrays = (*averages, *values)
    first = arrays[0]
    if (
        len(averages) != 2 or (count is not None and count.dtype.char != "l") or first.dtype.char not in "fd" or not first.size
        or any(a.dtype != first.dtype or a.size != first.size or not a.flags.c_contiguous for a in arrays)
    ):  # fmt: skip
        return False
    with first.device:
        _MOVE_AVERAGES.each(first.dtype.char, first.size, *arrays, count, keep, *factors, first.size)
    return True


class _Normalization:
    """How x is seen, and the launches."""

    def __init__(
        self, x: Array, group_axes: tuple[int, int], weight_axes: tuple[int, int], dims: tuple[int, ...], eps: float, centred: bool
    ) -> None:  # fmt: skip
        begin, end = group_axes
        self.letter, self.count = x.dtype.char, x.size
        outer, self.groups, self.inner = (
            math.prod(dims[:begin]), math.prod(dims[begin:end]), math.prod(dims[end:])
        )  # fmt: skip
        self.trail, self.size = (
            math.prod(dims[weight_axes[1] :]), max(1, math.prod(dims[slice(*weight_axes)]))
        )  # fmt: skip
        self.own = group_axes == weight_axes  # each group has one weight
        self.work, self.eps = outer * self.inner, float(eps)
        self.form = (self.eps, int(centred), outer, self.groups, self.inner, self.trail, self.size)
        few = self.groups < Limits.blocks and self.work > Limits.whole
        self.parts = min(Limits.parts, -(-self.work // Limits.whole)) if few else 1

    def launch(self, name: str, *args: Any) -> None:
        """A kernel with its blocks for each group."""
        work = self.work // self.parts
        _KERNELS[name](
            self.letter, (self.groups, self.parts), threads_for(work, self.groups * self.parts), *args, *self.form,
            count=self.count,
        )  # fmt: skip

    def weights(self, cupy: Any, g: Array, x: Array, mean: Array, variance: Array) -> Any:
        """The gradients of weight and bias, where a weight is that of several groups."""
        lead = x.size // (self.size * self.trail)
        parts = max(1, min(lead // 64, 64)) if self.trail == 1 else 1
        sums = cupy.empty((2, parts, self.size), mean.dtype)
        _KERNELS["normalize_weights"](
            self.letter, (self.size, parts), threads_for(lead * self.trail // parts, self.size), g, x, mean, variance,
            sums[0], sums[1], self.eps, lead, self.groups, self.inner, self.trail, self.size, count=self.count,
        )  # fmt: skip
        return (sums[:, 0] if parts == 1 else sums.sum(axis=1)).astype(x.dtype, copy=False)


@_kernel
def normalize(
    xp: Backend, x: Array, weight: Array | None = None, bias: Array | None = None, *, axes: tuple[int, ...], eps: float,
    shape: tuple[int, ...], split: tuple[int, ...] = (), centred: bool = True, need: Any,
) -> Any:  # fmt: skip
    """Mean and variance of each group, and the result; the gradient of x, with those of weight and bias where each group has one."""
    dims = tuple(split or x.shape)
    group_axes = _block_of([i for i in range(len(dims)) if i not in axes], dims)
    weight_axes = _block_of([i for i, n in enumerate(shape) if n != 1], dims)
    weights = [w for w in (weight, bias) if w is not None]
    if (
        x.dtype.char not in FLOATS or not x.size or group_axes is None or weight_axes is None
        or any(w.dtype != x.dtype or w.size != math.prod(shape) for w in weights)
        or any(shape[i] != dims[i] for i in range(*weight_axes))
    ):  # fmt: skip
        return NotImplemented
    cupy = xp.native
    one = _Normalization(x, group_axes, weight_axes, dims, eps, centred)
    whole = cupy.ascontiguousarray(x)
    scale, shift = (None if w is None else cupy.ascontiguousarray(w) for w in (weight, bias))
    kind = wide(x.dtype)
    stats = tuple(1 if i in axes else n for i, n in enumerate(dims))
    y, mean, variance = cupy.empty(x.shape, x.dtype), cupy.empty(stats, kind), cupy.empty(stats, kind)
    if one.parts == 1:
        one.launch("normalize", whole, scale, shift, y, mean, variance)
    else:
        moments = cupy.empty((one.groups, one.parts, 2), kind)
        one.launch("moments", whole, moments)
        one.launch("normalize_part", whole, scale, shift, y, mean, variance, moments)
    if need is None:
        return y, mean, variance

    def pull(g: Array) -> tuple[Any, ...]:
        g = cupy.ascontiguousarray(g)
        gx = gw = gb = None
        wanted = any(need[1:])
        if need[0]:
            gx = cupy.empty(x.shape, x.dtype)
            if wanted and one.own:
                gw, gb = cupy.empty((2, one.size), x.dtype)
            if one.parts == 1:
                one.launch("normalize_x", g, whole, scale, mean, variance, gx, gw, gb)
            else:
                sums = cupy.empty((one.groups, one.parts, 2), kind)
                one.launch("normalize_sums", g, whole, scale, mean, variance, sums, gb)
                one.launch("normalize_x_part", g, whole, scale, mean, variance, sums, gx, gw, gb)
        if wanted and gw is None:
            gw, gb = one.weights(cupy, g, whole, mean, variance)
        return (gx, *(_shaped(*pair) for pair in zip((gw, gb), (weight, bias), need[1:], strict=False)))

    return (y, mean, variance), pull


def _shaped(gradient: Array | None, weight: Array | None, needed: bool) -> Array | None:
    return gradient.reshape(weight.shape) if needed and gradient is not None and weight is not None else None
