"""Dropout: masks, modes, and the random state behind them."""

import numpy as np
import pytest

import anynet as an
from anynet import random
from anynet.nn import functional as F

nn = an.nn


def test_dropout_masks_are_the_same_on_every_device(xp_device):
    masks = []
    for device in ("cpu", xp_device):
        an.random.manual_seed(3)
        x = an.ones((50, 40), device=device).requires_grad_()
        y = F.dropout(x, 0.3)
        an.sum(y).backward()
        np.testing.assert_array_equal(x.grad.numpy(), y.numpy())  # the same mask on the way back
        masks.append(y.numpy())
    np.testing.assert_array_equal(masks[1], masks[0])
    assert set(np.unique(masks[0])) == {0.0, np.float32(1 / 0.7)}
    assert abs((masks[0] == 0).mean() - 0.3) < 0.03


def test_dropout_layer():
    layer = nn.Dropout(0.5)
    x = an.ones((8, 8))
    first, second = layer(x), layer(x)
    assert (first.numpy() != second.numpy()).any()
    assert layer.eval()(x) is x
    assert F.dropout(x, 0.0) is x
    assert (F.dropout(x, 1.0).numpy() == 0).all()
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 1\.5"):
        nn.Dropout(1.5)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got -1"):
        F.dropout(x, -1)


def test_random_state_comes_back():
    random.manual_seed(11)
    F.dropout(an.ones(4))
    state = random.get_state()
    assert state == {"seed": 11, "weights": 0, "masks": 1}
    first = F.dropout(an.ones(64)).numpy()
    F.dropout(an.ones(64))
    random.set_state(state)
    np.testing.assert_array_equal(F.dropout(an.ones(64)).numpy(), first)
    with pytest.raises(ValueError, match="missing: masks"):
        random.set_state({"seed": 1, "weights": 0})
    for bad in (-1, 1 << 128, 1.5, True):
        with pytest.raises(ValueError, match="a seed must be an integer"):
            random.manual_seed(bad)


def test_same_seed_same_network_on_every_device(xp_device):
    states = []
    for device in ("cpu", xp_device):
        random.manual_seed(5)
        net = nn.Sequential(nn.Linear(4, 3, device=device), nn.Embedding(3, 2, device=device))
        assert {p.device for p in net.parameters()} == {device}
        states.append([v.numpy() for v in net.state_dict().values()])
    for a, b in zip(*states, strict=True):
        np.testing.assert_array_equal(a, b)
