"""Several operations as one: a pure function of Tensors as one call of machine code and one node of the graph.

An operation on a small array takes 0.5 µs, to call and record it ten times as long. A fused function is a pure function of
its Tensor arguments: the layers of a `Sequential` (`anynet.nn.fused_sequential`), a loss. After enough calls with arrays of
the same forms it is traced with its gradient and compiled into one built-in function (`anynet.autograd.jit.specialize`),
which makes the same calls on the same numbers. Where that does not apply (arrays of other forms, a floating-point exception,
an interceptor that observes the operations), the function itself is called.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from anynet import streams
from anynet.autograd.backward import backprop
from anynet.autograd.dispatch import INTERCEPT, kernel_switch
from anynet.autograd.graph import CustomNode, OutputEdge, custom_node, overwritten
from anynet.autograd.jit.specialize import (
    MAX_BYTES,
    MAX_BYTES_OF_DERIVATIVES,
    UNHASHABLE,
    Specialization,
    available,
    caches,
    static_key,
)
from anynet.tensor import Leaf, Tensor, clock, flavours, result_class, wrap
from anynet_backends import Array, backend_of, get_backend
from anynet_backends.concurrency import late_import, this_thread

__all__ = ["FusedFunction", "fused"]

_F = TypeVar("_F", bound=Callable[..., Any])
Position = tuple[int, int] | None
"""Seed and step of random words; None where there are none."""
_MAX_OPTIONS: Final = 64
_new = Tensor.__new__


class FusedFunction:
    """A function of Tensors, ``run([x, …])``, called as ``f([x, …])``: None where `run` is to be called instead. It gives a Tensor, or a
    tuple of Tensors, and of None where it has nothing to give.

    To `Specialization` it is a primitive: `compute` gives the results and the backward pass. The gradients of its inputs are a function
    of the same kind (`derivative`), of the gradients of the results and of the inputs: so is each derivative of a derivative."""

    rules: Final = True
    blockable: Final = True
    rules_take_over: Final = False
    has_aux: Final = False
    array_meta: Final = ()

    def __init__(
        self, name: str, run: Callable[[list[Tensor]], Any], draws: bool = False, max_bytes: int = MAX_BYTES
    ) -> None:
        """`draws`: whether it draws masks, so that it is pure but for the position of the stream, and is for devices alone."""
        self.name, self.run, self.draws, self.max_bytes = name, run, draws, max_bytes
        self.kind = get_backend("numpy").array_type
        self.specializations: dict[Any, Any] = {}
        # by the inputs whose gradients they give
        self.derivatives: dict[tuple[bool, ...], FusedFunction] = {}
        # where `run` gives a tuple, by the inputs that need a gradient: whether each result depends on them, or None in its place
        self.forms: dict[tuple[bool, ...] | None, tuple[bool | None, ...]] = {}
        self.compilable = available()
        caches.register(self)

    def __call__(self, inputs: Sequence[Tensor]) -> Any:
        if not kernel_switch.on or (INTERCEPT and INTERCEPT.own):
            return None
        data = [x._data for x in inputs]
        if type(data[0]) is not self.kind:
            return self._on_device(inputs, data)
        if not self.compilable or self.draws:
            return None
        need: tuple[bool, ...] | None = None
        if this_thread.recording:
            need = tuple([x.edge is not None for x in inputs])
            if True not in need:
                need = None
        special = self.specializations.get(need)
        if special is None:
            own: Any = weakref.proxy(self)  # it would keep itself, and the arrays of its tensors, alive
            special = self.specializations[need] = Specialization(own, need, {})
        y = special.call(*data)
        if y is None:
            if special.uncompilable or any(type(a) is not self.kind for a in data):
                return None
            y = special.observe(data)
            if y is None:
                return None
        return self._recorded(inputs, data, y, need)

    def _on_device(self, inputs: Sequence[Tensor], data: list[Any]) -> Any:
        """The same by programs of the arrays' device, where it has them."""
        kind = type(data[0])
        try:
            xp = backend_of(data[0])
        except TypeError:  # what stands for an array, in vmap
            return None
        if not xp.fuses or any(type(a) is not kind for a in data):
            return None
        need: tuple[bool, ...] | None = None
        if this_thread.recording:
            need = tuple([x.edge is not None for x in inputs])
            if True not in need:
                need = None
        key = kind, need
        special: Any = self.specializations.get(key)
        if special is None:
            own: Any = weakref.proxy(self)
            make = late_import("anynet.autograd.jit.on_device").DeviceFunction
            special = self.specializations[key] = make(xp, own.compute, own, need, {})
            caches.filled = True
        if xp.switches_devices and len({xp.device_of(a) for a in data}) > 1:
            return None
        y = special(data)
        if y is NotImplemented:
            return None
        return self._recorded(inputs, data, (y, None) if need is None and type(y) is tuple else y, need)

    def _recorded(
        self, inputs: Sequence[Tensor], data: list[Any], y: Any, need: tuple[bool, ...] | None
    ) -> Any:
        """The result as a Tensor, or those as a tuple, with their node where it is recorded."""
        out = _new(Tensor) if not flavours else _new(result_class(inputs))
        if need is None:
            if self.forms:
                return _results(y[0] if type(y) is tuple else y, self.forms[None], None, type(out))
            out._data = y
            out.edge = None
            return out
        if type(y) is not tuple or y[1] is None:  # it depends on nothing that needs a gradient
            return None
        array, pullback = y
        node = _FusedNode()
        node.seq = clock()
        node.prim = node.plan = node.hooks = None
        node.parents = [x.edge for x in inputs]
        node.saved = data  # type: ignore[assignment]
        node.pullback = pullback
        node.function, node.name = self, self.name
        if self.forms:
            node.gives(array)
            return _results(array, self.forms[need], node, type(out))
        node.shape, node.dtype, node.count = array.shape, array.dtype, 0
        out._data = array
        out.edge = node
        return out

    def _run(self, data: Sequence[Array], edges: Sequence[Any], recording: bool) -> Any:
        inputs = []
        for array, edge in zip(data, edges, strict=True):
            x = wrap(array)
            x.edge = edge
            inputs.append(x)
        before = this_thread.recording
        this_thread.recording = recording
        try:
            return self.run(inputs)
        finally:
            this_thread.recording = before

    def compute(
        self, data: list[Any], need: tuple[bool, ...] | None, meta: dict[str, Any]
    ) -> tuple[Any, Any]:
        """The result for plain arrays, or a tuple of several, and a function that takes their gradients to those of the arrays."""
        edges = [Leaf(a) if it else None for a, it in zip(data, need or (False,) * len(data), strict=True)]
        made = self._run(data, edges, need is not None)
        ys = _tensors(made)
        if isinstance(made, tuple):
            self.forms[need] = tuple([None if y is None else y.edge is not None for y in made])
        values = tuple([y._data for y in ys]) if len(ys) > 1 else ys[0]._data
        if all([y.edge is None for y in ys]):
            return values, None
        at = [i for i, edge in enumerate(edges) if edge is not None]

        def pullback(g: Any) -> list[Any]:
            grads: list[Any] = [None] * len(edges)
            found = backprop(_roots(ys, g), targets=[edges[i] for i in at])
            for i, gi in zip(at, found or (), strict=True):
                grads[i] = gi
            return grads

        return values, pullback

    def traceable(self, data: list[Any], need: tuple[bool, ...] | None, meta: dict[str, Any]) -> Any:
        """As of a primitive: `compute` consists of operations, which say themselves where they cannot be traced."""
        return self.compute

    def gradients(self, g: Any, data: list[Array], edges: Sequence[Any], position: Position) -> list[Any]:
        """The gradients by the operations themselves, which are computed once more."""
        need = tuple([e is not None for e in edges])
        with _drawing_from(position):
            return self.compute(data, need, {})[1](g)  # type: ignore[no-any-return]

    def differentiated(
        self, g: Any, data: Sequence[Array], edges: Sequence[Any], position: Position, asked: tuple[bool, ...] | None
    ) -> list[Any]:  # fmt: skip
        """The gradients, recorded in their turn: everything is computed once more."""
        wanted = tuple([e is not None and (asked is None or asked[i]) for i, e in enumerate(edges)])
        function = self.derivatives.get(wanted)
        if function is None:
            function = self.derivatives[wanted] = derivative(self.name, self.run, wanted)
        inputs = [*g] if isinstance(g, tuple) else [g]
        for array, edge in zip(data, edges, strict=True):
            x = wrap(array)
            x.edge = edge
            inputs.append(x)
        found = function(inputs) if position is None else None
        if found is None:
            with _drawing_from(position):
                found = function.run(inputs)
        rest = iter(found)
        return [next(rest) if it else None for it in wanted]


