"""Convolution by cuDNN: forward and both gradients, in float32 and float16, along one to three axes.

x is taken as it lies, with its channels first or last, and so is what is computed of it; what lies otherwise is copied. A bias is added
behind. What cuDNN has no engine for that gives the same bits at every run, and what is small, the kernels beneath compute.
"""

from __future__ import annotations

import math
from typing import Any, Final

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.cuda_kernels import convolution, cudnn
from anynet_backends.cuda_kernels.products import computing, format_of
from anynet_backends.cuda_kernels.windows import Ints
from anynet_backends.kernel_table import Kernel, KernelTable, register_in

__all__ = ["KERNELS"]

KERNELS: KernelTable = {}
_kernel = register_in(KERNELS)

_LETTERS: Final = "ef"


def _signature(
    result: str, dtype: Any, x: Ints, weight: Ints, y: Ints, stride: Ints, padding: convolution.Pairs, dilation: Ints, last: bool
) -> cudnn.Convolution | None:  # fmt: skip
    """None where the shapes do not fit, something is empty, or there is little to do."""
    if 0 in (*x, *weight, *y) or x[0] != y[0] or weight[0] != y[1]:
        return None
    low, high = tuple(p for p, _ in padding), []
    for size, k, out, s, (lo, hi), d in zip(x[2:], weight[2:], y[2:], stride, padding, dilation, strict=True):
        room = size + lo - d * (k - 1) - 1
        if (room + hi) // s + 1 != out:
            return None
        high.append(
            lo if (room + lo) // s + 1 == out else hi
        )  # the same on both sides, if no output tells them apart
    if math.prod(y) * math.prod(weight[1:]) <= convolution.Limits.direct:
        return None
    short = dtype.char == "f" and format_of("f") is not None
    return cudnn.Convolution(
        result, dtype.char, x, weight, y, stride, (low, tuple(high)), dilation, last, short
    )


def _taken(axes: int, *arrays: Array | None) -> bool:
    """Whether cuDNN is there, and computes convolutions of these."""
    known = [a for a in arrays if a is not None]
    dtype = known[0].dtype
    if axes > 3 or dtype.char not in _LETTERS or any(a.dtype != dtype for a in known):
        return False
    return cudnn.LIBRARY.module is not None


@_kernel
def conv(
    xp: Backend, x: Array, weight: Array, bias: Array | None = None, *, stride: Ints, padding: convolution.Pairs, dilation: Ints,
    groups: int, need: Any,
) -> Any:  # fmt: skip
    """x (n, c, *size), weight (o, c / groups, *kernel), bias (o,) → (n, o, *out)."""
    if not _taken(len(stride), x, weight, bias):
        return NotImplemented
    cupy, last = xp.native, cudnn.lies_last(x)
    out = tuple(
        (size + lo + hi - d * (k - 1) - 1) // s + 1
        for size, k, s, (lo, hi), d in zip(
            x.shape[2:], weight.shape[2:], stride, padding, dilation, strict=True
        )
    )
    if min(out) < 1:
        return NotImplemented
    shape = (x.shape[0], weight.shape[0], *out)
    form = _signature("y", x.dtype, x.shape, weight.shape, shape, stride, padding, dilation, last)
    if form is None:
        return NotImplemented
    y = cudnn.empty(cupy, shape, x.dtype, last)
    if not cudnn.run(cupy, form, cudnn.contiguous(cupy, x, last), cudnn.contiguous(cupy, weight, last), y):
        return NotImplemented
    if bias is not None:
        y += bias.reshape(-1, *[1] * len(out))
    if need is None:
        return y
    kind = format_of("f") or ""
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}

    def pull(g: Array) -> tuple[Any, ...]:
        gb = None
        if len(need) > 2 and need[2]:
            gb = convolution.bias_gradient(xp, g)
        with computing(kind):
            gx = KERNELS["conv_transpose"](xp, g, weight, shape=x.shape[2:], **options) if need[0] else None
            gw = KERNELS["conv_weight"](xp, x, g, shape=weight.shape[2:], **options) if need[1] else None
        return (gx, gw, gb)[: len(need)]

    return y, pull


def _conv_transpose(
    xp: Backend, z: Array, weight: Array, *, stride: Ints, padding: convolution.Pairs, dilation: Ints, groups: int, shape: Ints
) -> Any:  # fmt: skip
    """z (n, o, *out), weight (o, c / groups, *kernel) → (n, c, *shape)."""
    if not _taken(len(stride), z, weight):
        return NotImplemented
    cupy, last = xp.native, cudnn.lies_last(z)
    whole = (z.shape[0], weight.shape[1] * groups, *shape)
    form = _signature("x", z.dtype, whole, weight.shape, z.shape, stride, padding, dilation, last)
    if form is None:
        return NotImplemented
    x = cudnn.empty(cupy, whole, z.dtype, last)
    ready = cudnn.contiguous(cupy, z, last), cudnn.contiguous(cupy, weight, last)
    return x if cudnn.run(cupy, form, x, ready[1], ready[0]) else NotImplemented


def _conv_weight(
    xp: Backend, x: Array, z: Array, *, stride: Ints, padding: convolution.Pairs, dilation: Ints, groups: int, shape: Ints
) -> Any:  # fmt: skip
    """x (n, c, *size), z (n, o, *out) → (o, c / groups, *shape)."""
    if not _taken(len(stride), x, z):
        return NotImplemented
    cupy, last = xp.native, cudnn.lies_last(x)
    whole = (z.shape[1], x.shape[1] // groups, *shape)
    form = _signature("weight", x.dtype, x.shape, whole, z.shape, stride, padding, dilation, last)
    if form is None:
        return NotImplemented
    weight = cudnn.empty(cupy, whole, x.dtype, last)
    ready = cudnn.contiguous(cupy, x, last), cudnn.contiguous(cupy, z, last)
    return weight if cudnn.run(cupy, form, ready[0], weight, ready[1]) else NotImplemented


KERNELS["conv_transpose"], KERNELS["conv_weight"] = Kernel(_conv_transpose), Kernel(_conv_weight)
KERNELS.update({name: kernel.before(convolution.KERNELS[name]) for name, kernel in KERNELS.items()})
