"""The workloads in anynet."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import anynet as an
from anynet import nn
from anynet.nn import functional as F
from ci.bench.workloads import GPT, LSTM, MLP, Workload, data


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        same = stride == 1 and inputs == outputs
        self.shortcut = (
            nn.Identity()
            if same
            else nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs)
            )
        )

    def forward(self, x: Any) -> Any:
        y = F.relu(self.bn1(self.conv1(x)))
        return F.relu(self.bn2(self.conv2(y)) + self.shortcut(x))


class Recurrent(nn.Module):
    def __init__(self) -> None:
        self.lstm = nn.LSTM(LSTM["inputs"], LSTM["hidden"])
        self.out = nn.Linear(LSTM["hidden"], LSTM["classes"])

    def forward(self, x: Any) -> Any:
        return self.out(self.lstm(x)[0][-1, ...])


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        n, t, w = x.shape
        qkv = an.reshape(self.qkv(self.ln1(x)), (n, t, 3, self.heads, w // self.heads))
        q, k, v = an.unstack(an.permute_dims(qkv, (2, 0, 3, 1, 4)))
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(an.reshape(an.permute_dims(y, (0, 2, 1, 3)), (n, t, w)))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class Transformer(nn.Module):
    def __init__(self) -> None:
        width = GPT["width"]
        self.tokens, self.places = nn.Embedding(GPT["vocabulary"], width), nn.Embedding(GPT["context"], width)
        self.layers = nn.Sequential(*(Layer(width, GPT["heads"]) for _ in range(GPT["layers"])))
        self.ln, self.head = nn.LayerNorm(width), nn.Linear(width, GPT["vocabulary"], bias=False)

    def forward(self, x: Any) -> Any:
        return self.head(self.ln(self.layers(self.tokens(x) + self.places.weight)))


def _libraries() -> None:
    """Load what anynet loads at the first use of it, so that it counts as an import."""
    y = nn.Conv2d(1, 1, 3)(an.zeros((1, 1, 8, 8)))
    an.compile(lambda x: an.tanh(x + 1.0) * 2.0)(y.detach())


_libraries()


def network(model: str) -> nn.Module:
    """The network of a workload."""
    if model in MLP:
        widths = MLP[model]
        act = nn.Tanh if model == "tiny" else nn.ReLU
        parts: list[nn.Module] = []
        for a, b in itertools.pairwise(widths):
            parts += [nn.Linear(a, b), act()]
        return nn.Sequential(*parts[:-1])
    if model == "lenet":
        return nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
        )  # fmt: skip
    if model == "resnet":
        return nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), Block(16, 16, 1), Block(16, 32, 2),
            Block(32, 64, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10),
        )  # fmt: skip
    return Recurrent() if model == "lstm" else Transformer()


def loss_of(model: str, y: Any, target: Any) -> Any:
    if model == "tiny":
        return F.mse_loss(y, target)
    if model == "gpt":
        y, target = an.reshape(y, (-1, GPT["vocabulary"])), an.reshape(target, (-1,))
    return F.cross_entropy(y, target)


def training(workload: Workload, compiled: bool) -> Callable[[], Any]:
    """A function that makes one step and returns the loss."""
    an.random.manual_seed(0)
    net = network(workload.model)
    x, target = (an.asarray(a) for a in data(workload.model, workload.batch))
    make = {"adam": lambda p: an.optim.Adam(p, lr=1e-3), "sgd": lambda p: an.optim.SGD(p, lr=1e-2)}
    optimizer = make[workload.optimizer](net.parameters())

    def step(x: Any, target: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(workload.model, net(x), target)
        loss.backward()
        optimizer.step()
        return loss

    run = an.compile(step) if compiled else step
    return lambda: run(x, target)


def inference(workload: Workload, compiled: bool) -> Callable[[], Any]:
    """A function that computes the output for one example."""
    net = network(workload.model).eval()
    x = an.asarray(data(workload.model, 1)[0])

    def forward(x: Any) -> Any:
        with an.no_grad():
            return net(x)

    run = an.compile(forward) if compiled else forward
    return lambda: run(x)


def convolution(shape: tuple[int, ...], compiled: bool) -> Callable[[], Any]:
    """A function that computes a convolution and its three gradients."""
    import numpy as np

    n, c, size, kernel, padding, stride, filters = shape
    layer = nn.Conv2d(c, filters, kernel, stride=stride, padding=padding)
    x = an.asarray(
        np.random.default_rng(0).normal(size=(n, c, size, size)).astype(np.float32), requires_grad=True
    )
    g = an.ones_like(layer(x).detach())

    def step(g: Any) -> Any:
        layer.zero_grad()
        x.grad = None
        layer(x).backward(g)
        return x.grad

    return lambda: step(g)
