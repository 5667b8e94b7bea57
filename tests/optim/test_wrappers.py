"""Optimizers around optimizers: sharpness-aware minimization, and steps from several gradients."""

import math

import numpy as np
import pytest

import anynet as an
from anynet import optim
from optim.networks import data, network


def test_sam_equals_its_formula():
    for adaptive in (False, True):
        net, twin = network(), network()
        x, y = (an.asarray(a) for a in data())
        optimizer = optim.SAM(optim.SGD(net.parameters(), lr=0.1, momentum=0.9), rho=0.1, adaptive=adaptive)

        def closure(net=net, optimizer=optimizer, x=x, y=y):
            optimizer.zero_grad()
            loss = an.losses.mse_loss(net(x), y)
            loss.backward()
            return loss

        v = [0.0 for _ in twin.parameters()]
        for _ in range(20):
            optimizer.step(closure)
            before = [p.numpy().copy() for p in twin.parameters()]
            twin.zero_grad()
            an.losses.mse_loss(twin(x), y).backward()
            g = [p.grad.numpy().copy() for p in twin.parameters()]
            size = [a if adaptive else np.ones_like(a) for a in before]
            norm = math.sqrt(sum(((s * a) ** 2).sum() for s, a in zip(size, g, strict=True)))
            for p, b, s, a in zip(twin.parameters(), before, size, g, strict=True):
                p.data[...] = b + 0.1 * s * s * a / (norm + 1e-12)
            twin.zero_grad()
            an.losses.mse_loss(twin(x), y).backward()
            for i, (p, b) in enumerate(zip(twin.parameters(), before, strict=True)):
                v[i] = 0.9 * v[i] + p.grad.numpy()
                p.data[...] = b - 0.1 * v[i]
        for p, q in zip(net.parameters(), twin.parameters(), strict=True):
            assert abs(p.numpy() - q.numpy()).max() < 1e-10


def test_sam_puts_the_parameters_back_when_the_closure_fails():
    p = an.Parameter([1.0])
    optimizer = optim.SAM(optim.SGD([p], lr=0.1), rho=0.5)
    calls = []

    def closure():
        calls.append(1)
        if len(calls) == 2:
            raise KeyError
        loss = (p * p)[0]
        loss.backward()
        return loss

    with pytest.raises(KeyError):
        optimizer.step(closure)
    assert p.tolist() == [1.0]


def test_steps_from_several_gradients_equal_one_large_batch():
    net, twin = network(), network()
    x, y = (an.asarray(a) for a in data())
    small = optim.MultiSteps(optim.Adam(net.parameters(), lr=0.05), every=4)
    large = optim.Adam(twin.parameters(), lr=0.05)
    for _ in range(10):
        for i in range(4):
            small.zero_grad()
            an.losses.mse_loss(net(x[2 * i : 2 * i + 2, :]), y[2 * i : 2 * i + 2, :]).backward()
            small.step()
        large.zero_grad()
        an.losses.mse_loss(twin(x), y).backward()
        large.step()
    for p, q in zip(net.parameters(), twin.parameters(), strict=True):
        assert abs(p.numpy() - q.numpy()).max() < 1e-12
    small.zero_grad()
    small.step()
    with pytest.raises(RuntimeError, match="1 of 4"):
        small.state_dict()
