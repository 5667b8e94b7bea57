"""Operations that become programs of few kernels on a CUDA device: against the CPU and the references, in all layouts and types."""

import threading

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet.autograd.debug.anomaly import anomaly
from anynet.autograd.jit import on_device
from anynet.autograd.jit.fused import FusedFunction
from anynet.autograd.primitive import PRIMITIVES, use_kernels
from anynet.nn import functional as F
from anynet.ops.softmax import logsumexp
from anynet.testing.parity import CASES, compare
from anynet_backends.jit import cuda_program

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
cuda_log = pytest.importorskip("ci.cuda_emulator.log", reason="ci is not importable")
inf, nan = np.inf, np.nan
rng = np.random.default_rng(3)


@pytest.fixture
def at_once(monkeypatch):
    """Programs from the first call on."""
    monkeypatch.setattr(on_device, "WARMUP_CALLS", 1)
    for prim in PRIMITIVES.values():
        prim.implementations.clear()
    yield
    for prim in PRIMITIVES.values():
        prim.implementations.clear()


def launches(function):
    with cuda_log.Log() as log:
        function()
    assert not log.synchronisations
    return log.launches


def value_and_gradients(function, arrays, device):
    xs = [an.asarray(a, device=device, requires_grad=a.dtype.kind == "f") for a in arrays]
    with np.errstate(all="ignore"):
        y = function(*xs)
        weights = np.linspace(0.5, 1.5, max(y.size, 1))[: y.size].reshape(y.shape).astype(str(y.dtype))
        an.sum(y * an.asarray(weights, device=device)).backward()
    return [y, *(x.grad for x in xs if x.grad is not None)]


def as_on_the_cpu(function, *arrays, rtol, times=2):
    here = value_and_gradients(function, arrays, "cpu")
    for _ in range(times):
        there = value_and_gradients(function, arrays, "cuda")
        for a, b in zip(there, here, strict=True):
            assert (a.dtype, a.shape, a.device) == (b.dtype, b.shape, "cuda:0")
            np.testing.assert_allclose(
                a.numpy().astype("float64"), b.numpy().astype("float64"), rtol=rtol, atol=rtol
            )


FUSED = {
    "softmax": lambda x: F.softmax(x, -1),
    "softmax of columns": lambda x: F.softmax(x, 0),
    "log_softmax": lambda x: F.log_softmax(x, -1),
    "logsumexp": lambda x: logsumexp(x, axis=-1),
    "sigmoid": F.sigmoid,
    "silu": F.silu,
    "gelu, tanh": lambda x: F.gelu(x, approximate="tanh"),
    "elu": F.elu,
    "softplus": F.softplus,
    "mish": F.mish,
    "tanh": an.tanh,
    "clip": lambda x: an.clip(x, -0.5, 0.5),
    "abs": an.abs,
    "var": lambda x: an.var(x, axis=0),
    "cosine": lambda x: F.cosine_similarity(x, x * 0.5 + 1.0, dim=-1),
    "root": lambda x: (x * x + 1.0) ** 0.5,
    "power": lambda x: an.abs(x) ** 1.5,
    "erf": lambda x: an.special.erf(x) * x,
}


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("name", FUSED)
def test_values_and_gradients(name, dtype, at_once):
    x = rng.standard_normal((6, 37)).astype(dtype)
    as_on_the_cpu(FUSED[name], x, rtol={"float16": 4e-3, "float32": 2e-5, "float64": 1e-11}[dtype])


@pytest.mark.parametrize("name", ["softmax", "log_softmax", "silu", "clip", "mish"])
@pytest.mark.parametrize(
    "layout",
    [
        lambda x: an.permute_dims(x, (2, 0, 1)),
        lambda x: x[:, 1:4, ::2],
        lambda x: an.flip(x, axis=1),
        lambda x: an.broadcast_to(x[:, :1], (4, 5, 6)),
        lambda x: an.expand_dims(x, axis=1),
        lambda x: x[1],
        lambda x: x[0, 0, :1],
    ],
)
def test_layouts(name, layout, at_once):
    x = rng.standard_normal((4, 5, 6)).astype("float64")
    as_on_the_cpu(lambda x: FUSED[name](layout(x)), x, rtol=1e-11)


