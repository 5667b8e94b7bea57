"""Attention with scores and masks of one's own, against PyTorch's, the formula, and its memory."""

from __future__ import annotations

import tracemalloc
import warnings

import numpy as np
import pytest

import anynet as an
from anynet.autograd.debug.gradcheck import gradcheck, gradgradcheck
from anynet.nn import functional as F
from anynet.nn.attention import flex_attention as flex
from anynet.nn.attention.varlen import AuxRequest, varlen_attn

rng = np.random.default_rng(11)
MASKS = {
    "none": None,
    "causal": lambda b, h, q, k: q >= k,
    "window": lambda b, h, q, k: (q >= k) & (q - k < 3),
    "heads": lambda b, h, q, k: (k + h) % 2 == 0,
    "batches": lambda b, h, q, k: k < 4 + 2 * b,
    "nothing for some": lambda b, h, q, k: q > k + 2,
}


def like(s, places):
    return an.astype(places, s.dtype) if isinstance(s, an.Tensor) else places.to(s.dtype)


SCORES = {
    "none": None,
    "distance": lambda s, b, h, q, k: s - 0.1 * like(s, q - k) ** 2,
    "heads": lambda s, b, h, q, k: s * like(s, h + 1) + 0.5 * like(s, b),
    "squares": lambda s, b, h, q, k: s * s * 0.3,
}


def arrays(*shapes):
    return [rng.normal(size=s) for s in shapes]


def dense(q, k, v, score, mask, scale):
    """The formula, with whole matrices of scores."""
    b, h, n, _ = q.shape
    m = k.shape[2]
    s = an.matmul(q, an.matrix_transpose(k)) * scale
    places = [an.reshape(an.arange(c, device=q.device), shape) for c, shape in (
        (b, (b, 1, 1, 1)), (h, (1, h, 1, 1)), (n, (1, 1, n, 1)), (m, (1, 1, 1, m)))]  # fmt: skip
    s = s if score is None else score(s, *places)
    seen = an.broadcast_to(mask(*places) if mask else an.ones((1,), dtype=an.bool, device=q.device), s.shape)
    p = an.where(seen, an.exp(an.where(seen, s, 0.0)), 0.0)
    total = an.sum(p, axis=-1, keepdims=True)
    return an.matmul(p / an.where(total > 0, total, 1.0), v)


@pytest.mark.parametrize("device", ["cpu", "strict:device1"])
@pytest.mark.parametrize("block", [4, 128])
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("score", SCORES)
def test_the_formula(monkeypatch, device, block, mask, score):
    monkeypatch.setattr(flex, "BLOCK", block)
    q, k, v = [
        an.asarray(a, device=device).requires_grad_()
        for a in arrays((2, 2, 11, 5), (2, 2, 9, 5), (2, 2, 9, 3))
    ]
    made = MASKS[mask] and flex.create_block_mask(
        MASKS[mask], 2, 2, 11, 9, device=device, BLOCK_SIZE=(block, 3)
    )
    y, lse = flex.flex_attention(q, k, v, SCORES[score], made, scale=0.4, return_lse=True)
    g = an.asarray(rng.normal(size=y.shape), device=device)
    y.backward(g)
    got = [y, q.grad, k.grad, v.grad]
    q, k, v = (a.detach().requires_grad_() for a in (q, k, v))
    z = dense(q, k, v, SCORES[score], MASKS[mask], 0.4)
    z.backward(g)
    for a, b in zip(got, [z, q.grad, k.grad, v.grad], strict=True):
        assert a.device == device
        assert a.dtype == an.float64
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-11, atol=1e-12)
    assert lse.shape == (2, 2, 11)
    assert not np.isnan(lse.numpy()).any()


