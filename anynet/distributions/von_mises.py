"""The von Mises distribution: a normal distribution on the circle."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from anynet import random
from anynet.distributions import constraints
from anynet.distributions.constraints import Constraint
from anynet.distributions.distribution import Constraints, Distribution, Shape, broadcast
from anynet.ops import elementwise as e
from anynet.ops.incomplete import _legendre
from anynet.random import Generator
from anynet.tensor import Tensor, no_grad
from anynet.typing import ArrayLike

__all__ = ["VonMises"]


def _around(x: Tensor) -> tuple[Tensor, Tensor]:
    """ln ∫ e^{−x (1 − cos t)} dt over the circle, and the mean of 1 − cos t under this density, by quadrature up to where it is gone."""
    end = e.minimum(9.0 / e.sqrt(e.maximum(x.detach(), 1e-3)), math.pi)
    total: Any = 0.0
    moment: Any = 0.0
    for node, weight in _legendre(64):
        off = 2.0 * e.sin(0.5 * end * node) ** 2
        density = weight * e.exp(-x * off)
        total, moment = total + density, moment + density * off
    return e.log(2.0 * end * total), moment / total


class VonMises(Distribution):
    """p(x) = e^{κ cos(x − loc)} / (2π I₀(κ)), κ the concentration, x an angle. `variance` is the circular one, 1 − I₁(κ) / I₀(κ)."""

    arg_constraints: ClassVar[Constraints] = {"loc": constraints.real, "concentration": constraints.positive}

    def __init__(self, loc: Any, concentration: Any, validate_args: bool | None = None) -> None:
        self.loc, self.concentration = broadcast("VonMises", loc=loc, concentration=concentration)
        super().__init__(self.loc.shape, (), validate_args)

    @property
    def support(self) -> Constraint:
        return constraints.real

    @property
    def mean(self) -> Tensor:
        return self.loc

    @property
    def mode(self) -> Tensor:
        return self.loc

    @property
    def variance(self) -> Tensor:
        return _around(self.concentration)[1]

    def sample(self, sample_shape: Shape = (), *, generator: Generator | None = None) -> Tensor:
        with no_grad():
            turn = (
                random.von_mises(self.concentration, self._shape(sample_shape), generator=generator)
                + self.loc
            )
            return e.remainder(turn + math.pi, 2 * math.pi) - math.pi

    def log_prob(self, value: ArrayLike) -> Tensor:
        k = self.concentration
        off = e.sin(0.5 * (self._value(value) - self.loc))
        return -2.0 * k * off * off - _around(k)[0]

    def entropy(self) -> Tensor:
        k = self.concentration
        area, variance = _around(k)
        return area + k * variance
