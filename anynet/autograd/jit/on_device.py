"""Operations on a device's arrays as programs of few kernels.

A primitive that the device has no kernel for is computed by its reference, one launch for each call. From the third time on that it is
called with arrays of the same forms it is traced with its gradient rules, as for NumPy (`specialize`, `blocked`), and the traces become
programs of the device (`Backend.lower`). A program is used where it takes fewer launches than the calls. A gradient that lies in memory
otherwise than was expected has a program of its own. Second order, what cannot be traced, and forms that are met rarely run the reference.

Nothing is compiled while a stream is being captured, and nothing waits for the device.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from anynet import streams
from anynet.autograd.jit.recording import ResultIsViewError, backward_part, gradients_of, traceable_numpy
from anynet.autograd.jit.specialize import UNHASHABLE, caches, static_key
from anynet_backends import TYPES, Array, Backend, get_backend
from anynet_backends.concurrency import once
from anynet_backends.jit.cuda_operands import contiguous
from anynet_backends.jit.cuda_program import form_like, form_of
from anynet_backends.jit.device_trace import DeviceArray, DeviceTracer, FormTrace
from anynet_backends.jit.instructions import Instruction, Variable
from anynet_backends.jit.tracer import ACTIVE, trace_lock
from anynet_backends.kernel_table import Kernel

if TYPE_CHECKING:
    from anynet.autograd.primitive import Primitive

__all__ = ["WARMUP_CALLS", "DeviceFunction", "kernel_of"]

WARMUP_CALLS: Final = 3
_MAX_FORMS, _MAX_FAILURES, _MAX_COUNTED, _MAX_LAYOUTS, _MAX_OPTIONS = 32, 4, 256, 4, 64
_POSITION: Final = ("seed", "step")
"""Metadata that say where random words stand: other ones at each call."""


@once
def _tracer_of(xp: Backend) -> DeviceTracer:
    made = DeviceTracer(traceable_numpy(), xp)
    TYPES.setdefault(DeviceArray, made)
    return made


def kernel_of(prim: Primitive[...]) -> Kernel:
    """The kernel that runs a primitive's programs; NotImplemented where there is none."""
    return Kernel(_Programs(prim), vjp=True)


class _Programs:
    """The programs of a primitive, by the inputs that need a gradient and the metadata."""

    def __init__(self, prim: Primitive[...]) -> None:
        self.prim = prim
        self.specializations: dict[Any, DeviceFunction | None] = {}
        caches.register(self)

    def __call__(self, xp: Backend, *data: Any, need: tuple[bool, ...] | None, **meta: Any) -> Any:
        position: tuple[int, int] | None = None
        fixed = meta
        moves = self.prim.draws and all(name in meta for name in _POSITION)
        if moves:
            position = meta["seed"], meta["step"]
            fixed = {k: v for k, v in meta.items() if k not in _POSITION}
        key = static_key(need, fixed | {"": moves}) if fixed else need
        try:
            function = self.specializations[key]
        except KeyError:
            function = None
            if key is not UNHASHABLE and self.prim.blockable:
                function = DeviceFunction(xp, functools.partial(_compute, self.prim), self.prim, need, meta)
            if len(self.specializations) >= _MAX_OPTIONS:
                self.specializations.clear()
            self.specializations[key] = function
            caches.filled = True
        return NotImplemented if function is None else function(data, position)


def _compute(
    prim: Primitive[...], data: list[Any], need: tuple[bool, ...] | None, meta: dict[str, Any]
) -> tuple[Any, Any]:
    xp = next(TYPES[type(x)] for x in data if type(x) in TYPES)
    y = prim.reference(xp, *data, **meta)
    if xp.narrows:
        y = prim.narrowed(xp, y, data, meta)
    return (prim.result(y) if need is None else y), None


class _Backward(NamedTuple):
    """What has been recorded of a backward pass: instructions, what it reads of the forward pass, the gradients it is given and gives."""

    instructions: list[Instruction]
    kept: list[Variable]
    given: list[Variable]
    grads: list[Variable | None]
    calls: int


