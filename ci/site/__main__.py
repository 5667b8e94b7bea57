"""Builds the site: python -m ci.site [--out FOLDER]. Warnings are errors."""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_OUTSIDE = re.compile(r"\[([^\]]*)\]\(\.\./([^)]+)\)")  # links to what is no page of the site


def build(out: Path) -> int:
    """Build into `out`; the exit status of Sphinx."""
    # sphinx is an extra of this command alone
    from sphinx.cmd.build import main as sphinx

    from ci.site.api import write_reference
    from ci.site.gallery import with_examples, write_gallery
    from ci.site.parity import write_parity

    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "docs"
        shutil.copytree(ROOT / "docs", source)
        for page in source.rglob("*.md"):
            text = _OUTSIDE.sub(r"\1 (`\2` in the repository)", page.read_text(encoding="utf-8"))
            page.write_text(with_examples(text, source / "gallery", page.parent), encoding="utf-8")
        write_reference(source / "reference")
        write_gallery(source / "gallery")
        write_parity(source / "parity.md")
        os.environ.setdefault("PYTHONPATH", f"{ROOT}:{ROOT / 'backends'}")
        return sphinx(
            [
                "-b",
                "html",
                "-W",
                "--keep-going",
                "-q",
                "-j",
                "2",
                "-c",
                str(ROOT / "ci" / "site"),
                str(source),
                str(out),
            ]
        )


def main() -> int:
    """The command."""
    parser = argparse.ArgumentParser(description="build the site; warnings are errors")
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "site")
    out = parser.parse_args().out
    status = build(out)
    if status == 0:
        print(f"{out / 'index.html'}")
    return status


if __name__ == "__main__":
    sys.exit(main())
