"""Gradients that are rows of a table: what they are, which optimizers take them, and that they do what PyTorch's do."""

import copy
import itertools
import pickle

import numpy as np
import pytest

import anynet as an
from anynet.testing.comparing import to_host
from anynet_backends.memory.rows import Rows
from array_devices import DEVICES, usable
from torch_oracle import torch

nn, F, T = an.nn, an.nn.functional, torch.nn
ROWS, WIDTH = 12, 3
INDICES = ([1, 3, 3], [[0, 1], [11, 1]], [], [5], [3, 0, 0, 0], [1, 2])
WEIGHT = np.random.default_rng(0).normal(size=(ROWS, WIDTH))
LIMIT = {"float64": 1e-12, "float32": 2e-6}
OPTIMIZERS = {
    "sgd": ("SGD", {"lr": 0.3}), "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    "maximize": ("SGD", {"lr": 0.1, "maximize": True}),
    "adagrad": ("Adagrad", {"lr": 0.1, "lr_decay": 0.1, "initial_accumulator_value": 0.2}),
    "adam": ("SparseAdam", {"lr": 0.1}),
    "others": ("SparseAdam", {"lr": 0.1, "betas": (0.5, 0.6), "eps": 1e-3, "maximize": True}),
}  # fmt: skip


class Pair:
    """The same table in both libraries, and an optimizer of each."""

    def __init__(self, optimizer="adam", dtype="float64", bag=False, **options):
        weight = WEIGHT.astype(dtype)
        name, how = OPTIMIZERS[optimizer]
        kind = "EmbeddingBag" if bag else "Embedding"
        self.limit = LIMIT[dtype]
        self.ours = getattr(nn, kind)(ROWS, WIDTH, _weight=an.asarray(weight.copy()), sparse=True, **options)
        self.theirs = getattr(T, kind)(ROWS, WIDTH, _weight=torch.tensor(weight), sparse=True, **options)
        self.own = getattr(an.optim, name)(self.ours.parameters(), **how)
        self.far = getattr(torch.optim, name)(self.theirs.parameters(), **how)

    def backward(self, index):
        """The gradient of a loss of the rows."""
        index = np.asarray(index, np.int64)
        for table, to, total in ((self.ours, an.asarray, an.sum), (self.theirs, torch.tensor, torch.sum)):
            y = table(to(index))
            total(y * y * y).backward()

    def zero(self, to_none=True):
        self.own.zero_grad(set_to_none=to_none)
        self.far.zero_grad(set_to_none=to_none)

    def step(self):
        self.own.step()
        with torch.sparse.check_sparse_tensor_invariants():  # without a choice torch warns
            self.far.step()

    def same(self):
        np.testing.assert_allclose(
            self.ours.weight.numpy(), self.theirs.weight.detach().numpy(), self.limit, self.limit
        )

    def same_gradients(self):
        a, b = self.ours.weight.grad.coalesce(), self.theirs.weight.grad.coalesce()
        np.testing.assert_array_equal(a.indices().numpy(), b.indices().numpy())
        np.testing.assert_allclose(a.values().numpy(), b.values().numpy(), self.limit)


@pytest.fixture
def no_arrays(monkeypatch):
    """No gradient is made an array."""

    def refuse(self):
        msg = "an array of the whole table"
        raise AssertionError(msg)

    monkeypatch.setattr(Rows, "dense", refuse)


@pytest.mark.parametrize("dtype", LIMIT)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("options", [{}, {"padding_idx": 3}, {"max_norm": 0.9}], ids=str)
@pytest.mark.usefixtures("no_arrays")
def test_steps_as_those_of_torch(optimizer, dtype, options):
    pair = Pair(optimizer, dtype, **options)
    for index in INDICES:
        pair.zero()
        pair.backward(index)
        pair.same_gradients()
        pair.step()
        pair.same()


@pytest.mark.parametrize(
    "options", [{}, {"mode": "sum"}, {"padding_idx": 3}, {"mode": "sum", "max_norm": 0.9}], ids=str
)
def test_bags(options):
    pair = Pair(bag=True, **options)
    for index in ([[1, 3], [3, 3]], [[0, 1, 2]], [[11, 3, 11]]):
        pair.zero()
        pair.backward(index)
        pair.step()
        pair.same()


