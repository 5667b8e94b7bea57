"""compile: a training step as a flat program.

The first call with new shapes runs the function on traced arrays (`anynet_backends.jit.tracer`), which record what is done to
them. The trace is planned as a program, and later calls replay it: no graph, no Tensors, no allocation, one call after the
other. A replay computes what the traced call computed, with the same functions on the same bits.
"""

from __future__ import annotations

import builtins
import copy
import functools
import sys
import types
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final, Literal

from anynet import streams
from anynet.autograd.backward import observer
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.jit.guards import Guard
from anynet.autograd.jit.host_callback import HostCall, traced_print
from anynet.autograd.jit.outputs import Output, called
from anynet.autograd.jit.replay_source import NOT_APPLICABLE
from anynet.autograd.jit.specialize import traceable_numpy
from anynet.autograd.jit.step import Step
from anynet.autograd.jit.trace_context import TraceContext, contexts, is_array, module_observers
from anynet.autograd.location import watching
from anynet.autograd.pytree import flatten, unflatten
from anynet.tensor import Leaf, Tensor, to_plain
from anynet_backends import Array, Backend, backend_of
from anynet_backends.concurrency import after_fork, fork_safe_lock, immortal, late_import
from anynet_backends.jit.errors import CompileError, OtherLibraryError
from anynet_backends.jit.instructions import Origin
from anynet_backends.jit.program import Program
from anynet_backends.jit.tracer import ACTIVE, CAPTURING, COMPILING, trace_lock

if TYPE_CHECKING:
    from anynet.autograd.jit.captured import CapturedSteps

__all__ = ["CompileError", "Compiled", "compile"]

Capture = Literal["auto", "check", "off"]

_MAX_WASTED_TRACES: Final = 8
"""Consecutive calls that had to be traced, after which a function is called without tracing."""


@contextmanager
def _tracing(context: TraceContext) -> Iterator[None]:
    trace_lock.acquire()
    INTERCEPT.append(context.intercept)
    ACTIVE.append(context.recording)
    COMPILING.append(context.recording)
    contexts.append(context)
    module_observers.append(context.enter)
    observer.append(context)
    said, builtins.print = builtins.print, traced_print
    try:
        with watching():
            yield
    finally:
        builtins.print = said
        observer.pop()
        module_observers.pop()
        contexts.pop()
        COMPILING.pop()
        ACTIVE.pop()
        INTERCEPT.pop()
        trace_lock.release()


_every: weakref.WeakSet[Compiled] = weakref.WeakSet()


def _forked() -> None:
    """Programs may hold calls that count on threads which are not there."""
    if not trace_lock._is_owned():  # type: ignore[attr-defined]
        contexts.clear()
    for compiled in _every:
        compiled.steps.clear()
        compiled.direct = None
        if compiled.graphs is not None:  # a process that is forked has no device: what frees it must not run
            immortal(compiled.graphs)
            compiled.graphs = None


after_fork(_forked)


