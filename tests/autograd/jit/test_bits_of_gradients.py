"""Gradients, and gradients of gradients, have the bits of the operations, whatever has become one call."""

import gc
import weakref

import numpy as np
import pytest

import anynet as an
from anynet.autograd import grad
from anynet.autograd.backward import backprop
from anynet.autograd.graph import GradientError
from anynet.autograd.jit import specialize
from anynet.autograd.jit.fused import FusedFunction
from anynet.autograd.primitive import PRIMITIVES
from anynet.testing.parity import CASES
from anynet_backends import philox

pytestmark = pytest.mark.skipif(not specialize.available(), reason="needs the extra numba")
SECOND = [c for c in CASES if not c.steps and c.second_order]


@pytest.fixture
def at_once(monkeypatch):
    """Every function is compiled where it is first met."""
    monkeypatch.setattr(specialize, "WARMUP_CALLS", 1)
    for prim in PRIMITIVES.values():
        prim.specializations.clear()
        prim.compilable = True
        prim.plans.clear()


def never(run):
    """What it gives without anything being compiled."""
    before, specialize.WARMUP_CALLS = specialize.WARMUP_CALLS, 1 << 30
    specialize.caches.invalidate_all()
    try:
        return run()
    finally:
        specialize.WARMUP_CALLS = before


def leaf(*shape, seed=0, dtype=np.float32, low=-1.0, high=1.0):
    values = np.random.default_rng(seed).uniform(low, high, shape).astype(dtype)
    return an.asarray(values, requires_grad=True)


def bits(tensors):
    return [None if t is None else (t.numpy().dtype, t.shape, t.numpy().tobytes()) for t in tensors]


def gradients(ys, xs, seed):
    """Of a weighted sum of results, as Tensors that are functions of the weights, too."""
    ys = [t for t in (ys if isinstance(ys, tuple | list) else (ys,)) if t is not None and t.edge is not None]
    gs = []
    for k, y in enumerate(ys):
        w = philox.uniform(seed, k, 1, (2, *y.shape), -1.0, 1.0)
        like = y.numpy() if y.edge is None else y.detach().numpy()
        gs.append(an.asarray((w[0] + 1j * w[1] if like.dtype.kind == "c" else w[0]).astype(like.dtype)))
    roots = [(y.edge, g) for y, g in zip(ys, gs, strict=True)]
    return backprop(roots, targets=[x.edge for x in xs], create_graph=True, retain_graph=True) or []


def orders(function, xs, n=3):
    """The gradients of each order, up to the n-th."""
    found, ys = [], function(*xs)
    for order in range(n):
        ys = gradients(ys, xs, order)
        found += [None if y is None else y.detach().numpy() for y in ys]
    return found


