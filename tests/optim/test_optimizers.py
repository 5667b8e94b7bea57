"""Trajectories equal PyTorch's over 100 steps in float64, with two groups and a schedule; state is flat, saved and loaded bit for bit."""

import math

import numpy as np
import pytest

import anynet as an
from anynet import optim
from anynet.autograd.primitive import use_kernels

CASES = [
    ("SGD", {"lr": 0.05}),
    ("SGD", {"lr": 0.05, "momentum": 0.9}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    ("SGD", {"lr": 0.05, "momentum": 0.9, "dampening": 0.3}),
    ("SGD", {"lr": 1e-3, "maximize": True}),
    ("Adagrad", {"lr": 0.05}),
    ("Adagrad", {"lr": 0.05, "lr_decay": 0.01, "initial_accumulator_value": 0.1, "weight_decay": 0.01}),
    ("RMSprop", {"lr": 0.005}),
    ("RMSprop", {"lr": 0.005, "momentum": 0.9, "centered": True, "weight_decay": 0.01}),
    ("Adam", {"lr": 0.01}),
    ("Adam", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.02}),
    ("Adam", {"lr": 0.01, "amsgrad": True}),
    ("Adadelta", {}),
    ("Adadelta", {"lr": 0.5, "rho": 0.8, "eps": 1e-4, "weight_decay": 0.01, "maximize": True}),
    ("Adamax", {}),
    ("Adamax", {"lr": 0.01, "betas": (0.8, 0.95), "weight_decay": 0.02}),
    ("NAdam", {}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.02, "momentum_decay": 0.01}),
    ("NAdam", {"lr": 0.01, "weight_decay": 0.02, "decoupled_weight_decay": True, "betas": (0.8, 0.95)}),
    ("RAdam", {"lr": 0.01}),
    ("RAdam", {"lr": 0.01, "betas": (0.8, 0.9), "weight_decay": 0.02, "maximize": True}),
    ("RAdam", {"lr": 0.01, "weight_decay": 0.02, "decoupled_weight_decay": True}),
    ("Rprop", {}),
    ("Rprop", {"lr": 0.05, "etas": (0.3, 1.5), "step_sizes": (1e-3, 0.1)}),
    ("AdamW", {"lr": 0.01}),
    ("AdamW", {"lr": 0.01, "amsgrad": True, "weight_decay": 0.1, "maximize": True}),
]


def network(device="cpu"):
    an.random.manual_seed(1)
    return an.nn.Sequential(
        an.nn.Linear(3, 5, dtype="float64", device=device), an.nn.Tanh(),
        an.nn.Linear(5, 2, dtype="float64", device=device),
    )  # fmt: skip


def data(device="cpu"):
    an.random.manual_seed(2)
    return tuple(an.random.normal((8, n), dtype="float64", device=device) for n in (3, 2))


def groups(net, torch_like=False):
    first, last = list(net[0].parameters()), list(net[2].parameters())
    return [{"params": first}, {"params": last, "lr": 0.002}]


def steps(net, optimizer, x, y, n, scheduler=None):
    for _ in range(n):
        optimizer.zero_grad()
        an.losses.mse_loss(net(x), y).backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_trajectory_equals_torch(name, options):
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    net = network()
    x, y = data()
    twin = torch.nn.Sequential(torch.nn.Linear(3, 5), torch.nn.Tanh(), torch.nn.Linear(5, 2)).double()
    twin.load_state_dict({k: torch.tensor(v.numpy().copy()) for k, v in net.state_dict().items()})
    ours = getattr(optim, name)(groups(net), **options)
    theirs = getattr(torch.optim, name)(groups(twin), **options)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # PyTorch keeps NAdam's product of momenta in the default dtype
    try:
        follow(ours, theirs, net, twin, x, y)
    finally:
        torch.set_default_dtype(before)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert abs(p.numpy() - q.detach().numpy()).max() <= 1e-12 * max(1.0, abs(q.detach().numpy()).max())


