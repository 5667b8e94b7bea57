"""The standard's element-wise functions, each beside its gradient.

g is the gradient of the output, y the output. For complex inputs the rule of a holomorphic f is g · conj(f'(x)); for
real ones `conj` costs nothing.

Where a slope is infinite or undefined (√x, ln x, 1/x at 0; asin x at ±1), the gradient is what g · f'(x) gives, with
one exception: **0 times anything is 0**. Where g is 0 nothing depends on that element (`where` did not take it, a mask
removed it), so ``where(x > 0, log(x), 0)`` has the gradient that it should. The rules say so with `multiply_no_nan` and
`divide_no_nan`, which are linear in g like any rule, and whose products may be taken in either order, so that forward
and reverse mode agree.
"""

from __future__ import annotations

import cmath
import math
from collections.abc import Callable
from typing import Any

from anynet import dtypes
from anynet.autograd.broadcasting import cast_to
from anynet.autograd.primitive import Primitive, primitive
from anynet.tensor import Tensor
from anynet.typing import ArrayLike, Scalar
from anynet_backends import Array, Backend, backend_of

__all__ = [
    "abs", "acos", "acosh", "add", "asin", "asinh", "atan", "atan2", "atanh", "bitwise_and", "bitwise_invert",
    "bitwise_left_shift", "bitwise_or", "bitwise_right_shift", "bitwise_xor", "ceil", "clip", "conj", "copysign", "cos",
    "cosh", "divide", "equal", "exp", "expm1", "floor", "floor_divide", "greater", "greater_equal", "hypot", "imag",
    "isfinite", "isinf", "isnan", "less", "less_equal", "log", "log10", "log1p", "log2", "logaddexp", "logical_and",
    "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "multiply", "negative", "nextafter", "not_equal",
    "positive", "pow", "real", "reciprocal", "remainder", "round", "sign", "signbit", "sin", "sinh", "sqrt", "square",
    "subtract", "tan", "tanh", "trunc", "where",
]  # fmt: skip


def _unary(name: str) -> Primitive[[ArrayLike]]:
    def body(xp: Backend, x: Array, /) -> Array:
        return getattr(xp, name)(x)

    body.__doc__ = f"``{name}(x)`` of each element, as in the array API standard."
    body.__module__ = __name__
    prim: Primitive[...] = Primitive(body, name)
    prim.elementwise = True
    return prim


def _binary(name: str) -> Primitive[[ArrayLike | Scalar, ArrayLike | Scalar]]:
    def body(xp: Backend, x1: Array, x2: Array, /) -> Array:
        return getattr(xp, name)(x1, x2)

    body.__doc__ = f"``{name}(x1, x2)`` element by element, broadcast, as in the array API standard."
    body.__module__ = __name__
    prim: Primitive[...] = Primitive(body, name)
    prim.elementwise = True
    return prim


def is_complex(x: ArrayLike) -> bool:
    """Whether x is a complex array, Tensor or scalar."""
    x = x._data if isinstance(x, Tensor) else x
    if not hasattr(x, "dtype"):
        return isinstance(x, complex)
    return backend_of(x).dtype_name(x.dtype).startswith("complex")


# ----- complex parts -----

_conj, _imag, _real = _unary("conj"), _unary("imag"), _unary("real")
_conj.vjp(x=lambda g: conj(g))
_real.vjp(x=lambda g, x_dtype: _complex_of(g, x_dtype))
_imag.vjp(x=lambda g, x_dtype: _complex_of(g, x_dtype) * 1j)


def _complex_of(g: Any, dtype: Any) -> Any:
    return cast_to(g, dtype=dtype)


def conj(x: ArrayLike, /) -> Tensor:
    """The complex conjugate; a real x is returned as it is."""
    if isinstance(x, complex):
        return x.conjugate()  # type: ignore[return-value]
    return _conj(x) if is_complex(x) else x  # type: ignore[return-value]


def real(x: ArrayLike, /) -> Tensor:
    """The real part; a real x is returned as it is."""
    return _real(x) if is_complex(x) else x  # type: ignore[return-value]


imag = _imag

# ----- products in which 0 · inf is 0 -----


@primitive
def multiply_no_nan(xp: Backend, x1: Array, x2: Array, /) -> Array:
    """x1 · x2, and 0 where either is 0, even if the other is infinite or NaN."""
    return _beside(xp, x1, x2) * _beside(xp, x2, x1)


def _beside(xp: Backend, x: Array, other: Array) -> Array:
    """x, but 0 where it is not finite and the other factor 0: all other products keep their bits, signs of 0 included."""
    return xp.where(xp.isfinite(x) | (other != 0), x, 0.0)


