"""A workload: a network, its loss and its data, written once for anynet and PyTorch.

    from ci.bench.library import F, nn
    from ci.bench.workload import Training, labels, normal, workload

    @workload("tabular", "digits MLP, 64-128-64-10", batch=64, source="a classifier of 8×8 digits")
    def digits_mlp(batch):
        net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
        return Training(net, lambda x, y: F.cross_entropy(net(x), y), (normal(batch, 64), labels(batch, classes=10)))

The function is called with the batch size, and with further keyword arguments where it has them. A file with
one or more such functions is measured by ``python -m ci.bench --workload mine.py``. All libraries begin with the weights that
anynet draws, so parameters must have the same names and shapes in both, and the losses of the first steps must agree.
"""

from __future__ import annotations

import importlib
import importlib.util
import pathlib
import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

__all__ = [
    "FAMILIES",
    "GROUPS",
    "Training",
    "Workload",
    "find",
    "integers",
    "labels",
    "load",
    "normal",
    "uniform",
    "workload",
]

GROUPS = ("tabular", "vision", "sequence", "generative", "scientific", "reinforcement", "graph")
"""The groups, in the order of the tables."""

FAMILIES = tuple(f"ci.bench.workloads.{group}" for group in GROUPS)
"""The modules of the project's own workloads."""


class Training(NamedTuple):
    """What a workload's function returns.

    `net` is a module, or a tuple of modules where several are trained. `loss` takes the arrays of the batch as Tensors and returns a
    scalar; forward, loss, backward and update of the optimizer called `optimizer` are then one step. A step of another form (several
    optimizers, a target network) is `step`, which takes the batch, makes the whole step and returns the loss. `inputs` is how many of
    the arrays, from the first on, `forward` takes (the network itself unless given); 0 where inference has no meaning.
    """

    net: Any
    loss: Callable[..., Any] | None
    batch: tuple[Any, ...]
    optimizer: str = "adam"
    lr: float = 1e-3
    step: Callable[..., Any] | None = None
    forward: Callable[..., Any] | None = None
    inputs: int = 1


class Workload(NamedTuple):
    """A function that builds a `Training`, and what the tables say of it."""

    name: str
    group: str
    title: str
    batch: int
    source: str
    build: Callable[..., Training]
    images: bool
    tolerance: float


_FOUND: dict[str, Workload] = {}


def workload(
    group: str, title: str, *, batch: int, source: str = "", images: bool = False, tolerance: float = 1e-4
) -> Callable[[Callable[..., Training]], Callable[..., Training]]:
    """Declare a workload: its group, what the tables call it, its batch size, where the definition is from.

    `images` says that the first array of the batch is (n, channels, height, width) and the network convolutional, so that PyTorch's
    channels-last order can be measured as well. `tolerance` is how far the losses of the first steps may be apart, relative.
    """
    if not (isinstance(group, str) and re.fullmatch(r"[a-z][a-z -]*", group)):
        raise ValueError(
            f"workload: group must be a word in small letters (the project's own: {', '.join(GROUPS)}), got {group!r}"
        )
    if not (isinstance(batch, int) and batch > 0):
        raise ValueError(f"workload: batch must be a positive integer, got {batch!r}")

    def declare(build: Callable[..., Training]) -> Callable[..., Training]:
        name = build.__name__.replace("_", "-")
        if name in _FOUND:
            raise ValueError(
                f"workload: there is already one called {name!r}; the function's name must be another"
            )
        _FOUND[name] = Workload(name, group, title, batch, source, build, images, tolerance)
        return build

    return declare


def load(files: list[str]) -> dict[str, Workload]:
    """The project's workloads, or those of a user's files where some are given. The libraries they import are this process's."""
    _FOUND.clear()
    for family in () if files else FAMILIES:
        sys.modules.pop(family, None)
        importlib.import_module(family)
    for i, file in enumerate(files):
        path = pathlib.Path(file)
        if path.suffix != ".py" or not path.is_file():
            raise FileNotFoundError(
                f"--workload must name a Python file with @workload functions, got {file!r}"
            )
        before = len(_FOUND)
        spec = importlib.util.spec_from_file_location(f"given_workload_{i}", path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
        if len(_FOUND) == before:
            raise ValueError(
                f"{file}: no function with @workload in it; see python -c 'help(\"ci.bench.workload\")'"
            )
    return dict(_FOUND)


def build(chosen: Workload, batch: int = 0, **options: Any) -> Training:
    """The training of a workload, checked."""
    made = chosen.build(batch or chosen.batch, **options)
    where = f"{chosen.name}: "
    if not isinstance(made, Training):
        raise TypeError(
            f"{where}the function must return a ci.bench.workload.Training, got {type(made).__name__}"
        )
    if (made.loss is None) == (made.step is None):
        raise TypeError(f"{where}Training must have a loss or a step, one of the two")
    for i, a in enumerate(made.batch):
        if not isinstance(a, np.ndarray):
            raise TypeError(f"{where}array {i} of the batch must be a NumPy array, got {type(a).__name__}")
        if a.dtype == np.float64:
            raise TypeError(
                f"{where}array {i} of the batch is float64; networks are float32: use .astype('float32')"
            )
    if not 0 <= made.inputs <= len(made.batch):
        raise ValueError(
            f"{where}inputs must be from 0 to {len(made.batch)}, the number of arrays, got {made.inputs}"
        )
    return made


def find(known: dict[str, Workload], only: list[str], groups: list[str]) -> list[Workload]:
    """Those that are asked for, by name or group; ValueError for what there is not."""
    for name in only:
        if name not in known:
            raise ValueError(f"there is no workload {name!r}; there are {', '.join(known)}")
    have = {w.group for w in known.values()}
    for group in groups:
        if group not in have:
            raise ValueError(f"there is no group {group!r}; there are {', '.join(sorted(have))}")
    return [w for w in known.values() if (not only and not groups) or w.name in only or w.group in groups]


# ----- data: the same numbers in every process -----


def normal(*shape: int, seed: int = 0) -> Any:
    """Normally distributed float32 numbers."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def uniform(*shape: int, low: float = 0.0, high: float = 1.0, seed: int = 0) -> Any:
    """Uniformly distributed float32 numbers."""
    return np.random.default_rng(seed).uniform(low, high, shape).astype(np.float32)


def integers(*shape: int, below: int, seed: int = 0) -> Any:
    """Integers from 0 to below - 1."""
    return np.random.default_rng(seed).integers(0, below, shape)


def labels(*shape: int, classes: int = 10) -> Any:
    """Class indices."""
    return integers(*shape, below=classes, seed=1)
