"""Module: what it finds among its attributes, its state, moving it, hooks, texts, and errors that say where."""

import contextlib
import copy
import sys
import weakref

import numpy as np
import pytest

import anynet as an
from anynet.autograd.debug.anomaly import anomaly
from anynet.nn import layer_path

nn = an.nn


class Block(nn.Module):
    def __init__(self, n):
        self.lin = nn.Linear(n, n)
        self.scale = an.Parameter(an.ones(n))
        self.mean = an.Buffer(an.zeros(n))
        self.scratch = an.Buffer(an.zeros(n), persistent=False)
        self.size = n

    def forward(self, x):
        return self.lin(x) * self.scale + self.mean


class Net(nn.Module):
    def __init__(self):
        super().__init__()  # allowed, harmless
        self.first = nn.Linear(4, 3)
        self.blocks = [Block(3), Block(3)]
        self.heads = {"a": nn.Linear(3, 2), "b": (nn.Linear(3, 1),)}
        self.tied = self.first

    def forward(self, x):
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return self.heads["a"](x)


def test_walk_in_the_order_of_definition():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == [
        "first.weight", "first.bias", "blocks.0.scale", "blocks.0.lin.weight", "blocks.0.lin.bias",
        "blocks.1.scale", "blocks.1.lin.weight", "blocks.1.lin.bias", "heads.a.weight", "heads.a.bias",
        "heads.b.0.weight", "heads.b.0.bias",
    ]  # fmt: skip
    assert [n for n, _ in net.named_buffers()] == [
        "blocks.0.mean", "blocks.0.scratch", "blocks.1.mean", "blocks.1.scratch",
    ]  # fmt: skip
    assert [n for n, _ in net.named_children()] == ["first", "blocks.0", "blocks.1", "heads.a", "heads.b.0"]
    assert [n for n, _ in net.named_modules()][:4] == ["", "first", "blocks.0", "blocks.0.lin"]
    assert len(list(net.parameters())) == 12
    assert list(net.parameters(recurse=False)) == []
    assert next(n for n, _ in net.named_parameters(prefix="net")) == "net.first.weight"
    state = net.state_dict()
    assert "tied.weight" in state  # as in PyTorch, a shared tensor stands under each of its names
    assert "blocks.0.mean" in state
    assert "blocks.0.scratch" not in state
    assert net.get_submodule("blocks.1.lin") is net.blocks[1].lin
    assert net.get_parameter("tied.weight") is net.first.weight
    with pytest.raises(AttributeError, match=r"no 'first.wieght'; did you mean 'first.weight'"):
        net.get_parameter("first.wieght")


def test_attributes_set_later_and_removed():
    net = nn.Module()
    net.extra = nn.Linear(2, 2)
    net.register_buffer("count", 3.0)
    net.register_parameter("w", an.Parameter([1.0]))
    net.add_module("more", nn.ReLU())
    assert list(net.state_dict()) == ["w", "count", "extra.weight", "extra.bias"]
    del net.extra
    assert [n for n, _ in net.named_children()] == ["more"]
    with pytest.raises(TypeError, match="must be a Parameter"):
        net.register_parameter("x", an.ones(2))
    with pytest.raises(TypeError, match="must be a Module"):
        net.add_module("x", nn.ReLU)
    with pytest.raises(NotImplementedError, match=r"must define forward"):
        net(1)


# ----- state -----


def test_state_goes_in_place_and_back():
    net, other = Net(), Net()
    before = net.first.weight.data
    x = an.ones((2, 4))
    assert (net(x).numpy() != other(x).numpy()).any()
    assert net.load_state_dict(other.state_dict()) == ([], [])
    assert net.first.weight.data is before  # views of it, such as an optimizer's buffer, see the change
    np.testing.assert_array_equal(net(x).numpy(), other(x).numpy())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("first.bias"), "missing first.bias"),
        (
            lambda s: s.update({"first.biass": s.pop("first.bias")}),
            r"unexpected first.biass \(did you mean first.bias\?\)",
        ),
        (
            lambda s: s.update({"blocks.1.scale": an.ones(7)}),
            r"blocks.1.scale: got shape \(7,\), expected \(3,\)",
        ),
        (
            lambda s: s.update({"first.bias": an.ones(3, dtype=an.complex64)}),
            "got complex64, expected float32",
        ),
    ],
)
def test_a_refused_state_changes_nothing(change, words):
    net = Net()
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    state = {k: v + 1.0 for k, v in net.state_dict().items()}
    change(state)
    with pytest.raises(nn.StateError, match=words):
        net.load_state_dict(state)
    for k, v in net.state_dict().items():
        np.testing.assert_array_equal(v.numpy(), before[k])


