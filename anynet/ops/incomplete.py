"""The regularised incomplete gamma and beta functions, under SciPy's names, differentiable in all arguments to any order.

Each is an integral of a log-concave density in a logarithmic variable, from the argument away from the mode, where the
integrand falls from 1. Gauss-Legendre quadrature over the range where it matters needs as many nodes for every
argument, so there is no loop whose length depends on the values; derivatives with respect to the parameters
are the same integral with powers of a logarithm (as in M. Figurnov, S. Mohamed & A. Mnih, "Implicit reparameterization
gradients", 2018, who differentiate the distribution function for the gradient of a sample).
"""

from __future__ import annotations

import functools
import math
from typing import Any

from anynet.autograd.primitive import primitive
from anynet.ops import elementwise as e
from anynet.ops import reductions
from anynet.ops.erf import for_floats
from anynet.ops.special import (
    _betaln,
    _polygamma,
    _stirling,
    _xlog1py,
    _xlogy,
    as_arrays,
    digamma,
    gamma_rest,
    gammaln,
    multiply_add,
    polygamma,
)
from anynet.tensor import Tensor
from anynet.typing import ArrayLike
from anynet_backends import Array, Backend

__all__ = ["betainc", "gammainc", "gammaincc"]


@functools.cache
def _legendre(count: int) -> tuple[tuple[float, float], ...]:
    """Nodes and weights of Gauss-Legendre quadrature on [0, 1]: Newton's method on the Legendre polynomial."""
    rule = []
    for k in range(count):
        x = math.cos(math.pi * (k + 0.75) / (count + 0.5))
        slope = 1.0
        for _ in range(8):
            before, p = 1.0, x
            for j in range(2, count + 1):
                before, p = p, ((2 * j - 1) * x * p - (j - 1) * before) / j
            slope = count * (x * p - before) / (x * x - 1.0)
            x -= p / slope
        rule.append((0.5 * (1.0 - x), 1.0 / ((1.0 - x * x) * slope * slope)))
    return tuple(rule)


def _precision(xp: Backend, x: Array) -> tuple[float, int]:
    """Where an integrand e^{−g} stops to matter, and the nodes that suffice."""
    eps = float(xp.finfo(x.dtype).eps)
    return 4.0 - math.log(eps), 64 if eps < 1e-10 else 32


_EXPONENTIAL = tuple(1.0 / math.factorial(k) for k in range(2, 17))
_ATANH = tuple(1.0 / k for k in range(3, 25, 2))


def _series(xp: Backend, x: Array, coefficients: tuple[float, ...]) -> Array:
    """Σ cₖ xᵏ, of as many terms as the dtype shows."""
    if float(xp.finfo(x.dtype).eps) > 1e-10:
        coefficients = coefficients[:8]
    y: Any = coefficients[-1]
    for c in coefficients[-2::-1]:
        y = y * x + c
    return y


def _expm1_less(xp: Backend, u: Array) -> Array:
    """eᵘ − 1 − u, without cancellation."""
    near = xp.abs(u) < 0.5
    small, large = xp.where(near, u, xp.zeros_like(u)), xp.where(near, xp.ones_like(u), u)
    return xp.where(near, small * small * _series(xp, small, _EXPONENTIAL), xp.expm1(large) - large)


def _log1p_less(xp: Backend, u: Array) -> Array:
    """ln(1 + u) − u, without cancellation: ln(1 + u) is 2 artanh(u / (2 + u))."""
    near = xp.abs(u) < 0.4
    small, large = xp.where(near, u, xp.zeros_like(u)), xp.where(near, xp.ones_like(u), u)
    v = small / (2.0 + small)
    square = v * v
    return xp.where(
        near, -small * v + 2.0 * v * square * _series(xp, square, _ATANH), xp.log1p(large) - large
    )


@primitive
@for_floats
def log1p_less(xp: Backend, u: Array, /) -> Array:
    """ln(1 + u) − u, without cancellation."""
    return _log1p_less(xp, u)


log1p_less.vjp(u=lambda g, u: -g * u / (1.0 + u))


