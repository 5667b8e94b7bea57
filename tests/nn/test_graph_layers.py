"""GCN and GAT: against the formulas of the papers on dense matrices in NumPy, on every device."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet import nn

rng = np.random.default_rng(0)
N = 6


def graph() -> np.ndarray:
    """A directed adjacency matrix with one loop, a node with no incoming edge, and weights."""
    a = (rng.uniform(size=(N, N)) < 0.5) * rng.uniform(0.5, 2.0, (N, N))
    np.fill_diagonal(a, 0.0)
    a[2, 2] = 0.7
    a[:, 4] = 0.0
    return a


def as_edges(a: np.ndarray, device: str) -> tuple[an.Tensor, an.Tensor]:
    source, target = np.nonzero(a)
    order = rng.permutation(len(source))
    index = np.stack([source[order], target[order]])
    return an.asarray(index, device=device), an.asarray(a[index[0], index[1]], device=device)


def gcn(a: np.ndarray, x: np.ndarray, w: np.ndarray, loop: float = 1.0) -> np.ndarray:
    hat = a.T.copy()  # rows: receiving nodes
    for i in range(N):
        hat[i, i] = hat[i, i] or loop
    d = hat.sum(1)
    return np.diag(d**-0.5) @ hat @ np.diag(d**-0.5) @ x @ w.T


def gat(a: np.ndarray, x: np.ndarray, layer: nn.GATConv) -> np.ndarray:
    seen = (a.T != 0) | np.eye(N, dtype=bool)
    w = np.asarray(layer.lin.weight.tolist()).reshape(layer.heads, layer.out_channels, -1)
    left, right = (np.asarray(p.tolist())[0] for p in (layer.att_dst, layer.att_src))
    heads = []
    for k in range(layer.heads):
        h = x @ w[k].T
        e = (h @ left[k])[:, None] + (h @ right[k])[None]
        e = np.where(e > 0, e, 0.2 * e)
        e = np.where(seen, np.exp(e), 0.0)
        heads.append(e / e.sum(1, keepdims=True) @ h)
    return np.concatenate(heads, 1) if layer.concat else np.mean(heads, 0)


@pytest.mark.parametrize("improved", [False, True])
def test_gcn(xp_device: str, improved: bool) -> None:
    layer = nn.GCNConv(3, 2, improved=improved, device=xp_device, dtype="float64")
    a, x = graph(), rng.normal(size=(N, 3))
    edges, weights = as_edges(a, xp_device)
    features = an.asarray(x, device=xp_device)
    expected = gcn(a, x, np.asarray(layer.lin.weight.tolist()), 2.0 if improved else 1.0)
    y = layer(features, edges, weights)
    assert y.dtype == an.float64
    assert y.device == features.device
    np.testing.assert_allclose(y.tolist(), expected, rtol=1e-12)
    np.testing.assert_allclose(
        layer(features, an.asarray(a, device=xp_device)).tolist(), expected, rtol=1e-12
    )
    no = an.asarray(a != 0, device=xp_device)
    np.testing.assert_allclose(layer(features, no).tolist(), layer(features, edges).tolist(), rtol=1e-12)


def test_gcn_without_loops_and_norm() -> None:
    layer = nn.GCNConv(3, 2, add_self_loops=False, normalize=False, bias=False, dtype="float64")
    a, x = graph(), rng.normal(size=(N, 3))
    expected = a.T @ x @ np.asarray(layer.lin.weight.tolist()).T
    np.testing.assert_allclose(layer(x, a).tolist(), expected, rtol=1e-12, atol=1e-14)
    alone = nn.GCNConv(3, 2, add_self_loops=False, dtype="float64")
    y = alone(an.asarray(x, requires_grad=True), a)
    assert y[4, :].tolist() == [0.0, 0.0]  # no incoming edge: degree 0
    an.sum(y).backward()
    assert bool(an.all(an.isfinite(alone.lin.weight.grad)))


@pytest.mark.parametrize("concat", [True, False])
def test_gat(xp_device: str, concat: bool) -> None:
    layer = nn.GATConv(3, 2, heads=3, concat=concat, device=xp_device, dtype="float64")
    a, x = graph(), rng.normal(size=(N, 3))
    edges, _ = as_edges(a, xp_device)
    features = an.asarray(x, device=xp_device)
    expected = gat(a, x, layer)
    np.testing.assert_allclose(layer(features, edges).tolist(), expected, rtol=1e-12)
    np.testing.assert_allclose(
        layer(features, an.asarray(a, device=xp_device)).tolist(), expected, rtol=1e-12
    )


def test_attention_of_large_scores_is_finite() -> None:
    """Scores of 1,000 and −1,000 in one graph: each node's softmax by itself."""
    layer = nn.GATConv(1, 1, bias=False, dtype="float64", negative_slope=1.0)
    for p in layer.parameters():
        an.nn.init.ones_(p)
    x = an.asarray([[1000.0], [-1000.0], [0.0], [-3000.0]], dtype=an.float64, requires_grad=True)
    edges = an.asarray([[0, 1, 2], [1, 2, 3]])
    y = layer(x, edges)
    np.testing.assert_allclose(y.tolist(), [[1000.0], [1000.0], [0.0], [0.0]], rtol=1e-12)
    an.sum(y).backward()
    assert bool(an.all(an.isfinite(x.grad)))


