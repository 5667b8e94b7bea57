"""Operations that become built-in functions: the same bits, warnings, errors and memory as without."""

from __future__ import annotations

import functools
import gc
import tracemalloc

import numpy as np
import pytest

import anynet as an
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.jit import specialize
from anynet.autograd.primitive import PRIMITIVES
from anynet.autograd.rules import fit, run_rules
from anynet.testing.parity import CASES
from anynet_backends import philox
from anynet_backends.jit import blocks, native_call

pytestmark = pytest.mark.skipif(not specialize.available(), reason="needs the extra numba")


@pytest.fixture
def at_once(monkeypatch):
    """Every operation is made a built-in function where it is first met."""
    monkeypatch.setattr(specialize, "WARMUP_CALLS", 1)
    for prim in PRIMITIVES.values():
        prim.specializations.clear()
        prim.compilable = True


def same(a, b):
    if a is None or b is None:
        return a is b
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def results_of(got):
    """What a function gives, without the backward pass."""
    y = got[0] if type(got) is tuple else got
    return y if type(y) is tuple else (y,)


def by_rules(prim, need, meta, data, y, g):
    """The gradients that the rules give, as those of the inputs."""
    plan = prim.plan_of(need)
    found = dict(run_rules(plan, g, plan.keep(y, data, meta)))
    return [None if found.get(i) is None else fit(found[i], x) for i, x in enumerate(data)]


def plans(prim, args, meta):
    """The function made of a call, with other numbers than those it was made with; None where there is none."""
    data = [x.data if isinstance(x, an.Tensor) else x for x in args]
    if not all(type(x) is np.ndarray for x in data):
        return None
    tensors = [isinstance(x, an.Tensor) and x.edge is not None for x in args]
    need = tuple(tensors) if any(tensors) and prim.kind != "piecewise constant" else None
    try:
        plan = specialize._plan(prim, need, meta, data)
    except Exception:
        return None
    if plan is None:
        return None
    table = native_call.DispatchTable()
    table.add(plan)
    rng = np.random.default_rng(0)
    other = [rng.permutation(x.ravel()).reshape(x.shape) for x in data]
    gaps = [x.size == 0 or min(x.strides, default=0) < 0 for x in data]
    other = [x if gap else blocks.laid_out(o, x.strides) for o, x, gap in zip(other, data, gaps, strict=True)]
    return table, other, need


def lying(values, layout):
    """Numbers in an array that lies in memory in one of several ways."""
    if not values.ndim or layout == "dense":
        return values
    if layout == "columns":  # a slice of each row of a wider array
        wide = np.zeros((*values.shape[:-1], values.shape[-1] + 3), values.dtype)
        wide[..., 1:-2] = values
        return wide[..., 1:-2]
    wide = np.zeros((2 * values.shape[-1], *values.shape[:-1]), values.dtype)
    wide[::2] = np.moveaxis(values, -1, 0)
    return np.moveaxis(wide[::2], 0, -1)  # with steps along its last axis, which is the outermost


def elsewhere(prim, need, meta, data, y, gs, pullback):
    """The gradients of results whose own gradients lie in memory the other way round, at first by the rules."""
    moved = [np.copy(g.T, order="C").T for g in gs]
    g = tuple(moved) if type(y) is tuple and not prim.has_aux else moved[0]
    wanted = by_rules(prim, need, meta, data, y, g)
    for _ in range(native_call._WARMUP_CALLS + 2):
        pulled = pullback(g)
    if pulled is NotImplemented:
        return
    BY_ANOTHER_PLAN.add(prim.name)
    for a, b, it in zip(pulled, wanted, need, strict=True):
        assert not it or same(a, b), prim.name


BY_ANOTHER_PLAN = set()


