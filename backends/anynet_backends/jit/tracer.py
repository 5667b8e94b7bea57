"""The tracer: arrays that compute, and append what they computed to a trace, from which a program is made.

A traced array holds a NumPy array. Each operation on it runs at once, on that array, and appends an instruction to the trace.
Arrays that the trace has not made itself are captured by identity: those of parameters and optimizers, which change in place.
What happens on the host between array operations (the step of an optimizer or of a schedule) is an instruction too.
"""

from __future__ import annotations

import functools
import zlib
from collections.abc import Callable, Iterable
from operator import attrgetter
from typing import Any, Final, NoReturn

import numpy as np

from anynet_backends import array_api
from anynet_backends.array_api import Array
from anynet_backends.backend import Backend
from anynet_backends.concurrency import ThreadStack, after_fork, fork_safe_lock
from anynet_backends.jit import numpy_calls
from anynet_backends.jit.errors import CompileError, refuse_reading, user_line
from anynet_backends.jit.geometry import new_with_strides, span
from anynet_backends.jit.instructions import Instruction, Origin, Variable, collect, made_by, substitute

__all__ = [
    "ACTIVE", "CAPTURING", "COMPILING", "TracedArray", "Trace", "fingerprint", "trace_lock", "values_of",
]  # fmt: skip

ACTIVE: list[Trace] = []
"""The running trace, if there is one (empty while tracing is paused)."""

COMPILING: ThreadStack[Trace] = ThreadStack("traces")
"""The traces of functions of the user, on the stack of the thread that runs them."""

CAPTURING: ThreadStack[Any] = ThreadStack("captured_steps")
"""The step of each thread that a device captures as a graph (`anynet.autograd.jit.captured.Recording`)."""

trace_lock = fork_safe_lock()
"""Held while tracing: only one trace runs at a time."""


def _forked() -> None:
    if not trace_lock._is_owned():  # type: ignore[attr-defined]
        ACTIVE.clear()


after_fork(_forked)


def _functions_of(base: Backend) -> dict[str, Callable[..., Any]]:
    """What a trace calls by name."""
    functions: dict[str, Callable[..., Any]] = {
        **{n: base.__dict__[n] for n in array_api.FUNCTIONS if n in base.__dict__},
        "getitem": lambda x, key: x[key],
        "power": lambda x, y: x**y,
        "transpose": lambda x: x.transpose(),
        "windows": base.windows,
        "index_add": base.index_add,
        "arrange": base.arrange,
        "affine": base.affine,
        "logistic": base.logistic,
    }
    for space in ("linalg", "fft"):
        for n, f in vars(getattr(base, space)).items():
            if callable(f):
                functions[f"{space}.{n}"] = f
    return functions


