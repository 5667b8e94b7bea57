"""What trainings are made of besides a network and an optimizer, in captured steps: schedules, limits of gradients, sums over several
batches, means of weights, an optimizer that changes what it computes."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from ci.cuda_emulator.log import Log

pytest.importorskip("cupy", reason="CuPy is not installed")

STEPS = 18


@pytest.fixture(autouse=True)
def _warnings_are_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def batches():
    own = np.random.default_rng(9)
    for _ in range(STEPS):
        x, y = own.standard_normal((6, 5)).astype(np.float32), own.integers(0, 3, 6)
        yield an.asarray(x, device="cuda"), an.asarray(y, device="cuda")


class Recipe:
    """A network, an optimizer, and what they are used with."""

    def __init__(self, make, compiled):
        an.random.manual_seed(6)
        self.net = nn.Sequential(nn.Linear(5, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3)).to("cuda")
        self.loss_of, self.held = nn.CrossEntropyLoss(), []
        self.optimizer, self.step = make(self, an.compile if compiled else lambda function: function)

    def backward(self, x, y, share=1.0):
        loss = self.loss_of(self.net(x), y)
        (loss * share).backward()
        return loss.detach()

    def state(self):
        entries = self.optimizer.state_dict()["state"].values()
        arrays = [*self.net.parameters(), *self.held]
        arrays += [v for e in entries for v in e.values() if isinstance(v, an.Tensor)]
        rates = [(g["lr"], g.get("betas")) for g in self.optimizer.param_groups]
        return [a.numpy().tobytes() for a in arrays], [e["step"] for e in entries], rates


def run(make, compiled):
    """Losses and states of a training, the recipe, and the log of its last step."""
    recipe, found = Recipe(make, compiled), []
    for batch in batches():
        with Log() as log:
            loss = recipe.step(*batch)
        found.append((loss.numpy().tobytes(), recipe.state()))
    return found, recipe, log


def same(make):
    """The training as it is and as graphs, with the same bits; the recipe of the latter, and its log."""
    run(make, compiled=False)  # by then the programs of its operations are there
    eager, _, _ = run(make, compiled=False)
    captured, recipe, log = run(make, compiled=True)
    assert captured == eager
    return recipe, log


def plain(optimizer_of, schedule_of=None, between=lambda recipe: None):
    """A step with a schedule, and with something between the gradients and the update."""

    def make(recipe, how):
        optimizer = optimizer_of(recipe.net.parameters())
        schedule = None if schedule_of is None else schedule_of(optimizer)

        def step(x, y):
            optimizer.zero_grad()
            loss = recipe.backward(x, y)
            between(recipe)
            optimizer.step()
            if schedule is not None:
                schedule.step()
            return loss

        recipe.made = how(step)
        return optimizer, recipe.made

    return make


def adam(params):
    return optim.Adam(params, lr=1e-2)


SCHEDULES = {
    "steps": lambda o: optim.StepLR(o, 3, 0.5),
    "milestones": lambda o: optim.MultiStepLR(o, [4, 9, 11], 0.3),
    "a function": lambda o: optim.LambdaLR(o, lambda n: 1.0 / (1 + n)),
    "a power": lambda o: optim.ExponentialLR(o, 0.9),
    "a cosine": lambda o: optim.CosineAnnealingLR(o, T_max=10),
    "one cycle, momenta too": lambda o: optim.OneCycleLR(o, 0.05, total_steps=STEPS + 1),
    "cycles": lambda o: optim.CyclicLR(o, 1e-3, 1e-2, step_size_up=4, cycle_momentum=False),
    "warm restarts": lambda o: optim.CosineAnnealingWarmRestarts(o, 5),
    "one after the other": lambda o: optim.SequentialLR(
        o, [optim.LinearLR(o, 0.1, total_iters=4), optim.CosineAnnealingLR(o, T_max=12)], milestones=[4]
    ),
    "a product": lambda o: optim.ChainedScheduler([optim.ConstantLR(o, 0.5, 3), optim.ExponentialLR(o, 0.9)]),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_sets_the_rates_of_each_launch(name):
    recipe, log = same(plain(adam, SCHEDULES[name]))
    assert recipe.made.recorded == 1
    assert (len(log.having("graph ")), log.launches, log.synchronisations) == (1, 2, 0)


def test_an_optimizer_that_changes_what_it_computes_is_two_graphs():
    """RAdam leaves out the division until its means are long enough, here at the sixth step."""
    recipe, log = same(plain(lambda p: optim.RAdam(p, lr=1e-2)))
    assert recipe.made.recorded == 2
    assert (len(log.having("graph ")), log.synchronisations) == (1, 0)


@pytest.mark.parametrize("clip", [
    lambda params: nn.utils.clip_grad_value_(params, 0.01),
    lambda params: nn.utils.clip_grad_norm_(params, 0.05),
    lambda params: nn.utils.clip_grad_norm_(params, 0.05, norm_type=1.0),
    lambda params: nn.utils.clip_grad_norm_(params, 0.05, norm_type=float("inf")),
], ids=["values", "norm", "sum", "largest"])  # fmt: skip
def test_gradients_are_limited_in_the_graph(clip):
    recipe, log = same(plain(adam, between=lambda recipe: clip(recipe.net.parameters())))
    assert recipe.made.recorded == 1
    assert (len(log.having("graph ")), log.synchronisations) == (1, 0)


def test_gradients_are_added_up_over_batches():
    def make(recipe, how):
        optimizer, count = adam(recipe.net.parameters()), [0]
        add = recipe.made = how(lambda x, y: recipe.backward(x, y, 1 / 3))

        def update():
            optimizer.step()
            optimizer.zero_grad()

        follow = recipe.follow = how(update)

        def step(x, y):
            loss = add(x, y)
            count[0] += 1
            if count[0] % 3 == 0:
                follow()
            return loss

        return optimizer, step

    recipe, _ = same(make)
    assert recipe.optimizer.state_dict()["state"][0]["step"] == STEPS // 3
    assert recipe.made.recorded >= 1
    assert recipe.follow.recorded >= 1


def test_a_mean_of_weights_goes_along():
    def make(recipe, how):
        optimizer = adam(recipe.net.parameters())
        recipe.held = [nn.Buffer(p.detach() + 0.0) for p in recipe.net.parameters()]

        def step(x, y):
            optimizer.zero_grad()
            loss = recipe.backward(x, y)
            optimizer.step()
            with an.no_grad():
                for mean, p in zip(recipe.held, recipe.net.parameters(), strict=True):
                    mean.assign_(0.9 * mean + 0.1 * p.detach())
            return loss

        recipe.made = how(step)
        return optimizer, recipe.made

    recipe, log = same(make)
    assert recipe.made.recorded == 1
    assert (len(log.having("graph ")), log.launches, log.synchronisations) == (1, 2, 0)


def refused(make):
    """The warning of a step that cannot be captured, which gives what it gives without."""
    run(make, compiled=False)
    eager, _, _ = run(make, compiled=False)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        assert run(make, compiled=True)[0] == eager
    assert len(found) == 1, [str(w.message) for w in found]
    return str(found[0].message)


def test_a_mean_of_weights_is_named():
    def make(recipe, how):
        optimizer = adam(recipe.net.parameters())
        mean = optim.swa_utils.AveragedModel(
            recipe.net, device="cuda", multi_avg_fn=optim.swa_utils.get_ema_multi_avg_fn(0.9)
        )
        recipe.held = list(mean.parameters())

        def step(x, y):
            optimizer.zero_grad()
            loss = recipe.backward(x, y)
            optimizer.step()
            mean.update_parameters(recipe.net)
            return loss

        return optimizer, how(step)

    message = refused(make)
    assert "AveragedModel.update_parameters" in message
    assert f"{__file__}:" in message


def test_an_optimizer_that_counts_batches_is_named():
    def make(recipe, how):
        optimizer = optim.MultiSteps(adam(recipe.net.parameters()), every=3)

        def step(x, y):
            optimizer.zero_grad()
            loss = recipe.backward(x, y)
            optimizer.step()
            return loss

        return optimizer.optimizer, how(step)

    assert "cannot be captured" in refused(make)
