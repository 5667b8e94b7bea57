"""Max pooling of one to three axes."""

from __future__ import annotations

import functools
import itertools
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.kernel_table import KernelTable, lowers, register_in
from anynet_backends.numpy_namespace import largest
from anynet_backends.onednn.layouts import (
    TO_CHANNELS_LAST,
    Ints,
    all_float32,
    channels_last_strides,
    empty_channels_last,
    is_channels_last,
)
from anynet_backends.onednn.library import Dims
from anynet_backends.onednn.primitive import INFERENCE, QUERY, TRAINING, DescriptorOwner, PlanCache, Step
from anynet_backends.onednn.reorders import channels_last, channels_last_calls

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)
_LEAST_SIZE: Final = 1 << 12
"""The least number of elements from which on oneDNN is faster."""
_MAX_POOLING: Final = 0x1FF


class _Pooling(DescriptorOwner):
    """Max pooling; the workspace keeps the indices for the gradient."""

    def __init__(
        self, x: Ints, out: Ints, kernel: Ints, stride: Ints, pads: Any, dilation: Ints, training: bool
    ) -> None:
        super().__init__()
        self.form = (out, kernel, stride, pads, dilation)
        self.y_shape = (*x[:2], *out)
        x_md, y_md = (self.layout(shape, channels_last_strides(shape)) for shape in (x, self.y_shape))
        options = (
            Dims(*stride), Dims(*kernel), Dims(*(d - 1 for d in dilation)), Dims(*(p[0] for p in pads)),
            Dims(*(p[1] for p in pads)),
        )  # fmt: skip
        kind = TRAINING if training else INFERENCE
        pd = self.described("pooling_forward", kind, _MAX_POOLING, x_md, y_md, *options)
        self.room = 0
        if not training:
            self.forward = Step(self.dnnl, pd, src=x_md, dst=y_md)
            return
        places = self.dnnl.query(pd, QUERY["workspace"], 0)
        self.room = int(self.dnnl.size(places))
        self.forward = Step(self.dnnl, pd, src=x_md, dst=y_md, workspace=places)
        back = self.described("pooling_backward", _MAX_POOLING, x_md, y_md, *options, pd)
        self.backward = Step(self.dnnl, back, diff_dst=y_md, workspace=places, diff_src=x_md)

    def run(self, image: Array, y: Array, *room: Array) -> Array | None:
        """Run the pooling. oneDNN ignores NaN and treats −∞ as the least finite number: if `image` has such values, NumPy computes the
        result, and the indices of the maxima in `image` are returned."""
        flat = image.transpose(TO_CHANNELS_LAST[image.ndim]).reshape(-1)
        if np.minimum.reduce(flat) > -np.inf:
            self.forward.run(image, y, *room)
            return None
        numbers = np.arange(image.size, dtype=np.float64).reshape(image.shape)
        values, where = self._windows(image, -np.inf), self._windows(numbers, -1)
        largest = values.argmax(-1)[..., None]
        outside = np.take_along_axis(where, largest, -1) < 0  # only −∞ in the window
        largest[outside] = (where >= 0).argmax(-1)[..., None][outside]
        y[...] = np.take_along_axis(values, largest, -1)[..., 0]
        return np.take_along_axis(where, largest, -1)[..., 0].astype(np.int64)

    def _windows(self, image: Array, outside: float) -> Array:
        """The elements of each window, along a new last axis."""
        _, kernel, stride, pads, dilation = self.form
        full = np.pad(image, ((0, 0), (0, 0), *pads), constant_values=outside)
        extents = tuple(d * (k - 1) + 1 for k, d in zip(kernel, dilation, strict=True))
        every = np.lib.stride_tricks.sliding_window_view(full, extents, tuple(range(2, image.ndim)))
        first = tuple(slice(0, (o - 1) * s + 1, s) for o, s in zip(self.y_shape[2:], stride, strict=True))
        inner = tuple(slice(None, None, d) for d in dilation)
        return every[(slice(None), slice(None), *first, *inner)].reshape(*self.y_shape, -1)


