"""Layers, optimizers and compiled steps have the same bits with machine code and without."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from sample_arrays import numbers, same

import anynet as an
from anynet import nn
from anynet_backends import get_backend
from anynet_backends.jit import availability, segment
from anynet_backends.kernels import activations

pytestmark = pytest.mark.skipif(not availability.available(), reason="needs the extra numba")


def switched(monkeypatch, on: bool):
    monkeypatch.setenv("ANYNET_NUMBA", "on" if on else "off")


@pytest.mark.parametrize("layer", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize("steps", [1, 2, 3, 7])
@pytest.mark.parametrize("reverse", [False, True])
def test_recurrent_layers_have_the_same_bits(monkeypatch, layer, steps, reverse):
    def results():
        an.random.manual_seed(0)
        net = layer(4, 8, bidirectional=reverse)
        rng = np.random.default_rng(1)
        x = an.asarray(rng.normal(size=(steps, 3, 4)).astype(np.float32), requires_grad=True)
        state = an.asarray(rng.normal(size=(2 if reverse else 1, 3, 8)).astype(np.float32))
        y = net(x, (state, state) if layer is nn.LSTM else state)[0]
        y.backward(an.asarray(rng.normal(size=y.shape).astype(np.float32)))
        return [y.data, x.grad.data, *(p.grad.data for p in net.parameters())]

    switched(monkeypatch, True)
    with_it = results()
    switched(monkeypatch, False)
    for a, b in zip(with_it, results(), strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("n", [1, 3, 100, 8193, 40000])
def test_gelu_has_the_same_bits(monkeypatch, n, threads):
    x = numbers("f", (n,))
    xp = get_backend("numpy")
    found = []
    for on in (True, False):
        switched(monkeypatch, on)
        with np.errstate(all="ignore"):
            y, pull = activations.gelu(xp, x, need=(True,))
            found.append((y, pull(np.ones_like(x))[0], activations.gelu(xp, x, need=None)))
    for a, b in zip(*found, strict=True):
        assert same(a, b)


@pytest.mark.parametrize("shape", [(1,), (3,), (7, 9), (100, 100), (3, 4001), (200, 300)])
def test_gelu_in_a_program_has_the_bits_of_eager(shape, threads):
    def f(x):
        return an.nn.functional.gelu(x * 2.0) + an.nn.functional.gelu(an.flip(x, axis=0))

    compiled = an.compile(f)
    for seed in range(3):
        x = an.asarray(np.random.default_rng(seed).normal(size=shape).astype(np.float32) * 3)
        assert same(compiled(x).numpy(), f(x).numpy())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("options", [{}, {"weight_decay": 0.1}, {"amsgrad": True}])
@pytest.mark.parametrize("kind", [an.optim.Adam, an.optim.AdamW])
def test_adam_has_the_same_bits(monkeypatch, kind, options, dtype, threads):
    def results():
        rng = np.random.default_rng(0)
        p = an.Parameter(rng.normal(size=(33, 5)).astype(dtype))
        optimizer = kind([p], lr=1e-2, **options)
        for _ in range(5):
            optimizer.zero_grad()
            an.sum(p * p * an.asarray(rng.normal(size=(33, 5)).astype(dtype))).backward()
            optimizer.step()
        return p.data.copy()

    switched(monkeypatch, True)
    with_it = results()
    switched(monkeypatch, False)
    assert with_it.tobytes() == results().tobytes()


def test_an_optimizer_can_be_copied_after_steps():
    p = an.Parameter(np.ones(3, np.float32))
    optimizer = an.optim.Adam([p])
    an.sum(p * p).backward()
    optimizer.step()
    twin = copy.deepcopy(optimizer)
    before = p.data.copy()
    twin.param_groups[0]["params"][0].grad = an.ones(3)
    twin.step()
    assert (p.data == before).all()
    assert (twin.param_groups[0]["params"][0].data != before).all()


def test_a_compiled_step_runs_as_machine_code():
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 3))
    optimizer = an.optim.SGD(net.parameters(), lr=0.1)

    @an.compile
    def step(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    x, y = an.asarray(np.ones((6, 4), np.float32)), an.asarray(np.arange(6) % 3)
    losses = [step(x, y).item() for _ in range(30)]
    assert losses[-1] < losses[0]
    (program,) = [s.program for steps in step.steps.values() for s in steps]
    kinds = [isinstance(f, segment.NativeSegment) for f, _ in program.segments]
    assert kinds == [True, False]  # one segment, and the optimizer
    assert "machine" in str(program)
    with pytest.raises(IndexError):
        step(x, an.asarray(np.full(6, 7)))
