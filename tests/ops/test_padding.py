"""Padding with an array's own values and with numbers: values, gradients of both orders, every backend."""

from __future__ import annotations

import math

import numpy as np
import pytest

import anynet as an
import anynet.nn.functional as F

CASES = [
    ((3, 4), (2, 1)), ((2, 3, 5), (1, 0)), ((2, 3, 4, 5), (4, 3, 2, 3)), ((2, 3, 4, 5), (0, 0, 1, 2)),
    ((1, 2, 3, 4, 5), (1, 2, 3, 0, 2, 1)),
    ((2, 3, 4, 5), (1, 2, -1, 2)),
    ((3, 4), (-2, 1)),
]  # fmt: skip


@pytest.mark.parametrize("numba", ["on", "off"])
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular", "constant"])
@pytest.mark.parametrize(("shape", "pads"), CASES)
def test_as_torch(monkeypatch, shape, pads, mode, numba):
    torch = pytest.importorskip("torch", reason="compares with PyTorch")
    monkeypatch.setenv("ANYNET_NUMBA", numba)
    rng = np.random.default_rng(0)
    a = rng.normal(size=shape)
    x, t = an.asarray(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    y, u = F.pad(x, pads, mode), torch.nn.functional.pad(t, pads, mode)
    np.testing.assert_array_equal(y.numpy(), u.detach().numpy())
    g = rng.normal(size=y.shape)
    y.backward(an.asarray(g))
    u.backward(torch.tensor(g))
    np.testing.assert_allclose(x.grad.numpy(), t.grad.numpy(), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_own_values_on_every_backend(xp_device, mode):
    a = np.arange(24.0).reshape(2, 3, 4)
    x = an.asarray(a, device=xp_device, requires_grad=True)
    y = F.pad(x, (2, 1, 1, 2), mode)
    want = np.pad(a, ((0, 0), (1, 2), (2, 1)), {"replicate": "edge", "circular": "wrap"}.get(mode, mode))
    assert y.numpy().tolist() == want.tolist()
    an.sum(y * y).backward()
    counted = np.zeros(24)
    np.add.at(counted, want.astype(int).reshape(-1), 1)
    assert x.grad.numpy().tolist() == (2 * a * counted.reshape(a.shape)).tolist()
    second = an.grad(lambda v: an.sum(an.grad(lambda w: an.sum(F.pad(w, (2, 1, 1, 2), mode) ** 3))(v)))(x)
    np.testing.assert_allclose(second.numpy(), 6 * a * counted.reshape(a.shape))


@pytest.mark.parametrize("value", [-math.inf, math.nan, 1e30, 0.1])
def test_a_number_changes_no_other(value):
    """Padding before a maximum takes −∞."""
    a = np.asarray([0.1, -0.3, 1e-20], np.float32)
    x = an.asarray(a, requires_grad=True)
    y = F.pad(x, (1, 2), value=value)
    assert y.numpy()[1:4].tobytes() == a.tobytes()
    np.testing.assert_array_equal(y.numpy()[[0, 4, 5]], np.full(3, value, np.float32))
    y.backward(an.ones(6))
    assert x.grad.tolist() == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_the_same_bits_compiled(mode):
    x = an.asarray(np.random.default_rng(0).normal(size=(2, 3, 6, 7)).astype(np.float32))

    def step(x):
        return an.value_and_grad(lambda x: an.sum(F.pad(x, (2, 3, 1, 2), mode) ** 2))(x)

    first = step(x)
    compiled = an.compile(step)
    compiled(x)
    for a, b in zip(first, compiled(x), strict=True):
        assert a.numpy().tobytes() == b.numpy().tobytes()


@pytest.mark.parametrize("numba", ["on", "off"])
@pytest.mark.parametrize("order", [(0, 2, 3, 1), (1, 2, 3, 0), (0, 3, 1, 2)], ids=str)
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_arrays_keep_their_order_in_memory(mode, order, numba, monkeypatch):
    monkeypatch.setenv("ANYNET_NUMBA", numba)
    rng = np.random.default_rng(0)
    plain = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    x = np.ascontiguousarray(plain.transpose(order)).transpose(np.argsort(order))
    found = []
    for a, on in ((x, True), (plain, False)):
        with an.use_kernels(on):
            t = an.Tensor(a, requires_grad=True)
            y = F.pad(t, (2, 1, 0, 3), mode)
            an.sum(y * y * y).backward()
            found.append((y.numpy(), t.grad.numpy()))
    (y, g), (wanted, gradient) = found
    np.testing.assert_array_equal(y, wanted)
    np.testing.assert_allclose(g, gradient, rtol=1e-6)
    assert y.transpose(order).flags.c_contiguous
    assert g.transpose(order).flags.c_contiguous
