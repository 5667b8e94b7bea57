"""`anynet.compile` on a CUDA device: what a captured step computes and leaves is what the function does, in one launch and without a
wait; what cannot be captured runs as it is and is said once."""

from __future__ import annotations

import contextlib
import copy
import functools
import math
import pickle
import warnings
from pathlib import Path

import numpy as np
import pytest
from counted_operations import clipped_step

import anynet as an
import anynet.nn.functional as F
from anynet import nn, optim
from ci.cuda_emulator.log import Log, late

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

rng = np.random.default_rng(5)
WARM = 3
"""Calls before the capture."""


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def batches(count, device="cuda", n=4):
    own = np.random.default_rng(11)
    for _ in range(count):
        x = an.asarray(own.standard_normal((n, 1, 6, 6)).astype(np.float32), device=device)
        yield x, an.asarray(own.integers(0, 64, n), device=device)


class Training:
    """A small network and a step of its training: convolution, batch norm and dropout, an optimizer, a schedule."""

    def __init__(self, make, device="cuda", compiled=True, **options):
        an.random.manual_seed(3)
        self.net = nn.Sequential(
            nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten()
        ).to(device)
        self.optimizer = make(self.net.parameters())
        self.schedule = optim.StepLR(self.optimizer, 2, 0.5)
        self.loss_of = nn.CrossEntropyLoss()
        self.step = an.compile(self.of, **options) if compiled else self.of

    def of(self, x, y):
        self.optimizer.zero_grad()
        loss = self.loss_of(self.net(x), y)
        loss.backward()
        self.optimizer.step()
        self.schedule.step()
        return loss

    def state(self):
        arrays = [*self.net.parameters(), *self.net.buffers(), *(p.grad for p in self.net.parameters())]
        state = self.optimizer.state_dict()["state"]
        arrays += [v for entry in state.values() for v in entry.values() if isinstance(v, an.Tensor)]
        return (
            [a.numpy().tobytes() for a in arrays],
            [entry["step"] for entry in state.values()],
            an.random.get_state(),
            self.schedule.state_dict(),
            self.optimizer.param_groups[0]["lr"],
        )


class Annealed(optim.Optimizer):
    """Array code whose numbers are any of Python's, with a sort and a matrix."""

    per_parameter = True
    slots = ("mean",)

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def update(self, xp, p, g, state, step, group):
        mean, heat = state["mean"], math.exp(-step / 10)
        mean += heat * (g - mean)
        rows = xp.reshape(mean, (mean.shape[0], -1))
        middle = xp.sort(rows, axis=-1)[:, rows.shape[-1] // 2]
        g = mean - 0.1 * heat * xp.reshape(middle, (-1, *[1] * (p.ndim - 1)))
        g = xp.clip(g, -heat, heat)
        p[...] = xp.where(g < heat / 2, p - group["lr"] * g, p * (1 - heat * group["lr"]) + step * 1e-6)


class Sized(optim.Optimizer):
    """Element by element, with an operation that no kernel of updates has."""

    slots = ("ema",)

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})

    def coefficients(self, step, group):
        return {"rate": group["lr"] / step**0.5, "keep": 1 - 1 / (step + 1)}

    @staticmethod
    def elementwise_update(xp, p, g, state, c):
        state["ema"] *= c["keep"]
        state["ema"] += (1 - c["keep"]) * g
        p -= c["rate"] * xp.expm1(xp.atan2(state["ema"], abs(g) + 0.5))


OPTIMIZERS = {
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "Adam": lambda p: optim.Adam(p, lr=1e-2),
    "AdamW": lambda p: optim.AdamW(p, lr=1e-2),
    "RMSprop": lambda p: optim.RMSprop(p, lr=1e-2),
    "Lion": lambda p: optim.Lion(p, lr=1e-3),
    "NAdam": lambda p: optim.NAdam(p, lr=1e-2, weight_decay=1e-2),
    "LAMB": lambda p: optim.LAMB(p, lr=1e-2, weight_decay=1e-2),
    "LARS": lambda p: optim.LARS(p, lr=0.1, momentum=0.9, weight_decay=1e-2),
    "Adafactor": lambda p: optim.Adafactor(p, lr=1e-2),
    "ASGD": lambda p: optim.ASGD(p, lr=1e-2, t0=0),
    "own": lambda p: Annealed(p, lr=1e-2),
    "own, element by element": lambda p: Sized(p, lr=1e-2),
    "Tensor as rate": lambda p: optim.Adam(p, lr=an.asarray(0.01)),
    "Tensor as rate of LAMB": lambda p: optim.LAMB(p, lr=an.asarray(0.01)),
}


