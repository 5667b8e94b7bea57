"""Layers, losses and containers: PyTorch's names, arguments, defaults and parameter layouts."""

from anynet.nn import functional, init
from anynet.nn.basic import *
from anynet.nn.containers import ModuleDict, ModuleList, Sequential
from anynet.nn.loss import *
from anynet.nn.module import Module, ShapeError, StateError
from anynet.tensor import Buffer, Parameter
