"""Modules in a row as one built-in function: the same numbers, and whatever changes is noticed."""

import copy
import inspect
import warnings
import weakref

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.autograd.debug.anomaly import AnomalyError, anomaly
from anynet.autograd.jit import specialize
from anynet.nn.fused_sequential import NEVER_FUSED

F = nn.functional
available = pytest.mark.skipif(not specialize.available(), reason="the extra numba is not installed")


@pytest.fixture(autouse=True)
def _often(monkeypatch):
    monkeypatch.setattr(specialize, "WARMUP_CALLS", 2)


def one_by_one(net):
    twin = copy.deepcopy(net)
    for module in twin.modules():
        if isinstance(module, nn.Sequential):
            module._fused = NEVER_FUSED
    return twin


def mlp(*options):
    an.random.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3), *options)


def inputs(*shape, n=5, requires_grad=False):
    rng = np.random.default_rng(0)
    for _ in range(n):
        yield an.asarray(rng.normal(size=shape).astype(np.float32), requires_grad=requires_grad)


def label(y):
    return y.edge.label


def warm(net, *shape):
    for x in inputs(*shape):
        y = net(x)
    assert label(y) == "Sequential"
    return y


NETS = {
    "mlp": (mlp, (5, 4)),
    "one row": (mlp, (4,)),
    "stack": (mlp, (2, 5, 4)),
    "nested": (lambda: nn.Sequential(nn.Sequential(nn.Linear(4, 6), nn.ReLU()), nn.Linear(6, 3), nn.Softmax(-1)), (5, 4)),
    "named": (lambda: nn.Sequential({"in": nn.Linear(4, 6, bias=False), "act": nn.SiLU(), "out": nn.Linear(6, 2)}), (5, 4)),
    "flat": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 3), nn.LeakyReLU(0.2), nn.Unflatten(1, (3, 1))), (5, 2, 4)),
    "prelu": (lambda: nn.Sequential(nn.Linear(4, 3), nn.PReLU(), nn.ELU(0.5), nn.Softplus()), (5, 4)),
    "norms": (lambda: nn.Sequential(nn.Linear(4, 6), nn.LayerNorm(6), nn.GELU(), nn.RMSNorm(6)), (5, 4)),
    "images": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 2), nn.AvgPool2d(2), nn.Flatten()
        ),
        (2, 2, 10, 10),
    ),
    "evaluation": (
        lambda: nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.RReLU(), nn.Linear(6, 2)).eval(),
        (5, 4),
    ),
}  # fmt: skip


MACHINE_CODE = {"evaluation", "mlp", "one row", "prelu", "stack", "nested", "named", "flat"}
"""Whose operations and gradients all have it."""


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", NETS)
def test_training_has_the_bits_of_modules_one_by_one(name, dtype):
    make, shape = NETS[name]
    an.random.manual_seed(0)
    net = make().to(dtype=dtype)
    other = one_by_one(net)
    optimizers = [an.optim.Adam(m.parameters(), lr=0.01) for m in (net, other)]
    for x in inputs(*shape, n=7, requires_grad=True):
        found = []
        for m, optimizer in zip((net, other), optimizers, strict=True):
            v = an.astype(x.detach(), dtype).requires_grad_()
            optimizer.zero_grad()
            y = m(v)
            an.sum(y * an.cos(y.detach())).backward()
            optimizer.step()
            found.append([y.detach(), v.grad, *[p.grad for p in m.parameters()], *m.parameters()])
        for a, b in zip(*found, strict=True):
            assert a.dtype is b.dtype
            assert np.array_equal(a.numpy(), b.numpy())
    assert not specialize.available() or (label(net(v)) == "Sequential") == (name in MACHINE_CODE)


@pytest.mark.parametrize("name", NETS)
def test_inference_has_the_bits_of_modules_one_by_one(name):
    make, shape = NETS[name]
    net = make().eval()
    other = one_by_one(net)
    with an.no_grad():
        for x in inputs(*shape, n=6):
            assert np.array_equal(net(x).numpy(), other(x).numpy())
            assert not net(x).requires_grad


def pure():
    for name, cls in sorted(vars(nn).items()):
        if inspect.isclass(cls) and issubclass(cls, nn.Module) and cls._pure and cls._pure_in_training:
            yield name


SIZES = {
    "Linear": (3, 2), "Unflatten": (1, (3, 1)), "LayerNorm": (3,), "GroupNorm": (3, 3), "RMSNorm": (3,), "PReLU": (3,),
    "Threshold": (0.1, 2.0), "GLU": (-1,), "Sequential": (), "Hardtanh": (-0.5, 0.5), "Softmax": (1,), "Softmin": (1,),
    "LogSoftmax": (1,),
}  # fmt: skip