def _results(
    y: Any, form: tuple[bool | None, ...], node: Any, cls: type[Tensor]
) -> tuple[Tensor | None, ...]:
    """The results of a function that gives a tuple; an array is the only one that there is."""
    arrays = iter(enumerate(y if type(y) is tuple else (y,)))
    outs: list[Tensor | None] = []
    for depends in form:
        if depends is None:
            outs.append(None)
            continue
        i, array = next(arrays)
        outs.append(out := wrap(array, cls))
        if depends and node is not None:
            out.edge = OutputEdge(node, i) if node.count else node
    return tuple(outs)


def derivative(name: str, run: Callable[[list[Tensor]], Any], wanted: tuple[bool, ...]) -> FusedFunction:
    """The gradients of the `wanted` inputs of a function, as a function of the gradients of its results, and of its inputs."""

    def gradients(xs: list[Tensor]) -> tuple[Any, ...]:
        given, inputs = xs[: -len(wanted)], xs[-len(wanted) :]
        inputs = _independent(inputs, wanted)
        ys = _tensors(run(inputs))
        targets = [x.edge for x in itertools.compress(inputs, wanted)]
        roots = _roots(ys, tuple(given) if len(ys) > 1 else given[0])
        return tuple(backprop(roots, targets=targets, create_graph=True, retain_graph=True) or ())

    return FusedFunction(f"{name}'s gradient", gradients, max_bytes=MAX_BYTES_OF_DERIVATIVES)


