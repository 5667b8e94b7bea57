"""Convolution of one to three axes, and its transposes in the image (deconvolution) and in the weight.

One plan has the three primitives: forward, backward by data, backward by weights. Each of the three kernels is one of them, and its
gradients are the two others.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.concurrency import BUILD_LOCK
from anynet_backends.kernel_table import KernelTable, lowers, register_in
from anynet_backends.memory.outputs import empty_output
from anynet_backends.onednn.layouts import (
    Ints,
    all_float32,
    channels_last_strides,
    contiguous,
    contiguous_strides,
    empty_channels_last,
    is_channels_last,
)
from anynet_backends.onednn.library import Dims, load_library
from anynet_backends.onednn.primitive import (
    INFERENCE,
    QUERY,
    TRAINING,
    DescriptorOwner,
    PlanCache,
    Step,
)
from anynet_backends.onednn.reorders import WeightReorder, channels_last, channels_last_calls

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)
_DIRECT = 1
_VECTOR = 16
"""Numbers in the widest vector of a processor."""


class _Convolution(DescriptorOwner):
    """Forward, backward-data and backward-weights primitives of a convolution, for given shapes."""

    def __init__(
        self,
        x: Ints,
        w: Ints,
        bias: bool,
        stride: Ints,
        padding: Any,
        dilation: Ints,
        groups: int,
        training: bool,
    ) -> None:
        dnnl = self.dnnl = load_library()
        spatial = tuple(
            (size + lo + hi - d * (k - 1) - 1) // s + 1
            for size, k, s, (lo, hi), d in zip(x[2:], w[2:], stride, padding, dilation, strict=True)
        )
        self.y_shape = (x[0], w[0], *spatial)
        self.w_shape = w
        inner = w if groups == 1 else (groups, w[0] // groups, *w[1:])
        self.strides, self.dilates = Dims(*stride), Dims(*(d - 1 for d in dilation))
        self.low, self.high = Dims(*(p[0] for p in padding)), Dims(*(p[1] for p in padding))
        self.x_md = dnnl.layout(x, channels_last_strides(x))
        self.y_md = dnnl.layout(self.y_shape, channels_last_strides(self.y_shape))
        self.w_plain = dnnl.layout(inner, contiguous_strides(inner))
        self.w_any = dnnl.layout(inner, None)
        self.b_md = dnnl.layout(w[:1], (1,)) if bias else None
        layouts = (
            self.x_md,
            self.y_md,
            self.w_plain,
            self.w_any,
            *(() if self.b_md is None else (self.b_md,)),
        )
        self.own(*(("memory_desc", md) for md in layouts))
        # oneDNN's 1×1 convolution with strides writes beyond its scratch memory where channels are no whole number of vectors
        self.overflows = set(w[2:]) == {1} and max(stride) > 1 and w[1] % _VECTOR != 0
        self.pd = self._descriptor(
            "forward",
            TRAINING if training else INFERENCE,
            _DIRECT,
            self.x_md,
            self.w_any,
            self.b_md,
            self.y_md,
        )
        md = dnnl.query(self.pd, QUERY["weights"], 0)
        extra = {} if self.b_md is None else {"bias": self.b_md}
        self.forward = Step(dnnl, self.pd, src=self.x_md, weights=md, dst=self.y_md, **extra)
        self.weights = WeightReorder(dnnl, self.w_plain, md)
        self.data: Step | None = None
        self.gradient: Step | None = None

    def _descriptor(self, kind: str, *args: Any) -> ctypes.c_void_p:
        """The descriptor of one of the three primitives; those of backward ones have that of the forward one as a hint."""
        dnnl, made = self.dnnl, ctypes.c_void_p()
        hint = () if kind == "forward" else (self.pd,)
        dnnl.call(
            f"dnnl_convolution_{kind}_primitive_desc_create", ctypes.byref(made), dnnl.engine, *args, self.strides,
            self.dilates, self.low, self.high, *hint, dnnl.plain,
        )  # fmt: skip
        self.own(("primitive_desc", made))
        while self.overflows and dnnl.implementation(made).startswith("jit_1x1"):
            dnnl.call("dnnl_primitive_desc_next_impl", made)
        return made

    def prepare_data(self) -> None:
        """Create the primitive for the gradient of the input."""
        if self.data is not None:
            return
        with BUILD_LOCK:
            if self.data is None:
                self._prepare_data()

    def _prepare_data(self) -> None:
        dnnl = self.dnnl
        pd = self._descriptor("backward_data", _DIRECT, self.x_md, self.w_any, self.y_md)
        md = dnnl.query(pd, QUERY["weights"], 0)
        self.data_weights = WeightReorder(dnnl, self.w_plain, md)
        self.data = Step(dnnl, pd, diff_dst=self.y_md, weights=md, diff_src=self.x_md)

    def prepare_gradient(self) -> None:
        """Create the primitive for the gradients of the weight and the bias."""
        if self.gradient is not None:
            return
        with BUILD_LOCK:
            if self.gradient is None:
                self._prepare_gradient()

    def _prepare_gradient(self) -> None:
        dnnl = self.dnnl
        pd = self._descriptor("backward_weights", _DIRECT, self.x_md, self.w_any, self.b_md, self.y_md)
        md = dnnl.query(pd, QUERY["diff_weights"], 0)
        self.back = WeightReorder(dnnl, self.w_plain, md, backward=True)
        extra = {} if self.b_md is None else {"diff_bias": self.b_md}
        self.gradient = Step(dnnl, pd, src=self.x_md, diff_dst=self.y_md, diff_weights=md, **extra)


_convolutions = PlanCache(_Convolution)


def _convolution(
    x: Array, weight: Array, bias: Array | None, training: bool, *, stride: Ints, padding: Any, dilation: Ints, groups: int
) -> Any:  # fmt: skip
    """The plan for a convolution of one to three axes in float32; None for any other."""
    if not 3 <= x.ndim <= 5 or not all_float32(x, weight, bias):
        return None
    key = (tuple(stride), tuple(padding), tuple(dilation), groups)
    plan = _convolutions(x.shape, weight.shape, bias is not None, *key, training)
    return None if plan is None or min(plan.y_shape) < 1 else plan


def _planned(
    x: Ints, weight: Ints, *, stride: Ints, padding: Any, dilation: Ints, groups: int
) -> _Convolution | None:
    """The plan for a convolution without bias between arrays of these shapes, with its gradients."""
    if not 3 <= len(x) <= 5:
        return None
    plan: _Convolution | None = _convolutions(
        x, weight, False, tuple(stride), tuple(padding), tuple(dilation), groups, True
    )
    return None if plan is None or min(plan.y_shape) < 1 else plan


def _image_gradient(plan: _Convolution, g: Array, weight: Array, shape: Ints) -> Array:
    """The transpose of the convolution in its image, of g stored channels last."""
    plan.prepare_data()
    gx = empty_channels_last(shape)
    plan.data.run(g, plan.data_weights.to(weight), gx)  # type: ignore[union-attr]
    return gx


def _weight_gradient(plan: _Convolution, image: Array, g: Array) -> Array:
    """The transpose of a convolution without bias in its weight, of arrays stored channels last."""
    plan.prepare_gradient()
    gw = empty_output(plan.w_shape, np.float32)
    buffer = plan.back.buffer(gw)
    plan.gradient.run(image, g, buffer)  # type: ignore[union-attr]
    plan.back.finish(buffer, gw)
    return gw


def _forward(plan: _Convolution, image: Array, weight: Array) -> Array:
    """A convolution without bias, of an image stored channels last."""
    y = empty_channels_last(plan.y_shape)
    plan.forward.run(image, plan.weights.to(weight), y)
    return y


@_kernel
def conv(
    xp: Backend, x: Array, weight: Array, bias: Array | None = None, *, need: Any, **options: Any
) -> Any:
    """Convolution of one to three axes in float32."""
    plan = _convolution(x, weight, bias, need is not None, **options)
    if plan is None:
        return NotImplemented
    image, w = channels_last(x), contiguous(weight)
    y = empty_channels_last(plan.y_shape)
    ready = plan.weights.to(w)
    b = () if bias is None else (contiguous(bias),)
    plan.forward.run(image, ready, y, *b)
    if need is None:
        return y

    def pull(g: Array) -> tuple[Any, ...]:
        g = channels_last(g)
        gx = gw = gb = None
        if need[0]:
            gx = _image_gradient(plan, g, w, x.shape)
        if need[1] or (len(need) > 2 and need[2]):
            plan.prepare_gradient()
            gw = empty_output(weight.shape, np.float32)
            buffer = plan.back.buffer(gw)
            extra = () if bias is None else (empty_output(bias.shape, np.float32),)
            plan.gradient.run(image, g, buffer, *extra)
            plan.back.finish(buffer, gw)
            gb = extra[0] if extra else None
        return (gx, gw if need[1] else None, gb)[: len(need)]

    return y, pull


@_kernel
def conv_transpose(xp: Backend, z: Array, weight: Array, *, shape: Ints, need: Any, **options: Any) -> Any:
    """The transpose of `conv` in its image, in float32: deconvolution."""
    plan = _transposed(z, weight, shape, **options)
    if plan is None:
        return NotImplemented
    g, w = channels_last(z), contiguous(weight)
    y = _image_gradient(plan, g, w, (len(z), weight.shape[1] * options["groups"], *shape))
    if need is None:
        return y

    def pull(h: Array) -> tuple[Any, ...]:
        h = channels_last(h)
        return (_forward(plan, h, w) if need[0] else None, _weight_gradient(plan, h, g) if need[1] else None)

    return y, pull


def _transposed(z: Array, weight: Array, shape: Ints, *, groups: int, **options: Any) -> _Convolution | None:
    """The plan for the convolution of which z is a result; None where oneDNN has none."""
    if z.ndim != weight.ndim or not all_float32(z, weight) or min(shape) < 1:
        return None
    plan = _planned((len(z), weight.shape[1] * groups, *shape), weight.shape, groups=groups, **options)
    return plan if plan is not None and plan.y_shape == z.shape else None


@_kernel
def conv_weight(xp: Backend, x: Array, z: Array, *, shape: Ints, need: Any, **options: Any) -> Any:
    """The transpose of `conv` in its weight, in float32."""
    if x.ndim != z.ndim or not all_float32(x, z):
        return NotImplemented
    plan = _planned(x.shape, (z.shape[1], x.shape[1] // options["groups"], *shape), **options)
    if plan is None or plan.y_shape != z.shape:
        return NotImplemented
    image, g = channels_last(x), channels_last(z)
    y = _weight_gradient(plan, image, g)
    if need is None:
        return y

    def pull(h: Array) -> tuple[Any, ...]:
        h = contiguous(h)
        return (
            _image_gradient(plan, g, h, x.shape) if need[0] else None,
            _forward(plan, image, h) if need[1] else None,
        )

    return y, pull


@lowers(KERNELS, "conv")
def _conv_calls(
    target: Array, x: Array, weight: Array, bias: Array | None = None, **options: Any
) -> list[Any] | None:
    """The calls that write a convolution into `target`, for a compiled program, whose arrays have fixed addresses."""
    plan = _convolution(x, weight, bias, False, **options)
    if plan is None or not weight.flags.c_contiguous or not is_channels_last(target):
        return None
    image, calls = channels_last_calls(x)
    ready = weight
    if plan.weights.step is not None:
        ready = np.empty(plan.weights.elements, np.float32)
        calls.append((plan.weights.step.another(plan).run, (weight, ready)))
    return [
        *calls,
        (plan.forward.another(plan).run, (image, ready, target, *(() if bias is None else (bias,)))),
    ]
