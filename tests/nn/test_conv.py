"""Convolution against PyTorch, on the CPU and on array-api-strict, and against finite differences."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.autograd.debug.gradcheck import gradcheck, gradgradcheck
from anynet.nn import functional as F
from anynet.ops import convolution
from anynet.ops.convolution import conv, conv_transpose
from anynet.ops.padding import pad
from anynet_backends.kernels import convolution as kernels

# PyTorch says that it makes a copy for such kernels
pytestmark = pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")

DEVICES = ("cpu", "strict:device1")
SIZES = (9, 8, 7)

# axes, kernel, options
CONVOLUTIONS = [
    (1, (3,), {}),
    (1, (3,), {"stride": 3, "padding": 2, "dilation": 2, "groups": 3}),
    (1, (4,), {"padding": "same"}),
    (1, (9,), {}),
    (2, (3, 2), {}),
    (2, (1, 1), {}),
    (2, (1, 1), {"stride": 2}),
    (2, (1, 1), {"padding": 1}),
    (2, (3, 2), {"stride": 2, "padding": 1}),
    (2, (3, 2), {"stride": (2, 1), "padding": (1, 2), "dilation": (2, 1), "groups": 2}),
    (2, (2, 3), {"padding": "same", "dilation": 2}),
    (2, (3, 2), {"padding": "valid", "stride": 3}),
    (2, (3, 3), {"groups": 6}),
    (2, (9, 8), {}),
    (3, (3, 2, 2), {"padding": 1}),
]
TRANSPOSED = [
    (1, (3,), {}),
    (1, (3,), {"stride": 2, "padding": 1, "output_padding": 1}),
    (2, (3, 2), {"stride": 2, "groups": 2}),
    (2, (2, 2), {"stride": 2}),
    (2, (3, 3), {"stride": (2, 3), "padding": (1, 0), "dilation": (1, 2), "output_padding": (1, 0)}),
    (3, (2, 2, 2), {}),
    (1, (3,), {"dilation": 2, "output_padding": 1}),
    (1, (3,), {"dilation": 3, "output_padding": 2, "padding": 1}),
    (1, (2,), {"stride": 2, "dilation": 4, "output_padding": 3, "padding": 2}),
    (2, (3, 2), {"stride": (2, 1), "dilation": (3, 1), "output_padding": (2, 0), "groups": 2}),
    (
        3,
        (2, 1, 2),
        {"stride": (1, 2, 1), "dilation": (3, 1, 2), "output_padding": (2, 1, 1), "padding": (0, 0, 1)},
    ),
]


def both(torch, device, arrays, ours, theirs, rng, atol=1e-10):
    """Compare values, gradients, shapes and dtypes of two functions of the same arrays (None allowed)."""
    mine = [None if a is None else an.asarray(a, device=device, requires_grad=True) for a in arrays]
    other = [None if a is None else torch.tensor(a, requires_grad=True) for a in arrays]
    y, z = ours(*mine), theirs(*other)
    assert y.shape == tuple(z.shape)
    assert y.device == device
    g = rng.standard_normal(z.shape).astype(arrays[0].dtype)
    z.backward(torch.tensor(g))
    y.backward(an.asarray(g, device=device))
    pairs = [(y, z), *((a.grad, b.grad) for a, b in zip(mine, other, strict=True) if a is not None)]
    for got, want in pairs:
        assert got.dtype.name == str(arrays[0].dtype)
        np.testing.assert_allclose(got.numpy(), want.detach().numpy(), rtol=atol, atol=atol)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("bias", [True, False], ids=["bias", "no bias"])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=str)
def test_conv_equals_torch(case, bias, device):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    axes, kernel, options = case
    rng = np.random.default_rng(0)
    groups = options.get("groups", 1)
    arrays = [
        rng.standard_normal((3, 6, *SIZES[:axes])),
        rng.standard_normal((12, 6 // groups, *kernel)),
        rng.standard_normal(12) if bias else None,
    ]
    name = f"conv{axes}d"
    with an.use_kernels(device != "cpu" or bias):  # the CPU's kernel, and without it the reference
        both(
            torch, device, arrays,
            lambda *a: getattr(F, name)(*a, **options),
            lambda *a: getattr(torch.nn.functional, name)(*a, **options),
            rng,
        )  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", TRANSPOSED, ids=str)
def test_conv_transpose_equals_torch(case, device):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    axes, kernel, options = case
    rng = np.random.default_rng(1)
    groups = options.get("groups", 1)
    arrays = [
        rng.standard_normal((2, 6, *(5, 4, 3)[:axes])),
        rng.standard_normal((6, 4 // groups, *kernel)),
        rng.standard_normal(4),
    ]
    name = f"conv_transpose{axes}d"
    both(
        torch, device, arrays,
        lambda *a: getattr(F, name)(*a, **options),
        lambda *a: getattr(torch.nn.functional, name)(*a, **options),
        rng,
    )  # fmt: skip


def test_float32_and_single_samples():
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    rng = np.random.default_rng(2)
    x, w, b = (rng.standard_normal(s).astype("float32") for s in ((3, 10, 9), (4, 3, 3, 3), (4,)))
    both(torch, "cpu", [x, w, b], F.conv2d, torch.nn.functional.conv2d, rng, 1e-5)
    both(torch, "cpu", [x, w.transpose(1, 0, 2, 3).copy()], F.conv_transpose2d,
         torch.nn.functional.conv_transpose2d, rng, 1e-5)  # fmt: skip


def test_complex_equals_torch():
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    rng = np.random.default_rng(3)
    x, w, b = (rng.standard_normal(s) + 1j * rng.standard_normal(s) for s in ((2, 4, 7), (6, 2, 3), (6,)))
    options = {"stride": 2, "padding": 1, "groups": 2}
    both(
        torch, "cpu", [x, w, b],
        lambda *a: F.conv1d(*a, **options), lambda *a: torch.nn.functional.conv1d(*a, **options), rng,
    )  # fmt: skip


@pytest.mark.parametrize("mode", ["constant", "reflect", "replicate", "circular"])
@pytest.mark.parametrize("device", DEVICES)
def test_pad_equals_torch(mode, device):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    rng = np.random.default_rng(4)
    for pads in ((1, 2, 3, 0), (2, 1), (0, 0, 2, 2)):
        x = rng.standard_normal((2, 3, 5, 4) if len(pads) == 4 else (2, 3, 4))
        both(
            torch, device, [x],
            lambda x, p=pads: pad(x, p, mode, 1.5 if mode == "constant" else 0.0),
            lambda x, p=pads: torch.nn.functional.pad(x, p, mode, 1.5 if mode == "constant" else None),
            rng,
        )  # fmt: skip


def variables(rng, *shapes):
    return [an.asarray(rng.standard_normal(s), requires_grad=True) for s in shapes]


@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2, "padding": (1, 0), "groups": 2}, {"dilation": 2, "padding": "same"}],
    ids=str,
)
def test_second_order(options):
    rng = np.random.default_rng(5)
    x, w, b = variables(rng, (2, 2, 5, 4), (2, 2 // options.get("groups", 1), 3, 2), (2,))

    def f(*a):
        return conv(*a, **options)

    assert gradcheck(f, (x, w, b))
    assert gradgradcheck(f, (x, w, b))


def test_second_order_of_the_transpose():
    x, w, b = variables(np.random.default_rng(6), (2, 2, 3), (2, 2, 3), (2,))
    assert gradgradcheck(lambda *a: conv_transpose(*a, stride=2, padding=1), (x, w, b))


def test_third_order():
    x, w = variables(np.random.default_rng(7), (1, 1, 5), (1, 1, 3))
    assert gradgradcheck(lambda x, w: convolution.conv_weight(
        x, conv(x, w), stride=(1,), padding=((0, 0),), dilation=(1,), groups=1, shape=(3,)), (x, w))  # fmt: skip


@pytest.mark.parametrize("device", DEVICES)
def test_empty_batch(device):
    x = an.zeros((0, 3, 6, 6), device=device, dtype=an.float64)
    w = an.ones((4, 3, 3, 3), device=device, dtype=an.float64)
    for t in (x, w):
        t.requires_grad_()
    y = F.conv2d(x, w, padding=1)
    assert y.shape == (0, 4, 6, 6)
    an.sum(y).backward()
    assert x.grad.shape == x.shape
    assert float(an.sum(abs(w.grad))) == 0.0


def test_non_contiguous_and_unchanged_inputs():
    rng = np.random.default_rng(8)
    base = rng.standard_normal((4, 7, 6, 5))
    x, w = base.transpose(1, 0, 3, 2)[::2, :, ::-1], rng.standard_normal((3, 2, 4, 2)).transpose(1, 2, 0, 3)
    before = base.copy()
    got = F.conv2d(an.asarray(x), an.asarray(w), padding=1)
    want = F.conv2d(an.asarray(x.copy()), an.asarray(w.copy()), padding=1)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-13)
    np.testing.assert_array_equal(base, before)


def test_large_columns_are_made_again(monkeypatch):
    rng = np.random.default_rng(9)
    x, w = variables(rng, (2, 3, 6, 6), (4, 3, 3, 3))
    an.sum(F.conv2d(x, w) ** 2).backward()
    kept, w.grad = w.grad, None
    monkeypatch.setattr(kernels, "KEEP_BYTES", 0)
    an.sum(F.conv2d(x, w) ** 2).backward()
    np.testing.assert_allclose(w.grad.numpy(), kept.numpy(), rtol=1e-13)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2, "padding": 2},
        {"padding": "same", "dilation": 2},
        {"padding": "valid", "bias": False},
        {"groups": 2},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": 2, "padding_mode": "replicate", "stride": 2},
        {"padding": 3, "padding_mode": "circular"},
        {"padding": "same", "padding_mode": "circular"},
        {"padding": 1, "dilation": 2, "groups": 2, "padding_mode": "reflect", "bias": False},
    ],
    ids=str,
)
def test_layers_equal_torch(axes, options):
    torch = pytest.importorskip("torch", reason="compared with PyTorch")
    rng = np.random.default_rng(10)
    theirs = getattr(torch.nn, f"Conv{axes}d")(
        4, 6, 4 if axes == 1 else (4, 3), dtype=torch.float64, **options
    )
    ours = getattr(an.nn, f"Conv{axes}d")(4, 6, 4 if axes == 1 else (4, 3), dtype=an.float64, **options)
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    both(torch, "cpu", [rng.standard_normal((2, 4, 9, 8)[: axes + 2])], ours, theirs, rng)
    for (name, p), (_, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-10, atol=1e-10, err_msg=name)


def test_initial_weights():
    layer = an.nn.Conv2d(8, 32, 3, groups=2)
    bound = 1 / np.sqrt(4 * 9)
    w = layer.weight.numpy()
    assert w.dtype == np.float32
    assert w.shape == (32, 4, 3, 3)
    assert 0.95 * bound < np.abs(w).max() <= bound
    assert 0.9 < w.std() * np.sqrt(3) / bound < 1.1
    assert np.abs(layer.bias.numpy()).max() <= bound


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: F.conv2d(an.ones((1, 3, 8, 8)), an.ones((4, 2, 3, 3))), ValueError, "3 channels"),
        (lambda: F.conv2d(an.ones((3, 8)), an.ones((4, 3, 3, 3))), ValueError, "4 axes"),
        (lambda: F.conv2d(an.ones((1, 3, 8)), an.ones((4, 3, 3))), ValueError, "weight must have 4 axes"),
        (lambda: F.conv1d(an.ones((1, 3, 2)), an.ones((4, 3, 3))), ValueError, "does not fit"),
        (lambda: F.conv1d(an.ones((1, 3, 5)), an.ones((4, 3, 3)), an.ones(3)), ValueError, "bias"),
        (lambda: F.conv1d(an.ones((1, 3, 5)), an.ones((4, 3, 3)), stride=0), ValueError, "stride"),
        (lambda: F.conv1d(an.ones((1, 3, 5)), an.ones((4, 3, 3)), stride=(1, 1)), ValueError, "stride"),
        (lambda: F.conv1d(an.ones((1, 3, 5)), an.ones((4, 3, 3)), padding="full"), ValueError, "'same'"),
        (lambda: F.conv1d(an.ones((1, 3, 5)), an.ones((4, 3, 3)), stride=2, padding="same"), ValueError, "stride 1"),
        (lambda: F.conv1d(an.ones((1, 4, 5)), an.ones((3, 2, 3)), groups=2), ValueError, "groups"),
        (lambda: F.conv1d(an.ones((1, 3, 5)), an.ones((4, 3, 3), dtype=an.float64)), TypeError, "float64"),
        (lambda: F.conv_transpose1d(an.ones((1, 3, 5)), an.ones((3, 2, 3)), output_padding=1), ValueError, "output_"),
        (lambda: F.conv_transpose1d(an.ones((1, 3, 1)), an.ones((3, 2, 3)), padding=2), ValueError, "output"),
        (lambda: pad(an.ones(3), (3, 0), "reflect"), ValueError, "at most 2"),
        (lambda: pad(an.ones(3), (1,)), ValueError, "pairs"),
        (lambda: pad(an.ones(3), (1, 1), "mirror"), ValueError, "mode"),
        (lambda: an.nn.Conv2d(3, 4, 3, groups=2), ValueError, "groups"),
        (lambda: an.nn.Conv2d(3, 4, 3, padding_mode="zero"), ValueError, "padding_mode"),
        (lambda: an.nn.Conv2d(3, 4, (3, 3, 3)), ValueError, "kernel_size"),
        (lambda: an.nn.Conv2d(3, 4, "3"), TypeError, "kernel_size"),
        (lambda: an.nn.Conv2d(3, 4, 2.5), TypeError, "kernel_size"),
        (lambda: an.nn.Conv2d(3, 4, 3)(an.ones((2, 1, 8, 8))), an.nn.ShapeError, "3 channels"),
        (lambda: an.nn.Conv2d(3, 4, 3)(an.ones((2, 8, 8, 3))), an.nn.ShapeError, r"channels come first: permute_dims\(x, \(0, 3, 1, 2\)\)"),
    ],
)  # fmt: skip
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("case", [c for c in CONVOLUTIONS if len(c[1]) == 2], ids=str)
def test_a_product_for_each_offset(case, device, monkeypatch):
    """Both ways of computing the gradient of the input."""
    _, kernel, options = case
    rng = np.random.default_rng(11)
    x = an.asarray(rng.standard_normal((2, 6, 9, 8)), device=device, requires_grad=True)
    w = an.asarray(rng.standard_normal((6, 6 // options.get("groups", 1), *kernel)), device=device)
    grads = []
    for least in (1, 1000):
        monkeypatch.setattr(convolution, "PRODUCT_PER_OFFSET", least)
        x.grad = None
        an.sum(F.conv2d(x, w, **options) ** 2).backward()
        grads.append(x.grad.numpy())
    np.testing.assert_allclose(*grads, rtol=1e-12, atol=1e-12)


def test_convolution_with_time_first_equals_torch():
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(6, 2, 3)), rng.normal(size=(3, 3, 4)), rng.normal(size=4)
    y = an.nn.functional.conv_tbc(*(an.asarray(a) for a in (x, w, b)), pad=1)
    z = torch.nn.functional.conv_tbc(*(torch.tensor(a) for a in (x, w, b)), pad=1)
    assert np.allclose(y.numpy(), z.numpy(), rtol=1e-12)
    with pytest.raises(ValueError, match="conv_tbc"):
        an.nn.functional.conv_tbc(an.ones((6, 2)), an.ones((3, 3, 4)), an.ones(4))
