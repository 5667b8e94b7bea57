"""Just-in-time compilation, one idea at three sizes: what runs again and again on arrays of the same forms is traced once,
with its gradient, and from then on run as machine code while its guards hold.

    specialize   one operation
    on_device    one operation on a GPU, as few kernels
    fused        a function of Tensors as one node of the graph: the layers of a `Sequential`
    compile      a whole training step
    guards       what of Python's world must be unchanged for a compiled step to be valid
"""

import os

# in the wheel what serves CUDA alone lies in an archive (hatch_build.py)
__path__.append(os.path.join(__path__[0], "inside.zip"))
