"""compile: a training step as a flat program.

The first call with new shapes runs the function as it is, on arrays that note what is done to them
(`anynet_backends.recorder`); the noted program is planned, and later calls replay it: no tape, no Tensor, no
allocation, no Python but one call after the other. What a replay computes is what the recorded call computed, with the
same functions on the same bits.
"""

from __future__ import annotations

import functools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from anynet import random
from anynet.autograd.hot import recorded_numpy
from anynet.autograd.primitive import INTERCEPT, Primitive
from anynet.autograd.tree import LEAF, flatten, unflatten
from anynet.tensor import Leaf, Parameter, Tensor, to_plain, wrap
from anynet_backends import TYPES, Array, backend_of, builtins, machine
from anynet_backends.recorder import (
    ACTIVE,
    COMPILING,
    RECORDER,
    CompileError,
    Program,
    Recorded,
    Recording,
    callers,
)
from anynet_backends.threads import PerThread, fork_safe_lock, in_forked_processes, once_property

__all__ = ["CompileError", "Compiled", "compile"]

_F = TypeVar("_F", bound=Callable[..., Any])
_new = Tensor.__new__

_ELSE = object()
"""What a direct replay returns where it does not apply."""

watchers: PerThread[Callable[[Any], None]] = PerThread()
"""Called with each module that runs while a program is recorded (set by `anynet.nn`)."""


class _Session:
    """One recording: what of the world outside it has touched."""

    def __init__(self) -> None:
        self.recording = Recording(TYPES[Recorded].base)
        self.recording.see = self.see
        # Parameters, Buffers, constants, with their arrays
        self.variables: dict[int, tuple[Tensor, Array]] = {}
        self.leaves: dict[int, tuple[Leaf, Tensor | None]] = {}  # with their gradients at the beginning
        self.modules: dict[int, tuple[Any, bool]] = {}
        self.before_host: Callable[[], None] | None = None

    def intercept(self, prim: Primitive[...], args: tuple[Any, ...], meta: dict[str, Any]) -> Any:
        """Every array that a primitive is given becomes one that is recorded."""
        lifted = []
        for x in args:
            if isinstance(x, Tensor):
                data = x._data
                if not isinstance(data, Recorded) and not hasattr(data, "level"):
                    self.see(x)
                    out = _new(Tensor)
                    out._data, out.edge = self._capture(prim, data), x.edge
                    x = out
            elif hasattr(x, "dtype") and not isinstance(x, Recorded):
                x = self._capture(prim, x)
            lifted.append(x)
        return prim.bind(tuple(lifted), meta)

    def _capture(self, prim: Primitive[...], data: Array) -> Recorded:
        xp = backend_of(data)
        if xp is not self.recording.base:
            msg = f"{prim.name} got an array of {xp.name} in a compiled function; compile records NumPy arrays, on the cpu"
            raise CompileError(msg)
        return self.recording.capture(xp.asarray(data))

    def see(self, x: Tensor) -> None:
        """Remember a Tensor from outside, and its gradient."""
        if id(x) not in self.variables and not isinstance(x._data, Recorded):
            self.variables[id(x)] = x, x._data
            edge = x.edge
            if type(edge) is Leaf and id(edge) not in self.leaves:
                self.leaves[id(edge)] = edge, edge.grad

    def enter(self, module: Any) -> None:
        """Remember a module that runs, and its mode."""
        self.modules.setdefault(id(module), (module, module.training))

    def settle(self) -> None:
        """Gradients that lie in an optimizer's buffer become ordinary Tensors."""
        for leaf, _ in self.leaves.values():
            if leaf.grad is not None and isinstance(leaf.grad._data, Recorded) and leaf.buffer is not None:
                if leaf.grad._data is self.recording.captured.get(id(leaf.buffer)):
                    leaf.grad = wrap(leaf.buffer)


_sessions: list[_Session] = []


