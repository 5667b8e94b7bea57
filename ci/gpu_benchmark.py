"""Whole training steps on a GPU, anynet beside PyTorch, eager and as captured graphs: a table in Markdown, for ci/gpu.sh.

    python -m ci.gpu_benchmark [--device cuda] [--rounds 7]
    python -m ci.gpu_benchmark --small           tiny networks, one round: that it runs to its end, in an emulator, too

Each contender is a process of its own with the same weights; they take turns in rounds, and a ratio is that of two times of one round. The
share is of the time that the step's operations (in float32) or bytes (each operation's reads and writes) take at least on this
device, whichever is longer. Exit code 1 where the losses of the first steps are apart, or anynet could not run.
"""

from __future__ import annotations

import argparse
import importlib
import pathlib
import statistics
import sys
import tempfile
from importlib.util import find_spec
from typing import Any

from ci.bench.contender import Contender, Failed
from ci.bench.measure import race
from ci.cuda_emulator import log

WORKLOADS = pathlib.Path(__file__).with_name("gpu_workloads.py")
NAMES = ("gpu-mlp", "gpu-resnet18", "gpu-lstm", "gpu-gpt")
OURS, THEIRS = ("anynet", "anynet compiled"), ("torch", "torch reduce-overhead")
STEPS, APART = 3, 1e-3


def peaks(device: str) -> tuple[float, float] | None:
    """Operations in float32 and bytes a second that the device can reach; None where it does not say."""
    if not device.startswith("cuda") or log.present():
        return None
    cupy = importlib.import_module("cupy")
    about = cupy.cuda.Device(int(device.partition(":")[2] or 0)).attributes
    try:
        cores, clock = about["MultiProcessorCount"] * 128, about["ClockRate"] * 1e3
        moved = about["MemoryClockRate"] * 1e3 * about["GlobalMemoryBusWidth"] / 8
    except KeyError:
        return None
    return (2.0 * cores * clock, 2.0 * moved) if clock and moved else None


def build(name: str, contender: Contender, path: str, small: bool) -> dict[str, Any]:
    """Have the workload built with the weights of a file; the losses of its first steps."""
    order = {"workload": name, "files": [str(WORKLOADS)], "with": {"small": True} if small else {}}
    contender.ask("build", what="training", **order, batch=4 if small else 0, path=path)
    return contender.ask("first", n=40, losses=STEPS, limit=60.0)


def measure(name: str, device: str, rounds: int, small: bool) -> tuple[list[str], bool]:
    """Rows of the table, and whether all agree."""
    threads, field, rows, good = 4, {}, [], True
    with tempfile.TemporaryDirectory(prefix="anynet-gpu-") as folder:
        path = f"{folder}/state.npz"
        describer = Contender("anynet", threads)
        try:
            describer.ask(
                "describe", workload=name, files=[str(WORKLOADS)], batch=4 if small else 0,
                path=path, **{"with": {"small": True} if small else {}},
            )  # fmt: skip
        finally:
            describer.close()
        losses: dict[str, list[float]] = {}
        told: dict[str, dict[str, Any]] = {}
        for contender in (*OURS, *(THEIRS if find_spec("torch") else ())):
            made = None
            try:
                made = Contender(contender, threads, device)
                losses[contender] = build(name, made, path, small)["losses"]
                field[contender] = made
            except Failed as error:
                rows.append(f"| {name[4:]} | {contender} | could not run: {str(error)[:150]} | | | | |")
                good = good and contender != "anynet"
                if made is not None:
                    made.close()
        try:
            for contender, made in field.items():
                try:
                    told[contender] = made.ask("launches")
                except Failed:  # nothing that counts them is installed
                    told[contender] = {"launches": "", "copies": ""}
            work = field["anynet"].ask("work") if "anynet" in field else None
            times = race(field, rounds)
        finally:
            for made in field.values():
                made.close()
    can = peaks(device)
    floor = max(work["flops"] / can[0], work["bytes"] / can[1]) if work and can else None
    for contender, found in times.items():
        theirs = times.get("torch")
        ratio = statistics.median(b / a for a, b in zip(found, theirs, strict=True)) if theirs else None
        seconds = statistics.median(found)
        apart = max(abs(a / b - 1) for a, b in zip(losses[contender], losses["anynet"], strict=False))
        good = good and apart <= APART
        rows.append(
            f"| {name[4:]} | {contender} | {1e3 * seconds:.3f} | {f'{ratio:.2f}' if ratio else ''} | "
            f"{told[contender]['launches']} | {f'{floor / seconds:.0%}' if floor else ''} | {apart:.0e} |"
        )
    return rows, good


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--small", action="store_true")
    given = parser.parse_args()
    print("| network | | ms a step | torch / this | launches | of the floor | loss apart |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    good = True
    for name in NAMES:
        rows, agree = measure(name, given.device, 1 if given.small else given.rounds, given.small)
        good = good and agree
        print("\n".join(rows), flush=True)
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
