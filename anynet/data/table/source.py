"""`Table`: rows and columns as a source of training."""

from __future__ import annotations

import hashlib
import html
import inspect
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from anynet._hints import nearest
from anynet.data.dataset import Dataset, taken
from anynet.data.source import Source
from anynet.data.table.encoders import FEW, Boolean, Category, Date, Encoder, Number, odd_numbers
from anynet.data.table.frame import HOST, Column, Frame
from anynet.data.table.interpretation import dated, interpreted
from anynet.data.table.preprocessing import TablePreprocessing, refuse_missing
from anynet.data.table.reading import read_table
from anynet.data.table.recipe import recipe, suited
from anynet.data.table.row_weights import check_total, row_weights
from anynet.data.table.splitting import PARTS, fingerprint, parts_named, split_rows
from anynet.data.table.targets import Labels, Quantity, target_column
from anynet.tensor import wrap
from anynet_backends import Array, host, registry

__all__ = ["Table", "TableDataset"]

_SHOWN = {"time": "time (order= on the command line)"}


class TableDataset(Dataset):
    """Pairs (inputs, targets) of rows, or triples with the weights of the rows; `rows` are their numbers in the table, from 0, and
    `frame` their columns as they were."""

    draws = False

    def __init__(
        self, inputs: Any, targets: Array, frame: Frame, rows: Array, weights: Array | None = None
    ) -> None:
        self.tree: tuple[Any, ...] = (inputs, targets) if weights is None else (inputs, targets, weights)
        self.frame, self.rows = frame, rows

    def __len__(self) -> int:
        return int(self.tree[1].shape[0])

    def __getitem__(self, index: int, /) -> Any:
        if not -len(self) <= index < len(self):
            msg = f"index {index} is out of range for a data set of {len(self)} samples"
            raise IndexError(msg)
        inputs, *others = self.tree
        one = (
            tuple(wrap(a[index, ...]) for a in inputs)
            if isinstance(inputs, tuple)
            else wrap(inputs[index, ...])
        )
        return one, *(wrap(a[(index, ...)]) for a in others)

    def batch(self, indices: Sequence[int]) -> Any:
        inputs, *others = self.tree
        rows = registry.asarray(indices, "int64")
        some = tuple([taken(a, rows) for a in inputs]) if isinstance(inputs, tuple) else taken(inputs, rows)
        return some, *(taken(a, rows) for a in others)


