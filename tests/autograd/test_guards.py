"""A compiled function is what the function is, whatever is changed between two calls; or it is refused, with the line.

Each program is made twice. Both are called three times, changed in the same way, and called again: results, arguments,
parameters, buffers and gradients are the same bits."""

import types

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet.nn import functional as F
from anynet.tensor import Buffer, Parameter

FACTOR = 2.0
TABLE = {"k": 2.0}


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def tensor(*shape, seed=0):
    return an.asarray(numbers(*shape, seed=seed))


class Scaled(nn.Module):
    """A module of a user's, with all that such a module reads."""

    gain = 1.5

    def __init__(self):
        self.fc = nn.Linear(3, 3)
        self.parts = [nn.Linear(3, 3), nn.Tanh()]
        self.named = nn.ModuleDict({"a": nn.Linear(3, 3)})
        self.rows = nn.ModuleList([nn.Linear(3, 3), nn.Linear(3, 3)])
        self.drop, self.norm, self.ln = nn.Dropout(0.5), nn.BatchNorm1d(3), nn.LayerNorm(3)
        self.extra = nn.Parameter(tensor(3))
        self.offset = nn.Buffer(tensor(3, seed=4))
        self.k, self.flag, self.act, self.sizes = 2.0, True, "relu", [1.0, 2.0]
        self.options = types.SimpleNamespace(shift=0.5, inner={"q": 1.0})

    def helper(self, x):
        return x * self.gain + FACTOR

    def forward(self, x):
        x = self.fc(x) * self.k + self.options.shift * self.options.inner["q"]
        for part in self.parts:
            x = part(x)
        for row in self.rows:
            x = row(x)
        x = self.named["a"](x) if self.flag else -x
        x = self.norm(self.drop(x)) + self.ln(x) * self.extra + self.offset
        x = x * self.sizes[0] + sum(self.sizes)
        return self.helper(getattr(F, self.act)(x))


def scaled():
    an.random.manual_seed(5)
    return Scaled()


def set_gain(net):
    type(net).gain = 7.0


def set_factor(net):
    global FACTOR
    FACTOR = -3.0


@pytest.fixture(autouse=True)
def as_before():
    global FACTOR
    yield
    FACTOR, TABLE["k"], Scaled.gain = 2.0, 2.0, 1.5
    an.dtypes.set_default_float("float32")


def on_weight(net, function):
    with an.no_grad():
        function(net.fc.weight)


