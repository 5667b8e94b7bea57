"""`torch.amp.GradScaler` in a step that `anynet.compile` makes a program: as it is called without, where updates are left out, too."""

from __future__ import annotations

import pickle
import warnings

import numpy as np
import pytest

import anynet as an
import anynet.torch as torch
from anynet import optim
from scaled_steps import BATCHES, LARGE, batches, clipped, limited, plain, run
from torch_oracle import torch as theirs


@pytest.mark.parametrize("after", [plain, clipped, limited])
@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.NAdam, optim.LAMB])
def test_a_program_has_the_bits_of_the_function(make, after):
    (eager, _), (found, training) = run(make=make, after=after), run(make=make, after=after, how=an.compile)
    assert eager == found
    assert training.step.recorded == 1
    steps = [state[1][0][0] for _, state in eager]
    assert steps[-1] == BATCHES - len(LARGE)
    scales = [state[1][1]["scale"] for _, state in eager]
    assert (min(scales), len(set(scales)) > 2) == (2.0**15, True)


def test_a_scaler_that_does_nothing_is_compiled():
    assert run(enabled=False, how=an.compile)[0] == run(enabled=False)[0]


def test_a_step_that_is_silent_here_is_captured_on_a_gpu():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        run(how=an.compile(capture="check"))


@pytest.mark.parametrize("library", [torch, theirs])
def test_one_scaler_steps_two_optimizers(library):
    """Each is looked at, and left out, by itself; the scale is smaller where one has overflowed."""
    scaler = library.amp.GradScaler("cpu", init_scale=8.0)
    a, b = (library.nn.Parameter(library.tensor([1.0])) for _ in range(2))
    optimizers = [library.optim.SGD([p], lr=1.0) for p in (a, b)]
    scaler.scale((a * 0.25 + b * 0.5).sum()).backward()
    a.grad = a.grad * float("inf")
    for optimizer in optimizers:
        scaler.step(optimizer)
    scaler.update()
    assert (a.item(), b.item(), scaler.get_scale()) == (1.0, 0.5, 4.0)


def test_a_scale_is_gone_on_with():
    _, training = run(how=an.compile)
    for other in (pickle.loads(pickle.dumps(training.scaler)), torch.amp.GradScaler("cpu")):
        other.load_state_dict(training.scaler.state_dict())
        assert other.state_dict() == training.scaler.state_dict()
    training.scaler.load_state_dict({**training.scaler.state_dict(), "scale": 1.0})
    before = training.state()
    with np.errstate(
        all="ignore"
    ):  # the program multiplies with the scale that was loaded, which is not too large
        training.step(list(batches())[LARGE[0]])
    assert training.state()[0] != before[0]
    assert training.state()[1][0] == [n + 1 for n in before[1][0]]
    assert training.step.recorded == 1
