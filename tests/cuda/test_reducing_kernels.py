"""Kernels that sum groups, rows and windows, and updates as one kernel: beside the CPU, at special points and to second order."""

import inspect

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet.nn import functional as F
from anynet_backends.registry import get_backend

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
inf, nan = np.inf, np.nan
SPECIAL = np.asarray(
    [[1, nan, 3, 3], [inf, 1, inf, 2], [-inf, -inf, -inf, -inf], [0, 0, -0.0, 0], [5, 5, 1, 5]], np.float32
)
LABELS = np.asarray([0, 1, 2, -100, 3])


def value_and_gradients(function, arrays, device):
    xs = [an.asarray(a, device=device, requires_grad=True) for a in arrays]
    with np.errstate(all="ignore"):
        y = function(*xs)
        weights = np.linspace(0.5, 1.5, max(y.size, 1))[: y.size].reshape(y.shape).astype(str(y.dtype))
        an.sum(y * an.asarray(weights, device=device)).backward()
    return [y, *(x.grad for x in xs)]


def as_on_the_cpu(function, *arrays, rtol):
    here, there = (value_and_gradients(function, arrays, device) for device in ("cpu", "cuda"))
    for a, b in zip(there, here, strict=True):
        assert (a.dtype, a.shape) == (b.dtype, b.shape)
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("function", "shapes"),
    [
        (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [(6, 8, 5, 7), (8,), (8,)]),
        (lambda x, w, b: F.batch_norm(x, None, None, w, b, training=True), [(300, 3), (3,), (3,)]),
        (lambda x, w, b: F.group_norm(x, 4, w, b), [(6, 8, 5, 7), (8,), (8,)]),
        (lambda x: F.instance_norm(x), [(2, 3, 9)]),
        (lambda x, w, b: F.layer_norm(x, (5, 7), w, b), [(3, 2, 5, 7), (5, 7), (5, 7)]),
        (lambda x, w, b: F.layer_norm(x, (33,), w, b), [(500, 33), (33,), (33,)]),
        (lambda x, w: F.layer_norm(x, (1300,), w), [(2, 1300), (1300,)]),
        (lambda x, w: F.rms_norm(x, (33,), w), [(9, 33), (33,)]),
        (lambda x: F.layer_norm(an.permute_dims(x, (1, 0)), (6,)), [(6, 4)]),
        (lambda x: F.max_pool2d(an.permute_dims(x, (0, 1, 3, 2)), 2), [(2, 3, 8, 6)]),
        (lambda x: F.max_pool3d(x, 2, 1, 1), [(2, 3, 4, 5, 3)]),
        (lambda x: F.max_pool2d(x, 2, 1, 0, dilation=2), [(2, 3, 8, 6)]),
    ],
)
def test_values_and_gradients(function, shapes, dtype):
    rng = np.random.default_rng(0)
    arrays = [rng.standard_normal(shape).astype(dtype) for shape in shapes]
    as_on_the_cpu(function, *arrays, rtol=3e-5 if dtype == "float32" else 1e-11)


@pytest.mark.parametrize(
    "function",
    [
        *(
            lambda x, how=how: F.max_pool2d(x[None, None], *how)
            for how in ((2,), (2, 1, 0), (3, 1, 1), (2, 2, 1), (3, 2, 1))
        ),
        lambda x: F.max_pool1d(x, 3, 2, 1, ceil_mode=True),
        lambda x: F.cross_entropy(x, an.asarray(LABELS, device=x.device), reduction="none"),
        lambda x: F.layer_norm(x, (4,)),
        lambda x: F.layer_norm(x[:0], (4,)),
        lambda x: F.layer_norm(x[:, :1], (1,)),
        lambda x: F.max_pool1d(x[:0], 2),
        lambda x: F.cross_entropy(x[:0], an.asarray(LABELS[:0], device=x.device), reduction="sum"),
    ],
)
def test_special_points(function):
    as_on_the_cpu(
        function, SPECIAL, rtol=1e-5
    )  # where the variance is 0 a rounded mean is multiplied by 1 / √ε


