"""Schedules give PyTorch's rates, by themselves and in each other; their states make one schedule the other."""

import functools
import json
import math

import numpy as np
import pytest

import anynet as an
from anynet import optim
from torch_oracle import torch

pytestmark = pytest.mark.filterwarnings("ignore:Detected call of `lr_scheduler.step:UserWarning")  # PyTorch's


class Halving:
    """A function with attributes, which the state keeps."""

    def __init__(self, share=0.5):
        self.share = share

    def __call__(self, t):
        return self.share**t


def settings(name, rng):
    """Random options of a schedule."""
    n, m = int(rng.integers(1, 20)), int(rng.integers(2, 20))
    x, y = float(rng.uniform(0.1, 0.9)), float(rng.uniform(0.1, 0.9))
    return {
        "LambdaLR": {"lr_lambda": Halving(0.9 + 0.1 * x)},
        "MultiplicativeLR": {"lr_lambda": Halving(0.999)},
        "StepLR": {"step_size": n, "gamma": x},
        "MultiStepLR": {"milestones": [int(i) for i in rng.integers(0, 40, 5)], "gamma": x},
        "ConstantLR": {"factor": x, "total_iters": n},
        "LinearLR": {"start_factor": x, "end_factor": y, "total_iters": n},
        "ExponentialLR": {"gamma": 0.9 + 0.1 * x},
        "PolynomialLR": {"total_iters": n, "power": 2 * x},
        "CosineAnnealingLR": {"T_max": n, "eta_min": 0.01 * x},
        "CosineAnnealingWarmRestarts": {"T_0": n, "T_mult": int(rng.integers(1, 3)), "eta_min": 0.01 * x},
        "CyclicLR": {
            "base_lr": 0.01 * x, "max_lr": [0.5, 0.5 + y], "step_size_up": n, "step_size_down": m, "gamma": 0.9 + 0.1 * x,
            "mode": ("triangular", "triangular2", "exp_range")[int(rng.integers(3))], "base_momentum": [x / 2, x / 3],
        },
        "OneCycleLR": {
            "max_lr": [0.5, 0.5 + y], "total_steps": 60 + n, "pct_start": x, "three_phase": x < 0.5, "div_factor": 3.0 + n,
            "anneal_strategy": "cos" if y < 0.5 else "linear", "base_momentum": [x / 2, x / 3], "final_div_factor": 10.0,
        },
        "SWALR": {"swa_lr": [0.01, 0.02], "anneal_epochs": n, "anneal_strategy": "cos" if x < 0.5 else "linear"},
        "ReduceLROnPlateau": {
            "mode": "min" if x < 0.5 else "max", "factor": x, "patience": n % 4, "threshold": 0.01 * y, "cooldown": m % 3,
            "threshold_mode": "rel" if y < 0.5 else "abs", "min_lr": [1e-3, 1e-2],
        },
    }[name]  # fmt: skip


SCHEDULES = [
    "LambdaLR", "MultiplicativeLR", "StepLR", "MultiStepLR", "ConstantLR", "LinearLR", "ExponentialLR", "PolynomialLR",
    "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR", "SWALR", "ReduceLROnPlateau",
]  # fmt: skip
CLOSED = {
    "StepLR",
    "MultiStepLR",
    "ConstantLR",
    "LinearLR",
    "ExponentialLR",
    "PolynomialLR",
    "CosineAnnealingLR",
}
ABSOLUTE = {"LambdaLR", "CosineAnnealingWarmRestarts", "CyclicLR", "OneCycleLR"}


def make(lib, name):
    """A schedule's class and a fresh optimizer of two groups."""
    p = [lib.nn.Parameter(lib.ones(1)) for _ in range(2)]
    optimizer = lib.optim.SGD([{"params": p[:1]}, {"params": p[1:], "lr": 0.05}], lr=0.2, momentum=0.9)
    home = lib.optim.swa_utils if name == "SWALR" else lib.optim.lr_scheduler
    return getattr(home, name), optimizer


def values(optimizer):
    return [v for g in optimizer.param_groups for v in (g["lr"], g["momentum"])]


def advance(name, schedule, t):
    schedule.step(*((math.sin(3.0 * t) + 1.0 / (t + 1),) if name == "ReduceLROnPlateau" else ()))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("name", SCHEDULES)
