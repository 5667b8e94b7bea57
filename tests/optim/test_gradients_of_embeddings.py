"""Gradients of large tables are written row by row, and optimizers do what PyTorch's do with dense ones."""

import tracemalloc

import numpy as np
import pytest

import anynet as an
from anynet_backends import get_backend
from anynet_backends.kernels import embedding
from torch_oracle import torch

nn, T = an.nn, torch.nn
ROWS, WIDTH = 12, 3
OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.3}), "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "decay": ("SGD", {"lr": 0.1, "weight_decay": 0.1}), "maximize": ("SGD", {"lr": 0.1, "maximize": True}),
    "adam": ("Adam", {"lr": 0.1}), "adamw": ("AdamW", {"lr": 0.1, "weight_decay": 0.1}), "adagrad": ("Adagrad", {"lr": 0.1}),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _every_table_counts_as_large(monkeypatch):
    monkeypatch.setattr(embedding, "LARGE", 1)


class Pair:
    """The same table and linear layer in both libraries."""

    def __init__(self, optimizer, **options):
        weight = np.random.default_rng(0).normal(size=(ROWS, WIDTH))
        name, how = OPTIMIZERS[optimizer]
        self.ours = nn.Embedding(ROWS, WIDTH, _weight=an.asarray(weight), **options)
        self.theirs = T.Embedding(ROWS, WIDTH, _weight=torch.tensor(weight), **options)
        self.own = getattr(an.optim, name)(self.ours.parameters(), **how)
        self.far = getattr(torch.optim, name)(self.theirs.parameters(), **how)

    def backward(self, index, tied=False):
        """The gradient of a loss of the rows; `tied`, of the whole table as well."""
        for table, to, total in ((self.ours, an.asarray, an.sum), (self.theirs, torch.tensor, torch.sum)):
            y = table(to(np.array(index)))
            loss = total(y * y * y)
            (loss + total(table.weight * table.weight) if tied else loss).backward()

    def step(self):
        self.own.step()
        self.far.step()

    def zero(self, to_none=True):
        self.own.zero_grad(set_to_none=to_none)
        self.far.zero_grad(set_to_none=to_none)

    def same(self):
        np.testing.assert_allclose(self.ours.weight.numpy(), self.theirs.weight.detach().numpy(), rtol=1e-10)

    def same_gradients(self):
        np.testing.assert_allclose(self.ours.weight.grad.numpy(), self.theirs.weight.grad.numpy(), rtol=1e-10)


INDICES = ([1, 3, 3], [[0, 1], [11, 1]], [5], [3, 0, 0, 0], [1, 2])


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("options", [{}, {"padding_idx": 3}, {"scale_grad_by_freq": True}], ids=str)
def test_as_dense_gradients_of_torch(optimizer, options):
    pair = Pair(optimizer, **options)
    for index in INDICES:
        pair.zero()
        pair.backward(index)
        pair.step()
        pair.same()
    pair.same_gradients()


def _read(pair):
    pair.same_gradients()


def _write(pair):
    """A row that was not looked up gets a gradient by hand."""
    pair.ours.weight.grad[7, 1] = 2.0
    pair.theirs.weight.grad[7, 1] = 2.0


def _assign(pair):
    g = np.random.default_rng(1).normal(size=(ROWS, WIDTH))
    pair.ours.weight.grad, pair.theirs.weight.grad = an.asarray(g), torch.tensor(g)


def _clip(pair):
    an.nn.utils.clip_grad_norm_(pair.ours.parameters(), 0.5)
    T.utils.clip_grad_norm_(pair.theirs.parameters(), 0.5)


def _again(pair):
    pair.backward([2, 9, 9])


def _tied(pair):
    pair.backward([4, 4], tied=True)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.parametrize("between", [_read, _write, _assign, _clip, _again, _tied])
def test_what_may_happen_before_the_step(optimizer, to_none, between):
    pair = Pair(optimizer)
    for i, index in enumerate(INDICES):
        pair.zero(to_none)
        pair.backward(index)
        if i % 2 == 0:  # and the steps after it must not see it
            between(pair)
        pair.step()
        pair.same()
        pair.zero(to_none)
    pair.backward([6])
    pair.same_gradients()


