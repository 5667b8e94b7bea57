"""`torch.nn.utils`: clipping, parameters as a vector, fusing layers."""

from anynet.nn.module import functional_call as functional_call
from anynet.nn.utils import (
    clip_grad,
    convert_parameters,
    fusion,
    gradients,
    hooked,
    parametrizations,
    parametrize,
    rnn,
    skipping,
)
from anynet.nn.utils.clip_grad import *
from anynet.nn.utils.convert_parameters import *
from anynet.nn.utils.fusion import *
from anynet.nn.utils.gradients import *
from anynet.nn.utils.hooked import *
from anynet.nn.utils.skipping import *

__all__ = [
    "functional_call", "parametrizations", "parametrize", "rnn", *clip_grad.__all__, *convert_parameters.__all__, *fusion.__all__,
    *gradients.__all__, *hooked.__all__, *skipping.__all__,
]  # fmt: skip
