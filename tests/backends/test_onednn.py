"""oneDNN's kernels where the library is installed; without it nothing of it is there."""

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import anynet as an
import anynet_backends
from anynet_backends import backend, onednn

F = an.nn.functional
installed = pytest.mark.skipif(onednn.find() is None, reason="the extra onednn is not installed")

SHAPES = [
    ((4, 3, 9, 8), (6, 3, 3, 3), {"padding": 1}),
    ((4, 4, 9, 8), (6, 2, 3, 2), {"stride": 2, "groups": 2}),
    ((2, 1, 28, 28), (8, 1, 5, 5), {}),
    ((2, 6, 11), (4, 6, 3), {"dilation": 2, "padding": 2}),
    ((1, 2, 5, 6, 4), (3, 2, 2, 2, 2), {}),
    ((3, 8, 7, 7), (8, 8, 1, 1), {"stride": 2}),
    ((2, 8, 7, 7), (8, 1, 3, 3), {"groups": 8, "padding": "same"}),
    ((2, 16, 12, 12), (32, 16, 3, 3), {"padding": 1}),
]


def test_without_it_there_is_nothing_of_it():
    code = (
        "import anynet_backends as b; x = b.backend('numpy'); print(x.kernels['conv'].__module__, x.matmul)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"ANYNET_ONEDNN": "off"},
        capture_output=True,
        text=True,
    )
    assert done.stdout.split()[0] == "anynet_backends.numpy_convolution", done.stderr
    assert "onednn" not in done.stdout


def test_the_error_names_the_extra(monkeypatch):
    monkeypatch.setattr(onednn, "_loaded", None)
    monkeypatch.setattr(onednn, "find", lambda: None)
    with pytest.raises(onednn.OneDNNError, match=r"pip install 'anynet-nn\[onednn\]'"):
        onednn._library()


@installed
@pytest.mark.parametrize("layout", ["as it is", "channels last", "batch last", "strided", "read-only"])
@pytest.mark.parametrize(("x", "w", "options"), SHAPES, ids=str)
def test_convolution_against_the_reference(x, w, options, layout):
    rng = np.random.default_rng(0)
    image, weight, bias = (rng.normal(size=s).astype(np.float32) for s in (x, w, w[:1]))
    if layout == "channels last":
        image = np.moveaxis(np.ascontiguousarray(np.moveaxis(image, 1, -1)), -1, 1)
    elif layout == "batch last":
        image = np.moveaxis(np.ascontiguousarray(np.moveaxis(image, 0, -1)), -1, 0)
    elif layout == "strided":
        image = np.repeat(image, 2, axis=-1)[..., ::2]
    elif layout == "read-only":
        image.flags.writeable = False
    function = getattr(F, f"conv{len(x) - 2}d")
    found = []
    for on in (True, False):
        arguments = [an.Tensor(a, requires_grad=True) for a in (image, weight, bias)]
        with an.use_kernels(on):
            y = function(*arguments, **options)
            an.sum(y * y).backward()
        found.append([y, *(a.grad for a in arguments)])
    for ours, reference in zip(*found, strict=True):
        assert ours.dtype is an.float32
        a, b = ours.numpy(), reference.numpy()
        assert a.shape == b.shape
        assert np.linalg.norm((a - b).ravel()) <= 2e-6 * np.linalg.norm(b.ravel())


@installed
def test_other_dtypes_and_empty_batches_take_the_other_kernel():
    weight = an.ones((2, 1, 3, 3))
    assert F.conv2d(an.zeros((0, 1, 5, 5)), weight).shape == (0, 2, 3, 3)
    assert (
        F.conv2d(an.ones((1, 1, 5, 5), dtype=an.float64), an.astype(weight, an.float64)).dtype is an.float64
    )
    with pytest.raises(ValueError, match="conv2d"):
        F.conv2d(an.ones((1, 1, 2, 2)), weight)


@installed
def test_products_of_all_orders():
    rng = np.random.default_rng(0)
    matmul = anynet_backends.backend("numpy").matmul
    assert matmul is onednn.matmul
    a, b = rng.normal(size=(190, 180)).astype(np.float32), rng.normal(size=(180, 170)).astype(np.float32)
    big, big_t = np.asfortranarray(a), np.ascontiguousarray(b.T).T
    wide = np.zeros((190, 200), np.float32)
    wide[:, :180] = a
    for left in (a, big, wide[:, :180], np.repeat(a, 2, axis=1)[:, ::2], a[::-1][::-1]):
        for right in (b, big_t):
            assert np.linalg.norm(matmul(left, right) - a @ b) <= 1e-6 * np.linalg.norm(a @ b)
    out = np.empty((190, 170), np.float32)
    assert matmul(a, b, out) is out
    assert np.linalg.norm(out - a @ b) <= 1e-6 * np.linalg.norm(a @ b)
    for left, right in ((a[:3], b), (a.astype(np.float64), b), (a[0], b), (np.stack([a, a]), b)):
        np.testing.assert_array_equal(matmul(left, right), np.matmul(left, right))
    with pytest.raises(ValueError, match="matmul"):
        matmul(a, a)
    a[0, 0] = np.nan
    assert np.isnan(matmul(a, b)[0]).all()


@installed
def test_threads_share_plans():
    rng = np.random.default_rng(0)
    x, w = (an.asarray(rng.normal(size=s).astype(np.float32)) for s in ((2, 4, 16, 16), (4, 4, 3, 3)))
    expected = F.conv2d(x, w).numpy()
    wrong = []

    def work():
        for _ in range(30):
            if not (F.conv2d(x, w).numpy() == expected).all():
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(3)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


