"""Which pictures a folder (or a zip of one) has, of which class, in which part; what else lies there is said."""

from __future__ import annotations

import hashlib
import os
import zipfile
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from anynet.data.idx import DataError

__all__ = ["PART_NAMES", "SUFFIXES", "Files", "Found", "find", "listing", "pictures_under", "plural"]

SUFFIXES = frozenset(
    [
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".png",
        ".apng",
        ".gif",
        ".bmp",
        ".dib",
        ".tif",
        ".tiff",
        ".webp",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".tga",
        ".ico",
        ".jp2",
        ".avif",
    ]
)
"""Suffixes of the files that are taken for pictures, in any case."""

PART_NAMES = {
    "train": "train", "training": "train", "valid": "valid", "val": "valid", "validation": "valid", "dev": "valid",
    "test": "test", "testing": "test",
}  # fmt: skip

_LARGEST = 1 << 29  # bytes of one file


class Files:
    """The files under a folder or in a zip archive, by names relative to it with ``/``."""

    def __init__(self, root: str | os.PathLike[str]) -> None:
        self.root = os.path.abspath(os.path.expanduser(os.fspath(root)))
        self.archive: zipfile.ZipFile | None = None
        if os.path.isdir(self.root):
            self.names, self.folders = listing(self.root)
        elif os.path.isfile(self.root) and zipfile.is_zipfile(self.root):
            self.archive = zipfile.ZipFile(self.root)
            members = [n for n in self.archive.namelist() if ".." not in n.split("/")]
            self.names = sorted(n for n in members if not n.endswith("/"))
            self.folders = sorted(n.rstrip("/") for n in members if n.endswith("/"))
        else:
            what = "is no folder and no zip of one" if os.path.exists(self.root) else "is not there"
            msg = (
                f"ImageFolder: {os.fspath(root)} {what}; expected root/CLASS/*.jpg, or root/train/CLASS/*.jpg"
            )
            raise DataError(msg)

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        if self.archive is not None:
            info = self.archive.getinfo(name)
            if info.file_size > _LARGEST:
                msg = f"{name} is larger than {_LARGEST >> 20} MiB"
                raise OSError(msg)
            return self.archive.read(info)
        path = self.path(name)
        if os.path.exists(path) and not os.path.isfile(path):  # a pipe has no end
            msg = "no regular file"
            raise OSError(msg)
        with open(path, "rb") as file:
            return file.read()

    def path(self, name: str) -> str:
        """Where a file is, for messages and answers."""
        return os.path.join(self.root, *name.split("/"))


def listing(root: str) -> tuple[list[str], list[str]]:
    """(files, folders) under a folder, links followed, each folder once."""
    names: list[str] = []
    folders: list[str] = []
    seen = {os.path.realpath(root)}
    for folder, inner, files in os.walk(root, followlinks=True):
        inner.sort()
        fresh = []
        for name in inner:
            real = os.path.realpath(os.path.join(folder, name))
            if real not in seen:
                seen.add(real)
                fresh.append(name)
        inner[:] = fresh
        base = os.path.relpath(folder, root).replace(os.sep, "/")
        prefix = "" if base == "." else base + "/"
        folders += [prefix + name for name in inner]
        names += [prefix + name for name in files]
    return sorted(names), sorted(folders)


def _hidden(name: str) -> bool:
    return any(part.startswith(".") or part == "__MACOSX" for part in name.split("/"))


def _is_picture(name: str) -> bool:
    return os.path.splitext(name)[1].lower() in SUFFIXES


def pictures_under(folder: str) -> list[str]:
    """The pictures in a folder and those below, in order; hidden ones are left out."""
    return [
        os.path.join(folder, *n.split("/")) for n in listing(folder)[0] if _is_picture(n) and not _hidden(n)
    ]


