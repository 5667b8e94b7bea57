"""Bad input: a clear error that says where, what was got, what was expected; and nothing has changed."""

import pytest

import anynet as an
from anynet import nn


def world():
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU(), nn.Dropout(0.5), nn.Linear(3, 2))
    optimizer = an.optim.Adam(net.parameters(), lr=0.1)
    x, y = an.ones((6, 4)), an.asarray([0, 1, 0, 1, 0, 1])
    nn.functional.cross_entropy(net(x), y).backward()
    optimizer.step()
    optimizer.zero_grad()
    return net, optimizer


def snapshot(net, optimizer):
    state = {k: v.numpy().tolist() for k, v in net.state_dict().items()}
    moments = {
        n: {k: (v.numpy().tolist() if hasattr(v, "numpy") else v) for k, v in entry.items()}
        for n, entry in optimizer.state_dict()["state"].items()
    }
    gradients = [p.grad for p in net.parameters()]
    return state, moments, gradients, an.random.get_state(), net.training


def foreign(path):
    path.write_bytes(b"PK\x03\x04 not a checkpoint")
    return path


def truncated(net, path):
    an.save(path, net.state_dict())
    path.write_bytes(path.read_bytes()[:-7])
    return path


CATALOGUE = {
    "shape": (lambda n, o, t: n(an.ones((2, 5))), ValueError, r"Linear 4→3\)\n.*\(2, 5\): last axis 5, expected 4"),
    "dtype": (lambda n, o, t: n(an.ones((2, 4), dtype=an.int64)), TypeError, "int64"),
    "device": (lambda n, o, t: n(an.ones((2, 4), device="strict")), an.DeviceError, r"'strict'.*'cpu'|'cpu'.*'strict'"),
    "unknown device": (lambda n, o, t: n.to("cdua"), ValueError, "cdua"),
    "integer gradient": (lambda n, o, t: an.asarray([1, 2], requires_grad=True), TypeError, "int64"),
    "backward of no variable": (lambda n, o, t: an.ones(1).backward(), an.GradientError, "requires_grad=True"),
    "backward of a vector": (lambda n, o, t: n[0].weight.backward(), an.GradientError, "reduce it to a scalar"),
    "missing file": (lambda n, o, t: an.load(t / "nothing.safetensors"), FileNotFoundError, "nothing.safetensors"),
    "truncated file": (lambda n, o, t: an.load(truncated(n, t / "a.safetensors")), ValueError, "a.safetensors"),
    "foreign file": (lambda n, o, t: an.load(foreign(t / "b.safetensors")), ValueError, "b.safetensors"),
    "unknown option": (lambda n, o, t: o.add_param_group({"params": an.Parameter([1.0]), "learning_rate": 1}), TypeError, "learning_rate"),
    "unknown keyword": (lambda n, o, t: nn.Linear(3, 4, bais=False), TypeError, "bais"),
    "state with another name": (lambda n, o, t: n.load_state_dict({"0.wieght": an.ones((3, 4))}), nn.StateError, "0.weight"),
    "state of another shape": (
        lambda n, o, t: n.load_state_dict({**n.state_dict(), "4.bias": an.ones(7)}),
        nn.StateError, r"4\.bias.*\(7,\)"),
    "optimizer's state of another": (lambda n, o, t: o.load_state_dict({"state": {}, "param_groups": []}), ValueError, "groups"),
    "class out of range": (
        lambda n, o, t: nn.functional.cross_entropy(an.ones((2, 3)), an.asarray([0, 3])),
        IndexError, "class index 3"),
    "target that would broadcast": (
        lambda n, o, t: nn.functional.mse_loss(an.ones((3, 1)), an.ones(3)),
        ValueError, "nothing is broadcast"),
    "reduction": (lambda n, o, t: nn.functional.mse_loss(an.ones(3), an.ones(3), reduction="avg"), ValueError, "'mean', 'sum' or 'none'"),
    "probability": (lambda n, o, t: nn.Dropout(1.5), ValueError, "1.5"),
    "learning rate": (lambda n, o, t: an.optim.SGD(n.parameters(), lr=-1.0), ValueError, "lr must be a number ≥ 0, got -1"),
    "seed": (lambda n, o, t: an.random.manual_seed(-3), ValueError, "-3"),
}  # fmt: skip


@pytest.mark.parametrize("name", CATALOGUE)
def test_refused_and_unchanged(name, tmp_path):
    call, kind, message = CATALOGUE[name]
    if "device" in name:
        pytest.importorskip("array_api_strict", reason="pip install 'anynet-nn[strict]'")
    net, optimizer = world()
    before = snapshot(net, optimizer)
    with pytest.raises(kind, match=message):
        call(net, optimizer, tmp_path)
    assert snapshot(net, optimizer) == before
