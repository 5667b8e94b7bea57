"""Bayesian linear regression, in closed form: what approximate methods can be measured against."""

from __future__ import annotations

import math
from typing import Any

from anynet.distributions import MultivariateNormal
from anynet.methods.checks import check_number
from anynet.methods.predictions import Regression
from anynet.ops import linalg
from anynet.ops.creation import asarray, eye
from anynet.ops.elementwise import log
from anynet.ops.linear import matmul
from anynet.ops.reductions import sum
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["BayesianLinearRegression"]


class BayesianLinearRegression:
    """y = X w + ε, ε ~ N(0, σ²), prior w ~ N(0, I/α): the posterior is N(m, Λ⁻¹), Λ = αI + XᵀX/σ², m = Λ⁻¹Xᵀy/σ².

    There is no intercept: centre the data, or give X a column of ones. σ² is `noise_variance`, α `prior_precision`.

    >>> import anynet as an
    >>> X, y = an.asarray([[1.0], [2.0], [3.0]]), an.asarray([2.0, 4.0, 6.0])
    >>> an.methods.BayesianLinearRegression(noise_variance=0.1).fit(X, y).mean
    Tensor([1.985815])

    Source: C. Bishop, Pattern recognition and machine learning (2006), section 3.3.
    """

    def __init__(self, noise_variance: float, prior_precision: float = 1.0) -> None:
        where = type(self).__name__
        self.noise_variance = check_number(where, "noise_variance", noise_variance, 0.0, open=True)
        self.prior_precision = check_number(where, "prior_precision", prior_precision, 0.0, open=True)

    def fit(self, X: ArrayLike, y: ArrayLike) -> BayesianLinearRegression:
        """Condition on data (n, d) and (n,)."""
        X, y = asarray(X), asarray(y)
        if X.ndim != 2 or y.shape != X.shape[:1]:
            msg = f"BayesianLinearRegression.fit: X must be (n, d) and y (n,), got {tuple(X.shape)} and {tuple(y.shape)}"
            raise ValueError(msg)
        n, d = X.shape
        precision = (
            self.prior_precision * eye(d, dtype=X.dtype, device=X.device) + X.mT @ X / self.noise_variance
        )
        self.precision: Tensor = precision
        self.mean: Tensor = linalg.solve(precision, matmul(X.mT, y)) / self.noise_variance
        off = y - matmul(X, self.mean)
        fit = float(sum(off * off)) / self.noise_variance + self.prior_precision * float(sum(self.mean**2))
        scale = n * math.log(2 * math.pi * self.noise_variance) - d * math.log(self.prior_precision)
        self.log_evidence = -0.5 * (fit + scale + float(linalg.slogdet(precision).logabsdet))
        """ln p(y | X), the weights integrated out."""
        return self

    @property
    def posterior(self) -> MultivariateNormal:
        """p(w | X, y)."""
        return MultivariateNormal(self.mean, precision_matrix=self.precision)

    def predict(self, X: ArrayLike) -> Regression:
        """Mean and variances of y at new X (n, d)."""
        X = asarray(X)
        spread = sum(X * linalg.solve(self.precision, X.mT).mT, axis=-1)
        return Regression(matmul(X, self.mean), spread, 0.0 * spread + self.noise_variance)

    def factorised_elbo(self) -> float:
        """The evidence lower bound of the best q with independent weights, N(mᵢ, 1/Λᵢᵢ): less than the evidence by its divergence."""
        logs: Any = sum(log(linalg.diagonal(self.precision)))
        return self.log_evidence - 0.5 * (float(logs) - float(linalg.slogdet(self.precision).logabsdet))
