"""What texts mean: numbers as people write them, dates, yes and no."""

from __future__ import annotations

import datetime
import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from anynet.data.table.frame import EPOCH, EXACT, HOST, Column, numbers, whole_numbers

__all__ = ["BOOLEANS", "dated", "interpreted", "read_as"]

BOOLEANS = (
    ("false", "true"), ("no", "yes"), ("f", "t"), ("n", "y"), ("off", "on"), ("nein", "ja"), ("non", "oui"), ("no", "sí"), ("no", "si"),
    ("falsch", "wahr"), ("faux", "vrai"), ("falso", "verdadero"),
)  # fmt: skip
"""Words for 0 and 1, without regard to case."""

_FAMILIES = (
    (("no", "n"), ("yes", "y")),
    (("false", "f"), ("true", "t")),
    (("off",), ("on",)),
    (("0",), ("1",)),
)
"""English words that a column may mix: each family has both sides, or is not there."""


def _mixed_booleans(words: set[str]) -> dict[str, float] | None:
    """What each word means, where a column spells yes and no in several ways."""
    found: dict[str, float] = {}
    for family in _FAMILIES:
        sides = [words & set(side) for side in family]
        if any(sides) and not all(sides):
            return None
        for value, side in enumerate(sides):
            found |= dict.fromkeys(side, float(value))
    return found if words and set(found) == words and words != {"0", "1"} else None


# ---- numbers ----

_MARKS = re.compile(
    r"^([+−-]?)\s*(?:[$€£¥₹]|USD|EUR|GBP|CHF)?\s*([+−-]?)(.*?)\s*(?:[$€£¥₹%]|USD|EUR|GBP|CHF)?$"
)
_POINT = re.compile(r"^(?:\d{1,3}(?:,\d{3})+|\d+)?(?:\.\d*)?(?:[eE][+-]?\d+)?$")
_COMMA = re.compile(r"^(?:\d{1,3}(?:[. '’\u00a0\u202f]\d{3})+|\d+)?(?:,\d*)?(?:[eE][+-]?\d+)?$")


def _number(text: str, comma: bool) -> float | None:
    """A number with a sign of currency, per cent, and marks between thousands; None where it is none."""
    negative = text.startswith("(") and text.endswith(")")  # (1,200) of accountants
    found = _MARKS.match(text[1:-1] if negative else text)
    if found is None:
        return None
    body = found.group(3)
    if not (_COMMA if comma else _POINT).match(body) or not any(c.isdigit() for c in body):
        return None
    body = re.sub(r"[. '’\u00a0\u202f]", "", body).replace(",", ".") if comma else body.replace(",", "")
    try:
        value = float(body)
    except ValueError:
        return None
    minus = found.group(1) + found.group(2)
    return -value if negative or "-" in minus or "−" in minus else value


_EITHER = re.compile(r"[+−-]?(?:\d+(?:[.,](?:\d{1,2}|\d{4,}))?|0[.,]\d{3})")


def _either(text: str) -> float | None:
    """A number whose mark can only be the one of decimals, a point or a comma: no three digits follow it."""
    return float(text.replace(",", ".").replace("−", "-")) if _EITHER.fullmatch(text) else None


_CODE = re.compile(r"[+-]?0\d+$")  # 007 is a code


def _plain(text: str) -> float | None:
    if "_" in text or _CODE.match(text):
        return None
    try:
        return float(text)
    except ValueError:
        return None


_NUMBERS: dict[str, Callable[[str], float | None]] = {
    "number": _plain,
    "number, decimal point": lambda t: _number(t, False),
    "number, decimal comma": lambda t: _number(t, True),
    "number, decimal point or comma": _either,
}

_UNIT = re.compile(r"[\d.,]\s?([^\W\d_]{1,12}[²³]?|°[CFK]?|[^\W\d_]{1,6}/[^\W\d_]{1,6}[²³]?)$")


