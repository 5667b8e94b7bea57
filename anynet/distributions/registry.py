"""From all real numbers to the values that a constraint allows: for parameters that are found by optimisation."""

from __future__ import annotations

from typing import Any

from anynet.distributions import constraints as c
from anynet.distributions.constraints import Constraint
from anynet.distributions.transforms import (
    AffineTransform,
    ComposeTransform,
    ExpTransform,
    IndependentTransform,
    LowerCholeskyTransform,
    SigmoidTransform,
    SoftmaxTransform,
    StickBreakingTransform,
    Transform,
    identity_transform,
)

__all__ = ["biject_to", "transform_to"]


def biject_to(constraint: Constraint) -> Transform:
    """An invertible transform from all real numbers to a constraint.

    >>> import anynet as an
    >>> an.distributions.biject_to(an.distributions.constraints.positive)(0.0)
    Tensor(1.)
    """
    return _transform(constraint, StickBreakingTransform())


def transform_to(constraint: Constraint) -> Transform:
    """A transform from all real numbers to a constraint, not always invertible: to the simplex by the softmax."""
    return _transform(constraint, SoftmaxTransform())


def _transform(constraint: Constraint, to_simplex: Transform) -> Transform:
    if isinstance(constraint, c._Independent):
        inner = _transform(constraint.base_constraint, to_simplex)
        n = constraint.reinterpreted_batch_ndims
        return inner if inner is identity_transform else IndependentTransform(inner, n)
    if constraint is c.simplex:
        return to_simplex
    if constraint is c.lower_cholesky:
        return LowerCholeskyTransform()
    if isinstance(constraint, c._Interval) and not constraint.is_discrete:
        low, high = constraint.lower_bound, constraint.upper_bound
        return _to_interval(low, high)
    msg = f"no transform to values that are {constraint}"
    raise NotImplementedError(msg)


def _to_interval(low: Any, high: Any) -> Transform:
    if low is None and high is None:
        return identity_transform
    if high is None:
        return ExpTransform() if _is(low, 0) else ComposeTransform([ExpTransform(), AffineTransform(low, 1)])
    if low is None:
        return ComposeTransform([ExpTransform(), AffineTransform(high, -1)])
    if _is(low, 0) and _is(high, 1):
        return SigmoidTransform()
    return ComposeTransform([SigmoidTransform(), AffineTransform(low, high - low)])


def _is(bound: Any, value: float) -> bool:
    return isinstance(bound, (int, float)) and bound == value