def test_compiled_and_eager_steps_in_turn():
    pair = Pair("sgd")

    def step(index):
        pair.own.zero_grad()
        y = pair.ours(index)
        an.sum(y * y * y).backward()
        pair.own.step()

    compiled = an.compile(step)
    for i, index in enumerate(([1, 3, 3], [0, 1, 5], [5, 2, 2], [7, 8, 8], [9, 9, 1], [2, 3, 4], [0, 0, 0])):
        (step, compiled, compiled)[i % 3](an.asarray(np.array(index)))
        pair.zero()
        pair.far.zero_grad()
        y = pair.theirs(torch.tensor(index))
        (y * y * y).sum().backward()
        pair.far.step()
        pair.same()


def test_hooks_transforms_and_second_order_get_arrays():
    table = nn.Embedding(ROWS, WIDTH)
    optimizer = an.optim.SGD(table.parameters(), lr=0.1)
    index = an.asarray([1, 3, 3])
    seen = []
    handle = table.weight.register_hook(lambda g: seen.append(g.shape))
    an.sum(table(index)).backward()
    handle.remove()
    assert seen == [(ROWS, WIDTH)]
    expected = np.zeros((ROWS, WIDTH))
    np.add.at(expected, [1, 3, 3], 1.0)
    np.testing.assert_array_equal(table.weight.grad.numpy(), expected)
    weight = an.asarray(np.ones((ROWS, WIDTH)), requires_grad=True)
    found = an.grad(lambda w: an.sum(an.nn.functional.embedding(index, w * 2.0)))(weight)
    np.testing.assert_array_equal(found.numpy(), 2 * expected)
    assert an.gradgradcheck(lambda w: an.sum(an.nn.functional.embedding(index, w) ** 3), weight)
    with an.anomaly(), an.profile():
        optimizer.zero_grad()
        an.sum(table(index)).backward()
    np.testing.assert_array_equal(table.weight.grad.numpy(), expected)


def test_two_optimizers_and_moves():
    """A new optimizer brings a buffer of its own, and so does a copy."""
    pair = Pair("sgd")
    pair.backward([1, 2])
    pair.step()
    pair.own = an.optim.SGD(pair.ours.parameters(), lr=0.3)
    for index in ([3], [4, 4]):
        pair.zero()
        pair.backward(index)
        pair.step()
        pair.same()
    pair.ours.to(an.float32)
    pair.theirs.float()
    for index in ([3], [4, 4]):
        pair.zero()
        pair.backward(index)
        pair.step()
    np.testing.assert_allclose(pair.ours.weight.numpy(), pair.theirs.weight.detach().numpy(), rtol=1e-5)


@pytest.mark.parametrize("step", ["backward", "sgd"])
def test_no_array_of_the_size_of_the_table(step):
    rows = 100_000
    table = nn.Embedding(rows, 16)
    optimizer = an.optim.SGD(table.parameters(), lr=0.1)
    index = an.asarray(np.arange(0, rows, 1000))
    for measured in (False, True):
        tracemalloc.start()
        optimizer.zero_grad()
        an.sum(table(index) ** 2).backward()
        if step == "sgd":
            optimizer.step()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert not measured or peak < 4 * table.weight.size / 4


def test_rows_as_an_array():
    xp = get_backend("numpy")
    index, values = np.array([2, 0, 2]), np.arange(6.0).reshape(3, 2)
    made = embedding.Rows(xp, index, values, (4, 2))
    expected = np.array([[2.0, 3.0], [0.0, 0.0], [4.0, 6.0], [0.0, 0.0]])
    np.testing.assert_array_equal(made.dense(), expected)
    np.testing.assert_array_equal((made + made).dense(), 2 * expected)
    for total in (made + np.ones((4, 2)), np.ones((4, 2)) + made):
        np.testing.assert_array_equal(total, expected + 1)
    np.testing.assert_array_equal(made.distinct(), [0, 2])
    np.testing.assert_array_equal(
        xp.kernels["scatter_rows"](xp, values, index=index, shape=(4, 2), need=None), expected
    )


def test_lookups_by_integers_of_several_types():
    table = an.Parameter(an.zeros((ROWS, WIDTH)))
    optimizer = an.optim.SGD([table], lr=1.0)
    for kinds in (("uint64", "int64"), ("uint8", "int8")):
        rows = [nn.functional.embedding(an.asarray([1, 2], dtype=kind), table) for kind in kinds]
        an.sum(rows[0] + rows[1]).backward()
        an.sum(nn.functional.embedding(an.asarray([3], dtype=kinds[0]), table)).backward()
    optimizer.step()
    assert table[:, 0].tolist() == [0.0, -4.0, -4.0, -2.0] + [0.0] * (ROWS - 4)
