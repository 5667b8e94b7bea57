"""Data sets by name: pictures, tables, texts; inside the package, found through ANYNET_DATA, or downloaded once."""

from __future__ import annotations

import csv
import io
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from anynet._hints import nearest
from anynet._optional import optional
from anynet.data.download import File, content, find
from anynet.data.idx import DataError, parse_idx
from anynet_backends import Array, backend_of, host, registry

__all__ = [
    "LANGUAGES",
    "SOURCES",
    "File",
    "NamedData",
    "find_named",
    "known",
    "load",
    "normalize",
    "path_of",
    "rows_of_part",
]


@dataclass(frozen=True)
class NamedData:
    """A data set: its folder, its files by part, its public mirrors; of pictures the largest value of a pixel and the classes, of a
    table the column that is to be predicted.

    `kind` is what `load` gives: images (and labels), a table, a series (a table in the order of time), a text, lines, pairs of sentences.
    `form` is how the files hold it.
    """

    name: str
    folder: str
    files: dict[str, tuple[File, ...]]
    mirrors: tuple[str, ...]
    levels: int = 255
    classes: tuple[str, ...] = ()
    kind: Literal["images", "table", "series", "text", "lines", "pairs"] = "images"
    form: str = "idx"
    target: str = ""
    about: str = ""


def _mnist_like(
    name: str, folder: str, hashes: Sequence[str], mirrors: tuple[str, ...], classes: str, about: str
) -> NamedData:
    sizes = (47_040_016, 60_008, 7_840_016, 10_008)
    names = [
        f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")
    ]
    files = [File(*fields) for fields in zip(names, sizes, hashes, strict=True)]
    parts: dict[str, tuple[File, ...]] = {"train": (files[0], files[1]), "test": (files[2], files[3])}
    return NamedData(name, folder, parts, mirrors, 255, tuple(classes.split(", ")), about=about)


def _table(name: str, size: int, sha256: str, target: str, about: str, **more: Any) -> NamedData:
    file = File(more.pop("file", f"{name}.csv.gz"), size, sha256, remote=more.pop("remote", ""))
    return NamedData(
        name,
        more.pop("folder", "tables"),
        {"all": (file,)},
        more.pop("mirrors", ()),
        kind=more.pop("kind", "table"),
        form="csv",
        target=target,
        about=about,
    )


def _multi30k(name: str, *fields: tuple[int, str]) -> tuple[File, ...]:
    return tuple(
        File(f"{name}.{language}.gz", *field) for language, field in zip(LANGUAGES, fields, strict=True)
    )


LANGUAGES = ("de", "en", "fr")
_CIFAR = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_GITHUB = "https://raw.githubusercontent.com/"

