"""Data sets whose samples are others in each epoch: the loader says which epoch it is."""

from __future__ import annotations

import pytest

from anynet.data import DataLoader, Dataset, Subset


class Drawn(Dataset):
    """Sample i of epoch e is 100 e + i."""

    def __init__(self, n: int = 6, epoch: int = 0) -> None:
        self.n, self.epoch = n, epoch

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> int:
        return 100 * self.epoch + i

    def at_epoch(self, epoch: int) -> Drawn:
        return Drawn(self.n, epoch)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_each_epoch_has_its_samples_also_after_a_resume(prefetch: int) -> None:
    loader = DataLoader(Drawn(), 4, prefetch=prefetch)
    assert [b.tolist() for b in loader] == [[0, 1, 2, 3], [4, 5]]
    assert [b.tolist() for b in loader] == [[100, 101, 102, 103], [104, 105]]
    other = DataLoader(Drawn(), 4, prefetch=prefetch)
    other.set_epoch(2, 1)
    state = other.state_dict()
    assert [b.tolist() for b in other] == [[204, 205]]
    loader.load_state_dict(state)
    assert [b.tolist() for b in loader] == [[204, 205]]


def test_two_epochs_at_once_do_not_mix() -> None:
    loader = DataLoader(Drawn(), 2)
    first = iter(loader)
    next(first)
    loader.set_epoch(1)
    second = iter(loader)
    assert next(second).tolist() == [100, 101]
    assert next(first).tolist() == [2, 3]


def test_subsets_are_asked_too() -> None:
    part = Subset(Subset(Drawn(), [5, 3, 1]), [0, 2])
    assert part.at_epoch(3).batch([0, 1]).tolist() == [305, 301]
    assert [b.tolist() for b in DataLoader(part, 2)] == [[5, 1]]
    fixed = Subset([1, 2], [0])
    assert fixed.at_epoch(3) is fixed
