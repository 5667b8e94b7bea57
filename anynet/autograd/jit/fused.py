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
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeVar

from anynet import streams
from anynet.autograd.backward import backprop
from anynet.autograd.dispatch import INTERCEPT, kernel_switch
from anynet.autograd.graph import CustomNode, overwritten, walk
from anynet.autograd.jit.specialize import (
    MAX_BYTES,
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
    """A function of Tensors, ``run([x, …])``, called as ``f([x, …])``: None where `run` is to be called instead.

    To `Specialization` it is a primitive: `compute` gives the result and the backward pass."""

    max_bytes: Final = MAX_BYTES
    rules: Final = True
    blockable: Final = True
    made_of_operations: Final = True
    has_aux: Final = False
    array_meta: Final = ()

    def __init__(
        self, name: str, run: Callable[[list[Tensor]], Any], draws: bool = False, any_layout: bool = False
    ) -> None:
        """`draws`: whether it draws masks, so that it is pure but for the position of the stream, and is for devices alone.
        `any_layout`: whether it brings a gradient into an order of its own first, so that what it computes has the same bits however the
        gradient lies in memory."""
        self.name, self.run, self.draws, self.any_layout = name, run, draws, any_layout
        self.kind = get_backend("numpy").array_type
        self.specializations: dict[Any, Any] = {}
        self.compilable = available()
        caches.register(self)

    def __call__(self, inputs: Sequence[Tensor]) -> Tensor | None:
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
        return self._recorded(inputs, data, y, need is not None)

    def _on_device(self, inputs: Sequence[Tensor], data: list[Any]) -> Tensor | None:
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
        return None if y is NotImplemented else self._recorded(inputs, data, y, need is not None)

    def _recorded(self, inputs: Sequence[Tensor], data: list[Any], y: Any, recorded: bool) -> Tensor | None:
        """The result as a Tensor, with its node where it is recorded."""
        out = _new(Tensor) if not flavours else _new(result_class(inputs))
        if not recorded:
            out._data = y
            out.edge = None
            return out
        if type(y) is not tuple:  # it depends on nothing that needs a gradient
            return None
        array, pullback = y
        node = _FusedNode()
        node.seq = clock()
        node.prim = node.plan = node.hooks = None
        node.parents = [x.edge for x in inputs]
        node.saved = data  # type: ignore[assignment]
        node.pullback = pullback
        node.gives(array)
        node.function, node.name = self, self.name
        out._data = array
        out.edge = node
        return out

    def operations(self, data: Sequence[Array], edges: Sequence[Any], recording: bool = True) -> Tensor:
        """The result, by the operations themselves, of these arrays under these edges."""
        inputs = []
        for array, edge in zip(data, edges, strict=True):
            x = wrap(array)
            x.edge = edge
            inputs.append(x)
        before = this_thread.recording
        this_thread.recording = recording
        try:
            return self.run(inputs)  # type: ignore[no-any-return]
        finally:
            this_thread.recording = before

    def compute(
        self, data: list[Any], need: tuple[bool, ...] | None, meta: dict[str, Any]
    ) -> tuple[Any, Any]:
        """The result for plain arrays, and a function that takes its gradient to those of the arrays."""
        edges = [Leaf(a) if it else None for a, it in zip(data, need or (False,) * len(data), strict=True)]
        y = self.operations(data, edges, need is not None)
        if y.edge is None:
            return y._data, None
        at = [i for i, edge in enumerate(edges) if edge is not None]

        def pullback(g: Array) -> list[Any]:
            grads: list[Any] = [None] * len(edges)
            found = backprop([(y.edge, g)], targets=[edges[i] for i in at])
            for i, gi in zip(at, found or (), strict=True):
                grads[i] = gi
            return grads

        return y._data, pullback

    def traceable(self, data: list[Any], need: tuple[bool, ...] | None, meta: dict[str, Any]) -> Any:
        """As of a primitive: `compute` consists of operations, which say themselves where they cannot be traced."""
        return self.compute

    def gradients(self, g: Array, data: list[Array], edges: Sequence[Any], position: Position) -> list[Any]:
        """The gradients by the operations themselves, which are computed once more."""
        need = tuple([e is not None for e in edges])
        with _drawing_from(position):
            return self.compute(data, need, {})[1](g)  # type: ignore[no-any-return]


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
    """`saved`: all inputs. Taken apart, its one parent is the result of its operations, and it is of no `function`."""

    __slots__ = ("function",)
    function: FusedFunction | None

    @property
    def apart(self) -> bool:
        return self.function is None

    def gradients(self, g: Any, differentiable: bool, asked: tuple[bool, ...] | None) -> Any:
        if self.function is None:
            return [g]
        leaf = self._overwritten(differentiable)
        if leaf is not None:
            raise overwritten(leaf, self.label)
        pull: Any = self.pullback
        saved: Any = self.saved
        pulled = pull(g)
        if pulled is NotImplemented:
            return self.function.gradients(g, saved, self.parents, self._position())
        return pulled

    def take_apart(self, span: float = 1.0) -> None:
        """The operations are computed once more."""
        saved: Any = self.saved
        if self.function is None or saved is None or self._overwritten(True) is not None:
            return
        start = clock()
        with _drawing_from(self._position()):
            edge = self.function.operations(saved, self.parents).edge
        made = walk([edge], start)
        span /= len(made) + 1
        for i, node in enumerate(made, 1):
            node.seq = self.seq - i * span
        self.parents, self.function, self.pullback = [edge], None, None
        for node in made:
            if type(node) is not Leaf:
                node.take_apart(span)

    def _overwritten(self, every: bool) -> Leaf | None:
        """An input that was modified in place, of those that the pullback reads, or of `every` one."""
        pull: Any = self.pullback
        kept = pull.args[0] if isinstance(pull, functools.partial) else pull.__self__
        for leaf, array in zip(self.parents, self.saved or (), strict=True):
            if type(leaf) is Leaf and leaf.written > self.seq and (every or any(x is array for x in kept)):
                return leaf
        return None

    def _position(self) -> Position:
        """Where masks were drawn from: a program on a device says so; one by blocks draws none."""
        own = self.pullback.args if isinstance(self.pullback, functools.partial) else ()
        return own[1] if len(own) > 1 else None


def fused(arrays: int, *, any_layout: bool = False) -> Callable[[_F], _F]:
    """Decorator: a function of so many Tensors, and of options, is a `FusedFunction` where it is called with Tensors."""

    def decorate(function: _F) -> _F:
        known: dict[Any, FusedFunction | None] = {}

        def made(options: tuple[Any, ...], kwargs: dict[str, Any]) -> FusedFunction:
            def run(xs: list[Tensor]) -> Any:
                return function(*xs, *options, **kwargs)

            return FusedFunction(function.__name__, run, any_layout=any_layout)

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
