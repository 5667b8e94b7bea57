"""The memory of a CUDA device: what is counted, what is given back."""

import numpy as np
import pytest

import anynet as an

cupy = pytest.importorskip("cupy", reason="CuPy is not installed")

MEBIBYTE = 1 << 20


def test_what_is_used_and_held():
    an.cuda.empty_cache()
    before = an.cuda.memory()
    x = an.zeros((4, MEBIBYTE), dtype="float32", device="cuda")
    now = an.cuda.memory("cuda:0")
    assert now.used - before.used == 16 * MEBIBYTE
    assert now.held >= now.used
    assert now.total >= now.free + now.held
    assert before.free - now.free >= 16 * MEBIBYTE
    del x
    after = an.cuda.memory()
    assert (after.used, after.held) == (before.used, now.held)  # the pool keeps it
    an.cuda.empty_cache()
    assert an.cuda.memory().held == before.held


def test_the_names_of_pytorch():
    from anynet import torch

    x = an.zeros(MEBIBYTE, dtype="float32", device="cuda")
    assert (
        torch.cuda.memory_allocated() == torch.cuda.memory_allocated(0) == an.cuda.memory().used >= x.size * 4
    )
    assert torch.cuda.memory_reserved("cuda:0") == an.cuda.memory().held
    assert torch.cuda.mem_get_info() == tuple(an.cuda.memory()[2:])
    with pytest.raises(NotImplementedError, match="how much was in use at most"):
        torch.cuda.max_memory_allocated()


@pytest.mark.parametrize("device", ["cpu", "cuda:99", "cuda:x"])
def test_other_devices_are_refused(device):
    with pytest.raises(ValueError, match=r"must be a CUDA device|no device"):
        an.cuda.memory(device)


def test_counting():
    assert an.cuda.is_available()
    assert an.cuda.device_count() == cupy.cuda.runtime.getDeviceCount()
    an.cuda.synchronize()
    np.testing.assert_array_equal(an.ones(3, device="cuda").numpy(), 1.0)
