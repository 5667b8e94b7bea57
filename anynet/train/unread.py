"""Updates whose losses the host has not read yet: on a device on which reading a value would mean to wait for all that is queued.

What is wrong with a batch (a loss or a gradient that is not finite, an index out of range) is found on the device, and stops all updates
from there on (`Backend.watch`). The host reads it with the losses of up to `ROOM` batches, and takes back what it has counted since. With a
scaled loss each batch is read, after its update: the device leaves that out where a gradient has overflowed, and the host takes a smaller
scale.
"""

from __future__ import annotations

import copy
import inspect
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from anynet import random
from anynet.autograd.jit.host_callback import IN_A_GRAPH, GraphRule, host_callback
from anynet.optim.flat_group import FlatGroup
from anynet.optim.optimizer import Optimizer
from anynet.optim.planned_update import PlannedUpdate, capture_programs, planned, step_unless
from anynet.tensor import Tensor, unwrap
from anynet_backends import resolve
from anynet_backends.config import CHECK
from anynet_backends.jit.errors import CaptureError

if TYPE_CHECKING:
    from anynet.train.state import TrainingState
    from anynet.train.updates import Updates
    from anynet_backends import Array
    from anynet_backends.backend import Seen, Watch

__all__ = ["ROOM", "UnreadUpdates", "update_unread"]

ROOM: Final = 32
"""The most updates that are not read yet."""


class _Update(NamedTuple):
    """What is known of a batch but its loss, and what was before its update."""

    where: tuple[int, int]
    weight: float
    measured: Any
    logs: Any  # what a module's own step gives, where nothing is measured
    done: int
    steps: list[tuple[FlatGroup, int, dict[str, float]]]
    random: dict[str, int]
    schedule: Any
    stopped: tuple[str | None, bool]


