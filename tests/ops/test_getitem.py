"""x[key] with integer arrays anywhere among slices, integers and None: values and gradients are NumPy's."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an

X = np.random.default_rng(0).normal(size=(4, 5, 3, 2))
rng = np.random.default_rng(1)


def random_key():
    """A key for X of up to four parts, with None and ... thrown in."""
    key = []
    for length in X.shape[: rng.integers(1, 5)]:
        key.append(
            [
                slice(None), slice(1, None), slice(None, None, -1), slice(0, 0), int(rng.integers(-length, length)),
                rng.integers(-length, length, size=(2,)), rng.integers(-length, length, size=(3, 1)), [0, -1],
            ][rng.integers(8)]
        )  # fmt: skip
    if rng.random() < 0.4:
        key.insert(rng.integers(len(key) + 1), None)
    if len(key) < 4 and rng.random() < 0.5:
        key.append(...)
    elif rng.random() < 0.3 and len([k for k in key if k is not None]) <= 2:
        key.insert(0, ...)
    return tuple(key)


def test_random_keys():
    seen = 0
    while seen < 300:
        key = random_key()
        try:
            expected = X[key]
        except IndexError:  # arrays that do not broadcast
            continue
        seen += 1
        x = an.asarray(X, requires_grad=True)
        y = x[key]
        np.testing.assert_array_equal(y.detach().numpy(), expected, strict=True)
        weights = rng.normal(size=expected.shape)
        an.sum(y * weights).backward()
        gradient = np.zeros_like(X)
        np.add.at(gradient, key, weights)
        np.testing.assert_allclose(x.grad.numpy(), gradient, atol=1e-12)


KEYS = [
    (slice(None), [0, 2]), (slice(None), [[0], [1]], slice(0, 2)), (1, slice(None), [0, 1]), (..., [1, 0]), (None, [0, 1], 1),
    ([0, 1], slice(None), 1), (slice(1, 3), [0, 1], [2, 0]), ([1, 0], None),
]  # fmt: skip


@pytest.mark.parametrize("key", KEYS, ids=str)
def test_on_every_backend(key, xp_device):
    x = an.asarray(X, device=xp_device, requires_grad=True)
    placed = tuple(an.asarray(k, device=xp_device) if isinstance(k, list) else k for k in key)
    plain = tuple(np.asarray(k) if isinstance(k, list) else k for k in key)
    y = x[placed]
    np.testing.assert_array_equal(y.detach().numpy(), X[plain])
    an.sum(y * y).backward()
    gradient = np.zeros_like(X)
    np.add.at(gradient, plain, 2 * X[plain])
    np.testing.assert_allclose(x.grad.numpy(), gradient, rtol=1e-12)


def test_second_order():
    assert an.gradgradcheck(lambda x: x[:, [0, 2, 0]] ** 3, (an.asarray(X[0], requires_grad=True),))


@pytest.mark.parametrize("key", [(slice(None), [0, 5]), (0, [0, -6])], ids=str)
def test_out_of_range(key):
    with pytest.raises(IndexError, match=r"5|-6"):
        an.asarray(X)[key]
