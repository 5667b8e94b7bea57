"""`anynet.data.Table`: what is found in tables of every kind, what travels with a model, and that nothing of the held-out rows leaks."""

from __future__ import annotations

import datetime
import gzip
import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import anynet as an
from anynet.data import DataError, Table
from anynet.data.source import preprocessing_from_json
from anynet.data.table.interpretation import interpreted
from anynet.data.table.reading import read_table
from optional_libraries import needs

rng = np.random.default_rng(0)


def write(folder, text, name="table.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def column(path, name, **options):
    return read_table(path, **options).columns[name]


def houses(n=60):
    rows = np.random.default_rng(1)
    size = rows.uniform(40, 200, n)
    town = rows.choice(["A", "B", "C"], n)
    price = size * 2 + np.where(town == "A", 100.0, 0.0)
    return {"size": size.tolist(), "town": town.tolist(), "price": price.tolist()}


# ----- files -----


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_the_separator_is_found(tmp_path, separator, newline):
    lines = ["a,b,c", "1,x,2.5", "2,y,3.5", "3,z,4.5"]
    path = write(tmp_path, newline.join(line.replace(",", separator) for line in lines) + newline)
    frame = read_table(path)
    assert list(frame.columns) == ["a", "b", "c"]
    assert frame.columns["a"].values.tolist() == [1, 2, 3]
    assert frame.columns["a"].values.dtype == np.float64
    assert frame.columns["b"].values == ["x", "y", "z"]
    assert frame.columns["c"].values.tolist() == [2.5, 3.5, 4.5]


def test_columns_between_white_space(tmp_path):
    frame = read_table(write(tmp_path, " 1.0   2.0\t3\n 4.0 5.0   6\n", "data.txt"))
    assert [c.values.tolist() for c in frame.columns.values()] == [[1, 4], [2, 5], [3, 6]]


def test_gzip_bom_and_quotes(tmp_path):
    text = '\ufeffname,note,x\n"A, B","said ""yes""\nand no",1\nC,,2\n'
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(text.encode()))
    frame = read_table(path)
    assert list(frame.columns) == ["name", "note", "x"]
    assert frame.columns["name"].values == ["A, B", "C"]
    assert frame.columns["note"].values == ['said "yes"\nand no', None]


def test_a_gzip_file_that_is_cut_short(tmp_path):
    path = tmp_path / "t.csv.gz"
    path.write_bytes(gzip.compress(b"a,b\n" + b"1,2\n" * 999)[:-12])
    with pytest.raises(DataError, match="damaged or cut short"):
        read_table(path)


@pytest.mark.parametrize(
    ("encoding", "said"), [("utf-8", None), ("cp1252", "cp1252"), ("utf-16", None), ("utf-8-sig", None)]
)
def test_encodings(tmp_path, encoding, said):
    frame = read_table(write(tmp_path, "town,x\nMünchen,1\nKöln,2\n", encoding=encoding))
    assert frame.columns["town"].values == ["München", "Köln"]
    assert any("not UTF-8" in r and said in r for r in frame.remarks) if said else not frame.remarks


def test_an_encoding_that_is_given(tmp_path):
    path = write(tmp_path, "town,x\nИваново,1\n", encoding="koi8-r")
    assert column(path, "town", encoding="koi8-r").values == ["Иваново"]
    with pytest.raises(ValueError, match="unknown encoding"):
        read_table(path, encoding="klingon")
    with pytest.raises(DataError, match="line 2 is not utf-8"):
        read_table(path, encoding="utf-8")


def test_decimal_commas_and_thousands(tmp_path):
    path = write(tmp_path, 'a;b;c\n1,5;"1.234,5";"$1,200"\n2,25;7,0;"($30)"\n3,5;-1,0;$5\n')
    table = Table(path, target="a", valid=0)
    assert table.rows()["a"] == [1.5, 2.25, 3.5]
    assert table.rows()["b"] == [1234.5, 7.0, -1.0]
    assert table.rows()["c"] == [1200, -30, 5]
    assert any("decimal comma" in r for r in table.remarks)


def test_a_decimal_comma_stays_one_in_new_rows(tmp_path):
    rows = "\n".join(f"{i},5;{i % 7}" for i in range(40))
    table = Table(write(tmp_path, "x;y\n" + rows + "\n"), target="y", task="regression")
    new = table.encode(write(tmp_path, "x;y\n1.000;0\n", "new.csv"))
    assert np.allclose(new, table.encode([{"x": 1000.0}]))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("1,2\n3,4\n", ["column_1", "column_2"]),
        ("a,b\nx,y\nz,w\n", ["a", "b"]),
        ("red,1\nblue,2\nred,3\n", ["column_1", "column_2"]),
        ("a,a,\n1,2,3\n4,5,6\n", ["a", "a.1", "unnamed_3"]),
        ("x,y\nr1,1,2\nr2,3,4\n", ["row", "x", "y"]),
        ("sep=;\na;b\n1;2\n", ["a", "b"]),
    ],
)
def test_headers(tmp_path, text, names):
    assert list(read_table(write(tmp_path, text)).columns) == names


