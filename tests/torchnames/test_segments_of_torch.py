"""Reductions of numbers that share a place, at zeros, of integers, of many numbers, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

import anynet.torch as torch
from anynet.torch.autograd import gradcheck, gradgradcheck


@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
def test_products_with_zeros(include_self: bool, axis: int) -> None:
    theirs = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    draw, made = np.random.default_rng(axis), []
    a, b = draw.integers(-2, 3, (4, 5)) + 0.0, draw.integers(-2, 3, (6, 5)) + 0.0
    b = b[: (6, 4)[axis]]
    index = draw.integers(0, 2, b.shape)
    for room in (torch, theirs):
        x, y = room.tensor(a, requires_grad=True), room.tensor(b, requires_grad=True)
        z = x.scatter_reduce(axis, room.tensor(index), y, "prod", include_self=include_self)
        (z * room.tensor(np.arange(20.0).reshape(4, 5))).sum().backward()
        made.append([z.detach().numpy(), x.grad.numpy(), y.grad.numpy()])
    for found, expected in zip(*made, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-12)


def test_gradients_of_products_to_second_order() -> None:
    draw = np.random.default_rng(3)
    x, y = (torch.tensor(draw.normal(size=n), requires_grad=True) for n in (3, 7))
    index = torch.tensor([0, 2, 0, 0, 2, 0, 0])

    def f(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return x.scatter_reduce(0, index, y, "prod")

    with torch.no_grad():
        y[3] = 0.0
    assert gradcheck(f, (x, y))
    assert gradgradcheck(f, (x, y))
    assert gradgradcheck(f, (x, y))


def test_products_of_many_numbers() -> None:
    n = 100_000  # a product after the other would take hours
    y = torch.ones(2, dtype=torch.float64).scatter_reduce(
        0, torch.zeros(n, dtype=torch.int64), torch.full((n,), 1.00001, dtype=torch.float64), "prod"
    )
    np.testing.assert_allclose(y.numpy(), [1.00001**n, 1.0], rtol=1e-9)


@pytest.mark.parametrize("reduce", ["sum", "prod", "mean", "amax", "amin"])
@pytest.mark.parametrize("include_self", [True, False])
@pytest.mark.parametrize("kind", ["int64", "int32", "float64"])
@pytest.mark.filterwarnings("ignore:index_reduce:UserWarning")  # PyTorch's, of a beta version
def test_kinds_of_numbers(reduce: str, include_self: bool, kind: str) -> None:
    theirs = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    draw, made = np.random.default_rng(5), []
    a, b, index = draw.integers(-9, 9, 4), draw.integers(-9, 9, 9), draw.integers(0, 3, 9)
    for room in (torch, theirs):
        dtype = getattr(room, kind)
        x, y, i = room.tensor(a, dtype=dtype), room.tensor(b, dtype=dtype), room.tensor(index)
        z = x.scatter_reduce(0, i, y, reduce, include_self=include_self)
        assert str(z.dtype).rpartition(".")[2] == kind
        made.append(z.numpy())
        if reduce != "sum":
            made.append(x.index_reduce(0, i, y, reduce, include_self=include_self).numpy())
    half = len(made) // 2
    for found, expected in zip(made[:half], made[half:], strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("reduce", ["sum", "mean", "max", "min", "prod"])
@pytest.mark.parametrize("initial", [None, 0.5])
def test_segments(reduce: str, initial: float | None) -> None:
    theirs = pytest.importorskip("torch", reason="PyTorch, the oracle, is not installed")
    draw, made = np.random.default_rng(7), []
    a, sizes = draw.integers(-3, 4, (2, 6, 3)) + 0.0, [[2, 0, 4], [1, 5, 0]]
    for room in (torch, theirs):
        x = room.tensor(a, requires_grad=True)
        z = room.segment_reduce(x, reduce, lengths=room.tensor(sizes), axis=1, initial=initial)
        room.where(room.isfinite(z), z, room.zeros_like(z)).sum().backward()
        made.append([z.detach().numpy(), x.grad.numpy()])
    np.testing.assert_allclose(made[0][0], made[1][0], atol=1e-12)
    if initial is None or reduce not in ("max", "min"):  # there PyTorch lets the initial value be no equal
        np.testing.assert_allclose(made[0][1], made[1][1], atol=1e-12)


def test_refusals() -> None:
    x, i = torch.ones(4), torch.tensor([0, 1, 1, 0])
    for call, says in (
        (lambda: x.scatter_reduce(0, i, x, "max"), "reduce must be one of 'sum', 'prod'"),
        (lambda: x.index_reduce(0, i, x, "sum"), "reduce must be one of 'prod', 'mean'"),
        (lambda: x.scatter(0, i, x, reduce="mean"), "reduce must be None, 'add' or 'multiply'"),
        (lambda: torch.segment_reduce(x, "sum"), "one of lengths and offsets"),
        (lambda: torch.segment_reduce(x, "amax", lengths=i), "reduce must be one of"),
        (lambda: torch.segment_reduce(x, "sum", lengths=torch.tensor([1, 2])), "with the sum 4"),
        (lambda: torch.segment_reduce(x, "sum", lengths=torch.tensor([5, -1])), "must be ≥ 0"),
        (lambda: torch.segment_reduce(x, "sum", lengths=torch.tensor([[4]])), "first axes of data"),
        (lambda: torch.histogramdd(x, 3), "at least 2 axes"),
        (lambda: torch.histogramdd(torch.ones(3, 2), [3]), "bins must be one for each of 2"),
    ):
        with pytest.raises(RuntimeError, match=says):
            call()


def test_binomial_draws() -> None:
    torch.manual_seed(3)
    drawn = torch.binomial(torch.full((20_000,), 10.0), torch.tensor(0.3).expand(20_000))
    assert drawn.dtype is torch.float32
    assert abs(float(drawn.mean()) - 3.0) < 0.05
    assert abs(float(drawn.var()) - 2.1) < 0.1
    with pytest.raises(ValueError, match=r"p must be|must be in \[0, 1\]"):
        torch.binomial(torch.ones(2), torch.tensor([0.5, 1.5]))


def test_accumulated_writes() -> None:
    x = torch.zeros(3, 4)
    x.index_put_(
        (torch.tensor([1, 1, -1]), torch.tensor([2, 2, 0])), torch.tensor([1.0, 2.0, 5.0]), accumulate=True
    )
    assert x.tolist() == [[0.0] * 4, [0.0, 0.0, 3.0, 0.0], [5.0, 0.0, 0.0, 0.0]]
    x.index_put_((x > 2,), torch.tensor(10.0), accumulate=True)
    assert x[1, 2].item() == 13.0
    y = torch.zeros(3, 4).index_put((torch.tensor([0, 0]),), torch.ones(2, 4), accumulate=True)
    assert y[0].tolist() == [2.0] * 4
    with pytest.raises(IndexError):
        x.index_put_((torch.tensor([9]),), torch.tensor([1.0]), accumulate=True)
    assert x[1, 2].item() == 13.0
