"""What was measured: kept in results.json, written as RESULTS.md and speed.svg.

A ratio is another library's time over anynet's in the same round: above 1 anynet is faster. Medians over rounds with their quartiles;
over workloads, medians of those medians.
"""

from __future__ import annotations

import json
import math
import os
import pathlib
import platform
import re
import statistics
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from ci.bench.workload import GROUPS

__all__ = ["keep", "lines", "machine", "put_section", "recorded", "summary", "write"]

HERE = pathlib.Path(__file__).resolve().parent
KEPT, RESULTS, PICTURE = HERE / "results.json", HERE / "RESULTS.md", HERE / "speed.svg"
Times = dict[str, list[float]]
EAGER, COMPILED, ALONE, MEMORY = (
    "eager / torch eager",
    "compiled / the fastest other",
    "NumPy alone / torch eager",
    "torch's memory / eager",
)
GOALS = {EAGER: 1.0, COMPILED: 1.1, ALONE: 0.6, MEMORY: 1.0}
"""What each workload should reach."""


def recorded() -> dict[str, Any]:
    """All results by the name of the workload."""
    return json.loads(KEPT.read_text(encoding="utf-8")) if KEPT.exists() else {}  # type: ignore[no-any-return]


def keep(name: str, result: dict[str, Any]) -> None:
    """Put one result among those that are there."""
    text = json.dumps(recorded() | {name: result}, separators=(",", ":"), ensure_ascii=False)
    text = re.sub(r"\d+\.\d+(e-?\d+)?", lambda m: f"{float(m[0]):.4g}", text)
    KEPT.write_text(text.replace('},"', '},\n"') + "\n", encoding="utf-8")


# ----- figures -----


def quartiles(values: list[float]) -> tuple[float, float, float]:
    """The lower quartile, the median and the upper quartile."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, middle, high


def ratios(times: Times, ours: str, theirs: str) -> list[float]:
    """How many times faster `ours` is, in each round; none where one of them was not measured."""
    if ours not in times or theirs not in times:
        return []
    return [b / a for a, b in zip(times[ours], times[theirs], strict=True)]


def fastest(times: Times) -> str:
    """The fastest of the others in their default layouts."""
    others = [n for n in times if n.startswith(("torch", "jax")) and n != "torch channels-last"]
    return min(others, key=lambda n: statistics.median(times[n]), default="")


def figures(result: dict[str, Any]) -> dict[str, float]:
    """The ratios that a workload is judged by; what was not measured is left out."""
    times, first = result["training"], result["first"]
    found = {
        EAGER: ratios(times, "anynet", "torch"),
        COMPILED: ratios(times, "anynet compiled", fastest(times)),
        ALONE: ratios(times, "anynet alone", "torch"),
    }
    known = {name: statistics.median(values) for name, values in found.items() if values}
    if "anynet" in first and "torch" in first:
        known[MEMORY] = max(first["torch"]["memory"], 1.0) / max(first["anynet"]["memory"], 1.0)
    return known


def paid_back(result: dict[str, Any], ours: str) -> float:
    """After how many steps what the first ones took longer is gained against PyTorch eager; infinity where it never is."""
    first, times = result["first"].get(ours), result["training"]
    if first is None or "torch" not in times or ours not in times:
        return math.nan
    steady = statistics.median(times[ours])
    theirs = result["first"]["torch"]
    start = sum(first["times"]) - len(first["times"]) * steady
    start -= sum(theirs["times"]) - len(theirs["times"]) * statistics.median(times["torch"])
    gain = statistics.median(times["torch"]) - steady
    if start <= 0:
        return 0.0
    return start / gain if gain > 0 else math.inf


def disagreement(result: dict[str, Any]) -> float:
    """How far the first losses are apart, relative to PyTorch's."""
    losses = {name: first["losses"][0] for name, first in result["first"].items()}
    reference = losses.get("torch", next(iter(losses.values())))
    return max(abs(loss - reference) / max(abs(reference), 1e-3) for loss in losses.values())


# ----- as text -----


def shown(seconds: float) -> str:
    """A time in the unit that suits it."""
    return (
        f"{seconds * 1e6:.1f} µs"
        if seconds < 1e-3
        else f"{seconds * 1e3:.2f} ms"
        if seconds < 1
        else f"{seconds:.2f} s"
    )


def spread(values: list[float]) -> str:
    """Median [quartiles]."""
    if not values:
        return "–"
    low, middle, high = quartiles(values)
    return f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """Markdown."""
    return [
        "| " + " | ".join(head) + " |", "| --- |" + " --- |" * (len(head) - 1), *("| " + " | ".join(row) + " |" for row in rows)
    ]  # fmt: skip


