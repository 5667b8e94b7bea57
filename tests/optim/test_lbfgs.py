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


@pytest.mark.parametrize("lr", [1.0, 0.0])
def test_a_line_search_without_tolerance_ends_where_its_bracket_has_no_width(lr):
    p = an.Parameter(an.asarray([3.0, -2.0], dtype="float64"))
    optimizer = optim.LBFGS(
        [p], lr=lr, max_iter=200, line_search_fn="strong_wolfe", tolerance_change=0.0, tolerance_grad=0.0
    )

    def closure():
        optimizer.zero_grad()
        loss = an.sum(an.abs(p) ** 1.5 + an.asarray([1.0, 0.3], dtype="float64") * p**4)
        loss.backward()
        return loss

    for _ in range(3):
        optimizer.step(closure)
    assert bool(an.all(an.isfinite(p)))
    assert float(an.max(an.abs(p.detach()))) < 1e-6 or lr == 0.0
