"""What the core install takes on disk: `python -m ci.core_size`, by the Python of an environment where nothing but the wheel was installed.

Counted are the files of all distributions, with the byte code that the installer made, but not pip and setuptools, which the
environment came with. Exit code 1 above the limit.
"""

from __future__ import annotations

import sys
from collections import Counter
from importlib.metadata import distributions
from pathlib import Path

LIMIT = 100_000_000
NOT_OURS = {"pip", "setuptools", "wheel"}


def sizes() -> Counter[str]:
    """Bytes by distribution."""
    found: Counter[str] = Counter()
    for distribution in distributions():
        name = distribution.metadata["Name"].lower()
        files = {Path(str(distribution.locate_file(f))) for f in distribution.files or ()}
        if name not in NOT_OURS:
            found[name] = sum(f.stat().st_size for f in files if f.is_file())
    return found


def main() -> int:
    """Print what takes how much; 1 above the limit."""
    found = sizes()
    for name, size in found.most_common():
        print(f"{size / 1e6:7.2f} MB  {name}")
    total = sum(found.values())
    print(f"{total / 1e6:7.2f} MB  in all, of at most {LIMIT / 1e6:.0f}")
    return int(total > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
