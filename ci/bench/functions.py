"""Single layers and functions, forward and backward, beside PyTorch's in one process and one thread.

``python -m ci.bench.functions [pattern]`` prints the table, or the rows whose names fit; with ``--write`` it goes into
ci/bench/RESULTS.md, as `ci.bench` writes it. The two take turns, and
time is what the thread itself has spent, so that other work on the machine matters less. A ratio is PyTorch's time over anynet's.
"""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np

from ci.bench.report import put_section

__all__ = ["CASES", "Case", "table"]

Shapes = Sequence[tuple[int, ...]]


class Case(NamedTuple):
    """What is measured: `make(library, shapes)` gives the function of the arrays, or a module; the arrays' shapes, small and large."""

    make: Callable[[Any, Shapes], Any]
    small: Shapes
    large: Shapes
    positive: bool = False


CASES: dict[str, Case] = {}
ROWS = ([(64, 128)], [(256, 1024)])
PAIRS = ([(64, 128)] * 2, [(256, 1024)] * 2)
IMAGES = ([(4, 8, 8, 8)], [(16, 64, 32, 32)])


def _case(name: str, make: Any, shapes: tuple[Shapes, Shapes], positive: bool = False) -> None:
    CASES[name] = Case(make, *shapes, positive)


def _functional(name: str, *args: Any, **kwargs: Any) -> Any:
    def make(lib: Any, shapes: Shapes) -> Any:
        f = getattr(lib.nn.functional, name)
        return lambda *x: f(*x, *args, **kwargs)

    return make


def _layer(name: str, *args: Any, channels: int = 1, evaluate: bool = False, **kwargs: Any) -> Any:
    """A layer that is given the size of `channels` axes first."""

    def make(lib: Any, shapes: Shapes) -> Any:
        sizes = [shapes[0][1]] * channels
        layer = getattr(lib.nn, name)(*args, *sizes, **kwargs)
        return layer.eval() if evaluate else layer

    return make


def _of(f: Callable[..., Any]) -> Any:
    return lambda lib, shapes: lambda *x: f(lib, *x)


def _loss(name: str) -> Any:
    def make(lib: Any, shapes: Shapes) -> Any:
        f = getattr(lib.nn.functional, name)
        return lambda x, y: f(x, y.detach())

    return make


def _cross_entropy(lib: Any, shapes: Shapes) -> Any:
    rows, classes = shapes[0]
    labels = np.random.default_rng(0).integers(0, classes, rows)
    target = lib.asarray(labels)
    return lambda x: lib.nn.functional.cross_entropy(x, target)


def _embedding(lib: Any, shapes: Shapes) -> Any:
    rows = shapes[0][0]
    index = lib.asarray(np.random.default_rng(0).integers(0, rows, (rows, 64)))
    return lambda w: lib.nn.functional.embedding(index, w)


def _writes(key: Any) -> Any:
    def make(lib: Any, shapes: Shapes) -> Any:
        target = lib.zeros(shapes[0])

        def write(x: Any) -> Any:
            target[key] = 0.5
            return x.detach()

        return write

    return make


def _read_loss(lib: Any, shapes: Shapes) -> Any:
    """Ten steps of a small network, of which each reads the loss."""
    nn = lib.nn
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    optimizer = lib.optim.SGD(net.parameters(), lr=0.01)
    x = lib.asarray(np.random.default_rng(0).normal(size=(shapes[0][0], 64)).astype(np.float32))

    def steps(given: Any) -> Any:
        for _ in range(10):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(net(x), x[:, :10])
            loss.backward()
            optimizer.step()
            loss.item()
        return given.detach()

    return steps