@pytest.mark.parametrize("to_none", [True, False])
@pytest.mark.usefixtures("no_arrays")
def test_accumulation_and_zero_grad(to_none):
    pair = Pair()
    for first, second in itertools.pairwise(INDICES):
        pair.zero(to_none)
        pair.backward(first)
        pair.backward(second)
        pair.same_gradients()
        pair.step()
        pair.same()
    pair.ours.zero_grad(set_to_none=False)
    assert pair.ours.weight.grad._nnz() == 0
    pair.own.step()  # an empty gradient moves nothing
    pair.same()


def test_what_it_is():
    g = an.SparseRows([3, 1, 3], [[1.0], [2.0], [4.0]], (5, 1))
    assert isinstance(g, an.Tensor)
    assert (g.shape, g.ndim, g.size, len(g), g.dtype, g.device) == ((5, 1), 2, 5, 5, an.float32, "cpu")
    assert (g.is_sparse, g.is_coalesced(), g.requires_grad) == (True, False, False)
    with pytest.raises(RuntimeError, match=r"call \.coalesce\(\) first"):
        g.indices()
    c = g.coalesce()
    assert c.is_coalesced()
    assert c.coalesce() is c
    assert (c.indices().tolist(), c.values().tolist()) == ([[1, 3]], [[2.0], [5.0]])
    dense = [[0.0], [2.0], [0.0], [5.0], [0.0]]
    assert g.to_dense().tolist() == g.tolist() == np.asarray(g).tolist() == dense
    for y in (g + g, g * 2, 2 * g, g / 0.5, (-g) * -2.0):
        assert isinstance(y, an.SparseRows)
        np.testing.assert_array_equal(y.numpy(), 2 * np.array(dense))
    for y in (g + an.ones((5, 1)), an.ones((5, 1)) + g, g - (-1.0 * an.ones((5, 1)))):
        np.testing.assert_array_equal(y.numpy(), 1 + np.array(dense))
    np.testing.assert_array_equal((g * an.full((5, 1), 2.0)).numpy(), 2 * np.array(dense))
    np.testing.assert_array_equal((g / an.full((5, 1), 2.0)).numpy(), np.array(dense) / 2)
    assert "SparseRows(indices=[3, 1, 3]" in repr(g)
    for twin in (copy.copy(g), copy.deepcopy(c), pickle.loads(pickle.dumps(c)), g.detach()):
        assert twin.tolist() == dense
    assert pickle.loads(pickle.dumps(c)).is_coalesced()
    assert g.requires_grad_(False) is g


@pytest.mark.parametrize(
    ("arguments", "error"),
    [(([0.5], [[1.0]], (5, 1)), TypeError), (([5], [[1.0]], (5, 1)), IndexError), (([-1], [[1.0]], (5, 1)), IndexError),
     (([1, 2], [[1.0]], (5, 1)), ValueError), (([1], [[1.0]], (5, 2)), ValueError), (([[1], [2]], [[1.0]], (5, 1)), ValueError)],
)  # fmt: skip
def test_bad_rows_are_refused(arguments, error):
    with pytest.raises(error, match="SparseRows: "):
        an.SparseRows(*arguments)


def test_writes_are_refused():
    g = an.SparseRows([1], [[1.0]], (5, 1))
    for write in (lambda: g.__setitem__(0, 1.0), lambda: g.assign_(0.0), lambda: g.requires_grad_()):
        with pytest.raises(TypeError, match="SparseRows: "):
            write()


def test_gradients_that_are_set():
    p = an.Parameter(an.ones((5, 1)))
    p.grad = an.SparseRows([1], [[1.0]], (5, 1))
    an.optim.SGD([p], lr=0.5).step()
    assert p.tolist() == [[1.0], [0.5], [1.0], [1.0], [1.0]]
    with pytest.raises(ValueError, match="gradient of shape"):
        p.grad = an.SparseRows([1], [[1.0]], (6, 1))
    with pytest.raises(ValueError, match="float64"):
        p.grad = an.SparseRows([1], an.asarray([[1.0]], dtype=an.float64), (5, 1))


