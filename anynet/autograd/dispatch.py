"""Calling a primitive: unbox the Tensors, choose an implementation, compute, record the call in the graph.

`bind` runs at each eager call, so its steps stand in one function: with a function of its own the loop over the arguments
makes a call of a small operation 5 to 10 % slower, the making of the node 3 to 5 %. What is rare (several outputs, errors,
the first call with a type of array) stands in others.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from anynet.autograd.graph import Node, OutputEdge
from anynet.autograd.jit.specialize import MAX_BYTES, UNHASHABLE, Specialization, available, static_key
from anynet.tensor import Tensor, clock, flavours, result_class, unwrap, wrap
from anynet_backends import TYPES, Array, Backend, backend_of
from anynet_backends.concurrency import ThreadStack, late_import, this_thread
from anynet_backends.config import KERNELS
from anynet_backends.host import numbers_of
from anynet_backends.jit.errors import CompileError, user_line
from anynet_backends.jit.tracer import TracedArray
from anynet_backends.kernel_table import Kernel

if TYPE_CHECKING:
    from anynet.autograd.primitive import Primitive

__all__ = [
    "INTERCEPT",
    "DeviceError",
    "Implementation",
    "bind",
    "bind_view",
    "choose_implementation",
    "describe",
    "kernel_switch",
]

INTERCEPT: ThreadStack[Callable[[Primitive[...], tuple[Any, ...], dict[str, Any]], Any]] = ThreadStack(
    "interceptors"
)
"""The interceptors of each thread: the latest handles every call of a primitive (vmap, anomaly mode, profiling, tracing)."""


class _KernelSwitch:
    """Whether backends' kernels are used."""

    __slots__ = ("on",)

    def __init__(self, on: bool) -> None:
        self.on = on


kernel_switch = _KernelSwitch(KERNELS())
_MAX_SPECIALIZATIONS = 64
_ONE = (True,)
_new = Tensor.__new__
_SCALARS = frozenset((bool, int, float, complex))
_FLOATING = frozenset(("float16", "bfloat16", "float32", "float64", "complex64", "complex128"))


class DeviceError(ValueError):
    """Arrays of different devices or libraries met in one operation."""


@dataclass(slots=True)
class Implementation:
    """How a primitive is computed for arrays of one type."""

    xp: Backend
    forward: Callable[..., Any]
    with_pullback: Callable[..., Any] | None  # a kernel that takes `need` and returns ``(y, pullback)``
    compilable: bool  # whether it may be specialized
    compiles_gradients: bool  # where a gradient is to be taken, too


