"""What a network that knows its uncertainty predicts: means, and how much of the variance is its own ignorance.

From outputs f_s(x) of S networks drawn from (an approximation of) p(w | data): for numbers the variance over s is epistemic, that of the
noise aleatoric; for classes p = mean softmax(f_s), whose entropy is the mean entropy (aleatoric) plus the mutual information between class
and weights (epistemic; Houlsby et al. 2011).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anynet.methods.checks import check_count
from anynet.nn.dropout import AlphaDropout, Dropout, GaussianDropout
from anynet.nn.module import Module
from anynet.ops.elementwise import exp, log, maximum, sqrt
from anynet.ops.manipulation import stack
from anynet.ops.reductions import argmax, mean, sum, var
from anynet.ops.softmax import log_softmax, logsumexp
from anynet.ops.special import entr
from anynet.tensor import Tensor, no_grad
from anynet.typing import ArrayLike

__all__ = ["Classification", "Regression", "classification", "mc_dropout", "mc_predict", "regression"]


@dataclass(frozen=True)
class Regression:
    """A prediction of numbers: mean, variance from not knowing the weights, variance of the noise."""

    mean: Tensor
    epistemic: Tensor
    aleatoric: Tensor

    @property
    def variance(self) -> Tensor:
        """Of a new observation."""
        return self.epistemic + self.aleatoric

    @property
    def stddev(self) -> Tensor:
        """√variance."""
        return sqrt(self.variance)

    def log_prob(self, y: ArrayLike) -> Tensor:
        """ln p(y) of each number, of a normal distribution with this mean and variance."""
        v = self.variance
        return -0.5 * ((y - self.mean) ** 2 / v + log(2 * math.pi * v))


@dataclass(frozen=True)
class Classification:
    """A prediction of classes: probabilities (n, K), and the parts of their entropy."""

    probabilities: Tensor
    entropy: Tensor
    aleatoric: Tensor

    @property
    def mutual_information(self) -> Tensor:
        """The epistemic part of the entropy: what the weights' uncertainty adds."""
        return maximum(self.entropy - self.aleatoric, 0.0)

    @property
    def classes(self) -> Tensor:
        """The most probable ones."""
        return argmax(self.probabilities, axis=-1)


def _several(where: str, outputs: Tensor) -> None:
    if outputs.ndim < 2 or not outputs.shape[0]:
        msg = f"{where}: outputs must be (samples, n, …), got shape {tuple(outputs.shape)}"
        raise ValueError(msg)


def regression(outputs: Tensor, noise_variance: float | ArrayLike = 0.0) -> Regression:
    """The prediction of numbers from outputs (S, n, …), with the variance of the noise.

    >>> import anynet as an
    >>> an.methods.regression(an.asarray([[1.0], [3.0]]), noise_variance=0.5).variance
    Tensor([1.5])
    """
    _several("regression", outputs)
    centre = mean(outputs, axis=0)
    return Regression(centre, var(outputs, axis=0), 0.0 * centre + noise_variance)


def classification(logits: Tensor) -> Classification:
    """The prediction of classes from logits (S, n, K).

    >>> import anynet as an
    >>> an.methods.classification(an.asarray([[[0.0, 9.0]], [[9.0, 0.0]]])).probabilities
    Tensor([[0.5, 0.5]])
    """
    _several("classification", logits)
    logs = log_softmax(logits, axis=-1)
    p = exp(logsumexp(logs, axis=0) - math.log(logits.shape[0]))
    each = sum(entr(exp(logs)), axis=-1)
    return Classification(p, sum(entr(p), axis=-1), mean(each, axis=0))


def mc_predict(model: Callable[..., Any], x: Any, samples: int = 50) -> Tensor:
    """Outputs (samples, …) of a model that draws anew in each call (a Bayesian network, one with dropout), without gradients.

    >>> import anynet as an
    >>> an.methods.mc_predict(an.methods.BayesLinear(2, 1), an.ones((3, 2)), samples=5).shape
    (5, 3, 1)
    """
    check_count("mc_predict", "samples", samples)
    with no_grad():
        return stack([model(*x) if isinstance(x, tuple) else model(x) for _ in range(samples)])


def mc_dropout(model: Module, x: Any, samples: int = 50) -> Tensor:
    """Outputs (samples, …) with dropout drawn and all else in evaluation: approximate samples of a Bayesian posterior (Y. Gal & Z.
    Ghahramani, "Dropout as a Bayesian approximation", 2016).

    The modes of the modules are as before afterwards. ValueError for a model without dropout.

    >>> import anynet as an
    >>> net = an.nn.Sequential(an.nn.Linear(2, 8), an.nn.Dropout(0.5), an.nn.Linear(8, 1))
    >>> an.methods.regression(an.methods.mc_dropout(net, an.ones((3, 2)))).epistemic.shape
    (3, 1)
    """
    drops = [m for m in model.modules() if isinstance(m, (Dropout, AlphaDropout, GaussianDropout))]
    if not drops:
        msg = "mc_dropout: the model must have a dropout layer, got none"
        raise ValueError(msg)
    before = [(m, m.training) for m in model.modules()]
    model.eval()
    for drop in drops:
        drop.training = True
    try:
        return mc_predict(model, x, samples)
    finally:
        for module, training in before:
            module.training = training
