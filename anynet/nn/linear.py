"""Linear, bilinear, maxout and highway layers, and the identity."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from anynet.equations import equation
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.errors import ShapeError
from anynet.nn.module import Module
from anynet.ops import creation
from anynet.ops.activations import sigmoid
from anynet.ops.manipulation import reshape
from anynet.ops.reductions import max
from anynet.tensor import Parameter, Tensor
from anynet.typing import ArrayLike

__all__ = ["Bilinear", "Highway", "Identity", "Linear", "Maxout"]


@equation("y = x", where="x", gradient="dx = dy")
class Identity(Module):
    """Returns its input.

    >>> import anynet as an
    >>> an.nn.Identity()(an.ones(2))
    Tensor([1., 1.])
    """

    _pure = True

    def forward(self, x: ArrayLike) -> Tensor:
        """x"""
        return x  # type: ignore[return-value]


@equation(F.linear)
class Linear(Module):
    """An affine map of the last axis: x (…, in_features) → (…, out_features).

    Parameters `weight` (out, in) and `bias` (out), both drawn from U(−1/√in, 1/√in) as in PyTorch.

    >>> import anynet as an
    >>> an.nn.Linear(3, 2)(an.ones((4, 3))).shape
    (4, 2)

    Source: Rosenblatt: The perceptron (1958); the initial values: LeCun et al.: Efficient BackProp (1998).
    """

    _pure = True

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if in_features < 0 or out_features < 0:
            msg = f"Linear: in_features and out_features must be ≥ 0, got in_features={in_features}, out_features={out_features}"
            raise ValueError(msg)
        self.in_features, self.out_features = in_features, out_features
        self.weight = Parameter(creation.empty((out_features, in_features), device=device, dtype=dtype))
        self.bias = Parameter(creation.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Redraw the parameters."""
        bound = 1 / math.sqrt(self.in_features) if self.in_features else 0.0
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def label(self) -> str:
        return f"Linear {self.in_features}→{self.out_features}"

    def forward(self, x: ArrayLike) -> Tensor:
        """x Wᵀ + b"""
        if not x.shape or x.shape[-1] != self.in_features:
            last = x.shape[-1] if x.shape else "none"
            msg = f"got {tuple(x.shape)}: last axis {last}, expected {self.in_features}"
            raise ShapeError(msg)
        return F.linear(x, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
        )


@equation(F.bilinear)
class Bilinear(Module):
    """A bilinear map for each output: (…, in1_features), (…, in2_features) → (…, out_features).

    Parameters `weight` (out, in1, in2) and `bias` (out), both drawn from U(−1/√in1, 1/√in1).

    >>> import anynet as an
    >>> an.nn.Bilinear(2, 3, 4)(an.ones((5, 2)), an.ones((5, 3))).shape
    (5, 4)

    Source: Socher et al.: Reasoning with neural tensor networks (2013).
    """

    def __init__(
        self,
        in1_features: int,
        in2_features: int,
        out_features: int,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if min(in1_features, in2_features, out_features) < 1:
            msg = f"Bilinear: in1_features, in2_features and out_features must be ≥ 1, got {in1_features}, {in2_features}, {out_features}"
            raise ValueError(msg)
        self.in1_features, self.in2_features, self.out_features = in1_features, in2_features, out_features
        shape = (out_features, in1_features, in2_features)
        self.weight = Parameter(creation.empty(shape, device=device, dtype=dtype))
        self.bias = Parameter(creation.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Redraw the parameters."""
        bound = 1 / math.sqrt(self.in1_features)
        init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input1: ArrayLike, input2: ArrayLike) -> Tensor:
        """x₁ᵀ A x₂ + b"""
        if input1.shape[-1] != self.in1_features or input2.shape[-1] != self.in2_features:
            msg = (
                f"got {tuple(input1.shape)} and {tuple(input2.shape)}: expected (…, {self.in1_features}) and "
                f"(…, {self.in2_features})"
            )
            raise ShapeError(msg)
        return F.bilinear(input1, input2, self.weight, self.bias)

    def extra_repr(self) -> str:
        return (
            f"in1_features={self.in1_features}, in2_features={self.in2_features}, out_features={self.out_features}, "
            f"bias={self.bias is not None}"
        )


@equation(
    "y[..., k: K] = max[i: I](sum[j](W[k * I + i, j] * x[..., j]) + b[k * I + i])",
    where="x[..., J]; W[R, J] = linear.weight; b[R] = linear.bias or 0; K = out_features; I = pool_size",
)
class Maxout(Module):
    """The largest of `pool_size` linear functions, for each output (Goodfellow et al. 2013): (…, in) → (…, out).

    >>> import anynet as an
    >>> an.nn.Maxout(3, 2, pool_size=4)(an.ones((5, 3))).shape
    (5, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        pool_size: int,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if pool_size < 1:
            msg = f"Maxout: pool_size must be ≥ 1, got {pool_size}"
            raise ValueError(msg)
        self.out_features, self.pool_size = out_features, pool_size
        self.linear = Linear(in_features, out_features * pool_size, bias, device, dtype)

    def forward(self, x: ArrayLike) -> Tensor:
        """max_k (W_k x + b_k)"""
        y = self.linear(x)
        return max(reshape(y, (*y.shape[:-1], self.out_features, self.pool_size)), axis=-1)


@equation(
    "T[..., k] = sigmoid(sum[j](W_T[k, j] * x[..., j]) + b_T[k])",
    "H[..., k] = sum[j](W_H[k, j] * x[..., j]) + b_H[k]",
    "y = f(H) * T + x * (1 - T)",
    where="""
        x[..., J]
        W_H[K, J] = plain.weight
        b_H[K] = plain.bias or 0
        W_T[K, J] = transform.weight
        b_T[K] = transform.bias or 0
        f = activation
    """,
)
class Highway(Module):
    """A layer whose result replaces the input as far as a gate is open; its bias is −1 at first, so that x passes (Srivastava
    et al. 2015).

    >>> import anynet as an
    >>> an.nn.Highway(3)(an.ones((2, 3))).shape
    (2, 3)
    """

    def __init__(
        self,
        features: int,
        activation: Callable[[Tensor], Tensor] = F.relu,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.plain = Linear(features, features, bias, device, dtype)
        self.transform = Linear(features, features, bias, device, dtype)
        if self.transform.bias is not None:
            init.constant_(self.transform.bias, -1.0)
        self.activation = activation

    def forward(self, x: ArrayLike) -> Tensor:
        """A mixture of H(x) and x."""
        gate = sigmoid(self.transform(x))
        return self.activation(self.plain(x)) * gate + x * (1.0 - gate)
