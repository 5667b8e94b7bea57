"""What scripts override, ask for and write of PyTorch's own: methods of Module, arguments of functions, states of optimizers, types."""

import math

import numpy as np
import pytest

import anynet.torch as torch
import anynet.torchvision as torchvision
from anynet.torch import nn


class Old(nn.Module):
    """A module whose states once had other names, and that keeps a tensor of its own."""

    def __init__(self):
        super().__init__()
        self.l = nn.Linear(2, 2)
        self.register_buffer("b", torch.zeros(2))
        self.stride = torch.ones(3)

    def _load_from_state_dict(self, state_dict, prefix, *args):
        state_dict.pop(f"{prefix}old", None)
        if f"{prefix}bb" in state_dict:
            state_dict[f"{prefix}b"] = state_dict.pop(f"{prefix}bb")
        super()._load_from_state_dict(state_dict, prefix, *args)

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}more"] = torch.ones(1)

    def _apply(self, fn):
        self = super()._apply(fn)
        self.stride = fn(self.stride)
        return self


def test_overrides_of_module_are_called():
    net = nn.Sequential(Old(), Old())
    state = net.state_dict()
    assert {"0.more", "1.more"} < set(state)
    state = {k: v for k, v in state.items() if not k.endswith("more")}
    state["0.old"] = torch.ones(2)
    state["1.bb"] = state.pop("1.b") + 3
    assert net.load_state_dict(state) == ([], [])
    assert net[1].b.tolist() == [3.0, 3.0]
    net.double()
    assert net[0].stride.dtype is torch.float64
    assert net[0].l.weight.dtype is torch.float64
    before = net[0].l.weight.detach().clone()
    net._apply(lambda t: t * 2)
    assert torch.equal(net[0].l.weight, 2 * before)


def test_a_module_cannot_load_by_itself():
    class Alone(nn.Linear):
        def _load_from_state_dict(self, *args):
            pass

    net = Alone(2, 2)
    with pytest.raises(NotImplementedError, match="must call super"):
        net.load_state_dict(net.state_dict())


def test_older_hooks_of_states():
    net = nn.Linear(2, 1)
    seen = []
    net._register_load_state_dict_pre_hook(lambda state, prefix, *_: seen.append((sorted(state), prefix)))
    net._register_state_dict_hook(lambda module, state, prefix, _: state.pop("bias") and None)
    state = net.state_dict()
    assert list(state) == ["weight"]
    net.load_state_dict(state, strict=False)
    assert seen == [(["weight"], "")]


def test_methods_without_a_meaning_say_so():
    net = nn.Linear(2, 1)
    with pytest.raises(NotImplementedError, match="not shared between processes"):
        net.share_memory()
    with pytest.raises(NotImplementedError, match="share_memory_: tensors are not shared between processes"):
        torch.ones(2).share_memory_()
    assert not torch.ones(2).is_shared()
    with pytest.raises(NotImplementedError, match="register_full_backward_hook"):
        net.register_backward_hook(lambda *_: None)

    class Net(nn.Module):
        def forward(self, x):
            return x

    Net().compile()
    assert not hasattr(net, "compile")
    assert net._get_name() == "Linear"
    assert net.to_empty(device="cpu").weight.shape == (1, 2)


def test_a_module_with_an_attribute_inplace_keeps_its_input():
    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            self.inplace = True

        def forward(self, x):
            return [x * 2]

    x = torch.ones(2)
    assert Head()(x)[0].tolist() == [2.0, 2.0]
    assert x.tolist() == [1.0, 1.0]
    nn.ReLU(inplace=True)(y := torch.tensor([-1.0]))
    assert y.item() == 0.0


def test_errors_of_own_modules_are_their_own():
    class Net(nn.Module):
        def forward(self, xs):
            return xs[0].no_such_method()

    with pytest.raises(AttributeError, match="no_such_method"):
        Net()([torch.ones(1)])
    with pytest.raises(TypeError, match="the input must be a Tensor or an array, got list"):
        nn.Linear(2, 1)([1.0, 2.0])


