"""The host's own facilities: bytes and random numbers as NumPy arrays.

anynet imports no array library; where it needs bytes or draws on the host it asks here.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anynet_backends.protocol import check_words
from anynet_backends.threads import once

if TYPE_CHECKING:
    from collections.abc import Callable

    from anynet_backends.protocol import Array

__all__ = [
    "asarray", "cache_folder", "from_bytes", "is_array", "is_generator", "normal", "own", "permutation",
    "philox_words", "random_keeper", "random_state", "text", "to_bytes", "uniform",
]  # fmt: skip

_U64: Final = (1 << 64) - 1
_LITTLE: Final = sys.byteorder == "little"


# ---- arrays and bytes ----


def cache_folder() -> Path:
    """Where downloads and compiled code are kept: $ANYNET_CACHE, else $XDG_CACHE_HOME/anynet, else ~/.cache/anynet.

    FileNotFoundError where the environment names neither of them nor HOME, and the system does not know the user."""
    chosen = os.environ.get("ANYNET_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):  # which is to be ignored, says the specification
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            msg = "there is no home folder: HOME is not set, and the system does not know the user; set ANYNET_CACHE to a folder"
            raise FileNotFoundError(msg)
        base = os.path.join(home, ".cache")
    return Path(base) / "anynet"


def is_array(obj: object) -> bool:
    """Whether `obj` is a plain array (or array scalar) of a backend: NumPy, CuPy, array-api-strict, torch,
    …"""
    from anynet_backends.selection import backend_of

    if type(obj).__module__ == "builtins":
        return False
    try:
        backend_of(obj)
    except TypeError:
        return False
    return True


def asarray(obj: Any, dtype: str | None = None) -> Array:
    """A NumPy array from numbers, nested sequences or an array of any backend; ValueError for ragged
    nesting."""
    if not isinstance(obj, (np.ndarray, np.generic)) and is_array(obj):
        from anynet_backends.selection import backend_of

        obj = backend_of(obj).to_host(obj)
    return np.asarray(obj, dtype=dtype)


def own(a: Array) -> Array:
    """An unpickled array as one that is told from no other: of NumPy's own class and dtype object (pickle makes new ones, and
    quick tests ask for that one), and writeable (one that is mapped from a file, say, is copied)."""
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


# ---- random numbers ----


class _Local(threading.local):
    """One Philox generator per thread: setting its state costs a tenth of making a new one."""

    def __init__(self) -> None:
        self.generator = np.random.Philox(0)
        self.state: Any = self.generator.state


@once
def _local() -> _Local:
    return _Local()


def _philox(key: int, stream: int, step: int) -> Any:
    """A `numpy.random.Philox` at the beginning of the block that (key, stream, step) addresses."""
    own = _local()
    state = own.state
    inner = state["state"]
    inner["key"][:] = (key & _U64, key >> 64)
    inner["counter"][:] = (0, step, stream, 0)
    state["buffer_pos"] = 4  # nothing buffered: the next word starts a new block
    state["has_uint32"] = 0
    own.generator.state = state
    return own.generator


def _words64(key: int, stream: int, step: int, n: int) -> Any:
    check_words(key, stream, step, n)
    return _philox(key, stream, step).random_raw(n)


def philox_words(key: int, stream: int, step: int, n: int) -> Array:
    """The first `n` uint32 words at (key, stream, step): see `Backend.random_bits`.

    >>> philox_words(0, 0, 0, 2)
    array([149215387,  49592932], dtype=uint32)
    """
    check_words(key, stream, step, n)
    words = _philox(key, stream, step).random_raw((n + 1) // 2)
    if not _LITTLE:
        words = words.astype("<u8").view("<u4").astype(np.uint32)
    return words.view(np.uint32)[:n]


def permutation(key: int, stream: int, step: int, n: int) -> Array:
    """A random order of 0 … n − 1 (int64): the stable argsort of `n` random 64-bit words."""
    return np.argsort(_words64(key, stream, step, n), kind="stable").astype(np.int64, copy=False)


def is_generator(obj: object) -> bool:
    """Whether something is a generator of NumPy's random numbers."""
    return isinstance(obj, (np.random.Generator, np.random.RandomState))


def random_state(generator: Any = None) -> Any:
    """Where a generator of NumPy's is, by default that of ``numpy.random.normal()`` and the like: to be compared."""
    if isinstance(generator, np.random.Generator):
        return repr(generator.bit_generator.state)
    source = np.random if generator is None else generator
    name, key, *rest = source.get_state(legacy=True)
    return name, key.tobytes(), *rest


def random_keeper(generator: Any = None) -> Callable[[], None]:
    """A function that puts a generator of NumPy's back to where it is now."""
    if isinstance(generator, np.random.Generator):
        bits, state = generator.bit_generator, generator.bit_generator.state
        return lambda: setattr(bits, "state", state)
    source: Any = np.random if generator is None else generator
    legacy = source.get_state(legacy=True)
    return lambda: source.set_state(legacy)


def uniform(
    key: int, stream: int, step: int, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0
) -> Array:
    """float64 draws, uniform on [low, high): multiples of 2⁻⁵³, exact, scaled."""
    unit = (_words64(key, stream, step, math.prod(shape)) >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return (unit * (high - low) + low).reshape(shape)


def normal(
    key: int, stream: int, step: int, shape: tuple[int, ...], mean: float = 0.0, std: float = 1.0
) -> Array:
    """float64 draws from the normal distribution, by NumPy's ziggurat method over the Philox words."""
    check_words(key, stream, step, math.prod(shape))
    draws = np.random.Generator(_philox(key, stream, step)).standard_normal(shape)
    return draws * std + mean


def text(a: Array, prefix: str = "") -> str:
    """The elements as text, long arrays abridged."""
    return str(np.array2string(np.asarray(a), separator=", ", prefix=prefix))
