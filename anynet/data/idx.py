"""The IDX format of MNIST and its relatives: a magic number, the lengths of the axes, the elements (big-endian)."""

from __future__ import annotations

import io
import math
import os
import struct
import sys
import zlib
from typing import IO

from anynet_backends import Array, files, host

__all__ = ["Bytes", "DataError", "parse_idx", "read_idx"]

LIMIT = 4 << 30
"""The number of bytes that `read_idx` takes at most by default: 4 GiB."""

_TYPES = {0x08: "uint8", 0x09: "int8", 0x0B: "int16", 0x0C: "int32", 0x0D: "float32", 0x0E: "float64"}
_CHUNK = 1 << 20
_GZIP = b"\x1f\x8b"
_WIDTHS = {"uint8": 1, "int8": 1, "int16": 2, "int32": 4, "float32": 4, "float64": 8}


class DataError(ValueError):
    """A data file that is damaged, foreign or not to be had. The message names the file and what is wrong with it."""


def read_idx(path: str | os.PathLike[str], *, max_bytes: int = LIMIT) -> Array:
    """The array in an IDX file, gzipped or not, as a NumPy array in the machine's byte order.

    A file takes no more memory than the array that its header declares, and one that declares more than `max_bytes`
    (4 GiB by default) is refused, so that a small file cannot unpack into more than there is.

    Errors: FileNotFoundError and the system's other refusals; `DataError` for a file that is no IDX file, declares too
    much, is truncated, damaged or has bytes left over, and for what is no file (a folder, a pipe).
    Source: http://yann.lecun.com/exdb/mnist/ ("File formats").
    """
    try:
        file = io.BufferedReader(files.open_regular(path))
    except files.NotRegularError as error:
        raise DataError(str(error)) from None
    with file:
        return _array(Bytes(file, os.fspath(path)), max_bytes)


def parse_idx(data: bytes | bytearray, name: str = "data") -> Array:
    """The array in the bytes of an uncompressed IDX file; `name` is for messages.

    >>> parse_idx(bytes([0, 0, 8, 1, 0, 0, 0, 2, 5, 7]))
    array([5, 7], dtype=uint8)
    """
    return _array(Bytes(io.BytesIO(data), name, zipped=False), len(data))


def _array(source: Bytes, max_bytes: int) -> Array:
    name, magic = source.name, source.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _TYPES:
        msg = f"{name}: not an IDX file: it begins with {magic.hex(' ') or 'nothing'}, expected 00 00, a type, a rank"
        raise DataError(msg)
    dtype, rank = _TYPES[magic[2]], magic[3]
    lengths = source.read(4 * rank)
    start = 4 + 4 * rank
    if len(lengths) < 4 * rank or rank > 64:  # axes that an array of NumPy can have
        what = "ends within its header" if rank <= 64 else f"has {rank} axes"
        msg = f"{name}: the IDX file {what}: {4 + len(lengths)} bytes, expected at least {start}: truncated?"
        raise DataError(msg)
    shape = struct.unpack(f">{rank}I", lengths)
    expected = start + math.prod(shape) * _WIDTHS[dtype]
    if source.zipped and expected > max_bytes:
        msg = f"{name}: the IDX file declares {expected} bytes, more than {max_bytes}; read_idx(…, max_bytes=…) allows more"
        raise DataError(msg)
    data = source.read(expected - start)
    rest = source.read(1)
    if len(data) < expected - start or rest:
        got = f"{start + len(data)}: truncated?" if not rest else "more: bytes are left over"
        msg = f"{name}: an IDX file of {dtype} {shape} has {expected} bytes, got {got}"
        raise DataError(msg)
    try:
        array = host.from_bytes(data, dtype, shape)
    except ValueError:  # no elements, and other axes too long for an array
        msg = f"{name}: the IDX file has shape {shape}"
        raise DataError(msg) from None
    return array.byteswap() if sys.byteorder == "little" and _WIDTHS[dtype] > 1 else array


class Bytes:
    """The bytes of a file, without its gzip wrapper if it has one: as many as are asked for, and no more in memory.

    `DataError` where the gzip data are damaged or truncated, or something else follows them.
    """

    def __init__(self, file: IO[bytes], name: str, zipped: bool = True) -> None:
        self.file, self.name = file, name
        begin = file.read(2)
        self.zipped = zipped and begin == _GZIP
        self.held = begin  # read, and not yet handed out
        self.inflater = zlib.decompressobj(wbits=31)

    def read(self, count: int) -> bytes | bytearray:
        """The next `count` bytes, or fewer at the end."""
        out = bytearray()
        while len(out) < count:
            piece = (self._unpacked if self.zipped else self._plain)(min(count - len(out), _CHUNK))
            if not piece:
                break
            out += piece
        return out

    def _plain(self, most: int) -> bytes:
        if self.held:
            piece, self.held = self.held[:most], self.held[most:]
            return piece
        return self.file.read(most)

    def _unpacked(self, most: int) -> bytes:
        while True:
            if self.inflater.eof and not self._next_member():
                return b""
            packed = self.held or self.file.read(_CHUNK)
            try:
                piece = self.inflater.decompress(packed, most)
            except zlib.error as error:
                msg = f"{self.name}: the gzip data are damaged or truncated ({error}); get the file again"
                raise DataError(msg) from None
            self.held = self.inflater.unconsumed_tail
            if piece:
                return piece
            if not packed and not self.inflater.eof:
                msg = f"{self.name}: the gzip data are damaged or truncated (they end too early); get the file again"
                raise DataError(msg)

    def _next_member(self) -> bool:
        """Whether another gzip stream follows the one that has ended; zeros that fill up a block may stand between."""
        rest = self.inflater.unused_data.lstrip(b"\0")
        while len(rest) < 2 and (more := self.file.read(_CHUNK)):
            rest = (rest + more).lstrip(b"\0")
        if not rest:
            return False
        if not rest.startswith(_GZIP):
            msg = f"{self.name}: {rest[:4].hex(' ')} … follows the gzip data: bytes are left over"
            raise DataError(msg)
        self.inflater, self.held = zlib.decompressobj(wbits=31), rest
        return True
