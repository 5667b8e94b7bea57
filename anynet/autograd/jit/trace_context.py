"""State of one trace: the external Tensors, gradients and modules that the function has touched, and what it leaves in them."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from operator import is_
from typing import Any, TypeGuard

from anynet.autograd.graph import OutputEdge
from anynet.autograd.jit import guarded_values
from anynet.autograd.jit.guards import Guard
from anynet.autograd.jit.outputs import Argument, ArgumentView, Output
from anynet.autograd.jit.rebinding import Rebinding
from anynet.autograd.location import location
from anynet.autograd.primitive import Primitive
from anynet.autograd.pytree import flatten
from anynet.sparse_rows import SparseRows
from anynet.tensor import Buffer, Leaf, Parameter, Tensor, is_batched_array, is_result, wrap
from anynet_backends import TYPES, Array, backend_of
from anynet_backends.concurrency import ThreadStack, this_thread
from anynet_backends.jit.errors import CompileError, OtherLibraryError
from anynet_backends.jit.instructions import Origin
from anynet_backends.jit.tracer import Trace, TracedArray

__all__ = ["TraceContext", "contexts", "is_array", "module_observers"]

module_observers: ThreadStack[Callable[[Any], None]] = ThreadStack("module_observers")
"""Called with each module that runs while a function is traced (set by `anynet.nn`)."""

_new = Tensor.__new__


class TraceContext:
    """State of one trace: see the module's docstring."""

    def __init__(self, guard: Guard) -> None:
        self.recording = Trace(TYPES[TracedArray].base)
        self.recording.see = self.see
        self.recording.known = guard.holds
        self.recording.locate = location
        # Parameters, Buffers, constants, with their arrays
        self.variables: dict[int, tuple[Tensor, Array]] = {}
        self.leaves: dict[int, tuple[Leaf, Tensor | None]] = {}  # with their gradients at the beginning
        self.modules: dict[int, Any] = {}
        self.guard = guard
        self.mode = this_thread.recording
        self.places: list[int] = []
        self.lifted: list[Any] = []
        self.arrays = 0  # how many of the leaves of the arguments are arrays
        self.outputs: list[TracedArray] = []
        self.bound: list[tuple[int, int]] = []
        # Tensors from outside that get a new array, as which output, and what becomes of their views
        self.rebound: list[tuple[Tensor, int, str | None]] = []
        self.kept: list[tuple[Any, str, int, type[Tensor]]] = []
        self.classes: list[type] = []  # of the arguments, by their arrays
        self.moved: set[int] = set()  # Tensors that a call on the host has bound to new arrays
        # of Tensors that were there: whether they were variables, which they may be again after a part of the function
        self.edges = {key: x.edge for key, x in guard.tensors.items()}
        self.rebinding = Rebinding(self.recording, guard.tensors)
        self.loose: list[tuple[weakref.ref[Any], Array]] = []  # what the function has made with `detach`
        self.once = False  # whether there can be no replay
        self.before_host: Callable[[], None] | None = None
        self.walking = False  # whether a gradient rule runs
        self.made: dict[int, int] = {}  # the variables of nodes, by the identity of the node

    # ----- where instructions come from, for the text of the program -----

    def before(self, node: Any, g: Any) -> None:
        """A gradient rule begins to run (an `Observer` of the backward pass)."""
        self.walking = True
        where = getattr(node, "where", "")
        self.recording.origin = Origin("backward", where, node.label, self.made.get(id(node)))

    def after(self, node: Any, grads: Any) -> None:
        """It has run; what is left is the sum of gradients."""
        self.walking = False

    def _came_from(self, y: Any) -> None:
        for out in y if isinstance(y, tuple) else (y,):
            if isinstance(out, Tensor) and out.edge is not None and type(out.edge) is not Leaf:
                node = out.edge.node if type(out.edge) is OutputEdge else out.edge
                node.where = self.recording.origin.layer
                if isinstance(out._data, TracedArray):
                    self.made[id(node)] = out._data.var

    def intercept(self, prim: Primitive[...], args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
        """Every array that a primitive is given becomes one that is recorded."""
        forward = not self.walking
        if forward:
            self.recording.origin = Origin("forward", location(), prim.name)
        lifted = []
        for x in args:
            if isinstance(x, Tensor):
                data = x._data
                if not isinstance(data, TracedArray) and not is_batched_array(data):
                    self.see(x)
                    out = _new(x._results or Tensor)
                    out._data, out.edge = self._capture(prim.name, data), x.edge
                    x = out
            elif hasattr(x, "dtype") and not isinstance(x, TracedArray):
                x = self._capture(prim.name, x)
            lifted.append(x)
        y = prim.bind(tuple(lifted), meta)
        if forward:
            self._came_from(y)
        return y

    def _capture(self, name: str, data: Array) -> TracedArray:
        xp = backend_of(data)
        if xp is not self.recording.base:
            msg = f"{name} got an array of {xp.name} in a compiled function; compile records NumPy arrays, on the cpu"
            raise CompileError(msg) if xp.compiles else OtherLibraryError(msg, xp.captures)
        return self.recording.capture(xp.asarray(data))

    def see(self, x: Tensor) -> None:
        """Remember a Tensor from outside, and its gradient."""
        if x.edge is not None and this_thread.recording is self.mode:
            self.recording.mode_asked = True
        if id(x) not in self.variables:
            if id(x) in self.recording.made or isinstance(x._data, TracedArray):
                return
            self.variables[id(x)] = x, x._data
            self.guard.watch_variable(x, self.edges.get(id(x), x.edge))
        edge = x.edge
        if type(edge) is Leaf and id(edge) not in self.leaves:  # also of one that was a constant until now
            self.leaves[id(edge)] = edge, edge.grad
            self.guard.watch_hooks(edge)

    def _see_dropped(self) -> None:
        """Of variables with which the function does nothing else a replay drops the gradients, too."""
        for x in self.recording.forgotten.values():
            if x.edge is not None and x.edge.grad is None:
                self.see(x)

    def enter(self, module: Any) -> None:
        """Remember a module that runs."""
        if id(module) not in self.modules:
            self.modules[id(module)] = module
            self.guard.add(type(module).__name__, module)

    def give(self, leaves: list[Any]) -> list[Any]:
        """The leaves of the arguments, with recorded arrays: one for each array, and one Tensor for each Tensor."""
        made: dict[int, Any] = {}
        given = []
        number = 0
        for x in leaves:
            if not is_array(x):
                given.append(x)
                continue
            data = x._data if isinstance(x, Tensor) else x
            if id(data) not in made:
                made[id(data)] = self.recording.input(data)
                self.classes.append(type(x))
                self.places.append(number)
            number += 1
            if isinstance(x, Tensor) and id(x) not in made:
                made[id(x)] = wrap(made[id(data)], type(x))
            given.append(made[id(x)])
        self.lifted = [g._data if isinstance(g, Tensor) else g for g in given]
        self.arrays = number
        return given

    def take_rebound(self) -> None:
        """When the function has returned: Tensors from outside that are bound to new arrays are arguments and results of the program, as
        if they had been given after the others."""
        self.loose = [(weakref.ref(y), data) for y, data in self.recording.made.values()]
        self.recording.made.clear()  # those that nobody keeps are no views any more
        if self.rebinding.settle(self.variables, self.leaves):
            self.once = True
        for x, data, _ in self.rebinding.taken:
            self.places.append(self.arrays)
            self.arrays += 1
            self.classes.append(type(x))
            taken = self.recording.take_as_input(data)
            self.lifted.append(taken)
            for instruction in self.recording.instructions:
                if instruction.kind == "host":
                    call = instruction.args[0]
                    call.take(x, data, taken.var)
                    instruction.reads = call.reads()

    def put_back(self, done: bool) -> None:
        """No recorded array stays outside, whatever happened."""
        self.settle()
        while self.recording.undo and not done:
            self.recording.undo.pop()()
        self.rebinding.put_back(self.variables, done)
        loose = [(ref(), data) for ref, data in self.loose] + [*self.recording.made.values()]
        for x, data in loose:
            if x is not None and isinstance(x._data, TracedArray):
                x._data = x._data.value.copy("K") if done or isinstance(data, TracedArray) else data
        for leaf, _ in self.leaves.values():
            if is_traced(leaf.grad):
                leaf.grad = wrap(leaf.grad._data.value.copy("K"))

    def given_are_whole(self, given: list[Any], args: Any, structure: Any) -> None:
        """Refuse that lists and dictionaries of arguments have been changed: they were copies."""
        if type(structure) is not int:
            leaves, now = flatten(args)
            if repr(now) != repr(structure) or len(leaves) != len(given) or not all(map(is_, leaves, given)):
                msg = (
                    f"{self.guard.line()}: a list or dictionary among the arguments is changed inside a compiled function; "
                    "return the new values"
                )
                raise CompileError(msg)

    def result(self, x: Any, given: list[Any]) -> Any:
        """What a leaf of the result is in a program."""
        if not is_array(x):
            if isinstance(x, guarded_values.PLAIN) or self.guard.holds(x):
                return x
            msg = (
                f"{self.guard.line()}: the function returns a {type(x).__name__}; a compiled function returns Tensors, arrays, "
                "numbers and strings in lists, tuples and dictionaries"
            )
            raise CompileError(msg)
        same = next((i for i, g in enumerate(given) if g is x), None)
        if same is not None:
            return Argument(same)
        if id(x) in self.rebinding.new:
            return x
        tensor = isinstance(x, Tensor)
        cls = (x._results or Tensor) if tensor else None
        data = x._data if tensor else x
        if tensor and not isinstance(data, TracedArray):
            if id(x) in self.variables or isinstance(x, (Parameter, Buffer)) or self.guard.holds(x):
                self.see(x)
                return x
            data = self._capture("the result", data)
        elif not isinstance(data, TracedArray):
            data = self.recording.call(
                "astype", (self._capture("the result", data), data.dtype), {"copy": True}
            )
        if self.rebinding.is_shared(data):
            raise self._shared("a result", self.guard.line())
        if data.variable.root in self.recording.given:
            views = self.recording.views(data)
            if views is not None:
                source = next(
                    i
                    for i, a in enumerate(self.lifted)
                    if isinstance(a, TracedArray) and a.var == data.variable.root
                )
                return ArgumentView(source, cls, views)
        self.outputs.append(data)
        return Output(len(self.outputs) - 1, cls)

    def finish(self, given: list[Any]) -> None:
        """What the function has left outside must be expressible at a replay."""
        self._see_dropped()
        self.settle()
        self.guard.check_random()
        self.guard.check_arrays(self.recording.captured)
        for x, data in self.variables.values():
            if x._data is not data and id(x) not in self.moved and id(x) not in self.rebinding.new:
                what = "a Parameter" if isinstance(x, Parameter) else "a Tensor"
                line = self.recording.lines.get((id(x), "data")) or self.guard.line("data")
                msg = (
                    f"{line}: {what} of shape {tuple(x.shape)} from outside was bound to a new array in the function; "
                    "write into it with assign_, or return the new value"
                )
                raise CompileError(msg)
        for i, (x, lifted) in enumerate(zip(given, self.lifted[: len(given)], strict=True)):
            if isinstance(x, Tensor):
                if x.edge is not None:
                    msg = f"{self.guard.line('requires_grad_')}: an argument requires a gradient after the call; use a copy of it"
                    raise CompileError(msg)
                if x._data is not lifted:
                    if self.rebinding.is_shared(x._data):
                        raise self._shared("an argument", self.guard.line("data"))
                    self.bound.append((i, len(self.outputs)))
                    data = (
                        x._data if isinstance(x._data, TracedArray) else self._capture("the result", x._data)
                    )
                    self.outputs.append(self.recording.call("astype", (data, data.dtype), {"copy": True}))
        grads = []
        for leaf, before in self.leaves.values():
            if is_traced(leaf.grad):
                if before is not None:
                    msg = (
                        f"{self.guard.line('backward')}: gradients of a variable that no optimizer holds are added up over "
                        "calls; set its .grad to None before the call, or give it to an optimizer"
                    )
                    raise CompileError(msg)
                if self.rebinding.is_shared(leaf.grad._data):
                    raise self._shared("a gradient", self.guard.line("grad"))
                grads.append(leaf.grad._data)
        for place, key, old, new in self.set_attributes():
            if self.rebinding.is_shared(new._data):
                raise self._shared(f"the attribute {key}", self.guard.line(str(key)))
            self.guard.keep(place, key, old)
            self.kept.append((place.owner, key, len(self.outputs), type(new)))
            self.outputs.append(self.recording.call("astype", (new._data, new._data.dtype), {"copy": True}))
        for x, _, how in self.rebinding.taken:
            if not self.rebinding.is_bound_on_host(x):
                self.rebound.append((x, len(self.outputs), how))
                self.outputs.append(x._data)
        self.outputs += grads

    def _shared(self, what: str, line: str) -> CompileError:
        msg = (
            f"{line}: {what} shares memory with what a Tensor from outside was bound to in the function, which a program cannot do; "
            "make it a copy of that"
        )
        return CompileError(msg)

    def settle_before_host(self) -> None:
        """Before a call on the host, which may write what the function must not. It is given gradients as they are now; for
        those that lie in no optimizer's buffer a replay could not do that."""
        self.settle()
        self.guard.check_random()
        self.set_attributes()
        for leaf, _ in self.leaves.values():
            if is_traced(leaf.grad):
                leaf.grad = wrap(leaf.grad._data.value.copy("K"))
                self.once = True

    def gradients_in_buffers(self) -> list[tuple[Leaf, Tensor | None]]:
        """The gradients that lie in an optimizer's buffer now, and None for those that the function has dropped."""
        self._see_dropped()
        return [
            (leaf, leaf.grad)
            for leaf, _ in self.leaves.values()
            if (leaf.grad is None and id(leaf) in self.recording.forgotten)
            or (leaf.grad is not None and leaf.buffer is not None and leaf.grad._data is leaf.buffer)
        ]

    def settle_after_host(self, args: Any, kwargs: Any) -> None:
        """What it has written or bound anew it will do in a replay too. Where the function may see other numbers afterwards
        than those of this call, there is no replay."""
        optimizer = bool(args) and hasattr(
            args[0], "param_groups"
        )  # a step of its own writes arrays and no numbers
        if self.guard.settle(() if optimizer else (args, kwargs)):
            self.once = True
        self.moved |= {
            id(x)
            for x, data in self.variables.values()
            if not (x._data is data or isinstance(x._data, TracedArray))
        }
        for leaf, _ in self.leaves.values():  # what the function does to them next is recorded again
            grad = leaf.grad
            if grad is not None and not isinstance(grad, SparseRows) and leaf.buffer is not None:
                if grad._data is leaf.buffer:
                    leaf.grad = wrap(self.recording.capture(leaf.buffer))

    def set_attributes(self) -> list[tuple[Any, Any, Any, Any]]:
        """(place, name, old value, new value) of attributes of modules in which the function has put Tensors; what else it
        writes is refused."""
        found = []
        for place, key, old, new in list(self.guard.written(self.recording.captured)):
            line = self.recording.lines.get((id(place.owner), key))
            watched = place in self.guard.watched
            if line is None and watched:  # by another thread
                self.once = True
                continue
            fresh = is_result(new) and isinstance(new._data, TracedArray)
            unread = not isinstance(old, Tensor) or (is_result(old) and id(old) not in self.variables)
            if not (fresh and unread and watched):
                raise self.guard.refusal(place, key, line)
            found.append((place, key, old, new))
        return found

    def settle(self) -> None:
        """Gradients that lie in an optimizer's buffer become ordinary Tensors."""
        for leaf, _ in self.leaves.values():
            if is_traced(leaf.grad) and leaf.buffer is not None:
                if leaf.grad._data is self.recording.captured.get(id(leaf.buffer)):
                    leaf.grad = wrap(leaf.buffer)


def is_traced(grad: Tensor | None) -> TypeGuard[Tensor]:
    """Whether a gradient is an array of the trace; one that is rows of a table is not, and its array would be large."""
    return grad is not None and not isinstance(grad, SparseRows) and isinstance(grad._data, TracedArray)


contexts: list[TraceContext] = []


def is_array(x: Any) -> bool:
    return isinstance(x, (Tensor, TracedArray)) or (hasattr(x, "dtype") and hasattr(x, "shape"))
