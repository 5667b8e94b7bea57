"""Convolution by cuDNN: forward and both gradients, in float32, float16 and bfloat16, along one to three axes.

x is taken as it lies, with its channels first or last, and so is what is computed of it; what lies otherwise is copied. A bias is added
behind. What cuDNN has no engine for that gives the same bits at every run, and what is small, the kernels beneath compute.
"""

from __future__ import annotations

import math
from typing import Any, Final

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend, window_counts
from anynet_backends.cuda_kernels import convolution, cudnn
from anynet_backends.cuda_kernels.products import computing, format_of
from anynet_backends.cuda_kernels.windows import Ints
from anynet_backends.kernel_table import Kernel, KernelTable, register_in

__all__ = ["KERNELS"]

KERNELS: KernelTable = {}
_kernel = register_in(KERNELS)

_LETTERS: Final = "eEf"


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


def _computed(
    xp: Backend, result: str, operands: dict[str, Array], shape: Ints, *, stride: Ints, padding: convolution.Pairs, dilation: Ints,
) -> Any:  # fmt: skip
    """Of "x", "weight" and "y" the `result`, an array of this shape, from the two others; NotImplemented where cuDNN does not do it."""
    first, second = operands.values()
    cupy, dtype = xp.native, first.dtype
    if len(stride) > 3 or dtype.char not in _LETTERS or second.dtype != dtype or cudnn.LIBRARY.module is None:
        return NotImplemented
    last = cudnn.lies_last(first)
    shapes = {name: a.shape for name, a in operands.items()} | {result: shape}
    form = _signature(
        result, dtype, shapes["x"], shapes["weight"], shapes["y"], stride, padding, dilation, last
    )
    if form is None:
        return NotImplemented
    made = cudnn.empty(cupy, shape, dtype, last)
    places = {name: cudnn.contiguous(cupy, a, last) for name, a in operands.items()} | {result: made}
    arrays = [places[name] for name in ("x", "weight", "y")]
    return made if cudnn.run(cupy, form, *arrays) else NotImplemented


@_kernel
def conv(
    xp: Backend, x: Array, weight: Array, bias: Array | None = None, *, groups: int, need: Any, **options: Any
) -> Any:
    """x (n, c, *size), weight (o, c / groups, *kernel), bias (o,) → (n, o, *out)."""
    out = window_counts(x.shape[2:], weight.shape[2:], **options)
    if min(out) < 1 or (bias is not None and bias.dtype != x.dtype):
        return NotImplemented
    y = _computed(xp, "y", {"x": x, "weight": weight}, (x.shape[0], weight.shape[0], *out), **options)
    if y is NotImplemented:
        return NotImplemented
    if bias is not None:
        y += bias.reshape(-1, *[1] * len(out))
    if need is None:
        return y
    kind = format_of("f") or ""
    options["groups"] = groups

    def pull(g: Array) -> tuple[Any, ...]:
        gb = None
        if len(need) > 2 and need[2]:
            gb = convolution.bias_gradient(xp, g)
        with computing(kind):
            gx = KERNELS["conv_transpose"](xp, g, weight, shape=x.shape[2:], **options) if need[0] else None
            gw = KERNELS["conv_weight"](xp, x, g, shape=weight.shape[2:], **options) if need[1] else None
        return (gx, gw, gb)[: len(need)]

    return y, pull


def _conv_transpose(xp: Backend, z: Array, weight: Array, *, groups: int, shape: Ints, **options: Any) -> Any:
    """z (n, o, *out), weight (o, c / groups, *kernel) → (n, c, *shape)."""
    whole = (z.shape[0], weight.shape[1] * groups, *shape)
    return _computed(xp, "x", {"y": z, "weight": weight}, whole, **options)


def _conv_weight(xp: Backend, x: Array, z: Array, *, groups: int, shape: Ints, **options: Any) -> Any:
    """x (n, c, *size), z (n, o, *out) → (o, c / groups, *shape)."""
    whole = (z.shape[1], x.shape[1] // groups, *shape)
    return _computed(xp, "weight", {"x": x, "y": z}, whole, **options)


KERNELS["conv_transpose"], KERNELS["conv_weight"] = Kernel(_conv_transpose), Kernel(_conv_weight)
KERNELS.update({name: kernel.before(convolution.KERNELS[name]) for name, kernel in KERNELS.items()})
