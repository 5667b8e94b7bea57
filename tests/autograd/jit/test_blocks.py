"""Functions of large arrays, block by block: the same bits, warnings and layouts as without machine code."""

from __future__ import annotations

import functools
import os
import subprocess
import sys

import numpy as np
import pytest

import anynet as an
import anynet.nn.functional as F
from anynet import nn
from anynet.autograd.jit import specialize
from anynet.autograd.primitive import PRIMITIVES, Primitive, use_kernels

pytestmark = pytest.mark.skipif(not specialize.available(), reason="needs the extra numba")

FUNCTIONS = {
    "relu": F.relu, "relu6": F.relu6, "leaky_relu": F.leaky_relu, "elu": F.elu, "selu": F.selu, "celu": lambda x: F.celu(x, 0.7),
    "silu": F.silu, "sigmoid": F.sigmoid, "softplus": F.softplus, "hardtanh": F.hardtanh, "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid, "hardshrink": F.hardshrink, "softshrink": F.softshrink, "tanhshrink": F.tanhshrink,
    "threshold": lambda x: F.threshold(x, 0.1, -1.0), "gelu": F.gelu,
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
def made(monkeypatch):
    """Whether anything was carried out block by block, as arrays from 256 KiB on are here."""
    monkeypatch.setattr(specialize, "_BLOCKED_BYTES", 1 << 18)
    for owner in list(specialize.caches.owners):
        owner.specializations.clear()
        owner.compilable = True
    return lambda: any(
        found
        for owner in list(specialize.caches.owners)
        for special in owner.specializations.values()
        for found in special.blocked.values()
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


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("dim", "order"), [(-1, (0, 1, 2, 3)), (1, (0, 1, 2, 3)), (1, (0, 3, 1, 2)), (0, (0, 1, 2, 3))]
)
def test_parts_of_an_axis(made, dim, order, dtype):
    """The axis whose halves are taken and joined is not cut; the others are."""
    rng = np.random.default_rng(0)
    values = rng.normal(size=(18, 22, 34, 20)).astype(dtype).transpose(order)
    g = rng.normal(size=F.glu(an.asarray(values), dim).shape).astype(dtype)
    first = run(lambda x: F.glu(x, dim), values, g)
    for _ in range(4):
        again = run(lambda x: F.glu(x, dim), values, g)
    assert made()
    for a, b in zip(first, again, strict=True):
        assert a.strides == b.strides
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


def test_threads(in_threads):
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

    in_threads(*(functools.partial(work, i) for i in range(4)))
    assert not wrong


def last(x):
    """The same numbers, with the channels last in memory."""
    return np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def by_hand(x, w, b):
    h = x - an.mean(x, axis=-1, keepdims=True)
    return h / an.sqrt(an.mean(h * h, axis=-1, keepdims=True) + 1e-5) * w + b


ROWS, IMAGES = (1031, 136), (3, 24, 37, 41)
COMPOSITES = {
    "row": (lambda a, b: a * b + b, [ROWS, (136,)]),
    "column": (lambda a, b: a / (b * b + 1.0) - b, [ROWS, (1031, 1)]),
    "outer": (lambda a, b: an.tanh(a + b), [(700, 1), (1, 300)]),
    "channels": (lambda x, a: x * a - an.maximum(x, a), [IMAGES, (24, 1, 1)]),
    "choice": (lambda a, b: an.where(a > b, a, b * 0.5), [ROWS, (1031, 1)]),
    "normalization by hand": (by_hand, [ROWS, (136,), (136,)]),
    "group_norm": (lambda x, w, b: F.group_norm(x, 6, w, b), [IMAGES, (24,), (24,)]),
    "instance_norm": (lambda x: F.instance_norm(x), [IMAGES]),
    "std": (lambda x: an.std(x, axis=1), [ROWS]),
    "mean": (lambda x: an.mean(x, axis=(0, 2, 3)) * an.sum(x, axis=(1, 2, 3))[0], [IMAGES]),
    "squared error": (lambda a, b: F.mse_loss(a, b), [ROWS, ROWS]),
    "logits": (lambda a, b: F.binary_cross_entropy_with_logits(a, F.sigmoid(b)), [ROWS, ROWS]),
    "one axis turned": (lambda x: an.permute_dims(x, (0, 2, 3, 1)) * an.asarray(2.0, dtype=x.dtype), [IMAGES]),
}  # fmt: skip


def in_a_row(*layers):
    """A `Sequential` as a function."""
    net = nn.Sequential(*layers)
    return lambda x: net.to(dtype=str(x.dtype).rpartition(".")[2])(x)


COMPOSITES |= {
    "huber": (lambda a, b: F.huber_loss(a, b, delta=0.7), [ROWS, ROWS]),
    "l1": (lambda a, b: F.l1_loss(a, b, reduction="sum"), [IMAGES, IMAGES]),
    "activations in a row": (in_a_row(nn.Tanh(), nn.Hardswish(), nn.Softplus()), [IMAGES]),
    "norm and activation": (in_a_row(nn.GroupNorm(6, 24), nn.SiLU()), [IMAGES]),
}


def run_all(f, arrays, g):
    xs = [an.asarray(a, copy=False, requires_grad=True) for a in arrays]
    y = f(*xs)
    y.backward(an.asarray(g(y.data), copy=False))
    return [y.data, *(x.grad.data for x in xs)]


@pytest.mark.parametrize("name", list(COMPOSITES))
@pytest.mark.parametrize(("dtype", "order"), [("float32", "C"), ("float32", "last"), ("float64", "last")])
def test_broadcasts_and_reductions(made, name, dtype, order):
    rng = np.random.default_rng(0)
    f, shapes = COMPOSITES[name]
    arrays = [rng.normal(size=shape).astype(dtype) for shape in shapes]
    arrays = [last(a) if order == "last" and a.ndim == 4 else a for a in arrays]
    gradients = (
        lambda y: np.arange(y.size, dtype=dtype).reshape(y.shape) % 7 - 3,
        lambda y: np.broadcast_to(np.asarray(0.5, dtype), y.shape),
        lambda y: y.copy("K"),
    )
    first = [run_all(f, arrays, g) for g in gradients]
    for _ in range(5):
        again = [run_all(f, arrays, g) for g in gradients]
    assert made() or name in ("std", "mean", "group_norm", "instance_norm")  # which have loops of their own
    for one, other in zip(first, again, strict=True):
        for a, b in zip(one, other, strict=True):
            assert a.dtype == b.dtype == np.dtype(dtype)
            assert a.tobytes() == b.tobytes()
    with use_kernels(False):
        want = run_all(f, [a.astype(np.float64) for a in arrays], gradients[0])
    for a, b in zip(want, again[0], strict=True):
        scale = np.abs(a).max() or 1.0
        np.testing.assert_allclose(b / scale, a / scale, atol=1e-5 if dtype == "float32" else 1e-13)


def test_temporaries_of_numpy_keep_their_order(made):
    """NumPy puts `g * temporary` in the place of a large temporary, in its order: so does what is carried out block by block, or it is
    not."""
    x = last(np.random.default_rng(0).normal(size=IMAGES).astype(np.float32))
    net = nn.Sequential(nn.GroupNorm(6, 24), nn.SiLU())
    found = []
    for _ in range(6):
        v = an.asarray(x, copy=False, requires_grad=True)
        net.zero_grad()
        net(v).backward(an.asarray(np.ascontiguousarray(x) * 0.5, copy=False))
        found.append([v.grad.data, *(p.grad.data for p in net.parameters())])
    assert made()
    for again in found[1:]:
        for a, b in zip(found[0], again, strict=True):
            assert (a.strides, a.tobytes()) == (b.strides, b.tobytes())


def test_compiled_bits():
    """The sums of a compiled program are those of the calls."""
    x = np.random.default_rng(0).normal(size=(900, 130)).astype(np.float32)

    def f(x):
        h = x - an.mean(x, axis=0)
        return an.sum(h * h, axis=1), an.mean(h), an.sum(h, axis=0)

    compiled = an.compile(f)
    for _ in range(4):
        for a, b in zip(f(an.asarray(x)), compiled(an.asarray(x)), strict=True):
            assert a.data.tobytes() == b.data.tobytes()


@pytest.mark.parametrize("values", [
    np.zeros((0, 400), np.float32), np.ones((300, 700), np.float16), np.ones((400, 300), np.float32)[::-1, ::-1],
    np.ones((300, 300), np.complex64),
])  # fmt: skip
def test_left_to_numpy(values):
    b = values[:1]
    f = lambda x, y: an.sum(x * y, axis=0)  # noqa: E731
    first = f(an.asarray(values, copy=False), an.asarray(b, copy=False)).data
    for _ in range(5):
        again = f(an.asarray(values, copy=False), an.asarray(b, copy=False)).data
    assert first.tobytes() == again.tobytes()


def test_one_array_twice(made):
    """Planned with one array for both arguments, called with two."""
    rng = np.random.default_rng(0)
    a, b, g = (rng.normal(size=(300, 120)) for _ in range(3))
    for left, right in [(a, a)] * 5 + [(a, b)] * 2:
        x, y = (an.asarray(v, copy=False, requires_grad=True) for v in (left, right))
        (x * y).backward(an.asarray(g))
        assert np.array_equal(x.grad.data, g * right)
        assert np.array_equal(y.grad.data, g * left)
    assert made()


def test_checks_of_values_stay(made):
    """A function that refuses values is not carried out without its refusal."""

    def refuse(x):
        if (np.asarray(x) < 0).any():
            msg = "negative"
            raise ValueError(msg)

    def body(xp, x):
        xp.check(refuse, x)
        return xp.sqrt(x) * 2.0

    checked = Primitive(body, "checked_root_of_a_test")
    del PRIMITIVES["checked_root_of_a_test"]
    x = np.ones((300, 400), np.float32)
    for _ in range(5):
        assert checked(an.asarray(x)).data[0, 0] == 2
    x[5, 7] = -1
    with pytest.raises(ValueError, match="negative"):
        checked(an.asarray(x))


def test_gradients_of_gradients(made):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(300, 120)), rng.normal(size=(120,))

    def inner(w):
        return an.sum(an.tanh(an.asarray(x) * w) ** 2)

    def penalty(w):
        g = an.grad(inner)(w)
        return an.sum(g * g)

    first = an.grad(penalty)(an.asarray(w)).data
    for _ in range(5):
        again = an.grad(penalty)(an.asarray(w)).data
    assert made()
    assert first.tobytes() == again.tobytes()
    step = 1e-6
    for i in (0, 57):
        up, down = w.copy(), w.copy()
        up[i] += step
        down[i] -= step
        slope = (penalty(an.asarray(up)).item() - penalty(an.asarray(down)).item()) / (2 * step)
        np.testing.assert_allclose(again[i], slope, rtol=1e-5)


