"""Files of text: which there are, their bytes, and what these say."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from anynet.data.idx import DataError
from anynet.data.unpacking import unpacked

__all__ = ["bytes_of", "decoded", "files_of", "named", "newlines", "text_of"]


def files_of(source: Any) -> list[Path]:
    """The files of a source, checked."""
    if isinstance(source, (str, os.PathLike)):
        given = [source]
    elif isinstance(source, Sequence) and source and all(isinstance(s, (str, os.PathLike)) for s in source):
        given = list(source)
    else:
        msg = f"Text: source must be the path of a text or a folder, or a list of paths, got {type(source).__name__} {source!r:.60}"
        raise TypeError(msg)
    found: list[Path] = []
    for item in given:
        if isinstance(item, str) and "\n" in item:
            msg = "Text: source must be a path, got a text of several lines; for a text itself: Text.from_text(…)"
            raise ValueError(msg)
        path = Path(item)
        if path.is_dir():
            inside = sorted(
                p
                for p in path.rglob("*")
                if p.name.lower().endswith((".txt", ".txt.gz"))
                and p.is_file()
                and not any(part.startswith(".") for part in p.relative_to(path).parts)
            )
            if not inside:
                names = sorted(p.name for p in path.iterdir())[:6]
                msg = f"{path}: no .txt file in this folder or below; it has {', '.join(names) or 'nothing'}"
                raise DataError(msg)
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            msg = f"{path}: there is no such file or folder"
            raise DataError(msg)
    return found


def named(files: Sequence[Path]) -> str:
    """What errors and descriptions call them."""
    return files[0].name if len(files) == 1 else f"{files[0].name} and {len(files) - 1} more files"


def bytes_of(path: Path) -> bytes:
    """What is in a file, which may be packed."""
    return unpacked(str(path), path.read_bytes())


def newlines(text: str) -> str:
    """With line ends as "\\n", those of Windows and of old Macintoshes too."""
    return text.replace("\r\n", "\n").replace("\r", "\n") if "\r" in text else text


def decoded(path: Path, encoding: str) -> str:
    """The text of a file; `DataError` names the byte that is none."""
    if not path.is_file():
        msg = f"{path}: there is no such file"
        raise DataError(msg)
    data = bytes_of(path)
    if str(encoding).lower().replace("_", "-") in ("utf-8", "utf8"):
        # without the mark that Windows' editors put first; with that of UTF-16, which they call Unicode
        encoding = "utf-16" if data.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    try:
        text = data.decode(encoding)
    except (LookupError, TypeError):
        msg = f"Text: unknown encoding {encoding!r}; known ones are utf-8, latin-1, cp1252, utf-16, …"
        raise ValueError(msg) from None
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        what = f"0x{data[error.start]:02x}" if error.start < len(data) else "the end"
        hint = ", and it has zero bytes, as files that are no texts have" if b"\0" in data[:4096] else ""
        msg = (
            f"{path}: byte {error.start} (line {line}), {what}, is no {encoding.removesuffix('-sig')}{hint}; give encoding='latin-1', "
            "'cp1252' or what it is, or tokens='byte'"
        )
        raise DataError(msg) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        msg = f"{path}: there is a zero byte in line {line}: is it a text at all? Give encoding= of what it is, or tokens='byte'"
        raise DataError(msg)
    return text


def text_of(files: Sequence[Path], encoding: str) -> str:
    """The files, one after another, each begun on a new line."""
    texts = [decoded(path, encoding) for path in files]
    return "".join(t if t.endswith("\n") or t is texts[-1] else t + "\n" for t in texts)