def test_writes_outside_of_recording_into_results():
    w = torch.ones(3, requires_grad=True)
    y = w * 2
    view = y[1:]
    with torch.no_grad():
        view.add_(5)
        y[0] = 7.0
    y.data[2] = 1.0
    (y * y).sum().backward()
    assert y.tolist() == [7.0, 7.0, 1.0]
    assert w.grad.tolist() == [28.0, 28.0, 4.0]
    (w * 0 + 1).data.masked_fill_(torch.tensor([True, False, True]), 4.0)
    z = w * 3
    z.data = torch.tensor([1.0, 2.0, 3.0])
    (g,) = torch.autograd.grad((z**2).sum(), w)
    assert g.tolist() == [6.0, 12.0, 18.0]


def test_a_function_writes_into_its_argument():
    class Dirty(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            ctx.mark_dirty(x)
            return x.mul_(3)

        @staticmethod
        def backward(ctx, g):
            return g * 10

    class Unmarked(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x, at):
            x.data[at] = 5.0
            x -= 1
            return x * 2

        @staticmethod
        def backward(ctx, g):
            return g * 10, None

    w = torch.ones(3, requires_grad=True)
    y = w * 2
    assert Dirty.apply(y) is y
    (y * y).sum().backward()
    assert y.tolist() == [6.0] * 3
    assert w.grad.tolist() == [240.0] * 3
    w = torch.ones(3, requires_grad=True)
    y = w * 2
    z = Unmarked.apply(y, 1)
    (z * y).sum().backward()
    assert y.tolist() == [1.0, 4.0, 1.0]
    assert z.tolist() == [2.0, 8.0, 2.0]
    assert w.grad.tolist() == [2 * (10 + 2), 2 * (40 + 8), 2 * (10 + 2)]


def test_the_last_of_values_for_one_index_stays():
    x = torch.zeros(4, 2)
    x[torch.tensor([1, 3, 1, 3, 0])] = torch.arange(10.0).view(5, 2)
    assert x.tolist() == [[8.0, 9.0], [4.0, 5.0], [0.0, 0.0], [6.0, 7.0]]
    x[torch.tensor([0, 1, 0]), torch.tensor([1, 1, 1])] = torch.tensor([1.0, 2.0, 3.0])
    assert x[:, 1].tolist() == [3.0, 2.0, 0.0, 7.0]
    with pytest.raises(IndexError, match="has no gradient for value"):
        x[torch.tensor([0, 0])] = torch.ones(2, 2, requires_grad=True)


def test_strides():
    x = torch.arange(24.0).view(2, 3, 4)
    assert x.stride() == (12, 4, 1)
    assert x.permute(2, 0, 1)[1:].stride() == (1, 12, 4)
    assert x.permute(2, 0, 1)[1:].storage_offset() == 1
    assert x.expand(5, 2, 3, 4).stride() == (0, 12, 4, 1)
    assert not x.transpose(0, 1).is_contiguous()
    assert x.transpose(0, 1).contiguous().is_contiguous()
    picture = torch.zeros(2, 3, 4, 4)
    assert not picture.is_contiguous(memory_format=torch.channels_last)
    there = picture.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)
    assert there.is_contiguous(memory_format=torch.channels_last)
    assert isinstance(torch.channels_last, torch.memory_format)
    assert torch.zeros(0, 3).stride() == (3, 1)


def test_as_strided_is_a_view():
    x = torch.arange(10.0)
    windows = x.as_strided((4, 3), (2, 1))
    apart = x.as_strided((3,), (3,), 1)
    apart.add_(100)
    assert x[[1, 4, 7]].tolist() == [101.0, 104.0, 107.0]
    assert windows[:, 1].tolist() == [101.0, 3.0, 5.0, 107.0]
    with pytest.raises(RuntimeError, match="more than once"):
        windows.add_(1)
    with pytest.raises(RuntimeError, match="element 11 is out of bounds for memory of 10 elements"):
        x.as_strided((4, 3), (3, 1))
    w = torch.ones(6, requires_grad=True)
    (w.as_strided((3, 2), (2, 1)) * w.detach().as_strided((3, 2), (1, 1))).sum().backward()
    assert w.grad.tolist() == [1.0] * 6


