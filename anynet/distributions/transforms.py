"""Invertible functions of samples, with the logarithm of the volume that they stretch, under PyTorch's names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from anynet.distributions import constraints
from anynet.distributions.constraints import Constraint
from anynet.distributions.distribution import eps, sum_last, tiny
from anynet.ops import elementwise as e
from anynet.ops import linalg
from anynet.ops.activations import softplus
from anynet.ops.creation import arange, asarray, eye, ones_like, tril, zeros_like
from anynet.ops.manipulation import broadcast_to, concat, expand_dims, reshape
from anynet.ops.reductions import cumulative_sum, sum
from anynet.ops.softmax import softmax
from anynet.ops.special import expit, log_expit, logit
from anynet.tensor import Tensor

__all__ = [
    "AbsTransform", "AffineTransform", "ComposeTransform", "ExpTransform", "IndependentTransform", "LowerCholeskyTransform",
    "PowerTransform", "ReshapeTransform", "SigmoidTransform", "SoftmaxTransform", "SoftplusTransform", "StickBreakingTransform",
    "TanhTransform", "Transform", "identity_transform",
]  # fmt: skip


class Transform:
    """y = T(x). `inv` is T⁻¹; ``log_abs_det_jacobian(x, y)`` is ln |∂y/∂x|, summed over the axes of one value.

    `domain` and `codomain` are constraints; `sign` is that of the derivative of an increasing or decreasing function; `bijective` says
    whether T has an inverse.
    """

    bijective = True
    domain: Constraint = constraints.real
    codomain: Constraint = constraints.real
    _sign: Any = 1

    @property
    def sign(self) -> Any:
        """1 for an increasing, −1 for a decreasing function."""
        if self._sign is None:
            msg = f"{type(self).__name__} is neither increasing nor decreasing, so it has no sign"
            raise NotImplementedError(msg)
        return self._sign

    @property
    def inv(self) -> Transform:
        """T⁻¹."""
        return _Inverse(self)

    def __call__(self, x: Any) -> Tensor:
        """T(x)."""
        return self._call(x if isinstance(x, Tensor) else asarray(x))

    def _call(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def _inverse(self, y: Tensor) -> Tensor:
        raise NotImplementedError

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """ln |∂y/∂x| at y = T(x)."""
        raise NotImplementedError

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of T(x) for an x of this shape."""
        return tuple(shape)

    def inverse_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of T⁻¹(y)."""
        return tuple(shape)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and _same(vars(self), vars(other))

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return f"{type(self).__name__}()"


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    def same(x: Any, y: Any) -> bool:
        if isinstance(x, Tensor) or isinstance(y, Tensor):
            return x is y
        return bool(x == y)

    return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)


class _Inverse(Transform):
    def __init__(self, forward: Transform) -> None:
        self.forward, self.bijective = forward, forward.bijective
        self.domain, self.codomain = forward.codomain, forward.domain

    @property
    def sign(self) -> Any:
        return self.forward.sign

    @property
    def inv(self) -> Transform:
        return self.forward

    def _call(self, x: Tensor) -> Tensor:
        return self.forward._inverse(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.forward._call(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return -self.forward.log_abs_det_jacobian(y, x)

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.forward.inverse_shape(shape)

    def inverse_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.forward.forward_shape(shape)


class ExpTransform(Transform):
    """y = eˣ."""

    codomain = constraints.positive

    def _call(self, x: Tensor) -> Tensor:
        return e.exp(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return e.log(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return x


class PowerTransform(Transform):
    """y = x^exponent, x > 0."""

    domain = codomain = constraints.positive

    def __init__(self, exponent: Any) -> None:
        self.exponent = exponent if isinstance(exponent, Tensor) else float(exponent)

    @property
    def sign(self) -> Any:
        return (
            e.sign(self.exponent) if isinstance(self.exponent, Tensor) else (1 if self.exponent > 0 else -1)
        )

    def _call(self, x: Tensor) -> Tensor:
        return x**self.exponent

    def _inverse(self, y: Tensor) -> Tensor:
        return y ** (1 / self.exponent)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return e.log(e.abs(self.exponent * y / x))


class SigmoidTransform(Transform):
    """y = 1 / (1 + e⁻ˣ)."""

    codomain = constraints.unit_interval

    def _call(self, x: Tensor) -> Tensor:
        return e.clip(expit(x), tiny(x), 1.0 - eps(x))

    def _inverse(self, y: Tensor) -> Tensor:
        return logit(e.clip(y, tiny(y), 1.0 - eps(y)))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return log_expit(x) + log_expit(-x)


class TanhTransform(Transform):
    """y = tanh x."""

    codomain = constraints.interval(-1.0, 1.0)

    def _call(self, x: Tensor) -> Tensor:
        return e.tanh(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return e.atanh(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return 2.0 * (math.log(2.0) - x - softplus(-2.0 * x))


class SoftplusTransform(Transform):
    """y = ln(1 + eˣ)."""

    codomain = constraints.positive

    def _call(self, x: Tensor) -> Tensor:
        return -log_expit(-x)

    def _inverse(self, y: Tensor) -> Tensor:
        return e.log(-e.expm1(-y)) + y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return log_expit(x)


class AbsTransform(Transform):
    """y = |x|, which is not invertible: its inverse gives y."""

    bijective = False
    codomain = constraints.nonnegative
    _sign = None

    def _call(self, x: Tensor) -> Tensor:
        return e.abs(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return y


class AffineTransform(Transform):
    """y = loc + scale · x; the last `event_dim` axes are one value."""

    def __init__(self, loc: Any, scale: Any, event_dim: int = 0) -> None:
        if isinstance(scale, (int, float)) and scale == 0:
            msg = "AffineTransform: scale must not be 0"
            raise ValueError(msg)
        self.loc, self.scale, self.event_dim = loc, scale, event_dim
        self.domain = self.codomain = (
            constraints.independent(constraints.real, event_dim) if event_dim else constraints.real
        )

    @property
    def sign(self) -> Any:
        return e.sign(self.scale) if isinstance(self.scale, Tensor) else (1 if self.scale > 0 else -1)

    def _call(self, x: Tensor) -> Tensor:
        return self.loc + self.scale * x  # type: ignore[no-any-return]

    def _inverse(self, y: Tensor) -> Tensor:
        return (y - self.loc) / self.scale  # type: ignore[no-any-return]

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        size = e.log(e.abs(self.scale)) if isinstance(self.scale, Tensor) else math.log(abs(self.scale))
        return sum_last(zeros_like(x) + size, self.event_dim)

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return tuple(self._call(zeros_like(broadcast_to(asarray(0.0), tuple(shape)))).shape)


class SoftmaxTransform(Transform):
    """y = softmax(x), which is not invertible: its inverse gives ln y."""

    bijective = False
    domain = constraints.real_vector
    codomain = constraints.simplex
    _sign = None

    def _call(self, x: Tensor) -> Tensor:
        return softmax(x, axis=-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return e.log(y)


class StickBreakingTransform(Transform):
    """K − 1 numbers to K on the simplex: each takes its share σ(xᵢ − ln(K − i)) of what is left of a stick of length 1."""

    domain = constraints.real_vector
    codomain = constraints.simplex
    _sign = None

    def _offset(self, x: Tensor) -> Tensor:
        k = x.shape[-1]
        return e.log(k + 1.0 - arange(1, k + 1, dtype=x.dtype, device=x.device))

    def _call(self, x: Tensor) -> Tensor:
        z = x - self._offset(x)
        left = e.exp(cumulative_sum(log_expit(-z), axis=-1))
        one = ones_like(x[..., :1])
        return concat([expit(z), one], axis=-1) * concat([one, left], axis=-1)

    def _inverse(self, y: Tensor) -> Tensor:
        part = y[..., :-1]
        left = e.maximum(1.0 - cumulative_sum(part, axis=-1), tiny(y))
        return e.log(part) - e.log(left) + self._offset(part)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        z = x - self._offset(x)
        return sum(-z + log_expit(z) + e.log(y[..., :-1]), axis=-1)

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (*shape[:-1], shape[-1] + 1)

    def inverse_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return (*shape[:-1], shape[-1] - 1)


class LowerCholeskyTransform(Transform):
    """A square matrix to a lower triangular one with positive diagonal: that of e^diagonal."""

    domain = constraints.independent(constraints.real, 2)
    codomain = constraints.lower_cholesky
    _sign = None

    def _change(self, x: Tensor, f: Any) -> Tensor:
        identity = eye(x.shape[-1], dtype=x.dtype, device=x.device)
        return tril(x, k=-1) + expand_dims(f(linalg.diagonal(x)), axis=-1) * identity

    def _call(self, x: Tensor) -> Tensor:
        return self._change(x, e.exp)

    def _inverse(self, y: Tensor) -> Tensor:
        return self._change(y, e.log)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Of the lower triangle."""
        return sum(linalg.diagonal(x), axis=-1)


