"""The layers as functions: `torch.nn.functional`'s names and arguments."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from anynet import _hints
from anynet.nn.functional import (
    activations,
    attention,
    conv,
    distance,
    dropouts,
    embeddings,
    linear_maps,
    losses,
    norm,
    pooling,
    vision,
)
from anynet.nn.functional.activations import *
from anynet.nn.functional.attention import *
from anynet.nn.functional.conv import *
from anynet.nn.functional.distance import *
from anynet.nn.functional.dropouts import *
from anynet.nn.functional.embeddings import *
from anynet.nn.functional.linear_maps import *
from anynet.nn.functional.losses import *
from anynet.nn.functional.norm import *
from anynet.nn.functional.pooling import *
from anynet.nn.functional.vision import *

__all__ = [
    *activations.__all__, *attention.__all__, *conv.__all__, *distance.__all__, *dropouts.__all__, *embeddings.__all__,
    *linear_maps.__all__, *losses.__all__, *norm.__all__, *pooling.__all__, *vision.__all__,
]  # fmt: skip

if not _TYPE_CHECKING:  # a type checker is to find a name that is not there

    def __getattr__(name: str) -> object:
        raise _hints.missing_attribute("anynet.nn.functional", name, globals())
