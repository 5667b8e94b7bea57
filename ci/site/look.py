"""Looks at pages of the built site in a headless browser: python -m ci.site.look FOLDER. No message on the console, no picture missing."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

PAGES = (
    "index.html", "tour.html", "gallery/index.html", "mathematics/activations.html", "mathematics/recurrence.html",
    "reference/anynet.nn.html", "reference/anynet.nn.linear.html",
)  # fmt: skip


def faults(folder: Path, browser: str) -> list[str]:
    """What is wrong with the pages."""
    found = []
    for page in PAGES:
        file = folder / page
        text = file.read_text(encoding="utf-8")
        found += [
            f"{page}: no picture {source}"
            for source in re.findall(r'<img[^>]* src="([^":]+)"', text)
            if not (file.parent / source).exists()
        ]
        if re.search(r'(?:src|href)="https?://[^"]*\.(?:js|css|woff2?)"', text):
            found.append(f"{page}: needs a network")
        for width in (360, 1400):
            with tempfile.TemporaryDirectory() as profile:
                picture = Path(profile) / "page.png"
                done = subprocess.run(
                    [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", f"--user-data-dir={profile}",
                     f"--screenshot={picture}", f"--window-size={width},1600", file.resolve().as_uri()],
                    capture_output=True, text=True, timeout=60,
                )  # fmt: skip
                if "CONSOLE" in done.stderr:
                    found.append(f"{page} at {width}: {done.stderr[done.stderr.index('CONSOLE') :][:300]}")
                if not picture.exists() or picture.stat().st_size < 10_000:
                    found.append(f"{page} at {width}: nothing is shown")
    return found


def main() -> int:
    """The command; without a browser it says so and succeeds."""
    browser = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if browser is None:
        print("chromium is not installed: the site is not looked at")
        return 0
    found = faults(Path(sys.argv[1]), browser)
    print("\n".join(found) or f"{len(PAGES)} pages, each at two widths: no fault")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
