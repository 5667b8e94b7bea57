"""Tables as people have them: titles and comments, units, dates of several forms, long numbers, ties; each is read, or refused in words."""

from __future__ import annotations

import datetime
import gzip
import math

import numpy as np
import pytest

from anynet.data import DataError, Table
from anynet.data.table.reading import read_table
from optional_libraries import needs

N = 60
X = [7 * i % 13 for i in range(N)]
BODY = "".join(f"{x},{2 * x}\n" for x in X)


def write(folder, text, name="t.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding) if isinstance(text, str) else text)
    return path


def column(values, remarks=None, **options):
    """The values of a column as they are understood, beside others to predict."""
    table = Table(
        {"c": list(values), "x": X[: len(values)], "y": list(range(len(values)))},
        target="y",
        valid=0,
        **options,
    )
    if remarks is not None:
        remarks += table.remarks
    return table.preprocessing.encoders[0], table


# ----- what stands around the rows -----


@pytest.mark.parametrize(
    "before",
    [
        "# made by a logger\n# 2024\n",
        "Quarterly report 2023\n\n",
        "Report,\n",
        "# one\n",
        "Made 2024-01-05\nby hand\n",
    ],
)
def test_lines_before_the_header(before, tmp_path):
    path = write(tmp_path, before + "x,y\n" + BODY)
    table = Table(path, target="y", valid=0)
    assert list(table.rows()) == ["x", "y"]
    assert table.rows()["x"] == X
    assert "before the header let go" in table.remarks[0]
    assert table.encode(path).shape == (N, 1)


def test_a_header_that_is_a_comment_and_single_quotes(tmp_path):
    assert list(read_table(write(tmp_path, "# x,y\n" + BODY)).columns) == ["x", "y"]
    quoted = "'x, or so','y'\n" + "".join(f"'{x}','{2 * x}'\n" for x in X)
    frame = read_table(write(tmp_path, quoted))
    assert list(frame.columns) == ["x, or so", "y"]
    assert frame.columns["y"].values.tolist() == [2 * x for x in X]


def test_fields_of_several_lines(tmp_path):
    text = 'x,"note, long",y\n' + "".join(f'{x},"one\nline ""{x % 3}"", two",{2 * x}\n' for x in X)
    table = Table(write(tmp_path, text), target="y", valid=0)
    assert table.rows()["note, long"][1] == 'one\nline "1", two'
    assert '\n  note, long  category of 3 values: one line "0", two' in table.describe()


def test_a_zero_byte_is_named_by_its_line(tmp_path):
    rows = ("x,y\n" + BODY * 100 + "1\0,2\n").encode()
    with pytest.raises(DataError, match=r"zero byte in line 6002"):
        read_table(write(tmp_path, rows))


def test_columns_of_one_name_and_without_a_name(tmp_path):
    path = write(tmp_path, ",x,y,y\n" + "".join(f"{i},{x},{2 * x},{3 * x}\n" for i, x in enumerate(X)))
    with pytest.raises(ValueError, match=r"several columns are called 'y'.*Give its number"):
        Table(path, target="y")
    table = Table(path, target=3, valid=0)
    assert table.targets == ["y.1"]
    assert table.preprocessing.ignored["unnamed_1"].startswith(
        "it is an identifier"
    )  # what pandas' to_csv writes first
    other = Table(path, target="x", valid=0)
    assert other.preprocessing.columns == ["y", "y.1"]


# ----- what the entries mean -----


@pytest.mark.parametrize(
    ("spelled", "meant"),
    [
        (["1 kg", "2.5 kg", "10 kg"], [1, 2.5, 10]),
        (["1,5 km/h", "2,5 km/h", "10 km/h"], [1.5, 2.5, 10]),
        (["21.5°C", "-3°C", "7°C"], [21.5, -3, 7]),
        (["0,5", "0.5", "12.25"], [0.5, 0.5, 12.25]),
        (["−1", "−2.5", "3"], [-1, -2.5, 3]),
        (["1.234,50 €", "0,25 €", "7 €"], [1234.5, 0.25, 7]),
        (["1'200", "3'400", "1'000"], [1200, 3400, 1000]),
        (["10 %", "25 %", "3 %"], [10, 25, 3]),
    ],
)  # fmt: skip
def test_numbers_as_people_write_them(spelled, meant):
    remarks: list[str] = []
    encoder, table = column(spelled * 10, remarks)
    assert encoder.type == "number", encoder
    read = encoder.read("new", table.train.frame.columns["c"])
    assert read.values.tolist() == meant * 10
    assert any("read as number" in r for r in remarks)
    again = table.encode({"c": [spelled[1]], "x": [0]})
    assert np.allclose(again, table.encode({"c": [meant[1]], "x": [0]}))


@pytest.mark.parametrize(
    "spelled", [["5 kg", "5 g", "7 kg"], ["1.234,5", "1,234.5", "2"], ["A1", "B2", "C3"]]
)
def test_numbers_that_cannot_be_known_stay_words(spelled):
    assert column(spelled * 10)[0].type == "category"


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["Yes", "n", "yes"], [1, 0, 1]),
        (["Y", "no", "TRUE", "false", "N"], [1, 0, 1, 0, 0]),
        (["on", "OFF", "Yes", "no"], [1, 0, 1, 0]),
        (["true", "0", "1", "F"], [1, 0, 1, 0]),
    ],
)
def test_yes_and_no_in_several_spellings(words, meant):
    encoder, table = column(words * 5)
    assert encoder.type == "boolean"
    assert table.train.frame.columns["c"].values.tolist() == meant * 5
    assert table.encode({"c": ["y"], "x": [1]}).tolist() == table.encode({"c": [True], "x": [1]}).tolist()


