"""Paths of PyTorch that scripts import: distributions, samplers of several processes, the runtime's."""

import math

import pytest

import anynet as an
import anynet.torch as torch


def test_distributions_give_tensors_of_the_room():
    from anynet.torch import distributions as D  # noqa: N812 - as it is imported
    from anynet.torch.distributions.log_normal import LogNormal
    from anynet.torch.distributions.normal import Normal

    assert torch.distributions is D
    assert D.Normal is Normal
    assert issubclass(LogNormal, an.distributions.LogNormal)
    p = D.Normal(0.0, 1.0)
    for x in (p.loc, p.mean, p.sample((2,)), p.rsample(), p.log_prob(0.5), p.entropy(), p.cdf(0.5)):
        assert isinstance(x, torch.Tensor)
    assert p.sample((2, 3)).view(3, 2).size() == torch.Size([3, 2])
    assert isinstance(p.batch_shape, torch.Size)
    assert isinstance(D.Categorical(torch.tensor([0.2, 0.8])).sample().item(), int)
    assert math.isclose(D.kl_divergence(p, D.Normal(1.0, 1.0)).item(), 0.5, rel_tol=1e-6)
    assert D.kl_divergence(an.distributions.Normal(0.0, 1.0), p).item() == 0.0
    both = D.Independent(D.Normal(torch.zeros(3), torch.ones(3)), 1)
    assert both.log_prob(torch.zeros(3)).view(1).shape == torch.Size([1])
    moved = D.TransformedDistribution(p, [D.transforms.AffineTransform(1.0, 2.0)])
    assert math.isclose(moved.log_prob(1.0).item(), -0.5 * math.log(2 * math.pi) - math.log(2), rel_tol=1e-6)


def test_gradients_reach_the_parameters_of_a_distribution():
    mean = torch.tensor([0.5, -1.0], requires_grad=True)
    from anynet.torch.distributions import Normal

    (-Normal(mean, 1.0).log_prob(torch.tensor([1.0, 1.0])).sum()).backward()
    assert mean.grad.tolist() == [-0.5, -2.0]


def test_each_process_has_its_samples():
    from anynet.torch.utils.data.distributed import DistributedSampler

    parts = [DistributedSampler(range(5), 2, rank, shuffle=False) for rank in (0, 1)]
    assert [list(p) for p in parts] == [[0, 2, 4], [1, 3, 0]]
    assert [list(DistributedSampler(range(5), 2, r, False, drop_last=True)) for r in (0, 1)] == [
        [0, 2],
        [1, 3],
    ]
    one, other = (DistributedSampler(range(40), 2, rank, seed=3) for rank in (0, 1))
    first = list(one)
    assert sorted(first + list(other)) == list(range(40))
    one.set_epoch(1)
    assert len(one) == 20
    assert list(one) != first
    with pytest.raises(ValueError, match="init_process_group"):
        DistributedSampler(range(3))
    with pytest.raises(ValueError, match=r"rank must be in \[0, 2\), got 2"):
        DistributedSampler(range(5), 2, 2)


def test_the_runtime_can_be_imported():
    import anynet.torch.jit
    import anynet.torch.multiprocessing as mp
    import anynet.torch.profiler
    from anynet.torch.utils._pytree import tree_map

    @anynet.torch.jit.script
    def double(x):
        return x * 2

    assert double(torch.ones(2)).tolist() == [2.0, 2.0]
    assert anynet.torch.jit.trace(double, torch.ones(1)) is double
    assert not anynet.torch.jit.is_scripting()
    with anynet.torch.profiler.record_function("name"):
        assert mp.cpu_count() > 0
    assert tree_map(lambda v: v + 1, {"a": [1, (2,)]}) == {"a": [2, (3,)]}
    with pytest.raises(AttributeError, match=r"torch.jit' has no attribute 'fork': PyTorch's own runtime"):
        anynet.torch.jit.fork(double)


def test_onnx_export(tmp_path):
    onnx = pytest.importorskip("onnx", reason="needs onnx of the extra onnx")
    net = torch.nn.Linear(3, 2)
    torch.onnx.export(
        net, torch.ones(1, 3), tmp_path / "x.onnx", input_names=["data"], dynamic_axes={"data": {0: "n"}}
    )
    assert [i.name for i in onnx.load(tmp_path / "x.onnx").graph.input] == ["data"]
    with pytest.raises(ValueError, match="f must name a file"):
        torch.onnx.export(net, torch.ones(1, 3))


def test_a_device_is_printed():
    assert repr(torch.device("cpu")) == "device(type='cpu')"
    assert repr(torch.device("cuda:1")) == "device(type='cuda', index=1)"
    assert type(torch.device("cpu").type) is str


def test_the_dictionaries_of_members_can_be_written():
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self._modules["a"] = torch.nn.Linear(1, 2)
            self._parameters["p"] = torch.nn.Parameter(torch.ones(2))
            self._buffers["b"] = torch.ones(1)

    net = Net()
    assert list(net.state_dict()) == ["p", "b", "a.weight", "a.bias"]
    assert list(net._parameters) == ["p"]
    assert list(net.a._parameters) == ["weight", "bias"]
    assert net._modules.pop("a") is not None
    assert net._modules.pop("a", 3) == 3
    del net._parameters["p"]
    assert list(net.state_dict()) == ["b"]
    rnn = torch.nn.LSTM(1, 2, 1, bidirectional=True)
    ends = ("l0", "l0_reverse")
    assert rnn._all_weights == [
        [f"{kind}_{end}" for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")] for end in ends
    ]
