"""Learning-rate schedules, with PyTorch's names, arguments and numbers."""

from anynet.optim.lr_scheduler.composite import ChainedScheduler, SequentialLR
from anynet.optim.lr_scheduler.cosine import CosineAnnealingLR, CosineAnnealingWarmRestarts
from anynet.optim.lr_scheduler.cyclic import CyclicLR, OneCycleLR
from anynet.optim.lr_scheduler.multiplicative import (
    ExponentialLR,
    LambdaLR,
    MultiplicativeLR,
    MultiStepLR,
    StepLR,
)
from anynet.optim.lr_scheduler.plateau import ReduceLROnPlateau
from anynet.optim.lr_scheduler.ramps import ConstantLR, LinearLR, PolynomialLR
from anynet.optim.lr_scheduler.scheduler import LRScheduler

__all__ = [
    "ChainedScheduler", "ConstantLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts", "CyclicLR", "ExponentialLR",
    "LRScheduler", "LambdaLR", "LinearLR", "MultiStepLR", "MultiplicativeLR", "OneCycleLR", "PolynomialLR",
    "ReduceLROnPlateau", "SequentialLR", "StepLR",
]  # fmt: skip
