"""CUDA devices: which there are, and their memory. Where there is none, `is_available` and `device_count` say so and the rest raises
`BackendUnavailableError` with the reason.

Memory is CuPy's: its pool keeps what arrays have given back, so that the next one need not ask the driver. PyTorch calls `used`
memory_allocated and `held` memory_reserved; how much was in use at most the pool does not count.
"""

from __future__ import annotations

from anynet_backends import Backend, BackendUnavailableError, resolve
from anynet_backends.backend import DeviceMemory

__all__ = ["DeviceMemory", "device_count", "empty_cache", "is_available", "memory", "synchronize"]


def is_available() -> bool:
    """Whether a CUDA device can be used."""
    return device_count() > 0


def device_count() -> int:
    """The number of CUDA devices.

    >>> import anynet as an
    >>> an.cuda.is_available() == (an.cuda.device_count() > 0)
    True
    """
    try:
        return len(resolve("cuda")[0].devices())
    except BackendUnavailableError:
        return 0


def _device(where: str, device: str) -> tuple[Backend, str]:
    if str(device).split(":")[0] != "cuda":
        raise ValueError(f"cuda.{where}: device must be a CUDA device such as 'cuda:0', got {str(device)!r}")
    return resolve(device)


def memory(device: str = "cuda") -> DeviceMemory:
    """Bytes of a device: `used` by arrays, `held` by the pool (those in use among them), `free` and `total` of the device.

    Errors: `BackendUnavailableError` without a CUDA device, ValueError for one that is not there or no CUDA device.
    """
    xp, name = _device("memory", device)
    return xp.memory(name)


def empty_cache(device: str = "cuda") -> None:
    """Give what the pool holds and no array uses back to the device, for other programs. Errors: as `memory`."""
    xp, name = _device("empty_cache", device)
    xp.free_memory(name)


def synchronize(device: str = "cuda") -> None:
    """Wait until everything that was queued is done. Errors: as `memory`, and those of indices found to be out of range."""
    xp, name = _device("synchronize", device)
    xp.synchronize(name)
