"""Where arrays are on one of several CUDA devices, everything that is computed from them is there, whichever device is the current one."""

from __future__ import annotations

import threading

import numpy as np
import pytest

import anynet as an
from anynet import nn, optim
from anynet.cli.commands.doctor import examine
from anynet.testing.parity import CASES
from anynet_backends import get_backend, philox, registry
from ci.cuda_emulator.log import Log, present

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

if present() and cupy.cuda.runtime.getDeviceCount() < 2:
    pytest.skip("needs two devices of the CUDA emulator (run --devices 2)", allow_module_level=True)

SECOND = "cuda:1"


def strays(log: Log) -> list[str]:
    """Kernels that read another device's memory, and what CuPy does about it by itself."""
    return sorted(set(log.having("foreign pointer", "peer access", "copy PtoP")))


@pytest.fixture(autouse=True)
def first_device_is_current():
    cupy.cuda.Device(0).use()


def test_operations_gradients_and_updates_stay_where_the_arrays_are():
    net = nn.Sequential(nn.Linear(4, 8), nn.GELU(), nn.LayerNorm(8), nn.Dropout(0.1), nn.Linear(8, 3)).to(
        SECOND
    )
    optimizer = optim.Adam(net.parameters(), lr=0.1)
    x, y = an.asarray(np.ones((5, 4), np.float32), device=SECOND), an.asarray([0, 1, 2, 0, 1], device=SECOND)
    with Log() as log:
        for _ in range(3):
            an.zeros((1,), device="cuda:0")
            loss = nn.CrossEntropyLoss()(net(x), y)
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
    assert not strays(log)
    assert {
        loss.device,
        *(p.device for p in net.parameters()),
        *(p.grad.device for p in net.parameters()),
    } == {SECOND}


@pytest.mark.parametrize("make", [optim.SGD, optim.Adam, optim.Muon])
def test_an_update_is_there_whatever_came_after_the_gradients(make):
    """Between the gradients and the step something else was computed on another device."""
    net = nn.Linear(4, 3, bias=make is not optim.Muon).to(SECOND)
    optimizer, x = make(net.parameters(), lr=0.1), an.asarray(np.ones((5, 4), np.float32), device=SECOND)
    before = net.weight.numpy()
    for _ in range(3):
        optimizer.zero_grad()
        an.sum(net(x) ** 2).backward()
        cupy.cuda.Device(0).use()
        with Log() as log:
            optimizer.step()
        assert not strays(log)
    assert np.all(net.weight.numpy() != before)


def test_an_update_of_fit_is_there_whatever_a_hook_computed():
    net = nn.Linear(4, 3, bias=False).to(SECOND)

    def hook(g):
        cupy.cuda.Device(0).use()
        return g

    net.weight.register_hook(hook)
    x, y = np.ones((24, 4), np.float32), np.arange(24) % 3
    with Log() as log:
        an.fit(net, (x, y), loss="cross_entropy", optimizer="adam", lr=0.1, epochs=1, batch_size=4, device=SECOND, progress=False,
               compile=False)  # fmt: skip
    assert not strays(log)
    assert net.weight.device == SECOND


def test_to_name_a_device_leaves_the_current_one():
    xp = get_backend("cupy")
    xp.native_device(SECOND)
    assert cupy.cuda.runtime.getDevice() == 0
    assert xp.zeros(3, device=xp.native_device(SECOND)).device.id == 1
    assert cupy.cuda.runtime.getDevice() == 0


BY_ITSELF = {
    "add": lambda xp, x, i: xp.add(x, x),
    "zeros_like": lambda xp, x, i: xp.zeros_like(x),
    "linalg": lambda xp, x, i: xp.linalg.svdvals(x),
    "affine": lambda xp, x, i: xp.affine(x, x, x[0]),
    "product_and_sums": lambda xp, x, i: xp.product_and_sums(x, x)[0],
    "index_add": lambda xp, x, i: xp.index_add(x, i, x),
    "add_to_rows": lambda xp, x, i: xp.add_to_rows(x, i, x) or x,
    "set_rows": lambda xp, x, i: xp.set_rows(x, i, x) or x,
    "rounded": lambda xp, x, i: xp.rounded(x, "bfloat16"),
    "drop": lambda xp, x, i: xp.drop(x, (3, 3), (1, 2, 3), 1 << 30, 1.25),
    "clip_norm": lambda xp, x, i: xp.clip_norm(x.reshape(-1), 0.5, 1e-6),
    "move_averages": lambda xp, x, i: xp.move_averages(x[:2], x[1:], 0.9, (0.1, 0.1)) and x,
}


