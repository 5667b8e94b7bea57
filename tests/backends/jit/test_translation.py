"""Segments of machine code compute the same bits as the NumPy calls that they stand for."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sample_arrays import numbers, same

from anynet_backends import get_backend, onednn
from anynet_backends.jit import availability, geometry, numpy_calls, parallel, rows, segment, translation
from anynet_backends.jit.loop_ir import RULES
from anynet_backends.memory.reductions import sum_by_dot
from anynet_backends.numpy_namespace import largest, smallest

pytestmark = pytest.mark.skipif(not availability.available(), reason="needs the extra numba")


def call(f, *args):
    """A call with what it reads and writes, its last argument."""
    return numpy_calls.NumpyCall(f, args, tuple(a for a in args if isinstance(a, np.ndarray)), (args[-1],))


def run(calls, kept):
    """Make the calls as segments; how many remained calls."""
    code = translation.translate(calls, kept)
    with np.errstate(all="ignore"):
        for f, args in code:
            f(*args)
    return sum(not isinstance(f, segment.NativeSegment) for f, _ in code)


def ufuncs(letter: str) -> list[np.ufunc]:
    """NumPy's functions by the names that chains know."""
    names = set(RULES[letter]) - {"where"} | ({"maximum", "minimum"} if letter in "fd" else set())
    return [getattr(np, n) for n in sorted(names)]


CASES = [(letter, f) for letter in "fdq?" for f in ufuncs(letter)]


@pytest.mark.parametrize(("letter", "f"), CASES, ids=[f"{f.__name__}-{letter}" for letter, f in CASES])
@pytest.mark.parametrize("layout", ["plain", "row", "column", "number", "strided", "turned"])
def test_each_function_of_fused_loops(letter, f, layout, threads):
    a = numbers(letter, (7, 19), 1)
    b = numbers(letter, (7, 19), 2)
    b = {"plain": b, "row": b[0], "column": b[:, :1], "number": b[3, 4].reshape(())}.get(layout, b)
    if layout == "strided":
        a, b = numbers(letter, (7, 38), 1)[:, ::2], numbers(letter, (14, 19), 2)[::-2]
    if layout == "turned":
        a, b = numbers(letter, (19, 7), 1).T, numbers(letter, (19, 7), 2).T
    inputs = (a, b)[: f.nin]
    with np.errstate(all="ignore"):
        expected = f(*inputs)
    out = np.empty_like(expected)
    twice = np.empty(out.shape, out.dtype)  # a second call, so that it is a chain and no loop of NumPy's
    copied = numpy_calls.NumpyCall(np.copyto, (twice, out, "unsafe"), (out,), (twice,))
    left = run([call(f, *inputs, out), copied], [out, twice])
    assert left == 0
    # which of two equal zeros `maximum` gives is not the same in all of NumPy's loops
    zeros = f in (np.maximum, np.minimum)
    assert same(abs(out) if zeros else out, abs(expected) if zeros else expected)
    assert same(abs(twice) if zeros else twice, abs(expected) if zeros else expected)


@pytest.mark.parametrize(
    "f", [np.exp, np.log, np.tanh, np.sin, np.expm1, np.float_power, np.arctan2, np.bitwise_count]
)
@pytest.mark.parametrize("letter", ["f", "d", "q"])
def test_loops_of_numpy(f, letter, threads):
    x = [numbers(letter, (6, 50), i) for i in range(f.nin)]
    if not any(t.startswith(letter * f.nin) for t in f.types):
        pytest.skip(f"{f.__name__} has no loop for {letter}")
    wide = np.empty((6, 100), f.resolve_dtypes((*(a.dtype for a in x), None))[-1])
    for out in (wide[:, :50], wide[:, ::2], wide.reshape(12, 50)[:6]):
        with np.errstate(all="ignore"):
            expected = f(*x)
        assert run([call(f, *x, out)], [out]) == 0
        assert same(out, expected)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shapes", [((5, 7), (7, 3)), ((1, 7), (7, 3)), ((5, 7), (7, 1)), ((40, 60), (60, 50)),
                                    ((3, 5, 7), (3, 7, 2)), ((2, 3, 5, 7), (2, 3, 7, 2)), ((4, 5, 7), (7, 2))])  # fmt: skip
