"""grad and its kin, vmap, checkpoint, custom_vjp, anomaly."""

import math

import pytest

import anynet as an
from anynet import nn
from anynet.autograd.checkpoint import checkpoint
from anynet.autograd.custom_vjp import custom_vjp
from anynet.autograd.debug.anomaly import AnomalyError, anomaly
from anynet.autograd.debug.gradcheck import gradcheck, gradgradcheck
from anynet.autograd.graph import GradientError
from anynet.autograd.transforms import grad, hessian, jacfwd, jacrev, jvp, value_and_grad, vjp
from anynet.autograd.vmap import VmapError, vmap

F64 = an.float64


def arr(x, **kw):
    return an.asarray(x, dtype=F64, **kw)


def close(a, b, tol=1e-12):
    a, b = an.asarray(a), an.asarray(b)
    assert tuple(a.shape) == tuple(b.shape)
    assert float(an.max(an.abs(a - b))) <= tol * max(1.0, float(an.max(an.abs(b))))


def rosenbrock(x):
    return an.sum(100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2)


X = arr([[1.0, 2.0, 3.0], [0.4, 0.5, 0.6]])
W = arr([1.0, -2.0, 0.5])


# ----- grad -----


def test_orders_of_a_power():
    f = lambda x: x**4  # noqa: E731
    values = [16.0, 32.0, 48.0, 48.0, 24.0]
    for want in values:
        assert f(2.0) == want if isinstance(f(2.0), float) else float(f(2.0)) == want
        f = grad(f)
    assert float(grad(f)(2.0)) == 0.0


def test_perturbation_confusion():
    assert float(grad(lambda x: x * grad(lambda y: x + y)(1.0))(1.0)) == 1.0
    assert float(grad(lambda x: x * grad(lambda y: x * y)(x))(3.0)) == 6.0


def test_trees_aux_argnums():
    def f(p, s):
        return an.sum(p["w"] * p["b"][0]) * s, {"seen": p["w"]}

    p = {"w": arr([1.0, 2.0]), "b": [arr(3.0), None]}
    (value, aux), (gp, gs) = value_and_grad(f, argnums=(0, 1), has_aux=True)(p, 2.0)
    assert float(value) == 18.0
    assert aux["seen"].tolist() == [1.0, 2.0]
    assert not aux["seen"].requires_grad
    assert gp["w"].tolist() == [6.0, 6.0]
    assert gp["b"][0].item() == 6.0
    assert gp["b"][1] is None
    assert float(gs) == 9.0


def test_outer_tensor_sees_through():
    x = arr([1.0, 2.0], requires_grad=True)
    an.sum(grad(lambda x: an.sum(x**3))(x)).backward()
    assert x.grad.tolist() == [6.0, 12.0]
    with an.no_grad():
        g = grad(lambda x: an.sum(x**3))(x)
    assert not g.requires_grad
    assert g.tolist() == [3.0, 12.0]
    # a captured variable is another one
    w = arr([5.0, 7.0], requires_grad=True)
    an.sum(grad(lambda x: an.sum(x**2 * w))(arr([1.0, 2.0]))).backward()
    assert w.grad.tolist() == [2.0, 4.0]


def test_nothing_is_accumulated_and_results_are_constants():
    x = arr([1.0, 2.0])
    value, g = value_and_grad(lambda x: an.sum(x * x))(x)
    assert not value.requires_grad
    assert not g.requires_grad
    assert not x.requires_grad


@pytest.mark.parametrize(
    ("f", "x", "error", "match"),
    [
        (lambda x: x * x, arr([1.0, 2.0]), GradientError, "jacrev"),
        (lambda x: an.astype(x, an.complex128), arr(1.0), GradientError, "real number"),
        (lambda x: 3.0, arr(1.0), TypeError, "scalar Tensor"),
        (lambda x: x, an.asarray(1), TypeError, "astype"),
        (lambda x: x, 1, TypeError, "cannot be differentiated"),
    ],
)
def test_errors(f, x, error, match):
    with pytest.raises(error, match=match):
        grad(f)(x)


