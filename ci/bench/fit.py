"""``python -m ci.bench.fit``: what `anynet.fit` costs beside a loop written by hand around a compiled step, on the MNIST MLP.

Both train the same network (784-512-512-10, Adam, batches of 128, compiled) on the same 59,904 pictures: MNIST's, to whole batches.
Epochs take turns in one process and one thread, and time is what the thread itself has spent, so that other work on the machine
matters less. A ratio is fit's time over that of the loop in the same round; medians with quartiles are printed.

What `fit` does more in a step: the gradients are looked through for NaN and infinities before the update, one pass over them.
"""

from __future__ import annotations

import io
import statistics
import sys
import time
from typing import Any

import anynet as an
from anynet import nn

__all__ = ["measure"]

SAMPLES, BATCH = 59_904, 128


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def _network() -> nn.Module:
    an.random.manual_seed(0)
    return nn.Sequential(nn.Linear(784, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10))


def _data() -> tuple[Any, Any]:
    images, labels = an.data.load("mnist", scaled=True)
    x = an.reshape(an.asarray(images[:SAMPLES]), (SAMPLES, -1))
    return an.astype(x, "float32"), an.asarray(labels[:SAMPLES])


class _ByHand:
    """The loop that everyone writes: a compiled step, and the loss of the epoch."""

    def __init__(self, data: Any) -> None:
        net = _network()
        optimizer = an.optim.Adam(net.parameters(), lr=1e-3)

        @an.compile
        def step(x: Any, y: Any) -> Any:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        self.step, self.loader = step, an.data.DataLoader(data, batch_size=BATCH, shuffle=True)

    def epoch(self) -> float:
        """The mean loss of an epoch."""
        total = 0.0
        for x, y in self.loader:
            total += float(self.step(x, y)) * len(y)
        return total / SAMPLES


class _TakingTurns(an.train.Callback):
    """After each epoch of `fit` one of the loop."""

    def __init__(self, other: _ByHand) -> None:
        self.other, self.ratios = other, []

    def on_epoch_begin(self, run: Any) -> None:
        self.began = time.thread_time()

    def on_epoch_end(self, run: Any) -> None:
        mine = time.thread_time() - self.began
        began = time.thread_time()
        self.other.epoch()
        self.ratios.append(mine / (time.thread_time() - began))


def measure(rounds: int, **options: Any) -> list[float]:
    """Ratios of the two times, one for each round after two that warm up."""
    data = _data()
    turns = _TakingTurns(_ByHand(data))
    an.fit(
        _network(), data, loss="cross_entropy", optimizer="adam", lr=1e-3, batch_size=BATCH, epochs=rounds + 2, device="cpu",
        compile=True, callbacks=turns, **options,
    )  # fmt: skip
    return turns.ratios[2:]


def table(rounds: int) -> str:
    """The rows, as Markdown."""
    lines = ["| `fit`, compiled, over a compiled loop by hand | median | quartiles |", "| --- | --- | --- |"]
    stdout = sys.stdout
    for name, options in (
        ("alone", {"progress": False}),
        ("with the bar", {"progress": True}),
        ("with the bar and the metric accuracy", {"progress": True, "metrics": ["accuracy"]}),
    ):
        sys.stdout = _Terminal()
        try:
            found = measure(rounds, **options)
        finally:
            sys.stdout = stdout
        low, middle, high = statistics.quantiles(found, n=4)
        lines.append(f"| {name} | {middle:.3f} | {low:.3f} – {high:.3f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(int(sys.argv[1]) if len(sys.argv) > 1 else 25))