@pytest.mark.parametrize("turned", [False, True])
def test_products(dtype, shapes, turned):
    rng = np.random.default_rng(0)
    a, b = (rng.normal(size=s).astype(dtype) for s in shapes)
    if turned:
        a, b = (np.ascontiguousarray(x.swapaxes(-1, -2)).swapaxes(-1, -2) for x in (a, b))
    expected = np.matmul(a, b)
    out = np.empty_like(expected)
    calls = [call(np.matmul, a, b, out)]
    assert run(calls, [out]) == 0
    assert (out == expected).all()
    segment = translation.translate(calls, [out])[0][0]
    for factor in (2, -0.25, -2):  # what has run once may run again
        a *= factor
        segment.run()
        assert (out == np.matmul(a, b)).all()
    if a.ndim == 2:
        again = np.empty_like(expected)
        assert run([call(np.dot, a, b, again)], [again]) == 0
        assert (again == expected).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1,), (9,), (5000,), (3, 1), (1, 8), (40, 30), (7, 5, 6)])
def test_sums_and_extrema(dtype, shape):
    x = np.random.default_rng(0).normal(size=shape).astype(dtype)
    axes = [None, -1, *([0, tuple(range(len(shape) - 1))] if len(shape) > 1 else [])]
    for axis in axes:
        for keep in (False, True):
            expected = sum_by_dot(x, axis, None, None, keep)
            out = np.empty_like(expected) if isinstance(expected, np.ndarray) else np.empty((), dtype)
            assert (
                run([numpy_calls.NumpyCall(sum_by_dot, (x, axis, None, out, keep), (x,), (out,))], [out]) == 0
            )
            assert (out == expected).all()
    if len(shape) > 1:
        for f in (np.maximum, np.minimum):
            y = x.copy()
            y[0, ..., 0] = np.nan
            expected = f.reduce(y, -1, None, None, True)
            out = np.empty_like(expected)
            assert run([numpy_calls.NumpyCall(f.reduce, (y, -1, None, out, True), (y,), (out,))], [out]) == 0
            assert same(out, expected)


def test_sum_of_negative_zeros():
    x, out = np.full(5, -0.0), np.empty(())
    assert run([numpy_calls.NumpyCall(sum_by_dot, (x, None, None, out, False), (x,), (out,))], [out]) == 0
    assert np.signbit(out) == np.signbit(np.add.reduce(x))


def test_indices():
    x = np.arange(12.0).reshape(4, 3)
    i, j = np.array([3, 0, 1, 1]), np.array([2, 1, 0, 0])
    out = np.empty(4)
    assert run([numpy_calls.NumpyCall(numpy_calls.gather, (x, i, j, out), (x, i, j), (out,))], [out]) == 0
    assert (out == x[i, j]).all()
    y = x.copy()
    values = np.array([1.0, 2.0, 3.0, 4.0])
    assert (
        run([numpy_calls.NumpyCall(numpy_calls.scatter, (y, i, j, values), (y, i, j, values), (y,))], [y])
        == 0
    )
    expected = x.copy()
    expected[i, j] = values  # the last of two at one place stays
    assert (y == expected).all()
    negative = np.array([-1, 0, 1, 1])
    run([numpy_calls.NumpyCall(numpy_calls.gather, (x, negative, j, out), (x, negative, j), (out,))], [out])
    assert (out == x[negative, j]).all()
    with pytest.raises(IndexError, match="out of bounds"):
        run([numpy_calls.NumpyCall(numpy_calls.gather, (x, i + 1, j, out), (x, i, j), (out,))], [out])


