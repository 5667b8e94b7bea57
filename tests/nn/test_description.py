"""Networks as plain data: what `describe` writes down and `build` makes again."""

import copy
import dataclasses
import enum
import functools
import gc
import json
import math
import pickle
import sys
import types
import warnings
import weakref
from collections import OrderedDict

import numpy as np
import pytest

import anynet as an
from anynet import nn
from anynet.nn import functional as F
from anynet.nn.description import DescriptionError, build, describe
from anynet.nn.utils import parametrizations, parametrize
from layer_examples import LAYERS, example


def through_json(description):
    return json.loads(json.dumps(description, allow_nan=False))


def rebuilt(net, **options):
    """The network that its description makes, with its numbers."""
    options.setdefault("classes", sys.modules[__name__])
    twin = build(through_json(describe(net)), **options)
    if not any(m.waiting for m in net.modules()):
        twin.load_state_dict(net.state_dict())
    return twin


def alike(a, b):
    """Same tree of classes, same state, same gradients wanted."""
    assert [(n, type(m)) for n, m in a.named_modules()] == [(n, type(m)) for n, m in b.named_modules()]
    assert [n for n, _ in a.named_parameters()] == [n for n, _ in b.named_parameters()]
    if not any(m.waiting for m in a.modules()):
        sa, sb = a.state_dict(), b.state_dict()
        assert [(k, v.shape, v.dtype, v.tolist()) for k, v in sa.items()] == [
            (k, v.shape, v.dtype, v.tolist()) for k, v in sb.items()
        ]
    assert [p.requires_grad for p in a.parameters()] == [p.requires_grad for p in b.parameters()]
    assert repr(a) == repr(b)


@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name):
    layer = example(name)
    description = describe(layer)
    assert description["format"] == "anynet-model/1"
    assert "changes" not in description
    alike(layer, rebuilt(layer))


def test_the_form():
    net = nn.Sequential(nn.Linear(4, 3, bias=False), nn.ReLU())
    assert describe(net) == {
        "format": "anynet-model/1",
        "class": "nn.Sequential",
        "args": [{"class": "nn.Linear", "args": [4, 3], "kwargs": {"bias": False}}, {"class": "nn.ReLU"}],
    }
    named = nn.Sequential(OrderedDict(a=nn.Linear(1, 2), b=nn.ReLU()))
    alike(named, rebuilt(named))


# ---- what was changed after the constructors ----


class Block(nn.Module):
    def __init__(self, width, norm=nn.BatchNorm1d, act=F.relu, layers=()):
        self.fc, self.norm, self.act = nn.Linear(width, width), norm(width), act
        self.more = list(layers)

    def forward(self, x):
        x = self.act(self.norm(self.fc(x)))
        for layer in self.more:
            x = layer(x)
        return x


class Net(nn.Module):
    def __init__(self, width=4, *, depth=2, classes=3, p=0.5):
        self.blocks = nn.Sequential(*[Block(width) for _ in range(depth)])
        self.drop, self.fc = nn.Dropout(p), nn.Linear(width, classes)
        self.scale = 1.0

    def forward(self, x):
        return self.fc(self.drop(self.blocks(x))) * self.scale


X = np.linspace(-1, 1, 20).reshape(5, 4).astype("f4")


def replaced_head(net):
    net.fc = nn.Linear(4, 10)


def lower_rate(net):
    net.drop.p = 0.1


def another_attribute(net):
    net.scale = 2.5


def frozen(net):
    net.blocks.requires_grad_(False)


def in_double(net):
    net.double()


def appended(net):
    net.blocks.append(nn.Tanh())


def shortened(net):
    del net.blocks[0]


def tied(net):
    net.blocks[1].fc = net.blocks[0].fc


def tied_weight(net):
    net.blocks[1].fc.weight = net.blocks[0].fc.weight


def removed_bias(net):
    net.fc.bias = None


def weight_normed(net):
    parametrizations.weight_norm(net.fc)


def spectral_normed(net):
    parametrizations.spectral_norm(net.blocks[0].fc)


def orthogonal(net):
    parametrizations.orthogonal(net.blocks[0].fc)


def own_parametrization(net):
    parametrize.register_parametrization(net.fc, "weight", Halved())
    net.fc.parametrizations.weight.original.requires_grad_(False)


def old_weight_norm(net):
    nn.utils.weight_norm(net.fc)
    net.fc.weight_g.requires_grad_(False)


def old_spectral_norm(net):
    nn.utils.spectral_norm(net.fc)


def wrapped(net):
    net.fc = LowRank(net.fc, 2)


