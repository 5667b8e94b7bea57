"""Each pass over traces written by hand, and the programs that come of them."""

from __future__ import annotations

import numpy as np
import pytest

from anynet_backends import get_backend
from anynet_backends.jit import availability, passes
from anynet_backends.jit.errors import CompileError
from anynet_backends.jit.memory_plan import aligned, lifetimes, plan_memory
from anynet_backends.jit.program import Program
from anynet_backends.jit.tracer import Trace
from anynet_backends.kernels.embedding import RowSum


def traced(function, *arrays):
    """A trace of a function of arrays, and what it returns."""
    trace = Trace(get_backend("numpy"))
    outputs = function(trace, *[trace.input(a) for a in arrays])
    return trace, list(outputs if isinstance(outputs, tuple) else (outputs,))


def names(instructions):
    return [i.name.partition("#")[0] for i in instructions]


X = np.arange(6.0).reshape(2, 3)


def test_dead_code():
    def function(trace, x):
        x + 1.0
        y = x * 2.0
        return y - 3.0

    trace, outputs = traced(function, X)
    assert names(trace.instructions) == ["add", "multiply", "subtract"]
    root = passes.memory_roots(trace)
    found = passes.eliminate_dead_code(trace.instructions, [o.variable for o in outputs], root, trace)
    assert names(found) == ["multiply", "subtract"]


def test_a_write_into_what_a_view_shows_is_no_dead_code():
    def function(trace, x):
        y = x * 2.0
        y[0][...] = 5.0
        z = x * 3.0
        z[0][...] = 5.0
        return y

    trace, outputs = traced(function, X)
    root = passes.memory_roots(trace)
    found = passes.eliminate_dead_code(trace.instructions, [o.variable for o in outputs], root, trace)
    assert names(found) == ["multiply", "getitem", "setitem"]


def test_common_subexpressions():
    def function(trace, x):
        a = x * 2.0
        b = x * 2.0
        c = x * 2  # another type: NumPy might compute another one
        x += 1.0
        return a + b, c, x * 2.0

    trace, outputs = traced(function, X)
    root = passes.memory_roots(trace)
    found, results = passes.eliminate_common_subexpressions(
        trace.instructions, [o.variable for o in outputs], root
    )
    assert names(found) == ["multiply", "multiply", "add", "add", "multiply"]
    a, total = found[0].out, found[3]
    assert total.args == (a, a)
    assert total.reads == [a.var, a.var]
    assert [o.var for o in results] == [found[3].out.var, found[1].out.var, found[4].out.var]


def test_common_subexpressions_end_at_a_host_callback():
    def function(trace, x):
        a = x * 2.0
        trace.host(lambda: None, "callback")
        return a, x * 2.0

    trace, outputs = traced(function, X)
    root = passes.memory_roots(trace)
    found, _ = passes.eliminate_common_subexpressions(trace.instructions, [o.variable for o in outputs], root)
    assert names(found) == ["multiply", "callback", "multiply"]


def test_checks_move_to_the_front():
    def refuse(index):
        pass

    def function(trace, x, index):
        y = x * 2.0
        i = index + 1
        trace.check(refuse, (i,), None)
        y += 1.0
        trace.check(refuse, (y,), None)  # of what is written: not before
        return y

    trace, _ = traced(function, X, np.arange(2))
    root = passes.memory_roots(trace)
    found = passes.hoist_checks(trace.instructions, root)
    assert names(found) == ["add", "refuse", "multiply", "add", "refuse"]


def test_small_results_stand_before_a_run_of_large_ones():
    large, small = np.ones((64, 128)), np.ones(128)

    def function(trace, x, s):
        y = x * 2.0
        a = s + 1.0
        z = y / a
        b = trace.call("sum", (z,), {"axis": 0})  # of what the run makes: it stays
        product = z @ trace.constant(np.ones((128, 128)))
        c = s - 1.0
        s *= 3.0
        d = s / 4.0  # of what is changed in the run: it stays
        return product + b + c + d

    trace, _ = traced(function, large, small)
    found = passes.hoist_small(trace.instructions, passes.memory_roots(trace), trace, {})
    before = ["add", "multiply", "divide", "sum", "matmul"]
    behind = ["subtract", "multiply", "divide", "add", "add", "add"]
    assert [n for n in names(found) if n != "constant"] == [*before, *behind]


def test_a_view_is_not_moved_before_what_it_shows():
    def function(trace, x):
        y = x * 2.0
        return y[:1] + 1.0

    trace, _ = traced(function, np.ones((64, 128)))
    found = passes.hoist_small(trace.instructions, passes.memory_roots(trace), trace, {})
    assert names(found) == ["multiply", "getitem", "add"]


def test_what_is_read_of_one_array_outside_stays_behind_a_write_into_another():
    held = np.ones((2, 128))

    def function(trace, x):
        y = x * 2.0
        trace.capture(held)[0] = y[0]
        return y + (trace.capture(held[0]) + 1.0)  # the same memory

    trace, outputs = traced(function, np.ones((64, 128)))
    found = passes.hoist_small(trace.instructions, passes.memory_roots(trace), trace, {})
    assert names(found) == names(trace.instructions)
    [result] = Program(trace, outputs).run([np.ones((64, 128))])
    assert (result == 5.0).all()


