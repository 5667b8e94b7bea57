"""Optimizers that a script defines as for PyTorch, with ``self.state``: the numbers, states and schedules are those of PyTorch."""

import copy
import importlib
import pickle

import numpy as np
import pytest

import anynet as an
import anynet.torch as ours

theirs = pytest.importorskip("torch")
BOTH = [ours, theirs]


def rectified(torch):
    """An optimizer with a state of its own, of the kind that public code has; names of its methods are hooks of anynet's."""

    class Rectified(torch.optim.Optimizer):
        def __init__(self, params, lr=1e-2, betas=(0.9, 0.99)):
            super().__init__(params, {"lr": lr, "betas": betas})
            for group in self.param_groups:
                for p in group["params"]:
                    p.began = True  # an attribute of a parameter

        def init_state(self, state, p):
            state["step"] = 0
            state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p.data)

        def update(self, group, p, state):
            state["step"] += 1
            a, b = group["betas"]
            state["mean"].mul_(a).add_(p.grad, alpha=1 - a)
            state["square"].mul_(b).addcmul_(p.grad, p.grad, value=1 - b)
            p.data.addcdiv_(state["mean"], state["square"].sqrt().add_(1e-8), value=-group["lr"])

        @torch.no_grad()
        def step(self, closure=None):
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            for group in self.param_groups:
                for p in (p for p in group["params"] if p.grad is not None):
                    if len(self.state[p]) == 0:
                        self.init_state(self.state[p], p)
                    self.update(group, p, self.state[p])
            return loss

    return Rectified


def network(torch):
    net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.Tanh(), torch.nn.Linear(3, 2)).double()
    with torch.no_grad():
        for i, p in enumerate(net.parameters()):
            p.copy_(torch.tensor(np.random.default_rng(i).normal(size=tuple(p.shape))))
    return net


def trained(torch):
    """Losses with a schedule; then a new optimizer goes on from the state, and a copy of that."""
    net, x = network(torch), torch.tensor(np.random.default_rng(9).normal(size=(5, 4)))
    groups = [{"params": net[0].parameters()}, {"params": net[2].parameters(), "lr": 3e-2}]
    optimizer = rectified(torch)(groups)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 0.9**epoch)
    losses = []

    def closure():
        optimizer.zero_grad()
        loss = net(x).pow(2).mean()
        loss.backward()
        return loss

    for _ in range(4):
        losses.append(optimizer.step(closure).item())
        schedule.step()
    state = optimizer.state_dict()
    assert [g["params"] for g in state["param_groups"]] == [[0, 1], [2, 3]]
    assert set(state["state"][0]) == {"step", "mean", "square"}
    optimizer = rectified(torch)([{"params": net[0].parameters()}, {"params": net[2].parameters()}])
    optimizer.load_state_dict(copy.deepcopy(state))
    losses += [optimizer.step(closure).item() for _ in range(3)]
    assert len(pickle.loads(pickle.dumps(optimizer.state_dict()))["param_groups"]) == 2
    return losses


def test_an_optimizer_of_a_script_trains_as_with_pytorch():
    np.testing.assert_allclose(trained(ours), trained(theirs), rtol=1e-12)


def test_it_is_an_optimizer_of_anynet():
    import anynet as an

    net = network(ours)
    optimizer = rectified(ours)(net.parameters())
    assert isinstance(optimizer, an.optim.Optimizer)
    assert isinstance(an.optim.SGD(net.parameters(), lr=0.1), ours.optim.Optimizer)
    assert issubclass(ours.optim.Adam, ours.optim.Optimizer)
    assert not isinstance(an.optim.SGD(net.parameters(), lr=0.1), rectified(ours))
    seen = []
    optimizer.register_step_post_hook(lambda *_: seen.append(1))
    net(ours.ones(2, 4).double()).sum().backward()
    assert optimizer.finite_gradients()
    optimizer.step()
    assert seen == [1]


