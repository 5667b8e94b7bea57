"""Trees of arrays as Flax writes them (msgpack), read without Flax and without running what is in them.

Maps, lists, texts, numbers, and Flax's own types for arrays (1) and their numbers (3); all else is an error. Whatever a file says, no more
is read than it has: lengths are compared with what is left of it, and arrays are views of its bytes.

The format: https://github.com/msgpack/msgpack/blob/master/spec.md, and `flax.serialization.msgpack_serialize`.
"""

from __future__ import annotations

import math
import mmap
import struct
from typing import Any

import numpy as np

__all__ = ["MsgpackError", "read"]

_DEPTH = 64
_VALUES = 1 << 19
_DAMAGE = (struct.error, LookupError, ValueError, TypeError, ArithmeticError)
_NUMBERS = {
    0xCA: ">f", 0xCB: ">d", 0xCC: ">B", 0xCD: ">H", 0xCE: ">I", 0xCF: ">Q", 0xD0: ">b", 0xD1: ">h", 0xD2: ">i", 0xD3: ">q",
}  # fmt: skip
_FIXED = {0xC0: None, 0xC2: False, 0xC3: True}
_DTYPES = {
    "float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool",
    "complex64", "complex128",
}  # fmt: skip


class MsgpackError(ValueError):
    """A file that is no tree of arrays, or is damaged."""


def read(data: bytes | mmap.mmap | memoryview) -> Any:
    """The tree in the bytes of a whole file; MsgpackError for what is damaged, or no tree of arrays."""
    try:
        reader = _Reader(memoryview(data))
        found = reader.value(0)
    except MsgpackError:
        raise
    except _DAMAGE as error:
        raise MsgpackError(f"it is damaged ({type(error).__name__}: {error!s:.100})") from None
    if reader.at != len(reader.data):
        raise MsgpackError(f"{len(reader.data) - reader.at} bytes follow after its end")
    return found


class _Reader:
    def __init__(self, data: memoryview) -> None:
        self.data, self.at, self.left = data, 0, _VALUES

    def take(self, size: int) -> memoryview:
        if size > len(self.data) - self.at:
            raise MsgpackError(f"it ends before {size} bytes that it announces")
        self.at += size
        return self.data[self.at - size : self.at]

    def number(self, form: str) -> Any:
        return struct.unpack(form, self.take(struct.calcsize(form)))[0]

    def length(self, width: int) -> int:
        return int.from_bytes(self.take(width), "big")

    def value(self, depth: int) -> Any:
        if depth > _DEPTH:
            raise MsgpackError(f"it must be nested less than {_DEPTH} deep")
        self.left -= 1
        if self.left < 0:
            raise MsgpackError(f"it must have at most {_VALUES:,} values")
        (code,) = self.take(1)
        if code < 0x80:
            return code
        if code >= 0xE0:
            return code - 256
        if code < 0x90:
            return self.map(code & 15, depth)
        if code < 0xA0:
            return self.list(code & 15, depth)
        if code < 0xC0:
            return bytes(self.take(code & 31)).decode()
        if code in _FIXED:
            return _FIXED[code]
        if code in _NUMBERS:
            return self.number(_NUMBERS[code])
        if 0xC4 <= code <= 0xC6:
            return self.take(self.length(1 << (code - 0xC4)))
        if 0xC7 <= code <= 0xC9:
            return self.extension(self.length(1 << (code - 0xC7)))
        if 0xD4 <= code <= 0xD8:
            return self.extension(1 << (code - 0xD4))
        if 0xD9 <= code <= 0xDB:
            return bytes(self.take(self.length(1 << (code - 0xD9)))).decode()
        if code in (0xDC, 0xDD):
            return self.list(self.length(2 if code == 0xDC else 4), depth)
        if code in (0xDE, 0xDF):
            return self.map(self.length(2 if code == 0xDE else 4), depth)
        raise MsgpackError(f"it has the code {code:#x}, which msgpack has not")

    def list(self, count: int, depth: int) -> list[Any]:
        if count > len(self.data) - self.at:
            raise MsgpackError(f"it ends before {count} elements that it announces")
        return [self.value(depth + 1) for _ in range(count)]

    def map(self, count: int, depth: int) -> Any:
        found: dict[str, Any] = {}
        if 2 * count > len(self.data) - self.at:
            raise MsgpackError(f"it ends before {count} entries that it announces")
        for _ in range(count):
            key = self.value(depth + 1)
            if not isinstance(key, str) or key in found:
                raise MsgpackError(f"names must be texts, each once, got {key!r:.80}")
            found[key] = self.value(depth + 1)
        return _joined(found) if "__msgpack_chunked_array__" in found else found

    def extension(self, size: int) -> Any:
        (kind,) = self.take(1)
        data = self.take(size)
        if kind not in (1, 3):
            raise MsgpackError(f"it has something of type {kind}, which is no array")
        inner = _Reader(data)
        shape, name, raw = inner.value(_DEPTH - 2)
        shape = tuple(shape)
        if not all(isinstance(n, int) and n >= 0 for n in shape) or len(shape) > 32:
            raise MsgpackError(f"an array has the shape {shape!r:.80}")
        if name != "bfloat16" and name not in _DTYPES:
            raise MsgpackError(f"numbers must be {', '.join(sorted(_DTYPES))} or bfloat16, got {name!r:.80}")
        dtype = np.dtype("uint16" if name == "bfloat16" else name)
        if math.prod(shape) * dtype.itemsize != len(raw):
            raise MsgpackError(f"an array of shape {shape} of {name} has {len(raw)} bytes")
        array = np.frombuffer(raw, dtype.newbyteorder("<")).reshape(shape)
        # NumPy has no such type: float32, of which it is a part
        return (array.astype(np.uint32) << 16).view(np.float32) if name == "bfloat16" else array


def _joined(tree: dict[str, Any]) -> Any:
    """An array that Flax has written in parts."""
    chunks = [tree["chunks"][str(i)] for i in range(len(tree["chunks"]))]
    return np.concatenate(chunks).reshape([tree["shape"][str(i)] for i in range(len(tree["shape"]))])