@pytest.mark.parametrize("labels", [LABELS, np.full(5, -100), np.asarray([2, 1, 2, 2, 3])])
@pytest.mark.parametrize(
    "options", [{}, {"ignore_index": 2}, {"label_smoothing": 0.1}, {"reduction": "sum"}, {"weight": (1.0, 2.0, 0.5, 3.0)}],
    ids=str,
)  # fmt: skip
@pytest.mark.parametrize("loss", [F.cross_entropy, F.nll_loss])
def test_losses_of_classes(loss, labels, options):
    if loss is F.nll_loss and "label_smoothing" in options:
        options = {}
    labels = np.where(labels == -100, options.get("ignore_index", -100), labels)
    x = np.random.default_rng(0).standard_normal((5, 4)).astype(np.float32)

    def function(x):
        given = {k: an.asarray(v, device=x.device) if k == "weight" else v for k, v in options.items()}
        return loss(x, an.asarray(labels, device=x.device), **given)

    as_on_the_cpu(function, x, rtol=1e-5)


def test_second_order():
    def f(x, w):
        labels = an.asarray([0, 1, 2, 3], device=x.device)
        one = an.sum(F.layer_norm(x, (6,), w) ** 3) + F.cross_entropy(x * x, labels)
        return one + an.sum(F.max_pool1d(x**3, 2))

    found = []
    for device in ("cpu", "cuda"):
        x = an.asarray(np.linspace(-1, 2, 24).reshape(4, 6), device=device)
        w = an.asarray(np.linspace(-1, 2, 6), device=device)
        found.append(an.grad(lambda x, w=w: an.sum(an.grad(f)(x, w) ** 2))(x).numpy())
    np.testing.assert_allclose(found[1], found[0], rtol=1e-10)


OPTIMIZERS = [
    name
    for name in optim.__all__
    if inspect.isclass(kind := getattr(optim, name))
    and issubclass(kind, optim.Optimizer)
    and kind.elementwise_update is not optim.Optimizer.elementwise_update
    and not kind.sparse_only
]


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_an_update_is_one_kernel_with_the_numbers_of_the_cpu(name, monkeypatch):
    made = []
    kind = type(get_backend("cupy"))
    bind = kind.bind_program
    monkeypatch.setattr(kind, "bind_program", lambda *args: made.append(bind(*args)) or made[-1])
    after = []
    for device in ("cpu", "cuda"):
        rng = np.random.default_rng(0)
        parameters = [
            an.Parameter(an.asarray(rng.standard_normal(shape).astype(np.float32), device=device))
            for shape in ((3, 4), (7,))
        ]
        optimizer = getattr(optim, name)(parameters, lr=0.01)
        for _ in range(4):
            optimizer.zero_grad()
            sum(an.sum(p**2) for p in parameters).backward()
            optimizer.step()
        after.append([p.numpy() for p in parameters])
    assert made
    assert None not in made
    for a, b in zip(*after, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_what_is_no_kernel_is_computed_by_the_arrays():
    class Own(optim.SGD):
        @staticmethod
        def elementwise_update(xp, p, g, state, c):
            p -= c["lr"] * xp.cosh(g)

    p = an.Parameter(an.asarray(np.ones(3), device="cuda"))
    optimizer = Own([p], lr=0.5)
    an.sum(p).backward()
    optimizer.step()
    np.testing.assert_allclose(p.numpy(), 1 - 0.5 * np.cosh(1.0))


def test_layers_in_half_precision_take_the_reference():
    x = an.asarray(np.ones((2, 4), np.float16), device="cuda")
    assert nn.functional.layer_norm(x, (4,)).dtype == "float16"
    assert F.max_pool1d(x, 2).dtype == "float16"
