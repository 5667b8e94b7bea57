"""Max unpooling as PyTorch's."""

import numpy as np
import pytest

import anynet as an
from torch_oracle import torch

nn, T, F, TF = an.nn, torch.nn, an.nn.functional, torch.nn.functional
rng = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("axes", "pool", "shape", "size"),
    [
        (1, {"kernel_size": 2}, (2, 3, 8), None), (1, {"kernel_size": 3, "stride": 2}, (3, 9), None),
        (2, {"kernel_size": 2}, (2, 3, 6, 4), None), (2, {"kernel_size": 2, "stride": 2}, (1, 2, 5, 5), (5, 5)),
        (2, {"kernel_size": (3, 2), "stride": 2, "padding": 1}, (2, 2, 7, 6), None), (3, {"kernel_size": 2}, (1, 2, 4, 4, 4), None),
    ],
)  # fmt: skip
def test_max_unpooling(axes, pool, shape, size):
    x = rng.normal(size=shape)
    values, places = getattr(TF, f"max_pool{axes}d")(torch.tensor(x), **pool, return_indices=True)
    _, at = getattr(F, f"max_pool{axes}d")(an.asarray(x), **pool, return_indices=True)
    assert (at.numpy() == places.numpy()).all()
    a, t = an.asarray(values.numpy(), requires_grad=True), values.clone().requires_grad_()
    ours, theirs = getattr(nn, f"MaxUnpool{axes}d")(**pool), getattr(T, f"MaxUnpool{axes}d")(**pool)
    assert repr(ours) == repr(theirs)
    y, u = ours(a, at, size), theirs(t, places, size)
    assert y.shape == tuple(u.shape)
    np.testing.assert_array_equal(y.numpy(), u.detach().numpy())
    an.sum(y**3).backward()
    (u**3).sum().backward()
    np.testing.assert_allclose(a.grad.numpy(), t.grad.numpy(), rtol=1e-12)


def test_bad_arguments():
    x, i = an.ones((1, 1, 2)), an.asarray([[[0, 2]]])
    for make, message in (
        (lambda: F.max_unpool1d(x, an.asarray([0]), 2), "must have the same shape"),
        (lambda: F.max_unpool1d(x, i, 2, output_size=(9,)), "by less than the stride"),
        (lambda: F.max_unpool1d(x, i + 5, 2), r"must be in \[0, 3\]"),
    ):
        with pytest.raises(ValueError, match=message):
            make()
