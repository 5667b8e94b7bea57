"""compile: a training step as a flat program.

The first call with new shapes runs the function as it is, on arrays that note what is done to them
(`anynet_backends.jit.tracer`); the noted program is planned, and later calls replay it: no tape, no Tensor, no
allocation, no Python but one call after the other. What a replay computes is what the recorded call computed, with the
same functions on the same bits.
"""

from __future__ import annotations

import builtins
import copy
import functools
import sys
import threading
import types
import warnings
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from operator import is_
from typing import Any, Final, TypeVar

from anynet import random
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.jit import guards
from anynet.autograd.jit.guards import Guard
from anynet.autograd.jit.specialize import traceable_numpy
from anynet.autograd.primitive import Primitive
from anynet.autograd.pytree import LEAF, flatten, unflatten
from anynet.tensor import Buffer, Leaf, Parameter, Tensor, mode, to_plain, unwrap, wrap
from anynet_backends import TYPES, Array, backend_of, machine
from anynet_backends import builtins as built_in
from anynet_backends.concurrency import ThreadStack, after_fork, fork_safe_lock, once_property
from anynet_backends.jit.errors import CompileError, user_line
from anynet_backends.jit.program import Program, owner, replay_observers
from anynet_backends.jit.tracer import ACTIVE, COMPILING, Trace, TracedArray, trace_lock

__all__ = ["CompileError", "Compiled", "compile"]

_F = TypeVar("_F", bound=Callable[..., Any])
_new = Tensor.__new__

_GONE = (AttributeError, LookupError, NameError, ValueError)
_IN_VAIN: Final = 8
"""Recordings at one call after the other, after which a function is called as it is."""
_ELSE = object()
"""What a direct replay returns where it does not apply."""

watchers: ThreadStack[Callable[[Any], None]] = ThreadStack()
"""Called with each module that runs while a program is recorded (set by `anynet.nn`)."""


