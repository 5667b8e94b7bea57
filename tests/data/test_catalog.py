"""Data files: the digits, IDX, and downloads from a server on this machine."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.server
import os
import random
import struct
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anynet.data import DataError, load, normalize, read_idx
from anynet.data.catalog import SOURCES, File
from anynet.data.idx import parse_idx


def idx(array: np.ndarray[Any, Any]) -> bytes:
    code = {"u1": 8, "i1": 9, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}[array.dtype.str[1:]]
    head = bytes([0, 0, code, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(array.dtype.newbyteorder(">")).tobytes()


def test_digits_are_scikit_learns() -> None:
    reference = pytest.importorskip("sklearn.datasets", reason="scikit-learn has the reference").load_digits()
    images, labels = load("digits", "all")
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    np.testing.assert_array_equal(images, reference.images)
    np.testing.assert_array_equal(labels, reference.target)


def test_the_split_of_the_digits_is_fixed_stratified_and_complete() -> None:
    (train, train_labels), (test, test_labels), (images, labels) = (
        load("digits", s) for s in ("train", "test", "all")
    )
    assert (len(train), len(test), len(images)) == (1442, 355, 1797)
    counts = np.bincount(labels)
    np.testing.assert_array_equal(np.bincount(test_labels), counts // 5)
    np.testing.assert_array_equal(np.bincount(train_labels), counts - counts // 5)
    assert sorted(image.tobytes() for part in (train, test) for image in part) == sorted(
        i.tobytes() for i in images
    )
    assert (
        hashlib.sha256(test.tobytes() + test_labels.astype("<i8").tobytes()).hexdigest()[:16]
        == "6150ffb38b98d9ee"
    )


def test_scaled_and_normalize() -> None:
    images, _ = load("digits", scaled=True)
    assert images.dtype == np.float32
    assert (images.min(), images.max()) == (0.0, 1.0)
    raw = np.array([[0, 255]], np.uint8)
    np.testing.assert_allclose(normalize(raw, mean=0.5, std=0.25), [[-2, 2]])
    for bad in ({"std": 0.0}, {"levels": -1}):
        with pytest.raises(ValueError, match="levels and std must be > 0"):
            normalize(raw, **bad)


def test_unknown_names_are_answered_with_the_nearest() -> None:
    with pytest.raises(ValueError, match="'mnits'; did you mean 'mnist'"):
        load("mnits")
    with pytest.raises(ValueError, match="known: digits, mnist, fashion"):
        load("zzz")
    with pytest.raises(ValueError, match="split must be 'train', 'test' or 'all', got 'val'"):
        load("digits", "val")


@pytest.mark.parametrize(("name", "total"), [("mnist", 26112), ("fashion", None)])
def test_real_files(anynet_data: Path, name: str, total: int | None) -> None:
    images, labels = load(name, "test", download=False)
    assert images.shape == (10_000, 28, 28)
    assert images.dtype == np.uint8
    assert labels.dtype == np.int64
    assert set(labels.tolist()) == set(range(10))
    for file in SOURCES[name].files["test"]:
        data = gzip.decompress((anynet_data / SOURCES[name].folder / file.name).read_bytes())
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256)
    if total is not None:
        assert labels[:5].tolist() == [7, 2, 1, 0, 4]


def test_all_is_train_then_test(anynet_data: Path) -> None:
    images, labels = load("mnist", "all")
    assert images.shape == (70_000, 28, 28)
    assert labels[[0, 60_000]].tolist() == [5, 7]


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "i4", "f4", "f8"])
@pytest.mark.parametrize("zipped", [False, True])
def test_idx_types(tmp_path: Path, dtype: str, zipped: bool) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    path = tmp_path / "a"
    path.write_bytes(gzip.compress(idx(array)) if zipped else idx(array))
    got = read_idx(path)
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, array)


def test_idx_without_elements() -> None:
    assert parse_idx(idx(np.zeros((0, 3), np.uint8))).shape == (0, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not an IDX file: it begins with nothing"),
        (b"\x89PNG\r\n", "not an IDX file: it begins with 89 50"),
        (b"\0\0\x08\x03\0\0", "ends within its header"),
        (idx(np.zeros((2, 3), np.uint8))[:-1], r"has 18 bytes, got 17: truncated"),
        (idx(np.zeros((2, 3), np.uint8)) + b"x", "bytes are left over"),
        (b"\0\0\x08\x01\xff\xff\xff\xff", "truncated"),
        (gzip.compress(idx(np.zeros(1000, np.uint8)), mtime=0)[:-9], "damaged or truncated"),
        (b"\x1f\x8bnonsense of some length", "damaged or truncated"),
    ],
    ids=["empty", "png", "short-header", "one-byte-short", "one-byte-over", "huge", "cut-gzip", "no-gzip"],
)
def test_bad_idx_files_are_named_and_refused(tmp_path: Path, data: bytes, message: str) -> None:
    path = tmp_path / "foreign-file"
    path.write_bytes(data)
    with pytest.raises(DataError, match=message) as caught:
        read_idx(path)
    assert "foreign-file" in str(caught.value)


def test_a_missing_file() -> None:
    with pytest.raises(FileNotFoundError):
        read_idx("no/such/file")


# ---- downloads ----


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, bytes]:
    """A data set "mnist" of two files; what the mirror has."""
    rng = np.random.default_rng(0)
    arrays = {
        "a-images.gz": rng.integers(0, 256, (4, 3, 3)).astype(np.uint8),
        "a-labels.gz": np.arange(4).astype(np.uint8),
    }
    files = tuple(File(n, len(idx(a)), hashlib.sha256(idx(a)).hexdigest()) for n, a in arrays.items())
    source = dataclasses.replace(SOURCES["mnist"], files={"train": files}, mirrors=())
    monkeypatch.setitem(SOURCES, "mnist", source)
    monkeypatch.setenv("ANYNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ANYNET_DATA", raising=False)
    return {n: gzip.compress(idx(a)) for n, a in arrays.items()}


@pytest.fixture
def mirror(tiny: dict[str, bytes]) -> Any:
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            data = tiny.get(self.path.rpartition("/")[2])
            self.send_response(404 if data is None else 200)
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

        def log_message(self, *_: Any) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_address[1]}/data"
        server.shutdown()
        thread.join()


def kept(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file())


def test_a_download_is_checked_and_kept(tiny: dict[str, bytes], mirror: str, tmp_path: Path) -> None:
    images, labels = load("mnist", mirrors=[mirror])
    assert images.shape == (4, 3, 3)
    assert labels.tolist() == [0, 1, 2, 3]
    assert kept(tmp_path) == ["a-images.gz", "a-labels.gz"]
    again, _ = load("mnist", download=False)  # from the cache
    np.testing.assert_array_equal(again, images)


def test_the_next_mirror_serves_where_one_does_not(tiny: dict[str, bytes], tmp_path: Path) -> None:
    full, empty = tmp_path / "full", tmp_path / "empty"
    full.mkdir()
    for name, data in tiny.items():
        (full / name).write_bytes(data)
    images, _ = load("mnist", mirrors=[empty.as_uri(), full.as_uri()])
    assert images.shape == (4, 3, 3)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: gzip.compress(gzip.decompress(d)[:-1] + b"\xff"), "SHA-256 is [0-9a-f]{64}, expected"),
        (lambda d: d[: len(d) // 2], "truncated"),
        (lambda d: gzip.compress(bytes(10_000_000)), "expected 52 bytes of data, got more"),
        (lambda d: b"<html>not found</html>", "expected 52 bytes of data, got 22 bytes"),
    ],
)
def test_a_wrong_download_is_refused_and_leaves_nothing(
    tiny: dict[str, bytes], mirror: str, tmp_path: Path, change: Any, message: str
) -> None:
    tiny["a-images.gz"] = change(tiny["a-images.gz"])
    with pytest.raises(DataError, match=message):
        load("mnist", mirrors=[mirror])
    assert kept(tmp_path) == []


def test_no_mirror_answers(tiny: dict[str, bytes], mirror: str, tmp_path: Path) -> None:
    tiny.clear()
    with pytest.raises(DataError, match=r"could not download a-images.gz.*404.*Put the file in"):
        load("mnist", mirrors=[mirror, "http://127.0.0.1:9/"])
    assert kept(tmp_path) == []


def test_without_a_download_the_error_says_where_was_looked(tiny: dict[str, bytes], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a-images.gz is not in .*cache.*ANYNET_DATA"):
        load("mnist", download=False)


@pytest.mark.parametrize("zipped", [False, True])
def test_a_damaged_file_in_the_cache_is_refused(
    tiny: dict[str, bytes], mirror: str, tmp_path: Path, zipped: bool
) -> None:
    load("mnist", mirrors=[mirror])
    path = tmp_path / "cache" / "mnist" / "a-labels.gz"
    data = bytearray(gzip.decompress(path.read_bytes()))
    data[-1] ^= 4  # another label
    path.write_bytes(gzip.compress(data) if zipped else data)
    with pytest.raises(
        DataError, match=r"a-labels.gz: SHA-256 is .* Remove it, so that it is downloaded again"
    ):
        load("mnist", mirrors=[mirror])
    path.unlink()
    assert load("mnist", mirrors=[mirror])[1].tolist() == [0, 1, 2, 3]


# ---- what the size of a file may not do ----


def test_a_small_file_does_not_unpack_into_more_than_it_declares(tmp_path: Path) -> None:
    path, head = tmp_path / "bomb", b"\0\0\x08\x01\0\0\0\x0a"
    path.write_bytes(gzip.compress(head + bytes(50_000_000)))
    tracemalloc.start()
    with pytest.raises(DataError, match=r"has 18 bytes, got more: bytes are left over"):
        read_idx(path)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


def test_the_limit_of_what_is_declared(tmp_path: Path) -> None:
    path = tmp_path / "large"
    path.write_bytes(gzip.compress(b"\0\0\x0e\x02" + b"\xff" * 8))
    with pytest.raises(
        DataError,
        match=r"declares 147573952\d* bytes, more than 4294967296; read_idx\(…, max_bytes=…\) allows",
    ):
        read_idx(path)
    small = np.arange(100, dtype=np.uint8)
    path.write_bytes(gzip.compress(idx(small)))
    with pytest.raises(DataError, match="declares 108 bytes, more than 107"):
        read_idx(path, max_bytes=107)
    np.testing.assert_array_equal(read_idx(path, max_bytes=108), small)


def test_gzip_members_and_what_follows_them(tmp_path: Path) -> None:
    path, whole = tmp_path / "a", idx(np.arange(100, dtype=np.uint8))
    members = gzip.compress(whole[:7]) + gzip.compress(b"") + gzip.compress(whole[7:])
    for data in (members, members + bytes(1000)):  # zeros fill up the blocks of a tape
        path.write_bytes(data)
        assert read_idx(path).tolist() == list(range(100))
    for rest in (b"x", bytes(5) + b"PK\3\4", b"\x1f"):
        path.write_bytes(members + rest)
        with pytest.raises(DataError, match="follows the gzip data: bytes are left over"):
            read_idx(path)
    path.write_bytes(members + gzip.compress(b"y"))
    with pytest.raises(DataError, match="got more: bytes are left over"):
        read_idx(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes of POSIX systems")
def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path, kind in (
        (tmp_path / "pipe", "named pipe"),
        (tmp_path, "folder"),
        (Path("/dev/zero"), "device"),
    ):
        with pytest.raises(DataError, match=f"{path} is a {kind}, expected a file"):
            read_idx(path)


def test_mutated_idx_files_are_read_or_refused(tmp_path: Path) -> None:
    """A changed file is an array of the size of its data, or a DataError; gzip's checksum finds every change."""
    rng, path = random.Random(4), tmp_path / "a"
    plain = idx(np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    zipped = gzip.compress(plain, mtime=0)
    expected = read_idx_of(path, plain)
    for _ in range(100_000 if os.environ.get("ANYNET_LONG_TESTS") == "1" else 1500):
        for whole in (plain, zipped):
            data = bytearray(whole)
            for _ in range(rng.choice((1, 1, 3))):
                a = rng.randrange(len(data) or 1)
                kind = rng.randrange(4)
                if kind == 0:
                    data[a : a + 1] = bytes([rng.randrange(256)])
                elif kind == 1:
                    del data[a : a + rng.choice((1, 4, 100))]
                elif kind == 2:
                    data[a:a] = rng.randbytes(rng.choice((1, 4)))
                else:
                    data[a : a + 4] = rng.choice((b"\xff\xff\xff\xff", b"\0\0\0\0", b"\x7f\xff\xff\xff"))
            got = read_idx_of(path, bytes(data))
            if got is not None and whole is zipped:
                np.testing.assert_array_equal(got, expected)  # only the header's name and time may change
            elif got is not None:
                assert got.nbytes == len(data) - 4 - 4 * got.ndim


def read_idx_of(path: Path, data: bytes) -> np.ndarray[Any, Any] | None:
    path.write_bytes(data)
    try:
        found: np.ndarray[Any, Any] = read_idx(path)
    except DataError as error:
        if path.name not in str(error):
            raise AssertionError from error
        return None
    return found
