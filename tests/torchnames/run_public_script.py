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
        "timm",
        "wandb",
        "gymnasium",
        "IPython",
        "accelerate",
        "absl",
        "six",
        "spacy",
        "matplotlib_inline",
        "torchtext",
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

    def integers(*bounds: Any, size: Any = None, low: int = 0, high: int = 0, **kwargs: Any) -> Any:
        if size is None:
            *bounds, size = bounds
        ends = [int(v) for v in bounds] or [low, high]
        return given(draw.integers(*ends, size=tuple(size)), {"dtype": torch.int64, **kwargs})

    def multinomial(p: Any, num_samples: int, replacement: bool = False, **_: Any) -> Any:
        rows = np.atleast_2d(p.detach().cpu().double().numpy())
        found = [draw.choice(len(r), num_samples, replace=replacement, p=r / r.sum()) for r in rows]
        return torch.tensor(np.array(found if p.dim() == 2 else found[0]))

    def fill(x: Any, array: Any) -> Any:
        with torch.no_grad():
            return x.copy_(torch.tensor(np.asarray(array)).to(x.dtype))

    functions = {
        "randn": lambda *s, **k: given(draw.normal(size=wanted(s, k)), k), "rand": lambda *s, **k: given(draw.random(wanted(s, k)), k),
        "randn_like": lambda x, **k: given(draw.normal(size=tuple(x.shape)), k, x),
        "rand_like": lambda x, **k: given(draw.random(tuple(x.shape)), k, x),
        "randint": integers,
        "randperm": lambda n, **k: torch.tensor(draw.permutation(n)),
        "normal": lambda mean, std, size=None, requires_grad=False, **k: (
            given(draw.normal(size=tuple(size or mean.shape)), k) * std + mean).requires_grad_(requires_grad),
        "bernoulli": lambda p, **k: torch.tensor((draw.random(tuple(p.shape)) < p.detach().cpu().numpy()).astype("f8")).to(p.dtype),
        "multinomial": multinomial,
    }  # fmt: skip
    for name, function in functions.items():
        setattr(torch, name, function)

    def by_shape(x: Any) -> Any:
        """Numbers of a shape, which do not depend on how many were drawn before: PyTorch draws its initial values in this way."""
        return np.random.default_rng([7, *x.shape])

    torch.Tensor.normal_ = lambda x, mean=0.0, std=1.0, **_: fill(
        x, by_shape(x).normal(mean, std, tuple(x.shape))
    )
    torch.Tensor.uniform_ = lambda x, a=0.0, b=1.0, **_: fill(x, by_shape(x).uniform(a, b, tuple(x.shape)))
    # PyTorch's loaders draw a seed, without axes
    torch.Tensor.random_ = lambda x, a=0, b=2, **_: fill(
        x, by_shape(x).integers(a, b, tuple(x.shape)) if x.dim() else a
    )
    torch.Tensor.multinomial = multinomial
    families = importlib.import_module(f"{torch.__name__}.distributions")

    def sample(of: Any) -> Any:
        def draws(self: Any, sample_shape: Any = (), **_: Any) -> Any:
            return of(self, tuple(sample_shape)).to(torch.get_default_dtype())

        return draws

    def normal(self: Any, shape: Any) -> Any:
        return self.loc + self.scale * given(draw.normal(size=(*shape, *self.batch_shape)), {})

    def gaussian(self: Any, shape: Any) -> Any:
        noise = given(draw.normal(size=(*shape, *self.batch_shape, *self.event_shape)), {})
        return self.loc + (self.scale_tril @ noise.unsqueeze(-1)).squeeze(-1)

    def category(self: Any, sample_shape: Any = (), **_: Any) -> Any:
        p = self.probs.detach().double().numpy()
        at = [int(draw.choice(len(row), p=row / row.sum())) for row in p.reshape(-1, p.shape[-1])]
        return torch.tensor(np.array(at).reshape(p.shape[:-1]))

    for kind, of in ((families.Normal, normal), (families.MultivariateNormal, gaussian)):
        kind.rsample = sample(of)
        kind.sample = lambda self, sample_shape=(): self.rsample(sample_shape).detach()
    families.Categorical.sample = category
    torch.nn.functional.dropout = lambda x, *_, **__: x
    for name in ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d"):
        setattr(torch.nn, name, lambda *_, **__: torch.nn.Identity())


