"""Maximum likelihood: estimates with their information and standard errors, and layers that end a network in a distribution.

θ̂ maximises ℓ(θ) = Σᵢ ln p(yᵢ | θ). Its covariance is I⁻¹, I the Fisher information: observed, −∂²ℓ/∂θ², or empirical,
Σᵢ gᵢ gᵢᵀ with gᵢ = ∂ ln p(yᵢ | θ)/∂θ (R. A. Fisher, "On the mathematical foundations of theoretical statistics", 1922).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anynet.autograd.pytree import flatten, unflatten
from anynet.autograd.transforms import grad, hessian, jacrev
from anynet.distributions import (
    Categorical,
    Distribution,
    Independent,
    Laplace,
    MixtureSameFamily,
    Normal,
    Poisson,
)
from anynet.methods.checks import check_count, check_number
from anynet.nn import init
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.ops import linalg
from anynet.ops.activations import softplus
from anynet.ops.creation import asarray, zeros
from anynet.ops.elementwise import abs, exp, isfinite, maximum, sqrt
from anynet.ops.linear import matmul
from anynet.ops.manipulation import concat, reshape
from anynet.ops.reductions import all, max, mean, sum
from anynet.tensor import Parameter, Tensor
from anynet.typing import ArrayLike

__all__ = [
    "CategoricalHead", "Estimate", "GaussianHead", "LaplaceHead", "MixtureDensityHead", "PoissonHead", "aic", "bic",
    "fisher_information", "maximum_likelihood", "negative_log_likelihood", "standard_errors",
]  # fmt: skip

Terms = Callable[[Any], Tensor]


def aic(log_likelihood: float, n_parameters: int) -> float:
    """Akaike's criterion 2 k − 2 ℓ, which is smaller for the better model (Akaike 1974).

    >>> import anynet as an
    >>> an.methods.aic(-10.0, 3)
    26.0
    """
    return 2.0 * n_parameters - 2.0 * log_likelihood


def bic(log_likelihood: float, n_parameters: int, n_samples: int) -> float:
    """The Bayesian criterion k ln n − 2 ℓ (Schwarz 1978): −2 times the evidence's logarithm, for large n and but for a constant.

    >>> import anynet as an
    >>> round(an.methods.bic(-10.0, 3, 100), 4)
    33.8155
    """
    return n_parameters * math.log(n_samples) - 2.0 * log_likelihood


class _Flat:
    """A nest of parameters as one vector."""

    def __init__(self, params: Any) -> None:
        self.leaves, self.structure = flatten(params)
        self.leaves = [leaf if isinstance(leaf, Tensor) else asarray(leaf) for leaf in self.leaves]
        if not self.leaves:
            msg = "maximum likelihood: there must be a parameter, got an empty nest"
            raise ValueError(msg)
        for leaf in self.leaves:
            if not leaf.dtype.is_floating:
                msg = f"maximum likelihood: parameters must be floating-point, got {leaf.dtype}"
                raise TypeError(msg)

    @property
    def vector(self) -> Tensor:
        return concat([reshape(leaf.detach(), (-1,)) for leaf in self.leaves])

    def nest(self, vector: Tensor) -> Any:
        found, at = [], 0
        for leaf in self.leaves:
            found.append(reshape(vector[at : at + leaf.size], leaf.shape))
            at += leaf.size
        return unflatten(self.structure, found)


def _terms(where: str, log_likelihood: Terms, params: Any) -> Tensor:
    value = log_likelihood(params)
    if not isinstance(value, Tensor) or value.ndim != 1:
        got = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        msg = f"{where}: log_likelihood must return ln p of each sample, a Tensor (n,), got {got}"
        raise ValueError(msg)
    return value


def fisher_information(log_likelihood: Terms, params: Any, kind: str = "observed") -> Tensor:
    """The Fisher information (k, k) of the parameters, in the order of their nest.

    `log_likelihood` is a function params → ln p of each sample, (n,). `kind`: "observed", −∂²ℓ/∂θ² at the parameters, or "empirical", the
    sum of the outer products of the samples' gradients. At the truth and for many samples both come to the same.

    >>> import anynet as an
    >>> x = an.asarray([1.0, 2.0, 4.0])
    >>> an.methods.fisher_information(lambda m: an.distributions.Normal(m, 2.0).log_prob(x), an.asarray([2.0]))
    Tensor([[0.75]])
    """
    flat = _Flat(params)
    _terms("fisher_information", log_likelihood, flat.nest(flat.vector))
    if kind == "observed":
        return -hessian(lambda v: sum(log_likelihood(flat.nest(v))))(flat.vector)  # type: ignore[no-any-return]
    if kind == "empirical":
        scores = jacrev(lambda v: log_likelihood(flat.nest(v)))(flat.vector)
        return scores.mT @ scores  # type: ignore[no-any-return]
    msg = f"fisher_information: kind must be 'observed' or 'empirical', got {kind!r}"
    raise ValueError(msg)


def standard_errors(information: Tensor) -> Tensor:
    """√(I⁻¹)ᵢᵢ, the standard errors of the estimates; ValueError where the information is not positive definite: then some
    combination of parameters is not determined by the data.

    >>> import anynet as an
    >>> an.methods.standard_errors(an.asarray([[4.0, 0.0], [0.0, 25.0]]))
    Tensor([0.5, 0.2])
    """
    w = linalg.eigvalsh(information)
    least, most = float(w[0]), float(w[-1])
    if not least > most * 1e-15:
        msg = f"standard_errors: the information must be positive definite, got eigenvalues from {least:.3g} to {most:.3g}"
        raise ValueError(msg)
    return sqrt(linalg.diagonal(linalg.inv(information)))


@dataclass(frozen=True)
class Estimate:
    """What `maximum_likelihood` found: parameters, ℓ, the observed information and what follows from them."""

    params: Any
    log_likelihood: float
    n_parameters: int
    n_samples: int
    information: Tensor
    gradient: float
    """The largest element of |∂ℓ/∂θ| that is left."""
    steps: int

    @property
    def aic(self) -> float:
        """Akaike's criterion."""
        return aic(self.log_likelihood, self.n_parameters)

    @property
    def bic(self) -> float:
        """The Bayesian criterion."""
        return bic(self.log_likelihood, self.n_parameters, self.n_samples)

    @property
    def covariance(self) -> Tensor:
        """I⁻¹."""
        return linalg.inv(self.information)

    @property
    def standard_errors(self) -> Any:
        """√(I⁻¹)ᵢᵢ, in the structure of the parameters."""
        return _Flat(self.params).nest(standard_errors(self.information))