def test_not_strict():
    net = nn.Linear(2, 2)
    assert net.load_state_dict({"weight": an.zeros((2, 2)), "other": an.ones(1)}, strict=False) == (
        ["bias"],
        ["other"],
    )
    assert net.weight.tolist() == [[0.0, 0.0], [0.0, 0.0]]
    with pytest.raises(nn.StateError, match="got shape"):
        net.load_state_dict({"weight": an.zeros((3, 2))}, strict=False)


def test_load_converts_dtype_and_device():
    net = nn.Linear(2, 2, device="strict:device1", dtype=an.float64)
    net.load_state_dict({"weight": np.ones((2, 2), dtype=np.float32), "bias": [1.0, 2.0]})
    assert net.weight.dtype == an.float64
    assert net.weight.device == "strict:device1"
    assert net.bias.tolist() == [1.0, 2.0]


# ----- moving, modes -----


def test_to():
    net = Net()
    p, buffer = net.first.weight, net.blocks[0].mean
    an.sum(net(an.ones((2, 4)))).backward()
    assert net.to("strict:device1") is net
    assert net.first.weight is p
    assert p.device == buffer.device == "strict:device1"
    assert p.requires_grad
    net.to(an.float64)
    assert p.dtype == buffer.dtype == an.float64
    y = net(an.ones((2, 4), dtype=an.float64, device="strict:device1"))
    an.sum(y).backward()
    assert p.grad.dtype == an.float64
    assert p.grad.device == "strict:device1"
    assert net.to(device="cpu", dtype="float32").first.weight.dtype == an.float32
    assert net.to("cpu", an.float64, non_blocking=True).first.weight.dtype == an.float64
    assert net.to(an.zeros(1), memory_format=None).first.weight.dtype == an.float32
    with pytest.raises(TypeError, match="must be a floating-point type, got int64"):
        net.to(an.int64)
    with pytest.raises(ValueError, match=r"did you mean|known"):
        net.to("cpuu")
    assert net.double().first.weight.dtype == an.float64
    assert net.float().first.weight.dtype == an.float32


def test_modes_and_gradients():
    net = Net()
    assert net.training
    assert net.eval() is net
    assert not any(m.training for m in net.modules())
    net.train()
    assert all(m.training for m in net.modules())
    an.sum(net(an.ones((2, 4)))).backward()
    assert net.first.weight.grad is not None
    net.zero_grad()
    assert net.first.weight.grad is None
    net.requires_grad_(False)
    assert not net(an.ones((2, 4))).requires_grad
    seen = []
    net.apply(lambda m: seen.append(type(m).__name__))
    assert seen[-1] == "Net"
    assert len(seen) == len(list(net.modules()))


def test_deepcopy_is_independent():
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    new = copy.deepcopy(net)
    with an.no_grad():
        new[0].weight.assign_(0.0)
    assert (net[0].weight.numpy() != 0).all()
    assert [n for n, _ in new.named_parameters()] == ["0.weight", "0.bias"]


def test_no_reference_cycles(no_collector):
    net = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    an.sum(net(an.ones((1, 2)))).backward()
    alive = weakref.ref(net[0].weight)
    del net
    assert alive() is None


# ----- hooks -----


def test_hooks():
    net = nn.Linear(2, 2)
    seen = []
    remove = net.register_forward_hook(lambda m, args, out: seen.append(out.shape))
    again = net.register_forward_hook(lambda m, args, out: out * 0.0)
    before = net.register_forward_pre_hook(lambda m, args: (args[0] * 2.0,))
    assert (net(an.ones((3, 2))).numpy() == 0).all()
    assert seen == [(3, 2)]
    for r in (remove, again, before):
        r()
    assert (net(an.ones((3, 2))).numpy() != 0).all()
    assert len(seen) == 1


# ----- texts -----


