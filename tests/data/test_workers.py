"""Worker processes: the same batches as without, errors with their traceback, nothing left behind."""

from __future__ import annotations

import copyreg
import gc
import json
import multiprocessing
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import anynet as an
from anynet.data import DataLoader, Dataset, IterableDataset, TensorDataset, get_worker_info

LONG = os.environ.get("ANYNET_LONG_TESTS") == "1"
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the tests' data sets are forked")


def no_children() -> None:
    """Every worker has ended and was waited for."""
    assert multiprocessing.active_children() == []


class Augmented(Dataset):
    """Samples that draw from every generator there is, big enough for shared memory."""

    def __init__(self, n: int = 22, size: int = 3000) -> None:
        self.n, self.size = n, size

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> dict[str, Any]:
        own = an.nn.functional.dropout(an.ones(4), 0.5)
        return {
            "x": np.full(self.size, i, np.float32) + np.random.rand(), "p": random.random(), "own": own, "i": i, "text": f"sample {i}",
            "legacy": np.random.randn(),
        }  # fmt: skip


def plain(batch: Any) -> Any:
    return {k: v.tolist() if isinstance(v, an.Tensor) else v for k, v in batch.items()}


@pytest.mark.parametrize(
    "options",
    [
        {"num_workers": 1},
        {"num_workers": 3},
        {"num_workers": 2, "persistent_workers": True, "prefetch_factor": 1},
    ],
)
def test_the_result_does_not_depend_on_the_number_of_workers(options: dict[str, Any]) -> None:
    alone, several = (
        DataLoader(Augmented(), 4, shuffle=True, seed=5),
        DataLoader(Augmented(), 4, shuffle=True, seed=5, **options),
    )
    for _ in range(2):
        expected, got = list(alone), list(several)
        assert [plain(b) for b in got] == [plain(b) for b in expected]
        for batch in got:
            assert (batch["x"].dtype, batch["p"].dtype, batch["i"].dtype) == (
                an.float32,
                an.float32,
                an.int64,
            )
            batch["x"].assign_(batch["x"] + 1.0)  # it may be written
    if "persistent_workers" not in options:
        no_children()
    del several, alone
    gc.collect()
    no_children()


@pytest.mark.parametrize("workers", [0, 2])
def test_the_generators_outside_are_left_alone(workers: int) -> None:
    random.seed(3)
    np.random.seed(3)
    an.random.manual_seed(3)
    expected = random.random(), np.random.rand(), np.random.rand()
    random.seed(3)
    np.random.seed(3)
    before = an.random.get_state()
    got = [random.random(), np.random.rand()]
    list(DataLoader(Augmented(8, 10), 4, num_workers=workers))
    assert (*got, np.random.rand()) == expected
    assert an.random.get_state() == before


def test_resume_in_the_middle_with_workers() -> None:
    def make() -> DataLoader:
        return DataLoader(Augmented(), 4, shuffle=True, seed=2, num_workers=2)

    whole = [plain(b) for loader in [make()] for _ in range(2) for b in loader]
    for stop in (1, 4, 6, 8):
        loader, seen = make(), 0
        while seen < stop:
            for _ in loader:
                seen += 1
                if seen == stop:
                    break
        new = make()
        new.load_state_dict(json.loads(json.dumps(loader.state_dict())))
        rest: list[Any] = []
        while len(rest) < len(whole) - stop:
            rest += [plain(b) for b in new]
        assert rest == whole[stop:]
    no_children()


def test_arrays_and_subsets() -> None:
    x, y = np.arange(40_000.0).reshape(20, 2000), np.arange(20)
    alone, several = DataLoader((x, y), 6, shuffle=True), DataLoader((x, y), 6, shuffle=True, num_workers=2)
    for (a, b), (c, d) in zip(alone, several, strict=True):
        assert c.dtype == an.float64
        np.testing.assert_array_equal(a.numpy(), c.numpy())
        assert b.tolist() == d.tolist()
    part = an.data.Subset(TensorDataset(x, y), [3, 4, 5])
    assert [b.tolist() for _, b in DataLoader(part, 2, num_workers=1)] == [[3, 4], [5]]
    assert list(DataLoader([], 4, num_workers=2)) == []
    single = list(DataLoader(np.arange(5), 2, num_workers=1))
    assert [b.tolist() for b in single] == [[0, 1], [2, 3], [4]]
    pytest.importorskip("array_api_strict", reason="another device")
    with pytest.raises(ValueError, match="arrays on a device stay in their process"):
        DataLoader(an.asarray(x, device="strict:device1"), 2, num_workers=1)


