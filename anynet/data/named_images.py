"""Pictures by name (digits, mnist, fashion, cifar10, omniglot, faces) as a source."""

from __future__ import annotations

import hashlib
from typing import Any, ClassVar

from anynet import nn
from anynet._hints import nearest
from anynet.data.arrays import ArrayPreprocessing
from anynet.data.catalog import SOURCES, known, load, rows_of_part
from anynet.data.dataset import Dataset, TensorDataset, random_split
from anynet.data.source import Source
from anynet_backends import Array, backend_of

__all__ = ["NamedImages"]

_STATISTICS = {
    "digits": (0.3, 0.3081), "mnist": (0.1307, 0.3081), "fashion": (0.2860, 0.3530), "cifar10": (0.4734, 0.2516),
    "cifar10-jpeg-subset": (0.4734, 0.2516), "omniglot": (0.9217, 0.2687), "faces": (0.4333, 0.1983),
}  # fmt: skip
"""Mean and deviation of all pixels of the training part, from 0 to 1."""
_FEW = ("digits", "cifar10-jpeg-subset", "omniglot", "faces")
"""Sets of a few thousand pictures."""


def _parts(name: str) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """The training and the test part."""
    if name != "omniglot":
        return load(name, "train"), load(name, "test")
    images, labels = load(name, "all")
    train, test = (rows_of_part(labels.tolist(), part) for part in ("train", "test"))
    return (images[train], labels[train]), (images[test], labels[test])


