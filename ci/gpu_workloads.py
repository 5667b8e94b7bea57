"""The networks of ci/gpu_benchmark.py, written once for anynet and PyTorch (help(ci.bench.workload)).

`small`: of a few units, to see them run.
"""

from __future__ import annotations

from ci.bench.library import F, nn
from ci.bench.workload import Training, integers, labels, normal, workload


@workload("gpu", "MLP 784-1024-1024-10", batch=1024, source="a classifier of MNIST")
def gpu_mlp(batch: int, small: bool = False) -> Training:
    width = 32 if small else 1024
    net = nn.Sequential(
        nn.Linear(784, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 10)
    )
    return Training(net, lambda x, y: F.cross_entropy(net(x), y), (normal(batch, 784), labels(batch)))


@workload("gpu", "ResNet-18 on 32×32", batch=128, source="kuangliu/pytorch-cifar models/resnet.py")
def gpu_resnet18(batch: int, small: bool = False) -> Training:
    from ci.bench.workloads import vision

    widths, counts = ((4, 8), (1, 1)) if small else ((64, 128, 256, 512), (2, 2, 2, 2))
    net, size = vision.resnet(widths, counts), 8 if small else 32
    return vision.classifier(net, batch, 3, size, optimizer="momentum", lr=0.01)


@workload("gpu", "LSTM 512 → 512, 128 steps", batch=64, source="a classifier of sequences")
def gpu_lstm(batch: int, small: bool = False) -> Training:
    from ci.bench.workloads import sequence

    width, length = (16, 8) if small else (512, 128)
    net = sequence.LastState(nn.LSTM(width, width), width, 10)
    data = normal(length, batch, width), labels(batch)
    return Training(net, lambda x, y: F.cross_entropy(net(x), y), data)


@workload("gpu", "GPT-2 small, 1,024 tokens", batch=8, source="karpathy/nanoGPT model.py")
def gpu_gpt(batch: int, small: bool = False) -> Training:
    from ci.bench.workloads import sequence

    words, length, d, layers, heads = (65, 16, 16, 1, 2) if small else (50257, 1024, 768, 12, 12)
    net = sequence.GPT(words, length, d, layers, heads)
    data = integers(batch, length, below=words), integers(batch, length, below=words, seed=1)
    return Training(net, lambda x, y: sequence.tokens_loss(net(x), y), data, "adamw")