def _define() -> None:
    for p in (2, 3, 4, 0.5, -0.5, -1, -2):
        _case(f"x ** {p}", _of(lambda lib, x, p=p: x**p), ROWS, positive=p in (0.5, -0.5))
    _case("GroupNorm", _layer("GroupNorm", 4), IMAGES)
    _case("InstanceNorm2d", _layer("InstanceNorm2d"), IMAGES)
    _case("InstanceNorm2d, affine", _layer("InstanceNorm2d", affine=True), IMAGES)
    _case("BatchNorm2d, training", _layer("BatchNorm2d"), IMAGES)
    _case("BatchNorm2d, evaluation", _layer("BatchNorm2d", evaluate=True), IMAGES)
    _case("BatchNorm1d, training", _layer("BatchNorm1d"), ([(64, 32)], [(1024, 512)]))
    _case("LayerNorm", _layer("LayerNorm"), ROWS)
    _case("RMSNorm", _layer("RMSNorm"), ROWS)
    for mode in ("Reflection", "Replication", "Circular", "Zero"):
        _case(f"{mode}Pad1d", _layer(f"{mode}Pad1d", 2, channels=0), ([(4, 8, 32)], [(16, 64, 1024)]))
        _case(f"{mode}Pad2d", _layer(f"{mode}Pad2d", 2, channels=0), IMAGES)
        _case(
            f"{mode}Pad3d", _layer(f"{mode}Pad3d", 1, channels=0), ([(2, 4, 4, 4, 4)], [(4, 16, 16, 16, 16)])
        )
    _case("PixelShuffle", _layer("PixelShuffle", 2, channels=0), IMAGES)
    _case("PixelUnshuffle", _layer("PixelUnshuffle", 2, channels=0), IMAGES)
    _case("x[i] = 0.5", _writes(3), ROWS)
    _case("x[...] = 0.5", _writes(...), ROWS)
    _case("10 steps that read the loss", _read_loss, ([(8, 1)], [(512, 1)]))
    for name in (
        "relu", "relu6", "hardtanh", "hardswish", "hardsigmoid", "hardshrink", "softshrink", "leaky_relu", "elu", "selu",
        "celu", "sigmoid", "tanh", "silu", "mish", "gelu", "softplus", "logsigmoid", "softsign",
    ):  # fmt: skip
        _case(name, _functional(name), ROWS)
    _case("softmax", _functional("softmax", dim=-1), ROWS)
    _case("softmax over channels", _functional("softmax", dim=1), ([(4, 10, 8, 8)], [(8, 21, 64, 64)]))
    _case("log_softmax", _functional("log_softmax", dim=-1), ROWS)
    _case("cross_entropy", _cross_entropy, ROWS)
    for name in ("mse_loss", "l1_loss", "smooth_l1_loss", "binary_cross_entropy_with_logits"):
        _case(name, _loss(name), PAIRS, positive=True)
    _case("embedding", _embedding, ROWS)
    _case("exp", _of(lambda lib, x: lib.exp(x)), ROWS)
    _case("x y + x", _of(lambda lib, x, y: x * y + x), PAIRS)
    _case("matmul", _of(lambda lib, x, y: x @ y), ([(32, 32)] * 2, [(512, 512)] * 2))
    _case(
        "concat",
        _of(
            lambda lib, x, y: lib.concat([x, y], 1) if lib.__name__ == "torch" else lib.concat([x, y], axis=1)
        ),
        PAIRS,
    )
    for name, layer, large in (
        ("Conv2d, 1 → 32, 5×5", ("Conv2d", 1, 32, 5), (64, 1, 28, 28)),
        ("Conv2d, 32 → 64, 3×3", ("Conv2d", 32, 64, 3, 1, 1), (64, 32, 14, 14)),
        ("Conv2d, 64 → 64, 3×3", ("Conv2d", 64, 64, 3, 1, 1), (32, 64, 32, 32)),
        ("Conv2d, 64 → 128, 3×3, stride 2", ("Conv2d", 64, 128, 3, 2, 1), (32, 64, 32, 32)),
        ("Conv2d, 64 → 64, 1×1", ("Conv2d", 64, 64, 1), (32, 64, 32, 32)),
    ):
        _case(name, _layer(*layer, channels=0), ([(1, large[1], 8, 8)], [large]))
    _case("MaxPool2d", _layer("MaxPool2d", 2, channels=0), IMAGES)
    _case("AdaptiveAvgPool2d(1)", _layer("AdaptiveAvgPool2d", 1, channels=0), IMAGES)
    _case("Upsample, nearest", _layer("Upsample", channels=0, scale_factor=2), IMAGES)
    _case("Upsample, bilinear", _layer("Upsample", channels=0, scale_factor=2, mode="bilinear"), IMAGES)


_define()


def _built(lib: Any, case: Case, shapes: Shapes) -> Callable[[], None]:
    """One forward and backward pass."""
    rng = np.random.default_rng(0)
    arrays = [rng.normal(size=s).astype(np.float32) for s in shapes]
    arrays = [np.abs(a) + np.float32(0.1) for a in arrays] if case.positive else arrays
    xs = [lib.asarray(a) for a in arrays]
    if lib.__name__ == "torch":
        xs = [x.clone().requires_grad_() for x in xs]
    else:
        xs = [lib.asarray(a, requires_grad=True) for a in arrays]
    f = case.make(lib, shapes)
    leaves = [*xs, *(f.parameters() if hasattr(f, "parameters") else ())]
    y = f(*xs)
    gradient = lib.asarray(rng.normal(size=tuple(y.shape)).astype(np.float32))

    def run() -> None:
        y = f(*xs)
        if y.requires_grad:
            y.backward(gradient)
            for leaf in leaves:
                leaf.grad = None

    return run


def _seconds(run: Callable[[], None], times: int) -> float:
    start = time.thread_time()
    for _ in range(times):
        run()
    return (time.thread_time() - start) / times


def _race(runs: Sequence[Callable[[], None]], rounds: int) -> list[list[float]]:
    counts = []
    for run in runs:
        _seconds(run, 30)  # what becomes machine code has become it
        counts.append(max(1, int(0.02 / max(_seconds(run, 3), 1e-6))))
    return [[_seconds(run, n) for run, n in zip(runs, counts, strict=True)] for _ in range(rounds)]


def table(pattern: str = "", rounds: int = 9) -> list[str]:
    """The rows of the table."""
    import torch

    import anynet

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    head = (
        "| forward and backward, 1 thread | anynet | torch | ratio, small | anynet | torch | ratio, large |"
    )
    lines = [head, "| --- |" + " --- |" * 6]
    print("\n".join(lines), flush=True)
    for name, case in CASES.items():
        if not re.search(pattern, name):
            continue
        cells = []
        for shapes in (case.small, case.large):
            times = _race([_built(lib, case, shapes) for lib in (anynet, torch)], rounds)
            low, ratio, high = statistics.quantiles([b / a for a, b in times], n=4, method="inclusive")
            cells += [f"{statistics.median(column) * 1e6:.1f} µs" for column in zip(*times, strict=True)]
            cells.append(f"{ratio:.2f} [{low:.2f}, {high:.2f}]")
        lines.append(f"| {name} | {' | '.join(cells)} |")
        print(lines[-1], flush=True)
    return lines


TITLE = "## Single layers and functions"


def section() -> list[str]:
    """The table, made in a process of its own, in which there is one thread."""
    one = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "ci.bench.functions"],
        env=os.environ | one,
        capture_output=True,
        text=True,
        check=True,
    )
    return [line for line in done.stdout.splitlines() if line.startswith("|")]


if __name__ == "__main__":
    if "--write" in sys.argv:
        put_section(TITLE, section())
    else:
        table(sys.argv[1] if len(sys.argv) > 1 else "")
