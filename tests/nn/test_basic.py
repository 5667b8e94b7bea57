"""Linear layers, activations, dropout, embedding and reshaping, compared with PyTorch's."""

import math

import numpy as np
import pytest

import anynet as an
from anynet import random
from anynet.autograd.debug.gradcheck import gradcheck, gradgradcheck
from anynet.nn import functional as F
from anynet.ops.erf import erf
from anynet.ops.softmax import logsumexp
from torch_oracle import torch

TF = torch.nn.functional
nn = an.nn
DEVICES = ("cpu", "strict:device1")
ON = pytest.mark.parametrize("device", DEVICES)


def draw(*shape, seed=0, scale=2.0):
    return np.random.default_rng(seed).normal(size=shape) * scale


def same(ours, theirs, tolerance=1e-10):
    np.testing.assert_allclose(ours.numpy(), theirs.detach().numpy(), rtol=tolerance, atol=tolerance)


def compare(device, layer, reference, x, tmp_path=None):
    """The state passes from PyTorch through safetensors; then outputs and all gradients agree."""
    layer, reference = layer.to(device).double(), reference.double()
    reference.zero_grad()
    if list(reference.state_dict()):
        from safetensors.torch import save_file

        save_file({k: v.contiguous() for k, v in reference.state_dict().items()}, tmp_path / "w.safetensors")
        assert list(layer.state_dict()) == list(reference.state_dict())
        layer.load_state_dict(an.load(tmp_path / "w.safetensors"))
    integers = x.dtype.kind == "i"
    a = an.asarray(x, device=device, requires_grad=not integers)
    t = torch.tensor(x, requires_grad=not integers)
    y, u = layer(a), reference(t)
    assert y.shape == tuple(u.shape)
    assert y.dtype == an.float64
    assert y.device == device
    same(y, u)
    an.sum(y * y).backward()
    (u * u).sum().backward()
    if not integers:
        same(a.grad, t.grad)
    for (name, p), (other, q) in zip(layer.named_parameters(), reference.named_parameters(), strict=True):
        assert name == other
        same(p.grad, q.grad)


T = torch.nn
PAIRS = [
    (nn.Linear(5, 3), T.Linear(5, 3), draw(4, 5)),
    (nn.Linear(5, 3), T.Linear(5, 3), draw(2, 4, 5)),
    (nn.Linear(5, 3), T.Linear(5, 3), draw(5)),
    (nn.Linear(5, 3, bias=False), T.Linear(5, 3, bias=False), draw(4, 5)),
    (nn.Identity(), T.Identity(), draw(4, 5)),
    (nn.Flatten(), T.Flatten(), draw(4, 5, 2)),
    (nn.Flatten(0, -2), T.Flatten(0, -2), draw(4, 5, 2)),
    (nn.Unflatten(1, (2, 3)), T.Unflatten(1, (2, 3)), draw(4, 6)),
    (nn.Unflatten(-1, (2, -1)), T.Unflatten(-1, (2, -1)), draw(4, 6)),
    (nn.Sigmoid(), T.Sigmoid(), draw(4, 5, scale=20)),
    (nn.Tanh(), T.Tanh(), draw(4, 5)),
    (nn.ReLU(), T.ReLU(), draw(4, 5)),
    (nn.LeakyReLU(), T.LeakyReLU(), draw(4, 5)),
    (nn.LeakyReLU(0.2), T.LeakyReLU(0.2), draw(4, 5)),
    (nn.ELU(), T.ELU(), draw(4, 5)),
    (nn.ELU(0.5), T.ELU(0.5), draw(4, 5)),
    (nn.GELU(), T.GELU(), draw(4, 50)),
    (nn.GELU("tanh"), T.GELU("tanh"), draw(4, 5)),
    (nn.SiLU(), T.SiLU(), draw(4, 5)),
    (nn.Softplus(), T.Softplus(), draw(4, 5, scale=20)),
    (nn.Softplus(2.0, 5.0), T.Softplus(2.0, 5.0), draw(4, 5)),
    (nn.Softmax(1), T.Softmax(1), draw(4, 5, 2)),
    (nn.Softmax(dim=-1), T.Softmax(dim=-1), draw(4, 5)),
    (nn.LogSoftmax(0), T.LogSoftmax(0), draw(4, 5)),
    (nn.Embedding(7, 3), T.Embedding(7, 3), np.asarray([[1, 2], [1, 6], [0, 0]])),
    (nn.Embedding(7, 3, padding_idx=0), T.Embedding(7, 3, padding_idx=0), np.asarray([[1, 2], [1, 6], [0, 0]])),
    (nn.Embedding(7, 3, scale_grad_by_freq=True, padding_idx=2), T.Embedding(7, 3, scale_grad_by_freq=True, padding_idx=2),
     np.asarray([[1, 2], [1, 6], [0, 0], [0, 1]])),
    (nn.Embedding(7, 3, max_norm=0.7), T.Embedding(7, 3, max_norm=0.7), np.asarray([[1, 2], [1, 6], [0, 0]])),
    (nn.Embedding(7, 3, None, 1.1, 1.0), T.Embedding(7, 3, None, 1.1, 1.0), np.asarray([[1, 2], [1, 6], [0, 0]])),
    (nn.Sequential(nn.Linear(4, 3), nn.Tanh(), nn.Linear(3, 2)),
     T.Sequential(T.Linear(4, 3), T.Tanh(), T.Linear(3, 2)), draw(6, 4)),
]  # fmt: skip