@pytest.mark.parametrize("name", list(pure()))
def test_every_pure_layer(name):
    """What is called pure is a function of its input, its tensors and its attributes."""
    cls = getattr(nn, name)
    axes = int(name[-2]) if name[-1] == "d" and name[-2].isdigit() else 0
    options = SIZES.get(name, ())
    if "Conv" in name:
        options = (3, 2, 2)
    elif "LPPool" in name:
        options = (2.0, 2)
    elif "Pool" in name:
        options = (2,)
    shape = (2, 3, *(4,) * axes)
    if name == "GLU":
        shape = (2, 4)
    layer = cls(*options)
    net = nn.Sequential(layer, nn.Identity())
    other = one_by_one(net)
    for x in inputs(*shape, n=6):
        for m in (net, other):
            m.zero_grad()
        ys = []
        for m in (net, other):
            v = an.asarray(x.numpy(), requires_grad=True)
            y = m(v)
            an.sum(y * y).backward()
            ys.append([y.detach(), v.grad, *[p.grad for p in m.parameters()]])
        for a, b in zip(*ys, strict=True):
            assert np.array_equal(a.numpy(), b.numpy())
        with an.no_grad():
            for p, q in zip(net.parameters(), other.parameters(), strict=True):
                p.assign_(p * 0.9)
                q.assign_(q * 0.9)


def test_what_is_not_pure():
    class Own(nn.Linear):
        def forward(self, x):
            return super().forward(x) * self.factor[0]

    own = Own(4, 4)
    own.factor = [1.0]
    for layer in (own, nn.Dropout(0.5), nn.BatchNorm1d(4), nn.RReLU()):
        net = nn.Sequential(layer)
        seen = {label(net(x)) for x in inputs(5, 4, n=6, requires_grad=True)}
        assert seen.isdisjoint({"Sequential"})
    own.factor[0] = 2.0
    x = next(inputs(5, 4))
    assert np.array_equal(nn.Sequential(own)(x).numpy(), 2 * F.linear(x, own.weight, own.bias).numpy())


@available
@pytest.mark.parametrize(
    "change",
    [
        lambda net: setattr(net[1], "negative_slope", 0.5),
        lambda net: net.__setitem__(1, nn.Tanh()),
        lambda net: net.append(nn.ReLU()),
        lambda net: net.insert(0, nn.Tanh()),
        lambda net: net.__delitem__(1),
        lambda net: setattr(net[0], "weight", nn.Parameter(net[0].weight.detach() * 2)),
        lambda net: setattr(net[0].weight, "data", net[0].weight.data * 2),
        lambda net: net[0].weight.assign_(net[0].weight.detach() * 2),
        lambda net: setattr(net[0], "bias", None),
        lambda net: nn.init.constant_(net[2].weight, 0.5),
        lambda net: net.load_state_dict({k: v * 2 for k, v in net.state_dict().items()}),
        lambda net: net[0].register_forward_hook(lambda m, args, y: y * 2),
        lambda net: net[2].register_forward_pre_hook(lambda m, args: (args[0] * 2,)),
        lambda net: setattr(net[1], "forward", lambda x: x * x),
        lambda net: nn.utils.parametrize.register_parametrization(net[2], "weight", nn.Tanh()),
        lambda net: net.to(dtype="float64"),
    ],
)  # fmt: skip
def test_changes_are_noticed(change):
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 6), nn.LeakyReLU(0.1), nn.Linear(6, 6))
    warm(net, 5, 4)
    x = next(inputs(5, 4))
    with an.no_grad():
        before = net(x)
        change(net)
        x = an.astype(x, net[0].weight.dtype if hasattr(net[0], "weight") else x.dtype)
        after = net(x)
        expected = x
        for module in net:
            expected = module(expected)
    assert np.array_equal(after.numpy(), expected.numpy())
    assert not np.array_equal(after.numpy(), before.numpy()) or after.dtype is not before.dtype


@available
def test_the_class_may_be_patched(monkeypatch):
    net = mlp()
    warm(net, 5, 4)
    monkeypatch.setattr(nn.Tanh, "forward", lambda self, x: x * 0.0)
    x = next(inputs(5, 4))
    assert np.array_equal(net(x).numpy(), np.broadcast_to(net[2].bias.numpy(), (5, 3)))


@available
def test_modes_are_found_again():
    net = mlp(nn.Dropout(0.5))
    x = next(inputs(5, 4))
    for _ in range(4):
        net.eval()
        for _ in range(3):
            y = net(x)
        assert label(y) == "Sequential"
        net.train()
        assert label(net(x)) != "Sequential"
    assert len(net._fused.known) == 1


