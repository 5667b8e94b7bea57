"""Layers, losses and containers: PyTorch's names, arguments, defaults and parameter layouts."""

from anynet.nn import functional, init
from anynet.nn.basic import *
from anynet.nn.containers import ModuleDict, ModuleList, ParameterDict, ParameterList, Sequential
from anynet.nn.conv import *
from anynet.nn.loss import *
from anynet.nn.norm import *
from anynet.nn.pooling import *
from anynet.nn.module import Module, ShapeError, StateError
from anynet.tensor import Buffer, Parameter
