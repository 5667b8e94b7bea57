"""An optimizer's parameters by name: in a training state they are numbered, and the numbers are of use only with names."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from anynet.nn.members import named_tensors
from anynet.nn.module import Module
from anynet.tensor import Parameter
from anynet.train.checkpoint import CheckpointError

__all__ = ["by_name", "former_names", "names_of"]


def names_of(model: Module, groups: Iterable[dict[str, Any]]) -> list[list[str]]:
    """The names, in the model, of the parameters of an optimizer's groups; "" for those that are not the model's."""
    names = {id(p): name for name, p in model.named_parameters()}
    return [[names.get(id(p), "") for p in group["params"]] for group in groups]


def former_names(model: Module, saved: Iterable[str], names: list[list[str]]) -> list[list[str]]:
    """The order in which a file of an earlier version, without names, numbers the parameters of groups that are `names` now.

    Then a module's tensors and its children were walked together, in the order of definition, which is the order of the
    file's own `saved` state of the model. So the parameters of one module, or some of them, followed that order.
    """
    place = {name: i for i, (name, _) in enumerate(model.named_parameters())}
    first = {id(p): name for name, p in model.named_parameters()}
    every = {name: first[id(p)] for name, p, _ in named_tensors(model, Parameter, once=False)}
    then = {name: i for i, name in enumerate(dict.fromkeys(every[n] for n in saved if n in every))}
    wholes = [[first[id(p)] for p in module.parameters()] for module in model.modules()]
    out = []
    for number, group in enumerate(names):
        stretches: list[list[str]] = []  # each of which may have been what one module's parameters() gave
        for name in group:
            if stretches and place.get(name, -1) > place.get(stretches[-1][-1], len(place)):
                stretches[-1].append(name)
            else:
                stretches.append([name])
        former = [n for stretch in stretches for n in sorted(stretch, key=lambda n: then.get(n, -1))]
        if former != group and group not in wholes:
            msg = (
                "the checkpoint is of an earlier version of anynet, which numbered parameters in another order, and does "
                f"not say which parameter is which in the optimizer's group {number}; expected a group of all parameters "
                "of one module, as module.parameters() gives them. Go on with the version that wrote it, or load the "
                'weights alone: model.load_state_dict(an.load(path)["model"])'
            )
            raise CheckpointError(msg)
        out.append(former)
    return out


def by_name(state: dict[str, Any], saved: list[list[str]], names: list[list[str]]) -> dict[str, Any]:
    """An optimizer's state whose parameters are called `saved`, renumbered for an optimizer over `names`."""
    groups = state["param_groups"]
    problem = None
    if len(saved) != len(names) or [len(g["params"]) for g in groups] != [len(g) for g in saved]:
        problem = f"it has groups of {[len(g) for g in saved]} parameters, this optimizer of {[len(g) for g in names]}"
    for i, (had, has) in enumerate(zip(saved, names, strict=False)):
        if problem is None and sorted(had) != sorted(has):
            odd = [*(set(had) - set(has)), *(set(has) - set(had))]
            problem = f"group {i} holds other parameters than this optimizer's: {', '.join(sorted(odd)[:5])}"
    if problem is not None:
        msg = f"the checkpoint's optimizer does not fit; nothing was changed: {problem}"
        raise CheckpointError(msg)
    renumbered = []
    for group, had, has in zip(groups, saved, names, strict=True):
        number = dict(zip(had, group["params"], strict=True))
        renumbered.append(group if "" in number else {**group, "params": [number[name] for name in has]})
    return {**state, "param_groups": renumbered}
