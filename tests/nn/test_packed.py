"""Packed and padded sequences, alone and through recurrent layers: as PyTorch's."""

import numpy as np
import pytest

import anynet as an
from torch_oracle import torch

R, TR = an.nn.utils.rnn, torch.nn.utils.rnn
rng = np.random.default_rng(0)


def same(ours, theirs):
    for a, b in zip(ours, theirs, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            np.testing.assert_array_equal(a.detach().numpy(), b.detach().numpy())


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(
    ("lengths", "ordered"), [([5, 3, 3, 1], True), ([2, 5, 1, 4], False), ([5, 5, 5, 5], True)]
)
def test_pack_and_pad(lengths, ordered, first):
    x = rng.normal(size=(4, 5, 3) if first else (5, 4, 3))
    a = R.pack_padded_sequence(an.asarray(x), lengths, first, ordered)
    t = TR.pack_padded_sequence(torch.tensor(x), torch.tensor(lengths), first, ordered)
    same(a, t)
    for options in ({}, {"padding_value": -1.5}, {"total_length": 7}):
        same(R.pad_packed_sequence(a, first, **options), TR.pad_packed_sequence(t, first, **options))
    same(R.unpack_sequence(a), TR.unpack_sequence(t))
    v = an.asarray(x, requires_grad=True)
    assert an.gradcheck(lambda v: R.pack_padded_sequence(v, lengths, first, ordered).data ** 2, v)
    assert an.gradcheck(
        lambda v: R.pad_packed_sequence(R.pack_padded_sequence(v, lengths, first, ordered))[0] ** 2, v
    )


def test_lists_of_sequences():
    rows = [rng.normal(size=(n, 2)) for n in (4, 2, 3)]
    ours, theirs = [an.asarray(r) for r in rows], [torch.tensor(r) for r in rows]
    for options in ({}, {"batch_first": True}, {"padding_value": 2.0}, {"padding_side": "left"}):
        same([R.pad_sequence(ours, **options)], [TR.pad_sequence(theirs, **options)])
    same(R.pack_sequence(ours, enforce_sorted=False), TR.pack_sequence(theirs, enforce_sorted=False))
    padded = R.pad_sequence(ours)
    same(R.unpad_sequence(padded, [4, 2, 3]), theirs)
    assert R.invert_permutation(None) is None


@pytest.mark.parametrize("states", [False, True])
@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("RNN", {}), ("RNN", {"bidirectional": True, "num_layers": 2, "nonlinearity": "relu"}), ("GRU", {"bidirectional": True}),
        ("GRU", {"num_layers": 2, "bias": False}), ("LSTM", {}), ("LSTM", {"bidirectional": True, "num_layers": 2}),
        ("LSTM", {"proj_size": 2}), ("LSTM", {"batch_first": True}),
    ],
    ids=str,
)  # fmt: skip
def test_recurrent_layers(name, options, ordered, states):
    ours, theirs = (
        getattr(an.nn, name)(3, 4, **options).double(),
        getattr(torch.nn, name)(3, 4, **options).double(),
    )
    ours.load_state_dict({k: an.asarray(v.numpy()) for k, v in theirs.state_dict().items()})
    lengths = [5, 4, 2] if ordered else [2, 5, 4]
    x = rng.normal(size=(5, 3, 3))
    a, t = an.asarray(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    hx, thx = None, None
    if states:
        n = options.get("num_layers", 1) * (2 if options.get("bidirectional") else 1)
        values = [rng.normal(size=(n, 3, options.get("proj_size", 4))), rng.normal(size=(n, 3, 4))]
        hx, thx = [an.asarray(v) for v in values], [torch.tensor(v) for v in values]
        hx, thx = (tuple(hx), tuple(thx)) if name == "LSTM" else (hx[0], thx[0])
    y, h = ours(R.pack_padded_sequence(a, lengths, enforce_sorted=ordered), hx)
    u, g = theirs(TR.pack_padded_sequence(t, torch.tensor(lengths), enforce_sorted=ordered), thx)
    np.testing.assert_allclose(y.data.numpy(), u.data.detach().numpy(), rtol=1e-9, atol=1e-11)
    assert y.batch_sizes.tolist() == u.batch_sizes.tolist()
    h, g = (h, g) if name == "LSTM" else ((h,), (g,))
    for mine, other in zip(h, g, strict=True):
        np.testing.assert_allclose(mine.numpy(), other.detach().numpy(), rtol=1e-9, atol=1e-11)
    (an.sum(y.data**3) + an.sum(h[0] ** 2)).backward()
    ((u.data**3).sum() + (g[0] ** 2).sum()).backward()
    for mine, other in zip((a, *ours.parameters()), (t, *theirs.parameters()), strict=True):
        np.testing.assert_allclose(mine.grad.numpy(), other.grad.numpy(), rtol=1e-8, atol=1e-9)


def test_refusals():
    x = an.ones((5, 3, 2))
    for make, error, message in (
        (lambda: R.pack_padded_sequence(x, [1, 2, 3]), ValueError, "lengths must decrease"),
        (lambda: R.pack_padded_sequence(x, [3, 2]), ValueError, r"3 numbers in \[1, 5\]"),
        (lambda: R.pack_padded_sequence(x, [6, 2, 1]), ValueError, r"3 numbers in \[1, 5\]"),
        (lambda: R.pack_padded_sequence(x, [6, 2, 0]), ValueError, r"3 numbers in \[1, 5\]"),
        (
            lambda: R.pad_packed_sequence(R.pack_padded_sequence(x, [5, 2, 1]), total_length=4),
            ValueError,
            "total_length must be ≥ 5",
        ),
        (lambda: R.pad_sequence([]), ValueError, "no sequences"),
        (lambda: R.pad_sequence([x], padding_side="top"), ValueError, "'left' or 'right'"),
        (
            lambda: an.nn.GRU(3, 4)(R.pack_padded_sequence(x, [5, 2, 1])),
            an.nn.ShapeError,
            r"expected \(…, 3\)",
        ),
        (lambda: an.nn.LSTM(2, 4)(R.pack_padded_sequence(x, [5, 2, 1]), an.ones(3)), TypeError, "a pair"),
    ):
        with pytest.raises(error, match=message):
            make()
