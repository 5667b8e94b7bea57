"""bfloat16 of CuPy, which is that of ml_dtypes: there where that is installed.

CuPy has loops for most functions of it. NumPy's rules of promotion, which it goes by, know it as a stranger: beside a Python float, and
of functions without a loop, the result is float32. So a primitive's result is rounded, once (`promoted`), and what it computed before was
wider than it need be. What CuPy refuses is computed in float32 here, which holds each number of bfloat16; what has no meaning in so few
bits raises TypeError.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np

from anynet_backends.array_api import FFT

__all__ = ["dtype", "functions", "of_extension", "promoted"]

_BY_FLOAT32: Final = (
    "argsort", "cumulative_prod", "cumulative_sum", "isin", "matmul", "round", "searchsorted", "sort", "std", "tensordot", "tril", "triu",
    "unique_all", "unique_counts", "unique_inverse", "unique_values", "var", "vecdot", "vector_norm", "where",
)  # fmt: skip
_SOLVERS: Final = (
    "cholesky", "det", "eig", "eigh", "eigvals", "eigvalsh", "inv", "matrix_norm", "matrix_rank", "pinv", "qr", "slogdet", "solve", "svd",
    "svdvals",
)  # fmt: skip
_OF_FREQUENCIES: Final = tuple(n for n in FFT if not n.endswith(("freq", "shift")))


@functools.cache
def dtype() -> np.dtype[Any] | None:
    """CuPy's bfloat16; None without ml_dtypes, and with a NumPy of which CuPy has no loops for it."""
    if np.lib.NumpyVersion(np.__version__) < "2.1.2":
        return None
    try:
        found: np.dtype[Any] = np.dtype(importlib.import_module("ml_dtypes").bfloat16)
    except ImportError:
        return None
    return found


def promoted(found: Any, data: Iterable[Any], meta: dict[str, Any]) -> Any:
    """The dtype of a result that is `found`: of bfloat16, and no other numbers with a fraction, it is no wider, if none was asked for."""
    if found.char not in "fdD" or meta.get("dtype") is not None:
        return found
    short = False
    for x in data:
        kind = getattr(getattr(x, "dtype", None), "kind", "")
        if kind in {"f", "c"}:
            return found
        short = short or kind == "V"
    return found if not short else np.dtype(np.complex64) if found.kind == "c" else dtype()


def functions(namespace: dict[str, Any]) -> dict[str, Callable[..., Any]]:
    """The functions of a namespace of CuPy that know bfloat16; none where there is no such type."""
    short = dtype()
    if short is None:
        return {}
    found = {n: _by_float32(namespace[n], short) for n in _BY_FLOAT32 if n in namespace}
    isdtype, finfo = namespace["isdtype"], namespace["finfo"]
    kinds = {"real floating", "numeric"}

    def knowing(dtype: Any, kind: Any) -> bool:
        if dtype != short:
            return bool(isdtype(dtype, kind))
        each = kind if isinstance(kind, tuple) else (kind,)
        return any(k in kinds if isinstance(k, str) else k == short for k in each)

    def limits(type: Any, /) -> Any:
        if getattr(type, "dtype", type) == short:
            return importlib.import_module("ml_dtypes").finfo(short)
        return finfo(type)

    def result_type(*given: Any) -> Any:
        kinds = [getattr(x, "dtype", x) for x in given]
        if not any(isinstance(k, np.dtype) and k == short for k in kinds):
            return namespace["result_type"](*given)
        others = [k for k in kinds if isinstance(k, np.dtype) and k != short and k.kind in "fc"]
        others += [np.dtype(np.complex64)] * any(isinstance(k, complex) for k in kinds)
        return np.result_type(*others, np.float32) if others else short

    return found | {"isdtype": knowing, "finfo": limits, "result_type": result_type}


def of_extension(name: str, members: dict[str, Callable[..., Any]]) -> dict[str, Callable[..., Any]]:
    """The functions of linalg or fft that know bfloat16: what they solve or transform has no meaning in it, and is refused."""
    short = dtype()
    if short is None:
        return {}
    found = {n: _by_float32(f, short) for n, f in members.items() if n in _BY_FLOAT32}
    return found | {
        n: _refused(f"{name}.{n}", members[n], short) for n in (*_SOLVERS, *_OF_FREQUENCIES) if n in members
    }


def _refused(name: str, function: Callable[..., Any], short: np.dtype[Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if any(getattr(x, "dtype", None) == short for x in args):
            msg = f"{name}: numbers must be of float32, float64, complex64 or complex128, got bfloat16; convert them with anynet.astype"
            raise TypeError(msg)
        return function(*args, **kwargs)

    return call


def _by_float32(function: Callable[..., Any], short: np.dtype[Any]) -> Callable[..., Any]:
    """A function that computes bfloat16 in float32."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not any(getattr(x, "dtype", None) == short for x in args):
            return function(*args, **kwargs)
        y = function(
            *[x.astype(np.float32) if getattr(x, "dtype", None) == short else x for x in args], **kwargs
        )

        def fitted(v: Any) -> Any:
            return v.astype(promoted(v.dtype, args, kwargs), copy=False)

        return y._make(map(fitted, y)) if isinstance(y, tuple) else fitted(y)  # type: ignore[attr-defined]

    return call
