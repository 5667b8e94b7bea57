"""Distributions of functions of samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Self

from anynet.distributions import constraints
from anynet.distributions.compound import Independent
from anynet.distributions.constraints import Constraint
from anynet.distributions.distribution import (
    Axes,
    Constraints,
    Distribution,
    Shape,
    broadcast,
    outside,
    sum_last,
)
from anynet.distributions.location_scale import Normal
from anynet.distributions.transforms import ComposeTransform, ExpTransform, StickBreakingTransform, Transform
from anynet.ops import elementwise as e
from anynet.ops.creation import asarray
from anynet.ops.shapes import as_shape
from anynet.random import Generator
from anynet.tensor import Tensor, no_grad
from anynet.typing import ArrayLike

__all__ = ["LogNormal", "LogisticNormal", "TransformedDistribution"]


class TransformedDistribution(Distribution):
    """Of y = T(x), x from the base: ln p(y) = ln p_base(T⁻¹(y)) − ln |∂y/∂x|.

    The logistic distribution, for one, is that of ``loc + scale · logit(u)``, u uniform:

    >>> import anynet as an
    >>> d = an.distributions
    >>> base, inverse = d.Uniform(0.0, 1.0), d.SigmoidTransform().inv
    >>> d.TransformedDistribution(base, [inverse, d.AffineTransform(2.0, 0.5)]).log_prob(2.0)
    Tensor(-0.693147)
    """

    arg_constraints: ClassVar[Constraints] = {}

    def __init__(
        self,
        base_distribution: Distribution,
        transforms: Transform | Sequence[Transform],
        validate_args: bool | None = None,
    ) -> None:
        self.transforms = [transforms] if isinstance(transforms, Transform) else list(transforms)
        if not all(isinstance(t, Transform) for t in self.transforms):
            msg = f"TransformedDistribution: transforms must be a Transform or a list of them, got {transforms!r}"
            raise TypeError(msg)
        whole = ComposeTransform(self.transforms)
        before, after = whole.domain.event_dim, whole.codomain.event_dim
        base = base_distribution
        own = len(base.event_shape)
        more = before - own if self.transforms else 0
        if more > len(base.batch_shape):
            msg = (
                f"TransformedDistribution: the transforms take values of {before} axes, got a base with batch_shape "
                f"{base.batch_shape} and event_shape {base.event_shape}"
            )
            raise ValueError(msg)
        self.base_dist = Independent(base, more) if more > 0 else base
        shape = whole.forward_shape((*base.batch_shape, *base.event_shape))
        n = (after + max(own - before, 0)) if self.transforms else own
        cut = len(shape) - n
        lead = base.batch_shape[: len(base.batch_shape) - max(more, 0)]
        if shape[:cut] != lead:
            inner = (*shape[:cut], *self.base_dist.event_shape)
            self.base_dist = self.base_dist.expand(inner[: len(shape[:cut])])
        super().__init__(shape[:cut], shape[cut:], validate_args)

    @property
    def has_rsample(self) -> bool:  # type: ignore[override]
        """That of the base."""
        return self.base_dist.has_rsample

    @property
    def _like(self) -> Tensor:
        return self.base_dist._like

    @property
    def support(self) -> Constraint:
        if not self.transforms:
            return self.base_dist.support
        last = self.transforms[-1].codomain
        more = len(self.event_shape) - last.event_dim
        return constraints.independent(last, more) if more > 0 else last

    def _forward(self, x: Tensor) -> Tensor:
        for transform in self.transforms:
            x = transform(x)
        return x

    def sample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        with no_grad():
            return self._forward(self.base_dist.sample(sample_shape, generator=generator))

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        return self._forward(self.base_dist.rsample(sample_shape, generator=generator))

    def log_prob(self, value: ArrayLike) -> Tensor:
        y = self._value(value)
        axes, total = len(self.event_shape), None
        for transform in reversed(self.transforms):
            if not transform.bijective:
                msg = f"TransformedDistribution.log_prob: {transform!r} has no inverse"
                raise NotImplementedError(msg)
            x = transform.inv(y)
            axes += transform.domain.event_dim - transform.codomain.event_dim
            own = sum_last(transform.log_abs_det_jacobian(x, y), axes - transform.domain.event_dim)
            total = -own if total is None else total - own
            y = x
        inner = _unchecked(self.base_dist).log_prob(y)
        own = sum_last(inner, axes - len(self.base_dist.event_shape))
        return own if total is None else own + total

    def _flip(self, p: Tensor) -> Tensor:
        """p for an increasing function, 1 − p for a decreasing one."""
        sign: Any = 1
        for transform in self.transforms:
            sign = sign * transform.sign
        return p if isinstance(sign, int) and sign == 1 else sign * (p - 0.5) + 0.5

    def cdf(self, value: ArrayLike) -> Tensor:
        y = self._value(value)
        for transform in reversed(self.transforms):
            y = transform.inv(y)
        return self._flip(_unchecked(self.base_dist).cdf(y))

    def icdf(self, value: ArrayLike) -> Tensor:
        p = (
            value
            if isinstance(value, Tensor)
            else asarray(value, dtype=self._like.dtype, device=self._like.device)
        )
        return self._forward(self.base_dist.icdf(self._flip(p)))

    def expand(self, batch_shape: Shape) -> Self:
        shape = as_shape(batch_shape)
        new = self._copied()
        new.base_dist = self.base_dist.expand(shape)
        new._batch_shape = shape
        return new

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.base_dist}, {self.transforms})"


def _unchecked(distribution: Distribution) -> Distribution:
    """Without a check of values, which rounding may put at the edge of the support."""
    new = distribution._copied()
    new._validate = False
    if isinstance(new, Independent):
        new.base_dist = _unchecked(new.base_dist)
    return new


class LogNormal(TransformedDistribution):
    """Of eˣ, x ~ N(loc, scale²)."""

    arg_constraints: ClassVar[Constraints] = {"loc": constraints.real, "scale": constraints.positive}
    _parameters: ClassVar[Axes] = {}  # those of the base

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        loc, scale = broadcast("LogNormal", loc=loc, scale=scale)
        if self._default_validation if validate_args is None else validate_args:
            constraints.require("LogNormal", "loc", constraints.real, loc)
            constraints.require("LogNormal", "scale", constraints.positive, scale)
        super().__init__(Normal(loc, scale, False), ExpTransform(), validate_args)

    @property
    def loc(self) -> Tensor:
        """The mean of the logarithm."""
        return self.base_dist.loc  # type: ignore[attr-defined, no-any-return]

    @property
    def scale(self) -> Tensor:
        """The standard deviation of the logarithm."""
        return self.base_dist.scale  # type: ignore[attr-defined, no-any-return]

    _within = 1.0

    def log_prob(self, value: ArrayLike) -> Tensor:
        x, good = self._inside(value)
        return outside(good, super().log_prob(x))

    def cdf(self, value: ArrayLike) -> Tensor:
        x = self._value(value)
        some = e.greater(x, 0.0)
        return e.where(some, super().cdf(e.where(some, x, 1.0)), 0.0)

    @property
    def mean(self) -> Tensor:
        return e.exp(self.loc + 0.5 * self.scale**2)

    @property
    def mode(self) -> Tensor:
        return e.exp(self.loc - self.scale**2)

    @property
    def variance(self) -> Tensor:
        return e.expm1(self.scale**2) * e.exp(2.0 * self.loc + self.scale**2)

    def entropy(self) -> Tensor:
        return self.base_dist.entropy() + self.loc


class LogisticNormal(TransformedDistribution):
    """On the simplex: stick breaking of x ~ N(loc, scale²), K − 1 numbers along the last axis."""

    def __init__(self, loc: Any, scale: Any, validate_args: bool | None = None) -> None:
        base = Normal(loc, scale, validate_args)
        if not base.batch_shape:
            msg = "LogisticNormal: loc and scale must have numbers along their last axis, got a number"
            raise ValueError(msg)
        super().__init__(base, StickBreakingTransform(), validate_args)
