"""Optimizers and schedules against their equations: five steps of the code with random gradients, and the recurrences."""

import numpy as np
import pytest

import anynet as an
from anynet import optim
from anynet.equations import of
from equations.equation_checks import normal

STEPS = 5
START, GRADIENTS = normal(4, 3), normal(STEPS + 1, 4, 3)  # the first is not used

CASES = [
    ("SGD", {}), ("SGD", {"momentum": 0.9, "dampening": 0.1, "weight_decay": 0.1}), ("SGD", {"momentum": 0.9, "nesterov": True, "l1": 0.1}),
    ("SGD", {"maximize": True}), ("Adam", {}), ("Adam", {"amsgrad": True, "weight_decay": 0.1, "betas": (0.7, 0.8), "l1": 0.01}),
    ("Adam", {"decoupled_weight_decay": True, "weight_decay": 0.1, "maximize": True}), ("AdamW", {"weight_decay": 0.2}),
    ("Adamax", {"weight_decay": 0.1}), ("NAdam", {}), ("NAdam", {"weight_decay": 0.1, "decoupled_weight_decay": True}),
    ("NAdam", {"weight_decay": 0.1, "momentum_decay": 0.1}), ("RAdam", {}), ("RAdam", {"betas": (0.9, 0.99), "weight_decay": 0.1}),
    ("RAdam", {"betas": (0.9, 0.9), "weight_decay": 0.1, "decoupled_weight_decay": True}), ("LAMB", {"weight_decay": 0.1}),
    ("AdaBound", {}), ("AdaBound", {"amsbound": True, "gamma": 0.1, "weight_decay": 0.1}), ("Rprop", {}),
    ("Rprop", {"etas": (0.4, 1.5), "step_sizes": (0.005, 0.02)}), ("ASGD", {"weight_decay": 0.1, "lambd": 0.1}),
    ("ASGD", {"t0": 2, "l1": 0.1}),
    ("LARS", {"weight_decay": 0.1, "eps": 0.1}), ("LARS", {"nesterov": True, "momentum": 0.5}), ("LARS", {"momentum": 0.0}),
    ("Adagrad", {}), ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.3, "weight_decay": 0.1}), ("RMSprop", {}),
    ("RMSprop", {"centered": True, "momentum": 0.8, "weight_decay": 0.1}), ("Adadelta", {"weight_decay": 0.1, "rho": 0.7}),
    ("Adafactor", {}), ("Adafactor", {"lr": 0.3, "weight_decay": 0.1, "d": 1.5, "eps": (0.1, 0.01)}), ("Lion", {"weight_decay": 0.1}),
    ("ScheduleFreeAdamW", {}), ("ScheduleFreeAdamW", {"warmup_steps": 3, "r": 1.0, "weight_decay": 0.1}),
]  # fmt: skip


def run(name, options):
    """The parameters after each step, and the optimizer."""
    p = an.Parameter(START.copy())
    optimizer = getattr(optim, name)([p], **{"lr": 0.05, **options})
    after = []
    for g in GRADIENTS[1:]:
        p.grad = an.asarray(g.copy())
        optimizer.step()
        after.append(p.numpy().copy())
    return np.stack(after), optimizer


@pytest.mark.parametrize(("name", "options"), CASES)
def test_five_steps(name, options):
    after, optimizer = run(name, options)
    equation = of(optimizer)
    made = equation.evaluate(equation.bind(optimizer, G=GRADIENTS, p_start=START))
    np.testing.assert_allclose(after, np.asarray(made[equation.result[0]]), rtol=1e-10, atol=1e-12)
    if name == "ASGD":
        np.testing.assert_allclose(
            optimizer.state_dict()["state"][0]["ax"].numpy(), made["a"][-1], rtol=1e-10
        )


