"""Updates in one fused loop give the bits of the array operations that they are written as."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet.autograd.primitive import use_kernels
from anynet_backends.jit import availability, elementwise_tracer

OPTIMIZERS = {
    "SGD": [{}, {"momentum": 0.9}, {"momentum": 0.9, "nesterov": True, "weight_decay": 0.01}, {"maximize": True, "l1": 0.1}],
    "Adagrad": [{}, {"lr_decay": 0.1, "weight_decay": 0.01, "initial_accumulator_value": 0.1}],
    "RMSprop": [{}, {"momentum": 0.5, "centered": True, "weight_decay": 0.01}],
    "Adam": [{"l1": 0.01}, {"amsgrad": True, "maximize": True, "weight_decay": 0.1}],
    "AdamW": [{"maximize": True}],
    "NAdam": [{}, {"weight_decay": 0.1, "decoupled_weight_decay": True}],
    "RAdam": [{}, {"weight_decay": 0.1}],
    "Adamax": [{}, {"weight_decay": 0.1}],
    "Adadelta": [{}, {"weight_decay": 0.1, "maximize": True}],
    "Rprop": [{}],
    "Lion": [{}, {"weight_decay": 0.1}],
    "AdaBound": [{}, {"amsbound": True, "weight_decay": 0.1}],
    "ScheduleFreeAdamW": [{}, {"weight_decay": 0.1}],
}  # fmt: skip


def run(name, options, dtype, on):
    rng = np.random.default_rng(5)
    params = [
        an.nn.Parameter(an.asarray(rng.normal(size=s).astype(dtype))) for s in ((7, 11), (3,), (5, 2, 4))
    ]
    optimizer = getattr(an.optim, name)(
        [{"params": params[:2]}, {"params": params[2:], "lr": 0.3}], **options
    )
    with use_kernels(on):
        for step in range(8):
            for p in params:
                p.grad = an.asarray((rng.normal(size=p.shape) * 10.0 ** rng.integers(-3, 3)).astype(dtype))
            if step == 3:
                params[1].grad = None  # the others make runs of their own
            if step == 5:
                optimizer.param_groups[0]["lr"] = 0.07
            optimizer.step()
    state = optimizer.state_dict()["state"]
    arrays = [v.numpy() for entry in state.values() for v in entry.values() if hasattr(v, "numpy")]
    return [p.numpy() for p in params], arrays


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize(("name", "options"), [(n, o) for n, several in OPTIMIZERS.items() for o in several])
@pytest.mark.parametrize("extra", [True, False])
@pytest.mark.filterwarnings("ignore:(overflow|invalid|divide):RuntimeWarning")
def test_bit_for_bit(monkeypatch, name, options, dtype, extra, threads):
    monkeypatch.setattr(elementwise_tracer, "BLOCK", 8)
    if not extra:
        monkeypatch.setenv("ANYNET_NUMBA", "off")
    kinds = dtype, "float32" if dtype == "float16" else dtype  # of parameters, of their state
    for kind, ours, theirs in zip(
        kinds, run(name, options, dtype, True), run(name, options, dtype, False), strict=True
    ):
        for got, want in zip(ours, theirs, strict=True):
            assert got.dtype == want.dtype == kind
            np.testing.assert_array_equal(got, want)


WITH_MACHINE_CODE = pytest.mark.skipif(not availability.available(), reason="needs the extra numba")


@WITH_MACHINE_CODE
def test_what_cannot_be_traced_is_left_alone(monkeypatch):
    monkeypatch.setattr(elementwise_tracer, "BLOCK", 8)
    a, b = np.arange(40.0), np.ones(40)

    def undecided(xp, x, y):
        x += 1.0
        if x > y:
            x *= 2.0

    for function in (
        undecided,
        lambda xp, x, y: x.__iadd__(1.0 if x else 2.0),
        lambda xp, x, y: x.__iadd__(1.0 if x != y else 2.0),
        lambda xp, x, y: xp.cumulative_sum(x),
        lambda xp, x, y: x.__setitem__(0, 1.0),
        lambda xp, x, y: y.__setitem__(..., 1.0),
        lambda xp, x, y: x + "a",
        lambda xp, x, y: xp.asarray(x, copy=True),
    ):
        cache: dict = {}
        assert not elementwise_tracer.elementwise(function, (a, b), (1,), cache)
        assert cache == {"refused": True}
    assert not elementwise_tracer.elementwise(lambda xp, x, y: None, (a[:15], b[:15]), (1,), {})  # short
    np.testing.assert_array_equal(a, np.arange(40.0))
    np.testing.assert_array_equal(b, 1.0)


@WITH_MACHINE_CODE
def test_one_translation_serves_every_number(monkeypatch):
    monkeypatch.setattr(elementwise_tracer, "BLOCK", 8)
    cache: dict = {}
    x, y = np.arange(50.0), np.linspace(0, 1, 50)
    expected = x.copy()
    for rate in (0.1, 0.2, -3.0):

        def function(xp, x, y, rate=rate):
            y *= y  # which is only read: a copy
            x -= rate * xp.sqrt(abs(y)) / (2.0 + y)

        assert elementwise_tracer.elementwise(function, (x, y), (1,), cache)
        expected -= rate * np.sqrt(np.abs(y * y)) / (2.0 + y * y)
        np.testing.assert_array_equal(x, expected)
    assert len(cache) == 1
    np.testing.assert_array_equal(y, np.linspace(0, 1, 50))
