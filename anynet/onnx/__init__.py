"""Networks from ONNX files (extra onnx): `load` makes a Module of one, which can be trained further.

Nothing in a file is run. The other direction: `anynet.export.onnx`.
"""

import os

# in the wheel the inside lies in an archive (hatch_build.py): who has not the extra needs it neither open nor compiled
__path__.append(os.path.join(__path__[0], "inside.zip"))

from anynet.onnx.files import ONNXError  # noqa: E402  after the path
from anynet.onnx.model import Model, load  # noqa: E402

__all__ = ["Model", "ONNXError", "load"]
