"""Predictions: what a network says of new samples, in the words and units of the data."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from typing import Any

from anynet_backends import files

__all__ = ["Predictions"]


class Predictions(Sequence[Any]):
    """Answers in the order of the samples, with what belongs to them.

    Parameters:
      values: the answers: class labels, numbers, texts; for several targets a dict of each.
      columns: further columns of equal length by name: the probability of the answer, of each class, an interval, the file.

    It is a sequence of the answers, `columns` and `to_dict` have the rest.

    >>> found = Predictions(["cat", "dog"], {"probability": [0.9, 0.6]})
    >>> found[0], len(found), found.to_dict()
    ('cat', 2, {'prediction': ['cat', 'dog'], 'probability': [0.9, 0.6]})
    >>> print(found.to_csv(), end="")
    prediction,probability
    cat,0.9
    dog,0.6
    """

    def __init__(self, values: Sequence[Any], columns: dict[str, Sequence[Any]] | None = None) -> None:
        self.values = list(values)
        self.columns = {name: list(column) for name, column in (columns or {}).items()}
        for name, column in self.columns.items():
            if len(column) != len(self.values):
                msg = f"Predictions: the column {name!r} must have {len(self.values)} entries, got {len(column)}"
                raise ValueError(msg)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: Any) -> Any:
        return self.values[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self.values)

    def __repr__(self) -> str:
        shown = ", ".join(map(repr, self.values[:6])) + (", …" if len(self) > 6 else "")
        return f"Predictions([{shown}])" if len(self) <= 6 else f"Predictions({len(self)}: [{shown}])"

    def to_dict(self) -> dict[str, list[Any]]:
        """Columns by name; what a DataFrame is made of. The answers are "prediction", or the targets' own names."""
        if self.values and all(isinstance(v, dict) for v in self.values):
            answers = {name: [v[name] for v in self.values] for name in self.values[0]}
        else:
            answers = {"prediction": self.values}
        return {**answers, **self.columns}

    def rows(self) -> Iterator[dict[str, Any]]:
        """One dict a sample."""
        table = self.to_dict()
        for i in range(len(self)):
            yield {name: column[i] for name, column in table.items()}

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> str:
        """The table as CSV, written to `path` where one is given."""
        out = io.StringIO()
        table = self.to_dict()
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(table)
        writer.writerows(zip(*table.values(), strict=True))
        if path is not None:
            files.write(path, out.getvalue())
        return out.getvalue()
