"""Tables in every form that people have them in, read into a `Frame`."""

from __future__ import annotations

import importlib
import io
import json
import math
import os
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from anynet._optional import optional
from anynet.data.idx import DataError
from anynet.data.table.delimited import read_bytes, read_delimited
from anynet.data.table.frame import EXACT, Column, Frame, column_of, numbers, unique_names, whole_numbers
from anynet.data.unpacking import unpacked
from anynet.tensor import Tensor
from anynet_backends import registry
from anynet_backends.files import open_regular

__all__ = ["FORMS", "read_table"]

FORMS = (
    "the path of a CSV, TSV, JSON or Parquet file, the bytes of a CSV file, a DataFrame, a dict of columns, a list of dicts, or an "
    "array with rows and columns"
)


def read_table(
    source: Any,
    *,
    separator: str | None = None,
    header: bool | None = None,
    names: Sequence[str] | None = None,
    encoding: str | None = None,
    expected: Collection[str] = (),
    as_text: Collection[str] = (),
) -> Frame:
    """The columns of a table in any of `FORMS`. The options are those of `read_delimited`; `names` are also those of the columns
    of an array."""
    if isinstance(source, Frame):
        return source
    if isinstance(source, (str, os.PathLike)):
        return _file(
            source, separator=separator, header=header, names=names, encoding=encoding, expected=expected, as_text=as_text
        )  # fmt: skip
    if isinstance(source, bytes):
        return read_bytes(
            source, "the table", separator=separator, header=header, names=names, encoding=encoding, expected=expected, as_text=as_text
        )  # fmt: skip
    if isinstance(source, Mapping):
        return _mapping(source)
    if isinstance(source, Tensor) or registry.is_array(source):
        return _array(source, names)
    if isinstance(source, (list, tuple)):
        return _rows(source, names)
    if hasattr(source, "columns") or hasattr(source, "schema") or hasattr(source, "__narwhals_dataframe__"):
        return _dataframe(source)
    msg = f"Table: expected {FORMS}, got {type(source).__name__}"
    raise TypeError(msg)


def _file(path: str | os.PathLike[str], **options: Any) -> Frame:
    name = os.fspath(path)
    if isinstance(name, bytes):
        name = os.fsdecode(name)
    if "\n" in name:
        msg = "Table: expected a path, got text of several lines; for a table in a string use list(csv.DictReader(io.StringIO(text)))"
        raise ValueError(msg)
    if not os.path.exists(name):
        msg = f"Table: there is no file {name!r}"
        raise FileNotFoundError(msg)
    if os.path.isdir(name):
        msg = f"Table: {name!r} is a folder; give a file, or use anynet.data.ImageFolder for a folder of pictures"
        raise IsADirectoryError(msg)
    if name.lower().endswith((".parquet", ".pq")):
        return _dataframe(_parquet(name))
    if JSON.search(name.lower()):
        return _json(name)
    return read_delimited(name, **options)


JSON = re.compile(r"\.(?:json|jsonl|ndjson)(?:\.(?:gz|bz2|xz|zip))?$")
"""Names of files of JSON."""


def _json(name: str) -> Frame:
    """A list of rows, a dict of columns, or a row in each line."""
    with io.BufferedReader(open_regular(name)) as opened:
        data = unpacked(name, opened.read())
    try:
        text = data.decode("utf-8-sig")
        found = (
            json.loads(text)
            if text.lstrip().startswith("[") or not _LINES.search(text)
            else _json_lines(text)
        )
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        msg = f"{name}: not JSON that can be read: {error}"
        raise DataError(msg) from None
    if not isinstance(found, (list, dict)) or not found:
        msg = f"{name}: expected a list of rows, a dict of columns, or a row in each line, got {str(found)!r:.60}"
        raise DataError(msg)
    return read_table(found)


_LINES = re.compile(r"\}\s*\n\s*\{")


def _json_lines(text: str) -> list[Any]:
    return [json.loads(line) for line in text.splitlines() if line.strip()]


def _parquet(name: str) -> Any:
    for module, function in (("pyarrow.parquet", "read_table"), ("polars", "read_parquet")):
        try:
            library = importlib.import_module(module)
        except ModuleNotFoundError:
            continue
        try:
            return getattr(library, function)(name)
        except Exception as error:
            msg = f"{name}: not a Parquet file that can be read: {error}"
            raise DataError(msg) from None
    msg = "reading Parquet needs pyarrow (or polars): pip install pyarrow 'anynet-nn[tables]'"
    raise ModuleNotFoundError(msg, name="pyarrow")


# ---- Python's containers ----


def _mapping(source: Mapping[Any, Any]) -> Frame:
    """A dict of columns; of single values it is one row."""
    if not source:
        msg = "Table: the dict has no columns"
        raise ValueError(msg)
    if not any(_is_column(v) for v in source.values()):
        source = {k: [v] for k, v in source.items()}
    single = [str(k) for k, v in source.items() if not _is_column(v)]
    if single:
        msg = f"Table: in a dict of columns each is a list or an array, but {single[0]!r} is a single value"
        raise TypeError(msg)
    columns = {str(k): _column(str(k), v) for k, v in source.items()}
    return _framed(columns)


def _is_column(value: Any) -> bool:
    if isinstance(value, (str, bytes)) or value is None:
        return False
    shape = getattr(value, "shape", None)
    return bool(shape) if shape is not None else hasattr(value, "__len__")


def _framed(columns: dict[str, Column], remarks: list[str] | None = None, named: bool = True) -> Frame:
    lengths = {k: len(c) for k, c in columns.items()}
    if len(set(lengths.values())) > 1:
        usual = next(iter(lengths.values()))
        odd = next(k for k, n in lengths.items() if n != usual)
        first = next(iter(lengths))
        msg = f"Table: the columns must have one length, but {first!r} has {usual} entries and {odd!r} {lengths[odd]}"
        raise ValueError(msg)
    return Frame(columns, next(iter(lengths.values())), remarks or [], named)