def test_60_steps_equal_torch_with_and_without_a_reload_at_every_step(name, seed):
    """With a reload: the state, as text, goes into a fresh schedule with other settings."""
    pairs = []
    for lib in (an, torch):
        options = settings(name, np.random.default_rng(seed))
        cls, optimizer = make(lib, name)
        pairs.append((cls(optimizer, **options), optimizer))
    (ours, a), (theirs, b) = pairs
    reloaded, c = ours, a
    cls, a = make(an, name)
    ours = cls(a, **settings(name, np.random.default_rng(seed)))
    for t in range(60):
        np.testing.assert_allclose(values(a), values(b), rtol=1e-9, atol=1e-15, err_msg=str(t))
        np.testing.assert_array_equal(values(a), values(c), err_msg=str(t))
        assert ours.get_last_lr() == [g["lr"] for g in a.param_groups]
        state = json.loads(json.dumps(reloaded.state_dict()))
        _, c = make(an, name)
        reloaded = cls(c, **settings(name, np.random.default_rng(seed + 100)))
        reloaded.load_state_dict(state)
        assert json.loads(json.dumps(reloaded.state_dict())) == state
        for schedule in (ours, reloaded, theirs):
            advance(name, schedule, t)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", sorted(CLOSED | ABSOLUTE - {"CosineAnnealingWarmRestarts"}))
@pytest.mark.filterwarnings("ignore:The epoch parameter:UserWarning")
def test_a_step_to_an_epoch_equals_torch(name, seed):
    options = settings(name, np.random.default_rng(seed))
    for epoch in (0, 1, 7, 3, 30):
        results = []
        for lib in (an, torch):
            cls, optimizer = make(lib, name)
            schedule = cls(optimizer, **options)
            schedule.step(epoch)
            schedule.step()
            results.append(values(optimizer))
        np.testing.assert_allclose(*results, rtol=1e-9, atol=1e-15)


@pytest.mark.parametrize("seed", range(3))
def test_warm_restarts_take_fractions_of_epochs(seed):
    options = settings("CosineAnnealingWarmRestarts", np.random.default_rng(seed))
    results = []
    for lib in (an, torch):
        cls, optimizer = make(lib, "CosineAnnealingWarmRestarts")
        schedule = cls(optimizer, **options)
        row = []
        for i in range(120):
            schedule.step(i / 4)
            row.append(values(optimizer))
        schedule.step()
        results.append([*row, values(optimizer)])
    np.testing.assert_allclose(*results, rtol=1e-9, atol=1e-15)
    with pytest.raises(ValueError, match="epoch must be a number ≥ 0, got -1"):
        make_one(an, "CosineAnnealingWarmRestarts", options)[0].step(-1)


def make_one(lib, name, options, optimizer=None):
    cls, fresh = make(lib, name)
    optimizer = optimizer or fresh
    return cls(optimizer, **options), optimizer


@pytest.mark.parametrize("name", [n for n in SCHEDULES if n not in ("ReduceLROnPlateau",)])
def test_going_on_from_last_epoch_equals_torch(name):
    results = []
    for lib in (an, torch):
        options = settings(name, np.random.default_rng(3))
        first, optimizer = make_one(lib, name, options)
        for _ in range(4):
            first.step()
        again, _ = make_one(lib, name, {**options, "last_epoch": 4}, optimizer)
        if name == "SWALR" and lib is torch:
            again._step_count = 6  # which PyTorch counts from the construction
        row = [values(optimizer)]
        for _ in range(6 if name != "SWALR" else 0):
            again.step()
            row.append(values(optimizer))
        results.append(row)
    if name != "SWALR":
        np.testing.assert_allclose(*results, rtol=1e-9, atol=1e-15)


def test_last_epoch_without_a_schedule_before_is_refused():
    with pytest.raises(KeyError, match=r"param_groups\[0\] has no 'initial_lr'"):
        make_one(an, "StepLR", {"step_size": 1, "last_epoch": 3})


# ----- schedules of schedules -----


