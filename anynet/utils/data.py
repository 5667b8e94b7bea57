"""`anynet.data` under the path that PyTorch has for it."""

from anynet.data import *
from anynet.data import __all__ as __all__
