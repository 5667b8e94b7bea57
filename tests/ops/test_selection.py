"""einsum, topk, gather and scatter, counts, diagonals, windows: against PyTorch and by refusal."""

import numpy as np
import pytest

import anynet as an

torch = pytest.importorskip("torch")

EQUATIONS = {
    "ij,jk->ik": [(2, 3), (3, 4)],
    "ii": [(3, 3)],
    "ii->i": [(3, 3)],
    "iij->j": [(2, 2, 3)],
    "...ij,...jk->...ik": [(2, 2, 3), (3, 4)],
    "...,...->...": [(2, 3), (3,)],
    "bhid,bhjd->bhij": [(2, 3, 4, 5), (2, 3, 6, 5)],
    "b i, b j -> b i j": [(2, 3), (2, 4)],
    "ba": [(2, 3)],
    "ij->": [(2, 3)],
    "ij,j->i": [(2, 3), (1,)],
    ",i": [(), (3,)],
    "i,i": [(0,), (0,)],
    "ij,jk,kl,lm": [(2, 3), (3, 4), (4, 5), (5, 2)],
    "ab,ab,ab->a": [(2, 3)] * 3,
    "abc,abd,abc->abcd": [(2, 3, 4), (2, 3, 5), (2, 3, 4)],  # nothing is summed: no order of pairs is better
    "ab,ac,ad->abcd": [(2, 3), (2, 4), (2, 2)],
    "ab,ac,ab,ac->abc": [(2, 3), (2, 4), (2, 3), (2, 4)],
}


def agree(ours, theirs, *variables):
    """Values, dtypes, and the gradients of Σ y³ of variables that are pairs."""
    assert ours.shape == tuple(theirs.shape)
    assert str(theirs.dtype) == f"torch.{ours.dtype}"
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=0, atol=1e-12)
    if variables:
        theirs.pow(3).sum().backward()
        an.sum(ours**3).backward()
    for a, b in variables:
        np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=0, atol=1e-11)


def pair(*shape):
    theirs = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    return an.asarray(theirs.detach().numpy().copy(), requires_grad=True), theirs


@pytest.mark.parametrize("equation", EQUATIONS)
def test_einsum(equation):
    torch.manual_seed(0)
    pairs = [pair(*shape) for shape in EQUATIONS[equation]]
    ours, theirs = zip(*pairs, strict=True)
    agree(an.einsum(equation, *ours), torch.einsum(equation, *theirs), *pairs)


def test_einsum_has_second_gradients():
    a, b, c = (an.random.normal(s, dtype="float64") for s in ((2, 3), (3, 4), (4, 2)))
    for x in (a, b, c):
        x.requires_grad_()
    assert an.gradgradcheck(lambda *xs: an.einsum("ij,jk,ki->i", *xs), (a, b, c))


@pytest.mark.parametrize(
    ("equation", "shapes", "message"),
    [
        ("ij,jk->ik", [(2, 3)], "must name as many operands as there are, got 2 and 1"),
        ("ij,jk->ik", [(2, 3), (4, 5)], "axis 'j' must have one length"),
        ("ij->ik", [(2, 3)], "it has 'k' which no operand has"),
        ("ij->ii", [(2, 3)], "it has 'i' twice"),
        ("i1", [(2, 3)], "subscripts must be letters"),
        ("i", [(2, 3)], "must name all axes"),
    ],
)
def test_einsum_refuses(equation, shapes, message):
    with pytest.raises(ValueError, match=message):
        an.einsum(equation, *(an.zeros(s) for s in shapes))


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_gather_and_scatter(axis):
    torch.manual_seed(1)
    index = torch.tensor([[0, 2, 1], [2, 0, 0]])
    i = an.asarray(index.numpy())
    x, t = pair(3, 3)
    agree(an.gather(x, i, axis=axis), torch.gather(t, axis, index), (x, t))
    (x, t), (v, w) = pair(3, 3), pair(2, 4)  # values longer than the indices: PyTorch's gradient fails
    agree(an.scatter_add(x, i, v, axis=axis), torch.scatter_add(t, axis, index, w))
    (x, t), (v, w) = pair(3, 3), pair(2, 3)
    agree(an.scatter_add(x, i, v, axis=axis), torch.scatter_add(t, axis, index, w), (x, t), (v, w))
    once, o = torch.tensor([[0, 2, 1], [1, 0, 2]]), an.asarray([[0, 2, 1], [1, 0, 2]])
    (x, t), (v, w) = pair(3, 3), pair(2, 3)
    agree(an.scatter(x, o, v, axis=axis), torch.scatter(t, axis, once, w), (x, t), (v, w))
    agree(an.scatter(x, o, 7.0, axis=axis), torch.scatter(t, axis, once, 7.0))


