"""A resumed run equals an unbroken one, bit for bit: every optimizer with every schedule, averages of weights, wrappers."""

import itertools

import numpy as np
import pytest

import anynet as an
from anynet import optim

OPTIMIZERS = {
    "SGD": {}, "Adagrad": {}, "RMSprop": {"centered": True}, "Adam": {"amsgrad": True}, "AdamW": {}, "Adadelta": {}, "Adamax": {},
    "NAdam": {}, "RAdam": {}, "Rprop": {}, "ASGD": {"t0": 2}, "Adafactor": {}, "Muon": {}, "LAMB": {}, "LARS": {}, "Lion": {},
    "AdaBound": {}, "ScheduleFreeAdamW": {"warmup_steps": 3}, "LBFGS": {"max_iter": 2}, "SparseAdam": {},
}  # fmt: skip
SCHEDULES = {
    "LambdaLR": {"lr_lambda": lambda t: 0.9**t}, "MultiplicativeLR": {"lr_lambda": lambda t: 0.9}, "StepLR": {"step_size": 2},
    "MultiStepLR": {"milestones": [1, 4]}, "ConstantLR": {"total_iters": 4}, "LinearLR": {}, "ExponentialLR": {"gamma": 0.8},
    "PolynomialLR": {"total_iters": 8}, "CosineAnnealingLR": {"T_max": 5}, "CosineAnnealingWarmRestarts": {"T_0": 3, "T_mult": 2},
    "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 3, "base_momentum": 0.1},
    "OneCycleLR": {"max_lr": 0.1, "total_steps": 20}, "ReduceLROnPlateau": {"patience": 1, "factor": 0.5},
    "SWALR": {"swa_lr": 0.01, "anneal_epochs": 4}, "SequentialLR": {}, "ChainedScheduler": {},
}  # fmt: skip


def test_every_optimizer_and_every_schedule_is_here():
    classes = [getattr(optim, n) for n in optim.__all__ if isinstance(getattr(optim, n), type)]
    own = {c.__name__ for c in classes if issubclass(c, optim.Optimizer)} - {
        "Optimizer",
        "ZeroRedundancyOptimizer",
    }
    assert own == set(OPTIMIZERS)
    schedules = {c.__name__ for c in classes if issubclass(c, optim.LRScheduler)} - {"LRScheduler"}
    assert schedules | {"SWALR"} == set(SCHEDULES)


def build(optimizer, schedule, dtype="float32"):
    """Fresh parameters, and an optimizer with a schedule over them."""
    p = [
        an.Parameter(np.linspace(-1, 1, 6).reshape(2, 3), dtype=dtype),
        an.Parameter(np.linspace(1, 2, 4).reshape(2, 2), dtype=dtype),
    ]
    groups = p if optimizer == "LBFGS" else [{"params": p[:1]}, {"params": p[1:], "lr": 0.02}]
    o = getattr(optim, optimizer)(groups, lr=0.03, **OPTIMIZERS[optimizer])
    options = dict(SCHEDULES[schedule])
    if schedule in ("CyclicLR", "OneCycleLR"):
        options["cycle_momentum"] = "momentum" in o.defaults or "betas" in o.defaults
    if schedule == "SequentialLR":
        s = optim.SequentialLR(o, [optim.LinearLR(o, total_iters=4), optim.CosineAnnealingLR(o, 6)], [4])
    elif schedule == "ChainedScheduler":
        s = optim.ChainedScheduler([optim.ConstantLR(o, total_iters=4), optim.ExponentialLR(o, 0.9)])
    else:
        s = getattr(optim.swa_utils if schedule == "SWALR" else optim, schedule)(o, **options)
    return p, o, s


def go(p, o, s, first, last):
    """Steps, in which the second parameter has no gradient at times; a metric that gets worse; gradients are clipped."""
    for t in range(first, last):

        def closure(t=t):
            o.zero_grad()
            loss = an.sum((p[0] * p[0] - 0.3 * p[0] + 0.1 * t) ** 2)
            if t % 3 != 1:
                loss = loss + an.sum(p[1] ** 4)
            loss.backward()
            for x in p:
                if type(o) is optim.SparseAdam and x.grad is not None:  # takes rows alone
                    x.grad = an.SparseRows([0, 1], x.grad, x.shape)
            optim.clip_grad_norm_(p, 1.0)
            return loss

        o.step(closure)
        s.step(*((1.0 + 0.1 * (t % 4),) if isinstance(s, optim.ReduceLROnPlateau) else ()))


