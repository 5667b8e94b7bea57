"""Data sets and the loader."""

from __future__ import annotations

import gc
import random
import threading
from collections import namedtuple
from typing import Any

import numpy as np
import pytest

import anynet as an
from anynet.data import DataLoader, Dataset, Subset, TensorDataset, default_collate, random_split
from anynet.data.images.source import ImageDataset
from anynet.data.transforms import RandomHorizontalFlip
from anynet_backends import resolve


class Squares(Dataset):
    def __init__(self, n: int = 10, fail_at: int | None = None) -> None:
        self.n, self.fail_at = n, fail_at

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> tuple[float, int]:
        if i == self.fail_at:
            raise KeyError(f"sample {i} is broken")
        return float(i) ** 2, i


def order(loader: DataLoader) -> list[int]:
    return [i for _, y in loader for i in y.tolist()]


def threads() -> list[str]:
    return [t.name for t in threading.enumerate() if t.name == "anynet-prefetch"]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("batch_size", [1, 3, 5, 10, 11])
@pytest.mark.parametrize("prefetch", [0, 2])
def test_batches_are_torchs(batch_size: int, drop_last: bool, prefetch: int) -> None:
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    ours = DataLoader(Squares(), batch_size, drop_last=drop_last, prefetch=prefetch)
    theirs = torch.utils.data.DataLoader(Squares(), batch_size, drop_last=drop_last)
    assert len(ours) == len(theirs)
    got, expected = list(ours), list(theirs)
    assert len(got) == len(expected)
    for (x, y), (tx, ty) in zip(got, expected, strict=True):
        assert isinstance(x, an.Tensor)
        assert x.dtype == an.float32
        assert y.dtype == an.int64
        assert (x.tolist(), y.tolist()) == (tx.tolist(), ty.tolist())


def test_shuffles_are_addressed_by_seed_and_epoch() -> None:
    loader = DataLoader(Squares(50), 7, shuffle=True, seed=3)
    first, second = order(loader), order(loader)
    assert sorted(first) == sorted(second) == list(range(50))
    assert first != second
    again = DataLoader(Squares(50), 5, shuffle=True, seed=3, prefetch=3)
    again.set_epoch(1)
    assert order(again) == second
    assert order(DataLoader(Squares(50), 7, shuffle=True, seed=4)) != first


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_resume_in_the_middle_of_an_epoch(prefetch: int) -> None:
    make = lambda: DataLoader(Squares(23), 4, shuffle=True, seed=9, prefetch=prefetch)  # noqa: E731
    whole = make()
    expected = [[y.tolist() for _, y in whole] for _ in range(3)]
    flat = [batch for epoch in expected for batch in epoch]
    for stop in range(len(flat)):
        loader = make()
        seen = 0
        while seen < stop:
            for _ in loader:
                seen += 1
                if seen == stop:
                    break
        state = loader.state_dict()
        assert (state["epoch"], state["batch"]) == divmod(stop, 6)
        new = make()
        new.load_state_dict(state)
        rest = [y.tolist() for _ in range(3 - state["epoch"]) for _, y in new]
        assert rest == flat[stop:]


def test_after_a_break_the_next_loop_is_the_next_epoch() -> None:
    loader = DataLoader(Squares(20), 5, shuffle=True)
    other = DataLoader(Squares(20), 5, shuffle=True)
    other.set_epoch(1)
    for _ in loader:
        break
    assert order(loader) == order(other)


def test_a_state_that_does_not_fit_is_refused_and_changes_nothing() -> None:
    loader = DataLoader(Squares(20), 5, shuffle=True, seed=1)
    before = loader.state_dict()
    for change in (
        {"seed": 2},
        {"samples": 19},
        {"batch_size": 4},
        {"shuffle": False},
        {"batch": 5},
        {"epoch": -1},
    ):
        with pytest.raises(ValueError, match="DataLoader: the state is"):
            loader.load_state_dict(before | change)
    with pytest.raises(ValueError, match="no 'epoch'"):
        loader.load_state_dict({})
    assert loader.state_dict() == before


@pytest.mark.parametrize("prefetch", [0, 3])
def test_errors_of_the_data_set_come_out_of_the_loop(prefetch: int) -> None:
    loader = DataLoader(Squares(10, fail_at=7), 2, prefetch=prefetch)
    got: list[list[int]] = []
    with pytest.raises(KeyError, match="sample 7 is broken"):
        got.extend(y.tolist() for _, y in loader)
    assert got == [[0, 1], [2, 3], [4, 5]]
    assert threads() == []


