"""Large arguments are read where they lie, and small ones, changed ones and shown ones are copied."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet_backends import get_backend
from anynet_backends.jit import availability, borrowing
from anynet_backends.jit.program import Program
from anynet_backends.jit.tracer import Trace

pytestmark = pytest.mark.skipif(not availability.available(), reason="needs the extra numba")

rng = np.random.default_rng(0)
LARGE = rng.normal(size=(300, 400)).astype(np.float32)


def program_of(function, x):
    trace = Trace(get_backend("numpy"))
    made = function(trace, trace.input(x))
    return Program(trace, list(made) if isinstance(made, tuple) else [made])


def is_borrowed(program):
    return [isinstance(put, borrowing._Borrowed) for put in program.puts]


def products(trace, x):
    return x * 2.0 + x[1:2], x @ trace.constant(np.ones((400, 8), np.float32))


def test_each_call_reads_its_own_argument():
    program = program_of(products, LARGE)
    assert is_borrowed(program) == [True]
    for scale in (1.0, 2.0, 2.0, -1.0):
        x = (LARGE * scale).astype(np.float32)
        first, second = program.run([x])
        np.testing.assert_array_equal(first, x * np.float32(2) + x[1:2])
        np.testing.assert_allclose(second, x @ np.ones((400, 8), np.float32), rtol=1e-4, atol=1e-3)
    x *= 3  # in place, between two calls
    np.testing.assert_array_equal(program.run([x])[0], x * np.float32(2) + x[1:2])
    assert not np.shares_memory(program.run([x])[0], x)


@pytest.mark.parametrize("form", ["other strides", "read-only", "not aligned"])
def test_arguments_in_other_forms(form):
    program = program_of(products, LARGE)
    x = LARGE * np.float32(3)
    if form == "other strides":
        x = np.asfortranarray(x)
    elif form == "read-only":
        x.flags.writeable = False
    else:
        raw = np.empty(x.nbytes + 1, np.uint8)[1:].view(np.float32).reshape(x.shape)
        raw[...] = x
        x = raw
    for given in (LARGE, x, LARGE, x):
        np.testing.assert_array_equal(program.run([given])[0], given * np.float32(2) + given[1:2])


def _changed(trace, x):
    x += 1.0
    return x * 2.0


@pytest.mark.parametrize(
    ("function", "x"),
    [
        pytest.param(products, LARGE[:10], id="small"),
        pytest.param(_changed, LARGE, id="changed"),
        pytest.param(lambda trace, x: x[1:], LARGE, id="shown"),
        pytest.param(lambda trace, x: trace.call("sort", (x,), {}), LARGE, id="read by NumPy"),
    ],
)
def test_what_is_copied(function, x):
    if function is _changed:
        trace = Trace(get_backend("numpy"))
        given = trace.input(x.copy())
        trace.changed[given.var] = None
        program = Program(trace, [_changed(trace, given)])
    else:
        program = program_of(function, x)
    assert is_borrowed(program) == [False]


def test_an_argument_that_is_a_parameter_too():
    """What the program writes is not read in its place by the way."""
    net = an.nn.Linear(400, 300)
    optimizer = an.optim.SGD(net.parameters(), lr=0.5)

    def step(x):
        optimizer.zero_grad()
        loss = an.sum(net(x) ** 2)
        loss.backward()
        optimizer.step()
        return loss + an.sum(x)

    compiled = an.compile(step)
    x = an.asarray(LARGE / 1000)
    compiled(x)
    compiled(x)
    weight = net.weight.detach()
    state = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    found = compiled(weight).item(), net.weight.numpy().copy()
    net.load_state_dict(state)
    expected = step(weight).item(), net.weight.numpy().copy()
    assert found[0] == expected[0]
    np.testing.assert_array_equal(found[1], expected[1])
