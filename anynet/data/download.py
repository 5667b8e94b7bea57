"""Files of data sets by name: looked for in the package, $ANYNET_DATA and the cache, else downloaded; each is checked against its hash."""

from __future__ import annotations

import errno
import hashlib
import io
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from anynet.data.idx import Bytes, DataError
from anynet_backends.config import DATA, cache_folder
from anynet_backends.files import open_regular, writing

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["File", "content", "find", "packaged"]


@dataclass(frozen=True)
class File:
    """One file of a data set; `size` and `sha256` are those of its uncompressed bytes, of an archive (`whole`) those of the file itself.
    `remote` is its name on the mirrors, where it is another."""

    name: str
    size: int
    sha256: str
    whole: bool = False
    remote: str = ""


_MARGIN = 1_000_000  # a compressed file may be longer than its content, but not by more
_CHUNK = 1 << 18
_SHOWN = 1 << 20  # a bar is shown for files from here on
_OWN_FAULTS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
}  # no other mirror mends these


def _checked(opened: IO[bytes], file: File, name: str) -> bytes | bytearray:
    """The content of a data set's file; `DataError` where it is another, or more."""
    data = Bytes(opened, name, zipped=not file.whole).read(file.size + 1)
    if len(data) != file.size:
        got = f"{len(data)} bytes" if len(data) < file.size else "more"
        msg = f"{name}: expected {file.size} bytes of data, got {got}: truncated, or another file"
        raise DataError(msg)
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        msg = f"{name}: SHA-256 is {found}, expected {file.sha256}: damaged, or another file"
        raise DataError(msg)
    return data


def packaged(file: File) -> Path | None:
    """Where a file is in the package, None where it is not there."""
    found = resources.files("anynet.data") / "files" / file.name
    return Path(str(found)) if found.is_file() else None


def content(path: Path, file: File) -> bytes | bytearray:
    """The uncompressed, checked bytes of a file; of an archive the file's."""
    try:
        with io.BufferedReader(open_regular(path)) as opened:
            return _checked(opened, file, str(path))
    except DataError as error:
        msg = f"{error}. Remove it, so that it is downloaded again, or put the right file there"
        raise DataError(msg) from None


def find(what: str, folder: str, file: File, download: bool, mirrors: Sequence[str]) -> Path:
    """Where a file is, after a download if need be; `DataError` says where it was looked for."""
    own = packaged(file)
    if own is not None:
        return own
    data = DATA()
    places = [] if data is None else [data / folder, data]
    reason = ""
    try:
        places.append(cache_folder() / folder)
    except FileNotFoundError as error:  # no home: nothing is downloaded
        download, reason = False, f" ({error})"
    for place in places:
        for name in (file.name, file.name.removesuffix(".gz")):
            if (place / name).is_file():
                return place / name
    if not download or not mirrors:
        looked = " and ".join(dict.fromkeys(str(place) for place in places)) or "any folder"
        msg = f"{what}: {file.name} is not in {looked}{reason}; put it there, set ANYNET_DATA" + (
            " or allow the download" if mirrors else ""
        )
        raise DataError(msg)
    return _downloaded(what, file, places[-1], mirrors, folder)


def _downloaded(what: str, file: File, folder: Path, mirrors: Sequence[str], name: str) -> Path:
    """Fetch a file from the first mirror that has the right bytes. Nothing else is left behind, whatever happens."""
    import http.client  # here, and not above: few programs download

    reasons = []
    folder.mkdir(parents=True, exist_ok=True)
    for mirror in mirrors:
        address = mirror.rstrip("/") + "/" + (file.remote or file.name)
        try:
            with writing(folder / file.name) as out:
                _fetch(address, file, out)
                out.seek(0)
                _checked(io.BufferedReader(_Kept(out)), file, address)
        except (OSError, ValueError, http.client.HTTPException) as error:  # DataError is a ValueError
            if isinstance(error, OSError) and error.errno in _OWN_FAULTS:
                raise
            reasons.append(f"{address}: {error}")
            continue
        return folder / file.name
    msg = (
        f"{what}: could not download {file.name}. "
        + "; ".join(reasons)
        + f". Put the file in {folder} or in $ANYNET_DATA/{name}"
    )
    raise DataError(msg)


class _Kept(io.RawIOBase):
    """A file to read from that is not closed with what reads it."""

    def __init__(self, file: Any) -> None:
        self.file = file

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return int(self.file.readinto(buffer))


def _fetch(address: str, file: File, out: Any) -> None:
    import urllib.request  # start-up time: few programs download

    most = file.size + _MARGIN
    with urllib.request.urlopen(address, timeout=60) as answer:
        length = answer.headers.get("Content-Length", "") if answer.headers is not None else ""
        total = int(length) if length.isdigit() else None
        with _bar(file.remote or file.name, total) as advance:
            done = 0
            while done < most and (piece := answer.read(min(_CHUNK, most - done))):
                done += len(piece)
                rest = memoryview(piece)
                while rest:
                    rest = rest[out.write(rest) :]
                advance(len(piece))


@contextmanager
def _bar(name: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar on the terminal, for what takes a while."""
    if not sys.stderr.isatty() or (total or 0) < _SHOWN or os.environ.get("TERM") == "dumb":
        yield lambda count: None
        return
    from rich.console import Console  # start-up time: few programs download
    from rich.progress import (  # start-up time: few programs download
        BarColumn,
        DownloadColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(name, total=total)
        yield lambda count: progress.advance(task, count)