REFUSE = {
    "Adam": {}, "AdamW": {}, "RMSprop": {}, "Adadelta": {}, "Adamax": {}, "NAdam": {}, "RAdam": {}, "ASGD": {}, "Rprop": {}, "LAMB": {},
    "LARS": {}, "Lion": {}, "Adafactor": {}, "Muon": {}, "ScheduleFreeAdamW": {}, "AdaBound": {}, "SGD": {"weight_decay": 0.1},
    "Adagrad": {"weight_decay": 0.1},
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSE)
def test_other_optimizers_refuse_before_anything_changes(name):
    table, other = nn.Embedding(ROWS, WIDTH, sparse=True), an.Parameter(an.ones((2, 2)))
    groups = [{"params": [other]}, {"params": table.parameters()}]
    optimizer = getattr(an.optim, name)(groups, lr=0.1, **REFUSE[name])
    before = table.weight.numpy().copy()
    (an.sum(table(an.asarray([1, 1]))) + an.sum(other)).backward()
    with pytest.raises(RuntimeError, match=f"{name}: the gradient of a parameter of shape .* SparseAdam"):
        optimizer.step()
    assert other.tolist() == [[1.0, 1.0], [1.0, 1.0]]
    np.testing.assert_array_equal(table.weight.numpy(), before)
    assert not optimizer.state_dict()["state"]


def test_sparse_adam_refuses_arrays():
    p, q = an.Parameter(an.ones((2, 2))), nn.Embedding(ROWS, WIDTH, sparse=True).weight
    optimizer = an.optim.SparseAdam([q, p])
    before = q.numpy().copy()
    (an.sum(p) + an.sum(F.embedding(an.asarray([1]), q, sparse=True))).backward()
    with pytest.raises(
        RuntimeError, match=r"SparseAdam: the gradient of a parameter of shape \(2, 2\) is an array"
    ):
        optimizer.step()
    np.testing.assert_array_equal(q.numpy(), before)


def test_beside_other_parameters():
    """A network with a table and layers: one optimizer for both."""
    index = np.array([[1, 3], [3, 2]])
    results = []
    for sparse in (True, False):
        with an.random.fork_rng(0):
            net = nn.Sequential(nn.Embedding(ROWS, WIDTH, sparse=sparse), nn.Flatten(), nn.Linear(6, 2))
        optimizer = an.optim.Adagrad(net.parameters(), lr=0.1)
        for _ in range(30):
            optimizer.zero_grad()
            an.sum(net(an.asarray(index)) ** 2).backward()
            an.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
        results.append([p.numpy() for p in net.parameters()])
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def _uses(table, index):
    """Two lookups of a table."""
    return an.sum(table(index) ** 2) + an.sum(table(index + 1) ** 3)


def test_two_uses_are_rows_and_a_dense_one_makes_an_array():
    rows, dense = (
        nn.Embedding(ROWS, WIDTH, _weight=an.asarray(WEIGHT.copy()), sparse=s) for s in (True, False)
    )
    index = an.asarray([1, 3, 3])
    for function, kept in (
        (lambda t: _uses(t, index), True),
        (lambda t: _uses(t, index) + an.sum(t.weight**2), False),
        (lambda t: an.sum(t.weight**2) + _uses(t, index), False),
        (lambda t: an.sum(t(index)) + an.sum(F.embedding(index, t.weight)), False),
    ):
        for table in (rows, dense):
            table.zero_grad()
            function(table).backward()
        assert isinstance(rows.weight.grad, an.SparseRows) is kept
        np.testing.assert_allclose(rows.weight.grad.numpy(), dense.weight.grad.numpy(), rtol=1e-12)


@pytest.mark.parametrize("rows_first", [True, False])
@pytest.mark.parametrize("optimizer", [False, True])
def test_one_backward_pass_after_another_of_the_other_kind(rows_first, optimizer):
    table = an.Parameter(an.asarray(WEIGHT.copy()))
    made = an.optim.SGD([table], lr=1.0) if optimizer else None
    index = an.asarray([1, 3, 3])
    for sparse in (rows_first, not rows_first):
        an.sum(F.embedding(index, table, sparse=sparse)).backward()
    expected = np.zeros((ROWS, WIDTH))
    np.add.at(expected, [1, 3, 3], 2.0)
    assert not isinstance(table.grad, an.SparseRows)
    np.testing.assert_array_equal(table.grad.numpy(), expected)
    if made is not None:
        made.step()
        np.testing.assert_allclose(table.numpy(), WEIGHT - expected, rtol=1e-12)


