"""Embedding, EmbeddingBag and one_hot as PyTorch's."""

import numpy as np
import pytest

import anynet as an
from torch_oracle import torch

nn, T, F, TF = an.nn, torch.nn, an.nn.functional, torch.nn.functional
rng = np.random.default_rng(0)


@pytest.mark.parametrize("mode", ["sum", "mean", "max"])
@pytest.mark.parametrize(
    ("input", "offsets", "options"),
    [
        ([[1, 2, 4], [3, 3, 0]], None, {}),
        ([1, 2, 4, 5, 4, 3, 2, 9], [0, 4], {}),
        ([1, 2, 4, 5], [0, 0, 3, 3], {}),
        ([1, 2, 4, 5], [0, 1, 4], {"include_last_offset": True}),
        ([[1, 2, 4], [2, 2, 2]], None, {"padding_idx": 2}),
        ([1, 2, 4, 2], [0, 3], {"padding_idx": 2}),
    ],
    ids=str,
)
def test_embedding_bag(mode, input, offsets, options):
    ours, theirs = (
        nn.EmbeddingBag(10, 3, mode=mode, **options).double(),
        T.EmbeddingBag(10, 3, mode=mode, **options).double(),
    )
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({"weight": an.asarray(theirs.weight.detach().numpy())})
    a = (an.asarray(input), *([an.asarray(offsets)] if offsets is not None else []))
    t = (torch.tensor(input), *([torch.tensor(offsets)] if offsets is not None else []))
    y, u = ours(*a), theirs(*t)
    assert y.shape == tuple(u.shape)
    np.testing.assert_allclose(y.numpy(), u.detach().numpy(), rtol=1e-12)
    an.sum(y**3).backward()
    (u**3).sum().backward()
    np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy(), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("mode", ["sum", "mean"])
def test_offsets_are_arguments_of_a_compiled_function(mode):
    """A program takes other bags than those it was recorded with, and refuses what the eager call refuses."""
    w = an.asarray(rng.normal(size=(10, 3)))
    index = an.asarray([1, 2, 4, 5, 4, 3, 2, 9])

    def bags_and_gradient(w, offsets):
        return an.value_and_grad(
            lambda w: an.sum(F.embedding_bag(index, w, offsets, mode=mode, padding_idx=4) ** 2)
        )(w)

    program = an.compile(bags_and_gradient)
    for offsets in ([0, 4, 4], [0, 0, 8], [0, 1, 2]):
        for mine, eager in zip(
            program(w, an.asarray(offsets)), bags_and_gradient(w, an.asarray(offsets)), strict=True
        ):
            assert mine.tolist() == eager.tolist()
    assert len(program.steps) == 1
    with pytest.raises(ValueError, match="begin with 0 and increase"):
        program(w, an.asarray([0, 9, 2]))


def test_numbers_behind_the_last_offset_are_of_no_bag():
    w, index = an.asarray(rng.normal(size=(5, 2))), an.asarray([1, 2, 4, 0])
    for mode in ("sum", "mean", "max"):
        y = F.embedding_bag(index, w, an.asarray([0, 1, 3]), mode=mode, include_last_offset=True)
        assert y.tolist() == F.embedding_bag(index[:3], w, an.asarray([0, 1]), mode=mode).tolist()


def test_no_index_counts_from_the_end(xp_device):
    table, bag = nn.Embedding(3, 2).to(xp_device), nn.EmbeddingBag(3, 2, mode="sum").to(xp_device)
    for bad in ([[-1, 0]], [[0, 3]]):
        for layer in (table, bag):
            with pytest.raises(IndexError, match="out of range for an axis of length 3"):
                layer(an.asarray(bad, device=xp_device)).numpy()  # a GPU says it when a value is read
    with pytest.raises(ValueError, match="weight must be"):
        F.embedding(an.asarray([0]), an.ones(3))


def test_weights_of_samples():
    w, s, index = rng.normal(size=(6, 2)), rng.normal(size=(2, 3)), np.asarray([[1, 2, 5], [0, 0, 3]])
    a, b = an.asarray(w, requires_grad=True), an.asarray(s, requires_grad=True)
    t, v = torch.tensor(w, requires_grad=True), torch.tensor(s, requires_grad=True)
    y = F.embedding_bag(an.asarray(index), a, mode="sum", per_sample_weights=b)
    u = TF.embedding_bag(torch.tensor(index), t, mode="sum", per_sample_weights=v)
    np.testing.assert_allclose(y.numpy(), u.detach().numpy(), rtol=1e-12)
    an.sum(y**3).backward()
    (u**3).sum().backward()
    for mine, other in ((a, t), (b, v)):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-10)


def test_one_hot():
    v = rng.integers(0, 5, (3, 4))
    for classes in (-1, 5, 7):
        got = F.one_hot(an.asarray(v), classes)
        assert got.dtype is an.int64
        assert (got.numpy() == TF.one_hot(torch.tensor(v), classes).numpy()).all()
    with pytest.raises(ValueError, match=r"must be in \[0, num_classes"):
        F.one_hot(an.asarray([3]), 2)
    with pytest.raises(TypeError, match="integers"):
        F.one_hot(an.asarray([1.0]))


def test_bad_arguments_of_bags():
    w = an.ones((4, 2))
    for make, message in (
        (lambda: F.embedding_bag(an.asarray([[0]]), w, mode="min"), "mode must be"),
        (lambda: nn.EmbeddingBag(3, 2, mode="min"), "mode must be"),
        (lambda: F.embedding_bag(an.asarray([0, 1]), w), "a vector with offsets"),
        (lambda: F.embedding_bag(an.asarray([0, 1]), w, an.asarray([1])), "begin with 0"),
        (lambda: F.embedding_bag(an.asarray([[0, 1]]), w, an.asarray([0])), "of one axis"),
        (
            lambda: F.embedding_bag(an.asarray([[0, 1]]), w, per_sample_weights=an.ones((1, 2))),
            "need mode 'sum'",
        ),
        (
            lambda: F.embedding_bag(an.asarray([[0, 1]]), w, mode="sum", per_sample_weights=an.ones(2)),
            "must have the shape of input",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            make()
