"""Data: sets by name, tables, folders of pictures and texts, map-style data sets, and the loader that makes batches of them."""

from typing import TYPE_CHECKING

from anynet._lazy import lazily as _lazily
from anynet.data.catalog import SOURCES, load, normalize, path_of
from anynet.data.dataset import (
    ColumnDataset,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    default_collate,
    random_split,
)
from anynet.data.idx import DataError, read_idx
from anynet.data.loader import DataLoader
from anynet.data.predictions import Predictions
from anynet.data.samplers import (
    BatchSampler,
    RandomSampler,
    Sampler,
    SequentialSampler,
    SubsetRandomSampler,
    WeightedRandomSampler,
)
from anynet.data.source import Preprocessing, Source
from anynet.data.worker_info import WorkerInfo, get_worker_info

__all__ = [
    "SOURCES", "BatchSampler", "ColumnDataset", "DataError", "DataLoader", "Dataset", "IterableDataset", "Predictions", "Preprocessing",
    "RandomSampler", "Sampler", "SequentialSampler", "Source", "Subset", "SubsetRandomSampler", "TensorDataset",
    "WeightedRandomSampler", "WorkerInfo", "default_collate", "get_worker_info", "load", "normalize", "path_of",
    "random_split", "read_idx",
]  # fmt: skip

# imported when first asked for: a name here, and the same import for type checkers
_LATER: dict[str, str] = {
    "ImageFolder": "anynet.data.images:ImageFolder",
    "transforms": "anynet.data.transforms",
    "Table": "anynet.data.table:Table",
    "Text": "anynet.data.text:Text",
    "named": "anynet.data.opening:named",
}

if TYPE_CHECKING:
    from anynet.data import transforms as transforms
    from anynet.data.images import ImageFolder as ImageFolder
    from anynet.data.opening import named as named
    from anynet.data.table import Table as Table
    from anynet.data.text import Text as Text
else:
    __getattr__, __dir__ = _lazily("anynet.data", _LATER)
