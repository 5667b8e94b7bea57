"""Separable and recurrent convolutions against their formulas."""

import numpy as np
import pytest

import anynet as an
from anynet import nn
from torch_oracle import agree_with_gradients, torch


def draw(*shape, seed=0, low=None, high=None):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) if low is None else rng.uniform(low, high, size=shape)


@pytest.mark.parametrize(
    "options", [{}, {"stride": 2, "padding": 1}, {"padding": "same", "depth_multiplier": 3}, {"bias": False}]
)
def test_separable_convolution(options):
    an.random.manual_seed(0)
    layer = nn.SeparableConv2d(2, 3, 3, **options).to("float64")
    s = {k: torch.tensor(v.numpy()) for k, v in layer.state_dict().items()}

    def reference(x):
        y = torch.nn.functional.conv2d(
            x, s["depthwise.weight"], None, options.get("stride", 1), options.get("padding", 0), groups=2
        )
        return torch.nn.functional.conv2d(y, s["pointwise.weight"], s.get("pointwise.bias"))

    agree_with_gradients(layer, reference, draw(2, 2, 7, 6))


@pytest.mark.parametrize("given", [False, True])
def test_convolutional_lstm(given):
    an.random.manual_seed(0)
    layer = nn.ConvLSTM2d(2, 3, 3).to("float64")
    s = {k: torch.tensor(v.numpy()) for k, v in layer.state_dict().items()}
    x, state = draw(3, 2, 2, 4, 5), draw(2, 3, 4, 5, seed=1)

    def reference(x, h0):
        h, c = (h0, h0) if given else (0 * h0, 0 * h0)
        out = []
        for t in range(3):
            a = torch.nn.functional.conv2d(x[t], s["input.weight"], s["input.bias"], padding=1)
            i, f, g, o = (a + torch.nn.functional.conv2d(h, s["hidden.weight"], padding=1)).chunk(4, 1)
            c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
            h = torch.sigmoid(o) * torch.tanh(c)
            out.append(h)
        return torch.stack([*out, c])

    def ours(x, h0):
        y, (_, c) = layer(x, (h0, h0) if given else None)
        return an.concat([y, an.expand_dims(c, axis=0)]) + 0.0 * h0

    agree_with_gradients(ours, reference, x, state)
