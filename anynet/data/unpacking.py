"""Files as they come: compressed by gzip, bzip2 or xz, or alone in a zip archive; the suffix does not matter."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable

from anynet.data.idx import DataError

__all__ = ["members_of", "unpacked"]

_KINDS: dict[bytes, tuple[str, Callable[[bytes], bytes]]] = {
    b"\x1f\x8b": ("gzip", gzip.decompress),
    b"BZh": ("bzip2", bz2.decompress),
    b"\xfd7zXZ": ("xz", lzma.decompress),
}
_ZIP = b"PK\x03\x04"
_OFFICE = (".xlsx", ".xlsm", ".ods", ".docx")


def unpacked(name: str, data: bytes) -> bytes:
    """The bytes of a file, unpacked if they are packed; `DataError` names the file and what is wrong with it.

    A zip archive is unpacked where it holds one file; an office document, which is a zip archive too, is left as it is.

    >>> unpacked("a.txt", gzip.compress(b"x"))
    b'x'
    """
    for magic, (kind, decompress) in _KINDS.items():
        if data.startswith(magic):
            try:
                return decompress(data)
            except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
                msg = f"{name}: the {kind} data are damaged or cut short: {error}"
                raise DataError(msg) from None
    if not data.startswith(_ZIP) or name.lower().endswith(_OFFICE):
        return data
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = members_of(archive)
            if "[Content_Types].xml" in names:
                return data
            if len(names) == 1:
                return archive.read(names[0])
    except (zipfile.BadZipFile, zlib.error, RuntimeError, NotImplementedError) as error:
        msg = f"{name}: the zip archive cannot be read: {error}"
        raise DataError(msg) from None
    held = (
        f"{len(names)} files ({', '.join(names[:6])}{', …' if len(names) > 6 else ''})" if names else "none"
    )
    msg = f"{name}: a zip archive must hold one file to be read as it is, it has {held}; unpack it and give one of them"
    raise DataError(msg)


def members_of(archive: zipfile.ZipFile) -> list[str]:
    """The files in an archive, in order, without hidden ones and what macOS adds."""
    names = [n for n in archive.namelist() if not n.endswith("/")]
    return sorted(n for n in names if not any(p.startswith(".") or p == "__MACOSX" for p in n.split("/")))
