"""DataFrames with words, categories and dates among their columns: they go through `anynet.data.Table`'s preprocessing."""

from __future__ import annotations

from typing import Any, Literal

import narwhals.stable.v1 as nw

from anynet import models
from anynet.data import Table
from anynet.nn.module import Module

__all__ = ["FrameInputs", "chosen", "has_words"]

_TARGET = "target of the estimator"


def _frame(X: Any) -> Any:
    """The DataFrame as narwhals has it; None for what is none."""
    frame = nw.from_native(X, eager_only=True, pass_through=True)
    return frame if isinstance(frame, nw.DataFrame) else None


def has_words(X: Any) -> bool:
    """Whether X is a DataFrame with columns that are no numbers."""
    frame = _frame(X)
    if frame is None:
        return False
    kinds = (nw.String, nw.Categorical, nw.Enum, nw.Date, nw.Datetime, nw.Boolean)
    return any(isinstance(dtype, kinds) for dtype in frame.schema.values()) and not all(
        isinstance(dtype, nw.Boolean) for dtype in frame.schema.values()
    )


def chosen(X: Any, rows: Any) -> Any:
    """Those rows of a DataFrame for which an array holds True."""
    return _frame(X).filter(rows.tolist()).to_native()


class FrameInputs:
    """What the training rows tell of the columns: the inputs of a network, and the network."""

    def __init__(self, X: Any, y: Any, classes: bool) -> None:
        frame = _frame(X)
        columns = {name: frame[name].to_list() for name in frame.columns}
        values = y if len(y.shape) == 1 else y[:, 0]
        columns[_TARGET] = [int(v) for v in values] if classes else [float(v) for v in values]
        several = classes and len(set(columns[_TARGET])) > 1
        task: Literal["classification", "regression"] = "classification" if several else "regression"
        self.preprocessing = Table(columns, target=_TARGET, task=task, valid=0.0).preprocessing

    def inputs(self, X: Any) -> Any:
        """Numbers, or numbers and categories."""
        frame = _frame(X)
        return self.preprocessing.inputs({name: frame[name].to_list() for name in frame.columns})

    def network(self, n_out: int, hidden: Any, activation: str, dropout: float) -> Module:
        """The default network for these columns."""
        p = self.preprocessing
        return models.TableMLP(
            len(p.number_names),
            p.category_sizes,
            n_out,
            hidden=hidden,
            activation=activation,
            dropout=dropout,
        )