@pytest.fixture
def _programs_are_there():
    """What an operation computes until its third call differs in the last bits from what its program does."""
    for _ in range(2):
        training = Training(OPTIMIZERS["Adam"], compiled=False)
        for batch in batches(WARM):
            training.step(*batch)


@pytest.mark.usefixtures("_programs_are_there")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_captured_training_has_the_bits_of_the_function(name):
    eager, captured = (Training(OPTIMIZERS[name], compiled=c) for c in (False, True))
    found = []
    for training in (eager, captured):
        an.random.manual_seed(8)
        losses = [training.step(*batch) for batch in batches(9)]
        found.append(([x.numpy().tobytes() for x in losses], training.state()))
    assert found[0] == found[1]
    assert captured.step.recorded == 1
    assert not losses[-1].requires_grad
    assert not losses[0].requires_grad


class Recurrent(nn.Module):
    def __init__(self):
        self.lstm, self.last = nn.LSTM(4, 8, batch_first=True), nn.Linear(8, 5)

    def forward(self, x):
        return self.last(self.lstm(x)[0][:, -1, :])


class Attending(nn.Module):
    def __init__(self):
        self.layer, self.last = (
            nn.TransformerEncoderLayer(16, 4, 32, dropout=0.1, batch_first=True),
            nn.Linear(16, 5),
        )

    def forward(self, x):
        return self.last(an.mean(self.layer(x), axis=1))


class Embedded(nn.Module):
    def __init__(self):
        self.table, self.last = nn.Embedding(20, 4), nn.Linear(4, 5)

    def forward(self, x):
        return self.last(an.sum(self.table(an.astype(an.abs(x) * 3, an.int64)), axis=1))


NETWORKS = {
    "perceptron": (lambda: nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 5)), (8,)),
    "convolutions": (
        lambda: nn.Sequential(
            nn.Conv2d(1, 16, 3),
            nn.BatchNorm2d(16),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(16, 8, 3),
            nn.Flatten(),
            nn.Linear(32, 5),
        ),
        (1, 10, 10),
    ),
    "LSTM": (Recurrent, (6, 4)),
    "transformer": (Attending, (6, 16)),
    "embedding": (Embedded, (6,)),
}


def trained(name, how, streams=None):
    """Losses and parameters after some steps with clipped gradients."""
    make, shape = NETWORKS[name]
    an.random.manual_seed(1)
    net = make().to("cuda")
    function = how(clipped_step(net))
    own = np.random.default_rng(3)
    losses = []
    with late(streams) if streams else contextlib.nullcontext():
        for _ in range(7):
            x = an.asarray(own.standard_normal((16, *shape)).astype(np.float32), device="cuda")
            y = an.asarray(own.integers(0, 5, 16), device="cuda")
            with Log() as log:
                losses.append(function(x, y))
        found = [a.numpy().tobytes() for a in (*losses, *net.parameters(), *net.buffers())]
    return found, function, log


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_are_captured_with_the_bits_of_the_function(name):
    trained(name, lambda step: step)  # by then the programs of its operations are there
    eager, _, _ = trained(name, lambda step: step)
    captured, function, log = trained(name, an.compile)
    assert captured == eager
    assert function.recorded == 1
    assert (len(log.having("graph ")), log.launches, log.copies, log.synchronisations) == (1, 2, 3, 0)


@pytest.mark.parametrize("streams", ["default", "others", "all"])
def test_a_captured_step_has_the_same_bits_whoever_is_late(streams):
    trained("perceptron", an.compile)
    assert trained("perceptron", an.compile, streams)[0] == trained("perceptron", an.compile)[0]


def test_a_launch_asks_for_its_inputs_its_numbers_and_its_result_and_waits_for_nothing():
    training = Training(OPTIMIZERS["Adam"])
    *first, last = batches(7)
    for batch in first:
        training.step(*batch)
    with Log() as log:
        training.step(*last)
    assert len(log.having("graph ")) == 1
    assert len(log.having("launch anynet_write")) == log.launches - 1 == 1
    assert log.copies == 3  # two arguments and the loss
    assert log.synchronisations == 0
    assert not log.having("allocate")


def test_numbers_that_stay_are_not_written_again():
    net = nn.Conv2d(1, 4, 3).to("cuda")
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    @an.compile
    def step(x):
        optimizer.zero_grad()
        an.sum(net(x)).backward()
        optimizer.step()

    *first, (last, _) = batches(6)
    for x, _ in first:
        step(x)
    with Log() as log:
        step(last)
    assert (log.launches, log.copies) == (1, 1)