class Compiled:
    """What `compile` returns: call it as the function; `print` it to read its programs."""

    def __init__(
        self, function: Callable[..., Any], check_every: int, cache_size: int, capture: Capture = "auto"
    ) -> None:
        self.function = function
        self.capture = capture
        self.graphs: CapturedSteps | None = None
        self.quiet = False  # whether nothing is said where it is not captured
        self.elsewhere = False  # it works on arrays that a device captures, which are not among its arguments
        self.lock = fork_safe_lock()
        _every.add(self)
        self.check_every = check_every
        self.cache_size = cache_size
        self.steps: OrderedDict[Any, list[Step]] = OrderedDict()
        # of the last program, where its arguments were Tensors alone, nothing is drawn and nothing checked
        self.direct: Callable[[tuple[Any, ...]], Any] | None = None
        self.recorded = 0
        self.as_it_is = False  # it works on arrays of another library
        self.calls = 0
        # consecutive calls that had to be traced, and the number of the last of them
        self.wasted_traces: dict[Any, tuple[int, int]] = {}
        functools.update_wrapper(self, function)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        """As a method of a class."""
        return self if instance is None else types.MethodType(self, instance)

    def __reduce__(self) -> Any:
        """By its name where it stands in the place of its function, else by its function; programs are recorded anew."""
        name = getattr(self, "__qualname__", "")
        found: Any = sys.modules.get(self.__module__)
        for part in name.split("."):
            found = getattr(found, part, None)
        return name if found is self else (_compiled, (self.function, *self._options()))

    def _options(self) -> tuple[int, int, Capture]:
        return self.check_every, self.cache_size, self.capture

    def __copy__(self) -> Compiled:
        return Compiled(self.function, *self._options())

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        """With a copy of its function: a method is then one of the copied object."""
        return Compiled(copy.deepcopy(self.function, memo), *self._options())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        direct = self.direct
        if INTERCEPT and any(getattr(handle, "changes_values", False) for handle in INTERCEPT.own):
            return self.function(*args, **kwargs)  # a program would not notice it
        if direct is not None and not kwargs:
            value = direct(args)
            if value is not NOT_APPLICABLE:
                self.calls += 1
                return value
        leaves, structure = (
            flatten([list(args), kwargs]) if kwargs or not _all_tensors(args) else (list(args), len(args))
        )
        if self.as_it_is or (COMPILING and COMPILING.own) or (CAPTURING and CAPTURING.own):
            return self.function(*args, **kwargs)  # inside another compiled function: part of it
        if self.elsewhere and INTERCEPT and INTERCEPT.own:
            return self.function(*args, **kwargs)  # a graph would not notice it
        on_device = self.elsewhere
        arrays: list[Array] = []
        key: list[Any] = [structure if type(structure) is int else repr(structure)]
        for x in leaves:
            data = x._data if isinstance(x, Tensor) else x
            if hasattr(data, "dtype") and hasattr(data, "shape"):
                xp = backend_of(data)
                if not xp.compiles:
                    if not self._captures(xp):
                        return self.function(*args, **kwargs)
                    on_device = True
                    key.append(xp.device_of(data))
                elif isinstance(x, Tensor) and x.edge is not None and not on_device:
                    msg = (
                        f"compile: an argument of shape {x.shape} requires a gradient, and the result of a program cannot "
                        "be differentiated; take the gradient inside (anynet.grad, backward) or pass x.detach()"
                    )
                    raise CompileError(msg)
                if isinstance(x, Tensor) and x.edge is not None:
                    key.append("requires a gradient")
                arrays.append(data)
                key.append(
                    (type(x) if isinstance(x, Tensor) else None, data.shape, data.strides, data.dtype.str)
                )
            else:
                key.append((type(x), repr(x) if type(x) in (float, complex) else x))
        if len({id(a) for a in arrays}) < len(arrays):  # one array twice, of one Tensor or two
            which = [x for x in leaves if hasattr(x, "dtype") and hasattr(x, "shape")]
            key.append((_firsts(arrays), _firsts(which)))
        with self.lock:
            self.calls += 1
            if on_device:
                return self._on_device(tuple(key), leaves, structure, arrays)
            step = self._find(key, leaves)
            if step is not None and step.shares(arrays):
                return self.function(*args, **kwargs)  # it would not see what is written into its arguments
            return self._replay(step, key, leaves, structure, arrays)

    def _find(self, key: list[Any], leaves: list[Any]) -> Step | None:
        """The program for such arguments, if there is one."""
        try:
            steps = self.steps.get(tuple(key))
        except TypeError:
            msg = f"compile: arguments that are no arrays must be hashable, got {[type(x).__name__ for x in leaves]}"
            raise CompileError(msg) from None
        if steps is None:
            return None
        self.steps.move_to_end(tuple(key))
        return next((s for s in steps if s.fits()), None)

    def _replay(
        self, step: Step | None, key: list[Any], leaves: list[Any], structure: Any, arrays: list[Array]
    ) -> Any:
        if step is None:
            if self._gives_up(tuple(key)):
                return called(self.function, leaves, structure)
            try:
                return self._record(tuple(key), leaves, structure, arrays)
            except OtherLibraryError as error:
                if error.captures and self.capture != "off" and not self.check_every:
                    self.elsewhere = True
                    return self._on_device(tuple(key), leaves, structure, arrays)
                self._leave_as_it_is(error)
                return called(self.function, leaves, structure)
        if self.check_every and self.calls % self.check_every == 0:
            return self._check(step, tuple(key), leaves, structure, arrays)
        self.direct = step.direct if type(structure) is int and not self.check_every and step.plain else None
        return step.run(leaves, arrays)

    def _captures(self, xp: Backend) -> bool:
        """Whether steps on arrays of a library are captured, and not just called."""
        return (
            xp.captures
            and self.capture != "off"
            and not self.check_every
            and not (INTERCEPT and INTERCEPT.own)
        )

    def _on_device(self, key: Any, leaves: list[Any], structure: Any, arrays: list[Array]) -> Any:
        """A call on a device that captures steps as graphs."""
        if self.graphs is None:
            self.graphs = late_import("anynet.autograd.jit.captured").CapturedSteps(
                self.__name__, self.function, self.cache_size, self.quiet
            )
        try:
            hash(key)
        except TypeError:
            return called(self.function, leaves, structure)
        before = self.graphs.captured
        try:
            return self.graphs(key, leaves, structure, arrays)
        finally:
            self.recorded += self.graphs.captured - before

    def _leave_as_it_is(self, error: OtherLibraryError) -> None:
        """From now on the function is called as it is; said once."""
        self.as_it_is = True
        warnings.warn(f"compile: {self.__name__} is called as it is, not as a program: {error}", stacklevel=4)

    def _gives_up(self, key: Any) -> bool:
        """Whether each of the last calls had to be recorded, so that the function is better called as it is."""
        times, at = self.wasted_traces.get(key, (0, 0))
        times = times + 1 if at == self.calls - 1 else 1
        self.wasted_traces[key] = times, self.calls
        if len(self.wasted_traces) > self.cache_size:
            self.wasted_traces.pop(next(iter(self.wasted_traces)))
        if times == _MAX_WASTED_TRACES + 1:
            steps = self.steps.get(key)
            what = steps[0].guard.reason() if steps else "what it leaves outside"
            msg = (
                f"compile: {self.__name__} had to be recorded at each of {_MAX_WASTED_TRACES} calls, since {what} was another each "
                "time; it is called as it is from now on. Pass what changes as an argument, in a Tensor"
            )
            warnings.warn(msg, stacklevel=4)
        return times > _MAX_WASTED_TRACES

    def _record(
        self,
        key: Any,
        leaves: list[Any],
        structure: Any,
        arrays: list[Array],
        before_host: Callable[[], None] | None = None,
    ) -> Any:
        others = [(f"argument {i}", x) for i, x in enumerate(leaves) if not is_array(x)]
        name = getattr(self.function, "__name__", type(self.function).__name__)
        context = TraceContext(Guard([(name, self.function), *others]))
        context.before_host = before_host
        recording = context.recording
        given = context.give(leaves)
        args, kwargs = (given, {}) if type(structure) is int else unflatten(structure, given)
        done = False
        try:
            with streams.isolated() as state, _tracing(context):
                recording.seed, recording.step = state["seed"], state["masks"]
                result = self.function(*args, **kwargs)
                context.given_are_whole(given, [list(args), kwargs], structure)
                out_leaves, out_structure = flatten(result)
                context.take_rebound()
                constants = [context.result(x, given) for x in out_leaves]
                recording.draws = streams.get_state()["masks"] - recording.step
            context.finish(given)
            recording.names = _names(context)
            _name_updates(recording)
            hosts = [n for n in recording.instructions if n.kind == "host"]
            calls = [n.args[0] for n in hosts]
            outputs = context.outputs
            program = Program(recording, outputs)
            for instruction, call in zip(hosts, calls, strict=True):
                if isinstance(call, HostCall):
                    call.read(program.arrays, instruction.reads)
            step = Step(context, program, out_structure, constants, self.lock)
            done = True
        finally:
            context.put_back(done)
            if not done:
                context.guard.undo()
        self.recorded += 1
        if self.capture == "check":
            made = [c for c in calls if isinstance(c, HostCall)]
            late_import("anynet.autograd.jit.captured").check(self.__name__, context, step, made, out_leaves)
        if not context.once:
            kept = self.steps.setdefault(key, [])
            kept[:] = kept[:3]
            kept.insert(0, step)
        while len(self.steps) > self.cache_size:
            self.steps.popitem(last=False)
        values = [
            x.value if live else x.value.copy("K") for x, live in zip(outputs, program.live, strict=True)
        ]
        return step.leave(*step.with_taken(leaves, arrays), values)

    def _check(self, step: Step, key: Any, leaves: list[Any], structure: Any, arrays: list[Array]) -> Any:
        """Replay the arrays' part, put all back, run the function itself, and compare bit for bit."""
        program = step.program
        outside = [x.value for x in program.trace.captured.values() if x.value.flags.writeable]
        saved = [a.copy() for a in outside]
        state = streams.get_state()
        program.seed, program.step = state["seed"], state["masks"]
        for put, new in zip(program.puts, step.with_taken(leaves, arrays)[1], strict=True):
            put(..., new)
        stopped = False
        for f, args in program.fast:
            if isinstance(f, HostCall) or (args and isinstance(args[-1], HostCall)):
                stopped = True
                break
            f(*args)
        replayed = [a.copy() for a in outside]
        results = None if stopped else [r.copy() for r in program.results]
        for a, b in zip(outside, saved, strict=True):
            a[...] = b
        found: list[str] = []

        @functools.cache  # once, before the first call on the host or at the end
        def compare() -> None:
            for a, b in zip(outside, replayed, strict=True):
                if a.tobytes() != b.tobytes():
                    found.append(f"an array of shape {a.shape} differs by at most {abs(a - b).max()}")

        value = self._record(key, leaves, structure, arrays, compare)
        compare()
        if results is not None:
            for c, x in zip(step.constants, flatten(value)[0], strict=True):
                if type(c) is Output and to_plain(x).tobytes() != results[c.number].tobytes():
                    found.append(f"result {c.number} of shape {x.shape} differs")
            for x, number, _ in step.rebound:
                if x._data.tobytes() != results[number].tobytes():
                    found.append(f"a Tensor of shape {x.shape} differs")
        if found:
            msg = (
                f"compile: the program no longer computes what {self.__name__} computes ({'; '.join(found[:3])}): it reads "
                "something that changes between calls, such as a Python variable; pass it as an argument"
            )
            raise CompileError(msg)
        return value

    def __str__(self) -> str:
        head = f"{self.__name__}: {self.calls} calls, recorded {self.recorded} times"
        graphs = [] if self.graphs is None else [str(self.graphs)]
        return "\n".join([head, *(str(s.program) for steps in self.steps.values() for s in steps), *graphs])

    def __repr__(self) -> str:
        return f"<compiled {self.__name__}: {self.calls} calls, {sum(map(len, self.steps.values()))} programs; print shows them>"

    __name__: str = "compiled"


