"""`torch.nn.utils`: clipping, parameters as a vector, fusing layers."""

from anynet.nn.utils import (
    clip_grad,
    convert_parameters,
    fusion,
    gradients,
    parametrizations,
    parametrize,
    rnn,
)
from anynet.nn.utils.clip_grad import *
from anynet.nn.utils.convert_parameters import *
from anynet.nn.utils.fusion import *
from anynet.nn.utils.gradients import *
from anynet.nn.utils.skip_init import skip_init
from anynet.nn.utils.stateless import functional_call as functional_call
from anynet.nn.utils.weight_norm import remove_spectral_norm, remove_weight_norm, spectral_norm, weight_norm

__all__ = [
    "functional_call", "parametrizations", "parametrize", "rnn", *clip_grad.__all__, *convert_parameters.__all__, *fusion.__all__,
    *gradients.__all__, "remove_spectral_norm", "remove_weight_norm", "skip_init", "spectral_norm", "weight_norm",
]  # fmt: skip
