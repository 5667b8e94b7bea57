"""The error function, and helpers of the functions that are computed from it."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, Final

from anynet.autograd.primitive import primitive
from anynet.ops import elementwise as e
from anynet_backends import Array, Backend

__all__ = ["erf", "erf_parts", "for_floats"]

# W. J. Cody, "Rational Chebyshev approximations for the error function", Mathematics of Computation 23 (1969)
_A = (3.16112374387056560e00, 1.13864154151050156e02, 3.77485237685302021e02, 3.20937758913846947e03)
_A4 = 1.85777706184603153e-1
_B = (2.36012909523441209e01, 2.44024637934444173e02, 1.28261652607737228e03, 2.84423683343917062e03)
_C = (
    5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e01, 2.98635138197400131e02,
    8.81952221241769090e02, 1.71204761263407058e03, 2.05107837782607147e03, 1.23033935479799725e03,
)  # fmt: skip
_C8 = 2.15311535474403846e-8
_D = (
    1.57449261107098347e01, 1.17693950891312499e02, 5.37181101862009858e02, 1.62138957456669019e03,
    3.29079923573345963e03, 4.36261909014324716e03, 3.43936767414372164e03, 1.23033935480374942e03,
)  # fmt: skip
_P = (
    3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1, 1.60837851487422766e-2,
    6.58749161529837803e-4,
)  # fmt: skip
_P5 = 1.63153871373020978e-2
_Q = (
    2.56852019228982242e00, 1.87295284992346047e00, 5.27905102951428412e-1, 6.05183413124413191e-2,
    2.33520497626869185e-3,
)  # fmt: skip


def _rational(y: Array, first: float, top: tuple[float, ...], bottom: tuple[float, ...]) -> Array:
    numerator, denominator = first * y, y
    for a, b in zip(top[:-1], bottom[:-1], strict=True):
        numerator, denominator = (numerator + a) * y, (denominator + b) * y
    return (numerator + top[-1]) / (denominator + bottom[-1])


def erf_parts(xp: Backend, x: Array) -> tuple[Array, Array, Array]:
    """erf(x) where |x| ≤ 0.46875; beyond, e^{t²} erfc(t) with t = |x|, and e^{−t²}."""
    t = xp.abs(x)
    small = x * _rational(xp.minimum(t, xp.full_like(t, 0.5)) ** 2, _A4, _A, _B)
    middle, tail = xp.clip(t, 0.46875, 4.0), xp.clip(t, 4.0, 1e7)
    inverse = 1.0 / (tail * tail)
    far = (1.0 / math.sqrt(math.pi) - inverse * _rational(inverse, _P5, _P, _Q)) / tail
    scaled = xp.where(t > 4.0, far, _rational(middle, _C8, _C, _D))
    t = xp.clip(t, 0.46875, 40.0)
    head = xp.floor(t * 16.0) / 16.0  # e^{−t²} in two factors, of which the first has an exact argument
    return small, scaled, xp.exp(-head * head) * xp.exp(-(t - head) * (t + head))


def for_floats(body: Callable[..., Array]) -> Callable[..., Array]:
    """The body of a special function, whose constants need the range of float32: halves are computed in it and rounded,
    integers in float64 (or what the other argument has), and complex numbers refused."""

    @functools.wraps(body)
    def wide(xp: Backend, *arrays: Array, **meta: Any) -> Array:
        names = [xp.dtype_name(x.dtype) for x in arrays]
        if _WIDE.issuperset(names):
            return body(xp, *arrays, **meta)
        if any(n.startswith("complex") for n in names):
            msg = f"{body.__name__.strip('_')}: the arguments must be real, got {', '.join(names)}"
            raise TypeError(msg)
        floats = [x for x, n in zip(arrays, names, strict=True) if n in _WIDE or n in _HALF]
        dtype = xp.result_type(*floats) if floats else xp.float64
        inner = xp.float32 if xp.dtype_name(dtype) in _HALF else dtype
        return xp.astype(body(xp, *(xp.astype(x, inner) for x in arrays), **meta), dtype)

    return wide


_WIDE: Final = frozenset(("float32", "float64"))


_HALF: Final = frozenset(("float16", "bfloat16"))


@primitive
@for_floats
def erf(xp: Backend, x: Array, /) -> Array:
    """The error function (2/√π) ∫₀ˣ e^{−t²} dt, to a few units in the last place."""
    small, scaled, decay = erf_parts(xp, x)
    large = 1.0 - decay * scaled
    large = xp.where(x < 0, -large, large)
    return xp.where(xp.abs(x) <= 0.46875, small, xp.where(xp.isnan(x), x, large))


erf.vjp(x=lambda g, x: g * (2.0 / math.sqrt(math.pi)) * e.exp(-x * x))
erf.elementwise = True
