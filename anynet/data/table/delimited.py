"""Tables as text: CSV and its kin, with separator, header, encoding and decimal comma found."""

from __future__ import annotations

import csv
import io
import itertools
import os
import re
from array import array
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Any

from anynet.data.idx import DataError
from anynet.data.table.frame import Column, Frame, numbers, unique_names, whole_numbers
from anynet.data.unpacking import unpacked
from anynet_backends.files import open_regular

__all__ = ["MISSING", "read_bytes", "read_delimited", "read_text"]

MISSING = frozenset(
    (
        "", "NA", "N/A", "n/a", "NaN", "nan", "-nan", "-NaN", "NULL", "null", "None", "<NA>", "#N/A", "#N/A N/A", "#NA", "?",
        "1.#IND", "1.#QNAN", "-1.#IND", "-1.#QNAN",
    )
)  # fmt: skip
"""Spellings of "not known": pandas', and the question mark of the UCI repository."""

_NO_NUMBER = MISSING | {
    "-", "--", ".", "na", "none", "NONE", "Null", "NAN", "NaT", "#DIV/0!", "#VALUE!", "#REF!", "#NUM!", "#NAME?", "missing",
    "unknown",
}  # fmt: skip
"""The same in a column of numbers; among words these may be values of their own."""

SEPARATORS = ("\t", "|", ";", ",")
_ROWS = 20_000  # are made into columns at a time
_MAGIC = {
    b"PK\x03\x04": "an Excel workbook; save it as CSV, or read it with pandas.read_excel and give the DataFrame",
    b"\xd0\xcf\x11\xe0": "an Excel workbook; save it as CSV, or read it with pandas.read_excel and give the DataFrame",
    b"PAR1": "a Parquet file; name it .parquet",
    b"\x89HDF": "an HDF5 file; read it with pandas.read_hdf and give the DataFrame",
    b"ARROW1": "an Arrow file; read it with pyarrow.feather and give its table",
    b"SQLite": "an SQLite database; read it with pandas.read_sql and give the DataFrame",
    b"(\xb5/\xfd": "compressed by zstd; unpack it, or compress it as .gz",
    b"%PDF": "a PDF",
}


def read_delimited(
    path: str | os.PathLike[str],
    *,
    separator: str | None = None,
    header: bool | None = None,
    names: Sequence[str] | None = None,
    encoding: str | None = None,
    expected: Collection[str] = (),
    as_text: Collection[str] = (),
) -> Frame:
    """The columns of a file; `DataError` names the file and the line of what cannot be read.

    `expected` are names of which one in the first line tells that it is a header; the numbers of columns in `as_text` stay as
    they are written.
    """
    name = os.fspath(path)
    with io.BufferedReader(open_regular(path)) as opened:
        data = opened.read()
    if separator is None and ".tsv" in os.path.basename(name).lower():
        separator = "\t"
    return read_bytes(
        data, name, separator=separator, header=header, names=names, encoding=encoding, expected=expected, as_text=as_text
    )  # fmt: skip


def read_bytes(data: bytes, name: str, *, encoding: str | None = None, **options: Any) -> Frame:
    """The columns of the bytes of a file, which may be packed; `name` is what errors call it, the options are those of
    `read_text`."""
    remarks: list[str] = []
    text = _decoded(name, unpacked(name, data), encoding, remarks)
    return read_text(text, name, remarks=remarks, **options)


def _decoded(name: str, data: bytes, encoding: str | None, remarks: list[str]) -> str:
    for magic, what in _MAGIC.items():
        if data.startswith(magic):
            msg = f"{name}: expected a table as text, got {what}"
            raise DataError(msg)
    if encoding is None:
        if data.startswith((b"\xff\xfe", b"\xfe\xff")):
            encoding = "utf-16"
        elif b"\x00" in data:
            line = data.count(b"\n", 0, data.index(b"\x00")) + 1
            msg = f"{name}: expected a table as text, got binary data (a zero byte in line {line}); give encoding= if it is text"
            raise DataError(msg)
    if encoding is not None:
        try:
            return data.decode("utf-8-sig" if encoding.lower() in ("utf-8", "utf8") else encoding)
        except LookupError:
            msg = f"Table: unknown encoding {encoding!r}; known are utf-8, latin-1, cp1252, utf-16 and Python's others"
            raise ValueError(msg) from None
        except UnicodeDecodeError as error:
            line = data.count(b"\n", 0, error.start) + 1
            msg = f"{name}: line {line} is not {encoding}: {error.reason}"
            raise DataError(msg) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
    for encoding in ("cp1252", "latin-1"):
        try:
            found = data.decode(encoding)
        except UnicodeDecodeError:
            continue
        remarks.append(f"line {line} is not UTF-8: read as {encoding} (encoding= chooses another)")
        break
    return found


