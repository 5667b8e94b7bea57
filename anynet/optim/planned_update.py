"""The next step of an optimizer as programs that can be stopped on the device, for steps that the host does not wait for."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from anynet.autograd.jit.host_callback import IN_A_GRAPH, GraphRule
from anynet.autograd.primitive import kernels_on
from anynet.optim.captured_update import ArrayCode, OtherCodeError, refuse_other_code
from anynet.optim.flat_group import FlatGroup
from anynet.optim.optimizer import Optimizer
from anynet_backends import Array
from anynet_backends.backend import Watch
from anynet_backends.jit.errors import CaptureError

__all__ = [
    "Counts",
    "PlannedUpdate",
    "capture_programs",
    "counted",
    "planned",
    "prepared",
    "step_unless",
    "uncount",
]


class PlannedUpdate(NamedTuple):
    """One program on the vectors of a group, and the numbers of a step."""

    flat: FlatGroup
    program: Any
    numbers: dict[str, Any]
    advanced: dict[str, float]
    """What the optimizer counts beside the steps (`Optimizer.numbers`)."""

    def note(self) -> None:
        """Note that it has been made."""
        self.flat.count(0, len(self.flat.steps), self.flat.steps[0] + 1, self.advanced)


Counts = list[tuple[FlatGroup, int, dict[str, float]]]
"""What groups have counted: their steps, and the `numbers` of an optimizer, one of each for all parameters."""


def counted(flats: Iterable[FlatGroup]) -> Counts:
    """What these have counted until now."""
    return [(f, f.steps[0], {name: values[0] for name, values in f.numbers.items()}) for f in flats]


def uncount(counts: Counts) -> None:
    """Count anew from there: the steps since then were not made."""
    for flat, steps, numbers in counts:
        flat.steps[:] = [steps] * len(flat.steps)
        for name, number in numbers.items():
            flat.numbers[name][:] = [number] * len(flat.steps)


def _obstacle(optimizer: Optimizer) -> str | None:
    """Why a step of an optimizer is never its update alone."""
    cls = type(optimizer)
    if cls.step is not Optimizer.step:
        return "is one of its own, which acts on the host"
    if cls.prepare is not Optimizer.prepare:
        return "prepares its groups on the host"
    return None


def planned(optimizer: Optimizer, gradients: bool = True) -> list[PlannedUpdate] | None:
    """What the next `step` does, where that is one program on each of the vectors and nothing else; None where it is not. Nothing is
    changed. `gradients`: whether these are there yet."""
    if not type(optimizer)._has_program or _obstacle(optimizer) is not None or not kernels_on():
        return None
    if optimizer._step_pre_hooks or optimizer._step_post_hooks:
        return None
    return _programs(optimizer, gradients)


def _programs(optimizer: Optimizer, gradients: bool) -> list[PlannedUpdate] | None:
    found = []
    groups: list[Any] = optimizer.param_groups
    for group in groups:
        if getattr(group, "changed", True):
            return None
        options = group.now()
        for flat in group.flats:
            names, program = flat.latest
            steps = flat.steps[0]
            if program is None or flat.steps.count(steps) != len(flat.steps) or not flat.same_numbers():
                return None
            if not (flat.unchanged() if gradients else all(p._data is v for p, v, _ in flat.places)):
                return None
            numbers = optimizer._advanced(flat, 0, options)
            c = optimizer._coefficients(flat, 0, {**options, **numbers} if numbers else options)
            if tuple(c) != names or (optimizer.rows_suffice(c) and flat.has_rows()):
                return None
            found.append(PlannedUpdate(flat, program, c, numbers))
    return found


def step_unless(watch: Watch, updates: Iterable[PlannedUpdate]) -> None:
    """The step that was `planned`, which changes no number where the watch stops it; that is not read."""
    for i, update in enumerate(updates):
        flat, values, ahead = update.flat, list(update.numbers.values()), watch.ahead
        if flat.xp.switches_devices:
            flat.xp.follow(flat.values)
        rows = () if ahead is None else (ahead.numbers(i, values, update.program.number), ahead.next)
        update.program(values, watch.stop, *rows)
        update.note()


# ----- a step that is captured as a CUDA graph -----


def _captured_obstacle(args: Any, kwargs: Any) -> str | None:
    optimizer, *closure = args
    if closure or kwargs:
        return "calls a function that computes the loss again"
    groups: list[Any] = optimizer.param_groups
    for group in groups:
        for name in getattr(group, "live", ()):
            if group[name].device != "cpu":
                return f"has a Tensor on {group[name].device} as its {name}, for which the host would wait; move it to the CPU"
    return _obstacle(optimizer)


def _capture(recording: Any, _: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """A step with its hooks, which are part of the graph as all that the function calls."""
    optimizer: Optimizer = args[0]
    before, after = tuple(optimizer._step_pre_hooks), tuple(optimizer._step_post_hooks)
    if before or after:
        for hook in (*before, *after):
            recording.guard.add("hook", hook)
        recording.guard.add("optimizer", optimizer)
        for x in list(recording.guard.tensors.values()):
            recording.see(x)
        recording.checks.append(
            lambda: (tuple(optimizer._step_pre_hooks), tuple(optimizer._step_post_hooks)) == (before, after)
        )
    for hook in before:
        if hook(optimizer, args[1:], kwargs) is not None:
            msg = "a hook of the optimizer gives other arguments to its step"
            raise CaptureError(msg)
    updates = prepared(recording, optimizer)
    step = (
        _Programs(recording.capture, optimizer, updates) if updates else _Code(recording.capture, optimizer)
    )
    recording.checks.append(step.fits)
    recording.actions.append(step.act)
    for hook in after:
        hook(optimizer, args[1:], kwargs)


def prepared(recording: Any, optimizer: Optimizer) -> list[PlannedUpdate] | None:
    """The gradients in their vectors; the programs that are the update, None where it is other code."""
    groups: list[Any] = optimizer.param_groups
    for group in groups:
        for p in group["params"]:
            recording.see(p)
            if p.edge is not None:  # a graph writes whole gradients
                p.edge.rows, p.edge.clean = None, False
                recording.read.add(id(p.edge))
        # gradients that were assigned are brought into the vector
        if getattr(group, "changed", True) or not all(f.unchanged() or all(f.ready()) for f in group.flats):
            msg = "not all parameters of the optimizer have a gradient, or an option was changed"
            raise CaptureError(msg)
    return _programs(optimizer, False) if type(optimizer)._has_program and kernels_on() else None


def capture_programs(recording: Any, optimizer: Optimizer, watch: Watch) -> None:
    """A step in a graph that is to be programs alone, which change no number where the watch stops it."""
    updates = prepared(recording, optimizer)
    if not updates or planned(optimizer, False) is None:
        msg = f"{type(optimizer).__name__}.step is not one kernel for each vector of parameters"
        raise CaptureError(msg)
    step = _Programs(recording.capture, optimizer, updates, watch)
    recording.checks.append(step.fits)
    recording.actions.append(step.act)


class _Programs:
    """A step that is one program for each vector of parameters. Its numbers stand in cells on the device; each launch is preceded by
    `act`, which writes them and counts the step."""

    def __init__(
        self, capture: Any, optimizer: Optimizer, updates: list[PlannedUpdate], watch: Watch | None = None
    ) -> None:
        self.capture, self.optimizer = capture, optimizer
        self.kept = []
        stop = None if watch is None else watch.stop
        self.ahead = None if watch is None else watch.ahead
        rows, row = (1, None) if self.ahead is None else (self.ahead.rows, self.ahead.next)
        for u in updates:
            first = capture.take(len(u.numbers) * rows)
            u.program(u.numbers.values(), stop, capture.cells(first, len(u.numbers) * rows), row)
            self.kept.append((u.flat, u.program, tuple(u.numbers), first))

    def fits(self) -> bool:
        now = _programs(self.optimizer, False)
        return now is not None and [(u.flat, u.program, tuple(u.numbers)) for u in now] == [
            k[:3] for k in self.kept
        ]

    def act(self) -> None:
        now = _programs(self.optimizer, False)
        if now is None or not self.fits():
            raise refuse_other_code(type(self.optimizer).__name__)
        for i, (u, (_, program, _, first)) in enumerate(zip(now, self.kept, strict=True)):
            values = list(u.numbers.values())
            if self.ahead is None:
                self.capture.put(first, values, program.number)
            else:
                self.ahead.prepare(self.capture, first, i, values, program.number)
            u.note()


class _Part(NamedTuple):
    """Parameters that one run of an update changes, and what it does."""

    group: Any
    flat: FlatGroup
    first: int
    last: int
    code: ArrayCode
    cells: list[int]


class _Code:
    """A step that is array code (`captured_update`), of each parameter, or of the vectors."""

    def __init__(self, capture: Any, optimizer: Optimizer) -> None:
        self.capture, self.optimizer = capture, optimizer
        self.parts: list[_Part] = []
        self.numbers: list[list[float]] | None = None  # of the next step, once they are known
        self.seen: list[Any] = []
        groups: list[Any] = optimizer.param_groups
        for group in groups:
            options = group.now()
            for flat in group.flats:
                known: dict[Any, list[_Part]] = {}
                for first, last, _ in self._ranges(flat):
                    self._record(group, flat, first, last, options, known)
        if not self.parts:
            msg = "the optimizer has no parameters"
            raise CaptureError(msg)

    def _ranges(self, flat: FlatGroup) -> list[tuple[int, int, int]]:
        if self.optimizer.per_parameter:
            return [(i, i + 1, steps) for i, steps in enumerate(flat.steps)]
        return flat.ranges(False)

    def _arrays(self, flat: FlatGroup, first: int, last: int) -> tuple[Array, Array, dict[str, Array]]:
        return flat.piece(first) if self.optimizer.per_parameter else next(flat.blocks(first, last, None))

    def _function(self, flat: FlatGroup, i: int, options: dict[str, Any]) -> Callable[..., None]:
        """What the next step does to the parameters from number i on."""
        return self.optimizer._next_update(flat, i, {**options, **self.optimizer._advanced(flat, i, options)})

    def _record(
        self,
        group: Any,
        flat: FlatGroup,
        first: int,
        last: int,
        options: dict[str, Any],
        known: dict[Any, list[_Part]],
    ) -> None:
        arrays = self._arrays(flat, first, last)
        function = self._function(flat, first, options)
        key = arrays[0].shape, flat.steps[first], tuple([v[first] for v in flat.numbers.values()])
        for same in known.get(key, ()):  # which reads the same numbers from the same cells
            self.parts.append(same._replace(first=first, last=last))
            same.code.record(function, flat.xp, *arrays)
            return
        places: list[int] = []

        def cell(i: int, kind: Any) -> Array:
            if i == len(places):
                places.append(self.capture.take(1))
            found: Array = self.capture.cell(places[i], kind)
            return found

        code = ArrayCode(cell)
        code.record(function, flat.xp, *arrays)
        part = _Part(group, flat, first, last, code, places)
        self.parts.append(part)
        known.setdefault(key, []).append(part)

    def _next(self) -> list[list[float]]:
        """The numbers of the next step; OtherCodeError where it does something else."""
        found: dict[int, tuple[Any, list[float]]] = {}
        for part in self.parts:
            flat = part.flat
            state = flat.steps[part.first], *[v[part.first] for v in flat.numbers.values()]
            if part.group.changed or not all(p._data is v for p, v, _ in flat.places):
                raise OtherCodeError
            if any(s != flat.steps[part.first] for s in flat.steps[part.first : part.last]):
                raise OtherCodeError
            before = found.get(id(part.code))
            if before is None:
                function = self._function(flat, part.first, part.group.now())
                numbers = part.code.numbers(function, flat.xp, *self._arrays(flat, part.first, part.last))
                found[id(part.code)] = state, numbers
            elif before[0] != state:  # parameters that were at one step are no longer
                raise OtherCodeError
        return [numbers for _, numbers in found.values()]

    def fits(self) -> bool:
        try:
            self.numbers = self._next()
        except OtherCodeError:
            return False
        self.seen = self._seen()
        return True

    def _seen(self) -> list[Any]:
        """The state of the options."""
        groups: list[Any] = self.optimizer.param_groups
        return [(g.version, [g.now()[name] for name in g.live]) for g in groups]

    def act(self) -> None:
        """Write the numbers, which `fits` has found where no option has changed since, and count."""
        numbers = self.numbers
        if numbers is None or self.seen != self._seen():
            try:
                numbers = self._next()
            except OtherCodeError:
                raise refuse_other_code(type(self.optimizer).__name__) from None
        self.numbers = None
        codes = {id(part.code): part for part in self.parts}
        for part, values in zip(codes.values(), numbers, strict=True):
            for place, value, kind in zip(part.cells, values, part.code.kinds, strict=True):
                self.capture.put(place, [value], kind)
        for part in self.parts:
            flat = part.flat
            advanced = self.optimizer._advanced(flat, part.first, part.group.now())
            flat.count(part.first, part.last, flat.steps[part.first] + 1, advanced)


IN_A_GRAPH[inspect.unwrap(Optimizer.step)] = GraphRule(_captured_obstacle, _capture)
IN_A_GRAPH[inspect.unwrap(Optimizer._set_zero)] = GraphRule(lambda *_: None, lambda _, f, a, k: f(*a, **k))