def sequence(lib, optimizer, parts, milestones):
    s = lib.optim.lr_scheduler
    made = [getattr(s, name)(optimizer, **options) for name, options in parts]
    return s.SequentialLR(optimizer, made, milestones)


PARTS = [
    ("ConstantLR", {"factor": 0.1, "total_iters": 5}), ("LinearLR", {"start_factor": 0.5, "total_iters": 4}),
    ("ExponentialLR", {"gamma": 0.9}), ("StepLR", {"step_size": 2}), ("CosineAnnealingLR", {"T_max": 5}),
    ("PolynomialLR", {"total_iters": 5}), ("MultiStepLR", {"milestones": [0, 2], "gamma": 0.5}),
    ("LambdaLR", {"lr_lambda": lambda t: 0.9**t}), ("MultiplicativeLR", {"lr_lambda": lambda t: 0.9}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "T_mult": 2}), ("OneCycleLR", {"max_lr": 0.5, "total_steps": 20}),
    # PyTorch's keeps its momenta in the groups, where those of OneCycleLR are, too
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.2, "step_size_up": 3, "cycle_momentum": False}),
]  # fmt: skip


@pytest.mark.parametrize("milestones", [[3, 7], [0, 5], [0, 0], [4, 4], [1, 2]])
@pytest.mark.parametrize("first", range(len(PARTS)))
def test_sequences_equal_torch(first, milestones):
    parts = [PARTS[(first + i) % len(PARTS)] for i in (0, 1, 5)]
    rows = []
    for lib in (an, torch):
        _, optimizer = make(lib, "StepLR")
        schedule = sequence(lib, optimizer, parts, milestones)
        row = []
        for _ in range(15):
            row.append(values(optimizer))
            schedule.step()
        rows.append(row)
    np.testing.assert_allclose(*rows, rtol=1e-9, atol=1e-15)


def rates(optimizer, schedule, count):
    out = []
    for _ in range(count):
        out.append(optimizer.param_groups[0]["lr"])
        schedule.step()
    return out


def sgd(lr=1.0):
    return optim.SGD([an.Parameter([1.0])], lr=lr)


def test_first_milestone_0_begins_with_the_second_schedule():
    o = sgd()
    s = optim.SequentialLR(o, [optim.ConstantLR(o, 0.1, 5), optim.LinearLR(o, 0.5, 1.0, 4)], [0])
    assert rates(o, s, 6) == pytest.approx([0.5, 0.625, 0.75, 0.875, 1.0, 1.0])


def nested(o, kind):
    """A schedule of schedules that, run by itself, gives what `kind` says."""
    if kind == "sequence":
        return optim.SequentialLR(o, [optim.ConstantLR(o, 0.5, 9), optim.ExponentialLR(o, 0.5)], [2])
    if kind == "chain":
        return optim.ChainedScheduler([optim.ConstantLR(o, 0.1, 2), optim.ExponentialLR(o, 0.5)])
    return optim.SequentialLR(o, [nested(o, "chain"), nested(o, "sequence")], [3])


@pytest.mark.parametrize("kind", ["sequence", "chain", "both"])
def test_a_schedule_of_schedules_in_a_sequence_is_what_it_is_alone(kind):
    o = sgd()
    alone = rates(o, nested(o, kind), 8)
    o = sgd()
    assert rates(o, optim.SequentialLR(o, [nested(o, kind), optim.ConstantLR(o, 0.3, 99)], [8]), 9) == [
        *alone,
        0.3,
    ]
    o = sgd()
    assert rates(o, optim.SequentialLR(o, [optim.ConstantLR(o, 0.3, 99), nested(o, kind)], [2]), 10) == [
        0.3,
        0.3,
        *alone,
    ]
    o = sgd()
    chained = rates(o, optim.ChainedScheduler([nested(o, kind)]), 8)
    assert chained == alone


def test_a_sequence_and_a_chain_alone():
    o = sgd()
    assert rates(o, nested(o, "sequence"), 5) == [0.5, 0.5, 1.0, 0.5, 0.25]
    o = sgd()
    assert rates(o, nested(o, "chain"), 5) == pytest.approx([0.1, 0.05, 0.25, 0.125, 0.0625])