def test_a_refused_call_leaves_a_module_as_it_was():
    m = model()
    edges = [p.edge for p in m.parameters()]

    def inner(x):
        with pytest.raises(TypeError, match="argument 1"):
            grad(lambda m, s: an.sum(m(X)), argnums=(0, 1))(m, "no")
        return x

    grad(inner)(1.0)
    assert all(p.edge is e for p, e in zip(m.parameters(), edges, strict=True))


def test_argnums_out_of_range():
    with pytest.raises(ValueError, match="argnums 1 is out of range"):
        grad(lambda x: x, argnums=1)(1.0)


def test_independent_argument_is_zero():
    assert grad(lambda x: arr(3.0))(arr([1.0, 2.0])).tolist() == [0.0, 0.0]


# ----- Modules -----


def model():
    return nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 1)).to(F64)


def test_module_argument():
    m = model()
    loss = lambda m, x: an.sum(m(x) ** 2)  # noqa: E731
    value, g = value_and_grad(loss)(m, X)
    close(value, loss(m, X))
    loss(m, X).backward()
    assert list(g) == [name for name, _ in m.named_parameters()]
    for name, p in m.named_parameters():
        close(g[name], p.grad)
    penalty = grad(lambda m: sum(an.sum(v**2) for v in grad(loss)(m, X).values()))(m)
    eps = 1e-6
    p = m[0].bias
    base = p.data
    sides = []
    for s in (eps, -eps):
        p.data = base.copy()
        p.data[1] += s
        sides.append(sum(float(an.sum(v**2)) for v in grad(loss)(m, X).values()))
    p.data = base
    assert float(penalty["0.bias"][1]) == pytest.approx((sides[0] - sides[1]) / (2 * eps), rel=1e-6)


def test_gradients_of_each_example():
    m = model()
    loss = lambda m, x: an.sum(m(x) ** 2)  # noqa: E731
    before = [p.data for p in m.parameters()]
    each = vmap(grad(loss), in_axes=(None, 0))(m, X)
    assert all(p.data is b for p, b in zip(m.parameters(), before, strict=True))
    for i in range(2):
        for name, g in grad(loss)(m, X[i]).items():
            close(each[name][i], g)


def test_cross_entropy_of_each_example():
    m = nn.Linear(3, 4).to(F64)
    labels = an.asarray([2, 0])
    loss = lambda m, x, y: nn.functional.cross_entropy(m(x), y)  # noqa: E731
    each = vmap(grad(loss), in_axes=(None, 0, 0))(m, X, labels)
    for i in range(2):
        for name, g in grad(loss)(m, X[i], labels[i]).items():
            close(each[name][i], g)


# ----- vjp, jvp, Jacobians -----


def test_vjp_and_jvp():
    f = lambda x, y: (an.sin(x) * y, {"s": an.sum(x * y)})  # noqa: E731
    x, y = arr([1.0, 2.0]), arr([3.0, 4.0])
    (a, b), pull = vjp(f, x, y)
    gx, gy = pull((arr([1.0, 10.0]), {"s": arr(2.0)}))
    close(gx, arr([1.0, 10.0]) * an.cos(x) * y + 2.0 * y)
    close(gy, arr([1.0, 10.0]) * an.sin(x) + 2.0 * x)
    close(pull((a * 0 + 1, b))[1], an.sin(x) + b["s"] * x)  # any number of times
    t = arr([0.5, -1.0])
    (_, _), (da, db) = jvp(f, (x, y), (t, t))
    close(da, an.cos(x) * y * t + an.sin(x) * t)
    close(db["s"], an.sum(t * y + x * t))
    with pytest.raises(ValueError, match="structure"):
        pull(arr([1.0, 10.0]))
    with pytest.raises(ValueError, match="tangents"):
        jvp(an.sin, (x,), ())


