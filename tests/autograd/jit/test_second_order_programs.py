"""Gradients of gradients as built-in functions: functions of several results, their gradients, and the rules of operations on Tensors."""

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


def assert_close(found, wanted, eps):
    """The bits but for the order in which the gradients of one variable are added up, of which one function has the sum of its own."""
    for a, b in zip(found, wanted, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert (a.shape, a.dtype) == (b.shape, b.dtype)
            np.testing.assert_allclose(a, b, rtol=0, atol=64 * eps * max(1.0, np.abs(b).max(initial=0.0)))


@pytest.mark.parametrize("case", SECOND[::18], ids=lambda c: c.name)
def test_each_order_is_that_of_the_operations(case, at_once):
    xs = [
        an.Tensor(philox.uniform(3, 9, i, shape, case.low, case.high), requires_grad=True)
        for i, shape in enumerate(case.shapes)
    ]
    wanted = never(lambda: orders(case.function, xs))
    for _ in range(4):
        assert_close(orders(case.function, xs), wanted, 2.0**-52)


@pytest.mark.parametrize("case", SECOND[4::18], ids=lambda c: c.name)
def test_second_order_against_differences(case, at_once):
    xs = tuple(
        an.Tensor(philox.uniform(3, 9, i, shape, case.low, case.high), requires_grad=True)
        for i, shape in enumerate(case.shapes)
    )
    assert an.gradgradcheck(case.function, xs)


# ----- functions of several results -----


def several(xs):
    x, w = xs
    h = an.tanh(x) * w
    return h, None, an.exp(h) + x, (x * 2).detach()


def test_several_results(at_once):
    f = FusedFunction("several", several)
    x, w = leaf(4, 3), leaf(3, seed=1)
    for _ in range(4):
        for used in ((0, 2), (0,), (2,)):
            found = []
            for function in (f, several):
                ys = function([x, w]) or several([x, w])
                assert ys[1] is None
                assert [y.requires_grad for y in ys if y is not None] == [True, True, False]
                x.grad = w.grad = None
                loss = sum(an.sum(ys[i] * ys[i]) for i in used)
                loss.backward()
                found.append(bits([*(y.detach() for y in ys if y is not None), x.grad, w.grad]))
            assert found[0] == found[1]
    assert f([x, w])[0].edge.label == "several[0]"
    with an.no_grad():
        for _ in range(3):
            ys = f([x, w]) or several([x, w])
            assert bits([y for y in ys if y is not None]) == bits(
                [y for y in several([x, w]) if y is not None]
            )
    assert f.specializations[None].table


def test_one_result_in_a_tuple(at_once):
    f = FusedFunction("one", lambda xs: (None, an.tanh(xs[0]) * xs[0]))
    x = leaf(5)
    for _ in range(3):
        none, y = f([x]) or f.run([x])
        assert none is None
        x.grad = None
        an.sum(y).backward()
        first = x.grad.numpy()
    t = np.tanh(x.detach().numpy())
    np.testing.assert_allclose(first, t + x.detach().numpy() * (1 - t * t), rtol=1e-5)
    assert y.edge.label == "one"


def test_gradients_of_several_results_that_lie_differently(at_once):
    f = FusedFunction("several", lambda xs: (an.tanh(xs[0]) * 2, an.exp(xs[0]) + 1))
    x = leaf(4, 3)
    f([x])
    for layout in (
        lambda a: a,
        lambda a: np.asfortranarray(a),
        lambda a: np.broadcast_to(a[:1, :1], a.shape),
    ):
        gs = [
            an.asarray(layout(np.random.default_rng(k).normal(size=(4, 3)).astype(np.float32)))
            for k in range(2)
        ]
        found = []
        for ys in (f([x]), f.run([x])):
            roots = [(y.edge, g.data) for y, g in zip(ys, gs, strict=True)]
            found.append(backprop(roots, targets=[x.edge]))
        np.testing.assert_array_equal(*found)


def test_a_pullback_is_given_what_it_takes(at_once):
    f = FusedFunction("several", lambda xs: (an.tanh(xs[0]) * 2, an.exp(xs[0]) + 1))
    x = leaf(3)
    f([x])
    pull = f([x])[0].edge.node.pullback
    one = np.ones(3, np.float32)
    assert len(pull((one, one))) == 1
    for wrong in ((one,), (one, one, one), one):
        with pytest.raises(ValueError, match="zip"):
            pull(wrong)


def test_a_result_of_which_the_gradient_is_not_read(at_once):
    def run(xs):
        order = an.argsort(xs[0], axis=-1)
        return an.take_along_axis(xs[0], order, axis=-1) * 2, order

    f = FusedFunction("sorted", run)
    x = leaf(3, 4)
    for _ in range(3):
        y, order = f([x]) or run([x])
        assert order.edge is None
        x.grad = None
        an.sum(y * y).backward()
        np.testing.assert_allclose(x.grad.numpy(), 8 * x.detach().numpy(), rtol=1e-6)


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


def test_a_network_and_its_derivatives_are_programs(at_once):
    net = network()
    p = leaf(6, 2).detach()

    def step():
        net.zero_grad()
        loss = residual(net, p)
        loss.backward()
        return [t.numpy() for t in (loss.detach(), *(q.grad for q in net.parameters() if q.grad is not None))]

    wanted = never(step)
    for _ in range(8):
        assert_close(step(), wanted, 2.0**-23)
    function = net.__dict__["_fused"].snapshot.function
    for _order in range(2):
        assert any(s.table for s in function.specializations.values())
        (function,) = function.derivatives.values()
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
        assert_close(step(), wanted, 2.0**-23)


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


def test_rules_are_functions_once_they_are_worth_it(at_once):
    x, w, b = leaf(4, 3), leaf(2, 3, seed=1), leaf(2, seed=2)
    for _ in range(4):
        gx, _ = gradients(an.nn.functional.linear(x, w, b), [x, w], 0)
        assert gx.requires_grad
        (gt,) = gradients(an.tanh(x), [x], 0)
        (gs,) = gradients(-x, [x], 0)
    assert gt.edge.label == "tanh's gradient"
    assert gs.edge is None
