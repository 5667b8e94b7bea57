"""What is written into a parameter group takes effect at the next step, or is refused, for every optimizer and every option."""

import copy
import math

import numpy as np
import pytest

import anynet as an
from anynet import optim
from torch_oracle import torch

# for each optimizer another value of every option than the default's
OPTIONS = {
    "SGD": {"lr": 0.3, "momentum": 0.9, "dampening": 0.5, "weight_decay": 0.1, "nesterov": True, "maximize": True, "l1": 0.1},
    "Adagrad": {"lr": 0.3, "lr_decay": 0.1, "weight_decay": 0.1, "eps": 0.1, "maximize": True, "l1": 0.1},
    "RMSprop": {
        "lr": 0.3, "alpha": 0.5, "eps": 0.1, "weight_decay": 0.1, "momentum": 0.9, "centered": True, "maximize": True, "l1": 0.1,
    },
    "Adam": {
        "lr": 0.3, "betas": (0.5, 0.6), "eps": 0.1, "weight_decay": 0.1, "amsgrad": True, "maximize": True,
        "decoupled_weight_decay": True, "l1": 0.1,
    },
    "AdamW": {
        "lr": 0.3, "betas": (0.5, 0.6), "eps": 0.1, "weight_decay": 0.2, "amsgrad": True, "maximize": True,
        "decoupled_weight_decay": False, "l1": 0.1,
    },
    "Adadelta": {"lr": 0.3, "rho": 0.5, "eps": 0.1, "weight_decay": 0.1, "maximize": True, "l1": 0.1},
    "Adamax": {"lr": 0.3, "betas": (0.5, 0.6), "eps": 0.1, "weight_decay": 0.1, "maximize": True, "l1": 0.1},
    "NAdam": {
        "lr": 0.3, "betas": (0.5, 0.6), "eps": 0.1, "weight_decay": 0.1, "momentum_decay": 0.1, "decoupled_weight_decay": True,
        "maximize": True, "l1": 0.1,
    },
    "RAdam": {
        "lr": 0.3, "betas": (0.5, 0.6), "eps": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True, "maximize": True,
        "l1": 0.1,
    },
    "Rprop": {"etas": (0.3, 1.5), "step_sizes": (1e-3, 0.02), "maximize": True, "l1": 0.1},
    "ASGD": {"lr": 0.3, "lambd": 0.1, "alpha": 0.5, "t0": 1.0, "weight_decay": 0.1, "maximize": True, "l1": 0.1},
    "Adafactor": {"lr": 1.0, "beta2_decay": -0.5, "eps": (0.9, 0.9), "d": 2.0, "weight_decay": 0.1, "maximize": True},
    "Muon": {
        "lr": 0.3, "weight_decay": 0.3, "momentum": 0.5, "nesterov": False, "ns_coefficients": (3.0, -4.0, 2.0), "eps": 10.0,
        "ns_steps": 2, "adjust_lr_fn": "match_rms_adamw",
    },
    "LAMB": {"lr": 0.3, "betas": (0.5, 0.6), "eps": 0.1, "weight_decay": 0.1, "maximize": True},
    "LARS": {
        "lr": 0.3, "momentum": 0.5, "weight_decay": 0.1, "trust_coefficient": 0.1, "eps": 0.1, "nesterov": True, "maximize": True,
    },
    "Lion": {"lr": 0.3, "betas": (0.5, 0.6), "weight_decay": 0.1, "maximize": True},
    "AdaBound": {
        "lr": 0.3, "betas": (0.5, 0.6), "final_lr": 0.01, "gamma": 0.1, "eps": 0.1, "weight_decay": 0.1, "amsbound": True,
        "maximize": True,
    },
    "ScheduleFreeAdamW": {
        "lr": 0.3, "betas": (0.8, 0.6), "eps": 0.1, "weight_decay": 0.1, "warmup_steps": 10, "r": 1.0, "weight_lr_power": 1.0,
        "maximize": True,
    },
    "SparseAdam": {"lr": 0.3, "betas": (0.5, 0.6), "eps": 0.1, "maximize": True},
    "LBFGS": {
        "lr": 0.3, "max_iter": 3, "max_eval": 2, "tolerance_grad": 1.0, "tolerance_change": 1.0, "history_size": 1,
        "line_search_fn": "strong_wolfe",
    },
}  # fmt: skip
TOGETHER = {  # what an option needs to matter
    ("SGD", "dampening"): {"momentum": 0.9}, ("SGD", "nesterov"): {"momentum": 0.9},
    **{(name, "decoupled_weight_decay"): {"weight_decay": 0.1} for name in ("Adam", "NAdam", "RAdam")},
    **{(name, "amsgrad"): {"betas": (0.5, 0.5), "lr": 0.1} for name in ("Adam", "AdamW")},
    ("AdaBound", "amsbound"): {"betas": (0.5, 0.5), "lr": 0.1}, ("Lion", "betas"): {"lr": 0.3},
    ("Adafactor", "eps"): {"lr": 1.0}, ("Adafactor", "d"): {"lr": 1.0},
    **{("LBFGS", option): {"max_iter": 2} for option in OPTIONS["LBFGS"]},
}  # fmt: skip
SAME = {
    ("ASGD", "t0"),
    ("Adafactor", "d"),
    *(("LBFGS", option) for option in OPTIONS["LBFGS"]),
}  # no other value here
EVERY = [(name, option) for name, options in OPTIONS.items() for option in options]
START = np.linspace(-1.0, 1.5, 6).reshape(2, 3)


