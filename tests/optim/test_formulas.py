"""Trajectories in float64 against PyTorch, or against the formula of the paper where PyTorch has no such optimizer."""

import copy
import math

import numpy as np
import pytest

import anynet as an
from anynet import optim
from optim.networks import agree, data, groups, network, twins
from torch_oracle import torch


@pytest.fixture(autouse=True)
def in_double():
    """PyTorch keeps ASGD's rates in its default dtype."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def follow(ours, theirs, net, twin, n=100):
    """n steps of both with a schedule, of which the loss is a mean of squares."""
    x, y = data()
    ax, ay, tx, ty = an.asarray(x), an.asarray(y), torch.tensor(x), torch.tensor(y)
    s, t = optim.StepLR(ours, 30, 0.5), torch.optim.lr_scheduler.StepLR(theirs, 30, 0.5)
    for _ in range(n):
        ours.zero_grad()
        an.losses.mse_loss(net(ax), ay).backward()
        ours.step()
        s.step()
        theirs.zero_grad()
        torch.nn.functional.mse_loss(twin(tx), ty).backward()
        theirs.step()
        t.step()


def orthogonal(x, coefficients, steps, eps):
    """PyTorch's iteration of Muon in the type of x, where its own is in bfloat16."""
    a, b, c = coefficients
    u = x.T if x.shape[0] > x.shape[1] else x
    u = u / u.norm().clamp(min=eps)
    for _ in range(steps):
        gram = u @ u.T
        u = a * u + (b * gram + c * gram @ gram) @ u
    return u.T if x.shape[0] > x.shape[1] else u


CASES = [
    ("ASGD", {"lr": 0.05}),
    ("ASGD", {"lr": 0.05, "lambd": 0.01, "alpha": 0.5, "t0": 20, "weight_decay": 0.01}),
    ("ASGD", {"lr": 1e-3, "t0": 3, "maximize": True}),
    ("Adafactor", {}),
    ("Adafactor", {"lr": 0.02, "weight_decay": 0.1, "beta2_decay": -0.5, "d": 2.0}),
    ("Adafactor", {"eps": (1e-4, 0.01), "maximize": True}),
    ("Muon", {"lr": 0.02}),
    ("Muon", {"lr": 0.02, "nesterov": False, "momentum": 0.8, "weight_decay": 0.0}),
    ("Muon", {"lr": 0.02, "adjust_lr_fn": "match_rms_adamw", "ns_steps": 3}),
    ("Adam", {"lr": 0.01, "weight_decay": 0.1, "decoupled_weight_decay": True}),
]


@pytest.mark.parametrize(("name", "options"), CASES)
def test_trajectory_equals_torch(monkeypatch, name, options):
    monkeypatch.setattr("torch.optim._muon._zeropower_via_newtonschulz", orthogonal)
    net, twin = twins()
    ours = getattr(optim, name)(groups(net, name == "Muon"), **options)
    theirs = getattr(torch.optim, name)(groups(twin, name == "Muon"), **options)
    follow(ours, theirs, net, twin)
    agree(net, twin)
    if name == "ASGD":
        mine = ours.state_dict()["state"][0]["ax"].numpy()
        assert abs(mine - theirs.state_dict()["state"][0]["ax"].numpy()).max() < 1e-10


def by_formula(name, p, g, s, t, o):
    """One step as the papers have it, on a NumPy array p, with state s."""
    lr, wd = o["lr"], o.get("weight_decay", 0.0)
    if name == "Lion":
        (b1, b2), m = o.get("betas", (0.9, 0.99)), s.setdefault("m", np.zeros_like(p))
        p -= lr * (np.sign(b1 * m + (1 - b1) * g) + wd * p)
        s["m"] = b2 * m + (1 - b2) * g
    elif name in ("LAMB", "AdaBound"):
        b1, b2 = o.get("betas", (0.9, 0.999))
        eps = o.get("eps", 1e-6 if name == "LAMB" else 1e-8)
        if name == "AdaBound":
            g = g + wd * p
        s["m"] = b1 * s.get("m", 0) + (1 - b1) * g
        s["v"] = b2 * s.get("v", 0) + (1 - b2) * g * g
        if name == "LAMB":
            u = s["m"] / (1 - b1**t) / (np.sqrt(s["v"] / (1 - b2**t)) + eps) + wd * p
            p -= lr * np.linalg.norm(p) / np.linalg.norm(u) * u
        else:
            v = s["top"] = np.maximum(s.get("top", 0), s["v"]) if o.get("amsbound") else s["v"]
            final, gamma = o.get("final_lr", 0.1) * lr / s.setdefault("base", lr), o.get("gamma", 1e-3)
            rate = lr * math.sqrt(1 - b2**t) / (1 - b1**t) / (np.sqrt(v) + eps)
            p -= np.clip(rate, final * (1 - 1 / (gamma * t + 1)), final * (1 + 1 / (gamma * t))) * s["m"]
    elif name == "LARS":
        u = g + wd * p
        u = (
            u
            * lr
            * o.get("trust_coefficient", 1e-3)
            * np.linalg.norm(p)
            / (np.linalg.norm(u) + o.get("eps", 0.0))
        )
        s["v"] = o.get("momentum", 0.9) * s.get("v", 0) + u
        p -= u + o.get("momentum", 0.9) * s["v"] if o.get("nesterov") else s["v"]