@pytest.mark.parametrize("layout", ["dense", "columns", "steps"])
@pytest.mark.parametrize("case", [c for c in CASES if not c.steps], ids=lambda c: c.name)
def test_same_bits(case, layout, threads):
    """Each operation of each case, forwards and backwards, against the kernel that it was made of."""
    made = []

    def compare(prim, args, meta):
        INTERCEPT.remove(compare)
        try:
            found = plans(prim, args, meta) if len(made) < 40 else None
            if found is not None:
                table, data, need = found
                for _ in range(2):  # what has run once may run again
                    got = table.call(*data)
                    if got is None:  # NumPy would warn
                        continue
                    y, pull = prim.compute(list(data), need, meta)
                    made.append(prim.name)
                    for a, b in zip(results_of(got), y if type(y) is tuple else (y,), strict=True):
                        assert same(a, b), prim.name
                    if type(got) is tuple and got[1] is not None:
                        rng = np.random.default_rng(1)
                        gs = [rng.normal(size=a.shape).astype(a.dtype) for a in results_of((y,))]
                        g = tuple(gs) if type(y) is tuple and not prim.has_aux else gs[0]
                        wanted = pull(g) if pull is not None else by_rules(prim, need, meta, data, y, g)
                        pulled = got[1](g)
                        if pulled is NotImplemented:  # left to the rules: it lies otherwise
                            assert pull is None, prim.name
                            continue
                        for a, b, it in zip(pulled, wanted, need, strict=True):
                            assert not it or same(a, b), prim.name
                        if pull is None:
                            elsewhere(prim, need, meta, data, y, gs, got[1])
        finally:
            INTERCEPT.append(compare)
        return prim.bind(args, meta)

    inputs = tuple(
        an.Tensor(lying(philox.uniform(3, 9, i, shape, case.low, case.high), layout), requires_grad=True)
        for i, shape in enumerate(case.shapes)
    )
    INTERCEPT.append(compare)
    try:
        y = case.function(*inputs)
    finally:
        INTERCEPT.remove(compare)
    assert y is not None


def test_gradients_in_another_order_have_plans():
    """Of what `test_same_bits` has met, so that it asserts something."""
    if not BY_ANOTHER_PLAN:
        pytest.skip("test_same_bits has not run in this process")
    assert {"matmul", "softmax"} <= BY_ANOTHER_PLAN


def test_views_with_gaps_become_functions():
    subtract = PRIMITIVES["subtract"]
    x = np.arange(24.0, dtype=np.float32).reshape(2, 12)
    for view in (x[:, 1:-2], x[:, ::3], x[:1], x.T[::2], np.broadcast_to(x[:, None, :3], (2, 4, 3))):
        assert plans(subtract, (view, view), {}) is not None
    assert plans(subtract, (x[:, ::-1], x), {}) is None  # reversed
    assert (
        plans(subtract, (np.empty((1 << 12, 1 << 13), np.int8)[:, 0], np.ones(1 << 12, np.int8)), {}) is None
    )  # far apart


def test_most_small_operations_become_functions(at_once):
    layers = an.nn.Linear(4, 8), an.nn.Tanh(), an.nn.LayerNorm(8), an.nn.Linear(8, 3)
    x, t = an.ones((5, 4)), an.asarray([0, 1, 2, 0, 1])
    for _ in range(3):
        y = x
        for layer in layers:  # in a Sequential they would become one function
            y = layer(y)
        an.losses.cross_entropy(y, t).backward()
    for name in ("linear", "tanh", "normalize", "cross_entropy_rows", "mean"):
        assert any(h.table is not None for h in PRIMITIVES[name].specializations.values()), name


def test_a_step_with_and_without_has_the_same_bits(monkeypatch):
    def run(often):
        monkeypatch.setattr(specialize, "WARMUP_CALLS", often)
        for prim in PRIMITIVES.values():
            prim.specializations.clear()
        rng = np.random.default_rng(0)
        net = an.nn.Sequential(
            an.nn.Linear(6, 9), an.nn.GELU(), an.nn.Linear(9, 4), an.nn.ReLU(), an.nn.Linear(4, 2)
        )
        for p in net.parameters():
            p.assign_(an.asarray(rng.normal(size=p.shape).astype(np.float32)))
        optimizer = an.optim.Adam(net.parameters(), lr=0.01)
        for n in (5, 5, 5, 7, 5, 7, 7, 5):
            x, y = rng.normal(size=(n, 6)).astype(np.float32), rng.normal(size=(n, 2)).astype(np.float32)
            optimizer.zero_grad()
            an.losses.mse_loss(net(an.asarray(x)), an.asarray(y)).backward()
            optimizer.step()
        return [p.numpy().tobytes() for p in net.parameters()]

    assert run(1) == run(2) == run(10**9)


