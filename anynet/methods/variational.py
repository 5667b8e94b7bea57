"""Bayes by backprop: a normal distribution over each weight, trained by the evidence lower bound.

    ELBO = E_q ln p(D | w) − KL(q ‖ p) ≤ ln p(D),  q(w) = Π N(μᵢ, σᵢ²), σ = softplus(ρ), p(w) = N(0, prior_std²)

(C. Blundell et al., "Weight uncertainty in neural networks", 2015). Not the weights but the outputs of a layer are drawn, which for a
factorised q is the same and has less variance: y ~ N(x μᵀ, x² (σ²)ᵀ) (local reparametrisation, D. Kingma, T. Salimans & M. Welling, 2015).
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from anynet.distributions import Normal, kl_divergence
from anynet.methods.checks import check_count, check_number
from anynet.nn import functional as F
from anynet.nn.conv import Conv2d
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.ops.creation import full_like, zeros_like
from anynet.ops.elementwise import maximum, sqrt
from anynet.ops.reductions import mean, sum
from anynet.tensor import Parameter, Tensor
from anynet.typing import ArrayLike

__all__ = ["BayesConv2d", "BayesLinear", "ELBOLoss", "elbo", "kl_to_prior", "mean_weights", "to_bayesian"]


def _inverse_softplus(y: float) -> float:
    return y + math.log(-math.expm1(-y))


class _Bayes(Module):
    """A layer with means `weight`, `bias` and `weight_rho`, `bias_rho`, of which the standard deviations are the softplus."""

    weight: Parameter
    bias: Parameter | None
    bias_rho: Parameter | None

    def _begin(self, prior_std: float, init_std: float) -> None:
        where = type(self).__name__
        self.prior_std = check_number(where, "prior_std", prior_std, 0.0, open=True)
        rho = _inverse_softplus(check_number(where, "init_std", init_std, 0.0, open=True))
        self.weight_rho = Parameter(full_like(self.weight.detach(), rho))
        self.bias_rho = None if self.bias is None else Parameter(full_like(self.bias.detach(), rho))
        self.sampling = True

    def _linear(self, x: ArrayLike, weight: Any, bias: Any) -> Tensor:
        raise NotImplementedError

    def posterior(self) -> dict[str, Normal]:
        """q of each parameter."""
        found = {"weight": Normal(self.weight, F.softplus(self.weight_rho), validate_args=False)}
        if self.bias is not None and self.bias_rho is not None:
            found["bias"] = Normal(self.bias, F.softplus(self.bias_rho), validate_args=False)
        return found

    def kl(self) -> Tensor:
        """KL(q ‖ p), summed over the weights."""
        total: Any = 0.0
        for q in self.posterior().values():
            prior = Normal(zeros_like(q.loc), full_like(q.loc, self.prior_std), validate_args=False)
            total = total + sum(kl_divergence(q, prior))
        return total  # type: ignore[no-any-return]

    def forward(self, x: ArrayLike) -> Tensor:
        """Outputs drawn from their distribution; with ``sampling = False`` (see `mean_weights`) those of the mean weights."""
        y = self._linear(x, self.weight, self.bias)
        if not self.sampling:
            return y
        bias = None if self.bias_rho is None else F.softplus(self.bias_rho) ** 2
        spread = self._linear(x * x, F.softplus(self.weight_rho) ** 2, bias)
        return y + sqrt(maximum(spread, 1e-30)) * F.gaussian_noise(zeros_like(y), 1.0)


class BayesLinear(_Bayes, Linear):
    """`nn.Linear` with a normal distribution over each weight: y ~ N(x μᵀ + b, x² (σ²)ᵀ + σ_b²), drawn in each call, in training and
    evaluation. x (…, in_features) → (…, out_features). The noise is of the stream of dropout masks: the same on every backend, also in
    compiled steps.

    Parameters: `weight`, `weight_rho` (out, in), `bias`, `bias_rho` (out,); the means begin as those of `nn.Linear`, the standard
    deviations at `init_std`. `prior_std` is that of the prior N(0, prior_std²).

    >>> import anynet as an
    >>> layer = an.methods.BayesLinear(3, 2)
    >>> layer(an.ones((4, 3))).shape, layer.kl().shape
    ((4, 2), ())
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        prior_std: float = 1.0,
        init_std: float = 0.05,
    ) -> None:
        super().__init__(in_features, out_features, bias)
        self._begin(prior_std, init_std)

    _pure = False

    def _linear(self, x: ArrayLike, weight: Any, bias: Any) -> Tensor:
        return F.linear(x, weight, bias)


