"""Reading the files of a run, which may be anything: what they cannot be is refused with the file, what was found and what was expected."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any, NoReturn

from anynet.train import CheckpointError, load
from anynet_backends import files

__all__ = ["RunError", "checkpoint", "json_lines", "json_of", "json_table"]

_LIMIT = 64 << 20  # bytes of JSON


class RunError(ValueError):
    """What is no run, is damaged, or cannot do what is asked. The message names the file and says what to do."""


def _no_number(text: str) -> NoReturn:
    msg = f"{text} is no number in JSON"
    raise ValueError(msg)


def json_of(text: str | bytes, where: str) -> Any:
    """A value from JSON; `RunError` for what is none."""
    if len(text) > _LIMIT:
        msg = f"{where} is too large: {len(text):,} bytes of JSON, at most {_LIMIT:,} are read"
        raise RunError(msg)
    try:
        return json.loads(text, parse_constant=_no_number)
    except RecursionError:
        msg = f"{where} is damaged: nested too deeply"
        raise RunError(msg) from None
    except ValueError as error:
        msg = f"{where} is damaged: it is not JSON ({error!s:.120})"
        raise RunError(msg) from None


def _bytes(path: Path) -> bytes:
    try:
        with files.open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            if size > _LIMIT:
                msg = f"{path} is too large: {size:,} bytes of JSON, at most {_LIMIT:,} are read"
                raise RunError(msg)
            return file.readall()
    except files.NotRegularError as error:
        raise RunError(str(error)) from None


def json_table(path: Path) -> dict[str, Any]:
    """The dict of a JSON file."""
    found = json_of(_bytes(path), str(path))
    if not isinstance(found, dict):
        msg = f"{path} is damaged: expected a table, got {type(found).__name__}"
        raise RunError(msg)
    return found


def json_lines(path: Path) -> list[dict[str, Any]]:
    """The dicts of a file with one on each line; none where there is no file."""
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(_bytes(path).splitlines(), 1):
        if line.strip():
            try:
                found = json.loads(line)
            except (ValueError, RecursionError) as error:
                msg = f"{path} is damaged: line {number} is not JSON ({error!s:.80})"
                raise RunError(msg) from None
            if not isinstance(found, dict):
                msg = f"{path} is damaged: line {number} must be a table, got {type(found).__name__}"
                raise RunError(msg)
            rows.append(found)
    return rows


def checkpoint(path: Path) -> dict[str, Any]:
    """`anynet.load`, its errors as `RunError`."""
    try:
        return load(path)
    except CheckpointError as error:
        raise RunError(str(error)) from None
