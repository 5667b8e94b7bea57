"""How far `anynet.plan` is from the memory that a training takes: ten networks, each planned in one process and trained in another.

    python -m ci.bench.plan [--only NAME]        prints a table in Markdown

Measured is what the process holds at most while it makes six steps, above what it held before the network was made; a step of a small
network comes before, so that the libraries are loaded.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import anynet as an
from anynet import models, nn
from anynet._trials import load_libraries, peak_of

NETWORKS: dict[str, tuple[Callable[[], Any], tuple[int, ...], str]] = {
    "MLP 784-2048-2048-10": (
        lambda: nn.Sequential(nn.Linear(784, 2048), nn.ReLU(), nn.Linear(2048, 2048), nn.ReLU(), nn.Linear(2048, 10)), (4096, 784), "adam",
    ),
    "MLP with SGD": (
        lambda: nn.Sequential(nn.Linear(1024, 4096), nn.Tanh(), nn.Linear(4096, 1024)), (2048, 1024), "sgd",
    ),
    "small CNN": (lambda: models.SmallCNN(), (512, 3, 32, 32), "adam"),
    "ResNet-18, CIFAR": (lambda: models.resnet18(10, stem="cifar"), (64, 3, 32, 32), "adam"),
    "ResNet-18, ImageNet": (lambda: models.resnet18(1000), (8, 3, 224, 224), "sgd"),
    "U-Net": (lambda: models.UNet(3, 2, width=32), (8, 3, 128, 128), "adam"),
    "ViT": (lambda: models.ViT(32, 4, 6, 3, 192, 768, num_classes=10), (128, 3, 32, 32), "adamw"),
    "GPT": (lambda: models.GPT(1000, context=128, width=256, layers=6, heads=4), (16, 128), "adamw"),
    "LSTM language model": (lambda: models.LSTMLanguageModel(1000, width=512), (64, 128), "adam"),
    "convolutions in a row, 1-d": (
        lambda: nn.Sequential(*(layer for i in range(6) for layer in (nn.Conv1d(64 if i else 1, 64, 9, padding=4), nn.GELU()))),
        (64, 1, 2000), "adam",
    ),
}  # fmt: skip
"""A function that makes the network, the shape of its input, the optimizer."""


def _train(make: Callable[[], Any], shape: tuple[int, ...], optimizer: str, count: int) -> None:
    net = make()
    whole = any(isinstance(m, nn.Embedding) for m in net.modules())
    x = an.zeros(shape, dtype="int64") if whole else an.zeros(shape)
    kind = an.train.OPTIMIZERS[optimizer]
    steps = kind(list(net.parameters()), lr=0.01)
    for _ in range(count):
        steps.zero_grad()
        out = net(x)
        an.mean(an.square(out[0] if isinstance(out, tuple) else out)).backward()
        steps.step()


def measured(name: str) -> int:
    """The bytes that a training takes in this process."""
    load_libraries()
    return peak_of(lambda: _train(*NETWORKS[name], 6))


def planned(name: str) -> int:
    """What `plan` says."""
    make, shape, optimizer = NETWORKS[name]
    return int(an.plan(make(), shape, optimizer=optimizer).peak)


def main() -> None:
    """Each network in two processes of its own."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--only", choices=NETWORKS)
    parser.add_argument("--child", choices=("measured", "planned"))
    given = parser.parse_args()
    if given.child:
        print(json.dumps({"measured": measured, "planned": planned}[given.child](given.only)))
        return
    print("| network | input | planned | measured | difference |\n| --- | --- | ---: | ---: | ---: |")
    for name in [given.only] if given.only else NETWORKS:
        found = {}
        for child in ("planned", "measured"):
            command = [sys.executable, "-m", "ci.bench.plan", "--only", name, "--child", child]
            run = subprocess.run(command, capture_output=True, text=True, check=True)
            found[child] = json.loads(run.stdout.splitlines()[-1])
        part = found["planned"] / found["measured"] - 1
        sizes = " | ".join(f"{found[c] / 1e6:.0f} MB" for c in ("planned", "measured"))
        print(
            f"| {name} | {'×'.join(map(str, NETWORKS[name][1]))} | {sizes} | {100 * part:+.1f} % |",
            flush=True,
        )


if __name__ == "__main__":
    main()
