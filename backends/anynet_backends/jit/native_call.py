"""Programs as built-in functions of Python: small operations without the interpreter's and NumPy's cost per call.

A call of a NumPy function on a small array takes 0.4 to 1 µs, most of it spent on finding the loop to run, and one of
anynet's operations makes several such calls. Here the NumPy calls of one operation, traced and translated into a segment, become a
built-in function. It compares its arguments, as they lie in memory (`PyArrayObject`), with the plans that it has, makes the results
of the plan that matches (`PyArray_NewFromDescr`), enters the addresses into its table of calls and runs that (native_call.ll). These
are the same loops on the same numbers in the same order, so the same bits.

It returns None, and nothing has happened, where no plan matches, or where a floating-point exception is raised on the way: NumPy then
does it again and warns, or not, as the user has asked it to.
"""

from __future__ import annotations

import ctypes
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from anynet_backends import onednn
from anynet_backends.array_api import Array
from anynet_backends.concurrency import once
from anynet_backends.jit import availability, native_function, segment
from anynet_backends.jit.compiler import compiler, text_of
from anynet_backends.jit.native_function import floating_point_exceptions
from anynet_backends.jit.parallel import parallel_regions
from anynet_backends.memory.layout import axes_in_memory
from anynet_backends.memory.outputs import empty_output

__all__ = [
    "DTYPE",
    "MAX_ARRAYS",
    "DispatchTable",
    "Fit",
    "NativePlan",
    "available",
    "primitive_call",
    "same_order",
    "same_places",
]

DTYPE: Final = np.dtype

MAX_ARRAYS: Final = 64
"""Arguments and results of one function."""

_AT: Final = {"data": 16, "ndim": 24, "shape": 32, "strides": 40, "dtype": 56, "flags": 64}
"""Where `PyArrayObject` (numpy/ndarraytypes.h, unchanged since NumPy 1.7) has what is asked here."""
_ALIGNED: Final = 0x0100
_NEW_FROM_DESCR: Final = 94  # in the table of NumPy's C API, which its ABI fixes


def available() -> bool:
    """Whether machine code is installed, and can be called in this way."""
    return availability.installed() and _layouts_fit()


@once
def _layouts_fit() -> bool:
    """Whether Python's and NumPy's objects are laid out as this module expects: asked of an array."""
    fits = (
        sys.maxsize == 2**63 - 1 and sys.implementation.name == "cpython" and not hasattr(sys, "getobjects")
    )
    if not fits or not floating_point_exceptions():
        return False
    if not all(hasattr(ctypes.pythonapi, name) for name in ("feclearexcept", "fetestexcept")):
        return False
    x = np.zeros((3, 4), np.float32)[:, ::2]
    at = id(x)
    read = ctypes.c_int64.from_address
    shape, strides = (read(at + _AT[name]).value for name in ("shape", "strides"))
    if (
        read(at + 8).value != id(np.ndarray)
        or read(at + _AT["data"]).value != x.__array_interface__["data"][0]
        or ctypes.c_int32.from_address(at + _AT["ndim"]).value != 2
        or (read(shape).value, read(shape + 8).value) != x.shape
        or (read(strides).value, read(strides + 8).value) != x.strides
        or read(at + _AT["dtype"]).value != id(x.dtype)
        or not ctypes.c_int32.from_address(at + _AT["flags"]).value & _ALIGNED
    ):
        return False
    made = ctypes.PYFUNCTYPE(
        ctypes.py_object, ctypes.c_void_p, ctypes.py_object, ctypes.c_int, ctypes.c_void_p, *[ctypes.c_void_p] * 2,
        ctypes.c_int, ctypes.c_void_p,
    )(_new_array())  # fmt: skip
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(x.dtype))  # which the call takes
    y = made(id(np.ndarray), x.dtype, 2, shape, None, None, 0, None)
    return type(y) is np.ndarray and (y.shape, y.dtype) == (x.shape, x.dtype)


@functools.cache
def _new_array() -> int:
    """The address of `PyArray_NewFromDescr`."""
    from numpy._core import _multiarray_umath  # type: ignore[attr-defined]

    form = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
    table = form(("PyCapsule_GetPointer", ctypes.pythonapi))(_multiarray_umath._ARRAY_API, None)
    return ctypes.c_int64.from_address(table + 8 * _NEW_FROM_DESCR).value


class _Function(NamedTuple):
    """A C function that objects are made of: `make(definition, self)`."""

    definition: native_function.MethodDefinition
    address: int


