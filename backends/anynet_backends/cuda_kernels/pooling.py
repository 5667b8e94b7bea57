"""Pooling: a thread for each window, and backward for each element, which looks into the windows that it is in."""

from __future__ import annotations

from typing import Any, Final

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.cuda_kernels.launch import FLOATS, CudaKernel
from anynet_backends.cuda_kernels.windows import INDEX, PARAMETERS, READ, Ints, window
from anynet_backends.kernel_table import Kernel, KernelTable

__all__ = ["KERNELS"]

KERNELS: KernelTable = {}

Pairs = tuple[tuple[int, int], ...]

# the loops over the elements x[at] of the window (o0, o1, o2), and over the windows ((rest · out0 + o0) · out1 + o1) · out2 + o2 of an
# element (u, v, w)
_ELEMENTS: Final = """
#define ELEMENTS(o0, o1, o2) \\
    for (I p = 0; p < kernel0; ++p) { INSIDE(s0, o0, 0, p) \\
    for (I q = 0; q < kernel1; ++q) { INSIDE(s1, o1, 1, q) \\
    for (I r = 0; r < kernel2; ++r) { INSIDE(s2, o2, 2, r) \\
        const I at = ((rest * size0 + s0) * size1 + s1) * size2 + s2;
#define WINDOWS(u, v, w) \\
    for (I p = 0; p < kernel0; ++p) { WINDOW(o0, u, 0, p) \\
    for (I q = 0; q < kernel1; ++q) { WINDOW(o1, v, 1, q) \\
    for (I r = 0; r < kernel2; ++r) { WINDOW(o2, w, 2, r) \\
        const I window = ((rest * out0 + o0) * out1 + o1) * out2 + o2;
#define END }}}
"""

_MAX: Final = f"""
extern "C" __global__ void anynet_max_pool(const T* x, T* y, long long count, {PARAMETERS}) {{
    {READ}
    THREAD
    NEXT(o2, out2) NEXT(o1, out1) NEXT(o0, out0)
    bool found = false;
    A top = 0;
    ELEMENTS(o0, o1, o2)
        const A value = up(x[at]);
        if (!found || value > top || (value != value && top == top)) {{ top = value; found = true; }}
    END
    y[thread] = down(top);
}}
"""

# of equal elements the first one has the gradient
_MAX_SPREAD: Final = f"""
extern "C" __global__ void anynet_max_pool_spread(const T* g, const T* x, const T* top, T* y, long long count, {PARAMETERS}) {{
    {READ}
    THREAD
    NEXT(w, size2) NEXT(v, size1) NEXT(u, size0)
    const A own = up(x[thread]);
    A sum = 0;
    WINDOWS(u, v, w)
        const A largest = up(top[window]);
        if (!(own == largest || own != own)) continue;
        bool first = true;
        const I number = (p * kernel1 + q) * kernel2 + r;
        for (I k = 0; first && k < number; ++k) {{
            INSIDE(s0, o0, 0, (k / (kernel1 * kernel2))) INSIDE(s1, o1, 1, (k / kernel2 % kernel1)) INSIDE(s2, o2, 2, (k % kernel2))
            const A value = up(x[((rest * size0 + s0) * size1 + s1) * size2 + s2]);
            first = !(value == largest || value != value);
        }}
        if (first) sum += up(g[window]);
    END
    y[thread] = down(sum);
}}
"""

_SUM: Final = f"""
extern "C" __global__ void anynet_window_sum(const T* x, T* y, long long count, {PARAMETERS}) {{
    {READ}
    THREAD
    NEXT(o2, out2) NEXT(o1, out1) NEXT(o0, out0)
    A sum = 0;
    ELEMENTS(o0, o1, o2)
        sum += up(x[at]);
    END
    y[thread] = down(sum);
}}
"""

_SPREAD: Final = f"""
extern "C" __global__ void anynet_window_spread(const T* g, T* x, long long count, {PARAMETERS}) {{
    {READ}
    THREAD
    NEXT(w, size2) NEXT(v, size1) NEXT(u, size0)
    A sum = 0;
    WINDOWS(u, v, w)
        sum += up(g[window]);
    END
    x[thread] = down(sum);
}}
"""

_KERNELS: Final = {
    name: CudaKernel(f"anynet_{name}", INDEX + _ELEMENTS + source)
    for name, source in (
        ("max_pool", _MAX), ("max_pool_spread", _MAX_SPREAD), ("window_sum", _SUM), ("window_spread", _SPREAD)
    )
}  # fmt: skip


def _run(xp: Backend, name: str, shape: Ints, form: Ints, *arrays: Array) -> Any:
    """What the kernel makes of arrays of one dtype; NotImplemented where it does not take them."""
    dtype = arrays[0].dtype
    if (
        dtype.char not in FLOATS
        or any(a.dtype != dtype or not a.size for a in arrays)
        or 0 in shape
        or len(form) != 18
    ):
        return NotImplemented
    out = xp.native.empty(shape, dtype)
    whole = [xp.native.ascontiguousarray(a) for a in arrays]
    _KERNELS[name].each(dtype.char, out.size, *whole, out, out.size, *form, count=max(a.size for a in arrays))
    return out


def _form(shape: Ints, out: Ints, kernel: Ints, stride: Ints, pads: Pairs, dilation: Ints) -> Ints:
    """The numbers of the windows of the last axes; too many of them where these are more than three."""
    return window(out, shape[len(shape) - len(kernel) :], kernel, stride, dilation, [lo for lo, _ in pads])


def _max_pool(
    xp: Backend, x: Array, *, out: Ints, kernel: Ints, stride: Ints, pads: Pairs, dilation: Ints
) -> Any:
    shape = (*x.shape[: x.ndim - len(kernel)], *out)
    return _run(xp, "max_pool", shape, _form(x.shape, out, kernel, stride, pads, dilation), x)


def _max_pool_spread(
    xp: Backend,
    g: Array,
    x: Array,
    top: Array,
    *,
    out: Ints,
    kernel: Ints,
    stride: Ints,
    pads: Pairs,
    dilation: Ints,
) -> Any:
    return _run(
        xp, "max_pool_spread", x.shape, _form(x.shape, out, kernel, stride, pads, dilation), g, x, top
    )


def _window_sum(xp: Backend, x: Array, *, out: Ints, kernel: Ints, stride: Ints, pads: Pairs) -> Any:
    shape = (*x.shape[: x.ndim - len(kernel)], *out)
    return _run(xp, "window_sum", shape, _form(x.shape, out, kernel, stride, pads, (1,) * len(kernel)), x)


def _window_spread(
    xp: Backend, g: Array, *, out: Ints, kernel: Ints, stride: Ints, pads: Pairs, shape: Ints
) -> Any:
    return _run(
        xp,
        "window_spread",
        tuple(shape),
        _form(tuple(shape), out, kernel, stride, pads, (1,) * len(kernel)),
        g,
    )


KERNELS.update(
    max_pool=Kernel(_max_pool), max_pool_spread=Kernel(_max_pool_spread), window_sum=Kernel(_window_sum),
    window_spread=Kernel(_window_spread),
)  # fmt: skip