@pytest.mark.parametrize("name", BY_ITSELF)
def test_a_function_of_the_backend_makes_it_current_while_it_runs(name):
    """As the backend promises to who calls it himself; within an operation the device is the current one already."""
    xp = get_backend("cupy")
    x = xp.from_host(np.arange(9, dtype=np.float32).reshape(3, 3), SECOND)
    i = xp.from_host(np.asarray([2, 0, 1]), SECOND)
    with cupy.cuda.Device(1):
        x = x + 1
    assert cupy.cuda.runtime.getDevice() == 0
    with Log() as log:
        y = BY_ITSELF[name](xp, x, i)
    assert y.device.id == 1
    assert not strays(log)
    assert cupy.cuda.runtime.getDevice() == 0


def test_random_words_are_made_where_they_are_wanted():
    with Log() as log:
        words = get_backend("cupy").random_bits(1, 2, 3, 20, SECOND)
    assert words.device.id == 1
    assert not strays(log)
    np.testing.assert_array_equal(words.get(), philox.philox_words(1, 2, 3, 20))


def test_a_wrong_index_is_looked_for_there():
    table, index = an.asarray(np.arange(4.0), device=SECOND), an.asarray([1, 7], device=SECOND)
    cupy.cuda.Device(0).use()
    with Log() as log:
        y = an.take(table, index)
    assert not strays(log)
    assert an.asarray(1.5, device="cuda:0").item() == 1.5  # another device's value says nothing of it
    with pytest.raises(IndexError, match="index 7 is out of range"):
        y.numpy()


def test_the_memory_of_each_is_its_own():
    before = [an.cuda.memory(f"cuda:{i}").used for i in range(2)]
    x = an.zeros((1 << 18,), dtype="float32", device=SECOND)
    cupy.cuda.Device(0).use()
    assert an.cuda.memory(SECOND).used - before[1] == x.size * 4
    assert an.cuda.memory("cuda:0").used == before[0]
    held = an.cuda.memory(SECOND).held
    del x
    cupy.cuda.Device(0).use()
    an.cuda.empty_cache(SECOND)
    assert an.cuda.memory(SECOND).held < held


def test_a_new_thread_computes_there_too():
    x, found = an.asarray(np.ones((3, 3), np.float32), device=SECOND), []
    with Log() as log:
        thread = threading.Thread(target=lambda: found.append((x @ x + x).device))
        thread.start()
        thread.join()
    assert found == [SECOND]
    assert not strays(log)


def test_from_one_device_to_the_other_and_back():
    x = an.asarray(np.arange(6.0), device="cuda:0", requires_grad=True)
    y = an.sum((x * 2).to(SECOND) ** 2)
    y.backward()
    assert (y.device, x.grad.device) == (SECOND, "cuda:0")
    assert x.grad.tolist() == [8.0 * i for i in range(6)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_a_case_stays_there(case):
    inputs = [
        an.asarray(
            philox.uniform(5, 9, i, shape, case.low, case.high),
            dtype="float32",
            device=SECOND,
            requires_grad=True,
        )
        for i, shape in enumerate(case.shapes)
    ]
    cupy.cuda.Device(0).use()
    with Log() as log:
        y = case.function(*inputs)
        an.sum(y * y).backward()
    assert not strays(log)
    assert {y.device, *(x.grad.device for x in inputs if x.grad is not None)} == {SECOND}


@pytest.mark.parametrize("sparse", [False, True])
def test_gradients_of_looked_up_rows(sparse):
    table = nn.Embedding(5, 3, sparse=sparse).to(device=SECOND)
    optimizer = optim.SGD(table.parameters(), lr=0.1)
    before = table.weight.to("cpu").numpy()
    with Log() as log:
        an.sum(table(an.asarray([1, 4, 1], device=SECOND))).backward()
        optimizer.step()
    assert table.weight.device == table.weight.grad.device == SECOND
    np.testing.assert_allclose(
        before - table.weight.to("cpu").numpy(), 0.1 * np.outer([0, 2, 0, 0, 1], np.ones(3)), atol=1e-6
    )
    assert not strays(log)


def test_what_shows_that_a_device_works_computes_there(monkeypatch):
    monkeypatch.setattr(registry, "_PROBED", {})
    with Log() as log:
        found = dict(examine()["devices"])
    assert not strays(log)
    assert found[SECOND].startswith("one training step: loss")
    assert registry._PROBED[SECOND] == "ok"
