"""Special functions, under SciPy's names: for statistics, and for libraries that use ``anynet.special``.

All act on each element, broadcast, keep the dtype, and are differentiable to any order.
"""

from __future__ import annotations

import math
from typing import Any

from anynet import dtypes
from anynet.autograd.primitive import Primitive, primitive
from anynet.ops import elementwise as e
from anynet.ops.activations import sigmoid
from anynet.ops.creation import asarray
from anynet.ops.erf import erf, erf_parts, for_floats
from anynet.ops.softmax import log_softmax, logsumexp, softmax
from anynet.tensor import Tensor, unwrap
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend, backend_of

__all__ = [
    "betaln", "cbrt", "digamma", "entr", "erf", "erfc", "erfcinv", "erfinv", "exp2", "expit", "gammaln", "kl_div",
    "log_expit", "log_ndtr", "log_softmax", "logit", "logsumexp", "multigammaln", "ndtr", "ndtri", "polygamma", "psi",
    "rel_entr", "sinc", "softmax", "xlog1py", "xlogy",
]  # fmt: skip


def _elementwise(prim: Primitive[...]) -> Primitive[...]:
    prim.elementwise = True
    return prim


# ----- the normal distribution and the error function -----


def _erfc(xp: Backend, x: Array) -> Array:
    small, scaled, decay = erf_parts(xp, x)
    tail = decay * scaled
    large = xp.where(x < 0, 2.0 - tail, tail)
    return xp.where(xp.abs(x) <= 0.46875, 1.0 - small, xp.where(xp.isnan(x), x, large))


@primitive
@for_floats
def erfc(xp: Backend, x: Array, /) -> Array:
    """1 − erf(x) = (2/√π) ∫ₓ^∞ e^{−t²} dt, without cancellation where x is large (Cody 1969)."""
    return _erfc(xp, x)


erfc.vjp(x=lambda g, x: g * (-2 / math.sqrt(math.pi)) * e.exp(-x * x))


@primitive
@for_floats
def ndtr(xp: Backend, x: Array, /) -> Array:
    """Φ(x), the distribution function of the standard normal: ½ erfc(−x/√2)."""
    return 0.5 * _erfc(xp, x * -math.sqrt(0.5))


ndtr.vjp(x=lambda g, x: g * (1 / math.sqrt(2 * math.pi)) * e.exp(-0.5 * x * x))


@primitive
@for_floats
def log_ndtr(xp: Backend, x: Array, /) -> Array:
    """ln Φ(x), also where Φ(x) is too small for a float: ln(½ e^{t²} erfc(t)) − t², t = −x/√2."""
    z = x * -math.sqrt(0.5)
    _, scaled, _ = erf_parts(xp, z)
    far = xp.log(0.5 * scaled) - z * z
    near = xp.where(z > 1.0, xp.zeros_like(z), z)
    return xp.where(z > 1.0, far, xp.log1p(-0.5 * _erfc(xp, -near)))


@primitive
@for_floats
def normal_hazard(xp: Backend, x: Array, /) -> Array:
    """φ(x) / Φ(x), the slope of ln Φ: √(2/π) / (e^{t²} erfc(t)) with t = −x/√2, so that far left, where it is almost −x,
    no digits are lost."""
    z = x * -math.sqrt(0.5)
    _, scaled, _ = erf_parts(xp, z)
    far = xp.where(z > 1e6, -x, math.sqrt(2 / math.pi) / scaled)
    near = xp.where(z > 1.0, xp.zeros_like(z), z)
    return xp.where(z > 1.0, far, math.sqrt(2 / math.pi) * xp.exp(-near * near) / _erfc(xp, near))


normal_hazard.vjp(x=lambda g, y, x: -g * y * (x + y))
log_ndtr.vjp(x=lambda g, x: g * normal_hazard(x))