def test_a_table_whose_gradient_becomes_an_array():
    """An optimizer that has made no vector of gradients for a table makes it then."""
    pair = Pair("sgd")
    for k, index in enumerate(INDICES):
        pair.zero(to_none=k % 2 == 0)
        pair.backward(index)
        if k in (1, 2, 4):
            for table, total in ((pair.ours, an.sum), (pair.theirs, torch.sum)):
                total(table.weight * table.weight).backward()
        pair.step()
        pair.same()


def test_gradients_by_differences():
    weight = an.asarray(WEIGHT.copy(), requires_grad=True)
    index = an.asarray([1, 3, 3])

    def loss(w):
        return an.sum(F.embedding(index, w, padding_idx=1, sparse=True) ** 3)

    loss(weight).backward()
    step, expected = 1e-6, np.zeros_like(WEIGHT)
    for place in np.ndindex(*WEIGHT.shape):
        ends = [WEIGHT.copy(), WEIGHT.copy()]
        ends[0][place] += step
        ends[1][place] -= step
        expected[place] = (loss(an.asarray(ends[0])) - loss(an.asarray(ends[1]))).item() / (2 * step)
    expected[1] = 0.0
    np.testing.assert_allclose(weight.grad.numpy(), expected, rtol=1e-6, atol=1e-7)


def test_transforms_and_second_order_get_arrays():
    weight = an.asarray(WEIGHT.copy(), requires_grad=True)
    index = an.asarray([1, 3, 3])

    def loss(w):
        return an.sum(F.embedding(index, w, sparse=True) ** 3)

    found = an.grad(loss)(weight)
    assert not isinstance(found, an.SparseRows)
    loss(weight).backward(create_graph=True)
    np.testing.assert_allclose(found.numpy(), weight.grad.numpy(), rtol=1e-12)
    assert an.gradgradcheck(loss, weight)
    scaled = an.grad(lambda w: loss(w * 2.0))(weight)
    np.testing.assert_allclose(scaled.numpy(), 8 * found.numpy(), rtol=1e-12)


@pytest.mark.usefixtures("no_arrays")
def test_checkpoints_and_hooks():
    table = nn.Embedding(ROWS, WIDTH, sparse=True)
    index = an.asarray([1, 3, 3])
    seen = []
    handle = table.weight.register_hook(lambda g: seen.append(g))
    an.sum(an.checkpoint(table, index)).backward()
    assert isinstance(seen[0], an.SparseRows)
    handle.remove()
    handle = table.weight.register_hook(lambda g: g * 2)
    an.sum(table(index)).backward()
    handle.remove()
    assert table.weight.grad.coalesce().values()[:, 0].tolist() == [3.0, 6.0]


def test_hooks_may_give_arrays_and_observers_see_arrays():
    table = nn.Embedding(ROWS, WIDTH, sparse=True)
    index = an.asarray([1, 3, 3])
    handle = table.weight.register_hook(lambda g: g.to_dense())
    an.sum(table(index)).backward()
    assert not isinstance(table.weight.grad, an.SparseRows)
    handle.remove()
    table.zero_grad()
    with an.anomaly(), an.profile():
        an.sum(table(index)).backward()
    assert isinstance(table.weight.grad, an.SparseRows)


def two_tables(optimizer, **options):
    """A step with lookups in two tables, in one of them twice, and the tables."""
    rng = np.random.default_rng(0)
    tables = [
        nn.Embedding(
            n,
            WIDTH,
            sparse=True,
            padding_idx=padding,
            _weight=an.asarray(rng.normal(size=(n, WIDTH)).astype("float32")),
        )
        for n, padding in ((ROWS, 3), (5, None))
    ]
    update = optimizer([p for t in tables for p in t.parameters()], lr=0.1, **options)

    def step(i, j, y):
        update.zero_grad()
        loss = an.mean((an.sum(tables[0](i) * tables[1](j) + tables[0](j), axis=1) - y) ** 2)
        loss.backward()
        update.step()
        return loss

    return step, tables