class NamedImages(Source):
    """A data set of pictures by name, with its own test part. Omniglot's characters are 20 drawings each, of which every fifth is for
    the test (its two parts as `anynet.data.load` gives them have no characters in common, so that nothing can be classified).

    Parameters:
      name: "digits", "mnist", "fashion", "cifar10", "cifar10-jpeg-subset", "omniglot" or "faces".
      limit: take so many pictures of the training part, the first; 0 for all.
      valid: the share of them that is held out for choosing the best weights; 0 for none.
      seed: of the choice of these.

    >>> source = NamedImages("digits", limit=100)
    >>> print(source.describe())
    digits: pictures of 8×8, 10 classes: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9
    parts: 90 to train, 10 to validate, 355 to test
    """

    models: ClassVar[tuple[str, ...]] = ("cnn", "lenet", "mlp")

    def __init__(self, name: str, *, limit: int = 0, valid: float = 0.1, seed: int = 0) -> None:
        found = known(name)
        if found is None or found.name not in _STATISTICS:
            msg = f"unknown data set of pictures {name!r}{nearest(name, _STATISTICS)}"
            raise ValueError(msg)
        name = found.name
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 0:
            msg = f"NamedImages: limit must be an integer ≥ 0, got {limit!r}"
            raise ValueError(msg)
        if isinstance(valid, bool) or not isinstance(valid, (int, float)) or not 0 <= valid < 1:
            msg = f"NamedImages: valid must be a share from 0 to below 1, got {valid!r}"
            raise ValueError(msg)
        self.name, self.options = name, {"limit": limit, "valid": valid, "seed": seed}
        (images, labels), held = _parts(name)
        if limit:
            images, labels = images[:limit], labels[:limit]
        self.height, self.width = int(images.shape[1]), int(images.shape[2])
        self.channels = int(images.shape[3]) if images.ndim == 4 else 1
        mean, std = _STATISTICS[name]
        self.preprocessing = ArrayPreprocessing(
            {"shape": [int(n) for n in images.shape[1:]], "dtype": "uint8"}, outputs="classes", classes=self._classes(held[1]),
            scale={"levels": SOURCES[name].levels, "mean": mean, "std": std},
        )  # fmt: skip
        self.train: Dataset = TensorDataset(self.preprocessing.inputs(images), labels)
        self.valid: Dataset | None = None
        self.test: Dataset | None
        if held_out := round(len(labels) * valid):
            self.train, self.valid = random_split(self.train, [len(labels) - held_out, held_out], seed)
        self.test = TensorDataset(self.preprocessing.inputs(held[0]), held[1])

    def _classes(self, labels: Array) -> list[Any]:
        """Their names, or their numbers where they have none."""
        named = list(SOURCES[self.name].classes)
        return named or [str(i) for i in range(int(backend_of(labels).max(labels)) + 1)]

    def describe(self) -> str:
        """Sizes and classes."""
        classes = self.preprocessing.classes or []
        shown = ", ".join(map(str, classes[:20])) + (", …" if len(classes) > 20 else "")
        return (
            f"{self.name}: pictures of {self.height}×{self.width}, {len(classes)} classes: {shown}\n"
            f"parts: {self._sizes()}"
        )

    def _sizes(self) -> str:
        words = (("to train", self.train), ("to validate", self.valid), ("to test", self.test))
        return ", ".join(f"{len(part)} {word}" for word, part in words if part is not None)

    def __repr__(self) -> str:
        return f"NamedImages({self.name!r}, {self._sizes()})"

    def origin(self) -> dict[str, Any]:
        """The name, and the hashes of the files."""
        parts = {"train": self.train, "valid": self.valid, "test": self.test}
        sizes = {name: 0 if part is None else len(part) for name, part in parts.items()}
        files = [f.sha256 for pair in SOURCES[self.name].files.values() for f in pair]
        return {
            "kind": "named", "path": self.name, "sha256": hashlib.sha256("\n".join(files).encode()).hexdigest(),
            "samples": sum(sizes.values()), "options": self.options, "split": {"by": "the data set's own", "sizes": sizes},
        }  # fmt: skip

    def network(self, name: str | None = None, **settings: Any) -> nn.Module:
        """ "cnn": two convolutions, "lenet": LeNet-5 (28×28 only), "mlp"; the option is dropout."""
        name = name or ("lenet" if self.height == self.width == 28 else "cnn")
        if name not in self.models:
            msg = f"unknown network {name!r}{nearest(name, self.models)}"
            raise ValueError(msg)
        for key in settings:
            if key != "dropout":
                msg = f"the network {name} has no option {key!r}; it has dropout"
                raise TypeError(msg)
        p = float(settings.get("dropout", 0.0 if name == "lenet" else 0.2))
        classes = len(self.preprocessing.classes or ())
        # large pictures are made smaller first, to at most 64 pixels each way
        shrink = -(-max(self.height, self.width) // 64)
        height, width = self.height // shrink, self.width // shrink
        first: list[nn.Module] = [nn.AvgPool2d(shrink)] if shrink > 1 else []
        if name == "mlp":
            hidden = (256, 128) if height < 28 else (512, 256)
            width *= self.channels * height
            layers: list[nn.Module] = [*first, nn.Flatten()]
            for h in hidden:
                layers += [nn.Linear(width, h), nn.ReLU(), nn.Dropout(p)]
                width = h
            return nn.Sequential(*layers, nn.Linear(width, classes))
        if name == "cnn":
            return nn.Sequential(
                *first, nn.Conv2d(self.channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
                nn.Flatten(), nn.Linear(32 * (height // 4) * (width // 4), 128), nn.ReLU(), nn.Dropout(p), nn.Linear(128, classes),
            )  # fmt: skip
        if not self.height == self.width == 28 or self.channels != 1:
            msg = f"lenet takes pictures of 28×28, {self.name} has {self.height}×{self.width}; use cnn or mlp"
            raise ValueError(msg)
        # LeCun et al. 1998, with ReLU and max-pooling: 61,706 parameters
        return nn.Sequential(
            nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Dropout(p), nn.Linear(84, classes),
        )  # fmt: skip

    def defaults(self) -> dict[str, Any]:
        """Adam with a cosine schedule; 30 epochs of the small sets, 4 of the others."""
        few = self.name in _FEW
        return {
            "loss": "cross_entropy", "metrics": ["accuracy"], "optimizer": "adam", "lr": 2e-3, "scheduler": "cosine",
            "epochs": 30 if few else 4, "batch_size": 32 if few else 64,
        }  # fmt: skip
