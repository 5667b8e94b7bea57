"""Weight normalization, spectral normalization and orthogonal matrices as parametrizations."""

from __future__ import annotations

import math
from typing import Any

from anynet import streams
from anynet.nn.module import Module
from anynet.nn.utils.parametrize import register_parametrization
from anynet.ops import creation, linalg
from anynet.ops import elementwise as e
from anynet.ops.data_types import finfo
from anynet.ops.manipulation import broadcast_to, concat, expand_dims, permute_dims, reshape
from anynet.ops.reductions import max as max_over
from anynet.ops.reductions import sum
from anynet.tensor import Buffer, Tensor, no_grad
from anynet.typing import ArrayLike

__all__ = ["orthogonal", "spectral_norm", "weight_norm"]


def norm_but(v: ArrayLike, dim: int | None) -> Tensor:
    """‖v‖ over all axes but one (over all of them with None), which stay with length 1."""
    if dim is None:
        return linalg.vector_norm(v)
    axes = tuple(i for i in range(len(v.shape)) if i != dim % len(v.shape))
    return linalg.vector_norm(v, axis=axes, keepdims=True)


def unit(x: ArrayLike, eps: float) -> Tensor:
    """x / ‖x‖"""
    return x / e.maximum(linalg.vector_norm(x), eps)


def as_matrix(weight: ArrayLike, dim: int) -> Tensor:
    """(the axis `dim`, all others)"""
    if dim:
        weight = permute_dims(weight, [dim, *(i for i in range(len(weight.shape)) if i != dim)])
    return reshape(weight, (weight.shape[0], math.prod(weight.shape[1:])))


def check_power(weight: ArrayLike, n_power_iterations: int, dim: int) -> int:
    """`dim` counted from the first axis of the weight; errors for what the power method cannot do."""
    ndim = len(weight.shape)
    if not -ndim <= dim < ndim:
        msg = f"spectral_norm: dim must be an axis of the weight, got {dim} for {ndim} axes"
        raise IndexError(msg)
    if n_power_iterations < 1:
        msg = f"spectral_norm: n_power_iterations must be ≥ 1, got {n_power_iterations}"
        raise ValueError(msg)
    return dim % ndim


def power_method(matrix: Tensor, left: Buffer, right: Buffer, eps: float, times: int) -> None:
    """Bring the unit vectors u and v closer to those of the largest singular value: u ← A v, v ← Aᵀ u."""
    with no_grad():
        u, v, plain = left.detach(), right.detach(), matrix.detach()
        for _ in range(times):
            u = unit(plain @ v, eps)
            v = unit(plain.T @ u, eps)
        left.assign_(u)
        right.assign_(v)


def over_largest(weight: ArrayLike, matrix: ArrayLike, left: Buffer, right: Buffer) -> Tensor:
    """w / (uᵀ A v), u and v as they are now: a later call moves them on."""
    return weight / sum((left.detach() + 0.0) * (matrix @ (right.detach() + 0.0)))


def usual_dim(module: Module) -> int:
    """The axis of a weight that stands for outputs."""
    return 1 if "ConvTranspose" in type(module).__name__ else 0


