"""What a source is follows from what it is: a path, a name, or data in memory."""

from __future__ import annotations

import difflib
import inspect
import os
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from anynet._hints import nearest
from anynet.data.catalog import LANGUAGES, SOURCES, NamedData, find_named, known, load, path_of
from anynet.data.idx import DataError
from anynet.data.source import Source
from anynet.data.unpacking import members_of

__all__ = ["named", "options_of", "remade", "source_of"]

_TABLES = (".csv", ".tsv", ".tab", ".parquet", ".pq", ".data", ".dat", ".json", ".jsonl", ".ndjson")
_TEXTS = (".txt", ".text", ".md", ".rst")
_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_PACKED = (".gz", ".bz2", ".xz")
_KINDS = {"table": "Table", "images": "ImageFolder", "text": "Text", "named": "NamedImages"}


def _class(kind: str) -> Any:
    import anynet.data  # start-up time: each kind is imported when there is one

    if kind == "named":
        from anynet.data.named_images import NamedImages  # start-up time

        return NamedImages
    found = getattr(anynet.data, _KINDS[kind])
    return found


def options_of(source: Any, given: Collection[str] = ()) -> list[str]:
    """The names of the options that the source of such data takes, with these options given."""
    kind = source if isinstance(source, str) and source in _KINDS else kind_of(source, given)
    parameters = list(inspect.signature(_class(kind).__init__).parameters.values())[2:]
    return [p.name for p in parameters if p.kind in (p.KEYWORD_ONLY, p.POSITIONAL_OR_KEYWORD)]


def source_of(source: Any, **options: Any) -> Source:
    """The `Source` of a path, a name or data in memory.

    - "digits", "mnist", "iris", "housing", "tinyshakespeare", …: data sets by name (`anynet.data.SOURCES`);
    - a .csv, .tsv or .parquet file (also packed: .gz, .bz2, .xz, a .zip of one file), any other file with ``target=``, a DataFrame, a
      dict of columns: a `Table`, which needs ``target=``;
    - a folder (or a .zip of one) with a sub-folder of pictures for each class: an `ImageFolder`;
    - a .txt file, or a folder of them: a `Text`.

    `options` are those of the source. A `Source` is returned as it is. Errors: FileNotFoundError for what is not there, with names that
    are like it; ValueError for what can be no source, and for a table without a target: it lists the columns.

    >>> source_of("digits")
    NamedImages('digits', 1298 to train, 144 to validate, 355 to test)
    """
    if isinstance(source, Source):
        if options:
            msg = f"the source is made already; give {', '.join(options)} where it is made"
            raise TypeError(msg)
        return source
    kind = kind_of(source, [k for k, v in options.items() if v is not None])
    cls: Any = _class(kind)
    taken = options_of(kind)
    for name in options:
        if name not in taken:
            msg = f"{cls.__name__} has no option {name!r}{nearest(name, taken)}"
            raise TypeError(msg)
    by_name = _named(source)
    if by_name is not None:
        return named(by_name.name, **options)
    if kind == "table" and options.get("target") is None:
        raise ValueError(_without_target(source, options))
    made: Source = cls(source, **options)
    return made


def named(name: str, **options: Any) -> Source:
    """A data set by name as a `Source`: pictures, a `Table` with its target, a `Text`. `options` are those of the source. Multi30k has
    none: ValueError says what it is.

    >>> named("iris", seed=3).preprocessing.classes
    ['setosa', 'versicolor', 'virginica']
    """
    source = find_named(name)
    if source.kind == "table":
        target = options.pop("target", source.target)
        table: Any = load(name) if source.form == "sklearn" else path_of(name)
        made: Source = _class("table")(table, target=target, **options)
        return made
    if source.kind in ("text", "lines"):
        made = _class("text")(path_of(name), **options)
        return made
    if source.kind == "images":
        made = _class("named")(source.name, **options)
        return made
    raise ValueError(_without_source(source))


