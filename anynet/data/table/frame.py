"""Columns in memory: what every kind of table is read into, before anything is known of what it means."""

from __future__ import annotations

import datetime
import decimal
import fractions
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from anynet_backends import Array, registry, resolve

__all__ = ["EPOCH", "EXACT", "HOST", "Column", "Frame", "column_of", "label_text", "numbers"]

HOST: Any = resolve("cpu")[0]
"""The namespace of arrays on the host, where tables lie."""

EPOCH = datetime.datetime(1970, 1, 1)
EXACT = 2**53
"""Above it, different whole numbers are the same float64."""


def numbers(values: Any) -> Array:
    """A float64 array on the host."""
    return registry.asarray(values, "float64")


@dataclass
class Column:
    """The entries of one column.

    Numbers, booleans (0 and 1) and dates (seconds from 1970, the time as it is written) are float64 arrays with NaN where nothing
    is known; texts are a list of str, with None there. `whole`: all numbers are whole. `categorical`: the source says that the
    values are categories. `form`: how the texts were written that became these numbers or dates.
    """

    kind: Literal["number", "boolean", "date", "text"]
    values: Any
    whole: bool = False
    categorical: bool = False
    form: str | None = None

    def __len__(self) -> int:
        return len(self.values)

    def take(self, rows: Array) -> Column:
        """The entries at some rows."""
        if self.kind == "text":
            values: Any = [self.values[i] for i in rows.tolist()]
        else:
            values = HOST.take(self.values, rows, axis=0)
        return Column(self.kind, values, self.whole, self.categorical, self.form)

    def missing(self) -> Array:
        """Where nothing is known."""
        if self.kind == "text":
            return registry.asarray([v is None for v in self.values], "bool")
        return HOST.isnan(self.values)

    def labels(self) -> list[Any]:
        """The entries as Python's own: str, int, float, bool, None; dates as ISO text."""
        if self.kind == "text":
            return list(self.values)
        values = self.values.tolist()
        if self.kind == "date":
            return [_date_text(v) for v in values]
        if self.kind == "boolean":
            return [None if v != v else bool(v) for v in values]
        if self.whole:
            return [None if v != v else int(v) if math.isfinite(v) else v for v in values]
        return [None if v != v else v for v in values]

    def texts(self) -> list[str | None]:
        """The entries as text, as categories are compared: 3, 3.0 and "3" are one."""
        if self.kind == "text":
            return list(self.values)
        return [None if v is None else label_text(v) for v in self.labels()]


def label_text(value: Any) -> str:
    """The text of a label: whole numbers without a point."""
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def _date_text(seconds: float) -> str | None:
    if seconds != seconds:
        return None
    found = EPOCH + datetime.timedelta(seconds=seconds)
    return found.date().isoformat() if seconds % 86400 == 0 else found.isoformat(sep=" ")


@dataclass
class Frame:
    """Columns of one length by name, and remarks on how they were read."""

    columns: dict[str, Column]
    length: int
    remarks: list[str]
    named: bool = True
    """Whether the names are the source's own, rather than column_1, column_2, …"""
    repeated: frozenset[str] = frozenset()
    """Names that several columns had; the first has kept it."""

    def take(self, rows: Array) -> Frame:
        """Some rows."""
        columns = {k: c.take(rows) for k, c in self.columns.items()}
        return Frame(columns, len(rows), [], self.named, self.repeated)


# ---- from Python's values ----


def column_of(name: str, values: Sequence[Any]) -> Column:
    """A column from a list of Python's values; TypeError names what is none of number, boolean, date or text."""
    kinds = set(map(type, values))
    if any(hasattr(k, "dtype") and hasattr(k, "item") for k in kinds):  # NumPy's scalars, 0-d arrays
        values = [v.item() if hasattr(v, "dtype") and hasattr(v, "item") else v for v in values]
        kinds = set(map(type, values))
    kinds -= {type(None)}
    if any(not _plain(k) for k in kinds):
        values = [_simple(name, i, v) for i, v in enumerate(values)]
        kinds = set(map(type, values)) - {type(None)}
    if int in kinds and any(type(v) is int and abs(v) > EXACT for v in values):
        return Column("text", [_text(v) for v in values])  # what they mean is found as in a file
    if not kinds or kinds <= {int, float}:
        found = numbers([math.nan if v is None else v for v in values])
        return Column("number", found, whole_numbers(found))
    if (kinds == {float, bool} and all(math.isnan(v) for v in values if type(v) is float)) or kinds == {bool}:
        return Column("boolean", numbers([math.nan if v is None else v for v in values]))
    if datetime.datetime in kinds and all(
        v is None or isinstance(v, datetime.datetime) or v != v for v in values
    ):
        return Column("date", numbers([_seconds(v) for v in values]))
    return Column("text", [_text(v) for v in values])


def whole_numbers(values: Array) -> bool:
    """Whether all numbers that are known are whole (and there is one)."""
    known = values[~HOST.isnan(values)]
    return bool(known.shape[0]) and bool(HOST.all(HOST.isfinite(known) & (HOST.floor(known) == known)))


_PLAIN = (int, float, bool, str, datetime.datetime)


def _plain(kind: type) -> bool:
    return kind in _PLAIN


def _simple(name: str, row: int, value: Any) -> Any:
    """One of Python's plain types for a value of another."""
    if value is None or _plain(type(value)):
        return value
    if isinstance(value, (decimal.Decimal, fractions.Fraction)):
        return float(value)
    if isinstance(value, datetime.datetime) or hasattr(value, "to_pydatetime"):
        if value != value:  # not a time
            return None
        return value.to_pydatetime() if hasattr(value, "to_pydatetime") else value
    if isinstance(value, datetime.date):
        return datetime.datetime(value.year, value.month, value.day)
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, datetime.time):
        return value.isoformat()
    if hasattr(value, "to_timestamp"):  # a period of pandas
        return value.to_timestamp().to_pydatetime()
    for plain in (bool, int, float, str):
        if isinstance(value, plain):
            return plain(value)
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if type(value).__name__ in ("NAType", "NaTType"):
        return None
    msg = (
        f"Table: the column {name!r} must hold numbers, texts, booleans or dates, got {type(value).__name__} in row "
        f"{row + 1}; leave it out with ignore={[name]!r}, or make columns of it"
    )
    raise TypeError(msg)


def _seconds(value: Any) -> float:
    if not isinstance(value, datetime.datetime):
        return math.nan
    return (value.replace(tzinfo=None) - EPOCH) / datetime.timedelta(seconds=1)


def _text(value: Any) -> str | None:
    if value is None or value != value:
        return None
    if isinstance(value, datetime.datetime):
        return value.isoformat(sep=" ")
    return label_text(value).strip() or None


def unique_names(names: Iterable[str], remarks: list[str]) -> list[str]:
    """Names without repetition, as pandas': the second `a` is `a.1`; the third column, if it has no name, is unnamed_3."""
    out: list[str] = []
    seen: set[str] = set()
    for i, given in enumerate(names):
        stem = given.strip() or f"unnamed_{i + 1}"
        name, k = stem, 0
        while name in seen:
            k += 1
            name = f"{stem}.{k}"
        if name != given.strip():
            what = f"the name {stem!r} is there again" if given.strip() else f"column {i + 1} has no name"
            remarks.append(f"{what}: it is called {name!r}")
        seen.add(name)
        out.append(name)
    return out
