"""Training: fit, evaluate and predict, metrics, progress, checkpoints."""

from anynet.train.callbacks import Callback, EarlyStopping
from anynet.train.checkpoint import CheckpointError, load, save
from anynet.train.evaluation import evaluate, predict
from anynet.train.loop import fit
from anynet.train.metrics import METRICS, Metric, accuracy, mae, mse
from anynet.train.objectives import LOSSES, Objective
from anynet.train.run_folder import RunFolder, RunFolderError, unique_folder
from anynet.train.setup import OPTIMIZERS
from anynet.train.signals import Interrupted
from anynet.train.state import History, NonFiniteError
from anynet.train.updates import NonFiniteGradientError, NonFiniteLossError

__all__ = [
    "LOSSES", "METRICS", "OPTIMIZERS", "Callback", "CheckpointError", "EarlyStopping", "History", "Interrupted", "Metric",
    "NonFiniteError", "NonFiniteGradientError", "NonFiniteLossError", "Objective", "RunFolder", "RunFolderError",
    "accuracy", "evaluate", "fit", "load", "mae", "mse", "predict", "save", "unique_folder",
]  # fmt: skip