def test_resize():
    x = torch.arange(6.0)
    assert x.resize_(2, 2).tolist() == [[0.0, 1.0], [2.0, 3.0]]
    assert x.resize_((5,)).shape == (5,)
    assert x.resize_as_(torch.zeros(1, 3)).tolist() == [[0.0, 1.0, 2.0]]
    view = x[0]
    with pytest.raises(RuntimeError, match="share its memory"):
        view.resize_(2)
    with pytest.raises(RuntimeError, match="must not require a gradient"):
        torch.ones(2, requires_grad=True).resize_(1)


def test_types_of_tensors():
    x = torch.ones(2)
    assert isinstance(x, torch.FloatTensor)
    assert not isinstance(x, (torch.LongTensor, torch.cuda.FloatTensor))
    assert isinstance(torch.LongTensor([1]), torch.LongTensor)
    assert x.type(torch.DoubleTensor).type() == "torch.DoubleTensor"
    assert x.type("torch.HalfTensor").dtype is torch.float16
    if not torch.cuda.is_available():
        for make in (lambda: torch.cuda.FloatTensor(2), lambda: x.type("torch.cuda.FloatTensor")):
            with pytest.raises(RuntimeError, match=r"CuPy|CUDA"):
                make()


def test_streams_and_events():
    stream, first, last = torch.cuda.Stream("cpu"), *(torch.cuda.Event(enable_timing=True) for _ in range(2))
    with torch.cuda.stream(stream):
        first.record()
        last.record(stream)
    stream.wait_stream(torch.cuda.current_stream())
    assert 0 <= first.elapsed_time(last) < 1e5
    assert stream.query()
    assert last.query()
    with pytest.raises(ValueError, match="enable_timing=True and recorded"):
        first.elapsed_time(torch.cuda.Event(enable_timing=True))


def test_states_of_optimizers():
    p = nn.Parameter(torch.tensor([1.0, 2.0]))
    optimizer = torch.optim.Adam([p], lr=0.1)
    assert not optimizer.state
    (p**2).sum().backward()
    optimizer.step()
    state = optimizer.state[p]
    assert sorted(state) == ["exp_avg", "exp_avg_sq", "step"]
    np.testing.assert_allclose(state["exp_avg"].numpy(), [0.2, 0.4], rtol=1e-6)
    with pytest.raises(TypeError):
        state["step"] = 0

    class Shared(torch.optim.Adam):
        def __init__(self, params, lr):
            super().__init__(params, lr=lr)
            for q in self.param_groups[0]["params"]:
                self.state[q]["step"] = torch.zeros(1)

        def step(self, closure=None):
            for q in self.param_groups[0]["params"]:
                self.state[q]["step"] += 1
                q.data.add_(q.grad, alpha=-self.param_groups[0]["lr"])

    q = nn.Parameter(torch.tensor([1.0]))
    own = Shared([q], 0.5)
    for _ in range(2):
        own.zero_grad()
        (3 * q).sum().backward()
        own.step()
    assert own.state[q]["step"].item() == 2
    assert q.item() == 1.0 - 2 * 0.5 * 3


