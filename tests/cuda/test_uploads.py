"""Arrays of the host on their way to a GPU: the numbers, whoever is late, what is kept, and that nothing waits that need not."""

from __future__ import annotations

import gc

import numpy as np
import pytest

import anynet as an
from anynet.data import DataLoader
from anynet_backends import get_backend
from anynet_backends.cupy_uploads import Uploads, _Block, _Lease
from ci.cuda_emulator.log import Log, late, present

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

XP = get_backend("cupy")
LATE = pytest.mark.skipif(not present(), reason="who is late is the emulator's to say")


@pytest.fixture
def uploads():
    return Uploads(cupy, cupy.cuda.Device(0))


def numbers(seed, n=300):
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int64", "float16", "float32", "complex128"])
def test_an_array_arrives(uploads, dtype):
    for shape in ((), (0, 3), (5,), (3, 4, 5)):
        a = (np.random.default_rng(0).standard_normal(shape) * 50).astype(dtype)
        for given in (a, np.asfortranarray(a), np.repeat(a[..., None], 2, -1)[..., 0]):
            y = uploads(given)
            assert (y.shape, y.dtype, y.flags.c_contiguous) == (given.shape, a.dtype, True)
            np.testing.assert_array_equal(cupy.asnumpy(y), given)


def test_other_dtypes_and_orders_of_bytes():
    upload = XP.uploader("cuda:0")
    a = np.arange(5, dtype=">f4")
    y = upload(a)
    assert y.dtype == "float32"
    np.testing.assert_array_equal(cupy.asnumpy(y), a)
    with pytest.raises(TypeError, match="CuPy has no dtype"):
        upload(np.array(["a"]))


def compute(uploads, count=12):
    """Sums of arrays of which each is let go as soon as what is computed with it is queued, and one that is kept as a view."""
    sums, views, host = [], [], np.empty(300, np.float32)
    for k in range(count):
        host[:] = numbers(k)  # the array that was given before is written to
        x = uploads(host)
        sums.append(x * 2 + 1)
        if k % 4 == 0:
            views.append((k, x[10:20]))
    return sums, views


def check(sums, views):
    for k, y in enumerate(sums):
        np.testing.assert_array_equal(cupy.asnumpy(y), numbers(k) * 2 + 1)
    for k, x in views:
        np.testing.assert_array_equal(cupy.asnumpy(x), numbers(k)[10:20])


def test_arrays_that_are_let_go_at_once(uploads):
    check(*compute(uploads))


@LATE
@pytest.mark.parametrize("streams", ["others", "default", "all"])
def test_whoever_is_late_the_numbers_are_right(uploads, streams):
    compute(uploads, 2)  # compiles
    with late(streams):
        found = compute(uploads)
        cupy.cuda.Device().synchronize()
    check(*found)


class Deaf:
    """A stream that does not wait."""

    def __init__(self, stream):
        self.stream = stream

    def __getattr__(self, name):
        return getattr(self.stream, name)

    def wait_event(self, event):
        pass


@LATE
@pytest.mark.parametrize(
    ("streams", "missing"), [("others", "computing"), ("default", "copying"), ("all", "buffer")]
)
def test_each_wait_is_needed(uploads, streams, missing, monkeypatch):
    """Without one of the three the emulator shows wrong numbers."""
    compute(uploads, 2)
    if missing == "computing":
        deaf = Deaf(cupy.cuda.Stream.null)
        monkeypatch.setattr(cupy.cuda, "get_current_stream", lambda: deaf)
    elif missing == "copying":
        uploads.copies = Deaf(uploads.copies)
    else:
        one = cupy.cuda.alloc_pinned_memory(1536), cupy.cuda.Event(disable_timing=True)
        monkeypatch.setattr(uploads, "_buffer", lambda size: one)
    with late(streams):
        sums, _ = compute(uploads)
        cupy.cuda.Device().synchronize()
    monkeypatch.undo()
    assert [k for k, y in enumerate(sums) if not np.array_equal(cupy.asnumpy(y), numbers(k) * 2 + 1)]


@LATE
def test_memory_is_used_again_and_nothing_waits(uploads):
    compute(uploads, 40)
    with Log() as log:
        compute(uploads, 40)
    assert log.synchronisations == 0
    assert not log.having("allocate")
    assert len(uploads.kept) <= 16
    assert sum(map(len, uploads.pinned.values())) <= 4


def test_what_is_kept_is_given_back():
    upload = XP.uploader("cuda:0")
    upload(numbers(0, 1 << 20))
    an.cuda.empty_cache()
    before = an.cuda.memory().used
    x = upload(numbers(0, 1 << 20))
    assert an.cuda.memory().used - before == 4 << 20
    del x
    assert an.cuda.memory().used - before == 4 << 20  # for the next one
    an.cuda.empty_cache()
    assert an.cuda.memory().used == before


def test_an_array_may_outlive_the_loader():
    data = numbers(3, 640).reshape(64, 10)
    batches = list(DataLoader(data, 8, device="cuda", pin_memory=True))
    np.testing.assert_array_equal(np.concatenate([b.numpy() for b in batches]), data)


def test_each_device_has_its_own_stream():
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one device")
    one, two = (XP.uploader(f"cuda:{i}")(numbers(i)) for i in range(2))
    assert [one.device.id, two.device.id] == [0, 1]
    np.testing.assert_array_equal(cupy.asnumpy(two), numbers(1))
    kept = XP._uploads["cuda:1"].kept
    before = len(kept)
    del two  # while the first device is the current one
    assert len(kept) == before + 1


@LATE
@pytest.mark.parametrize("streams", ["others", "default", "all"])
def test_a_training_has_the_same_bits_whoever_is_late(streams):
    def train():
        an.random.manual_seed(1)
        net = an.nn.Sequential(an.nn.Linear(10, 8), an.nn.ReLU(), an.nn.Linear(8, 3))
        y = np.arange(60) % 3
        an.fit(
            net, (numbers(5, 600).reshape(60, 10), y), loss="cross_entropy", optimizer="adam", lr=1e-2, epochs=2, batch_size=7,
            device="cuda", progress=False,
        )  # fmt: skip
        return [p.numpy() for p in net.parameters()]

    expected = train()
    with late(streams):
        found = train()
    for a, b in zip(expected, found, strict=True):
        np.testing.assert_array_equal(a, b)


def test_memory_that_was_in_a_circle_of_references_serves_again(uploads):
    """Such a circle is finalized as a whole; the event of what is kept must not be."""
    block = _Block(cupy, 512, cupy.cuda.get_current_stream())
    circle = [_Lease(uploads.kept, uploads.lent, block), block]
    circle.append(circle)
    del circle, block
    gc.collect()
    assert (len(uploads.kept), len(uploads.lent)) == (1, 0)
    uploads.copies.wait_event(uploads.kept[0].free)
    np.testing.assert_array_equal(cupy.asnumpy(uploads(np.ones(100, np.float32))), 1)
