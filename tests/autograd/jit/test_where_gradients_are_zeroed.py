"""A compiled step trains wherever `zero_grad` stands: at its start, its end, or outside of it."""

import numpy as np
import pytest

import anynet as an

nn = an.nn


def train(where, optimizer, compiled, to_none, frozen):
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    net[0].weight.requires_grad_(not frozen)
    opt = optimizer(net.parameters())
    x = an.asarray(np.linspace(-1.0, 1.0, 12).reshape(4, 3).astype(np.float32))

    def step(x):
        if where == "start":
            opt.zero_grad(to_none)
        loss = an.sum(net(x) ** 2)
        loss.backward()
        opt.step()
        if where == "end":
            opt.zero_grad(to_none)
        return loss.detach()

    run = an.compile(step) if compiled else step
    seen = []
    for i in range(6):
        if where == "before":
            opt.zero_grad(to_none)
        seen.append(run(x).numpy())
        if where == "after" or (where == "now and then" and i % 3 == 1):
            opt.zero_grad(to_none)
    return [*seen, *(p.numpy() for p in net.parameters())]


@pytest.mark.parametrize("where", ["start", "end", "before", "after", "now and then", "never"])
@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("frozen", [False, True])
def test_the_same_bits_as_eager(where, to_none, frozen):
    for optimizer in (lambda p: an.optim.SGD(p, lr=0.1), lambda p: an.optim.Adam(p, lr=0.01)):
        eager, compiled = (train(where, optimizer, on, to_none, frozen) for on in (False, True))
        for a, b in zip(eager, compiled, strict=True):
            np.testing.assert_array_equal(a, b)
        assert len({a.tobytes() for a in eager[:6]}) == 6