def steps(lib, p, optimizer, count):
    def closure():
        optimizer.zero_grad()
        loss = lib.sum((p * p - 0.7 * p + 0.1 * p * p * p) ** 2)
        loss.backward()
        if type(optimizer).__name__ == "SparseAdam":  # takes rows alone
            p.grad = p.grad.to_sparse(1) if lib is torch else an.SparseRows([0, 1], p.grad, p.shape)
        return loss

    for _ in range(count):
        optimizer.step(closure)


def make(name, dtype="float64", **options):
    p = an.Parameter(START, dtype=dtype)
    return p, getattr(optim, name)([p], **options)


def loaded(name, p, state):
    q, other = make(name, p.dtype.name)
    with an.no_grad():
        q.assign_(p.detach())
    other.load_state_dict(state)
    return q, other


def test_every_optimizer_and_every_option_is_here():
    own = {
        n
        for n in optim.__all__
        if isinstance(getattr(optim, n), type) and issubclass(getattr(optim, n), optim.Optimizer)
    }
    assert set(OPTIONS) == own - {"Optimizer", "ZeroRedundancyOptimizer"}
    counted = {
        "initial_accumulator_value",
        "base_lr",
        "k",
        "lr_max",
        "weight_sum",
        "scheduled_lr",
        "ckp1",
        "train_mode",
        "y_beta1",
    }
    for name, options in OPTIONS.items():
        missing = set(make(name)[1].defaults) - set(options) - counted
        assert missing <= ({"lr"} if name == "Rprop" else set()), name


@pytest.mark.parametrize("dtype", ["float64", "float16"])
@pytest.mark.parametrize(("name", "option"), EVERY)
def test_written_equals_made_so(name, option, dtype):
    """From the step at which it is written on, as if the state had been loaded into an optimizer that was made with it."""
    p, optimizer = make(name, dtype, **TOGETHER.get((name, option), {}))
    steps(an, p, optimizer, 3)
    state = copy.deepcopy(optimizer.state_dict())
    state["param_groups"][0][option] = OPTIONS[name][option]
    q, other = loaded(name, p, state)
    unchanged, third = loaded(name, p, optimizer.state_dict())
    optimizer.param_groups[0][option] = OPTIONS[name][option]
    for one, of in ((p, optimizer), (q, other), (unchanged, third)):
        steps(an, one, of, 3)
    np.testing.assert_array_equal(p.numpy(), q.numpy())
    if dtype == "float64" and (name, option) not in SAME:
        assert (p.numpy() != unchanged.numpy()).any(), "the value makes no difference"


