"""The folder of a run: made with a name of its own, and held by one process at a time."""

from __future__ import annotations

import contextlib
import itertools
import json
import logging
import os
import socket
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from anynet_backends import files

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["LOCK", "RunFolder", "RunFolderError", "holds", "unique_folder"]

LOCK = "run.lock"
"""The file that says who holds a run folder."""

_log = logging.getLogger("anynet")


class RunFolderError(RuntimeError):
    """A run folder that another run is using. The message names the folder and the process that holds it."""


def unique_folder(stem: str | os.PathLike[str]) -> Path:
    """Make the folder `stem`, or, where there is something of that name, stem-2, stem-3, …: no two callers get one.

    >>> import pathlib, tempfile
    >>> stem = pathlib.Path(tempfile.mkdtemp()) / "digits"
    >>> unique_folder(stem).name, unique_folder(stem).name
    ('digits', 'digits-2')
    """
    stem = Path(stem)
    stem.parent.mkdir(parents=True, exist_ok=True)
    for number in itertools.count(1):
        folder = stem if number == 1 else stem.with_name(f"{stem.name}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir()
            return folder
    raise AssertionError


class RunFolder:
    """Holds the folder of a run while the block runs, so that no two runs write into one; makes it where it is missing.

    The file `run.lock` in it names the owner (process, its start, host, boot) and is locked with flock, which ends with
    the process, whatever ended it. So a run that was killed leaves a file that nobody holds: the next run takes the
    folder over and says so (a warning of the logger "anynet"). What a killed run had begun to write is removed.

    A lock made on another host is never taken over, because nobody here can see whether its process lives: the error
    says which file to remove. Folders of which another run is known to be using them raise `RunFolderError`, before
    anything in them is touched. Reading (`load`, ``anynet eval``) needs no lock.

    >>> import tempfile
    >>> with RunFolder(tempfile.mkdtemp()) as folder:
    ...     sorted(os.listdir(folder.path))
    ['run.lock']
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self._descriptor: int | None = None

    def __enter__(self) -> RunFolder:
        self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.release()

    def acquire(self) -> None:
        """Take the lock; `RunFolderError` where another run holds it."""
        if self._descriptor is not None:
            msg = f"this run holds the lock of {self.path} already"
            raise RunFolderError(msg)
        self.path.mkdir(parents=True, exist_ok=True)
        descriptor, certain = self._open()
        try:
            before = _read(descriptor)
            if before is not None:
                self._refuse_if_live(before, certain)
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, json.dumps(_owner()).encode() + b"\n")
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        _held.append(self)
        if before is not None:
            _log.warning(
                "took over the run folder %s: process %s on %s, which held it since %s, has ended without giving it back",
                self.path, before.get("pid"), before.get("host"), before.get("time"),
            )  # fmt: skip
        files.remove_leftovers(self.path)

    def release(self) -> None:
        """Give the folder back."""
        if self._descriptor is None:
            return
        with contextlib.suppress(OSError):  # the folder may have been removed meanwhile
            if os.path.samestat(os.stat(self.path / LOCK), os.fstat(self._descriptor)):
                os.unlink(self.path / LOCK)
        self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        _held[:] = [other for other in _held if other is not self]

    def _open(self) -> tuple[int, bool]:
        """The lock file, opened and locked, and whether its lock tells for certain that no process here holds it."""
        place, tries = self.path / LOCK, 0
        while True:
            flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0)
            descriptor = os.open(place, flags, 0o666)
            try:
                certain = _lock(descriptor)
                if certain is None:
                    owner = _read(descriptor) or {}
                    tries += 1
                    if not _ended(owner) or tries > 100:
                        self._refuse(owner)
                else:
                    with contextlib.suppress(FileNotFoundError):
                        if os.path.samestat(os.stat(place), os.fstat(descriptor)):
                            return descriptor, certain
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            if certain is None:  # its owner has ended, and a child that it forked still holds it
                time.sleep(0.02)
            # else its owner has just removed it: try again with a new one

    def _refuse_if_live(self, owner: dict[str, Any], certain: bool) -> None:
        """The lock file is left from before: refuse unless its process has ended for certain."""
        here = _owner()
        same_boot = owner.get("boot") == here["boot"]
        if owner.get("host", here["host"]) != here["host"] and not (same_boot and here["boot"] and certain):
            msg = (
                f"the run folder {self.path} is locked by process {owner.get('pid')} on another host, {owner.get('host')}, "
                f"since {owner.get('time')}; if that run has ended, remove {self.path / LOCK} and try again"
            )
            raise RunFolderError(msg)
        if certain or not same_boot:  # flock ends with the process, and processes end with the boot
            return
        pid, start = owner.get("pid"), owner.get("start")
        if not isinstance(pid, int) or not isinstance(start, int) or files.alive(pid, start):
            self._refuse(owner)

    def _refuse(self, owner: dict[str, Any]) -> None:
        who = "this process" if owner.get("pid") == os.getpid() else f"process {owner.get('pid', '?')}"
        msg = (
            f"the run folder {self.path} is in use: {who} on {owner.get('host', '?')} has held it since "
            f"{owner.get('time', '?')}; choose another run_dir, or wait for that run (or end it) and try again"
        )
        raise RunFolderError(msg)


def _owner() -> dict[str, Any]:
    boot = ""
    with contextlib.suppress(OSError):
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return {
        "pid": os.getpid(),
        "start": files.start_of(os.getpid()),
        "host": socket.gethostname(),
        "boot": boot,
        "time": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def holds(path: str | os.PathLike[str]) -> bool | None:
    """Whether a process holds a run folder; None where that cannot be seen from here (on another host, say). Nothing is locked."""
    try:
        with files.open_regular(Path(path) / LOCK) as file:
            owner = _read(file.fileno())
    except (FileNotFoundError, NotADirectoryError):
        return False
    except (OSError, ValueError):
        return None
    if not owner:
        return None
    here = _owner()
    if owner.get("host") == here["host"] and owner.get("boot") != here["boot"]:
        return False
    if _ended(owner):
        return False
    return True if owner.get("host") == here["host"] else None


def _ended(owner: dict[str, Any]) -> bool:
    """Whether the process that wrote the lock file ran here and has ended."""
    pid, start, here = owner.get("pid"), owner.get("start"), _owner()
    same = all(owner.get(key) == here[key] for key in ("host", "boot"))
    return same and isinstance(pid, int) and isinstance(start, int) and not files.alive(pid, start)


def _read(descriptor: int) -> dict[str, Any] | None:
    """The process that wrote the lock file; None where it is empty."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    text = os.read(descriptor, 10_000)
    if not text.strip(b"\0\n "):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {}


def _lock(descriptor: int) -> bool | None:
    """True: locked; None: another holds it; False: the file system has no locks, so its text must tell."""
    if fcntl is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return None
    except OSError:
        return False
    return True


_held: list[RunFolder] = []


def _forget_in_child() -> None:
    """A forked child holds no run folder: else it would keep its parent's locked after the parent's end."""
    for folder in list(_held):
        folder._close()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_in_child)
