"""Tensors, modules, optimizers, schedules and data go through pickle and copy, and come back with the same numbers."""

import copy
import inspect
import io
import pickle

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet.nn import functional as F
from anynet.nn.utils import parametrizations, parametrize
from layer_examples import LAYERS, example

PROTOCOLS = range(2, pickle.HIGHEST_PROTOCOL + 1)


def pickled(value):
    return pickle.loads(pickle.dumps(value))


WAYS = [pickled, copy.deepcopy]


def bits(x):
    if isinstance(x, (nn.UninitializedParameter, nn.UninitializedBuffer)):
        return repr(x)
    a = x.numpy()
    return str(a.dtype), a.shape, a.tobytes()


# ---- tensors ----


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("device", ["cpu", "strict:device1", "torch:cpu"])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "bool", "complex128", "uint8"])
def test_tensors(protocol, device, dtype):
    try:
        x = an.asarray(np.arange(6).reshape(2, 3).astype(dtype), device=device)
    except RuntimeError as error:
        pytest.skip(str(error))
    for part in (x, x.T, x[1, ...], x[0, 0], x[:, :0]):
        y = pickle.loads(pickle.dumps(part, protocol))
        assert type(y) is an.Tensor
        assert bits(y) == bits(part)
        assert (y.device, y.dtype, y.requires_grad) == (part.device, part.dtype, False)
    y = pickled(x)
    y.assign_(x)  # it may be written


def test_short_floats_on_another_backend():
    pytest.importorskip("torch", reason="bfloat16 is torch's")
    for dtype in ("float16", "bfloat16"):
        x = an.astype(an.asarray([1.5, -2.0], device="torch:cpu"), dtype)
        y = pickled(x)
        assert (y.dtype, y.device, y.tolist()) == (x.dtype, x.device, [1.5, -2.0])


@pytest.mark.parametrize("way", [*WAYS, copy.copy])
def test_kinds_of_tensors(way):
    for x in (
        an.asarray([1.0], requires_grad=True), nn.Parameter([1.0]), nn.Parameter([1.0], requires_grad=False),
        nn.Buffer([1.0]), nn.Buffer([1.0], persistent=False), an.asarray([1.0]),
    ):  # fmt: skip
        y = way(x)
        assert y is not x
        assert (type(y), y.requires_grad, y.is_leaf, bits(y)) == (type(x), x.requires_grad, True, bits(x))
        assert getattr(y, "persistent", None) == getattr(x, "persistent", None)


class Named(nn.Parameter):
    """A subclass with attributes of its own."""

    __slots__ = ("__dict__", "unit")


@pytest.mark.parametrize("way", [*WAYS, copy.copy])
def test_subclasses_keep_their_attributes(way):
    x = Named([1.0])
    x.label, x.unit = ["metres"], "m"
    y = way(x)
    assert (type(y), y.label, y.unit, bits(y)) == (Named, ["metres"], "m", bits(x))
    assert (y.label is x.label) == (way is copy.copy)


def test_gradients_as_in_pytorch():
    """deepcopy takes the gradient along, pickle leaves it."""
    x = an.asarray([1.0, 2.0], requires_grad=True)
    an.sum(x * x).backward()
    assert copy.deepcopy(x).grad.tolist() == [2.0, 4.0]
    assert pickled(x).grad is None
    y = copy.copy(x)
    assert y.grad is None
    an.sum(3.0 * y).backward()
    assert (x.grad.tolist(), y.grad.tolist()) == ([2.0, 4.0], [3.0, 3.0])
    y.assign_([5.0, 5.0])
    assert x.tolist() == [5.0, 5.0]  # copy.copy shares the data


@pytest.mark.parametrize(("way", "word"), [(pickle.dumps, "pickled"), (copy.deepcopy, "deep-copied")])
def test_results_of_recorded_operations_are_refused(way, word):
    x = an.asarray([1.0], requires_grad=True)
    with pytest.raises(
        RuntimeError, match=rf"only variables and constants can be {word}; use x.detach\(\) first"
    ):
        way(x * 2.0)
    way((x * 2.0).detach())
    assert copy.copy(x * 2.0).requires_grad  # the same result, under another name


def test_one_object_stays_one_within_a_pickle():
    x = an.asarray([1.0])
    a, b = pickled([x, x])
    assert a is b


def test_buffers_out_of_band():
    """Protocol 5 hands the bytes over without a copy; read-only ones are copied, so that the Tensor can be written."""
    x, buffers = an.ones(100_000), []
    data = pickle.dumps(x, 5, buffer_callback=buffers.append)
    assert len(data) < 1000
    for given in ([bytes(b.raw()) for b in buffers], [bytearray(b.raw()) for b in buffers]):
        y = pickle.loads(data, buffers=given)
        y.assign_(x * 2.0)
        assert y[0].item() == 2.0


