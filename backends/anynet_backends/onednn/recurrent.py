"""LSTM and GRU layers."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.kernel_table import KernelTable, register_in
from anynet_backends.memory.outputs import empty_output
from anynet_backends.onednn.layouts import all_float32, contiguous, contiguous_strides
from anynet_backends.onednn.primitive import (
    BACKWARD,
    INFERENCE,
    QUERY,
    TRAINING,
    DescriptorOwner,
    PlanCache,
    Step,
)
from anynet_backends.onednn.reorders import Reorder

KERNELS: KernelTable = {}
"""By the name of the primitive that they replace."""
_kernel = register_in(KERNELS)


class _Recurrent(DescriptorOwner):
    """A layer of an LSTM or a GRU (with the reset gate after the product) in one direction. It always has a bias: the library has no
    kernel without."""

    def __init__(
        self, gates: int, steps: int, n: int, inputs: int, width: int, reverse: bool, training: bool
    ) -> None:
        super().__init__()
        lstm = gates == 4
        self.kind = "lstm" if lstm else "lbr_gru"
        self.direction = ctypes.c_int(_RIGHT_TO_LEFT if reverse else _LEFT_TO_RIGHT)
        x, y = (self.layout((steps, n, k), contiguous_strides((steps, n, k))) for k in (inputs, width))
        state = self.layout((1, 1, n, width), contiguous_strides((1, 1, n, width)))
        rows = (inputs, width)
        self.plain = [
            self.layout((1, 1, k, gates, width), (0, 0, 1, width * k, k)) for k in rows
        ]  # (gates · width, k) in memory
        free = [self.layout((1, 1, k, gates, width), None) for k in rows]
        b = self.layout((1, 1, 4, width), contiguous_strides((1, 1, 4, width)))
        states = (state, state) if lstm else (state,)
        peephole = (None, None) if lstm else ()
        self.forms = (x, *states, *free, *peephole, b, y, *states)
        self.pd = self._way("forward", TRAINING if training else INFERENCE, self.forms)
        named = ("iter", "iter_c")[: len(states)]
        self.names = ["src", *(f"src_{name}" for name in named), "weights", "weights_iter", "bias"]
        self.results = ["dst", *(f"dst_{name}" for name in named)]
        self.layouts: dict[str, Any] = {
            "src": x, "src_iter": state, "src_iter_c": state, "bias": b, "dst": y, "dst_iter": state, "dst_iter_c": state,
        }  # fmt: skip
        self.room = 0
        wanted = self._weights(self.pd, "weights")
        self.weights = [Reorder(p, w) for p, w in zip(self.plain, wanted, strict=True)]
        self.layouts |= {"weights": wanted[0], "weights_iter": wanted[1]}
        if training:
            self.layouts["workspace"] = self.dnnl.query(self.pd, QUERY["workspace"], 0)
            self.room = int(self.dnnl.size(self.layouts["workspace"]))
        last = ["workspace"] if training else []
        self.forward = Step(
            self.dnnl, self.pd, **{k: self.layouts[k] for k in (*self.names, *self.results, *last)}
        )
        if training:
            self._prepare()

    def _way(self, way: str, kind: int, forms: Sequence[Any], hint: Any = ()) -> ctypes.c_void_p:
        return self.described(f"{self.kind}_{way}", kind, self.direction, *forms, ctypes.c_uint(0), *hint)

    def _weights(self, pd: Any, name: str) -> list[int]:
        return [self.dnnl.query(pd, QUERY[name], i) for i in (0, 1)]

    def _prepare(self) -> None:
        """Create the backward primitive."""
        dnnl = self.dnnl
        pd = self._way("backward", BACKWARD, (*self.forms, *self.forms), (self.pd,))
        wanted, made = self._weights(pd, "weights"), self._weights(pd, "diff_weights")
        self.back_weights = [Reorder(p, w) for p, w in zip(self.plain, wanted, strict=True)]
        self.gradients = [Reorder(p, w, backward=True) for p, w in zip(self.plain, made, strict=True)]
        self.places = [int(dnnl.size(w)) // 4 + 16 for w in made]
        known = {**self.layouts, "weights": wanted[0], "weights_iter": wanted[1]}
        diffs = {**self.layouts, "weights": made[0], "weights_iter": made[1]}
        layouts = {k: known[k] for k in (*self.names, *self.results, "workspace")}
        layouts |= {f"diff_{k}": diffs[k] for k in (*self.names, *self.results)}
        self.backward = Step(dnnl, pd, **layouts)


_LEFT_TO_RIGHT, _RIGHT_TO_LEFT = 1, 2
_layers = PlanCache(_Recurrent)  # None if there is no kernel that reorders the weights


def _layer(
    gates: int, x: Array, first: tuple[Array, ...], weights: tuple[Array, Array], bias: Array | None, reverse: bool, need: bool
) -> tuple[list[Array], Callable[[Sequence[Array]], list[Array]]] | None:  # fmt: skip
    """The outputs of a layer (all states and the last ones), and a function from their gradients to those of x, the initial states,
    the weights and the bias; None if the library has no kernel."""
    steps, n, inputs = x.shape
    width = first[0].shape[-1]
    plan = _layers(gates, steps, n, inputs, width, reverse, need)
    if plan is None:
        return None
    read = [contiguous(a) for a in (x, *first)]
    w = [contiguous(a) for a in weights]
    b = np.zeros(4 * width, np.float32) if bias is None else contiguous(bias)
    made = [empty_output((steps, n, width), np.float32), *(empty_output(s.shape, np.float32) for s in first)]
    room = [np.empty(plan.room, np.uint8)] if need else []
    ready = [each.to(a) for each, a in zip(plan.weights, w, strict=True)]
    plan.forward.run(*read, *ready, b, *made, *room)

    def pull(g: Sequence[Array]) -> list[Array]:
        ready = [each.to(a) for each, a in zip(plan.back_weights, w, strict=True)]
        grads = [empty_output(a.shape, np.float32) for a in (*read, *w)]
        sums = [np.zeros(size, np.float32) for size in plan.places]  # the primitive accumulates into these
        db = np.zeros_like(b)
        into = [*grads[: len(read)], *sums, db]
        plan.backward.run(*read, *ready, b, *made, *room, *into, *map(contiguous, g))
        for each, total, grad in zip(plan.gradients, sums, grads[len(read) :], strict=True):
            if each.step is None:
                grad[...] = total[: grad.size].reshape(grad.shape)
            else:
                each.step.run(total, grad)
        return grads if bias is None else [*grads, db]

    return made, pull


@_kernel
def lstm_layer(
    xp: Backend, x: Array, h: Array, c: Array, weight_ih: Array, weight_hh: Array, bias: Array | None = None, *,
    reverse: bool = False, need: Any,
) -> Any:  # fmt: skip
    """An LSTM over a sequence in float32."""
    if not all_float32(x, h, c, weight_ih, weight_hh, bias):
        return NotImplemented
    done = _layer(4, x, (h, c), (weight_ih, weight_hh), bias, reverse, need is not None)
    if done is None:
        return NotImplemented
    made, gradients = done
    y = (made[0], made[2])
    if need is None:
        return y
    zero = np.zeros_like(made[1])  # its gradient is part of that of all states

    def pull(g: tuple[Array, Array]) -> tuple[Array, ...]:
        return tuple(gradients((g[0], zero, g[1])))

    return y, pull


@_kernel
def gru_layer(
    xp: Backend, x: Array, h: Array, weight_ih: Array, weight_hh: Array, bias_ih: Array | None = None,
    bias_hh: Array | None = None, *, reverse: bool = False, need: Any,
) -> Any:  # fmt: skip
    """A GRU over a sequence in float32. oneDNN's gates are in the order z, r, n, with four biases: one each for z and r (the sums
    of both), two for n."""
    if not all_float32(x, h, weight_ih, weight_hh, bias_ih, bias_hh) or (bias_ih is None) != (
        bias_hh is None
    ):
        return NotImplemented
    m = h.shape[-1]

    def turned(a: Array) -> Array:
        return np.concatenate((a[m : 2 * m], a[:m], a[2 * m :]))

    bias = None
    if bias_ih is not None and bias_hh is not None:
        bias = np.concatenate((turned(bias_ih + bias_hh)[: 2 * m], bias_ih[2 * m :], bias_hh[2 * m :]))
    weights = (turned(weight_ih), turned(weight_hh))
    done = _layer(3, x, (h,), weights, bias, reverse, need is not None)
    if done is None:
        return NotImplemented
    made, gradients = done
    if need is None:
        return made[0]
    zero = np.zeros_like(made[1])

    def pull(g: Array) -> tuple[Array, ...]:
        dx, dh, *dw, db = gradients((g, zero)) if bias is not None else (*gradients((g, zero)), None)
        found = (dx, dh, *map(turned, dw))
        if db is None:
            return found
        both = np.concatenate((db[m : 2 * m], db[:m]))
        return *found, np.concatenate((both, db[2 * m : 3 * m])), np.concatenate((both, db[3 * m :]))

    return made[0], pull
