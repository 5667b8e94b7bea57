"""A script of PyTorch with sparse gradients of a table, run with both libraries."""

import numpy as np

import anynet.torch as ours
from torch_oracle import torch as theirs

WEIGHT = np.random.default_rng(0).normal(size=(10, 3)).astype("float32")


def train(torch, **options):
    """A table, its last gradient and the optimizer."""
    net = torch.nn.Embedding(10, 3, sparse=True, **options)
    with torch.no_grad():
        net.weight.copy_(torch.tensor(WEIGHT))
    optimizer = torch.optim.SparseAdam(net.parameters(), lr=0.1)
    for index in ([1, 2, 1], [[3, 1]]):
        optimizer.zero_grad()
        net(torch.tensor(index)).pow(2).sum().backward()
        optimizer.step()
    return net.weight.grad, net.weight.detach().numpy()


def test_the_same_script():
    (g, weight), (far, expected) = (train(torch, padding_idx=3) for torch in (ours, theirs))
    np.testing.assert_allclose(weight, expected, rtol=1e-6)
    assert isinstance(g, ours.Tensor)
    assert g.is_sparse is far.is_sparse is True
    assert tuple(g.shape) == tuple(g.size()) == tuple(far.size())
    assert (str(g.layout), g.sparse_dim(), g.dense_dim()) == (
        str(far.layout),
        far.sparse_dim(),
        far.dense_dim(),
    )
    a, b = g.coalesce(), far.coalesce()
    for mine, other in (
        (a.indices(), b.indices()),
        (a.values(), b.values()),
        ((g * 2).to_dense(), (far * 2).to_dense()),
    ):
        assert isinstance(mine, ours.Tensor)
        np.testing.assert_allclose(mine.numpy(), other.numpy(), rtol=1e-6)
    assert (a._nnz(), a.is_coalesced()) == (b._nnz(), b.is_coalesced())


def test_a_gradient_that_is_set():
    results = []
    for torch in (ours, theirs):
        p = torch.nn.Parameter(torch.zeros(4, 2))
        p.grad = torch.sparse_coo_tensor(
            [[1, 3, 1]], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], (4, 2), check_invariants=True
        )
        torch.optim.SparseAdam([p], lr=0.1).step()
        results.append(p.detach().numpy())
    np.testing.assert_allclose(*results, rtol=1e-6)
