"""The gradient rules of an operation on Tensors as one function: the gradient of a gradient is a program, too.

Where a gradient is to be differentiated, the rules run on Tensors, and each of their operations is recorded. Rules of several operations
are a `FusedFunction` of the gradients of the outputs and of the arrays that were kept, which gives the gradients of the inputs: after some
calls with arrays of one form it is one call of machine code and one node of the graph, and its own gradient is one call more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

from anynet.autograd.dispatch import INTERCEPT, kernel_switch
from anynet.autograd.jit.fused import FusedFunction
from anynet.autograd.jit.specialize import UNHASHABLE, available, static_key
from anynet.autograd.rules import run_rules
from anynet.tensor import Tensor, clock, wrap
from anynet_backends import TYPES

if TYPE_CHECKING:
    from anynet.autograd.rules import RulePlan

__all__ = ["run_rules_on_tensors"]

_LEAST_OPERATIONS: Final = 3
_MOST_OPERATIONS: Final = 64
"""Rules of fewer operations take no longer one by one, and of more take long to compile."""
_MAX_FUNCTIONS: Final = 64
_ENOUGH: Final = 32
"""So many calls in which nothing was worth it, and none is looked at any more."""


def run_rules_on_tensors(plan: RulePlan, g: Any, saved: tuple[Any, ...], name: str) -> list[tuple[int, Any]]:
    """`run_rules` of the primitive of this name, where `g` and the arrays that were `saved` are Tensors: as one function, where it is."""
    xp = TYPES.get(type((g[0] if type(g) is tuple else g)._data))
    observed = INTERCEPT and INTERCEPT.own
    if (
        plan.short >= _ENOUGH
        or xp is None
        or not xp.compiles
        or observed
        or not kernel_switch.on
        or not available()
    ):
        return run_rules(plan, g, saved)
    given = (g, *saved[: plan.named])
    inputs: list[Tensor] = []
    forms: list[Any] = []
    fixed: dict[str, Any] = {}
    for x in given:
        form = _form(x)
        if form is None:
            fixed[str(len(forms))] = x
        elif form is Tensor:
            inputs.append(x)
        else:
            inputs += [a if isinstance(a, Tensor) else wrap(a) for a in (x if type(form) is tuple else (x,))]
        forms.append(form)
    key: Any = tuple(forms)
    if fixed:
        key = static_key(key, fixed)
        if key is UNHASHABLE:
            return run_rules(plan, g, saved)
    known = plan.functions.get(key)
    if known is None:
        before = clock()
        out = run_rules(plan, g, saved)
        worth = _LEAST_OPERATIONS < clock() - before <= _MOST_OPERATIONS + 1
        worth = worth and all([isinstance(x, Tensor | None) for _, x in out])
        plan.short = -math.inf if worth else plan.short + 1
        if len(plan.functions) >= _MAX_FUNCTIONS:
            plan.functions.clear()
        plan.functions[key] = (_function(plan, given, forms, name), [i for i, _ in out]) if worth else ()
        return out
    found = known[0](inputs) if known else None
    if found is not None:
        return list(zip(known[1], found, strict=True))
    plan.short += not known
    return run_rules(plan, g, saved)


def _form(x: Any) -> Any:
    """What stands for a thing in the arguments of the function: a Tensor, an array, a tuple of these; None: nothing, since it is the same
    in each call."""
    if isinstance(x, Tensor):
        return Tensor
    if type(x) in TYPES:
        return type(x)
    if type(x) is tuple and x:
        forms = tuple([Tensor if isinstance(a, Tensor) else type(a) if type(a) in TYPES else None for a in x])
        return None if None in forms else forms
    return None


def _function(plan: RulePlan, given: tuple[Any, ...], forms: list[Any], name: str) -> FusedFunction:
    """The rules as a function of the Tensors and arrays among what is `given`."""
    fixed = [x if form is None else None for x, form in zip(given, forms, strict=True)]

    def take(form: Any, rest: Iterator[Tensor]) -> Any:
        if type(form) is tuple:
            return tuple([take(part, rest) for part in form])
        x = next(rest)
        return x if form is Tensor else x._data

    def run(inputs: list[Tensor]) -> tuple[Any, ...]:
        rest = iter(inputs)
        g, *saved = [x if form is None else take(form, rest) for x, form in zip(fixed, forms, strict=True)]
        return tuple([gi for _, gi in run_rules(plan, g, tuple(saved))])

    return FusedFunction(f"{name}'s gradient", run)
