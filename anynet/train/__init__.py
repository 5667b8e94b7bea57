"""Training: fit, evaluate and predict, metrics, progress, checkpoints."""

from anynet.train.checkpoint import CheckpointError, load, save
from anynet.train.loop import (
    Callback,
    EarlyStopping,
    History,
    Interrupted,
    NonFiniteLossError,
    evaluate,
    fit,
    predict,
)
from anynet.train.metrics import METRICS, accuracy

__all__ = [
    "METRICS", "Callback", "CheckpointError", "EarlyStopping", "History", "Interrupted", "NonFiniteLossError",
    "accuracy", "evaluate", "fit", "load", "predict", "save",
]  # fmt: skip
