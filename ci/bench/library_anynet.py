"""anynet under the names of `ci.bench.library`."""

from __future__ import annotations

import os
from typing import Any

import anynet as xp
from anynet import compile, grad, index_add, nn, no_grad, value_and_grad
from anynet.nn import functional as F
from anynet.nn import functional_call

__all__ = [
    "F", "array", "compile", "functional_call", "grad", "index_add", "make_optimizer", "nn", "no_grad", "synchronize", "to_double",
    "value_and_grad", "xp",
]  # fmt: skip


DEVICE = os.environ.get("ANYNET_BENCH_DEVICE", "cpu")
xp.set_default_device(DEVICE)


def array(a: Any) -> Any:
    """A NumPy array as a Tensor."""
    return xp.asarray(a, device=DEVICE)


def synchronize() -> None:
    """Wait for the device."""
    if DEVICE.startswith("cuda"):
        xp.cuda.synchronize(DEVICE)


def make_optimizer(given: list[Any], name: str, lr: float) -> Any:
    """The optimizer of that name."""
    kinds: dict[str, Any] = {
        "adam": xp.optim.Adam,
        "adamw": xp.optim.AdamW,
        "sgd": xp.optim.SGD,
        "sparse adam": xp.optim.SparseAdam,
        "momentum": lambda p, lr: xp.optim.SGD(p, lr=lr, momentum=0.9),
    }
    return kinds[name](given, lr=lr)


def to_double(net: Any) -> Any:
    """The network in double precision."""
    return net.to("float64")


def load_libraries() -> None:
    """Load what anynet loads at the first use of it, so that it counts as an import."""
    y = nn.Conv2d(1, 1, 3)(xp.zeros((1, 1, 8, 8)))
    compile(lambda x: xp.tanh(x + 1.0) * 2.0)(y.detach())
