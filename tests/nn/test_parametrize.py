"""Parametrizations against PyTorch's: state under the same names, the same values and gradients."""

import copy
import math

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.nn.utils import parametrizations, parametrize
from torch_oracle import torch

LAYERS = [
    ("Linear", (4, 3), (5, 4)), ("Conv1d", (2, 3, 3), (2, 2, 6)), ("Conv2d", (2, 3, 3), (2, 2, 5, 5)),
    ("ConvTranspose2d", (2, 3, 3), (2, 2, 4, 4)),
]  # fmt: skip


def pair(name, args):
    an.random.manual_seed(0)
    return getattr(nn, name)(*args).to("float64"), getattr(torch.nn, name)(*args).double()


def load(ours, theirs):
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: v.numpy().copy() for k, v in theirs.state_dict().items()})


def agree(ours, theirs, shape, tolerance=1e-9):
    x = np.random.default_rng(0).normal(size=shape)
    a, b = an.asarray(x, requires_grad=True), torch.tensor(x, requires_grad=True)
    y, z = ours(a), theirs(b)
    assert np.allclose(y.numpy(), z.detach().numpy(), rtol=tolerance, atol=tolerance)
    g = np.random.default_rng(1).normal(size=tuple(y.shape))
    ours.zero_grad()
    theirs.zero_grad()
    y.backward(an.asarray(g))
    z.backward(torch.tensor(g))
    assert np.allclose(a.grad.numpy(), b.grad.numpy(), rtol=tolerance, atol=tolerance)
    for (name, p), (other, q) in zip(ours.named_parameters(), theirs.named_parameters(), strict=True):
        assert name == other
        assert np.allclose(p.grad.numpy(), q.grad.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(("name", "args", "shape"), LAYERS)
@pytest.mark.parametrize("dim", [0, 1, None])
def test_weight_norm(name, args, shape, dim):
    ours, theirs = pair(name, args)
    before = ours.weight.numpy().copy()
    parametrizations.weight_norm(ours, dim=dim)
    assert np.allclose(ours.weight.numpy(), before, rtol=1e-12)
    torch.nn.utils.parametrizations.weight_norm(theirs, dim=dim)
    load(ours, theirs)
    agree(ours, theirs, shape)


@pytest.mark.parametrize(("name", "args", "shape"), LAYERS)
@pytest.mark.parametrize("times", [1, 3])
def test_spectral_norm(name, args, shape, times):
    ours, theirs = pair(name, args)
    parametrizations.spectral_norm(ours, n_power_iterations=times)
    torch.nn.utils.parametrizations.spectral_norm(theirs, n_power_iterations=times)
    load(ours, theirs)
    for _ in range(3):
        agree(ours, theirs, shape)
    u = "parametrizations.weight.0._u"
    assert np.allclose(ours.state_dict()[u].numpy(), theirs.state_dict()[u].numpy(), atol=1e-9)
    ours.eval()
    theirs.eval()
    agree(ours, theirs, shape)
    agree(ours, theirs, shape)


def test_spectral_norm_bounds_the_largest_singular_value():
    an.random.manual_seed(0)
    layer = parametrizations.spectral_norm(nn.Linear(20, 10))
    for _ in range(30):
        layer(an.ones((1, 20)))
    assert np.linalg.norm(layer.weight.numpy(), 2) == pytest.approx(1.0, abs=1e-3)


class Scaled(nn.Module):
    """c x with a trained c."""

    def __init__(self, c):
        self.c = nn.Parameter([c], dtype="float64")

    def forward(self, x):
        return x * self.c

    def right_inverse(self, x):
        return x / self.c


class Cut(nn.Module):
    """One row less."""

    def forward(self, x):
        return x[1:, :]


def test_functions_are_applied_in_order_and_trained():
    layer = nn.Linear(3, 2, dtype="float64")
    before = layer.weight.numpy().copy()
    parametrize.register_parametrization(layer, "weight", Scaled(2.0))
    assert np.allclose(layer.weight.numpy(), before)
    parametrize.register_parametrization(layer, "weight", Scaled(3.0))
    assert np.allclose(layer.weight.numpy(), 3 * before)
    names = [
        "bias",
        "parametrizations.weight.original",
        "parametrizations.weight.0.c",
        "parametrizations.weight.1.c",
    ]
    assert [n for n, _ in layer.named_parameters()] == names
    assert parametrize.is_parametrized(layer)
    assert parametrize.is_parametrized(layer, "weight")
    assert not parametrize.is_parametrized(layer, "bias")
    assert isinstance(layer, nn.Linear)
    optimizer = an.optim.SGD(layer.parameters(), lr=0.1)
    an.sum(layer(an.ones((1, 3), dtype="float64")) ** 2).backward()
    optimizer.step()
    assert all(p.grad is not None for p in layer.parameters())
    layer.weight = an.asarray(before)
    assert np.allclose(layer.weight.numpy(), before)


def test_removal():
    layer = nn.Linear(3, 2, dtype="float64")
    parametrize.register_parametrization(layer, "weight", Scaled(2.0))
    parametrize.register_parametrization(layer, "bias", Scaled(1.0))
    value, original = layer.weight.numpy().copy(), layer.parametrizations.weight.original.numpy().copy()
    parametrize.remove_parametrizations(layer, "bias", leave_parametrized=False)
    assert (layer.weight.numpy() == value).all()
    kept = copy.deepcopy(layer)
    parametrize.remove_parametrizations(layer, "weight")
    assert type(layer) is nn.Linear
    assert (layer.weight.numpy() == value).all()
    assert sorted(n for n, _ in layer.named_parameters()) == ["bias", "weight"]
    parametrize.remove_parametrizations(kept, "weight", leave_parametrized=False)
    assert (kept.weight.numpy() == original).all()


def test_compiled_steps_see_the_parametrized_weight():
    layer = parametrizations.weight_norm(nn.Linear(3, 2))
    optimizer = an.optim.SGD(layer.parameters(), lr=0.1)
    twin = copy.deepcopy(layer)
    other = an.optim.SGD(twin.parameters(), lr=0.1)

    def step(net, optimizer, x):
        optimizer.zero_grad()
        loss = an.mean(net(x) ** 2)
        loss.backward()
        optimizer.step()
        return loss

    compiled = an.compile(lambda x: step(layer, optimizer, x))
    x = an.asarray(np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32))
    for _ in range(4):
        assert compiled(x).item() == step(twin, other, x).item()


