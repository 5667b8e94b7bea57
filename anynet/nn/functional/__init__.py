"""The layers as functions: `torch.nn.functional`'s names and arguments."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from anynet import _hints
from anynet.nn.functional import activations, attention, conv, extras, losses, misc, norm, pooling, sampling
from anynet.nn.functional.activations import *
from anynet.nn.functional.attention import *
from anynet.nn.functional.conv import *
from anynet.nn.functional.extras import *
from anynet.nn.functional.losses import *
from anynet.nn.functional.misc import *
from anynet.nn.functional.norm import *
from anynet.nn.functional.pooling import *
from anynet.nn.functional.sampling import *
from anynet.ops.linear import linear

__all__ = [
    "linear", *activations.__all__, *attention.__all__, *conv.__all__, *extras.__all__, *losses.__all__, *misc.__all__,
    *norm.__all__, *pooling.__all__, *sampling.__all__,
]  # fmt: skip

if not _TYPE_CHECKING:  # a type checker is to find a name that is not there

    def __getattr__(name: str) -> object:
        raise _hints.missing_attribute("anynet.nn.functional", name, globals())