def test_a_device_that_is_not_here():
    data = pickle.dumps(an.ones(2)).replace(b"\x8c\x03cpu", b"\x8c\x03xyz")
    with pytest.raises(
        RuntimeError, match=r"pickled Tensor was on 'xyz', which is not here .*; pickle it from the CPU: x.to"
    ):
        pickle.loads(data)


def test_functions():
    for namespace in (an, an.linalg, an.fft, an.special, F, an.losses):
        for name in dir(namespace):
            function = getattr(namespace, name)
            if not name.startswith("_") and callable(function) and not inspect.ismodule(function):
                assert pickled(function) is function
                assert copy.deepcopy(function) is function


# ---- modules ----


def alike(a, b):
    """Whether two attribute values are of the same kind and value."""
    if isinstance(a, an.Tensor):
        return type(a) is type(b) and a is not b and bits(a) == bits(b) and a.requires_grad == b.requires_grad
    if isinstance(a, nn.Module):
        return type(a) is type(b) and alike(vars(a), vars(b))
    if isinstance(a, dict):
        return type(a) is type(b) and list(a) == list(b) and all(alike(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(alike, a, b))
    return type(a) is type(b) and (a == b or not isinstance(a, (int, float, str, bool)))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name, way):
    layer = example(name).eval()
    twin = way(layer)
    assert alike(layer, twin)
    assert repr(twin) == repr(layer)
    assert twin.training is False


def network():
    an.random.manual_seed(1)
    shared = nn.Linear(4, 4)
    return nn.Sequential(
        shared, nn.BatchNorm1d(4), nn.ReLU(), shared, nn.Dropout(0.5),
        parametrizations.weight_norm(nn.Linear(4, 4)), parametrizations.spectral_norm(nn.Linear(4, 4)),
        parametrizations.orthogonal(nn.Linear(4, 4)), nn.utils.weight_norm(nn.Linear(4, 4)), nn.utils.spectral_norm(nn.Linear(4, 4)),
        nn.TransformerEncoderLayer(4, 2, 8, activation=F.gelu, batch_first=True), nn.LazyLinear(2),
    )  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_a_network_of_all_kinds(way):
    net, x = network(), an.asarray(np.linspace(-1, 1, 24).reshape(6, 4).astype("f4"))
    waiting = way(net)  # before the lazy layer knows its size
    an.random.manual_seed(2)
    y = net.eval()(x)
    an.random.manual_seed(2)
    assert bits(waiting.eval()(x)) == bits(y)  # its weights drawn from the same state
    net.train()
    net[1].eval()
    net[0].bias.requires_grad_(False)
    twin = way(net)
    assert bits(twin.eval()(x)) == bits(net.eval()(x))
    assert list(twin.state_dict()) == list(net.state_dict())
    assert twin[0] is twin[3]
    assert [p.requires_grad for p in twin.parameters()] == [p.requires_grad for p in net.parameters()]
    assert [m.training for m in way(network()[:-1]).modules()] == [
        m.training for m in network()[:-1].modules()
    ]
    for p in twin.parameters():
        p.assign_(p * 0.5)
    assert bits(twin(x)) != bits(net(x))  # nothing is shared


def test_modes_of_single_modules_stay():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    net[1].eval()
    assert [m.training for m in pickled(net).modules()] == [True, True, False]


class Halved(nn.Module):
    """A parametrization with an inverse."""

    def forward(self, x):
        return x * 0.5

    def right_inverse(self, x):
        return x * 2.0


class Odd(nn.Linear):
    """A module with a state of its own for pickle."""

    def __getstate__(self):
        return {**self.__dict__, "note": "packed"}


@pytest.mark.parametrize("way", [*WAYS, copy.copy])
def test_parametrized_modules(way):
    layer = parametrize.register_parametrization(Odd(2, 2), "weight", Halved())
    twin = way(layer)
    assert type(twin) is type(layer)
    assert twin.note == "packed"
    assert bits(twin.weight) == bits(layer.weight)
    twin.weight = an.ones((2, 2))
    assert twin.parametrizations.weight.original.tolist() == [[2.0, 2.0], [2.0, 2.0]]
    assert (layer.weight.tolist() == twin.weight.tolist()) == (way is copy.copy)
    parametrize.remove_parametrizations(twin, "weight")
    assert type(twin) is Odd


def test_hooks_go_along():
    net = nn.Linear(2, 2)
    net.register_forward_hook(note)
    assert pickled(net)._forward_hooks == (note,)


def note(module, args, out):
    return out * 2.0