class UnreadUpdates:
    """The updates of one training that are not read yet."""

    def __init__(self, updates: Updates) -> None:
        self.updates = updates
        self.unread: list[_Update] = []
        self.loss = math.nan  # of the last batch that was read
        self.done = False
        """Whether `update` has been made since `begin`."""
        self._steps: list[tuple[FlatGroup, int, dict[str, float]]] = []
        self._watch: Watch | None = None
        self._watched: list[FlatGroup] = []

    @staticmethod
    def serve(updates: Updates) -> bool:
        """Whether the host would have to wait for losses, and the update is the plain one."""
        return (
            updates.sharing is None
            and updates.accumulate == 1
            and not updates.closure
            and isinstance(updates.optimizer, Optimizer)
            and not CHECK()
            and not resolve(updates.params[0].device)[0].values_are_cheap_to_read
        )

    def keep(self, kept: list[tuple[Any, Any]]) -> bool:
        """Copy buffers into the arrays that keep them, unless a batch before was wrong; False, with nothing done, where that is not needed
        or cannot be."""
        if not self.unread or self._watch is None:
            return False
        return self._watch.keep([(unwrap(value), unwrap(b)) for b, value in kept])

    def begin(self, state: TrainingState, gradients: bool = True) -> bool:
        """Before an update that is not read: whether there can be one. `gradients`: whether these are there yet."""
        todo = planned(self.updates.optimizer, gradients)
        if not todo:
            return False
        if [u.flat for u in todo] != self._watched:
            self.settle(state)
            self._watch = self._watch_for(todo)
            self._watched = [u.flat for u in todo]
        self.done = False
        self._steps = [(f, f.steps[0], {k: v[0] for k, v in f.numbers.items()}) for f, *_ in todo]
        return self._watch is not None

    def update(self, loss: Tensor, scale: Tensor | None = None) -> None:
        """The update after `begin`, with nothing done where it cannot be. `scale`: what the loss was multiplied with."""
        todo = planned(self.updates.optimizer)
        if not todo or self._watch is None or not self._watch.takes(unwrap(loss)):
            return
        self.look(self._watch, [u.flat for u in todo], loss, scale)
        step_unless(self._watch.stop, todo)
        self.done = True

    def look(
        self,
        watch: Watch,
        flats: list[FlatGroup],
        loss: Tensor,
        scale: Tensor | None,
        cell: Array | None = None,
    ) -> None:
        """Take the scale out of the gradients, look at them and the loss, and clip."""
        for flat in flats if scale is not None else ():
            flat.grads /= unwrap(scale)
        watch.look(unwrap(loss), cell)
        self.updates.clip()

    def note(self, weight: float, measured: Any, output: Any, state: TrainingState) -> None:
        """After the update: what is done with the loss once it is read."""
        updates = self.updates
        schedule = None if updates.schedule is None else copy.deepcopy(updates.schedule.state_dict())
        logs, stopped = output if measured is None else None, (state.stopped, state.stopped_for_good)
        self.unread.append(
            _Update(
                updates.where,
                weight,
                measured,
                logs,
                updates.count,
                self._steps,
                random.get_state(),
                schedule,
                stopped,
            )
        )
        updates.count += 1
        if len(self.unread) == ROOM or updates.scale is not None:  # the next scale depends on it
            self.settle(state)

    @staticmethod
    def _watch_for(todo: list[PlannedUpdate]) -> Watch | None:
        flats = [u.flat for u in todo]
        return flats[0].xp.watch([flat.grads for flat in flats], [flat.offsets[1:] for flat in flats], ROOM)

    def settle(self, state: TrainingState) -> None:
        """Read the losses; the error of the first batch that was wrong, with everything as it was before that batch."""
        if not self.unread or self._watch is None:
            return
        unread, self.unread = self.unread, []
        seen = self._watch.read()
        good = seen.wrong - 1 if seen.wrong else len(unread)
        for update, loss in zip(unread[:good], seen.losses[:good], strict=True):
            state.sums.add_loss(loss, update.weight)
            self._add(update, state)
            self.loss = loss
            if self.updates.scale is not None:
                self.updates.scale.update(True)
        if seen.wrong:
            wrong, loss = unread[good], seen.losses[good]
            self._uncount(wrong)
            if self._overflows(loss, seen):
                state.sums.add_loss(loss, wrong.weight)
                self._add(wrong, state)
                self.loss = loss
                return
            self._take_back(wrong, state)
            self._raise(wrong.where, loss, seen)

    @staticmethod
    def _add(update: _Update, state: TrainingState) -> None:
        if update.measured is None:
            state.logs.add(update.logs, update.weight)
        else:
            state.sums.add(update.measured)

    def _overflows(self, loss: float, seen: Seen) -> bool:
        """Whether an update that the device has left out is one that a smaller scale may mend."""
        scale = self.updates.scale
        if (
            scale is None
            or seen.error is not None
            or not math.isfinite(loss)
            or not any(n for n, _ in seen.counts)
        ):
            return False
        scale.update(False)
        return not scale.exhausted

    def _uncount(self, wrong: _Update) -> None:
        """The steps that the device has not made."""
        self.updates.count = wrong.done
        for flat, steps, numbers in wrong.steps:
            flat.steps[:] = [steps] * len(flat.steps)
            for name, number in numbers.items():
                flat.numbers[name][:] = [number] * len(flat.steps)

    def _take_back(self, wrong: _Update, state: TrainingState) -> None:
        """What the host has counted since, which the device has not done."""
        updates = self.updates
        state.batch = wrong.where[1] - 1
        state.stopped, state.stopped_for_good = wrong.stopped
        random.set_state(wrong.random)
        if wrong.schedule is not None:
            updates.schedule.load_state_dict(wrong.schedule)
        updates.take_back()

    def _raise(self, where: tuple[int, int], loss: float, seen: Seen) -> None:
        """The error of a batch."""
        self.updates.where = where
        if seen.error is not None:
            seen.error.add_note(f"in epoch {where[0]}, batch {where[1]}; nothing was updated")
            raise seen.error
        self.updates.check_loss(loss)
        numbers: dict[int, tuple[int, int]] = {}
        params = [p for flat in self._watched for p in flat.params]
        for p, found in zip(params, seen.counts, strict=True):
            numbers[id(p)] = found
        for p in self.updates.params:
            count, nan = numbers[id(p)]
            if count:
                self.updates.refuse_gradient(p, "NaN" if nan else "infinite", count)
        msg = f"an index is out of range in epoch {where[0]}, batch {where[1]}; nothing was updated"  # its error was raised and caught
        raise IndexError(msg)


# ----- within a step that is captured as a CUDA graph -----


@host_callback
def update_unread(unread: UnreadUpdates, loss: Tensor, scale: Tensor | None) -> None:
    """`UnreadUpdates.update`."""
    unread.update(loss, scale)


def _capture(recording: Any, _: Callable[..., Any], args: Any, kwargs: Any) -> None:
    """What is looked at, and the update, in the graph; how manieth batch it is that is not read stands in a cell."""
    unread, loss, scale = args
    watch, capture = unread._watch, recording.capture
    if watch is None or not watch.takes(unwrap(loss)):
        msg = "there is nothing to watch the losses with"
        raise CaptureError(msg)
    cell = capture.take(1)
    unread.look(watch, unread._watched, loss, scale, capture.cells(cell, 1))
    capture_programs(recording, unread.updates.optimizer, watch.stop)

    def act() -> None:
        watch.steps += 1
        capture.put(cell, [watch.steps], watch.number)
        unread.done = True

    recording.checks.append(lambda: unread._watch is watch)
    recording.actions.append(act)


IN_A_GRAPH[inspect.unwrap(update_unread)] = GraphRule(lambda *_: None, _capture)