# where PyTorch fails, or keeps what was at the first step
NOT_THERE = {
    ("RMSprop", "momentum"),
    ("RMSprop", "centered"),
    ("Adam", "amsgrad"),
    ("AdamW", "amsgrad"),
    ("Muon", "eps"),
}


@pytest.mark.parametrize(
    ("name", "option"),
    [c for c in EVERY if c not in NOT_THERE and c[1] != "l1" and c[0] not in ("Muon", "LBFGS")],
)
def test_written_equals_torch(name, option):
    if not hasattr(torch.optim, name):
        pytest.skip("PyTorch has no such optimizer")
    options = TOGETHER.get((name, option), {})
    p, optimizer = make(name, **options)
    q = torch.nn.Parameter(torch.tensor(START))
    other = getattr(torch.optim, name)([q], **options)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)  # of NAdam's product of momenta
    try:
        for lib, one, of in ((an, p, optimizer), (torch, q, other)):
            steps(lib, one, of, 3)
            of.param_groups[0][option] = OPTIONS[name][option]
            steps(lib, one, of, 4)
    finally:
        torch.set_default_dtype(before)
    np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("name", ["SGD", "RMSprop", "Adam", "NAdam", "LARS"])
def test_written_in_the_middle_of_a_compiled_training(name):
    option = "amsgrad" if name == "Adam" else "betas" if name == "NAdam" else "momentum"
    results = []
    for compiled in (True, False):
        p, optimizer = make(name)

        def train(p=p, optimizer=optimizer):
            optimizer.zero_grad()
            loss = an.sum((p * p - 0.7 * p) ** 2)
            loss.backward()
            optimizer.step()
            return loss

        call = an.compile(train) if compiled else train
        for i in range(9):
            if i == 5:
                optimizer.param_groups[0][option] = OPTIONS[name][option]
            call()
        results.append(p.numpy())
    np.testing.assert_array_equal(*results)


def test_momentum_off_and_on_again_keeps_the_velocity_as_torch_does():
    p, optimizer = make("SGD", lr=0.1, momentum=0.9, dampening=0.5)
    q = torch.nn.Parameter(torch.tensor(START))
    other = torch.optim.SGD([q], lr=0.1, momentum=0.9, dampening=0.5)
    for momentum in (0.9, 0.0, 0.7):
        for lib, one, of in ((an, p, optimizer), (torch, q, other)):
            of.param_groups[0]["momentum"] = momentum
            steps(lib, one, of, 3)
    np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-13)


@pytest.mark.parametrize("beta", [0.85, 0.95])
def test_nadam_with_a_beta_that_changes_equals_torch(beta):
    p, optimizer = make("NAdam", lr=0.1)
    q = torch.nn.Parameter(torch.tensor(START))
    other = torch.optim.NAdam([q], lr=0.1)
    for i in range(8):
        for lib, one, of in ((an, p, optimizer), (torch, q, other)):
            of.param_groups[0]["betas"] = (beta - 0.02 * i, 0.999)
            steps(lib, one, of, 1)
    np.testing.assert_allclose(
        p.numpy(), q.detach().numpy(), rtol=1e-6
    )  # PyTorch keeps the product in float32


