"""The parts of README.md that are made: `python -m ci.readme` draws and writes them, `--check` compares the table of speed."""

from __future__ import annotations

import os
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parents[1]
README = ROOT / "README.md"
PICTURE = ROOT / "docs" / "train-digits.svg"


MEDIANS, STEPS = "## Training: medians over all workloads", "## Training steps"
HEAD = "| network | eager, against PyTorch | `an.compile`, against the fastest of PyTorch, `torch.compile` and JAX |\n| --- | --- | --- |\n"


def speed(results: str) -> str:
    """README's table from the text of RESULTS.md: medians over all workloads, or the rows of results from before there were such."""
    section = results.split(MEDIANS if MEDIANS in results else STEPS)[1].split("\n## ")[0]
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in section.splitlines()
        if line.startswith("|")
    ]
    if MEDIANS in results:
        return "".join(f"| {' | '.join(row)} |\n" for row in rows)
    eager, compiled = rows[0].index("eager / torch eager"), rows[0].index("compiled / the fastest other")
    return HEAD + "".join(
        f"| {row[0]} | {row[eager].split()[0]} | {row[compiled].split()[0]} |\n" for row in rows[2:]
    )


def with_speed(text: str) -> str:
    """README.md with the table as the results have it."""
    marked = r"(?s)<!-- speed -->\n.*<!-- /speed -->"
    assert re.search(marked, text), "README.md must have <!-- speed --> and <!-- /speed -->"
    results = (ROOT / "ci" / "bench" / "RESULTS.md").read_text(encoding="utf-8")
    return re.sub(marked, lambda _: f"<!-- speed -->\n{speed(results)}<!-- /speed -->", text)


def picture() -> str:
    """What `anynet train digits` prints, as SVG."""
    from rich.console import Console
    from rich.text import Text

    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "anynet", "train", "digits"]
        environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'backends'}"}
        run = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    lines = run.stdout.splitlines()
    console = Console(record=True, width=86, file=open(os.devnull, "w"), force_terminal=True)  # noqa: SIM115
    console.print(Text("$ anynet train digits", style="bold"))
    console.print(Text("\n".join([*lines[:3], "…", *lines[-4:]])))
    svg = console.export_svg(title="anynet")
    return re.sub(r"(?s)@font-face \{.*?\}", "", svg)  # no font from another host


if __name__ == "__main__":
    readme = README.read_text(encoding="utf-8")
    if "--check" in sys.argv[1:]:
        if with_speed(readme) != readme:
            sys.exit(
                "the table of speed in README.md is not that of ci/bench/RESULTS.md; run python -m ci.readme"
            )
    else:
        README.write_text(with_speed(readme), encoding="utf-8")
        PICTURE.write_text(picture(), encoding="utf-8")
