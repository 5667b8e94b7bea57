"""The older weight and spectral normalization against PyTorch's, through training steps, files and removal."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import anynet as an
from anynet import nn
from torch_oracle import torch

LAYERS = [
    ("Linear", (4, 3), (5, 4)),
    ("Conv2d", (2, 3, 3), (2, 2, 6, 5)),
    ("ConvTranspose1d", (3, 2, 2), (2, 3, 5)),
]


def pair(kind, args, function, **options):
    torch.manual_seed(1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        theirs = getattr(torch.nn.utils, function)(getattr(torch.nn, kind)(*args).double(), **options)
    ours = getattr(nn.utils, function)(getattr(nn, kind)(*args).double(), **options)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: an.asarray(v.numpy().copy()) for k, v in theirs.state_dict().items()})
    return ours, theirs


@pytest.mark.parametrize(("kind", "args", "shape"), LAYERS, ids=[row[0] for row in LAYERS])
@pytest.mark.parametrize(
    ("function", "options"),
    [
        ("weight_norm", {}), ("weight_norm", {"dim": None}), ("weight_norm", {"dim": 1}),
        ("spectral_norm", {}), ("spectral_norm", {"n_power_iterations": 3, "eps": 1e-6}), ("spectral_norm", {"dim": 1}),
    ],
)  # fmt: skip
def test_three_steps_then_evaluation_and_removal(kind, args, shape, function, options):
    ours, theirs = pair(kind, args, function, **options)
    mine, other = an.optim.SGD(ours.parameters(), lr=0.1), torch.optim.SGD(theirs.parameters(), lr=0.1)
    x = np.random.default_rng(3).normal(size=shape)
    for _ in range(3):
        mine.zero_grad(), other.zero_grad()
        y, u = ours(an.asarray(x)), theirs(torch.tensor(x))
        np.testing.assert_allclose(y.numpy(), u.detach().numpy(), rtol=1e-11, atol=1e-12)
        an.sum(y * y).backward(), (u * u).sum().backward()
        for (name, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-10, atol=1e-11, err_msg=name)
        mine.step(), other.step()
    for k, v in theirs.state_dict().items():
        np.testing.assert_allclose(ours.state_dict()[k].numpy(), v.numpy(), rtol=1e-10, err_msg=k)
    ours.eval(), theirs.eval()
    y, u = ours(an.asarray(x)), theirs(torch.tensor(x))
    np.testing.assert_allclose(y.numpy(), u.detach().numpy(), rtol=1e-10, atol=1e-12)
    getattr(nn.utils, f"remove_{function}")(ours)
    getattr(torch.nn.utils, f"remove_{function}")(theirs)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    np.testing.assert_allclose(ours(an.asarray(x)).numpy(), u.detach().numpy(), rtol=1e-10, atol=1e-12)


def test_another_parameter_of_a_module():
    net = nn.utils.weight_norm(nn.RNN(3, 4), "weight_hh_l0")
    assert "weight_hh_l0_g" in net.state_dict()
    assert net(an.ones((2, 1, 3)))[0].shape == (2, 1, 4)


def test_refusals_change_nothing():
    layer = nn.Linear(3, 2)
    for call, error, words in (
        (lambda: nn.utils.weight_norm(layer, "wieght"), ValueError, "no parameter 'wieght'"),
        (lambda: nn.utils.spectral_norm(layer, "nothing"), ValueError, "no parameter 'nothing'"),
        (lambda: nn.utils.spectral_norm(layer, dim=2), IndexError, "dim must be an axis"),
        (lambda: nn.utils.spectral_norm(layer, n_power_iterations=0), ValueError, "must be ≥ 1, got 0"),
        (lambda: nn.utils.remove_weight_norm(layer), ValueError, "is not made by weight_norm"),
        (lambda: nn.utils.remove_spectral_norm(layer), ValueError, "is not made by spectral_norm"),
    ):
        with pytest.raises(error, match=words):
            call()
        assert list(layer.state_dict()) == ["weight", "bias"]
    nn.utils.weight_norm(layer)
    with pytest.raises(RuntimeError, match="already made by WeightNorm"):
        nn.utils.spectral_norm(layer)
    assert list(layer.state_dict()) == ["bias", "weight_g", "weight_v"]
