"""Functions of each element."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from anynet import dtypes
from anynet.nn import functional as F
from anynet.ops import elementwise as e
from anynet.ops import special as sp
from anynet.ops.creation import asarray
from anynet.ops.manipulation import astype
from anynet.ops.reductions import all as all_
from anynet.tensor import Tensor as AnyTensor
from anynet.torch.memory import fitted, write
from anynet.torch.promotion import (
    as_float,
    cast,
    floor_divide,
    number,
    prepared,
    prepared_floats,
    remainder,
    result_type,
)
from anynet.torch.table import alias, offered
from anynet.torch.tensor import Tensor

# ----- one argument -----


def _of_one(
    name: str, function: Callable[..., Any], *examples: str, floats: bool = True, differs: str = ""
) -> None:
    def call(input: Any) -> Any:
        return function(as_float(input) if floats else input)

    shown = examples or (f"torch.{name}(x)", f"x.{name}()", f"torch.{name}(i)")
    offered(*shown, name=name, in_place=True, differs=differs)(call)


for _name in ("atan", "asinh", "cos", "cosh", "sin", "sinh", "tan", "tanh", "exp", "expm1"):
    _of_one(_name, getattr(e, _name))
for _name in ("log", "log2", "log10", "sqrt"):
    _of_one(_name, getattr(e, _name), f"torch.{_name}(pos)", f"pos.{_name}()", f"torch.{_name}(x)")
_of_one("log1p", e.log1p, "torch.log1p(pos)", "pos.log1p()")
for _name in ("acos", "asin", "atanh"):
    _of_one(_name, getattr(e, _name), f"torch.{_name}(u)", f"u.{_name}()")
_of_one("acosh", e.acosh, "torch.acosh(pos + 1)")
_of_one("sigmoid", F.sigmoid)
_of_one("rsqrt", lambda x: 1.0 / e.sqrt(x), "torch.rsqrt(pos)", "pos.rsqrt()")
_of_one("exp2", lambda x: e.pow(asarray(2.0, dtype=x.dtype, device=x.device), x))
_of_one("reciprocal", lambda x: 1.0 / x, "torch.reciprocal(pos)", "pos.reciprocal()")
_of_one("erf", sp.erf)
_of_one("erfc", sp.erfc)
_of_one("erfinv", sp.erfinv, "torch.erfinv(u)", "u.erfinv()")
_of_one("lgamma", sp.gammaln, "torch.lgamma(pos)", "pos.lgamma()")
_of_one("digamma", sp.digamma, "torch.digamma(pos)", "pos.digamma()")
_of_one("sinc", sp.sinc)
_of_one("deg2rad", lambda x: x * (math.pi / 180.0))
_of_one("rad2deg", lambda x: x * (180.0 / math.pi))
_of_one("relu", lambda x: F.relu(x) if x.dtype.is_floating else e.maximum(x, 0), floats=False)
_of_one("square", e.square, floats=False)


def _sign(x: Any) -> Any:
    """PyTorch's sign of what is no number is 0."""
    y = e.sign(x)
    return e.where(e.isnan(x), 0.0, y) if x.dtype.kind == "real" else y


_of_one("sign", _sign, "torch.sign(x)", "x.sign()", "torch.sign(i)", "special.sign()", floats=False)
_of_one("neg", e.negative, floats=False)
_of_one("abs", e.abs, floats=False)
_of_one("sgn", _sign, "torch.sgn(x.detach())", "i.sgn()", "torch.sgn(special)", floats=False)
for _name in ("ceil", "floor", "trunc"):
    _of_one(_name, getattr(e, _name), floats=False)
_of_one("frac", lambda x: x - e.trunc(x), "torch.frac(x)", "x.frac()", floats=False)
_of_one("logical_not", e.logical_not, "torch.logical_not(m)", "i.logical_not()", floats=False)
_of_one("bitwise_not", e.bitwise_invert, "torch.bitwise_not(m)", "i.bitwise_not()", floats=False)
for _name, _of in {
    "absolute": "abs", "negative": "neg", "arccos": "acos", "arcsin": "asin", "arctan": "atan", "arcsinh": "asinh", "arccosh": "acosh",
    "arctanh": "atanh", "fix": "trunc",
}.items():  # fmt: skip
    alias(_name, _of)