def test_bad_arguments():
    layer = nn.Linear(3, 2)
    with pytest.raises(ValueError, match="it has weight, bias"):
        parametrize.register_parametrization(layer, "wieght", Scaled(1.0))
    with pytest.raises(ValueError, match=r"shape \(1, 3\)"):
        parametrize.register_parametrization(layer, "weight", Cut())
    assert type(layer) is nn.Linear
    with pytest.raises(ValueError, match="not parametrized"):
        parametrize.remove_parametrizations(layer, "weight")
    parametrizations.weight_norm(layer)
    with pytest.raises(ValueError, match="several originals"):
        parametrize.remove_parametrizations(layer, "weight", leave_parametrized=False)
    parametrize.register_parametrization(nn_layer := nn.Linear(3, 3), "weight", Cut(), unsafe=True)
    with pytest.raises(NotImplementedError, match="right_inverse"):
        nn_layer.weight = an.ones((2, 3))
    with pytest.raises(IndexError, match="dim must be an axis"):
        parametrizations.spectral_norm(nn.Linear(2, 2), dim=3)


def test_gradient_noise_and_centralization():
    an.random.manual_seed(0)
    p = an.Parameter(np.zeros(20000))
    p.grad = an.ones(20000, dtype="float64")
    nn.utils.add_gradient_noise_(p, step=3, eta=0.5, gamma=0.5)
    noise = p.grad.numpy() - 1
    assert noise.std() == pytest.approx(math.sqrt(0.5 / 2), rel=0.03)
    w = an.Parameter(np.zeros((3, 4, 5)))
    g = np.random.default_rng(0).normal(size=(3, 4, 5))
    w.grad = an.asarray(g)
    nn.utils.centralize_gradients_([w, an.Parameter([1.0])])
    assert np.allclose(w.grad.numpy(), g - g.mean((1, 2), keepdims=True))
    with pytest.raises(ValueError, match="gamma must be ≥ 0"):
        nn.utils.add_gradient_noise_([p], step=-1)