_ALL = (
    NamedData(
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
        about="1,797 handwritten digits of 8×8, values 0 … 16",
    ),
    _mnist_like(
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
        "60,000 + 10,000 handwritten digits of 28×28",
    ),
    _mnist_like(
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
        "60,000 + 10,000 pictures of clothes of 28×28",
    ),
    NamedData(
        "cifar10",
        "cifar10",
        {
            "all": (
                File(
                    "cifar-10-binary.tar.gz",
                    170_052_171,
                    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
                    whole=True,
                ),
            )
        },
        ("https://www.cs.toronto.edu/~kriz/",),
        classes=_CIFAR,
        form="cifar",
        about="50,000 + 10,000 colour pictures of 32×32 in 10 classes",
    ),
    NamedData(
        "cifar10-jpeg-subset",
        "cifar10-jpeg-subset",
        {
            "all": (
                File(
                    "cifar10_jpeg_subset.zip",
                    5_189_018,
                    "24cabbaf0b7f95299090a88df3ddc6a8540725d51b191ba774cb39b97547051a",
                    whole=True,
                ),
            )
        },
        (),
        classes=_CIFAR,
        form="zip",
        about="400 + 100 pictures of each class of CIFAR-10 as JPEG",
    ),
    NamedData(
        "omniglot",
        "omniglot",
        {
            part: (File(f"images_background_{part}.zip", size, sha256, whole=True),)
            for part, size, sha256 in (
                ("small1", 1_319_022, "f38eb80f801274ac2b4dff5b24289016bfaba4a7d5bb50deebf27104ad6cb8a4"),
                ("small2", 1_580_917, "3ccaa407515a8778e5d0861875af38b17e418f301ad5bb3b5a6b65d901a41c7f"),
            )
        },
        (_GITHUB + "brendenlake/omniglot/master/python/",),
        form="zip",
        about="handwritten characters of 5 + 5 alphabets, 20 of each, 105×105 (the two small background sets)",
    ),
    _table(
        "iris",
        3_736,
        "30821fb97cfd3335f67711058ee448fe1784557c374c82e52645e78563bafdb1",
        "species",
        "150 flowers of 3 species",
    ),
    _table(
        "wine",
        12_373,
        "d3fcd1284adcc1c3c1ecc37221dbf2e73d7c3f7a132fbd36525ab1b97baa741b",
        "cultivar",
        "178 wines of 3 cultivars",
    ),
    _table(
        "breast_cancer",
        123_865,
        "af399a019264f7999e6b395ee90576e46564867aa4c8a40797c96be87dc1be55",
        "diagnosis",
        "569 tumours, malignant or benign",
    ),
    NamedData(
        "diabetes",
        "tables",
        {},
        (),
        kind="table",
        form="sklearn",
        target="progression",
        about="442 patients; progression after a year",
    ),
    _table(
        "housing",
        1_423_529,
        "8a3727f4cf54ac1a327f69b1d5b4db54c5834ea81c6e4efc0d163300022a685e",
        "median_house_value",
        "20,640 districts of California (1990)",
        file="housing.csv.gz",
        remote="housing.csv",
        folder="housing",
        mirrors=(_GITHUB + "ageron/handson-ml2/master/datasets/housing/",),
    ),
    NamedData(
        "tinyshakespeare",
        "text",
        {
            "all": (
                File(
                    "tinyshakespeare.txt",
                    1_115_394,
                    "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
                    remote="input.txt",
                ),
            )
        },
        (_GITHUB + "karpathy/char-rnn/master/data/tinyshakespeare/",),
        kind="text",
        form="text",
        about="1.1 million characters of Shakespeare's plays",
    ),
    NamedData(
        "names",
        "text",
        {
            "all": (
                File(
                    "names.txt", 228_145, "0a30b5557f192f32ab962680889aac5f6fda0f4cecf40a6d0b5694f58ea8cc4d"
                ),
            )
        },
        (_GITHUB + "karpathy/makemore/master/",),
        kind="lines",
        form="text",
        about="32,033 first names",
    ),
    NamedData(
        "faces",
        "faces",
        {
            "all": (
                File(
                    "orl_faces.npz",
                    3_696_808,
                    "bc884a5493da2b2044df824a344897108fa8ed23e88ada4916af5f88d4f4df4f",
                ),
            )
        },
        (),
        classes=tuple(f"s{i}" for i in range(1, 41)),
        form="npz",
        about="400 faces of 40 people of 112×92, grey",
    ),
    _table(
        "sunspots",
        45_039,
        "c4ec8cc57d9f6fb6ecdb3e1f37f25b6f4badd5124c55931052b0cd2fc3bc71f3",
        "Sunspots",
        "2,820 months of sunspots from 1749",
        file="monthly-sunspots.csv",
        folder="timeseries",
        kind="series",
        mirrors=(_GITHUB + "jbrownlee/Datasets/master/",),
    ),
    _table(
        "airline",
        2_180,
        "8cb51be753a718d9be5d76d7e238cc224792754676adc21faa59e954b0201621",
        "Passengers",
        "144 months of airline passengers from 1949, in thousands",
        file="airline-passengers.csv",
        folder="timeseries",
        kind="series",
        mirrors=(_GITHUB + "jbrownlee/Datasets/master/",),
    ),
    _table(
        "sp500",
        415_968,
        "9409e9342d0657c747324e4cfabce8a8c7f663bc485b95a3378f36b0a160f8c8",
        "close",
        "days of the S&P 500 from 2000 to 2020",
        file="sp500-2000.csv",
        folder="timeseries",
        kind="series",
        mirrors=(_GITHUB + "vega/vega-datasets/main/data/",),
    ),
    _table(
        "stocks",
        12_245,
        "f9953ac6693e587476b4ebf2f0b00d9bb95371ca8c39da4cc6155077b3e417cd",
        "price",
        "months of five shares from 2000 to 2010",
        file="stocks.csv",
        folder="timeseries",
        mirrors=(_GITHUB + "vega/vega-datasets/main/data/",),
    ),
    NamedData(
        "nottingham",
        "music",
        {
            "all": (
                File(
                    "nottingham_all_cleaned.abc",
                    446_020,
                    "b1c9a8ec080e9a81ce22f3d8ce014f23d381ba59e5a6119b44f162b12b910824",
                ),
            )
        },
        (),
        kind="text",
        form="text",
        about="a thousand folk tunes in ABC notation",
    ),
    NamedData(
        "multi30k",
        "multi30k",
        {
            "train": _multi30k(
                "train",
                (2_110_398, "2c2b73fd2b548fbcde3a875e0a78d6ee94d498bfdee6bd3eae3945779e9ddf72"),
                (1_801_238, "460a15fbd157e34a7a9957ee388c1ca247fe47af3ef25fb50442af6c274e0fc6"),
                (2_111_303, "5925a3c18f1587b6b54b87743106e6e8ab93618edb6f65d19eac0621f853a10d"),
            ),
            "valid": _multi30k(
                "val",
                (75_981, "660e09eb7e1da2f856ea13ee5ad3cf6d36b3d5b0b733c857e94c5747a3dfc660"),
                (63_297, "1f2a23d992769b5b3d209b0a10dd0b77c08cceb1f20dfb97ed0aafa49d107227"),
                (73_924, "5304e444d842e962b2dda4d816b70b22a1765b15401642b7ca37a67477e708dc"),
            ),
            "test": _multi30k(
                "test_2016_flickr",
                (70_649, "4be6b5b3236b79c25475c6bb829800a7ce559e9ba7a1f6c2394fe4d40be46d16"),
                (62_076, "399a4382932c1aadd3ceb9bef1008d388a64c76d4ae4e9d4728c6f4301cac182"),
                (72_261, "cb3160d69b002bb638e66cc7612fcd56cb0af82eadc9c142dedc438afb885ef6"),
            ),
        },
        (_GITHUB + "multi30k/dataset/master/data/task1/raw/",),
        kind="pairs",
        form="text",
        about="29,000 + 1,014 + 1,000 descriptions of pictures in German, English and French",
    ),
)

