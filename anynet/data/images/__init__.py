"""Folders of pictures as data to train on."""

from anynet.data.images.preprocessing import ImagePreprocessing
from anynet.data.images.source import ImageDataset, ImageFolder

__all__ = ["ImageDataset", "ImageFolder", "ImagePreprocessing"]