def assert_same(found, wanted):
    for a, b in zip(found, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("case", SECOND[::18], ids=lambda c: c.name)
def test_each_order_is_that_of_the_operations(case, at_once):
    xs = [
        an.Tensor(philox.uniform(3, 9, i, shape, case.low, case.high), requires_grad=True)
        for i, shape in enumerate(case.shapes)
    ]
    wanted = never(lambda: orders(case.function, xs))
    for _ in range(4):
        assert_same(orders(case.function, xs), wanted)


@pytest.mark.parametrize("case", SECOND[4::18], ids=lambda c: c.name)
def test_second_order_against_differences(case, at_once):
    xs = tuple(
        an.Tensor(philox.uniform(3, 9, i, shape, case.low, case.high), requires_grad=True)
        for i, shape in enumerate(case.shapes)
    )
    assert an.gradgradcheck(case.function, xs)


# ----- derivatives of functions -----


def network():
    return an.nn.Sequential(
        an.nn.Linear(2, 8), an.nn.Tanh(), an.nn.Linear(8, 8), an.nn.Softplus(), an.nn.Linear(8, 1)
    )


def residual(net, p):
    """A loss with second derivatives by the input."""

    def slope(p):
        du = grad(lambda p: an.sum(net(p)))(p)
        return an.sum(du[:, 0] * du[:, 1]), du

    second, first = grad(slope, has_aux=True)(p)
    return an.mean((second[:, 0] + first[:, 1] * net(p)[:, 0]) ** 2)


def test_derivatives_of_a_network(at_once):
    net = network()
    p = leaf(6, 2).detach()

    def step():
        net.zero_grad()
        loss = residual(net, p)
        loss.backward()
        return [t.numpy() for t in (loss.detach(), *(q.grad for q in net.parameters() if q.grad is not None))]

    wanted = never(step)
    for _ in range(8):
        assert_same(step(), wanted)
    function = net.__dict__["_fused"].snapshot.function
    assert any(s.table for s in function.specializations.values())


def test_third_order_of_a_network(at_once):
    net = network()
    p = leaf(1, 2)

    def step():
        y = lambda p: an.sum(net(p) ** 2)  # noqa: E731
        second = lambda p: an.sum(grad(lambda p: an.sum(grad(y)(p) ** 2))(p) ** 2)  # noqa: E731
        return [grad(second)(p).detach().numpy()]

    wanted = never(step)
    for _ in range(8):
        assert_same(step(), wanted)


def test_an_input_that_depends_on_another_has_its_own_share(at_once):
    f = FusedFunction("product", lambda xs: an.tanh(xs[0]) * xs[1] * xs[1])
    x = leaf(5, dtype=np.float64)

    def through(x, y):
        made = f([x, y])
        return f.run([x, y]) if made is None else made

    for _ in range(4):
        assert an.gradgradcheck(lambda x: through(x, x * 3), x)
        assert an.gradgradcheck(lambda x: through(x, x), x)


def test_a_variable_that_was_overwritten_is_refused(at_once):
    net = network()
    p = leaf(6, 2).detach()
    for _ in range(5):
        slope = grad(lambda p: an.sum(net(p)))(p)
        loss = an.sum(slope * slope)
        net[0].weight.assign_(net[0].weight.detach() * 2)
        with pytest.raises(GradientError, match="overwritten"):
            loss.backward()


def test_nothing_is_kept_alive(at_once):
    net = network()
    p = leaf(6, 2).detach()
    for _ in range(6):
        net.zero_grad()
        residual(net, p).backward()
    function = weakref.ref(net.__dict__["_fused"].snapshot.function)
    del net
    gc.collect()
    assert function() is None


def penalised(net, real, fake):
    """The loss of a critic with a penalty on its gradient, whose last layer has one output: gradients of means reach a product."""
    slope = grad(lambda x: an.sum(net(x)))(0.5 * (real + fake))
    penalty = an.mean((an.sqrt(an.sum(slope**2, axis=1)) - 1.0) ** 2)
    return an.mean(net(fake)) - an.mean(net(real)) + 0.1 * penalty


@pytest.mark.parametrize("loss", [penalised, lambda net, p, q: residual(net, p) + an.mean(net(q))])
def test_operations_fused_functions_and_compiled_steps_agree(loss, at_once):
    net = network()
    p, q = leaf(40, 2).detach(), leaf(40, 2, seed=1).detach()

    def step(p, q):
        net.zero_grad()
        made = loss(net, p, q)
        made.backward()
        return made

    def found(step):
        made = step(p, q)
        return [t.numpy() for t in (made.detach(), *(w.grad for w in net.parameters() if w.grad is not None))]

    wanted = never(lambda: found(step))
    compiled = an.compile(step)
    for _ in range(6):
        assert_same(found(step), wanted)
        assert_same(found(compiled), wanted)


@pytest.mark.parametrize("rows", [1, 2, 256])
@pytest.mark.parametrize("reduced", [an.mean, an.sum, lambda y: an.sum(an.mean(y, axis=0))])
def test_a_product_with_the_gradient_of_a_mean(rows, reduced, at_once):
    x, w, b = leaf(rows, 128).detach(), leaf(1, 128, seed=1), leaf(1, seed=2)

    def step():
        w.grad = b.grad = None
        reduced(an.nn.functional.linear(x, w, b)).backward()
        return [w.grad.numpy(), b.grad.numpy()]

    wanted = never(step)
    for _ in range(4):
        assert_same(step(), wanted)


def test_a_function_in_a_function_is_taken_apart(at_once):
    inner = FusedFunction("inner", lambda xs: an.tanh(xs[0]) * xs[0] * xs[1])

    def nested(xs):
        y = inner(xs)
        y = inner.run(xs) if y is None else y
        return an.exp(y) * xs[1] + y

    outer = FusedFunction("outer", nested)
    x, w = leaf(5, dtype=np.float64), leaf(5, seed=1, dtype=np.float64)

    def through(x, w):
        y = outer([x, w])
        return nested([x, w]) if y is None else y

    wanted = never(lambda: orders(through, [x, w]))
    for _ in range(4):
        assert_same(orders(through, [x, w]), wanted)
        assert through(x, w).edge.label == "outer"
    assert an.gradgradcheck(through, (x, w))


def test_hooks_run_once_and_a_second_walk_gives_the_same(at_once):
    f = FusedFunction("product", lambda xs: an.tanh(xs[0]) * xs[1])
    x, w = leaf(4), leaf(4, seed=1)
    for _ in range(3):
        y = f([x, w])
        assert y.edge.label == "product"
        seen = []
        y.register_hook(lambda g, seen=seen: seen.append(g) or 2 * g)
        found = [gradients(y, [x, w], 0) for _ in range(2)]
        assert bits(t.detach() for t in found[0]) == bits(t.detach() for t in found[1])
        assert len(seen) == 2
        x.grad = w.grad = None
        an.sum(y).backward()
        np.testing.assert_allclose(w.grad.numpy(), 2 * np.tanh(x.detach().numpy()), rtol=1e-6)
        assert len(seen) == 3


def test_sums_of_products_whose_gradient_is_one_number_for_many(at_once):
    """The layout of a product decides how NumPy adds it up: machine code must not lay its gradient out otherwise."""
    keys = np.random.default_rng(3).normal(size=(10, 8, 128)).astype(np.float32).transpose(1, 0, 2)
    w = leaf(8, 10, 1)

    def step():
        k = an.asarray(keys, requires_grad=True)
        w.grad = None
        an.sum(an.tanh(an.sum(w * k, axis=1))).backward()
        return [w.grad.numpy(), k.grad.numpy()]

    wanted = never(step)
    for _ in range(4):
        assert_same(step(), wanted)


def test_two_lookups_in_one_table(at_once):
    table = an.nn.Embedding(3000, 32)
    one, two = (an.asarray(np.random.default_rng(i).integers(0, 40, (8, 16))) for i in range(2))
    c = leaf(8, 16, 32).detach()

    def step(one, two):
        table.zero_grad()
        loss = an.sum(table(one) * c) + an.sum(table(two) * c) + an.sum(table.weight * table.weight)
        loss.backward()
        return loss

    wanted = never(lambda: (step(one, two), table.weight.grad.numpy())[1])
    compiled = an.compile(step)
    for _ in range(4):
        for run in (step, compiled):
            run(one, two)
            np.testing.assert_array_equal(table.weight.grad.numpy(), wanted)
