"""Convolution of one to three axes, and its transposes in the image (deconvolution) and in the weight.

One plan has the three primitives: forward, backward by data, backward by weights. Each of the three kernels is one of them, and its
gradients are the two others.
"""

from __future__ import annotations

import ctypes
import math
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend, window_counts
from anynet_backends.concurrency import once_property
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
from anynet_backends.onednn.library import Dims
from anynet_backends.onednn.primitive import (
    INFERENCE,
    QUERY,
    TRAINING,
    DescriptorOwner,
    PlanCache,
    Step,
)
from anynet_backends.onednn.reorders import Reorder, channels_last, channels_last_calls

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)
_DIRECT = 1
_VECTOR = 16
"""Numbers in the widest vector of a processor."""
_LONG = 1024
"""From so many products on, sums are taken in parts, of the channels of a block each."""


class _Adapted:
    """A primitive on arrays in the layouts that they are described with: what it has in other layouts is copied there and back."""

    def __init__(self, owner: DescriptorOwner, descriptor: Any, written: str, **layouts: Any) -> None:
        """`written`: the one argument whose layout the primitive chooses and which it writes."""
        dnnl = owner.dnnl
        chosen = {
            name: dnnl.query(descriptor, QUERY[name], 0) if name in QUERY else md
            for name, md in layouts.items()
        }
        self.step = Step(dnnl, descriptor, **chosen)
        copies = [
            (i, name == written, Reorder(md, chosen[name], backward=name == written))
            for i, (name, md) in enumerate(layouts.items())
            if name in QUERY
        ]
        self.into = [(i, c, c.step) for i, back, c in copies if c.step is not None and not back]
        self.back = [(i, c, c.step) for i, back, c in copies if c.step is not None and back]

    def run(self, *arrays: Array) -> None:
        """Execute on arrays in the order of the layouts."""
        if not self.into and not self.back:
            self.step.run(*arrays)
            return
        for step, operands in self._steps(*arrays):
            step.run(*operands)

    def _steps(self, *arrays: Array) -> list[tuple[Step, tuple[Array, ...]]]:
        """The primitives that run, each with its arrays."""
        inside = list(arrays)
        for i, copy, _ in (*self.into, *self.back):
            inside[i] = copy.buffer()
        into = [(step, (arrays[i], inside[i])) for i, _, step in self.into]
        back = [(step, (inside[i], arrays[i])) for i, _, step in self.back]
        return [*into, (self.step, tuple(inside)), *back]

    def calls(self, plan: Any, *arrays: Array) -> list[Any]:
        """Calls that do what `run` does on the same arrays again and again."""
        return [(step.another(plan).run, operands) for step, operands in self._steps(*arrays)]


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
        super().__init__()
        self.y_shape = (x[0], w[0], *window_counts(x[2:], w[2:], stride, padding, dilation))
        self.w_shape, self.groups, self.kind = w, groups, TRAINING if training else INFERENCE
        inner = w if groups == 1 else (groups, w[0] // groups, *w[1:])
        self.window = (
            Dims(*stride),
            Dims(*(d - 1 for d in dilation)),
            *(Dims(*p) for p in zip(*padding, strict=True)),
        )
        shapes = x, self.y_shape
        self.images = tuple(self.layout(s, channels_last_strides(s)) for s in shapes)
        self.blocked = tuple(self.layout(s, None) for s in shapes)
        self.w_plain, self.w_any = self.layout(inner, contiguous_strides(inner)), self.layout(inner, None)
        self.b_md = self.layout(w[:1], (1,)) if bias else None
        self.extra = {} if self.b_md is None else {"bias": self.b_md}
        # oneDNN's 1×1 convolution with strides writes beyond its scratch memory where channels are no whole number of vectors
        self.overflows = set(w[2:]) == {1} and max(stride) > 1 and w[1] % _VECTOR != 0
        x_md, y_md = self.images
        self.forward = _Adapted(
            self,
            # forward, kernels without AVX-512 have one sum over all blocks
            self._forward(self._summed(w[1]) if self.dnnl.avx512 else self.images),
            "dst",
            src=x_md,
            weights=self.w_plain,
            dst=y_md,
            **self.extra,
        )

    def _summed(self, channels: int) -> Any:
        """Layouts of the images for sums over so many channels and the kernel: channels last, or, where the sums are long, what the
        primitive chooses, which is blocks of channels."""
        long = channels * math.prod(self.w_shape[2:]) >= _LONG and self.groups == 1 and not self.overflows
        return self.blocked if long else self.images

    def _primitive(self, kind: str, *args: Any) -> ctypes.c_void_p:
        made = self.described(f"convolution_{kind}", *args)
        while self.overflows and self.dnnl.implementation(made).startswith("jit_1x1"):
            self.dnnl.call("dnnl_primitive_desc_next_impl", made)
        return made

    def _forward(self, images: Any) -> ctypes.c_void_p:
        """The descriptor of the forward primitive, which is a hint for the two others."""
        x_md, y_md = images
        return self._primitive("forward", self.kind, _DIRECT, x_md, self.w_any, self.b_md, y_md, *self.window)

    @once_property
    def data(self) -> _Adapted:
        """The primitive for the gradient of the input."""
        images = self._summed(self.w_shape[0] // self.groups)
        x_md, y_md = images
        pd = self._primitive(
            "backward_data", _DIRECT, x_md, self.w_any, y_md, *self.window, self._forward(images)
        )
        x_md, y_md = self.images
        return _Adapted(self, pd, "diff_src", diff_dst=y_md, weights=self.w_plain, diff_src=x_md)

    @once_property
    def gradient(self) -> _Adapted:
        """The primitive for the gradients of the weight and the bias."""
        x_md, y_md = self.images
        hint = self._forward(self.images)
        pd = self._primitive(
            "backward_weights", _DIRECT, x_md, self.w_any, self.b_md, y_md, *self.window, hint
        )
        extra = {} if self.b_md is None else {"diff_bias": self.b_md}
        return _Adapted(self, pd, "diff_weights", src=x_md, diff_dst=y_md, diff_weights=self.w_plain, **extra)


_convolutions = PlanCache(_Convolution)


def _planned(
    x: Ints, weight: Ints, *, bias: bool = False, training: bool = True, stride: Ints, padding: Any, dilation: Ints, groups: int
) -> _Convolution | None:  # fmt: skip
    """The plan for a convolution of one to three axes between arrays of these shapes; None for any other."""
    if not 3 <= len(x) <= 5:
        return None
    plan: _Convolution | None = _convolutions(
        x, weight, bias, tuple(stride), tuple(padding), tuple(dilation), groups, training
    )
    return None if plan is None or min(plan.y_shape) < 1 else plan


def _image_gradient(plan: _Convolution, g: Array, weight: Array, shape: Ints) -> Array:
    """The transpose of the convolution in its image, of g stored channels last."""
    gx = empty_channels_last(shape)
    plan.data.run(g, weight, gx)
    return gx


def _weight_gradient(plan: _Convolution, image: Array, g: Array, *bias: Array) -> Array:
    """The transpose of a convolution in its weight, of arrays stored channels last; that of its bias is written into `bias`."""
    gw = empty_output(plan.w_shape, np.float32)
    plan.gradient.run(image, g, gw, *bias)
    return gw


def _forward(plan: _Convolution, image: Array, weight: Array, *bias: Array) -> Array:
    """A convolution of an image stored channels last."""
    y = empty_channels_last(plan.y_shape)
    plan.forward.run(image, weight, y, *bias)
    return y


@_kernel
def conv(
    xp: Backend, x: Array, weight: Array, bias: Array | None = None, *, need: Any, **options: Any
) -> Any:
    """Convolution of one to three axes in float32."""
    if not all_float32(x, weight, bias):
        return NotImplemented
    plan = _planned(x.shape, weight.shape, bias=bias is not None, training=need is not None, **options)
    if plan is None:
        return NotImplemented
    image, w = channels_last(x), contiguous(weight)
    y = _forward(plan, image, w, *(() if bias is None else (contiguous(bias),)))
    if need is None:
        return y

    def pull(g: Array) -> tuple[Any, ...]:
        g = channels_last(g)
        gx = _image_gradient(plan, g, w, x.shape) if need[0] else None
        gw = gb = None
        if need[1] or (len(need) > 2 and need[2]):
            extra = () if bias is None else (empty_output(bias.shape, np.float32),)
            gw = _weight_gradient(plan, image, g, *extra)
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
    if not all_float32(x, weight, bias) or not weight.flags.c_contiguous or not is_channels_last(target):
        return None
    plan = _planned(x.shape, weight.shape, bias=bias is not None, training=False, **options)
    if plan is None:
        return None
    image, calls = channels_last_calls(x)
    return [*calls, *plan.forward.calls(plan, image, weight, target, *(() if bias is None else (bias,)))]