class _WeightNorm(Module):
    def __init__(self, dim: int | None) -> None:
        self.dim = dim

    def forward(self, weight_g: ArrayLike, weight_v: ArrayLike) -> Tensor:
        return weight_v * (weight_g / norm_but(weight_v, self.dim))

    def right_inverse(self, weight: ArrayLike) -> tuple[Any, Any]:
        return norm_but(weight, self.dim), weight


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
    def __init__(self, weight: Tensor, n_power_iterations: int, dim: int, eps: float) -> None:
        self.dim = check_power(weight, n_power_iterations, dim)
        self.n_power_iterations, self.eps = n_power_iterations, eps
        if len(weight.shape) > 1:
            matrix = as_matrix(weight.detach(), self.dim)
            made: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
            h, w = matrix.shape
            self._u = Buffer(unit(Tensor(streams.normal((h,)), **made), eps))
            self._v = Buffer(unit(Tensor(streams.normal((w,)), **made), eps))
            power_method(matrix, self._u, self._v, eps, 15)

    def forward(self, weight: ArrayLike) -> Tensor:
        if len(weight.shape) == 1:
            return unit(weight, self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            power_method(matrix, self._u, self._v, self.eps, self.n_power_iterations)
        return over_largest(weight, matrix, self._u, self._v)

    def right_inverse(self, value: ArrayLike) -> Any:
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
    dim = usual_dim(module) if dim is None else dim
    made = _SpectralNorm(weight, n_power_iterations, dim, eps).train(module.training)
    return register_parametrization(module, name, made)


def _exponential(a: Any) -> Any:
    """e^A = (e^{A/64})^64, the inner one by its Taylor series up to the 18th power: exact to the last digits for ‖A‖ ≤ 64,
    which skew-symmetric matrices of trained layers keep far below."""
    one = creation.eye(a.shape[-1], dtype=a.dtype, device=a.device)
    small, found = a / 64.0, one
    for k in range(18, 0, -1):
        found = one + (small @ found) / float(k)
    for _ in range(6):
        found = found @ found
    return found


def _reflections(x: Any) -> Any:
    """The first columns of the product of the reflections I − τ v vᵀ, v the columns of x below the diagonal with a 1 on it,
    each column times the sign on the diagonal of x."""
    n, k = x.shape[-2:]
    unit = creation.eye(n, k, dtype=x.dtype, device=x.device)
    v = creation.tril(x, k=-1) + unit
    q = broadcast_to(unit, x.shape)
    for i in range(k - 1, -1, -1):
        column = v[..., i : i + 1]
        tau = 2.0 / sum(column * column, axis=-2, keepdims=True)
        q = q - tau * column * sum(column * q, axis=-2, keepdims=True)
    return q * expand_dims(e.sign(linalg.diagonal(x)), axis=-2).detach()


def _orthonormal(x: Any) -> Any:
    """The orthogonal factor of x with a positive diagonal of the triangular one."""
    q, r = linalg.qr(x)
    return q * expand_dims(e.sign(linalg.diagonal(r)), axis=-2)


class _Orthogonal(Module):
    def __init__(self, weight: ArrayLike, orthogonal_map: str, use_trivialization: bool) -> None:
        self.shape, self.orthogonal_map = tuple(weight.shape), orthogonal_map
        self.base: Any = None
        if use_trivialization:
            n = max(self.shape[-2:])
            made: dict[str, Any] = {"dtype": weight.dtype, "device": weight.device}
            self.base = Buffer(creation.zeros((*self.shape[:-2], n, n), **made))

    def forward(self, x: ArrayLike) -> Tensor:
        wide = x.shape[-2] < x.shape[-1]
        if wide:
            x = linalg.matrix_transpose(x)
        n, k = x.shape[-2:]
        if self.orthogonal_map == "householder":
            q = _reflections(x)
        else:
            x = creation.tril(x, k=0)
            if n != k:
                zeros = creation.zeros((*x.shape[:-1], n - k), dtype=x.dtype, device=x.device)
                x = concat([x, zeros], axis=-1)
            a = x - linalg.matrix_transpose(x)
            if self.orthogonal_map == "matrix_exp":
                q = _exponential(a)
            else:
                one = creation.eye(n, dtype=a.dtype, device=a.device)
                q = linalg.solve(one - 0.5 * a, one + 0.5 * a)
            q = q[..., :k]
        if self.base is not None:
            q = self.base.detach() @ q
        return linalg.matrix_transpose(q) if wide else q

    def right_inverse(self, value: ArrayLike) -> Any:
        if tuple(value.shape) != self.shape:
            msg = f"orthogonal: expected a weight of shape {self.shape}, got {tuple(value.shape)}"
            raise ValueError(msg)
        wide = self.shape[-2] < self.shape[-1]
        q = linalg.matrix_transpose(value) if wide else value
        n, k = q.shape[-2:]
        made: dict[str, Any] = {"dtype": value.dtype, "device": value.device}
        if self.base is None:
            if self.orthogonal_map != "householder":
                msg = f"orthogonal: with use_trivialization=False and {self.orthogonal_map!r} the weight cannot be assigned"
                raise NotImplementedError(msg)
            found = _vectors(q)
            return linalg.matrix_transpose(found) if wide else found
        if n != k:
            more = Tensor(streams.normal((*q.shape[:-1], n - k)), **made)
            q = _orthonormal(concat([q, more], axis=-1))
        else:
            apart = linalg.matrix_transpose(q) @ q - creation.eye(n, **made)
            if not bool(e.less(max_over(e.abs(apart)), 10.0 * n * float(finfo(value.dtype).eps))):
                q = _orthonormal(q)
        self.base.assign_(q)
        return -creation.eye(*self.shape[-2:], **made) + creation.zeros(self.shape, **made)


def _vectors(q: Any) -> Any:
    """The Householder vectors of the columns of q below the diagonal, and on it the signs (for one matrix)."""
    if len(q.shape) != 2:
        msg = "orthogonal: householder without trivialization must be given one matrix, got a batch"
        raise NotImplementedError(msg)
    rows = [[float(v) for v in row] for row in q.tolist()]
    n, k = len(rows), len(rows[0])
    out = [[0.0] * k for _ in range(n)]
    for i in range(k):
        column = [rows[j][i] for j in range(i, n)]
        alpha, norm = column[0], math.sqrt(math.fsum(v * v for v in column))
        below = math.fsum(v * v for v in column[1:])
        beta = alpha if below == 0 else -math.copysign(norm, alpha)
        v = [1.0, *((x / (alpha - beta) if below else 0.0) for x in column[1:])]
        tau = 0.0 if below == 0 else 2.0 / math.fsum(x * x for x in v)
        for c in range(i, k):
            dot = math.fsum(v[j] * rows[i + j][c] for j in range(n - i))
            for j in range(n - i):
                rows[i + j][c] -= tau * v[j] * dot
        for j in range(1, n - i):
            out[i + j][i] = v[j]
        # I − τ v vᵀ with τ from v alone: where nothing is to be reflected, v = e_i flips the sign
        out[i][i] = math.copysign(1.0, rows[i][i]) * (-1.0 if tau == 0.0 else 1.0)
    return Tensor(out, dtype=q.dtype, device=q.device)


def orthogonal(
    module: Module,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
) -> Module:
    """The weight (…, m, n) with orthonormal columns, or rows where m < n, as a function of a free matrix X (Lezcano-Casado 2019).

    `orthogonal_map`: "matrix_exp", e^A, or "cayley", (I − A/2)⁻¹ (I + A/2), with A = tril(X) − tril(X)ᵀ; "householder", the product of
    the reflections along the columns of X. Unless given, "matrix_exp" for square weights, else "householder". With
    `use_trivialization` the result is multiplied by the buffer `base`, so that the weight begins as the nearest to what it was.

    >>> import anynet as an
    >>> layer = an.nn.utils.parametrizations.orthogonal(an.nn.Linear(3, 3))
    >>> bool(an.all(an.abs(layer.weight @ layer.weight.T - an.eye(3)) < 1e-5))
    True
    """
    weight = getattr(module, name, None)
    if not isinstance(weight, Tensor):
        msg = f"{type(module).__name__} has no parameter {name!r}"
        raise ValueError(msg)
    if len(weight.shape) < 2:
        msg = f"orthogonal: a matrix or a batch of them, got shape {tuple(weight.shape)}"
        raise ValueError(msg)
    if orthogonal_map is None:
        orthogonal_map = "matrix_exp" if weight.shape[-2] == weight.shape[-1] else "householder"
    if orthogonal_map not in ("matrix_exp", "cayley", "householder"):
        msg = f"orthogonal: orthogonal_map must be 'matrix_exp', 'cayley' or 'householder', got {orthogonal_map!r}"
        raise ValueError(msg)
    if not weight.dtype.is_floating:
        msg = f"orthogonal: a real weight, got {weight.dtype}"
        raise TypeError(msg)
    made = _Orthogonal(weight, orthogonal_map, use_trivialization)
    return register_parametrization(module, name, made, unsafe=True)
