"""What scripts rely on beside the values: kinds of batches, errors that are caught, transforms in each other, distributions."""

from __future__ import annotations

import numpy as np
import pytest

import anynet
import anynet.torch as torch
from anynet.torch.utils.data import DataLoader, TensorDataset, default_collate


def test_batches_of_tuples_are_lists():
    data = TensorDataset(torch.arange(6), torch.arange(6.0))
    for batch in DataLoader(data, batch_size=3):
        assert type(batch) is list
        assert [x.shape for x in batch] == [(3,), (3,)]
    samples = [(1, {"a": (2.0, "x")}), (3, {"a": (4.0, "y")})]
    first, rest = default_collate(samples)
    assert first.tolist() == [1, 3]
    assert type(rest["a"]) is list
    assert next(iter(DataLoader(samples, batch_size=2, collate_fn=tuple))) == tuple(samples)


def test_a_state_that_does_not_fit_is_a_runtime_error():
    net = torch.nn.Linear(2, 2)
    with pytest.raises(RuntimeError, match="missing bias"):
        net.load_state_dict({"weight": torch.ones(2, 2)})


def test_functional_derivatives():
    functional = pytest.importorskip(
        "torch", reason="PyTorch, the oracle, is not installed"
    ).autograd.functional
    import torch as theirs

    def of(room, f):
        x, y = room.tensor([1.0, 2.0]), room.tensor([3.0, -1.0])
        made = (
            f.vjp(lambda a: a**2, x, y), f.jvp(lambda a: a**3, x, y), f.hvp(lambda a: (a**3).sum(), x, y),
            f.vhp(lambda a: (a**4).sum(), x, y),
            f.vjp(lambda a, b: (a * b).sum(), (x, y)), f.hvp(lambda a, b: (a * b * b).sum(), (x, y), (y, x)),
            (f.jacobian(lambda a: a**2, x),),
            (f.hessian(lambda a: (a**3).sum(), x),),
        )  # fmt: skip
        leaves = [
            part
            for parts in made
            for whole in parts
            for part in (whole if isinstance(whole, tuple) else (whole,))
        ]
        return [leaf.numpy() for leaf in leaves]

    from anynet.torch.autograd import functional as ours

    for found, expected in zip(of(torch, ours), of(theirs, functional), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_transforms_in_each_other_keep_the_methods():
    found = torch.func.vmap(torch.func.grad(lambda v: (v**2).sum()))(torch.ones(2, 3))
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == [[2.0] * 3] * 2


def test_stacks_of_scalars_and_of_views():
    x = torch.arange(4.0).requires_grad_()
    y = torch.stack([-v * (i + 1) for i, v in enumerate(x)])
    y.sum().backward()
    assert x.grad.tolist() == [-1.0, -2.0, -3.0, -4.0]
    assert torch.tensor([x.detach()[1], x.detach()[2]]).tolist() == [1.0, 2.0]
    assert torch.stack([torch.ones(2), torch.zeros(2)], dim=-1).tolist() == [[1.0, 0.0]] * 2
    first, *_ = x.detach()
    with pytest.raises(TypeError, match="0-d"):
        list(first)


@pytest.mark.parametrize("given", ["probs", "logits"])
@pytest.mark.parametrize(
    ("batch", "value"), [((), ()), ((2, 3), (2, 3)), ((3,), (4, 3)), ((2, 1), (3,)), ((), (5,))]
)
def test_log_probabilities_of_classes(given, batch, value):
    theirs = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    from anynet.torch import distributions

    draw = np.random.default_rng(0)
    p = draw.uniform(0.1, 1.0, (*batch, 4))
    at, made = draw.integers(0, 4, value), []
    for room, families in ((torch, distributions), (theirs, theirs.distributions)):
        x = room.tensor(p, requires_grad=True)
        y = families.Categorical(**{given: x}).log_prob(room.tensor(at))
        (y * room.arange(float(y.numel())).reshape(y.shape)).sum().backward()
        made.append((y.detach().numpy(), x.grad.numpy()))
    for found, expected in zip(*made, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-12)


def test_what_is_impossible_has_no_gradient():
    p = torch.tensor([0.0, 1.0], requires_grad=True)
    from anynet.torch.distributions import Categorical

    y = Categorical(p).log_prob(torch.tensor([0, 1]))
    assert y.tolist() == [-float("inf"), 0.0]
    y[1].backward()
    assert torch.isfinite(p.grad).all()


def test_results_of_compiled_functions_have_the_methods():
    """Of one that is given tensors of the room, and of one that has them within."""
    p = torch.nn.Parameter(torch.ones(2, 3))
    several = anynet.compile(lambda x: (x * 2, x.detach(), x[0], x, (p * x).detach()))
    one = anynet.compile(lambda x: x * 2)
    for _ in range(3):
        assert [type(y) for y in several(torch.ones(2, 3))] == [torch.Tensor] * 5
        assert one(torch.ones(2, 3)).argmax(dim=1).tolist() == [0, 0]
        assert type(one(anynet.ones((2, 3)))) is anynet.Tensor


@pytest.mark.parametrize("normed", [torch.nn.utils.spectral_norm, torch.nn.utils.weight_norm])
def test_a_weight_that_a_hook_computes_in_a_compiled_step(normed):
    def train(how):
        torch.manual_seed(0)
        net = normed(torch.nn.Linear(3, 2))
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)

        @how
        def step(x):
            optimizer.zero_grad()
            loss = net(x).square().mean()
            loss.backward()
            optimizer.step()
            return loss

        losses = [step(torch.tensor([[k, 1.0, -k]])).item() for k in (1.0, 2.0, -1.0)]
        return losses, net.weight.tolist(), type(net.weight), step

    *found, step = train(anynet.compile)
    assert found == list(train(lambda f: f)[:3])
    assert step.recorded <= 2
