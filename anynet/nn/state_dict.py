"""Saving and loading the state of a module: its parameters and persistent buffers by name."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from anynet import dtypes
from anynet._hints import closest
from anynet.nn.errors import StateError
from anynet.nn.members import named_state
from anynet.tensor import Tensor, no_grad, to_plain

if TYPE_CHECKING:
    from anynet.nn.module import Module

__all__ = ["load_state_dict", "state_dict"]

SHOWN = 20
"""The most problems that a message lists; of the rest it gives the number."""


def state_dict(module: Module, prefix: str) -> OrderedDict[str, Tensor]:
    """See `Module.state_dict`."""
    for path, inner in module.named_modules():
        if inner.waiting:
            msg = (
                f"{type(inner).__name__}{f' at {path}' if path else ''} has no state before its first call; call the network "
                "once on an example, or load a state"
            )
            raise RuntimeError(msg)
    return OrderedDict((prefix + name, t.detach()) for name, t in named_state(module))


def load_state_dict(module: Module, state: Mapping[str, Any], strict: bool) -> tuple[list[str], list[str]]:
    """See `Module.load_state_dict`."""
    _check_kind(state)
    own = OrderedDict(named_state(module))
    waiting: list[tuple[str, Any]] = [(path, m) for path, m in module.named_modules() if m.waiting]
    sized = [(path, m, m.sized(path, state)) for path, m in waiting]
    for where, _, made in sized:
        if made is not None:
            own.update((f"{where}.{name}" if where else name, t) for name, t in named_state(made))
    missing = [k for k in own if k not in state]
    unexpected = [k for k in state if k not in own]
    problems = _wrong_names(missing, unexpected, own) if strict else []
    values = {k: to_plain(state[k]) for k in own if k in state}
    problems += _wrong_values(values, own)
    if problems:
        more = [f"… and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        shown = "\n  ".join(problems[:SHOWN] + more)
        msg = f"the state does not fit {type(module).__name__}; nothing was changed:\n  {shown}"
        raise StateError(msg)
    for _, lazy, made in sized:
        if made is not None:
            lazy.become(made)
    own = OrderedDict(named_state(module)) if sized else own
    with no_grad():
        for k, value in values.items():
            own[k].assign_(value)
    return missing, unexpected


def _check_kind(state: Any) -> None:
    if not isinstance(state, Mapping):
        hint = "; load the file first: anynet.load(path)" if isinstance(state, (str, os.PathLike)) else ""
        msg = f"load_state_dict: the state must be a dict of arrays by name, got {type(state).__name__}{hint}"
        raise TypeError(msg)
    if isinstance(state.get("model"), Mapping):
        msg = (
            "load_state_dict: the state must be a network's, got that of a whole training run; the network's is its entry "
            "'model': state[\"model\"]"
        )
        raise StateError(msg)


def _wrong_names(missing: list[str], unexpected: list[str], own: Iterable[str]) -> list[str]:
    problems = [f"missing {k}" for k in missing]
    for k in unexpected:
        near = closest(k, missing or own)
        problems.append(f"unexpected {k}" + (f" (did you mean {near}?)" if near else ""))
    return problems


def _wrong_values(values: Mapping[str, Any], own: Mapping[str, Tensor]) -> list[str]:
    """What is wrong with the shapes and dtypes of the values."""
    problems = []
    for k, value in values.items():
        t, dtype = own[k], dtypes.of(value.dtype)
        if tuple(value.shape) != t.shape:
            problems.append(f"{k}: got shape {tuple(value.shape)}, expected {t.shape}")
        elif dtype.kind == "complex" and t.dtype.kind != "complex":
            problems.append(f"{k}: got {dtype}, expected {t.dtype}")
    return problems
