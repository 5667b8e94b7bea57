"""Modules as one program of the device: the numbers of the same modules one by one, masks too, in few launches."""

from __future__ import annotations

import copy

import numpy as np
import pytest

import anynet as an
from anynet import nn
from ci.cuda_emulator.log import Log

MODULES = {
    "an encoder layer": lambda: nn.TransformerEncoderLayer(16, 2, 24, dropout=0.2, batch_first=True),
    "norm first, gelu": lambda: nn.TransformerEncoderLayer(16, 2, 24, dropout=0.2, norm_first=True, activation="gelu"),
    "layers with dropout": lambda: nn.Sequential(nn.Linear(16, 12), nn.GELU(), nn.Dropout(0.3), nn.Linear(12, 16), nn.LayerNorm(16)),
    "in evaluation": lambda: nn.TransformerEncoderLayer(16, 2, 24, batch_first=True).eval(),
}  # fmt: skip


def inputs(seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((3, 5, 16)).astype(dtype), rng.standard_normal((3, 5, 16)).astype(dtype)


def steps(net, device, count=6, dtype=np.float32):
    """The outputs and gradients of some calls, the masks of each its own."""
    an.random.manual_seed(3)
    net = copy.deepcopy(net).to(device)
    found = []
    for i in range(count):
        x, g = (an.asarray(a, device=device) for a in inputs(i, dtype))
        x.requires_grad = True
        y = net(x)
        an.sum(y * g).backward()
        found.append([a.numpy() for a in (y, x.grad, *(p.grad for p in net.parameters()))])
        for p in net.parameters():
            p.grad = None
    return found, an.random.get_state()


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_numbers_are_those_of_the_cpu(name, dtype):
    an.random.manual_seed(1)
    net = MODULES[name]().to(dtype=an.float64 if dtype is np.float64 else an.float32)
    (here, state), (there, other) = steps(net, "cpu", dtype=dtype), steps(net, "cuda", dtype=dtype)
    assert state == other
    for a, b in zip(here, there, strict=True):
        for u, v in zip(a, b, strict=True):
            np.testing.assert_allclose(
                u, v, rtol=2e-4 if dtype is np.float32 else 1e-9, atol=1e-5 if dtype is np.float32 else 1e-10
            )


@pytest.mark.parametrize("name", MODULES)
def test_it_is_one_node(name):
    net = MODULES[name]().to("cuda")
    x = an.asarray(inputs()[0], device="cuda", requires_grad=True)
    for _ in range(4):
        y = net(x)
        an.sum(y).backward()
    assert type(y.edge).__name__ == "_FusedNode"


def test_the_gradient_may_be_differentiated_again():
    net = MODULES["layers with dropout"]().to("cuda")
    x = an.asarray(inputs()[0], device="cuda", requires_grad=True)
    found = []
    for _ in range(4):
        an.random.manual_seed(5)
        y = net(x)
        found.append(y.numpy())
        total = an.sum(y * y)
        total.backward(create_graph=True)
        first = x.grad
        x.grad = None
        an.sum(first * first).backward()
        found.append(x.grad.numpy())
        x.grad = None
    for a, b in zip(found[:2], found[-2:], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)


def test_hooks_are_called():
    net, seen = MODULES["an encoder layer"]().to("cuda"), []
    net.norm1.register_forward_hook(lambda module, args, y: seen.append(y.shape))
    x = an.asarray(inputs()[0], device="cuda")
    for _ in range(5):
        net(x)
    assert len(seen) == 5


def test_a_masked_layer_is_right():
    an.random.manual_seed(1)
    net = nn.TransformerEncoderLayer(16, 2, 24, dropout=0.0, batch_first=True)
    mask = nn.Transformer.generate_square_subsequent_mask(5)
    x = inputs()[0]
    expected = net(an.asarray(x), src_mask=mask).numpy()
    there = net.to("cuda")
    for _ in range(5):
        y = there(an.asarray(x, device="cuda"), src_mask=mask.to("cuda"))
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-4, atol=1e-5)


def test_a_layer_makes_few_launches():
    net = MODULES["an encoder layer"]().to("cuda")
    x = an.asarray(inputs()[0], device="cuda", requires_grad=True)
    g = an.asarray(inputs()[1], device="cuda")
    for _ in range(5):
        with Log() as log:
            net(x).backward(g)
        for p in (x, *net.parameters()):
            p.grad = None
    assert log.launches <= 40
