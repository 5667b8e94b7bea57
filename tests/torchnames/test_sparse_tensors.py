"""Sparse tensors: positions and values, compared with PyTorch's, and that products compute with the values alone."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import anynet.torch as torch

pytestmark = pytest.mark.filterwarnings("ignore:.*[Ss]parse:UserWarning")  # of PyTorch's

PLACES, VALUES = [[0, 1, 1, 0], [2, 0, 2, 2]], [3.0, 4.0, 5.0, -1.0]
LINES = (
    "s @ d", "torch.mm(s, d)", "torch.sparse.mm(s, d)", "torch.spmm(s, d)", "s.mm(d)", "s.matmul(d)", "torch.mv(s, d[:, 0])", "s @ d[:, 1]",
    "d.t() @ s.t()", "torch.ones(3, 2) @ s", "s.coalesce().t() @ torch.ones(2, 2)", "torch.addmm(torch.ones(2, 3), s, d)",
    "torch.sparse.addmm(torch.ones(2, 3), s, d, beta=0.5, alpha=2.0)", "s.coalesce().indices()", "s.coalesce().values()", "s._indices()",
    "s._values()", "s.is_coalesced(), s.coalesce().is_coalesced(), s._nnz(), s.coalesce()._nnz()", "s.size(), s.dim(), s.numel(), len(s)",
    "s.sparse_dim(), s.dense_dim(), s.is_sparse, str(s.layout), s.to_dense().is_sparse", "torch.sparse.sum(s)",
    "torch.sparse.sum(s, dim=1)",
    "torch.sparse.sum(s, [0])", "s.sum()", "s * 2", "s / 2", "-s", "s + s", "s - s * 2", "s.coalesce() * (torch.ones(2, 4) * 3)",
    "torch.ones(2, 4) + s", "s.double()", "s.to(torch.float64)", "s.detach().requires_grad", "torch.relu(s)", "s.abs()", "torch.sqrt(z)",
    "torch.transpose(s, 0, 1)", "s.t().size()", "z.indices()", "z.values()", "torch.sparse.softmax(z, 1)", "torch.sparse.softmax(z, 0)",
    "torch.sparse.log_softmax(z, dim=1)", "z @ z.t()", "z.to_sparse_csr().crow_indices()", "z.to_sparse_csr().col_indices()",
    "z.to_sparse_csr().values()", "z.to_sparse_csr() @ torch.ones(3, 2)", "z.to_sparse_csr().to_dense()", "str(z.to_sparse_csr().layout)",
    "torch.sparse_csr_tensor([0, 2, 2, 3], [0, 2, 1], [1.0, 2.0, 3.0])",
    "torch.sparse_csr_tensor([0, 2, 2, 3], [0, 2, 1], [1.0, 2.0, 3.0], (3, 3)) @ torch.eye(3)", "h.coalesce().values()", "h.sum()",
    "torch.sparse.sum(h, 0)", "h.sparse_dim(), h.dense_dim()", "torch.sparse_coo_tensor((2, 3))",
    "torch.sparse.FloatTensor(i, v, torch.Size([2, 4]))",
    "isinstance(s, torch.sparse.FloatTensor), isinstance(s, torch.sparse.DoubleTensor), isinstance(s, torch.Tensor)",
    "torch.sparse_coo_tensor(i, v > 3, (2, 4))", "s.clone().mul_(3)", "copy.deepcopy(s)",
    "torch.sparse_coo_tensor(i, v)", "s[1]",
)  # fmt: skip


def dense(x):
    if isinstance(x, tuple):
        return [dense(v) for v in x]
    if not hasattr(x, "to_dense"):
        return x
    x = x if str(x.layout) == "torch.strided" else x.to_dense()
    return x.detach().numpy()


def names(room):
    i, v = room.tensor(PLACES), room.tensor(VALUES)
    return {
        "torch": room, "copy": copy, "i": i, "v": v, "s": room.sparse_coo_tensor(i, v, (2, 4)),
        "d": room.arange(12.0).reshape(4, 3), "z": room.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 3.0]]).to_sparse(),
        "h": room.sparse_coo_tensor([[0, 0, 1]], room.ones(3, 2), (3, 2)),
    }  # fmt: skip


@pytest.mark.parametrize("line", LINES)
def test_values_are_those_of_pytorch(line):
    theirs = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    found, expected = (dense(eval(line, names(room))) for room in (torch, theirs))
    if not isinstance(found, np.ndarray):
        assert found == expected
        return
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    assert found.dtype == expected.dtype


GRADIENTS = (
    "(torch.sparse_coo_tensor(i, v, (2, 4)) @ x).pow(2).sum()",
    "torch.sparse.mm(torch.sparse_coo_tensor(i, v, (2, 4)).coalesce(), x).sum()",
    "(torch.sparse_coo_tensor(i, v, (2, 4)).t() @ x[:2]).pow(2).sum()",
    "torch.sparse.sum(torch.sparse_coo_tensor(i, v, (2, 4)) * 2) + 0 * x.sum()",
    "torch.mm(x.to_sparse(), torch.arange(6.0).reshape(3, 2)).pow(2).sum() + 0 * v.sum()",
    "torch.sparse.mm(x.to_sparse(), torch.arange(6.0).reshape(3, 2)).pow(2).sum() + 0 * v.sum()",
    "(x.to_sparse().t() @ torch.ones(4, 1)).pow(2).sum() + 0 * v.sum()", "x.to_sparse().to_dense().pow(2).sum() + 0 * v.sum()",
)  # fmt: skip


@pytest.mark.parametrize("line", GRADIENTS)
def test_gradients_are_those_of_pytorch(line):
    theirs = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    made = []
    for room in (torch, theirs):
        v = room.tensor(VALUES, requires_grad=True)
        x = room.tensor(
            [[0.0, 2.0, 0.0], [1.0, 0.0, 3.0], [0.0, 0.0, 1.0], [1.0, 1.0, 0.0]], requires_grad=True
        )
        eval(line, {"torch": room, "i": room.tensor(PLACES), "v": v, "x": x}).backward()
        made.append((v.grad, x.grad))
    for found, expected in zip(*made, strict=True):
        np.testing.assert_allclose(dense(found), dense(expected), rtol=1e-6, err_msg=line)


def test_a_sparse_leaf_has_a_sparse_gradient():
    leaf = torch.sparse_coo_tensor([[0, 1], [1, 0]], [2.0, 3.0], (2, 3), requires_grad=True)
    torch.sparse.mm(leaf, torch.ones(3, 2)).sum().backward()
    assert leaf.is_leaf
    assert leaf.grad.is_sparse
    assert leaf.grad.values().tolist() == [2.0, 2.0]
    leaf.grad = None
    assert leaf.grad is None


def test_the_zeros_are_never_made():
    n = 3_000_000
    at = torch.arange(n)
    s = torch.sparse_coo_tensor(torch.stack([at, at.flip(0)]), torch.ones(n), (n, n))
    x = torch.arange(float(n)).reshape(-1, 1).requires_grad_()
    y = s.coalesce().t() @ (s @ x) * 2
    y.sum().backward()
    assert torch.equal(y, x * 2)
    assert x.grad.min() == x.grad.max() == 2.0


def test_a_graph_network_trains():
    draw = np.random.default_rng(0)
    at = torch.tensor(draw.integers(0, 30, size=(2, 90)))
    edges = torch.sparse_coo_tensor(at, torch.ones(90), (30, 30)).coalesce()
    x, target = torch.tensor(draw.normal(size=(30, 6)).astype("f4")), torch.tensor(draw.integers(0, 3, 30))
    net = torch.nn.Linear(6, 3)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.1)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(edges @ net(x), target)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


def test_what_is_refused():
    s = torch.sparse_coo_tensor(PLACES, VALUES, (2, 4))
    for call, message in (
        (lambda: torch.sparse_coo_tensor([[0, 2], [0, 1]], [1.0, 2.0], (2, 2)), r"indices must be in \[0, 2\) along axis 0, got 0 to 2"),
        (lambda: torch.sparse_coo_tensor([[0, -1], [0, 1]], [1.0, 2.0], (2, 2)), r"indices must be in \[0, 2\) along axis 0, got -1 to 0"),
        (lambda: torch.sparse_coo_tensor([[0, 1], [0, 1]], [1.0], (2, 2)), r"values must have shape \(2,\), got \(1,\)"),
        (lambda: torch.sparse_coo_tensor([[0.5], [0.0]], [1.0], (2, 2)), "indices must be integers"),
        (lambda: torch.sparse_csr_tensor([0, 2, 1], [0, 1], [1.0, 2.0]), "crow_indices must grow"),
        (lambda: s @ torch.ones(3, 2), r"mat1 and mat2 shapes cannot be multiplied \(2x4 and 3x2\)"),
        (s.indices, "uncoalesced"), (s.values, "uncoalesced"), (s.crow_indices, "expected a tensor of layout torch.sparse_csr"),
        (lambda: s.__setitem__((0, 0), 1.0), "is not written in place"), (lambda: s.exp_(), "cannot hold the result"),
        (lambda: torch.ones(2).crow_indices(), "got torch.strided"),
    ):  # fmt: skip
        with pytest.raises(RuntimeError, match=message):
            call()
    with pytest.raises(NotImplementedError, match="the layouts here are"):
        torch.ones(2, 2).to_sparse(layout="torch.sparse_csc")


def test_positions_that_are_given_out_are_copies():
    s = torch.sparse_coo_tensor([[0, 1], [1, 0]], [2.0, 3.0], (2, 2)).coalesce()
    s.indices().numpy()[:] = 1 << 40
    s._indices()[0, 0] = 1 << 40
    assert (s @ torch.eye(2)).tolist() == [[0.0, 2.0], [3.0, 0.0]]


def test_copies_and_pickles():
    s = torch.sparse_coo_tensor(PLACES, VALUES, (2, 4))
    for other in (copy.copy(s), copy.deepcopy(s), pickle.loads(pickle.dumps(s))):
        assert other.is_sparse
        assert torch.equal(other.to_dense(), s.to_dense())
    assert repr(s.coalesce()).startswith("tensor(indices=tensor([[0, 1, 1],")
    assert "layout=torch.sparse_csr" in repr(s.to_sparse_csr())


@pytest.mark.parametrize("reduce", ["amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
def test_extremes_of_places(reduce, include_self, axis):
    """Among them equal ones, which share the gradient."""
    theirs = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    draw = np.random.default_rng(axis)
    a, b = (
        np.round(draw.normal(size=(4, 5)), 1) + (0 if include_self else 0.05),
        np.round(draw.normal(size=(3, 4)), 1),
    )
    index, made = draw.integers(0, (4, 5)[axis], (3, 4)), []
    for room in (torch, theirs):
        x, y = room.tensor(a, requires_grad=True), room.tensor(b, requires_grad=True)
        z = x.scatter_reduce(axis, room.tensor(index), y, reduce, include_self=include_self)
        (z * room.tensor(np.arange(20.0).reshape(4, 5))).sum().backward()
        made.append([z.detach().numpy(), x.grad.numpy(), y.grad.numpy()])
    for found, expected in zip(*made, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_extremes_of_many_places_and_of_infinite_ones():
    low = torch.full((3,), -float("inf"))
    assert low.scatter_reduce(0, torch.tensor([0, 0, 2]), torch.tensor([1.0, 4.0, 2.0]), "amax").tolist() == [
        4.0,
        -float("inf"),
        2.0,
    ]
    assert (
        low.scatter_reduce(0, torch.tensor([0]), torch.tensor([1.0]), "sum", include_self=False).tolist()[0]
        == 1.0
    )
    n = 200_000  # one after the other would take hours
    y = torch.zeros(n).scatter_reduce(0, torch.arange(n) // 2, torch.arange(float(n)), "amax")
    assert torch.equal(y[: n // 2], torch.arange(1.0, n, 2))