def read_text(
    text: str,
    name: str,
    *,
    separator: str | None = None,
    header: bool | None = None,
    names: Sequence[str] | None = None,
    expected: Collection[str] = (),
    as_text: Collection[str] = (),
    remarks: list[str] | None = None,
) -> Frame:
    """The columns of a text, as `read_delimited`."""
    remarks = [] if remarks is None else remarks
    start = 0
    if text[:4].lower() == "sep=":  # Excel's own way of saying it
        first = text[: text.find("\n")].strip()
        separator, start = separator or first[4:5] or None, text.find("\n") + 1
    if not text[start:].strip():
        msg = f"{name}: the file is empty"
        raise DataError(msg)
    if separator is None:
        separator = _separator(text[start : start + 65536])
    if len(separator) != 1 or separator in '"\r\n':
        msg = f"{name}: separator must be one character, got {separator!r}"
        raise DataError(msg)
    quote = "'" if _SINGLE_QUOTED.match(text[start : start + 65536]) else '"'
    lines = _Lines(text, start, name, separator, quote)
    sample, width = _first_rows(lines, expected, remarks)
    if names is not None:
        header = header if header is not None else sample[0] == list(names)
    elif header is None:
        header = _has_header(sample, width, expected)
    found = _names(name, sample[0], width, header, names, remarks)
    if separator != ",":
        remarks.append(f"the separator is {_SPOKEN.get(separator, separator)}")
    if not header:
        remarks.append(
            "no header" + ("" if names is not None else f": the columns are {found[0]} … {found[-1]}")
        )
    texts = {i for i, n in enumerate(found) if n in as_text}
    while True:
        builders = [_Builder(i in texts) for i in range(len(found))]
        again = lines.build(builders, bool(header), found)
        if not again:
            break
        texts |= again  # numbers first, words later: their texts are needed from the first row on
    columns = {n: b.column() for n, b in zip(found, builders, strict=True)}
    length = len(next(iter(columns.values())))
    if not length:
        msg = f"{name}: there is a header ({', '.join(found[:6])}{', …' if len(found) > 6 else ''}), and no rows"
        raise DataError(msg)
    titles = Counter(v.strip() for v in sample[0]) if header and names is None else {}
    repeated = frozenset(title for title, n in titles.items() if n > 1)
    return Frame(columns, length, remarks, bool(header) or names is not None, repeated)


_SPOKEN = {"\t": "a tab", ";": "a semicolon", "|": "a bar", " ": "white space"}