for _name in ("isnan", "isinf", "isfinite", "signbit"):
    offered(f"torch.{_name}(x)", f"special.{_name}()", name=_name)(
        (lambda function: lambda input: function(input))(getattr(e, _name))
    )


@offered("torch.isposinf(special)")
def isposinf(input: Any) -> Any:
    return e.equal(input, math.inf)


@offered("torch.isneginf(special)")
def isneginf(input: Any) -> Any:
    return e.equal(input, -math.inf)


@offered("torch.logit(pos / 3)", "torch.logit(x, eps=0.1)", in_place=True)
def logit(input: Any, eps: float | None = None) -> Any:
    x = as_float(input)
    return sp.logit(x if eps is None else e.clip(x, eps, 1.0 - eps))


@offered("torch.round(x)", "torch.round(x, decimals=1)", "x.round()", in_place=True)
def round(input: Any, *, decimals: int = 0) -> Any:
    if not decimals:
        return e.round(input)
    return e.round(input * 10.0**decimals) / 10.0**decimals


@offered("torch.nan_to_num(special)", "torch.nan_to_num(special, 1.0, posinf=2.0)", in_place=True)
def nan_to_num(
    input: Any, nan: float | None = None, posinf: float | None = None, neginf: float | None = None
) -> Any:
    if not input.dtype.is_floating:
        return input
    most = float(dtypes_limit(input))
    x = e.where(e.isnan(input), 0.0 if nan is None else nan, input)
    x = e.where(e.equal(x, math.inf), most if posinf is None else posinf, x)
    return e.where(e.equal(x, -math.inf), -most if neginf is None else neginf, x)


def dtypes_limit(x: Any) -> Any:
    """The largest finite number of the dtype of x."""
    from anynet.ops.data_types import finfo  # late: of this function alone

    return finfo(x.dtype).max


for _name in ("real", "imag", "conj"):

    def _part(input: Any, name: str = _name) -> Any:
        if input.dtype.kind != "complex":
            if name == "imag":
                msg = "imag is not implemented for tensors with non-complex dtypes."
                raise RuntimeError(msg)
            return input
        return getattr(e, name)(input)

    offered(
        f"torch.{_name}(torch.complex(x, y).detach())",
        name=_name,
        method=_name == "conj",
        differs="a copy: writes into it do not reach the tensor",
    )(_part)


def _real(x: Any) -> Any:
    """``x.real``."""
    return x if x.dtype.kind != "complex" else e.real(x)


def _imag(x: Any) -> Any:
    """``x.imag``."""
    return e.imag(x)


Tensor.real = property(_real)  # type: ignore[attr-defined]
Tensor.imag = property(_imag)  # type: ignore[attr-defined]


@offered("torch.angle(x)", "torch.angle(torch.complex(x, y))")
def angle(input: Any) -> Any:
    if input.dtype.kind == "complex":
        return e.atan2(e.imag(input), e.real(input))
    return e.where(
        e.less(input, 0),
        math.pi,
        e.where(e.isnan(input), math.nan, astype(e.isnan(input), as_float(input).dtype) * 0),
    )


# ----- two arguments -----


def _of_two(
    name: str, function: Callable[..., Any], *examples: str, floats: bool = False, in_place: bool = True
) -> None:
    def call(input: Any, other: Any) -> Any:
        if not floats:
            return function(*prepared(input, other))
        a, b = prepared_floats(input, other)
        return function(*(float(v) if isinstance(v, int) else v for v in (a, b)))

    shown = examples or (f"torch.{name}(x, y)", f"x.{name}(v)", f"torch.{name}(i, x)")
    offered(*shown, name=name, in_place=in_place)(call)


_compared = ("torch.{0}(x, y)", "x.{0}(0.5)", "torch.{0}(i, x)", "i.{0}(2)")
for _name, _function in {
    "eq": e.equal, "ne": e.not_equal, "lt": e.less, "le": e.less_equal, "gt": e.greater, "ge": e.greater_equal,
}.items():  # fmt: skip
    _of_two(_name, _function, *(x.format(_name) for x in _compared))
