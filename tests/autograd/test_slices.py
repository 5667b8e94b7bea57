"""Gradients of parts of one array: added where they belong, with the bits of sums of whole arrays."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.autograd import backward

KEYS = [
    0, (..., 2), slice(1, 3), (slice(None, None, 2), slice(None)), (None, 3), (..., None), (slice(None), 1), (2, 4), -1, slice(0, 0), ...,
]  # fmt: skip


def gradient(dtype, keys, seed, use=lambda x: x * 2.0):
    """The gradient of a sum over parts of a result, half of whose gradients are 0 or −0."""
    rng = np.random.default_rng(seed)
    x = an.asarray(rng.normal(size=(6, 5)).astype(dtype), requires_grad=True)
    h = use(x)
    loss = an.sum(h * h)
    for key in keys:
        part = h[key]
        mask = rng.normal(size=part.shape).astype(dtype) * (rng.random(part.shape) > 0.5)
        loss = loss + an.sum(part * an.asarray(mask)) + an.sum(h[h > 0.5] if isinstance(key, int) else part)
    loss.backward()
    return x.grad.numpy()


@pytest.mark.parametrize(
    "use",
    [lambda x: x * 2.0, lambda x: an.permute_dims(x, (1, 0)) * 1.0, lambda x: x],
    ids=["result", "T", "leaf"],
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("seed", range(4))
def test_the_same_bits(use, dtype, seed, monkeypatch):
    keys = [KEYS[i] for i in np.random.default_rng(seed).permutation(len(KEYS)) if KEYS[i] != (2, 4)] + [
        (2, 4)
    ]
    if use is not None and seed % 2:
        keys = keys[:4]
    found = gradient(dtype, keys, seed, use)
    monkeypatch.setattr(backward._Slices, "add", lambda *_: False)
    assert found.tobytes() == gradient(dtype, keys, seed, use).tobytes()


def test_signs_of_zeros():
    x = an.asarray(np.zeros(3), requires_grad=True)
    h = x * 1.0
    minus = an.asarray(np.asarray([-0.0, -0.0]))
    for count in (1, 2, 3, 4):
        x.grad = None
        an.sum(an.stack([(h[:2] * minus) for _ in range(count)])).backward(retain_graph=True)
        once = x.grad.numpy()
        g = np.zeros(3)
        g[:2] = -0.0
        want = g.copy()
        for _ in range(count - 1):
            want = want + g
        np.testing.assert_array_equal(np.signbit(once), np.signbit(want))


def test_hooks_see_the_whole_gradient_and_parts():
    x = an.asarray(np.ones(4), requires_grad=True)
    h = x * 1.0
    seen, parts = [], [h[i] for i in range(4)]
    h.register_hook(lambda g: seen.append(g.numpy().copy()))
    for i, part in enumerate(parts):
        part.register_hook(lambda g, i=i: g * float(i))
    (parts[0] + parts[1] + parts[2] + parts[3]).backward()
    np.testing.assert_array_equal(seen, [[0, 1, 2, 3]])
    np.testing.assert_array_equal(x.grad.numpy(), [0, 1, 2, 3])


@pytest.mark.parametrize("observed", [False, True])
def test_again_and_twice(observed):
    x = an.asarray(np.arange(1.0, 5.0), requires_grad=True)
    with an.anomaly() if observed else an.enable_grad():
        y = an.sum(an.stack([x[i] ** 3 for i in range(4)]))
        y.backward(retain_graph=True)
        y.backward()
    np.testing.assert_array_equal(x.grad.numpy(), 6 * np.arange(1.0, 5.0) ** 2)
    gradient_of = an.grad(lambda x: an.sum(an.stack([x[i] ** 3 for i in range(4)])))
    np.testing.assert_array_equal(gradient_of(x).numpy(), 3 * np.arange(1.0, 5.0) ** 2)
    np.testing.assert_array_equal(
        an.grad(lambda x: an.sum(gradient_of(x)))(x).numpy(), 6 * np.arange(1.0, 5.0)
    )
    assert an.gradgradcheck(lambda x: x[0] * x[1:] + x[:-1] * x[2] + x[1:], x)


def test_a_number_and_outputs_of_one_operation():
    x = an.asarray(3.0, requires_grad=True)
    (x[...] + x[...] * 2.0 + x[...] * 3.0 + x[...]).backward()
    assert float(x.grad) == 7.0
    v = an.asarray(np.ones((2, 3)), requires_grad=True)
    a, b = an.unstack(v * 1.0)
    (a[0] + a[1] + a[2] + b[0] + b[0] + b[0]).backward()
    np.testing.assert_array_equal(v.grad.numpy(), [[1, 1, 1], [3, 0, 0]])


def test_gradients_that_are_handed_out_do_not_change():
    x = an.asarray(np.ones(3), requires_grad=True)
    for _ in range(2):
        an.sum(an.stack([x[i] for i in (0, 1, 2, 0)])).backward()
    first = x.grad
    kept = first.numpy().copy()
    an.sum(an.stack([x[i] for i in (0, 1, 2, 0)])).backward()
    np.testing.assert_array_equal(kept, [4, 2, 2])
    np.testing.assert_array_equal(x.grad.numpy(), [6, 3, 3])


def test_loops_compiled_have_the_same_bits():
    def step(x):
        h = x * 1.5
        total = an.sum(h[0] * h[1])
        for t in range(5):
            total = total + an.sum(h[t] ** 2 * h[t, :1])
        total.backward()
        return total

    a = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    p = an.Parameter(a)
    step(p)
    want = p.grad.numpy()
    p.grad = None
    compiled = an.compile(lambda: step(p))
    for _ in range(2):
        p.grad = None
        compiled()
    assert p.grad.numpy().tobytes() == want.tobytes()
