"""Checks of options: what can be refused before the first batch is."""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Iterable, Mapping
from typing import Any

__all__ = ["choice", "plain_options", "real_number", "unknown", "whole_number"]


def unknown(kind: str, name: str, known: Iterable[str]) -> str:
    """The sentence that answers a misspelt name."""
    names = list(known)
    near = difflib.get_close_matches(name, names, 1) or difflib.get_close_matches(name.lower(), names, 1)
    return f"unknown {kind} {name!r}" + (
        f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
    )


def choice(where: str, name: str, value: Any, known: tuple[Any, ...]) -> Any:
    """One of a few values."""
    if any(value is k or (type(value) is type(k) and value == k) for k in known):
        return value
    words = [k for k in known if isinstance(k, str)]
    near = difflib.get_close_matches(value, words, 1) if isinstance(value, str) else []
    msg = f"{where}: {name} must be {' or '.join(map(repr, known))}, got {value!r}"
    raise ValueError(msg + (f"; did you mean {near[0]!r}?" if near else ""))


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


def plain_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those options that are plain data, as JSON keeps them."""

    def plain(value: Any) -> bool:
        if isinstance(value, (tuple, list)):
            return all(map(plain, value))
        if isinstance(value, dict):
            return all(isinstance(k, str) and plain(v) for k, v in value.items())
        return value is None or isinstance(value, (bool, int, float, str))

    return {k: v for k, v in options.items() if plain(v) and not k.startswith("_") and k != "training"}