def maximum_likelihood(
    log_likelihood: Terms, params: Any, *, max_steps: int = 100, tolerance: float | None = None
) -> Estimate:
    """θ̂ = argmax ℓ(θ) by Newton's method, with steps halved while ℓ falls, from `params` on (a nest of Tensors; float64 for all digits).

    `log_likelihood` is a function params → ln p(yᵢ | θ) of each sample, (n,). Where −∂²ℓ/∂θ² is not positive definite the size of
    its eigenvalues is taken, so that each step rises. Newton's method takes a (k, k) matrix: for networks train `negative_log_likelihood`.

    RuntimeError when |∂ℓ/∂θ| is not below `tolerance` (n times 1e-8 of float64, 1e-3 of float32, unless given) after `max_steps`: separable
    classes, for one, have no maximum.

    >>> import anynet as an
    >>> x = an.asarray([1.0, 2.0, 6.0], dtype="float64")
    >>> p = {"mean": an.asarray(0.0, dtype="float64"), "log_sd": an.asarray(0.0, dtype="float64")}
    >>> found = an.methods.maximum_likelihood(lambda p: an.distributions.Normal(p["mean"], an.exp(p["log_sd"])).log_prob(x), p)
    >>> round(float(found.params["mean"]), 6), round(float(an.exp(found.params["log_sd"])) ** 2, 6)
    (3.0, 4.666667)
    """
    where = "maximum_likelihood"
    check_count(where, "max_steps", max_steps)
    flat = _Flat(params)
    theta = flat.vector
    n = _terms(where, log_likelihood, flat.nest(theta)).shape[0]
    fine = str(theta.dtype) == "float64"
    least = (
        n * (1e-8 if fine else 1e-3)
        if tolerance is None
        else check_number(where, "tolerance", tolerance, 0.0)
    )

    def total(v: Tensor) -> Tensor:
        return sum(log_likelihood(flat.nest(v)))

    value = total(theta)
    if not bool(isfinite(value)):
        msg = f"{where}: the log-likelihood of the first parameters must be finite, got {float(value)}"
        raise ValueError(msg)
    for step in range(max_steps + 1):
        slope, bend = grad(total)(theta), -hessian(total)(theta)
        left = float(max(abs(slope)))
        if left <= least:
            k = theta.shape[0]
            return Estimate(flat.nest(theta), float(value), k, n, bend, left, step)
        if step == max_steps:
            break
        theta, value, moved = _rise(total, theta, value, _newton_step(slope, bend))
        if not moved:
            break
    msg = (
        f"{where}: after {step} steps the largest |∂ℓ/∂θ| is {left:.3g}, above the tolerance {least:.3g}: the likelihood may have no "
        "maximum (separable classes?), or take float64, other first parameters or more max_steps"
    )
    raise RuntimeError(msg)


