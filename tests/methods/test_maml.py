"""MAML: the meta-gradient against finite differences, steps against the optimizers themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import anynet as an
from anynet import methods, nn
from anynet.nn import functional as F

rng = np.random.default_rng(0)

RULES: dict[str, Callable[[Any], an.optim.Optimizer]] = {
    "sgd": lambda p: an.optim.SGD(p, lr=0.1),
    "nesterov": lambda p: an.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
    "adam": lambda p: an.optim.Adam(p, lr=0.05, weight_decay=0.02),
    "adamw": lambda p: an.optim.AdamW(p, lr=0.05, amsgrad=True),
    "adagrad": lambda p: an.optim.Adagrad(p, lr=0.05, initial_accumulator_value=0.3),
    "rmsprop": lambda p: an.optim.RMSprop(p, lr=0.05, momentum=0.5, centered=True),
    "maximize": lambda p: an.optim.SGD(p, lr=0.01, maximize=True),
    "l1": lambda p: an.optim.SGD(p, lr=0.01, l1=0.1),
}


def network(device: str | None = None) -> nn.Sequential:
    an.random.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).to(device=device, dtype=an.float64)


def task(device: str | None = None) -> list[an.Tensor]:
    shapes = ((5, 2), (5, 1), (6, 2), (6, 1))
    return [an.asarray(rng.normal(size=s), device=device) for s in shapes]


def finite_difference(f: Callable[[], Any], p: an.Tensor, at: tuple[int, ...], h: float = 1e-5) -> float:
    values = []
    for sign in (1, -1):
        with an.no_grad():
            p[at] += sign * h
        values.append(float(f()))
        with an.no_grad():
            p[at] -= sign * h
    return (values[0] - values[1]) / (2 * h)


@pytest.mark.parametrize("rule", RULES)
def test_meta_gradient(rule: str) -> None:
    """Through two steps of each optimizer, against central differences."""
    net, tasks = network(), [task(), task()]

    def meta() -> an.Tensor:
        return methods.maml_loss(net, tasks, F.mse_loss, steps=2, optimizer=RULES[rule])

    meta().backward()
    for p in net.parameters():
        assert p.grad is not None
        for at in [(0,) * p.ndim, tuple(n - 1 for n in p.shape)]:
            assert abs(float(p.grad[at]) - finite_difference(meta, p, at)) < 1e-7


def test_meta_gradient_on_each_device(xp_device: str) -> None:
    net, batch = network(xp_device), task(xp_device)
    loss = methods.maml_loss(net, [batch], F.mse_loss, lr=0.1)
    loss.backward()
    p = net[0].weight
    assert p.grad.device == p.device
    assert p.grad.dtype == an.float64
    numeric = finite_difference(lambda: methods.maml_loss(net, [batch], F.mse_loss, lr=0.1), p, (1, 1))
    assert abs(float(p.grad[1, 1]) - numeric) < 1e-7


@pytest.mark.parametrize("rule", RULES)
def test_steps_are_the_optimizers(rule: str) -> None:
    net, (x, y, _, _) = network(), task()
    fast = methods.adapt(net, lambda f: F.mse_loss(f(x), y), steps=3, optimizer=RULES[rule])
    before = {k: v.tolist() for k, v in network().state_dict().items()}
    assert {k: v.tolist() for k, v in net.state_dict().items()} == before  # adapt changed nothing
    optimizer = RULES[rule](net.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        F.mse_loss(net(x), y).backward()
        optimizer.step()
    for name, p in net.named_parameters():
        np.testing.assert_allclose(fast[name].tolist(), p.tolist(), rtol=1e-12)


def test_first_order_leaves_out_second_derivatives() -> None:
    """L = w²: second order gives (1 − 2α)² 2w, first order (1 − 2α) 2w."""
    net = nn.Linear(1, 1, bias=False).to(an.float64)
    one, zero = an.ones((1, 1), dtype=an.float64), an.zeros((1, 1), dtype=an.float64)
    w = net.weight.item()
    for first_order, power in ((False, 2), (True, 1)):
        net.zero_grad()
        tasks = [(one, zero, one, zero)]
        methods.maml_loss(net, tasks, F.mse_loss, lr=0.2, first_order=first_order).backward()
        assert abs(net.weight.grad.item() - 0.6**power * 2 * w) < 1e-12


def test_a_learned_rate_gets_a_gradient() -> None:
    """Meta-SGD: dL/dα of (w − αg)² is −2 g (w − αg)."""
    net = nn.Linear(1, 1, bias=False).to(an.float64)
    one, w = an.ones((1, 1), dtype=an.float64), net.weight.item()
    alpha = an.asarray(0.1, dtype=an.float64, requires_grad=True)
    fast = methods.adapt(net, lambda f: an.sum(f(one) ** 2), optimizer=lambda p: an.optim.SGD(p, lr=alpha))
    an.sum(fast["weight"] ** 2).backward()
    assert abs(alpha.grad.item() - -2 * (2 * w) * (w - 0.1 * 2 * w)) < 1e-12


def test_tasks_side_by_side_and_compiled() -> None:
    """vmap over stacked tasks is the loop over them, and a compiled step gives the same bits."""
    net, tasks = network(), [task() for _ in range(3)]
    rule = methods.DifferentiableOptimizer(RULES["sgd"], dict(net.named_parameters()))

    def one(x: an.Tensor, y: an.Tensor, q: an.Tensor, t: an.Tensor) -> an.Tensor:
        fast = methods.adapt(net, lambda f: F.mse_loss(f(x), y), optimizer=rule)
        return F.mse_loss(nn.functional_call(net, fast, q), t)

    def step(*stacked: an.Tensor) -> an.Tensor:
        net.zero_grad()
        loss = an.mean(an.vmap(one)(*stacked))
        loss.backward()
        return loss

    stacked = [an.stack([t[i] for t in tasks]) for i in range(4)]
    loss = step(*stacked)
    grads = [p.grad.tolist() for p in net.parameters()]
    net.zero_grad()
    looped = methods.maml_loss(net, tasks, F.mse_loss, optimizer=RULES["sgd"])
    looped.backward()
    assert abs(loss.item() - looped.item()) < 1e-12
    for p, g in zip(net.parameters(), grads, strict=True):
        np.testing.assert_allclose(p.grad.tolist(), g, rtol=1e-9, atol=1e-12)
    compiled = an.compile(step)
    for _ in range(3):
        assert compiled(*stacked).item() == loss.item()
        assert [p.grad.tolist() for p in net.parameters()] == grads


def test_batch_norm_is_not_changed() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    x, y = an.asarray(rng.normal(size=(6, 2)), dtype=an.float32), an.zeros((6, 1))
    before = {k: v.tolist() for k, v in net.state_dict().items()}
    methods.maml_loss(net, [(x, y, x, y)], F.mse_loss, steps=2).backward()
    assert {k: v.tolist() for k, v in net.state_dict().items()} == before


def test_what_is_refused() -> None:
    net, (x, y, _, _) = network(), task()

    def loss(f: Callable[..., Any]) -> Any:
        return F.mse_loss(f(x), y)

    with pytest.raises(ValueError, match="at least one task, got none"):
        methods.maml_loss(net, [], F.mse_loss)
    with pytest.raises(ValueError, match="steps must be an integer ≥ 0, got -1"):
        methods.adapt(net, loss, steps=-1)
    with pytest.raises(ValueError, match="LBFGS's step is not an update of each parameter by itself"):
        methods.adapt(net, loss, optimizer=lambda p: an.optim.LBFGS(p))
    with pytest.raises(TypeError, match="make must return an optimizer, got NoneType"):
        methods.adapt(net, loss, optimizer=lambda p: None)  # type: ignore[arg-type, return-value]
