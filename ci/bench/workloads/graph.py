"""Graphs: nodes, edges and what passes between them. `batch` is the number of graphs where there is more than one."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

from ci.bench.library import F, index_add, nn, xp
from ci.bench.workload import Training, integers, labels, normal, workload


def _edges(nodes: int, count: int) -> Any:
    """Pairs of a source and a target, with the way back and a loop at each node."""
    pairs = integers(2, count, below=nodes)
    loops = np.stack([np.arange(nodes)] * 2)
    return np.concatenate([pairs, pairs[::-1], loops], axis=1)


class GraphConvolution(nn.Module):  # type: ignore[misc]
    """tkipf/pygcn's: rows summed over the neighbours with weights 1 / √(d d′)."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__()
        self.linear = nn.Linear(a, b)

    def forward(self, x: Any, edges: Any, weight: Any) -> Any:
        h = self.linear(x)
        return index_add(xp.zeros(h.shape, dtype=h.dtype), edges[1, :], h[edges[0, :]] * weight[:, None])


class GCN(nn.Module):  # type: ignore[misc]
    def __init__(self, inputs: int, width: int, classes: int) -> None:
        super().__init__()
        self.gc1, self.gc2 = GraphConvolution(inputs, width), GraphConvolution(width, classes)

    def forward(self, x: Any, edges: Any, weight: Any) -> Any:
        return self.gc2(F.relu(self.gc1(x, edges, weight)), edges, weight)


@workload(
    "graph",
    "GCN on a graph of Cora's size",
    batch=1,
    source="tkipf/pygcn; 2,708 nodes, 5,429 edges, 1,433 features",
)
def gcn(batch: int) -> Training:
    net = GCN(1433, 16, 7)
    edges = _edges(2708, 5429)
    degree = np.bincount(edges[1], minlength=2708)
    weight = (1.0 / np.sqrt(degree[edges[0]] * degree[edges[1]])).astype(np.float32)
    x = (np.random.default_rng(0).random((2708, 1433)) < 0.0127).astype(np.float32)

    def loss(x: Any, edges: Any, weight: Any, y: Any) -> Any:
        return F.cross_entropy(net(x, edges, weight)[:140], y)

    return Training(net, loss, (x, edges, weight, labels(140, classes=7)), lr=1e-2, inputs=3)


@workload(
    "graph",
    "GCN with a dense adjacency matrix, karate club's size",
    batch=1,
    source="Kipf and Welling 2017; 34 nodes",
)
def gcn_karate(batch: int) -> Training:
    a, b = nn.Linear(34, 16), nn.Linear(16, 4)
    edges = _edges(34, 78)
    adjacency = np.zeros((34, 34), np.float32)
    adjacency[edges[0], edges[1]] = 1
    d = adjacency.sum(1) ** -0.5
    adjacency = adjacency * d[:, None] * d[None, :]

    def forward(x: Any, adjacency: Any) -> Any:
        return xp.matmul(adjacency, b(F.relu(xp.matmul(adjacency, a(x)))))

    data = np.eye(34, dtype=np.float32), adjacency, labels(34, classes=4)
    return Training(
        (a, b), lambda x, m, y: F.cross_entropy(forward(x, m), y), data, lr=1e-2, forward=forward, inputs=2
    )


class GATConv(nn.Module):  # type: ignore[misc]
    """Attention over the neighbours: softmax over the edges that end at a node."""

    def __init__(self, a: int, b: int, heads: int) -> None:
        super().__init__()
        self.lin, self.heads = nn.Linear(a, heads * b, bias=False), heads
        self.att_src = nn.Parameter(xp.zeros((heads, b)) + 0.1)
        self.att_dst = nn.Parameter(xp.zeros((heads, b)) - 0.1)

    def forward(self, x: Any, edges: Any) -> Any:
        n, source, target = x.shape[0], edges[0, :], edges[1, :]
        h = xp.reshape(self.lin(x), (n, self.heads, -1))
        scores = xp.sum(h * self.att_src, axis=-1)[source] + xp.sum(h * self.att_dst, axis=-1)[target]
        weight = xp.exp(F.leaky_relu(scores, 0.2))
        total = index_add(xp.zeros((n, self.heads), dtype=h.dtype), target, weight)
        weight = weight / (total[target] + 1e-16)
        y = index_add(xp.zeros(h.shape, dtype=h.dtype), target, h[source] * weight[:, :, None])
        return xp.reshape(y, (n, -1))


