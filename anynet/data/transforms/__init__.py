"""Transforms of batches of pictures, in the array API: the same numbers give the same bits on every backend.

>>> import anynet as an
>>> from anynet.data import transforms as T
>>> augment = T.Compose([T.RandomHorizontalFlip(), T.RandomCrop(32, padding=4, padding_mode="reflect")])
>>> augment(an.zeros((8, 3, 32, 32), dtype=an.uint8)).shape
(8, 3, 32, 32)
"""

from anynet.data.transforms.color import (
    ColorJitter,
    Normalize,
    RandomAutocontrast,
    RandomEqualize,
    RandomGrayscale,
    RandomInvert,
    RandomPosterize,
    RandomSolarize,
)
from anynet.data.transforms.geometry import (
    CenterCrop,
    Pad,
    RandomAffine,
    RandomCrop,
    RandomHorizontalFlip,
    RandomResizedCrop,
    RandomRotation,
    RandomVerticalFlip,
    Resize,
)
from anynet.data.transforms.mixing import CutMix, Cutout, MixUp, RandomErasing
from anynet.data.transforms.policies import RandAugment, TrivialAugment
from anynet.data.transforms.transform import Compose, OneOf, RandomApply, Transform

__all__ = [
    "CenterCrop", "ColorJitter", "Compose", "CutMix", "Cutout", "MixUp", "Normalize", "OneOf", "Pad", "RandAugment", "RandomAffine",
    "RandomApply", "RandomAutocontrast", "RandomCrop", "RandomEqualize", "RandomErasing", "RandomGrayscale", "RandomHorizontalFlip",
    "RandomInvert", "RandomPosterize", "RandomResizedCrop", "RandomRotation", "RandomSolarize", "RandomVerticalFlip", "Resize", "Transform",
    "TrivialAugment",
]  # fmt: skip
