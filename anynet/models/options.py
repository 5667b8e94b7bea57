"""Options that several networks share: activations by name, sizes that are checked before anything is made."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from anynet._hints import nearest
from anynet.nn import activations
from anynet.nn import functional as F
from anynet.nn.linear import Identity
from anynet.nn.module import Module

__all__ = ["activation_class", "activation_function", "check_probability", "check_sizes"]


def _word(name: str) -> str:
    return name.lower().replace("_", "").replace("-", "")


def _elementwise() -> dict[str, type[Module]]:
    """The activations that need no argument and keep the shape, by name in lower case."""
    other = ("GLU", "CReLU", "Softmax", "Softmax2d", "Softmin", "LogSoftmax", "Sparsemax")
    found: dict[str, type[Module]] = {"identity": Identity}
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


def _gelu_tanh(x: Any) -> Any:
    return F.gelu(x, approximate="tanh")


def _quick_gelu(x: Any) -> Any:
    return x * F.sigmoid(1.702 * x)


_FUNCTIONS: dict[str, Callable[[Any], Any]] = {
    "gelu": F.gelu, "gelu_tanh": _gelu_tanh, "quick_gelu": _quick_gelu, "relu": F.relu, "silu": F.silu,
}  # fmt: skip


def activation_function(where: str, name: str) -> Callable[[Any], Any]:
    """The activation of a transformer's perceptron: "gelu", "gelu_tanh", "quick_gelu" (x σ(1.702 x)), "relu" or "silu"."""
    if name not in _FUNCTIONS:
        msg = f"{where}: unknown activation {name!r}{nearest(str(name), _FUNCTIONS)}"
        raise ValueError(msg)
    return _FUNCTIONS[name]


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
