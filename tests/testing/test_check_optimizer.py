"""`check_optimizer` passes every optimizer there is and finds what is wrong with others, one fault at a time."""

import pytest

from anynet import optim
from anynet.testing import CheckError, check_optimizer

ALL = [
    value for name in optim.__all__ if isinstance(value := getattr(optim, name), type)
    and issubclass(value, optim.Optimizer) and value not in (optim.Optimizer, optim.ZeroRedundancyOptimizer)
]  # fmt: skip


@pytest.mark.parametrize("make", ALL, ids=lambda c: c.__name__)
def test_every_optimizer_passes(make):
    assert check_optimizer(make, devices=["cpu"]).ok


def test_other_devices():
    assert check_optimizer(optim.Adam).ok


class Momentum(optim.Optimizer):
    """An optimizer that is right; each one below has one fault."""

    elementwise = True
    slots = ("velocity",)

    def __init__(self, params, lr=0.01):
        super().__init__(params, {"lr": lr})

    def update(self, xp, p, g, state, step, group):
        v = state["velocity"]
        v *= 0.9
        v += g
        p -= group["lr"] * v


class Ascends(Momentum):
    def update(self, xp, p, g, state, step, group):
        p += group["lr"] * xp.sign(g)


class KeepsStateOfItsOwn(Momentum):
    slots = ()

    def update(self, xp, p, g, state, step, group):
        self.velocity = getattr(self, "velocity", 0.0) * 0.9 + g
        p -= group["lr"] * self.velocity


class NotElementwise(Momentum):
    def update(self, xp, p, g, state, step, group):
        super().update(xp, p, g / xp.sqrt(xp.sum(g * g)), state, step, group)


class ChangesGradients(Momentum):
    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad = p.grad * 0.5
        return loss


class MovesWithoutGradient(Momentum):
    def step(self, closure=None):
        loss = super().step(closure)
        for group in self.param_groups:
            for p in group["params"]:
                p.assign_(p.detach() * 0.99)
        return loss


class TakesAnyRate(Momentum):
    def __init__(self, params, lr=0.01):
        optim.Optimizer.__init__(self, params, {"lr": lr})

    kinds = {"lr": optim.groups.Kind("anything", lambda value: value)}  # noqa: RUF012


FAULTS = [
    (Ascends, "100 steps make the loss smaller", "it went from"),
    (KeepsStateOfItsOwn, "state_dict into another optimizer", "values differ"),
    (NotElementwise, "one group or several", "values differ"),
    (ChangesGradients, "a step leaves the gradients as they were", "values differ"),
    (MovesWithoutGradient, "parameters without a gradient stay as they were", "values differ"),
    (TakesAnyRate, "a negative learning rate is refused", r"= -1\.0 was taken"),
]


@pytest.mark.parametrize(("make", "check", "text"), FAULTS, ids=[f[0].__name__ for f in FAULTS])
def test_each_fault_is_found_by_its_check(make, check, text):
    with pytest.raises(CheckError, match=text) as caught:
        check_optimizer(make, devices=["cpu"])
    assert check in [c.name for c in caught.value.report.failures]


def test_what_is_no_optimizer_is_refused():
    assert check_optimizer(Momentum, devices=["cpu"]).ok
    with pytest.raises(TypeError, match=r"make must return an anynet\.optim\.Optimizer, got list"):
        check_optimizer(list)


def test_former_names_of_hooks_are_refused():
    with pytest.raises(TypeError, match=r"Old\.shaped: this hook of Optimizer is called per_parameter now"):
        type("Old", (optim.Optimizer,), {"shaped": True})
