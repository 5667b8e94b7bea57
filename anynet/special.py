"""Special functions, differentiable, under SciPy's names; SciPy itself finds them here when handed a Tensor."""

from anynet.ops.incomplete import *
from anynet.ops.incomplete import __all__ as _incomplete
from anynet.ops.special import *
from anynet.ops.special import __all__ as _special

__all__ = [*_special, *_incomplete]
