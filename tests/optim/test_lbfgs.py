"""L-BFGS against PyTorch, step by step, and on a quadratic."""

import pytest

import anynet as an
from anynet import optim
from optim.networks import agree, data, twins
from torch_oracle import torch


@pytest.mark.parametrize("options", [
    {}, {"lr": 0.1}, {"lr": 0.1, "max_iter": 4, "history_size": 2}, {"line_search_fn": "strong_wolfe"},
    {"line_search_fn": "strong_wolfe", "max_iter": 7, "history_size": 3}, {"line_search_fn": "strong_wolfe", "max_eval": 6},
    {"lr": 5.0, "line_search_fn": "strong_wolfe"}, {"lr": 1e-3, "line_search_fn": "strong_wolfe", "max_iter": 40},
    {"tolerance_grad": 1e-2}, {"tolerance_change": 1e-2, "line_search_fn": "strong_wolfe"},
])  # fmt: skip
def test_lbfgs_equals_torch(options):
    net, twin = twins()
    x, y = data()
    ax, ay, tx, ty = an.asarray(x), an.asarray(y), torch.tensor(x), torch.tensor(y)
    ours, theirs = optim.LBFGS(net.parameters(), **options), torch.optim.LBFGS(twin.parameters(), **options)

    def closure():
        ours.zero_grad()
        loss = an.losses.mse_loss(net(ax), ay)
        loss.backward()
        return loss

    def their_closure():
        theirs.zero_grad()
        loss = torch.nn.functional.mse_loss(twin(tx), ty)
        loss.backward()
        return loss

    for _ in range(4):
        a, b = ours.step(closure), theirs.step(their_closure)
        assert a.item() == pytest.approx(b.item(), rel=1e-7)
    agree(net, twin, 1e-7)


def test_lbfgs_finds_the_minimum_of_a_quadratic_exactly():
    p = an.Parameter([3.0, -2.0], dtype="float64")
    optimizer = optim.LBFGS([p], tolerance_change=1e-14, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (p[0] - 1) ** 2 + 10 * (p[1] + 1) ** 2
        loss.backward()
        return loss

    optimizer.step(closure)
    assert p.tolist() == pytest.approx([1.0, -1.0], abs=1e-9)