THREADS = """
import hashlib
import numpy as np
import anynet as an, anynet.nn.functional as F
x = np.random.default_rng(0).normal(size=(5, 32, 67, 71)).astype(np.float32)
x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
found = hashlib.sha256()
for _ in range(5):
    t, w = an.asarray(x, requires_grad=True), an.asarray(np.ones(32, np.float32), requires_grad=True)
    y = an.mean(F.silu(F.group_norm(t, 4, w)) * an.reshape(w, (32, 1, 1)), axis=0)
    y.backward(an.asarray(y.data))
    for a in (y.data, t.grad.data, w.grad.data):
        found.update(a.tobytes())
print(found.hexdigest())
"""


def test_threads_do_not_change_bits():
    def run(threads):
        env = os.environ | {"OMP_NUM_THREADS": threads}
        return subprocess.run([sys.executable, "-c", THREADS], env=env, capture_output=True, text=True, check=True).stdout  # fmt: skip

    assert run("1") == run("2")


def test_more_forms_than_are_kept_are_not_traced_again_and_again(made, monkeypatch):
    traced = []

    class Plan:
        missing = None

        def __call__(self, *data):
            return None

    def plan(prim, *_):
        traced.append(prim)
        return Plan()

    monkeypatch.setattr(specialize.blocked, "plan", plan)
    arrays = [an.asarray(np.ones(70_000 + k, "float32")) for k in range(40)]
    for _ in range(24):
        for x in arrays:
            an.tanh(x)
    assert 40 <= len(traced) <= 160  # not 40 in each of the last 22 rounds


def test_a_gradient_that_is_a_scalar_of_numpy(made):
    """An operation of NumPy on an array without axes gives a scalar, which has no memory of an array's form."""
    draw = np.random.default_rng(0)
    target = draw.normal(size=(2, 256, 256)).astype(np.float32)
    for _ in range(6):
        x = an.asarray(draw.normal(size=target.shape).astype(np.float32), requires_grad=True)
        (F.mse_loss(x, an.asarray(target)) * 1e5).backward()
        np.testing.assert_allclose(x.grad.data, 2e5 * (x.data - target) / target.size, rtol=1e-5)