class GAT(nn.Module):  # type: ignore[misc]
    def __init__(self, inputs: int, width: int, heads: int, classes: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = GATConv(inputs, width, heads), GATConv(width * heads, classes, 1)

    def forward(self, x: Any, edges: Any) -> Any:
        return self.conv2(F.elu(self.conv1(x, edges)), edges)


@workload("graph", "GAT, 8 heads × 8, 1,000 nodes", batch=1, source="Veličković et al. 2018; PyG GATConv")
def gat(batch: int) -> Training:
    net = GAT(128, 8, 8, 7)
    data = normal(1000, 128), _edges(1000, 4000), labels(1000, classes=7)
    return Training(net, lambda x, e, y: F.cross_entropy(net(x, e), y), data, lr=5e-3, inputs=2)


class SAGE(nn.Module):  # type: ignore[misc]
    """GraphSAGE with the mean of the neighbours."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        pairs = list(itertools.pairwise(widths))
        self.lin_l = nn.ModuleList([nn.Linear(a, b) for a, b in pairs])
        self.lin_r = nn.ModuleList([nn.Linear(a, b, bias=False) for a, b in pairs])

    def forward(self, x: Any, edges: Any, degree: Any) -> Any:
        for i, (left, right) in enumerate(zip(self.lin_l, self.lin_r, strict=True)):
            mean = index_add(xp.zeros(x.shape, dtype=x.dtype), edges[1, :], x[edges[0, :]]) / degree[:, None]
            x = left(mean) + right(x)
            if i < len(self.lin_l) - 1:
                x = F.relu(x)
        return x


@workload(
    "graph",
    "GraphSAGE, mean, 3 layers × 64, 2,000 nodes",
    batch=1,
    source="Hamilton et al. 2017; PyG SAGEConv",
)
def graphsage(batch: int) -> Training:
    net = SAGE((100, 64, 64, 47))
    edges = _edges(2000, 10_000)
    data = (
        normal(2000, 100),
        edges,
        np.bincount(edges[1], minlength=2000).astype(np.float32),
        labels(2000, classes=47),
    )
    return Training(net, lambda x, e, d, y: F.cross_entropy(net(x, e, d), y), data, inputs=3)


class GIN(nn.Module):  # type: ignore[misc]
    """Graph isomorphism network, and the sum of each graph's nodes."""

    def __init__(self, inputs: int, width: int, layers: int, classes: int) -> None:
        super().__init__()
        self.mlps = nn.ModuleList(
            [
                nn.Sequential(
                    nn.Linear(inputs if i == 0 else width, width),
                    nn.BatchNorm1d(width),
                    nn.ReLU(),
                    nn.Linear(width, width),
                    nn.ReLU(),
                )
                for i in range(layers)
            ]
        )
        self.lin1, self.lin2 = nn.Linear(width, width), nn.Linear(width, classes)

    def forward(self, x: Any, edges: Any, member: Any, graphs: Any) -> Any:
        for mlp in self.mlps:
            x = mlp(index_add(x, edges[1, :], x[edges[0, :]]))
        pooled = index_add(xp.zeros((graphs.shape[0], x.shape[1]), dtype=x.dtype), member, x)
        return self.lin2(F.relu(self.lin1(pooled)))


@workload(
    "graph",
    "GIN, 3 layers × 64, molecules of 18 atoms",
    batch=64,
    source="Xu et al. 2019; PyG examples/mutag_gin.py",
)
def gin(batch: int) -> Training:
    net = GIN(7, 64, 3, 2)
    one = integers(2, 40, below=18)
    edges = np.concatenate([one + 18 * i for i in range(batch)], axis=1)
    member, graphs = np.repeat(np.arange(batch), 18), np.zeros(batch, np.float32)

    def loss(x: Any, e: Any, m: Any, g: Any, y: Any) -> Any:
        return F.cross_entropy(net(x, e, m, g), y)

    return Training(
        net, loss, (normal(18 * batch, 7), edges, member, graphs, labels(batch, classes=2)), inputs=4
    )
