"""The gamma distribution and its relatives: exponential, χ², inverse gamma, Weibull, Pareto; beta and Dirichlet.

Samples are differentiable in the shape parameters: the derivative of a sample is that of the quantile at which it lies (implicit
reparametrisation, Figurnov et al. 2018), dx/dα = −(∂F/∂α) / p(x), from the derivative of the incomplete gamma or beta function.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from anynet.distributions import constraints
from anynet.distributions.constraints import Constraint
from anynet.distributions.distribution import (
    EULER,
    Constraints,
    Distribution,
    Shape,
    broadcast,
    eps,
    not_below,
    outside,
    parameters,
    tiny,
)
from anynet.distributions.location_scale import _log_of_rest, probability
from anynet.ops import elementwise as e
from anynet.ops.creation import arange, full_like, ones_like, zeros_like
from anynet.ops.incomplete import (
    betainc,
    gammainc,
    gammaincc,
    log1p_less,
    sampled_beta,
    sampled_dirichlet,
    sampled_gamma,
)
from anynet.ops.manipulation import astype, broadcast_to, expand_dims, stack
from anynet.ops.reductions import argmax, sum
from anynet.ops.softmax import log_softmax
from anynet.ops.special import _xlog1py, _xlogy, betaln, expit, gamma_rest, gammaln, multiply_add
from anynet.random import Generator, gamma, loggamma
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["Beta", "Chi2", "Dirichlet", "Exponential", "Gamma", "InverseGamma", "Pareto", "Weibull"]


def _is_large(a: Tensor, inside: Tensor) -> Tensor:
    """Concentrations from which a density is computed from its largest value, since its terms cancel; `inside`: where x is no end."""
    return e.logical_and(e.greater_equal(a, 11.0 if eps(a) < 1e-10 else 2.0), e.greater(inside, 0.0))


def _below_peak(large: Tensor, a: Tensor, y: Tensor, off: Tensor) -> Tensor:
    """a ln(y / a) − (y − a), `off` being y − a to its last digit; 0 where not `large` (Loader: Fast and accurate computation of
    binomial probabilities, 2000)."""
    a, y, off = e.where(large, a, 1.0), e.where(large, y, 1.0), e.where(large, off, 0.0)
    u = off / a
    far = e.less(u, -0.5)
    return a * e.where(far, e.log(e.where(far, y, a) / a) - u, log1p_less(e.where(far, 0.0, u)))


def _gamma_log_prob(a: Tensor, x: Tensor, y: Tensor, off: Tensor, small: Tensor) -> Tensor:
    """ln(y^a e^{−y} / (x Γ(a))), `off` being y − a; `small` is what it is of small a, and of x = 0."""
    large = _is_large(a, x)
    peak = -gamma_rest(e.where(large, a, 1.0)) - e.log(e.where(large, x, 1.0))
    return e.where(large, peak + _below_peak(large, a, y, off), small)


class Exponential(Distribution):
    """p(x) = rate · e^{−rate x}, x ≥ 0.

    >>> import anynet as an
    >>> an.distributions.Exponential(2.0).mean
    Tensor(0.5)
    """

    arg_constraints: ClassVar[Constraints] = {"rate": constraints.positive}
    has_rsample = True

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        [self.rate] = broadcast("Exponential", rate=rate)
        super().__init__(self.rate.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.nonnegative

    @property
    def mean(self) -> Tensor:
        return 1.0 / self.rate

    @property
    def mode(self) -> Tensor:
        return zeros_like(self.rate)

    @property
    def variance(self) -> Tensor:
        return 1.0 / self.rate**2

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        return (
            -e.log1p(-e.minimum(self._uniform(self._shape(sample_shape), generator), 1 - eps(self.rate) / 2))
            / self.rate
        )

    def log_prob(self, value: ArrayLike) -> Tensor:
        x, good = self._inside(value)
        return outside(good, e.log(self.rate) - self.rate * x)

    def cdf(self, value: ArrayLike) -> Tensor:
        return -e.expm1(-self.rate * not_below(self._value(value), 0.0))

    def icdf(self, value: ArrayLike) -> Tensor:
        return -_log_of_rest(probability(self, value)) / self.rate

    def entropy(self) -> Tensor:
        return 1.0 - e.log(self.rate)


class Gamma(Distribution):
    """p(x) = rate^α x^{α−1} e^{−rate x} / Γ(α), x > 0, α the concentration.

    >>> import anynet as an
    >>> an.distributions.Gamma(2.0, 1.0).cdf(1.5)
    Tensor(0.442174)
    """

    arg_constraints: ClassVar[Constraints] = {
        "concentration": constraints.positive,
        "rate": constraints.positive,
    }
    has_rsample = True
    _within = 1.0

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = broadcast(type(self).__name__, concentration=concentration, rate=rate)
        super().__init__(self.concentration.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.nonnegative

    @property
    def mean(self) -> Tensor:
        return self.concentration / self.rate

    @property
    def mode(self) -> Tensor:
        return e.maximum(self.concentration - 1.0, 0.0) / self.rate

    @property
    def variance(self) -> Tensor:
        return self.concentration / self.rate**2

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        a = self.concentration
        drawn = gamma(a, self._shape(sample_shape), dtype=a.dtype, device=a.device, generator=generator)
        return sampled_gamma(a, drawn) / self.rate

    def log_prob(self, value: ArrayLike) -> Tensor:
        (x, good), a, rate = self._inside(value), self.concentration, self.rate
        small = a * e.log(rate) + _xlogy(a - 1.0, x) - rate * x - gammaln(a)
        return outside(good, _gamma_log_prob(a, x, rate * x, multiply_add(rate, x, -a), small))

    def cdf(self, value: ArrayLike) -> Tensor:
        return gammainc(self.concentration, self.rate * not_below(self._value(value), 0.0))

    def entropy(self) -> Tensor:
        a = self.concentration
        return gamma_rest(a) + e.log(a / self.rate) + (1.0 - a) * gamma_rest(a, n=1)


class Chi2(Gamma):
    """Of the sum of `df` squared standard normal variables: Gamma(df / 2, ½)."""

    arg_constraints: ClassVar[Constraints] = {"df": constraints.positive}
    _parameters = Gamma._parameters  # df is computed from them

    def __init__(self, df: Any, validate_args: bool | None = None) -> None:
        [df] = parameters("Chi2", df=df)
        if validate_args or (validate_args is None and self._default_validation):
            constraints.require("Chi2", "df", constraints.positive, df)
        super().__init__(0.5 * df, full_like(df, 0.5), validate_args)

    @property
    def df(self) -> Tensor:
        """Degrees of freedom."""
        return 2.0 * self.concentration


class InverseGamma(Distribution):
    """p(x) = rate^α x^{−α−1} e^{−rate / x} / Γ(α), x > 0: of 1 / x, x ~ Gamma(α, rate).

    The mean is inf for α ≤ 1, the variance for α ≤ 2.
    """

    arg_constraints: ClassVar[Constraints] = {
        "concentration": constraints.positive,
        "rate": constraints.positive,
    }
    has_rsample = True
    _within = 1.0

    def __init__(self, concentration: Any, rate: Any, validate_args: bool | None = None) -> None:
        self.concentration, self.rate = broadcast("InverseGamma", concentration=concentration, rate=rate)
        super().__init__(self.concentration.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.positive

    def _moment(self, least: float, value: Any) -> Tensor:
        a = self.concentration
        return e.where(e.greater(a, least), value(e.where(e.greater(a, least), a, least + 1.0)), math.inf)

    @property
    def mean(self) -> Tensor:
        return self._moment(1.0, lambda a: self.rate / (a - 1.0))

    @property
    def mode(self) -> Tensor:
        return self.rate / (self.concentration + 1.0)

    @property
    def variance(self) -> Tensor:
        return self._moment(2.0, lambda a: self.rate**2 / ((a - 1.0) ** 2 * (a - 2.0)))

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        a = self.concentration
        drawn = gamma(a, self._shape(sample_shape), dtype=a.dtype, device=a.device, generator=generator)
        return self.rate / sampled_gamma(a, drawn)

    def log_prob(self, value: ArrayLike) -> Tensor:
        (x, good), a, rate = self._inside(value), self.concentration, self.rate
        y = rate / x
        small = a * e.log(rate) - (a + 1.0) * e.log(x) - y - gammaln(a)
        return outside(good, _gamma_log_prob(a, x, y, y - a + multiply_add(-y, x, rate) / x, small))

    def cdf(self, value: ArrayLike) -> Tensor:
        x = self._value(value)
        some = e.greater(x, 0.0)
        return e.where(some, gammaincc(self.concentration, self.rate / e.where(some, x, 1.0)), 0.0)

    def entropy(self) -> Tensor:
        a = self.concentration
        return gamma_rest(a) + e.log(self.rate / a) - (1.0 + a) * gamma_rest(a, n=1)


class Weibull(Distribution):
    """p(x) = (k/λ) (x/λ)^{k−1} e^{−(x/λ)^k}, x > 0, λ the scale and k the concentration."""

    arg_constraints: ClassVar[Constraints] = {
        "scale": constraints.positive,
        "concentration": constraints.positive,
    }
    has_rsample = True
    _within = 1.0

    def __init__(self, scale: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.scale, self.concentration = broadcast("Weibull", scale=scale, concentration=concentration)
        super().__init__(self.scale.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.positive

    @property
    def mean(self) -> Tensor:
        return self.scale * e.exp(gammaln(1.0 + 1.0 / self.concentration))

    @property
    def mode(self) -> Tensor:
        k = self.concentration
        some = e.greater(k, 1.0)
        high = e.where(some, k, 2.0)
        return e.where(some, self.scale * ((high - 1.0) / high) ** (1.0 / high), 0.0)

    @property
    def variance(self) -> Tensor:
        k = self.concentration
        return self.scale**2 * (e.exp(gammaln(1.0 + 2.0 / k)) - e.exp(2.0 * gammaln(1.0 + 1.0 / k)))

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        u = e.minimum(self._uniform(self._shape(sample_shape), generator), 1 - eps(self.scale) / 2)
        return self.scale * (-e.log1p(-u)) ** (1.0 / self.concentration)

    def log_prob(self, value: ArrayLike) -> Tensor:
        k = self.concentration
        x, good = self._inside(value)
        z = e.log(x / self.scale)
        return outside(good, e.log(k / self.scale) + (k - 1.0) * z - e.exp(k * z))

    def cdf(self, value: ArrayLike) -> Tensor:
        return -e.expm1(-((not_below(self._value(value), 0.0) / self.scale) ** self.concentration))

    def icdf(self, value: ArrayLike) -> Tensor:
        return self.scale * (-_log_of_rest(probability(self, value))) ** (1.0 / self.concentration)

    def entropy(self) -> Tensor:
        k = self.concentration
        return EULER * (1.0 - 1.0 / k) + e.log(self.scale / k) + 1.0


class Pareto(Distribution):
    """p(x) = α scale^α / x^{α+1}, x ≥ scale. The mean is inf for α ≤ 1, the variance for α ≤ 2."""

    arg_constraints: ClassVar[Constraints] = {"scale": constraints.positive, "alpha": constraints.positive}
    has_rsample = True

    def __init__(self, scale: Any, alpha: Any, validate_args: bool | None = None) -> None:
        self.scale, self.alpha = broadcast("Pareto", scale=scale, alpha=alpha)
        super().__init__(self.scale.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.greater_than_eq(self.scale)

    @property
    def mean(self) -> Tensor:
        some = e.greater(self.alpha, 1.0)
        a = e.where(some, self.alpha, 2.0)
        return e.where(some, a * self.scale / (a - 1.0), math.inf)

    @property
    def mode(self) -> Tensor:
        return self.scale

    @property
    def variance(self) -> Tensor:
        some = e.greater(self.alpha, 2.0)
        a = e.where(some, self.alpha, 3.0)
        return e.where(some, self.scale**2 * a / ((a - 1.0) ** 2 * (a - 2.0)), math.inf)

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        return self.scale * self._uniform(self._shape(sample_shape), generator) ** (-1.0 / self.alpha)

    def _within(self) -> Tensor:
        return self.scale

    def log_prob(self, value: ArrayLike) -> Tensor:
        x, good = self._inside(value)
        return outside(
            good, e.log(self.alpha) + self.alpha * e.log(self.scale) - (self.alpha + 1.0) * e.log(x)
        )

    def cdf(self, value: ArrayLike) -> Tensor:
        return -e.expm1(-self.alpha * e.log(not_below(self._value(value), self.scale) / self.scale))

    def icdf(self, value: ArrayLike) -> Tensor:
        return self.scale * e.exp(-_log_of_rest(probability(self, value)) / self.alpha)

    def entropy(self) -> Tensor:
        return e.log(self.scale / self.alpha) + 1.0 + 1.0 / self.alpha


def _entropy(total: Tensor, a: Tensor) -> Tensor:
    """Of the Dirichlet distribution: by what is left of ln Γ and its derivative beside terms that cancel."""
    each = gamma_rest(a) + e.log(a / expand_dims(total, axis=-1)) - (a - 1.0) * gamma_rest(a, n=1)
    return sum(each, axis=-1) - gamma_rest(total) + (total - a.shape[-1]) * gamma_rest(total, n=1)


class Beta(Distribution):
    """p(x) = x^{α−1} (1 − x)^{β−1} / B(α, β), 0 ≤ x ≤ 1, α = concentration1, β = concentration0.

    >>> import anynet as an
    >>> an.distributions.Beta(2.0, 3.0).mean
    Tensor(0.4)
    """

    arg_constraints: ClassVar[Constraints] = {
        "concentration1": constraints.positive,
        "concentration0": constraints.positive,
    }
    has_rsample = True
    _within = 0.5

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool | None = None) -> None:
        self.concentration1, self.concentration0 = broadcast(
            "Beta", concentration1=concentration1, concentration0=concentration0
        )
        super().__init__(self.concentration1.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.unit_interval

    @property
    def mean(self) -> Tensor:
        return self.concentration1 / (self.concentration1 + self.concentration0)

    @property
    def mode(self) -> Tensor:
        """(α − 1) / (α + β − 2) for α, β > 1; the end that is denser, else nan."""
        a, b = self.concentration1, self.concentration0
        inner = e.logical_and(e.greater(a, 1.0), e.greater(b, 1.0))
        safe = e.where(inner, a + b - 2.0, 1.0)
        left = e.logical_and(e.less_equal(a, 1.0), e.greater(b, 1.0))
        right = e.logical_and(e.greater(a, 1.0), e.less_equal(b, 1.0))
        return e.where(
            inner, (a - 1.0) / safe, e.where(left, 0.0, e.where(right, 1.0, full_like(a, math.nan)))
        )

    @property
    def variance(self) -> Tensor:
        total = self.concentration1 + self.concentration0
        return self.concentration1 * self.concentration0 / (total**2 * (total + 1.0))

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        a, b = self.concentration1, self.concentration0
        shape = self._shape(sample_shape)
        options: Any = {"dtype": "float64", "device": a.device, "generator": generator}
        drawn = astype(expit(loggamma(a, shape, **options) - loggamma(b, shape, **options)), a.dtype)
        return sampled_beta(a, b, e.clip(drawn, tiny(a), 1.0 - 0.5 * eps(a)))

    def log_prob(self, value: ArrayLike) -> Tensor:
        x, good = self._inside(value)
        a, b = self.concentration1, self.concentration0
        total, rest = a + b, 1.0 - x
        lost = a - (total - (total - a)) + (b - (total - a))  # of the sum's digits
        off = multiply_add(total, x, -a) + lost * x
        large = _is_large(e.minimum(a, b), x * rest)
        peak = gamma_rest(total) - gamma_rest(a) - gamma_rest(b) - e.log(e.where(large, x * rest, 1.0))
        peak = peak + _below_peak(large, a, total * x, off) + _below_peak(large, b, total * rest, -off)
        small = _xlogy(a - 1.0, x) + _xlog1py(b - 1.0, -x) - betaln(a, b)
        return outside(good, e.where(large, peak, small))

    def cdf(self, value: ArrayLike) -> Tensor:
        x = not_below(self._value(value), 0.0)
        return betainc(self.concentration1, self.concentration0, e.where(e.greater(x, 1.0), 1.0, x))

    def entropy(self) -> Tensor:
        a, b = self.concentration1, self.concentration0
        return _entropy(a + b, stack([a, b], axis=-1))


def _above_one(x: Tensor) -> Tensor:
    """The sum of the last axis less 1, exactly: by the whole parts of two scales first, whose sums have no rounding."""
    scale, own, total = 2.0 ** round(-0.5 * math.log2(eps(x))), x.detach(), sum(x, axis=-1)
    exact: Tensor | float = -1.0
    for unit in (scale, scale * scale):
        whole = e.round(own * unit) / unit
        exact, own = exact + sum(whole, axis=-1), own - whole
    return total - total.detach() + (exact + sum(own, axis=-1))


class Dirichlet(Distribution):
    """p(x) = Π xᵢ^{αᵢ−1} · Γ(Σα) / Π Γ(αᵢ) on the simplex; α, the concentration, lies along the last axis.

    The gradient of a sample moves xᵢ along its marginal Beta(αᵢ, Σα − αᵢ) and scales the others, as PyTorch's.

    >>> import anynet as an
    >>> an.distributions.Dirichlet([1.0, 3.0]).mean
    Tensor([0.25, 0.75])
    """

    arg_constraints: ClassVar[Constraints] = {
        "concentration": constraints.independent(constraints.positive, 1)
    }
    has_rsample = True

    def __init__(self, concentration: Any, validate_args: bool | None = None) -> None:
        [self.concentration] = parameters("Dirichlet", concentration=concentration)
        if self.concentration.ndim < 1:
            msg = "Dirichlet: concentration must have at least one axis, got a number"
            raise ValueError(msg)
        shape = self.concentration.shape
        super().__init__(shape[:-1], shape[-1:], validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.simplex

    def _total(self) -> Tensor:
        return sum(self.concentration, axis=-1, keepdims=True)

    @property
    def mean(self) -> Tensor:
        return self.concentration / self._total()

    @property
    def mode(self) -> Tensor:
        """(α − 1) / Σ(α − 1) where all α > 1; else a corner where all are below 1, as PyTorch, and of others what is above."""
        above = e.maximum(self.concentration - 1.0, 0.0)
        total = sum(above, axis=-1, keepdims=True)
        flat = e.equal(total, 0.0)
        at = argmax(self.concentration, axis=-1, keepdims=True)
        corner = e.equal(arange(self.concentration.shape[-1], device=at.device), at)
        return e.where(flat, astype(corner, above.dtype), above / e.where(flat, 1.0, total))

    @property
    def variance(self) -> Tensor:
        total = self._total()
        return self.concentration * (total - self.concentration) / (total**2 * (total + 1.0))

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        a = self.concentration
        logs = loggamma(a, self._shape(sample_shape), dtype="float64", device=a.device, generator=generator)
        drawn = e.clip(astype(e.exp(log_softmax(logs, axis=-1)), a.dtype), tiny(a), 1.0 - 0.5 * eps(a))
        if a.shape[-1] == 1:
            return ones_like(drawn)
        return sampled_dirichlet(broadcast_to(a, drawn.shape), drawn)

    def log_prob(self, value: ArrayLike) -> Tensor:
        x, a = self._value(value), self.concentration
        total = self._total()
        large = _is_large(a, x)
        peak = _below_peak(large, a, total * x, multiply_add(total, x, -a)) - e.log(e.where(large, x, 1.0))
        small = _xlogy(a - 1.0, x) + a * e.log(total / a) + a - total * x
        total = total[..., 0]
        return (
            sum(e.where(large, peak, small) - gamma_rest(a), axis=-1)
            + gamma_rest(total)
            + total * _above_one(x)
        )

    def entropy(self) -> Tensor:
        return _entropy(self._total()[..., 0], self.concentration)
