"""The operations and whole steps whose launches are counted and that are captured: each a function that makes one step."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import anynet as an
import anynet.nn.functional as F
from anynet import nn, optim

Step = Callable[[], object]

rng = np.random.default_rng(7)


def normal(*shape: int, requires_grad: bool = False) -> an.Tensor:
    """Standard normal numbers on the device."""
    return an.asarray(
        rng.standard_normal(shape).astype(np.float32), device="cuda", requires_grad=requires_grad
    )


def classes(n: int, count: int = 10) -> an.Tensor:
    """Class indices on the device."""
    return an.asarray(rng.integers(0, count, n), device="cuda")


def layer(module: nn.Module, *shapes: tuple[int, ...]) -> Step:
    """Forward and backward through the sum of a layer's output."""
    module = module.to("cuda")
    inputs = [normal(*shape, requires_grad=True) for shape in shapes]

    def step() -> None:
        y = module(*inputs)
        an.sum(y[0] if isinstance(y, tuple) else y).backward()
        for x in (*module.parameters(), *inputs):
            x.grad = None

    return step


def function(f: Callable[[an.Tensor], an.Tensor], *shape: int) -> Step:
    """Forward and backward through the sum of a function's value."""
    x = normal(*shape, requires_grad=True)

    def step() -> None:
        an.sum(f(x)).backward()
        x.grad = None

    return step


def training(make: Callable[..., optim.Optimizer], clip: bool = False) -> Step:
    """A step of a small network with three layers."""
    net = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 10)).to(
        "cuda"
    )
    optimizer = make(net.parameters(), lr=1e-3)
    loss_of, x, y = nn.CrossEntropyLoss(), normal(16, 64), classes(16)

    def step() -> None:
        loss = loss_of(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        if clip:
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    return step


def optimizer_alone() -> Step:
    net = nn.Sequential(nn.Linear(64, 32), nn.Linear(32, 32), nn.Linear(32, 10)).to("cuda")
    optimizer = optim.Adam(net.parameters(), lr=1e-3)
    an.sum(net(normal(16, 64))).backward()
    return optimizer.step


def cross_entropy() -> Step:
    x, y, loss_of = normal(16, 10, requires_grad=True), classes(16), nn.CrossEntropyLoss()

    def step() -> None:
        loss_of(x, y).backward()
        x.grad = None

    return step


def embedding() -> Step:
    table, index = nn.Embedding(50, 8).to("cuda"), classes(20, 50)

    def step() -> None:
        an.sum(table(index)).backward()
        table.weight.grad = None

    return step


def captured(make: Callable[..., optim.Optimizer]) -> Step:
    """A compiled step of a small convolutional network with batch norm and dropout, captured as a graph by then."""
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten()).to(
        "cuda"
    )
    optimizer = make(net.parameters(), lr=1e-3)
    schedule = optim.StepLR(optimizer, 1, 0.9)
    loss_of, x, y = nn.CrossEntropyLoss(), normal(4, 1, 6, 6), classes(4, 64)

    @an.compile
    def step(x: an.Tensor, y: an.Tensor) -> an.Tensor:
        optimizer.zero_grad()
        loss = loss_of(net(x), y)
        loss.backward()
        optimizer.step()
        schedule.step()
        return loss

    for _ in range(4):
        step(x, y)
    return lambda: step(x, y)


def clipped_step(net: nn.Module) -> Callable[[an.Tensor, an.Tensor], an.Tensor]:
    """A step of Adam on the cross-entropy of a network on the device, with clipped gradients, not compiled."""
    optimizer, loss_of = optim.Adam(net.parameters(), lr=1e-3), nn.CrossEntropyLoss()

    def step(x: an.Tensor, y: an.Tensor) -> an.Tensor:
        optimizer.zero_grad()
        loss = loss_of(net(x), y)
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss

    return step


def captured_network(module: nn.Module, *shape: int) -> Step:
    """`clipped_step` of a network with five classes, compiled and captured by then."""
    step = an.compile(clipped_step(module.to("cuda")))
    x, y = normal(16, *shape), classes(16, 5)
    for _ in range(4):
        step(x, y)
    return lambda: step(x, y)


def captured_function() -> Step:
    """A compiled function that draws nothing and updates nothing."""
    f, x = an.compile(lambda x: F.softmax(x, -1)), normal(8, 32)
    for _ in range(4):
        f(x)
    return lambda: f(x)


CAPTURED: dict[str, Callable[[], Step]] = {
    "captured training with Adam": lambda: captured(optim.Adam),
    "captured training with SGD": lambda: captured(optim.SGD),
    "captured MLP step": lambda: captured_network(
        nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 5)), 8
    ),
    "captured transformer layer": lambda: captured_network(
        nn.Sequential(
            nn.TransformerEncoderLayer(16, 4, 32, batch_first=True), nn.Flatten(), nn.Linear(96, 5)
        ),
        6,
        16,
    ),
    "captured softmax": captured_function,
}
"""Compiled steps, each a launch of a graph; a launch more where numbers have changed, and copies of arguments and results."""