class _Lines:
    """The rows of a text, from the start as often as needed."""

    def __init__(self, text: str, start: int, name: str, separator: str, quote: str) -> None:
        self.text, self.start, self.name, self.separator, self.quote = text, start, name, separator, quote
        self.skip = 0
        """How many rows before the header say nothing."""
        self.reader: Any = None

    def rows(self) -> Iterator[list[str]]:
        """Rows from the header on, without empty lines."""
        return itertools.islice(self._all(), self.skip, None)

    def _all(self) -> Iterator[list[str]]:
        stream = io.StringIO(self.text, newline="")
        stream.seek(self.start)
        lines: Any = stream
        if self.separator == " ":
            lines = (line.replace("\t", " ").strip() for line in stream)
        before = csv.field_size_limit(2**31 - 1)
        try:
            self.reader = csv.reader(
                lines, delimiter=self.separator, quotechar=self.quote, skipinitialspace=True
            )
            row: list[str] = []
            for row in self.reader:
                if row:
                    yield row
            if row and "\n" in row[-1] and not self.text.rstrip().endswith(self.quote):
                begin = self.reader.line_num - row[-1].rstrip("\n").count("\n")
                msg = f"{self.name}: the quote that begins in line {begin} is not closed"
                raise DataError(msg)
        except csv.Error as error:
            msg = f"{self.name}: line {self.reader.line_num}: {error}"
            raise DataError(msg) from None
        finally:
            csv.field_size_limit(before)

    def build(self, builders: list[_Builder], header: bool, names: list[str]) -> set[int]:
        """Fill the columns; the numbers of those that must be read again as text."""
        rows = self.rows()
        if header:
            next(rows)
        width, again = len(builders), set()
        while chunk := list(itertools.islice(rows, _ROWS)):
            if set(map(len, chunk)) != {width}:
                chunk = self.mended(chunk, width, names)
            for i, (builder, entries) in enumerate(zip(builders, zip(*chunk, strict=True), strict=True)):
                if not builder.add(entries):
                    again.add(i)
        return again

    def mended(self, chunk: list[list[str]], width: int, names: list[str]) -> list[list[str]]:
        """Rows of one width: empty fields after the last are let go, others are an error."""
        out = []
        for row in chunk:
            if len(row) > width and not any(v.strip() for v in row[width:]):
                row = row[:width]
            if len(row) == 1 and width > 1 and not row[0].strip():  # a line of white space
                continue
            if len(row) != width:
                raise DataError(self.ragged(width, names))
            out.append(row)
        return out

    def ragged(self, width: int, names: list[str]) -> str:
        """The message for rows of another width: the first of them, with its line, and how many there are."""
        count, first = 0, ""
        rows = self.rows()
        for row in rows:
            more = len(row) > width and any(v.strip() for v in row[width:])
            if (more or len(row) < width) and not (len(row) == 1 and not row[0].strip()):
                count += 1
                first = (
                    first
                    or f"line {self.reader.line_num} has {len(row)} fields: {self.separator.join(row)!r:.80}"
                )
        more_of_them = f" ({count - 1} more such rows)" if count > 1 else ""
        return (
            f"{self.name}: expected {width} fields ({', '.join(names[:4])}{', …' if width > 4 else ''}) in each row, but {first}"
            f"{more_of_them}; quote fields that contain {self.separator!r}, or give separator="
        )


_CODE = re.compile(
    r"\n\s*[+-]?(?:0[0-9]|[0-9]{16,}[ \r]*(?:\n|$))"
)  # 007 is a code; a float does not hold more than 15 digits


class _Builder:
    """A column that grows: numbers as long as all are, else texts."""

    def __init__(self, text: bool) -> None:
        self.text = text
        self.found: Any = [] if text else array("d")
        self.memo: dict[str, str | None] = {}

    def add(self, entries: tuple[str, ...]) -> bool:
        """Take more entries; False where this column is to be read again as text."""
        if self.text:
            memo = self.memo
            for entry in entries:
                if entry not in memo:
                    clean = entry.strip()
                    memo[entry] = None if clean in MISSING else clean
            self.found += [memo[entry] for entry in entries]
            return True
        joined = "\n" + "\n".join(entries)
        values: Any = None
        if joined.isascii() and "_" not in joined and not _CODE.search(joined):  # float takes 1_000 and ٣
            try:
                values = array("d", map(float, entries))
            except ValueError:
                try:
                    values = array(
                        "d", [float("nan") if e.strip() in _NO_NUMBER else float(e) for e in entries]
                    )
                except ValueError:
                    values = None
        if values is None:
            first = not self.found
            self.text, self.found = True, []
            return self.add(entries) and first
        self.found += values
        return True

    def column(self) -> Column:
        """What was found."""
        if self.text:
            return Column("text", self.found)
        values = numbers(self.found)
        return Column("number", values, whole_numbers(values))


# ---- separator and header ----