def test_names_are_given_for_a_file_without_a_header(tmp_path):
    path = write(tmp_path, "1,2\n3,4\n5,9\n")
    table = Table(path, target="y", names=["x", "y"], valid=0)
    assert table.rows() == {"x": [1, 3, 5], "y": [2, 4, 9]}
    assert Table(path, target=-1, header=False, valid=0).targets == ["column_2"]
    assert table.encode(write(tmp_path, "3\n", "new.csv")).shape == (1, 1)
    with pytest.raises(DataError, match="names= must have 2 names"):
        Table(path, target="y", names=["x", "y", "z"])


def test_a_quote_that_is_not_closed(tmp_path):
    path = write(tmp_path, 'a,b\n1,2\n3,"four\n5,6\n7,8\n')
    with pytest.raises(DataError, match="the quote that begins in line 3 is not closed"):
        read_table(path)


def test_ragged_rows_are_named_by_their_line(tmp_path):
    path = write(tmp_path, 'a,b,c\n1,2,3\n"x\ny",5,6\n7,8\n9,10\n')
    with pytest.raises(
        DataError, match=r"expected 3 fields \(a, b, c\).*line 5 has 2 fields: '7,8' \(1 more"
    ):
        read_table(path)


def test_empty_lines_and_empty_fields_at_the_end_are_let_go(tmp_path):
    frame = read_table(write(tmp_path, "a,b\n1,2,\n\n3,4\n   \n"))
    assert frame.columns["b"].values.tolist() == [2, 4]


@pytest.mark.parametrize(
    ("text", "said"),
    [("", "is empty"), (" \n\n", "is empty"), ("\ufeff", "is empty"), ("a,b\n", "no rows")],
)
def test_empty_files(tmp_path, text, said):
    with pytest.raises(DataError, match=said):
        read_table(write(tmp_path, text))


def test_other_files_are_named(tmp_path):
    path = tmp_path / "t.xlsx"
    path.write_bytes(b"PK\x03\x04" + b"\x00" * 99)
    with pytest.raises(DataError, match="Excel"):
        read_table(path)
    path.write_bytes(b"\x01\x02\x00\x03" * 99)
    with pytest.raises(DataError, match="binary"):
        read_table(path)
    with pytest.raises(FileNotFoundError, match="there is no file"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(IsADirectoryError, match="folder"):
        read_table(tmp_path)


def test_thousands_of_columns_and_a_huge_field(tmp_path):
    n = 5000
    lines = [",".join(f"c{i}" for i in range(n)), ",".join(map(str, range(n))), ",".join(map(str, range(n)))]
    assert len(read_table(write(tmp_path, "\n".join(lines))).columns) == n
    text = "a,b\n1," + "x" * 300_000 + "\n2,y\n"
    assert len(column(write(tmp_path, text), "b").values[0]) == 300_000


def test_missing_spellings(tmp_path):
    words = ["", "NA", "N/A", "nan", "NULL", "?", "None", "<NA>", "#N/A"]
    path = write(tmp_path, "x,t\n" + "\n".join(f"{w},{w}" for w in words) + "\n-,-\n1,a\n")
    frame = read_table(path, header=True)
    assert np.isnan(frame.columns["x"].values).tolist() == [True] * 10 + [False]
    assert frame.columns["t"].values == [None] * 9 + ["-", "a"]


def test_texts_that_float_would_take_are_texts(tmp_path):
    path = write(tmp_path, "zip,u\n01234,1_000\n98765,2_000\n")
    frame = read_table(path)
    assert interpreted("zip", frame.columns["zip"], []).kind == "text"
    assert frame.columns["zip"].values == ["01234", "98765"]
    assert frame.columns["u"].values == ["1_000", "2_000"]


def test_words_after_many_numbers(tmp_path):
    numbers = "".join(f"{i}\n" for i in range(45_000))
    found = column(write(tmp_path, "x\n" + numbers + "end\n"), "x", header=True)
    assert (found.kind, found.values[0], found.values[-1]) == ("text", "0", "end")


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(blacklist_categories=("Cs",), blacklist_characters="\x00\r"), max_size=8),
            st.floats(allow_nan=False, width=32),
        ),
        min_size=1,
        max_size=8,
    ),
    st.sampled_from([",", ";", "\t", "|"]),
)
def test_what_csv_writes_is_read_again(rows, separator):
    import csv
    import io

    from anynet.data.table.delimited import MISSING, read_text

    out = io.StringIO()
    writer = csv.writer(out, delimiter=separator, quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["text", "number"])
    writer.writerows(rows)
    frame = read_text(out.getvalue(), "t", separator=separator, header=True, as_text=["text"])
    expected = [None if t.strip() in MISSING else t.strip() for t, _ in rows]
    assert frame.columns["text"].values == expected
    assert frame.columns["number"].values.tolist() == [x for _, x in rows]


