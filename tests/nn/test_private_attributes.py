"""Attributes whose names begin with an underscore hold parameters, buffers and modules like any other."""

import copy
import pickle

import pytest

import anynet as an

nn = an.nn


class Private(nn.Module):
    def __init__(self):
        self._fc = nn.Linear(3, 4)
        self._scale = nn.Parameter(an.ones(4))
        self._count = nn.Buffer(an.zeros(()))
        self._blocks = [nn.Linear(4, 4), nn.Dropout(0.5)]

    def forward(self, x):
        y = self._fc(x) * self._scale
        for block in self._blocks:
            y = block(y)
        return y


NAMES = ["_scale", "_count", "_fc.weight", "_fc.bias", "_blocks.0.weight", "_blocks.0.bias"]


def test_they_are_in_the_state_and_among_the_parameters():
    net = Private()
    assert list(net.state_dict()) == NAMES
    assert [n for n, _ in net.named_parameters()] == [n for n in NAMES if n != "_count"]
    assert [n for n, _ in net.named_buffers()] == ["_count"]
    assert [n for n, _ in net.named_children()] == ["_fc", "_blocks.0", "_blocks.1"]
    assert net.get_submodule("_fc") is net._fc
    assert net.get_parameter("_fc.weight") is net._fc.weight
    assert "(_fc): Linear" in repr(net)
    assert not net.eval()._blocks[1].training
    assert net.double()._fc.weight.dtype == an.float64


def test_the_names_are_those_of_pytorch():
    torch = pytest.importorskip("torch", reason="the names are compared with PyTorch's")

    def make(nn, zeros):
        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self._fc = nn.Linear(3, 4)
                self._scale = nn.Parameter(zeros(4))
                self.register_buffer("_count", zeros(()))
                self._blocks = nn.ModuleList([nn.Linear(4, 4)])
                self._heads = nn.ModuleDict({"_a": nn.Linear(4, 1)})
                self.row = nn.Sequential(nn.Linear(4, 4))
                self.row._last = nn.ReLU()

        return Net()

    theirs, ours = make(torch.nn, torch.zeros), make(nn, an.zeros)
    assert sorted(ours.state_dict()) == sorted(theirs.state_dict())
    assert [n for n, _ in ours.named_parameters()] == [n for n, _ in theirs.named_parameters()]
    assert [n for n, _ in ours.row.named_children()] == [n for n, _ in theirs.row.named_children()]


def test_they_are_trained_loaded_copied_and_pickled():
    net = Private()
    optimizer = an.optim.SGD(net.parameters(), lr=0.1)
    before = {n: t.tolist() for n, t in net.state_dict().items()}
    an.sum(net.eval()(an.ones((2, 3))) ** 2).backward()
    optimizer.step()
    assert all(t.tolist() != before[n] for n, t in net.state_dict().items() if n != "_count")
    state = {n: t.tolist() for n, t in net.state_dict().items()}
    for other in (copy.deepcopy(net), pickle.loads(pickle.dumps(net.state_dict()))):
        found = other if isinstance(other, dict) else other.state_dict()
        assert {n: t.tolist() for n, t in found.items()} == state
    fresh = Private()
    assert fresh.load_state_dict(net.state_dict()) == ([], [])
    assert fresh._fc.weight.tolist() == state["_fc.weight"]
    with pytest.raises(nn.StateError, match=r"missing _fc\.weight"):
        fresh.load_state_dict({n: t for n, t in net.state_dict().items() if n != "_fc.weight"})


def test_they_take_part_in_functional_call_and_in_compiled_steps():
    net = Private().eval()
    x = an.ones((2, 3))
    zero = an.zeros((4, 3))
    assert nn.functional_call(net, {"_fc.weight": zero}, x).tolist() != net(x).tolist()
    compiled = an.compile(net)
    expected = net(x)
    for _ in range(3):
        assert compiled(x).tolist() == expected.tolist()
    with an.no_grad():
        net._fc.weight.assign_(zero)
    assert compiled(x).tolist() == net(x).tolist() != expected.tolist()


def test_attributes_of_the_library_are_no_members():
    class Spy(nn.Linear):
        def __call__(self, *args):
            return None

    net = nn.Sequential(nn.Linear(3, 3), nn.LazyLinear(2), nn.MaxPool1d(2))
    names = ["0.weight", "0.bias", "1.weight", "1.bias"]
    for register in (
        net.register_forward_hook,
        net.register_forward_pre_hook,
        net[0].register_full_backward_hook,
    ):
        register(Spy(1, 1))
    net[0].register_full_backward_pre_hook(Spy(1, 1))
    an.sum(net(an.ones((4, 3)))).backward()
    net(an.ones((4, 3)))
    assert list(net.state_dict()) == names
    assert list(copy.deepcopy(net).state_dict()) == names
    assert [n for n, _ in net.named_modules()] == ["", "0", "1", "2"]


def test_what_lies_within_something_else_is_no_member():
    class Child(nn.Module):
        def __init__(self, owner):
            self._owner = lambda: owner

    class Owner(nn.Module):
        def __init__(self):
            self.child = Child(self)

    assert list(Owner().child.children()) == []


def test_circles_end():
    class Child(nn.Module):
        def __init__(self, owner):
            self._owner = owner
            self.weight = nn.Parameter(an.ones(1))

    class Owner(nn.Module):
        def __init__(self):
            self.table = [1, "a"]
            self.table.append(self.table)
            self.child = Child(self)

    net = Owner()
    assert list(net.state_dict()) == ["child.weight"]
    assert [n for n, _ in net.named_modules()] == ["", "child"]
    assert "…" in repr(net)


@pytest.mark.parametrize("name", ["_items", "_forward_hooks", "_fused"])
def test_a_container_keeps_its_own_names(name):
    with pytest.raises(
        KeyError, match=r"Sequential: a name must not be that of an attribute of the class, got '_"
    ):
        nn.Sequential({name: nn.ReLU()})
    row = nn.Sequential(nn.ReLU())
    with pytest.raises(KeyError, match="a name must not be"):
        row.add_module(name, nn.ReLU())
    assert [n for n, _ in row.named_children()] == ["0"]
    assert row(an.ones(1)).tolist() == [1.0]