def without_chance(net: Any) -> Any:
    """The network, its dropout switched off, since the masks are not PyTorch's."""
    for layer in net.modules():
        if type(layer).__name__.startswith("Dropout"):
            layer.p = 0.0
        for name in ("dropout", "drop_prob", "drop_rate", "layer_dropout", "drop_path_prob"):
            if isinstance(getattr(layer, name, None), float):
                setattr(layer, name, 0.0)
    return net


def same_start(torch: Any, plain: bool, once: bool) -> Any:
    """Parameters begin with NumPy's numbers when an optimizer is made of them; loaders keep the order of their data; a network that begins
    to train has no dropout.

    With `once` samples are taken once: what chance decides in a data set is seeded by anynet's loader for each sample, by PyTorch's not.
    Returns the function that begins parameters.
    """
    seen: dict[int, Any] = {}  # by identity; kept, so that none is given again

    def begin(parameters: Any) -> None:
        for p in parameters:
            if id(p) in seen or not p.is_floating_point():
                continue
            seen[id(p)] = p
            size = tuple(p.shape)
            drawn = np.random.default_rng(len(seen)).normal(size=size)
            value = drawn / np.sqrt(np.prod(size[1:])) if len(size) > 1 else 1.0 + 0.1 * drawn
            with torch.no_grad():
                p.copy_(torch.tensor(np.asarray(value)).to(p.dtype))

    def begun(made: Any) -> Any:
        def make(params: Any, *args: Any, **kwargs: Any) -> Any:
            optimizer = made(params, *args, **kwargs)
            begin(p for group in optimizer.param_groups for p in group["params"])
            random.seed(5)  # what was drawn until here need not be the same
            np.random.seed(5)
            return optimizer

        return make

    def at_first(method: Any) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            if id(next(self.parameters(), None)) not in seen:
                begin(self.parameters())
            return method(self, *args, **kwargs)

        return call

    module = [c for c in torch.nn.Module.__mro__ if c.__name__ == "Module"][-1]
    train = module.train
    module.train = lambda self, mode=True: train(without_chance(self), mode)
    if plain:
        module.zero_grad, module.train = at_first(module.zero_grad), at_first(module.train)
    for name in ("SGD", "Adam", "AdamW", "Adadelta", "Adagrad", "RMSprop", "LBFGS", "Adamax", "Rprop"):
        setattr(torch.optim, name, begun(getattr(torch.optim, name)))
    loader = torch.utils.data.DataLoader

    def split(dataset: Any, lengths: Any, generator: Any = None) -> Any:
        order = np.random.default_rng(3).permutation(len(dataset)).tolist()
        return [torch.utils.data.Subset(dataset, [order.pop() for _ in range(int(n))]) for n in lengths]

    torch.utils.data.random_split = split

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
        if once:
            random.seed(5)
            dataset = [dataset[i] for i in range(len(dataset))]
        return loader(dataset, *(args[:1]), **kwargs)

    torch.utils.data.DataLoader = importlib.import_module(
        f"{torch.__name__}.utils.data.dataloader"
    ).DataLoader = make
    return begin


def vision(torch: Any, begin: Any) -> Any:
    """torchvision: `anynet.torchvision`, whose tensors are made PyTorch's for PyTorch; data sets of random pictures, chance from NumPy."""
    from networks_of_torchvision import resnet18, vgg16

    import anynet.torchvision as own
    from anynet.torchvision import functional, transforms

    here = torch.__name__ != "torch"
    draw, made = np.random.default_rng(9), functional.to_tensor

    def to_tensor(picture: Any) -> Any:
        if here:
            return made(picture)
        return torch.tensor(functional.pil_to_tensor(picture).numpy()).to(torch.get_default_dtype()) / 255

    def normalize(x: Any, mean: Any, std: Any, inplace: bool = False) -> Any:
        m, s = (x.new_tensor(v).view(-1, 1, 1) for v in (mean, std))
        return (x - m) / s

    def started(make: Any) -> Any:
        def network(*_: Any, num_classes: int = 1000, **__: Any) -> Any:
            net = make(num_classes=num_classes) if here else make(torch, num_classes)
            begin(net.parameters())
            return net

        return network

    functional.to_tensor = to_tensor
    if not here:
        functional.normalize = normalize
    transforms._draw = draw.random
    own.utils.save_image = own.utils.make_grid = lambda *_, **__: None
    networks = {"resnet18": resnet18, "vgg16": vgg16}
    for name, there in networks.items():
        setattr(own.models, name, started(getattr(own.models, name) if here else there))
    own.models.VGG16_Weights = types.SimpleNamespace(IMAGENET1K_V1=None)
    for name, shape in (
        ("MNIST", (28, 28)),
        ("FashionMNIST", (28, 28)),
        ("CIFAR10", (32, 32, 3)),
        ("CIFAR100", (32, 32, 3)),
    ):
        setattr(own.datasets, name, _pictures(torch, own.datasets.VisionDataset, shape))
    own.datasets.FakeData = _pictures(torch, own.datasets.VisionDataset, (64, 64, 3))
    if not here:
        for name, module in list(sys.modules.items()):
            if name.startswith("anynet.torchvision"):
                sys.modules[name.removeprefix("anynet.")] = module
    return own