def test_names_that_files_import_and_do_not_use():
    from anynet.torch.fx import Graph, GraphModule
    from anynet.torch.fx.node import Node
    from anynet.torch.profiler import ProfilerActivity, profile
    from anynet.torch.utils.checkpoint import get_device_states, set_device_states
    from anynet.torchvision.datasets import CIFAR100
    from anynet.torchvision.models import ResNet18_Weights, resnet18
    from anynet.torchvision.models.resnet import BasicBlock, ResNet

    assert not isinstance(nn.Linear(1, 1), GraphModule)
    for make in (
        Graph,
        Node,
        lambda: torch.fx.symbolic_trace(None),
        lambda: profile(activities=[ProfilerActivity.CPU]),
    ):
        with pytest.raises(NotImplementedError, match="is not offered: PyTorch's own runtime"):
            make()
    with pytest.raises(NotImplementedError, match=r"datasets\.CIFAR100 is not here; there are CIFAR10"):
        CIFAR100("data", train=True)
    with pytest.raises(NotImplementedError, match="weights must be None"):
        resnet18(weights=ResNet18_Weights.DEFAULT)
    with pytest.raises(AttributeError, match="has no attribute 'NoSuch'"):
        torchvision.datasets.NoSuch  # noqa: B018 - looked up
    assert isinstance(resnet18(num_classes=2), ResNet)
    assert isinstance(resnet18(num_classes=2).layer1[0], BasicBlock)
    assert torch._C._log_api_usage_once("name") is None
    assert get_device_states(torch.ones(1)) == ([], [])
    assert set_device_states([], []) is None
    assert torchvision._is_tracing() is False
    assert issubclass(torch.utils.data.Sampler[int].__origin__, torch.utils.data.Sampler)


def test_residual_networks_with_options():
    net = torchvision.models.resnet50(
        num_classes=3,
        replace_stride_with_dilation=[False, True, True],
        norm_layer=torchvision.ops.FrozenBatchNorm2d,
    )
    body = torchvision.models._utils.IntermediateLayerGetter(net, {"layer2": "a", "layer4": "b"})
    with torch.no_grad():
        y = body(torch.ones(1, 3, 64, 64))
    assert [(k, tuple(v.shape)) for k, v in y.items()] == [("a", (1, 512, 8, 8)), ("b", (1, 2048, 8, 8))]
    assert net.layer4[1].conv2.dilation == (4, 4)
    with pytest.raises(ValueError, match="the model has no layer layer9"):
        torchvision.models._utils.IntermediateLayerGetter(net, {"layer9": "a"})
    with pytest.raises(ValueError, match="None or three values"):
        torchvision.models.resnet18(replace_stride_with_dilation=[True])


def test_gradcheck_of_this_rooms_tensors():
    x = torch.randn(3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda a: (a.sin() * a, a.exp()), (x,))
    assert torch.autograd.gradgradcheck(lambda a: a.sin() * a, (x,))


def test_a_name_that_scripts_misspell():
    x = torch.ones(2)
    assert not hasattr(x, "require_grad")
    x.require_grad = False
    assert x.require_grad is False
    assert not hasattr(x + 1, "require_grad")
    kept = torch.Tensor.__dict__["require_grad"].kept
    assert id(x) in kept
    number = id(x)
    del x
    assert number not in kept
    nn.Parameter(torch.ones(1)).require_grad = True


def test_hardsigmoid_in_double_precision():
    """Its slope is 1/6 to the last bit; PyTorch's is that of float32, 2⁻²⁵ off."""
    x = torch.tensor([0.5], dtype=torch.float64, requires_grad=True)
    nn.functional.hardsigmoid(x).sum().backward()
    assert math.isclose(x.grad.item(), 1 / 6, rel_tol=1e-15)


def test_arguments_of_states():
    net = nn.Sequential(nn.Linear(2, 1), nn.BatchNorm1d(1))
    kept = net.state_dict(keep_vars=True)
    assert kept["0.weight"] is net[0].weight
    assert kept["1.running_mean"] is net[1].running_mean
    assert net.state_dict(prefix="a.", keep_vars=True)["a.0.bias"] is net[0].bias
    there = {"more": 1}
    assert net.state_dict(destination=there, prefix="b.") is there
    assert set(there) == {"more", *(f"b.{name}" for name in net.state_dict())}
    state = {k: v + 1 for k, v in net.state_dict().items()}
    net.load_state_dict(state_dict=state, assign=True)
    assert torch.equal(net[0].weight, state["0.weight"])
    state["0.weight"] = state["0.weight"].double()
    with pytest.raises(NotImplementedError, match=r"which they are not of 0\.weight"):
        net.load_state_dict(state, assign=True)