def test_vmap_of_a_pull_back():
    x = arr([1.0, 2.0, 3.0])
    _, pull = vjp(lambda x: an.stack([an.sum(x * x), x[0] * x[1]]), x)
    (rows,) = vmap(pull)(an.eye(2, dtype=F64))
    close(rows, arr([[2.0, 4.0, 6.0], [2.0, 1.0, 0.0]]))
    assert not rows.requires_grad


def test_complex_jvp():
    z = an.asarray([1.0 + 2j, 0.5 - 1j], dtype=an.complex128)
    t = an.asarray([1j, 2.0 + 1j], dtype=an.complex128)
    close(jvp(an.exp, (z,), (t,))[1], an.exp(z) * t)
    close(jvp(lambda z: an.conj(z) * z, (z,), (t,))[1], an.conj(t) * z + an.conj(z) * t)


def test_jacobians():
    f = lambda x: an.stack([x[0] * x[1], an.sin(x[2]), x[0] ** 2, x[1]])  # noqa: E731
    x = arr([1.0, 2.0, 3.0])
    want = arr([[2.0, 1.0, 0.0], [0.0, 0.0, math.cos(3.0)], [2.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    close(jacrev(f)(x), want)
    close(jacfwd(f)(x), want)
    both = jacrev(lambda a, b: a * b, argnums=(0, 1))(x, x)
    close(both[0], both[1])
    assert jacrev(lambda x: an.expand_dims(x, axis=0))(X).shape == (1, 2, 3, 2, 3)
    assert jacfwd(lambda x: an.expand_dims(x, axis=0))(X).shape == (1, 2, 3, 2, 3)


def test_hessian_of_rosenbrock():
    x = arr([0.5, 1.5, -1.0, 2.0])
    v = x.tolist()
    want = [[0.0] * 4 for _ in range(4)]
    for i in range(3):
        want[i][i] += 1200 * v[i] ** 2 - 400 * v[i + 1] + 2
        want[i + 1][i + 1] += 200
        want[i][i + 1] = want[i + 1][i] = -400 * v[i]
    for h in (
        hessian(rosenbrock),
        jacfwd(grad(rosenbrock)),
        jacfwd(jacfwd(rosenbrock)),
        jacrev(jacrev(rosenbrock)),
    ):
        close(h(x), arr(want))


# ----- vmap -----


FUNCTIONS = {
    "sum": lambda x: an.sum(x),
    "mean axis": lambda x: an.mean(x, axis=-1, keepdims=True),
    "var": lambda x: an.var(x, axis=0, correction=1),
    "prod": lambda x: an.prod(x),
    "max": lambda x: an.max(x, axis=0),
    "argmax": lambda x: an.argmax(x),
    "argmax keep": lambda x: an.argmax(x, keepdims=True),
    "cumulative": lambda x: an.cumulative_sum(x, axis=0, include_initial=True),
    "matmul": lambda x: x @ W[:2],
    "matmul 2": lambda x: x.T @ x,
    "outer": lambda x: x[:, None] * W[None, :2],
    "flip roll": lambda x: an.roll(an.flip(x), 1),
    "roll axis": lambda x: an.roll(x, 1, axis=-1),
    "rearrange": lambda x: nn.functional.channel_shuffle(an.tile(x, (1, 4, 1)), 3),
    "reshape": lambda x: an.reshape(x, (-1,)),
    "permute": lambda x: an.permute_dims(x, (1, 0)),
    "concat": lambda x: an.concat([x, an.zeros((1, 2), dtype=F64)]),
    "stack": lambda x: an.stack([x, x * 2], axis=1),
    "take": lambda x: an.take(x, an.asarray([2, 0, 0]), axis=0),
    "integer arrays": lambda x: x[an.asarray([2, 0]), an.asarray([0, 1])],
    "setitem": lambda x: put(x),
    "where": lambda x: an.where(x > 1.0, x, -x),
    "clip": lambda x: an.clip(x, 0.5, 1.5),
    "broadcast": lambda x: an.broadcast_to(x, (4, *x.shape)),
    "tril": lambda x: an.tril(x),
    "sort": lambda x: an.sort(x, axis=0) if hasattr(an, "sort") else x,
    "astype": lambda x: an.astype(x, an.float32),
    "like": lambda x: an.zeros_like(x) + an.full_like(x, 2.0) * x,
    "softmax": lambda x: nn.functional.softmax(x, -1),
    "linear": lambda x: nn.functional.linear(x, x[:, :2], x[:, 0]),
    "scalar": lambda x: 3.0,
}


def put(x):
    y = an.zeros((2, 3), dtype=F64)
    y[1, :] = x[:, 0]
    y[0, 1] = x[1, 1]
    return y


@pytest.mark.parametrize("name", FUNCTIONS)
def test_vmap_is_a_loop(name):
    f = FUNCTIONS[name]
    x = an.reshape(an.sin(an.arange(24.0, dtype=F64)) * 2, (2, 3, 4))[:, :, :2]
    if name == "matmul 2" or name == "outer":
        x = x[:, :, 0] if name == "outer" else x
    want = an.stack([an.asarray(f(x[i])) for i in range(2)])
    got = vmap(f)(x)
    assert got.dtype == want.dtype
    close(an.astype(got, F64), an.astype(want, F64))
    if want.dtype.kind == "real" and name not in ("scalar", "astype"):
        for i in range(2):
            a = vmap(grad(lambda x: an.sum(f(x) ** 2)))(x)[i]
            close(a, grad(lambda x: an.sum(f(x) ** 2))(x[i]), 1e-12)


def test_vmap_axes_nesting_trees():
    outer = vmap(vmap(lambda a, b: a * b, in_axes=(None, 0)), in_axes=(0, None))(W, W)
    close(outer, W[:, None] * W[None, :])
    swapped = vmap(lambda x: x * 2, in_axes=1, out_axes=1)(X)
    close(swapped, X * 2)
    out = vmap(
        lambda d, k: {"y": d["x"] * k, "k": k}, in_axes=({"x": 0}, None), out_axes={"y": 0, "k": None}
    )({"x": X}, arr(2.0))
    close(out["y"], X * 2)
    assert out["k"].shape == ()


def test_vmap_of_an_index():
    rows = vmap(lambda i: X[i])(an.asarray([1, 0, 1]))
    close(rows, X[an.asarray([1, 0, 1])])
    close(vmap(lambda x, i: x[i])(X, an.asarray([2, 0])), arr([3.0, 0.4]))


def test_grad_of_vmap_of_grad():
    inner = lambda w: vmap(grad(lambda x: an.sum(an.sin(w * x))))(X)  # noqa: E731
    got = grad(lambda w: an.sum(inner(w) ** 2))(W)
    want = grad(lambda w: an.sum((w * an.cos(w * X)) ** 2))(W)
    close(got, want)
    assert not got.requires_grad
    close(vmap(hessian(rosenbrock))(X)[1], hessian(rosenbrock)(X[1]))
    close(vmap(jacfwd(grad(rosenbrock)))(X)[1], hessian(rosenbrock)(X[1]))


def test_vmap_errors():
    with pytest.raises(VmapError, match="branches on data"):
        vmap(lambda x: x if x[0] > 0 else -x)(X)
    with pytest.raises(VmapError, match="item"):
        vmap(lambda x: x * float(x[0]))(X)
    with pytest.raises(GradientError, match="inside vmap"):
        vmap(lambda x: an.sum(x).backward())(X)
    with pytest.raises(ValueError, match="batch sizes differ"):
        vmap(lambda a, b: a)(X, W)
    with pytest.raises(ValueError, match="in_axes has 1 entries"):
        vmap(lambda a, b: a, in_axes=(0,))(X, X)
    with pytest.raises(ValueError, match="all in_axes are None"):
        vmap(lambda a: a, in_axes=None)(X)
    with pytest.raises(ValueError, match="differs from example"):
        vmap(lambda a: a, out_axes=None)(X)
    assert "one example of a batch" in repr_inside()


def repr_inside():
    seen = []
    vmap(lambda x: seen.append(repr(x)) or x)(X)
    return seen[0]


# ----- checkpoint -----


def test_checkpoint():
    m = model()
    x = arr([[1.0, 2.0, 3.0]], requires_grad=True)
    calls = []

    def f(x):
        calls.append(1)
        return an.exp(an.sin(m(x))), x * 2.0

    a, _ = checkpoint(f, x)
    assert a.edge.label == "checkpoint(f)[0]"
    an.sum(a).backward()
    assert len(calls) == 2
    want = grad(lambda x: an.sum(f(x)[0]))(x)
    close(x.grad, want)
    assert all(p.grad is not None for p in m.parameters())
    assert gradcheck(lambda x: checkpoint(f, x), x, parameters=m)
    assert gradgradcheck(lambda x: checkpoint(f, x), x, parameters=m)
    close(vmap(grad(lambda x: an.sum(checkpoint(f, x)[0])))(X)[1], grad(lambda x: an.sum(f(x)[0]))(X[1]))


def test_checkpoint_repeats_dropout():
    x = arr([1.0] * 50, requires_grad=True)
    y = checkpoint(lambda x: nn.functional.dropout(x, 0.5) * x, x)
    nn.functional.dropout(x.detach(), 0.5)  # the stream moves on
    an.sum(y).backward()
    close(x.grad, 2.0 * y.detach())


def test_checkpoint_overwritten():
    w = arr([1.0], requires_grad=True)
    y = checkpoint(lambda: an.sum(w * w))
    with an.no_grad():
        w += 1.0
    with pytest.raises(GradientError, match="overwritten"):
        y.backward()


# ----- custom_vjp -----


def test_custom_vjp_refuses_a_variable_that_is_no_argument():
    w = an.asarray([2.0], requires_grad=True)
    net = an.nn.Linear(1, 1)
    doubled = 2 * w
    for inside, named in (
        (lambda x: x * w, r"of shape \(1,\)"),
        (lambda x: an.exp(x) * doubled, "the result of"),
        (lambda x: net(x), r"of shape \(1"),
    ):
        f = custom_vjp(inside)
        f.defvjp(lambda x, f=f: (f(x), x), lambda x, g: (g,))
        with pytest.raises(an.GradientError, match=f"a variable that is no argument.*{named}.*detach"):
            f(an.asarray([1.0], requires_grad=True))
    f = custom_vjp(lambda x: x * w.detach() + an.asarray([1.0]))
    f.defvjp(lambda x: (f(x), x), lambda x, g: (g * 7,))
    x = an.asarray([1.0], requires_grad=True)
    an.sum(f(x)).backward()
    assert x.grad.numpy().tolist() == [7.0]
    scale = custom_vjp(lambda w, x: x * w, nondiff_argnums=(0,))
    scale.defvjp(lambda w, x: (x * w, ()), lambda w, _, g: (g * w,))
    assert an.grad(lambda x: an.sum(scale(w, x)))(x).numpy().tolist() == [2.0]


def test_custom_vjp():
    @custom_vjp
    def clipped(x, limit):
        return x * limit

    clipped.defvjp(lambda x, c: (x * c, (x, c)), lambda res, g: (g * 10.0 * res[0] * res[1], None))
    x = arr([1.0, 2.0])
    assert grad(lambda x: an.sum(clipped(x, arr(3.0))))(x).tolist() == [30.0, 60.0]
    assert hessian(lambda x: an.sum(clipped(x, arr(3.0))))(x).tolist() == [[30.0, 0.0], [0.0, 30.0]]
    close(vmap(grad(lambda x: an.sum(clipped(x, arr(3.0)))))(X), 30.0 * X)

    power = custom_vjp(lambda n, x: x**n, nondiff_argnums=(0,))
    with pytest.raises(GradientError, match="defvjp"):
        power(2, x)
    power.defvjp(lambda n, x: (power(n, x), x), lambda n, x, g: (g * n * x ** (n - 1),))
    assert grad(lambda x: an.sum(power(3, x)))(x).tolist() == [3.0, 12.0]
    power.defvjp(lambda n, x: (power(n, x), x), lambda n, x, g: g)
    with pytest.raises(GradientError, match="tuple of 1"):
        grad(lambda x: an.sum(power(3, x)))(x)
    power.defvjp(lambda n, x: (power(n, x), x), lambda n, x, g: (an.sum(g),))
    with pytest.raises(GradientError, match=r"shape \(\)"):
        grad(lambda x: an.sum(power(3, x)))(x)


# ----- anomaly -----


class Bad(nn.Module):
    def __init__(self):
        self.inner = nn.Sequential(nn.Linear(3, 2), Log())

    def forward(self, x):
        return self.inner(x)


class Log(nn.Module):
    def forward(self, x):
        return an.log(-an.abs(x))


def test_anomaly_forward():
    with (
        anomaly(),
        pytest.raises(AnomalyError, match=r"in Bad\.inner\.1: log\(x: float32\(2, 2\)\) gave NaN"),
    ):
        Bad()(an.astype(X, an.float32))
    with anomaly(), pytest.raises(AnomalyError, match=r"divide.*gave Inf \(1 of 2"):
        1.0 / arr([0.0, 1.0])
    with anomaly():  # an Inf that was there before
        an.where(an.asarray([True, False]), arr([1.0, 2.0]), -math.inf) * 2.0


def test_anomaly_backward():
    x = arr([0.0, 1.0], requires_grad=True)
    with anomaly():
        y = an.sum(an.sqrt(x))
        with pytest.raises(AnomalyError, match=r"gradient of sqrt .* Inf \(1 of 2"):
            y.backward()
    an.sum(an.abs(x)).backward()  # and off again


# ----- against torch.func -----


@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_against_torch():
    torch = pytest.importorskip("torch", reason="compares with torch.func where torch is installed")
    x = X.numpy()
    t = torch.tensor(x)

    def f(lib):
        return lambda x: lib.sin(x) * lib.exp(-x) + lib.tanh(x) ** 2

    g = lambda x: an.sum(f(an)(x))  # noqa: E731
    h = lambda x: f(torch)(x).sum()  # noqa: E731
    close(grad(g)(X), torch.func.grad(h)(t).numpy(), 1e-12)
    close(hessian(g)(X), torch.func.hessian(h)(t).numpy(), 1e-12)
    close(jacrev(f(an))(X), torch.func.jacrev(f(torch))(t).numpy(), 1e-12)
    close(jvp(f(an), (X,), (X,))[1], torch.func.jvp(f(torch), (t,), (t,))[1].numpy(), 1e-12)
    close(vmap(grad(g))(X), torch.func.vmap(torch.func.grad(h))(t).numpy(), 1e-12)


def test_on_another_backend():
    pytest.importorskip("array_api_strict", reason="array-api-strict stands in for a GPU")
    x = X.to("strict:device1")
    close(vmap(grad(rosenbrock))(x).to("cpu"), vmap(grad(rosenbrock))(X))
    close(hessian(rosenbrock)(x[0, ...]).to("cpu"), hessian(rosenbrock)(X[0]))
    close(jvp(an.sin, (x,), (x,))[1].to("cpu"), an.cos(X) * X)
    y = an.asarray(x, requires_grad=True)
    assert gradcheck(lambda x: checkpoint(an.tanh, x), y)
