"""The cases of the parity and gradient suites: every operation once, small, on inputs away from its kinks.

Each module of this folder holds one family as a tuple `CASES`. A primitive that no case runs fails the tests.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from anynet import nn, random
from anynet.tensor import Tensor

__all__ = ["Case", "every", "index", "layer"]

# in the wheel the modules lie in an archive (hatch_build.py)
__path__.append(os.path.join(__path__[0], "inside.zip"))


@dataclass(frozen=True)
class Case:
    """An operation: a function of Tensors, the shapes of its arguments, and the range of their elements."""

    name: str
    function: Callable[..., Any]
    shapes: tuple[tuple[int, ...], ...]
    low: float = -2.0
    high: float = 2.0
    second_order: bool = True  # whether the gradient depends on the inputs, so that a second one can be taken
    steps: bool = (
        False  # whether its gradient is not that of its value: optimizer steps, weights held constant
    )
    make: Callable[[], nn.Module] | None = None  # of a layer that is called with the first arguments alone


def index(x: Tensor, values: Any) -> Tensor:
    """Integers on the device of x."""
    return Tensor(values, device=x.device)


def layer(
    name: str,
    make: Callable[[], nn.Module],
    *shapes: tuple[int, ...],
    run: Callable[..., Any] | None = None,
    low: float = -2.0,
    high: float = 2.0,
    second_order: bool = True,
) -> Case:
    """A Module as a function of its inputs, whose shapes are given, and of its parameters.

    `run` calls it where that takes more than ``module(*inputs)`` or gives more than one Tensor.
    """
    state = random.get_state()
    parameters = [(k, p.shape) for k, p in make().named_parameters()]
    random.set_state(state)

    def function(*values: Tensor) -> Any:
        inputs, weights = values[: len(shapes)], values[len(shapes) :]
        some = values[0]
        random.manual_seed(11)  # of dropout masks
        net = _Called(make().to(some.device).to(some.dtype), run)
        return nn.functional_call(
            net, {f"net.{k}": w for (k, _), w in zip(parameters, weights, strict=True)}, inputs
        )

    every_shape = (*shapes, *(shape for _, shape in parameters))
    return Case(name, function, every_shape, low, high, second_order, make=make if run is None else None)


class _Called(nn.Module):
    def __init__(self, net: nn.Module, run: Callable[..., Any] | None) -> None:
        self.net, self._run = net, run

    def forward(self, *inputs: Tensor) -> Any:
        return self.net(*inputs) if self._run is None else self._run(self.net, *inputs)


def every() -> tuple[Case, ...]:
    """All cases of all modules of this folder."""
    found: list[Case] = []
    for module in pkgutil.iter_modules(__path__):
        found += importlib.import_module(f"{__name__}.{module.name}").CASES
    return tuple(found)
