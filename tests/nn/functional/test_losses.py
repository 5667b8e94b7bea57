"""Losses: values and gradients are PyTorch's; shapes that would broadcast, and bad class indices, are refused."""

import math

import numpy as np
import pytest

import anynet as an
from anynet.autograd.debug.gradcheck import gradcheck, gradgradcheck
from anynet.nn import functional as F
from torch_oracle import torch

TF = torch.nn.functional
DEVICES = ("cpu", "strict:device1")


def draw(*shape, seed=0, scale=2.0):
    return np.random.default_rng(seed).normal(size=shape) * scale


def both(device, ours, theirs, *arrays, tolerance=1e-10):
    """Run both on float64 arrays (the first ones that need gradients) and compare values and gradients."""
    xs = [an.asarray(a, device=device, requires_grad=True) for a in arrays]
    ts = [torch.tensor(a, requires_grad=True) for a in arrays]
    y, t = ours(*xs), theirs(*ts)
    assert y.shape == tuple(t.shape)
    assert y.dtype == an.float64
    assert y.device == device
    np.testing.assert_allclose(y.numpy(), t.detach().numpy(), rtol=tolerance, atol=tolerance)
    an.sum(y * y).backward()
    (t * t).sum().backward()
    for x, u in zip(xs, ts, strict=True):
        np.testing.assert_allclose(x.grad.numpy(), u.grad.numpy(), rtol=tolerance, atol=tolerance)


REDUCTIONS = pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
ON = pytest.mark.parametrize("device", DEVICES)

REGRESSION = [
    ("mse_loss", {}), ("l1_loss", {}), ("huber_loss", {}), ("huber_loss", {"delta": 0.3}), ("smooth_l1_loss", {}),
    ("smooth_l1_loss", {"beta": 0.4}), ("smooth_l1_loss", {"beta": 0.0}),
]  # fmt: skip


@ON
@REDUCTIONS
@pytest.mark.parametrize(("name", "options"), REGRESSION)
def test_regression(device, reduction, name, options):
    both(
        device,
        lambda x, t: getattr(F, name)(x, t, reduction=reduction, **options),
        lambda x, t: getattr(TF, name)(x, t, reduction=reduction, **options),
        draw(5, 3), draw(5, 3, seed=1),
    )  # fmt: skip


@ON
@REDUCTIONS
@pytest.mark.parametrize("weighted", [False, True])
def test_binary_cross_entropy(device, reduction, weighted):
    w = np.random.default_rng(2).uniform(size=(4, 3)) if weighted else None
    aw = None if w is None else an.asarray(w, device=device)
    tw = None if w is None else torch.tensor(w)
    p = np.random.default_rng(3).uniform(0.01, 0.99, size=(4, 3))
    t = np.random.default_rng(4).uniform(size=(4, 3))
    both(
        device,
        lambda x: F.binary_cross_entropy(x, an.asarray(t, device=device), weight=aw, reduction=reduction),
        lambda x: TF.binary_cross_entropy(x, torch.tensor(t), weight=tw, reduction=reduction),
        p,
    )
    both(
        device,
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, weight=aw, reduction=reduction),
        lambda x, t: TF.binary_cross_entropy_with_logits(x, t, weight=tw, reduction=reduction),
        draw(4, 3, scale=5.0), t,
    )  # fmt: skip


@ON
def test_pos_weight(device):
    pos = np.asarray([0.5, 1.0, 3.0])
    t = np.random.default_rng(4).uniform(size=(4, 3))
    both(
        device,
        lambda x, t: F.binary_cross_entropy_with_logits(x, t, pos_weight=an.asarray(pos, device=device)),
        lambda x, t: TF.binary_cross_entropy_with_logits(x, t, pos_weight=torch.tensor(pos)),
        draw(4, 3, scale=5.0), t,
    )  # fmt: skip