def batches(count):
    rng = np.random.default_rng(1)
    for _ in range(count):
        yield (
            an.asarray(rng.integers(0, ROWS, 12)),
            an.asarray(rng.integers(0, 5, 12)),
            an.asarray(rng.normal(size=12).astype("float32")),
        )


@pytest.mark.parametrize("optimizer", [an.optim.SparseAdam, an.optim.SGD, an.optim.Adagrad])
def test_compiled_steps_have_the_same_bits(optimizer):
    (eager, tables), (step, others) = two_tables(optimizer), two_tables(optimizer)
    compiled = an.compile(step)
    for batch in batches(6):
        assert compiled(*batch).item() == eager(*batch).item()
        for one, other in zip(tables, others, strict=True):
            assert isinstance(other.weight.grad, an.SparseRows)
            np.testing.assert_array_equal(other.weight.numpy(), one.weight.numpy())
            np.testing.assert_array_equal(
                other.weight.grad.to_dense().numpy(), one.weight.grad.to_dense().numpy()
            )
    assert compiled.recorded == 1


def test_compiled_steps_add_up_rows_over_calls():
    table = nn.Embedding(ROWS, WIDTH, sparse=True)
    compiled = an.compile(lambda index: an.sum(table(index)).backward())
    expected = np.zeros((ROWS, WIDTH))
    for index in ([1, 2], [2, 4], [0, 0], [4, 1]):
        compiled(an.asarray(index))
        np.add.at(expected, index, 1.0)
        np.testing.assert_array_equal(table.weight.grad.to_dense().numpy(), expected)
    table.zero_grad()
    compiled(an.asarray([1, 1]))
    assert table.weight.grad.coalesce().indices().tolist() == [[1]]


def test_compiled_functions_refuse_to_read_rows():
    table = nn.Embedding(ROWS, WIDTH, sparse=True)

    def clipped(index):
        an.sum(table(index)).backward()
        nn.utils.clip_grad_norm_(table.parameters(), 1.0)

    def read(index):
        an.sum(table(index)).backward()
        return an.sum(table.weight.grad)

    for function in (clipped, read):
        with pytest.raises(an.CompileError, match="rows of a table"):
            an.compile(function)(an.asarray([1, 2]))
        table.zero_grad()

    def mixed(index):
        an.sum(F.embedding(index, table.weight)).backward()
        an.sum(table(index)).backward()

    an.optim.SGD(table.parameters(), lr=0.1)
    with pytest.raises(an.CompileError, match="without it"):
        an.compile(mixed)(an.asarray([1, 2]))
    table.zero_grad()
    handle = table.weight.register_hook(lambda g: g * 2.0)
    with pytest.raises(an.CompileError, match="hook"):
        an.compile(lambda index: an.sum(table(index)).backward())(an.asarray([1, 2]))
    handle.remove()

    def assign(x):
        table.weight.grad = an.SparseRows([1], x * 2.0, (ROWS, WIDTH))

    with pytest.raises(an.CompileError, match="SparseRows"):
        an.compile(assign)(an.ones((1, WIDTH)))
    assert an.compile(table)(an.asarray([1, 2])).shape == (2, WIDTH)


@pytest.mark.parametrize(
    ("make", "text"),
    [(lambda: nn.Embedding(5, 2, sparse=True, scale_grad_by_freq=True), "Embedding: scale_grad_by_freq must be False"),
     (lambda: nn.EmbeddingBag(5, 2, sparse=True, mode="max"), "EmbeddingBag: mode must be 'sum' or 'mean'"),
     (lambda: nn.EmbeddingBag(5, 2, sparse=True, scale_grad_by_freq=True), "EmbeddingBag: scale_grad_by_freq must be False"),
     (lambda: F.embedding(an.asarray([1]), an.ones((5, 2)), sparse=True, scale_grad_by_freq=True), "embedding: scale_grad_by_freq"),
     (lambda: F.embedding_bag(an.asarray([[1]]), an.ones((5, 2)), sparse=True, mode="max"), "embedding_bag: mode must be")],
)  # fmt: skip
def test_options_that_do_not_go_together(make, text):
    with pytest.raises(ValueError, match=text):
        make()


