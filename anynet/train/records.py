"""Files beside the history: a line of JSON for each epoch."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from anynet_backends import files

__all__ = ["append_record", "read_records"]


def append_record(path: Path, record: Mapping[str, Any]) -> None:
    """Write the record after those of the epochs before; what a run that was killed has written of later ones goes."""
    kept = [r for r in read_records(path) if r["epoch"] < record["epoch"]]
    files.write(path, "".join(json.dumps(r) + "\n" for r in [*kept, record]))


def read_records(path: Path) -> list[dict[str, Any]]:
    """The records of a file, none where there is no file."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [json.loads(line) for line in lines if line]