def test_binary_extremes():
    for p, t in ((0.0, 1.0), (1.0, 0.0), (0.0, 0.0), (1.0, 1.0)):
        x, u = an.asarray([p], requires_grad=True), torch.tensor([p], requires_grad=True)
        y = F.binary_cross_entropy(x, an.asarray([t]))
        v = TF.binary_cross_entropy(u, torch.tensor([t]))
        y.backward()
        v.backward()
        assert y.item() == v.item()
        np.testing.assert_allclose(x.grad.numpy(), u.grad.numpy(), rtol=1e-5)
    x = an.asarray([1000.0, -1000.0], requires_grad=True)
    y = F.binary_cross_entropy_with_logits(x, an.asarray([0.0, 1.0]), reduction="sum")
    y.backward()
    assert y.item() == 2000.0
    assert x.grad.tolist() == [1.0, -1.0]


SHAPES = [((6, 4), (6,)), ((4,), ()), ((3, 4, 5), (3, 5)), ((2, 4, 3, 2), (2, 3, 2))]


@ON
@REDUCTIONS
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("shape", "target"), SHAPES)
def test_cross_entropy(device, reduction, smoothing, weighted, shape, target):
    index = np.random.default_rng(5).integers(0, 4, size=target)
    if target:
        index = np.asarray(index)
        index.reshape(-1)[1] = -100
    w = np.asarray([0.5, 1.0, 2.0, 0.0]) if weighted else None
    aw, tw = (None, None) if w is None else (an.asarray(w, device=device), torch.tensor(w))
    options = {"reduction": reduction, "label_smoothing": smoothing}
    ai, ti = an.asarray(index, dtype=an.int64, device=device), torch.tensor(index)
    both(
        device,
        lambda x: F.cross_entropy(x, ai, aw, **options),
        lambda x: TF.cross_entropy(x, ti, tw, **options),
        draw(*shape),
    )
    if not smoothing:
        both(
            device,
            lambda x: F.nll_loss(x, ai, aw, reduction=reduction),
            lambda x: TF.nll_loss(x, ti, tw, reduction=reduction),
            draw(*shape),
        )
    q = np.random.default_rng(6).uniform(size=shape)
    both(
        device,
        lambda x, q: F.cross_entropy(x, q, aw, **options),
        lambda x, q: TF.cross_entropy(x, q, tw, **options),
        draw(*shape), q,
    )  # fmt: skip


def test_cross_entropy_details():
    x = an.asarray(draw(3, 4), requires_grad=True)
    assert math.isnan(F.cross_entropy(x, an.asarray([-100, -100, -100])).item())
    assert F.cross_entropy(x, an.asarray([7, 1, 7]), ignore_index=7).shape == ()
    assert (
        F.cross_entropy(x, [0, 1, 2]).item()
        == F.cross_entropy(x, np.asarray([0, 1, 2], dtype=np.uint8)).item()
    )
    big = an.asarray([[1e4, 0.0], [0.0, 1e4]], requires_grad=True)
    F.cross_entropy(big, an.asarray([1, 1])).backward()
    assert np.isfinite(big.grad.numpy()).all()
    assert F.cross_entropy(an.asarray(draw(3, 4), dtype=an.float32), [0, 1, 2]).dtype == an.float32


def test_second_order():
    i = an.asarray([2, 0, -100])
    w = an.asarray([0.5, 1.0, 2.0, 0.3], dtype=an.float64)
    cases = [
        lambda x: F.cross_entropy(x, i, w, label_smoothing=0.1),
        lambda x: F.nll_loss(F.log_softmax(x), i, w),
        lambda x: F.mse_loss(x, x * 0.5),
        lambda x: F.huber_loss(x, x * 0.0, delta=0.7),
        lambda x: F.binary_cross_entropy(F.sigmoid(x), F.sigmoid(x * 2.0)),
        lambda x: F.binary_cross_entropy_with_logits(x, x * x, pos_weight=w),
        lambda x: F.cross_entropy(x, F.softmax(x * 0.3), w),
    ]
    for f in cases:
        x = an.asarray(draw(3, 4), requires_grad=True)
        assert gradcheck(f, (x,))
        assert gradgradcheck(f, (x,))


