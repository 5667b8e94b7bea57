"""Optimizers, schedules and clipping: PyTorch's names, arguments, defaults and numbers."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from anynet import _hints
from anynet.nn.utils.clip_grad import clip_grad_norm_, clip_grad_value_
from anynet.optim import lr_scheduler as lr_scheduler
from anynet.optim import planned_update as _planned_update  # noqa: F401 - says how an optimizer's step is captured
from anynet.optim import swa_utils as swa_utils
from anynet.optim.adagrad import Adadelta, Adafactor, Adagrad, RMSprop
from anynet.optim.adam import LAMB, AdaBound, Adam, Adamax, AdamW, NAdam, RAdam
from anynet.optim.gradient_accumulation import MultiSteps
from anynet.optim.lbfgs import LBFGS
from anynet.optim.lion import Lion
from anynet.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    CosineAnnealingWarmRestarts,
    CyclicLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiplicativeLR,
    MultiStepLR,
    OneCycleLR,
    PolynomialLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)
from anynet.optim.muon import Muon
from anynet.optim.optimizer import Optimizer
from anynet.optim.sam import SAM
from anynet.optim.schedule_free import ScheduleFreeAdamW
from anynet.optim.sgd import ASGD, LARS, SGD, Rprop
from anynet.optim.sparse_adam import SparseAdam
from anynet.optim.zero import ZeroRedundancyOptimizer

__all__ = [
    "ASGD", "LAMB", "LARS", "LBFGS", "SAM", "SGD", "AdaBound", "Adadelta", "Adafactor", "Adagrad", "Adam", "AdamW",
    "Adamax", "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR",
    "ExponentialLR", "LRScheduler", "LambdaLR", "LinearLR", "Lion", "MultiStepLR", "MultiSteps", "MultiplicativeLR",
    "Muon", "NAdam", "OneCycleLR", "Optimizer", "PolynomialLR", "RAdam", "RMSprop", "ReduceLROnPlateau", "Rprop",
    "ScheduleFreeAdamW", "SequentialLR", "SparseAdam", "StepLR", "ZeroRedundancyOptimizer", "clip_grad_norm_", "clip_grad_value_",
]  # fmt: skip

if not _TYPE_CHECKING:  # a type checker is to find a name that is not there

    def __getattr__(name: str) -> object:
        raise _hints.missing_attribute("anynet.optim", name, globals())
