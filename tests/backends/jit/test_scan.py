"""Scans: bodies of calls that are repeated as one native call."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from sample_arrays import numbers, same

from anynet_backends.jit import availability, scan

pytestmark = pytest.mark.skipif(not availability.available(), reason="needs the extra numba")


def test_stacks_in_any_order_of_memory_and_room_that_each_thread_has_for_itself(threads):
    def body(call, a, shared, room, b, factor, scratch):
        call(np.multiply, a, factor, scratch)
        call(np.tanh, scratch, room)
        call(np.add, room, shared, b)

    for lead in ((), (1,), (2,), (7,), (3, 4), (2, 3, 5)):
        x = numbers("d", (*lead, 5, 33)).swapaxes(-2, 0).copy().swapaxes(-2, 0)
        shared = np.broadcast_to(numbers("d", (5, 33)), x.shape)
        one, y = np.empty((5, 33)), np.empty((33, *x.shape[:-1])).transpose(*range(1, x.ndim), 0)
        room = np.lib.stride_tricks.as_strided(one, x.shape, (*(0,) * len(lead), *one.strides))
        with np.errstate(all="ignore"):
            scan.scan_stacks(body, (x, shared, room, y), (np.asarray(0.5),), (np.empty((5, 33)),))
            assert same(y, np.tanh(x * 0.5) + shared)


def test_what_is_kept_of_a_repetition_holds_none_of_its_arrays():
    def body(call, a, b):
        call(np.multiply, a, 3.0, b)
        call(np.tanh, b, b)

    def run():
        x, y = np.ones((5, 1000)), np.empty((5, 1000))
        scan.scan(body, lambda t: (x[t], y[t]), range(5), ())
        return weakref.ref(x), y

    alive, y = run()
    assert (y == np.tanh(3.0)).all()
    assert alive() is None