def _compiled(
    function: Callable[..., Any], check_every: int, cache_size: int, capture: Capture = "auto"
) -> Compiled:
    """What a pickled one is made from."""
    traceable_numpy()
    return Compiled(function, check_every, cache_size, capture)


def _firsts(items: Sequence[Any]) -> tuple[int, ...]:
    """For each item where it stands first."""
    seen: dict[int, int] = {}
    return tuple([seen.setdefault(id(x), i) for i, x in enumerate(items)])


def _all_tensors(args: tuple[Any, ...]) -> bool:
    return all([isinstance(x, Tensor) for x in args])


def _names(context: TraceContext) -> dict[int, str]:
    """Names for the printed program: arguments, and the layers' parameters where their module is known."""
    names = {x.var: f"argument{i}" for i, x in enumerate(context.recording.inputs)}
    known: dict[int, str] = {}
    for module in context.modules.values():
        for name, t in module.named_parameters():
            known.setdefault(id(t._data), name)
        for name, t in module.named_buffers():
            known.setdefault(id(t._data), name)
        for name, p in module.named_parameters():
            if type(p.edge) is Leaf and p.edge.buffer is not None:
                known.setdefault(id(p.edge.buffer), f"∂L/∂{name}")
    for key, x in context.recording.captured.items():
        names[x.var] = known.get(key, f"outside{x.var}")
    taken = context.rebinding.taken
    inputs = context.recording.inputs[len(context.recording.inputs) - len(taken) :]
    for (t, *_), x in zip(taken, inputs, strict=True):
        names[x.var] = known.get(id(t._data), f"outside{x.var}")
    return names


