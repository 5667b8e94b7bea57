"""Automatic differentiation. What is public here is in the namespace `anynet`, too.

graph, rules          what is recorded, and the gradient rules that run on it
primitive, dispatch   defining a differentiable function of arrays, and calling it
backward              the walk from a result back to the variables
transforms, vmap, checkpoint, custom_vjp
jit                   tracing and compiling what runs again and again
debug                 anomaly mode, the profiler, gradients against finite differences
"""

from anynet.autograd.checkpoint import checkpoint as checkpoint
from anynet.autograd.custom_vjp import custom_vjp as custom_vjp
from anynet.autograd.debug.anomaly import AnomalyError as AnomalyError
from anynet.autograd.debug.anomaly import anomaly as anomaly
from anynet.autograd.debug.gradcheck import GradcheckError as GradcheckError
from anynet.autograd.debug.gradcheck import gradcheck as gradcheck
from anynet.autograd.debug.gradcheck import gradgradcheck as gradgradcheck
from anynet.autograd.debug.profiler import profile as profile
from anynet.autograd.dispatch import DeviceError as DeviceError
from anynet.autograd.graph import GradientError as GradientError
from anynet.autograd.jit.compile import Compiled as Compiled
from anynet.autograd.jit.compile import CompileError as CompileError
from anynet.autograd.jit.compile import compile as compile
from anynet.autograd.primitive import use_kernels as use_kernels
from anynet.autograd.transforms import grad as grad
from anynet.autograd.transforms import hessian as hessian
from anynet.autograd.transforms import jacfwd as jacfwd
from anynet.autograd.transforms import jacrev as jacrev
from anynet.autograd.transforms import jvp as jvp
from anynet.autograd.transforms import value_and_grad as value_and_grad
from anynet.autograd.transforms import vjp as vjp
from anynet.autograd.vmap import VmapError as VmapError
from anynet.autograd.vmap import vmap as vmap