for _name, _of in {
    "not_equal": "ne", "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge",
}.items():  # fmt: skip
    alias(_name, _of)
for _name in ("logical_and", "logical_or", "logical_xor"):

    def _logical(input: Any, other: Any, name: str = _name) -> Any:
        return getattr(e, name)(*(x if x.dtype is dtypes.bool else e.not_equal(x, 0) for x in (input, other)))

    offered(f"torch.{_name}(m, x > 0)", f"i.{_name}(x)", name=_name, in_place=True)(_logical)
for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    _of_two(_name, getattr(e, _name), f"torch.{_name}(i, i)", f"m.{_name}(m)", f"i.{_name}(1)")
for _name in ("bitwise_left_shift", "bitwise_right_shift"):
    _of_two(_name, getattr(e, _name), f"torch.{_name}(i, i)", f"i.{_name}(1)")
_of_two("mul", e.multiply, "torch.mul(x, y)", "x.mul(2)", "i.mul(0.5)", "m.mul(x)", "i * 0.5", "i * x")
_of_two("maximum", e.maximum, "torch.maximum(x, y)", "x.maximum(v)", in_place=False)
_of_two("minimum", e.minimum, "torch.minimum(x, y)", "x.minimum(v)", in_place=False)
_of_two("atan2", e.atan2, floats=True)
_of_two("hypot", e.hypot, "torch.hypot(x, y)", floats=True)
_of_two("copysign", e.copysign, "torch.copysign(x, y)", "x.copysign(-1.0)", floats=True)
_of_two("nextafter", e.nextafter, "torch.nextafter(x.detach(), y.detach())")
_of_two("logaddexp", e.logaddexp, "torch.logaddexp(x, y)", in_place=False)
_of_two("xlogy", sp.xlogy, "torch.xlogy(x, pos)", floats=True)
_of_two(
    "floor_divide",
    floor_divide,
    "torch.floor_divide(x.detach(), y.detach())",
    "i.floor_divide(2)",
    "x.detach().floor_divide(0.7)",
    "i // -2",
)
_of_two("remainder", remainder, "torch.remainder(x, y)", "i.remainder(2)", "x.remainder(-0.7)", "i % -2")
for _name, _of in {"multiply": "mul", "arctan2": "atan2"}.items():
    alias(_name, _of)


