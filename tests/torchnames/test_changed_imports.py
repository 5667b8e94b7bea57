"""Import lines of PyTorch's changed to anynet.torch's, the rest of a script as it was; and einops on these tensors."""

import numpy as np
import pytest

import anynet.torch as ours
from anynet.torch.imports import with_changed_imports
from torch_oracle import torch

einops = pytest.importorskip("einops", reason="needs einops of the extra test")

SCRIPT = """import os, torch
import torch.nn as nn, torch.nn.functional
from torch.nn import (
    Linear,
    ReLU as R,
)  # the rest of the line
from einops.layers.torch import Rearrange
from torch.utils.tensorboard import SummaryWriter
from .torch import here
def f():
    "é"; import torch.optim; return torch.optim
"""
CHANGED = """import os; import anynet.torch as torch
import anynet.torch.nn as nn; import anynet.torch.nn.functional; import anynet.torch as torch
from anynet.torch.nn import Linear, ReLU as R  # the rest of the line
from anynet.torch.einops.layers.torch import Rearrange
from tensorboardX import SummaryWriter
from .torch import here
def f():
    "é"; import anynet.torch.optim; import anynet.torch as torch; return torch.optim
"""


def test_only_import_lines_change():
    assert with_changed_imports(SCRIPT) == CHANGED
    assert with_changed_imports(CHANGED.replace("torch.nn as nn", "os")) == CHANGED.replace(
        "torch.nn as nn", "os"
    )
    with pytest.raises(SyntaxError):
        with_changed_imports("import torch\nx = (")


@pytest.mark.parametrize(
    "line",
    [
        "e.rearrange(x, 'b c (h p) -> b h (p c)', p=2)",
        "e.repeat(x, 'b c n -> b (c r) n', r=3)",
        "e.reduce(x, 'b c n -> b n', 'max')",
        "e.reduce(x, 'b c n -> c', 'mean')",
        "e.reduce(x, 'b c n -> b', 'prod')",
        "e.pack([x, x[:, 0]], 'b * n')[0]",
        "e.unpack(x, [[1], [2]], 'b * n')[1]",
        "e.einsum(x, x, 'b c n, b d n -> b c d')",
        "e.parse_shape(x, 'b c n')['c']",
        "L.Rearrange('b c n -> b n c')(x)",
        "L.Reduce('b c n -> b c', 'sum')(x)",
    ],
)
def test_einops(line):
    from anynet.torch import einops as rewritten
    from anynet.torch.einops.layers import torch as my_layers

    draw = np.random.default_rng(1).normal(size=(2, 3, 4))
    x, y = ours.tensor(draw, requires_grad=True), torch.tensor(draw, requires_grad=True)
    from einops.layers import torch as layers  # it imports PyTorch

    found, expected = (
        eval(line, {"e": rewritten, "x": x, "L": my_layers}),
        eval(line, {"e": einops, "x": y, "L": layers}),
    )
    if isinstance(expected, int):
        assert found == expected
        return
    assert isinstance(found, ours.Tensor)
    assert tuple(found.shape) == tuple(expected.shape)
    np.testing.assert_allclose(found.detach().numpy(), expected.detach().numpy(), rtol=1e-12)
    (found**2).sum().backward()
    (expected**2).sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.grad.numpy(), rtol=1e-12)


def test_einmix_is_a_linear_layer():
    from anynet.torch.einops.layers.torch import EinMix

    layer = EinMix("b n c -> b n d", weight_shape="c d", bias_shape="d", c=3, d=5)
    y = layer(ours.ones(2, 4, 3))
    assert tuple(y.shape) == (2, 4, 5)
    assert ours.allclose(y[0, 0], layer.weight.sum(0) + layer.bias.view(-1))
    assert len(list(layer.parameters())) == 2