@pytest.mark.parametrize("torch", BOTH)
def test_what_an_optimizer_refuses(torch):
    class Plain(torch.optim.Optimizer):
        def __init__(self, params, **defaults):
            super().__init__(params, defaults)

    w = torch.nn.Parameter(torch.ones(2))
    for given, error, text in (
        (w, TypeError, "should be an iterable"), ([], ValueError, "empty parameter list"), ([1], TypeError, "only optimize Tensors"),
        ([w * 2], ValueError, "non-leaf"), ([{"params": {w}}], TypeError, "ordered collections"),
        ([{"params": w}, {"params": [w]}], ValueError, "more than one parameter group"),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            Plain(given, lr=1.0)
    with pytest.raises(ValueError, match="required optimization parameter"):
        Plain([w], lr=importlib.import_module(f"{torch.__name__}.optim.optimizer").required)
    with pytest.warns(UserWarning, match="duplicate parameters"):
        Plain([w, w], lr=1.0)
    optimizer = Plain([("name", w)], lr=1.0)
    assert optimizer.param_groups[0]["param_names"] == ["name"]
    with pytest.raises(ValueError, match="different number of parameter groups"):
        optimizer.load_state_dict({"state": {}, "param_groups": []})
    w.grad = torch.ones(2)
    optimizer.zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0.0, 0.0]
    optimizer.zero_grad()
    assert w.grad is None
    with pytest.raises(NotImplementedError):
        optimizer.step()


def lists(torch):
    """What the functions of lists give, and what those in place leave."""
    a = [torch.tensor([1.0, -2.0]), torch.tensor([[3.0]])]
    b = [torch.tensor([0.5, 5.0]), torch.tensor([[4.0]])]
    made = [
        torch._foreach_add(a, b, alpha=2), torch._foreach_add(a, 1.0), torch._foreach_mul(a, [2.0, 3.0]), torch._foreach_neg(a),
        torch._foreach_sqrt(b), torch._foreach_maximum(a, b), torch._foreach_maximum(a, 0.0), torch._foreach_minimum(a, [0.0, 1.0]),
        torch._foreach_addcmul(a, b, b, value=2.0), torch._foreach_addcdiv(a, b, b, [1.0, 2.0]), torch._foreach_lerp(a, b, 0.25),
        torch._foreach_norm(a), torch._foreach_pow(b, 2), torch._foreach_sign(a), torch._foreach_reciprocal(b), torch._foreach_abs(a),
    ]  # fmt: skip
    torch._foreach_add_(a, b)
    torch._foreach_mul_(a, 2.0)
    torch._foreach_div_(b, a)
    torch._foreach_addcdiv_(a, b, b, 3.0)
    torch._foreach_copy_(b, a)
    made += [[x.clone() for x in a], [x.clone() for x in b]]
    torch._foreach_zero_(a)
    with pytest.raises(RuntimeError, match="same number of tensors"):
        torch._foreach_add(a, b[:1])
    return [[x.tolist() for x in part] for part in (*made, a)]


def test_functions_of_lists_of_tensors():
    for one, other in zip(lists(ours), lists(theirs), strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


@pytest.mark.parametrize("torch", BOTH)
def test_parameters_take_attributes(torch):
    layer, lazy = torch.nn.Linear(2, 2), torch.nn.LazyLinear(2)
    lazy(torch.ones(1, 3))
    p = torch.nn.Parameter(torch.ones(2))
    for x in (layer.weight, lazy.weight, p):
        assert not hasattr(x, "unit_of_it")
        x.unit_of_it = ["m"]
        x.unit_of_it.append("s")
        assert x.unit_of_it == ["m", "s"]
    assert not hasattr(layer.bias, "unit_of_it")
    if torch is ours:  # PyTorch's copies lose them
        again = copy.deepcopy(layer).weight
        again.unit_of_it.append("kg")
        assert (again.unit_of_it, layer.weight.unit_of_it) == (["m", "s", "kg"], ["m", "s"])
    del p.unit_of_it
    assert not hasattr(p, "unit_of_it")
    with pytest.raises(AttributeError, match="unit_of_it"):
        del p.unit_of_it

    class Named(torch.nn.Parameter):
        pass

    named = Named(torch.ones(1))
    named.unit_of_it = "A"
    assert named.unit_of_it == "A"


def test_other_tensors_take_no_attributes():
    for x in (an.ones(2), an.nn.Parameter(an.ones(2)), ours.ones(2)):
        with pytest.raises(AttributeError, match="requires_gard"):
            x.requires_gard = True
