"""Probability distributions under PyTorch's names, differentiable in their parameters, on every backend.

>>> import anynet as an
>>> p = an.distributions.Normal(loc=0.0, scale=an.asarray([1.0, 2.0]))
>>> p.log_prob(0.0)
Tensor([-0.918938, -1.612085])
>>> p.rsample((3,), generator=an.random.Generator(0)).shape
(3, 2)
"""

from anynet.distributions import constraints, transforms
from anynet.distributions.categorical import (
    Categorical,
    Multinomial,
    OneHotCategorical,
    OneHotCategoricalStraightThrough,
)
from anynet.distributions.compound import Independent, MixtureSameFamily
from anynet.distributions.discrete import Bernoulli, Binomial, Geometric, NegativeBinomial, Poisson
from anynet.distributions.distribution import Distribution
from anynet.distributions.gamma import (
    Beta,
    Chi2,
    Dirichlet,
    Exponential,
    Gamma,
    InverseGamma,
    Pareto,
    Weibull,
)
from anynet.distributions.kl import kl_divergence, register_kl
from anynet.distributions.location_scale import (
    Cauchy,
    Gumbel,
    HalfCauchy,
    HalfNormal,
    Laplace,
    Normal,
    StudentT,
    Uniform,
)
from anynet.distributions.multivariate_normal import LowRankMultivariateNormal, MultivariateNormal
from anynet.distributions.registry import biject_to, transform_to
from anynet.distributions.relaxed import RelaxedBernoulli, RelaxedOneHotCategorical
from anynet.distributions.transformed import LogisticNormal, LogNormal, TransformedDistribution
from anynet.distributions.transforms import (
    AbsTransform,
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    IndependentTransform,
    LowerCholeskyTransform,
    PowerTransform,
    ReshapeTransform,
    SigmoidTransform,
    SoftmaxTransform,
    SoftplusTransform,
    StickBreakingTransform,
    TanhTransform,
    Transform,
    identity_transform,
)
from anynet.distributions.von_mises import VonMises

__all__ = [
    "AbsTransform", "AffineTransform", "Bernoulli", "Beta", "Binomial", "Categorical", "Cauchy", "Chi2", "ComposeTransform", "Dirichlet",
    "Distribution", "ExpTransform", "Exponential", "Gamma", "Geometric", "Gumbel", "HalfCauchy", "HalfNormal", "Independent",
    "IndependentTransform", "InverseGamma", "Laplace", "LogNormal", "LogisticNormal", "LowRankMultivariateNormal", "LowerCholeskyTransform",
    "MixtureSameFamily", "Multinomial", "MultivariateNormal", "NegativeBinomial", "Normal", "OneHotCategorical",
    "OneHotCategoricalStraightThrough", "Pareto", "Poisson", "PowerTransform", "RelaxedBernoulli",
    "RelaxedOneHotCategorical", "ReshapeTransform", "SigmoidTransform",
    "SoftmaxTransform", "SoftplusTransform", "StickBreakingTransform", "StudentT", "TanhTransform", "Transform",
    "TransformedDistribution",
    "Uniform", "VonMises", "Weibull", "biject_to", "constraints", "identity_transform", "kl_divergence", "register_kl",
    "transform_to", "transforms",
]  # fmt: skip