WRONG = [
    *(("SGD", "lr", value) for value in (-1.0, math.nan, math.inf, "0.1", None, 1j, [0.1], np.ones(2), True)),
    ("SGD", "momentum", -0.1), ("SGD", "nesterov", "yes"), ("SGD", "dampening", math.nan), ("SGD", "weight_decay", -1e-9),
    ("Adam", "betas", 0.9), ("Adam", "betas", (0.9,)), ("Adam", "betas", (0.9, 1.0)), ("Adam", "betas", (math.nan, 0.9)),
    ("Adam", "eps", -1.0), ("Adam", "amsgrad", 2), ("RMSprop", "alpha", -0.5), ("RMSprop", "centered", None),
    ("Adadelta", "rho", 1.1), ("NAdam", "momentum_decay", "x"), ("Rprop", "etas", (1.5, 1.2)), ("ASGD", "t0", None),
    ("Adafactor", "d", 0.5), ("Adafactor", "eps", (None, -1.0)), ("Muon", "ns_steps", 2.5), ("Muon", "adjust_lr_fn", "none"),
    ("LARS", "momentum", 1.0), ("AdaBound", "gamma", 0.0), ("ScheduleFreeAdamW", "betas", (0.0, 0.9)),
    ("ScheduleFreeAdamW", "warmup_steps", -1), ("LBFGS", "max_iter", 0), ("LBFGS", "line_search_fn", "wolfe"),
    ("Adam", "differentiable", True), ("Adam", "fused", "yes"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "option", "value"), WRONG)
def test_wrong_values_are_refused_where_they_are_given(name, option, value):
    with pytest.raises(ValueError, match=rf"{name}: {option}(\[\d\])? must be .*, got "):
        make(name, **{option: value})
    p, optimizer = make(name)
    before = dict(optimizer.param_groups[0])
    for write in (
        lambda g: g.__setitem__(option, value), lambda g: g.update({option: value}), lambda g: g.__ior__({option: value}),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=rf"{name}: {option}(\[\d\])? must be"):
            write(optimizer.param_groups[0])
    assert dict(optimizer.param_groups[0]) == before
    with pytest.raises(ValueError, match=rf"{name}: {option}(\[\d\])? must be|LBFGS takes one"):
        optimizer.add_param_group({"params": [an.Parameter(START)], option: value})
    state = optimizer.state_dict()
    with pytest.raises(ValueError, match=rf"{name}: {option}(\[\d\])? must be"):
        optimizer.load_state_dict({**state, "param_groups": [{**state["param_groups"][0], option: value}]})
    assert len(optimizer.param_groups) == 1
    steps(an, p, optimizer, 1)


def test_what_does_not_go_together_is_refused_at_the_step_before_anything_changes():
    p, q = an.Parameter([1.0]), an.Parameter([1.0])
    optimizer = optim.SGD([{"params": [p]}, {"params": [q]}], lr=1.0)
    p.grad, q.grad = an.ones(1), an.ones(1)
    optimizer.param_groups[1]["nesterov"] = True
    with pytest.raises(ValueError, match="with nesterov, momentum must be > 0"):
        optimizer.step()
    assert p.tolist() == q.tolist() == [1.0]
    optimizer.param_groups[1]["momentum"] = 0.5
    optimizer.step()
    assert (p.tolist(), q.tolist()) == ([0.0], [-0.5])


def test_an_option_that_is_read_at_the_beginning_is_refused_later():
    p, optimizer = make("Adagrad")
    optimizer.param_groups[0]["initial_accumulator_value"] = 0.5  # before the first step it counts
    q, other = make("Adagrad", initial_accumulator_value=0.5)
    steps(an, p, optimizer, 2)
    steps(an, q, other, 2)
    np.testing.assert_array_equal(p.numpy(), q.numpy())
    optimizer.param_groups[0]["initial_accumulator_value"] = 1.0
    with pytest.raises(
        ValueError, match=r"initial_accumulator_value is read when the state begins; it was 0.5"
    ):
        steps(an, p, optimizer, 1)
    optimizer.param_groups[0]["initial_accumulator_value"] = 0.5
    steps(an, p, optimizer, 1)


