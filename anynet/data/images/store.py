"""Decoded pictures: in memory, in a file of the cache folder that is mapped into memory, or decoded again each time.

The file's name is a hash of all that decides its contents (the pictures' bytes, the size, how they are resized), so a changed picture
has another file. It is written under a temporary name and renamed when it is whole: killed processes leave no half of one, and two
that write at the same time write the same.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import mmap
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from anynet.data.images.decoding import decoded, in_threads, pillow
from anynet.data.images.finding import Found
from anynet_backends import Array, backend_of, files, registry
from anynet_backends.config import cache_folder

__all__ = ["FILE_FROM", "Pictures", "decode_all"]

FILE_FROM = 16 << 20
"""Bytes of decoded pictures from which they are kept in a file; less stays in memory alone."""
KEPT = 8 << 30
"""Bytes of such files that are kept; the oldest go first."""

_CHUNK = 512
_VERSION = 1

Blank = dict[int, str]  # the pictures that cannot be read, and why


class Pictures:
    """uint8 pictures by number: an array, or files that are decoded when they are asked for."""

    def __init__(
        self, array: Array | None, found: Found, size: tuple[int, int], channels: int, resize: str
    ) -> None:
        self.array, self.found = array, found
        self.size, self.channels, self.resize = size, channels, resize

    def rows(self, indices: Sequence[int]) -> Array:
        """uint8 (n, height, width, channels)."""
        if self.array is not None:
            rows = registry.asarray(indices, "int64")
            return backend_of(self.array).take(self.array, rows, axis=0)
        parts = in_threads(self._one, [self.found.names[i] for i in indices])
        return backend_of(parts[0]).stack(parts, axis=0)

    def _one(self, name: str) -> Array:
        return decoded(self.found.files.read(name), self.size, self.channels, self.resize)


def decode_all(
    found: Found, digests: Sequence[str], size: tuple[int, int], channels: int, resize: str, cache: bool | str
) -> tuple[Pictures, Blank]:
    """All pictures, and those that cannot be read (of which the array holds zeros)."""
    pictures = Pictures(None, found, size, channels, resize)
    shape = (len(found.names), *size, channels)
    count = shape[0] * shape[1] * shape[2] * shape[3]
    blank: Blank = {}
    if cache is False:
        for _ in _chunks(pictures, blank):
            pass
        return pictures, blank
    path = _path(digests, shape, resize) if cache is True and count >= FILE_FROM else None
    if path is not None and path.exists():
        array, known = _mapped(path, shape, count)
        if array is not None:
            pictures.array = array
            return pictures, known
    if path is not None:
        with contextlib.suppress(OSError):  # a full disk, a folder that is not ours: then in memory
            _forget(path.parent, count)
            with files.writing(path) as file:
                for chunk in _chunks(pictures, blank):
                    files.write_all(file, memoryview(chunk).cast("B"))
                files.write_all(file, json.dumps(blank))
            array, _ = _mapped(path, shape, count)
            if array is not None:
                pictures.array = array
                return pictures, blank
        blank.clear()
    parts = list(_chunks(pictures, blank))
    pictures.array = backend_of(parts[0]).concat(parts, axis=0)
    return pictures, blank


def _chunks(pictures: Pictures, blank: Blank) -> Iterator[Array]:
    """The pictures in order, so many at a time."""
    names = pictures.found.names
    empty = registry.asarray(bytearray(pictures.size[0] * pictures.size[1] * pictures.channels), "uint8")
    empty = empty.reshape((*pictures.size, pictures.channels))
    pillow()  # the error of a missing library, once

    def one(i: int) -> Array:
        try:
            return pictures._one(names[i])
        except (OSError, RuntimeError, ValueError, SyntaxError) as error:
            blank[i] = str(error)
            return empty

    for begin in range(0, len(names), _CHUNK):
        parts = in_threads(one, range(begin, min(begin + _CHUNK, len(names))))
        yield backend_of(parts[0]).stack(parts, axis=0)


def _path(digests: Sequence[str], shape: tuple[int, ...], resize: str) -> Path | None:
    key = hashlib.sha256(
        json.dumps([_VERSION, getattr(pillow(), "__version__", ""), shape, resize, list(digests)]).encode()
    )
    try:
        folder = cache_folder() / "images"
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder / f"{key.hexdigest()[:40]}.pictures"


def _mapped(path: Path, shape: tuple[int, ...], count: int) -> tuple[Array | None, Blank]:
    try:
        with open(path, "rb") as file:
            view: Any = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        known = json.loads(bytes(view[count:]))
        with contextlib.suppress(OSError):
            os.utime(path)  # the last use, for `_forget`
    except (OSError, ValueError):
        return None, {}
    array: Array = registry.asarray(view[:count])
    return array.reshape(shape), {int(k): v for k, v in known.items()}


def _forget(folder: Path, needed: int) -> None:
    """Remove the files that were not used for longest, so that those that stay and the next are not above `KEPT`."""
    known = []
    for path in folder.glob("*.pictures"):
        with contextlib.suppress(OSError):
            stat = path.stat()
            known.append((stat.st_mtime, stat.st_size, path))
    total = sum(size for _, size, _ in known) + needed
    for used, size, path in sorted(known):
        if total <= KEPT:
            return
        if time.time() - used > 3600:
            with contextlib.suppress(OSError):
                path.unlink()
                total -= size