# M. Wichura, "Algorithm AS 241: the percentage points of the normal distribution", Applied Statistics 37 (1988)
_AS241 = (
    ((3.3871328727963666080e0, 1.3314166789178437745e2, 1.9715909503065514427e3, 1.3731693765509461125e4,
      4.5921953931549871457e4, 6.7265770927008700853e4, 3.3430575583588128105e4, 2.5090809287301226727e3),
     (1.0, 4.2313330701600911252e1, 6.8718700749205790830e2, 5.3941960214247511077e3, 2.1213794301586595867e4,
      3.9307895800092710610e4, 2.8729085735721942674e4, 5.2264952788528545610e3)),
    ((1.42343711074968357734e0, 4.63033784615654529590e0, 5.76949722146069140550e0, 3.64784832476320460504e0,
      1.27045825245236838258e0, 2.41780725177450611770e-1, 2.27238449892691845833e-2, 7.74545014278341407640e-4),
     (1.0, 2.05319162663775882187e0, 1.67638483018380384940e0, 6.89767334985100004550e-1,
      1.48103976427480074590e-1, 1.51986665636164571966e-2, 5.47593808499534494600e-4, 1.05075007164441684324e-9)),
    ((6.65790464350110377720e0, 5.46378491116411436990e0, 1.78482653991729133580e0, 2.96560571828504891230e-1,
      2.65321895265761230930e-2, 1.24266094738807843860e-3, 2.71155556874348757815e-5, 2.01033439929228813265e-7),
     (1.0, 5.99832206555887937690e-1, 1.36929880922735805310e-1, 1.48753612908506148525e-2,
      7.86869131145613259100e-4, 1.84631831751005468180e-5, 1.42151175831644588870e-7, 2.04426310338993978564e-15)),
)  # fmt: skip


def _horner(x: Array, coefficients: tuple[float, ...]) -> Array:
    y = coefficients[-1] * x + coefficients[-2]
    for c in coefficients[-3::-1]:
        y = y * x + c
    return y


@primitive
@for_floats
def ndtri(xp: Backend, p: Array, /) -> Array:
    """Φ⁻¹(p), the quantile of the standard normal; nan outside [0, 1], ∓inf at its ends (Wichura 1988)."""
    y = _quantile(xp, p - 0.5, xp.minimum(p, 1.0 - p))
    return xp.where((p >= 0.0) & (p <= 1.0), y, xp.full_like(y, math.nan))


def _quantile(xp: Backend, q: Array, low: Array) -> Array:
    """Φ⁻¹(½ + q), given also the smaller of the two tails, which q alone knows only to 1e-16."""
    near = q * _ratio(0.180625 - xp.minimum(q * q, xp.full_like(q, 0.2)), *_AS241[0])
    inside = low > 0.0
    r = xp.sqrt(-xp.log(xp.where(inside, low, xp.ones_like(low))))
    far = xp.where(r <= 5.0, _ratio(r - 1.6, *_AS241[1]), _ratio(r - 5.0, *_AS241[2]))
    far = xp.where(inside, far, xp.full_like(far, math.inf))
    return xp.where(xp.abs(q) <= 0.425, near, xp.where(q < 0.0, -far, far))


def _ratio(r: Array, top: tuple[float, ...], bottom: tuple[float, ...]) -> Array:
    return _horner(r, top) / _horner(r, bottom)


ndtri.vjp(p=lambda g, y: e.multiply_no_nan(g, math.sqrt(2 * math.pi) * e.exp(0.5 * e.multiply_no_nan(y, y))))


@primitive
@for_floats
def erfinv(xp: Backend, x: Array, /) -> Array:
    """The z with erf(z) = x, for |x| < 1; ±inf at ±1, nan beyond."""
    size = xp.abs(x)
    z = math.sqrt(0.5) * _quantile(xp, 0.5 * x, 0.5 * (1.0 - size))
    return xp.where(size <= 1.0, z, xp.full_like(z, math.nan))