@pytest.mark.parametrize("method", ["spawn", "forkserver"] if LONG else ["spawn"])
def test_start_methods(method: str, tmp_path: Path) -> None:
    """In a script, as these need."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent(f"""
        import anynet as an
        class Squares(an.data.Dataset):
            def __len__(self): return 5
            def __getitem__(self, i): return i * i
        if __name__ == "__main__":
            loader = an.data.DataLoader(Squares(), 2, num_workers=1, multiprocessing_context="{method}")
            print([b.tolist() for b in loader])
            try:
                list(an.data.DataLoader(Squares(), 2, num_workers=1, multiprocessing_context="{method}", collate_fn=lambda s: s))
            except Exception as error:
                print(type(error).__name__, "top level" in "".join(error.__notes__))
        """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120, check=False)
    lines = done.stdout.splitlines()
    assert lines[0] == "[[0, 1], [4, 9], [16]]", done.stderr
    assert lines[1].endswith("True"), done.stderr
    assert "leaked" not in done.stderr


# ----- errors -----


class Failing(Dataset):
    def __init__(self, at: int, what: Any) -> None:
        self.at, self.what = at, what

    def __len__(self) -> int:
        return 10

    def __getitem__(self, i: int) -> int:
        if i == self.at:
            self.what()
        return i


class Odd(Exception):
    """Pickled, it cannot be made again."""

    def __init__(self, a: int, b: int) -> None:
        super().__init__(f"odd {a} {b}")


def raising(error: BaseException) -> Any:
    def raise_it() -> None:
        raise error

    return raise_it


def test_errors_come_with_the_workers_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    # Dask, where another test has loaded it, makes every exception picklable
    monkeypatch.delitem(copyreg.dispatch_table, Odd, raising=False)
    got: list[list[int]] = []
    with pytest.raises(KeyError, match="sample 7 is broken") as caught:
        got.extend(
            b.tolist()
            for b in DataLoader(Failing(7, raising(KeyError("sample 7 is broken"))), 2, num_workers=2)
        )
    assert got == [[0, 1], [2, 3], [4, 5]]
    [note] = caught.value.__notes__
    assert note.startswith("in worker 1 of the DataLoader:\nTraceback")
    assert "in __getitem__" in note
    with pytest.raises(RuntimeError, match=r"DataLoader: .*Odd: odd 1 2"):
        list(DataLoader(Failing(3, raising(Odd(1, 2))), 2, num_workers=1))
    with pytest.raises(RuntimeError, match="the data set raised StopIteration"):
        list(DataLoader(Failing(3, raising(StopIteration())), 2, num_workers=1))
    with pytest.raises(ZeroDivisionError):
        list(DataLoader(Failing(-1, None), 2, num_workers=2, worker_init_fn=lambda worker: 1 // 0))
    with pytest.raises(AttributeError, match=r"(?i)pickle"):
        list(DataLoader([1, 2], 2, num_workers=1, collate_fn=lambda samples: lambda: samples))
    no_children()


def test_killed_workers_are_an_error() -> None:
    with pytest.raises(
        RuntimeError, match=r"worker 1 \(process \d+\) was killed by SIGKILL \(out of memory\?\)"
    ):
        list(DataLoader(Failing(3, lambda: os.kill(os.getpid(), signal.SIGKILL)), 2, num_workers=2))
    with pytest.raises(RuntimeError, match=r"worker 0 .* has ended with exit code 3"):
        list(DataLoader(Failing(5, lambda: os._exit(3)), 2, num_workers=2))
    no_children()


def test_hung_workers_are_an_error() -> None:
    began = time.monotonic()
    with pytest.raises(
        RuntimeError, match=r"worker 0 .* made no batch in 0.5 s; the data set hangs or is slow"
    ):
        list(DataLoader(Failing(4, lambda: time.sleep(1000)), 2, num_workers=2, timeout=0.5))
    with pytest.raises(
        RuntimeError, match=r"made no batch in 0.5 s"
    ):  # stopped: it does not even take SIGTERM
        list(
            DataLoader(
                Failing(4, lambda: os.kill(os.getpid(), signal.SIGSTOP)), 2, num_workers=1, timeout=0.5
            )
        )
    assert time.monotonic() - began < 60
    no_children()


def test_a_break_ends_the_workers_at_once() -> None:
    class Slow(Dataset):
        def __len__(self) -> int:
            return 100

        def __getitem__(self, i: int) -> int:
            if i > 3:
                time.sleep(1000)
            return i

    began = time.monotonic()
    for _ in DataLoader(Slow(), 2, num_workers=2):
        break
    no_children()
    assert time.monotonic() - began < 30


def test_persistent_workers_live_on_after_a_break_and_not_after_an_error() -> None:
    loader = DataLoader(Augmented(40, 10), 4, num_workers=2, persistent_workers=True)
    pids = lambda: {p.pid for p in multiprocessing.active_children()}  # noqa: E731
    for _ in loader:
        break
    first = pids()
    assert len(first) == 2
    other = DataLoader(Augmented(40, 10), 4)
    other.set_epoch(1)
    assert [plain(b) for b in loader] == [plain(b) for b in other]  # nothing of the epoch that was left
    assert pids() == first
    os.kill(min(first), signal.SIGKILL)
    with pytest.raises(RuntimeError, match="SIGKILL"):
        list(loader)
    no_children()
    assert len(list(loader)) == 10  # new ones
    del loader
    gc.collect()
    no_children()


SCRIPT = """
import os, signal, sys, time
import numpy as np
import anynet as an
class Slow(an.data.Dataset):
    def __len__(self): return 1000
    def __getitem__(self, i):
        time.sleep(0.02)
        return np.zeros(50_000, np.float32)
