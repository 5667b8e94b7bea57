"""The engine: order, memory, hooks, errors."""

import functools
import threading
import weakref

import numpy as np
import pytest

import anynet as an
from anynet.autograd.backward import observer
from anynet.autograd.graph import GradientError
from anynet.autograd.transforms import grad
from anynet.autograd.vmap import vmap


def var(x):
    return an.asarray(x, dtype=an.float64, requires_grad=True)


def test_chain_of_100_000_nodes():
    x = var(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0
    y.backward()
    assert x.grad.item() == 1.0
    del y  # freeing the chain must not recurse either


def test_no_reference_cycles(no_collector):
    x = var([1.0, 2.0])
    y = an.exp(x) * x
    z = an.sum(y)
    inner = weakref.ref(y), weakref.ref(y.edge)
    z.backward()
    del y, z
    assert [r() for r in inner] == [None, None]
    leaf = weakref.ref(x.edge)
    del x
    assert leaf() is None


def test_memory_is_freed_on_the_way():
    x = var([1.0, 2.0])
    a = an.exp(x)
    b = an.exp(a)
    saved = weakref.ref(b.edge)
    an.sum(b).backward()
    assert b.edge.saved is None
    assert a.edge.saved is None
    del b
    assert saved() is None


def test_second_backward_raises():
    x = var(2.0)
    y = x * x * x
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 24.0
    with pytest.raises(GradientError, match="retain_graph=True"):
        y.backward()


def test_hooks_and_retain_grad():
    x = var([1.0, 2.0])
    y = x * 3.0
    y.retain_grad()
    seen = []
    remove = y.register_hook(lambda g: seen.append(g.tolist()))
    x.register_hook(lambda g: g * 10.0)
    an.sum(y * y).backward()
    assert seen == [[6.0, 12.0]]
    assert y.grad.tolist() == [6.0, 12.0]
    assert x.grad.tolist() == [180.0, 360.0]
    remove()


def test_overwritten_variable():
    x = var([1.0, 2.0])
    loss = an.sum(x * x)
    with an.no_grad():
        x += 1.0
    with pytest.raises(GradientError, match="overwritten after the forward pass"):
        loss.backward()


def test_setitem_is_a_snapshot():
    x = var([1.0, 2.0, 3.0])
    y = x * 1.0
    z = y * y  # keeps the old y
    y[1] = 10.0
    an.sum(z + y).backward()
    assert x.grad.tolist() == [3.0, 4.0, 7.0]


def test_accumulates_and_shared_inputs():
    x = var(3.0)
    (x * x).backward()
    (x * x).backward()
    assert x.grad.item() == 12.0


def test_no_grad_and_nothing_to_do():
    x = var(3.0)
    with an.no_grad():
        y = x * x
        with an.enable_grad():
            z = x * x
    assert not y.requires_grad
    assert z.requires_grad
    with pytest.raises(GradientError, match="depends on no variable"):
        y.backward()
    with pytest.raises(GradientError, match="reduce it to a scalar"):
        (var([1.0, 2.0]) * 2.0).backward()
    with pytest.raises(TypeError, match="only floating-point"):
        an.asarray([1, 2], requires_grad=True)


def test_decorated_generators_record_only_while_they_wait():
    seen = []

    @an.no_grad()
    def values():
        try:
            seen.append((yield an.is_grad_enabled()))
            try:
                yield an.is_grad_enabled()
            except KeyError:
                yield an.is_grad_enabled()
        finally:
            seen.append(an.is_grad_enabled())

    it = values()
    assert [next(it), an.is_grad_enabled(), it.send("sent"), an.is_grad_enabled()] == [False, True] * 2
    assert it.throw(KeyError()) is False
    assert an.is_grad_enabled()
    it.close()
    assert seen == ["sent", False]
    assert an.is_grad_enabled()

    @an.enable_grad()
    def inner():
        yield an.is_grad_enabled()
        return "done"

    def outer():
        seen.append((yield from inner()))

    with an.no_grad():
        assert list(outer()) == [True]
        assert not an.is_grad_enabled()
    assert seen[-1] == "done"

    async def waits():
        pass

    with pytest.raises(TypeError, match="while it waits"):
        an.no_grad()(waits)


def test_recording_is_per_thread():
    inside = threading.Event()
    leave = threading.Event()
    results = {}

    def silent():
        with an.no_grad():
            inside.set()
            leave.wait(10)
            results["silent"] = (var(1.0) * 2.0).requires_grad

    thread = threading.Thread(target=silent)
    thread.start()
    inside.wait(10)
    results["main"] = (var(1.0) * 2.0).requires_grad
    leave.set()
    thread.join()
    assert results == {"main": True, "silent": False}


def test_threads_differentiate_side_by_side(in_threads):
    out = [None] * 4

    def work(k):
        x = var(float(k))
        for _ in range(50):
            y = vmap(grad(lambda v: v * v * x.detach()))(an.asarray([1.0, 2.0], dtype=an.float64))
        out[k] = y.tolist()

    in_threads(*(functools.partial(work, k) for k in range(4)))
    assert out == [[2.0 * k, 4.0 * k] for k in range(4)]


class Given:
    """An observer of a backward pass: which gradients each operation gave."""

    def __init__(self):
        self.seen = {}

    def before(self, node, g):
        pass

    def after(self, node, grads):
        self.seen[node.label] = [g is not None for g in grads]


@pytest.mark.parametrize("order", [1, 2])
def test_gradients_that_nobody_asks_for_are_not_computed(order):
    weight = an.nn.Parameter(an.asarray(np.random.default_rng(0).normal(size=(4, 3))))
    bias = an.nn.Parameter(an.zeros(4, dtype="float64"))

    def f(x):
        return an.sum(an.nn.functional.linear(an.tanh(an.nn.functional.linear(x, weight, bias)), weight.T))

    def slope(x):
        return grad(f)(x)

    x = an.asarray(np.random.default_rng(1).normal(size=(2, 3)))
    given = Given()
    observer.append(given)
    try:
        found = (slope if order == 1 else grad(lambda x: an.sum(slope(x) ** 2)))(x)
    finally:
        observer.remove(given)
    if order == 2:
        assert given.seen["linear"] == [True, False, False]
    assert found.shape == x.shape
    loss = an.sum(slope(x) ** 2)
    loss.backward()  # the weights of the slope are asked for here
    expected = weight.grad.numpy().copy()
    for i, j in ((0, 0), (3, 2)):
        h = 1e-6
        step = np.zeros((4, 3))
        step[i, j] = h
        values = []
        for sign in (1.0, -1.0):
            weight.assign_(weight + sign * step)
            values.append(an.sum(slope(x) ** 2).item())
            weight.assign_(weight - sign * step)
        np.testing.assert_allclose(expected[i, j], (values[0] - values[1]) / (2 * h), rtol=1e-5)


def test_a_variable_that_is_a_constant_for_a_while_keeps_its_gradient():
    x, y = var([1.0, 2.0]), var([3.0, 4.0])
    early = an.sum(x * y)
    an.sum(x * x).backward()
    x.requires_grad_(False)
    assert x.grad.tolist() == [2.0, 4.0]
    an.sum(x * y).backward()
    early.backward()  # x receives nothing while it is a constant
    assert (x.grad.tolist(), y.grad.tolist()) == ([2.0, 4.0], [2.0, 4.0])
    late = an.sum(y * 3.0)
    x.requires_grad_()
    (late + an.sum(x)).backward()
    assert x.grad.tolist() == [3.0, 5.0]
    x.requires_grad_(False)
    x.grad = None
    x.requires_grad = True
    assert x.grad is None


@pytest.mark.parametrize("to_none", [True, False])
def test_zero_grad_reaches_what_is_a_constant_for_a_while(to_none):
    for owner in ("module", "optimizer"):
        net = an.nn.Linear(2, 1)
        optimizer = an.optim.SGD(net.parameters(), lr=0.1)
        an.sum(net(an.ones((1, 2)))).backward()
        optimizer.step()
        net.weight.requires_grad_(False)
        (net if owner == "module" else optimizer).zero_grad(set_to_none=to_none)
        net.weight.requires_grad_()
        grads = [p.grad for p in net.parameters()]
        assert all(g is None if to_none else not np.any(g.numpy()) for g in grads)
