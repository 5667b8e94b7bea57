"""The workloads in PyTorch."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn

from ci.bench.workloads import GPT, LSTM, MLP, Workload, data


class Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
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
        super().__init__()
        self.lstm = nn.LSTM(LSTM["inputs"], LSTM["hidden"])
        self.out = nn.Linear(LSTM["hidden"], LSTM["classes"])

    def forward(self, x: Any) -> Any:
        return self.out(self.lstm(x)[0][-1])


class Layer(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln1, self.ln2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Any) -> Any:
        n, t, w = x.shape
        qkv = self.qkv(self.ln1(x)).reshape(n, t, 3, self.heads, w // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.proj(y.permute(0, 2, 1, 3).reshape(n, t, w))
        return x + self.down(F.gelu(self.up(self.ln2(x))))


class Transformer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        width = GPT["width"]
        self.tokens, self.places = nn.Embedding(GPT["vocabulary"], width), nn.Embedding(GPT["context"], width)
        self.layers = nn.Sequential(*(Layer(width, GPT["heads"]) for _ in range(GPT["layers"])))
        self.ln, self.head = nn.LayerNorm(width), nn.Linear(width, GPT["vocabulary"], bias=False)

    def forward(self, x: Any) -> Any:
        return self.head(self.ln(self.layers(self.tokens(x) + self.places.weight)))


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


def _placed(model: str, batch: int, channels_last: bool) -> tuple[Any, Any]:
    x, target = (torch.from_numpy(a) for a in data(model, batch))
    return (x.contiguous(memory_format=torch.channels_last) if channels_last else x), target


def training(workload: Workload, compiled: bool, channels_last: bool = False) -> Callable[[], Any]:
    """A function that makes one step and returns the loss."""
    torch.manual_seed(0)
    net = network(workload.model)
    if channels_last:
        net = net.to(memory_format=torch.channels_last)
    x, target = _placed(workload.model, workload.batch, channels_last)
    fused = {"fused": True} if compiled else {}
    if workload.optimizer == "adam":
        optimizer: Any = torch.optim.Adam(net.parameters(), lr=1e-3, **fused)
    else:
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-2, **fused)

    def forward(x: Any, target: Any) -> Any:
        y = net(x)
        if workload.model == "tiny":
            return F.mse_loss(y, target)
        if workload.model == "gpt":
            return F.cross_entropy(y.reshape(-1, GPT["vocabulary"]), target.reshape(-1))
        return F.cross_entropy(y, target)

    loss_of = torch.compile(forward) if compiled else forward

    def step() -> Any:
        optimizer.zero_grad()
        loss = loss_of(x, target)
        loss.backward()
        optimizer.step()
        return loss

    return step


def inference(workload: Workload, compiled: bool) -> Callable[[], Any]:
    """A function that computes the output for one example."""
    net = network(workload.model).eval()
    x, _ = _placed(workload.model, 1, False)
    run = torch.compile(net) if compiled else net

    def forward() -> Any:
        with torch.no_grad():
            return run(x)

    return forward


def convolution(shape: tuple[int, ...], compiled: bool, channels_last: bool = False) -> Callable[[], Any]:
    """A function that computes a convolution and its three gradients."""
    n, c, size, kernel, padding, stride, filters = shape
    layer: Any = nn.Conv2d(c, filters, kernel, stride=stride, padding=padding)
    x = torch.randn(n, c, size, size)
    if channels_last:
        layer, x = (
            layer.to(memory_format=torch.channels_last),
            x.contiguous(memory_format=torch.channels_last),
        )
    x.requires_grad_()
    g = torch.ones_like(layer(x).detach())

    def step() -> Any:
        layer.zero_grad()
        x.grad = None
        layer(x).backward(g)
        return x.grad

    return step