def test_the_thread_ends_at_break_at_an_error_and_at_collection() -> None:
    loader = DataLoader(Squares(1000), 1, prefetch=2)
    for _ in loader:
        assert threads()
        break
    gc.collect()
    assert threads() == []
    batches = iter(loader)
    next(batches)
    assert threads()
    del batches
    gc.collect()
    assert threads() == []
    iter(loader)  # never begun: no thread
    assert threads() == []


def test_no_more_than_prefetch_batches_are_made_ahead() -> None:
    made = []

    class Counting(Squares):
        def __getitem__(self, i: int) -> tuple[float, int]:
            made.append(i)
            return super().__getitem__(i)

    batches = iter(DataLoader(Counting(100), 1, prefetch=3))
    next(batches)
    for _ in range(200):
        if len(made) >= 4:
            break
        threading.Event().wait(0.005)
    threading.Event().wait(0.05)
    assert len(made) == 4
    batches.close()  # type: ignore[attr-defined]


def test_arrays_tuples_and_lists() -> None:
    x, y = np.arange(12.0).reshape(6, 2), np.arange(6)
    [batch] = DataLoader(x, 6)
    assert isinstance(batch, an.Tensor)
    assert batch.dtype == an.float64  # arrays keep their dtype
    assert [len(b) for b in DataLoader(an.asarray(x), 4)] == [4, 2]
    first, labels = next(iter(DataLoader((x, an.asarray(y)), 4)))
    assert (first.shape, labels.tolist()) == ((4, 2), [0, 1, 2, 3])
    assert [b.tolist() for b in DataLoader([3.0, 1.0, 2.0], 2)] == [[3.0, 1.0], [2.0]]


def test_dicts_of_arrays() -> None:
    x, y = np.arange(12.0).reshape(6, 2), np.arange(6)
    for prefetch in (0, 1):
        batches = list(DataLoader({"x": x, "y": an.asarray(y)}, 4, prefetch=prefetch))
        assert [list(b) for b in batches] == [["x", "y"]] * 2
        assert batches[1]["x"].tolist() == [[8.0, 9.0], [10.0, 11.0]]
        assert batches[1]["y"].dtype == an.int64
    with pytest.raises(ValueError, match="must have the same length"):
        DataLoader({"x": x, "y": y[:3]})
    assert [b.tolist() for b in DataLoader({0: 5, 1: 6}, 2)] == [[5, 6]]  # samples by index, as any mapping


def test_to_the_device(xp_device: str) -> None:
    x, y = np.arange(12, dtype=np.float32).reshape(6, 2), np.arange(6)
    name = resolve(xp_device)[1]
    for prefetch in (0, 2):
        for a, b in DataLoader((x, y), 4, device=xp_device, prefetch=prefetch, shuffle=True):
            assert a.device == b.device == name
            np.testing.assert_array_equal(a.numpy(), x[b.numpy()])
    there = an.asarray(x, device=xp_device)
    assert next(iter(DataLoader(there, 4))).device == name  # arrays elsewhere than on the host stay
    assert next(iter(DataLoader(there, 4, device="cpu"))).device == "cpu"
    assert TensorDataset(there)[-1][0].tolist() == [10.0, 11.0]


def test_collate() -> None:
    Pair = namedtuple("Pair", "x text")
    batch = default_collate([Pair(an.asarray([1.0, 2.0]), "a"), Pair(an.asarray([3.0, 4.0]), "b")])
    assert type(batch) is Pair
    assert (batch.x.tolist(), batch.text) == ([[1.0, 2.0], [3.0, 4.0]], ["a", "b"])
    batch = default_collate([{"a": np.int8(1), "b": [True]}, {"a": np.int8(2), "b": [False]}])
    assert batch["a"].dtype == an.int8
    assert batch["b"][0].dtype == an.bool
    for bad in ([np.zeros(2), np.zeros(3)], [np.zeros(2), np.zeros(2, np.float32)], [np.zeros(2), 1.0]):
        with pytest.raises(ValueError, match="one shape and dtype"):
            default_collate(bad)
    with pytest.raises(ValueError, match="keys"):
        default_collate([{"a": 1}, {"b": 1}])
    with pytest.raises(ValueError, match="samples must have one length"):
        default_collate([(1,), (1, 2)])
    with pytest.raises(TypeError, match=r"got object; try collate_fn="):
        default_collate([object()])