def _newton_step(slope: Tensor, bend: Tensor) -> Tensor:
    w, v = linalg.eigh(bend)
    size = maximum(abs(w), max(abs(w)) * 1e-14 + 1e-30)
    return matmul(v, matmul(v.mT, slope) / size)


def _rise(total: Any, theta: Tensor, value: Tensor, step: Tensor) -> tuple[Tensor, Tensor, bool]:
    """Half the step until ℓ does not fall."""
    for _ in range(60):
        at = theta + step
        new = total(at)
        if bool(isfinite(new)) and float(new) >= float(value) and bool(all(isfinite(at))):
            return at.detach(), new.detach(), bool(max(abs(step)) > 0)
        step = 0.5 * step
    return theta, value, False


# ----- networks that end in a distribution -----


def negative_log_likelihood(distribution: Distribution, target: ArrayLike, reduction: str = "mean") -> Tensor:
    """−ln p(target), the mean over the batch (or "sum", "none"): the loss of networks that end in a head.

    >>> import anynet as an
    >>> an.methods.negative_log_likelihood(an.distributions.Normal(an.zeros(2), 1.0), an.asarray([0.0, 1.0]))
    Tensor(1.168939)
    """
    terms = -distribution.log_prob(target)
    if reduction == "mean":
        return mean(terms)
    if reduction == "sum":
        return sum(terms)
    if reduction == "none":
        return terms
    msg = f"negative_log_likelihood: reduction must be 'mean', 'sum' or 'none', got {reduction!r}"
    raise ValueError(msg)


class _Head(Module):
    """A linear layer whose outputs are the parameters of a distribution of (n, out_features)."""

    parameters_each = 2

    def __init__(self, in_features: int, out_features: int = 1) -> None:
        check_count(type(self).__name__, "in_features", in_features)
        self.out_features = check_count(type(self).__name__, "out_features", out_features)
        self.linear = Linear(in_features, self.parameters_each * out_features)

    def _raw(self, x: ArrayLike) -> list[Tensor]:
        y, n = self.linear(x), self.out_features
        return [y[..., k * n : (k + 1) * n] for k in range(self.parameters_each)]

    def loss(self, output: Distribution, target: ArrayLike) -> Tensor:
        """−ln p(target), the mean over the batch."""
        return negative_log_likelihood(output, target)


