"""What puts values at places that other values name is part of a program: the same bits, and the same refusals."""

import numpy as np
import pytest

import anynet as an
from anynet.nn import functional as F


def placed_by_key(x, places, values):
    y = x * 2
    y[places] = values
    return y


CALLS = {
    "scatter": lambda x, i, v: an.scatter(x, an.expand_dims(i, axis=1), an.expand_dims(v, axis=1), axis=1),
    "scatter a number": lambda x, i, v: an.scatter(x, an.expand_dims(i, axis=1), 3.0, axis=1) * v[:, None],
    "rows of a number": lambda x, i, v: placed_by_key(x, i, -1.5) * v[:, None],
    "elements": lambda x, i, v: placed_by_key(x, (an.arange(4), i), v),
    "elements of a number": lambda x, i, v: placed_by_key(x, (an.arange(4), i), 1.0) * v[:, None],
    "rows": lambda x, i, v: placed_by_key(x, i, v.detach()[:, None] + x.detach()),
    "one hot": lambda x, i, v: an.astype(F.one_hot(i, 4), x.dtype) * x * v[:, None],
}
BATCHES = ([0, 3, 1, 2], [2, 1, 0, 3], [3, 2, 1, 0])
TWICE = ([0, 3, 3, 0], [1, 1, 1, 1], [2, 0, 2, 3])


def run(name, how, batches):
    draw = np.random.default_rng(0)
    x, v = (an.asarray(draw.normal(size=shape), requires_grad=True) for shape in ((4, 4), (4,)))

    def step(i):
        x.grad = v.grad = None
        y = CALLS[name](x, i, v)
        an.sum(y**3).backward()
        return y

    step = how(step)
    bits = [
        [a.detach().numpy().tobytes() for a in (step(an.asarray(batch)), x.grad, v.grad) if a is not None]
        for batch in batches
    ]
    return bits, step


@pytest.mark.parametrize("name", CALLS)
def test_the_bits_of_the_function(name):
    batches = BATCHES if name == "elements" else BATCHES + TWICE
    found, step = run(name, an.compile, batches)
    assert found == run(name, lambda f: f, batches)[0]
    assert step.recorded == 1


@pytest.mark.parametrize("name", CALLS)
def test_places_are_checked_in_each_replay(name):
    _, step = run(name, an.compile, BATCHES)
    with pytest.raises((IndexError, ValueError), match=r"out of range|each number must be in"):
        step(an.asarray([0, 1, 4, 2]))


def test_a_place_given_twice_has_no_gradient_in_a_program_either():
    v = an.nn.Parameter(an.ones(2))

    @an.compile
    def step(i):
        y = an.zeros(3)
        y[i] = v
        an.sum(y**2).backward()

    step(an.asarray([0, 1]))
    grad = v.grad.numpy().tobytes()
    with pytest.raises(IndexError, match="given twice"):
        step(an.asarray([1, 1]))
    assert v.grad.numpy().tobytes() == grad


def test_a_sign_of_zero_is_placed():
    step = an.compile(lambda i, v: placed_by_key(an.ones(3), i, v))
    for _ in range(2):
        assert np.signbit(step(an.asarray([2, 0]), an.asarray([-0.0, 1.0])).numpy()).tolist() == [
            False,
            False,
            True,
        ]