def more_layers(net):
    net.blocks[0].more.append(nn.Linear(4, 4))


def partly_evaluating(net):
    net.blocks[0].norm.eval()


def a_buffer(net):
    net.offset = nn.Buffer([1.0, 2.0], persistent=False)


def deleted(net):
    del net.scale
    net.forward_scale = None


class Halved(nn.Module):
    def forward(self, x):
        return x * 0.5

    def right_inverse(self, x):
        return x * 2.0


class LowRank(nn.Module):
    """LoRA: a frozen layer and a product of two small matrices."""

    def __init__(self, layer, rank):
        self.layer = layer.requires_grad_(False)
        out, width = layer.weight.shape
        self.a, self.b = nn.Parameter(an.zeros((rank, width))), nn.Parameter(an.zeros((out, rank)))

    def forward(self, x):
        return self.layer(x) + x @ self.a.T @ self.b.T


CHANGES = [
    replaced_head, lower_rate, another_attribute, frozen, in_double, appended, shortened, tied, tied_weight, removed_bias,
    weight_normed, spectral_normed, orthogonal, own_parametrization, old_weight_norm, old_spectral_norm, wrapped, more_layers,
    partly_evaluating, a_buffer,
]  # fmt: skip


@pytest.mark.parametrize("change", [*CHANGES, deleted], ids=lambda c: c.__name__)
def test_changes_after_the_constructor(change):
    net = Net()
    change(net)
    before = copy.deepcopy(net.state_dict())
    twin = rebuilt(net)
    alike(net, twin)
    assert [m.training for m in net.modules()] == [m.training for m in twin.modules()]
    assert [(k, v.tolist()) for k, v in before.items()] == [
        (k, v.tolist()) for k, v in net.state_dict().items()
    ]
    if change is not deleted:
        x = an.asarray(X, dtype=net.fc.dtype if hasattr(net.fc, "dtype") else None)
        x = an.astype(x, next(net.parameters()).dtype)
        assert net.eval()(x).tolist() == twin.eval()(x).tolist()


def test_all_changes_at_once():
    net = Net()
    for change in (
        replaced_head,
        lower_rate,
        another_attribute,
        frozen,
        tied_weight,
        weight_normed,
        more_layers,
        partly_evaluating,
    ):
        change(net)
    twin = rebuilt(net)
    alike(net, twin)
    assert twin.blocks[0].fc.weight is twin.blocks[1].fc.weight
    assert (twin.drop.p, twin.scale) == (0.1, 2.5)
    alike(net, rebuilt(twin))


def test_after_a_forward_pass_and_copies():
    net = nn.Sequential(
        nn.LazyLinear(4), nn.BatchNorm1d(4), nn.Dropout(0.2), nn.TransformerEncoderLayer(4, 2, 8, activation=F.gelu, batch_first=True),
    )  # fmt: skip
    waiting = describe(net)
    assert waiting["args"][0] == {"class": "nn.LazyLinear", "args": [4]}
    net(an.asarray(X))
    described = describe(net)
    assert described["args"][0] == {"class": "nn.Linear", "args": [4, 4]}
    assert "changes" not in described
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), copy.copy(net), build(described)):
        assert describe(twin) == described
    net[0].weight.requires_grad_(False)
    assert describe(net) != described


def test_templates_that_are_copied():
    """A layer among the arguments that was changed before."""
    layer = nn.TransformerEncoderLayer(4, 2, 8)
    layer.linear1 = LowRank(layer.linear1, 2)
    net = nn.TransformerEncoder(layer, 2)
    alike(net, rebuilt(net))


def test_ties_of_containers():
    one = nn.Linear(4, 4)
    net = nn.Sequential(one, nn.Sequential(one, nn.ReLU()))
    twin = rebuilt(net)
    assert twin[0] is twin[1][0]
    apart = Tied()
    apart.b = nn.Linear(2, 2)
    alike(apart, rebuilt(apart))
    apart = copy.deepcopy(Tied())
    apart.b = copy.deepcopy(apart.b)
    twin = rebuilt(apart)
    assert twin.a is not twin.b


class Tied(nn.Module):
    def __init__(self):
        self.a = self.b = nn.Linear(2, 2)


# ---- arguments of all kinds ----