class IndependentTransform(Transform):
    """A transform of whole vectors (matrices …) of values: the logarithms are summed over their axes."""

    def __init__(self, base_transform: Transform, reinterpreted_batch_ndims: int) -> None:
        if reinterpreted_batch_ndims < 0:
            msg = f"IndependentTransform: reinterpreted_batch_ndims must be ≥ 0, got {reinterpreted_batch_ndims}"
            raise ValueError(msg)
        self.base_transform, self.reinterpreted_batch_ndims = base_transform, reinterpreted_batch_ndims
        self.bijective = base_transform.bijective
        self.domain = constraints.independent(base_transform.domain, reinterpreted_batch_ndims)
        self.codomain = constraints.independent(base_transform.codomain, reinterpreted_batch_ndims)

    @property
    def sign(self) -> Any:
        return self.base_transform.sign

    def _call(self, x: Tensor) -> Tensor:
        return self.base_transform._call(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self.base_transform._inverse(y)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        return sum_last(self.base_transform.log_abs_det_jacobian(x, y), self.reinterpreted_batch_ndims)

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.base_transform.forward_shape(shape)

    def inverse_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self.base_transform.inverse_shape(shape)


class ReshapeTransform(Transform):
    """The last axes, of shape `in_shape`, as `out_shape`."""

    def __init__(self, in_shape: Sequence[int], out_shape: Sequence[int]) -> None:
        self.in_shape, self.out_shape = tuple(in_shape), tuple(out_shape)
        if math.prod(self.in_shape) != math.prod(self.out_shape):
            msg = f"ReshapeTransform: in_shape and out_shape must hold as many elements, got {self.in_shape} and {self.out_shape}"
            raise ValueError(msg)
        self.domain = constraints.independent(constraints.real, len(self.in_shape))
        self.codomain = constraints.independent(constraints.real, len(self.out_shape))

    def _call(self, x: Tensor) -> Tensor:
        return reshape(x, self.forward_shape(x.shape))

    def _inverse(self, y: Tensor) -> Tensor:
        return reshape(y, self.inverse_shape(y.shape))

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        n = len(self.in_shape)
        return sum_last(0.0 * x, n)

    def _changed(
        self, shape: Sequence[int], before: tuple[int, ...], after: tuple[int, ...]
    ) -> tuple[int, ...]:
        cut = len(shape) - len(before)
        if cut < 0 or tuple(shape[cut:]) != before:
            msg = f"ReshapeTransform: the last axes must be {before}, got shape {tuple(shape)}"
            raise ValueError(msg)
        return (*shape[:cut], *after)

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self._changed(shape, self.in_shape, self.out_shape)

    def inverse_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        return self._changed(shape, self.out_shape, self.in_shape)


class ComposeTransform(Transform):
    """One transform after the other, the first in the list first."""

    def __init__(self, parts: Sequence[Transform]) -> None:
        self.parts = list(parts)
        self.bijective = all(p.bijective for p in self.parts)
        if self.parts:
            least, domain = _event_axes(self.parts)
            self.domain = constraints.independent(
                self.parts[0].domain, domain - self.parts[0].domain.event_dim
            )
            last = self.parts[-1].codomain
            self.codomain = (
                constraints.independent(last, least - last.event_dim) if least > last.event_dim else last
            )
            if domain == self.parts[0].domain.event_dim:
                self.domain = self.parts[0].domain

    @property
    def sign(self) -> Any:
        sign: Any = 1
        for part in self.parts:
            sign = sign * part.sign
        return sign

    @property
    def inv(self) -> Transform:
        return ComposeTransform([p.inv for p in reversed(self.parts)])

    def _call(self, x: Tensor) -> Tensor:
        for part in self.parts:
            x = part._call(x)
        return x

    def _inverse(self, y: Tensor) -> Tensor:
        for part in reversed(self.parts):
            y = part._inverse(y)
        return y

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        if not self.parts:
            return zeros_like(x)
        axes, total = self.domain.event_dim, None
        for part in self.parts:
            y = part._call(x)
            own = sum_last(part.log_abs_det_jacobian(x, y), axes - part.domain.event_dim)
            total = own if total is None else total + own
            axes += part.codomain.event_dim - part.domain.event_dim
            x = y
        return total  # type: ignore[return-value]

    def forward_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        for part in self.parts:
            shape = part.forward_shape(shape)
        return tuple(shape)

    def inverse_shape(self, shape: Sequence[int]) -> tuple[int, ...]:
        for part in reversed(self.parts):
            shape = part.inverse_shape(shape)
        return tuple(shape)


def _event_axes(parts: Sequence[Transform]) -> tuple[int, int]:
    """How many axes one value has after the last and before the first, at least."""
    axes = parts[-1].codomain.event_dim
    for part in reversed(parts):
        axes = max(axes + part.domain.event_dim - part.codomain.event_dim, part.domain.event_dim)
    before = axes
    for part in parts:
        axes = max(axes, part.domain.event_dim) + part.codomain.event_dim - part.domain.event_dim
    return axes, before


identity_transform = ComposeTransform([])
