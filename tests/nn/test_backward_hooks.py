"""Backward hooks of modules, against PyTorch's."""

from __future__ import annotations

import numpy as np
import pytest

import anynet as an
from anynet import nn
from torch_oracle import torch


def pair():
    torch.manual_seed(0)
    theirs = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Tanh(), torch.nn.Linear(4, 2)).double()
    ours = nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)).double()
    ours.load_state_dict({k: an.asarray(v.numpy()) for k, v in theirs.state_dict().items()})
    return ours, theirs


def run(net, x, square):
    seen = []

    def pre(module, grad_output):
        seen.append(
            (
                "before",
                type(module).__name__,
                [None if g is None else np.asarray(g.detach().numpy()) for g in grad_output],
            )
        )
        return tuple(g * 2.0 for g in grad_output)

    def after(module, grad_input, grad_output):
        grads = [None if g is None else np.asarray(g.detach().numpy()) for g in (*grad_input, *grad_output)]
        seen.append(("after", type(module).__name__, grads))
        return tuple(None if g is None else g * 3.0 for g in grad_input)

    removers = [net[1].register_full_backward_hook(after), net[2].register_full_backward_pre_hook(pre),
                net[2].register_full_backward_hook(after), net[0].register_full_backward_hook(after)]  # fmt: skip
    square(net(x)).backward()
    return seen, removers


@pytest.mark.filterwarnings("ignore:Full backward hook is firing")
@pytest.mark.parametrize("variable", [True, False])
def test_as_pytorch(variable):
    ours, theirs = pair()
    x = np.random.default_rng(2).normal(size=(5, 3))
    a, t = an.asarray(x, requires_grad=variable), torch.tensor(x, requires_grad=variable)
    mine, removers = run(ours, a, lambda y: an.sum(y * y))
    other, handles = run(theirs, t, lambda y: (y * y).sum())
    assert [s[:2] for s in mine] == [s[:2] for s in other]
    for (_, _, got), (_, _, want) in zip(mine, other, strict=True):
        for g, w in zip(got, want, strict=True):
            assert (g is None) == (w is None)
            if g is not None:
                np.testing.assert_allclose(g, w, rtol=1e-12)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-12)
    if variable:
        np.testing.assert_allclose(a.grad.numpy(), t.grad.numpy(), rtol=1e-12)
    for remove, handle in zip(removers, handles, strict=True):
        remove(), handle.remove()
    ours.zero_grad(), theirs.zero_grad()
    an.sum(ours(a)).backward()
    theirs(t).sum().backward()
    np.testing.assert_allclose(ours[0].weight.grad.numpy(), theirs[0].weight.grad.numpy(), rtol=1e-12)


def test_several_inputs_and_outputs():
    seen = []
    lstm = nn.LSTM(2, 3).double()
    lstm.register_full_backward_hook(
        lambda m, gi, go: seen.append(([g is not None for g in gi], [g.shape for g in go]))
    )
    x = an.ones((4, 1, 2), dtype=an.float64).requires_grad_()
    y, (h, c) = lstm(x)
    (an.sum(y) + an.sum(h) + an.sum(c)).backward()
    assert seen == [([True], [(4, 1, 3), (1, 1, 3), (1, 1, 3)])]
    bilinear = nn.Bilinear(2, 2, 1).double()
    seen.clear()
    bilinear.register_full_backward_hook(lambda m, gi, go: seen.append([g is not None for g in gi]))
    an.sum(bilinear(x[:, 0], an.ones((4, 2), dtype=an.float64))).backward()
    assert seen == [[True, False]]


def test_wrong_number_of_gradients():
    net = nn.Linear(2, 2)
    net.register_full_backward_hook(lambda m, gi, go: (gi[0], gi[0]))
    with pytest.raises(ValueError, match="2 gradients for 1 inputs"):
        an.sum(net(an.ones((1, 2)).requires_grad_())).backward()


def test_without_gradients_nothing_is_wrapped():
    net = nn.Identity()
    net.register_full_backward_hook(lambda *a: 1 / 0)
    x = an.ones(3)
    assert net(x) is x