class DeviceFunction:
    """A function of a device's arrays and its gradient, for one choice of metadata and of inputs that need one, as programs by the forms of
    the arrays: called with them it gives what a kernel gives, or NotImplemented."""

    def __init__(
        self, xp: Backend, compute: Callable[..., Any], prim: Any, need: tuple[bool, ...] | None, meta: dict[str, Any]
    ) -> None:  # fmt: skip
        self.xp, self.compute, self.prim, self.need, self.meta = xp, compute, prim, need, dict(meta)
        self.plans: dict[Any, _Plan | None] = {}
        self.counts: dict[Any, int] = {}
        self.rounds = 0
        self.failures = 0
        self.hopeless = False

    def __call__(self, data: Sequence[Any], position: tuple[int, int] | None = None) -> Any:
        """`position`: seed and step of the random words; None where the next ones are drawn."""
        if self.hopeless:
            return NotImplemented
        kind: Any = self.xp.array_type
        form = tuple([(x.shape, x.strides, x.dtype) if type(x) is kind else (type(x), x) for x in data])
        try:
            plan = self.plans[form]
        except KeyError:
            plan = self._observe(form, data)
        except TypeError:  # what is no array may change
            return NotImplemented
        if plan is None:
            return NotImplemented
        if position is None:
            position = streams.next_mask(plan.draws) if plan.draws else (0, 0)
        return plan([x for x in data if type(x) is kind], position)

    def _observe(self, form: Any, data: Sequence[Any]) -> _Plan | None:
        """Count a call; the plan from the third on."""
        seen = self.counts[form] = self.counts.get(form, 0) + 1
        if len(self.counts) > _MAX_COUNTED:
            self.counts.clear()
        if (
            seen < WARMUP_CALLS << self.rounds
            or self.xp.is_capturing()
            or not trace_lock.acquire(blocking=False)
        ):
            return None
        try:
            if ACTIVE:
                return None
            plan = self._planned(data)
        finally:
            trace_lock.release()
        if plan is None:
            self.failures += 1
            self.hopeless = self.failures >= _MAX_FAILURES and not any(self.plans.values())
        if len(self.plans) >= _MAX_FORMS:
            self.plans.clear()
            self.counts.clear()
            self.rounds += 1
        self.plans[form] = plan
        return plan

    def _planned(self, data: Sequence[Any]) -> _Plan | None:
        try:
            with traceable_numpy().errstate():
                return _plan(self, data)
        except ResultIsViewError:
            self.hopeless = True
        except Exception:  # noqa: BLE001 - what cannot be traced or lowered runs as before
            pass
        return None


class _Plan:
    """The forward program, and the backward programs by the layouts of the gradients."""

    def __init__(
        self, forward: Any, outputs: int, several: bool, backward: _Backward | None, lower: Any, inputs: int
    ) -> None:
        self.forward, self.outputs, self.several = forward, outputs, several
        self.recorded, self.lower = backward, lower
        self.inputs = inputs
        self.draws = 0  # the masks that the function draws itself
        self.backward: dict[Any, Any] = {}

    def __call__(self, given: list[Any], position: tuple[int, int]) -> Any:
        made = self.forward(given, position)
        n = self.outputs
        y = tuple(made[:n]) if self.several else made[0]
        if self.recorded is None:
            return y if self.inputs < 0 else (y, None)
        return y, functools.partial(self.pullback, made[n:], position)

    def pullback(self, kept: list[Array], position: tuple[int, int], g: Any) -> Any:
        """The gradients of the inputs; NotImplemented where they are left to the rules."""
        gs = g if isinstance(g, tuple) else (g,)
        layout = tuple([getattr(x, "strides", None) for x in gs])
        program = self.backward.get(layout)
        if program is None:
            if layout in self.backward or len(self.backward) >= _MAX_LAYOUTS or None in layout:
                return NotImplemented
            try:
                program = self.lower(self.recorded, gs)
            except Exception:  # noqa: BLE001 - as above
                program = None
            if program is NotImplemented:
                return NotImplemented
            self.backward[layout] = program
            if program is None:
                return NotImplemented
        return tuple(program([*kept, *gs], position))


