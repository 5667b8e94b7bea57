"""Files of named arrays in the safetensors format: https://huggingface.co/docs/safetensors.

Eight bytes (little-endian: the length of the header), the header (JSON: for each tensor its dtype, shape and the place of
its bytes, and under ``__metadata__`` a table of strings), the bytes of the tensors, without gaps.

`save` puts a SHA-256 first among the metadata. It covers every byte of the file, with zeros in the place of its own 64
digits, so that `load` finds any change. Files without one, as other programs write them, are loaded as they are.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import sys
from typing import TYPE_CHECKING, Any, Final, NoReturn

import numpy as np

from anynet_backends import files

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator, Mapping

    from anynet_backends.array_api import Array

__all__ = ["CHECKSUM", "load", "save", "write"]

CHECKSUM: Final = "anynet.sha256"
"""The metadata's name for the SHA-256 of the file."""

_DTYPES: Final = {  # in the order of the reference implementation, which puts the last of them first in a file
    "BOOL": "bool", "U8": "uint8", "I8": "int8", "I16": "int16", "U16": "uint16", "F16": "float16", "I32": "int32",
    "U32": "uint32", "F32": "float32", "C64": "complex64", "F64": "float64", "I64": "int64", "U64": "uint64",
}  # fmt: skip
_NAMES: Final = {dtype: code for code, dtype in _DTYPES.items()}
_RANKS: Final = {dtype: rank for rank, dtype in enumerate(_DTYPES.values())}
_FOREIGN: Final = ("F4", "F6_E2M3", "F6_E3M2", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ")
_OTHERS: Final = {b"PK\x03\x04": "a zip archive, as torch.save and numpy.savez write",
                  b"\x80": "a pickle, as torch.save and pickle.dump write", b"\x93NUMPY": "a .npy file",
                  b"\x89HDF": "an HDF5 file", b"GGUF": "a GGUF file", b"\x1f\x8b": "a gzip file"}  # fmt: skip
_HEADER_LIMIT: Final = 100_000_000  # bytes; the reference implementation's
_RANK_LIMIT: Final = 64  # axes of a NumPy array
_CHUNK: Final = 1 << 20
_BEGIN: Final = b'{"__metadata__":{"' + CHECKSUM.encode() + b'":"'
_PLACE: Final = slice(8 + len(_BEGIN), 8 + len(_BEGIN) + 64)  # of the digits in the file


# ---- writing ----


def save(
    path: str | os.PathLike[str],
    tensors: Mapping[str, Array],
    metadata: Mapping[str, str] | None = None,
    *,
    durable: bool = True,
) -> None:
    """Write arrays and a table of strings, atomically (`files.writing`, also for `durable`), with a SHA-256 of the whole file.

    The bytes depend on the names, the arrays and the metadata alone. Errors, before anything is written: TypeError for a
    dtype that the format lacks and for metadata that are not strings, ValueError for an invalid name.
    """
    content = _content(tensors, metadata)
    with files.writing(path, durable=durable) as file:
        content(file)


def write(file: io.FileIO, tensors: Mapping[str, Array]) -> None:
    """The same into an open, new file."""
    _content(tensors, None)(file)


def _content(tensors: Mapping[str, Array], metadata: Mapping[str, str] | None) -> Callable[[io.FileIO], None]:
    """What writes the file, with everything checked that can be wrong."""
    arrays = _ordered(tensors)
    texts = {CHECKSUM: "0" * 64} | _texts(metadata or {})
    header = _header(arrays, texts)

    def write_into(file: io.FileIO) -> None:
        digest = hashlib.sha256()
        for block in _blocks(header, arrays):
            digest.update(block)
            files.write_all(file, block)
        file.seek(_PLACE.start)
        files.write_all(file, digest.hexdigest())

    return write_into


def _ordered(tensors: Mapping[str, Array]) -> dict[str, Any]:
    """The arrays in the order of the file: wide dtypes first, so that each begins at a multiple of its width."""
    arrays: dict[str, Any] = {}
    for name, value in tensors.items():
        _check_text(name, "the name of a tensor")
        if name == "__metadata__":
            msg = "a tensor cannot be called '__metadata__' in a safetensors file"
            raise ValueError(msg)
        arrays[name] = array = np.asarray(value)
        if _name_of(array.dtype) not in _NAMES:
            known = ", ".join(_NAMES)
            msg = f"tensor {name!r} has dtype {array.dtype}, which safetensors cannot hold; it holds {known}"
            raise TypeError(msg)
    return dict(sorted(arrays.items(), key=lambda item: (-_RANKS[_name_of(item[1].dtype)], item[0].encode())))


def _texts(metadata: Mapping[str, str]) -> dict[str, str]:
    for key, value in metadata.items():
        _check_text(key, "a name in the metadata")
        _check_text(value, f"metadata {key!r}")
    return {k: v for k, v in metadata.items() if k != CHECKSUM}  # what load gave may be saved again


def _check_text(text: object, what: str) -> None:
    if not isinstance(text, str):
        msg = f"{what} must be a str in a safetensors file, got {type(text).__name__}"
        raise TypeError(msg)
    try:
        text.encode()
    except UnicodeEncodeError:
        msg = f"{what} must be a text that UTF-8 can hold in a safetensors file, got {text!r:.80}"
        raise ValueError(msg) from None


def _header(arrays: Mapping[str, Any], texts: Mapping[str, str]) -> bytes:
    table: dict[str, Any] = {"__metadata__": texts}
    end = 0
    for name, array in arrays.items():
        begin, end = end, end + array.nbytes
        table[name] = {
            "dtype": _NAMES[_name_of(array.dtype)],
            "shape": array.shape,
            "data_offsets": (begin, end),
        }
    header = json.dumps(table, ensure_ascii=False, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    if len(header) > _HEADER_LIMIT:
        msg = f"the names, shapes and metadata take {len(header)} bytes, a safetensors file holds {_HEADER_LIMIT}"
        raise ValueError(msg)
    return len(header).to_bytes(8, "little") + header


def _blocks(header: bytes, arrays: Mapping[str, Any]) -> Iterator[bytes]:
    """The bytes of the file, many small arrays in one block."""
    waiting, size = [header], len(header)
    for array in arrays.values():
        for chunk in _chunks(array):
            if size + len(chunk) > _CHUNK:
                yield b"".join(waiting)
                waiting, size = [], 0
            waiting.append(chunk)
            size += len(chunk)
    yield b"".join(waiting)


@functools.lru_cache(maxsize=64)
def _name_of(dtype: Any) -> str:
    """The name of a dtype, which NumPy makes anew each time."""
    return str(dtype.name)


def _chunks(array: Any) -> Iterator[bytes]:
    """The little-endian bytes of an array in C order. A copy, so that the bytes that are hashed are written even if
    another thread changes the array meanwhile."""
    if array.size:
        flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1).view(np.uint8)
        for begin in range(0, flat.size, _CHUNK):
            yield flat[begin : begin + _CHUNK].tobytes()


# ---- reading ----


def load(path: str | os.PathLike[str], *, mapped: bool = False) -> tuple[dict[str, Array], dict[str, str]]:
    """The tensors of a safetensors file as NumPy arrays, and its metadata.

    `mapped`: the arrays are read-only and lie in the file, whose pages are read when they are looked at; the file must stay as it is
    as long as they are used. Else the file is opened once and read through that one descriptor into new arrays, so that another process
    may replace or even truncate it meanwhile. The header is checked before memory is allocated. If the metadata have a `CHECKSUM`, it is
    verified.

    BF16 tensors, for which NumPy has no dtype, are returned as float32 with the same values. Errors: OSError if the file
    cannot be opened (missing, not permitted); ValueError that names the file and the problem (a folder or a pipe, truncated,
    changed, not a safetensors file, unknown dtype).
    """
    with files.open_regular(path) as file:
        return _Reader(file, os.fspath(path), mapped).read()


class _Reader:
    def __init__(self, file: io.FileIO, name: str, mapped: bool = False) -> None:
        self.file, self.name, self.mapped = file, name, mapped
        self.size = os.fstat(file.fileno()).st_size
        self.digest = hashlib.sha256()

    def refuse(self, problem: str) -> NoReturn:
        msg = f"{self.name}: not a valid safetensors file: {problem}"
        raise ValueError(msg)

    def read(self) -> tuple[dict[str, Array], dict[str, str]]:
        raw = self.header()
        table = self.table(raw[8:])
        metadata = self.metadata(table.pop("__metadata__", None))
        entries = [(name, *self.entry(name, entry)) for name, entry in table.items()]
        entries.sort(key=lambda e: e[3:])
        self.check_places(entries, self.size - len(raw))
        checked = CHECKSUM in metadata
        if checked:
            self.begin_digest(raw, metadata[CHECKSUM])
        if self.mapped and self.size > len(raw):
            whole = np.memmap(self.file, np.uint8, "r", len(raw), (self.size - len(raw),))
            found = {
                name: self.view(whole[begin:end], dtype, shape, checked)
                for name, dtype, shape, begin, end in entries
            }
        else:
            found = {name: self.array(dtype, shape, checked) for name, dtype, shape, _, _ in entries}
        if checked and self.digest.hexdigest() != metadata[CHECKSUM]:
            msg = (
                f"{self.name} is damaged: the SHA-256 of its bytes is not the one that was written with them. Take another "
                f"copy of it; where a program changed it on purpose, it must leave out {CHECKSUM!r} from the metadata"
            )
            raise ValueError(msg)
        return {name: self.converted(name, code, found[name]) for name, code, _, _, _ in entries}, metadata

    def header(self) -> bytes:
        """The length and the header, as bytes."""
        first = self.exactly(min(8, self.size))
        length = int.from_bytes(first, "little")
        if len(first) == 8 and 2 <= length <= min(self.size - 8, _HEADER_LIMIT):
            return first + self.exactly(length)
        if kind := next((what for magic, what in _OTHERS.items() if first.startswith(magic)), None):
            self.refuse(
                f"it looks like {kind}; anynet reads safetensors files only and runs nothing from a file"
            )
        if len(first) < 8:
            self.refuse(f"it has {len(first)} bytes: truncated?")
        limit = f", more than {_HEADER_LIMIT}" if length > _HEADER_LIMIT else ""
        self.refuse(f"its header should have {length} bytes{limit}; the file has {self.size}: truncated?")

    def exactly(self, count: int) -> bytes:
        data = bytearray(count)
        self.fill(memoryview(data))
        return bytes(data)

    def fill(self, view: memoryview) -> None:
        while view:
            got = self.file.readinto(view)
            if not got:
                self.refuse("it ended while it was read: another process has truncated it")
            view = view[got:]

    def table(self, raw: bytes) -> dict[str, Any]:
        try:
            if raw[:1] != b"{":
                self.refuse(f"its header begins with {raw[:4]!r}, expected '{{'")
            table = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
        except RecursionError:
            self.refuse("its header is nested too deeply")
        except UnicodeDecodeError as error:
            self.refuse(f"its header is not UTF-8 ({error.reason} at byte {error.start})")
        except ValueError as error:
            if str(error).startswith(self.name):
                raise
            self.refuse(f"its header is not JSON ({error})")
        return table  # type: ignore[no-any-return]

    def metadata(self, table: Any) -> dict[str, str]:
        if table is None:
            return {}
        if not isinstance(table, dict):
            self.refuse(f"its metadata are a {type(table).__name__}, expected a table of strings")
        for key, value in table.items():
            if not isinstance(value, str):
                self.refuse(f"metadata {key!r:.80} is a {type(value).__name__}, expected a string")
        return table

    def entry(self, name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
        """dtype, shape, begin and end of a tensor."""
        try:
            _check_text(name, "a name")
        except ValueError as error:
            self.refuse(str(error))
        keys = ("dtype", "shape", "data_offsets")
        if not isinstance(entry, dict) or any(key not in entry for key in keys):
            self.refuse(f"tensor {name!r:.80} needs {', '.join(keys)}; got {entry!r:.80}")
        code, shape, place = (entry[key] for key in keys)
        if not _sizes(shape) or not _sizes(place) or len(place) != 2 or len(shape) > _RANK_LIMIT:
            self.refuse(f"tensor {name!r:.80} has shape {shape!r:.80} at {place!r:.80}")
        if code in _FOREIGN:
            known = ", ".join((*_DTYPES, "BF16"))
            msg = f"{self.name}: tensor {name!r} has dtype {code}, which NumPy lacks; known: {known}"
            raise ValueError(msg)
        if not isinstance(code, str) or code not in (*_DTYPES, "BF16"):
            self.refuse(f"tensor {name!r:.80} has the unknown dtype {code!r:.80}")
        width = 2 if code == "BF16" else np.dtype(_DTYPES[code]).itemsize
        if place[1] - place[0] != math.prod(shape) * width:
            self.refuse(
                f"tensor {name!r:.80}, {code} of shape {tuple(shape)}, cannot be at bytes {place[0]} to {place[1]}"
            )
        return code, tuple(shape), place[0], place[1]

    def check_places(self, entries: list[tuple[str, str, tuple[int, ...], int, int]], size: int) -> None:
        at = 0
        for name, _, _, begin, end in entries:
            if begin != at:
                what = "a gap before it" if begin > at else "it overlaps the one before"
                self.refuse(f"tensor {name!r:.80} is at bytes {begin} to {end}: {what}")
            at = end
        if at != size:
            what = "truncated?" if size < at else "bytes are left over"
            self.refuse(f"its tensors take {at} bytes, the file has {size}: {what}")

    def begin_digest(self, raw: bytes, expected: str) -> None:
        if not raw[8:].startswith(_BEGIN) or raw[_PLACE] != expected.encode():
            self.refuse(
                f"{CHECKSUM!r} is not the first of its metadata: damaged, or rewritten by another program"
            )
        self.digest.update(raw[: _PLACE.start] + b"0" * 64 + raw[_PLACE.stop :])

    def stored(self, code: str) -> Any:
        """The dtype of the bytes of a tensor."""
        dtype = np.dtype("uint16" if code == "BF16" else _DTYPES[code])
        return dtype if sys.byteorder == "little" else dtype.newbyteorder("<")

    def view(self, data: Any, code: str, shape: tuple[int, ...], checked: bool) -> Any:
        """A tensor where it lies in the file."""
        if checked:
            for begin in range(0, data.size, _CHUNK):
                self.digest.update(data[begin : begin + _CHUNK])
        try:
            return np.asarray(data).view(self.stored(code)).reshape(shape)
        except (ValueError, OverflowError):
            self.refuse(f"a tensor has shape {shape}")

    def array(self, code: str, shape: tuple[int, ...], checked: bool) -> Any:
        try:
            array = np.empty(shape, self.stored(code))
        except (ValueError, OverflowError):  # no bytes, and other axes too long for an array
            self.refuse(f"a tensor has shape {shape}")
        if array.size:
            flat: memoryview = array.reshape(-1).view(np.uint8).data
            for begin in range(0, len(flat), _CHUNK):
                chunk = flat[begin : begin + _CHUNK]
                self.fill(chunk)
                if checked:
                    self.digest.update(chunk)
        return array

    def converted(self, name: str, code: str, array: Any) -> Any:
        if code == "BF16":
            return (array.astype(np.uint32) << 16).view(np.float32)
        if code == "BOOL" and array.size and int(array.view(np.uint8).max()) > 1:
            self.refuse(f"tensor {name!r:.80} is BOOL but has other bytes than 0, 1")
        return array if sys.byteorder == "little" else array.astype(_DTYPES[code])


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            msg = f"duplicate key {key!r:.80}"
            raise ValueError(msg)
        table[key] = value
    return table


def _no_constant(text: str) -> NoReturn:
    msg = f"{text} is not a number in JSON"
    raise ValueError(msg)


def _sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(n) is int and 0 <= n < 1 << 63 for n in values)
