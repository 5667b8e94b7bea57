"""Checks of options: what can be refused before the first batch is refused."""

from __future__ import annotations

import json
import math
import operator
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from anynet._hints import nearest

__all__ = [
    "check_folder", "check_settings", "choice", "plain_options", "real_number", "seconds", "unknown", "whole_number",
]  # fmt: skip


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence that answers a misspelt name."""
    return f"unknown {kind} {name!r}{nearest(name, known)}"


def choice(where: str, name: str, value: Any, known: tuple[Any, ...]) -> Any:
    """One of a few values."""
    if any(value is k or (type(value) is type(k) and value == k) for k in known):
        return value
    words = [k for k in known if isinstance(k, str)]
    hint = nearest(value, words, everything=False) if isinstance(value, str) else ""
    msg = f"{where}: {name} must be {' or '.join(map(repr, known))}, got {value!r}"
    raise ValueError(msg + hint)


def whole_number(where: str, name: str, value: Any, least: int) -> int:
    """An integer (NumPy's too) of at least `least`."""
    try:
        number = None if isinstance(value, bool) else operator.index(value)
    except TypeError:
        number = None
    if number is None or number < least:
        what = f"an integer of at least {least}"
        hint = ""
        if isinstance(value, str) and value.strip().isdigit():
            hint = f"; write {name}={value.strip()}, without quotes"
        elif isinstance(value, float) and value.is_integer():
            hint = f"; write {name}={int(value)}"
        msg = f"{where}: {name} must be {what}, got {value!r}{hint}"
        raise (ValueError if number is not None or isinstance(value, (int, float)) else TypeError)(msg)
    return number


def real_number(where: str, name: str, value: Any, *, positive: bool = False) -> float:
    """A finite number (NumPy's too) ≥ 0, or above 0."""
    number: float | None
    try:
        number = None if isinstance(value, (bool, str, bytes)) else float(value)
    except (TypeError, ValueError):
        number = None
    low = "above 0" if positive else "of at least 0"
    if number is None:
        msg = f"{where}: {name} must be a number {low}, got {value!r}"
        raise TypeError(msg)
    if not math.isfinite(number) or number < 0 or (positive and number == 0):
        msg = f"{where}: {name} must be a finite number {low}, got {value!r}"
        raise ValueError(msg)
    return number


_UNITS = {"s": 1.0, "sec": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0}


def seconds(where: str, name: str, value: Any, other: str = "") -> float:
    """A time above 0: a number of seconds, or text such as "30s", "10min", "2h"."""
    if not isinstance(value, str):
        return real_number(where, name, value, positive=True)
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([a-z]+)\s*", value.lower())
    unit = found.group(2) if found else ""
    unit = unit if unit in _UNITS else unit.rstrip("s").removesuffix("ute").removesuffix("ond")
    unit = {"hour": "h"}.get(unit, unit)
    number = float(found.group(1)) if found else 0.0
    if unit not in _UNITS or number <= 0 or not math.isfinite(number):
        msg = f"{where}: {name} must be {other}a time such as '30s', '10min' or '2h', got {value!r}"
        raise ValueError(msg)
    return number * _UNITS[unit]


def check_folder(where: str, folder: Any) -> None:
    """Refuse what cannot be, or become, a folder that files are written into."""
    if folder is None:
        return
    if not isinstance(folder, (str, os.PathLike)):
        msg = f"{where} must be the path of a folder, got {type(folder).__name__} {folder!r:.60}"
        raise TypeError(msg)
    if not os.fspath(folder).strip():
        msg = f"{where} must be the path of a folder, got {folder!r}; the current folder is '.'"
        raise ValueError(msg)
    path = Path(folder).absolute()
    above = next(p for p in (path, *path.parents) if p.exists())
    if not above.is_dir():
        msg = f"{where} must be the path of a folder, got {os.fspath(folder)!r}, but {above} is a file"
        raise NotADirectoryError(msg)
    if not os.access(above, os.W_OK | os.X_OK):
        msg = f"{where}: {above} may not be written by this user; choose another folder"
        raise PermissionError(msg)


def check_settings(settings: Any) -> None:
    """Refuse what run.json could not hold."""
    if settings is None:
        return
    if not isinstance(settings, dict):
        msg = f"fit: settings must be a dict of plain data, got {type(settings).__name__}"
        raise TypeError(msg)
    try:
        json.dumps(settings)
    except (TypeError, ValueError) as error:
        msg = (
            f"fit: settings must be a dict of plain data, which JSON can hold, got {settings!r:.80}: {error}"
        )
        raise TypeError(msg) from None


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that are plain data, as JSON keeps them."""

    def plain(value: Any) -> bool:
        if isinstance(value, (tuple, list)):
            return all(map(plain, value))
        if isinstance(value, dict):
            return all(isinstance(k, str) and plain(v) for k, v in value.items())
        return value is None or isinstance(value, (bool, int, float, str))

    return {k: v for k, v in options.items() if plain(v) and not k.startswith("_") and k != "training"}
