"""anynet: neural networks on any array that speaks the Python array API standard.

>>> import anynet as an
>>> x = an.asarray([1.0, 2.0, 3.0], requires_grad=True)
>>> an.sum(x**2).backward()
>>> x.grad
Tensor([2., 4., 6.])
"""

from math import e, inf, nan, pi

from anynet import dtypes
from anynet.autograd import engine as _engine  # installs Tensor.backward
from anynet.autograd.engine import GradientError
from anynet.autograd.primitive import DeviceError, use_kernels
from anynet.dtypes import (
    bool, complex64, complex128, float32, float64, int8, int16, int32, int64, uint8, uint16, uint32, uint64,
)  # fmt: skip
from anynet import losses, nn, optim, random
from anynet.ops.creation import *
from anynet.ops.elementwise import *
from anynet.ops.indexing import index_add, take, take_along_axis
from anynet.ops.linear import *
from anynet.ops.manipulation import *
from anynet.ops.reductions import *
from anynet.train.checkpoint import load, save
from anynet.tensor import Buffer, Parameter, Tensor, enable_grad, is_grad_enabled, no_grad
from anynet_backends import get_default_device, set_default_device

newaxis = None
__array_api_version__ = "2025.12"