def _without_source(source: NamedData) -> str:
    """What is said where a data set is asked for as a source and there is none of its kind."""
    if source.kind == "series":
        return (
            f"{source.name} is {source.about}: a series in the order of time, of which rows held out at random would be no forecast. "
            f'anynet.data.load({source.name!r}) gives a dict of columns, split="train" all but the last fifth'
        )
    languages = ", ".join(map(repr, LANGUAGES))
    return (
        f"{source.name} is {source.about}: pairs of sentences are for networks of your own. anynet.data.load({source.name!r}) gives a "
        f"dict of {languages}, lists of sentences, line by line the same; anynet.models.EncoderDecoder translates"
    )


def kind_of(source: Any, given: Collection[str] = ()) -> str:
    """ "table", "images", "text" or "named"; a file with the option ``target=`` is a table whatever it is called."""
    if (
        isinstance(source, (list, tuple))
        and source
        and all(isinstance(p, (str, os.PathLike)) for p in source)
    ):
        kinds = {kind_of(p, given) for p in source}
        if len(kinds) == 1:
            return kinds.pop()
    if not isinstance(source, (str, os.PathLike)):
        if (
            isinstance(source, Mapping)
            or hasattr(source, "columns")
            or hasattr(source, "dtype")
            or isinstance(source, list)
        ):
            return "table"
        msg = (
            f"data to train on must be a path, the name of a data set, a DataFrame, a dict of columns or a Source, got "
            f"{type(source).__name__}; arrays of inputs and targets are for anynet.fit"
        )
        raise TypeError(msg)
    path = Path(source)
    by_name = _named(source)
    if by_name is not None:
        forms = {"images": "named", "table": "table", "text": "text", "lines": "text"}
        if by_name.kind not in forms:
            raise ValueError(_without_source(by_name))
        return forms[by_name.kind]
    if not path.exists():
        raise FileNotFoundError(_not_there(path))
    return _folder(path) if path.is_dir() else _file(path, "target" in given)


def _named(source: Any) -> NamedData | None:
    """The data set of that name, where it is one and no file or folder has the name."""
    return known(source) if isinstance(source, str) and not Path(source).exists() else None


def _file(path: Path, with_target: bool) -> str:
    suffixes = [s.lower() for s in path.suffixes]
    if len(suffixes) > 1 and suffixes[-1] in _PACKED:
        suffixes.pop()
    last = suffixes[-1] if suffixes else ""
    if last == ".zip":
        return _zip(path, with_target)
    if last in _PICTURES:
        msg = f"{path} is one picture; give the folder with a sub-folder of pictures for each class"
        raise ValueError(msg)
    if last in _TABLES or (with_target and last not in _NO_SOURCES):
        return "table"
    if last in _TEXTS:
        return "text"
    remedy = _NO_SOURCES.get(last, "").format(name=path.name)
    msg = (
        f"{path}: a source is a table ({', '.join(_TABLES[:4])}), a text (.txt) or a folder of pictures; "
        + (remedy or f"of a file ending in {last or 'nothing'}, target= says that it is a table")
    )
    raise ValueError(msg)


_NO_SOURCES = {
    ".xlsx": "save it as CSV", ".xls": "save it as CSV", ".ods": "save it as CSV",
    ".npz": "load it with NumPy and give the arrays to anynet.fit", ".npy": "load it with NumPy and give the arrays to anynet.fit",
    ".pkl": "load it in Python and give the DataFrame", ".pickle": "load it in Python and give the DataFrame",
    ".tar": "unpack it first", ".tgz": "unpack it first", ".7z": "unpack it first", ".rar": "unpack it first",
    ".safetensors": "that is a model: anynet.open(path)", ".py": "that is a script: python {name}",
}  # fmt: skip
"""What to do with files that are none."""


