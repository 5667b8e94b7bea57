"""Parameters as one vector, and back."""

from __future__ import annotations

import math
from collections.abc import Iterable

from anynet.ops.manipulation import concat, reshape
from anynet.tensor import Tensor, no_grad
from anynet.typing import ArrayLike

__all__ = ["parameters_to_vector", "vector_to_parameters"]


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """All parameters, one after the other, as one vector; gradients flow through it.

    >>> import anynet as an
    >>> an.nn.utils.parameters_to_vector(an.nn.Linear(3, 2).parameters()).shape
    (8,)
    """
    found = [reshape(p, (-1,)) for p in parameters]
    if not found:
        msg = "parameters_to_vector: no parameters were given"
        raise ValueError(msg)
    return concat(found, axis=0)


def vector_to_parameters(vec: ArrayLike, parameters: Iterable[Tensor]) -> None:
    """Write the parts of a vector into the parameters, in place. Nothing is written where the sizes do not fit.

    >>> import anynet as an
    >>> layer = an.nn.Linear(1, 1)
    >>> an.nn.utils.vector_to_parameters(an.asarray([2.0, 3.0]), layer.parameters())
    >>> layer.weight.item(), layer.bias.item()
    (2.0, 3.0)
    """
    found = list(parameters)
    sizes = [math.prod(p.shape) for p in found]
    if tuple(vec.shape) != (sum(sizes),):
        msg = f"vector_to_parameters: got a vector of shape {tuple(vec.shape)}, expected ({sum(sizes)},)"
        raise ValueError(msg)
    begin = 0
    with no_grad():
        for p, n in zip(found, sizes, strict=True):
            p.assign_(reshape(vec[begin : begin + n], p.shape))
            begin += n
