"""Data sets by name: digits (inside the package), mnist and fashion (found through ANYNET_DATA, or downloaded once)."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import IO

from anynet._hints import nearest
from anynet.data.idx import Bytes, DataError, parse_idx
from anynet_backends import Array, backend_of
from anynet_backends.config import DATA, cache_folder
from anynet_backends.files import open_regular, write

__all__ = ["SOURCES", "File", "Source", "cache_folder", "load", "normalize"]


@dataclass(frozen=True)
class File:
    """One file of a data set; `size` and `sha256` are those of its uncompressed bytes."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Source:
    """A data set: its folder, its files (images, labels) by part, its public mirrors, the largest value of a pixel."""

    name: str
    folder: str
    files: dict[str, tuple[File, File]]
    mirrors: tuple[str, ...]
    levels: int
    classes: tuple[str, ...]


def _mnist_like(
    name: str, folder: str, hashes: Sequence[str], mirrors: tuple[str, ...], classes: str
) -> Source:
    sizes = (47_040_016, 60_008, 7_840_016, 10_008)
    names = [
        f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ]
    files = [File(*fields) for fields in zip(names, sizes, hashes, strict=True)]
    parts = {"train": (files[0], files[1]), "test": (files[2], files[3])}
    return Source(name, folder, parts, mirrors, 255, tuple(classes.split(", ")))


SOURCES: dict[str, Source] = {
    "digits": Source(
        "digits",
        "",
        {
            "all": (
                File(
                    "digits-images-idx3-ubyte.gz",
                    115_024,
                    "359cd13f0f514122884198b78a131df597421cbf5e93a76678fa96fc548f0d96",
                ),
                File(
                    "digits-labels-idx1-ubyte.gz",
                    1_805,
                    "ce71631c1f31ce56fa54f31d1d498fafacff59b001e6c30c4a5e29508aa277ad",
                ),
            )
        },
        (),
        16,
        tuple("0123456789"),
    ),
    "mnist": _mnist_like(
        "mnist",
        "mnist",
        (
            "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
            "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
            "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
            "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
        ),
        (
            "https://ossci-datasets.s3.amazonaws.com/mnist/",
            "https://storage.googleapis.com/cvdf-datasets/mnist/",
        ),
        "0, 1, 2, 3, 4, 5, 6, 7, 8, 9",
    ),
    "fashion": _mnist_like(
        "fashion",
        "fashion-mnist",
        (
            "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
        ),
        (
            "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
            "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
        ),
        "T-shirt/top, trouser, pullover, dress, coat, sandal, shirt, sneaker, bag, ankle boot",
    ),
}
"""The known data sets. MNIST: Y. LeCun, C. Cortes, C. Burges. Fashion-MNIST: H. Xiao, K. Rasul, R. Vollgraf,
arXiv:1708.07747, MIT licence. Digits: files/NOTICE.md."""


def load(
    name: str,
    split: str = "train",
    *,
    scaled: bool = False,
    download: bool = True,
    mirrors: Sequence[str] | None = None,
) -> tuple[Array, Array]:
    """Images and labels of a data set as NumPy arrays: uint8 (n, height, width) and int64 (n,).

    Parameters:
      name: "digits" (1,797 8×8 images, values 0 … 16, inside the package), "mnist" or "fashion" (60,000 + 10,000 28×28
        images, values 0 … 255).
      split: "train", "test" or "all" (the one, then the other).
      scaled: float32 images from 0 to 1 instead.
      download: whether files that are not here may be fetched; each is checked against its SHA-256 before it is kept.
      mirrors: addresses of folders to download from, instead of the public ones in `SOURCES`.

    The files are looked for in $ANYNET_DATA/mnist and $ANYNET_DATA/fashion-mnist, then in `cache_folder`. The test part
    of the digits is fixed and stratified: every fifth image of each class, in the order of the file (355 of 1,797).

    Errors: ValueError for an unknown name or split; `DataError` for a file that is damaged or cannot be had.

    >>> images, labels = load("digits", "test")
    >>> images.shape, labels.shape
    ((355, 8, 8), (355,))
    """
    if name not in SOURCES:
        msg = f"load: unknown data set {name!r}{nearest(name, SOURCES)}"
        raise ValueError(msg)
    if split not in ("train", "test", "all"):
        msg = f"load: split must be 'train', 'test' or 'all', got {split!r}"
        raise ValueError(msg)
    source = SOURCES[name]
    if name == "digits":
        images, labels = _pair(source, "all", False, ())
        if split != "all":
            rows = _digits_rows(labels.tolist(), split)
            images, labels = images[rows], labels[rows]
    else:
        places = source.mirrors if mirrors is None else tuple(mirrors)
        parts = [
            _pair(source, part, download, places) for part in ("train", "test") if split in (part, "all")
        ]
        images, labels = parts[0]
        if len(parts) == 2:
            xp = backend_of(images)
            images, labels = (xp.concat(list(both), axis=0) for both in zip(*parts, strict=True))
    if scaled:
        images = normalize(images, levels=source.levels)
    return images, labels


