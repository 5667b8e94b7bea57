"""The next step of an optimizer as programs that can be stopped on the device, for steps that the host does not wait for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from anynet.autograd.jit.host_callback import IN_A_GRAPH, GraphRule
from anynet.autograd.primitive import kernels_on
from anynet.optim.flat_group import FlatGroup
from anynet.optim.optimizer import Optimizer
from anynet_backends import Array
from anynet_backends.jit.errors import CaptureError

__all__ = ["PlannedUpdate", "planned", "step_unless"]


class PlannedUpdate(NamedTuple):
    """One program on the vectors of a group, and the numbers of a step."""

    flat: FlatGroup
    program: Any
    numbers: dict[str, Any]


def _obstacle(optimizer: Optimizer) -> str | None:
    """Why a step of an optimizer is never one program on each of its vectors."""
    cls = type(optimizer)
    if (
        not (cls._has_program and cls.step is Optimizer.step and cls.prepare is Optimizer.prepare)
        or cls.numbers
    ):
        return "computes its update on the host, not as one kernel"
    if optimizer._step_pre_hooks or optimizer._step_post_hooks:
        return "has hooks, which run on the host"
    if any(getattr(group, "live", False) for group in optimizer.param_groups):
        return "has a Tensor among its options, which the host reads"
    return None


def planned(optimizer: Optimizer, gradients: bool = True) -> list[PlannedUpdate] | None:
    """What the next `step` does, where that is one program on each of the vectors and nothing else; None where it is not. Nothing is
    changed. `gradients`: whether these are there yet."""
    if _obstacle(optimizer) is not None or not kernels_on():
        return None
    found = []
    groups: list[Any] = optimizer.param_groups
    for group in groups:
        if getattr(group, "changed", True):
            return None
        for flat in group.flats:
            names, program = flat.latest
            steps = flat.steps[0]
            if program is None or flat.steps.count(steps) != len(flat.steps):
                return None
            if not (flat.unchanged() if gradients else all(p._data is v for p, v, _ in flat.places)):
                return None
            c = optimizer.coefficients(steps + 1, group) | {name: group[name] for name in group.common}
            if tuple(c) != names or (optimizer.rows_suffice(c) and flat.has_rows()):
                return None
            found.append(PlannedUpdate(flat, program, c))
    return found


def step_unless(stop: Array, updates: Iterable[PlannedUpdate]) -> None:
    """The step that was `planned`, which changes no number where `stop` holds another number than 0; that is not read."""
    for flat, program, c in updates:
        if flat.xp.switches_devices:
            flat.xp.follow(flat.values)
        program(c.values(), stop)
        flat.count(0, len(flat.steps), flat.steps[0] + 1)


# ----- a step that is captured as a CUDA graph -----


def _captured_obstacle(args: Any, kwargs: Any) -> str | None:
    optimizer, *closure = args
    return "calls a function that computes the loss again" if closure or kwargs else _obstacle(optimizer)


def _capture(recording: Any, _: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """The update with its numbers in cells on the device; each launch is preceded by `numbers`, which counts the step."""
    optimizer: Optimizer = args[0]
    for group in optimizer.param_groups:
        for p in group["params"]:
            recording.see(p)
            if p.edge is not None:  # a graph writes whole gradients
                p.edge.rows, p.edge.clean = None, False
    updates = planned(optimizer)
    if not updates:
        msg = "the optimizer's step is not one kernel for each vector of parameters (not all have a gradient, or an option was changed)"
        raise CaptureError(msg)
    capture, kept = recording.capture, []
    for flat, program, c in updates:
        first = capture.take(len(c))
        program(c.values(), None, capture.cells(first, len(c)))
        kept.append((flat, program, tuple(c), first))

    def fits() -> bool:
        now = planned(optimizer, gradients=False)
        return now is not None and [(u.flat, u.program, tuple(u.numbers)) for u in now] == [
            k[:3] for k in kept
        ]

    def numbers() -> None:
        for u, (flat, program, _, first) in zip(planned(optimizer, gradients=False) or (), kept, strict=True):
            capture.put(first, list(u.numbers.values()), program.number)
            flat.count(0, len(flat.steps), flat.steps[0] + 1)

    recording.checks.append(fits)
    recording.actions.append(numbers)


IN_A_GRAPH[inspect.unwrap(Optimizer.step)] = GraphRule(_captured_obstacle, _capture)
IN_A_GRAPH[inspect.unwrap(Optimizer._set_zero)] = GraphRule(lambda *_: None, lambda _, f, a, k: f(*a, **k))