def test_numbers_are_counted_by_form(monkeypatch):
    monkeypatch.setattr(specialize, "WARMUP_CALLS", 3)
    prim = PRIMITIVES["tanh"]
    prim.specializations.clear()
    x = an.ones((7,))
    for count in range(5):
        an.tanh(x)
        assert (prim.specializations[None].table is not None) == (count >= 2)
    an.tanh(an.ones((2, 3)))
    assert len(prim.specializations[None].table.plans) == 1


def test_metadata_that_differ_in_type_or_sign(at_once):
    leaky = PRIMITIVES["leaky_relu"]
    x = np.array([-2.0, 3.0])
    for slope in (0.0, -0.0, 1.0, 0.5, 0.0, -0.0, 1.0):
        for _ in range(2):
            y = leaky(x, negative_slope=slope)
            expected = np.array([-2.0 * slope, 3.0])
            assert y.tobytes() == expected.tobytes()
    meta = [{"axis": 1}, {"axis": True}, {"axis": 1.0}, {"axis": (1,)}, {"axis": (True,)}, {"axis": slice(1)}]
    assert len({specialize.static_key(None, m) for m in meta}) == len(meta)
    assert specialize.static_key(None, {"axis": [1]}) is specialize.UNHASHABLE


def test_warnings_are_numpys(at_once):
    x, zero = an.asarray([1.0, 2.0]), an.asarray([0.0, 1.0])
    for _ in range(3):
        with pytest.warns(RuntimeWarning, match="divide by zero"):
            y = x / zero
        assert y.tolist() == [np.inf, 2.0]
        with np.errstate(all="ignore"):
            assert (x / zero).tolist() == [np.inf, 2.0]
        with np.errstate(divide="raise"), pytest.raises(FloatingPointError):
            x / zero
    assert (x / an.asarray([2.0, 4.0])).tolist() == [0.5, 0.5]  # the exception does not stay


@pytest.mark.parametrize("n", [3, 96])
def test_a_warning_for_a_number_that_another_thread_has(at_once, threads, n):
    x, fine = an.ones((n,)), an.ones((n,))
    for i in range(n):
        divisor = np.ones(n)
        divisor[i] = 0.0
        with pytest.warns(RuntimeWarning, match="divide by zero"):
            y = x / an.asarray(divisor)
        assert np.isinf(y.numpy()).nonzero()[0].tolist() == [i]
        assert an.sum(x / fine) == n  # the exception does not stay in any thread


def test_a_warning_of_the_backward_pass(at_once):
    for _ in range(3):
        x = an.asarray([0.0, 4.0], requires_grad=True)
        y = an.sqrt(x)
        with pytest.warns(RuntimeWarning, match="divide by zero"):
            y.backward(an.ones_like(y))
        assert x.grad.tolist() == [np.inf, 0.25]


def test_gradients_that_lie_differently_in_memory(at_once):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(4, 3))
    for g in (
        rng.normal(size=(5, 4)), rng.normal(size=(4, 5)).T, rng.normal(size=(10, 8))[::2, ::2],
        np.broadcast_to(rng.normal(size=(1, 4)), (5, 4)), np.flip(rng.normal(size=(5, 4))),
    ):  # fmt: skip
        x = an.asarray(rng.normal(size=(5, 3)), requires_grad=True)
        y = an.nn.functional.linear(x, an.asarray(w))
        y.backward(an.Tensor(g))
        np.testing.assert_allclose(x.grad.numpy(), g @ w, rtol=1e-13)


