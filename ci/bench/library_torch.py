"""PyTorch under the names of `ci.bench.library`."""

from __future__ import annotations

import os
import types
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import nn, no_grad

__all__ = [
    "F", "array", "compile", "functional_call", "grad", "index_add", "make_optimizer", "nn", "no_grad", "synchronize", "to_double",
    "value_and_grad", "xp",
]  # fmt: skip

_RENAMED = {
    "permute_dims": "permute", "expand_dims": "unsqueeze", "unstack": "unbind", "take_along_axis": "take_along_dim",
    "max": "amax", "min": "amin", "cumulative_sum": "cumsum", "cumulative_prod": "cumprod",
}  # fmt: skip


DEVICE = os.environ.get("ANYNET_BENCH_DEVICE", "cpu")
if DEVICE != "cpu":
    torch.set_default_device(DEVICE)


def array(a: Any) -> Any:
    """A NumPy array as a tensor."""
    return torch.from_numpy(a).to(DEVICE)


def synchronize() -> None:
    """Wait for the device."""
    if DEVICE.startswith("cuda"):
        torch.cuda.synchronize(DEVICE)


def index_add(x: Any, index: Any, values: Any) -> Any:
    """x with values[k] added to row index[k]."""
    return x.index_add(0, index, values)


def astype(x: Any, dtype: Any) -> Any:
    """x in another data type."""
    return x.to(getattr(torch, dtype) if isinstance(dtype, str) else dtype)


def flip(x: Any, axis: int) -> Any:
    """x backwards along an axis."""
    return torch.flip(x, (axis,))


def var(x: Any, axis: Any = None, correction: int = 0, keepdims: bool = False) -> Any:
    """The variance, of all elements unless an axis is given."""
    return torch.var(x, dim=axis, correction=correction, keepdim=keepdims)


def std(x: Any, axis: Any = None, correction: int = 0, keepdims: bool = False) -> Any:
    """The standard deviation, of all elements unless an axis is given."""
    return torch.std(x, dim=axis, correction=correction, keepdim=keepdims)


xp = types.ModuleType(
    "xp", "PyTorch's functions under the array API's names; most take `axis` and `keepdims` as they are."
)
vars(xp).update({name: value for name, value in vars(torch).items() if not name.startswith("_")})
vars(xp).update(
    {name: getattr(torch, theirs) for name, theirs in _RENAMED.items()},
    astype=astype,
    flip=flip,
    std=std,
    var=var,
)


def value_and_grad(f: Callable[..., Any], has_aux: bool = False) -> Callable[..., Any]:
    """The value of a scalar function and its gradient by the first argument, an array or a dictionary of arrays."""

    def both(x: Any, *args: Any) -> Any:
        tree = isinstance(x, dict)
        leaves = list(x.values()) if tree else [x]
        leaves = [a if a.requires_grad else a.detach().requires_grad_() for a in leaves]
        found = f(dict(zip(x, leaves, strict=True)) if tree else leaves[0], *args)
        g = torch.autograd.grad(found[0] if has_aux else found, leaves, create_graph=True)
        return found, dict(zip(x, g, strict=True)) if tree else g[0]

    return both


def grad(f: Callable[..., Any], has_aux: bool = False) -> Callable[..., Any]:
    """The gradient of a scalar function by its first argument."""
    both = value_and_grad(f, has_aux)

    def only(*args: Any) -> Any:
        found, g = both(*args)
        return (g, found[1]) if has_aux else g

    return only


def functional_call(net: Any, parameters: dict[str, Any], x: Any) -> Any:
    """The network with other parameters."""
    return torch.func.functional_call(net, parameters, (x,))


def compile(f: Callable[..., Any]) -> Callable[..., Any]:
    """torch.compile."""
    return torch.compile(f, mode=MODE)


MODE: str | None = None
"""Of torch.compile: "reduce-overhead" captures graphs on a GPU."""


FUSED = False
"""Whether optimizers are the fused ones (beside torch.compile)."""


def make_optimizer(given: list[Any], name: str, lr: float) -> Any:
    """The optimizer of that name."""
    fused = {"fused": True} if FUSED else {}
    kinds: dict[str, Any] = {
        "adam": torch.optim.Adam,
        "adamw": torch.optim.AdamW,
        "sgd": torch.optim.SGD,
        "sparse adam": lambda p, lr, **_: torch.optim.SparseAdam(p, lr=lr),
        "momentum": lambda p, lr, **k: torch.optim.SGD(p, lr=lr, momentum=0.9, **k),
    }
    return kinds[name](given, lr=lr, **fused)


def to_double(net: Any) -> Any:
    """The network in double precision."""
    return net.double()


def load_libraries() -> None:
    """PyTorch is loaded by its import."""