def _nan_aside(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(a: Any, b: Any) -> Any:
        return e.where(e.isnan(a), b, e.where(e.isnan(b), a, function(a, b)))

    return call


_of_two(
    "fmax", _nan_aside(e.maximum), "torch.fmax(special, special.flip(0))", "torch.fmax(x, y)", in_place=False
)
_of_two(
    "fmin", _nan_aside(e.minimum), "torch.fmin(special, special.flip(0))", "torch.fmin(x, y)", in_place=False
)


@offered(
    "torch.add(x, y)",
    "x.add(1)",
    "torch.add(i, 0.5)",
    "x.add(y, alpha=2)",
    "i + 0.5",
    "i + x",
    "m + 1",
    in_place=True,
)
def add(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    a, b = prepared(input, other)
    return e.add(a, b if alpha == 1 else b * alpha)


@offered("torch.sub(x, y)", "x.sub(1)", "torch.sub(i, 0.5)", "x.sub(y, alpha=2)", "1 - i", in_place=True)
def sub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    a, b = prepared(input, other)
    return e.subtract(a, b if alpha == 1 else b * alpha)


@offered("torch.rsub(x, y)", "torch.rsub(x, 1)", method=False)
def rsub(input: Any, other: Any, *, alpha: Any = 1) -> Any:
    a, b = prepared(input, other)
    return e.subtract(b, a if alpha == 1 else a * alpha)


@offered(
    "torch.div(x, y)", "i / 2", "i / i.add(1)", "1 / i.add(1)", "torch.div(x, y, rounding_mode='floor')",
    "i.div(-2, rounding_mode='trunc')",
    in_place=True,
)  # fmt: skip
def div(input: Any, other: Any, *, rounding_mode: str | None = None) -> Any:
    a, b = prepared(input, other) if rounding_mode else prepared_floats(input, other)
    if rounding_mode not in (None, "floor", "trunc"):
        msg = f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found '{rounding_mode}'"
        raise RuntimeError(msg)
    if rounding_mode == "floor":
        return floor_divide(a, b)
    if rounding_mode == "trunc" and result_type(a, b).kind in ("int", "uint"):
        down = floor_divide(a, b)
        rest = a - down * b
        return down + cast(e.logical_and(e.not_equal(rest, 0), e.less(down, 0)), down.dtype)
    y = e.divide(*(as_float(v) if isinstance(v, AnyTensor) else v for v in (a, b)))
    return y if rounding_mode is None else e.trunc(y)


@offered("torch.true_divide(i, 2)", in_place=True)
def true_divide(input: Any, other: Any) -> Any:
    return div(input, other)


@offered("torch.fmod(x, y)", "x.fmod(0.7)", "i.fmod(-2)", in_place=True)
def fmod(input: Any, other: Any) -> Any:
    a, b = prepared(input, other)
    if result_type(a, b).kind != "real":
        return a - div(a, b, rounding_mode="trunc") * b
    exact = e.remainder(abs(_apart(a)), abs(_apart(b)))
    exact = e.copysign(exact, _apart(a)) if isinstance(a, AnyTensor) else exact if a >= 0 else -exact
    if not any(isinstance(v, AnyTensor) and v.requires_grad for v in (a, b)):
        return exact
    finite = e.where(e.isinf(b), 1.0, b) if isinstance(b, AnyTensor) else b if math.isfinite(b) else 1.0
    y = a - div(_apart(a), _apart(b), rounding_mode="trunc") * finite
    return e.where(e.isfinite(exact), y + (exact - y.detach()), exact)


def _apart(x: Any) -> Any:
    return x.detach() if isinstance(x, AnyTensor) else x


@offered(
    "torch.pow(x, 2)",
    "pos.pow(0.5)",
    "torch.pow(2, x)",
    "i.pow(2)",
    "i ** 0.5",
    "2 ** i",
    "x ** 3",
    in_place=True,
)
def pow(input: Any, exponent: Any) -> Any:
    return e.pow(*prepared(input, exponent))


@offered("torch.float_power(i, 2)", "x.float_power(2)")
def float_power(input: Any, exponent: Any) -> Any:
    return e.pow(
        *(astype(v, dtypes.float64) if isinstance(v, AnyTensor) else float(v) for v in (input, exponent))
    )


for _name, _of in {"subtract": "sub", "divide": "div"}.items():
    alias(_name, _of)


@offered("torch.heaviside(x.detach(), torch.tensor(0.5))", in_place=True)
def heaviside(input: Any, values: Any) -> Any:
    return e.where(
        e.isnan(input), input, e.where(e.equal(input, 0), values, cast(e.greater(input, 0), input.dtype))
    )


@offered(
    "torch.isclose(x, x + 1e-7)",
    "torch.isclose(x, y, atol=1.0)",
    "torch.isclose(special, special, equal_nan=True)",
)
def isclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    near = e.less_equal(e.abs(input - other), atol + rtol * e.abs(other))
    close = e.logical_or(e.equal(input, other), e.logical_and(near, e.isfinite(other)))
    return e.logical_or(close, e.logical_and(e.isnan(input), e.isnan(other))) if equal_nan else close


@offered("torch.allclose(x, x + 1e-7)", "x.allclose(y)")
def allclose(input: Any, other: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    return bool(all_(isclose(input, other, rtol, atol, equal_nan)))


@offered("torch.equal(x, x)", "x.equal(y)", "torch.equal(x, v)")
def equal(input: Any, other: Any) -> bool:
    return tuple(input.shape) == tuple(other.shape) and bool(all_(e.equal(*prepared(input, other))))


# ----- three and more -----


@offered(
    "torch.where(m, x, y)",
    "torch.where(m, x, 0.0)",
    "torch.where(m, 1, 2)",
    "torch.where(i > 1, i, x)",
    "x.where(m, y)",
    method=False,
)
def where(condition: Any, input: Any = None, other: Any = None) -> Any:
    if input is None:
        from anynet.ops.searching import nonzero  # late: of this form alone

        return tuple(nonzero(condition))
    kind = result_type(input, other)
    a, b = (cast(number(x), kind) for x in (input, other))
    if not isinstance(a, AnyTensor) and not isinstance(b, AnyTensor):
        a = asarray(a, dtype=kind, device=condition.device)
    return e.where(condition, a, b)


def _where(self: Any, condition: Any, other: Any) -> Any:
    return where(condition, self, other)


Tensor.where = _where  # type: ignore[attr-defined]


@offered(
    "torch.clamp(x, -1, 1)",
    "x.clamp(min=0)",
    "x.clamp(max=v)",
    "torch.clamp(i, 1, 2)",
    "x.clamp(-v.abs(), v.abs())",
    in_place=True,
)
def clamp(input: Any, min: Any = None, max: Any = None) -> Any:
    if min is None and max is None:
        msg = "torch.clamp: At least one of 'min' or 'max' must not be None"
        raise RuntimeError(msg)
    kind = result_type(*(v for v in (input, min, max) if v is not None))
    x: Any = cast(input, kind)
    low, high = (None if v is None else cast(v, kind) for v in (min, max))
    if not isinstance(low, AnyTensor) and not isinstance(high, AnyTensor):
        return e.clip(x, low, high)
    for bound, function in ((low, e.maximum), (high, e.minimum)):
        if bound is not None:
            x = function(x, bound)
    return x


@offered("torch.clamp_min(x, 0.5)", in_place=True)
def clamp_min(input: Any, min: Any) -> Any:
    return clamp(input, min)


@offered("torch.clamp_max(x, 0.5)", in_place=True)
def clamp_max(input: Any, max: Any) -> Any:
    return clamp(input, None, max)


alias("clip", "clamp")


@offered("torch.lerp(x, y, 0.3)", "x.lerp(y, pos)", in_place=True)
def lerp(input: Any, end: Any, weight: Any) -> Any:
    return input + weight * (end - input)


@offered("torch.addcmul(x, y, y, value=0.5)", "x.addcmul(y, v)", in_place=True)
def addcmul(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    return input + value * (tensor1 * tensor2)


@offered("torch.addcdiv(x, y, pos, value=0.5)", "x.addcdiv(y, pos)", in_place=True)
def addcdiv(input: Any, tensor1: Any, tensor2: Any, *, value: Any = 1) -> Any:
    return input + value * (tensor1 / tensor2)


@offered("torch.softmax(x, 1)", "x.softmax(-1)", "torch.softmax(i, 0, dtype=torch.float64)")
def softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    return F.softmax(input if dtype is None else astype(input, dtype), dim=dim)


@offered("torch.log_softmax(x, 1)", "x.log_softmax(-1)")
def log_softmax(input: Any, dim: int, dtype: Any = None) -> Any:
    return F.log_softmax(input if dtype is None else astype(input, dtype), dim=dim)


# ----- in place alone -----


def _set(self: Any, new: Any, what: str) -> Any:
    return write(self, fitted(self, new, what))


def fill_(self: Any, value: Any) -> Any:
    """Every element becomes one number."""
    from anynet.ops.creation import full_like  # late: of these forms alone

    if isinstance(value, AnyTensor):
        if value.shape:
            msg = f"fill_ only supports 0-dimension value tensor but got tensor with {value.ndim} dimensions."
            raise RuntimeError(msg)
        return _set(self, 0 * self.detach() + cast(value, self.dtype), "fill_")
    return _set(self, full_like(self, value), "fill_")


def zero_(self: Any) -> Any:
    """Every element becomes 0."""
    return fill_(self, 0)


def copy_(self: Any, src: Any, non_blocking: bool = False) -> Any:
    """The elements of another tensor, in the dtype and on the device of this one; they broadcast."""
    from anynet.ops.manipulation import broadcast_to, to_device  # late: of these forms alone

    src = src if isinstance(src, AnyTensor) else asarray(src)
    src = cast(to_device(src, str(self.device)), self.dtype)
    src = broadcast_to(src, self.shape) if tuple(src.shape) != tuple(self.shape) else asarray(src, copy=True)
    return write(self, src)


for _f in (fill_, zero_, copy_):
    setattr(Tensor, _f.__name__, _f)
