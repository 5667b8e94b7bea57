"""The thread that sees whether a call on the device waits for ever, without devices: what it waits for are events of threads."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest

from anynet.distributed import heartbeat
from anynet.distributed.heartbeat import Heartbeat

FOR_EVER = 30.0


class Queued:
    """A call on the device."""

    def __init__(self, done=False, fails=False):
        self.done, self.fails, self.asked = done, fails, threading.Event()

    def Test(self):  # noqa: N802
        self.asked.set()
        if self.fails:
            raise RuntimeError("an illegal memory access")
        return self.done


class Processes:
    """A group of which one process is here, and MPI lets one thread call it."""

    rank, size, timeout, grace = 0, 2, 0.05, 0.05
    mpi = SimpleNamespace(Query_thread=lambda: 1, THREAD_MULTIPLE=3)

    def __init__(self):
        self.broken, self.ended = None, threading.Event()

    def _break(self, why):
        self.broken = why

    def abort(self, why):
        self.ended.set()


@pytest.fixture
def beating():
    """A heartbeat, and the event of the calls that were given up."""
    group, given_up = Processes(), threading.Event()
    beat = Heartbeat(group, given_up.set)
    yield group, given_up, beat
    beat.stop()


def test_a_call_on_the_device_that_is_not_done_is_given_up(beating, capfd):
    group, given_up, beat = beating
    beat.during("first", lambda: Queued(done=True))
    beat.during("second", Queued)
    assert given_up.wait(FOR_EVER)
    assert group.broken == beat.problem
    assert (
        "process 0 of 2 has waited 0.05 s for its device in call 2 (second): another process has not made it"
        in beat.problem
    )
    assert beat.problem in capfd.readouterr().err
    assert not group.ended.is_set()


def test_calls_that_are_done_or_have_failed_are_not(beating):
    group, given_up, beat = beating
    calls = [Queued(done=True), Queued(fails=True), Queued(done=True)]
    for call in calls:
        beat.during("a sum", lambda call=call: call)
    assert all(call.asked.wait(FOR_EVER) for call in calls)
    beat.stop()
    assert not given_up.is_set()
    assert group.broken is None


def test_processes_are_ended_that_do_not_come_back(beating, monkeypatch):
    group, given_up, beat = beating
    monkeypatch.setattr(heartbeat, "BACK", 0.05)
    beat.during("NCCLGroup", lambda: group.ended.wait(FOR_EVER) and None)
    assert given_up.is_set()
    assert "in call 1 (NCCLGroup)" in group.broken


def test_an_error_of_a_call_is_its_own(beating):
    _group, given_up, beat = beating

    def refused():
        raise ValueError("no such type")

    with pytest.raises(ValueError, match="no such type"):
        beat.during("a sum", refused)
    assert beat.begun == 1
    beat.stop()
    assert not given_up.is_set()