def test_special_values(at_once):
    x = np.asarray([[1, nan, 3, 3], [inf, 1, -inf, 2], [-0.0, 0, 0.5, -0.5]], np.float32)
    for name in ("silu", "clip", "abs", "softplus", "tanh"):
        as_on_the_cpu(FUSED[name], x, rtol=2e-6)
    for function in (F.softmax, F.log_softmax):
        as_on_the_cpu(lambda x, f=function: f(x, -1), x[:2], rtol=2e-6)


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (), (1,), (1, 1)])
def test_few_elements(shape, at_once):
    x = np.full(shape, 0.25)
    as_on_the_cpu(F.silu, x, rtol=1e-12)
    if shape:
        as_on_the_cpu(lambda x: F.softmax(x, -1), x, rtol=1e-12)


@pytest.mark.parametrize("dtype", ["int64", "int32", "uint8", "bool"])
def test_numbers_that_are_no_floats(dtype, at_once):
    a, b = (rng.integers(0, 2 if dtype == "bool" else 9, (5, 7)).astype(dtype) for _ in range(2))
    x = rng.standard_normal((5, 7)).astype("float32")

    def choice(a, b, x):
        return F.huber_loss(
            an.where(a < b, x, 0.0 * x), an.astype(a, an.float32), delta=0.5, reduction="none"
        )

    as_on_the_cpu(choice, a, b, x, rtol=1e-6)


@pytest.mark.parametrize(
    ("shapes", "function"),
    [
        ([(6, 1, 5), (4, 1)], lambda a, b: an.atan2(a, b)),
        ([(3, 4), (4,)], lambda a, b: an.hypot(a, b)),
        ([(2, 3, 4), (3, 1)], lambda a, b: F.huber_loss(a, an.broadcast_to(b, a.shape), reduction="none")),
        ([(5, 6), ()], lambda a, b: an.logaddexp(a, an.broadcast_to(b, (1,)))),
        ([(5, 6), (6,)], lambda a, b: an.maximum(a, b)),
        ([(5, 6), (5, 1)], lambda a, b: a / (1.0 + b * b)),
    ],
)
def test_broadcast_operands_get_sums(shapes, function, at_once):
    as_on_the_cpu(function, *[rng.standard_normal(s) for s in shapes], rtol=1e-10)


@pytest.mark.parametrize(
    ("shape", "axis"),
    [((3, 40000), 1), ((40000, 3), 0), ((200000,), 0), ((2, 9000, 5), (0, 1)), ((70, 300, 11), 1)],
)
def test_long_sums_are_taken_in_parts(shape, axis, at_once):
    x = rng.standard_normal(shape)
    as_on_the_cpu(lambda x: an.std(x, axis=axis), x, rtol=1e-10)
    as_on_the_cpu(lambda x: logsumexp(x, axis=axis), x, rtol=1e-10)


def test_many_long_rows_are_one_launch(at_once):
    x = an.asarray(rng.standard_normal((300, 9000)), device="cuda")
    F.softmax(x, -1)
    assert launches(lambda: F.softmax(x, -1)) == 1
    np.testing.assert_allclose(
        F.softmax(x, -1).numpy(), F.softmax(an.asarray(x.numpy()), -1).numpy(), rtol=1e-11
    )


def test_every_parity_case_of_the_layers_that_reduce(at_once):
    """Attention with masks, in blocks, with dropped weights; losses; normalisation."""
    chosen = [
        c for c in CASES if any(w in c.name for w in ("attention", "loss", "softmax", "norm", "cosine"))
    ]
    assert len(chosen) > 20
    for case in chosen:
        for _ in range(2):
            row = compare(case, "cuda", "float32")
            assert row.ok, row


