"""The host's own facilities: bytes, files and random numbers as NumPy arrays.

anynet imports no array library; where it needs bytes, safetensors files or draws on the host it asks here.
"""

from __future__ import annotations

import math
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from anynet_backends.protocol import check_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from anynet_backends.protocol import Array

__all__ = [
    "asarray", "from_bytes", "is_array", "load_safetensors", "normal", "permutation", "philox_words",
    "safetensors_bytes", "save_safetensors", "text", "to_bytes", "uniform",
]  # fmt: skip

_U64: Final = (1 << 64) - 1
_LITTLE: Final = sys.byteorder == "little"


# ---- arrays and bytes ----


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


# ---- safetensors ---- https://github.com/huggingface/safetensors: 8 bytes of header length (little-endian),
# a JSON header, the data.

_DTYPES: Final = {
    "BOOL": "bool", "I8": "int8", "I16": "int16", "I32": "int32", "I64": "int64", "U8": "uint8",
    "U16": "uint16",
    "U32": "uint32", "U64": "uint64", "F16": "float16", "F32": "float32", "F64": "float64",
    "C64": "complex64",
    "C128": "complex128",
}  # fmt: skip
_CODES: Final = {name: code for code, name in _DTYPES.items()}
_HEADER_LIMIT: Final = 100_000_000


