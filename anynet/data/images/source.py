"""`ImageFolder`: a folder of pictures as a source of training."""

from __future__ import annotations

import hashlib
import html
import inspect
import os
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from anynet import streams
from anynet._hints import nearest
from anynet.data.dataset import Dataset
from anynet.data.idx import DataError
from anynet.data.images.decoding import RESIZE, header, in_threads, pillow
from anynet.data.images.finding import Found, find, plural
from anynet.data.images.preprocessing import ImagePreprocessing
from anynet.data.images.store import Pictures, decode_all
from anynet.data.source import Source
from anynet.data.table.splitting import fingerprint, split_rows
from anynet.data.transforms import (
    Compose,
    RandomCrop,
    RandomErasing,
    RandomHorizontalFlip,
    Transform,
    TrivialAugment,
)
from anynet.tensor import Tensor, to_plain, wrap
from anynet_backends import Array, backend_of, registry

__all__ = ["ImageDataset", "ImageFolder"]

USUAL_TIME = "150s"
"""The limit of time of a training by `defaults`, so that with reading and testing it is done in three minutes."""
LARGEST = 64
"""Pixels that a picture is high and wide at most where no size is asked for."""
PARTS = ("train", "valid", "test")

Augment = str | Transform | Callable[[Tensor], Any]


class ImageDataset(Dataset):
    """Pairs (picture, class) of a part of an `ImageFolder`: float32 (channels, height, width), normalised, and int64.

    Of the training part pictures are augmented: what is drawn for one follows from (seed, epoch, its number in the folder).
    """

    def __init__(
        self,
        pictures: Pictures,
        labels: Array,
        rows: Array,
        preprocessing: ImagePreprocessing,
        augment: Transform | Callable[[Tensor], Any] | None = None,
        seed: int = 0,
        epoch: int = 0,
    ) -> None:
        self.pictures, self.labels, self.rows = pictures, labels, rows
        self.preprocessing, self.augment, self.seed, self.epoch = preprocessing, augment, seed, epoch
        self.draws = not (
            augment is None or isinstance(augment, Transform)
        )  # a function may draw from any generator

    def __len__(self) -> int:
        return int(self.rows.shape[0])

    def __getitem__(self, index: int, /) -> Any:
        if not -len(self) <= index < len(self):
            msg = f"index {index} is out of range for a data set of {len(self)} pictures"
            raise IndexError(msg)
        x, y = self.batch([index % len(self)])
        return x[0], y[0]

    def at_epoch(self, epoch: int) -> ImageDataset:
        if self.augment is None or epoch == self.epoch:
            return self
        return ImageDataset(
            self.pictures, self.labels, self.rows, self.preprocessing, self.augment, self.seed, epoch
        )

    def batch(self, indices: Sequence[int]) -> Any:
        hx = backend_of(self.rows)
        rows = hx.take(self.rows, registry.asarray(indices, "int64"), axis=0)
        x = _channels_first(self.pictures.rows(rows.tolist()))
        y = hx.take(self.labels, rows, axis=0)
        if isinstance(self.augment, Transform):
            if self.augment.mixes:
                y = hx.astype(y[:, None] == hx.arange(len(self.preprocessing.classes))[None, :], hx.float32)
            x, y = self.augment.at(x, y, seed=self.seed, epoch=self.epoch, samples=rows.tolist())
        elif self.augment is not None:
            first = int(rows[0]) if len(rows) else 0
            with streams.fork_rng((self.seed % (1 << 62) << 64) + (self.epoch << 32) + first):
                x = _own(self.augment(wrap(x)), tuple(x.shape), self.preprocessing.channels)
        return wrap(self.preprocessing.scaled(x)), wrap(y)

    def picture(self, index: int) -> Array:
        """A picture as it was read, in the size of the data: uint8 (height, width, channels)."""
        return self.pictures.rows([int(self.rows[index])])[0, ...]

    def file(self, index: int) -> str:
        """The file of a picture."""
        found = self.pictures.found
        return found.files.path(found.names[int(self.rows[index])])


def _channels_first(pictures: Array) -> Array:
    """(n, height, width, channels) → (n, channels, height, width), in one piece of memory."""
    xp = backend_of(pictures)
    x = xp.permute_dims(pictures, (0, 3, 1, 2))
    return xp.reshape(xp.reshape(x, (-1,)), tuple(x.shape))