@contextmanager
def _running(session: _Session) -> Iterator[None]:
    RECORDER.acquire()
    INTERCEPT.append(session.intercept)
    ACTIVE.append(session.recording)
    COMPILING.append(session.recording)
    _sessions.append(session)
    watchers.append(session.enter)
    try:
        yield
    finally:
        watchers.pop()
        _sessions.pop()
        COMPILING.pop()
        ACTIVE.pop()
        INTERCEPT.pop()
        RECORDER.release()


host_calls: PerThread[Callable[[str, Callable[[], Any]], Any]] = PerThread()
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
        session.settle()
        ACTIVE.clear()
        try:
            with COMPILING.aside(), INTERCEPT.aside(), watchers.aside():
                result = function(*_concrete(args), **{k: _concrete(v) for k, v in kwargs.items()})
        finally:
            ACTIVE.append(recording)
        out = None
        if isinstance(result, Tensor):  # what it gives is new at each replay
            out = recording.capture(result._data.copy())
            result = wrap(out)
        elif result is not None and not isinstance(result, (bool, int, float, str)):
            msg = f"{function.__qualname__} returned a {type(result).__name__} inside a compiled function"
            raise CompileError(msg)
        places = [
            x
            for x in flatten([list(args), kwargs])[0]
            if isinstance(x, Tensor) and isinstance(x._data, Recorded)
        ]
        call_now = _Call(function, args, kwargs, out is not None)
        recording.host(call_now, function.__qualname__, out)
        if places:  # Tensors that the program computes are handed over as they are then
            recording.instructions[-1].reads.extend(x._data.var for x in places)
            call_now.recording = recording
        return result

    return call  # type: ignore[return-value]


class _Call:
    """A host call of a program, with its arguments as they are at that moment."""

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any, wants: bool) -> None:
        self.function, self.args, self.kwargs, self.wants = function, args, kwargs, wants
        self.recording: Recording | None = None
        self.arrays: dict[int, Array] = {}

    @property
    def plain(self) -> bool:
        """Whether it is a call of the function with these arguments, and no more."""
        return self.recording is None and not self.wants and not self.kwargs

    def __call__(self) -> Any:
        args, kwargs = self.args, self.kwargs
        if self.recording is not None:
            leaves, shape = flatten([list(args), kwargs])
            now = [
                wrap(self.arrays[x._data.var].copy())
                if isinstance(x, Tensor) and isinstance(x._data, Recorded)
                else x
                for x in leaves
            ]
            args, kwargs = unflatten(shape, now)
        result = self.function(*args, **kwargs)
        return result._data if self.wants else None


def _concrete(tree: Any) -> Any:
    """Tensors with the values that they have now."""
    if isinstance(tree, Tensor) and isinstance(tree._data, Recorded):
        return wrap(tree._data.value.copy())
    return type(tree)(_concrete(x) for x in tree) if type(tree) in (tuple, list) else tree


