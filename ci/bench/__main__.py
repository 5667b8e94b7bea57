"""``python -m ci.bench``: anynet, PyTorch and JAX side by side.

Each contender runs in a process of its own, so that their thread pools do not meet; within a round each makes some
steps in turn, and a ratio is that of two times of the same round. What is printed are medians, with the quartiles of the
ratios. ``--quick`` takes two minutes; without it all workloads run and the table goes to ci/bench/RESULTS.md.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ci.bench import functions
from ci.bench.worker import CONTENDERS
from ci.bench.workloads import CONVOLUTIONS, QUICK, WORKLOADS

HERE = pathlib.Path(__file__).resolve().parent
ROUND = 0.15  # seconds that a contender works in one round, at least one step

# Settings that make a library take other kernels than it would choose for this processor.
OVERRIDES = {"OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "MKL_ENABLE_INSTRUCTIONS", "ATEN_CPU_CAPABILITY"}
PAUSE = 0.1  # seconds between contenders: the last one's threads spin for a while before they sleep


class Contender:
    """A worker process."""

    def __init__(self, name: str, threads: int) -> None:
        self.name = name
        count = str(threads)
        environment = {k: v for k, v in os.environ.items() if k not in OVERRIDES} | {
            "OMP_NUM_THREADS": count, "OPENBLAS_NUM_THREADS": count, "MKL_NUM_THREADS": count,
            "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3",
            "PYTHONPATH": os.pathsep.join((str(HERE.parents[1]), str(HERE.parents[1] / "backends"))),
        }  # fmt: skip
        if name.startswith("anynet alone"):
            environment |= {"ANYNET_ONEDNN": "off", "ANYNET_NUMBA": "off"}
        if threads == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false"
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", "ci.bench.worker", name, count],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
            cwd=HERE.parents[1],
        )  # fmt: skip
        self.first = self._reply()

    def _reply(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            raise RuntimeError(self.process.stderr.read()[-1500:])
        return json.loads(line)  # type: ignore[no-any-return]

    def ask(self, **order: Any) -> dict[str, Any]:
        """One request and its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(order) + "\n")
        self.process.stdin.flush()
        return self._reply()

    def close(self) -> None:
        """End the process."""
        self.process.terminate()
        self.process.wait()


def race(names: list[str], threads: int, rounds: int, **what: Any) -> dict[str, list[float]]:
    """Seconds a step of each contender, one number a round."""
    found: dict[str, Contender] = {}
    counts: dict[str, int] = {}
    try:
        for name in names:
            try:
                contender = Contender(name, threads)
                contender.ask(do="build", **what)
            except RuntimeError as error:
                print(f"    {name}: {str(error).strip().splitlines()[-1]}", file=sys.stderr)
                continue
            found[name] = contender
            counts[name] = max(1, int(ROUND / contender.ask(do="run", n=2)["seconds"]))
        times: dict[str, list[float]] = {name: [] for name in found}
        for _ in range(rounds):
            for name, contender in found.items():
                time.sleep(PAUSE)
                times[name].append(contender.ask(do="run", n=counts[name])["seconds"])
        return times
    finally:
        for contender in found.values():
            contender.close()


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratio(times: dict[str, list[float]], ours: str, theirs: str) -> str:
    """How many times faster `ours` is: median [quartiles]."""
    if ours not in times or theirs not in times:
        return "–"
    low, middle, high = quartiles([b / a for a, b in zip(times[ours], times[theirs], strict=True)])
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def shown(seconds: float) -> str:
    """A time in the unit that suits it."""
    return f"{seconds * 1e6:.1f} µs" if seconds < 1e-3 else f"{seconds * 1e3:.2f} ms"


def fastest(times: dict[str, list[float]]) -> str:
    """The fastest of the others in their default layouts."""
    others = [n for n in times if n.startswith(("torch", "jax")) and n != "torch channels-last"]
    return min(others, key=lambda n: statistics.median(times[n]), default="")


