"""anynet: neural networks on any array that speaks the Python array API standard.

>>> import anynet as an
>>> x = an.asarray([1.0, 2.0, 3.0], requires_grad=True)
>>> an.sum(x**2).backward()
>>> x.grad
Tensor([2., 4., 6.])
"""

from math import e as e
from math import inf as inf
from math import nan as nan
from math import pi as pi
from typing import TYPE_CHECKING

from anynet import _hints
from anynet import dtypes as dtypes
from anynet import equations as equations
from anynet import fft as fft
from anynet import linalg as linalg
from anynet import losses as losses
from anynet import nn as nn
from anynet import random as random
from anynet import special as special
from anynet import utils as utils
from anynet._lazy import lazily as _lazily
from anynet._version import __version__ as __version__
from anynet.autograd.checkpoint import *
from anynet.autograd.custom_vjp import *
from anynet.autograd.debug.anomaly import *
from anynet.autograd.debug.gradcheck import *
from anynet.autograd.debug.profiler import profile as profile
from anynet.autograd.dispatch import DeviceError as DeviceError
from anynet.autograd.graph import GradientError as GradientError
from anynet.autograd.jit.compile import Compiled as Compiled
from anynet.autograd.jit.compile import CompileError as CompileError
from anynet.autograd.jit.compile import compile as compile
from anynet.autograd.primitive import use_kernels as use_kernels
from anynet.autograd.transforms import *
from anynet.autograd.vmap import *
from anynet.dtypes import bool as bool
from anynet.dtypes import complex64 as complex64
from anynet.dtypes import complex128 as complex128
from anynet.dtypes import float32 as float32
from anynet.dtypes import float64 as float64
from anynet.dtypes import int8 as int8
from anynet.dtypes import int16 as int16
from anynet.dtypes import int32 as int32
from anynet.dtypes import int64 as int64
from anynet.dtypes import uint8 as uint8
from anynet.dtypes import uint16 as uint16
from anynet.dtypes import uint32 as uint32
from anynet.dtypes import uint64 as uint64
from anynet.ops.creation import *
from anynet.ops.data_types import *
from anynet.ops.einsum import einsum as einsum
from anynet.ops.elementwise import *
from anynet.ops.indexing import index_add as index_add
from anynet.ops.indexing import repeat as repeat
from anynet.ops.indexing import take as take
from anynet.ops.indexing import take_along_axis as take_along_axis
from anynet.ops.linear import *
from anynet.ops.manipulation import *
from anynet.ops.precision import precision as precision
from anynet.ops.reductions import *
from anynet.ops.searching import *
from anynet.ops.selection import *
from anynet.ops.shapes import broadcast_shapes as broadcast_shapes
from anynet.sparse_rows import SparseRows as SparseRows
from anynet.tensor import Buffer as Buffer
from anynet.tensor import GradientWarning as GradientWarning
from anynet.tensor import Parameter as Parameter
from anynet.tensor import Tensor as Tensor
from anynet.tensor import enable_grad as enable_grad
from anynet.tensor import is_grad_enabled as is_grad_enabled
from anynet.tensor import no_grad as no_grad
from anynet_backends import get_default_device as get_default_device
from anynet_backends import set_default_device as set_default_device

newaxis = None
__array_api_version__ = "2025.12"

_hints.explain_calls(globals())
_hints.explain_attributes(Tensor, globals())
_hints.explain_absent(nn.Module, _hints.MODULES)

# what is around the engine is imported when it is first asked for: a name here, and the same import for type checkers
_LATER: dict[str, str] = {
    "cuda": "anynet.cuda",
    "data": "anynet.data",
    "distributed": "anynet.distributed",
    "distributions": "anynet.distributions",
    "exactness": "anynet.explanations:exactness",
    "evaluate": "anynet.train:evaluate",
    "explain": "anynet.explanations:explain",
    "explanations": "anynet.explanations",
    "export": "anynet.export",
    "fine_tune": "anynet.train:fine_tune",
    "fit": "anynet.train:fit",
    "generate": "anynet.generation:generate",
    "hub": "anynet.hub",
    "load": "anynet.train:load",
    "lr_find": "anynet.train.lr_finder:lr_find",
    "methods": "anynet.methods",
    "metrics": "anynet.metrics",
    "models": "anynet.models",
    "onnx": "anynet.onnx",
    "open": "anynet.runs:open",
    "optim": "anynet.optim",
    "plan": "anynet.planning:plan",
    "predict": "anynet.train:predict",
    "replay": "anynet.runs:replay",
    "report": "anynet.runs:report",
    "resume": "anynet.runs:resume",
    "runs": "anynet.runs",
    "save": "anynet.train:save",
    "sklearn": "anynet.sklearn",
    "torch": "anynet.torch",
    "train": "anynet.train",
    "train_on": "anynet.runs:train_on",
    "viz": "anynet.viz",
}

if TYPE_CHECKING:
    from anynet import cuda as cuda
    from anynet import data as data
    from anynet import distributed as distributed
    from anynet import distributions as distributions
    from anynet import explanations as explanations
    from anynet import export as export
    from anynet import hub as hub
    from anynet import methods as methods
    from anynet import metrics as metrics
    from anynet import models as models
    from anynet import onnx as onnx
    from anynet import optim as optim
    from anynet import runs as runs
    from anynet import sklearn as sklearn
    from anynet import torch as torch
    from anynet import train as train
    from anynet import viz as viz
    from anynet.explanations import exactness as exactness
    from anynet.explanations import explain as explain
    from anynet.generation import generate as generate
    from anynet.planning import plan as plan
    from anynet.runs import open as open
    from anynet.runs import replay as replay
    from anynet.runs import report as report
    from anynet.runs import resume as resume
    from anynet.runs import train_on as train_on
    from anynet.train import evaluate as evaluate
    from anynet.train import fine_tune as fine_tune
    from anynet.train import fit as fit
    from anynet.train import load as load
    from anynet.train import lr_find as lr_find
    from anynet.train import predict as predict
    from anynet.train import save as save
else:  # a type checker is to find a name that is not there
    _later, __dir__ = _lazily("anynet", _LATER)

    def __getattr__(name: str) -> object:
        if name in _LATER:
            found = _later(name)
            if _LATER[name].startswith("anynet.train:"):
                found = _hints.explain_calls({name: found})[name]
                globals()[name] = found
            return found
        raise _hints.missing_attribute("anynet", name, globals() | _LATER)

    # of `from anynet import *`: what is here, and what trains; the others are large, or hide what is built in (open)
    __all__ = [name for name in globals() if not name.startswith("_") and name != "TYPE_CHECKING"]
    __all__ += [
        n for n, m in _LATER.items() if m.split(":")[0] in ("anynet.data", "anynet.optim", "anynet.train")
    ]


del TYPE_CHECKING
