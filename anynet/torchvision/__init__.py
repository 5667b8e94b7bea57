"""torchvision's names for scripts that are written for it, as `anynet.torch` has PyTorch's: ``import anynet.torchvision as torchvision``.

Pictures are Pillow's where the extra `images` is installed, else arrays of bytes (height, width, channels); `transforms` takes both, and
tensors. `datasets` are read by `anynet.data.load`, networks come from `anynet.models`. `ops` has boxes, regions and blocks of
layers. Videos and networks that detect are not here.
"""

import os

# in the wheel all of it lies in an archive (hatch_build.py)
__path__.append(os.path.join(__path__[0], "inside.zip"))

from anynet.torchvision import datasets as datasets  # noqa: E402 - from the archive
from anynet.torchvision import models as models  # noqa: E402 - from the archive
from anynet.torchvision import ops as ops  # noqa: E402 - from the archive
from anynet.torchvision import transforms as transforms  # noqa: E402 - from the archive
from anynet.torchvision import utils as utils  # noqa: E402 - from the archive

__version__ = "0.28.0+anynet"


def _is_tracing() -> bool:
    """Whether PyTorch writes down what runs: never."""
    return False
