"""A worker process as the coordinator sees it, and the environment in which it runs."""

from __future__ import annotations

import json
import os
import pathlib
import subprocess
import sys
import tempfile
from typing import Any

__all__ = ["ROOT", "Contender", "Failed"]

ROOT = pathlib.Path(__file__).resolve().parents[2]

# Settings that make a library take other kernels than it would choose for this processor, or other paths than its usual ones.
OVERRIDES = {
    "OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA", "ANYNET_KERNELS",
    "ANYNET_NUMBA", "ANYNET_ONEDNN", "PYTHONDONTWRITEBYTECODE",
}  # fmt: skip


class Failed(RuntimeError):
    """What a library said instead of an answer, in one line; `trace` is all of it."""

    def __init__(self, line: str, trace: str = "") -> None:
        super().__init__(line)
        self.trace = trace


class Contender:
    """A worker process. Machine code that it compiles is not kept: its caches are in a folder that ends with it."""

    def __init__(self, name: str, threads: int, device: str = "cpu") -> None:
        self.name = name
        self.folder = tempfile.TemporaryDirectory(prefix="anynet-bench-")
        count = str(threads)
        environment = {k: v for k, v in os.environ.items() if k not in OVERRIDES} | {
            "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count,
            "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(ROOT / "backends"))),
            "ANYNET_BENCH_DEVICE": device, "ANYNET_CACHE": self.folder.name, "TORCHINDUCTOR_CACHE_DIR": self.folder.name,
        }  # fmt: skip
        if name.startswith("anynet alone"):
            environment |= {"ANYNET_ONEDNN": "off", "ANYNET_NUMBA": "off"}
        if threads == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed by `close`; a pipe that nobody reads would block
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "ci.bench.worker", name, count],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, env=environment,
        )  # fmt: skip
        try:
            self.start = self._reply()
        except Failed:
            self.close()
            raise

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.errors.seek(0)
            said = self.errors.read().strip()
            raise Failed(said.splitlines()[-1] if said else f"ended with {self.process.wait()}", said)
        reply: dict[str, Any] = json.loads(line)
        if "error" in reply:
            raise Failed(reply["error"].strip().splitlines()[0], reply.get("trace", ""))
        return reply

    def ask(self, do: str, **order: Any) -> dict[str, Any]:
        """One request and its answer; `Failed` where the library raised."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"do": do, **order}) + "\n")
        self.process.stdin.flush()
        return self._reply()

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout, self.errors):
            if stream is not None:
                stream.close()
        self.folder.cleanup()