class Step:
    """A planned program with what it assumes of the world outside, and what it leaves there."""

    def __init__(
        self,
        session: _Session,
        program: Program,
        structure: Any,
        constants: list[Any],
        lock: threading.RLock,
    ) -> None:
        self.program = program
        self.lock = lock  # the arrays of a program are there once
        self.constants = constants  # leaves of the result: a number of an output, or what it is
        self.single = (
            len(constants) == 1
            and type(constants[0]) is _Output
            and constants[0].tensor
            and structure is LEAF
        )
        self.given = [(type(x.value), x.shape, x.dtype) for x in session.recording.inputs]
        self.variables = list(session.variables.values())
        self.modules = list(session.modules.values())
        self.leaves = [
            (leaf, before is None)
            for leaf, before in session.leaves.values()
            if id(leaf) not in session.recording.forgotten
        ]
        stay = {
            id(leaf) for leaf, none in self.leaves if none and leaf.grad is None
        }  # none before, and none after
        self.after = [
            (leaf, leaf.grad)
            for leaf, _ in session.leaves.values()
            if not isinstance(getattr(leaf.grad, "data", None), Recorded) and id(leaf) not in stay
        ]
        self.fresh = [
            leaf
            for leaf, _ in session.leaves.values()
            if isinstance(getattr(leaf.grad, "data", None), Recorded)
        ]
        self.results = functools.partial(_results, self.fresh, structure, constants)

    def fits(self) -> bool:
        """Whether all is as it was assumed: arrays bound as before, modes, gradients there or not."""
        for x, data in self.variables:
            if x._data is not data:
                return False
        for module, training in self.modules:
            if module.training is not training:
                return False
        for leaf, none in self.leaves:  # noqa: SIM110 - a generator takes twice as long
            if (leaf.grad is None) is not none:
                return False
        return True

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
            "callers": callers,
        }

        def name(x: Any) -> str:
            scope[f"x{len(scope)}"] = x
            return f"x{len(scope) - 1}"

        program, given = self.program, range(len(self.given))
        call = self._function()
        body = [f"if len(args) != {len(given)} or active or callers: return ELSE"]
        body += [f"{''.join(f'a{i}, ' for i in given)}= args"] if given else []
        for i, (kind, shape, dtype) in enumerate(self.given):
            body += [
                f"if type(a{i}) is not Tensor or a{i}.edge is not None: return ELSE",
                f"d{i} = a{i}._data",
            ]
            if call is None:
                body.append(
                    f"if type(d{i}) is not {name(kind)} or d{i}.shape != {shape} or d{i}.dtype is not {name(dtype)}: return ELSE"
                )
        changed = [f"{name(x)}._data is not {name(data)}" for x, data in self.variables]
        changed += [f"{name(m)}.training is not {training}" for m, training in self.modules]
        changed += [f"({name(leaf)}.grad is None) is not {none}" for leaf, none in self.leaves]
        guard = [f"if {' or '.join(changed)}: return ELSE"] if changed else []
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
        copies = [f"{name(r)}.copy()" for r in program.results]
        if self.single and not self.fresh:
            replay += _wrapped(copies[0])
        else:
            replay += [f"return {name(self.results)}([{', '.join(copies)}])"]
        return _written([*body, f"with {name(self.lock)}:", *(f"    {line}" for line in replay)], scope)

    def _function(self) -> Callable[..., Array | None] | None:
        """The program as a built-in function of its arguments, where it is machine code alone and gives one array."""
        program = self.program
        if not self.single or self.fresh or self.after or not builtins.available():
            return None
        made = program.function(program.outputs)
        if made is None or made.gives != [len(made.arguments)] or machine.touched(made.rows) > machine.SMALL:
            return None
        table = builtins.Table()
        table.add(builtins.Plan(made.rows, made.arguments, made.results, ()))
        return table.call

    def run(self, inputs: list[Array]) -> Any:
        """Replay."""
        program = self.program
        results = program.run(inputs, *(random.next_mask(program.draws) if program.draws else ()))
        for leaf, grad in self.after:
            leaf.grad = grad
        return self.results(results)


def _wrapped(array: str) -> list[str]:
    """Lines that return an array as a Tensor: `wrap`, without a call."""
    return ["y = new(Tensor)", f"y._data = {array}", "y.edge = None", "return y"]


def _written(body: list[str], scope: dict[str, Any]) -> Callable[[tuple[Any, ...]], Any]:
    exec("def replay(args):\n" + "\n".join(f"    {line}" for line in body), scope)
    replay: Callable[[tuple[Any, ...]], Any] = scope.pop("replay")  # no circle that would outlive the step
    return replay


def _results(leaves: list[Leaf], structure: Any, constants: list[Any], results: list[Array]) -> Any:
    """What the function returns, and gradients where it leaves them: they are the last of a program's results."""
    first = len(results) - len(leaves)
    for leaf, array in zip(leaves, results[first:], strict=True):
        leaf.grad = wrap(array)
    return unflatten(structure, [c.of(results) if type(c) is _Output else c for c in constants])


class _Output:
    """A leaf of the result that the program computes: which output, and whether a Tensor or a plain array."""

    __slots__ = ("number", "tensor")

    def __init__(self, number: int, tensor: bool) -> None:
        self.number = number
        self.tensor = tensor

    def of(self, results: list[Array]) -> Any:
        return wrap(results[self.number]) if self.tensor else results[self.number]


_every: weakref.WeakSet[Compiled] = weakref.WeakSet()