class Colour(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Config:
    width: int = 4
    rates: tuple[float, ...] = (0.1, 0.2)


class Any(nn.Module):
    def __init__(self, value=None, **more):
        self.value, self.more = value, more


def twice(x):
    return x * 2


VALUES = [
    None, True, 3, 0.5, math.inf, -math.inf, "text", b"bytes", 1 + 2j, (1, (2.0, "x")), [1, [2]], {"a": 1}, {1: "b", "$c": (2,)},
    {"class": 1}, {1, 2}, frozenset({3}), range(2, 9, 3), slice(1, None), an.float64, Colour.RED, Config(8), types.SimpleNamespace(n=3),
    nn.ReLU, F.gelu,
    an.tanh, twice, functools.partial(nn.Linear, bias=False),
    functools.partial(F.leaky_relu, negative_slope=0.2), np.float32(0.5), np.int64(7),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda v: str(v)[:30])
def test_arguments(value):
    twin = rebuilt(Any(value, key=value))
    for found in (twin.value, twin.more["key"]):
        if isinstance(value, functools.partial):
            assert (found.func, found.args, found.keywords) == (value.func, value.args, value.keywords)
        else:
            assert found == value
            assert type(found) is type(value) or isinstance(value, np.generic)


def test_numbers_that_are_no_numbers():
    assert math.isnan(rebuilt(Any(math.nan)).value)


def test_arrays():
    assert rebuilt(Any(np.arange(4.0))).value.tolist() == [0.0, 1.0, 2.0, 3.0]
    loss = nn.CrossEntropyLoss(weight=an.asarray([1.0, 2.0, 3.0]))
    assert rebuilt(loss).weight.tolist() == [1.0, 2.0, 3.0]
    table = np.random.default_rng(0).normal(size=(300, 8)).astype("f4")
    alike(net := nn.Embedding.from_pretrained(an.asarray(table)), rebuilt(net))
    large = Any(an.zeros((300, 300)))
    large.value = an.ones((300, 300))
    assert "value" in describe(large)["left_out"]


def test_arguments_do_not_stay_in_memory():
    array = np.zeros((1000, 1000))
    ref = weakref.ref(array)
    layer = nn.Linear(2, 2)
    inner = weakref.ref(layer)
    net = Width(array, layer)
    del array, layer
    gc.collect()
    assert ref() is None
    assert inner() is None
    alike(net, rebuilt(net))


class Width(nn.Module):
    def __init__(self, data, template):
        self.fc = nn.Linear(data.shape[1], 2)
        self.other = copy.deepcopy(template)


def test_changed_arguments():
    widths = [3, 4]
    net = Widths(widths)
    widths.append(5)
    alike(net, rebuilt(net))


class Widths(nn.Module):
    def __init__(self, widths):
        self.layers = nn.ModuleList(nn.Linear(2, w) for w in widths)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Any(lambda x: x), r"argument 1 is the function .*<lambda>, which a file cannot hold"),
        (lambda: Any(object()), "argument 1 is an object of type object"),
        (
            lambda: nn.Sequential(nn.Linear(1, 1), Any(key=iter([]))),
            "argument key is an object of type list_iterator",
        ),
        (lambda: changed(Any(), "value", lambda x: x), "value is the function"),
    ],
)
def test_what_cannot_be_described(make, words):
    with pytest.raises(DescriptionError, match=words):
        describe(make())


def changed(module, name, value):
    setattr(module, name, value)
    return module


def test_what_is_left_out():
    net = nn.Sequential(nn.Linear(2, 2))
    net.register_forward_hook(lambda *_: None)
    net[0].optimizer = an.optim.SGD(net.parameters(), lr=0.1)
    assert set(describe(net)["left_out"]) == {"the network", "0.optimizer"}


def test_constructors_run_quietly(capsys):
    an.random.manual_seed(3)
    np.random.seed(1)
    net = Loud()
    capsys.readouterr()
    here, host = an.random.get_state(), np.random.get_state()[1].tolist()
    describe(net)
    assert an.random.get_state() == here
    assert np.random.get_state()[1].tolist() == host
    assert capsys.readouterr().out == ""


def test_nothing_is_drawn_to_describe(monkeypatch):
    net = nn.Sequential(nn.Linear(2, 3), nn.Embedding(3, 2), nn.LSTM(2, 2))
    monkeypatch.setattr("anynet_backends.philox.uniform", None)
    monkeypatch.setattr("anynet_backends.philox.normal", None)
    describe(net)


class Loud(nn.Module):
    def __init__(self):
        self.fc = nn.Linear(2, 2)
        print("parameters:", np.random.rand())


def test_another_device():
    net = nn.Linear(2, 3, device="torch:cpu") if has_torch() else nn.Linear(2, 3)
    assert rebuilt(net).weight.device == "cpu"


def has_torch():
    try:
        an.ones(1, device="torch:cpu")
    except RuntimeError:
        return False
    return True