def as_program(f, *arrays):
    """How many of a call's functions are left to NumPy, and what it writes into its last argument."""
    call = numpy_calls.NumpyCall(f, arrays, arrays[:-1], arrays[-1:])
    return run([call], [arrays[-1]]), arrays[-1]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [(), (1,), (3, 5)])
def test_rows_that_are_taken_and_summed(dtype, width):
    rng = np.random.default_rng(0)
    x, values = rng.normal(size=(7, *width)).astype(dtype), rng.normal(size=(200, *width)).astype(dtype)
    source, index = rng.integers(0, 7, 200), rng.integers(0, 6, 200)
    summed = np.zeros((6, *width), dtype)
    np.add.at(summed, index, values)
    edges = np.zeros((6, *width), dtype)
    np.add.at(edges, index, x[source])
    for f, arrays, expected in (
        (rows.take_rows, (x, source), x[source]),
        (rows.sum_rows, (values, index), summed),
        (rows.sum_taken_rows, (x, source, index), edges),
    ):
        left, found = as_program(f, *arrays, np.full_like(expected, 9.0))
        assert left == 0
        assert found.tobytes() == expected.tobytes()
        for at in range(1, len(arrays)):  # counted from the end, and out of range
            length = 7 if arrays[at] is source else 6
            given = list(arrays)
            given[at] = arrays[at] - length
            assert as_program(f, *given, np.full_like(expected, 9.0))[1].tobytes() == expected.tobytes()
            given[at] = arrays[at] + length
            with pytest.raises(IndexError):
                as_program(f, *given, np.empty_like(expected))


def test_rows_of_any_kind_are_taken_by_machine_code():
    for kind in (np.bool_, np.int16, np.complex128):
        x, index = np.arange(12).reshape(4, 3).astype(kind), np.array([3, 0, 0, 1])
        left, found = as_program(rows.take_rows, x, index, np.empty((4, 3), kind))
        assert left == 0
        assert (found == x[index]).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("width", [(), (1,), (3, 5)])
def test_rows_are_added_in_order(monkeypatch, dtype, width):
    rng = np.random.default_rng(0)
    x, values = rng.normal(size=(6, *width)).astype(dtype), rng.normal(size=(200, *width)).astype(dtype)
    index = rng.integers(0, 6, 200)
    xp = get_backend("numpy")
    switched(monkeypatch, True)
    found = xp.index_add(x, index, values)
    switched(monkeypatch, False)
    assert found.tobytes() == xp.index_add(x, index, values).tobytes()
    switched(monkeypatch, True)
    assert (xp.index_add(x, index - 6, values) == found).all()  # counted from the end
    with pytest.raises(IndexError):
        xp.index_add(x, index + 6, values)


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8])
def test_rows_that_lie_in_wider_arrays_are_added_by_machine_code(kind):
    wide = np.random.default_rng(0).normal(size=(40, 3, 7)).astype(np.float32)
    values, index = wide[:, 1, :], np.repeat(np.arange(20, dtype=kind), 4)[::2]
    y = np.ones((20, 7), np.float32)
    expected = y.copy()
    np.add.at(expected, index, values)
    assert not values.flags.c_contiguous
    assert rows._added(y, index, values)
    assert np.array_equal(y, expected)
    assert not rows._added(y[:19], index, values)  # an index is outside: left to NumPy, which says so
    assert np.array_equal(y, expected)


def test_choices():
    a, b = numbers("f", (5, 9), 1), numbers("f", (5, 9), 2)
    mask = b > 0
    out = np.empty_like(a)
    assert (
        run([numpy_calls.NumpyCall(numpy_calls.choose, (mask, a, 0.5, out), (mask, a), (out,))], [out]) == 0
    )
    assert same(out, np.where(mask, a, np.float32(0.5)))
    expected = np.where(mask, np.float32(-1), a)
    assert run([numpy_calls.NumpyCall(numpy_calls.set_where, (a, mask, -1.0), (a, mask), (a,))], [a]) == 0
    assert same(a, expected)