def _name_updates(recording: Any) -> None:
    """What an optimizer's step is, for the printed program: its class, and the parameters that it updates."""
    for n in recording.instructions:
        if n.kind == "host":
            acting: Any = next(iter(getattr(n.args[0], "args", ())), None)
            title = ""
            if hasattr(acting, "param_groups"):
                updated = [p for group in acting.param_groups for p in group["params"]]
                known = [recording.captured.get(id(p._data)) for p in updated]
                named = [recording.names[x.var] for x in known if x is not None and x.var in recording.names]
                title = f"{type(acting).__name__} of {', '.join(named)}" if named else type(acting).__name__
            n.origin = Origin("update", "", title)


# Over 60 lines, most of which are what it promises.
def compile(
    function: Callable[..., Any] | None = None,
    *,
    check_every: int = 0,
    cache_size: int = 16,
    capture: Capture = "auto",
) -> Any:
    """Record `function` at its first call and replay it from then on: a whole training step, or a function of arrays. It
    gives what the function gives, bit for bit, or an error.

    **Recorded anew** is what has changed: shapes, dtypes and memory layouts of arguments, other arguments; the array of a
    parameter, whether it requires a gradient; any attribute of a module that the function can reach (layers, ``p``, ``eps``,
    ``momentum``, train or eval, hooks, your own), global and closure variables that stand in your code, what is in lists,
    dictionaries, objects, NumPy arrays (up to 256 KiB) and environment variables that it can reach
    from there; whether gradients are recorded; the default dtype and device. The last `cache_size` programs are kept. A
    function that has to be recorded 8 times in a row is called as it is from then on, with a warning that says why.

    **Each replay does** what the function does to its arguments (``x[i] = v``, ``x *= 2``, ``x.assign_``), parameters, running
    statistics, gradients, optimizers, schedules and the stream of dropout masks; it binds constants from outside to new arrays
    (``p.data = …``, ``buffer *= 0.9``: averages of weights, target networks), prints what ``print`` prints, puts Tensors
    into attributes of modules, and refuses the values that the function refuses, before anything is changed. Results share
    memory with an argument where the function's do; they are constants: take gradients inside.

    **Refused**, by a `CompileError` that names the line, is what a program cannot do: reading a value (``float(loss)``, a
    branch on it), shapes that depend on values (``x[mask]``), other changes of Python's objects (a counter, a list that
    grows), random numbers of Python or NumPy, initial weights, iterators, writing into memory that two arguments share, and
    reading a larger NumPy array from outside otherwise than through functions of anynet (make it an argument, or read-only).

    Not seen are the clock, files, and what code of installed packages reads besides its arguments;
    ``check_every=n`` makes every n-th call run the function itself and compares. Several threads may call it: one at a time
    is in it. It is copied and pickled as its function is.

    **On a CUDA device** a call is captured as a graph, after three calls as it is, and launched from then on: arguments are copied to
    where the graph reads them, results are copies that no later call overwrites, and nothing waits for the device. Step numbers,
    rates and the position of random masks are written to the device before each launch; what else has changed makes another
    graph. Optimizers whose step is their `update` are part of the graph, with hooks that compute with arrays; schedules, and ``print`` of
    Python's values, act before the launch. What a graph cannot do runs as it is, with one warning that names the line: values that are
    read, arrays made of the host's numbers, arguments or attributes that are changed, results that can still be differentiated.
    ``capture="check"`` gives these warnings on the CPU, too; with ``capture="off"`` or `check_every` nothing is captured. On other
    devices it runs as it is.

    >>> import anynet as an
    >>> net = an.nn.Linear(2, 1)
    >>> optimizer = an.optim.SGD(net.parameters(), lr=0.1)
    >>> @an.compile
    ... def step(x, y):
    ...     optimizer.zero_grad()
    ...     loss = an.losses.mse_loss(net(x), y)
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss
    >>> x, y = an.ones((4, 2)), an.ones((4, 1))
    >>> losses = [step(x, y).item() for _ in range(20)]
    >>> losses[-1] < 1e-3 < losses[0], step.recorded
    (True, 1)
    """
    if function is None:
        return lambda f: compile(f, check_every=check_every, cache_size=cache_size, capture=capture)
    if not callable(function):
        msg = f"compile takes a function, got {type(function).__name__}"
        raise TypeError(msg)
    if check_every < 0 or cache_size < 1:
        msg = f"compile: check_every must be ≥ 0 and cache_size ≥ 1, got {check_every} and {cache_size}"
        raise ValueError(msg)
    if capture not in ("auto", "check", "off"):
        msg = f"compile: capture must be 'auto', 'check' or 'off', got {capture!r}"
        raise ValueError(msg)
    traceable_numpy()
    return Compiled(function, check_every, cache_size, capture)
