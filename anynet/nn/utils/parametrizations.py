"""Weight normalization and spectral normalization as parametrizations."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

from anynet import random
from anynet.nn.module import Module, walk
from anynet.nn.utils.parametrize import register_parametrization
from anynet.ops import elementwise as e
from anynet.ops.manipulation import permute_dims, reshape
from anynet.ops.reductions import sum
from anynet.tensor import Buffer, Tensor, no_grad

__all__ = ["spectral_norm", "weight_norm"]


def _norm_but(v: Any, dim: int | None) -> Any:
    """‖v‖ over all axes but one (over all of them with None), which stay with length 1."""
    if dim is None:
        return sum(v * v) ** 0.5
    axes = tuple(i for i in range(len(v.shape)) if i != dim % len(v.shape))
    return sum(v * v, axis=axes, keepdims=True) ** 0.5


class _WeightNorm(Module):
    def __init__(self, dim: int | None) -> None:
        self.dim = dim

    def forward(self, weight_g: Any, weight_v: Any) -> Any:
        return weight_v * (weight_g / _norm_but(weight_v, self.dim))

    def right_inverse(self, weight: Any) -> tuple[Any, Any]:
        return _norm_but(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """w = g v / ‖v‖: length and direction as parameters of their own (Salimans & Kingma 2016), ‖v‖ over all axes but `dim`,
    or over all with None. In the state g is ``parametrizations.weight.original0`` and v ``…original1``.

    >>> import anynet as an
    >>> layer = an.nn.utils.parametrizations.weight_norm(an.nn.Linear(3, 2))
    >>> {k: v.shape for k, v in layer.state_dict().items()}
    {'bias': (2,), 'parametrizations.weight.original0': (2, 1), 'parametrizations.weight.original1': (2, 3)}
    """
    dim = None if dim == -1 else dim  # as in PyTorch
    return register_parametrization(module, name, _WeightNorm(dim), unsafe=True)


class _SpectralNorm(Module):
    def __init__(self, weight: Any, n_power_iterations: int, dim: int, eps: float) -> None:
        ndim = len(weight.shape)
        if not -ndim <= dim < ndim:
            msg = f"spectral_norm: dim {dim} is not an axis of a weight of {ndim} axes"
            raise IndexError(msg)
        if n_power_iterations < 1:
            msg = f"spectral_norm: n_power_iterations is at least 1, got {n_power_iterations}"
            raise ValueError(msg)
        self.n_power_iterations, self.dim, self.eps = n_power_iterations, dim % ndim, eps
        if ndim > 1:
            matrix = self._matrix(weight.detach())
            made = {"dtype": weight.dtype, "device": weight.device}
            h, w = matrix.shape
            self._u = Buffer(self._unit(Tensor(random.normal((h,)), **made)))
            self._v = Buffer(self._unit(Tensor(random.normal((w,)), **made)))
            with no_grad():
                self._iterate(matrix, 15)

    def _members(self, *kinds: type) -> Iterator[tuple[str, Any]]:
        """The state has PyTorch's names, which begin with an underscore."""
        yield from super()._members(*kinds)
        for name in ("_u", "_v"):
            if name in self.__dict__:
                yield from walk(self.__dict__[name], name, kinds)

    def _matrix(self, weight: Any) -> Any:
        """(the axis `dim`, all others)"""
        if self.dim:
            order = [self.dim, *(i for i in range(len(weight.shape)) if i != self.dim)]
            weight = permute_dims(weight, order)
        return reshape(weight, (weight.shape[0], math.prod(weight.shape[1:])))

    def _unit(self, x: Any) -> Any:
        return x / e.maximum(sum(x * x) ** 0.5, self.eps)

    def _iterate(self, matrix: Any, times: int) -> None:
        """The power method: u and v come closer to the vectors of the largest singular value."""
        u, v = self._u.detach(), self._v.detach()
        for _ in range(times):
            u = self._unit(matrix @ v)
            v = self._unit(matrix.T @ u)
        self._u.assign_(u)
        self._v.assign_(v)

    def forward(self, weight: Any) -> Any:
        if len(weight.shape) == 1:
            return self._unit(weight)
        matrix = self._matrix(weight)
        if self.training:
            with no_grad():
                self._iterate(matrix.detach(), self.n_power_iterations)
        u, v = self._u.detach() + 0.0, self._v.detach() + 0.0  # as they are now: a later call moves them on
        return weight / sum(u * (matrix @ v))

    def right_inverse(self, value: Any) -> Any:
        return value


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """w = original / σ, σ the largest singular value of the weight as a matrix (axis `dim`, all others), followed by
    `n_power_iterations` of the power method at each use in training (Miyato et al. 2018). `dim` is 0, for transposed
    convolutions 1, unless given.

    >>> import anynet as an
    >>> layer = an.nn.utils.parametrizations.spectral_norm(an.nn.Linear(3, 2))
    >>> round(an.linalg.matrix_norm(layer.weight, ord=2).item(), 2)
    1.0
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        msg = f"{type(module).__name__} has no parameter {name!r}"
        raise ValueError(msg)
    if dim is None:
        dim = 1 if "ConvTranspose" in type(module).__name__ else 0
    made = _SpectralNorm(weight, n_power_iterations, dim, eps).train(module.training)
    return register_parametrization(module, name, made)
