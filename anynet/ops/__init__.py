"""The functions of arrays: the standard's, and the primitives of neural networks.

Each module holds one family; each function stands beside its gradient rule.
"""

from anynet.ops import operators as operators  # gives Tensor its operators, which the rules of gradients use