class TracedArray:
    """An array whose operations are traced. It has the attributes and operators of the array API standard."""

    __slots__ = ("trace", "value", "variable")
    __array_priority__ = 1000

    def __init__(self, value: Array, variable: Variable, trace: Trace) -> None:
        self.value = value
        self.variable = variable
        self.trace = trace

    @property
    def var(self) -> int:
        """The number of its variable."""
        return self.variable.var

    device = "cpu"
    shape, dtype, strides, ndim, size, nbytes, flags = (
        property(attrgetter(f"value.{name}"))
        for name in ("shape", "dtype", "strides", "ndim", "size", "nbytes", "flags")
    )

    @property
    def T(self) -> TracedArray:
        return self.trace.call("transpose", (self,), {})  # type: ignore[no-any-return]

    @property
    def mT(self) -> TracedArray:
        return self.trace.call("matrix_transpose", (self,), {})  # type: ignore[no-any-return]

    def conj(self) -> TracedArray:
        """The conjugate; of real numbers the array itself."""
        return self if self.value.dtype.kind != "c" else self.trace.call("conj", (self,), {})

    def reshape(self, *shape: Any) -> TracedArray:
        """As `numpy.ndarray.reshape`."""
        given = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return self.trace.call("reshape", (self, tuple(given)), {})  # type: ignore[no-any-return]

    def __getitem__(self, key: Any) -> TracedArray:
        return self.trace.call("getitem", (self, key), {})  # type: ignore[no-any-return]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.trace.write(self, key, value)

    def _read(self) -> Array:
        """The numbers, where they are the same in every replay; else a CompileError."""
        if self.variable.root not in self.trace.constants:
            refuse_reading()
        return self.value

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self._read(), dtype=dtype, copy=True)

    def __bool__(self) -> bool:
        return bool(self._read())

    def __float__(self) -> float:
        return float(self._read())

    def __int__(self) -> int:
        return int(self._read())

    def __complex__(self) -> complex:
        return complex(self._read())

    def __index__(self) -> int:
        return self._read().__index__()  # type: ignore[no-any-return]

    def item(self) -> Any:
        return self._read().item()

    def tolist(self) -> Any:
        return self._read().tolist()

    def tobytes(self) -> bytes:
        return bytes(self._read().tobytes())

    def __iter__(self) -> Any:
        return iter(self._read())

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
        """A function of NumPy's, where it is one of the standard's."""
        if method == "__call__" and out is None and not options and ufunc.__name__ in self.trace.functions:
            return self.trace.call(ufunc.__name__, inputs, {})
        what = "writes into an array that is not recorded" if out is not None else "is not recorded"
        msg = f"{user_line()}: numpy.{ufunc.__name__} inside a compiled function {what}; use the functions of anynet"
        raise CompileError(msg)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        refuse_reading()

    __dlpack__ = __dlpack_device__ = _refuse

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        return f"TracedArray({self.value.dtype}{self.value.shape})"

    __hash__ = None  # type: ignore[assignment]


def _of_two(name: str) -> tuple[Callable[..., Any], ...]:
    # NumPy's ** takes short cuts that its function pow does not
    name = "power" if name == "pow" else name

    def forward(self: TracedArray, other: Any) -> Any:
        return self.trace.call(name, (self, other), {})

    def reflected(self: TracedArray, other: Any) -> Any:
        return self.trace.call(name, (other, self), {})

    def in_place(self: TracedArray, other: Any) -> Any:
        return self.trace.update(name, self, other)

    return forward, reflected, in_place


def _of_one(name: str) -> Callable[[TracedArray], Any]:
    return lambda self: self.trace.call(name, (self,), {})


array_api.set_operators(TracedArray, _of_two, _of_one)


_SHAPED_BY_VALUES: Final = frozenset(
    ("nonzero", "repeat", "unique_all", "unique_counts", "unique_inverse", "unique_values")
)


_value_of, _variable_of = attrgetter("value"), attrgetter("variable")


def values_of(item: Any) -> Any:
    """The item with NumPy arrays in place of traced ones."""
    return substitute(item, TracedArray, _value_of)


def _variables(item: Any) -> Any:
    return substitute(item, TracedArray, _variable_of)