def test_unknown_options_and_removed_ones_are_refused():
    _, optimizer = make("Adam")
    group = optimizer.param_groups[0]
    with pytest.raises(TypeError, match="Adam: unknown option 'beta'; did you mean 'betas'"):
        group["beta"] = (0.9, 0.9)
    group["lr_scale"] = 0.5  # a note of layer-wise rates
    assert (
        an.optim.Adam([{"params": [an.Parameter([1.0])], "lr_scale": 2.0}]).param_groups[0]["lr_scale"] == 2.0
    )
    assert group["lr_scale"] == 0.5
    for remove in (lambda: group.pop("lr"), lambda: group.__delitem__("eps"), lambda: group.pop("params")):
        with pytest.raises(TypeError, match="can be changed, not removed"):
            remove()
    for remove in (group.clear, group.popitem):
        with pytest.raises(TypeError, match="not removed"):
            remove()
    for change in (lambda: group["params"].append(an.Parameter([1.0])), lambda: group["params"].clear()):
        with pytest.raises(TypeError, match="changed as a whole"):
            change()
    group["initial_lr"] = 1.0  # a schedule's note
    assert group.pop("initial_lr") == 1.0
    assert group.setdefault("name", "body") == "body"


def test_copies_of_a_group_are_ordinary_dicts():
    p, optimizer = make("Adam")
    group = optimizer.param_groups[0]
    for twin in (group.copy(), copy.copy(group), copy.deepcopy(group)):
        assert type(twin) is dict
        assert twin["lr"] == 1e-3
        twin["lr"] = 5.0
    assert copy.copy(group)["params"][0] is p
    assert group["lr"] == 1e-3


def test_other_parameters_in_a_group():
    p, q = an.Parameter([1.0]), an.Parameter([1.0])
    optimizer = optim.SGD([p], lr=1.0, momentum=0.5)
    p.grad = an.ones(1)
    optimizer.step()
    optimizer.param_groups[0]["params"] = [q, p]
    p.grad, q.grad = an.ones(1), an.ones(1)
    optimizer.step()  # p's velocity is still there, q's begins
    assert (p.tolist(), q.tolist()) == ([-1.5], [0.0])
    optimizer.param_groups[0]["params"] = [q, q]
    with pytest.raises(ValueError, match="given twice"):
        optimizer.step()


def test_groups_put_there_or_taken_away_as_dicts():
    p, q = an.Parameter([1.0]), an.Parameter([1.0])
    optimizer = optim.SGD([p], lr=1.0)
    optimizer.param_groups.append({"params": [q], "lr": 0.5})
    p.grad, q.grad = an.ones(1), an.ones(1)
    optimizer.step()
    assert (p.tolist(), q.tolist()) == ([0.0], [0.5])
    assert optimizer.param_groups[1]["momentum"] == 0.0
    del optimizer.param_groups[0]
    p.grad, q.grad = an.ones(1), an.ones(1)
    optimizer.step()
    assert (p.tolist(), q.tolist()) == ([0.0], [0.0])


NUMBERS = [
    np.float32(0.5),
    np.float64(0.5),
    np.asarray(0.5),
    np.asarray([0.5]),
    an.asarray(0.5),
    np.float16(0.5),
]


@pytest.mark.parametrize("value", NUMBERS, ids=lambda v: f"{type(v).__name__} {v.dtype} {v.shape}")
@pytest.mark.parametrize("option", ["lr", "momentum", "weight_decay"])
def test_numbers_of_other_libraries(value, option, tmp_path):
    results = []
    for given in (value, 0.5):
        p, optimizer = make("SGD", **{option: given})
        steps(an, p, optimizer, 2)
        optimizer.param_groups[0][option] = given
        steps(an, p, optimizer, 2)
        an.save(tmp_path / "o.safetensors", optimizer.state_dict())
        q, other = loaded("SGD", p, an.load(tmp_path / "o.safetensors"))
        steps(an, q, other, 1)
        results.append(q.numpy())
    np.testing.assert_array_equal(*results)