def test_repr_and_summary():
    net = nn.Sequential(nn.Linear(4, 3), nn.Dropout(), nn.Linear(3, 2))
    assert repr(net) == (
        "Sequential(\n  (0): Linear(in_features=4, out_features=3, bias=True)\n  (1): Dropout(p=0.5, inplace=False)\n"
        "  (2): Linear(in_features=3, out_features=2, bias=True)\n)"
    )
    net[1].eval()
    state = an.random.get_state()
    lines = net.summary((5, 4)).splitlines()
    assert lines[2].split() == ["0:", "Linear", "(5,", "3)", "15"]
    assert lines[-1] == (
        "total: 23 parameters, 23 of them trained; 92 bytes of parameters and buffers, 160 bytes of outputs"
    )
    assert an.random.get_state() == state
    assert net.training  # every module is back in the mode in which it was
    assert not net[1].training
    assert net.summary(an.ones((1, 4))).splitlines()[1].split()[2:4] == ["(1,", "2)"]
    assert "output" not in net.summary()
    assert net._forward_hooks == ()
    big = nn.Linear(1000, 1000)
    assert "4 MB of parameters" in big.summary()


# ----- errors -----


def test_errors_say_where():
    line = sys._getframe().f_lineno + 1
    net = nn.Sequential(nn.Linear(4, 3), nn.Sequential(nn.Tanh(), nn.Linear(4, 2)))
    with pytest.raises(nn.ShapeError) as caught:
        net(an.ones((5, 4)))
    assert str(caught.value) == (
        "in Sequential.1.1 (Linear 4→2)\n  got (5, 3): last axis 3, expected 4\n"
        f"  came from 0 (Tanh); defined test_module.py:{line}"
    )

    class Broken(nn.Module):
        def forward(self, x):
            raise KeyError("nothing here")

    outer = nn.Sequential(nn.ModuleDict({"a": Broken()})["a"])
    with pytest.raises(KeyError, match="nothing here") as caught:
        outer(1)
    assert caught.value.__notes__ == ["in layer Sequential.0 (Broken)"]
    deep = Net()
    deep.blocks[1].lin = nn.Linear(5, 3)
    with pytest.raises(nn.ShapeError, match=r"^in Net.blocks.1.lin \(Linear 5→3\)"):
        deep(an.ones((5, 4)))


def test_current_layer():
    seen = []

    class Spy(nn.Module):
        def forward(self, x):
            seen.append(layer_path.current_layer())
            return x

    net = nn.Sequential(nn.Identity(), nn.Sequential(Spy()))
    net(1)
    layer_path.watch(True)
    net(1)
    assert seen == ["", "Sequential.1.0"]
    assert layer_path.paths.own == [[]]
    layer_path.watch(False)


# ----- containers -----


def test_sequential():
    a, b, c = nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 1)
    net = nn.Sequential(a, b)
    assert net.append(c) is net
    assert len(net) == 3
    assert net[-1] is c
    assert list(net[1:]) == [b, c]
    assert b in net
    net[1] = nn.Tanh()
    del net[0]
    assert [type(m).__name__ for m in net] == ["Tanh", "Linear"]
    net.insert(0, a)
    net.extend([nn.ReLU()])
    assert [n for n, _ in net.named_parameters()] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    named = nn.Sequential({"in": a, "train": b, "out": c})
    assert list(named.state_dict()) == ["in.weight", "in.bias", "out.weight", "out.bias"]
    assert named.out is c
    assert named.train() is named  # an item does not hide a method
    assert nn.Sequential()(3) == 3
    shared = nn.Sequential(a, a)
    assert len(list(shared.parameters())) == 2
    assert list(shared.state_dict()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    with pytest.raises(TypeError, match="give an instance"):
        nn.Sequential(nn.ReLU)
    with pytest.raises(IndexError, match=r"index must be in \[-4, 4\), got 9"):
        net[9]
    with pytest.raises(TypeError, match="integers or slices"):
        net["0"]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        net.nothing  # noqa: B018


def test_lists_and_dicts():
    layers = nn.ModuleList(nn.Linear(2, 2) for _ in range(2))
    layers.append(nn.ReLU())
    assert [n for n, _ in layers.named_children()] == ["0", "1", "2"]
    heads = nn.ModuleDict({"x": nn.Linear(1, 1)})
    heads["y"] = nn.ReLU()
    assert list(heads) == list(heads.keys()) == ["x", "y"]
    assert "x" in heads
    assert [k for k, _ in heads.items()] == ["x", "y"]
    assert type(heads.pop("y")) is nn.ReLU
    assert len(list(heads.values())) == 1
    with pytest.raises(KeyError, match=r"without '\.'"):
        heads["a.b"] = nn.ReLU()
    with pytest.raises(TypeError, match="items must be modules, got int"):
        heads["z"] = 3
    params = nn.ParameterList([an.ones(2), an.Parameter([1.0])])
    assert [n for n, _ in params.named_parameters()] == ["0", "1"]
    assert params[0].requires_grad
    table = nn.ParameterDict({"w": an.ones(2)})
    assert list(table.state_dict()) == ["w"]
    assert table["w"] is table.w
    assert "Parameter of float32 and shape (2,)" in repr(table)
    heads.clear()
    assert repr(heads) == "ModuleDict()"


def test_state_of_containers_is_pytorchs(tmp_path):
    torch = pytest.importorskip("torch", reason="the state is PyTorch's")
    T = torch.nn
    ours = nn.ModuleDict(
        {"a": nn.ModuleList([nn.Linear(2, 3)]), "b": nn.Sequential(nn.ReLU(), nn.Linear(3, 1))}
    )
    theirs = T.ModuleDict({"a": T.ModuleList([T.Linear(2, 3)]), "b": T.Sequential(T.ReLU(), T.Linear(3, 1))})
    assert list(ours.state_dict()) == list(theirs.state_dict())
    assert ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()}) == ([], [])