# ----- in memory -----


def test_every_form_gives_the_same_columns(tmp_path):
    data = {"x": [1.5, 2.0, None], "t": ["a", None, "b"], "y": [1, 2, 3]}
    rows = [dict(zip(data, r, strict=True)) for r in zip(*data.values(), strict=True)]
    structured = np.array(
        [(1.5, "a", 1), (2.0, "", 2), (np.nan, "b", 3)], dtype=[("x", "f8"), ("t", "U1"), ("y", "i8")]
    )
    csv = write(tmp_path, "x,t,y\n1.5,a,1\n2,,2\n,b,3\n")
    arrays = {"x": np.array([1.5, 2.0, np.nan]), "t": ["a", None, "b"], "y": an.asarray([1, 2, 3])}
    for source in (data, rows, structured, csv, arrays):
        frame = read_table(source)
        assert list(frame.columns) == ["x", "t", "y"]
        assert frame.columns["x"].labels() == [1.5, 2.0, None]
        assert frame.columns["t"].labels() == ["a", None, "b"]
        assert frame.columns["y"].labels() == [1, 2, 3]


def frames():
    when = [datetime.datetime(2020, 1, 1), None, datetime.datetime(2021, 6, 1, 12)]
    return {
        "n": [1, None, 3],
        "x": [0.5, 1.5, None],
        "t": ["a", "b", None],
        "b": [True, None, False],
        "d": when,
    }


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_dataframes(library):
    needs("narwhals", "tables")
    made = needs(library, "product")
    data = frames()
    frame = read_table(made.table(data) if library == "pyarrow" else made.DataFrame(data))
    assert frame.columns["n"].labels() == [1, None, 3]
    assert frame.columns["x"].labels() == [0.5, 1.5, None]
    assert frame.columns["t"].labels() == ["a", "b", None]
    assert frame.columns["b"].labels() == [True, None, False]
    assert frame.columns["d"].labels() == ["2020-01-01", None, "2021-06-01 12:00:00"]


def test_pandas_own_types():
    needs("narwhals", "tables")
    pd = needs("pandas", "product")
    df = pd.DataFrame(
        {
            "i": pd.array([1, None, 3], dtype="Int64"),
            "b": pd.array([True, None, False], dtype="boolean"),
            "c": pd.Categorical([7, 8, 7]),
            "z": pd.to_datetime(["2020-01-01 10:00", None, "2020-01-02 11:00"]).tz_localize("Europe/Berlin"),
            "o": [1, "two", None],
        },
        index=[10, 20, 30],
    )
    frame = read_table(df)
    assert frame.columns["i"].labels() == [1, None, 3]
    assert frame.columns["b"].labels() == [True, None, False]
    assert frame.columns["c"].labels() == ["7", "8", "7"]
    assert frame.columns["c"].categorical
    assert frame.columns["z"].labels() == ["2020-01-01 10:00:00", None, "2020-01-02 11:00:00"]
    assert frame.columns["o"].labels() == ["1", "two", None]


def test_times_durations_and_periods():
    needs("narwhals", "tables")
    pd = needs("pandas", "product")
    at = [datetime.time(7, 30), datetime.time(18, 45), None] * 10
    lasts = pd.to_timedelta([60.0, None, 90.0] * 10, unit="s")
    month = pd.period_range("2020-01", periods=30, freq="M")
    df = pd.DataFrame({"at": at, "lasts": lasts, "month": month, "y": np.arange(30.0)})
    table = Table(df, target="y", valid=0)
    kinds = {e.name: e.type for e in table.preprocessing.encoders}
    assert kinds == {"at": "date", "lasts": "number", "month": "date"}
    assert table.rows()["lasts"][:3] == [60, None, 90]
    assert table.rows()["month"][:2] == ["2020-01-01", "2020-02-01"]
    assert table.preprocessing.encoders[0].parts == ["elapsed", "sine of the day", "cosine of the day"]


def test_parquet(tmp_path):
    needs("narwhals", "tables")
    pa = needs("pyarrow", "product")
    parquet = needs("pyarrow.parquet", "product")
    parquet.write_table(pa.table(frames()), tmp_path / "t.parquet")
    assert read_table(tmp_path / "t.parquet").columns["t"].labels() == ["a", "b", None]
    (tmp_path / "bad.parquet").write_bytes(b"PAR1nonsense")
    with pytest.raises(DataError, match="not a Parquet file"):
        read_table(tmp_path / "bad.parquet")


