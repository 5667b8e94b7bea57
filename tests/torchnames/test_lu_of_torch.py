"""torch.linalg.lu and its family: values and gradients as PyTorch's, squares and others, batches, singular matrices."""

import numpy as np
import pytest

import anynet.torch as torch

oracle = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
SHAPES = [(4, 4), (3, 5), (5, 3), (2, 3, 3), (2, 2, 1, 4), (1, 1), (2, 0, 0)]


def both(function, *arrays):
    """What a function of the rooms gives, and the gradients of a weighted sum of it, here and with PyTorch."""
    found = []
    for room in (torch, oracle):
        given = [room.tensor(a, requires_grad=a.dtype.kind == "f") for a in arrays]
        out = function(room, *given)
        out = out if isinstance(out, tuple) else (out,)
        total = sum(
            (y * room.tensor(np.random.default_rng(3).normal(size=tuple(y.shape)))).sum()
            for y in out
            if y.requires_grad
        )
        total.backward()
        found.append(([y.detach().numpy() for y in out], [x.grad.numpy() for x in given if x.requires_grad]))
    (mine, my_gradients), (theirs, their_gradients) = found
    for a, b in zip(mine, theirs, strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-10)
    for a, b in zip(my_gradients, their_gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("shape", SHAPES)
def test_factors(shape):
    A = np.random.default_rng(0).normal(size=shape)
    both(lambda t, a: tuple(t.linalg.lu(a)), A)
    both(lambda t, a: tuple(t.linalg.lu_factor(a)), A)


@pytest.mark.parametrize("shape", [(3, 3), (2, 3, 3)])
@pytest.mark.parametrize("left", [True, False])
@pytest.mark.parametrize("adjoint", [True, False])
def test_solutions(shape, left, adjoint):
    draw = np.random.default_rng(1)
    A = draw.normal(size=shape)
    B = draw.normal(size=(*shape[:-2], 3, 2) if left else (*shape[:-2], 2, 3))
    both(lambda t, a, b: t.linalg.lu_solve(*t.linalg.lu_factor(a), b, left=left, adjoint=adjoint), A, B)


def test_complex_matrices():
    draw = np.random.default_rng(2)
    A = draw.normal(size=(3, 3)) + 1j * draw.normal(size=(3, 3))
    B = draw.normal(size=(2, 3)) + 1j * draw.normal(size=(2, 3))
    for left, b in ((True, B.T), (False, B)):
        for adjoint in (True, False):
            x = [
                t.linalg.lu_solve(*t.linalg.lu_factor(t.tensor(A)), t.tensor(b), left=left, adjoint=adjoint)
                .resolve_conj()
                .numpy()
                for t in (torch, oracle)
            ]
            np.testing.assert_allclose(*x, rtol=1e-10)


def test_singular_matrices():
    A = np.array([[1.0, 2, 3], [2, 4, 6], [1, 1, 1]])
    A[:, 0] = 0
    found = torch.linalg.lu_factor_ex(torch.tensor(A))
    expected = oracle.linalg.lu_factor_ex(oracle.tensor(A))
    np.testing.assert_allclose(found.LU.numpy(), expected.LU.numpy(), atol=1e-12)
    assert found.pivots.tolist() == expected.pivots.tolist()
    assert found.info.item() == expected.info.item() == 1
    with pytest.raises(RuntimeError, match="singular"):
        torch.linalg.lu_factor_ex(torch.tensor(A), check_errors=True)