class GaussianHead(_Head):
    """N(μ(x), σ(x)²) of `out_features` numbers, σ = softplus + `least`: a prediction with the noise that it expects (Nix & Weigend 1994).

    With ``shared=True`` σ is one parameter for each output, the same for all x: then maximum likelihood is least squares. x (…, in) →
    distribution with batch (…) and event (out_features,).

    >>> import anynet as an
    >>> an.methods.GaussianHead(3)(an.ones((4, 3))).mean.shape
    (4, 1)
    """

    def __init__(
        self, in_features: int, out_features: int = 1, *, shared: bool = False, least: float = 1e-6
    ) -> None:
        self.parameters_each = 1 if shared else 2
        super().__init__(in_features, out_features)
        self.least = check_number(type(self).__name__, "least", least, 0.0)
        self.log_scale = Parameter(zeros((out_features,))) if shared else None

    def _parts(self, x: ArrayLike) -> tuple[Tensor, Tensor]:
        mean, *rest = self._raw(x)
        return mean, self.least + (
            softplus(rest[0]) if self.log_scale is None else exp(self.log_scale) + 0.0 * mean
        )

    def forward(self, x: ArrayLike) -> Distribution:
        """The distribution of y given x."""
        return Independent(Normal(*self._parts(x), validate_args=False), 1)


class LaplaceHead(GaussianHead):
    """Laplace(μ(x), b(x)): as `GaussianHead`, with tails that outliers do not pull; with ``shared=True`` least absolute deviations."""

    def forward(self, x: ArrayLike) -> Distribution:
        """The distribution of y given x."""
        return Independent(Laplace(*self._parts(x), validate_args=False), 1)


class PoissonHead(_Head):
    """Poisson(e^{w·x + b}): counts."""

    parameters_each = 1

    def forward(self, x: ArrayLike) -> Distribution:
        """The distribution of y given x."""
        return Independent(Poisson(exp(self._raw(x)[0]), validate_args=False), 1)


class CategoricalHead(_Head):
    """Categorical(softmax(W x + b)) of `out_features` classes; maximum likelihood is the cross-entropy."""

    parameters_each = 1

    def forward(self, x: ArrayLike) -> Distribution:
        """The distribution of the class given x."""
        return Categorical(logits=self._raw(x)[0], validate_args=False)


class MixtureDensityHead(Module):
    """Σ_k w_k(x) N(μ_k(x), σ_k(x)²): several answers to one question (C. Bishop, "Mixture density networks", 1994).

    x (…, in) → a mixture with batch (…) and event (out_features,), its `components` with one σ for each output. The biases of the means
    are drawn from N(0, 1), so that the components begin apart.

    >>> import anynet as an
    >>> an.methods.MixtureDensityHead(3, components=5)(an.ones((4, 3))).log_prob(an.zeros((4, 1))).shape
    (4,)
    """

    def __init__(
        self, in_features: int, out_features: int = 1, components: int = 5, *, least: float = 1e-3
    ) -> None:
        where = type(self).__name__
        check_count(where, "in_features", in_features)
        self.out_features = check_count(where, "out_features", out_features)
        self.components = check_count(where, "components", components)
        self.least = check_number(where, "least", least, 0.0)
        each = self.components * self.out_features
        self.weights, self.means, self.scales = (
            Linear(in_features, self.components), Linear(in_features, each), Linear(in_features, each),
        )  # fmt: skip
        if self.means.bias is not None:
            init.normal_(self.means.bias)

    def forward(self, x: ArrayLike) -> MixtureSameFamily:
        """The distribution of y given x."""
        weights = self.weights(x)
        shape = (*weights.shape, self.out_features)
        mean, scale = reshape(self.means(x), shape), self.least + softplus(reshape(self.scales(x), shape))
        parts = Independent(Normal(mean, scale, validate_args=False), 1)
        return MixtureSameFamily(Categorical(logits=weights, validate_args=False), parts, validate_args=False)

    def loss(self, output: Distribution, target: ArrayLike) -> Tensor:
        """−ln p(target), the mean over the batch."""
        return negative_log_likelihood(output, target)
