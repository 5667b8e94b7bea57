"""profile: every operation once, in its layer and phase, with its work; nothing is left behind."""

import json

import numpy as np
import pytest

import anynet as an
from anynet.autograd.backward import observer
from anynet.autograd.debug.profiler import peaks
from anynet.autograd.dispatch import INTERCEPT
from anynet.autograd.jit.host_callback import host_call_handlers
from anynet.cli import main
from anynet_backends.jit.program import replay_observers

F = an.nn.functional


@pytest.fixture
def net():
    return an.nn.Sequential(an.nn.Linear(8, 16), an.nn.ReLU(), an.nn.Linear(16, 4))


def quiet():
    return not (INTERCEPT or observer or host_call_handlers or replay_observers or an.profile._active)


def test_a_training_step(net):
    optimizer = an.optim.SGD(net.parameters(), lr=0.1)
    x, y = an.ones((32, 8)), an.zeros(32, dtype=an.int64)
    with an.profile() as p:
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
    assert quiet()
    forward = [e for e in p.events if e.phase == "forward"]
    linear = [e for e in forward if e.name == "linear"]
    assert [e.layer for e in linear] == ["Sequential.0", "Sequential.2"]
    assert [e.flops for e in linear] == [2 * 32 * 8 * 16, 2 * 32 * 16 * 4]
    assert linear[0].bytes == 4 * (32 * 8 + 8 * 16 + 16 + 32 * 16)
    assert linear[0].shapes == ((32, 8), (16, 8), (16,))
    back = {(e.layer, e.name): e for e in p.events if e.phase == "backward"}
    assert back["Sequential.2", "linear"].flops > back["Sequential.0", "linear"].flops / 2 > 0
    assert ("Sequential.1", "relu") in back
    assert [e.name for e in p.events if e.phase == "update"] == ["Optimizer.step"]
    assert all(e.seconds >= e.inner >= 0 for e in p.events)
    assert sum(r["seconds"] for r in p.totals()) <= p.seconds

    text = str(p)
    assert "Sequential.0 linear forward" in text
    assert "of floor" in text
    by_layer = {r["key"][0]: r for r in p.totals("layer")}
    assert by_layer["Sequential.0"]["calls"] == 2
    assert sum(r["calls"] for r in p.totals("phase")) == len(p.events)
    with pytest.raises(ValueError, match="by must be one of 'layer and operation'"):
        p.totals("layers")
    flops, width = peaks("cpu")
    assert flops > 0
    assert width > 0


def test_values_are_the_same_with_and_without(net):
    x = an.asarray(np.random.default_rng(0).normal(size=(5, 8)), dtype=an.float32)
    an.sum(net(x) ** 2).backward()
    plain = [p.grad.numpy().copy() for p in net.parameters()]
    net.zero_grad()
    with an.profile():
        an.sum(net(x) ** 2).backward()
    assert all((p.grad.numpy() == g).all() for p, g in zip(net.parameters(), plain, strict=True))
    with an.profile() as p:
        batched = an.vmap(an.grad(lambda x: an.sum(an.tanh(x) ** 3)))(x)
    assert batched.shape == (5, 8)
    assert any(e.name == "tanh" for e in p.events)


def test_rules_made_of_primitives_are_counted_once():
    x = an.asarray(np.ones((64, 64), np.float32), requires_grad=True)
    with an.profile() as p, an.use_kernels(False):
        an.sum(F.linear(x, x)).backward()
    outer = next(e for e in p.events if e.phase == "backward" and e.name == "linear")
    inner = [e for e in p.events if e.phase == "backward" and e.name == "matmul"]
    assert len(inner) == 2
    assert outer.inner >= sum(e.seconds for e in inner)


def test_a_compiled_step_by_instruction(net):
    optimizer = an.optim.SGD(net.parameters(), lr=0.1)

    @an.compile
    def step(x):
        optimizer.zero_grad()
        loss = an.sum(net(x) ** 2)
        loss.backward()
        optimizer.step()
        return loss

    x = an.ones((32, 8))
    step(x)
    step(x)
    with an.profile() as p:
        step(x)
    names = [e.name for e in p.events if e.phase == "compiled"]
    assert "affine" in names  # a product and its bias
    assert names.index("affine") < names.index("matmul")  # which is of a gradient
    assert next(e for e in p.events if e.name == "affine").flops == 2 * 32 * 8 * 16


def test_an_error_leaves_nothing_behind(net):
    with pytest.raises(an.nn.ShapeError), an.profile():
        net(an.ones((1, 3)))
    assert quiet()
    with an.profile(), pytest.raises(RuntimeError, match="another profile is running"):
        an.profile().__enter__()
    assert quiet()


def test_the_trace_is_that_of_perfetto(net, tmp_path):
    with an.profile() as p:
        an.sum(net(an.ones((2, 8)))).backward()
    p.save(tmp_path / "trace.json")
    trace = json.loads((tmp_path / "trace.json").read_text())
    events = [e for e in trace["traceEvents"] if e["ph"] == "X"]
    assert len(events) == len(p.events)
    assert all({"name", "cat", "ts", "dur", "pid", "tid"} <= set(e) for e in events)
    assert [e["ts"] for e in events] == sorted(e["ts"] for e in events)
    assert {e["args"]["name"] for e in trace["traceEvents"] if e["ph"] == "M"} >= {"forward", "backward"}


def test_the_command(tmp_path, capsys):
    trace = tmp_path / "t.json"
    assert main(["profile", "digits", "steps=2", f"trace={trace}", "batch_size=8"]) == 0
    out = capsys.readouterr().out
    assert "2 steps with a batch of 8 on cpu" in out
    assert "conv forward" in out
    assert trace.exists()
    assert main(["profile", "digits", "steps=0"]) == 2
    assert main(["profile", "digit"]) == 1
