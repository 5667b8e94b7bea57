"""Activation functions and their derivatives, which autograd computes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from anynet._hints import closest
from anynet.autograd.transforms import grad
from anynet.nn import functional
from anynet.nn.module import Module
from anynet.ops.creation import linspace
from anynet.ops.reductions import sum as sum_
from anynet.tensor import Tensor
from anynet.viz.figures import COLOURS, grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["activations"]


def activations(
    *functions: str | Module | Callable[[Tensor], Tensor],
    low: float = -4.0,
    high: float = 4.0,
    points: int = 801,
) -> Figure:
    """Functions of one number, and beside them their derivatives by autograd.

    A function is the name of one in `nn.functional` (``"relu"``, ``"gelu"``), a layer, or any function of a Tensor.

    >>> import anynet as an
    >>> figure = an.viz.activations("relu", "gelu", an.nn.Tanh())  # doctest: +SKIP
    """
    if not functions:
        msg = 'viz.activations: give at least one function, as "relu"'
        raise ValueError(msg)
    if not low < high:
        msg = f"viz.activations: low must be less than high, got {low} and {high}"
        raise ValueError(msg)
    named = [_named(f) for f in functions]
    computed = [(name, *_values(name, f, low, high, points)) for name, f in named]
    figure, (left, right) = grid(2, 4.6, 3.6)
    for i, (name, x, y, slope) in enumerate(computed):
        left.plot(x, y, color=COLOURS[i % len(COLOURS)], label=name)
        right.plot(x, slope, color=COLOURS[i % len(COLOURS)], label=name)
    for ax, title in ((left, "f(x)"), (right, "f′(x)")):
        ax.set_title(title)
        ax.set_xlabel("x")
        ax.axhline(0, color="0.6", linewidth=0.8, zorder=1)
        ax.axvline(0, color="0.6", linewidth=0.8, zorder=1)
    left.legend(frameon=False)
    return figure


def _named(function: Any) -> tuple[str, Callable[[Tensor], Tensor]]:
    if isinstance(function, str):
        found = getattr(functional, function.lower(), None)
        if not callable(found):
            near = closest(function, functional.__all__)
            hint = f"did you mean {near!r}?" if near else "see anynet.nn.functional"
            msg = f"viz.activations: unknown function {function!r}; {hint}"
            raise ValueError(msg)
        return function, found
    if isinstance(function, type) and issubclass(function, Module):
        function = function()
    if isinstance(function, Module):
        return function.label(), function
    if callable(function):
        return getattr(function, "__name__", "f").replace("<lambda>", "f"), function
    msg = f"viz.activations: a function must be a name, a layer or a function, got {type(function).__name__}"
    raise TypeError(msg)


def _values(
    name: str, function: Callable[[Tensor], Tensor], low: float, high: float, points: int
) -> tuple[list[float], list[float], list[float]]:
    x = linspace(low, high, points, dtype="float32").requires_grad_()
    y = function(x)
    if not isinstance(y, Tensor) or y.shape != x.shape:
        got = f"shape {y.shape}" if isinstance(y, Tensor) else type(y).__name__
        msg = f"viz.activations: {name} must give a number for each number, got {got} for shape {x.shape}"
        raise ValueError(msg)
    slope = [0.0] * points if y.edge is None else grad(lambda x: sum_(function(x)))(x.detach()).tolist()
    return x.tolist(), y.detach().tolist(), slope
