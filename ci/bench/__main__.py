"""``python -m ci.bench``: anynet, PyTorch and JAX side by side on whole training steps and inference.

python -m ci.bench                                   all workloads; ci/bench/results.json, RESULTS.md, speed.svg
python -m ci.bench --only ddpm --only unet           some of them; the others keep the results that are there
python -m ci.bench --group vision --rounds 5
python -m ci.bench --workload mine.py                a user's own (help(ci.bench.workload) says how it is written); prints only
python -m ci.bench --quick                           no times: two small steps of each in anynet and PyTorch, the losses compared
python -m ci.bench --write                           RESULTS.md and the picture again from results.json
"""

from __future__ import annotations

import argparse
import os
import sys

from ci.bench import agreement, report
from ci.bench.measure import measure
from ci.bench.worker import CONTENDERS
from ci.bench.workload import find, load


def jax_forms() -> set[str]:
    """The names of the workloads that are written in JAX, too; none where JAX is not installed."""
    try:
        from ci.bench.jax_forms import FORMS  # imports JAX
    except ImportError:
        return set()
    return set(FORMS)


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(
        prog="python -m ci.bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help="a workload by its name; several times"
    )
    parser.add_argument(
        "--group",
        action="append",
        default=[],
        metavar="GROUP",
        help="the workloads of a group; several times",
    )
    parser.add_argument(
        "--workload",
        action="append",
        default=[],
        metavar="FILE",
        help="a Python file with workloads; several times",
    )
    parser.add_argument("--list", action="store_true", help="the workloads there are")
    parser.add_argument("--quick", action="store_true", help="compare losses with PyTorch's, no times")
    parser.add_argument("--write", action="store_true", help="only write the tables and the picture again")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--inference", default="1,64", help="batch sizes; empty for none")
    parser.add_argument(
        "--contenders", default=",".join(CONTENDERS), help="comma-separated, of " + ", ".join(CONTENDERS)
    )
    given = parser.parse_args(arguments)
    names = given.contenders.split(",")
    for name in names:
        if name not in CONTENDERS:
            parser.error(f"--contenders: unknown {name!r}; there are {', '.join(CONTENDERS)}")
    if given.rounds < 1 or given.threads < 1:
        parser.error(f"--rounds and --threads must be at least 1, got {given.rounds} and {given.threads}")
    if given.write:
        report.write()
        return 0
    try:
        sizes = tuple(int(size) for size in given.inference.split(",") if size)
        chosen = find(load(given.workload), given.only, given.group)
    except (ValueError, TypeError, FileNotFoundError) as error:
        parser.error(str(error))
    if given.list:
        print("\n".join(f"{w.group:14} {w.name:26} {w.title}" for w in chosen))
        return 0
    if given.quick:
        return agreement.main([w.name for w in chosen], given.workload)
    forms = jax_forms() if "jax" in names and not given.workload else set()
    for w in chosen:
        own = [n for n in names if n != "torch channels-last" or w.images]
        own = [n for n in own if n != "jax" or w.name in forms]
        result = measure(w, own, given.threads, given.rounds, sizes, files=given.workload)
        print(report.lines(w.name, result), flush=True)
        if not given.workload:
            report.keep(w.name, result)
    if not given.workload:
        report.write()
    return 0


if __name__ == "__main__":
    sys.exit(main())