def test_a_program_is_few_launches_and_no_wait():
    x = an.asarray(rng.standard_normal((8, 33)).astype("float32"), device="cuda", requires_grad=True)

    def step():
        F.softmax(x, -1).backward(an.ones_like(x))
        x.grad = None

    counts = [launches(step) for _ in range(4)]
    assert counts[0] == counts[1] > 9
    assert counts[2] == counts[3] == 3  # forward, the ones, backward


def test_a_new_layout_of_the_gradient_has_a_program_of_its_own(at_once):
    x = an.asarray(rng.standard_normal((6, 5)), device="cuda", requires_grad=True)
    for g in (
        an.asarray(rng.standard_normal((6, 5)), device="cuda"),
        an.permute_dims(an.asarray(rng.standard_normal((5, 6)), device="cuda"), (1, 0)),
        an.broadcast_to(an.asarray(rng.standard_normal((1, 5)), device="cuda"), (6, 5)),
    ):
        x.grad = None
        F.silu(x).backward(g)
        found = x.grad.numpy()
        with use_kernels(False):
            x.grad = None
            F.silu(x).backward(g)
        np.testing.assert_allclose(found, x.grad.numpy(), rtol=1e-13)


def test_the_same_bits_at_every_run(at_once):
    x = an.asarray(rng.standard_normal((300, 70)).astype("float32"), device="cuda", requires_grad=True)

    def once():
        x.grad = None
        y = an.var(F.softmax(x, 0), axis=0)
        an.sum(y).backward()
        return y.numpy().tobytes(), x.grad.numpy().tobytes()

    assert once() == once() == once()


def test_second_order_runs_the_rules(at_once):
    def second(device):
        x = an.asarray(np.linspace(-1, 1, 12).reshape(3, 4), device=device, requires_grad=True)
        g = an.grad(lambda x: an.sum(F.softmax(x, -1) ** 3))
        return an.grad(lambda x: an.sum(g(x) ** 2))(x).numpy()

    for _ in range(2):
        np.testing.assert_allclose(second("cuda"), second("cpu"), rtol=1e-10)


def test_kernels_off_runs_the_reference():
    x = an.asarray(rng.standard_normal((4, 5)).astype("float32"), device="cuda")
    with use_kernels(False):
        counts = [launches(lambda: F.softmax(x, -1)) for _ in range(5)]
    assert set(counts) == {5}


def test_a_capture_compiles_nothing():
    x = an.asarray(rng.standard_normal((4, 9)).astype("float32"), device="cuda")
    shape = an.asarray(rng.standard_normal((4, 10)).astype("float32"), device="cuda")
    for _ in range(3):
        expected = F.softmax(x, -1).numpy()
    stream = cupy.cuda.Stream(non_blocking=True)
    F.softmax(shape, -1)
    F.softmax(shape, -1)  # the third call, which would compile, is in the capture
    with stream:
        stream.begin_capture()
        y, other = F.softmax(x, -1), F.softmax(shape, -1)
        graph = stream.end_capture()
        graph.launch(stream)
        stream.synchronize()
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-6)
    np.testing.assert_allclose(other.numpy().sum(axis=-1), np.ones(4), rtol=1e-6)


def test_dropped_weights_are_others_at_each_call(at_once):
    def masks(device):
        an.random.manual_seed(5)
        x = an.asarray(np.ones((3, 50)), device=device, requires_grad=True)
        found = []
        for _ in range(4):
            y = F.dropout(x, 0.4)
            x.grad = None
            an.sum(y).backward()
            assert (y.numpy() == x.grad.numpy()).all()
            found.append(y.numpy())
        return found

    here, there = masks("cpu"), masks("cuda")
    assert all((a == b).all() for a, b in zip(here, there, strict=True))
    assert not (there[0] == there[1]).all()


