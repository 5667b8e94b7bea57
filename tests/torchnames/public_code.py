"""Public PyTorch code, run as it is: with PyTorch, and with anynet.torch after its import lines alone were changed.

`ANYNET_PORTS` names a folder of repositories by their public names, such as `$ANYNET_PORTS/kuangliu/pytorch-cifar/models/vgg.py`. None of
that code is in this repository.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import pathlib
import random
import sys
import types
import warnings
from typing import Any, ClassVar

import numpy as np
import pytest
from run_public_script import without_chance

import anynet.torch
from anynet.torch.imports import with_changed_imports

__all__ = [
    "FOLDER",
    "close_in_float32",
    "imported",
    "of_precision",
    "ported",
    "repository",
    "same_weights",
    "started",
    "without_chance",
]

FOLDER = os.environ.get("ANYNET_PORTS", "")


def repository(name: str) -> pathlib.Path:
    """The folder of a repository; skips the test where there is none."""
    where = pathlib.Path(FOLDER) / name
    if not FOLDER or not where.is_dir():
        pytest.skip("ANYNET_PORTS names no folder with this repository")
    return where


def ported(source: pathlib.Path, target: pathlib.Path) -> pathlib.Path:
    """A copy of the Python files of a folder, their import lines changed."""
    for file in source.rglob("*.py"):
        copy = target / file.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(SyntaxError):  # templates
            copy.write_text(with_changed_imports(file.read_text(encoding="utf-8")), encoding="utf-8")
    return target


class _StandIn(types.ModuleType):
    """A library that is not installed, of which files import names that are not used here."""

    __path__: ClassVar[list[str]] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _StandIn(f"{self.__name__}.{name}")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return args[0] if args else self


def _libraries(torch: Any) -> dict[str, types.ModuleType]:
    """torchvision and timm, as far as the files need them."""

    class DropPath(torch.nn.Identity):  # type: ignore[misc]
        def __init__(self, rate: float) -> None:
            super().__init__()

    paths = ("torchvision", "torchvision.transforms", "torchvision.datasets", "torchvision.utils", "torchvision.models", "timm",
             "timm.models", "timm.models.layers", "timm.models.registry", "wandb")  # fmt: skip
    made = {path: _StandIn(path) for path in paths if importlib.util.find_spec(path.split(".")[0]) is None}
    if "timm.models.layers" in made:
        vars(made["timm.models.layers"]).update(trunc_normal_=torch.nn.init.trunc_normal_, DropPath=DropPath)
    return dict(made)


def imported(folder: pathlib.Path, module: str, torch: Any) -> Any:
    """A module of a folder; the names under which it and what it imported there are known to Python are free again."""
    before, libraries = set(sys.modules), _libraries(torch)
    sys.path.insert(0, str(folder))
    sys.modules.update(libraries)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what the code's authors leave
            return importlib.import_module(module)
    finally:
        sys.path.remove(str(folder))
        for name in set(sys.modules) - before:
            found = sys.modules[name]
            where = getattr(found, "__file__", None) or next(iter(getattr(found, "__path__", [])), "")
            if name in libraries or str(where).startswith(str(folder)):
                del sys.modules[name]


def same_weights(mine: Any, theirs: Any) -> None:
    """Give mine the parameters and buffers of theirs, and the tensors that its modules keep as mere attributes (positions)."""

    def copied(t: Any) -> Any:
        return anynet.torch.tensor(t.detach().cpu().numpy().copy())

    mine.load_state_dict({k: copied(v) for k, v in theirs.state_dict().items()})
    for here, there in zip(mine.modules(), theirs.modules(), strict=True):
        for name, value in vars(there).items():
            if not name.startswith("_") and hasattr(value, "detach"):
                setattr(here, name, copied(value))


@contextlib.contextmanager
def of_precision(kind: str, *rooms: Any) -> Any:
    """Within the block tensors of Python floats have this type, and `x.float()` gives it, too."""
    before = [(room.get_default_dtype(), room.Tensor.float) for room in rooms]
    for room in rooms:
        room.set_default_dtype(getattr(room, kind))
        if kind == "float64":
            room.Tensor.float = room.Tensor.double
    try:
        yield
    finally:
        for room, (default, method) in zip(rooms, before, strict=True):
            room.set_default_dtype(default)
            room.Tensor.float = method


def close_in_float32(found: Any, expected: Any, exact: Any) -> None:
    """Losses in float32 agree to 1e-5, or, where rounding is magnified (batch norm over a few samples), are as near as PyTorch's are to the
    losses in float64."""
    found, expected, exact = map(np.asarray, (found, expected, exact))
    rounding = np.maximum(1e-5 * np.abs(exact), 3 * np.abs(expected - exact))
    assert np.all(
        (np.abs(found - expected) <= 1e-5 * np.abs(expected)) | (np.abs(found - exact) <= rounding)
    ), (found, expected, exact)


def started(torch: Any, seed: int = 0) -> None:
    """All random numbers begin anew."""
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