@installed
def test_plans_are_bounded(monkeypatch):
    monkeypatch.setattr(onednn, "PLANS", 3)
    plans = onednn._Plans(lambda n: [n])
    for n in (1, 2, 3, 1, 4):
        assert plans(n) == [n]
    assert list(plans.known) == [(3,), (1,), (4,)]


@installed
def test_a_compiled_step_gives_the_bits_of_eager():
    rng = np.random.default_rng(0)
    x, t = an.asarray(rng.normal(size=(8, 3, 12, 12)).astype(np.float32)), an.asarray(rng.integers(0, 5, 8))
    found = []
    for compiled in (False, True):
        an.random.manual_seed(0)
        net = an.nn.Sequential(
            an.nn.Conv2d(3, 8, 3, padding=1), an.nn.BatchNorm2d(8), an.nn.ReLU(), an.nn.MaxPool2d(2), an.nn.Flatten(),
            an.nn.Linear(288, 300), an.nn.ReLU(), an.nn.Linear(300, 5),
        )  # fmt: skip
        optimizer = an.optim.Adam(net.parameters())

        def step(x, t, net=net, optimizer=optimizer):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), t)
            loss.backward()
            optimizer.step()
            return loss

        run = an.compile(step) if compiled else step
        losses = [run(x, t).item() for _ in range(5)]
        found.append((losses, {k: v.numpy().copy() for k, v in net.state_dict().items()}))
    assert found[0][0] == found[1][0]
    for name, value in found[0][1].items():
        assert (value == found[1][1][name]).all(), name


NORMS = [  # shape, axes, whether with weights
    ((16, 8, 12, 10), (0, 2, 3), True), ((16, 8, 12, 10), (0, 2, 3), False), ((9, 4, 300), (0, 2), True),
    ((4, 3, 9, 10, 11), (0, 2, 3, 4), True), ((512, 33), (0,), True), ((200, 64), (1,), True), ((7, 30, 48), (2,), True),
    ((7, 30, 48), (2,), False), ((5, 20, 10, 12), (2, 3), True),
]  # fmt: skip


@installed
@pytest.mark.parametrize(("shape", "axes", "weighted"), NORMS)
@pytest.mark.parametrize("order", ["plain", "channels last"])
def test_normalization_equals_the_reference_in_double(shape, axes, weighted, order):
    rng = np.random.default_rng(0)
    x = (rng.normal(size=shape) * 3 + 2).astype(np.float32)
    if order == "channels last" and len(shape) > 2 and axes[0] == 0:
        x = np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)
    over_batch = axes[0] == 0
    own = tuple(n if (i == 1 if over_batch else i in axes) else 1 for i, n in enumerate(shape))
    flat = tuple(n for n in own if n > 1)
    w, b = ((rng.uniform(0.5, 1.5, flat)).astype(np.float32), rng.normal(size=flat).astype(np.float32))
    given = (x, w, b) if weighted else (x,)
    need = (True,) * len(given)
    found = onednn.KERNELS["normalize"](backend("numpy"), *given, axes=axes, eps=1e-3, shape=own, need=need)
    assert found is not NotImplemented
    (y, mean, variance), pull = found
    inference = onednn.KERNELS["normalize"](
        backend("numpy"), *given, axes=axes, eps=1e-3, shape=own, need=None
    )
    g = rng.normal(size=shape).astype(np.float32)
    grads = pull((g, None, None))
    d, gd = x.astype(np.float64), g.astype(np.float64)
    m, v = d.mean(axis=axes, keepdims=True), d.var(axis=axes, keepdims=True)
    unit = (d - m) / np.sqrt(v + 1e-3)
    scale = w.reshape(own).astype(np.float64) if weighted else 1.0
    expected = unit * scale + (b.reshape(own) if weighted else 0.0)
    inner = gd * scale
    n = np.prod([shape[i] for i in axes])
    back = (
        inner
        - inner.sum(axis=axes, keepdims=True) / n
        - unit * (inner * unit).sum(axis=axes, keepdims=True) / n
    )
    rest = tuple(i for i in range(len(shape)) if own[i] == 1)
    wanted = [
        back / np.sqrt(v + 1e-3),
        (gd * unit).sum(axis=rest).reshape(flat),
        gd.sum(axis=rest).reshape(flat),
    ]
    for a in (y, inference[0]):
        assert np.allclose(a, expected, rtol=1e-5, atol=1e-5)
    assert np.allclose(mean, m, rtol=1e-5, atol=1e-5)
    assert np.allclose(variance, v, rtol=1e-5, atol=1e-5)
    assert mean.shape == m.shape
    for a, e in zip(grads, wanted, strict=False):
        assert a.dtype == np.float32
        assert a.shape == e.shape
        assert abs(a - e).max() <= 2e-5 * max(1.0, abs(e).max())


@installed
def test_normalization_leaves_what_it_does_not_know():
    xp, x = backend("numpy"), np.ones((64, 8, 32), np.float32)
    run = onednn.KERNELS["normalize"]
    options = {"axes": (0, 2), "eps": 1e-5, "shape": (1, 8, 1), "need": None}
    assert run(xp, x.astype(np.float64), **options) is NotImplemented
    assert run(xp, x[:1, :, :2], **options) is NotImplemented  # too small to be worth the call
    assert run(xp, x, np.ones(8, np.float32), **options) is NotImplemented  # a weight alone
    assert run(xp, x, **{**options, "axes": (0,)}) is NotImplemented
