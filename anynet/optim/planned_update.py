"""The next step of an optimizer as programs that can be stopped on the device, for steps that the host does not wait for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from anynet.autograd.primitive import kernels_on
from anynet.optim.flat_group import FlatGroup
from anynet.optim.optimizer import Optimizer
from anynet_backends import Array

__all__ = ["PlannedUpdate", "planned", "step_unless"]


class PlannedUpdate(NamedTuple):
    """One program on the vectors of a group, and the numbers of a step."""

    flat: FlatGroup
    program: Callable[..., None]
    numbers: dict[str, Any]


def planned(optimizer: Optimizer) -> list[PlannedUpdate] | None:
    """What the next `step` does, where that is one program on each of the vectors and nothing else; None where it is not. Nothing is
    changed."""
    cls = type(optimizer)
    plain = cls._has_program and cls.step is Optimizer.step and cls.prepare is Optimizer.prepare
    if not plain or optimizer._step_pre_hooks or optimizer._step_post_hooks or not kernels_on():
        return None
    found = []
    groups: list[Any] = optimizer.param_groups
    for group in groups:
        if getattr(group, "changed", True) or group.live:
            return None
        for flat in group.flats:
            names, program = flat.latest
            steps = flat.steps[0]
            if program is None or flat.steps.count(steps) != len(flat.steps) or not flat.unchanged():
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