def steps(names: list[str], threads: int, rounds: int, workloads: list[str], what: str) -> list[str]:
    """The table of whole steps or of inference."""
    columns = [n for n in names if n != "torch channels-last"]
    lines = [
        "| workload | " + " | ".join(columns) + " | eager / torch eager | compiled / the fastest other | |",
        "| --- |" + " --- |" * (len(columns) + 3),
    ]
    for key in workloads:
        own = list(names) if WORKLOADS[key].model in ("lenet", "resnet") and what == "training" else columns
        times = race(own, threads, rounds, what=what, workload=key)
        best = fastest(times)
        row = [shown(statistics.median(times[n])) if n in times else "–" for n in columns]
        note = f"fastest: {best}"
        if "anynet alone" in times:
            note += f"; NumPy alone: {ratio(times, 'anynet alone', 'torch')}, compiled {ratio(times, 'anynet alone compiled', best)}"
        if "torch channels-last" in times:
            note += f"; torch channels-last {shown(statistics.median(times['torch channels-last']))}, compiled / it "
            note += ratio(times, "anynet compiled", "torch channels-last")
        lines.append(
            f"| {WORKLOADS[key].title} | {' | '.join(row)} | {ratio(times, 'anynet', 'torch')} | "
            f"{ratio(times, 'anynet compiled', best)} | {note} |"
        )
        print(lines[-1], flush=True)
    return lines


