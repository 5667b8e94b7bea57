"""Updates whose losses the host has not read yet: on a device on which reading a value would mean to wait for all that is queued.

What is wrong with a batch (a loss or a gradient that is not finite, an index out of range) is found on the device, and stops all updates
from there on (`Backend.watch`). The host reads it with the losses of up to `ROOM` batches, and takes back what it has counted since. With a
scaled loss the device leaves out an update whose gradients have overflowed, and takes a smaller scale, a larger one after many without; the
host prepares numbers (rates, corrections of means) as if all updates were made, the device takes the next where it makes one
(`backend.Ahead`), and the host finds out how many when it reads.
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
from anynet.optim.planned_update import (
    Counts,
    PlannedUpdate,
    capture_programs,
    counted,
    planned,
    step_unless,
    uncount,
)
from anynet.tensor import Tensor, unwrap, wrap
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
    steps: Counts
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
        self._steps: Counts = []
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

    def scale(self) -> Tensor | None:
        """The scale of the loss, where it is on the device."""
        scale = self.updates.scale
        if scale is None or self._watch is None or self._watch.ahead is None:
            return None
        if not self.unread:  # the host may have changed it
            self._watch.ahead.put(scale.value, scale.good)
        return wrap(self._watch.ahead.factor)

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
        self._steps = counted(u.flat for u in todo)
        return self._watch is not None

    def update(self, loss: Tensor, scale: Tensor | None = None) -> None:
        """The update after `begin`, with nothing done where it cannot be. `scale`: what the loss was multiplied with."""
        todo = planned(self.updates.optimizer)
        if not todo or self._watch is None or not self._watch.takes(unwrap(loss)):
            return
        self.look(self._watch, [u.flat for u in todo], loss, scale)
        step_unless(self._watch, todo)
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
        updates.count_one()
        if len(self.unread) == ROOM:
            self.settle(state)

    def _watch_for(self, todo: list[PlannedUpdate]) -> Watch | None:
        flats, scale = [u.flat for u in todo], self.updates.scale
        vectors, ends = [flat.grads for flat in flats], [flat.offsets[1:] for flat in flats]
        made = flats[0].xp.watch(vectors, ends, ROOM, None if scale is None else scale.rule)
        if made is not None and made.ahead is not None and scale is not None:
            made.ahead.put(scale.value, scale.good)
        return made

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
        if self.updates.scale is not None and seen.scale is not None:
            self.updates.scale.value, self.updates.scale.good = seen.scale
        if seen.made < len(unread):
            self._uncount(unread[seen.made])
        if seen.wrong:
            wrong, loss = unread[good], seen.losses[good]
            self._take_back(wrong, state)
            self._raise(wrong.where, loss, seen)

    @staticmethod
    def _add(update: _Update, state: TrainingState) -> None:
        if update.measured is None:
            state.logs.add(update.logs, update.weight)
        else:
            state.sums.add(update.measured)

    def _uncount(self, first: _Update) -> None:
        """The steps that the device has not made, from the numbers of this one on, and those of the schedule after them."""
        self.updates.count, self.updates.updated = first.done, False
        uncount(first.steps)
        if first.schedule is not None:
            self.updates.schedule.load_state_dict(first.schedule)

    def _take_back(self, wrong: _Update, state: TrainingState) -> None:
        """What the host has counted since, which the device has not done."""
        updates = self.updates
        state.batch = wrong.where[1] - 1
        state.stopped, state.stopped_for_good = wrong.stopped
        random.set_state(wrong.random)
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

    def act() -> None:
        watch.steps += 1
        capture.put(cell, [watch.steps], watch.number)
        unread.done = True

    recording.checks.append(lambda: unread._watch is watch)
    recording.actions.append(act)
    capture_programs(recording, unread.updates.optimizer, watch)


IN_A_GRAPH[inspect.unwrap(update_unread)] = GraphRule(lambda *_: None, _capture)
