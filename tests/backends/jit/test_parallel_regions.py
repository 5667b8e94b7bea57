"""Calls that threads share give what they give one after the other."""

from __future__ import annotations

import ctypes

import numpy as np
import pytest
from sample_arrays import same

from anynet_backends import onednn
from anynet_backends.jit import (
    availability,
    native_function,
    numpy_calls,
    ordered_sums,
    parallel,
    segment,
    translation,
)

pytestmark = pytest.mark.skipif(
    not availability.available() or onednn.find() is None, reason="needs the extras onednn and numba"
)


@pytest.fixture(autouse=True)
def _three_threads(monkeypatch):
    dnnl = onednn.library.load_library()
    before = dnnl.max_threads()
    for limit in ("LEAST_ALONE", "_LEAST_REGION", "_SMALL_CALL"):
        monkeypatch.setattr(parallel, limit, 0)
    dnnl.dll.omp_set_num_threads(3)
    yield
    dnnl.dll.omp_set_num_threads(before)


def call(f, *args):
    """A call with what it reads and writes, its last argument."""
    return numpy_calls.NumpyCall(f, args, tuple(a for a in args if isinstance(a, np.ndarray)), (args[-1],))


def rows_of(calls, kept):
    """The calls as rows of machine code, each in a loop of its own."""
    rows = []
    for one in calls:
        for f, _ in translation.translate([one], kept):
            rows += f.rows
    return rows


def regions(rows):
    """How many calls there are, once threads share those that they can."""
    made = parallel.parallel_regions(rows)
    segment.NativeSegment(made).run()
    return len(made)


def buffers():
    rng = np.random.default_rng(0)
    return [rng.normal(size=(48, 12)).astype(np.float32) for _ in range(4)]


def test_neighbours_become_one_region():
    x, y, z, w = buffers()
    start = [a.copy() for a in (x, y, z, w)]
    row = np.arange(1, 13, dtype=np.float32)
    calls = [
        call(np.multiply, x, row, y),
        call(np.add, y[:, :-1], y[:, 1:], z[:, 1:]),
        call(np.add, z, w, w),
    ]
    rows = rows_of(calls, [x, y, z, w])
    assert regions(rows) == 1
    found = [a.copy() for a in (x, y, z, w)]
    for a, b in zip((x, y, z, w), start, strict=True):
        a[...] = b
    for one in calls:
        one.f(*one.args)
    assert all(same(a, b) for a, b in zip(found, (x, y, z, w), strict=True))


@pytest.mark.parametrize(
    "second",
    [
        pytest.param(lambda x, y, z: (np.add, y[1:33], y[:32], z[:32]), id="the row below"),
        pytest.param(lambda x, y, z: (np.multiply, x, y[0], z), id="a row of what is written, in each"),
        pytest.param(lambda x, y, z: (np.add, y.reshape(-1)[:528].reshape(48, 11), x[:, 1:], z[:, 1:]), id="another form"),
        pytest.param(lambda x, y, z: (np.add, y[::-1], x, z), id="from behind"),
    ],
)  # fmt: skip
def test_what_depends_on_other_parts_comes_after(second):
    x, y, z, _ = buffers()
    first = call(np.multiply, x, 2.0, y)
    f, *args = second(x, y, z)
    calls = [first, call(f, *args)]
    start = [a.copy() for a in (x, y, z)]
    assert regions(rows_of(calls, [x, y, z])) == 2
    found = [a.copy() for a in (x, y, z)]
    for a, b in zip((x, y, z), start, strict=True):
        a[...] = b
    for one in calls:
        one.f(*one.args)
    assert all(same(a, b) for a, b in zip(found, (x, y, z), strict=True))


def test_an_exception_of_any_thread_is_one_of_the_caller():
    x, y, z, _ = buffers()
    made = parallel.parallel_regions(
        rows_of([call(np.multiply, x, 4.0, y), call(np.add, y[:, :-1], y[:, 1:], z[:, 1:])], [y, z])
    )
    assert len(made) == 1
    run, mask = segment.NativeSegment(made).run, native_function.floating_point_exceptions()
    fenv = ctypes.pythonapi
    for i in (None, *range(len(x))):
        x[...] = 1.0
        if i is not None:
            x[i, 5] = np.finfo(np.float32).max
        fenv.feclearexcept(mask)
        run()
        raised = fenv.fetestexcept(mask)
        fenv.feclearexcept(mask)
        assert bool(raised) == (i is not None)
        assert np.isinf(y).any(axis=1).nonzero()[0].tolist() == ([] if i is None else [i])


def test_sums_of_rows_are_shared():
    x = np.random.default_rng(0).normal(size=(96, 10)).astype(np.float32)
    y, total = np.empty_like(x), np.empty((96, 1, 1), np.float32)
    rows = rows_of([call(np.multiply, x, 3.0, y)], [x, y])
    loop, _ = ordered_sums.loops(ordered_sums.Stage(96, 10, 1, ordered_sums.CHUNK), y.dtype)
    view = y.reshape(96, 10, 1)
    rows.append(loop.row(view, view, total))
    assert regions(rows) == 1
    alone = (x * np.float32(3)).reshape(96, 10, 1)
    assert same(total, loop(alone, alone))


def test_random_programs():
    """Parts of a few arrays, shifted along rows and columns, in the forms of others, added into parts of the same."""
    rng = np.random.default_rng(1)
    joined = 0
    for _ in range(60):
        arrays = [rng.normal(size=48 * 12).astype(np.float32) for _ in range(3)]

        def view(shape, arrays=arrays):
            whole = arrays[rng.integers(len(arrays))]
            width = int(rng.choice([shape[1], 12]))
            rows = len(whole) // width
            left, top = rng.integers(0, width - shape[1] + 1), rng.integers(0, min(2, rows - shape[0] + 1))
            table = whole[: rows * width].reshape(rows, width)
            return table[top : top + shape[0], left : left + shape[1]]

        calls = []
        while len(calls) < 6:
            shape = (int(rng.choice([32, 47, 48])), int(rng.choice([7, 11, 12])))
            a, b, out = (view(shape) for _ in range(3))
            shares = [
                np.shares_memory(x, out) and (x.strides, x.ctypes.data) != (out.strides, out.ctypes.data)
                for x in (a, b)
            ]
            if not any(shares):
                calls.append(call(np.add, a, b, out))
        start = [a.copy() for a in arrays]
        joined += 6 - regions(rows_of(calls, arrays))
        found = [a.copy() for a in arrays]
        for a, s in zip(arrays, start, strict=True):
            a[...] = s
        for one in calls:
            one.f(*one.args)
        assert all(same(a, b) for a, b in zip(found, arrays, strict=True))
    assert joined > 20