class DataFrame:  # as a library's own, where narwhals is not installed
    columns = ("a",)


def test_a_dataframe_without_narwhals_names_the_extra(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "narwhals", None)
    with pytest.raises(ModuleNotFoundError, match=r"anynet-nn\[tables\]"):
        read_table(DataFrame())


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (3, "expected the path"),
        ([], "is empty"),
        ({}, "no columns"),
        ({"a": [1, 2], "b": [1]}, "'b' 1"),
        ({"a": [1], "b": 2}, "'b' is a single value"),
        ([{"a": 1}, 2], "dicts or rows"),
        ([[1, 2], [3]], "row 2 has 1 entries"),
        (np.zeros(3), "2 axes"),
        ({"a": [object()]}, "'a' must hold numbers"),
        ({"a": np.zeros((2, 2))}, "one value for each row"),
        ("a,b\n1,2\n", "several lines"),
    ],
)
def test_what_is_no_table(source, said):
    with pytest.raises((TypeError, ValueError), match=said):
        read_table(source)


# ----- what columns are -----


def messy(n=200):
    r = np.random.default_rng(5)
    day = datetime.datetime(2020, 1, 1)
    return {
        "id": list(range(n)),
        "code": [f"K{i:05}" for i in range(n)],
        "note": [f"some longer remark number {i} about it" for i in range(n)],
        "size": [None if i % 10 == 0 else float(v) for i, v in enumerate(r.normal(50, 9, n))],
        "rooms": r.integers(1, 5, n).tolist(),
        "town": [["A", "B", "C", None][i % 4] for i in range(n)],
        "sold": [(day + datetime.timedelta(days=int(i))).date() for i in r.integers(0, 900, n)],
        "new": [bool(i % 3 == 0) for i in range(n)],
        "same": ["x"] * n,
        "none": [None] * n,
        "price": r.normal(100, 20, n).tolist(),
    }


def test_types_are_found_and_said():
    table = Table(messy(), target="price")
    kinds = {e.name: e.type for e in table.preprocessing.encoders}
    assert kinds == {
        "size": "number",
        "rooms": "number",
        "town": "category",
        "sold": "date",
        "new": "boolean",
    }
    assert set(table.preprocessing.ignored) == {"id", "code", "note", "same", "none"}
    said = table.describe()
    for words in (
        "identifier",
        "free text",
        "is empty",
        "'x' in every row",
        "category of 3 values: A, B, C",
        "some missing",
    ):
        assert words in said
    assert "<table>" in table._repr_html_()
    numbers, categories = table.train.tree[0]
    assert (numbers.dtype, categories.dtype) == (np.float32, np.int64)
    assert numbers.shape == (160, len(table.preprocessing.number_names))
    assert np.isfinite(numbers).all()


def test_very_many_columns_are_described_together():
    table = Table(rng.normal(size=(30, 400)), target=-1)
    lines = table.describe().splitlines()
    assert len(lines) == 103
    assert "column_400" in lines[-2]
    assert lines[-1].split() == ["…", "400", "columns:", "399", "number"]


def test_categories_that_are_asked_for():
    data = messy()
    table = Table(data, target="price", categorical=["rooms", "code"], ignore="size")
    kinds = {e.name: e.type for e in table.preprocessing.encoders}
    assert kinds["rooms"] == kinds["code"] == "category"
    assert "size" not in kinds
    assert "as asked" in table.describe()


def test_numbers_are_standardised_and_robust():
    x = np.concatenate([rng.normal(7, 3, 500), [np.inf, -np.inf, 1e300, np.nan]])
    table = Table({"x": x, "y": np.arange(504.0)}, target="y", valid=0)
    found = table.train.tree[0]
    assert table.preprocessing.number_names == ["x", "x is missing"]
    assert np.isfinite(found).all()
    assert abs(found[:, 0].mean()) < 1e-6
    assert abs(found[:, 0].std() - 1) < 1e-6
    assert found[-1].tolist()[1] == 1.0
    order = np.argsort(x[:500])
    assert (np.diff(found[:500, 0][order]) >= 0).all()


def test_dates_become_parts():
    days = [datetime.datetime(1999, 12, 31, 6) + datetime.timedelta(days=i, hours=i % 24) for i in range(800)]
    table = Table({"d": days, "y": range(800)}, target="y", valid=0)
    found = dict(zip(table.preprocessing.number_names, table.train.tree[0].T, strict=True))
    assert np.allclose(found["d: year"], [(d.year - 2000) / 10 for d in days])
    assert np.allclose(found["d: day of the month"], [(d.day - 15) / 9 for d in days])
    assert np.allclose(found["d: weekend"], [1.0 if d.weekday() >= 5 else -1.0 for d in days])
    angle = np.asarray([2 * math.pi * (d.hour / 24) for d in days])
    assert np.allclose(found["d: sine of the day"], np.sin(angle), atol=1e-6)