def _column(name: str, values: Any) -> Column:
    """A column from a list, an array, or a Series."""
    if isinstance(values, Tensor) or registry.is_array(values):
        data = registry.asarray(values.data if isinstance(values, Tensor) else values)
        if data.ndim == 2 and data.shape[1] == 1:
            data = data[:, 0]
        if data.ndim != 1:
            msg = f"Table: the column {name!r} must have one value for each row, got an array of shape {tuple(data.shape)}"
            raise ValueError(msg)
        return _array_column(name, data)
    if hasattr(values, "to_list") and not isinstance(values, (list, tuple)):
        return column_of(name, values.to_list())
    return column_of(name, list(values))


def _array_column(name: str, data: Any) -> Column:
    kind = data.dtype.kind
    if kind in "iu" and data.size and (int(data.max()) > EXACT or int(data.min()) < -EXACT):
        return column_of(name, data.tolist())
    if kind in "iuf":
        found = numbers(data)
        return Column("number", found, kind != "f" or whole_numbers(found))
    if kind == "b":
        return Column("boolean", numbers(data))
    if kind == "M":
        whole = data.astype("datetime64[us]")
        microseconds = whole.astype("int64").tolist()
        gone = -(2**63)  # not a time
        return Column("date", numbers([math.nan if v == gone else v / 1e6 for v in microseconds]))
    if kind == "m":
        seconds = data.astype("timedelta64[us]").astype("int64").tolist()
        return Column("number", numbers([math.nan if v == -(2**63) else v / 1e6 for v in seconds]))
    if kind == "c":
        msg = f"Table: the column {name!r} holds complex numbers; give their real and imaginary parts as two columns"
        raise TypeError(msg)
    return column_of(name, data.tolist())


def _rows(source: Sequence[Any], names: Sequence[str] | None) -> Frame:
    """A list of dicts, of named tuples, or of rows."""
    if not source:
        msg = "Table: the list of rows is empty"
        raise ValueError(msg)
    if all(isinstance(row, Mapping) for row in source):
        found: dict[str, None] = {}
        for row in source:
            found.update(dict.fromkeys(map(str, row)))
        return _framed({k: column_of(k, [row.get(k) for row in source]) for k in found})
    if all(isinstance(row, (list, tuple)) for row in source):
        fields = getattr(source[0], "_fields", names)
        width = len(source[0])
        for i, row in enumerate(source):
            if len(row) != width:
                msg = f"Table: row {i + 1} has {len(row)} entries, the first has {width}"
                raise ValueError(msg)
        remarks: list[str] = []
        called = _called(fields, width, remarks)
        columns = {n: column_of(n, list(c)) for n, c in zip(called, zip(*source, strict=True), strict=True)}
        return Frame(columns, len(source), remarks, fields is not None)
    kinds = sorted({type(row).__name__ for row in source})
    msg = f"Table: a list must hold dicts or rows, got {', '.join(kinds)}; expected {FORMS}"
    raise TypeError(msg)


def _called(names: Sequence[str] | None, width: int, remarks: list[str]) -> list[str]:
    if names is None:
        return [f"column_{i + 1}" for i in range(width)]
    if len(names) != width:
        msg = f"Table: names= must have {width} names, one for each column, got {len(names)}"
        raise ValueError(msg)
    return unique_names(map(str, names), remarks)


def _array(source: Any, names: Sequence[str] | None) -> Frame:
    """A structured array, or one with rows and columns."""
    data = registry.asarray(source.data if isinstance(source, Tensor) else source)
    if data.dtype.names:
        return _framed({n: _array_column(n, data[n]) for n in data.dtype.names})
    if data.ndim != 2:
        msg = f"Table: an array must have 2 axes, rows and columns, got shape {tuple(data.shape)}"
        raise ValueError(msg)
    remarks: list[str] = []
    called = _called(names, int(data.shape[1]), remarks)
    columns = {n: _array_column(n, data[:, i]) for i, n in enumerate(called)}
    return Frame(columns, int(data.shape[0]), remarks, names is not None)


# ---- DataFrames ----


def _dataframe(source: Any) -> Frame:
    nw = optional("narwhals", "tables", f"a {type(source).__module__.split('.')[0]} {type(source).__name__}")
    try:
        frame = nw.from_native(source)
    except TypeError:
        msg = f"Table: expected {FORMS}, got {type(source).__name__}"
        raise TypeError(msg) from None
    if isinstance(frame, nw.LazyFrame):
        frame = frame.collect()
    remarks: list[str] = []
    if hasattr(source, "columns") and len(set(map(str, source.columns))) < len(list(source.columns)):
        msg = f"Table: the DataFrame has two columns of one name: {list(map(str, source.columns))}"
        raise ValueError(msg)
    return _framed({str(name): _series(nw, str(name), frame[name]) for name in frame.columns}, remarks)


def _series(nw: Any, name: str, series: Any) -> Column:
    kind = series.dtype
    if kind.is_numeric() and not isinstance(kind, nw.Decimal):
        if series.null_count():
            return column_of(name, series.to_list())
        return _array_column(name, series.to_numpy())
    if isinstance(kind, (nw.List, nw.Struct, nw.Array)):
        msg = f"Table: the column {name!r} holds {kind}; leave it out, or make columns of it"
        raise TypeError(msg)
    if isinstance(kind, (nw.Categorical, nw.Enum)):
        found_column = column_of(name, series.to_list())
        return Column("text", found_column.texts(), categorical=True)
    return column_of(name, series.to_list())