SOURCES: dict[str, NamedData] = {source.name: source for source in _ALL}
"""The known data sets.

MNIST: Y. LeCun, C. Cortes, C. Burges. Fashion-MNIST: H. Xiao, K. Rasul, R. Vollgraf, arXiv:1708.07747, MIT licence. CIFAR-10:
A. Krizhevsky: Learning multiple layers of features from tiny images (2009). Omniglot: B. Lake, R. Salakhutdinov, J. Tenenbaum:
Human-level concept learning through probabilistic program induction (2015), MIT licence. Diabetes: B. Efron, T. Hastie, I. Johnstone,
R. Tibshirani: Least angle regression (2004). California housing: R. Pace, R. Barry: Sparse spatial autoregressions (1997), in A. Géron's
form. Tiny Shakespeare and names: A. Karpathy, MIT licence. Multi30k: D. Elliott, S. Frank, K. Sima'an, L. Specia (2016); for research and
education only. Faces: AT&T Laboratories Cambridge (Olivetti), F. Samaria,
A. Harter (1994). Sunspots and airline passengers: R. Hyndman's time series library, G. Box, G. Jenkins (1976). S&P 500 and stocks: Vega's
data sets. Nottingham: the folk music database of E. Foxley, cleaned by Jukedeck, GPL-3.0. Digits, iris, wine and breast cancer, which
are in the package: files/NOTICE.md.
"""

_ALIASES = {
    "fashion-mnist": "fashion", "california-housing": "housing", "california": "housing", "breast-cancer": "breast_cancer",
    "shakespeare": "tinyshakespeare", "olivetti-faces": "faces", "orl-faces": "faces", "airline-passengers": "airline",
    "monthly-sunspots": "sunspots", "tiny-shakespeare": "tinyshakespeare", "cifar-10": "cifar10",
}  # fmt: skip