CHANGES = {
    "a layer": lambda m: setattr(m, "fc", nn.Linear(3, 3)),
    "a layer in a list": lambda m: m.parts.__setitem__(1, nn.ReLU()),
    "one more in a list": lambda m: m.parts.append(nn.Sigmoid()),
    "one less in a list": lambda m: m.parts.pop(),
    "a layer of a ModuleList": lambda m: m.rows.__setitem__(0, nn.Linear(3, 3)),
    "one more in a ModuleList": lambda m: m.rows.append(nn.Linear(3, 3)),
    "one less in a ModuleList": lambda m: m.rows.pop(),
    "a layer of a ModuleDict": lambda m: m.named.__setitem__("a", nn.Linear(3, 3)),
    "a parameter": lambda m: setattr(m.fc, "weight", Parameter(tensor(3, 3, seed=8))),
    "a parameter's data": lambda m: setattr(m.fc.weight, "data", numbers(3, 3, seed=8)),
    "a parameter in place": lambda m: on_weight(m, lambda w: w.assign_(tensor(3, 3, seed=8))),
    "a parameter's elements": lambda m: on_weight(m, lambda w: w.__setitem__(0, 5.0)),
    "no bias": lambda m: setattr(m.fc, "bias", None),
    "a buffer": lambda m: setattr(m, "offset", Buffer(tensor(3, seed=8))),
    "frozen": lambda m: m.fc.requires_grad_(False),
    "Dropout.p": lambda m: setattr(m.drop, "p", 0.1),
    "BatchNorm.momentum": lambda m: setattr(m.norm, "momentum", 0.5),
    "BatchNorm.eps": lambda m: setattr(m.norm, "eps", 0.5),
    "LayerNorm.eps": lambda m: setattr(m.ln, "eps", 0.5),
    "eval": lambda m: m.eval(),
    "eval of one": lambda m: m.norm.eval(),
    "a number": lambda m: setattr(m, "k", 3.0),
    "an int for a float": lambda m: setattr(m, "k", 2),
    "a flag": lambda m: setattr(m, "flag", False),
    "a string": lambda m: setattr(m, "act", "tanh"),
    "a number in a list": lambda m: m.sizes.__setitem__(0, 4.0),
    "a list": lambda m: setattr(m, "sizes", [4.0]),
    "an attribute of an object": lambda m: setattr(m.options, "shift", 1.5),
    "an object": lambda m: setattr(m, "options", types.SimpleNamespace(shift=9.0, inner={"q": 2.0})),
    "an item of a dictionary of an object": lambda m: m.options.inner.__setitem__("q", 3.0),
    "a method": lambda m: setattr(m, "helper", lambda x: x - 1.0),
    "forward": lambda m: setattr(m.fc, "forward", lambda x: x - 1.0),
    "an attribute of the class": set_gain,
    "a global number": set_factor,
    "a forward hook": lambda m: m.fc.register_forward_hook(lambda mod, args, out: out * 2.0),
    "a pre-hook": lambda m: m.fc.register_forward_pre_hook(lambda mod, args: (args[0] * 2.0,)),
    "a gradient's hook": lambda m: m.fc.weight.register_hook(lambda g: g * 2.0),
    "float64": lambda m: m.double(),
    "the seed": lambda m: an.random.manual_seed(77),
    "the state": lambda m: m.load_state_dict(scaled().state_dict()),
}


def bits(tree):
    leaves, shape = an.autograd.tree.flatten(tree) if hasattr(an.autograd, "tree") else ([tree], None)
    return [
        (x.dtype, x.shape, x.detach().numpy().tobytes()) if isinstance(x, an.Tensor) else x for x in leaves
    ], repr(shape)


def state(net):
    found = {k: v.numpy().tobytes() for k, v in net.state_dict().items()}
    grads = {k: None if p.grad is None else p.grad.numpy().tobytes() for k, p in net.named_parameters()}
    return found, grads


def outcome(function, *args):
    """The result, or the error."""
    try:
        return bits(function(*args))
    except an.CompileError:
        raise
    except Exception as error:
        return type(error), str(error).splitlines()[0]


def run_inference(net, compiled):
    return an.compile(lambda x: net(x).detach()) if compiled else (lambda x: net(x).detach())


def run_training(net, compiled):
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

    def step(x):
        optimizer.zero_grad()
        loss = an.mean(net(x) ** 2)
        loss.backward()
        optimizer.step()
        return loss

    return an.compile(step) if compiled else step


@pytest.mark.parametrize("run", [run_inference, run_training])
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_changed_is_seen(change, run):
    global FACTOR
    found = []
    for compiled in (False, True):
        FACTOR, Scaled.gain = 2.0, 1.5
        net = scaled()
        f = run(net, compiled)
        x = tensor(4, 3, seed=1)
        an.random.manual_seed(9)
        results = [outcome(f, x) for _ in range(3)]
        an.random.manual_seed(9)
        CHANGES[change](net)
        if change == "float64":
            x = an.astype(x, an.float64)
        results += [outcome(f, x) for _ in range(3)]
        found.append((results, state(net), an.random.get_state()))
    (one, kept, at), (other, kept_too, at_too) = found
    for i, (a, b) in enumerate(zip(one, other, strict=True)):
        assert a == b, i
    assert kept == kept_too
    assert at == at_too
