"""Programs of several processes in tests: `launch(4, "training_in_processes.py", …)`, by mpiexec or with torchrun's variables."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from optional_libraries import needs

__all__ = ["LAUNCHERS", "PROGRAMS", "command", "launch", "run_with_variables", "variables_of"]

LAUNCHERS = ("mpiexec", "variables")

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
    by: str = "mpiexec",
    alone: bool = False,
    variables: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a program of the folder `programs` in so many processes; `by`: one of LAUNCHERS; `alone`: in one, without a launcher."""
    root = Path(__file__).resolve().parents[2]
    path = os.pathsep.join([str(root), str(root / "backends"), *filter(None, [os.environ.get("PYTHONPATH")])])
    own = [sys.executable, str(PROGRAMS / program), *map(str, arguments)]
    env = {**os.environ, **_ANY, "PYTHONPATH": path, **(variables or {})}
    if by == "variables" and not alone:
        return run_with_variables(processes, own, env)
    return subprocess.run(
        [*([] if alone else command(processes)), *own], capture_output=True, text=True, timeout=300, check=False, env=env,
    )  # fmt: skip


def variables_of(processes: int) -> list[dict[str, str]]:
    """What torchrun would set for each of so many processes of this host."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
    common = {"WORLD_SIZE": str(processes), "MASTER_ADDR": "localhost", "MASTER_PORT": port}
    return [{**common, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(processes)]


def run_with_variables(
    processes: int, program: list[str], env: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    """Run a program in so many processes, which find each other by an address; all their outputs, and an exit status that is not 0."""
    with contextlib.ExitStack() as files:
        outputs = [
            [files.enter_context(tempfile.TemporaryFile("w+")) for _ in range(2)] for _ in range(processes)
        ]
        started = [
            subprocess.Popen(program, stdout=out, stderr=errors, env={**env, **own})
            for own, (out, errors) in zip(variables_of(processes), outputs, strict=True)
        ]
        until = time.monotonic() + 300
        try:
            while any(p.poll() is None for p in started):
                if any(p.poll() for p in started):  # torchrun ends the others, too
                    until = min(until, time.monotonic() + 15)
                if time.monotonic() > until:
                    break
                time.sleep(0.02)
        finally:
            status = next((code for p in started if (code := p.poll())), 0)
            for process in started:
                process.kill()
                process.wait()
        texts = []
        for kind in range(2):
            for pair in outputs:
                pair[kind].seek(0)
            texts.append("".join(pair[kind].read() for pair in outputs))
    return subprocess.CompletedProcess(program, status or max(p.returncode != 0 for p in started), *texts)
