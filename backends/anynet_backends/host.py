"""The host's own facilities: bytes, files and random numbers as NumPy arrays.

anynet imports no array library; where it needs bytes, safetensors files or draws on the host it asks here.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anynet_backends import files
from anynet_backends.protocol import check_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anynet_backends.protocol import Array

__all__ = [
    "asarray", "cache_folder", "from_bytes", "is_array", "load_safetensors", "normal", "permutation", "philox_words",
    "safetensors_bytes", "save_safetensors", "text", "to_bytes", "uniform",
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


# ---- safetensors ----

_DTYPES: Final = {
    "BOOL": "bool", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8",
    "U16": "uint16", "U32": "uint32", "U64": "uint64", "F16": "float16", "F32": "float32", "F64": "float64",
    "C64": "complex64",
}  # fmt: skip


def load_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors of a safetensors file as NumPy arrays, and its metadata.

    BF16 tensors, which NumPy has no dtype for, come back as float32 with the same values. Errors:
    FileNotFoundError; ValueError that names the file and says what is wrong with it (truncated, not a
    safetensors file, unknown dtype).
    """
    import safetensors  # here, and not above, since few programs that import anynet read files

    with open(path, "rb") as file:
        data = file.read()
    try:
        with safetensors.safe_open(os.fspath(path), framework="np") as opened:
            metadata = dict(opened.metadata() or {})
        entries = safetensors.deserialize(data)  # type: ignore[no-untyped-call]
    except (safetensors.SafetensorError, OSError) as error:
        msg = f"{os.fspath(path)}: not a valid safetensors file: {error}"
        raise ValueError(msg) from None
    tensors: dict[str, Array] = {}
    for name, entry in entries:
        code, shape = entry["dtype"], tuple(entry["shape"])
        if code == "BF16":
            bits = from_bytes(entry["data"], "uint16", shape).astype(np.uint32) << 16
            tensors[name] = bits.view(np.float32)
        elif code in _DTYPES:
            tensors[name] = from_bytes(entry["data"], _DTYPES[code], shape)
            if code == "BOOL" and max(entry["data"], default=0) > 1:
                msg = f"{os.fspath(path)}: not a valid safetensors file: tensor {name!r} is BOOL but has other bytes than 0, 1"
                raise ValueError(msg)
        else:
            known = ", ".join((*_DTYPES, "BF16"))
            msg = f"{os.fspath(path)}: tensor {name!r} has dtype {code}, which NumPy has not; known: {known}"
            raise ValueError(msg)
    return tensors, metadata


def safetensors_bytes(tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file. With one entry of metadata at most they depend on nothing else.

    TypeError for a dtype that the format lacks.

        >>> import numpy as np
        >>> len(safetensors_bytes({"w": np.zeros((2, 3), np.float32)}))
        96
    """
    import safetensors.numpy

    arrays: dict[str, Any] = {}
    for name, value in tensors.items():
        if name == "__metadata__":
            msg = "a tensor cannot be called '__metadata__' in a safetensors file"
            raise ValueError(msg)
        arrays[name] = a = np.asarray(value, order="C")
        if a.dtype.name not in _DTYPES.values():
            known = ", ".join(_DTYPES.values())
            msg = f"tensor {name!r} has dtype {a.dtype}, which safetensors cannot hold; it holds {known}"
            raise TypeError(msg)
    return safetensors.numpy.save(arrays, None if metadata is None else dict(metadata))


def save_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically: a kill at any instant leaves the old file or the new one whole."""
    files.write(path, safetensors_bytes(tensors, metadata))


# ---- random numbers ----


class _Local(threading.local):
    """One Philox generator per thread: setting its state costs a tenth of making a new one."""

    def __init__(self) -> None:
        self.generator = np.random.Philox(0)
        self.state: Any = self.generator.state


_local: _Local | None = None


def _philox(key: int, stream: int, step: int) -> Any:
    """A `numpy.random.Philox` at the beginning of the block that (key, stream, step) addresses."""
    global _local
    if _local is None:
        _local = _Local()
    state = _local.state
    inner = state["state"]
    inner["key"][:] = (key & _U64, key >> 64)
    inner["counter"][:] = (0, step, stream, 0)
    state["buffer_pos"] = 4  # nothing buffered: the next word starts a new block
    state["has_uint32"] = 0
    _local.generator.state = state
    return _local.generator


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
