"""The inner loops of NumPy's ufuncs, which machine code calls directly: the same code on the same memory, so the same bits."""

from __future__ import annotations

import ctypes
import functools
import sys

import numpy as np

__all__ = ["inner_loop", "loops_fit"]


class _UFunc(ctypes.Structure):
    """The head of `PyUFuncObject` (numpy/ufuncobject.h), unchanged since NumPy 1.0."""

    _fields_ = (
        ("head", ctypes.c_byte * object.__basicsize__),
        ("nin", ctypes.c_int),
        ("nout", ctypes.c_int),
        ("nargs", ctypes.c_int),
        ("identity", ctypes.c_int),
        ("functions", ctypes.POINTER(ctypes.c_void_p)),
        ("data", ctypes.POINTER(ctypes.c_void_p)),
        ("ntypes", ctypes.c_int),
        ("reserved", ctypes.c_int),
        ("name", ctypes.c_char_p),
    )


_InnerLoop = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 4)


@functools.cache
def inner_loop(ufunc: np.ufunc, types: str) -> tuple[int, int] | None:
    """(address of the inner loop, its data) of a ufunc for types such as "ff->f"; None where it has no such loop, or one that raises
    errors of Python (powers of integers with a negative exponent), which machine code would not see."""
    if ufunc is np.power and types[0] not in "efdgFDG":
        return None
    head = _UFunc.from_address(id(ufunc))
    if types not in ufunc.types:
        return None
    i = ufunc.types.index(types)
    address = head.functions[i]
    return None if address is None else (address, head.data[i] or 0)


def loops_fit() -> bool:
    """Whether the struct is where it is expected: asked of its plain numbers, and of one loop."""
    if sys.implementation.name != "cpython" or hasattr(sys, "getobjects"):
        return False
    for ufunc in (np.add, np.matmul, np.tanh):
        head = _UFunc.from_address(id(ufunc))
        if (head.nin, head.nout, head.nargs, head.ntypes) != (
            ufunc.nin,
            ufunc.nout,
            ufunc.nargs,
            ufunc.ntypes,
        ):
            return False
        if head.name != ufunc.__name__.encode():
            return False
    found = inner_loop(np.add, "dd->d")
    if found is None:
        return False
    a, b, out = np.arange(3.0), np.ones(3), np.zeros(3)
    args = (ctypes.c_void_p * 3)(*(x.__array_interface__["data"][0] for x in (a, b, out)))
    dims, steps = (ctypes.c_int64 * 1)(3), (ctypes.c_int64 * 3)(8, 8, 8)
    _InnerLoop(found[0])(ctypes.addressof(args), ctypes.addressof(dims), ctypes.addressof(steps), found[1])
    return bool((out == a + b).all())
