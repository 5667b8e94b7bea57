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
from typing import TYPE_CHECKING as _TYPE_CHECKING

from anynet import _hints
from anynet import data as data
from anynet import dtypes as dtypes
from anynet import fft as fft
from anynet import linalg as linalg
from anynet import losses as losses
from anynet import nn as nn
from anynet import optim as optim
from anynet import random as random
from anynet import special as special
from anynet import train as train
from anynet import utils as utils
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
from anynet.ops.elementwise import *
from anynet.ops.indexing import index_add as index_add
from anynet.ops.indexing import repeat as repeat
from anynet.ops.indexing import take as take
from anynet.ops.indexing import take_along_axis as take_along_axis
from anynet.ops.linear import *
from anynet.ops.manipulation import *
from anynet.ops.reductions import *
from anynet.ops.searching import *
from anynet.ops.shapes import broadcast_shapes as broadcast_shapes
from anynet.tensor import Buffer as Buffer
from anynet.tensor import GradientWarning as GradientWarning
from anynet.tensor import Parameter as Parameter
from anynet.tensor import Tensor as Tensor
from anynet.tensor import enable_grad as enable_grad
from anynet.tensor import is_grad_enabled as is_grad_enabled
from anynet.tensor import no_grad as no_grad
from anynet.train import evaluate as evaluate
from anynet.train import fit as fit
from anynet.train import load as load
from anynet.train import predict as predict
from anynet.train import save as save
from anynet_backends import get_default_device as get_default_device
from anynet_backends import set_default_device as set_default_device

newaxis = None
__array_api_version__ = "2025.12"

_hints.explain_calls(globals())
_hints.explain_attributes(Tensor, globals())

if not _TYPE_CHECKING:  # a type checker is to find a name that is not there

    def __getattr__(name: str) -> object:
        raise _hints.missing_attribute("anynet", name, globals())
