"""Every backend against the protocol, and its methods against each other."""

from __future__ import annotations

import copy
import pickle

import numpy as np
import pytest

import anynet as an
import anynet_backends as backends
from anynet_backends import Backend, backend_of, philox, philox4x64, resolve
from anynet_backends.conformance import CHECKS, BackendCheckError, check_backend

STRICT = ["strict", "strict:device1", "strict:device2", "strict:no_float64", "strict:no_x64"]
ALL = ["cpu", *STRICT, "torch:cpu", "cuda:0"]


def usable(device: str) -> str:
    """The device, or a skip with the reason it cannot be used."""
    answer = backends.probe(device)
    if answer != "ok":
        pytest.skip(f"{device}: {answer}")
    return device


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("device", ALL)
def test_conformance(device, check):
    xp, name = resolve(usable(device))
    CHECKS[check](xp, name)


@pytest.mark.parametrize("n", [1, 7, 100, 1030])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("device", ["cpu", "strict", "torch:cpu"])
def test_a_check_of_one_array_sees_what_its_memory_holds(device, dtype, n):
    xp, name = resolve(usable(device))
    kind = getattr(xp, dtype)
    limits = xp.finfo(kind)
    x = xp.zeros((n,), dtype=kind, device=xp.native_device(name))
    finite = xp.finite_check(x)
    x[...] = float(limits.max)  # Σ x² would overflow
    x[0] = -float(limits.smallest_normal)
    assert finite() is True
    for bad in (float("nan"), float("inf"), -float("inf")):
        for i in {0, n // 2, n - 1}:
            kept = float(x[i])
            x[i] = bad
            assert finite() is False, (bad, i)
            x[i] = kept
    assert finite() is True


def test_check_backend_runs_everything():
    assert check_backend("numpy") == list(CHECKS)


def test_check_backend_names_what_is_wrong(monkeypatch):
    xp, _ = resolve("cpu")
    monkeypatch.setattr(xp, "index_add", lambda x, index, values: x)
    with pytest.raises(BackendCheckError, match=r"'numpy' on 'cpu': check 'index_add': index_add float32"):
        check_backend("numpy")


# ---- random bits ----

ADDRESSES = [
    (0, 0, 0, 1), (1, 2, 3, 8), (2**127 + 12345, 2**63, 2**64 - 1, 37),
    (2**128 - 1, 2**64 - 1, 0, 64), (5, 6, 7, 0),
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("device", ["cpu", *STRICT[:4]])
def test_philox_in_array_operations_is_numpys(device, address):
    xp, name = resolve(device)
    got = philox4x64(xp, *address, name)
    assert xp.device_of(got) == device
    assert xp.to_host(got).dtype == np.uint32
    assert np.array_equal(xp.to_host(got), philox.philox_words(*address))


def test_random_bits_known_answer():
    """From the vectors of Random123 for philox4x64-10: all ones for counter and key. NumPy counts up
    first."""
    top = 2**64 - 1
    # counter (0xff…ff, …) is what follows (0xff…fe, …): not addressable by (stream, step), so ask NumPy's
    # generator itself
    counter = np.array([top - 1, top, top, top], dtype=np.uint64)
    words = np.random.Philox(key=np.array([top, top], dtype=np.uint64), counter=counter).random_raw(4)
    assert [hex(w) for w in words] == [
        "0x87b092c3013fe90b",
        "0x438c3c67be8d0224",
        "0x9cc7d7c69cd777b6",
        "0xa09caebf594f0ba0",
    ]


def test_random_bits_are_a_prefix_of_longer_ones():
    long = philox.philox_words(9, 1, 2, 1000)
    for n in (1, 7, 8, 9, 999):
        assert np.array_equal(philox.philox_words(9, 1, 2, n), long[:n])


def test_random_bits_in_threads():
    from concurrent.futures import ThreadPoolExecutor

    expected = [philox.philox_words(3, s, 0, 2000) for s in range(40)]
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda s: philox.philox_words(3, s, 0, 2000), range(40)))
    assert all(np.array_equal(a, b) for a, b in zip(got, expected, strict=True))