def _binomials(n: int) -> tuple[int, ...]:
    return tuple(math.comb(n, k) for k in range(n + 1))


def _derivatives(slopes: Any, n: int, m: int = 0) -> dict[tuple[int, int], Any]:
    """∂ᵢⱼ f / f for i ≤ n, j ≤ m, from `slopes`: (i, j) ↦ ∂ᵢⱼ ln f, i + j ≥ 1."""
    found: dict[tuple[int, int], Any] = {(0, 0): 1.0}
    for i in range(n + 1):
        for j in range(m + 1):
            if i:
                parts = [
                    (k, h, math.comb(i - 1, k) * math.comb(j, h)) for k in range(i) for h in range(j + 1)
                ]
                found[i, j] = sum(found[i - 1 - k, j - h] * (slopes(k + 1, h) * c) for k, h, c in parts)
            elif j:
                found[i, j] = sum(
                    found[0, j - 1 - k] * (slopes(0, k + 1) * math.comb(j - 1, k)) for k in range(j)
                )
    return found


# ----- gamma -----


def _log_ratio(xp: Backend, y: Array, a: Array, off: Array) -> Array:
    """ln(y / a), `off` being y − a to its last digit."""
    far = off < -0.5 * a
    return xp.where(far, xp.log(y / a), xp.log1p(xp.where(far, xp.zeros_like(off), off) / a))


def _gamma_slopes(first: Any, psi: Any, a: Any) -> Any:
    """The derivatives with respect to a of ln(xᵃ e⁻ˣ / Γ(a)), of which the first is ln x − ψ(a)."""
    return lambda k, _: first if k == 1 else -psi(a, k - 1)


def _gamma_moments(xp: Backend, a: Array, x: Array, lower: Array, n: int) -> list[Array]:
    """∫ vᵏ exp(a v − x (eᵛ − 1)) dv, k = 0 … n, over v < 0 where `lower` (x ≤ a), else over v > 0.

    The exponent is −g, g = x (eᵛ − 1 − v) + (x − a) v; bounds of g from below give the v where it reaches `tail`.
    """
    tail, count = _precision(xp, x)
    slope = 2.0 * (1.0 - x / a) - tail / a
    root = xp.sqrt(slope * slope + 8.0 * tail / a)
    rising = slope > 0.0
    left = xp.where(
        rising, 4.0 * tail / a / (xp.where(rising, slope, xp.ones_like(slope)) + root), 0.5 * (root - slope)
    )
    excess = xp.maximum((x - a) / x, xp.zeros_like(x))
    right = 2.0 * tail / x / (excess + xp.sqrt(excess * excess + 2.0 * tail / x))
    right = xp.minimum(right, xp.maximum(xp.log1p(2.4 * tail / x), xp.ones_like(x)))
    end = xp.where(lower, -left, right)
    totals = [xp.zeros_like(end) for _ in range(n + 1)]
    for node, weight in _legendre(count):
        v = end * node
        f = weight * xp.exp((a - x) * v - x * _expm1_less(xp, v))
        for k in range(n + 1):
            totals[k] = totals[k] + f
            f = f * v
    return [xp.abs(end) * t for t in totals]


def _gamma_front(xp: Backend, a: Array, x: Array) -> Array:
    """xᵃ e⁻ˣ / Γ(a), for large a by Stirling's formula, whose large terms are taken together."""
    far = a >= 10.0
    high = xp.where(far, a, xp.full_like(a, 10.0))
    large = 0.5 * xp.log(high / (2 * math.pi)) - _stirling(high) + high * _log1p_less(xp, (x - high) / high)
    low = xp.where(far, xp.ones_like(a), a)
    small = low * xp.log(x) - x - gammaln.reference(xp, low)
    return xp.exp(xp.where(far, large, small))