def test_months_have_no_days_of_the_week():
    months = [datetime.date(2000 + i // 12, i % 12 + 1, 1) for i in range(60)]
    table = Table({"d": months, "y": np.arange(60.0)}, target="y", valid=0)
    assert table.preprocessing.encoders[0].parts == [
        "elapsed",
        "year",
        "sine of the year",
        "cosine of the year",
    ]


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d",
        "%d.%m.%Y",
        "%m/%d/%Y",
        "%Y-%m-%dT%H:%M:%S",
        "%Y-%m-%dT%H:%M:%S+02:00",
        "%b %d %Y",
        "%d %B %Y",
        "%Y/%m/%d %H:%M",
        "%d-%b-%y",
    ],
)
def test_dates_as_texts(tmp_path, form):
    days = [datetime.datetime(2011, 3, 5) + datetime.timedelta(days=17 * i) for i in range(60)]
    text = "d,y\n" + "\n".join(f"{d.strftime(form)},{i}" for i, d in enumerate(days)) + "\n"
    table = Table(write(tmp_path, text), target="y", task="regression", valid=0)
    assert table.preprocessing.encoders[0].type == "date"
    assert [v[:10] for v in table.rows()["d"]] == [d.date().isoformat() for d in days]


def test_words_for_yes_and_no(tmp_path):
    text = "a,y\n" + "\n".join(f"{['Yes', 'no', '?'][i % 3]},{i}" for i in range(60))
    table = Table(write(tmp_path, text), target="y", task="regression", valid=0)
    assert table.train.tree[0][:3].tolist() == [[1, 0], [-1, 0], [0, 1]]
    assert table.encode([{"a": "NO"}, {"a": True}]).tolist() == [[-1, 0], [1, 0]]


def test_a_few_words_among_numbers_are_missing_and_said(tmp_path):
    text = "x,y\n" + "\n".join(f"{'n.a.' if i == 7 else i * 1.5},{i}" for i in range(60)) + "\n"
    table = Table(write(tmp_path, text), target="y", task="regression")
    assert any("1 of 60 entries are no numbers ('n.a.')" in r for r in table.remarks)
    with pytest.raises(ValueError, match="'x' is a number, but row 1 has 'wide'"):
        table.encode([{"x": "wide"}])
    assert np.array_equal(table.encode([{"x": "n.a."}]), table.encode([{"x": None}]))


def test_rare_values_of_many_are_learned_as_the_unknown_one():
    names = [f"t{i % 60}" for i in range(600)] + ["once"]
    table = Table({"t": names, "y": np.arange(601.0)}, target="y", valid=0)
    assert table.preprocessing.category_sizes == [61]
    assert table.train.tree[0][1][-1].tolist() == [0]


# ----- targets -----


@pytest.mark.parametrize(
    ("values", "task", "classes"),
    [
        (["a", "b"] * 20, "classification", ["a", "b"]),
        ([True, False] * 20, "classification", [False, True]),
        ([0, 1] * 20, "classification", [0, 1]),
        ([1.0, 2.0, 3.0, 1.0] * 10, "classification", [1, 2, 3]),
        ([0.5, 1.5] * 20, "regression", None),
        (list(range(40)), "regression", None),
        (
            [datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)] * 20,
            "classification",
            ["2020-01-01", "2021-01-01"],
        ),
        (["+", "-"] * 20, "classification", ["+", "-"]),
    ],
)
def test_the_task_is_found(values, task, classes):
    table = Table({"x": np.arange(40.0), "y": values}, target="y")
    assert (table.task, table.classes) == (task, classes)
    net = table.network()
    found = table.decode(an.predict(net, table.train))
    if classes is not None:
        assert set(found) <= set(classes)
        p = found.columns
        assert np.allclose(sum(np.asarray(p[f"probability_{c}"]) for c in classes), 1)
        assert table.train.tree[1].dtype == np.int64


def test_labels_of_every_type_come_back():
    for values in (["a", "b"], [True, False], [3, 7], [1.5, 2.5]):
        table = Table({"x": np.arange(20.0), "y": values * 10}, target="y", task="classification", valid=0)
        assert [table.classes[i] for i in table.train.tree[1]] == values * 10
        assert list(table.decode(np.eye(2)[table.train.tree[1]])) == values * 10
        again = preprocessing_from_json(json.loads(json.dumps(table.schema)))
        assert again.targets({"y": values}).tolist() == [table.classes.index(v) for v in values]


