"""Tables: CSV files, DataFrames and their kin as a source of training."""

from anynet.data.table.preprocessing import TablePreprocessing
from anynet.data.table.source import Table, TableDataset

__all__ = ["Table", "TableDataset", "TablePreprocessing"]
