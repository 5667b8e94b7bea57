"""Where and how a run was made: command, script, versions, git, host; for run.json and ``anynet doctor``."""

from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

__all__ = ["command", "environment", "git", "now", "script"]


def now() -> str:
    """The time, as ISO 8601 with the offset."""
    return time.strftime("%Y-%m-%dT%H:%M:%S%z")


def environment() -> dict[str, Any]:
    """Versions and devices."""
    # start-up time: only a run with a folder asks
    import platform

    import anynet_backends
    from anynet._version import __version__

    return {
        "anynet": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": {name: xp.versions() for name, xp in anynet_backends.loaded().items()},
        "host": socket.gethostname(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "threads": {
            k: os.environ[k]
            for k in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
            if k in os.environ
        },
        "variables": {k: v for k, v in sorted(os.environ.items()) if k.startswith("ANYNET_")},
        "time": now(),
    }


def command() -> list[str]:
    """The command line of this process; in a notebook that of its kernel."""
    return [str(a) for a in (getattr(sys, "orig_argv", None) or sys.argv)]


def script() -> dict[str, Any] | None:
    """The script that runs, with the hash of its text; None in a notebook or an interpreter."""
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if not file or not os.path.isfile(file):
        return None
    data = Path(file).read_bytes()
    return {"path": os.path.abspath(file), "sha256": hashlib.sha256(data).hexdigest()}


def git(folder: str | os.PathLike[str] | None = None) -> dict[str, Any] | None:
    """The commit of the repository around a folder (the current one), and whether tracked files differ from it; None where there is
    no repository, or no git."""
    place = Path(folder or os.getcwd()).absolute()
    if not any((p / ".git").exists() for p in (place, *place.parents)):
        return None

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-c", "core.fsmonitor=false", *words],
                cwd=place,
                capture_output=True,
                text=True,
                timeout=3,
                check=False,
            )
        except (OSError, subprocess.SubprocessError, ValueError):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    changed = ask("status", "--porcelain", "--untracked-files=no")
    return None if commit is None else {"commit": commit, "dirty": None if changed is None else bool(changed)}