def test_kernels_are_bounded(at_once, monkeypatch):
    monkeypatch.setattr(cuda_program, "MAX_KERNELS", len(cuda_program._kernels))
    x = rng.standard_normal((2, 3, 1, 5, 2))
    as_on_the_cpu(lambda x: F.softmax(F.mish(an.permute_dims(x, (4, 0, 2, 1, 3))), 1), x, rtol=1e-11)


def test_a_text_serves_all_shapes(at_once):
    def run(*shape):
        F.softmax(an.asarray(rng.standard_normal(shape).astype("float32"), device="cuda"), -1)

    run(7, 11)
    before = len(cuda_program._kernels)
    for shape in ((8, 11), (11, 11), (100, 3), (2, 3000)):
        run(*shape)
    assert len(cuda_program._kernels) == before


def test_forms_that_are_met_rarely_are_forgotten(at_once):
    for n in range(1, 80):
        x = an.asarray(np.linspace(-2.0, 2.0, n), device="cuda")
        np.testing.assert_allclose(an.sum(F.softmax(x, -1)).item(), 1.0, rtol=1e-12)


def test_threads_at_once():
    x = rng.standard_normal((5, 13))
    expected = F.softmax(an.asarray(x), -1).numpy()
    found = []

    def work():
        for _ in range(5):
            found.append(F.softmax(an.asarray(x, device="cuda"), -1).numpy())

    threads = [threading.Thread(target=work) for _ in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(found) == 20
    for y in found:
        np.testing.assert_allclose(y, expected, rtol=1e-12)


def test_anomaly_mode_and_vmap(at_once):
    x = an.asarray(rng.standard_normal((4, 6)), device="cuda", requires_grad=True)
    expected = F.softmax(an.asarray(x.numpy()), -1).numpy()
    with anomaly():
        y = F.softmax(x, -1)
        an.sum(y * y).backward()
    np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12)
    for _ in range(2):
        z = an.vmap(lambda row: F.softmax(row, 0))(x)
        np.testing.assert_allclose(z.numpy(), expected, rtol=1e-12)


def test_layers_in_a_row_are_one_program():
    def trained(device):
        an.random.manual_seed(2)
        net = nn.Sequential(
            nn.Linear(6, 9), nn.GELU(), nn.Linear(9, 9), nn.ReLU(), nn.Linear(9, 4), nn.Softmax(-1)
        ).to(device, dtype=an.float64)
        optimizer = optim.SGD(net.parameters(), lr=0.5, momentum=0.9)
        x = an.asarray(np.linspace(-1, 1, 30).reshape(5, 6), device=device)
        found = []
        for _ in range(5):
            optimizer.zero_grad()
            y = net(x)
            an.sum(y[:, 0]).backward()
            optimizer.step()
            found += [y.numpy(), *(p.grad.numpy().copy() for p in net.parameters())]
        net.eval()
        return [*found, net(x).numpy(), net(x[:2]).numpy()]

    for here, there in zip(trained("cpu"), trained("cuda"), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-9, atol=1e-12)


