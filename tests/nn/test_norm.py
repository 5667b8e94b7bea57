"""Normalisation against PyTorch, on the CPU and on array-api-strict, and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.autograd.debug.gradcheck import gradcheck, gradgradcheck
from anynet.nn import functional as F

DEVICES = ("cpu", "strict:device1")
SHAPES = [(5, 4), (1, 4, 3), (3, 4, 6), (2, 4, 5, 3), (2, 4, 1, 7), (2, 4, 3, 2, 2), (7, 1)]


def both(torch, device, arrays, ours, theirs, rng, atol=1e-10):
    """Compare values, gradients, shapes and dtypes of two functions of the same arrays (None allowed)."""
    mine = [None if a is None else an.asarray(a, device=device, requires_grad=True) for a in arrays]
    other = [None if a is None else torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = ours(*mine), theirs(*other)
    assert y.device == device
    g = rng.standard_normal(z.shape).astype(arrays[0].dtype)
    z.backward(torch.tensor(g))
    y.backward(an.asarray(g, device=device))
    pairs = [(y, z), *((a.grad, b.grad) for a, b in zip(mine, other, strict=True) if a is not None)]
    for got, want in pairs:
        assert got.dtype.name == str(arrays[0].dtype)
        assert got.shape == tuple(want.shape)
        np.testing.assert_allclose(got.numpy(), want.detach().numpy(), rtol=atol, atol=atol)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("affine", ["both", "weight", "bias", "none"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_batch_norm_equals_torch(shape, affine, training, device):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    rng = np.random.default_rng(0)
    c = shape[1]
    arrays = [
        2 + 3 * rng.standard_normal(shape),
        rng.standard_normal(c) if affine in ("both", "weight") else None,
        rng.standard_normal(c) if affine in ("both", "bias") else None,
    ]
    mean, var = rng.standard_normal(c), 0.5 + rng.random(c)
    m, v = an.asarray(mean, device=device), an.asarray(var, device=device)
    tm, tv = torch.tensor(mean), torch.tensor(var)
    both(
        torch, device, arrays,
        lambda x, w, b: F.batch_norm(x, m, v, w, b, training, 0.3, 1e-4),
        lambda x, w, b: torch.nn.functional.batch_norm(x, tm, tv, w, b, training, 0.3, 1e-4),
        rng,
    )  # fmt: skip
    np.testing.assert_allclose(m.numpy(), tm.numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(v.numpy(), tv.numpy(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("affine", ["both", "weight", "bias", "none"])
@pytest.mark.parametrize(
    ("shape", "axes"), [((5, 4), 1), ((3, 4, 6), 1), ((3, 4, 6), 2), ((2, 3, 1), 2), ((6,), 1), ((2, 3, 4, 5), 3)]
)  # fmt: skip
def test_layer_norm_equals_torch(shape, axes, affine, device):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    rng = np.random.default_rng(1)
    last = shape[-axes:]
    arrays = [
        2 + 3 * rng.standard_normal(shape),
        rng.standard_normal(last) if affine in ("both", "weight") else None,
        rng.standard_normal(last) if affine in ("both", "bias") else None,
    ]
    both(
        torch, device, arrays,
        lambda x, w, b: F.layer_norm(x, last, w, b, 1e-3),
        lambda x, w, b: torch.nn.functional.layer_norm(x, last, w, b, 1e-3),
        rng,
    )  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize(
    ("shape", "groups"), [((5, 4), 2), ((3, 4, 6), 1), ((3, 4, 6), 4), ((2, 6, 3, 2), 3), ((1, 6, 2), 2)]
)
def test_group_norm_equals_torch(shape, groups, affine, device):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    rng = np.random.default_rng(2)
    arrays = [
        rng.standard_normal(shape),
        *([*rng.standard_normal((2, shape[1]))] if affine else [None, None]),
    ]
    both(
        torch, device, arrays,
        lambda x, w, b: F.group_norm(x, groups, w, b),
        lambda x, w, b: torch.nn.functional.group_norm(x, groups, w, b),
        rng,
    )  # fmt: skip


@pytest.mark.parametrize(
    "f",
    [
        lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        lambda x, w, b: F.group_norm(x, 2, w, b),
        lambda x, w, b: F.layer_norm(an.permute_dims(x, (0, 2, 1)), 4, w, b),
        lambda x, w, b: F.batch_norm(x, an.zeros(4, dtype=an.float64), an.ones(4, dtype=an.float64), w, b),
    ],
    ids=["batch", "group", "layer", "evaluation"],
)
def test_second_order(f):
    rng = np.random.default_rng(3)
    inputs = [an.asarray(rng.standard_normal(s), requires_grad=True) for s in ((3, 4, 2), (4,), (4,))]
    assert gradcheck(f, inputs)
    assert gradgradcheck(f, inputs)
    assert gradgradcheck(lambda x: f(x, *inputs[1:]), inputs[0])
    assert gradgradcheck(lambda w: f(inputs[0].detach(), w, inputs[2]) ** 2, inputs[1])


@pytest.mark.parametrize("name", ["BatchNorm1d", "BatchNorm2d", "BatchNorm3d"])
@pytest.mark.parametrize(
    "options",
    [{}, {"momentum": None}, {"momentum": 0.5, "eps": 1e-2}, {"affine": False}, {"track_running_stats": False}],
    ids=str,
)  # fmt: skip
def test_batch_norm_layers_equal_torch(name, options):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    rng = np.random.default_rng(4)
    theirs = getattr(torch.nn, name)(4, dtype=torch.float64, **options)
    ours = getattr(an.nn, name)(4, dtype=an.float64, **options)
    assert repr(ours).startswith(f"{name}(4, eps={ours.eps}, momentum={ours.momentum}, affine={ours.affine}")
    if theirs.affine:
        torch.nn.init.normal_(theirs.weight)
        torch.nn.init.normal_(theirs.bias)
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    shape = (6, 4, *(3, 2, 2)[: int(name[-2])])
    for _ in range(3):
        x = 1 + 2 * rng.standard_normal(shape)
        both(torch, "cpu", [x], ours, theirs, rng)
    ours.eval()
    theirs.eval()
    both(torch, "cpu", [x], ours, theirs, rng)
    for (key, a), b in zip(ours.state_dict().items(), theirs.state_dict().values(), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12, atol=1e-12, err_msg=key)
        assert a.dtype.name == str(b.dtype).removeprefix("torch.")
    for (key, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-10, atol=1e-10, err_msg=key)
    ours.reset_parameters()
    assert list(type(ours)(4, bias=False).state_dict())[:2] == ["weight", "running_mean"]
    if ours.num_batches_tracked is not None:
        assert int(ours.num_batches_tracked) == 0
        assert ours.running_var.tolist() == [1.0] * 4


def test_layer_and_group_norm_layers_equal_torch():
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    rng = np.random.default_rng(5)
    for name, args, options in (
        ("LayerNorm", (5,), {}),
        ("LayerNorm", ((4, 5),), {"eps": 1e-2}),
        ("LayerNorm", (5,), {"elementwise_affine": False}),
        ("LayerNorm", ([4, 5],), {"bias": False}),
        ("GroupNorm", (2, 4), {}),
        ("GroupNorm", (4, 4), {"affine": False, "eps": 1e-3}),
    ):
        theirs = getattr(torch.nn, name)(*args, dtype=torch.float64, **options)
        ours = getattr(an.nn, name)(*args, dtype=an.float64, **options)
        for p in theirs.parameters():
            torch.nn.init.normal_(p)
        assert list(ours.state_dict()) == list(theirs.state_dict())
        ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
        both(torch, "cpu", [rng.standard_normal((3, 4, 5))], ours, theirs, rng)
        for (key, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-10, atol=1e-10, err_msg=key)
        assert repr(ours).startswith(f"{name}(")


def test_float32_and_float16():
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    rng = np.random.default_rng(6)
    x, w, b = (rng.standard_normal(s).astype("float32") for s in ((8, 4, 5, 5), (4,), (4,)))
    both(
        torch, "cpu", [x, w, b], lambda x, w, b: F.batch_norm(x, None, None, w, b, True),
        lambda x, w, b: torch.nn.functional.batch_norm(x, None, None, w, b, True), rng, 1e-5,
    )  # fmt: skip
    # 300 squared would overflow in float16
    half = an.Tensor((300 * x).astype("float16"), requires_grad=True)
    y = F.batch_norm(half, training=True)
    assert y.dtype.name == "float16"
    np.testing.assert_allclose(
        y.detach().numpy(), F.batch_norm(an.asarray(300 * x), training=True).numpy(), atol=1e-2
    )
    y.backward(an.ones_like(y))
    assert half.grad.dtype.name == "float16"
    assert np.isfinite(half.grad.numpy()).all()


@pytest.mark.parametrize("device", DEVICES)
def test_empty_batch(device):
    x = an.zeros((0, 3, 4), device=device).requires_grad_()
    y = F.layer_norm(x, 4)
    assert y.shape == (0, 3, 4)
    an.sum(y).backward()
    assert x.grad.shape == (0, 3, 4)
    layer = an.nn.BatchNorm1d(3, device=device).eval()
    assert layer(x).shape == (0, 3, 4)


@pytest.mark.parametrize(
    ("axes", "order"), [((5, 6), (0, 2, 1)), ((5, 6), (2, 0, 1)), ((3, 5, 6), (0, 3, 1, 2))], ids=str
)
def test_layer_norm_in_any_order_of_memory(axes, order):
    """Weights belong to axes, however these lie in memory."""
    rng = np.random.default_rng(0)
    plain = rng.standard_normal((4, *axes)).astype(np.float32)
    turned = np.ascontiguousarray(plain.transpose(order)).transpose(np.argsort(order))
    g = an.asarray(rng.standard_normal(plain.shape).astype(np.float32))
    weights = [rng.standard_normal(axes).astype(np.float32) for _ in range(2)]
    found = []
    for x in (plain, turned):
        given = [an.Tensor(a, requires_grad=True) for a in (x, *weights)]
        y = F.layer_norm(given[0], axes, given[1], given[2])
        y.backward(g)
        found.append([y.numpy(), *(a.grad.numpy() for a in given)])
    for got, want in zip(*found, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_non_contiguous_and_unchanged_inputs():
    base = np.random.default_rng(7).standard_normal((6, 7, 4, 3))
    x, before = base.transpose(3, 2, 1, 0)[:, ::2, ::-1], base.copy()
    for f in (
        lambda x: F.batch_norm(x, training=True),
        lambda x: F.layer_norm(x, 6),
        lambda x: F.group_norm(x, 2),
    ):
        np.testing.assert_allclose(f(an.asarray(x)).numpy(), f(an.asarray(x.copy())).numpy(), rtol=1e-12)
    np.testing.assert_array_equal(base, before)


def test_evaluation_changes_nothing():
    layer = an.nn.BatchNorm1d(2)
    layer(an.asarray([[1.0, 2.0], [3.0, 5.0]]))
    before = {k: v.numpy().copy() for k, v in layer.state_dict().items()}
    layer.eval()(an.asarray([[1.0, 9.0]]))
    for k, v in layer.state_dict().items():
        np.testing.assert_array_equal(v.numpy(), before[k])


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: F.batch_norm(an.ones((1, 3)), training=True), ValueError, "more than one value"),
        (lambda: F.batch_norm(an.ones((4, 3))), ValueError, "running_mean"),
        (lambda: F.batch_norm(an.ones(3), training=True), ValueError, "batch, channels"),
        (lambda: F.batch_norm(an.ones((4, 3)), weight=an.ones(2), training=True), ValueError, "weight"),
        (lambda: F.batch_norm(an.ones((4, 3), dtype=an.int64), training=True), TypeError, "floating"),
        (lambda: F.layer_norm(an.ones((4, 3)), 4), ValueError, "normalized_shape"),
        (lambda: F.layer_norm(an.ones((4, 3)), 3, an.ones(4)), ValueError, "weight"),
        (lambda: F.group_norm(an.ones((4, 3)), 2), ValueError, "divide"),
        (lambda: an.nn.BatchNorm1d(3)(an.ones((2, 4))), an.nn.ShapeError, "3 channels"),
        (lambda: an.nn.BatchNorm2d(3)(an.ones((2, 3))), an.nn.ShapeError, "4 axes"),
        (lambda: an.nn.BatchNorm1d(0), ValueError, "num_features must be ≥ 1"),
        (lambda: an.nn.LayerNorm(3)(an.ones((2, 4))), an.nn.ShapeError, "last axes"),
        (lambda: an.nn.LayerNorm(()), ValueError, "normalized_shape must be ≥ 1"),
        (lambda: an.nn.GroupNorm(2, 3), ValueError, "divide"),
        (lambda: an.nn.GroupNorm(2, 4)(an.ones((2, 3))), an.nn.ShapeError, "4 channels"),
    ],
)  # fmt: skip
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_cross_map_lrn_is_lrn_of_odd_windows():
    x = an.asarray(np.random.default_rng(5).normal(size=(2, 6, 3, 4)))
    for size in (1, 3, 5, 9):
        options = {"alpha": 0.5, "beta": 0.6, "k": 2.0}
        expected = nn.LocalResponseNorm(size, **options)(x)
        np.testing.assert_allclose(nn.CrossMapLRN2d(size, **options)(x).numpy(), expected.numpy(), rtol=1e-13)
    squares = x.numpy() ** 2  # an even window: as far on both sides as half of it allows
    around = squares + np.pad(squares, ((0, 0), (1, 1), (0, 0), (0, 0)))[:, :-2]
    around += np.pad(squares, ((0, 0), (1, 1), (0, 0), (0, 0)))[:, 2:]
    expected = x.numpy() / (1.0 + 0.1 / 4 * around) ** 0.75
    np.testing.assert_allclose(nn.CrossMapLRN2d(4, alpha=0.1)(x).numpy(), expected, rtol=1e-13)
    with pytest.raises(ValueError, match="expected 4 axes"):
        nn.CrossMapLRN2d(3)(x[0])
