"""From a column to what a network takes, and the statistics of the training part that this needs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from anynet.data.table.frame import HOST, Column
from anynet.data.table.interpretation import read_as
from anynet_backends import Array, registry

__all__ = [
    "Boolean",
    "Category",
    "Date",
    "Encoder",
    "Number",
    "encoder_from_json",
    "quantiles",
    "odd_numbers",
]


@dataclass
class Encoder:
    """One column of the inputs: how it is read in new data, and which numbers it becomes.

    `form` is how its texts were written (`Column.form`); `missing` whether there were missing entries in the training part.
    """

    name: str
    form: str | None
    missing: bool

    type: ClassVar[str]
    kind: ClassVar[str]

    def read(self, where: str, column: Column) -> Column:
        """A column of new data, as this one was."""
        return read_as(where, self.name, column, self.kind, self.form)

    def columns(self, column: Column) -> list[Array]:
        """The numbers for the network, float64, one array for each of `outputs`."""
        raise NotImplementedError

    def outputs(self) -> list[str]:
        """What the numbers are called."""
        raise NotImplementedError

    def describe(self) -> str:
        """What was found, in words."""
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        return {"type": self.type, **asdict(self)}

    def _with_flag(self, column: Column, values: list[Array]) -> list[Array]:
        """The values, and 1 where the entry is missing, if there were missing ones."""
        return [*values, HOST.astype(column.missing(), HOST.float64)] if self.missing else values

    def _flag(self) -> list[str]:
        return [f"{self.name} is missing"] if self.missing else []


def quantiles(values: Array, *at: float) -> list[float]:
    """Quantiles of finite numbers, interpolated linearly."""
    ordered = HOST.sort(values)
    out = []
    for q in at:
        place = q * (len(ordered) - 1)
        below = int(place)
        low, high = float(ordered[below]), float(ordered[min(below + 1, len(ordered) - 1)])
        out.append(low + (high - low) * (place - below))
    return out


@dataclass
class Number(Encoder):
    """u = (x − median) / width, v = u / √(1 + (u/4)²), (v − mean) / deviation, of mean 0 and deviation 1 in the training part.

    The width is that of the middle half (between the quartiles), divided by 1.35, which is the deviation of normal numbers; the
    square root leaves numbers near the median as they are and brings the farthest, infinities too, to ±4. A missing entry is
    taken as the median.
    """

    median: float
    width: float
    mean: float
    deviation: float
    low: float
    high: float

    type: ClassVar[str] = "number"
    kind: ClassVar[str] = "number"

    @classmethod
    def fitted(cls, name: str, column: Column) -> Number:
        """With the statistics of a column."""
        gone = column.missing()
        values = column.values
        known = values[HOST.isfinite(values)]
        missing = bool(HOST.any(gone))
        if not len(known):
            return cls(name, column.form, missing, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0)
        low, first, median, third, high = quantiles(HOST.clip(known, -1e300, 1e300), 0, 0.25, 0.5, 0.75, 1)
        width, size = (third - first) / 1.35, max(abs(first), abs(third))
        if width <= 1e-12 * size:  # more than half of them are one number
            width, size = high / 2 - low / 2, max(abs(low), abs(high))
        if width <= 1e-12 * size:
            width = 0.0
        found = cls(name, column.form, missing, median, width, 0.0, 1.0, low, high)
        if width:
            squashed = found._squashed(values)
            found.mean = float(HOST.mean(squashed))
            found.deviation = float(HOST.std(squashed)) or 1.0
        return found

    def _squashed(self, values: Array) -> Array:
        filled = HOST.where(HOST.isnan(values), self.median, values)
        if not self.width:
            return HOST.zeros_like(filled)
        u = HOST.clip((HOST.clip(filled, -1e300, 1e300) - self.median) / self.width, -1e9, 1e9)
        return u / HOST.sqrt(1 + (u / 4) ** 2)

    def columns(self, column: Column) -> list[Array]:
        return self._with_flag(column, [(self._squashed(column.values) - self.mean) / self.deviation])

    def outputs(self) -> list[str]:
        return [self.name, *self._flag()]

    def describe(self) -> str:
        return f"number, {self.low:.6g} to {self.high:.6g}, median {self.median:.6g}"


def odd_numbers(name: str, column: Column) -> list[str]:
    """Remarks where entries are infinite, and where a number of nines, such as −999, stands several times and far from all others: it may
    mean "missing"."""
    if column.kind != "number":
        return []
    known = column.values[HOST.isfinite(column.values)]
    values = HOST.unique_values(known).tolist()
    infinite = int(HOST.count_nonzero(HOST.isinf(column.values)))
    found = []
    if infinite:
        many = "entry is infinite: it counts" if infinite == 1 else "entries are infinite: they count"
        found.append(f"{name}: {infinite} {many} as farther than every number, not as missing")
    for mark, rest in ((values[0], values[1:]), (values[-1], values[:-1])) if len(values) > 2 else ():
        count = int(HOST.count_nonzero(known == mark))
        far = min(abs(mark - rest[0]), abs(mark - rest[-1])) > 3 * (rest[-1] - rest[0])
        if count > 1 and far and set(f"{abs(mark):g}") == {"9"}:
            found.append(
                f"{name}: {mark:g} stands there {count} times, far from all others; where it means missing, leave the entry empty"
            )
    return found


@dataclass
class Boolean(Encoder):
    """−1 for no, 1 for yes, 0 for what is missing."""

    type: ClassVar[str] = "boolean"
    kind: ClassVar[str] = "boolean"

    @classmethod
    def fitted(cls, name: str, column: Column) -> Boolean:
        """With what is needed of a column."""
        return cls(name, column.form, bool(HOST.any(column.missing())))

    def columns(self, column: Column) -> list[Array]:
        gone = HOST.isnan(column.values)
        return self._with_flag(column, [HOST.where(gone, 0.0, 2.0 * column.values - 1.0)])

    def outputs(self) -> list[str]:
        return [self.name, *self._flag()]

    def describe(self) -> str:
        return "yes or no" + (f" ({self.form})" if self.form else "")


@dataclass
class Date(Encoder):
    """Parts of dates: the days since the first (standardised), day of the year, of the month and of the week, and the time of day,
    the cyclic ones as sine and cosine; those that are always the same are left out."""

    parts: list[str]
    mean: float
    deviation: float
    first: float
    last: float

    type: ClassVar[str] = "date"
    kind: ClassVar[str] = "date"

    @classmethod
    def fitted(cls, name: str, column: Column) -> Date:
        """With the parts that vary in a column."""
        gone = column.missing()
        known = column.values[~gone]
        missing = bool(HOST.any(gone))
        if not len(known):
            return cls(name, column.form, missing, [], 0.0, 1.0, 0.0, 0.0)
        mean, deviation = float(HOST.mean(known)), float(HOST.std(known))
        varying = [p for p, values in _date_parts(known).items() if float(HOST.std(values)) > 1e-9]
        if "day of the month" not in varying:  # months: on which day of the week each begins says nothing
            varying = [p for p in varying if "week" not in p]
        if deviation > 0:
            varying.insert(0, "elapsed")
        first, last = float(HOST.min(known)), float(HOST.max(known))
        return cls(name, column.form, missing, varying, mean, deviation or 1.0, first, last)

    def columns(self, column: Column) -> list[Array]:
        gone = HOST.isnan(column.values)
        values = HOST.where(gone, self.mean, column.values)
        found = _date_parts(values)
        found["elapsed"] = (values - self.mean) / self.deviation
        return self._with_flag(column, [HOST.where(gone, 0.0, found[p]) for p in self.parts])

    def outputs(self) -> list[str]:
        return [f"{self.name}: {p}" for p in self.parts] + self._flag()

    def describe(self) -> str:
        ends = Column("date", registry.asarray([self.first, self.last])).labels()
        return f"date, {ends[0]} to {ends[1]}: {', '.join(self.parts)}"


def _date_parts(seconds: Array) -> dict[str, Array]:
    """Parts of times by name; the calendar by Howard Hinnant's days_from_civil, backwards."""
    days = HOST.astype(HOST.floor(seconds / 86400), HOST.int64)
    of_day = seconds / 86400 - HOST.astype(days, HOST.float64)
    z = days + 719468
    era_day = z - 146097 * (z // 146097)
    era_year = (era_day - era_day // 1460 + era_day // 36524 - era_day // 146096) // 365
    year_day = era_day - (365 * era_year + era_year // 4 - era_year // 100)  # from 1 March
    month = (5 * year_day + 2) // 153
    day = HOST.astype(year_day - (153 * month + 2) // 5 + 1, HOST.float64)
    year = 400 * (z // 146097) + era_year + HOST.astype(month >= 10, HOST.int64)
    of_year = HOST.astype(year_day, HOST.float64) / 365.2425
    of_week = HOST.astype((days + 3) % 7, HOST.float64) / 7
    parts = {"year": (HOST.astype(year, HOST.float64) - 2000.0) / 10.0}
    for name, share in (("year", of_year), ("week", of_week), ("day", of_day)):
        angle = 2 * math.pi * share
        parts[f"sine of the {name}"], parts[f"cosine of the {name}"] = HOST.sin(angle), HOST.cos(angle)
    parts["weekend"] = HOST.where((days + 3) % 7 >= 5, 1.0, -1.0)
    parts["day of the month"] = (day - 15.0) / 9.0
    return parts


@dataclass
class Category(Encoder):
    """The number of a value among those of the training part, from 1; 0 is for what was not there. A missing entry is a value
    where the training part had some, else unknown."""

    values: list[str]

    type: ClassVar[str] = "category"
    kind: ClassVar[str] = "text"

    @classmethod
    def fitted(cls, name: str, column: Column) -> Category:
        """With the values of a column; of more than 50, those that are there once are learned as the unknown one."""
        texts = column.texts()
        counts = Counter(v for v in texts if v is not None)
        least = 1 if len(counts) <= FEW else 2
        return cls(name, column.form, None in texts, sorted(v for v, n in counts.items() if n >= least))

    def read(self, where: str, column: Column) -> Column:
        return column if column.kind == "text" else Column("text", column.texts())

    def size(self) -> int:
        """How many numbers there are: the unknown, the values, the missing one."""
        return 1 + len(self.values) + self.missing

    def index(self, column: Column) -> Array:
        """The numbers of the values."""
        table: dict[str | None, int] = {v: i for i, v in enumerate(self.values, start=1)}
        table[None] = len(self.values) + 1 if self.missing else 0
        get = table.get
        return registry.asarray([get(v, 0) for v in column.texts()], "int64")

    def outputs(self) -> list[str]:
        return []

    def columns(self, column: Column) -> list[Array]:
        return []

    def describe(self) -> str:
        shown = ", ".join(" ".join(v[:41].split())[:40] for v in self.values[:5])
        shown += ", …" if len(self.values) > 5 else ""
        return f"category of {len(self.values)} values: {shown}"


FEW = 50
"""Texts with at most this many values are categories."""

_TYPES: dict[str, type[Encoder]] = {c.type: c for c in (Number, Boolean, Date, Category)}


def encoder_from_json(data: Mapping[str, Any]) -> Encoder:
    """The encoder that `Encoder.to_json` wrote; ValueError names what is wrong."""
    kind = data.get("type")
    if kind not in _TYPES:
        msg = f"a column of a table must have a type of {', '.join(_TYPES)}, got {kind!r:.60}"
        raise ValueError(msg)
    cls = _TYPES[kind]
    expected = {f.name for f in fields(cls)}
    if set(data) - {"type"} != expected:
        msg = f"a column of type {kind} must have {', '.join(sorted(expected))}, got {', '.join(sorted(data))!s:.200}"
        raise ValueError(msg)
    return cls(**{k: v for k, v in data.items() if k != "type"})