@available
def test_frozen_parameters():
    net = mlp()
    warm(net, 5, 4)
    net[0].requires_grad_(False)
    for x in inputs(5, 4):
        net.zero_grad()
        an.sum(net(x)).backward()
        assert net[0].weight.grad is None
        assert np.allclose(net[2].bias.grad.numpy(), 5.0)
    net.requires_grad_(False)
    assert not net(x).requires_grad
    assert net(an.asarray(x.numpy(), requires_grad=True)).requires_grad


@available
def test_higher_orders():
    net, x = mlp(), next(inputs(3, 4))
    other = one_by_one(net)
    warm(net, 3, 4)

    def penalty(m, v):
        an.sum(m(v) ** 2).backward(create_graph=True)
        g, v.grad = v.grad, None
        m.zero_grad()
        return an.sum(g * g)

    found = []
    for m in (net, other):
        m.zero_grad()
        v = an.asarray(x.numpy(), requires_grad=True)
        penalty(m, v).backward()
        found.append([v.grad, *[p.grad for p in m.parameters() if p.grad is not None]])
    assert len(found[0]) == len(found[1]) == 5
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-6)


@available
def test_the_input_may_be_a_parameter_of_the_modules():
    net = nn.Sequential(nn.Linear(3, 3), nn.Tanh())
    other = one_by_one(net)
    found = []
    for m in (net, other):
        w = m[0].weight
        for _ in range(4):
            w.grad = None
            y = m(w)
            an.sum(y * y).backward(create_graph=True)
            first, w.grad = w.grad, None
            an.sum(first * first).backward()
        assert (label(y) == "Sequential") == (m is net)
        found.append((first.detach().numpy(), w.grad.numpy()))
    for a, b in zip(*found, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


@available
def test_what_was_overwritten_is_noticed_where_it_matters():
    x = next(inputs(5, 4))
    for net in (mlp(), one_by_one(mlp())):
        for _ in range(4):
            y = net(x)
        with an.no_grad():
            net[2].bias.assign_(net[2].bias * 2)  # which no gradient needs
        an.sum(y).backward()
        y = net(x)
        with an.no_grad():
            net[2].weight.assign_(net[2].weight * 2)
        with pytest.raises(an.GradientError, match="was overwritten after the forward pass"):
            an.sum(y).backward()


@available
def test_backward_twice():
    net = mlp()
    y = warm(net, 5, 4)
    z = an.sum(y * y)
    net.zero_grad()
    z.backward(retain_graph=True)
    once = [p.grad.numpy().copy() for p in net.parameters()]
    z.backward()
    for a, p in zip(once, net.parameters(), strict=True):
        assert np.array_equal(2 * a, p.grad.numpy())
    with pytest.raises(an.GradientError, match="freed"):
        z.backward()


@available
def test_who_watches_sees_the_layers():
    net, x = mlp(), next(inputs(5, 4))
    warm(net, 5, 4)
    with an.profile() as seen:
        net(x)
    assert "linear" in str(seen)
    assert "tanh" in str(seen)
    calls = []
    remove = net[1].register_forward_hook(lambda *a: calls.append(a))
    net(x)
    assert len(calls) == 1
    remove()
    net(x)
    assert label(net(x)) == "Sequential"
    with anomaly(), pytest.raises(AnomalyError, match=r"Sequential\.0"):
        net(an.asarray(np.array([[np.inf, -np.inf, 1, 1]], np.float32)))


@available
def test_transforms():
    net, x = mlp(), next(inputs(5, 4))
    other = one_by_one(net)
    warm(net, 5, 4)
    assert np.array_equal(an.vmap(net)(x).numpy(), an.vmap(other)(x).numpy())
    np.testing.assert_allclose(
        an.jacrev(net)(x[0, ...]).numpy(), an.jacrev(other)(x[0, ...]).numpy(), rtol=1e-6
    )
    np.testing.assert_allclose(
        an.jvp(net, (x,), (x,))[1].numpy(), an.jvp(other, (x,), (x,))[1].numpy(), rtol=1e-6
    )
    compiled = an.compile(net)
    for _ in range(3):
        assert np.array_equal(compiled(x).numpy(), other(x).numpy())
    twice = {k: v * 2 for k, v in net.state_dict().items()}
    a, b = (nn.functional_call(m, twice, x) for m in (net, other))
    assert np.array_equal(a.numpy(), b.numpy())


@available
def test_errors_are_those_of_the_layers():
    net = mlp()
    warm(net, 5, 4)
    with pytest.raises(nn.ShapeError, match=r"in Sequential\.0 \(Linear 4→6\)"):
        net(an.ones((5, 3)))
    with pytest.raises(TypeError, match="float64"):
        net(an.ones((5, 4), dtype="float64"))


@available
def test_floating_point_exceptions_are_numpys():
    net = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Identity(), nn.Linear(2, 2, bias=False))
    nn.init.constant_(net[0].weight, 3e38)
    nn.init.constant_(net[2].weight, 3e38)
    small, large = an.zeros((1, 2)), an.ones((1, 2))
    other = one_by_one(net)
    for _ in range(5):
        net(small)
        other(small)
    assert label(net(small)) == "Sequential"
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        y = net(large)
    assert np.isinf(y.numpy()).all()
    with warnings.catch_warnings(record=True) as expected:
        warnings.simplefilter("always")
        other(large)
    assert [str(w.message) for w in seen] == [str(w.message) for w in expected]