def test_arguments_that_do_not_fit_go_the_other_way(at_once):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 8))
    an.tanh(an.asarray(x.copy()))
    raw = np.zeros(6 * 8 * 8 + 1, np.uint8)[1:].view(np.float64).reshape(6, 8)  # not aligned
    raw[...] = x
    for same_numbers in (x[:, ::1], np.asfortranarray(x), raw, x.view(np.ndarray)):
        assert np.array_equal(an.tanh(an.Tensor(same_numbers)).numpy(), np.tanh(x))
    assert np.array_equal(an.tanh(an.Tensor(x[::2, ::-1])).numpy(), np.tanh(x[::2, ::-1]))
    assert an.tanh(an.zeros((0, 8), dtype=an.float64)).shape == (0, 8)
    assert an.tanh(an.asarray(0.5)).shape == ()
    read_only = x.copy()
    read_only.flags.writeable = False
    assert np.array_equal(an.tanh(an.Tensor(read_only)).numpy(), np.tanh(x))


def test_results_are_new_and_writeable(at_once):
    x = an.asarray([1.0, 2.0])
    a, b = an.exp(x), an.exp(x)
    assert not np.shares_memory(a.data, b.data)
    a.data[0] = 7.0
    assert b.data[0] == an.exp(x).data[0]


def test_errors_are_those_of_the_operation(at_once):
    a = an.ones((2, 3))
    for _ in range(3):
        with pytest.raises(ValueError, match="matmul"):
            an.matmul(a, an.ones((4, 5)))
        with pytest.raises(IndexError, match="out of range"):
            an.losses.cross_entropy(a, an.asarray([0, 3]))
        assert an.losses.cross_entropy(a, an.asarray([0, 2])).shape == ()


def test_an_error_that_numpys_loop_raises_is_raised(at_once):
    a, b = an.asarray([2, 3]), an.asarray([1, 2])
    for _ in range(5):
        assert an.pow(a, b).tolist() == [2, 9]
    with pytest.raises(ValueError, match="negative integer powers"):
        an.pow(a, an.asarray([1, -1]))


def test_twice_and_twice_differentiated(at_once):
    for _ in range(3):
        x = an.asarray([[0.3, -0.2]], requires_grad=True)
        y = an.sum(an.tanh(x) ** 3)
        y.backward(retain_graph=True)
        first = x.grad.numpy().copy()
        y.backward(retain_graph=True)
        np.testing.assert_array_equal(x.grad.numpy(), 2 * first)
        x.grad = None
        y.backward(create_graph=True)
        np.testing.assert_array_equal(x.grad.detach().numpy(), first)
        assert x.grad.requires_grad
    v = an.asarray([0.3, -0.2], dtype=an.float64, requires_grad=True)
    assert an.gradgradcheck(lambda v: an.tanh(v) ** 3, [v])


NORMS = {
    "LayerNorm": (lambda: an.nn.LayerNorm(9), (5, 9)),
    "LayerNorm, no weights": (lambda: an.nn.LayerNorm(9, elementwise_affine=False), (5, 9)),
    "GroupNorm": (lambda: an.nn.GroupNorm(2, 4), (3, 4, 5, 3)),
    "InstanceNorm2d": (lambda: an.nn.InstanceNorm2d(4, affine=True), (3, 4, 5, 3)),
    "BatchNorm2d": (lambda: an.nn.BatchNorm2d(4), (3, 4, 5, 3)),
    "BatchNorm1d": (lambda: an.nn.BatchNorm1d(4), (6, 4)),
    "BatchNorm2d, evaluation": (lambda: an.nn.BatchNorm2d(4).eval(), (3, 4, 5, 3)),
}


@pytest.mark.parametrize("name", list(NORMS))
@pytest.mark.parametrize("inputs", ["x and weights", "weights", "x", "none"])
def test_normalization_with_its_statistics(name, inputs, at_once, monkeypatch):
    """Functions that give several results have the bits of the calls that they were made of, whatever gradients are asked for."""
    make, shape = NORMS[name]
    rng = np.random.default_rng(0)
    a, g = rng.normal(size=shape), rng.normal(size=shape)

    def run():
        norm = make()
        for p in norm.parameters():
            p.requires_grad = "weights" in inputs
        for _ in range(3):
            x = an.asarray(a, dtype=an.float32, requires_grad="x" in inputs)
            y = norm(x)
            if y.requires_grad:
                norm.zero_grad()
                y.backward(an.asarray(g, dtype=an.float32))
        grads = [t.grad for t in (x, *norm.parameters()) if t.requires_grad]
        return [t.numpy() for t in (y.detach(), *norm.buffers(), *(g for g in grads if g is not None))]

    found = run()
    primitive = PRIMITIVES["normalize_by" if "evaluation" in name else "normalize"]
    assert any(h.table for h in primitive.specializations.values())
    monkeypatch.setattr(specialize, "WARMUP_CALLS", 99)
    primitive.specializations.clear()
    for x, y in zip(found, run(), strict=True):
        assert same(x, y)
    assert not any(h.table for h in primitive.specializations.values())


