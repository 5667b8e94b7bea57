"""Checks of files and folders whose contents are executed: only trusted users may be able to write them."""

from __future__ import annotations

import contextlib
import os
import stat

__all__ = ["RefusedError", "check_library", "open_folder"]

_OTHERS, _GROUP_AND_OTHERS = 0o002, 0o022


class RefusedError(OSError):
    """A file or folder is refused because another user could have written it."""


def _check(name: str, info: os.stat_result, owners: tuple[int, ...], bits: int, *, sticky: bool) -> None:
    """Raise RefusedError for a wrong owner or for permissions in `bits`; `sticky`: these are accepted together with the sticky bit,
    with which users cannot move the files of others, as in /tmp."""
    if info.st_uid not in owners:
        msg = f"{name} belongs to user {info.st_uid}, not to {' or '.join(map(str, sorted(set(owners))))}"
        raise RefusedError(msg)
    if info.st_mode & bits and not (sticky and info.st_mode & stat.S_ISVTX):
        msg = f"{name} may be written by others (mode {stat.S_IMODE(info.st_mode):04o})"
        raise RefusedError(msg)


def open_folder(path: str, *, create: bool = False) -> int:
    """A descriptor of a folder that belongs to the user, and that no other user can write to or replace: nobody else may write into it,
    nor into a folder above it unless that has the sticky bit, as /tmp has. Each folder is opened relative to its parent and
    checked through its descriptor.

    The folder itself must not be a link; a link above it is resolved first, and its target is checked. `create`: create missing
    folders, with mode 0700. Errors: RefusedError that names the folder and the reason; OSError."""
    user = os.geteuid()
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    above, name = os.path.split(path)
    parts = [part for part in (*os.path.realpath(above).split(os.sep), name) if part]
    here, at = os.open(os.sep, flags), os.sep
    try:
        for part in parts:
            _check(at, os.fstat(here), (0, user), _GROUP_AND_OTHERS, sticky=True)
            at = os.path.join(at, part)
            try:
                inner = os.open(part, flags, dir_fd=here)
            except FileNotFoundError:
                if not create:
                    raise
                inner = _made(part, flags, here)
            os.close(here)
            here = inner
        info = os.fstat(here)
        _check(at, info, (user,), _GROUP_AND_OTHERS, sticky=False)
        if stat.S_IMODE(info.st_mode) != 0o700:
            with contextlib.suppress(OSError):
                os.fchmod(here, 0o700)
    except BaseException:
        os.close(here)
        raise
    return here


def _made(part: str, flags: int, parent: int) -> int:
    with contextlib.suppress(FileExistsError):
        os.mkdir(part, 0o700, dir_fd=parent)
        os.chmod(part, 0o700, dir_fd=parent)  # independent of the umask
    return os.open(part, flags, dir_fd=parent)


def check_library(path: str) -> None:
    """Raise RefusedError if a shared library or a folder above it is owned by anybody but the user, the owner of this package and
    root, or is writeable by everybody. (Write permission for a group is accepted: Debian's /usr/local has it.)"""
    owners = (0, os.geteuid(), os.stat(__file__).st_uid)
    path = os.path.realpath(path)
    _check(path, os.stat(path), owners, _OTHERS, sticky=False)
    while path != os.sep:
        path = os.path.dirname(path)
        _check(path, os.stat(path), owners, _OTHERS, sticky=True)
