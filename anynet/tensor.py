"""Tensor: an array that remembers how it was made.

A Tensor is a plain array (`data`) with an edge into the graph of what was computed (`edge`). The edge is

* ``None``: a constant,
* a `Leaf`: a variable, where a gradient comes to rest,
* a node of the graph (see `anynet.autograd.graph`): the result of an operation on one of those.

The operators and the standard's functions are primitives (`anynet.ops`), which install themselves here.
"""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import sys
import warnings
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import TYPE_CHECKING, Any, ClassVar, ParamSpec, TypeVar

from anynet import dtypes
from anynet._html import cell
from anynet_backends import TYPES, Array, backend_of, host, registry, resolve
from anynet_backends.concurrency import this_thread
from anynet_backends.jit.errors import OtherLibraryError, refuse_reading, user_line
from anynet_backends.jit.tracer import CAPTURING, COMPILING, TracedArray

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from anynet.autograd.graph import RemovableHandle

__all__ = ["Buffer", "Leaf", "Parameter", "Tensor", "enable_grad", "is_grad_enabled", "no_grad", "unwrap"]

_P = ParamSpec("_P")
_R = TypeVar("_R")

# the package, which is importing this module: the namespace of the standard's functions
_namespace: Any = sys.modules["anynet"]

# numbers graph nodes and in-place writes in the order in which they happened
clock = itertools.count(1).__next__


class _ModuleVersion:
    """A version number, bumped whenever something is set that decides what a function computes and that is compared only
    then: an attribute of a module, whether a parameter requires a gradient, an option. Values are unique, so concurrent bumps
    are never lost."""

    __slots__ = ("current",)

    def __init__(self) -> None:
        self.current = 0

    def bump(self) -> None:
        """Take a new version."""
        self.current = clock()


module_version = _ModuleVersion()
dtypes.listeners.append(module_version.bump)
registry.device_listeners.append(module_version.bump)


_made: Any = object.__new__


