"""Optional libraries: imported where they are needed, and named with their extra where they are not there."""

from __future__ import annotations

import importlib
import importlib.util
from types import ModuleType

__all__ = ["EXTRAS", "optional"]

EXTRAS = {
    "tables": ("narwhals", "DataFrames and Parquet"),
    "images": ("pillow", "folders of pictures"),
    "text": ("tokenizers", "byte-pair encodings, tokenizer.json"),
    "plot": ("matplotlib", "anynet.viz, .plot()"),
    "tensorboard": ("tensorboardX", "the TensorBoard callback"),
    "onnx": ("onnx", "export to=onnx, anynet.onnx"),
    "sklearn": ("scikit-learn", "anynet.sklearn"),
    "mpi": ("mpi4py", "training in several processes"),
}
"""The extras around the engine: the library of each, and what it is for."""


def optional(module: str, extra: str, purpose: str) -> ModuleType:
    """The module, imported; `ModuleNotFoundError` that names the extra where it is not installed.

    `purpose` begins the message: "reading pictures".

    >>> optional("nowhere_to_be_found", "images", "reading pictures")
    Traceback (most recent call last):
    ModuleNotFoundError: reading pictures needs nowhere_to_be_found: pip install 'anynet-nn[images]'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise  # the library is there, and something that it needs is not
        msg = f"{purpose} needs {module.split('.')[0]}: pip install 'anynet-nn[{extra}]'"
        raise ModuleNotFoundError(msg, name=error.name) from None