def _unit(counts: Counter[str]) -> str:
    """The unit that all numbers of a column end with, as in "12 kg"; "" where there is none."""
    units = {found[1] if (found := _UNIT.search(v)) else "" for v in counts if any(c.isdigit() for c in v)}
    return units.pop() if len(units) == 1 else ""


def _without(unit: str, read: Callable[[str], float | None]) -> Callable[[str], float | None]:
    return lambda text: read(text.removesuffix(unit).rstrip())


# ---- dates ----

_DATES = (
    "%Y-%m-%d", "%Y/%m/%d", "%Y-%m", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%m-%d-%Y", "%d-%m-%Y", "%d.%m.%y", "%m/%d/%y", "%d/%m/%y",
    "%b %d %Y", "%b %d, %Y", "%d %b %Y", "%d-%b-%Y", "%d-%b-%y", "%b %Y", "%B %d, %Y", "%B %d %Y", "%d %B %Y", "%B %Y", "%d. %B %Y",
    "%Y.%m.%d", "%a %b %d %H:%M:%S %Y", "%Y-%m-%d %H:%M:%S.%f",
)  # fmt: skip
_TIMES = ("", " %H:%M", " %H:%M:%S", " %I:%M %p", " %I:%M:%S %p")


def _iso(text: str) -> float | None:
    if len(text) < 10 or not text[:4].isdigit():
        return None
    try:
        return _seconds(datetime.datetime.fromisoformat(text))
    except ValueError:
        return None


def _strptime(form: str) -> Callable[[str], float | None]:
    def read(text: str) -> float | None:
        try:
            return _seconds(datetime.datetime.strptime(text, form))
        except ValueError:
            return None

    return read


def _seconds(when: datetime.datetime) -> float:
    return (when.replace(tzinfo=None) - EPOCH) / datetime.timedelta(seconds=1)


def _date_forms() -> Iterable[tuple[str, Callable[[str], float | None]]]:
    yield "ISO", _iso
    for day in _DATES:
        for time in _TIMES if "%H" not in day else ("",):
            yield day + time, _strptime(day + time)
    for time in _TIMES[1:]:
        yield time.strip(), _strptime(time.strip())


# ---- columns ----

_FEW_WORDS = 0.1
"""The largest share of the entries that may be words in a column of numbers."""


def _reader(form: str) -> Callable[[str], float | None]:
    head, _, unit = form.partition(" in ")
    if head in _NUMBERS:
        return _without(unit, _NUMBERS[head]) if unit else _NUMBERS[head]
    return _iso if form == "ISO" else _strptime(form)


def interpreted(name: str, column: Column, remarks: list[str]) -> Column:
    """A column of texts as numbers, booleans or dates where (nearly) all are such; else as it is."""
    if column.kind != "text" or column.categorical:
        return column
    counts = Counter(v for v in column.values if v is not None)
    if not counts:
        return Column("number", numbers([math.nan] * len(column)))
    words = {v.lower() for v in counts}
    for pair in BOOLEANS:
        if words == set(pair) or (len(words) == 1 and pair[0] == "false" and words <= set(pair)):
            return _read(column, {v: float(pair.index(v.lower())) for v in counts}, "boolean", "/".join(pair))
    if (mixed := _mixed_booleans(words)) is not None:
        return _read(column, {v: mixed[v.lower()] for v in counts}, "boolean", "yes/no in several spellings")
    probe = [v for v, _ in counts.most_common(40)]
    found = None
    if any(c.isdigit() for v in probe[:20] for c in v):
        found = _as_numbers(name, column, counts, remarks)
        dated = sum(len(v) < 40 and sum(map(str.isdigit, v)) >= 3 for v in probe)
        if found is None and dated >= (1 - _FEW_WORDS) * len(probe):
            found = _as_dates(name, column, counts, probe, remarks)
    return column if found is None else found


