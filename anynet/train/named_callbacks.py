"""The callbacks of this library by name, so that they can stand in plain data: on a command line, in a run's record."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Mapping
from typing import Any

from anynet.train.callbacks import Callback
from anynet.train.checks import unknown

__all__ = ["CALLBACKS", "callback_of"]

CALLBACKS = {
    "checkpoint": "Checkpoint",
    "csv": "CSVLogger",
    "early_stopping": "EarlyStopping",
    "ema": "EMA",
    "mlflow": "MLflow",
    "samples": "TextSamples",
    "statistics": "LayerStatistics",
    "swa": "SWA",
    "tensorboard": "TensorBoard",
    "time_limit": "TimeLimit",
    "wandb": "WandB",
}
"""Names, and the classes of `anynet.train` that they stand for."""


def callback_of(given: str | Mapping[str, Any]) -> Callback:
    """The callback of a name, or of a mapping of its name and options.

    >>> callback_of({"name": "early_stopping", "patience": 5}).patience
    5

    Errors: ValueError for an unknown name, TypeError for options that the callback has not.
    """
    options = {"name": given} if isinstance(given, str) else dict(given)
    name = options.pop("name", None)
    if not isinstance(name, str) or name not in CALLBACKS:
        raise ValueError(f"fit: {unknown('callback', str(name), CALLBACKS)}")
    make = getattr(importlib.import_module("anynet.train"), CALLBACKS[name])  # imported when it is asked for
    try:
        inspect.signature(make).bind(**options)
    except TypeError as error:
        msg = f"fit: the callback {name!r}: {error}; its options: {', '.join(inspect.signature(make).parameters)}"
        raise TypeError(msg) from None
    return make(**options)  # type: ignore[no-any-return]
