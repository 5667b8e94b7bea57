"""Threads that all use everything for the first time at once: ``python cold_threads.py SEED THREADS``.

Each thread does each kind of work, in an order of its own, and prints a checksum of all bits that it got; with THREADS = 0 the
main thread does it all alone.
"""

from __future__ import annotations

import hashlib
import random
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

import anynet as an
from anynet import nn, optim
from anynet.nn import functional as F


def arrays(rng: Any, *shape: int) -> Any:
    return an.asarray(rng.normal(size=shape).astype(np.float32))


def filled(net: Any, rng: Any) -> Any:
    """The net with weights that depend on nothing but `rng`."""
    for p in net.parameters():
        p.assign_(arrays(rng, *p.shape) * 0.3)
    return net


def trained(net: Any, optimizer: Any, batches: list[Any], step: Callable[..., Any]) -> list[Any]:
    losses = [step(net, optimizer, *batch) for batch in batches]
    return [*losses, *(p.numpy() for p in net.parameters())]


def step(net: Any, optimizer: Any, x: Any, y: Any) -> Any:
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    return loss.numpy()


def labelled(rng: Any, n: int, *shape: int) -> Any:
    return arrays(rng, n, *shape), an.asarray(rng.integers(0, 3, n))


def mlp(rng: Any) -> list[Any]:
    net = filled(nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.LayerNorm(16), nn.Linear(16, 3)), rng)
    batches = [labelled(rng, 8 if i % 3 else 5, 6) for i in range(75)]
    return trained(net, optim.Adam(net.parameters(), lr=0.01), batches, step)


def convolutional(rng: Any) -> list[Any]:
    net = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(100, 3)
    )
    batches = [labelled(rng, 6, 1, 12, 12) for _ in range(4)]
    return trained(filled(net, rng), optim.SGD(net.parameters(), lr=0.1, momentum=0.9), batches, step)


class Recurrent(nn.Module):
    def __init__(self, kind: Any) -> None:
        self.inner, self.head = kind(4, 8, batch_first=True), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        return self.head(self.inner(x)[0][:, -1])


def recurrent(rng: Any) -> list[Any]:
    found = []
    for kind in (nn.LSTM, nn.GRU):
        net = filled(Recurrent(kind), rng)
        batches = [labelled(rng, 5, 7, 4) for _ in range(3)]
        found += trained(net, optim.RMSprop(net.parameters(), lr=0.01), batches, step)
    return found


def compiled(rng: Any) -> list[Any]:
    net = filled(nn.Sequential(nn.Linear(6, 12), nn.GELU(), nn.Linear(12, 3)), rng)
    optimizer = optim.AdamW(net.parameters(), lr=0.01)

    @an.compile
    def run(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    batches = [labelled(rng, 8 if i % 4 else 4, 6) for i in range(12)]
    return trained(net, optimizer, batches, lambda _, __, x, y: run(x, y).numpy())


def inference(rng: Any) -> list[Any]:
    net = filled(nn.Sequential(nn.Linear(6, 16), nn.Sigmoid(), nn.Linear(16, 3)), rng).eval()
    quick = an.compile(lambda x: F.softmax(net(x), dim=-1))
    found = []
    with an.no_grad():
        for n in (1, 4) * 30:
            x = arrays(rng, n, 6)
            found += [net(x).numpy(), quick(x).numpy(), an.sum(an.exp(-x) * x, axis=0).numpy()]
    return found


def optimizers(rng: Any) -> list[Any]:
    found = []
    for kind in (optim.Adam, optim.Adagrad, optim.NAdam, optim.Lion):
        p = nn.Parameter(arrays(rng, 200, 200))
        optimizer = kind([p], lr=0.01)
        for _ in range(3):
            optimizer.zero_grad()
            an.sum(p * p).backward()
            optimizer.step()
        found.append(p.numpy())
    return found


def fitted(rng: Any) -> list[Any]:
    net = filled(nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3)), rng)
    x, y = labelled(rng, 30, 6)
    an.fit(
        net, (x.numpy(), y.numpy()), loss="cross_entropy", epochs=2, batch_size=8, device="cpu", progress=False
    )  # fmt: skip
    return [p.numpy() for p in net.parameters()]


def drawn(rng: Any) -> list[Any]:
    generator = an.random.Generator(int(rng.integers(1000)))
    x = arrays(rng, 3, 64, 64)
    return [
        *(an.random.normal((5,), generator=generator) for _ in range(9)),
        an.vmap(lambda row: an.tanh(row) * row)(x[0]).numpy(),
        F.scaled_dot_product_attention(x, x, x).numpy(),
        an.matmul(x, x).numpy(),
    ]


WORKS = (mlp, convolutional, recurrent, compiled, inference, optimizers, fitted, drawn)


def checksum(seed: int, thread: int) -> str:
    """Of all that one thread computes; the order of its works is its own, the result does not depend on it."""
    order = random.Random(f"{seed} {thread}").sample(WORKS, len(WORKS))
    if thread % 2:
        order.insert(0, mlp)
    found = {}
    for work in order:
        bits = hashlib.sha256()
        for a in work(np.random.default_rng([seed, thread])):
            bits.update(np.asarray(a).tobytes())
        found[work.__name__] = bits.hexdigest()[:12]
    return " ".join(f"{name}={found[name]}" for name in sorted(found))


def main(seed: int, threads: int) -> int:
    """All threads start at one time and take turns as often as they can."""
    warnings.simplefilter("error")
    count = threads or 8
    said = [""] * count
    together = threading.Barrier(max(threads, 1))

    def run(thread: int) -> None:
        try:
            together.wait()
            said[thread] = checksum(seed, thread)
        except BaseException:
            said[thread] = traceback.format_exc()

    if threads:
        sys.setswitchinterval(1e-5)
        workers = [threading.Thread(target=run, args=(i,)) for i in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
    else:
        for i in range(count):
            run(i)
    print("\n".join(said))
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