@pytest.mark.parametrize("words", [["f", "n"], ["yes", "t"], ["yes", "no", "maybe"]])
def test_words_that_are_no_yes_and_no(words):
    assert column(words * 10)[0].type == "category"


DAYS = [datetime.datetime(2020, 1, 13) + datetime.timedelta(days=11 * i) for i in range(N)]


def seconds(days):
    return [(d - datetime.datetime(1970, 1, 1)).total_seconds() for d in days]


@pytest.mark.parametrize(
    "forms", [("%d.%m.%Y", "%Y-%m-%d"), ("%Y-%m-%d", "%m/%d/%Y", "%d.%m.%Y"), ("%d %b %Y", "%Y/%m/%d")]
)
def test_dates_of_several_forms(forms):
    remarks: list[str] = []
    encoder, table = column([d.strftime(forms[i % len(forms)]) for i, d in enumerate(DAYS)], remarks)
    assert encoder.type == "date"
    assert table.train.frame.columns["c"].values.tolist() == seconds(DAYS)
    assert any(f"dates written in {len(forms)} ways" in r for r in remarks)
    new = [table.encode({"c": [DAYS[5].strftime(form)], "x": [1]}).tolist() for form in forms]
    assert all(row == new[0] for row in new)


def test_the_month_first_here_and_the_day_first_there_stays_text():
    days = [d.strftime("%d/%m/%Y" if i % 2 else "%m/%d/%Y") for i, d in enumerate(DAYS)]
    encoder, _ = column(days, categorical="c")
    assert encoder.type == "category"
    assert "c" not in Table({"c": days, "x": X, "y": X}, target="y", task="regression").preprocessing.columns


@pytest.mark.parametrize("word", ["unknown", "0000-00-00", "-"])
def test_words_among_dates_are_missing_and_said(word):
    remarks: list[str] = []
    days = [word if i % 20 == 3 else d.strftime("%Y-%m-%d") for i, d in enumerate(DAYS)]
    encoder, table = column(days, remarks)
    assert (encoder.type, encoder.missing) == ("date", True)
    assert any("3 of 60 entries are no dates" in r for r in remarks)
    gone = table.train.frame.columns["c"].missing()
    assert [i for i, g in enumerate(gone.tolist()) if g] == [3, 23, 43]
    assert table.encode({"c": [word], "x": [1]}).tolist() == table.encode({"c": [None], "x": [1]}).tolist()


