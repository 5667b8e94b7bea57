"""Gradients and Jacobians sample by sample, against a loop over the samples."""

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.methods import jacobians, per_sample_gradients
from torch_oracle import torch

rng = np.random.default_rng(0)


def array(*shape, device="cpu", dtype="float64"):
    return an.asarray(rng.normal(size=shape), dtype=dtype, device=device)


NETWORKS = {
    "mlp": (lambda: nn.Sequential(nn.Linear(4, 5), nn.Tanh(), nn.Linear(5, 3)), (4,)),
    "conv": (lambda: nn.Sequential(nn.Conv2d(2, 3, 2), nn.GELU(), nn.Flatten(), nn.Linear(12, 3)), (2, 3, 3)),
    "attention": (
        lambda: nn.Sequential(
            nn.TransformerEncoderLayer(4, 2, 6, batch_first=True), nn.Flatten(), nn.Linear(12, 3)
        ),
        (3, 4),
    ),
    "group norm": (lambda: nn.Sequential(nn.GroupNorm(2, 4), nn.Linear(4, 3)), (4,)),
    "batch norm in evaluation": (lambda: nn.Sequential(nn.BatchNorm1d(4), nn.Linear(4, 3)), (4,)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_gradients_are_those_of_each_sample_alone(name: str, xp_device: str) -> None:
    make, shape = NETWORKS[name]
    an.random.manual_seed(0)
    net = make().to("float64").to(xp_device).eval()
    x = array(5, *shape, device=xp_device)
    y = an.asarray(rng.integers(0, 3, 5), device=xp_device)
    found = per_sample_gradients(net, "cross_entropy", x, y)
    assert list(found) == [n for n, _ in net.named_parameters()]
    for i in range(5):
        net.zero_grad()
        nn.functional.cross_entropy(net(x[i : i + 1]), y[i : i + 1]).backward()
        for key, p in net.named_parameters():
            assert found[key].dtype == p.dtype
            np.testing.assert_allclose(found[key][i].numpy(), p.grad.numpy(), atol=1e-12)


def test_as_torch_func() -> None:
    weight, x, y = rng.normal(size=(3, 4)), rng.normal(size=(6, 4)), rng.normal(size=(6, 3))
    net = nn.Linear(4, 3, bias=False).to("float64")
    net.weight.assign_(weight)
    found = per_sample_gradients(net, "mse", x, y)["weight"]

    def loss(w, a, b):
        return ((w @ a - b) ** 2).mean()

    expected = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0, 0))(
        torch.tensor(weight), torch.tensor(x), torch.tensor(y)
    )
    np.testing.assert_allclose(found.numpy(), expected.numpy(), atol=1e-12)


def test_a_function_of_parameters() -> None:
    params = {"w": array(3), "b": array()}
    x, y = array(4, 3), array(4)
    found = per_sample_gradients(lambda p, x: an.matmul(x, p["w"]) + p["b"], "mse", x, y, params=params)
    residual = 2 * (x @ params["w"] + params["b"] - y)
    np.testing.assert_allclose(found["b"].numpy(), residual.numpy(), atol=1e-12)
    np.testing.assert_allclose(found["w"].numpy(), (an.expand_dims(residual, axis=1) * x).numpy(), atol=1e-12)


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(4), nn.Dropout(0.5)], ids=["batch norm", "dropout"])
def test_what_mixes_samples_or_draws_is_refused_and_changes_nothing(layer: nn.Module) -> None:
    net = nn.Sequential(nn.Linear(4, 4), layer, nn.Linear(4, 1))
    weights = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    state = an.random.get_state()
    for call in (
        lambda: per_sample_gradients(net, "mse", array(5, 4, dtype="float32"), array(5, 1, dtype="float32")),
        lambda: jacobians(net, array(5, 4, dtype="float32")),
    ):
        with pytest.raises(ValueError, match=r"model\.eval\(\)"):
            call()
    assert an.random.get_state() == state
    assert all(np.array_equal(v.numpy(), weights[k]) for k, v in net.state_dict().items())
    net.eval()
    assert jacobians(net, array(5, 4, dtype="float32")).shape == (5, 1, 4)


def test_samples_that_depend_on_each_other_are_found() -> None:
    x = array(4, 3, 5, dtype="float32")
    an.random.manual_seed(0)
    for layer in (nn.LSTM(5, 2), nn.GRU(5, 2), nn.TransformerEncoderLayer(5, 1, 4, dropout=0.0)):
        with pytest.raises(ValueError, match="batch_first=True"):
            per_sample_gradients(layer, lambda out: an.sum(out[0] if isinstance(out, tuple) else out), x)
    with pytest.raises(ValueError, match="depends on the others"):
        jacobians(lambda v: v - an.mean(v, axis=0), x)
    found = per_sample_gradients(nn.LSTM(5, 2, batch_first=True), lambda out: an.sum(out[0]), x)
    assert found["weight_ih_l0"].shape == (4, 8, 5)


def test_jacobians(xp_device: str) -> None:
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3, bias=False), nn.Tanh()).to("float64").to(xp_device)
    x = array(5, 4, device=xp_device)
    slope = (1 - net(x) ** 2).numpy()
    w = net[0].weight.numpy()
    np.testing.assert_allclose(jacobians(net, x).numpy(), slope[:, :, None] * w, atol=1e-12)
    by_parameter = jacobians(net, x, wrt="parameters")["0.weight"].numpy()
    expected = np.einsum("nc,cd,nk->ncdk", slope, np.eye(3), x.numpy())
    np.testing.assert_allclose(by_parameter, expected, atol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: per_sample_gradients(nn.Linear(2, 1), "mse", an.zeros((3, 2)), an.zeros((4, 1))), ValueError, "one number of samples"),
        (lambda: per_sample_gradients(lambda x: x, "mse", an.zeros((3, 2))), TypeError, "params"),
        (lambda: per_sample_gradients(nn.Linear(2, 2), lambda o: o, an.zeros((3, 2))), ValueError, "one number"),
        (lambda: jacobians(nn.Linear(2, 1), an.zeros((3, 2)), wrt="weights"), ValueError, "'inputs' or 'parameters'"),
        (lambda: jacobians(lambda x: an.sum(x), an.zeros((3, 2))), ValueError, r"\(1, …\)"),
        (lambda: jacobians(lambda x: x, an.asarray([[1], [2]])), TypeError, "int64"),
    ],
)  # fmt: skip
def test_errors(call, error, text) -> None:
    with pytest.raises(error, match=text):
        call()