erfinv.vjp(x=lambda g, y: e.multiply_no_nan(g, (0.5 * math.sqrt(math.pi)) * e.exp(e.multiply_no_nan(y, y))))


def erfcinv(y: ArrayLike, /) -> Tensor:
    """The x with erfc(x) = y, for 0 < y < 2."""
    return ndtri(y * 0.5) * -math.sqrt(0.5)


# ----- logistic -----

expit = sigmoid


@primitive
@for_floats
def log_expit(xp: Backend, x: Array, /) -> Array:
    """ln σ(x) = min(x, 0) − ln(1 + e^{−|x|})."""
    return xp.minimum(x, 0.0) - xp.log1p(xp.exp(-xp.abs(x)))


log_expit.vjp(x=lambda g, x: g * sigmoid(-x))


@primitive
@for_floats
def logit(xp: Backend, p: Array, /) -> Array:
    """ln(p / (1 − p)), the inverse of the logistic function."""
    return xp.log(p) - xp.log1p(-p)


logit.vjp(p=lambda g, p: e.divide_no_nan(g, p * (1 - p)))

# ----- entropies: 0 ln 0 is 0 -----


def as_arrays(*values: Any) -> tuple[Any, ...]:
    """Python numbers become arrays, of the dtype of the first floating-point array among the values."""
    arrays = [unwrap(v) for v in values if hasattr(v, "dtype")]
    like = next((a for a in arrays if dtypes.of(a.dtype).is_floating), arrays[0] if arrays else None)
    if like is None:
        return tuple(asarray(v) for v in values)
    xp = backend_of(like)
    dtype = like.dtype if dtypes.of(like.dtype).is_floating else xp.float64
    where = xp.native_device(xp.device_of(like))
    return tuple(v if hasattr(v, "dtype") else xp.asarray(v, dtype=dtype, device=where) for v in values)


def xlogy(x: ArrayLike, y: ArrayLike, /) -> Tensor:
    """x ln y, and 0 where x = 0 (y = 0 included)."""
    return _xlogy(*as_arrays(x, y))


@primitive(name="xlogy")
@for_floats
def _xlogy(xp: Backend, x: Array, w: Array, /) -> Array:
    zero = (x == 0) & ~xp.isnan(w)
    with xp.errstate():  # −inf at w = 0
        return xp.where(zero, xp.zeros_like(x * w), x * xp.log(xp.where(zero, xp.ones_like(w), w)))


_xlogy.vjp(
    x=lambda g, x, w: _unless_both(g, x, w, 0.0, e.log),
    w=lambda g, x, w: e.multiply_no_nan(g, e.divide_no_nan(x, w)),
)


def _unless_both(g: Any, x: Any, w: Any, least: float, log: Any) -> Any:
    """g log(w), and 0 where x = 0 and w is `least` or smaller: there the function is constant in x (as PyTorch)."""
    flat = e.logical_and(e.equal(x, 0), e.less_equal(w, least))
    return e.where(flat, 0.0, e.multiply_no_nan(g, log(e.where(flat, 1.0, w))))


def xlog1py(x: ArrayLike, y: ArrayLike, /) -> Tensor:
    """x ln(1 + y), and 0 where x = 0."""
    return _xlog1py(*as_arrays(x, y))


@primitive(name="xlog1py")
@for_floats
def _xlog1py(xp: Backend, x: Array, w: Array, /) -> Array:
    zero = (x == 0) & ~xp.isnan(w)
    with xp.errstate():  # −inf at w = −1
        return xp.where(zero, xp.zeros_like(x * w), x * xp.log1p(xp.where(zero, xp.zeros_like(w), w)))


_xlog1py.vjp(
    x=lambda g, x, w: _unless_both(g, x, w, -1.0, e.log1p),
    w=lambda g, x, w: e.multiply_no_nan(g, e.divide_no_nan(x, w + 1)),
)


