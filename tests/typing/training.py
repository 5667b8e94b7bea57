"""Code as users write it: every line must pass mypy --strict and pyright."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np

import anynet as an
import anynet.nn.functional as F
from anynet import nn, optim
from anynet.typing import ArrayLike


class Residual(nn.Module):
    def __init__(self, width: int, p: float = 0.1) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, 4 * width)
        self.second = nn.Linear(4 * width, width)
        self.drop = nn.Dropout(p)
        self.scale = nn.Parameter(an.ones(width))

    def forward(self, x: an.Tensor) -> an.Tensor:
        h = F.gelu(self.first(self.norm(x)))
        return x + self.scale * self.drop(self.second(h))


class Classifier(nn.Module):
    def __init__(self, width: int, classes: int, depth: int = 2) -> None:
        super().__init__()
        self.body = nn.Sequential(*[Residual(width) for _ in range(depth)])
        self.head = nn.Linear(width, classes)

    def forward(self, x: an.Tensor, temperature: float = 1.0) -> an.Tensor:
        return self.head(self.body(x)) / temperature


class Tagger(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Embedding(100, 16)
        self.lstm = nn.LSTM(16, 8, batch_first=True, bidirectional=True)
        self.out = nn.Linear(16, 5)

    def forward(self, ids: an.Tensor) -> an.Tensor:
        y, (h, c) = self.lstm(self.embed(ids))
        assert h.shape == c.shape
        return self.out(y)


def batches(x: np.ndarray, y: np.ndarray, size: int) -> Iterator[tuple[an.Tensor, an.Tensor]]:
    for start in range(0, len(x), size):
        yield an.asarray(x[start : start + size]), an.asarray(y[start : start + size])


def train(model: nn.Module, loss_fn: Callable[[an.Tensor, an.Tensor], an.Tensor]) -> float:
    optimizer = optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
    scheduler = optim.CosineAnnealingLR(optimizer, T_max=10)
    x = np.ones((32, 8), np.float32)
    y = np.zeros(32, np.int64)
    total = 0.0
    for _ in range(2):
        for inputs, labels in batches(x, y, 16):
            optimizer.zero_grad()
            loss: an.Tensor = loss_fn(model(inputs), labels)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            total += loss.item()
        scheduler.step()
    return total


def normalise(x: ArrayLike) -> ArrayLike:
    return (x - an.mean(x)) / (an.std(x) + 1e-6)


def main() -> None:
    an.random.manual_seed(0)
    model = Classifier(8, 3)
    print(train(model, F.cross_entropy), train(model, nn.CrossEntropyLoss(label_smoothing=0.1)))
    model.eval()
    with an.no_grad():
        logits = model(an.ones((4, 8)), temperature=2.0)
        probabilities = F.softmax(logits, dim=-1)
        best = an.argmax(probabilities, axis=-1)
    print(best.tolist(), probabilities.shape, probabilities.dtype, float(an.max(probabilities)))
    tags: an.Tensor = Tagger()(an.asarray([[1, 2, 3]]))
    z = an.exp(-(tags**2)) @ an.ones((5, 2)) + 1
    print(z.mT.shape, (z > 0).tolist(), z[0, ...].ndim)
    an.save("weights.safetensors", model.state_dict())
    model.load_state_dict(an.load("weights.safetensors"))
    conv = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten())
    print(conv(an.zeros((2, 1, 8, 8))).shape)
    w = nn.Parameter(an.asarray([0.5, math.pi]))
    g = an.grad(lambda v: an.sum(v * v))(w)
    print(g.tolist())
    history = an.fit(
        nn.Linear(8, 3),
        (np.ones((8, 8), np.float32), np.zeros(8, np.int64)),
        loss="cross_entropy",
        epochs=1,
        progress=False,
    )
    print(len(history), normalise(np.arange(3.0)), normalise(an.arange(3.0)))


if __name__ == "__main__":
    main()
