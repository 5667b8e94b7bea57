"""The equation of each layer, loss, function and optimizer, in one form that is read, shown and evaluated.

An equation stands beside the class or function that computes it, as text that a textbook would print:

>>> import anynet as an
>>> @an.equations.equation(
...     "y[..., k] = sum[j](W[k, j] * x[..., j]) + b[k]",
...     where="x[..., J] = input; W[K, J] = weight; b[K] = bias or 0",
...     gradient="dx[..., j] = sum[k](dy[..., k] * W[k, j]); dW[k, j] = sum[...](dy[..., k] * x[..., j])",
... )
... def affine(input, weight, bias=None):
...     return an.nn.functional.linear(input, weight, bias)
>>> equation = an.equations.of(affine)
>>> print(equation.text())
yₖ = Σ_j W[k, j] xⱼ + bₖ
>>> values = equation.bind(affine, an.asarray([1.0, 2.0]), an.asarray([[3.0, 4.0]]))
>>> equation.result_of(equation.evaluate(values)).tolist()
[11.0]

**The language** is Python's syntax of expressions, one line for each symbol that is defined:

    y = x * tanh(log(1 + exp(x)))               numbers and arrays, element by element; + - * / // % **, abs(x), sqrt(x), …
    y = x @ W.T + b                             products of matrices and vectors, transposes
    y[n, k] = sum[j](x[n, j] * W[k, j])         indices by name: what is defined for each n and k; the sum over j
    y[i] = exp(x[i]) / sum[j](exp(x[j]))        sum, prod, mean, var, max, min, argmax, norm, logsumexp, softmax, sort, any, all
    s = sum[i: k, j, i != j](a[i, j])           i from 0 below k; j by the size of an array; where a condition holds
    y[t: L] = x[t + k - p]                      t from 0 below L; an index outside of an array reads 0
    y = x if x > 0 else α * (exp(x) - 1)        cases; names of options too: ``… if approximate == "tanh" else …``
    l[n] = [y[n] == c]                          1 where the condition holds, else 0 (Iverson's bracket)
    h[-1] = h0                                  a start, and a recurrence over time (down where it reads h[t + 1])
    h[t] = tanh(W @ x[t] + U @ h[t - 1] + b)
    m ~ Bernoulli(1 - p)                        drawn at random; to evaluate, the value is given
    y[..., k] = …                               whatever axes come before

The indices run from 0. `where` gives each symbol its axes, where its value is found, and its meaning, ``symbol[axes] = source: meaning``:
the source is an argument of the call, or an attribute of the layer or an option of the optimizer, as ``weight``, ``linear.weight`` or
``betas[0]``; ``bias or 0`` where it may be None, ``input along dim`` with that axis moved to the end, ``input over normalized_shape``
with as many last axes flattened to one; ``mask of booleans or 1`` only where it is such an array (or of integers, of floats);
``T*`` as the last axis stands for all that remain, and ``N?`` may be absent, or have one element that stands for all;
``x swap batch_first`` exchanges the first two axes where that option is set;
``padding.before`` are the first numbers of the pairs of a padding. Names of axes are numbers in the lines.
`spatial` names what has a number for each spatial axis (an array for it has them along its last axis, x first): ``x[n, c, s*t + i]`` is
read as ``x[n, c, s1*t1 + i1, s2*t2 + i2]`` for an image.

**Its uses**: `of` finds an object's `Equation`, with ``text()``, ``latex()``, ``mathml()``, ``where()``, ``bind(layer, *inputs)``,
``evaluate(values)`` and ``evaluate_gradient(values)``; `read` makes one out of text. `tests/equations` evaluates all of them against
the code, and its `WITHOUT` is complete: a public layer has an equation or a reason there. Docstrings of classes
show them when they are read; ``make equations`` writes them into those of functions.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from anynet.equations.registry import REDUCED as REDUCED
from anynet.equations.registry import REDUCED_GRADIENT as REDUCED_GRADIENT
from anynet.equations.registry import equation as equation

if TYPE_CHECKING:
    from anynet.equations.language import EquationError as EquationError
    from anynet.equations.reading import Equation as Equation
    from anynet.equations.reading import NoEquationError as NoEquationError
    from anynet.equations.reading import of as of
    from anynet.equations.reading import read as read
else:
    from anynet._lazy import lazily

    __getattr__, __dir__ = lazily(
        __name__,
        {
            "Equation": "anynet.equations.reading:Equation",
            "EquationError": "anynet.equations.language:EquationError",
            "NoEquationError": "anynet.equations.reading:NoEquationError",
            "of": "anynet.equations.reading:of",
            "read": "anynet.equations.reading:read",
        },
    )

# in the wheel what evaluates and writes equations lies in an archive (hatch_build.py)
__path__.append(os.path.join(__path__[0], "inside.zip"))

__all__ = ["Equation", "EquationError", "NoEquationError", "equation", "of", "read"]