@primitive
def divide_no_nan(xp: Backend, x1: Array, x2: Array, /) -> Array:
    """x1 / x2, and 0 where x1 is 0 or x2 infinite, even if the other is NaN."""
    top = xp.where(xp.isfinite(x1) | ~xp.isinf(x2), x1, 0.0)
    return top / xp.where((x1 != 0) | (xp.abs(x2) > 0), x2, 1.0)


@multiply_no_nan.kernel("numpy")
def _multiply_no_nan_numpy(xp: Backend, x1: Array, x2: Array, /) -> Array:
    if not xp.eager:  # a program must not depend on the values of its recording
        return NotImplemented
    with xp.errstate():
        return _settled(xp, x1 * x2, multiply_no_nan, x1, x2)


@divide_no_nan.kernel("numpy")
def _divide_no_nan_numpy(xp: Backend, x1: Array, x2: Array, /) -> Array:
    if not xp.eager:
        return NotImplemented
    with xp.errstate():
        return _settled(xp, x1 / x2, divide_no_nan, x1, x2)


def _settled(xp: Backend, y: Array, prim: Primitive[...], x1: Array, x2: Array) -> Array:
    """y, or the reference's result where y has a nan: then so has the sum of its squares, which costs next to nothing."""
    flat = y.ravel("K")
    total = xp.native.dot(flat, flat)
    return y if total == total else prim.reference(xp, x1, x2)


multiply_no_nan.elementwise = divide_no_nan.elementwise = True
multiply_no_nan.vjp(
    x1=lambda g, x2: multiply_no_nan(g, conj(x2)),
    x2=lambda g, x1: multiply_no_nan(g, conj(x1)),
)
divide_no_nan.vjp(
    x1=lambda g, x2: divide_no_nan(g, conj(x2)),
    x2=lambda g, y, x2: -multiply_no_nan(g, conj(divide_no_nan(y, x2))),
)


def _nothing(g: Any) -> Any:
    """Zeros for a finite or infinite gradient, nan for nan."""
    return where(equal(g, g), 0.0, g)


# ----- arithmetic -----

add, subtract, multiply, divide = _binary("add"), _binary("subtract"), _binary("multiply"), _binary("divide")
add.vjp(x1=lambda g: g, x2=lambda g: g)
subtract.vjp(x1=lambda g: g, x2=lambda g: -g)
multiply.vjp(x1=lambda g, x2: g * conj(x2), x2=lambda g, x1: g * conj(x1))
divide.vjp(
    x1=lambda g, x2: divide_no_nan(g, conj(x2)) if hasattr(x2, "dtype") else g / conj(x2),
    x2=lambda g, y, x2: -multiply_no_nan(g, conj(divide_no_nan(y, x2))),
)

negative, positive = _unary("negative"), _unary("positive")
negative.vjp(x=lambda g: -g)
positive.vjp(x=lambda g: g)

reciprocal, square, sqrt = _unary("reciprocal"), _unary("square"), _unary("sqrt")
reciprocal.vjp(x=lambda g, y: -multiply_no_nan(multiply_no_nan(g, conj(y)), conj(y)))
square.vjp(x=lambda g, x: g * conj(2 * x))
sqrt.vjp(x=lambda g, y: divide_no_nan(g, conj(2 * y)))

_pow = _binary("pow")
_pow.vjp(x1=lambda g, x1, x2: _pow_base(g, x1, x2), x2=lambda g, y, x1, x2: _pow_exponent(g, y, x1, x2))


def pow(x1: Any, x2: Any, /) -> Any:
    """x1 to the power x2, element by element, as in the array API standard.

    Real numbers to a Python number are products, quotients and roots where these are at most as far from the power as
    PyTorch's are: x², x³, √x, 1/√x, 1/x, 1/x². √x and 1/√x of −∞ are NaN then, as in PyTorch and NumPy.

    Gradients: ∂/∂x1 = x2 x1^(x2 − 1), ∂/∂x2 = x1^x2 ln x1.
    """
    if type(x2) in (int, float):
        x = x1._data if isinstance(x1, Tensor) else x1
        if hasattr(x, "dtype") and backend_of(x).dtype_name(x.dtype) in ("float32", "float64"):
            return _power(x1, exponent=x2)
    return _pow(x1, x2)


