"""`torchvision.datasets`: pictures with their classes.

MNIST, FashionMNIST and CIFAR10 are read by `anynet.data.load`, wherever that finds or keeps them; `root` is not looked at. ImageFolder
reads folders of pictures; FakeData is noise.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any, ClassVar

from anynet import data as _data
from anynet.data.catalog import SOURCES
from anynet.data.images.decoding import pillow
from anynet.torch.table import TABLE
from anynet.torch.utilities import data as _room
from anynet.torchvision import functional as _functional

__all__ = ["CIFAR10", "MNIST", "FakeData", "FashionMNIST", "ImageFolder", "VisionDataset"]
IMG_EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")


class VisionDataset(_room.Dataset):  # type: ignore[misc,name-defined]
    """A data set of pictures, with what is done to each picture and target."""

    def __init__(
        self, root: Any = None, transforms: Any = None, transform: Any = None, target_transform: Any = None
    ) -> None:
        if transforms is not None and (transform is not None or target_transform is not None):
            msg = "VisionDataset: of transforms and transform/target_transform only one may be given"
            raise ValueError(msg)
        self.root, self.transforms, self.transform, self.target_transform = (
            root,
            transforms,
            transform,
            target_transform,
        )

    def _changed(self, picture: Any, target: Any) -> Any:
        if self.transforms is not None:
            return self.transforms(picture, target)
        if self.transform is not None:
            picture = self.transform(picture)
        return picture, target if self.target_transform is None else self.target_transform(target)


class _Named(VisionDataset):
    """Pictures by name."""

    _name: ClassVar[str]
    _tensors = True

    def __init__(
        self,
        root: Any = None,
        train: bool = True,
        transform: Any = None,
        target_transform: Any = None,
        download: bool = False,
    ) -> None:
        super().__init__(root, transform=transform, target_transform=target_transform)
        self.train = train
        images, labels = _data.load(self._name, "train" if train else "test", download=download)
        self.classes = list(SOURCES[self._name].classes)
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        tensor = TABLE["from_numpy"].function
        self.data: Any = tensor(images.copy()) if self._tensors else images
        self.targets: Any = tensor(labels.copy()) if self._tensors else labels.tolist()

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int, /) -> Any:
        picture = self.data[index].numpy() if self._tensors else self.data[index]
        if importlib.util.find_spec("PIL") is not None:
            picture = pillow().fromarray(picture)
        return self._changed(picture, int(self.targets[index]))


class MNIST(_Named):
    """Digits of 28×28: 60,000 to train, 10,000 to test."""

    _name = "mnist"

    @property
    def train_data(self) -> Any:
        """`data`, by its older name."""
        return self.data

    @property
    def train_labels(self) -> Any:
        """`targets`, by its older name."""
        return self.targets

    test_data, test_labels = train_data, train_labels


class FashionMNIST(MNIST):
    """Clothes of 28×28: 60,000 to train, 10,000 to test."""

    _name = "fashion"


class CIFAR10(_Named):
    """Pictures of 32×32 in colour: 50,000 to train, 10,000 to test."""

    _name = "cifar10"
    _tensors = False


class ImageFolder(VisionDataset):
    """A folder for each class; within it, at any depth, pictures."""

    def __init__(
        self, root: Any, transform: Any = None, target_transform: Any = None, loader: Any = None, is_valid_file: Any = None,
        allow_empty: bool = False,
    ) -> None:  # fmt: skip
        super().__init__(root, transform=transform, target_transform=target_transform)
        where = Path(root)
        if not where.is_dir():
            msg = f"ImageFolder: root must be a folder, got {str(root)!r}"
            raise FileNotFoundError(msg)
        self.classes = sorted(p.name for p in where.iterdir() if p.is_dir())
        if not self.classes:
            msg = f"ImageFolder: there is no folder of a class in {where}"
            raise FileNotFoundError(msg)
        self.class_to_idx = {name: i for i, name in enumerate(self.classes)}
        fits = is_valid_file or (lambda path: path.lower().endswith(IMG_EXTENSIONS))
        self.samples = [
            (str(path), i)
            for i, name in enumerate(self.classes)
            for path in sorted((where / name).rglob("*"))
            if path.is_file() and fits(str(path))
        ]
        empty = set(self.classes) - {self.classes[i] for _, i in self.samples}
        if empty and not allow_empty:
            msg = f"ImageFolder: no pictures of {', '.join(sorted(empty))} in {where}"
            raise FileNotFoundError(msg)
        self.imgs, self.targets = self.samples, [i for _, i in self.samples]
        self.loader = loader or default_loader

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int, /) -> Any:
        path, target = self.samples[index]
        return self._changed(self.loader(path), target)


def default_loader(path: Any) -> Any:
    """A file's picture, in colour."""
    with open(path, "rb") as file:
        return pillow().open(file).convert("RGB")


class FakeData(VisionDataset):
    """Noise with classes by chance, the same for the same index."""

    def __init__(
        self, size: int = 1000, image_size: Any = (3, 224, 224), num_classes: int = 10, transform: Any = None, target_transform: Any = None,
        random_offset: int = 0,
    ) -> None:  # fmt: skip
        super().__init__(None, transform=transform, target_transform=target_transform)
        self.size, self.image_size, self.num_classes = size, tuple(image_size), num_classes
        self.random_offset = random_offset
        self.classes = [str(i) for i in range(num_classes)]

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int, /) -> Any:
        if not 0 <= index < self.size:
            msg = f"FakeData: index must be in [0, {self.size}), got {index}"
            raise IndexError(msg)
        from anynet.torch import Generator  # late: of this method alone

        chance = Generator().manual_seed(index + self.random_offset)
        picture = TABLE["randn"].function(*self.image_size, generator=chance)
        target = int(TABLE["randint"].function(0, self.num_classes, (1,), generator=chance).item())
        if importlib.util.find_spec("PIL") is not None:
            picture = _functional.to_pil_image(picture)
        return self._changed(picture, target)


_OTHERS = (
    "CIFAR100", "Caltech101", "Caltech256", "CelebA", "Cityscapes", "CocoCaptions", "CocoDetection", "Country211", "DTD", "DatasetFolder",
    "EMNIST", "EuroSAT", "FGVCAircraft", "FER2013", "Flickr30k", "Flickr8k", "Flowers102", "Food101", "GTSRB", "HMDB51", "INaturalist",
    "ImageNet", "Imagenette", "KMNIST", "Kinetics", "Kitti", "LFWPairs", "LFWPeople", "LSUN", "LSUNClass", "Omniglot", "OxfordIIITPet",
    "PCAM", "PhotoTour", "Places365", "QMNIST", "RenderedSST2", "SBDataset", "SBU", "SEMEION", "STL10", "SUN397", "SVHN", "StanfordCars",
    "UCF101", "USPS", "VOCDetection", "VOCSegmentation", "WIDERFace",
)  # fmt: skip


def __getattr__(name: str) -> Any:
    """torchvision's other data sets: files import them together with those that they use, so that only making one is refused."""
    if name not in _OTHERS:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)

    def refused(self: Any, *_: Any, **__: Any) -> None:
        msg = f"torchvision.datasets.{name} is not here; there are {', '.join(__all__[:-1])}, and anynet.data.load has others"
        raise NotImplementedError(msg)

    made = type(name, (VisionDataset,), {"__init__": refused, "__module__": __name__})
    globals()[name] = made
    return made