def _own(out: Any, shape: tuple[int, ...], channels: int) -> Array:
    """What a function of the user's own has made of a batch."""
    x = to_plain(out)
    xp = backend_of(x)
    fine = x.ndim == 4 and tuple(x.shape[:2]) == (shape[0], channels)
    if not fine or not (x.dtype == xp.uint8 or xp.isdtype(x.dtype, "real floating")):
        msg = (
            f"ImageFolder: augment must give pictures (n, channels, height, width) of uint8, or of floats from 0 to 1, for {shape}; "
            f"it gave {tuple(x.shape)} of {xp.dtype_name(x.dtype)}"
        )
        raise ValueError(msg)
    return x


class ImageFolder(Source):
    """A folder of pictures in folders of classes, as data to train on: what is found is said (`describe`).

    Parameters:
      root: a folder (or a zip of one) with root/CLASS/*.jpg, or root/train/CLASS/*.jpg and folders valid and test (also: val,
        validation, dev, training, testing). Pictures in folders below a class belong to it.
      size: (height, width) of the pictures for the network, or one number; by default theirs, where they have one, made smaller
        to at most 64 pixels each way; where they differ, a square.
      valid, test: the share of the (training) pictures that is held out for choosing and for the final test, each class alike;
        not used where there is a folder of that name.
      augment: of training pictures: "none"; "light": mirrored left to right, moved by up to an eighth; "strong": also one
        of 14 changes of shape or colour (`TrivialAugment`) and rectangles erased; a `Transform`; or a function of a uint8
        batch (n, channels, height, width).
      channels: 3 (RGB), 1 (grey), or "auto": grey where all pictures are.
      resize: how pictures of another shape get the size: "crop": scaled until the picture fills it, the middle is taken; "stretch"; "pad":
        white around it.
      broken: "error": files that cannot be read are refused by name; "skip": left out, and counted.
      cache: True: decoded pictures are kept, in memory below 16 MiB, else in a file of the cache folder that is mapped into
        memory; "memory": in memory; False: decoded each time they are used.
      seed: of the split and of the augmentation.

    Pictures are turned as their EXIF data say, transparent parts lie on white, of animated ones the first is taken, 16 bits become 8.
    Hidden files and other suffixes are left out. The network's inputs are (v / 255 − mean) / std, the mean and the deviation of
    each channel taken over the training part.

    Errors: `DataError` where there is nothing to learn from, or files are broken. Pillow is needed (extra ``images``).

    Example:

        folder = an.data.ImageFolder("photos")
        print(folder.describe())
        net = folder.network()
        an.fit(net, folder, **folder.defaults())
    """

    models: ClassVar[tuple[str, ...]] = ("cnn", "resnet9", "resnet20", "resnet18", "resnet50")

    def __init__(
        self,
        root: str | os.PathLike[str],
        *,
        size: int | Sequence[int] | None = None,
        valid: float | None = 0.2,
        test: float | None = 0.0,
        augment: Augment = "light",
        channels: int | str = "auto",
        resize: str = "crop",
        broken: str = "error",
        cache: bool | str = True,
        seed: int = 0,
    ) -> None:
        shares = _checked(valid, test, channels, resize, broken, cache, seed)
        pillow()
        self.root, self.seed, self.resize, self._cache = (
            os.path.abspath(os.path.expanduser(os.fspath(root))),
            seed,
            resize,
            cache,
        )
        asked = None if size is None else _size(size)
        self.options: dict[str, Any] = {
            "size": asked if asked is None else list(asked), "valid": shares[0], "test": shares[1],
            "augment": augment if isinstance(augment, str) else repr(augment), "channels": channels, "resize": resize,
            "broken": broken, "cache": cache, "seed": seed,
        }  # fmt: skip
        if isinstance(augment, str) and augment not in ("none", "light", "strong"):
            msg = f"ImageFolder: augment must be 'none', 'light', 'strong', a Transform or a function, got {augment!r}"
            raise ValueError(msg)
        if not isinstance(augment, str) and not callable(augment):
            msg = f"ImageFolder: augment must be 'none', 'light', 'strong', a Transform or a function, got {augment!r:.60}"
            raise TypeError(msg)
        found = find(root)
        self.remarks = found.remarks
        digests, self.bytes = found.digests()
        found, digests, heads = self._heads(found, digests, broken)
        self.channels = (3 if any(h[2] for h in heads) else 1) if channels == "auto" else int(channels)
        self.found_sizes = Counter((h, w) for h, w, _ in heads)
        self.size = asked or _suited(self.found_sizes)
        pictures, blank = decode_all(found, digests, self.size, self.channels, resize, cache)
        if blank:
            self._broken(found, blank, broken)
            keep = [i for i in range(len(found.names)) if i not in blank]
            found, digests = found.without(set(blank)), [digests[i] for i in keep]
            pictures, _ = decode_all(found, digests, self.size, self.channels, resize, cache)
        self.found, self._pictures, self.digests = found, pictures, digests
        self._split(shares)
        self._say_copies()
        self._data(augment)

    # ----- what is there -----

    def _heads(
        self, found: Found, digests: list[str], broken: str
    ) -> tuple[Found, list[str], list[tuple[int, int, bool]]]:
        """(height, width, coloured) of each picture, but of those whose head cannot be read."""
        blank: dict[int, str] = {}

        def one(i: int) -> tuple[int, int, bool]:
            try:
                return header(found.files.read(found.names[i]))
            except (OSError, RuntimeError, ValueError, SyntaxError) as error:
                blank[i] = str(error)
                return 0, 0, False

        heads = in_threads(one, range(len(found.names)))
        if not blank:
            return found, digests, heads
        self._broken(found, blank, broken)
        keep = [i for i in range(len(found.names)) if i not in blank]
        return found.without(set(blank)), [digests[i] for i in keep], [heads[i] for i in keep]

    def _broken(self, found: Found, blank: dict[int, str], broken: str) -> None:
        shown = [f"{found.names[i]} ({blank[i]})" for i in sorted(blank)[:5]]
        said = f"{plural(len(blank), 'picture')} cannot be read: {', '.join(shown)}" + (
            ", …" if len(blank) > 5 else ""
        )
        if broken == "error":
            msg = f"ImageFolder: {self.root}: {said}. Remove or replace them, or leave them out with broken='skip'"
            raise DataError(msg)
        left = found.without(set(blank))
        lost = sorted(set(found.labels) - set(left.labels))
        if lost or len(left.classes) < 2:
            msg = f"ImageFolder: {self.root}: {said}; nothing is left of the class {', '.join(lost)}"
            raise DataError(msg)
        self.remarks.append(f"left out: {said}")

    def _split(self, shares: tuple[float, float]) -> None:
        """The rows of the three parts."""
        names = self.found.parts
        own = {part: [i for i, p in enumerate(names) if p == part] for part in PARTS}
        pool = [i for i, p in enumerate(names) if p in ("", "train")]
        wanted = tuple(
            0.0 if own[part] else share for part, share in zip(("valid", "test"), shares, strict=True)
        )
        strata = [self.found.labels[i] for i in pool]
        drawn = split_rows(len(pool), (wanted[0], wanted[1]), self.seed, strata=strata)
        hx = backend_of(drawn[0])
        at = registry.asarray(pool, "int64")
        parts = [hx.sort(hx.take(at, rows, axis=0)) for rows in drawn]
        for k, part in enumerate(("valid", "test"), 1):
            if own[part]:
                parts[k] = registry.asarray(own[part], "int64")
        self.split_by = "folders" if own["valid"] or own["test"] else "at random, each class alike"
        trained = {self.found.labels[i] for i in parts[0].tolist()}
        back = [
            i
            for k in (1, 2)
            for i in parts[k].tolist()
            if names[i] in ("", "train") and self.found.labels[i] not in trained
        ]
        if back:  # a class of one picture or two: it has to be there to learn from
            parts = [
                registry.asarray(sorted(i for i in rows.tolist() if i not in back), "int64") for rows in parts
            ]
            parts[0] = registry.asarray(sorted([*parts[0].tolist(), *back]), "int64")
            rare = sorted({self.found.labels[i] for i in back})
            self.remarks.append(
                f"all pictures are to train for {', '.join(rare[:8])}: there are too few of them to hold one out"
            )
        self._rows = tuple(parts)

    def _say_copies(self) -> None:
        """Pictures that are there twice, of which one is in a held-out part or has another class."""
        train = {self.digests[i]: i for i in self._rows[0].tolist()}
        for part, rows in zip(PARTS[1:], self._rows[1:], strict=True):
            copies = sum(self.digests[i] in train for i in rows.tolist())
            if copies:
                self.remarks.append(
                    f"{plural(copies, 'picture')} of the part {part} {'is' if copies == 1 else 'are'} in the training part, too"
                )
        labels: dict[str, set[str]] = {}
        for digest, label in zip(self.digests, self.found.labels, strict=True):
            labels.setdefault(digest, set()).add(label)
        torn = sum(len(v) > 1 for v in labels.values())
        if torn:
            self.remarks.append(
                f"{plural(torn, 'picture')} {'is' if torn == 1 else 'are'} in several classes"
            )

    def _data(self, augment: Augment) -> None:
        numbers = {c: i for i, c in enumerate(self.found.classes)}
        labels = registry.asarray([numbers[c] for c in self.found.labels], "int64")
        mean, std = _statistics(self._pictures, self._rows[0].tolist(), self.channels)
        self.preprocessing: ImagePreprocessing = ImagePreprocessing(
            self.size, self.channels, mean, std, self.found.classes, self.resize
        )
        change = _augmentation(augment, self.size) if isinstance(augment, str) else augment
        sets = [
            ImageDataset(self._pictures, labels, rows, self.preprocessing, None if k else change, self.seed)
            if rows.shape[0] else None
            for k, rows in enumerate(self._rows)
        ]  # fmt: skip
        assert sets[0] is not None
        self.train: ImageDataset = sets[0]
        self.valid: ImageDataset | None = sets[1]
        self.test: ImageDataset | None = sets[2]
        self._labels = labels

    # ----- use -----

    @property
    def classes(self) -> list[Any]:
        """The names of the classes, in the order of the outputs."""
        return self.preprocessing.classes

    @property
    def mean(self) -> list[float]:
        """The mean of each channel over the training part, of values from 0 to 1."""
        return self.preprocessing.mean

    @property
    def std(self) -> list[float]:
        """The deviation of each channel over the training part."""
        return self.preprocessing.std

    def counts(self, part: str) -> dict[str, int]:
        """How many pictures of each class a part has."""
        rows = self._rows[PARTS.index(part)].tolist()
        found = Counter(self.found.labels[i] for i in rows)
        return {c: found[c] for c in self.classes}

    def network(self, name: str | None = None, **settings: Any) -> Any:
        """ "cnn" (`anynet.models.SmallCNN`, by default), "resnet9", "resnet20", "resnet18" or "resnet50", with their own settings."""
        from anynet import models  # start-up time: who brings a network needs none of these

        name = "cnn" if name is None else name
        if name not in self.models:
            msg = f"ImageFolder: unknown network {name!r}{nearest(name, self.models)}"
            raise ValueError(msg)
        make: Any = {
            "cnn": models.SmallCNN, "resnet9": models.ResNet9, "resnet20": models.resnet20, "resnet18": models.resnet18,
            "resnet50": models.resnet50,
        }[name]  # fmt: skip
        known = {*inspect.signature(make).parameters} | (
            {*inspect.signature(models.ResNet).parameters}
            if name in ("resnet20", "resnet18", "resnet50")
            else set()
        )
        own = known - {"num_classes", "in_channels", "size", "options", "self"}
        for setting in settings:
            if setting not in own:
                msg = f"ImageFolder: the network {name} has no setting {setting!r}; it has {', '.join(sorted(own))}"
                raise ValueError(msg)
        if name == "cnn":
            settings = {"size": list(self.size), **settings}
        elif name == "resnet9":
            settings = {"width": 16, **settings}
        elif name in ("resnet18", "resnet50") and min(self.size) <= 64:
            settings = {"stem": "cifar", **settings}
        return make(num_classes=len(self.classes), in_channels=self.channels, **settings)

    def defaults(self) -> dict[str, Any]:
        """About 100,000 pictures seen: 30 epochs of 3,200, at least 10 and at most 120 epochs. Where these are small (32×32) that takes
        a minute or two; a slower machine makes as many updates as `USUAL_TIME` has room for."""
        n = len(self.train)
        epochs = max(10, min(120, round(96_000 / n)))
        usual = epochs * n * self.size[0] * self.size[1] <= 110_000 * 32 * 32
        return {
            "loss": "cross_entropy", "metrics": ["accuracy"], "optimizer": "adamw", "lr": 1e-2, "scheduler": "onecycle",
            "epochs": epochs, "batch_size": 64 if n >= 1000 else 32 if n >= 200 else 16,
            **({"time_limit": USUAL_TIME} if usual else {}),
        }  # fmt: skip

    def origin(self) -> dict[str, Any]:
        digest = hashlib.sha256()
        for name, content in zip(self.found.names, self.digests, strict=True):
            digest.update(f"{name}\0{content}\n".encode(errors="surrogateescape"))
        sizes = {part: int(rows.shape[0]) for part, rows in zip(PARTS, self._rows, strict=True)}
        return {
            "kind": "images", "path": self.root, "bytes": self.bytes, "sha256": digest.hexdigest(), "samples": len(self.found.names),
            "options": self.options,
            "split": {"by": self.split_by, "sizes": sizes, "seed": self.seed, "sha256": fingerprint(self._rows)},
        }  # fmt: skip

    # ----- what is said -----

    def _summary(self) -> str:
        sizes = ", ".join(
            f"{len(d):,} {what}"
            for what, d in (("to train", self.train), ("to validate", self.valid), ("to test", self.test))
            if d is not None
        )
        colour = "RGB" if self.channels == 3 else "grey"
        return (
            f"{plural(len(self.found.names), 'picture')}, {len(self.classes)} classes, {self.size[0]}×{self.size[1]} {colour}; {sizes} "
            f"(split {'by ' if self.split_by == 'folders' else ''}{self.split_by})"
        )

    def _notes(self) -> list[str]:
        notes = list(self.remarks)
        if set(self.found_sizes) != {self.size}:
            (h, w), often = self.found_sizes.most_common(1)[0]
            many = (
                f"{len(self.found_sizes)} sizes, most often {h}×{w} ({often:,})"
                if len(self.found_sizes) > 1
                else f"size {h}×{w}"
            )
            how = {"crop": "scaled and cropped", "stretch": "stretched", "pad": "scaled, white around them"}[
                self.resize
            ]
            notes.append(
                f"the files have {many}; they are {how} to {self.size[0]}×{self.size[1]} (size= for another)"
            )
        return notes

    def describe(self) -> str:
        counts = [self.counts(part) for part in PARTS]
        width = min(max(len(str(c)) for c in self.classes), 32)
        lines = [f"{self.root}: {self._summary()}"]
        shown = self.classes if len(self.classes) <= 100 else self.classes[:100]
        lines += [
            f"  {c!s:{width}}  " + " + ".join(f"{n[c]:,}" for n in counts if any(n.values())) for c in shown
        ]
        if len(shown) < len(self.classes):
            lines.append(f"  … {len(self.classes)} classes in all")
        return "\n".join([*lines, *(f"  note: {note}" for note in self._notes())])

    def __repr__(self) -> str:
        return f"ImageFolder({self._summary()})"

    def show(self, count: int = 16, *, part: str = "train", augmented: bool = True) -> Any:
        """A sheet of pictures with their classes, as the network sees them: matplotlib's Figure, or a picture of Pillow's without the
        extra ``plot``."""
        data = {"train": self.train, "valid": self.valid, "test": self.test}[part]
        if data is None:
            msg = f"ImageFolder: there is no part {part}"
            raise ValueError(msg)
        from anynet.data.images.sheet import sheet  # start-up time: only where pictures are shown

        return sheet(data, count, augmented)

    def _repr_html_(self) -> str:
        from anynet.data.images.sheet import thumbnails  # start-up time: only where pictures are shown

        counts = {part: self.counts(part) for part in PARTS}
        shown = [part for part in PARTS if any(counts[part].values())]
        head = "".join(f"<th>{part}</th>" for part in shown)
        rows = "".join(
            f"<tr><th style='text-align:left'>{html.escape(str(c))}</th>"
            + "".join(f"<td>{counts[part][c]:,}</td>" for part in shown) + "</tr>"
            for c in self.classes[:100]
        )  # fmt: skip
        notes = "".join(f"<li>{html.escape(n)}</li>" for n in self._notes())
        return (
            f"<p>{html.escape(self._summary())}</p>{thumbnails(self.train)}<table><tr><th></th>{head}</tr>{rows}</table>"
            + (f"<ul>{notes}</ul>" if notes else "")
        )