def _as_numbers(name: str, column: Column, counts: Counter[str], remarks: list[str]) -> Column | None:
    total = sum(counts.values())
    if any(_CODE.match(v) for v in counts):
        return None
    unit = _unit(counts)
    for form in [f"{f} in {unit}" for f in _NUMBERS] if unit else list(_NUMBERS):
        read = _reader(form)
        table = {v: read(v) for v in counts}
        words = [v for v, x in table.items() if x is None]
        if any(c.isdigit() for v in words for c in v):  # another form, or codes
            continue
        if len(words) == len(table) or sum(counts[w] for w in words) > _FEW_WORDS * total:
            continue
        if _too_long(table):
            return None
        if words:
            shown = ", ".join(map(repr, words[:3]))
            count = sum(counts[w] for w in words)
            remarks.append(f"{name}: {count} of {total} entries are no numbers ({shown}): taken as missing")
        elif form != "number":
            remarks.append(
                f"{name}: read as {form.replace(', ', ' with ')}, for example {next(iter(counts))!r}"
            )
        known = {v: math.nan if x is None else x for v, x in table.items()}
        spelled = "|".join([form, *sorted(words)])
        return _read(column, known, "number", spelled)
    return None


def _too_long(table: Mapping[str, float | None]) -> bool:
    """Whether these are codes: whole numbers of so many digits that different ones would be the same float."""
    long = [v for v, x in table.items() if x is not None and abs(x) > EXACT and v.lstrip("+-").isdigit()]
    return len({table[v] for v in long}) < len(long)


def _as_dates(
    name: str, column: Column, counts: Counter[str], probe: list[str], remarks: list[str]
) -> Column | None:
    found = _one_form(counts, probe) or _several_forms(counts)
    if found is None:
        return None
    forms, known, ambiguous = found
    words = [v for v in counts if v not in known]
    if ambiguous:
        remarks.append(f"{name}: {next(iter(known))!r} is read with the month first ({forms[0]})")
    if len(forms) > 1:
        remarks.append(f"{name}: dates written in {len(forms)} ways ({', '.join(forms)})")
    if words:
        count, total = sum(counts[w] for w in words), sum(counts.values())
        remarks.append(f"{name}: {count} of {total} entries are no dates ({words[0]!r}): taken as missing")
    table = {v: known.get(v, math.nan) for v in counts}
    return _read(column, table, "date", "|".join([forms[0], *sorted(words)]))


_Dates = tuple[list[str], dict[str, float], bool]


