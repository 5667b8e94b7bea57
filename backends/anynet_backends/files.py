"""Files that are complete or absent: atomic writes, reads of regular files only, removal of temporary files of dead processes."""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import stat
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import io
    from collections.abc import Callable, Iterator

__all__ = [
    "NotRegularError",
    "alive",
    "machine",
    "open_regular",
    "remove_leftovers",
    "start_of",
    "temporary_name",
    "write",
    "write_all",
    "writing",
    "writing_together",
]

_LEFTOVER = re.compile(r"\..+\.([0-9a-f]{8})-(\d+)-(\d+)-[0-9a-f]{8}\.tmp")
_DAY = 86400.0


class NotRegularError(ValueError):
    """A folder, pipe, device or socket where a file is expected."""


# ---- reading ----


def open_regular(path: str | os.PathLike[str]) -> io.FileIO:
    """Open a file for reading; raises `NotRegularError` at once, without blocking, for a pipe, a device or a folder."""
    name = os.fspath(path)
    flags = os.O_RDONLY | sum(getattr(os, f, 0) for f in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY"))
    try:
        descriptor = os.open(name, flags)
    except OSError as error:  # a socket, a device without a driver, a folder on Windows
        if error.errno in (errno.ENXIO, errno.ENODEV, errno.EISDIR) or os.path.isdir(name):
            raise NotRegularError(_kind(name, os.stat(name).st_mode)) from None
        raise
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        raise NotRegularError(_kind(name, mode))
    return os.fdopen(descriptor, "rb", buffering=0)


def _kind(name: str, mode: int) -> str:
    tests = {"folder": stat.S_ISDIR, "named pipe": stat.S_ISFIFO, "socket": stat.S_ISSOCK}
    what = next((word for word, test in tests.items() if test(mode)), "device")
    return f"{name} is a {what}, expected a file"


# ---- writing ----


@contextlib.contextmanager
def writing(path: str | os.PathLike[str], *, durable: bool = True) -> Iterator[io.FileIO]:
    """A new file that replaces `path` atomically when the block ends without an error.

    Until then it is in the same folder under a temporary name that identifies the process, so that `remove_leftovers` finds the
    files of killed processes. An existing file keeps its mode, a new one gets the mode of the umask; a link is followed. On any
    error (a full disk, Ctrl-C) the old file stays as it was and the new one is removed. A durable file is on the disk then, so
    that also a machine that loses its power has the old one or the new one whole.
    """
    shown, target = os.fspath(path), Path(os.path.realpath(path))
    mode = None
    with contextlib.suppress(FileNotFoundError):
        mode = target.stat().st_mode
        if not stat.S_ISREG(mode):
            raise NotRegularError(_kind(shown, mode) + " or nothing there")
    remove_leftovers(target.parent)
    temporary = target.parent / temporary_name(target.name)
    try:
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(temporary, flags, 0o666), "w+b", buffering=0) as file:
            if mode is not None and hasattr(os, "fchmod"):
                os.fchmod(file.fileno(), stat.S_IMODE(mode) & 0o777)
            yield file
            if durable:
                os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException as error:
        with contextlib.suppress(OSError):
            temporary.unlink()
        said = isinstance(error.__cause__, OSError)  # by the writing of another file, within this one
        if isinstance(error, OSError) and error.errno is not None and not said:
            reason = f"{os.strerror(error.errno)}: cannot write {shown}; " + (
                "the file there is as it was" if mode is not None else "nothing was written"
            )
            raise OSError(error.errno, reason) from error  # of the same subclass: Python goes by the number
        raise
    if durable:
        _sync(target.parent)


def temporary_name(name: str) -> str:
    """A temporary name for a file that is to become `name`; it identifies the process."""
    return f".{name[:80]}.{machine()}-{os.getpid()}-{start_of(os.getpid())}-{os.urandom(4).hex()}.tmp"


def write(path: str | os.PathLike[str], data: bytes | str) -> None:
    """Write a file atomically (see `writing`); text as UTF-8, what that cannot hold (of file names) as JSON has it."""
    with writing(path) as file:
        write_all(file, data)


def write_all(file: io.FileIO, data: bytes | memoryview | str) -> None:
    """Write all of it into an open file: of a disk that is nearly full, or where a signal arrives, one call takes a part."""
    rest = memoryview(data.encode(errors="backslashreplace") if isinstance(data, str) else data)
    while rest:
        rest = rest[file.write(rest) :]


@contextlib.contextmanager
def writing_together(folder: str | os.PathLike[str]) -> Iterator[Callable[[str], io.FileIO]]:
    """Several new files of one folder, which is made: all of them replace those of their names when the block ends without an error.

    The function that is given opens one of them. On any error the files in the folder stay as they were, and folders that
    were made are removed.
    """
    place = Path(folder)
    made = [p for p in (place, *place.parents) if not p.exists()]
    try:
        place.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            yield lambda name: opened.enter_context(writing(place / name))
    except BaseException:
        for path in made:
            with contextlib.suppress(OSError):
                path.rmdir()
        raise


def _sync(folder: Path) -> None:
    """Sync a folder to the disk, if the system can."""
    if os.name != "posix":
        return
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# ---- processes ----


@functools.cache
def machine() -> str:
    """Eight hexadecimal digits that identify the namespace of process numbers: one boot of a machine, or a container."""
    # start-up time: what only files ask for
    import hashlib
    import socket

    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(os.readlink("/proc/self/ns/pid"))
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]


def start_of(pid: int) -> int:
    """When a process of this machine started, in ticks since boot; 0 if unknown.

    It distinguishes a process from a later one with the same number.
    """
    return _state_of(pid)[1]


def _state_of(pid: int) -> tuple[bytes, int]:
    """The state of a process, a letter, and its start; "" and 0 if unknown."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
            return fields[0], int(fields[19])
    except (OSError, ValueError, IndexError):
        return b"", 0


def alive(pid: int, start: int) -> bool:
    """Whether the process of this machine that started at `start` still runs; True if unknown."""
    if pid == os.getpid():
        return start in (0, start_of(pid))
    if os.name != "posix":  # on Windows, signal 0 ends the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        pass
    state, now = _state_of(pid)
    if state in (
        b"Z",
        b"X",
    ):  # it has ended, and its parent has not asked yet: in a container that may be never
        return False
    return start == 0 or now in (0, start)


def remove_leftovers(folder: str | os.PathLike[str] | int) -> list[str]:
    """Remove the temporary files of `writing` in a folder (or its descriptor) whose processes have ended; returns their names.

    Those of other machines, whose processes cannot be checked, are removed when they are a day old.
    """
    removed: list[str] = []
    try:
        with os.scandir(folder) as entries:
            found = [
                (e, match)
                for e in entries
                if e.name.endswith(".tmp") and (match := _LEFTOVER.fullmatch(e.name))
            ]
    except OSError:
        return removed
    for entry, match in found:
        place, pid, start = match[1], int(match[2]), int(match[3])
        with contextlib.suppress(OSError):
            status = entry.stat(follow_symlinks=False)
            dead = place == machine() and not alive(pid, start)
            if stat.S_ISREG(status.st_mode) and (dead or time.time() - status.st_mtime > _DAY):
                os.unlink(entry.path, dir_fd=folder if isinstance(folder, int) else None)
                removed.append(entry.name)
    return removed
