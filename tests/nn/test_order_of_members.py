"""Parameters, buffers and modules in PyTorch's order: a module's own before its children's."""

import pytest

import anynet as an
from torch_oracle import torch


def network(lib):
    nn = lib.nn

    def parameter(*shape):
        return nn.Parameter(lib.ones(shape))

    class Inner(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.w = parameter(2)
            self.register_buffer("seen", lib.ones(2))
            self.u = parameter(3)

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.late = None
            self.register_parameter("slot", None)
            self.register_buffer("empty", None)
            self.add_module("nothing", None)
            self.inner = Inner()
            self.norm = nn.BatchNorm1d(3)
            self.x = parameter(1)
            self.register_buffer("seen", lib.ones(1))
            self.y = parameter(1)
            self.listed = nn.ParameterList([parameter(1), parameter(2)])
            self.named = nn.ParameterDict({"q": parameter(1), "p": parameter(2)})
            self.slot, self.late = parameter(1), parameter(1)
            self.register_buffer("empty", lib.ones(2))
            self.modules_listed = nn.ModuleList([Inner(), nn.Sequential(nn.Linear(1, 1), Inner())])
            self.modules_named = nn.ModuleDict({"z": nn.Linear(1, 1), "a": Inner()})
            self.tied, self.shared = self.x, self.inner
            self.y = None
            self.y = parameter(1)
            self.row = nn.Sequential(nn.Linear(1, 1))
            self.row.add_module("between", nn.PReLU())
            self.row.scale = parameter(2)
            self.row.append(nn.Linear(1, 2))
            self.turned = nn.Linear(1, 1)
            self.nothing = nn.Linear(1, 1)
            self.turned = parameter(2)

    return Net()


def orders(module):
    return {
        "parameters": [n for n, _ in module.named_parameters()],
        "own parameters": [n for n, _ in module.named_parameters(recurse=False)],
        "buffers": [n for n, _ in module.named_buffers()],
        "state": list(module.state_dict()),
        "modules": [n for n, _ in module.named_modules()],
        "children": [n for n, _ in module.named_children()],
        "shapes": [tuple(p.shape) for p in module.parameters()],
    }


LAYERS = [
    ("Linear", (2, 3)), ("Bilinear", (2, 3, 4)), ("Conv2d", (2, 3, 2)), ("ConvTranspose2d", (3, 4, 2)),
    ("BatchNorm2d", (3,)), ("LayerNorm", (3,)), ("GroupNorm", (1, 3)), ("RNN", (2, 3, 2)), ("LSTM", (2, 3, 2)),
    ("GRU", (2, 3)), ("LSTMCell", (2, 3)), ("Embedding", (3, 4)), ("EmbeddingBag", (3, 4)), ("PReLU", ()),
    ("MultiheadAttention", (4, 2)), ("TransformerEncoderLayer", (8, 2)), ("TransformerDecoderLayer", (8, 2)),
    ("AdaptiveLogSoftmaxWithLoss", (4, 10, [3])),
]  # fmt: skip


@pytest.mark.parametrize(("name", "args"), LAYERS)
def test_layers(name, args):
    assert orders(getattr(an.nn, name)(*args)) == orders(getattr(torch.nn, name)(*args))


@pytest.mark.parametrize("name", ["weight_norm", "spectral_norm"])
def test_parametrizations(name):
    results = []
    for lib in (an, torch):
        layer = lib.nn.Linear(3, 4)
        getattr(lib.nn.utils.parametrizations, name)(layer)
        results.append(orders(layer))
    assert results[0] == results[1]


def test_nested_network():
    assert orders(network(an)) == orders(network(torch))


def test_flat_vector_goes_from_one_to_the_other():
    ours, theirs = network(an), network(torch)
    with torch.no_grad():
        for i, p in enumerate(theirs.parameters()):
            p.fill_(float(i))
    vector = torch.nn.utils.parameters_to_vector(theirs.parameters()).detach().numpy()
    an.nn.utils.vector_to_parameters(an.asarray(vector), ours.parameters())
    for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
        assert (p.numpy() == q.detach().numpy()).all(), name


def test_positions_in_an_optimizer_are_those_of_torch():
    ours, theirs = network(an), network(torch)
    for i, (p, q) in enumerate(zip(ours.parameters(), theirs.parameters(), strict=True)):
        p.grad, q.grad = an.full(p.shape, float(i + 1)), torch.full(q.shape, float(i + 1))
    a, b = (
        an.optim.SGD(ours.parameters(), lr=1.0, momentum=0.9),
        torch.optim.SGD(theirs.parameters(), 1.0, 0.9),
    )
    a.step()
    b.step()
    mine, other = a.state_dict()["state"], b.state_dict()["state"]
    assert list(mine) == list(other)
    for number, entry in other.items():
        assert (mine[number]["momentum_buffer"].numpy() == entry["momentum_buffer"].numpy()).all()


def test_own_tensors_in_lists_come_before_modules_in_lists():
    class Net(an.nn.Module):
        def __init__(self):
            self.layers = [an.nn.Linear(1, 1, bias=False), an.nn.Parameter([1.0])]
            self.table = {"a": an.nn.Linear(1, 1, bias=False), "b": an.nn.Parameter([1.0])}

    assert [n for n, _ in Net().named_parameters()] == [
        "layers.1",
        "table.b",
        "layers.0.weight",
        "table.a.weight",
    ]


def test_module_set_on_a_sequential_is_one_of_its_items():
    row = an.nn.Sequential(an.nn.Linear(2, 2))
    row.add_module("relu", an.nn.ReLU())
    row.last = an.nn.Linear(2, 1)
    assert len(row) == 3
    assert isinstance(row[1], an.nn.ReLU)
    x = an.asarray([[1.0, -2.0]])
    assert row(x).tolist() == row.last(row.relu(row[0](x))).tolist()
    row.relu = an.nn.Identity()
    assert row(x).tolist() == row.last(row[0](x)).tolist()
    del row.last
    assert row(x).tolist() == row[0](x).tolist()
    with pytest.raises(TypeError, match="Sequential: items must be modules, got int"):
        row.relu = 3
    assert len(row) == 2
