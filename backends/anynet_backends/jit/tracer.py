"""The third kind of array: it computes, and appends what it computed to a program that can be replayed.

A `Recorded` array holds a NumPy array. Every operation on it runs at once, on that array, and is noted as an
instruction. When the recording ends, `Recording.program` plans the instructions: each result gets its place in memory
once and for all (places are shared by results that are never needed at the same time), views of these places are made
once, and what is left is a flat list of NumPy calls that write into their places. Replaying it allocates nothing.

What a program refers to without having made it is captured by identity: the arrays of parameters and optimizers, which
change in place. What happens on the host between array operations (an optimizer's step, a schedule's) is an instruction
too.
"""

from __future__ import annotations

import copy
import functools
import sys
import types
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, NoReturn

import numpy as np

from anynet_backends import allocator, machine, onednn, standard
from anynet_backends.protocol import Array, Backend
from anynet_backends.results import axes_in_memory, fill, inverse, largest, smallest
from anynet_backends.sums import add_up
from anynet_backends.threads import PerThread, fork_safe_lock, in_forked_processes, once_property

__all__ = [
    "ACTIVE",
    "COMPILING",
    "RECORDER",
    "CompileError",
    "Notes",
    "Program",
    "Recorded",
    "RecorderBackend",
    "Recording",
    "aligned",
    "made_by",
    "owner",
    "refuse_reading",
    "shaped",
    "user_line",
]

ACTIVE: list[Recording] = []
"""The recording that is running, if one is (empty while it is paused)."""

COMPILING: PerThread[Recording] = PerThread()
"""The same, where it is one of a function of the user's: in the thread that runs it."""

RECORDER = fork_safe_lock()
"""Who records holds it: there is one recording at a time."""


def _forked() -> None:
    if not RECORDER._is_owned():  # type: ignore[attr-defined]
        ACTIVE.clear()


in_forked_processes(_forked)


class CompileError(RuntimeError):
    """Something in a compiled function cannot be replayed. The message names the line."""


_NOT_THE_USER: Final = frozenset(("anynet", "anynet_backends", "numpy", "contextlib", "functools", "copy"))


def user_line() -> str:
    """The innermost line outside of this package: where the user's code is."""
    frame = sys._getframe(1)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.partition(".")[0] not in _NOT_THE_USER:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back  # type: ignore[assignment]
    return "?"


def refuse_reading() -> NoReturn:
    """The error of who asks for a number while a program is recorded."""
    msg = (
        f"{user_line()}: a value was read inside a compiled function (bool, float, int, item, numpy, print, or a branch "
        "on it), where it is not a number but a place in a program. Return it and read it outside; use "
        "anynet.where for a choice"
    )
    raise CompileError(msg)


class Variable:
    """A place of a program: what instructions refer to. It knows the form of its array, and holds the array itself only
    where that is the program's for good (arguments, arrays from outside, constants)."""

    __slots__ = ("dtype", "nbytes", "ndim", "root", "shape", "size", "strides", "value", "var")

    def __init__(self, array: Array, var: int, root: int, held: bool) -> None:
        self.var = var
        self.root = root  # the variable in whose memory it lies
        self.value = array if held else None
        self.shape: tuple[int, ...] = array.shape
        self.strides: tuple[int, ...] = array.strides
        self.dtype = array.dtype
        self.ndim: int = array.ndim
        self.size: int = array.size
        self.nbytes: int = array.nbytes


class Recorded:
    """An array that is being recorded. It has the standard's attributes and operators."""

    __slots__ = ("recording", "value", "variable")
    __array_priority__ = 1000

    def __init__(self, value: Array, variable: Variable, recording: Recording) -> None:
        self.value = value
        self.variable = variable
        self.recording = recording

    @property
    def var(self) -> int:
        """The number of its variable."""
        return self.variable.var

    @property
    def shape(self) -> tuple[int, ...]:
        return self.value.shape  # type: ignore[no-any-return]

    @property
    def dtype(self) -> Any:
        return self.value.dtype

    @property
    def device(self) -> Any:
        return "cpu"

    @property
    def ndim(self) -> int:
        return self.value.ndim  # type: ignore[no-any-return]

    @property
    def size(self) -> int:
        return self.value.size  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        return self.value.nbytes  # type: ignore[no-any-return]

    @property
    def flags(self) -> Any:
        return self.value.flags

    @property
    def T(self) -> Recorded:
        return self.recording.call("transpose", (self,), {})  # type: ignore[no-any-return]

    @property
    def mT(self) -> Recorded:
        return self.recording.call("matrix_transpose", (self,), {})  # type: ignore[no-any-return]

    def conj(self) -> Recorded:
        """The conjugate; of real numbers the array itself."""
        return self if self.value.dtype.kind != "c" else self.recording.call("conj", (self,), {})

    def reshape(self, *shape: Any) -> Recorded:
        """As `numpy.ndarray.reshape`."""
        given = shape[0] if len(shape) == 1 and not isinstance(shape[0], int) else shape
        return self.recording.call("reshape", (self, tuple(given)), {})  # type: ignore[no-any-return]

    def __getitem__(self, key: Any) -> Recorded:
        return self.recording.call("getitem", (self, key), {})  # type: ignore[no-any-return]

    def __setitem__(self, key: Any, value: Any) -> None:
        self.recording.write(self, key, value)

    def _read(self) -> Array:
        """The numbers, where they are the same in every replay; else a CompileError."""
        if self.variable.root not in self.recording.constants:
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
        if (
            method == "__call__"
            and out is None
            and not options
            and ufunc.__name__ in self.recording.functions
        ):
            return self.recording.call(ufunc.__name__, inputs, {})
        what = "writes into an array that is not recorded" if out is not None else "is not recorded"
        msg = f"{user_line()}: numpy.{ufunc.__name__} inside a compiled function {what}; use the functions of anynet"
        raise CompileError(msg)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        refuse_reading()

    __dlpack__ = __dlpack_device__ = _refuse

    def __len__(self) -> int:
        return len(self.value)

    def __repr__(self) -> str:
        return f"Recorded({self.value.dtype}{self.value.shape})"

    __hash__ = None  # type: ignore[assignment]


def _operator(name: str) -> Callable[..., Any]:
    def forward(self: Recorded, other: Any) -> Any:
        return self.recording.call(name, (self, other), {})

    return forward


def _reflected(name: str) -> Callable[..., Any]:
    def backward(self: Recorded, other: Any) -> Any:
        return self.recording.call(name, (other, self), {})

    return backward