def test_anomaly_names_the_layer():
    class Bad(nn.Module):
        def forward(self, x):
            return an.log(x - 5.0)

    net = nn.Sequential(nn.Linear(3, 3), nn.Sequential(Bad()))
    with pytest.raises(ArithmeticError, match=r"in Sequential\.1\.0: log.*NaN"), an.anomaly():
        net(an.ones((2, 3)))
    assert not layer_path.paths


def test_functional_call_is_a_function_of_the_parameters():
    net = an.nn.Sequential(an.nn.Linear(3, 4), an.nn.BatchNorm1d(4), an.nn.Linear(4, 2))
    x = an.asarray(np.random.default_rng(0).normal(size=(5, 3)), dtype=an.float32)
    before = {k: v.numpy().copy() for k, v in net.state_dict().items()}
    given = {k: p.detach() * 2 for k, p in net.named_parameters()}
    twice = copy.deepcopy(net)
    with an.no_grad():
        for p in twice.parameters():
            p.assign_(p * 2)
    assert (an.nn.functional_call(net, given, x, strict=False).numpy() == twice(x).numpy()).all()
    assert {k: v.numpy().tolist() for k, v in net.state_dict().items()} == {
        k: v.tolist() for k, v in before.items()
    }

    loss = lambda weights: an.sum(an.nn.functional_call(net, weights, (x,)) ** 2)  # noqa: E731
    gradients = an.grad(loss)(given)
    an.sum(twice(x) ** 2).backward()
    for name, p in twice.named_parameters():
        assert (gradients[name].numpy() == p.grad.numpy()).all()
    assert all(p.grad is None for p in net.parameters())
    # one network a row: an ensemble
    many = an.vmap(lambda w: an.nn.functional_call(net, {"2.weight": w}, x), in_axes=0)(an.ones((3, 2, 4)))
    assert many.shape == (3, 5, 2)

    statistics = an.zeros(4)
    an.nn.functional_call(net, {"1.running_mean": statistics}, x)
    assert statistics.numpy().any()
    assert not net[1].running_mean.numpy().any()


def test_functional_call_refuses_what_does_not_fit():
    net = an.nn.Linear(3, 2)
    x = an.ones((1, 3))
    for tensors, message in (
        ({"wieght": an.ones((2, 3))}, "did you mean weight"),
        ({"weight": an.ones((3, 2))}, r"got shape \(3, 2\), expected \(2, 3\)"),
    ):
        with pytest.raises(an.nn.StateError, match=message):
            an.nn.functional_call(net, tensors, x)
    with pytest.raises(an.nn.StateError, match="missing bias"):
        an.nn.functional_call(net, {"weight": an.ones((2, 3))}, x, strict=True)
    weight = net.weight.numpy()
    with pytest.raises(an.nn.ShapeError):
        an.nn.functional_call(net, {"weight": an.ones((2, 3))}, an.ones((1, 4)))
    assert (net.weight.numpy() == weight).all()

    tied = an.nn.Sequential(an.nn.Linear(2, 2, bias=False), an.nn.Linear(2, 2, bias=False))
    tied[1].weight = tied[0].weight
    x = an.asarray([[1.0, 2.0]])
    eye = an.eye(2)
    assert an.nn.functional_call(tied, {"1.weight": eye * 2}, x).numpy().tolist() == [[4.0, 8.0]]
    with pytest.raises(an.nn.StateError, match="other names without a value"):
        an.nn.functional_call(tied, {"1.weight": eye}, x, tie_weights=False)
    with pytest.raises(an.nn.StateError, match="one Tensor and got two values"):
        an.nn.functional_call(tied, {"0.weight": eye * 1, "1.weight": eye * 2}, x)