loader = an.data.DataLoader(Slow(), 2, num_workers=2, persistent_workers={persistent})
for i, batch in enumerate(loader):
    if i == 1:
        import multiprocessing
        print(*[p.pid for p in multiprocessing.active_children()], flush=True)
        {then}
"""


def gone(pids: list[int], within: float = 20.0) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end:
        alive = []
        for pid in pids:
            try:
                stat = Path(f"/proc/{pid}/stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if stat.rpartition(")")[2].split()[0] != "Z":
                alive.append(pid)
        if not alive:
            return True
        time.sleep(0.05)
    return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("persistent", [False, True] if LONG else [True])
@pytest.mark.parametrize(
    ("then", "code"),
    [
        ("os.killpg(0, signal.SIGINT)", -signal.SIGINT),  # Ctrl-C, which reaches the workers too
        ("os.kill(os.getpid(), signal.SIGKILL)", -signal.SIGKILL),
        ("sys.exit(5)", 5),
    ],
)
def test_the_end_of_the_program_ends_the_workers(persistent: bool, then: str, code: int) -> None:
    shared = set(os.listdir("/dev/shm")) if Path("/dev/shm").is_dir() else set()
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(persistent=persistent, then=then)],
        capture_output=True, text=True, timeout=120, start_new_session=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    pids = [int(word) for word in done.stdout.split()]
    assert len(pids) == 2
    assert gone(pids)
    assert done.stderr.count("Traceback") == (1 if code == -signal.SIGINT else 0), done.stderr
    assert "leaked" not in done.stderr
    if shared:
        assert not {name for name in set(os.listdir("/dev/shm")) - shared if "anynet" in name}


# ----- streams -----


class Stream(IterableDataset):
    def __init__(self, n: int = 23) -> None:
        self.n = n

    def __iter__(self) -> Iterator[Any]:
        for i in range(self.n):
            yield i, np.random.rand()


class Divided(Stream):
    def __iter__(self) -> Iterator[Any]:
        info = get_worker_info()
        first, step = (0, 1) if info is None else (info.id, info.num_workers)
        for i in range(first, self.n, step):
            yield i, np.random.rand()


def numbers(loader: DataLoader) -> list[list[int]]:
    return [i.tolist() for i, _ in loader]


@pytest.mark.parametrize("drop_last", [False, True])
@pytest.mark.parametrize("workers", [0, 1, 3])
def test_streams(workers: int, drop_last: bool) -> None:
    loader = DataLoader(Stream(), 4, num_workers=workers, drop_last=drop_last, seed=3)
    expected = DataLoader(list(range(23)), 4, drop_last=drop_last)
    assert numbers(loader) == [b.tolist() for b in expected]
    reference = DataLoader(Stream(), 4, drop_last=drop_last, seed=3)
    reference.set_epoch(1)
    assert [p.tolist() for _, p in loader] == [p.tolist() for _, p in reference]  # what is drawn, in epoch 1
    with pytest.raises(TypeError, match="Stream without a length"):
        len(loader)
    no_children()


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("kind", [Stream, Divided])
def test_streams_go_on_where_they_were(workers: int, kind: Any) -> None:
    def make() -> DataLoader:
        return DataLoader(kind(), 3, num_workers=workers, seed=1)

    def values(loader: DataLoader, most: int = 100) -> list[Any]:
        found = []
        for i, p in loader:
            found.append((i.tolist(), p.tolist()))
            if len(found) == most:
                break
        return found

    whole = values(make())
    assert sorted(i for batch, _ in whole for i in batch) == list(range(23))
    for stop in (1, 4, 7):
        loader = make()
        assert values(loader, stop) == whole[:stop]
        new = make()
        new.load_state_dict(loader.state_dict())
        assert values(new) == whole[stop:]
    no_children()


def test_a_divided_stream_draws_in_each_worker_from_its_own_seed() -> None:
    drawn = [p for _, p in DataLoader(Divided(24), 1, num_workers=2)]
    assert len({float(p[0]) for p in drawn}) == 24


class Late(IterableDataset):
    def __iter__(self) -> Iterator[int]:
        yield 1
        get_worker_info()
        yield 2


def test_who_asks_too_late_is_told() -> None:
    with pytest.raises(RuntimeError, match=r"asked get_worker_info\(\) after its first sample"):
        list(DataLoader(Late(), 1, num_workers=2))


def test_worker_init_fn_may_divide_a_stream_too() -> None:
    def divide(worker: int) -> None:
        info = get_worker_info()
        assert info is not None
        assert info.id == worker
        info.dataset.n = 4 + worker

    assert numbers(DataLoader(Stream(), 2, num_workers=2, worker_init_fn=divide)) == [
        [0, 1],
        [0, 1],
        [2, 3],
        [2, 3],
        [4],
    ]


def test_functions_and_other_iterables() -> None:
    def squares() -> Iterator[int]:
        for i in range(5):
            yield i * i

    for workers in (0, 2):
        loader = DataLoader(squares, 2, num_workers=workers)
        for _ in range(2):
            assert [b.tolist() for b in loader] == [[0, 1], [4, 9], [16]]
    assert [b.tolist() for b in DataLoader({3, 4}, 2)] == [[3, 4]]
    batches = DataLoader([an.ones(3), an.zeros(2)], None, prefetch=1)  # the samples are batches
    assert [b.tolist() for b in batches] == [[1.0] * 3, [0.0] * 2]
    assert [b for b in DataLoader(lambda: iter("ab"), None)] == ["a", "b"]
    with pytest.raises(TypeError, match="must return an iterator of samples, got int"):
        list(DataLoader(lambda: 3))
    with pytest.raises(TypeError, match="must be an instance, got the class Stream"):
        DataLoader(Stream)
    with pytest.raises(TypeError, match="got int"):
        DataLoader(3)
    for bad in ({"shuffle": True}, {"sampler": [1]}, {"batch_sampler": [[1]]}):
        with pytest.raises(ValueError, match="is for data sets with an index; a stream has its own order"):
            DataLoader(Stream(), **bad)


def test_first_looks_and_does_not_move() -> None:
    for data in (Stream(), list(range(23)), Divided()):
        loader = (
            DataLoader(data, 4, num_workers=2)
            if isinstance(data, Stream)
            else DataLoader(data, 4, shuffle=True)
        )
        before = loader.state_dict()
        first = loader.first()
        assert (first[0] if isinstance(first, (list, tuple)) else first).tolist() == [0, 1, 2, 3]
        assert loader.state_dict() == before
    with pytest.raises(ValueError, match="empty"):
        DataLoader(Stream(0), 4).first()


# ----- options -----


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"prefetch_factor": 2}, "prefetch_factor is for worker processes"),
        ({"persistent_workers": True}, "persistent_workers is for worker processes"),
        ({"multiprocessing_context": "fork"}, "multiprocessing_context is for worker processes"),
        ({"num_workers": 1, "multiprocessing_context": "frok"}, "must be one of .*fork.*, got 'frok'"),
        ({"num_workers": 1, "prefetch": 2}, "give prefetch_factor"),
        ({"num_workers": 1, "prefetch_factor": 0}, "prefetch_factor must be an integer ≥ 1"),
        ({"num_workers": -1}, "num_workers must be an integer ≥ 0"),
        ({"timeout": -1}, "timeout must be a number of seconds ≥ 0"),
    ],
)
def test_options_that_do_not_go_together(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DataLoader([1, 2], 2, **options)


def test_pin_memory_says_that_it_does_nothing_here() -> None:
    with pytest.warns(UserWarning, match="pin_memory=True does nothing on 'cpu'"):
        loader = DataLoader([1.0, 2.0], 2, pin_memory=True)
    assert [b.tolist() for b in loader] == [[1.0, 2.0]]


# ----- data sets of others -----


class HuggingFace:
    """The protocol of `datasets.Dataset`: rows are dicts; several at once by ``__getitems__``."""

    def __init__(self) -> None:
        self.asked: list[Any] = []

    def __len__(self) -> int:
        return 5

    def __getitem__(self, key: Any) -> Any:
        if not isinstance(key, (int, slice, list)):
            raise TypeError(type(key))
        if isinstance(key, int):
            return {"text": f"row {key}", "label": key, "vector": [float(key), 1.0]}
        return {"text": ...}

    def __getitems__(self, keys: list[int]) -> list[Any]:
        self.asked.append(keys)
        return [self[k] for k in keys]


@pytest.mark.parametrize("workers", [0, 1])
def test_data_sets_of_hugging_face(workers: int) -> None:
    data = HuggingFace()
    batches = list(DataLoader(data, 2, shuffle=True, num_workers=workers))
    assert sorted(i for b in batches for i in b["label"].tolist()) == list(range(5))
    for batch in batches:
        assert batch["text"] == [f"row {i}" for i in batch["label"].tolist()]
        assert batch["vector"][0].tolist() == [float(i) for i in batch["label"].tolist()]
    if not workers:
        assert all(type(k) is int for keys in data.asked for k in keys)
        assert len(data.asked) == 3


@pytest.mark.parametrize("workers", [0, 1])
def test_data_sets_of_pytorch(workers: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch has the data sets")

    class Pairs(torch.utils.data.Dataset):  # type: ignore[misc, name-defined]
        def __len__(self) -> int:
            return 6

        def __getitem__(self, i: int) -> Any:
            return torch.full((30_000,), float(i)), torch.tensor(i), i / 2

    for data in (Pairs(), torch.utils.data.Subset(Pairs(), range(6))):
        [x, y, z], _ = DataLoader(data, 4, num_workers=workers)
        assert all(isinstance(t, an.Tensor) and t.device == "cpu" for t in (x, y, z))
        assert (x.dtype, x.shape, y.dtype, y.tolist(), z.tolist()) == (
            an.float32,
            (4, 30_000),
            an.int64,
            [0, 1, 2, 3],
            [0.0, 0.5, 1.0, 1.5],
        )
        assert isinstance(x.numpy(), np.ndarray)

    tensors = torch.utils.data.TensorDataset(torch.arange(3.0), torch.arange(3))
    [x, y], *_ = DataLoader(tensors, 2, num_workers=workers, collate_fn=torch.utils.data.default_collate)
    assert (x.device, x.tolist(), y.tolist()) == ("cpu", [0.0, 1.0], [0, 1])

    class Numbers(torch.utils.data.IterableDataset):  # type: ignore[misc, name-defined]
        def __iter__(self) -> Iterator[Any]:
            return iter(torch.arange(5))

    assert [b.tolist() for b in DataLoader(Numbers(), 2, num_workers=workers)] == [[0, 1], [2, 3], [4]]


def test_pictures_of_pillow() -> None:
    from optional_libraries import needs

    image = needs("PIL.Image", "images")
    data = [(image.fromarray(np.full((2, 3, 3), i, np.uint8)), i) for i in range(3)]
    x, y = next(iter(DataLoader(data, 3)))
    assert (x.shape, x.dtype, y.tolist()) == ((3, 2, 3, 3), an.uint8, [0, 1, 2])
    assert x[2, 0, 0, 0].tolist() == 2