def test_a_target_of_regression_comes_back():
    y = rng.normal(5e5, 1e5, 50)
    table = Table({"x": np.arange(50.0), "y": y}, target="y", valid=0)
    found = table.train.tree[1]
    assert found.dtype == np.float32
    assert found.shape == (50, 1)
    assert abs(float(found.mean())) < 1e-5
    assert np.allclose(list(table.decode(an.asarray(found))), y, rtol=1e-6)


def test_several_targets():
    data = {"x": np.arange(30.0), "a": np.arange(30.0) * 2, "b": -(np.arange(30.0) ** 2)}
    table = Table(data, target=["a", "b"], valid=0)
    assert table.train.tree[1].shape == (30, 2)
    found = table.decode(table.train.tree[1])
    assert set(found[0]) == {"a", "b"}
    assert np.allclose(found.to_dict()["b"], data["b"], atol=1e-3)
    with pytest.raises(ValueError, match="several targets must be numbers"):
        Table({**data, "c": ["u", "v", "w"] * 10}, target=["a", "c"])


def test_rows_without_a_target_are_dropped_and_said():
    table = Table({"x": np.arange(40.0), "y": [None, *range(39)]}, target="y", valid=0)
    assert len(table.train) == 39
    assert any("1 of 40 rows have no target" in r for r in table.remarks)
    assert table.train.rows.tolist() == list(range(1, 40))


def test_words_among_the_numbers_of_a_target_are_missing_targets():
    y = ["n.a." if i == 3 else None if i == 5 else str(i * 1.5) for i in range(60)]
    table = Table({"x": np.arange(60.0), "y": y}, target="y", valid=0)
    assert table.task == "regression"
    assert table.train.rows.tolist() == [i for i in range(60) if i not in (3, 5)]
    assert table.rows()["y"][3] == 6.0


@pytest.mark.parametrize(
    ("data", "options", "said"),
    [
        ({"x": [1, 2], "y": [1, 2]}, {"target": "z"}, "no column 'z'.*columns are x, y"),
        ({"x": [1, 2], "Price": [1, 2]}, {"target": "price"}, "did you mean 'Price'"),
        ({"x": [1, 2], "y": [1, 2]}, {"target": None}, "give the target.*target='y'"),
        ({"x": [1, 2], "y": [1, 2]}, {"target": 5}, "no column number 5"),
        ({"x": [1, 2], "y": [None, None]}, {"target": "y"}, "missing in all 2 rows"),
        ({"x": [1, 2], "y": ["a", "a"]}, {"target": "y"}, "nothing to learn"),
        ({"x": [1, 2], "y": ["a", "b"]}, {"target": "y", "task": "regression"}, "needs a target of numbers"),
        ({"x": [1, 2], "y": [1, math.inf]}, {"target": "y", "task": "regression"}, "infinite in row 2"),
        ({"y": [1, 2, 3]}, {"target": "y"}, "no column is left"),
        ({"x": [1, 2], "y": [1, 2]}, {"target": "y", "task": "rank"}, "task must be one of"),
        ({"x": [1, 2], "y": [1, 2]}, {"target": "y", "valid": 1.5}, r"valid must be in \[0, 1\)"),
        ({"x": [1, 2], "y": [1, 2]}, {"target": "y", "valid": 0.6, "test": 0.5}, "leave rows to train on"),
        ({"x": [1, 2], "y": [1, 2]}, {"target": "y", "ignore": "w"}, "ignore: there is no column 'w'"),
        ({"x": [1, 2], "y": [1, 2]}, {"target": "y", "valid": "w.csv"}, "neither a column.*nor a file"),
        (
            {"x": [1, None], "y": [1, 2]},
            {"target": "y", "missing": "error"},
            "1 of 2 entries of 'x' are missing",
        ),
        ({"x": [1, 2], "y": [1, 2]}, {"target": "y", "seed": -1}, "seed"),
        ({"x": [1, 2], "y": [1, 2]}, {"target": 1.5}, "target: "),
        ({"x": [1, 2], "y": [1, 2]}, {"target": "y", "ignore": 1.5}, "ignore: "),
    ],
)
def test_what_cannot_be_is_refused(data, options, said):
    with pytest.raises(ValueError, match=said):
        Table(data, **options)


# ----- parts -----


def test_random_parts():
    table = Table(houses(100), target="price", valid=0.2, test=0.1)
    rows = [d.rows.tolist() for d in (table.train, table.valid, table.test)]
    assert [len(r) for r in rows] == [70, 20, 10]
    assert sorted(i for part in rows for i in part) == list(range(100))
    again = Table(houses(100), target="price", valid=0.2, test=0.1)
    assert again.valid.rows.tolist() == rows[1]
    assert again.origin() == table.origin()
    other = Table(houses(100), target="price", valid=0.2, test=0.1, seed=1)
    assert other.valid.rows.tolist() != rows[1]
    assert other.origin()["split"]["sha256"] != table.origin()["split"]["sha256"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.sampled_from("abc"), min_size=8, max_size=80), st.sampled_from([0.1, 0.2, 0.5]))
