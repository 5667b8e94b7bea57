"""What is measured: the shapes of each workload's data, as every library gets them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np


class Workload(NamedTuple):
    """A network, its data and its optimizer."""

    model: str
    batch: int
    optimizer: str = "adam"
    title: str = ""


WORKLOADS = {
    "tiny-mlp": Workload("tiny", 32, title="tiny MLP, 2-16-1, batch 32"),
    "digits-mlp": Workload("digits", 64, title="digits MLP, 64-128-64-10, batch 64"),
    "mnist-mlp": Workload("mnist", 128, title="MNIST MLP, 784-512-512-10, batch 128"),
    "mnist-mlp-sgd": Workload("mnist", 128, "sgd", title="the same with SGD"),
    "wide-mlp": Workload("wide", 256, title="wide MLP, 1024-2048-2048-1000, batch 256"),
    "lenet": Workload("lenet", 64, title="LeNet-5 on 28×28, batch 64"),
    "resnet-32": Workload("resnet", 32, title="ResNet-8 on 32×32, batch norm, batch 32"),
    "resnet-128": Workload("resnet", 128, title="the same, batch 128"),
    "lstm": Workload("lstm", 64, title="LSTM classifier, 64 → 128, 50 steps, batch 64"),
    "gpt": Workload("gpt", 16, title="character GPT, 4 layers, width 128, context 128, batch 16"),
}
QUICK = ("tiny-mlp", "digits-mlp", "mnist-mlp", "lenet", "resnet-32", "lstm", "gpt")

MLP: dict[str, tuple[int, ...]] = {
    "tiny": (2, 16, 1),
    "digits": (64, 128, 64, 10),
    "mnist": (784, 512, 512, 10),
    "wide": (1024, 2048, 2048, 1000),
}
LSTM = {"steps": 50, "inputs": 64, "hidden": 128, "classes": 10}
GPT = {"layers": 4, "width": 128, "context": 128, "heads": 4, "vocabulary": 65}

# batch, channels, size, kernel, padding, stride, filters
CONVOLUTIONS = {
    "64×1×28×28, 5×5 → 32": (64, 1, 28, 5, 0, 1, 32),
    "64×32×14×14, 3×3 → 64": (64, 32, 14, 3, 1, 1, 64),
    "32×64×32×32, 3×3 → 64": (32, 64, 32, 3, 1, 1, 64),
    "32×64×32×32, 3×3, stride 2 → 128": (32, 64, 32, 3, 1, 2, 128),
    "32×64×32×32, 1×1 → 64": (32, 64, 32, 1, 0, 1, 64),
}


def resize(model: str, depth: int | None = None, length: int | None = None) -> None:
    """Make the networks that are built from now on deeper, or their sequences longer."""
    if depth is not None:
        if model in MLP:
            MLP[model] = (MLP[model][0], *(128,) * depth, MLP[model][-1])
        else:
            GPT["layers"] = depth
    if length is not None:
        LSTM["steps"] = GPT["context"] = length


def data(model: str, batch: int) -> tuple[Any, Any]:
    """Inputs and targets as NumPy arrays."""
    rng = np.random.default_rng(0)
    if model == "tiny":
        x = rng.normal(size=(batch, 2)).astype(np.float32)
        return x, (x[:, :1] * x[:, 1:]).astype(np.float32)
    if model in MLP:
        widths = MLP[model]
        x = rng.normal(size=(batch, widths[0])).astype(np.float32)
        return x, rng.integers(0, widths[-1], batch)
    if model == "lenet":
        return rng.normal(size=(batch, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, batch)
    if model == "resnet":
        return rng.normal(size=(batch, 3, 32, 32)).astype(np.float32), rng.integers(0, 10, batch)
    if model == "lstm":
        x = rng.normal(size=(LSTM["steps"], batch, LSTM["inputs"])).astype(np.float32)
        return x, rng.integers(0, LSTM["classes"], batch)
    if model == "gpt":
        shape = (batch, GPT["context"])
        return rng.integers(0, GPT["vocabulary"], shape), rng.integers(0, GPT["vocabulary"], shape)
    raise KeyError(model)