@pytest.mark.parametrize("f", [np.maximum, np.minimum], ids=lambda f: f.__name__)
@pytest.mark.parametrize(
    ("form", "left"),
    [("columns", 0), ("rows", 0), ("one row", 0), ("turned", 1), ("upside down", 1), ("every other", 1)],
)
def test_extrema_of_the_rows_of_a_view(f, form, left):
    x = numbers("f", (6, 5, 24))
    view = {
        "columns": x[..., 3:11], "rows": x[2:4], "one row": x[1:2, 2:3, 3:], "turned": x.swapaxes(0, 1)[..., :8],
        "upside down": x[::-1, :, :8], "every other": x[..., ::2],
    }[form]  # fmt: skip
    for keepdims in (False, True):
        expected = f.reduce(view, -1, None, None, keepdims)
        out = np.empty_like(expected)
        args = (view, -1, None, out, keepdims)
        assert run([numpy_calls.NumpyCall(f.reduce, args, (view,), (out,))], [out]) == left
        assert same(out, expected)


@pytest.mark.parametrize("letter", ["f", "d"])
@pytest.mark.parametrize(
    ("shape", "axis"), [((5, 7, 3), 1), ((1, 9, 4), (1,)), ((9, 4), 0), ((2, 3, 4, 5), 2), ((3, 1, 4), -2)]
)
@pytest.mark.parametrize("f", [np.add, np.maximum, np.minimum], ids=lambda f: f.__name__)
def test_reductions_along_other_axes(letter, shape, axis, f):
    x = numbers(letter, shape, 1)
    x.flat[3], x.flat[7] = np.nan, -0.0
    x[..., -1] = -0.0
    out = np.empty(np.any(x, axis).shape, x.dtype)
    reduce = sum_by_dot if f is np.add else f.reduce
    args = (x, axis, None, out, False)
    assert run([numpy_calls.NumpyCall(reduce, args, (x,), (out,))], [out]) == 0
    with np.errstate(all="ignore"):
        assert same(out, reduce(x, axis, None, None, False))


def test_columns_of_a_matrix_are_beside_each_other():
    x, y = numbers("f", (40, 7)), np.empty((40, 7), np.float32)
    calls = [numpy_calls.NumpyCall(np.copyto, (y[:, 0], x[:, 0], "unsafe"), (x[:, 0],), (y[:, 0],))]
    calls += [call(np.add, y[:, i - 1], x[:, i], y[:, i]) for i in range(1, 7)]
    assert run(calls, [y]) == 0
    with np.errstate(all="ignore"):
        assert same(y, np.cumsum(x, 1))


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_what_is_said_not_to_overlap_shares_no_memory(data):
    whole = np.zeros((6, 12), np.float32)
    a, b = (
        whole[
            tuple(slice(data.draw(st.integers(0, n - 1)), None, data.draw(st.sampled_from((1, 2, 3, -1, -2)))) for n in whole.shape)
        ]
        for _ in range(2)
    )  # fmt: skip
    if not geometry.overlaps_partly(a, b) and geometry.layout_of(a) != geometry.layout_of(b):
        assert not np.shares_memory(a, b)


def test_empty_and_0d():
    empty = np.empty((0, 3))
    assert run([call(np.add, empty, 1.0, empty)], [empty]) == 0
    one = np.array(2.0)
    out = np.empty(())
    assert run([call(np.multiply, one, 3.0, out), call(np.add, out, out, out)], [out]) == 0
    assert out == 12.0


BINARY = [np.add, np.subtract, np.multiply, largest, smallest, np.divide]
UNARY = [np.negative, np.square, np.abs, np.exp, np.sqrt]


