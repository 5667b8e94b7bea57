"""Checks code as users write it with a type checker: `python -m ci.user_code mypy` or `… pyright`.

Every file of tests/typing/ must be right but for the lines that end with `# error`, and each of those must be found.
"""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
FOLDER = ROOT / "tests" / "typing"
COMMANDS = {
    "mypy": ("-m", "mypy", "--strict", "--config-file=", "--no-error-summary", "--cache-dir", os.devnull),
    "pyright": ("-m", "pyright", "--pythonpath", sys.executable),
}
ERROR = re.compile(r"(\w+\.py):(\d+)(?::\d+)?(?: -|:) error:? (.*)")


def check(checker: str) -> list[str]:
    """What is not as it should be: planted mistakes that were not found, and errors where there are none."""
    files = sorted(FOLDER.glob("*.py"))
    planted = {
        (f.name, n)
        for f in files
        for n, line in enumerate(f.read_text(encoding="utf-8").splitlines(), 1)
        if line.endswith("# error")
    }
    path = os.pathsep.join((str(ROOT), str(ROOT / "backends")))
    done = subprocess.run(
        [sys.executable, *COMMANDS[checker], *(str(f) for f in files if not f.name.startswith("test_"))],
        capture_output=True, text=True, cwd=ROOT, env={**os.environ, "MYPYPATH": path, "PYTHONPATH": path}, check=False,
    )  # fmt: skip
    found = {(m[1], int(m[2])): m[3] for m in ERROR.finditer(done.stdout)}
    if not found:
        return [f"{checker} reported nothing: {done.stdout[-2000:]}{done.stderr[-2000:]}"]
    missed = [f"{name}:{n}: {checker} does not find the mistake" for name, n in sorted(planted - set(found))]
    return missed + [f"{name}:{n}: {text}" for (name, n), text in found.items() if (name, n) not in planted]


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in COMMANDS:
        sys.exit("usage: python -m ci.user_code " + "|".join(COMMANDS))
    problems = check(sys.argv[1])
    sys.exit("\n".join(problems) or None)
