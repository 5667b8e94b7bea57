"""Bytes and random numbers on the host."""

from __future__ import annotations

import numpy as np
import pytest

from anynet_backends import host, philox, registry, resolve


def test_bytes():
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert np.array_equal(host.from_bytes(host.to_bytes(a.T), "float32", (3, 2)), a.T)
    assert host.from_bytes(host.to_bytes(a), "float32", (2, 3)).flags.writeable
    assert host.to_bytes(np.array([1], ">i4")) == b"\1\0\0\0"
    with pytest.raises(ValueError, match=r"float32 of shape \(2, 2\) takes 16 bytes, got 24"):
        host.from_bytes(host.to_bytes(a), "float32", (2, 2))


@pytest.mark.parametrize("device", ["cpu", "strict:device1", "torch:cpu"])
def test_asarray_takes_any_array(device):
    try:
        xp, name = resolve(device)
    except RuntimeError as error:
        pytest.skip(str(error))
    x = xp.from_host(np.ones(2, np.float32), name)
    assert registry.is_array(x)
    assert registry.asarray(x).dtype == np.float32
    assert registry.asarray([1, 2], dtype="float64").dtype == np.float64
    with pytest.raises(ValueError, match="inhomogeneous"):
        registry.asarray([[1], [1, 2]])


# ---- random numbers ----


def test_permutation():
    order = philox.permutation(1, 2, 3, 1000)
    assert order.dtype == np.int64
    assert np.array_equal(np.sort(order), np.arange(1000))
    assert np.array_equal(order, philox.permutation(1, 2, 3, 1000))
    assert not np.array_equal(order, philox.permutation(1, 2, 4, 1000))
    assert philox.permutation(1, 2, 3, 0).shape == (0,)


def test_uniform():
    u = philox.uniform(1, 2, 3, (100, 50), -1.0, 3.0)
    assert u.shape == (100, 50)
    assert u.dtype == np.float64
    assert -1 <= u.min() < u.max() < 3
    assert abs(u.mean() - 1) < 0.06
    assert np.array_equal(philox.uniform(1, 2, 3, (5,)), philox.uniform(1, 2, 3, (9,))[:5])


def test_normal():
    z = philox.normal(1, 2, 3, (200, 100), mean=2.0, std=3.0)
    assert z.shape == (200, 100)
    assert abs(z.mean() - 2) < 0.1
    assert abs(z.std() - 3) < 0.1
    generator = np.random.Generator(np.random.Philox(key=[1, 0], counter=[0, 3, 2, 0]))
    assert np.array_equal(philox.normal(1, 2, 3, (7,)), generator.standard_normal(7))


def test_draws_do_not_disturb_each_other():
    first = philox.normal(1, 2, 3, (3,))
    philox.philox_words(9, 9, 9, 3)
    philox.uniform(4, 4, 4, (5,))
    assert np.array_equal(philox.normal(1, 2, 3, (3,)), first)
