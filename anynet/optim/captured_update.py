"""An optimizer's update as array code, whose numbers are others at each step: in a step that is captured as a graph they are read from
cells on the device.

While the stream is captured, `update` is given stand-ins for its arrays. A stand-in does what the array does, and where a number meets an
array the number is put into a cell, and the operation reads that. Before each launch the same code is run again on stand-ins without
arrays, for which nothing is computed: it gives the numbers of that step, one after the other. So what the code computes on the host
(powers of β, schedules, anything) may be any Python; where it does other operations than when it was captured, another graph is made.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from anynet_backends import Array, Backend
from anynet_backends.jit.errors import CaptureError, CompileError

__all__ = ["ArrayCode", "OtherCodeError"]

_NUMBERED: Final = frozenset((
    "add", "subtract", "multiply", "divide", "maximum", "minimum", "where", "clip", "less", "less_equal", "greater", "greater_equal",
    "equal", "not_equal", "full_like", "setitem", "iadd", "isub", "imul", "itruediv",
))  # fmt: skip
"""Operations that read a number from an array without dimensions as they read it from the host, with the same bits. Other numbers (axes,
shapes, exponents, for which libraries have short cuts) are part of what the code does."""


class OtherCodeError(Exception):
    """The code does something else than when it was captured."""


class _Form(NamedTuple):
    """What is known of an array without its numbers."""

    shape: tuple[int, ...]
    dtype: Any


class _Call(NamedTuple):
    """An operation: its name, its arguments without arrays and numbers, what it gives, and of which types its numbers are."""

    name: str
    rest: Any
    made: tuple[_Form, ...]
    several: bool
    kinds: tuple[Any, ...]


_NUMBER: Final = object()
"""Stands for a number among the arguments of a call."""


class ArrayCode:
    """What a function does to some arrays, recorded once with `record`; `numbers` are those of another run."""

    def __init__(self, cell: Callable[[int, Any], Array]) -> None:
        """`cell`: gives for the number of a cell and a type an array without dimensions."""
        self._cell = cell
        self.calls: list[_Call] = []
        self.kinds: list[Any] = []
        """The types of the numbers, in their order."""
        self._values: list[float] = []
        self._at: int | None = None  # the next call of a run that is compared with the first
        self._dry = False
        self._made = 0

    def record(self, function: Callable[..., None], xp: Backend, *arrays: Any) -> list[float]:
        """Run ``function(xp, *arrays)``, arrays and dictionaries of arrays, and keep what it does; its numbers. Called again it does the
        same to other arrays of these forms: OtherCodeError where it does not."""
        again, self._at, self._dry = bool(self.calls), 0 if self.calls else None, False
        before = self._values
        self._values, self._made = [], 0
        function(_Namespace(self, xp, ""), *[self._given(a, True) for a in arrays])
        if again and (self._at != len(self.calls) or self._values != before):
            raise OtherCodeError
        return self._values

    def numbers(self, function: Callable[..., None], xp: Backend, *arrays: Any) -> list[float]:
        """The numbers of a run that computes nothing."""
        self._at, self._dry, self._values, self._made = 0, True, [], 0
        function(_Namespace(self, xp, ""), *[self._given(a, False) for a in arrays])
        if self._at != len(self.calls):
            raise OtherCodeError
        return self._values

    def _given(self, x: Any, whole: bool) -> Any:
        if isinstance(x, dict):
            return {name: self._given(part, whole) for name, part in x.items()}
        return self._stand_in(_Form(tuple(x.shape), x.dtype), x if whole else None)

    def _stand_in(self, form: _Form, array: Array | None) -> _StandIn:
        self._made += 1
        return _StandIn(self, form, array, self._made)

    # ----- one operation -----

    def call(self, name: str, f: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """An operation, which is `name` in what is compared; what it gives, with stand-ins for arrays."""
        inside: list[_StandIn] = []
        _collect((args, kwargs), inside)
        floats = {x.form.dtype for x in inside if getattr(x.form.dtype, "kind", "") == "f"}
        kind = next(iter(floats)) if len(floats) == 1 and name.rpartition(".")[2] in _NUMBERED else None
        rest: list[Any] = []
        own: list[Any] = []
        for x in args:
            if kind is not None and type(x) in (int, float):
                self._values.append(float(x))
                own.append(_NUMBER)
                rest.append(_NUMBER)
            else:
                own.append(x)
                rest.append(_described(x))
        described = (tuple(rest), _described(kwargs))
        planned = None if self._at is None or self._at >= len(self.calls) else self.calls[self._at]
        if planned is not None and (planned.name, planned.rest) != (name, described):
            planned = None
        if not inside and planned is None:  # of no array: a new one is an operation, all else is the host's
            found = f(*args, **kwargs)
            if not hasattr(found, "__array_namespace__"):
                return found
        if self._at is not None:
            if planned is None:
                raise OtherCodeError
            self._at += 1
            if self._dry:
                return self._wrapped(planned, (None,) * len(planned.made))
        first = len(self._values) - rest.count(_NUMBER)
        for i, x in enumerate(own):
            if x is _NUMBER:
                own[i] = self._cell(first, kind)
                first += 1
        found = f(*_arrays(own), **_arrays(kwargs))
        if planned is not None:
            return self._wrapped(planned, found if planned.several else (found,))
        return self._note(name, described, found, (kind,) * rest.count(_NUMBER))

    def _note(self, name: str, described: Any, found: Any, kinds: tuple[Any, ...]) -> Any:
        several = isinstance(found, (tuple, list))
        many = tuple(found) if several else (found,)
        if not all(hasattr(x, "shape") and hasattr(x, "dtype") for x in many):
            msg = f"its update calls {name}, which gives a {type(found).__name__}"
            raise CaptureError(msg)
        made = tuple([_Form(tuple(x.shape), x.dtype) for x in many])
        self.calls.append(_Call(name, described, made, several, kinds))
        self.kinds += kinds
        return self._wrapped(self.calls[-1], many)

    def _wrapped(self, call: _Call, arrays: Any) -> Any:
        made = [self._stand_in(form, a) for form, a in zip(call.made, arrays, strict=True)]
        return tuple(made) if call.several else made[0]


def _collect(item: Any, found: list[_StandIn]) -> None:
    if isinstance(item, _StandIn):
        found.append(item)
    elif isinstance(item, (tuple, list)):
        for x in item:
            _collect(x, found)
    elif isinstance(item, dict):
        _collect(tuple(item.values()), found)


def _replaced(item: Any, replace: Callable[[_StandIn], Any]) -> Any:
    if isinstance(item, _StandIn):
        return replace(item)
    if isinstance(item, dict):
        return {k: _replaced(v, replace) for k, v in item.items()}
    return type(item)(_replaced(x, replace) for x in item) if type(item) in (tuple, list) else item


def _arrays(item: Any) -> Any:
    return _replaced(item, lambda x: x.array)


def _described(item: Any) -> Any:
    """An argument as it is compared: an array by its number, a number with its type (1 is not 1.0)."""
    item = _replaced(item, lambda x: ("array", x.number))
    return (type(item), item) if isinstance(item, (int, float)) else item


def _refused(what: str) -> Callable[..., Any]:
    def refuse(self: _StandIn, *_: Any) -> Any:
        msg = f"its update reads a value ({what}), for which the host would wait"
        raise CaptureError(msg)

    return refuse


class _StandIn:
    """Stands for an array in a run; `array` is None where nothing is computed."""

    __slots__ = ("array", "code", "form", "number")

    def __init__(self, code: ArrayCode, form: _Form, array: Array | None, number: int) -> None:
        self.code, self.form, self.array, self.number = code, form, array, number

    @property
    def shape(self) -> tuple[int, ...]:
        return self.form.shape

    @property
    def dtype(self) -> Any:
        return self.form.dtype

    @property
    def ndim(self) -> int:
        return len(self.form.shape)

    @property
    def size(self) -> int:
        size = 1
        for n in self.form.shape:
            size *= n
        return size

    @property
    def T(self) -> Any:
        return self.code.call("T", operator.attrgetter("T"), (self,), {})

    @property
    def mT(self) -> Any:
        return self.code.call("mT", lambda x: x.swapaxes(-1, -2), (self,), {})

    def reshape(self, *shape: Any) -> Any:
        return self.code.call("reshape", lambda x, *s: x.reshape(*s), (self, *shape), {})

    def __getitem__(self, key: Any) -> Any:
        return self.code.call("getitem", operator.getitem, (self, key), {})

    def __setitem__(self, key: Any, value: Any) -> None:
        def put(x: Any, key: Any, value: Any) -> Any:
            x[key] = value
            return x

        # the key comes last: numbers in it are no numbers of the update
        self.code.call("setitem", lambda x, value, where: put(x, where[0], value), (self, value, (key,)), {})

    __bool__, __float__, __int__, __index__ = map(_refused, ("bool", "float", "int", "int"))
    item, tolist, __array__ = map(_refused, ("item", "tolist", "numpy"))
    __hash__ = None  # type: ignore[assignment]
    __array_priority__ = 1000


def _operators() -> None:
    """The operators of an array."""

    def forward(name: str, f: Any) -> Callable[..., Any]:
        return lambda self, *other: self.code.call(name, f, (self, *other), {})

    def reflected(name: str, f: Any) -> Callable[..., Any]:
        return lambda self, other: self.code.call(name, f, (other, self), {})

    def in_place(name: str, f: Any) -> Callable[..., Any]:
        def update(self: _StandIn, other: Any) -> _StandIn:
            self.code.call(name, f, (self, other), {})
            return self

        return update

    for short, name in (
        ("add", "add"), ("sub", "subtract"), ("mul", "multiply"), ("truediv", "divide"), ("pow", "pow"), ("matmul", "matmul"),
        ("floordiv", "floordiv"), ("mod", "mod"), ("and", "and"), ("or", "or"), ("xor", "xor"),
    ):  # fmt: skip
        python = {"and": "and_", "or": "or_"}.get(short, short)
        setattr(_StandIn, f"__{short}__", forward(name, getattr(operator, python)))
        setattr(_StandIn, f"__r{short}__", reflected(name, getattr(operator, python)))
        setattr(_StandIn, f"__i{short}__", in_place(f"i{short}", getattr(operator, f"i{short}")))
    for short, name in (
        ("lt", "less"), ("le", "less_equal"), ("gt", "greater"), ("ge", "greater_equal"), ("eq", "equal"), ("ne", "not_equal"),
        ("neg", "negative"), ("abs", "abs"), ("invert", "invert"),
    ):  # fmt: skip
        setattr(_StandIn, f"__{short}__", forward(name, getattr(operator, short)))


_operators()


class _Namespace:
    """A backend whose functions take stand-ins."""

    def __init__(self, code: ArrayCode, home: Any, prefix: str) -> None:
        self._code, self._home, self._prefix = code, home, prefix

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._home, name)
        if name in ("linalg", "fft"):
            return _Namespace(self._code, found, f"{name}.")
        if not callable(found) or isinstance(found, type):
            return found
        return lambda *args, **kwargs: self._code.call(f"{self._prefix}{name}", found, args, kwargs)


def refuse_other_code(optimizer: str) -> CompileError:
    """The error for a step that was found to be another one when it was to be launched."""
    msg = f"{optimizer}.step: a schedule that acts before it in the same step has made it another one than was captured"
    return CompileError(msg)