def known(name: str) -> NamedData | None:
    """The data set of a name, also in another spelling; None where there is none."""
    return SOURCES.get(_ALIASES.get(name.lower().replace("_", "-"), name))


def find_named(name: Any) -> NamedData:
    """The data set of a name; ValueError with names that are like it."""
    if not isinstance(name, str):
        msg = f"load: the name of a data set must be a string, got {type(name).__name__}"
        raise TypeError(msg)
    found = known(name)
    if found is None:
        msg = f"load: unknown data set {name!r}{nearest(name, SOURCES)}"
        raise ValueError(msg)
    return found


# Over 60 lines, most of them the signature and what each option means, which belong where help looks.
def load(
    name: str,
    split: str | None = None,
    *,
    scaled: bool = False,
    download: bool = True,
    mirrors: Sequence[str] | None = None,
) -> Any:
    """A data set by name, in the form of its kind:

    | | |
    | --- | --- |
    | digits, mnist, fashion | images and labels, NumPy arrays: uint8 (n, height, width) and int64 (n,) |
    | cifar10, cifar10-jpeg-subset | the same in colour: uint8 (n, 32, 32, 3); the names of the classes: ``SOURCES[name].classes`` |
    | omniglot | uint8 (n, 105, 105), 0 is ink; the labels number the characters of the part in the order of their names |
    | iris, wine, breast_cancer, diabetes, housing, stocks | a dict of columns: lists of numbers (None is missing) and words |
    | sunspots, airline, sp500 | the same of series, in the order of time; `SOURCES[name].target` is the column to forecast |
    | faces | images and labels: uint8 (n, 112, 92), ten pictures of each of 40 people, in their order |
    | tinyshakespeare, nottingham | a string |
    | names | a list of strings |
    | multi30k | a dict of "de", "en", "fr": lists of sentences, line by line the same |

    Parameters:
      split: "train", "test" or "all" (the one, then the other), of multi30k "valid" too. None is "train" where the data have parts of
        their own, "all" for tables, series and texts. Where they have none, the test part is fixed: every fifth sample of each class
        (every fifth row where numbers are predicted), in the order of the file; of a series the last fifth of the rows, of a text the
        last tenth. Of omniglot, "train" is the first of the two small background sets and "test" the second, which has other alphabets.
      scaled: of pictures: float32 from 0 to 1 instead.
      download: whether files that are not here may be fetched; each is checked against its SHA-256 before it is kept.
      mirrors: addresses of folders to download from, instead of the public ones in `SOURCES`.

    The files are looked for in $ANYNET_DATA/mnist, … (`NamedData.folder`) and $ANYNET_DATA, then in `cache_folder`. JPEG and PNG need the
    extra `images`, diabetes is read out of an installed scikit-learn.

    Errors: ValueError for an unknown name or split; `DataError` for a file that is damaged or cannot be had, OSError where it cannot be
    written.

    >>> images, labels = load("digits", "test")
    >>> images.shape, labels.shape
    ((355, 8, 8), (355,))
    >>> load("iris")["species"][:2]
    ['setosa', 'setosa']
    """
    source = find_named(name)
    parts = ("train", "valid", "test", "all") if source.kind == "pairs" else ("train", "test", "all")
    if split is None:
        split = "all" if source.kind in ("table", "series", "text", "lines") else "train"
    if split not in parts:
        msg = f"load: split must be {', '.join(map(repr, parts[:-1]))} or 'all', got {split!r}"
        raise ValueError(msg)
    if scaled and source.kind != "images":
        msg = f"load: scaled is for pictures; {source.name} is a {source.kind}"
        raise ValueError(msg)
    places = source.mirrors if mirrors is None else tuple(mirrors)
    if source.kind == "images":
        images, labels = _images(source, split, download, places)
        return (normalize(images, levels=source.levels) if scaled else images), labels
    if source.kind in ("table", "series"):
        return _columns(source, split, download, places)
    if source.kind == "pairs":
        return _pairs(source, split, download, places)
    data: Any = _texts(source, "all", download, places)[0]
    if source.kind == "lines":
        data = data.splitlines()
    cut = len(data) * 9 // 10
    return data if split == "all" else data[:cut] if split == "train" else data[cut:]


