"""The Python of the CuPy backend, run over a CuPy made of NumPy with two devices.

It finds misspelt names, arrays on the wrong device and copies from the host that nobody asked for. It says
nothing about CUDA: that takes a GPU (``tests/backends/test_backends.py`` on "cuda:0").
"""

from __future__ import annotations

import sys
import types
from typing import ClassVar

import numpy as np
import pytest

from anynet_backends import BackendUnavailableError, UnknownDeviceError, array_api, philox
from anynet_backends.conformance import check_random_bits, check_transfer, check_windows
from anynet_backends.cupy_backend import CupyBackend


class Device:
    """The thread's current device, as a stack."""

    stack: ClassVar[list[int]] = [0]

    def __init__(self, index=None):
        self.id = Device.stack[-1] if index is None else getattr(index, "id", index)

    def __enter__(self):
        Device.stack.append(self.id)
        return self

    def __exit__(self, *_):
        Device.stack.pop()

    def __eq__(self, other):
        return isinstance(other, Device) and self.id == other.id

    def __hash__(self):
        return self.id

    def use(self):
        Device.stack[-1] = self.id

    def synchronize(self):
        pass


class ndarray(np.ndarray):
    """A NumPy array that remembers a device and refuses to become an ordinary one unasked."""

    def __array_finalize__(self, source):
        self.index = (
            getattr(source, "index", Device.stack[-1]) if type(source) is ndarray else Device.stack[-1]
        )

    @property
    def device(self):
        return Device(self.index)

    @property
    def data(self):
        return types.SimpleNamespace(device_id=self.index)

    def get(self):
        return np.array(self.view(np.ndarray))

    def copy(self):
        return array(self.view(np.ndarray))


def array(obj, dtype=None, copy=True, order="K"):
    made = np.array(obj.view(np.ndarray) if isinstance(obj, ndarray) else obj, dtype=dtype, order=order)
    made = made.view(ndarray)
    made.index = Device.stack[-1]
    return made


def on_current(function):
    return lambda *args, **kwargs: array(function(*args, **kwargs))


class RawKernel:
    def __init__(self, source, name):
        assert name in source

    def __call__(self, grid, block, args):
        stream, out, n, k0, k1, step, cells = args
        assert cells == 0  # nothing is captured
        assert all(type(a) is np.uint64 for a in (k0, k1, step, stream, n))
        assert grid[0] * block[0] * 8 >= n
        assert out.index == Device.stack[-1]
        out[:] = philox.philox_words(int(k1) << 64 | int(k0), int(stream), int(step), int(n))


@pytest.fixture
def xp(monkeypatch):
    cupy = types.ModuleType("cupy")
    cupy.__version__ = "14.0.0"
    cupy.ndarray, cupy.array, cupy.RawKernel = ndarray, array, RawKernel
    runtime = types.SimpleNamespace(
        getDeviceCount=lambda: 2, runtimeGetVersion=lambda: 13020, driverGetVersion=lambda: 13000
    )
    stream = types.SimpleNamespace(null=None)
    cupy.cuda = types.SimpleNamespace(
        Device=Device, runtime=runtime, Stream=stream, get_current_stream=lambda device: "another's"
    )
    cupy.empty = lambda shape, dtype=float: array(np.zeros(shape, dtype))
    cupy.arange = on_current(np.arange)
    strided = types.SimpleNamespace(as_strided=on_current(np.lib.stride_tricks.as_strided))
    cupy.lib = types.SimpleNamespace(stride_tricks=strided)
    cupy.from_dlpack = lambda x: x

    compat = types.ModuleType("array_api_compat.cupy")
    for name in (*array_api.FUNCTIONS, *array_api.CONSTANTS):
        setattr(compat, name, getattr(np, name))
    for name in array_api.DTYPES:
        setattr(compat, name, np.dtype(name).type)
    info = types.SimpleNamespace(dtypes=lambda device=None: dict.fromkeys(array_api.DTYPES))
    compat.__array_namespace_info__ = lambda: info
    for name in ("arange", "empty", "eye", "full", "linspace", "ones", "zeros"):
        setattr(compat, name, on_current(getattr(np, name)))  # compat ignores device= on CuPy
        setattr(compat, f"{name}_like", on_current(getattr(np, f"{name}_like", np.zeros_like)))

    def asarray(obj, *, dtype=None, device=None, copy=None):
        with Device(device):
            return obj if isinstance(obj, ndarray) and dtype is None and not copy else array(obj, dtype)

    compat.asarray = asarray
    monkeypatch.setitem(sys.modules, "cupy", cupy)
    monkeypatch.setitem(sys.modules, "array_api_compat.cupy", compat)
    monkeypatch.setattr(Device, "stack", [0])
    return CupyBackend()