@primitive
@for_floats
def entr(xp: Backend, x: Array, /) -> Array:
    """−x ln x; 0 at 0, −inf where x < 0."""
    safe = xp.where(x > 0.0, x, xp.ones_like(x))
    y = xp.where(
        x > 0.0, -safe * xp.log(safe), xp.where(x == 0.0, xp.zeros_like(x), xp.full_like(x, -math.inf))
    )
    return xp.where(xp.isnan(x), x, y)


entr.vjp(x=lambda g, x: e.multiply_no_nan(g, -1 - _log(x)))


def _log(x: Any) -> Any:
    """ln x, without NumPy's warning where x is 0."""
    zero = e.equal(x, 0)
    return e.where(zero, -math.inf, e.log(e.where(zero, 1.0, x)))


def rel_entr(x: ArrayLike, y: ArrayLike, /) -> Tensor:
    """x ln(x / y) for x, y > 0; 0 at x = 0, y ≥ 0; inf elsewhere: the terms of the Kullback-Leibler divergence."""
    return _rel_entr(*as_arrays(x, y))


@primitive(name="rel_entr")
@for_floats
def _rel_entr(xp: Backend, x: Array, w: Array, /) -> Array:
    inside = (x > 0.0) & (w > 0.0)
    a, b = xp.where(inside, x, xp.ones_like(x)), xp.where(inside, w, xp.ones_like(w))
    y = xp.where(inside, a * (xp.log(a) - xp.log(b)), xp.full_like(a * b, math.inf))
    y = xp.where((x == 0.0) & (w >= 0.0), xp.zeros_like(y), y)
    return xp.where(xp.isnan(x) | xp.isnan(w), xp.full_like(y, math.nan), y)


_rel_entr.vjp(
    x=lambda g, x, w: _unless_both_zero(g, x, w),
    w=lambda g, x, w: -e.multiply_no_nan(g, e.divide_no_nan(x, w)),
)


def _unless_both_zero(g: Any, x: Any, w: Any) -> Any:
    """g (ln x − ln w + 1), and 0 where both are 0, at the corner of the domain."""
    both = e.logical_and(e.equal(x, 0), e.equal(w, 0))
    return e.where(both, 0.0, e.multiply_no_nan(g, _log(x) - _log(e.where(both, 1.0, w)) + 1))


def kl_div(x: ArrayLike, y: ArrayLike, /) -> Tensor:
    """x ln(x / y) − x + y, which is nowhere negative."""
    inside = rel_entr(x, y)
    return e.where(e.equal(inside, math.inf), math.inf, inside - x + y)


for _prim in (
    erfc,
    erfinv,
    ndtr,
    log_ndtr,
    normal_hazard,
    ndtri,
    log_expit,
    logit,
    _xlogy,
    _xlog1py,
    entr,
    _rel_entr,
):
    _elementwise(_prim)

# ----- the gamma function: shifted to large arguments, where Stirling's series holds -----

_BERNOULLI = (1 / 6, -1 / 30, 1 / 42, -1 / 30, 5 / 66, -691 / 2730, 7 / 6, -3617 / 510)  # B₂, B₄, …
_SHIFT = 12


def _stirling(z: Array) -> Array:
    """Σ B₂ₖ / (2k (2k − 1) z^{2k−1}), k = 1 … 8."""
    inverse = 1.0 / z
    square = inverse * inverse
    series: Any = 0.0
    for k in range(len(_BERNOULLI), 0, -1):
        series = series * square + _BERNOULLI[k - 1] / (2 * k * (2 * k - 1))
    return series * inverse


