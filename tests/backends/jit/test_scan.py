"""Scans: bodies of calls that are repeated as one native call."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from sample_arrays import numbers, same

from anynet_backends.jit import availability, scan

pytestmark = pytest.mark.skipif(not availability.available(), reason="needs the extra numba")


def test_repetitions_that_are_apart_have_their_own_scratch_memory(threads):
    def body(call, a, b, factor, room):
        call(np.multiply, a, factor, room)
        call(np.tanh, room, room)
        call(np.add, room, a, b)

    for times in (1, 2, 3, 7, 9, 10, 50):
        x, y = numbers("d", (times, 33)), np.empty((times, 33))
        with np.errstate(all="ignore"):
            scan.scan(
                body, lambda t, x=x, y=y: (x[t], y[t]), range(times), (np.asarray(0.5),), (np.empty(33),), apart=True
            )  # fmt: skip
            assert same(y, np.tanh(x * 0.5) + x)


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