def test_devices(xp):
    assert xp.devices() == ["cuda:0", "cuda:1"]
    assert xp.canonical_device("cuda") == "cuda:0"
    with pytest.raises(UnknownDeviceError, match="no device 'cuda:2': this machine has cuda:0, cuda:1"):
        xp.canonical_device("cuda:2")
    xp.synchronize("cuda:1")
    assert xp.versions()["cuda runtime"] == "13.2"
    assert xp.blas_info()["tf32"] is False


def test_without_a_device(xp, monkeypatch):
    def fail():
        msg = "cudaErrorNoDevice: no CUDA-capable device is detected"
        raise RuntimeError(msg)

    monkeypatch.setattr(xp.native.cuda.runtime, "getDeviceCount", fail)
    with pytest.raises(BackendUnavailableError, match=r"finds no usable GPU \(cudaErrorNoDevice.*\); "):
        xp.devices()


@pytest.mark.parametrize("device", ["cuda:0", "cuda:1"])
@pytest.mark.parametrize("check", [check_transfer, check_random_bits, check_windows])
def test_checks(xp, check, device):
    if check is check_random_bits:
        xp.greater_equal = lambda a, b: array(np.greater_equal(a.view(np.ndarray), b))
    if check is check_windows:

        def permuted(x, axes):
            with x.device:
                return array(x.transpose(axes))

        xp.permute_dims = permuted
    check(xp, device)


def test_creation_honours_the_device(xp):
    one = xp._devices["cuda:1"]
    made = [
        xp.arange(3, device=one), xp.empty((2,), device=one), xp.eye(2, device=one),
        xp.full((2,), 1, device=one),
        xp.linspace(0, 1, 3, device=one), xp.ones((2,), device=one), xp.zeros((2,), device=one),
        xp.asarray([1.0], device=one), xp.asarray(xp.zeros((2,)), device=one),
        xp.from_dlpack(np.ones(2), device=one), xp.from_dlpack(xp.ones((2,)), device=one),
    ]  # fmt: skip
    like = xp.ones((2,), device=one)
    made += [
        xp.empty_like(like),
        xp.full_like(like, 2.0),
        xp.ones_like(like),
        xp.zeros_like(like),
        xp.asarray(like),
    ]
    assert {xp.device_of(a) for a in made} == {"cuda:1"}
    assert Device.stack == [0]
    assert xp.asarray(like) is like
    assert xp.device_of(xp.zeros((2,))) == "cuda:0"
    with pytest.raises(ValueError, match="copy=False"):
        xp.asarray(xp.zeros((2,)), device=one, copy=False)
    with pytest.raises(ValueError, match="copy=False"):
        xp.from_dlpack(np.ones(2), device=one, copy=False)


def test_naming_a_device_does_not_make_it_current_and_looking_at_an_array_does(xp):
    device = xp.native_device("cuda:1")
    assert Device.stack == [0]
    x = xp.zeros((2,), device=device)
    assert Device.stack == [0]
    xp.follow(x)
    assert Device.stack == [1]
