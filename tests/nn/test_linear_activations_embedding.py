"""Linear layers, activations, dropout, embedding and reshaping, compared with PyTorch's."""

import numpy as np
import pytest

import anynet as an
from anynet.autograd.debug.gradcheck import gradcheck, gradgradcheck
from anynet.nn import functional as F
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


# ----- dropout -----


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
        (
            lambda: F.embedding(
                [1], an.ones((3, 2), dtype=an.float32) * an.Tensor(1.0, requires_grad=True), max_norm=1.0
            ),
            TypeError,
            "with max_norm weight must be",
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
