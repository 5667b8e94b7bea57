"""Reading the state of an optimizer: everything is checked before anything changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from anynet.optim.groups import ParamGroup, plain
from anynet.tensor import Parameter, to_plain

if TYPE_CHECKING:
    from anynet.optim.optimizer import Optimizer

__all__ = ["read_entry", "read_groups", "read_options"]


def read_groups(
    optimizer: Optimizer, state: dict[str, Any]
) -> tuple[list[dict[str, Any]], list[list[int]], dict[int, dict[str, Any]]]:
    """The groups of a state, the numbers of their parameters in the order of this optimizer's, and the entries by number."""
    owner = type(optimizer).__name__
    try:
        saved, entries = list(state["param_groups"]), {int(k): dict(v) for k, v in state["state"].items()}
        numbers = [list(map(int, g["params"])) for g in saved]
    except (KeyError, TypeError, ValueError, AttributeError):
        msg = f"{owner}: not an optimizer's state: it must be a dict with the keys state and param_groups"
        raise ValueError(msg) from None
    sizes, own = [len(n) for n in numbers], [len(g["params"]) for g in optimizer.param_groups]
    if sizes != own:
        msg = f"{owner}: the state has groups of {sizes} parameters, this optimizer of {own}; nothing was changed"
        raise ValueError(msg)
    known = {n for ids in numbers for n in ids}
    if strange := [n for n in entries if n not in known]:
        msg = f"{owner}: the state has entries for parameters {strange[:5]}, which are in none of its groups"
        raise ValueError(msg)
    for i, (group, new) in enumerate(zip(optimizer.param_groups, saved, strict=True)):
        had, has = new.get("param_names"), group.get("param_names")
        if had and has and had != has and sorted(had) == sorted(has):
            place = dict(zip(had, numbers[i], strict=True))
            numbers[i] = [place[name] for name in has]
    return saved, numbers, entries


def read_options(optimizer: Optimizer, group: ParamGroup, new: dict[str, Any]) -> dict[str, Any]:
    owner = type(optimizer).__name__
    if missing := [k for k in optimizer.defaults if k not in new and k not in ("l1", *optimizer.new_options)]:
        msg = f"{owner}: the state lacks {', '.join(missing)}: it is another optimizer's"
        raise ValueError(msg)
    if unknown := [k for k in new if k not in group.rules.kinds and k != "params"]:
        msg = f"{owner}: the state has {', '.join(map(str, unknown))}: it is another optimizer's"
        raise ValueError(msg)
    values = {k: group.rules.take(k, v) for k, v in new.items() if k not in ("params", "param_names")}
    optimizer.validate({**group, **values})
    return values


def read_entry(optimizer: Optimizer, n: int, entry: dict[str, Any], p: Parameter) -> dict[str, Any]:
    """A parameter's state, checked: its step, its numbers, its arrays."""
    where = f"{type(optimizer).__name__}: the state of parameter {n}"
    entry = {k: v for k, v in entry.items() if v is not None and k not in optimizer.foreign}
    if not entry:
        return {}
    arrays = (*optimizer.slots, *optimizer.optional)
    if unknown := [k for k in entry if k not in (*arrays, *optimizer.numbers, "step")]:
        msg = f"{where} has {', '.join(map(str, unknown))}: it is another optimizer's; nothing was changed"
        raise ValueError(msg)
    if missing := [
        k for k in optimizer.slots if k not in entry and 0 not in optimizer.slot_shape(k, p.shape)
    ]:
        msg = f"{where} lacks {', '.join(missing)}; nothing was changed"
        raise ValueError(msg)
    out: dict[str, Any] = {"step": plain(entry.get("step", 1))}
    if not isinstance(out["step"], (int, float)) or not out["step"] >= 0 or out["step"] % 1:
        msg = f"{where} has step {entry['step']!r}, expected a count; nothing was changed"
        raise ValueError(msg)
    out["step"] = int(out["step"])
    for name, value in entry.items():
        if name in optimizer.numbers:
            out[name] = float(value)
        elif name in arrays:
            array = to_plain(value)
            expected = optimizer.slot_shape(name, p.shape)
            if tuple(array.shape) != expected:
                msg = f"{type(optimizer).__name__}: {name} of parameter {n} has shape {tuple(array.shape)}, expected {expected}"
                raise ValueError(msg)
            out[name] = array
    return out