def test_the_last_of_several_values_stays():
    assert an.scatter(an.zeros(2), an.asarray([0, 0]), an.asarray([1.0, 2.0]), axis=0).tolist() == [2.0, 0.0]


def test_places_are_checked():
    x = an.zeros((2, 3))
    with pytest.raises(IndexError, match="index 3 is out of range"):
        an.gather(x, an.asarray([[3]]), axis=1)
    with pytest.raises(IndexError, match="negative ones do not count from the end"):
        an.scatter(x, an.asarray([[-1]]), 1.0, axis=1)
    with pytest.raises(ValueError, match="indices must not be longer than x but along axis 1"):
        an.gather(x, an.zeros((3, 1), dtype=an.int64), axis=1)


@pytest.mark.parametrize("largest", [True, False])
def test_topk(largest):
    torch.manual_seed(2)
    x, t = pair(4, 5)
    ours, theirs = an.topk(x, 2, axis=0, largest=largest), torch.topk(t, 2, 0, largest)
    agree(ours.values, theirs.values, (x, t))
    assert ours.indices.tolist() == theirs.indices.tolist()
    assert an.topk(an.zeros((2, 3)), 0).values.shape == (2, 0)
    with pytest.raises(ValueError, match=r"k must be an integer in \[0, 3\]"):
        an.topk(an.zeros(3), 4)


def test_counts():
    x = torch.tensor([1, 3, 1, 0])
    w, t = pair(4)
    agree(an.bincount(an.asarray(x.numpy())), torch.bincount(x))
    agree(an.bincount(an.asarray(x.numpy()), minlength=6), torch.bincount(x, minlength=6))
    ours = an.bincount(an.asarray(x.numpy()), w)
    np.testing.assert_allclose(ours.numpy(), np.bincount(x.numpy(), t.detach().numpy()))
    an.sum(ours**2).backward()
    np.testing.assert_allclose(w.grad.numpy(), 2 * ours.numpy()[x.numpy()])
    values = np.random.default_rng(0).normal(size=50)
    values[:2] = 9.0, np.nan
    for bins, span in ((7, (-1.0, 1.5)), (np.asarray([-1.0, 0.0, 0.5, 9.0]), None)):
        ours = an.histogram(an.asarray(values), an.asarray(bins) if span is None else bins, range=span)
        counts, edges = np.histogram(values, bins, span)
        assert ours.counts.tolist() == counts.tolist()
        np.testing.assert_allclose(ours.edges.numpy(), edges)
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        an.bincount(an.asarray([-1]))


@pytest.mark.parametrize("offset", [-1, 0, 2])
def test_diag(offset):
    for shape in ((3,), (3, 4)):
        x, t = pair(*shape)
        agree(an.diag(x, offset=offset), torch.diag(t, offset), (x, t))


def test_windows():
    x, t = pair(2, 7, 3)
    agree(an.sliding_windows(x, 3, axis=1, step=2), t.unfold(1, 3, 2), (x, t))
    with pytest.raises(ValueError, match=r"size must be in \[1, 3\]"):
        an.sliding_windows(x, 4)
