"""Hessians and learning rates by layer, against whole Hessians and the divergence of gradient descent."""

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.methods import (
    hessian_eigenvalues,
    hessian_learning_rates,
    hessian_vector_product,
    layer_wise_learning_rates,
)

rng = np.random.default_rng(0)


def problem(device: str = "cpu") -> tuple[nn.Module, an.Tensor, an.Tensor]:
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).to("float64").to(device)
    return (
        net,
        an.asarray(rng.normal(size=(9, 3)), device=device),
        an.asarray(rng.integers(0, 2, 9), device=device),
    )


def whole_hessian(net: nn.Module, x: an.Tensor, y: an.Tensor, names: list[str]) -> np.ndarray:
    point = {n: an.asarray(p.numpy(), device=x.device) for n, p in net.named_parameters() if n in names}

    def loss(parameters):
        return nn.functional.cross_entropy(nn.functional_call(net, parameters, x), y)

    blocks = an.hessian(loss)(point)
    sizes = {n: point[n].numpy().size for n in names}
    return np.block([[blocks[a][b].numpy().reshape(sizes[a], sizes[b]) for b in names] for a in names])


def test_eigenvalues_are_those_of_the_whole_hessian(xp_device: str) -> None:
    net, x, y = problem(xp_device)
    for names in ([n for n, _ in net.named_parameters()], ["0.weight", "0.bias"]):
        expected = np.linalg.eigvalsh(whole_hessian(net, x, y, names))[::-1]
        found = hessian_eigenvalues(net, "cross_entropy", x, y, count=3, parameters=names)
        np.testing.assert_allclose(found.values, expected[:3], atol=1e-9)
        assert max(found.bounds) < 1e-6
    assert all(p.grad is None for p in net.parameters())


def test_few_iterations_say_how_far_off_they_are() -> None:
    net, x, y = problem()
    expected = np.linalg.eigvalsh(whole_hessian(net, x, y, [n for n, _ in net.named_parameters()]))
    [value], [bound] = hessian_eigenvalues(net, "cross_entropy", x, y, iterations=3)
    assert bound > 1e-6
    assert np.abs(expected - value).min() <= bound


def test_product() -> None:
    a = rng.normal(size=(4, 4))
    h = a @ a.T
    found = hessian_vector_product(
        lambda p: 0.5 * an.sum(p["x"] * (an.asarray(h) @ p["x"])),
        {"x": an.asarray(a[0])},
        {"x": an.asarray(a[1])},
    )
    np.testing.assert_allclose(found["x"].numpy(), h @ a[1], atol=1e-10)
    with pytest.raises(ValueError, match="structure"):
        hessian_vector_product(an.sum, an.zeros(2), {"x": an.zeros(2)})


def test_twice_the_rate_of_a_linear_layer_diverges() -> None:
    x = rng.normal(size=(20, 3))
    net = nn.Linear(3, 1, bias=False).to("float64")
    [group] = hessian_learning_rates(net, "mse", x, np.zeros((20, 1)))
    assert group["lr"] == pytest.approx(1 / np.linalg.eigvalsh(2 * x.T @ x / 20)[-1], rel=1e-6)
    for factor, settles in ((1.9, True), (2.1, False)):
        w = np.ones(3)
        for _ in range(400):
            w = w - factor * group["lr"] * 2 * x.T @ (x @ w) / 20
        assert bool(np.linalg.norm(w) < 1) is settles


def test_groups_of_an_optimizer() -> None:
    net, x, y = problem()
    groups = layer_wise_learning_rates(net, 0.1, decay=0.5)
    assert [(g["name"], g["lr"], len(g["params"])) for g in groups] == [("0", 0.05, 2), ("2", 0.1, 2)]
    optimizer = an.optim.SGD(groups, lr=0.1)
    before = [p.numpy().copy() for p in net.parameters()]
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
    for p, old, lr in zip(net.parameters(), before, (0.05, 0.05, 0.1, 0.1), strict=True):
        np.testing.assert_allclose(p.numpy(), old - lr * p.grad.numpy(), atol=1e-12)
    curved = hessian_learning_rates(net, "cross_entropy", x, y)
    block = whole_hessian(net, x, y, ["2.weight", "2.bias"])
    assert curved[1]["lr"] == pytest.approx(1 / np.linalg.eigvalsh(block)[-1], rel=1e-6)
    net[0].weight.requires_grad = net[0].bias.requires_grad = False
    assert [g["name"] for g in layer_wise_learning_rates(net, 0.1)] == ["2"]


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda net, x, y: hessian_eigenvalues(net, "cross_entropy", x, y, count=0), "count"),
        (lambda net, x, y: hessian_eigenvalues(net, "cross_entropy", x, y, parameters=["0.weigth"]), "did you mean 0.weight"),
        (lambda net, x, y: hessian_eigenvalues(net, lambda output, target: output, x, y), "one number"),
        (lambda *_: hessian_learning_rates(nn.Linear(3, 1, bias=False), lambda o: -an.sum(o * o), np.eye(3, dtype="f")), "no positive"),
        (lambda net, x, y: hessian_eigenvalues(net, "cross_entropy", x * float("nan"), y), "not finite"),
        (lambda net, x, y: layer_wise_learning_rates(net, 0.1, decay=0), "decay"),
    ],
)  # fmt: skip
def test_errors(call, text) -> None:
    with pytest.raises(ValueError, match=text):
        call(*problem())
