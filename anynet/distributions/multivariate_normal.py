"""The multivariate normal distribution, with a full covariance or one of low rank."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from anynet.distributions import constraints
from anynet.distributions.constraints import Constraint
from anynet.distributions.distribution import Axes, Constraints, Distribution, Shape, exactly_one, parameters
from anynet.ops import elementwise as e
from anynet.ops import linalg
from anynet.ops.creation import eye, tril
from anynet.ops.manipulation import broadcast_to, expand_dims, flip, squeeze
from anynet.ops.reductions import sum
from anynet.ops.shapes import broadcast_shapes
from anynet.random import Generator, normal
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["LowRankMultivariateNormal", "MultivariateNormal"]


class MultivariateNormal(Distribution):
    """p(x) = exp(−½ (x − μ)ᵀ Σ⁻¹ (x − μ)) / √((2π)ᵈ |Σ|).

    One of `covariance_matrix` Σ, `precision_matrix` Σ⁻¹ and `scale_tril` L, Σ = L Lᵀ, is given, (…, d, d); `loc` μ is (…, d). With L, which
    costs no factorisation, the computation is cheapest.

    >>> import anynet as an
    >>> p = an.distributions.MultivariateNormal(an.zeros(2), an.asarray([[2.0, 1.0], [1.0, 2.0]]))
    >>> p.log_prob([1.0, 1.0])
    Tensor(-2.720517)
    """

    arg_constraints: ClassVar[Constraints] = {"loc": constraints.real_vector}
    _parameters: ClassVar[Axes] = {"loc": 1, "scale_tril": 2}
    has_rsample = True

    def __init__(
        self,
        loc: Any,
        covariance_matrix: Any = None,
        precision_matrix: Any = None,
        scale_tril: Any = None,
        validate_args: bool | None = None,
    ) -> None:
        where = type(self).__name__
        matrices = {
            "covariance_matrix": covariance_matrix, "precision_matrix": precision_matrix, "scale_tril": scale_tril,
        }  # fmt: skip
        given = exactly_one(where, **matrices)
        mean, matrix = parameters(where, loc=loc, **{given: matrices[given]})
        if mean.ndim < 1 or matrix.ndim < 2 or matrix.shape[-2:] != (mean.shape[-1],) * 2:
            msg = f"{where}: {given} must be (…, d, d) and loc (…, d), got {tuple(matrix.shape)} and {tuple(mean.shape)}"
            raise ValueError(msg)
        if self._default_validation if validate_args is None else validate_args:
            wanted = constraints.lower_cholesky if given == "scale_tril" else constraints.positive_definite
            constraints.require(where, given, wanted, matrix)
        batch, d = broadcast_shapes(mean.shape[:-1], matrix.shape[:-2]), mean.shape[-1]
        if given == "covariance_matrix":
            matrix = linalg.cholesky(matrix)
        elif given == "precision_matrix":
            matrix = _inverse_root(matrix)
        else:
            matrix = tril(matrix)  # of what lies above there is no gradient either
        self.loc = broadcast_to(mean, (*batch, d))
        self.scale_tril = broadcast_to(matrix, (*batch, d, d))
        super().__init__(batch, (d,), validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.real_vector

    @property
    def covariance_matrix(self) -> Tensor:
        """Σ."""
        return self.scale_tril @ self.scale_tril.mT

    @property
    def precision_matrix(self) -> Tensor:
        """Σ⁻¹."""
        inverse = linalg.inv(self.scale_tril)
        return inverse.mT @ inverse

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return sum(self.scale_tril**2, axis=-1)

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        z = self._normal(self._shape(sample_shape), generator)
        return self.loc + squeeze(self.scale_tril @ expand_dims(z, axis=-1), axis=-1)

    def log_prob(self, value: ArrayLike) -> Tensor:
        off = self._value(value) - self.loc
        return (
            -0.5 * (self.event_shape[0] * math.log(2 * math.pi) + mahalanobis(self.scale_tril, off))
            - self._half_log_det()
        )

    def _half_log_det(self) -> Tensor:
        return sum(e.log(linalg.diagonal(self.scale_tril)), axis=-1)

    def entropy(self) -> Tensor:
        return 0.5 * self.event_shape[0] * (1.0 + math.log(2 * math.pi)) + self._half_log_det()


def mahalanobis(root: Tensor, off: Tensor) -> Tensor:
    """|L⁻¹ x|², of vectors along the last axis."""
    batch = broadcast_shapes(root.shape[:-2], off.shape[:-1])
    d = off.shape[-1]
    x = linalg.solve(
        broadcast_to(root, (*batch, d, d)), broadcast_to(expand_dims(off, axis=-1), (*batch, d, 1))
    )
    return sum(x * x, axis=(-2, -1))


def _inverse_root(precision: Tensor) -> Tensor:
    """The lower triangular L with L Lᵀ = P⁻¹: the root of P turned round, inverted, turned."""
    turned = linalg.cholesky(flip(precision, axis=(-2, -1)))
    return linalg.inv(flip(turned, axis=(-2, -1)).mT)


class LowRankMultivariateNormal(Distribution):
    """A multivariate normal with Σ = W Wᵀ + diag(D), W = `cov_factor` (…, d, r) and D = `cov_diag` (…, d) > 0.

    Determinant and inverse are those of the (r, r) matrix C = I + Wᵀ D⁻¹ W (Woodbury).
    """

    arg_constraints: ClassVar[Constraints] = {
        "loc": constraints.real_vector, "cov_factor": constraints.independent(constraints.real, 2),
        "cov_diag": constraints.independent(constraints.positive, 1),
    }  # fmt: skip
    has_rsample = True

    def __init__(self, loc: Any, cov_factor: Any, cov_diag: Any, validate_args: bool | None = None) -> None:
        mean, factor, diagonal = parameters(
            "LowRankMultivariateNormal", loc=loc, cov_factor=cov_factor, cov_diag=cov_diag
        )
        d = mean.shape[-1] if mean.ndim else -1
        if factor.ndim < 2 or diagonal.ndim < 1 or factor.shape[-2] != d or diagonal.shape[-1] != d:
            msg = (
                "LowRankMultivariateNormal: loc must be (…, d), cov_factor (…, d, r) and cov_diag (…, d), got "
                f"{tuple(mean.shape)}, {tuple(factor.shape)} and {tuple(diagonal.shape)}"
            )
            raise ValueError(msg)
        batch = broadcast_shapes(mean.shape[:-1], factor.shape[:-2], diagonal.shape[:-1])
        self.loc, self.cov_diag = broadcast_to(mean, (*batch, d)), broadcast_to(diagonal, (*batch, d))
        self.cov_factor = broadcast_to(factor, (*batch, *factor.shape[-2:]))
        super().__init__(batch, (d,), validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.real_vector

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return sum(self.cov_factor**2, axis=-1) + self.cov_diag

    @property
    def covariance_matrix(self) -> Tensor:
        """Σ."""
        return self.cov_factor @ self.cov_factor.mT + _diagonal(self.cov_diag)

    @property
    def scale_tril(self) -> Tensor:
        """The Cholesky factor of Σ."""
        return linalg.cholesky(self.covariance_matrix)

    @property
    def precision_matrix(self) -> Tensor:
        """Σ⁻¹."""
        return linalg.inv(self.covariance_matrix)

    def _capacitance_root(self) -> Tensor:
        scaled = self.cov_factor.mT / expand_dims(self.cov_diag, axis=-2)
        r = self.cov_factor.shape[-1]
        return linalg.cholesky(
            scaled @ self.cov_factor + eye(r, dtype=self.loc.dtype, device=self.loc.device)
        )

    def rsample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        shape = self._shape(sample_shape)
        z = normal(
            (*shape[:-1], self.cov_factor.shape[-1]),
            dtype=self.loc.dtype,
            device=self.loc.device,
            generator=generator,
        )
        own = self._normal(shape, generator)
        return (
            self.loc
            + squeeze(self.cov_factor @ expand_dims(z, axis=-1), axis=-1)
            + e.sqrt(self.cov_diag) * own
        )

    def _log_det(self, root: Tensor) -> Tensor:
        return 2.0 * sum(e.log(linalg.diagonal(root)), axis=-1) + sum(e.log(self.cov_diag), axis=-1)

    def log_prob(self, value: ArrayLike) -> Tensor:
        off = self._value(value) - self.loc
        root = self._capacitance_root()
        scaled = squeeze(self.cov_factor.mT @ expand_dims(off / self.cov_diag, axis=-1), axis=-1)
        distance = sum(off**2 / self.cov_diag, axis=-1) - mahalanobis(root, scaled)
        return -0.5 * (self.event_shape[0] * math.log(2 * math.pi) + self._log_det(root) + distance)

    def entropy(self) -> Tensor:
        return 0.5 * (
            self.event_shape[0] * (1.0 + math.log(2 * math.pi)) + self._log_det(self._capacitance_root())
        )


def _diagonal(x: Tensor) -> Tensor:
    """Vectors along the last axis as diagonal matrices."""
    return expand_dims(x, axis=-1) * eye(x.shape[-1], dtype=x.dtype, device=x.device)
