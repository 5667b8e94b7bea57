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

# where the element (s0, s1, s2) and the window (o0, o1, o2) are
_PLACES: Final = """
#define ELEMENT (((rest * size0 + s0) * size1 + s1) * size2 + s2)
#define WINDOW_AT (((rest * out0 + o0) * out1 + o1) * out2 + o2)
"""

_MAX: Final = f"""
extern "C" __global__ void anynet_max_pool(const T* x, T* y, long long count, {PARAMETERS}) {{
    {READ}
    THREAD
    NEXT(o2, out2) NEXT(o1, out1) NEXT(o0, out0)
    bool found = false;
    A top = 0;
    ELEMENTS(o0, o1, o2)
        const A value = up(x[ELEMENT]);
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
        const A largest = up(top[WINDOW_AT]);
        if (!(own == largest || own != own)) continue;
        bool first = true;
        for (I k = 0; first && k < TAP; ++k) {{
            INSIDE(s0, o0, 0, (k / (kernel1 * kernel2))) INSIDE(s1, o1, 1, (k / kernel2 % kernel1)) INSIDE(s2, o2, 2, (k % kernel2))
            const A value = up(x[ELEMENT]);
            first = !(value == largest || value != value);
        }}
        if (first) sum += up(g[WINDOW_AT]);
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
        sum += up(x[ELEMENT]);
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
        sum += up(g[WINDOW_AT]);
    END
    x[thread] = down(sum);
}}
"""

_KERNELS: Final = {
    name: CudaKernel(f"anynet_{name}", INDEX + _PLACES + source)
    for name, source in (
        ("max_pool", _MAX), ("max_pool_spread", _MAX_SPREAD), ("window_sum", _SUM), ("window_spread", _SPREAD)
    )
}  # fmt: skip


def _run(
    xp: Backend, name: str, shape: Ints, size: Ints, *arrays: Array, out: Ints, kernel: Ints, stride: Ints, pads: Pairs,
    dilation: Ints | None = None,
) -> Any:  # fmt: skip
    """What the kernel makes of arrays of one dtype, for windows in the last axes of `size`; NotImplemented where it does not take them."""
    dtype, axes = arrays[0].dtype, len(kernel)
    if (
        dtype.char not in FLOATS
        or any(a.dtype != dtype or not a.size for a in arrays)
        or 0 in shape
        or axes > 3
    ):
        return NotImplemented
    form = window(
        out, size[len(size) - axes :], kernel, stride, dilation or (1,) * axes, [lo for lo, _ in pads]
    )
    y = xp.native.empty(shape, dtype)
    whole = [xp.native.ascontiguousarray(a) for a in arrays]
    _KERNELS[name].each(dtype.char, y.size, *whole, y, y.size, *form, count=max(a.size for a in arrays))
    return y


def _windowed(name: str) -> Kernel:
    """A number for each window of x."""

    def forward(xp: Backend, x: Array, *, out: Ints, **form: Any) -> Any:
        return _run(xp, name, (*x.shape[: x.ndim - len(out)], *out), x.shape, x, out=out, **form)

    return Kernel(forward)


def _max_pool_spread(xp: Backend, g: Array, x: Array, top: Array, **form: Any) -> Any:
    return _run(xp, "max_pool_spread", x.shape, x.shape, g, x, top, **form)


def _window_spread(xp: Backend, g: Array, *, shape: Ints, **form: Any) -> Any:
    return _run(xp, "window_spread", tuple(shape), tuple(shape), g, **form)


KERNELS.update(
    max_pool=_windowed("max_pool"), max_pool_spread=Kernel(_max_pool_spread), window_sum=_windowed("window_sum"),
    window_spread=Kernel(_window_spread),
)  # fmt: skip
