"""Windows along up to three axes, as convolution and pooling have them: the numbers that kernels take, and the loops over a window."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from anynet_backends.array_api import Array

__all__ = ["INDEX", "PARAMETERS", "READ", "Ints", "strides_of", "three", "window"]

Ints = tuple[int, ...]

_NAMES: Final = [
    f"{what}{axis}" for what in ("out", "size", "kernel", "stride", "apart", "pad") for axis in range(3)
]

PARAMETERS: Final = ", ".join(f"long long {name}_" for name in _NAMES)
"""The parameters of a kernel for what `window` gives."""

READ: Final = f"const I {', '.join(f'{name} = {name}_' for name in _NAMES)};\n"
"""Its first line: sizes and distances as they are counted."""

INDEX: Final = """
#define THREAD \\
    const long long thread = (long long)blockIdx.x * blockDim.x + threadIdx.x; \\
    if (thread >= count) return; \\
    I rest = thread;
#define NEXT(name, size) const I name = rest % (size); rest /= (size);
// the element of a window along one axis, and the window in which an element is
#define INSIDE(at, window, axis, k) \\
    const I at = window * stride##axis + k * apart##axis - pad##axis; \\
    if (at < 0 || at >= size##axis) continue;
#define WINDOW(window, at, axis, k) \\
    const I from##axis = at + pad##axis - k * apart##axis; \\
    if (from##axis < 0 || from##axis % stride##axis) continue; \\
    const I window = from##axis / stride##axis; \\
    if (window >= out##axis) continue;
// loops over the elements (s0, s1, s2) of the window (o0, o1, o2), and over the windows (o0, o1, o2) that the element (u, v, w) is in, with
// the position (p, q, r) of the kernel
#define ELEMENTS(o0, o1, o2) \\
    for (I p = 0; p < kernel0; ++p) { INSIDE(s0, o0, 0, p) \\
    for (I q = 0; q < kernel1; ++q) { INSIDE(s1, o1, 1, q) \\
    for (I r = 0; r < kernel2; ++r) { INSIDE(s2, o2, 2, r)
#define WINDOWS(u, v, w) \\
    for (I p = 0; p < kernel0; ++p) { WINDOW(o0, u, 0, p) \\
    for (I q = 0; q < kernel1; ++q) { WINDOW(o1, v, 1, q) \\
    for (I r = 0; r < kernel2; ++r) { WINDOW(o2, w, 2, r)
#define END }}}
#define TAP ((p * kernel1 + q) * kernel2 + r)
"""


def three(values: Sequence[int], fill: int = 1) -> Ints:
    """The same for three axes, the last ones being those given."""
    return (*(fill,) * (3 - len(values)), *values)


def window(
    out: Sequence[int], size: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int],
    before: Sequence[int],
) -> Ints:  # fmt: skip
    """Windows, size, kernel, stride, dilation and padding before, for three axes each."""
    return (*three(out), *three(size), *three(kernel), *three(stride), *three(dilation), *three(before, 0))


def strides_of(x: Array, axes: int) -> tuple[Any, ...]:
    """The distances of elements along (n, c) and three axes."""
    steps = [step // x.itemsize for step in x.strides]
    return (*steps[: x.ndim - axes], *three(steps[x.ndim - axes :], 0))
