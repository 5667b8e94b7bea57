"""Runs a training script until it has taken a few backward passes, and writes the losses: a process of its own (`test_public_scripts.py`).

What chance decides is the same with PyTorch and with anynet.torch: random tensors, initial values (drawn when an optimizer is made) and
batches come from NumPy; dropout is switched off. Data sets and libraries that are not here are stood in for.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import json
import random
import runpy
import sys
import time
import types
import warnings
from typing import Any, ClassVar

import numpy as np


class _Enough(BaseException):
    """As many backward passes as were wanted."""


class StandIn(types.ModuleType):
    """A library that is not installed: any name is there, and calling one gives back its first argument."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return StandIn(f"{self.__name__}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if args and callable(args[0]) else self

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def __iter__(self) -> Any:
        return iter(())


class _Finder:
    """Finds stand-ins for what is not installed."""

    names: ClassVar[set[str]] = {
        "torchvision",
        "timm",
        "wandb",
        "gymnasium",
        "IPython",
        "accelerate",
        "absl",
        "spacy",
        "torch.utils.tensorboard",
        "tensorboardX",
    }

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> Any:
        if not any(name == n or name.startswith(f"{n}.") for n in cls.names):
            return None
        return importlib.machinery.ModuleSpec(name, cls, is_package=True)  # type: ignore[arg-type]

    @classmethod
    def create_module(cls, spec: Any) -> Any:
        return StandIn(spec.name)

    @classmethod
    def exec_module(cls, module: Any) -> None:
        pass


def same_chance(torch: Any, draw: Any) -> None:
    """Random tensors of a room, from NumPy."""

    def wanted(size: Any, kwargs: Any) -> Any:
        size = kwargs.get("size", size)
        size = size[0] if len(size) == 1 and not isinstance(size[0], int) else size
        return tuple(int(n) for n in size)

    def given(array: Any, kwargs: Any, like: Any = None) -> Any:
        kind = kwargs.get("dtype") or (torch.get_default_dtype() if like is None else like.dtype)
        x = torch.tensor(array).to(kind)
        return x.requires_grad_() if kwargs.get("requires_grad") else x

    def multinomial(p: Any, n: int, replacement: bool = False, **_: Any) -> Any:
        rows = np.atleast_2d(p.detach().cpu().double().numpy())
        found = [draw.choice(len(r), n, replace=replacement, p=r / r.sum()) for r in rows]
        return torch.tensor(np.array(found if p.dim() == 2 else found[0]))

    def fill(x: Any, array: Any) -> Any:
        with torch.no_grad():
            return x.copy_(torch.tensor(np.asarray(array)).to(x.dtype))

    functions = {
        "randn": lambda *s, **k: given(draw.normal(size=wanted(s, k)), k), "rand": lambda *s, **k: given(draw.random(wanted(s, k)), k),
        "randn_like": lambda x, **k: given(draw.normal(size=tuple(x.shape)), k, x),
        "rand_like": lambda x, **k: given(draw.random(tuple(x.shape)), k, x),
        "randint": lambda *a, **k: given(draw.integers(*([0] * (len(a) < 3) + [int(v) for v in a[:-1]]), size=tuple(a[-1])),
                                         {"dtype": torch.int64, **k}),
        "randperm": lambda n, **k: torch.tensor(draw.permutation(n)),
        "normal": lambda mean, std, size=None, **k: given(draw.normal(size=tuple(size or mean.shape)), k) * std + mean,
        "bernoulli": lambda p, **k: torch.tensor((draw.random(tuple(p.shape)) < p.detach().cpu().numpy()).astype("f8")).to(p.dtype),
        "multinomial": multinomial,
    }  # fmt: skip
    for name, function in functions.items():
        setattr(torch, name, function)
    torch.Tensor.normal_ = lambda x, mean=0.0, std=1.0, **_: fill(x, draw.normal(mean, std, tuple(x.shape)))
    torch.Tensor.uniform_ = lambda x, a=0.0, b=1.0, **_: fill(x, draw.uniform(a, b, tuple(x.shape)))
    # PyTorch's loaders draw a seed, without axes
    torch.Tensor.random_ = lambda x, a=0, b=2, **_: fill(
        x, draw.integers(a, b, tuple(x.shape)) if x.dim() else a
    )
    torch.Tensor.multinomial = multinomial
    torch.nn.functional.dropout = lambda x, *_, **__: x
    for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d"):
        setattr(torch.nn, name, lambda *_, **__: torch.nn.Identity())