def _independent(inputs: list[Tensor], wanted: tuple[bool, ...]) -> list[Tensor]:
    """The inputs, the `wanted` ones under edges of their own where they may depend on others or are there twice: their gradients are
    partial ones."""
    seen: set[Any] = set()
    out = []
    for x, it in zip(inputs, wanted, strict=True):
        if it and (type(x.edge) is not Leaf or x.edge in seen):
            edge = custom_node("identity", x._data, [x.edge], lambda g, _: [g])
            x = wrap(x._data)
            x.edge = edge
        seen.add(x.edge)
        out.append(x)
    return out


def _tensors(made: Any) -> list[Tensor]:
    """The results that a function has."""
    return [y for y in made if y is not None] if isinstance(made, tuple) else [made]


def _roots(ys: list[Tensor], g: Any) -> list[tuple[Any, Any]]:
    """Where a walk begins, given the gradients of results."""
    gs = g if isinstance(g, tuple) else (g,)
    return [(y.edge, gi) for y, gi in zip(ys, gs, strict=True) if y.edge is not None]


@contextlib.contextmanager
def _drawing_from(position: Position) -> Iterator[None]:
    """Within the block masks are drawn again from where they were."""
    if position is None:
        yield
        return
    with streams.fork_rng():
        streams.rewind({"seed": position[0], "weights": 0, "masks": position[1]})
        yield


class _FusedNode(CustomNode):
    """`saved`: all inputs."""

    __slots__ = ("function",)
    function: FusedFunction

    def gradients(self, g: Any, differentiable: bool, asked: tuple[bool, ...] | None) -> Any:
        saved: Any = self.saved
        pull: Any = self.pullback
        own = pull.args if isinstance(pull, functools.partial) else ()
        position = own[1] if len(own) > 1 else None  # of a program on a device; one by blocks has none
        for leaf, array in zip(self.parents, saved):  # noqa: B905 - equal by construction
            if type(leaf) is Leaf and leaf.written > self.seq:
                kept = pull.args[0] if isinstance(pull, functools.partial) else pull.__self__
                if differentiable or any(x is array for x in kept):
                    raise overwritten(leaf, self.label)
        if differentiable:
            return self.function.differentiated(g, saved, self.parents, position, asked)
        pulled = pull(g)
        return (
            self.function.gradients(g, saved, self.parents, position) if pulled is NotImplemented else pulled
        )


def fused(arrays: int) -> Callable[[_F], _F]:
    """Decorator: a function of so many Tensors, and of options, is a `FusedFunction` where it is called with Tensors."""

    def decorate(function: _F) -> _F:
        known: dict[Any, FusedFunction | None] = {}

        def made(options: tuple[Any, ...], kwargs: dict[str, Any]) -> FusedFunction:
            return FusedFunction(function.__name__, lambda xs: function(*xs, *options, **kwargs))

        @functools.wraps(function)
        def call(*args: Any, **kwargs: Any) -> Any:
            inputs, options = args[:arrays], args[arrays:]
            for x in inputs:
                if not isinstance(x, Tensor):
                    return function(*args, **kwargs)
            key = static_key(None, {**dict(enumerate(options)), **kwargs}) if options or kwargs else None  # type: ignore[arg-type]
            if key is UNHASHABLE or len(inputs) < arrays:
                return function(*args, **kwargs)
            one = known.get(key)
            if one is None:
                if len(known) >= _MAX_OPTIONS:
                    known.clear()
                one = known[key] = made(options, kwargs)
            y = one(inputs)
            return function(*args, **kwargs) if y is None else y

        return call  # type: ignore[return-value]

    return decorate