# ---- the methods in the standard alone, which third parties inherit ----


@pytest.mark.parametrize("device", ALL)
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (17, 200), (300, 1000)])
def test_index_add_of_the_protocol(device, size):
    xp, name = resolve(usable(device))
    n, k = size
    rng = np.random.default_rng(n)
    x, values = (
        rng.integers(-50, 50, (n, 4)).astype(np.float32),
        rng.integers(-50, 50, (k, 4)).astype(np.float32),
    )
    index = rng.integers(-n, n, k).astype(np.int32)
    expected = x.copy()
    np.add.at(expected, index, values)
    args = [xp.from_host(a, name) for a in (x, index, values)]
    assert np.array_equal(xp.to_host(Backend.index_add(xp, *args)), expected)
    assert np.array_equal(xp.to_host(xp.index_add(*args)), expected)


@pytest.mark.parametrize("numba", ["on", "off"])
@pytest.mark.parametrize("shape", [(40, 64), (7, 3, 5), (300, 1000), (1, 300), (30,)])
def test_index_add_of_many_rows_adds_in_the_order_of_the_index(monkeypatch, numba, shape):
    monkeypatch.setenv("ANYNET_NUMBA", numba)
    xp, _ = resolve("cpu")
    rng = np.random.default_rng(0)
    n, k = shape[0], 500
    index = rng.integers(-n, n, k)
    for dtype in (np.float32, np.float64, np.int32, np.complex64):
        x, values = (rng.normal(size=(rows, *shape[1:])) * 1e3 for rows in (n, k))
        x, values = x.astype(dtype), values.astype(dtype)
        expected = x.copy()
        np.add.at(expected, index, values)
        assert np.array_equal(xp.index_add(x, index, values), expected)
        across = np.asfortranarray(x), index.astype(np.int16), values[:, ::-1] if values.ndim > 1 else values
        expected = across[0].copy()
        np.add.at(expected, across[1], across[2])
        assert np.array_equal(xp.index_add(*across), expected)
    for wrong in (n, -n - 1):
        with pytest.raises(IndexError, match=f"index {wrong} is out of bounds for axis 0 with size {n}"):
            xp.index_add(x, np.where(np.arange(k) == 300, wrong, index), values)
    with pytest.raises(IndexError, match="out of bounds"):
        xp.index_add(x[:0], index, values)


@pytest.mark.parametrize("device", ALL)
def test_windows_of_the_protocol(device):
    xp, name = resolve(usable(device))
    x = xp.from_host(np.random.default_rng(0).standard_normal((2, 9, 11)).astype(np.float32), name)
    for args in (((3, 2), (1, 2), (2, 1)), ((4,), (3,), (1,)), ((9, 11), (1, 1), (1, 1))):
        assert np.array_equal(xp.to_host(Backend.windows(xp, x, *args)), xp.to_host(xp.windows(x, *args)))


def test_windows_are_a_read_only_view_on_numpy():
    xp, _ = resolve("cpu")
    x = np.arange(6.0)
    y = xp.windows(x, (3,), (1,), (1,))
    assert np.shares_memory(x, y)
    assert not y.flags.writeable


def test_index_add_errors():
    xp, _ = resolve("cpu")
    x, v = np.zeros((3, 2), np.float32), np.ones((2, 2), np.float32)
    with pytest.raises(IndexError, match="index 3 is out of bounds for axis 0 with size 3"):
        xp.index_add(x, np.array([0, 3]), v)
    with pytest.raises(TypeError, match="x is float32 but values are float64"):
        xp.index_add(x, np.array([0, 1]), v.astype(np.float64))
    with pytest.raises(TypeError, match="integer dtype, got float64"):
        xp.index_add(x, np.array([0.0, 1.0]), v)
    with pytest.raises(
        ValueError, match=r"got x \(3, 2\), index \(3,\), values \(2, 2\); expected values \(3, 2\)"
    ):
        xp.index_add(x, np.array([0, 1, 2]), v)


