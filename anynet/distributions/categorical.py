"""Distributions over classes: categorical, one-hot, multinomial."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from anynet import dtypes, random
from anynet.distributions import constraints
from anynet.distributions.constraints import Constraint
from anynet.distributions.distribution import (
    Constraints,
    Distribution,
    Shape,
    eps,
    exactly_one,
    lowest,
    parameters,
)
from anynet.ops import elementwise as e
from anynet.ops.creation import arange, eye, full, zeros
from anynet.ops.indexing import gather_rows
from anynet.ops.manipulation import astype, broadcast_to, expand_dims, moveaxis, reshape
from anynet.ops.probability import log_probability
from anynet.ops.reductions import argmax, sum
from anynet.ops.shapes import as_shape, broadcast_shapes
from anynet.ops.softmax import logsumexp, softmax
from anynet.ops.special import _xlogy, gammaln
from anynet.random import Generator
from anynet.tensor import Tensor, no_grad, unwrap
from anynet.typing import ArrayLike

__all__ = ["Categorical", "Multinomial", "OneHotCategorical", "OneHotCategoricalStraightThrough"]


_PROBABILITIES = constraints.independent(constraints.nonnegative, 1)


class _Classes(Distribution):
    """Classes along the last axis of `probs`, which are divided by their sum, or of `logits`, of which the softmax is taken."""

    arg_constraints: ClassVar[Constraints] = {"probs": constraints.simplex, "logits": constraints.real_vector}
    _given: str

    def _set(self, probs: Any, logits: Any, validate: bool | None) -> Tensor:
        where = type(self).__name__
        self._given = exactly_one(where, probs=probs, logits=logits)
        [own] = parameters(where, **{self._given: probs if logits is None else logits})
        if own.ndim < 1 or not own.shape[-1]:
            msg = (
                f"{where}: {self._given} must have classes along its last axis, got shape {tuple(own.shape)}"
            )
            raise ValueError(msg)
        validated = self._default_validation if validate is None else validate
        if validated:
            if self._given == "probs":
                constraints.require(where, "probs", _PROBABILITIES, own)
            else:
                constraints.require(where, "logits", constraints.real_vector, own)
        if self._given == "probs":
            total = sum(own, axis=-1, keepdims=True)
            if validated:
                constraints.require(where, "the sum of probs", constraints.positive, total)
            own = e.divide(own, total)
        else:
            own = e.subtract(own, logsumexp(own, axis=-1, keepdims=True))
        vars(self)[f"_{self._given}"] = own
        return own

    @property
    def _own(self) -> Tensor:
        return vars(self)[f"_{self._given}"]  # type: ignore[no-any-return]

    @property
    def probs(self) -> Tensor:
        """The probabilities, which sum to 1."""
        return self._own if self._given == "probs" else softmax(self._own, axis=-1)

    @property
    def logits(self) -> Tensor:
        """The logarithms of the probabilities; of 0 that of the least number above (ε of the dtype), as PyTorch."""
        if self._given == "logits":
            return self._own
        small = eps(self._own)
        return e.log(e.clip(self._own, small, 1.0 - small))

    def _logs(self) -> Tensor:
        """ln p, −∞ of what is impossible."""
        return self._own if self._given == "logits" else log_probability(self._own)

    def _draw(self, shape: tuple[int, ...], generator: Generator | None) -> Tensor:
        """Class indices."""
        count = math.prod(shape) // (math.prod(self.batch_shape) or 1)
        if 0 in shape:
            return zeros(shape, dtype=dtypes.int64, device=self._own.device)
        rows = random.multinomial(self.probs, count, replacement=True, generator=generator)
        return reshape(rows if count == 1 else moveaxis(rows, -1, 0), shape)

    def _entropy(self) -> Tensor:
        return -sum(
            _weighted(self._own) if self._given == "logits" else _xlogy(self._own, self._own), axis=-1
        )


def _weighted(logs: Tensor) -> Tensor:
    """p ln p from ln p, 0 of what is impossible."""
    return e.exp(logs) * e.maximum(logs, lowest(logs))


class Categorical(_Classes):
    """P(k) = p_k, k = 0 … K − 1; samples are class indices (int64).

    >>> import anynet as an
    >>> an.distributions.Categorical(probs=[0.2, 0.8]).log_prob([0, 1]).tolist()
    [-1.60943..., -0.22314...]
    """

    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        own = self._set(probs, logits, validate_args)
        super().__init__(own.shape[:-1], (), validate_args)

    @property
    def param_shape(self) -> tuple[int, ...]:
        """The shape of `probs`."""
        return self._own.shape

    @property
    def support(self) -> Constraint:
        return constraints.integer_interval(0, self._own.shape[-1] - 1)

    @property
    def mean(self) -> Tensor:
        """Class indices have no mean: nan, as PyTorch."""
        return full(self.batch_shape, math.nan, dtype=self._own.dtype, device=self._own.device)

    @property
    def variance(self) -> Tensor:
        """nan, as the mean."""
        return self.mean

    @property
    def mode(self) -> Tensor:
        return argmax(self._own, axis=-1)

    def sample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        with no_grad():
            return self._draw(self._shape(sample_shape), generator)

    def log_prob(self, value: ArrayLike) -> Tensor:
        index = self._checked(value)
        if index.dtype is not dtypes.int64:
            index = astype(index, dtypes.int64)
        own, classes = self._own, self._own.shape[-1]
        shape = broadcast_shapes(index.shape, self.batch_shape)
        if shape != tuple(index.shape):
            index = broadcast_to(index, shape)
        count = math.prod(self.batch_shape)
        if count != 1:  # the rows one after the other
            rows = reshape(arange(0, count * classes, classes, device=own.device), self.batch_shape)
            index = e.add(index, rows)
        index = unwrap(reshape(index, (-1,)))
        picked = reshape(gather_rows(reshape(own, (-1,)), index=index), shape)
        return picked if self._given == "logits" else log_probability(picked)

    def entropy(self) -> Tensor:
        return self._entropy()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        k, n = self._own.shape[-1], len(self.batch_shape)
        values = reshape(arange(k, device=self._own.device), (k, *(1,) * n))
        return broadcast_to(values, (k, *self.batch_shape)) if expand else values


class OneHotCategorical(_Classes):
    """`Categorical` whose values are rows of one 1 and else 0."""

    has_enumerate_support = True

    def __init__(self, probs: Any = None, logits: Any = None, validate_args: bool | None = None) -> None:
        own = self._set(probs, logits, validate_args)
        super().__init__(own.shape[:-1], own.shape[-1:], validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.one_hot

    @property
    def mean(self) -> Tensor:
        return self.probs

    @property
    def mode(self) -> Tensor:
        return _one_hot(argmax(self._own, axis=-1), self._own)

    @property
    def variance(self) -> Tensor:
        return self.probs * (1.0 - self.probs)

    def sample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        with no_grad():
            shape = self._shape(sample_shape)
            return _one_hot(self._draw(shape[:-1], generator), self._own)

    def log_prob(self, value: ArrayLike) -> Tensor:
        x = self._value(value)
        none = e.equal(x, 0.0)
        return sum(e.where(none, 0.0, x * e.where(none, 0.0, self._logs())), axis=-1)

    def entropy(self) -> Tensor:
        return self._entropy()

    def enumerate_support(self, expand: bool = True) -> Tensor:
        k, n = self._own.shape[-1], len(self.batch_shape)
        values = reshape(eye(k, dtype=self._own.dtype, device=self._own.device), (k, *(1,) * n, k))
        return broadcast_to(values, (k, *self.batch_shape, k)) if expand else values


class OneHotCategoricalStraightThrough(OneHotCategorical):
    """`OneHotCategorical` whose samples have the gradient of the probabilities (Bengio et al. 2013); it is biased."""

    has_rsample = True

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        return self.sample(sample_shape, generator=generator) + (self.probs - self.probs.detach())


def _one_hot(index: Tensor, like: Tensor) -> Tensor:
    k = like.shape[-1]
    return astype(e.equal(expand_dims(index, axis=-1), arange(k, device=like.device)), like.dtype)


class Multinomial(_Classes):
    """P(x) = n! Π p_kˣᵏ / x_k!: how often each class comes in n = `total_count` draws."""

    def __init__(
        self, total_count: int = 1, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        if isinstance(total_count, bool) or not isinstance(total_count, int) or total_count < 0:
            msg = f"Multinomial: total_count must be one integer ≥ 0, got {total_count!r}"
            raise ValueError(msg)
        self.total_count = total_count
        own = self._set(probs, logits, validate_args)
        super().__init__(own.shape[:-1], own.shape[-1:], validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.multinomial(self.total_count)

    @property
    def mean(self) -> Tensor:
        return self.total_count * self.probs

    @property
    def variance(self) -> Tensor:
        return self.total_count * self.probs * (1.0 - self.probs)

    def sample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        with no_grad():
            shape = (self.total_count, *as_shape(sample_shape), *self.batch_shape)
            return sum(_one_hot(self._draw(shape, generator), self._own), axis=0)

    def log_prob(self, value: ArrayLike) -> Tensor:
        x = self._value(value)
        logits = self._logs()
        each = e.where(e.equal(x, 0.0), 0.0, x * e.where(e.equal(x, 0.0), 0.0, logits))
        return gammaln(sum(x, axis=-1) + 1.0) - sum(gammaln(x + 1.0), axis=-1) + sum(each, axis=-1)

    def entropy(self) -> Tensor:
        """n H(p) − ln n! + Σ_k E ln x_k!, x_k binomial."""
        n, p = self.total_count, self.probs
        counts = reshape(arange(n + 1, dtype=p.dtype, device=p.device), (n + 1, *(1,) * p.ndim))
        ways = gammaln(counts * 0.0 + n + 1.0) - gammaln(counts + 1.0) - gammaln(n - counts + 1.0)
        logs = ways + _xlogy(counts + 0.0 * p, p) + _xlogy(n - counts + 0.0 * p, 1.0 - p)
        spread = sum(e.exp(logs) * gammaln(counts + 1.0), axis=(0, -1))
        return n * self._entropy() - math.lgamma(n + 1) + spread