@pytest.mark.parametrize("kind", ["matrix_exp", "cayley", "householder", None])
@pytest.mark.parametrize("shape", [(4, 4), (3, 5), (5, 3), (1, 4)])
@pytest.mark.parametrize("trivialize", [True, False])
def test_orthogonal(kind, shape, trivialize):
    if not trivialize and kind is None and shape[0] == shape[1]:
        kind = "householder"
    ours, theirs = (
        nn.Linear(shape[1], shape[0], dtype="float64"),
        torch.nn.Linear(shape[1], shape[0]).double(),
    )
    if kind in ("matrix_exp", "cayley") and not trivialize:
        # PyTorch takes the weight as the original where it cannot be found
        with pytest.raises(NotImplementedError, match="cannot be assigned"):
            parametrizations.orthogonal(ours, orthogonal_map=kind, use_trivialization=False)
        return
    parametrizations.orthogonal(ours, orthogonal_map=kind, use_trivialization=trivialize)
    torch.nn.utils.parametrizations.orthogonal(theirs, orthogonal_map=kind, use_trivialization=trivialize)
    w = ours.weight.numpy()
    small = w @ w.T if shape[0] <= shape[1] else w.T @ w
    assert np.allclose(small, np.eye(min(shape)), atol=1e-12)
    with torch.no_grad():
        theirs.parametrizations.weight.original += 0.3 * torch.randn(
            theirs.parametrizations.weight.original.shape, dtype=torch.float64
        ).tril(-1 if kind == "householder" or (kind is None and shape[0] != shape[1]) else 0)
    load(ours, theirs)
    agree(ours, theirs, (6, shape[1]))


def test_orthogonal_begins_at_an_orthogonal_weight():
    for kind, trivialize in (
        ("matrix_exp", True),
        ("cayley", True),
        ("householder", True),
        ("householder", False),
    ):
        layer = nn.Linear(4, 4, dtype="float64")
        nn.init.orthogonal_(layer.weight)
        before = layer.weight.numpy().copy()
        parametrizations.orthogonal(layer, orthogonal_map=kind, use_trivialization=trivialize)
        assert np.allclose(layer.weight.numpy(), before, atol=1e-12), (kind, trivialize)


def test_orthogonal_refuses():
    with pytest.raises(ValueError, match="matrix or a batch"):
        parametrizations.orthogonal(nn.Linear(2, 2), "bias")
    with pytest.raises(ValueError, match="orthogonal_map must be"):
        parametrizations.orthogonal(nn.Linear(2, 2), orthogonal_map="qr")


def test_cached_values_and_types():
    layer = parametrizations.weight_norm(nn.Linear(3, 2))
    with parametrize.cached():
        first = layer.weight
        assert layer.weight is first
    assert layer.weight is not first
    assert parametrize.type_before_parametrizations(layer) is nn.Linear
    assert parametrize.type_before_parametrizations(nn.ReLU()) is nn.ReLU


def test_transfer():
    one, two = nn.Linear(3, 2, dtype="float64"), nn.Linear(3, 2, dtype="float64")
    parametrize.register_parametrization(one, "weight", Scaled(2.0))
    parametrize.register_parametrization(one, "weight", Scaled(3.0))
    parametrizations.weight_norm(two)
    parametrize.transfer_parametrizations_and_params(one, two)
    assert (one.weight.numpy() == two.weight.numpy()).all()
    assert [n for n, _ in one.named_parameters()] == [n for n, _ in two.named_parameters()]
    one.parametrizations.weight.original.assign_(one.parametrizations.weight.original * 2.0)
    assert not (one.weight.numpy() == two.weight.numpy()).any()
    with pytest.raises(ValueError, match="not parametrized"):
        parametrize.transfer_parametrizations_and_params(nn.Linear(3, 2), two)


def test_skipped_initial_values():
    an.random.manual_seed(0)
    nn.Linear(3, 2)
    expected = an.random.get_state()
    an.random.manual_seed(0)
    layer = nn.utils.skip_init(nn.Linear, 3, out_features=2)
    assert an.random.get_state() == expected
    layer.load_state_dict({"weight": np.ones((2, 3), np.float32), "bias": np.zeros(2, np.float32)})
    assert layer(an.ones((1, 3))).tolist() == [[3.0, 3.0]]


def test_what_is_cached_in_one_thread_is_not_in_another(while_another):
    layer = parametrizations.weight_norm(nn.Linear(3, 2))
    with while_another(parametrize.cached()):
        assert layer.weight is not layer.weight
    with parametrize.cached():
        kept = layer.weight
        with while_another(parametrize.cached()):
            assert layer.weight is kept
        assert layer.weight is kept