@primitive
@for_floats
def gammaln(xp: Backend, x: Array, /) -> Array:
    """ln |Γ(x)|; inf at 0 and the negative integers.

    Stirling: (z − ½) ln z − z + ½ ln 2π + Σ B₂ₖ / (2k (2k − 1) z^{2k−1}); small x through Γ(z + 1) = z Γ(z), negative
    ones through Γ(x) Γ(1 − x) = π / sin πx.
    """
    # a small shift keeps digits: ln Γ(z + n) − ln(product) cancels
    shift = 8 if float(xp.finfo(x.dtype).eps) < 1e-10 else 3
    left = x < 0.5
    up = xp.where(left, 1.0 - x, x)
    few = up < shift
    z = xp.where(few, up + float(shift), up)
    small = xp.where(few, up, xp.ones_like(up))
    product = small
    for k in range(1, shift):
        product = product * (small + float(k))
    y = (z - 0.5) * xp.log(z) - z + 0.5 * math.log(2 * math.pi) + _stirling(z)
    y = xp.where(few, y - xp.log(product), y)
    y = xp.where(xp.isinf(x), xp.full_like(y, math.inf), y)
    whole = xp.floor(x)
    angle = xp.where(left, x - whole, xp.full_like(x, 0.5))
    sine = xp.abs(xp.sin(math.pi * xp.minimum(angle, 1.0 - angle)))
    pole = sine == 0.0
    mirrored = math.log(math.pi) - xp.log(xp.where(pole, xp.ones_like(sine), sine)) - y
    mirrored = xp.where(pole, xp.full_like(y, math.inf), mirrored)
    return xp.where(left & ~xp.isinf(x), mirrored, y)


gammaln.vjp(x=lambda g, x: e.multiply_no_nan(g, digamma(x)))


@primitive
@for_floats
def gamma_rest(xp: Backend, x: Array, /, *, n: int = 0) -> Array:
    """The n-th derivative of ln Γ(x) − x ln x + x, x > 0: what Stirling's formula says beside its large terms, without their digits."""
    with xp.errstate():
        least = float(n + (11 if float(xp.finfo(x.dtype).eps) < 1e-10 else 3))
        far = x >= least
        z, near = xp.where(far, x, xp.full_like(x, least)), xp.where(far, xp.ones_like(x), x)
        if n == 0:
            rest = gammaln.reference(xp, near) - near * xp.log(near) + near
            return xp.where(far, _stirling(z) - 0.5 * xp.log(z / (2 * math.pi)), rest)
        power = xp.log(near) if n == 1 else math.factorial(n - 2) * (-1) ** n * near ** float(1 - n)
        series, inverse = xp.zeros_like(z), 1.0 / z
        for k in range(len(_BERNOULLI), 0, -1):
            scale = math.factorial(2 * k + n - 2) / math.factorial(2 * k)
            series = series * inverse * inverse + _BERNOULLI[k - 1] * scale
        series = (-1) ** n * (series * inverse + 0.5 * math.factorial(n - 1)) * inverse ** float(n)
        return xp.where(far, series, _polygamma.reference(xp, near, n=n - 1) - power)


gamma_rest.vjp(x=lambda g, x, n: g * gamma_rest(x, n=n + 1))


@primitive
@for_floats
def multiply_add(xp: Backend, a: Array, b: Array, c: Array, /) -> Array:
    """a b + c, the product with twice the digits (Dekker 1971), so that what is left of two that almost cancel has all of its own."""
    split = 2.0 ** (27 if float(xp.finfo(a.dtype).eps) < 1e-10 else 12) + 1.0
    with xp.errstate():
        p = a * b
        a1, b1 = split * a - (split * a - a), split * b - (split * b - b)
        a2, b2 = a - a1, b - b1
        error = ((a1 * b1 - p) + a1 * b2 + a2 * b1) + a2 * b2
        return (p + c) + xp.where(xp.isfinite(error), error, xp.zeros_like(error))


multiply_add.vjp(a=lambda g, b: g * b, b=lambda g, a: g * a, c=lambda g: g)


