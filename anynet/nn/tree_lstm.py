"""LSTMs over trees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from anynet.equations import equation
from anynet.nn.errors import ShapeError
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.ops import elementwise as e
from anynet.ops.activations import sigmoid
from anynet.tensor import Tensor
from anynet.typing import ArrayLike

__all__ = ["ChildSumTreeLSTM", "NaryTreeLSTM"]


@equation(
    "a[n] = W @ x[n] + b",
    "s[n: N] = sum[k](h[k, n])",
    "u[n: N] = U @ s[n]",
    "i[n, j: H] = sigmoid(a[n, j] + u[n, j])",
    "o[n, j: H] = sigmoid(a[n, H + j] + u[n, H + j])",
    "g[n, j: H] = tanh(a[n, 2 * H + j] + u[n, 2 * H + j])",
    "f[k, n, j: H] = sigmoid(a[n, 3 * H + j] + sum[l](V[j, l] * h[k, n, l]))",
    "c_new[n, j] = i[n, j] * g[n, j] + sum[k](f[k, n, j] * c[k, n, j])",
    "h_new[n, j] = o[n, j] * tanh(c_new[n, j])",
    where="""
        x[N, I]
        W[R, I] = input.weight
        b[R] = input.bias
        U[Q, H] = hidden.weight
        V[H, M] = forget.weight
        h[K, N, H]: of the children
        c[K, N, H]: of the children
    """,
    result="h_new c_new",
)
class ChildSumTreeLSTM(Module):
    """An LSTM over trees with any number of children (Tai et al. 2015, equations 2-8): the gates see the sum of the
    children's h, and each child has a forget gate of its own.

    `forward(x, children)`: x (batch, in), children a list of (h, c) → (h, c) of the node.

    >>> import anynet as an
    >>> tree = an.nn.ChildSumTreeLSTM(3, 2)
    >>> leaf = tree(an.ones((1, 3)))
    >>> h, c = tree(an.ones((1, 3)), [leaf, leaf, leaf])
    >>> h.shape
    (1, 2)
    """

    def __init__(
        self, in_features: int, out_features: int, device: str | None = None, dtype: Any = None
    ) -> None:
        self.out_features = out_features
        self.input = Linear(in_features, 4 * out_features, True, device, dtype)
        self.hidden = Linear(out_features, 3 * out_features, False, device, dtype)
        self.forget = Linear(out_features, out_features, False, device, dtype)

    def forward(
        self, x: ArrayLike, children: Sequence[tuple[ArrayLike, ArrayLike]] = ()
    ) -> tuple[Tensor, Tensor]:
        """(h, c) of a node."""
        n = self.out_features
        a = self.input(x)
        iou, f = a[:, : 3 * n], a[:, 3 * n :]
        c: Any = 0.0
        if children:
            total = children[0][0]
            for h, _ in children[1:]:
                total = total + h
            iou = iou + self.hidden(total)
            for h, before in children:
                c = c + sigmoid(f + self.forget(h)) * before
        i, o, u = (iou[:, k * n : (k + 1) * n] for k in range(3))
        c = c + sigmoid(i) * e.tanh(u)
        return sigmoid(o) * e.tanh(c), c


@equation(
    "a[n] = W @ x[n] + b",
    "u[n: N, r: R] = sum[k, l](U[k, r, l] * h[k, n, l])",
    "i[n, j: H] = sigmoid(a[n, j] + u[n, j])",
    "o[n, j: H] = sigmoid(a[n, H + j] + u[n, H + j])",
    "g[n, j: H] = tanh(a[n, 2 * H + j] + u[n, 2 * H + j])",
    "f[k: K, n, j: H] = sigmoid(a[n, 3 * H + j] + u[n, (3 + k) * H + j])",
    "c_new[n, j] = i[n, j] * g[n, j] + sum[k](f[k, n, j] * c[k, n, j])",
    "h_new[n, j] = o[n, j] * tanh(c_new[n, j])",
    where="""
        x[N, I]
        W[Q, I] = input.weight
        b[Q] = input.bias
        U[K, R, H]: children_weights of the children
        h[K, N, H]: of the children
        c[K, N, H]: of the children
    """,
    result="h_new c_new",
)
class NaryTreeLSTM(Module):
    """An LSTM over trees with at most `n_ary` children in order, each with weights of its own, also for the forget gates
    (Tai et al. 2015, equations 9-14).

    `forward(x, children)`: children a list of at most n_ary (h, c), or None where one is missing.

    >>> import anynet as an
    >>> tree = an.nn.NaryTreeLSTM(3, 2, n_ary=2)
    >>> left = tree(an.ones((1, 3)))
    >>> tree(an.ones((1, 3)), [left, None])[0].shape
    (1, 2)
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        n_ary: int = 2,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if n_ary < 1:
            msg = f"NaryTreeLSTM: n_ary must be ≥ 1, got {n_ary}"
            raise ValueError(msg)
        self.out_features, self.n_ary = out_features, n_ary
        self.input = Linear(in_features, 4 * out_features, True, device, dtype)
        self.children_weights = [
            Linear(out_features, (3 + n_ary) * out_features, False, device, dtype) for _ in range(n_ary)
        ]

    def forward(
        self, x: ArrayLike, children: Sequence[tuple[ArrayLike, ArrayLike] | None] = ()
    ) -> tuple[Tensor, Tensor]:
        """(h, c) of a node."""
        if len(children) > self.n_ary:
            msg = f"got {len(children)} children, expected at most {self.n_ary}"
            raise ShapeError(msg)
        n = self.out_features
        a = self.input(x)
        iou, f = a[:, : 3 * n], a[:, 3 * n :]
        gates = [f] * self.n_ary
        for child, weights in zip(children, self.children_weights, strict=False):
            if child is not None:
                b = weights(child[0])
                iou = iou + b[:, : 3 * n]
                gates = [g + b[:, (3 + k) * n : (4 + k) * n] for k, g in enumerate(gates)]
        i, o, u = (iou[:, k * n : (k + 1) * n] for k in range(3))
        c = sigmoid(i) * e.tanh(u)
        for child, gate in zip(children, gates, strict=False):
            if child is not None:
                c = c + sigmoid(gate) * child[1]
        return sigmoid(o) * e.tanh(c), c
