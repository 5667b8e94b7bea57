"""Distributions made of others: independent components as one value, and mixtures."""

from __future__ import annotations

from typing import ClassVar, Self

from anynet.distributions import constraints
from anynet.distributions.categorical import Categorical
from anynet.distributions.constraints import Constraint
from anynet.distributions.distribution import Constraints, Distribution, Shape, sum_last
from anynet.ops import elementwise as e
from anynet.ops.creation import arange, zeros_like
from anynet.ops.manipulation import astype, expand_dims, reshape
from anynet.ops.reductions import sum
from anynet.ops.shapes import as_shape, broadcast_shapes
from anynet.ops.softmax import logsumexp
from anynet.random import Generator
from anynet.tensor import Tensor, no_grad
from anynet.typing import ArrayLike

__all__ = ["Independent", "MixtureSameFamily"]


class Independent(Distribution):
    """The last `reinterpreted_batch_ndims` axes of a batch as one value: log p is the sum over them.

    >>> import anynet as an
    >>> an.distributions.Independent(an.distributions.Normal(an.zeros(3), 1.0), 1).log_prob(an.zeros(3))
    Tensor(-2.756815)
    """

    def __init__(
        self,
        base_distribution: Distribution,
        reinterpreted_batch_ndims: int,
        validate_args: bool | None = None,
    ) -> None:
        base, n = base_distribution, reinterpreted_batch_ndims
        if not 0 <= n <= len(base.batch_shape):
            msg = f"Independent: reinterpreted_batch_ndims must be in [0, {len(base.batch_shape)}], the axes of the batch, got {n}"
            raise ValueError(msg)
        self.base_dist, self.reinterpreted_batch_ndims = base, n
        cut = len(base.batch_shape) - n
        super().__init__(base.batch_shape[:cut], (*base.batch_shape[cut:], *base.event_shape), validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """That of the base."""
        return self.base_dist.has_rsample

    @property
    def has_enumerate_support(self) -> bool:  # type: ignore[override]
        """Only where no axis is reinterpreted."""
        return not self.reinterpreted_batch_ndims and self.base_dist.has_enumerate_support

    @property
    def _like(self) -> Tensor:
        return self.base_dist._like

    @property
    def support(self) -> Constraint:
        n = self.reinterpreted_batch_ndims
        return constraints.independent(self.base_dist.support, n) if n else self.base_dist.support

    @property
    def mean(self) -> Tensor:
        return self.base_dist.mean

    @property
    def mode(self) -> Tensor:
        return self.base_dist.mode

    @property
    def variance(self) -> Tensor:
        return self.base_dist.variance

    def sample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        return self.base_dist.sample(sample_shape, generator=generator)

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        return self.base_dist.rsample(sample_shape, generator=generator)

    def log_prob(self, value: ArrayLike) -> Tensor:
        return sum_last(self.base_dist.log_prob(value), self.reinterpreted_batch_ndims)

    def entropy(self) -> Tensor:
        return sum_last(self.base_dist.entropy(), self.reinterpreted_batch_ndims)

    def enumerate_support(self, expand: bool = True) -> Tensor:
        if self.reinterpreted_batch_ndims:
            raise self._lacks("enumerate_support")
        return self.base_dist.enumerate_support(expand)

    def expand(self, batch_shape: Shape) -> Self:
        own = self.event_shape[: self.reinterpreted_batch_ndims]
        return type(self)(
            self.base_dist.expand((*as_shape(batch_shape), *own)),
            self.reinterpreted_batch_ndims,
            self._validate,
        )

    def __repr__(self) -> str:
        return f"Independent({self.base_dist}, {self.reinterpreted_batch_ndims})"


class MixtureSameFamily(Distribution):
    """p(x) = Σ_k w_k p_k(x): `mixture_distribution` a Categorical of weights w, `component_distribution` a batch whose last axis is k.

    >>> import anynet as an
    >>> d = an.distributions
    >>> two = d.MixtureSameFamily(d.Categorical(probs=[0.5, 0.5]), d.Normal([-1.0, 1.0], 0.5))
    >>> two.mean, two.variance
    (Tensor(0.), Tensor(1.25))
    """

    arg_constraints: ClassVar[Constraints] = {}

    def __init__(
        self,
        mixture_distribution: Categorical,
        component_distribution: Distribution,
        validate_args: bool | None = None,
    ) -> None:
        mix, parts = mixture_distribution, component_distribution
        if not isinstance(mix, Categorical):
            msg = f"MixtureSameFamily: mixture_distribution must be a Categorical, got {type(mix).__name__}"
            raise TypeError(msg)
        if not isinstance(parts, Distribution):
            msg = f"MixtureSameFamily: component_distribution must be a Distribution, got {type(parts).__name__}"
            raise TypeError(msg)
        k = mix.param_shape[-1]
        if not parts.batch_shape or parts.batch_shape[-1] != k:
            msg = f"MixtureSameFamily: the components' batch_shape must end with {k}, the number of weights, got {parts.batch_shape}"
            raise ValueError(msg)
        batch = broadcast_shapes(mix.batch_shape, parts.batch_shape[:-1])
        self._mixture, self._components = mix.expand(batch), parts.expand((*batch, k))
        super().__init__(batch, parts.event_shape, validate_args)

    @property
    def mixture_distribution(self) -> Categorical:
        """The weights."""
        return self._mixture

    @property
    def component_distribution(self) -> Distribution:
        """The components, along the last axis of the batch."""
        return self._components

    @property
    def _like(self) -> Tensor:
        return self._components._like

    @property
    def support(self) -> Constraint:
        own = self._components.support
        bounds = [getattr(own, n, None) for n in ("lower_bound", "upper_bound")]
        return constraints.real if any(isinstance(b, Tensor) and b.ndim for b in bounds) else own

    def _mix(self, values: Tensor) -> Tensor:
        """The weighted sum over the components, whose axis stands before those of a value."""
        w = self._mixture.probs
        n = len(self.event_shape)
        return sum(reshape(w, (*w.shape, *(1,) * n)) * values, axis=-1 - n)

    @property
    def mean(self) -> Tensor:
        return self._mix(self._components.mean)

    @property
    def variance(self) -> Tensor:
        off = self._components.mean - expand_dims(self.mean, axis=-1 - len(self.event_shape))
        return self._mix(self._components.variance + off * off)

    def _padded(self, value: ArrayLike) -> Tensor:
        return expand_dims(self._value(value), axis=-1 - len(self.event_shape))

    def cdf(self, value: ArrayLike) -> Tensor:
        return sum(self._components.cdf(self._padded(value)) * self._mixture.probs, axis=-1)

    def log_prob(self, value: ArrayLike) -> Tensor:
        weights = self._mixture._logs()
        return logsumexp(self._components.log_prob(self._padded(value)) + weights, axis=-1)

    def sample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        with no_grad():
            index = self._mixture.sample(sample_shape, generator=generator)
            drawn = self._components.sample(sample_shape, generator=generator)
            k, n = self._mixture.param_shape[-1], len(self.event_shape)
            chosen = e.equal(expand_dims(index, axis=-1), arange(k, device=index.device))
            chosen = reshape(chosen, (*chosen.shape, *(1,) * n))
            return astype(sum(e.where(chosen, drawn, zeros_like(drawn)), axis=-1 - n), drawn.dtype)

    def expand(self, batch_shape: Shape) -> Self:
        shape = as_shape(batch_shape)
        k = self._mixture.param_shape[-1]
        return type(self)(self._mixture.expand(shape), self._components.expand((*shape, k)), self._validate)

    def __repr__(self) -> str:
        return f"MixtureSameFamily({self._mixture}, {self._components})"
