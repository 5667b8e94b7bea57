"""Special functions, differentiable, under SciPy's names; SciPy itself finds them here when handed a Tensor."""

from anynet.ops.special import *
from anynet.ops.special import __all__ as __all__
