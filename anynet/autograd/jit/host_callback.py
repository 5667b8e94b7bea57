"""Calls of Python functions in a compiled function: what acts on the host between array operations, such as an optimizer's step."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Final, NamedTuple, TypeVar

from anynet.autograd.backward import observer
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.jit.rebinding import bind
from anynet.autograd.jit.trace_context import contexts, module_observers
from anynet.autograd.pytree import flatten, unflatten
from anynet.sparse_rows import SparseRows
from anynet.tensor import Leaf, Tensor, unwrap, wrap
from anynet_backends import Array, backend_of
from anynet_backends.concurrency import ThreadStack, set_aside
from anynet_backends.jit.errors import CompileError, user_line
from anynet_backends.jit.tracer import ACTIVE, CAPTURING, COMPILING, TracedArray
from anynet_backends.memory.rows import Rows

__all__ = [
    "IN_A_GRAPH",
    "GraphRule",
    "HostCall",
    "host_call_handlers",
    "host_callback",
    "later",
    "rows_in_a_program",
    "reads_a_tensor",
    "traced_print",
]

_F = TypeVar("_F", bound=Callable[..., Any])


def traced_print(*args: Any, **kwargs: Any) -> None:
    """What `print` is while a function is recorded: each replay prints, too."""
    if COMPILING.own and any(isinstance(x, Tensor) and x.edge is not None for x in args):
        msg = f"{user_line()}: print of a Tensor that requires a gradient inside a compiled function; say print(x.detach())"
        raise CompileError(msg)
    _printed(*args, **kwargs)


host_call_handlers: ThreadStack[Callable[[str, Callable[[], Any]], Any]] = ThreadStack("host_call_handlers")
"""The latest runs what `host_callback` marks, given its name (profiling)."""


class GraphRule(NamedTuple):
    """What a function marked by `host_callback` is in a step that is captured as a graph."""

    obstacle: Callable[[Any, Any], str | None]
    """Why it cannot be in one with these arguments and keywords, where it cannot."""
    record: Callable[[Any, Callable[..., Any], Any, Any], Any]
    """Called in its place, with the capture (`captured.Recording`), the function, its arguments and keywords."""


IN_A_GRAPH: Final[dict[Callable[..., Any], GraphRule]] = {}
"""The rules, by the functions as they were before they were marked; others act on the host, and cannot be captured."""


def host_callback(function: _F) -> _F:
    """Decorator for what acts on the host between array operations, such as an optimizer's step: in a compiled function
    it is an instruction of the program and runs as it is at each replay."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not (COMPILING and COMPILING.own):
            if CAPTURING and CAPTURING.own:
                return CAPTURING.own[-1].host(function, args, kwargs)
            if host_call_handlers and host_call_handlers.own:
                return host_call_handlers.own[-1](function.__qualname__, lambda: function(*args, **kwargs))
            return function(*args, **kwargs)
        context = contexts[-1]
        recording = context.recording
        if context.before_host is not None:
            context.before_host()
        context.settle_before_host()
        gradients = context.gradients_in_buffers()
        bound = context.rebinding.bind_for_host(context.variables.values())
        ACTIVE.clear()
        try:
            with set_aside(COMPILING, INTERCEPT, module_observers, observer):
                result = function(*_concrete(args), **{k: _concrete(v) for k, v in kwargs.items()})
        finally:
            ACTIVE.append(recording)
            if context.rebinding.take_back():
                context.once = True
        recording.settle(function.__qualname__)
        context.settle_after_host(args, kwargs)
        out = None
        if isinstance(result, Tensor):  # what it gives is new at each replay
            out = recording.capture(result._data.copy())
            result = wrap(out)
        elif result is not None and not isinstance(result, (bool, int, float, str)):
            msg = f"{function.__qualname__} returned a {type(result).__name__} inside a compiled function"
            raise CompileError(msg)
        call_now = HostCall(function, args, kwargs, out is not None, gradients, bound)
        recording.host(call_now, function.__qualname__, out)
        recording.instructions[-1].reads.extend(call_now.reads())
        return result

    return call  # type: ignore[return-value]


_printed = host_callback(print)


def rows_in_a_program(leaf: Leaf, g: Rows) -> None:
    """Add a gradient that is rows of a table, arrays of a trace, to that of a variable: at each replay, on the host."""
    if leaf.hooks:
        msg = (
            f"{user_line()}: a hook on the gradient of a table with sparse=True in a compiled function; remove it, or call the function "
            "without compiling it"
        )
        raise CompileError(msg)
    if leaf.grad is not None and not isinstance(leaf.grad, SparseRows):
        msg = (
            f"{user_line()}: lookups with sparse=True and without it of one table in a compiled function; give all of them sparse=True, or "
            "call the function without compiling it"
        )
        raise CompileError(msg)
    _receive_rows(leaf, g.index, g.values, g.shape)