def test_classes_agree_with_functions():
    x, t = an.asarray(draw(4, 3)), an.asarray(draw(4, 3, seed=1))
    p, h = F.sigmoid(x), F.sigmoid(t)
    nn = an.nn
    assert nn.MSELoss()(x, t).item() == F.mse_loss(x, t).item()
    assert nn.L1Loss(reduction="sum")(x, t).item() == F.l1_loss(x, t, "sum").item()
    assert nn.HuberLoss(delta=0.5)(x, t).item() == F.huber_loss(x, t, delta=0.5).item()
    assert nn.SmoothL1Loss(beta=0.5)(x, t).item() == F.smooth_l1_loss(x, t, beta=0.5).item()
    assert nn.BCELoss()(p, h).item() == F.binary_cross_entropy(p, h).item()
    assert nn.BCEWithLogitsLoss(pos_weight=p)(x, h).item() == F.binary_cross_entropy_with_logits(
        x, h, pos_weight=p
    ).item()  # fmt: skip
    loss = nn.CrossEntropyLoss(weight=an.asarray([1.0, 2.0, 3.0]), label_smoothing=0.2)
    assert list(loss.state_dict()) == ["weight"]
    assert loss(x, [0, 1, 2, 2]).item() == F.cross_entropy(
        x, [0, 1, 2, 2], an.asarray([1.0, 2.0, 3.0]), label_smoothing=0.2
    ).item()  # fmt: skip
    assert nn.NLLLoss()(x, [0, 1, 2, 2]).item() == F.nll_loss(x, [0, 1, 2, 2]).item()
    assert repr(nn.MSELoss()) == "MSELoss()"


def test_dtypes():
    x = an.asarray(draw(4, 3), dtype=an.float32, requires_grad=True)
    loss = F.mse_loss(x, draw(4, 3))  # a float64 target does not turn a float32 loss into float64
    loss.backward()
    assert loss.dtype == an.float32
    assert x.grad.dtype == an.float32
    assert F.mse_loss(x, an.zeros((4, 3), dtype=an.int64)).dtype == an.float32
    assert F.binary_cross_entropy_with_logits(x, an.zeros((4, 3), dtype=an.bool)).dtype == an.float32


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda x: F.mse_loss(x, an.zeros((4, 1))),
            ValueError,
            r"\(4, 3\) and \(4, 1\).*nothing is broadcast",
        ),
        (lambda x: F.l1_loss(x, an.zeros((3,))), ValueError, "nothing is broadcast"),
        (lambda x: F.mse_loss(an.zeros(3, dtype=an.int64), an.zeros(3)), TypeError, "floating-point"),
        (lambda x: F.mse_loss(x, x, "avg"), ValueError, "'mean', 'sum' or 'none', got 'avg'"),
        (lambda x: F.huber_loss(x, x, delta=0), ValueError, "delta must be > 0"),
        (lambda x: F.smooth_l1_loss(x, x, beta=-1), ValueError, "beta must be ≥ 0"),
        (
            lambda x: F.cross_entropy(x, [0, 1, 3, 0]),
            IndexError,
            "class index 3 is out of range for 3 classes",
        ),
        (lambda x: F.cross_entropy(x, [0, 1, -1, 0]), IndexError, "class index -1"),
        (lambda x: F.cross_entropy(x, [0, 1]), ValueError, r"shape \(4,\), got \(2,\)"),
        (
            lambda x: F.cross_entropy(x, [0.0, 1.0, 1.0, 0.0]),
            TypeError,
            "class indices must be integers, got float32",
        ),
        (
            lambda x: F.cross_entropy(x, [0, 1, 1, 0], an.ones(2)),
            ValueError,
            r"weight must have shape .* got \(2,\)",
        ),
        (
            lambda x: F.cross_entropy(x, [0, 1, 1, 0], label_smoothing=2.0),
            ValueError,
            r"label_smoothing must be in \[0, 1\]",
        ),
        (lambda x: F.cross_entropy(an.asarray(1.0), [0]), ValueError, "got a scalar"),
        (lambda x: F.nll_loss(x, [0, 1, 3, 0]), IndexError, "class index 3"),
        (lambda x: F.binary_cross_entropy(x, x), ValueError, r"probabilities in \[0, 1\]"),
        (lambda x: an.nn.MSELoss("avg"), ValueError, "'avg'"),
        (
            lambda x: F.cross_entropy(x, an.asarray([0, 1, 1, 0], device="strict")),
            ValueError,
            "'cpu'.*'strict",
        ),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call(an.asarray(draw(4, 3), dtype=an.float32))