def _one_form(counts: Counter[str], probe: list[str]) -> _Dates | None:
    """The form in which (nearly) all are dates, what they are, and whether another form would say the same of them."""
    fitting: list[tuple[str, dict[str, float]]] = []
    likely = [v for v in probe if sum(map(str.isdigit, v)) >= 3][:40]
    for form, read in _date_forms():
        if any(read(v) is None for v in likely[: len(likely) // 2 + 1]):
            continue
        table = {v: x for v in counts if (x := read(v)) is not None}
        if _nearly_all(counts, table):
            fitting.append((form, table))
            if len(fitting) == 2 or form == "ISO" or ("%m/%d" not in form and "%m-%d-" not in form):
                break
    return ([fitting[0][0]], fitting[0][1], len(fitting) == 2) if fitting else None


def _several_forms(counts: Counter[str]) -> _Dates | None:
    """Up to three forms that are told apart by how they look, where one does not do; not the month first here and second there."""
    known: dict[str, float] = {}
    forms: list[str] = []
    for _ in range(3):
        rest = Counter({v: n for v, n in counts.items() if v not in known})
        best: tuple[int, str, dict[str, float]] = (0, "", {})
        for form, read in _date_forms():
            table = {v: x for v in rest if (x := read(v)) is not None}
            covered = sum(rest[v] for v in table)
            if covered > best[0]:
                best = (covered, form, table)
        if not best[0]:
            break
        forms.append(best[1])
        known |= best[2]
        if _nearly_all(counts, known):
            twins = {f.replace("%d", "%m") for f in forms}
            return (forms, known, False) if len(twins) == len(forms) else None
    return None


def _nearly_all(counts: Counter[str], known: Mapping[str, float]) -> bool:
    """Whether all are dates but for a few words such as "unknown", or "0000-00-00"."""
    rest = [v for v in counts if v not in known]
    words = all(not any(c.isdigit() and c != "0" for c in v) for v in rest)
    return bool(known) and words and sum(counts[v] for v in rest) <= _FEW_WORDS * sum(counts.values())


_DIGITS = "%Y%m%d"
_CENTURIES = (19000101, 21001231)


def dated(name: str, column: Column, remarks: list[str]) -> Column:
    """A column of whole numbers as dates where all are one, as 20240131 is; else as it is."""
    if column.kind != "number" or not column.whole or not _among_dates(column):
        return column
    known = column.values[~HOST.isnan(column.values)]
    distinct = [int(v) for v in HOST.unique_values(known).tolist()]
    read = _strptime(_DIGITS)
    table = {v: read(str(v)) for v in distinct}
    if len(distinct) < 5 or any(x is None for x in table.values()):
        return column
    remarks.append(f"{name}: {distinct[0]} and the like are read as dates")
    return _digits_as_dates(column)


def _among_dates(column: Column) -> bool:
    known = column.values[~HOST.isnan(column.values)]
    low, high = _CENTURIES
    return bool(known.shape[0]) and low <= float(HOST.min(known)) and float(HOST.max(known)) <= high


def _digits_as_dates(column: Column) -> Column:
    read = _strptime(_DIGITS)
    found = [math.nan if v != v else read(str(int(v))) for v in column.values.tolist()]
    return Column("date", numbers([math.nan if v is None else v for v in found]), form=_DIGITS)


def _read(column: Column, table: dict[str, float], kind: Any, form: str) -> Column:
    found = numbers([math.nan if v is None else table[v] for v in column.values])
    return Column(kind, found, kind == "number" and whole_numbers(found), form=form)


def read_as(where: str, name: str, column: Column, kind: str, form: str | None) -> Column:
    """A column of new data as the kind that it had when the table was made; ValueError names the entry that cannot be."""
    if column.kind == kind:
        return column
    if column.kind in ("number", "boolean") and kind in ("number", "boolean"):
        return Column(kind, column.values, column.whole)  # type: ignore[arg-type]
    if column.kind == "number" and form == _DIGITS:
        return _digits_as_dates(column)
    if column.kind == "number" and bool(_all_missing(column)):
        return Column(kind, column.values)  # type: ignore[arg-type]
    if column.kind == "text":
        return Column(kind, numbers(_entries(where, name, column.values, kind, form)))  # type: ignore[arg-type]
    msg = f"{where}: the column {name!r} was a {kind}, got {column.kind}s such as {_example(column)!r}"
    raise ValueError(msg)


def _entries(where: str, name: str, values: list[str | None], kind: str, form: str | None) -> list[float]:
    table: dict[str | None, float] = {None: math.nan}
    head, *missing = (form or "").split("|")
    table |= dict.fromkeys(missing, math.nan)
    readers: list[Callable[[str], float | None]] = []
    if kind == "boolean":
        for false, true in BOOLEANS:  # every spelling, whatever the training data had
            readers.append(lambda v, f=false, t=true: {f: 0.0, t: 1.0, "0": 0.0, "1": 1.0}.get(v.lower()))  # type: ignore[misc]
    elif kind == "number":
        readers = [_reader(head)] if head.startswith("number") else []
        readers += list(_NUMBERS.values())
    else:
        readers = ([_reader(head)] if head else []) + [read for _, read in _date_forms()]
    for row, value in enumerate(values):
        if value not in table:
            assert value is not None
            found = next((x for read in readers if (x := read(value)) is not None), None)
            if found is None:
                msg = f"{where}: the column {name!r} is a {kind}, but row {row + 1} has {value!r}"
                raise ValueError(msg)
            table[value] = found
    return [table[v] for v in values]


def _all_missing(column: Column) -> bool:
    return all(v != v for v in column.values.tolist())


def _example(column: Column) -> Any:
    return next((v for v in column.labels() if v is not None), None)