def test_each_class_is_spread_alike(labels, share):
    from anynet.data.table.splitting import split_rows

    train, valid, test = (part.tolist() for part in split_rows(len(labels), (share, 0.0), 3, strata=labels))
    assert sorted(train + valid) == list(range(len(labels)))
    assert test == []
    for label in set(labels):
        count = labels.count(label)
        got = sum(labels[i] == label for i in valid)
        assert abs(got - share * count) <= 1.5
        assert got < count


def test_groups_stay_together():
    groups = [f"g{i % 12}" for i in range(120)]
    table = Table(
        {"x": np.arange(120.0), "g": groups, "y": rng.normal(size=120)}, target="y", group="g", test=0.2
    )
    sets = [{groups[i] for i in d.rows.tolist()} for d in (table.train, table.valid, table.test)]
    assert not (sets[0] & sets[1] | sets[0] & sets[2] | sets[1] & sets[2])
    assert abs(len(table.valid) - 24) <= 10
    assert table.preprocessing.columns == ["x"]


def test_the_latest_rows_are_held_out():
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(days=int(i)) for i in rng.permutation(50)]
    table = Table({"d": days, "x": np.arange(50.0), "y": rng.normal(size=50)}, target="y", time="d", test=0.1)
    parts = [[days[i] for i in d.rows.tolist()] for d in (table.train, table.valid, table.test)]
    assert [len(p) for p in parts] == [35, 10, 5]
    assert max(parts[0]) < min(parts[1]) <= max(parts[1]) < min(parts[2])


def test_parts_from_a_column_and_from_tables(tmp_path):
    data = houses(30)
    data["part"] = ["train"] * 20 + ["valid"] * 6 + ["test"] * 4
    table = Table(data, target="price", valid="part", test="part")
    assert [len(d) for d in (table.train, table.valid, table.test)] == [20, 6, 4]
    assert "part" not in table.preprocessing.columns
    other = houses(12)
    path = write(
        tmp_path,
        "town,price,size\n" + "\n".join(f"{t},{p},{s}" for s, t, p in zip(*other.values(), strict=True)),
    )
    table = Table(houses(30), target="price", valid=path, test=other)
    assert [len(d) for d in (table.train, table.valid, table.test)] == [30, 12, 12]
    assert np.allclose(table.valid.tree[0][0], table.test.tree[0][0])
    with pytest.raises(ValueError, match="row 1 has 'later'"):
        Table({**data, "part": ["later"] * 30}, target="price", valid="part")


def test_nothing_of_the_held_out_rows_is_in_the_training_data():
    n = 200
    data = {
        "x": rng.normal(size=n), "k": [None if i % 9 == 0 else f"c{i % 5}" for i in range(n)],
        "d": [datetime.datetime(2020, 1, 1) + datetime.timedelta(days=i) for i in range(n)], "y": rng.normal(size=n),
    }  # fmt: skip
    first = Table(data, target="y", test=0.2)
    held = [*first.valid.rows.tolist(), *first.test.rows.tolist()]
    for i in held:
        data["x"][i] = 1e6 * (i + 1)
        data["k"][i] = f"new{i}"
        data["d"][i] = datetime.datetime(1990, 5, 5)
        data["y"][i] = -1e9
    second = Table(data, target="y", test=0.2)
    assert second.train.rows.tolist() == first.train.rows.tolist()
    assert second.schema == first.schema
    for a, b in zip(first.train.tree[0], second.train.tree[0], strict=True):
        assert np.array_equal(a, b)
    assert np.array_equal(first.train.tree[1], second.train.tree[1])
    assert (second.valid.tree[0][1] == 0).all()  # categories that the training part has not


# ----- new rows -----


def test_new_rows_in_every_form(tmp_path):
    table = Table(houses(), target="price")
    data = houses(5)
    expected = table.encode(data)
    rows = [dict(zip(data, r, strict=True)) for r in zip(*data.values(), strict=True)]
    shuffled = {"extra": [1] * 5, "town": data["town"], "size": data["size"]}
    path = write(
        tmp_path,
        "town,size\n" + "\n".join(f"{t},{s!r}" for t, s in zip(data["town"], data["size"], strict=True)),
    )
    for source in (rows, shuffled, path):
        for a, b in zip(expected, table.encode(source), strict=True):
            assert np.array_equal(a, b)
    assert np.array_equal(table.encode(rows[0])[0], expected[0][:1])
    with pytest.raises(ValueError, match=r"no column 'town'; they have size"):
        table.encode({"size": [1.0]})
    with pytest.raises(ValueError, match="no column 'price', the target"):
        table.preprocessing.targets(shuffled)