def _in_place(name: str) -> Callable[..., Any]:
    def update(self: Recorded, other: Any) -> Any:
        return self.recording.update(name, self, other)

    return update


_OPERATORS: Final = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide",
    "mod": "remainder", "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or",
    "xor": "bitwise_xor", "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
}  # fmt: skip
for _short, _name in _OPERATORS.items():
    _plain = (
        "power" if _short == "pow" else _name
    )  # NumPy's ** takes short cuts that its function pow does not
    setattr(Recorded, f"__{_short}__", _operator(_plain))
    setattr(Recorded, f"__r{_short}__", _reflected(_plain))
    setattr(Recorded, f"__i{_short}__", _in_place(_name))
for _short, _name in {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater",
                      "ge": "greater_equal"}.items():  # fmt: skip
    setattr(Recorded, f"__{_short}__", _operator(_name))
for _short, _name in {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert"}.items():
    setattr(Recorded, f"__{_short}__", (lambda n: lambda self: self.recording.call(n, (self,), {}))(_name))


_SHAPED_BY_VALUES: Final = frozenset(
    ("nonzero", "repeat", "unique_all", "unique_counts", "unique_inverse", "unique_values")
)
_CONSTANTS: Final = (bool, int, float, complex, str, slice, type(None), type(...), np.dtype)


class Instruction:
    """One call: what, with which arguments, in which variables stand for arrays, and what it gives. It holds no array
    that the function itself has let go."""

    __slots__ = ("args", "kind", "kwargs", "name", "out", "reads", "writes")

    def __init__(self, kind: str, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        self.kind = kind  # "call" | "update" | "write" | "host" | "random" | "check"
        self.name = name
        self.args = args = _swap(args, _variable)
        self.kwargs = kwargs = {k: _swap(v, _variable) for k, v in kwargs.items()}
        self.out: Variable | tuple[Variable, ...] | None = _swap(out, _variable)
        found: list[int] = []
        _variables(args, found)
        _variables(tuple(kwargs.values()), found)
        self.reads = found
        self.writes: int | None = None  # the variable that is changed in place


def made_by(note: Instruction) -> tuple[Variable, ...]:
    """The variables that it makes."""
    out = note.out
    return out if isinstance(out, tuple) else () if out is None else (out,)


def _variables(items: Iterable[Any], found: list[int]) -> None:
    for x in items:
        if isinstance(x, (Recorded, Variable)):
            found.append(x.var)
        elif isinstance(x, (tuple, list)):
            _variables(x, found)


def _arrays(items: Iterable[Any], found: list[Recorded]) -> None:
    for x in items:
        if isinstance(x, Recorded):
            found.append(x)
        elif isinstance(x, (tuple, list)):
            _arrays(x, found)


def _swap(item: Any, place: Callable[[Any], Any]) -> Any:
    if isinstance(item, (Recorded, Variable)):
        return place(item)
    if isinstance(item, tuple):
        return tuple(_swap(x, place) for x in item)
    return [_swap(x, place) for x in item] if isinstance(item, list) else item


def _value(x: Recorded) -> Any:
    return x.value


def _variable(x: Recorded) -> Variable:
    return x.variable


class Recording:
    """The instructions so far, and what they refer to."""

    def __init__(self, base: Backend, largest: int | None = None) -> None:
        """`largest`: bytes of an array, beyond which the recording is given up."""
        self.base = base
        self.largest = largest
        self.instructions: list[Instruction] = []
        self.count = 0
        self.captured: dict[int, Recorded] = {}  # by the identity of the array
        self.inputs: list[Recorded] = []
        self.given: dict[int, Array] = {}  # the arrays that the inputs are copies of
        self.outside: dict[int, Array] = {}  # the captured ones, by their variables
        self.changed: dict[int, str] = {}  # inputs that are written in place, and the line
        self.lines: dict[
            tuple[int, str], str
        ] = {}  # where an attribute was set: by the identity of its owner
        self.borrowed: set[int] = set()  # captured arrays that came as arrays, not as Tensors
        self.known: Callable[[Array], bool] = lambda array: True  # told of those: whether it was there before
        self.mode_asked = False  # whether it depends on whether gradients are recorded at its beginning
        self.constants: dict[int, list[Variable]] = {}  # that depend on nothing from outside, by their roots
        self.forgotten: set[int] = (
            set()
        )  # identities of leaves whose gradient was set to None: what it was is the same
        self.see: Callable[[Any], None] = lambda tensor: (
            None
        )  # told of Tensors from outside whose array is taken
        self.seed, self.step, self.draws = 0, 0, 0  # where the random numbers of the masks begin
        self.functions: dict[str, Callable[..., Any]] = {
            **{n: base.__dict__[n] for n in standard.FUNCTIONS if n in base.__dict__},
            "getitem": lambda x, key: x[key],
            "power": lambda x, y: x**y,
            "transpose": lambda x: x.transpose(),
            "windows": base.windows,
            "index_add": base.index_add,
            "arrange": base.arrange,
            "affine": base.affine,
        }
        for space in ("linalg", "fft"):
            for n, f in vars(getattr(base, space)).items():
                if callable(f):
                    self.functions[f"{space}.{n}"] = f

    def new(self, value: Any, reads: Iterable[Recorded] = (), held: bool = False) -> Recorded:
        """A variable. `reads`: what it was made from, whose memory it may share; `held`: its array is kept."""
        array = value if type(value) is np.ndarray else np.asarray(value)
        if self.largest is not None and array.nbytes > self.largest:
            msg = f"{user_line()}: an array of {array.nbytes} bytes is made"
            raise CompileError(msg)
        root = self.count
        if array.size:
            root = next((x.variable.root for x in reads if np.may_share_memory(array, x.value)), root)
        self.count += 1
        return Recorded(array, Variable(array, self.count - 1, root, held), self)

    def capture(self, array: Array) -> Recorded:
        """A variable that is an array from outside, which may change between replays, in place."""
        found = self.captured.get(id(array))
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

    def _about_to_write(self, target: Recorded) -> None:
        """Refuse to write where the program would not see what the function sees."""
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
        """After a call on the host: refuse what it has written into an argument."""
        for x in self.inputs:
            if x.var not in self.changed and self.given[x.var].tobytes() != x.value.tobytes():
                msg = (
                    f"{user_line()}: {label} writes into memory that it shares with an argument; pass a copy"
                )
                raise CompileError(msg)

    def constant(self, array: Array) -> Recorded:
        """An array that the function makes of Python's numbers: new at each replay."""
        return self.note("constant", array.copy, ())  # type: ignore[no-any-return]

    def input(self, array: Array) -> Recorded:
        """An argument of the function."""
        x = self.new(np.array(array), held=True)
        self.inputs.append(x)
        self.given[x.var] = array
        return x

    def call(
        self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any], held: tuple[Any, ...] = ()
    ) -> Any:
        """Compute now, and note it; `held`: what it reads besides."""
        args = tuple(self.capture(a) if type(a) is np.ndarray else a for a in args)
        self._fixed_shape(name, args, kwargs)
        f = self.functions[name]
        result = f(*_swap(args, _value), **{k: _swap(v, _value) for k, v in kwargs.items()})
        many = isinstance(result, tuple)
        if not many and not isinstance(result, (np.ndarray, np.generic)):
            return result
        reads: list[Recorded] = []
        _arrays((args, tuple(kwargs.values()), held), reads)
        constant = all(x.variable.root in self.constants for x in reads)
        outs = tuple([self.new(r, reads, constant) for r in (result if many else (result,))])
        if constant:
            for x in outs:
                self.constants.setdefault(x.variable.root, []).append(x.variable)
        out = outs if many else outs[0]
        self.instructions.append(Instruction("call", name, args, kwargs, out))
        _variables(held, self.instructions[-1].reads)
        return out

    def _fixed_shape(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Refuse what gives an array whose shape depends on numbers that differ between replays."""
        if name in _SHAPED_BY_VALUES:
            deciding: list[Recorded] = []
            _arrays((args, tuple(kwargs.values())), deciding)
            if name == "repeat":  # by the counts alone
                deciding = [x for x in deciding if x is not args[0]]
        elif name == "getitem":
            keys = args[1] if isinstance(args[1], tuple) else (args[1],)
            deciding = [k for k in keys if isinstance(k, Recorded) and k.dtype == bool]
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
        """Call a function that refuses values by an error, now and at each replay, before that changes anything."""
        function(*_swap(arrays, _value))
        reads: list[Recorded] = []
        _arrays(arrays, reads)
        if all(x.variable.root in self.constants for x in reads):
            return
        args: tuple[Any, ...] = (
            (function, *arrays) if within is None else (machine.within, *arrays, within, function)
        )
        self.instructions.append(Instruction("check", getattr(function, "__name__", "check"), args, {}, None))

    def note(
        self, name: str, function: Callable[..., Any], args: tuple[Any, ...], held: tuple[Any, ...] = ()
    ) -> Any:
        """Compute ``function(*args)`` now, and note it as one instruction; `held`: what it reads besides."""
        unique = f"{name}#{self.count}"
        self.functions[unique] = function
        return self.call(unique, args, {}, held)

    def update(self, name: str, target: Recorded, other: Any) -> Recorded:
        """``target op= other``, in place."""
        self._about_to_write(target)
        ufunc = self.functions[name]
        ufunc(target.value, _swap(other, _value), out=target.value)
        note = Instruction("update", name, (target, other), {}, None)
        self._written(note, target)
        return target

    def write(self, target: Recorded, key: Any, value: Any) -> None:
        """``target[key] = value``."""
        self._about_to_write(target)
        target.value[_swap(key, _value)] = _swap(value, _value)
        note = Instruction("write", "setitem", (target, key, value), {}, None)
        self._written(note, target)

    def _written(self, note: Instruction, target: Recorded) -> None:
        note.writes = target.var
        self.instructions.append(note)
        for x in self.constants.pop(target.variable.root, ()):  # not constant after all
            x.value = None

    def views(self, x: Recorded) -> list[Callable[[Array], Array]] | None:
        """What makes a view of an input from the input's array, step by step; None for what is no such chain."""
        made = {o.var: note for note in self.instructions for o in made_by(note)}
        found: list[Callable[[Array], Array]] = []
        var = x.var
        while var not in self.given:
            note = made.get(var)
            if (
                note is None
                or note.kind != "call"
                or len(note.reads) != 1
                or not isinstance(note.args[0], Variable)
            ):
                return None
            at = None if isinstance(note.out, Variable) else [o.var for o in made_by(note)].index(var)
            found.append(functools.partial(_view, self.functions[note.name], note.args[1:], note.kwargs, at))
            var = note.reads[0]
        return found[::-1]

    def random_bits(self, key: int, stream: int, step: int, n: int, device: str) -> Recorded:
        """Random words; those of the running stream of masks move on at each replay."""
        out = self.new(self.base.random_bits(key, stream, step, n, device))
        offset = step - self.step if key == self.seed and step >= self.step else None
        self.instructions.append(
            Instruction("random", "random_bits", (key, stream, step, n, device, offset), {}, out)
        )
        return out

    def host(self, function: Callable[[], Any], label: str, result: Recorded | None = None) -> None:
        """A call of Python code at this place of the program; it reads and writes arrays from outside."""
        self.instructions.append(Instruction("host", label, (function,), {}, result))


class Notes:
    """Instructions to be carried out as they are, with new arrays for all results: what of a recording that takes."""

    def __init__(self, recording: Recording, given: Sequence[Recorded], outputs: Sequence[Recorded]) -> None:
        self.notes = [copy.copy(note) for note in recording.instructions]
        self.functions = {
            n.name: recording.functions[n.name] for n in self.notes if n.name in recording.functions
        }
        self.captured = {x.var: x.value for x in recording.captured.values()}
        self.given = [x.var for x in given]
        self.outputs = [x.variable for x in outputs]

    def __call__(self, *given: Array) -> list[Array]:
        arrays = self.captured | dict(zip(self.given, given, strict=True))

        def place(x: Variable) -> Any:
            return arrays.get(x.var, x.value)

        for note in self.notes:
            args, f = _swap(note.args, place), self.functions.get(note.name)
            if note.kind == "check":
                args[0](*args[1:])
            elif note.kind == "write":
                args[0][args[1]] = args[2]
            elif note.kind == "update":
                f(*args, out=args[0])  # type: ignore[misc]
            else:
                result = f(*args, **{k: _swap(v, place) for k, v in note.kwargs.items()})  # type: ignore[misc]
                many = result if isinstance(note.out, tuple) else (result,)
                for out, array in zip(made_by(note), many, strict=True):
                    arrays[out.var] = np.asarray(array)
        return [place(o) for o in self.outputs]


class RecorderBackend(Backend):
    """The namespace of Recorded arrays over NumPy. Its name is NumPy's, so that NumPy's kernels are recorded too."""

    eager = False

    def __init__(self, base: Backend) -> None:
        table = dict(base.__dict__)
        super().__init__(base.name, table, (Recorded,), native=base.native)
        self.base = base
        self.native_dtype = base.native_dtype
        self._dtype_names = base._dtype_names
        mine = self.__dict__
        for name in standard.FUNCTIONS:
            if name in mine and name not in (
                "can_cast",
                "finfo",
                "iinfo",
                "isdtype",
                "result_type",
                "broadcast_shapes",
            ):
                mine[name] = self._recorded(name, mine[name])
        mine["result_type"] = lambda *a: base.result_type(*_swap(a, _value))
        mine["can_cast"] = lambda a, b: base.can_cast(_swap(a, _value), b)
        mine["finfo"] = lambda a: base.finfo(_swap(a, _value))
        mine["iinfo"] = lambda a: base.iinfo(_swap(a, _value))
        mine["asarray"] = self._asarray
        self.kernels = {name: self.opaque(name, kernel) for name, kernel in base.kernels.items()}
        for space in ("linalg", "fft"):
            members = vars(getattr(base, space))
            mine[space] = types.SimpleNamespace(
                **{n: self._recorded(f"{space}.{n}", f) if callable(f) else f for n, f in members.items()}
            )

    def _recorded(self, name: str, base: Callable[..., Any]) -> Callable[..., Any]:
        def function(*args: Any, **kwargs: Any) -> Any:
            if not ACTIVE:
                return base(*args, **kwargs)
            return ACTIVE[-1].call(name, args, kwargs)

        return function

    def opaque(self, name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
        """A kernel of NumPy's as one instruction, and one for its gradients, which use what the first has kept."""
        base = self.base

        def run(xp: Any, *args: Any, need: Any = None, **meta: Any) -> Any:
            recording = ACTIVE[-1]
            kept: list[Any] = [None]  # of a replay
            asked, left = (
                0,
                0,
            )  # how many gradients the program takes, and how many of them are to come in this replay

            def forward(*values: Any) -> Any:
                nonlocal left
                kept[0], left = None, asked
                y = kernel(base, *values, need=need, **meta)
                if need is None or y is NotImplemented:
                    return y
                y, kept[0] = y
                return y

            forward.keeps = need is not None  # type: ignore[attr-defined]
            first = getattr(kernel, "first", kernel)
            if need is None and hasattr(first, "calls"):
                forward.calls = functools.partial(first.calls, **meta)  # type: ignore[attr-defined]
            y = recording.note(name, forward, args)
            if need is None or y is NotImplemented:
                return y
            now, kept[0] = kept[0], None  # lives as long as `pull` does, which the tape lets go
            many = isinstance(y, tuple)
            held = (*args, *(y if many else (y,)))

            def pull(g: Any) -> tuple[Any, ...]:
                present: list[bool] = []

                nonlocal asked
                asked += 1

                def backward(*gs: Any) -> Any:
                    nonlocal left
                    got = kept[0](gs if many else gs[0])
                    left -= 1
                    if left == 0:  # nobody asks again
                        kept[0] = None
                    present[:] = [x is not None for x in got]
                    return tuple(x for x in got if x is not None)

                kept[0] = now
                made = iter(recording.note(f"{name}'", backward, g if many else (g,), held))
                kept[0] = None
                return tuple(next(made) if there else None for there in present)

            return y, pull

        run.vjp = True  # type: ignore[attr-defined]
        run.__dict__.update(
            {k: v for k, v in vars(kernel).items() if k.startswith("least_")}
        )  # what it is worth using for
        return run

    def _asarray(self, x: Any, /, *, dtype: Any = None, device: Any = None, copy: bool | None = None) -> Any:
        if isinstance(x, Recorded):
            if not copy and (dtype is None or x.dtype == dtype):
                return x
            return x.recording.call("astype", (x, x.dtype if dtype is None else dtype), {"copy": True})
        return ACTIVE[-1].capture(self.base.asarray(x, dtype=dtype, copy=copy)) if ACTIVE else x

    def device_of(self, array: Array) -> str:
        return "cpu"

    def native_device(self, name: str) -> Any:
        return "cpu"

    def canonical_device(self, name: str) -> str:
        return self.base.canonical_device(name)

    def devices(self) -> list[str]:
        return ["cpu"]

    def from_host(self, array: Array, device: str) -> Array:
        return self.base.from_host(array, device)

    def to_host(self, array: Array) -> Array:
        return array._read().copy() if isinstance(array, Recorded) else array

    def random_bits(self, key: int, stream: int, step: int, n: int, device: str) -> Array:
        return ACTIVE[-1].random_bits(key, stream, step, n, device)

    def index_add(self, x: Array, index: Array, values: Array) -> Array:
        return ACTIVE[-1].call("index_add", (x, index, values), {})

    def windows(self, x: Array, kernel: Any, stride: Any, dilation: Any) -> Array:
        return ACTIVE[-1].call("windows", (x, kernel, stride, dilation), {})

    def arrange(self, array: Array, like: Array) -> Array:
        if not ACTIVE:
            return array
        return ACTIVE[-1].call("arrange", (array, like), {})

    def affine(self, a: Array, b: Array, c: Array, /) -> Array:
        return ACTIVE[-1].call("affine", (a, b, c), {}) if ACTIVE else self.base.affine(a, b, c)

    def errstate(self) -> Any:
        return self.base.errstate()

    def check(self, function: Callable[..., None], *arrays: Array, within: int | None = None) -> None:
        if ACTIVE:
            ACTIVE[-1].check(function, arrays, within)
        else:
            self.base.check(function, *arrays, within=within)

    def target(self, array: Array) -> Array:
        return array if isinstance(array, Recorded) or array is None else ACTIVE[-1].capture(array)

    def store(self, array: Array, value: Any) -> Array:
        target = self.target(array)
        target[...] = value
        return target


# ----- planning -----

_REDUCE: Final = {"sum": np.add, "prod": np.multiply, "max": np.maximum, "min": np.minimum,
                  "all": np.logical_and, "any": np.logical_or}  # fmt: skip


class _Function(NamedTuple):
    """A program as the code of a function: see `anynet_backends.builtins.Plan`."""

    rows: list[machine.Row]
    arguments: list[Array]
    results: list[Array]
    gives: list[int]


class _Place:
    """How long the memory of a result is needed: from which instruction to which."""

    __slots__ = ("first", "last")

    def __init__(self, first: int) -> None:
        self.first = first
        self.last = first


callers: PerThread[Callable[[str, Callable[..., Any], tuple[Any, ...]], None]] = PerThread()
"""Who makes the calls of a program, given the name of each instruction (profiling)."""


class Program:
    """A recording, planned: `run` replays it."""

    def __init__(
        self, recording: Recording, recorded: list[Recorded], *, scratch: Array | None = None
    ) -> None:
        """`scratch`: memory for all that lives only within a run."""
        self.recording = recording
        self.scratch = scratch
        outputs = [x.variable for x in recorded]
        self.seed = self.step = 0
        self.draws = recording.draws
        self.arrays: dict[int, Array] = {}  # variable → its array, for good
        self.text: list[str] = []
        self.peak = 0
        self.straight: dict[
            int, int
        ] = {}  # results that are written into arrays from outside at once, and which
        self.own: set[int] = set()  # the variables whose arrays are results and nothing else
        self.root = self._roots(recording.instructions)
        notes, outputs = self._shared(recording.instructions, outputs)
        self.outputs = outputs
        self.notes = live = self._checks_first(self._live(notes, outputs))
        self._plan(live, outputs)
        self.puts = [x.value.__setitem__ for x in recording.inputs]  # half the time of np.copyto
        self.results = [self.arrays[o.var] for o in outputs]
        # what lies in an array from outside is given as it lies there, the rest as copies
        self.live = [self.root[o.var] in recording.outside for o in outputs]
        self.recorded = len(recording.instructions)
        recording.instructions.clear()
        if scratch is None:
            allocator.give_back()

    # ----- what is needed -----

    def _live(self, notes: list[Instruction], outputs: list[Variable]) -> list[Instruction]:
        """Without what nobody reads. A write into a variable counts where the variable, or one it is a view of, is
        needed."""
        root = self.root
        outside = {root[x.var] for x in self.recording.captured.values()}
        needed = {root[o.var] for o in outputs} | outside | self.recording.changed.keys()
        keep: list[Instruction] = []
        for note in reversed(notes):
            outs = made_by(note)
            wanted = (
                note.kind in ("host", "check")
                or (note.writes is not None and root[note.writes] in needed)
                or any(o.var in needed or root[o.var] in needed for o in outs)
            )
            if wanted:
                keep.append(note)
                needed.update(note.reads)
                needed.update(root[v] for v in note.reads)
        return keep[::-1]

    def _checks_first(self, notes: list[Instruction]) -> list[Instruction]:
        """Checks with what they look at before all else, where that depends on nothing that is written or drawn: what they
        refuse then leaves everything as it was."""
        root = self.root
        made = {o.var: at for at, note in enumerate(notes) for o in made_by(note)}
        written = {root[note.writes] for note in notes if note.writes is not None}
        host = next((at for at, note in enumerate(notes) if note.kind == "host"), len(notes))
        front: set[int] = set()
        for at, note in enumerate(notes):
            if note.kind != "check":
                continue
            needed, todo = set(front), [at]
            while todo:
                i = todo.pop()
                if i in needed:
                    continue
                needed.add(i)
                reads = notes[i].reads
                outside = any(v not in made for v in reads)
                if notes[i].kind not in ("call", "check") or (outside and i > host):
                    break
                if any(root[v] in written for v in reads):
                    break
                todo += [made[v] for v in reads if v in made]
            else:
                front = needed
        return [notes[i] for i in sorted(front)] + [n for i, n in enumerate(notes) if i not in front]

    def _shared(
        self, notes: list[Instruction], outputs: list[Variable]
    ) -> tuple[list[Instruction], list[Variable]]:
        """The instructions without those that compute again, from the same values, what is there already."""
        root = self.root
        written = {root[note.writes] for note in notes if note.writes is not None}
        version: dict[int, int] = {}
        known: dict[Any, Variable] = {}
        same: dict[int, Variable] = {}

        def first(x: Variable) -> Variable:
            return same.get(x.var, x)

        def key(item: Any) -> Any:
            if isinstance(item, Variable):
                return "array", item.var, version.get(root[item.var], 0)
            if isinstance(item, (tuple, list)):
                return type(item), tuple(map(key, item))
            return (type(item), repr(item)) if isinstance(item, _CONSTANTS) else id(item)

        keep: list[Instruction] = []
        for note in notes:
            if same:
                note.args = _swap(note.args, first)
                note.kwargs = {k: _swap(v, first) for k, v in note.kwargs.items()}
                note.reads = [same[v].var if v in same else v for v in note.reads]
            out = note.out
            if note.kind == "host":
                known.clear()  # it may write whatever it holds
            elif note.kind != "call" and note.writes is not None:
                version[root[note.writes]] = version.get(root[note.writes], 0) + 1
            elif note.kind == "call" and isinstance(out, Variable) and "#" not in note.name:
                if root[out.var] == out.var and out.var not in written:
                    before = known.setdefault(
                        (note.name, key(note.args), key(tuple(sorted(note.kwargs.items())))), out
                    )
                    if before is not out:
                        same[out.var] = before
                        continue
            keep.append(note)
        for var, owner in root.items():
            if owner in same:
                root[var] = same[owner].var
        return keep, [first(o) for o in outputs]

    def _roots(self, notes: list[Instruction]) -> dict[int, int]:
        """For each variable the one in whose memory it lies."""
        found = {x.var: x.variable.root for x in (*self.recording.captured.values(), *self.recording.inputs)}
        for note in notes:
            for o in made_by(note):
                found[o.var] = o.root
        return found

    # ----- where it goes -----

    def _plan(self, notes: list[Instruction], outputs: list[Variable]) -> None:
        root = self.root
        forms: dict[int, Variable] = {}
        places: dict[int, _Place] = {}
        constants: set[int] = set()
        fixed = {x.var for x in (*self.recording.captured.values(), *self.recording.inputs)}
        for x in self.recording.captured.values():
            self.arrays[x.var] = x.value
        for x in self.recording.inputs:
            self.arrays[x.var] = x.value
        written = {root[note.writes] for note in notes if note.writes is not None}
        made = {o.var: o for note in notes for o in made_by(note)}
        for r in {root[o.var] for o in outputs}.intersection(made):  # results share their memory with nothing
            fixed.add(r)
            self.own.add(r)
            self.arrays[r] = shaped(aligned(made[r].nbytes), made[r])
        rest: list[Instruction] = []
        for note in notes:  # what depends on nothing is computed once
            outs = made_by(note)
            constant = note.kind == "call" and all(v in constants for v in note.reads)
            if constant and not any(root[o.var] in written for o in outs):
                for o in outs:
                    constants.add(o.var)
                    fixed.add(root[o.var])
                    self.own.discard(root[o.var])
                    self.arrays[o.var] = o.value
            else:
                rest.append(note)
        notes = self._straight(rest, fixed)
        self.hazards = self._hazards(notes)
        end = len(notes)
        for at, note in enumerate(notes):
            for o in made_by(note):
                forms[o.var] = o
            touched = list(note.reads)
            for o in made_by(note):
                touched.append(o.var)
            for v in touched:
                r = root[v]
                if r in fixed:
                    continue
                place = places.setdefault(r, _Place(at))
                place.last = max(place.last, at)
        for o in outputs:
            if root[o.var] in places:
                places[root[o.var]].last = end
        self._allocate(places, forms)
        code: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
        self.labels: list[str] = []  # of the calls: which instruction each belongs to
        memory: list[tuple[tuple[Array, ...], tuple[Array, ...]]] = []  # what each call reads and writes
        outside = tuple(x.value for x in self.recording.captured.values())
        outside += tuple(x.value for x in self.recording.inputs if x.var in self.recording.changed)
        for note in notes:
            self._lower(note, code)
            new = len(code) - len(self.labels)
            self.labels += [note.name.partition("#")[0]] * new
            outs = made_by(note)
            writes = tuple(self.arrays[o.var] for o in outs)
            reads = tuple(self.arrays[v] for v in note.reads)
            if note.kind == "host":
                reads += outside
            if new > 1:  # the later calls of an instruction read what the first wrote
                reads += writes
            memory += [(reads, writes)] * new
        self.code = code
        self.calls = [machine.Call(f, args, *t) for (f, args), t in zip(code, memory, strict=True)]
        self.kept = (*outside, *(self.arrays[o.var] for o in outputs))

    def _straight(self, notes: list[Instruction], fixed: set[int]) -> list[Instruction]:
        """Without the copies of results into arrays from outside: what is read nowhere else is written there at once.
        Gradients are, into an optimizer's buffer."""
        root, outside = self.root, {x.var: x for x in self.recording.captured.values()}
        made = {o.var: at for at, note in enumerate(notes) if note.kind == "call" for o in made_by(note)}
        readers: dict[int, list[int]] = {}
        for at, note in enumerate(notes):
            for v in {root[v] for v in note.reads}:
                readers.setdefault(v, []).append(at)
        changed = {root[note.writes] for note in notes if note.writes is not None}
        names: dict[int, str] = getattr(self.recording, "names", {})
        gone: set[int] = set()
        for at, note in enumerate(notes):
            if note.kind != "write":
                continue
            target, key, value = note.args
            if not isinstance(value, Variable) or target.var not in outside or not _is_basic(key):
                continue
            v, view = value.var, outside[target.var].value[key]
            if v not in made or v in fixed or v in changed or root[v] != v or readers[v] != [at]:
                continue
            form = value.shape, value.strides, value.dtype
            if not isinstance(view, np.ndarray) or (view.shape, view.strides, view.dtype) != form:
                continue
            same = {x.var for x in outside.values() if np.may_share_memory(x.value, view)}
            if any(self._touches(n, same) for n in notes[made[v] : at]):
                continue
            self.arrays[v] = view
            self.straight[v] = target.var
            fixed.add(v)
            gone.add(at)
            names[v] = f"{self._name(target)}[{self._show(key)}]"
        return [note for at, note in enumerate(notes) if at not in gone]

    def _hazards(self, notes: list[Instruction]) -> list[Array]:
        """Arrays that no argument may share memory with, since an argument is read after these are written, or written
        itself: the program has copies of its arguments."""
        outside = self.recording.outside
        if self.recording.changed:
            return list(outside.values())
        inputs = {x.var for x in self.recording.inputs}
        written: set[int] = set()
        found: set[int] = set()
        for note in notes:
            if written and any(self.root[v] in inputs for v in note.reads):
                found |= written
            written |= {self.straight[o.var] for o in made_by(note) if o.var in self.straight}
            if note.kind == "host":
                written |= outside.keys()
            elif note.writes is not None and self.root[note.writes] in outside:
                written.add(self.root[note.writes])
        return [outside[v] for v in sorted(found)]

    def _touches(self, note: Instruction, roots: set[int]) -> bool:
        """Whether an instruction reads or writes memory of these arrays from outside, or may."""
        used = [*note.reads, *([] if note.writes is None else [note.writes])]
        return note.kind == "host" or any(self.root[v] in roots for v in used)

    @once_property
    def segments(self) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
        """The calls, with machine code in place of what it can do."""
        return machine.translate(self.calls, self.kept) if machine.available() else self.code

    @once_property
    def fast(self) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
        """The calls of a replay."""
        return [(f.run if isinstance(f, machine.Segment) else f, args) for f, args in self.segments]

    def function(self, wanted: Sequence[Any]) -> _Function | None:
        """What a built-in function of the arguments needs; None where the program is more than machine code, where it
        writes into arrays that are not its own (the function may have to be done again), or where what it gives is no
        whole array of its own or an argument. `wanted` has None where it gives nothing."""
        written = {self.root[note.writes] for note in self.notes if note.writes is not None}
        given = [x.variable for x in self.recording.inputs]
        outside = (x.var for x in (*self.recording.inputs, *self.recording.captured.values()))
        if not machine.available() or not written.isdisjoint(outside):
            return None
        segments = machine.translate(self.calls, self.kept)
        own_rows = [f.rows if isinstance(f, machine.Segment) else None for f, _ in segments]
        if None in own_rows:
            return None
        places = {x.var: i for i, x in enumerate(given)}  # of arguments and results, by their variables
        roots: set[int] = set()
        results: list[Array] = []
        slots: list[int] = []
        variables = iter(self.outputs)
        for x in wanted:
            out = None if x is None else next(variables)
            if out is not None and out.var not in places:
                root, array = self.root[out.var], self.arrays[out.var]
                own = self.arrays[root]
                whole = array.nbytes == own.nbytes and machine.address(array) == machine.address(own)
                if root in places or root in roots or root not in self.own or not whole or not array.nbytes:
                    return None
                roots.add(root)
                places[out.var] = len(given) + len(results)
                results.append(array)
            slots.append(-1 if out is None else places[out.var])
        rows = [row for some in own_rows for row in some or ()]
        return _Function(rows, [x.value for x in self.recording.inputs], results, slots) if rows else None

    def _allocate(self, places: dict[int, _Place], forms: dict[int, Variable]) -> None:
        """Greedy: each result takes the smallest free block that is large enough, or a new one."""
        free: list[tuple[int, Array]] = []
        busy: list[tuple[int, int, Array]] = []
        total = 0
        for r, place in sorted(places.items(), key=lambda item: item[1].first):
            value = forms[r]
            size = max(-(-value.nbytes // 64) * 64, 64)
            still: list[tuple[int, int, Array]] = []
            for last, n, block in busy:
                if last < place.first:
                    free.append((n, block))
                else:
                    still.append((last, n, block))
            busy = still
            fit = min(
                (i for i, (n, _) in enumerate(free) if size <= n <= 4 * size),
                key=lambda i: free[i][0],
                default=None,
            )
            if fit is None:
                block = aligned(size) if self.scratch is None else self.scratch[total : total + size]
                if len(block) < size:
                    msg = f"{total + size} bytes of scratch memory are needed, there are {len(self.scratch)}"  # type: ignore[arg-type]
                    raise CompileError(msg)
                total += size
                n = size
            else:
                n, block = free.pop(fit)
            busy.append((place.last, n, block))
            self.arrays[r] = shaped(block, value)
        self.peak = total

    def _lower(self, note: Instruction, code: list[tuple[Callable[..., Any], tuple[Any, ...]]]) -> None:
        arrays = self.arrays

        def place(x: Variable) -> Array:
            return arrays[x.var]

        if note.kind == "host":
            if note.out is None:
                code.append((note.args[0], ()))
            else:
                target, function = arrays[note.out.var], note.args[0]  # type: ignore[union-attr]
                code.append((_host_into, (target, function)))
            self._say(f"{note.name}()")
            return
        if note.kind == "check":
            code.append((note.args[0], _swap(note.args[1:], place)))
            self._say(
                f"{note.name}({', '.join(self._show(x) for x in note.args[1:] if isinstance(x, Variable))})"
            )
            return
        if note.kind == "random":
            key, stream, step, n, device, offset = note.args
            target = arrays[note.out.var]  # type: ignore[union-attr]
            code.append((self._draw, (target, key, stream, step, n, device, offset)))
            self._say(f"{self._name(note.out)} = random_bits({n})")  # type: ignore[arg-type]
            return
        if note.kind == "update":
            target, other = note.args
            a = place(target)
            code.append(
                (
                    _POSITIONAL.get(note.name) or getattr(np, note.name),
                    (a, _scalar(_swap(other, place), a), a),
                )
            )
            self._say(f"{self._name(target)} {note.name}= {self._show(other)}")
            return
        if note.kind == "write":
            target, key, value = note.args
            a, k, v = place(target), _swap(key, place), _swap(value, place)
            if _is_basic(k) and isinstance(a[k], np.ndarray):
                code.append((np.copyto, (a[k], v, "unsafe")))
            elif _is_pair(a, k):
                code.append((machine.scatter, (a, *k, v)))
            elif isinstance(k, np.ndarray) and k.dtype == bool and k.shape == a.shape and not np.ndim(v):
                code.append((machine.set_where, (a, k, v)))
            else:
                code.append((a.__setitem__, (k, v)))
            self._say(f"{self._name(target)}[{self._show(key)}] = {self._show(value)}")
            return
        out = note.out
        args = _swap(note.args, place)
        kwargs = {k: _swap(v, place) for k, v in note.kwargs.items()}
        f = self.recording.functions[note.name]
        if isinstance(out, tuple):
            if all(self.root[o.var] != o.var for o in out):  # views of places: made once
                for o, view in zip(out, f(*args, **kwargs), strict=True):
                    arrays[o.var] = view
                self._say(
                    f"{', '.join(map(self._name, out))} = {note.name}({self._show(note.args)})  (views)"
                )
                return
            targets = tuple(arrays[o.var] for o in out)
            code.append((fill, (targets, f, args, kwargs)))
            self._say(f"{', '.join(self._name(o) for o in out)} = {note.name}({self._show(note.args)})")
            return
        assert out is not None
        r = self.root[out.var]
        if r != out.var:  # a view of a place: made once
            view = f(*args, **kwargs)
            if np.shares_memory(view, arrays[r]):
                arrays[out.var] = view
                self._say(f"{self._name(out)} = {note.name}({self._show(note.args)})  (a view)")
                return
            arrays[out.var] = np.empty_like(view)
            self.peak += view.nbytes
        target = arrays[out.var]
        made = f.calls(target, *args) if hasattr(f, "calls") else None
        code.extend(_calls(note.name, f, args, kwargs, target) if made is None else made)
        self._say(f"{self._name(out)} = {note.name}({self._show(note.args)})")

    def _draw(
        self, target: Array, key: int, stream: int, step: int, n: int, device: str, offset: int | None
    ) -> None:
        if offset is not None:
            key, step = self.seed, self.step + offset
        target[...] = self.recording.base.random_bits(key, stream, step, n, device)

    def run(self, inputs: list[Array], seed: int = 0, step: int = 0) -> list[Array]:
        """Replay; the results are fresh copies, but for those that lie in arrays from outside."""
        self.seed, self.step = seed, step
        for put, new in zip(self.puts, inputs):  # noqa: B905 - equal by construction
            put(..., new)
        if callers and callers.own:
            for label, (f, args) in zip(self.labels, self.code, strict=True):
                callers.own[-1](label, f, args)
        else:
            for f, args in self.fast:
                f(*args)
        return [r if live else r.copy() for r, live in zip(self.results, self.live)]  # noqa: B905 - equal by construction

    # ----- to read -----

    def _name(self, x: Variable) -> str:
        names: dict[int, str] = getattr(self.recording, "names", {})
        return names.get(x.var, f"%{x.var}")

    def _show(self, item: Any) -> str:
        if isinstance(item, Variable):
            return self._name(item)
        if isinstance(item, (tuple, list)):
            return ", ".join(self._show(x) for x in item)
        return repr(item) if not isinstance(item, np.ndarray) else f"array{item.shape}"

    def _say(self, line: str) -> None:
        self.text.append(line)

    def __str__(self) -> str:
        head = (
            f"program of {len(self.text)} instructions, {len(self.code)} calls{machine.summary(self.segments)}, "
            f"{self.peak / 1024:.0f} KiB of memory; recorded {self.recorded}"
        )
        return "\n".join([head, *(f"  {line}" for line in self.text)])


def _joined(
    arrays: Sequence[Array], axis: int, out: Array, new: bool
) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """The copies that join arrays along an axis, `new` or not."""
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]] = []
    start = 0
    for x in arrays:
        stop = start + (1 if new else x.shape[axis])
        part = out[(slice(None),) * axis + (start if new else slice(start, stop), ...)]
        calls.append((np.copyto, (part, x, "unsafe")))
        start = stop
    return calls


def _host_into(target: Array, function: Callable[[], Array]) -> None:
    target[...] = function()


def _into(target: Array, f: Any, args: Any, kwargs: Any) -> None:
    fill((target,), f, args, kwargs)


def _view(f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], at: int | None, array: Array) -> Array:
    made = f(array, *args, **kwargs)
    return made if at is None else made[at]


def owner(array: Any) -> Any:
    """The object whose memory an array is a part of."""
    while getattr(array, "base", None) is not None:
        array = array.base
    return array


def aligned(size: int) -> Array:
    """Bytes at a multiple of 64: a cache line, and what vector instructions like."""
    raw = np.empty(size + 64, dtype=np.uint8)
    start = -raw.ctypes.data % 64
    return raw[start : start + size]


def shaped(block: Array, like: Variable) -> Array:
    """A part of a block as an array in the shape, dtype and memory order of another."""
    order = axes_in_memory(like.strides)
    inner = tuple(like.shape[i] for i in order)
    flat = block[: like.nbytes].view(like.dtype) if like.nbytes else np.empty(0, like.dtype)
    array = flat.reshape(inner)
    return array.transpose(inverse(order)) if like.ndim > 1 else array


_POSITIONAL: Final = {"maximum": largest, "minimum": smallest}


def _is_basic(key: Any) -> bool:
    keys = key if isinstance(key, tuple) else (key,)
    return all(k is None or k is ... or isinstance(k, (int, slice)) for k in keys)


def _is_pair(x: Any, key: Any) -> bool:
    """Whether a key picks numbers of a matrix by two lists of indices."""
    return (
        isinstance(x, np.ndarray)
        and x.ndim == 2
        and isinstance(key, tuple)
        and len(key) == 2
        and all(isinstance(k, np.ndarray) and k.ndim == 1 and k.dtype.kind == "i" for k in key)
    )


def _scalar(x: Any, like: Array) -> Any:
    """A Python number as an array of the other's dtype, which NumPy need not convert at each call."""
    if type(x) in (int, float) and like.dtype.kind == "f":
        return np.asarray(x, dtype=like.dtype)
    return x


def _calls(
    name: str, f: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Array
) -> list[tuple[Callable[..., Any], tuple[Any, ...]]]:
    """The NumPy calls, all arguments positional, that write ``f(*args, **kwargs)`` into `out`."""
    if name in ("matmul", "affine") and not kwargs:
        a, b, *c = args
        if f in (onednn.matmul, onednn.affine) and onednn.product(out, a, b, *c) is not None:
            return [(f, (*args, out))]
        plain = out.flags.c_contiguous and a.ndim == 2 == b.ndim and min(*a.shape, *b.shape) > 1
        # np.dot is the same product for less
        return [(np.dot if plain else np.matmul, (a, b, out)), *((np.add, (out, x, out)) for x in c)]
    ufunc = getattr(np, name, None)
    if isinstance(ufunc, np.ufunc) and not kwargs and getattr(f, "ufunc", f) is ufunc:
        arrays = [a for a in args if isinstance(a, np.ndarray)]
        if len(arrays) and len(args) <= 2:
            args = tuple(_scalar(a, arrays[0]) for a in args) if name != "pow" else args
        return [(_POSITIONAL.get(name, ufunc), (*args, out))]
    x = args[0] if args else None
    axis = kwargs.get("axis")
    if name in _REDUCE and len(args) == 1 and kwargs.keys() <= {"axis", "keepdims", "dtype"}:
        reduce = add_up if name == "sum" else _REDUCE[name].reduce
        return [(reduce, (x, axis, kwargs.get("dtype"), out, kwargs.get("keepdims", False)))]
    if name == "mean" and x is not None and out.dtype.kind == "f" and out.size:
        n = np.asarray(x.size // out.size, dtype=out.dtype)
        return [
            (add_up, (x, axis, None, out, kwargs.get("keepdims", False))),
            (np.true_divide, (out, n, out)),
        ]
    if name == "power" and type(args[1]) in (int, float) and args[1] == 2 and out.dtype.kind == "f":
        return [(np.square, (x, out))]
    if name == "clip" and not kwargs and out.dtype.kind == "f" and x is not None and x.dtype == out.dtype:
        bounds = [(f, b) for f, b in zip((largest, smallest), args[1:], strict=False) if b is not None]
        if bounds and all(type(b) in (int, float) for _, b in bounds):
            return [(f, (x if i == 0 else out, b, out)) for i, (f, b) in enumerate(bounds)]
    if name in ("zeros", "zeros_like"):
        return [(out.fill, (0,))]
    if name in ("ones", "ones_like"):
        return [(out.fill, (1,))]
    if name in ("full", "full_like") and not isinstance(args[1], np.ndarray):
        return [(out.fill, (args[1],))]
    if name == "astype":
        return [(np.copyto, (out, x, "unsafe"))]
    if name in ("stack", "concat") and all(x.dtype == out.dtype for x in args[0]):
        axis = kwargs.get("axis", 0)
        if axis is not None:
            return _joined(args[0], axis % out.ndim, out, name == "stack")
    shaping = name in ("reshape", "broadcast_to", "expand_dims", "permute_dims", "squeeze")
    if (shaping or (name == "getitem" and _is_basic(args[1]))) and isinstance(x, np.ndarray):
        made = f(*args, **kwargs)
        if np.shares_memory(made, x):
            return [(np.copyto, (out, made))]
        if name == "reshape" and out.flags.c_contiguous:
            return [(np.copyto, (out.reshape(x.shape), x))]
    if name == "getitem" and _is_pair(x, args[1]):
        return [(machine.gather, (x, *args[1], out))]
    if name == "where" and not kwargs and len(args[0].shape) == out.ndim:  # a condition may be broadcast
        return [(machine.choose, (*args, out))]
    if name == "take" and "axis" in kwargs and len(args) == 2:
        return [(np.take, (x, args[1], axis, out, "raise"))]
    return [(_into, (out, f, args, kwargs))]
