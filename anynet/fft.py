"""The standard's fft extension."""

from anynet.ops.fft import *
from anynet.ops.fft import __all__ as __all__
