"""Tables, texts and pictures by name, and what may happen to a download."""

from __future__ import annotations

import dataclasses
import gzip
import hashlib
import http.server
import io
import os
import signal
import subprocess
import sys
import tarfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anynet.data import SOURCES, DataError, load, named, path_of
from anynet.data.download import File
from optional_libraries import needs

# ----- in the package -----


@pytest.mark.parametrize("name", ["iris", "wine", "breast_cancer", "diabetes"])
def test_tables_are_scikit_learns(name: str) -> None:
    sets = pytest.importorskip("sklearn.datasets", reason="scikit-learn has the reference")
    options = {"scaled": False} if name == "diabetes" else {}
    reference = getattr(sets, f"load_{name}")(**options)
    table = load(name)
    target = SOURCES[name].target
    assert list(table) == [*reference.feature_names, target]
    np.testing.assert_array_equal(
        np.asarray([table[n] for n in reference.feature_names], float).T, reference.data
    )
    if name == "diabetes":
        assert table[target] == reference.target.tolist()
    else:
        assert table[target] == [str(reference.target_names[i]) for i in reference.target]


def test_parts_of_a_table_are_fixed_stratified_and_complete() -> None:
    whole, train, test = load("iris"), load("iris", "train"), load("iris", "test")
    assert (len(train["species"]), len(test["species"])) == (120, 30)
    assert [test["species"].count(s) for s in ("setosa", "versicolor", "virginica")] == [10, 10, 10]
    rows = lambda t: sorted(zip(*t.values(), strict=True))  # noqa: E731
    assert rows(whole) == sorted(rows(train) + rows(test))
    for name in ("iris", "wine", "breast_cancer"):
        path = path_of(name)
        data = gzip.decompress(path.read_bytes())
        [file] = SOURCES[name].files["all"]
        assert (len(data), hashlib.sha256(data).hexdigest()) == (file.size, file.sha256)


