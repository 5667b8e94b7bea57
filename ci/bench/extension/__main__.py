"""``python -m ci.bench.extension``: built-in functions of machine code made by LLVM (as the project has them) beside the same in C.

`calls.c` does what `backends/anynet_backends/jit/native_call.ll` does, over the headers of Python and NumPy, and is compiled here by the C
compiler; it runs the same plans. Two processes, one with each, take turns on five workloads in eager mode, one thread, in time that the
process itself has spent. Then what cannot be measured side by side: start, size, lines, and a chain of operations as loops that were
compiled beforehand would run it, without a compiler on the user's machine. Results are written to EXTENSION.md.
"""

from __future__ import annotations

import ctypes
import importlib.util
import json
import os
import pathlib
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Callable
from typing import Any

import numpy as np

HERE = pathlib.Path(__file__).parent
JIT = HERE.parents[2] / "backends" / "anynet_backends" / "jit"
WORKLOADS = ("tiny-mlp", "digits-mlp", "lenet", "makemore-gru", "pinn-oscillator")
WAYS = ("LLVM", "C")
ROUNDS, SECONDS = 15, 0.3


def build(folder: pathlib.Path) -> pathlib.Path:
    """The extension, compiled."""
    made = folder / "calls.so"
    include = [np.get_include(), sysconfig.get_paths()["include"]]
    # -march: the processors that LLVM's loops for this machine suit; no contraction, as the project's machine code has none
    flags = [
        "-O3",
        "-march=x86-64-v3",
        "-ffp-contract=off",
        "-fno-math-errno",
        "-shared",
        "-fPIC",
        "-s",
        "-Wall",
        "-Werror",
    ]
    subprocess.run(
        ["cc", *flags, *(f"-I{path}" for path in include), HERE / "calls.c", "-o", made], check=True
    )
    return made