def path_of(name: str, *, download: bool = True, mirrors: Sequence[str] | None = None) -> Path:
    """The file of a data set that is one file (a table, a text), checked, downloaded if need be.

    >>> path_of("iris").name
    'iris.csv.gz'
    """
    source = find_named(name)
    files = [file for part in source.files.values() for file in part]
    if source.kind not in ("table", "series", "text", "lines") or len(files) != 1:
        msg = f"path_of: {source.name} is not one file of a table or a text"
        raise ValueError(msg)
    found = find(
        source.name, source.folder, files[0], download, source.mirrors if mirrors is None else tuple(mirrors)
    )
    content(found, files[0])
    return found


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


# ---- pictures ----


def _images(source: NamedData, split: str, download: bool, mirrors: Sequence[str]) -> tuple[Array, Array]:
    if source.name in ("digits", "faces"):
        images, labels = (
            _idx_pair(source, "all", False, ()) if source.form == "idx" else _faces(source, download, mirrors)
        )
        if split != "all":
            rows = rows_of_part(labels.tolist(), split)
            images, labels = images[rows], labels[rows]
        return images, labels
    read = {"idx": _idx_pair, "cifar": _cifar, "zip": _zipped}[source.form]
    found = [read(source, part, download, mirrors) for part in ("train", "test") if split in (part, "all")]
    if len(found) == 1:
        return found[0]
    xp = backend_of(found[0][0])
    (images, labels), (more, others) = found
    if source.name == "omniglot":
        others = others + int(xp.max(labels)) + 1
    return xp.concat([images, more], axis=0), xp.concat([labels, others], axis=0)


def rows_of_part(labels: list[Any], split: str) -> list[int]:
    """Every fifth sample of each class, or the others."""
    seen: dict[Any, int] = {}
    rows = []
    for row, label in enumerate(labels):
        seen[label] = count = seen.get(label, 0) + 1
        if (count % 5 == 0) == (split == "test"):
            rows.append(row)
    return rows


def _read(
    source: NamedData, file: File, download: bool, mirrors: Sequence[str]
) -> tuple[bytes | bytearray, str]:
    path = find(source.name, source.folder, file, download, mirrors)
    return content(path, file), str(path)


def _idx_pair(source: NamedData, part: str, download: bool, mirrors: Sequence[str]) -> tuple[Array, Array]:
    images, labels = (parse_idx(*_read(source, file, download, mirrors)) for file in source.files[part])
    return images, backend_of(labels).astype(labels, backend_of(labels).int64)


def _faces(source: NamedData, download: bool, mirrors: Sequence[str]) -> tuple[Array, Array]:
    """An archive of one array, people × pictures × height × width."""
    data, name = _read(source, source.files["all"][0], download, mirrors)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            images = host.from_npy(archive.read(archive.namelist()[0]))
    except (zipfile.BadZipFile, ValueError, IndexError) as error:
        msg = f"{name}: not an archive of one array: {error}"
        raise DataError(msg) from None
    xp = backend_of(images)
    people, each = images.shape[:2]
    labels = xp.reshape(xp.broadcast_to(xp.arange(people)[:, None], (people, each)), (-1,))
    return xp.reshape(images, (people * each, *images.shape[2:])), xp.astype(labels, xp.int64)


def _cifar(source: NamedData, part: str, download: bool, mirrors: Sequence[str]) -> tuple[Array, Array]:
    """Of the binary version: each picture is its label and then its red, green and blue planes, 3,073 bytes."""
    data, name = _read(source, source.files["all"][0], download, mirrors)
    wanted = [f"data_batch_{i}.bin" for i in range(1, 6)] if part == "train" else ["test_batch.bin"]
    found: dict[str, bytes] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        for member in archive:
            short = member.name.rpartition("/")[2]
            opened = archive.extractfile(member) if short in wanted else None
            if opened is not None:
                found[short] = opened.read()
    missing = [short for short in wanted if short not in found]
    if missing:
        msg = f"{name}: the archive has no {missing[0]}"
        raise DataError(msg)
    return _cifar_records(b"".join(found[short] for short in wanted), name)


