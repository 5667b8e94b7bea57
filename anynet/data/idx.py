"""The IDX format of MNIST and its relatives: a magic number, the lengths of the axes, the elements (big-endian)."""

from __future__ import annotations

import gzip
import math
import os
import struct
import sys
import zlib
from pathlib import Path

from anynet_backends import Array, host

__all__ = ["DataError", "parse_idx", "read_idx"]

_TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_WIDTHS = {"uint8": 1, "int8": 1, "int16": 2, "int32": 4, "float32": 4, "float64": 8}


class DataError(ValueError):
    """A data file that is damaged, foreign or not to be had. The message names the file and what is wrong with it."""


def read_idx(path: str | os.PathLike[str]) -> Array:
    """The array in an IDX file, gzipped or not, as a NumPy array in the machine's byte order.

    Errors: FileNotFoundError; `DataError` for a file that is no IDX file, is truncated or has bytes left over.
    Source: http://yann.lecun.com/exdb/mnist/ ("File formats").
    """
    raw = Path(path).read_bytes()
    return parse_idx(decompressed(raw, str(path)), str(path))


def decompressed(raw: bytes, name: str, limit: int | None = None) -> bytes:
    """`raw` without its gzip wrapper, if it has one. `limit`: DataError where there would be more bytes than that."""
    if raw[:2] != b"\x1f\x8b":
        return raw
    try:
        if limit is None:
            return gzip.decompress(raw)
        inflater = zlib.decompressobj(wbits=31)
        data = inflater.decompress(raw, limit + 1)
    except (OSError, EOFError, zlib.error) as error:
        msg = f"{name}: the gzip data are damaged or truncated ({error}); download the file again"
        raise DataError(msg) from None
    if len(data) > limit or not inflater.eof:
        msg = f"{name}: the gzip data are truncated or hold more than the {limit} bytes expected"
        raise DataError(msg)
    return data


def parse_idx(data: bytes, name: str = "data") -> Array:
    """The array in the bytes of an uncompressed IDX file; `name` is for messages.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 7]))
    array([5, 7], dtype=uint8)
    """
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] not in _TYPES:
        msg = f"{name}: not an IDX file: it begins with {data[:4].hex(' ') or 'nothing'}, expected 00 00, a type, a rank"
        raise DataError(msg)
    dtype, rank = _TYPES[data[2]], data[3]
    start = 4 + 4 * rank
    if len(data) < start:
        msg = f"{name}: the IDX file ends within its header: {len(data)} bytes, expected at least {start}: truncated?"
        raise DataError(msg)
    shape = struct.unpack(f">{rank}I", data[4:start])
    expected = start + math.prod(shape) * _WIDTHS[dtype]
    if len(data) != expected:
        what = "truncated?" if len(data) < expected else "bytes are left over"
        msg = f"{name}: an IDX file of {dtype} {shape} has {expected} bytes, got {len(data)}: {what}"
        raise DataError(msg)
    array = host.from_bytes(memoryview(data)[start:], dtype, shape)
    return array.byteswap() if sys.byteorder == "little" and _WIDTHS[dtype] > 1 else array
