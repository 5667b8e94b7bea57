"""Samplers: PyTorch's meanings, an order that follows from the seed and the epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anynet as an
from anynet.data import (
    BatchSampler,
    DataLoader,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from anynet.streams import SHUFFLES
from anynet_backends import philox

N = 30
DATA = list(range(N))


def taken(loader: DataLoader) -> list[int]:
    return [i for batch in loader for i in batch.tolist()]


SAMPLERS: dict[str, Any] = {
    "sequential": lambda: SequentialSampler(DATA),
    "random": lambda: RandomSampler(DATA),
    "replacement": lambda: RandomSampler(DATA, replacement=True, num_samples=50),
    "more": lambda: RandomSampler(DATA, num_samples=70),
    "fewer": lambda: RandomSampler(DATA, num_samples=7),
    "subset": lambda: SubsetRandomSampler([3, 9, 27, 4]),
    "weighted": lambda: WeightedRandomSampler(np.arange(N) + 0.0, 40),
    "weighted once": lambda: WeightedRandomSampler(an.asarray(np.arange(N) + 0.0), 12, replacement=False),
}


@pytest.mark.parametrize("name", SAMPLERS)
def test_the_order_follows_from_seed_and_epoch(name: str) -> None:
    epochs = [
        taken(loader) for loader in [DataLoader(DATA, 4, sampler=SAMPLERS[name](), seed=3)] for _ in range(3)
    ]
    again = DataLoader(DATA, 5, sampler=SAMPLERS[name](), seed=3, prefetch=2)
    again.set_epoch(2)
    assert taken(again) == epochs[2]
    assert len(epochs[0]) == len(SAMPLERS[name]())
    if name != "sequential":
        assert epochs[0] != epochs[1]
        assert taken(DataLoader(DATA, 4, sampler=SAMPLERS[name](), seed=4)) != epochs[0]
    sampler = SAMPLERS[name]()
    sampler.seed = 3  # its own, outside of any loader: each iteration is the next epoch
    assert [list(sampler) for _ in range(3)] == epochs


ENDLESS: dict[str, Any] = {
    "replacement": lambda n: RandomSampler(DATA, replacement=True, num_samples=n, seed=5),
    "weighted": lambda n: WeightedRandomSampler(np.arange(N) + 0.0, n, seed=5),
    "in rounds": lambda n: RandomSampler(DATA, num_samples=n, seed=5),
}


@pytest.mark.parametrize("name", ENDLESS)
@pytest.mark.parametrize("data", [DATA, np.arange(N)], ids=["list", "array"])
def test_more_indices_than_memory_holds(name: str, data: Any) -> None:
    make = ENDLESS[name]
    few = make(400_000).order(0, 2)
    listed = list(few)
    assert len(listed) == len(few) == 400_000
    assert {type(i) for i in listed} == {int}
    if name == "replacement":  # block by block what is drawn in one
        np.testing.assert_array_equal(listed, np.floor(philox.uniform(5, SHUFFLES, 2, (400_000,), 0.0, N)))
    assert set(listed) == set(range(name == "weighted", N))
    assert [few[i] for i in (0, 65_535, 65_536, -1)] == [listed[i] for i in (0, 65_535, 65_536, -1)]
    assert few[65_530:131_080].tolist() == listed[65_530:131_080]
    assert few[399_990:400_100].tolist() == listed[399_990:]
    assert few[7:7].tolist() == []
    loader = DataLoader(data, 7, sampler=make(10**10), seed=3)
    assert len(loader) == -(-(10**10) // 7)
    loader.set_epoch(2)
    found = [next(batches).tolist() for batches in [iter(loader)] for _ in range(3)]
    assert [i for batch in found for i in batch] == listed[:21]


@pytest.mark.parametrize("name", SAMPLERS)
@pytest.mark.parametrize("workers", [0, 2])
def test_resume_is_exact(name: str, workers: int) -> None:
    def make() -> DataLoader:
        return DataLoader(DATA, 4, sampler=SAMPLERS[name](), seed=1, num_workers=workers)

    whole = make()
    flat = [b.tolist() for _ in range(2) for b in whole]
    loader, seen = make(), []
    stop = len(flat) // 2 + 1
    while len(seen) < stop:
        for batch in loader:
            seen.append(batch.tolist())
            if len(seen) == stop:
                break
    state = loader.state_dict()
    new = make()
    new.load_state_dict(state)
    while len(seen) < len(flat):
        seen += [b.tolist() for b in new]
    assert seen == flat


def test_shuffle_is_the_random_sampler() -> None:
    assert taken(DataLoader(DATA, 4, shuffle=True, seed=7)) == taken(
        DataLoader(DATA, 4, sampler=RandomSampler(DATA), seed=7)
    )


def test_what_is_drawn() -> None:
    assert sorted(RandomSampler(DATA)) == DATA
    many = list(RandomSampler(DATA, num_samples=75))
    assert [sorted(many[i : i + N]) for i in (0, N)] == [DATA, DATA]
    assert len(set(many[60:])) == 15
    drawn = np.bincount(list(RandomSampler(DATA, replacement=True, num_samples=30_000)), minlength=N)
    assert drawn.min() > 800  # 1000 each, standard deviation 31
    assert drawn.max() < 1200


def test_weights() -> None:
    w = np.array([0.0, 1.0, 3.0, 0.0, 6.0, 0.0])
    drawn = np.bincount(list(WeightedRandomSampler(w, 20_000, seed=5)), minlength=6) / 20_000
    assert drawn[w == 0].tolist() == [0, 0, 0]
    np.testing.assert_allclose(drawn, w / 10, atol=0.02)
    first = np.zeros(6)
    for seed in range(3000):
        once = list(WeightedRandomSampler(w, 3, replacement=False, seed=seed))
        assert sorted(once) == [1, 2, 4]
        first[once[0]] += 1 / 3000
    np.testing.assert_allclose(first, w / 10, atol=0.04)  # the first draw has the weights' distribution


@pytest.mark.parametrize("drop_last", [False, True])
def test_batch_samplers_are_torchs(drop_last: bool) -> None:
    torch = pytest.importorskip("torch", reason="torch is the oracle")
    ours, theirs = (
        BatchSampler(range(10), 4, drop_last),
        torch.utils.data.BatchSampler(range(10), 4, drop_last),
    )
    assert (list(ours), len(ours)) == (list(theirs), len(theirs))
    loader = DataLoader(DATA, batch_sampler=BatchSampler(SubsetRandomSampler(range(10)), 4, drop_last))
    batches = [b.tolist() for b in loader]
    assert [len(b) for b in batches] == ([4, 4] if drop_last else [4, 4, 2])
    assert len(loader) == len(batches)
    assert [b.tolist() for b in loader] != batches  # the next epoch
    assert [b.tolist() for b in DataLoader(DATA, batch_sampler=theirs)] == list(theirs)


def test_samplers_of_pytorch_and_lists_serve() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch has the samplers")
    loader = DataLoader(DATA, 7, sampler=torch.utils.data.SequentialSampler(DATA))
    assert (taken(loader), len(loader)) == (DATA, 5)
    distributed = torch.utils.data.DistributedSampler(DATA, num_replicas=2, rank=1, shuffle=True)
    loader = DataLoader(DATA, 5, sampler=distributed)
    first = taken(loader)
    assert taken(loader) != first  # it was told the epoch
    loader.set_epoch(0)
    assert taken(loader) == first
    assert taken(DataLoader(DATA, 2, sampler=[4, 2, 2])) == [4, 2, 2]
    assert [b.tolist() for b in DataLoader(DATA, batch_sampler=[[0, 1, 2], [5]])] == [[0, 1, 2], [5]]
    assert taken(DataLoader(torch.arange(5), 2, sampler=torch.tensor([3, 1]))) == [3, 1]


class Evens(Sampler):
    """Of a kind of one's own, with an order of its own in each epoch."""

    def order(self, seed: int, epoch: int) -> Any:
        return (2 * i + epoch for i in range(5))