def test_statistics_are_constants(at_once):
    for given in (an.ones((3, 4)), an.asarray(np.arange(12.0).reshape(3, 4), requires_grad=True)):
        for _ in range(3):
            y, mean, variance = PRIMITIVES["normalize"](given, axes=(1,), eps=1e-5, shape=(1, 4))
            assert y.requires_grad is given.requires_grad
            assert not mean.requires_grad
            assert not variance.requires_grad
            np.testing.assert_allclose(mean.numpy(), given.numpy().mean(1, keepdims=True), rtol=1e-12)
    v = an.asarray(np.random.default_rng(0).normal(size=(2, 9)), requires_grad=True)
    assert an.gradgradcheck(lambda v: an.nn.functional.layer_norm(v, 9), [v])


def test_a_graph_outlives_the_functions(at_once):
    x = an.asarray(np.linspace(-1, 1, 12).reshape(3, 4), requires_grad=True)
    for _ in range(2):
        y = an.tanh(x)
    for prim in PRIMITIVES.values():
        prim.specializations.clear()
    gc.collect()
    y.backward(an.ones_like(y))
    np.testing.assert_allclose(x.grad.numpy(), 1 - np.tanh(x.numpy()) ** 2, rtol=1e-12)


def test_nothing_is_left_behind(at_once):
    """Neither arrays nor references to types, dtypes and None."""
    x = an.asarray(np.ones((8, 8), np.float32), requires_grad=True)
    w = an.asarray(np.ones((8, 8), np.float32), requires_grad=True)

    def step():
        y = an.sum(an.nn.functional.relu(an.nn.functional.linear(x, w)) * w)
        y = y + an.sum(an.nn.functional.layer_norm(x, 8) * an.nn.functional.layer_norm(x.detach(), 8))
        y.backward()
        x.grad = w.grad = None

    for _ in range(5):
        step()
    gc.collect()
    tracemalloc.start()
    try:
        step()
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(300):
            step()
        gc.collect()
        assert tracemalloc.get_traced_memory()[0] - before < 2000
    finally:
        tracemalloc.stop()


def test_threads(at_once, in_threads):
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(16, 16)) for _ in range(4)]
    expected = [np.tanh(v) @ v for v in inputs]
    wrong = []

    def work(i):
        for _ in range(300):
            v = an.Tensor(inputs[i])
            if not np.array_equal(an.matmul(an.tanh(v), v).numpy(), expected[i]):
                wrong.append(i)

    in_threads(*(functools.partial(work, i) for i in range(4)))
    assert not wrong


def test_off_without_kernels(at_once):
    with an.use_kernels(False):
        an.tanh(an.ones((3,)))
    assert not PRIMITIVES["tanh"].specializations


def test_many_forms_are_forgotten(at_once):
    for n in range(1, specialize._MAX_FORMS + 9):
        assert an.tanh(an.zeros((n,))).shape == (n,)
    assert 0 < len(PRIMITIVES["tanh"].specializations[None].table.plans) <= specialize._MAX_FORMS


def test_large_arrays_go_the_other_way(at_once):
    n = specialize.MAX_BYTES // 4 + 1
    an.tanh(an.zeros((n,)))
    assert PRIMITIVES["tanh"].specializations[None].table is None
    an.expand_dims(an.zeros((5,)), axis=0)
    assert an.add(an.zeros((1024, 1)), an.zeros((1, 1024))).shape == (1024, 1024)
    assert all(h.table is None for h in PRIMITIVES["add"].specializations.values())