def follow(ours, theirs, net, twin, x, y):
    torch = pytest.importorskip("torch")
    tx, ty = torch.tensor(x.numpy()), torch.tensor(y.numpy())
    mine = optim.CosineAnnealingLR(ours, 100, eta_min=1e-4)
    other = torch.optim.lr_scheduler.CosineAnnealingLR(theirs, 100, eta_min=1e-4)
    for _ in range(100):
        steps(net, ours, x, y, 1, mine)
        theirs.zero_grad()
        torch.nn.functional.mse_loss(twin(tx), ty).backward()
        theirs.step()
        other.step()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_state_survives_save_and_load_bit_for_bit(name, options, tmp_path):
    x, y = data()
    whole = network()
    optimizer = getattr(optim, name)(groups(whole), **options)
    steps(whole, optimizer, x, y, 5)
    an.save(tmp_path / "o.safetensors", {"o": optimizer.state_dict(), "m": dict(whole.state_dict())})
    steps(whole, optimizer, x, y, 5)
    saved = an.load(tmp_path / "o.safetensors")
    again = network()
    again.load_state_dict(saved["m"])
    other = getattr(optim, name)(groups(again), **options)
    other.load_state_dict(saved["o"])
    steps(again, other, x, y, 5)
    for p, q in zip(whole.parameters(), again.parameters(), strict=True):
        assert (p.numpy() == q.numpy()).all()


@pytest.mark.parametrize(("name", "options"), CASES)
def test_same_on_strict_device(name, options):
    results = []
    for device in ("cpu", "strict:device1"):
        net = network(device)
        steps(net, getattr(optim, name)(net.parameters(), **options), *data(device), 10)
        assert all(p.device == device and p.dtype == an.float64 for p in net.parameters())
        results.append([p.numpy() for p in net.parameters()])
    for a, b in zip(*results, strict=True):
        assert abs(a - b).max() <= 1e-14


def test_parameters_and_gradients_are_views_of_one_vector():
    net = network()
    optimizer = optim.Adam(net.parameters())
    (flat,) = optimizer.param_groups[0].flats
    steps(net, optimizer, *data(), 1)
    flat.values[...] = 7.0
    assert all(bool(an.all(p == 7.0)) for p in net.parameters())
    flat.grads[...] = 3.0
    assert all(bool(an.all(p.grad == 3.0)) for p in net.parameters())


def test_parameters_without_gradient_are_skipped_with_their_own_step_count():
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    ours = [an.Parameter([1.0, 2.0], dtype="float64") for _ in range(3)]
    theirs = [torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64)) for _ in range(3)]
    a, b = optim.Adam(ours, lr=0.1), torch.optim.Adam(theirs, lr=0.1)
    for used in ((0, 1, 2), (0, 2), (1,), (0, 1, 2)):
        a.zero_grad()
        b.zero_grad()
        for i in used:
            an.sum(ours[i] ** 3).backward()
            (theirs[i] ** 3).sum().backward()
        a.step()
        b.step()
    for p, q in zip(ours, theirs, strict=True):
        assert abs(p.numpy() - q.detach().numpy()).max() < 1e-14


def test_parameters_bound_to_other_memory_are_taken_back():
    x, y = data()
    net, twin = network(), network()
    a, b = optim.Adam(net.parameters(), lr=0.01), optim.Adam(twin.parameters(), lr=0.01)
    steps(net, a, x, y, 3)
    steps(twin, b, x, y, 3)
    for p in net.parameters():
        p.data = p.data.copy()
    steps(net, a, x, y, 3)
    steps(twin, b, x, y, 3)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert (p.numpy() == q.numpy()).all()


def test_state_follows_the_module_to_another_device():
    x, y = data()
    net, twin = network(), network()
    a, b = optim.Adam(net.parameters(), lr=0.01), optim.Adam(twin.parameters(), lr=0.01)
    steps(net, a, x, y, 3)
    steps(twin, b, x, y, 6)
    net.to("strict:device1")
    steps(net, a, x.to("strict:device1"), y.to("strict:device1"), 3)
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert p.device == "strict:device1"
        assert abs(p.numpy() - q.numpy()).max() < 1e-14


def test_backward_after_the_update_is_refused():
    w = an.Parameter([2.0])
    optimizer = optim.SGD([w], lr=0.1)
    loss = an.sum(w * w)
    loss.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(an.GradientError, match="overwritten"):
        loss.backward()


