"""A compiled step on a CUDA device: captured as a graph, and launched again.

The first calls with arguments of one form run the function as it is, so that kernels are compiled and an optimizer has its vectors. The
next one runs it once more while the device captures what is launched; nothing is computed meanwhile, and what Python's code has
changed is put back. From then on each call copies the arguments to where the graph reads them, does what the host has to do (an
optimizer counts its step, a schedule sets the rates), writes the numbers that are others than before, and launches the graph: it waits for
nothing. Results are copies, so no later launch writes into them.

What a graph cannot do runs as it is, with one warning that names the line."""

from __future__ import annotations

import builtins
import gc
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from anynet import streams
from anynet.autograd.graph import Node, OutputEdge
from anynet.autograd.jit.guarded_values import PLAIN
from anynet.autograd.jit.guards import Guard
from anynet.autograd.jit.host_callback import IN_A_GRAPH, HostCall, traced_print
from anynet.autograd.jit.outputs import Argument, ArgumentView, called
from anynet.autograd.jit.step import Step
from anynet.autograd.jit.trace_context import TraceContext, is_array
from anynet.autograd.pytree import flatten, unflatten
from anynet.sparse_rows import SparseRows
from anynet.tensor import Leaf, Tensor, wrap
from anynet_backends import Array, Backend, backend_of
from anynet_backends.concurrency import this_thread
from anynet_backends.jit.errors import CaptureError, CompileError, line_of_error
from anynet_backends.jit.tracer import CAPTURING, trace_lock

__all__ = ["CapturedSteps", "Recording"]

_WARM: Final = 3
"""Calls before a capture: after so many the programs of operations are there (`on_device.WARMUP_CALLS`)."""
_MAX_WASTED: Final = 3
"""Captures one after the other that were never used again, after which a function is called as it is."""
_KINDS: Final = 4
"""Graphs for arguments of one form, which differ in what else the function read."""
_REASONS: Final = {
    "D2H": "a value is read (float, item, numpy, print, a branch on it, x[mask], or an operation whose result has a shape that depends "
    "on values), for which the host would wait",
    "H2D": "numbers are copied from the host (asarray, to(device), an index that is a list); make them outside and pass them as an "
    "argument",
    "cudaErrorStreamCaptureUnsupported": "the host would wait for the device",
}
"""Why CuPy and CUDA refuse what they say so of."""
_WRITTEN: Final = "an argument is changed; return the new value"
_BOUND: Final = "a Tensor of shape {} from outside is bound to a new array; write with assign_"
_OPEN: Final = (
    "it returns a Tensor that can still be differentiated; take the gradient inside, or return x.detach()"
)


class _Result:
    """A leaf of the result that the graph computes: where, and what Tensor it becomes (None: a plain array)."""

    def __init__(self, array: Array, cls: Any) -> None:
        self.array, self.cls = array, cls

    def copied(self, capture: Any) -> Any:
        made = capture.copy(self.array)
        return made if self.cls is None else wrap(made, self.cls)