def test_what_cannot_become_a_function_is_left_alone(monkeypatch):
    monkeypatch.setattr(specialize, "WARMUP_CALLS", 2)
    for name, call in (
        ("diagonal", lambda n: an.linalg.diagonal(an.zeros((n, n)))),  # a view
        ("argsort", lambda n: an.argsort(an.zeros((n,)))),  # no machine code
    ):
        prim = PRIMITIVES[name]
        prim.specializations.clear()
        prim.compilable = True
        for n in range(2, 9):
            for _ in range(4):
                call(n)
        assert not prim.compilable, name


def test_threads_train_while_functions_are_made(at_once, in_threads):
    """A recording in one thread is none in another: steps and gradients go on."""

    def train(seed):
        rng = np.random.default_rng(seed)
        net = an.nn.Sequential(an.nn.Linear(3, 4 + seed), an.nn.Tanh(), an.nn.Linear(4 + seed, 2))
        for p in net.parameters():
            p.assign_(an.asarray(rng.normal(size=p.shape).astype(np.float32)))
        optimizer = an.optim.RMSprop(net.parameters(), lr=0.01)
        out = []
        for n in range(2, 12):
            x = an.asarray(rng.normal(size=(n, 3)).astype(np.float32))
            optimizer.zero_grad()
            an.mean(net(x) ** 2).backward()
            optimizer.step()
            with an.no_grad():
                out.append(an.exp(net(x)).numpy().tobytes())
        return out

    def work(seed):
        try:
            results[seed] = train(seed)
        except Exception as error:
            results[seed] = error

    alone = {seed: train(seed) for seed in range(4)}
    for prim in PRIMITIVES.values():
        prim.specializations.clear()
    results = {}
    in_threads(*(functools.partial(work, seed) for seed in alone))
    assert results == alone


def test_a_compiled_function_that_writes_is_done_once():
    """Where NumPy would warn, a built-in function is done again: not one that writes into a buffer."""
    total = an.nn.Buffer(an.zeros((3,)))

    def add(x):
        total.assign_(total + 1.0 / x)
        return total * 2.0

    compiled = an.compile(add)
    for _ in range(3):
        compiled(an.asarray([1.0, 2.0, 4.0]))
    assert total.tolist() == [3.0, 1.5, 0.75]
    with np.errstate(all="ignore"):
        compiled(an.asarray([1.0, 0.0, 4.0]))
    assert total.tolist() == [4.0, np.inf, 1.0]


def test_a_compiled_function_is_one_of_its_arguments_alone():
    weight = an.nn.Parameter(an.asarray([[1.0, 2.0], [3.0, 4.0]]))
    f = an.compile(lambda x, y: an.exp(an.matmul(x, weight)) * y)
    with an.no_grad():
        for n in (2, 2, 2, 3, 2):
            x, y = an.asarray(np.full((n, 2), 0.1, np.float32)), an.ones((n, 2))
            kept = x.numpy().copy()
            first, second = f(x, y), f(x, y)
            assert not np.shares_memory(first.data, second.data)
            assert np.array_equal(first.numpy(), (an.exp(an.matmul(x, weight)) * y).numpy())
            assert np.array_equal(x.numpy(), kept)
        weight.assign_(an.zeros((2, 2)))
        assert f(x, y).tolist() == [[1.0, 1.0]] * 2
        turned = an.Tensor(np.asfortranarray(np.ones((2, 2), np.float32)))
        assert f(turned, y).tolist() == [[1.0, 1.0]] * 2


def test_more_forms_than_are_kept_are_not_compiled_again_and_again(monkeypatch):
    traced = []

    def plan(prim, need, meta, data):
        traced.append(prim)
        return made(prim, need, meta, data)

    made = specialize._plan
    monkeypatch.setattr(specialize, "_plan", plan)
    monkeypatch.setattr(specialize, "WARMUP_CALLS", 2)
    monkeypatch.setattr(specialize, "_MAX_FORMS", 3)
    PRIMITIVES["tanh"].specializations.clear()
    arrays = [an.zeros((n,)) for n in range(2, 7)]
    for _ in range(60):
        for x in arrays:
            an.tanh(x)
    assert 5 <= len(traced) <= 30  # not 5 in each second of the rounds