def test_l1_penalty_adds_the_sign():
    w = an.Parameter([2.0, -3.0])
    optimizer = optim.SGD([w], lr=1.0, l1=0.5)
    an.sum(w * 0).backward()
    optimizer.step()
    assert w.tolist() == [1.5, -2.5]


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda p: optim.SGD([]), ValueError, "at least one parameter, got none"),
        (lambda p: optim.SGD([p, p]), ValueError, "given twice"),
        (lambda p: optim.SGD([p], lr=-1), ValueError, "lr must be a number ≥ 0, got -1"),
        (lambda p: optim.Adam([p], eps=(None, 1e-3)), ValueError, "eps must be a number ≥ 0"),
        (lambda p: optim.SGD([p], nesterov=True), ValueError, "nesterov"),
        (lambda p: optim.Adam([p], betas=(1.0, 0.9)), ValueError, r"betas\[0\]"),
        (lambda p: optim.Adam([{"params": [p], "beta": 1}]), TypeError, "did you mean 'betas'"),
        (lambda p: optim.Adam([p * 2]), TypeError, "result of an operation"),
        (lambda p: optim.Adam([3]), TypeError, "got int"),
        (lambda p: optim.RMSprop([p], momentum=-1), ValueError, "momentum must be a number ≥ 0"),
        (lambda p: optim.Adagrad([p], lr_decay=-1), ValueError, "lr_decay must be a number ≥ 0"),
        (lambda p: optim.Adadelta([p], rho=2.0), ValueError, r"rho must be in \[0, 1\]"),
        (lambda p: optim.Rprop([p], etas=(1.5, 1.2)), ValueError, r"etas\[0\] must be in \(0, 1\)"),
        (lambda p: optim.NAdam([p], momentum_decay=-1.0), ValueError, "momentum_decay must be a number ≥ 0"),
        (
            lambda p: optim.CosineAnnealingWarmRestarts(optim.SGD([p]), 0),
            ValueError,
            "T_0 must be an integer ≥ 1",
        ),
        (lambda p: optim.CyclicLR(optim.SGD([p]), 1.0, 2.0, mode="square"), ValueError, "mode must be"),
        (lambda p: optim.CyclicLR(optim.Adagrad([p]), 1.0, 2.0), ValueError, "cycle_momentum=False"),
        (
            lambda p: optim.CyclicLR(optim.SGD([p]), [1.0, 2.0], 2.0),
            ValueError,
            "2 numbers for 1 parameter groups",
        ),
        (lambda p: optim.MultiplicativeLR(optim.SGD([p]), []), ValueError, "0 functions for 1"),
        (lambda p: optim.ChainedScheduler([]), ValueError, "at least one"),
    ],
)
def test_bad_arguments(make, error, match):
    with pytest.raises(error, match=match):
        make(an.Parameter([1.0]))


def test_load_checks_before_it_changes():
    net = network()
    optimizer = optim.Adam(net.parameters())
    steps(net, optimizer, *data(), 2)
    good = optimizer.state_dict()
    bad = {**good, "state": {**good["state"], 0: {**good["state"][0], "exp_avg": an.zeros(3)}}}
    with pytest.raises(ValueError, match="exp_avg of parameter 0"):
        optimizer.load_state_dict(bad)
    with pytest.raises(ValueError, match="another optimizer"):
        optimizer.load_state_dict(optim.SGD(network().parameters()).state_dict())
    now = optimizer.state_dict()
    assert (now["state"][0]["exp_avg"].numpy() == good["state"][0]["exp_avg"].numpy()).all()


SCHEDULES = [
    ("StepLR", {"step_size": 3, "gamma": 0.5}),
    ("MultiStepLR", {"milestones": [2, 5, 5], "gamma": 0.3}),
    ("MultiplicativeLR", {"lr_lambda": lambda t: 0.9 + 0.01 * t}),
    ("PolynomialLR", {"total_iters": 6, "power": 2.0}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3}),
    ("CosineAnnealingWarmRestarts", {"T_0": 2, "T_mult": 2, "eta_min": 1e-4}),
    ("CyclicLR", {"base_lr": 1e-3, "max_lr": 0.1, "step_size_up": 3}),
    (
        "CyclicLR",
        {
            "base_lr": [1e-3, 2e-3],
            "max_lr": 0.1,
            "step_size_up": 3,
            "step_size_down": 2,
            "mode": "triangular2",
        },
    ),
    (
        "CyclicLR",
        {
            "base_lr": 1e-3,
            "max_lr": 0.1,
            "step_size_up": 2,
            "mode": "exp_range",
            "gamma": 0.9,
            "cycle_momentum": False,
        },
    ),
    ("CyclicLR", {"base_lr": 1e-3, "max_lr": 0.1, "step_size_up": 2, "scale_fn": lambda x: 1 / x}),
    ("ExponentialLR", {"gamma": 0.9}),
    ("ConstantLR", {"factor": 0.5, "total_iters": 4}),
    ("LinearLR", {"start_factor": 0.1, "total_iters": 7}),
    ("LambdaLR", {"lr_lambda": lambda t: 0.9**t}),
    ("CosineAnnealingLR", {"T_max": 6, "eta_min": 0.001}),
    ("OneCycleLR", {"max_lr": 0.3, "total_steps": 40}),
    (
        "OneCycleLR",
        {"max_lr": [0.3, 0.1], "total_steps": 40, "three_phase": True, "anneal_strategy": "linear"},
    ),
]