def test_dates_in_eight_digits(tmp_path):
    digits = [int(d.strftime("%Y%m%d")) for d in DAYS]
    remarks: list[str] = []
    encoder, table = column(digits, remarks)
    assert encoder.type == "date"
    assert table.train.frame.columns["c"].values.tolist() == seconds(DAYS)
    assert any("20200113 and the like are read as dates" in r for r in remarks)
    path = write(tmp_path, "c,x\n20200124,1\n")
    assert np.array_equal(table.encode(path), table.encode({"c": [20200124], "x": [1]}))
    assert column([v + 32 for v in digits])[0].type == "number"  # 20200145 is none


# ----- numbers of more digits than a float holds -----


@pytest.mark.parametrize("base", [2**60, 10**25, 10**400])
def test_long_whole_numbers_are_codes(base, tmp_path):
    codes = [base + i % 3 for i in range(N)]
    in_file = write(tmp_path, "x,y\n" + "".join(f"{x},{c}\n" for x, c in zip(X, codes, strict=True)))
    for source in ({"x": X, "y": codes}, in_file):
        table = Table(source, target="y")
        assert table.classes == [str(base + k) for k in range(3)]
    if base < 2**63:
        array = np.array(codes)
        assert Table({"x": X, "y": array}, target="y").classes == table.classes
    ids = Table({"id": [base + i for i in range(N)], "x": X, "y": X}, target="y", task="regression")
    assert ids.preprocessing.ignored == {"id": "it is an identifier: texts that are all different"}


def test_long_numbers_that_are_amounts():
    encoder, _ = column([10**17 * i for i in range(N)])
    assert encoder.type == "number"
    assert encoder.high == 59e17


def test_long_numbers_of_a_dataframe():
    needs("narwhals", "tables")
    pd = needs("pandas", "product")
    frame = pd.DataFrame({"x": X, "y": [2**60 + i % 2 for i in range(N)]})
    assert Table(frame, target="y").classes == [str(2**60), str(2**60 + 1)]


def test_a_relation_of_duckdb():
    needs("narwhals", "tables")
    needs("pyarrow", "product")
    duckdb = needs("duckdb", "product")
    relation = duckdb.sql("select i as x, 2.5 * i as y, 'k' || (i % 3) as k from range(60) as t(i)")
    table = Table(relation, target="y")
    assert table.length == 60
    assert [e.type for e in table.preprocessing.encoders] == ["number", "category"]


# ----- parts -----


def test_a_target_that_never_changes():
    with pytest.raises(ValueError, match=r"the target 'y' is 2.5 in every row: there is nothing to learn"):
        Table({"x": X, "y": [2.5] * N}, target="y")
    table = Table({"x": X, "y": X, "z": [1] * N}, target=["y", "z"])  # one of two may
    assert np.isfinite(np.asarray(table.train.tree[1])).all()


def test_rows_of_one_time_stay_together():
    with pytest.raises(ValueError, match=r"needs 2 different times, one for each part, got 1 in 60 rows"):
        Table({"t": [1] * N, "x": X, "y": X}, target="y", time="t")
    with pytest.raises(ValueError, match=r"needs 3 different times, one for each part, got 2"):
        Table({"t": [1] * 30 + [2] * 30, "x": X, "y": X}, target="y", time="t", test=0.2)
    late = Table({"t": [1] * 10 + [2] * 50, "x": X, "y": X}, target="y", task="regression", time="t")
    assert [len(late.train), len(late.valid)] == [10, 50]
    three = Table(
        {"t": [1] * 2 + [2] * 2 + [3] * 56, "x": X, "y": X}, target="y", task="regression", time="t", test=0.1
    )
    assert [len(d) for d in (three.train, three.valid, three.test)] == [2, 2, 56]


def test_a_group_that_is_most_of_the_rows_is_trained_on():
    groups = ["all"] * 57 + ["b", "c", "d"]
    for seed in range(6):
        table = Table(
            {"g": groups, "x": X, "y": X}, target="y", task="regression", group="g", test=0.1, seed=seed
        )
        assert len(table.train) >= 57
        assert len(table.valid) + len(table.test) <= 3
    table = Table({"g": [None, "a", "b"] * 20, "x": X, "y": X}, target="y", task="regression", group="g")
    assert "20 rows have no g: they stay together" in table.remarks