@ON
@pytest.mark.parametrize(("layer", "reference", "x"), PAIRS, ids=lambda v: type(v).__name__)
def test_as_pytorch(device, layer, reference, x, tmp_path):
    compare(device, layer, reference, x, tmp_path)
    layer.to("cpu")


@pytest.mark.parametrize(("layer", "reference", "x"), PAIRS, ids=lambda v: type(v).__name__)
def test_repr_is_pytorchs(layer, reference, x):
    if type(layer).__name__ not in ("GELU", "Unflatten", "Sequential", "Flatten"):
        assert repr(layer) == repr(reference)


@pytest.mark.parametrize("name", ["relu", "leaky_relu", "elu", "gelu", "silu", "sigmoid", "softplus", "softmax",
                                  "log_softmax", "tanh", "logsumexp"])  # fmt: skip
def test_gradients_to_second_order(name):
    x = an.asarray(draw(3, 4), requires_grad=True)
    assert gradcheck(getattr(F, name), (x,))
    assert gradgradcheck(getattr(F, name), (x,))


@ON
def test_embedding_max_norm_writes_the_rows_it_shortens(device):
    weight = draw(6, 4, scale=3)
    ours, theirs = (
        nn.Embedding.from_pretrained(an.asarray(weight.copy()), max_norm=1.0),
        torch.tensor(weight.copy()),
    )
    ours.to(device)
    index = np.asarray([[1, 4], [4, 5]])
    same(ours(an.asarray(index, device=device)), TF.embedding(torch.tensor(index), theirs, max_norm=1.0))
    same(ours.weight, theirs)
    assert (ours.weight.numpy()[[0, 2, 3]] == weight[[0, 2, 3]]).all()
    assert not ours.weight.requires_grad
    assert nn.Embedding.from_pretrained(an.asarray(weight), freeze=False).weight.requires_grad


def test_functions_take_pytorchs_arguments():
    x = draw(4, 5)
    a, t = an.asarray(x), torch.tensor(x)
    same(F.leaky_relu(a, 0.3), TF.leaky_relu(t, 0.3))
    same(F.elu(a, 0.3), TF.elu(t, 0.3))
    same(F.softplus(a, 2.0, 1.0), TF.softplus(t, 2.0, 1.0))
    same(F.softmax(a, dim=0), TF.softmax(t, dim=0))
    same(F.logsumexp(a, 1, keepdim=True), torch.logsumexp(t, 1, keepdim=True))
    assert set(F.__all__) <= set(dir(F))
    assert repr(nn.ReLU(inplace=True)) == "ReLU(inplace=True)"


def test_linear_to_second_order():
    arrays = [
        an.asarray(draw(*s, seed=i), requires_grad=True) for i, s in enumerate([(2, 3, 4), (5, 4), (5,)])
    ]
    assert gradcheck(F.linear, arrays)
    assert gradgradcheck(F.linear, arrays)


def test_erf():
    x = np.concatenate([np.linspace(-7, 7, 4001), [0.46875, 4.0, 1e-300, 0.0, -0.0, np.inf, -np.inf]])
    expected = np.asarray([math.erf(v) for v in x])
    assert np.max(np.abs(erf(x) - expected)) <= 1e-15
    small = np.abs(x) < 0.4
    np.testing.assert_allclose(erf(x)[small], expected[small], rtol=1e-15)
    assert math.isnan(float(erf(np.asarray([np.nan]))[0]))
    single = erf(x.astype(np.float32))
    assert single.dtype == np.float32
    assert np.max(np.abs(single - expected)) <= 2e-7


def test_extremes_stay_finite():
    x = an.asarray([-1e6, -1000.0, 0.0, 1000.0, 1e6], requires_grad=True)
    for f in (F.sigmoid, F.silu, F.softplus, F.elu, F.gelu, F.softmax, F.log_softmax, F.logsumexp):
        y = f(x)
        x.grad = None
        an.sum(y).backward()
        assert np.isfinite(y.numpy()).all(), f
        assert np.isfinite(x.grad.numpy()).all(), f


@ON
def test_logsumexp_with_infinities(device):
    x = np.asarray([[-np.inf, -np.inf], [-np.inf, 1.0], [1.0, 2.0]])
    same(logsumexp(an.asarray(x, device=device), axis=1), torch.logsumexp(torch.tensor(x), 1))
    same(logsumexp(an.asarray(x[1:], device=device)), torch.logsumexp(torch.tensor(x[1:]), (0, 1)))