@pytest.mark.parametrize(("name", "options"), SCHEDULES)
def test_schedule_equals_torch(name, options):
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    p, q = [an.Parameter([1.0]) for _ in "ab"], [torch.nn.Parameter(torch.ones(1)) for _ in "ab"]
    a = optim.SGD([{"params": [p[0]]}, {"params": [p[1]], "lr": 0.05}], lr=0.2, momentum=0.9)
    b = torch.optim.SGD([{"params": [q[0]]}, {"params": [q[1]], "lr": 0.05}], lr=0.2, momentum=0.9)
    ours = getattr(optim, name)(a, **options)
    theirs = getattr(torch.optim.lr_scheduler, name)(b, **options)
    for _ in range(30):
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-14)
        assert [g["momentum"] for g in a.param_groups] == pytest.approx(
            [g["momentum"] for g in b.param_groups]
        )
        b.step()
        ours.step()
        theirs.step()


def test_sequential_schedule_equals_torch():
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    a, b = (
        optim.SGD([an.Parameter([1.0])], lr=0.2),
        torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.2),
    )
    s = torch.optim.lr_scheduler
    ours = optim.SequentialLR(a, [optim.LinearLR(a, 0.1, total_iters=4), optim.CosineAnnealingLR(a, 10)], [4])
    theirs = s.SequentialLR(b, [s.LinearLR(b, 0.1, total_iters=4), s.CosineAnnealingLR(b, 10)], [4])
    for _ in range(12):
        assert ours.get_last_lr() == pytest.approx(theirs.get_last_lr(), rel=1e-14)
        b.step()
        ours.step()
        theirs.step()


@pytest.mark.parametrize(
    "options", [{}, {"mode": "max", "threshold_mode": "abs"}, {"cooldown": 2, "min_lr": 0.01}]
)
def test_plateau_equals_torch(options):
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    a, b = (
        optim.SGD([an.Parameter([1.0])], lr=0.2),
        torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.2),
    )
    ours = optim.ReduceLROnPlateau(a, patience=1, factor=0.5, **options)
    theirs = torch.optim.lr_scheduler.ReduceLROnPlateau(b, patience=1, factor=0.5, **options)
    for metric in (1.0, 0.9, 0.91, 0.92, 0.93, 0.5, 0.6, 0.6, 0.6, 0.6, 0.6, 0.6):
        ours.step(metric)
        theirs.step(metric)
        assert a.param_groups[0]["lr"] == pytest.approx(b.param_groups[0]["lr"], rel=1e-15)


def test_schedule_resumes_where_it_was():
    def fresh():
        optimizer = optim.Adam([an.Parameter([1.0])], lr=0.1)
        return optimizer, optim.OneCycleLR(optimizer, 0.3, total_steps=20)

    (a, sa), (b, sb) = fresh(), fresh()
    for _ in range(7):
        sa.step()
    sb.load_state_dict(sa.state_dict())
    for _ in range(7):
        sa.step()
        sb.step()
    assert a.param_groups[0]["lr"] == b.param_groups[0]["lr"]
    assert a.param_groups[0]["betas"] == b.param_groups[0]["betas"]