@primitive(name="polygamma")
@for_floats
def _polygamma(xp: Backend, x: Array, /, *, n: int) -> Array:
    """ψ⁽ⁿ⁾(x): Stirling's series of x + N less N terms of the recurrence; left of 0 through the reflection
    ψ⁽ⁿ⁾(x) = (−1)ⁿ ψ⁽ⁿ⁾(1 − x) − π dⁿ/dxⁿ cot πx."""
    left = x < 0.0
    with xp.errstate():  # poles
        right = _polygamma_right(xp, xp.where(left, 1.0 - x, x), n)
        turn = x - xp.round(x)  # in [−½, ½], exactly
        whole = turn == 0.0
        cot = 1.0 / xp.tan(math.pi * xp.where(left & ~whole, turn, xp.full_like(x, 0.25)))
        mirrored = (right if n % 2 == 0 else -right) - math.pi ** (n + 1) * _horner(cot, _cotangent(n))
    pole = math.inf if n % 2 else -math.inf if n else math.nan
    mirrored = xp.where(whole | xp.isinf(x), xp.full_like(x, pole), mirrored)
    return xp.where(left, mirrored, right)


def _polygamma_right(xp: Backend, x: Array, n: int) -> Array:
    shift = _SHIFT + n
    z = x + float(shift)
    inverse = 1.0 / z
    square = inverse * inverse
    series = xp.zeros_like(z)
    for k in range(len(_BERNOULLI), 0, -1):
        scale = math.factorial(2 * k + n - 1) / math.factorial(2 * k)
        series = series * square + _BERNOULLI[k - 1] * scale
    tail = series * inverse ** float(n + 2)
    poles = x ** float(-n - 1)  # of −0 too, whose pole has the other sign
    for k in range(1, shift):
        poles = poles + (x + float(k)) ** float(-n - 1)
    if n == 0:
        return xp.log(z) - 0.5 * inverse - tail - poles
    y = math.factorial(n - 1) * inverse ** float(n) + 0.5 * math.factorial(n) * inverse ** float(n + 1) + tail
    y = y + math.factorial(n) * poles
    return y if n % 2 else -y


def _cotangent(n: int) -> tuple[float, ...]:
    """The coefficients of P, lowest first, with dⁿ/dtⁿ cot t = P(cot t): P ↦ −(1 + c²) P′."""
    p = [0.0, 1.0]
    for _ in range(n):
        slope = [k * c for k, c in enumerate(p)][1:]
        p = [-(a + b) for a, b in zip([*slope, 0.0, 0.0], [0.0, 0.0, *slope], strict=True)]
    return tuple(p)


_polygamma.vjp(x=lambda g, x, n: e.multiply_no_nan(g, _polygamma(x, n=n + 1)))
for _prim in (gammaln, gamma_rest, multiply_add, _polygamma):
    _elementwise(_prim)


def polygamma(n: int, x: ArrayLike, /) -> Tensor:
    """ψ⁽ⁿ⁾(x), the n-th derivative of the digamma function. At its poles 0, −1, −2, … it is inf for odd n and −inf
    for even n, as SciPy's (of n = 0, the digamma function, nan at −1, −2, …).

    >>> import anynet as an
    >>> an.special.polygamma(1, an.asarray([-0.5, 0.5]))
    Tensor([8.9348, 4.9348])
    """
    if isinstance(n, bool) or not isinstance(n, int) or n < 0:
        msg = f"polygamma: n must be an integer of at least 0, got {n!r}"
        raise ValueError(msg)
    return _polygamma(x, n=n)


def digamma(x: ArrayLike, /) -> Tensor:
    """ψ(x) = d/dx ln Γ(x); −inf at 0, nan at −1, −2, …"""
    return _polygamma(x, n=0)


psi = digamma


def betaln(a: ArrayLike | float, b: ArrayLike | float, /) -> Tensor:
    """ln |B(a, b)| = ln |Γ(a) Γ(b) / Γ(a + b)|, without the cancellation of large arguments.

    >>> import anynet as an
    >>> an.special.betaln(an.asarray([1e30]), 2.0)
    Tensor([-138.155])
    """
    return _betaln(*as_arrays(a, b))