def test_what_is_computed_in_an_array_outside_stays_behind_what_reads_it():
    held = np.ones(128)

    def function(trace, x, s):
        y = x * trace.capture(held)
        small = s + 1.0
        trace.capture(held)[...] = small
        return y

    trace, outputs = traced(function, np.ones((64, 128)), np.ones(128))
    program = Program(trace, outputs)
    assert [np.shares_memory(call.args[-1], held) for call in program.calls] == [False, True]
    held[...] = 1.0
    [result] = program.run([np.ones((64, 128)), np.ones(128)])
    assert (result == 1.0).all()
    assert (held == 2.0).all()


def test_arrays_of_other_forms_share_no_memory_in_a_run():
    def function(trace, x):
        y = x * 2.0
        z = (y + 1.0)[:, 1:] * 3.0  # it would fit where y was
        return z @ trace.constant(np.ones((7, 7)))

    trace, outputs = traced(function, np.ones((64, 8)))
    root = passes.memory_roots(trace)
    fixed = {x.var for x in (*trace.captured.values(), *trace.inputs, outputs[0].variable)}
    needed = lifetimes(trace.instructions, root, fixed)
    places, _ = plan_memory(needed)
    assert {life.form for life in needed.values()} == {(64, 64 * 8 * 8), (64, 64 * 7 * 8), (7, 7 * 7 * 8)}
    wide, narrow = (
        [places[v] for v, life in needed.items() if life.form == (64, 64 * n * 8)] for n in (8, 7)
    )
    assert not any(np.shares_memory(a, b) for a in wide for b in narrow)


def test_constants():
    def function(trace, x):
        c = trace.constant(np.ones(3)) * 4.0
        w = trace.constant(np.zeros(3))
        w += 1.0
        return x * c + w

    trace, _ = traced(function, X)
    root = passes.memory_roots(trace)
    rest, constants = passes.fold_constants(trace.instructions, root)
    assert names(rest) == [
        "constant",
        "add",
        "multiply",
        "add",
    ]  # the one that is written is made at each replay
    np.testing.assert_array_equal(constants[-1].value, 4 * np.ones(3))


@pytest.mark.parametrize("read_again", [False, True])
def test_stores_are_forwarded(read_again):
    buffer = np.zeros((2, 3))

    def function(trace, x):
        y = x * 2.0
        trace.capture(buffer)[...] = y
        return y + 1.0 if read_again else x + 1.0

    trace, outputs = traced(function, X)
    program = Program(trace, outputs)
    [product] = [call for call in program.calls if call.f is np.multiply]
    assert np.shares_memory(product.args[-1], buffer) is not read_again
    assert len(program.calls) == (3 if read_again else 2)
    buffer[...] = 0.0
    [found] = program.run([X + 1.0])
    np.testing.assert_array_equal(buffer, (X + 1.0) * 2.0)
    np.testing.assert_array_equal(found, (X + 1.0) * 2.0 + 1.0 if read_again else X + 2.0)


def blocks(trace, outputs):
    root = passes.memory_roots(trace)
    needed = lifetimes(trace.instructions, root, {trace.inputs[0].var, outputs[0].var})
    arrays, total = plan_memory(needed)
    return len({a.__array_interface__["data"] for a in arrays.values()}), total


def test_memory_is_shared_by_results_that_are_never_needed_together():
    def chain(trace, x):
        for _ in range(6):
            x = trace.call("reshape", (trace.call("cumulative_sum", (x,), {}), (40, 25)), {})
            x = trace.call("reshape", (x, (1000,)), {}) * 1.0
        return x

    trace, outputs = traced(chain, np.ones(1000))
    root = passes.memory_roots(trace)
    fixed = {trace.inputs[0].var, outputs[0].var}
    needed = lifetimes(trace.instructions, root, fixed)
    assert len(needed) == 11
    assert blocks(trace, outputs) == (2, 2 * 8000)


def test_a_function_of_numpy_writes_over_what_nothing_else_needs():
    def chain(trace, x):
        for _ in range(6):
            x = x + 1.0
        return x

    trace, outputs = traced(chain, np.zeros(1000))
    assert blocks(trace, outputs) == (1, 8000)
    [found] = Program(trace, outputs).run([np.ones(1000)])
    np.testing.assert_array_equal(found, 7.0)

    def turned(trace, x):  # numbers that are read at another place than they are written at
        y = x + 1.0
        y = y + y.T
        y = y * trace.call("getitem", (y, (slice(None), slice(0, 1))), {})
        z = trace.call("greater", (y, 2.0), {})
        return trace.call("where", (z, y, y * 3.0), {}) + 1.0

    x = np.arange(16.0).reshape(4, 4)
    trace, outputs = traced(turned, x)
    [found] = Program(trace, outputs).run([x])
    y = x + 1.0 + (x + 1.0).T
    y = y * y[:, :1]
    np.testing.assert_array_equal(found, np.where(y > 2.0, y, y * 3.0) + 1.0)