@pytest.mark.parametrize("kind", ["sequence", "chain", "both"])
def test_schedules_of_schedules_resume_at_every_step(kind):
    o = sgd()
    expected = rates(o, nested(o, kind), 10)
    o = sgd()
    s = nested(o, kind)
    out = []
    for _ in range(10):
        out.append(o.param_groups[0]["lr"])
        state = json.loads(json.dumps(s.state_dict()))
        o = sgd(7.0)
        s = nested(o, kind)
        s.load_state_dict(state)
        s.step()
    assert out == expected


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (
            lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1), optim.StepLR(o, 1)], []),
            ValueError,
            "2 schedules need 1",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1)] * 3, [5, 2]),
            ValueError,
            "ascending order, got",
        ),
        (
            lambda o: optim.SequentialLR(o, [optim.StepLR(o, 1)] * 2, [-1]),
            ValueError,
            "milestones must be an integer ≥ 0",
        ),
        (lambda o: optim.SequentialLR(o, [], []), ValueError, "at least one schedule"),
        (lambda o: optim.SequentialLR(o, [optim.ReduceLROnPlateau(o)], []), ValueError, "takes a metric"),
        (lambda o: optim.ChainedScheduler([optim.ReduceLROnPlateau(o)]), ValueError, "takes a metric"),
        (lambda o: optim.ChainedScheduler([3]), TypeError, "must be an LRScheduler, got int"),
        (lambda o: optim.SequentialLR(o, [optim.StepLR(sgd(), 1)], []), ValueError, "of one optimizer"),
        (
            lambda o: optim.StepLR(o, 1, gamma="x"),
            ValueError,
            "StepLR: gamma must be a finite number, got 'x'",
        ),
        (lambda o: optim.StepLR(o, math.nan), ValueError, "step_size must be a number > 0"),
        (lambda o: optim.ConstantLR(o, 2.0), ValueError, r"factor must be in \[0, 1\]"),
        (
            lambda o: optim.OneCycleLR(o, [0.1, 0.2], total_steps=3),
            ValueError,
            "2 numbers for 1 parameter groups",
        ),
        (lambda o: optim.OneCycleLR(o, 0.1), ValueError, "give total_steps"),
        (lambda o: optim.OneCycleLR(o, -0.1, total_steps=3), ValueError, "max_lr must be a number ≥ 0"),
        (lambda o: optim.LambdaLR(o, 3), TypeError, "must be a function of the step"),
        (lambda o: optim.StepLR(3, 1), TypeError, "takes an Optimizer, got int"),
        (lambda o: optim.ReduceLROnPlateau(o, factor=1.0), ValueError, r"factor must be in \[0, 1\)"),
    ],
)
def test_bad_arguments(make, error, message):
    with pytest.raises(error, match=message):
        make(sgd())


@pytest.mark.parametrize("name", ["Adagrad", "Adadelta", "Rprop", "ASGD", "Adafactor", "LBFGS"])
def test_cycled_momentum_where_there_is_none_is_refused(name):
    optimizer = getattr(optim, name)([an.Parameter([1.0])])
    for schedule in (
        lambda **k: optim.OneCycleLR(optimizer, 0.1, 9, **k),
        lambda **k: optim.CyclicLR(optimizer, 0.1, 0.2, **k),
    ):
        with pytest.raises(ValueError, match=f"{name} has no momentum; give cycle_momentum=False"):
            schedule()
        schedule(cycle_momentum=False)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "AdamW", "Adamax", "NAdam", "RAdam"])
@pytest.mark.parametrize("schedule", ["OneCycleLR", "CyclicLR"])
def test_cycled_momentum_moves_every_optimizer_as_torchs(name, schedule):
    rows = []
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of NAdam's product of momenta
    try:
        for lib in (an, torch):
            p = lib.nn.Parameter(lib.ones(3, dtype=lib.float64))
            o = getattr(lib.optim, name)([p], lr=0.01)
            options = {
                "max_lr": 0.1,
                **({"total_steps": 12} if schedule == "OneCycleLR" else {"base_lr": 0.01, "step_size_up": 3}),
            }
            s = getattr(lib.optim.lr_scheduler, schedule)(o, **options)
            for t in range(10):
                p.grad = lib.asarray([1.0, -0.5, 0.1 * t], dtype=lib.float64)
                o.step()
                s.step()
            rows.append(p.detach().numpy())
    finally:
        torch.set_default_dtype(before)
    np.testing.assert_allclose(*rows, rtol=1e-9)


