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


def hidden(device):
    """A causal mask, and one that hides the last keys of a sequence."""
    causal = np.triu(np.ones((5, 5), bool), 1)
    padding = np.zeros((3, 5), bool)
    padding[1, 3:] = True
    return an.asarray(causal, device=device), an.asarray(padding, device=device)


@pytest.mark.parametrize("floating", [False, True], ids=["boolean", "added"])
@pytest.mark.parametrize("kind", ["causal", "padding", "both", "decoder"])
def test_masked_layers_are_right(kind, floating):
    an.random.manual_seed(1)
    layer = nn.TransformerDecoderLayer if kind == "decoder" else nn.TransformerEncoderLayer
    net = layer(16, 2, 24, dropout=0.1, batch_first=True)

    def outputs(device):
        an.random.manual_seed(2)
        there = copy.deepcopy(net).to(device)
        causal, padding = hidden(device)
        if floating:
            causal = an.where(causal, -1e9, an.zeros(causal.shape, device=device))
            padding = an.where(padding, -1e9, an.zeros(padding.shape, device=device))
        options = {
            "causal": {"src_mask": causal, "is_causal": True},
            "padding": {"src_key_padding_mask": padding},
        }
        options["both"] = {"src_mask": causal, "src_key_padding_mask": padding}
        options["decoder"] = {"tgt_mask": causal, "tgt_is_causal": True, "memory_key_padding_mask": padding}
        found = []
        for i in range(5):
            x, m = (an.asarray(a, device=device, requires_grad=True) for a in inputs(i))
            y = there(x, *((m,) if kind == "decoder" else ()), **options[kind])
            an.sum(y * m).backward()
            found.append([a.numpy() for a in (y, x.grad, m.grad, *(p.grad for p in there.parameters()))])
            for p in there.parameters():
                p.grad = None
        return found, type(y.edge).__name__

    (here, _), (there, node) = outputs("cpu"), outputs("cuda")
    assert node == "_FusedNode"
    for a, b in zip(here, there, strict=True):
        for u, v in zip(a, b, strict=True):
            np.testing.assert_allclose(u, v, rtol=5e-4, atol=2e-5)


def test_options_are_a_part_of_what_is_kept():
    net = MODULES["in evaluation"]().to("cuda")
    x = an.asarray(inputs()[0], device="cuda")
    causal, _ = hidden("cuda")
    for _ in range(4):
        plain, masked = net(x), net(x, src_mask=causal)
    assert float(an.max(an.abs(plain - masked))) > 1e-3


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
