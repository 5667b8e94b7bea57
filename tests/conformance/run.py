"""Runs the official conformance suite (data-apis/array-api-tests) on anynet and on the libraries under it.

    python tests/conformance/run.py path/to/array-api-tests [--examples 50] [--write]

Four lanes: NumPy and array-api-strict, each unrecorded and with every floating array recorded (`recorded.py`). A lane
passes when it fails nothing that the library under it does not fail as well. Both draw at random, so where they differ
the library is asked again with up to `SEEDS` other seeds. `--write` writes `RESULTS.md` beside this file.
The suite needs `pip install -r requirements.txt` of its own, and `array-api` as its submodule.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import platform
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from importlib.metadata import version
from typing import NamedTuple

HERE = pathlib.Path(__file__).resolve().parent
REVISION = "2025.12"
SEEDS = 30
LANES = {  # title: (module, device, the library under it)
    "NumPy, unrecorded": ("anynet", "cpu", "numpy"),
    "NumPy, recorded": ("recorded", "cpu", "numpy"),
    "array-api-strict, unrecorded": ("anynet", "strict", "array_api_strict"),
    "array-api-strict, recorded": ("recorded", "strict", "array_api_strict"),
}


class Result(NamedTuple):
    """What a run of the suite gave."""

    passed: int
    skipped: int
    failed: dict[str, str]
    """The failed tests with the last line of their error."""


def run(
    suite: pathlib.Path,
    module: str,
    device: str,
    examples: int,
    tests: tuple[str, ...] = ("array_api_tests",),
    seed: int = 0,
) -> Result:
    """One run of the suite on a module."""
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder, "report.xml")
        paths = (str(HERE.parents[1]), str(HERE.parents[1] / "backends"), str(HERE))
        environment = os.environ | {
            "ARRAY_API_TESTS_MODULE": module,
            "ARRAY_API_TESTS_VERSION": REVISION,
            "ANYNET_DEVICE": device,
            "PYTHONPATH": os.pathsep.join((*paths, os.environ.get("PYTHONPATH", ""))),
        }
        command = [
            sys.executable, "-m", "pytest", *tests, f"--max-examples={examples}", f"--hypothesis-seed={seed}", "-q",
            "-p", "no:cacheprovider", f"--junitxml={report}",
        ]  # fmt: skip
        done = subprocess.run(command, cwd=suite, env=environment, capture_output=True, text=True)
        if not report.exists():
            raise SystemExit(f"{' '.join(command)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}")
        cases = list(ET.parse(report).getroot().iter("testcase"))
    failed: dict[str, str] = {}
    skipped = 0
    for case in cases:
        name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}"
        wrong = [part for kind in ("failure", "error") for part in case.findall(kind)]
        if wrong:
            failed[name] = (wrong[0].get("message") or "").splitlines()[0][:200]
        skipped += case.find("skipped") is not None
    return Result(len(cases) - skipped - len(failed), skipped, failed)


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("suite", type=pathlib.Path)
    parser.add_argument("--examples", type=int, default=50)
    parser.add_argument("--write", action="store_true", help="write RESULTS.md")
    options = parser.parse_args()

    base = {m: run(options.suite, m, "cpu", options.examples) for m in ("numpy", "array_api_strict")}
    rows = [f"| {name} itself | {r.passed} | {len(r.failed)} | {r.skipped} | |" for name, r in base.items()]
    print(*rows, sep="\n", flush=True)
    own: dict[str, dict[str, str]] = {}
    for title, (module, device, library) in LANES.items():
        result = run(options.suite, module, device, options.examples)
        for seed in range(1, SEEDS + 1):
            differ = tuple(name for name in result.failed if name not in base[library].failed)
            if not differ:
                break
            asked = run(options.suite, library, "cpu", options.examples, differ, seed)
            base[library].failed.update(asked.failed)
        own[title] = {n: why for n, why in result.failed.items() if n not in base[library].failed}
        rows.append(
            f"| anynet on {title} | {result.passed} | {len(result.failed)} | {result.skipped} | {len(own[title])} |"
        )
        print(rows[-1], flush=True)
    packages = ", ".join(f"{p} {version(p)}" for p in ("numpy", "array-api-strict", "hypothesis"))
    lines = [
        "# The official conformance suite",
        "",
        f"data-apis/array-api-tests, revision {REVISION} of the standard, {options.examples} examples a test, on Python "
        f"{platform.python_version()} with {packages}. Written by `tests/conformance/run.py`.",
        "",
        "| namespace | passed | failed | skipped | failed that the library under it passes |",
        "| --- | --- | --- | --- | --- |",
        *rows,
        "",
        *(f"* {title}: `{name}`: {why}" for title, found in own.items() for name, why in found.items()),
    ]
    text = "\n".join(lines).rstrip() + "\n"
    print(text)
    if options.write:
        (HERE / "RESULTS.md").write_text(text)
    return int(any(own.values()))


if __name__ == "__main__":
    sys.exit(main())
