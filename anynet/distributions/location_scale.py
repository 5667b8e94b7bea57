"""Distributions with a location and a scale: normal, Laplace, Cauchy, Student's t, Gumbel, uniform, and folded ones."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from anynet.distributions import constraints
from anynet.distributions.constraints import Constraint
from anynet.distributions.distribution import (
    EULER,
    HALF_LOG_2PI,
    Constraints,
    Distribution,
    Shape,
    broadcast,
    eps,
    not_below,
    outside,
)
from anynet.ops import elementwise as e
from anynet.ops.creation import full_like, zeros_like
from anynet.ops.incomplete import betainc, sampled_gamma
from anynet.ops.special import betaln, erf, erfinv, gamma_rest, ndtr, ndtri
from anynet.random import Generator, gamma
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["Cauchy", "Gumbel", "HalfCauchy", "HalfNormal", "Laplace", "Normal", "StudentT", "Uniform"]


class _LocationScale(Distribution):
    """x = loc + scale · z."""

    arg_constraints: ClassVar[Constraints] = {"loc": constraints.real, "scale": constraints.positive}
    has_rsample = True
    loc: Tensor
    scale: Tensor

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        self.loc, self.scale = broadcast(type(self).__name__, loc=loc, scale=scale)
        super().__init__(self.loc.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.real

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    def _z(self, value: ArrayLike) -> Tensor:
        return (self._value(value) - self.loc) / self.scale

    def _noise(self, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
        raise NotImplementedError

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        return self.loc + self.scale * self._noise(self._shape(sample_shape), generator)


class Normal(_LocationScale):
    """p(x) = exp(−(x − loc)² / (2 scale²)) / (scale √(2π)).

    >>> import anynet as an
    >>> an.distributions.Normal(0.0, 2.0).log_prob(1.0)
    Tensor(-1.737085)
    """

    @property
    def variance(self) -> Tensor:
        return self.scale**2

    @property
    def stddev(self) -> Tensor:
        return self.scale

    def _noise(self, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
        return self._normal(shape, generator)

    def log_prob(self, value: ArrayLike) -> Tensor:
        return -0.5 * self._z(value) ** 2 - e.log(self.scale) - HALF_LOG_2PI

    def cdf(self, value: ArrayLike) -> Tensor:
        return ndtr(self._z(value))

    def icdf(self, value: ArrayLike) -> Tensor:
        return self.loc + self.scale * ndtri(probability(self, value))

    def entropy(self) -> Tensor:
        return 0.5 + HALF_LOG_2PI + e.log(self.scale)


class Laplace(_LocationScale):
    """p(x) = exp(−|x − loc| / scale) / (2 scale)."""

    @property
    def variance(self) -> Tensor:
        return 2.0 * self.scale**2

    def _noise(self, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
        u = self._uniform(shape, generator)
        return _laplace_quantile(u)

    def log_prob(self, value: ArrayLike) -> Tensor:
        return -e.abs(self._z(value)) - e.log(2.0 * self.scale)

    def cdf(self, value: ArrayLike) -> Tensor:
        z = self._z(value)
        tail = 0.5 * e.exp(-e.abs(z))
        return e.where(e.less(z, 0.0), tail, 1.0 - tail)

    def icdf(self, value: ArrayLike) -> Tensor:
        return self.loc + self.scale * _laplace_quantile(probability(self, value))

    def entropy(self) -> Tensor:
        return 1.0 + e.log(2.0 * self.scale)


def _laplace_quantile(u: Tensor) -> Tensor:
    low = e.less(u, 0.5)
    return e.where(low, _log(2.0 * e.where(low, u, 0.5)), -_log(2.0 * (1.0 - e.where(low, 0.5, u))))


def _log(x: Tensor) -> Tensor:
    """ln x, −∞ at 0 without a warning."""
    zero = e.equal(x, 0.0)
    return e.where(zero, -math.inf, e.log(e.where(zero, 1.0, x)))


def _log_of_rest(p: Tensor) -> Tensor:
    """ln(1 − p), −∞ at 1 without a warning."""
    one = e.equal(p, 1.0)
    return e.where(one, -math.inf, e.log1p(-e.where(one, 0.0, p)))


def probability(distribution: Distribution, value: ArrayLike) -> Tensor:
    """A probability, as a Tensor of the parameters' dtype, checked to be in [0, 1]."""
    [p, _] = broadcast(f"{type(distribution).__name__}.icdf", value=value, parameter=distribution._like)
    if distribution._validate:
        constraints.require(f"{type(distribution).__name__}.icdf", "value", constraints.unit_interval, p)
    return p


