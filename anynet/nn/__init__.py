"""Layers, losses and containers: PyTorch's names, arguments, defaults and parameter layouts."""

from typing import TYPE_CHECKING as _TYPE_CHECKING

from anynet import _hints
from anynet._lazy import lazily as _lazily
from anynet.nn import functional as functional
from anynet.nn import init as init
from anynet.nn import utils as utils
from anynet.nn.activations import *
from anynet.nn.adaptive_softmax import *
from anynet.nn.attention import *
from anynet.nn.attention.group_query import *
from anynet.nn.attention.positions import *
from anynet.nn.containers import *
from anynet.nn.conv import *
from anynet.nn.conv_lstm import *
from anynet.nn.crf import *
from anynet.nn.dropout import *
from anynet.nn.embedding import *
from anynet.nn.errors import ShapeError as ShapeError
from anynet.nn.errors import StateError as StateError
from anynet.nn.graph import *
from anynet.nn.lazy import *
from anynet.nn.linear import *
from anynet.nn.losses import *
from anynet.nn.module import Module as Module
from anynet.nn.norm import *
from anynet.nn.padding import *
from anynet.nn.pooling import *
from anynet.nn.resampling import *
from anynet.nn.rnn import *
from anynet.nn.sampled_softmax import *
from anynet.nn.shape import *
from anynet.nn.transformer import *
from anynet.nn.tree_lstm import *
from anynet.nn.utils.stateless import functional_call as functional_call
from anynet.tensor import Buffer as Buffer
from anynet.tensor import Parameter as Parameter

if _TYPE_CHECKING:
    from anynet.nn import parallel as parallel
else:  # a type checker is to find a name that is not there
    _later, _ = _lazily(
        "anynet.nn", {"parallel": "anynet.nn.parallel"}
    )  # start-up time: few programs ask for it

    def __getattr__(name: str) -> object:
        if name == "parallel":
            return _later(name)
        raise _hints.missing_attribute("anynet.nn", name, globals())
