"""`compile(capture="check")`: what a CUDA graph could not do in a step is said on the CPU, once, with the line."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import anynet as an
from anynet import nn, optim


class Holder:
    hidden = None


def trained(make, line=None, **options):
    net = nn.Linear(2, 3)
    optimizer = make(net.parameters())
    schedule = optim.StepLR(optimizer, 2)

    @an.compile(capture="check", **options)
    def step(x):
        optimizer.zero_grad()
        loss = an.sum(net(x) ** 2)
        loss.backward()
        optimizer.step()  # optimizer
        schedule.step()
        return loss

    return step


def said(function, *args):
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        values = [function(*args) for _ in range(4)]
    return values, [str(w.message) for w in found]


def marked(word):
    return next(
        i for i, line in enumerate(Path(__file__).read_text().splitlines(), 1) if line.endswith(f"# {word}")
    )


@pytest.mark.parametrize(
    "make",
    [lambda p: optim.SGD(p, lr=0.1), lambda p: optim.AdamW(p, lr=0.1), lambda p: optim.LAMB(p, lr=0.1)],
)
def test_nothing_is_said_of_what_can_be_captured(make):
    step = trained(make)
    assert said(step, an.ones((4, 2)))[1] == []
    assert step.recorded == 1


def test_an_optimizer_that_acts_on_the_host_is_named_with_its_line():
    step = trained(lambda p: optim.ScheduleFreeAdamW(p, lr=0.1))
    values, found = said(step, an.ones((4, 2)))
    assert len(found) == 1
    assert (
        f"step could not be captured as a CUDA graph and would run as it is there: {__file__}:{marked('optimizer')}: ScheduleFreeAdamW.step"
        in found[0]
    )
    assert values[0].item() > values[-1].item()


def writes(x):
    x.assign_(x * 2.0)
    return x * 1.0


def gives_a_view(x):
    return x[0, ...]


MODULE = nn.Linear(2, 2)


def differentiable(x):
    return MODULE(x)


def prints(x):
    print(x)  # prints
    return x * 2.0


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (writes, "an argument is changed"),
        (gives_a_view, "a view of an argument"),
        (differentiable, "can still be differentiated"),
        (prints, f"{__file__}:{marked('prints')}: print is given a Tensor"),
    ],
)
def test_what_compile_can_do_and_a_graph_cannot(function, reason, capsys):
    _, found = said(an.compile(function, capture="check"), an.ones((2, 2)))
    assert len(found) == 1
    assert reason in found[0]
    assert said(an.compile(function), an.ones((2, 2)))[1] == []


def test_what_compile_refuses_it_refuses_as_ever():
    f = an.compile(lambda x: x * float(an.sum(x)), capture="check")
    with pytest.raises(an.CompileError, match="a value was read"):
        f(an.ones((2,)))


def test_other_words_are_refused():
    with pytest.raises(ValueError, match="capture must be 'auto', 'check' or 'off', got True"):
        an.compile(lambda x: x, capture=True)


def test_a_constant_that_is_bound_to_another_array_is_named():
    buffer = nn.Buffer(an.ones(2))

    @an.compile(capture="check")
    def step(x):
        buffer.data = (buffer * 0.5 + x).data  # bound
        return buffer * 2

    _, found = said(step, an.ones(2))
    assert len(found) == 1
    assert f":{marked('bound')}: a Tensor of shape (2,) from outside is bound to a new array" in found[0]