@primitive(name="power")
def _power(xp: Backend, x: Array, /, *, exponent: float) -> Array:
    """xᵖ for one number p."""
    found = _POWERS.get(exponent)
    if found is not None:
        return found(xp, x)
    if not float(exponent).is_integer():
        return xp.pow(x, exponent)
    y = xp.pow(xp.abs(x), exponent)  # libraries take ten times as long for negative bases
    return xp.copysign(y, x) if exponent % 2 else y


# x + 0 makes 0 of −0, of which the root is −0 and the power 0
_POWERS: dict[float, Callable[[Backend, Array], Array]] = {
    0.5: lambda xp, x: xp.sqrt(x + 0.0),
    1: lambda xp, x: xp.positive(x),
    2: lambda xp, x: x * x,
    3: lambda xp, x: x * x * x,
    -0.5: lambda xp, x: 1.0 / xp.sqrt(x + 0.0),
    -1: lambda xp, x: 1.0 / x,
    -2: lambda xp, x: 1.0 / (x * x),
}
_power.elementwise = True
_power.vjp(x=lambda g, x, exponent: _power_rule(g, x, exponent))


def _power_rule(g: Any, x: Any, exponent: complex) -> Any:
    if exponent == 0:  # the constant 1, also at x = 0
        return _nothing(g)
    if exponent == 1:
        return g
    slope = conj(pow(x, exponent - 1) * exponent)
    finite = not isinstance(exponent, complex) and exponent > 1 and float(exponent).is_integer()
    return g * slope if finite else multiply_no_nan(g, slope)


def _pow_base(g: Any, x1: Any, x2: Any) -> Any:
    """x2 x1^(x2 − 1), and 0 where x2 = 0: x1⁰ is 1 everywhere."""
    if not hasattr(x2, "dtype"):
        return _power_rule(g, x1, x2)
    zero = equal(x2, 0)
    return where(zero, 0.0, multiply_no_nan(g, conj(x2 * x1 ** where(zero, 1.0, x2 - 1))))


def _pow_exponent(g: Any, y: Any, x1: Any, x2: Any) -> Any:
    """y ln x1, which is 0 where x1 = 0 and x2 ≥ 0 (the limit; of complex numbers, where x1 = 0)."""
    if not hasattr(x1, "dtype"):
        if isinstance(x1, complex):
            return g * conj(y * (cmath.log(x1) if x1 else 0.0))
        if x1 > 0:
            return g * conj(y * math.log(x1))
        if x1 < 0:
            return multiply_no_nan(g, y * math.nan)
        return multiply_no_nan(g, where(less(real(x2), 0), -math.inf, conj(y * 0.0)))
    flat = equal(x1, 0)
    if not (is_complex(x1) or is_complex(x2)):
        flat = logical_and(flat, greater_equal(x2, 0))
    return where(flat, 0.0, multiply_no_nan(g, conj(y * log(where(flat, 1.0, x1)))))


abs = _unary("abs")
abs.vjp(x=lambda g, x: g * sign(x))  # sign(x) = x / |x| for complex x as well

remainder, floor_divide = _binary("remainder"), _binary("floor_divide")
remainder.vjp(x1=lambda g: g, x2=lambda g, x1, x2: -multiply_no_nan(g, floor_divide(x1, x2)))
floor_divide.piecewise_constant()

# ----- exponentials and logarithms -----

exp, expm1 = _unary("exp"), _unary("expm1")
exp.vjp(x=lambda g, y: multiply_no_nan(g, conj(y)))
expm1.vjp(x=lambda g, y: multiply_no_nan(g, conj(y + 1)))

log, log1p, log2, log10 = _unary("log"), _unary("log1p"), _unary("log2"), _unary("log10")
log.vjp(x=lambda g, x: divide_no_nan(g, conj(x)))
log1p.vjp(x=lambda g, x: divide_no_nan(g, conj(x + 1)))
log2.vjp(x=lambda g, x: divide_no_nan(g, conj(x * math.log(2))))
log10.vjp(x=lambda g, x: divide_no_nan(g, conj(x * math.log(10))))

logaddexp = _binary("logaddexp")
logaddexp.vjp(x1=lambda g, y, x1: softmax_share(g, x1, y), x2=lambda g, y, x2: softmax_share(g, x2, y))


def softmax_share(g: Any, x: Any, y: Any) -> Any:
    """g e^{x − y}, the rule of y = ln Σ eˣ. Where all x are −inf it is 0: none of them moves the sum. An x of +inf has 1."""
    plain = y._data if isinstance(y, Tensor) else y
    largest = float(backend_of(plain).finfo(plain.dtype).max)
    y = minimum(maximum(y, -largest), largest)
    return g * exp(minimum(x - y, 0.0))


