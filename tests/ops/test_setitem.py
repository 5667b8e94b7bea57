"""``x[key] = value``: in place where x alone refers to its array; everything else keeps the old values."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.autograd.graph import GradientError
from anynet_backends import backend_of


def place(x):
    return x.data.__array_interface__["data"][0]


def fresh(n=6):
    return an.arange(n, dtype="float64") * 1.0


@pytest.mark.parametrize("key", [2, slice(1, 4), ..., (slice(None, None, 2),), slice(4, 1, -1)])
def test_in_place_where_x_alone_refers_to_its_array(key):
    x, want = fresh(), np.arange(6.0)
    before = place(x)
    for value in (7.0, an.asarray(3.0, dtype="float64")):
        x[key] = value
        want[key] = float(value)
        assert place(x) == before
        assert x.tolist() == want.tolist()


def test_a_view_that_is_gone_does_not_count():
    x = fresh()
    before = place(x)
    for i in range(5):
        x[i + 1] = x[i] + 1.0
    assert place(x) == before
    assert x.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


@pytest.mark.parametrize(
    "look",
    [
        lambda x: x[1:4], lambda x: x.numpy(), lambda x: x.detach(), lambda x: x.data, lambda x: an.reshape(x, (2, 3)),
        lambda x: np.asarray(x), lambda x: memoryview(x.numpy()), lambda x: an.flip(x), lambda x: an.broadcast_to(x, (2, 6)),
    ],
)  # fmt: skip
def test_other_references_keep_the_old_values(look):
    x = fresh()
    other = look(x)
    before = np.array(other)
    x[...] = -1.0
    x[2] = 5.0
    assert np.array_equal(np.array(other), before)
    assert x.tolist() == [-1.0, -1.0, 5.0, -1.0, -1.0, -1.0]


def test_the_array_of_the_caller_is_not_written():
    given = np.arange(6.0)
    x = an.asarray(given, copy=False)
    x[0] = 9.0
    assert given[0] == 0.0
    part = an.asarray(given[2:], copy=False)
    part[0] = 9.0
    assert given[2] == 2.0


def test_what_was_saved_for_backward_is_a_snapshot():
    w = an.asarray([1.0, 2.0, 3.0], dtype="float64", requires_grad=True)
    y = an.exp(w)  # its rule keeps y
    y[1] = 0.0
    an.sum(y * y).backward()
    np.testing.assert_allclose(w.grad.numpy(), [2 * np.exp(2), 0.0, 2 * np.exp(6)])


def test_gradients_through_a_loop_of_writes():
    w = an.asarray([1.0, 2.0, 3.0, 4.0], dtype="float64", requires_grad=True)
    out = an.zeros((4,), dtype="float64")
    for i in range(4):
        out[i] = w[i] * w[3 - i]
    an.sum(out * an.asarray([1.0, 10.0, 100.0, 1000.0], dtype="float64")).backward()
    assert w.grad.tolist() == [4004.0, 330.0, 220.0, 1001.0]


def test_a_traced_array_is_written_in_place_too():
    w = an.asarray([1.0, 2.0, 3.0], dtype="float64", requires_grad=True)
    y = w * 2.0  # whose rule keeps no y
    before = place(y)
    y[0] = w[2] * w[2]
    assert place(y) == before
    an.sum(y).backward()
    assert w.grad.tolist() == [0.0, 2.0, 8.0]


def test_a_variable_outside_recording():
    w = an.asarray([1.0, 2.0, 3.0], dtype="float64", requires_grad=True)
    view = w.data[1:]
    y = an.sum(w * w)
    before = place(w)
    with an.no_grad():
        w[1] = 7.0
    assert place(w) == before
    assert view.tolist() == [7.0, 3.0]
    assert w.requires_grad
    with pytest.raises(GradientError, match="overwritten"):
        y.backward()
    with pytest.raises(RuntimeError, match="in-place"):
        w[1] = 8.0


@pytest.mark.parametrize(
    ("key", "value", "error"),
    [
        (9, 1.0, IndexError), (slice(0, 3), [1.0, 2.0], ValueError), (slice(0, 3), np.ones((2, 3)), ValueError), ((1, 2), 1.0, IndexError),
    ],
)  # fmt: skip
def test_a_refused_write_changes_nothing(key, value, error):
    x = fresh()
    with pytest.raises(error):
        x[key] = value
    assert x.tolist() == [0.0, 1.0, 2.0, 3.0, 4.0, 5.0]


def test_overlapping_parts():
    x = fresh()
    x[1:] = x[:-1]
    assert x.tolist() == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0]
    w = an.asarray(np.arange(6.0), requires_grad=True)
    with an.no_grad():
        w[1:] = w[:-1]
    assert w.tolist() == [0.0, 0.0, 1.0, 2.0, 3.0, 4.0]


def test_dtypes_are_those_of_the_array():
    x = an.zeros((3,), dtype="float32")
    x[0] = an.asarray(1.5, dtype="float64")
    x[1] = 2
    assert x.dtype == an.float32
    n = an.zeros((3,), dtype="int64")
    n[1] = an.asarray(2.0)
    assert n.dtype == an.int64
    assert n.tolist() == [0, 2, 0]


def test_lists_of_indices():
    x = fresh()
    x[an.asarray([4, 0])] = an.asarray([9.0, 8.0], dtype="float64")
    assert x.tolist() == [8.0, 1.0, 2.0, 3.0, 9.0, 5.0]
    x[an.asarray([4, 0, 4])] = an.asarray([1.0, 2.0, 3.0])  # of one that is given twice, the last value
    assert x.tolist() == [2.0, 1.0, 2.0, 3.0, 3.0, 5.0]
    with pytest.raises(IndexError, match="twice"):
        x[an.asarray([4, 0, 4])] = an.Parameter(an.ones(3))


def test_a_result_keeps_its_place_in_the_graph_outside_of_recording():
    for key in (0, an.asarray([0, 2])):
        w = an.Parameter(an.ones(3))
        y = w * 2
        with an.no_grad():
            y[key] = 5.0
            y += 1
        an.sum(y * y).backward()
        assert w.grad.tolist() == (4 * y).tolist()


@pytest.mark.parametrize("shape", [(), (3,), (64, 128), (33, 1001), (70_001,)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "bool", "complex128"])
@pytest.mark.parametrize("value", [0.5, 7, True])
def test_a_whole_array_of_one_number(shape, dtype, value):
    want = np.zeros(shape, dtype)
    want[...] = value
    for key in (..., slice(None))[: 1 + bool(shape)]:
        x = an.zeros(shape, dtype=dtype)
        x[key] = value
        assert np.array_equal(x.numpy(), want)


def test_a_whole_array_in_another_order_and_of_numbers_that_do_not_fit():
    x = an.zeros((300, 200), dtype="int32")
    backend_of(x.data).fill(x.data.T, 3)
    assert x.tolist() == [[3] * 200] * 300
    backend_of(x.data).fill(x.data[::2, 1:], 4)
    assert int(an.sum(x)) == 3 * 300 * 200 + 150 * 199
    for value in (float("nan"), float("inf"), 2**70):
        with pytest.raises((ValueError, OverflowError)):
            x[...] = value
    assert int(an.sum(x)) == 3 * 300 * 200 + 150 * 199
