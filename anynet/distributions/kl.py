"""The Kullback-Leibler divergence KL(p ‖ q) = E_p[ln p(x) − ln q(x)] of pairs of families that have it in closed form."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from anynet.distributions.categorical import Categorical, OneHotCategorical
from anynet.distributions.compound import Independent
from anynet.distributions.discrete import Bernoulli, Binomial, Geometric, Poisson
from anynet.distributions.distribution import EULER, HALF_LOG_2PI, Distribution, sum_last
from anynet.distributions.gamma import Beta, Dirichlet, Exponential, Gamma, Pareto, _below_peak
from anynet.distributions.location_scale import Cauchy, Gumbel, HalfNormal, Laplace, Normal, Uniform
from anynet.distributions.multivariate_normal import (
    LowRankMultivariateNormal,
    MultivariateNormal,
    mahalanobis,
)
from anynet.distributions.transformed import TransformedDistribution
from anynet.ops import elementwise as e
from anynet.ops import linalg
from anynet.ops.creation import zeros_like
from anynet.ops.manipulation import broadcast_to, stack
from anynet.ops.reductions import any as any_of
from anynet.ops.reductions import sum
from anynet.ops.shapes import broadcast_shapes
from anynet.ops.special import _xlogy, betaln, digamma, gamma_rest, gammaln, log_expit, multiply_add, ndtr
from anynet.tensor import Tensor

__all__ = ["kl_divergence", "register_kl"]

_RULES: dict[tuple[type, type], Callable[[Any, Any], Tensor]] = {}


def register_kl(
    type_p: type, type_q: type
) -> Callable[[Callable[[Any, Any], Tensor]], Callable[[Any, Any], Tensor]]:
    """Decorator: the function computes KL(p ‖ q) for these classes, and those derived from them that have no rule of their own.

    >>> import anynet as an
    >>> class Own(an.distributions.Normal): ...
    >>> @an.distributions.register_kl(Own, Own)
    ... def own(p, q):
    ...     return p.loc * 0.0 + 7.0
    >>> an.distributions.kl_divergence(Own(0.0, 1.0), Own(1.0, 1.0))
    Tensor(7.)
    """
    for kind in (type_p, type_q):
        if not (isinstance(kind, type) and issubclass(kind, Distribution)):
            msg = f"register_kl: the classes must be distributions, got {kind!r}"
            raise TypeError(msg)

    def define(rule: Callable[[Any, Any], Tensor]) -> Callable[[Any, Any], Tensor]:
        _RULES[type_p, type_q] = rule
        return rule

    return define


def kl_divergence(p: Distribution, q: Distribution) -> Tensor:
    """KL(p ‖ q), of the shape of the batch; the rule is that of the nearest classes.

    NotImplementedError for pairs without closed form (estimate E_p[p.log_prob(x) − q.log_prob(x)] then, from samples).

    >>> import anynet as an
    >>> d = an.distributions
    >>> d.kl_divergence(d.Normal(0.0, 1.0), d.Normal(1.0, 2.0))
    Tensor(0.443147)
    """
    for kind in type(p).__mro__:
        for other in type(q).__mro__:
            if (kind, other) in _RULES:
                return _RULES[kind, other](p, q)
    msg = f"kl_divergence: no rule for {type(p).__name__} and {type(q).__name__}; register_kl takes one"
    raise NotImplementedError(msg)


def _infinite(p: Any, q: Any) -> Any:
    """Where p has values that q has not."""
    shape = broadcast_shapes(p.batch_shape, q.batch_shape)
    return (
        broadcast_to(
            zeros_like(p._like) if not p._like.ndim else sum_last(0.0 * p._like, p._like.ndim), shape
        )
        + math.inf
    )


# ----- of one family -----


@register_kl(Normal, Normal)
def _normal(p: Any, q: Any) -> Any:
    ratio = (p.scale / q.scale) ** 2
    return 0.5 * (ratio + ((p.loc - q.loc) / q.scale) ** 2 - 1.0 - e.log(ratio))


@register_kl(HalfNormal, HalfNormal)
def _half_normal(p: Any, q: Any) -> Any:
    ratio = (p.scale / q.scale) ** 2
    return 0.5 * (ratio - 1.0 - e.log(ratio))


@register_kl(Laplace, Laplace)
def _laplace(p: Any, q: Any) -> Any:
    ratio, off = p.scale / q.scale, e.abs(p.loc - q.loc)
    return -e.log(ratio) + off / q.scale + ratio * e.exp(-off / p.scale) - 1.0


@register_kl(Cauchy, Cauchy)
def _cauchy(p: Any, q: Any) -> Any:
    return e.log(((p.scale + q.scale) ** 2 + (p.loc - q.loc) ** 2) / (4.0 * p.scale * q.scale))


@register_kl(Gumbel, Gumbel)
def _gumbel(p: Any, q: Any) -> Any:
    ratio, shift = p.scale / q.scale, (q.loc - p.loc) / q.scale
    return e.log(1.0 / ratio) + EULER * (ratio - 1.0) + e.exp(shift + gammaln(1.0 + ratio)) - 1.0 - shift


@register_kl(Uniform, Uniform)
def _uniform(p: Any, q: Any) -> Any:
    inside = e.logical_and(e.less_equal(q.low, p.low), e.less_equal(p.high, q.high))
    return e.where(inside, e.log((q.high - q.low) / (p.high - p.low)), math.inf)


@register_kl(Exponential, Exponential)
def _exponential(p: Any, q: Any) -> Any:
    ratio = q.rate / p.rate
    return -e.log(ratio) + ratio - 1.0


@register_kl(Gamma, Gamma)
def _gamma(p: Any, q: Any) -> Any:
    a, b, ratio = p.concentration, q.concentration, q.rate / p.rate
    far = _below_peak(e.greater(b, 0.0), b, a * ratio, multiply_add(a, ratio, -b))
    return (a - b) * gamma_rest(a, n=1) + gamma_rest(b) - gamma_rest(a) - far


@register_kl(Pareto, Pareto)
def _pareto(p: Any, q: Any) -> Any:
    ratio = q.alpha / p.alpha
    finite = q.alpha * e.log(p.scale / q.scale) - e.log(ratio) + ratio - 1.0
    return e.where(e.less(p.scale, q.scale), math.inf, finite)


@register_kl(Beta, Beta)
def _beta(p: Any, q: Any) -> Any:
    return _simplex(*(stack([d.concentration1, d.concentration0], axis=-1) for d in (p, q)))


@register_kl(Dirichlet, Dirichlet)
def _dirichlet(p: Any, q: Any) -> Any:
    return _simplex(p.concentration, q.concentration)


def _simplex(a: Tensor, b: Tensor) -> Tensor:
    """Of two Dirichlet distributions: what is left of ln Γ beside its large terms, and how far the means are apart."""
    a_sum, b_sum = (sum(x, axis=-1, keepdims=True) for x in (a, b))
    ratio = b_sum / a_sum
    far = _below_peak(e.greater(b, 0.0), b, a * ratio, multiply_add(a, ratio, -b))
    each = gamma_rest(b) - gamma_rest(a) + (a - b) * (gamma_rest(a, n=1) - gamma_rest(a_sum, n=1)) - far
    return sum(each, axis=-1) + (gamma_rest(a_sum) - gamma_rest(b_sum))[..., 0]


def _over(p: Any, q: Any) -> Any:
    """p ln(p / q): 0 where p is 0, inf where only q is."""
    none, gone = e.equal(p, 0.0), e.equal(q, 0.0)
    safe = e.logical_or(none, gone)
    x, y = e.where(safe, 1.0, p), e.where(safe, 1.0, q)
    return e.where(none, 0.0, e.where(gone, math.inf, x * (e.log(x) - e.log(y))))


@register_kl(Bernoulli, Bernoulli)
def _bernoulli(p: Any, q: Any) -> Any:
    if p._given == q._given == "logits":
        yes = p.probs * (log_expit(p.logits) - log_expit(q.logits))
        return yes + (1.0 - p.probs) * (log_expit(-p.logits) - log_expit(-q.logits))
    return _over(p.probs, q.probs) + _over(1.0 - p.probs, 1.0 - q.probs)


@register_kl(Binomial, Binomial)
def _binomial(p: Any, q: Any) -> Any:
    """For one count; inf where p can count higher."""
    if bool(any_of(e.less(p.total_count, q.total_count))):
        msg = (
            "kl_divergence: of binomial distributions with a smaller total_count in p there is no closed form"
        )
        raise NotImplementedError(msg)
    return e.where(e.greater(p.total_count, q.total_count), math.inf, p.total_count * _bernoulli(p, q))


@register_kl(Geometric, Geometric)
def _geometric(p: Any, q: Any) -> Any:
    return -p.entropy() - e.log1p(-q.probs) / p.probs - q.logits


@register_kl(Poisson, Poisson)
def _poisson(p: Any, q: Any) -> Any:
    return _over(p.rate, q.rate) - (p.rate - q.rate)


@register_kl(Categorical, Categorical)
def _categorical(p: Any, q: Any) -> Any:
    chance = p.probs
    terms = chance * (p.logits - q.logits)
    terms = e.where(e.equal(q.probs, 0.0), math.inf, terms)
    return sum(e.where(e.equal(chance, 0.0), 0.0, terms), axis=-1)


register_kl(OneHotCategorical, OneHotCategorical)(_categorical)


def _multivariate_normal(p: Any, q: Any) -> Any:
    root_p, root_q = p.scale_tril, q.scale_tril
    if p.event_shape != q.event_shape:
        msg = f"kl_divergence: the distributions must be of vectors of one length, got {p.event_shape} and {q.event_shape}"
        raise ValueError(msg)
    d = p.event_shape[0]
    batch = broadcast_shapes(p.batch_shape, q.batch_shape)
    ratio = linalg.solve(broadcast_to(root_q, (*batch, d, d)), broadcast_to(root_p, (*batch, d, d)))
    logs = sum(e.log(linalg.diagonal(root_q)), axis=-1) - sum(e.log(linalg.diagonal(root_p)), axis=-1)
    return logs + 0.5 * (sum(ratio**2, axis=(-2, -1)) + mahalanobis(root_q, q.loc - p.loc) - d)


register_kl(MultivariateNormal, MultivariateNormal)(_multivariate_normal)
register_kl(MultivariateNormal, LowRankMultivariateNormal)(_multivariate_normal)
register_kl(LowRankMultivariateNormal, MultivariateNormal)(_multivariate_normal)
register_kl(LowRankMultivariateNormal, LowRankMultivariateNormal)(_multivariate_normal)


@register_kl(Independent, Independent)
def _independent(p: Any, q: Any) -> Any:
    n = p.reinterpreted_batch_ndims
    if n != q.reinterpreted_batch_ndims:
        msg = "kl_divergence: Independent distributions must reinterpret as many axes"
        raise NotImplementedError(msg)
    return sum_last(kl_divergence(p.base_dist, q.base_dist), n)


@register_kl(TransformedDistribution, TransformedDistribution)
def _transformed(p: Any, q: Any) -> Any:
    if p.transforms != q.transforms or p.event_shape != q.event_shape:
        msg = "kl_divergence: transformed distributions must have the same transforms"
        raise NotImplementedError(msg)
    return kl_divergence(p.base_dist, q.base_dist)


# ----- of two families -----


@register_kl(Beta, Exponential)
def _beta_exponential(p: Any, q: Any) -> Any:
    return -p.entropy() - e.log(q.rate) + q.rate * p.mean


@register_kl(Beta, Gamma)
def _beta_gamma(p: Any, q: Any) -> Any:
    a, b = p.concentration1, p.concentration0
    log = digamma(a) - digamma(a + b)
    return (
        -p.entropy()
        + gammaln(q.concentration)
        - q.concentration * e.log(q.rate)
        - (q.concentration - 1.0) * log
        + q.rate * p.mean
    )


@register_kl(Beta, Normal)
def _beta_normal(p: Any, q: Any) -> Any:
    return -p.entropy() + _normal_cross(p.mean, p.variance, q)


def _normal_cross(mean: Any, variance: Any, q: Any) -> Tensor:
    """−E ln q(x), q normal."""
    return 0.5 * (variance + (mean - q.loc) ** 2) / q.scale**2 + e.log(q.scale) + HALF_LOG_2PI  # type: ignore[no-any-return]


@register_kl(Beta, Uniform)
def _beta_uniform(p: Any, q: Any) -> Any:
    inside = e.logical_and(e.less_equal(q.low, 0.0), e.greater_equal(q.high, 1.0))
    return e.where(inside, -p.entropy() + e.log(q.high - q.low), math.inf)


@register_kl(Bernoulli, Poisson)
def _bernoulli_poisson(p: Any, q: Any) -> Any:
    return -p.entropy() - (p.probs * e.log(q.rate) - q.rate)


@register_kl(Exponential, Gamma)
def _exponential_gamma(p: Any, q: Any) -> Any:
    ratio = q.rate / p.rate
    a = q.concentration
    return -a * e.log(ratio) + ratio + gammaln(a) + a * EULER - (1.0 + EULER)


@register_kl(Exponential, Gumbel)
def _exponential_gumbel(p: Any, q: Any) -> Any:
    scaled = p.rate * q.scale
    shift = q.loc / q.scale
    return e.log(scaled) - 1.0 - shift + 1.0 / scaled + e.exp(shift) * (scaled / (scaled + 1.0))


@register_kl(Exponential, Normal)
@register_kl(Gumbel, Normal)
@register_kl(Laplace, Normal)
@register_kl(Gamma, Normal)
@register_kl(Uniform, Normal)
def _moments_normal(p: Any, q: Any) -> Any:
    return -p.entropy() + _normal_cross(p.mean, p.variance, q)


@register_kl(Gamma, Exponential)
def _gamma_exponential(p: Any, q: Any) -> Any:
    return -p.entropy() - e.log(q.rate) + q.rate * p.mean


@register_kl(Gamma, Gumbel)
def _gamma_gumbel(p: Any, q: Any) -> Any:
    scaled, shift = p.rate * q.scale, q.loc / q.scale
    grown = e.exp(shift - p.concentration * e.log1p(1.0 / scaled))
    return -p.entropy() + e.log(q.scale) + p.mean / q.scale - shift + grown


@register_kl(Normal, Gumbel)
def _normal_gumbel(p: Any, q: Any) -> Any:
    mean, ratio = (p.loc - q.loc) / q.scale, p.scale / q.scale
    return -p.entropy() + e.log(q.scale) + mean + e.exp(-mean + 0.5 * ratio**2)


@register_kl(Normal, Laplace)
def _normal_laplace(p: Any, q: Any) -> Any:
    z = (p.loc - q.loc) / p.scale
    size = p.scale * (math.sqrt(2 / math.pi) * e.exp(-0.5 * z * z) + z * (2.0 * ndtr(z) - 1.0))
    return -p.entropy() + e.log(2.0 * q.scale) + size / q.scale


@register_kl(Pareto, Exponential)
def _pareto_exponential(p: Any, q: Any) -> Any:
    return -p.entropy() - e.log(q.rate) + q.rate * p.mean


@register_kl(Pareto, Gamma)
def _pareto_gamma(p: Any, q: Any) -> Any:
    log = e.log(p.scale) + 1.0 / p.alpha
    return (
        -p.entropy()
        + gammaln(q.concentration)
        - q.concentration * e.log(q.rate)
        + (1.0 - q.concentration) * log
        + q.rate * p.mean
    )


@register_kl(Pareto, Normal)
def _pareto_normal(p: Any, q: Any) -> Any:
    finite = e.greater(p.alpha, 2.0)
    cross = _normal_cross(e.where(finite, p.mean, 0.0), e.where(finite, p.variance, 1.0), q)
    return e.where(finite, -p.entropy() + cross, math.inf)


@register_kl(Uniform, Beta)
def _uniform_beta(p: Any, q: Any) -> Any:
    low, high = p.low, p.high
    width = high - low
    logs = (_xlogy(high, high) - _xlogy(low, low)) / width - 1.0
    rest = -(_xlogy(1.0 - high, 1.0 - high) - _xlogy(1.0 - low, 1.0 - low)) / width - 1.0
    inside = e.logical_and(e.greater_equal(low, 0.0), e.less_equal(high, 1.0))
    a, b = q.concentration1, q.concentration0
    return e.where(inside, -e.log(width) - (a - 1.0) * logs - (b - 1.0) * rest + betaln(a, b), math.inf)


@register_kl(Uniform, Exponential)
def _uniform_exponential(p: Any, q: Any) -> Any:
    finite = -p.entropy() - e.log(q.rate) + q.rate * p.mean
    return e.where(e.less(p.low, 0.0), math.inf, finite)


@register_kl(Uniform, Gamma)
def _uniform_gamma(p: Any, q: Any) -> Any:
    a, outside = q.concentration, e.less(p.low, 0.0)
    low = e.where(outside, 0.0, p.low)
    logs = (_xlogy(p.high, p.high) - _xlogy(low, low)) / (p.high - p.low) - 1.0
    finite = -p.entropy() + gammaln(a) - a * e.log(q.rate) + (1.0 - a) * logs + q.rate * p.mean
    return e.where(outside, math.inf, finite)


@register_kl(Uniform, Gumbel)
def _uniform_gumbel(p: Any, q: Any) -> Any:
    width = (p.high - p.low) / q.scale
    low, high = (p.low - q.loc) / q.scale, (p.high - q.loc) / q.scale
    return -p.entropy() + e.log(q.scale) + 0.5 * (low + high) - (e.exp(-high) - e.exp(-low)) / width


@register_kl(Uniform, Pareto)
def _uniform_pareto(p: Any, q: Any) -> Any:
    outside = e.less(p.low, q.scale)
    low, high = e.where(outside, 1.0, p.low), e.where(outside, 2.0, p.high)
    logs = (_xlogy(high, high) - _xlogy(low, low)) / (high - low) - 1.0
    finite = -p.entropy() - e.log(q.alpha) - q.alpha * e.log(q.scale) + (q.alpha + 1.0) * logs
    return e.where(outside, math.inf, finite)


for _kind, _other in (
    (Beta, Pareto), (Exponential, Beta), (Exponential, Pareto), (Exponential, Uniform), (Gamma, Beta), (Gamma, Pareto),
    (Gamma, Uniform), (Gumbel, Beta), (Gumbel, Exponential), (Gumbel, Gamma), (Gumbel, Pareto), (Gumbel, Uniform),
    (Laplace, Beta), (Laplace, Exponential), (Laplace, Gamma), (Laplace, Pareto), (Laplace, Uniform), (Normal, Beta),
    (Normal, Exponential), (Normal, Gamma), (Normal, Pareto), (Normal, Uniform), (Pareto, Beta), (Pareto, Uniform),
    (Poisson, Bernoulli), (Poisson, Binomial),
):  # fmt: skip
    register_kl(_kind, _other)(_infinite)