def test_windows_errors():
    xp, _ = resolve("cpu")
    with pytest.raises(ValueError, match=r"does not fit into x of shape \(3, 3\)"):
        xp.windows(np.zeros((3, 3)), (4, 1), (1, 1), (1, 1))


# ---- details of each library ----


def test_numpy_refuses_arrays_that_mean_something_else():
    with pytest.raises(TypeError, match="MaskedArray"):
        backend_of(np.ma.masked_array([1.0], [True]))


def test_numpy_memmap(tmp_path):
    array = np.memmap(tmp_path / "a", dtype=np.float32, mode="w+", shape=(3,))
    assert backend_of(array).name == "numpy"


def test_numpy_scalars_of_every_dtype():
    for name in backends.array_api.DTYPES:
        assert backend_of(np.ones(2, dtype=name)[0]).name == "numpy"


def test_strict_refuses_mixed_devices_and_silent_transfers():
    xp, name = resolve("strict:device1")
    x = xp.from_host(np.ones(2, np.float32), name)
    with pytest.raises(RuntimeError):
        np.asarray(x)
    with pytest.raises(ValueError, match="device"):
        x + xp.ones(2, dtype=xp.float32)
    assert xp.to_host(x).tolist() == [1, 1]


def test_strict_refuses_a_dtype_that_the_device_lacks():
    xp, name = resolve("strict:no_float64")
    with pytest.raises(TypeError, match="'strict:no_float64' has no dtype float64"):
        xp.from_host(np.ones(2), name)


def test_strict_without_64_bits():
    xp, name = resolve("strict:no_x64")
    x = xp.from_host(np.array([[3, 1, 2]], np.int32), name)
    for y in (
        xp.argsort(x), xp.argmax(x), xp.sum(x), xp.prod(x), xp.cumulative_sum(x, axis=1), xp.count_nonzero(x),
        xp.nonzero(x)[1], xp.unique_all(x).counts, xp.searchsorted(x[0, ...], x[0, ...]), xp.linalg.trace(x),
    ):  # fmt: skip
        assert xp.device_of(y) == name
        assert y.dtype == xp.int32
    assert type(xp.unique_all(x))._fields == ("values", "indices", "inverse_indices", "counts")


def test_strict_speaks_the_newest_revision():
    xp, _ = resolve("strict")
    assert xp.__array_api_version__ == backends.array_api.REVISION
    assert xp.native.get_array_api_strict_flags()["api_version"] == backends.array_api.REVISION


def test_torch_computes_with_unsigned_words():
    xp, name = resolve(usable("torch:cpu"))
    words = np.array([0, 1, 2**31, 2**32 - 1], np.uint32)
    x = xp.from_host(words, name)
    pairs = {
        "greater_equal": (xp.greater_equal(x, 2**31), words >= 2**31),
        "less": (xp.less(x, xp.from_host(words[::-1], name)), words < words[::-1]),
        "bitwise_right_shift": (xp.bitwise_right_shift(x, 8), words >> 8),
        "bitwise_left_shift": (xp.bitwise_left_shift(x, 8), words << 8),
        "bitwise_and": (xp.bitwise_and(x, 0xFF), words & 0xFF),
        "bitwise_xor": (xp.bitwise_xor(x, x), words ^ words),
    }
    for operation, (got, expected) in pairs.items():
        assert np.array_equal(xp.to_host(got), expected), operation
        assert xp.to_host(got).dtype == expected.dtype, operation


def test_torch_bfloat16_of_python_numbers():
    torch = pytest.importorskip("torch")
    x = an.asarray([1.5, -2.0, 0.1], dtype="bfloat16", device="torch:cpu")
    assert x.data.dtype == torch.bfloat16
    assert x.data.tolist() == torch.asarray([1.5, -2.0, 0.1], dtype=torch.bfloat16).tolist()