def load_safetensors(path: str | os.PathLike[str]) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors of a safetensors file as NumPy arrays, in the order of the file, and its metadata.

    BF16 tensors, which NumPy has no dtype for, come back as float32 with the same values. Everything in the
    header is checked before any data are read. Errors: FileNotFoundError; ValueError that names the file and
    says what is wrong with it (truncated, not a safetensors file, overlapping or missing data, unknown
    dtype).
    """
    size = os.stat(path).st_size
    with open(path, "rb") as file:
        head = file.read(8)
        length = int.from_bytes(head, "little")
        if len(head) < 8 or length < 2 or length > _HEADER_LIMIT:
            raise _bad(path, "it does not begin with the length of a header")
        if 8 + length > size:
            raise _bad(
                path, f"its header should have {length} bytes, but the file ends after {size - 8}: truncated?"
            )
        entries, metadata = _read_header(path, file.read(length), size - 8 - length)
        tensors: dict[str, Array] = {}
        for name, code, shape, _begin in entries:
            if code == "BF16":
                bits = np.empty(shape, dtype="<u2")
                _fill(path, file, bits)
                tensors[name] = (bits.astype(np.uint32) << 16).view(np.float32)
            else:
                stored = np.empty(shape, dtype=np.dtype(_DTYPES[code]).newbyteorder("<"))
                _fill(path, file, stored)
                if code == "BOOL" and stored.view(np.uint8).max(initial=0) > 1:
                    raise _bad(path, f"tensor {name!r} is BOOL but has bytes other than 0 and 1")
                tensors[name] = stored.astype(_DTYPES[code], copy=False)
    return tensors, metadata


def _fill(path: Any, file: Any, target: Array) -> None:
    if target.nbytes and file.readinto(target.reshape(-1).view(np.uint8)) != target.nbytes:
        raise _bad(path, "it ended while its data were read")


def _bad(path: Any, why: str) -> ValueError:
    return ValueError(f"{os.fspath(path)}: not a valid safetensors file: {why}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        msg = "a key appears twice"
        raise ValueError(msg)
    return found


def _read_header(
    path: Any, raw: bytes, room: int
) -> tuple[list[tuple[str, str, tuple[int, ...], int]], dict[str, str]]:
    import json  # here, and not above, since few programs that import anynet read files

    try:
        header = json.loads(raw.decode("utf-8"), object_pairs_hook=_unique)
    except (UnicodeDecodeError, ValueError, RecursionError) as error:
        raise _bad(path, f"its header is not JSON ({error})") from None
    if not isinstance(header, dict):
        raise _bad(path, "its header is not a JSON object")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(v, str) for v in metadata.values()):
        raise _bad(path, "its metadata are not a table of strings")
    entries = []
    for name, entry in header.items():
        try:
            code, shape, (begin, end) = entry["dtype"], tuple(entry["shape"]), entry["data_offsets"]
        except (KeyError, TypeError, ValueError):
            raise _bad(path, f"tensor {name!r} lacks a dtype, a shape or offsets") from None
        if not all(type(v) is int and v >= 0 for v in (*shape, begin, end)):
            raise _bad(path, f"the shape or offsets of tensor {name!r} are not natural numbers")
        if code != "BF16" and code not in _DTYPES:
            raise _bad(path, f"tensor {name!r} has dtype {code!r}; known: {', '.join((*_DTYPES, 'BF16'))}")
        width = 2 if code == "BF16" else np.dtype(_DTYPES[code]).itemsize
        if end - begin != math.prod(shape) * width:
            raise _bad(path, f"tensor {name!r} of shape {shape} and dtype {code} has {end - begin} bytes")
        entries.append((begin, end, name, code, shape))
    entries.sort(key=lambda e: e[:2])
    at = 0
    for begin, end, name, _, _ in entries:
        if begin != at:
            raise _bad(
                path,
                f"the data of tensor {name!r} begin at {begin}, expected {at}: they overlap or leave a gap",
            )
        at = end
    if at != room:
        raise _bad(path, f"its tensors take {at} bytes, but {room} follow the header: truncated?")
    return [(name, code, shape, begin) for begin, _, name, code, shape in entries], metadata


def safetensors_bytes(tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> bytes:
    """The bytes of a safetensors file: the same tensors and metadata always give the same bytes.

    Widest dtypes come first, then names in order, as the reference implementation writes them, so that every
    tensor is aligned. TypeError for a dtype that the format lacks or metadata that are not strings.

        >>> import numpy as np
        >>> len(safetensors_bytes({"w": np.zeros((2, 3), np.float32)}))
        96
    """
    import json

    arrays: dict[str, Any] = {}
    for name, value in tensors.items():
        a = np.asarray(value)
        if not isinstance(name, str) or name == "__metadata__":
            msg = f"a tensor cannot be called {name!r} in a safetensors file"
            raise ValueError(msg)
        if a.dtype.name not in _CODES:
            msg = (
                f"tensor {name!r} has dtype {a.dtype}, which safetensors cannot hold; it holds "
                f"{', '.join(_CODES)}"
            )
            raise TypeError(msg)
        arrays[name] = a
    header: dict[str, Any] = {}
    if metadata:
        for key, text in metadata.items():
            if not isinstance(key, str) or not isinstance(text, str):
                msg = f"safetensors metadata are strings, got {key!r}: {text!r}"
                raise TypeError(msg)
        header["__metadata__"] = dict(metadata)
    at = 0
    names = sorted(arrays, key=lambda n: (-arrays[n].dtype.itemsize, n))
    for name in names:
        a = arrays[name]
        header[name] = {
            "dtype": _CODES[a.dtype.name],
            "shape": list(a.shape),
            "data_offsets": [at, at + a.nbytes],
        }
        at += a.nbytes
    raw = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    raw += b" " * (-len(raw) % 8)
    return b"".join((len(raw).to_bytes(8, "little"), raw, *(to_bytes(arrays[n]) for n in names)))


def save_safetensors(
    path: str | os.PathLike[str], tensors: Mapping[str, Array], metadata: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file atomically: a kill at any instant leaves the old file or the new one whole."""
    import tempfile
    from pathlib import Path

    data = safetensors_bytes(tensors, metadata)
    target = Path(path)
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".tmp", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        mode = target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask()
        os.chmod(temporary, mode)  # mkstemp makes files that only their owner may read
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    if os.name == "posix":  # make the rename itself durable
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


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