def test_conversions_and_places_of_pytorch():
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    assert net.half()[0].weight.dtype.name == "float16"
    assert net.type("float64")[0].weight.dtype == an.float64
    assert net.float().cpu()[1].running_mean.device == "cpu"
    assert net.get_buffer("1.running_var").shape == (3,)
    with pytest.raises(AttributeError, match=r"did you mean '1\.running_var'"):
        net.get_buffer("1.runing_var")
    net.set_submodule("1", nn.ReLU())
    assert isinstance(net[1], nn.ReLU)
    holder = nn.Module()
    holder.parts, holder.named = [nn.ReLU()], {"a": nn.ReLU()}
    holder.set_submodule("parts.0", nn.Tanh())
    holder.set_submodule("named.a", nn.Sequential(nn.ReLU()))
    holder.set_submodule("named.a.0", nn.Tanh(), strict=True)
    holder.set_submodule("new", nn.Tanh())
    assert isinstance(holder.parts[0], nn.Tanh)
    assert isinstance(holder.named["a"][0], nn.Tanh)
    assert isinstance(holder.new, nn.Tanh)
    with pytest.raises(AttributeError, match="has no 'absent'"):
        holder.set_submodule("absent", nn.Tanh(), strict=True)
    with pytest.raises(TypeError, match="must be a Module"):
        holder.set_submodule("new", 3)
    net = nn.Linear(2, 1)
    an.sum(net(an.ones((1, 2)))).backward()
    net.zero_grad(set_to_none=False)
    assert net.weight.grad.tolist() == [[0.0, 0.0]]
    net.zero_grad()
    assert net.weight.grad is None


def test_containers_as_lists_and_dicts():
    net = nn.Sequential(nn.ReLU(), nn.Tanh(), nn.ELU())
    assert isinstance(net.pop(1), nn.Tanh)
    assert isinstance(net.pop(), nn.ELU)
    assert next(iter(net.named_children()))[0] == "0"
    with pytest.raises(IndexError):
        net.pop(5)
    values = nn.ParameterDict({"a": an.ones(1)})
    assert values.get("b") is None
    assert values.setdefault("b", an.zeros(2)).shape == (2,)
    assert values.setdefault("a", an.zeros(2)).shape == (1,)
    twin = values.copy()
    assert twin["a"] is values["a"]
    assert values.popitem()[0] == "b"
    assert (len(values), len(twin)) == (1, 2)


def test_the_path_of_layers_is_that_of_a_thread(while_another):
    """Anomaly mode in one thread sees the layers that run in it, and no others."""
    inner = an.nn.Sequential(an.nn.Tanh())
    seen = []

    class Seeing(an.nn.Module):
        def forward(self, x):
            seen.append(layer_path.current_layer())
            with while_another(calling()):
                seen.append(layer_path.current_layer())
            return x

    @contextlib.contextmanager
    def calling():
        with anomaly():
            inner(an.ones((2,)))
            assert layer_path.current_layer() == ""
            yield

    with anomaly():
        an.nn.Sequential(Seeing())(an.ones((2,)))
    Seeing()(an.ones((2,)))
    assert seen == ["Sequential.0", "Sequential.0", "", ""]


def test_a_class_made_where_there_is_no_module():
    made: dict = {"nn": nn}
    lines = (
        "class Twice(nn.Module):",
        "    def __init__(self, n):",
        "        self.inner = nn.Linear(n, n)",
        "    def forward(self, x):",
        "        return 2 * self.inner(x)",
    )
    exec("\n".join(lines), {"nn": nn, "__builtins__": __builtins__}, made)
    assert made["Twice"](3)(an.ones((1, 3))).shape == (1, 3)
    with pytest.raises(TypeError, match="n"):
        made["Twice"](m=3)