def test_another_rate_and_another_seed_are_no_other_graph():
    training = Training(OPTIMIZERS["SGD"])
    drawn = []
    for i, batch in enumerate(batches(9)):
        if i == 5:
            training.optimizer.param_groups[0]["lr"] = 0.0
        if i >= 6:
            before = [p.numpy() for p in training.net.parameters()]
            an.random.manual_seed(i)
            training.optimizer.param_groups[0]["lr"] = 0.0
        training.step(*batch)
        if i >= 6:
            drawn.append(training.net[0].weight.grad.numpy())
            assert all((p.numpy() == b).all() for p, b in zip(training.net.parameters(), before, strict=True))
    assert training.step.recorded == 1
    assert not np.array_equal(drawn[0], drawn[1])


def test_masks_go_on_and_are_those_of_the_cpu():
    f = an.compile(lambda x: F.dropout(x, 0.5))
    seen = {}
    for device in ("cpu", "cuda"):
        an.random.manual_seed(4)
        seen[device] = [f(an.ones((64,), device=device)).numpy() for _ in range(7)]
        seen[device].append(F.dropout(an.ones((64,), device=device), 0.5).numpy())
    for a, b in zip(*seen.values(), strict=True):
        np.testing.assert_array_equal(a, b)
    assert len({a.tobytes() for a in seen["cuda"]}) == 8


def test_results_stay_when_the_next_call_comes():
    f = an.compile(lambda x: (x * 2.0, {"sum": an.sum(x)}))
    held = [f(an.full((3,), float(i), device="cuda")) for i in range(8)]
    for i, (double, sums) in enumerate(held):
        assert double.tolist() == [2.0 * i] * 3
        assert sums["sum"].item() == 3.0 * i
    held[-1][0][...] = 0.0
    assert held[-2][0].tolist() == [12.0] * 3


def test_results_that_are_arguments_parameters_and_numbers():
    net = nn.LayerNorm(3).to("cuda")
    f = an.compile(lambda x, k: (x, net.weight, k, net(x).detach()))
    for i in range(6):
        x = an.full((2, 3), float(i), device="cuda")
        same, weight, k, _ = f(x, 7)
        assert same is x
        assert weight is net.weight
        assert k == 7
    assert f.recorded == 1


def test_gradients_that_no_optimizer_holds_are_new_each_time():
    w = an.nn.Parameter(an.asarray([1.0, 2.0], device="cuda"))

    @an.compile
    def f(x):
        w.grad = None
        an.sum(w * x).backward()

    grads = []
    with Log() as log:
        for i in range(9):
            f(an.full((2,), float(i), device="cuda"))
            grads.append(w.grad)
    assert [g.tolist() for g in grads] == [[float(i)] * 2 for i in range(9)]
    assert f.recorded == 1
    assert len(log.having("graph ")) == 6


def test_a_gradient_that_is_read_before_it_is_dropped_is_no_constant():
    w = an.nn.Parameter(an.asarray([1.0, 2.0], device="cuda"))

    def of(x):
        y = x if w.grad is None else x + 0.5 * w.grad
        w.grad = None
        an.sum(w * y).backward()

    def added(x):
        an.sum(w * x).backward()
        w.grad = None
        an.sum(w * w * x).backward()

    found = []
    for function in (of, added):
        for step in (function, an.compile(function)):
            w.grad = None
            grads = []
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                for i in range(12):
                    step(an.full((2,), float(i), device="cuda"))
                    grads.append(w.grad.tolist())
            found.append(grads)
    assert found[0] == found[1]
    assert found[2] == found[3]


def test_without_arguments():
    net, x = (
        nn.LayerNorm(3).to("cuda"),
        an.asarray(rng.standard_normal((4, 3)).astype(np.float32), device="cuda"),
    )
    f = an.compile(lambda: an.sum(net(x)).detach())
    expected = an.sum(net(x)).item()
    assert [f().item() for _ in range(6)] == [expected] * 6
    assert f.recorded == 1
    x[...] = 0.0
    assert f().item() == an.sum(net(x)).item()


# ----- guards -----


