"""Runs the examples, each in a process of its own, and writes what they reached into RESULTS.md.

python -m examples.run_all                       the full forms, one after the other: RESULTS.md, results.json, docs/gallery/*.svg
python -m examples.run_all --only lenet5 digits  some of them; what the others reached before stays
python -m examples.run_all --quick --jobs 2      the quick forms, as CI does: nothing of that is written
"""

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from xml.etree import ElementTree

from anynet.gallery.example import UNAVAILABLE
from anynet.gallery.listing import entries, find

HERE = Path(__file__).parent
RECORDS, RESULTS, PICTURES = HERE / "results.json", HERE / "RESULTS.md", HERE.parent / "docs" / "gallery"
OPEN = json.loads(
    (HERE / "open.json").read_text(encoding="utf-8")
)  # rows of the table that no example has, and what was tried

HEAD = """# What the examples reach

Written by `python -m examples.run_all`: the full form of each, with seed 0; the seconds are of one run with one thread on a machine of
2 cores that others used too, so those of the processor are beside them. What is to be reached has its tolerance
in it; beside it what was measured or published before.
"""

CHANGED = """## Changed after a first result

What was changed once a figure had been seen, and what it had been; a figure that was reached only then says so.
"""


def run(entry, options, out):
    """Runs one example; its exit code, seconds and output."""
    command = [sys.executable, str(entry.path), "--out", str(out), "--seed", str(options.seed)]
    command += ["--quick"] if options.quick else []
    command += ["--device", options.device] if options.device else []
    environment = (
        {"PYTHONPATH": str(HERE.parent), **os.environ} if (HERE.parent / "anynet").is_dir() else os.environ
    )
    start = time.perf_counter()
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=options.timeout,
            env={**environment, "PYTHONIOENCODING": "utf-8"},
        )
    except subprocess.TimeoutExpired:
        return -1, time.perf_counter() - start, f"stopped after {options.timeout} s"
    seconds = time.perf_counter() - start
    said = (done.stdout if done.returncode == 0 else done.stdout + done.stderr).strip()
    for picture in out.glob("*.svg") if done.returncode == 0 else ():
        try:
            ElementTree.parse(picture)
        except ElementTree.ParseError as error:
            return 1, seconds, f"{said}\n{picture.name} is no valid SVG: {error}"
    return done.returncode, seconds, said


def row(name, *cells):
    """A row of the table."""
    written = [f"[{name}]({name}.py)", *(str(cell).replace("|", "\\|") for cell in cells)]
    return "| " + " | ".join(written) + " |"


def with_words(entry, record):
    """The record with what the example's file says today about each figure; its numbers and what was to be reached stay."""
    declared = {f.name: f for f in importlib.import_module(f"examples.{entry.name}").main.figures}
    texts = ("source", "tried", "changed")
    figures = [
        f | {text: getattr(declared.get(f["name"]), text, f.get(text, "")) for text in texts}
        for f in record["figures"]
    ]
    return record | {"figures": figures}


def table(records, known):
    """RESULTS.md: a row for each figure, then the rows that are open."""
    records = {entry.name: with_words(entry, records[entry.name]) for entry in known if entry.name in records}
    rows = [
        "| example | figure | to reach | known before | reached | seconds | of CPU | |",
        "| --- " * 8 + "|",
    ]
    notes, changes, counted = [], [], {True: 0, False: 0, None: 0}
    words = {True: "reached", False: "**not reached**", None: "told"}
    for entry in known:
        record = records.get(entry.name)
        if record is None:
            rows.append(row(entry.name, entry.about, "", "", "", "", "", "not run yet"))
            continue
        for f in record["figures"]:
            counted[f["reached"]] += 1
            times = record["seconds"], record["cpu_seconds"]
            rows.append(
                row(
                    entry.name,
                    f["name"],
                    f["to_reach"],
                    f["source"],
                    f["written"],
                    *times,
                    words[f["reached"]],
                )
            )
            if f["reached"] is False:
                notes.append(
                    f"* **{entry.name}, {f['name']}**: {' '.join(f['tried'].split()) or 'nothing else was tried'}"
                )
            if f["changed"]:
                changes.append(f"* **{entry.name}, {f['name']}**: {' '.join(f['changed'].split())}")
    notes += [f"* **{name}**: {tried}" for name, tried in OPEN.items()]
    said = f"{counted[True]} figures reached, {counted[False]} not reached, {counted[None]} told without one to reach."
    return "\n".join([HEAD, said, "", *rows, "", "## Open", "", *notes, "", CHANGED, *changes, ""])


def recorded():
    """The records that are kept."""
    return json.loads(RECORDS.read_text(encoding="utf-8")) if RECORDS.exists() else {}


def keep(name, out):
    """Put the record and the pictures of a run where they stay; the records are read anew, as another may write beside this one."""
    record = json.loads((out / f"{name}.json").read_text(encoding="utf-8"))
    RECORDS.write_text(
        json.dumps(recorded() | {name: record}, ensure_ascii=False, indent=1, sort_keys=True) + "\n",
        encoding="utf-8",
    )
    PICTURES.mkdir(parents=True, exist_ok=True)
    for picture in out.glob("*.svg"):
        (PICTURES / picture.name).write_bytes(picture.read_bytes())


def main():
    parser = argparse.ArgumentParser(
        "examples.run_all", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="the quick forms; RESULTS.md stays as it is")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="these examples")
    parser.add_argument("--device", help="default: ANYNET_DEVICE, else cpu; results are written for cpu")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=1, help="so many at a time (1)")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds for each (3600)")
    parser.add_argument(
        "--may-skip", action="store_true", help="an example whose data or library are not here is no failure"
    )
    parser.add_argument("--write", action="store_true", help="only write RESULTS.md again from results.json")
    options = parser.parse_args()
    known = entries(HERE)
    chosen = [] if options.write else [find(name, HERE) for name in options.only] if options.only else known
    kept = not options.quick and options.device in (None, "cpu") and options.seed == 0
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    failed = []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(options.jobs) as pool:
        outs = [Path(folder, entry.name) for entry in chosen]
        for entry, out, (code, seconds, said) in zip(
            chosen,
            outs,
            pool.map(lambda pair: run(pair[0], options, pair[1]), zip(chosen, outs, strict=True)),
            strict=True,
        ):
            print(
                f"{entry.name:24} {seconds:6.1f} s  {(said.splitlines() or ['nothing said'])[-1]}", flush=True
            )
            if code != 0 and not (code == UNAVAILABLE and options.may_skip):
                failed.append(f"== {entry.name}: exit code {code}\n{said}")
            if code == 0 and kept:
                keep(entry.name, out)
    if kept or options.write:
        RESULTS.write_text(table(recorded(), known), encoding="utf-8")
    print("\n".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
