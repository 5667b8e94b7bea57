"""What a source is follows from what it is: files under any name, packed or not, folders, names of data sets."""

from __future__ import annotations

import bz2
import gzip
import lzma
import zipfile
from pathlib import Path

import pytest

from anynet.data import DataError, ImageFolder, Table, Text
from anynet.data.named_images import NamedImages
from anynet.data.opening import options_of, source_of
from optional_libraries import needs

ROWS = b"x,y\n" + b"".join(b"%d,%d\n" % (7 * i % 13, 7 * i % 13 * 2) for i in range(60))
WORDS = b"to be or not to be, that is the question\n" * 20


def archive(path: Path, **members: bytes) -> Path:
    with zipfile.ZipFile(path, "w") as opened:
        for name, data in members.items():
            opened.writestr(name.replace("__", "/").replace("_", "."), data)
    return path


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "t.csv.bz2", "t.csv.xz"])
@pytest.mark.parametrize("pack", [bytes, gzip.compress, bz2.compress, lzma.compress])
def test_packed_tables_whatever_their_suffix(name, pack, tmp_path):
    path = tmp_path / name
    path.write_bytes(pack(ROWS))
    table = source_of(str(path), target="y")
    assert isinstance(table, Table)
    assert table.length == 60


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_texts_and_damaged_ones(pack, tmp_path):
    path = tmp_path / "t.txt"
    path.write_bytes(pack(WORDS))
    assert isinstance(source_of(path), Text)
    path.write_bytes(pack(WORDS)[:-9])
    with pytest.raises(DataError, match=r"t\.txt: the (gzip|bzip2|xz) data are damaged or cut short"):
        source_of(path)


def test_a_zip_of_one_file(tmp_path):
    table = archive(tmp_path / "a.zip", table_csv=ROWS, __MACOSX___table_csv=b"x")
    assert source_of(table, target="y").length == 60
    assert isinstance(source_of(archive(tmp_path / "b.zip", book_txt=WORDS)), Text)
    with pytest.raises(ValueError, match=r"it has a\.csv, b\.csv; unpack it"):
        source_of(archive(tmp_path / "c.zip", a_csv=ROWS, b_csv=ROWS), target="y")
    with pytest.raises(DataError, match=r"it has 2 files \(a.csv, b.csv\); unpack it and give one"):
        Table(tmp_path / "c.zip", target="y")
    with pytest.raises(ValueError, match="it has nothing"):
        source_of(archive(tmp_path / "d.zip"))
    (tmp_path / "e.zip").write_bytes(b"PK\x03\x04 and no more")
    with pytest.raises(DataError, match="not a zip archive that can be read"):
        source_of(tmp_path / "e.zip")


def test_a_zip_of_pictures(tmp_path):
    pillow = needs("PIL.Image", "images")
    with zipfile.ZipFile(tmp_path / "p.zip", "w") as opened:
        for i in range(8):
            with opened.open(f"p/{'ab'[i % 2]}/{i}.png", "w") as file:
                pillow.new("RGB", (8, 8), (i, 0, 0)).save(file, "png")
    source = source_of(tmp_path / "p.zip")
    assert isinstance(source, ImageFolder)
    assert source.classes == ["a", "b"]


@pytest.mark.parametrize("name", ["t.txt", "t.dat", "t", "t.log"])
def test_a_target_says_that_a_file_is_a_table(name, tmp_path):
    path = tmp_path / name
    path.write_bytes(ROWS)
    assert isinstance(source_of(path, target="y"), Table)
    assert "categorical" in options_of(path, ["target"])


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("t.log", "of a file ending in .log, target= says that it is a table"),
        ("t", "ending in nothing"),
        ("t.xlsx", "save it as CSV"),
        ("t.tar", "unpack it first"),
        ("t.py", "python t.py"),
        ("t.jpg", "is one picture; give the folder"),
    ],
)
def test_what_is_no_source(name, said, tmp_path):
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ValueError, match=said):
        source_of(tmp_path / name)


def test_pictures_by_name(anynet_data):
    needs("PIL.Image", "images")
    source = source_of("omniglot", limit=2000)
    assert isinstance(source, NamedImages)
    assert len(source.preprocessing.classes or ()) == 292
    parts = [source.train, source.valid, source.test]
    assert [len(p) for p in parts if p is not None] == [1800, 200, 292 * 4]
    for name in source.models[::2]:
        out = source.network(name)(source.train.batch([0, 1])[0])
        assert out.shape == (2, 292)
    assert source_of("cifar10-jpeg-subset", limit=50).defaults()["epochs"] == 30
    with pytest.raises(ValueError, match=r"multi30k is .*dict of 'de', 'en', 'fr'.*EncoderDecoder"):
        source_of("multi30k")
