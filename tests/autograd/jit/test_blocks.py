"""Functions of each element on large arrays: the same bits, warnings and layouts as without machine code."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import anynet as an
import anynet.nn.functional as F
from anynet.autograd.jit import specialize
from anynet.autograd.primitive import PRIMITIVES, use_kernels

pytestmark = pytest.mark.skipif(not specialize.available(), reason="needs the extra numba")

FUNCTIONS = {
    "relu": F.relu, "relu6": F.relu6, "leaky_relu": F.leaky_relu, "elu": F.elu, "selu": F.selu, "celu": lambda x: F.celu(x, 0.7),
    "silu": F.silu, "sigmoid": F.sigmoid, "softplus": F.softplus, "hardtanh": F.hardtanh, "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid, "hardshrink": F.hardshrink, "softshrink": F.softshrink, "tanhshrink": F.tanhshrink,
    "softsign": F.softsign, "logsigmoid": F.logsigmoid, "mish": F.mish, "gelu_tanh": lambda x: F.gelu(x, "tanh"),
    "tanh": an.tanh, "clip": lambda x: an.clip(x, -0.5, 1.25), "square": lambda x: x**2, "cube": lambda x: x**3,
    "inverse": lambda x: (an.abs(x) + 1.0) ** -1, "root": lambda x: (an.abs(x) + 0.5) ** 0.5,
    "product": lambda x: x * an.tanh(x), "quotient": lambda x: x / (an.abs(x) + 1.0),
}  # fmt: skip


def run(f, values, g):
    x = an.asarray(values, requires_grad=True)
    y = f(x)
    y.backward(an.asarray(g))
    return y.data, x.grad.data


@pytest.fixture
def made():
    """Whether anything was carried out block by block."""
    for prim in PRIMITIVES.values():
        prim.specializations.clear()
        prim.compilable = True
    return lambda: any(
        found for p in PRIMITIVES.values() for h in p.specializations.values() for found in h.tiled.values()
    )


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", list(FUNCTIONS))
def test_same_bits(made, name, dtype):
    rng = np.random.default_rng(0)
    values = (rng.normal(size=(70, 1009)) * 3).astype(dtype)  # no whole number of blocks
    values[0, :6] = [0.0, -0.0, 3.0, -3.0, 0.5, -0.5]
    g = rng.normal(size=values.shape).astype(dtype)
    first = run(FUNCTIONS[name], values, g)
    for _ in range(4):
        again = run(FUNCTIONS[name], values, g)
    assert made()
    for a, b in zip(first, again, strict=True):
        assert a.dtype == b.dtype == np.dtype(dtype)
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("order", [(0, 2, 3, 1), (3, 2, 1, 0), (1, 0, 2, 3)])
def test_any_order_in_memory(made, order):
    """The result lies as the input does; a gradient in another order gives the same numbers."""
    base = np.random.default_rng(0).normal(size=(16, 12, 20, 24)).astype(np.float32)
    values = base.transpose(order)
    g = np.ascontiguousarray(values)
    want = run(F.hardswish, np.ascontiguousarray(values), g)
    for _ in range(5):
        x = an.asarray(values, copy=False, requires_grad=True)
        y = F.hardswish(x)
        y.backward(an.asarray(g))
    assert made()
    assert y.data.strides == values.strides
    assert np.array_equal(y.data, want[0])
    assert np.array_equal(x.grad.data, want[1])


def test_arrays_with_gaps_are_left_alone():
    values = np.random.default_rng(0).normal(size=(600, 600)).astype(np.float32)[:, ::2]
    for _ in range(5):
        y = F.hardswish(an.asarray(values, copy=False))
    with use_kernels(False):
        assert np.array_equal(y.data, F.hardswish(an.asarray(values)).data)


def test_warnings_of_numpy(made):
    values = np.full((300, 400), 2.0, np.float32)
    f = lambda x: an.asarray(x) ** -2  # noqa: E731
    for _ in range(5):
        f(values)
    assert made()
    values[7, 9] = 0.0
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        y = f(values)
    assert y.data[7, 9] == np.inf


def test_second_order():
    values = np.random.default_rng(0).normal(size=(300, 400))
    x = an.asarray(values)
    for _ in range(5):
        got = an.grad(lambda x: an.sum(an.grad(lambda x: an.sum(x**3))(x)))(x)
    np.testing.assert_allclose(got.numpy(), 6 * values)


def test_threads():
    """Each thread has its own results."""
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(300, 400)).astype(np.float32) for _ in range(4)]
    g = np.ones((300, 400), np.float32)
    want = [run(F.hardswish, values, g) for values in inputs]
    wrong = []

    def work(i):
        for _ in range(40):
            got = run(F.hardswish, inputs[i], g)
            if any(a.tobytes() != b.tobytes() for a, b in zip(got, want[i], strict=True)):
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