def test_what_has_changed_makes_another_graph_and_the_old_one_is_found_again():
    net = nn.Sequential(nn.LayerNorm(8), nn.Dropout(0.5)).to("cuda").train()
    f = an.compile(lambda x: net(x).detach())
    x = an.asarray(rng.standard_normal((4, 8)).astype(np.float32), device="cuda")
    for _ in range(5):
        f(x)
    net.eval()
    expected = net(x).numpy()
    for _ in range(5):
        np.testing.assert_allclose(f(x).numpy(), expected, rtol=1e-6)
    assert f.recorded == 2
    net.train()
    with Log() as log:
        assert (f(x).numpy() == 0).any()
    assert log.having("graph ")
    assert f.recorded == 2


def test_a_global_number_and_a_form_of_the_arguments_are_guards():
    scale = 2.0

    def of(x):
        return x * scale

    f = an.compile(of)
    for _ in range(5):
        assert f(an.ones((2,), device="cuda")).tolist() == [2.0, 2.0]
    scale = 3.0
    for _ in range(5):
        assert f(an.ones((2,), device="cuda")).tolist() == [3.0, 3.0]
    for _ in range(5):
        assert f(an.ones((3,), device="cuda")).tolist() == [3.0, 3.0, 3.0]
    assert f.recorded == 3


def test_a_parameter_in_other_memory_is_found_there():
    found = []
    for compiled in (False, True):
        training = Training(OPTIMIZERS["SGD"], compiled=compiled)
        for batch in batches(5):
            training.step(*batch)
        weight = training.net[0].weight
        weight.data = weight.data.copy() + 1.0
        for batch in batches(2):
            training.step(*batch)
        found.append(weight.numpy())
    np.testing.assert_allclose(*found, rtol=1e-5)
    assert training.step.recorded == 1  # the optimizer has put it back into its vector


def test_a_state_that_is_loaded_is_the_one_that_is_updated():
    trainings = [Training(OPTIMIZERS["Adam"], compiled=c) for c in (True, False)]
    saved = None
    for training in trainings:
        an.random.manual_seed(1)
        for i, batch in enumerate(batches(14)):
            if i == 6:
                if saved is None:
                    saved = (
                        copy.deepcopy(training.net.state_dict()),
                        training.optimizer.state_dict(),
                        an.random.get_state(),
                    )
                training.net.load_state_dict(saved[0])
                training.optimizer.load_state_dict(saved[1])
                an.random.set_state(saved[2])
            training.step(*batch)
    for a, b in zip(trainings[0].state()[0], trainings[1].state()[0], strict=True):
        np.testing.assert_allclose(
            np.frombuffer(a, np.float32)[:4], np.frombuffer(b, np.float32)[:4], rtol=1e-4, atol=1e-5
        )
    assert trainings[0].step.recorded == 2


def test_a_function_that_reads_something_else_at_each_call_is_given_up_with_a_warning():
    count = [0]
    f = an.compile(lambda x: x * float(count[0]))
    said = []
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for i in range(24):
            count[0] = i
            assert f(an.ones((2,), device="cuda")).tolist() == [float(i)] * 2
        said += [str(w.message) for w in found]
    assert len(said) == 1
    assert "was another at each call" in said[0]


def test_the_oldest_graphs_are_dropped_and_their_memory_is_freed():
    f = an.compile(lambda x: an.sum(an.exp(x) * 2.0) * x, cache_size=2)
    free = []
    for n in (1 << 10, 1 << 11, 1 << 12, 1 << 13):
        for _ in range(5):
            f(an.ones((n,), device="cuda"))
        cupy.get_default_memory_pool().free_all_blocks()
        free.append(cupy.cuda.runtime.memGetInfo()[0])
    assert len(f.graphs.steps) == 2
    held = sum(step.capture.held for steps in f.graphs.steps.values() for step in steps)
    f.graphs.close()
    assert cupy.cuda.runtime.memGetInfo()[0] - free[-1] >= held > 0


# ----- what cannot be captured -----

NET = nn.LayerNorm(4).to("cuda") if cupy.cuda.runtime.getDeviceCount() else None
COUNTS = {"calls": 0}
KEPT = []


class Holder:
    hidden = None


HOLDER = Holder()


def reads_a_value(x):
    y = an.sum(NET(x)).detach()
    return x * float(y)  # the line


def branches(x):
    if an.sum(x) > 0:  # the line
        return x * 2.0
    return x


def uses_another_stream(x):
    with cupy.cuda.Stream(non_blocking=True):
        return x * 2.0  # the line


def uses_another_device(x):
    y = an.ones((4,), device="cuda:1")  # the line
    return x * y.shape[0]


def selects(x):
    return an.sum(x[x > 0])  # the line