@host_callback
def _receive_rows(leaf: Leaf, index: Array, values: Array, shape: tuple[int, ...]) -> None:
    g = SparseRows.of(Rows(backend_of(values), index, values, shape, sparse=True))
    leaf.grad = g if leaf.grad is None else leaf.grad + g


def reads_a_tensor(args: Any, kwargs: Any) -> str | None:
    """Why a call that is made on the host, before a graph is launched, cannot be: a value would have to be there."""
    if any(isinstance(x, Tensor) for x in flatten([list(args), kwargs])[0]):
        return "is given a Tensor, for whose value the host would wait"
    return None


def later(recording: Any, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """A call that each launch makes, before the graph is launched."""
    recording.actions.append(functools.partial(function, *args, **kwargs))


IN_A_GRAPH[print] = GraphRule(reads_a_tensor, later)


class HostCall:
    """A host call of a program, with its arguments as they are at that moment. It finds the gradients that lie in an optimizer's
    buffer as they were when it was recorded, there or not: `zero_grad` may have dropped them since, outside of the program."""

    def __init__(
        self,
        function: Callable[..., Any],
        args: Any,
        kwargs: Any,
        wants: bool,
        gradients: list[tuple[Leaf, Tensor | None]],
        bound: list[tuple[Tensor, TracedArray, str | None]],
    ) -> None:
        self.gradients = gradients
        self.function, self.wants = function, wants
        self.leaves, self.shape = flatten([list(args), kwargs])
        # their arrays as they are now; a Tensor that shows another one would be kept, and change with it
        given = [unwrap(x) for x in self.leaves]
        # what the program computes is handed over as it is then: its variables
        self.places: list[int | None] = [d.var if isinstance(d, TracedArray) else None for d in given]
        self.given = [d if v is None else None for d, v in zip(given, self.places, strict=True)]
        self.leaves = [
            x if v is None else _like(x, d) for x, d, v in zip(self.leaves, given, self.places, strict=True)
        ]
        self.args, self.kwargs = unflatten(self.shape, self.leaves)
        # Tensors from outside that have other arrays by then, and the variables of these
        self.bound = [(x, new.var, how) for x, new, how in bound]
        self.arrays: dict[int, Array] = {}

    def reads(self) -> list[int]:
        """The variables that it needs."""
        return [*(v for v in self.places if v is not None), *(v for _, v, _ in self.bound)]

    def take(self, x: Tensor, array: Array, var: int) -> None:
        """The array that x had at the beginning is an argument of the program: what showed it shows what x has in each replay."""
        for i, leaf in enumerate(self.leaves):
            if leaf is not x and self.given[i] is array:
                self.places[i], self.leaves[i] = var, _like(leaf, array)
        self.args, self.kwargs = unflatten(self.shape, self.leaves)

    def read(self, arrays: dict[int, Array], reads: list[int]) -> None:
        """Where its arguments are, by the variables that its instruction reads now: a pass may have found the same value elsewhere."""
        found = iter(reads)
        self.arrays = arrays
        self.places = [None if v is None else next(found) for v in self.places]
        self.bound = [(x, next(found), how) for x, _, how in self.bound]

    @property
    def plain(self) -> bool:
        """Whether it is a call of the function with these arguments, and no more."""
        return not (self.wants or self.kwargs or self.gradients or self.bound) and all(
            v is None for v in self.places
        )

    def __call__(self) -> Any:
        for leaf, grad in self.gradients:
            leaf.grad = grad
        for x, v, how in self.bound:
            bind(x, self.arrays[v].copy("K"), how)
        if all(v is None for v in self.places):
            result = self.function(*self.args, **self.kwargs)
        else:
            now = [
                x if v is None else _like(x, self.arrays[v].copy("K"))
                for x, v in zip(self.leaves, self.places, strict=True)
            ]
            args, kwargs = unflatten(self.shape, now)
            result = self.function(*args, **kwargs)
        return result._data if self.wants else None


def _like(x: Any, array: Array) -> Any:
    return wrap(array, x._results or Tensor) if isinstance(x, Tensor) else array


def _concrete(tree: Any) -> Any:
    """Tensors and arrays with the values that they have now."""
    data = unwrap(tree)
    if isinstance(data, TracedArray):
        return _like(tree, data.value.copy("K"))
    return type(tree)(_concrete(x) for x in tree) if type(tree) in (tuple, list) else tree
