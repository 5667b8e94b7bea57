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


def test_gradients_are_clipped_after_a_call_on_the_host(capsys):
    """What is called on the host finds gradients as arrays; what the function does to them next is in the program all the same."""
    found = []
    for how in (lambda step: step, an.compile):
        an.random.manual_seed(0)
        net = nn.Linear(3, 2)
        optimizer = an.optim.SGD(net.parameters(), lr=1.0)

        def of(x, net=net, optimizer=optimizer):
            optimizer.zero_grad()
            an.sum(net(x) ** 2).backward()
            print("between")
            nn.utils.clip_grad_norm_(net.parameters(), 0.01)
            optimizer.step()

        step = how(of)
        for i in range(4):
            step(an.ones((4, 3)) * (i + 1.0))
        found.append([p.numpy().tobytes() for p in net.parameters()])
    assert found[0] == found[1]
    assert step.recorded == 1
    assert capsys.readouterr().out == "between\n" * 8


@pytest.mark.parametrize("by_hand", [False, True])
def test_a_function_that_drops_gradients_alone_drops_them_at_each_call(by_hand):
    """Gradients are added up by one compiled function, and used and dropped by another, which does not see the network."""
    found = []
    for how in (lambda step: step, an.compile):
        an.random.manual_seed(0)
        net = nn.Linear(3, 2)
        optimizer = an.optim.SGD(net.parameters(), lr=0.1)

        def add(x, net=net):
            an.sum(net(x) ** 2).backward()

        def update(net=net, optimizer=optimizer):
            optimizer.step()
            if by_hand:
                net.weight.grad = net.bias.grad = None
            else:
                optimizer.zero_grad()

        add, update = how(add), how(update)
        for i in range(12):
            add(an.full((4, 3), 0.1 * i))
            if i % 3 == 2:
                update()
                assert all(p.grad is None for p in net.parameters())
        found.append([p.numpy().tobytes() for p in net.parameters()])
    assert found[0] == found[1]
    assert update.recorded == 1
