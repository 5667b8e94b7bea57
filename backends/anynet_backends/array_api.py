"""The names of the array API standard, revision 2025.12, and the type of an array.

Taken from the stubs of the standard (https://github.com/data-apis/array-api,
``src/array_api_stubs/_2025_12``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeAlias

__all__ = ["Array", "CONSTANTS", "DTYPES", "FFT", "FUNCTIONS", "LINALG", "REVISION", "set_operators"]

REVISION: Final = "2025.12"

CONSTANTS: Final = ("e", "inf", "nan", "newaxis", "pi")

DTYPES: Final = (
    "bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64",
    "float32", "float64", "complex64", "complex128",
)  # fmt: skip

FUNCTIONS: Final = (
    # creation
    "arange", "asarray", "empty", "empty_like", "eye", "from_dlpack", "full", "full_like", "linspace",
    "meshgrid",
    "ones", "ones_like", "tril", "triu", "zeros", "zeros_like",
    # dtypes
    "astype", "can_cast", "finfo", "iinfo", "isdtype", "result_type",
    # elementwise
    "abs", "acos", "acosh", "add", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and",
    "bitwise_left_shift",
    "bitwise_invert", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "clip", "conj", "copysign",
    "cos",
    "cosh", "divide", "equal", "exp", "expm1", "floor", "floor_divide", "greater", "greater_equal", "hypot",
    "imag",
    "isfinite", "isinf", "isnan", "less", "less_equal", "log", "log1p", "log2", "log10", "logaddexp",
    "logical_and",
    "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply", "negative", "nextafter",
    "not_equal", "positive", "pow", "real", "reciprocal", "remainder", "round", "sign", "signbit", "sin",
    "sinh",
    "square", "sqrt", "subtract", "tan", "tanh", "trunc",
    # indexing
    "take", "take_along_axis",
    # linear algebra
    "matmul", "matrix_transpose", "tensordot", "vecdot",
    # manipulation
    "broadcast_arrays", "broadcast_shapes", "broadcast_to", "concat", "expand_dims", "flip", "moveaxis",
    "permute_dims", "repeat", "reshape", "roll", "squeeze", "stack", "tile", "unstack",
    # searching
    "argmax", "argmin", "count_nonzero", "nonzero", "searchsorted", "where",
    # sets and sorting
    "isin", "unique_all", "unique_counts", "unique_inverse", "unique_values", "argsort", "sort",
    # statistics and utilities
    "cumulative_sum", "cumulative_prod", "max", "mean", "min", "prod", "std", "sum", "var", "all", "any",
    "diff",
)  # fmt: skip

LINALG: Final = (
    "cholesky", "cross", "det", "diagonal", "eig", "eigh", "eigvals", "eigvalsh", "inv", "matmul",
    "matrix_norm",
    "matrix_power", "matrix_rank", "matrix_transpose", "outer", "pinv", "qr", "slogdet", "solve", "svd",
    "svdvals",
    "tensordot", "trace", "vecdot", "vector_norm",
)  # fmt: skip

FFT: Final = (
    "fft", "ifft", "fftn", "ifftn", "rfft", "irfft", "rfftn", "irfftn", "hfft", "ihfft", "fftfreq",
    "rfftfreq",
    "fftshift", "ifftshift",
)  # fmt: skip

_ARITHMETIC: Final = {
    "add": "add", "sub": "subtract", "mul": "multiply", "truediv": "divide", "floordiv": "floor_divide", "mod": "remainder",
    "pow": "pow", "matmul": "matmul", "and": "bitwise_and", "or": "bitwise_or", "xor": "bitwise_xor",
    "lshift": "bitwise_left_shift", "rshift": "bitwise_right_shift",
}  # fmt: skip
_COMPARISONS: Final = {
    "eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal",
}  # fmt: skip
_UNARY: Final = {"neg": "negative", "pos": "positive", "abs": "abs", "invert": "bitwise_invert"}


def set_operators(kind: type, of_two: Callable[[str], Any], of_one: Callable[[str], Any]) -> None:
    """Give a type of arrays its operators. ``of_one(name)`` gives the method of the standard's function, ``of_two(name)`` three: of an
    operator, of the reflected one, of the one in place."""
    for short, name in (_ARITHMETIC | _COMPARISONS).items():
        forward, reflected, in_place = of_two(name)
        setattr(kind, f"__{short}__", forward)
        if short in _ARITHMETIC:
            setattr(kind, f"__r{short}__", reflected)
            setattr(kind, f"__i{short}__", in_place)
    for short, name in _UNARY.items():
        setattr(kind, f"__{short}__", of_one(name))


Array: TypeAlias = Any
"""A plain array of any library. The libraries share no base class, so the type is documentation."""