@pytest.mark.usefixtures("no_arrays")
def test_clipping():
    index = an.asarray([1, 3, 3])
    table, other = (
        nn.Embedding(ROWS, WIDTH, _weight=an.asarray(WEIGHT.copy()), sparse=True),
        an.Parameter(an.ones(2)),
    )
    dense = np.zeros((ROWS, WIDTH))
    np.add.at(dense, [1, 3, 3], 1.0)
    whole = np.sqrt((dense**2).sum() + 2)
    for params in ([table.weight, other], [other, table.weight]):
        for p in params:
            p.grad = None
        (an.sum(table(index)) + an.sum(other)).backward()
        assert float(an.nn.utils.clip_grad_norm_(params, 0.5)) == pytest.approx(whole)
        g = table.weight.grad.coalesce()
        np.testing.assert_allclose(g.values().numpy(), dense[[1, 3]] * 0.5 / (whole + 1e-6), rtol=1e-6)
        np.testing.assert_allclose(other.grad.numpy(), 0.5 / (whole + 1e-6), rtol=1e-6)
    table.zero_grad()
    an.sum(table(index)).backward()
    an.nn.utils.clip_grad_value_(table.parameters(), 1.5)
    assert table.weight.grad.coalesce().values()[:, 0].tolist() == [1.0, 1.5]
    an.nn.utils.clip_grad_norm_(table.parameters(), 0.5)
    assert isinstance(table.weight.grad, an.SparseRows)


@pytest.mark.usefixtures("no_arrays")
def test_finite_gradients():
    table = nn.Embedding(ROWS, WIDTH, sparse=True)
    optimizer = an.optim.SparseAdam(table.parameters())
    for factor, fine in ((1.0, True), (float("inf"), False), (2.0, True)):
        optimizer.zero_grad()
        (an.sum(table(an.asarray([1, 2]))) * factor).backward()
        assert optimizer.finite_gradients() is fine


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "adam"])
@pytest.mark.parametrize("how", ["state_dict", "deepcopy", "pickle"])
def test_going_on_from_a_copy(optimizer, how):
    pair = Pair(optimizer)
    for index in INDICES[:3]:
        pair.zero()
        pair.backward(index)
        pair.step()
    if how == "state_dict":
        twin = Pair(optimizer)
        twin.ours.load_state_dict(pair.ours.state_dict())
        twin.own.load_state_dict(pair.own.state_dict())
        pair.ours, pair.own = twin.ours, twin.own
    elif how == "deepcopy":
        pair.ours, pair.own = copy.deepcopy((pair.ours, pair.own))
        assert pair.ours.weight.grad.shape == (ROWS, WIDTH)
    else:
        pair.ours, pair.own = pickle.loads(pickle.dumps((pair.ours, pair.own)))
    for index in INDICES[3:]:
        pair.zero()
        pair.backward(index)
        pair.step()
        pair.same()


def test_state_of_torch_is_taken():
    pair = Pair("adam")
    pair.backward([1, 2])
    pair.step()
    state = pair.far.state_dict()
    other = Pair("adam")
    entry = {k: int(v) if k == "step" else an.asarray(v.numpy()) for k, v in state["state"][0].items()}
    other.own.load_state_dict({"state": {0: entry}, "param_groups": state["param_groups"]})
    other.far.load_state_dict(state)
    other.backward([2, 3])
    other.step()
    other.same()


def test_accumulated_steps():
    results = []
    for sparse in (True, False):
        table = nn.Embedding(ROWS, WIDTH, _weight=an.asarray(WEIGHT.copy()), sparse=sparse)
        optimizer = an.optim.MultiSteps(an.optim.Adagrad(table.parameters(), lr=0.1), every=2)
        for index in ([1, 2], [2, 3], [4, 4], [1, 1]):
            optimizer.zero_grad()
            an.sum(table(an.asarray(index)) ** 2).backward()
            optimizer.step()
        assert isinstance(table.weight.grad, an.SparseRows) is sparse
        results.append(table.weight.numpy())
    np.testing.assert_allclose(*results, rtol=1e-12)


