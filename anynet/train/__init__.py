"""Training: fit, evaluate and predict, metrics, progress, checkpoints."""

from anynet.train.callbacks import Callback, EarlyStopping
from anynet.train.checkpoint import CheckpointError, load, save
from anynet.train.loop import NonFiniteLossError, evaluate, fit, predict
from anynet.train.metrics import METRICS, accuracy
from anynet.train.run_folder import RunFolder, RunFolderError, unique_folder
from anynet.train.signals import Interrupted
from anynet.train.state import History

__all__ = [
    "METRICS", "Callback", "CheckpointError", "EarlyStopping", "History", "Interrupted", "NonFiniteLossError",
    "RunFolder", "RunFolderError", "accuracy", "evaluate", "fit", "load", "predict", "save", "unique_folder",
]  # fmt: skip