def test_collate_fn() -> None:
    got = list(DataLoader(Squares(3), 2, collate_fn=lambda samples: {"n": len(samples), "x": np.zeros(1)}))
    assert [b["n"] for b in got] == [2, 1]
    assert isinstance(got[0]["x"], an.Tensor)


def test_tensor_dataset_and_subset() -> None:
    data = TensorDataset(np.arange(6.0), [5, 4, 3, 2, 1, 0])
    assert len(data) == 6
    assert data[-1][0].tolist() == 5.0
    part = Subset(data, [4, -6])
    assert part[0][1].tolist() == 1
    assert [y.tolist() for _, y in DataLoader(part, 2)] == [[1, 5]]
    for index in (6, -7):
        with pytest.raises(IndexError, match="out of range for a data set of 6"):
            data[index]
    with pytest.raises(IndexError, match="out of range"):
        Subset(data, [6])
    with pytest.raises(ValueError, match="must have the same length along axis 0"):
        TensorDataset(np.zeros(2), np.zeros(3))
    with pytest.raises(ValueError, match="at least one"):
        TensorDataset()


def test_random_split() -> None:
    parts = random_split(list(range(10)), [7, 3], seed=5)
    assert [len(p) for p in parts] == [7, 3]
    rows = [p[i] for p in parts for i in range(len(p))]
    assert sorted(rows) == list(range(10))
    assert [p.indices for p in random_split(list(range(10)), [7, 3], seed=5)] == [p.indices for p in parts]
    assert [p.indices for p in random_split(list(range(10)), [7, 3], seed=6)] != [p.indices for p in parts]
    assert [len(p) for p in random_split(list(range(11)), [0.5, 0.25, 0.25])] == [6, 3, 2]
    for bad in ([], [7, 4], [-1, 11], [0.5, 0.6]):
        with pytest.raises(ValueError, match="random_split: lengths"):
            random_split(list(range(10)), bad)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"batch_size": 0}, "batch_size must be an integer ≥ 1, got 0"),
        ({"batch_size": 2.5}, "batch_size"),
        ({"prefetch": -1}, "prefetch must be an integer ≥ 0"),
        ({"seed": -1}, "seed"),
        ({"device": "cpux"}, "cpux"),
        ({"num_workers": 1, "multiprocessing_context": 3}, "multiprocessing_context must be one of .* got 3"),
    ],
)
def test_bad_options(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataLoader(Squares(), **kwargs)


def test_data_sets_without_length_or_with_nothing() -> None:
    with pytest.raises(
        TypeError, match=r"a generator only once; give the function that makes it, or try list"
    ):
        DataLoader(x for x in range(3))
    assert list(DataLoader([], 4)) == []
    loader = DataLoader(Squares(0), 4, shuffle=True, prefetch=2)
    assert (len(loader), list(loader)) == (0, [])
    with pytest.raises(NotImplementedError, match="does not define __len__"):
        len(Dataset())


def test_batches_are_outside_of_any_graph() -> None:
    x = an.asarray([1.0, 2.0], requires_grad=True)
    [batch] = DataLoader(x, 2)
    assert not batch.requires_grad


class Drawing:
    """Samples of the process's generators."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        if index == 3:
            np.random.set_bit_generator(np.random.PCG64(5))  # noqa: NPY002 - as a user may
        return np.asarray([random.random(), np.random.random(), np.random.normal()], "f4")  # noqa: NPY002 - the legacy one is meant


def test_generators_of_the_process_begin_anew_for_each_batch():
    """And are where they were outside, also where a sample has put another generator in the place of NumPy's."""
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    expected = random.random(), np.random.random()  # noqa: NPY002
    np.random.seed(3)  # noqa: NPY002
    random.seed(3)
    loader = an.data.DataLoader(Drawing(), batch_size=2, seed=7)
    first = [b.tolist() for b in loader]
    assert (random.random(), np.random.random()) == expected  # noqa: NPY002
    loader.set_epoch(0)
    assert [b.tolist() for b in loader] == first
    assert len({x for b in first for row in b for x in row}) == 18
    loader.set_epoch(1)
    assert [b.tolist() for b in loader] != first


def test_what_draws_nothing_says_so():
    table = an.data.Table(
        {"x": [1.0, 2.0, 3.0, 4.0, 5.0, 6.0], "y": [1.0, 2.5, 3.0, 4.0, 5.0, 6.0]}, target="y"
    )
    assert not table.train.draws
    made = [
        ImageDataset(None, None, None, None, a).draws for a in (None, RandomHorizontalFlip(), lambda x: x)
    ]
    assert made == [False, False, True]