def _zip(path: Path, with_target: bool) -> str:
    """What a zip archive holds: folders of pictures, or one table or text."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = members_of(archive)
    except zipfile.BadZipFile as error:
        msg = f"{path}: not a zip archive that can be read: {error}"
        raise DataError(msg) from None
    suffixes = [os.path.splitext(n.lower())[1] for n in names]
    if any(s in _PICTURES for s in suffixes):
        return "images"
    if len(names) == 1 and (with_target or suffixes[0] in _TABLES):
        return "table"
    if len(names) == 1 and suffixes[0] in _TEXTS:
        return "text"
    held = ", ".join(names[:6]) + (", …" if len(names) > 6 else "") if names else "nothing"
    msg = f"{path}: a zip archive is a source where it holds folders of pictures, or one table or text; it has {held}; unpack it"
    raise ValueError(msg)


def _folder(path: Path) -> str:
    if (path / "run.json").exists():
        msg = f"{path} is the folder of a run, not of data; to go on with it: anynet.resume({str(path)!r})"
        raise ValueError(msg)
    pictures = texts = tables = 0
    for at, (_, _, names) in enumerate(os.walk(path)):
        for name in names:
            suffix = os.path.splitext(name.lower())[1]
            pictures += suffix in _PICTURES
            texts += suffix in _TEXTS
            tables += suffix in _TABLES
        if at > 2000 or pictures > 100:
            break
    if pictures:
        return "images"
    if texts:
        return "text"
    names = sorted(p.name for p in path.iterdir())[:8]
    what = "is empty" if not names else f"has {', '.join(names)}"
    which = "; give one of the tables" if tables else ""
    msg = f"{path}: a folder to train on has a sub-folder of pictures for each class, or .txt files; this one {what}{which}"
    raise ValueError(msg)


def _not_there(path: Path) -> str:
    above = path.parent
    around = sorted(p.name for p in above.iterdir()) if above.is_dir() else []
    near = difflib.get_close_matches(path.name, around, 3)
    named = difflib.get_close_matches(str(path), list(SOURCES), 1)
    hint = (
        f"; did you mean {' or '.join(str(above / n) if str(above) != '.' else n for n in near)}?"
        if near
        else ""
    )
    hint = hint or (f"; did you mean {named[0]}?" if named else "")
    where = "" if above.is_dir() else f" (there is no folder {above})"
    msg = f"there is no file or folder {path}{where}{hint}"
    return msg if hint else msg + f"; data sets by name are {', '.join(SOURCES)}"


def _without_target(source: Any, options: Mapping[str, Any]) -> str:
    """A table needs a target: which columns there are."""
    from anynet.data.table.reading import read_table  # start-up time: only for the error

    reading = {
        k: options[k] for k in ("separator", "header", "names", "encoding") if options.get(k) is not None
    }
    frame = read_table(source, **reading)
    names = list(frame.columns)
    words = (
        "target",
        "label",
        "class",
        "y",
        "species",
        "survived",
        "price",
        "quality",
        "outcome",
        "median_house_value",
    )
    likely = next((n for n in names if n.lower() in words), names[-1] if names else "…")
    shown = ", ".join(names[:40]) + (f", … ({len(names)} in all)" if len(names) > 40 else "")
    return f"say which column is to be predicted: target=…, as in target={likely!r}. The columns are {shown}"


def remade(origin: Mapping[str, Any]) -> Source:
    """The source that a run was made with, from what `Source.origin` has said; ValueError where the data are not there or others."""
    kind, path = origin.get("kind"), origin.get("path")
    if kind not in _KINDS or path is None:
        what = "arrays" if kind == "arrays" else "data in memory"
        msg = f"the run was trained on {what}, which are not kept; give the data"
        raise ValueError(msg)
    options = origin.get("options")
    if not isinstance(options, Mapping) or not isinstance(path, (str, list)):
        msg = f"the run does not say how its data were read: options {options!r:.40}, path {path!r:.40}"
        raise ValueError(msg)
    for one in [path] if isinstance(path, str) else path:
        if kind != "named" and not os.path.exists(one):
            msg = f"the data of the run, {one}, are not there any more; give the data"
            raise FileNotFoundError(msg)
    source: Source = _class(str(kind))(path, **{str(k): v for k, v in options.items()})
    now, then = source.origin(), origin
    if now.get("sha256") != then.get("sha256"):
        hashes = f"SHA-256 {str(now.get('sha256'))[:12]}… now, {str(then.get('sha256'))[:12]}… then"
        msg = f"the data of the run, {path}, have changed since: {hashes}; give the data"
        raise ValueError(msg)
    return source