def prints_a_tensor(x):
    print(an.sum(x).item())  # the line
    return x * 2.0


def uploads(x):
    return x + an.asarray(np.ones(4, np.float32), device="cuda")  # the line


def counts(x):
    COUNTS["calls"] += 1  # the line
    return x * 2.0


def appends(x):
    KEPT.append(x * 2.0)
    return x * 2.0


def sets_an_attribute(x):
    HOLDER.hidden = x * 2.0  # the line
    return x * 2.0


def changes_its_argument(x):
    x += 1.0
    return x * 2.0


def writes_into_its_argument(x):
    x.assign_(x * 3.0)  # the line
    return x * 2.0


def writes_behind_a_tensor(x):
    x.data[...] = 7.0
    return x * 2.0


def gives_a_view(x):
    return x[0, ...]


def can_be_differentiated(x):
    return NET(x)


def draws_on_the_host(x):
    return x + an.random.normal((4,), device="cuda")


REFUSED = {
    reads_a_value: "a value is read",
    branches: "a value is read",
    selects: "a value is read",
    uses_another_stream: "in another stream",
    uses_another_device: "on another device",
    prints_a_tensor: "a value is read",
    uploads: "numbers are copied from the host",
    counts: "is changed inside",
    appends: "is changed inside",
    sets_an_attribute: "is changed inside",
    changes_its_argument: "an argument is changed",
    writes_into_its_argument: "an argument is changed",
    writes_behind_a_tensor: "an argument is changed",
    gives_a_view: "a view of an argument",
    can_be_differentiated: "can still be differentiated",
    draws_on_the_host: "from the host",
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("function", REFUSED, ids=lambda f: f.__name__)
def test_what_cannot_be_captured_runs_as_it_is_with_one_warning(function, capsys):
    COUNTS["calls"] = 0
    KEPT.clear()
    compiled, pool = an.compile(function), cupy.get_default_memory_pool()
    given = rng.standard_normal((3, 4)).astype(np.float32)
    an.random.manual_seed(2)
    expected, argument = [], []
    for i in range(7):
        x = an.asarray(given + i, device="cuda")
        expected.append(function(x).numpy())
        argument.append(x.numpy())
    before, seen = (COUNTS["calls"], len(KEPT)), []
    an.random.manual_seed(2)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for i in range(7):
            x = an.asarray(given + i, device="cuda")
            seen.append(compiled(x).numpy())
            np.testing.assert_array_equal(x.numpy(), argument[i])
    for a, b in zip(expected, seen, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)
    assert len(found) == 1, [str(w.message) for w in found]
    message = str(found[0].message)
    assert REFUSED[function] in message
    assert (
        f"compile: {function.__name__} cannot be captured as a CUDA graph and runs as it is: {__file__}:"
        in message
    )
    lines = Path(__file__).read_text().splitlines()
    said = int(message.split(f"{__file__}:")[1].split(":")[0])
    first = function.__code__.co_firstlineno
    marked = [i for i in range(first, first + 4) if "# the line" in lines[i - 1]]
    assert said in (marked or range(first, first + 4))
    assert (COUNTS["calls"], len(KEPT)) == (2 * before[0], 2 * before[1])
    assert not compiled.graphs.steps
    assert not cupy.cuda.get_current_stream().is_capturing()
    assert pool.used_bytes() >= 0


def test_the_error_of_the_function_is_its_own_and_nothing_is_left():
    wrong = [False]
    training = Training(OPTIMIZERS["Adam"])

    @an.compile
    def step(x, y):
        training.of(x, y)
        if wrong[0]:
            raise ValueError("mine")

    *first, last = batches(4)
    for batch in first:
        step(*batch)
    wrong[0] = True
    with pytest.raises(ValueError, match="mine"):
        step(*last)
    assert training.optimizer.state_dict()["state"][0]["step"] == 4  # as it is without compile
    assert not cupy.cuda.get_current_stream().is_capturing()
    wrong[0] = False
    for batch in batches(6):
        step(*batch)
    assert step.recorded == 1
    assert training.optimizer.state_dict()["state"][0]["step"] == 10


@pytest.mark.filterwarnings("ignore")
def test_no_memory_for_a_graph_runs_as_it_is(monkeypatch):
    class Small(cupy.cuda.MemoryPool):
        count = 0

        def malloc(self, size):
            Small.count += 1
            if Small.count > 8:  # in the middle of the step
                raise cupy.cuda.memory.OutOfMemoryError(size, 0, 0)
            return super().malloc(size)

    training = Training(OPTIMIZERS["Adam"])
    monkeypatch.setattr(cupy.cuda, "MemoryPool", Small)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for batch in batches(6):
            training.step(*batch)
    assert [str(w.message).count("OutOfMemoryError") for w in found] == [1]
    assert training.optimizer.state_dict()["state"][0]["step"] == 6


class OwnStep(optim.SGD):
    def step(self, closure=None):
        return super().step(closure)


def on_the_device(params):
    optimizer = optim.SGD(params, lr=0.1)
    optimizer.param_groups[0]["lr"] = an.asarray(0.1, device="cuda")
    return optimizer


class Reading(optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {"lr": 0.1})

    def update(self, xp, p, g, state, step, group):
        if xp.sum(g) > 0:
            p -= group["lr"] * g


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda p: OwnStep(p, lr=1e-2), "OwnStep.step acts on the host"),
        (lambda p: optim.ScheduleFreeAdamW(p), "ScheduleFreeAdamW.step prepares its groups on the host"),
        (on_the_device, "SGD.step has a Tensor on cuda:0 as its lr, for which the host would wait"),
        (Reading, "its update reads a value (bool), for which the host would wait"),
    ],
)
def test_an_optimizer_that_acts_on_the_host_is_named(make, reason):
    training = Training(make)
    training.schedule.step = lambda: None
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for batch in batches(6):
            training.step(*batch)
    assert [reason in str(w.message) for w in found] == [True], [str(w.message) for w in found]
    assert training.optimizer.state_dict()["state"][0]["step"] == 6