def test_scratch_memory_may_be_too_small():
    def function(trace, x):
        return (x + 1.0) * 2.0

    trace, outputs = traced(function, np.zeros(1000))
    with pytest.raises(CompileError, match="8000 bytes of scratch memory are needed, there are 64"):
        Program(trace, outputs, scratch=aligned(64))


def test_a_program_is_printed():
    trace, outputs = traced(lambda trace, x: (x * 2.0).T, X)
    trace.names[trace.inputs[0].var] = "x"
    text = str(Program(trace, outputs)).splitlines()
    assert text[0].startswith("program of 2 instructions, 1 calls")
    assert text[1:] == ["  %1 = multiply(x, 2.0)", "  %2 = transpose(%1)  (a view)"]


EDGES = np.array([0, 1, 1, 0, 1]), np.array([3, 0, 0, 2, 3])


def edge_sums(trace, x, source, index, between=None, more=False):
    values = trace.call("take", (x, source), {"axis": 0})
    if between is not None:
        between(trace, x)
    y = trace.call_opaque("sum_rows", RowSum((4, 3)), (values, index))
    return (y, values * 2.0) if more else y


def expected_sums(x):
    y = np.zeros((4, 3))
    np.add.at(y, EDGES[1], x[EDGES[0]])
    return y


def test_sums_of_taken_rows_are_one_call():
    trace, outputs = traced(edge_sums, X, *EDGES)
    program = Program(trace, outputs)
    assert [line.split(" = ")[1].partition("#")[0] for line in program.text] == ["sum_taken_rows"]
    for x in (X, X * -3.0):
        assert (program.run([x, *EDGES])[0] == expected_sums(x)).all()


def test_rows_that_something_else_reads_are_taken():
    trace, outputs = traced(lambda *args: edge_sums(*args, more=True), X, *EDGES)
    program = Program(trace, outputs)
    assert not any("sum_taken_rows" in line for line in program.text)
    y, doubled = program.run([X, *EDGES])
    assert (y == expected_sums(X)).all()
    assert (doubled == X[EDGES[0]] * 2.0).all()


def test_rows_are_taken_before_what_they_are_of_is_written():
    def function(trace, x, source, index):
        z = x * 1.0
        y = edge_sums(trace, z, source, index, lambda trace, x: trace.write(x, ..., 5.0))
        return y, z

    trace, outputs = traced(function, X, *EDGES)
    program = Program(trace, outputs)
    assert not any("sum_taken_rows" in line for line in program.text)
    y, z = program.run([X, *EDGES])
    assert (y == expected_sums(X)).all()
    assert (z == 5.0).all()


def test_views_alike_are_one_but_those_of_what_is_written():
    def function(trace, x):
        y = x * 2.0
        first = x[0] * 3.0 + x[0] * 3.0
        before = y[0] * 3.0
        y[0][...] = 7.0
        return first, before, y[0] * 3.0

    trace, outputs = traced(function, X)
    program = Program(trace, outputs)
    assert (
        sum("multiply" in line for line in program.text) == 4
    )  # y, that of x[0], those of y[0] before and after
    first, before, after = program.run([X])
    assert (first == X[0] * 6.0).all()
    assert (before == X[0] * 6.0).all()
    assert (after == 21.0).all()


def test_programs_are_printed_after_each_pass(monkeypatch, capfd):
    def function(trace, x):
        unused = x * 5.0  # noqa: F841
        return (x * 2.0 + x * 2.0) - 1.0

    monkeypatch.setenv("ANYNET_PASSES", "all")
    trace, outputs = traced(function, X)
    program = Program(trace, outputs)
    assert program.segments
    text = capfd.readouterr().err
    passes_seen = [line.split("after ")[1][:-1] for line in text.splitlines() if "after " in line]
    expected = [
        "trace",
        "common",
        "dead",
        "checks",
        "constants",
        "stores",
        "rows",
        "small",
        "memory",
        "calls",
    ]
    assert passes_seen[:10] == expected
    if availability.available():
        assert {"loops", "segments"} <= set(passes_seen)
        assert "v1 = add(v0, v0)" in text
    parts = dict(zip(passes_seen, text.split("anynet ")[1:], strict=True))
    assert parts["trace"].count("= multiply(") == 3
    assert parts["common"].count("= multiply(") == 2
    assert parts["dead"].count("= multiply(") == 1
    assert "unchanged" in parts["checks"]
    assert "bytes in 1 blocks" in parts["memory"]
    monkeypatch.setenv("ANYNET_PASSES", "stores")
    Program(*traced(function, X))
    assert capfd.readouterr().err.count("after ") == 1
    monkeypatch.setenv("ANYNET_PASSES", "stores,lops")
    with pytest.raises(ValueError, match=r"ANYNET_PASSES must be off, all, or a list of .*, got lops"):
        Program(*traced(function, X))
