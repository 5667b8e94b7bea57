"""Layers over graphs: graph convolution (GCN) and graph attention (GAT), on lists of edges or dense adjacency matrices."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from anynet.equations import equation
from anynet.nn import functional as F
from anynet.nn import init
from anynet.nn.errors import ShapeError
from anynet.nn.linear import Linear
from anynet.nn.module import Module
from anynet.ops.creation import arange, asarray, empty, full, zeros
from anynet.ops.elementwise import exp, where
from anynet.ops.indexing import check_index, index_add, take
from anynet.ops.manipulation import astype, concat, expand_dims, reshape, stack
from anynet.ops.reductions import cumulative_sum, mean
from anynet.ops.reductions import sum as sum_over
from anynet.ops.searching import argsort
from anynet.tensor import Parameter, Tensor, to_plain, wrap
from anynet.typing import ArrayLike
from anynet_backends import backend_of

__all__ = ["GATConv", "GCNConv"]


class _Edges(NamedTuple):
    """Edges from `source` to `target`, integers (E,), and their weights (E,), or None for 1."""

    source: Tensor
    target: Tensor
    weight: Tensor | None


def _edges(where_: str, x: ArrayLike, edges: ArrayLike, weight: ArrayLike | None) -> _Edges:
    """The edges of a list of them (2, E), or of a dense adjacency matrix (n, n), whose entry i, j is the weight from i to j."""
    if len(x.shape) != 2:
        msg = f"{where_}: features of nodes must have the shape (n, features), got {tuple(x.shape)}"
        raise ShapeError(msg)
    n, shape = int(x.shape[0]), tuple(edges.shape)
    plain = to_plain(edges)
    xp = backend_of(plain)
    if xp.isdtype(plain.dtype, "integral") and len(shape) == 2 and shape[0] == 2:
        if weight is not None and tuple(weight.shape) != (shape[1],):
            msg = f"{where_}: {shape[1]} edges need edge_weight of shape ({shape[1]},), got {tuple(weight.shape)}"
            raise ShapeError(msg)
        index = wrap(check_index(plain, n, where_, negative=False))
        return _Edges(index[0, :], index[1, :], None if weight is None else asarray(weight))
    if shape != (n, n):
        msg = (
            f"{where_}: edges must be integers (2, edges), rows of sources and targets, or an adjacency matrix ({n}, {n}), "
            f"got {shape} of {xp.dtype_name(plain.dtype)}"
        )
        raise ShapeError(msg)
    if weight is not None:
        msg = f"{where_}: an adjacency matrix has the weights in it; leave edge_weight out"
        raise ValueError(msg)
    found = xp.nonzero(plain)
    source, target = wrap(xp.astype(found[0], xp.int64)), wrap(xp.astype(found[1], xp.int64))
    dense = asarray(edges)
    if dense.dtype.kind != "real":
        return _Edges(source, target, astype(take(reshape(dense, (-1,)), source * n + target), x.dtype))
    return _Edges(source, target, take(reshape(dense, (-1,)), source * n + target))


def _with_loops(source: Tensor, target: Tensor, n: int) -> tuple[Tensor, Tensor]:
    loops = arange(n, dtype=source.dtype, device=source.device)
    return concat([source, loops]), concat([target, loops])


def _summed(values: Tensor, target: Tensor, n: int) -> Tensor:
    """Σ over the edges into each node: (E, …) → (n, …)."""
    start = zeros((n, *values.shape[1:]), dtype=values.dtype, device=values.device)
    return index_add(start, target, values)


def _largest(scores: Tensor, target: Tensor, n: int) -> Tensor:
    """The largest score of the edges into each node, (E, heads) → (n, heads), without a gradient; each node must have an edge.

    Sorted by node and score, it is the last of each node: the array API has no scatter-maximum.
    """
    scores = scores.detach()
    ones = full(target.shape, 1, dtype=target.dtype, device=target.device)
    last = cumulative_sum(_summed(ones, target, n)) - 1
    found = []
    for head in range(scores.shape[1]):
        column = scores[:, head]
        order = argsort(column)
        order = take(order, argsort(take(target, order), stable=True))
        found.append(take(take(column, order), last))
    return stack(found, axis=1)


@equation(
    "B[i, j] = A[i, j] + ((2 if improved else 1) if i == j and A[i, j] == 0 and loops else 0)",
    "d[j] = sum[i](B[i, j])",
    "r[j] = 1 / sqrt(d[j]) if normalize else 1",
    "h[j, k] = sum[c](W[k, c] * x[j, c])",
    "y[i, k] = sum[j](r[j] * B[j, i] * r[i] * h[j, k]) + b[k]",
    where="""
        x[N, C]
        A[N, M] = edges: the adjacency matrix, from row to column
        W[K, C] = lin.weight
        b[K] = bias or 0
        improved
        loops = add_self_loops
        normalize
    """,
)
class GCNConv(Module):
    """Graph convolution of features of nodes along edges.

    A node takes the sum of its neighbours' features, and of its own, each divided by the roots of both degrees.

    `forward(x, edges, edge_weight=None)`: x (n, in_channels); edges integers (2, E), sources above targets (an undirected edge stands there
    twice), with weights (E,), or an adjacency matrix (n, n) of any other dtype (also integers, for n ≠ 2), entry i, j the weight from i to
    j. → (n, out_channels), of the dtype of x.

    Parameters:
      in_channels, out_channels: features of a node before and after.
      improved: Â = A + 2 I.
      add_self_loops: the I; a node that has a loop already keeps its weight.
      normalize: divide by the roots of the degrees; a node of degree 0 gets nothing.
      bias: add b.

    Parameters' names: lin.weight, bias, as PyTorch Geometric's. W by Glorot's uniform distribution, b zero.

    Errors: `ShapeError` for other shapes, IndexError for nodes that are not there.

    >>> import anynet as an
    >>> path = an.asarray([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> an.nn.GCNConv(3, 2)(an.ones((3, 3)), path).shape
    (3, 2)
    >>> matrix = an.asarray([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    >>> an.nn.GCNConv(3, 2)(an.ones((3, 3)), matrix).shape
    (3, 2)

    Source: Kipf and Welling: Semi-supervised classification with graph convolutional networks (2017), equation 2.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        improved: bool = False,
        add_self_loops: bool = True,
        normalize: bool = True,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        self.in_channels, self.out_channels = in_channels, out_channels
        self.improved, self.add_self_loops, self.normalize = improved, add_self_loops, normalize
        self.lin = Linear(in_channels, out_channels, False, device, dtype)
        self.bias = Parameter(zeros((out_channels,), dtype=dtype, device=device)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        init.xavier_uniform_(self.lin.weight)
        if self.bias is not None:
            init.zeros_(self.bias)

    def forward(self, x: ArrayLike, edges: ArrayLike, edge_weight: ArrayLike | None = None) -> Tensor:
        """The nodes' new features."""
        source, target, weight = _edges("GCNConv", x, edges, edge_weight)
        n = int(x.shape[0])
        h = self.lin(x)
        w = full(source.shape, 1.0, dtype=h.dtype, device=h.device) if weight is None else weight
        if self.add_self_loops:
            loop = where(source == target, full(source.shape, 1.0, dtype=w.dtype, device=w.device), 0.0)
            missing = astype(_summed(loop, target, n) == 0, w.dtype)
            w = concat([w, (2.0 if self.improved else 1.0) * missing])
            source, target = _with_loops(source, target, n)
        if self.normalize:
            degree = _summed(w, target, n)
            alive = degree > 0
            root = where(alive, where(alive, degree, 1.0) ** -0.5, 0.0)
            w = take(root, source) * w * take(root, target)
        y = _summed(take(h, source, axis=0) * expand_dims(w, axis=-1), target, n)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}"


@equation(
    "h[j, q: Q, k: K] = sum[c](W[q * K + k, c] * x[j, c])",
    "s[i, j: N, q] = sum[k](u[0, q, k] * h[i, q, k]) + sum[k](v[0, q, k] * h[j, q, k])",
    "n[i, j] = [A[j, i] != 0 or i == j and loops]",
    "α[i, j, q] = softmax[j, n[i, j] == 1](s[i, j, q] if s[i, j, q] > 0 else λ * s[i, j, q])",
    """
        y[i, o: (Q * K if concat else K)] = b[o] + (sum[j](α[i, j, o // K] * h[j, o // K, o % K]) if concat else
            mean[q](sum[j](α[i, j, q] * h[j, q, o])))
    """,
    where="""
        x[N, C]
        A[N, M] = edges: the adjacency matrix, from row to column
        W[R, C] = lin.weight
        u[B, Q, K] = att_dst
        v[B, Q, K] = att_src
        b[O] = bias or 0
        λ = negative_slope
        loops = add_self_loops
        concat: without dropout
    """,
)
class GATConv(Module):
    """Graph attention: a mean of the neighbours weighted by how they fit; each head has its
    own W and a.

    `forward(x, edges)`: x (n, in_channels), edges as for `GCNConv` (weights of an adjacency matrix count as yes or no) →
    (n, heads · out_channels), or with ``concat=False`` the mean over the heads (n, out_channels).

    Parameters:
      in_channels, out_channels: features of a node before, and of each head after.
      heads: how many attentions work beside each other.
      concat: put the heads in a row; False takes their mean.
      negative_slope: of the LeakyReLU.
      dropout: the share of the weights α that is dropped in training.
      add_self_loops: each node sees itself (once). Without it a node without neighbours gets zeros.
      bias: add b.

    Parameters' names: lin.weight, att_src, att_dst (1, heads, out_channels), bias, as PyTorch Geometric's. Glorot's uniform distribution,
    b zero.

    Errors: `ShapeError` for other shapes, IndexError for nodes that are not there, ValueError for a dropout outside [0, 1].

    >>> import anynet as an
    >>> path = an.asarray([[0, 1, 1, 2], [1, 0, 2, 1]])
    >>> an.nn.GATConv(3, 2, heads=4)(an.ones((3, 3)), path).shape
    (3, 8)
    >>> matrix = an.asarray([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    >>> an.nn.GATConv(3, 2)(an.ones((3, 3)), matrix).shape
    (3, 2)

    Source: Veličković et al.: Graph attention networks (2018), equations 1 to 6.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        heads: int = 1,
        concat: bool = True,
        negative_slope: float = 0.2,
        dropout: float = 0.0,
        add_self_loops: bool = True,
        bias: bool = True,
        device: str | None = None,
        dtype: Any = None,
    ) -> None:
        if heads < 1:
            msg = f"GATConv: heads must be ≥ 1, got {heads}"
            raise ValueError(msg)
        if not 0 <= dropout <= 1:
            msg = f"GATConv: dropout must be in [0, 1], got {dropout}"
            raise ValueError(msg)
        self.in_channels, self.out_channels, self.heads, self.concat = (
            in_channels,
            out_channels,
            heads,
            concat,
        )
        self.negative_slope, self.dropout, self.add_self_loops = negative_slope, dropout, add_self_loops
        self.lin = Linear(in_channels, heads * out_channels, False, device, dtype)
        self.att_src = Parameter(empty((1, heads, out_channels), dtype=dtype, device=device))
        self.att_dst = Parameter(empty((1, heads, out_channels), dtype=dtype, device=device))
        width = heads * out_channels if concat else out_channels
        self.bias = Parameter(zeros((width,), dtype=dtype, device=device)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw new weights."""
        init.xavier_uniform_(self.lin.weight)
        for attention in (self.att_src, self.att_dst):
            bound = math.sqrt(6.0 / (self.heads + self.out_channels))
            init.uniform_(attention, -bound, bound)
        if self.bias is not None:
            init.zeros_(self.bias)

    def attention(self, h: Tensor, edges: _Edges) -> tuple[Tensor, Tensor, Tensor]:
        """Sources and targets, loops added, and the weights α (E, heads) of features h (n, heads, out_channels)."""
        n = int(h.shape[0])
        source, target = edges.source, edges.target
        score_source, score_target = sum_over(h * self.att_src, axis=-1), sum_over(h * self.att_dst, axis=-1)
        own, away = source == target, []
        if self.add_self_loops:
            # a loop that is there already counts once: its own score is −∞
            away = [own, full((n,), False, dtype=own.dtype, device=own.device)]
            source, target = _with_loops(source, target, n)
        if not source.shape[0]:
            return source, target, zeros((0, self.heads), dtype=h.dtype, device=h.device)
        scores = F.leaky_relu(
            take(score_source, source, axis=0) + take(score_target, target, axis=0), self.negative_slope
        )
        if away:
            scores = where(expand_dims(concat(away), axis=-1), -math.inf, scores)
        # a node without edges has a largest score of another node, which no edge of its own reads
        weights = exp(scores - take(_largest(scores, target, n), target, axis=0))
        return source, target, weights / take(_summed(weights, target, n), target, axis=0)

    def forward(self, x: ArrayLike, edges: ArrayLike) -> Tensor:
        """The nodes' new features."""
        found = _edges("GATConv", x, edges, None)
        n = int(x.shape[0])
        h = reshape(self.lin(x), (n, self.heads, self.out_channels))
        source, target, weights = self.attention(h, found)
        weights = F.dropout(weights, self.dropout, self.training)
        y = _summed(take(h, source, axis=0) * expand_dims(weights, axis=-1), target, n)
        y = reshape(y, (n, self.heads * self.out_channels)) if self.concat else mean(y, axis=1)
        return y if self.bias is None else y + self.bias

    def extra_repr(self) -> str:
        return f"{self.in_channels}, {self.out_channels}, heads={self.heads}"