def test_a_network_with_a_layer_that_has_kernels_runs_these():
    net = nn.Sequential(nn.Conv2d(2, 3, 3), nn.ReLU(), nn.Flatten(), nn.Linear(48, 2)).to("cuda")
    x = an.asarray(rng.standard_normal((2, 2, 6, 6)).astype("float32"), device="cuda")
    counts = [launches(lambda: net(x)) for _ in range(8)]
    assert counts[-1] <= counts[0]
    np.testing.assert_allclose(
        net(x).numpy(), net.to("cpu")(an.asarray(x.numpy())).numpy(), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("ignored", [0, 2, 5])
def test_a_mean_over_targets(ignored):
    x, t = rng.standard_normal((5, 7)), np.asarray([3, 1, 0, 6, 2])
    t[:ignored] = -100

    def of(device):
        found = []
        for _ in range(5):
            scores = an.asarray(x, device=device, requires_grad=True)
            loss = F.cross_entropy(scores, an.asarray(t, device=device))
            loss.backward()
            found += [loss.numpy(), scores.grad.numpy()]
        return found

    for here, there in zip(of("cpu"), of("cuda"), strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("causal", [False, True])
def test_attention_of_views_of_one_product(causal, at_once):
    x = rng.standard_normal((3, 2, 48))

    def attended(x):
        parts = [
            an.permute_dims(an.reshape(x[..., 16 * i : 16 * i + 16], (3, 2, 4, 4)), (1, 2, 0, 3))
            for i in range(3)
        ]
        return F.scaled_dot_product_attention(*parts, is_causal=causal)

    as_on_the_cpu(attended, x, rtol=1e-10)


def test_a_fused_loss_is_refused_on_two_devices():
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one GPU")
    x, t = an.ones(3, device="cuda:0"), an.ones(3, device="cuda:1")
    for _ in range(4):
        with pytest.raises(ValueError, match="cuda:1"):
            F.mse_loss(x, t)


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_stacks(count, axis, at_once):
    arrays = [rng.standard_normal((4, 5)).astype("float32") for _ in range(count)]
    as_on_the_cpu(lambda *xs: an.stack(xs, axis=axis), *arrays, rtol=1e-7)
    as_on_the_cpu(
        lambda x: sum(an.unstack(x, axis=axis)[k] * (k + 1.0) for k in range(4)), arrays[0], rtol=1e-6
    )


@pytest.mark.parametrize("reduced", [False, True])
def test_a_conversion_to_16_bits_is_rounded_where_it_is_used_further(reduced):
    def function(xs):
        y = an.astype(an.astype(xs[0], "float16"), "float32") * 3.0
        return an.max(y, axis=1) if reduced else y

    x = rng.standard_normal((8, 32)).astype("float32")
    program = FusedFunction("converted", function)
    for _ in range(on_device.WARMUP_CALLS + 2):
        y = program([an.asarray(x, device="cuda")])
    assert launches(lambda: program([an.asarray(x, device="cuda")])) == 1
    np.testing.assert_array_equal(y.numpy(), function([an.asarray(x)]).numpy())


MEETINGS = {
    "transposed": lambda u: u + an.matrix_transpose(u),
    "rows and columns": lambda u: u[0][:, None] * u[1][None, :] - u[1][:, None],
    "one vector": lambda u: (lambda a: a[:, None] - a[None, :])(an.sum(u, axis=0)),
    "summed": lambda u: an.sum(u * an.matrix_transpose(u), axis=-1) * 2.0,
    "turned twice": lambda u: an.exp(u + an.matrix_transpose(u)) - an.matrix_transpose(an.exp(u)),
    "reshaped": lambda u: u + an.matrix_transpose(an.reshape(an.reshape(u, (36,)) * 2.0, (6, 6))),
    "a triangle": lambda u: (lambda t: an.where(t > 0, t + an.matrix_transpose(t), t))(an.triu(u)),
}


@pytest.mark.parametrize("name", MEETINGS)
def test_an_array_meets_itself_seen_otherwise(name):
    def function(xs):
        return MEETINGS[name](an.tanh(xs[0]) * 2.0)

    x = rng.standard_normal((6, 6))
    program = FusedFunction(name, function)
    expected = function([an.asarray(x)]).numpy()
    for _ in range(on_device.WARMUP_CALLS + 2):
        y = program([an.asarray(x, device="cuda")])
        if y is not None:
            np.testing.assert_allclose(y.numpy(), expected, rtol=1e-12, atol=1e-14)
    assert y is not None


@pytest.mark.parametrize("function", ["qr", "svd"])
def test_gradients_of_factors(function, at_once):
    def factors(x):
        found = getattr(an.linalg, function)(x, **({"full_matrices": False} if function == "svd" else {}))
        return sum(an.sum(y**4) for y in found)  # whatever the signs are

    as_on_the_cpu(factors, rng.standard_normal((4, 3)), rtol=1e-9, times=5)