def imported(path: str | pathlib.Path) -> Any:
    """The extension as a module."""
    spec = importlib.util.spec_from_file_location("calls", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def use(path: str) -> None:
    """Let anynet's plans be run by the extension."""
    from anynet_backends.jit import native_call, native_function

    addresses = imported(path).addresses()
    made = {}
    for name, flags in (("dispatch", 0x80), ("pullback", 0x08), ("primitive", 0x80)):
        definition = native_function.MethodDefinition(name.encode(), addresses[name], flags, None)
        made[name] = native_call._Function(definition, ctypes.addressof(definition))
    native_call._functions = lambda: made


# ----- one process -----


def steps_of(workload: str) -> Callable[[], Any]:
    """One training step in eager mode."""
    os.environ["ANYNET_BENCH_LIBRARY"] = "anynet"
    from ci.bench import library_anynet, running
    from ci.bench.workload import build as built
    from ci.bench.workload import find, load

    library_anynet.load_libraries()
    [chosen] = find(load([]), [workload], [])
    return running.training(built(chosen, chosen.batch), compiled=False)


def child(way: str, path: str) -> None:
    """Answers each line: a workload's name builds it, an empty one times it."""
    if way == "C":
        use(path)
    run, count = (lambda: None), 1
    for line in sys.stdin:
        if line.strip():
            run = steps_of(line.strip())
            for _ in range(60):  # operations become machine code at their 24th call
                run()
            began = time.process_time()
            for _ in range(20):
                run()
            count = max(1, round(SECONDS * 20 / (time.process_time() - began)))
            answer = float(run().item())
        else:
            began = time.process_time()
            for _ in range(count):
                run()
            answer = (time.process_time() - began) / count
        print(json.dumps(answer), flush=True)


# ----- side by side -----


class Process:
    """One way, in a process of its own."""

    def __init__(self, way: str, path: pathlib.Path) -> None:
        self.running = subprocess.Popen(
            [sys.executable, "-m", "ci.bench.extension", "child", way, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip

    def ask(self, line: str = "") -> float:
        assert self.running.stdin is not None
        assert self.running.stdout is not None
        self.running.stdin.write(line + "\n")
        self.running.stdin.flush()
        return float(json.loads(self.running.stdout.readline()))


def steps(path: pathlib.Path) -> list[str]:
    """A row for each workload."""
    processes = {way: Process(way, path) for way in WAYS}
    rows = []
    for workload in WORKLOADS:
        losses = {way: p.ask(workload) for way, p in processes.items()}
        if len(set(losses.values())) > 1:
            msg = f"{workload}: the ways do not compute the same: {losses}"
            raise AssertionError(msg)
        times = [{way: p.ask() for way, p in processes.items()} for _ in range(ROUNDS)]
        ratios = statistics.quantiles([t["LLVM"] / t["C"] for t in times], n=4)
        medians = {way: statistics.median(t[way] for t in times) * 1e6 for way in WAYS}
        rows.append(
            f"| {workload} | {medians['LLVM']:.1f} | {medians['C']:.1f} | {ratios[1]:.3f} [{ratios[0]:.3f}, {ratios[2]:.3f}] |"
        )
        print(rows[-1], flush=True)
    return rows


def one_call(path: pathlib.Path) -> list[str]:
    """Nanoseconds of one built-in function on a 3×4 array, in turns in one process."""
    from anynet_backends.jit import native_call, native_function
    from anynet_backends.jit.segment import KernelCall, LoopArgs
    from anynet_backends.jit.ufuncs import inner_loop

    x, y = np.ones((3, 4), np.float32), np.empty((3, 4), np.float32)
    found = inner_loop(np.negative, "f->f")
    assert found is not None
    call = KernelCall(found[0], LoopArgs((x, y), (12,), (4, 4)), found[1])
    plan = native_call.NativePlan([call], [x], [y], (1,))
    by_llvm = native_call.DispatchTable()
    by_llvm.add(plan)
    definition = native_function.MethodDefinition(
        b"dispatch", imported(path).addresses()["dispatch"], 0x80, None
    )
    in_c = native_function.native_function(ctypes.addressof(definition), (by_llvm.first, by_llvm.plans))
    rows = []
    for name, f in (("LLVM", by_llvm.call), ("C", in_c), ("`np.negative`", np.negative)):
        assert (f(x) == -1).all()
        best = []
        for _ in range(ROUNDS):
            began = time.process_time()
            for _ in range(100_000):
                f(x)
            best.append((time.process_time() - began) * 1e4)
        rows.append(f"| {name} | {statistics.median(best):.0f} |")
    return rows


def chain(path: pathlib.Path) -> list[str]:
    """x · min(max(x + 3, 0), 6) / 6 (hard swish) on a million numbers, in several ways, in microseconds."""
    import anynet as an

    calls = imported(path)
    x = np.random.default_rng(0).normal(size=1 << 20).astype(np.float32)
    y, given = np.empty_like(x), an.asarray(x)

    def by_numpy() -> Any:
        return x * np.minimum(np.maximum(x + np.float32(3), np.float32(0)), np.float32(6)) / np.float32(6)

    def fused() -> Any:
        return an.nn.functional.hardswish(given)

    ways = {
        "NumPy's calls, one after the other": by_numpy,
        "loops compiled beforehand, an operation each, over blocks of 4,096": lambda: calls.chain_in_blocks(
            x, y
        ),
        "one loop, compiled beforehand": lambda: calls.chain_in_one(x, y),
        "one loop, compiled by LLVM when it is needed (`hardswish`)": fused,
    }
    for f in ways.values():
        for _ in range(40):
            f()
    rows = []
    for name, f in ways.items():
        times = []
        for _ in range(ROUNDS * 3):
            began = time.process_time()
            f()
            times.append((time.process_time() - began) * 1e6)
        rows.append(f"| {name} | {statistics.median(times):.0f} |")
    return rows


def start(path: pathlib.Path) -> list[str]:
    """Milliseconds of processor time from the start of Python to the functions, caches warm."""
    begin = "import time, sys, numpy; began = time.process_time();"
    programs = {
        "LLVM: llvmlite imported, the functions from the cache on disk": (
            "from anynet_backends.jit import native_call; native_call._functions()"
        ),
        "C: the extension imported": (
            f"import ci.bench.extension.__main__ as m; began = time.process_time(); m.imported({str(path)!r})"
        ),
    }
    rows = []
    for name, program in programs.items():
        # the project's own modules are imported by both
        code = f"{begin} import anynet; began = time.process_time(); {program}; print((time.process_time() - began) * 1e3)"
        found = [
            float(
                subprocess.run(
                    [sys.executable, "-c", code], capture_output=True, text=True, check=True
                ).stdout
            )
            for _ in range(9)
        ]
        rows.append(f"| {name} | {statistics.median(found):.1f} |")
    return rows


def folder_size(name: str) -> float:
    """Megabytes of an installed package with the libraries beside it."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    place = pathlib.Path(spec.origin).parent
    beside = place.parent / f"{name}.libs"
    return (
        sum(
            f.stat().st_size
            for root in (place, beside)
            if root.exists()
            for f in root.rglob("*")
            if f.is_file()
        )
        / 1e6
    )


def lines(*files: pathlib.Path) -> int:
    """Lines that are neither empty nor comments."""
    return sum(
        1
        for f in files
        for line in f.read_text(encoding="utf-8").splitlines()
        if line.strip() and not line.strip().startswith((";", "#", "/*", "*"))
    )


def main() -> None:
    """Measure, and write EXTENSION.md."""
    with tempfile.TemporaryDirectory() as folder:
        path = build(pathlib.Path(folder))
        size = path.stat().st_size / 1e3
        found = {"steps": steps(path), "call": one_call(path), "chain": chain(path), "start": start(path)}
    sizes = {"llvmlite": folder_size("llvmlite"), "NumPy": folder_size("numpy")}
    replaced = lines(JIT / "native_call.ll", JIT / "structs.ll")
    texts = sorted(JIT.glob("*.ll"))
    table = {name: "\n".join(rows) for name, rows in found.items()}
    template = (HERE / "template.md").read_text(encoding="utf-8")
    text = template.format(
        **table, size=f"{size:.0f}", replaced=replaced, own=lines(HERE / "calls.c"), texts=lines(*texts), python=sys.version.split()[0],
        numpy=np.__version__, llvmlite=f"{sizes['llvmlite']:.0f}",
    )  # fmt: skip
    (HERE.parent / "EXTENSION.md").write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if sys.argv[1:2] == ["child"]:
        child(*sys.argv[2:])
    else:
        main()