# ----- trigonometry -----

sin, cos, tan = _unary("sin"), _unary("cos"), _unary("tan")
sin.vjp(x=lambda g, x: g * conj(cos(x)))
cos.vjp(x=lambda g, x: -g * conj(sin(x)))
tan.vjp(x=lambda g, y: g * conj(1 + y * y))

asin, acos, atan = _unary("asin"), _unary("acos"), _unary("atan")
asin.vjp(x=lambda g, x: divide_no_nan(g, conj(sqrt(1 - x * x))))
acos.vjp(x=lambda g, x: -divide_no_nan(g, conj(sqrt(1 - x * x))))
atan.vjp(x=lambda g, x: divide_no_nan(g, conj(1 + x * x)))  # of a complex x: poles at ±i

sinh, cosh, tanh = _unary("sinh"), _unary("cosh"), _unary("tanh")
sinh.vjp(x=lambda g, x: multiply_no_nan(g, conj(cosh(x))))
cosh.vjp(x=lambda g, x: multiply_no_nan(g, conj(sinh(x))))
tanh.vjp(x=lambda g, y: g * conj(1 - y * y))

asinh, acosh, atanh = _unary("asinh"), _unary("acosh"), _unary("atanh")
asinh.vjp(x=lambda g, x: divide_no_nan(g, conj(sqrt(x * x + 1))))
# two roots: the branch cut of acosh
acosh.vjp(x=lambda g, x: divide_no_nan(g, conj(sqrt(x - 1) * sqrt(x + 1))))
atanh.vjp(x=lambda g, x: divide_no_nan(g, conj(1 - x * x)))

atan2, hypot = _binary("atan2"), _binary("hypot")
atan2.vjp(
    x1=lambda g, x1, x2: _around(g, x2, hypot(x1, x2)), x2=lambda g, x1, x2: _around(-g, x1, hypot(x1, x2))
)
hypot.vjp(x1=lambda g, y, x1: g * _ratio(x1, y), x2=lambda g, y, x2: g * _ratio(x2, y))


def _ratio(a: Any, b: Any) -> Any:
    """a / b, and 0 where b is 0: the subgradient of a norm at the origin."""
    zero = equal(b, 0)
    return where(zero, 0.0, a / where(zero, 1.0, b))


def _around(g: Any, a: Any, r: Any) -> Any:
    """g a / r² without squares, which could overflow; 0 at the origin, where there is no angle, and infinitely far away."""
    nowhere = logical_or(equal(r, 0), isinf(r))
    safe = where(nowhere, 1.0, r)
    return g * (where(nowhere, 0.0, a) / safe / safe)


# ----- selection -----

maximum, minimum = _binary("maximum"), _binary("minimum")


def _share(g: Any, chosen: Any, tied: Any) -> Any:
    """The whole gradient where this input was chosen, half of it in a tie (as PyTorch)."""
    dtype = (g._data if isinstance(g, Tensor) else g).dtype
    return g * (cast_to(chosen, dtype=dtype) + 0.5 * cast_to(tied, dtype=dtype))


maximum.vjp(
    x1=lambda g, x1, x2: _share(g, greater(x1, x2), equal(x1, x2)),
    x2=lambda g, x1, x2: _share(g, greater(x2, x1) if hasattr(x2, "dtype") else less(x1, x2), equal(x1, x2)),
)
minimum.vjp(
    x1=lambda g, x1, x2: _share(g, less(x1, x2), equal(x1, x2)),
    x2=lambda g, x1, x2: _share(g, less(x2, x1) if hasattr(x2, "dtype") else greater(x1, x2), equal(x1, x2)),
)


@primitive(name="where")
def where(xp: Backend, condition: Array, x1: Array, x2: Array, /) -> Array:
    """x1 where the condition holds, x2 elsewhere."""
    if not hasattr(x1, "dtype") and not hasattr(x2, "dtype"):
        x1 = xp.asarray(x1, dtype=_scalar_dtype(xp, x1, x2), device=condition.device)
    return xp.where(condition, x1, x2)


def _scalar_dtype(xp: Backend, a: Any, b: Any) -> Any:
    kinds = (bool, int, float, complex)
    return dtypes.native(xp, kinds[max(kinds.index(type(a)), kinds.index(type(b)))])


where.elementwise = True
where.vjp(
    x1=lambda g, condition: where(condition, g, 0.0),
    x2=lambda g, condition: where(condition, 0.0, g),
)