def _digits_rows(labels: list[int], split: str) -> list[int]:
    seen = [0] * 10
    rows = []
    for row, label in enumerate(labels):
        if (seen[label] % 5 == 4) == (split == "test"):
            rows.append(row)
        seen[label] += 1
    return rows


def normalize(images: Array, *, levels: float = 255, mean: float = 0.0, std: float = 1.0) -> Array:
    """float32 ``(images / levels − mean) / std``, on the array's own device.

    >>> images, _ = load("digits")
    >>> float(normalize(images, levels=16).max())
    1.0
    """
    if not levels > 0 or not std > 0:
        msg = f"normalize: levels and std must be > 0, got levels={levels}, std={std}"
        raise ValueError(msg)
    xp = backend_of(images)
    return (xp.astype(images, xp.float32) / levels - mean) / std


# ---- files ----


def _pair(source: Source, part: str, download: bool, mirrors: Sequence[str]) -> tuple[Array, Array]:
    arrays = []
    for file in source.files[part]:
        if source.name == "digits":
            name = file.name
            with (resources.files("anynet.data") / "files" / name).open("rb") as opened:
                data = _checked(opened, file, name)
        else:
            path = _find(source, file, download, mirrors)
            name = str(path)
            try:
                with io.BufferedReader(open_regular(path)) as opened:
                    data = _checked(opened, file, name)
            except DataError as error:
                msg = f"{error}. Remove it, so that it is downloaded again, or put the right file there"
                raise DataError(msg) from None
        arrays.append(parse_idx(data, name))
    images, labels = arrays
    return images, backend_of(labels).astype(labels, backend_of(labels).int64)


def _checked(opened: IO[bytes], file: File, name: str) -> bytes | bytearray:
    """The uncompressed bytes of a data set's file; `DataError` where they are others, or more."""
    data = Bytes(opened, name).read(file.size + 1)
    if len(data) != file.size:
        got = f"{len(data)} bytes" if len(data) < file.size else "more"
        msg = f"{name}: expected {file.size} bytes of data, got {got}: truncated, or another file"
        raise DataError(msg)
    found = hashlib.sha256(data).hexdigest()
    if found != file.sha256:
        msg = f"{name}: SHA-256 is {found}, expected {file.sha256}: damaged, or another file"
        raise DataError(msg)
    return data


def _find(source: Source, file: File, download: bool, mirrors: Sequence[str]) -> Path:
    data = DATA()
    places = [] if data is None else [data / source.folder]
    try:
        places.append(cache_folder() / source.folder)
    except FileNotFoundError as error:  # no home: nothing is downloaded
        download, reason = False, f" ({error})"
    else:
        reason = ""
    for place in places:
        for name in (file.name, file.name.removesuffix(".gz")):
            if (place / name).is_file():
                return place / name
    if not download or not mirrors:
        looked = " and ".join(str(place) for place in places) or "any folder"
        msg = f"{source.name}: {file.name} is not in {looked}{reason}; put it there, set ANYNET_DATA or allow the download"
        raise DataError(msg)
    return _download(source, file, places[-1], mirrors)


def _download(source: Source, file: File, folder: Path, mirrors: Sequence[str]) -> Path:
    """Fetch a file from the first mirror that has the right bytes. Nothing else is left behind."""
    import http.client  # here, and not above: few programs download
    import urllib.request

    reasons = []
    for mirror in mirrors:
        address = mirror.rstrip("/") + "/" + file.name
        try:
            with urllib.request.urlopen(address, timeout=60) as answer:
                raw = answer.read(file.size + 1_000_000)
            _checked(io.BytesIO(raw), file, address)
        except (OSError, ValueError, http.client.HTTPException) as error:  # DataError is a ValueError
            reasons.append(f"{address}: {error}")
            continue
        folder.mkdir(parents=True, exist_ok=True)
        write(folder / file.name, raw)
        return folder / file.name
    msg = (
        f"{source.name}: could not download {file.name}. "
        + "; ".join(reasons)
        + f". Put the file in {folder} or in $ANYNET_DATA/{source.folder}"
    )
    raise DataError(msg)