@pytest.mark.parametrize("way", WAYS)
def test_averages(way):
    for multi in (None, optim.swa_utils.get_ema_multi_avg_fn(0.9), optim.swa_utils.get_swa_multi_avg_fn()):
        net = nn.Linear(2, 2)
        average = optim.swa_utils.AveragedModel(net, multi_avg_fn=multi)
        average.update_parameters(net)
        twin = way(average)
        net.weight.assign_(net.weight + 1.0)
        for each in (average, twin):
            each.update_parameters(net)
        assert bits(twin.module.weight) == bits(average.module.weight)


# ---- optimizers and schedules ----


OPTIMIZERS = [
    n
    for n in dir(optim)
    if isinstance(getattr(optim, n), type) and issubclass(getattr(optim, n), optim.Optimizer)
]
OPTIMIZERS.remove("Optimizer")
OPTIMIZERS.remove("ZeroRedundancyOptimizer")

X = np.linspace(-1, 1, 12).reshape(4, 3).astype("f4")


def run(net, optimizer, schedule, steps):
    x = an.asarray(X)

    def closure():
        optimizer.zero_grad()
        loss = an.sum(net(x) ** 2)
        loss.backward()
        for p in net.parameters():
            if type(optimizer) is optim.SparseAdam:  # takes rows alone
                p.grad = an.SparseRows(np.arange(len(p)), p.grad, p.shape)
        return loss

    for _ in range(steps):
        optimizer.step(closure)
        if schedule is not None:
            schedule.step()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_go_on_as_the_original(name, way):
    an.random.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2))
    params = [p for p in net.parameters() if name != "Muon" or p.ndim == 2]
    half = [{"params": params[:1], "lr": 0.01}, {"params": params[1:]}] if name != "LBFGS" else params
    optimizer = getattr(optim, name)(half, lr=0.02)
    schedule = optim.StepLR(optimizer, 2, 0.5)
    if hasattr(optimizer, "train"):
        optimizer.train()
    run(net, optimizer, schedule, 3)
    net2, optimizer2, schedule2 = way((net, optimizer, schedule))
    assert schedule2.optimizer is optimizer2
    assert {id(p) for g in optimizer2.param_groups for p in g["params"]} <= {id(p) for p in net2.parameters()}
    assert [bits(p) for p in net2.parameters()] == [bits(p) for p in net.parameters()]
    run(net, optimizer, schedule, 3)
    run(net2, optimizer2, schedule2, 3)
    assert [bits(p) for p in net2.parameters()] == [bits(p) for p in net.parameters()]
    assert optimizer2.param_groups[0]["lr"] == optimizer.param_groups[0]["lr"]
    assert all(
        p.edge.buffer is not None or name == "SparseAdam" for p in optimizer2.param_groups[0]["params"]
    )  # the vectors are there again


def test_a_divided_optimizer_is_not_copied():
    optimizer = optim.ZeroRedundancyOptimizer([nn.Parameter([1.0, 2.0])], optim.Adam, lr=0.1)
    for way in WAYS:
        with pytest.raises(TypeError, match="cannot be copied or pickled; keep its state_dict"):
            way(optimizer)


def test_an_optimizer_alone_brings_its_parameters():
    p = nn.Parameter([1.0, 2.0])
    optimizer = pickled(optim.Adam([p], lr=0.1))
    (q,) = optimizer.param_groups[0]["params"]
    an.sum(q * q).backward()
    optimizer.step()
    assert p.tolist() == [1.0, 2.0]
    np.testing.assert_allclose(q.numpy(), [0.9, 1.9], rtol=1e-6)


def test_deepcopy_of_an_optimizer_keeps_gradients():
    p = nn.Parameter([1.0])
    optimizer = optim.SGD([p], lr=0.5)
    an.sum(p * 4.0).backward()
    twin = copy.deepcopy(optimizer)
    twin.step()
    (q,) = twin.param_groups[0]["params"]
    assert (p.tolist(), q.tolist()) == ([1.0], [-1.0])


def test_a_shallow_copy_of_an_optimizer_shares_everything():
    p = nn.Parameter([1.0])
    optimizer = optim.SGD([p], lr=0.5, momentum=0.9)
    twin = copy.copy(optimizer)
    an.sum(p * 2.0).backward()
    twin.step()
    assert p.tolist() == [0.0]
    optimizer.step()  # with the momentum of the first
    np.testing.assert_allclose(p.numpy(), [-1.9], rtol=1e-6)


@pytest.mark.parametrize("way", WAYS)
def test_wrappers(way):
    for make in (lambda o: optim.SAM(o), lambda o: optim.MultiSteps(o, every=2)):
        net = nn.Linear(3, 1)
        optimizer = make(optim.Adam(net.parameters()))
        run(net, optimizer, None, 3)
        net2, optimizer2 = way((net, optimizer))
        run(net2, optimizer2, None, 3)
        run(net, optimizer, None, 3)
        if (
            type(optimizer) is optim.SAM or way is copy.deepcopy
        ):  # the gradients that MultiSteps sums are left by pickle
            assert bits(net2.weight) == bits(net.weight)


