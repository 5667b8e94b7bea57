"""The backends of anynet: array libraries behind one interface, `Backend`.

    >>> import anynet_backends as backends
    >>> xp, device = backends.resolve("cpu")
    >>> x = xp.asarray([3.0, 4.0], dtype=xp.float32, device=xp.native_device(device))
    >>> float(xp.linalg.vector_norm(x))
    5.0
    >>> backends.backend_of(x) is xp
    True

This package imports nothing of anynet, and of the array libraries only NumPy until another one is asked for. Its modules, each of
which imports only those below it (`lint-imports` checks it):

- `conformance`: the checks that a backend must pass; `registry`: finds the backend of an array or a device;
- `numpy_backend`, `cupy_backend`, `torch_backend`, `strict_backend`;
- `kernels`: NumPy kernels by family; `jit`: the compiler; `onednn`: oneDNN's primitives by family;
- `numpy_namespace`: the standard's functions in NumPy; `host`: bytes, text and random states on the host;
- `memory`: layout, output buffers, the allocator, fast reductions; `kernel_table`; `safetensors_io`;
- `backend`: the class `Backend`; `philox`: random bits;
- `array_api`: the standard's names; `config`: environment variables; `concurrency`: threads and forks; `cuda`: the driver; `files`:
  atomic writes; `ownership`: which files may be executed.
"""

from __future__ import annotations

import os

from anynet_backends import host
from anynet_backends.array_api import Array
from anynet_backends.backend import Backend, BackendUnavailableError, UnknownDeviceError
from anynet_backends.philox import philox4x64
from anynet_backends.registry import (
    TYPES,
    available,
    backend_of,
    get_backend,
    get_default_device,
    loaded,
    probe,
    register,
    resolve,
    set_default_device,
)

__all__ = [
    "TYPES",
    "Array",
    "Backend",
    "BackendUnavailableError",
    "UnknownDeviceError",
    "available",
    "backend_of",
    "get_backend",
    "get_default_device",
    "host",
    "loaded",
    "philox4x64",
    "probe",
    "register",
    "resolve",
    "set_default_device",
]

# in the wheel what few need lies in an archive (hatch_build.py)
__path__.append(os.path.join(__path__[0], "inside.zip"))
