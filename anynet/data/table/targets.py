"""What is to be predicted: numbers standardised, labels numbered, and back."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from anynet.data.table.frame import HOST, Column, label_text
from anynet.data.table.interpretation import interpreted, read_as
from anynet_backends import Array, registry

__all__ = ["Labels", "Quantity", "is_classes"]

MOST_CLASSES = 20
"""Whole numbers with more values than this are quantities."""


def is_classes(column: Column) -> bool:
    """Whether a target holds classes: texts, booleans, dates and categories do; whole numbers where there are two, or at most 20,
    each there five times or more on average."""
    if column.kind != "number" or column.categorical:
        return True
    if not column.whole:
        return False
    known = column.values[~HOST.isnan(column.values)]
    count = int(HOST.unique_values(known).shape[0])
    return count <= 2 or (count <= MOST_CLASSES and count * 5 <= len(known))


@dataclass
class Quantity:
    """A target of regression: (y − mean) / deviation."""

    name: str
    form: str | None
    mean: float
    deviation: float
    low: float
    high: float

    @classmethod
    def fitted(cls, name: str, column: Column) -> Quantity:
        """With the mean and deviation of a column without missing entries."""
        values = column.values
        mean, deviation = float(HOST.mean(values)), float(HOST.std(values))
        low, high = float(HOST.min(values)), float(HOST.max(values))
        return cls(name, column.form, mean, deviation if deviation > 1e-12 * abs(mean) else 1.0, low, high)

    def encode(self, where: str, column: Column) -> Array:
        """Standardised, float32 of shape (n, 1)."""
        values = read_as(where, self.name, column, "number", self.form).values
        if not bool(HOST.all(HOST.isfinite(values))):
            row = next(i for i, v in enumerate(HOST.isfinite(values).tolist()) if not v)
            msg = f"{where}: the target {self.name!r} is missing or infinite in row {row + 1}"
            raise ValueError(msg)
        return HOST.astype((values - self.mean) / self.deviation, HOST.float32)[:, None]

    def decode(self, values: Array) -> list[float]:
        """Numbers in the units of the target, from float64 of shape (n,)."""
        found: list[float] = (values * self.deviation + self.mean).tolist()
        return found

    def describe(self) -> str:
        """In words."""
        return (
            f"number, {self.low:.6g} to {self.high:.6g}, mean {self.mean:.6g}, deviation {self.deviation:.6g}"
        )

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Quantity:
        """The inverse of `to_json`."""
        return cls(**_checked(cls, data))


@dataclass
class Labels:
    """A target of classification: the number of the label among `classes`."""

    name: str
    classes: list[Any]

    @classmethod
    def fitted(cls, name: str, column: Column) -> Labels:
        """With the labels of a column, in their order."""
        found = set(column.labels())
        try:
            ordered = sorted(found)
        except TypeError:
            ordered = sorted(found, key=str)
        return cls(name, ordered)

    def encode(self, where: str, column: Column) -> Array:
        """Numbers of the labels, int64 of shape (n,)."""
        table = {
            label_text(v).lower() if isinstance(v, bool) else label_text(v): i
            for i, v in enumerate(self.classes)
        }
        if all(isinstance(v, bool) for v in self.classes):
            table |= {"0": 0, "1": len(self.classes) - 1}
            texts = [None if t is None else t.lower() for t in column.texts()]
        else:
            texts = column.texts()
        unknown = Counter(t for t in texts if t not in table)
        if unknown:
            first = next(iter(unknown))
            row = texts.index(first)
            what = "missing" if first is None else f"{first!r}"
            msg = (
                f"{where}: the label {self.name!r} is {what} in row {row + 1}, expected one of "
                f"{', '.join(map(repr, self.classes[:10]))}{', …' if len(self.classes) > 10 else ''}"
            )
            raise ValueError(msg)
        return registry.asarray([table[t] for t in texts if t is not None], "int64")

    def describe(self) -> str:
        """In words."""
        shown = ", ".join(map(str, self.classes[:8])) + (", …" if len(self.classes) > 8 else "")
        return f"{len(self.classes)} classes: {shown}"

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Labels:
        """The inverse of `to_json`."""
        return cls(**_checked(cls, data))


def _checked(cls: Any, data: Mapping[str, Any]) -> dict[str, Any]:
    expected = {f.name for f in fields(cls)}
    if set(data) != expected:
        msg = f"the target of a table must have {', '.join(sorted(expected))}, got {', '.join(sorted(data))!s:.200}"
        raise ValueError(msg)
    return dict(data)


def target_column(
    name: str, column: Column, task: str, remarks: list[str]
) -> tuple[Column, Literal["regression", "classification"]]:
    """The target as the task asks for it, and the task, found where it is "auto"."""
    meant = interpreted(name, column, [])
    if task == "auto":
        amounts = meant.kind == "number" and not is_classes(meant)
        task = "regression" if amounts else "classification"
    if task == "classification":
        return column, "classification"
    meant = interpreted(name, column, remarks)
    if meant.kind == "boolean":
        meant = Column("number", meant.values, True, form=None)
    if meant.kind != "number":
        example = next((v for v in column.labels() if v is not None), None)
        msg = f"Table: regression needs a target of numbers, got {meant.kind}s in {name!r} such as {example!r}; task='classification'?"
        raise ValueError(msg)
    return meant, "regression"