class _Session:
    """One recording: what of the world outside it has touched."""

    def __init__(self, guard: Guard) -> None:
        self.recording = Trace(TYPES[TracedArray].base)
        self.recording.see = self.see
        self.recording.known = guard.holds
        # Parameters, Buffers, constants, with their arrays
        self.variables: dict[int, tuple[Tensor, Array]] = {}
        self.leaves: dict[int, tuple[Leaf, Tensor | None]] = {}  # with their gradients at the beginning
        self.modules: dict[int, Any] = {}
        self.guard = guard
        self.mode = mode.recording
        self.places: list[int] = []
        self.lifted: list[Any] = []
        self.outputs: list[TracedArray] = []
        self.bound: list[tuple[int, int]] = []
        self.kept: list[tuple[Any, str, int]] = []
        self.moved: set[int] = set()  # Tensors that a call on the host has bound to new arrays
        self.once = False  # whether there can be no replay
        self.before_host: Callable[[], None] | None = None

    def intercept(self, prim: Primitive[...], args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
        """Every array that a primitive is given becomes one that is recorded."""
        lifted = []
        for x in args:
            if isinstance(x, Tensor):
                data = x._data
                if not isinstance(data, TracedArray) and not hasattr(data, "level"):
                    self.see(x)
                    out = _new(Tensor)
                    out._data, out.edge = self._capture(prim, data), x.edge
                    x = out
            elif hasattr(x, "dtype") and not isinstance(x, TracedArray):
                x = self._capture(prim, x)
            lifted.append(x)
        return prim.bind(tuple(lifted), meta)

    def _capture(self, prim: Primitive[...], data: Array) -> TracedArray:
        xp = backend_of(data)
        if xp is not self.recording.base:
            msg = f"{prim.name} got an array of {xp.name} in a compiled function; compile records NumPy arrays, on the cpu"
            raise CompileError(msg)
        return self.recording.capture(xp.asarray(data))

    def see(self, x: Tensor) -> None:
        """Remember a Tensor from outside, and its gradient."""
        if x.edge is not None and mode.recording is self.mode:
            self.recording.mode_asked = True
        if id(x) not in self.variables and not isinstance(x._data, TracedArray):
            self.variables[id(x)] = x, x._data
            edge = x.edge
            if type(edge) is Leaf and id(edge) not in self.leaves:
                self.leaves[id(edge)] = edge, edge.grad
            self.guard.watch_variable(x, edge if type(edge) is Leaf else None)

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
            if not _is_array(x):
                given.append(x)
                continue
            data = x._data if isinstance(x, Tensor) else x
            if id(data) not in made:
                made[id(data)] = self.recording.input(data)
                self.places.append(number)
            number += 1
            if isinstance(x, Tensor) and id(x) not in made:
                made[id(x)] = wrap(made[id(data)], type(x))
            given.append(made[id(x)])
        self.lifted = [g._data if isinstance(g, Tensor) else g for g in given]
        return given

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
        if not _is_array(x):
            if isinstance(x, guards.PLAIN) or self.guard.holds(x):
                return x
            msg = (
                f"{self.guard.line()}: the function returns a {type(x).__name__}; a compiled function returns Tensors, arrays, "
                "numbers and strings in lists, tuples and dictionaries"
            )
            raise CompileError(msg)
        same = next((i for i, g in enumerate(given) if g is x), None)
        if same is not None:
            return _Given(same)
        tensor = isinstance(x, Tensor)
        data = x._data if tensor else x
        if tensor and not isinstance(data, TracedArray):
            if id(x) in self.variables or isinstance(x, (Parameter, Buffer)) or self.guard.holds(x):
                self.see(x)
                return x
            data = self._capture(_ANY, data)
        elif not isinstance(data, TracedArray):
            data = self.recording.call("astype", (self._capture(_ANY, data), data.dtype), {"copy": True})
        if data.variable.root in self.recording.given:
            views = self.recording.views(data)
            if views is not None:
                source = next(
                    i
                    for i, a in enumerate(self.lifted)
                    if isinstance(a, TracedArray) and a.var == data.variable.root
                )
                return _Alias(source, tensor, views)
        self.outputs.append(data)
        return _Output(len(self.outputs) - 1, tensor)

    def finish(self, given: list[Any]) -> None:
        """What the function has left outside must be expressible at a replay."""
        self.settle()
        self.guard.check_random()
        for x, data in self.variables.values():
            if x._data is not data and id(x) not in self.moved:
                what = "a Parameter" if isinstance(x, Parameter) else "a Tensor"
                line = self.recording.lines.get((id(x), "data")) or self.guard.line("data")
                msg = (
                    f"{line}: {what} of shape {tuple(x.shape)} from outside was bound to a new array in the function; "
                    "write into it with assign_, or return the new value"
                )
                raise CompileError(msg)
        for i, (x, lifted) in enumerate(zip(given, self.lifted, strict=True)):
            if isinstance(x, Tensor):
                if x.edge is not None:
                    msg = f"{self.guard.line('requires_grad_')}: an argument requires a gradient after the call; use a copy of it"
                    raise CompileError(msg)
                if x._data is not lifted:
                    self.bound.append((i, len(self.outputs)))
                    data = x._data if isinstance(x._data, TracedArray) else self._capture(_ANY, x._data)
                    self.outputs.append(self.recording.call("astype", (data, data.dtype), {"copy": True}))
        grads = []
        for leaf, before in self.leaves.values():
            if leaf.grad is not None and isinstance(leaf.grad._data, TracedArray):
                if before is not None:
                    msg = (
                        f"{self.guard.line('backward')}: gradients of a variable that no optimizer holds are added up over "
                        "calls; set its .grad to None before the call, or give it to an optimizer"
                    )
                    raise CompileError(msg)
                grads.append(leaf.grad._data)
        for place, key, old, new in self.set_attributes():
            self.guard.keep(place, key, old)
            self.kept.append((place.owner, key, len(self.outputs)))
            self.outputs.append(self.recording.call("astype", (new._data, new._data.dtype), {"copy": True}))
        self.outputs += grads

    def settle_before_host(self) -> None:
        """Before a call on the host, which may write what the function must not. It is given gradients as they are now; for
        those that lie in no optimizer's buffer a replay could not do that."""
        self.settle()
        self.guard.check_random()
        self.set_attributes()
        for leaf, _ in self.leaves.values():
            if leaf.grad is not None and isinstance(leaf.grad._data, TracedArray):
                leaf.grad = wrap(leaf.grad._data.value.copy())
                self.once = True

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
            fresh = type(new) is Tensor and isinstance(new._data, TracedArray)
            unread = not isinstance(old, Tensor) or (type(old) is Tensor and id(old) not in self.variables)
            if not (fresh and unread and watched):
                raise self.guard.refusal(place, key, line)
            found.append((place, key, old, new))
        return found

    def settle(self) -> None:
        """Gradients that lie in an optimizer's buffer become ordinary Tensors."""
        for leaf, _ in self.leaves.values():
            if leaf.grad is not None and isinstance(leaf.grad._data, TracedArray) and leaf.buffer is not None:
                if leaf.grad._data is self.recording.captured.get(id(leaf.buffer)):
                    leaf.grad = wrap(leaf.buffer)


_sessions: list[_Session] = []


@contextmanager
def _running(session: _Session) -> Iterator[None]:
    trace_lock.acquire()
    INTERCEPT.append(session.intercept)
    ACTIVE.append(session.recording)
    COMPILING.append(session.recording)
    _sessions.append(session)
    watchers.append(session.enter)
    said, builtins.print = builtins.print, _print
    try:
        yield
    finally:
        builtins.print = said
        watchers.pop()
        _sessions.pop()
        COMPILING.pop()
        ACTIVE.pop()
        INTERCEPT.pop()
        trace_lock.release()


def _print(*args: Any, **kwargs: Any) -> None:
    """What `print` is while a function is recorded: each replay prints, too."""
    if COMPILING.own and any(isinstance(x, Tensor) and x.edge is not None for x in args):
        msg = f"{user_line()}: print of a Tensor that requires a gradient inside a compiled function; say print(x.detach())"
        raise CompileError(msg)
    _printed(*args, **kwargs)


host_calls: ThreadStack[Callable[[str, Callable[[], Any]], Any]] = ThreadStack()
"""Who runs what `on_host` marks, given its name (profiling)."""


def on_host(function: _F) -> _F:
    """Decorator for what acts on the host between array operations, such as an optimizer's step: in a compiled function
    it is an instruction of the program and runs as it is at each replay."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not (COMPILING and COMPILING.own):
            if host_calls and host_calls.own:
                return host_calls.own[-1](function.__qualname__, lambda: function(*args, **kwargs))
            return function(*args, **kwargs)
        session = _sessions[-1]
        recording = session.recording
        if session.before_host is not None:
            session.before_host()
        session.settle_before_host()
        ACTIVE.clear()
        try:
            with COMPILING.aside(), INTERCEPT.aside(), watchers.aside():
                result = function(*_concrete(args), **{k: _concrete(v) for k, v in kwargs.items()})
        finally:
            ACTIVE.append(recording)
        recording.settle(function.__qualname__)
        session.settle_after_host(args, kwargs)
        out = None
        if isinstance(result, Tensor):  # what it gives is new at each replay
            out = recording.capture(result._data.copy())
            result = wrap(out)
        elif result is not None and not isinstance(result, (bool, int, float, str)):
            msg = f"{function.__qualname__} returned a {type(result).__name__} inside a compiled function"
            raise CompileError(msg)
        call_now = _Call(function, args, kwargs, out is not None)
        recording.host(call_now, function.__qualname__, out)
        recording.instructions[-1].reads.extend(v for v in call_now.places if v is not None)
        return result

    return call  # type: ignore[return-value]


_printed = on_host(print)


class _Call:
    """A host call of a program, with its arguments as they are at that moment."""

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any, wants: bool) -> None:
        self.function, self.args, self.kwargs, self.wants = function, args, kwargs, wants
        self.leaves, self.shape = flatten([list(args), kwargs])
        # what the program computes is handed over as it is then: its variables
        self.places: list[int | None] = [
            d.var if isinstance(d := unwrap(x), TracedArray) else None for x in self.leaves
        ]
        self.arrays: dict[int, Array] = {}

    @property
    def plain(self) -> bool:
        """Whether it is a call of the function with these arguments, and no more."""
        return not self.wants and not self.kwargs and all(v is None for v in self.places)

    def __call__(self) -> Any:
        if all(v is None for v in self.places):
            result = self.function(*self.args, **self.kwargs)
        else:
            now = [
                x if v is None else _like(x, self.arrays[v].copy())
                for x, v in zip(self.leaves, self.places, strict=True)
            ]
            args, kwargs = unflatten(self.shape, now)
            result = self.function(*args, **kwargs)
        return result._data if self.wants else None


def _like(x: Any, array: Array) -> Any:
    return wrap(array) if isinstance(x, Tensor) else array


def _concrete(tree: Any) -> Any:
    """Tensors and arrays with the values that they have now."""
    data = unwrap(tree)
    if isinstance(data, TracedArray):
        return _like(tree, data.value.copy())
    return type(tree)(_concrete(x) for x in tree) if type(tree) in (tuple, list) else tree


class Step:
    """A planned program with what it assumes of the world outside, and what it leaves there."""

    def __init__(
        self, session: _Session, program: Program, structure: Any, constants: list[Any], lock: threading.RLock
    ) -> None:
        recording = session.recording
        self.program = program
        self.guard = session.guard
        self.guard.without(recording.captured)
        self.lock = lock  # the arrays of a program are there once
        self.constants = constants  # leaves of the result: a number of an output, or what it is
        self.single = (
            len(constants) == 1
            and type(constants[0]) is _Output
            and constants[0].tensor
            and structure is LEAF
        )
        self.given = [
            (x.value, x.shape, x.value.dtype, recording.given[x.var].strides) for x in recording.inputs
        ]
        self.places = session.places  # of the inputs among the arrays of a call
        self.variables = [(x, data, x.edge) for x, data in session.variables.values()]
        self.mode = session.mode if recording.mode_asked else None
        self.leaves = [
            (leaf, before is None)
            for leaf, before in session.leaves.values()
            if id(leaf) not in recording.forgotten
        ]
        stay = {
            id(leaf) for leaf, none in self.leaves if none and leaf.grad is None
        }  # none before, and none after
        self.after = [
            (leaf, leaf.grad)
            for leaf, _ in session.leaves.values()
            if not isinstance(getattr(leaf.grad, "_data", None), TracedArray) and id(leaf) not in stay
        ]
        self.fresh = [
            leaf
            for leaf, _ in session.leaves.values()
            if isinstance(getattr(leaf.grad, "_data", None), TracedArray)
        ]
        # what of the arguments is written in place: which input, and its place in the program
        self.written = [(i, x.value) for i, x in enumerate(recording.inputs) if x.var in recording.changed]
        self.bound = (
            session.bound
        )  # arguments that get a new array, attributes of modules that get a new Tensor: outputs
        self.kept = session.kept
        self.hazards = frozenset(id(owner(a)) for a in program.hazards)
        self.exposed = any(
            owner(a) is a for a in program.hazards
        )  # whether one of them may be an argument itself
        self.structure = structure
        self.results = functools.partial(_results, self.fresh, structure, constants)

    def fits(self) -> bool:
        """Whether all is as it was assumed: arrays bound as before, gradients there or not, nothing else changed that the
        function may read."""
        for x, data, edge in self.variables:
            if x._data is not data or x.edge is not edge:
                return False
        for leaf, none in self.leaves:
            if (leaf.grad is None) is not none:
                return False
        return self.mode in (None, mode.recording) and self.guard.fits()

    def shares(self, arrays: list[Array]) -> bool:
        """Whether an argument lies in memory that is written while the program still reads its copy of it."""
        if self.written:
            owners = [id(owner(arrays[i])) for i in self.places]
            if len(set(owners)) < len(owners) or not all(
                arrays[self.places[i]].flags.writeable for i, _ in self.written
            ):
                return True
        return any(id(owner(a)) in self.hazards for a in arrays)

    @property
    def plain(self) -> bool:
        """Whether arguments are only read and are all different arrays, and nothing is drawn."""
        return (
            not (self.written or self.bound or self.kept or self.program.draws)
            and self.places == [*range(len(self.given))]
            and not any(type(c) in (_Given, _Alias) for c in self.constants)
        )

    @once_property
    def direct(self) -> Callable[[tuple[Any, ...]], Any]:
        """A function that replays what is written out here, without a loop: given the arguments, the result, or `_ELSE` where
        they, or what `fits` asks, are not as in the recording, or where somebody watches. A loop over a handful of arrays takes
        longer than a small network."""
        scope: dict[str, Any] = {
            "Tensor": Tensor,
            "new": _new,
            "ELSE": _ELSE,
            "active": COMPILING,
            "callers": replay_observers,
        }

        def name(x: Any) -> str:
            scope[f"x{len(scope)}"] = x
            return f"x{len(scope) - 1}"

        program, given = self.program, range(len(self.given))
        call = self._function()
        body = [f"if len(args) != {len(given)} or active or callers: return ELSE"]
        body += [f"{''.join(f'a{i}, ' for i in given)}= args"] if given else []
        for i, (value, shape, dtype, strides) in enumerate(self.given):
            body += [
                f"if type(a{i}) is not Tensor or a{i}.edge is not None: return ELSE",
                f"d{i} = a{i}._data",
            ]
            if call is None:
                body.append(
                    f"if type(d{i}) is not {name(type(value))} or d{i}.shape != {shape} or d{i}.dtype is not {name(dtype)} "
                    f"or d{i}.strides != {strides}: return ELSE"
                )
        changed, guard = self._tests(name), []
        if changed:  # a name or an item may be gone
            test = f"    if {' or '.join(changed)}: return ELSE"
            guard += ["try:", test, f"except {name(_GONE)}: return ELSE"]
        if self.hazards:
            inside = [f"{name(id)}({name(owner)}(d{i})) in {name(self.hazards)}" for i in given]
            if not self.exposed:  # what owns its memory is none of them
                inside = [f"d{i}.base is not None and {test}" for i, test in zip(given, inside, strict=True)]
            guard += [f"if {' or '.join(inside)}: return ELSE"] if inside else []
        if call is not None:  # it looks at the arrays itself
            program_args = ", ".join(f"d{i}" for i in given)
            run = f"z = {name(call)}({program_args})"
            if any(
                isinstance(f, machine.Segment) and f.waits for f, _ in program.segments
            ):  # in the same memory
                body += [*guard, f"with {name(self.lock)}:", f"    {run}"]
            else:
                body += [*guard, run]
            return _written([*body, "if z is None: return ELSE", *_wrapped("z")], scope)
        replay = guard  # within the lock: another thread may be in the middle of a step
        replay += [f"{name(put)}(..., d{i})" for i, put in enumerate(program.puts)]
        for f, args in program.fast:
            host: Any = f
            made = (host.function, host.args) if isinstance(host, _Call) and host.plain else (f, args)
            replay.append(f"{name(made[0])}({', '.join(map(name, made[1]))})")
        replay += [f"{name(leaf)}.grad = {name(grad)}" for leaf, grad in self.after]
        copies = [
            f"{name(r)}{'' if live else '.copy()'}"
            for r, live in zip(program.results, program.live, strict=True)
        ]
        if self.single and not self.fresh:
            replay += _wrapped(copies[0])
        else:
            replay += [f"return {name(self.results)}([{', '.join(copies)}])"]
        return _written([*body, f"with {name(self.lock)}:", *(f"    {line}" for line in replay)], scope)

    def _tests(self, name: Callable[[Any], str]) -> list[str]:
        """Conditions in Python, of which one is true where `fits` is not."""
        tests = []
        for x, data, edge in self.variables:
            own = name(x)
            tests.append(f"{own}._data is not {name(data)}")
            if not isinstance(x, Parameter):  # of whose edges the guard is told
                tests.append(f"{own}.edge is not {name(edge)}")
        tests += [f"({name(leaf)}.grad is None) is not {none}" for leaf, none in self.leaves]
        if self.mode is not None:
            tests.append(f"{name(mode)}.recording is not {self.mode}")
        return tests + self.guard.tests(name)

    def _function(self) -> Callable[..., Array | None] | None:
        """The program as a built-in function of its arguments, where it is machine code alone and gives one array."""
        program = self.program
        if not self.single or self.fresh or self.after or not built_in.available():
            return None
        made = program.function(program.outputs)
        if made is None or made.gives != [len(made.arguments)] or machine.touched(made.rows) > machine.SMALL:
            return None
        table = built_in.Table()
        table.add(built_in.Plan(made.rows, made.arguments, made.results, ()))
        return table.call

    def run(self, leaves: list[Any], arrays: list[Array]) -> Any:
        """Replay, with the leaves of the arguments, and those of them that are arrays."""
        program = self.program
        inputs = [arrays[i] for i in self.places]
        drawn = random.next_mask(program.draws) if program.draws else ()
        try:
            results = program.run(inputs, *drawn)
        except BaseException:
            if drawn:  # a refused call leaves everything as it was
                random.give_back(program.draws, drawn[1])
            raise
        for leaf, grad in self.after:
            leaf.grad = grad
        return self.leave(leaves, inputs, results)

    def leave(self, leaves: list[Any], inputs: list[Array], results: list[Array]) -> Any:
        """What the function leaves in its arguments and in modules, and its result."""
        for i, value in self.written:
            inputs[i][...] = value
        for i, number in self.bound:
            leaves[i]._data = results[number]
        for module, attribute, number in self.kept:
            vars(module)[attribute] = wrap(results[number])
        return self.results(results, leaves)


def _wrapped(array: str) -> list[str]:
    """Lines that return an array as a Tensor: `wrap`, without a call."""
    return ["y = new(Tensor)", f"y._data = {array}", "y.edge = None", "return y"]


def _written(body: list[str], scope: dict[str, Any]) -> Callable[[tuple[Any, ...]], Any]:
    exec("def replay(args):\n" + "\n".join(f"    {line}" for line in body), scope)
    replay: Callable[[tuple[Any, ...]], Any] = scope.pop("replay")  # no circle that would outlive the step
    return replay


def _results(
    fresh: list[Leaf], structure: Any, constants: list[Any], results: list[Array], leaves: Sequence[Any] = ()
) -> Any:
    """What the function returns, and gradients where it leaves them: they are the last of a program's results."""
    first = len(results) - len(fresh)
    for leaf, array in zip(fresh, results[first:], strict=True):
        leaf.grad = wrap(array)
    values = [c.of(results, leaves) if type(c) in (_Output, _Given, _Alias) else c for c in constants]
    return unflatten(structure, values)


class _Output:
    """A leaf of the result that the program computes: which output, and whether a Tensor or a plain array."""

    __slots__ = ("number", "tensor")

    def __init__(self, number: int, tensor: bool) -> None:
        self.number = number
        self.tensor = tensor

    def of(self, results: list[Array], leaves: Sequence[Any]) -> Any:
        return wrap(results[self.number]) if self.tensor else results[self.number]


class _Given:
    """A leaf of the result that is an argument."""

    __slots__ = ("number",)

    def __init__(self, number: int) -> None:
        self.number = number

    def of(self, results: list[Array], leaves: Sequence[Any]) -> Any:
        return leaves[self.number]


class _Alias:
    """A leaf of the result that shares the memory of an argument: what makes it of the argument's array."""

    __slots__ = ("number", "tensor", "views")

    def __init__(self, number: int, tensor: bool, views: list[Callable[[Array], Array]]) -> None:
        self.number, self.tensor, self.views = number, tensor, views

    def of(self, results: list[Array], leaves: Sequence[Any]) -> Any:
        array = to_plain(leaves[self.number])
        for view in self.views:
            array = view(array)
        return wrap(array) if self.tensor else array


_every: weakref.WeakSet[Compiled] = weakref.WeakSet()


def _forked() -> None:
    """Programs may hold calls that count on threads which are not there."""
    if not trace_lock._is_owned():  # type: ignore[attr-defined]
        _sessions.clear()
    for compiled in _every:
        compiled.steps.clear()
        compiled.direct = None


after_fork(_forked)


class Compiled:
    """What `compile` returns: call it as the function; `print` it to read its programs."""

    def __init__(self, function: Callable[..., Any], check_every: int, cache_size: int) -> None:
        self.function = function
        self.lock = fork_safe_lock()
        _every.add(self)
        self.check_every = check_every
        self.cache_size = cache_size
        self.steps: OrderedDict[Any, list[Step]] = OrderedDict()
        # of the last program, where its arguments were Tensors alone, nothing is drawn and nothing checked
        self.direct: Callable[[tuple[Any, ...]], Any] | None = None
        self.recorded = 0
        self.calls = 0
        self.in_vain: dict[
            Any, tuple[int, int]
        ] = {}  # recordings one after the other, and at which call the last was
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
        return name if found is self else (_compiled, (self.function, self.check_every, self.cache_size))

    def __copy__(self) -> Compiled:
        return Compiled(self.function, self.check_every, self.cache_size)

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        """With a copy of its function: a method is then one of the copied object."""
        return Compiled(copy.deepcopy(self.function, memo), self.check_every, self.cache_size)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        direct = self.direct
        if direct is not None and not kwargs:
            value = direct(args)
            if value is not _ELSE:
                self.calls += 1
                return value
        leaves, structure = (
            flatten([list(args), kwargs]) if kwargs or not _all_tensors(args) else (list(args), len(args))
        )
        if COMPILING and COMPILING.own:  # inside another compiled function: part of it
            return self.function(*args, **kwargs)
        arrays: list[Array] = []
        key: list[Any] = [structure if type(structure) is int else repr(structure)]
        for x in leaves:
            data = x._data if isinstance(x, Tensor) else x
            if hasattr(data, "dtype") and hasattr(data, "shape"):
                if isinstance(x, Tensor) and x.edge is not None:
                    msg = (
                        f"compile: an argument of shape {x.shape} requires a gradient, and the result of a program cannot "
                        "be differentiated; take the gradient inside (anynet.grad, backward) or pass x.detach()"
                    )
                    raise CompileError(msg)
                xp = backend_of(data)
                if not xp.compiles:
                    return self.function(
                        *args, **kwargs
                    )  # programs are NumPy's; elsewhere the function runs as it is
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
                return _called(self.function, leaves, structure)
            return self._record(tuple(key), leaves, structure, arrays)
        if self.check_every and self.calls % self.check_every == 0:
            return self._check(step, tuple(key), leaves, structure, arrays)
        self.direct = step.direct if type(structure) is int and not self.check_every and step.plain else None
        return step.run(leaves, arrays)

    def _gives_up(self, key: Any) -> bool:
        """Whether each of the last calls had to be recorded, so that the function is better called as it is."""
        times, at = self.in_vain.get(key, (0, 0))
        times = times + 1 if at == self.calls - 1 else 1
        self.in_vain[key] = times, self.calls
        if len(self.in_vain) > self.cache_size:
            self.in_vain.pop(next(iter(self.in_vain)))
        if times == _IN_VAIN + 1:
            steps = self.steps.get(key)
            what = steps[0].guard.reason() if steps else "what it leaves outside"
            msg = (
                f"compile: {self.__name__} had to be recorded at each of {_IN_VAIN} calls, since {what} was another each time; it "
                "is called as it is from now on. Pass what changes as an argument, in a Tensor"
            )
            warnings.warn(msg, stacklevel=4)
        return times > _IN_VAIN

    def _record(
        self,
        key: Any,
        leaves: list[Any],
        structure: Any,
        arrays: list[Array],
        before_host: Callable[[], None] | None = None,
    ) -> Any:
        others = [(f"argument {i}", x) for i, x in enumerate(leaves) if not _is_array(x)]
        name = getattr(self.function, "__name__", type(self.function).__name__)
        session = _Session(Guard([(name, self.function), *others]))
        session.before_host = before_host
        recording = session.recording
        given = session.give(leaves)
        args, kwargs = (given, {}) if type(structure) is int else unflatten(structure, given)
        done = False
        try:
            with random.apart() as state, _running(session):
                recording.seed, recording.step = state["seed"], state["masks"]
                result = self.function(*args, **kwargs)
                session.given_are_whole(given, [list(args), kwargs], structure)
                out_leaves, out_structure = flatten(result)
                constants = [session.result(x, given) for x in out_leaves]
                recording.draws = random.get_state()["masks"] - recording.step
            session.finish(given)
            recording.names = _names(session)
            calls = [n.args[0] for n in recording.instructions if n.kind == "host"]
            outputs = session.outputs
            program = Program(recording, outputs)
            for call in calls:
                if isinstance(call, _Call):
                    call.arrays = program.arrays
            step = Step(session, program, out_structure, constants, self.lock)
            done = True
        finally:
            self._restore(session)
            if not done:
                session.guard.undo()
        self.recorded += 1
        if not session.once:
            kept = self.steps.setdefault(key, [])
            kept[:] = kept[:3]
            kept.insert(0, step)
        while len(self.steps) > self.cache_size:
            self.steps.popitem(last=False)
        values = [x.value if live else x.value.copy() for x, live in zip(outputs, program.live, strict=True)]
        return step.leave(leaves, [arrays[i] for i in step.places], values)

    def _restore(self, session: _Session) -> None:
        """No recorded array stays outside, whatever happened."""
        session.settle()
        for x, data in session.variables.values():
            if isinstance(x._data, TracedArray):
                x._data = data
        for leaf, _ in session.leaves.values():
            if leaf.grad is not None and isinstance(leaf.grad._data, TracedArray):
                leaf.grad = wrap(leaf.grad._data.value.copy())

    def _check(self, step: Step, key: Any, leaves: list[Any], structure: Any, arrays: list[Array]) -> Any:
        """Replay the arrays' part, put all back, run the function itself, and compare bit for bit."""
        program = step.program
        outside = [x.value for x in program.trace.captured.values() if x.value.flags.writeable]
        saved = [a.copy() for a in outside]
        state = random.get_state()
        program.seed, program.step = state["seed"], state["masks"]
        for x, new in zip(program.trace.inputs, arrays, strict=True):
            x.value[...] = new
        stopped = False
        for f, args in program.fast:
            if isinstance(f, _Call) or (args and isinstance(args[-1], _Call)):
                stopped = True
                break
            f(*args)
        replayed = [a.copy() for a in outside]
        results = None if stopped else [r.copy() for r in program.results]
        for a, b in zip(outside, saved, strict=True):
            a[...] = b
        found: list[str] = []

        def compare() -> None:
            if compare.done:  # type: ignore[attr-defined]
                return
            compare.done = True  # type: ignore[attr-defined]
            for a, b in zip(outside, replayed, strict=True):
                if a.tobytes() != b.tobytes():
                    found.append(f"an array of shape {a.shape} differs by at most {abs(a - b).max()}")

        compare.done = False  # type: ignore[attr-defined]
        value = self._record(key, leaves, structure, arrays, compare)
        compare()
        if results is not None:
            for c, x in zip(step.constants, flatten(value)[0], strict=True):
                if type(c) is _Output and to_plain(x).tobytes() != results[c.number].tobytes():
                    found.append(f"result {c.number} of shape {x.shape} differs")
        if found:
            msg = (
                f"compile: the program no longer computes what {self.__name__} computes ({'; '.join(found[:3])}): it reads "
                "something that changes between calls, such as a Python variable; pass it as an argument"
            )
            raise CompileError(msg)
        return value

    def __str__(self) -> str:
        head = f"{self.__name__}: {self.calls} calls, recorded {self.recorded} times"
        return "\n".join([head, *(str(s.program) for steps in self.steps.values() for s in steps)])

    __name__: str = "compiled"


def _called(function: Callable[..., Any], leaves: list[Any], structure: Any) -> Any:
    if type(structure) is int:
        return function(*leaves)
    args, kwargs = unflatten(structure, leaves)
    return function(*args, **kwargs)


def _compiled(function: Callable[..., Any], check_every: int, cache_size: int) -> Compiled:
    """What a pickled one is made from."""
    traceable_numpy()
    return Compiled(function, check_every, cache_size)


def _is_array(x: Any) -> bool:
    return isinstance(x, (Tensor, TracedArray)) or (hasattr(x, "dtype") and hasattr(x, "shape"))


def _firsts(items: Sequence[Any]) -> tuple[int, ...]:
    """For each item where it stands first."""
    seen: dict[int, int] = {}
    return tuple([seen.setdefault(id(x), i) for i, x in enumerate(items)])


def _all_tensors(args: tuple[Any, ...]) -> bool:
    return all([isinstance(x, Tensor) for x in args])


class _Any:
    name = "the result"


_ANY: Any = _Any()


def _names(session: _Session) -> dict[int, str]:
    """Names for the printed program: arguments, and the layers' parameters where their module is known."""
    names = {x.var: f"argument{i}" for i, x in enumerate(session.recording.inputs)}
    known: dict[int, str] = {}
    for module in session.modules.values():
        for name, t in module.named_parameters():
            known.setdefault(id(t._data), name)
        for name, t in module.named_buffers():
            known.setdefault(id(t._data), name)
    for key, x in session.recording.captured.items():
        names[x.var] = known.get(key, f"outside{x.var}")
    return names


def compile(function: Callable[..., Any] | None = None, *, check_every: int = 0, cache_size: int = 16) -> Any:
    """Record `function` at its first call and replay it from then on: a whole training step, or a function of arrays. It
    gives what the function gives, bit for bit, or an error.

    **Recorded anew** is what has changed: shapes, dtypes and memory layouts of arguments, other arguments; the array of a
    parameter, whether it requires a gradient; any attribute of a module that the function can reach (layers, ``p``, ``eps``,
    ``momentum``, train or eval, hooks, your own), global and closure variables that stand in your code, what is in lists,
    dictionaries, objects and small NumPy arrays (up to 4 KiB) that it can reach from there; whether gradients are recorded;
    the default dtype. The last `cache_size` programs are kept. A function that has to be recorded 8 times in a row is called
    as it is from then on, with a warning that says why.

    **Each replay does** what the function does to its arguments (``x[i] = v``, ``x *= 2``, ``x.assign_``), parameters, running
    statistics, gradients, optimizers, schedules and the stream of dropout masks; it prints what ``print`` prints, puts Tensors
    into attributes of modules, and refuses the values that the function refuses, before anything is changed. Results share
    memory with an argument where the function's do; they are constants: take gradients inside.

    **Refused**, by a `CompileError` that names the line, is what a program cannot do: reading a value (``float(loss)``, a
    branch on it), shapes that depend on values (``x[mask]``), other changes of Python's objects (a counter, a list that
    grows), random numbers of Python or NumPy, initial weights, iterators, writing into memory that two arguments share.

    Not seen are the clock, files, environment variables, and what code of installed packages reads besides its arguments;
    ``check_every=n`` makes every n-th call run the function itself and compares. Several threads may call it: one at a time
    is in it. It is copied and pickled as its function is. On other devices than the CPU the function runs as it is.

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
        return lambda f: compile(f, check_every=check_every, cache_size=cache_size)
    if not callable(function):
        msg = f"compile takes a function, got {type(function).__name__}"
        raise TypeError(msg)
    if check_every < 0 or cache_size < 1:
        msg = f"compile: check_every is at least 0 and cache_size at least 1, got {check_every} and {cache_size}"
        raise ValueError(msg)
    traceable_numpy()
    return Compiled(function, check_every, cache_size)