def lines(name: str, result: dict[str, Any]) -> str:
    """What the command prints of one workload."""
    found = [f"{name}: {result['title']}, batch {result['batch']}"]
    kinds = [
        ("training", result["training"]),
        *((f"inference, batch {b}", t) for b, t in result["inference"].items()),
    ]
    for what, times in kinds:
        best = fastest(times)
        found.append(
            "    " + what + ": " + ", ".join(f"{n} {shown(statistics.median(t))}" for n, t in times.items())
        )
        found.append(
            f"        eager / torch {spread(ratios(times, 'anynet', 'torch'))}, compiled / {best or 'the others'} "
            f"{spread(ratios(times, 'anynet compiled', best))}, NumPy alone / torch {spread(ratios(times, 'anynet alone', 'torch'))}"
        )
    first = result["first"]
    found.append("    first step: " + ", ".join(f"{n} {shown(f['times'][0])}" for n, f in first.items()))
    found.append("    memory, MB: " + ", ".join(f"{n} {f['memory']:.0f}" for n, f in first.items()))
    apart = disagreement(result)
    found.append(
        f"    first losses {apart:.0e} apart" + (": THEY DO NOT COMPUTE THE SAME" if apart > 1e-3 else "")
    )
    return "\n".join(found)


def machine(results: dict[str, Any]) -> str:
    """What it ran on, and under which load."""
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
    threads = sorted({r["threads"] for r in results.values()})
    loads = sorted(r["load"] for r in results.values())
    dates = sorted({r["date"] for r in results.values()})
    clock = "time that the process itself has spent" if threads == [1] else "time that passed"
    return (
        f"{model}, {os.cpu_count()} cores, {' or '.join(map(str, threads))} thread{'s' if threads != [1] else ''} each ({clock}); Python "
        f"{platform.python_version()}, {', '.join(found)}; {dates[0]}{' to ' + dates[-1] if len(dates) > 1 else ''}. Other processes at "
        f"work meanwhile: load {loads[0]:.0f} to {loads[-1]:.0f}, median {statistics.median(loads):.0f}."
    )


def _ordered(results: dict[str, Any]) -> list[tuple[str, list[dict[str, Any]]]]:
    groups = [*GROUPS, *sorted({r["group"] for r in results.values()} - set(GROUPS))]
    found = [(g, [r for r in results.values() if r["group"] == g]) for g in groups]
    return [(g, rows) for g, rows in found if rows]


def summary(results: dict[str, Any]) -> list[list[str]]:
    """A row for each group and one for all: how many workloads, and of each figure the median and the least."""
    rows = []
    for group, members in [*_ordered(results), ("all", list(results.values()))]:
        row = [group, str(len(members))]
        for name in GOALS:
            values = [f[name] for f in map(figures, members) if name in f]
            row.append(f"{statistics.median(values):.2f} (least {min(values):.2f})" if values else "–")
        rows.append(row)
    return rows


SUMMARY = ["group", "workloads", EAGER, COMPILED, ALONE, MEMORY]


def _behind(results: dict[str, Any]) -> list[list[str]]:
    rows = []
    for r in results.values():
        f = figures(r)
        short = [name for name, goal in GOALS.items() if name in f and f[name] < goal]
        if short:
            rows.append(
                [
                    r["title"],
                    *(f"**{f[n]:.2f}**" if n in short else f"{f[n]:.2f}" if n in f else "–" for n in GOALS),
                ]
            )
    return rows


def _training(results: dict[str, Any]) -> list[str]:
    names = list(
        dict.fromkeys(n for r in results.values() for n in r["training"] if n != "torch channels-last")
    )
    out = []
    for group, members in _ordered(results):
        rows = []
        for r in members:
            times = r["training"]
            best = fastest(times)
            row = [
                f"{r['title']}, batch {r['batch']}",
                *(shown(statistics.median(times[n])) if n in times else "–" for n in names),
            ]
            row += [
                spread(ratios(times, "anynet", "torch")),
                f"{spread(ratios(times, 'anynet compiled', best))} {best}",
            ]
            note = spread(ratios(times, "anynet compiled", "torch channels-last"))
            rows.append([*row, spread(ratios(times, "anynet alone", "torch")), note])
        out += [
            f"### {group.capitalize()}",
            "",
            *table(["workload", *names, EAGER, COMPILED, ALONE, "compiled / torch channels-last"], rows),
            "",
        ]
    return out


def _inference(results: dict[str, Any]) -> list[str]:
    sizes = list(dict.fromkeys(b for r in results.values() for b in r["inference"]))
    rows = []
    for r in results.values():
        if r["inference"]:
            row = [r["title"]]
            for size in sizes:
                times = r["inference"].get(size, {})
                row += [
                    shown(statistics.median(times[n])) if n in times else "–"
                    for n in ("anynet", "anynet compiled", "torch")
                ]
                row += [
                    spread(ratios(times, "anynet", "torch")),
                    spread(ratios(times, "anynet compiled", fastest(times))),
                ]
            rows.append(row)
    if not rows:
        return []
    head = ["workload"]
    for size in sizes:
        head += [f"batch {size}: anynet", "compiled", "torch", EAGER, COMPILED]
    return ["## Inference", "", *table(head, rows), ""]