class _GradMode:
    """Context manager and decorator that switches recording in this thread."""

    __slots__ = ("_before",)
    _before: Any  # (recording, what was before that), a chain: one object may be entered again and again
    _recording: ClassVar[bool]

    def __new__(cls, function: Callable[..., Any] | None = None) -> Any:
        """The context manager; of a function (``@no_grad`` without parentheses) the decorated function."""
        made = _made(cls)
        made._before = None
        return made if function is None else made(function)

    def __enter__(self) -> None:
        self._before = this_thread.recording, self._before
        this_thread.recording = self._recording

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        this_thread.recording, self._before = self._before

    def __call__(self, function: Callable[_P, _R]) -> Callable[_P, _R]:
        """The function with recording switched while it runs; of a generator while it runs, not while it waits."""
        if inspect.isgeneratorfunction(function):
            return _stepwise(type(self), function)  # type: ignore[no-any-return]
        if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
            msg = (
                f"{type(self).__name__} cannot decorate {function.__qualname__}: other tasks run while it waits; put "
                f"`with {type(self).__name__}():` around what does not wait"
            )
            raise TypeError(msg)

        @functools.wraps(function)
        def inside(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            with type(self)():
                return function(*args, **kwargs)

        return inside


def _stepwise(switch: type[_GradMode], function: Callable[..., Any]) -> Any:
    """A generator function whose generators run inside of the switch from one yield to the next."""

    @functools.wraps(function)
    def inside(*args: Any, **kwargs: Any) -> Any:
        with switch():
            generator = function(*args, **kwargs)
            step: Callable[[], Any] = functools.partial(next, generator)
        try:
            while True:
                try:
                    with switch():
                        value = step()
                except StopIteration as end:
                    return end.value
                try:
                    step = functools.partial(generator.send, (yield value))
                except GeneratorExit:
                    raise
                except BaseException as error:
                    step = functools.partial(generator.throw, error)
        finally:  # what it does when it is closed early is part of it
            with switch():
                generator.close()

    return inside


class no_grad(_GradMode):
    """Nothing inside is recorded: ``with no_grad(): …`` or ``@no_grad()``.

    >>> import anynet as an
    >>> x = an.asarray([1.0, 2.0], requires_grad=True)
    >>> with an.no_grad():
    ...     (x * 2).requires_grad
    False
    """

    __slots__ = ()
    _recording = False


class enable_grad(_GradMode):
    """The opposite of `no_grad`, to record inside a `no_grad` block."""

    __slots__ = ()
    _recording = True


def is_grad_enabled() -> bool:
    """True where operations on Tensors that require a gradient are recorded (in this thread)."""
    if COMPILING and COMPILING.own:
        COMPILING.own[-1].mode_asked = True
    return this_thread.recording


class Leaf:
    """Where a gradient comes to rest: the graph's end for one variable.

    Kept apart from the Tensor, so that neither refers to itself: no reference cycle keeps arrays alive.
    `buffer` is the place in an optimizer's flat buffer into which the gradient is written, where there is one. `rows` are those
    that a lookup wrote there, where nothing else did; `clean` is whether the others are zero (not known once it was handed out).
    `traced`: a compiled step writes the gradient there. `table`: lookups with ``sparse=True`` use the variable, so its gradients are
    rows (`anynet.sparse_rows`), and an optimizer makes no buffer for it before there is another gradient.
    `written` is the time of the last in-place write to the variable (see `Tensor.assign_`). `frozen`: the variable is a constant at
    present (`requires_grad_(False)`), and receives nothing.
    """

    __slots__ = (
        "__weakref__",
        "buffer",
        "clean",
        "dtype",
        "frozen",
        "grad",
        "hooks",
        "name",
        "private",
        "rows",
        "seq",
        "shape",
        "table",
        "traced",
        "written",
    )

    def __init__(self, data: Array) -> None:
        self.shape: tuple[int, ...] = data.shape
        self.dtype = data.dtype
        self.seq: int = clock()
        self.written: int = 0
        self.grad: Tensor | None = None
        self.buffer: Array | None = None
        self.rows: Array | None = None
        self.clean = False
        self.traced = False
        self.table = False
        self.frozen = False
        self.hooks: dict[int, Callable[[Tensor], Tensor | None]] | None = None
        self.name: str | None = None
        self.private = False  # a transform's own, and the transform is done: nobody can ask for its gradient


class GradientWarning(UserWarning):
    """Data of a Tensor that is being differentiated went where its gradient cannot follow."""


class _Size(int):
    """`Tensor.size`, a number, which PyTorch has as a method."""

    __slots__ = ()

    def __call__(self, *_: Any) -> Any:
        msg = f"x.size is the number of elements ({int(self)}), not a method; the lengths of the axes are x.shape, x.shape[0], …"
        raise TypeError(msg)


class _ArrayUfunc:
    """`Tensor.__array_ufunc__`: what NumPy's ufuncs do with Tensors.

    NumPy asks the class, and is given a method: ``np.exp(x)`` is ``anynet.exp(x)`` and is recorded; ``array -= x`` writes
    into the array. CuPy asks the instance, and is given None: it defers to the reflected operators.
    """

    def __get__(self, instance: Tensor | None, owner: type) -> Callable[..., Any] | None:
        return None if instance is not None else _ufunc

    REFLECTED: ClassVar[dict[str, str]] = {
        "add": "__radd__", "subtract": "__rsub__", "multiply": "__rmul__", "divide": "__rtruediv__", "power": "__rpow__",
        "floor_divide": "__rfloordiv__", "remainder": "__rmod__", "matmul": "__rmatmul__", "bitwise_and": "__rand__",
        "bitwise_or": "__ror__", "bitwise_xor": "__rxor__", "left_shift": "__rlshift__", "right_shift": "__rrshift__",
        "less": "__gt__", "less_equal": "__ge__", "greater": "__lt__", "greater_equal": "__le__", "equal": "__eq__",
        "not_equal": "__ne__",
    }  # fmt: skip


def _ufunc(self: Tensor, ufunc: Any, method: str, *inputs: Any, out: Any = None, **options: Any) -> Any:
    name = ufunc.__name__
    if method == "__call__" and not options:
        if out is None:
            reflected = _ArrayUfunc.REFLECTED.get(name)
            if reflected is not None and len(inputs) == 2 and not isinstance(inputs[0], Tensor):
                return getattr(inputs[1], reflected)(inputs[0])
            name = {"power": "pow", "absolute": "abs"}.get(name, name)
            function = getattr(_namespace, name, None) or getattr(_namespace.special, name, None)
            if function is not None:
                return function(*inputs)
        elif not any(isinstance(x, Tensor) for x in out):  # array -= x
            for x in inputs:
                if isinstance(x, Tensor):
                    x._refuse_if_recorded(f"the ufunc {name} into an array of NumPy", "x.detach()")
            return ufunc(*(unwrap(x) for x in inputs), out=out)
    call = name if method == "__call__" else f"{name}.{method}"
    msg = f"the ufunc {call} is not one of anynet's functions and would cut the gradient; to go on without it, give x.detach().numpy()"
    raise TypeError(msg)


class Tensor:
    """An array of the Python array API standard that can be differentiated.

    Parameters: `data` is an array of any backend (used as it is, not copied), a Tensor, a Python scalar or a nested
    list; `dtype` and `device` convert; `requires_grad` makes it a variable (floating-point types only).

    Attributes: `shape`, `ndim`, `size`, `dtype`, `device` (a string), `T`, `mT`; `data` (the plain array), `grad`
    (a Tensor, after ``backward()``), `requires_grad`, `is_leaf`.

    Python floats become float32, ints int64 (`anynet.dtypes.set_default_float`).

    >>> import anynet as an
    >>> x = an.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    >>> an.sum(x * x).backward()
    >>> x.grad
    Tensor([2., 4., 6.])
    """

    __slots__ = ("__weakref__", "_data", "_frozen", "_memory", "edge")

    _data: Array  # read and written without a check by this library; users go through `data`
    edge: Any  # None | Leaf | graph.Node | graph.OutputEdge
    _frozen: Leaf  # of a constant that was a variable: its gradient stays, and is there again when it is a variable again
    _memory: Any  # set by `anynet.torch` alone: which Tensors show parts of which

    # a class whose instances make the results of operations its own: see `result_class`
    _results: ClassVar[type[Tensor] | None] = None

    __array_ufunc__ = _ArrayUfunc()
    __array_priority__ = 1000

    def __init__(
        self, data: Any, *, dtype: Any = None, device: str | None = None, requires_grad: bool = False
    ) -> None:
        self._data = to_plain(data, dtype=dtype, device=device)
        self.edge = None
        if requires_grad:
            self.requires_grad_()

    @property
    def data(self) -> Array:
        """The plain array, outside of the graph; writing into it, or assigning, changes the Tensor.

        ``x.data -= lr * x.grad`` and ``x.data = y`` overwrite the values in place, as `assign_` does; an array of the same
        kind takes the old one's place.

        >>> import anynet as an
        >>> w = an.Parameter([1.0, 2.0])
        >>> w.data -= 0.5 * an.ones(2)
        >>> w
        Parameter([0.5, 1.5], requires_grad=True)
        """
        return _lifted(self) if COMPILING else self._data

    @data.setter
    def data(self, value: Any) -> None:
        old = self._data
        if COMPILING and COMPILING.own:
            old = _lifted(self)
            COMPILING.own[-1].lines[id(self), "data"] = user_line()
        if isinstance(value, Tensor):
            self.assign_(value.detach())
            return
        if value is old:  # x.data += …: what was saved for a gradient has changed
            if type(self.edge) is Leaf:
                self.edge.written = clock()
            if CAPTURING and CAPTURING.own:
                CAPTURING.own[-1].write(self)
            return
        if not hasattr(value, "dtype") or not hasattr(value, "shape"):
            msg = f"x.data must be an array or a Tensor, got {type(value).__name__}; to fill a Tensor with a number: x[...] = number"
            raise TypeError(msg)
        if self.edge is not None and (tuple(value.shape) != tuple(old.shape) or value.dtype != old.dtype):
            msg = (
                f"x.data of a variable must keep its form: got {tuple(value.shape)}, {value.dtype}, expected {tuple(old.shape)}, "
                f"{old.dtype}; for another form make another Parameter"
            )
            raise ValueError(msg)
        self._data = value

    # ----- what the standard asks of an array -----

    @property
    def shape(self) -> tuple[int, ...]:
        return self._data.shape  # type: ignore[no-any-return]

    @property
    def ndim(self) -> int:
        return len(self._data.shape)

    @property
    def size(self) -> int:
        total = 1
        for length in self.shape:
            total *= length
        return _Size(total)

    @property
    def dtype(self) -> dtypes.DType:
        return dtypes.of(self._data.dtype)

    @property
    def device(self) -> str:
        return backend_of(self._data).device_of(self._data)

    def __array_namespace__(self, *, api_version: str | None = None) -> ModuleType:
        known = ("2021.12", "2022.12", "2023.12", "2024.12", _namespace.__array_api_version__)
        if api_version is not None and api_version not in known:
            msg = f"array API version {api_version!r} is not offered; offered: {', '.join(known)}"
            raise ValueError(msg)
        return _namespace  # type: ignore[no-any-return]

    def __dlpack__(
        self,
        *,
        stream: Any = None,
        max_version: tuple[int, int] | None = None,
        dl_device: Any = None,
        copy: bool | None = None,
    ) -> Any:
        if self.edge is not None and this_thread.recording:
            # not refused: DLPack is asked for by name, and the standard wants every array to answer
            msg = "DLPack shares the data of a Tensor that is being differentiated, without its gradient; x.detach() says so"
            warnings.warn(msg, GradientWarning, stacklevel=2)
        options = {"stream": stream, "max_version": max_version, "dl_device": dl_device, "copy": copy}
        return self._data.__dlpack__(**{k: v for k, v in options.items() if v is not None})

    def __dlpack_device__(self) -> tuple[Any, int]:
        return self._data.__dlpack_device__()  # type: ignore[no-any-return]

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Any:
        self._refuse_if_recorded("conversion to a NumPy array", "x.detach() or x.numpy()")
        if COMPILING and COMPILING.own:
            refuse_reading()
        xp = backend_of(self._data)
        if self.device != "cpu":
            msg = f"implicit copy of a Tensor on {self.device} to the host; say x.numpy() or x.to('cpu')"
            raise TypeError(msg)
        return xp.asarray(self._data, dtype=dtype, copy=copy)

    def _refuse_if_recorded(self, what: str, remedy: str) -> None:
        if self.edge is not None and this_thread.recording:
            msg = f"{what} would cut the gradient of a Tensor that is being differentiated; say {remedy} to do so"
            raise RuntimeError(msg)

    def _scalar(self, kind: Callable[[Any], Any]) -> Any:
        if COMPILING:
            _readable(self._data)
        if self._data.shape != ():
            if self.size != 1 or self.ndim:
                msg = f"only a 0-d Tensor converts to a Python {kind.__name__}, got shape {self.shape}; try x[0] or item()"
                raise TypeError(msg)
        xp = backend_of(self._data)
        return kind(self._data if xp.values_are_cheap_to_read else xp.to_host(self._data))

    def __bool__(self) -> bool:
        return self._scalar(bool)  # type: ignore[no-any-return]

    def __int__(self) -> int:
        return self._scalar(int)  # type: ignore[no-any-return]

    def __float__(self) -> float:
        return self._scalar(float)  # type: ignore[no-any-return]

    def __complex__(self) -> complex:
        return self._scalar(complex)  # type: ignore[no-any-return]

    def __index__(self) -> int:
        if self.dtype.kind not in ("int", "uint"):
            msg = f"only an integer Tensor can be used as an index, got {self.dtype}"
            raise TypeError(msg)
        return self._scalar(int)  # type: ignore[no-any-return]

    def __len__(self) -> int:
        if not self._data.shape:
            msg = "a 0-d Tensor has no length"
            raise TypeError(msg)
        return int(self._data.shape[0])

    def __iter__(self) -> Iterator[Tensor]:
        for i in range(len(self)):
            yield self[i, ...]

    __hash__ = object.__hash__

    # ----- gradients -----

    @property
    def requires_grad(self) -> bool:
        """True where a gradient flows through this Tensor."""
        return self.edge is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, value: bool = True) -> Tensor:
        """Make this Tensor a variable (or, with False, a variable a constant). Returns itself."""
        if not value:
            if self.edge is not None and type(self.edge) is not Leaf:
                msg = "requires_grad can only be switched off on a variable; use x.detach() on a result"
                raise RuntimeError(msg)
            if self.edge is not None:
                self._frozen, self.edge = self.edge, None
                self._frozen.frozen = True
            module_version.bump()
        elif self.edge is None:
            if not self.dtype.is_floating:
                msg = (
                    f"only floating-point Tensors can require a gradient, got {self.dtype}; "
                    "convert it: anynet.astype(x, anynet.float32)"
                )
                raise TypeError(msg)
            kept = frozen_leaf(self)
            same = kept is not None and (kept.shape, kept.dtype) == (self._data.shape, self._data.dtype)
            self.edge = kept if same else Leaf(self._data)
            self.edge.frozen = False
            if isinstance(self, Parameter):
                module_version.bump()
        return self

    @property
    def is_leaf(self) -> bool:
        """True for variables and constants, False for results of recorded operations."""
        return self.edge is None or type(self.edge) is Leaf

    @property
    def grad(self) -> Tensor | None:
        """The gradient that ``backward()`` accumulated here, or None."""
        edge = self.edge or frozen_leaf(self)
        if type(edge) is Leaf:
            edge.clean = False  # who has it may write into it
            if CAPTURING and CAPTURING.own:
                CAPTURING.own[-1].read.add(id(edge))
            return edge.grad
        return getattr(edge, "kept_grad", None)

    @grad.setter
    def grad(self, value: Any) -> None:
        edge = self.edge or frozen_leaf(self)
        if type(edge) is not Leaf:
            msg = "only a variable (a leaf with requires_grad) has a gradient to set"
            raise RuntimeError(msg)
        if value is None:
            if COMPILING and COMPILING.own:
                COMPILING.own[-1].forgotten[id(edge)] = self
            elif CAPTURING and CAPTURING.own:
                CAPTURING.own[-1].see(self)
                CAPTURING.own[-1].forget(edge)
            edge.grad = None
            return
        given = value if isinstance(value, Tensor) else wrap(value)
        if tuple(given.shape) != tuple(self.shape) or given.dtype != self.dtype:
            msg = f"gradient of shape {tuple(given.shape)}, {given.dtype} for a Tensor of shape {self.shape}, {self.dtype}"
            raise ValueError(msg)
        edge.rows, edge.clean = None, False
        edge.grad = given

    def detach(self) -> Tensor:
        """The same data as a constant: no gradient flows through the result."""
        return with_data_of(self)

    def assign_(self, value: Any) -> Tensor:
        """Overwrite the data in place (views of it, such as an optimizer's flat buffer, see the change).

        A backward pass through operations that were recorded before and need the old value raises instead of giving a
        wrong gradient.
        """
        edge, source = self.edge, unwrap(value)
        if edge is not None and type(edge) is not Leaf:
            msg = "assign_ writes to variables and constants, not to the result of a recorded operation"
            raise RuntimeError(msg)
        number = not hasattr(source, "shape")
        if not number and tuple(source.shape) != tuple(self.shape):
            msg = f"assign_ of shape {tuple(source.shape)} to a Tensor of shape {self.shape}"
            raise ValueError(msg)
        own = backend_of(self._data)
        # the values of parameters and buffers are their own, whatever they were made of; other read-only memory refuses writes
        if isinstance(self, (Parameter, Buffer)) and not own.takes_writes(self._data):
            self._data = own.asarray(self._data, copy=True)
        if edge is not None:
            edge.written = clock()
        if COMPILING and COMPILING.own:  # a compiled step is being recorded
            COMPILING.own[-1].see(self)  # it may have another array by the next call
            xp = TYPES[TracedArray]
            if isinstance(source, TracedArray) and source.dtype != self._data.dtype:
                source = xp.astype(source, self._data.dtype)
            xp.store(self._data, source)
            return self
        if CAPTURING and CAPTURING.own:
            CAPTURING.own[-1].write(self)
        if number:
            self._data[...] = source
            return self
        xp = backend_of(self._data)
        here = backend_of(source)
        if here is not xp or (xp.multi_device and here.device_of(source) != self.device):
            # converted first: the device may lack the source's dtype
            want = dtypes.native(here, host_dtype(self.dtype))
            source = move(source if source.dtype == want else here.astype(source, want), self.device)
        self._data[...] = source if source.dtype == self._data.dtype else xp.astype(source, self._data.dtype)
        return self

    # ----- to Python and the host -----

    def item(self) -> Any:
        """The one element as a Python scalar (copies from the device)."""
        if self.size != 1:
            msg = f"item() needs one element, got shape {self.shape}"
            raise ValueError(msg)
        return Tensor.numpy(self).item()

    def numpy(self) -> Any:
        """A NumPy array with this data, copied from the device where needed; outside the graph."""
        if COMPILING:
            _readable(self._data)
        return backend_of(self._data).to_host(self._data)

    def to_numpy(self) -> Any:
        """`numpy`, under the name that pandas and polars have and matplotlib asks for: ``plt.hist(x)`` is one histogram."""
        return Tensor.numpy(self)

    def tolist(self) -> Any:
        """Nested Python lists."""
        return Tensor.numpy(self).tolist()

    def __format__(self, spec: str) -> str:
        """``f"{loss:.4f}"``: one element is formatted as the number that it is."""
        if not spec:
            return str(self)
        if self.size == 1:
            return format(self.item(), spec)
        msg = f"a format ({spec!r}) needs a Tensor of one element, got shape {self.shape}; reduce it, or use x.numpy()"
        raise TypeError(msg)

    def __round__(self, ndigits: int | None = None) -> Any:
        return round(self.item(), ndigits)

    def __repr__(self) -> str:
        if is_batched_array(self._data):
            return f"{type(self).__name__}(one example of a batch, shape={tuple(self.shape)}, dtype={self.dtype})"
        text = host.text(Tensor.numpy(self), prefix="Tensor(")
        extra = (
            ""
            if self.dtype in (dtypes.default_float(), dtypes.int64, dtypes.bool)
            else f", dtype={self.dtype}"
        )
        if self.device != "cpu":
            extra += f", device={self.device!r}"
        if self.edge is not None:
            extra += ", requires_grad=True" if self.is_leaf else f", from={self.edge.label}"
        return f"{type(self).__name__}({text}{extra})"

    def _repr_html_(self) -> str:
        """For notebooks: shape, dtype, device, and the numbers of the last two axes as a table where they are few."""
        from html import escape  # start-up time: for notebooks

        if is_batched_array(self._data):
            return f"<pre>{escape(repr(self))}</pre>"
        head = f"{type(self).__name__} {tuple(self.shape)}, {self.dtype}, {self.device}"
        if self.edge is not None:
            head += ", requires a gradient" if self.is_leaf else f", from {self.edge.label}"
        if self.ndim not in (1, 2) or not 0 < self.size <= 400:
            return f"<div>{escape(head)}</div><pre>{escape(host.text(Tensor.numpy(self)))}</pre>"
        values = self.tolist()
        rows = values if self.ndim == 2 else [values]
        body = "".join("<tr>" + "".join(f"<td>{escape(cell(v))}</td>" for v in row) + "</tr>" for row in rows)
        return f"<div>{escape(head)}</div><table><tbody>{body}</tbody></table>"

    # ----- copies and pickles -----

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Pickled as a NumPy array, with the device's name, where it goes when it is unpickled. Variables stay variables;
        as in PyTorch their gradients stay behind."""
        self._refuse_copy("pickled")
        array = backend_of(self._data).to_host(self._data)
        table = getattr(self.edge, "table", False)
        parts = (type(self), array, self.dtype, self.device, self.requires_grad, table)
        return _unpickled, parts, self._attributes()

    def __copy__(self) -> Tensor:
        """A Tensor of its own that shares the data; of a variable, with a gradient of its own."""
        new = wrap(self._data, type(self))
        _set_attributes(new, self._attributes())
        new.edge = Leaf(self._data) if type(self.edge) is Leaf else self.edge
        return new

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        self._refuse_copy("deep-copied")
        data = _lifted(self) if COMPILING else self._data
        xp = backend_of(data)
        new = wrap(xp.asarray(data, copy=True), type(self))
        memo[id(self)] = new
        _set_attributes(new, copy.deepcopy(self._attributes(), memo))
        if self.edge is not None:
            new.edge = Leaf(new._data)
            new.edge.table = getattr(self.edge, "table", False)
            if self.edge.grad is not None:
                new.edge.grad = self.edge.grad._copied()
        return new

    def _copied(self) -> Tensor:
        """The same numbers as a constant of its own."""
        return wrap(backend_of(self._data).asarray(self._data, copy=True))

    def _refuse_copy(self, how: str) -> None:
        if not self.is_leaf:
            msg = f"only variables and constants can be {how}; use x.detach() first"
            raise RuntimeError(msg)

    def _attributes(self) -> tuple[dict[str, Any] | None, dict[str, Any]] | None:
        """What a subclass has besides: its __dict__ and its slots, as pickle takes them."""
        names = [
            n for cls in type(self).__mro__ if cls is not Tensor for n in cls.__dict__.get("__slots__", ())
        ]
        slots = {
            n: getattr(self, n) for n in names if n not in ("__dict__", "__weakref__") and hasattr(self, n)
        }
        own: dict[str, Any] | None = getattr(self, "__dict__", None)
        return (own or None, slots) if own or slots else None

    if TYPE_CHECKING:  # installed by anynet.ops and anynet.autograd

        def __abs__(self) -> Tensor: ...
        def __neg__(self) -> Tensor: ...
        def __pos__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __add__(self, other: Any, /) -> Tensor: ...
        def __radd__(self, other: Any, /) -> Tensor: ...
        def __sub__(self, other: Any, /) -> Tensor: ...
        def __rsub__(self, other: Any, /) -> Tensor: ...
        def __mul__(self, other: Any, /) -> Tensor: ...
        def __rmul__(self, other: Any, /) -> Tensor: ...
        def __truediv__(self, other: Any, /) -> Tensor: ...
        def __rtruediv__(self, other: Any, /) -> Tensor: ...
        def __floordiv__(self, other: Any, /) -> Tensor: ...
        def __mod__(self, other: Any, /) -> Tensor: ...
        def __pow__(self, other: Any, /) -> Tensor: ...
        def __rpow__(self, other: Any, /) -> Tensor: ...
        def __matmul__(self, other: Any, /) -> Tensor: ...
        def __rmatmul__(self, other: Any, /) -> Tensor: ...
        def __and__(self, other: Any, /) -> Tensor: ...
        def __or__(self, other: Any, /) -> Tensor: ...
        def __xor__(self, other: Any, /) -> Tensor: ...
        def __lshift__(self, other: Any, /) -> Tensor: ...
        def __rshift__(self, other: Any, /) -> Tensor: ...
        def __lt__(self, other: Any, /) -> Tensor: ...
        def __le__(self, other: Any, /) -> Tensor: ...
        def __gt__(self, other: Any, /) -> Tensor: ...
        def __ge__(self, other: Any, /) -> Tensor: ...
        def __eq__(self, other: Any, /) -> Tensor: ...  # type: ignore[override]
        def __ne__(self, other: Any, /) -> Tensor: ...  # type: ignore[override]
        def __getitem__(self, key: Any, /) -> Tensor: ...
        def __setitem__(self, key: Any, value: Any, /) -> None: ...
        def backward(
            self, gradient: Any = None, *, retain_graph: bool | None = None, create_graph: bool = False
        ) -> None: ...
        def register_hook(self, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle: ...
        def retain_grad(self) -> None: ...
        def to(self, target: Any, /) -> Tensor: ...
        def to_device(self, device: str, /, *, stream: Any = None) -> Tensor: ...
        @property
        def T(self) -> Tensor: ...
        @property
        def mT(self) -> Tensor: ...


class Parameter(Tensor):
    """A Tensor that a Module trains: a variable by default (``requires_grad=True``).

    >>> import anynet as an
    >>> an.nn.Parameter(an.zeros(2)).requires_grad
    True
    """

    __slots__ = ("_notes",)  # set by `anynet.torch` alone: attributes that a script gives it

    def __init__(
        self, data: Any, requires_grad: bool = True, *, dtype: Any = None, device: str | None = None
    ) -> None:
        super().__init__(data, dtype=dtype, device=device, requires_grad=requires_grad)


class Buffer(Tensor):
    """A Tensor that belongs to a Module's state but is not trained, such as a running mean.

    `persistent=False` leaves it out of the ``state_dict``.

    >>> import anynet as an
    >>> an.nn.Buffer(an.zeros(2)).requires_grad
    False
    """

    __slots__ = ("persistent",)
    persistent: bool

    def __init__(
        self, data: Any, *, persistent: bool = True, dtype: Any = None, device: str | None = None
    ) -> None:
        super().__init__(data, dtype=dtype, device=device)
        self.persistent = persistent


_new = Tensor.__new__
flavours: list[type[Tensor]] = []
"""Classes of Tensor whose operations give Tensors of that class (`anynet.torch` has one); none unless somebody imports one, so that
an operation asks no more than whether there are any."""


def result_class(args: Iterable[Any]) -> type[Tensor]:
    """Of which class the results of an operation on these are: Tensor, unless one of them says otherwise."""
    for x in args:
        if isinstance(x, Tensor) and x._results is not None:
            return x._results
    return Tensor


def is_result(x: Any) -> bool:
    """Whether x is a Tensor as operations give them, and no parameter or buffer."""
    return isinstance(x, Tensor) and type(x) is (x._results or Tensor)


def wrap(data: Array, cls: type[Tensor] = Tensor) -> Tensor:
    """A constant Tensor around a plain array, without any conversion."""
    x = _new(cls)
    x._data = data
    x.edge = None
    if cls is Buffer:
        x.persistent = True  # type: ignore[attr-defined]
    return x


def with_data_of(x: Tensor, cls: type[Tensor] = Tensor) -> Tensor:
    """Another Tensor, a constant, around the array of x."""
    y = wrap(x._data, cls)
    if COMPILING and COMPILING.own:
        COMPILING.own[-1].see(x)
        if not isinstance(y._data, TracedArray):
            COMPILING.own[-1].made[id(y)] = y, y._data
    return y


def is_batched_array(data: Any) -> bool:
    """Whether the array of a Tensor stands for one example of a batch, inside vmap (`anynet.autograd.vmap.Batched`): it has a
    shape but no values."""
    return hasattr(data, "level")


def _set_attributes(x: Tensor, attributes: tuple[dict[str, Any] | None, dict[str, Any]] | None) -> None:
    if attributes is not None:
        own, slots = attributes
        if own:
            vars(x).update(own)
        for name, value in slots.items():
            setattr(x, name, value)


def _unpickled(
    cls: type[Tensor], array: Any, dtype: dtypes.DType, device: str, requires_grad: bool, table: bool = False
) -> Tensor:
    """The Tensor that `Tensor.__reduce_ex__` describes."""
    try:
        xp, name = resolve(device)
    except (RuntimeError, ValueError) as error:
        msg = f"the pickled Tensor was on {device!r}, which is not here ({error}); pickle it from the CPU: x.to('cpu')"
        raise RuntimeError(msg) from error
    data = xp.from_host(host.own(array), name)
    native = dtypes.native(xp, dtype)
    x = wrap(data if data.dtype == native else xp.astype(data, native), cls)
    if requires_grad:
        x.edge = Leaf(x._data)
        x.edge.table = table
    return x


def frozen_leaf(x: Tensor) -> Leaf | None:
    """Where the gradient of a constant is that was a variable (`requires_grad_(False)`)."""
    return getattr(x, "_frozen", None) if x.edge is None else None


def unwrap(x: Any) -> Any:
    """The plain array of a Tensor; anything else as it is."""
    return x._data if isinstance(x, Tensor) else x


def _readable(data: Array) -> None:
    """Refuse to read the numbers of an array from outside while a compiled function is recorded; a recorded array refuses
    by itself."""
    if COMPILING.own and not isinstance(data, TracedArray):
        refuse_reading()


def _lifted(x: Any) -> Any:
    """The array of a Tensor, or a plain array, as the compiled function sees it that is being recorded, or as it is."""
    if not COMPILING.own:
        return unwrap(x)
    recording = COMPILING.own[-1]
    if isinstance(x, Tensor):
        recording.see(x)
        return recording.capture(x._data) if type(x._data) is recording.base.array_type else x._data
    if type(x) is not recording.base.array_type:
        return x
    lifted = recording.capture(x)
    recording.borrowed.add(lifted.var)
    return lifted


def move(data: Array, device: str) -> Array:
    """A plain array on another device (through the host, or directly within one library)."""
    xp, name = resolve(device)
    source = backend_of(data)
    if source is xp or (not source.eager and source.name == xp.name):  # recorded, which is nowhere else
        if source.device_of(data) == name:
            return data
        if source.copies_between_devices:
            return xp.asarray(data, device=xp.native_device(name))
    if not source.eager and COMPILING and not xp.compiles:
        msg = f"{user_line()}: an array was moved to {name!r} in a compiled function; compile records NumPy arrays, on the cpu"
        raise OtherLibraryError(msg)
    return xp.from_host(source.to_host(data), name)


def to_plain(obj: Any, *, dtype: Any = None, device: str | None = None, copy: bool | None = None) -> Array:
    """A plain array from a Tensor, a plain array, a Python scalar or nested lists of those."""
    if COMPILING:
        obj = _lifted(obj)
    if isinstance(obj, Tensor):
        obj = obj._data
    if type(obj) in TYPES or registry.is_array(obj):
        xp = backend_of(obj)
        data: Any = obj if type(obj) is xp.array_type else xp.asarray(obj)
        dtypes.of(data.dtype)  # refuses strings and objects
        if device is not None:
            moved = move(data, device)
            if moved is not data:
                if copy is False:
                    msg = f"copy=False, but moving from {xp.device_of(data)} to {device} copies"
                    raise ValueError(msg)
                data, copy = moved, None
                xp = backend_of(data)
        if dtype is not None:
            want = dtypes.native(xp, dtype)
            if data.dtype != want:
                if copy is False:
                    msg = f"copy=False, but converting {data.dtype} to {want} copies"
                    raise ValueError(msg)
                return xp.astype(data, want)
        return xp.asarray(data, copy=True) if copy else data
    if type(obj).__module__ != "builtins":  # lists, numbers
        try:
            xp = backend_of(obj)
        except TypeError:
            pass
        else:
            return to_plain(xp.asarray(obj), dtype=dtype, device=device, copy=copy)
    xp, name = resolve(device)
    narrow = None if dtype is None or dtypes.of(dtype).name != "bfloat16" else dtypes.native(xp, dtype)
    made = _from_python(obj, dtype)
    if copy is False:
        msg = f"copy=False, but a {type(obj).__name__} is always copied into a new array"
        raise ValueError(msg)
    if COMPILING and COMPILING.own and xp.compiles:
        return COMPILING.own[-1].constant(made)
    data = xp.from_host(made, name)
    return data if narrow is None else xp.astype(data, narrow)


def host_dtype(dtype: Any) -> str:
    """The host has no bfloat16: float32, of which it is a part."""
    name = dtypes.of(dtype).name
    return "float32" if name == "bfloat16" else name


def _from_python(obj: Any, dtype: Any) -> Any:
    """A host array of Python scalars and nested lists."""
    if dtype is None and type(obj) is float:
        dtype = float
    try:
        made: Any = registry.asarray(obj, dtype=None if dtype is None else host_dtype(dtype))
    except ValueError as error:
        if "inhomogeneous" not in str(error):
            raise
        lengths = (
            sorted({len(row) if hasattr(row, "__len__") else 0 for row in obj})
            if isinstance(obj, (list, tuple))
            else []
        )
        msg = (
            f"cannot make a Tensor of rows of different lengths, got {lengths[:5]}; pad them to one length "
            "(anynet.nn.utils.rnn.pad_sequence), or make a Tensor of each"
        )
        raise ValueError(msg) from None
    if dtype is not None or made.dtype.kind in "biu":
        return made
    if made.dtype.kind == "f":
        return registry.asarray(made, dtype=dtypes.default_float().name)
    if made.dtype.kind == "c":
        return registry.asarray(made, dtype=dtypes.of(complex).name)
    if isinstance(obj, int) or (made.dtype.kind == "O" and all(isinstance(v, int) for v in made.reshape(-1))):
        large = max((obj,) if isinstance(obj, int) else made.reshape(-1), key=abs)
        msg = f"the integer {large} does not fit into 64 bits; give it as a float"
        raise OverflowError(msg)
    if hasattr(obj, "columns") and made.ndim == 2:
        return _from_columns(obj, dtype)
    if made.ndim and made.size and isinstance(made.reshape(-1)[0], str):
        msg = (
            f"cannot make a Tensor of texts, got a {type(obj).__name__} with {str(made.reshape(-1)[0])!r:.40}; class labels become "
            "numbers by numpy.unique(labels, return_inverse=True)[1]; anynet.data.Table and anynet.sklearn.Classifier take them as they are"
        )
        raise TypeError(msg)
    shown = f" {obj!r:.60}" if "\n" not in repr(obj)[:60] else ""
    msg = f"cannot make a Tensor of {type(obj).__name__}{shown}; give numbers, nested lists or an array"
    raise TypeError(msg)


def _from_columns(frame: Any, dtype: Any) -> Any:
    """A host array of a DataFrame whose columns are of several kinds of numbers; TypeError names those that are none."""
    columns = {str(name): registry.asarray(frame[name]) for name in frame.columns}
    odd = [name for name, c in columns.items() if c.dtype.kind not in "biuf"]
    if odd:
        shown = ", ".join(map(repr, odd[:6])) + (", …" if len(odd) > 6 else "")
        msg = (
            f"cannot make a Tensor of a DataFrame with columns that are no numbers, or have missing ones: {shown}; leave them out, or "
            "let anynet.data.Table make numbers of them"
        )
        raise TypeError(msg)
    return _from_python([c.tolist() for c in columns.values()], dtype).T.copy()


class _Module(ModuleType):
    """This module, whose name PyTorch has for a function."""

    def __call__(self, *_: Any, **__: Any) -> Any:
        msg = "anynet.tensor is a module; a Tensor is made by anynet.asarray(data, dtype=…, device=…, requires_grad=…)"
        raise TypeError(msg)


sys.modules[__name__].__class__ = _Module
