"""The cache of compiled code on disk. Its files are executed, so they are read only where nobody else could have written them.

The folder is ``$ANYNET_CACHE/machine`` (by default ``~/.cache/anynet/machine``). It is used where it and its files belong to the
user and nobody else may write them, where nobody else could put another folder in its place, and where no link is in the
way: every folder from the root down is opened relative to the one before, and checked once it is open. Each file has the digest
of the text that it was compiled from, and a checksum of that and its contents. The least recently used files are removed when
all take more than `MOST` bytes.

Without such a folder (none is there and none can be made, it is read-only, the disk is full, the system has no owners of
files) code is compiled again in each process; `status` says why.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from anynet_backends.config import cache_folder
from anynet_backends.files import remove_leftovers, temporary_name
from anynet_backends.ownership import RefusedError, open_folder

__all__ = ["LARGEST", "MOST", "CodeCache"]

MOST: Final = 256 << 20
"""Bytes of all files."""
LARGEST: Final = 16 << 20
"""Bytes of one."""
_MAGIC: Final = b"anynet machine code 2\n"
_HEAD: Final = len(_MAGIC) + 64
_OURS: Final = re.compile(
    r"[0-9a-f]{64}\.code|[0-9a-f]{32}\.o|tmp[a-z0-9_]{8}"
)  # the others: of versions before


class _File(NamedTuple):
    used: float
    size: int
    name: str


class CodeCache:
    """The files of one folder. Nothing here raises where the disk does not do what it should. One thread at a time."""

    def __init__(self, path: str | None = None) -> None:
        """`path`: for tests; else the folder that the environment says."""
        self.path = ""
        self.refused = ""  # why it is not used
        self.read_only = ""  # why nothing is written
        self.tidy = False
        self.bytes: int | None = None  # of all files, once something is written
        try:
            self.path = os.path.abspath(os.path.join(cache_folder(), "machine") if path is None else path)
        except OSError as error:
            self.refused = str(error)
        if not hasattr(os, "geteuid") or os.open not in os.supports_dir_fd:
            self.refused = "this system does not say who may write a file"

    @contextlib.contextmanager
    def _opened(self, create: bool) -> Iterator[int]:
        """A descriptor of the folder, for one use: between two it may have changed hands."""
        if self.refused:
            raise RefusedError(self.refused)
        try:
            folder = open_folder(self.path, create=create)
        except RefusedError as error:
            self.refused = str(error)
            raise
        try:
            if not self.tidy:
                self.tidy = True
                remove_leftovers(folder)
            yield folder
        finally:
            os.close(folder)

    def read(self, key: str) -> bytes | None:
        """The code that was written for a key, whole and by this user; None where there is none."""
        digest, name = _named(key)
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with (
                self._opened(create=False) as folder,
                open(os.open(name, flags, dir_fd=folder), "rb", 0) as file,
            ):
                info = os.fstat(file.fileno())
                if not _plain(info) or not _HEAD < info.st_size <= LARGEST:
                    return None
                content = file.read(info.st_size)
                with contextlib.suppress(OSError):
                    os.utime(file.fileno())  # used now
        except (OSError, ValueError):  # ValueError: a path with a zero byte
            return None
        code = content[_HEAD:]
        head = _MAGIC + digest + _sha256(digest + code)
        return code if content[:_HEAD] == head and _is_object(code) else None

    def write(self, key: str, code: bytes) -> None:
        """Keep code for a key. Where that does not succeed nothing more is written by this process, and nothing stays behind."""
        digest, name = _named(key)
        content = _MAGIC + digest + _sha256(digest + code) + code
        if self.read_only or len(content) > LARGEST:
            return
        try:
            with self._opened(create=True) as folder:
                if self.bytes is None:
                    self.bytes = sum(f.size for f in _files(folder))
                self._replace(folder, name, content)
                self.bytes += len(content)
                if self.bytes > MOST:
                    self.bytes = _prune(folder)
        except (OSError, ValueError) as error:
            self.read_only = getattr(error, "strerror", None) or str(error)

    def _replace(self, folder: int, name: str, content: bytes) -> None:
        if not _allowed(len(content)):
            raise OSError(errno.EFBIG, "the process may not write files of this size (RLIMIT_FSIZE)")
        temporary = temporary_name(name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        made = os.open(temporary, flags, 0o600, dir_fd=folder)
        try:
            with open(made, "wb", 0) as file:  # to close it may report that the disk is full, too
                os.fchmod(made, 0o600)  # whatever the umask
                left = memoryview(content)
                while left:
                    left = left[file.write(left) or 0 :]
            os.replace(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=folder)
            raise

    def status(self) -> str:
        """What is kept where, or why nothing is, in a line."""
        try:
            with self._opened(create=True) as folder:
                sizes = [f.size for f in _files(folder)]
        except RefusedError as error:
            return f"not used: {error}"
        except (OSError, ValueError) as error:
            return f"not used: {self.path}: {getattr(error, 'strerror', None) or error}"
        writable = self.read_only or ("" if os.access(self.path, os.W_OK) else "it cannot be written")
        more = f"; nothing is added: {writable}" if writable else ""
        return f"{self.path}, {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB of at most {MOST / 1e6:.0f}{more}"


def _regular(folder: int, name: str) -> os.stat_result | None:
    with contextlib.suppress(OSError):
        info = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if stat.S_ISREG(info.st_mode):
            return info
    return None


def _files(folder: int) -> list[_File]:
    """The files of code, what was used longest ago first."""
    found = []
    for name in os.listdir(folder):
        info = _regular(folder, name) if _OURS.fullmatch(name) else None
        if info is not None:  # a small file takes a block of the disk
            found.append(_File(info.st_mtime, max(info.st_size, 512 * info.st_blocks), name))
    return sorted(found)


def _prune(folder: int) -> int:
    """Remove what was used longest ago, down to three quarters of what is allowed; the bytes of the others."""
    files = _files(folder)
    total = sum(f.size for f in files)
    for f in files:
        if total <= MOST * 3 // 4:
            break
        with contextlib.suppress(OSError):
            os.unlink(f.name, dir_fd=folder)
        total -= f.size
    return total


def _sha256(data: bytes) -> bytes:
    import hashlib  # start-up time: a process that compiles nothing needs none

    return hashlib.sha256(data).digest()


def _named(key: str) -> tuple[bytes, str]:
    digest = _sha256(key.encode())
    return digest, f"{digest.hex()}.code"


def _plain(info: os.stat_result) -> bool:
    """Whether it is a regular file of this user's that nobody else may write."""
    return stat.S_ISREG(info.st_mode) and info.st_uid == os.geteuid() and not info.st_mode & 0o022


def _is_object(code: bytes) -> bool:
    """Whether it has the form of compiled code: LLVM ends the process where it has not. Of ELF files, all sections must lie
    within."""
    if code[:4] in (b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe"):  # Mach-O
        return True
    if code[:6] != b"\x7fELF\x02\x01" or len(code) < 64:
        return False
    (table,), (each, count) = struct.unpack_from("<Q", code, 40), struct.unpack_from("<HH", code, 58)
    if each != 64 or not count or table + each * count > len(code):
        return False
    for at in range(table, table + each * count, each):
        (kind,), (start, size) = (
            struct.unpack_from("<I", code, at + 4),
            struct.unpack_from("<QQ", code, at + 24),
        )
        if kind != 8 and start + size > len(code):  # 8: nothing in the file
            return False
    return True


def _allowed(size: int) -> bool:
    """Whether the process may write a file of this size: to try ends it, where somebody has set the signal back."""
    try:
        import resource  # only Unix has it
    except ImportError:
        return True
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return limit == resource.RLIM_INFINITY or size <= limit
