"""The network of an estimator: from its parameter `module`, and from the data."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Mapping
from typing import Any

from anynet import models, random
from anynet._hints import nearest
from anynet.nn.module import Module

__all__ = ["build", "check_options"]


def check_options(what: str, function: Any, options: Mapping[str, Any]) -> None:
    """Refuse options such as `module__width` that a function does not have."""
    if not options:
        return
    if not callable(function) or isinstance(function, Module):
        names = ", ".join(f"{what}__{name}" for name in options)
        given = (
            "None"
            if function is None
            else repr(function)
            if isinstance(function, str)
            else type(function).__name__
        )
        msg = f"{names}: {what} must be a function to have options, got {given}"
        raise ValueError(msg)
    known = inspect.signature(function).parameters
    if any(p.kind == p.VAR_KEYWORD for p in known.values()):
        return
    for name in options:
        if name not in known:
            shown = getattr(function, "__name__", type(function).__name__)
            msg = f"{what}__{name}: {shown} has no argument {name!r}{nearest(name, known)}"
            raise ValueError(msg)


def build(
    module: Any, n_in: Any, n_out: int, options: Mapping[str, Any], default: Callable[[], Module], seed: int
) -> Module:
    """The network: a copy of a Module, what a function (n_in, n_out) gives, or the default."""
    with random.fork_rng(seed):
        if module is None:
            return default()
        if isinstance(module, Module):
            return copy.deepcopy(module)
        if not callable(module):
            msg = f"module must be None, a Module or a function (n_in, n_out) → Module, got {type(module).__name__}"
            raise TypeError(msg)
        made = module(n_in, n_out, **options)
        if not isinstance(made, Module):
            msg = f"module must be a function (n_in, n_out) → Module, it returned {type(made).__name__}"
            raise TypeError(msg)
        return made


def perceptron(n_in: int, n_out: int, hidden: Any, activation: str, dropout: float, dtype: str) -> Module:
    """The default network for numbers."""
    return models.MLP(n_in, n_out, hidden=hidden, activation=activation, dropout=dropout).to(dtype)