def hooked(hook, post=False):
    """A training whose optimizer has a hook, which is given the optimizer and what `hook` makes of the training."""

    def make(compiled):
        training = Training(OPTIMIZERS["Adam"], compiled=compiled)
        register = (
            training.optimizer.register_step_post_hook if post else training.optimizer.register_step_pre_hook
        )
        register(hook(training))
        return training

    return make


def clips(training):
    def hook(optimizer, args, kwargs):
        nn.utils.clip_grad_norm_(training.net.parameters(), 0.1)

    return hook


def averages(training):
    weight = training.net[0].weight
    training.net.mean = nn.Buffer(an.zeros_like(weight.detach()))

    def hook(optimizer, args, kwargs):
        with an.no_grad():
            training.net.mean.assign_(training.net.mean * 0.9 + weight.detach() * 0.1)

    return hook


def scales_by_rate(training):
    def hook(optimizer, args, kwargs):
        for p in optimizer.param_groups[0]["params"]:
            p.grad = p.grad * (1.0 + optimizer.param_groups[0]["lr"])

    return hook


@pytest.mark.usefixtures("_programs_are_there")
@pytest.mark.parametrize(("hook", "post"), [(clips, False), (averages, True), (scales_by_rate, False)])
def test_hooks_of_arrays_are_part_of_the_graph(hook, post):
    found = []
    for compiled in (False, False, True):
        training = hooked(hook, post)(compiled)
        training.schedule.step = lambda: None
        an.random.manual_seed(8)
        for i, batch in enumerate(batches(14)):
            if i == 7:
                training.optimizer.param_groups[0]["lr"] = 0.5
            training.step(*batch)
        found.append(training.state()[:2])
    assert found[1] == found[2]
    assert training.step.recorded == (2 if hook is scales_by_rate else 1)  # of which one reads the rate


@pytest.mark.filterwarnings("ignore")
def test_hooks_that_act_on_the_host_are_named():
    steps = []

    def noting(training):
        return lambda optimizer, args, kwargs: steps.append(1)

    def replacing(training):
        return lambda optimizer, args, kwargs: ((lambda: None,), {})

    for hook, reason in ((noting, "is changed inside"), (replacing, "gives other arguments to its step")):
        training = hooked(hook)(True)
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            for batch in batches(6):
                training.step(*batch)
        assert [reason in str(w.message) for w in found] == [True], [str(w.message) for w in found]
        assert training.optimizer.state_dict()["state"][0]["step"] == 6
    assert len(steps) == 6


def test_a_rate_in_a_tensor_is_read_at_each_launch():
    found = []
    for compiled in (False, True):
        rate = an.asarray(0.01)
        training = Training(lambda p, rate=rate: optim.LAMB(p, lr=rate), compiled=compiled)
        training.schedule.step = lambda: None
        an.random.manual_seed(8)
        for i, batch in enumerate(batches(9)):
            rate.assign_(an.asarray(0.01 / (1 + i)))
            training.step(*batch)
        found.append(training.state()[:2])
    assert found[0] == found[1]
    assert training.step.recorded == 1