def same(p, q):
    for a, b in zip(p, q, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize(("optimizer", "schedule"), list(itertools.product(OPTIMIZERS, SCHEDULES)))
@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning")
def test_every_pair(optimizer, schedule, tmp_path):
    p, o, s = build(optimizer, schedule)
    go(p, o, s, 0, 5)
    an.save(tmp_path / "state.safetensors", {"p": p, "o": o.state_dict(), "s": s.state_dict()})
    go(p, o, s, 5, 10)
    saved = an.load(tmp_path / "state.safetensors")
    q, u, v = build(optimizer, schedule)
    with an.no_grad():
        for a, b in zip(q, saved["p"], strict=True):
            a.assign_(b)
    loads = [lambda: u.load_state_dict(saved["o"]), lambda: v.load_state_dict(saved["s"])]
    for load in loads if len(schedule) % 2 else reversed(loads):  # in either order
        load()
    go(q, u, v, 5, 10)
    same(p, q)
    assert str(o.param_groups[0].copy() | {"params": 0}) == str(u.param_groups[0].copy() | {"params": 0})


@pytest.mark.parametrize("dtype", ["float16", "float64"])
@pytest.mark.parametrize("optimizer", list(OPTIMIZERS))
@pytest.mark.filterwarnings("ignore:(overflow|invalid):RuntimeWarning")
def test_other_dtypes_at_every_step(optimizer, dtype, tmp_path):
    p, o, s = build(optimizer, "OneCycleLR", dtype)
    q, u, v = build(optimizer, "OneCycleLR", dtype)
    for t in range(8):
        go(p, o, s, t, t + 1)
        go(q, u, v, t, t + 1)
        an.save(tmp_path / "state.safetensors", {"p": q, "o": u.state_dict(), "s": v.state_dict()})
        saved = an.load(tmp_path / "state.safetensors")
        q, u, v = build(optimizer, "OneCycleLR", dtype)
        with an.no_grad():
            for a, b in zip(q, saved["p"], strict=True):
                a.assign_(b)
        u.load_state_dict(saved["o"])
        v.load_state_dict(saved["s"])
        same(p, q)


@pytest.mark.parametrize("average", ["mean", "ema", "buffers"])
def test_averages_of_weights(average, tmp_path):
    def fresh():
        an.random.manual_seed(0)
        net = an.nn.Sequential(an.nn.Linear(2, 3), an.nn.BatchNorm1d(3), an.nn.Linear(3, 1))
        o = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
        swa = optim.swa_utils
        options = {"mean": {}, "ema": {"avg_fn": swa.get_ema_avg_fn(0.9)}, "buffers": {"use_buffers": True}}[
            average
        ]
        return net, o, swa.SWALR(o, 0.05, 3), swa.AveragedModel(net, **options)

    def run(net, o, s, mean, first, last):
        x = an.reshape(an.sin(an.arange(12, dtype="float32")), (6, 2))
        for t in range(first, last):
            o.zero_grad()
            an.sum(net(x + 0.1 * t) ** 2).backward()
            o.step()
            s.step()
            mean.update_parameters(net)

    net, o, s, mean = fresh()
    run(net, o, s, mean, 0, 4)
    parts = {
        "net": dict(net.state_dict()),
        "o": o.state_dict(),
        "s": s.state_dict(),
        "mean": dict(mean.state_dict()),
    }
    an.save(tmp_path / "state.safetensors", parts)
    run(net, o, s, mean, 4, 8)
    saved = an.load(tmp_path / "state.safetensors")
    again = fresh()
    for part, name in zip(again, ("net", "o", "s", "mean"), strict=True):
        part.load_state_dict(saved[name])
    run(*again, 4, 8)
    for one, other in ((net, again[0]), (mean, again[3])):
        for (name, a), b in zip(one.state_dict().items(), other.state_dict().values(), strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy(), err_msg=name)


@pytest.mark.parametrize("wrapper", ["SAM", "MultiSteps"])
def test_wrappers(wrapper):
    def fresh():
        p, o, s = build("Adam", "StepLR")
        return p, optim.SAM(o, 0.1) if wrapper == "SAM" else optim.MultiSteps(o, 2), s

    p, o, s = fresh()
    go(p, o, s, 0, 6)
    q, u, v = fresh()
    u.load_state_dict(o.state_dict())
    v.load_state_dict(s.state_dict())
    with an.no_grad():
        for a, b in zip(q, p, strict=True):
            a.assign_(b)
    go(p, o, s, 6, 12)
    go(q, u, v, 6, 12)
    same(p, q)