def test_nodes_without_neighbours_get_zeros() -> None:
    layer = nn.GATConv(2, 2, heads=2, add_self_loops=False, bias=False)
    y = layer(an.ones((4, 2)), an.asarray([[0, 1], [2, 2]]))
    assert [bool(an.any(y[i, :] != 0)) for i in range(4)] == [False, False, True, False]
    assert layer(an.ones((2, 2)), an.zeros((2, 0), dtype=an.int64)).tolist() == [[0.0] * 4] * 2


def test_gradients_of_weighted_edges() -> None:
    layer = nn.GCNConv(3, 2, dtype="float64")
    edges = an.asarray([[0, 1, 2, 2], [1, 2, 0, 2]])
    x = an.asarray(rng.normal(size=(3, 3)), requires_grad=True)
    w = an.asarray(rng.uniform(0.5, 1.0, 4), requires_grad=True)
    assert an.gradcheck(lambda a, b: layer(a, edges, b), [x, w], parameters=layer)
    a = an.asarray(rng.uniform(0.5, 1.0, (3, 3)), requires_grad=True)
    assert an.gradcheck(layer, [x, a])


def test_dropout_of_attention() -> None:
    layer = nn.GATConv(2, 2, dropout=1.0, bias=False)
    x, edges = an.ones((3, 2)), an.asarray([[0, 1], [1, 2]])
    assert an.sum(an.abs(layer(x, edges))).item() == 0.0
    assert an.sum(an.abs(layer.eval()(x, edges))).item() > 0.0


def test_graph_refusals() -> None:
    layer, x = nn.GCNConv(3, 2), an.ones((4, 3))
    with pytest.raises(
        ValueError, match=r"rows of sources and targets, or an adjacency matrix \(4, 4\), got \(3, 2\)"
    ):
        layer(x, an.asarray([[0, 1], [1, 2], [2, 3]]))
    with pytest.raises(IndexError, match="GCNConv: index 4 is out of range"):
        layer(x, an.asarray([[0, 4], [1, 2]]))
    with pytest.raises(IndexError, match="negative ones do not count"):
        layer(x, an.asarray([[0, -1], [1, 2]]))
    with pytest.raises(ValueError, match=r"edge_weight of shape \(2,\), got \(3,\)"):
        layer(x, an.asarray([[0, 1], [1, 2]]), an.ones(3))
    with pytest.raises(ValueError, match="has the weights in it"):
        layer(x, an.ones((4, 4)), an.ones(3))
    with pytest.raises(ValueError, match=r"must have the shape \(n, features\)"):
        layer(an.ones(3), an.ones((4, 4)))
    with pytest.raises(ValueError, match="heads must be ≥ 1"):
        nn.GATConv(3, 2, heads=0)
    with pytest.raises(ValueError, match=r"dropout must be in \[0, 1\], got 2"):
        nn.GATConv(3, 2, dropout=2)
