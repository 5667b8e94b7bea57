"""Elementary functions of float32 as machine code, which is written in elementary.ll.

They are ufuncs, so that single calls and programs, which call their inner loops by address, give the same bits, and operations of fused
loops (`loop_ir`), which have them among their other operations. `logistic`, which is none of NumPy's functions, `exp` and `expm1` take
the place of what there is on every processor with a fused multiply-add; `log`, `log1p` and `tanh` where there is no AVX-512: with it
NumPy's are quicker, without it they take two to twenty times as long. Where there is no machine code all are NumPy's.
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

__all__ = [
    "ELEMENTARY", "LOGISTIC", "PREFIX", "by_dtype", "float32_ufunc", "in_use", "logistic", "multiplies_and_adds", "suited", "written_as",
]  # fmt: skip

LOGISTIC: Final = "logistic"
ELEMENTARY: Final = ("exp", "expm1", "log", "log1p", "tanh")
"""Those that take the place of NumPy's ufuncs."""
PREFIX: Final = "an_"
"""What the names in elementary.ll begin with."""
_ON_ANY_PROCESSOR: Final = ("exp", "expm1")
_FLOAT32: Final = np.dtype(np.float32)
_FROM_FUNCTIONS: Final = 1
"""The place of `PyUFunc_FromFuncAndData` in the table of NumPy's C API (numpy/ufuncobject.h), unchanged since NumPy 1.0."""
_NO_IDENTITY: Final = -1
_ours: Final[dict[np.ufunc, str]] = {}


@once
def in_use() -> tuple[str, ...]:
    """Which of them take the place of NumPy's. A process decides it once: every way to compute has the same functions."""
    if not installed():
        return ()
    return (LOGISTIC, *(_ON_ANY_PROCESSOR if _numpys_are_fast() else ELEMENTARY))


def _numpys_are_fast() -> bool:
    features = getattr(import_module("numpy._core._multiarray_umath"), "__cpu_features__", {})
    return bool(features.get("AVX512_SKX", False))


@once
def float32_ufunc(name: str) -> np.ufunc | None:
    """The function for float32 arrays as a ufunc: ours, or NumPy's, if NumPy has it."""
    plain: np.ufunc | None = getattr(np, name, None)
    table = getattr(import_module("numpy._core._multiarray_umath"), "_UFUNC_API", None)
    if table is None or not works() or not multiplies_and_adds():
        return plain
    code = text_of("elementary.ll") + text_of("elementary_loop.ll", FUNCTION=name)
    made = _new_ufunc(name, table, compiler().functions(code, ("inner_loop",))["inner_loop"])
    _ours[made] = PREFIX + name
    return made


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


def written_as(f: np.ufunc) -> str:
    """The name in elementary.ll of a ufunc of ours, "" of any other."""
    return _ours.get(f, "")


def suited(f: Any, x: Any) -> Any:
    """The function in place of a ufunc of NumPy's for the argument x: ours if there is one, else f itself."""
    name = getattr(f, "__name__", "")
    if name in in_use() and getattr(x, "dtype", None) == _FLOAT32 and f is getattr(np, name, None):
        return float32_ufunc(name)
    return f


def by_dtype(name: str) -> Callable[[Array], Array]:
    """The function for arrays of every dtype; machine code is not made before it is needed."""
    plain: np.ufunc = getattr(np, name)

    def function(x: Array, /) -> Array:
        return float32_ufunc(name)(x) if x.dtype == _FLOAT32 else plain(x)  # type: ignore[misc]

    function.__name__ = name
    function.ufunc = plain  # type: ignore[attr-defined]
    return function


def logistic(x: Array) -> np.ufunc | None:
    """The ufunc for 1 / (1 + e⁻ˣ) of such an array; None where there is none."""
    return float32_ufunc(LOGISTIC) if x.dtype == _FLOAT32 and LOGISTIC in in_use() else None