# ---- code of the user's ----


def test_no_code_is_run_that_is_not_named(tmp_path):
    marker = tmp_path / "ran"
    (tmp_path / "evil_module.py").write_text(f"open({str(marker)!r}, 'w')\nclass Net: pass\n")
    sys.path.insert(0, str(tmp_path))
    try:
        for node in (
            {"code": "evil_module:Net"}, {"code": "os:system", "args": ["touch " + str(marker)]}, {"class": "evil_module.Net"},
            {"class": "..evil_module.Net"}, {"class": "nn.functional.relu"}, {"class": "cli.main"}, {"class": "nn.module.os"},
            {"class": "nn.Sequential", "args": [{"code": "evil_module:Net"}]}, {"class": "nn.ReLU", "args": [{"$function": "train.fit"}]},
            {"class": "nn.ReLU", "args": [{"$function": {"code": "os:system"}}]}, {"class": "nn.ReLU", "args": [{"$type": "cli.main"}]},
        ):  # fmt: skip
            with pytest.raises(DescriptionError):
                build({"format": "anynet-model/1", **node})
    finally:
        sys.path.remove(str(tmp_path))
    assert not marker.exists()
    assert "evil_module" not in sys.modules


def test_how_a_class_is_given(tmp_path):
    description = through_json(describe(Net()))
    assert description["code"] == f"{__name__}:Net"
    with pytest.raises(DescriptionError, match=r"classes=Net .* or trust='file.py'"):
        build(description)
    for classes in (Net, [Net, Block], {"Net": Net}, sys.modules[__name__], Net()):
        assert type(build(description, classes)) is Net
    file = tmp_path / "mine.py"
    file.write_text(
        "from anynet import nn\nclass Net(nn.Module):\n    def __init__(self):\n        self.fc = nn.Linear(2, 2)\n"
    )
    with pytest.warns(UserWarning, match="the source of .*Net is not what it was"):
        build(description, Other)
    found = build({**description, "sha256": None}, trust=file)
    assert found.fc.weight.shape == (2, 2)
    with pytest.raises(FileNotFoundError, match="trust must be the path of a Python file"):
        build(description, trust=tmp_path / "none.py")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        build(description, Net)


class Replaced(nn.Module):
    """In the place of Net."""

    def __init__(self):
        self.fc = nn.Linear(2, 2)


Other = {"Net": Replaced}


# ---- descriptions that are none ----


FORMAT = {"format": "anynet-model/1"}


@pytest.mark.parametrize(
    ("description", "words"),
    [
        ([], "expected a description"), ({}, "expected a description"), ({"format": "anynet-model/9"}, "anynet-model/9"),
        (FORMAT, "a dict with class or code"), ({**FORMAT, "class": 3}, "has no 3"), ({**FORMAT, "class": "nn.Lniear"}, "did you mean"),
        ({**FORMAT, "class": "nn.Linear", "args": 3}, "args must be a list"), ({**FORMAT, "class": "nn.Linear"}, "cannot be made"),
        ({**FORMAT, "class": "nn.Linear", "args": [2, 3], "kwargs": {"nonsense": 1}}, "nonsense"),
        ({**FORMAT, "class": "nn.Linear", "args": [{"$what": 1}, 3]}, "unknown kind of value"),
        ({**FORMAT, "class": "nn.Linear", "args": [{"$dtype": "float7"}, 3]}, "stands for no value"),
        ({**FORMAT, "class": "nn.Linear", "args": [{"$array": {}}, 3]}, "stands for no value"),
        ({**FORMAT, "class": "nn.ReLU", "changes": 3}, "must be a list"),
        ({**FORMAT, "class": "nn.ReLU", "changes": [{"run": 1}]}, "no change 'run'"),
        ({**FORMAT, "class": "nn.ReLU", "changes": [{"set": "a.b", "value": 1}]}, "does not have"),
        ({**FORMAT, "class": "nn.ReLU", "changes": [{"set": "_forward_hooks", "value": 1}]}, "may not set"),
        ({**FORMAT, "class": "nn.ReLU", "changes": [{"tie": 3}]}, "does not fit"),
    ],
)  # fmt: skip
def test_errors(description, words):
    with pytest.raises(DescriptionError, match=words):
        build(description)


def test_nested_too_deeply():
    node = {"class": "nn.ReLU"}
    for _ in range(5000):
        node = {"class": "nn.Sequential", "args": [node]}
    with pytest.raises(DescriptionError, match="nested too deeply"):
        build({**FORMAT, **node})