def test_faces_series_and_tunes(anynet_data) -> None:
    """Ten pictures of each person in their order; a series is cut in time; another column or order is not made up."""
    images, labels = load("faces", "all")
    assert (images.shape, images.dtype, labels.tolist()) == (
        (400, 112, 92),
        np.uint8,
        [i // 10 for i in range(400)],
    )
    assert np.bincount(load("faces", "test")[1]).tolist() == [2] * 40
    months = load("sunspots")
    train, test = load("sunspots", "train"), load("sunspots", "test")
    assert (len(train["Month"]), len(test["Month"])) == (2256, 564)
    assert train["Sunspots"] + test["Sunspots"] == months["Sunspots"]
    assert (months["Month"][0], months["Sunspots"][:2]) == ("1749-01", [58.0, 62.6])
    assert load("airline")["Passengers"][:3] == [112, 118, 132]
    assert load("sp500")["close"][0] == 1455.219971
    assert load("nottingham").count("\nX:") > 900
    with pytest.raises(
        ValueError, match=r"sunspots is 2,820 months .* held out at random would be no forecast"
    ):
        named("sunspots")
    source = named("faces")
    assert "pictures of 112×92, 40 classes" in source.describe()
    batch = source.test[0][0][None]
    for name in ("cnn", "mlp"):
        assert source.network(name)(batch).shape == (1, 40)


def test_a_damaged_archive_of_faces_is_said(tmp_path, monkeypatch) -> None:
    file = File("orl_faces.npz", 4, hashlib.sha256(b"none").hexdigest())
    (tmp_path / "orl_faces.npz").write_bytes(b"none")
    monkeypatch.setitem(SOURCES, "faces", dataclasses.replace(SOURCES["faces"], files={"all": (file,)}))
    monkeypatch.setenv("ANYNET_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"orl_faces.npz: not an archive of one array"):
        load("faces")


def test_as_a_source() -> None:
    table = named("iris", valid=0.2, seed=1)
    assert table.preprocessing.task == "classification"
    assert table.preprocessing.classes == ["setosa", "versicolor", "virginica"]
    assert table.origin()["path"].endswith("iris.csv.gz")
    other = named("wine", target="alcohol")
    assert other.preprocessing.task == "regression"
    with pytest.raises(ValueError, match=r"multi30k is .*pairs of sentences.*load\('multi30k'\)"):
        named("multi30k")
    with pytest.raises(ValueError, match="did you mean 'iris'"):
        named("irs")


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ValueError, match="split must be 'train', 'test' or 'all', got 'valid'"):
        load("iris", "valid")
    with pytest.raises(ValueError, match="scaled is for pictures; iris is a table"):
        load("iris", scaled=True)
    with pytest.raises(TypeError, match="must be a string, got int"):
        load(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="mnist is not one file"):
        path_of("mnist")


# ----- real files -----


def test_texts(anynet_data: Path) -> None:
    text = load("tinyshakespeare", download=False)
    assert (len(text), text[:14]) == (1_115_394, "First Citizen:")
    assert load("tiny-shakespeare", "train") + load("shakespeare", "test") == text
    names = load("names", download=False)
    assert (len(names), names[:2]) == (32_033, ["emma", "olivia"])
    assert load("names", "train") + load("names", "test") == names
    pairs = load("multi30k", "valid", download=False)
    assert {k: len(v) for k, v in pairs.items()} == {"de": 1014, "en": 1014, "fr": 1014}
    assert {len(v) for v in load("multi30k").values()} == {29_000}
    assert load("multi30k", "all")["en"][29_000:30_014] == pairs["en"]


def test_housing(anynet_data: Path) -> None:
    table = load("housing", download=False)
    assert len(table) == 10
    assert {len(column) for column in table.values()} == {20_640}
    assert table["total_bedrooms"].count(None) == 207
    assert (table["median_house_value"][0], table["ocean_proximity"][0]) == (452_600.0, "NEAR BAY")
    assert len(load("california_housing", "test")["households"]) == 4128


def test_omniglot_and_the_pictures_of_cifar(anynet_data: Path) -> None:
    needs("PIL.Image", "images")
    images, labels = load("omniglot", download=False)
    assert (images.shape[1:], images.dtype, labels.dtype) == ((105, 105), np.uint8, np.int64)
    assert np.bincount(labels).tolist() == [20] * (len(images) // 20)
    assert set(np.unique(images).tolist()) == {0, 255}
    assert (images[0] == 0).mean() < 0.2  # ink
    both, numbers = load("omniglot", "all")
    other, _ = load("omniglot", "test")
    assert len(both) == len(images) + len(other)
    assert np.bincount(numbers).tolist() == [20] * (len(both) // 20)
    images, labels = load("cifar10-jpeg-subset", download=False)
    assert (images.shape, images.dtype) == ((4000, 32, 32, 3), np.uint8)
    assert np.bincount(labels).tolist() == [400] * 10
    images, labels = load("cifar10-jpeg-subset", "test", scaled=True)
    assert (images.shape, images.dtype) == ((1000, 32, 32, 3), np.float32)
    assert SOURCES["cifar10-jpeg-subset"].classes[labels[0]] == "airplane"


def test_the_binary_version_of_cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive of the same layout, with two pictures a file."""
    rng = np.random.default_rng(0)
    out, labels, planes = io.BytesIO(), [], []
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        for name in ("batches.meta.txt", *(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
            records = rng.integers(0, 256, (2, 3073)).astype(np.uint8)
            records[:, 0] %= 10
            if name.endswith(".bin"):
                labels += records[:, 0].tolist()
                planes.append(records[:, 1:].reshape(2, 3, 32, 32))
            info = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            info.size = records.nbytes
            archive.addfile(info, io.BytesIO(records.tobytes()))
    data = out.getvalue()
    file = File("cifar-10-binary.tar.gz", len(data), hashlib.sha256(data).hexdigest(), whole=True)
    monkeypatch.setitem(SOURCES, "cifar10", dataclasses.replace(SOURCES["cifar10"], files={"all": (file,)}))
    monkeypatch.setenv("ANYNET_DATA", str(tmp_path))
    (tmp_path / file.name).write_bytes(data)
    images, found = load("cifar10", "all", download=False)
    assert (images.shape, images.dtype, found.dtype) == ((12, 32, 32, 3), np.uint8, np.int64)
    np.testing.assert_array_equal(images, np.concatenate(planes).transpose(0, 2, 3, 1))
    assert found.tolist() == labels
    assert load("cifar-10", "test")[1].tolist() == labels[10:]
    (tmp_path / file.name).write_bytes(data[:-1])
    with pytest.raises(DataError, match=r"expected .* bytes of data, got .* truncated"):
        load("cifar10")


def test_the_hashes_of_cifar10_are_of_the_published_archive() -> None:
    [file] = SOURCES["cifar10"].files["all"]
    assert file == File("cifar-10-binary.tar.gz", 170_052_171, file.sha256, whole=True)
    assert file.sha256.startswith("c4a38c50a1bc5f3a")


# ----- downloads -----


class Handler(http.server.BaseHTTPRequestHandler):
    files: dict[str, bytes] = {}  # noqa: RUF012
    slow = False

    def do_GET(self) -> None:
        data = self.files.get(self.path.rpartition("/")[2])
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        half = len(data or b"") // 2
        self.wfile.write((data or b"")[:half])
        self.wfile.flush()
        if self.slow:
            time.sleep(60)
        self.wfile.write((data or b"")[half:])

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A data set "names" on a server of this machine."""
    text = b"".join(b"name%d\n" % i for i in range(200_000))
    file = File("names.txt", len(text), hashlib.sha256(text).hexdigest())
    monkeypatch.setitem(SOURCES, "names", dataclasses.replace(SOURCES["names"], files={"all": (file,)}))
    monkeypatch.setattr(Handler, "files", {"names.txt": text})
    monkeypatch.setattr(Handler, "slow", False)
    monkeypatch.setenv("ANYNET_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("ANYNET_DATA", raising=False)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.socket.close()
    thread.join()


def kept(tmp_path: Path) -> list[str]:
    return sorted(p.name for p in (tmp_path / "cache").rglob("*") if p.is_file())


def test_a_download_shows_progress_on_a_terminal(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    assert len(load("names", mirrors=[mirror])) == 200_000
    assert "names.txt" in terminal.getvalue()
    assert kept(tmp_path) == ["names.txt"]
    assert load("names", download=False)[0] == "name0"


def test_files_have_other_names_on_mirrors(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [file] = SOURCES["names"].files["all"]
    there = dataclasses.replace(file, remote="input.txt")
    monkeypatch.setitem(SOURCES, "names", dataclasses.replace(SOURCES["names"], files={"all": (there,)}))
    monkeypatch.setattr(Handler, "files", {"input.txt": Handler.files["names.txt"]})
    assert path_of("names", mirrors=[mirror]) == tmp_path / "cache" / "text" / "names.txt"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a process that is killed")
def test_a_kill_during_a_download_leaves_no_half_file(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Handler, "slow", True)
    [file] = SOURCES["names"].files["all"]
    code = (
        "import dataclasses; from anynet.data import SOURCES, load; from anynet.data.download import File\n"
        f"SOURCES['names'] = dataclasses.replace(SOURCES['names'], files={{'all': (File('names.txt', {file.size}, '{file.sha256}'),)}})\n"
        f"load('names', mirrors=['{mirror}'])"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    end = time.monotonic() + 60
    while not kept(tmp_path) and time.monotonic() < end:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert "names.txt" not in kept(tmp_path)
    with pytest.raises(DataError, match=r"names.txt is not in"):
        load("names", download=False)
    monkeypatch.setattr(Handler, "slow", False)
    assert len(load("names", mirrors=[mirror])) == 200_000
    assert kept(tmp_path) == ["names.txt"]  # what the killed one left is gone, too


def test_a_full_disk_is_said_and_leaves_nothing(mirror: str, tmp_path: Path) -> None:
    resource = pytest.importorskip("resource", reason="limits of POSIX systems")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (100_000, before[1])
    )  # writing more is an error, as on a full disk
    try:
        with pytest.raises(
            DataError, match=r"could not download names.txt.*cannot write .*nothing was written"
        ):
            load("names", mirrors=[mirror])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert kept(tmp_path) == []


def test_a_folder_that_cannot_be_written_is_said(
    mirror: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import errno

    from anynet.data import download

    def full(path: Any) -> Any:
        raise OSError(errno.ENOSPC, f"No space left on device: cannot write {path}; nothing was written")

    monkeypatch.setattr(download, "writing", full)
    with pytest.raises(OSError, match="No space left on device: cannot write"):
        load("names", mirrors=[mirror, "http://127.0.0.1:9"])


def test_without_a_home_nothing_is_downloaded(mirror: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HOME", "ANYNET_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    with pytest.raises(DataError, match=r"names.txt is not in any folder \(there is no home folder"):
        load("names", mirrors=[mirror])
    assert load("iris")["species"][0] == "setosa"  # in the package
