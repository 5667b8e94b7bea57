"""What a backend is: an array API namespace, plus the few things that the standard lacks.

A third party derives from `Backend`, gives it a namespace, and overrides what its library does better than the defaults here,
which use nothing but the standard. `anynet.testing.check_backend` checks the result.
"""

from __future__ import annotations

import contextlib
import types
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Protocol

from anynet_backends import array_api, philox, short_floats
from anynet_backends.array_api import Array
from anynet_backends.concurrency import late_import
from anynet_backends.kernel_table import KernelTable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Ahead", "Backend", "BackendUnavailableError", "DeviceMemory", "ScaleRule", "Seen", "UnknownDeviceError", "Watch", "window_counts",
    "window_view",
]  # fmt: skip


class UnknownDeviceError(ValueError):
    """A device name that no backend knows, or a device that this machine does not have."""


class BackendUnavailableError(RuntimeError):
    """A known backend that cannot be used here: a library is missing or does not work. The message says how to
    fix it."""


class CollectivesError(RuntimeError):
    """A library that adds up arrays of several processes on their devices has refused a call."""


class DeviceMemory(NamedTuple):
    """Bytes of a device: used by arrays, held by the library's pool (with those), free and total of the device."""

    used: int
    held: int
    free: int
    total: int


class Seen(NamedTuple):
    """What a `Watch` has seen since it was read before: the losses of the steps; the first step that was wrong, from 1, or 0; of each
    range of numbers how many were not finite in that step, and how many of them NaN; the error of an index out of range; how many
    updates were made; the scale of the loss and the updates since it changed, where there is one."""

    losses: list[float]
    wrong: int
    counts: list[tuple[int, int]]
    error: IndexError | None
    made: int
    scale: tuple[float, int] | None


class ScaleRule(NamedTuple):
    """How the scale of a loss changes: an update whose gradients are not finite is left out, and the scale is multiplied with `backoff`;
    `interval` updates without such multiply it with `growth`, as long as it is no more than `largest`. Below 1 it is of no use."""

    growth: float
    backoff: float
    interval: int
    largest: float


class Ahead(Protocol):
    """Updates of which the device makes or leaves out each. Their numbers are prepared as if it made all of them: a row for each, in a
    ring of so many `rows`, of which the device takes the next where it makes one."""

    rows: int
    next: Any
    """Which row that is, on the device."""
    factor: Array
    """The scale of the loss, float32, without dimensions."""

    def prepare(self, cells: Any, first: int, i: int, values: Sequence[float], kind: Any) -> None:
        """Give the program number i its numbers for the latest update, as the type `kind`, in cells of the device of which the rows
        begin at the `first`; those of updates before that are not read stand there, too."""

    def put(self, value: float, good: int) -> None:
        """Go on with a scale of the host's, and the updates since it changed."""

    def numbers(self, i: int, values: Sequence[float], kind: Any) -> Array:
        """The rows of the program number i, in which that of the latest update has these values, as the type `kind`."""


class Watch(Protocol):
    """Steps that the host does not wait for. Once one was wrong, the programs of `bind_program` that are given `stop` change nothing; with
    a scale of the loss (`ahead`) gradients that are not finite are nothing wrong: `stop` leaves out that step alone."""

    stop: Any
    ahead: Ahead | None
    steps: int
    """How many were looked at and are not read."""
    number: Any
    """The type in which their number stands in a cell on the device."""

    def takes(self, loss: Array) -> bool:
        """Whether it can be looked at."""

    def look(self, loss: Array | None, cell: Array | None = None) -> None:
        """Look at the vectors and a loss that it `takes`, where there is one, of the next step. In a step that is captured its number is
        read from a `cell`, and `steps` is counted elsewhere."""

    def keep(self, pairs: Sequence[tuple[Array, Array]]) -> bool:
        """Copy each second array into the first, while no step was wrong; False, with nothing done, where that cannot be."""

    def read(self) -> Seen:
        """Wait, and give what was seen; the next step is step 1 again."""