class Table(Source):
    """Rows and columns, in files or in memory, as data to train on: what each column is is found, and said.

    Parameters:
      source: the path of a CSV file (separated by commas, semicolons, tabs or bars), a TSV, JSON (also a row in each line) or Parquet
        file, also packed (gzip, bzip2, xz, a zip of one file); a DataFrame of pandas, polars, pyarrow or duckdb (extra ``tables``); a
        dict of columns, a list of dicts, a structured array, or one with rows and columns; the bytes of a CSV file.
      target: the column to predict, or several columns of numbers; a number counts the columns, −1 is the last.
      task: "regression", "classification", or "auto": texts, booleans and dates are classes, so are whole numbers of which there
        are two, or at most 20 that are there five times or more on average; all other numbers are regression.
      ignore: columns that are not to be used.
      categorical: columns whose numbers are names (a postal code), or whose texts have many values.
      valid, test: the share of the rows that is held out for choosing and for the final test; or a table in any of the forms
        above; or the name of a column that says train, valid or test for each row.
      group: a column; rows with the same value stay in one part. It is not used as an input.
      time: a column of dates or numbers; the earliest rows train, the last are held out. Without `group` and `time` the split
        is random, and of classes each is spread over the parts alike.
      weight: a column of numbers ≥ 0 that says how much each row counts, in training and in what is measured; no input.
      missing: "auto": a missing number is taken as the median, and another input says that it was missing; a missing category
        is a value of its own. "error": missing entries are refused.
      seed: of the split.
      onehot: give categories as 0 and 1 among the numbers, for networks of your own that take one array.
      separator, header, names, encoding: how a file is read, found where not given; `names` are those of columns without a header.

    Titles and comments before the header are let go. Texts that are numbers with units, currencies, thousands or decimal commas become
    numbers, dates of up to three forms and of eight digits dates, words for yes and no booleans; whole numbers of more digits than a
    float holds are codes. Numbers become (x − median) / width, brought near ±4 where they are far, and standardised; dates become
    parts; texts with at most 50 values, or with five rows or more for each, become categories (0 is for unknown ones); texts that
    are all different, longer texts and numbers that are called an id are left out. Targets of regression are standardised, and
    decoded again. All statistics are of the training part. What was found, `describe()` tells; `schema` is the same as JSON.

    Rows whose target is missing, or that have nothing but it, are dropped. Errors: `DataError` with file and line for what cannot be
    read; ValueError that names the column for what cannot be used.

    >>> import anynet as an
    >>> rows = {"size": [50, 80, 120, 95, 70], "town": ["A", "B", "A", "B", "A"], "price": [1.1, 2.0, 2.9, 2.4, 1.6]}
    >>> table = an.data.Table(rows, target="price")
    >>> table.task, len(table.train), len(table.valid)
    ('regression', 4, 1)
    >>> numbers, categories = table.encode({"size": 60, "town": "C"})
    >>> categories.tolist()
    [[0]]
    """

    models: ClassVar[tuple[str, ...]] = ("mlp", "linear")

    def __init__(
        self,
        source: Any,
        *,
        target: str | int | Sequence[str | int] | None,
        task: Literal["auto", "regression", "classification"] = "auto",
        ignore: str | Sequence[str] = (),
        categorical: str | Sequence[str] = (),
        valid: Any = 0.2,
        test: Any = 0.0,
        group: str | None = None,
        time: str | None = None,
        weight: str | None = None,
        missing: Literal["auto", "error"] = "auto",
        seed: int = 0,
        onehot: bool = False,
        separator: str | None = None,
        header: bool | None = None,
        names: Sequence[str] | None = None,
        encoding: str | None = None,
    ) -> None:
        _one_of("task", task, ("auto", "regression", "classification"))
        _one_of("missing", missing, ("auto", "error"))
        if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
            msg = f"Table: seed must be an integer ≥ 0, got {seed!r}"
            raise ValueError(msg)
        reading: dict[str, Any] = {
            "separator": separator,
            "header": header,
            "names": None if names is None else _listed(names),
            "encoding": encoding,
        }
        options: dict[str, Any] = {
            "target": target, "task": task, "ignore": _listed(ignore), "categorical": _listed(categorical), "valid": valid,
            "test": test, "group": group, "time": time, "weight": weight, "missing": missing, "seed": seed, "onehot": onehot, **reading,
        }  # fmt: skip
        self.options = {k: _plain_option(v) for k, v in options.items()}
        self.reading = {k: v for k, v in reading.items() if v is not None}
        self.source, self.seed = source, seed
        expected = [t for t in _listed(target) if isinstance(t, str)]
        frame = read_table(source, expected=expected, **self.reading)
        self.remarks = list(frame.remarks)
        self.targets = self._targets(frame, target)
        self._check_names(
            frame, ignore=ignore, categorical=categorical, group=group, time=time, weight=weight
        )
        self.weight = weight
        frame, found = self._with_target(frame, task)
        self.task = found
        parts, outside = self._parts(frame, valid, test, group, time)
        self._prepare(frame, parts, outside)

    # ---- what is asked for ----

    def _check_names(self, frame: Frame, **named: Any) -> None:
        """Each option names columns of the table, and none the target."""
        for what, given in named.items():
            if what in ("group", "time", "weight") and not isinstance(given, (str, type(None))):
                msg = f"Table: {_SHOWN.get(what, what)} must be the name of a column, got {type(given).__name__} {given!r:.60}"
                raise TypeError(msg)
            for name in _listed(given):
                self._known(frame, what, name)
                if name in self.targets:
                    msg = f"Table: {_SHOWN.get(what, what)}: {name!r} is the target"
                    raise ValueError(msg)

    def _known(self, frame: Frame, what: str, name: Any) -> None:
        if name not in frame.columns:
            columns = list(frame.columns)
            shown = ", ".join(columns[:20]) + (f", … ({len(columns)} in all)" if len(columns) > 20 else "")
            hint = nearest(str(name), columns, everything=False)
            msg = (
                f"Table: {_SHOWN.get(what, what)}: there is no column {name!r}{hint}; the columns are {shown}"
            )
            raise ValueError(msg)

    def _targets(self, frame: Frame, target: Any) -> list[str]:
        columns = list(frame.columns)
        wanted = _listed(target)
        if not wanted:
            shown = ", ".join(columns[:20]) + (", …" if len(columns) > 20 else "")
            msg = f"Table: give the target, the column to predict, for example target={columns[-1]!r}; the columns are {shown}"
            raise ValueError(msg)
        names = []
        for name in wanted:
            by_number = isinstance(name, int) and str(name) not in frame.columns
            if isinstance(name, int) and not by_number:
                name = str(name)
            elif isinstance(name, int):
                if not -len(columns) <= name < len(columns):
                    msg = f"Table: target: there is no column number {name}; there are {len(columns)}"
                    raise ValueError(msg)
                name = columns[name]
            self._known(frame, "target", name)
            if not by_number and name in frame.repeated:
                msg = f"Table: target: several columns are called {name!r}: which is meant? Give its number (from 0), or rename the others"
                raise ValueError(msg)
            names.append(name)
        if len(set(names)) < len(names):
            msg = f"Table: target: a column is named twice: {', '.join(names)}"
            raise ValueError(msg)
        return names

    def _with_target(self, frame: Frame, task: str) -> tuple[Frame, Literal["regression", "classification"]]:
        """The rows that have a target, and the task."""
        columns = dict(frame.columns)
        if len(self.targets) > 1:
            for name in self.targets:
                meant = interpreted(name, columns[name], [])
                if meant.kind not in ("number", "boolean") or task == "classification":
                    msg = (
                        f"Table: several targets must be numbers (a network has several quantities, or the classes of one target), got "
                        f"{meant.kind}s in {name!r}; make a Table for each, or one column that joins them"
                    )
                    raise ValueError(msg)
            task = "regression"
        found: Literal["regression", "classification"] = "regression"
        for name in self.targets:
            columns[name], found = target_column(name, columns[name], task, self.remarks)
        rows = _labelled(columns, self.targets)
        if not len(rows):
            msg = f"Table: the target {', '.join(self.targets)} is missing in all {frame.length} rows"
            raise ValueError(msg)
        self.row_numbers = rows
        for name in self.targets if found == "regression" else ():
            infinite = HOST.nonzero(HOST.isinf(columns[name].values))[0]
            if len(infinite):
                msg = f"Table: the target {name!r} is infinite in row {int(infinite[0]) + 1}"
                raise ValueError(msg)
        frame = Frame(columns, frame.length, [], frame.named)
        if len(rows) < frame.length:
            self.remarks.append(
                f"{frame.length - len(rows)} of {frame.length} rows have no target and are dropped"
            )
            frame = frame.take(rows)
        return frame, found

    # ---- parts ----

    def _parts(self, frame: Frame, valid: Any, test: Any, group: str | None, time: str | None) -> Any:
        """The rows of the three parts, and tables given for two of them."""
        fractions, outside = self._asked(frame, valid, test)
        if group is not None and time is not None:
            msg = "Table: rows are held out by group or by time, not both"
            raise ValueError(msg)
        self.group, self.split_by = group, "at random"
        if self.part_column is not None:
            self.split_by = f"by the column {self.part_column}"
            labels = frame.columns[self.part_column].labels()
            parts = parts_named(f"Table: the column {self.part_column!r}", labels)
        else:
            how: dict[str, Any] = {}
            if time is not None:
                how["time"], self.split_by = self._times(frame, time), f"by time ({time})"
            elif group is not None:
                how["group"], self.split_by = frame.columns[group].labels(), f"by group ({group})"
                if nameless := sum(v is None for v in how["group"]):
                    self.remarks.append(f"{nameless} rows have no {group}: they stay together")
            elif self.task == "classification":
                how["strata"] = frame.columns[self.targets[0]].labels()
                self.split_by = "at random, each class alike"
            parts = split_rows(frame.length, fractions, self.seed, **how)
        if not len(parts[0]):
            msg = f"Table: no rows are left to train on: {frame.length} rows, valid={valid!r}, test={test!r}"
            raise ValueError(msg)
        return parts, outside

    def _asked(self, frame: Frame, valid: Any, test: Any) -> tuple[tuple[float, float], dict[str, Any]]:
        """The shares of the rows to hold out, and the tables that are given instead; sets the column that names the parts."""
        named, outside, shares = [], {}, {"valid": 0.0, "test": 0.0}
        for part, given in (("valid", valid), ("test", test)):
            if isinstance(given, str) and given in frame.columns:
                named.append(given)
            elif given is None or (isinstance(given, (int, float)) and not isinstance(given, bool)):
                shares[part] = float(given or 0.0)
                if not 0 <= shares[part] < 1:
                    msg = f"Table: {part} must be in [0, 1), the share of the rows, or a table, or the name of a column; got {given!r}"
                    raise ValueError(msg)
            elif isinstance(given, bool):
                msg = f"Table: {part} must be a share of the rows, a table or the name of a column, got {given!r}"
                raise ValueError(msg)
            elif isinstance(given, str) and not os.path.exists(given):
                msg = f"Table: {part}={given!r} is neither a column of the table ({', '.join(list(frame.columns)[:12])}) nor a file"
                raise ValueError(msg)
            else:
                outside[part] = given
        if len(set(named)) > 1:
            msg = f"Table: valid and test name two columns, {named[0]!r} and {named[1]!r}; one says train, valid or test"
            raise ValueError(msg)
        self.part_column: str | None = named[0] if named else None
        if sum(shares.values()) >= 1:
            msg = f"Table: valid and test must leave rows to train on, got {valid} and {test}"
            raise ValueError(msg)
        return (shares["valid"], shares["test"]), outside

    def _times(self, frame: Frame, time: str) -> Array:
        column = interpreted(time, frame.columns[time], [])
        if column.kind not in ("date", "number"):
            msg = f"Table: {_SHOWN['time']}: {time!r} must hold dates or numbers, got {column.kind}s"
            raise ValueError(msg)
        refuse_missing(f"Table: {_SHOWN['time']}", time, column)
        return column.values

    # ---- columns ----

    def _prepare(self, frame: Frame, parts: tuple[Array, Array, Array], outside: dict[str, Any]) -> None:
        """Encoders of the training part, and the three data sets."""
        columns, ignored = self._understood(frame)
        parts = self._informed(columns, ignored, parts)
        train = frame.take(parts[0])
        targets: list[Labels | Quantity] = []
        for name in self.targets:
            make = Labels if self.task == "classification" else Quantity
            # labels of all rows: which there are is no statistic, and a rare one may be in one part alone
            targets.append(make.fitted(name, frame.columns[name] if make is Labels else train.columns[name]))
        self._check_targets(frame, targets)
        encoders: list[Encoder] = []
        for name, column in columns.items():
            if name not in self.targets and name not in ignored:
                found = _encoder(name, column.take(parts[0]), len(train.columns) - len(self.targets))
                if isinstance(found, Encoder):
                    encoders.append(found)
                    self.remarks += odd_numbers(name, column)
                else:
                    ignored[name] = found
        if not encoders:
            said = (
                "; ".join(f"{k}: {v}" for k, v in ignored.items())
                or "there are no columns besides the target"
            )
            msg = f"Table: no column is left to predict from ({said}); categorical= takes a text as it is"
            raise ValueError(msg)
        for name in self.options["ignore"]:
            columns.pop(name, None)
        self.preprocessing: TablePreprocessing = TablePreprocessing(
            self.task, encoders, targets, ignored=ignored, order=list(frame.columns), missing=self.options["missing"],
            onehot=self.options["onehot"], reading={k: v for k, v in self.reading.items() if k != "names"}, weight=self.weight,
        )  # fmt: skip
        self.length = frame.length
        if self.weight is not None:  # all of it, for messages that name the row of the table
            row_weights("Table", self.weight, frame.columns[self.weight], self.row_numbers)
        whole = Frame(columns, frame.length, [], frame.named)
        sets: list[TableDataset | None] = []
        for part, rows in zip(PARTS, parts, strict=True):
            if part in outside:
                sets.append(self._outside(part, outside[part]))
            else:
                sets.append(
                    self._dataset(whole.take(rows), HOST.take(self.row_numbers, rows, axis=0))
                    if len(rows)
                    else None
                )
        assert sets[0] is not None
        self.train: TableDataset = sets[0]
        self.valid: TableDataset | None = sets[1]
        self.test: TableDataset | None = sets[2]
        for part, data in zip(PARTS, sets, strict=True):
            if self.weight is None or data is None:
                continue
            if len(data.tree) == 3:
                check_total(part, self.weight, data.tree[2])
            else:  # a table of its own
                self.remarks.append(
                    f"{part}: there is no column {self.weight!r}, so that its rows count alike"
                )

    def _understood(self, frame: Frame) -> tuple[dict[str, Column], dict[str, str]]:
        """The columns with what their texts mean, and why some are not for the network."""
        columns, ignored = dict(frame.columns), {}
        for name in frame.columns:
            reason = None if name in self.targets else self._left_out(name)
            if reason is not None:
                ignored[name] = reason
            elif name not in self.targets:
                column = interpreted(name, frame.columns[name], self.remarks)
                column = dated(name, column, self.remarks)
                if name in self.options["categorical"]:
                    column = Column("text", frame.columns[name].texts(), categorical=True)
                columns[name] = column
                if self.options["missing"] == "error":
                    refuse_missing("Table", name, column)
        return columns, ignored

    def _informed(
        self, columns: Mapping[str, Column], ignored: Mapping[str, str], parts: tuple[Array, Array, Array]
    ) -> tuple[Array, Array, Array]:
        """The parts without rows in which all inputs are missing, as in a row of totals."""
        used = [c for n, c in columns.items() if n not in self.targets and n not in ignored]
        if len(used) < 2:
            return parts
        gone = used[0].missing()
        for column in used[1:]:
            gone = gone & column.missing()
        train, valid, test = (rows[~HOST.take(gone, rows, axis=0)] for rows in parts)
        if count := int(HOST.count_nonzero(gone)):
            rows = "a row has" if count == 1 else f"{count} rows have"
            self.remarks.append(f"{rows} nothing but the target: left out")
        return (train, valid, test) if len(train) else parts

    def _check_targets(self, frame: Frame, targets: list[Labels | Quantity]) -> None:
        first = targets[0]
        found = [set(frame.columns[t.name].labels()) for t in targets]
        if all(len(values) < 2 for values in found):
            (value,) = found[0]
            names = " and ".join(repr(t.name) for t in targets)
            msg = f"Table: the target {names} is {value!r} in every row: there is nothing to learn"
            raise ValueError(msg)
        if isinstance(first, Labels):
            count = len(first.classes)
            if count > self.row_numbers.shape[0] // 2 and count > FEW:
                msg = (
                    f"Table: the target {first.name!r} has {count} different labels in {self.row_numbers.shape[0]} rows: too many to "
                    "learn classes from; is it the right column?"
                )
                raise ValueError(msg)

    def _left_out(self, name: str) -> str | None:
        if name in self.options["ignore"]:
            return "ignored, as asked"
        if name == self.part_column:
            return "it names the part of each row"
        if name == self.group:
            return "it is the group of the split"
        if name == self.weight:
            return "it is the weight of each row"
        return None

    def _dataset(self, frame: Frame, rows: Array) -> TableDataset:
        inputs, targets = self.preprocessing.inputs(frame), self.preprocessing.targets(frame)
        return TableDataset(inputs, targets, frame, rows, self.preprocessing.weights(frame))

    def _outside(self, part: str, given: Any) -> TableDataset:
        """A part that is a table of its own; its rows without a target are dropped."""
        try:
            frame = self.preprocessing.frame(given)
            rows = HOST.arange(frame.length)
            if all(n in frame.columns for n in self.targets):
                rows = _labelled(frame.columns, self.targets)
            if not len(rows):
                msg = f"no row has the target {', '.join(self.targets)}"
                raise ValueError(msg)
            if len(rows) < frame.length:
                self.remarks.append(f"{part}: {frame.length - len(rows)} rows have no target and are dropped")
                frame = frame.take(rows)
            return self._dataset(frame, rows)
        except ValueError as error:
            msg = f"Table: {part}: {error}"
            raise ValueError(msg) from None

    # ---- use ----

    @property
    def schema(self) -> dict[str, Any]:
        """What was found, as JSON: the columns with their statistics, the targets, what was left out."""
        return {"kind": self.preprocessing.kind, **self.preprocessing.to_json()}

    @property
    def classes(self) -> list[Any] | None:
        """The labels in the order of the outputs; None for regression."""
        return self.preprocessing.classes

    def encode(self, rows: Any) -> Any:
        """The network's inputs for rows in any form: `TablePreprocessing.inputs`."""
        return self.preprocessing.inputs(rows)

    def decode(self, output: Any) -> Any:
        """The answers that outputs mean: `TablePreprocessing.decode`."""
        return self.preprocessing.decode(output)

    def rows(self, part: str = "train") -> dict[str, list[Any]]:
        """The rows of a part as they are in the table, as columns by name; ``part`` is train, valid or test."""
        _one_of("part", part, PARTS)
        data = {"train": self.train, "valid": self.valid, "test": self.test}[part]
        return {} if data is None else {k: c.labels() for k, c in data.frame.columns.items()}

    def network(self, name: str | None = None, **settings: Any) -> Any:
        """ "mlp" (`anynet.models.TableMLP`, by default) or "linear" (`anynet.models.TableLinear`), with their own settings."""
        from anynet import models  # here: who reads a table may bring a network of their own

        if name is not None and name not in self.models:
            msg = f"Table: unknown network {name!r}{nearest(name, self.models)}"
            raise ValueError(msg)
        cls: Any = models.TableLinear if name == "linear" else models.TableMLP
        p = self.preprocessing
        known = {
            n: v
            for n, v in inspect.signature(cls).parameters.items()
            if n not in ("numbers", "categories", "outputs")
        }
        for setting in settings:
            if setting not in known:
                msg = f"Table: the network {cls.__name__} has no setting {setting!r}; it has {', '.join(known) or 'none'}"
                raise ValueError(msg)
        if cls is models.TableMLP:
            settings = {**suited(len(self.train), len(p.number_names), self.valid is not None), **settings}
        return cls(len(p.number_names), p.category_sizes, p.outputs, **settings)

    def defaults(self) -> dict[str, Any]:
        return recipe(self.task, len(self.train), self.valid is not None)

    def origin(self) -> dict[str, Any]:
        parts = [
            d.rows if d is not None else registry.asarray([], "int64")
            for d in (self.train, self.valid, self.test)
        ]
        found: dict[str, Any] = {"kind": "table", "path": None, "bytes": None}
        if isinstance(self.source, (str, os.PathLike)):
            path = os.path.abspath(os.fspath(self.source))
            found |= {"path": path, "bytes": os.path.getsize(path), "sha256": _file_hash(path)}
        else:
            found["sha256"] = self._content_hash()
        sizes = {part: len(rows) for part, rows in zip(PARTS, parts, strict=True)}
        return {
            **found, "samples": self.length, "options": self.options,
            "split": {"by": self.split_by, "sizes": sizes, "seed": self.seed, "sha256": fingerprint(parts)},
        }  # fmt: skip

    def _content_hash(self) -> str:
        found = hashlib.sha256()
        for data in (self.train, self.valid, self.test):
            for name, column in data.frame.columns.items() if data is not None else ():
                found.update(name.encode())
                if column.kind == "text":
                    found.update("\0".join("\1" if v is None else v for v in column.values).encode())
                else:
                    found.update(host.to_bytes(column.values))
        return found.hexdigest()

    def _findings(self) -> list[tuple[str, str]]:
        found = {
            e.name: e.describe() + (", some missing" if e.missing else "")
            for e in self.preprocessing.encoders
        }
        found |= {t.name: f"target: {t.describe()}" for t in self.preprocessing.target_encoders}
        found |= {k: f"left out: {v}" for k, v in self.preprocessing.ignored.items()}
        shown = [(name, found[name]) for name in self.preprocessing.order if name in found]
        if len(shown) <= _MOST:
            return shown
        kinds = Counter(e.type for e in self.preprocessing.encoders) + Counter(
            {"left out": len(self.preprocessing.ignored)}
        )
        rest = [(n, what) for n, what in shown[_MOST:] if n in self.targets]
        return [
            *shown[:_MOST],
            *rest,
            ("…", f"{len(shown)} columns: {', '.join(f'{n} {k}' for k, n in kinds.items())}"),
        ]

    def _summary(self) -> str:
        sizes = ", ".join(
            f"{len(d)} {part}"
            for part, d in (("to train", self.train), ("to validate", self.valid), ("to test", self.test))
            if d
        )
        return (
            f"{self.length:,} rows, {self.task} of {', '.join(self.targets)}; {sizes} (split {self.split_by})"
        )

    def describe(self) -> str:
        where = (
            os.fspath(self.source)
            if isinstance(self.source, (str, os.PathLike))
            else type(self.source).__name__
        )
        # a name may hold line breaks, and be nothing but blanks
        findings = [(" ".join(n.split()) or repr(n), what) for n, what in self._findings()]
        width = min(max(len(n) for n, _ in findings), 32)
        lines = [f"{where}: {self._summary()}", *(f"  {n:{width}}  {what}" for n, what in findings)]
        return "\n".join(lines + [f"  note: {r}" for r in self.remarks])

    def __repr__(self) -> str:
        return f"Table({self._summary()})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(n)}</th><td style='text-align:left'>{html.escape(what)}</td></tr>"
            for n, what in self._findings()
        )
        notes = "".join(f"<li>{html.escape(r)}</li>" for r in self.remarks)
        return f"<p>{html.escape(self._summary())}</p><table>{rows}</table>" + (
            f"<ul>{notes}</ul>" if notes else ""
        )