def _cifar_records(data: bytes, name: str) -> tuple[Array, Array]:
    n, rest = divmod(len(data), 3073)
    if rest:
        msg = f"{name}: the records of CIFAR-10 have 3,073 bytes, got {len(data)} bytes: truncated?"
        raise DataError(msg)
    rows = host.from_bytes(data, "uint8", (n, 3073))
    xp = backend_of(rows)
    images = xp.permute_dims(xp.reshape(rows[:, 1:], (n, 3, 32, 32)), (0, 2, 3, 1))
    return xp.asarray(images, copy=True), xp.astype(rows[:, 0], xp.int64)


def _zipped(source: NamedData, part: str, download: bool, mirrors: Sequence[str]) -> tuple[Array, Array]:
    """Pictures in an archive, a folder for each class: train/CLASS/… or ALPHABET/CHARACTER/…"""
    pillow: Any = optional("PIL.Image", "images", f"reading {source.name}")
    files = source.files.get("all") or source.files["small1" if part == "train" else "small2"]
    data, _ = _read(source, files[0], download, mirrors)
    pictures, places = [], []
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = sorted(n for n in archive.namelist() if n.endswith((".png", ".jpg")))
        for entry in names:
            if "all" in source.files and not entry.startswith(f"{part}/"):
                continue
            with archive.open(entry) as opened:
                picture = pillow.open(opened)
                picture = picture.convert("RGB" if source.classes else "L")
                pictures.append(registry.asarray(picture))
            places.append(entry.rpartition("/")[0])
    known = {place: i for i, place in enumerate(sorted(set(places)))}
    xp = backend_of(pictures[0])
    return xp.stack(pictures, axis=0), registry.asarray([known[place] for place in places], "int64")


# ---- tables and texts ----


def _columns(source: NamedData, split: str, download: bool, mirrors: Sequence[str]) -> dict[str, list[Any]]:
    if source.form == "sklearn":
        columns = _diabetes()
    else:
        data, name = _read(source, source.files["all"][0], download, mirrors)
        rows = list(csv.reader(io.StringIO(bytes(data).decode())))
        if any(len(row) != len(rows[0]) for row in rows):
            msg = f"{name}: the rows have different lengths"
            raise DataError(msg)
        columns = {title: _values(list(column)) for title, *column in zip(*rows, strict=True)}
    if split == "all":
        return columns
    target = columns[source.target]
    if source.kind == "series":
        cut = len(target) - len(target) // 5
        return {
            title: column[:cut] if split == "train" else column[cut:] for title, column in columns.items()
        }
    chosen = rows_of_part(target if isinstance(target[0], str) else [0] * len(target), split)
    return {title: [column[i] for i in chosen] for title, column in columns.items()}


def _values(column: list[str]) -> list[Any]:
    """Numbers where all are; None for what is missing."""
    try:
        numbers = [float(text) if text else None for text in column]
    except ValueError:
        return [text or None for text in column]
    whole = all(number is None or number.is_integer() for number in numbers) and not any(
        "." in text for text in column
    )
    return [int(number) if number is not None and whole else number for number in numbers]


def _diabetes() -> dict[str, list[Any]]:
    sets: Any = optional("sklearn.datasets", "sklearn", "the data set diabetes")
    found = sets.load_diabetes(scaled=False)
    columns = {title: found.data[:, i].tolist() for i, title in enumerate(found.feature_names)}
    return {**columns, SOURCES["diabetes"].target: found.target.tolist()}


def _texts(source: NamedData, part: str, download: bool, mirrors: Sequence[str]) -> list[str]:
    return [bytes(_read(source, file, download, mirrors)[0]).decode() for file in source.files[part]]


def _pairs(source: NamedData, split: str, download: bool, mirrors: Sequence[str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {language: [] for language in LANGUAGES}
    for part in source.files if split == "all" else (split,):
        for language, text in zip(LANGUAGES, _texts(source, part, download, mirrors), strict=True):
            found[language] += text.splitlines()
    return found