class Trace:
    """A trace: the instructions so far, and the arrays that they refer to."""

    kind: type[TracedArray] = TracedArray
    """The type of its arrays."""

    def __init__(self, base: Backend, largest: int | None = None) -> None:
        """`largest`: arrays of more bytes than this end the trace with a CompileError."""
        self.base = base
        self.largest = largest
        self.instructions: list[Instruction] = []
        # how many variables there are
        self.count = 0
        # arrays from outside, by their identity, and again by their variables
        self.captured: dict[int, TracedArray] = {}
        self.outside: dict[int, Array] = {}
        # the arguments, which are copies, and by their variables the arrays that they are copies of
        self.inputs: list[TracedArray] = []
        self.given: dict[int, Array] = {}
        # those of them that came from outside, by the identities of their arrays
        self.taken: dict[int, TracedArray] = {}
        # arguments that are written in place, and the line that does it
        self.changed: dict[int, str] = {}
        # where an attribute was set: (identity of its owner, name) → line
        self.lines: dict[tuple[int, str], str] = {}
        # captured arrays that came as arrays, not as Tensors; `known` says whether one existed before the trace
        self.borrowed: set[int] = set()
        self.known: Callable[[Array], bool] = lambda array: True
        # Tensors that the function has made of arrays from outside (`detach`), by their identities, with these arrays
        self.made: dict[int, tuple[Any, Array]] = {}
        # what has happened to Tensors that are bound to other arrays, and to their views, by their identities (`anynet.torch.memory`)
        self.rebound: dict[int, list[str]] = {}
        # called where the function is refused, the last first
        self.undo: list[Callable[[], None]] = []
        # by their roots, the number of the last instruction that has written into variables
        self.written_at: dict[int, int] = {}
        # called with each Tensor from outside whose array is read
        self.see: Callable[[Any], None] = lambda tensor: None
        # where the instructions come from that are appended now, for the text of the program
        self.origin = Origin()
        # the path of the layer that is running
        self.locate: Callable[[], str] = str
        # names of variables, for the text of the program
        self.names: dict[int, str] = {}
        # whether the trace depends on whether gradients are recorded when it begins
        self.mode_asked = False
        # variables that depend on nothing from outside, by their roots
        self.constants: dict[int, list[Variable]] = {}
        # variables whose gradient was set to None, by the identities of their leaves: the trace does not depend on what it was
        self.forgotten: dict[int, Any] = {}
        # the position in the stream of random masks when the trace begins, and how many words it has drawn
        self.seed, self.step, self.draws = 0, 0, 0
        self.functions = _functions_of(base)

    def _append(
        self, kind: str, name: str, args: Any, kwargs: dict[str, Any] | None = None, out: Any = None
    ) -> Instruction:
        """Append an instruction, with variables in place of traced arrays."""
        variables = {k: _variables(v) for k, v in (kwargs or {}).items()}
        if self.origin.phase == "forward" and (layer := self.locate()) != self.origin.layer:
            self.origin = Origin("forward", layer)
        made = Instruction(kind, name, _variables(args), variables, _variables(out))
        made.origin = self.origin
        self.instructions.append(made)
        return made

    def new(self, value: Any, reads: Iterable[TracedArray] = (), held: bool = False) -> TracedArray:
        """A new variable. `reads`: the arrays it was computed from, whose memory it may share; `held`: the variable keeps its array."""
        array = value if type(value) is np.ndarray else np.asarray(value)
        if self.largest is not None and array.nbytes > self.largest:
            msg = f"{user_line()}: an array of {array.nbytes} bytes is made"
            raise CompileError(msg)
        root = self.count
        if array.size:
            root = next((x.variable.root for x in reads if np.may_share_memory(array, x.value)), root)
        self.count += 1
        return self.kind(array, Variable(array, self.count - 1, root, held), self)

    def capture(self, array: Array) -> TracedArray:
        """The variable of an array from outside, which may change in place between replays."""
        found = self.captured.get(id(array), self.taken.get(id(array)))
        if found is None:
            for var, line in self.changed.items():
                self._refuse_shared(array, [self.given[var]], line)
            found = self.captured[id(array)] = self.new(array, held=True)
            self.outside[found.var] = array
        return found

    def _refuse_shared(self, written: Array, others: Iterable[Array], line: str | None = None) -> None:
        if any(np.may_share_memory(written, a) for a in others):
            msg = (
                f"{line or user_line()}: what is written here shares memory with an argument, of which a program has copies; "
                "pass a copy"
            )
            raise CompileError(msg)

    def _about_to_write(self, target: TracedArray) -> None:
        """Refuse a write whose effect a replay could not reproduce."""
        root = target.variable.root
        if root in self.given:
            array = self.given[root]
            if not array.flags.writeable:
                msg = "assignment destination is read-only"
                raise ValueError(msg)
            self.changed.setdefault(root, user_line())
            self._refuse_shared(
                array, [*(a for v, a in self.given.items() if v != root), *self.outside.values()]
            )
        elif root in self.outside:
            self._refuse_shared(self.outside[root], self.given.values())
            if root in self.borrowed and not self.known(self.outside[root]):
                msg = (
                    f"{user_line()}: what is written here is a NumPy array that the function has made, which a program would not "
                    "make anew; use anynet.asarray(…, copy=True)"
                )
                raise CompileError(msg)

    def settle(self, label: str) -> None:
        """Refuse a host callback that has written into an argument; called after it."""
        for x in self.inputs:
            if x.var not in self.changed and self.given[x.var].tobytes() != x.value.tobytes():
                msg = (
                    f"{user_line()}: {label} writes into memory that it shares with an argument; pass a copy"
                )
                raise CompileError(msg)

    def constant(self, array: Array) -> TracedArray:
        """An array made of Python numbers by the function: a new one at each replay."""
        return self.call_opaque("constant", array.copy, ())  # type: ignore[no-any-return]

    def input(self, array: Array, *, as_it_lies: bool = False) -> TracedArray:
        """An argument of the function: a copy, and with `as_it_lies` one with the strides of a view, too."""
        x = self.new(_as_it_lies(array) if as_it_lies else np.array(array), held=True)
        self.inputs.append(x)
        self.given[x.var] = array
        return x

    def take_as_input(self, array: Array) -> TracedArray:
        """An array from outside that has only been read becomes an argument: each replay is given the one that is there then."""
        x = self.capture(array)
        del self.captured[id(array)], self.outside[x.var]
        x.value = x.variable.value = np.array(array)
        self.inputs.append(x)
        self.given[x.var] = array
        self.taken[id(array)] = x
        return x

    def call(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], held: tuple[Any, ...] = ()
    ) -> Any:
        """Call a function of `functions` now, and append it to the trace; `held`: what it reads beside its arguments."""
        args = tuple(self.capture(a) if type(a) is np.ndarray else a for a in args)
        self._fixed_shape(name, args, kwargs)
        result = self.compute(name, values_of(args), {k: values_of(v) for k, v in kwargs.items()})
        many = isinstance(result, tuple)
        if not many and not isinstance(result, (np.ndarray, np.generic)):
            return result
        reads: list[TracedArray] = []
        collect((args, tuple(kwargs.values()), held), TracedArray, reads)
        constant = all(x.variable.root in self.constants for x in reads)
        outs = tuple([self.new(r, reads, constant) for r in (result if many else (result,))])
        if constant:
            for x in outs:
                self.constants.setdefault(x.variable.root, []).append(x.variable)
        out = outs if many else outs[0]
        instruction = self._append("call", name, args, kwargs, out)
        held_arrays: list[TracedArray] = []
        collect(held, TracedArray, held_arrays)
        instruction.reads += [x.var for x in held_arrays]
        return out

    def compute(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """What a function of `functions` gives."""
        return self.functions[name](*args, **kwargs)

    def _fixed_shape(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse a result whose shape depends on values that differ between replays."""
        if name in _SHAPED_BY_VALUES:
            deciding: list[TracedArray] = []
            collect((args, tuple(kwargs.values())), TracedArray, deciding)
            if name == "repeat":  # by the counts alone
                deciding = [x for x in deciding if x is not args[0]]
        elif name == "getitem":
            keys = args[1] if isinstance(args[1], tuple) else (args[1],)
            deciding = [k for k in keys if isinstance(k, TracedArray) and k.dtype == bool]
        else:
            return
        if any(x.variable.root not in self.constants for x in deciding):
            what = "x[mask]" if name == "getitem" else name
            msg = (
                f"{user_line()}: the shape of what {what} gives depends on values, and a program has fixed shapes; use "
                "anynet.where, or do it outside of the compiled function"
            )
            raise CompileError(msg)

    def check(self, function: Callable[..., Any], arrays: tuple[Any, ...], within: int | None) -> None:
        """Call a function that raises for invalid values, now and at each replay, before the replay changes anything. `within`: the bound
        that it checks indices against, if that is all it does."""
        function(*values_of(arrays))
        reads: list[TracedArray] = []
        collect(arrays, TracedArray, reads)
        if all(x.variable.root in self.constants for x in reads):
            return
        args: tuple[Any, ...] = (
            (function, *arrays) if within is None else (numpy_calls.within, *arrays, within, function)
        )
        self._append("check", getattr(function, "__name__", "check"), args)

    def call_opaque(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], held: tuple[Any, ...] = ()
    ) -> Any:
        """Call ``function(*args)`` now, and append it as one instruction, which no pass looks into; `held` as for `call`."""
        unique = f"{name}#{self.count}"
        self.functions[unique] = function
        return self.call(unique, args, {}, held)

    def update(self, name: str, target: TracedArray, other: Any) -> TracedArray:
        """``target op= other``, in place."""
        self._about_to_write(target)
        ufunc = self.functions[name]
        ufunc(target.value, values_of(other), out=target.value)
        self._written(self._append("update", name, (target, other)), target)
        return target

    def write(self, target: TracedArray, key: Any, value: Any) -> None:
        """``target[key] = value``."""
        self._about_to_write(target)
        target.value[values_of(key)] = values_of(value)
        self._written(self._append("write", "setitem", (target, key, value)), target)

    def _written(self, instruction: Instruction, target: TracedArray) -> None:
        instruction.writes = target.var
        self.written_at[target.variable.root] = len(self.instructions) - 1
        for x in self.constants.pop(target.variable.root, ()):  # not constant after all
            x.value = None

    def views(self, x: TracedArray) -> list[Callable[[Array], Array]] | None:
        """The functions that turn the array of an input into this view of it, one after the other; None where it is no view of an input."""
        made = {o.var: instruction for instruction in self.instructions for o in made_by(instruction)}
        found: list[Callable[[Array], Array]] = []
        var = x.var
        while var not in self.given:
            instruction = made.get(var)
            if (
                instruction is None
                or instruction.kind != "call"
                or len(instruction.reads) != 1
                or not isinstance(instruction.args[0], Variable)
            ):
                return None
            at = (
                None
                if isinstance(instruction.out, Variable)
                else [o.var for o in made_by(instruction)].index(var)
            )
            found.append(
                functools.partial(
                    _view, self.functions[instruction.name], instruction.args[1:], instruction.kwargs, at
                )
            )
            var = instruction.reads[0]
        return found[::-1]

    def random_bits(self, key: int, stream: int, step: int, n: int, device: str) -> TracedArray:
        """Random words. Those of the running stream of masks are other ones at each replay."""
        out = self.new(self.base.random_bits(key, stream, step, n, device))
        offset = step - self.step if key == self.seed and step >= self.step else None
        self._append("random", "random_bits", (key, stream, step, n, device, offset), {}, out)
        return out

    def host(self, function: Callable[[], Any], label: str, result: TracedArray | None = None) -> None:
        """A host callback: Python code that is called at this place of the program, and reads and writes arrays from outside."""
        self._append("host", label, (function,), {}, result)


def fingerprint(array: Array) -> int:
    """A number that is another one where the array's numbers are, but for one case in 2³²."""
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)


def _view(f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], at: int | None, array: Array) -> Array:
    made = f(array, *args, **kwargs)
    return made if at is None else made[at]


_SPAN: Final = 1 << 24  # bytes from the first to the last number of a view that is copied with its gaps


def _as_it_lies(array: Array) -> Array:
    """A copy that lies in memory as the array does, with the same gaps; an ordinary one of a reversed view, and of one with large gaps."""
    copy: Array = np.array(array)
    strides, itemsize = array.strides, array.itemsize
    if copy.strides == strides or not copy.size or min(strides) < 0 or any(s % itemsize for s in strides):
        return copy
    if span(array.shape, strides, itemsize) > _SPAN:
        return copy
    view = new_with_strides(array.shape, strides, array.dtype)
    view[...] = copy
    return view