@pytest.mark.parametrize(
    "options",
    [{}, {"mask": "causal"}, {"score": "heads"}, {"mask": "window", "score": "distance"}, {"heads": 2}],
)
def test_as_pytorch(options):
    torch = pytest.importorskip("torch", reason="compared with PyTorch's")
    theirs = pytest.importorskip("torch.nn.attention.flex_attention")
    heads = options.get("heads", 4)
    q, k, v = arrays((2, 4, 16, 8), (2, heads, 16, 8), (2, heads, 16, 8))
    mask, score = MASKS[options.get("mask", "none")], SCORES[options.get("score", "none")]
    made = mask and flex.create_block_mask(mask, None, None, 16, 16, BLOCK_SIZE=4)
    mine = [an.asarray(a) for a in (q, k, v)]
    y, lse = flex.flex_attention(*mine, score, made, enable_gqa=heads != 4, return_lse=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        made = mask and theirs.create_block_mask(mask, None, None, 16, 16, device="cpu")
        other = [torch.tensor(a) for a in (q, k, v)]  # it gives no gradients on the CPU
        u, log = theirs.flex_attention(*other, score, made, enable_gqa=heads != 4, return_lse=True)
    np.testing.assert_allclose(y.numpy(), u.numpy(), rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(lse.numpy(), log.numpy(), rtol=1e-10)


def test_gradients_reach_what_the_score_reads(monkeypatch):
    monkeypatch.setattr(flex, "BLOCK", 3)
    bias = an.asarray(rng.normal(size=(2, 15)), requires_grad=True)
    q, k, v = (an.asarray(a, requires_grad=True) for a in arrays((1, 2, 7, 3), (1, 2, 8, 3), (1, 2, 8, 2)))

    def attend(q, k, v, bias):
        return flex.flex_attention(q, k, v, lambda s, b, h, i, j: s + bias[h, i - j + 7])

    assert gradcheck(attend, (q, k, v, bias))
    assert gradgradcheck(attend, (q, k, v, bias))


def test_aux_and_masks():
    q = an.asarray(rng.normal(size=(1, 1, 5, 4)))
    _, aux = flex.flex_attention(q, q, q, return_aux=flex.AuxRequest(lse=True, max_scores=True))
    s = q.numpy()[0, 0] @ q.numpy()[0, 0].T / 2
    np.testing.assert_allclose(aux.max_scores.numpy()[0, 0], s.max(1))
    np.testing.assert_allclose(aux.lse.numpy()[0, 0], np.log(np.exp(s).sum(1)))
    assert flex.flex_attention(q, q, q, return_aux=flex.AuxRequest())[1] == flex.AuxOutput(None, None)
    mask = flex.create_block_mask(MASKS["causal"], None, 3, 10, 7, BLOCK_SIZE=(4, 2))
    assert mask.shape == (1, 3, 10, 7)
    assert mask.to_dense()[0, 1, ...].tolist() == [[1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 1, 1]]
    assert mask.sparsity() == pytest.approx(100 * 2 / 12)
    assert repr(mask) == "BlockMask(shape=(1, 3, 10, 7), sparsity=16.67%)"
    np.testing.assert_array_equal(
        flex.create_mask(MASKS["causal"], 1, 1, 4, 3).numpy()[0, 0], np.tri(4, 3, dtype=bool)
    )
    assert flex.create_mask(SCORES["distance"], 1, 2, 4, 3).shape == (1, 2, 4, 3)


def test_memory_grows_with_the_length():
    n = 2048
    q = an.asarray(rng.normal(size=(1, 1, n, 8)).astype(np.float32), requires_grad=True)
    mask = flex.create_block_mask(MASKS["causal"], None, None, n, n)
    tracemalloc.start()
    try:
        an.sum(flex.flex_attention(q, q, q, SCORES["distance"], mask)).backward()
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4 * n * n  # of one matrix of scores; a dozen of them would be held without blocks


def test_refusals():
    q, other = an.ones((1, 4, 3, 2)), an.ones((1, 2, 3, 2))
    mask = flex.create_block_mask(MASKS["causal"], None, None, 3, 4)
    for call, error, words in (
        (lambda: flex.flex_attention(q, q[0], q), ValueError, "expected \\(b, h, l, d\\)"),
        (lambda: flex.flex_attention(q, other, other), ValueError, "enable_gqa"),
        (lambda: flex.flex_attention(q, q, q, block_mask=mask), ValueError, "the mask is for"),
        (
            lambda: flex.create_block_mask(lambda b, h, q, k: q - k, None, None, 3, 3),
            TypeError,
            "booleans, got int64",
        ),
        (
            lambda: flex.create_block_mask(MASKS["causal"], None, None, 3, 3, BLOCK_SIZE=0),
            ValueError,
            "BLOCK_SIZE ≥ 1",
        ),
    ):
        with pytest.raises(error, match=words):
            call()


# ----- sequences behind one another -----


@pytest.mark.parametrize("window", [(-1, -1), (-1, 0), (2, 0), (1, 2), (-1, 1)])
@pytest.mark.parametrize("heads", [4, 2])
def test_each_sequence_by_itself(window, heads):
    lengths, keys = [3, 0, 5, 1], [4, 2, 5, 0]
    q, k, v = (an.asarray(a, requires_grad=True) for a in arrays((9, 4, 6), (11, heads, 6), (11, heads, 6)))
    cq, ck = (an.asarray(np.cumsum([0, *x])) for x in (lengths, keys))
    y, lse = varlen_attn(
        q, k, v, cq, ck, 5, 5, window_size=window, enable_gqa=heads != 4, return_aux=AuxRequest(lse=True)
    )
    assert lse.shape == (9, 4)
    a = c = 0
    for n, m in zip(lengths, keys, strict=True):
        i, j = np.arange(n)[:, None] + m - n, np.arange(m)
        seen = (j >= i - window[0] if window[0] >= 0 else j >= -1) & (
            j <= i + window[1] if window[1] >= 0 else j < m
        )
        seen = np.broadcast_to(seen, (n, m))
        part = [an.permute_dims(x, (1, 0, 2)) for x in (q[a : a + n], k[c : c + m], v[c : c + m])]
        if n and m:
            rows = seen.any(1)
            expected = F.scaled_dot_product_attention(
                *part, attn_mask=an.asarray(seen), enable_gqa=heads != 4
            )
            got = np.moveaxis(y.numpy()[a : a + n], 1, 0)
            np.testing.assert_allclose(got[:, rows], expected.numpy()[:, rows], rtol=1e-11, atol=1e-12)
            assert (got[:, ~rows] == 0).all()
        elif n:
            assert (y.numpy()[a : a + n] == 0).all()
        a, c = a + n, c + m
    an.sum(y * y).backward()
    assert np.isfinite(q.grad.numpy()).all()


def test_used_keys_and_pages():
    q, k, v = (an.asarray(a) for a in arrays((4, 2, 3), (8, 2, 3), (8, 2, 3)))
    ends = an.asarray([0, 2, 4]), an.asarray([0, 4, 8])
    used = an.asarray([3, 1])
    y = varlen_attn(q, k, v, *ends, 2, 4, seqused_k=used, window_size=(-1, 0))
    short = an.concat([k[:3], k[4:5]]), an.concat([v[:3], v[4:5]])
    expected = varlen_attn(q, *short, ends[0], an.asarray([0, 3, 4]), 2, 3, window_size=(-1, 0))
    np.testing.assert_array_equal(y.numpy(), expected.numpy())
    pages = [an.reshape(x, (4, 2, 2, 3)) for x in (k, v)]
    paged = varlen_attn(
        q,
        *pages,
        ends[0],
        None,
        2,
        4,
        seqused_k=used,
        block_table=an.asarray([[0, 1], [2, 3]]),
        window_size=(-1, 0),
    )
    np.testing.assert_array_equal(paged.numpy(), expected.numpy())
    for options, words in (
        ({"cu_seq_q": an.asarray([0, 3])}, "end with 4"),
        ({"cu_seq_q": an.asarray([0.0, 4.0])}, "vector of integers"),
        ({"max_q": 1}, "must have lengths ≤ 1, got one of"),
        ({"cu_seq_k": an.asarray([0, 8]), "max_k": 8}, "must have as many sequences, got 2 and 1"),
        ({"window_size": (-2, 0)}, "numbers ≥ −1"),
        (
            {"key": pages[0], "block_table": an.asarray([[0, 1], [2, 3]])},
            "seqused_k, .*, must be given with block_table",
        ),
    ):
        arguments = {
            "query": q,
            "key": k,
            "value": v,
            "cu_seq_q": ends[0],
            "cu_seq_k": ends[1],
            "max_q": 2,
            "max_k": 4,
        } | options
        with pytest.raises(ValueError, match=words):
            varlen_attn(**arguments)