@available
def test_kernels_may_be_switched_off():
    net, x = mlp(), next(inputs(5, 4))
    warm(net, 5, 4)
    with an.autograd.primitive.use_kernels(False):
        assert label(net(x)) != "Sequential"
    assert label(net(x)) == "Sequential"


@available
def test_forms_are_many_and_large():
    net = mlp()
    other = one_by_one(net)
    for n in (*range(1, 40), *range(1, 40)):
        x = an.asarray(np.random.default_rng(n).normal(size=(n, 4)).astype(np.float32))
        assert np.array_equal(net(x).numpy(), other(x).numpy())
        back = an.asarray(np.ascontiguousarray(x.numpy()[::-1].T).T[::-1])
        np.testing.assert_allclose(net(back).numpy(), other(x).numpy(), rtol=1e-5, atol=1e-6)
    large = nn.Sequential(nn.Linear(600, 600), nn.ReLU())
    for x in inputs(2, 600):
        y = large(x)
    assert label(y) == "relu"
    frozen = np.ones((5, 4), np.float32)
    frozen.flags.writeable = False
    assert np.array_equal(net(an.Tensor(frozen)).numpy(), other(an.Tensor(frozen)).numpy())
    for empty in (an.zeros((0, 4)), an.zeros((3, 0, 4))):
        for _ in range(4):
            assert net(empty).shape == (*empty.shape[:-1], 3)


@available
def test_threads(in_threads):
    net = mlp()
    other = one_by_one(net)
    xs = list(inputs(5, 4, n=4))
    expected = [other(x).numpy() for x in xs]
    wrong = []

    def work(i):
        for _ in range(60):
            y = net(xs[i])
            an.sum(y * y)
            if not np.array_equal(y.numpy(), expected[i]):
                wrong.append(i)

    in_threads(*[lambda i=i: work(i) for i in range(4)])
    assert not wrong


@available
def test_nothing_is_kept_alive(no_collector):
    net = mlp()
    y = warm(net, 5, 4)
    an.sum(y).backward()
    alive = weakref.ref(net[0].weight)
    del net, y
    assert alive() is None


@available
def test_copies_have_functions_of_their_own():
    net, x = mlp(), next(inputs(5, 4))
    warm(net, 5, 4)
    twin = copy.deepcopy(net)
    part = net[:2]
    assert twin._fused is None  # made again when it is called
    nn.init.constant_(twin[2].weight, 0.0)
    for _ in range(4):
        assert np.array_equal(twin(x).numpy(), np.broadcast_to(twin[2].bias.numpy(), (5, 3)))
        assert np.array_equal(part(x).numpy(), one_by_one(part)(x).numpy())
    assert np.array_equal(net(x).numpy(), one_by_one(net)(x).numpy())


@available
def test_shallow_copies_are_told_apart():
    net, x = mlp(), next(inputs(5, 4))
    warm(net, 5, 4)
    twin = copy.copy(net)
    twin[1] = nn.ReLU()
    for _ in range(3):
        for m, act in ((net, an.tanh), (twin, F.relu), (twin, F.relu), (net, an.tanh)):
            assert np.array_equal(m(x).numpy(), net[2](act(net[0](x))).numpy())


@available
def test_layers_that_were_replaced_are_let_go(no_collector):
    net = mlp()
    net(next(inputs(5, 4)))
    gone = []
    for i in range(4):
        gone.append(weakref.ref(net[0]))
        net[0] = nn.Linear(4, 6)
        for x in inputs(5, 4, n=i):
            net(x)
    assert [ref() for ref in gone] == [None] * 4


def test_names_are_free():
    class Own(nn.Module):
        def __init__(self):
            self.pure = 3.0
            self.linear = nn.Linear(4, 4)

        def forward(self, x):
            self.last = self.linear(x) * self.pure
            return self.last

    net = nn.Sequential(Own(), nn.ReLU())
    for x in inputs(5, 4):
        assert np.array_equal(net(x).numpy(), F.relu(net[0].linear(x) * 3.0).numpy())
        assert net[0].last.shape == (5, 4)
    del net[0].last
    assert not hasattr(net[0], "last")
