"""What is set in the place of a member of a module: a member of the same kind, None, or an error."""

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet.tensor import Buffer


class Running(nn.Module):
    def __init__(self, persistent=True):
        self.register_buffer("mean", an.zeros(2), persistent=persistent)
        self.fc = nn.Linear(2, 2)

    def forward(self, x):
        self.mean = self.mean * 0.5 + x  # as PyTorch's users write it
        return self.fc(self.mean)


@pytest.mark.parametrize("persistent", [True, False])
def test_a_tensor_in_the_place_of_a_buffer_is_the_buffer(persistent):
    net = Running(persistent)
    first = net.mean
    for _ in range(2):
        net(an.ones(2))
    assert type(net.mean) is Buffer
    assert net.mean.tolist() == [1.5, 1.5]
    assert first.tolist() == [0.0, 0.0]
    assert [name for name, _ in net.named_buffers()] == ["mean"]
    assert ("mean" in net.state_dict()) is persistent
    assert list(net.state_dict()) == (["mean"] if persistent else []) + ["fc.weight", "fc.bias"]


def test_a_buffer_keeps_the_graph_of_what_is_set():
    net = Running()
    x = an.asarray([1.0, 2.0], requires_grad=True)
    an.sum(net(x)).backward()
    assert x.grad.tolist() == an.sum(net.fc.weight, axis=0).tolist()


@pytest.mark.parametrize(
    ("name", "value", "match"),
    [
        (
            "weight",
            an.zeros((2, 2)),
            r"Linear: weight is a Parameter, got Tensor; write Parameter\(value\), or weight.assign_",
        ),
        ("weight", 3.0, "weight is a Parameter, got float"),
        ("bias", np.zeros(2), "bias is a Parameter, got ndarray"),
    ],
)
def test_what_would_silently_be_no_parameter_is_refused(name, value, match):
    layer = nn.Linear(2, 2)
    before = {k: v.tolist() for k, v in layer.state_dict().items()}
    with pytest.raises(TypeError, match=match):
        setattr(layer, name, value)
    assert {k: v.tolist() for k, v in layer.state_dict().items()} == before


def test_other_members():
    net = Running()
    with pytest.raises(TypeError, match="Running: fc is a Module, got function; give a Module"):
        net.fc = lambda x: x
    with pytest.raises(TypeError, match="mean is a Buffer, got list; give a Tensor"):
        net.mean = [0.0, 0.0]
    net.fc = nn.Identity()
    net.mean = None
    assert net.mean is None
    net.mean = nn.Buffer(an.ones(2))
    layer = nn.Linear(2, 2)
    layer.bias = None
    layer.bias = nn.Parameter(an.ones(2))
    del layer.weight
    layer.weight = an.zeros((2, 2))  # said on purpose
    assert list(layer.state_dict()) == ["bias"]


def hooks():
    layer = nn.Linear(1, 1)
    parameter = an.Parameter(an.ones(1))
    optimizer = optim.SGD([parameter], lr=0.1)
    said = []

    def step():
        parameter.grad = an.ones(1)
        optimizer.step()

    yield said, lambda: layer.register_forward_hook(lambda *_: said.append(1)), lambda: layer(an.ones(1))
    yield said, lambda: layer.register_forward_pre_hook(lambda *_: said.append(1)), lambda: layer(an.ones(1))
    yield said, lambda: optimizer.register_step_post_hook(lambda *_: said.append(1)), step
    variable = an.ones(1, dtype="float32")
    variable.requires_grad = True
    yield (
        said,
        lambda: variable.register_hook(lambda _: said.append(1)),
        lambda: an.sum(variable * 2).backward(),
    )


@pytest.mark.parametrize("number", range(4))
def test_a_handle_removes_its_hook(number):
    said, register, call = list(hooks())[number]
    one, two = register(), register()
    call()
    assert len(said) == 2
    one.remove()
    one.remove()
    call()
    assert len(said) == 3
    with two:
        call()
    call()
    assert len(said) == 4


def test_a_hook_that_is_registered_twice_is_called_twice():
    said = []

    def hook(*_):
        said.append(1)

    layer, x = nn.Linear(1, 1), an.asarray([1.0], requires_grad=True)
    handles = [
        layer.register_forward_hook(hook),
        layer.register_forward_hook(hook),
        x.register_hook(hook),
        x.register_hook(hook),
    ]
    an.sum(layer(x)).backward()
    assert len(said) == 4
    handles[0].remove()
    handles[2]()
    an.sum(layer(x)).backward()
    assert len(said) == 6