FORMULAS = [
    ("Lion", {"lr": 0.01}), ("Lion", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1}),
    ("LAMB", {"lr": 0.01}), ("LAMB", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.1, "eps": 1e-3}),
    ("LARS", {"lr": 0.5}), ("LARS", {"lr": 0.5, "weight_decay": 0.1, "nesterov": True, "eps": 1e-3, "momentum": 0.5}),
    ("AdaBound", {"lr": 0.01}), ("AdaBound", {"lr": 0.01, "amsbound": True, "gamma": 0.1, "weight_decay": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), FORMULAS)
def test_trajectory_equals_the_formula(name, options):
    net, twin = network(), network()
    optimizer = getattr(optim, name)(groups(net), **options)
    schedule = optim.StepLR(optimizer, 30, 0.5)
    x, y = (an.asarray(a) for a in data())
    states = [{} for _ in twin.parameters()]
    for t in range(1, 101):
        for n in (net, twin):
            n.zero_grad()
            an.losses.mse_loss(n(x), y).backward()
        rates = [g["lr"] for g in optimizer.param_groups]
        optimizer.step()
        schedule.step()
        for i, (p, s) in enumerate(zip(twin.parameters(), states, strict=True)):
            by_formula(name, p.data, p.grad.numpy().copy(), s, t, {**options, "lr": rates[i // 2]})
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert abs(p.numpy() - q.numpy()).max() <= 1e-10


STATEFUL = [
    *CASES,
    *FORMULAS,
    ("ScheduleFreeAdamW", {"lr": 0.01, "warmup_steps": 7}),
    ("LBFGS", {"lr": 0.1, "max_iter": 2}),
]


@pytest.mark.parametrize(("name", "options"), STATEFUL)
def test_state_survives_save_and_load_bit_for_bit(name, options, tmp_path):
    x, y = (an.asarray(a) for a in data())

    def steps(net, optimizer, n):
        def closure():
            optimizer.zero_grad()
            loss = an.losses.mse_loss(net(x), y)
            loss.backward()
            return loss

        for _ in range(n):
            optimizer.step(closure)

    def make(net):
        given = net.parameters() if name == "LBFGS" else groups(net, name == "Muon")
        return getattr(optim, name)(given, **options)

    whole = network()
    optimizer = make(whole)
    steps(whole, optimizer, 5)
    an.save(tmp_path / "o.safetensors", {"o": optimizer.state_dict(), "m": dict(whole.state_dict())})
    twin, twin_optimizer = copy.deepcopy((whole, optimizer))
    steps(whole, optimizer, 5)
    saved = an.load(tmp_path / "o.safetensors")
    again = network()
    again.load_state_dict(saved["m"])
    other = make(again)
    other.load_state_dict(saved["o"])
    steps(again, other, 5)
    steps(twin, twin_optimizer, 5)
    for p, q, r in zip(whole.parameters(), again.parameters(), twin.parameters(), strict=True):
        assert (p.numpy() == q.numpy()).all()
        assert (p.numpy() == r.numpy()).all()


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda p: optim.Muon([p]), ValueError, "optimizes matrices"),
        (lambda p: optim.Muon([an.Parameter([[1.0]])], adjust_lr_fn="x"), ValueError, "adjust_lr_fn"),
        (lambda p: optim.Adafactor([p], d=0.5), ValueError, "d must be a number ≥ 1"),
        (lambda p: optim.LARS([p], momentum=1.0), ValueError, "momentum"),
        (lambda p: optim.AdaBound([p], gamma=2.0), ValueError, "gamma"),
        (lambda p: optim.Lion([p], betas=(1.0, 0.9)), ValueError, r"betas\[0\]"),
        (lambda p: optim.LBFGS([p], line_search_fn="armijo"), ValueError, "strong_wolfe"),
        (lambda p: optim.LBFGS([p], max_iter=0), ValueError, "max_iter"),
        (
            lambda p: optim.LBFGS([{"params": [p]}, {"params": [an.Parameter([1.0])]}]),
            ValueError,
            "one parameter group",
        ),
        (lambda p: optim.LBFGS([p]).step(), TypeError, "closure"),
        (lambda p: optim.SAM(optim.SGD([p])).step(), TypeError, "closure"),
        (lambda p: optim.SAM(p), TypeError, "takes an optimizer"),
        (lambda p: optim.MultiSteps(optim.SGD([p]), 0), ValueError, "every must be an integer ≥ 1"),
    ],
)
def test_bad_arguments(make, error, match):
    with pytest.raises(error, match=match):
        make(an.Parameter([1.0]))
