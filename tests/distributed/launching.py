"""Programs of several processes in tests: `launch(4, "training_in_processes.py", …)`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from optional_libraries import needs

__all__ = ["PROGRAMS", "command", "launch"]

PROGRAMS = Path(__file__).parent / "programs"
_ANY = {  # Open MPI refuses root and more processes than cores unless it is told
    "OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1",
    "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe", "OMP_NUM_THREADS": "1",
}  # fmt: skip


def command(processes: int) -> list[str]:
    """What starts so many processes of this Python; skips where there is no MPI."""
    needs("mpi4py", "mpi")
    beside = str(Path(sys.executable).parent)
    mpiexec = shutil.which("mpiexec", path=beside) or shutil.which("mpiexec")
    if mpiexec is None:
        pytest.skip("mpiexec is not installed")
    return [mpiexec, "-n", str(processes)]


def launch(
    processes: int,
    program: str,
    *arguments: object,
    alone: bool = False,
    variables: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program of the folder `programs` in so many processes; `alone`: in one, without mpiexec."""
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), str(root / "backends"), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.run(
        [*([] if alone else command(processes)), sys.executable, str(PROGRAMS / program), *map(str, arguments)],
        capture_output=True, text=True, timeout=300, check=False,
        env={**os.environ, **_ANY, "PYTHONPATH": path, **(variables or {})},
    )  # fmt: skip