def _forked() -> None:
    """Programs may hold calls that count on threads which are not there."""
    if not RECORDER._is_owned():  # type: ignore[attr-defined]
        _sessions.clear()
    for compiled in _every:
        compiled.steps.clear()
        compiled.direct = None


in_forked_processes(_forked)


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
        functools.update_wrapper(self, function)

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
                if isinstance(x, Tensor) and x.requires_grad:
                    msg = (
                        f"compile: an argument of shape {x.shape} requires a gradient, and the result of a program cannot "
                        "be differentiated; take the gradient inside (anynet.grad, backward) or pass x.detach()"
                    )
                    raise CompileError(msg)
                xp = backend_of(data)
                if xp.name != "numpy":
                    return self.function(
                        *args, **kwargs
                    )  # programs are NumPy's; elsewhere the function runs as it is
                arrays.append(data)
                key.append((isinstance(x, Tensor), data.shape, data.dtype.str))
            else:
                key.append((type(x), x))
        with self.lock:
            return self._replay(key, leaves, structure, arrays)

    def _replay(self, key: list[Any], leaves: list[Any], structure: Any, arrays: list[Array]) -> Any:
        self.calls += 1
        try:
            steps = self.steps.get(tuple(key))
        except TypeError:
            msg = f"compile: arguments that are no arrays must be hashable, got {[type(x).__name__ for x in leaves]}"
            raise CompileError(msg) from None
        step = None
        if steps is not None:
            self.steps.move_to_end(tuple(key))
            step = next((s for s in steps if s.fits()), None)
        if step is None:
            return self._record(tuple(key), leaves, structure)
        if self.check_every and self.calls % self.check_every == 0:
            return self._check(step, tuple(key), leaves, structure, arrays)
        plain = type(structure) is int and not self.check_every and not step.program.draws
        self.direct = step.direct if plain else None
        return step.run(arrays)

    def _record(
        self, key: Any, leaves: list[Any], structure: Any, before_host: Callable[[], None] | None = None
    ) -> Any:
        session = _Session()
        session.before_host = before_host
        recording = session.recording
        given = []
        for x in leaves:
            data = x._data if isinstance(x, Tensor) else x
            if hasattr(data, "dtype") and hasattr(data, "shape"):
                lifted: Any = recording.input(data)
                given.append(wrap(lifted) if isinstance(x, Tensor) else lifted)
            else:
                given.append(x)
        args, kwargs = (given, {}) if type(structure) is int else unflatten(structure, given)
        try:
            with random.apart() as state, _running(session):
                recording.seed, recording.step = state["seed"], state["masks"]
                result = self.function(*args, **kwargs)
                out_leaves, out_structure = flatten(result)
                outputs: list[Recorded] = []
                constants: list[Any] = []
                values: list[Any] = []
                for x in out_leaves:
                    data = x._data if isinstance(x, Tensor) else x
                    if not isinstance(data, Recorded) and isinstance(x, Tensor):
                        data = session._capture(_ANY, data)
                    if isinstance(data, Recorded):
                        constants.append(_Output(len(outputs), isinstance(x, Tensor)))
                        outputs.append(data)
                        values.append(wrap(data.value.copy()) if isinstance(x, Tensor) else data.value.copy())
                    else:
                        constants.append(x)
                        values.append(x)
                now = random.get_state()
                if (now["seed"], now["weights"]) != (state["seed"], state["weights"]):
                    msg = (
                        "compile: the function draws from the stream of weights (random.uniform, random.normal, a layer's "
                        "initial weights) or sets the seed; draw outside and pass the numbers as an argument"
                    )
                    raise CompileError(msg)
                recording.draws = now["masks"] - recording.step
            self._finish(session, outputs)
            recording.names = _names(session)  # type: ignore[attr-defined]
            calls = [n.args[0] for n in recording.instructions if n.kind == "host"]
            program = Program(recording, outputs)
            for call in calls:
                if isinstance(call, _Call):
                    call.arrays = program.arrays
            step = Step(session, program, out_structure, constants, self.lock)
        finally:
            self._restore(session)
        self.recorded += 1
        kept = self.steps.setdefault(key, [])
        kept[:] = [s for s in kept if s.fits()][-3:]
        kept.insert(0, step)
        while len(self.steps) > self.cache_size:
            self.steps.popitem(last=False)
        for leaf, array in zip(step.fresh, outputs[len(outputs) - len(step.fresh) :], strict=True):
            leaf.grad = wrap(program.arrays[array.var].copy()) if leaf.grad is None else leaf.grad
        return unflatten(out_structure, values)

    def _finish(self, session: _Session, outputs: list[Recorded]) -> None:
        """What the function has left outside must be expressible at a replay."""
        session.settle()
        for x, data in session.variables.values():
            if x._data is not data:
                what = "a Parameter" if isinstance(x, Parameter) else "a Tensor"
                msg = (
                    f"compile: {what} of shape {tuple(x.shape)} from outside was bound to a new array in the function; "
                    "write into it with assign_, or return the new value"
                )
                raise CompileError(msg)
        for leaf, before in session.leaves.values():
            if leaf.grad is not None and isinstance(leaf.grad._data, Recorded):
                if before is not None:
                    msg = (
                        "compile: gradients of a variable that no optimizer holds are added up over calls; set its .grad "
                        "to None before the call, or give it to an optimizer"
                    )
                    raise CompileError(msg)
                outputs.append(leaf.grad._data)

    def _restore(self, session: _Session) -> None:
        """No recorded array stays outside, whatever happened."""
        session.settle()
        for x, data in session.variables.values():
            if isinstance(x._data, Recorded):
                x._data = data
        for leaf, _ in session.leaves.values():
            if leaf.grad is not None and isinstance(leaf.grad._data, Recorded):
                leaf.grad = wrap(leaf.grad._data.value.copy())

    def _check(self, step: Step, key: Any, leaves: list[Any], structure: Any, arrays: list[Array]) -> Any:
        """Replay the arrays' part, put all back, run the function itself, and compare bit for bit."""
        program = step.program
        outside = [x.value for x in program.recording.captured.values() if x.value.flags.writeable]
        saved = [a.copy() for a in outside]
        state = random.get_state()
        program.seed, program.step = state["seed"], state["masks"]
        for x, new in zip(program.recording.inputs, arrays, strict=True):
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
        value = self._record(key, leaves, structure, compare)
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


