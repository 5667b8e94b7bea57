"""Data: sets by name, map-style data sets, and the loader that makes batches of them."""

from anynet.data.dataset import Dataset, Subset, TensorDataset, default_collate, random_split
from anynet.data.idx import DataError, read_idx
from anynet.data.loader import DataLoader
from anynet.data.sources import SOURCES, load, normalize

__all__ = [
    "SOURCES", "DataError", "DataLoader", "Dataset", "Subset", "TensorDataset", "default_collate", "load", "normalize",
    "random_split", "read_idx",
]  # fmt: skip