def _separator(sample: str) -> str:
    """The separator that cuts the first lines into the same number of fields, of which there are most rows."""
    if "\n" in sample:
        sample = sample[: sample.rfind("\n")]
    best: tuple[float, int, str] = (0.0, 0, ",")
    for candidate in SEPARATORS:
        try:
            rows = [r for r in csv.reader(io.StringIO(sample, newline=""), delimiter=candidate) if r][:100]
        except csv.Error:
            continue
        if not rows:
            continue
        width, count = Counter(map(len, rows)).most_common(1)[0]
        if width > 1:
            alike = count / len(rows) - (0.2 if len(rows[0]) not in (width, width - 1) else 0.0)
            if alike > best[0] + 0.02:
                best = (alike, width, candidate)
    if best[0] >= 1:
        return best[2]
    rows = [line.split() for line in sample.splitlines() if line.strip()]
    widths = set(map(len, rows))
    if len(widths) == 1 and widths != {1} and len(rows) > 1 and all(map(_is_number, rows[-1])):
        return " "
    return best[2]


_SINGLE_QUOTED = re.compile(r"'[^'\n]*'(?:\s*[,;\t|]\s*'[^'\n]*')+\s*\n")
"""A first line of fields that are all between single quotes."""


def _first_rows(lines: _Lines, expected: Collection[str], remarks: list[str]) -> tuple[list[list[str]], int]:
    """The header, if there is one, and the rows below it, and how many fields a row has; what stands before is let go."""
    sample = list(itertools.islice(lines.rows(), 50))
    width = Counter(map(len, sample[1:] or sample)).most_common(1)[0][0]
    lines.skip = _preamble(sample, width, expected)
    if lines.skip:
        shown = " ".join(v for v in sample[0] if v)
        count = "a line" if lines.skip == 1 else f"{lines.skip} lines"
        remarks.append(f"{count} before the header let go ({shown!r:.60})")
        sample = sample[lines.skip :]
    sample[0] = _uncommented(sample[0], width)
    if all(len(r) <= len(sample[0]) or r[len(sample[0]) :] == [""] for r in sample[1:]):
        width = min(width, len(sample[0]))  # a separator after the last field
    return sample, width


def _preamble(sample: list[list[str]], width: int, expected: Collection[str]) -> int:
    """How many of the first rows are a title or comments, and no header: with one field where the others have several."""
    count = 0
    for row, below in itertools.pairwise(sample):
        alone = sum(bool(v.strip()) for v in row) <= 1
        comment = row[0].lstrip().startswith("#")
        titled = len(below) >= width and not any(map(_is_number, filter(str.strip, below)))
        if width < 2 or any(v.strip() in expected for v in row):
            break
        if not (comment and len(row) != width) and not (alone and (titled or len(below) == len(row) == 1)):
            break
        count += 1
    return count


def _uncommented(header: list[str], width: int) -> list[str]:
    """A header that is written as a comment, without its mark."""
    first = header[0].lstrip()
    return [first.lstrip("# "), *header[1:]] if first.startswith("#") and len(header) == width else header


def _is_number(text: str) -> bool:
    try:
        float(text.strip().replace(",", ".", 1))
    except ValueError:
        return text.strip() in _NO_NUMBER
    return True


def _has_header(sample: list[list[str]], width: int, expected: Collection[str]) -> bool:
    """Whether the first row names the columns: it has an expected name, or words above numbers, or no number at all."""
    first, rest = [v.strip() for v in sample[0]], sample[1:]
    if any(v in expected for v in first):
        return True
    if not rest:
        return not any(_is_number(v) and v for v in first)
    if len(first) == width - 1:
        return True
    words = [i for i, v in enumerate(first) if v and not _is_number(v)]
    if not words:
        return False
    below = [[row[i] for row in rest if i < len(row)] for i in words]
    if any(all(map(_is_number, column)) for column in below):
        return True
    if len(words) < len([v for v in first if v]):  # a number among the words, and words below them
        return False
    return all(first[i] not in column for i, column in zip(words, below, strict=True))


def _names(
    name: str, first: list[str], width: int, header: bool, names: Sequence[str] | None, remarks: list[str]
) -> list[str]:
    if names is not None:
        if len(names) != width:
            msg = f"{name}: names= must have {width} names, as a row has fields, got {len(names)}"
            raise DataError(msg)
        return unique_names(names, remarks)
    if not header:
        return [f"column_{i + 1}" for i in range(width)]
    while len(first) > width and not first[-1].strip():
        first = first[:-1]
    if len(first) == width - 1 and first:
        remarks.append(
            "the header has one name less than the rows have fields: the first are the names of the rows"
        )
        return unique_names(["row", *first], remarks)
    return unique_names(first, remarks)