def test_gradients_of_single_examples():
    x, w = an.asarray(draw(4, 3)), an.asarray(draw(3, 3, seed=1))
    t, p = an.asarray([0, 1, 2, 0]), F.sigmoid(an.asarray(draw(4, 3, seed=2)))

    def loss(w, x, t, p):
        y = F.linear(x, w)
        return F.cross_entropy(y, t) + F.binary_cross_entropy(F.sigmoid(y), p) + F.mse_loss(y, p)

    together = an.vmap(an.grad(loss), in_axes=(None, 0, 0, 0))(w, x, t, p).numpy()
    for i in range(4):
        alone = an.grad(loss)(w, x[i, ...], t[i, ...], p[i, ...]).numpy()
        np.testing.assert_allclose(together[i], alone, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_weighted_losses_equal_torch(name, reduction):
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    rng = np.random.default_rng(0)
    x, t, w = rng.normal(size=(4, 3)) * 2, rng.normal(size=(4, 3)), rng.uniform(0.1, 2, size=(4, 3))
    a, b = an.asarray(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y = getattr(an.nn.functional, name)(a, an.asarray(t), reduction=reduction, weight=an.asarray(w))
    z = getattr(torch.nn.functional, name)(b, torch.tensor(t), reduction=reduction, weight=torch.tensor(w))
    assert np.allclose(y.numpy(), z.detach().numpy(), rtol=1e-12)
    an.sum(y).backward()
    z.sum().backward()
    assert np.allclose(a.grad.numpy(), b.grad.numpy(), rtol=1e-12)
    with pytest.raises(ValueError, match="shape of the input"):
        getattr(an.nn.functional, name)(a, an.asarray(t), weight=an.ones(3, dtype="float64"))


@pytest.mark.parametrize("name", ["cross_entropy", "weighted", "ignored", "batchmean", "bag"])
def test_more_rows_than_float16_can_count(name):
    rng = np.random.default_rng(0)
    values, index = rng.normal(size=(140_000, 2)), rng.integers(0, 2, 140_000)
    F = an.nn.functional

    def loss(x):
        if name == "batchmean":
            return F.kl_div(x, an.abs(x), reduction="batchmean")
        if name == "bag":
            return an.sum(F.embedding_bag(an.asarray(np.arange(140_000)[None]), x, mode="mean") * 1000.0)
        options = {
            "weighted": {"weight": an.asarray([0.5, 2.0], dtype=x.dtype)},
            "ignored": {"ignore_index": 3},
        }
        target = np.where(np.arange(140_000) == 5, 3, index) if name == "ignored" else index
        return F.cross_entropy(x, an.asarray(target), **options.get(name, {}))

    found, grads = [], []
    for kind in ("float16", "float64"):
        x = an.Parameter(an.asarray(values.astype("float16").astype(kind)))
        y = loss(x)
        y.backward()
        found.append(y.item())
        grads.append(x.grad.numpy().astype("float64"))
    assert found[0] == pytest.approx(found[1], rel=5e-3)
    assert np.abs(grads[0]).sum() == pytest.approx(np.abs(grads[1]).sum(), rel=0.05)