def test_rows_without_names_go_by_their_order():
    x = rng.normal(size=(40, 3))
    table = Table(np.column_stack([x, x.sum(axis=1)]), target=-1)
    assert table.preprocessing.columns == ["column_1", "column_2", "column_3"]
    assert np.array_equal(table.encode(x[:4]), table.encode({f"column_{i + 1}": x[:4, i] for i in range(3)}))
    with pytest.raises(ValueError, match="2 columns without names; expected 3"):
        table.encode(x[:, :2])


def test_one_hot_categories():
    table = Table(houses(), target="price", onehot=True, valid=0)
    found = table.train.tree[0]
    names = table.preprocessing.number_names
    assert names == ["size", "town = another value", "town = A", "town = B", "town = C"]
    assert found.shape == (60, 5)
    assert (found[:, 1:].sum(axis=1) == 1).all()


@pytest.mark.parametrize("onehot", [False, True])
def test_columns_are_found_among_the_inputs(onehot):
    table = Table(messy(), target="price", onehot=onehot, valid=0)
    data = table.rows()
    before = table.encode(data)
    leaves = before if isinstance(before, tuple) else (before,)
    assert len(table.preprocessing.feature_names) == sum(a.shape[1] for a in leaves)
    for name, places in table.preprocessing.input_columns():
        after = table.encode({**data, name: data[name][::-1]})
        changed = after if isinstance(after, tuple) else (after,)
        for leaf, (a, b) in enumerate(zip(leaves, changed, strict=True)):
            own = {c for at, columns in places if at == leaf for c in columns}
            assert {int(j) for j in np.flatnonzero((a != b).any(axis=0))} <= own
        assert sum(len(columns) for _, columns in places) > 0


def test_the_schema_is_json_and_comes_back():
    table = Table(messy(), target="price", categorical="rooms")
    text = json.dumps(table.schema, allow_nan=False)
    again = preprocessing_from_json(json.loads(text))
    assert again.to_json() == table.preprocessing.to_json()
    for a, b in zip(table.encode(messy()), again.inputs(messy()), strict=True):
        assert np.array_equal(a, b)
    broken = json.loads(text)
    broken["encoders"][0]["type"] = "colour"
    with pytest.raises(ValueError, match="type of number"):
        preprocessing_from_json(broken)
    del broken["encoders"]
    with pytest.raises(ValueError, match="no encoders"):
        preprocessing_from_json(broken)


def test_the_origin_tells_how_it_was_made(tmp_path):
    path = write(tmp_path, "x,y\n" + "\n".join(f"{i},{i * 2}" for i in range(30)))
    origin = Table(path, target="y", valid=0.1).origin()
    json.dumps(origin, allow_nan=False)
    assert origin["kind"] == "table"
    assert origin["bytes"] == path.stat().st_size
    assert origin["split"]["sizes"] == {"train": 27, "valid": 3, "test": 0}
    assert Table(origin["path"], **origin["options"]).origin() == origin


# ----- training -----


def test_networks_and_their_settings():
    table = Table(houses(), target="price")
    assert type(table.network()).__name__ == "TableMLP"
    assert type(table.network("linear")).__name__ == "TableLinear"
    with pytest.raises(ValueError, match="unknown network 'mpl'"):
        table.network("mpl")
    with pytest.raises(ValueError, match=r"no setting 'width'; it has hidden"):
        table.network(width=3)


def test_a_table_is_a_source_of_fit():
    table = Table(messy(), target="town", missing="auto", valid=0.3)
    net = table.network()
    history = an.fit(net, table, epochs=1, progress=False)
    assert "val_loss" in history[-1]
    assert {"loss", "metrics", "optimizer", "lr", "scheduler", "epochs", "batch_size"} <= set(
        table.defaults()
    )


def test_a_table_is_trained_by_fit():
    table = Table(houses(300), target="price")
    an.random.manual_seed(0)
    net = table.network(hidden=[32])
    an.fit(net, table.train, table.valid, **table.defaults() | {"epochs": 30}, progress=False)
    found = table.decode(an.predict(net, table.encode(houses(20))))
    assert np.abs(np.asarray(list(found)) - houses(20)["price"]).max() < 40
    assert len(list(table.network("linear").parameters())) == 3


def test_housing(anynet_data):
    table = Table(anynet_data / "housing" / "housing.csv.gz", target="median_house_value")
    assert (len(table.train), len(table.valid)) == (16_512, 4_128)
    kinds = {e.name: e.type for e in table.preprocessing.encoders}
    assert kinds.pop("ocean_proximity") == "category"
    assert set(kinds.values()) == {"number"}
    assert table.preprocessing.number_names.count("total_bedrooms is missing") == 1
