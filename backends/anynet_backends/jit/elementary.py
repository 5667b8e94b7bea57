"""Elementary functions of float32 as machine code, which is written in elementary.ll.

Without AVX-512 NumPy's `expm1` and `log1p` work number by number and take ten to twenty times as long, `exp` and `tanh` two to three times.
These are ufuncs, too, so that single calls and programs, which call their inner loops by address, give the same bits. Where there is no
machine code, or the processor has no fused multiply-add or has AVX-512, they are NumPy's.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import Array
from anynet_backends.concurrency import immortal, once
from anynet_backends.jit.availability import installed, works
from anynet_backends.jit.compiler import compiler, text_of

__all__ = ["ELEMENTARY", "by_dtype", "float32_ufunc", "in_use", "multiplies_and_adds", "suited"]

ELEMENTARY: Final = ("exp", "expm1", "log", "log1p", "tanh")
_FLOAT32: Final = np.dtype(np.float32)
_FROM_FUNCTIONS: Final = 1
"""The place of `PyUFunc_FromFuncAndData` in the table of NumPy's C API (numpy/ufuncobject.h), unchanged since NumPy 1.0."""
_NO_IDENTITY: Final = -1


@once
def in_use() -> bool:
    """Whether they take the place of NumPy's. A process decides it once: every way to compute has the same functions."""
    return installed() and not _numpys_are_fast()


def _numpys_are_fast() -> bool:
    features = getattr(import_module("numpy._core._multiarray_umath"), "__cpu_features__", {})
    return bool(features.get("AVX512_SKX", False))


@once
def float32_ufunc(name: str) -> np.ufunc:
    """The function for float32 arrays as a ufunc: ours, or NumPy's."""
    plain: np.ufunc = getattr(np, name)
    table = getattr(import_module("numpy._core._multiarray_umath"), "_UFUNC_API", None)
    if table is None or not works() or not multiplies_and_adds():
        return plain
    loop = compiler().functions(text_of("elementary.ll", FUNCTION=name), ("inner_loop",))["inner_loop"]
    return _new_ufunc(name, table, loop)


def multiplies_and_adds() -> bool:
    """Whether the processor has the fused multiply-add that the functions are made of."""
    made = compiler()
    return "+fma" in made.features.split(",") or made.llvm.get_default_triple().startswith("aarch64")


def _new_ufunc(name: str, table: Any, loop: int) -> np.ufunc:
    """A ufunc of one float32 number, by NumPy's C API, with the inner loop at an address."""
    pointer, number, any_object = ctypes.c_void_p, ctypes.c_int, ctypes.py_object
    unpack = ctypes.PYFUNCTYPE(pointer, any_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    address = ctypes.cast(unpack(table, None), ctypes.POINTER(pointer))[_FROM_FUNCTIONS]
    make = ctypes.PYFUNCTYPE(any_object, *[pointer] * 3, *[number] * 4, *[pointer] * 2, number)(address)
    texts = (bytes((_FLOAT32.num, _FLOAT32.num)), name.encode(), b"of float32 numbers")
    kept: tuple[Any, ...] = immortal(
        ((pointer * 1)(loop), (pointer * 1)(), *map(ctypes.create_string_buffer, texts))
    )
    functions, data, types, called, said = [ctypes.addressof(a) for a in kept]
    made: np.ufunc = make(functions, data, types, 1, 1, 1, _NO_IDENTITY, called, said, 0)
    return immortal(made)


def suited(f: Any, x: Any) -> Any:
    """The function in place of a ufunc of NumPy's for the argument x: ours if there is one, else f itself."""
    name = getattr(f, "__name__", "")
    if name in ELEMENTARY and in_use() and getattr(x, "dtype", None) == _FLOAT32 and f is getattr(np, name):
        return float32_ufunc(name)
    return f


def by_dtype(name: str) -> Callable[[Array], Array]:
    """The function for arrays of every dtype; machine code is not made before it is needed."""
    plain: np.ufunc = getattr(np, name)

    def function(x: Array, /) -> Array:
        return float32_ufunc(name)(x) if x.dtype == _FLOAT32 else plain(x)

    function.__name__ = name
    function.ufunc = plain  # type: ignore[attr-defined]
    return function
