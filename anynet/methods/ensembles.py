"""Several networks instead of one: deep ensembles, and SWAG, which draws networks from around the path of SGD."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from anynet import random
from anynet.methods.checks import check_count, check_number
from anynet.methods.predictions import Classification, Regression, classification, regression
from anynet.nn.modes import modes_kept
from anynet.nn.module import Module
from anynet.nn.utils.stateless import functional_call
from anynet.ops.elementwise import maximum, sqrt
from anynet.ops.linear import tensordot
from anynet.ops.manipulation import stack
from anynet.random import Generator
from anynet.tensor import Tensor, no_grad
from anynet.typing import ArrayLike

__all__ = ["SWAG", "DeepEnsemble"]


class DeepEnsemble:
    """Networks trained from different first weights, whose predictions are averaged (B. Lakshminarayanan, A. Pritzel & C. Blundell,
    "Simple and scalable predictive uncertainty estimation using deep ensembles", 2017).

    >>> import anynet as an
    >>> nets = an.methods.DeepEnsemble([an.nn.Linear(2, 3) for _ in range(5)])
    >>> nets.classify(an.ones((4, 2))).probabilities.shape
    (4, 3)
    """

    def __init__(self, models: Iterable[Module]) -> None:
        self.models: Sequence[Module] = list(models)
        if not self.models or not all(isinstance(m, Module) for m in self.models):
            msg = f"DeepEnsemble: models must be one Module or more, got {[type(m).__name__ for m in self.models]}"
            raise ValueError(msg)
        if len({id(m) for m in self.models}) < len(self.models):
            msg = "DeepEnsemble: the models must be different objects, got one several times; make a new one for each"
            raise ValueError(msg)

    @classmethod
    def train(
        cls, make: Callable[[], Module], train: Callable[[Module], Any], members: int = 5
    ) -> DeepEnsemble:
        """`members` networks from ``make()``, each given to ``train(network)``; their first weights are drawn one after the other."""
        check_count("DeepEnsemble.train", "members", members)
        models = []
        for _ in range(members):
            model = make()
            train(model)
            models.append(model)
        return cls(models)

    def outputs(self, x: Any) -> Tensor:
        """Outputs (members, n, …) in evaluation, without gradients."""
        found = []
        for model in self.models:
            with modes_kept(model), no_grad():
                model.eval()
                found.append(model(*x) if isinstance(x, tuple) else model(x))
        return stack(found)

    def predict(self, x: Any, noise_variance: float | ArrayLike = 0.0) -> Regression:
        """The prediction of numbers."""
        return regression(self.outputs(x), noise_variance)

    def classify(self, x: Any) -> Classification:
        """The prediction of classes, of networks that give logits."""
        return classification(self.outputs(x))


class SWAG:
    """A normal distribution around the average of the weights that SGD went through: N(w̄, ½ diag(s²) + D Dᵀ / (2 (K − 1))), w̄ and s² their
    mean and variance, D the last K deviations from the running mean (W. Maddox et al., "A simple baseline for Bayesian uncertainty in deep
    learning", 2019).

    Train with a constant, rather high learning rate; call `collect` after each epoch of the second part (or several times an epoch).
    `rank` is K, the deviations kept; 0 is the diagonal part alone.

    >>> import anynet as an
    >>> net = an.nn.Linear(2, 1)
    >>> swag = an.methods.SWAG(net, rank=2)
    >>> for _ in range(3):
    ...     _ = net.weight.assign_(net.weight + 0.1)
    ...     swag.collect()
    >>> swag.predict(an.ones((4, 2)), samples=8).mean.shape
    (4, 1)
    """

    def __init__(self, model: Module, rank: int = 20) -> None:
        self.model, self.rank = model, check_count("SWAG", "rank", rank, 0)
        self.names = [n for n, p in model.named_parameters() if p.requires_grad]
        if not self.names:
            msg = "SWAG: the model must have parameters that are trained, got none"
            raise ValueError(msg)
        self.count = 0
        self.mean: dict[str, Tensor] = {}
        self._square: dict[str, Tensor] = {}
        self._deviations: dict[str, list[Tensor]] = {n: [] for n in self.names}

    def collect(self) -> None:
        """Take the weights that the model has now."""
        own = dict(self.model.named_parameters())
        for name in self.names:
            w = own[name].detach() + 0.0
            if not self.count:
                self.mean[name], self._square[name] = w, 0.0 * w
            else:
                before = w - self.mean[name]
                self.mean[name] = self.mean[name] + before / (self.count + 1)
                self._square[name] = self._square[name] + before * (w - self.mean[name])
            if self.rank:
                kept = [*self._deviations[name], w - self.mean[name]]
                self._deviations[name] = kept[-self.rank :]
        self.count += 1

    @property
    def variance(self) -> dict[str, Tensor]:
        """s², the variance of each weight over what was collected."""
        return {n: maximum(s / max(self.count, 1), 0.0) for n, s in self._square.items()}

    def sample(self, scale: float = 1.0, *, generator: Generator | None = None) -> dict[str, Tensor]:
        """Weights drawn from the distribution, by name; `scale` multiplies its covariance."""
        check_number("SWAG.sample", "scale", scale, 0.0)
        if self.count < 2:
            msg = f"SWAG: at least 2 collections are needed, got {self.count}; call collect() while training"
            raise RuntimeError(msg)
        k = len(self._deviations[self.names[0]])
        like = self.mean[self.names[0]]
        share = 1.0 if k < 2 else 0.5  # of the variance that is not along the deviations
        z = random.normal((k,), dtype=like.dtype, device=like.device, generator=generator) if k > 1 else None
        drawn = {}
        for name, variance in self.variance.items():
            own = random.normal(
                variance.shape, dtype=variance.dtype, device=variance.device, generator=generator
            )
            w = math.sqrt(share * scale) * sqrt(variance) * own
            if z is not None:
                w = w + math.sqrt(scale / (2.0 * (k - 1))) * tensordot(
                    z, stack(self._deviations[name]), axes=1
                )
            drawn[name] = self.mean[name] + w
        return drawn

    def outputs(
        self, x: Any, samples: int = 30, scale: float = 1.0, *, generator: Generator | None = None
    ) -> Tensor:
        """Outputs (samples, n, …) of networks that are drawn, in evaluation and without gradients. The statistics of batch norm are
        those that the model has: run `optim.swa_utils.update_bn` on it after training."""
        check_count("SWAG.outputs", "samples", samples)
        call = x if isinstance(x, tuple) else (x,)
        with modes_kept(self.model), no_grad():
            self.model.eval()
            drawn = [self.sample(scale, generator=generator) for _ in range(samples)]
            return stack([functional_call(self.model, w, call) for w in drawn])

    def predict(
        self,
        x: Any,
        samples: int = 30,
        noise_variance: float | ArrayLike = 0.0,
        *,
        generator: Generator | None = None,
    ) -> Regression:
        """The prediction of numbers."""
        return regression(self.outputs(x, samples, generator=generator), noise_variance)

    def classify(self, x: Any, samples: int = 30, *, generator: Generator | None = None) -> Classification:
        """The prediction of classes, of a network that gives logits."""
        return classification(self.outputs(x, samples, generator=generator))