def test_a_class_of_one_row_is_trained_on():
    labels = ["rare" if i == 5 else "ab"[i % 2] for i in range(N)]
    table = Table({"x": X, "y": labels}, target="y", test=0.2)
    assert 5 in table.train.rows.tolist()
    with pytest.raises(
        ValueError, match=r"several targets must be numbers.*got texts in 'v'.*one column that joins"
    ):
        Table({"x": X, "y": X, "v": labels}, target=["y", "v"])


def test_missing_everywhere():
    with pytest.raises(ValueError, match=r"no column is left to predict from.*x: it is empty"):
        Table({"x": [None] * N, "y": X}, target="y")
    table = Table({"x": X, "e": [math.nan] * N, "y": X}, target="y", task="regression")
    assert table.preprocessing.ignored == {"e": "it is empty"}


def test_a_row_of_totals_and_marks_for_missing():
    data = {
        "day": [f"2024-01-{1 + i % 28:02d}" for i in range(40)] + ["Total"],
        "x": [*(1.0 + i % 7 for i in range(38)), -999, -999, None],
        "y": [*range(40), 780],
    }
    table = Table(data, target="y", valid=0)
    assert (len(table.train), table.preprocessing.target_encoders[0].high) == (40, 39)
    assert "a row has nothing but the target: left out" in table.remarks
    assert any(r.startswith("x: -999 stands there 2 times") for r in table.remarks)
    quiet = Table({"x": [1, 2, 3, 98] * 10, "z": [-9.5, 0, 1, 2] * 10, "y": range(40)}, target="y", valid=0)
    assert not any("stands there" in r for r in quiet.remarks)
    alone = Table(
        {"x": [1, None, 3, 4], "y": [1.5, 2, 3, 4]}, target="y", valid=0
    )  # the gap is all that it says
    assert len(alone.train) == 4


@pytest.mark.parametrize(
    "text",
    ['[{"x": 1, "k": "a"}, {"x": 2.5}]', '{"x": 1, "k": "a"}\n\n{"x": 2.5, "k": null}\n', '{"x": [1, 2.5],\n "k": ["a", null]}'],
)  # fmt: skip
def test_files_of_json(text, tmp_path):
    for name, data in (("t.json", text.encode()), ("t.jsonl.gz", gzip.compress(text.encode()))):
        frame = read_table(write(tmp_path, data, name))
        assert {k: c.labels() for k, c in frame.columns.items()} == {"x": [1, 2.5], "k": ["a", None]}


@pytest.mark.parametrize("text", ['[{"x": 1}', "3", "[]", '{"x": 1}\n{"x": \n'])
def test_json_that_is_no_table(text, tmp_path):
    with pytest.raises(DataError, match=r"t\.json: (not JSON|expected a list of rows)"):
        read_table(write(tmp_path, text, "t.json"))


def test_json_with_something_inside(tmp_path):
    with pytest.raises(TypeError, match=r"the column 'x' must hold numbers.*got dict in row 1"):
        read_table(write(tmp_path, '[{"x": {"a": 1}}]', "t.json"))


def test_infinite_entries_are_said():
    data = {"x": [math.inf, -math.inf, *range(38)], "z": [*range(39), math.inf], "y": [*range(40)]}
    remarks = Table(data, target="y", valid=0.25).remarks
    assert "x: 2 entries are infinite: they count as farther than every number, not as missing" in remarks
    assert "z: 1 entry is infinite: it counts as farther than every number, not as missing" in remarks
    assert not any("infinite" in r for r in Table({"x": range(40), "y": range(40)}, target="y").remarks)


@pytest.mark.parametrize("separator", ["", "ab", '"', "\n"])
def test_a_separator_that_is_none(separator, tmp_path):
    with pytest.raises(ValueError, match="separator must be one character, got"):
        read_table(write(tmp_path, "x,y\n" + BODY), separator=separator)