@once
def _functions() -> dict[str, _Function]:
    values = {"MOST": MAX_ARRAYS, "ITEMS": tuple.__basicsize__, "EXCEPTIONS": floating_point_exceptions()}
    code = text_of("structs.ll") + text_of("native_call.ll", **values)
    flagged = {"dispatch": 0x80, "pullback": 0x08, "primitive": 0x80}  # METH_FASTCALL, METH_O
    found = compiler().functions(code, tuple(flagged))
    made = {}
    for name, flags in flagged.items():
        definition = native_function.MethodDefinition(name.encode(), found[name], flags, None)
        made[name] = _Function(definition, ctypes.addressof(definition))
    return made


Fit: TypeAlias = Callable[[Array, "tuple[int, ...]"], bool]
"""Whether a gradient lies in memory as a plan can take it that was made for one with these strides."""
Layouts: TypeAlias = "tuple[tuple[int, ...], ...]"
"""The strides of the gradients."""
Make: TypeAlias = Callable[[Layouts], "NativePlan | None"]
"""Makes the plan of the same backward pass, with the same arrays kept, for gradients with these strides; None where there is none, and
BlockingIOError where it cannot be made now."""


class NativePlan:
    """A segment for arrays of given forms: what is read, what is made, what is given.

    `rows`: functions that work on `arguments`, `results` and arrays of their own. `gives`: numbers of arguments and
    results (those behind the arguments), -1 for None. Alone, a plan gives its one result; with `back`, the plan of a
    backward pass whose last arguments are `gradients`, it gives the result and a function of the gradient, for which
    it keeps what `gives` says. Where it has several `outputs`, it gives a tuple of these, and that function, of a tuple
    of gradients, or None. `plain(arguments …)` does the same by NumPy calls. Gradients that lie in memory in another way are copied, but
    where they are not as `fit` asks (`same_order`, `same_places`) there is another plan, which `make(strides of each)` makes, since the
    bits of sums may depend on where their numbers lie, and NumPy lays results out as their operands; without it the function gives
    NotImplemented."""

    def __init__(
        self,
        rows: Sequence[segment.KernelCall],
        arguments: Sequence[Array],
        results: Sequence[Array],
        gives: Sequence[int],
        back: NativePlan | None = None,
        plain: Callable[..., Any] | None = None,
        outputs: int = 1,
        gradients: int = 0,
        fit: Fit | None = None,
        make: Make | None = None,
    ) -> None:
        held: list[Any] = [back]

        def cells(*numbers: int) -> int:
            array = np.array(numbers, np.int64)
            held.append(array)
            return native_function.data_pointer(array)

        roots = (*arguments, *results)
        moves: list[int] = []
        rows = parallel_regions(rows)
        for row in rows:
            found, needed = segment.relocations(row, roots)
            moves += found
            held += needed
        # a gradient that is not read may be of any form
        read = {*moves[1::3], *gives, *range(len(arguments) - gradients)}
        specs = [
            cells(id(a.dtype), a.ndim, *a.shape, *a.strides) if i in read else 0
            for i, a in enumerate(arguments)
        ]
        outs = [
            n
            for a in results
            for n in (id(a.dtype), a.ndim, cells(*a.shape), 0 if a.flags.c_contiguous else cells(*a.strides))
        ]
        held += [a.dtype for a in roots]
        table = np.array([row.cells for row in rows], np.int64)
        held.append(table)
        pull = _functions()["pullback"].address if back is not None else 0
        self.record = np.array([
            0, len(arguments), cells(*specs), native_function.data_pointer(table), len(rows), len(moves) // 3, cells(*moves),
            len(results), cells(*outs), id(np.ndarray), _new_array(), pull, id(back.holder) if back is not None else 0,
            len(gives), cells(*gives), compiler().runtime["run_table"], id(None), outputs, gradients, id(tuple),
        ], np.int64)  # fmt: skip
        layouts = tuple([a.strides for a in arguments[len(arguments) - gradients :]])
        other = None if plain is None else _Elsewhere(self.record, plain, layouts, fit, make)
        self.holder: tuple[Any, ...] = (self.record, other, held)


_MAX_LAYOUTS, _MAX_COUNTED, _WARMUP_CALLS = 4, 256, 8


