"""Explanations: the mathematics of a computation, a layer or a network, with its numbers and the checks that they are right.

`explain` (also ``anynet.explain``) takes a loss, an expression, a model, a layer, a function or an optimizer;
`exactness` says how many digits of a step are true.
"""

from anynet.explanations.explaining import explain
from anynet.explanations.explanation import Explanation
from anynet.explanations.formula import FormulaError
from anynet.explanations.recording import ExplanationError
from anynet.explanations.rounding import exactness

__all__ = ["Explanation", "ExplanationError", "FormulaError", "exactness", "explain"]