@given(st.data())
@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_random_programs(threads, data):
    """Any sequence of calls on arrays that share memory in part, with temporaries that are overwritten."""
    dtype = data.draw(st.sampled_from([np.float32, np.float64]))
    memory = np.random.default_rng(data.draw(st.integers(0, 9))).normal(size=180).astype(dtype)
    shape = data.draw(st.sampled_from([(12,), (3, 4), (4, 3)]))
    starts = st.integers(0, 9).map(lambda k: k * 6)

    def array(start, flat):
        return flat[start : start + 12].reshape(shape)

    plan = []
    for _ in range(data.draw(st.integers(1, 9))):
        f = data.draw(st.sampled_from([*BINARY, *UNARY]))
        count = 2 if f in BINARY else 1
        inputs = [data.draw(st.one_of(starts, st.just("row"), st.just(0.5))) for _ in range(count)]
        plan.append((f, inputs, data.draw(starts)))
    kept = data.draw(st.lists(starts, min_size=1, max_size=3))

    def build(flat):
        calls = []
        for f, inputs, start in plan:
            out = array(start, flat)
            args = [
                flat[150 : 150 + shape[-1]] if x == "row" else x if x == 0.5 else array(x, flat)
                for x in inputs
            ]
            # NumPy makes copies where an input overlaps its output; segments leave such calls alone
            calls.append(call(f, *args, out))
        return calls

    one, two = memory.copy(), memory.copy()
    with np.errstate(all="ignore"):
        for c in build(one):
            c.f(*c.args)
    run(build(two), [array(k, two) for k in kept])
    for k in kept:
        assert same(array(k, one), array(k, two))


def test_large_loops_are_shared_by_threads(monkeypatch):
    """Which rows are: by their work and the length of their outermost axis, and never without oneDNN's threads."""
    if onednn.find() is None:
        pytest.skip("the extra onednn is not installed")
    dnnl = onednn.library.load_library()

    def is_shared(n, m, f=np.add):
        x, y = np.full((n, m), 2.0, np.float32), np.empty((n, m + 1), np.float32)[:, :m]
        made = translation.translate([call(f, x, 2.0, y)], [y])
        rows = parallel.parallel_loops(made[0][0].rows)
        segment.NativeSegment(rows).run()
        assert (y == f(2.0, 2.0)).all()
        return [row.cells[0] == parallel.shared_loop() for row in rows] == [True]

    before = dnnl.max_threads()
    try:
        for count, many in ((2, True), (3, True), (1, False)):
            dnnl.dll.omp_set_num_threads(count)
            assert is_shared(600, 1000) == many
            assert not is_shared(60, 10000)  # too few rows
            assert not is_shared(64, 800)
            assert is_shared(64, 800, np.divide) == many  # as many bytes, but more work
        dnnl.dll.omp_set_num_threads(2)
        monkeypatch.setattr(onednn.library._state, "library", None)
        assert not is_shared(600, 1000)
    finally:
        dnnl.dll.omp_set_num_threads(before)


def test_what_is_not_read_is_not_stored():
    x, t, y = np.ones(64), np.zeros(64), np.empty(64)
    run([call(np.add, x, 1.0, t), call(np.multiply, t, 3.0, y)], [y])
    assert (y == 6.0).all()
    assert (t == 0.0).all()


def switched(monkeypatch, on: bool):
    monkeypatch.setenv("ANYNET_NUMBA", "on" if on else "off")


@pytest.mark.parametrize("n", [*range(1, 20), 31, 63, 64, 65])
def test_rows_of_a_few_numbers(n, threads):
    wide = numbers("f", (9, n + 2), 1)
    x, column, row = wide[:, 1:-1], numbers("f", (9, 1), 2), numbers("f", (n,), 3)
    y, z = np.empty((9, n), np.float32), np.empty((9, n + 1), np.float32)
    with np.errstate(all="ignore"):
        expected = (column - x) / row * x
        total = expected + x
    calls = [
        call(np.subtract, column, x, y),
        call(np.divide, y, row, y),
        call(np.multiply, y, x, y),
        call(np.add, y, x, z[:, 1:]),
    ]
    assert run(calls, [y, z]) == 0
    assert same(y, expected)
    assert same(z[:, 1:], total)