def test_torch_bfloat16_comes_to_the_host_as_float32():
    xp, name = resolve(usable("torch:cpu"))
    x = xp.astype(xp.from_host(np.array([1.5, -2.0], np.float32), name), xp.native_dtype["bfloat16"])
    assert xp.dtype_name(x.dtype) == "bfloat16"
    assert xp.to_host(x).tolist() == [1.5, -2.0]
    assert xp.to_host(x).dtype == np.float32


def test_torch_parameters_and_views():
    xp, name = resolve(usable("torch:cpu"))
    parameter = xp.native.nn.Parameter(xp.ones(3, dtype=xp.float32))
    assert backend_of(parameter) is xp
    assert xp.to_host(parameter).tolist() == [1, 1, 1]
    z = xp.conj(xp.from_host(np.array([1 + 2j]), name))
    assert xp.to_host(z).tolist() == [1 - 2j]


@pytest.mark.parametrize("device", ["torch:nonsense", "torch:meta"])
def test_torch_devices_that_cannot_be_used(device):
    usable("torch:cpu")
    with pytest.raises(backends.UnknownDeviceError, match="It can use torch:cpu"):
        resolve(device)


# ---- the object ----


@pytest.mark.parametrize("device", ALL)
def test_dtype_names(device):
    xp, _ = resolve(usable(device))
    for name, native in xp.native_dtype.items():
        assert xp.dtype_name(native) == name
        assert xp.dtype_name(native) == name  # from the cache
    assert set(backends.array_api.DTYPES) <= set(xp.native_dtype)


def test_names_outside_the_standard():
    xp, _ = resolve("cpu")
    with pytest.raises(AttributeError, match=r"'numpy' backend has no 'maximun'.*did you mean 'maximum'"):
        xp.maximun  # noqa: B018
    assert not hasattr(xp, "einsum")


def test_a_backend_is_one_object():
    xp, _ = resolve("cpu")
    assert copy.deepcopy(xp) is xp
    assert pickle.loads(pickle.dumps(xp)) is xp
    assert repr(xp) == "<anynet backend 'numpy'>"


def test_blas_and_versions():
    xp, _ = resolve("cpu")
    assert xp.blas_info()["name"]
    assert xp.versions()["numpy"] == np.__version__


def test_the_allocator_can_be_told_and_told_back():
    import sys

    from anynet_backends.memory import allocator

    taken = allocator.keep_large_blocks(True)
    if not sys.platform.startswith("linux"):
        assert not taken
        return
    try:
        assert "keeps" in allocator.status() or not taken
        if taken:
            assert allocator.keep_large_blocks(False)
            assert "as the C library" in allocator.status()
    finally:
        allocator.at_import()


@pytest.mark.parametrize("dtype", ["int8", "int32", "int64", "uint64", ">i8"])
def test_indices_within_a_length_are_not_looked_at_twice(dtype):
    """`check(..., within=n)` asks the function for all that does not lie from 0 to n − 1, whatever the integers' type and order;
    where there are many, for all but those of two types."""
    (xp, _), asked = resolve("cpu"), []
    for values, length, inside in (
        ([0, 2, 1], 3, True), ([0, 3, 1], 3, False), ([0, -1, 1], 3, False), ([-128, 0], 1 << 40, False), ([], 3, False), ([0], 0, False),
    ):  # fmt: skip
        if min(values, default=0) < 0 and dtype == "uint64":
            continue
        for x in (made := np.array(values, dtype), made[::-1], np.array([values, values], dtype).T):
            for many in (x, np.repeat(x, 40, axis=0)):
                asked.clear()
                xp.check(asked.append, many, within=length)
                assert len(asked) == (not inside or (many.size > 32 and dtype not in ("int32", "int64")))
