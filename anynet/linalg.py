"""The standard's linalg extension."""

from anynet.ops.linalg import *
from anynet.ops.linalg import __all__ as __all__
