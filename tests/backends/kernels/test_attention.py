"""Attention head by head: as machine code, shared by threads, and as NumPy's calls, against the reference in double precision."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.ops.attention import attention
from anynet_backends import get_backend, kernels

ATTENTIONS = [  # what stands before the matrices, queries, keys, width, width of the values, kind of mask
    ((2, 3), 40, 40, 16, 16, "causal"), ((2, 3), 40, 30, 16, 24, None), ((5,), 30, 50, 32, 8, "boolean"),
    ((2, 2), 33, 47, 24, 24, "numbers"), ((2, 3), 40, 40, 16, 16, "each head"), ((), 64, 80, 64, 64, "causal"),
    ((2, 1), 300, 260, 16, 16, "causal"), ((3,), 270, 300, 8, 12, "boolean"),
]  # fmt: skip


def _mask(kind, lead, n, m, rng):
    if kind == "boolean":
        mask = rng.random((n, m)) < 0.7
        mask[:, 0] = True
        return mask
    if kind == "each head":
        mask = rng.random((*lead, n, m)) < 0.7
        mask[..., 0] = True
        return mask
    return rng.normal(size=(n, m)) if kind == "numbers" else None


@pytest.mark.parametrize("order", ["plain", "heads inside", "packed", "strided", "read-only"])
@pytest.mark.parametrize(("lead", "n", "m", "e", "d", "kind"), ATTENTIONS, ids=str)
def test_attention_equals_the_reference_in_double(lead, n, m, e, d, kind, order, threads, monkeypatch):
    monkeypatch.setattr(kernels.attention, "_SMALL", 0)  # smaller calls are left to specialization
    rng = np.random.default_rng(0)
    shapes = (*lead, n, e), (*lead, m, e), (*lead, m, d)
    values = [rng.normal(size=s) for s in shapes]
    mask = _mask(kind, lead, n, m, rng)
    weigh = rng.normal(size=(*lead, n, d))

    def placed(a):
        if order == "heads inside":
            return np.moveaxis(np.ascontiguousarray(np.moveaxis(a, -2, 0)), 0, -2)
        if order == "packed":
            whole = np.zeros((*a.shape[:-1], 3 * a.shape[-1]), a.dtype)
            whole[..., a.shape[-1] : 2 * a.shape[-1]] = a
            return whole[..., a.shape[-1] : 2 * a.shape[-1]]
        if order == "strided":
            return np.repeat(a, 2, axis=-1)[..., ::2]
        if order == "read-only":
            a.flags.writeable = False
        return a

    def run(dtype, on):
        given = [an.Tensor(placed(v.astype(dtype)), requires_grad=True) for v in values]
        if mask is not None:
            numbers = mask.astype(dtype) if kind == "numbers" else mask
            given.append(an.Tensor(numbers, requires_grad=kind == "numbers"))
        with an.use_kernels(on):
            y = attention(*given, scale=0.3, causal=kind == "causal")
            an.sum(y * an.asarray(weigh.astype(dtype))).backward()
            with an.no_grad():
                again = attention(*given, scale=0.3, causal=kind == "causal")
        np.testing.assert_array_equal(again.numpy(), y.detach().numpy())
        return [y.detach().numpy()] + [x.grad.numpy() for x in given if x.requires_grad]

    xp = get_backend("numpy")
    plain = [placed(v.astype(np.float32)) for v in values]
    given = {"scale": 0.3, "causal": kind == "causal", "need": None}
    numbers = mask if mask is None or mask.dtype == bool else mask.astype(np.float32)
    assert kernels.KERNELS["attention"](xp, *plain, numbers, **given) is not NotImplemented
    for mine, expected in zip(run(np.float32, True), run(np.float64, False), strict=True):
        assert (mine.dtype, mine.shape) == (np.float32, expected.shape)
        assert np.abs(mine - expected).max() <= 5e-6 * max(1.0, np.abs(expected).max())


def test_attention_of_what_is_not_finite_and_rows_that_look_at_nothing(threads, monkeypatch):
    monkeypatch.setattr(kernels.attention, "_SMALL", 0)  # smaller calls are left to specialization
    rng = np.random.default_rng(0)
    q, k, v = (rng.normal(size=(2, 3, 40, 16)).astype(np.float32) for _ in range(3))
    mask = rng.random((40, 40)) < 0.7
    mask[5] = False
    nan, inf = k.copy(), q.copy()
    nan[0, 1, 7, 3], inf[1, 2, 4, :] = np.nan, np.inf
    endless = v.copy()
    endless[0, 0, 3, 2] = np.inf
    for a in ((q, k, v, mask), (q, nan, v), (inf, k, v), (q, k, endless), (q, nan, v, mask)):
        found = []
        for on in (True, False):
            given = [an.Tensor(x, requires_grad=x.dtype != bool) for x in a]
            with an.use_kernels(on), np.errstate(invalid="ignore"):
                y = attention(*given, scale=0.25)
                an.sum(y).backward()
            found.append([y.detach().numpy()] + [x.grad.numpy() for x in given[:3]])
        for mine, expected in zip(*found, strict=True):
            np.testing.assert_allclose(mine, expected, rtol=1e-4, atol=1e-5)  # NaN at the same places


def test_attention_in_a_program_has_the_bits_of_eager():
    rng = np.random.default_rng(0)
    net = an.nn.MultiheadAttention(64, 4, batch_first=True)
    optimizer = an.optim.SGD(net.parameters(), lr=0.1)

    def step(x):
        optimizer.zero_grad()
        y, _ = net(x, x, x, need_weights=False)
        loss = an.mean(y * y)
        loss.backward()
        optimizer.step()
        return loss

    start = {k: an.asarray(v.numpy().copy()) for k, v in net.state_dict().items()}
    batches = [an.asarray(rng.normal(size=(3, 48, 64)).astype(np.float32)) for _ in range(4)]
    found = []
    for run in (step, an.compile(step)):
        net.load_state_dict(start)
        found.append([run(x).item() for x in batches] + [v.numpy().copy() for v in net.state_dict().values()])
    for a, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_attention_is_differentiated_twice():
    rng = np.random.default_rng(0)
    values = [rng.normal(size=(4, 40, 16)) for _ in range(3)]

    def second(dtype):
        given = [an.asarray(v.astype(dtype), requires_grad=True) for v in values]
        y = attention(*given, scale=0.25, causal=True, block=8 if dtype == np.float64 else 256)
        an.sum(y * y).backward(create_graph=True)
        grads = [x.grad for x in given]
        for x in given:
            x.grad = None
        an.sum(grads[0] * grads[1]).backward()
        return [x.grad.numpy() for x in given]

    for mine, expected in zip(second(np.float32), second(np.float64), strict=True):
        assert np.abs(mine - expected).max() <= 5e-6 * np.abs(expected).max()