# Over 60 lines, which the module's docstring gives the reason for.
def bind(prim: Primitive[...], args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
    """Compute, and record where an argument requires a gradient."""
    boxed = False
    edges: list[Any] | None = None
    data: list[Any] = []
    arrays = True  # nothing but arrays of one kind
    kind: type | None = None
    first: Any = None
    for i, x in enumerate(args):
        if isinstance(x, Tensor):
            boxed = True
            edge = x.edge
            if edge is not None:
                if edges is None:
                    edges = [None] * len(args)
                edges[i] = edge
            x = x._data
        data.append(x)
        t = type(x)
        if t is not kind:
            if t in _SCALARS or x is None:
                arrays = False
            elif kind is None:
                kind, first = t, x
            elif not _same_library(first, x):
                plain = numbers_of(args)
                if plain is not None:  # NumPy's scalars are numbers beside arrays of another library
                    return bind(prim, plain, meta)
                raise _mixed(prim, args)
            else:
                arrays = False
    impl = prim.implementations.get(kind) or choose_implementation(prim, kind, args)  # type: ignore[arg-type]
    xp = impl.xp
    if xp.multi_device and len(data) > 1:
        _check_devices(prim, xp, data, args)
    need = None
    if edges is not None and this_thread.recording and prim.kind != "piecewise constant":
        need = tuple([e is not None for e in edges])
    y: Any = None
    pullback = None
    if (
        impl.compilable and arrays and prim.compilable
        and (need is None or impl.compiles_gradients)
        and not (prim.draws and "step" in meta)
    ):  # fmt: skip
        given, fixed = data, meta
        if prim.array_meta:  # which are arguments to a specialization, too
            fixed = meta.copy()
            given = [*data, *[fixed.pop(name) for name in prim.array_meta]]
        key = static_key(need, fixed) if fixed else need
        special = prim.specializations.get(key) or _specialize(prim, key, need, fixed)
        y = special.call(*given)
        if y is None and not special.uncompilable:
            y = special.observe(given)
        if type(y) is tuple:
            y, pullback = y
    if y is None:
        y, pullback = prim.compute(data, need, meta, impl)
    if not boxed:
        return y
    if type(y) is not xp.array_type:
        if isinstance(y, tuple):
            return _box_all(prim, xp, y, args, data, edges, need, meta, pullback)
        y = xp.asarray(y)
    out = _new(Tensor) if not flavours else _new(result_class(args))
    out._data = y
    if need is not None:
        plan = prim.plans.get(need) or prim.plan_of(need)
        out.edge = node = Node()
        node.seq = clock()
        node.prim, node.plan = prim, plan
        node.parents = edges  # type: ignore[assignment]
        node.saved = plan.keep(y, data, meta)
        node.pullback, node.hooks = pullback, None
        node.shape, node.dtype, node.count = y.shape, y.dtype, 0
    elif edges is not None and this_thread.recording and xp.dtype_name(y.dtype) in _FLOATING:
        out.edge = _zero_edge(prim, y, edges)
    else:
        out.edge = None
    return out


def bind_view(prim: Primitive[...], args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
    """`bind` for a function of one array that mostly gives a view of it: there is nothing to compile and no kernel to choose, and where
    views are made at once (`Backend.views_at_once`) the array's own method is most of the work."""
    if len(args) != 1:
        return bind(prim, args, meta)
    x = args[0]
    boxed = isinstance(x, Tensor)
    data = x._data if boxed else x
    xp = TYPES.get(type(data))
    if xp is None or not xp.views_at_once:
        return bind(prim, args, meta)
    try:
        y = prim.reference(xp, data, **meta)
    except Exception:  # noqa: BLE001 - which says what the call was
        return bind(prim, args, meta)
    if not boxed:
        return y
    out = _new(Tensor) if not flavours else _new(result_class(args))
    out._data = y if type(y) is xp.array_type else xp.asarray(y)
    out.edge = None
    if x.edge is not None and this_thread.recording:
        out.edge = node = Node()
        node.seq = clock()
        node.prim, node.plan = prim, prim.plans.get(_ONE) or prim.plan_of(_ONE)
        node.parents = [x.edge]
        node.saved = node.plan.keep(y, (data,), meta)
        node.pullback, node.hooks = None, None
        node.shape, node.dtype, node.count = out._data.shape, out._data.dtype, 0
    return out


def _zero_edge(prim: Primitive[...], y: Array, edges: list[Any]) -> Node:
    """The node of a piecewise constant function: its gradient is zero by mathematics."""
    node = Node()
    node.seq = clock()
    node.prim, node.plan, node.parents, node.saved, node.pullback = prim, None, edges, (), None
    node.shape, node.dtype, node.count, node.hooks = y.shape, y.dtype, 0, None
    return node


def _box_all(
    prim: Primitive[...], xp: Backend, ys: tuple[Any, ...], args: tuple[Any, ...], data: list[Any], edges: Any,
    need: tuple[bool, ...] | None, meta: dict[str, Any], pullback: Any,
) -> Tensor | tuple[Tensor, ...]:  # fmt: skip
    """The Tensors of a primitive with several outputs, or the first where the others are for its rules alone."""
    kind = xp.array_type
    ys = tuple([y if type(y) is kind else xp.asarray(y) for y in ys])
    cls = result_class(args) if flavours else Tensor
    outs = tuple([wrap(y, cls) for y in (ys[:1] if prim.keeps_aux else ys)])
    if need is not None:
        plan = prim.plan_of(need)
        node = Node()
        node.seq = clock()
        node.prim, node.plan, node.parents = prim, plan, edges
        node.saved = plan.keep(ys, data, meta)
        node.pullback, node.hooks = pullback, None
        if prim.has_aux:
            node.gives(ys[0])
            outs[0].edge = node
            return outs[0] if prim.keeps_aux else outs
        node.gives(ys)
        for i, out in enumerate(outs):
            out.edge = OutputEdge(node, i) if xp.dtype_name(out._data.dtype) in _FLOATING else None
    return outs


def _specialize(
    prim: Primitive[...], key: Any, need: tuple[bool, ...] | None, meta: dict[str, Any]
) -> Specialization:
    if len(prim.specializations) >= _MAX_SPECIALIZATIONS:
        prim.specializations.clear()
    made = prim.specializations[key] = Specialization(prim, need, meta, uncompilable=key is UNHASHABLE)
    return made


# ----- implementations -----


def choose_implementation(prim: Primitive[...], kind: type | None, args: tuple[Any, ...]) -> Implementation:
    """The implementation for arrays of the type `kind`, found among `args`: kept until kernels are switched on or off."""
    if kind is None:
        msg = f"{prim.name} needs at least one array or Tensor, got {', '.join(repr(a) for a in args) or 'nothing'}"
        raise TypeError(msg)
    xp = backend_of(next(d for a in args if type(d := a._data if isinstance(a, Tensor) else a) is kind))
    function: Callable[..., Any] = prim.reference
    with_pullback = None
    compilable = kernel_switch.on and xp.eager and xp.compiles and available()
    with_gradients = True
    kernel: Kernel | None = None
    if kernel_switch.on:
        kernel = xp.kernels.get(prim.name)
        if compilable and kernel is not None and not kernel.traceable:
            # that is one call already, for what it takes; without a gradient it may be one of machine code
            prim.max_bytes = kernel.min_bytes if kernel.lower is None else MAX_BYTES
            compilable = prim.max_bytes > 0
            with_gradients = kernel.min_bytes > 0
        own = prim.kernels.get(xp.name)
        if own is not None:
            kernel = own if kernel is None else kernel.before(own)
        if xp.fuses and (kernel is None or kernel.vjp):
            programs = late_import("anynet.autograd.jit.on_device").kernel_of(prim)
            kernel = programs if kernel is None else kernel.before(programs)
    if kernel is not None:
        function = kernel.function()
        if kernel.vjp:
            function, with_pullback = _forward_of(function), function
    impl = prim.implementations[kind] = Implementation(
        xp, function, with_pullback, compilable, compilable and with_gradients
    )
    return impl


def _forward_of(kernel: Callable[..., Any]) -> Callable[..., Any]:
    def forward(xp: Backend, *data: Any, **meta: Any) -> Any:
        return kernel(xp, *data, need=None, **meta)

    return forward


# ----- errors -----


def _same_library(a: Any, b: Any) -> bool:
    try:
        return backend_of(a) is backend_of(b)
    except TypeError:
        return False


def _check_devices(prim: Primitive[...], xp: Backend, data: list[Any], args: tuple[Any, ...]) -> None:
    first = None
    for x in data:
        if x is None or type(x) in _SCALARS:
            continue
        if first is None:
            first = x.device
        elif x.device != first:
            raise _mixed(prim, args)


def _mixed(prim: Primitive[...], args: tuple[Any, ...]) -> Exception:
    """The error for arguments of different devices, or of which one is no array."""
    names = (*prim.inputs, *(f"{prim.variadic}[{i}]" for i in range(len(args))))
    where = []
    for name, x in zip(names, args, strict=False):
        x = x._data if isinstance(x, Tensor) else x
        if x is None or type(x) in _SCALARS:
            continue
        try:
            where.append(f"{name} of shape {tuple(x.shape)} on {backend_of(x).device_of(x)!r}")
        except TypeError:
            msg = f"{prim.name} takes arrays and Tensors, but {name} is a {type(x).__name__}; use anynet.asarray"
            return TypeError(msg)
    # where a compiled function runs, all other arrays are recorded, too
    if any(isinstance(unwrap(x), TracedArray) for x in args):
        msg = (
            f"{user_line()}: {prim.name} is given what a compiled function computes, in a call that is made on the host, such as the "
            "closure of an optimizer's step, which a program cannot do; call that step outside, and compile what the closure computes"
        )
        return CompileError(msg)
    return DeviceError(
        f"{prim.name} got arrays on different devices: {', '.join(where)}; move one with .to(device)"
    )


def describe(prim: Primitive[...], data: list[Any], meta: dict[str, Any]) -> str:
    """A call, for the note that an error gets."""
    parts = []
    for x in data:
        parts.append(
            f"{x.dtype}{tuple(x.shape)}" if hasattr(x, "shape") and hasattr(x, "dtype") else repr(x)[:40]
        )
    parts += [f"{k}={v!r}" for k, v in meta.items()]
    return f"{prim.name}({', '.join(parts)})"