def test_forms_that_come_to_nothing_are_asked_about_less_often(monkeypatch):
    tried = []
    monkeypatch.setattr(specialize, "_plan", lambda *_: tried.append(1))
    monkeypatch.setattr(specialize, "WARMUP_CALLS", 2)
    special = specialize.Specialization(PRIMITIVES["exp"], None, {})
    one, other = np.ones(3, np.float32), np.ones(4, np.float32)
    for _ in range(200):
        assert special.observe([one]) is None
    assert len(tried) == 1
    assert special.longest == specialize._MAX_PAUSE
    for _ in range(specialize._MAX_PAUSE + 2):  # another form has its turn all the same
        special.observe([other])
    assert len(tried) == 2


def test_keys_of_metadata_tell_numbers_apart():
    values = [
        1,
        1.0,
        True,
        (1,),
        (1.0,),
        (True,),
        (0.0,),
        (-0.0,),
        ((1,),),
        ((True,),),
        "1",
        ("1",),
        None,
        (None,),
        (),
    ]
    keys = [specialize.static_key(None, {"axis": v}) for v in values]
    assert len(set(keys)) == len(values)
    assert specialize.static_key(None, {"axis": (1, 2)}) == specialize.static_key(None, {"axis": (1, 2)})
    assert specialize.static_key(None, {"axis": ([1],)}) == specialize.UNHASHABLE


