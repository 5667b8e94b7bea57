"""Maxout and highway layers against their formulas."""

import numpy as np

import anynet as an
from anynet import nn
from torch_oracle import agree_with_gradients, torch


def draw(*shape, seed=0, low=None, high=None):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) if low is None else rng.uniform(low, high, size=shape)


def test_maxout_and_highway():
    an.random.manual_seed(0)
    maxout, highway = nn.Maxout(3, 2, 4).to("float64"), nn.Highway(3).to("float64")
    x = draw(5, 3)
    w, b = (torch.tensor(p.numpy()) for p in maxout.parameters())
    agree_with_gradients(maxout, lambda x: (x @ w.T + b).reshape(5, 2, 4).max(-1).values, x)
    s = {k: torch.tensor(v.numpy()) for k, v in highway.state_dict().items()}
    assert (s["transform.bias"] == -1).all()

    def reference(x):
        gate = torch.sigmoid(x @ s["transform.weight"].T + s["transform.bias"])
        return torch.relu(x @ s["plain.weight"].T + s["plain.bias"]) * gate + x * (1 - gate)

    agree_with_gradients(highway, reference, x)