class Recording:
    """What a function does while it is captured. `actions` are calls that each launch is preceded by, `after` those that follow it and
    may wait for it, `checks` say whether the graph still does what the function would."""

    def __init__(self, capture: Any, guard: Guard) -> None:
        self.capture, self.guard = capture, guard
        self.actions: list[Callable[[], Any]] = []
        self.after: list[Callable[[], Any]] = []
        self.watched: set[int] = set()  # optimizers whose gradients are looked at
        self.checks: list[Callable[[], bool]] = []
        self.variables: dict[int, tuple[Tensor, Array, Any]] = {}
        self.leaves: dict[int, tuple[Leaf, Tensor | None, tuple[Any, ...]]] = {}
        self.forgotten: set[int] = set()  # those whose gradients are dropped
        self.dropped: set[int] = (
            set()
        )  # and were before anything has read them, so that it does not matter what they were
        self.read: set[int] = set()
        self.given: set[int] = set()  # Tensors that stand for arguments
        for x in guard.tensors.values():
            self.see(x)

    def see(self, x: Tensor) -> None:
        """A Tensor from outside, its gradient included."""
        leaf = x.edge
        if id(x) not in self.variables:
            self.variables[id(x)] = x, x._data, leaf
        if type(leaf) is Leaf and id(leaf) not in self.leaves:
            self.leaves[id(leaf)] = leaf, leaf.grad, (leaf.rows, leaf.clean, leaf.traced)
            leaf.rows, leaf.clean, leaf.traced = None, False, True
            self.guard.watch_variable(x, leaf)
            self.guard.watch_hooks(leaf)

    def forget(self, leaf: Leaf) -> None:
        """A gradient is about to be dropped. One that was added to is another object by now."""
        self.forgotten.add(id(leaf))
        known = self.leaves.get(id(leaf))
        if known is not None and leaf.grad is known[1] and id(leaf) not in self.read:
            self.dropped.add(id(leaf))

    def write(self, x: Tensor) -> None:
        """A Tensor is about to be written in place."""
        if not backend_of(x._data).captures:  # now, and at no launch
            msg = f"a Tensor of shape {tuple(x.shape)} on {x.device} is changed"
            raise CaptureError(msg)
        if id(x) in self.given:
            raise CaptureError(_WRITTEN)

    def host(self, function: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """A call on the host (`host_callback`)."""
        why = obstacle(function, args, kwargs)
        if why is not None:
            raise CaptureError(why)
        return IN_A_GRAPH[function].record(self, function, args, kwargs)

    def put_back(self, whole: bool) -> None:
        """Everything as it was before the capture, but that gradients are written by a graph from now on, unless the `whole` is undone."""
        for x, data, edge in self.variables.values():
            x._data, x.edge = data, edge
        for leaf, grad, before in self.leaves.values():
            leaf.grad = grad
            if whole:
                leaf.traced = before[2]
        if whole:
            self.guard.undo()


def obstacle(function: Callable[..., Any], args: Any, kwargs: Any) -> str | None:
    """Why a call on the host cannot be in a graph, where it cannot."""
    rule = IN_A_GRAPH.get(function)
    why = "acts on the host" if rule is None else rule.obstacle(args, kwargs)
    if why is None:
        return None
    name = function.__name__
    owner = type(args[0]).__name__ + "." if args and hasattr(type(args[0]), name) else ""
    return f"{owner}{name} {why}"


class _Step:
    """A graph with what it assumes of the world outside, and what it leaves there."""

    def __init__(self, recording: Recording, places: list[tuple[Array, int]], device: str) -> None:
        self.recording, self.places, self.device = recording, places, device
        self.capture, self.guard = recording.capture, recording.guard
        self.mode = this_thread.recording
        self.draws = 0
        self.after: list[tuple[Leaf, Tensor | None]] = []
        self.fresh: list[tuple[Leaf, _Result]] = []
        self.structure: Any = None
        self.constants: list[Any] = []
        self.used = 0

    def leave(self, given: list[Any], result: Any, random: tuple[dict[str, int], dict[str, int]]) -> None:
        """Find what the function has left; CaptureError where a launch could not leave the same."""
        self._check_outside(given, *random)
        self.draws = random[1]["masks"] - random[0]["masks"]
        for leaf, before, _ in self.recording.leaves.values():
            self._gradient(leaf, before)
        leaves, self.structure = flatten(result)
        self.constants = [self._result(x, given) for x in leaves]

    def _refuse(self, reason: str) -> CaptureError:
        return CaptureError(f"{self.guard.line()}: {reason}")

    def _check_outside(self, given: list[Any], before: dict[str, int], after: dict[str, int]) -> None:
        guard = self.guard
        guard.check_random()
        if (before["seed"], before["weights"]) != (after["seed"], after["weights"]):
            raise self._refuse(
                "the seed is set, or numbers are drawn on the host (anynet.random, initial weights)"
            )
        for place, key, _, _ in guard.written({}):
            raise guard.refusal(place, key, None)
        for x, data, edge in self.recording.variables.values():
            if x._data is not data or x.edge is not edge:
                raise self._refuse(_BOUND.format(tuple(x.shape)))
        statics = {id(a) for a, _ in self.places}
        if any(isinstance(x, Tensor) and (x.edge is not None or id(x._data) not in statics) for x in given):
            raise self._refuse(_WRITTEN)

    def _gradient(self, leaf: Leaf, before: Tensor | None) -> None:
        grad = leaf.grad
        if grad is None or grad is before:
            if grad is not before:
                self.after.append((leaf, grad))
            return
        if isinstance(grad, SparseRows):
            raise self._refuse("a gradient is rows of a table (sparse=True)")
        if not self.capture.owns(grad._data):
            self.after.append((leaf, grad))
        elif before is None or id(leaf) in self.recording.forgotten:
            self.fresh.append((leaf, _Result(grad._data, type(grad))))
        else:
            raise self._refuse(
                "gradients of a variable that no optimizer holds are added up over calls; set its .grad to None before the call"
            )

    def _result(self, x: Any, given: list[Any]) -> Any:
        if not is_array(x):
            if isinstance(x, float) and self.recording.actions:
                raise self._refuse(
                    "it returns a Python float, which may be a rate that changes with each step; read it outside"
                )
            if isinstance(x, PLAIN) or self.guard.holds(x):
                return x
            raise self._refuse(f"it returns a {type(x).__name__}")
        same = next((i for i, g in enumerate(given) if g is x), None)
        if same is not None:
            return Argument(same)
        if id(x) in self.recording.variables:
            return x
        data, cls = (x._data, type(x)) if isinstance(x, Tensor) else (x, None)
        if isinstance(x, Tensor) and not _is_settled(x):
            raise self._refuse(_OPEN)
        if any(a.data.mem.ptr == data.data.mem.ptr for a, _ in self.places):
            raise self._refuse("it returns a view of an argument; return a copy")
        return _Result(data, cls) if self.capture.owns(data) else (data if cls is None else wrap(data, cls))

    def check_kept(self) -> None:
        """Refuse that somebody else holds memory of the graph, which each launch would overwrite."""
        held = {a.data.mem.ptr: a.data.mem.size for a in self._arrays()}
        if self.capture.used > sum(held.values()):
            gc.collect()  # it may be in a circle of references
        if self.capture.used > sum(held.values()):
            raise self._refuse(
                "something that it has computed is kept outside of it (an attribute, a list, a cache), where the next call would "
                "overwrite it"
            )

    def _arrays(self) -> Iterator[Array]:
        yield from (a for a, _ in self.places)
        yield from (r.array for _, r in self.fresh)
        yield from (c.array for c in self.constants if type(c) is _Result)

    def close(self) -> None:
        """Free the graph and its memory."""
        self.places, self.fresh, self.constants = [], [], []
        self.capture.close()

    def write_back(self, arrays: Sequence[Array]) -> bool:
        """After the first launch, for which the host waits here: whether it has written into its arguments behind a Tensor's back
        (``x.data[...] = …``), which is then done to those that were given."""
        changed = [(place, arrays[i]) for place, i in self.places if not self.capture.same(place, arrays[i])]
        for place, array in changed:
            array[...] = place
        return bool(changed)

    def fits(self) -> bool:
        """Whether the function would do what it did."""
        for x, data, edge in self.recording.variables.values():
            if x._data is not data or x.edge is not edge:
                return False
        dropped = self.recording.dropped
        for leaf, before, _ in self.recording.leaves.values():
            if id(leaf) not in dropped and (None if leaf.grad is None else leaf.grad._data) is not (
                None if before is None else before._data
            ):
                return False
        return (
            self.mode == this_thread.recording
            and self.guard.fits()
            and all(check() for check in self.recording.checks)
        )

    def launch(self, leaves: list[Any], arrays: Sequence[Array]) -> Any:
        """What a call of the function does, and gives."""
        capture = self.capture
        with capture.turn():
            for place, i in self.places:
                place[...] = arrays[i]
            if self.draws:
                capture.put_random(*streams.next_mask(self.draws))
            for leaf, grad in self.after:
                leaf.grad = grad
            for action in self.recording.actions:
                action()
            capture.launch()
            for leaf, result in self.fresh:
                leaf.grad = result.copied(capture)
            values = [
                c.copied(capture) if type(c) is _Result else leaves[c.number] if type(c) is Argument else c
                for c in self.constants
            ]
        for call in self.recording.after:
            call()
        self.used += 1
        return unflatten(self.structure, values)


def _is_settled(x: Tensor) -> bool:
    """Whether nothing can be differentiated through a Tensor: it has no graph, or its graph is used up."""
    edge = x.edge.node if type(x.edge) is OutputEdge else x.edge
    return edge is None or (isinstance(edge, Node) and edge.saved is None)


@contextmanager
def _in_capture(recording: Recording, random: tuple[int, int]) -> Iterator[None]:
    said, builtins.print = builtins.print, traced_print
    CAPTURING.append(recording)
    try:
        with recording.capture.recording(random):
            yield
    finally:
        CAPTURING.remove(recording)
        builtins.print = said


class CapturedSteps:
    """The graphs of one function, the latest `cache_size` of them."""

    def __init__(self, name: str, function: Callable[..., Any], cache_size: int, quiet: bool = False) -> None:
        self.name, self.function, self.cache_size, self.quiet = name, function, cache_size, quiet
        self.steps: OrderedDict[Any, list[_Step]] = OrderedDict()
        self.warm: OrderedDict[Any, int] = OrderedDict()
        self.refused: OrderedDict[Any, None] = OrderedDict()
        self.said: set[str] = set()
        self.captured = self.wasted = 0

    def __call__(self, key: Any, leaves: list[Any], structure: Any, arrays: list[Array]) -> Any:
        """What the function gives."""
        if key in self.refused:
            return called(self.function, leaves, structure)
        steps = self.steps.get(key)
        if steps is not None:
            self.steps.move_to_end(key)
            step = next((s for s in steps if s.fits()), None)
            if step is not None:
                return step.launch(leaves, arrays)
        count = self.warm[key] = self.warm.pop(key, 0) + 1
        while len(self.warm) > 4 * self.cache_size:
            self.warm.popitem(last=False)
        if count <= _WARM:
            return self._settled(called(self.function, leaves, structure))
        if self._gives_up(steps):
            self._refuse(key)
            return called(self.function, leaves, structure)
        step_or_error = self._capture(leaves, structure, arrays)
        del self.warm[key]
        if isinstance(step_or_error, _Step):
            self._keep(key, step_or_error)
            value = step_or_error.launch(leaves, arrays)
            if step_or_error.write_back(arrays):
                self._refuse(key)
                self._say(CaptureError(f"{step_or_error.guard.line()}: {_WRITTEN}"))
            return value
        value = called(self.function, leaves, structure)  # what is the function's own fault it raises itself
        self._refuse(key)
        self._say(step_or_error)
        return value

    @staticmethod
    def _settled(value: Any) -> Any:
        """A result as a launch gives it: a Tensor whose graph is used up is a constant."""
        leaves, structure = flatten(value)
        return unflatten(structure, [_constant(x) for x in leaves])

    def _keep(self, key: Any, step: _Step) -> None:
        kept = self.steps.setdefault(key, [])
        kept.insert(0, step)
        for old in kept[_KINDS:]:
            old.close()
        del kept[_KINDS:]
        self.captured += 1
        while len(self.steps) > self.cache_size:
            for old in self.steps.popitem(last=False)[1]:
                old.close()

    def _gives_up(self, steps: list[_Step] | None) -> bool:
        """Whether the last captures were never used again."""
        if not steps or steps[0].used > 1:
            self.wasted = 0
            return False
        self.wasted += 1
        if self.wasted < _MAX_WASTED:
            return False
        self._say(
            CaptureError(
                f"{steps[0].guard.reason()} was another at each call; pass what changes as an argument, in a Tensor"
            )
        )
        return True

    def _refuse(self, key: Any) -> None:
        for step in self.steps.pop(key, ()):
            step.close()
        self.refused[key] = None
        while len(self.refused) > 64 * self.cache_size:
            self.refused.popitem(last=False)

    def _say(self, error: BaseException) -> None:
        text = str(error).partition("\n")[0]
        reason = next((r for sign, r in _REASONS.items() if sign in text), None)
        if reason is None:
            reason = text if isinstance(error, CompileError) else f"{type(error).__name__}: {text}"
        line = line_of_error(error)
        msg = f"compile: {self.name} cannot be captured as a CUDA graph and runs as it is: {f'{line}: ' if line else ''}{reason}"
        if msg not in self.said and not self.quiet:
            self.said.add(msg)
            warnings.warn(msg, stacklevel=5)

    def _capture(self, leaves: list[Any], structure: Any, arrays: list[Array]) -> _Step | Exception:
        """The graph of a call, with nothing changed; or why there is none."""
        with trace_lock:
            try:  # what is found before anything runs
                others = [(f"argument {i}", x) for i, x in enumerate(leaves) if not is_array(x)]
                guard = Guard([(self.name, self.function), *others], thorough=True)
                xp, device = _device(arrays, guard)
                capture = xp.capture(device)
            except Exception as error:  # noqa: BLE001 - the reason is said
                return error
            recording, step, failed = Recording(capture, guard), None, True
            try:
                step = self._recorded(recording, device, leaves, structure, arrays)
                failed = False
            except Exception as error:  # noqa: BLE001 - as above
                return error
            finally:
                recording.put_back(failed)
                if failed:
                    capture.close()
            try:
                step.check_kept()
            except CaptureError as error:
                capture.close()
                return error
            return step

    def _recorded(
        self, recording: Recording, device: str, leaves: list[Any], structure: Any, arrays: list[Array]
    ) -> _Step:
        places = [(recording.capture.place_for(a), i) for i, a in enumerate(arrays)]
        by_array = {id(a): place for a, (place, _) in zip(arrays, places, strict=True)}
        tensors: dict[int, Tensor] = {}
        given: list[Any] = []
        for x in leaves:
            if isinstance(x, Tensor):
                if x.edge is not None:
                    msg = f"{recording.guard.line()}: an argument requires a gradient; take the gradient inside, or pass x.detach()"
                    raise CaptureError(msg)
                x = tensors.setdefault(id(x), wrap(by_array[id(x._data)], type(x)))
                recording.given.add(id(x))
            given.append(by_array.get(id(x), x))
        step = _Step(recording, places, device)
        with streams.fork_rng():
            before = streams.get_state()
            with _in_capture(recording, (before["seed"], before["masks"])):
                result = called(self.function, given, structure)
            after = streams.get_state()
        step.leave(given, result, (before, after))
        return step

    def __str__(self) -> str:
        """For `print` of the compiled function."""
        kept = [step.capture for steps in self.steps.values() for step in steps]
        return "\n".join(f"a CUDA graph, {capture.held:,} bytes of memory of its own" for capture in kept)

    def close(self) -> None:
        """Free all graphs."""
        while self.steps:
            for step in self.steps.popitem()[1]:
                step.close()


def check(name: str, context: TraceContext, step: Step, calls: list[HostCall], results: list[Any]) -> None:
    """Warn of what a graph could not do in a step that is compiled on the CPU."""
    guard = context.guard

    def reasons() -> Iterator[tuple[str, str]]:
        for call in calls:
            why = obstacle(call.function, call.args, call.kwargs)
            if why is not None:
                yield guard.line(call.function.__name__), why
        if context.bound or step.written:
            yield guard.line(), _WRITTEN
        for x, *_ in context.rebinding.taken:
            yield guard.line("data"), _BOUND.format(tuple(x.shape))
        for module, attribute, *_ in context.kept:
            yield (
                guard.line(attribute),
                f"the attribute {attribute} of {type(module).__name__} is set to what is computed",
            )
        if any(type(c) is ArgumentView for c in step.constants):
            yield guard.line(), "it returns a view of an argument; return a copy"
        if any(isinstance(x, Tensor) and not _is_settled(x) for x in results):
            yield guard.line(), _OPEN

    for line, why in reasons():
        warnings.warn(
            f"compile: {name} could not be captured as a CUDA graph and would run as it is there: {line}: {why}",
            stacklevel=6,
        )
        return


def _constant(x: Any) -> Any:
    if isinstance(x, Tensor) and x.edge is not None and type(x.edge) is not Leaf and _is_settled(x):
        return wrap(x._data, type(x))
    return x


def _device(arrays: Sequence[Array], guard: Guard) -> tuple[Backend, str]:
    """The one device that a step works on."""
    found: dict[str, Backend] = {}
    for data in [*arrays, *(x._data for x in guard.tensors.values())]:
        xp = backend_of(data)
        found[xp.device_of(data)] = xp
    if len(found) != 1 or not next(iter(found.values())).captures:
        where = ", ".join(sorted(found)) or "none that it can be found to use"
        msg = f"{guard.line()}: all arrays of a graph lie on one CUDA device; those here are on {where}"
        raise CaptureError(msg)
    name, xp = next(iter(found.items()))
    return xp, name