class _Elsewhere:
    """The backward pass for gradients that lie in memory in another way than a plan knows, or where NumPy would warn."""

    def __init__(
        self, first: Array, plain: Callable[..., Any], layouts: Layouts, fit: Fit | None, make: Make | None
    ) -> None:
        """`first`: the record of the plan."""
        self.first, self.plain, self.layouts, self.fit, self.make = first, plain, layouts, fit, make
        self.counts: dict[Layouts, int] = {}
        self.others: dict[Layouts, NativePlan | None] = {}

    def __call__(self, state: tuple[Any, ...], g: Any) -> Any:
        given = g if type(g) is tuple else (g,)
        moved = not all(map(_lies_so, given, self.layouts))
        if moved and self.fit is not None and not all(map(self.fit, given, self.layouts)):
            return self._by_another_plan(state, g, given)
        laid = [_laid_out(x, strides) for x, strides in zip(given, self.layouts, strict=True)]
        # axes of length 1 may have a step of their own
        if not moved or any(x.strides != strides for x, strides in zip(laid, self.layouts, strict=True)):
            return self.plain(*state[1:], *laid)
        return _pulled(state, tuple(laid) if type(g) is tuple else laid[0])

    def _by_another_plan(self, state: tuple[Any, ...], g: Any, given: tuple[Array, ...]) -> Any:
        layouts = tuple([x.strides for x in given])
        if layouts in self.others:  # there is none, or it has not run
            return NotImplemented
        seen = self.counts[layouts] = self.counts.get(layouts, 0) + 1
        if seen < _WARMUP_CALLS or self.make is None or len(self.others) == _MAX_LAYOUTS:
            if len(self.counts) > _MAX_COUNTED:
                self.counts.clear()
            return NotImplemented
        try:
            plan = self.others[layouts] = self.make(layouts)
        except BlockingIOError:
            return NotImplemented
        if plan is None:
            return NotImplemented
        plan.record[0] = self.first[0]
        self.first[0] = native_function.data_pointer(plan.record)
        return _pulled(state, g)


def _pulled(state: tuple[Any, ...], g: Any) -> Any:
    return native_function.native_function(_functions()["pullback"].address, state)(g)


def same_places(g: Array, strides: tuple[int, ...]) -> bool:
    """Whether the numbers of a gradient lie as in an array with these strides; the step along an axis of length 1 says nothing."""
    return all(n == 1 or a == b for n, a, b in zip(g.shape, g.strides, strides, strict=True))


def same_order(g: Array, strides: tuple[int, ...]) -> bool:
    """Whether the axes of a gradient have the order in memory that they have in an array with these strides. An axis along which it is
    repeated, or of length 1, says nothing."""
    axes = [(own, a) for n, own, a in zip(g.shape, g.strides, strides, strict=True) if n > 1 and own]
    ranked = [a for _, a in sorted(axes, reverse=True)]
    return all(own > 0 for own, _ in axes) and ranked == sorted(ranked, reverse=True)


def _lies_so(g: Array, strides: tuple[int, ...]) -> bool:
    return type(g) is np.ndarray and g.strides == strides and g.flags.aligned


def _laid_out(g: Array, strides: tuple[int, ...]) -> Array:
    """A gradient as it is, or as a copy, in the order in memory that these strides have."""
    if _lies_so(g, strides):
        return g
    copy = empty_output(g.shape, g.dtype, axes_in_memory(strides))
    copy[...] = g
    return copy


class DispatchTable:
    """The plans for one operation; `call(arguments …)` gives what the fitting one does, or None. It holds the plans, of which
    none is taken away: another thread may be in it."""

    def __init__(self) -> None:
        self.plans: list[NativePlan] = []
        self.first = np.array([0, id(None)], np.int64)
        self.call: Callable[..., Any] = native_function.native_function(
            _functions()["dispatch"].address, (self.first, self.plans)
        )

    def add(self, plan: NativePlan) -> None:
        """One more form of arguments, asked first."""
        plan.record[0] = self.first[0]
        self.plans.append(plan)
        self.first[0] = native_function.data_pointer(plan.record)


def primitive_call(count: int, data: Array, held: Any) -> Callable[..., int]:
    """A call of oneDNN as a function of so many arrays; `data`: see `onednn` in `anynet_backends.jit.compiler`."""
    if count > MAX_ARRAYS:
        msg = f"a primitive of {count} arrays; {MAX_ARRAYS} are the most"
        raise ValueError(msg)
    cells = np.array(
        [count, id(np.ndarray), compiler().runtime["onednn"], native_function.data_pointer(data)], np.int64
    )
    return native_function.native_function(_functions()["primitive"].address, (cells, data, held))


def _native_onednn_call(step: onednn.Step) -> Callable[..., int] | None:
    """A step of oneDNN as a built-in function, with scratch memory of its own; None without machine code."""
    if not available() or not availability.available():
        return None
    call = primitive_call(step.count, step.cells(), step.args)
    return functools.partial(call, np.empty(step.room, np.uint8)) if step.room else call


onednn.primitive.native_call = _native_onednn_call