@pytest.mark.filterwarnings("ignore")
def test_a_rate_that_is_changed_inside_is_not_captured():
    rate = an.asarray(0.01)
    training = Training(lambda p: optim.Adam(p, lr=rate))

    def halve():
        rate.assign_(rate * 0.5)

    training.schedule.step = halve
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for batch in batches(6):
            training.step(*batch)
    assert len(found) == 1
    assert "on cpu is changed" in str(found[0].message) or "those here are on cpu" in str(found[0].message)
    assert rate.item() == pytest.approx(0.01 * 0.5**6)


def test_a_step_that_computes_otherwise_is_another_graph():
    """ASGD begins its mean after `t0` steps."""
    found = []
    for compiled in (False, True):
        training = Training(lambda p: optim.ASGD(p, lr=1e-2, t0=6), compiled=compiled)
        an.random.manual_seed(8)
        for batch in batches(16):
            training.step(*batch)
        found.append(training.state())
    assert found[0] == found[1]
    assert training.step.recorded == 2


def test_muon_trains_matrices_in_a_graph():
    found = []
    for compiled in (False, False, True):
        an.random.manual_seed(3)
        net = nn.Sequential(
            nn.Linear(6, 8, bias=False), nn.Tanh(), nn.Linear(8, 3, bias=False), nn.Linear(3, 8, bias=False)
        )
        net = net.to("cuda")
        optimizer = optim.Muon(net.parameters(), lr=0.05)

        def of(x, net=net, optimizer=optimizer):
            optimizer.zero_grad()
            loss = an.mean(net(x) ** 2)
            loss.backward()
            optimizer.step()
            return loss

        step, own = an.compile(of) if compiled else of, np.random.default_rng(4)
        for i in range(9):
            optimizer.param_groups[0]["lr"] = 0.05 / (1 + i)
            with Log() as log:
                loss = step(an.asarray(own.standard_normal((5, 6)).astype(np.float32), device="cuda"))
        found.append([a.numpy().tobytes() for a in (loss, *net.parameters())])
    assert found[1] == found[2]
    assert step.recorded == 1
    assert (len(log.having("graph ")), log.launches, log.synchronisations) == (1, 2, 0)


def test_prints_of_python_values_come_with_each_call(capsys):
    def of(x):
        print("called", x.shape)
        return x * 2.0

    f = an.compile(of)
    for _ in range(6):
        f(an.ones((2,), device="cuda"))
    assert capsys.readouterr().out == "called (2,)\n" * 6
    assert f.recorded == 1


# ----- devices, streams, threads, copies -----


def test_capture_off_and_check_every_run_as_it_is():
    for options in ({"capture": "off"}, {"check_every": 2}):
        f = an.compile(lambda x: x * 2.0, **options)
        for _ in range(6):
            f(an.ones((2,), device="cuda"))
        assert f.recorded == 0
    with pytest.raises(ValueError, match="capture must be 'auto', 'check' or 'off'"):
        an.compile(lambda x: x, capture="on")


def test_each_of_two_devices_has_graphs_of_its_own():
    trainings = [Training(OPTIMIZERS["Adam"], device=f"cuda:{i}") for i in range(2)]
    for i, training in enumerate(trainings):
        an.random.manual_seed(6)
        with Log() as log:
            losses = [training.step(*batch) for batch in batches(7, device=f"cuda:{i}")]
        assert not log.having("foreign pointer")
        assert losses[-1].device == f"cuda:{i}"
        assert training.step.recorded == 1
    an.random.manual_seed(6)
    f = an.compile(lambda x: x * 2.0)
    for _ in range(5):
        for i in range(2):
            y = f(an.full((2,), float(i), device=f"cuda:{i}"))
            assert (y.tolist(), y.device) == ([2.0 * i] * 2, f"cuda:{i}")
    assert f.recorded == 2


@pytest.mark.filterwarnings("ignore")
def test_a_step_on_two_devices_is_not_captured():
    net = nn.LayerNorm(2).to("cuda:1")

    def of(x):
        return net(x.to("cuda:1")).detach()

    f = an.compile(of)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for _ in range(6):
            f(an.ones((2, 2), device="cuda:0"))
    assert [
        "all arrays of a graph lie on one CUDA device; those here are on cuda:0, cuda:1" in str(w.message)
        for w in found
    ] == [True]


