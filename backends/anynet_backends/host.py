"""NumPy arrays on the host: bytes, text, and the state of NumPy's own random generators.

anynet imports no array library; what it needs of NumPy on the host is here and in `philox`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from anynet_backends.array_api import Array

__all__ = [
    "from_bytes", "is_generator", "own", "random_keeper", "random_state", "text", "to_bytes",
]  # fmt: skip


# ---- arrays and bytes ----


def own(a: Array) -> Array:
    """An unpickled array like any other: of NumPy's own class and dtype object (pickle creates new dtype objects, and fast paths
    compare by identity), and writeable (one that is mapped from a file, say, is copied)."""
    array: np.ndarray[Any, Any] = np.asarray(a, dtype=np.dtype(a.dtype.name))
    return array if array.flags.writeable else array.copy()


def from_bytes(data: bytes | bytearray | memoryview, dtype: str, shape: tuple[int, ...]) -> Array:
    """A new array from little-endian bytes in C order; ValueError where the number of bytes does not fit."""
    kind = np.dtype(dtype).newbyteorder("<")
    expected = math.prod(shape) * kind.itemsize
    if len(memoryview(data).cast("B")) != expected:
        msg = (
            f"from_bytes: {dtype} of shape {tuple(shape)} takes {expected} bytes, got "
            f"{memoryview(data).nbytes}"
        )
        raise ValueError(msg)
    return np.frombuffer(data, dtype=kind).astype(dtype).reshape(shape)


def to_bytes(a: Array) -> bytes:
    """The little-endian bytes of a NumPy array in C order."""
    array: np.ndarray[Any, Any] = np.asarray(a)
    return array.astype(array.dtype.newbyteorder("<"), copy=False).tobytes()


# ---- NumPy's random generators ----


def is_generator(obj: object) -> bool:
    """Whether `obj` is a random generator of NumPy."""
    return isinstance(obj, (np.random.Generator, np.random.RandomState))


def random_state(generator: Any = None) -> Any:
    """The state of a NumPy generator (by default the global one of ``numpy.random``), as a value to compare."""
    if isinstance(generator, np.random.Generator):
        return repr(generator.bit_generator.state)
    source = np.random if generator is None else generator
    name, key, *rest = source.get_state(legacy=True)
    return name, key.tobytes(), *rest


def random_keeper(generator: Any = None) -> Callable[[], None]:
    """A function that restores the present state of a NumPy generator."""
    if isinstance(generator, np.random.Generator):
        bits, state = generator.bit_generator, generator.bit_generator.state
        return lambda: setattr(bits, "state", state)
    source: Any = np.random if generator is None else generator
    legacy = source.get_state(legacy=True)
    return lambda: source.set_state(legacy)


def text(a: Array, prefix: str = "") -> str:
    """The elements as text; long arrays are abridged."""
    return str(np.array2string(np.asarray(a), separator=", ", prefix=prefix))
