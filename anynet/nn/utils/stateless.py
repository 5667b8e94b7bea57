"""A module as a function of its parameters and buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from anynet._hints import closest
from anynet.nn.errors import StateError
from anynet.nn.members import named_tensors
from anynet.nn.module import Module
from anynet.tensor import Buffer, Parameter, Tensor, to_plain, wrap

__all__ = ["functional_call"]


def functional_call(
    module: Module,
    tensors: Mapping[str, Any],
    args: Any = (),
    kwargs: Mapping[str, Any] | None = None,
    *,
    tie_weights: bool = True,
    strict: bool = False,
) -> Any:
    """``module(*args, **kwargs)`` with some of its parameters and buffers replaced by `tensors`, by name.

    The module is a function of `tensors` here: gradients flow to them, and afterwards the module is as it was, running
    statistics included (those of a buffer given in `tensors` are written there). `args` may be one argument alone.

    Parameters that are one Tensor under several names are replaced together by a value for any of the names; with
    ``tie_weights=False`` each of the names must have that value. `strict` asks for all names.

    >>> import anynet as an
    >>> net = an.nn.Linear(2, 1)
    >>> f = lambda w: an.sum(an.nn.functional_call(net, {"weight": w}, an.asarray([[1.0, 2.0]])))
    >>> an.grad(f)(an.zeros((1, 2)))
    Tensor([[1., 2.]])
    """
    own = {
        n: t for n, t, _ in named_tensors(module, Tensor, once=False) if isinstance(t, (Parameter, Buffer))
    }
    problems = _wrong(tensors, own, tie_weights)
    if strict:
        problems += [f"missing {name}" for name in own if name not in tensors]
    if problems:
        shown = "\n  ".join(problems[:20])
        msg = f"functional_call: the tensors do not fit {type(module).__name__}:\n  {shown}"
        raise StateError(msg)
    replaced = {id(own[name]) for name in tensors}
    before = [(t, t._data, t.edge) for t in own.values()]
    try:
        for t in own.values():
            if isinstance(t, Buffer) and id(t) not in replaced:  # written in place
                t._data = to_plain(t._data, copy=True)
        for name, value in tensors.items():
            t = own[name]
            new = value if isinstance(value, Tensor) else wrap(to_plain(value, device=t.device))
            t._data, t.edge = new._data, new.edge
        return module(*(args if isinstance(args, tuple) else (args,)), **(kwargs or {}))
    finally:
        for t, data, edge in before:
            t._data, t.edge = data, edge


def _wrong(tensors: Mapping[str, Any], own: Mapping[str, Tensor], tie_weights: bool) -> list[str]:
    """What is wrong with the names, shapes and ties of the tensors that are to replace a module's own."""
    problems = []
    first: dict[int, str] = {}  # by Tensor: the first name under which it has a value
    for name, value in tensors.items():
        if name not in own:
            near = closest(name, own)
            problems.append(f"unknown {name}" + (f" (did you mean {near}?)" if near else ""))
            continue
        t = own[name]
        if tuple(value.shape) != t.shape:
            problems.append(f"{name}: got shape {tuple(value.shape)}, expected {t.shape}")
        other = first.setdefault(id(t), name)
        if tensors[other] is not value:
            problems.append(f"{name} and {other} are one Tensor and got two values")
        if not tie_weights and any(o is t and n not in tensors for n, o in own.items()):
            problems.append(f"{name} has other names without a value; tie_weights=True replaces all of them")
    return problems