class BayesConv2d(_Bayes, Conv2d):
    """`nn.Conv2d` with a normal distribution over each weight, as `BayesLinear`; options beside its own: `prior_std`, `init_std`.

    Each place of the output is drawn by itself: its distribution is exact, but places are independent, which kernels drawn once for the
    whole image would not leave them.

    >>> import anynet as an
    >>> an.methods.BayesConv2d(1, 4, 3)(an.ones((2, 1, 8, 8))).shape
    (2, 4, 6, 6)
    """

    def __init__(self, *args: Any, prior_std: float = 1.0, init_std: float = 0.05, **options: Any) -> None:
        super().__init__(*args, **options)
        self._begin(prior_std, init_std)

    def _begin(self, prior_std: float, init_std: float) -> None:
        if self.padding_mode != "zeros":
            msg = f"BayesConv2d: padding_mode must be 'zeros', got {self.padding_mode!r}"
            raise ValueError(msg)
        super()._begin(prior_std, init_std)

    _pure = False

    def _linear(self, x: ArrayLike, weight: Any, bias: Any) -> Tensor:
        return F.conv2d(x, weight, bias, self.stride, self.padding, self.dilation, self.groups)


def to_bayesian(model: Module, *, prior_std: float = 1.0, init_std: float = 0.05) -> Module:
    """A copy of a network with `nn.Linear` and `nn.Conv2d` layers made Bayesian, around the weights that it has.

    Other layers keep weights without uncertainty. ValueError where there is no layer to convert.

    >>> import anynet as an
    >>> an.methods.to_bayesian(an.nn.Sequential(an.nn.Linear(2, 3), an.nn.ReLU(), an.nn.Linear(3, 1)))[0]
    BayesLinear(in_features=2, out_features=3, bias=True)
    """
    model = copy.deepcopy(model)
    plain = [m for m in model.modules() if type(m) in _BAYESIAN]
    if not plain:
        msg = f"to_bayesian: the model must have Linear or Conv2d layers, got {type(model).__name__} without"
        raise ValueError(msg)
    for layer in plain:  # of the copy, so that the layer stays where it is, hooks and ties included
        kind = _BAYESIAN[type(layer)]
        layer.__class__ = kind
        kind._begin(layer, prior_std, init_std)  # type: ignore[arg-type]
    return model


_BAYESIAN: dict[type[Module], type[_Bayes]] = {Linear: BayesLinear, Conv2d: BayesConv2d}


def _layers(model: Module) -> list[_Bayes]:
    found = [m for m in model.modules() if isinstance(m, _Bayes)]
    if not found:
        msg = f"Bayes by backprop: the model must have Bayesian layers, got {type(model).__name__} without; see to_bayesian"
        raise ValueError(msg)
    return found


def kl_to_prior(model: Module) -> Tensor:
    """KL(q ‖ p) of all Bayesian layers of a network."""
    total: Any = 0.0
    for layer in _layers(model):
        total = total + layer.kl()
    return total  # type: ignore[no-any-return]


def elbo(model: Module, log_likelihood: Tensor, n: int) -> Tensor:
    """n · mean(log_likelihood) − KL(q ‖ p): the evidence lower bound of `n` samples, estimated from those of a batch, ln p(yᵢ | f(xᵢ)).

    >>> import anynet as an
    >>> net, x, y = an.methods.BayesLinear(2, 1), an.ones((4, 2)), an.zeros((4, 1))
    >>> an.methods.elbo(net, an.distributions.Normal(net(x), 1.0).log_prob(y), n=4).shape
    ()
    """
    check_count("elbo", "n", n)
    return n * mean(log_likelihood) - kl_to_prior(model)


class ELBOLoss:
    """−ELBO / n as a loss for `fit`: ``loss(output, target) + KL / n``, where `loss` is a mean of −ln p(target | output).

    `temperature` T multiplies the divergence: below 1 the posterior is "cold".

    >>> import anynet as an
    >>> net = an.methods.BayesLinear(2, 3)
    >>> loss = an.methods.ELBOLoss(net, an.nn.functional.cross_entropy, n=100)
    >>> loss(net(an.ones((4, 2))), an.asarray([0, 1, 2, 0])).shape
    ()
    """

    def __init__(
        self, model: Module, loss: Callable[[Any, Any], Tensor], n: int, *, temperature: float = 1.0
    ) -> None:
        _layers(model)
        self.model, self.loss = model, loss
        self.n = check_count("ELBOLoss", "n", n)
        self.temperature = check_number("ELBOLoss", "temperature", temperature, 0.0)

    def __call__(self, output: Any, target: Any) -> Tensor:
        return self.loss(output, target) + kl_to_prior(self.model) * (self.temperature / self.n)


@contextmanager
def mean_weights(model: Module) -> Iterator[Module]:
    """Within, Bayesian layers compute with the means of their weights and draw nothing."""
    layers = _layers(model)
    before = [layer.sampling for layer in layers]
    try:
        for layer in layers:
            layer.sampling = False
        yield model
    finally:
        for layer, sampling in zip(layers, before, strict=True):
            layer.sampling = sampling
