"""Distributions of whole numbers: Bernoulli, binomial, geometric, Poisson, negative binomial.

`probs` and `logits` (log-odds) say the same; one of them is given.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

from anynet import random
from anynet.distributions import constraints
from anynet.distributions.constraints import Constraint
from anynet.distributions.distribution import (
    Constraints,
    Distribution,
    Shape,
    broadcast,
    eps,
    exactly_one,
    not_below,
    outside,
)
from anynet.distributions.location_scale import _log, _log_of_rest
from anynet.ops import elementwise as e
from anynet.ops.creation import arange, ones_like, zeros_like
from anynet.ops.incomplete import betainc, gammaincc
from anynet.ops.manipulation import astype, broadcast_to, reshape
from anynet.ops.reductions import max, sum
from anynet.ops.special import _xlog1py, _xlogy, expit, gammaln, log_expit, logit
from anynet.random import Generator
from anynet.tensor import Tensor, no_grad
from anynet.typing import ArrayLike

__all__ = ["Bernoulli", "Binomial", "Geometric", "NegativeBinomial", "Poisson"]


class _Chances(Distribution):
    """With a probability, given as such or by its log-odds."""

    _given: str

    def _set(self, probs: Any, logits: Any, **others: Any) -> list[Tensor]:
        """Broadcast the parameters; sets the one that is given."""
        where = type(self).__name__
        self._given = exactly_one(where, probs=probs, logits=logits)
        chance, *rest = broadcast(where, **{self._given: probs if logits is None else logits}, **others)
        vars(self)[f"_{self._given}"] = chance
        return rest

    def _check_given(self) -> None:
        if self._validate:
            own = self.arg_constraints[self._given]
            constraints.require(type(self).__name__, self._given, own, self._own)

    @property
    def _own(self) -> Tensor:
        return vars(self)[f"_{self._given}"]  # type: ignore[no-any-return]

    @property
    def probs(self) -> Tensor:
        """The probability."""
        return self._own if self._given == "probs" else expit(self._own)

    @property
    def logits(self) -> Tensor:
        """Its log-odds; of probabilities 0 and 1 those of the nearest number between, as PyTorch."""
        if self._given == "logits":
            return self._own
        small = eps(self._own)
        return logit(e.clip(self._own, small, 1.0 - small))

    def _logs(self) -> tuple[Tensor, Tensor]:
        """ln p and ln(1 − p), −∞ of what is impossible."""
        if self._given == "probs":
            return _log(self._own), _log_of_rest(self._own)
        return log_expit(self._own), log_expit(-self._own)

    def _times_logs(self, yes: Tensor, no: Tensor) -> Tensor:
        """yes · ln p + no · ln(1 − p), where nothing of what is impossible adds 0."""
        if self._given == "probs":
            return _xlogy(yes, self._own) + _xlog1py(no, -self._own)
        p, q = self._logs()
        return yes * p + no * q


class Bernoulli(_Chances):
    """P(1) = p, P(0) = 1 − p.

    >>> import anynet as an
    >>> an.distributions.Bernoulli(probs=[0.25, 0.5]).log_prob([1.0, 1.0]).tolist()
    [-1.38629..., -0.69314...]
    """

    arg_constraints: ClassVar[Constraints] = {"probs": constraints.unit_interval, "logits": constraints.real}
    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self._set(probs, logits)
        super().__init__(self._own.shape, (), validate_args)
        self._check_given()

    @property
    def support(self) -> Constraint:
        return constraints.boolean

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        """1 or 0, nan for p = ½."""
        p = self.probs
        return e.where(e.equal(p, 0.5), math.nan, astype(e.greater(p, 0.5), p.dtype))

    @property
    def variance(self) -> Tensor:
        return self.probs * (1.0 - self.probs)

    def sample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        with no_grad():
            yes = random.bernoulli(self.probs, self._shape(sample_shape), generator=generator)
            return astype(yes, self._own.dtype)

    def log_prob(self, value: ArrayLike) -> Tensor:
        x, good = self._inside(value)
        return outside(good, self._times_logs(x, 1.0 - x))

    def cdf(self, value: ArrayLike) -> Tensor:
        x = self._value(value)
        return e.where(e.less(x, 0.0), 0.0, e.where(e.less(x, 1.0), 1.0 - self.probs, 1.0))

    def entropy(self) -> Tensor:
        p = self.probs
        return -self._times_logs(p, 1.0 - p)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return _count_up(self, 2, expand)


def _count_up(distribution: Distribution, count: int, expand: bool) -> Tensor:
    """0 … count − 1 along a new first axis."""
    like, n = distribution._like, len(distribution.batch_shape)
    values = reshape(arange(count, dtype=like.dtype, device=like.device), (count, *(1,) * n))
    return broadcast_to(values, (count, *distribution.batch_shape)) if expand else values


class Binomial(_Chances):
    """P(k) = C(n, k) pᵏ (1 − p)ⁿ⁻ᵏ, n the `total_count`."""

    arg_constraints: ClassVar[Constraints] = {
        "probs": constraints.unit_interval, "logits": constraints.real, "total_count": constraints.nonnegative_integer,
    }  # fmt: skip
    has_enumerate_support = True

    def __init__(
        self, total_count: Any = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        [self.total_count] = self._set(probs, logits, total_count=total_count)
        super().__init__(self._own.shape, (), validate_args)
        self._check_given()

    @property
    def support(self) -> Constraint:
        return constraints.integer_interval(0, self.total_count)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def mode(self) -> Tensor:
        return e.minimum(e.floor((self.total_count + 1.0) * self.probs), self.total_count)

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1.0 - self.probs)

    def sample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        with no_grad():
            return random.binomial(
                self.total_count, self.probs, self._shape(sample_shape), generator=generator
            )

    def log_prob(self, value: ArrayLike) -> Tensor:
        (k, good), n = self._inside(value), self.total_count
        ways = gammaln(n + 1.0) - gammaln(k + 1.0) - gammaln(n - k + 1.0)
        return outside(good, ways + self._times_logs(k, n - k))

    def cdf(self, value: ArrayLike) -> Tensor:
        """I_{1−p}(n − k, k + 1)."""
        (k, none), n = _counted(self._value(value)), self.total_count
        below = e.less(k, n)
        p = betainc(e.where(below, n - k, 1.0), k + 1.0, 1.0 - self.probs)
        return e.where(none, 0.0, e.where(below, p, 1.0))

    def entropy(self) -> Tensor:
        """The sum over 0 … n; `total_count` is one for the whole batch."""
        n = _common_count(self, "entropy")
        logs = self.log_prob(_count_up(self, n + 1, True))
        return -sum(_p_log_p(logs), axis=0)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        return _count_up(self, 1 + _common_count(self, "enumerate_support"), expand)


def _counted(x: Tensor) -> tuple[Tensor, Tensor]:
    """For a distribution function: the whole number ⌊x⌋, 0 for what is below, and where it is below."""
    return e.floor(not_below(x, 0.0)), e.less(x, 0.0)


def _p_log_p(logs: Tensor) -> Tensor:
    none = e.equal(logs, -math.inf)
    logs = e.where(none, 0.0, logs)
    return e.where(none, 0.0, e.exp(logs) * logs)


def _common_count(distribution: Any, what: str) -> int:
    n = distribution.total_count
    least, most = (float(-max(-n)), float(max(n))) if n.size else (0.0, 0.0)
    if least != most:
        msg = f"{type(distribution).__name__}.{what}: total_count must be the same for the whole batch, got {least:g} to {most:g}"
        raise NotImplementedError(msg)
    return int(most)


class Geometric(_Chances):
    """P(k) = p (1 − p)ᵏ, k = 0, 1, …: failures before the first success."""

    arg_constraints: ClassVar[Constraints] = {
        "probs": constraints._Interval("in (0, 1]", 0.0, 1.0, open_low=True), "logits": constraints.real,
    }  # fmt: skip

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        self._set(probs, logits)
        super().__init__(self._own.shape, (), validate_args)
        self._check_given()

    @property
    def support(self) -> Constraint:
        return constraints.nonnegative_integer

    @property
    def mean(self) -> Tensor:
        return 1.0 / self.probs - 1.0

    @property
    def mode(self) -> Tensor:
        return zeros_like(self.probs)

    @property
    def variance(self) -> Tensor:
        return (1.0 / self.probs - 1.0) / self.probs

    def sample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        with no_grad():
            u = self._uniform(self._shape(sample_shape), generator)
            never = e.equal(self.probs, 1.0)
            return e.where(never, 0.0, e.floor(e.log(u) / e.log1p(-e.where(never, 0.5, self.probs))))

    def log_prob(self, value: ArrayLike) -> Tensor:
        k, good = self._inside(value)
        return outside(good, self._times_logs(ones_like(k), k))

    def cdf(self, value: ArrayLike) -> Tensor:
        k, none = _counted(self._value(value))
        sure = e.equal(self.probs, 1.0)
        some = -e.expm1((k + 1.0) * e.log1p(-e.where(sure, 0.5, self.probs)))
        return e.where(none, 0.0, e.where(sure, 1.0, some))

    def entropy(self) -> Tensor:
        p = self.probs
        return -self._times_logs(ones_like(p), (1.0 - p) / p)


class Poisson(Distribution):
    """P(k) = rateᵏ e^{−rate} / k!.

    >>> import anynet as an
    >>> an.distributions.Poisson(3.0).log_prob(2.0)
    Tensor(-1.495922)
    """

    arg_constraints: ClassVar[Constraints] = {"rate": constraints.nonnegative}

    def __init__(self, rate: Any, validate_args: bool | None = None) -> None:
        [self.rate] = broadcast("Poisson", rate=rate)
        super().__init__(self.rate.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.nonnegative_integer

    @property
    def mean(self) -> Tensor:
        return self.rate

    @property
    def mode(self) -> Tensor:
        return e.floor(self.rate)

    @property
    def variance(self) -> Tensor:
        return self.rate

    def sample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        with no_grad():
            return random.poisson(self.rate, self._shape(sample_shape), generator=generator)

    def log_prob(self, value: ArrayLike) -> Tensor:
        k, good = self._inside(value)
        return outside(good, _xlogy(k, self.rate) - self.rate - gammaln(k + 1.0))

    def cdf(self, value: ArrayLike) -> Tensor:
        """Q(k + 1, rate)."""
        k, none = _counted(self._value(value))
        return e.where(none, 0.0, gammaincc(k + 1.0, self.rate))


class NegativeBinomial(_Chances):
    """P(k) = C(k + r − 1, k) (1 − p)ʳ pᵏ: successes of probability p before `total_count` = r failures; r > 0 need not be whole."""

    arg_constraints: ClassVar[Constraints] = {
        "probs": constraints.half_open_interval(0.0, 1.0), "logits": constraints.real,
        "total_count": constraints.positive,
    }  # fmt: skip

    def __init__(
        self, total_count: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        [self.total_count] = self._set(probs, logits, total_count=total_count)
        super().__init__(self._own.shape, (), validate_args)
        self._check_given()

    @property
    def support(self) -> Constraint:
        return constraints.nonnegative_integer

    @property
    def mean(self) -> Tensor:
        return (
            self.total_count * e.exp(self.logits)
            if self._given == "logits"
            else self.total_count * self.probs / (1.0 - self.probs)
        )

    @property
    def mode(self) -> Tensor:
        return e.maximum(e.floor((self.total_count - 1.0) * self.probs / (1.0 - self.probs)), 0.0)

    @property
    def variance(self) -> Tensor:
        return self.mean / (1.0 - self.probs)

    def sample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        with no_grad():
            shape = self._shape(sample_shape)
            rate = random.gamma(self.total_count, shape, generator=generator) * e.exp(self.logits)
            return random.poisson(rate, shape, generator=generator)

    def log_prob(self, value: ArrayLike) -> Tensor:
        (k, good), r = self._inside(value), self.total_count
        ways = gammaln(r + k) - gammaln(k + 1.0) - gammaln(r)
        return outside(good, ways + self._times_logs(k, r))

    def cdf(self, value: ArrayLike) -> Tensor:
        """I_{1−p}(r, k + 1)."""
        k, none = _counted(self._value(value))
        return e.where(none, 0.0, betainc(self.total_count, k + 1.0, 1.0 - self.probs))