def test_the_state_of_a_scaler():
    scaler = torch.amp.GradScaler(
        "cpu", init_scale=8.0, growth_factor=4.0, backoff_factor=0.25, growth_interval=3
    )
    state = scaler.state_dict()
    assert state == {
        "scale": 8.0, "growth_factor": 4.0, "backoff_factor": 0.25, "growth_interval": 3, "_growth_tracker": 0,
    }  # fmt: skip
    other = torch.amp.GradScaler("cpu")
    other.load_state_dict(state)
    assert other.state_dict() == state
    assert torch.amp.GradScaler("cpu", enabled=False).state_dict() == {}


def test_arguments_of_checkpoints():
    from anynet.torch.utils.checkpoint import checkpoint, checkpoint_sequential

    net = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.5), nn.Linear(2, 1))
    x = torch.ones(8, 2, requires_grad=True)
    y = checkpoint(net, x, use_reentrant=True, preserve_rng_state=False, determinism_check="none")
    y.sum().backward()
    assert x.grad.shape == (8, 2)
    assert checkpoint_sequential(net.eval(), 2, x, use_reentrant=False, preserve_rng_state=True).shape == (
        8,
        1,
    )
    with pytest.raises(NotImplementedError, match="context_fn must be None"):
        checkpoint(net, x, context_fn=lambda: None)


class Standardized(nn.Conv2d):
    """Weights of mean 0 and variance 1, as in Big Transfer."""

    def forward(self, x):
        w = self.weight
        w = (w - w.mean((1, 2, 3), keepdim=True)) / w.var((1, 2, 3), keepdim=True).add(1e-5).sqrt()
        return self._conv_forward(x, w, self.bias)


@pytest.mark.parametrize("mode", ["zeros", "reflect"])
def test_a_convolution_with_a_weight_of_its_own(mode):
    conv = Standardized(2, 3, 3, stride=2, padding=1, padding_mode=mode)
    x = torch.arange(72.0).view(1, 2, 6, 6)
    found = conv(x)
    w = conv.weight
    w = (w - w.mean((1, 2, 3), keepdim=True)) / w.var((1, 2, 3), keepdim=True).add(1e-5).sqrt()
    padded = nn.functional.pad(x, (1, 1, 1, 1), mode="constant" if mode == "zeros" else mode)
    np.testing.assert_allclose(
        found.detach().numpy(),
        nn.functional.conv2d(padded, w, conv.bias, stride=2).detach().numpy(),
        rtol=1e-5,
    )


def test_complex_draws():
    z = torch.randn(20_000, dtype=torch.complex64)
    assert z.dtype is torch.complex64
    assert abs(z.abs().square().mean().item() - 1) < 0.05
    assert abs((z * z).mean().item()) < 0.05
    u = torch.rand(1000, dtype=torch.complex128)
    assert u.dtype is torch.complex128
    for part in (u.real, u.imag):
        assert 0 <= part.min().item() < 0.05 < 0.95 < part.max().item() < 1


def test_states_of_several_networks():
    nets = [nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2)).eval() for _ in range(4)]
    params, buffers = torch.func.stack_module_state(nets)
    assert params["0.weight"].shape == (4, 2, 3)
    assert params["0.weight"].requires_grad
    assert buffers["1.running_mean"].shape == (4, 2)
    assert not buffers["1.running_mean"].requires_grad
    x = torch.arange(6.0).view(2, 3)
    found = torch.func.vmap(lambda p, b: torch.func.functional_call(nets[0], (p, b), (x,)))(params, buffers)
    for y, net in zip(found, nets, strict=True):
        np.testing.assert_allclose(y.detach().numpy(), net(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    with pytest.raises(RuntimeError, match="at least one"):
        torch.func.stack_module_state([])