def test_integers_and_flags_of_numpy():
    p, optimizer = make("Muon", ns_steps=np.int64(3), nesterov=np.bool_(False), lr=np.int32(1))
    assert [type(optimizer.param_groups[0][k]) for k in ("ns_steps", "nesterov", "lr")] == [int, bool, int]
    assert type(make("Adam", betas=np.asarray([0.5, 0.9]))[1].param_groups[0]["betas"][0]) is float
    assert make("LBFGS", max_iter=np.int64(8))[1].param_groups[0]["max_eval"] == 10
    steps(an, p, optimizer, 1)


def test_tensor_as_learning_rate_is_read_at_each_step():
    rate = an.asarray(0.5)
    p = an.Parameter([1.0])
    optimizer = optim.Adam([p], lr=rate)
    p.grad = an.ones(1)
    optimizer.step()
    before = p.numpy()
    rate.assign_(0.0)
    optimizer.step()
    np.testing.assert_array_equal(p.numpy(), before)
    rate.assign_(-1.0)
    with pytest.raises(ValueError, match="lr must be a number ≥ 0, got -1"):
        optimizer.step()


def test_hints_of_torch_are_taken():
    for name in (
        "SGD",
        "Adam",
        "AdamW",
        "RMSprop",
        "Adagrad",
        "Adadelta",
        "Adamax",
        "NAdam",
        "RAdam",
        "Rprop",
        "ASGD",
    ):
        p, optimizer = make(name, foreach=True, fused=None, capturable=False, differentiable=False)
        steps(an, p, optimizer, 1)


def test_what_is_no_list_of_parameters_is_refused():
    p = an.Parameter([1.0])
    for given, message in (
        (an.nn.Linear(1, 1), r"got Linear; give its parameters\(\)"), ({p}, "need an order"), ({"params": [p]}, "put it into a list"),
        (3, "got int"),
    ):  # fmt: skip
        with pytest.raises(TypeError, match=message):
            optim.SGD(given)
    with pytest.raises(ValueError, match="names with all parameters"):
        optim.SGD([("a", p), an.Parameter([1.0])])


def test_named_parameters_load_by_name():
    p, q = an.Parameter([1.0]), an.Parameter([2.0])
    optimizer = optim.SGD([("a", p), ("b", q)], lr=0.5, momentum=0.5)
    p.grad, q.grad = an.full((1,), 1.0), an.full((1,), 2.0)
    optimizer.step()
    assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["a", "b"]
    other = optim.SGD([("b", an.Parameter([2.0])), ("a", an.Parameter([1.0]))])
    other.load_state_dict(optimizer.state_dict())
    state = other.state_dict()
    assert [state["state"][i]["momentum_buffer"].tolist() for i in (0, 1)] == [[2.0], [1.0]]
    assert state["param_groups"][0]["param_names"] == ["b", "a"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s["state"].__setitem__(5, s["state"][0]), "entries for parameters"),
        (lambda s: s["state"][0].pop("exp_avg"), "lacks exp_avg"),
        (lambda s: s["state"][0].__setitem__("sum", an.ones((2, 3))), "has sum"),
        (lambda s: s["state"][0].__setitem__("exp_avg", an.ones(3)), "exp_avg of parameter 0 has shape"),
        (lambda s: s["state"][0].__setitem__("step", -1), "expected a count"),
        (lambda s: s["state"][0].__setitem__("step", "two"), "expected a count"),
        (lambda s: s["param_groups"].append(s["param_groups"][0]), "groups of"),
        (lambda s: s["param_groups"][0].__setitem__("params", [0, 1]), "groups of"),
        (lambda s: s["param_groups"][0].__setitem__("momentum", 0.9), "has momentum"),
        (lambda s: s["param_groups"][0].pop("betas"), "lacks betas"),
        (lambda s: s.pop("state"), "not an optimizer's state"),
    ],
)
def test_states_that_do_not_fit_are_refused_and_nothing_changes(change, message):
    p, optimizer = make("Adam", lr=0.1)
    steps(an, p, optimizer, 2)
    q, other = loaded("Adam", p, optimizer.state_dict())
    bad = copy.deepcopy(optimizer.state_dict())
    bad["param_groups"][0]["lr"] = 7.0
    change(bad)
    with pytest.raises(ValueError, match=message):
        optimizer.load_state_dict(bad)
    assert optimizer.param_groups[0]["lr"] == 0.1
    steps(an, p, optimizer, 2)
    steps(an, q, other, 2)
    np.testing.assert_array_equal(p.numpy(), q.numpy())