def _all_tensors(args: tuple[Any, ...]) -> bool:
    return all([isinstance(x, Tensor) for x in args])


class _Any:
    name = "the result"


_ANY: Any = _Any()


def _names(session: _Session) -> dict[int, str]:
    """Names for the printed program: arguments, and the layers' parameters where their module is known."""
    names = {x.var: f"argument{i}" for i, x in enumerate(session.recording.inputs)}
    known: dict[int, str] = {}
    for module, _ in session.modules.values():
        for name, t in module.named_parameters():
            known.setdefault(id(t._data), name)
        for name, t in module.named_buffers():
            known.setdefault(id(t._data), name)
    for key, x in session.recording.captured.items():
        names[x.var] = known.get(key, f"outside{x.var}")
    return names


def compile(function: Callable[..., Any] | None = None, *, check_every: int = 0, cache_size: int = 16) -> Any:
    """Record `function` at its first call and replay it from then on: a whole training step, or a function of arrays.

    The function is recorded anew where the shapes or dtypes of its arguments, other arguments, the mode of a module
    (train, eval) or the array of a parameter (after ``load_state_dict`` into another, ``to``) have changed; the last
    `cache_size` programs are kept. Parameters, running statistics, gradients, optimizers, schedules and the stream of
    dropout masks move on as they do without it, and results are the same bits. ``check_every=n`` makes every n-th call
    run the function itself and compares. Several threads may call it: one at a time is in it.

    What Python does besides (a counter, a print) happens only while recording. Reading a value inside (``float(loss)``,
    a branch on it) raises `CompileError`, which names the line. On other devices than the CPU the function runs as it
    is.

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
    recorded_numpy()
    return Compiled(function, check_every, cache_size)