def test_another_stream_waits_for_the_last_launch():
    f = an.compile(lambda x: x * 2.0)
    for _ in range(5):
        f(an.ones((2,), device="cuda"))
    stream = cupy.cuda.Stream(non_blocking=True)
    x, z = an.ones((2,), device="cuda"), an.full((2,), 3.0, device="cuda")
    for streams in ("default", "others", "all"):
        with late(streams):
            first = f(x)
            with Log() as log, stream:
                second = f(z)
            assert log.having("wait for an event")
            assert log.synchronisations == 0
            stream.synchronize()
            assert (first.tolist(), second.tolist()) == ([2.0, 2.0], [6.0, 6.0])


def test_threads_call_one_function(in_threads):
    f = an.compile(lambda x: an.sum(an.exp(x)) * x)
    wrong = []

    def work(number):
        for _ in range(12):
            y = f(an.full((4,), float(number), device="cuda"))
            if abs(y.numpy() - 4 * np.exp(number) * number).max() > 1e-3:
                wrong.append(number)

    in_threads(*(functools.partial(work, i) for i in range(3)))
    assert not wrong
    assert f.recorded == 1


@an.compile
def doubled(x):
    return x * 2.0


def test_the_profiler_sees_the_operations():
    net, x = nn.LayerNorm(3).to("cuda"), an.ones((2, 3), device="cuda")
    for f, args in ((an.compile(lambda x: net(x).detach()), (x,)), (an.compile(lambda: net(x).detach()), ())):
        for _ in range(5):
            f(*args)
        with an.profile() as seen:
            f(*args)
        assert "normalize" in str(seen)
        assert f.recorded == 1


def test_fit_with_compile_has_the_bits_of_fit():
    x, y = rng.standard_normal((64, 16)).astype(np.float32), rng.integers(0, 4, 64)
    found = []
    for how in (False, False, True):
        an.random.manual_seed(3)
        net = nn.Sequential(nn.Linear(16, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.2), nn.Linear(8, 4))
        with Log() as log:
            an.fit(
                net,
                (x, y),
                loss="cross_entropy",
                optimizer="adam",
                lr=1e-2,
                epochs=2,
                batch_size=8,
                device="cuda",
                progress=False,
                compile=how,
            )
        found.append([p.numpy().tobytes() for p in (*net.parameters(), *net.buffers())])
    assert found[1] == found[2]
    assert (
        len(log.having("graph ")) == 12
    )  # 16 batches: the first tells what is known of them, three are called as they are


def test_copies_and_pickles_have_no_graphs():
    for _ in range(5):
        doubled(an.ones((2,), device="cuda"))
    assert doubled.recorded == 1
    assert "a CUDA graph" in str(doubled)
    assert pickle.loads(pickle.dumps(doubled)) is doubled
    twin = copy.copy(doubled)
    assert twin.graphs is None
    assert twin(an.ones((2,), device="cuda")).tolist() == [2.0, 2.0]
    training = Training(OPTIMIZERS["Adam"])
    for batch in batches(5):
        training.step(*batch)
    other = copy.deepcopy(training)
    before = other.state()[0]
    for batch in batches(2):
        training.step(*batch)
    assert other.state()[0] == before
    for batch in batches(5):
        other.step(*batch)
    assert other.step.recorded == 1
    assert other.state()[0] != before


def test_indices_out_of_range_are_found_in_a_graph():
    table = nn.Embedding(5, 3).to("cuda")
    f = an.compile(lambda i: table(i).detach())
    for _ in range(5):
        f(an.asarray([0, 4], device="cuda"))
    assert f.recorded == 1
    for i in range(2):
        bad = f(an.asarray([0, 7 + i], device="cuda"))
        with pytest.raises(IndexError, match=f"embedding.*{7 + i}"):
            bad.numpy()
    assert f(an.asarray([1, 2], device="cuda")).shape == (2, 3)


def test_an_embedding_is_trained_in_a_graph():
    losses = []
    for compiled in (False, True):
        an.random.manual_seed(3)
        table = nn.Embedding(20, 4).to("cuda")
        optimizer = optim.Adam(table.parameters(), lr=0.1)

        def of(i, table=table, optimizer=optimizer):
            optimizer.zero_grad()
            loss = an.sum(table(i) ** 2)
            loss.backward()
            optimizer.step()
            return loss

        step = an.compile(of) if compiled else of
        own = np.random.default_rng(1)
        losses.append([step(an.asarray(own.integers(0, 20, 6), device="cuda")).item() for _ in range(9)])
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert step.recorded == 1