class Once(Sampler):
    def __iter__(self) -> Any:
        return iter([8, 6])


def test_samplers_of_ones_own() -> None:
    loader = DataLoader(DATA, 2, sampler=Evens())
    assert [taken(loader), taken(loader)] == [[0, 2, 4, 6, 8], [1, 3, 5, 7, 9]]
    with pytest.raises(TypeError, match="without a length has no number of batches"):
        len(loader)
    assert list(Evens()) == [0, 2, 4, 6, 8]
    assert taken(DataLoader(DATA, 2, sampler=Once())) == [8, 6]
    with pytest.raises(NotImplementedError, match="Sampler does not define __iter__"):
        list(Sampler())

    class Endless:  # a data set without a length
        def __getitem__(self, i: int) -> int:
            return i * i

    assert taken(DataLoader(Endless(), 2, sampler=[3, 10, 4])) == [9, 100, 16]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RandomSampler(DATA, num_samples=0), "num_samples must be an integer ≥ 1, got 0"),
        (lambda: RandomSampler(DATA, seed=-1), "seed must be"),
        (lambda: list(RandomSampler([], replacement=True, num_samples=3)), "the data set is empty"),
        (lambda: WeightedRandomSampler([1.0, -1.0], 2), "weights must be a sequence of finite numbers ≥ 0"),
        (lambda: WeightedRandomSampler([0.0, 0.0], 2), "not all 0"),
        (lambda: WeightedRandomSampler([float("nan")], 2), "finite"),
        (lambda: WeightedRandomSampler([], 2), "weights must be"),
        (
            lambda: WeightedRandomSampler([1.0, 0.0, 1.0], 3, replacement=False),
            "number of positive weights, 2; got 3",
        ),
        (lambda: BatchSampler(DATA, 0, False), "batch_size must be an integer ≥ 1"),
        (lambda: DataLoader(DATA, 2, shuffle=True, sampler=DATA), "sampler is an order already"),
        (lambda: DataLoader(DATA, 2, batch_sampler=[[0]]), "batch_sampler says it all"),
        (lambda: DataLoader(DATA, batch_sampler=[[0]], drop_last=True), "batch_sampler says it all"),
        (lambda: DataLoader(DATA, None, drop_last=True), "drop_last is for batches"),
    ],
)
def test_what_cannot_be_is_refused(make: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_a_sampler_that_is_used_up_is_refused() -> None:
    with pytest.raises(TypeError, match="can be gone through only once"):
        DataLoader(DATA, 2, sampler=iter(DATA))
    with pytest.raises(TypeError, match="sampler must be an iterable"):
        DataLoader(DATA, 2, sampler=3)


def test_the_state_of_another_order_is_refused() -> None:
    def loader(weights: list[float]) -> DataLoader:
        return DataLoader([1, 2, 3], 2, sampler=WeightedRandomSampler(weights, 4))

    state = loader([1.0, 2.0, 3.0]).state_dict()
    loader([1.0, 2.0, 3.0]).load_state_dict(state)
    with pytest.raises(ValueError, match=r"sampler='WeightedRandomSampler.*crc"):
        loader([1.0, 2.0, 4.0]).load_state_dict(state)
    with pytest.raises(ValueError, match="sampler"):
        DataLoader([1, 2, 3], 2, sampler=SequentialSampler(DATA)).load_state_dict(state | {"samples": 3})


def test_fit_resumes_with_the_same_sampler_alone(tmp_path: Path) -> None:
    x, y = np.ones((12, 2), np.float32), np.arange(12) % 2

    def fit(weights: Any, epochs: int, resume: bool) -> Any:
        loader = DataLoader((x, y), 4, sampler=WeightedRandomSampler(weights, 8))
        an.random.manual_seed(0)
        return an.fit(
            an.nn.Linear(2, 2),
            loader,
            loss="cross_entropy",
            epochs=epochs,
            run_dir=tmp_path / "run",
            resume=resume,
            progress=False,
        )

    fit(np.ones(12), 1, False)
    with pytest.raises(an.train.CheckpointError, match="sampler: 'WeightedRandomSampler"):
        fit(np.arange(12) + 1.0, 2, True)
    assert len(fit(np.ones(12), 2, True)) == 2