def _pictures(torch: Any, base: Any, shape: tuple[int, ...]) -> Any:
    """A data set of random pictures."""
    from PIL import Image

    class Pictures(base):  # type: ignore[misc]
        def __init__(
            self, root: Any = None, *_: Any, transform: Any = None, target_transform: Any = None, **__: Any
        ) -> None:
            super().__init__(root, transform=transform, target_transform=target_transform)
            draw = np.random.default_rng(5)
            self.pictures = draw.integers(0, 256, (64, *shape), dtype=np.uint8)
            self.targets = torch.tensor(draw.integers(0, 10, 64))
            self.data = self.train_data = torch.tensor(self.pictures)
            self.classes = [str(i) for i in range(10)]

        def __len__(self) -> int:
            return len(self.pictures)

        def __getitem__(self, i: int) -> Any:
            picture = Image.fromarray(self.pictures[i])
            picture = picture if self.transform is None else self.transform(picture)
            return picture, int(self.targets[i])

    return Pictures


def _clocks() -> tuple[float, float]:
    """Seconds of CPU time of this process, and the seconds in which it neither ran nor waited for a core: it waited for a disk."""
    cpu, wall = time.process_time(), time.perf_counter()
    try:
        with open("/proc/self/schedstat", encoding="ascii") as file:  # Linux: of the main thread, in ns
            queued = int(file.read().split()[1]) * 1e-9
    except OSError:
        return cpu, 0.0
    return cpu, wall - cpu - queued


class _Pace:
    """Steps as they are asked for: numbers of them come in, the seconds they took go out, of the CPU and of waiting."""

    def __init__(self) -> None:
        self.out, sys.stdout = sys.stdout, sys.stderr  # what the script prints is no answer
        self.left, self.began = 1, _clocks()

    def wait(self) -> None:
        """Before a backward pass: go on, or say how long the steps took and wait for the next number."""
        self.left -= 1
        if self.left:
            return
        cpu, waited = (now - then for now, then in zip(_clocks(), self.began, strict=True))
        print(cpu, max(0.0, waited), file=self.out, flush=True)
        self.left, self.began = int(sys.stdin.readline()), _clocks()


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
    if run["kind"] == "float64":  # also where a script says float32
        torch.Tensor.float, torch.FloatTensor = torch.Tensor.double, torch.DoubleTensor
        torch.sparse.FloatTensor = torch.sparse.DoubleTensor
        torch.float = torch.float32 = torch.float64
    same_chance(torch, draw)
    own = vision(torch, same_start(torch, run.get("plain", False), run.get("once", False)))
    if run.get("before"):
        exec(run["before"], {"np": np, "torch": torch, "vision": own})
    losses: list[float] = []
    pace = _Pace() if run.get("paced") else None
    original = torch.Tensor.backward

    def backward(self: Any, *args: Any, **kwargs: Any) -> Any:
        if pace is None:
            losses.append(float(self.detach().double().sum()))
            if len(losses) > run["steps"]:
                raise _Enough
        else:
            pace.wait()
        return original(self, *args, **kwargs)

    torch.Tensor.backward = backward
    sys.argv = [run["script"], *run["args"]]
    sys.path.insert(0, run["script"].rpartition("/")[0])
    for folder in run.get("paths", ()):
        sys.path.insert(0, folder)
    error = ""
    try:
        names = runpy.run_path(run["script"], run_name="__main__")
        if run.get("after"):
            exec(run["after"], names)
    except _Enough:
        pass
    except SystemExit as end:
        error = str(end.code or "")
    with open(run["out"], "w", encoding="utf-8") as file:
        json.dump({"losses": losses, "error": error}, file)


if __name__ == "__main__":
    main()
