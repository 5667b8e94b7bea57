"""The schema of a table, which travels with a model: from rows to the network's inputs, from its outputs to answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from anynet.data.predictions import Predictions
from anynet.data.source import Preprocessing
from anynet.data.table.encoders import Category, Encoder, encoder_from_json
from anynet.data.table.frame import HOST, Column, Frame, label_text
from anynet.data.table.reading import read_table
from anynet.data.table.row_weights import row_weights
from anynet.data.table.targets import Labels, Quantity
from anynet.tensor import unwrap
from anynet_backends import Array, backend_of, registry

__all__ = ["TablePreprocessing"]

_KEYS = ("task", "encoders", "targets", "ignored", "order", "missing", "onehot", "reading")


class TablePreprocessing(Preprocessing):
    """How the columns of a table become numbers and categories, and outputs answers.

    Parameters:
      task: "regression" or "classification".
      encoders: the columns of the inputs, each with what it needs of the training part.
      targets: what is predicted: `Labels`, or one or more `Quantity`.
      ignored: the columns that were left out, with the reason.
      order: the names of all columns, in the order of the table.
      missing: "auto", or "error": then a missing entry is refused.
      onehot: whether categories are columns of 0 and 1 among the numbers.
      reading: options with which files are read.
      weight: the column that says how much each row counts, or None.

    The inputs are float32 numbers of shape (n, `len(number_names)`), or the pair of these and int64 categories of shape
    (n, `len(category_sizes)`) where there are categories (and not `onehot`).
    """

    kind = "table"

    def __init__(
        self,
        task: Literal["regression", "classification"],
        encoders: Sequence[Encoder],
        targets: Sequence[Labels | Quantity],
        *,
        ignored: Mapping[str, str] | None = None,
        order: Sequence[str] = (),
        missing: str = "auto",
        onehot: bool = False,
        reading: Mapping[str, Any] | None = None,
        weight: str | None = None,
    ) -> None:
        self.task = task
        self.encoders, self.target_encoders = list(encoders), list(targets)
        self.ignored, self.order, self.missing = dict(ignored or {}), list(order), missing
        self.onehot, self.reading, self.weight = onehot, dict(reading or {}), weight
        first = self.target_encoders[0]
        self.classes = first.classes if isinstance(first, Labels) else None

    # ---- what the network sees ----

    @property
    def columns(self) -> list[str]:
        """The names of the columns that are used."""
        return [e.name for e in self.encoders]

    @property
    def target_names(self) -> list[str]:
        """The names of the targets."""
        return [t.name for t in self.target_encoders]

    @property
    def number_names(self) -> list[str]:
        """What each number among the inputs is."""
        names = [name for e in self.encoders for name in e.outputs()]
        if self.onehot:
            names += [f"{e.name} = {v}" for e in self._categories() for v in _words(e)]
        return names

    @property
    def feature_names(self) -> list[str]:
        """What each feature of the inputs is: the numbers, then the categories."""
        return self.number_names + ([] if self.onehot else [e.name for e in self._categories()])

    def input_columns(self) -> list[tuple[str, list[tuple[int, list[int]]]]]:
        """Where each column of the table is among the inputs: its name, and pairs of an array (0: numbers, 1: categories) and
        the columns there."""
        places: dict[str, list[tuple[int, list[int]]]] = {}
        at = 0
        for e in self.encoders:
            width = len(e.outputs())
            places[e.name] = [(0, list(range(at, at + width)))] if width else []
            at += width
        for i, e in enumerate(self._categories()):
            if self.onehot:
                places[e.name].append((0, list(range(at, at + e.size()))))
                at += e.size()
            else:
                places[e.name].append((1, [i]))
        return list(places.items())

    @property
    def category_sizes(self) -> list[int]:
        """How many numbers each category among the inputs has."""
        return [] if self.onehot else [e.size() for e in self._categories()]

    @property
    def outputs(self) -> int:
        """How many outputs the network has: the classes, or the targets."""
        return len(self.classes) if self.classes is not None else len(self.target_encoders)

    def _categories(self) -> list[Category]:
        return [e for e in self.encoders if isinstance(e, Category)]

    # ---- samples to arrays ----

    def frame(self, samples: Any) -> Frame:
        """New rows as columns of this schema's names, in the order of the schema; others are let go."""
        if isinstance(samples, Frame):
            return samples
        names = {*self.columns, *self.target_names}
        spelled = [e.name for e in self.encoders if e.form is not None and e.form != "number"]
        frame = read_table(samples, expected=names, as_text=spelled, **self.reading)
        if not frame.named and not names <= set(frame.columns):
            frame = self._named(frame)
        return frame

    def _named(self, frame: Frame) -> Frame:
        """Columns without names, by their order."""
        for order in (self.order, [n for n in self.order if n not in self.target_names], self.columns):
            if len(order) == len(frame.columns):
                return Frame(
                    dict(zip(order, frame.columns.values(), strict=True)), frame.length, frame.remarks
                )
        msg = (
            f"the rows have {len(frame.columns)} columns without names; expected {len(self.columns)} ({', '.join(self.columns[:8])}"
            f"{', …' if len(self.columns) > 8 else ''}), or the {len(self.order)} of the table"
        )
        raise ValueError(msg)

    def inputs(self, samples: Any) -> Any:
        """The inputs of the network for rows in any form that `Table` reads, or one row as a dict."""
        frame = self.frame(samples)
        absent = [n for n in self.columns if n not in frame.columns]
        if absent:
            more = f" (and {len(absent) - 8} more)" if len(absent) > 8 else ""
            msg = f"the rows have no column {', '.join(map(repr, absent[:8]))}{more}; they have {', '.join(list(frame.columns)[:12])}"
            raise ValueError(msg)
        found = [(e, e.read("the rows", frame.columns[e.name])) for e in self.encoders]
        if self.missing == "error":
            for e, column in found:
                refuse_missing("the rows", e.name, column)
        floats = [a for e, column in found for a in e.columns(column)]
        indices = [(e, e.index(column)) for e, column in found if isinstance(e, Category)]
        if self.onehot:
            floats += [HOST.astype(a == k, HOST.float64) for e, a in indices for k in _codes(e)]
        numbers = HOST.empty((frame.length, len(floats)), dtype=HOST.float32)
        for i, a in enumerate(floats):
            numbers[:, i] = HOST.astype(a, HOST.float32)
        if self.onehot or not indices:
            return numbers
        return numbers, HOST.stack([a for _, a in indices], axis=1)

    def targets(self, samples: Any) -> Any:
        """float32 (n, targets), standardised, or int64 (n,) of class numbers."""
        frame = self.frame(samples)
        absent = [n for n in self.target_names if n not in frame.columns]
        if absent:
            msg = f"the rows have no column {', '.join(map(repr, absent))}, the target; they have {', '.join(list(frame.columns)[:12])}"
            raise ValueError(msg)
        parts = [t.encode("the rows", frame.columns[t.name]) for t in self.target_encoders]
        return parts[0] if len(parts) == 1 else HOST.concat(parts, axis=1)

    def weights(self, samples: Any) -> Any:
        """The weights of the rows, float32 (n,), where they have the column; else None."""
        frame = self.frame(samples)
        if self.weight is None or self.weight not in frame.columns:
            return None
        return row_weights("the rows", self.weight, frame.columns[self.weight])

    # ---- outputs to answers ----

    def decode(self, output: Any, samples: Any = None) -> Predictions:
        """Numbers in the units of the targets; or labels, each with its probability and those of all classes."""
        data = unwrap(output)
        values = registry.asarray(backend_of(data).to_host(data), "float64")
        if values.ndim == 1:
            values = values[:, None]
        if values.ndim != 2 or values.shape[1] != self.outputs:
            msg = f"the output must have shape (n, {self.outputs}), got {tuple(values.shape)}"
            raise ValueError(msg)
        if self.classes is not None:
            return self._decoded_classes(values, self.classes)
        answers = {
            t.name: t.decode(values[:, i])
            for i, t in enumerate(self.target_encoders)
            if isinstance(t, Quantity)
        }
        if len(answers) == 1:
            return Predictions(next(iter(answers.values())))
        rows = zip(*answers.values(), strict=True)
        return Predictions([dict(zip(answers, row, strict=True)) for row in rows])

    def _decoded_classes(self, values: Array, classes: list[Any]) -> Predictions:
        e = HOST.exp(values - HOST.max(values, axis=1, keepdims=True))
        p = e / HOST.sum(e, axis=1, keepdims=True)
        best = HOST.argmax(p, axis=1).tolist()
        columns = {"probability": HOST.max(p, axis=1).tolist()}
        columns |= {f"probability_{label_text(c)}": p[:, i].tolist() for i, c in enumerate(classes)}
        return Predictions([classes[i] for i in best], columns)

    # ---- JSON ----

    def to_json(self) -> dict[str, Any]:
        return {
            "task": self.task,
            "encoders": [e.to_json() for e in self.encoders],
            "targets": [t.to_json() for t in self.target_encoders],
            "ignored": self.ignored,
            "order": self.order,
            "missing": self.missing,
            "onehot": self.onehot,
            "reading": self.reading,
            **({} if self.weight is None else {"weight": self.weight}),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> TablePreprocessing:
        absent = [k for k in _KEYS if k not in data]
        if absent or data["task"] not in ("regression", "classification") or not data["targets"]:
            what = (
                f"no {', '.join(absent)}"
                if absent
                else f"task {data['task']!r:.40}, targets {data['targets']!r:.80}"
            )
            msg = f"the preprocessing of a table must have {', '.join(_KEYS)}, got {what}"
            raise ValueError(msg)
        target: Any = Labels if data["task"] == "classification" else Quantity
        return cls(
            data["task"],
            [encoder_from_json(e) for e in data["encoders"]],
            [target.from_json(t) for t in data["targets"]],
            **{k: data[k] for k in _KEYS[3:]},
            weight=data.get("weight"),
        )


def _words(e: Category) -> list[str]:
    return ["another value", *e.values, *(["missing"] if e.missing else [])]


def _codes(e: Category) -> range:
    return range(e.size())


def refuse_missing(where: str, name: str, column: Column) -> None:
    """ValueError for a column with missing entries."""
    gone = column.missing()
    count = int(HOST.count_nonzero(gone))
    if count:
        row = gone.tolist().index(True) + 1
        msg = f"{where}: {count} of {len(column)} entries of {name!r} are missing, the first in row {row}; missing='auto' fills them"
        raise ValueError(msg)
