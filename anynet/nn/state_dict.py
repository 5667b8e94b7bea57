"""Saving and loading the state of a module: its parameters and persistent buffers by name."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

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
    found: list[tuple[str, Any]] = list(module.named_modules())
    for path, inner in found:
        if inner.waiting:
            msg = (
                f"{type(inner).__name__}{f' at {path}' if path else ''} has no state before its first call; call the network "
                "once on an example, or load a state"
            )
            raise RuntimeError(msg)
    modules = [(f"{prefix}{path}." if path else prefix, m) for path, m in found]
    for path, inner in modules:
        for hook in inner._state_pre_hooks:
            hook(inner, path, False)
    state: OrderedDict[str, Any] = OrderedDict((prefix + name, t.detach()) for name, t in named_state(module))
    for path, inner in modules:
        if _has_extra(inner):
            state[f"{path}{EXTRA}"] = inner.get_extra_state()
    for path, inner in reversed(modules):  # the innermost first
        for hook in inner._state_hooks:
            changed = hook(inner, state, path, {})
            state = state if changed is None else changed
    return state


EXTRA = "_extra_state"
"""The name of what a module's state has besides its tensors."""


class Keys(NamedTuple):
    """What `Module.load_state_dict` returns: names that the state lacks, and names that the module has not."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def _has_extra(module: Any) -> bool:
    """Whether the class of a module defines an extra state, rather than the base of all."""
    return bool(type(module).get_extra_state.__module__ != "anynet.nn.module")


def _before_loading(
    modules: list[tuple[str, Any]], state: Mapping[str, Any], strict: bool
) -> tuple[Mapping[str, Any], list[str]]:
    """The state as the hooks of the modules leave it, and the problems that they report."""
    problems: list[str] = []
    if any(m._load_pre_hooks for _, m in modules):
        state = OrderedDict(state)
        for path, inner in modules:
            for hook in inner._load_pre_hooks:
                hook(inner, state, f"{path}." if path else "", {}, strict, [], [], problems)
    return state, problems


def load_state_dict(module: Module, state: Mapping[str, Any], strict: bool) -> Keys:
    """See `Module.load_state_dict`."""
    _check_kind(state)
    modules: list[tuple[str, Any]] = list(module.named_modules())
    state, reported = _before_loading(modules, state, strict)
    extra = {f"{path}.{EXTRA}" if path else EXTRA: m for path, m in modules if _has_extra(m)}
    own = OrderedDict(named_state(module))
    waiting: list[tuple[str, Any]] = [(path, m) for path, m in module.named_modules() if m.waiting]
    sized = [(path, m, m.sized(path, state)) for path, m in waiting]
    for where, _, made in sized:
        if made is not None:
            own.update((f"{where}.{name}" if where else name, t) for name, t in named_state(made))
    missing = [k for k in (*own, *extra) if k not in state]
    unexpected = [k for k in state if k not in own and k not in extra]
    problems = reported + (_wrong_names(missing, unexpected, own) if strict else [])
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
    for k, inner in extra.items():
        if k in state:
            inner.set_extra_state(state[k])
    keys = Keys(missing, unexpected)
    for _, inner in reversed(modules):
        for hook in inner._load_post_hooks:
            hook(inner, keys)
    return keys


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
