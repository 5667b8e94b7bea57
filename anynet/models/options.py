"""Options that several networks share: activations by name, sizes that are checked before anything is made."""

from __future__ import annotations

import inspect
from typing import Any

from anynet._hints import nearest
from anynet.nn import activations
from anynet.nn.module import Module

__all__ = ["activation_class", "check_probability", "check_sizes"]


def _word(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _elementwise() -> dict[str, type[Module]]:
    """The activations that need no argument and keep the shape, by name in lower case."""
    other = ("GLU", "CReLU", "Softmax", "Softmax2d", "Softmin", "LogSoftmax", "Sparsemax")
    found = {}
    for name in activations.__all__:
        cls = getattr(activations, name)
        needed = [p for p in inspect.signature(cls).parameters.values() if p.default is p.empty]
        if name not in other and all(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in needed):
            found[_word(name)] = cls
    return found


def activation_class(where: str, name: str) -> type[Module]:
    """The layer class of an activation: "relu", "gelu", "silu", "tanh", "leaky_relu", …"""
    known = _elementwise()
    if not isinstance(name, str) or _word(name) not in known:
        msg = f"{where}: unknown activation {name!r}{nearest(_word(str(name)), known)}"
        raise ValueError(msg)
    return known[_word(name)]


def check_sizes(where: str, **sizes: Any) -> None:
    """ValueError for what is no integer of at least 1."""
    for name, value in sizes.items():
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            msg = f"{where}: {name} must be an integer ≥ 1, got {value!r}"
            raise ValueError(msg)


def check_probability(where: str, **values: float) -> None:
    """ValueError for what is not in [0, 1)."""
    for name, value in values.items():
        if not 0 <= value < 1:
            msg = f"{where}: {name} must be in [0, 1), got {value!r}"
            raise ValueError(msg)
