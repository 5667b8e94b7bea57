"""Element-wise functions as expressions of CUDA C++: one table for updates of optimizers and for fused operations."""

from __future__ import annotations

from typing import Final

__all__ = ["EXPRESSIONS", "FLOATS", "INTEGERS", "REGISTERS", "SHORT", "STORED", "TYPES", "expression"]

REGISTERS: Final = {
    "?": "bool", "e": "float", "E": "float", "f": "float", "d": "double", "b": "i8", "B": "u8", "h": "i16", "H": "u16", "i": "i32",
    "I": "u32", "l": "i64", "L": "u64", "q": "i64", "Q": "u64",
}  # fmt: skip
"""The type in which numbers of a NumPy type are computed, by its letter (E: bfloat16); those of 16 bits are rounded after each function."""
SHORT: Final = {"e": "half", "E": "bfloat16"}
"""The word for types of 16 bits in CUDA's functions that convert them."""
STORED: Final = REGISTERS | {"e": "__half", "E": "__nv_bfloat16"}
"""The type in memory."""
TYPES: Final = """
typedef signed char i8; typedef unsigned char u8; typedef short i16; typedef unsigned short u16;
typedef int i32; typedef unsigned int u32; typedef long long i64; typedef unsigned long long u64;
"""
"""The names of types of integers."""
FLOATS: Final = frozenset("eEfd")
INTEGERS: Final = frozenset("bBhHiIlLqQ")

_OF_ONE: Final = (
    "sqrt", "exp", "expm1", "log", "log1p", "log2", "log10", "tanh", "sinh", "cosh", "tan", "sin", "cos", "asin", "acos", "atan",
    "asinh", "acosh", "atanh", "floor", "ceil", "trunc", "rint", "erf", "erfc",
)  # fmt: skip
_FLOATING: Final = {
    "divide": "{0} / {1}",
    "reciprocal": "{t}(1) / {0}",
    "power": "pow({0}, {1})",
    "pow": "pow({0}, {1})",
    "copysign": "copysign({0}, {1})",
    "atan2": "atan2({0}, {1})",
    "absolute": "fabs({0})",
    "abs": "fabs({0})",
    "fabs": "fabs({0})",
    "isfinite": "{0} - {0} == 0",
    "isinf": "{0} == {0} && !({0} - {0} == 0)",
    "signbit": "copysign({t}(1), {0}) < 0",
    "round": "rint({0})",
    **{name: name + "({0})" for name in _OF_ONE},
}
_INTEGRAL: Final = {
    "absolute": "{0} < 0 ? -{0} : {0}",
    "abs": "{0} < 0 ? -{0} : {0}",
    "isfinite": "true",
    "isinf": "false",
}
_BITS: Final = {
    "bitwise_and": "{0} & {1}",
    "bitwise_or": "{0} | {1}",
    "bitwise_xor": "{0} ^ {1}",
}
_ANY: Final = {
    "add": "{0} + {1}",
    "subtract": "{0} - {1}",
    "multiply": "{0} * {1}",
    "negative": "-{0}",
    "positive": "{0}",
    "square": "{0} * {0}",
    "maximum": "{0} != {0} ? {0} : {1} != {1} ? {1} : {0} > {1} ? {0} : {1}",
    "minimum": "{0} != {0} ? {0} : {1} != {1} ? {1} : {0} < {1} ? {0} : {1}",
    "clip": "{0} != {0} ? {0} : {0} < {1} ? {1} : {0} > {2} ? {2} : {0}",
    "sign": "{0} != {0} ? {0} : {t}(({0} > {t}(0)) - ({0} < {t}(0)))",
    "equal": "{0} == {1}",
    "not_equal": "{0} != {1}",
    "less": "{0} < {1}",
    "less_equal": "{0} <= {1}",
    "greater": "{0} > {1}",
    "greater_equal": "{0} >= {1}",
    "logical_and": "{0} && {1}",
    "logical_or": "{0} || {1}",
    "logical_xor": "bool({0}) != bool({1})",
    "logical_not": "!{0}",
    "isnan": "{0} != {0}",
    "copy": "{0}",
    "where": "{0} ? {1} : {2}",
}
_TRUTH: Final = {
    "add": "{0} || {1}",
    "multiply": "{0} && {1}",
    "bitwise_invert": "!{0}",
    "invert": "!{0}",
}
EXPRESSIONS: Final = {
    **dict.fromkeys("eEfd", _ANY | _FLOATING),
    **dict.fromkeys(INTEGERS, _ANY | _INTEGRAL | _BITS | {"bitwise_invert": "~{0}", "invert": "~{0}"}),
    "?": {n: e for n, e in _ANY.items() if n not in ("negative", "subtract", "sign")} | _BITS | _TRUTH,
}
"""Letter of the type that is computed in → name of the function → expression of its arguments {0}, {1}, … and of the type {t}."""


def expression(name: str, letter: str) -> str | None:
    """The expression of a function for numbers of a type; None where there is none."""
    return EXPRESSIONS.get(letter, {}).get(name)