def _gamma_cases(xp: Backend, a: Array, x: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Arguments with 1 where the integral is not needed, where it is, where it runs downwards, and a or a + 1."""
    inside = (a > 0.0) & (x > 0.0) & ~xp.isinf(a) & ~xp.isinf(x)
    a, x = xp.where(inside, a, xp.ones_like(a)), xp.where(inside, x, xp.ones_like(x))
    lower = x <= xp.maximum(a, xp.ones_like(a))
    return a, x, inside, lower, xp.where(lower & (a < 1.0), a + 1.0, a)


def _tails(xp: Backend, a: Array, x: Array) -> tuple[Array, Array]:
    """P(a, x) and Q(a, x) = 1 − P(a, x), the smaller one not from the larger one."""
    a, x = xp.broadcast_arrays(a, x)
    with xp.errstate():
        own, at, inside, lower, shifted = _gamma_cases(xp, a, x)
        front = _gamma_front(xp, shifted, at)
        tail = front * _gamma_moments(xp, shifted, at, lower, 0)[0]
        tail = tail + xp.where(shifted > own, front / at, xp.zeros_like(at))
        p, q = xp.where(lower, tail, 1.0 - tail), xp.where(lower, 1.0 - tail, tail)
        valid = (a >= 0.0) & (x >= 0.0) & ~((a == 0.0) & (x == 0.0)) & ~(xp.isinf(a) & xp.isinf(x))
        one, zero, bad = xp.ones_like(p), xp.zeros_like(p), xp.full_like(p, math.nan)
        all_below = (a == 0.0) | xp.isinf(x)
        p = xp.where(inside, p, xp.where(valid, xp.where(all_below, one, zero), bad))
        q = xp.where(inside, q, xp.where(valid, xp.where(all_below, zero, one), bad))
        return p, q


def gammainc(a: ArrayLike | float, x: ArrayLike | float, /) -> Tensor:
    """P(a, x) = ∫₀ˣ t^{a−1} e^{−t} dt / Γ(a), the regularised lower incomplete gamma function, for a, x ≥ 0; else nan.

    >>> import anynet as an
    >>> an.special.gammainc(an.asarray(1.0), 1.0)  # 1 − 1/e
    Tensor(0.632120)
    """
    return _gammainc(*as_arrays(a, x))


@primitive(name="gammainc")
@for_floats
def _gammainc(xp: Backend, a: Array, x: Array, /) -> Array:
    return _tails(xp, a, x)[0]


def gammaincc(a: ArrayLike | float, x: ArrayLike | float, /) -> Tensor:
    """Q(a, x) = 1 − P(a, x) = ∫ₓ^∞ t^{a−1} e^{−t} dt / Γ(a), the regularised upper incomplete gamma function.

    >>> import anynet as an
    >>> an.special.gammaincc(an.asarray(2.0), 40.0)
    Tensor(1.7418e-16)
    """
    return _gammaincc(*as_arrays(a, x))


@primitive(name="gammaincc")
@for_floats
def _gammaincc(xp: Backend, a: Array, x: Array, /) -> Array:
    return _tails(xp, a, x)[1]


@primitive(name="gammainc_ratio")
@for_floats
def gamma_ratio(xp: Backend, a: Array, x: Array, /, *, n: int) -> Array:
    """(∂ⁿP/∂aⁿ) / (∂P/∂x), n ≥ 1: the density divided out before it can underflow. Minus that of n = 1 is how fast a quantile
    moves with a."""
    a, x = xp.broadcast_arrays(a, x)
    with xp.errstate():
        own, at, inside, lower, shifted = _gamma_cases(xp, a, x)

        def psi(a: Array, k: int) -> Array:
            return _polygamma.reference(xp, a, n=k)

        slope = _log_ratio(xp, at, shifted, at - shifted) - gamma_rest.reference(xp, shifted, n=1)
        front = _derivatives(_gamma_slopes(slope, psi, shifted), n)
        moments = _gamma_moments(xp, shifted, at, lower, n)
        total = sum(c * (front[n - k, 0] * moments[k]) for k, c in enumerate(_binomials(n)))
        moved = shifted > own
        y = at * xp.where(moved, at / own, xp.ones_like(at)) * total
        y = xp.where(lower, y, -y) + xp.where(moved, at / own * front[n, 0], xp.zeros_like(at))
        edge = xp.where((a > 0.0) & ((x == 0.0) | xp.isinf(x)), xp.zeros_like(y), xp.full_like(y, math.nan))
        return xp.where(inside, y, edge)


def _psi(x: Any, k: int) -> Any:
    return digamma(x) if k == 0 else polygamma(k, x)


def _gamma_density(a: Any, x: Any) -> Any:
    """x^{a−1} e^{−x} / Γ(a), which is 0 at infinity; at 0 by the power itself, whose logarithm has no slope there."""
    end, start = e.isinf(x), x == 0.0
    inner = e.where(end | start, 1.0, x)
    inside = e.exp(_xlogy(a - 1.0, inner) - inner - gammaln(a))
    first = e.pow(e.where(start, x, 1.0), a - 1.0) * e.exp(-e.where(start, x, 0.0) - gammaln(a))
    return e.where(end, 0.0, e.where(start, first, inside))


def _gamma_slope(a: Any, x: Any) -> Any:
    """∂P/∂a, which is 0 at the ends."""
    return e.multiply_no_nan(gamma_ratio(a, x, n=1), _gamma_density(a, x))


_gammainc.vjp(
    a=lambda g, a, x: e.multiply_no_nan(g, _gamma_slope(a, x)),
    x=lambda g, a, x: e.multiply_no_nan(g, _gamma_density(a, x)),
)
_gammaincc.vjp(
    a=lambda g, a, x: -e.multiply_no_nan(g, _gamma_slope(a, x)),
    x=lambda g, a, x: -e.multiply_no_nan(g, _gamma_density(a, x)),
)


def _gamma_ratio_a(g: Any, y: Any, a: Any, x: Any, n: int) -> Any:
    return g * (gamma_ratio(a, x, n=n + 1) - y * (e.log(x) - digamma(a)))


def _gamma_ratio_x(g: Any, y: Any, a: Any, x: Any, n: int) -> Any:
    front = _derivatives(_gamma_slopes(e.log(x) - digamma(a), _psi, a), n)[n, 0]
    return g * (front - y * ((a - 1.0) / x - 1.0))


gamma_ratio.vjp(a=_gamma_ratio_a, x=_gamma_ratio_x)

# ----- beta -----


def _beta_slopes(up: Any, down: Any, psi: Any, a: Any, b: Any, both: Any) -> Any:
    """The derivatives with respect to a and b of ln(xᵃ (1 − x)ᵇ Γ(a + b) / (Γ(a) Γ(b))), of which the first are `up` and `down`."""

    def slope(i: int, j: int) -> Any:
        if i + j == 1:
            return up if i else down
        y = psi(both, i + j - 1)
        return y if i and j else y - psi(a, i - 1) if i else y - psi(b, j - 1)

    return slope


def _excess(xp: Backend, a: Array, b: Array, x: Array) -> Array:
    """(a + b) x − a, with the digits that are left of it."""
    both = a + b
    lost = (a - (both - (both - a))) + (b - (both - a))
    return multiply_add.reference(xp, both, x, -a) + lost * x


def _beta_moments(
    xp: Backend,
    a: Array,
    b: Array,
    x: Array,
    rest: Array,
    excess: Array,
    swapped: Array,
    orders: list[tuple[int, int]],
) -> list[Array]:
    """∫ pⁱ qʲ exp(a p + b q) ds over the logits s below that of x ≤ a / (a + b), p and q the logarithms of t / x and
    (1 − t) / (1 − x), t = σ(s); where `swapped`, i and j change places. `rest` is 1 − x, `excess` (a + b) x − a.

    The range ends where a bound of the exponent from below reaches `tail`; beyond the logit of half the mean the integrand falls
    exponentially, and this is where the range is parted.
    """
    tail, count = _precision(xp, x)
    slope = xp.maximum(-excess, xp.zeros_like(x))
    bend = a * rest - x * excess
    linear = 2.0 * slope - tail
    root = xp.sqrt(linear * linear + 8.0 * tail * bend)
    rising = linear > 0.0
    steep = 4.0 * tail / (xp.where(rising, linear, xp.ones_like(x)) + root)
    end = xp.where(rising, steep, (root - linear) / (2.0 * bend))
    middle = xp.log(x * (a + 2.0 * b) / (a * rest))
    middle = xp.maximum(middle, xp.zeros_like(x))
    end = xp.minimum(xp.where(xp.isnan(end), xp.full_like(end, math.inf), end), middle + 2.0 * tail / a)
    middle = xp.minimum(middle, end)
    totals, low = [xp.zeros_like(x) for _ in orders], x < 0.5
    most, half = xp.full_like(x, 80.0), xp.minimum(x, xp.full_like(x, 0.5))
    for start, width in ((xp.zeros_like(x), middle), (middle, end - middle)):
        for node, weight in _legendre(count):
            u = start + width * node
            p = -xp.log1p(rest * xp.expm1(xp.minimum(u, most)))
            q = xp.where(low, -xp.log1p(half * xp.expm1(-u)), p + u)
            p = xp.where(low, q - u, p)
            # a p + b q, whose linear parts cancel
            bent = _expm1_less(xp, xp.stack([p, q]))
            bent = a * bent[0, ...] + b * bent[1, ...]
            f = weight * width * xp.exp(excess * xp.expm1(q) / x - bent)
            first, second = xp.where(swapped, q, p), xp.where(swapped, p, q)
            for k, (i, j) in enumerate(orders):
                totals[k] = totals[k] + f * first**i * second**j
    return totals


def _beta_front(xp: Backend, a: Array, b: Array, x: Array) -> Array:
    """xᵃ (1 − x)ᵇ / B(a, b); where both are large by Stirling's formula."""
    far = (a >= 10.0) & (b >= 10.0)
    high, wide = xp.where(far, a, xp.full_like(a, 10.0)), xp.where(far, b, xp.full_like(b, 10.0))
    both = high + wide
    off = _excess(xp, high, wide, x)
    large = (
        0.5 * xp.log(high / (2 * math.pi) * (wide / both))
        + _stirling(both)
        - _stirling(high)
        - _stirling(wide)
    )
    large = large + high * _log1p_less(xp, off / high) + wide * _log1p_less(xp, -off / wide)
    low, few = xp.where(far, xp.ones_like(a), a), xp.where(far, xp.ones_like(b), b)
    small = low * xp.log(x) + few * xp.log1p(-x) - _betaln.reference(xp, low, few)
    return xp.exp(xp.where(far, large, small))


def _beta_cases(xp: Backend, a: Array, b: Array, x: Array) -> tuple[Array, ...]:
    """Arguments with ½ and 1 where the integral is not needed, where it is, whether it runs from the other end, and those parameters
    of which one may have grown by 1."""
    inside = (a > 0.0) & (b > 0.0) & (x > 0.0) & (x < 1.0) & ~xp.isinf(a) & ~xp.isinf(b)
    one = xp.ones_like(x)
    a, b, x = xp.where(inside, a, one), xp.where(inside, b, one), xp.where(inside, x, 0.5 * one)
    swapped = x * (a + b) > a
    return (
        a, b, x, inside, swapped,
        xp.where(~swapped & (a < 1.0), a + 1.0, a), xp.where(swapped & (b < 1.0), b + 1.0, b),
    )  # fmt: skip


def _beta_from_below(
    xp: Backend, a: Array, b: Array, x: Array, swapped: Array, orders: list[tuple[int, int]]
) -> list[Array]:
    low, high = xp.where(swapped, b, a), xp.where(swapped, a, b)
    x, rest, off = xp.where(swapped, 1.0 - x, x), xp.where(swapped, x, 1.0 - x), _excess(xp, a, b, x)
    return _beta_moments(xp, low, high, x, rest, xp.where(swapped, -off, off), swapped, orders)


def betainc(a: ArrayLike | float, b: ArrayLike | float, x: ArrayLike | float, /) -> Tensor:
    """I_x(a, b) = ∫₀ˣ t^{a−1} (1 − t)^{b−1} dt / B(a, b), the regularised incomplete beta function, for a, b > 0 and 0 ≤ x ≤ 1; else
    nan.

    >>> import anynet as an
    >>> an.special.betainc(an.asarray([2.0, 0.5], dtype="float64"), an.asarray([3.0, 0.5], dtype="float64"), 0.5)
    Tensor([0.6875, 0.5   ], dtype=float64)
    """
    return _betainc(*as_arrays(a, b, x))


@primitive(name="betainc")
@for_floats
def _betainc(xp: Backend, a: Array, b: Array, x: Array, /) -> Array:
    a, b, x = xp.broadcast_arrays(a, b, x)
    with xp.errstate():
        own, rest, at, inside, swapped, first, second = _beta_cases(xp, a, b, x)
        front = _beta_front(xp, first, second, at)
        tail = front * _beta_from_below(xp, first, second, at, swapped, [(0, 0)])[0]
        moved = (first > own) | (second > rest)
        low, near = xp.where(swapped, second, first), xp.where(swapped, 1.0 - at, at)
        # xᵃ (1 − x)ᵇ / (a B(a, b)) is the front of a + 1 over x (a + b)
        tail = tail + xp.where(moved, front / (near * (own + rest)), xp.zeros_like(tail))
        y = xp.where(swapped, 1.0 - tail, tail)
        valid = (a > 0.0) & (b > 0.0) & (x >= 0.0) & (x <= 1.0) & ~xp.isinf(a) & ~xp.isinf(b) & (low > 0.0)
        edge = xp.where(
            valid, xp.where(x < 0.5, xp.zeros_like(y), xp.ones_like(y)), xp.full_like(y, math.nan)
        )
        return xp.where(inside, y, edge)


@primitive(name="betainc_ratio")
@for_floats
def beta_ratio(xp: Backend, a: Array, b: Array, x: Array, /, *, n: int, m: int) -> Array:
    """(∂ⁿ⁺ᵐI / ∂aⁿ ∂bᵐ) / (∂I/∂x), n + m ≥ 1: as `gammainc_ratio`."""
    a, b, x = xp.broadcast_arrays(a, b, x)
    with xp.errstate():
        own, rest, at, inside, swapped, first, second = _beta_cases(xp, a, b, x)

        def psi(a: Array, k: int) -> Array:
            return _polygamma.reference(xp, a, n=k)

        off, sums, psi_of = _excess(xp, first, second, at), first + second, psi(own + rest, 0)
        wide = gamma_rest.reference(xp, sums, n=1)
        up = _log_ratio(xp, sums * at, first, off) + wide - gamma_rest.reference(xp, first, n=1)
        down = _log_ratio(xp, sums * (1.0 - at), second, -off) + wide - gamma_rest.reference(xp, second, n=1)
        front = _derivatives(_beta_slopes(up, down, psi, first, second, sums), n, m)
        up, down = xp.log(at) + psi_of - psi(first, 0), xp.log1p(-at) + psi_of - psi(second, 0)
        added = _derivatives(_beta_slopes(up, down, psi, first, second, own + rest), n, m)[n, m]
        orders = [(i, j) for i in range(n + 1) for j in range(m + 1)]
        moments = _beta_from_below(xp, first, second, at, swapped, orders)
        total: Any = 0.0
        for (i, j), moment in zip(orders, moments, strict=True):
            total = total + math.comb(n, i) * math.comb(m, j) * (front[n - i, m - j] * moment)
        moved = (first > own) | (second > rest)
        low, near = xp.where(swapped, rest, own), xp.where(swapped, 1.0 - at, at)
        both = at * (1.0 - at)
        y = both * xp.where(moved, near * (own + rest) / low, xp.ones_like(at)) * total
        y = y + xp.where(moved, both / low * added, xp.zeros_like(at))
        y = xp.where(swapped, -y, y)
        edge = (a > 0.0) & (b > 0.0) & ((x == 0.0) | (x == 1.0))
        return xp.where(inside, y, xp.where(edge, xp.zeros_like(y), xp.full_like(y, math.nan)))


def _beta_density(a: Any, b: Any, x: Any) -> Any:
    """x^{a−1} (1 − x)^{b−1} / B(a, b)."""
    return e.exp(_xlogy(a - 1.0, x) + _xlog1py(b - 1.0, -x) - _betaln(a, b))


def _beta_slope(a: Any, b: Any, x: Any, n: int, m: int) -> Any:
    return e.multiply_no_nan(beta_ratio(a, b, x, n=n, m=m), _beta_density(a, b, x))


_betainc.vjp(
    a=lambda g, a, b, x: e.multiply_no_nan(g, _beta_slope(a, b, x, 1, 0)),
    b=lambda g, a, b, x: e.multiply_no_nan(g, _beta_slope(a, b, x, 0, 1)),
    x=lambda g, a, b, x: e.multiply_no_nan(g, _beta_density(a, b, x)),
)


def _beta_ratio_a(g: Any, y: Any, a: Any, b: Any, x: Any, n: int, m: int) -> Any:
    return g * (beta_ratio(a, b, x, n=n + 1, m=m) - y * (e.log(x) - digamma(a) + digamma(a + b)))


def _beta_ratio_b(g: Any, y: Any, a: Any, b: Any, x: Any, n: int, m: int) -> Any:
    return g * (beta_ratio(a, b, x, n=n, m=m + 1) - y * (e.log1p(-x) - digamma(b) + digamma(a + b)))


def _beta_ratio_x(g: Any, y: Any, a: Any, b: Any, x: Any, n: int, m: int) -> Any:
    both = digamma(a + b)
    up, down = e.log(x) - digamma(a) + both, e.log1p(-x) - digamma(b) + both
    front = _derivatives(_beta_slopes(up, down, _psi, a, b, a + b), n, m)[n, m]
    return g * (front - y * ((a - 1.0) / x - (b - 1.0) / (1.0 - x)))


beta_ratio.vjp(a=_beta_ratio_a, b=_beta_ratio_b, x=_beta_ratio_x)

# ----- samples, whose gradient is that of the quantile at which they lie -----


@primitive(name="sampled_gamma")
def sampled_gamma(xp: Backend, a: Array, sample: Array, /) -> Array:
    """`sample`, drawn from the gamma distribution of concentration a and rate 1, with ∂/∂a = −(∂P/∂a) / (∂P/∂x)."""
    return xp.where(xp.isnan(a), a, sample)


sampled_gamma.vjp(a=lambda g, y, a: -g * gamma_ratio(a, y, n=1))


@primitive(name="sampled_beta")
def sampled_beta(xp: Backend, a: Array, b: Array, sample: Array, /) -> Array:
    """`sample`, drawn from Beta(a, b), with ∂/∂a = −(∂I/∂a) / (∂I/∂x), and ∂/∂b."""
    return xp.where(xp.isnan(a + b), a + b, sample)


sampled_beta.vjp(
    a=lambda g, y, a, b: -g * beta_ratio(a, b, y, n=1, m=0),
    b=lambda g, y, a, b: -g * beta_ratio(a, b, y, n=0, m=1),
)


@primitive(name="sampled_dirichlet")
def sampled_dirichlet(xp: Backend, a: Array, sample: Array, /) -> Array:
    """`sample`, drawn from Dirichlet(a) along the last axis; as aᵢ changes, xᵢ moves along its marginal Beta(aᵢ, Σa − aᵢ), and the
    others keep their ratios."""
    return xp.where(xp.isnan(a), a, sample)


@sampled_dirichlet.vjps("a")
def _sampled_dirichlet_rule(g: Any, y: Any, a: Any) -> tuple[Any]:
    move = -beta_ratio(a, reductions.sum(a, axis=-1, keepdims=True) - a, y, n=1, m=0) / (1.0 - y)
    return (move * (g - reductions.sum(g * y, axis=-1, keepdims=True)),)


sampled_dirichlet.stacked = True
for _prim in (
    log1p_less,
    _gammainc,
    _gammaincc,
    gamma_ratio,
    _betainc,
    beta_ratio,
    sampled_gamma,
    sampled_beta,
):
    _prim.elementwise = True