class Cauchy(_LocationScale):
    """p(x) = 1 / (π scale (1 + z²)), z = (x − loc) / scale. It has no mean and no variance (nan)."""

    @property
    def mean(self) -> Tensor:
        return full_like(self.loc, math.nan)

    @property
    def variance(self) -> Tensor:
        return full_like(self.loc, math.nan)

    def _noise(self, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
        return e.tan(math.pi * (self._uniform(shape, generator) - 0.5))

    def log_prob(self, value: ArrayLike) -> Tensor:
        return -math.log(math.pi) - e.log(self.scale) - e.log1p(self._z(value) ** 2)

    def cdf(self, value: ArrayLike) -> Tensor:
        z = self._z(value)
        return (
            e.atan2(full_like(z, 1.0), -z) / math.pi
        )  # atan(z) / π + ½, without the difference of the lower tail

    def icdf(self, value: ArrayLike) -> Tensor:
        return self.loc + self.scale * _cauchy_quantile(probability(self, value))

    def entropy(self) -> Tensor:
        return math.log(4 * math.pi) + e.log(self.scale)


def _cauchy_quantile(p: Tensor) -> Tensor:
    """−1 / tan(π p) below ¼, the same of 1 − p above ¾, and tan(π (p − ½)) between; −∞ and ∞ at the ends."""
    low, high = e.less(p, 0.25), e.greater(p, 0.75)
    tail = e.where(low, p, e.where(high, 1.0 - p, 0.25))
    end = e.equal(tail, 0.0)
    far = e.where(end, math.inf, 1.0 / e.tan(math.pi * e.where(end, 0.25, tail)))
    middle = e.tan(math.pi * (e.where(e.logical_or(low, high), 0.5, p) - 0.5))
    return e.where(low, -far, e.where(high, far, middle))


class Gumbel(_LocationScale):
    """p(x) = exp(−z − e^{−z}) / scale, z = (x − loc) / scale: of the largest of many."""

    @property
    def mean(self) -> Tensor:
        return self.loc + EULER * self.scale

    @property
    def variance(self) -> Tensor:
        return (math.pi**2 / 6.0) * self.scale**2

    def _noise(self, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
        return -e.log(-e.log(e.minimum(self._uniform(shape, generator), 1.0 - eps(self._like) / 2)))

    def log_prob(self, value: ArrayLike) -> Tensor:
        x, good = self._inside(value)
        z = (x - self.loc) / self.scale
        return outside(good, -z - e.exp(-z) - e.log(self.scale))

    def cdf(self, value: ArrayLike) -> Tensor:
        return e.exp(-e.exp(-self._z(value)))

    def icdf(self, value: ArrayLike) -> Tensor:
        return self.loc - self.scale * _log(-_log(probability(self, value)))

    def entropy(self) -> Tensor:
        return 1.0 + EULER + e.log(self.scale)


class StudentT(Distribution):
    """p(x) = (1 + z²/df)^{−(df + 1)/2} / (scale √df B(df/2, ½)), z = (x − loc) / scale.

    The mean is nan for df ≤ 1; the variance inf for 1 < df ≤ 2 and nan for df ≤ 1.
    """

    arg_constraints: ClassVar[Constraints] = {
        "df": constraints.positive,
        "loc": constraints.real,
        "scale": constraints.positive,
    }
    has_rsample = True

    def __init__(self, df: Any, loc: Any = 0.0, scale: Any = 1.0, validate_args: bool | None = None) -> None:
        self.df, self.loc, self.scale = broadcast("StudentT", df=df, loc=loc, scale=scale)
        super().__init__(self.df.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.real

    @property
    def mean(self) -> Tensor:
        return e.where(e.greater(self.df, 1.0), self.loc, math.nan)

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        some = e.greater(self.df, 2.0)
        df = e.where(some, self.df, 3.0)
        finite = e.where(some, self.scale**2 * df / (df - 2.0), math.inf)
        return e.where(e.greater(self.df, 1.0), finite, math.nan)

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        shape = self._shape(sample_shape)
        z = self._normal(shape, generator)
        half = 0.5 * self.df
        chi = sampled_gamma(
            half, gamma(half, shape, dtype=half.dtype, device=half.device, generator=generator)
        )
        return self.loc + self.scale * z * e.sqrt(half / chi)

    def log_prob(self, value: ArrayLike) -> Tensor:
        z = (self._value(value) - self.loc) / self.scale
        norm = e.log(self.scale) + 0.5 * e.log(self.df) + betaln(0.5 * self.df, 0.5)
        return -0.5 * (self.df + 1.0) * e.log1p(z * z / self.df) - norm

    def cdf(self, value: ArrayLike) -> Tensor:
        """½ I_{df / (df + z²)}(df/2, ½) below the location, 1 less it above."""
        z = (self._value(value) - self.loc) / self.scale
        middle = e.equal(z, 0.0)
        safe = e.where(middle, 1.0, z)
        tail = 0.5 * betainc(0.5 * self.df, 0.5, self.df / (self.df + safe * safe))
        return e.where(middle, 0.5, e.where(e.less(z, 0.0), tail, 1.0 - tail))

    def entropy(self) -> Tensor:
        df = self.df
        slope = e.log1p(1.0 / df) + gamma_rest(0.5 * (df + 1.0), n=1) - gamma_rest(0.5 * df, n=1)
        spread = 0.5 * (df + 1.0) * slope
        return e.log(self.scale) + spread + 0.5 * e.log(df) + betaln(0.5 * df, 0.5)


class Uniform(Distribution):
    """p(x) = 1 / (high − low) for low ≤ x < high.

    Values outside are refused with `validate_args`, and have the logarithm −inf without.
    """

    arg_constraints: ClassVar[Constraints] = {"low": constraints.dependent, "high": constraints.dependent}
    has_rsample = True

    def __init__(self, low: Any, high: Any, validate_args: bool | None = None) -> None:
        self.low, self.high = broadcast("Uniform", low=low, high=high)
        super().__init__(self.low.shape, (), validate_args)
        if self._validate:
            constraints.require("Uniform", "high - low", constraints.positive, self.high - self.low)

    @property
    def support(self) -> Constraint:
        return constraints.interval(self.low, self.high)

    @property
    def mean(self) -> Tensor:
        return 0.5 * (self.low + self.high)

    @property
    def mode(self) -> Tensor:
        return full_like(self.low, math.nan)

    @property
    def variance(self) -> Tensor:
        return (self.high - self.low) ** 2 / 12.0

    @property
    def stddev(self) -> Tensor:
        return (self.high - self.low) / math.sqrt(12.0)

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        return self.low + (self.high - self.low) * self._uniform(self._shape(sample_shape), generator)

    def log_prob(self, value: ArrayLike) -> Tensor:
        x = self._value(value)
        inside = e.logical_and(e.greater_equal(x, self.low), e.less_equal(x, self.high))
        return e.where(inside, -e.log(self.high - self.low), -math.inf)

    def cdf(self, value: ArrayLike) -> Tensor:
        return e.clip((self._value(value) - self.low) / (self.high - self.low), 0.0, 1.0)

    def icdf(self, value: ArrayLike) -> Tensor:
        return self.low + (self.high - self.low) * probability(self, value)

    def entropy(self) -> Tensor:
        return e.log(self.high - self.low)


class _Folded(Distribution):
    """The size of a value of a distribution around 0: twice its density for x ≥ 0."""

    arg_constraints: ClassVar[Constraints] = {"scale": constraints.positive}
    has_rsample = True
    scale: Tensor
    _base: type[_LocationScale]

    def __init__(self, scale: Any, validate_args: bool | None = None) -> None:
        [self.scale] = broadcast(type(self).__name__, scale=scale)
        super().__init__(self.scale.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.nonnegative

    def _whole(self) -> _LocationScale:
        return self._base(zeros_like(self.scale), self.scale, validate_args=False)

    @property
    def mode(self) -> Tensor:
        return zeros_like(self.scale)

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        return e.abs(self._whole().rsample(sample_shape, generator=generator))

    def log_prob(self, value: ArrayLike) -> Tensor:
        x, good = self._inside(value)
        return outside(good, self._whole().log_prob(x) + math.log(2.0))

    def _z(self, value: ArrayLike) -> Tensor:
        return not_below(self._value(value), 0.0) / self.scale

    def entropy(self) -> Tensor:
        return self._whole().entropy() - math.log(2.0)


class HalfNormal(_Folded):
    """p(x) = √(2/π) exp(−x² / (2 scale²)) / scale, x ≥ 0: of |z|, z ~ N(0, scale²)."""

    _base = Normal

    @property
    def mean(self) -> Tensor:
        return math.sqrt(2 / math.pi) * self.scale

    @property
    def variance(self) -> Tensor:
        return (1.0 - 2 / math.pi) * self.scale**2

    def cdf(self, value: ArrayLike) -> Tensor:
        return erf(self._z(value) / math.sqrt(2.0))

    def icdf(self, value: ArrayLike) -> Tensor:
        return self.scale * (math.sqrt(2.0) * erfinv(probability(self, value)))


class HalfCauchy(_Folded):
    """p(x) = 2 / (π scale (1 + (x / scale)²)), x ≥ 0. Its mean is inf, its variance too."""

    _base = Cauchy

    @property
    def mean(self) -> Tensor:
        return full_like(self.scale, math.inf)

    @property
    def variance(self) -> Tensor:
        return full_like(self.scale, math.inf)

    def cdf(self, value: ArrayLike) -> Tensor:
        return e.atan(self._z(value)) * (2.0 / math.pi)

    def icdf(self, value: ArrayLike) -> Tensor:
        p = probability(self, value)
        half = e.less(p, 0.5)
        near = e.tan(0.5 * math.pi * e.where(half, p, 0.5))
        return self.scale * e.where(half, near, _cauchy_quantile(0.5 + 0.5 * e.where(half, 0.5, p)))