# ----- options -----


def _checked(
    valid: Any, test: Any, channels: Any, resize: Any, broken: Any, cache: Any, seed: Any
) -> tuple[float, float]:
    for name, value, options in (
        ("resize", resize, RESIZE), ("broken", broken, ("error", "skip")), ("channels", channels, ("auto", 1, 3)),
        ("cache", cache, (True, False, "memory")),
    ):  # fmt: skip
        if value not in options or (name == "channels" and isinstance(value, bool)):
            msg = f"ImageFolder: {name} must be {', '.join(map(repr, options[:-1]))} or {options[-1]!r}, got {value!r}"
            raise ValueError(msg)
    if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < 1 << 64:
        msg = f"ImageFolder: seed must be an integer from 0 to 2**64 - 1, got {seed!r}"
        raise ValueError(msg)
    shares = []
    for name, value in (("valid", valid), ("test", test)):
        share = 0.0 if value is None else value
        if not isinstance(share, (int, float)) or isinstance(share, bool) or not 0 <= share < 1:
            msg = f"ImageFolder: {name} must be a share of the pictures in [0, 1), got {value!r}; a folder root/{name} is found by itself"
            raise ValueError(msg)
        shares.append(float(share))
    if sum(shares) >= 1:
        msg = f"ImageFolder: valid and test must leave pictures to train on, got {valid} and {test}"
        raise ValueError(msg)
    return shares[0], shares[1]


