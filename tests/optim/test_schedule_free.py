"""Schedule-free AdamW against the paper's recurrences, kept as three sequences: y, x, z."""

import numpy as np
import pytest

import anynet as an
from anynet import optim
from optim.networks import data, network


def trained(steps, beta1_of, monitor=None, options=None, dtype="float64", restore=None):
    """The optimizer and its parameter after some steps down a quartic with β₁ by step, and what the recurrences give."""
    options = options or {}
    start = np.asarray([1.0, -2.0, 0.5])
    p = an.Parameter(start, dtype=dtype)
    optimizer = optim.ScheduleFreeAdamW([p], lr=0.05, betas=(beta1_of(1), 0.9), **options)
    x, y, z, v, total = start.copy(), start.copy(), start.copy(), np.zeros(3), 0.0
    for t in range(1, steps + 1):
        optimizer.zero_grad()
        an.sum(p**4 + 2.0 * p).backward()
        gradient = p.grad.numpy().astype("float64")
        optimizer.param_groups[0]["betas"] = (beta1_of(t), 0.9)
        y = (1 - beta1_of(t)) * z + beta1_of(t) * x
        optimizer.step()
        lr = 0.05 * min(1.0, t / options["warmup_steps"] if options.get("warmup_steps") else 1.0)
        total += lr**2
        v = 0.9 * v + 0.1 * gradient**2
        z = z - lr * (gradient / (np.sqrt(v / (1 - 0.9**t)) + 1e-8) + options.get("weight_decay", 0.0) * y)
        x = x + lr**2 / total * (z - x)
        y = (1 - beta1_of(t)) * z + beta1_of(t) * x
        if monitor is not None:
            monitor(p, y)
        if restore is not None:
            p, optimizer = restore(p, optimizer)
    return p, optimizer, x, y


def changing(t):
    """β₁ as a cyclic schedule changes it."""
    return 0.5 + 0.4 * (t % 7) / 7


@pytest.mark.parametrize("options", [{}, {"warmup_steps": 10, "weight_decay": 0.1}])
@pytest.mark.parametrize("beta1_of", [lambda t: 0.9, changing, lambda t: 0.9 if t < 10 else 0.3])
def test_a_beta1_that_changes_takes_effect_at_once(beta1_of, options):
    def compare(p, y):
        assert abs(p.numpy() - y).max() < 1e-12

    p, optimizer, x, y = trained(30, beta1_of, compare, options)
    # the mean is that of the β₁ that y was computed with, whatever β₁ is written between the last step and eval()
    optimizer.param_groups[0]["betas"] = (0.7, 0.9)
    optimizer.eval()
    assert abs(p.numpy() - x).max() < 1e-12
    optimizer.train()
    z = (y - beta1_of(30) * x) / (1 - beta1_of(30))
    assert abs(p.numpy() - (0.3 * z + 0.7 * x)).max() < 1e-12


def test_a_state_saved_while_beta1_changes_goes_on_bit_for_bit():
    def again(p, optimizer):
        q = an.Parameter(p.detach() + 0.0)
        other = optim.ScheduleFreeAdamW([q], lr=0.1)
        other.load_state_dict(optimizer.state_dict())
        return q, other

    p, *_ = trained(12, changing)
    q, *_ = trained(12, changing, restore=again)
    assert (p.numpy() == q.numpy()).all()


def test_a_state_of_an_earlier_version_has_the_beta1_it_holds():
    p, optimizer, x, _ = trained(5, lambda t: 0.9)
    state = optimizer.state_dict()
    del state["param_groups"][0]["y_beta1"]
    q = an.Parameter(p.detach() + 0.0)
    other = optim.ScheduleFreeAdamW([q], betas=(0.5, 0.9))
    an.sum(q * 2.0).backward()
    other.step()
    with an.no_grad():
        q.assign_(p.detach())
    other.load_state_dict(state)
    other.eval()
    assert abs(q.numpy() - x).max() < 1e-12


def test_a_cyclic_schedule_moves_beta1_and_keeps_the_mean():
    p = an.Parameter([3.0], dtype="float64")
    optimizer = optim.ScheduleFreeAdamW([p], lr=0.1)
    schedule = optim.CyclicLR(optimizer, 0.05, 0.2, step_size_up=5)
    for _ in range(400):
        optimizer.zero_grad()
        an.sum((p - 1.0) ** 2).backward()
        optimizer.step()
        schedule.step()
    optimizer.eval()
    assert abs(p.numpy() - 1.0).max() < 1e-2


def test_float16_parameters_follow_a_beta1_that_changes():
    p, optimizer, x, _ = trained(10, changing, dtype="float16")
    optimizer.eval()
    assert p.dtype == "float16"
    assert abs(p.numpy() - x).max() < 2e-2


@pytest.mark.parametrize(
    "options", [{}, {"warmup_steps": 10, "weight_decay": 0.1, "r": 1.0, "betas": (0.95, 0.9)}]
)
def test_schedule_free_keeps_the_mean(options):
    """The parameters of `eval` are x of the paper's recurrences, kept here as three sequences."""
    net = network()
    optimizer = optim.ScheduleFreeAdamW(net.parameters(), lr=0.05, **options)
    beta1, beta2 = options.get("betas", (0.9, 0.999))
    y = [p.numpy().copy() for p in net.parameters()]
    x, z, v = ([a.copy() for a in y] for _ in range(3))
    v = [np.zeros_like(a) for a in v]
    total = 0.0
    inputs, target = (an.asarray(a) for a in data())
    for t in range(1, 101):
        optimizer.zero_grad()
        an.losses.mse_loss(net(inputs), target).backward()
        grads = [p.grad.numpy().copy() for p in net.parameters()]
        optimizer.step()
        lr = 0.05 * min(1.0, t / options["warmup_steps"] if options.get("warmup_steps") else 1.0)
        weight = t ** options.get("r", 0.0) * lr**2
        total += weight
        for i, g in enumerate(grads):
            v[i] = beta2 * v[i] + (1 - beta2) * g * g
            step = g / (np.sqrt(v[i] / (1 - beta2**t)) + 1e-8) + options.get("weight_decay", 0.0) * y[i]
            z[i] = z[i] - lr * step
            x[i] = x[i] + weight / total * (z[i] - x[i])
            y[i] = (1 - beta1) * z[i] + beta1 * x[i]
    for p, a in zip(net.parameters(), y, strict=True):
        assert abs(p.numpy() - a).max() < 1e-10
    optimizer.eval()
    for p, a in zip(net.parameters(), x, strict=True):
        assert abs(p.numpy() - a).max() < 1e-10
    with pytest.raises(RuntimeError, match="call train"):
        optimizer.step()
    optimizer.train()
    for p, a in zip(net.parameters(), y, strict=True):
        assert abs(p.numpy() - a).max() < 1e-10