@primitive(name="betaln")
@for_floats
def _betaln(xp: Backend, a: Array, b: Array, /) -> Array:
    """Where the larger, q, is at least 10, Γ(q) and Γ(p + q) enter by Stirling's formula, whose large terms are taken
    together (A. Didonato & A. Morris, "Algorithm 708", 1992)."""
    with xp.errstate():  # poles, and inf − inf
        p, q = xp.minimum(a, b), xp.maximum(a, b)
        plain = gammaln.reference(xp, p) + (gammaln.reference(xp, q) - gammaln.reference(xp, p + q))
        plain = xp.where((p == 0.0) & (q >= 0.0), xp.full_like(plain, math.inf), plain)
        far = (p > 0.0) & (q >= 10.0) & ~xp.isinf(q)
        low, high = xp.where(far, p, xp.ones_like(p)), xp.where(far, q, xp.full_like(q, 10.0))
        rest = _stirling(high) - _stirling(low + high) + high * xp.log1p(-low / (low + high))
        both = low >= 10.0
        large = xp.where(both, low, xp.full_like(low, 10.0))
        two = rest + _stirling(large) + 0.5 * math.log(2 * math.pi) - 0.5 * xp.log(high)
        two = two + (large - 0.5) * xp.log(large / (large + high))
        small = xp.where(both, xp.ones_like(low), low)
        one = rest + gammaln.reference(xp, small) + small - small * xp.log(small + high)
        one = one - 0.5 * xp.log1p(-small / (small + high))
        y = xp.where(far, xp.where(both, two, one), plain)
        return xp.where((p > 0.0) & xp.isinf(q), xp.full_like(y, -math.inf), y)


_betaln.vjp(
    a=lambda g, a, b: e.multiply_no_nan(g, digamma(a) - digamma(a + b)),
    b=lambda g, a, b: e.multiply_no_nan(g, digamma(b) - digamma(a + b)),
)
_elementwise(_betaln)


def multigammaln(a: ArrayLike, d: int, /) -> Tensor:
    """The logarithm of the d-dimensional gamma function π^{d(d−1)/4} Π_j Γ(a + (1 − j)/2), j = 1 … d."""
    if not isinstance(d, int) or d < 1:
        msg = f"multigammaln: d must be an integer ≥ 1, got {d!r}"
        raise ValueError(msg)
    y = gammaln(a) + d * (d - 1) / 4 * math.log(math.pi)
    for j in range(1, d):
        y = y + gammaln(a - j / 2)
    return y


# ----- others -----


def exp2(x: ArrayLike, /) -> Tensor:
    """2ˣ."""
    return e.exp(x * math.log(2))


def sinc(x: ArrayLike, /) -> Tensor:
    """sin(πx) / (πx), 1 at 0 (its series where |x| is small, so that derivatives hold there too)."""
    z = x * math.pi
    near = e.less(e.abs(z), 1e-2)
    safe = e.where(near, 1.0, z)
    square = e.where(near, z * z, 0.0)
    series = 1 + square * (-1 / 6 + square * (1 / 120 + square * (-1 / 5040 + square * (1 / 362880))))
    return e.where(near, series, e.sin(safe) / safe)


@primitive
@for_floats
def cbrt(xp: Backend, x: Array, /) -> Array:
    """The cube root, of negative numbers too."""
    size = xp.abs(x)
    y = xp.where(size > 0.0, size, xp.ones_like(size)) ** (1 / 3)
    # one step of Newton's method: the power is off by an ulp or two
    y = y - (y * y * y - size) / (3.0 * y * y)
    y = xp.where((size > 0.0) & xp.isfinite(size), y, size)
    return xp.where(x < 0.0, -y, y)


cbrt.vjp(x=lambda g, y: e.divide_no_nan(g, 3 * y * y))
_elementwise(cbrt)