def _size(size: int | Sequence[int]) -> tuple[int, int]:
    both = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, (list, tuple)) else ()
    if len(both) != 2 or any(
        not isinstance(s, int) or isinstance(s, bool) or not 4 <= s <= 4096 for s in both
    ):
        msg = f"ImageFolder: size must be an integer from 4 to 4096, or (height, width), got {size!r}"
        raise ValueError(msg)
    return both[0], both[1]


def _suited(sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """The size of the pictures where they have one, made smaller to `LARGEST`; else a square of the median of their shorter sides."""
    if len(sizes) == 1:
        [(h, w)] = sizes
        scale = min(1.0, LARGEST / max(h, w))
        return max(4, round(h * scale)), max(4, round(w * scale))
    shorter = sorted(min(s) for s in sizes.elements())
    side = max(8, min(LARGEST, shorter[len(shorter) // 2]))
    return side, side


def _statistics(pictures: Pictures, rows: list[int], channels: int) -> tuple[list[float], list[float]]:
    """Mean and deviation of each channel, of values from 0 to 1, from sums of integers: exact, in any order."""
    total, squares, count = [0] * channels, [0] * channels, 0
    for begin in range(0, len(rows), 512):
        x = pictures.rows(rows[begin : begin + 512])
        hx = backend_of(x)
        x = hx.astype(x, hx.int64)
        first, second = hx.sum(x, axis=(0, 1, 2)).tolist(), hx.sum(x * x, axis=(0, 1, 2)).tolist()
        total = [a + b for a, b in zip(total, first, strict=True)]
        squares = [a + b for a, b in zip(squares, second, strict=True)]
        count += x.shape[0] * x.shape[1] * x.shape[2]
    mean = [t / count / 255 for t in total]
    variance = [(q * count - t * t) / (count * count) for q, t in zip(squares, total, strict=True)]
    return mean, [max(v, 0.0) ** 0.5 / 255 if v > 0 else 1.0 for v in variance]


def _augmentation(name: str, size: tuple[int, int]) -> Transform | None:
    if name == "none":
        return None
    padding = (max(1, size[1] // 8), max(1, size[0] // 8))
    light = [RandomHorizontalFlip(), RandomCrop(size, padding=padding, padding_mode="reflect")]
    if name == "light":
        return Compose(light)
    return Compose([*light, TrivialAugment(padding_mode="reflect"), RandomErasing(p=0.25, value=128)])