def clip(
    x: ArrayLike, /, min: float | ArrayLike | None = None, max: float | ArrayLike | None = None
) -> Tensor:
    """Limit each element to [min, max]; either bound may be None, a scalar or an array.

    Where min > max the result is max, as in NumPy and PyTorch. The gradient passes where x is within the bounds (the
    bounds included, as PyTorch), elsewhere to the bound that was taken.
    """
    if type(min) in _BOUNDS and type(max) in _BOUNDS:
        plain = x._data if isinstance(x, Tensor) else x
        if hasattr(plain, "dtype") and backend_of(plain).dtype_name(plain.dtype) in ("float32", "float64"):
            return _clip_between(x, low=min, high=max)  # type: ignore[arg-type]
    return _clip(x, min, max)


_BOUNDS = frozenset((int, float, type(None)))


@primitive(name="clip_between")
def _clip_between(xp: Backend, x: Array, /, *, low: float | None, high: float | None) -> Array:
    """`clip` of real numbers, with numbers as bounds."""
    return xp.clip(x, low, high)


_clip_between.elementwise = True
_clip_between.vjp(
    x=lambda g, x, low, high: g if low is None and high is None else _masked(g, _inside(x, low, high))
)


def _masked(g: Any, mask: Any) -> Any:
    return multiply_no_nan(g, cast_to(mask, dtype=(g._data if isinstance(g, Tensor) else g).dtype))


@primitive(name="clip")
def _clip(xp: Backend, x: Array, min: Array, max: Array, /) -> Array:
    return xp.clip(x, min, max)


_clip.elementwise = True


def _inside(x: Any, low: Any, high: Any) -> Any:
    if low is None:
        return less_equal(x, high)
    return greater_equal(x, low) if high is None else logical_and(greater_equal(x, low), less_equal(x, high))


_clip.vjp(
    x=lambda g, x, min, max: g if min is None and max is None else where(_inside(x, min, max), g, 0.0),
    min=lambda g, x, min, max: where(_lowest(x, min, max), g, 0.0),
    max=lambda g, x, min, max: where(_highest(x, min, max), g, 0.0),
)


def _lowest(x: Any, low: Any, high: Any) -> Any:
    below = less(x, low)
    return below if high is None else logical_and(below, less_equal(low, high))


def _highest(x: Any, low: Any, high: Any) -> Any:
    above = greater(x, high)
    return above if low is None else logical_or(above, less(high, low))


copysign = _binary("copysign")
copysign.vjp(x1=lambda g, y, x1: g * sign(x1) * sign(y), x2=_nothing)

# ----- piecewise constant: the derivative is zero wherever it exists -----

ceil, floor, round, trunc = _unary("ceil"), _unary("floor"), _unary("round"), _unary("trunc")
isfinite, isinf, isnan, signbit = _unary("isfinite"), _unary("isinf"), _unary("isnan"), _unary("signbit")
logical_not, bitwise_invert = _unary("logical_not"), _unary("bitwise_invert")
equal: Primitive[...] = _binary("equal")
not_equal: Primitive[...] = _binary("not_equal")
less: Primitive[...] = _binary("less")
less_equal: Primitive[...] = _binary("less_equal")
greater: Primitive[...] = _binary("greater")
greater_equal: Primitive[...] = _binary("greater_equal")
logical_and, logical_or, logical_xor = _binary("logical_and"), _binary("logical_or"), _binary("logical_xor")
bitwise_and, bitwise_or, bitwise_xor = _binary("bitwise_and"), _binary("bitwise_or"), _binary("bitwise_xor")
bitwise_left_shift, bitwise_right_shift = _binary("bitwise_left_shift"), _binary("bitwise_right_shift")
for _prim in (
    ceil, floor, round, trunc, isfinite, isinf, isnan, signbit, logical_not, bitwise_invert, equal, not_equal, less,
    less_equal, greater, greater_equal, logical_and, logical_or, logical_xor, bitwise_and, bitwise_or, bitwise_xor,
    bitwise_left_shift, bitwise_right_shift,
):  # fmt: skip
    _prim.piecewise_constant()

sign: Primitive[...] = _unary("sign")  # of a complex x: x / |x|, which is not constant
sign.vjp(x=lambda g, y, x: _sign_rule(g, y, x))


def _sign_rule(g: Any, y: Any, x: Any) -> Any:
    if not is_complex(x):
        return _nothing(g)
    size = abs(x)
    zero = size == 0
    size = where(zero, 1.0, size)
    return where(zero, 0.0, (g - y * real(g * conj(y))) / size)


nextafter = _binary("nextafter")
nextafter.no_gradient("the next representable number is not a differentiable function")
