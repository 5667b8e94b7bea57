"""Bernoulli and categorical distributions with values between their classes, whose samples are differentiable (Maddison et al. 2017;
Jang et al. 2017)."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from anynet.distributions import constraints
from anynet.distributions.categorical import _Classes
from anynet.distributions.constraints import Constraint
from anynet.distributions.discrete import _Chances
from anynet.distributions.distribution import Axes, Constraints, Shape, eps, parameters, sum_last
from anynet.distributions.transformed import TransformedDistribution
from anynet.distributions.transforms import ExpTransform, SigmoidTransform
from anynet.ops import elementwise as e
from anynet.ops.manipulation import reshape
from anynet.ops.softmax import log_softmax
from anynet.ops.special import log_expit, logit
from anynet.random import Generator
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["RelaxedBernoulli", "RelaxedOneHotCategorical"]


class _LogOdds(_Chances):
    """The log-odds of `RelaxedBernoulli`: (logit p + logit u) / temperature, u uniform."""

    arg_constraints: ClassVar[Constraints] = {
        "temperature": constraints.positive, "probs": constraints.unit_interval, "logits": constraints.real,
    }  # fmt: skip
    has_rsample = True

    def __init__(self, temperature: Any, probs: Any, logits: Any, validate_args: bool | None) -> None:
        [self.temperature] = self._set(probs, logits, temperature=temperature)
        super().__init__(self._own.shape, (), validate_args)
        self._check_given()

    @property
    def support(self) -> Constraint:
        return constraints.real

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        u = self._uniform(self._shape(sample_shape), generator)
        return (self.logits + logit(u)) / self.temperature

    def log_prob(self, value: ArrayLike) -> Tensor:
        d = self.logits - self._value(value) * self.temperature
        return e.log(self.temperature) + d + 2.0 * log_expit(-d)


class _Relaxed(TransformedDistribution):
    """What both have of the distribution that is transformed."""

    _parameters: ClassVar[Axes] = {}  # those of the base
    base_dist: Any

    @property
    def temperature(self) -> Tensor:
        """How far from the classes values lie."""
        return self.base_dist.temperature  # type: ignore[no-any-return]

    @property
    def probs(self) -> Tensor:
        """The probabilities of the classes, of RelaxedBernoulli that of values above ½."""
        return self.base_dist.probs  # type: ignore[no-any-return]

    @property
    def logits(self) -> Tensor:
        """Their logarithms, of RelaxedBernoulli its log-odds."""
        return self.base_dist.logits  # type: ignore[no-any-return]


class RelaxedBernoulli(_Relaxed):
    """Values in (0, 1), near 0 and 1 for a small `temperature`; above ½ with probability p.

    p(x) = t q / (x (1 − x) (q + 1)²), q = p / (1 − p) · ((1 − x) / x)ᵗ.

    >>> import anynet as an
    >>> p = an.distributions.RelaxedBernoulli(0.5, probs=an.asarray([0.25, 0.5]))
    >>> p.log_prob([0.5, 0.5]).tolist()
    [-0.98082..., -0.69314...]
    """

    arg_constraints: ClassVar[Constraints] = _LogOdds.arg_constraints

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        base = _LogOdds(temperature, probs, logits, validate_args)
        super().__init__(base, SigmoidTransform(), validate_args)


class _Logarithms(_Classes):
    """The logarithms of `RelaxedOneHotCategorical`: log_softmax((ln p + g) / temperature), g of Gumbel's distribution."""

    arg_constraints: ClassVar[Constraints] = {
        "temperature": constraints.positive, "probs": constraints.simplex, "logits": constraints.real_vector,
    }  # fmt: skip
    _parameters: ClassVar[Axes] = {"_probs": 1, "_logits": 1}
    has_rsample = True

    def __init__(self, temperature: Any, probs: Any, logits: Any, validate_args: bool | None) -> None:
        own = self._set(probs, logits, validate_args)
        where = "RelaxedOneHotCategorical"
        [given, _] = parameters(where, temperature=temperature, parameter=own)
        if math.prod(given.shape) != 1:
            msg = f"{where}: temperature must be one number, got shape {tuple(given.shape)}"
            raise ValueError(msg)
        self.temperature = reshape(given, ())
        super().__init__(own.shape[:-1], own.shape[-1:], validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.real_vector

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        u = e.minimum(self._uniform(self._shape(sample_shape), generator), 1.0 - eps(self._own) / 2)
        return log_softmax((self.logits - e.log(-e.log(u))) / self.temperature, axis=-1)

    def log_prob(self, value: ArrayLike) -> Tensor:
        k = self._own.shape[-1]
        scores = log_softmax(self.logits - self._value(value) * self.temperature, axis=-1)
        return sum_last(scores, 1) + math.lgamma(k) + (k - 1) * e.log(self.temperature)


class RelaxedOneHotCategorical(_Relaxed):
    """Points of the simplex, near its corners for a small `temperature`; the largest number is the k-th with probability p_k.

    p(x) = (K − 1)! tᴷ⁻¹ (Σ_k p_k x_k⁻ᵗ)⁻ᴷ Π_k p_k x_k⁻ᵗ⁻¹.

    >>> import anynet as an
    >>> p = an.distributions.RelaxedOneHotCategorical(0.5, probs=[0.25, 0.75])
    >>> p.log_prob([0.5, 0.5])
    Tensor(-0.980829)
    """

    arg_constraints: ClassVar[Constraints] = _Logarithms.arg_constraints

    def __init__(
        self, temperature: Any, probs: Any = None, logits: Any = None, validate_args: bool | None = None
    ) -> None:
        base = _Logarithms(temperature, probs, logits, validate_args)
        super().__init__(base, ExpTransform(), validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.simplex