# ----- states -----


def test_a_state_brings_the_options_back():
    for name, saved, other in (
        ("StepLR", {"step_size": 1, "gamma": 0.5}, {"step_size": 3, "gamma": 0.9}),
        ("CosineAnnealingLR", {"T_max": 3}, {"T_max": 30}),
        ("MultiStepLR", {"milestones": [1, 2]}, {"milestones": [30]}),
        (
            "CyclicLR",
            {"base_lr": 0.1, "max_lr": 0.2, "mode": "exp_range", "gamma": 0.5},
            {"base_lr": 0.1, "max_lr": 0.9},
        ),
    ):
        one, a = make_one(an, name, saved)
        two, b = make_one(an, name, other)
        two.load_state_dict(one.state_dict())
        for _ in range(5):
            one.step()
            two.step()
            assert values(a) == values(b)


def test_a_rate_that_was_set_by_hand_is_resumed():
    s, o = make_one(an, "StepLR", {"step_size": 10})
    o.param_groups[0]["lr"] = 0.7
    t, q = make_one(an, "StepLR", {"step_size": 10})
    t.load_state_dict(s.state_dict())
    assert values(q) == values(o)
    assert t.get_last_lr() == s.get_last_lr() == [0.2, 0.05]


def test_states_of_before_hold_the_position_alone():
    """As earlier versions wrote them."""
    s, o = make_one(an, "StepLR", {"step_size": 2, "gamma": 0.5})
    s.load_state_dict({"last_epoch": 3, "base_lrs": [0.2, 0.05], "lrs": [0.1, 0.025]})
    s.step()
    assert [g["lr"] for g in o.param_groups] == [0.05, 0.0125]
    o = optim.Adam([an.Parameter([1.0])], lr=0.1)
    s = optim.OneCycleLR(o, 0.3, total_steps=20)
    s.load_state_dict({"last_epoch": 7, "base_lrs": [0.012], "lrs": [0.25], "momenta": [[0.87, 0.999]]})
    assert o.param_groups[0]["betas"] == (0.87, 0.999)
    o = sgd()
    s = optim.SequentialLR(o, [optim.ConstantLR(o), optim.ExponentialLR(o, 0.5)], [2])
    part = {"last_epoch": 1, "base_lrs": [1.0], "lrs": [0.25]}
    s.load_state_dict({"last_epoch": 4, "schedulers": [part, {**part, "last_epoch": 2}], "lrs": [0.25]})
    s.step()
    assert o.param_groups[0]["lr"] == 0.125
    s = optim.ReduceLROnPlateau(o)
    s.load_state_dict(
        {"last_epoch": 3, "best": 0.5, "num_bad_epochs": 2, "cooldown_counter": 0, "lrs": [0.125]}
    )
    assert (s.best, s.num_bad_epochs, s.patience) == (0.5, 2, 10)
    s = optim.ChainedScheduler([optim.ConstantLR(o), optim.ExponentialLR(o, 0.5)])
    s.load_state_dict({"schedulers": [part, part]})
    assert s.schedulers[0].last_epoch == 1


def test_states_of_something_else_are_refused_and_nothing_changes():
    s, o = make_one(an, "StepLR", {"step_size": 2})
    good, before = s.state_dict(), values(o)
    other, _ = make_one(an, "CosineAnnealingLR", {"T_max": 4})
    for bad, message in (
        (other.state_dict(), "it lacks step_size, gamma; it has T_max, eta_min"),
        ({}, "it lacks"),
        ({**good, "lrs": [1.0]}, "lrs is of 1 parameter groups"),
        ({**good, "base_lrs": [1.0]}, "base_lrs is of 1 parameter groups"),
        ({k: v for k, v in good.items() if k != "last_epoch"}, "lacks last_epoch"),
    ):
        with pytest.raises(ValueError, match=message):
            s.load_state_dict(bad)
        assert (s.state_dict(), values(o)) == (good, before)
    with pytest.raises(TypeError, match="a dict, got list"):
        s.load_state_dict([])
    o = sgd()
    s = optim.SequentialLR(o, [optim.StepLR(o, 1), optim.StepLR(o, 2)], [3])
    good = s.state_dict()
    bad = {**good, "last_epoch": 9, "schedulers": [{**good["schedulers"][0], "gamma": 0.7}, {}]}
    with pytest.raises(ValueError, match="StepLR: not this schedule's state"):
        s.load_state_dict(bad)
    assert s.state_dict() == good