def test_clipping_equals_torch():
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    for norm_type in (2.0, 1.0, math.inf):
        p, q = [an.Parameter([1.0, -2.0], dtype="float64"), an.Parameter([3.0], dtype="float64")], None
        q = [torch.nn.Parameter(torch.tensor(t.numpy().copy())) for t in p]
        (an.sum(p[0] ** 2) + an.sum(p[1] ** 3)).backward()
        ((q[0] ** 2).sum() + (q[1] ** 3).sum()).backward()
        ours = optim.clip_grad_norm_(p, 1.5, norm_type)
        theirs = torch.nn.utils.clip_grad_norm_(q, 1.5, norm_type)
        assert ours.item() == pytest.approx(theirs.item(), rel=1e-12)
        for a, b in zip(p, q, strict=True):
            assert abs(a.grad.numpy() - b.grad.numpy()).max() < 1e-12
    optim.clip_grad_value_(p, 0.25)
    assert all(float(an.max(an.abs(t.grad))) <= 0.25 for t in p)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    "options",
    [{}, {"weight_decay": 0.1}, {"amsgrad": True}, {"betas": (0.5, 0.9), "eps": 1e-3, "lr": 0.1}],
    ids=["plain", "decay", "amsgrad", "betas"],
)
@pytest.mark.parametrize("make", [an.optim.Adam, an.optim.AdamW])
def test_adams_kernel_against_its_reference(make, options, dtype):
    rng = np.random.default_rng(1)
    start = [rng.normal(size=(300, 301)), rng.normal(size=7), rng.normal(size=())]
    gradients = [[rng.normal(size=a.shape) for a in start] for _ in range(5)]
    found = []
    for on in (True, False):
        parameters = [an.Parameter(an.asarray(a, dtype=dtype)) for a in start]
        optimizer = make(parameters, **options)
        with an.use_kernels(on):
            for given in gradients:
                for p, g in zip(parameters, given, strict=True):
                    p.grad = an.asarray(g, dtype=dtype)
                optimizer.step()
        found.append([p.numpy() for p in parameters])
        assert all(
            (p.grad.numpy() == g.astype(dtype)).all() for p, g in zip(parameters, gradients[-1], strict=True)
        )
    for a, b in zip(*found, strict=True):
        limit = 1e-12 if dtype == "float64" else 1e-6
        assert np.linalg.norm((a - b).ravel()) <= limit * np.linalg.norm(b.ravel())


def test_chained_schedules_equal_torch():
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    a, b = optim.SGD(groups(network()), lr=0.1), torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=0.1)
    ours = optim.ChainedScheduler([optim.ConstantLR(a, 0.1, 4), optim.ExponentialLR(a, 0.9)])
    s = torch.optim.lr_scheduler
    theirs = s.ChainedScheduler([s.ConstantLR(b, 0.1, 4), s.ExponentialLR(b, 0.9)])
    for _ in range(8):
        assert abs(ours.get_last_lr()[0] - theirs.get_last_lr()[0]) < 1e-15
        a.step()
        b.step()
        ours.step()
        theirs.step()
    state = ours.state_dict()
    again = optim.ChainedScheduler([optim.ConstantLR(a, 0.1, 4), optim.ExponentialLR(a, 0.9)])
    again.load_state_dict(state)
    assert again.state_dict() == state
    with pytest.raises(ValueError, match="not the state of 2"):
        again.load_state_dict({"schedulers": []})
    with pytest.raises(ValueError, match="of one optimizer"):
        optim.ChainedScheduler([optim.ConstantLR(a), optim.ConstantLR(optim.SGD([an.Parameter([1.0])]))])


@pytest.mark.parametrize("kernels", [True, False])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda xp, p, g: xp.sum(g * g) * g, "sums, sizes or neighbours"),
        (lambda xp, p, g: g / p.shape[0], "sums, sizes or neighbours"),
        (lambda xp, p, g: xp.flip(g), "sums, sizes or neighbours"),
        (lambda xp, p, g: g.__imul__(2.0), "must not change the gradient"),
    ],
    ids=["sum", "size", "flip", "gradient"],
)
def test_updates_that_are_not_element_by_element_are_refused(change, message, kernels):
    class Wrong(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 1.0})

        def coefficients(self, step, group):
            return {"lr": group["lr"]}

        @staticmethod
        def elementwise_update(xp, p, g, state, c):
            p -= c["lr"] * change(xp, p, g)

    p = an.Parameter([1.0, 2.0])
    an.sum(p * p).backward()
    with use_kernels(kernels), pytest.raises(TypeError, match=message):
        Wrong([p]).step()
    assert p.tolist() == [1.0, 2.0]
    assert p.grad.tolist() == [2.0, 4.0]


def test_an_update_with_random_numbers_is_taken_as_it_is():
    class Langevin(optim.Optimizer):
        def __init__(self, params):
            super().__init__(params, {"lr": 0.5})

        def coefficients(self, step, group):
            return {"lr": group["lr"]}

        @staticmethod
        def elementwise_update(xp, p, g, state, c):
            p -= c["lr"] * (g + noise.normal(size=p.shape))

    noise = np.random.default_rng(0)
    p = an.Parameter(an.zeros(100_000, dtype=an.float64))
    an.sum(p).backward()
    Langevin([p]).step()
    assert len(np.unique(p.numpy())) == 100_000
