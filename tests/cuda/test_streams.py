"""On which stream anynet computes, that it waits for none of other libraries, and that what others do with the same arrays is in order."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet_backends import get_backend
from ci.cuda_emulator.log import Log, late, present

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

XP = get_backend("cupy")
NULL = cupy.cuda.Stream.null
EMULATED = pytest.mark.skipif(not present(), reason="asks the emulator where and how late work is done")


@pytest.fixture(autouse=True)
def current_stream():
    """As a thread has it when it begins."""
    NULL.use()
    yield
    NULL.use()


def own(device=0):
    return XP._streams.of(cupy.cuda.Device(device))


def name(stream):
    return f"a blocking stream {stream.ptr}"


def numbers(seed, n=300):
    return np.random.default_rng(seed).standard_normal(n).astype(np.float32)


def training():
    net = nn.Sequential(nn.Linear(8, 6), nn.Dropout(0.2), nn.GELU(), nn.Linear(6, 3)).to("cuda")
    optimizer, loss_of = optim.Adam(net.parameters(), lr=0.1), nn.CrossEntropyLoss()
    x, y = an.asarray(numbers(0, 40).reshape(5, 8), device="cuda"), an.asarray([0, 1, 2, 0, 1], device="cuda")

    def step(x=x, y=y):
        loss = loss_of(net(x), y)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        return loss

    return step


@EMULATED
def test_a_training_is_on_one_stream_that_is_not_the_default_one():
    with Log() as log:
        step = training()
        for _ in range(4):
            step().item()
    assert log.streams == [name(own())]


@EMULATED
def test_a_captured_training_is_on_it_and_stays_on_it():
    step = an.compile(training())
    for _ in range(4):
        step().item()  # the fourth call captures on a stream of its own
    assert cupy.cuda.get_current_stream() == own()
    with Log() as log:
        for _ in range(3):
            step().item()
    assert log.streams == [name(own())]
    assert len(log.having("graph")) == 3


@EMULATED
def test_fit_copies_beside_it():
    net = nn.Sequential(nn.Linear(8, 6), nn.ReLU(), nn.Linear(6, 3))
    data = numbers(1, 320).reshape(40, 8), np.arange(40) % 3
    with Log() as log:
        an.fit(net, data, loss="cross_entropy", optimizer="adam", lr=0.1, epochs=2, batch_size=8, device="cuda", progress=False,
               compile=False)  # fmt: skip
    copying = f"a non-blocking stream {XP._uploads['cuda:0'].copies.ptr}"
    assert set(log.streams) == {name(own()), copying}
    at = ""
    for line in log.lines:
        at = line.removeprefix("on ") if line.startswith("on ") else at
        if at == copying and line.startswith(("launch", "copy", "memset", "graph")):
            assert line.startswith("copy HtoD"), line


@EMULATED
def test_a_thread_that_begins_is_on_it_too():
    found = []

    def work():
        an.zeros((3,), device="cuda")
        found.append(cupy.cuda.get_current_stream())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [own()]


@EMULATED
def test_each_device_has_one():
    if cupy.cuda.runtime.getDeviceCount() < 2:
        pytest.skip("one device")
    with Log() as log:
        for device in ("cuda:0", "cuda:1", "cuda:0"):
            x = an.asarray(numbers(2, 12).reshape(3, 4), device=device)
            an.sum(x @ x.mT).item()
    assert log.streams == [name(own(0)), name(own(1))]
    assert own(0) != own(1)


def test_a_stream_that_was_chosen_is_taken():
    with cupy.cuda.Stream(non_blocking=True) as mine:
        x = an.ones((3,), device="cuda") * 2
        assert cupy.cuda.get_current_stream() == mine
    mine.synchronize()
    assert x.tolist() == [2.0, 2.0, 2.0]
    assert cupy.cuda.get_current_stream() == NULL  # CuPy's way
    an.ones((3,), device="cuda")
    assert cupy.cuda.get_current_stream() == own()


@EMULATED
def test_another_librarys_stream_is_not_waited_for():
    """As everything on the default stream would."""
    step = training()
    step().item()
    theirs = cupy.cuda.Stream()
    with late("default"):
        with theirs:
            x = cupy.ones(10, np.float32) * 2
            queued = theirs.record()
        own().use()
        loss = step()
        own().synchronize()
        assert not queued.done
        assert loss.item() > 0
        theirs.synchronize()
    assert x.tolist() == [2.0] * 10


def both_ways(stream, factor=3.0):
    """What a user's code on the default stream writes, anynet on `stream` reads, and the other way round, several times."""
    x, y = cupy.zeros(300, np.float32), cupy.zeros(300, np.float32)
    cupy.cuda.Device().synchronize()
    wanted = np.zeros(300, np.float32)
    for k in range(4):
        x += k * factor  # the user's, on the default stream
        stream.use()
        t = an.asarray(x) * 2 + an.asarray(y)
        array = t._data
        NULL.use()
        y[...] = array + 1
        wanted = 2 * factor * sum(range(k + 1)) + wanted + 1
        del t, array  # whose memory goes back to the stream's part of the pool
    return y, wanted


@EMULATED
@pytest.mark.parametrize("who", ["others", "default", "all"])
def test_what_users_do_on_the_default_stream_is_in_order(who):
    both_ways(own(), 5.0)  # leaves other numbers in the memory
    with late(who):
        y, wanted = both_ways(own())
        cupy.cuda.Device().synchronize()
    np.testing.assert_array_equal(cupy.asnumpy(y), wanted)


@EMULATED
def test_on_a_non_blocking_stream_it_would_not_be():
    """Why the stream is none."""
    other = cupy.cuda.Stream(non_blocking=True)
    both_ways(other, 5.0)
    with late("all"):
        y, wanted = both_ways(other)
        cupy.cuda.Device().synchronize()
    assert (cupy.asnumpy(y) != wanted).any()


@EMULATED
@pytest.mark.parametrize("who", ["others", "default", "all"])
def test_arrays_that_other_libraries_are_given_and_give(who):
    """By DLPack each side waits for the other's stream, as it is told."""
    theirs = cupy.cuda.Stream(non_blocking=True)

    class Theirs:
        """An array of a library that computes on a stream of its own."""

        def __init__(self, array):
            self.array = array

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

        def __dlpack__(self, **options):
            with theirs:
                return self.array.__dlpack__(**options)

    def exchange():
        x = an.asarray(numbers(3), device="cuda")
        with theirs:
            mine = cupy.cuda.get_current_stream()
            given = cupy.from_dlpack(x * 2)  # CuPy names its current stream
            back = given + 1
        assert mine == theirs
        an.zeros((1,), device="cuda")
        return an.from_dlpack(Theirs(back)) * 3

    exchange()
    with late(who):
        y = exchange()
        cupy.cuda.Device().synchronize()
    np.testing.assert_array_equal(y.numpy(), (numbers(3) * 2 + 1) * 3)


@EMULATED
def test_memory_that_is_given_back_is_used_again_in_order():
    """A block that another thread's stream, the default one, gives back while this one still reads it."""
    x = an.asarray(numbers(4), device="cuda")
    with late("all"):
        for k in range(6):
            NULL.use()
            a = cupy.full(300, k, np.float32)
            own().use()
            y = x + an.asarray(a)
            NULL.use()
            del a
            cupy.full(300, -1, np.float32)
            own().use()
            np.testing.assert_array_equal(y.numpy(), numbers(4) + np.float32(k))