def test_functions_are_not_in_a_state_but_attributes_of_what_is_called():
    s, _ = make_one(an, "LambdaLR", {"lr_lambda": [Halving(0.25), lambda t: 1.0]})
    assert s.state_dict()["lr_lambdas"] == [{"share": 0.25}, None]
    t, _ = make_one(an, "LambdaLR", {"lr_lambda": [Halving(), functools.partial(pow, 2)]})
    t.load_state_dict(s.state_dict())
    assert t.lr_lambdas[0].share == 0.25


# ----- numbers, groups, subclasses -----


def test_numbers_of_numpy_are_taken_and_states_hold_pythons(tmp_path):
    s, o = make_one(an, "StepLR", {"step_size": np.int64(2), "gamma": np.float32(0.5)})
    t, q = make_one(an, "CosineAnnealingLR", {"T_max": np.asarray(5), "eta_min": np.float64(0.01)})
    u, r = make_one(
        an,
        "OneCycleLR",
        {"max_lr": [np.float32(0.5), 1], "total_steps": np.int64(9), "pct_start": np.float16(0.5)},
    )
    for i, (schedule, optimizer) in enumerate(((s, o), (t, q), (u, r))):
        schedule.step()
        an.save(tmp_path / f"{i}.safetensors", {"s": schedule.state_dict(), "o": optimizer.state_dict()})
        schedule.load_state_dict(an.load(tmp_path / f"{i}.safetensors")["s"])
        json.dumps(schedule.state_dict())


def test_a_tensor_as_rate_is_changed_in_place():
    rate = an.asarray(1.0)
    s = optim.StepLR(optim.SGD([an.Parameter([1.0])], lr=rate), 1, 0.5)
    s.step()
    assert rate.item() == 0.5
    assert s.get_last_lr() == [0.5]


def test_a_function_may_give_numbers_of_any_library_but_no_negative_ones():
    o = sgd()
    s = optim.LambdaLR(o, lambda t: np.float32(0.5) if t < 2 else an.asarray(0.25) if t < 3 else -1.0)
    s.step()
    s.step()
    assert o.param_groups[0]["lr"] == 0.25
    before = s.state_dict()
    with pytest.raises(ValueError, match="must be a number ≥ 0, got -1"):
        s.step()
    assert s.state_dict() == before


def test_groups_that_come_later():
    s, o = make_one(an, "StepLR", {"step_size": 1, "gamma": 0.5})
    o.add_param_group({"params": [an.Parameter([1.0])], "lr": 1.0})
    s.step()  # which goes from the rates as they are, as in PyTorch
    assert [g["lr"] for g in o.param_groups] == [0.1, 0.025, 0.5]
    s, o = make_one(an, "LambdaLR", {"lr_lambda": lambda t: 1.0})
    o.add_param_group({"params": [an.Parameter([1.0])], "lr": 1.0})
    with pytest.raises(ValueError, match="made for 2 parameter groups, the optimizer has 3"):
        s.step()
    assert s.last_epoch == 0


def test_a_schedule_of_ones_own():
    class WarmUp(optim.lr_scheduler.LRScheduler):
        def __init__(self, optimizer, steps, last_epoch=-1):
            self.steps = steps
            super().__init__(optimizer, last_epoch)

        def get_lr(self):
            return [base * min(1.0, (self.last_epoch + 1) / self.steps) for base in self.base_lrs]

    o = sgd()
    s = WarmUp(o, 4)
    assert rates(o, s, 5) == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert s.state_dict()["steps"] == 4
    o = sgd()
    assert rates(o, optim.SequentialLR(o, [WarmUp(o, 2), optim.ExponentialLR(o, 0.5)], [2]), 4) == [
        0.5,
        1.0,
        1.0,
        0.5,
    ]