@pytest.mark.parametrize("name", [n for n in OPTIONS if n != "LBFGS"])
def test_states_of_torch_are_taken(name):
    if not hasattr(torch.optim, name):
        pytest.skip("PyTorch has no such optimizer")
    options = {"momentum": 0.9} if name == "SGD" else {"ns_steps": 0} if name == "Muon" else {}
    q = torch.nn.Parameter(torch.tensor(START))
    other = getattr(torch.optim, name)([q], lr=0.01, **options)
    steps(torch, q, other, 3)
    p, optimizer = make(name, **options)
    with an.no_grad():
        p.assign_(q.detach().numpy())
    optimizer.load_state_dict(other.state_dict())
    if name == "Muon":
        return  # whose iteration PyTorch does in bfloat16
    steps(torch, q, other, 3)
    steps(an, p, optimizer, 3)
    np.testing.assert_allclose(p.numpy(), q.detach().numpy(), rtol=1e-6)


SIXTEEN = [n for n in OPTIONS if n not in ("LBFGS", "LARS", "Muon", "Adafactor", "ASGD")]


@pytest.mark.parametrize("name", SIXTEEN)
def test_float16_is_updated_as_float32(name):
    """With ε and the squares of small gradients that float16 rounds to 0."""
    results = []
    for dtype in ("float16", "float32"):
        p = an.Parameter(np.ones(4), dtype=dtype)
        optimizer = getattr(optim, name)([p], lr=1e-2)
        for _ in range(3):
            p.grad = an.asarray([0.0, 1e-4, -3e-4, 1.0], dtype=dtype)
            if name == "SparseAdam":
                p.grad = an.SparseRows([0, 1, 2, 3], p.grad, (4,))
            optimizer.step()
        assert p.dtype.name == dtype
        results.append(p.numpy().astype("float64"))
    assert np.isfinite(results[0]).all()
    np.testing.assert_allclose(*results, rtol=2e-3)


@pytest.mark.parametrize("name", list(OPTIONS))
def test_copies_go_on_alike(name):
    p, optimizer = make(name)
    steps(an, p, optimizer, 3)
    q, other = copy.deepcopy((p, optimizer))
    steps(an, p, optimizer, 3)
    steps(an, q, other, 3)
    assert other.param_groups[0]["params"][0] is q
    np.testing.assert_array_equal(p.numpy(), q.numpy())


class Waiting(an.Parameter):
    """A parameter without a shape until it is told, as a lazy layer's."""

    __slots__ = ()

    def materialize(self, value):
        self.__class__ = an.Parameter
        self.__init__(value)

    @property
    def shape(self):
        raise RuntimeError("no shape yet")


@pytest.mark.parametrize("name", list(OPTIONS))
def test_parameters_of_lazy_layers_are_taken_and_trained_when_they_have_a_shape(name):
    p, q = Waiting(np.zeros(0)), an.Parameter(START)
    optimizer = getattr(optim, name)([p] if name == "LBFGS" else [q, p])
    assert "parameters" in repr(optimizer)
    assert optimizer.state_dict()["state"] == {}
    optimizer.zero_grad()
    if name not in ("LBFGS", "ScheduleFreeAdamW"):  # which counts the steps of a group
        steps(an, q, optimizer, 1)
    p.materialize(an.asarray(START))
    steps(an, p, optimizer, 2)
    other, alone = make(name, "float64")
    steps(an, other, alone, 2)
    np.testing.assert_array_equal(p.numpy(), other.numpy())
    assert len(optimizer.state_dict()["state"]) == (1 if name in ("LBFGS", "ScheduleFreeAdamW") else 2)