def test_what_the_rules_alone_read_is_not_made_without_a_gradient():
    attention = PRIMITIVES["attention"]
    q = np.random.default_rng(0).normal(size=(2, 3, 4)).astype(np.float32)
    for gradient in (False, True):
        x = an.Tensor(q, requires_grad=gradient)
        table, data, need = plans(attention, (x, x, x), {"scale": 0.5})
        assert (int(table.plans[0].record[7]) == 1) is not gradient  # the number of results
        got, expected = table.call(*data), attention.compute(data, need, {"scale": 0.5})[0]
        assert type(expected) is (tuple if gradient else np.ndarray)
        for a, b in zip(results_of(got), expected if gradient else (expected,), strict=True):
            assert same(a, b)
        y = attention(x, x, x, scale=0.5)
        assert isinstance(y, an.Tensor)
        assert y.shape == (2, 3, 4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_arrays_among_the_metadata_are_arguments(at_once, dtype):
    """One function for all indices: what is taken and where it is added is read at each call."""
    gather, scatter = PRIMITIVES["gather_rows"], PRIMITIVES["scatter_rows"]
    rng = np.random.default_rng(0)
    for k in range(4):
        index = rng.integers(0, 5, size=7)
        x = an.Tensor(rng.normal(size=(5, 3)).astype(dtype), requires_grad=True)
        y = gather(x, index=index)
        z = scatter(y, index=index, shape=(6, 3))
        g = rng.normal(size=(6, 3)).astype(dtype)
        z.backward(an.Tensor(g))
        expected = np.zeros((6, 3), dtype)
        np.add.at(expected, index, x.numpy()[index])
        slope = np.zeros((5, 3), dtype)
        np.add.at(slope, index, g[index])
        assert same(y.numpy(), x.numpy()[index]), k
        assert same(z.detach().numpy(), expected), k
        assert same(x.grad.numpy(), slope), k
    for prim in (gather, scatter):
        (made,) = (s for s in prim.specializations.values() if s.need)
        assert len(made.table.plans) == 1
        assert not any(isinstance(v, np.ndarray) for v in made.meta.values())  # none is kept alive


def test_an_index_that_is_outside_is_left_to_numpy(at_once):
    gather, scatter = PRIMITIVES["gather_rows"], PRIMITIVES["scatter_rows"]
    x = an.ones((5, 3))
    for index in (np.array([0, 4]), np.array([-1, 2])):
        assert same(gather(x, index=index).numpy(), x.numpy()[index])
    with pytest.raises(IndexError):
        gather(x, index=np.array([0, 5]))
    rows = an.ones((2, 3))
    assert scatter(rows, index=np.array([0, -1]), shape=(5, 3)).tolist()[4] == [1.0, 1.0, 1.0]
    with pytest.raises(IndexError):
        scatter(rows, index=np.array([0, 5]), shape=(5, 3))
    assert gather.specializations[None].table is not None


def test_a_gradient_that_is_given_on_takes_no_call():
    add = PRIMITIVES["add"]
    x, y = (an.Tensor(np.full((2, 3), v, np.float32), requires_grad=True) for v in (1.0, 2.0))
    table, data, need = plans(add, (x, y), {})
    z, pull = table.call(*data)
    g = np.ones((2, 3), np.float32)
    assert all(found is g for found in pull(g))
    assert same(z, data[0] + data[1])
    assert need == (True, True)


def test_what_draws_is_not_specialized_for_each_draw(at_once):
    x = an.ones((2, 3, 4))
    for _ in range(3):
        an.nn.functional.dropout(x, 0.5)
        an.nn.functional.scaled_dot_product_attention(x, x, x, dropout_p=0.5)
    assert not PRIMITIVES["dropout"].specializations
    assert not PRIMITIVES["attention"].specializations
    an.nn.functional.scaled_dot_product_attention(x, x, x)
    assert len(PRIMITIVES["attention"].specializations) == 1


def test_metadata_as_a_key():
    key = specialize.static_key
    forms = [
        {"a": v}
        for v in (0, 0.0, -0.0, False, 1, 1.0, True, (1,), (True,), (), None, "1", (1, (2, 3)), (1, (2.0, 3)))
    ]
    keys = [key(None, form) for form in (*forms, {"b": 1}, {"a": 1, "b": 1})]
    assert len(set(keys)) == len(keys)
    assert [key(None, form) for form in forms] == keys[: len(forms)]
    assert key((True,), {"a": 1}) != key(None, {"a": 1})
    assert key(None, {"a": [1]}) == specialize.UNHASHABLE


def test_the_step_of_an_axis_of_length_one_says_nothing(at_once):
    relu = PRIMITIVES["relu"]
    x = np.random.default_rng(0).normal(size=(3, 8, 5)).astype(np.float32)
    one, other = x[1:2], np.lib.stride_tricks.as_strided(x[1], (1, 8, 5), (4, 20, 4))
    assert one.strides != other.strides
    table, _, _ = plans(relu, (an.Tensor(one, requires_grad=True),), {})
    y, pull = table.call(one)
    assert same(table.call(other)[0], y)
    assert all(same(a, b) for a, b in zip(pull(one), pull(other), strict=True))
    assert table.call(x[:, :8][:1, ::-1]) is None  # steps of other axes do


FORTRAN = np.asfortranarray(np.random.default_rng(2).normal(size=(4, 6)) > 0)


@pytest.mark.parametrize(
    "function",
    [
        lambda h: -h,
        lambda h: an.where(an.asarray(FORTRAN), h * 0.1, h),
        lambda h: an.where(h > 0, h, 0.1 * h),
        an.tanh,
    ],
    ids=["negative", "where, turned", "where", "tanh"],
)
@pytest.mark.parametrize("kind", ["turned", "repeated", "parts"])
def test_a_gradient_lies_in_memory_as_the_rules_lay_it(function, kind):
    """A product of it may have other last bits where it lies in another way."""
    rng = np.random.default_rng(1)
    g = {
        "turned": rng.normal(size=(6, 4)).T,
        "repeated": np.broadcast_to(rng.normal(size=6), (4, 6)),
        "parts": rng.normal(size=(4, 13))[:, ::2][:, :6],
    }[kind]
    found = []
    for _ in range(60):  # from some call on it is machine code
        variable = an.Tensor(rng.normal(size=(4, 6)), requires_grad=True)
        h = variable * 1.0
        h.register_hook(lambda q: found.append(q._data.strides))
        function(h).backward(an.asarray(g))
    assert len(found) == 60
    assert len(set(found)) == 1