def schedules():
    one = lambda **k: optim.SGD([nn.Parameter([1.0])], lr=1.0, momentum=0.9, **k)  # noqa: E731
    yield "StepLR", lambda: optim.StepLR(one(), 2)
    yield "MultiStepLR", lambda: optim.MultiStepLR(one(), [1, 3])
    yield "ExponentialLR", lambda: optim.ExponentialLR(one(), 0.9)
    yield "ConstantLR", lambda: optim.ConstantLR(one())
    yield "LinearLR", lambda: optim.LinearLR(one())
    yield "LambdaLR", lambda: optim.LambdaLR(one(), shrink)
    yield "MultiplicativeLR", lambda: optim.MultiplicativeLR(one(), shrink)
    yield "PolynomialLR", lambda: optim.PolynomialLR(one())
    yield "CosineAnnealingLR", lambda: optim.CosineAnnealingLR(one(), 5)
    yield "CosineAnnealingWarmRestarts", lambda: optim.CosineAnnealingWarmRestarts(one(), 3)
    yield "OneCycleLR", lambda: optim.OneCycleLR(one(), 1.0, total_steps=12)
    yield "CyclicLR", lambda: optim.CyclicLR(one(), 0.1, 1.0, step_size_up=3)
    yield "ReduceLROnPlateau", lambda: optim.ReduceLROnPlateau(one(), patience=1)
    yield "SWALR", lambda: optim.swa_utils.SWALR(one(), 0.1)

    def chained(join):
        o = one()
        return join(o, [optim.LinearLR(o), optim.ExponentialLR(o, 0.9)])

    yield "SequentialLR", lambda: chained(lambda o, s: optim.SequentialLR(o, s, [2]))
    yield "ChainedScheduler", lambda: chained(lambda o, s: optim.ChainedScheduler(s))


def shrink(step):
    return 1 / (1 + step)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("name", "make"), list(schedules()))
def test_schedules_go_on_as_the_original(name, make, way):
    schedule, value = make(), ([1.0] if name == "ReduceLROnPlateau" else [])
    for _ in range(3):
        schedule.step(*value)
    twin = way(schedule)
    for each in (schedule, twin):
        for _ in range(4):
            each.step(*value)
    optimizer, other = (getattr(s, "optimizer", None) or s._schedulers[0].optimizer for s in (schedule, twin))
    assert optimizer is not other
    assert optimizer.param_groups[0]["lr"] == other.param_groups[0]["lr"]
    assert optimizer.param_groups[0]["momentum"] == other.param_groups[0]["momentum"]


# ---- data, training, errors ----


@pytest.mark.parametrize("way", WAYS)
def test_data(way):
    data = an.data.TensorDataset(an.asarray(X), np.arange(4))
    parts = an.data.random_split(data, [3, 1])
    loader = an.data.DataLoader(parts[0], 2, shuffle=True, seed=3, prefetch=1)
    batches = iter(loader)
    next(batches)
    batches.close()
    for each in (data, parts[0], loader):
        twin = way(each)
        assert len(twin) == len(each)
    ours, theirs = ([bits(part) for batch in each for part in batch] for each in (way(loader), loader))
    assert ours == theirs


def test_errors_leave_their_layers_behind():
    """So that an error inside a process pool arrives, whatever the network holds."""
    net = nn.Sequential(nn.Linear(3, 2), nn.ReLU())
    net.secret = lambda: None
    for x in (an.ones((2, 5)), "nothing"):
        with pytest.raises((ValueError, TypeError, AttributeError)) as caught:
            net(x)
        again = pickled(caught.value)
        assert type(again) is type(caught.value)
        assert str(again) == str(caught.value)
        assert getattr(again, "__notes__", None) == getattr(caught.value, "__notes__", None)


def test_files_hold_no_pickles(tmp_path):
    stream = io.BytesIO()
    pickle.dump({"w": an.ones(2)}, stream)
    (tmp_path / "w.pt").write_bytes(stream.getvalue())
    with pytest.raises(an.train.CheckpointError, match="it looks like a pickle"):
        an.load(tmp_path / "w.pt")


def test_a_sequential_that_has_been_called_holds_no_code_of_the_library():
    net = nn.Sequential(nn.Linear(2, 3), nn.ReLU())
    y = net(an.ones((1, 2)))
    data = pickle.dumps(net)
    assert b"fused" not in data
    assert pickle.loads(data)(an.ones((1, 2))).tolist() == y.tolist()
