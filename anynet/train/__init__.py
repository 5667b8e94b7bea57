"""Training: fit, evaluate and predict, metrics, progress, checkpoints."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from anynet._lazy import lazily as _lazily
from anynet.train.callbacks import Callback, EarlyStopping, TimeLimit, on
from anynet.train.checkpoint import CheckpointError, load, save
from anynet.train.evaluation import evaluate, predict
from anynet.train.fine_tuning import fine_tune, layer_groups
from anynet.train.loop import fit
from anynet.train.named_callbacks import CALLBACKS
from anynet.train.objectives import LOSSES, Objective
from anynet.train.run_folder import RunFolder, RunFolderError, unique_folder
from anynet.train.setup import OPTIMIZERS
from anynet.train.signals import Interrupted
from anynet.train.state import History, NonFiniteError
from anynet.train.training import Training
from anynet.train.updates import NonFiniteGradientError, NonFiniteLossError

__all__ = [
    "CALLBACKS", "LOSSES", "OPTIMIZERS", "Callback", "CheckpointError", "EarlyStopping", "History", "Interrupted",
    "NonFiniteError", "NonFiniteGradientError", "NonFiniteLossError", "Objective", "RunFolder", "RunFolderError",
    "TimeLimit", "Training", "evaluate", "fine_tune", "fit", "layer_groups", "load", "on", "predict", "save", "unique_folder",
]  # fmt: skip

# imported when first asked for: a name here, and the same import for type checkers
_LATER: dict[str, str] = {
    "CSVLogger": "anynet.train.loggers:CSVLogger",
    "Checkpoint": "anynet.train.checkpoints:Checkpoint",
    "EMA": "anynet.train.averaging:EMA",
    "LRFind": "anynet.train.lr_finder:LRFind",
    "LayerStatistics": "anynet.train.statistics:LayerStatistics",
    "MLflow": "anynet.train.loggers:MLflow",
    "SWA": "anynet.train.averaging:SWA",
    "TensorBoard": "anynet.train.loggers:TensorBoard",
    "TextSamples": "anynet.train.samples:TextSamples",
    "WandB": "anynet.train.loggers:WandB",
    "lr_find": "anynet.train.lr_finder:lr_find",
}

if _TYPE_CHECKING:
    from anynet.train.averaging import EMA as EMA
    from anynet.train.averaging import SWA as SWA
    from anynet.train.checkpoints import Checkpoint as Checkpoint
    from anynet.train.loggers import CSVLogger as CSVLogger
    from anynet.train.loggers import MLflow as MLflow
    from anynet.train.loggers import TensorBoard as TensorBoard
    from anynet.train.loggers import WandB as WandB
    from anynet.train.lr_finder import LRFind as LRFind
    from anynet.train.lr_finder import lr_find as lr_find
    from anynet.train.samples import TextSamples as TextSamples
    from anynet.train.statistics import LayerStatistics as LayerStatistics
else:
    __getattr__, __dir__ = _lazily("anynet.train", _LATER)