@dataclass
class Found:
    """Pictures: their files, classes and parts ("" where there are no folders for parts), and remarks about the rest."""

    files: Files
    names: list[str]
    labels: list[str]
    parts: list[str]
    remarks: list[str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """The classes, in order."""
        return sorted(set(self.labels))

    def without(self, rows: set[int]) -> Found:
        """But for some."""
        keep = [i for i in range(len(self.names)) if i not in rows]
        return Found(
            self.files,
            [self.names[i] for i in keep],
            [self.labels[i] for i in keep],
            [self.parts[i] for i in keep],
            self.remarks,
        )

    def digests(self) -> tuple[list[str], int]:
        """The SHA-256 of each file, and the bytes of all."""

        def one(name: str) -> tuple[str, int]:
            try:
                data = self.files.read(name)
            except (OSError, RuntimeError, zipfile.BadZipFile):  # found again, and said, when it is decoded
                return "unreadable", 0
            return hashlib.sha256(data).hexdigest(), len(data)

        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            found = list(pool.map(one, self.names))
        return [d for d, _ in found], sum(n for _, n in found)


def find(root: str | os.PathLike[str]) -> Found:
    """The pictures of root/CLASS/…, or of root/{train,valid,test}/CLASS/…; DataError where there are none to learn from."""
    files = Files(root)
    remarks: list[str] = []
    names, other = [], Counter[str]()
    for name in files.names:
        if _hidden(name):
            continue
        if _is_picture(name):
            names.append(name)
        else:
            other[os.path.splitext(name)[1].lower() or "without a suffix"] += 1
    if other:
        kinds = ", ".join(f"{n} {suffix}" for suffix, n in other.most_common(5))
        remarks.append(f"{plural(sum(other.values()), 'file')} left out that are no pictures ({kinds})")
    base = _descended(names)
    inner = [n[len(base) :] for n in names]
    parts = _parts(inner)
    found = Found(files, [], [], [], remarks)
    loose, foreign = 0, Counter[str]()
    for name, rest in zip(names, inner, strict=True):
        pieces = rest.split("/")
        part = ""
        if parts:
            part = parts.get(pieces[0], "?")
            pieces = pieces[1:]
        if part == "?":
            foreign[rest.split("/")[0]] += 1
        elif len(pieces) < 2:
            loose += 1
        else:
            found.names.append(name)
            found.labels.append(pieces[0])
            found.parts.append(part)
    if loose:
        remarks.append(f"{plural(loose, 'picture')} left out that lie in no folder of a class")
    for name, count in foreign.items():
        remarks.append(
            f"the folder {name} left out ({plural(count, 'picture')}): it is none of {', '.join(PART_NAMES)}"
        )
    _check(found, base, loose)
    _say_empty(found, base, parts)
    return found


def _descended(names: Sequence[str]) -> str:
    """The folder in which the classes or parts are: below root where all pictures are in one folder of folders."""
    base = ""
    while True:
        tops = {n[len(base) :].split("/")[0] for n in names}
        if len(tops) != 1 or not all(n[len(base) :].count("/") >= 2 for n in names):
            return base
        [top] = tops
        if top.lower() in PART_NAMES:
            return base
        base += top + "/"


def _parts(names: Sequence[str]) -> dict[str, str]:
    """The folders that are parts: where there is one called train, and it has folders of classes and no pictures of its own."""
    depth: dict[str, int] = {}
    for name in names:
        top, _, rest = name.partition("/")
        depth[top] = min(depth.get(top, 99), rest.count("/") if rest else -1)
    parts = {top: PART_NAMES[top.lower()] for top in depth if top.lower() in PART_NAMES and depth[top] >= 0}
    train = [top for top, part in parts.items() if part == "train"]
    if len(parts) == len(depth) > 1 and not train:
        msg = (
            f"ImageFolder: there are the parts {', '.join(sorted(parts))}, and no folder train (or training)"
        )
        raise DataError(msg)
    if not train or any(depth[top] < 1 for top in train):
        return {}
    for part in ("train", "valid", "test"):
        several = [top for top, p in parts.items() if p == part]
        if len(several) > 1:
            msg = f"ImageFolder: the folders {' and '.join(several)} are both the part {part}; rename or remove one"
            raise DataError(msg)
    return parts


def _check(found: Found, base: str, loose: int) -> None:
    root = found.files.root
    if not found.names:
        if loose:
            msg = f"ImageFolder: {root} has {plural(loose, 'picture')}, but no folders of classes: expected root/CLASS/*.jpg"
        else:
            said = "; ".join(found.remarks) or "it is empty"
            msg = f"ImageFolder: {root} has no pictures: {said}. Expected root/CLASS/*.jpg, with suffixes {', '.join(sorted(SUFFIXES))}"
        raise DataError(msg)
    train = {c for c, p in zip(found.labels, found.parts, strict=True) if p in ("", "train")}
    if len(train) < 2:
        msg = (
            f"ImageFolder: {root} has the class {next(iter(train))!r} alone: there is nothing to tell apart; "
            "expected a folder for each of two classes or more"
        )
        raise DataError(msg)
    strange = sorted({c for c in found.labels if c not in train})
    if strange:
        more, known = ", …" if len(strange) > 8 else "", sorted(train)
        msg = (
            f"ImageFolder: the classes {', '.join(strange[:8])}{more} are in valid or test, but have no pictures to train on; those to "
            f"train on are {', '.join(known[:12])}{', …' if len(known) > 12 else ''}"
        )
        raise DataError(msg)
    if base:
        found.remarks.append(f"the classes are in {base.rstrip('/')}")


def _say_empty(found: Found, base: str, parts: dict[str, str]) -> None:
    level = base.count("/") + (1 if parts else 0)
    empty = [
        f
        for f in found.files.folders
        if f.startswith(base)
        and f.count("/") == level
        and not _hidden(f)
        and f.split("/")[-1] not in found.classes
        and (not parts or f[len(base) :].split("/")[0] in parts)
    ]
    if empty:
        found.remarks.append(
            f"folders without pictures left out: {', '.join(empty[:8])}" + (", …" if len(empty) > 8 else "")
        )


def plural(n: int, word: str) -> str:
    """A number and its noun: "1 file", "2,000 files"."""
    return f"{n:,} {word}{'' if n == 1 else 's'}"