@pytest.mark.parametrize("optimizer", ["SGD", "Adagrad", "SparseAdam"])
def test_sixteen_bits(optimizer):
    table = nn.Embedding(ROWS, WIDTH, dtype="float16", sparse=True)
    before = table.weight.numpy().copy()
    made = getattr(an.optim, optimizer)(table.parameters(), lr=0.1)
    for _ in range(3):
        made.zero_grad()
        an.sum(table(an.asarray([1, 3, 3])) ** 2).backward()
        made.step()
    assert table.weight.dtype.name == "float16"
    changed = np.nonzero((table.weight.numpy() != before).any(axis=1))[0]
    assert changed.tolist() == [1, 3]


def test_a_frozen_table():
    table = nn.Embedding.from_pretrained(an.asarray(WEIGHT), sparse=True)
    assert not table(an.asarray([1])).requires_grad
    table.weight.requires_grad_()
    an.sum(table(an.asarray([1]))).backward()
    assert isinstance(table.weight.grad, an.SparseRows)


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adagrad", "adam"])
@pytest.mark.parametrize("device", DEVICES)
def test_every_backend(device, optimizer):
    if (why := usable(device)) != "ok":
        pytest.skip(why)
    name, how = OPTIMIZERS[optimizer]
    results = []
    for where in ("cpu", device):
        table = nn.Embedding(ROWS, WIDTH, _weight=an.asarray(WEIGHT.copy()), sparse=True, padding_idx=3).to(
            where
        )
        made = getattr(an.optim, name)(table.parameters(), **how)
        norms = []
        for index in INDICES:
            made.zero_grad()
            for k in range(2):  # accumulated
                places = an.asarray(np.asarray(index, np.int64), device=where)
                an.sum(table(places) ** (3 + k)).backward()
            assert isinstance(table.weight.grad, an.SparseRows)
            assert table.weight.grad.device == table.weight.device
            norms.append(float(an.nn.utils.clip_grad_norm_(table.parameters(), 1.0)))
            assert made.finite_gradients()
            made.step()
        an.sum(table.weight**2).backward()  # becomes an array
        gradient = to_host(table.weight.grad)
        results.append(
            [to_host(table.weight), gradient, np.array(norms), to_host(copy.deepcopy(table).weight)]
        )
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-10)


def test_a_table_that_nobody_else_knows_is_not_copied():
    def address(x):
        return x.data.__array_interface__["data"][0]

    table = nn.Embedding(100, 8, sparse=True)
    before = address(table.weight)
    optimizer = an.optim.SparseAdam(table.parameters())
    assert address(table.weight) == before
    an.sum(table(an.asarray([1, 2]))).backward()
    optimizer.step()
    again = an.optim.SGD(table.parameters(), lr=0.1)
    assert address(table.weight) != before  # the first optimizer has it, too
    again.step()
    given = np.ones((5, 2))
    for weight in (an.asarray(given), given):
        own = nn.Embedding(5, 2, _weight=weight, sparse=True)
        optimizer = an.optim.SGD(own.parameters(), lr=1.0)
        an.sum(own(an.asarray([1]))).backward()
        optimizer.step()
        assert own.weight.tolist()[1] == [0.0, 0.0]
        assert (given == 1.0).all()


def test_line_searches_take_arrays():
    results = []
    for sparse in (True, False):
        table = nn.Embedding(ROWS, WIDTH, _weight=an.asarray(WEIGHT.copy()), sparse=sparse)
        optimizer = an.optim.LBFGS(table.parameters(), lr=0.1)

        def closure(table=table, optimizer=optimizer):
            optimizer.zero_grad()
            loss = an.sum(table(an.asarray([1, 3, 3])) ** 2)
            loss.backward()
            return loss

        for _ in range(2):
            optimizer.step(closure)
        results.append(table.weight.numpy())
    np.testing.assert_allclose(*results, rtol=1e-12)


def test_devices_must_agree():
    table = an.Parameter(an.zeros((ROWS, WIDTH), device="strict"))
    g = an.SparseRows([1], an.ones((1, WIDTH)), (ROWS, WIDTH))
    table.grad = an.SparseRows(g._indices(), an.asarray(g._values(), device="strict"), g.shape)
    assert table.grad.device == "strict"
    an.optim.SGD([table], lr=1.0).step()
    assert to_host(table)[1].tolist() == [-1.0] * WIDTH
