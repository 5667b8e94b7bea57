"""Optimizers, schedules and clipping: PyTorch's names, arguments, defaults and numbers."""

from anynet.optim.clip import clip_grad_norm_, clip_grad_value_
from anynet.optim.methods import SGD, Adagrad, Adam, AdamW, RMSprop
from anynet.optim.optimizer import Optimizer
from anynet.optim.schedules import (
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    MultiStepLR,
    OneCycleLR,
    ReduceLROnPlateau,
    SequentialLR,
    StepLR,
)  # fmt: skip

__all__ = [
    "SGD", "Adagrad", "Adam", "AdamW", "ConstantLR", "CosineAnnealingLR", "ExponentialLR", "LRScheduler", "LambdaLR",
    "LinearLR", "MultiStepLR", "OneCycleLR", "Optimizer", "RMSprop", "ReduceLROnPlateau", "SequentialLR", "StepLR",
    "clip_grad_norm_", "clip_grad_value_",
]  # fmt: skip
