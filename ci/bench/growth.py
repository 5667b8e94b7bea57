"""``python -m ci.bench.growth``: how time and memory of a step grow with the batch, the number of layers and the length of sequences, and
how long the imports take. The two sections go into ci/bench/RESULTS.md.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
from typing import Any

from ci.bench.contender import ROOT, Contender
from ci.bench.measure import race
from ci.bench.report import put_section, ratios, shown, spread, table

__all__ = ["growth", "imports"]

SIZES = (
    ("digits-mlp", "batch", (16, 64, 256, 1024)), ("lenet", "batch", (16, 64, 256)), ("nanogpt", "batch", (2, 8, 32)),
    ("digits-mlp", "depth", (2, 8, 32)), ("nanogpt", "depth", (1, 4, 8)), ("lstm", "length", (10, 50, 200)),
    ("nanogpt", "length", (32, 128, 512)),
)  # fmt: skip
NAMES = ("anynet", "anynet compiled", "torch")


def _row(key: str, what: str, size: int, threads: int, rounds: int) -> list[str]:
    order: dict[str, Any] = {"workload": key} | (
        {"batch": size} if what == "batch" else {"with": {what: size}}
    )
    contenders: dict[str, Contender] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="anynet-bench-") as folder:
            path = os.path.join(folder, "weights.npz")
            contenders = {name: Contender(name, threads) for name in NAMES}
            contenders["anynet"].ask("describe", **order, path=path)
            used = []
            for contender in contenders.values():
                contender.ask("build", what="training", **order, path=path)
                used.append(contender.ask("first", n=5)["memory"] - contender.start["memory"])
            times = race(contenders, rounds)
    finally:
        for contender in contenders.values():
            contender.close()
    found = [key, f"{what} {size}", *(shown(statistics.median(times[name])) for name in NAMES)]
    found += [spread(ratios(times, "anynet", "torch")), spread(ratios(times, "anynet compiled", "torch"))]
    return found + [f"{mb:.0f}" for mb in used]


def growth(threads: int, rounds: int) -> list[str]:
    """The table of growth."""
    head = ["workload", "", *NAMES, "eager / torch", "compiled / torch", *(f"{name}, MB" for name in NAMES)]
    return table(
        head, (_row(key, what, size, threads, rounds) for key, what, sizes in SIZES for size in sizes)
    )


def imports() -> list[str]:
    """The time of the import of each library in a new process with its bytecode cached, median of five after one."""
    rows = []
    paths = os.pathsep.join((str(ROOT), str(ROOT / "backends")))
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {
        "PYTHONPATH": paths
    }
    for library in ("numpy", "anynet", "torch", "jax"):
        code = f"import time; t = time.perf_counter(); import {library}; print(time.perf_counter() - t)"
        runs = [
            subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
            for _ in range(6)
        ]
        taken = [float(run.stdout) for run in runs[1:] if run.returncode == 0]
        rows.append([library, f"{statistics.median(taken):.3f}" if taken else "–"])
    return table(["import", "seconds"], rows)


if __name__ == "__main__":
    put_section("## Growth with batch, depth and length", growth(os.cpu_count() or 1, 5))
    put_section("## Imports", imports())