def long_attention(mask: bool = False) -> Step:
    """Attention of float16 over more than one block of scores."""
    q, k, v = (an.astype(normal(1, 2, 272, 8), "float16").requires_grad_() for _ in range(3))
    seen = an.asarray(rng.random((1, 1, 1, 272)) < 0.5, device="cuda") if mask else None

    def step() -> None:
        an.sum(F.scaled_dot_product_attention(q, k, v, seen, is_causal=not mask)).backward()
        for x in (q, k, v):
            x.grad = None

    return step


def attention_in_blocks() -> Step:
    """Causal attention of float32 over two blocks of queries and of keys."""
    q, k, v = (normal(1, 2, 272, 8, requires_grad=True) for _ in range(3))

    def step() -> None:
        an.sum(F.scaled_dot_product_attention(q, k, v, is_causal=True)).backward()
        for x in (q, k, v):
            x.grad = None

    return step


def rounded(step: Step) -> Step:
    """The step with products in float16."""

    def run() -> None:
        with an.precision("mixed-fp16"):
            step()

    return run


BY_CUDNN: dict[str, Callable[[], Step]] = {
    "long attention": long_attention,
    "long attention with a mask": lambda: long_attention(mask=True),
    "long transformer layer in mixed-fp16": lambda: rounded(
        layer(nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True), (1, 272, 16))
    ),
}
"""What cuDNN computes a part of."""

HOT: dict[str, Callable[[], Step]] = {
    "linear": lambda: layer(nn.Linear(32, 16), (8, 32)),
    "linear 3-d": lambda: layer(nn.Linear(32, 16), (4, 8, 32)),
    "relu": lambda: function(F.relu, 8, 32),
    "gelu": lambda: function(F.gelu, 8, 32),
    "softmax": lambda: layer(nn.Softmax(-1), (8, 32)),
    "clip": lambda: function(lambda x: an.clip(x, -1.0, 1.0), 8, 32),
    "abs": lambda: function(an.abs, 8, 32),
    "sign": lambda: function(an.sign, 8, 32),
    "smooth l1": lambda: function(lambda x: F.smooth_l1_loss(x, an.zeros_like(x)), 8, 32),
    "convolution": lambda: layer(nn.Conv2d(4, 8, 3, padding=1), (2, 4, 8, 8)),
    "large convolution": lambda: layer(nn.Conv2d(16, 32, 3, padding=1), (8, 16, 24, 24)),
    "depthwise convolution": lambda: layer(nn.Conv2d(4, 4, 3, padding=1, groups=4), (2, 4, 8, 8)),
    "transposed convolution": lambda: layer(nn.ConvTranspose2d(4, 8, 3, stride=2), (2, 4, 8, 8)),
    "convolution, batch norm, relu": lambda: layer(
        nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()), (2, 4, 8, 8)
    ),
    "batch norm": lambda: layer(nn.BatchNorm2d(4), (2, 4, 8, 8)),
    "layer norm": lambda: layer(nn.LayerNorm(32), (8, 32)),
    "max pooling": lambda: layer(nn.MaxPool2d(2), (2, 4, 8, 8)),
    "average pooling": lambda: layer(nn.AvgPool2d(2), (2, 4, 8, 8)),
    "dropout": lambda: layer(nn.Dropout(0.1), (8, 32)),
    "embedding": embedding,
    "cross entropy": cross_entropy,
    "attention": lambda: layer(
        nn.MultiheadAttention(32, 4, batch_first=True), (2, 8, 32), (2, 8, 32), (2, 8, 32)
    ),
    "causal attention in blocks": attention_in_blocks,
    "transformer layer": lambda: layer(
        nn.TransformerEncoderLayer(32, 4, 64, dropout=0.1, batch_first=True), (2, 8, 32)
    ),
    "LSTM of 10 steps": lambda: layer(nn.LSTM(16, 16), (10, 4, 16)),
    "LSTM of 50 steps": lambda: layer(nn.LSTM(16, 16), (50, 4, 16)),
    "GRU of 10 steps": lambda: layer(nn.GRU(16, 16), (10, 4, 16)),
    "RNN of 10 steps": lambda: layer(nn.RNN(16, 16), (10, 4, 16)),
    "Adam alone": optimizer_alone,
    "MLP step with Adam": lambda: training(optim.Adam),
    "MLP step with Adam and clipping": lambda: training(optim.Adam, clip=True),
    "MLP step with SGD and momentum": lambda: training(lambda p, lr: optim.SGD(p, lr=lr, momentum=0.9)),
    "MLP step with Lion": lambda: training(optim.Lion),
}