def _first_steps(results: dict[str, Any]) -> list[str]:
    rows = []
    for r in results.values():
        first = r["first"]
        names = ("anynet", "anynet compiled", "torch", "torch compiled", "jax")
        back = (paid_back(r, n) for n in ("anynet", "anynet compiled"))
        after = ["–" if math.isnan(n) else "never" if math.isinf(n) else f"{n:.0f}" for n in back]
        rows.append(
            [r["title"], *(shown(first[n]["times"][0]) if n in first else "–" for n in names), *after]
        )
    head = [
        "first step",
        "anynet",
        "anynet compiled",
        "torch",
        "torch compiled",
        "jax",
        "paid back, eager",
        "compiled",
    ]
    return [
        "## First steps", "",
        "With cold caches. What recording and compiling take in the first steps, less what PyTorch's own first steps take,",
        "is gained against PyTorch's eager steps after so many steps.", "", *table(head, rows), "",
    ]  # fmt: skip


def _memory(results: dict[str, Any]) -> list[str]:
    names = list(
        dict.fromkeys(
            n
            for r in results.values()
            for n in r["first"]
            if n not in ("torch channels-last", "torch compiled")
        )
    )
    rows = [
        [r["title"], *(f"{r['first'][n]['memory']:.0f}" if n in r["first"] else "–" for n in names)]
        for r in results.values()
    ]
    return [
        "## Peak memory of ten steps, MB beyond the imports", "",
        "LLVM and oneDNN are counted with anynet's imports, as torch's and JAX's compilers and kernels are with theirs.", "",
        *table(["workload", *names], rows), "",
    ]  # fmt: skip


def put_section(title: str, lines: list[str]) -> None:
    """Put a section of another command into RESULTS.md, in place of the one with that title."""
    text = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    parts = [part.rstrip() for part in re.split(r"(?m)^(?=## )", text) if part.strip()]
    new = "\n".join([title, "", *lines])
    at = next((i for i, part in enumerate(parts) if part.splitlines()[0] == title), len(parts))
    parts[at : at + 1] = [new]
    RESULTS.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _kept_sections(text: str) -> list[str]:
    """The sections that other commands write."""
    return [
        part.rstrip()
        for part in re.split(r"(?m)^(?=## )", text)
        if part.startswith(("## Single layers", "## Growth", "## Imports"))
    ]


def _failures(results: dict[str, Any]) -> list[str]:
    rows = [
        [r["title"], name, error.replace("|", "/")]
        for r in results.values()
        for name, error in r["failed"].items()
    ]
    return (
        ["## What a library could not run", "", *table(["workload", "library", "what it said"], rows), ""]
        if rows
        else []
    )


def document(results: dict[str, Any], before: str) -> str:
    """RESULTS.md."""
    behind = _behind(results)
    parts = [
        "# Speed on the CPU", "", machine(results), "",
        "Written by `python -m ci.bench`. Ratios are the other's time over anynet's in the same round, median [quartiles]: above",
        '1 anynet is faster. "anynet" has the extras `onednn` and `numba`, "anynet alone" NumPy only. A step is forward, loss,',
        'backward and update. "torch compiled" is `torch.compile` of the forward pass and the loss with a fused optimizer;',
        '"jax" is the whole step under `jit`, where there is a form of it. All begin with the same weights; in double precision the losses',
        "of the first two steps agree with PyTorch's to ten digits (`python -m ci.bench --quick`). How to measure a network of your own:",
        "`python -m ci.bench --workload mine.py`, written as [`workload.py`](workload.py) says.", "",
        "## Training: medians over all workloads", "", *table(SUMMARY, summary(results)), "", "![ratios of all workloads](speed.svg)", "",
        "## Behind", "", "Each should reach " + ", ".join(f"{goal} of {name}" for name, goal in GOALS.items()) + ".", "",
        *(table(["workload", *GOALS], behind) if behind else ["None."]), "",
        "Floors by operations and bytes, what the time goes into, and what was tried: [FLOORS.md](FLOORS.md).", "",
        "## Training steps", "", *_training(results), *_inference(results), *_first_steps(results), *_memory(results), *_failures(results),
        *(line for part in _kept_sections(before) for line in (part, "")),
    ]  # fmt: skip
    return "\n".join(parts).rstrip() + "\n"


def write() -> None:
    """RESULTS.md and the picture, from results.json."""
    from ci.bench.picture import draw  # anynet's own drawing, which --help does without

    results = recorded()
    if not results:
        raise SystemExit("there are no results yet: python -m ci.bench measures")
    before = RESULTS.read_text(encoding="utf-8") if RESULTS.exists() else ""
    RESULTS.write_text(document(results, before), encoding="utf-8")
    PICTURE.write_text(
        draw([(g, [(r["title"], figures(r)) for r in rows]) for g, rows in _ordered(results)]),
        encoding="utf-8",
    )