def _plan(function: DeviceFunction, data: Sequence[Any]) -> _Plan | None:
    """Trace and lower the function; None where that saves no launch."""
    xp, need = function.xp, function.need
    _tracer_of(xp)
    kind: Any = xp.array_type
    trace = FormTrace(traceable_numpy(), get_backend("meta"))
    own = streams.get_state()  # from which a function draws that is given no position
    trace.seed, trace.step = (
        (function.meta["seed"], function.meta["step"])
        if all(name in function.meta for name in _POSITION)
        else (own["seed"], own["masks"])
    )
    given = [trace.argument(x.shape, x.strides, x.dtype) if type(x) is kind else x for x in data]
    arrays = [x for x in given if isinstance(x, DeviceArray)]
    ACTIVE.append(trace)
    try:
        with streams.fork_rng():
            made, pullback = function.compute(given, need, function.meta)
            then = streams.get_state()
        if then["weights"] != own["weights"] or then["seed"] != own["seed"]:
            return None
        results = made if isinstance(made, tuple) else (made,)
        if not all(isinstance(x, DeviceArray) for x in results):
            return None
        if any(x.var == r.variable.root for x in arrays for r in results):
            raise ResultIsViewError
        end = len(trace.instructions)
        backward = None
        if need is not None and function.prim.rules:
            backward = _recorded_backward(function, need, trace, given, made, pullback, end)
    finally:
        ACTIVE.pop()
    forward = trace.instructions[:end]
    kept = backward.kept if backward else []
    variables = [x.variable for x in arrays]
    forms = [form_of(x) for x in data if type(x) is kind]
    outputs = [x.variable for x in results]
    program = xp.lower(trace.functions, forward, variables, forms, [*outputs, *kept], outputs)
    saved = _launches(forward, outputs) - program.launches
    lower = None
    if backward:
        held = {v.var: f for v, f in zip(variables, forms, strict=True)}
        lower = functools.partial(_lower_backward, xp, trace.functions, held)
        first = lower(backward, None)
        saved += backward.calls - first.launches
    for x in trace.inputs:
        x.variable.value = None
    if saved <= 0:
        return None
    plan = _Plan(program, len(outputs), isinstance(made, tuple), backward, lower, -1 if need is None else 0)
    plan.draws = then["masks"] - own["masks"]
    return plan


def _lower_backward(
    xp: Any, functions: Any, held: dict[int, Any], recorded: _Backward, gs: Sequence[Array] | None
) -> Any:
    """The program of a backward pass for gradients of these layouts (None: as expected)."""
    if gs is not None and xp.is_capturing():
        return NotImplemented
    forms = [held.get(x.var) or form_like(x) for x in recorded.kept]
    forms += [form_like(x) for x in recorded.given] if gs is None else [form_of(x) for x in gs]
    return xp.lower(
        functions, recorded.instructions, [*recorded.kept, *recorded.given], forms, recorded.grads
    )


def _recorded_backward(
    function: DeviceFunction, need: tuple[bool, ...], trace: FormTrace, given: list[Any], made: Any, pullback: Any, end: int
) -> _Backward:  # fmt: skip
    """Run the rules, and take apart what they need of the forward pass."""
    prim = function.prim
    several = isinstance(made, tuple) and not prim.has_aux
    results = made if isinstance(made, tuple) else (made,)
    gs = [
        trace.argument(x.shape, tuple(s * x.dtype.itemsize for s in contiguous(x.shape)), x.dtype)
        for x in (results if several else results[:1])
    ]
    g = tuple(gs) if several else gs[0]
    grads = gradients_of(prim, need, function.meta, given, made, pullback, g)
    arrays = [x for x in given if isinstance(x, DeviceArray)]
    back, kept = backward_part(trace, arrays, end, [x for x in grads if x is not None])
    calls = _launches(back.instructions, [x.variable for x in grads if x is not None])
    return _Backward(
        back.instructions, [x.variable for x in kept], [x.variable for x in gs],
        [None if x is None else x.variable for x in grads], calls,
    )  # fmt: skip


def _launches(instructions: Sequence[Instruction], wanted: Sequence[Variable]) -> int:
    """How many launches the calls take one by one: all that make an array of their own."""
    need, count = {x.var for x in wanted}, 0
    for i in reversed(instructions):
        outs = i.out if isinstance(i.out, tuple) else () if i.out is None else (i.out,)
        if any(o.var in need for o in outs):
            need.update(i.reads)
            need.update(o.root for o in outs)
            count += any(o.root == o.var for o in outs)
    return count
