"""Explanations: the mathematics of a computation, a layer or a network, with its numbers and the checks that they are right.

`explain` (also ``anynet.explain``) takes a loss, an expression, a model, a layer, a function or an optimizer;
`exactness` says how many digits of a step are true.
"""

import os

# in the wheel most of these modules lie in an archive (hatch_build.py): explaining takes longer than compiling them
__path__.append(os.path.join(__path__[0], "inside.zip"))

from anynet.explanations.explaining import explain  # noqa: E402  after the path
from anynet.explanations.explanation import Explanation  # noqa: E402
from anynet.explanations.formula import FormulaError  # noqa: E402
from anynet.explanations.recording import ExplanationError  # noqa: E402
from anynet.explanations.rounding import exactness  # noqa: E402

__all__ = ["Explanation", "ExplanationError", "FormulaError", "exactness", "explain"]