# ----- dropout -----


def test_dropout_masks_are_the_same_on_every_device(xp_device):
    masks = []
    for device in ("cpu", xp_device):
        an.random.manual_seed(3)
        x = an.ones((50, 40), device=device).requires_grad_()
        y = F.dropout(x, 0.3)
        an.sum(y).backward()
        np.testing.assert_array_equal(x.grad.numpy(), y.numpy())  # the same mask on the way back
        masks.append(y.numpy())
    np.testing.assert_array_equal(masks[1], masks[0])
    assert set(np.unique(masks[0])) == {0.0, np.float32(1 / 0.7)}
    assert abs((masks[0] == 0).mean() - 0.3) < 0.03


def test_dropout_layer():
    layer = nn.Dropout(0.5)
    x = an.ones((8, 8))
    first, second = layer(x), layer(x)
    assert (first.numpy() != second.numpy()).any()
    assert layer.eval()(x) is x
    assert F.dropout(x, 0.0) is x
    assert (F.dropout(x, 1.0).numpy() == 0).all()
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 1\.5"):
        nn.Dropout(1.5)
    with pytest.raises(ValueError, match=r"p must be in \[0, 1\], got -1"):
        F.dropout(x, -1)


def test_random_state_comes_back():
    random.manual_seed(11)
    F.dropout(an.ones(4))
    state = random.get_state()
    assert state == {"seed": 11, "weights": 0, "masks": 1}
    first = F.dropout(an.ones(64)).numpy()
    F.dropout(an.ones(64))
    random.set_state(state)
    np.testing.assert_array_equal(F.dropout(an.ones(64)).numpy(), first)
    with pytest.raises(ValueError, match="missing: masks"):
        random.set_state({"seed": 1, "weights": 0})
    for bad in (-1, 1 << 128, 1.5, True):
        with pytest.raises(ValueError, match="a seed is an integer"):
            random.manual_seed(bad)


def test_same_seed_same_network_on_every_device(xp_device):
    states = []
    for device in ("cpu", xp_device):
        random.manual_seed(5)
        net = nn.Sequential(nn.Linear(4, 3, device=device), nn.Embedding(3, 2, device=device))
        assert {p.device for p in net.parameters()} == {device}
        states.append([v.numpy() for v in net.state_dict().values()])
    for a, b in zip(*states, strict=True):
        np.testing.assert_array_equal(a, b)


# ----- refusals -----


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (
            lambda: nn.Linear(4, 3)(an.ones((2, 5))),
            ValueError,
            r"Linear 4→3\)\n  got \(2, 5\): last axis 5, exp",
        ),
        (lambda: F.linear(an.ones((2, 5)), an.ones((3, 4))), ValueError, "x and weight must be"),
        (
            lambda: F.linear(an.ones((2, 4)), an.ones((3, 4)), an.ones(4)),
            ValueError,
            r"bias must have shape .* got \(4,\)",
        ),
        (lambda: nn.Linear(-1, 3), ValueError, "in_features=-1"),
        (lambda: nn.Embedding(3, 2)(an.asarray([0, 3])), IndexError, "index 3 is out of range"),
        (
            lambda: nn.Embedding(3, 2)(an.asarray([0.0, 1.0])),
            TypeError,
            "indices must be integers, got float32",
        ),
        (lambda: nn.Embedding(3, 2, sparse=True), NotImplementedError, "sparse gradients are not offered"),
        (lambda: F.embedding([1], an.ones((3, 2)), sparse=True), NotImplementedError, "sparse gradients"),
        (
            lambda: F.embedding(
                [1], an.ones((3, 2), dtype=an.float32) * an.Tensor(1.0, requires_grad=True), max_norm=1.0
            ),
            TypeError,
            "max_norm writes to weight",
        ),
        (lambda: nn.Embedding.from_pretrained(an.ones(3)), ValueError, "embeddings must be a matrix"),
        (lambda: nn.Embedding(3, 2, _weight=an.ones((2, 3))), ValueError, r"must have shape \(3, 2\)"),
        (lambda: nn.Embedding(3, 2, padding_idx=3), ValueError, r"padding_idx must be in \[-3, 3\), got 3"),
        (lambda: nn.GELU("erf"), ValueError, "'none' or 'tanh', got 'erf'"),
        (lambda: nn.Flatten(3)(an.ones((2, 3))), ValueError, "expected axes 3 to -1 to merge"),
        (
            lambda: nn.Unflatten(1, (2, 2))(an.ones((2, 3))),
            ValueError,
            r"axis 1 must split into .*, got length 3",
        ),
        (lambda: nn.Linear(4, 3).to("strict")(an.ones((2, 4))), ValueError, "different devices"),
    ],
)
def test_refusals(call, error, words):
    with pytest.raises(error, match=words):
        call()