def convolutions(threads: int, rounds: int) -> list[str]:
    """The table of convolutions: forward and the three gradients."""
    lines = [
        "| convolution, forward and gradients | anynet | torch | torch channels-last | anynet / torch | / channels-last |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for key in CONVOLUTIONS:
        times = race(
            ["anynet", "torch", "torch channels-last"], threads, rounds, what="convolution", workload=key
        )
        row = " | ".join(shown(statistics.median(times[n])) for n in times)
        lines.append(
            f"| {key} | {row} | {ratio(times, 'anynet', 'torch')} | {ratio(times, 'anynet', 'torch channels-last')} |"
        )
        print(lines[-1], flush=True)
    return lines


def memory(names: list[str], threads: int, workloads: list[str]) -> list[str]:
    """The table of the largest resident sets: what ten steps add to the process after its imports."""
    names = [n for n in names if n not in ("torch channels-last", "torch compiled")]
    lines = [
        "| workload | " + " | ".join(names) + " | whole process |",
        "| --- |" + " --- |" * (len(names) + 1),
    ]
    for key in workloads:
        row = []
        whole = []
        for name in names:
            try:
                contender = Contender(name, threads)
                contender.ask(do="build", what="training", workload=key)
                after = contender.ask(do="run", n=10)["memory"]
                row.append(f"{after - contender.first['memory']:.0f}")
                if name in ("anynet compiled", "torch"):
                    whole.append(f"{after:.0f}")
                contender.close()
            except RuntimeError:
                row.append("–")
        lines.append(f"| {WORKLOADS[key].title} | {' | '.join(row)} | {', '.join(whole)} |")
        print(lines[-1], flush=True)
    return lines


GROWTH = (
    ("digits-mlp", "batch", (16, 64, 256, 1024)), ("lenet", "batch", (16, 64, 256)), ("gpt", "batch", (2, 8, 32)),
    ("digits-mlp", "depth", (2, 8, 32)), ("gpt", "depth", (1, 4, 8)), ("lstm", "length", (10, 50, 200)),
    ("gpt", "length", (32, 128, 512)),
)  # fmt: skip


def growth(threads: int, rounds: int) -> list[str]:
    """How time and memory of a step grow with the batch, the number of layers and the length of sequences."""
    lines = [
        "| workload | | anynet | anynet compiled | torch | anynet / torch | compiled / torch | anynet MB | compiled MB | torch MB |",
        "| --- | --- |" + " --- |" * 8,
    ]
    names = ["anynet", "anynet compiled", "torch"]
    for key, what, sizes in GROWTH:
        for size in sizes:
            order = {"what": "training", "workload": key, what: size}
            times = race(names, threads, rounds, **order)
            used = []
            for name in names:
                contender = Contender(name, threads)
                contender.ask(do="build", **order)
                used.append(f"{contender.ask(do='run', n=5)['memory'] - contender.first['memory']:.0f}")
                contender.close()
            row = " | ".join(shown(statistics.median(times[n])) for n in times)
            ratios = f"{ratio(times, 'anynet', 'torch')} | {ratio(times, 'anynet compiled', 'torch')}"
            lines.append(f"| {key} | {what} {size} | {row} | {ratios} | {' | '.join(used)} |")
            print(lines[-1], flush=True)
    return lines


def imports() -> list[str]:
    """The time of the import of each library in a new process with its bytecode cached, median of five after one."""
    lines = ["| import | seconds |", "| --- | --- |"]
    for library in ("numpy", "anynet", "torch", "jax"):
        taken = []
        for _ in range(6):
            code = f"import time; t = time.perf_counter(); import {library}; print(time.perf_counter() - t)"
            environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | {
                "PYTHONPATH": os.pathsep.join((str(HERE.parents[1]), str(HERE.parents[1] / "backends")))
            }
            done = subprocess.run(
                [sys.executable, "-c", code], capture_output=True, text=True, env=environment
            )
            if done.returncode == 0:
                taken.append(float(done.stdout))
        taken = taken[1:]
        lines.append(f"| {library} | {statistics.median(taken):.3f} |" if taken else f"| {library} | – |")
    return lines


def machine(threads: int) -> str:
    """What it ran on."""
    model = platform.processor() or platform.machine()
    info = pathlib.Path("/proc/cpuinfo")
    if info.exists():
        model = next(
            (line.split(":")[1].strip() for line in info.read_text().splitlines() if "model name" in line),
            model,
        )
    found = []
    for package in ("numpy", "onednn-cpu-gomp", "llvmlite", "torch", "jax"):
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"no {package}")
    return (
        f"{model}, {os.cpu_count()} cores, {threads} threads each; Python {platform.python_version()}, "
        f"{', '.join(found)}; {time.strftime('%Y-%m-%d')}."
    )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m ci.bench", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("workloads", nargs="*", help=f"of {', '.join(WORKLOADS)}; all of them unless given")
    parser.add_argument(
        "--quick", action="store_true", help="fewer workloads and rounds, two minutes, no file"
    )
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=0)
    parser.add_argument("--contenders", default=",".join(CONTENDERS), help="comma-separated names")
    options = parser.parse_args()
    names = options.contenders.split(",")
    for name, known in [*((n, CONTENDERS) for n in names), *((w, WORKLOADS) for w in options.workloads)]:
        if name not in known:
            parser.error(f"unknown {name!r}; known: {', '.join(known)}")
    rounds = options.rounds or (5 if options.quick else 15)
    chosen = options.workloads or list(QUICK if options.quick else WORKLOADS)
    if options.quick:
        # compiling with torch alone takes longer than two minutes
        names = [n for n in names if n not in ("torch compiled", "anynet alone", "anynet alone compiled")]
    intro = [
        "# Speed on the CPU",
        "",
        machine(options.threads),
        "",
        "Written by `python -m ci.bench`. Ratios are the other's time over anynet's in the same round, median [quartiles]: above",
        "1 anynet is faster. \"anynet\" has the extras `onednn` and `numba`, \"anynet alone\" NumPy only. A step is forward, loss,",
        "backward and update. \"torch compiled\" is `torch.compile` of the forward pass and the loss with a fused optimizer;",
        "\"jax\" is the whole step under `jit`.",
    ]  # fmt: skip
    print("\n".join(intro), flush=True)
    parts = [*intro, "", "## Training steps", "", *steps(names, options.threads, rounds, chosen, "training")]
    if not options.quick and not options.workloads:
        small = ["tiny-mlp", "digits-mlp", "mnist-mlp", "lenet", "resnet-32", "lstm", "gpt"]
        parts += ["", "## Inference, batch 1", "", *steps(names, options.threads, rounds, small, "inference")]
        parts += ["", "## Convolution layers", "", *convolutions(options.threads, rounds)]
        parts += [
            "",
            "## Peak memory of ten steps, MB beyond the imports",
            "",
            "LLVM and oneDNN are counted with anynet's imports, as torch's and JAX's compilers and kernels are with theirs.",
            "The last column is the largest resident set of the whole process, anynet compiled and torch.",
            "",
            *memory(names, options.threads, chosen),
        ]
        parts += ["", "## Growth with batch, depth and length", "", *growth(options.threads, 5)]
        parts += ["", "## Imports", "", *imports()]
        parts += ["", *functions.section()]
        (HERE / "RESULTS.md").write_text("\n".join(parts) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
