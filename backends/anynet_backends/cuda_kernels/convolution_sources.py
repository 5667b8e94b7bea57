"""The sources of convolution's kernels: im2col and col2im, the bias, and convolution done directly. The numbers of the windows are those
of `windows`; an array that may be a view comes with its strides."""

from __future__ import annotations

from typing import Final

from anynet_backends.cuda_kernels.launch import SUM, CudaKernel
from anynet_backends.cuda_kernels.windows import INDEX, PARAMETERS, READ

__all__ = ["CONVOLUTION"]

_STRIDES: Final = "long long {0}n, long long {0}c, long long {0}0, long long {0}1, long long {0}2"
_X, _G = _STRIDES.format("x"), _STRIDES.format("g")

_TO_COLUMNS: Final = f"""
extern "C" __global__ void anynet_columns(const T* x, T* columns, long long n, long long channels, {_X}, {PARAMETERS}) {{
    {READ}
    const long long positions = n * out0 * out1 * out2, count = channels * positions;
    THREAD
    const I column = thread % positions;
    NEXT(o2, out2) NEXT(o1, out1) NEXT(o0, out0) NEXT(b, (I)n)
    const T* image = x + b * xn + rest * xc;
    T* to = columns + (long long)rest * kernel0 * kernel1 * kernel2 * positions + column;
    for (I p = 0; p < kernel0; ++p) for (I q = 0; q < kernel1; ++q) for (I r = 0; r < kernel2; ++r, to += positions) {{
        const I u = o0 * stride0 + p * apart0 - pad0, v = o1 * stride1 + q * apart1 - pad1, w = o2 * stride2 + r * apart2 - pad2;
        const bool inside = u >= 0 && v >= 0 && w >= 0 && u < size0 && v < size1 && w < size2;
        *to = inside ? image[u * x0 + v * x1 + w * x2] : down(A(0));
    }}
}}
"""

_FROM_COLUMNS: Final = f"""
extern "C" __global__ void anynet_from_columns(const T* columns, T* x, long long n, long long channels, {PARAMETERS}) {{
    {READ}
    const long long each = (long long)out0 * out1 * out2, positions = n * each, count = n * channels * size0 * size1 * size2;
    THREAD
    NEXT(u, size2) NEXT(v, size1) NEXT(w, size0) NEXT(c, (I)channels)
    const T* from = columns + (long long)c * kernel0 * kernel1 * kernel2 * positions + rest * each;
    A sum = 0;
    WINDOWS(w, v, u)
        sum += up(from[TAP * positions + (o0 * out1 + o1) * out2 + o2]);
    END
    x[thread] = down(sum);
}}
"""

_BIAS: Final = """
extern "C" __global__ void anynet_conv_bias(const T* rows, const T* bias, T* y, long long n, long long filters, long long each) {
    const long long count = n * filters * each;
    THREAD
    NEXT(p, (I)each) NEXT(o, (I)filters)
    const A v = up(rows[((long long)o * n + rest) * each + p]);
    y[thread] = down(bias ? v + up(bias[o]) : v);
}
"""

_DIRECT: Final = f"""
extern "C" __global__ void anynet_conv_direct(
    const T* x, const T* weight, const T* bias, T* y, long long n, long long inputs, long long outputs, long long groups, {_X},
    {PARAMETERS}
) {{
    {READ}
    const long long count = n * outputs * groups * out0 * out1 * out2;
    THREAD
    NEXT(o2, out2) NEXT(o1, out1) NEXT(o0, out0) NEXT(o, (I)(outputs * groups))
    const T* w = weight + (long long)o * inputs * kernel0 * kernel1 * kernel2;
    A sum = 0;
    for (I c = 0; c < inputs; ++c, w += kernel0 * kernel1 * kernel2) {{
        const T* image = x + rest * xn + (o / (I)outputs * inputs + c) * xc;
        ELEMENTS(o0, o1, o2)
            sum += up(image[s0 * x0 + s1 * x1 + s2 * x2]) * up(w[TAP]);
        END
    }}
    y[thread] = down(bias ? sum + up(bias[o]) : sum);
}}
"""

_DIRECT_X: Final = f"""
extern "C" __global__ void anynet_conv_direct_x(
    const T* g, const T* weight, T* x, long long n, long long inputs, long long outputs, long long groups, {_G}, {PARAMETERS}
) {{
    {READ}
    const long long count = n * inputs * groups * size0 * size1 * size2;
    THREAD
    NEXT(u, size2) NEXT(v, size1) NEXT(t, size0) NEXT(c, (I)(inputs * groups))
    const I taps = kernel0 * kernel1 * kernel2, group = c / (I)inputs;
    A sum = 0;
    for (I k = 0; k < outputs; ++k) {{
        const I o = group * (I)outputs + k;
        const T *from = g + rest * gn + o * gc, *w = weight + ((long long)o * inputs + c % (I)inputs) * taps;
        WINDOWS(t, v, u)
            sum += up(from[o0 * g0 + o1 * g1 + o2 * g2]) * up(w[TAP]);
        END
    }}
    x[thread] = down(sum);
}}
"""

# a block for each element of the weight, and then for each of the bias
_DIRECT_WEIGHT: Final = f"""
extern "C" __global__ void __launch_bounds__(1024) anynet_conv_direct_weight(
    const T* g, const T* x, T* gw, T* gb, long long elements, long long n, long long inputs, long long outputs, {_G}, {_X}, {PARAMETERS}
) {{
    {READ}
    __shared__ A shared[1024];
    const bool of_bias = blockIdx.x >= elements;
    I rest = of_bias ? 0 : blockIdx.x;
    NEXT(r, kernel2) NEXT(q, kernel1) NEXT(p, kernel0) NEXT(c, (I)inputs)
    const I o = of_bias ? (I)(blockIdx.x - elements) : rest;
    const T *from = g + o * gc, *image = x + (o / (I)outputs * inputs + c) * xc;
    const long long m = n * out0 * out1 * out2;
    A sum = 0;
    for (long long k = threadIdx.x; k < m; k += blockDim.x) {{
        I rest = k;
        NEXT(o2, out2) NEXT(o1, out1) NEXT(o0, out0)
        const A v = up(from[rest * gn + o0 * g0 + o1 * g1 + o2 * g2]);
        if (of_bias) {{ sum += v; continue; }}
        INSIDE(u, o0, 0, p) INSIDE(s, o1, 1, q) INSIDE(t, o2, 2, r)
        sum += v * up(image[rest * xn + u * x0 + s * x1 + t * x2]);
    }}
    sum = sum_of_block(sum, shared);
    if (threadIdx.x == 0) (of_bias ? gb[o] : gw[blockIdx.x]) = down(sum);
}}
"""

CONVOLUTION: Final = {
    name: CudaKernel(f"anynet_{name}", INDEX + source)
    for name, source in (
        ("columns", _TO_COLUMNS), ("from_columns", _FROM_COLUMNS), ("conv_bias", _BIAS), ("conv_direct", _DIRECT),
        ("conv_direct_x", _DIRECT_X), ("conv_direct_weight", SUM + _DIRECT_WEIGHT),
    )
}  # fmt: skip
"""By name."""