@pytest.mark.parametrize(
    "options", [{}, {"nesterov": False, "adjust_lr_fn": "match_rms_adamw"}, {"ns_steps": 3, "momentum": 0.5}]
)
def test_steps_of_muon(options):
    after, optimizer = run("Muon", options)
    equation = of(optimizer)
    p, b = START, np.zeros_like(START)
    for g, expected in zip(GRADIENTS[1:], after, strict=True):
        p, b = equation.result_of(equation.evaluate(equation.bind(optimizer, g=g, p=p, B=b)))
        np.testing.assert_allclose(expected, p, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("options", [{}, {"betas": (0.5, 0.7), "eps": 0.1, "maximize": True}])
def test_steps_of_sparse_adam(options):
    """Rows that the gradient does not have stay, and so do their moments."""
    p = an.Parameter(START.copy())
    optimizer = optim.SparseAdam([p], lr=0.05, **options)
    present = np.array(
        [[0, 0, 0, 0], [1, 0, 1, 1], [0, 0, 0, 0], [1, 1, 0, 1], [0, 1, 1, 1], [1, 0, 0, 1]], bool
    )
    after = []
    for g, rows in zip(GRADIENTS[1:], present[1:], strict=True):
        p.grad = an.SparseRows(np.nonzero(rows)[0], g[rows], p.shape)
        optimizer.step()
        after.append(p.numpy().copy())
    equation = of(optimizer)
    made = equation.evaluate(
        equation.bind(optimizer, G=GRADIENTS, p_start=START, r=present[:, :, None] * np.ones(3))
    )
    np.testing.assert_allclose(after, np.asarray(made["p"]), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("adaptive", [False, True])
def test_where_sam_takes_the_gradient(adaptive):
    p = an.Parameter(START.copy())
    optimizer = optim.SAM(optim.SGD([p]), rho=0.3, adaptive=adaptive)
    places = []

    def closure():
        optimizer.zero_grad()
        places.append(p.numpy().copy())
        loss = an.sum(p**3)
        loss.backward()
        return loss

    optimizer.step(closure)
    equation = of(optimizer)
    made = equation.evaluate(equation.bind(optimizer, p=START, g=3 * START**2))
    np.testing.assert_allclose(places[1], made["p_hat"], rtol=1e-12)


def test_mean_of_gradients():
    p = an.Parameter(START.copy())
    optimizer = optim.MultiSteps(optim.SGD([p], lr=1.0), every=2)
    for g in GRADIENTS[:2]:
        optimizer.zero_grad()
        an.sum(p * an.asarray(g)).backward()
        optimizer.step()
    equation = of(optimizer)
    made = equation.evaluate(equation.bind(optimizer, G=GRADIENTS[:2]))
    np.testing.assert_allclose(START - p.numpy(), made["g"], rtol=1e-12)


SCHEDULES = [
    ("LambdaLR", {"lr_lambda": lambda t: 0.9**t}), ("MultiplicativeLR", {"lr_lambda": lambda t: 1 / (1 + t)}),
    ("StepLR", {"step_size": 3, "gamma": 0.5}), ("MultiStepLR", {"milestones": [2, 5], "gamma": 0.3}), ("ExponentialLR", {"gamma": 0.8}),
    ("ConstantLR", {"factor": 0.4, "total_iters": 4}), ("LinearLR", {"start_factor": 0.2, "end_factor": 0.9, "total_iters": 5}),
    ("PolynomialLR", {"total_iters": 6, "power": 2.0}), ("CosineAnnealingLR", {"T_max": 7, "eta_min": 0.01}),
    ("CosineAnnealingWarmRestarts", {"T_0": 3, "eta_min": 0.01}), ("CosineAnnealingWarmRestarts", {"T_0": 2, "T_mult": 2}),
    *[("CyclicLR", {"base_lr": 0.1, "max_lr": 0.7, "step_size_up": 2, "step_size_down": 3, "mode": m,
       "gamma": 0.9, "cycle_momentum": False})
      for m in ("triangular", "triangular2", "exp_range")],
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), SCHEDULES)
def test_rates(name, options):
    optimizer = optim.SGD([an.Parameter([1.0])], lr=0.5)
    schedule = getattr(optim, name)(optimizer, **options)
    equation = of(schedule)
    for t in range(10):
        made = equation.evaluate(equation.bind(schedule, t=t))
        assert float(made["η"]) == pytest.approx(schedule.get_last_lr()[0], rel=1e-12)
        optimizer.step()
        schedule.step()