def _labelled(columns: Mapping[str, Column], targets: Sequence[str]) -> Array:
    """The rows in which no target is missing."""
    gone = columns[targets[0]].missing()
    for name in targets[1:]:
        gone = gone | columns[name].missing()
    return HOST.nonzero(~gone)[0]


# ---- what a column is ----

_MOST = 100  # columns that are described one by one

_IDS = ("id", "ids", "key", "uuid", "guid", "index", "rownum", "row", "pk", "rownames", "unnamed")


def _encoder(name: str, column: Column, count: int) -> Encoder | str:
    """The encoder of a column of the training part, or the reason why it is left out; `count` is the number of such columns."""
    gone = column.missing()
    known = len(column) - int(HOST.count_nonzero(gone))
    if not known:
        return "it is empty"
    if column.kind != "text":
        values = column.values[~gone]
        distinct = int(HOST.unique_values(values).shape[0])
        if distinct == 1 and known == len(column):
            return f"it is {column.take(registry.asarray([0], 'int64')).labels()[0]} in every row"
        if column.kind == "boolean":
            return Boolean.fitted(name, column)
        if column.kind == "date":
            return Date.fitted(name, column)
        if column.whole and distinct == known and known >= 20 and count > 1 and _is_called_id(name):
            return "it is an identifier: whole numbers that are all different"
        return Number.fitted(name, column)
    values = [v for v in column.values if v is not None]
    distinct = len(set(values))
    if distinct == 1 and known == len(column):
        return f"it is {values[0]!r:.40} in every row"
    if not column.categorical and (distinct > FEW or (distinct == known and known >= 20)):
        words = sum(len(v.split()) for v in values[:1000]) / len(values[:1000])
        if distinct == known and words < 4:
            return "it is an identifier: texts that are all different"
        if distinct * 5 > known:
            if words >= 4:
                return f"it is free text, of {words:.0f} words on average"
            return f"it has {distinct} different texts in {known} rows; categorical={[name]!r} takes them as they are"
    return Category.fitted(name, column)


def _is_called_id(name: str) -> bool:
    words = re.sub(r"([a-z])([A-Z])", r"\1 \2", name).lower()
    return bool(set(re.split(r"[^a-z]+", words)) & set(_IDS))


# ---- options ----


def _listed(given: Any) -> list[Any]:
    if given is None:
        return []
    if not isinstance(given, Iterable):
        given = [given]
    return [given] if isinstance(given, str) else list(given)


def _one_of(what: str, given: Any, allowed: Sequence[str]) -> None:
    if given not in allowed:
        hint = nearest(given, allowed, everything=False) if isinstance(given, str) else ""
        msg = f"Table: {what} must be one of {', '.join(map(repr, allowed))}, got {given!r}{hint}"
        raise ValueError(msg)


def _plain_option(value: Any) -> Any:
    """An option as JSON; tables in memory are named by their type."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if value is None or isinstance(value, (str, int, float, bool)):
        return value
    if isinstance(value, (list, tuple)) and all(isinstance(v, (str, int)) for v in value):
        return list(value)
    return f"<{type(value).__name__}>"


def _file_hash(path: str) -> str:
    with open(path, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()