def same_start(torch: Any, draw: Any, plain: bool) -> None:
    """Parameters begin with NumPy's numbers when an optimizer is made of them; loaders keep the order of their data."""
    seen: set[int] = set()
    linear, start = torch.nn.Linear, draw.bit_generator.state

    def again() -> None:
        """PyTorch's own initial values came from the same stream."""
        draw.bit_generator.state = start

    def begun(made: Any) -> Any:
        def make(params: Any, *args: Any, **kwargs: Any) -> Any:
            optimizer = made(params, *args, **kwargs)
            again()
            for group in optimizer.param_groups:
                for p in group["params"]:
                    if id(p) in seen or not p.is_floating_point():
                        continue
                    seen.add(id(p))
                    size = tuple(p.shape)
                    drawn = np.random.default_rng(len(seen)).normal(size=size)
                    fan = int(np.prod(size[1:])) if len(size) > 1 else 1
                    with torch.no_grad():
                        p.copy_(
                            torch.tensor(
                                np.asarray(drawn / np.sqrt(fan) if len(size) > 1 else 1.0 + 0.1 * drawn)
                            ).to(p.dtype)
                        )
            return optimizer

        return make

    for name in ("SGD", "Adam", "AdamW", "Adadelta", "Adagrad", "RMSprop", "LBFGS", "Adamax", "Rprop"):
        setattr(torch.optim, name, begun(getattr(torch.optim, name)))
    loader = torch.utils.data.DataLoader

    def layer(*args: Any, **kwargs: Any) -> Any:
        made = linear(*args, **kwargs)
        again()
        with torch.no_grad():
            for p in made.parameters():
                p.copy_(torch.tensor(np.random.default_rng(1).normal(size=tuple(p.shape))).to(p.dtype))
        return made

    if plain:
        torch.nn.Linear = layer

    def make(dataset: Any, *args: Any, **kwargs: Any) -> Any:
        for name in (
            "shuffle",
            "num_workers",
            "pin_memory",
            "persistent_workers",
            "prefetch_factor",
            "sampler",
        ):
            kwargs.pop(name, None)
        return loader(dataset, *(args[:1]), **kwargs)

    torch.utils.data.DataLoader = make


def data_sets(torch: Any) -> None:
    """torchvision's data sets, of random pictures."""

    def of(shape: tuple[int, ...], classes: int) -> Any:
        class Pictures(torch.utils.data.Dataset):  # type: ignore[misc]
            def __init__(self, *_: Any, image_size: Any = None, **__: Any) -> None:
                size = shape if image_size is None else tuple(image_size)
                draw = np.random.default_rng(5)
                self.data = torch.tensor(draw.random((64, *size))).to(torch.get_default_dtype())
                self.targets = torch.tensor(draw.integers(0, classes, 64))
                self.train_data, self.classes = self.data, [str(i) for i in range(classes)]

            def __len__(self) -> int:
                return len(self.targets)

            def __getitem__(self, i: int) -> Any:
                return self.data[i], int(self.targets[i])

        return Pictures

    vision, sets = importlib.import_module("torchvision"), importlib.import_module("torchvision.datasets")
    vision.datasets = sets  # type: ignore[attr-defined]
    for name, shape in (
        ("MNIST", (1, 28, 28)),
        ("FashionMNIST", (1, 28, 28)),
        ("CIFAR10", (3, 32, 32)),
        ("FakeData", (3, 64, 64)),
        ("LSUN", (3, 64, 64)),
    ):
        setattr(sets, name, of(shape, 10))


def main() -> None:
    """One run."""
    run = json.loads(sys.argv[1])
    _Finder.names = {
        n for n in _Finder.names if "." in n or n == "tensorboardX" or importlib.util.find_spec(n) is None
    }
    sys.meta_path.insert(0, _Finder)  # type: ignore[arg-type]
    warnings.simplefilter("ignore")
    torch = importlib.import_module(run["room"])
    for path in ("nn.functional", "utils.data", "optim.lr_scheduler"):
        importlib.import_module(f"{run['room']}.{path}")
    draw = np.random.default_rng(11)
    random.seed(3)
    np.random.seed(3)
    torch.manual_seed(3)
    torch.set_default_dtype(getattr(torch, run["kind"]))
    if run.get("before"):
        exec(run["before"], {"np": np, "torch": torch})
    data_sets(torch)
    same_chance(torch, draw)
    same_start(torch, draw, run.get("plain", False))
    losses: list[float] = []
    times: list[float] = []
    original = torch.Tensor.backward

    def backward(self: Any, *args: Any, **kwargs: Any) -> Any:
        losses.append(float(self.detach().double().sum()))
        times.append(time.perf_counter())
        if len(losses) > run["steps"]:
            raise _Enough
        return original(self, *args, **kwargs)

    torch.Tensor.backward = backward
    sys.argv = [run["script"], *run["args"]]
    sys.path.insert(0, run["script"].rpartition("/")[0])
    for folder in run.get("paths", ()):
        sys.path.insert(0, folder)
    error = ""
    try:
        runpy.run_path(run["script"], run_name="__main__")
        if run.get("after"):
            exec(run["after"], {"np": np, "torch": torch})
    except _Enough:
        pass
    except SystemExit as end:
        error = str(end.code or "")
    with open(run["out"], "w", encoding="utf-8") as file:
        json.dump({"losses": losses, "times": times, "error": error}, file)


if __name__ == "__main__":
    main()