_poolings = PlanCache(_Pooling)


@functools.lru_cache(maxsize=256)
def _window_of_padding(shape: Ints, out: Ints, kernel: Ints, stride: Ints, pads: Any, dilation: Ints) -> bool:
    """Whether a window has no element of the array, which oneDNN makes the least finite number."""
    return any(
        not any(0 <= o * s - lo + i * d < n for i in range(k))
        for n, count, k, s, (lo, _), d in zip(shape, out, kernel, stride, pads, dilation, strict=True)
        for o in range(count)
    )


def _pooling(
    x: Array, training: bool, *, out: Ints, kernel: Ints, stride: Ints, pads: Any, dilation: Ints
) -> _Pooling | None:
    """The plan for max pooling of one to three axes in float32; None for any other."""
    if x.ndim != len(out) + 2 or not 3 <= x.ndim <= 5 or not all_float32(x):
        return None
    if any([lo >= k or hi >= k for (lo, hi), k in zip(pads, kernel, strict=True)]):
        return None
    form = (tuple(out), tuple(kernel), tuple(stride), tuple(pads), tuple(dilation))
    if any([d > 1 for d in dilation]) and _window_of_padding(x.shape[2:], *form):
        return None
    plan: _Pooling | None = _poolings(x.shape, *form, training)
    return plan


@_kernel
def max_pool(xp: Backend, x: Array, *, need: Any, **options: Any) -> Any:
    """Max pooling in float32."""
    plan = _pooling(x, need is not None, **options)
    if plan is None:
        return NotImplemented
    image, y = channels_last(x), empty_channels_last(plan.y_shape)
    if need is None:
        plan.run(image, y)
        return y
    places = np.empty(plan.room, np.uint8)
    other = plan.run(image, y, places)

    def pull(g: Array) -> tuple[Any, ...]:
        if other is not None:
            gx = np.zeros(x.size, np.float32)
            np.add.at(gx, other.reshape(-1), g.reshape(-1))
            return (gx.reshape(x.shape),)
        g, gx = channels_last(g), empty_channels_last(x.shape)
        plan.backward.run(g, places, gx)
        return (gx,)

    return y, pull


@lowers(KERNELS, "max_pool")
def _pool_calls(target: Array, x: Array, /, **options: Any) -> list[Any] | None:
    """The calls that write max pooling into `target`, for a compiled program, whose arrays have fixed addresses."""
    plan = _pooling(x, False, **options)
    if plan is None or not is_channels_last(target):
        return None
    if target.size < _LEAST_SIZE and not any(map(any, options["pads"])) and _fits(x.shape[2:], **options):
        return _largest_of(target, x, **options)
    image, calls = channels_last_calls(x)
    return [*calls, (plan.run, (image, target))]


def _fits(size: Ints, *, out: Ints, kernel: Ints, stride: Ints, dilation: Ints, pads: Any) -> bool:
    """Whether each window is inside the image."""
    each = zip(size, out, kernel, stride, dilation, strict=True)
    return all((o - 1) * s + d * (k - 1) < n for n, o, k, s, d in each)


def _largest_of(
    target: Array, x: Array, *, out: Ints, kernel: Ints, stride: Ints, dilation: Ints, pads: Any
) -> list[Any]:
    """Calls of `maximum`, one for each position in the window: faster for small images, and NaN propagates."""
    each = tuple(zip(out, stride, dilation, strict=True))
    parts = [
        x[(..., *(slice(d * i, d * i + (o - 1) * s + 1, s) for i, (o, s, d) in zip(at, each, strict=True)))]
        for at in itertools.product(*map(range, kernel))
    ]
    first, *rest = parts
    if not rest:
        return [(np.copyto, (target, first))]
    return [
        (largest, (a, part, target)) for a, part in zip((first, *[target] * len(rest)), rest, strict=False)
    ]