class Backend:
    """One array library: its array API namespace as attributes, and what anynet needs beyond the standard.

    There is one instance per library, whatever the number of its devices. Every function, dtype and constant
    of the standard is an entry of the instance's ``__dict__``, so `xp.exp` costs one dictionary look-up.

    Parameters:
        name: the library's short name, which kernels and messages use. namespace: a mapping or module with
        the standard's names; names that it lacks are absent here, too. array_types: the types whose instances
        belong to this backend; results are of the first. native: the library's own
        top-level module, for kernels. multi_device: whether arrays of this library can live on more than one
        device.

    A backend must also define `device_of`, `native_device`, `canonical_device`, `devices`, `from_host` and
    `to_host`.

        >>> from anynet_backends import resolve
        >>> xp, device = resolve("cpu")
        >>> float(xp.sum(xp.ones(3, device=xp.native_device(device))))
        3.0
    """

    name: str
    native: Any
    multi_device: bool
    array_types: tuple[type, ...]
    array_type: type
    native_dtype: dict[str, Any]
    kernels: KernelTable
    linalg: Any
    fft: Any
    values_are_cheap_to_read = True
    """Whether reading a value waits for nothing; a GPU would have to finish what is queued."""
    compiles = False
    """Whether `anynet_backends.jit` traces and compiles operations on these arrays."""
    runs_programs = False
    """Whether `bind_program` makes something of an element-wise program."""
    fuses = False
    """Whether `lower` makes programs of traces."""
    views_at_once = False
    """Whether reshape, permute_dims, broadcast_to, flip and keys of integers, slices, None and ``...``, in any order and number, are
    views or copies that this thread makes at once, as NumPy does."""
    assigns_in_place = False
    """Whether ``array[key] = value`` may write into the array of a variable directly."""
    copies_between_devices = False
    """Whether `asarray` copies from one device of the library to another, without the host."""
    switches_devices = False
    """Whether the library computes on the thread's current device, and there are several. Then each look-up of an array's backend
    follows the array."""
    short_products: frozenset[str] = frozenset()
    """The 16-bit dtypes whose products the library computes itself, adding up in float32 ("float16", "bfloat16")."""
    narrows = False
    """Whether results may be wider than they ought to be, and `promoted` says."""
    block_size: int | None = None
    """Elements of long vectors that an element-wise function takes at a time, so that its temporaries stay in the cache; None: all."""
    by_name: ClassVar[Callable[[str], Backend]]
    """How a backend is unpickled: the registry sets its `get_backend`."""

    def __init__(
        self,
        name: str,
        namespace: Any,
        array_types: tuple[type, ...],
        *,
        native: Any = None,
        multi_device: bool = False,
    ) -> None:
        self.name = name
        self.native = native
        self.multi_device = multi_device
        self.array_types = array_types
        self.array_type = array_types[0]
        self.kernels = {}  # by the name of the primitive
        self.__name__ = f"anynet_backends.{name}"
        get = namespace.get if hasattr(namespace, "get") else lambda key: getattr(namespace, key, None)
        table = self.__dict__
        for key in (
            *array_api.FUNCTIONS,
            *array_api.CONSTANTS,
            *array_api.DTYPES,
            "__array_namespace_info__",
        ):
            value = get(key)
            if value is not None or key == "newaxis":
                table[key] = value
        table["__array_api_version__"] = get("__array_api_version__") or array_api.REVISION
        for extension, names in (("linalg", array_api.LINALG), ("fft", array_api.FFT)):
            module = get(extension)
            if module is not None:
                members = {n: getattr(module, n) for n in names if hasattr(module, n)}
                table[extension] = types.SimpleNamespace(__name__=f"{self.__name__}.{extension}", **members)
        self.native_dtype = {key: table[key] for key in array_api.DTYPES if key in table}
        self._dtype_names: dict[Any, str] = {native: key for key, native in self.native_dtype.items()}

    def __getattr__(self, name: str) -> Any:
        # Reached only by names that are absent: the namespace lives in the instance's __dict__.
        if name.startswith("__"):
            raise AttributeError(name)
        known = [n for n in self.__dict__ if not n.startswith("_")]
        near = late_import("difflib").get_close_matches(name, known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        msg = (
            f"the {self.__dict__.get('name', '?')!r} backend has no {name!r}: it is not in the array "
            f"API standard{hint}"
        )
        raise AttributeError(msg)

    def __repr__(self) -> str:
        return f"<anynet backend {self.name!r}>"

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return Backend.by_name, (self.name,)

    # ---- devices ----

    def scope(self, array: Array) -> contextlib.AbstractContextManager[Any]:
        """A context in which the device of `array` is the current one."""
        return contextlib.nullcontext()

    def follow(self, array: Array) -> None:
        """Make the device of `array` the current one."""

    def note_on(self, error: Exception) -> str | None:
        """What the library's error leaves out, or None."""
        return None

    def counts_views(self, array: Array) -> bool:
        """Whether the array is writeable, owns its memory, and is referenced by each of its views, so that its reference count tells
        whether a write is visible elsewhere."""
        return False

    def takes_writes(self, array: Array) -> bool:
        """Whether elements can be written: not into what shows an element several times, nor into what is mapped to be read."""
        return True

    def lies_in_order(self, array: Array) -> bool:
        """Whether an array is known to lie in memory in the order of its axes, where a function may choose how it computes."""
        return False

    def first_in_order(self, x: Array, k: int, axis: int, *, descending: bool) -> Array:
        """The first k of ``argsort(x, axis=axis, descending=descending)``."""
        order = self.argsort(x, axis=axis, descending=descending)
        return order[(*(slice(None),) * axis, slice(0, k), ...)]

    def fill(self, array: Array, number: bool | float) -> None:
        """``array[...] = number``"""
        array[...] = number

    def device_of(self, array: Array) -> str:
        """The canonical name of the device that holds `array`: "cpu", "cuda:0", "strict:device1", …"""
        raise NotImplementedError

    def native_device(self, name: str) -> Any:
        """What the library's creation functions take as ``device=`` for the canonical device `name`."""
        raise NotImplementedError

    def canonical_device(self, name: str) -> str:
        """The full name of a device of this library: "cuda" → "cuda:0". UnknownDeviceError if it does not
        exist."""
        raise NotImplementedError

    def devices(self) -> list[str]:
        """The canonical names of the devices that this library sees on this machine."""
        raise NotImplementedError

    def dtypes_on(self, device: str) -> tuple[str, ...]:
        """The names of the dtypes that arrays on `device` can have."""
        return tuple(self.native_dtype)

    def promoted(self, found: Any, data: Sequence[Any], meta: dict[str, Any]) -> Any:
        """The dtype of what a primitive makes of arrays and numbers, where the library has made it `found`."""
        return found

    def from_host(self, array: Array, device: str) -> Array:
        """A copy of a NumPy array on `device`, of the same dtype and shape."""
        raise NotImplementedError

    def uploader(self, device: str) -> Callable[[Array], Array]:
        """A function like `from_host` for one stream of arrays, which may keep buffers from call to call."""
        return lambda array: self.from_host(array, device)

    def to_host(self, array: Array) -> Array:
        """A NumPy array with the values of `array`; where both live in the same memory it may be a view."""
        raise NotImplementedError

    def synchronize(self, device: str) -> None:
        """Wait until everything that was queued on `device` is done."""

    def bind_program(self, program: Any, vectors: Sequence[Array]) -> Callable[[Any], None] | None:
        """An `ElementwiseProgram` on vectors of this library, a function of its numbers; None where it cannot be run here."""
        return None

    def move_averages(
        self, averages: Sequence[Array], values: Sequence[Array], keep: float, factors: Sequence[float],
        count: Array | None = None,
    ) -> bool:  # fmt: skip
        """averages[i] ← keep · averages[i] + factors[i] · values[i], in place, the values having any shapes of as many elements, and
        count ← count + 1, an int64, as one operation; False, with nothing done, where there is no such operation."""
        return False

    def clip_norm(self, vector: Array, most: float, small: float, only_finite: bool = False) -> Array | None:
        """Scale a vector in place by min(1, most / (‖vector‖ + small)), and give its norm before, with no wait of the host; None, with
        nothing done, where there is no such operation. `only_finite`: not by a norm that is infinite or NaN."""
        return None

    copies_together = False
    """Whether `copy_all` is less than the copies one by one."""

    def copy_all(self, pairs: Sequence[tuple[Array, Array]]) -> None:
        """Copy each second array into the first, which has its shape."""
        for to, source in pairs:
            to[...] = source

    def watch(
        self,
        vectors: Sequence[Array],
        ends: Sequence[Sequence[int]],
        room: int,
        rule: ScaleRule | None = None,
    ) -> Watch | None:
        """What looks at gradients, and at losses, on the device after each step, so many steps before it is read: at vectors whose
        ranges of numbers have these ends. `rule`: that of the loss's scale, where it has one. None where there is no such thing, as where
        nothing waits for a value."""
        return None

    def drop(
        self,
        x: Array,
        mask_shape: tuple[int, ...],
        address: tuple[int, int, int],
        threshold: int,
        scale: float,
    ) -> Array | None:
        """x · scale where the word of `random_bits` at the address (key, stream, step), of as many words as `mask_shape` has, is at least
        the threshold, else x · 0; None where there is no such operation."""
        return None

    def lower(
        self,
        functions: Any,
        instructions: Any,
        given: Sequence[Any],
        forms: Sequence[Any],
        wanted: Sequence[Any],
        own: Sequence[Any] | None = None,
    ) -> Any:
        """A trace (`jit.device_trace`) as a program of this library, on arrays of these forms. `own`: what is wanted in memory of its own
        (None: all)."""
        raise NotImplementedError(f"{self.name} runs no programs")

    captures = False
    """Whether a step on its devices can be captured as a graph."""

    def capture(self, device: str) -> Any:
        """What captures a step on a device (`cuda_capture.Capture`); only where the backend `captures`."""
        raise NotImplementedError(f"{self.name} captures no graphs")

    def is_capturing(self) -> bool:
        """Whether what is called now is recorded, not run, so that nothing may be compiled."""
        return False

    def memory(self, device: str) -> DeviceMemory:
        """What is known of a device's memory; NotImplementedError where the library does not count it."""
        raise NotImplementedError(f"{self.name} does not count the memory of {device}")

    def free_memory(self, device: str) -> None:
        """Give what the library holds and no array uses back to the device."""

    def accepts(self, kind: type) -> bool:
        """Whether instances of `kind`, a subclass of one of `array_types`, may be used as they are."""
        return True

    # ---- writing into arrays from outside ----

    eager = True
    """Whether values can be read; False while tracing."""

    def check(
        self,
        function: Callable[..., None],
        *arrays: Array,
        within: int | None = None,
        least: int = 0,
        ignored: int | None = None,
    ) -> None:
        """Call ``function(*arrays)``, which raises an error for invalid values. While tracing, it is called with NumPy arrays at
        each replay, before the replay changes anything. `within`: the function accepts
        integers from `least` to `within` − 1, and `ignored`."""
        function(*arrays)

    def target(self, array: Array) -> Array:
        """An array that outlives a step (a gradient buffer, say), as an operand of this backend's operations."""
        return array

    def arrange(self, array: Array, like: Array) -> Array:
        """`array` in the memory layout of `like`, if operations on both are faster then."""
        return array

    def as_real(self, array: Array) -> Array:
        """A vector of complex numbers as one of their real and imaginary parts, in the same memory. It stays as it is where its numbers are
        real, and where the library has no such view."""
        return array

    def common_memory(self, arrays: Sequence[Array]) -> Array | None:
        """A vector that consists of these arrays and nothing else, in its memory, where there is one and one pass over it is less
        than one over each; writes into it are writes into them."""
        return None

    def collectives(self, device: str) -> Any:
        """What adds up arrays on a device with those of other processes (`cupy_collectives.Collectives`), None where there is nothing."""
        return None

    def host_place(self, array: Array) -> Array | None:
        """A floating-point array itself, where code of the host may write into its memory in C order; else None."""
        return None

    def is_alone(self, array: Array) -> bool:
        """Whether an array owns its memory in C order; where nobody else knows the array, nobody sees what is written into it."""
        return False

    def adjacent(self, arrays: Sequence[Array]) -> Array | None:
        """The memory of arrays as one vector, where each lies behind the one before in one vector; writes into it are writes into them."""
        return None

    def logistic(self, x: Array, /) -> Array:
        """1 / (1 + e⁻ˣ), computed as ½ (1 + tanh(x/2)), which never overflows."""
        return self.tanh(x * 0.5) * 0.5 + 0.5

    def side_by_side(self, matrix: Array) -> Array:
        """A matrix, or a stack of them, as the library's products take it."""
        return matrix

    def affine(self, a: Array, b: Array, c: Array, /) -> Array:
        """A new array a b + c: the product of matrices (…, n, k) and (k, m), and a vector (m,) added to each row."""
        y = self.matmul(a, b)
        y += c
        return y

    def product_and_sums(self, a: Array, b: Array, /) -> tuple[Array, Array]:
        """New arrays aᵀ b and the sums of the columns of a: (k, m) and (k, n) → (m, n) and (m,); the gradients of a weight and a bias."""
        product = self.multiply if a.shape[0] == 1 else self.matmul  # BLAS has nothing for a column and a row
        return product(a.T, b), self.sum(a, axis=0)

    def multiplies_short(self, kind: str, primitive: str, *arrays: Any, **metadata: Any) -> bool:
        """Whether a primitive that multiplies these arrays is computed in the 16-bit dtype `kind`, and added up in float32, where they are
        converted to it. Within attention there are products of what was not rounded: that asks for a kernel of its own."""
        if kind not in self.short_products:
            return False
        if primitive != "attention":
            return True
        kernel = self.kernels.get(primitive)
        if kernel is None or kernel.takes is None:
            return False
        return kernel.takes(kind, *arrays, **metadata)

    @property
    def computing_formats(self) -> frozenset[str]:
        """The formats for which `computing` makes a difference."""
        return frozenset()

    @property
    def product_format(self) -> str | None:
        """The format of the block of `computing` that this is in, None where it makes no difference."""
        return None

    def computing(self, kind: str) -> contextlib.AbstractContextManager[None]:
        """A block in which products of float32 numbers, which the caller has rounded to the format `kind`, may be computed in it, and added
        up in float32."""
        return contextlib.nullcontext()

    def call(self, f: Callable[..., Any], *arrays: Array | None) -> Any:
        """``f(*arrays)``, as one instruction while tracing."""
        return f(*arrays)

    def store(self, array: Array, value: Any) -> Array:
        """Overwrite such an array; returns it as `target` does."""
        array[...] = value
        return array

    # ---- dtypes ----

    def dtype_name(self, native: Any) -> str:
        """The standard's name of a native dtype ("float32"); names of dtypes outside the standard pass
        through."""
        try:
            return self._dtype_names[native]
        except KeyError:
            name = self._name_dtype(native)
            self._dtype_names[native] = name
            return name

    def _name_dtype(self, native: Any) -> str:
        return str(native).rpartition(".")[2]

    # ---- what the standard lacks ----

    def random_bits(self, key: int, stream: int, step: int, n: int, device: str) -> Array:
        """`n` random uint32 words addressed by (key, stream, step): the same bits on every backend.

        They are the words of ``numpy.random.Philox(key=[key & 2**64 - 1, key >> 64], counter=[0, step,
        stream, 0])``, each 64-bit word split low half first.

        Shapes: (n,), dtype uint32. ValueError for a negative argument, a key ≥ 2¹²⁸, a stream or step ≥ 2⁶⁴.

        Source: Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011).
        """
        return self.from_host(philox.philox_words(key, stream, step, n), device)

    def index_add(self, x: Array, index: Array, values: Array) -> Array:
        """A new array: `x` with ``values[k]`` added to row ``x[index[k]]``; repeated rows accumulate.

        y[i] = x[i] + Σ_{k: index[k] = i} values[k]

        Shapes: x (n, …), index (k,) of integers in [-n, n), values (k, …). The result has the dtype of `x`.
        The sum is taken in a fixed order, so the same call gives the same bits. This version uses the
        standard alone: a stable sort, a segmented scan by doubling (log₂ k steps) and one gather.
        """
        n, k = check_index_add(self, x, index, values)
        if n == 0 or k == 0:
            return self.asarray(x, copy=True)
        if self.isdtype(index.dtype, "signed integer"):
            index = self.where(index < 0, index + n, index)
        order = self.argsort(index, stable=True)
        index = self.take(index, order, axis=0)
        values = self.take(values, order, axis=0)
        tail = (1,) * (len(x.shape) - 1)
        nothing = self.zeros((), dtype=x.dtype, device=x.device)
        shift = 1
        while shift < k:  # afterwards values[j] is the sum of its segment up to and including j
            same = self.reshape(index[shift:] == index[:-shift], (k - shift, *tail))
            added = values[shift:, ...] + self.where(same, values[:-shift, ...], nothing)
            values = self.concat([values[:shift, ...], added], axis=0)
            shift *= 2
        rows = self.arange(n, dtype=index.dtype, device=index.device)
        end = self.searchsorted(index, rows, side="right")
        found = end > self.searchsorted(index, rows, side="left")
        last = self.where(found, end - 1, self.zeros_like(end))
        return x + self.where(self.reshape(found, (n, *tail)), self.take(values, last, axis=0), nothing)

    def add_to_rows(self, array: Array, index: Array, values: Array) -> None:
        """`index_add` in place."""
        array[...] = self.index_add(array, index, values)

    def set_rows(self, array: Array, index: Array, values: Array) -> None:
        """Write values[k] into row index[k], in place; the index (k,) is sorted, each number there once.

        This version uses the standard alone, in one pass over the array; libraries that assign to rows have a better one.
        """
        n, k = array.shape[0], index.shape[0]
        if k == 0:
            return
        rows = self.arange(n, dtype=index.dtype, device=index.device)
        place = self.searchsorted(index, rows)
        place = self.where(place < k, place, self.zeros_like(place))
        found = self.reshape(self.take(index, place, axis=0) == rows, (n, *[1] * (len(array.shape) - 1)))
        array[...] = self.where(found, self.take(values, place, axis=0), array)

    def windows(
        self, x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
    ) -> Array:
        """All windows of the last ``len(kernel)`` axes of `x`, without padding.

        y[…, o₁, …, k₁, …] = x[…, o₁·stride₁ + k₁·dilation₁, …]

        Shapes: x (…, *spatial) → (…, *out, *kernel), out = ⌊(size − dilation·(kernel − 1) − 1) / stride⌋ + 1.
        The result must not be written to: it is a view where the library has strided views. ValueError where
        a window does not fit or the tuples disagree.
        """
        out = check_windows(x, kernel, stride, dilation)
        lead = len(x.shape) - len(kernel)
        device = x.device
        index_dtype = self.__array_namespace_info__().default_dtypes(device=device)["indexing"]
        shape = list(x.shape[:lead])
        for i, (o, k, s, d) in enumerate(zip(out, kernel, stride, dilation, strict=True)):
            start = self.arange(o, dtype=index_dtype, device=device) * s
            offset = self.arange(k, dtype=index_dtype, device=device) * d
            index = self.reshape(self.expand_dims(start, axis=1) + self.expand_dims(offset, axis=0), (o * k,))
            x = self.take(x, index, axis=lead + i)
            shape += [o, k]
        x = self.reshape(x, tuple(shape))
        axes = [*range(lead), *range(lead, len(shape), 2), *range(lead + 1, len(shape), 2)]
        return self.permute_dims(x, tuple(axes))

    def rounded(self, x: Array, kind: str) -> Array:
        """float32 numbers rounded to "tf32", "bfloat16" or "float16", in float32; over the host, where there is no other way."""
        numpy = late_import("numpy")
        with numpy.errstate(all="ignore"):
            return self.from_host(short_floats.rounded(numpy, self.to_host(x), kind), self.device_of(x))

    def all_finite(self, x: Array) -> bool:
        """Whether an array holds neither NaN nor infinities."""
        return bool(self.all(self.isfinite(x)))

    def finite_check(self, x: Array) -> Callable[[], bool]:
        """`all_finite` of one array again and again: a function that looks at what its memory holds then."""
        return lambda: self.all_finite(x)

    def errstate(self) -> contextlib.AbstractContextManager[Any]:
        """A context in which overflow, division by zero and invalid values raise no warnings."""
        return contextlib.nullcontext()

    def blas_info(self) -> dict[str, Any]:
        """The library that computes matrix products: keys such as "name", "version" and "threads", as far as known."""
        return {}

    def versions(self) -> dict[str, str]:
        """The versions of the libraries behind this backend."""
        return {self.name: str(getattr(self.native, "__version__", "unknown"))}


def window_counts(
    size: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], padding: Any, dilation: tuple[int, ...]
) -> tuple[int, ...]:  # fmt: skip
    """How many windows there are along each axis with (before, behind) of padding: below 1 where none fits."""
    each = zip(size, kernel, stride, padding, dilation, strict=True)
    return tuple([(n + lo + hi - d * (k - 1) - 1) // s + 1 for n, k, s, (lo, hi), d in each])


def window_view(
    x: Array, steps: tuple[int, ...], kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, ...], tuple[int, ...]]:  # fmt: skip
    """Shape and strides of `Backend.windows` as a view of an array with the strides `steps`."""
    out = check_windows(x, kernel, stride, dilation)
    lead = len(steps) - len(kernel)
    last = steps[lead:]
    moves = [a * b for many in (stride, dilation) for a, b in zip(last, many, strict=True)]
    return (*x.shape[:lead], *out, *kernel), (*steps[:lead], *moves)


def check_windows(
    x: Array, kernel: tuple[int, ...], stride: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[int, ...]:
    """The number of windows along each axis; ValueError for invalid arguments of `Backend.windows`."""
    shape = tuple(x.shape)
    axes = len(kernel)
    if not len(stride) == len(dilation) == axes or not 0 < axes <= len(shape):
        msg = (
            f"windows: kernel {kernel}, stride {stride} and dilation {dilation} need one number for "
            "each of the last "
            f"axes of x, which has shape {shape}"
        )
        raise ValueError(msg)
    out = []
    for size, k, s, d in zip(shape[-axes:], kernel, stride, dilation, strict=True):
        o = (size - d * (k - 1) - 1) // s + 1 if min(k, s, d) >= 1 else 0
        if o < 1:
            msg = (
                f"windows: kernel {kernel} with stride {stride} and dilation {dilation} does not "
                "fit into x of shape "
                f"{shape}: all must be at least 1, and the window no longer than the axis; pad x or "
                "take a smaller kernel"
            )
            raise ValueError(msg)
        out.append(o)
    return tuple(out)


def check_index_add(xp: Backend, x: Array, index: Array, values: Array) -> tuple[int, int]:
    """(rows of x, rows of values); ValueError or TypeError where the arguments of `Backend.index_add`
    disagree."""
    shape, rows = tuple(x.shape), tuple(index.shape)
    if not shape or len(rows) != 1 or tuple(values.shape) != (rows[0], *shape[1:]):
        expected = (
            f"values {(*rows, *shape[1:])}"
            if shape and len(rows) == 1
            else "index (k,) and x with at least 1 axis"
        )
        msg = f"index_add: got x {shape}, index {rows}, values {tuple(values.shape)}; expected {expected}"
        raise ValueError(msg)
    if x.dtype != values.dtype:
        msg = (
            f"index_add: x is {xp.dtype_name(x.dtype)} but values are {xp.dtype_name(values.dtype)}; "
            "use xp.astype"
        )
        raise TypeError(msg)
    if not xp.dtype_name(index.dtype).lstrip("u").startswith("int"):
        msg = f"index_add: the index must be of an integer dtype, got {xp.dtype_name(index.dtype)}"
        raise TypeError(msg)
    return shape[0], rows[0]
